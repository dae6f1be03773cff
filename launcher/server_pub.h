/* SPDX-License-Identifier: BSD-3-Clause */
/* server_pub.h - PMIx publish, lookup and unpublish: a bounded table of keys inside the server. */
#ifndef MCRUN_SERVER_PUB_H
#define MCRUN_SERVER_PUB_H

#include <pmix_server.h>

struct mc_pub;

struct mc_pub *mc_pub_create(void);
/* What the PMIx callbacks of these names do; data_out is for PMIX_PDATA_FREE by the caller. */
pmix_status_t mc_pub_publish(struct mc_pub *pub, const pmix_proc_t *from, const pmix_info_t *info, size_t info_n);
pmix_status_t mc_pub_lookup(struct mc_pub *pub, char **keys, pmix_pdata_t **data_out, size_t *n_out);
pmix_status_t mc_pub_unpublish(struct mc_pub *pub, const pmix_proc_t *from, char **keys);

#endif

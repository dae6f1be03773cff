/* SPDX-License-Identifier: BSD-3-Clause */
/* server_net.h - the PMIx server's calls that need other hosts: kept until the answer comes, whoever gives it. */
#ifndef MCRUN_SERVER_NET_H
#define MCRUN_SERVER_NET_H

#include "server.h"

#include <pmix_server.h>

struct mc_net;

/* post: hands an event to the agent's loop; called from libpmix's thread. */
struct mc_net *mc_net_create(const char *nspace, const struct mc_hosts *hosts, uint32_t self,
			     void (*post)(const struct mc_server_event *ev));
/* What the PMIx callbacks of these names do. False from fence: all who take part are here. */
bool mc_net_fence(struct mc_net *n, const pmix_proc_t *procs, size_t procs_n, const pmix_info_t *info, size_t info_n,
		  const char *data, size_t len, pmix_modex_cbfunc_t done, void *arg);
pmix_status_t mc_net_modex(struct mc_net *n, const pmix_proc_t *proc, const pmix_info_t *info, size_t info_n,
			   pmix_modex_cbfunc_t done, void *arg);
pmix_status_t mc_net_publish(struct mc_net *n, const pmix_proc_t *from, const pmix_info_t *info, size_t info_n,
			     pmix_op_cbfunc_t done, void *arg);
pmix_status_t mc_net_lookup(struct mc_net *n, char **keys, pmix_lookup_cbfunc_t done, void *arg);
pmix_status_t mc_net_unpublish(struct mc_net *n, const pmix_proc_t *from, char **keys, pmix_op_cbfunc_t done,
			       void *arg);
/* What server.h declares. */
void mc_net_modex_done(struct mc_net *n, uint64_t id, int status, const uint8_t *data, size_t len, bool fence);
void mc_net_op_done(struct mc_net *n, uint64_t id, int status);
void mc_net_found(struct mc_net *n, uint64_t id, int status, const uint8_t *data, size_t len);
void mc_net_modex_ask(struct mc_net *n, uint64_t id, uint32_t rank);
void mc_net_expire(struct mc_net *n, int64_t now_ns);

#endif

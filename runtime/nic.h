/* SPDX-License-Identifier: BSD-3-Clause */
/* nic.h - which NICs this rank uses, and what peers say of theirs. */
#ifndef MC_NIC_H
#define MC_NIC_H

#include "internal.h"

/* System's number of the NUMA node that this process is bound to; -1: several, or there is only one. */
int32_t mc_nic_home(void);
mc_status_t mc_nics_choose(struct mc_ctx *ctx); /* once; MC_ERR_CONFIG: MC_DEVICE, MC_NEAR (logged) */
void mc_nics_free(struct mc_ctx *ctx);
void mc_nics_write(const struct mc_ctx *ctx, struct mc_wr *w); /* those in use, for the record */
void mc_nics_read(struct mc_peer *p, struct mc_rd *r);
void mc_nics_compare(const struct mc_peer *p, char *out, size_t room); /* ours and the peer's, for people */

#endif

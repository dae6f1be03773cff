/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_alltoall_direct.c - alltoall, everything at once: each rank writes its blocks to all others, the nearest first.
 */
#include "coll.h"
#include "coll_pattern.h"

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	for (uint32_t i = 1; i < c->n; i++) {
		uint32_t r = mc_pat_sub(c->self, i, c->n);
		struct mc_place p = mc_place_at(a->dst, a->v ? a->doff[r] : r * a->len);
		mc_step_recv(c, r, 0, MC_WAY_PUT, p, a->v ? a->dlen[r] : a->len, MC_NO_STEP);
	}
	for (uint32_t i = 1; i < c->n; i++) {
		uint32_t r = mc_pat_add(c->self, i, c->n);
		struct mc_place p = mc_place_at(a->src, a->v ? a->soff[r] : r * a->len);
		mc_step_send(c, r, 0, MC_WAY_PUT, p, a->v ? a->slen[r] : a->len, MC_NO_STEP);
	}
	mc_step_copy(c, mc_place_at(a->dst, a->v ? a->doff[c->self] : c->self * a->len),
		     mc_place_at(a->src, a->v ? a->soff[c->self] : c->self * a->len), a->v ? a->slen[c->self] : a->len,
		     MC_NO_STEP);
}

const struct mc_algo mc_algo_alltoall_direct = {
	.name = "direct", .op = MC_COLL_ALLTOALL, .build = build, .agrees = true, .v = true};

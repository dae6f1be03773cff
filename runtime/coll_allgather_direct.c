/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_allgather_direct.c - allgather with one hop: everyone reads everyone's block. Best on one host, where the bytes
 * are then copied once, and for short blocks in small groups.
 */
#include "coll.h"
#include "coll_pattern.h"

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	struct mc_place own = mc_place_at(a->src, 0);
	for (uint32_t i = 1; i < c->n; i++)
		mc_step_send(c, mc_pat_add(c->self, i, c->n), 0, MC_WAY_GET, own, a->len, MC_NO_STEP);
	for (uint32_t i = 1; i < c->n; i++) {
		uint32_t r = mc_pat_sub(c->self, i, c->n);
		struct mc_place p = mc_place_at(a->dst, a->v ? a->doff[r] : r * a->len);
		mc_step_recv(c, r, 0, MC_WAY_GET, p, a->v ? a->dlen[r] : a->len, MC_NO_STEP);
	}
	mc_step_copy(c, mc_place_at(a->dst, a->v ? a->doff[c->self] : c->self * a->len), own, a->len, MC_NO_STEP);
}

const struct mc_algo mc_algo_allgather_direct = {
	.name = "direct", .op = MC_COLL_ALLGATHER, .build = build, .agrees = true, .v = true};

/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_gather_direct.c - gather with one hop: each rank writes its block into the root's memory. */
#include "coll.h"
#include "coll_pattern.h"

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	struct mc_place from = mc_place_at(a->src, 0);
	if (c->self != c->root) {
		mc_step_send(c, c->root, 0, MC_WAY_PUT, from, a->len, MC_NO_STEP);
		return;
	}
	for (uint32_t i = 1; i < c->n; i++) {
		uint32_t r = mc_pat_abs(i, c->root, c->n);
		struct mc_place p = mc_place_at(a->dst, a->v ? a->doff[r] : r * a->len);
		mc_step_recv(c, r, 0, MC_WAY_PUT, p, a->v ? a->dlen[r] : a->len, MC_NO_STEP);
	}
	struct mc_place own = mc_place_at(a->dst, a->v ? a->doff[c->self] : c->self * a->len);
	mc_step_copy(c, own, from, a->len, MC_NO_STEP);
}

const struct mc_algo mc_algo_gather_direct = {.name = "direct", .op = MC_COLL_GATHER, .build = build, .v = true};

/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_scatter_direct.c - scatter with one hop: each rank reads its block from the root. */
#include "coll.h"
#include "coll_pattern.h"

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	struct mc_place to = mc_place_at(a->dst, 0);
	if (c->self != c->root) {
		mc_step_recv(c, c->root, 0, MC_WAY_GET, to, a->len, MC_NO_STEP);
		return;
	}
	for (uint32_t i = 1; i < c->n; i++) {
		uint32_t r = mc_pat_abs(i, c->root, c->n);
		struct mc_place p = mc_place_at(a->src, a->v ? a->soff[r] : r * a->len);
		mc_step_send(c, r, 0, MC_WAY_GET, p, a->v ? a->slen[r] : a->len, MC_NO_STEP);
	}
	struct mc_place own = mc_place_at(a->src, a->v ? a->soff[c->self] : c->self * a->len);
	mc_step_copy(c, to, own, a->len, MC_NO_STEP);
}

const struct mc_algo mc_algo_scatter_direct = {.name = "direct", .op = MC_COLL_SCATTER, .build = build, .v = true};

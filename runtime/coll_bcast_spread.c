/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_bcast_spread.c - bcast of few bytes along the barrier's rounds: whoever has them adds them to the signal of the
 * round. As many rounds as the binomial tree, and everyone has heard of everyone at the end, so no agreement comes on
 * top.
 */
#include "coll.h"
#include "coll_pattern.h"

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	struct mc_place p = mc_place_at(a->src, 0);
	uint32_t rel = mc_pat_rel(c->self, c->root, c->n), rounds = mc_pat_rounds(c->n), after = MC_NO_STEP;
	for (uint32_t k = 0; k < rounds; k++) {
		uint64_t dist = UINT64_C(1) << k;
		uint32_t to = mc_pat_add(rel, dist, c->n), from = mc_pat_sub(rel, dist, c->n);
		mc_step_send(c, mc_pat_abs(to, c->root, c->n), k, MC_WAY_GET, p,
			     mc_pat_spread_carries(to, k, c->n) ? a->len : 0, after);
		after = mc_step_recv(c, mc_pat_abs(from, c->root, c->n), k, MC_WAY_GET, p,
				     mc_pat_spread_carries(rel, k, c->n) ? a->len : 0, after);
	}
}

const struct mc_algo mc_algo_bcast_spread = {.name = "spread", .op = MC_COLL_BCAST, .build = build, .agrees = true};

/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_bcast_binomial.c - bcast down a binomial tree: ceil(log2 n) steps, n-1 transfers, the largest subtree first. */
#include "coll.h"
#include "coll_pattern.h"

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	struct mc_place p = mc_place_at(a->src, 0);
	uint32_t rel = mc_pat_rel(c->self, c->root, c->n), after = MC_NO_STEP;
	if (rel > 0)
		after = mc_step_recv(c, mc_pat_abs(mc_pat_parent(rel), c->root, c->n), 0, MC_WAY_GET, p, a->len, after);
	for (uint32_t k = mc_pat_child_n(rel, c->n); k-- > 0;)
		mc_step_send(c, mc_pat_abs(mc_pat_child(rel, k), c->root, c->n), 0, MC_WAY_GET, p, a->len, after);
}

const struct mc_algo mc_algo_bcast_binomial = {.name = "binomial", .op = MC_COLL_BCAST, .build = build};

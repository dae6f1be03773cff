/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_bcast_direct.c - bcast with one hop: everyone reads from the root. Best where all can reach the root's memory at
 * the same time, as on one host: no store and forward, and each rank's own processor does its copying.
 */
#include "coll.h"
#include "coll_pattern.h"

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	struct mc_place p = mc_place_at(a->src, 0);
	if (c->self != c->root) {
		mc_step_recv(c, c->root, 0, MC_WAY_GET, p, a->len, MC_NO_STEP);
		return;
	}
	for (uint32_t i = 1; i < c->n; i++)
		mc_step_send(c, mc_pat_abs(i, c->root, c->n), 0, MC_WAY_GET, p, a->len, MC_NO_STEP);
}

const struct mc_algo mc_algo_bcast_direct = {.name = "direct", .op = MC_COLL_BCAST, .build = build};

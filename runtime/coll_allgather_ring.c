/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_allgather_ring.c - allgather around a ring: in step k each rank passes on the block that it got in step k-1.
 * Every rank talks to two neighbours only and each link carries (n-1)/n of the result: the best use of a network by
 * long blocks.
 */
#include "coll.h"
#include "coll_pattern.h"

static struct mc_place block(const struct mc_coll_args *a, uint32_t r)
{
	return mc_place_at(a->dst, a->v ? a->doff[r] : r * a->len);
}

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	uint32_t prev = mc_pat_sub(c->self, 1, c->n), next = mc_pat_add(c->self, 1, c->n), after = MC_NO_STEP;
	struct mc_place p = mc_place_at(a->src, 0);
	uint64_t len = a->len;
	for (uint32_t k = 0; k + 1 < c->n; k++) {
		mc_step_send(c, next, k, MC_WAY_PUT, p, len, after);
		uint32_t r = mc_pat_sub(prev, k, c->n);
		p = block(a, r);
		len = a->v ? a->dlen[r] : a->len;
		after = mc_step_recv(c, prev, k, MC_WAY_PUT, p, len, MC_NO_STEP);
	}
	mc_step_copy(c, block(a, c->self), mc_place_at(a->src, 0), a->len, MC_NO_STEP);
}

const struct mc_algo mc_algo_allgather_ring = {
	.name = "ring", .op = MC_COLL_ALLGATHER, .build = build, .agrees = true, .v = true};

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_alltoall_pairwise.c - alltoall in n-1 rounds: in round k each rank sends to the one k places on and receives
 * from the one k places back, so that no two ranks crowd the same target. A rank is at most two rounds ahead of its own
 * sending.
 */
#include "coll.h"
#include "coll_pattern.h"

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	uint32_t last = MC_NO_STEP, before = MC_NO_STEP;
	for (uint32_t k = 1; k < c->n; k++) {
		uint32_t to = mc_pat_add(c->self, k, c->n), from = mc_pat_sub(c->self, k, c->n);
		struct mc_place in = mc_place_at(a->dst, a->v ? a->doff[from] : from * a->len);
		struct mc_place out = mc_place_at(a->src, a->v ? a->soff[to] : to * a->len);
		mc_step_recv(c, from, k, MC_WAY_PUT, in, a->v ? a->dlen[from] : a->len, MC_NO_STEP);
		uint32_t s = mc_step_send(c, to, k, MC_WAY_PUT, out, a->v ? a->slen[to] : a->len, before);
		before = last;
		last = s;
	}
	mc_step_copy(c, mc_place_at(a->dst, a->v ? a->doff[c->self] : c->self * a->len),
		     mc_place_at(a->src, a->v ? a->soff[c->self] : c->self * a->len), a->v ? a->slen[c->self] : a->len,
		     MC_NO_STEP);
}

const struct mc_algo mc_algo_alltoall_pairwise = {
	.name = "pairwise", .op = MC_COLL_ALLTOALL, .build = build, .agrees = true, .v = true};

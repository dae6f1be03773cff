/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_allgather_bruck.c - allgather of short blocks in ceil(log2 n) rounds: in round k each rank sends all blocks that
 * it has to the one 2^k places back. (Bruck et al., "Efficient algorithms for all-to-all communications in multiport
 * message-passing systems", 1997.) Blocks lie in own memory in the order self, self+1, ... and are copied out at the
 * end.
 */
#include "coll.h"
#include "coll_pattern.h"

static uint64_t len_of(const struct mc_coll_args *a, uint32_t r)
{
	return a->v ? a->dlen[r] : a->len;
}

/* Bytes of the blocks of ranks first, first+1, ... */
static uint64_t span(const struct mc_coll *c, const struct mc_coll_args *a, uint32_t first, uint32_t blocks)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < blocks; i++)
		sum += len_of(a, mc_pat_add(first, i, c->n));
	return sum;
}

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	if (!mc_scratch_reserve(c, span(c, a, 0, c->n)))
		return;
	struct mc_place first = mc_place_scratch(c, a->len);
	uint32_t after = mc_step_copy(c, first, mc_place_at(a->src, 0), a->len, MC_NO_STEP);
	for (uint32_t k = 0; k < mc_pat_rounds(c->n); k++) {
		uint64_t dist = UINT64_C(1) << k;
		uint32_t blocks = mc_pat_bruck_send(k, c->n), from = mc_pat_add(c->self, dist, c->n);
		uint64_t in = span(c, a, from, blocks);
		mc_step_send(c, mc_pat_sub(c->self, dist, c->n), k, MC_WAY_MSG, first, span(c, a, c->self, blocks),
			     after);
		after = mc_step_recv(c, from, k, MC_WAY_MSG, mc_place_scratch(c, in), in, after);
	}
	struct mc_place p = first;
	for (uint32_t i = 0; i < c->n; i++) {
		uint32_t r = mc_pat_add(c->self, i, c->n);
		mc_step_copy(c, mc_place_at(a->dst, a->v ? a->doff[r] : r * a->len), p, len_of(a, r), after);
		p.addr += len_of(a, r);
	}
}

const struct mc_algo mc_algo_allgather_bruck = {
	.name = "bruck", .op = MC_COLL_ALLGATHER, .build = build, .agrees = true, .v = true, .by_message = true};

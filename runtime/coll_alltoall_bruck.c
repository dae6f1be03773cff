/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_alltoall_bruck.c - alltoall of short blocks in ceil(log2 n) rounds: a block for the rank d places on travels by
 * the set bits of d; in round k all blocks with bit k go 2^k places on, in one message. (Bruck et al., 1997.) Each
 * block moves about log2(n)/2 times, so this is for blocks whose messages cost more than their bytes.
 */
#include <stdlib.h>

#include "coll.h"
#include "coll_pattern.h"

/* One round: pack what goes, send, receive into memory of its own; at[] follows where the blocks are. */
static uint32_t round_add(struct mc_coll *c, uint64_t len, uint32_t k, struct mc_place *at, uint32_t after)
{
	uint64_t dist = UINT64_C(1) << k;
	uint32_t blocks = 0, copied = after;
	for (uint32_t d = 0; d < c->n; d++)
		blocks += d >> k & 1;
	struct mc_place out = mc_place_scratch(c, blocks * len), in = mc_place_scratch(c, blocks * len);
	for (uint32_t d = 0, i = 0; d < c->n && !c->bad; d++) {
		if (!(d >> k & 1))
			continue;
		struct mc_place to = {NULL, out.addr + i * len};
		copied = mc_step_copy(c, to, at[d], len, copied);
		at[d] = (struct mc_place){NULL, in.addr + i * len};
		i++;
	}
	mc_step_send(c, mc_pat_add(c->self, dist, c->n), k, MC_WAY_MSG, out, blocks * len, copied);
	return mc_step_recv(c, mc_pat_sub(c->self, dist, c->n), k, MC_WAY_MSG, in, blocks * len, after);
}

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	struct mc_place *at = calloc(c->n, sizeof(*at));
	uint64_t all = 0;
	for (uint32_t d = 0; d < c->n; d++)
		all += 2 * a->len * (uint32_t)__builtin_popcount(d);
	if (at == NULL || !mc_scratch_reserve(c, all)) {
		c->bad = true;
		free(at);
		return;
	}
	for (uint32_t d = 0; d < c->n; d++) /* the block for the rank d places on */
		at[d] = mc_place_at(a->src, mc_pat_add(c->self, d, c->n) * a->len);
	uint32_t after = MC_NO_STEP;
	for (uint32_t k = 0; k < mc_pat_rounds(c->n) && !c->bad; k++)
		after = round_add(c, a->len, k, at, after);
	for (uint32_t d = 0; d < c->n && !c->bad; d++) /* now the block from the rank d places back */
		mc_step_copy(c, mc_place_at(a->dst, mc_pat_sub(c->self, d, c->n) * a->len), at[d], a->len, after);
	free(at);
}

const struct mc_algo mc_algo_alltoall_bruck = {
	.name = "bruck", .op = MC_COLL_ALLTOALL, .build = build, .agrees = true, .by_message = true};

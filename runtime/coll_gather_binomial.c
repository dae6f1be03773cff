/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_gather_binomial.c - gather up a binomial tree: each rank collects the blocks of its subtree and hands them to
 * its parent. ceil(log2 n) steps instead of n-1 messages at the root, at the price of copying.
 */
#include "coll.h"
#include "coll_pattern.h"

/* The root takes each subtree where it belongs, or by way of its own memory where dst wraps around. */
static void build_root(struct mc_coll *c, const struct mc_coll_args *a)
{
	if (!mc_scratch_reserve(c, c->n * a->len))
		return;
	for (uint32_t k = 0; k < mc_pat_child_n(0, c->n); k++) {
		uint32_t child = mc_pat_child(0, k), blocks = mc_pat_subtree(child, c->n);
		uint32_t first = mc_pat_abs(child, c->root, c->n), tail = c->n - first;
		bool wraps = blocks > tail;
		struct mc_place p = wraps ? mc_place_scratch(c, blocks * a->len) : mc_place_at(a->dst, first * a->len);
		uint32_t got = mc_step_recv(c, first, 0, MC_WAY_MSG, p, blocks * a->len, MC_NO_STEP);
		if (!wraps)
			continue;
		struct mc_place rest = {p.mem, p.addr + tail * a->len};
		mc_step_copy(c, mc_place_at(a->dst, first * a->len), p, tail * a->len, got);
		mc_step_copy(c, mc_place_at(a->dst, 0), rest, (blocks - tail) * a->len, got);
	}
	mc_step_copy(c, mc_place_at(a->dst, c->self * a->len), mc_place_at(a->src, 0), a->len, MC_NO_STEP);
}

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	uint32_t rel = mc_pat_rel(c->self, c->root, c->n), blocks = mc_pat_subtree(rel, c->n), after = MC_NO_STEP;
	if (rel == 0) {
		build_root(c, a);
		return;
	}
	struct mc_place p = mc_place_at(a->src, 0);
	if (blocks > 1) {
		if (!mc_scratch_reserve(c, blocks * a->len))
			return;
		p = mc_place_scratch(c, blocks * a->len);
		after = mc_step_copy(c, p, mc_place_at(a->src, 0), a->len, after);
	}
	for (uint32_t k = 0; k < mc_pat_child_n(rel, c->n); k++) {
		uint32_t child = mc_pat_child(rel, k);
		struct mc_place q = {p.mem, p.addr + (child - rel) * a->len};
		after = mc_step_recv(c, mc_pat_abs(child, c->root, c->n), 0, MC_WAY_MSG, q,
				     mc_pat_subtree(child, c->n) * a->len, after);
	}
	mc_step_send(c, mc_pat_abs(mc_pat_parent(rel), c->root, c->n), 0, MC_WAY_MSG, p, blocks * a->len, after);
}

const struct mc_algo mc_algo_gather_binomial = {
	.name = "binomial", .op = MC_COLL_GATHER, .build = build, .by_message = true};

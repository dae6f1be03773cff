/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_scatter_binomial.c - scatter down a binomial tree: each rank gets the blocks of its subtree from its parent and
 * passes them on. ceil(log2 n) steps instead of n-1 messages at the root, at the price of copying.
 */
#include "coll.h"
#include "coll_pattern.h"

/* Blocks of ranks counted from the root, in one piece: where src wraps around, they are put together first. */
static struct mc_place together(struct mc_coll *c, const struct mc_coll_args *a, uint32_t rel, uint32_t blocks,
				uint32_t *after)
{
	uint32_t first = mc_pat_abs(rel, c->root, c->n), tail = c->n - first;
	if (blocks <= tail)
		return mc_place_at(a->src, first * a->len);
	struct mc_place p = mc_place_scratch(c, blocks * a->len), rest = {p.mem, p.addr + tail * a->len};
	*after = mc_step_copy(c, p, mc_place_at(a->src, first * a->len), tail * a->len, MC_NO_STEP);
	*after = mc_step_copy(c, rest, mc_place_at(a->src, 0), (blocks - tail) * a->len, *after);
	return p;
}

static void build_root(struct mc_coll *c, const struct mc_coll_args *a)
{
	if (!mc_scratch_reserve(c, c->n * a->len))
		return;
	for (uint32_t k = mc_pat_child_n(0, c->n); k-- > 0;) {
		uint32_t child = mc_pat_child(0, k), blocks = mc_pat_subtree(child, c->n), after = MC_NO_STEP;
		struct mc_place p = together(c, a, child, blocks, &after);
		mc_step_send(c, mc_pat_abs(child, c->root, c->n), 0, MC_WAY_MSG, p, blocks * a->len, after);
	}
	mc_step_copy(c, mc_place_at(a->dst, 0), mc_place_at(a->src, c->self * a->len), a->len, MC_NO_STEP);
}

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	uint32_t rel = mc_pat_rel(c->self, c->root, c->n), blocks = mc_pat_subtree(rel, c->n);
	if (rel == 0) {
		build_root(c, a);
		return;
	}
	struct mc_place p = mc_place_at(a->dst, 0);
	if (blocks > 1) {
		if (!mc_scratch_reserve(c, blocks * a->len))
			return;
		p = mc_place_scratch(c, blocks * a->len);
	}
	uint32_t parent = mc_pat_abs(mc_pat_parent(rel), c->root, c->n);
	uint32_t after = mc_step_recv(c, parent, 0, MC_WAY_MSG, p, blocks * a->len, MC_NO_STEP);
	for (uint32_t k = mc_pat_child_n(rel, c->n); k-- > 0;) {
		uint32_t child = mc_pat_child(rel, k);
		struct mc_place q = {p.mem, p.addr + (child - rel) * a->len};
		mc_step_send(c, mc_pat_abs(child, c->root, c->n), 0, MC_WAY_MSG, q,
			     mc_pat_subtree(child, c->n) * a->len, after);
	}
	mc_step_copy(c, mc_place_at(a->dst, 0), p, a->len, after);
}

const struct mc_algo mc_algo_scatter_binomial = {
	.name = "binomial", .op = MC_COLL_SCATTER, .build = build, .by_message = true};

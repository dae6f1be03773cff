/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_bcast_chain.c - bcast along a chain in pieces: each rank passes a piece on while the next one arrives, so that
 * every link carries the bytes once and a long message takes about the time of one hop.
 */
#include "coll.h"
#include "coll_pattern.h"

enum { PIECE = 512 << 10, PIECES_MAX = 256 };

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	uint32_t rel = mc_pat_rel(c->self, c->root, c->n), pieces = mc_pat_pieces(a->len, PIECE, PIECES_MAX);
	uint32_t prev = mc_pat_sub(c->self, 1, c->n), next = mc_pat_add(c->self, 1, c->n);
	uint64_t piece = a->len / pieces;
	for (uint32_t i = 0; i < pieces && c->n > 1; i++) {
		struct mc_place p = mc_place_at(a->src, i * piece);
		uint64_t len = i + 1 < pieces ? piece : a->len - i * piece;
		uint32_t after = MC_NO_STEP;
		if (rel > 0)
			after = mc_step_recv(c, prev, i, MC_WAY_PUT, p, len, MC_NO_STEP);
		if (rel + 1 < c->n)
			mc_step_send(c, next, i, MC_WAY_PUT, p, len, after);
	}
}

const struct mc_algo mc_algo_bcast_chain = {.name = "chain", .op = MC_COLL_BCAST, .build = build};

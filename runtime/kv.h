/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv.h - layouts of KV pools, the plan between two groups of them, and the copies of one request. Pure arithmetic: no
 * context, no I/O, no log; what is wrong goes as a sentence into why[why_len] (why may be NULL when why_len is 0).
 *
 * Words: an *element range* is the head_dim contiguous elements of one (layer, k/v, token, head). A pool has one or
 * more *bases*: separately placed stretches of memory, numbered from 0; offsets count from the start of their base.
 */
#ifndef MC_KV_H
#define MC_KV_H

#include <stddef.h>
#include <stdint.h>

#include "mc.h"
#include "util.h"
#include "wire.h"

/* ---- layouts ----------------------------------------------------------------------------------------------------- */

enum {
	MC_KV_LAYERS_MAX = 4096,
	MC_KV_HEADS_MAX = 4096,
	MC_KV_HEAD_DIM_MAX = 65536,
	MC_KV_BLOCK_TOKENS_MAX = 65536,
	MC_KV_PIECES_MAX = 1 << 20,  /* of one plan */
	MC_KV_RANKS_MAX = 1 << 16,   /* of one side of a plan */
	MC_KV_LAYOUT_WIRE_LEN = 93,  /* bytes of an encoded layout */
};
#define MC_KV_EXTENT_MAX (UINT64_C(1) << 62)

void mc_kv_say(char *why, size_t why_len, const char *fmt, ...) MC_PRINTF(3, 4);

/* Bytes of one element range, bases of a pool, entries of a dimension. The layout need not have been checked. */
uint64_t mc_kv_layout_vec(const struct mc_kv_layout *l);
uint32_t mc_kv_layout_base_n(const struct mc_kv_layout *l);
uint32_t mc_kv_layout_dim_n(const struct mc_kv_layout *l, enum mc_kv_dim dim);
/* Does the dimension select a base rather than move inside one? */
bool mc_kv_layout_dim_is_base(const struct mc_kv_layout *l, enum mc_kv_dim dim);

/*
 * Is the layout possible? extent_out (may be NULL) gets the bytes that each base must have.
 * Return: MC_OK; MC_ERR_INVAL: no, why says what is wrong with which field.
 */
MC_CHECK mc_status_t mc_kv_layout_check(const struct mc_kv_layout *l, uint64_t *extent_out, char *why, size_t why_len);

/*
 * The same, and does it fit into bases of len[base_n] bytes?
 * Return: as mc_kv_layout_check(); MC_ERR_INVAL: wrong number of bases; MC_ERR_RANGE: a base is too short.
 */
MC_CHECK mc_status_t mc_kv_layout_fits(const struct mc_kv_layout *l, const uint64_t *len, uint32_t base_n, char *why,
				       size_t why_len);

/* Layouts as peers publish them. get: MC_ERR_PROTO: cut short, or not a possible layout; *out is then all zero. */
void mc_kv_layout_put(struct mc_wr *w, const struct mc_kv_layout *l);
MC_CHECK mc_status_t mc_kv_layout_get(struct mc_rd *r, struct mc_kv_layout *out);

/* ---- plan: who sends what to whom -------------------------------------------------------------------------------- */

/* A box of (layer, head), in the model's numbers, that goes from one source to one target; K and V both. */
struct mc_kv_piece {
	uint32_t src, dst; /* positions in the two groups */
	uint32_t layer_lo, layer_n;
	uint32_t head_lo, head_n;
};

struct mc_kv_plan {
	uint32_t src_n, dst_n, piece_n;
	struct mc_kv_layout *src, *dst; /* [src_n], [dst_n], copies */
	struct mc_kv_piece *piece;      /* [piece_n], sorted by src, dst, layer_lo, head_lo; no two of a pair overlap */
};

enum mc_kv_plan_flags {
	MC_KV_PLAN_PARTIAL =
		1, /* what no source has is left out instead of being an error, e.g. for a lone pair of ranks */
};

/*
 * Every (layer, head) of every target comes from exactly one source. Where several sources hold it, bytes are spread:
 * no piece could move to another of its sources without that one having at least as much to send as the first has now.
 * The result depends on the arguments only, so every rank can compute it for itself.
 * Return: MC_OK; MC_ERR_INVAL (a layout is impossible, no ranks, or too many); MC_ERR_MISMATCH (element size, head_dim,
 *         k/v or totals differ: why names the ranks); MC_ERR_NOENT (no source has a layer and head that a target needs:
 *         why names them); MC_ERR_NOMEM (memory, or more than MC_KV_PIECES_MAX pieces).
 */
MC_CHECK mc_status_t mc_kv_plan_make(const struct mc_kv_layout *src, uint32_t src_n, const struct mc_kv_layout *dst,
				     uint32_t dst_n, uint32_t flags, struct mc_kv_plan **plan_out, char *why,
				     size_t why_len);
void mc_kv_plan_free(struct mc_kv_plan *plan);

/* One source and one target of a plan, as a view into it; piece_n 0: nothing goes between them. */
struct mc_kv_pair {
	const struct mc_kv_layout *src, *dst;
	const struct mc_kv_piece *piece;
	uint32_t piece_n;
};
struct mc_kv_pair mc_kv_plan_pair(const struct mc_kv_plan *plan, uint32_t src, uint32_t dst);

/* Does any of the pair's pieces lie in these layers? So much of a request must be announced, and nothing else. */
bool mc_kv_pair_has(const struct mc_kv_pair *pair, uint32_t layer_lo, uint32_t layer_n);
/* How many sources send to a target, how many targets a source sends to, for these layers. */
uint32_t mc_kv_plan_sources(const struct mc_kv_plan *plan, uint32_t dst, uint32_t layer_lo, uint32_t layer_n);
uint32_t mc_kv_plan_targets(const struct mc_kv_plan *plan, uint32_t src, uint32_t layer_lo, uint32_t layer_n);
/* Bytes per token that go from a source to a target for these layers. */
uint64_t mc_kv_pair_token_bytes(const struct mc_kv_pair *pair, uint32_t layer_lo, uint32_t layer_n);

/* ---- runs: the copies of one request ----------------------------------------------------------------------------- */

/*
 * What moves: tokens token_lo .. +token_n of a sequence, for layers layer_lo .. +layer_n of the model. The tables give
 * the sequence's blocks from its first token on, also when token_lo > 0; entries that no token of the range needs are
 * not read.
 */
struct mc_kv_span {
	const uint32_t *src_block; /* [src_block_n] */
	const uint32_t *dst_block; /* [dst_block_n]; a block listed twice gets one or the other */
	uint32_t src_block_n, dst_block_n;
	uint32_t token_lo, token_n;
	uint32_t layer_lo, layer_n;
};

enum { MC_KV_LEVELS = 3 };
struct mc_kv_level {
	uint64_t src, dst; /* bytes to the next; 0 when n is 1 */
	uint32_t n;        /* at least 1 */
};

/*
 * A box of `count` pieces of `len` bytes: piece (i, k, m) at src_off and dst_off plus i, k and m times the strides of
 * level 0, 1 and 2. Level 0 has the smallest stride at the target.
 */
struct mc_kv_run {
	uint32_t src_base, dst_base;
	uint64_t src_off, dst_off;
	uint64_t len;
	struct mc_kv_level level[MC_KV_LEVELS];
	uint32_t count; /* the product of n; at least 1 */
	uint32_t shape; /* runs of one iterator with the same number have the same len and levels */
};

/* Where a generator of runs stands. Not for use outside kv_runs.c; holds no memory, may be dropped at any time. */
struct mc_kv_dim_step {
	uint64_t src, dst;           /* bytes to the next entry */
	uint32_t n;
	uint32_t src_base, dst_base; /* bases to the next entry; not both 0: cannot be part of a run */
};
struct mc_kv_segment {
	uint64_t src, dst; /* offsets of its first token, block and token part only */
	uint32_t n;        /* tokens; both sides have one stride over all of them */
};
struct mc_kv_side {
	const uint32_t *block;
	uint64_t stride[MC_KV_NDIM]; /* 0 where the dimension has one entry */
	uint32_t base[MC_KV_NDIM];   /* bases to the next entry of a dimension */
	uint32_t block_tokens;
	uint32_t at, pos;            /* current block in the table, token in it */
	bool linear;                 /* tokens of neighbouring blocks go on with the same stride */
	uint64_t off;                /* of the piece: layer and head part */
	uint32_t off_base;
};
struct mc_kv_iter {
	struct mc_kv_pair pair;
	struct mc_kv_span span;
	struct mc_kv_side src, dst;
	uint32_t piece;          /* next piece to look at */
	uint32_t left;           /* tokens of the current piece that are not in a segment yet */
	uint32_t layer_n;        /* of the current piece, within the span */
	uint32_t head_n;
	bool have_next;
	struct mc_kv_segment next; /* taken from the tables, not yet part of a group */
	/* Shape of the current group of segments: what one run looks like, and the loops around it. */
	uint64_t group_src, group_dst;
	uint32_t shape_n, shape_k; /* tokens and segments that the shape is for; 0: none yet */
	struct mc_kv_run proto;    /* offsets and bases of the next run */
	uint64_t runs_left;        /* of the group */
	uint64_t shape_runs;
	uint32_t loop_n;
	struct mc_kv_dim_step loop[MC_KV_NDIM];
	uint32_t loop_at[MC_KV_NDIM];
};

/*
 * Check a request against a pair and start generating its runs. The tables must stay as they are until the last run.
 * Return: MC_OK (also when there is nothing to copy); MC_ERR_INVAL: too few blocks for the tokens; MC_ERR_RANGE: a
 *         block that the pool does not have, or layers that the model does not have. *it is then not usable.
 */
MC_CHECK mc_status_t mc_kv_iter_init(struct mc_kv_iter *it, const struct mc_kv_pair *pair,
				     const struct mc_kv_span *span, char *why, size_t why_len);

/*
 * The next runs, at most `room`. Return: how many; fewer than room: these were the last. What is adjacent on both sides
 * is one piece; of what is not, the dimensions with the most entries are the run's levels. No allocation.
 */
uint32_t mc_kv_runs_next(struct mc_kv_iter *it, struct mc_kv_run *out, uint32_t room);

/* Add up one request of one pair; errors as mc_kv_iter_init(). O(runs). */
MC_CHECK mc_status_t mc_kv_pair_totals(const struct mc_kv_pair *pair, const struct mc_kv_span *span,
				       struct mc_kv_totals *out, char *why, size_t why_len);

#endif

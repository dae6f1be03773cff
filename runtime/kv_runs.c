/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv_runs.c - the copies of one request, from a pair's pieces and the two block tables.
 *
 * For each piece the token range is cut at the block borders of both sides into chunks; chunks that go on with the same
 * stride on both sides are one segment; equal segments at equal distances (consecutive blocks, up or down) are one
 * group. A group is a box of layer, k/v, segment, token and head with one stride per side and dimension. Its shape -
 * what folds into contiguous pieces, which dimensions are the run's levels, which loops remain - does not depend on
 * where the blocks are, and is kept while groups look the same. So the work per block is a few compares and addresses.
 */
#include "kv.h"

#include <string.h>

/* ---- request ---- */

static void side_init(struct mc_kv_side *s, const struct mc_kv_layout *l, const uint32_t *block)
{
	memset(s, 0, sizeof(*s));
	s->block = block;
	s->block_tokens = l->block_tokens;
	for (uint32_t i = 0; i < MC_KV_NDIM; i++) {
		enum mc_kv_dim dim = (enum mc_kv_dim)i;
		/* The stride of a single entry is anything; 0 makes it harmless. */
		if (mc_kv_layout_dim_n(l, dim) > 1 && !mc_kv_layout_dim_is_base(l, dim))
			s->stride[dim] = l->stride[dim];
	}
	if (mc_kv_layout_dim_is_base(l, MC_KV_KV))
		s->base[MC_KV_KV] = 1;
	if (mc_kv_layout_dim_is_base(l, MC_KV_LAYER))
		s->base[MC_KV_LAYER] = mc_kv_layout_dim_is_base(l, MC_KV_KV) ? l->kv_n : 1;
	if (l->block_tokens == 1) /* then tokens are as far apart as blocks */
		s->stride[MC_KV_TOKEN] = s->stride[MC_KV_BLOCK];
	s->linear = l->block_n > 1 && s->stride[MC_KV_BLOCK] == s->stride[MC_KV_TOKEN] * l->block_tokens;
}

static mc_status_t check_table(const char *what, const struct mc_kv_layout *l, const uint32_t *block, uint32_t n,
			       const struct mc_kv_span *span, char *why, size_t why_len)
{
	uint64_t end = (uint64_t)span->token_lo + span->token_n;
	uint32_t first = span->token_lo / l->block_tokens;
	uint64_t needed = (end + l->block_tokens - 1) / l->block_tokens;
	uint32_t bad = 0;

	if (n < needed) {
		mc_kv_say(why, why_len, "%u %s blocks of %u tokens for tokens up to %llu, %llu are needed", n, what,
			  l->block_tokens, (unsigned long long)end, (unsigned long long)needed);
		return MC_ERR_INVAL;
	}
	for (uint32_t i = first; i < needed; i++)
		bad |= block[i] >= l->block_n;
	if (bad == 0)
		return MC_OK;
	while (block[first] < l->block_n)
		first++;
	mc_kv_say(why, why_len, "%s block %u of the table is %u, the pool has %u blocks", what, first, block[first],
		  l->block_n);
	return MC_ERR_RANGE;
}

mc_status_t mc_kv_iter_init(struct mc_kv_iter *it, const struct mc_kv_pair *pair, const struct mc_kv_span *span,
			    char *why, size_t why_len)
{
	mc_status_t s;

	if ((uint64_t)span->layer_lo + span->layer_n > pair->src->layer_total) {
		mc_kv_say(why, why_len, "layers %u to %llu asked, the model has %u", span->layer_lo,
			  (unsigned long long)span->layer_lo + span->layer_n, pair->src->layer_total);
		return MC_ERR_RANGE;
	}
	if (span->token_n > 0) {
		s = check_table("source", pair->src, span->src_block, span->src_block_n, span, why, why_len);
		if (s == MC_OK)
			s = check_table("target", pair->dst, span->dst_block, span->dst_block_n, span, why, why_len);
		if (s != MC_OK)
			return s;
	}
	it->pair = *pair;
	it->span = *span;
	side_init(&it->src, pair->src, span->src_block);
	side_init(&it->dst, pair->dst, span->dst_block);
	it->piece = 0;
	it->left = 0;
	it->have_next = false;
	it->shape_n = 0;
	it->proto.shape = 0;
	it->runs_left = 0;
	return MC_OK;
}

/* Of a piece, the layers that the span asks for. */
static uint32_t clip_layers(const struct mc_kv_piece *p, const struct mc_kv_span *span, uint32_t *lo_out)
{
	uint32_t lo = p->layer_lo > span->layer_lo ? p->layer_lo : span->layer_lo;
	uint32_t p_end = p->layer_lo + p->layer_n, end = span->layer_lo + span->layer_n;

	if (end > p_end)
		end = p_end;
	*lo_out = lo;
	return end > lo ? end - lo : 0;
}

static void side_piece(struct mc_kv_side *s, const struct mc_kv_layout *l, uint32_t layer, uint32_t head,
		       uint32_t token)
{
	s->at = token / s->block_tokens;
	s->pos = token % s->block_tokens;
	s->off = (layer - l->layer_lo) * s->stride[MC_KV_LAYER] + (head - l->head_lo) * s->stride[MC_KV_HEAD];
	s->off_base = (layer - l->layer_lo) * s->base[MC_KV_LAYER];
}

static bool next_piece(struct mc_kv_iter *it)
{
	while (it->span.token_n > 0 && it->piece < it->pair.piece_n) {
		const struct mc_kv_piece *p = &it->pair.piece[it->piece++];
		uint32_t layer;
		it->layer_n = clip_layers(p, &it->span, &layer);
		if (it->layer_n == 0)
			continue;
		it->head_n = p->head_n;
		side_piece(&it->src, it->pair.src, layer, p->head_lo, it->span.token_lo);
		side_piece(&it->dst, it->pair.dst, layer, p->head_lo, it->span.token_lo);
		it->left = it->span.token_n;
		it->shape_n = 0;
		return true;
	}
	return false;
}

/* ---- segments and groups ---- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint64_t side_off(const struct mc_kv_side *s)
{
	return s->block[s->at] * s->stride[MC_KV_BLOCK] + s->pos * s->stride[MC_KV_TOKEN];
}

/* n tokens on; more: there are tokens after them. True: those lie at the token stride from here. */
static bool side_advance(struct mc_kv_side *s, uint32_t n, bool more)
{
	s->pos += n;
	if (s->pos < s->block_tokens)
		return true;
	s->pos = 0;
	s->at++;
	return more && s->linear && s->block[s->at] == s->block[s->at - 1] + 1;
}

static void take_segment(struct mc_kv_iter *it, struct mc_kv_segment *seg)
{
	struct mc_kv_side *s = &it->src, *d = &it->dst;
	bool on;

	seg->src = side_off(s);
	seg->dst = side_off(d);
	seg->n = 0;
	do {
		uint32_t n = min_u32(min_u32(s->block_tokens - s->pos, d->block_tokens - d->pos), it->left);
		seg->n += n;
		it->left -= n;
		on = side_advance(s, n, it->left > 0);
		on = side_advance(d, n, it->left > 0) && on;
	} while (it->left > 0 && on);
}

/* Is that the distance of neighbours, as opposed to what two blocks of a random table happen to have? */
static bool forward_step(const struct mc_kv_side *s, uint32_t n, uint64_t step)
{
	return step != 0 && (step == s->stride[MC_KV_BLOCK] || step == n * s->stride[MC_KV_TOKEN]);
}

static bool backward_step(const struct mc_kv_side *s, uint64_t step)
{
	return step != 0 && step == 0 - s->stride[MC_KV_BLOCK];
}

/* ---- shape of a group ---- */

static bool in_base(const struct mc_kv_dim_step *d)
{
	return d->src_base == 0 && d->dst_base == 0;
}

static uint32_t add_dim(struct mc_kv_dim_step *d, uint32_t dim_n, uint32_t n, uint64_t src, uint64_t dst)
{
	if (n <= 1)
		return dim_n;
	d[dim_n] = (struct mc_kv_dim_step){.n = n, .src = src, .dst = dst};
	return dim_n + 1;
}

static uint32_t add_outer_dim(struct mc_kv_dim_step *d, uint32_t dim_n, const struct mc_kv_iter *it, enum mc_kv_dim dim,
			      uint32_t n)
{
	uint32_t out = add_dim(d, dim_n, n, it->src.stride[dim], it->dst.stride[dim]);

	if (out > dim_n) {
		d[dim_n].src_base = it->src.base[dim];
		d[dim_n].dst_base = it->dst.base[dim];
	}
	return out;
}

/* Whatever begins where one piece ends, on both sides, makes the piece longer. Returns how many dimensions are left. */
static uint32_t fold_into_piece(struct mc_kv_dim_step *d, uint32_t dim_n, uint64_t *len)
{
	for (uint32_t i = 0; i < dim_n;) {
		if (d[i].src != *len || d[i].dst != *len || !in_base(&d[i])) {
			i++;
			continue;
		}
		*len *= d[i].n;
		d[i] = d[--dim_n];
		i = 0;
	}
	return dim_n;
}

/* Does b go on where the strides of a end, on both sides? */
static bool continues(const struct mc_kv_dim_step *a, const struct mc_kv_dim_step *b)
{
	return in_base(a) && in_base(b) && b->src == a->src * a->n && b->dst == a->dst * a->n &&
	       (uint64_t)a->n * b->n <= UINT32_MAX;
}

/* Two dimensions that are one sequence of equal strides on both sides become one. */
static uint32_t fold_pairs(struct mc_kv_dim_step *d, uint32_t dim_n)
{
	for (uint32_t i = 0; i < dim_n * dim_n;) {
		struct mc_kv_dim_step *a = &d[i / dim_n], *b = &d[i % dim_n];
		if (a == b || !continues(a, b)) {
			i++;
			continue;
		}
		a->n *= b->n;
		*b = d[--dim_n];
		i = 0;
	}
	return dim_n;
}

/* Level k of a run, if it has so many pieces; writes go up in the target where it does not matter otherwise. */
static void insert_level(struct mc_kv_run *run, uint32_t k, const struct mc_kv_dim_step *d)
{
	while (k > 0 && run->level[k - 1].dst > d->dst) {
		run->level[k] = run->level[k - 1];
		k--;
	}
	run->level[k] = (struct mc_kv_level){.src = d->src, .dst = d->dst, .n = d->n};
	run->count *= d->n;
}

/* The dimensions with the most entries are the run's own levels, so that the fewest runs are left. */
static uint32_t take_levels(struct mc_kv_dim_step *d, uint32_t dim_n, struct mc_kv_run *run)
{
	run->count = 1;
	for (uint32_t k = 0; k < MC_KV_LEVELS; k++)
		run->level[k] = (struct mc_kv_level){.n = 1};
	for (uint32_t k = 0; k < MC_KV_LEVELS; k++) {
		uint32_t best = UINT32_MAX;
		for (uint32_t i = 0; i < dim_n; i++)
			if (in_base(&d[i]) && (uint64_t)run->count * d[i].n <= UINT32_MAX &&
			    (best == UINT32_MAX || d[i].n > d[best].n))
				best = i;
		if (best == UINT32_MAX)
			break;
		insert_level(run, k, &d[best]);
		d[best] = d[--dim_n];
	}
	return dim_n;
}

/* k segments of n tokens, `src` and `dst` bytes apart. */
static void make_shape(struct mc_kv_iter *it, uint32_t n, uint32_t k, uint64_t src, uint64_t dst)
{
	const struct mc_kv_side *s = &it->src, *d = &it->dst;
	uint32_t dim_n = 0;
	uint64_t len = mc_kv_layout_vec(it->pair.src);

	dim_n = add_dim(it->loop, dim_n, it->head_n, s->stride[MC_KV_HEAD], d->stride[MC_KV_HEAD]);
	dim_n = add_dim(it->loop, dim_n, n, s->stride[MC_KV_TOKEN], d->stride[MC_KV_TOKEN]);
	dim_n = add_dim(it->loop, dim_n, k, src, dst);
	dim_n = add_outer_dim(it->loop, dim_n, it, MC_KV_KV, it->pair.src->kv_n);
	dim_n = add_outer_dim(it->loop, dim_n, it, MC_KV_LAYER, it->layer_n);
	dim_n = fold_into_piece(it->loop, dim_n, &len);
	dim_n = fold_pairs(it->loop, dim_n);
	dim_n = take_levels(it->loop, dim_n, &it->proto);
	it->proto.len = len;
	it->proto.shape++;
	it->loop_n = dim_n;
	it->shape_runs = 1;
	for (uint32_t i = 0; i < dim_n; i++)
		it->shape_runs *= it->loop[i].n;
	memset(it->loop_at, 0, sizeof(it->loop_at));
	it->shape_n = n;
	it->shape_k = k;
	it->group_src = src;
	it->group_dst = dst;
}

static void start_group(struct mc_kv_iter *it, const struct mc_kv_segment *first, uint32_t k, uint64_t src,
			uint64_t dst)
{
	if (it->shape_n != first->n || it->shape_k != k || it->group_src != src || it->group_dst != dst)
		make_shape(it, first->n, k, src, dst);
	it->proto.src_base = it->src.off_base;
	it->proto.dst_base = it->dst.off_base;
	it->proto.src_off = it->src.off + first->src;
	it->proto.dst_off = it->dst.off + first->dst;
	it->runs_left = it->shape_runs;
}

static bool next_group(struct mc_kv_iter *it)
{
	struct mc_kv_segment first, last;
	uint64_t src = 0, dst = 0;
	uint32_t k = 1;

	if (!it->have_next) {
		if (it->left == 0 && !next_piece(it))
			return false;
		take_segment(it, &it->next);
	}
	first = last = it->next;
	it->have_next = false;
	while (it->left > 0) {
		take_segment(it, &it->next);
		it->have_next = true;
		uint64_t src_step = it->next.src - last.src, dst_step = it->next.dst - last.dst;
		if (it->next.n != first.n)
			break;
		if (k > 1 ? src_step != src || dst_step != dst
			  : !(forward_step(&it->src, first.n, src_step) && forward_step(&it->dst, first.n, dst_step)) &&
				    !(backward_step(&it->src, src_step) && backward_step(&it->dst, dst_step)))
			break;
		src = src_step;
		dst = dst_step;
		last = it->next;
		it->have_next = false;
		k++;
	}
	if (k > 1 && src > MC_KV_EXTENT_MAX) /* downwards: the same bytes the other way round */
		start_group(it, &last, k, 0 - src, 0 - dst);
	else
		start_group(it, &first, k, src, dst);
	return true;
}

/* To the next run of the group: one step in the first loop that is not at its end. */
static void step(struct mc_kv_iter *it)
{
	for (uint32_t i = 0; i < it->loop_n; i++) {
		const struct mc_kv_dim_step *d = &it->loop[i];
		if (++it->loop_at[i] < d->n) {
			it->proto.src_off += d->src;
			it->proto.dst_off += d->dst;
			it->proto.src_base += d->src_base;
			it->proto.dst_base += d->dst_base;
			return;
		}
		it->loop_at[i] = 0;
		it->proto.src_off -= d->src * (d->n - 1);
		it->proto.dst_off -= d->dst * (d->n - 1);
		it->proto.src_base -= d->src_base * (d->n - 1);
		it->proto.dst_base -= d->dst_base * (d->n - 1);
	}
}

uint32_t mc_kv_runs_next(struct mc_kv_iter *it, struct mc_kv_run *out, uint32_t room)
{
	uint32_t n = 0;

	while (n < room) {
		if (it->runs_left == 0 && !next_group(it))
			break;
		out[n++] = it->proto;
		if (--it->runs_left > 0)
			step(it);
		else
			memset(it->loop_at, 0, sizeof(it->loop_at));
	}
	return n;
}

/* ---- totals ---- */

/* Contiguous pieces of n tokens inside one block of one layer, K or V. */
static uint64_t naive_pieces(const struct mc_kv_iter *it, uint32_t head_n, uint32_t n)
{
	struct mc_kv_dim_step d[2];
	uint64_t len = mc_kv_layout_vec(it->pair.src), pieces = 1;
	uint32_t dim_n = add_dim(d, 0, head_n, it->src.stride[MC_KV_HEAD], it->dst.stride[MC_KV_HEAD]);

	dim_n = add_dim(d, dim_n, n, it->src.stride[MC_KV_TOKEN], it->dst.stride[MC_KV_TOKEN]);
	dim_n = fold_into_piece(d, dim_n, &len);
	for (uint32_t i = 0; i < dim_n; i++)
		pieces *= d[i].n;
	return pieces;
}

static uint64_t naive_total(const struct mc_kv_iter *it)
{
	const struct mc_kv_span *span = &it->span;
	uint64_t total = 0;

	for (uint32_t i = 0; i < it->pair.piece_n; i++) {
		const struct mc_kv_piece *p = &it->pair.piece[i];
		uint32_t layer, layer_n = clip_layers(p, span, &layer);
		uint32_t left = layer_n > 0 ? span->token_n : 0;
		uint32_t src_pos = span->token_lo % it->src.block_tokens,
			 dst_pos = span->token_lo % it->dst.block_tokens;
		while (left > 0) {
			uint32_t n = min_u32(it->src.block_tokens - src_pos, it->dst.block_tokens - dst_pos);
			n = min_u32(n, left);
			total += naive_pieces(it, p->head_n, n) * layer_n * it->pair.src->kv_n;
			left -= n;
			src_pos = src_pos + n == it->src.block_tokens ? 0 : src_pos + n;
			dst_pos = dst_pos + n == it->dst.block_tokens ? 0 : dst_pos + n;
		}
	}
	return total;
}

mc_status_t mc_kv_pair_totals(const struct mc_kv_pair *pair, const struct mc_kv_span *span, struct mc_kv_totals *out,
			      char *why, size_t why_len)
{
	struct mc_kv_totals t = {0};
	struct mc_kv_iter it;
	struct mc_kv_run run[32];
	uint32_t n;
	mc_status_t s = mc_kv_iter_init(&it, pair, span, why, why_len);

	if (s != MC_OK)
		return s;
	t.naive = naive_total(&it);
	do {
		n = mc_kv_runs_next(&it, run, MC_ARRAY_LEN(run));
		for (uint32_t i = 0; i < n; i++) {
			t.runs++;
			t.pieces += run[i].count;
			t.bytes += run[i].len * run[i].count;
		}
	} while (n == MC_ARRAY_LEN(run));
	*out = t;
	return MC_OK;
}

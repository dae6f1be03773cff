/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv_plan.c - who sends which box of (layer, head) to whom. Each target is cut along the borders of the sources into
 * cells that a source holds whole or not at all; each cell gets one of its sources, so that bytes are spread; cells of
 * one pair that touch are joined again.
 */
#include "kv.h"

#include <stdlib.h>
#include <string.h>

enum { SPREAD_ROUNDS = 1000 }; /* each round lowers the sum of squared loads; two or three are what it takes */

struct cell {
	struct mc_kv_piece box; /* src is the one chosen */
	uint32_t candidates;    /* sources that hold it */
};

/* State while a plan is made. */
struct maker {
	const struct mc_kv_plan *plan;
	uint32_t flags;
	struct cell *cell;
	uint32_t cell_n, cell_room;
	uint32_t *near; /* [src_n] sources that share anything with the current target */
	uint32_t near_n;
	uint32_t *layer_cut, *head_cut; /* [2 * src_n + 2] */
	uint64_t *load;                 /* [src_n] layers times heads to send, per token and element range */
	char *why;
	size_t why_len;
};

static bool holds(const struct mc_kv_layout *l, const struct mc_kv_piece *box)
{
	return box->layer_lo >= l->layer_lo && box->layer_lo + box->layer_n <= l->layer_lo + l->layer_n &&
	       box->head_lo >= l->head_lo && box->head_lo + box->head_n <= l->head_lo + l->head_n;
}

static bool ranges_meet(uint32_t a_lo, uint32_t a_n, uint32_t b_lo, uint32_t b_n)
{
	return a_lo < b_lo + b_n && b_lo < a_lo + a_n;
}

static uint64_t size_of(const struct mc_kv_piece *box)
{
	return (uint64_t)box->layer_n * box->head_n;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Sorted borders inside [lo, lo + n], both ends included, each once. */
static uint32_t finish_cuts(uint32_t *cut, uint32_t cut_n, uint32_t lo, uint32_t n)
{
	uint32_t out = 0;

	cut[cut_n++] = lo;
	cut[cut_n++] = lo + n;
	qsort(cut, cut_n, sizeof(*cut), compare_u32);
	for (uint32_t i = 0; i < cut_n; i++) {
		if (cut[i] < lo || cut[i] > lo + n || (out > 0 && cut[out - 1] == cut[i]))
			continue;
		cut[out++] = cut[i];
	}
	return out;
}

/* ---- cells ---- */

static bool same_sources(const struct maker *m, const struct mc_kv_piece *a, const struct mc_kv_piece *b)
{
	for (uint32_t i = 0; i < m->near_n; i++) {
		const struct mc_kv_layout *l = &m->plan->src[m->near[i]];
		if (holds(l, a) != holds(l, b))
			return false;
	}
	return true;
}

static mc_status_t add_cell(struct maker *m, const struct cell *c)
{
	if (m->cell_n == m->cell_room) {
		uint32_t room = m->cell_room * 2 + 64;
		struct cell *more = NULL;
		if (m->cell_n < MC_KV_PIECES_MAX)
			more = realloc(m->cell, room * sizeof(*more));
		if (more == NULL) {
			mc_kv_say(m->why, m->why_len, "no memory for %u pieces (limit %u)", room, MC_KV_PIECES_MAX);
			return MC_ERR_NOMEM;
		}
		m->cell = more;
		m->cell_room = room;
	}
	m->cell[m->cell_n++] = *c;
	return MC_OK;
}

/* One cell of the target's layers layer_lo .. +layer_n; first: where this target's cells begin. */
static mc_status_t make_cell(struct maker *m, struct cell *c, uint32_t first)
{
	for (uint32_t i = 0; i < m->near_n; i++)
		c->candidates += holds(&m->plan->src[m->near[i]], &c->box);
	if (c->candidates == 0) {
		const struct mc_kv_piece *b = &c->box;
		if ((m->flags & MC_KV_PLAN_PARTIAL) != 0)
			return MC_OK;
		mc_kv_say(m->why, m->why_len, "target %u needs layers %u..%u, KV heads %u..%u, which no source has",
			  b->dst, b->layer_lo, b->layer_lo + b->layer_n - 1, b->head_lo, b->head_lo + b->head_n - 1);
		return MC_ERR_NOENT;
	}
	/*
	 * The border below may be that of a source of other heads: then the cell below is taller, and no new one is
	 * needed.
	 */
	for (uint32_t i = m->cell_n; i-- > first;) {
		struct mc_kv_piece *below = &m->cell[i].box;
		if (below->head_lo != c->box.head_lo || below->head_n != c->box.head_n)
			continue;
		if (below->layer_lo + below->layer_n != c->box.layer_lo || !same_sources(m, below, &c->box))
			break;
		below->layer_n += c->box.layer_n;
		return MC_OK;
	}
	return add_cell(m, c);
}

static mc_status_t cut_band(struct maker *m, uint32_t dst, uint32_t layer_lo, uint32_t layer_n, uint32_t first)
{
	const struct mc_kv_layout *d = &m->plan->dst[dst];
	uint32_t cut_n = 0;
	mc_status_t s = MC_OK;

	for (uint32_t i = 0; i < m->near_n; i++) {
		const struct mc_kv_layout *l = &m->plan->src[m->near[i]];
		if (!ranges_meet(l->layer_lo, l->layer_n, layer_lo, layer_n))
			continue;
		m->head_cut[cut_n++] = l->head_lo;
		m->head_cut[cut_n++] = l->head_lo + l->head_n;
	}
	cut_n = finish_cuts(m->head_cut, cut_n, d->head_lo, d->head_n);
	for (uint32_t i = 0; i + 1 < cut_n && s == MC_OK; i++) {
		struct cell c = {
			.box = {0, dst, layer_lo, layer_n, m->head_cut[i], m->head_cut[i + 1] - m->head_cut[i]},
		};
		s = make_cell(m, &c, first);
	}
	return s;
}

static mc_status_t cut_target(struct maker *m, uint32_t dst)
{
	const struct mc_kv_layout *d = &m->plan->dst[dst];
	uint32_t first = m->cell_n, cut_n = 0;
	mc_status_t s = MC_OK;

	m->near_n = 0;
	for (uint32_t i = 0; i < m->plan->src_n; i++) {
		const struct mc_kv_layout *l = &m->plan->src[i];
		if (!ranges_meet(l->layer_lo, l->layer_n, d->layer_lo, d->layer_n) ||
		    !ranges_meet(l->head_lo, l->head_n, d->head_lo, d->head_n))
			continue;
		m->near[m->near_n++] = i;
		m->layer_cut[cut_n++] = l->layer_lo;
		m->layer_cut[cut_n++] = l->layer_lo + l->layer_n;
	}
	cut_n = finish_cuts(m->layer_cut, cut_n, d->layer_lo, d->layer_n);
	for (uint32_t i = 0; i + 1 < cut_n && s == MC_OK; i++)
		s = cut_band(m, dst, m->layer_cut[i], m->layer_cut[i + 1] - m->layer_cut[i], first);
	return s;
}

/* ---- spreading ---- */

/* Those without choice first, then the largest; the rest only makes the order total. */
static int compare_spread(const void *a, const void *b)
{
	const struct cell *x = a, *y = b;
	bool x_free = x->candidates > 1, y_free = y->candidates > 1;
	uint64_t x_size = size_of(&x->box), y_size = size_of(&y->box);

	if (x_free != y_free)
		return x_free ? 1 : -1;
	if (x_size != y_size)
		return x_size > y_size ? -1 : 1;
	if (x->box.dst != y->box.dst)
		return x->box.dst < y->box.dst ? -1 : 1;
	if (x->box.layer_lo != y->box.layer_lo)
		return x->box.layer_lo < y->box.layer_lo ? -1 : 1;
	return (x->box.head_lo > y->box.head_lo) - (x->box.head_lo < y->box.head_lo);
}

/* The source of the cell that has least to send. */
static uint32_t least_loaded(const struct maker *m, const struct cell *c)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < m->plan->src_n; i++)
		if (holds(&m->plan->src[i], &c->box) && (best == UINT32_MAX || m->load[i] < m->load[best]))
			best = i;
	return best;
}

static void spread(struct maker *m)
{
	bool moved = true;

	if (m->cell_n > 0)
		qsort(m->cell, m->cell_n, sizeof(*m->cell), compare_spread);
	for (uint32_t i = 0; i < m->cell_n; i++) {
		m->cell[i].box.src = least_loaded(m, &m->cell[i]);
		m->load[m->cell[i].box.src] += size_of(&m->cell[i].box);
	}
	/* Sources with different shares: an early choice may have turned out badly. */
	for (uint32_t round = 0; moved && round < SPREAD_ROUNDS; round++) {
		moved = false;
		for (uint32_t i = 0; i < m->cell_n; i++) {
			struct cell *c = &m->cell[i];
			uint64_t size = size_of(&c->box);
			uint32_t to = c->candidates > 1 ? least_loaded(m, c) : c->box.src;
			if (m->load[to] + size >= m->load[c->box.src])
				continue;
			m->load[c->box.src] -= size;
			m->load[to] += size;
			c->box.src = to;
			moved = true;
		}
	}
}

/* ---- joining ---- */

static int compare_pair(const struct mc_kv_piece *x, const struct mc_kv_piece *y)
{
	if (x->src != y->src)
		return x->src < y->src ? -1 : 1;
	return (x->dst > y->dst) - (x->dst < y->dst);
}

static int compare_by_head(const void *a, const void *b)
{
	const struct mc_kv_piece *x = a, *y = b;
	int order = compare_pair(x, y);

	if (order == 0)
		order = (x->head_lo > y->head_lo) - (x->head_lo < y->head_lo);
	if (order == 0)
		order = (x->head_n > y->head_n) - (x->head_n < y->head_n);
	return order != 0 ? order : (x->layer_lo > y->layer_lo) - (x->layer_lo < y->layer_lo);
}

static int compare_by_layer(const void *a, const void *b)
{
	const struct mc_kv_piece *x = a, *y = b;
	int order = compare_pair(x, y);

	if (order == 0)
		order = (x->layer_lo > y->layer_lo) - (x->layer_lo < y->layer_lo);
	if (order == 0)
		order = (x->layer_n > y->layer_n) - (x->layer_n < y->layer_n);
	return order != 0 ? order : (x->head_lo > y->head_lo) - (x->head_lo < y->head_lo);
}

static int compare_final(const void *a, const void *b)
{
	const struct mc_kv_piece *x = a, *y = b;
	int order = compare_pair(x, y);

	if (order == 0)
		order = (x->layer_lo > y->layer_lo) - (x->layer_lo < y->layer_lo);
	return order != 0 ? order : (x->head_lo > y->head_lo) - (x->head_lo < y->head_lo);
}

static bool join_layers(struct mc_kv_piece *a, const struct mc_kv_piece *b)
{
	if (compare_pair(a, b) != 0 || a->head_lo != b->head_lo || a->head_n != b->head_n ||
	    a->layer_lo + a->layer_n != b->layer_lo)
		return false;
	a->layer_n += b->layer_n;
	return true;
}

static bool join_heads(struct mc_kv_piece *a, const struct mc_kv_piece *b)
{
	if (compare_pair(a, b) != 0 || a->layer_lo != b->layer_lo || a->layer_n != b->layer_n ||
	    a->head_lo + a->head_n != b->head_lo)
		return false;
	a->head_n += b->head_n;
	return true;
}

static uint32_t join_all(struct mc_kv_piece *p, uint32_t n,
			 bool (*join)(struct mc_kv_piece *, const struct mc_kv_piece *))
{
	uint32_t out = 0;

	for (uint32_t i = 0; i < n; i++)
		if (out == 0 || !join(&p[out - 1], &p[i]))
			p[out++] = p[i];
	return out;
}

static mc_status_t take_pieces(struct mc_kv_plan *plan, const struct maker *m)
{
	uint32_t n = m->cell_n;
	struct mc_kv_piece *p = calloc(n > 0 ? n : 1, sizeof(*p));

	if (p == NULL) {
		mc_kv_say(m->why, m->why_len, "no memory for %u pieces", n);
		return MC_ERR_NOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		p[i] = m->cell[i].box;
	for (uint32_t before = UINT32_MAX; n < before;) { /* joined heads may make joined layers possible, and so on */
		before = n;
		qsort(p, n, sizeof(*p), compare_by_head);
		n = join_all(p, n, join_layers);
		qsort(p, n, sizeof(*p), compare_by_layer);
		n = join_all(p, n, join_heads);
	}
	qsort(p, n, sizeof(*p), compare_final);
	plan->piece = p;
	plan->piece_n = n;
	return MC_OK;
}

/* ---- plan ---- */

static mc_status_t check_group(const char *what, const struct mc_kv_layout *l, uint32_t n, char *why, size_t why_len)
{
	char text[160];

	if (n < 1 || n > MC_KV_RANKS_MAX) {
		mc_kv_say(why, why_len, "%u %ss, allowed are 1 to %u", n, what, MC_KV_RANKS_MAX);
		return MC_ERR_INVAL;
	}
	for (uint32_t i = 0; i < n; i++) {
		mc_status_t s = mc_kv_layout_check(&l[i], NULL, text, sizeof(text));
		if (s == MC_OK)
			continue;
		mc_kv_say(why, why_len, "layout of %s %u: %s", what, i, text);
		return s;
	}
	return MC_OK;
}

static mc_status_t check_same(const char *what, const struct mc_kv_layout *l, uint32_t n,
			      const struct mc_kv_layout *ref, char *why, size_t why_len)
{
	for (uint32_t i = 0; i < n; i++) {
		if (l[i].elem_bytes == ref->elem_bytes && l[i].head_dim == ref->head_dim && l[i].kv_n == ref->kv_n &&
		    l[i].layer_total == ref->layer_total && l[i].head_total == ref->head_total)
			continue;
		mc_kv_say(why, why_len,
			  "%s %u has elem_bytes %u, head_dim %u, kv_n %u, layer_total %u, head_total %u; "
			  "source 0 has %u, %u, %u, %u, %u",
			  what, i, l[i].elem_bytes, l[i].head_dim, l[i].kv_n, l[i].layer_total, l[i].head_total,
			  ref->elem_bytes, ref->head_dim, ref->kv_n, ref->layer_total, ref->head_total);
		return MC_ERR_MISMATCH;
	}
	return MC_OK;
}

static mc_status_t fill_plan(struct mc_kv_plan *plan, uint32_t flags, char *why, size_t why_len)
{
	size_t cut_room = 2 * (size_t)plan->src_n + 2;
	struct maker m = {.plan = plan, .flags = flags, .why = why, .why_len = why_len};
	mc_status_t s = MC_OK;

	m.near = calloc(plan->src_n, sizeof(*m.near));
	m.load = calloc(plan->src_n, sizeof(*m.load));
	m.layer_cut = calloc(cut_room, sizeof(*m.layer_cut));
	m.head_cut = calloc(cut_room, sizeof(*m.head_cut));
	if (m.near == NULL || m.load == NULL || m.layer_cut == NULL || m.head_cut == NULL) {
		mc_kv_say(why, why_len, "no memory to plan for %u sources", plan->src_n);
		s = MC_ERR_NOMEM;
	}
	for (uint32_t i = 0; i < plan->dst_n && s == MC_OK; i++)
		s = cut_target(&m, i);
	if (s == MC_OK) {
		spread(&m);
		s = take_pieces(plan, &m);
	}
	free(m.head_cut);
	free(m.layer_cut);
	free(m.load);
	free(m.near);
	free(m.cell);
	return s;
}

mc_status_t mc_kv_plan_make(const struct mc_kv_layout *src, uint32_t src_n, const struct mc_kv_layout *dst,
			    uint32_t dst_n, uint32_t flags, struct mc_kv_plan **plan_out, char *why, size_t why_len)
{
	struct mc_kv_plan *plan;
	mc_status_t s = check_group("source", src, src_n, why, why_len);

	if (s == MC_OK)
		s = check_group("target", dst, dst_n, why, why_len);
	if (s == MC_OK)
		s = check_same("source", src, src_n, src, why, why_len);
	if (s == MC_OK)
		s = check_same("target", dst, dst_n, src, why, why_len);
	if (s != MC_OK)
		return s;
	s = MC_ERR_NOMEM;
	plan = calloc(1, sizeof(*plan));
	if (plan == NULL)
		goto no_memory;
	plan->src_n = src_n;
	plan->dst_n = dst_n;
	plan->src = calloc(src_n, sizeof(*plan->src));
	plan->dst = calloc(dst_n, sizeof(*plan->dst));
	if (plan->src == NULL || plan->dst == NULL)
		goto no_memory;
	memcpy(plan->src, src, src_n * sizeof(*src));
	memcpy(plan->dst, dst, dst_n * sizeof(*dst));
	s = fill_plan(plan, flags, why, why_len);
	if (s != MC_OK)
		goto undo_plan;
	*plan_out = plan;
	return MC_OK;
no_memory:
	mc_kv_say(why, why_len, "no memory for the layouts of %u sources and %u targets", src_n, dst_n);
undo_plan:
	mc_kv_plan_free(plan);
	return s;
}

void mc_kv_plan_free(struct mc_kv_plan *plan)
{
	if (plan == NULL)
		return;
	free(plan->piece);
	free(plan->dst);
	free(plan->src);
	free(plan);
}

/* ---- questions ---- */

/* First piece that is not before (src, dst). */
static uint32_t lower_bound(const struct mc_kv_plan *plan, uint32_t src, uint32_t dst)
{
	const struct mc_kv_piece want = {.src = src, .dst = dst};
	uint32_t lo = 0, hi = plan->piece_n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (compare_pair(&plan->piece[mid], &want) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct mc_kv_pair mc_kv_plan_pair(const struct mc_kv_plan *plan, uint32_t src, uint32_t dst)
{
	uint32_t first = lower_bound(plan, src, dst);
	uint32_t end = lower_bound(plan, src, dst + 1);

	return (struct mc_kv_pair){&plan->src[src], &plan->dst[dst], &plan->piece[first], end - first};
}

static uint32_t layers_in(const struct mc_kv_piece *p, uint32_t layer_lo, uint32_t layer_n)
{
	uint64_t lo = p->layer_lo > layer_lo ? p->layer_lo : layer_lo;
	uint64_t p_end = (uint64_t)p->layer_lo + p->layer_n, end = (uint64_t)layer_lo + layer_n;

	if (end > p_end)
		end = p_end;
	return end > lo ? (uint32_t)(end - lo) : 0;
}

bool mc_kv_pair_has(const struct mc_kv_pair *pair, uint32_t layer_lo, uint32_t layer_n)
{
	for (uint32_t i = 0; i < pair->piece_n; i++)
		if (layers_in(&pair->piece[i], layer_lo, layer_n) > 0)
			return true;
	return false;
}

uint32_t mc_kv_plan_sources(const struct mc_kv_plan *plan, uint32_t dst, uint32_t layer_lo, uint32_t layer_n)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < plan->src_n; i++) {
		struct mc_kv_pair pair = mc_kv_plan_pair(plan, i, dst);
		n += mc_kv_pair_has(&pair, layer_lo, layer_n);
	}
	return n;
}

uint32_t mc_kv_plan_targets(const struct mc_kv_plan *plan, uint32_t src, uint32_t layer_lo, uint32_t layer_n)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < plan->dst_n; i++) {
		struct mc_kv_pair pair = mc_kv_plan_pair(plan, src, i);
		n += mc_kv_pair_has(&pair, layer_lo, layer_n);
	}
	return n;
}

uint64_t mc_kv_pair_token_bytes(const struct mc_kv_pair *pair, uint32_t layer_lo, uint32_t layer_n)
{
	uint64_t vecs = 0;

	for (uint32_t i = 0; i < pair->piece_n; i++)
		vecs += (uint64_t)layers_in(&pair->piece[i], layer_lo, layer_n) * pair->piece[i].head_n;
	return vecs * pair->src->kv_n * mc_kv_layout_vec(pair->src);
}

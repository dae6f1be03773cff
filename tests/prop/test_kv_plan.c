/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kv_plan.c - random layouts, groups, block tables and requests against an element-by-element oracle: each target
 * byte written exactly once, from the right place, and none outside. TEST_SEED and TEST_CASES repeat or prolong a run.
 */
#include "kv_oracle.h"
#include "models.h"

enum { CASES = 60000, PARTS_MAX = 3 };

struct rng {
	uint64_t state;
};

static uint64_t next_u64(struct rng *r)
{
	uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint32_t below(struct rng *r, uint32_t n)
{
	return (uint32_t)(next_u64(r) % n);
}

static uint32_t between(struct rng *r, uint32_t lo, uint32_t hi)
{
	return lo + below(r, hi - lo + 1);
}

static bool chance(struct rng *r, uint32_t percent)
{
	return below(r, 100) < percent;
}

/* ---- random layouts ---- */

/* What all ranks of a case share. */
struct shape {
	uint32_t elem_bytes, head_dim, kv_n, layer_total, head_total;
};

static void shuffle(struct rng *r, uint32_t *v, uint32_t n)
{
	for (uint32_t i = n; i > 1; i--) {
		uint32_t k = below(r, i), t = v[k];
		v[k] = v[i - 1];
		v[i - 1] = t;
	}
}

/* Strides in random order, half of the time with gaps; without gaps when the pool would be too large for the oracle. */
static void random_strides(struct rng *r, struct mc_kv_layout *l, uint64_t *extent_out)
{
	uint32_t order[MC_KV_NDIM] = {MC_KV_TOKEN, MC_KV_HEAD, MC_KV_BLOCK, MC_KV_KV, MC_KV_LAYER};
	bool gaps = chance(r, 50);

	if (chance(r, 60))
		shuffle(r, order, MC_KV_NDIM);
	for (;;) {
		uint64_t extent = mc_kv_layout_vec(l);
		for (uint32_t i = 0; i < MC_KV_NDIM; i++) {
			enum mc_kv_dim dim = (enum mc_kv_dim)order[i];
			uint32_t n = mc_kv_layout_dim_n(l, dim);
			l->stride[dim] = next_u64(r); /* not to be used */
			if (mc_kv_layout_dim_is_base(l, dim) || n == 1)
				continue;
			l->stride[dim] = extent;
			if (gaps && chance(r, 30))
				l->stride[dim] += (uint64_t)between(r, 1, 3) * l->elem_bytes;
			extent += l->stride[dim] * (n - 1);
		}
		*extent_out = extent;
		if (extent * mc_kv_layout_base_n(l) <= BYTES_MAX)
			return;
		assert_true(gaps); /* without gaps the shapes of this test fit */
		gaps = false;
	}
}

/* A table of distinct blocks: in order, backwards, at random, or in stretches. */
static void random_table(struct rng *r, struct side *s, uint32_t block_n)
{
	uint32_t id[512], kind = below(r, 5), out = 0;

	assert_true(block_n <= 512);
	for (uint32_t i = 0; i < block_n; i++)
		id[i] = kind == 1 ? block_n - 1 - i : i;
	if (kind == 2)
		shuffle(r, id, block_n);
	if (kind < 3) {
		memcpy(s->block, id, block_n * sizeof(*id));
		return;
	}
	/* Stretches of the pool in random order, each up or down. */
	uint32_t cut = between(r, 0, block_n);
	for (uint32_t half = 0; half < 2; half++) {
		uint32_t lo = half == 0 ? cut : 0, hi = half == 0 ? block_n : cut;
		bool down = chance(r, 50);
		for (uint32_t i = lo; i < hi; i++)
			s->block[out++] = down ? hi - 1 - (i - lo) : i;
	}
}

/* One pool's flags, strides and blocks; its box is there already. */
static void finish_layout(struct rng *r, struct side *s, uint32_t rank, const struct shape *shape,
			  uint32_t block_tokens, uint32_t block_n)
{
	struct mc_kv_layout *l = &s->l[rank];
	uint64_t extent;

	l->size = sizeof(*l);
	l->elem_bytes = shape->elem_bytes;
	l->head_dim = shape->head_dim;
	l->kv_n = shape->kv_n;
	l->layer_total = shape->layer_total;
	l->head_total = shape->head_total;
	l->block_tokens = block_tokens;
	l->block_n = block_n;
	if (chance(r, 25))
		l->flags |= MC_KV_BASE_PER_LAYER;
	if (chance(r, 15))
		l->flags |= MC_KV_BASE_PER_KV;
	random_strides(r, l, &s->extent[rank]);
	assert_int_equal(mc_kv_layout_check(l, &extent, NULL, 0), MC_OK);
	assert_true(extent == s->extent[rank]);
}

/* Boxes of TP x PP ranks, heads replicated when there are too few; or boxes anywhere. */
static void random_boxes(struct rng *r, struct side *s, const struct shape *shape, bool anywhere)
{
	uint32_t pp = between(r, 1, 3), tp = between(r, 1, 6);

	if (pp > shape->layer_total)
		pp = shape->layer_total;
	s->n = anywhere ? between(r, 1, 6) : pp * tp;
	for (uint32_t i = 0; i < s->n; i++) {
		struct mc_kv_layout *l = &s->l[i];
		memset(l, 0, sizeof(*l));
		if (anywhere) {
			l->layer_lo = chance(r, 40) ? 0 : below(r, shape->layer_total);
			l->layer_n = between(r, 1, shape->layer_total - l->layer_lo);
			l->head_lo = chance(r, 40) ? 0 : below(r, shape->head_total);
			l->head_n = between(r, 1, shape->head_total - l->head_lo);
		} else {
			mc_kv_shard(shape->layer_total, pp, i / tp, &l->layer_lo, &l->layer_n);
			mc_kv_shard(shape->head_total, tp, i % tp, &l->head_lo, &l->head_n);
		}
	}
}

static void random_side(struct rng *r, struct side *s, const struct shape *shape, uint32_t tokens)
{
	static const uint32_t sizes[] = {1, 2, 3, 4, 4, 6, 8, 16};
	uint32_t block_tokens = sizes[below(r, MC_ARRAY_LEN(sizes))];
	uint32_t needed = (tokens + block_tokens - 1) / block_tokens;
	uint32_t block_n = (needed > 0 ? needed : 1) + below(r, 4);

	random_boxes(r, s, shape, chance(r, 30));
	for (uint32_t i = 0; i < s->n; i++)
		finish_layout(r, s, i, shape, block_tokens, block_n);
	random_table(r, s, block_n);
	s->table_n = needed;
}

/* ---- one case ---- */

/* Parts of [0, n): borders at[0] = 0 .. at[parts] = n, some parts empty. */
struct parts {
	uint32_t n, at[PARTS_MAX + 1];
};

static struct parts random_parts(struct rng *r, uint32_t n)
{
	struct parts p = {.n = chance(r, 50) ? 1 : between(r, 2, PARTS_MAX)};

	for (uint32_t i = 1; i < p.n; i++)
		p.at[i] = between(r, p.at[i - 1], n);
	p.at[p.n] = n;
	return p;
}

static void send_span(struct oracle *o, struct rng *r, const struct mc_kv_plan *plan, const struct mc_kv_span *span)
{
	for (uint32_t s = 0; s < plan->src_n; s++) {
		for (uint32_t d = 0; d < plan->dst_n; d++) {
			struct mc_kv_pair pair = mc_kv_plan_pair(plan, s, d);
			struct mc_kv_totals sum = {0}, totals;
			struct mc_kv_iter it;
			struct mc_kv_run run[8];
			uint32_t n, room;
			assert_int_equal(mc_kv_iter_init(&it, &pair, span, NULL, 0), MC_OK);
			do {
				room = between(r, 1, 8);
				n = mc_kv_runs_next(&it, run, room);
				for (uint32_t i = 0; i < n; i++) {
					oracle_copy(o, s, d, &run[i]);
					sum.runs++;
					sum.pieces += run[i].count;
					sum.bytes += run[i].len * run[i].count;
				}
			} while (n == room);
			assert_int_equal(mc_kv_runs_next(&it, run, 8), 0);
			assert_int_equal(mc_kv_pair_totals(&pair, span, &totals, NULL, 0), MC_OK);
			if (totals.runs != sum.runs || totals.pieces != sum.pieces || totals.bytes != sum.bytes ||
			    totals.runs > totals.pieces || totals.pieces > totals.naive ||
			    sum.bytes != span->token_n * mc_kv_pair_token_bytes(&pair, span->layer_lo, span->layer_n))
				oracle_fail(o, "totals do not agree with the runs");
		}
	}
}

/* Announcements: a source counts as sender of a target exactly when it has bytes for it. */
static void check_senders(const struct oracle *o, const struct mc_kv_plan *plan, uint32_t layer_lo, uint32_t layer_n)
{
	for (uint32_t d = 0; d < plan->dst_n; d++) {
		uint32_t n = 0;
		for (uint32_t s = 0; s < plan->src_n; s++) {
			struct mc_kv_pair pair = mc_kv_plan_pair(plan, s, d);
			n += mc_kv_pair_token_bytes(&pair, layer_lo, layer_n) > 0;
		}
		if (n != mc_kv_plan_sources(plan, d, layer_lo, layer_n))
			oracle_fail(o, "a target waits for the wrong number of sources");
	}
}

/* No piece can move to another source that has it and is less loaded by more than the piece. */
static void check_spread(const struct oracle *o, const struct mc_kv_plan *plan)
{
	uint64_t load[RANKS_MAX] = {0};

	for (uint32_t i = 0; i < plan->piece_n; i++)
		load[plan->piece[i].src] += (uint64_t)plan->piece[i].layer_n * plan->piece[i].head_n;
	for (uint32_t i = 0; i < plan->piece_n; i++) {
		const struct mc_kv_piece *p = &plan->piece[i];
		for (uint32_t s = 0; s < plan->src_n; s++) {
			if (!oracle_holds(&plan->src[s], p->layer_lo, p->head_lo) ||
			    !oracle_holds(&plan->src[s], p->layer_lo + p->layer_n - 1, p->head_lo + p->head_n - 1))
				continue;
			if (load[p->src] > load[s] + (uint64_t)p->layer_n * p->head_n)
				oracle_fail(o, "the sources are not spread");
		}
	}
}

/* Sorted as promised, and no two pieces of a pair that could be one. */
static void check_pieces(const struct oracle *o, const struct mc_kv_plan *plan)
{
	for (uint32_t i = 0; i < plan->piece_n; i++) {
		const struct mc_kv_piece *a = &plan->piece[i];
		for (uint32_t k = i + 1; k < plan->piece_n; k++) {
			const struct mc_kv_piece *b = &plan->piece[k];
			const uint32_t x[] = {a->src, a->dst, a->layer_lo, a->head_lo};
			const uint32_t y[] = {b->src, b->dst, b->layer_lo, b->head_lo};
			uint32_t at = 0;
			while (at < 4 && x[at] == y[at])
				at++;
			if (at == 4 || x[at] > y[at])
				oracle_fail(o, "the pieces are not sorted");
			if (at >= 2 && ((a->head_lo == b->head_lo && a->head_n == b->head_n &&
					 a->layer_lo + a->layer_n == b->layer_lo) ||
					(a->layer_lo == b->layer_lo && a->layer_n == b->layer_n &&
					 a->head_lo + a->head_n == b->head_lo)))
				oracle_fail(o, "two pieces could be one");
		}
	}
}

static struct mc_kv_plan *make_plan(struct oracle *o)
{
	struct mc_kv_plan *plan = NULL, *again = NULL;
	bool missing = false;
	char why[200] = "";

	for (uint32_t d = 0; d < o->dst.n; d++) {
		const struct mc_kv_layout *l = &o->dst.l[d];
		for (uint32_t i = l->layer_lo; i < l->layer_lo + l->layer_n; i++)
			for (uint32_t h = l->head_lo; h < l->head_lo + l->head_n; h++)
				missing = missing || !oracle_any_holds(&o->src, i, h);
	}
	mc_status_t s = mc_kv_plan_make(o->src.l, o->src.n, o->dst.l, o->dst.n, 0, &plan, why, sizeof(why));
	if (s != (missing ? MC_ERR_NOENT : MC_OK) || (s != MC_OK) != (why[0] != '\0'))
		oracle_fail(o, "what no source has was not found");
	if (missing)
		s = mc_kv_plan_make(o->src.l, o->src.n, o->dst.l, o->dst.n, MC_KV_PLAN_PARTIAL, &plan, NULL, 0);
	assert_int_equal(s, MC_OK);
	s = mc_kv_plan_make(o->src.l, o->src.n, o->dst.l, o->dst.n, MC_KV_PLAN_PARTIAL, &again, NULL, 0);
	assert_int_equal(s, MC_OK);
	if (again->piece_n != plan->piece_n ||
	    memcmp(again->piece, plan->piece, plan->piece_n * sizeof(*plan->piece)) != 0)
		oracle_fail(o, "two ranks would make different plans");
	mc_kv_plan_free(again);
	return plan;
}

/* Send tokens token_lo .. tokens in random parts, leave some parts out, and look at every byte. */
static void run_case(struct oracle *o, struct rng *r, uint32_t token_lo, uint32_t tokens, bool all)
{
	struct mc_kv_plan *plan = make_plan(o);
	uint32_t layers = o->src.l[0].layer_total;
	struct parts lp = random_parts(r, layers), tp = random_parts(r, tokens - token_lo);
	uint64_t expected = 0;

	o->serial++;
	o->written = 0;
	check_pieces(o, plan);
	check_spread(o, plan);
	for (uint32_t i = 0; i < lp.n; i++) {
		check_senders(o, plan, lp.at[i], lp.at[i + 1] - lp.at[i]);
		for (uint32_t k = 0; k < tp.n; k++) {
			struct mc_kv_span span = {
				.src_block = o->src.block,
				.dst_block = o->dst.block,
				.src_block_n = o->src.table_n,
				.dst_block_n = o->dst.table_n,
				.token_lo = token_lo + tp.at[k],
				.token_n = tp.at[k + 1] - tp.at[k],
				.layer_lo = lp.at[i],
				.layer_n = lp.at[i + 1] - lp.at[i],
			};
			if (!all && chance(r, 10))
				continue;
			send_span(o, r, plan, &span);
			for (uint32_t d = 0; d < o->dst.n; d++) {
				const struct mc_kv_layout *l = &o->dst.l[d];
				for (uint32_t y = span.layer_lo; y < span.layer_lo + span.layer_n; y++)
					for (uint32_t t = 0; t < span.token_n; t++)
						if (y >= l->layer_lo && y - l->layer_lo < l->layer_n)
							expected += oracle_check_token(o, d, y, span.token_lo + t);
			}
		}
	}
	if (o->written != expected)
		oracle_fail(o, "bytes were written outside of what was asked for");
	mc_kv_plan_free(plan);
}

static void random_case(struct oracle *o, uint64_t seed)
{
	static const uint32_t elem[] = {1, 2, 4};
	struct rng r = {seed};
	struct shape shape = {
		.elem_bytes = elem[below(&r, 3)],
		.head_dim = between(&r, 1, 3),
		.kv_n = between(&r, 1, 2),
		.layer_total = between(&r, 1, 5),
		.head_total = between(&r, 1, 6),
	};
	uint32_t tokens = chance(&r, 5) ? 0 : between(&r, 1, 40);

	if (chance(&r, 15)) { /* MLA */
		shape.kv_n = 1;
		shape.head_total = 1;
	}
	o->seed = seed;
	random_side(&r, &o->src, &shape, tokens);
	random_side(&r, &o->dst, &shape, tokens);
	run_case(o, &r, chance(&r, 70) ? 0 : between(&r, 0, tokens), tokens, false);
}

static uint64_t from_env(const char *name, uint64_t def)
{
	const char *text = getenv(name);

	return text != NULL && text[0] != '\0' ? strtoull(text, NULL, 0) : def;
}

static void plan__random_layouts(void **state)
{
	struct oracle o;
	uint64_t seed = from_env("TEST_SEED", (uint64_t)mc_now_ns()), cases = from_env("TEST_CASES", CASES), bytes = 0;

	(void)state;
	oracle_init(&o);
	printf("seed %llu, %llu cases\n", (unsigned long long)seed, (unsigned long long)cases);
	fflush(stdout);
	for (uint64_t i = 0; i < cases; i++) {
		random_case(&o, seed + i);
		bytes += o.written;
	}
	printf("%llu bytes, each looked at\n", (unsigned long long)bytes);
	oracle_destroy(&o);
}

/* ---- the models ---- */

static void model_side(struct side *s, const struct shape *shape, uint32_t tp, bool hnd, uint32_t block_tokens,
		       uint32_t tokens)
{
	static const enum mc_kv_dim order[2][MC_KV_NDIM] = {
		{MC_KV_LAYER, MC_KV_KV, MC_KV_BLOCK, MC_KV_TOKEN, MC_KV_HEAD},
		{MC_KV_LAYER, MC_KV_KV, MC_KV_BLOCK, MC_KV_HEAD, MC_KV_TOKEN},
	};

	s->n = tp;
	s->table_n = (tokens + block_tokens - 1) / block_tokens;
	for (uint32_t i = 0; i < tp; i++) {
		s->l[i] = (struct mc_kv_layout){
			.size = sizeof(s->l[i]),
			.elem_bytes = shape->elem_bytes,
			.head_dim = shape->head_dim,
			.kv_n = shape->kv_n,
			.block_tokens = block_tokens,
			.block_n = s->table_n + 2,
			.layer_n = shape->layer_total,
			.layer_total = shape->layer_total,
			.head_total = shape->head_total,
		};
		mc_kv_shard(shape->head_total, tp, i, &s->l[i].head_lo, &s->l[i].head_n);
		assert_int_equal(mc_kv_layout_dense(&s->l[i], order[hnd]), MC_OK);
		assert_int_equal(mc_kv_layout_check(&s->l[i], &s->extent[i], NULL, 0), MC_OK);
		assert_true(s->extent[i] <= BYTES_MAX);
	}
}

/* Heads as they are; layers, head_dim and tokens scaled down. */
static void one_model(struct oracle *o, struct rng *r, const struct perf_model *m, uint32_t src_tp, uint32_t dst_tp)
{
	bool mla = m->kv_heads == 0;
	struct shape shape = {
		.elem_bytes = m->dtype_bytes,
		.head_dim = (mla ? m->latent_rank + m->rope_dim : m->head_dim) / 64,
		.kv_n = mla ? 1 : 2,
		.layer_total = 1 + m->layers % 3,
		.head_total = mla ? 1 : m->kv_heads,
	};

	for (uint32_t i = 0; i < 8; i++) {
		uint32_t tokens = between(r, 65, 140);
		model_side(&o->src, &shape, src_tp, (i & 1) != 0, (i & 2) != 0 ? 16 : 64, tokens);
		model_side(&o->dst, &shape, dst_tp, (i & 4) != 0, (i & 2) != 0 ? 64 : 16, tokens);
		random_table(r, &o->src, o->src.l[0].block_n);
		random_table(r, &o->dst, o->dst.l[0].block_n);
		run_case(o, r, 0, tokens, true);
	}
}

static void plan__every_model(void **state)
{
	static const uint32_t tp[] = {1, 2, 4, 8};
	struct oracle o;
	struct rng r = {1};
	uint32_t models = 0;

	(void)state;
	oracle_init(&o);
	for (const struct perf_model *m; (m = perf_model_get(models)) != NULL; models++)
		for (uint32_t i = 0; i < MC_ARRAY_LEN(tp); i++)
			for (uint32_t k = 0; k < MC_ARRAY_LEN(tp); k++)
				one_model(&o, &r, m, tp[i], tp[k]);
	assert_true(models >= 15);
	printf("%u models\n", models);
	oracle_destroy(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plan__random_layouts),
		cmocka_unit_test(plan__every_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

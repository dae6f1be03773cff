/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kv_runs.c - plans and runs where the right answer is known: who sends, how many runs are left after merging,
 * every error. That the bytes are right for any layout is shown by tests/prop/test_kv_plan.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "kv.h"

enum order { HND, NHD, CROSS };
enum { BLOCKS = 32, LAYERS = 4, HEADS = 8, VEC = 256 };

static const enum mc_kv_dim orders[3][MC_KV_NDIM] = {
	{MC_KV_LAYER, MC_KV_KV, MC_KV_BLOCK, MC_KV_HEAD, MC_KV_TOKEN},
	{MC_KV_LAYER, MC_KV_KV, MC_KV_BLOCK, MC_KV_TOKEN, MC_KV_HEAD},
	{MC_KV_BLOCK, MC_KV_LAYER, MC_KV_KV, MC_KV_HEAD, MC_KV_TOKEN},
};

static uint32_t up[BLOCKS], down[BLOCKS], mixed[BLOCKS];

/* Rank `rank` of tp x pp, pp-major. */
static struct mc_kv_layout part(enum order order, uint32_t block_tokens, uint32_t tp, uint32_t pp, uint32_t rank)
{
	struct mc_kv_layout l = {
		.size = sizeof(l),
		.elem_bytes = 2,
		.head_dim = VEC / 2,
		.kv_n = 2,
		.block_tokens = block_tokens,
		.block_n = BLOCKS,
		.layer_total = LAYERS,
		.head_total = HEADS,
	};

	mc_kv_shard(LAYERS, pp, rank / tp, &l.layer_lo, &l.layer_n);
	mc_kv_shard(HEADS, tp, rank % tp, &l.head_lo, &l.head_n);
	assert_int_equal(mc_kv_layout_dense(&l, orders[order]), MC_OK);
	return l;
}

static struct mc_kv_plan *plan_of(const struct mc_kv_layout *s, uint32_t sn, const struct mc_kv_layout *d, uint32_t dn)
{
	struct mc_kv_plan *plan = NULL;

	assert_int_equal(mc_kv_plan_make(s, sn, d, dn, 0, &plan, NULL, 0), MC_OK);
	return plan;
}

static struct mc_kv_span span_of(const uint32_t *src, const uint32_t *dst, uint32_t tokens)
{
	return (struct mc_kv_span){src, dst, BLOCKS, BLOCKS, 0, tokens, 0, LAYERS};
}

/* One source, one target: are there so many runs, of which the first has this many pieces of that length? */
static void expect_runs(const struct mc_kv_layout *s, const struct mc_kv_layout *d, const struct mc_kv_span *span,
			uint32_t runs, uint32_t count, uint64_t len)
{
	struct mc_kv_plan *plan = NULL;
	struct mc_kv_run run[600];
	struct mc_kv_iter it;
	struct mc_kv_pair pair;

	assert_int_equal(mc_kv_plan_make(s, 1, d, 1, MC_KV_PLAN_PARTIAL, &plan, NULL, 0), MC_OK);
	pair = mc_kv_plan_pair(plan, 0, 0);
	assert_int_equal(mc_kv_iter_init(&it, &pair, span, NULL, 0), MC_OK);
	assert_int_equal(mc_kv_runs_next(&it, run, MC_ARRAY_LEN(run)), runs);
	if (runs > 0) {
		assert_int_equal(run[0].count, count);
		assert_true(run[0].len == len);
		assert_int_equal(run[0].level[0].src == 0, count == 1);
	}
	mc_kv_plan_free(plan);
}

/* ---- merging ---- */

static void runs__same_layout(void **state)
{
	struct mc_kv_layout s = part(HND, 16, 1, 1, 0);
	struct mc_kv_span all = span_of(up, up, BLOCKS * 16), ten = span_of(up, up, 160),
			  back = span_of(down, down, 160), odd = span_of(mixed, up, 160),
			  part_of = span_of(up, up, 164);

	(void)state;
	expect_runs(&s, &s, &all, 1, 1, (uint64_t)LAYERS * 2 * BLOCKS * 16 * HEADS * VEC);
	/* ten blocks in a row, at one stride over K and V of every layer */
	expect_runs(&s, &s, &ten, 1, LAYERS * 2, 10 * 16 * HEADS * VEC);
	expect_runs(&s, &s, &back, 1, LAYERS * 2, 10 * 16 * HEADS * VEC);
	/* no two neighbours on both sides */
	expect_runs(&s, &s, &odd, 10, LAYERS * 2, 16 * HEADS * VEC);
	/* four tokens in the last block: of each head a piece, over K and V of every layer */
	expect_runs(&s, &s, &part_of, 1 + 1, LAYERS * 2, 10 * 16 * HEADS * VEC);
}

static void runs__one_layer(void **state)
{
	struct mc_kv_layout s = part(HND, 16, 1, 1, 0), d = part(HND, 16, 2, 1, 1);
	struct mc_kv_span span = span_of(mixed, up, 160);

	(void)state;
	span.layer_lo = 2;
	span.layer_n = 1;
	expect_runs(&s, &s, &span, 10, 2, 16 * HEADS * VEC);
	expect_runs(&s, &d, &span, 10, 2, 16 * HEADS / 2 * VEC);
	span.layer_n = 0;
	expect_runs(&s, &s, &span, 0, 0, 0);
	span = span_of(up, up, 0);
	expect_runs(&s, &s, &span, 0, 0, 0);
}

static void runs__part_of_the_heads(void **state)
{
	struct mc_kv_layout s = part(NHD, 16, 4, 1, 1), d = part(NHD, 16, 2, 1, 0);
	struct mc_kv_span row = span_of(up, up, 160), odd = span_of(mixed, up, 160);

	(void)state;
	/* two heads of each token are a piece; tokens, then K and V of each layer, are the levels */
	expect_runs(&s, &d, &row, 1, 160 * LAYERS * 2, 2 * VEC);
	expect_runs(&s, &d, &odd, 10, 16 * LAYERS * 2, 2 * VEC);
	s = part(HND, 16, 4, 1, 1);
	d = part(HND, 16, 2, 1, 0);
	/* two heads of a block are contiguous; ten blocks at one stride, for eight layers and k/v */
	expect_runs(&s, &d, &row, 1, 10 * LAYERS * 2, 2 * 16 * VEC);
	expect_runs(&s, &d, &odd, 10, LAYERS * 2, 2 * 16 * VEC);
}

static void runs__other_block_size(void **state)
{
	struct mc_kv_layout n16 = part(NHD, 16, 1, 1, 0), n48 = part(NHD, 48, 1, 1, 0);
	struct mc_kv_layout h16 = part(HND, 16, 1, 1, 0), h64 = part(HND, 64, 1, 1, 0);
	struct mc_kv_span row = span_of(up, up, 192), odd = span_of(mixed, up, 192);

	(void)state;
	/* in NHD neighbouring blocks are one row of tokens, whatever their size */
	expect_runs(&n16, &n48, &row, 1, LAYERS * 2, 192 * HEADS * VEC);
	expect_runs(&n48, &n16, &row, 1, LAYERS * 2, 192 * HEADS * VEC);
	expect_runs(&n16, &n48, &odd, 12, LAYERS * 2, 16 * HEADS * VEC);
	/* in HND 16 tokens of a head are a piece: 12 x 8 of them per layer and k/v */
	expect_runs(&h16, &h64, &row, 3, 4 * HEADS * LAYERS * 2, 16 * VEC);
	expect_runs(&h64, &h16, &odd, 3, 4 * HEADS * LAYERS * 2, 16 * VEC);
}

static void runs__transposed(void **state)
{
	struct mc_kv_layout s = part(NHD, 16, 1, 1, 0), d = part(HND, 16, 1, 1, 0);
	struct mc_kv_span row = span_of(up, up, 32), odd = span_of(mixed, up, 32);

	(void)state;
	/* tokens, heads and layers: three levels, one run per block, or one for K and V of each layer */
	expect_runs(&s, &d, &odd, 2, 16 * HEADS * LAYERS * 2, VEC);
	expect_runs(&s, &d, &row, 2, 16 * HEADS * LAYERS * 2, VEC);
	/* the third level pads: now layers do not continue k/v, and the smallest dimension stays a loop */
	s.stride[MC_KV_LAYER] += 32;
	expect_runs(&s, &d, &odd, 2 * 2, 16 * HEADS * LAYERS, VEC);
}

static void runs__cross_layer_blocks(void **state)
{
	struct mc_kv_layout s = part(CROSS, 16, 1, 1, 0);
	struct mc_kv_span odd = span_of(mixed, up, 160);

	(void)state;
	expect_runs(&s, &s, &odd, 10, 1, (uint64_t)LAYERS * 2 * 16 * HEADS * VEC);
}

static void runs__one_token_per_block(void **state)
{
	struct mc_kv_layout s = part(NHD, 1, 1, 1, 0), d = part(NHD, 16, 1, 1, 0);
	struct mc_kv_span row = span_of(up, up, 30);

	(void)state;
	expect_runs(&s, &d, &row, 1, LAYERS * 2, 30 * HEADS * VEC);
	s.stride[MC_KV_BLOCK] += 32; /* padding: pieces of a token at a stride */
	s.stride[MC_KV_KV] = s.stride[MC_KV_BLOCK] * BLOCKS;
	s.stride[MC_KV_LAYER] = s.stride[MC_KV_KV] * 2;
	expect_runs(&s, &d, &row, 1, 30 * LAYERS * 2, HEADS * VEC);
	/* four such blocks go into each larger one, eight of which are a stride apart */
	s = part(NHD, 1, 1, 1, 0);
	d = part(NHD, 4, 1, 1, 0);
	d.stride[MC_KV_BLOCK] += 32;
	d.stride[MC_KV_KV] = d.stride[MC_KV_BLOCK] * BLOCKS;
	d.stride[MC_KV_LAYER] = d.stride[MC_KV_KV] * 2;
	row = span_of(up, up, 32);
	row.layer_n = 1;
	expect_runs(&s, &d, &row, 1, 8 * 2, 4 * HEADS * VEC);
}

static void runs__bases(void **state)
{
	struct mc_kv_layout s = part(HND, 16, 1, 1, 0), d = s;
	struct mc_kv_span odd = span_of(mixed, up, 16);
	struct mc_kv_plan *plan;
	struct mc_kv_run run[16];
	struct mc_kv_iter it;

	(void)state;
	s.flags = MC_KV_BASE_PER_LAYER | MC_KV_BASE_PER_KV;
	d.flags = MC_KV_BASE_PER_LAYER;
	odd.layer_lo = 1;
	odd.layer_n = 3;
	plan = plan_of(&s, 1, &d, 1);
	struct mc_kv_pair pair = mc_kv_plan_pair(plan, 0, 0);
	assert_int_equal(mc_kv_iter_init(&it, &pair, &odd, NULL, 0), MC_OK);
	assert_int_equal(mc_kv_runs_next(&it, run, 16), 6);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_equal(run[i].src_base / 2, run[i].dst_base + 0);
		assert_true(run[i].dst_base >= 1 && run[i].dst_base <= 3);
		assert_true(run[i].src_off == mixed[0] * s.stride[MC_KV_BLOCK]);
		assert_true(run[i].dst_off == up[0] * d.stride[MC_KV_BLOCK] + run[i].src_base % 2 * d.stride[MC_KV_KV]);
		assert_int_equal(run[i].count, 1);
		for (uint32_t k = 0; k < i; k++)
			assert_int_not_equal(run[k].src_base, run[i].src_base);
	}
	mc_kv_plan_free(plan);
}

static void totals__before_and_after(void **state)
{
	struct mc_kv_layout s = part(NHD, 16, 4, 1, 0), d = part(NHD, 64, 2, 1, 0);
	struct mc_kv_span row = span_of(up, up, 100);
	struct mc_kv_plan *plan = NULL;
	struct mc_kv_totals t;

	(void)state;
	assert_int_equal(mc_kv_plan_make(&s, 1, &d, 1, MC_KV_PLAN_PARTIAL, &plan, NULL, 0), MC_OK);
	struct mc_kv_pair pair = mc_kv_plan_pair(plan, 0, 0);
	assert_int_equal(mc_kv_pair_totals(&pair, &row, &t, NULL, 0), MC_OK);
	assert_true(t.naive == 100 * LAYERS * 2); /* two heads of a token are contiguous on both sides */
	assert_true(t.runs <= 2); /* the whole blocks, the last tokens */
	assert_true(t.pieces == t.naive);
	assert_true(t.bytes == 100 * LAYERS * 2 * 2 * VEC);
	row.layer_n++;
	assert_int_equal(mc_kv_pair_totals(&pair, &row, &t, NULL, 0), MC_ERR_RANGE);
	mc_kv_plan_free(plan);
}

/* ---- requests that are refused ---- */

static void iter_init__refuses(void **state)
{
	struct mc_kv_layout s = part(HND, 16, 1, 1, 0), d = part(HND, 64, 1, 1, 0);
	struct mc_kv_plan *plan = plan_of(&s, 1, &d, 1);
	struct mc_kv_pair pair = mc_kv_plan_pair(plan, 0, 0);
	uint32_t table[BLOCKS];
	struct mc_kv_span good = span_of(up, up, 100), span;
	struct mc_kv_iter it;
	char why[200];

	(void)state;
	assert_int_equal(mc_kv_iter_init(&it, &pair, &good, why, sizeof(why)), MC_OK);
	span = good;
	span.layer_lo = 1;
	assert_int_equal(mc_kv_iter_init(&it, &pair, &span, why, sizeof(why)), MC_ERR_RANGE);
	assert_string_equal(why, "layers 1 to 5 asked, the model has 4");
	span.layer_n = UINT32_MAX;
	assert_int_equal(mc_kv_iter_init(&it, &pair, &span, NULL, 0), MC_ERR_RANGE);
	span = good;
	span.src_block_n = 6;
	assert_int_equal(mc_kv_iter_init(&it, &pair, &span, why, sizeof(why)), MC_ERR_INVAL);
	assert_string_equal(why, "6 source blocks of 16 tokens for tokens up to 100, 7 are needed");
	span = good;
	span.dst_block_n = 1;
	assert_int_equal(mc_kv_iter_init(&it, &pair, &span, why, sizeof(why)), MC_ERR_INVAL);
	assert_non_null(strstr(why, "1 target blocks"));
	span = good;
	span.token_lo = UINT32_MAX;
	assert_int_equal(mc_kv_iter_init(&it, &pair, &span, NULL, 0), MC_ERR_INVAL);
	memcpy(table, up, sizeof(table));
	table[5] = BLOCKS;
	span = good;
	span.src_block = table;
	assert_int_equal(mc_kv_iter_init(&it, &pair, &span, why, sizeof(why)), MC_ERR_RANGE);
	assert_string_equal(why, "source block 5 of the table is 32, the pool has 32 blocks");
	span.token_lo = 96; /* entries that are not needed are not looked at */
	span.token_n = 4;
	assert_int_equal(mc_kv_iter_init(&it, &pair, &span, why, sizeof(why)), MC_OK);
	table[6] = UINT32_MAX; /* -1 in a table of int32 */
	assert_int_equal(mc_kv_iter_init(&it, &pair, &span, why, sizeof(why)), MC_ERR_RANGE);
	mc_kv_plan_free(plan);
}

/* ---- plans ---- */

static uint64_t load_of(const struct mc_kv_plan *plan, uint32_t src)
{
	uint64_t bytes = 0;

	for (uint32_t d = 0; d < plan->dst_n; d++) {
		struct mc_kv_pair pair = mc_kv_plan_pair(plan, src, d);
		bytes += mc_kv_pair_token_bytes(&pair, 0, LAYERS);
	}
	return bytes;
}

static void group(struct mc_kv_layout *l, uint32_t tp, uint32_t pp)
{
	for (uint32_t i = 0; i < tp * pp; i++)
		l[i] = part(HND, 16, tp, pp, i);
}

static void plan__tp_that_does_not_divide(void **state)
{
	struct mc_kv_layout s[3], d[4];
	struct mc_kv_plan *plan;

	(void)state;
	group(s, 3, 1); /* heads 0-1, 2-4, 5-7 */
	group(d, 4, 1); /* heads 0-1, 2-3, 4-5, 6-7 */
	plan = plan_of(s, 3, d, 4);
	assert_int_equal(plan->piece_n, 5);
	assert_int_equal(mc_kv_plan_sources(plan, 2, 0, LAYERS), 2);
	assert_int_equal(mc_kv_plan_sources(plan, 3, 0, LAYERS), 1);
	assert_int_equal(mc_kv_plan_targets(plan, 1, 0, LAYERS), 2);
	assert_int_equal(mc_kv_plan_pair(plan, 0, 1).piece_n, 0);
	assert_int_equal(mc_kv_plan_pair(plan, 1, 2).piece_n, 1);
	assert_int_equal(mc_kv_plan_pair(plan, 1, 2).piece->head_lo, 4);
	assert_int_equal(mc_kv_plan_pair(plan, 1, 2).piece->head_n, 1);
	mc_kv_plan_free(plan);
}

static void plan__pipeline_stages(void **state)
{
	struct mc_kv_layout s[4], d[4];
	struct mc_kv_plan *plan;

	(void)state;
	group(s, 2, 2);
	group(d, 4, 1);
	plan = plan_of(s, 4, d, 4);
	assert_int_equal(plan->piece_n, 8);
	assert_int_equal(mc_kv_plan_sources(plan, 0, 0, LAYERS), 2);
	assert_int_equal(mc_kv_plan_sources(plan, 0, 0, 2), 1);
	assert_int_equal(mc_kv_plan_sources(plan, 0, 1, 2), 2);
	assert_int_equal(mc_kv_plan_sources(plan, 0, 2, 0), 0);
	mc_kv_plan_free(plan);
}

static void plan__replicas_share(void **state)
{
	struct mc_kv_layout s[16], d[6];
	struct mc_kv_plan *plan;
	uint64_t head = (uint64_t)LAYERS * 2 * VEC;

	(void)state;
	for (uint32_t i = 0; i < 6; i++) { /* all hold everything, as with MLA */
		s[i] = part(HND, 16, 1, 1, 0);
		d[i] = s[i];
	}
	plan = plan_of(s, 2, d, 3);
	assert_int_equal(plan->piece_n, 3);
	assert_true(load_of(plan, 0) + load_of(plan, 1) == 3 * HEADS * head);
	assert_true(load_of(plan, 0) == 2 * HEADS * head || load_of(plan, 1) == 2 * HEADS * head);
	mc_kv_plan_free(plan);
	plan = plan_of(s, 3, d, 6);
	for (uint32_t i = 0; i < 3; i++)
		assert_true(load_of(plan, i) == 2 * HEADS * head);
	mc_kv_plan_free(plan);
	for (uint32_t i = 0; i < 16; i++) /* two ranks hold each head */
		s[i] = part(HND, 16, 16, 1, i);
	group(d, 2, 1);
	group(d + 2, 2, 1); /* two decode groups in one: every head is wanted twice */
	plan = plan_of(s, 16, d, 4);
	for (uint32_t i = 0; i < 16; i++)
		assert_true(load_of(plan, i) == head);
	mc_kv_plan_free(plan);
}

/* A first choice that looks good may be bad: the source with a share of its own must not get the free piece too. */
static void plan__forced_pieces_count(void **state)
{
	struct mc_kv_layout s[2], d[2];
	struct mc_kv_plan *plan;

	(void)state;
	s[0] = part(HND, 16, 1, 1, 0);
	s[1] = part(HND, 16, 2, 1, 0); /* heads 0-3 */
	d[0] = part(HND, 16, 2, 1, 0);
	d[1] = part(HND, 16, 2, 1, 1);
	plan = plan_of(s, 2, d, 2);
	assert_true(load_of(plan, 0) == load_of(plan, 1));
	mc_kv_plan_free(plan);
}

static void plan__refuses(void **state)
{
	struct mc_kv_layout s[4], d[2];
	struct mc_kv_plan *plan = NULL;
	char why[200];

	(void)state;
	group(s, 4, 1);
	group(d, 2, 1);
	s[3] = s[2]; /* nobody has heads 6 and 7 */
	assert_int_equal(mc_kv_plan_make(s, 4, d, 2, 0, &plan, why, sizeof(why)), MC_ERR_NOENT);
	assert_string_equal(why, "target 1 needs layers 0..3, KV heads 6..7, which no source has");
	d[0].head_dim /= 2;
	assert_int_equal(mc_kv_plan_make(s, 4, d, 2, 0, &plan, why, sizeof(why)), MC_ERR_MISMATCH);
	assert_non_null(strstr(why, "target 0 has elem_bytes 2, head_dim 64"));
	d[1].stride[MC_KV_TOKEN] = 2;
	assert_int_equal(mc_kv_plan_make(s, 4, d, 2, 0, &plan, why, sizeof(why)), MC_ERR_INVAL);
	assert_non_null(strstr(why, "layout of target 1: token stride 2 overlaps"));
	assert_int_equal(mc_kv_plan_make(s, 0, d, 2, 0, &plan, why, sizeof(why)), MC_ERR_INVAL);
	assert_int_equal(mc_kv_plan_make(s, 4, d, MC_KV_RANKS_MAX + 1, 0, &plan, NULL, 0), MC_ERR_INVAL);
	assert_null(plan);
	mc_kv_plan_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs__same_layout),
		cmocka_unit_test(runs__one_layer),
		cmocka_unit_test(runs__part_of_the_heads),
		cmocka_unit_test(runs__other_block_size),
		cmocka_unit_test(runs__transposed),
		cmocka_unit_test(runs__cross_layer_blocks),
		cmocka_unit_test(runs__one_token_per_block),
		cmocka_unit_test(runs__bases),
		cmocka_unit_test(totals__before_and_after),
		cmocka_unit_test(iter_init__refuses),
		cmocka_unit_test(plan__tp_that_does_not_divide),
		cmocka_unit_test(plan__pipeline_stages),
		cmocka_unit_test(plan__replicas_share),
		cmocka_unit_test(plan__forced_pieces_count),
		cmocka_unit_test(plan__refuses),
	};

	for (uint32_t i = 0; i < BLOCKS; i++) {
		up[i] = i;
		down[i] = BLOCKS - 1 - i;
		mixed[i] = i * 13 % BLOCKS;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

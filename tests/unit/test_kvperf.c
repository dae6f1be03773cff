/* SPDX-License-Identifier: BSD-3-Clause */
/* test_kvperf.c - mcperf kv: options, shards, block tables, and content that does not depend on the layout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "kvperf.h"

static struct kvperf_opts parse_ok(int argc, const char **argv)
{
	struct kvperf_opts o;
	struct perf_err err = {""};

	assert_true(kvperf_opts_parse(argc, (char **)(uintptr_t)argv, &o, &err));
	assert_string_equal(err.text, "");
	return o;
}

#define PARSE(...)                                                                                                     \
	parse_ok(                                                                                                      \
		(int)(sizeof((const char *[]){"kv", "--model", "llama-3.1-8b", "--src", "tp=2", "--dst", "tp=4,pp=2",  \
					      __VA_ARGS__}) /                                                          \
		      sizeof(char *)),                                                                                 \
		(const char *[]){"kv", "--model", "llama-3.1-8b", "--src", "tp=2", "--dst", "tp=4,pp=2", __VA_ARGS__})

static void opts__defaults(void **state)
{
	struct kvperf_opts o = PARSE("--tokens", "100");

	(void)state;
	assert_int_equal(o.tokens, 100);
	assert_int_equal(o.side[KVP_SRC].tp, 2);
	assert_int_equal(o.side[KVP_SRC].pp, 1);
	assert_int_equal(o.side[KVP_DST].tp, 4);
	assert_int_equal(o.side[KVP_DST].pp, 2);
	assert_int_equal(o.side[KVP_DST].block_tokens, 16);
	assert_string_equal(o.side[KVP_DST].layout, "HND");
	assert_true(o.verify && !o.pull && !o.plan);
	o = PARSE("--pull", "--no-verify", "--dst-layout", "nhd+layers", "--src-block", "64", "--compute", "2.5");
	assert_true(o.pull && !o.verify);
	assert_int_equal(o.side[KVP_DST].flags, MC_KV_BASE_PER_LAYER);
	assert_int_equal(o.side[KVP_DST].order[4], MC_KV_HEAD);
	assert_int_equal(o.side[KVP_SRC].order[4], MC_KV_TOKEN);
	assert_int_equal(o.side[KVP_SRC].block_tokens, 64);
}

static void opts__errors(void **state)
{
	static const char *const bad[][2] = {
		{"--src", "4"},           {"--src", "tp=0"},         {"--src", "tp=2,tp=2"},
		{"--dst", "tp=2,xp=2"},   {"--dst", "tp=2000"},      {"--dst", ""},
		{"--src-layout", "HNDX"}, {"--src-layout", "LKBTT"}, {"--src-layout", ""},
		{"--src-layout", "+kv"},  {"--dst-layout", "HND+x"}, {"--src-block", "0"},
		{"--tokens", "0"},        {"--tokens", "16777216"},  {"--layers", "x"},
		{"--kv-bytes", "3"},      {"--compute", "-1"},       {"--compute-by", "magic"},
		{"--iters", "0"},         {"--timeout", "0"},        {"--layers-per-push", "0"},
		{"--bogus", "1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *argv[] = {"kv",    "--model", "llama-3.1-8b", "--src",  "tp=2",
				      "--dst", "tp=2",    bad[i][0],      bad[i][1]};
		struct kvperf_opts o;
		struct perf_err err = {""};
		assert_false(kvperf_opts_parse(9, (char **)(uintptr_t)argv, &o, &err));
		assert_non_null(strstr(err.text, bad[i][0]));
		/* what is wrong is quoted, when the option exists */
		if (strcmp(bad[i][0], "--bogus") != 0)
			assert_non_null(strstr(err.text, bad[i][1]));
	}
}

static struct kvperf_shape shape_of(const char *model, uint64_t layers, uint64_t heads, uint64_t tokens)
{
	struct kvperf_opts o = {.model = model, .layers = layers, .heads = heads, .tokens = tokens};
	struct kvperf_shape s;
	struct perf_err err = {""};

	assert_true(kvperf_shape_set(&o, &s, &err));
	return s;
}

static void shape__models(void **state)
{
	struct kvperf_shape s = shape_of("deepseek-v3", 3, 0, 10);
	const struct perf_model *m;

	(void)state;
	assert_int_equal(s.kv_n, 1);
	assert_int_equal(s.heads, 1);
	assert_int_equal(s.vec, 576 * 2);
	s = shape_of("llama-3.1-70b", 0, 6, 10);
	assert_int_equal(s.layers, 80);
	assert_int_equal(s.heads, 6);
	assert_int_equal(s.kv_n, 2);
	for (size_t i = 0; (m = perf_model_get(i)) != NULL; i++) {
		/* content is made in words of 8 bytes */
		struct kvperf_opts o = {.model = m->alias, .tokens = 1, .kv_bytes = 1};
		struct perf_err err = {""};
		assert_true(kvperf_shape_set(&o, &s, &err));
		assert_int_equal(s.vec % 8, 0);
	}
}

static void shape__errors(void **state)
{
	static const struct {
		const char *model, *says;
		uint64_t layers, heads, pp;
	} bad[] = {
		{"gpt-17", "unknown model gpt-17", 0, 0, 1},
		{"llama-3.1-8b", "--layers 33", 33, 0, 1},
		{"deepseek-v3", "--heads", 0, 2, 1},
		{"llama-3.1-8b", "--dst pp=3", 2, 0, 3},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct kvperf_opts o = {
			.model = bad[i].model, .layers = bad[i].layers, .heads = bad[i].heads, .tokens = 1};
		struct kvperf_shape s;
		struct perf_err err = {""};
		o.side[KVP_SRC].pp = 1;
		o.side[KVP_DST].pp = bad[i].pp;
		assert_false(kvperf_shape_set(&o, &s, &err));
		assert_non_null(strstr(err.text, bad[i].says));
	}
}

static void block_pairs__counts_overlaps(void **state)
{
	static const uint64_t size[] = {1, 2, 3, 5, 16, 24, 64};

	(void)state;
	for (uint32_t tokens = 1; tokens < 200; tokens += 7) {
		for (size_t x = 0; x < 7; x++) {
			for (size_t y = 0; y < 7; y++) {
				struct kvperf_shape s = {.tokens = tokens};
				struct kvperf_side a = {.block_tokens = size[x]}, b = {.block_tokens = size[y]};
				uint64_t n = 1;
				for (uint32_t t = 1; t < tokens; t++)
					n += t % size[x] == 0 || t % size[y] == 0;
				assert_int_equal(kvperf_block_pairs(&s, &a, &b), n);
			}
		}
	}
}

static void table__distinct_and_repeatable(void **state)
{
	uint32_t a[50], b[50], other[50];
	bool seen[60] = {false}, ordered = true;

	(void)state;
	assert_true(kvperf_table_make(3, KVP_SRC, 60, a, 50));
	assert_true(kvperf_table_make(3, KVP_SRC, 60, b, 50));
	assert_true(kvperf_table_make(3, KVP_DST, 60, other, 50));
	assert_memory_equal(a, b, sizeof(a));
	assert_memory_not_equal(a, other, sizeof(a));
	for (uint32_t i = 0; i < 50; i++) {
		assert_true(a[i] < 60 && !seen[a[i]]);
		seen[a[i]] = true;
		ordered &= i == 0 || a[i] > a[i - 1];
	}
	assert_false(ordered);
}

/* ---- content ---- */

enum { TOKENS = 45, LAYERS = 5, HEADS = 6 };

struct rank {
	struct kvperf_shape shape;
	struct kvperf_side side;
	struct mc_kv_layout layout;
	uint32_t block[TOKENS];
	struct kvperf_view view;
};

static void rank_up(struct rank *r, const char *model, const char *layout, uint64_t tp, uint64_t pp, uint32_t index,
		    uint64_t block)
{
	struct perf_err err = {""};
	uint32_t pool_n;

	memset(r, 0, sizeof(*r));
	r->shape = shape_of(model, LAYERS, strstr(model, "deepseek") ? 0 : HEADS, TOKENS);
	r->side.tp = tp;
	r->side.pp = pp;
	r->side.block_tokens = block;
	assert_true(kvperf_parse_layout("", layout, &r->side, &err));
	pool_n = kvperf_pool_n(&r->shape, &r->side);
	assert_true(kvperf_layout(&r->shape, &r->side, index, pool_n, &r->layout));
	assert_true(kvperf_table_make(7, KVP_SRC, pool_n, r->block, kvperf_table_n(&r->shape, &r->side)));
	r->view = (struct kvperf_view){.layout = &r->layout, .block = r->block, .tokens = TOKENS, .seed = 11};
	r->view.mem = malloc(kvperf_extent(&r->layout) * kvperf_base_n(&r->layout));
	assert_non_null(r->view.mem);
	kvperf_poison(&r->view);
}

static const char *const layouts[] = {"HND",        "NHD",    "CROSS",         "CROSS-HND",
				      "NHD+layers", "HND+kv", "HND+layers+kv", "HTBKL"};

static void content__same_in_every_layout(void **state)
{
	(void)state;
	for (size_t x = 0; x < 8; x++) {
		for (size_t y = 0; y < 8; y++) {
			struct rank a, b;
			struct kvperf_bad bad;
			uint64_t bytes;
			rank_up(&a, "llama-3.1-8b", layouts[x], 1, 1, 0, 16);
			rank_up(&b, "llama-3.1-8b", layouts[y], 3, 2, 4, 5);
			kvperf_fill(&a.view, 0, LAYERS);
			assert_false(kvperf_check(&b.view, &bad, &bytes));
			for (uint32_t l = b.layout.layer_lo; l < b.layout.layer_lo + b.layout.layer_n; l++)
				for (uint32_t kv = 0; kv < 2; kv++)
					for (uint32_t t = 0; t < TOKENS; t++)
						for (uint32_t h = b.layout.head_lo;
						     h < b.layout.head_lo + b.layout.head_n; h++)
							memcpy(kvperf_place(&b.view, l, kv, t, h),
							       kvperf_place(&a.view, l, kv, t, h), b.shape.vec);
			assert_true(kvperf_check(&b.view, &bad, &bytes));
			assert_int_equal(bytes, kvperf_shard_bytes(&b.shape, &b.layout));
			assert_int_equal(kvperf_stray(&b.view), 0);
			b.view.round++; /* content of another round is wrong everywhere */
			assert_false(kvperf_check(&b.view, &bad, &bytes));
			assert_int_equal(bad.token, 0);
			free(a.view.mem);
			free(b.view.mem);
		}
	}
}

static void content__names_each_wrong_byte(void **state)
{
	(void)state;
	for (size_t x = 0; x < 8; x++) {
		struct rank r;
		struct kvperf_bad bad;
		uint64_t bytes;
		rank_up(&r, "llama-3.1-8b", layouts[x], 2, 2, 3, 16);
		kvperf_fill(&r.view, 0, LAYERS);
		for (uint32_t i = 0; i < 300; i++) {
			uint32_t l = r.layout.layer_lo + i % r.layout.layer_n, kv = i / 7 % 2, t = i * 13 % TOKENS;
			uint32_t h = r.layout.head_lo + i / 3 % r.layout.head_n, b = i * 31 % r.shape.vec;
			uint8_t *p = kvperf_place(&r.view, l, kv, t, h) + b;
			*p ^= (uint8_t)(1u << i % 8);
			assert_false(kvperf_check(&r.view, &bad, &bytes));
			assert_int_equal(bytes, 0);
			assert_int_equal(bad.layer, l);
			assert_int_equal(bad.kv, kv);
			assert_int_equal(bad.token, t);
			assert_int_equal(bad.head, h);
			assert_int_equal(bad.byte.off, b);
			assert_int_equal(bad.byte.actual, *p);
			*p ^= (uint8_t)(1u << i % 8);
			assert_int_equal(bad.byte.expected, *p);
		}
		assert_true(kvperf_check(&r.view, &bad, &bytes));
		free(r.view.mem);
	}
}

/* Every byte of the pool belongs either to the sequence or to what must stay poison. */
static void stray__sees_every_other_byte(void **state)
{
	(void)state;
	for (size_t x = 0; x < 8; x++) {
		struct rank r;
		rank_up(&r, "deepseek-v3", layouts[x], 2, 2, 1, 16);
		uint64_t all = kvperf_extent(&r.layout) * kvperf_base_n(&r.layout);
		uint64_t held = kvperf_shard_bytes(&r.shape, &r.layout);
		assert_true(all > held);
		memset(r.view.mem, 0, all);
		assert_int_equal(kvperf_stray(&r.view), all - held);
		kvperf_poison(&r.view);
		kvperf_fill(&r.view, 0, LAYERS);
		assert_int_equal(kvperf_stray(&r.view), 0);
		free(r.view.mem);
	}
}

static void fill__only_those_layers(void **state)
{
	struct rank r;
	struct kvperf_bad bad;
	uint64_t bytes;

	(void)state;
	rank_up(&r, "llama-3.1-8b", "NHD", 1, 2, 1, 16); /* layers 2, 3 and 4 */
	assert_int_equal(r.layout.layer_lo, 2);
	kvperf_fill(&r.view, 0, 4);
	assert_false(kvperf_check(&r.view, &bad, &bytes));
	assert_int_equal(bad.layer, 4);
	assert_int_equal(bad.byte.actual, KVP_POISON);
	kvperf_fill(&r.view, 4, 1);
	assert_true(kvperf_check(&r.view, &bad, &bytes));
	free(r.view.mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opts__defaults),
		cmocka_unit_test(opts__errors),
		cmocka_unit_test(shape__models),
		cmocka_unit_test(shape__errors),
		cmocka_unit_test(block_pairs__counts_overlaps),
		cmocka_unit_test(table__distinct_and_repeatable),
		cmocka_unit_test(content__same_in_every_layout),
		cmocka_unit_test(content__names_each_wrong_byte),
		cmocka_unit_test(stray__sees_every_other_byte),
		cmocka_unit_test(fill__only_those_layers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sweep_plan.c - flows and lanes of every pattern; block tables that never overlap while requests are under way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "sweep.h"

static struct sweep_opts usual(void)
{
	return (struct sweep_opts){.cmd = "bw",
				   .size = {4096},
				   .size_n = 1,
				   .batch = {16},
				   .batch_n = 1,
				   .window = 2,
				   .threads = 1,
				   .pool = 1 << 20,
				   .seed = 1};
}

/* No two lanes share an area, and every rank has as many as it was told. */
static void check_areas(const struct sweep_plan *p, uint32_t ranks)
{
	uint8_t *used = calloc((size_t)ranks * 4096, 1);

	assert_non_null(used);
	for (uint32_t i = 0; i < p->lane_n; i++) {
		const struct sweep_lane *l = &p->lane[i];
		uint32_t at[2] = {l->src_rank * 4096 + l->src_area, l->dst_rank * 4096 + l->dst_area};
		assert_true(l->src_area < p->area_n[l->src_rank] && l->dst_area < p->area_n[l->dst_rank]);
		assert_int_equal(used[at[0]]++, 0);
		assert_int_equal(used[at[1]]++, 0);
	}
	free(used);
}

static void pattern__flows(void **state)
{
	static const struct {
		enum sweep_pattern pattern;
		uint32_t ranks, flows, from, to;
	} t[] = {
		{SWEEP_PAIR, 2, 1, 0, 1},
		{SWEEP_PAIR, 6, 3, 2, 5},
		{SWEEP_MANY_TO_ONE, 5, 4, 4, 0},
		{SWEEP_ONE_TO_MANY, 5, 4, 0, 4},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct sweep_opts o = usual();
		struct perf_err err = {""};
		struct sweep_plan p;
		o.pattern = t[i].pattern;
		assert_true(sweep_plan_make(&o, t[i].ranks, NULL, &p, &err));
		assert_int_equal(p.flow_n, t[i].flows);
		assert_int_equal(p.flow[p.flow_n - 1].from, t[i].from);
		assert_int_equal(p.flow[p.flow_n - 1].to, t[i].to);
		check_areas(&p, t[i].ranks);
		sweep_plan_free(&p);
		o.bidir = true;
		assert_true(sweep_plan_make(&o, t[i].ranks, NULL, &p, &err));
		assert_int_equal(p.flow_n, 2 * t[i].flows);
		check_areas(&p, t[i].ranks);
		sweep_plan_free(&p);
	}
}

static void pattern__refused(void **state)
{
	struct sweep_opts o = usual();
	struct perf_err err = {""};
	struct sweep_plan p;

	(void)state;
	assert_false(sweep_plan_make(&o, 3, NULL, &p, &err));
	assert_non_null(strstr(err.text, "even"));
	err.text[0] = '\0';
	assert_false(sweep_plan_make(&o, 1, NULL, &p, &err));
	assert_non_null(strstr(err.text, "nobody"));
	err.text[0] = '\0';
	o.size[0] = UINT64_C(1) << 36;
	o.batch[0] = 1 << 20;
	o.window = 1024;
	assert_false(sweep_plan_make(&o, 2, NULL, &p, &err));
	assert_non_null(strstr(err.text, "too much"));
}

/* Every flow is driven, every thread that can have work has some, and get turns the bytes' way round. */
static void lanes__threads(void **state)
{
	(void)state;
	for (uint32_t threads = 1; threads <= 17; threads++) {
		struct sweep_opts o = usual();
		struct perf_err err = {""};
		struct sweep_plan p;
		uint32_t flows = 4, busy = 0, driven = 0;
		o.pattern = SWEEP_ONE_TO_MANY;
		o.op = SWEEP_GET;
		o.threads = threads;
		assert_true(sweep_plan_make(&o, 5, NULL, &p, &err));
		for (uint32_t t = 0; t < threads; t++) {
			bool any = false;
			for (uint32_t i = 0; i < p.lane_n; i++)
				any |= p.lane[i].thread == t;
			busy += any;
		}
		for (uint32_t f = 0; f < flows; f++) {
			bool any = false;
			for (uint32_t i = 0; i < p.lane_n; i++)
				any |= p.lane[i].flow == f;
			driven += any;
		}
		assert_int_equal(busy, threads);
		assert_int_equal(driven, flows);
		assert_int_equal(p.lane_n, threads > flows ? threads : flows);
		assert_int_equal(p.lane[0].src_rank, 1);
		assert_int_equal(p.lane[0].dst_rank, 0);
		check_areas(&p, 5);
		sweep_plan_free(&p);
	}
}

static void matrix__bytes(void **state)
{
	uint64_t bytes[] = {0, 10000, 0, 0, 0, 5, 0, 0, 0};
	struct perf_matrix m = {.n = 3, .bytes = bytes};
	struct sweep_opts o = usual();
	struct perf_err err = {""};
	struct sweep_plan p;
	struct sweep_shape h;

	(void)state;
	o.pattern = SWEEP_MATRIX;
	assert_true(sweep_plan_make(&o, 3, &m, &p, &err));
	assert_int_equal(p.flow_n, 2);
	h = sweep_shape_of(&p, 0, 4096, 16);
	assert_int_equal(h.blocks, 3);
	assert_int_equal(sweep_block_len(&h, 1), 4096);
	assert_int_equal(sweep_block_len(&h, 2), 10000 - 8192);
	h = sweep_shape_of(&p, 1, 4096, 16);
	assert_int_equal(h.blocks, 1);
	assert_int_equal(sweep_block_len(&h, 0), 5);
	sweep_plan_free(&p);
}

/* `window` requests that follow each other never write to the same place; all lies within the area. */
static void tables__disjoint(void **state)
{
	static const uint64_t size[] = {1, 7, 8, 4096, 100000}, batch[] = {1, 3, 64, 300000};

	(void)state;
	for (size_t i = 0; i < sizeof(size) / sizeof(size[0]) * sizeof(batch) / sizeof(batch[0]); i++) {
		struct sweep_opts o = usual();
		struct perf_err err = {""};
		struct sweep_plan p;
		struct sweep_tables t;
		struct sweep_shape h;
		uint8_t *used;
		o.size[0] = size[i % 5];
		o.batch[0] = batch[i / 5];
		o.window = 3;
		if (o.size[0] * o.batch[0] > 1 << 28)
			continue;
		assert_true(sweep_plan_make(&o, 2, NULL, &p, &err));
		h = sweep_shape_of(&p, 0, o.size[0], o.batch[0]);
		assert_true(h.tables >= o.window);
		assert_true(h.tables * h.blocks * h.stride <= p.area_len);
		assert_true(sweep_tables_make(&h, SWEEP_RANDOM, 5, &t));
		used = calloc(h.tables * h.blocks, 1);
		assert_non_null(used);
		for (uint64_t r = 0; r < h.tables; r++) {
			for (uint64_t b = 0; b < h.blocks; b++) {
				uint64_t dst = sweep_block_dst(&t, r, b);
				assert_true(dst % 8 == 0 && dst + h.size <= p.area_len);
				assert_true(sweep_block_src(&t, r, b) + h.size <= p.area_len);
				assert_int_equal(used[dst / h.stride]++, 0);
				/* the next round writes there something else */
				assert_int_equal(sweep_block_dst(&t, r + h.tables, b), dst);
				assert_int_not_equal(sweep_block_src(&t, r, b), sweep_block_src(&t, r + h.tables, b));
			}
		}
		free(used);
		h = sweep_shape_bulk(&p, &h);
		assert_int_equal(h.blocks, 1);
		assert_int_equal(h.bytes, o.size[0] * o.batch[0]);
		assert_true(h.tables >= 1 && h.tables * h.stride <= p.area_len);
		sweep_tables_free(&t);
		sweep_plan_free(&p);
	}
	sweep_tables_free(NULL);
	sweep_plan_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pattern__flows), cmocka_unit_test(pattern__refused), cmocka_unit_test(lanes__threads),
		cmocka_unit_test(matrix__bytes),  cmocka_unit_test(tables__disjoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

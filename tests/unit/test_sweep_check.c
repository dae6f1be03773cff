/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sweep_check.c - the check of mcperf bw finds every kind of wrong transfer, and nothing in right ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "sweep.h"

/* One rank that sends to itself: source and target area side by side. */
struct fixture {
	struct sweep s;
	struct sweep_lane lane;
	struct sweep_tables t;
};

enum { AREA = 64 * 1024, TABLES = 4, BLOCKS = 5, SIZE = 100, STRIDE = 104 };

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sweep_shape h = {
		.size = SIZE, .blocks = BLOCKS, .bytes = SIZE * BLOCKS, .stride = STRIDE, .tables = TABLES};

	assert_non_null(f);
	f->lane = (struct sweep_lane){.src_area = 0, .dst_area = 1};
	f->s.job.cmd = "test";
	f->s.plan.lane = &f->lane;
	f->s.plan.lane_n = 1;
	f->s.plan.area_len = AREA;
	f->s.base = malloc(2 * AREA);
	assert_non_null(f->s.base);
	assert_true(sweep_tables_make(&h, SWEEP_RANDOM, 7, &f->t));
	sweep_fill(&f->s);
	sweep_poison(&f->s);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	sweep_tables_free(&f->t);
	free(f->s.base);
	free(f);
	return 0;
}

static void move(struct fixture *f, uint64_t i)
{
	for (uint64_t b = 0; b < BLOCKS; b++)
		memcpy(f->s.base + AREA + sweep_block_dst(&f->t, i, b), f->s.base + sweep_block_src(&f->t, i, b), SIZE);
}

static struct sweep_result check(struct fixture *f, uint64_t its)
{
	struct sweep_result res = {0};

	sweep_check(&f->s, &f->t, 0, its, &res);
	return res;
}

static void right__after_any_number(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(check(f, 0).wrong, 0);
	for (uint64_t i = 0; i < 3 * TABLES + 1; i++) {
		struct sweep_result res;
		move(f, i);
		res = check(f, i + 1);
		assert_int_equal(res.wrong, 0);
		assert_int_equal(res.checked, (i + 1 < TABLES ? i + 1 : TABLES) * BLOCKS * SIZE);
	}
}

static void wrong__lost_late_or_stray(void **state)
{
	struct fixture *f = *state;
	uint8_t *dst = f->s.base + AREA;

	for (uint64_t i = 0; i < TABLES + 1; i++)
		move(f, i);
	assert_int_equal(check(f, TABLES + 1).wrong, 0);
	assert_true(check(f, TABLES + 2).wrong > 0); /* a request that did not arrive */
	assert_true(check(f, TABLES).wrong > 0);     /* one that nobody sent */
	dst[sweep_block_dst(&f->t, 2, 3) + SIZE - 1] ^= 1;
	assert_int_equal(check(f, TABLES + 1).wrong, 1); /* one bit */
	dst[sweep_block_dst(&f->t, 2, 3) + SIZE - 1] ^= 1;
	dst[sweep_block_dst(&f->t, 1, 1) + SIZE] ^= 1; /* beyond the end of a block */
	assert_int_equal(check(f, TABLES + 1).wrong, 1);
	dst[sweep_block_dst(&f->t, 1, 1) + SIZE] ^= 1;
	dst[AREA - 1] ^= 1; /* beyond all tables */
	assert_int_equal(check(f, TABLES + 1).wrong, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(right__after_any_number, set_up, tear_down),
		cmocka_unit_test_setup_teardown(wrong__lost_late_or_stray, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

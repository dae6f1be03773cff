/* SPDX-License-Identifier: BSD-3-Clause */
/* test_util.c - checked sizes, deadlines, the list, random numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mc.h"
#include "util.h"

static void add_u64__overflow(void **state)
{
	uint64_t out = 7;

	(void)state;
	assert_false(mc_add_u64(UINT64_MAX, 1, &out));
	assert_false(mc_add_u64(UINT64_MAX / 2 + 1, UINT64_MAX / 2 + 1, &out));
	assert_int_equal(out, 7); /* untouched */
	assert_true(mc_add_u64(UINT64_MAX - 1, 1, &out));
	assert_true(out == UINT64_MAX);
}

static void mul_u64__overflow(void **state)
{
	uint64_t out = 7;

	(void)state;
	assert_false(mc_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
	assert_false(mc_mul_u64(UINT64_MAX, 2, &out));
	assert_int_equal(out, 7);
	assert_true(mc_mul_u64(UINT64_MAX, 1, &out));
	assert_true(out == UINT64_MAX);
	assert_true(mc_mul_u64(UINT64_MAX, 0, &out));
	assert_int_equal(out, 0);
}

static void range_ok__outside(void **state)
{
	(void)state;
	assert_false(mc_range_ok(0, 11, 10));
	assert_false(mc_range_ok(10, 1, 10));
	assert_false(mc_range_ok(11, 0, 10));
	assert_false(mc_range_ok(UINT64_MAX, 1, 10)); /* off + len wraps to 0 */
	assert_false(mc_range_ok(1, UINT64_MAX, 10));
	assert_false(mc_range_ok(UINT64_MAX, UINT64_MAX, UINT64_MAX));
	assert_true(mc_range_ok(0, 10, 10));
	assert_true(mc_range_ok(10, 0, 10));
	assert_true(mc_range_ok(0, 0, 0));
	assert_true(mc_range_ok(1, UINT64_MAX - 1, UINT64_MAX));
}

static void narrow_u32__too_large(void **state)
{
	uint32_t out = 7;

	(void)state;
	assert_false(mc_narrow_u32(UINT64_C(1) << 32, &out));
	assert_int_equal(out, 7);
	assert_true(mc_narrow_u32(UINT32_MAX, &out));
	assert_true(out == UINT32_MAX);
}

static void deadline__limits(void **state)
{
	(void)state;
	assert_true(mc_deadline(1000, MC_FOREVER) == INT64_MAX);
	assert_true(mc_deadline(1000, INT64_MAX) == INT64_MAX);
	assert_true(mc_deadline(1000, INT64_MAX - 1000) == INT64_MAX);
	assert_true(mc_deadline(1000, INT64_MAX - 1001) == INT64_MAX - 1);
	assert_true(mc_deadline(1000, 0) == 1000);
	assert_true(mc_deadline(1000, 5) == 1005);
}

static void now__does_not_go_back(void **state)
{
	const int64_t a = mc_now_ns(), b = mc_now_ns();

	(void)state;
	assert_true(a > 0);
	assert_true(b >= a);
}

struct item {
	int value;
	struct mc_list link;
};

static int pop_value(struct mc_list *head)
{
	struct mc_list *e = mc_list_pop(head);

	return e == NULL ? -1 : mc_container_of(e, struct item, link)->value;
}

static void list__order_and_removal(void **state)
{
	struct item it[4];
	struct mc_list head;

	(void)state;
	mc_list_init(&head);
	assert_true(mc_list_empty(&head));
	assert_null(mc_list_pop(&head));
	for (int i = 0; i < 4; i++) {
		it[i].value = i;
		mc_list_add_tail(&head, &it[i].link);
	}
	assert_false(mc_list_empty(&head));
	mc_list_del(&it[1].link);
	mc_list_del(&it[1].link); /* a removed element points to itself: once more does no harm */
	assert_int_equal(pop_value(&head), 0);
	assert_int_equal(pop_value(&head), 2);
	mc_list_add_tail(&head, &it[1].link);
	assert_int_equal(pop_value(&head), 3);
	assert_int_equal(pop_value(&head), 1);
	assert_int_equal(pop_value(&head), -1);
	assert_true(mc_list_empty(&head));
}

static void random_u64__never_zero_never_twice(void **state)
{
	enum { N = 512 };
	uint64_t v[N], ones = 0, zeros = 0;

	(void)state;
	for (int i = 0; i < N; i++) {
		v[i] = mc_random_u64();
		assert_true(v[i] != 0);
		ones |= v[i];
		zeros |= ~v[i];
		for (int j = 0; j < i; j++) /* by chance: once in 10^14 runs */
			assert_true(v[i] != v[j]);
	}
	/* Every bit was seen both ways, or it is no 64-bit random number. */
	assert_true(ones == UINT64_MAX);
	assert_true(zeros == UINT64_MAX);
}

/* What the counter says of a time lies between what the clock says of two that enclose it, and are enclosed by it. */
static void ticker__agrees_with_the_clock(void **state)
{
	struct mc_ticker t, clock = {.tsc = false};

	int good = 0;

	(void)state;
	mc_ticker_init(&t);
	assert_int_equal(mc_ticker_ns(&t, 0), 0);
	for (int i = 0; i < 5; i++) {
		int64_t outer = mc_now_ns();
		uint64_t start = mc_ticker_now(&t);
		int64_t inner = mc_now_ns(), end = inner;

		while (end - inner < 2000000)
			end = mc_now_ns();
		uint64_t ns = mc_ticker_ns(&t, mc_ticker_now(&t) - start);
		good += (double)ns > 0.99 * (double)(end - inner) && (double)ns < 1.01 * (double)(mc_now_ns() - outer);
	}
	assert_true(good >= 3); /* somebody may come between the two readings of a pair */
	assert_int_equal(mc_ticker_ns(&t, UINT64_MAX), t.tsc ? 0 : UINT64_MAX); /* longer than it exists */
	assert_int_equal(mc_ticker_ns(&clock, 12345), 12345);
}

/* Elements keep their order, wherever the ring begins. */
static void ring_grow__keeps_order(void **state)
{
	(void)state;
	for (uint32_t head = 0; head < 8; head++) {
		for (uint32_t n = 0; n <= 8; n++) {
			uint32_t *ring = calloc(8, sizeof(*ring));
			assert_non_null(ring);
			for (uint32_t i = 0; i < n; i++)
				ring[(head + i) % 8] = 100 + i;
			ring = mc_ring_grow(ring, 8, head, n, 16, sizeof(*ring));
			assert_non_null(ring);
			for (uint32_t i = 0; i < n; i++)
				assert_int_equal(ring[i], 100 + i);
			free(ring);
		}
	}
	free(mc_ring_grow(NULL, 0, 0, 0, 4, sizeof(uint64_t)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(add_u64__overflow),       cmocka_unit_test(mul_u64__overflow),
		cmocka_unit_test(range_ok__outside),       cmocka_unit_test(narrow_u32__too_large),
		cmocka_unit_test(deadline__limits),        cmocka_unit_test(now__does_not_go_back),
		cmocka_unit_test(ring_grow__keeps_order),
		cmocka_unit_test(list__order_and_removal), cmocka_unit_test(random_u64__never_zero_never_twice),
		cmocka_unit_test(ticker__agrees_with_the_clock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

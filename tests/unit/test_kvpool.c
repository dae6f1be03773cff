/* SPDX-License-Identifier: BSD-3-Clause */
/* test_kvpool.c - free blocks and the prefix cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvpool.h"

static void pool__takes_all_or_none(void **state)
{
	struct perf_pool p;
	uint32_t block[8];

	(void)state;
	assert_true(perf_pool_init(&p, 8, 1));
	assert_false(perf_pool_take(&p, 9, block));
	assert_int_equal(p.free_n, 8);
	assert_true(perf_pool_take(&p, 5, block));
	assert_false(perf_pool_take(&p, 4, block));
	assert_int_equal(p.free_n, 3);
	assert_true(perf_pool_take(&p, 0, block));
	perf_pool_destroy(&p);
	perf_pool_destroy(NULL);
}

/* Ranks have seeds next to each other, and users may give 0. */
static void pool__each_seed_its_own_order(void **state)
{
	enum { SEEDS = 64, N = 256 };
	static uint32_t order[SEEDS][N];
	struct perf_pool p;
	uint32_t again[N];

	(void)state;
	for (uint32_t seed = 0; seed < SEEDS; seed++) {
		assert_true(perf_pool_init(&p, N, seed));
		assert_true(perf_pool_take(&p, N, order[seed]));
		perf_pool_destroy(&p);
		for (uint32_t other = 0; other < seed; other++) {
			uint32_t same = 0;
			for (uint32_t i = 0; i < N; i++)
				same += order[seed][i] == order[other][i];
			assert_true(same < 16); /* of random ones about 1 */
		}
	}
	assert_true(perf_pool_init(&p, N, 0));
	assert_true(perf_pool_take(&p, N, again));
	assert_memory_equal(again, order[0], sizeof(again));
	perf_pool_destroy(&p);
}

static void pool__no_block_twice(void **state)
{
	enum { N = 1000, HELD = 400 };
	static uint32_t held[N];
	static uint8_t owned[N];
	struct perf_pool p;
	uint32_t held_n = 0;

	(void)state;
	srand(1);
	memset(owned, 0, sizeof(owned));
	assert_true(perf_pool_init(&p, N, 99));
	for (int round = 0; round < 5000; round++) {
		uint32_t n = (uint32_t)rand() % 20;
		if (held_n + n <= HELD && perf_pool_take(&p, n, &held[held_n])) {
			for (uint32_t i = 0; i < n; i++) {
				assert_true(held[held_n + i] < N);
				assert_false(owned[held[held_n + i]]);
				owned[held[held_n + i]] = 1;
			}
			held_n += n;
		} else if (n <= held_n) {
			for (uint32_t i = 0; i < n; i++)
				owned[held[held_n - 1 - i]] = 0;
			held_n -= n;
			assert_true(perf_pool_give(&p, &held[held_n], n));
		}
		assert_int_equal(p.free_n + held_n, N);
	}
	perf_pool_destroy(&p);
}

static void pool__blocks_are_scattered(void **state)
{
	enum { N = 1000 };
	static uint32_t block[N];
	struct perf_pool p;
	uint32_t neighbours = 0;

	(void)state;
	assert_true(perf_pool_init(&p, N, 5));
	assert_true(perf_pool_take(&p, N, block));
	for (uint32_t i = 1; i < N; i++)
		neighbours += block[i] == block[i - 1] + 1;
	assert_true(neighbours < 20); /* about one is expected */
	perf_pool_destroy(&p);
}

static void pool__freeing_twice_is_noticed(void **state)
{
	struct perf_pool p;
	uint32_t block[2], beyond = 4;

	(void)state;
	assert_true(perf_pool_init(&p, 4, 1));
	assert_true(perf_pool_take(&p, 2, block));
	assert_true(perf_pool_give(&p, block, 1));
	assert_false(perf_pool_give(&p, block, 2)); /* block[0] again; block[1] is freed all the same */
	assert_int_equal(p.free_n, 4);
	assert_false(perf_pool_give(&p, &beyond, 1));
	perf_pool_destroy(&p);
}

static void cache__pin_needs_hash_and_place(void **state)
{
	struct perf_cache c;
	uint32_t block[2] = {10, 11}, slot;

	(void)state;
	assert_true(perf_cache_init(&c, 5, 3, 2));
	assert_int_equal(perf_cache_pin(&c, 2, 0), PERF_NO_SLOT);
	assert_true(perf_cache_insert(&c, 2, 1, 77, block));
	assert_false(perf_cache_insert(&c, 2, 1, 78, block)); /* already here */
	assert_int_equal(perf_cache_pin(&c, 2, 0), PERF_NO_SLOT);
	assert_int_equal(perf_cache_pin(&c, 99, 0), PERF_NO_SLOT);
	slot = perf_cache_pin(&c, 2, 1);
	assert_int_not_equal(slot, PERF_NO_SLOT);
	assert_int_equal(perf_cache_slot(&c, slot)->writer, 77);
	assert_memory_equal(perf_cache_blocks(&c, slot), block, sizeof(block));
	perf_cache_unpin(&c, slot);
	perf_cache_destroy(&c);
}

static void cache__evicts_the_least_recently_used(void **state)
{
	struct perf_cache c;
	uint32_t out, slot;

	(void)state;
	assert_true(perf_cache_init(&c, 10, 3, 1));
	assert_false(perf_cache_evict(&c, &out));
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t block = 100 + i;
		assert_true(perf_cache_insert(&c, i, 0, i, &block));
	}
	out = 200;
	assert_false(perf_cache_insert(&c, 5, 0, 5, &out)); /* full */
	slot = perf_cache_pin(&c, 0, 0);                    /* used: now the newest */
	perf_cache_unpin(&c, slot);
	assert_true(perf_cache_evict(&c, &out));
	assert_int_equal(out, 101);
	assert_int_equal(perf_cache_pin(&c, 1, 0), PERF_NO_SLOT);
	assert_true(perf_cache_insert(&c, 1, 0, 1, &out));
	assert_true(perf_cache_evict(&c, &out) && out == 102);
	assert_true(perf_cache_evict(&c, &out) && out == 100);
	assert_true(perf_cache_evict(&c, &out) && out == 101);
	assert_false(perf_cache_evict(&c, &out));
	assert_int_equal(c.held_n, 0);
	perf_cache_destroy(&c);
}

static void cache__pinned_slots_stay(void **state)
{
	struct perf_cache c;
	uint32_t out, block = 7, slot;

	(void)state;
	assert_true(perf_cache_init(&c, 4, 4, 1));
	assert_true(perf_cache_insert(&c, 0, 0, 0, &block));
	slot = perf_cache_pin(&c, 0, 0);
	assert_int_equal(perf_cache_pin(&c, 0, 0), slot); /* by two requests */
	assert_false(perf_cache_evict(&c, &out));
	perf_cache_unpin(&c, slot);
	assert_false(perf_cache_evict(&c, &out));
	perf_cache_unpin(&c, slot);
	assert_true(perf_cache_evict(&c, &out) && out == 7);
	perf_cache_destroy(&c);
}

static void cache__no_slots(void **state)
{
	struct perf_cache c;
	uint32_t block = 1;

	(void)state;
	assert_true(perf_cache_init(&c, 4, 0, 32)); /* a pool smaller than one hash block */
	assert_false(perf_cache_insert(&c, 0, 0, 0, &block));
	assert_false(perf_cache_evict(&c, &block));
	assert_int_equal(perf_cache_pin(&c, 0, 0), PERF_NO_SLOT);
	perf_cache_destroy(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pool__takes_all_or_none),
		cmocka_unit_test(pool__no_block_twice),
		cmocka_unit_test(pool__each_seed_its_own_order),
		cmocka_unit_test(pool__blocks_are_scattered),
		cmocka_unit_test(pool__freeing_twice_is_noticed),
		cmocka_unit_test(cache__pin_needs_hash_and_place),
		cmocka_unit_test(cache__evicts_the_least_recently_used),
		cmocka_unit_test(cache__pinned_slots_stay),
		cmocka_unit_test(cache__no_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_pattern.c - the content: every identity its own, every wrong byte found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "pattern.h"

enum { LEN = 20000 }; /* several of the checker's chunks and a rest */

static uint64_t words[LEN / 8 + 1];

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void key__differs_in_every_part(void **state)
{
	enum { N = 12 };
	static uint64_t key[N * N * N * N];
	size_t n = 0;

	(void)state;
	for (uint32_t a = 0; a < N; a++)
		for (uint32_t b = 0; b < N; b++)
			for (uint32_t c = 0; c < N; c++)
				for (uint32_t d = 0; d < N; d++)
					key[n++] = perf_pattern_key(7, a * 99991 % PERF_PATTERN_REQUESTS, b * 23,
								    c * 95327, d * 372);
	qsort(key, n, sizeof(key[0]), compare_u64);
	for (size_t i = 1; i < n; i++)
		assert_true(key[i] != key[i - 1]);
}

static void key__extreme_identities(void **state)
{
	uint64_t key[4] = {
		perf_pattern_key(1, PERF_PATTERN_REQUESTS - 1, 0, 0, 0),
		perf_pattern_key(1, 0, PERF_PATTERN_LAYERS - 1, 0, 0),
		perf_pattern_key(1, 0, 0, PERF_PATTERN_BLOCKS - 1, 0),
		perf_pattern_key(1, 0, 0, 0, PERF_PATTERN_RANKS - 1),
	};

	(void)state;
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < i; k++)
			assert_true(key[i] != key[k]);
	assert_true(perf_pattern_key(1, 2, 3, 4, 5) != perf_pattern_key(2, 2, 3, 4, 5));
}

static void check__accepts_what_fill_wrote(void **state)
{
	static const uint64_t len[] = {0, 1, 7, 8, 9, 63, 64, 4095, 4096, 4097, LEN};
	struct perf_pattern_bad bad;

	(void)state;
	for (size_t i = 0; i < sizeof(len) / sizeof(len[0]); i++) {
		memset(words, 0xaa, sizeof(words));
		perf_pattern_fill(words, 0, len[i], 42);
		assert_true(perf_pattern_check(words, 0, len[i], 42, &bad));
		/* not one byte further */
		assert_int_equal(((uint8_t *)words)[len[i]], 0xaa);
	}
}

/* A block filled in two pieces is the block filled at once. */
static void fill__pieces(void **state)
{
	struct perf_pattern_bad bad;
	uint8_t *bytes = (uint8_t *)words;

	(void)state;
	perf_pattern_fill(words, 0, 1000, 9);
	perf_pattern_fill(bytes + 1000, 1000, LEN - 1000, 9);
	assert_true(perf_pattern_check(words, 0, LEN, 9, &bad));
	assert_true(perf_pattern_check(bytes + 4096, 4096, 256, 9, &bad));
}

static void check__finds_each_flipped_bit(void **state)
{
	uint8_t *bytes = (uint8_t *)words;
	struct perf_pattern_bad bad;

	(void)state;
	perf_pattern_fill(words, 0, LEN - 3, 5);
	for (uint64_t at = 0; at < LEN - 3; at += at < 80 || at > LEN - 80 ? 1 : 61) {
		uint8_t was = bytes[at], flip = (uint8_t)(1u << (at % 8));
		bytes[at] ^= flip;
		assert_false(perf_pattern_check(words, 0, LEN - 3, 5, &bad));
		assert_int_equal(bad.off, at);
		assert_int_equal(bad.expected, was);
		assert_int_equal(bad.actual, was ^ flip);
		bytes[at] = was;
	}
	assert_true(perf_pattern_check(words, 0, LEN - 3, 5, &bad));
}

static void check__reports_the_offset_in_the_block(void **state)
{
	uint8_t *bytes = (uint8_t *)words;
	struct perf_pattern_bad bad;

	(void)state;
	perf_pattern_fill(words, 8192, 512, 5);
	bytes[300] ^= 0xff;
	assert_false(perf_pattern_check(words, 8192, 512, 5, &bad));
	assert_int_equal(bad.off, 8192 + 300);
}

/* Content in the wrong place, of another block, or never written is found. */
static void check__misplaced(void **state)
{
	uint64_t key = perf_pattern_key(1, 10, 2, 3, 0);
	struct perf_pattern_bad bad;

	(void)state;
	perf_pattern_fill(words, 0, 4096, key);
	memmove(words, words + 1, 4088);
	assert_false(perf_pattern_check(words, 0, 4088, key, &bad));
	assert_true(bad.off < 8);
	perf_pattern_fill(words, 0, 4096, perf_pattern_key(1, 10, 2, 4, 0));
	assert_false(perf_pattern_check(words, 0, 4096, key, &bad));
	assert_true(bad.off < 8);
	perf_pattern_fill(words, 2048, 2048, key); /* the second half where the first should be */
	assert_false(perf_pattern_check(words, 0, 2048, key, &bad));
	memset(words, 0, 4096);
	assert_false(perf_pattern_check(words, 0, 4096, key, &bad));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(key__differs_in_every_part),
		cmocka_unit_test(key__extreme_identities),
		cmocka_unit_test(check__accepts_what_fill_wrote),
		cmocka_unit_test(fill__pieces),
		cmocka_unit_test(check__finds_each_flipped_bit),
		cmocka_unit_test(check__reports_the_offset_in_the_block),
		cmocka_unit_test(check__misplaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

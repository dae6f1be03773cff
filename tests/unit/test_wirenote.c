/* SPDX-License-Identifier: BSD-3-Clause */
/* test_wirenote.c - payloads of notes: what was written is read, whatever is cut short or too long is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "wirenote.h"

static size_t write_sample(uint8_t *buf, size_t len)
{
	struct perf_wr w;

	perf_wr_init(&w, buf, len);
	perf_wr_u32(&w, 0x01020304);
	perf_wr_u64(&w, UINT64_C(0xfedcba9876543210));
	perf_wr_text(&w, "hello");
	assert_false(w.bad);
	return perf_wr_len(&w);
}

static void read_back__same(void **state)
{
	uint8_t buf[64];
	size_t len = write_sample(buf, sizeof(buf));
	struct perf_rd r;
	char text[16];

	(void)state;
	assert_int_equal(len, 4 + 8 + 4 + 5);
	assert_int_equal(buf[0], 4); /* little-endian */
	perf_rd_init(&r, buf, len);
	assert_int_equal(perf_rd_u32(&r), 0x01020304);
	assert_false(perf_rd_end(&r)); /* something is left */
	assert_true(perf_rd_u64(&r) == UINT64_C(0xfedcba9876543210));
	perf_rd_text(&r, text, sizeof(text));
	assert_string_equal(text, "hello");
	assert_true(perf_rd_end(&r));
}

static void read__cut_anywhere_is_bad(void **state)
{
	uint8_t buf[64];
	size_t len = write_sample(buf, sizeof(buf));
	char text[16];

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *exact = malloc(cut + 1); /* for the address sanitizer: nothing behind the cut */
		struct perf_rd r;
		assert_non_null(exact);
		memcpy(exact, buf, cut);
		perf_rd_init(&r, exact, cut);
		(void)perf_rd_u32(&r);
		(void)perf_rd_u64(&r);
		perf_rd_text(&r, text, sizeof(text));
		assert_true(r.bad);
		assert_false(perf_rd_end(&r));
		assert_int_equal(perf_rd_u32(&r), 0); /* it stays bad */
		assert_int_equal(perf_rd_left(&r), 0);
		free(exact);
	}
}

static void read_text__hostile_length(void **state)
{
	uint8_t buf[8];
	struct perf_wr w;
	struct perf_rd r;
	char text[4] = "abc";

	(void)state;
	perf_wr_init(&w, buf, sizeof(buf));
	perf_wr_u32(&w, UINT32_MAX);
	perf_rd_init(&r, buf, perf_wr_len(&w));
	perf_rd_text(&r, text, sizeof(text));
	assert_true(r.bad);
	assert_string_equal(text, "");
}

static void read_text__cut_to_room(void **state)
{
	uint8_t buf[64];
	struct perf_wr w;
	struct perf_rd r;
	char text[4];

	(void)state;
	perf_wr_init(&w, buf, sizeof(buf));
	perf_wr_text(&w, "hello");
	perf_rd_init(&r, buf, perf_wr_len(&w));
	perf_rd_text(&r, text, sizeof(text));
	assert_string_equal(text, "hel");
	assert_true(perf_rd_end(&r));
}

static void write__does_not_fit(void **state)
{
	uint8_t buf[10];
	struct perf_wr w;

	(void)state;
	buf[8] = buf[9] = 0x55;
	perf_wr_init(&w, buf, 8);
	perf_wr_u32(&w, 1);
	perf_wr_u64(&w, 2);
	assert_true(w.bad);
	perf_wr_u32(&w, 3); /* would fit, but the note is lost already */
	assert_int_equal(perf_wr_len(&w), 4);
	assert_int_equal(buf[8], 0x55);
	perf_wr_init(&w, buf, 8);
	perf_wr_text(&w, "too long for this");
	assert_true(w.bad);
	assert_int_equal(buf[8], 0x55);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_back__same),           cmocka_unit_test(read__cut_anywhere_is_bad),
		cmocka_unit_test(read_text__hostile_length), cmocka_unit_test(read_text__cut_to_room),
		cmocka_unit_test(write__does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_wire_short.c - the short frame: its bytes, every length, every way to damage one, and what tells two apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire.h"

static void short__every_length_and_bit(void **state)
{
	const uint64_t check = mc_short_check(1, 2, 3);
	uint8_t msg[MC_SHORT_LEN + 1] = {0}, kind = 0;
	uint32_t rank = 0;
	uint64_t got = 0;

	(void)state;
	mc_short_encode(1, 0x01020304, check, msg);
	assert_memory_equal(msg, "mc\x01\x01\x04\x03\x02\x01", 8);
	for (uint32_t len = 0; len < MC_SHORT_LEN; len++)
		assert_false(mc_short_decode(msg, len, &kind, &rank, &got));
	assert_true(mc_short_decode(msg, MC_SHORT_LEN + 1, &kind, &rank, &got));
	assert_true(kind == 1 && rank == 0x01020304 && got == check);
	for (uint32_t bit = 0; bit < 8 * MC_SHORT_LEN; bit++) {
		msg[bit / 8] ^= (uint8_t)(1u << bit % 8);
		bool ok = mc_short_decode(msg, MC_SHORT_LEN, &kind, &rank, &got);
		assert_true(ok == (bit >= 24)); /* magic and version; the rest is the receiver's to judge */
		assert_true(!ok || kind != 1 || rank != 0x01020304 || got != check);
		msg[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	/* any other process, there or here, any other job: another number; and back is not there */
	assert_true(check != mc_short_check(2, 2, 3) && check != mc_short_check(1, 3, 3));
	assert_true(check != mc_short_check(1, 2, 4) && check != mc_short_check(1, 3, 2));
	/* a frame is no short message, and the other way round */
	uint8_t frame[MC_FRAME_LEN];
	const uint8_t *out = NULL;
	const struct mc_frame f = {.kind = 1};
	mc_frame_encode(&f, NULL, NULL, false, frame);
	assert_false(mc_short_decode(frame, sizeof(frame), &kind, &rank, &got));
	struct mc_frame g;
	memset(frame, 0, sizeof(frame));
	mc_short_encode(1, 2, check, frame);
	assert_int_equal(mc_frame_decode(frame, sizeof(frame), NULL, false, &g, &out, &out), MC_ERR_PROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(short__every_length_and_bit)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

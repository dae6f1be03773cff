/* SPDX-License-Identifier: BSD-3-Clause */
/* test_wire_short.c - the short frame, and the notification in it: bytes, every length, every way to damage one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
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

static void notify__round_trip_and_every_fault(void **state)
{
	const struct mc_notify in = {.flags = MC_NOTIFY_COUNT | MC_NOTIFY_NOTE,
				     .tag = UINT64_C(0x1122334455667788),
				     .add = UINT64_C(0x99aabbccddeeff00),
				     .data = "abc",
				     .data_len = 3};
	/* flags, tag, add, length, payload: docs/WIRE.md */
	static const uint8_t want[] = {3,    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0,   0xff, 0xee,
				       0xdd, 0xcc, 0xbb, 0xaa, 0x99, 3,    0,    0,    0,    'a', 'b',  'c'};
	uint8_t b[sizeof(want)];
	struct mc_notify out;
	struct mc_wr w;
	struct mc_rd r;

	(void)state;
	mc_wr_init(&w, b, sizeof(b));
	mc_wr_notify(&w, &in);
	assert_false(w.bad);
	assert_int_equal(mc_wr_len(&w), sizeof(want));
	assert_memory_equal(b, want, sizeof(want));
	for (size_t room = 0; room < sizeof(b); room++) {
		mc_wr_init(&w, b, room);
		mc_wr_notify(&w, &in);
		assert_true(w.bad);
	}
	mc_rd_init(&r, want, sizeof(want));
	mc_rd_notify(&r, &out);
	assert_true(mc_rd_end(&r));
	assert_true(out.flags == in.flags && out.tag == in.tag && out.add == in.add && out.data_len == 3);
	assert_memory_equal(out.data, "abc", 3);
	for (size_t len = 0; len < sizeof(want); len++) {
		mc_rd_init(&r, want, len);
		mc_rd_notify(&r, &out);
		assert_true(r.bad);
	}
	memcpy(b, want, sizeof(b));
	b[0] = 4; /* no such flag */
	mc_rd_init(&r, b, sizeof(b));
	mc_rd_notify(&r, &out);
	assert_true(r.bad);
	mc_rd_init(&r, "", 1); /* nothing */
	mc_rd_notify(&r, &out);
	assert_true(mc_rd_end(&r) && out.flags == 0);
	mc_wr_init(&w, b, 1);
	mc_wr_notify(&w, &out);
	assert_true(!w.bad && mc_wr_len(&w) == 1 && b[0] == 0);
}

static void notify__payload_too_long(void **state)
{
	size_t len = 21 + MC_NOTE_MAX + 1;
	uint8_t *b = calloc(1, len);
	struct mc_notify out;
	struct mc_rd r;

	(void)state;
	assert_non_null(b);
	b[0] = MC_NOTIFY_NOTE;
	b[17] = 1; /* 65537 bytes, all there */
	b[19] = 1;
	mc_rd_init(&r, b, len);
	mc_rd_notify(&r, &out);
	assert_true(r.bad);
	b[17] = 0;
	mc_rd_init(&r, b, len - 1);
	mc_rd_notify(&r, &out);
	assert_true(mc_rd_end(&r) && out.data_len == MC_NOTE_MAX);
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short__every_length_and_bit),
		cmocka_unit_test(notify__round_trip_and_every_fault),
		cmocka_unit_test(notify__payload_too_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_wire_mac.c - macs of frames with short and long bodies: their bytes, and that no bit can be changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire.h"

enum { CRC_OFF = 40, MAC_OFF = 48, BODY_MAX = 1000 };

static const char job_key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

static struct mc_mac_key parsed_key(void)
{
	struct mc_mac_key k;

	assert_int_equal(mc_mac_key_parse(job_key, &k), MC_OK);
	return k;
}

static void make(uint8_t *msg, uint32_t body_len, const struct mc_mac_key *k)
{
	const struct mc_frame f = {.kind = 7,
				   .src_rank = 0x01020304,
				   .job = UINT64_C(0x1112131415161718),
				   .src_epoch = UINT64_C(0x2122232425262728),
				   .dst_epoch = UINT64_C(0x3132333435363738),
				   .body_len = body_len};

	for (uint32_t i = MC_FRAME_LEN; i < MC_FRAME_LEN + body_len; i++)
		msg[i] = (uint8_t)(i * 5);
	mc_frame_encode(&f, msg + MC_FRAME_LEN, k, true, msg);
}

static mc_status_t decode(const uint8_t *msg, uint32_t body_len, const struct mc_mac_key *k)
{
	const uint8_t *body, *data;
	struct mc_frame f;

	return mc_frame_decode(msg, MC_FRAME_LEN + body_len, k, true, &f, &body, &data);
}

static void mac__of_a_long_body(void **state)
{
	/* docs/WIRE.md followed by a program that shares nothing with this one; a short body's: test_wire.c */
	static const uint8_t want[MC_MAC_LEN] = {0xc9, 0xf6, 0xd1, 0xf6, 0x5a, 0xf1, 0xc5, 0x64,
						 0x0b, 0xbc, 0x98, 0x34, 0xab, 0x56, 0x4e, 0xeb};
	const struct mc_mac_key k = parsed_key();
	uint8_t msg[MC_FRAME_LEN + 300];

	(void)state;
	if (!k.set)
		skip();
	make(msg, 300, &k);
	assert_memory_equal(msg + MAC_OFF, want, MC_MAC_LEN);
}

/* A forger can mend the crc. */
static void mac__covers_every_bit(void **state)
{
	static const uint32_t body_len[] = {0, 1, 21, 255, 256, 257, BODY_MAX};
	const struct mc_mac_key k = parsed_key();
	uint8_t msg[MC_FRAME_LEN + BODY_MAX], zeroed[MC_FRAME_LEN + BODY_MAX];

	(void)state;
	if (!k.set)
		skip();
	for (size_t n = 0; n < sizeof(body_len) / sizeof(body_len[0]); n++) {
		uint32_t len = MC_FRAME_LEN + body_len[n];
		make(msg, body_len[n], &k);
		assert_int_equal(decode(msg, body_len[n], &k), MC_OK);
		for (uint32_t bit = 0; bit < len * 8; bit++) {
			if (bit / 8 >= 32 && bit / 8 < MC_FRAME_LEN)
				continue; /* lengths, crc, zero and mac: test_wire.c */
			uint8_t *p = &msg[bit / 8];
			*p ^= (uint8_t)(1u << bit % 8);
			memcpy(zeroed, msg, len);
			memset(zeroed + CRC_OFF, 0, MC_FRAME_LEN - CRC_OFF);
			uint32_t crc = mc_crc32c(0, zeroed, len);
			for (int i = 0; i < 4; i++)
				msg[CRC_OFF + i] = (uint8_t)(crc >> 8 * i);
			assert_int_equal(decode(msg, body_len[n], &k), bit < 24 ? MC_ERR_PROTO : MC_ERR_AUTH);
			*p ^= (uint8_t)(1u << bit % 8);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mac__of_a_long_body),
		cmocka_unit_test(mac__covers_every_bit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

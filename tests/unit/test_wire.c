/* SPDX-License-Identifier: BSD-3-Clause */
/* test_wire.c - cursors at their ends, CRC-32C against published values, macs, frames and every way to damage one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util.h"
#include "wire.h"

uint32_t mc_crc32c_table(uint32_t crc, const void *buf, size_t len); /* wire.c: the way without the instruction */

static const char job_key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

/* ---- cursors ---- */

static void rd__short_reads_are_sticky(void **state)
{
	static const uint8_t b[] = {1, 2, 3};
	struct mc_rd r;

	(void)state;
	mc_rd_init(&r, b, sizeof(b));
	assert_int_equal(mc_rd_u32(&r), 0);
	assert_true(r.bad);
	assert_int_equal(mc_rd_u8(&r), 0); /* although a byte is there */
	assert_null(mc_rd_bytes(&r, 0));
	assert_false(mc_rd_end(&r));
}

static void rd__every_width_at_the_end(void **state)
{
	static const uint8_t b[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	struct mc_rd r;

	(void)state;
	mc_rd_init(&r, b, sizeof(b));
	assert_int_equal(mc_rd_u8(&r), 1);
	assert_int_equal(mc_rd_u16(&r), 0x0302);
	assert_int_equal(mc_rd_u32(&r), 0x07060504);
	assert_int_equal(mc_rd_left(&r), 8);
	assert_false(mc_rd_end(&r));
	assert_true(mc_rd_u64(&r) == UINT64_C(0x0f0e0d0c0b0a0908));
	assert_true(mc_rd_end(&r));
	assert_int_equal(mc_rd_u8(&r), 0);
	assert_false(mc_rd_end(&r));
}

static void rd__empty_and_null(void **state)
{
	struct mc_rd r;
	char out[4] = "xxx";

	(void)state;
	mc_rd_init(&r, NULL, 0);
	assert_true(mc_rd_end(&r));
	assert_non_null(mc_rd_bytes(&r, 0));
	mc_rd_copy(&r, out, 0);
	assert_true(mc_rd_end(&r));
	mc_rd_copy(&r, out, 2);
	assert_memory_equal(out, "\0\0x", 3);
	assert_false(mc_rd_end(&r));
}

static void rd_bytes__longer_than_address_space(void **state)
{
	static const uint8_t b[4] = {0};
	struct mc_rd r;

	(void)state;
	mc_rd_init(&r, b, sizeof(b));
	assert_null(mc_rd_bytes(&r, SIZE_MAX));
	assert_true(r.bad);
	mc_rd_init(&r, b, sizeof(b));
	assert_ptr_equal(mc_rd_bytes(&r, 4), b);
	assert_true(mc_rd_end(&r));
}

static void rd_str_case(const void *b, size_t len, size_t room, const char *want)
{
	char out[8] = "xxxxxxx";
	struct mc_rd r;

	mc_rd_init(&r, b, len);
	mc_rd_str(&r, out, room);
	if (want == NULL) {
		assert_true(r.bad);
		assert_string_equal(out, "");
	} else {
		assert_true(mc_rd_end(&r));
		assert_string_equal(out, want);
	}
	assert_string_equal(out + 4, "xxx"); /* room was 4 at most */
}

static void rd_str__every_fault(void **state)
{
	(void)state;
	rd_str_case("\1", 1, 4, NULL);     /* half a length */
	rd_str_case("\3\0ab", 4, 4, NULL); /* a byte short */
	rd_str_case("\xff\xff"
		    "abc",
		    5, 4, NULL);
	rd_str_case("\4\0abcd", 6, 4, NULL); /* no room for the NUL */
	rd_str_case("\3\0a\0c", 5, 4, NULL); /* embedded NUL */
	rd_str_case("\3\0abc", 5, 4, "abc");
	rd_str_case("\0\0", 2, 1, "");
}

static void rd_blob__every_fault(void **state)
{
	static const uint8_t b[] = {3, 0, 0, 0, 'a', 'b', 'c'};
	struct mc_rd r;
	uint32_t len = 9;

	(void)state;
	mc_rd_init(&r, b, 3);
	assert_null(mc_rd_blob(&r, &len, 10));
	assert_int_equal(len, 0);
	len = 9;
	mc_rd_init(&r, b, 6);
	assert_null(mc_rd_blob(&r, &len, 10));
	assert_int_equal(len, 0);
	mc_rd_init(&r, b, 7);
	assert_null(mc_rd_blob(&r, &len, 2)); /* beyond what the caller can take */
	assert_true(r.bad);
	mc_rd_init(&r, b, 7);
	assert_ptr_equal(mc_rd_blob(&r, &len, 3), b + 4);
	assert_int_equal(len, 3);
	assert_true(mc_rd_end(&r));
}

static void wr__no_room_is_sticky(void **state)
{
	uint8_t b[4] = {9, 9, 9, 9};
	struct mc_wr w;

	(void)state;
	mc_wr_init(&w, b, 3);
	mc_wr_u16(&w, 0x0201);
	mc_wr_u32(&w, 7);
	assert_true(w.bad);
	mc_wr_u8(&w, 7); /* would fit */
	assert_int_equal(mc_wr_len(&w), 2);
	assert_memory_equal(b, "\1\2\11\11", 4);
	mc_wr_init(&w, NULL, 0);
	mc_wr_bytes(&w, NULL, 0);
	assert_false(w.bad);
	mc_wr_u8(&w, 1);
	assert_true(w.bad);
}

static void wr_str__too_long(void **state)
{
	static char text[70000], room[70010];
	struct mc_wr w;

	(void)state;
	memset(text, 'x', 65536);
	mc_wr_init(&w, room, sizeof(room));
	mc_wr_str(&w, text);
	assert_true(w.bad);
	assert_int_equal(mc_wr_len(&w), 0);
	text[65535] = '\0';
	mc_wr_init(&w, room, sizeof(room));
	mc_wr_str(&w, text);
	assert_false(w.bad);
	assert_int_equal(mc_wr_len(&w), 65537);
}

static void wr_rd__round_trip(void **state)
{
	uint8_t b[64], copy[3];
	char text[8];
	uint32_t len;
	struct mc_wr w;
	struct mc_rd r;

	(void)state;
	mc_wr_init(&w, b, sizeof(b));
	mc_wr_u8(&w, 0xfe);
	mc_wr_u16(&w, 0xfedc);
	mc_wr_u32(&w, 0xfedcba98);
	mc_wr_u64(&w, UINT64_C(0xfedcba9876543210));
	mc_wr_str(&w, "role");
	mc_wr_blob(&w, "blob", 4);
	mc_wr_bytes(&w, "xyz", 3);
	assert_false(w.bad);
	mc_rd_init(&r, b, mc_wr_len(&w));
	assert_int_equal(mc_rd_u8(&r), 0xfe);
	assert_int_equal(mc_rd_u16(&r), 0xfedc);
	assert_true(mc_rd_u32(&r) == 0xfedcba98);
	assert_true(mc_rd_u64(&r) == UINT64_C(0xfedcba9876543210));
	mc_rd_str(&r, text, sizeof(text));
	assert_string_equal(text, "role");
	assert_memory_equal(mc_rd_blob(&r, &len, 4), "blob", 4);
	mc_rd_copy(&r, copy, 3);
	assert_memory_equal(copy, "xyz", 3);
	assert_true(mc_rd_end(&r));
}

/* ---- CRC-32C ---- */

/* Bit by bit from the definition: neither of the two that are tested. */
static uint32_t crc_by_definition(uint32_t crc, const uint8_t *p, size_t len)
{
	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
	}
	return ~crc;
}

static void crc_check(const void *buf, size_t len, uint32_t want)
{
	assert_int_equal(mc_crc32c(0, buf, len), want);
	assert_int_equal(mc_crc32c_table(0, buf, len), want);
}

static void crc32c__known_values(void **state)
{
	uint8_t b[32];

	(void)state;
	crc_check("123456789", 9, 0xe3069283u);
	crc_check("", 0, 0);
	crc_check("a", 1, 0xc1d04330u);
	memset(b, 0, sizeof(b)); /* RFC 3720, B.4 */
	crc_check(b, sizeof(b), 0x8a9136aau);
	memset(b, 0xff, sizeof(b));
	crc_check(b, sizeof(b), 0x62a8ab43u);
	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)i;
	crc_check(b, sizeof(b), 0x46dd794eu);
	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)(31 - i);
	crc_check(b, sizeof(b), 0x113fdb5cu);
}

static void crc32c__both_ways_agree(void **state)
{
	uint64_t seed = mc_random_u64();
	uint8_t b[600];

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (size_t i = 0; i < sizeof(b); i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		b[i] = (uint8_t)(seed >> 56);
	}
	for (size_t off = 0; off < 9; off++) /* every alignment */
		for (size_t len = 0; len + off <= sizeof(b); len += 1 + len / 16) {
			const uint32_t start = (uint32_t)(seed >> 32) * (uint32_t)len;
			const uint32_t want = crc_by_definition(start, b + off, len);

			assert_int_equal(mc_crc32c(start, b + off, len), want);
			assert_int_equal(mc_crc32c_table(start, b + off, len), want);
		}
	/* In pieces as in one. */
	assert_int_equal(mc_crc32c(mc_crc32c(0, b, 77), b + 77, sizeof(b) - 77), mc_crc32c(0, b, sizeof(b)));
}

/* ---- keys and macs ---- */

static void mac_key_parse__every_fault(void **state)
{
	struct mc_mac_key k = {.set = true, .key = {42}};
	char bad[66];

	(void)state;
	assert_int_equal(mc_mac_key_parse("00", &k), MC_ERR_INVAL);
	snprintf(bad, sizeof(bad), "%s", job_key);
	bad[63] = 'g';
	assert_int_equal(mc_mac_key_parse(bad, &k), MC_ERR_INVAL);
	bad[63] = '\0';
	assert_int_equal(mc_mac_key_parse(bad, &k), MC_ERR_INVAL);
	bad[63] = bad[64] = '0';
	bad[65] = '\0';
	assert_int_equal(mc_mac_key_parse(bad, &k), MC_ERR_INVAL);
	assert_int_equal(k.key[0], 42); /* written only on MC_OK */
	assert_int_equal(mc_mac_key_parse("", &k), MC_OK);
	assert_false(k.set);
	assert_int_equal(mc_mac_key_parse(job_key, &k), MC_OK);
#ifdef MC_HAVE_SODIUM
	assert_true(k.set);
	for (uint8_t i = 0; i < 32; i++)
		assert_int_equal(k.key[i], i);
#else
	assert_false(k.set);
#endif
}

static void mac__without_key_is_zero(void **state)
{
	static const uint8_t zero[MC_MAC_LEN];
	struct mc_mac_key k = {.set = false, .key = {1}};
	uint8_t mac[MC_MAC_LEN];

	(void)state;
	memset(mac, 1, sizeof(mac));
	mc_mac(NULL, "a", 1, "b", 1, mac);
	assert_memory_equal(mac, zero, MC_MAC_LEN);
	memset(mac, 1, sizeof(mac));
	mc_mac(&k, "a", 1, "b", 1, mac);
	assert_memory_equal(mac, zero, MC_MAC_LEN);
}

static void mac__known_value_and_split(void **state)
{
	/* hashlib.blake2b(b"hello world", key=bytes(range(32)), digest_size=16) of CPython */
	static const uint8_t want[MC_MAC_LEN] = {0x8e, 0x20, 0x36, 0x53, 0x50, 0xd5, 0xeb, 0xa5,
						 0x29, 0x7f, 0xf2, 0xf8, 0xb6, 0x94, 0x95, 0x0b};
	uint8_t mac[MC_MAC_LEN], other[MC_MAC_LEN];
	struct mc_mac_key k;

	(void)state;
#ifndef MC_HAVE_SODIUM
	skip();
#endif
	assert_int_equal(mc_mac_key_parse(job_key, &k), MC_OK);
	mc_mac(&k, "hello world", 11, NULL, 0, mac);
	assert_memory_equal(mac, want, MC_MAC_LEN);
	mc_mac(&k, "hello ", 6, "world", 5, mac);
	assert_memory_equal(mac, want, MC_MAC_LEN);
	k.key[31] ^= 1;
	mc_mac(&k, "hello world", 11, NULL, 0, other);
	assert_false(mc_mac_equal(mac, other));
}

static void mac_equal__every_bit_counts(void **state)
{
	uint8_t a[MC_MAC_LEN] = {0}, b[MC_MAC_LEN] = {0};

	(void)state;
	assert_true(mc_mac_equal(a, b));
	for (unsigned i = 0; i < MC_MAC_LEN * 8; i++) {
		b[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_false(mc_mac_equal(a, b));
		b[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

/* ---- frames ---- */

enum { BODY = 21, DATA = 13, MSG = MC_FRAME_LEN + BODY + DATA };

static const struct mc_frame sample = {
	.kind = 7,
	.src_rank = 0x01020304,
	.job = UINT64_C(0x1112131415161718),
	.src_epoch = UINT64_C(0x2122232425262728),
	.dst_epoch = UINT64_C(0x3132333435363738),
	.body_len = BODY,
	.data_len = DATA,
};

static void make_msg(uint8_t msg[MSG], const struct mc_mac_key *key, bool sealed)
{
	for (size_t i = MC_FRAME_LEN; i < MSG; i++)
		msg[i] = (uint8_t)(i * 5);
	mc_frame_encode(&sample, msg + MC_FRAME_LEN, key, sealed, msg);
}

static mc_status_t decode(const uint8_t *msg, size_t len, const struct mc_mac_key *key, bool sealed)
{
	const uint8_t *body = NULL, *data = NULL;
	struct mc_frame f = {.kind = 99};
	const mc_status_t s = mc_frame_decode(msg, len, key, sealed, &f, &body, &data);

	if (s != MC_OK) {
		assert_int_equal(f.kind, 99);
		assert_null(body);
		assert_null(data);
		return s;
	}
	assert_int_equal(f.kind, sample.kind);
	assert_int_equal(f.src_rank, sample.src_rank);
	assert_true(f.job == sample.job);
	assert_true(f.src_epoch == sample.src_epoch);
	assert_true(f.dst_epoch == sample.dst_epoch);
	assert_int_equal(f.body_len, BODY);
	assert_int_equal(f.data_len, DATA);
	assert_ptr_equal(body, msg + MC_FRAME_LEN);
	assert_ptr_equal(data, msg + MC_FRAME_LEN + BODY);
	return s;
}

static struct mc_mac_key parsed_key(void)
{
	struct mc_mac_key k;

	assert_int_equal(mc_mac_key_parse(job_key, &k), MC_OK);
	return k;
}

/* The bytes themselves: another version of this library has to read them. */
static void frame_encode__layout(void **state)
{
	static const uint8_t want[MC_FRAME_LEN] = {
		0x4d, 0x43, 1,    7,    4,    3,    2,    1,    0x18, 0x17, 0x16, 0x15, 0x14, 0x13,
		0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0x38, 0x37, 0x36, 0x35,
		0x34, 0x33, 0x32, 0x31, BODY, 0,    0,    0,    DATA, 0,    0,    0,
	};
	const struct mc_mac_key k = parsed_key();
	/* docs/WIRE.md followed by a program that shares nothing with this one */
	static const uint8_t mac[MC_MAC_LEN] = {0x2c, 0xe8, 0xe1, 0x92, 0xf2, 0x1a, 0x08, 0x62,
						0x7b, 0x8d, 0x7e, 0xb8, 0x76, 0x65, 0x99, 0x75};
	uint8_t msg[MSG];
	struct mc_rd r;

	(void)state;
	make_msg(msg, &k, false);
	assert_memory_equal(msg, want, MC_FRAME_LEN);
	make_msg(msg, &k, true);
	assert_memory_equal(msg, want, 40);
	mc_rd_init(&r, msg + 40, 8);
	assert_int_equal(mc_rd_u32(&r), mc_crc32c(mc_crc32c(0, want, MC_FRAME_LEN), msg + MC_FRAME_LEN, BODY));
	assert_int_equal(mc_rd_u32(&r), 0);
	if (k.set)
		assert_memory_equal(msg + 48, mac, MC_MAC_LEN);
}

/* Several frames in one message: all but the last are multiples of 8 long. */
static void frame_span__where_the_next_begins(void **state)
{
	const struct mc_frame f = {.kind = 3, .body_len = 16};
	uint8_t two[MC_FRAME_LEN + 16 + MSG];

	(void)state;
	memset(two, 5, sizeof(two));
	mc_frame_encode(&f, two + MC_FRAME_LEN, NULL, true, two);
	make_msg(two + MC_FRAME_LEN + 16, NULL, true);
	assert_int_equal(mc_frame_span(two, sizeof(two)), MC_FRAME_LEN + 16);
	assert_int_equal(mc_frame_span(two, MC_FRAME_LEN + 16), MC_FRAME_LEN + 16);
	for (size_t len = 0; len < MC_FRAME_LEN + 16; len++) {
		uint8_t *exact = malloc(len + 1);

		assert_non_null(exact);
		memcpy(exact, two, len);
		assert_int_equal(mc_frame_span(exact, len), len); /* cut short: one frame, which is then refused */
		free(exact);
	}
	assert_int_equal(mc_frame_span(two + MC_FRAME_LEN + 16, MSG), MSG);
	assert_int_equal(mc_frame_span(two + MC_FRAME_LEN + 16, MSG - 1), MSG - 1);
	two[32] = 15; /* not a multiple of 8, but the message goes on */
	assert_int_equal(mc_frame_span(two, sizeof(two)), sizeof(two));
	memset(two + 32, 0xff, 8); /* lengths beyond any message */
	assert_int_equal(mc_frame_span(two, sizeof(two)), sizeof(two));
}

static void frame_decode__every_length(void **state)
{
	const struct mc_mac_key k = parsed_key();
	uint8_t msg[MSG + 1] = {0};

	(void)state;
	make_msg(msg, &k, true);
	for (size_t len = 0; len <= MSG + 1; len++) {
		uint8_t *exact = malloc(len + 1); /* ASan sees a read past it */

		assert_non_null(exact);
		memcpy(exact, msg, len);
		assert_int_equal(decode(exact, len, &k, true), len == MSG ? MC_OK : MC_ERR_PROTO);
		assert_int_equal(decode(exact, len, &k, false), len == MSG ? MC_OK : MC_ERR_PROTO);
		free(exact);
	}
}

static void frame_decode__every_bit_of_a_sealed_one(void **state)
{
	const struct mc_mac_key k = parsed_key();
	uint8_t msg[MSG];

	(void)state;
	make_msg(msg, &k, true);
	for (unsigned i = 0; i < (MC_FRAME_LEN + BODY) * 8; i++) {
		mc_status_t want = MC_ERR_PROTO;

		if (i / 8 >= 48 && i / 8 < 64)
			want = k.set ? MC_ERR_AUTH : MC_OK;
		msg[i / 8] ^= (uint8_t)(1u << i % 8);
		if (want != MC_OK)
			assert_int_equal(decode(msg, MSG, &k, true), want);
		msg[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	msg[MSG - 1] ^= 1; /* bulk data is not covered */
	assert_int_equal(decode(msg, MSG, &k, true), MC_OK);
}

static void frame_decode__lengths_that_wrap(void **state)
{
	uint8_t msg[MSG];

	(void)state;
	make_msg(msg, NULL, false);
	memset(msg + 32, 0xff, 8); /* both lengths 2^32-1 */
	assert_int_equal(decode(msg, MSG, NULL, false), MC_ERR_PROTO);
	make_msg(msg, NULL, false);
	msg[32] = (uint8_t)(BODY + DATA + 1); /* body_len + data_len = BODY + DATA modulo 2^32 */
	memset(msg + 36, 0xff, 4);
	assert_int_equal(decode(msg, MSG, NULL, false), MC_ERR_PROTO);
}

static void frame_decode__magic_version_reserved(void **state)
{
	static const size_t off[] = {0, 1, 2, 44, 45, 46, 47};
	uint8_t msg[MSG];

	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(off); i++) {
		make_msg(msg, NULL, false);
		msg[off[i]] ^= 1;
		assert_int_equal(decode(msg, MSG, NULL, false), MC_ERR_PROTO);
	}
	make_msg(msg, NULL, false);
	assert_int_equal(decode(msg, MSG, NULL, false), MC_OK);
	assert_int_equal(decode(msg, MSG, NULL, true), MC_ERR_PROTO); /* not sealed: its crc is missing */
}

static void frame_decode__keys_must_agree(void **state)
{
	struct mc_mac_key k = parsed_key(), other = k;
	uint8_t msg[MSG];

	(void)state;
	if (!k.set)
		skip();
	char hex[] = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1E"; /* its last bit differs */
	assert_int_equal(mc_mac_key_parse(hex, &other), MC_OK);
	make_msg(msg, &k, true);
	assert_int_equal(decode(msg, MSG, &k, true), MC_OK);
	assert_int_equal(decode(msg, MSG, &other, true), MC_ERR_AUTH);
	assert_int_equal(decode(msg, MSG, NULL, true), MC_OK); /* who has no key cannot check */
	make_msg(msg, NULL, true);
	assert_int_equal(decode(msg, MSG, &k, true), MC_ERR_AUTH);
	make_msg(msg, &k, true);
	msg[MC_FRAME_LEN] ^= 1; /* a forger can mend the crc, not the mac */
	memset(msg + 40, 0, 4);
	memset(msg + 48, 0, MC_MAC_LEN);
	const uint32_t crc = mc_crc32c(0, msg, MC_FRAME_LEN + BODY);
	make_msg(msg, &k, true);
	msg[MC_FRAME_LEN] ^= 1;
	for (int i = 0; i < 4; i++)
		msg[40 + i] = (uint8_t)(crc >> 8 * i);
	assert_int_equal(decode(msg, MSG, &k, true), MC_ERR_AUTH);
}

static void frame__without_body_and_data(void **state)
{
	const struct mc_mac_key k = parsed_key();
	const struct mc_frame f = {.kind = 255, .src_rank = UINT32_MAX};
	const uint8_t *body, *data;
	uint8_t msg[MC_FRAME_LEN];
	struct mc_frame out;

	(void)state;
	mc_frame_encode(&f, NULL, &k, true, msg);
	assert_int_equal(mc_frame_decode(msg, sizeof(msg), &k, true, &out, &body, &data), MC_OK);
	assert_int_equal(out.kind, 255);
	assert_int_equal(out.src_rank, UINT32_MAX);
	assert_int_equal(out.body_len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rd__short_reads_are_sticky),
		cmocka_unit_test(rd__every_width_at_the_end),
		cmocka_unit_test(rd__empty_and_null),
		cmocka_unit_test(rd_bytes__longer_than_address_space),
		cmocka_unit_test(rd_str__every_fault),
		cmocka_unit_test(rd_blob__every_fault),
		cmocka_unit_test(wr__no_room_is_sticky),
		cmocka_unit_test(wr_str__too_long),
		cmocka_unit_test(wr_rd__round_trip),
		cmocka_unit_test(crc32c__known_values),
		cmocka_unit_test(crc32c__both_ways_agree),
		cmocka_unit_test(mac_key_parse__every_fault),
		cmocka_unit_test(mac__without_key_is_zero),
		cmocka_unit_test(mac__known_value_and_split),
		cmocka_unit_test(mac_equal__every_bit_counts),
		cmocka_unit_test(frame_encode__layout),
		cmocka_unit_test(frame_span__where_the_next_begins),
		cmocka_unit_test(frame_decode__every_length),
		cmocka_unit_test(frame_decode__every_bit_of_a_sealed_one),
		cmocka_unit_test(frame_decode__lengths_that_wrap),
		cmocka_unit_test(frame_decode__magic_version_reserved),
		cmocka_unit_test(frame_decode__keys_must_agree),
		cmocka_unit_test(frame__without_body_and_data),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

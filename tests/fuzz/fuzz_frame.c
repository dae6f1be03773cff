/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_frame.c - frames and cursors. Input: a byte of switches, then either a message as it came from a peer, or
 * (switch BUILD) the parts of one that is built, sealed, read back, and read again with one bit changed.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEALED = 1, KEYED = 2, BUILD = 4 };
enum { CRC_OFF = 40, MAC_OFF = 48 };

static void must(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "fuzz_frame: %s\n", what);
		abort();
	}
}

static void check_inside(const uint8_t *p, uint32_t len, const uint8_t *msg, size_t msg_len, const char *what)
{
	must(p >= msg + MC_FRAME_LEN && len <= msg_len && p + len <= msg + msg_len, what);
}

/* What was accepted must give the same header again, but for what the mode leaves unchecked. */
static void check_same_again(const uint8_t *msg, const struct mc_frame *f, const uint8_t *body,
			     const struct mc_mac_key *key, bool sealed)
{
	uint8_t want[MC_FRAME_LEN], got[MC_FRAME_LEN];

	memcpy(want, msg, MC_FRAME_LEN);
	if (!sealed)
		memset(want + CRC_OFF, 0, 4);
	if (!sealed || !key->set)
		memset(want + MAC_OFF, 0, MC_MAC_LEN);
	mc_frame_encode(f, body, key, sealed, got);
	must(memcmp(want, got, MC_FRAME_LEN) == 0, "a decoded frame encodes to other bytes");
}

static mc_status_t decode(const uint8_t *msg, size_t len, const struct mc_mac_key *key, bool sealed)
{
	const uint8_t *body = NULL, *data = NULL;
	struct mc_frame f;
	const mc_status_t s = mc_frame_decode(msg, len, key, sealed, &f, &body, &data);

	must(s == MC_OK || s == MC_ERR_PROTO || (s == MC_ERR_AUTH && sealed && key->set), "undocumented status");
	if (s != MC_OK) {
		must(body == NULL && data == NULL, "written in spite of an error");
		return s;
	}
	must((uint64_t)MC_FRAME_LEN + f.body_len + f.data_len == len, "lengths do not add up");
	check_inside(body, f.body_len, msg, len, "body outside the message");
	check_inside(data, f.data_len, msg, len, "data outside the message");
	must(body + f.body_len == data, "data is not behind the body");
	check_same_again(msg, &f, body, key, sealed);
	return s;
}

static void build_and_damage(const uint8_t *p, size_t len, const struct mc_mac_key *key)
{
	struct mc_frame f = {0};
	uint32_t bit, body_len;
	struct mc_rd r;
	uint8_t *msg;

	mc_rd_init(&r, p, len);
	f.kind = mc_rd_u8(&r);
	f.src_rank = mc_rd_u32(&r);
	f.job = mc_rd_u64(&r);
	f.src_epoch = mc_rd_u64(&r);
	f.dst_epoch = mc_rd_u64(&r);
	bit = mc_rd_u32(&r);
	body_len = mc_rd_u16(&r);
	if (r.bad)
		return;
	f.body_len = body_len < mc_rd_left(&r) ? body_len : (uint32_t)mc_rd_left(&r);
	f.data_len = (uint32_t)mc_rd_left(&r) - f.body_len;
	len = MC_FRAME_LEN + f.body_len + f.data_len;
	msg = malloc(len);
	if (msg == NULL)
		return;
	mc_rd_copy(&r, msg + MC_FRAME_LEN, len - MC_FRAME_LEN);
	mc_frame_encode(&f, msg + MC_FRAME_LEN, key, true, msg);
	must(decode(msg, len, key, true) == MC_OK, "a frame just built is refused");
	bit %= (uint32_t)(8 * (MC_FRAME_LEN + f.body_len));
	if (key->set || bit / 8 < MAC_OFF || bit / 8 >= MC_FRAME_LEN) {
		msg[bit / 8] ^= (uint8_t)(1u << bit % 8);
		must(decode(msg, len, key, true) != MC_OK, "a frame with a changed bit is accepted");
	}
	free(msg);
}

static void read_str(struct mc_rd *r, size_t room)
{
	char out[16];

	memset(out, 'x', sizeof(out));
	mc_rd_str(r, out, room);
	must(memchr(out, 0, room) != NULL, "string without its NUL");
	must(!r->bad || out[0] == '\0', "string of a failed read");
	for (size_t i = room; i < sizeof(out); i++)
		must(out[i] == 'x', "string beyond its room");
}

static void read_blob(struct mc_rd *r, uint32_t max)
{
	uint32_t len = 0;
	const uint8_t *b = mc_rd_blob(r, &len, max);

	must((b == NULL) == r->bad, "blob and error disagree");
	must(len <= max && (b != NULL || len == 0), "blob longer than allowed");
	must(b == NULL || b + len == r->p, "blob is not what was passed over");
}

/* One read of the kind that op names. */
static void read_one(struct mc_rd *r, uint8_t op)
{
	uint8_t copy[16];

	switch (op % 8) {
	case 0:
		mc_rd_u8(r);
		break;
	case 1:
		mc_rd_u16(r);
		break;
	case 2:
		mc_rd_u32(r);
		break;
	case 3:
		must(mc_rd_u64(r) == 0 || !r->bad, "a short read is not zero");
		break;
	case 4:
		read_str(r, 1 + op / 8 % sizeof(copy));
		break;
	case 5:
		read_blob(r, op);
		break;
	case 6:
		mc_rd_copy(r, copy, op % sizeof(copy));
		break;
	default:
		must((mc_rd_bytes(r, op) == NULL) == r->bad, "bytes and error disagree");
		break;
	}
}

/* The input as its own program: the low end of each byte read chooses the next read. */
static void read_all_kinds(const uint8_t *p, size_t len)
{
	struct mc_rd r;

	mc_rd_init(&r, p, len);
	for (size_t i = 0; i < len && i < 64; i++) {
		const bool was_bad = r.bad;
		const size_t left = mc_rd_left(&r);

		read_one(&r, p[i]);
		must(mc_rd_left(&r) <= left, "cursor went back or past the end");
		must(!was_bad || (r.bad && mc_rd_left(&r) == left), "error did not stick");
		must(mc_rd_end(&r) == (!r.bad && mc_rd_left(&r) == 0), "end is told wrongly");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mc_mac_key key = {.set = false};

	if (size < 1)
		return 0;
#ifdef MC_HAVE_SODIUM
	key.set = (data[0] & KEYED) != 0;
	memset(key.key, 0x5a, sizeof(key.key));
#endif
	if (data[0] & BUILD)
		build_and_damage(data + 1, size - 1, &key);
	else
		decode(data + 1, size - 1, &key, (data[0] & SEALED) != 0);
	read_all_kinds(data + 1, size - 1);
	return 0;
}

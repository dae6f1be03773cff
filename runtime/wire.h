/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.h - the only code that touches bytes from peers: bounds-checked little-endian cursors and the message frame.
 * Format: docs/WIRE.md. Readers have a sticky error: after the first short read every further read gives zero, and
 * mc_rd_end() tells. Nothing here allocates.
 */
#ifndef MC_WIRE_H
#define MC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mc.h"

struct mc_rd {
	const uint8_t *p, *end;
	bool bad;
};
struct mc_wr {
	uint8_t *p, *end;
	uint8_t *start;
	bool bad; /* did not fit */
};

static inline void mc_rd_init(struct mc_rd *r, const void *buf, size_t len)
{
	static const uint8_t nowhere[1]; /* arithmetic on NULL is undefined even with 0 */
	r->p = len > 0 ? buf : nowhere;
	r->end = r->p + len;
	r->bad = false;
}

uint8_t mc_rd_u8(struct mc_rd *r);
uint16_t mc_rd_u16(struct mc_rd *r);
uint32_t mc_rd_u32(struct mc_rd *r);
uint64_t mc_rd_u64(struct mc_rd *r);
const void *mc_rd_bytes(struct mc_rd *r, size_t len);                  /* borrowed; NULL when short */
void mc_rd_copy(struct mc_rd *r, void *out, size_t len);               /* zeroes out when short */
void mc_rd_str(struct mc_rd *r, char *out, size_t room); /* u16 length + bytes; embedded NUL or no room: bad */
const void *mc_rd_blob(struct mc_rd *r, uint32_t *len_out, uint32_t max); /* u32 length + bytes; borrowed */
static inline size_t mc_rd_left(const struct mc_rd *r)
{
	return (size_t)(r->end - r->p);
}

/* No error and nothing left over. */
static inline bool mc_rd_end(const struct mc_rd *r)
{
	return !r->bad && r->p == r->end;
}

static inline void mc_wr_init(struct mc_wr *w, void *buf, size_t len)
{
	w->start = buf;
	w->p = buf;
	w->end = len > 0 ? w->p + len : w->p;
	w->bad = false;
}

void mc_wr_u8(struct mc_wr *w, uint8_t v);
void mc_wr_u16(struct mc_wr *w, uint16_t v);
void mc_wr_u32(struct mc_wr *w, uint32_t v);
void mc_wr_u64(struct mc_wr *w, uint64_t v);
void mc_wr_bytes(struct mc_wr *w, const void *p, size_t len);
void mc_wr_str(struct mc_wr *w, const char *s);
void mc_wr_blob(struct mc_wr *w, const void *p, uint32_t len);
static inline size_t mc_wr_len(const struct mc_wr *w)
{
	return (size_t)(w->p - w->start);
}

/* A notification, in one call: every short message has one. size is not on the wire. */
void mc_wr_notify(struct mc_wr *w, const struct mc_notify *n);
void mc_rd_notify(struct mc_rd *r, struct mc_notify *out); /* data borrowed; unknown flags, a payload too long: bad */

uint32_t mc_crc32c(uint32_t crc, const void *buf,
		   size_t len); /* start with 0; Castagnoli, reflected, final xor inside */

/* 64 bytes before every message. crc and mac cover the header (both fields zero) and the body, not the bulk data. */
#define MC_FRAME_LEN     64u
#define MC_FRAME_MAGIC   0x434du /* "MC" */
#define MC_FRAME_VERSION 1u
#define MC_MAC_LEN       16u

struct mc_frame {
	uint8_t kind;       /* enum mc_msg_kind */
	uint32_t src_rank;
	uint64_t job;       /* hash of the job id */
	uint64_t src_epoch;
	uint64_t dst_epoch; /* who the sender believes it talks to */
	uint32_t body_len;  /* structured part behind the header */
	uint32_t data_len;  /* raw bytes behind the body */
};

struct mc_mac_key {
	bool set; /* false: no key, macs are zero and not checked */
	uint8_t key[32];
	uint8_t frame[32]; /* made from it: keys of bodies and of headers */
};

/* out[MC_FRAME_LEN]; body: body_len bytes. `sealed`: with crc and mac; false on channels that the kernel protects. */
void mc_frame_encode(const struct mc_frame *f, const void *body, const struct mc_mac_key *key, bool sealed,
		     uint8_t *out);
/* A message holds one frame or several. Bytes of the first one; what does not add up is taken for one frame. */
size_t mc_frame_span(const void *msg, size_t len);
/*
 * Check and decode a frame of len bytes; *body_out and *data_out point into msg.
 * MC_ERR_PROTO: too short, wrong magic or version, lengths that do not add up, bad crc; MC_ERR_AUTH: mac does not
 * match.
 */
mc_status_t mc_frame_decode(const void *msg, size_t len, const struct mc_mac_key *key, bool sealed,
			    struct mc_frame *out, const uint8_t **body_out, const uint8_t **data_out);

/* What a frame says of itself, nothing checked: to find the key. False: not a frame. */
bool mc_frame_peek(const void *msg, size_t len, struct mc_frame *out);
/* The same, where frame and body lie in head and the data elsewhere. */
mc_status_t mc_frame_decode_head(const void *head, size_t head_len, uint32_t data_len, const struct mc_mac_key *key,
				 bool sealed, struct mc_frame *out, const uint8_t **body_out);

/*
 * 16 bytes instead of the frame, where the kernel keeps outsiders off and a message is to fit one cache line. `check`
 * stands for job and epochs: it is no secret, it only tells incarnations apart.
 */
#define MC_SHORT_LEN   16u
#define MC_SHORT_MAGIC 0x636du /* "mc" */

static inline uint64_t mc_short_check(uint64_t job, uint64_t src_epoch, uint64_t dst_epoch)
{
	/* Odd constants: each of the three changes the result, and there is not the same as back. */
	return job + src_epoch * UINT64_C(0x9e3779b97f4a7c15) + dst_epoch * UINT64_C(0xc2b2ae3d27d4eb4f);
}

void mc_short_encode(uint8_t kind, uint32_t src_rank, uint64_t check, uint8_t out[MC_SHORT_LEN]);
/* False: not one. The body is behind it. */
bool mc_short_decode(const void *msg, size_t len, uint8_t *kind_out, uint32_t *src_rank_out, uint64_t *check_out);

/* Of records and descriptors: keyed BLAKE2b (libsodium), 16 bytes; all zero without key or without libsodium. */
void mc_mac(const struct mc_mac_key *key, const void *a, size_t a_len, const void *b, size_t b_len,
	    uint8_t out[MC_MAC_LEN]);
bool mc_mac_equal(const uint8_t a[MC_MAC_LEN], const uint8_t b[MC_MAC_LEN]); /* constant time */
/* False: libsodium is not there, or did not start; the key counts for nothing. */
bool mc_mac_key_make(const uint8_t key[32], struct mc_mac_key *out);
/* 64 hex digits; an empty string: no key. */
mc_status_t mc_mac_key_parse(const char *hex, struct mc_mac_key *out);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* wire.c - cursors, message authentication and the frame; see wire.h. CRC-32C: wire_crc.c. */
#include "wire.h"

#include <endian.h>
#include <string.h>

#ifdef MC_HAVE_SODIUM
#include <sodium.h>
#endif

#include "log.h"

/* ---- reader ---- */

/* A number of fixed length is one load or store, not a loop over its bytes: a short message has a dozen of them. */
static inline uint16_t le16_get(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t le32_get(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t le64_get(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void le32_put(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void le64_put(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

/* The next len bytes; NULL when short. */
static inline const uint8_t *rd_take(struct mc_rd *r, size_t len)
{
	const uint8_t *p = r->p;

	if (r->bad || len > (size_t)(r->end - p)) {
		r->bad = true;
		return NULL;
	}
	r->p = p + len;
	return p;
}

const void *mc_rd_bytes(struct mc_rd *r, size_t len)
{
	return rd_take(r, len);
}

uint8_t mc_rd_u8(struct mc_rd *r)
{
	const uint8_t *p = rd_take(r, 1);

	return p != NULL ? *p : 0;
}

uint16_t mc_rd_u16(struct mc_rd *r)
{
	const uint8_t *p = rd_take(r, sizeof(uint16_t));

	return p != NULL ? le16_get(p) : 0;
}

uint32_t mc_rd_u32(struct mc_rd *r)
{
	const uint8_t *p = rd_take(r, sizeof(uint32_t));

	return p != NULL ? le32_get(p) : 0;
}

uint64_t mc_rd_u64(struct mc_rd *r)
{
	const uint8_t *p = rd_take(r, sizeof(uint64_t));

	return p != NULL ? le64_get(p) : 0;
}

void mc_rd_copy(struct mc_rd *r, void *out, size_t len)
{
	const void *p = mc_rd_bytes(r, len);

	if (len == 0)
		return;
	if (p == NULL)
		memset(out, 0, len);
	else
		memcpy(out, p, len);
}

void mc_rd_str(struct mc_rd *r, char *out, size_t room)
{
	const size_t len = mc_rd_u16(r);
	const void *p = mc_rd_bytes(r, len);

	out[0] = '\0';
	if (p == NULL)
		return;
	if (len >= room || memchr(p, 0, len) != NULL) {
		r->bad = true;
		return;
	}
	memcpy(out, p, len);
	out[len] = '\0';
}

const void *mc_rd_blob(struct mc_rd *r, uint32_t *len_out, uint32_t max)
{
	const uint32_t len = mc_rd_u32(r);
	const void *p;

	*len_out = 0;
	if (len > max)
		r->bad = true;
	p = mc_rd_bytes(r, len);
	if (p != NULL)
		*len_out = len;
	return p;
}

/* ---- writer ---- */

void mc_wr_bytes(struct mc_wr *w, const void *p, size_t len)
{
	if (w->bad || len > (size_t)(w->end - w->p)) {
		w->bad = true;
		return;
	}
	if (len == 0)
		return;
	memcpy(w->p, p, len);
	w->p += len;
}

/* Room for the next len bytes; NULL: they do not fit. */
static inline uint8_t *wr_take(struct mc_wr *w, size_t len)
{
	uint8_t *p = w->p;

	if (w->bad || len > (size_t)(w->end - p)) {
		w->bad = true;
		return NULL;
	}
	w->p = p + len;
	return p;
}

void mc_wr_u8(struct mc_wr *w, uint8_t v)
{
	uint8_t *p = wr_take(w, 1);

	if (p != NULL)
		*p = v;
}

void mc_wr_u16(struct mc_wr *w, uint16_t v)
{
	uint8_t *p = wr_take(w, sizeof(v));

	v = htole16(v);
	if (p != NULL)
		memcpy(p, &v, sizeof(v));
}

void mc_wr_u32(struct mc_wr *w, uint32_t v)
{
	uint8_t *p = wr_take(w, sizeof(v));

	if (p != NULL)
		le32_put(p, v);
}

void mc_wr_u64(struct mc_wr *w, uint64_t v)
{
	uint8_t *p = wr_take(w, sizeof(v));

	if (p != NULL)
		le64_put(p, v);
}

void mc_wr_str(struct mc_wr *w, const char *s)
{
	const size_t len = strlen(s);

	if (len > UINT16_MAX) {
		w->bad = true;
		return;
	}
	mc_wr_u16(w, (uint16_t)len);
	mc_wr_bytes(w, s, len);
}

void mc_wr_blob(struct mc_wr *w, const void *p, uint32_t len)
{
	mc_wr_u32(w, len);
	mc_wr_bytes(w, p, len);
}

/* ---- notification: flags 0, tag 1, add 9, length 17, payload 21; nothing but the flags where they are 0 ---- */

enum { NOTIFY_TAG_OFF = 1, NOTIFY_ADD_OFF = 9, NOTIFY_LEN_OFF = 17, NOTIFY_LEN = 21 };

void mc_wr_notify(struct mc_wr *w, const struct mc_notify *n)
{
	uint8_t *p = wr_take(w, n->flags != 0 ? NOTIFY_LEN : 1);

	if (p == NULL)
		return;
	p[0] = (uint8_t)n->flags;
	if (n->flags == 0)
		return;
	le64_put(p + NOTIFY_TAG_OFF, n->tag);
	le64_put(p + NOTIFY_ADD_OFF, n->add);
	le32_put(p + NOTIFY_LEN_OFF, n->data_len);
	mc_wr_bytes(w, n->data, n->data_len);
}

void mc_rd_notify(struct mc_rd *r, struct mc_notify *out)
{
	const uint8_t *p = rd_take(r, 1);

	*out = (struct mc_notify){.flags = p != NULL ? *p : 0};
	if (out->flags == 0)
		return;
	p = rd_take(r, NOTIFY_LEN - NOTIFY_TAG_OFF);
	if (p == NULL)
		return;
	p -= NOTIFY_TAG_OFF;
	out->tag = le64_get(p + NOTIFY_TAG_OFF);
	out->add = le64_get(p + NOTIFY_ADD_OFF);
	out->data_len = le32_get(p + NOTIFY_LEN_OFF);
	if (out->data_len > MC_NOTE_MAX || (out->flags & ~(uint32_t)(MC_NOTIFY_COUNT | MC_NOTIFY_NOTE)) != 0)
		r->bad = true;
	out->data = rd_take(r, out->data_len);
}

/* ---- authentication ---- */

void mc_mac(const struct mc_mac_key *key, const void *a, size_t a_len, const void *b, size_t b_len,
	    uint8_t out[MC_MAC_LEN])
{
	memset(out, 0, MC_MAC_LEN);
#ifdef MC_HAVE_SODIUM
	if (key != NULL && key->set) {
		crypto_generichash_state state;

		/* These fail only on lengths outside the algorithm's limits, which are constants here. */
		crypto_generichash_init(&state, key->key, sizeof(key->key), MC_MAC_LEN);
		if (a_len > 0)
			crypto_generichash_update(&state, a, a_len);
		if (b_len > 0)
			crypto_generichash_update(&state, b, b_len);
		crypto_generichash_final(&state, out, MC_MAC_LEN);
	}
#else
	(void)key;
	(void)a;
	(void)a_len;
	(void)b;
	(void)b_len;
#endif
}

bool mc_mac_equal(const uint8_t a[MC_MAC_LEN], const uint8_t b[MC_MAC_LEN])
{
	volatile uint8_t diff = 0;

	for (size_t i = 0; i < MC_MAC_LEN; i++)
		diff = (uint8_t)(diff | (a[i] ^ b[i]));
	return diff == 0;
}

bool mc_mac_key_make(const uint8_t key[32], struct mc_mac_key *out)
{
	*out = (struct mc_mac_key){.set = false};
	memcpy(out->key, key, sizeof(out->key));
#ifdef MC_HAVE_SODIUM
	/* Picks the fastest BLAKE2b; may be called again and from any thread. Every key passes here, no frame does. */
	if (sodium_init() < 0)
		return false;
	/* Fails only on lengths outside the algorithm's limits, which are constants here. */
	crypto_generichash(out->frame, sizeof(out->frame), (const uint8_t *)"mc frame", 8, key, sizeof(out->key));
	out->set = true;
#endif
	return out->set;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Bad digits are not logged here: config.c has refused them before with the setting's name. */
mc_status_t mc_mac_key_parse(const char *hex, struct mc_mac_key *out)
{
	struct mc_mac_key k = {.set = false};
	uint8_t raw[sizeof(k.key)];

	if (hex[0] != '\0') {
		for (size_t i = 0; i < sizeof(k.key); i++) {
			const int hi = hex_digit(hex[2 * i]);
			const int lo = hi < 0 ? -1 : hex_digit(hex[2 * i + 1]);

			if (lo < 0)
				return MC_ERR_INVAL;
			raw[i] = (uint8_t)(hi << 4 | lo);
		}
		if (hex[2 * sizeof(k.key)] != '\0')
			return MC_ERR_INVAL;
#ifdef MC_HAVE_SODIUM
		if (!mc_mac_key_make(raw, &k)) {
			mc_error("libsodium cannot start; it needs getrandom or /dev/urandom");
			return MC_ERR_DEVICE;
		}
#else
		(void)raw;
		mc_warn("peers are not authenticated: MC_JOB_KEY is set, but libmc was built without libsodium");
#endif
	}
	*out = k;
	return MC_OK;
}

/* ---- frame ---- */

/*
 * Offsets: magic 0, version 2, kind 3, src_rank 4, job 8, src_epoch 16, dst_epoch 24, body_len 32, data_len 36, crc 40,
 * zero 44, mac 48.
 */
enum {
	FRAME_RANK_OFF = 4,
	FRAME_JOB_OFF = 8,
	FRAME_SRC_OFF = 16,
	FRAME_DST_OFF = 24,
	FRAME_BODY_OFF = 32,
	FRAME_DATA_OFF = 36,
	FRAME_CRC_OFF = 40,
	FRAME_ZERO_OFF = 44,
	FRAME_MAC_OFF = 48,
	MAC_BODY_MAX = 256 /* longest body whose mac is computed with the header's in one go */
};

/* msg: MC_FRAME_LEN bytes at least. False: another magic or version. */
static inline bool frame_fields(const uint8_t *msg, struct mc_frame *out)
{
	if ((le32_get(msg) & 0xffffff) != (MC_FRAME_MAGIC | MC_FRAME_VERSION << 16))
		return false;
	out->kind = msg[3];
	out->src_rank = le32_get(msg + FRAME_RANK_OFF);
	out->job = le64_get(msg + FRAME_JOB_OFF);
	out->src_epoch = le64_get(msg + FRAME_SRC_OFF);
	out->dst_epoch = le64_get(msg + FRAME_DST_OFF);
	out->body_len = le32_get(msg + FRAME_BODY_OFF);
	out->data_len = le32_get(msg + FRAME_DATA_OFF);
	return true;
}

bool mc_frame_peek(const void *msg, size_t len, struct mc_frame *out)
{
	return len >= MC_FRAME_LEN && frame_fields(msg, out);
}

/*
 * SipHash-2-4 of 128 bits: every message has a mac, and BLAKE2b would take longer than all the rest of a short one. A
 * short body goes through it together with the header. Of a long one it is computed first and stands in the header in
 * the place of the mac when the header's is computed. The header says how long the body is, so that no message of one
 * kind is one of the other.
 */
static void frame_mac(const uint8_t head[MC_FRAME_LEN], const void *body, uint32_t body_len,
		      const struct mc_mac_key *key, uint8_t out[MC_MAC_LEN])
{
	memset(out, 0, MC_MAC_LEN);
#ifdef MC_HAVE_SODIUM
	if (key != NULL && key->set) {
		uint8_t all[FRAME_CRC_OFF + MAC_BODY_MAX];

		if (body_len <= MAC_BODY_MAX) {
			memcpy(all, head, FRAME_CRC_OFF);
			if (body_len > 0)
				memcpy(all + FRAME_CRC_OFF, body, body_len);
			crypto_shorthash_siphashx24(out, all, FRAME_CRC_OFF + body_len, key->frame + MC_MAC_LEN);
			return;
		}
		memcpy(all, head, FRAME_MAC_OFF);
		crypto_shorthash_siphashx24(all + FRAME_MAC_OFF, body, body_len, key->frame);
		crypto_shorthash_siphashx24(out, all, MC_FRAME_LEN, key->frame + MC_MAC_LEN);
	}
#else
	(void)head;
	(void)body;
	(void)body_len;
	(void)key;
#endif
}

/* Over the header as it is with crc and mac zero, then the body. */
static void frame_seal(const uint8_t head[MC_FRAME_LEN], const void *body, uint32_t body_len,
		       const struct mc_mac_key *key, uint32_t *crc_out, uint8_t mac_out[MC_MAC_LEN])
{
	*crc_out = mc_crc32c(mc_crc32c(0, head, MC_FRAME_LEN), body, body_len);
	frame_mac(head, body, body_len, key, mac_out);
}

void mc_frame_encode(const struct mc_frame *f, const void *body, const struct mc_mac_key *key, bool sealed,
		     uint8_t *out)
{
	uint8_t mac[MC_MAC_LEN];
	uint32_t crc;

	le32_put(out, MC_FRAME_MAGIC | MC_FRAME_VERSION << 16 | (uint32_t)f->kind << 24);
	le32_put(out + FRAME_RANK_OFF, f->src_rank);
	le64_put(out + FRAME_JOB_OFF, f->job);
	le64_put(out + FRAME_SRC_OFF, f->src_epoch);
	le64_put(out + FRAME_DST_OFF, f->dst_epoch);
	le32_put(out + FRAME_BODY_OFF, f->body_len);
	le32_put(out + FRAME_DATA_OFF, f->data_len);
	le64_put(out + FRAME_CRC_OFF, 0); /* and the zero behind it */
	memset(out + FRAME_MAC_OFF, 0, MC_MAC_LEN);
	if (!sealed)
		return;
	frame_seal(out, body, f->body_len, key, &crc, mac);
	le32_put(out + FRAME_CRC_OFF, crc);
	memcpy(out + FRAME_MAC_OFF, mac, MC_MAC_LEN);
}

static mc_status_t frame_check_seal(const uint8_t *msg, uint32_t body_len, const struct mc_mac_key *key, uint32_t crc)
{
	uint8_t head[MC_FRAME_LEN], mac[MC_MAC_LEN];
	uint32_t want;

	memcpy(head, msg, MC_FRAME_LEN);
	memset(head + FRAME_CRC_OFF, 0, sizeof(uint32_t));
	memset(head + FRAME_MAC_OFF, 0, MC_MAC_LEN);
	frame_seal(head, msg + MC_FRAME_LEN, body_len, key, &want, mac);
	if (crc != want)
		return MC_ERR_PROTO;
	if (key != NULL && key->set && !mc_mac_equal(mac, msg + FRAME_MAC_OFF))
		return MC_ERR_AUTH;
	return MC_OK;
}

size_t mc_frame_span(const void *msg, size_t len)
{
	const uint8_t *p = msg;
	uint64_t total = MC_FRAME_LEN;

	if (len < MC_FRAME_LEN)
		return len;
	total += le32_get(p + FRAME_BODY_OFF);
	total += le32_get(p + FRAME_DATA_OFF);
	return total < len && total % 8 == 0 ? (size_t)total : len;
}

/* apart: so many bytes of data are not in msg; then nothing but frame and body is. */
static mc_status_t frame_decode(const void *msg, size_t len, uint64_t apart, const struct mc_mac_key *key, bool sealed,
				struct mc_frame *out)
{
	const uint8_t *p = msg;
	struct mc_frame f;

	if (len < MC_FRAME_LEN || !frame_fields(p, &f))
		return MC_ERR_PROTO;
	if (le32_get(p + FRAME_ZERO_OFF) != 0 ||
	    (uint64_t)f.body_len + f.data_len != (uint64_t)(len - MC_FRAME_LEN) + apart ||
	    (apart > 0 && f.data_len != apart))
		return MC_ERR_PROTO;
	if (sealed) {
		const mc_status_t s = frame_check_seal(p, f.body_len, key, le32_get(p + FRAME_CRC_OFF));

		if (s != MC_OK)
			return s;
	}
	*out = f;
	return MC_OK;
}

mc_status_t mc_frame_decode(const void *msg, size_t len, const struct mc_mac_key *key, bool sealed,
			    struct mc_frame *out, const uint8_t **body_out, const uint8_t **data_out)
{
	const mc_status_t s = frame_decode(msg, len, 0, key, sealed, out);

	if (s != MC_OK)
		return s;
	*body_out = (const uint8_t *)msg + MC_FRAME_LEN;
	*data_out = *body_out + out->body_len;
	return MC_OK;
}

mc_status_t mc_frame_decode_head(const void *head, size_t head_len, uint32_t data_len, const struct mc_mac_key *key,
				 bool sealed, struct mc_frame *out, const uint8_t **body_out)
{
	struct mc_frame f;
	const mc_status_t s = frame_decode(head, head_len, data_len, key, sealed, &f);

	if (s != MC_OK)
		return s;
	if (f.data_len != data_len)
		return MC_ERR_PROTO;
	*out = f;
	*body_out = (const uint8_t *)head + MC_FRAME_LEN;
	return MC_OK;
}

/* ---- short frame: magic 0, version 2, kind 3, src_rank 4, check 8 ---- */

enum { SHORT_CHECK_OFF = 8 };

void mc_short_encode(uint8_t kind, uint32_t src_rank, uint64_t check, uint8_t out[MC_SHORT_LEN])
{
	le32_put(out, MC_SHORT_MAGIC | MC_FRAME_VERSION << 16 | (uint32_t)kind << 24);
	le32_put(out + FRAME_RANK_OFF, src_rank);
	le64_put(out + SHORT_CHECK_OFF, check);
}

bool mc_short_decode(const void *msg, size_t len, uint8_t *kind_out, uint32_t *src_rank_out, uint64_t *check_out)
{
	const uint8_t *p = msg;

	if (len < MC_SHORT_LEN || (le32_get(p) & 0xffffff) != (MC_SHORT_MAGIC | MC_FRAME_VERSION << 16))
		return false;
	*kind_out = p[3];
	*src_rank_out = le32_get(p + FRAME_RANK_OFF);
	*check_out = le64_get(p + SHORT_CHECK_OFF);
	return true;
}

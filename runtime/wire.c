/* SPDX-License-Identifier: BSD-3-Clause */
/* wire.c - cursors, CRC-32C, message authentication and the frame; see wire.h. */
#include "wire.h"

#include <endian.h>
#include <string.h>

#ifdef MC_HAVE_SODIUM
#include <sodium.h>
#endif
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#include "log.h"

/* What an empty cursor points at: arithmetic on NULL is undefined even with 0. */
static const uint8_t nowhere[1];

/* ---- reader ---- */

void mc_rd_init(struct mc_rd *r, const void *buf, size_t len)
{
	r->p = len > 0 ? buf : nowhere;
	r->end = r->p + len;
	r->bad = false;
}

size_t mc_rd_left(const struct mc_rd *r)
{
	return (size_t)(r->end - r->p);
}

bool mc_rd_end(const struct mc_rd *r)
{
	return !r->bad && r->p == r->end;
}

/* A number of fixed length is one load or store, not a loop over its bytes: a short message has a dozen of them. */
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
	const uint8_t *p = rd_take(r, 2);

	return p != NULL ? (uint16_t)(p[0] | p[1] << 8) : 0;
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

void mc_wr_init(struct mc_wr *w, void *buf, size_t len)
{
	w->start = buf;
	w->p = buf;
	w->end = len > 0 ? w->p + len : w->p;
	w->bad = false;
}

size_t mc_wr_len(const struct mc_wr *w)
{
	return (size_t)(w->p - w->start);
}

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
	uint8_t *p = wr_take(w, 2);

	if (p == NULL)
		return;
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
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

/* ---- CRC-32C ---- */

/* Byte at a time, for processors without the instruction; not static so that a test can compare the two. */
uint32_t mc_crc32c_table(uint32_t crc, const void *buf, size_t len);

static const uint32_t crc_table[256] = {
	0x00000000, 0xf26b8303, 0xe13b70f7, 0x1350f3f4, 0xc79a971f, 0x35f1141c, 0x26a1e7e8, 0xd4ca64eb, 0x8ad958cf,
	0x78b2dbcc, 0x6be22838, 0x9989ab3b, 0x4d43cfd0, 0xbf284cd3, 0xac78bf27, 0x5e133c24, 0x105ec76f, 0xe235446c,
	0xf165b798, 0x030e349b, 0xd7c45070, 0x25afd373, 0x36ff2087, 0xc494a384, 0x9a879fa0, 0x68ec1ca3, 0x7bbcef57,
	0x89d76c54, 0x5d1d08bf, 0xaf768bbc, 0xbc267848, 0x4e4dfb4b, 0x20bd8ede, 0xd2d60ddd, 0xc186fe29, 0x33ed7d2a,
	0xe72719c1, 0x154c9ac2, 0x061c6936, 0xf477ea35, 0xaa64d611, 0x580f5512, 0x4b5fa6e6, 0xb93425e5, 0x6dfe410e,
	0x9f95c20d, 0x8cc531f9, 0x7eaeb2fa, 0x30e349b1, 0xc288cab2, 0xd1d83946, 0x23b3ba45, 0xf779deae, 0x05125dad,
	0x1642ae59, 0xe4292d5a, 0xba3a117e, 0x4851927d, 0x5b016189, 0xa96ae28a, 0x7da08661, 0x8fcb0562, 0x9c9bf696,
	0x6ef07595, 0x417b1dbc, 0xb3109ebf, 0xa0406d4b, 0x522bee48, 0x86e18aa3, 0x748a09a0, 0x67dafa54, 0x95b17957,
	0xcba24573, 0x39c9c670, 0x2a993584, 0xd8f2b687, 0x0c38d26c, 0xfe53516f, 0xed03a29b, 0x1f682198, 0x5125dad3,
	0xa34e59d0, 0xb01eaa24, 0x42752927, 0x96bf4dcc, 0x64d4cecf, 0x77843d3b, 0x85efbe38, 0xdbfc821c, 0x2997011f,
	0x3ac7f2eb, 0xc8ac71e8, 0x1c661503, 0xee0d9600, 0xfd5d65f4, 0x0f36e6f7, 0x61c69362, 0x93ad1061, 0x80fde395,
	0x72966096, 0xa65c047d, 0x5437877e, 0x4767748a, 0xb50cf789, 0xeb1fcbad, 0x197448ae, 0x0a24bb5a, 0xf84f3859,
	0x2c855cb2, 0xdeeedfb1, 0xcdbe2c45, 0x3fd5af46, 0x7198540d, 0x83f3d70e, 0x90a324fa, 0x62c8a7f9, 0xb602c312,
	0x44694011, 0x5739b3e5, 0xa55230e6, 0xfb410cc2, 0x092a8fc1, 0x1a7a7c35, 0xe811ff36, 0x3cdb9bdd, 0xceb018de,
	0xdde0eb2a, 0x2f8b6829, 0x82f63b78, 0x709db87b, 0x63cd4b8f, 0x91a6c88c, 0x456cac67, 0xb7072f64, 0xa457dc90,
	0x563c5f93, 0x082f63b7, 0xfa44e0b4, 0xe9141340, 0x1b7f9043, 0xcfb5f4a8, 0x3dde77ab, 0x2e8e845f, 0xdce5075c,
	0x92a8fc17, 0x60c37f14, 0x73938ce0, 0x81f80fe3, 0x55326b08, 0xa759e80b, 0xb4091bff, 0x466298fc, 0x1871a4d8,
	0xea1a27db, 0xf94ad42f, 0x0b21572c, 0xdfeb33c7, 0x2d80b0c4, 0x3ed04330, 0xccbbc033, 0xa24bb5a6, 0x502036a5,
	0x4370c551, 0xb11b4652, 0x65d122b9, 0x97baa1ba, 0x84ea524e, 0x7681d14d, 0x2892ed69, 0xdaf96e6a, 0xc9a99d9e,
	0x3bc21e9d, 0xef087a76, 0x1d63f975, 0x0e330a81, 0xfc588982, 0xb21572c9, 0x407ef1ca, 0x532e023e, 0xa145813d,
	0x758fe5d6, 0x87e466d5, 0x94b49521, 0x66df1622, 0x38cc2a06, 0xcaa7a905, 0xd9f75af1, 0x2b9cd9f2, 0xff56bd19,
	0x0d3d3e1a, 0x1e6dcdee, 0xec064eed, 0xc38d26c4, 0x31e6a5c7, 0x22b65633, 0xd0ddd530, 0x0417b1db, 0xf67c32d8,
	0xe52cc12c, 0x1747422f, 0x49547e0b, 0xbb3ffd08, 0xa86f0efc, 0x5a048dff, 0x8ecee914, 0x7ca56a17, 0x6ff599e3,
	0x9d9e1ae0, 0xd3d3e1ab, 0x21b862a8, 0x32e8915c, 0xc083125f, 0x144976b4, 0xe622f5b7, 0xf5720643, 0x07198540,
	0x590ab964, 0xab613a67, 0xb831c993, 0x4a5a4a90, 0x9e902e7b, 0x6cfbad78, 0x7fab5e8c, 0x8dc0dd8f, 0xe330a81a,
	0x115b2b19, 0x020bd8ed, 0xf0605bee, 0x24aa3f05, 0xd6c1bc06, 0xc5914ff2, 0x37faccf1, 0x69e9f0d5, 0x9b8273d6,
	0x88d28022, 0x7ab90321, 0xae7367ca, 0x5c18e4c9, 0x4f48173d, 0xbd23943e, 0xf36e6f75, 0x0105ec76, 0x12551f82,
	0xe03e9c81, 0x34f4f86a, 0xc69f7b69, 0xd5cf889d, 0x27a40b9e, 0x79b737ba, 0x8bdcb4b9, 0x988c474d, 0x6ae7c44e,
	0xbe2da0a5, 0x4c4623a6, 0x5f16d052, 0xad7d5351,
};

uint32_t mc_crc32c_table(uint32_t crc, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	crc = ~crc;
	for (size_t i = 0; i < len; i++)
		crc = crc_table[(crc ^ p[i]) & 0xff] ^ (crc >> 8);
	return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint64_t c = (uint32_t)~crc;

	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v;

		memcpy(&v, p, sizeof(v));
		c = _mm_crc32_u64(c, v);
	}
	for (; len > 0; p++, len--)
		c = _mm_crc32_u8((uint32_t)c, *p);
	return ~(uint32_t)c;
}
#endif

uint32_t mc_crc32c(uint32_t crc, const void *buf, size_t len)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return crc32c_sse42(crc, buf, len);
#endif
	return mc_crc32c_table(crc, buf, len);
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
	FRAME_MAC_OFF = 48
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
 * SipHash-2-4 of 128 bits: every message has a mac, and BLAKE2b would take longer than all the rest of a short one. The
 * body's is computed first and stands in the header in the place of the mac when the header's is computed.
 */
static void frame_mac(const uint8_t head[MC_FRAME_LEN], const void *body, uint32_t body_len,
		      const struct mc_mac_key *key, uint8_t out[MC_MAC_LEN])
{
	memset(out, 0, MC_MAC_LEN);
#ifdef MC_HAVE_SODIUM
	if (key != NULL && key->set) {
		uint8_t with_body[MC_FRAME_LEN];

		memcpy(with_body, head, FRAME_MAC_OFF);
		crypto_shorthash_siphashx24(with_body + FRAME_MAC_OFF, body, body_len, key->frame);
		crypto_shorthash_siphashx24(out, with_body, sizeof(with_body), key->frame + MC_MAC_LEN);
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

/* SPDX-License-Identifier: BSD-3-Clause */
/* wirenote.h - the payload of notes between ranks: little-endian, read with a bounds check and a sticky error. */
#ifndef PERF_WIRENOTE_H
#define PERF_WIRENOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct perf_rd {
	const uint8_t *p, *end;
	bool bad;
};
struct perf_wr {
	uint8_t *start, *p, *end;
	bool bad; /* did not fit */
};

static inline void perf_rd_init(struct perf_rd *r, const void *buf, size_t len)
{
	*r = (struct perf_rd){.p = buf, .end = (const uint8_t *)buf + len};
	if (len == 0)
		r->p = r->end = NULL;
}

static inline size_t perf_rd_left(const struct perf_rd *r)
{
	return r->bad ? 0 : (size_t)(r->end - r->p);
}

static inline uint64_t perf_rd_le(struct perf_rd *r, size_t bytes)
{
	uint64_t v = 0;

	if (perf_rd_left(r) < bytes) {
		r->bad = true;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		v |= (uint64_t)r->p[i] << (8 * i);
	r->p += bytes;
	return v;
}

static inline uint32_t perf_rd_u32(struct perf_rd *r)
{
	return (uint32_t)perf_rd_le(r, 4);
}

static inline uint64_t perf_rd_u64(struct perf_rd *r)
{
	return perf_rd_le(r, 8);
}

/* Text with its length before it; cut to room. */
static inline void perf_rd_text(struct perf_rd *r, char *out, size_t room)
{
	size_t len = perf_rd_u32(r), n;

	out[0] = '\0';
	if (perf_rd_left(r) < len) {
		r->bad = true;
		return;
	}
	n = len < room - 1 ? len : room - 1;
	if (n > 0)
		memcpy(out, r->p, n);
	out[n] = '\0';
	r->p += len;
}

/* Everything read, nothing left over. */
static inline bool perf_rd_end(const struct perf_rd *r)
{
	return !r->bad && r->p == r->end;
}

static inline void perf_wr_init(struct perf_wr *w, void *buf, size_t len)
{
	*w = (struct perf_wr){.start = buf, .p = buf, .end = (uint8_t *)buf + len};
}

static inline void perf_wr_le(struct perf_wr *w, uint64_t v, size_t bytes)
{
	if (w->bad || (size_t)(w->end - w->p) < bytes) {
		w->bad = true;
		return;
	}
	for (size_t i = 0; i < bytes; i++)
		w->p[i] = (uint8_t)(v >> (8 * i));
	w->p += bytes;
}

static inline void perf_wr_u32(struct perf_wr *w, uint32_t v)
{
	perf_wr_le(w, v, 4);
}

static inline void perf_wr_u64(struct perf_wr *w, uint64_t v)
{
	perf_wr_le(w, v, 8);
}

static inline void perf_wr_text(struct perf_wr *w, const char *s)
{
	size_t len = strlen(s);

	perf_wr_u32(w, (uint32_t)len);
	if (w->bad || (size_t)(w->end - w->p) < len) {
		w->bad = true;
		return;
	}
	memcpy(w->p, s, len);
	w->p += len;
}

static inline uint32_t perf_wr_len(const struct perf_wr *w)
{
	return (uint32_t)(w->p - w->start);
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv_oracle.h - what a KV transfer must do, element by element and without strides, merging or planning: where each
 * element range lies by the formula of mc.h, and a memory that remembers for every byte where it came from.
 */
#ifndef KV_ORACLE_H
#define KV_ORACLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kv.h"

enum { RANKS_MAX = 64, BYTES_MAX = 1 << 20 /* of one pool */ };

/* One side: its ranks' layouts, and the block table of the sequence, the same on all of them. */
struct side {
	struct mc_kv_layout l[RANKS_MAX];
	uint64_t extent[RANKS_MAX]; /* bytes per base */
	uint32_t n;
	uint32_t block[512];
	uint32_t table_n;
};

/* Where each byte of a target came from: serial of the case in the upper half, so that nothing has to be cleared. */
struct origin {
	uint32_t serial;
	uint16_t src, base;
	uint32_t off;
};

struct oracle {
	struct side src, dst;
	struct origin *byte[RANKS_MAX]; /* [BYTES_MAX], base after base */
	uint32_t serial;
	uint64_t written; /* bytes in this case, each once */
	uint64_t seed;    /* that repeats this case */
};

static inline void oracle_fail(const struct oracle *o, const char *what)
{
	fprintf(stderr, "%s; repeat with TEST_SEED=%llu TEST_CASES=1\n", what, (unsigned long long)o->seed);
	fail();
}

static inline bool oracle_holds(const struct mc_kv_layout *l, uint32_t layer, uint32_t head)
{
	return layer >= l->layer_lo && layer - l->layer_lo < l->layer_n && head >= l->head_lo &&
	       head - l->head_lo < l->head_n;
}

static inline bool oracle_any_holds(const struct side *s, uint32_t layer, uint32_t head)
{
	for (uint32_t i = 0; i < s->n; i++)
		if (oracle_holds(&s->l[i], layer, head))
			return true;
	return false;
}

/* The formula of struct mc_kv_layout. */
static inline uint64_t oracle_place(const struct side *s, uint32_t rank, uint32_t layer, uint32_t kv, uint32_t head,
				    uint32_t token, uint32_t *base)
{
	const struct mc_kv_layout *l = &s->l[rank];
	bool per_layer = (l->flags & MC_KV_BASE_PER_LAYER) != 0, per_kv = (l->flags & MC_KV_BASE_PER_KV) != 0;
	uint64_t off = s->block[token / l->block_tokens] * l->stride[MC_KV_BLOCK] +
		       token % l->block_tokens * l->stride[MC_KV_TOKEN] + (head - l->head_lo) * l->stride[MC_KV_HEAD];

	*base = 0;
	if (per_layer)
		*base += (layer - l->layer_lo) * (per_kv ? l->kv_n : 1);
	else
		off += (layer - l->layer_lo) * l->stride[MC_KV_LAYER];
	if (per_kv)
		*base += kv;
	else
		off += kv * l->stride[MC_KV_KV];
	return off;
}

/* Carry out one run, byte by byte. */
static inline void oracle_copy(struct oracle *o, uint32_t src, uint32_t dst, const struct mc_kv_run *r)
{
	uint64_t se = o->src.extent[src], de = o->dst.extent[dst];

	if (r->count < 1 || r->len < 1 || r->src_base >= mc_kv_layout_base_n(&o->src.l[src]) ||
	    r->dst_base >= mc_kv_layout_base_n(&o->dst.l[dst]))
		oracle_fail(o, "a run without bytes, or with a base that is not there");
	const struct mc_kv_level *l = r->level;
	if ((uint64_t)l[0].n * l[1].n * l[2].n != r->count)
		oracle_fail(o, "a run has another number of pieces than its levels say");
	for (uint64_t i = 0; i < r->count; i++) {
		uint64_t x = i % l[0].n, y = i / l[0].n % l[1].n, z = i / l[0].n / l[1].n;
		uint64_t from = r->src_off + x * l[0].src + y * l[1].src + z * l[2].src;
		uint64_t to = r->dst_off + x * l[0].dst + y * l[1].dst + z * l[2].dst;
		if (!mc_range_ok(from, r->len, se) || !mc_range_ok(to, r->len, de))
			oracle_fail(o, "a run leaves its pool");
		for (uint64_t k = 0; k < r->len; k++) {
			struct origin *b = &o->byte[dst][r->dst_base * de + to + k];
			if (b->serial == o->serial)
				oracle_fail(o, "a byte was written twice");
			*b = (struct origin){o->serial, (uint16_t)src, (uint16_t)r->src_base, (uint32_t)(from + k)};
		}
		o->written += r->len;
	}
}

/*
 * Every byte of that layer and token at target `dst` must have come from the same element at a source that has it;
 * where none has it, from nowhere. Returns how many bytes there are.
 */
static inline uint64_t oracle_check_token(const struct oracle *o, uint32_t dst, uint32_t layer, uint32_t token)
{
	const struct mc_kv_layout *l = &o->dst.l[dst];
	uint64_t vec = mc_kv_layout_vec(l), bytes = 0;

	for (uint32_t kv = 0; kv < l->kv_n; kv++) {
		for (uint32_t head = l->head_lo; head < l->head_lo + l->head_n; head++) {
			uint32_t base, src_base;
			uint64_t off = oracle_place(&o->dst, dst, layer, kv, head, token, &base), src_off;
			const struct origin *b = &o->byte[dst][base * o->dst.extent[dst] + off];
			if (!oracle_any_holds(&o->src, layer, head))
				continue;
			if (b->serial != o->serial)
				oracle_fail(o, "an element was not written");
			uint32_t src = b->src;
			if (!oracle_holds(&o->src.l[src], layer, head))
				oracle_fail(o, "an element came from a source that does not have it");
			src_off = oracle_place(&o->src, src, layer, kv, head, token, &src_base);
			for (uint64_t k = 0; k < vec; k++)
				if (b[k].serial != o->serial || b[k].src != src || b[k].base != src_base ||
				    b[k].off != src_off + k)
					oracle_fail(o, "a byte came from the wrong place");
			bytes += vec;
		}
	}
	return bytes;
}

static inline void oracle_init(struct oracle *o)
{
	memset(o, 0, sizeof(*o));
	for (uint32_t i = 0; i < RANKS_MAX; i++) {
		o->byte[i] = calloc(BYTES_MAX, sizeof(**o->byte)); /* pages are taken on first touch */
		assert_non_null(o->byte[i]);
	}
}

static inline void oracle_destroy(struct oracle *o)
{
	for (uint32_t i = 0; i < RANKS_MAX; i++)
		free(o->byte[i]);
}

#endif

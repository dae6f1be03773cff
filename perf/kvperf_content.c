/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Content of a KV cache and its check, element range by element range: the bytes of (layer, K or V, token, head) are
 * the pattern of that identity, whatever the layout. Walks go along the layout's smallest strides.
 */
#include <stdlib.h>
#include <string.h>

#include "kvperf.h"
#include "pattern.h"

static uint64_t key_of(const struct kvperf_view *v, uint32_t layer, uint32_t kv, uint32_t token, uint32_t head)
{
	/* token < 2^24, head * 2 + kv < 2^20, layer < 2^8, round < 2^12: no two identities share a key */
	return perf_pattern_key(v->seed, token, layer, head * 2 + kv, v->round % PERF_PATTERN_RANKS);
}

/* The first element range of a block: token 0 of it, the rank's first head. */
static uint8_t *block_of(const struct kvperf_view *v, uint32_t layer, uint32_t kv, uint32_t block)
{
	const struct mc_kv_layout *l = v->layout;
	uint32_t base = 0, at = layer - l->layer_lo;
	uint64_t off = (uint64_t)block * l->stride[MC_KV_BLOCK];

	if (l->flags & MC_KV_BASE_PER_LAYER)
		base = at;
	else
		off += at * l->stride[MC_KV_LAYER];
	if (l->flags & MC_KV_BASE_PER_KV)
		base = base * l->kv_n + kv;
	else
		off += kv * l->stride[MC_KV_KV];
	return v->mem + base * kvperf_extent(l) + off;
}

uint8_t *kvperf_place(const struct kvperf_view *v, uint32_t layer, uint32_t kv, uint32_t token, uint32_t head)
{
	const struct mc_kv_layout *l = v->layout;

	return block_of(v, layer, kv, v->block[token / l->block_tokens]) +
	       token % l->block_tokens * l->stride[MC_KV_TOKEN] + (head - l->head_lo) * l->stride[MC_KV_HEAD];
}

/* One block of one layer, K or V: what is to be done with its element ranges. */
struct step {
	uint32_t layer, kv, token, token_n; /* first token of the sequence in it, and how many */
	uint8_t *at;
};

static bool check_range(const struct kvperf_view *v, const struct step *s, uint32_t t, uint32_t h, const uint8_t *p,
			struct kvperf_bad *bad_out)
{
	uint32_t token = s->token + t, head = v->layout->head_lo + h;
	struct perf_pattern_bad bad;

	if (perf_pattern_check(p, 0, (uint64_t)v->layout->head_dim * v->layout->elem_bytes,
			       key_of(v, s->layer, s->kv, token, head), &bad))
		return true;
	*bad_out = (struct kvperf_bad){.layer = s->layer, .kv = s->kv, .token = token, .head = head};
	bad_out->byte.off = bad.off;
	bad_out->byte.expected = bad.expected;
	bad_out->byte.actual = bad.actual;
	return false;
}

/* bad_out NULL: fill, else check. The inner loop runs along the smaller stride. */
static bool visit(const struct kvperf_view *v, const struct step *s, struct kvperf_bad *bad_out)
{
	const struct mc_kv_layout *l = v->layout;
	uint64_t st = l->stride[MC_KV_TOKEN], sh = l->stride[MC_KV_HEAD], vec = (uint64_t)l->head_dim * l->elem_bytes;
	bool heads_inside = sh < st || l->block_tokens == 1;
	uint32_t outer_n = heads_inside ? s->token_n : l->head_n, inner_n = heads_inside ? l->head_n : s->token_n;

	for (uint32_t o = 0; o < outer_n; o++) {
		for (uint32_t i = 0; i < inner_n; i++) {
			uint32_t t = heads_inside ? o : i, h = heads_inside ? i : o;
			uint8_t *p = s->at + t * st + h * sh;
			if (bad_out == NULL)
				perf_pattern_fill(p, 0, vec, key_of(v, s->layer, s->kv, s->token + t, l->head_lo + h));
			else if (!check_range(v, s, t, h, p, bad_out))
				return false;
		}
	}
	return true;
}

static bool walk(const struct kvperf_view *v, uint32_t lo, uint32_t hi, struct kvperf_bad *bad_out)
{
	const struct mc_kv_layout *l = v->layout;

	for (uint32_t layer = lo; layer < hi; layer++) {
		for (uint32_t kv = 0; kv < l->kv_n; kv++) {
			for (uint32_t token = 0; token < v->tokens; token += l->block_tokens) {
				uint32_t left = v->tokens - token;
				struct step s = {
					.layer = layer,
					.kv = kv,
					.token = token,
					.token_n = left < l->block_tokens ? left : l->block_tokens,
					.at = block_of(v, layer, kv, v->block[token / l->block_tokens]),
				};
				if (!visit(v, &s, bad_out))
					return false;
			}
		}
	}
	return true;
}

void kvperf_fill(const struct kvperf_view *v, uint32_t layer_lo, uint32_t layer_n)
{
	const struct mc_kv_layout *l = v->layout;
	uint32_t lo = layer_lo > l->layer_lo ? layer_lo : l->layer_lo;
	uint32_t hi = layer_lo + layer_n, end = l->layer_lo + l->layer_n;

	(void)walk(v, lo, hi < end ? hi : end, NULL);
}

bool kvperf_check(const struct kvperf_view *v, struct kvperf_bad *bad_out, uint64_t *bytes_out)
{
	const struct mc_kv_layout *l = v->layout;

	*bytes_out = 0;
	if (!walk(v, l->layer_lo, l->layer_lo + l->layer_n, bad_out))
		return false;
	*bytes_out = (uint64_t)l->layer_n * l->kv_n * v->tokens * l->head_n * l->head_dim * l->elem_bytes;
	return true;
}

void kvperf_poison(const struct kvperf_view *v)
{
	memset(v->mem, KVP_POISON, kvperf_extent(v->layout) * kvperf_base_n(v->layout));
}

static uint64_t not_poison(const uint8_t *p, uint64_t len)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < len; i++)
		n += p[i] != KVP_POISON;
	return n;
}

/* Tokens [from, block_tokens) of one block in one layer, K or V. */
static uint64_t stray_in(const struct kvperf_view *v, uint32_t layer, uint32_t kv, uint32_t block, uint32_t from)
{
	const struct mc_kv_layout *l = v->layout;
	const uint8_t *at = block_of(v, layer, kv, block);
	uint64_t n = 0;

	for (uint32_t t = from; t < l->block_tokens; t++) {
		for (uint32_t h = 0; h < l->head_n; h++)
			n += not_poison(at + t * l->stride[MC_KV_TOKEN] + h * l->stride[MC_KV_HEAD],
					(uint64_t)l->head_dim * l->elem_bytes);
	}
	return n;
}

uint64_t kvperf_stray(const struct kvperf_view *v)
{
	const struct mc_kv_layout *l = v->layout;
	/* tokens of the sequence in each block of the pool */
	uint32_t *held = calloc(l->block_n, sizeof(*held));
	uint64_t n = 0;

	if (held == NULL)
		return UINT64_MAX;
	for (uint32_t token = 0; token < v->tokens; token += l->block_tokens) {
		uint32_t left = v->tokens - token;
		held[v->block[token / l->block_tokens]] = left < l->block_tokens ? left : l->block_tokens;
	}
	for (uint32_t layer = l->layer_lo; layer < l->layer_lo + l->layer_n; layer++) {
		for (uint32_t kv = 0; kv < l->kv_n; kv++) {
			for (uint32_t b = 0; b < l->block_n; b++)
				n += stray_in(v, layer, kv, b, held[b]);
		}
	}
	free(held);
	return n;
}

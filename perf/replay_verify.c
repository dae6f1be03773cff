/* SPDX-License-Identifier: BSD-3-Clause */
#include "replay_verify.h"

#include "replay_other.h"

#include <inttypes.h>

enum { EDGE = 64 }; /* bytes looked at on both ends of a reused block */

/* Whose content a block must have, and where it is. */
struct place {
	uint32_t request, layer, block;
	uint32_t prefill; /* who wrote it */
	uint32_t pool_block;
};

static bool compare(struct replay *r, const struct place *at, uint64_t off, uint64_t len)
{
	const uint8_t *base = r->base + replay_offset(r, at->layer, at->pool_block, r->pool_n);
	uint64_t key = perf_pattern_key(r->o.seed, at->request, at->layer, at->block, replay_writer(r, at->prefill));
	struct perf_pattern_bad bad;
	char who[64];

	if (perf_pattern_check(base + off, off, len, key, &bad))
		return true;
	r->res.wrong++;
	perf_job_say(&r->job,
		     "wrong byte: request %u layer %u block %u (pool block %u) offset %" PRIu64
		     ": expected 0x%02x, found 0x%02x; written by %s",
		     at->request, at->layer, at->block, at->pool_block, bad.off, bad.expected, bad.actual,
		     perf_job_name(&r->job, mc_group_peer(r->job.prefill, at->prefill), who, sizeof(who)));
	return false;
}

static bool verify_moved(struct replay *r, const struct recv *v)
{
	struct place at = {.request = v->request, .prefill = v->prefill};

	for (at.layer = 0; at.layer < r->layers; at.layer++) {
		for (uint32_t k = 0; k < v->n; k++) {
			struct replay_piece piece[2];
			uint32_t n;
			at.block = v->first + k;
			at.pool_block = v->block[k];
			n = replay_pieces(r, v->request, at.block, piece);
			for (uint32_t i = 0; i < n; i++) {
				if (!compare(r, &at, piece[i].off, piece[i].len))
					return false;
				r->res.verified += piece[i].len;
			}
		}
	}
	return true;
}

static bool verify_slot(struct replay *r, const struct perf_slot *slot, const uint32_t *block)
{
	uint64_t edge = r->block_bytes < EDGE ? r->block_bytes : EDGE;
	uint64_t tail = (r->block_bytes - edge) / 8 * 8;
	struct place at = {
		.request = slot->writer,
		.prefill = r->route.prefill[slot->writer],
	};

	for (at.layer = 0; at.layer < r->layers; at.layer++) {
		for (uint32_t k = 0; k < r->per_hash; k++) {
			at.block = slot->pos * r->per_hash + k;
			at.pool_block = block[k];
			if (!compare(r, &at, 0, edge) || !compare(r, &at, tail, r->block_bytes - tail))
				return false;
			r->res.rechecked += edge + (r->block_bytes - tail);
		}
	}
	return true;
}

bool replay_verify(struct replay *r, const struct recv *v, const struct perf_cache *cache)
{
	for (uint32_t i = 0; i < v->hit_n; i++) {
		if (!verify_slot(r, perf_cache_slot(cache, v->hit[i]), perf_cache_blocks(cache, v->hit[i])))
			return false;
	}
	return verify_moved(r, v);
}

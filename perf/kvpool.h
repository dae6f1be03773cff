/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvpool.h - bookkeeping of a paged KV pool: which blocks are free, and which hold prefixes that may be used again.
 * Pure index arithmetic; the bytes are elsewhere.
 */
#ifndef PERF_KVPOOL_H
#define PERF_KVPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PERF_NO_SLOT UINT32_MAX

/* Blocks are handed out at random, as in an engine that has run for a while. */
struct perf_pool {
	uint32_t n;
	uint32_t free_n;
	uint32_t *free; /* [free_n] */
	uint8_t *used;  /* [n] */
	uint64_t rng;
};

bool perf_pool_init(struct perf_pool *p, uint32_t n, uint64_t seed); /* false: out of memory */
void perf_pool_destroy(struct perf_pool *p);
bool perf_pool_take(struct perf_pool *p, uint32_t n, uint32_t *block_out); /* all n or none */
/* false: a block is not in use or does not exist, which is a bug of the caller; the others are freed. */
bool perf_pool_give(struct perf_pool *p, const uint32_t *block, uint32_t n);

/*
 * Prefix cache: a slot holds the blocks of one full hash block (512 tokens), least recently used goes first, pinned
 * slots stay. A slot remembers who wrote it, so that its content can be checked when it is used again.
 */
struct perf_slot {
	uint32_t id;     /* number of the hash */
	uint32_t pos;    /* hash blocks before it in the request that wrote it */
	uint32_t writer; /* that request */
	uint32_t pins;
	uint32_t prev, next; /* in the list of unpinned slots, oldest first, or in the list of unused ones */
};

struct perf_cache {
	uint32_t per_slot; /* blocks */
	uint32_t slot_n;
	uint32_t id_n;
	struct perf_slot *slot; /* [slot_n + 1], the last one is the head of the ring of unpinned slots */
	uint32_t *block;        /* [slot_n * per_slot] */
	uint32_t *by_id;        /* [id_n] slot or PERF_NO_SLOT */
	uint32_t unused;        /* first unused slot, linked by next */
	uint32_t held_n;        /* slots in use */
};

bool perf_cache_init(struct perf_cache *c, uint32_t id_n, uint32_t slot_n, uint32_t per_slot);
void perf_cache_destroy(struct perf_cache *c);
/* The slot of hash `id` at that position, pinned once more; PERF_NO_SLOT: not here. */
uint32_t perf_cache_pin(struct perf_cache *c, uint32_t id, uint32_t pos);
void perf_cache_unpin(struct perf_cache *c, uint32_t slot);
/* Hand the blocks [per_slot] over to the cache, unpinned; false: no slot left or already here, they stay the caller's.
 */
bool perf_cache_insert(struct perf_cache *c, uint32_t id, uint32_t pos, uint32_t writer, const uint32_t *block);
/* Drop the least recently used unpinned slot; its blocks [per_slot] are the caller's again. false: none. */
bool perf_cache_evict(struct perf_cache *c, uint32_t *block_out);
const struct perf_slot *perf_cache_slot(const struct perf_cache *c, uint32_t slot);
const uint32_t *perf_cache_blocks(const struct perf_cache *c, uint32_t slot); /* [per_slot] */

#endif

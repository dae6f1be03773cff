/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay_take.h - what a decode rank takes in, in `mcperf replay` with instances of one rank and of several alike:
 * which request is next and when, blocks of the pool for it, and the prefixes that stay in the pool for later ones.
 */
#ifndef PERF_REPLAY_TAKE_H
#define PERF_REPLAY_TAKE_H

#include "replay.h"

struct replay_take {
	struct replay *r;
	struct perf_cache cache;
	uint32_t *scratch; /* [per_hash] */
	uint32_t mine_n;   /* requests of this instance */
};

bool replay_take_begin(struct replay_take *t, struct replay *r); /* false: out of memory; end it all the same */
void replay_take_end(struct replay_take *t);

/* The first request from number i on that goes from that prefill instance to this decode instance; trace.n: none. */
uint32_t replay_take_next(const struct replay *r, uint32_t prefill, uint32_t i);
/* When the trace wants request i to begin. */
int64_t replay_take_due_ns(const struct replay *r, uint32_t i);

/* The leading full hash blocks of a request that the pool holds, pinned. NULL: out of memory. */
uint32_t *replay_take_hits(struct replay_take *t, uint32_t request, uint32_t *hit_n_out);
void replay_take_unpin(struct replay_take *t, const uint32_t *hit, uint32_t hit_n);
/* n blocks; prefixes that nobody uses make room. false: too few. */
bool replay_take_blocks(struct replay_take *t, uint32_t n, uint32_t *block_out);
/* Of the blocks behind the hits the full hash blocks stay as prefixes, as far as they are new; the rest is free. */
void replay_take_keep(struct replay_take *t, uint32_t request, uint32_t hit_n, const uint32_t *block, uint32_t n);

#endif

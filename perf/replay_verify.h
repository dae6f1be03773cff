/* SPDX-License-Identifier: BSD-3-Clause */
/* replay_verify.h - a request on its way to a decode rank, and the check of what arrived. */
#ifndef PERF_REPLAY_VERIFY_H
#define PERF_REPLAY_VERIFY_H

#include "replay.h"

struct recv {
	struct recv *next;
	uint32_t request, prefill; /* prefill: position in that group */
	uint32_t hit_n;
	uint32_t *hit;  /* [hit_n] slots of the cache, pinned: the prefix that is already here */
	uint32_t first; /* block of the request that block[0] holds */
	uint32_t n;
	uint32_t *block; /* [n] of the pool */
	struct mc_counter *counter;
	int64_t sent_ns;
	uint64_t epoch; /* of the prefill process that was given the table */
};

/*
 * Compare every byte that was moved, and of the reused prefix the first and last bytes of every block. false: wrong
 * bytes were found and said on stderr, with request, layer, block and offset.
 */
bool replay_verify(struct replay *r, const struct recv *v, const struct perf_cache *cache);

#endif

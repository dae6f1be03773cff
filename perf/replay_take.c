/* SPDX-License-Identifier: BSD-3-Clause */
#include "replay_take.h"

#include <stdlib.h>

bool replay_take_begin(struct replay_take *t, struct replay *r)
{
	*t = (struct replay_take){.r = r};
	for (uint32_t i = 0; i < r->trace.n; i++)
		t->mine_n += r->route.decode[i] == r->decode_pos;
	t->scratch = calloc(r->per_hash, sizeof(*t->scratch));
	return t->scratch != NULL &&
	       perf_cache_init(&t->cache, r->trace.distinct_n, r->pool_n / r->per_hash, r->per_hash);
}

void replay_take_end(struct replay_take *t)
{
	perf_cache_destroy(&t->cache);
	free(t->scratch);
}

uint32_t replay_take_next(const struct replay *r, uint32_t prefill, uint32_t i)
{
	while (i < r->trace.n && (r->route.decode[i] != r->decode_pos || r->route.prefill[i] != prefill))
		i++;
	return i;
}

int64_t replay_take_due_ns(const struct replay *r, uint32_t i)
{
	return r->o.speed <= 0 ? 0 : r->start_ns + (int64_t)((double)r->trace.req[i].time_us * 1000.0 / r->o.speed);
}

uint32_t *replay_take_hits(struct replay_take *t, uint32_t request, uint32_t *hit_n_out)
{
	const struct perf_trace *trace = &t->r->trace;
	const struct perf_trace_req *req = &trace->req[request];
	uint32_t full = req->input / PERF_TRACE_BLOCK, n = 0;
	uint32_t *hit = calloc((size_t)full + 1, sizeof(*hit));

	for (uint32_t i = 0; hit != NULL && i < full; i++) {
		uint32_t slot = perf_cache_pin(&t->cache, trace->id[req->id_off + i], i);
		if (slot == PERF_NO_SLOT)
			break;
		hit[n++] = slot;
	}
	*hit_n_out = n;
	return hit;
}

void replay_take_unpin(struct replay_take *t, const uint32_t *hit, uint32_t hit_n)
{
	for (uint32_t i = 0; i < hit_n; i++)
		perf_cache_unpin(&t->cache, hit[i]);
}

bool replay_take_blocks(struct replay_take *t, uint32_t n, uint32_t *block_out)
{
	struct perf_pool *pool = &t->r->pool;

	while (pool->free_n < n) {
		if (!perf_cache_evict(&t->cache, t->scratch))
			return false;
		(void)perf_pool_give(pool, t->scratch, t->r->per_hash);
	}
	return perf_pool_take(pool, n, block_out);
}

void replay_take_keep(struct replay_take *t, uint32_t request, uint32_t hit_n, const uint32_t *block, uint32_t n)
{
	struct replay *r = t->r;
	const struct perf_trace_req *req = &r->trace.req[request];
	uint32_t full = req->input / PERF_TRACE_BLOCK, at = 0;

	for (uint32_t i = hit_n; i < full; i++, at += r->per_hash) {
		if (!perf_cache_insert(&t->cache, r->trace.id[req->id_off + i], i, request, &block[at]))
			(void)perf_pool_give(&r->pool, &block[at], r->per_hash);
	}
	(void)perf_pool_give(&r->pool, &block[at], n - at);
}

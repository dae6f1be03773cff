/* SPDX-License-Identifier: BSD-3-Clause */
#include "route.h"

#include <stdlib.h>

/* Which decode ranks have seen a hash: words_n 64-bit words per hash. */
struct seen {
	uint64_t *word;
	uint32_t words_n;
};

static uint32_t hit_count(const struct perf_trace *t, const struct perf_trace_req *r, const struct seen *s, uint32_t d)
{
	uint32_t n = perf_trace_id_count(r);

	for (uint32_t i = 0; i < n; i++) {
		uint64_t w = s->word[(uint64_t)t->id[r->id_off + i] * s->words_n + d / 64];
		if ((w >> (d % 64) & 1) == 0)
			return i;
	}
	return n;
}

/* Tokens that a rank would have been given after taking this request, prefix hits left out; the smallest wins. */
static uint32_t choose(const struct perf_trace *t, const struct perf_trace_req *r, const struct seen *s, uint64_t *load,
		       uint32_t decode_n)
{
	uint64_t best_load = UINT64_MAX;
	uint32_t best = 0;

	for (uint32_t d = 0; d < decode_n; d++) {
		uint64_t hit = (uint64_t)hit_count(t, r, s, d) * PERF_TRACE_BLOCK;
		uint64_t after = load[d] + (hit < r->input ? r->input - hit : 0);
		if (after < best_load) {
			best_load = after;
			best = d;
		}
	}
	load[best] = best_load;
	for (uint32_t i = 0; i < perf_trace_id_count(r); i++)
		s->word[(uint64_t)t->id[r->id_off + i] * s->words_n + best / 64] |= UINT64_C(1) << (best % 64);
	return best;
}

bool perf_route_make(const struct perf_trace *t, uint32_t prefill_n, uint32_t decode_n, enum perf_route_how how,
		     struct perf_route *out)
{
	struct seen s = {.words_n = (decode_n + 63) / 64};
	uint64_t *load = calloc(decode_n, sizeof(*load));
	struct perf_route r = {
		.prefill = calloc((size_t)t->n + 1, sizeof(*r.prefill)),
		.decode = calloc((size_t)t->n + 1, sizeof(*r.decode)),
	};

	s.word = calloc((size_t)t->distinct_n + 1, s.words_n * sizeof(*s.word));
	if (load == NULL || r.prefill == NULL || r.decode == NULL || s.word == NULL) {
		perf_route_free(&r);
		free(s.word);
		free(load);
		return false;
	}
	for (uint32_t i = 0; i < t->n; i++) {
		r.prefill[i] = i % prefill_n;
		r.decode[i] =
			how == PERF_ROUTE_PREFIX ? choose(t, &t->req[i], &s, load, decode_n) : i / prefill_n % decode_n;
	}
	free(s.word);
	free(load);
	*out = r;
	return true;
}

void perf_route_free(struct perf_route *r)
{
	if (r == NULL)
		return;
	free(r->prefill);
	free(r->decode);
	*r = (struct perf_route){0};
}

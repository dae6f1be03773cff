/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * trace.h - request traces: JSON lines {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}, one
 * hash per 512 tokens of input. Equal hash at the same place: equal prefix up to there.
 */
#ifndef PERF_TRACE_H
#define PERF_TRACE_H

#include "perftext.h"

enum {
	PERF_TRACE_BLOCK = 512,        /* tokens per hash */
	PERF_TRACE_REQUESTS = 1 << 24, /* rows at most (exclusive) */
	PERF_TRACE_TOKENS = 1 << 24,   /* tokens of one request at most */
	PERF_TRACE_LINE = 1 << 20,     /* bytes of one line at most */
	PERF_TRACE_FILE = 1 << 30,     /* bytes of a file at most */
};

struct perf_trace_req {
	uint64_t time_us; /* since the trace began */
	uint32_t input;   /* tokens, at least 1 */
	uint32_t output;
	uint64_t id_off; /* into perf_trace.id; ceil(input / 512) of them, distinct */
};

struct perf_trace {
	struct perf_trace_req *req;
	uint32_t n;
	uint32_t *id; /* hashes, renumbered 0 .. distinct_n-1 in the order of their first appearance */
	uint64_t id_n;
	uint32_t distinct_n;
};

static inline uint32_t perf_trace_id_count(const struct perf_trace_req *r)
{
	return (r->input + PERF_TRACE_BLOCK - 1) / PERF_TRACE_BLOCK;
}

/*
 * Parse text[len]; name is used in messages. limit: stop after so many requests (later lines are not looked at); 0:
 * all. false: err says "NAME:LINE: what", *out is empty.
 */
bool perf_trace_parse(const char *text, size_t len, const char *name, uint64_t limit, struct perf_trace *out,
		      struct perf_err *err);
bool perf_trace_load(const char *path, uint64_t limit, struct perf_trace *out, struct perf_err *err);
void perf_trace_free(struct perf_trace *t);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* stats.h - samples and what is said about them: exact percentiles by nearest rank, mean, union of time spans. */
#ifndef PERF_STATS_H
#define PERF_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct perf_samples {
	uint64_t *v;
	size_t n, room;
	bool sorted;
};

bool perf_samples_add(struct perf_samples *s, uint64_t v); /* false: out of memory, nothing changed */
/* Smallest sample that at least p of all samples do not exceed, 0 < p <= 1; 0 when there are none. Sorts. */
uint64_t perf_samples_percentile(struct perf_samples *s, double p);
uint64_t perf_samples_max(const struct perf_samples *s); /* 0 when there are none */
double perf_samples_mean(const struct perf_samples *s);  /* 0 when there are none */
void perf_samples_free(struct perf_samples *s);

/* Spans of time and the length of their union. */
struct perf_span {
	int64_t start_ns, end_ns;
};
struct perf_spans {
	struct perf_span *v;
	size_t n, room;
};
bool perf_spans_add(struct perf_spans *s, int64_t start_ns, int64_t end_ns); /* false: out of memory */
uint64_t perf_spans_total_ns(struct perf_spans *s);                          /* of the union; sorts */
void perf_spans_free(struct perf_spans *s);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
#include "stats.h"

#include <math.h>
#include <stdlib.h>

bool perf_samples_add(struct perf_samples *s, uint64_t v)
{
	if (s->n == s->room) {
		size_t room = s->room == 0 ? 256 : s->room * 2;
		uint64_t *p = reallocarray(s->v, room, sizeof(*p));
		if (p == NULL)
			return false;
		s->v = p;
		s->room = room;
	}
	s->v[s->n++] = v;
	s->sorted = false;
	return true;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t perf_samples_percentile(struct perf_samples *s, double p)
{
	size_t i;

	if (s->n == 0)
		return 0;
	if (!s->sorted) {
		qsort(s->v, s->n, sizeof(*s->v), compare_u64);
		s->sorted = true;
	}
	i = (size_t)ceil(p * (double)s->n);
	if (i == 0)
		i = 1;
	if (i > s->n)
		i = s->n;
	return s->v[i - 1];
}

uint64_t perf_samples_max(const struct perf_samples *s)
{
	uint64_t max = 0;

	for (size_t i = 0; i < s->n; i++)
		max = s->v[i] > max ? s->v[i] : max;
	return max;
}

double perf_samples_mean(const struct perf_samples *s)
{
	double sum = 0;

	for (size_t i = 0; i < s->n; i++)
		sum += (double)s->v[i];
	return s->n == 0 ? 0.0 : sum / (double)s->n;
}

void perf_samples_free(struct perf_samples *s)
{
	if (s == NULL)
		return;
	free(s->v);
	*s = (struct perf_samples){0};
}

bool perf_spans_add(struct perf_spans *s, int64_t start_ns, int64_t end_ns)
{
	if (s->n == s->room) {
		size_t room = s->room == 0 ? 256 : s->room * 2;
		struct perf_span *p = reallocarray(s->v, room, sizeof(*p));
		if (p == NULL)
			return false;
		s->v = p;
		s->room = room;
	}
	s->v[s->n++] = (struct perf_span){.start_ns = start_ns, .end_ns = end_ns};
	return true;
}

static int compare_span(const void *a, const void *b)
{
	int64_t x = ((const struct perf_span *)a)->start_ns, y = ((const struct perf_span *)b)->start_ns;

	return (x > y) - (x < y);
}

uint64_t perf_spans_total_ns(struct perf_spans *s)
{
	uint64_t total = 0;
	int64_t end = INT64_MIN;

	if (s->n == 0)
		return 0;
	qsort(s->v, s->n, sizeof(*s->v), compare_span);
	for (size_t i = 0; i < s->n; i++) {
		int64_t from = s->v[i].start_ns > end ? s->v[i].start_ns : end;
		if (s->v[i].end_ns <= from)
			continue;
		total += (uint64_t)(s->v[i].end_ns - from);
		end = s->v[i].end_ns;
	}
	return total;
}

void perf_spans_free(struct perf_spans *s)
{
	if (s == NULL)
		return;
	free(s->v);
	*s = (struct perf_spans){0};
}

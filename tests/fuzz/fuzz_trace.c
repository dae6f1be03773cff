/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_trace.c - any bytes as a trace: a message, or a trace that keeps the promises of trace.h; never both, never
 * neither. */
#include <stdlib.h>
#include <string.h>

#include "route.h"
#include "trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_trace(const struct perf_trace *t)
{
	uint32_t largest = 0;
	uint64_t at = 0;

	must(t->n > 0 && t->n < PERF_TRACE_REQUESTS);
	for (uint32_t i = 0; i < t->n; i++) {
		const struct perf_trace_req *r = &t->req[i];
		must(r->input >= 1 && r->input <= PERF_TRACE_TOKENS && r->output <= PERF_TRACE_TOKENS);
		must(i == 0 || r->time_us >= t->req[i - 1].time_us);
		must(r->id_off == at);
		at += perf_trace_id_count(r);
	}
	must(at == t->id_n);
	for (uint64_t i = 0; i < t->id_n; i++) {
		/* numbered by first appearance: a new one is the next number */
		must(t->id[i] <= largest);
		if (t->id[i] == largest)
			largest++;
	}
	must(largest == t->distinct_n);
}

static void check_route(const struct perf_trace *t)
{
	struct perf_route r;

	must(perf_route_make(t, 2, 3, PERF_ROUTE_PREFIX, &r));
	for (uint32_t i = 0; i < t->n; i++)
		must(r.prefill[i] < 2 && r.decode[i] < 3);
	perf_route_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct perf_trace t;
	struct perf_err err = {""};
	bool ok = perf_trace_parse((const char *)data, size, "fuzz", 0, &t, &err);

	must(ok != perf_err_is_set(&err));
	if (ok) {
		check_trace(&t);
		check_route(&t);
	} else {
		must(strncmp(err.text, "fuzz:", 5) == 0 && t.req == NULL && t.id == NULL && t.n == 0);
	}
	perf_trace_free(&t);
	return 0;
}

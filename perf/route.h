/* SPDX-License-Identifier: BSD-3-Clause */
/* route.h - which prefill and which decode rank serves a request. A pure function of the trace: all ranks agree
 * unasked. */
#ifndef PERF_ROUTE_H
#define PERF_ROUTE_H

#include "trace.h"

enum perf_route_how {
	PERF_ROUTE_PREFIX, /* decode: where most of the prefix went before, weighed against the tokens given to each */
	PERF_ROUTE_ROUND_ROBIN,
};

struct perf_route {
	uint32_t *prefill; /* [n] position in the prefill group */
	uint32_t *decode;  /* [n] position in the decode group */
};

bool perf_route_make(const struct perf_trace *t, uint32_t prefill_n, uint32_t decode_n, enum perf_route_how how,
		     struct perf_route *out); /* false: out of memory */
void perf_route_free(struct perf_route *r);

#endif

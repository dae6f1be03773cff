/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pattern.h"
#include "sweep.h"

enum { POISON = 0xdb };

static uint64_t area_key(const struct sweep *s, uint32_t rank, uint32_t area)
{
	return perf_pattern_key(s->o.seed, area, 0, 0, rank % PERF_PATTERN_RANKS);
}

void sweep_fill(struct sweep *s)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		const struct sweep_lane *l = &s->plan.lane[i];
		if (l->src_rank == s->job.rank)
			perf_pattern_fill(sweep_area(s, l->src_area), 0, s->plan.area_len,
					  area_key(s, l->src_rank, l->src_area));
	}
}

void sweep_poison(struct sweep *s)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		const struct sweep_lane *l = &s->plan.lane[i];
		if (l->dst_rank == s->job.rank)
			memset(sweep_area(s, l->dst_area), POISON, s->plan.area_len);
	}
}

static void say_wrong(struct sweep *s, uint32_t lane, uint64_t at, uint8_t expected, uint8_t actual)
{
	perf_job_say(&s->job, "wrong byte on rank %u: lane %u, offset %" PRIu64 " of its area: 0x%02x, expected 0x%02x",
		     s->job.rank, lane, at, actual, expected);
}

/* Nothing may have touched [from, to). */
static uint64_t check_poison(struct sweep *s, uint32_t lane, const uint8_t *area, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at++) {
		if (area[at] == POISON)
			continue;
		say_wrong(s, lane, at, POISON, area[at]);
		return 1;
	}
	return 0;
}

/*
 * After its requests 0 .. its-1 of the lane: every block holds what the last request to write there sent, every other
 * byte of the tables' places is still what it was.
 */
void sweep_check(struct sweep *s, const struct sweep_tables *t, uint32_t lane, uint64_t its, struct sweep_result *res)
{
	const struct sweep_lane *l = &s->plan.lane[lane];
	const struct sweep_shape *h = &t->shape;
	const uint8_t *area = sweep_area(s, l->dst_area);
	uint64_t key = area_key(s, l->src_rank, l->src_area), wrong = 0;

	for (uint64_t k = 0; k < h->tables && wrong < 4; k++) {
		/* the last request with this table, if any */
		uint64_t last = its > k ? its - 1 - (its - 1 - k) % h->tables : 0;
		for (uint64_t b = 0; b < h->blocks && wrong < 4; b++) {
			uint64_t dst = sweep_block_dst(t, k, b), len = its > k ? sweep_block_len(h, b) : 0;
			struct perf_pattern_bad bad;
			uint64_t src = sweep_block_src(t, last, b);
			if (len > 0 && !perf_pattern_check(area + dst, src, len, key, &bad)) {
				say_wrong(s, lane, dst + bad.off - src, bad.expected, bad.actual);
				wrong++;
			}
			wrong += check_poison(s, lane, area, dst + len, dst + h->stride);
			res->checked += len;
		}
	}
	wrong += check_poison(s, lane, area, h->tables * h->blocks * h->stride, s->plan.area_len);
	res->wrong += wrong;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Layouts as peers publish them: two of them, source and target, then bytes that make a request. What is accepted
 * encodes to the same bytes, can be planned, and no run of the request leaves the pools.
 */
#include <stdlib.h>
#include <string.h>

#include "kv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TABLE = 64, BATCHES = 64 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* false: not a layout. */
static bool read_layout(struct mc_rd *r, struct mc_kv_layout *l, uint64_t *extent)
{
	static const struct mc_kv_layout zero;
	uint8_t again[MC_KV_LAYOUT_WIRE_LEN];
	const uint8_t *start = r->p;
	struct mc_wr w;

	if (mc_kv_layout_get(r, l) != MC_OK) {
		must(memcmp(l, &zero, sizeof(zero)) == 0);
		return false;
	}
	must(mc_kv_layout_check(l, extent, NULL, 0) == MC_OK && *extent < MC_KV_EXTENT_MAX);
	mc_wr_init(&w, again, sizeof(again));
	mc_kv_layout_put(&w, l);
	must(!w.bad && mc_wr_len(&w) == sizeof(again) && r->p == start + sizeof(again));
	must(memcmp(start, again, sizeof(again)) == 0);
	return true;
}

static bool box_inside(const struct mc_kv_piece *p, const struct mc_kv_layout *l)
{
	return p->layer_n >= 1 && p->head_n >= 1 && p->layer_lo >= l->layer_lo &&
	       p->layer_lo + p->layer_n <= l->layer_lo + l->layer_n && p->head_lo >= l->head_lo &&
	       p->head_lo + p->head_n <= l->head_lo + l->head_n;
}

static bool run_inside(uint64_t off, bool src, const struct mc_kv_run *r, uint64_t extent)
{
	uint64_t reach = r->len, step, pieces = 1;

	for (uint32_t k = 0; k < MC_KV_LEVELS; k++) {
		const struct mc_kv_level *l = &r->level[k];
		pieces *= l->n;
		if (l->n < 1 || !mc_mul_u64(src ? l->src : l->dst, l->n - 1, &step) || !mc_add_u64(reach, step, &reach))
			return false;
	}
	return r->len >= 1 && pieces == r->count && mc_range_ok(off, reach, extent);
}

/* A request from whatever bytes are left; block numbers mostly such as the pools have. */
static void request(struct mc_rd *r, const struct mc_kv_pair *pair, uint64_t src_extent, uint64_t dst_extent)
{
	uint32_t src_block[TABLE], dst_block[TABLE];
	struct mc_kv_span span = {.src_block = src_block, .dst_block = dst_block};
	struct mc_kv_run run[16];
	struct mc_kv_iter it;
	uint32_t n = 0;
	char why[200];

	span.layer_lo = mc_rd_u8(r);
	span.layer_n = mc_rd_u8(r);
	span.token_lo = mc_rd_u8(r);
	span.token_n = mc_rd_u16(r);
	span.src_block_n = mc_rd_u8(r) % (TABLE + 1);
	span.dst_block_n = mc_rd_u8(r) % (TABLE + 1);
	for (uint32_t i = 0; i < TABLE; i++) {
		uint8_t v = mc_rd_u8(r);
		src_block[i] = v == 0xff ? UINT32_MAX : (v + i) % pair->src->block_n;
		dst_block[i] = v == 0xfe ? pair->dst->block_n : (v * 3u + i) % pair->dst->block_n;
	}
	if (mc_kv_iter_init(&it, pair, &span, why, sizeof(why)) != MC_OK)
		return;
	for (uint32_t k = 0; k < BATCHES; k++) {
		n = mc_kv_runs_next(&it, run, MC_ARRAY_LEN(run));
		for (uint32_t i = 0; i < n; i++) {
			must(run[i].src_base < mc_kv_layout_base_n(pair->src));
			must(run[i].dst_base < mc_kv_layout_base_n(pair->dst));
			must(run_inside(run[i].src_off, true, &run[i], src_extent));
			must(run_inside(run[i].dst_off, false, &run[i], dst_extent));
		}
		if (n < MC_ARRAY_LEN(run))
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mc_kv_layout src, dst;
	struct mc_kv_plan *plan;
	uint64_t src_extent, dst_extent;
	char why[200];
	struct mc_rd r;

	mc_rd_init(&r, data, size);
	if (!read_layout(&r, &src, &src_extent) || !read_layout(&r, &dst, &dst_extent))
		return 0;
	mc_status_t s = mc_kv_plan_make(&src, 1, &dst, 1, MC_KV_PLAN_PARTIAL, &plan, why, sizeof(why));
	if (s == MC_ERR_MISMATCH)
		return 0;
	must(s == MC_OK && plan->piece_n <= 1);
	if (plan->piece_n == 1)
		must(box_inside(plan->piece, &src) && box_inside(plan->piece, &dst));
	struct mc_kv_pair pair = mc_kv_plan_pair(plan, 0, 0);
	request(&r, &pair, src_extent, dst_extent);
	mc_kv_plan_free(plan);
	return 0;
}

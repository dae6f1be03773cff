/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_plan.c - arithmetic: pairs of ports, sizes of queues and windows, pieces of regions. Pure. */
#include <string.h>

#include "util.h"
#include "verbs_pure.h"

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

/* How well two ports fit; 0: not at all. A subnet counts more than a rail number, which is only the makers' order. */
static uint32_t fit(const struct vb_port *a, const struct vb_port *b)
{
	bool rail = a->rail != VB_NO_RAIL && a->rail == b->rail;

	if (a->layer != b->layer)
		return 0;
	return 1 + (rail ? 1u : 0u) + (mc_vb_same_subnet(a, b) ? 2u : 0u);
}

/* The least used partner among those that fit that well. UINT32_MAX: none. */
static uint32_t partner(const struct vb_port *p, const struct vb_port *other, uint32_t n, const uint32_t *used,
			uint32_t grade)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < n; i++)
		if (fit(p, &other[i]) == grade && (best == UINT32_MAX || used[i] < used[best]))
			best = i;
	return best;
}

/* A free partner of any grade, before one that is taken. */
static bool taken(uint32_t k, const uint32_t *used, const struct vb_port *p, const struct vb_port *other, uint32_t n)
{
	if (used[k] == 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (used[i] == 0 && fit(p, &other[i]) > 0)
			return true;
	return false;
}

uint32_t mc_vb_pairs(const struct vb_port *here, uint32_t here_n, const struct vb_port *there, uint32_t there_n,
		     struct vb_pair out[VB_RAIL_MAX])
{
	bool swap = there_n > here_n;
	const struct vb_port *lead = swap ? there : here, *other = swap ? here : there;
	uint32_t lead_n = swap ? there_n : here_n, other_n = swap ? here_n : there_n, n = 0;
	uint32_t used[VB_NIC_MAX] = {0}, match[VB_NIC_MAX];

	if (lead_n > VB_NIC_MAX || other_n > VB_NIC_MAX)
		return 0;
	memset(match, 0xff, sizeof(match));
	/* The best fits are made first, so that nobody else uses them up; the last turn takes what is left. */
	for (uint32_t turn = 0; turn < 8; turn++)
		for (uint32_t i = 0; i < lead_n; i++) {
			uint32_t k = match[i] == UINT32_MAX ? partner(&lead[i], other, other_n, used, 4 - turn % 4)
							    : UINT32_MAX;
			if (k == UINT32_MAX || (turn < 4 && taken(k, used, &lead[i], other, other_n)))
				continue;
			match[i] = k;
			used[k]++;
		}
	for (uint32_t i = 0; i < lead_n && n < VB_RAIL_MAX; i++)
		if (match[i] != UINT32_MAX)
			out[n++] = swap ? (struct vb_pair){(uint8_t)match[i], (uint8_t)i}
					: (struct vb_pair){(uint8_t)i, (uint8_t)match[i]};
	return n;
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

static uint32_t clamp(uint64_t v, uint32_t low, uint32_t high)
{
	if (v < low)
		return low;
	return v > high ? high : (uint32_t)v;
}

static uint32_t power_below(uint32_t v)
{
	uint32_t p = 1;

	while (p * 2 <= v)
		p *= 2;
	return p;
}

/*
 * All peers may fill their windows at once without a receive buffer missing, unless there are so many that a window
 * would become too short to be useful; then a NIC that finds no buffer asks the sender to wait (RNR), which costs time
 * and loses nothing. Room in the completion queue is what bounds work requests of all queue pairs together.
 */
void mc_vb_plan(const struct vb_want *want, struct vb_plan *out)
{
	uint64_t peers = want->peers > 0 ? want->peers : 1;
	uint64_t cqe = (uint64_t)want->buffers + (uint64_t)want->depth * want->qps * (peers < 16 ? peers : 16) + 16;

	memset(out, 0, sizeof(*out));
	out->window = clamp(want->buffers / (peers + 1), 8, VB_WIN_MAX / 2);
	out->depth = power_below(clamp(want->depth, 16, 4096));
	out->cqe = clamp(cqe, 64, want->max_cqe > 64 ? want->max_cqe : 64);
	mc_vb_budget(want, out);
}

void mc_vb_budget(const struct vb_want *want, struct vb_plan *out)
{
	uint64_t peers = want->peers > 0 ? want->peers : 1, left = want->objects, floor, quarter;

	out->qps = clamp(want->qps, 1, VB_QPS_MAX);
	out->objects = out->qp_budget = out->mr_budget = UINT64_MAX;
	out->reduced = out->hopeless = false;
	if (left == UINT64_MAX)
		return;
	if (left < VB_OBJECTS_NIC + 1) {
		out->hopeless = true;
		out->objects = out->qp_budget = out->mr_budget = 0;
		return;
	}
	out->objects = left -= VB_OBJECTS_NIC;
	quarter = left / 4 > 0 ? left / 4 : 1;
	/* Two connections at a time, one from either side, or all ranks that wait for each other do so for ever. */
	floor = quarter > 2 ? quarter : 2;
	floor = floor < peers ? floor : peers;
	floor = floor < left ? floor : left;
	/* A quarter is for regions; what cannot be registered travels by message. */
	out->qp_budget = left - quarter > floor ? left - quarter : floor;
	out->mr_budget = left - floor;
	while (out->qps > 1 && (uint64_t)out->qps * peers > out->qp_budget) {
		out->qps--;
		out->reduced = true;
	}
	if ((uint64_t)out->qps * peers > out->qp_budget || out->mr_budget == 0)
		out->reduced = true; /* idle connections are closed for others */
}

/* An equal part, as others that were not needed yet may be needed soon; but not what others have taken for good. */
uint64_t mc_vb_share(uint64_t max, uint64_t used, uint64_t mine, uint64_t sharers)
{
	uint64_t part = max / (sharers > 0 ? sharers : 1), room = (max > used ? max - used : 0) + mine;

	return part < room ? part : room;
}

uint64_t mc_vb_piece_len(uint64_t len, uint64_t wanted)
{
	uint64_t piece = 4096;

	if (len <= wanted)
		return len > 0 ? len : 1;
	while (piece < wanted || (len + piece - 1) / piece > VB_PIECES_MAX)
		piece *= 2;
	return piece;
}

uint32_t mc_vb_lightest(const struct vb_load *load, uint32_t n)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < n; i++)
		if (load[i].room > 0 && (best == UINT32_MAX || load[i].bytes < load[best].bytes))
			best = i;
	return best;
}

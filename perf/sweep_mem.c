/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sweep.h"

static uint64_t areas_len(const struct sweep *s)
{
	return s->plan.area_n[s->job.rank] * s->plan.area_len;
}

static bool has_reference(const struct sweep *s)
{
	return s->ref_peer != MC_NO_RANK && (s->job.rank == 0 || s->job.rank == s->ref_peer);
}

uint64_t sweep_mem_need(const struct sweep *s)
{
	return areas_len(s) + (has_reference(s) ? s->plan.area_len : 0);
}

uint8_t *sweep_area(const struct sweep *s, uint32_t area)
{
	return s->base + area * s->plan.area_len;
}

/* Take the pages now: page faults belong to no transfer. */
static void touch_pages(uint8_t *base, uint64_t len)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	for (uint64_t at = 0; at < len; at += page)
		*(volatile uint8_t *)(base + at) = 1;
}

static bool take_memory(struct sweep *s, uint64_t len, struct mc_mem **mem, void **own, uint8_t **base,
			struct perf_err *err)
{
	struct mc_mem_params p = {.size = sizeof(p), .flags = s->o.huge ? MC_MEM_HUGE : 0, .numa_node = -1};
	struct mc_region reg = {.size = sizeof(reg), .kind = MC_KIND_HOST, .len = len, .device = -1, .fd = -1};
	mc_status_t st;
	char size[32];

	if (s->o.memory == SWEEP_POOL) {
		st = mc_mem_alloc(s->job.ctx, len, &p, mem);
	} else {
		*own = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (*own == MAP_FAILED) {
			*own = NULL;
			perf_err_set(err, "rank %u cannot map %s: %s", s->job.rank,
				     perf_format_size(len, size, sizeof(size)), strerror(errno));
			return false;
		}
		if (s->o.huge)
			(void)madvise(*own, len, MADV_HUGEPAGE);
		touch_pages(*own, len);
		reg.addr = *own;
		st = mc_mem_register(s->job.ctx, &reg, mem);
	}
	if (st != MC_OK) {
		*mem = NULL;
		perf_err_set(err, "rank %u cannot have %s of memory: %s", s->job.rank,
			     perf_format_size(len, size, sizeof(size)), mc_status_text(st));
		return false;
	}
	*base = mc_mem_addr(*mem);
	touch_pages(*base, len);
	return true;
}

static bool find_peers(struct sweep *s, struct perf_err *err)
{
	for (uint32_t i = 0; i < s->plan.flow_n; i++) {
		uint32_t peer = s->plan.flow[i].to;
		mc_status_t st;
		if (s->plan.flow[i].from != s->job.rank || s->rmem[peer] != NULL)
			continue;
		st = mc_mem_lookup(s->job.ctx, peer, "sweep", SWEEP_WAIT_NS, &s->rmem[peer]);
		if (st == MC_OK)
			st = mc_connect(s->job.ctx, peer, SWEEP_WAIT_NS);
		if (st == MC_OK)
			continue;
		perf_err_set(err, "rank %u cannot reach the memory of rank %u: %s", s->job.rank, peer,
			     mc_status_text(st));
		return false;
	}
	return true;
}

/* Arrivals under the lane's number, at its target. */
static bool open_counters(struct sweep *s, struct perf_err *err)
{
	for (uint32_t i = 0; i < s->plan.lane_n && s->o.op == SWEEP_PUT_NOTE; i++) {
		const struct sweep_flow *f = &s->plan.flow[s->plan.lane[i].flow];
		mc_status_t st;
		if (f->to != s->job.rank)
			continue;
		st = mc_counter_open(s->job.ctx, i, f->from, &s->count[i]);
		if (st == MC_OK)
			continue;
		s->count[i] = NULL;
		perf_err_set(err, "rank %u cannot open a counter: %s", s->job.rank, mc_status_text(st));
		return false;
	}
	return true;
}

bool sweep_mem_open(struct sweep *s, struct perf_err *err)
{
	uint64_t len = areas_len(s);
	mc_status_t st;

	s->rmem = calloc(s->job.size, sizeof(*s->rmem));
	s->count = calloc(s->plan.lane_n, sizeof(*s->count));
	s->counted = calloc(s->plan.lane_n, sizeof(*s->counted));
	s->run = calloc(s->plan.lane_n, sizeof(*s->run));
	s->its = calloc(s->plan.lane_n, sizeof(*s->its));
	s->its_known = calloc(s->plan.lane_n, sizeof(*s->its_known));
	if (s->its == NULL || s->its_known == NULL || s->rmem == NULL || s->count == NULL || s->counted == NULL ||
	    s->run == NULL) {
		perf_err_set(err, "out of memory");
		return false;
	}
	if (has_reference(s) && !take_memory(s, s->plan.area_len, &s->ref_mem, &s->ref_own, &s->ref_base, err))
		return false;
	if (len == 0)
		return true;
	if (!take_memory(s, len, &s->mem, &s->own, &s->base, err))
		return false;
	s->mem_len = len;
	st = mc_mem_publish(s->mem, "sweep");
	if (st != MC_OK) {
		perf_err_set(err, "rank %u cannot publish its memory: %s", s->job.rank, mc_status_text(st));
		return false;
	}
	return open_counters(s, err) && find_peers(s, err);
}

void sweep_mem_close(struct sweep *s)
{
	for (uint32_t i = 0; s->rmem != NULL && i < s->job.size; i++)
		mc_rmem_release(s->rmem[i]);
	for (uint32_t i = 0; s->count != NULL && i < s->plan.lane_n; i++)
		mc_counter_close(s->count[i]);
	free(s->rmem);
	free(s->count);
	free(s->counted);
	free(s->run);
	free(s->its);
	free(s->its_known);
	/* busy after a run that ended early: mc_finalize() ends what uses it; our pages stay until the process ends */
	if (s->ref_mem != NULL && mc_mem_free(s->ref_mem) == MC_OK && s->ref_own != NULL)
		munmap(s->ref_own, s->plan.area_len);
	if (s->mem != NULL && mc_mem_free(s->mem) == MC_OK && s->own != NULL)
		munmap(s->own, s->mem_len);
}

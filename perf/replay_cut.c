/* SPDX-License-Identifier: BSD-3-Clause */
#include "replay_cut.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "replay_other.h"

/* Beside the largest request, as in a replay without instances. */
#define POOL_DECODE  (UINT64_C(512) << 20)
#define POOL_PREFILL (UINT64_C(128) << 20)

static const char *const role[KVP_SIDES] = {"prefill", "decode"};
static const char *const option[KVP_SIDES] = {"--src", "--dst"};

bool replay_cut_ranks(const struct replay *r, const uint32_t n[KVP_SIDES], struct perf_err *err)
{
	for (int s = 0; s < KVP_SIDES; s++) {
		const struct kvperf_side *side = &r->o.side[s];
		if (n[s] % (uint32_t)(side->tp * side->pp) == 0)
			continue;
		perf_err_set(err,
			     "%s tp=%" PRIu64 ",pp=%" PRIu64 " needs a multiple of %" PRIu64
			     " %s ranks, the job has %u",
			     option[s], side->tp, side->pp, side->tp * side->pp, role[s], n[s]);
		return false;
	}
	return true;
}

static bool set_instances(struct replay *r, struct perf_err *err)
{
	struct replay_cut *c = r->cut;
	struct mc_group *group[KVP_SIDES] = {r->job.prefill, r->job.decode};
	uint32_t n[KVP_SIDES] = {r->prefill_n, r->decode_n};

	c->side = r->prefill_pos != MC_NO_RANK ? KVP_SRC : r->decode_pos != MC_NO_RANK ? KVP_DST : -1;
	if (!replay_cut_ranks(r, n, err))
		return false;
	for (int s = 0; s < KVP_SIDES; s++)
		c->lanes[s] = (uint32_t)(r->o.side[s].tp * r->o.side[s].pp);
	if (c->side >= 0)
		c->lane = mc_group_rank(group[c->side]) % c->lanes[c->side];
	r->prefill_n /= c->lanes[KVP_SRC];
	r->decode_n /= c->lanes[KVP_DST];
	if (r->prefill_pos != MC_NO_RANK)
		r->prefill_pos /= c->lanes[KVP_SRC];
	if (r->decode_pos != MC_NO_RANK)
		r->decode_pos /= c->lanes[KVP_DST];
	c->far_n = c->side == KVP_SRC ? r->decode_n : r->prefill_n;
	return true;
}

/* After the model and the roles are known, before the routes are made. */
bool replay_cut_load(struct replay *r, struct perf_err *err)
{
	struct kvperf_opts o = {.model = r->o.model, .layers = r->o.layers, .kv_bytes = r->o.kv_bytes, .tokens = 1};
	struct replay_cut *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		perf_err_set(err, "out of memory");
		return false;
	}
	r->cut = c;
	o.side[KVP_SRC] = r->o.side[KVP_SRC];
	o.side[KVP_DST] = r->o.side[KVP_DST];
	if (o.kv_bytes > 4 || o.kv_bytes == 3) {
		perf_err_set(err, "--kv-bytes %" PRIu64 ": must be 1, 2 or 4 with --src and --dst", o.kv_bytes);
		return false;
	}
	if (!kvperf_shape_set(&o, &c->shape, err) || !set_instances(r, err))
		return false;
	if (c->side >= 0) {
		r->block_tokens = (uint32_t)r->o.side[c->side].block_tokens;
		r->per_hash = PERF_TRACE_BLOCK / r->block_tokens;
		r->block_bytes = (uint64_t)r->token_bytes * r->block_tokens;
	}
	return true;
}

uint64_t replay_cut_digest(const struct replay *r)
{
	uint64_t h = 0;

	for (int s = 0; s < KVP_SIDES; s++) {
		const struct kvperf_side *side = &r->o.side[s];
		uint64_t order = side->flags;
		for (int d = 0; d < MC_KV_NDIM; d++)
			order = order << 4 | side->order[d];
		h = perf_pattern_key(h ^ order, (uint32_t)side->tp, (uint32_t)side->pp & 0xff,
				     (uint32_t)side->block_tokens, (uint32_t)s);
	}
	return h;
}

/*
 * All ranks of an instance use the same block numbers, so they have to come to the same number of blocks: by the trace
 * and the largest shard alone, whatever each finds free on its host. Whether that fits is judged for all together.
 */
uint64_t replay_cut_pool_choose(struct replay *r, struct perf_err *err)
{
	struct replay_cut *c = r->cut;
	const struct kvperf_side *side = &r->o.side[c->side];
	uint64_t each = 0, sum = 0, largest = 0, blocks, usual = c->side == KVP_DST ? POOL_DECODE : POOL_PREFILL;

	for (uint32_t lane = 0; lane < c->lanes[c->side]; lane++) {
		struct mc_kv_layout l;
		if (kvperf_layout(&c->shape, side, lane, 1, &l) && kvperf_extent(&l) * kvperf_base_n(&l) > each)
			each = kvperf_extent(&l) * kvperf_base_n(&l);
	}
	for (uint32_t i = 0; i < r->trace.n; i++) {
		uint64_t n = replay_block_count(r, i);
		if (r->route.prefill[i] != r->prefill_pos && r->route.decode[i] != r->decode_pos)
			continue;
		sum += n;
		largest = n > largest ? n : largest;
	}
	blocks = r->o.pool != 0 ? r->o.pool / each : largest + usual / each;
	if (blocks < largest)
		perf_err_set(err, "--pool is too small: the largest request needs %" PRIu64 " bytes per rank",
			     largest * each);
	if (r->o.pool == 0 && blocks > sum)
		blocks = sum;
	if (blocks == 0)
		blocks = 1;
	if (blocks > UINT32_MAX / 2 || !kvperf_layout(&c->shape, side, c->lane, (uint32_t)blocks, &c->layout)) {
		perf_err_set(err, "a pool of %" PRIu64 " blocks is too large: use larger blocks", blocks);
		return 0;
	}
	r->pool_n = (uint32_t)blocks;
	return kvperf_extent(&c->layout) * kvperf_base_n(&c->layout);
}

bool replay_cut_pool_open(struct replay *r, struct perf_err *err)
{
	struct replay_cut *c = r->cut;
	struct mc_mem_params p = {.size = sizeof(p), .flags = r->o.huge ? MC_MEM_HUGE : 0, .numa_node = -1};
	uint32_t base_n;
	struct mc_buf *base;
	mc_status_t s;
	char name[MC_NAME_MAX];
	struct kvperf_view v = {.layout = &c->layout};

	if (c->side < 0)
		return true;
	base_n = kvperf_base_n(&c->layout);
	base = calloc(base_n, sizeof(*base));
	s = base == NULL || !perf_pool_init(&r->pool, r->pool_n, r->o.seed * 4096 + r->job.rank) ? MC_ERR_NOMEM : MC_OK;
	if (s == MC_OK)
		s = mc_mem_alloc(r->job.ctx, kvperf_extent(&c->layout) * base_n, &p, &r->mem);
	for (uint32_t i = 0; s == MC_OK && i < base_n; i++)
		base[i] = (struct mc_buf){.mem = r->mem, .off = i * kvperf_extent(&c->layout)};
	replay_pool_name(r, name);
	if (s == MC_OK)
		s = mc_kv_pool_open(r->job.ctx, &c->layout, base, base_n, name, &c->pool);
	free(base);
	if (s != MC_OK) {
		perf_err_set(err, "rank %u cannot have a pool of %u blocks: %s", r->job.rank, r->pool_n,
			     mc_status_text(s));
		return false;
	}
	r->base = v.mem = mc_mem_addr(r->mem);
	kvperf_poison(&v); /* takes the pages: page faults belong to no transfer */
	return true;
}

uint32_t replay_cut_peer(const struct replay *r, int side, uint32_t instance, uint32_t lane)
{
	return mc_group_peer(side == KVP_SRC ? r->job.prefill : r->job.decode, instance * r->cut->lanes[side] + lane);
}

static mc_status_t instance_group(struct replay *r, int side, uint32_t instance, struct mc_group **out)
{
	uint32_t n = r->cut->lanes[side];
	uint32_t *list = calloc(n, sizeof(*list));
	mc_status_t s;

	if (list == NULL)
		return MC_ERR_NOMEM;
	for (uint32_t i = 0; i < n; i++)
		list[i] = replay_cut_peer(r, side, instance, i);
	s = mc_group_list(r->job.ctx, list, n, out);
	free(list);
	return s;
}

/* Which rank of the instances is lost; "": none that is known to be. */
static const char *name_lost(const struct replay *r, uint32_t far, char *buf, size_t len)
{
	const struct replay_cut *c = r->cut;
	uint32_t instance[KVP_SIDES] = {far, far};
	struct mc_peer_info info = {.size = sizeof(info)};
	char who[64];

	instance[c->side] = c->side == KVP_SRC ? r->prefill_pos : r->decode_pos;
	for (int s = 0; s < KVP_SIDES; s++) {
		for (uint32_t lane = 0; lane < c->lanes[s]; lane++) {
			uint32_t peer = replay_cut_peer(r, s, instance[s], lane);
			if (mc_peer_query(r->job.ctx, peer, &info) != MC_OK || info.state == MC_OK ||
			    info.state == MC_IN_PROGRESS)
				continue;
			snprintf(buf, len, ": %s of job %s", perf_job_name(&r->job, peer, who, sizeof(who)), info.job);
			return buf;
		}
	}
	return "";
}

bool replay_cut_reshard_open(struct replay *r, struct perf_err *err)
{
	struct replay_cut *c = r->cut;
	char name[MC_NAME_MAX], who[MC_JOB_MAX + 80];

	if (c->side < 0)
		return true;
	replay_pool_name(r, name);
	c->reshard = calloc(c->far_n, sizeof(struct mc_reshard *));
	for (uint32_t i = 0; i < c->far_n; i++) {
		struct mc_group *src = NULL, *dst = NULL;
		mc_status_t s = c->reshard == NULL ? MC_ERR_NOMEM : MC_OK;
		if (s == MC_OK)
			s = instance_group(r, KVP_SRC, c->side == KVP_SRC ? r->prefill_pos : i, &src);
		if (s == MC_OK)
			s = instance_group(r, KVP_DST, c->side == KVP_DST ? r->decode_pos : i, &dst);
		if (s == MC_OK)
			s = mc_reshard_open(src, name, dst, name, replay_start_ns(r), &c->reshard[i]);
		mc_group_free(src);
		mc_group_free(dst);
		if (s == MC_OK)
			continue;
		perf_err_set(err, "rank %u cannot prepare transfers with %s instance %u: %s%s%s", r->job.rank,
			     role[1 - c->side], i, mc_status_text(s),
			     s == MC_ERR_PEER_DOWN ? name_lost(r, i, who, sizeof(who)) : "", replay_other_hint(r, s));
		return false;
	}
	return true;
}

void replay_cut_free(struct replay *r)
{
	struct replay_cut *c = r->cut;

	if (c == NULL)
		return;
	for (uint32_t i = 0; c->reshard != NULL && i < c->far_n; i++)
		mc_reshard_close(c->reshard[i]);
	free(c->reshard);
	/* busy after a run that ended early: mc_finalize() ends what uses it and frees it */
	if (c->pool != NULL && mc_kv_pool_close(c->pool) == MC_OK)
		c->pool = NULL;
	free(c);
	r->cut = NULL;
}

bool replay_cut_leads(const struct replay *r)
{
	return r->cut->lane == 0;
}

uint64_t replay_cut_bytes(const struct replay *r, uint32_t tokens)
{
	const struct mc_kv_layout *l = &r->cut->layout;

	return (uint64_t)tokens * l->layer_n * l->kv_n * l->head_n * r->cut->shape.vec;
}

struct kvperf_view replay_cut_view(const struct replay *r, uint32_t request, uint32_t tokens, const uint32_t *block)
{
	return (struct kvperf_view){
		.layout = &r->cut->layout,
		.mem = r->base,
		.block = block,
		.tokens = tokens,
		.seed = perf_pattern_key(r->o.seed, request, 0, 0, 0), /* a content of its own for each request */
	};
}

void replay_cut_fail(struct replay *r, uint32_t request, const char *what, mc_status_t s)
{
	char who[64];

	if (r->stop)
		return; /* the one cause has been said */
	perf_job_say(&r->job, "%s: request %u: %s: %s", perf_job_name(&r->job, r->job.rank, who, sizeof(who)), request,
		     what, mc_status_text(s));
	r->res.fatal++;
	replay_stop(r);
}

void replay_cut_watch(struct replay *r)
{
	char who[64];

	if (!perf_job_faults(&r->job) || r->stop)
		return;
	for (uint32_t i = 0; i < r->job.peer_n && !r->stop; i++) {
		if (!r->job.dead[i])
			continue;
		perf_job_say(&r->job, "%s died: its instance cannot go on",
			     perf_job_name(&r->job, i, who, sizeof(who)));
		r->res.fatal++;
		replay_stop(r);
	}
}

void replay_cut_tell_lanes(struct replay *r, uint64_t tag, const void *data, uint32_t len)
{
	struct replay_cut *c = r->cut;
	uint32_t instance = c->side == KVP_SRC ? r->prefill_pos : r->decode_pos;

	for (uint32_t i = 1; i < c->lanes[c->side]; i++)
		(void)perf_job_send(&r->job, replay_cut_peer(r, c->side, instance, i), tag, data, len);
}

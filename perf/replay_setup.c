/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "replay_cut.h"
#include "replay_other.h"

/*
 * A pool holds the largest request and by default this much beside it: enough to keep the windows full and prefixes for
 * a while. Taking the pages of more would cost more time than most replays.
 */
#define POOL_DECODE  (UINT64_C(512) << 20)
#define POOL_PREFILL (UINT64_C(128) << 20)

/* ---- shapes
 * ---------------------------------------------------------------------------------------------------------- */

uint32_t replay_block_count(const struct replay *r, uint32_t request)
{
	return (r->trace.req[request].input + r->block_tokens - 1) / r->block_tokens;
}

uint32_t replay_pieces(const struct replay *r, uint32_t request, uint32_t block, struct replay_piece out[2])
{
	uint64_t input = r->trace.req[request].input, before = (uint64_t)block * r->block_tokens;
	uint64_t tokens = input - before < r->block_tokens ? input - before : r->block_tokens;
	uint64_t half = r->token_bytes / 2;

	if (tokens == r->block_tokens || r->model->kv_heads == 0) {
		out[0] = (struct replay_piece){.off = 0, .len = tokens * r->token_bytes};
		return 1;
	}
	/* the last block, partly filled: the first tokens of K and the first tokens of V */
	out[0] = (struct replay_piece){.off = 0, .len = tokens * half};
	out[1] = (struct replay_piece){.off = r->block_tokens * half, .len = tokens * half};
	return 2;
}

uint64_t replay_bytes(const struct replay *r, uint32_t request, uint32_t first_block)
{
	uint64_t before = (uint64_t)first_block * r->block_tokens, input = r->trace.req[request].input;

	return before >= input ? 0 : (input - before) * r->token_bytes * r->layers;
}

uint64_t replay_offset(const struct replay *r, uint32_t layer, uint32_t pool_block, uint32_t pool_n)
{
	return ((uint64_t)layer * pool_n + pool_block) * r->block_bytes;
}

/* ---- input
 * ----------------------------------------------------------------------------------------------------------- */

static bool set_shape(struct replay *r, struct perf_err *err)
{
	char list[PERF_ERR_MAX];

	r->model = perf_model_find(r->o.model);
	if (r->model == NULL) {
		perf_model_list(list, sizeof(list));
		perf_err_set(err, "unknown model %s; known: %s", r->o.model, list);
		return false;
	}
	r->layers = r->o.layers == 0 ? r->model->layers : (uint32_t)r->o.layers;
	if (r->layers > r->model->layers) {
		perf_err_set(err, "--layers %u: %s has %u", r->layers, r->model->alias, r->model->layers);
		return false;
	}
	r->token_bytes = perf_model_token_bytes(r->model, (uint32_t)r->o.kv_bytes);
	r->block_tokens = (uint32_t)r->o.block_tokens;
	r->per_hash = PERF_TRACE_BLOCK / r->block_tokens;
	r->block_bytes = (uint64_t)r->token_bytes * r->block_tokens;
	return true;
}

static bool check_requests(struct replay *r, struct perf_err *err)
{
	for (uint32_t i = 0; i < r->trace.n; i++) {
		if (replay_block_count(r, i) < PERF_PATTERN_BLOCKS)
			continue;
		perf_err_set(err, "request %u has %u tokens, more than %d blocks: use larger --block-tokens", i,
			     r->trace.req[i].input, PERF_PATTERN_BLOCKS);
		return false;
	}
	return true;
}

static bool find_roles(struct replay *r, struct perf_err *err)
{
	struct perf_job *j = &r->job;
	uint32_t n[KVP_SIDES] = {j->prefill != NULL ? j->size : r->o.with_n,
				 j->prefill != NULL ? r->o.with_n : j->size};

	if (r->o.with_n != 0 && (j->prefill != NULL || j->decode != NULL)) {
		/* before anyone is looked for: what is wrong with this job alone */
		if (!replay_other_one_role(r, err))
			return false;
		if (r->o.side[KVP_SRC].tp != 0 && !replay_cut_ranks(r, n, err))
			return false;
		if (!replay_other_find(r, err))
			return false;
	}
	if (j->prefill == NULL || j->decode == NULL) {
		perf_err_set(err, "no rank has the role %s: start it as mcrun --prefill P --decode D mcperf replay ...",
			     j->prefill == NULL ? "prefill" : "decode");
		return false;
	}
	if (j->size + r->o.with_n > PERF_PATTERN_RANKS) {
		perf_err_set(err, "%u ranks, more than %d", j->size + r->o.with_n, PERF_PATTERN_RANKS);
		return false;
	}
	r->prefill_n = mc_group_size(j->prefill);
	r->decode_n = mc_group_size(j->decode);
	r->prefill_pos = mc_group_rank(j->prefill);
	r->decode_pos = mc_group_rank(j->decode);
	return true;
}

bool replay_load(struct replay *r, struct perf_err *err)
{
	if (!set_shape(r, err) || !perf_trace_load(r->o.trace, r->o.requests, &r->trace, err) || !find_roles(r, err))
		return false;
	if ((r->o.side[KVP_SRC].tp != 0 && !replay_cut_load(r, err)) || !check_requests(r, err))
		return false;
	if (!perf_route_make(&r->trace, r->prefill_n, r->decode_n, r->o.route, &r->route)) {
		perf_err_set(err, "out of memory");
		return false;
	}
	return true;
}

static uint64_t fnv(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

uint64_t replay_trace_digest(const struct perf_trace *t)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (uint32_t i = 0; i < t->n; i++) {
		uint64_t row[] = {t->req[i].time_us, t->req[i].input};
		h = fnv(h, row, sizeof(row));
	}
	return fnv(h, t->id, t->id_n * sizeof(*t->id));
}

uint64_t replay_digest(const struct replay *r)
{
	uint64_t numbers[] = {r->layers,   r->token_bytes, r->cut != NULL ? replay_cut_digest(r) : r->block_tokens,
			      r->o.seed,   r->o.window,    (uint64_t)r->o.route,
			      r->o.verify, r->trace.n,     r->o.speed > 0 ? 1u : 0u};

	return fnv(replay_trace_digest(&r->trace), numbers, sizeof(numbers));
}

/* ---- how large a pool
 * -------------------------------------------------------------------------------------------------- */

struct demand {
	uint64_t sum, largest; /* blocks of this rank's requests */
	uint32_t largest_request;
};

static struct demand my_demand(const struct replay *r)
{
	struct demand d = {0};

	for (uint32_t i = 0; i < r->trace.n; i++) {
		uint64_t n = replay_block_count(r, i);
		if (r->route.prefill[i] != r->prefill_pos && r->route.decode[i] != r->decode_pos)
			continue;
		d.sum += n;
		if (n > d.largest) {
			d.largest = n;
			d.largest_request = i;
		}
	}
	return d;
}

uint64_t replay_pool_choose(struct replay *r, uint64_t avail, struct perf_err *err)
{
	uint64_t each = r->block_bytes * r->layers; /* a block in all layers */
	uint64_t usual = (r->decode_pos != MC_NO_RANK ? POOL_DECODE : POOL_PREFILL) / each;
	uint64_t share =
		avail == UINT64_MAX ? UINT64_MAX : avail / 4 * 3 / mc_group_size(mc_group_node(r->job.ctx)) / each;
	struct demand d;
	uint64_t blocks;
	char size[32];

	if (r->cut != NULL)
		return replay_cut_pool_choose(r, err);
	d = my_demand(r);
	if (r->o.pool != 0) {
		blocks = r->o.pool / each;
		if (blocks < d.largest)
			perf_err_set(err, "--pool is too small: request %u alone (%u tokens) needs %s with %u layers",
				     d.largest_request, r->trace.req[d.largest_request].input,
				     perf_format_size(d.largest * each, size, sizeof(size)), r->layers);
	} else {
		blocks = d.largest + usual;
		blocks = blocks < d.sum ? blocks : d.sum;
		blocks = blocks < share ? blocks : share;
		blocks = blocks > d.largest ? blocks : d.largest;
	}
	if (blocks == 0)
		blocks = 1;
	if (blocks > UINT32_MAX / 2) {
		perf_err_set(err, "a pool of %s has too many blocks: use larger --block-tokens",
			     perf_format_size(blocks * each, size, sizeof(size)));
		return 0;
	}
	r->pool_n = (uint32_t)blocks;
	return blocks * each;
}

/* The pools of the ranks on the host of rank `first`, against what that host has. */
static void judge_host(const struct replay *r, const struct perf_vote *vote, const struct mc_peer_info *info,
		       uint32_t first, struct perf_err *err)
{
	uint64_t need = 0, avail = vote[first].avail, fits;
	char need_text[32], avail_text[32], hint[64];
	uint32_t ranks = 0;

	for (uint32_t k = 0; k < r->job.size; k++) {
		if (!vote[k].here || strcmp(info[first].host, info[k].host) != 0)
			continue;
		need += vote[k].need;
		avail = vote[k].avail < avail ? vote[k].avail : avail;
		ranks++;
	}
	if (need <= avail)
		return;
	fits = (uint64_t)((double)r->layers * ((double)avail / (double)need) * 0.9);
	if (r->o.pool != 0)
		snprintf(hint, sizeof(hint), "a smaller --pool");
	else if (fits > 0)
		snprintf(hint, sizeof(hint), "--layers %" PRIu64 " or fewer, or more hosts", fits);
	else
		snprintf(hint, sizeof(hint), "fewer --requests or ranks, or more hosts");
	perf_err_set(err, "host %s: the pools of %u ranks need %s, available are %s: use %s", info[first].host, ranks,
		     perf_format_size(need, need_text, sizeof(need_text)),
		     perf_format_size(avail, avail_text, sizeof(avail_text)), hint);
}

/* Do all pools of a host together fit into what it has? Asked once, of the leader, before any of them exists. */
void replay_judge_memory(struct perf_job *j, const struct perf_vote *vote, void *arg, struct perf_err *err)
{
	const struct replay *r = arg;
	struct mc_peer_info *info = calloc(j->size, sizeof(*info));

	if (info == NULL) {
		perf_err_set(err, "out of memory");
		return;
	}
	for (uint32_t i = 0; i < j->size; i++) {
		info[i].size = sizeof(info[i]);
		if (mc_peer_query(j->ctx, i, &info[i]) != MC_OK)
			snprintf(info[i].host, sizeof(info[i].host), "of rank %u", i);
	}
	for (uint32_t i = 0; i < j->size && !perf_err_is_set(err); i++) {
		/* once per host: from its first rank */
		uint32_t k = 0;
		while (k < i && strcmp(info[k].host, info[i].host) != 0)
			k++;
		if (k == i && vote[i].here)
			judge_host(r, vote, info, i, err);
	}
	free(info);
}

/* ---- pools
 * ------------------------------------------------------------------------------------------------------------- */

/* Take the pages now: page faults belong to no transfer. */
static void touch_pages(uint8_t *base, uint64_t len)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

#ifdef MADV_POPULATE_WRITE
	if (madvise(base, (len + page - 1) / page * page, MADV_POPULATE_WRITE) == 0)
		return;
#endif
	for (uint64_t at = 0; at < len; at += page)
		*(volatile uint8_t *)(base + at) = 0;
}

static bool find_pools(struct replay *r, struct perf_err *err)
{
	struct perf_job *j = &r->job;
	char who[64], name[MC_NAME_MAX];

	replay_pool_name(r, name);
	r->rmem = calloc(r->decode_n, sizeof(*r->rmem));
	if (r->rmem == NULL) {
		perf_err_set(err, "out of memory");
		return false;
	}
	for (uint32_t d = 0; d < r->decode_n; d++) {
		uint32_t peer = mc_group_peer(j->decode, d);
		mc_status_t s = MC_ERR_PEER_DOWN;
		perf_job_faults(j);
		if (!j->dead[peer])
			s = mc_mem_lookup(j->ctx, peer, name, replay_start_ns(r), &r->rmem[d]);
		if (s == MC_OK)
			continue;
		r->rmem[d] = NULL;
		if (s == MC_ERR_PEER_DOWN && r->o.with_n == 0) {
			perf_job_mark_dead(j, peer);
			continue; /* the others go on */
		}
		perf_err_set(err, "cannot reach the pool of %s: %s%s", perf_job_name(j, peer, who, sizeof(who)),
			     mc_status_text(s), replay_other_hint(r, s));
		return false;
	}
	return true;
}

bool replay_pools_open(struct replay *r, struct perf_err *err)
{
	uint64_t len = replay_offset(r, r->layers, 0, r->pool_n);
	struct mc_mem_params p = {.size = sizeof(p), .flags = r->o.huge ? MC_MEM_HUGE : 0, .numa_node = -1};
	mc_status_t s;
	char size[32], name[MC_NAME_MAX];

	if (r->cut != NULL)
		return replay_cut_pool_open(r, err);
	if (r->prefill_pos == MC_NO_RANK && r->decode_pos == MC_NO_RANK)
		return true;
	if (!perf_pool_init(&r->pool, r->pool_n, r->o.seed * 4096 + r->job.rank)) {
		perf_err_set(err, "out of memory");
		return false;
	}
	s = mc_mem_alloc(r->job.ctx, len, &p, &r->mem);
	if (s != MC_OK) {
		r->mem = NULL;
		perf_err_set(err, "rank %u cannot have a pool of %s: %s", r->job.rank,
			     perf_format_size(len, size, sizeof(size)), mc_status_text(s));
		return false;
	}
	r->base = mc_mem_addr(r->mem);
	touch_pages(r->base, len);
	if (r->decode_pos != MC_NO_RANK) {
		replay_pool_name(r, name);
		s = mc_mem_publish(r->mem, name);
		if (s == MC_OK)
			return true;
		perf_err_set(err, "rank %u cannot publish its pool: %s", r->job.rank, mc_status_text(s));
		return false;
	}
	return find_pools(r, err);
}

void replay_free(struct replay *r)
{
	for (uint32_t d = 0; r->rmem != NULL && d < r->decode_n; d++)
		mc_rmem_release(r->rmem[d]);
	free(r->rmem);
	free(r->end_told);
	replay_cut_free(r);
	/* busy after a run that ended early: mc_finalize() ends what uses it and frees it */
	if (r->mem != NULL && mc_mem_free(r->mem) == MC_OK)
		r->mem = NULL;
	perf_pool_destroy(&r->pool);
	perf_gather_free(&r->gather);
	perf_route_free(&r->route);
	perf_trace_free(&r->trace);
}

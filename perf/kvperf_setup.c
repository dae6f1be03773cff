/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostmem.h"
#include "kvperf.h"

#define OPEN_NS INT64_C(60000000000)

static const char *const role[KVP_SIDES] = {"prefill", "decode"};
static const char *const option[KVP_SIDES] = {"--src", "--dst"};

static bool find_ranks(struct kvperf *k, struct perf_err *err)
{
	struct perf_job *j = &k->job;
	/* a plan needs no other process */
	bool alone = k->o.plan && j->size == 1 && j->prefill == NULL && j->decode == NULL;

	k->group[KVP_SRC] = j->prefill;
	k->group[KVP_DST] = j->decode;
	for (int s = 0; s < KVP_SIDES; s++) {
		const struct kvperf_side *side = &k->o.side[s];
		uint64_t need = side->tp * side->pp;
		k->rank_n[s] = k->group[s] != NULL ? mc_group_size(k->group[s]) : alone ? (uint32_t)need : 0;
		if (k->rank_n[s] == need)
			continue;
		perf_err_set(err,
			     "%s tp=%" PRIu64 ",pp=%" PRIu64 " needs %" PRIu64 " %s ranks, the job has %u: start it "
			     "as mcrun --prefill %" PRIu64 " --decode %" PRIu64 " mcperf kv ...",
			     option[s], side->tp, side->pp, need, role[s], k->rank_n[s],
			     k->o.side[KVP_SRC].tp * k->o.side[KVP_SRC].pp,
			     k->o.side[KVP_DST].tp * k->o.side[KVP_DST].pp);
		return false;
	}
	if (k->o.plan && k->rank_n[KVP_SRC] + k->rank_n[KVP_DST] > KVP_PLAN_RANKS) {
		perf_err_set(err, "--plan: %u ranks, more than %d", k->rank_n[KVP_SRC] + k->rank_n[KVP_DST],
			     (int)KVP_PLAN_RANKS);
		return false;
	}
	if (alone)
		return true;
	if (k->rank_n[KVP_SRC] + k->rank_n[KVP_DST] != j->size) {
		perf_err_set(err, "%u of the %u ranks have neither role: only prefill and decode ranks take part",
			     j->size - k->rank_n[KVP_SRC] - k->rank_n[KVP_DST], j->size);
		return false;
	}
	k->side = mc_group_rank(j->prefill) != MC_NO_RANK ? KVP_SRC : KVP_DST;
	k->pos = mc_group_rank(k->group[k->side]);
	return true;
}

bool kvperf_load(struct kvperf *k, struct perf_err *err)
{
	if (!kvperf_shape_set(&k->o, &k->shape, err) || !find_ranks(k, err))
		return false;
	for (int s = 0; s < KVP_SIDES; s++) {
		const struct kvperf_side *side = &k->o.side[s];
		k->table_n[s] = kvperf_table_n(&k->shape, side);
		k->pool_n[s] = kvperf_pool_n(&k->shape, side);
		k->table[s] = calloc(k->table_n[s], sizeof(uint32_t));
		if (k->table[s] == NULL || !kvperf_table_make(k->o.seed, s, k->pool_n[s], k->table[s], k->table_n[s])) {
			perf_err_set(err, "out of memory");
			return false;
		}
	}
	if (!kvperf_layout(&k->shape, &k->o.side[k->side], k->pos, k->pool_n[k->side], &k->layout)) {
		perf_err_set(err, "the pool of %s %u would be too large", role[k->side], k->pos);
		return false;
	}
	return true;
}

uint64_t kvperf_digest(const struct kvperf *k)
{
	const struct kvperf_opts *o = &k->o;
	uint64_t n[32] = {k->shape.layers,
			  k->shape.heads,
			  k->shape.head_dim,
			  k->shape.kv_n,
			  k->shape.elem_bytes,
			  o->tokens,
			  o->per_push,
			  o->iters,
			  o->seed,
			  o->pull,
			  o->verify,
			  o->plan,
			  (uint64_t)o->compute_us};
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	size_t at = 13;

	for (int s = 0; s < KVP_SIDES; s++) {
		n[at] = o->side[s].flags;
		for (int d = 0; d < MC_KV_NDIM; d++)
			n[at] = n[at] << 4 | o->side[s].order[d];
		n[at + 1] = o->side[s].block_tokens;
		n[at + 2] = o->side[s].tp << 32 | o->side[s].pp;
		at += 3;
	}
	for (size_t i = 0; i < at * sizeof(n[0]); i++)
		h = (h ^ ((const uint8_t *)n)[i]) * UINT64_C(0x100000001b3);
	return h;
}

uint64_t kvperf_need(const struct kvperf *k)
{
	return k->o.plan ? 0 : kvperf_extent(&k->layout) * kvperf_base_n(&k->layout);
}

static bool host_of(struct perf_job *j, uint32_t rank, char host[MC_NAME_MAX])
{
	struct mc_peer_info info = {.size = sizeof(info)};

	if (mc_peer_query(j->ctx, rank, &info) != MC_OK)
		return false;
	memcpy(host, info.host, MC_NAME_MAX);
	return true;
}

/* Do the pools of each host fit into what it has? */
void kvperf_judge(struct perf_job *j, const struct perf_vote *vote, void *arg, struct perf_err *err)
{
	const struct kvperf *k = arg;
	char host[MC_NAME_MAX], other[MC_NAME_MAX], need_text[32], avail_text[32], hint[48];

	for (uint32_t i = 0; i < j->size && !perf_err_is_set(err); i++) {
		uint64_t need = 0, avail = UINT64_MAX, fits;
		if (!host_of(j, i, host))
			continue;
		for (uint32_t r = 0; r < j->size; r++) {
			if (!host_of(j, r, other) || strcmp(host, other) != 0)
				continue;
			need += vote[r].need;
			avail = vote[r].avail < avail ? vote[r].avail : avail;
		}
		if (need <= avail)
			continue;
		fits = (uint64_t)((double)k->shape.layers * ((double)avail / (double)need) * 0.9);
		hint[0] = '\0';
		if (fits > 0)
			snprintf(hint, sizeof(hint), " or --layers %" PRIu64, fits);
		perf_err_set(err, "host %s: the pools need %s, available are %s: use fewer --tokens%s", host,
			     perf_format_size(need, need_text, sizeof(need_text)),
			     perf_format_size(avail, avail_text, sizeof(avail_text)), hint);
	}
}

/* ---- pools
 * ------------------------------------------------------------------------------------------------------------- */

static bool open_pool(struct kvperf *k, struct perf_err *err)
{
	uint32_t base_n = kvperf_base_n(&k->layout);
	uint64_t extent = kvperf_extent(&k->layout);
	struct mc_mem_params p = {.size = sizeof(p), .flags = k->o.huge ? MC_MEM_HUGE : 0, .numa_node = -1};
	struct mc_buf *base = calloc(base_n, sizeof(*base));
	mc_status_t s = base == NULL ? MC_ERR_NOMEM : mc_mem_alloc(k->job.ctx, extent * base_n, &p, &k->mem);
	char size[32];

	for (uint32_t i = 0; s == MC_OK && i < base_n; i++)
		base[i] = (struct mc_buf){.mem = k->mem, .off = i * extent};
	if (s == MC_OK)
		s = mc_kv_pool_open(k->job.ctx, &k->layout, base, base_n, "kv", &k->pool);
	free(base);
	if (s != MC_OK) {
		perf_err_set(err, "rank %u cannot have a pool of %s: %s", k->job.rank,
			     perf_format_size(extent * base_n, size, sizeof(size)), mc_status_text(s));
		return false;
	}
	k->view = (struct kvperf_view){
		.layout = &k->layout,
		.mem = mc_mem_addr(k->mem),
		.block = k->table[k->side],
		.tokens = k->shape.tokens,
		.seed = k->o.seed,
	};
	kvperf_poison(&k->view); /* takes the pages, too: page faults belong to no transfer */
	return true;
}

/*
 * Room for the records of this rank, at rank 0 for everybody's behind them, then a word per rank for what they agree on
 * after each iteration.
 */
static bool open_results(struct kvperf *k, struct perf_err *err)
{
	uint32_t kinds = k->o.per_push != 0 ? KVP_KINDS : 2;
	mc_status_t s;

	k->record_n = (uint32_t)k->o.iters * kinds;
	k->record_len = k->record_n * sizeof(struct kvperf_record);
	k->word_off = k->record_len * (k->job.rank == 0 ? k->job.size + 1 : 1);
	s = mc_mem_alloc(k->job.ctx, k->word_off + (k->job.size + UINT64_C(1)) * sizeof(uint64_t), NULL,
			 &k->result_mem);
	if (s != MC_OK) {
		perf_err_set(err, "rank %u: no memory for %u records: %s", k->job.rank, k->record_n, mc_status_text(s));
		return false;
	}
	k->record = mc_mem_addr(k->result_mem);
	return true;
}

bool kvperf_pool_open(struct kvperf *k, struct perf_err *err)
{
	return open_pool(k, err) && open_results(k, err);
}

/* In units of one layer and one pair of blocks. */
static uint64_t count_parts(const struct kvperf *k)
{
	uint64_t pairs = kvperf_block_pairs(&k->shape, &k->o.side[KVP_SRC], &k->o.side[KVP_DST]), n = 0;

	for (uint32_t l = 0; l < k->shape.layers; l++) {
		if (k->o.pull)
			n += mc_reshard_sources(k->reshard, l, 1);
		else
			n += mc_reshard_targets(k->reshard, l, 1);
	}
	return n * pairs;
}

bool kvperf_reshard_open(struct kvperf *k, struct perf_err *err)
{
	mc_status_t s = mc_reshard_open(k->group[KVP_SRC], "kv", k->group[KVP_DST], "kv", OPEN_NS, &k->reshard);

	if (s != MC_OK) {
		perf_err_set(err, "rank %u cannot prepare the transfer: %s", k->job.rank, mc_status_text(s));
		return false;
	}
	k->parts = count_parts(k);
	return true;
}

void kvperf_close(struct kvperf *k)
{
	mc_reshard_close(k->reshard);
	/* busy after a run that ended early: mc_finalize() ends what uses them and frees them */
	if (k->pool != NULL && mc_kv_pool_close(k->pool) == MC_OK)
		k->pool = NULL;
	if (k->mem != NULL && mc_mem_free(k->mem) == MC_OK)
		k->mem = NULL;
	if (k->result_mem != NULL && mc_mem_free(k->result_mem) == MC_OK)
		k->result_mem = NULL;
	free(k->table[KVP_SRC]);
	free(k->table[KVP_DST]);
}

struct mc_kv_request kvperf_request(const struct kvperf *k, uint64_t tag, uint32_t layer_lo, uint32_t layer_n)
{
	return (struct mc_kv_request){
		.size = sizeof(struct mc_kv_request),
		.op = k->o.pull ? MC_KV_PULL : MC_KV_PUSH,
		.peer = MC_ANY_PEER,
		.tag = tag,
		.src_block = k->table[KVP_SRC],
		.dst_block = k->table[KVP_DST],
		.src_block_n = k->table_n[KVP_SRC],
		.dst_block_n = k->table_n[KVP_DST],
		.token_n = k->shape.tokens,
		.layer_lo = layer_lo,
		.layer_n = layer_n,
		.timeout_ns = k->o.timeout_ns,
	};
}

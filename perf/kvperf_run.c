/* SPDX-License-Identifier: BSD-3-Clause */
/* All iterations: content, common start, moving, common end, check, and the agreement to go on. */
#include <string.h>

#include "kvperf.h"

#define SYNC_NS INT64_C(120000000000) /* for the slowest rank to make or check its content */

static int64_t sync_ns(const struct kvperf *k)
{
	return SYNC_NS + 2 * k->o.timeout_ns + (int64_t)(2e3 * k->o.compute_us * k->shape.layers);
}

static bool barrier(struct kvperf *k)
{
	mc_status_t s = mc_barrier(mc_group_world(k->job.ctx), sync_ns(k));

	if (s != MC_OK)
		kvperf_fail(k, "waiting for the other ranks", s);
	return s == MC_OK;
}

/* Does any rank see a reason to stop? One answer for all. */
static bool all_well(struct kvperf *k)
{
	uint64_t *word = (uint64_t *)(void *)((uint8_t *)mc_mem_addr(k->result_mem) + k->word_off);
	struct mc_buf src = {.mem = k->result_mem, .off = k->word_off};
	struct mc_buf dst = {.mem = k->result_mem, .off = k->word_off + sizeof(*word)};
	struct mc_coll_opts opts = {.size = sizeof(opts), .timeout_ns = sync_ns(k)};
	mc_status_t s;

	word[0] = k->failed;
	s = mc_allgather(mc_group_world(k->job.ctx), src, dst, sizeof(*word), &opts);
	if (s != MC_OK) {
		kvperf_fail(k, "hearing from the other ranks", s);
		return false;
	}
	for (uint32_t r = 0; r < k->job.size; r++) {
		if (word[1 + r] != 0)
			k->failed = true;
	}
	return !k->failed;
}

static void say_bad(struct kvperf *k, const struct kvperf_bad *bad)
{
	char who[64];

	perf_job_say(&k->job,
		     "%s: wrong byte: layer %u, %s, token %u, head %u, byte %llu: expected 0x%02x, found 0x%02x",
		     perf_job_name(&k->job, k->job.rank, who, sizeof(who)), bad->layer,
		     k->shape.kv_n == 1 ? "latent"
		     : bad->kv == 0     ? "K"
					: "V",
		     bad->token, bad->head, (unsigned long long)bad->byte.off, bad->byte.expected, bad->byte.actual);
	k->failed = true;
}

static void check(struct kvperf *k, struct kvperf_record *rec)
{
	struct kvperf_bad bad;

	if (k->o.verify && !k->failed && !kvperf_check(&k->view, &bad, &rec->verified))
		say_bad(k, &bad);
}

/* --corrupt-one: one bit in the middle of what the first source has, to prove that the check sees it. */
static void corrupt(struct kvperf *k)
{
	const struct mc_kv_layout *l = &k->layout;

	if (k->side == KVP_SRC && k->pos == 0)
		kvperf_place(&k->view, l->layer_lo + l->layer_n / 2, l->kv_n - 1, k->shape.tokens / 2,
			     l->head_lo)[k->shape.vec / 2] ^= 0x10;
}

static bool iterate(struct kvperf *k, enum kvperf_kind kind, bool first, struct kvperf_record *rec)
{
	int64_t cpu;

	rec->kind = (uint64_t)kind;
	rec->parts = k->parts;
	if (k->o.verify || first) {
		k->view.round++;
		if (k->side == KVP_SRC)
			kvperf_fill(&k->view, 0, k->shape.layers);
	}
	if (first && k->o.corrupt_one)
		corrupt(k);
	if (!barrier(k))
		return false;
	cpu = kvperf_cpu_ns();
	(void)kvperf_move(k, kind, rec); /* a failure is agreed upon below */
	if (!barrier(k))
		return false;
	rec->cpu_ns = (uint64_t)(kvperf_cpu_ns() - cpu);
	if (k->side == KVP_DST)
		check(k, rec);
	return all_well(k);
}

/* Sources hold what they held, and nobody wrote beside the sequence. */
static bool check_rest(struct kvperf *k, struct kvperf_record *rec)
{
	struct kvperf_bad bad;
	uint64_t bytes;
	char who[64];

	if (!k->o.verify)
		return true;
	if (k->side == KVP_SRC && !kvperf_check(&k->view, &bad, &bytes))
		say_bad(k, &bad);
	rec->stray = kvperf_stray(&k->view);
	if (rec->stray > 0) {
		perf_job_say(&k->job, "%s: %llu bytes outside the sequence were written",
			     perf_job_name(&k->job, k->job.rank, who, sizeof(who)), (unsigned long long)rec->stray);
		k->failed = true;
	}
	return all_well(k);
}

static bool collect(struct kvperf *k)
{
	struct mc_buf src = {.mem = k->result_mem}, dst = {.mem = k->result_mem, .off = k->record_len};
	struct mc_coll_opts opts = {.size = sizeof(opts), .timeout_ns = sync_ns(k)};
	mc_status_t s = mc_gather(mc_group_world(k->job.ctx), 0, src, dst, k->record_len, &opts);

	if (s != MC_OK)
		kvperf_fail(k, "bringing the results together", s);
	return s == MC_OK;
}

bool kvperf_run(struct kvperf *k)
{
	static const enum kvperf_kind all[] = {KVP_WHOLE, KVP_AT_END, KVP_BY_LAYER, KVP_PROBE};
	static const enum kvperf_kind plain[] = {KVP_WHOLE, KVP_PROBE};
	const enum kvperf_kind *kind = k->o.per_push != 0 ? all : plain;
	uint32_t kinds = k->o.per_push != 0 ? KVP_KINDS : 2;

	for (uint32_t i = 0; i < k->record_n; i++) {
		/* to and fro, so that no kind always comes after the same other one */
		uint32_t at = i / kinds % 2 == 0 ? i % kinds : kinds - 1 - i % kinds;
		if (!iterate(k, kind[at], i == 0, &k->record[i]))
			return false;
	}
	return check_rest(k, &k->record[k->record_n - 1]) && collect(k);
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvperf.h"
#include "report.h"

/* What all ranks' records say about one kind of iteration. */
struct figures {
	struct perf_samples total_ns, open_ns; /* per iteration: until the last rank was done; of it not compute */
	uint64_t n, bytes, runs, parts, post_ns, probe_ns, compute_ns;
	uint64_t cpu_ns[KVP_SIDES];
	bool no_memory;
};

static int side_of(const struct kvperf *k, uint32_t rank)
{
	for (uint32_t i = 0; i < k->rank_n[KVP_SRC]; i++) {
		if (mc_group_peer(k->group[KVP_SRC], i) == rank)
			return KVP_SRC;
	}
	return KVP_DST;
}

static const struct kvperf_record *record_of(const struct kvperf *k, uint32_t rank, uint32_t i)
{
	return &k->record[(uint64_t)k->record_n * (rank + 1) + i];
}

static void add_iteration(const struct kvperf *k, uint32_t i, struct figures *f)
{
	uint64_t total = 0, compute = 0;

	for (uint32_t r = 0; r < k->job.size; r++) {
		const struct kvperf_record *rec = record_of(k, r, i);
		total = rec->done_ns > total ? rec->done_ns : total;
		compute = rec->compute_ns > compute ? rec->compute_ns : compute;
		f->bytes += rec->bytes;
		f->runs += rec->runs;
		f->parts += rec->bytes > 0 ? rec->parts : 0;
		f->post_ns += rec->post_ns;
		f->probe_ns += rec->probe_ns;
		f->cpu_ns[side_of(k, r)] += rec->cpu_ns;
	}
	f->n++;
	f->compute_ns = compute;
	f->no_memory |= !perf_samples_add(&f->total_ns, total) ||
			!perf_samples_add(&f->open_ns, total > compute ? total - compute : 0);
}

static void figures_make(const struct kvperf *k, enum kvperf_kind kind, struct figures *f)
{
	*f = (struct figures){.n = 0};
	for (uint32_t i = 0; i < k->record_n; i++) {
		if (record_of(k, 0, i)->kind == (uint64_t)kind)
			add_iteration(k, i, f);
	}
}

static void figures_free(struct figures *f)
{
	perf_samples_free(&f->total_ns);
	perf_samples_free(&f->open_ns);
}

static double median(struct perf_samples *s)
{
	return (double)perf_samples_percentile(s, 0.5);
}

static double best(struct perf_samples *s)
{
	return (double)perf_samples_percentile(s, 1e-9);
}

static double per(double a, double b)
{
	return b > 0 ? a / b : 0;
}

/* ---- common rows
 * ------------------------------------------------------------------------------------------------------- */

struct perf_report *kvperf_report_new(const struct kvperf *k)
{
	const struct kvperf_side *a = &k->o.side[KVP_SRC], *b = &k->o.side[KVP_DST];
	char title[320];

	snprintf(title, sizeof(title),
		 "mcperf kv: %s, %u of %u layers, %u %s of %u bytes, %u tokens\n  from tp=%" PRIu64 ",pp=%" PRIu64
		 " %s blocks of %" PRIu64 " to tp=%" PRIu64 ",pp=%" PRIu64 " %s blocks of %" PRIu64 ", %s",
		 k->shape.model->alias, k->shape.layers, k->shape.model->layers, k->shape.heads,
		 k->shape.kv_n == 1 ? "latent" : "KV heads", k->shape.vec, k->shape.tokens, a->tp, a->pp, a->layout,
		 a->block_tokens, b->tp, b->pp, b->layout, b->block_tokens, k->o.pull ? "pull" : "push");
	return perf_report_new(title);
}

static void side_json(struct perf_report *rep, const char *key, const struct kvperf_side *s)
{
	struct json_object *o = json_object_new_object();

	if (o != NULL) {
		json_object_object_add(o, "tp", json_object_new_uint64(s->tp));
		json_object_object_add(o, "pp", json_object_new_uint64(s->pp));
		json_object_object_add(o, "layout", json_object_new_string(s->layout));
		json_object_object_add(o, "block_tokens", json_object_new_uint64(s->block_tokens));
	}
	perf_report_json(rep, key, o);
}

void kvperf_say_setup(struct perf_report *rep, const struct kvperf *k)
{
	perf_report_text(rep, "model", NULL, k->shape.model->alias);
	perf_report_u64(rep, "layers", NULL, k->shape.layers, NULL);
	perf_report_u64(rep, "heads", NULL, k->shape.heads, NULL);
	perf_report_u64(rep, "element_range_bytes", NULL, k->shape.vec, NULL);
	perf_report_u64(rep, "tokens", NULL, k->shape.tokens, NULL);
	side_json(rep, "src", &k->o.side[KVP_SRC]);
	side_json(rep, "dst", &k->o.side[KVP_DST]);
	perf_report_text(rep, "op", NULL, k->o.pull ? "pull" : "push");
	perf_report_u64(rep, "seed", NULL, k->o.seed, NULL);
	perf_report_text(rep, "version", NULL, mc_version());
}

static void say_links(struct perf_report *rep, const struct kvperf *k)
{
	int other = 1 - k->side;
	char seen[512] = "";

	for (uint32_t i = 0; i < k->rank_n[other]; i++) {
		struct mc_peer_info info = {.size = sizeof(info)};
		if (mc_peer_query(k->job.ctx, mc_group_peer(k->group[other], i), &info) != MC_OK ||
		    info.link[0] == '\0' || strstr(seen, info.link) != NULL)
			continue;
		snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s%s%s%s%s", seen[0] ? "; " : "", info.link,
			 info.link_reason[0] ? " (" : "", info.link_reason, info.link_reason[0] ? ")" : "");
	}
	perf_report_text(rep, "transport", "transport", seen[0] ? seen : "(not used)");
}

int kvperf_report_write(const struct kvperf *k, struct perf_report *rep, bool good)
{
	struct perf_err err = {""};

	if (!perf_report_write(rep, k->o.json, &err)) {
		perf_job_say(&k->job, "%s", err.text);
		good = false;
	}
	perf_report_free(rep);
	return good ? 0 : 1;
}

void kvperf_say_totals(struct perf_report *rep, const struct mc_kv_totals *t)
{
	perf_report_u64(rep, "bytes", "bytes", t->bytes, "per transfer");
	perf_report_u64(rep, "naive_descriptors", "naive descriptors", t->naive,
			"one per contiguous piece of a layer, K or V, and pair of blocks");
	perf_report_u64(rep, "plan_runs", "runs", t->runs, "after merging");
	perf_report_u64(rep, "plan_pieces", "pieces", t->pieces, "contiguous stretches in those runs");
	perf_report_real(rep, "naive_per_run", "merged", per((double)t->naive, (double)t->runs), "to one");
}

/* ---- measured
 * ---------------------------------------------------------------------------------------------------------- */

static void say_speed(struct perf_report *rep, const struct kvperf *k, struct figures *f, const struct figures *probe)
{
	double gb = (double)f->bytes / 1e9, each = per((double)f->bytes, (double)f->n);
	double med = median(&f->total_ns), top = best(&f->total_ns);

	perf_report_u64(rep, "iters", "transfers", f->n, "of the whole sequence");
	perf_report_u64(rep, "blocks", "blocks", per((double)f->parts, (double)f->n) > 0 ? f->parts / f->n : 0,
			"pairs of blocks, times layers, times pairs of ranks");
	perf_report_u64(rep, "runs", "runs posted", f->n > 0 ? f->runs / f->n : 0, "in all requests of a transfer");
	perf_report_real(rep, "best_us", "transfer, best", top / 1e3, "us until the last rank had or had sent all");
	perf_report_real(rep, "median_us", "transfer, median", med / 1e3, "us");
	perf_report_real(rep, "best_gbps", "speed, best", per(each, top), "GB/s");
	perf_report_real(rep, "median_gbps", "speed, median", per(each, med), "GB/s");
	perf_report_real(rep, "post_us", "post, mean",
			 per((double)f->post_ns / 1e3, (double)f->n * k->rank_n[k->o.pull ? KVP_DST : KVP_SRC]),
			 "us inside mc_reshard_start() per rank");
	perf_report_real(rep, "post_ns_per_block", "post per block", per((double)f->post_ns, (double)f->parts),
			 "ns, with the copying that is done inside the call");
	perf_report_real(rep, "start_ns_per_block", "start per block",
			 per((double)probe->probe_ns, (double)probe->parts),
			 "ns, of a request that waits behind another one: without copying");
	perf_report_real(rep, "start_ns_per_run", "start per run", per((double)probe->probe_ns, (double)probe->runs),
			 "ns");
	perf_report_real(rep, "cpu_s_per_gb_src", "CPU, sources", per((double)f->cpu_ns[KVP_SRC] / 1e9, gb),
			 "s per GB");
	perf_report_real(rep, "cpu_s_per_gb_dst", "CPU, targets", per((double)f->cpu_ns[KVP_DST] / 1e9, gb),
			 "s per GB");
}

static void say_overlap(struct perf_report *rep, const struct kvperf *k, struct figures *end, struct figures *layer)
{
	double open_end = median(&end->open_ns), open_layer = median(&layer->open_ns);

	perf_report_u64(rep, "layers_per_push", "layers per request", k->o.per_push, NULL);
	perf_report_real(rep, "compute_us_per_layer", "compute per layer", k->o.compute_us,
			 k->o.compute_by == KVP_SPIN ? "us, spinning" : "us, asleep");
	perf_report_real(rep, "compute_us", "compute", (double)end->compute_ns / 1e3, "us, all layers");
	perf_report_real(rep, "at_end_us", "all at the end", median(&end->total_ns) / 1e3,
			 "us, median, compute and transfer");
	perf_report_real(rep, "by_layer_us", "layer-wise", median(&layer->total_ns) / 1e3, "us, median");
	perf_report_real(rep, "by_layer_ratio", "layer-wise ratio",
			 per(median(&layer->total_ns), median(&end->total_ns)), "of the time of all at the end");
	perf_report_real(rep, "exposed_at_end_us", NULL, open_end / 1e3, NULL);
	perf_report_real(rep, "exposed_by_layer_us", "left after compute", open_layer / 1e3, "us, layer-wise");
	perf_report_real(rep, "overlap", "overlap", open_end > 0 ? 1 - open_layer / open_end : 0,
			 "share of the transfer time that compute hides");
}

static uint64_t expected_bytes(const struct kvperf *k)
{
	uint64_t n = 0;

	for (uint32_t d = 0; d < k->rank_n[KVP_DST]; d++) {
		struct mc_kv_layout l;
		if (kvperf_layout(&k->shape, &k->o.side[KVP_DST], d, k->pool_n[KVP_DST], &l))
			n += kvperf_shard_bytes(&k->shape, &l);
	}
	return n;
}

/* Every iteration moved what the targets' layouts say, no more and no less, and all of it was compared. */
static bool accounts_agree(struct kvperf *k, const struct mc_kv_totals *sum, uint64_t *verified_out)
{
	uint64_t want = expected_bytes(k), verified = 0;

	if (sum->bytes != want) {
		perf_job_say(&k->job, "the plan moves %" PRIu64 " bytes, the targets hold %" PRIu64, sum->bytes, want);
		return false;
	}
	for (uint32_t i = 0; i < k->record_n; i++) {
		uint64_t bytes = 0;
		for (uint32_t r = 0; r < k->job.size; r++) {
			bytes += record_of(k, r, i)->bytes;
			verified += record_of(k, r, i)->verified;
		}
		if (bytes == want)
			continue;
		perf_job_say(&k->job, "iteration %u moved %" PRIu64 " bytes instead of %" PRIu64, i, bytes, want);
		return false;
	}
	*verified_out = verified;
	if (!k->o.verify || verified == want * k->record_n)
		return true;
	perf_job_say(&k->job, "only %" PRIu64 " of %" PRIu64 " bytes were verified", verified, want * k->record_n);
	return false;
}

static void say_measured(struct perf_report *rep, struct kvperf *k)
{
	struct figures whole, end, layer, probe;

	figures_make(k, KVP_WHOLE, &whole);
	figures_make(k, KVP_AT_END, &end);
	figures_make(k, KVP_BY_LAYER, &layer);
	figures_make(k, KVP_PROBE, &probe);
	say_speed(rep, k, &whole, &probe);
	if (k->o.per_push != 0)
		say_overlap(rep, k, &end, &layer);
	if (whole.no_memory || end.no_memory || layer.no_memory || probe.no_memory)
		perf_job_say(&k->job, "out of memory: some samples are missing");
	figures_free(&whole);
	figures_free(&end);
	figures_free(&layer);
	figures_free(&probe);
}

int kvperf_report(struct kvperf *k, bool good)
{
	struct perf_report *rep = kvperf_report_new(k);
	struct mc_kv_totals sum;
	mc_status_t s = kvperf_totals(k, &sum);
	uint64_t verified = 0;

	if (rep == NULL || s != MC_OK) {
		perf_job_say(&k->job, "no report: %s", mc_status_text(rep == NULL ? MC_ERR_NOMEM : s));
		perf_report_free(rep);
		return 1;
	}
	kvperf_say_totals(rep, &sum);
	if (good) {
		good = accounts_agree(k, &sum, &verified);
		say_measured(rep, k);
	}
	perf_report_u64(rep, "verified_bytes", "verified", verified,
			k->o.verify ? "bytes, in all transfers" : "check switched off");
	perf_report_u64(rep, "errors", "errors", good ? 0 : 1, NULL);
	say_links(rep, k);
	kvperf_say_setup(rep, k);
	perf_report_text(rep, "result", "result", !good ? "FAILED" : k->o.verify ? "all verified" : "moved");
	return kvperf_report_write(k, rep, good);
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"
#include "report.h"

struct totals {
	struct perf_result sum;
	uint64_t busy_ns, wall_ns; /* longest of any rank */
	uint64_t lost;             /* requests nobody accounted for: their decode rank died */
	uint64_t ranks_lost;
	uint64_t errors;
	bool good;
};

static struct totals add_up(const struct replay *r)
{
	const struct perf_gather *g = &r->gather;
	struct totals t = {0};
	uint64_t known;

	for (uint32_t i = 0; i < r->job.size; i++) {
		if (!g->have[i]) {
			t.ranks_lost++;
			continue;
		}
#define ADD_FIELD(name) t.sum.name += g->result[i].name;
		PERF_RESULT_MAP(ADD_FIELD)
#undef ADD_FIELD
		t.busy_ns = g->result[i].busy_ns > t.busy_ns ? g->result[i].busy_ns : t.busy_ns;
		t.wall_ns = g->result[i].wall_ns > t.wall_ns ? g->result[i].wall_ns : t.wall_ns;
	}
	known = t.sum.ok + t.sum.failed + t.sum.not_run;
	t.lost = r->trace.n > known ? r->trace.n - known : 0;
	if (r->o.with_n != 0 && r->prefill_pos != MC_NO_RANK)
		t.lost = 0; /* the decode job knows */
	t.errors = t.sum.failed + t.lost + t.sum.fatal;
	return t;
}

/* The run is good when nothing went wrong and both sides' accounts agree. */
static void judge(const struct replay *r, struct totals *t)
{
	if (t->ranks_lost > 0 || t->errors > 0 || t->sum.not_run > 0)
		return;
	/* of a process that was started again one side counts what it did before, the other does not */
	if (r->o.with_n == 0 && t->sum.again == 0 && t->sum.put_bytes != t->sum.bytes) {
		perf_job_say(&r->job, "%" PRIu64 " bytes were put but %" PRIu64 " were notified", t->sum.put_bytes,
			     t->sum.bytes);
		t->errors++;
		return;
	}
	if (r->o.verify && t->sum.verified != t->sum.bytes) {
		perf_job_say(&r->job, "only %" PRIu64 " of %" PRIu64 " bytes were verified", t->sum.verified,
			     t->sum.bytes);
		t->errors++;
		return;
	}
	t->good = true;
}

/* "shm" of "shm (mapped, cma)", all that occur, joined by "+". */
static void backends(const struct perf_gather *g, char *buf, size_t len)
{
	buf[0] = '\0';
	for (uint32_t i = 0; i < g->link_n; i++) {
		char name[MC_NAME_MAX];
		snprintf(name, sizeof(name), "%s", g->link[i].text);
		name[strcspn(name, " (")] = '\0';
		if (name[0] == '\0' || strstr(buf, name) != NULL)
			continue;
		snprintf(buf + strlen(buf), len - strlen(buf), "%s%s", buf[0] == '\0' ? "" : "+", name);
	}
	if (buf[0] == '\0')
		snprintf(buf, len, "none");
}

static struct json_object *links(const struct perf_gather *g)
{
	struct json_object *list = json_object_new_array();

	for (uint32_t i = 0; list != NULL && i < g->link_n; i++) {
		struct json_object *o = json_object_new_object();
		if (o == NULL)
			break;
		json_object_object_add(o, "from", json_object_new_int64(g->link[i].from));
		json_object_object_add(o, "to", json_object_new_int64(g->link[i].to));
		json_object_object_add(o, "link", json_object_new_string(g->link[i].text));
		json_object_array_add(list, o);
	}
	return list;
}

/* Each distinct way once, for the table. */
static void link_rows(struct perf_report *rep, const struct perf_gather *g)
{
	for (uint32_t i = 0; i < g->link_n; i++) {
		uint32_t k = 0;
		while (k < i && strcmp(g->link[k].text, g->link[i].text) != 0)
			k++;
		if (k == i)
			perf_report_text(rep, NULL, "transport", g->link[i].text[0] ? g->link[i].text : "(not used)");
	}
}

/* With --with a job knows its own half: rows of the other half are left to the JSON file, where they are 0. */
static const char *of_decode(const struct replay *r, const char *label)
{
	return r->o.with_n != 0 && r->decode_pos == MC_NO_RANK ? NULL : label;
}

static const char *of_prefill(const struct replay *r, const char *label)
{
	return r->o.with_n != 0 && r->prefill_pos == MC_NO_RANK ? NULL : label;
}

static void say_work(struct perf_report *rep, const struct replay *r, const struct totals *t)
{
	char note[64];

	snprintf(note, sizeof(note), "of %u", r->trace.n);
	perf_report_u64(rep, "requests", of_decode(r, "requests"), t->sum.ok, note);
	perf_report_u64(rep, "requests_total", NULL, r->trace.n, NULL);
	perf_report_u64(rep, "tokens", of_decode(r, "tokens"), t->sum.tokens, NULL);
	perf_report_u64(rep, "tokens_moved", NULL, t->sum.tokens_moved, NULL);
	snprintf(note, sizeof(note), "moved, each in %u layers", r->layers);
	perf_report_u64(rep, "blocks", of_decode(r, "blocks"), t->sum.blocks, note);
	perf_report_u64(rep, "prefix_hit_blocks", of_decode(r, "prefix hits"), t->sum.hit_blocks,
			"blocks that were there already");
	perf_report_u64(rep, "slices", of_prefill(r, "slices"), t->sum.slices, NULL);
	perf_report_u64(rep, "runs", of_prefill(r, "after merging"), t->sum.runs, NULL);
	perf_report_u64(rep, "bytes", "bytes", of_decode(r, "") == NULL ? t->sum.put_bytes : t->sum.bytes, "moved");
	perf_report_u64(rep, "verified_bytes", of_decode(r, "verified"), t->sum.verified,
			r->o.verify ? "bytes, compared after the notification" : "check switched off");
	perf_report_u64(rep, "rechecked_bytes", NULL, t->sum.rechecked, NULL);
	perf_report_u64(rep, "errors", "errors", t->errors, t->errors == 0 ? NULL : "requests failed or lost");
	perf_report_u64(rep, "wrong_blocks", t->sum.wrong > 0 ? "wrong blocks" : NULL, t->sum.wrong, NULL);
	perf_report_u64(rep, "not_run", t->sum.not_run > 0 ? "not run" : NULL, t->sum.not_run, "the run ended early");
	perf_report_u64(rep, "ranks_lost", t->ranks_lost > 0 ? "ranks lost" : NULL, t->ranks_lost, NULL);
	perf_report_u64(rep, "restarts", t->sum.again > 0 ? "restarts" : NULL, t->sum.again,
			"ranks started again; what they did before is done again");
}

static double per(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static void say_speed(struct perf_report *rep, struct replay *r, const struct totals *t)
{
	struct perf_samples *s = &r->gather.samples[PERF_S_TRANSFER], *h = &r->gather.samples[PERF_S_HANDOFF];
	double gb = (double)(r->o.with_n != 0 && r->prefill_pos == MC_NO_RANK ? t->sum.bytes : t->sum.put_bytes) / 1e9;

	perf_report_real(rep, "goodput_gbps", of_prefill(r, "goodput"), per(gb, (double)t->busy_ns / 1e9),
			 "GB/s while transfers are under way");
	perf_report_real(rep, "wall_gbps", "overall", per(gb, (double)t->wall_ns / 1e9),
			 "GB/s with content made and checked");
	perf_report_real(rep, "p50_us", of_prefill(r, "transfer p50"), (double)perf_samples_percentile(s, 0.5) / 1e3,
			 "us per request");
	perf_report_real(rep, "p99_us", of_prefill(r, "transfer p99"), (double)perf_samples_percentile(s, 0.99) / 1e3,
			 "us");
	perf_report_real(rep, "max_us", of_prefill(r, "transfer max"), (double)perf_samples_max(s) / 1e3, "us");
	perf_report_real(rep, "post_us", of_prefill(r, "post, mean"),
			 per((double)t->sum.post_ns / 1e3, (double)t->sum.puts),
			 r->cut != NULL ? "us inside mc_reshard_start() per request and rank"
					: "us inside mc_put() per request");
	perf_report_real(rep, "handoff_p50_us", of_decode(r, "handoff p50"),
			 (double)perf_samples_percentile(h, 0.5) / 1e3, "us, block table sent to notified");
	perf_report_real(rep, "handoff_p99_us", of_decode(r, "handoff p99"),
			 (double)perf_samples_percentile(h, 0.99) / 1e3, "us");
	perf_report_real(rep, "cpu_s_per_gb", "CPU", per((double)t->sum.cpu_ns / 1e9, gb),
			 r->o.with_n != 0 ? "s per GB, this side, without content"
					  : "s per GB, both sides, without content");
	perf_report_real(rep, "check_cpu_s", NULL, (double)t->sum.check_ns / 1e9, NULL);
	perf_report_real(rep, "wall_s", "wall", (double)t->wall_ns / 1e9, "s");
}

static void say_setup(struct perf_report *rep, const struct replay *r)
{
	char name[128];

	backends(&r->gather, name, sizeof(name));
	perf_report_text(rep, "backend", NULL, name);
	perf_report_json(rep, "transports", links(&r->gather));
	perf_report_u64(rep, "prefill", NULL, r->prefill_n, NULL);
	perf_report_u64(rep, "decode", NULL, r->decode_n, NULL);
	perf_report_text(rep, "model", NULL, r->model->alias);
	perf_report_u64(rep, "layers", NULL, r->layers, NULL);
	perf_report_u64(rep, "model_layers", NULL, r->model->layers, NULL);
	perf_report_u64(rep, "src_tp", NULL, r->o.side[KVP_SRC].tp, NULL); /* 0: a rank is an instance */
	perf_report_u64(rep, "src_pp", NULL, r->o.side[KVP_SRC].pp, NULL);
	perf_report_u64(rep, "dst_tp", NULL, r->o.side[KVP_DST].tp, NULL);
	perf_report_u64(rep, "dst_pp", NULL, r->o.side[KVP_DST].pp, NULL);
	perf_report_u64(rep, "block_tokens", NULL, r->block_tokens, NULL);
	perf_report_u64(rep, "block_bytes", NULL, r->block_bytes, NULL);
	perf_report_u64(rep, "window", NULL, r->o.window, NULL);
	perf_report_real(rep, "speed", NULL, r->o.speed, NULL); /* 0: max */
	perf_report_u64(rep, "seed", NULL, r->o.seed, NULL);
	perf_report_text(rep, "version", NULL, mc_version());
	link_rows(rep, &r->gather);
}

int replay_report(struct replay *r)
{
	struct totals t = add_up(r);
	struct perf_report *rep;
	struct perf_err err = {""};
	char title[384];
	bool verified = r->o.verify && (r->o.with_n == 0 || r->decode_pos != MC_NO_RANK);

	judge(r, &t);
	snprintf(title, sizeof(title),
		 "mcperf replay: %s, %u of %u layers, blocks of %u tokens (%" PRIu64
		 " bytes per layer), %u prefill and %u decode ranks",
		 r->model->alias, r->layers, r->model->layers, r->block_tokens, r->block_bytes, r->prefill_n,
		 r->decode_n);
	if (r->cut != NULL)
		snprintf(title, sizeof(title),
			 "mcperf replay: %s, %u of %u layers, %u prefill instances of tp=%" PRIu64 ",pp=%" PRIu64
			 " (%s, blocks of %" PRIu64 ") and %u decode instances of tp=%" PRIu64 ",pp=%" PRIu64
			 " (%s, blocks of %" PRIu64 ")",
			 r->model->alias, r->layers, r->model->layers, r->prefill_n, r->o.side[KVP_SRC].tp,
			 r->o.side[KVP_SRC].pp, r->o.side[KVP_SRC].layout, r->o.side[KVP_SRC].block_tokens, r->decode_n,
			 r->o.side[KVP_DST].tp, r->o.side[KVP_DST].pp, r->o.side[KVP_DST].layout,
			 r->o.side[KVP_DST].block_tokens);
	rep = perf_report_new(title);
	if (rep == NULL) {
		perf_job_say(&r->job, "out of memory: no report");
		return 1;
	}
	say_work(rep, r, &t);
	say_speed(rep, r, &t);
	say_setup(rep, r);
	perf_report_text(rep, "result", "result", !t.good ? "FAILED" : verified ? "all verified" : "moved");
	if (!perf_report_write(rep, r->o.json, &err)) {
		perf_job_say(&r->job, "%s", err.text);
		t.good = false;
	}
	perf_report_free(rep);
	return t.good ? 0 : 1;
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "plot.h"
#include "sweep.h"

struct sweep_out {
	FILE *table, *json, *csv; /* NULL: not wanted */
	struct perf_plot plot;
	bool csv_begun, x_batch;
};

/* What a row says, once; as JSON, CSV and table. */
struct cell {
	const char *key;
	const char *text; /* else a number */
	double v;
	int digits; /* after the point; 0: whole */
	bool null;  /* not measured */
};
enum { CELLS = 64 };
struct cells {
	struct cell c[CELLS];
	uint32_t n;
};

static FILE *open_file(const char *path, struct perf_err *err)
{
	FILE *f;

	if (path == NULL)
		return NULL;
	if (strcmp(path, "-") == 0)
		return stdout;
	f = fopen(path, "we");
	if (f == NULL)
		perf_err_set(err, "%s: cannot write: %s", path, strerror(errno));
	return f;
}

/* "shm (mapped, cma)" of "shm shm (mapped, cma)": the backend's name comes first. */
static const char *link_text(const struct sweep *s)
{
	const char *rest = strchr(s->link, ' ');

	return rest != NULL && rest[1] != '\0' && rest[1] != '(' ? rest + 1 : s->link;
}

static const char *pattern_text(const struct sweep *s)
{
	static const char *const text[] = {"pair", "many-to-one", "one-to-many", "matrix"};

	return text[s->o.pattern];
}

/* Each way that bytes go, once, and how many peers it reaches. */
static void print_links(FILE *to, struct sweep *s)
{
	struct mc_peer_info info = {.size = sizeof(info)};

	for (uint32_t i = 0; i < s->job.size; i++) {
		bool mine = false;
		for (uint32_t k = 0; k < s->plan.flow_n; k++)
			mine |= (s->plan.flow[k].from == 0 && s->plan.flow[k].to == i) ||
				(s->plan.flow[k].to == 0 && s->plan.flow[k].from == i);
		info.size = sizeof(info);
		if (mine && mc_peer_query(s->job.ctx, i, &info) == MC_OK)
			fprintf(to, "# rank 0 - rank %u%s%s (%s): %s%s%s%s\n", i, info.role[0] ? ", " : "", info.role,
				info.host, info.link[0] ? info.link : "not connected", info.link_reason[0] ? " (" : "",
				info.link_reason, info.link_reason[0] ? ")" : "");
	}
}

static void print_head(struct sweep_out *out, struct sweep *s)
{
	char area[32];
	FILE *f = out->table;

	perf_header_print(&s->header, f, s->o.cmd);
	print_links(f, s);
	fprintf(f,
		"# %s, %s%s, %u ranks, memory %s (%s per lane and side), blocks %s, window %llu, threads %llu, %s, "
		"%llu runs%s\n",
		sweep_op_name(s->o.op), pattern_text(s), s->o.bidir ? " both ways" : "", s->job.size,
		s->o.memory == SWEEP_POOL ? "pool" : "own", perf_format_size(s->plan.area_len, area, sizeof(area)),
		s->o.table == SWEEP_RANDOM ? "at random places" : "adjacent", (unsigned long long)s->o.window,
		(unsigned long long)s->o.threads, s->o.poll ? "waiting by polling" : "waiting asleep",
		(unsigned long long)s->o.runs, s->o.verify ? ", every byte of the last one checked" : "");
	if (!s->o.lat)
		fprintf(f,
			"# average, peak, one block, memcpy, pvm, raw TCP: %s; p50 to post: us per request; CPU of all "
			"ranks\n",
			sweep_unit_name(s->o.unit));
	if (s->o.lat)
		fprintf(f, "%10s %7s %9s %9s %9s %9s %9s %8s %8s", "size B", "batch", "iters", "p50 us", "p99 us",
			"p99.9 us", "post us", "CPU us", "checked");
	else
		fprintf(f, "%10s %7s %8s %9s %9s %8s %10s %10s %10s %9s %8s %9s %8s %10s %6s", "size B", "batch",
			"iters", "average", "peak", "Mblock/s", "p50 us", "p99 us", "p99.9 us", "post us", "CPU us",
			"CPU s/GiB", "checked", "one block", "ratio");
	if (s->ref_peer != MC_NO_RANK && !s->o.lat)
		fprintf(f, " %8s %6s %8s %6s %8s %6s", "memcpy", "ratio", "pvm", "ratio", "raw TCP", "ratio");
	else if (s->ref_peer != MC_NO_RANK)
		fprintf(f, " %10s %6s %10s %6s", "raw TCP us", "ratio", "ucx put us", "ratio");
	fprintf(f, "\n");
	fflush(f);
}

struct sweep_out *sweep_out_open(struct sweep *s, struct perf_err *err)
{
	struct sweep_out *out = calloc(1, sizeof(*out));
	bool to_stdout =
		(s->o.json != NULL && strcmp(s->o.json, "-") == 0) || (s->o.csv != NULL && strcmp(s->o.csv, "-") == 0);

	if (out == NULL) {
		perf_err_set(err, "out of memory");
		return NULL;
	}
	out->table = to_stdout ? stderr : stdout;
	out->json = open_file(s->o.json, err);
	out->csv = open_file(s->o.csv, err);
	out->x_batch = s->o.size_n == 1 && s->o.batch_n > 1;
	print_head(out, s);
	return out;
}

/* ---- a row --------------------------------------------------------------------------------------------------- */

static void text(struct cells *c, const char *key, const char *v)
{
	c->c[c->n++] = (struct cell){.key = key, .text = v};
}

static void number(struct cells *c, const char *key, double v, int digits)
{
	c->c[c->n++] = (struct cell){.key = key, .v = v, .digits = digits};
}

static void maybe(struct cells *c, const char *key, double v, int digits)
{
	c->c[c->n++] = (struct cell){.key = key, .v = v, .digits = digits, .null = !(v > 0)};
}

static double per(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static void add_refs(struct cells *c, const struct sweep *s, const struct sweep_row *row)
{
	static const char *const best_name[REF_N] = {"ref_memcpy_gbps_best", "ref_pvm_gbps_best", "ref_tcp_gbps_best",
						     "ref_tcp_rr_us_best", "ref_ucx_put_lat_us_best"};

	maybe(c, "bulk_gbps_avg", sweep_median(&row->bulk), 4);
	maybe(c, "bulk_gbps_best", sweep_best(&row->bulk), 4);
	maybe(c, "bulk_cpu_us_per_block", sweep_median(&row->bulk_cpu), 4);
	for (int i = 0; i < REF_N && s->ref_peer != MC_NO_RANK; i++) {
		bool us = i == REF_TCP_RR || i == REF_UCX_LAT;
		maybe(c, ref_name[i], sweep_median(&row->ref[i]), 4);
		maybe(c, best_name[i], us ? sweep_least(&row->ref[i]) : sweep_best(&row->ref[i]), 4);
	}
	if (s->ref_peer != MC_NO_RANK && !s->o.lat) {
		maybe(c, "ref_memcpy_cpu_us_per_block", sweep_median(&row->ref_cpu[REF_MEMCPY]), 4);
		maybe(c, "ref_pvm_cpu_us_per_block", sweep_median(&row->ref_cpu[REF_PVM]), 4);
		maybe(c, "ref_tcp_cpu_s_per_gib", sweep_median(&row->ref_cpu[REF_TCP]), 4);
	}
}

/* The keys are what docs/man/mcperf.1.md promises. */
static void row_cells(struct cells *c, const struct sweep *s, struct sweep_row *row, char *backend)
{
	struct perf_samples *v = &row->samples;
	double gib = (double)row->sum.bytes / 1073741824.0;

	snprintf(backend, MC_NAME_MAX, "%s", s->link);
	backend[strcspn(backend, " (")] = '\0';
	*c = (struct cells){.n = 0};
	text(c, "cmd", s->o.cmd);
	text(c, "op", sweep_op_name(s->o.op));
	text(c, "backend", backend);
	text(c, "transport", link_text(s));
	text(c, "memory", s->o.memory == SWEEP_POOL ? "pool" : "own");
	text(c, "pattern", pattern_text(s));
	text(c, "table", s->o.table == SWEEP_RANDOM ? "random" : "adjacent");
	text(c, "post", sweep_how_name(s->o.how));
	number(c, "bidir", s->o.bidir, 0);
	number(c, "ranks", s->job.size, 0);
	number(c, "size", (double)row->shape.size, 0);
	number(c, "batch", (double)row->shape.blocks, 0);
	number(c, "window", (double)s->o.window, 0);
	number(c, "threads", (double)s->o.threads, 0);
	number(c, "runs", (double)s->o.runs, 0);
	number(c, "iters", (double)row->iters, 0);
	number(c, "bytes", (double)row->sum.bytes, 0);
	number(c, "gbps_avg", per((double)row->sum.bytes / 1e9, row->total_s), 4);
	number(c, "gbps_median", sweep_median(&row->gbps), 4);
	number(c, "gbps_best", sweep_best(&row->gbps), 4);
	number(c, "mmsg_s", per((double)row->sum.blocks / 1e6, row->total_s), 5);
	number(c, "p50_us", (double)perf_samples_percentile(v, 0.5) / 1e3, 3);
	number(c, "p99_us", (double)perf_samples_percentile(v, 0.99) / 1e3, 3);
	number(c, "p999_us", (double)perf_samples_percentile(v, 0.999) / 1e3, 3);
	number(c, "max_us", (double)perf_samples_max(v) / 1e3, 3);
	number(c, "post_us", (double)perf_samples_percentile(&row->post, 0.5) / 1e3, 3);
	number(c, "post_avg_us", per((double)row->sum.post_ns / 1e3, (double)row->sum.reqs), 3);
	number(c, "post_ns_per_block", per((double)perf_samples_percentile(&row->post, 0.5), (double)row->shape.blocks),
	       1);
	number(c, "cpu_us_per_block", sweep_median(&row->cpu_us), 4);
	number(c, "cpu_us_per_block_best", sweep_least(&row->cpu_us), 4);
	number(c, "cpu_s_per_gib", per((double)row->sum.cpu_ns / 1e9, gib), 4);
	number(c, "rss_mib", (double)row->rss_kib / 1024, 1);
	number(c, "anon_mib", (double)row->anon_kib / 1024, 1);
	text(c, "verified", row->verified ? "true" : s->o.verify ? "false" : "no");
	number(c, "verified_bytes", (double)row->sum.checked, 0);
	add_refs(c, s, row);
	text(c, "host", s->header.host);
	text(c, "kernel", s->header.kernel);
	text(c, "commit", s->header.commit);
	text(c, "time", s->header.when);
	text(c, "load", s->header.load);
}

static void write_json(FILE *f, const struct cells *c)
{
	struct json_object *o = json_object_new_object();

	for (uint32_t i = 0; o != NULL && i < c->n; i++) {
		const struct cell *e = &c->c[i];
		struct json_object *v = NULL;
		char buf[64];
		snprintf(buf, sizeof(buf), "%.*f", e->digits, e->v);
		if (e->text != NULL && strcmp(e->key, "verified") == 0)
			v = json_object_new_boolean(strcmp(e->text, "true") == 0);
		else if (e->text != NULL)
			v = json_object_new_string(e->text);
		else if (!e->null && e->digits == 0)
			v = json_object_new_int64((int64_t)e->v);
		else if (!e->null)
			v = json_object_new_double_s(e->v, buf);
		json_object_object_add(o, e->key, v);
	}
	if (o != NULL)
		fprintf(f, "%s\n",
			json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	fflush(f);
}

static void write_csv(struct sweep_out *out, const struct cells *c)
{
	for (uint32_t i = 0; i < c->n && !out->csv_begun; i++)
		fprintf(out->csv, "%s%s", i == 0 ? "" : ",", c->c[i].key);
	if (!out->csv_begun)
		fputc('\n', out->csv);
	out->csv_begun = true;
	for (uint32_t i = 0; i < c->n; i++) {
		const struct cell *e = &c->c[i];
		if (i > 0)
			fputc(',', out->csv);
		if (e->text != NULL)
			fprintf(out->csv, strpbrk(e->text, ", ") != NULL ? "\"%s\"" : "%s", e->text);
		else if (!e->null)
			fprintf(out->csv, "%.*f", e->digits, e->v);
	}
	fputc('\n', out->csv);
	fflush(out->csv);
}

static const struct cell *find(const struct cells *c, const char *key)
{
	static const struct cell none = {.null = true};

	for (uint32_t i = 0; i < c->n; i++) {
		if (strcmp(c->c[i].key, key) == 0)
			return &c->c[i];
	}
	return &none;
}

static void print_ref(FILE *f, double v, double measured, double scale, bool time)
{
	if (v > 0 && measured > 0)
		fprintf(f, " %*.2f %6.2f", time ? 10 : 8, v * scale, measured / v);
	else
		fprintf(f, " %*s %6s", time ? 10 : 8, "-", "-");
}

static void print_row(struct sweep_out *out, const struct sweep *s, const struct sweep_row *row, const struct cells *c)
{
	double unit = sweep_unit_scale(s->o.unit), median = find(c, "gbps_median")->v, p50 = find(c, "p50_us")->v;
	const char *ok = row->verified ? "yes" : s->o.verify ? "WRONG" : "no";
	FILE *f = out->table;

	fprintf(f, "%10llu %7llu", (unsigned long long)row->shape.size, (unsigned long long)row->shape.blocks);
	if (s->o.lat) {
		fprintf(f, " %9llu %9.2f %9.2f %9.2f %9.2f %8.2f %8s", (unsigned long long)row->iters, p50,
			find(c, "p99_us")->v, find(c, "p999_us")->v, find(c, "post_us")->v,
			find(c, "cpu_us_per_block")->v, ok);
		if (s->ref_peer != MC_NO_RANK) {
			print_ref(f, sweep_median(&row->ref[REF_TCP_RR]), p50, 1, true);
			print_ref(f, sweep_median(&row->ref[REF_UCX_LAT]), p50, 1, true);
		}
	} else {
		fprintf(f, " %8llu %9.3f %9.3f %8.4f %10.1f %10.1f %10.1f %9.1f %8.2f %9.3f %8s",
			(unsigned long long)row->iters, find(c, "gbps_avg")->v * unit, find(c, "gbps_best")->v * unit,
			find(c, "mmsg_s")->v, p50, find(c, "p99_us")->v, find(c, "p999_us")->v, find(c, "post_us")->v,
			find(c, "cpu_us_per_block")->v, find(c, "cpu_s_per_gib")->v, ok);
		fprintf(f, "  ");
		print_ref(f, sweep_median(&row->bulk), median, unit, false);
		for (int i = REF_MEMCPY; i <= REF_TCP && s->ref_peer != MC_NO_RANK; i++)
			print_ref(f, sweep_median(&row->ref[i]), median, unit, false);
	}
	fprintf(f, "\n");
	fflush(f);
}

static void plot_row(struct sweep_out *out, const struct sweep *s, struct sweep_row *row, const struct cells *c)
{
	static const char *const name[REF_N] = {"memcpy, one thread", "process_vm_writev per block",
						"one raw TCP stream", "raw TCP, half round trip",
						"ucx_perftest put latency"};
	double x = out->x_batch ? (double)row->shape.blocks : (double)row->shape.size;
	double unit = s->o.lat ? 1 : sweep_unit_scale(s->o.unit);
	struct perf_plot *p = &out->plot;

	if (s->o.lat) {
		perf_plot_add(p, "p50", 0, false, x, find(c, "p50_us")->v);
		perf_plot_add(p, "p99", 0, false, x, find(c, "p99_us")->v);
		perf_plot_add(p, "p99.9", 0, false, x, find(c, "p999_us")->v);
	} else {
		perf_plot_add(p, "mc, median", 0, false, x, find(c, "gbps_median")->v * unit);
		perf_plot_add(p, "mc, best run", 0, false, x, find(c, "gbps_best")->v * unit);
		perf_plot_add(p, "mc, same bytes as one block", 0, false, x, sweep_median(&row->bulk) * unit);
		perf_plot_add(p, "CPU of all ranks, per block", 1, false, x, find(c, "cpu_us_per_block")->v);
		perf_plot_add(p, "inside the call, per block", 1, false, x,
			      find(c, "post_us")->v / (double)row->shape.blocks);
		perf_plot_add(p, "request p50, per block", 1, false, x,
			      find(c, "p50_us")->v / (double)row->shape.blocks);
	}
	for (int i = 0; i < REF_N; i++)
		perf_plot_add(p, name[i], 0, true, x, sweep_median(&row->ref[i]) * unit);
}

void sweep_out_row(struct sweep_out *out, struct sweep *s, struct sweep_row *row)
{
	char backend[MC_NAME_MAX];
	struct cells c;

	row_cells(&c, s, row, backend);
	print_row(out, s, row, &c);
	if (out->json != NULL)
		write_json(out->json, &c);
	if (out->csv != NULL)
		write_csv(out, &c);
	plot_row(out, s, row, &c);
}

static bool close_file(FILE *f, const char *path, struct perf_err *err)
{
	bool ok = f == NULL || (fflush(f) == 0 && ferror(f) == 0);

	if (f != NULL && f != stdout)
		ok = fclose(f) == 0 && ok;
	if (!ok)
		perf_err_set(err, "%s: cannot write: %s", path, strerror(errno));
	return ok;
}

bool sweep_out_close(struct sweep_out *out, struct sweep *s, struct perf_err *err)
{
	static const char *const y[] = {"GB/s", "GiB/s", "Gb/s", "MB/s", "MiB/s"};
	struct perf_plot *p = &out->plot;
	char n[32], what[80];

	(void)close_file(out->json, s->o.json, err);
	(void)close_file(out->csv, s->o.csv, err);
	if (s->o.plot != NULL && !s->failed) {
		perf_format_size(s->o.size[0], n, sizeof(n));
		if (out->x_batch)
			snprintf(what, sizeof(what), "blocks of %s", n);
		else
			snprintf(what, sizeof(what), "%llu block%s per request", (unsigned long long)s->o.batch[0],
				 s->o.batch[0] == 1 ? "" : "s");
		snprintf(p->title, sizeof(p->title), "mcperf %s: %s, %s, %s memory, %s, window %llu", s->o.cmd,
			 sweep_op_name(s->o.op), what, s->o.memory == SWEEP_POOL ? "pool" : "own", link_text(s),
			 (unsigned long long)s->o.window);
		snprintf(p->note, sizeof(p->note), "%.40s, %s, commit %.12s, load %.*s", s->header.host,
			 s->header.when, s->header.commit, (int)strcspn(s->header.load, " "), s->header.load);
		p->x_label = out->x_batch ? "blocks per request" : "block size";
		p->x_bytes = !out->x_batch;
		p->y_label[0] = s->o.lat ? "microseconds" : y[s->o.unit];
		p->y_label[1] = "microseconds per block";
		p->y_log[0] = s->o.lat;
		p->y_log[1] = true;
		(void)perf_plot_write(p, s->o.plot, err);
	}
	free(out);
	return !perf_err_is_set(err);
}

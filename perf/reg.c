/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reg.c - mcperf reg: what memory costs before the first byte moves, by size: take it from the runtime or register the
 * own, its pages, its descriptor, the import at a peer, the end. Rank 0 measures; with a second rank, that one imports.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "args.h"
#include "commands.h"
#include "header.h"
#include "hostmem.h"
#include "report.h"
#include "stats.h"

enum { RUNS_MAX = 1000, DESC_MAX = 65536 };
enum { TO_PEER = 40, FROM_PEER = 41 }; /* kinds of notes */
enum { FLAG_BLOB = 1, FLAG_FREED = 2, FLAG_END = 3 };
#define REG_WAIT_NS INT64_C(60000000000)

enum { T_ALLOC, T_TOUCH, T_REGISTER, T_EXPORT, T_IMPORT, T_FREE, T_N };
static const char *const names[T_N] = {"alloc_us", "touch_us", "register_us", "export_us", "import_us", "free_us"};

struct reg_opts {
	uint64_t begin, end, factor, runs;
	bool pool, own, huge, help;
	const char *json;
};

struct reg {
	struct reg_opts o;
	struct perf_job job;
	struct perf_samples t[T_N];
	uint32_t blob_len;
	FILE *json, *table;
	bool failed;
};

static void help(void)
{
	printf("usage: mcrun -n 2 mcperf reg [options]\n"
	       "What memory costs before the first byte moves, by size: median of several runs in microseconds.\n\n"
	       "  -b SIZE -e SIZE -f N  sizes from, to, times N (default 4K..1G, 8)\n"
	       "  --memory pool|own     mc_mem_alloc(), mc_mem_register() (default: both)\n"
	       "  --runs N              default 5; --huge: huge pages\n"
	       "  --json FILE           one line per row; -: to stdout, the table then goes to stderr\n");
}

/* ---- options ------------------------------------------------------------------------------------------------- */

enum { OPT_MEMORY = 256, OPT_RUNS, OPT_HUGE, OPT_JSON, OPT_HELP };

static const struct option options[] = {
	{"begin", required_argument, NULL, 'b'},
	{"end", required_argument, NULL, 'e'},
	{"factor", required_argument, NULL, 'f'},
	{"memory", required_argument, NULL, OPT_MEMORY},
	{"runs", required_argument, NULL, OPT_RUNS},
	{"huge", no_argument, NULL, OPT_HUGE},
	{"json", required_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static bool take(int opt, const char *s, struct reg_opts *o, struct perf_err *err)
{
	uint64_t *v = opt == 'b' ? &o->begin : opt == 'e' ? &o->end : &o->factor;

	switch (opt) {
	case 'b':
	case 'e':
	case 'f':
		(void)perf_args_range(opt, s, UINT64_C(1) << 40, v, err);
		break;
	case OPT_MEMORY:
		o->pool = strcmp(s, "pool") == 0;
		o->own = strcmp(s, "own") == 0;
		if (!o->pool && !o->own)
			perf_err_set(err, "--memory %s: must be one of pool, own", s);
		break;
	case OPT_RUNS:
		if (!perf_parse_u64(s, 1, RUNS_MAX, &o->runs))
			perf_err_set(err, "--runs %s: must be a whole number from 1 to %d", s, RUNS_MAX);
		break;
	case OPT_HUGE:
		o->huge = true;
		break;
	case OPT_JSON:
		o->json = s;
		(void)perf_report_check_path(s, err);
		break;
	default:
		o->help = true;
		break;
	}
	return !perf_err_is_set(err);
}

static bool parse(int argc, char **argv, struct reg_opts *o, struct perf_err *err)
{
	const struct perf_args args = {argc, argv, "reg", ":b:e:f:", options};
	const char *value, *name;
	int opt;

	*o = (struct reg_opts){.begin = 4096, .end = 1 << 30, .factor = 8, .runs = 5, .pool = true, .own = true};
	perf_args_begin();
	while ((opt = perf_args_next(&args, &value, &name, err)) != -1)
		if (!take(opt, value, o, err))
			return false;
	if (perf_args_end(&args, err) && o->begin > o->end)
		perf_err_set(err, "-b is larger than -e");
	return !perf_err_is_set(err);
}

/* ---- the rank that imports ----------------------------------------------------------------------------------- */

static struct mc_note *next_note(struct reg *g, uint32_t peer, int kind)
{
	int64_t give_up = perf_now_ns() + REG_WAIT_NS;

	while (perf_now_ns() < give_up && !g->job.dead[peer]) {
		struct mc_note *note = perf_job_note(&g->job, 20000000);
		perf_job_faults(&g->job);
		if (note != NULL && note->peer == peer && (int)perf_tag_kind(note->tag) == kind)
			return note;
		mc_note_free(note);
	}
	return NULL;
}

static bool serve(struct reg *g)
{
	struct mc_rmem *rmem = NULL;

	for (;;) {
		struct mc_note *note = next_note(g, 0, TO_PEER);
		uint64_t what = note != NULL ? perf_tag_number(note->tag) : FLAG_END;
		bool ok = note != NULL;
		uint8_t buf[8];
		struct perf_wr w;
		int64_t start = perf_now_ns();
		mc_rmem_release(rmem);
		rmem = NULL;
		if (what == FLAG_BLOB) {
			mc_status_t st = mc_mem_import(g->job.ctx, 0, note->data, note->len, &rmem);
			if (st != MC_OK)
				perf_job_say(&g->job, "rank %u cannot import: %s", g->job.rank, mc_status_text(st));
			perf_wr_init(&w, buf, sizeof(buf));
			perf_wr_u64(&w, st == MC_OK ? (uint64_t)(perf_now_ns() - start) : 0);
			(void)perf_job_send(&g->job, 0, perf_tag((enum perf_kind)FROM_PEER, 0), buf, sizeof(buf));
		}
		mc_note_free(note);
		if (what == FLAG_END)
			return ok;
	}
}

/* ---- rank 0 -------------------------------------------------------------------------------------------------- */

static void add(struct reg *g, int what, int64_t since)
{
	(void)perf_samples_add(&g->t[what], (uint64_t)(perf_now_ns() - since));
}

static void touch(uint8_t *base, uint64_t len)
{
	for (uint64_t at = 0; at < len; at += 4096)
		*(volatile uint8_t *)(base + at) = 1;
}

/* The descriptor, and the import at the other rank. */
static mc_status_t hand_over(struct reg *g, struct mc_mem *mem, uint8_t *blob)
{
	uint32_t len = DESC_MAX;
	int64_t start = perf_now_ns();
	mc_status_t st = mc_mem_export(mem, blob, &len);
	struct mc_note *note;
	struct perf_rd r;
	uint64_t ns = 0;

	add(g, T_EXPORT, start);
	if (st != MC_OK || g->job.size < 2)
		return st;
	g->blob_len = len;
	if (!perf_job_send(&g->job, 1, perf_tag((enum perf_kind)TO_PEER, FLAG_BLOB), blob, len))
		return MC_ERR_PEER_DOWN;
	note = next_note(g, 1, FROM_PEER);
	if (note != NULL) {
		perf_rd_init(&r, note->data, note->len);
		ns = perf_rd_u64(&r);
	}
	mc_note_free(note);
	if (ns == 0)
		return MC_ERR_PEER_DOWN;
	(void)perf_samples_add(&g->t[T_IMPORT], ns);
	(void)perf_job_send(&g->job, 1, perf_tag((enum perf_kind)TO_PEER, FLAG_FREED), NULL, 0);
	return MC_OK;
}

static mc_status_t once(struct reg *g, uint64_t len, bool own, uint8_t *blob)
{
	struct mc_mem_params p = {.size = sizeof(p), .flags = g->o.huge ? MC_MEM_HUGE : 0, .numa_node = -1};
	struct mc_region reg = {.size = sizeof(reg), .kind = MC_KIND_HOST, .len = len, .device = -1, .fd = -1};
	int64_t start = perf_now_ns();
	struct mc_mem *mem = NULL;
	mc_status_t st;

	if (own) {
		reg.addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (reg.addr == MAP_FAILED)
			return MC_ERR_NOMEM;
		touch(reg.addr, len);
		add(g, T_TOUCH, start);
		start = perf_now_ns();
		st = mc_mem_register(g->job.ctx, &reg, &mem);
		add(g, T_REGISTER, start);
	} else {
		st = mc_mem_alloc(g->job.ctx, len, &p, &mem);
		add(g, T_ALLOC, start);
		start = perf_now_ns();
		if (st == MC_OK)
			touch(mc_mem_addr(mem), len);
		add(g, T_TOUCH, start);
	}
	if (st == MC_OK)
		st = hand_over(g, mem, blob);
	start = perf_now_ns();
	if (mem != NULL && mc_mem_free(mem) != MC_OK && st == MC_OK)
		st = MC_ERR_BUSY;
	add(g, T_FREE, start);
	if (own)
		munmap(reg.addr, len);
	return st;
}

static void print(struct reg *g, uint64_t len, bool own)
{
	double gib = (double)len / 1073741824.0, us[T_N], sum;
	char size[32];

	for (int i = 0; i < T_N; i++)
		us[i] = (double)perf_samples_percentile(&g->t[i], 0.5) / 1e3;
	sum = own ? us[T_REGISTER] : us[T_ALLOC];
	fprintf(g->table, "%10s %6s %10.1f %12.1f %11.1f %9.1f %9.1f %9.1f %12.3f %6u\n",
		perf_format_size(len, size, sizeof(size)), own ? "own" : "pool", us[T_ALLOC], us[T_TOUCH],
		us[T_REGISTER], us[T_EXPORT], us[T_IMPORT], us[T_FREE], sum / 1e3 / gib, g->blob_len);
	fflush(g->table);
	if (g->json == NULL)
		return;
	fprintf(g->json, "{\"cmd\":\"reg\",\"size\":%" PRIu64 ",\"memory\":\"%s\",\"runs\":%" PRIu64, len,
		own ? "own" : "pool", g->o.runs);
	for (int i = 0; i < T_N; i++)
		fprintf(g->json, ",\"%s\":%.3f", names[i], us[i]);
	fprintf(g->json, ",\"ms_per_gib\":%.4f,\"descriptor_bytes\":%u}\n", sum / 1e3 / gib, g->blob_len);
	fflush(g->json);
}

static void sweep(struct reg *g)
{
	uint8_t *blob = malloc(DESC_MAX);
	uint64_t room = perf_hostmem_available() / 10 * 9;

	for (uint64_t len = g->o.begin; len <= g->o.end && blob != NULL; len *= g->o.factor) {
		for (int own = 0; own < 2 && !g->failed; own++) {
			mc_status_t st = MC_OK;
			if (own == 0 ? !g->o.pool : !g->o.own)
				continue;
			if (len > room) {
				perf_job_say(&g->job, "%" PRIu64 " bytes are more than this host has left", len);
				g->failed = true;
				break;
			}
			/* the first one is for warming up */
			for (uint64_t i = 0; i <= g->o.runs && st == MC_OK; i++) {
				st = once(g, len, own == 1, blob);
				for (int k = 0; k < T_N && i == 0; k++)
					perf_samples_free(&g->t[k]);
			}
			if (st != MC_OK) {
				perf_job_say(&g->job, "%" PRIu64 " bytes: %s", len, mc_status_text(st));
				g->failed = true;
				break;
			}
			print(g, len, own == 1);
			for (int k = 0; k < T_N; k++)
				perf_samples_free(&g->t[k]);
		}
		if (g->failed || len > g->o.end / g->o.factor)
			break;
	}
	free(blob);
}

static void lead(struct reg *g)
{
	struct perf_header h;

	g->table = g->o.json != NULL && strcmp(g->o.json, "-") == 0 ? stderr : stdout;
	if (g->o.json != NULL)
		g->json = g->table == stderr ? stdout : fopen(g->o.json, "we");
	if (g->o.json != NULL && g->json == NULL) {
		perf_job_say(&g->job, "%s: cannot write", g->o.json);
		g->failed = true;
		return;
	}
	perf_header_collect(&h);
	perf_header_print(&h, g->table, "reg");
	fprintf(g->table,
		"# median of %" PRIu64 " runs, us; import at rank 1; touch: first write to every page; ms/GiB: "
		"alloc or register\n",
		g->o.runs);
	fprintf(g->table, "%10s %6s %10s %12s %11s %9s %9s %9s %12s %6s\n", "size", "memory", "alloc us", "touch us",
		"register us", "export us", "import us", "free us", "ms/GiB", "bytes");
	sweep(g);
	if (g->json != NULL && g->json != stdout && fclose(g->json) != 0)
		g->failed = true;
}

int reg_main(int argc, char **argv)
{
	struct perf_err err = {""};
	struct reg g = {.failed = false};
	struct perf_vote v = {.digest = 0};
	uint32_t flags;
	mc_status_t st;

	if (parse(argc, argv, &g.o, &err) && g.o.help) {
		help();
		return 0;
	}
	st = perf_job_open(&g.job, "reg", NULL);
	if (st != MC_OK) {
		if (perf_err_is_set(&err))
			perf_job_say(&g.job, "%s", err.text);
		return perf_err_is_set(&err) || st == MC_ERR_CONFIG ? 2 : 1;
	}
	v.err = err;
	if (!perf_job_agree(&g.job, 1, &v, NULL, NULL, REG_WAIT_NS, &flags)) {
		perf_job_close(&g.job);
		return 2;
	}
	if (g.job.rank == 0) {
		lead(&g);
		if (g.job.size > 1)
			(void)perf_job_send(&g.job, 1, perf_tag((enum perf_kind)TO_PEER, FLAG_END), NULL, 0);
	} else if (g.job.rank == 1) {
		g.failed = !serve(&g);
	}
	if (mc_barrier(mc_group_world(g.job.ctx), MC_FOREVER) != MC_OK)
		g.failed = true;
	perf_job_close(&g.job);
	return g.failed ? 1 : 0;
}

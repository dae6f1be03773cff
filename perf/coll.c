/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll.c - mcperf coll: time of a collective over sizes. Each iteration is a barrier, then the collective, timed on
 * each rank from its call to its return; the figures are each rank's mean over the iterations, then least, mean and
 * most over ranks.
 *
 * algbw: bytes of one rank's buffer (bcast: the message; alltoall, allgather, gather, scatter: all blocks) by the
 * slowest rank's time. busbw: algbw times the share of those bytes that must cross to another rank, (n-1)/n (bcast: 1),
 * so that figures of different group sizes can be compared with the speed of a link.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "args.h"
#include "commands.h"
#include "mc.h"
#include "report.h"

struct coll_opts {
	enum mc_coll_op op;
	uint64_t begin, end, factor, iters;
	bool verify, table, help;
	const char *json;
};

struct coll_run {
	struct coll_opts o;
	struct mc_ctx *ctx;
	struct mc_group *g;
	uint32_t rank, n;
	struct mc_mem *src, *dst, *times; /* times: own, then everyone's */
	FILE *json;
	bool first;
};

struct coll_point {
	uint64_t len, iters, wrong;
	double min_us, avg_us, max_us;
};

static const char *const ops[MC_COLL_OPS + 1] = {"barrier", "bcast", "scatter", "gather", "allgather", "alltoall"};

static void usage(void)
{
	printf("usage: mcrun -n N mcperf coll [--op NAME] [-b BYTES] [-e BYTES] [-f FACTOR] [--iters N] [--verify] "
	       "[--json FILE]\n"
	       "       mcperf coll --table\n\n"
	       "  --op NAME     barrier, bcast, scatter, gather, allgather (default) or alltoall\n"
	       "  -b, -e, -f    bytes of one rank's block (bcast: of the message): first, last, factor; default 8, "
	       "16M, 2\n"
	       "  --iters N     per size; default: fewer for longer ones\n"
	       "  --verify      check every byte of one more run per size\n"
	       "  --json FILE   the same as a JSON array (-: to stdout, the table then to stderr)\n"
	       "  --table       print the table by which algorithms are chosen\n");
}

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int print_table(void)
{
	struct mc_coll_rule r = {.size = sizeof(r)};
	char ranks[16], bytes[32];
	printf("%-10s %-14s %-8s %-12s %s\n", "collective", "where", "ranks <=", "block <=", "algorithm");
	for (uint32_t i = 0; mc_coll_rule_get(i, &r) == MC_OK; i++) {
		snprintf(ranks, sizeof(ranks), r.max_ranks == UINT32_MAX ? "any" : "%" PRIu32, r.max_ranks);
		if (r.max_bytes == UINT64_MAX)
			snprintf(bytes, sizeof(bytes), "any");
		else
			perf_format_size(r.max_bytes, bytes, sizeof(bytes));
		printf("%-10s %-14s %-8s %-12s %s\n", r.name, r.where, ranks, bytes, r.algorithm);
	}
	return 0;
}

enum { OPT_OP = 256, OPT_ITERS, OPT_VERIFY, OPT_JSON, OPT_TABLE };

static bool take(int opt, const char *name, const char *s, struct coll_opts *o, struct perf_err *err)
{
	uint64_t *v = opt == 'b' ? &o->begin : opt == 'e' ? &o->end : &o->factor;
	const struct perf_number iters = {OPT_ITERS, 1, 100000000, &o->iters};
	int i = 0;

	switch (opt) {
	case 'b':
	case 'e':
	case 'f':
		return perf_args_range(opt, s, UINT64_C(1) << 40, v, err);
	case OPT_OP:
		if (!perf_args_choose(name, s, ops, &i, err))
			return false;
		o->op = (enum mc_coll_op)i;
		return true;
	case OPT_JSON:
		o->json = s;
		return perf_report_check_path(s, err);
	case OPT_VERIFY:
		o->verify = true;
		return true;
	case OPT_TABLE:
		o->table = true;
		return true;
	case 'h':
		o->help = true;
		return true;
	default:
		return perf_args_number(&iters, 1, opt, name, s, err);
	}
}

static bool parse(struct coll_opts *o, int argc, char **argv, struct perf_err *err)
{
	static const struct option options[] = {{"op", required_argument, NULL, OPT_OP},
						{"begin", required_argument, NULL, 'b'},
						{"end", required_argument, NULL, 'e'},
						{"factor", required_argument, NULL, 'f'},
						{"iters", required_argument, NULL, OPT_ITERS},
						{"verify", no_argument, NULL, OPT_VERIFY},
						{"json", required_argument, NULL, OPT_JSON},
						{"table", no_argument, NULL, OPT_TABLE},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	const struct perf_args args = {argc, argv, "coll", ":b:e:f:h", options};
	const char *value, *name;
	int opt;

	*o = (struct coll_opts){.op = MC_COLL_ALLGATHER, .begin = 8, .end = 16 << 20, .factor = 2};
	perf_args_begin();
	while ((opt = perf_args_next(&args, &value, &name, err)) != -1)
		if (!take(opt, name, value, o, err))
			return false;
	if (perf_args_end(&args, err) && o->begin > o->end)
		perf_err_set(err, "-b is larger than -e");
	return !perf_err_is_set(err);
}

static uint64_t blocks(const struct coll_run *r)
{
	return r->o.op == MC_COLL_BCAST ? 1 : r->n;
}

static mc_status_t run_op(struct coll_run *r, uint64_t len)
{
	struct mc_buf s = {r->src, 0}, d = {r->dst, 0};
	switch (r->o.op) {
	case MC_COLL_BCAST:
		return mc_bcast(r->g, 0, r->rank == 0 ? s : d, len, NULL);
	case MC_COLL_SCATTER:
		return mc_scatter(r->g, 0, s, d, len, NULL);
	case MC_COLL_GATHER:
		return mc_gather(r->g, 0, s, d, len, NULL);
	case MC_COLL_ALLGATHER:
		return mc_allgather(r->g, s, d, len, NULL);
	case MC_COLL_ALLTOALL:
		return mc_alltoall(r->g, s, d, len, NULL);
	default:
		return mc_barrier(r->g, MC_FOREVER);
	}
}

static uint8_t byte_of(uint64_t from, uint64_t i)
{
	return (uint8_t)((i * 0x9e3779b1u + from * 0x85ebca6bu + 7) >> 5);
}

/* What rank r->rank must find: block b of it came from rank `from`, as that one's block `of`. */
static uint64_t verify(struct coll_run *r, uint64_t len)
{
	const uint8_t *d = mc_mem_addr(r->dst);
	bool root_only = r->o.op == MC_COLL_GATHER && r->rank != 0,
	     root_sent = r->o.op == MC_COLL_BCAST && r->rank == 0;
	uint64_t n = r->o.op == MC_COLL_SCATTER || r->o.op == MC_COLL_BCAST ? 1 : r->n, wrong = 0;
	for (uint64_t b = 0; b < n && !root_only && !root_sent && r->o.op != MC_COLL_BARRIER; b++) {
		uint64_t of = r->o.op == MC_COLL_ALLTOALL || r->o.op == MC_COLL_SCATTER ? r->rank : 0;
		for (uint64_t i = 0; i < len; i++)
			wrong += d[b * len + i] != byte_of(b, of * len + i);
	}
	return wrong;
}

static uint64_t iterations(const struct coll_run *r, uint64_t len)
{
	uint64_t bytes = len * blocks(r) * r->n;
	if (r->o.iters > 0)
		return r->o.iters;
	return bytes > (64 << 20) ? 10 : bytes > (4 << 20) ? 40 : bytes > (256 << 10) ? 300 : 3000;
}

static mc_status_t timed(struct coll_run *r, uint64_t len, uint64_t iters, double *us)
{
	int64_t sum = 0;
	mc_status_t s = MC_OK;
	for (uint64_t i = 0; i < iters && s == MC_OK; i++) {
		s = mc_barrier(r->g, MC_FOREVER);
		int64_t start = now_ns();
		if (s == MC_OK)
			s = run_op(r, len);
		sum += now_ns() - start;
	}
	*us = (double)sum / 1000.0 / (double)iters;
	return s;
}

/* Every rank's time and count of wrong bytes to all. */
static mc_status_t share(struct coll_run *r, double us, struct coll_point *p)
{
	double *own = mc_mem_addr(r->times), *all = own + 2;
	own[0] = us;
	own[1] = (double)p->wrong;
	mc_status_t s = mc_allgather(r->g, (struct mc_buf){r->times, 0}, (struct mc_buf){r->times, 2 * sizeof(*own)},
				     2 * sizeof(*own), NULL);
	double sum = 0;
	p->min_us = p->max_us = all[0];
	p->wrong = 0;
	for (uint32_t i = 0; i < r->n; i++) {
		sum += all[2 * i];
		p->min_us = all[2 * i] < p->min_us ? all[2 * i] : p->min_us;
		p->max_us = all[2 * i] > p->max_us ? all[2 * i] : p->max_us;
		p->wrong += (uint64_t)all[2 * i + 1];
	}
	p->avg_us = sum / r->n;
	return s;
}

static mc_status_t measure(struct coll_run *r, uint64_t len, struct coll_point *p)
{
	double us = 0;
	*p = (struct coll_point){.len = len, .iters = iterations(r, len)};
	uint8_t *s = mc_mem_addr(r->src);
	for (uint64_t i = 0; i < len * blocks(r); i++)
		s[i] = byte_of(r->rank, i);
	memset(mc_mem_addr(r->dst), 0x55, len * blocks(r));
	mc_status_t st = timed(r, len, p->iters / 10 + 2, &us);
	if (st == MC_OK)
		st = timed(r, len, p->iters, &us);
	if (r->o.verify)
		p->wrong = verify(r, len);
	return st == MC_OK ? share(r, us, p) : st;
}

static void print(struct coll_run *r, const struct coll_point *p)
{
	double bytes = (double)(p->len * blocks(r)), alg = p->max_us > 0 ? bytes / p->max_us / 1000.0 : 0;
	double bus = r->o.op == MC_COLL_BCAST ? alg : alg * (double)(r->n - 1) / (double)r->n;
	const char *algo = mc_coll_algorithm(r->g, r->o.op, p->len);
	const char *ok = !r->o.verify ? "-" : p->wrong == 0 ? "yes" : "NO";
	FILE *to = r->json == stdout ? stderr : stdout;
	if (r->rank != 0)
		return;
	fprintf(to, "%12" PRIu64 " %8" PRIu64 " %12.2f %12.2f %12.2f %10.3f %10.3f  %-14s %s\n", p->len, p->iters,
		p->min_us, p->avg_us, p->max_us, alg, bus, algo, ok);
	fflush(to);
	if (r->json == NULL)
		return;
	fprintf(r->json,
		"%s{\"op\": \"%s\", \"ranks\": %" PRIu32 ", \"bytes\": %" PRIu64 ", \"iters\": %" PRIu64
		", \"min_us\": %.3f, \"avg_us\": %.3f, \"max_us\": %.3f, \"algbw_gbs\": %.4f, \"busbw_gbs\": %.4f, "
		"\"algorithm\": \"%s\", \"wrong_bytes\": %s%" PRIu64 "}",
		r->first ? "[\n" : ",\n", ops[r->o.op], r->n, p->len, p->iters, p->min_us, p->avg_us, p->max_us, alg,
		bus, algo, r->o.verify ? "" : "null, \"unchecked\": ", p->wrong);
	r->first = false;
}

static mc_status_t sweep(struct coll_run *r, bool *wrong)
{
	mc_status_t s = MC_OK;
	struct coll_point p;
	uint64_t last = r->o.op == MC_COLL_BARRIER ? r->o.begin : r->o.end;
	if (r->rank == 0)
		fprintf(r->json == stdout ? stderr : stdout,
			"# %s, %" PRIu32 " ranks\n%12s %8s %12s %12s %12s %10s %10s  %-14s %s\n", ops[r->o.op], r->n,
			"bytes", "iters", "min us", "avg us", "max us", "algbw GB/s", "busbw GB/s", "algorithm",
			"verified");
	for (uint64_t len = r->o.begin; len <= last && s == MC_OK; len = len > 0 ? len * r->o.factor : 1) {
		s = measure(r, r->o.op == MC_COLL_BARRIER ? 0 : len, &p);
		if (s == MC_OK)
			print(r, &p);
		*wrong = *wrong || (s == MC_OK && p.wrong > 0);
		if (r->o.op == MC_COLL_BARRIER)
			break;
	}
	if (r->json != NULL)
		fprintf(r->json, "%s\n]\n", r->first ? "[" : "");
	return s;
}

static mc_status_t set_up(struct coll_run *r)
{
	mc_status_t s = mc_init(NULL, &r->ctx);
	if (s != MC_OK)
		return s;
	r->g = mc_group_world(r->ctx);
	r->rank = mc_rank(r->ctx);
	r->n = mc_size(r->ctx);
	r->first = true;
	uint64_t room = (r->o.end > 0 ? r->o.end : 1) * blocks(r);
	s = mc_mem_alloc(r->ctx, room, NULL, &r->src);
	if (s == MC_OK)
		s = mc_mem_alloc(r->ctx, room, NULL, &r->dst);
	if (s == MC_OK)
		s = mc_mem_alloc(r->ctx, (r->n + 1) * 2 * sizeof(double), NULL, &r->times);
	if (s == MC_OK && r->rank == 0 && r->o.json != NULL) {
		r->json = strcmp(r->o.json, "-") == 0 ? stdout : fopen(r->o.json, "w");
		if (r->json == NULL) {
			fprintf(stderr, "mcperf coll: cannot write %s\n", r->o.json);
			s = MC_ERR_INVAL;
		}
	}
	return s;
}

int coll_main(int argc, char **argv)
{
	struct coll_run r = {.ctx = NULL};
	bool wrong = false;
	struct perf_err err = {""};
	if (!parse(&r.o, argc, argv, &err)) {
		fprintf(stderr, "mcperf coll: %s\n", err.text);
		return 2;
	}
	if (r.o.help) {
		usage();
		return 0;
	}
	if (r.o.table)
		return print_table();
	mc_status_t s = set_up(&r);
	if (s == MC_OK)
		s = sweep(&r, &wrong);
	if (s == MC_OK)
		s = mc_barrier(r.g, MC_FOREVER);
	if (r.json != NULL && r.json != stdout && fclose(r.json) != 0)
		wrong = true;
	if (s != MC_OK)
		fprintf(stderr, "mcperf coll: rank %" PRIu32 ": %s (%s)\n", r.rank, mc_status_text(s),
			mc_status_name(s));
	mc_finalize(r.ctx);
	return s != MC_OK || wrong ? 1 : 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>

#include "args.h"
#include "plot.h"
#include "report.h"
#include "sweep.h"

enum {
	OPT_BATCH = 256,
	OPT_WINDOW,
	OPT_THREADS,
	OPT_ITERS,
	OPT_DURATION,
	OPT_RUNS,
	OPT_WARMUP,
	OPT_OP,
	OPT_PATTERN,
	OPT_MATRIX,
	OPT_TABLE,
	OPT_MEMORY,
	OPT_POST,
	OPT_POOL,
	OPT_SEED,
	OPT_UNITS,
	OPT_BIDIR,
	OPT_VERIFY,
	OPT_NO_VERIFY,
	OPT_REFERENCE,
	OPT_NO_BULK,
	OPT_HUGE,
	OPT_POLL,
	OPT_JSON,
	OPT_CSV,
	OPT_PLOT,
	OPT_TRANSPORT,
	OPT_BACKEND,
	OPT_PROGRESS,
	OPT_CORRUPT_ONE,
	OPT_HELP,
};

static const struct option options[] = {
	{"begin", required_argument, NULL, 'b'},
	{"end", required_argument, NULL, 'e'},
	{"factor", required_argument, NULL, 'f'},
	{"all", no_argument, NULL, 'a'},
	{"sizes", required_argument, NULL, 's'},
	{"batch", required_argument, NULL, OPT_BATCH},
	{"window", required_argument, NULL, OPT_WINDOW},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"iters", required_argument, NULL, OPT_ITERS},
	{"duration", required_argument, NULL, OPT_DURATION},
	{"runs", required_argument, NULL, OPT_RUNS},
	{"warmup", required_argument, NULL, OPT_WARMUP},
	{"op", required_argument, NULL, OPT_OP},
	{"pattern", required_argument, NULL, OPT_PATTERN},
	{"matrix", required_argument, NULL, OPT_MATRIX},
	{"table", required_argument, NULL, OPT_TABLE},
	{"memory", required_argument, NULL, OPT_MEMORY},
	{"post", required_argument, NULL, OPT_POST},
	{"pool", required_argument, NULL, OPT_POOL},
	{"seed", required_argument, NULL, OPT_SEED},
	{"units", required_argument, NULL, OPT_UNITS},
	{"bidir", no_argument, NULL, OPT_BIDIR},
	{"verify", no_argument, NULL, OPT_VERIFY},
	{"no-verify", no_argument, NULL, OPT_NO_VERIFY},
	{"reference", no_argument, NULL, OPT_REFERENCE},
	{"no-bulk", no_argument, NULL, OPT_NO_BULK},
	{"huge", no_argument, NULL, OPT_HUGE},
	{"poll", no_argument, NULL, OPT_POLL},
	{"json", required_argument, NULL, OPT_JSON},
	{"csv", required_argument, NULL, OPT_CSV},
	{"plot", required_argument, NULL, OPT_PLOT},
	{"transport", required_argument, NULL, OPT_TRANSPORT},
	{"backend", required_argument, NULL, OPT_BACKEND},
	{"progress", required_argument, NULL, OPT_PROGRESS},
	{"corrupt-one", no_argument, NULL, OPT_CORRUPT_ONE},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static const char *const op_names[] = {"put", "get", "put+note", NULL};
static const char *const pattern_names[] = {"pair", "many-to-one", "one-to-many", "matrix", NULL};
static const char *const table_names[] = {"random", "adjacent", NULL};
static const char *const memory_names[] = {"pool", "own", NULL};
static const char *const how_names[] = {"put", "list", "some", NULL};
static const char *const unit_names[] = {"GB/s", "GiB/s", "Gb/s", "MB/s", "MiB/s", NULL};
static const double unit_scales[] = {1.0, 1e9 / 1073741824.0, 8.0, 1e3, 1e9 / 1048576.0};

const char *sweep_op_name(enum sweep_op op)
{
	return op_names[op];
}

const char *sweep_how_name(enum sweep_how how)
{
	return how_names[how];
}

const char *sweep_unit_name(int unit)
{
	return unit_names[unit];
}

double sweep_unit_scale(int unit)
{
	return unit_scales[unit];
}

void sweep_help(bool lat)
{
	printf("usage: mcrun -n N mcperf %s [options]        (or mcrun --prefill P --decode D ...)\n%s\n",
	       lat ? "lat" : "bw",
	       lat ? "How long until a block is at the target: to and fro, half of the round trip.\n"
		   : "How fast requests of many blocks go from rank to rank, and what CPU they take.\n");
	printf("  -b SIZE -e SIZE -f N    block sizes from, to, times N (default %s)\n"
	       "  -a                      all powers of two from 8 to 4M; -s LIST: these, e.g. 4K,64K,1M\n"
	       "  --batch LIST            blocks per request (default %s), e.g. 1,1024\n"
	       "  --op OP                 put, get or put+note (default %s)\n"
	       "  --pattern P             pair (default), many-to-one, one-to-many, matrix\n"
	       "  --matrix FILE           bytes per request of each rank (row) to each rank (column)\n"
	       "  --table T               blocks at random places (default), or adjacent\n"
	       "  --memory M              pool: from mc_mem_alloc() (default); own: mc_mem_register()\n"
	       "  --post H                put (default), list: prepared ones, some: by number from one list\n"
	       "  --window N              requests under way per lane (default %d); --threads N: that post (default "
	       "1)\n"
	       "  --duration SEC          of a run (default 200ms), or --iters N requests; --runs N (default 5)\n"
	       "  --warmup N              requests before the first run; --bidir: both directions at once\n",
	       lat ? "8..64K, 4" : "4K..4M, 4", lat ? "1" : "64", lat ? "put+note" : "put", lat ? 1 : 2);
	printf("  --no-verify             do not compare the bytes after the last run of each row\n"
	       "  --reference             measure the machine's own limits in turn with mc\n"
	       "  --no-bulk               leave out the same bytes as one block\n"
	       "  --pool SIZE             memory per lane and side (default 256M); --huge: huge pages\n"
	       "  --poll                  waiting ranks poll; --progress thread|manual (MC_PROGRESS)\n"
	       "  --transport T           auto, shm, tcp, rdma; --backend B (MC_BACKEND)\n"
	       "  --units U               GB/s (default), GiB/s, Gb/s, MB/s, MiB/s: of the table\n"
	       "  --json FILE, --csv FILE one line per row; -: to stdout, the table then goes to stderr\n"
	       "  --plot FILE.png         a picture (needs gnuplot); --seed N\n");
}

static bool parse_list(const char *name, const char *s, uint64_t max, uint64_t *v, uint32_t *n, struct perf_err *err)
{
	*n = 0;
	for (;;) {
		size_t len = strcspn(s, ",");
		char word[32];
		if (*n == SWEEP_SIZES) {
			perf_err_set(err, "--%s: more than %d values", name, SWEEP_SIZES);
			return false;
		}
		snprintf(word, sizeof(word), "%.*s", (int)(len < sizeof(word) ? len : sizeof(word) - 1), s);
		if (len >= sizeof(word) || !perf_parse_size(word, &v[*n]) || v[*n] == 0 || v[*n] > max) {
			perf_err_set(err, "--%s: \"%s\" is not a number from 1 to %llu", name, word,
				     (unsigned long long)max);
			return false;
		}
		(*n)++;
		if (s[len] == '\0')
			return true;
		s += len + 1;
	}
}

static bool parse_number(int opt, const char *name, const char *s, struct sweep_opts *o, struct perf_err *err)
{
	const struct perf_number table[] = {
		{OPT_WINDOW, 1, SWEEP_WINDOW, &o->window}, {OPT_THREADS, 1, SWEEP_THREADS, &o->threads},
		{OPT_ITERS, 1, UINT32_MAX, &o->iters},     {OPT_RUNS, 1, SWEEP_RUNS, &o->runs},
		{OPT_WARMUP, 0, UINT32_MAX, &o->warmup},   {OPT_SEED, 0, UINT64_MAX, &o->seed},
	};

	return perf_args_number(table, sizeof(table) / sizeof(table[0]), opt, name, s, err);
}

static bool parse_choice(int opt, const char *name, const char *s, struct sweep_opts *o, struct perf_err *err)
{
	int i = 0;

	switch (opt) {
	case OPT_OP:
		if (!perf_args_choose(name, s, op_names, &i, err))
			return false;
		o->op = (enum sweep_op)i;
		return true;
	case OPT_PATTERN:
		if (!perf_args_choose(name, s, pattern_names, &i, err))
			return false;
		o->pattern = (enum sweep_pattern)i;
		return true;
	case OPT_TABLE:
		if (!perf_args_choose(name, s, table_names, &i, err))
			return false;
		o->table = (enum sweep_table)i;
		return true;
	case OPT_MEMORY:
		if (!perf_args_choose(name, s, memory_names, &i, err))
			return false;
		o->memory = (enum sweep_memory)i;
		return true;
	case OPT_POST:
		if (!perf_args_choose(name, s, how_names, &i, err))
			return false;
		o->how = (enum sweep_how)i;
		return true;
	case OPT_UNITS:
		return perf_args_choose(name, s, unit_names, &o->unit, err);
	default:
		return parse_number(opt, name, s, o, err);
	}
}

static bool parse_text(int opt, const char *name, const char *s, struct sweep_opts *o, struct perf_err *err)
{
	switch (opt) {
	case OPT_MATRIX:
		o->matrix = s;
		o->pattern = SWEEP_MATRIX;
		return true;
	case OPT_DURATION:
		return perf_args_seconds(name, s, &o->duration_ns, err);
	case OPT_POOL:
		if (!perf_parse_size(s, &o->pool) || o->pool < 4096 || o->pool > UINT64_C(1) << 40)
			perf_err_set(err, "--pool %s: must be a size such as 512M or 4G", s);
		return !perf_err_is_set(err);
	case OPT_JSON:
		o->json = s;
		return perf_report_check_path(s, err);
	case OPT_CSV:
		o->csv = s;
		return perf_report_check_path(s, err);
	case OPT_PLOT:
		o->plot = s;
		return true;
	case OPT_TRANSPORT:
		return perf_args_setting("MC_TRANSPORT", s, &o->transport, err);
	case OPT_BACKEND:
		return perf_args_setting("MC_BACKEND", s, &o->backend, err);
	case OPT_PROGRESS:
		return perf_args_setting("MC_PROGRESS", s, &o->progress, err);
	default:
		return parse_choice(opt, name, s, o, err);
	}
}

static void take_flag(int opt, struct sweep_opts *o)
{
	o->bidir |= opt == OPT_BIDIR;
	o->verify = (o->verify || opt == OPT_VERIFY) && opt != OPT_NO_VERIFY;
	o->reference |= opt == OPT_REFERENCE;
	o->bulk &= opt != OPT_NO_BULK;
	o->huge |= opt == OPT_HUGE;
	o->poll |= opt == OPT_POLL;
	o->corrupt_one |= opt == OPT_CORRUPT_ONE;
	o->help |= opt == OPT_HELP;
}

/* -b -e -f and -a give a range, -s a list. */
struct range {
	uint64_t begin, end, factor;
	bool given;
};

static bool take(int opt, const char *name, const char *s, struct sweep_opts *o, struct range *r, struct perf_err *err)
{
	uint64_t *v = opt == 'b' ? &r->begin : opt == 'e' ? &r->end : &r->factor;
	uint64_t max = UINT64_C(1) << 36;

	switch (opt) {
	case 'b':
	case 'e':
	case 'f':
		r->given = true;
		return perf_args_range(opt, s, max, v, err);
	case 'a':
		*r = (struct range){.begin = 8, .end = 4 << 20, .factor = 2, .given = true};
		return true;
	case 's':
		return parse_list("sizes", s, max, o->size, &o->size_n, err);
	case OPT_BATCH:
		return parse_list("batch", s, 1 << 20, o->batch, &o->batch_n, err);
	default:
		if (s != NULL)
			return parse_text(opt, name, s, o, err);
		take_flag(opt, o);
		return true;
	}
}

static void finish(struct sweep_opts *o, const struct range *r, struct perf_err *err)
{
	bool listed = o->size_n > 0;

	if (listed && r->given)
		perf_err_set(err, "-s and a range (-b, -e, -f, -a) exclude each other");
	if (r->begin > r->end)
		perf_err_set(err, "-b %llu is larger than -e %llu", (unsigned long long)r->begin,
			     (unsigned long long)r->end);
	for (uint64_t v = r->begin; !listed && v <= r->end && o->size_n < SWEEP_SIZES; v *= r->factor) {
		o->size[o->size_n++] = v;
		if (v > r->end / r->factor)
			break;
	}
	if (o->batch_n == 0)
		o->batch[o->batch_n++] = o->lat ? 1 : 64;
	if (o->pattern == SWEEP_MATRIX && o->matrix == NULL)
		perf_err_set(err, "--pattern matrix needs --matrix FILE");
	if (o->pattern != SWEEP_MATRIX && o->matrix != NULL)
		perf_err_set(err, "--matrix %s and another --pattern exclude each other", o->matrix);
	if (o->lat && (o->window != 1 || o->threads != 1 || o->bidir))
		perf_err_set(err, "lat has one request under way: --window, --threads and --bidir are for mcperf bw");
	if (o->json != NULL && o->csv != NULL && strcmp(o->json, "-") == 0 && strcmp(o->csv, "-") == 0)
		perf_err_set(err, "--json - and --csv - exclude each other");
	if (o->plot != NULL && !perf_err_is_set(err))
		(void)perf_plot_check(o->plot, err);
}

bool sweep_opts_parse(int argc, char **argv, bool lat, struct sweep_opts *o, struct perf_err *err)
{
	struct range r = {.begin = lat ? 8 : 4096, .end = lat ? 64 << 10 : 4 << 20, .factor = 4};
	const struct perf_args args = {argc, argv, lat ? "lat" : "bw", ":b:e:f:as:", options};
	const char *value, *name;
	int opt;

	*o = (struct sweep_opts){
		.cmd = lat ? "lat" : "bw",
		.lat = lat,
		.window = lat ? 1 : 2,
		.threads = 1,
		.runs = 5,
		.seed = 1,
		.pool = 256 << 20,
		.warmup = lat ? 100 : 2,
		.duration_ns = 200000000,
		.op = lat ? SWEEP_PUT_NOTE : SWEEP_PUT,
		.verify = true,
		.bulk = !lat,
	};
	perf_args_begin();
	while ((opt = perf_args_next(&args, &value, &name, err)) != -1)
		if (!take(opt, name, value, o, &r, err))
			return false;
	if (perf_err_is_set(err) || o->help)
		return !perf_err_is_set(err);
	(void)perf_args_end(&args, err);
	finish(o, &r, err);
	return !perf_err_is_set(err);
}

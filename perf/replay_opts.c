/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>

#include "kvperf_args.h"
#include "replay_other.h"

enum {
	OPT_TRACE = KVP_OPT_OWN,
	OPT_REQUESTS,
	OPT_SPEED,
	OPT_BLOCK_TOKENS,
	OPT_WINDOW,
	OPT_POOL,
	OPT_KV_BYTES,
	OPT_REQUEST_TIMEOUT,
	OPT_ROUTE,
	OPT_PROGRESS,
	OPT_WITH,
};

static const struct option options[] = {
	KVP_OPTIONS,
	{"trace", required_argument, NULL, OPT_TRACE},
	{"requests", required_argument, NULL, OPT_REQUESTS},
	{"speed", required_argument, NULL, OPT_SPEED},
	{"block-tokens", required_argument, NULL, OPT_BLOCK_TOKENS},
	{"window", required_argument, NULL, OPT_WINDOW},
	{"pool", required_argument, NULL, OPT_POOL},
	{"kv-bytes", required_argument, NULL, OPT_KV_BYTES},
	{"request-timeout", required_argument, NULL, OPT_REQUEST_TIMEOUT},
	{"route", required_argument, NULL, OPT_ROUTE},
	{"progress", required_argument, NULL, OPT_PROGRESS},
	{"with", required_argument, NULL, OPT_WITH},
	{NULL, 0, NULL, 0},
};

void replay_help(void)
{
	char models[PERF_ERR_MAX * 2];

	perf_model_list(models, sizeof(models));
	printf("usage: mcrun --prefill P --decode D mcperf replay --trace FILE --model NAME [options]\n"
	       "Replay a request trace: prefill ranks write the KV blocks of each request into the paged pool of its\n"
	       "decode rank, one put per request; the decode rank checks every byte after it was notified.\n\n"
	       "  --trace FILE           JSON lines: timestamp (ms), input_length, output_length, hash_ids\n"
	       "  --model NAME           shape of the KV cache, see below\n"
	       "  --requests N           only the first N requests\n"
	       "  --layers L             only L layers of the model, to fit the memory\n"
	       "  --speed X|max          replay X times as fast as the timestamps; max (default): as windows allow\n"
	       "  --block-tokens N       tokens per block, a divisor of 512 (default 16)\n"
	       "  --src, --dst tp=T,pp=S prefill (decode) ranks form instances of T x S ranks that cut the model\n"
	       "  --src-layout, --dst-layout L; --src-block, --dst-block N\n"
	       "                         how their pools are laid out, see mcperf kv --help; blocks divide 512\n"
	       "  --with JOB:N           the ranks of the other role are the N ranks of another job, found through "
	       "etcd:\n"
	       "                         MC_JOB=a mcrun --prefill 2 mcperf replay --with b:4 ..., and\n"
	       "                         MC_JOB=b mcrun --decode 4 mcperf replay --with a:2 ...\n"
	       "  --kv-bytes N           bytes per element instead of the model's: 1 for fp8\n"
	       "  --window N             requests under way per pair of ranks (default 4)\n"
	       "  --pool SIZE            memory pool of each rank, e.g. 2G (default: computed from trace and memory)\n"
	       "  --huge                 ask for huge pages for the pools\n"
	       "  --route prefix|rr      decode rank by longest known prefix and load (default), or round robin\n"
	       "  --transport T          auto, shm, tcp or rdma\n"
	       "  --seed N               for block choice and content (default 1)\n"
	       "  --verify, --no-verify  compare the bytes (default), or do not; the last one counts\n"
	       "  --timeout SEC          whole run (default 1h)\n"
	       "  --request-timeout SEC  one transfer (default 60s)\n"
	       "  --json FILE            report as one JSON object; -: to stdout, the table then goes to stderr\n"
	       "  --progress WHEN        auto (default: when a terminal watches), always, never\n\n"
	       "models: %s\n",
	       models);
}

static bool parse_number(int opt, const char *name, const char *s, struct replay_opts *o, struct perf_err *err)
{
	const struct perf_number table[] = {
		{OPT_REQUESTS, 1, PERF_TRACE_REQUESTS - 1, &o->requests},
		{OPT_BLOCK_TOKENS, 1, PERF_TRACE_BLOCK, &o->block_tokens},
		{OPT_WINDOW, 1, 1024, &o->window},
		{OPT_KV_BYTES, 1, 8, &o->kv_bytes},
	};

	return perf_args_number(table, sizeof(table) / sizeof(table[0]), opt, name, s, err);
}

static bool parse_own(int opt, const char *name, const char *s, struct replay_opts *o, struct perf_err *err)
{
	static const char *const routes[] = {"prefix", "rr", NULL};
	static const char *const modes[] = {"auto", "always", "never", NULL};
	int i = 0;

	switch (opt) {
	case OPT_TRACE:
		o->trace = s;
		return true;
	case OPT_ROUTE:
		if (!perf_args_choose(name, s, routes, &i, err))
			return false;
		o->route = i == 0 ? PERF_ROUTE_PREFIX : PERF_ROUTE_ROUND_ROBIN;
		return true;
	case OPT_PROGRESS:
		if (!perf_args_choose(name, s, modes, &i, err))
			return false;
		o->progress = (enum perf_progress_mode)i;
		return true;
	case OPT_SPEED:
		o->speed = 0;
		if (strcmp(s, "max") != 0 && !perf_parse_double(s, 1e-6, 1e9, &o->speed))
			perf_err_set(err, "--speed %s: must be max or a number above 0", s);
		return !perf_err_is_set(err);
	case OPT_POOL:
		if (!perf_parse_size(s, &o->pool) || o->pool == 0)
			perf_err_set(err, "--pool %s: must be a size such as 512M or 4G", s);
		return !perf_err_is_set(err);
	case OPT_REQUEST_TIMEOUT:
		return perf_args_seconds(name, s, &o->request_timeout_ns, err);
	case OPT_WITH:
		return replay_other_parse(s, o, err);
	default:
		return parse_number(opt, name, s, o, err);
	}
}

static bool take(int opt, const char *name, const char *s, struct replay_opts *o, struct perf_err *err)
{
	const struct kvperf_args common = {
		.model = &o->model,
		.json = &o->json,
		.transport = &o->transport,
		.side = o->side,
		.block_max = PERF_TRACE_BLOCK,
		.layers = &o->layers,
		.seed = &o->seed,
		.timeout_ns = &o->timeout_ns,
		.verify = &o->verify,
		.huge = &o->huge,
		.corrupt_one = &o->corrupt_one,
		.help = &o->help,
	};

	return opt < KVP_OPT_OWN ? kvperf_args_take(&common, opt, name, s, err) : parse_own(opt, name, s, o, err);
}

/* What is not said about the sides of a cut: HND, blocks as --block-tokens. */
static bool complete_sides(struct replay_opts *o, struct perf_err *err)
{
	bool cut = o->side[KVP_SRC].tp != 0;

	if (cut != (o->side[KVP_DST].tp != 0)) {
		perf_err_set(err, "--src and --dst belong together: --%s is missing", cut ? "dst" : "src");
		return false;
	}
	for (int s = 0; s < KVP_SIDES; s++) {
		struct kvperf_side *side = &o->side[s];
		const char *name = s == KVP_SRC ? "src" : "dst";
		if (!cut && (side->block_tokens != 0 || side->layout[0] != '\0')) {
			perf_err_set(err, "--%s-layout and --%s-block need --src and --dst", name, name);
			return false;
		}
		if (side->block_tokens == 0)
			side->block_tokens = o->block_tokens;
		if (PERF_TRACE_BLOCK % side->block_tokens != 0) {
			perf_err_set(err, "--%s-block %llu: must divide %d, the tokens per hash of the trace", name,
				     (unsigned long long)side->block_tokens, (int)PERF_TRACE_BLOCK);
			return false;
		}
		if (side->layout[0] == '\0' && !kvperf_parse_layout("", "HND", side, err))
			return false;
	}
	return true;
}

bool replay_opts_parse(int argc, char **argv, struct replay_opts *o, struct perf_err *err)
{
	const struct perf_args args = {argc, argv, "replay", ":", options};
	const char *value, *name;
	int opt;

	*o = (struct replay_opts){
		.block_tokens = 16,
		.window = 4,
		.seed = 1,
		.timeout_ns = INT64_C(3600000000000),
		.request_timeout_ns = INT64_C(60000000000),
		.verify = true,
	};
	perf_args_begin();
	while ((opt = perf_args_next(&args, &value, &name, err)) != -1)
		if (!take(opt, name, value, o, err))
			return false;
	if (perf_err_is_set(err) || o->help)
		return !perf_err_is_set(err);
	if (!perf_args_end(&args, err))
		return false;
	if (o->trace == NULL)
		perf_err_set(err, "--trace FILE is missing");
	else if (o->model == NULL)
		perf_err_set(err, "--model NAME is missing");
	else if (PERF_TRACE_BLOCK % o->block_tokens != 0)
		perf_err_set(err, "--block-tokens %llu: must divide %d, the tokens per hash of the trace",
			     (unsigned long long)o->block_tokens, (int)PERF_TRACE_BLOCK);
	return !perf_err_is_set(err) && complete_sides(o, err);
}

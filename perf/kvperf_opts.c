/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>

#include "kvperf_args.h"
#include "pattern.h"

enum {
	OPT_TOKENS = KVP_OPT_OWN,
	OPT_HEADS,
	OPT_KV_BYTES,
	OPT_PER_PUSH,
	OPT_COMPUTE,
	OPT_COMPUTE_BY,
	OPT_PUSH,
	OPT_PULL,
	OPT_ITERS,
	OPT_PLAN,
};

static const struct option options[] = {
	KVP_OPTIONS,
	{"tokens", required_argument, NULL, OPT_TOKENS},
	{"heads", required_argument, NULL, OPT_HEADS},
	{"kv-bytes", required_argument, NULL, OPT_KV_BYTES},
	{"layers-per-push", required_argument, NULL, OPT_PER_PUSH},
	{"compute", required_argument, NULL, OPT_COMPUTE},
	{"compute-by", required_argument, NULL, OPT_COMPUTE_BY},
	{"push", no_argument, NULL, OPT_PUSH},
	{"pull", no_argument, NULL, OPT_PULL},
	{"iters", required_argument, NULL, OPT_ITERS},
	{"plan", no_argument, NULL, OPT_PLAN},
	{NULL, 0, NULL, 0},
};

void kvperf_help(void)
{
	char models[PERF_ERR_MAX * 2];

	perf_model_list(models, sizeof(models));
	printf("usage: mcrun --prefill P --decode D mcperf kv --model NAME --src tp=P --dst tp=D [options]\n"
	       "Move the KV cache of one sequence from prefill ranks, cut one way, to decode ranks, cut another way, "
	       "and\n"
	       "check every element there.\n\n"
	       "  --model NAME           shape of the KV cache, see below\n"
	       "  --src tp=T,pp=S        how the prefill ranks cut the model: T x S ranks; what is not named is 1\n"
	       "  --dst tp=T,pp=S        the same for the decode ranks\n"
	       "  --src-layout, --dst-layout L\n"
	       "                         HND (default), NHD, CROSS, CROSS-HND, or the letters L K B T H (layer, K/V, "
	       "block,\n"
	       "                         token, head) with the outermost first; +layers, +kv: a base for each layer, "
	       "for K\n"
	       "                         and V, e.g. NHD+layers\n"
	       "  --src-block, --dst-block N\n"
	       "                         tokens per block (default 16)\n"
	       "  --tokens N             of the sequence (default 8192)\n"
	       "  --layers L             only L layers of the model, to fit the memory\n"
	       "  --heads H              KV heads instead of the model's\n"
	       "  --kv-bytes N           bytes per element instead of the model's: 1, 2 or 4\n"
	       "  --push | --pull        sources write (default), or targets read\n"
	       "  --iters N              transfers of each kind (default 5)\n"
	       "  --layers-per-push K    compare sending K layers at a time while the next are computed with sending "
	       "all\n"
	       "                         at the end\n"
	       "  --compute US           simulated prefill per layer, with --layers-per-push (default 1000)\n"
	       "  --compute-by sleep|spin\n"
	       "                         the CPU is free meanwhile, as with a GPU (default), or busy\n"
	       "  --plan                 only print who sends what to whom\n"
	       "  --verify, --no-verify  compare the bytes (default), or do not; the last one counts\n"
	       "  --huge                 ask for huge pages for the pools\n"
	       "  --seed N               for block tables and content (default 1)\n"
	       "  --timeout SEC          one transfer (default 60s)\n"
	       "  --transport T          auto, shm, tcp or rdma\n"
	       "  --json FILE            report as one JSON object; -: to stdout, the table then goes to stderr\n\n"
	       "models: %s\n",
	       models);
}

static bool parse_number(int opt, const char *name, const char *s, struct kvperf_opts *o, struct perf_err *err)
{
	const struct perf_number table[] = {
		{OPT_TOKENS, 1, PERF_PATTERN_REQUESTS - 1, &o->tokens},
		{OPT_HEADS, 1, 4096, &o->heads},
		{OPT_PER_PUSH, 1, PERF_PATTERN_LAYERS - 1, &o->per_push},
		{OPT_ITERS, 1, KVP_ITERS_MAX, &o->iters},
	};

	return perf_args_number(table, sizeof(table) / sizeof(table[0]), opt, name, s, err);
}

static bool take(int opt, const char *name, const char *s, struct kvperf_opts *o, struct perf_err *err)
{
	static const char *const compute_names[] = {"sleep", "spin", NULL};
	const struct kvperf_args common = {
		.model = &o->model,
		.json = &o->json,
		.transport = &o->transport,
		.side = o->side,
		.block_max = 65536,
		.layers = &o->layers,
		.seed = &o->seed,
		.timeout_ns = &o->timeout_ns,
		.verify = &o->verify,
		.huge = &o->huge,
		.corrupt_one = &o->corrupt_one,
		.help = &o->help,
	};
	int i = 0;

	if (opt < KVP_OPT_OWN)
		return kvperf_args_take(&common, opt, name, s, err);
	switch (opt) {
	case OPT_PUSH:
	case OPT_PULL:
		o->pull = opt == OPT_PULL;
		return true;
	case OPT_PLAN:
		o->plan = true;
		return true;
	case OPT_KV_BYTES:
		if (!perf_parse_u64(s, 1, 4, &o->kv_bytes) || o->kv_bytes == 3)
			perf_err_set(err, "--kv-bytes %s: must be 1, 2 or 4", s);
		return !perf_err_is_set(err);
	case OPT_COMPUTE:
		if (!perf_parse_double(s, 0, 1e7, &o->compute_us))
			perf_err_set(err, "--compute %s: must be microseconds per layer, from 0 to 10000000", s);
		return !perf_err_is_set(err);
	case OPT_COMPUTE_BY:
		if (!perf_args_choose(name, s, compute_names, &i, err))
			return false;
		o->compute_by = i == 0 ? KVP_SLEEP : KVP_SPIN;
		return true;
	default:
		return parse_number(opt, name, s, o, err);
	}
}

static void set_defaults(struct kvperf_opts *o)
{
	struct perf_err none = {""};

	*o = (struct kvperf_opts){
		.tokens = 8192,
		.iters = 5,
		.seed = 1,
		.compute_us = 1000,
		.timeout_ns = INT64_C(60000000000),
		.verify = true,
	};
	for (int s = 0; s < KVP_SIDES; s++) {
		o->side[s].block_tokens = 16;
		(void)kvperf_parse_layout("", "HND", &o->side[s], &none);
	}
}

bool kvperf_opts_parse(int argc, char **argv, struct kvperf_opts *o, struct perf_err *err)
{
	const struct perf_args args = {argc, argv, "kv", ":", options};
	const char *value, *name;
	int opt;

	set_defaults(o);
	perf_args_begin();
	while ((opt = perf_args_next(&args, &value, &name, err)) != -1)
		if (!take(opt, name, value, o, err))
			return false;
	if (perf_err_is_set(err) || o->help)
		return !perf_err_is_set(err);
	if (!perf_args_end(&args, err))
		return false;
	if (o->model == NULL)
		perf_err_set(err, "--model NAME is missing");
	else if (o->side[KVP_SRC].tp == 0)
		perf_err_set(err, "--src tp=N,pp=N is missing");
	else if (o->side[KVP_DST].tp == 0)
		perf_err_set(err, "--dst tp=N,pp=N is missing");
	return !perf_err_is_set(err);
}

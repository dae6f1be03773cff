/* SPDX-License-Identifier: BSD-3-Clause */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "args.h"
#include "kvperf.h"
#include "pattern.h"
#include "report.h"

enum {
	OPT_MODEL = 256,
	OPT_SRC,
	OPT_DST,
	OPT_SRC_LAYOUT,
	OPT_DST_LAYOUT,
	OPT_SRC_BLOCK,
	OPT_DST_BLOCK,
	OPT_TOKENS,
	OPT_LAYERS,
	OPT_HEADS,
	OPT_KV_BYTES,
	OPT_PER_PUSH,
	OPT_COMPUTE,
	OPT_COMPUTE_BY,
	OPT_PUSH,
	OPT_PULL,
	OPT_ITERS,
	OPT_PLAN,
	OPT_VERIFY,
	OPT_NO_VERIFY,
	OPT_HUGE,
	OPT_SEED,
	OPT_TIMEOUT,
	OPT_TRANSPORT,
	OPT_JSON,
	OPT_CORRUPT_ONE,
	OPT_HELP,
};

static const struct option options[] = {
	{"model", required_argument, NULL, OPT_MODEL},
	{"src", required_argument, NULL, OPT_SRC},
	{"dst", required_argument, NULL, OPT_DST},
	{"src-layout", required_argument, NULL, OPT_SRC_LAYOUT},
	{"dst-layout", required_argument, NULL, OPT_DST_LAYOUT},
	{"src-block", required_argument, NULL, OPT_SRC_BLOCK},
	{"dst-block", required_argument, NULL, OPT_DST_BLOCK},
	{"tokens", required_argument, NULL, OPT_TOKENS},
	{"layers", required_argument, NULL, OPT_LAYERS},
	{"heads", required_argument, NULL, OPT_HEADS},
	{"kv-bytes", required_argument, NULL, OPT_KV_BYTES},
	{"layers-per-push", required_argument, NULL, OPT_PER_PUSH},
	{"compute", required_argument, NULL, OPT_COMPUTE},
	{"compute-by", required_argument, NULL, OPT_COMPUTE_BY},
	{"push", no_argument, NULL, OPT_PUSH},
	{"pull", no_argument, NULL, OPT_PULL},
	{"iters", required_argument, NULL, OPT_ITERS},
	{"plan", no_argument, NULL, OPT_PLAN},
	{"verify", no_argument, NULL, OPT_VERIFY},
	{"no-verify", no_argument, NULL, OPT_NO_VERIFY},
	{"huge", no_argument, NULL, OPT_HUGE},
	{"seed", required_argument, NULL, OPT_SEED},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"transport", required_argument, NULL, OPT_TRANSPORT},
	{"json", required_argument, NULL, OPT_JSON},
	{"corrupt-one", no_argument, NULL, OPT_CORRUPT_ONE},
	{"help", no_argument, NULL, OPT_HELP},
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
	       "  --no-verify            do not compare the bytes\n"
	       "  --huge                 ask for huge pages for the pools\n"
	       "  --seed N               for block tables and content (default 1)\n"
	       "  --timeout SEC          one transfer (default 60s)\n"
	       "  --transport T          auto, shm, tcp or rdma\n"
	       "  --json FILE            report as one JSON object; -: to stdout, the table then goes to stderr\n\n"
	       "models: %s\n",
	       models);
}

bool kvperf_parse_side(const char *what, const char *s, uint64_t *tp, uint64_t *pp, struct perf_err *err)
{
	char copy[64], *save = NULL;
	bool have_tp = false, have_pp = false;

	*tp = *pp = 1;
	if (snprintf(copy, sizeof(copy), "%s", s) >= (int)sizeof(copy))
		goto bad;
	for (char *w = strtok_r(copy, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) {
		bool is_tp = strncmp(w, "tp=", 3) == 0, is_pp = strncmp(w, "pp=", 3) == 0;
		if ((is_tp && have_tp) || (is_pp && have_pp) || (!is_tp && !is_pp) ||
		    !perf_parse_u64(w + 3, 1, is_tp ? KVP_TP_MAX : PERF_PATTERN_LAYERS - 1, is_tp ? tp : pp))
			goto bad;
		have_tp |= is_tp;
		have_pp |= is_pp;
	}
	if (have_tp || have_pp)
		return true;
bad:
	perf_err_set(err, "%s %s: must be tp=N, pp=N or both, such as tp=4,pp=2; tp up to %d, pp up to %d", what, s,
		     (int)KVP_TP_MAX, (int)PERF_PATTERN_LAYERS - 1);
	return false;
}

static const char letters[] = "LKBTH"; /* as enum mc_kv_dim */
static const struct {
	const char *name, *letters;
} known_layouts[] = {{"HND", "LKBHT"}, {"NHD", "LKBTH"}, {"CROSS", "BLKTH"}, {"CROSS-HND", "BLKHT"}};
enum { KNOWN_LAYOUTS = sizeof(known_layouts) / sizeof(known_layouts[0]) };

/* Five letters, each once. */
static bool parse_letters(const char *s, enum mc_kv_dim order[MC_KV_NDIM])
{
	unsigned int seen = 0;

	if (strlen(s) != MC_KV_NDIM)
		return false;
	for (int i = 0; i < MC_KV_NDIM; i++) {
		const char *at = strchr(letters, toupper((unsigned char)s[i]));
		if (at == NULL || (seen >> (at - letters) & 1) != 0)
			return false;
		seen |= 1u << (at - letters);
		order[i] = (enum mc_kv_dim)(at - letters);
	}
	return true;
}

bool kvperf_parse_layout(const char *what, const char *s, struct kvperf_side *side, struct perf_err *err)
{
	char copy[KVP_NAME_MAX], *save = NULL, *w;
	const char *order;
	uint32_t flags = 0;

	if (snprintf(copy, sizeof(copy), "%s", s) >= (int)sizeof(copy) || copy[0] == '+')
		goto bad;
	w = strtok_r(copy, "+", &save);
	if (w == NULL)
		goto bad;
	order = w;
	for (int i = 0; i < KNOWN_LAYOUTS; i++) {
		if (strcasecmp(w, known_layouts[i].name) == 0)
			order = known_layouts[i].letters;
	}
	if (!parse_letters(order, side->order))
		goto bad;
	while ((w = strtok_r(NULL, "+", &save)) != NULL) {
		if (strcmp(w, "layers") == 0)
			flags |= MC_KV_BASE_PER_LAYER;
		else if (strcmp(w, "kv") == 0)
			flags |= MC_KV_BASE_PER_KV;
		else
			goto bad;
	}
	side->flags = flags;
	snprintf(side->layout, sizeof(side->layout), "%s", s);
	return true;
bad:
	perf_err_set(
		err,
		"%s %s: must be HND, NHD, CROSS, CROSS-HND or the letters L K B T H, each once; +layers and +kv may "
		"follow",
		what, s);
	return false;
}

void kvperf_layout_text(const struct kvperf_side *side, char text[KVP_NAME_MAX])
{
	char order[MC_KV_NDIM + 1] = "";
	const char *name = order;

	for (int i = 0; i < MC_KV_NDIM; i++)
		order[i] = letters[side->order[i]];
	for (int i = 0; i < KNOWN_LAYOUTS; i++)
		if (strcmp(order, known_layouts[i].letters) == 0)
			name = known_layouts[i].name;
	snprintf(text, KVP_NAME_MAX, "%s%s%s", name, (side->flags & MC_KV_BASE_PER_LAYER) != 0 ? "+layers" : "",
		 (side->flags & MC_KV_BASE_PER_KV) != 0 ? "+kv" : "");
}

static bool parse_number(int opt, const char *name, const char *s, struct kvperf_opts *o, struct perf_err *err)
{
	const struct perf_number table[] = {
		{OPT_SRC_BLOCK, 1, 65536, &o->side[KVP_SRC].block_tokens},
		{OPT_DST_BLOCK, 1, 65536, &o->side[KVP_DST].block_tokens},
		{OPT_TOKENS, 1, PERF_PATTERN_REQUESTS - 1, &o->tokens},
		{OPT_LAYERS, 1, PERF_PATTERN_LAYERS - 1, &o->layers},
		{OPT_HEADS, 1, 4096, &o->heads},
		{OPT_PER_PUSH, 1, PERF_PATTERN_LAYERS - 1, &o->per_push},
		{OPT_ITERS, 1, KVP_ITERS_MAX, &o->iters},
		{OPT_SEED, 0, UINT64_MAX, &o->seed},
	};

	return perf_args_number(table, sizeof(table) / sizeof(table[0]), opt, name, s, err);
}

static bool parse_value(int opt, const char *name, const char *s, struct kvperf_opts *o, struct perf_err *err)
{
	static const char *const compute_names[] = {"sleep", "spin", NULL};
	int side = opt == OPT_SRC || opt == OPT_SRC_LAYOUT ? KVP_SRC : KVP_DST, i = 0;
	char what[32];

	snprintf(what, sizeof(what), "--%s", name);
	switch (opt) {
	case OPT_SRC:
	case OPT_DST:
		return kvperf_parse_side(what, s, &o->side[side].tp, &o->side[side].pp, err);
	case OPT_SRC_LAYOUT:
	case OPT_DST_LAYOUT:
		return kvperf_parse_layout(what, s, &o->side[side], err);
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
	case OPT_TIMEOUT:
		return perf_args_seconds(name, s, &o->timeout_ns, err);
	default:
		return parse_number(opt, name, s, o, err);
	}
}

static bool take(int opt, const char *name, const char *s, struct kvperf_opts *o, struct perf_err *err)
{
	switch (opt) {
	case OPT_MODEL:
		o->model = s;
		return true;
	case OPT_JSON:
		o->json = s;
		return perf_report_check_path(s, err);
	case OPT_TRANSPORT:
		return perf_args_setting("MC_TRANSPORT", s, &o->transport, err);
	case OPT_PUSH:
	case OPT_PULL:
		o->pull = opt == OPT_PULL;
		return true;
	case OPT_VERIFY:
	case OPT_NO_VERIFY:
		o->verify = opt == OPT_VERIFY;
		return true;
	case OPT_PLAN:
		o->plan = true;
		return true;
	case OPT_HUGE:
		o->huge = true;
		return true;
	case OPT_CORRUPT_ONE:
		o->corrupt_one = true;
		return true;
	case OPT_HELP:
		o->help = true;
		return true;
	default:
		return parse_value(opt, name, s, o, err);
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

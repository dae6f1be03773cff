/* SPDX-License-Identifier: BSD-3-Clause */
#include "kvperf_args.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "pattern.h"
#include "report.h"

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

static bool take_value(const struct kvperf_args *a, int opt, const char *name, const char *s, struct perf_err *err)
{
	const struct perf_number numbers[] = {
		{KVP_OPT_SRC_BLOCK, 1, a->block_max, &a->side[KVP_SRC].block_tokens},
		{KVP_OPT_DST_BLOCK, 1, a->block_max, &a->side[KVP_DST].block_tokens},
		{KVP_OPT_LAYERS, 1, PERF_PATTERN_LAYERS - 1, a->layers},
		{KVP_OPT_SEED, 0, UINT64_MAX, a->seed},
	};
	struct kvperf_side *side = &a->side[opt == KVP_OPT_SRC || opt == KVP_OPT_SRC_LAYOUT ? KVP_SRC : KVP_DST];
	char what[32];

	snprintf(what, sizeof(what), "--%s", name);
	switch (opt) {
	case KVP_OPT_MODEL:
		*a->model = s;
		return true;
	case KVP_OPT_SRC:
	case KVP_OPT_DST:
		return kvperf_parse_side(what, s, &side->tp, &side->pp, err);
	case KVP_OPT_SRC_LAYOUT:
	case KVP_OPT_DST_LAYOUT:
		return kvperf_parse_layout(what, s, side, err);
	case KVP_OPT_TIMEOUT:
		return perf_args_seconds(name, s, a->timeout_ns, err);
	case KVP_OPT_TRANSPORT:
		return perf_args_setting("MC_TRANSPORT", s, a->transport, err);
	case KVP_OPT_JSON:
		*a->json = s;
		return perf_report_check_path(s, err);
	default:
		return perf_args_number(numbers, sizeof(numbers) / sizeof(numbers[0]), opt, name, s, err);
	}
}

bool kvperf_args_take(const struct kvperf_args *a, int opt, const char *name, const char *s, struct perf_err *err)
{
	switch (opt) {
	case KVP_OPT_VERIFY:
	case KVP_OPT_NO_VERIFY:
		*a->verify = opt == KVP_OPT_VERIFY;
		return true;
	case KVP_OPT_HUGE:
		*a->huge = true;
		return true;
	case KVP_OPT_CORRUPT_ONE:
		*a->corrupt_one = true;
		return true;
	case KVP_OPT_HELP:
		*a->help = true;
		return true;
	default:
		return take_value(a, opt, name, s, err);
	}
}

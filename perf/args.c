/* SPDX-License-Identifier: BSD-3-Clause */
#include "args.h"

#include <stdio.h>
#include <string.h>

#include "mc.h"

enum { FIRST_LONG = 256 };

void perf_args_begin(void)
{
	opterr = 0;
	optind = 0; /* begins anew, also after an earlier call */
}

int perf_args_next(const struct perf_args *a, const char **value, const char **name, struct perf_err *err)
{
	int index = -1, opt = getopt_long(a->argc, a->argv, a->shorts, a->options, &index);

	if (opt == ':')
		perf_err_set(err, "%s needs a value", a->argv[optind - 1]);
	else if (opt == '?' && optopt > 0 && optopt < FIRST_LONG)
		perf_err_set(err, "unknown option -%c (see mcperf %s --help)", optopt, a->tool);
	else if (opt == '?')
		perf_err_set(err, "unknown option %s (see mcperf %s --help)", a->argv[optind - 1], a->tool);
	*value = optarg;
	*name = index >= 0 ? a->options[index].name : "";
	return opt == ':' || opt == '?' ? -1 : opt;
}

bool perf_args_end(const struct perf_args *a, struct perf_err *err)
{
	if (optind < a->argc)
		perf_err_set(err, "unexpected argument %s (see mcperf %s --help)", a->argv[optind], a->tool);
	return !perf_err_is_set(err);
}

bool perf_args_choose(const char *name, const char *s, const char *const *names, int *out, struct perf_err *err)
{
	char list[128] = "";

	for (int i = 0; names[i] != NULL; i++) {
		if (strcmp(s, names[i]) == 0) {
			*out = i;
			return true;
		}
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i == 0 ? "" : ", ", names[i]);
	}
	perf_err_set(err, "--%s %s: must be one of %s", name, s, list);
	return false;
}

bool perf_args_number(const struct perf_number *table, size_t n, int opt, const char *name, const char *s,
		      struct perf_err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (table[i].opt != opt)
			continue;
		if (perf_parse_u64(s, table[i].min, table[i].max, table[i].out))
			return true;
		perf_err_set(err, "--%s %s: must be a whole number from %llu to %llu", name, s,
			     (unsigned long long)table[i].min, (unsigned long long)table[i].max);
	}
	return false;
}

bool perf_args_seconds(const char *name, const char *s, int64_t *out_ns, struct perf_err *err)
{
	if (perf_parse_seconds(s, out_ns) && *out_ns > 0)
		return true;
	perf_err_set(err, "--%s %s: must be a time such as 20 (seconds), 500ms or 2m", name, s);
	return false;
}

bool perf_args_setting(const char *setting, const char *s, const char **out, struct perf_err *err)
{
	if (mc_setting_check(setting, s, err->text, sizeof(err->text)) != MC_OK)
		return false;
	err->text[0] = '\0';
	*out = s;
	return true;
}

bool perf_args_range(int letter, const char *s, uint64_t max, uint64_t *out, struct perf_err *err)
{
	bool factor = letter == 'f';

	if (perf_parse_size(s, out) && *out >= (factor ? 2 : 1) && *out <= max)
		return true;
	perf_err_set(err, "-%c %s: must be a %s", letter, s, factor ? "number from 2" : "size such as 4K or 1M");
	return false;
}

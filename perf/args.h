/* SPDX-License-Identifier: BSD-3-Clause */
/* args.h - options of the command line, read and refused alike in all tools. Only for one thread, as getopt. */
#ifndef PERF_ARGS_H
#define PERF_ARGS_H

#include <getopt.h>

#include "perftext.h"

struct perf_args {
	int argc;
	char **argv;
	const char *tool;             /* "kv": for "see mcperf kv --help" */
	const char *shorts;           /* as getopt has them, ":" first */
	const struct option *options; /* values of long ones without a letter begin at 256 */
};

/* A whole number that an option takes. */
struct perf_number {
	int opt;
	uint64_t min, max, *out;
};

void perf_args_begin(void);
/* The next option, its value and its long name ("" where it was given as a letter); -1: that was all, or err is set. */
int perf_args_next(const struct perf_args *a, const char **value, const char **name, struct perf_err *err);
/* false: something stands behind the options. */
bool perf_args_end(const struct perf_args *a, struct perf_err *err);

/* These set err when s will not do. name: of the option, without the dashes. */
bool perf_args_choose(const char *name, const char *s, const char *const *names, int *out, struct perf_err *err);
bool perf_args_number(const struct perf_number *table, size_t n, int opt, const char *name, const char *s,
		      struct perf_err *err); /* also false, and no err, when opt is not in the table */
bool perf_args_seconds(const char *name, const char *s, int64_t *out_ns, struct perf_err *err); /* above 0 */
/* A value of that setting of libmc. */
bool perf_args_setting(const char *setting, const char *s, const char **out, struct perf_err *err);
/* -b, -e: a size from 1; -f: a number from 2. */
bool perf_args_range(int letter, const char *s, uint64_t max, uint64_t *out, struct perf_err *err);

#endif

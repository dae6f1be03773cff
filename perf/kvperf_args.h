/* SPDX-License-Identifier: BSD-3-Clause */
/* kvperf_args.h - the options that mcperf kv and mcperf replay have in common, which mean the same in both. */
#ifndef PERF_KVPERF_ARGS_H
#define PERF_KVPERF_ARGS_H

#include "args.h"
#include "kvperf.h"

enum {
	KVP_OPT_MODEL = 256,
	KVP_OPT_SRC,
	KVP_OPT_DST,
	KVP_OPT_SRC_LAYOUT,
	KVP_OPT_DST_LAYOUT,
	KVP_OPT_SRC_BLOCK,
	KVP_OPT_DST_BLOCK,
	KVP_OPT_LAYERS,
	KVP_OPT_SEED,
	KVP_OPT_TIMEOUT,
	KVP_OPT_TRANSPORT,
	KVP_OPT_JSON,
	KVP_OPT_VERIFY,
	KVP_OPT_NO_VERIFY,
	KVP_OPT_HUGE,
	KVP_OPT_CORRUPT_ONE,
	KVP_OPT_HELP,
	KVP_OPT_OWN, /* first of those that a tool has for itself */
};

/* For the table of getopt_long(). */
#define KVP_OPTIONS                                                                                                    \
	{"model", required_argument, NULL, KVP_OPT_MODEL}, {"src", required_argument, NULL, KVP_OPT_SRC},              \
		{"dst", required_argument, NULL, KVP_OPT_DST},                                                         \
		{"src-layout", required_argument, NULL, KVP_OPT_SRC_LAYOUT},                                           \
		{"dst-layout", required_argument, NULL, KVP_OPT_DST_LAYOUT},                                           \
		{"src-block", required_argument, NULL, KVP_OPT_SRC_BLOCK},                                             \
		{"dst-block", required_argument, NULL, KVP_OPT_DST_BLOCK},                                             \
		{"layers", required_argument, NULL, KVP_OPT_LAYERS}, {"seed", required_argument, NULL, KVP_OPT_SEED},  \
		{"timeout", required_argument, NULL, KVP_OPT_TIMEOUT},                                                 \
		{"transport", required_argument, NULL, KVP_OPT_TRANSPORT},                                             \
		{"json", required_argument, NULL, KVP_OPT_JSON}, {"verify", no_argument, NULL, KVP_OPT_VERIFY},        \
		{"no-verify", no_argument, NULL, KVP_OPT_NO_VERIFY}, {"huge", no_argument, NULL, KVP_OPT_HUGE},        \
		{"corrupt-one", no_argument, NULL, KVP_OPT_CORRUPT_ONE}, {"help", no_argument, NULL, KVP_OPT_HELP}

/* Where their values go. */
struct kvperf_args {
	const char **model, **json, **transport;
	struct kvperf_side *side; /* [KVP_SIDES] */
	uint64_t block_max;       /* tokens */
	uint64_t *layers, *seed;
	int64_t *timeout_ns;
	bool *verify, *huge, *corrupt_one, *help;
};

/* opt below KVP_OPT_OWN, its name and value. false: err is set. */
bool kvperf_args_take(const struct kvperf_args *a, int opt, const char *name, const char *s, struct perf_err *err);

#endif

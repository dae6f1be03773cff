/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay_fit.h - what the two jobs of `mcperf replay --with` have to have in common, as a record that each sends the
 * other: options by name with their values as text, so that whatever differs can be named, also what one side alone
 * knows. Pure: nothing here sends or prints. docs/WIRE.md has the bytes.
 */
#ifndef PERF_REPLAY_FIT_H
#define PERF_REPLAY_FIT_H

#include "mc.h"
#include "perftext.h"

enum {
	REPLAY_FIT_ITEMS = 16,
	REPLAY_FIT_TEXT = 48,    /* bytes of a name or a value with its NUL */
	REPLAY_FIT_BYTES = 2048, /* of the longest record */
};

struct replay_fit_item {
	char name[REPLAY_FIT_TEXT], value[REPLAY_FIT_TEXT]; /* "--src", "tp=2" */
};

struct replay_fit {
	bool asks;                     /* the sender wants the receiver's in return */
	char program[REPLAY_FIT_TEXT]; /* version of mc that the sender runs */
	char with[MC_JOB_MAX];         /* the job that it looks for */
	uint32_t n, with_n;            /* its ranks, and those that it looks for */
	uint32_t item_n;
	struct replay_fit_item item[REPLAY_FIT_ITEMS];
};

enum replay_fit_read { REPLAY_FIT_OK, REPLAY_FIT_OTHER_VERSION, REPLAY_FIT_MALFORMED };

/* One more option that both have to have alike. False: no room for it, or no text that may be sent. */
bool replay_fit_add(struct replay_fit *f, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Into buf, which has REPLAY_FIT_BYTES: enough for any. The length. */
uint32_t replay_fit_write(const struct replay_fit *f, uint8_t *buf);
/* Any bytes. OTHER_VERSION: asks and program are set, nothing else. MALFORMED: *out is not of use. */
enum replay_fit_read replay_fit_read(const void *data, uint32_t len, struct replay_fit *out);
/* Over names and values: equal where replay_fit_compare() finds no option that differs. */
uint64_t replay_fit_digest(const struct replay_fit *f);
/* Do the two fit? Otherwise err says, in one line, what differs: both values, and which is whose. */
bool replay_fit_compare(const struct replay_fit *mine, const char *my_job, const struct replay_fit *theirs,
			const char *their_job, struct perf_err *err);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gather.h - bring the ranks' results together at the lowest living rank. Results may arrive while that rank is still
 * at work, so every loop that takes notes hands those it does not know to perf_gather_note().
 */
#ifndef PERF_GATHER_H
#define PERF_GATHER_H

#include "job.h"
#include "progress.h"
#include "stats.h"

/* What one rank counted; sums over ranks make the report. */
#define PERF_RESULT_MAP(X)                                                                                             \
	X(ok)      /* decode: requests that arrived, verified if that was asked for */                                 \
	X(failed)  /* decode: requests tried without success */                                                        \
	X(not_run) /* decode: requests left when the run was ended early */                                            \
	X(wrong)   /* decode: blocks with wrong bytes */                                                               \
	X(fatal)   /* either: faults that are not about a request */                                                   \
	X(again)   /* times the rank was started again: what it counts is of the last time */                          \
	X(tokens)  /* decode: input tokens of the requests that arrived */                                             \
	X(tokens_moved)                                                                                                \
	X(blocks)     /* decode: pool blocks moved (each in every layer) */                                            \
	X(hit_blocks) /* decode: pool blocks that were there already */                                                \
	X(bytes)      /* decode: moved, of the requests that arrived */                                                \
	X(verified)   /* decode: bytes compared after arrival */                                                       \
	X(rechecked)  /* decode: bytes of reused prefixes compared again */                                            \
	X(put_bytes)  /* prefill: of puts that ended well */                                                           \
	X(puts)                                                                                                        \
	X(slices)                                                                                                      \
	X(runs)     /* slices after merging */                                                                         \
	X(post_ns)  /* prefill: inside mc_put() */                                                                     \
	X(busy_ns)  /* prefill: at least one put under way */                                                          \
	X(cpu_ns)   /* of the process, content generation and check not counted */                                     \
	X(check_ns) /* CPU of content generation and check */                                                          \
	X(wall_ns)

struct perf_result {
#define PERF_RESULT_FIELD(name) uint64_t name;
	PERF_RESULT_MAP(PERF_RESULT_FIELD)
#undef PERF_RESULT_FIELD
};

struct perf_link {
	uint32_t from, to;
	char text[MC_NAME_MAX];
};

enum { PERF_S_TRANSFER, PERF_S_HANDOFF, PERF_S_N }; /* sets of samples */

struct perf_gather {
	struct perf_result *result;            /* [size] */
	bool *have;                            /* [size] */
	struct perf_samples samples[PERF_S_N]; /* own ones, then everybody's at the leader */
	struct perf_link *link;
	uint32_t link_n, link_room;
	uint64_t *done, *done_bytes; /* [size] progress */
	uint64_t heard;              /* notes taken in: a sign of life */
	struct perf_progress progress;
	uint32_t exit_code; /* from the leader's farewell */
	/* While results are waited for; each may be NULL: a rank has come back, a note of another job, now and then. */
	void (*on_back)(void *arg, uint32_t peer);
	void (*on_foreign)(void *arg, const struct mc_note *note);
	void (*on_turn)(void *arg);
	void *on_arg;
	bool bye;
};

bool perf_gather_init(struct perf_gather *g, struct perf_job *j);
void perf_gather_free(struct perf_gather *g);
bool perf_gather_link(struct perf_gather *g, uint32_t from, uint32_t to, const char *text);
/* Take in a note of the kinds PROGRESS .. BYE; others are dropped. Does not free it. */
void perf_gather_note(struct perf_gather *g, struct perf_job *j, const struct mc_note *note);
/* This rank's progress: requests and bytes so far. Shown, or sent to the leader now and then, which also tells it that
 * this rank lives: to be called when there is nothing new, too. */
void perf_gather_progress(struct perf_gather *g, struct perf_job *j, uint64_t done, uint64_t bytes, bool last);
/*
 * Hand in *mine. true: this rank is the leader and has what could be had by the deadline (have[] tells whose); it
 * reports and then says farewell. false: the leader did, g->exit_code is its verdict; or nobody answered, then bye is
 * false.
 */
bool perf_gather_run(struct perf_gather *g, struct perf_job *j, const struct perf_result *mine, int64_t patience_ns,
		     int64_t deadline_ns);
void perf_gather_farewell(struct perf_job *j, uint32_t exit_code);

#endif

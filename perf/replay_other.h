/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay_other.h - `mcperf replay --with JOB:N`: the ranks of the other role are a job of their own, found through
 * etcd. Each job agrees and reports by itself; which request goes where follows from the trace, as ever.
 */
#ifndef PERF_REPLAY_OTHER_H
#define PERF_REPLAY_OTHER_H

#include "replay.h"

/* "JOB:N" */
bool replay_other_parse(const char *text, struct replay_opts *o, struct perf_err *err);
/* Before anyone is looked for: are all ranks of this job prefill, or all decode? Some are one of them. */
bool replay_other_one_role(const struct replay *r, struct perf_err *err);
/*
 * Wait for the other job's ranks; they become the group of the role that this job does not have. Before that the ranks
 * 0 of both tell each other what they play: a difference is an error on both.
 */
bool replay_other_find(struct replay *r, struct perf_err *err);
/*
 * When all ranks of this job have what they need: wait until those of the other one have, too. Only rank 0 does, before
 * it votes for the start.
 */
void replay_other_start(struct replay *r, struct perf_err *err);
/* A note of another job while this one is at work, or has more to do: of the kinds PERF_K_FIT and PERF_K_PREPARED it is
 * answered, those of a job that was started again; others are dropped. */
void replay_other_note(struct replay *r, const struct mc_note *note);
/* Under which a decode rank publishes its pool: two jobs that play different traces do not find each other's. */
void replay_pool_name(const struct replay *r, char name[MC_NAME_MAX]);
/* How long to wait for a peer to have its pool. */
int64_t replay_start_ns(const struct replay *r);
/* What may be wrong where a pool of the other job is not found. */
const char *replay_other_hint(const struct replay *r, mc_status_t s);
/* The number by which a prefill rank marks its content: the same on both sides. */
uint32_t replay_writer(const struct replay *r, uint32_t prefill);
/*
 * This decode rank wants no more: to those prefill ranks of the other job that do not know yet. Called once more they
 * are those that were started again meanwhile, which would wait for it otherwise.
 */
void replay_other_end(struct replay *r);
/* To the other job's ranks that live; waits until it left. */
void replay_other_tell(struct replay *r, uint64_t tag);
/* Is a rank of the other job that was lost there again, as a new process? *epoch: the one that was lost, then the new
 * one. */
bool replay_other_back(struct replay *r, uint32_t peer, uint64_t *epoch);

#endif

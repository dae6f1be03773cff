/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay.h - `mcperf replay`, inside. Prefill and decode ranks go through the same trace; which two ranks serve a
 * request is a pure function of it (route.h). For each request the decode rank takes blocks of its pool, tells the
 * prefill rank which, the prefill rank writes them in one put that notifies, the decode rank checks every byte.
 *
 * A pool is [layer][block][K of block_tokens tokens][V of them] (MLA: one latent), so a block is one slice per layer.
 */
#ifndef PERF_REPLAY_H
#define PERF_REPLAY_H

#include "gather.h"
#include "job.h"
#include "kvperf.h"
#include "kvpool.h"
#include "models.h"
#include "pattern.h"
#include "progress.h"
#include "replay_fit.h"
#include "route.h"
#include "trace.h"

#define REPLAY_START_NS INT64_C(120000000000) /* for a peer to take its pool's pages and be reached */

struct replay_opts {
	const char *trace, *model, *json, *transport; /* json, transport: NULL: not given */
	uint64_t requests;                            /* 0: all */
	uint64_t layers;                              /* 0: all of the model */
	uint64_t block_tokens;
	uint64_t window; /* requests under way per pair of ranks */
	uint64_t seed;
	uint64_t pool;     /* bytes per rank; 0: computed */
	uint64_t kv_bytes; /* per element; 0: the model's */
	double speed;      /* 0: as fast as the windows allow */
	int64_t timeout_ns, request_timeout_ns;
	enum perf_route_how route;
	enum perf_progress_mode progress;
	struct kvperf_side side[KVP_SIDES]; /* how instances cut the model; tp 0: a rank is an instance */
	char with_job[MC_JOB_MAX];          /* --with: the other role is a job of its own */
	uint32_t with_n;                    /* its ranks; 0: both roles are in this job */
	bool verify, huge, corrupt_one, help;
};

/* One stretch of bytes inside a block. */
struct replay_piece {
	uint64_t off, len;
};

struct replay {
	struct replay_opts o;
	struct perf_trace trace;
	struct perf_route route;
	const struct perf_model *model;
	uint32_t layers;
	uint32_t token_bytes; /* of one token in one layer */
	uint32_t block_tokens;
	uint32_t per_hash;      /* blocks per hash of the trace */
	uint64_t block_bytes;   /* of one block in one layer */
	struct replay_cut *cut; /* instances of several ranks (replay_cut.h); NULL: a rank is an instance */
	struct replay_fit fit;  /* --with: what the other job has to have in common with this one */
	uint64_t prepared_told; /* the process over there that knows that this job is prepared */
	uint64_t fit_told;      /* the process over there that has it */
	uint64_t *end_told;     /* decode: [with_n] the processes over there that know that this rank wants no more */
	struct perf_job job;
	struct perf_gather gather;
	struct perf_result res;
	uint32_t prefill_n, decode_n;     /* instances */
	uint32_t prefill_pos, decode_pos; /* which one this is; MC_NO_RANK: not in that role */
	struct mc_mem *mem;
	uint8_t *base;
	uint32_t pool_n; /* blocks */
	struct perf_pool pool;
	struct mc_rmem **rmem; /* prefill: [decode_n] pools of the decode ranks, NULL: lost */
	int64_t start_ns, deadline_ns;
	int64_t cpu_start_ns;
	bool stop; /* the run ends now */
};

/* replay_opts.c: false: err is set. */
bool replay_opts_parse(int argc, char **argv, struct replay_opts *o, struct perf_err *err);
void replay_help(void);

/* replay_setup.c */
bool replay_load(struct replay *r, struct perf_err *err); /* trace, model, shapes, routes */
uint64_t replay_trace_digest(const struct perf_trace *t);
uint64_t replay_digest(const struct replay *r); /* of all that the ranks of one job have to have in common */
uint64_t replay_pool_choose(struct replay *r, uint64_t avail, struct perf_err *err); /* sets pool_n; bytes */
void replay_judge_memory(struct perf_job *j, const struct perf_vote *vote, void *arg, struct perf_err *err);
bool replay_pools_open(struct replay *r, struct perf_err *err); /* allocate, publish, look up, connect */
void replay_free(struct replay *r);

/* Shapes. Blocks are numbered within a request. */
uint32_t replay_block_count(const struct replay *r, uint32_t request);
uint32_t replay_pieces(const struct replay *r, uint32_t request, uint32_t block, struct replay_piece out[2]);
uint64_t replay_bytes(const struct replay *r, uint32_t request,
		      uint32_t first_block); /* of its blocks from that one on */
uint64_t replay_offset(const struct replay *r, uint32_t layer, uint32_t pool_block, uint32_t pool_n);

/* replay.c */
int64_t replay_thread_cpu_ns(void);
void replay_stop(struct replay *r);    /* end the run on all ranks */
bool replay_overdue(struct replay *r); /* past --timeout: says so once and stops */
void replay_stopped_by(struct replay *r, const struct mc_note *note); /* another rank has ended the run */
/* A transfer that ended well. */
void replay_count_put(struct replay *r, struct mc_req *req, int64_t start_ns, struct perf_spans *spans);

void replay_prefill(struct replay *r); /* replay_prefill.c: the work of a prefill rank until nothing is left */
void replay_decode(struct replay *r);  /* replay_decode.c */
int replay_report(struct replay *r);   /* replay_report.c: at the leader; the job's exit code */

#endif

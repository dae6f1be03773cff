/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay_cut.h - `mcperf replay --src tp=..,pp=.. --dst tp=..,pp=..`: the prefill (decode) ranks form instances of tp *
 * pp ranks each, and a request goes from one instance to another through mc_reshard_start(), one mc_reshard per pair of
 * them.
 *
 * The first rank of an instance leads it: the one of a decode instance takes blocks, tells the leader of the prefill
 * instance and its own ranks which; the one of a prefill instance takes blocks, too, and tells its ranks both tables.
 * Each source pushes its part; each target learns from its counter that its parts are all there, and checks them. An
 * instance is nothing without one of its ranks: where one fails or dies, the run ends.
 */
#ifndef PERF_REPLAY_CUT_H
#define PERF_REPLAY_CUT_H

#include "kvperf.h"
#include "replay.h"

struct replay_cut {
	struct kvperf_shape shape; /* tokens: of no use here */
	int side;                  /* of this rank; -1: no role */
	uint32_t lanes[KVP_SIDES]; /* ranks of an instance */
	uint32_t lane;             /* of this rank in its instance; 0 leads */
	uint32_t far_n;            /* instances on the other side */
	struct mc_kv_layout layout;
	struct mc_kv_pool *pool;
	struct mc_reshard **reshard; /* [far_n] */
};

/* A request's blocks as notes carry them: the targets' and, within a prefill instance, the sources'. */
struct replay_table {
	struct replay_table *next;
	uint32_t request, from, tokens; /* from: rank that sent it; tokens to move, the last ones of the request */
	uint32_t dst_n, src_n, got;
	uint32_t *block; /* [dst_n + src_n] */
};

/* ---- replay_cut.c ---- */
bool replay_cut_load(struct replay *r, struct perf_err *err);
/* Do so many prefill and decode ranks make instances? */
bool replay_cut_ranks(const struct replay *r, const uint32_t n[KVP_SIDES], struct perf_err *err);
uint64_t replay_cut_digest(const struct replay *r);
uint64_t replay_cut_pool_choose(struct replay *r, struct perf_err *err);
bool replay_cut_pool_open(struct replay *r, struct perf_err *err);
bool replay_cut_reshard_open(struct replay *r, struct perf_err *err); /* once all ranks have their pools */
void replay_cut_free(struct replay *r);
/* Rank of the job of an instance's lane. */
uint32_t replay_cut_peer(const struct replay *r, int side, uint32_t instance, uint32_t lane);
bool replay_cut_leads(const struct replay *r);
/* Bytes that this rank holds of that many tokens. */
uint64_t replay_cut_bytes(const struct replay *r, uint32_t tokens);
struct kvperf_view replay_cut_view(const struct replay *r, uint32_t request, uint32_t tokens, const uint32_t *block);
/* Say what failed, count it, end the run. */
void replay_cut_fail(struct replay *r, uint32_t request, const char *what, mc_status_t s);
/* The two loops look for deaths. */
void replay_cut_watch(struct replay *r);
void replay_cut_tell_lanes(struct replay *r, uint64_t tag, const void *data, uint32_t len);

/* ---- replay_cut_table.c ---- */
struct replay_table *replay_table_new(uint32_t request, uint32_t tokens, uint32_t dst_n, uint32_t src_n);
void replay_table_free(struct replay_table *t);
/* To one rank, in as many notes as it takes. */
bool replay_table_send(struct replay *r, uint32_t peer, const struct replay_table *t);
/*
 * Take in a note. *open: tables that are not complete. true: *out is the complete table, or NULL if more is to come.
 * false: malformed.
 */
bool replay_table_take(struct replay *r, const struct mc_note *note, struct replay_table **open,
		       struct replay_table **out);
void replay_table_refuse(struct replay *r, const struct mc_note *note); /* malformed: say so and end the run */

void replay_cut_prefill(struct replay *r); /* replay_cut_prefill.c: until nothing is left */
void replay_cut_decode(struct replay *r);  /* replay_cut_decode.c */

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvperf.h - `mcperf kv`, inside: one sequence of a model moves from the pools of the prefill ranks, cut one way
 * (--src), to those of the decode ranks, cut another way (--dst), through mc_reshard_start(); every element is checked
 * there.
 *
 * A position (layer, K or V, token, head) of the model has the same content wherever it is stored, so the check needs
 * no knowledge of the other side's layout. Block tables are drawn at random from --seed, the same on all ranks.
 */
#ifndef PERF_KVPERF_H
#define PERF_KVPERF_H

#include "job.h"
#include "models.h"
#include "stats.h"

enum { KVP_SRC = 0, KVP_DST = 1, KVP_SIDES = 2 };
enum { KVP_TP_MAX = 1024, KVP_ITERS_MAX = 10000, KVP_NAME_MAX = 32, KVP_PLAN_RANKS = 256 };

/* How one side cuts and stores the cache. */
struct kvperf_side {
	uint64_t tp, pp;
	uint64_t block_tokens;
	uint32_t flags; /* enum mc_kv_layout_flags */
	enum mc_kv_dim order[MC_KV_NDIM];
	char layout[KVP_NAME_MAX]; /* as given */
};

enum kvperf_compute { KVP_SLEEP, KVP_SPIN };

struct kvperf_opts {
	const char *model, *json, *transport; /* json, transport: NULL: not given */
	struct kvperf_side side[KVP_SIDES];
	uint64_t tokens;
	uint64_t layers, heads, kv_bytes; /* 0: the model's */
	uint64_t per_push;                /* layers per request of the layer-wise way; 0: only whole sequences */
	uint64_t iters, seed;
	double compute_us; /* of simulated prefill per layer */
	enum kvperf_compute compute_by;
	int64_t timeout_ns; /* of one transfer */
	bool pull, verify, plan, huge, corrupt_one, help;
};

/* What is moved: the model, as far as it is taken. */
struct kvperf_shape {
	const struct perf_model *model;
	uint32_t layers, heads, head_dim, kv_n, elem_bytes, tokens;
	uint32_t vec; /* bytes of one element range: head_dim elements */
};

/* ---- kvperf_opts.c: false: err is set ---- */
bool kvperf_opts_parse(int argc, char **argv, struct kvperf_opts *o, struct perf_err *err);
void kvperf_help(void);

/* ---- kvperf_args.c ---- */
/* "tp=4,pp=2"; what is not named is 1. */
bool kvperf_parse_side(const char *what, const char *s, uint64_t *tp, uint64_t *pp, struct perf_err *err);
/* HND, NHD, CROSS, CROSS-HND or the letters L K B T H, outermost first; then +layers and +kv for bases of their own. */
bool kvperf_parse_layout(const char *what, const char *s, struct kvperf_side *side, struct perf_err *err);
/* The same for the same layout, whichever way it was given. */
void kvperf_layout_text(const struct kvperf_side *side, char text[KVP_NAME_MAX]);

/* ---- kvperf_shape.c: pure ---- */
bool kvperf_shape_set(const struct kvperf_opts *o, struct kvperf_shape *out, struct perf_err *err);
/* Blocks of the sequence, and of a pool: a few more, so that the table is a choice. */
uint32_t kvperf_table_n(const struct kvperf_shape *s, const struct kvperf_side *side);
uint32_t kvperf_pool_n(const struct kvperf_shape *s, const struct kvperf_side *side);
/* Pairs of blocks with tokens in common. */
uint64_t kvperf_block_pairs(const struct kvperf_shape *s, const struct kvperf_side *a, const struct kvperf_side *b);
/* The shard of rank `index` of a group of tp * pp ranks, neighbours in tp beside each other. */
bool kvperf_layout(const struct kvperf_shape *s, const struct kvperf_side *side, uint32_t index, uint32_t pool_n,
		   struct mc_kv_layout *out);
uint32_t kvperf_base_n(const struct mc_kv_layout *l);
uint64_t kvperf_extent(const struct mc_kv_layout *l); /* bytes of one base; dense layouts only */
/* Bytes of the sequence that a rank with this layout holds. */
uint64_t kvperf_shard_bytes(const struct kvperf_shape *s, const struct mc_kv_layout *l);
bool kvperf_table_make(uint64_t seed, int side, uint32_t pool_n, uint32_t *block_out, uint32_t n);

/* ---- kvperf_content.c: pure; memory of one rank as its layout orders it ---- */
enum { KVP_POISON = 0xa5 };

struct kvperf_view {
	const struct mc_kv_layout *layout;
	uint8_t *mem;          /* bases one after the other */
	const uint32_t *block; /* [table_n] */
	uint32_t tokens;
	uint64_t seed;
	uint32_t round; /* content of different rounds differs in every element */
};

/* The first wrong byte. */
struct kvperf_bad {
	uint32_t layer, kv, token, head;
	struct {
		uint64_t off;
		uint8_t expected, actual;
	} byte;
};

uint8_t *kvperf_place(const struct kvperf_view *v, uint32_t layer, uint32_t kv, uint32_t token, uint32_t head);
/* Those of the model's layers [layer_lo, +layer_n) that the rank holds. */
void kvperf_fill(const struct kvperf_view *v, uint32_t layer_lo, uint32_t layer_n);
/* false: *bad_out is set. *bytes_out: how many were compared. */
bool kvperf_check(const struct kvperf_view *v, struct kvperf_bad *bad_out, uint64_t *bytes_out);
void kvperf_poison(const struct kvperf_view *v);
/*
 * Bytes outside the sequence (blocks that are not in the table, tokens behind the last one) that are not poison any
 * more; UINT64_MAX: out of memory.
 */
uint64_t kvperf_stray(const struct kvperf_view *v);

/* ---- a run ---- */
enum kvperf_kind { KVP_WHOLE, KVP_AT_END, KVP_BY_LAYER, KVP_PROBE, KVP_KINDS };

/* What one rank measured of one iteration. */
#define KVP_RECORD_MAP(X)                                                                                              \
	X(kind)                                                                                                        \
	X(bytes) /* of requests that this rank started */                                                              \
	X(runs)                                                                                                        \
	X(parts)      /* pairs of blocks, times layers, in them */                                                     \
	X(post_ns)    /* inside mc_reshard_start() */                                                                  \
	X(done_ns)    /* from the common start until all that concerns this rank was there or sent */                  \
	X(compute_ns) /* of done_ns: simulated prefill */                                                              \
	X(cpu_ns)     /* of the process, from the common start until all ranks were done */                            \
	X(verified)   /* bytes */                                                                                      \
	X(probe_ns)   /* inside a start whose copying has to wait for another request */                               \
	X(stray)      /* bytes outside the sequence that were written */

struct kvperf_record {
#define KVP_RECORD_FIELD(name) uint64_t name;
	KVP_RECORD_MAP(KVP_RECORD_FIELD)
#undef KVP_RECORD_FIELD
};

struct kvperf {
	struct kvperf_opts o;
	struct kvperf_shape shape;
	struct perf_job job;
	struct mc_group *group[KVP_SIDES]; /* borrowed from job */
	int side;                          /* of this rank */
	uint32_t pos;                      /* in its group */
	uint32_t rank_n[KVP_SIDES], pool_n[KVP_SIDES], table_n[KVP_SIDES];
	uint32_t *table[KVP_SIDES];
	struct mc_kv_layout layout;
	struct mc_mem *mem, *result_mem;
	struct mc_kv_pool *pool;
	struct mc_reshard *reshard;
	struct kvperf_view view;
	struct kvperf_record *record; /* [record_n] in result_mem; at rank 0 those of all ranks */
	uint32_t record_n;
	uint64_t record_len, word_off; /* bytes of one rank's records; where in result_mem the ranks' words are */
	uint64_t parts;                /* pairs of blocks, times layers, of a request for all layers of this rank */
	uint64_t tag;
	bool failed;
};

/* kvperf_setup.c */
bool kvperf_load(struct kvperf *k, struct perf_err *err);
uint64_t kvperf_digest(const struct kvperf *k);
uint64_t kvperf_need(const struct kvperf *k); /* bytes of memory of this rank */
void kvperf_judge(struct perf_job *j, const struct perf_vote *vote, void *arg, struct perf_err *err);
bool kvperf_pool_open(struct kvperf *k, struct perf_err *err);
bool kvperf_reshard_open(struct kvperf *k, struct perf_err *err); /* once all ranks have their pools */
void kvperf_close(struct kvperf *k);
struct mc_kv_request kvperf_request(const struct kvperf *k, uint64_t tag, uint32_t layer_lo, uint32_t layer_n);

/* kvperf_run.c: all iterations; false: it failed somewhere, said there. */
bool kvperf_run(struct kvperf *k);
/* kvperf_move.c: the moving part of one iteration, between two barriers. */
bool kvperf_move(struct kvperf *k, enum kvperf_kind kind, struct kvperf_record *rec);
int64_t kvperf_cpu_ns(void);
void kvperf_fail(struct kvperf *k, const char *what, mc_status_t s);

/* kvperf_report.c: at rank 0; the exit code */
struct perf_report;
int kvperf_report(struct kvperf *k, bool good);
struct perf_report *kvperf_report_new(const struct kvperf *k);
void kvperf_say_totals(struct perf_report *rep, const struct mc_kv_totals *t);
void kvperf_say_setup(struct perf_report *rep, const struct kvperf *k);
int kvperf_report_write(const struct kvperf *k, struct perf_report *rep, bool good); /* frees it */

/* kvperf_plan.c: all ranks of the plan as contexts of this process; the exit code */
int kvperf_plan(struct kvperf *k);
mc_status_t kvperf_totals(const struct kvperf *k, struct mc_kv_totals *sum); /* over all pairs of ranks */

#endif

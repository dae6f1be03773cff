/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sweep.h - `mcperf bw` and `mcperf lat`, inside: points of (block size, blocks per request), each measured in several
 * runs that alternate with the same bytes as one block and, if asked for, with the machine's own limits.
 *
 * A flow goes from an initiator to a target; a lane is a flow as one thread of the initiator drives it. Each lane has
 * an area of its own where the bytes come from and one where they go to, larger than the caches, and in them tables of
 * blocks at random that do not overlap, so that what each block must hold in the end is known exactly.
 */
#ifndef PERF_SWEEP_H
#define PERF_SWEEP_H

#include "header.h"
#include "job.h"
#include "matrix.h"
#include "ref.h"
#include "stats.h"

enum { SWEEP_SIZES = 64, SWEEP_RUNS = 99, SWEEP_WINDOW = 1024, SWEEP_THREADS = 256 };
#define SWEEP_WAIT_NS INT64_C(60000000000) /* no request and no other rank may need longer */

enum sweep_op { SWEEP_PUT, SWEEP_GET, SWEEP_PUT_NOTE };
enum sweep_pattern { SWEEP_PAIR, SWEEP_MANY_TO_ONE, SWEEP_ONE_TO_MANY, SWEEP_MATRIX };
enum sweep_table { SWEEP_RANDOM, SWEEP_ADJACENT };
enum sweep_memory { SWEEP_POOL, SWEEP_OWN };
enum sweep_how { SWEEP_EACH, SWEEP_LIST, SWEEP_SOME }; /* mc_put(), mc_dlist_put(), mc_dlist_put_some() */

struct sweep_opts {
	const char *cmd; /* "bw" or "lat" */
	bool lat;
	uint64_t size[SWEEP_SIZES], batch[SWEEP_SIZES];
	uint32_t size_n, batch_n;
	uint64_t window, threads, runs, seed, pool;
	uint64_t iters;  /* requests per lane and run; 0: by duration (bw) or size (lat) */
	uint64_t warmup; /* requests per lane before the first run */
	int64_t duration_ns;
	enum sweep_op op;
	enum sweep_pattern pattern;
	enum sweep_table table;
	enum sweep_memory memory;
	enum sweep_how how;
	int unit;                                                                /* index for sweep_unit_name() */
	const char *matrix, *json, *csv, *plot, *transport, *backend, *progress; /* NULL: not given */
	bool bidir, verify, reference, bulk, huge, poll, corrupt_one, help;
};

struct sweep_flow {
	uint32_t from, to; /* who posts, and to whom */
	uint64_t bytes;    /* per request; 0: batch blocks */
};

struct sweep_lane {
	uint32_t flow, thread;
	uint32_t src_rank, dst_rank; /* where bytes come from and go to */
	uint32_t src_area, dst_area; /* which area of those ranks */
};

/* Who sends to whom, and where. Pure: the same on every rank. */
struct sweep_plan {
	struct sweep_flow *flow;
	struct sweep_lane *lane;
	uint32_t flow_n, lane_n;
	uint32_t *area_n; /* [ranks] areas of each */
	uint32_t area_max;
	uint64_t area_len; /* bytes, of every area */
	uint64_t window;
};

/* Shape of a request of a lane at one point. */
struct sweep_shape {
	uint64_t size;   /* of a block */
	uint64_t blocks; /* per request */
	uint64_t bytes;  /* per request: the last block may be shorter */
	uint64_t stride; /* of blocks in an area: size, rounded up to 8 */
	uint64_t tables; /* distinct requests in an area */
};

/* Where block b of request i lies; requests i and i + tables write to the same places, from others. */
struct sweep_tables {
	struct sweep_shape shape;
	uint32_t *src[2], *dst; /* [tables * blocks] places in units of stride; src: for odd and even rounds */
};

/* What one rank has to say about one run. */
#define SWEEP_RESULT_MAP(X)                                                                                            \
	X(bytes)                                                                                                       \
	X(reqs)                                                                                                        \
	X(blocks)                                                                                                      \
	X(busy_ns) /* from the start to the end of its last request */                                                 \
	X(post_ns) /* inside mc_put() and mc_get() */                                                                  \
	X(cpu_ns)  /* of the process, from the start to the end of the run */                                          \
	X(wrong)   /* blocks */                                                                                        \
	X(checked) /* bytes */                                                                                         \
	X(failed)  /* requests */

struct sweep_result {
#define SWEEP_RESULT_FIELD(name) uint64_t name;
	SWEEP_RESULT_MAP(SWEEP_RESULT_FIELD)
#undef SWEEP_RESULT_FIELD
};

/* A figure over several runs. */
struct sweep_figure {
	double v[SWEEP_RUNS];
	uint32_t n;
};

struct sweep_row {
	struct sweep_shape shape;
	uint64_t iters;
	struct sweep_figure gbps, cpu_us; /* per run; CPU per block, all ranks */
	struct sweep_result sum;          /* of all runs */
	double total_s;
	struct sweep_figure bulk, bulk_cpu;             /* CPU of all ranks per block's worth of bytes */
	struct sweep_figure ref[REF_N], ref_cpu[REF_N]; /* CPU: us per block; TCP: s per GiB, both sides */
	struct perf_samples samples, post;              /* ns, of requests; inside mc_put() or mc_get() */
	uint64_t rss_kib,
		anon_kib; /* of the rank that has most, so far; anon: without pools and what is mapped of peers */
	bool verified;
};

struct sweep {
	struct sweep_opts o;
	struct perf_job job;
	struct perf_matrix matrix;
	struct sweep_plan plan;
	struct mc_mem *mem, *ref_mem;
	uint8_t *base, *ref_base;
	uint64_t mem_len;
	void *own, *ref_own;       /* what --memory own mapped */
	struct mc_rmem **rmem;     /* [ranks] NULL: not needed */
	struct mc_counter **count; /* [lanes] arrivals, at the target */
	uint64_t *counted;         /* [lanes] so far */
	struct ref_link ref;
	uint32_t ref_peer;          /* with rank 0; MC_NO_RANK: no references */
	uint64_t *its;              /* [lanes] requests of the run in hand */
	bool *its_known;            /* [lanes] */
	uint32_t results;           /* leader: that came in for the run in hand */
	struct sweep_result got;    /* leader: their sum; busy_ns: the longest */
	struct sweep_row *collect;  /* leader: where samples of others go */
	uint64_t rss_kib, anon_kib; /* leader: the most of any rank */
	struct sweep_lane_run *run; /* [lanes] of this rank's work; others unused */
	char link[MC_NAME_MAX];
	struct sweep_out *out; /* leader */
	struct perf_header header;
	bool no_samples, failed;
};

/* One lane at work. */
struct sweep_lane_run {
	struct sweep *s;
	uint32_t lane;
	struct sweep_tables t;
	struct mc_slice *slice[2]; /* [tables * blocks] */
	struct mc_dlist **list;    /* SWEEP_LIST: [2 * tables]; SWEEP_SOME: [1], of all entries of both */
	uint32_t list_n, *number;  /* SWEEP_SOME: [2 * tables * blocks] */
	uint64_t its;              /* requests ended */
	uint64_t post_ns;
	struct perf_samples samples, post;
	uint64_t sample_every, sample_skip;
	bool failed;
};

/* sweep_opts.c */
bool sweep_opts_parse(int argc, char **argv, bool lat, struct sweep_opts *o, struct perf_err *err);
void sweep_help(bool lat);
const char *sweep_op_name(enum sweep_op op);
const char *sweep_how_name(enum sweep_how how);
const char *sweep_unit_name(int unit);
double sweep_unit_scale(int unit); /* multiply GB/s by it */

/* sweep_plan.c */
bool sweep_plan_make(const struct sweep_opts *o, uint32_t ranks, const struct perf_matrix *matrix,
		     struct sweep_plan *out, struct perf_err *err);
void sweep_plan_free(struct sweep_plan *p);
struct sweep_shape sweep_shape_of(const struct sweep_plan *p, uint32_t lane, uint64_t size, uint64_t batch);
struct sweep_shape sweep_shape_bulk(const struct sweep_plan *p, const struct sweep_shape *paged); /* as one block */
bool sweep_tables_make(const struct sweep_shape *shape, enum sweep_table how, uint64_t seed, struct sweep_tables *out);
void sweep_tables_free(struct sweep_tables *t);
/* Bytes of block b of a request, and where they come from and go to in the areas in request number i. */
uint64_t sweep_block_len(const struct sweep_shape *shape, uint64_t b);
uint64_t sweep_block_src(const struct sweep_tables *t, uint64_t i, uint64_t b);
uint64_t sweep_block_dst(const struct sweep_tables *t, uint64_t i, uint64_t b);
/* Most blocks any request has, and whether that is within what tables take. */
uint64_t sweep_most_bytes(const struct sweep_opts *o, const struct sweep_plan *p);

/* sweep_mem.c */
uint64_t sweep_mem_need(const struct sweep *s);
bool sweep_mem_open(struct sweep *s, struct perf_err *err);
void sweep_mem_close(struct sweep *s);
uint8_t *sweep_area(const struct sweep *s, uint32_t area);

/* sweep_check.c: content of an area; false from check: some byte was wrong, said on stderr. */
void sweep_fill(struct sweep *s);
void sweep_poison(struct sweep *s);
void sweep_check(struct sweep *s, const struct sweep_tables *t, uint32_t lane, uint64_t its, struct sweep_result *res);

/* sweep_drive.c: the requests of this rank's lanes; res gets what they cost. */
void sweep_drive(struct sweep *s, uint64_t iters, int64_t duration_ns, struct sweep_result *res);
void sweep_sample(struct sweep_lane_run *r, uint64_t ns, uint64_t post_ns);
struct mc_req *sweep_post(struct sweep_lane_run *r, uint64_t i); /* request number i; NULL: failed, said */
/* start_ns: now, read before; 0: nobody asks how long the call takes. Reading the clock is a tenth of a short put. */
struct mc_req *sweep_post_at(struct sweep_lane_run *r, uint64_t i, int64_t start_ns);
void sweep_reap(struct sweep_lane_run *r, struct mc_req *req, bool sample);
/* lat.c: the same, one request at a time and to and fro */
void lat_drive(struct sweep *s, uint64_t iters, struct sweep_result *res);

/* sweep_run.c: all points. */
int sweep_main(int argc, char **argv, bool lat);

/* sweep_point.c: one point; false: the job cannot go on. */
bool sweep_point(struct sweep *s, uint64_t size, uint64_t batch, struct sweep_row *row);
double sweep_best(const struct sweep_figure *f);
double sweep_least(const struct sweep_figure *f);
double sweep_median(const struct sweep_figure *f);

/* sweep_out.c: table, CSV, JSON lines, plot */
struct sweep_out *sweep_out_open(struct sweep *s, struct perf_err *err);
void sweep_out_row(struct sweep_out *out, struct sweep *s, struct sweep_row *row);
bool sweep_out_close(struct sweep_out *out, struct sweep *s, struct perf_err *err);

#endif

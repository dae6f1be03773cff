/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_beside_mpi.c - the same collectives on the same buffers, with mc and with MPI in turn, in the same processes.
 *
 * usage: mpirun -n N coll_beside_mpi [--op allgather,alltoall,bcast] [-b 8] [-e 16M] [-f 2] [--rounds 7] [--json FILE]
 *
 * Each round times a number of calls of one library and then of the other; each call follows a barrier of the same
 * library and is timed on each rank from call to return; a round's figure is the mean of the slowest rank. The ratio is
 * that of the medians over the rounds, "best" that of the least. After the rounds both results are compared byte by
 * byte. Run it under mpirun, so that MPI knows when ranks share a core and gives way.
 */
#include <getopt.h>
#include <inttypes.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mc.h"
#include "perftext.h"

enum { ROUNDS_MAX = 99, OPS = 4 };

struct opts {
	bool op[OPS];
	uint64_t begin, end, factor, rounds;
	const char *json;
};

struct side {
	double us[ROUNDS_MAX]; /* per round, slowest rank */
};

struct run {
	struct opts o;
	struct mc_ctx *ctx;
	struct mc_group *g;
	int rank, n;
	struct mc_mem *src, *dst;
	uint8_t *expect; /* MPI's result */
	FILE *json;
	bool first, wrong;
};

static const char *const op_name[OPS] = {"allgather", "alltoall", "bcast", "barrier"};
enum { ALLGATHER, ALLTOALL, BCAST, BARRIER };

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static bool parse_ops(struct opts *o, char *list)
{
	memset(o->op, 0, sizeof(o->op));
	for (char *save = NULL, *w = strtok_r(list, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) {
		int i = 0;
		while (i < OPS && strcmp(w, op_name[i]) != 0)
			i++;
		if (i == OPS)
			return false;
		o->op[i] = true;
	}
	return true;
}

static bool parse(struct opts *o, int argc, char **argv)
{
	static const struct option longs[] = {{"op", required_argument, NULL, 'o'},
					      {"begin", required_argument, NULL, 'b'},
					      {"end", required_argument, NULL, 'e'},
					      {"factor", required_argument, NULL, 'f'},
					      {"rounds", required_argument, NULL, 'r'},
					      {"json", required_argument, NULL, 'j'},
					      {NULL, 0, NULL, 0}};
	bool ok = true;
	int c;
	*o = (struct opts){.op = {true, true, true}, .begin = 8, .end = 16 << 20, .factor = 2, .rounds = 7};
	while (ok && (c = getopt_long(argc, argv, "b:e:f:", longs, NULL)) != -1) {
		if (c == 'o')
			ok = parse_ops(o, optarg);
		else if (c == 'b')
			ok = perf_parse_size(optarg, &o->begin);
		else if (c == 'e')
			ok = perf_parse_size(optarg, &o->end);
		else if (c == 'f')
			ok = perf_parse_u64(optarg, 2, 1024, &o->factor);
		else if (c == 'r')
			ok = perf_parse_u64(optarg, 1, ROUNDS_MAX, &o->rounds);
		else if (c == 'j')
			o->json = optarg;
		else
			ok = false;
	}
	return ok && optind == argc && o->begin > 0 && o->begin <= o->end && o->end <= (1 << 30);
}

static uint64_t sent(const struct run *r, int op, uint64_t len)
{
	return op == ALLTOALL ? len * (uint64_t)r->n : len;
}

static uint64_t received(const struct run *r, int op, uint64_t len)
{
	return op == BCAST ? len : len * (uint64_t)r->n;
}

static void call_mpi(struct run *r, int op, uint64_t len)
{
	uint8_t *s = mc_mem_addr(r->src), *d = mc_mem_addr(r->dst);
	int n = (int)len;
	if (op == ALLGATHER)
		MPI_Allgather(s, n, MPI_BYTE, d, n, MPI_BYTE, MPI_COMM_WORLD);
	else if (op == ALLTOALL)
		MPI_Alltoall(s, n, MPI_BYTE, d, n, MPI_BYTE, MPI_COMM_WORLD);
	else if (op == BCAST)
		MPI_Bcast(r->rank == 0 ? s : d, n, MPI_BYTE, 0, MPI_COMM_WORLD);
	else
		MPI_Barrier(MPI_COMM_WORLD);
}

static mc_status_t call_mc(struct run *r, int op, uint64_t len)
{
	struct mc_buf s = {r->src, 0}, d = {r->dst, 0};
	if (op == ALLGATHER)
		return mc_allgather(r->g, s, d, len, NULL);
	if (op == ALLTOALL)
		return mc_alltoall(r->g, s, d, len, NULL);
	if (op == BCAST)
		return mc_bcast(r->g, 0, r->rank == 0 ? s : d, len, NULL);
	return mc_barrier(r->g, MC_FOREVER);
}

static void must(mc_status_t s, const char *what)
{
	if (s == MC_OK)
		return;
	fprintf(stderr, "coll_beside_mpi: %s: %s\n", what, mc_status_text(s));
	MPI_Abort(MPI_COMM_WORLD, 1);
}

/* Mean time of the slowest rank, in us. */
static double round_of(struct run *r, int op, uint64_t len, uint64_t iters, bool mc)
{
	double sum = 0, slowest = 0;
	for (uint64_t i = 0; i < iters; i++) {
		if (mc)
			must(mc_barrier(r->g, MC_FOREVER), "barrier");
		else
			MPI_Barrier(MPI_COMM_WORLD);
		double start = MPI_Wtime();
		if (mc)
			must(call_mc(r, op, len), op_name[op]);
		else
			call_mpi(r, op, len);
		sum += MPI_Wtime() - start;
	}
	sum = sum * 1e6 / (double)iters;
	MPI_Allreduce(&sum, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
	return slowest;
}

static void fill(struct run *r, int op, uint64_t len)
{
	uint8_t *s = mc_mem_addr(r->src);
	for (uint64_t i = 0, n = sent(r, op, len); i < n; i++)
		s[i] = (uint8_t)((i * 0x9e3779b1u + (uint64_t)r->rank * 0x85ebca6bu + 7) >> 5);
}

/* One call of each, with the target cleared before: results must be the same. */
static bool same(struct run *r, int op, uint64_t len)
{
	uint64_t n = received(r, op, len);
	uint8_t *d = mc_mem_addr(r->dst);
	memset(d, 0x55, n);
	call_mpi(r, op, len);
	memcpy(r->expect, d, n);
	memset(d, 0xaa, n);
	must(mc_barrier(r->g, MC_FOREVER), "barrier"); /* peers write into d as soon as they call */
	must(call_mc(r, op, len), op_name[op]);
	int equal = (op == BCAST && r->rank == 0) || op == BARRIER || memcmp(d, r->expect, n) == 0, all = 0;
	MPI_Allreduce(&equal, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
	return all != 0;
}

static uint64_t iterations(const struct run *r, int op, uint64_t len)
{
	uint64_t bytes = received(r, op, len) * (uint64_t)r->n;
	return bytes > (64 << 20) ? 3 : bytes > (4 << 20) ? 10 : bytes > (256 << 10) ? 60 : 400;
}

static void report(struct run *r, int op, uint64_t len, struct side *mc, struct side *mpi, bool equal)
{
	uint64_t n = r->o.rounds;
	qsort(mc->us, n, sizeof(double), compare_double);
	qsort(mpi->us, n, sizeof(double), compare_double);
	double m = mc->us[n / 2], p = mpi->us[n / 2], best = mc->us[0] / mpi->us[0];
	const char *algo = op == BARRIER ? "-"
					 : mc_coll_algorithm(r->g,
							     op == ALLGATHER  ? MC_COLL_ALLGATHER
							     : op == ALLTOALL ? MC_COLL_ALLTOALL
									      : MC_COLL_BCAST,
							     len);
	r->wrong = r->wrong || !equal;
	if (r->rank != 0)
		return;
	printf("%-10s %10" PRIu64 " %12.2f %12.2f %8.2f %8.2f  %-10s %s\n", op_name[op], len, m, p, m / p, best, algo,
	       equal ? "yes" : "NO");
	fflush(stdout);
	if (r->json == NULL)
		return;
	fprintf(r->json,
		"{\"op\": \"%s\", \"ranks\": %d, \"bytes\": %" PRIu64 ", \"mc_us\": %.3f, \"mpi_us\": %.3f, "
		"\"mc_best_us\": %.3f, \"mpi_best_us\": %.3f, \"ratio\": %.4f, \"algorithm\": \"%s\", \"equal\": %s}\n",
		op_name[op], r->n, len, m, p, mc->us[0], mpi->us[0], m / p, algo, equal ? "true" : "false");
}

static void measure(struct run *r, int op, uint64_t len)
{
	struct side mc, mpi;
	uint64_t iters = iterations(r, op, len);
	fill(r, op, len);
	bool equal = same(r, op, len);
	for (uint64_t i = 0; i <= r->o.rounds; i++) {
		uint64_t at = i == 0 ? 0 : i - 1; /* the first round warms up */
		mpi.us[at] = round_of(r, op, len, iters, false);
		mc.us[at] = round_of(r, op, len, iters, true);
	}
	report(r, op, len, &mc, &mpi, equal);
}

static void set_up(struct run *r)
{
	must(mc_init(NULL, &r->ctx), "mc_init");
	r->g = mc_group_world(r->ctx);
	MPI_Comm_rank(MPI_COMM_WORLD, &r->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &r->n);
	uint64_t room = r->o.end * (uint64_t)r->n;
	must(r->rank == (int)mc_rank(r->ctx) && r->n == (int)mc_size(r->ctx) ? MC_OK : MC_ERR_BOOT,
	     "MPI and mc number the ranks differently");
	must(mc_mem_alloc(r->ctx, room, NULL, &r->src), "memory");
	must(mc_mem_alloc(r->ctx, room, NULL, &r->dst), "memory");
	r->expect = malloc(room);
	must(r->expect != NULL ? MC_OK : MC_ERR_NOMEM, "memory");
	memset(mc_mem_addr(r->dst), 0, room);
	if (r->rank == 0 && r->o.json != NULL) {
		r->json = fopen(r->o.json, "w");
		must(r->json != NULL ? MC_OK : MC_ERR_INVAL, r->o.json);
	}
}

int main(int argc, char **argv)
{
	struct run r = {.ctx = NULL};
	if (!parse(&r.o, argc, argv)) {
		fprintf(stderr, "usage: mpirun -n N coll_beside_mpi [--op allgather,alltoall,bcast,barrier] [-b 8] "
				"[-e 16M] [-f 2] [--rounds 7] [--json FILE]\n");
		return 2;
	}
	MPI_Init(&argc, &argv);
	set_up(&r);
	if (r.rank == 0)
		printf("# %d ranks, %" PRIu64 " rounds each\n%-10s %10s %12s %12s %8s %8s  %-10s %s\n", r.n, r.o.rounds,
		       "collective", "bytes", "mc us", "MPI us", "ratio", "best", "algorithm", "equal");
	for (int op = 0; op < OPS; op++)
		for (uint64_t len = r.o.begin; r.o.op[op] && len <= r.o.end; len *= r.o.factor) {
			measure(&r, op, len);
			if (op == BARRIER)
				break;
		}
	if (r.json != NULL && fclose(r.json) != 0)
		r.wrong = true;
	must(mc_barrier(r.g, MC_FOREVER), "barrier");
	mc_finalize(r.ctx);
	MPI_Finalize();
	free(r.expect);
	return r.wrong ? 1 : 0;
}

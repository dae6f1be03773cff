/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mpi_compare.c - usage: mpirun -n N mpi_compare SEED DIR             the cases of compare.h with MPI; results to
 * DIR/mpi.RANK mpirun -n N mpi_compare time OP FIRST LAST FACTOR   mean time per size, as mcperf coll takes it
 */
#include <mpi.h>

#include "compare.h"

#define ROOM ((size_t)CMP_RANKS_MAX * (CMP_LEN_MAX + CMP_GAP))

struct run {
	int rank, n;
	uint8_t *src, *dst;
	int slen[CMP_RANKS_MAX], soff[CMP_RANKS_MAX], dlen[CMP_RANKS_MAX], doff[CMP_RANKS_MAX], send, dend;
};

static void shape(struct run *r, const struct compare_case *c)
{
	bool all = c->op == CMP_ALLTOALL || c->op == CMP_ALLTOALLV;
	bool v = c->op == CMP_SCATTERV || c->op == CMP_GATHERV || c->op == CMP_ALLGATHERV || c->op == CMP_ALLTOALLV;
	r->send = r->dend = 0;
	for (int i = 0; i < r->n; i++) {
		r->slen[i] = (int)c->len[all ? r->rank : 0][i];
		r->dlen[i] = (int)c->len[all ? i : 0][all ? r->rank : i];
		r->soff[i] = r->send;
		r->doff[i] = r->dend;
		r->send += r->slen[i] + (v ? CMP_GAP : 0);
		r->dend += r->dlen[i] + (v ? CMP_GAP : 0);
	}
}

static void run_case(struct run *r, const struct compare_case *c)
{
	MPI_Comm w = MPI_COMM_WORLD;
	int own = (int)c->len[0][r->rank], root = (int)c->root;
	switch (c->op) {
	case CMP_BCAST:
		MPI_Bcast(r->rank == root ? r->src : r->dst, own, MPI_BYTE, root, w);
		break;
	case CMP_SCATTER:
		MPI_Scatter(r->src, own, MPI_BYTE, r->dst, own, MPI_BYTE, root, w);
		break;
	case CMP_SCATTERV:
		MPI_Scatterv(r->src, r->slen, r->soff, MPI_BYTE, r->dst, own, MPI_BYTE, root, w);
		break;
	case CMP_GATHER:
		MPI_Gather(r->src, own, MPI_BYTE, r->dst, own, MPI_BYTE, root, w);
		break;
	case CMP_GATHERV:
		MPI_Gatherv(r->src, own, MPI_BYTE, r->dst, r->dlen, r->doff, MPI_BYTE, root, w);
		break;
	case CMP_ALLGATHER:
		MPI_Allgather(r->src, own, MPI_BYTE, r->dst, own, MPI_BYTE, w);
		break;
	case CMP_ALLGATHERV:
		MPI_Allgatherv(r->src, own, MPI_BYTE, r->dst, r->dlen, r->doff, MPI_BYTE, w);
		break;
	case CMP_ALLTOALL:
		MPI_Alltoall(r->src, r->slen[0], MPI_BYTE, r->dst, r->dlen[0], MPI_BYTE, w);
		break;
	default:
		MPI_Alltoallv(r->src, r->slen, r->soff, MPI_BYTE, r->dst, r->dlen, r->doff, MPI_BYTE, w);
		break;
	}
}

static int compare(struct run *r, uint64_t seed, const char *dir)
{
	static struct compare_case c;
	char path[4096];
	snprintf(path, sizeof(path), "%s/mpi.%d", dir, r->rank);
	FILE *to = fopen(path, "w");
	r->src = malloc(ROOM);
	r->dst = malloc(ROOM);
	if (to == NULL || r->src == NULL || r->dst == NULL || r->n > CMP_RANKS_MAX)
		return 2;
	for (uint32_t i = 0; i < CMP_CASES; i++) {
		compare_make(&c, seed, i, (uint32_t)r->n);
		shape(r, &c);
		compare_fill(r->src, r->send > CMP_LEN_MAX ? (uint64_t)r->send : CMP_LEN_MAX, &c, (uint32_t)r->rank);
		size_t room = r->dend > CMP_LEN_MAX ? (size_t)r->dend : CMP_LEN_MAX;
		memset(r->dst, 0xee, room);
		run_case(r, &c);
		compare_print(to, i, &c, (uint32_t)r->rank, r->dst, room);
	}
	return fclose(to) == 0 ? 0 : 1;
}

static void one(struct run *r, const char *op, int len)
{
	if (strcmp(op, "bcast") == 0)
		MPI_Bcast(r->rank == 0 ? r->src : r->dst, len, MPI_BYTE, 0, MPI_COMM_WORLD);
	else if (strcmp(op, "allgather") == 0)
		MPI_Allgather(r->src, len, MPI_BYTE, r->dst, len, MPI_BYTE, MPI_COMM_WORLD);
	else if (strcmp(op, "alltoall") == 0)
		MPI_Alltoall(r->src, len, MPI_BYTE, r->dst, len, MPI_BYTE, MPI_COMM_WORLD);
}

static int measure(struct run *r, const char *op, size_t first, size_t last, size_t factor)
{
	size_t blocks = strcmp(op, "bcast") == 0 ? 1 : (size_t)r->n, room = last * blocks;
	r->src = malloc(room);
	r->dst = malloc(room);
	if (r->src == NULL || r->dst == NULL || factor < 2 || first == 0)
		return 2;
	memset(r->src, 1, room);
	memset(r->dst, 2, room);
	for (size_t len = first; len <= last; len *= factor) {
		size_t bytes = len * blocks * (size_t)r->n;
		long iters = bytes > (64u << 20) ? 10 : bytes > (4u << 20) ? 40 : bytes > (256u << 10) ? 300 : 3000;
		double sum = 0, us, least, most, all;
		for (long i = -(iters / 10 + 2); i < iters; i++) {
			MPI_Barrier(MPI_COMM_WORLD);
			double start = MPI_Wtime();
			one(r, op, (int)len);
			sum += i >= 0 ? MPI_Wtime() - start : 0;
		}
		us = sum * 1e6 / (double)iters;
		MPI_Reduce(&us, &least, 1, MPI_DOUBLE, MPI_MIN, 0, MPI_COMM_WORLD);
		MPI_Reduce(&us, &most, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
		MPI_Reduce(&us, &all, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
		if (r->rank == 0)
			printf("%12zu %8ld %12.2f %12.2f %12.2f\n", len, iters, least, all / r->n, most);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct run r = {.rank = 0};
	int end = 2;
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &r.rank);
	MPI_Comm_size(MPI_COMM_WORLD, &r.n);
	if (argc == 3)
		end = compare(&r, strtoull(argv[1], NULL, 10), argv[2]);
	else if (argc == 6 && strcmp(argv[1], "time") == 0)
		end = measure(&r, argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10),
			      strtoull(argv[5], NULL, 10));
	if (end != 0)
		fprintf(stderr, "mpi_compare: usage, memory or file\n");
	MPI_Finalize();
	return end;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* run_compare.c - usage: mcrun -n N run_compare SEED DIR   the cases of compare.h with mc; results to DIR/mc.RANK. */
#include "compare.h"
#include "mc.h"

#define ROOM ((uint64_t)CMP_RANKS_MAX * (CMP_LEN_MAX + CMP_GAP))

struct run {
	struct mc_group *g;
	uint32_t rank, n;
	struct mc_mem *src, *dst;
	uint64_t slen[CMP_RANKS_MAX], soff[CMP_RANKS_MAX], dlen[CMP_RANKS_MAX], doff[CMP_RANKS_MAX], send, dend;
};

static void shape(struct run *r, const struct compare_case *c)
{
	bool all = c->op == CMP_ALLTOALL || c->op == CMP_ALLTOALLV;
	bool v = c->op == CMP_SCATTERV || c->op == CMP_GATHERV || c->op == CMP_ALLGATHERV || c->op == CMP_ALLTOALLV;
	r->send = r->dend = 0;
	for (uint32_t i = 0; i < r->n; i++) {
		r->slen[i] = c->len[all ? r->rank : 0][i];
		r->dlen[i] = c->len[all ? i : 0][all ? r->rank : i];
		r->soff[i] = r->send;
		r->doff[i] = r->dend;
		r->send += r->slen[i] + (v ? CMP_GAP : 0);
		r->dend += r->dlen[i] + (v ? CMP_GAP : 0);
	}
}

static mc_status_t run_case(struct run *r, const struct compare_case *c)
{
	struct mc_buf s = {r->src, 0}, d = {r->dst, 0};
	uint64_t own = c->len[0][r->rank];
	switch (c->op) {
	case CMP_BCAST:
		return mc_bcast(r->g, c->root, r->rank == c->root ? s : d, own, NULL);
	case CMP_SCATTER:
		return mc_scatter(r->g, c->root, s, d, own, NULL);
	case CMP_SCATTERV:
		return mc_scatterv(r->g, c->root, s, r->slen, r->soff, d, own, NULL);
	case CMP_GATHER:
		return mc_gather(r->g, c->root, s, d, own, NULL);
	case CMP_GATHERV:
		return mc_gatherv(r->g, c->root, s, own, d, r->dlen, r->doff, NULL);
	case CMP_ALLGATHER:
		return mc_allgather(r->g, s, d, own, NULL);
	case CMP_ALLGATHERV:
		return mc_allgatherv(r->g, s, d, r->dlen, r->doff, NULL);
	case CMP_ALLTOALL:
		return mc_alltoall(r->g, s, d, c->len[0][0], NULL);
	default:
		return mc_alltoallv(r->g, s, r->slen, r->soff, d, r->dlen, r->doff, NULL);
	}
}

static mc_status_t run_all(struct run *r, uint64_t seed, FILE *to)
{
	static struct compare_case c;
	mc_status_t s = MC_OK;
	for (uint32_t i = 0; i < CMP_CASES && s == MC_OK; i++) {
		compare_make(&c, seed, i, r->n);
		shape(r, &c);
		compare_fill(mc_mem_addr(r->src), r->send > CMP_LEN_MAX ? r->send : CMP_LEN_MAX, &c, r->rank);
		uint64_t room = r->dend > CMP_LEN_MAX ? r->dend : CMP_LEN_MAX;
		memset(mc_mem_addr(r->dst), 0xee, room);
		s = run_case(r, &c);
		compare_print(to, i, &c, r->rank, mc_mem_addr(r->dst), room);
	}
	return s;
}

int main(int argc, char **argv)
{
	struct mc_ctx *ctx;
	struct run r = {.g = NULL};
	char path[4096];
	if (argc != 3 || mc_init(NULL, &ctx) != MC_OK)
		return 2;
	r.g = mc_group_world(ctx);
	r.rank = mc_rank(ctx);
	r.n = mc_size(ctx);
	snprintf(path, sizeof(path), "%s/mc.%u", argv[2], r.rank);
	FILE *to = fopen(path, "w");
	if (to == NULL || r.n > CMP_RANKS_MAX || mc_mem_alloc(ctx, ROOM, NULL, &r.src) != MC_OK ||
	    mc_mem_alloc(ctx, ROOM, NULL, &r.dst) != MC_OK)
		return 2;
	mc_status_t s = run_all(&r, strtoull(argv[1], NULL, 10), to);
	if (s == MC_OK)
		s = mc_barrier(r.g, MC_FOREVER);
	if (fclose(to) != 0 || s != MC_OK)
		fprintf(stderr, "rank %u: %s\n", r.rank, mc_status_text(s));
	mc_finalize(ctx);
	return s == MC_OK ? 0 : 1;
}

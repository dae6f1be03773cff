/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * compare.h - the collectives that mc and Open MPI are both made to do, and the bytes that go in: a list that follows
 * from a seed, the same in both programs, so that their results can be compared byte for byte.
 */
#ifndef MC_TEST_COLL_COMPARE_H
#define MC_TEST_COLL_COMPARE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum compare_op {
	CMP_BCAST,
	CMP_SCATTER,
	CMP_SCATTERV,
	CMP_GATHER,
	CMP_GATHERV,
	CMP_ALLGATHER,
	CMP_ALLGATHERV,
	CMP_ALLTOALL,
	CMP_ALLTOALLV,
	CMP_OPS
};

enum { CMP_CASES = 90, CMP_RANKS_MAX = 64, CMP_LEN_MAX = 70000, CMP_GAP = 3 };

struct compare_case {
	enum compare_op op;
	uint32_t root;
	uint64_t seed;
	uint64_t len[CMP_RANKS_MAX][CMP_RANKS_MAX]; /* from, to; scatter, gather, allgather: [0][rank] */
};

static inline uint64_t compare_next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static inline uint64_t compare_len(uint64_t *s)
{
	static const uint64_t len[] = {0, 1, 7, 64, 1000, 8191, 8192, 8193, 20000, CMP_LEN_MAX};
	uint64_t r = compare_next(s) >> 20;
	return r % 4 == 0 ? (r >> 8) % 3000 : len[(r >> 8) % (sizeof(len) / sizeof(len[0]))];
}

static inline void compare_make(struct compare_case *c, uint64_t seed, uint32_t index, uint32_t n)
{
	uint64_t s = seed * UINT64_C(0x9e3779b97f4a7c15) + index + 1;
	for (int i = 0; i < 8; i++)
		compare_next(&s);
	c->op = (enum compare_op)(index % CMP_OPS);
	c->root = (uint32_t)((compare_next(&s) >> 20) % n);
	c->seed = compare_next(&s);
	bool v = c->op == CMP_SCATTERV || c->op == CMP_GATHERV || c->op == CMP_ALLGATHERV || c->op == CMP_ALLTOALLV;
	uint64_t same = compare_len(&s);
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < n; k++)
			c->len[i][k] = v ? compare_len(&s) : same;
}

static inline void compare_fill(uint8_t *p, uint64_t len, const struct compare_case *c, uint32_t rank)
{
	for (uint64_t i = 0; i < len; i++)
		p[i] = (uint8_t)((i * 0x9e3779b1u + rank * 0x85ebca6bu + c->seed) >> 11);
}

/* One line per case and rank: what is in the result buffer, all of it, gaps too. */
static inline void compare_print(FILE *to, uint32_t index, const struct compare_case *c, uint32_t rank,
				 const uint8_t *p, uint64_t len)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325), g = len;
	for (uint64_t i = 0; i < len; i++) {
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
		g = (g ^ p[i]) * UINT64_C(0x9e3779b97f4a7c15) + (g >> 29);
	}
	fprintf(to, "case %u op %d root %u rank %u bytes %llu %016llx%016llx\n", index, (int)c->op, c->root, rank,
		(unsigned long long)len, (unsigned long long)h, (unsigned long long)g);
}

#endif

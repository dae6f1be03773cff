/* SPDX-License-Identifier: BSD-3-Clause */
/* alltoall, alltoallv: every algorithm and group size, zero and ragged lengths, against what each rank sent to whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "side.h"

enum { OFF = 11, LONGEST = 40001 };

static const uint64_t lengths[] = {0, 1, 8, 300, 8192, 8193, LONGEST};

static uint64_t room(uint32_t n)
{
	return (uint64_t)n * (LONGEST + 64) + 4096;
}

/* What i sends to k in the ragged rounds. */
static uint64_t ragged(uint32_t i, uint32_t k, uint64_t salt)
{
	return lengths[(i * 3 + k * 5 + salt) % MC_ARRAY_LEN(lengths)];
}

static void one(struct member *m, uint64_t uniform, bool v)
{
	uint64_t slen[SIDE_MAX], soff[SIDE_MAX], dlen[SIDE_MAX], doff[SIDE_MAX], s_at = 0, d_at = 0;
	struct mc_buf src = {m->src, OFF}, dst = {m->dst, OFF};
	uint32_t gap = v ? 2 + m->rank % 3 : 0;
	m->salt++;
	memset(m->d, 0xee, m->side->room);
	for (uint32_t r = 0; r < m->n; r++) {
		slen[r] = v ? ragged(m->rank, r, m->salt) : uniform;
		dlen[r] = v ? ragged(r, m->rank, m->salt) : uniform;
		soff[r] = s_at;
		doff[r] = d_at;
		s_at += slen[r] + gap;
		d_at += dlen[r] + gap;
		/* The bytes from i to k count as rank i * n + k. */
		side_fill(m->s + OFF + soff[r], slen[r], m->rank * m->n + r, 0, m->salt);
	}
	m->status = v ? mc_alltoallv(m->g, src, slen, soff, dst, dlen, doff, NULL)
		      : mc_alltoall(m->g, src, dst, uniform, NULL);
	CHECK(m, m->status == MC_OK);
	for (uint32_t r = 0; r < m->n; r++) {
		CHECK(m, side_wrong(m->d + OFF + doff[r], dlen[r], r * m->n + m->rank, 0, m->salt) == 0);
		CHECK(m, side_not(m->d + OFF + doff[r] + dlen[r], gap, 0xee) == 0);
	}
	CHECK(m, side_not(m->d, OFF, 0xee) == 0);
	CHECK(m, side_not(m->d + OFF + d_at, GUARD, 0xee) == 0);
}

static void all_algorithms(struct member *m)
{
	const struct mc_algo *a;
	for (uint32_t at = 0; side_next_algo(MC_COLL_ALLTOALL, &at, &a);) {
		side_force(m, MC_COLL_ALLTOALL, a);
		for (size_t i = 0; i < MC_ARRAY_LEN(lengths); i++) {
			one(m, lengths[i], false);
			one(m, 0, true);
		}
	}
}

static void alltoall__every_algorithm(void **state)
{
	(void)state;
	side_everywhere(all_algorithms, room);
}

static void alltoall__bad_arguments(void **state)
{
	(void)state;
	struct side s;
	side_up(&s, &side_ways[0], 2, 4096);
	struct member *m = &s.m[0];
	struct mc_buf a = {m->src, 0}, b = {m->dst, 0};
	const uint64_t one_each[2] = {1, 1}, other[2] = {2, 2}, off[2] = {0, 8}, far[2] = {0, 4096};
	assert_int_equal(mc_alltoall(m->g, a, b, 2049, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_alltoall(m->g, a, (struct mc_buf){m->src, 100}, 64, NULL), MC_ERR_INVAL); /* overlap */
	assert_int_equal(mc_alltoallv(m->g, a, one_each, off, b, one_each, far, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_alltoallv(m->g, a, one_each, off, b, other, off, NULL), MC_ERR_INVAL); /* own block */
	assert_int_equal(mc_alltoallv(m->g, a, one_each, off, b, one_each, NULL, NULL), MC_ERR_INVAL);
	side_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alltoall__every_algorithm),
		cmocka_unit_test(alltoall__bad_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

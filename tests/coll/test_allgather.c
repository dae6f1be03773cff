/* SPDX-License-Identifier: BSD-3-Clause */
/* allgather, allgatherv: every algorithm and group size, zero and ragged lengths, in place, against what each rank put
 * in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "side.h"

enum { OFF = 5, LONGEST = 70001 };

static const uint64_t lengths[] = {0, 1, 8, 1000, 8192, 8193, LONGEST};

static uint64_t room(uint32_t n)
{
	return (uint64_t)n * (2 * LONGEST + 64) + 4096;
}

/* Blocks of the given lengths in dst, at places that differ from rank to rank. */
static void layout(const struct member *m, const uint64_t *len, uint64_t *off, bool spread)
{
	uint64_t at = 0;
	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t r = spread ? (i + m->rank) % m->n : i;
		off[r] = at;
		at += len[r] + (spread ? 3 + m->rank % 3 : 0);
	}
}

static void verify(struct member *m, const uint8_t *d, const uint64_t *len, const uint64_t *off)
{
	uint64_t total = 0, kept = 0, end = 0;
	for (uint32_t r = 0; r < m->n; r++) {
		CHECK(m, side_wrong(d + off[r], len[r], r, 0, m->salt) == 0);
		total += len[r];
		end = off[r] + len[r] > end ? off[r] + len[r] : end;
	}
	/* Between and behind the blocks nothing was written: count what still is 0xee, at least the gaps. */
	for (uint64_t i = 0; i < end + GUARD; i++)
		kept += d[i] == 0xee;
	CHECK(m, kept >= end + GUARD - total);
	CHECK(m, side_not(d + end, GUARD, 0xee) == 0);
}

static void one(struct member *m, const uint64_t *len, bool v, bool in_place)
{
	uint64_t off[SIDE_MAX];
	struct mc_buf src = {m->src, 0}, dst = {m->dst, OFF};
	m->salt++;
	layout(m, len, off, v);
	memset(m->d, 0xee, m->side->room);
	side_fill(in_place ? m->d + OFF + off[m->rank] : m->s, len[m->rank], m->rank, 0, m->salt);
	if (in_place)
		src = (struct mc_buf){m->dst, OFF + off[m->rank]};
	m->status = v ? mc_allgatherv(m->g, src, dst, len, off, NULL) : mc_allgather(m->g, src, dst, len[0], NULL);
	CHECK(m, m->status == MC_OK);
	verify(m, m->d + OFF, len, off);
}

static void all_algorithms(struct member *m)
{
	const struct mc_algo *a;
	uint64_t len[SIDE_MAX];
	for (uint32_t at = 0; side_next_algo(MC_COLL_ALLGATHER, &at, &a);) {
		side_force(m, MC_COLL_ALLGATHER, a);
		for (size_t i = 0; i < MC_ARRAY_LEN(lengths); i++) {
			for (uint32_t r = 0; r < m->n; r++)
				len[r] = lengths[i];
			one(m, len, false, i % 2 != 0);
			one(m, len, true, i % 2 == 0);
			for (uint32_t r = 0; r < m->n; r++)
				len[r] = lengths[(i + r) % MC_ARRAY_LEN(lengths)];
			one(m, len, true, i % 2 != 0);
		}
		for (uint32_t r = 0; r < m->n; r++)
			len[r] = r + 1 == m->n ? LONGEST : 0; /* only the last has anything */
		one(m, len, true, false);
	}
}

static void allgather__every_algorithm(void **state)
{
	(void)state;
	side_everywhere(all_algorithms, room);
}

static void allgather__bad_arguments(void **state)
{
	(void)state;
	struct side s;
	side_up(&s, &side_ways[0], 3, 4096);
	struct member *m = &s.m[0];
	struct mc_buf a = {m->src, 0}, b = {m->dst, 0};
	const uint64_t len[3] = {1, 2, 3}, off[3] = {0, 1, 4094};
	assert_int_equal(mc_allgather(m->g, a, b, 1366, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_allgather(m->g, a, b, UINT64_MAX / 2, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_allgatherv(m->g, a, b, len, off, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_allgatherv(m->g, a, b, NULL, off, NULL), MC_ERR_INVAL);
	assert_int_equal(mc_allgatherv(m->g, a, b, len, NULL, NULL), MC_ERR_INVAL);
	side_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allgather__every_algorithm),
		cmocka_unit_test(allgather__bad_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

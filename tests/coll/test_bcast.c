/* SPDX-License-Identifier: BSD-3-Clause */
/* bcast: every algorithm, group size and root, lengths around each limit, against the bytes that the root had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "side.h"

enum { OFF = 13 };

static const uint64_t lengths[] = {0, 1, 8, 4000, 8192, 8193, 100001, (1 << 20) + 7};

static uint64_t room(uint32_t n)
{
	(void)n;
	return (1 << 20) + 4096;
}

static void one(struct member *m, uint32_t root, uint64_t len, bool pool)
{
	uint8_t *p = pool ? m->s : m->d;
	struct mc_buf b = {pool ? m->src : m->dst, OFF};
	memset(p, 0xee, len + OFF + GUARD);
	m->salt++;
	if (m->rank == root)
		side_fill(p + OFF, len, root, 0, m->salt);
	m->status = mc_bcast(m->g, root, b, len, NULL);
	CHECK(m, m->status == MC_OK);
	CHECK(m, side_wrong(p + OFF, len, root, 0, m->salt) == 0);
	CHECK(m, side_not(p, OFF, 0xee) == 0);
	CHECK(m, side_not(p + OFF + len, GUARD, 0xee) == 0);
}

static void all_algorithms(struct member *m)
{
	const struct mc_algo *a;
	for (uint32_t at = 0; side_next_algo(MC_COLL_BCAST, &at, &a);) {
		side_force(m, MC_COLL_BCAST, a);
		for (size_t i = 0; i < MC_ARRAY_LEN(lengths); i++) {
			one(m, 0, lengths[i], i % 2 == 0);
			one(m, m->n - 1, lengths[i], i % 2 != 0);
			if (i < 3)
				for (uint32_t root = 1; root + 1 < m->n; root++)
					one(m, root, lengths[i], true);
		}
	}
}

static void bcast__every_algorithm(void **state)
{
	(void)state;
	side_everywhere(all_algorithms, room);
}

static void no_buffer(struct member *m)
{
	CHECK(m, mc_bcast(m->g, 0, (struct mc_buf){NULL, 0}, 0, NULL) == MC_OK);
}

static void bcast__nothing_needs_no_buffer(void **state)
{
	(void)state;
	struct side s;
	side_up(&s, &side_ways[0], 3, 4096);
	side_run(&s, no_buffer);
	side_down(&s);
}

static void bcast__bad_arguments(void **state)
{
	(void)state;
	struct side s;
	struct mc_req *req;
	side_up(&s, &side_ways[0], 2, 4096);
	struct member *m = &s.m[0];
	struct mc_buf b = {m->src, 0};
	struct mc_coll_opts o = {.size = 1};
	assert_int_equal(mc_bcast(m->g, 2, b, 8, NULL), MC_ERR_INVAL);
	assert_int_equal(mc_bcast(m->g, 0, b, 4097, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_bcast(m->g, 0, (struct mc_buf){m->src, UINT64_MAX - 3}, 8, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_bcast(m->g, 0, (struct mc_buf){NULL, 0}, 8, NULL), MC_ERR_INVAL);
	assert_int_equal(mc_bcast(m->g, 0, (struct mc_buf){s.m[1].src, 0}, 8, NULL), MC_ERR_INVAL);
	assert_int_equal(mc_bcast(m->g, 0, b, 8, &o), MC_ERR_INVAL);
	assert_int_equal(mc_ibcast(m->g, 0, b, 8, NULL, NULL), MC_ERR_INVAL);
	assert_int_equal(mc_ibcast(NULL, 0, b, 8, NULL, &req), MC_ERR_INVAL);
	/* None of them counted: the next one meets the other rank's first. */
	side_run(&s, no_buffer);
	side_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bcast__every_algorithm),
		cmocka_unit_test(bcast__nothing_needs_no_buffer),
		cmocka_unit_test(bcast__bad_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

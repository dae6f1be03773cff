/* SPDX-License-Identifier: BSD-3-Clause */
/* gather, gatherv, scatter, scatterv: every algorithm, group size and root, zero and ragged lengths, in place at the
 * root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "side.h"

enum { LONGEST = 50001 };

static const uint64_t lengths[] = {0, 1, 8, 900, 8192, 8193, LONGEST};

static uint64_t room(uint32_t n)
{
	return (uint64_t)(n + 1) * (LONGEST + 64) + 4096;
}

struct shape {
	uint32_t root;
	bool v, in_place;
	uint64_t len[SIDE_MAX], off[SIDE_MAX]; /* blocks at the root */
	uint64_t end;
};

static void shape_make(struct shape *h, const struct member *m, uint32_t root, uint64_t uniform, bool v, bool in_place)
{
	uint64_t at = 0;
	*h = (struct shape){.root = root, .v = v, .in_place = in_place};
	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t r = v ? m->n - 1 - i : i;
		h->len[r] = v ? lengths[(r + m->salt) % MC_ARRAY_LEN(lengths)] : uniform;
		h->off[r] = at;
		at += h->len[r] + (v ? 4 : 0);
	}
	h->end = at;
}

static void gather(struct member *m, const struct shape *h)
{
	bool root = m->rank == h->root, in_place = root && h->in_place;
	uint64_t own = h->len[m->rank];
	struct mc_buf src = {in_place ? m->dst : m->src, in_place ? h->off[m->rank] : 0}, dst = {m->dst, 0};
	memset(m->d, 0xee, m->side->room);
	side_fill((in_place ? m->d : m->s) + src.off, own, m->rank, 0, m->salt);
	if (!root)
		dst = (struct mc_buf){NULL, 0};
	m->status = h->v ? mc_gatherv(m->g, h->root, src, own, dst, root ? h->len : NULL, root ? h->off : NULL, NULL)
			 : mc_gather(m->g, h->root, src, dst, own, NULL);
	CHECK(m, m->status == MC_OK);
	for (uint32_t r = 0; r < m->n && root; r++)
		CHECK(m, side_wrong(m->d + h->off[r], h->len[r], r, 0, m->salt) == 0);
	CHECK(m, side_not(m->d + h->end, GUARD, 0xee) == 0);
	if (!root)
		CHECK(m, side_not(m->d, m->side->room, 0xee) == 0);
}

static void scatter(struct member *m, const struct shape *h)
{
	bool root = m->rank == h->root, in_place = root && h->in_place;
	uint64_t own = h->len[m->rank];
	struct mc_buf dst = {in_place ? m->src : m->dst, in_place ? h->off[m->rank] : 0},
		      src = {root ? m->src : NULL, 0};
	memset(m->d, 0xee, m->side->room);
	for (uint32_t r = 0; r < m->n && root; r++)
		side_fill(m->s + h->off[r], h->len[r], r, 0, m->salt);
	m->status = h->v ? mc_scatterv(m->g, h->root, src, root ? h->len : NULL, root ? h->off : NULL, dst, own, NULL)
			 : mc_scatter(m->g, h->root, src, dst, own, NULL);
	CHECK(m, m->status == MC_OK);
	CHECK(m, side_wrong((in_place ? m->s : m->d) + dst.off, own, m->rank, 0, m->salt) == 0);
	if (!in_place)
		CHECK(m, side_not(m->d + own, GUARD, 0xee) == 0);
}

static void sweep(struct member *m, enum mc_coll_op op, void (*run)(struct member *m, const struct shape *h))
{
	const struct mc_algo *a;
	struct shape h;
	for (uint32_t at = 0; side_next_algo(op, &at, &a);) {
		side_force(m, op, a);
		for (size_t i = 0; i < MC_ARRAY_LEN(lengths); i++) {
			for (uint32_t root = 0; root < m->n; root += i < 3 || root + 3 > m->n ? 1 : m->n - 2) {
				m->salt++;
				shape_make(&h, m, root, lengths[i], false, root % 2 != 0);
				run(m, &h);
				m->salt++;
				shape_make(&h, m, root, 0, true, root % 2 == 0);
				run(m, &h);
			}
		}
	}
}

static void gather_all(struct member *m)
{
	sweep(m, MC_COLL_GATHER, gather);
}

static void scatter_all(struct member *m)
{
	sweep(m, MC_COLL_SCATTER, scatter);
}

static void gather__every_algorithm(void **state)
{
	(void)state;
	side_everywhere(gather_all, room);
}

static void scatter__every_algorithm(void **state)
{
	(void)state;
	side_everywhere(scatter_all, room);
}

static void gather__bad_arguments(void **state)
{
	(void)state;
	struct side s;
	side_up(&s, &side_ways[0], 2, 4096);
	struct member *m = &s.m[0];
	struct mc_buf a = {m->src, 0}, b = {m->dst, 0};
	const uint64_t len[2] = {8, 8}, off[2] = {0, 4090};
	assert_int_equal(mc_gather(m->g, 0, a, b, 2049, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_gatherv(m->g, 0, a, 8, b, len, off, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_gatherv(m->g, 0, a, 9, b, len, len, NULL), MC_ERR_INVAL); /* the root's own block */
	assert_int_equal(mc_gatherv(m->g, 0, a, 8, b, NULL, off, NULL), MC_ERR_INVAL);
	assert_int_equal(mc_scatter(m->g, 0, a, b, 2049, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_scatterv(m->g, 0, a, len, off, b, 8, NULL), MC_ERR_RANGE);
	assert_int_equal(mc_scatterv(m->g, 0, a, len, NULL, b, 8, NULL), MC_ERR_INVAL);
	assert_int_equal(mc_scatterv(m->g, 1, a, NULL, NULL, b, 5000, NULL), MC_ERR_RANGE);
	side_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gather__every_algorithm),
		cmocka_unit_test(scatter__every_algorithm),
		cmocka_unit_test(gather__bad_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

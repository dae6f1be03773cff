/* SPDX-License-Identifier: BSD-3-Clause */
/* test_board.c - short collectives over boards: that they come into use, disagreement seen there, and members that
 * leave right after their last one. (That every algorithm gives the right bytes is checked with the others.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "side.h"

enum { ROOM = 1 << 16, MANY = 300 };

static const struct way shm = {"shm", "shm", NULL, false};
static const struct way shm_manual = {"shm", "shm", "manual", false};

/* Until this rank posts to its board; every rank calls as often. */
static void warm_up(struct member *m)
{
	for (int i = 0; i < MANY; i++)
		CHECK(m, mc_barrier(m->g, 20 * SEC) == MC_OK);
}

static void mixed(struct member *m)
{
	warm_up(m);
	uint64_t before = m->ctx->colls->board_posts;
	CHECK(m, before > 0);
	for (uint32_t i = 0; i < MANY; i++) {
		uint64_t len = i % 200, root = i % m->n;
		struct mc_buf s = {m->src, 0}, d = {m->dst, 0};
		side_fill(m->s, len * m->n, m->rank, i, 7);
		memset(m->d, 0xee, ROOM);
		if (i % 3 == 0) {
			CHECK(m, mc_allgather(m->g, s, d, len, NULL) == MC_OK);
			for (uint32_t r = 0; r < m->n; r++)
				CHECK(m, side_wrong(m->d + r * len, len, r, i, 7) == 0);
			CHECK(m, side_not(m->d + m->n * len, GUARD, 0xee) == 0);
		} else if (i % 3 == 1) {
			CHECK(m, mc_alltoall(m->g, s, d, len, NULL) == MC_OK);
			for (uint32_t r = 0; r < m->n; r++)
				CHECK(m, side_wrong(m->d + r * len, len, r, i + m->rank * len, 7) == 0);
			CHECK(m, side_not(m->d + m->n * len, GUARD, 0xee) == 0);
		} else {
			CHECK(m, mc_bcast(m->g, (uint32_t)root, m->rank == root ? s : d, len, NULL) == MC_OK);
			CHECK(m, m->rank == root || side_wrong(m->d, len, (uint32_t)root, i, 7) == 0);
		}
	}
	CHECK(m, m->ctx->colls->board_posts == before + MANY);
}

static void board__comes_into_use(void **state)
{
	static const uint32_t sizes[] = {2, 3, 5};
	struct side s;
	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(sizes); i++) {
		side_up(&s, i == 1 ? &shm_manual : &shm, sizes[i], ROOM);
		side_run(&s, mixed);
		side_down(&s);
	}
}

static void disagree(struct member *m)
{
	warm_up(m);
	struct mc_buf s = {m->src, 0}, d = {m->dst, 0};
	mc_status_t st = m->rank == 0 ? mc_allgather(m->g, s, d, 8, NULL) : mc_allgather(m->g, s, d, 16, NULL);
	CHECK(m, st == MC_ERR_MISMATCH);
	st = mc_bcast(m->g, m->rank == 0 ? 0 : 1, d, 8, NULL);
	CHECK(m, st == MC_ERR_MISMATCH);
	st = m->rank == 0 ? mc_barrier(m->g, 20 * SEC) : mc_alltoall(m->g, s, d, 8, NULL);
	CHECK(m, st == MC_ERR_MISMATCH);
	st = m->rank == 0 ? mc_barrier(m->g, 20 * SEC) : mc_allgather(m->g, s, d, 8192, NULL); /* that one by message */
	CHECK(m, st == MC_ERR_MISMATCH);
	for (int i = 0; i < 20; i++)
		CHECK(m, mc_barrier(m->g, 20 * SEC) == MC_OK);
}

static void board__ranks_that_disagree(void **state)
{
	struct side s;
	(void)state;
	side_up(&s, &shm, 3, ROOM);
	side_run(&s, disagree);
	side_down(&s);
}

/* The last barrier is through here before the others have looked at our board. */
static void last_and_gone(struct member *m)
{
	for (int i = 0; i < 50; i++)
		CHECK(m, mc_barrier(m->g, 20 * SEC) == MC_OK);
	CHECK(m, mc_mem_free(m->src) == MC_OK);
	CHECK(m, mc_mem_free(m->dst) == MC_OK);
	free(m->d);
	mc_finalize(m->ctx);
}

static void board__member_leaves_at_once(void **state)
{
	(void)state;
	for (int i = 0; i < 30; i++) {
		struct side s;
		side_up(&s, &shm, 3, 4096);
		side_run(&s, last_and_gone);
		mc_hub_free(s.c.hub);
	}
}

static void late(struct member *m)
{
	warm_up(m);
	if (m->rank == 0)
		return;
	mc_status_t st = mc_barrier(m->g, SEC / 2);
	CHECK(m, st == MC_ERR_TIMEOUT);
	struct mc_fault f = {.size = sizeof(f)};
	CHECK(m, mc_fault_next(m->ctx, &f) == MC_OK && f.peer == 0);
}

static void board__absent_member_is_named(void **state)
{
	struct side s;
	(void)state;
	side_up(&s, &shm, 3, ROOM);
	side_run(&s, late);
	side_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(board__comes_into_use),
		cmocka_unit_test(board__ranks_that_disagree),
		cmocka_unit_test(board__member_leaves_at_once),
		cmocka_unit_test(board__absent_member_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

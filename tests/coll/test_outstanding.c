/* SPDX-License-Identifier: BSD-3-Clause */
/* Many collectives under way: on one group, on several that overlap, from several threads; canceled ones among them. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "side.h"

enum { N_OUT = 48, CELL = 20000, ROOM = N_OUT * CELL * 5 };

static uint64_t length_of(uint32_t i)
{
	static const uint64_t len[] = {8, 0, 9000, 100, CELL / 5};
	return len[i % MC_ARRAY_LEN(len)];
}

/* The i-th of a mixed sequence; its target is a stretch of dst of its own. */
static mc_status_t begin(struct member *m, uint32_t i, struct mc_req **req)
{
	uint64_t at = (uint64_t)i * CELL * 5, len = length_of(i);
	struct mc_buf s = {m->src, at}, d = {m->dst, at};
	switch (i % 4) {
	case 0:
		side_fill(m->s + at, len, m->rank, i, 0);
		return mc_iallgather(m->g, s, d, len, NULL, req);
	case 1:
		if (m->rank == i % m->n)
			side_fill(m->d + at, len, m->rank, i, 0);
		return mc_ibcast(m->g, i % m->n, d, len, NULL, req);
	case 2:
		for (uint32_t r = 0; r < m->n; r++)
			side_fill(m->s + at + r * len, len, m->rank * m->n + r, i, 0);
		return mc_ialltoall(m->g, s, d, len, NULL, req);
	default:
		return mc_ibarrier(m->g, NULL, req);
	}
}

static void verify(struct member *m, uint32_t i)
{
	const uint8_t *d = m->d + (uint64_t)i * CELL * 5;
	uint64_t len = length_of(i);
	for (uint32_t r = 0; r < m->n && i % 4 == 0; r++)
		CHECK(m, side_wrong(d + r * len, len, r, i, 0) == 0);
	if (i % 4 == 1)
		CHECK(m, side_wrong(d, len, i % m->n, i, 0) == 0);
	for (uint32_t r = 0; r < m->n && i % 4 == 2; r++)
		CHECK(m, side_wrong(d + r * len, len, r * m->n + m->rank, i, 0) == 0);
}

static void many_on_one_group(struct member *m)
{
	struct mc_req *req[N_OUT];
	for (uint32_t i = 0; i < N_OUT; i++)
		CHECK(m, begin(m, i, &req[i]) == MC_OK);
	/* Waited for backwards on some ranks: their order of ending is their own. */
	for (uint32_t k = 0; k < N_OUT; k++) {
		uint32_t i = m->rank % 2 ? N_OUT - 1 - k : k;
		CHECK(m, mc_req_wait(req[i], 60 * SEC) == MC_OK);
		verify(m, i);
		mc_req_free(req[i]);
	}
}

static void outstanding__many_on_one_group(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {2, 4, 5};
	for (size_t k = 0; k < MC_ARRAY_LEN(sizes); k++) {
		for (size_t w = 0; w < MC_ARRAY_LEN(side_ways) + MC_ARRAY_LEN(side_few); w++) {
			struct side s;
			side_up(&s,
				w < MC_ARRAY_LEN(side_ways) ? &side_ways[w] : &side_few[w - MC_ARRAY_LEN(side_ways)],
				sizes[k], ROOM);
			side_run(&s, many_on_one_group);
			side_down(&s);
		}
	}
}

/* Three groups that overlap, in another order on each rank: world, a rotated list of all, and those of the own parity.
 */
static void several_groups(struct member *m)
{
	uint32_t turned[SIDE_MAX], same[SIDE_MAX], same_n = 0;
	struct mc_group *g[3] = {m->g, NULL, NULL};
	for (uint32_t i = 0; i < m->n; i++) {
		turned[i] = (i + 1) % m->n;
		if (i % 2 == m->rank % 2)
			same[same_n++] = i;
	}
	CHECK(m, mc_group_list(m->ctx, turned, m->n, &g[1]) == MC_OK);
	CHECK(m, mc_group_list(m->ctx, same, same_n, &g[2]) == MC_OK);
	for (uint32_t round = 0; round < 30; round++) {
		struct mc_req *req[3];
		for (uint32_t k = 0; k < 3; k++) {
			uint32_t i = (k + m->rank + round) % 3;
			uint64_t at = (uint64_t)i * 2 * SIDE_MAX * 10000, len = round % 3 == 0 ? 9000 : 24;
			side_fill(m->s + at, len, m->rank, round, i);
			CHECK(m, mc_iallgather(g[i], (struct mc_buf){m->src, at}, (struct mc_buf){m->dst, at}, len,
					       NULL, &req[i]) == MC_OK);
		}
		for (uint32_t i = 0; i < 3; i++) {
			uint64_t at = (uint64_t)i * 2 * SIDE_MAX * 10000, len = round % 3 == 0 ? 9000 : 24;
			CHECK(m, mc_req_wait(req[i], 60 * SEC) == MC_OK);
			mc_req_free(req[i]);
			for (uint32_t r = 0; r < mc_group_size(g[i]); r++)
				CHECK(m, side_wrong(m->d + at + r * len, len, mc_group_peer(g[i], r), round, i) == 0);
		}
	}
	mc_group_free(g[1]);
	mc_group_free(g[2]);
}

static void outstanding__several_groups(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {2, 3, 5, 8};
	for (size_t k = 0; k < MC_ARRAY_LEN(sizes); k++) {
		for (size_t w = 0; w < MC_ARRAY_LEN(side_ways); w++) {
			struct side s;
			side_up(&s, &side_ways[w], sizes[k], 3 * 2 * SIDE_MAX * 10000);
			side_run(&s, several_groups);
			side_down(&s);
		}
	}
}

/* The group object may be freed while its collective runs; regions are busy until it ends. */
static void freed_group(struct member *m)
{
	uint32_t all[SIDE_MAX];
	struct mc_group *g = NULL;
	struct mc_req *req;
	for (uint32_t i = 0; i < m->n; i++)
		all[i] = m->n - 1 - i;
	CHECK(m, mc_group_list(m->ctx, all, m->n, &g) == MC_OK);
	struct mc_buf s = {m->src, 0}, d = {m->dst, 0};
	if (m->rank == 0)
		CHECK(m, mc_barrier(m->g, 20 * SEC) ==
				 MC_OK); /* the others are through with theirs only when this one has come */
	CHECK(m, mc_iallgather(g, s, d, 30000, NULL, &req) == MC_OK);
	mc_group_free(g);
	if (m->rank != 0) {
		CHECK(m, mc_mem_free(m->src) == MC_ERR_BUSY);
		CHECK(m, mc_barrier(m->g, 20 * SEC) == MC_OK);
	}
	CHECK(m, mc_req_wait(req, 20 * SEC) == MC_OK);
	mc_req_free(req);
}

static void outstanding__group_freed_while_it_runs(void **state)
{
	(void)state;
	struct side s;
	side_up(&s, &side_ways[1], 3, 200000);
	side_run(&s, freed_group);
	side_down(&s);
}

static _Atomic(bool) gave_up;

/*
 * Rank 0 does not come; rank 1 cancels: all others end so, and so does rank 0 when it comes after all. Those that have
 * got everything by the time they hear of it may be through.
 */
static void canceled(struct member *m)
{
	struct mc_req *req = NULL;
	struct mc_buf s = {m->src, 0}, d = {m->dst, 0};
	uint64_t len = m->side->arg != NULL ? 60000 : 16;
	memset(m->d, 0xee, m->side->room);
	while (m->rank == 0 && !atomic_load(&gave_up)) {
		mc_progress(m->ctx); /* with manual progress nobody else would answer the others */
		sched_yield();
	}
	CHECK(m, mc_iallgather(m->g, s, d, len, NULL, &req) == MC_OK);
	if (m->rank == 1) {
		CHECK(m, mc_req_cancel(req) == MC_ERR_CANCELED);
		atomic_store(&gave_up, true);
	} else {
		m->status = mc_req_wait(req, 30 * SEC);
		CHECK(m, m->status == MC_ERR_CANCELED || (len == 16 && m->status == MC_OK));
	}
	mc_req_free(req);
	uint64_t wrong = side_not(m->d, m->side->room, 0xee);
	/* Its turn is over for everyone: the next one counts. And nothing came late. */
	CHECK(m, mc_barrier(m->g, 30 * SEC) == MC_OK);
	CHECK(m, side_not(m->d, m->side->room, 0xee) == wrong);
}

static void quiet(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static void cancel__ends_it_on_all(void **state)
{
	(void)state;
	mc_log_set_sink(quiet, NULL);
	for (size_t w = 0; w < MC_ARRAY_LEN(side_ways) + MC_ARRAY_LEN(side_few); w++) {
		for (uint32_t k = 0; k < 20; k++) {
			static char yes;
			struct side s;
			side_up(&s,
				w < MC_ARRAY_LEN(side_ways) ? &side_ways[w] : &side_few[w - MC_ARRAY_LEN(side_ways)],
				2 + k % 4, 400000);
			s.arg = k % 2 ? &yes : NULL;
			atomic_store(&gave_up, false);
			side_run(&s, canceled);
			side_down(&s);
		}
	}
	mc_log_set_sink(NULL, NULL);
}

/* Detached and left alone: mc_finalize() ends it. */
static void left_alone(struct member *m)
{
	struct mc_req *req;
	if (m->rank == 0)
		return;
	CHECK(m, mc_ibarrier(m->g, NULL, &req) == MC_OK);
	mc_req_free(req);
}

static void finalize__ends_what_runs(void **state)
{
	(void)state;
	mc_log_set_sink(quiet, NULL);
	for (uint32_t i = 0; i < 10; i++) {
		struct side s;
		side_up(&s, &side_ways[i % 2], 3, 4096);
		side_run(&s, left_alone);
		int64_t start = mc_now_ns();
		side_down(&s);
		assert_true(mc_now_ns() - start < 20 * SEC);
	}
	mc_log_set_sink(NULL, NULL);
}

/* Two threads of each rank, each with a group of its own that has the same members in another order. */
static void *second_thread(void *arg)
{
	struct member *m = arg;
	uint32_t back[SIDE_MAX];
	struct mc_group *g = NULL;
	for (uint32_t i = 0; i < m->n; i++)
		back[i] = m->n - 1 - i;
	if (mc_group_list(m->ctx, back, m->n, &g) != MC_OK)
		return arg;
	for (uint32_t i = 0; i < 300; i++)
		if (mc_barrier(g, 60 * SEC) != MC_OK)
			return arg;
	mc_group_free(g);
	return NULL;
}

static void two_threads(struct member *m)
{
	pthread_t t;
	void *failed;
	CHECK(m, pthread_create(&t, NULL, second_thread, m) == 0);
	for (uint32_t i = 0; i < 300; i++) {
		m->s[0] = (uint8_t)(m->rank + i);
		CHECK(m, mc_allgather(m->g, (struct mc_buf){m->src, 0}, (struct mc_buf){m->dst, 0}, 1, NULL) == MC_OK);
		for (uint32_t r = 0; r < m->n; r++)
			CHECK(m, m->d[r] == (uint8_t)(r + i));
	}
	pthread_join(t, &failed);
	CHECK(m, failed == NULL);
}

static void threads__two_groups(void **state)
{
	(void)state;
	for (size_t w = 0; w < MC_ARRAY_LEN(side_ways); w++) {
		struct side s;
		side_up(&s, &side_ways[w], 3, 4096);
		side_run(&s, two_threads);
		side_down(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(outstanding__many_on_one_group),
		cmocka_unit_test(outstanding__several_groups),
		cmocka_unit_test(outstanding__group_freed_while_it_runs),
		cmocka_unit_test(cancel__ends_it_on_all),
		cmocka_unit_test(finalize__ends_what_runs),
		cmocka_unit_test(threads__two_groups),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

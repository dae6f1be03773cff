/* SPDX-License-Identifier: BSD-3-Clause */
/* Barrier over groups: nobody leaves before all came; absent, dead and departed members. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster.h"

enum { ROUNDS = 200 };

struct member {
	struct cluster *c;
	uint32_t rank;
	_Atomic(uint32_t) *entered; /* [ROUNDS] */
	uint32_t early;
	mc_status_t status;
};

static void *run_rounds(void *arg)
{
	struct member *m = arg;
	struct mc_group *g = mc_group_world(m->c->ctx[m->rank]);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		atomic_fetch_add(&m->entered[i], 1);
		m->status = mc_barrier(g, 20 * SEC);
		if (m->status != MC_OK)
			return NULL;
		if (atomic_load(&m->entered[i]) != m->c->n)
			m->early++;
	}
	return NULL;
}

static void rounds_on(const char *backend, const char *progress, uint32_t n)
{
	struct cluster c = {.progress = progress};
	pthread_t t[64];
	struct member m[64];
	_Atomic(uint32_t) entered[ROUNDS];
	for (uint32_t i = 0; i < ROUNDS; i++)
		atomic_init(&entered[i], 0);
	cluster_up(&c, n, backend, "auto");
	for (uint32_t i = 0; i < n; i++) {
		m[i] = (struct member){.c = &c, .rank = i, .entered = entered};
		pthread_create(&t[i], NULL, run_rounds, &m[i]);
	}
	for (uint32_t i = 0; i < n; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(m[i].status, MC_OK);
		assert_int_equal(m[i].early, 0);
	}
	cluster_down(&c);
}

static void barrier__holds_everyone(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {1, 2, 3, 5, 8, 13};
	for (size_t i = 0; i < MC_ARRAY_LEN(sizes); i++) {
		rounds_on("loop", NULL, sizes[i]);
		rounds_on("shm", NULL, sizes[i]);
	}
}

static void barrier__manual_progress(void **state)
{
	(void)state;
	rounds_on("shm", "manual", 3);
}

static void barrier__absent_rank_is_named(void **state)
{
	(void)state;
	struct cluster c = {0};
	cluster_up(&c, 3, "loop", "auto");
	assert_int_equal(mc_barrier(mc_group_world(c.ctx[0]), SEC / 10), MC_ERR_TIMEOUT);
	struct mc_fault f = {.size = sizeof(f)};
	assert_int_equal(mc_fault_next(c.ctx[0], &f), MC_OK);
	assert_int_equal(f.status, MC_ERR_TIMEOUT);
	assert_true(f.peer == 1 || f.peer == 2);
	assert_non_null(strstr(f.text, " 1 (decode")); /* and perhaps that it gave no answer in that time */
	assert_non_null(strstr(f.text, " 2 (prefill"));
	cluster_down(&c);
}

static void barrier__not_a_member(void **state)
{
	(void)state;
	struct cluster c = {0};
	cluster_up(&c, 3, "loop", "auto");
	struct mc_group *g;
	assert_int_equal(mc_group_role(c.ctx[1], "prefill", &g), MC_OK);
	assert_int_equal(mc_group_size(g), 2);
	assert_int_equal(mc_group_rank(g), MC_NO_RANK);
	assert_int_equal(mc_group_peer(g, 1), 2);
	assert_int_equal(mc_group_peer(g, 2), MC_NO_RANK);
	assert_int_equal(mc_barrier(g, SEC), MC_ERR_INVAL);
	mc_group_free(g);
	assert_int_equal(mc_group_role(c.ctx[1], "store", &g), MC_ERR_NOENT);
	cluster_down(&c);
}

static void group_list__checks_and_order(void **state)
{
	(void)state;
	struct cluster c = {0};
	cluster_up(&c, 4, "loop", "auto");
	struct mc_group *g;
	const uint32_t twice[] = {1, 1}, far[] = {0, 4}, list[] = {3, 0, 2};
	assert_int_equal(mc_group_list(c.ctx[0], twice, 2, &g), MC_ERR_INVAL);
	assert_int_equal(mc_group_list(c.ctx[0], far, 2, &g), MC_ERR_INVAL);
	assert_int_equal(mc_group_list(c.ctx[0], list, 0, &g), MC_ERR_INVAL);
	assert_int_equal(mc_group_list(c.ctx[0], list, 3, &g), MC_OK);
	assert_int_equal(mc_group_rank(g), 1);
	assert_int_equal(mc_group_peer(g, 0), 3);
	mc_group_free(g);
	assert_int_equal(mc_group_size(mc_group_node(c.ctx[2])), 4);
	mc_group_free(mc_group_world(c.ctx[0])); /* borrowed: no effect */
	assert_int_equal(mc_group_size(mc_group_world(c.ctx[0])), 4);
	cluster_down(&c);
}

static void *barrier_then_leave(void *arg)
{
	struct member *m = arg;
	m->status = mc_barrier(mc_group_world(m->c->ctx[m->rank]), 30 * SEC);
	mc_finalize(m->c->ctx[m->rank]);
	m->c->ctx[m->rank] = NULL;
	return NULL;
}

/* A member may be gone the moment it is through; the others are not to be disturbed by it. */
static void barrier__members_leave_at_once(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 30; i++) {
		struct cluster c = {0};
		pthread_t t[5];
		struct member m[5];
		cluster_up(&c, 5, i % 2 ? "loop" : "shm", "auto");
		for (uint32_t k = 0; k < 5; k++) {
			m[k] = (struct member){.c = &c, .rank = k};
			pthread_create(&t[k], NULL, barrier_then_leave, &m[k]);
		}
		for (uint32_t k = 0; k < 5; k++) {
			pthread_join(t[k], NULL);
			assert_int_equal(m[k].status, MC_OK);
		}
		cluster_down(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(barrier__holds_everyone),
		cmocka_unit_test(barrier__manual_progress),
		cmocka_unit_test(barrier__absent_rank_is_named),
		cmocka_unit_test(barrier__not_a_member),
		cmocka_unit_test(group_list__checks_and_order),
		cmocka_unit_test(barrier__members_leave_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

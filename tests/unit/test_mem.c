/* SPDX-License-Identifier: BSD-3-Clause */
/* A region that is freed while a peer still reads from it by message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster.h"

enum { POOL = 1 << 20 };

struct reading {
	struct cluster c;
	struct mc_mem *here, *there; /* of rank 0, which reads, and of rank 1 */
	struct mc_rmem *from;
	struct mc_req *req;
};

static uint64_t sent(struct mc_ctx *ctx, uint32_t peer)
{
	struct mc_peer_info info = {.size = sizeof(info)};
	assert_int_equal(mc_peer_query(ctx, peer, &info), MC_OK);
	return info.tx_msgs;
}

/* Rank 1 has answered, straight from its region, and the answer does not get through. */
static void read_begin(struct reading *t)
{
	memset(t, 0, sizeof(*t));
	cluster_up(&t->c, 2, "loop", "auto");
	cluster_fault(&t->c, 0,
		      (struct mc_loop_fault){.kind = MC_LOOP_FAIL,
					     .slot = MC_LOOP_RMEM_IMPORT,
					     .kth = 1,
					     .status = MC_ERR_UNSUPPORTED});
	assert_int_equal(mc_mem_alloc(t->c.ctx[0], POOL, NULL, &t->here), MC_OK);
	cluster_share(&t->c, 1, 0, POOL, &t->there, &t->from);
	assert_int_equal(mc_connect(t->c.ctx[1], 0, 30 * SEC), MC_OK);
	cluster_fault(&t->c, 1, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 0, .n = 1});
	uint64_t before = sent(t->c.ctx[1], 0);
	struct mc_slice s = {t->here, 0, t->from, 0, 128 << 10};
	assert_int_equal(mc_get(t->c.ctx[0], 1, &s, 1, NULL, &t->req), MC_OK);
	for (int64_t end = mc_now_ns() + 30 * SEC; sent(t->c.ctx[1], 0) == before;)
		assert_true(mc_now_ns() < end);
	assert_int_equal(mc_req_test(t->req), MC_IN_PROGRESS);
}

static void read_end(struct reading *t)
{
	mc_req_free(t->req);
	mc_rmem_release(t->from);
	assert_int_equal(mc_mem_free(t->here), MC_OK);
	cluster_down(&t->c);
}

static void mem_free__reader_that_does_not_take_its_answer(void **state)
{
	(void)state;
	struct reading t;
	read_begin(&t);
	t.c.ctx[1]->cfg.cancel_timeout = SEC / 10;
	int64_t start = mc_now_ns();
	assert_int_equal(mc_mem_free(t.there), MC_OK);
	assert_true(mc_now_ns() - start >= SEC / 10); /* it had its time */
	struct mc_fault f = {.size = sizeof(f)};
	assert_int_equal(mc_fault_next(t.c.ctx[1], &f), MC_OK);
	assert_int_equal(f.peer, 0);
	assert_int_equal(f.status, MC_ERR_PEER_DOWN);
	assert_int_equal(mc_req_wait(t.req, 30 * SEC), MC_ERR_PEER_DOWN);
	read_end(&t);
}

static void *let_flow(void *arg)
{
	struct reading *t = arg;
	cluster_fault(&t->c, 1, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 0, .n = 0});
	return NULL;
}

static void mem_free__waits_for_an_answer_under_way(void **state)
{
	(void)state;
	struct reading t;
	pthread_t thread;
	read_begin(&t);
	memset(mc_mem_addr(t.there), 0x5a, 128 << 10);
	assert_int_equal(pthread_create(&thread, NULL, let_flow, &t), 0);
	assert_int_equal(mc_mem_free(t.there), MC_OK);
	pthread_join(thread, NULL);
	assert_int_equal(mc_req_wait(t.req, 30 * SEC), MC_OK);
	const uint8_t *got = mc_mem_addr(t.here);
	for (uint32_t i = 0; i < 128 << 10; i++)
		assert_int_equal(got[i], 0x5a);
	struct mc_fault f = {.size = sizeof(f)};
	assert_int_equal(mc_fault_next(t.c.ctx[1], &f), MC_ERR_AGAIN);
	read_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mem_free__waits_for_an_answer_under_way),
		cmocka_unit_test(mem_free__reader_that_does_not_take_its_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Lookups that find nothing in time: programs that poll, and names that never come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster.h"

enum { LEN = 4096, MANY = 5000, PARKED_FEW = 100 };

static uint32_t parked_at(struct mc_ctx *ctx, uint32_t peer)
{
	mc_ctx_lock(ctx);
	uint32_t n = mc_peer_get(ctx, peer)->parked_n;
	mc_ctx_unlock(ctx);
	return n;
}

static void up(struct cluster *c)
{
	memset(c, 0, sizeof(*c));
	cluster_up(c, 2, "loop", "auto");
	assert_int_equal(mc_connect(c->ctx[0], 1, 30 * SEC), MC_OK);
}

static void no_fault(struct cluster *c)
{
	struct mc_fault f = {.size = sizeof(f)};
	for (uint32_t i = 0; i < c->n; i++)
		assert_int_equal(mc_fault_next(c->ctx[i], &f), MC_ERR_AGAIN);
}

/* As often as it likes: one question over there, and in the end the answer. */
static void lookup__polled(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_mem *mem;
	struct mc_rmem *r;
	mc_status_t s = MC_ERR_TIMEOUT;
	up(&c);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(mc_mem_lookup(c.ctx[0], 1, "later", 0, &r), MC_ERR_TIMEOUT);
	assert_int_equal(mc_connect(c.ctx[0], 1, 30 * SEC), MC_OK); /* all of it has been read */
	assert_int_equal(parked_at(c.ctx[1], 0), 1);
	assert_int_equal(mc_mem_alloc(c.ctx[1], LEN, NULL, &mem), MC_OK);
	assert_int_equal(mc_mem_publish(mem, "later"), MC_OK);
	for (int64_t end = mc_now_ns() + 20 * SEC; s == MC_ERR_TIMEOUT && mc_now_ns() < end;)
		s = mc_mem_lookup(c.ctx[0], 1, "later", 0, &r);
	assert_int_equal(s, MC_OK);
	assert_int_equal(mc_rmem_len(r), LEN);
	mc_rmem_release(r);
	no_fault(&c);
	assert_int_equal(mc_mem_free(mem), MC_OK);
	cluster_down(&c);
}

/* What nobody waits for is taken back, so that it does not fill up the peer. */
static void lookup__many_names_that_never_come(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_rmem *r;
	char name[32];
	up(&c);
	for (uint32_t i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "request-%u", i);
		assert_int_equal(mc_mem_lookup(c.ctx[0], 1, name, 0, &r), MC_ERR_TIMEOUT);
	}
	assert_int_equal(mc_connect(c.ctx[0], 1, 30 * SEC), MC_OK);
	assert_true(parked_at(c.ctx[1], 0) < PARKED_FEW);
	no_fault(&c);
	cluster_down(&c);
}

/* An answer that came when nobody waited, and of which the region has gone since, is not given to the next one. */
static void lookup__old_answer_is_not_used(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_mem *mem;
	struct mc_rmem *r;
	up(&c);
	assert_int_equal(mc_mem_lookup(c.ctx[0], 1, "name", 0, &r), MC_ERR_TIMEOUT);
	assert_int_equal(mc_mem_alloc(c.ctx[1], LEN, NULL, &mem), MC_OK);
	assert_int_equal(mc_mem_publish(mem, "name"), MC_OK);
	assert_int_equal(mc_connect(c.ctx[1], 0, 30 * SEC), MC_OK); /* the answer is there */
	assert_int_equal(mc_mem_free(mem), MC_OK);
	assert_int_equal(mc_note_recv(c.ctx[0], SEC + SEC / 4, &(struct mc_note *){NULL}), MC_ERR_TIMEOUT);
	assert_int_equal(mc_mem_lookup(c.ctx[0], 1, "name", SEC / 10, &r), MC_ERR_TIMEOUT);
	no_fault(&c);
	cluster_down(&c);
}

/* Who asks less than once a second, and never waits, gets it as well: at the third time. */
static void lookup__polled_seldom(void **state)
{
	(void)state;
	struct cluster c = {.progress = "manual"};
	struct mc_mem *mem;
	struct mc_rmem *r;
	struct mc_note *none;
	mc_status_t s = MC_ERR_TIMEOUT;
	cluster_up(&c, 2, "loop", "auto");
	assert_int_equal(mc_mem_alloc(c.ctx[1], LEN, NULL, &mem), MC_OK);
	assert_int_equal(mc_mem_publish(mem, "name"), MC_OK);
	for (int i = 0; i < 3 && s == MC_ERR_TIMEOUT; i++) {
		s = mc_mem_lookup(c.ctx[0], 1, "name", 0, &r);
		while (mc_progress(c.ctx[0]) + mc_progress(c.ctx[1]) > 0)
			; /* the answer is there */
		if (s == MC_ERR_TIMEOUT)
			assert_int_equal(mc_note_recv(c.ctx[0], SEC + SEC / 10, &none), MC_ERR_TIMEOUT);
	}
	assert_int_equal(s, MC_OK);
	mc_rmem_release(r);
	assert_int_equal(mc_mem_free(mem), MC_OK);
	cluster_down(&c);
}

static void lookup__peer_lost_meanwhile(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_rmem *r;
	up(&c);
	assert_int_equal(mc_mem_lookup(c.ctx[0], 1, "never", 0, &r), MC_ERR_TIMEOUT);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = 1});
	assert_int_equal(mc_mem_lookup(c.ctx[0], 1, "never", 20 * SEC, &r), MC_ERR_PEER_DOWN);
	cluster_down(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lookup__polled),
		cmocka_unit_test(lookup__many_names_that_never_come),
		cmocka_unit_test(lookup__old_answer_is_not_used),
		cmocka_unit_test(lookup__polled_seldom),
		cmocka_unit_test(lookup__peer_lost_meanwhile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_foreign_resume.c - ranks of other jobs that were lost though they live, as when a network was cut, and are met
 * again: the same number and epoch, and nothing of before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "foreign_side.h"

enum { LEN = 1 << 16 };

/* What a broken link does. */
static void cut(struct mc_ctx *ctx, uint32_t peer)
{
	mc_ctx_lock(ctx);
	mc_peer_fail(mc_peer_get(ctx, peer), MC_ERR_PEER_DOWN, "the cable was pulled");
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
}

static mc_status_t state_of(struct mc_ctx *ctx, uint32_t peer)
{
	struct mc_peer_info info = {.size = sizeof(info)};
	assert_int_equal(mc_peer_query(ctx, peer, &info), MC_OK);
	return info.state;
}

static void wait_state(struct mc_ctx *ctx, uint32_t peer, mc_status_t s)
{
	int64_t end = mc_now_ns() + 20 * SEC;
	while (state_of(ctx, peer) != s && mc_now_ns() < end)
		sched_yield();
	assert_int_equal(state_of(ctx, peer), s);
}

/* The record is written once more, as after an outage of the directory. */
static void tell_again(const char *job, uint32_t rank)
{
	pthread_mutex_lock(&fake.lock);
	struct fake_entry was = *fake_place(job, rank);
	assert_true(was.there);
	fake_put(was.job, was.role, was.rank, was.epoch, was.record, was.len);
	pthread_mutex_unlock(&fake.lock);
}

static void fault_is(struct mc_ctx *ctx, uint32_t peer, mc_status_t s)
{
	struct mc_fault f = {.size = sizeof(f)};
	int64_t end = mc_now_ns() + 20 * SEC;
	while (mc_fault_next(ctx, &f) != MC_OK && mc_now_ns() < end)
		sched_yield();
	assert_int_equal(f.peer, peer);
	assert_int_equal(f.status, s);
}

static void no_fault(struct mc_ctx *ctx)
{
	struct mc_fault f = {.size = sizeof(f)};
	assert_int_equal(mc_fault_next(ctx, &f), MC_ERR_AGAIN);
}

/* One rank each, that have met. */
struct two {
	struct cluster p, d;
	uint32_t at_d, at_p; /* the number that the other one has there */
};

static void two_up(struct two *t, const char *backend)
{
	memset(t, 0, sizeof(*t));
	job_up(&t->p, "p-a", "prefill", 1, backend);
	job_up(&t->d, "d-a", "decode", 1, backend);
	find(t->d.ctx[0], "prefill", NULL, 1, &t->at_d);
	find(t->p.ctx[0], "decode", NULL, 1, &t->at_p);
	note_between(t->d.ctx[0], t->at_d, t->p.ctx[0], t->at_p);
	note_between(t->p.ctx[0], t->at_p, t->d.ctx[0], t->at_d);
}

static void notes_both_ways(struct two *t)
{
	note_between(t->d.ctx[0], t->at_d, t->p.ctx[0], t->at_p);
	note_between(t->p.ctx[0], t->at_p, t->d.ctx[0], t->at_d);
}

/* One side lost the other, which has not noticed. */
static void resume_one_side(const char *backend)
{
	struct two t;
	struct mc_mem *src, *dst;
	struct mc_rmem *old, *to;
	struct mc_req *req;
	struct mc_counter *before, *cnt;
	uint32_t found;
	struct mc_notify one = {.size = sizeof(one), .flags = MC_NOTIFY_COUNT, .tag = 9, .add = 2};
	struct mc_xfer_opts o = {.size = sizeof(o), .notify = &one};
	two_up(&t, backend);
	struct mc_ctx *d = t.d.ctx[0], *p = t.p.ctx[0];
	assert_int_equal(mc_mem_alloc(d, LEN, NULL, &src), MC_OK);
	assert_int_equal(mc_mem_alloc(p, LEN, NULL, &dst), MC_OK);
	assert_int_equal(mc_mem_publish(dst, "in"), MC_OK);
	assert_int_equal(mc_mem_lookup(d, t.at_d, "in", 20 * SEC, &old), MC_OK);
	assert_int_equal(mc_counter_open(p, 9, t.at_p, &before), MC_OK);
	cut(d, t.at_d);
	wait_state(d, t.at_d, MC_ERR_PEER_DOWN);
	assert_int_equal(mc_peer_find(d, NULL, NULL, 1, 0, NULL, 0, &found), MC_ERR_TIMEOUT);
	tell_again("p-a", 0);
	find(d, "prefill", "p-a", 1, &found);
	assert_int_equal(found, t.at_d);
	fault_is(d, t.at_d, MC_ERR_PEER_DOWN);
	fault_is(d, t.at_d, MC_OK);
	fault_is(p, t.at_p, MC_ERR_PEER_DOWN);
	fault_is(p, t.at_p, MC_OK);
	notes_both_ways(&t);
	/* What belonged to the old connection is of no use, what is made anew is. */
	struct mc_slice s = {src, 0, old, 0, LEN};
	assert_int_equal(mc_put(d, t.at_d, &s, 1, NULL, &req), MC_ERR_STALE);
	mc_rmem_release(old);
	assert_int_equal(mc_counter_wait(before, 1, 20 * SEC), MC_ERR_PEER_DOWN);
	assert_int_equal(mc_mem_lookup(d, t.at_d, "in", 20 * SEC, &to), MC_OK);
	assert_int_equal(mc_counter_open(p, 9, t.at_p, &cnt), MC_OK);
	memset(mc_mem_addr(src), 0x42, LEN);
	s.rmem = to;
	assert_int_equal(mc_put(d, t.at_d, &s, 1, &o, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	mc_req_free(req);
	assert_int_equal(mc_counter_wait(cnt, 2, 20 * SEC), MC_OK);
	assert_int_equal(mc_counter_read(before), 0);
	assert_memory_equal(mc_mem_addr(src), mc_mem_addr(dst), LEN);
	no_fault(d);
	no_fault(p);
	both_down(&t.p, &t.d);
}

static void resume__one_side(void **state)
{
	(void)state;
	resume_one_side("shm");
}

static void resume__one_side_ucx(void **state)
{
	(void)state;
#ifdef CLUSTER_UCX
	resume_one_side("ucx");
#else
	skip();
#endif
}

/* Both have lost each other, again and again, and both call: the calls may cross. */
static void resume_both_sides(const char *backend)
{
	struct two t;
	two_up(&t, backend);
	uint64_t epoch = t.p.ctx[0]->epoch;
	for (int i = 0; i < 5; i++) {
		cut(t.d.ctx[0], t.at_d);
		cut(t.p.ctx[0], t.at_p);
		wait_state(t.d.ctx[0], t.at_d, MC_ERR_PEER_DOWN);
		wait_state(t.p.ctx[0], t.at_p, MC_ERR_PEER_DOWN);
		tell_again("p-a", 0);
		tell_again("d-a", 0);
		wait_state(t.d.ctx[0], t.at_d, MC_OK);
		wait_state(t.p.ctx[0], t.at_p, MC_OK);
	}
	/* Which of two that crossed counts is settled with the first message that arrives. */
	int64_t end = mc_now_ns() + 20 * SEC;
	struct mc_note *n;
	do {
		(void)!mc_note_send(t.d.ctx[0], t.at_d, 1, NULL, 0, NULL);
	} while (mc_note_recv(t.p.ctx[0], SEC / 10, &n) != MC_OK && mc_now_ns() < end);
	assert_true(mc_now_ns() < end);
	assert_true(n->epoch == t.d.ctx[0]->epoch && n->peer == t.at_p);
	mc_note_free(n);
	assert_true(t.p.ctx[0]->epoch == epoch);
	both_down(&t.p, &t.d);
}

static void resume__both_sides(void **state)
{
	(void)state;
	resume_both_sides("shm");
}

static void resume__both_sides_ucx(void **state)
{
	(void)state;
#ifdef CLUSTER_UCX
	resume_both_sides("ucx");
#else
	skip();
#endif
}

/* Without a word of the directory: when the record has outlived its lease. */
static void resume__by_itself(void **state)
{
	(void)state;
	struct two t;
	setenv("MC_ETCD_LEASE", "2s", 1);
	two_up(&t, "shm");
	unsetenv("MC_ETCD_LEASE");
	int64_t start = mc_now_ns();
	cut(t.d.ctx[0], t.at_d);
	/* by the news, which is kept: who looks at the state may come too late to see it lost */
	fault_is(t.d.ctx[0], t.at_d, MC_ERR_PEER_DOWN);
	fault_is(t.d.ctx[0], t.at_d, MC_OK);
	assert_true(mc_now_ns() - start >= 2 * SEC);
	notes_both_ways(&t);
	both_down(&t.p, &t.d);
}

/* Who is dead is not called once its record is gone, and a call that nobody takes is not news. */
static void resume__dead(void **state)
{
	(void)state;
	struct two t;
	two_up(&t, "shm");
	struct mc_ctx *d = t.d.ctx[0];
	cut(d, t.at_d);
	wait_state(d, t.at_d, MC_ERR_PEER_DOWN);
	fake.keep = true;
	cluster_down(&t.p);
	tell_again("p-a", 0);
	int64_t end = mc_now_ns() + 20 * SEC;
	bool over = false;
	while (!over && mc_now_ns() < end) { /* called, in vain, and planned again */
		mc_ctx_lock(d);
		const struct mc_peer *p = mc_peer_get(d, t.at_d);
		over = p->calling != NULL && p->calling->state == MC_PEER_DOWN && p->call_ns < INT64_MAX;
		mc_ctx_unlock(d);
		sched_yield();
	}
	assert_true(over);
	fault_is(d, t.at_d, MC_ERR_PEER_DOWN);
	no_fault(d);
	pthread_mutex_lock(&fake.lock);
	fake_drop(fake_place("p-a", 0));
	pthread_mutex_unlock(&fake.lock);
	end = mc_now_ns() + 20 * SEC;
	for (over = false; !over && mc_now_ns() < end; sched_yield()) {
		mc_ctx_lock(d);
		over = mc_peer_get(d, t.at_d)->call_ns == INT64_MAX;
		mc_ctx_unlock(d);
	}
	assert_true(over);
	/* A new process of that name is met as ever. */
	job_up(&t.p, "p-a", "prefill", 1, "shm");
	wait_state(d, t.at_d, MC_IN_PROGRESS);
	note_between(d, t.at_d, t.p.ctx[0], MC_NO_RANK);
	both_down(&t.p, &t.d);
}

/* A JOIN of p with that session, as d's backend would deliver it. */
static struct mc_peer *join_with(struct two *t, uint64_t session)
{
	struct mc_ctx *d = t->d.ctx[0], *p = t->p.ctx[0];
	uint8_t rec[MC_RECORD_MAX], body[MC_RECORD_MAX + 16];
	uint32_t len;
	struct mc_wr w;
	struct mc_rd r;
	struct mc_frame f = {.kind = MC_MSG_JOIN,
			     .src_rank = 0,
			     .job = p->job,
			     .src_epoch = p->epoch ^ session,
			     .dst_epoch = d->epoch ^ session};
	mc_ctx_lock(p);
	assert_int_equal(mc_record_make(p, p->foreign->key, rec, sizeof(rec), &len), MC_OK);
	mc_ctx_unlock(p);
	mc_wr_init(&w, body, sizeof(body));
	mc_wr_blob(&w, rec, len);
	mc_rd_init(&r, body, (uint32_t)mc_wr_len(&w));
	mc_ctx_lock(d);
	mc_on_join(d, &f, &r);
	struct mc_peer *now = mc_peer_get(d, t->at_d);
	mc_ctx_unlock(d);
	return now;
}

/* What was said before the present connection was made does not break it. */
static void resume__old_call(void **state)
{
	(void)state;
	struct two t;
	two_up(&t, "shm");
	struct mc_peer *first = mc_peer_get(t.d.ctx[0], t.at_d);
	assert_ptr_equal(join_with(&t, 0), first);
	struct mc_peer *second = join_with(&t, 7);
	assert_ptr_not_equal(second, first);
	assert_ptr_equal(join_with(&t, 7), second);
	assert_ptr_equal(join_with(&t, 6), second);
	assert_ptr_equal(join_with(&t, 0), second);
	assert_ptr_not_equal(join_with(&t, 8), second);
	both_down(&t.p, &t.d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(resume__one_side, begin),
		cmocka_unit_test_setup(resume__one_side_ucx, begin),
		cmocka_unit_test_setup(resume__both_sides, begin),
		cmocka_unit_test_setup(resume__both_sides_ucx, begin),
		cmocka_unit_test_setup(resume__by_itself, begin),
		cmocka_unit_test_setup(resume__dead, begin),
		cmocka_unit_test_setup(resume__old_call, begin),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

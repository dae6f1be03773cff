/* SPDX-License-Identifier: BSD-3-Clause */
/* Who makes progress, who sleeps and who is woken: callers that wait or poll, and the progress thread behind them. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster.h"
#include "progress.h"

enum { POOL = 1 << 20, WAITERS = 4, ROUNDS = 200 };

struct pair {
	struct cluster c;
	struct mc_mem *src, *dst;
	struct mc_rmem *to; /* dst seen from rank 0 */
};

/* packed: bytes go by message, so that rank 1's engine has to do something about each */
static void pair_up(struct pair *p, const char *backend, const char *transport, const char *progress, bool packed)
{
	memset(p, 0, sizeof(*p));
	p->c.progress = progress;
	cluster_up(&p->c, 2, backend, transport);
	if (packed)
		cluster_fault(&p->c, 0,
			      (struct mc_loop_fault){.kind = MC_LOOP_FAIL,
						     .slot = MC_LOOP_RMEM_IMPORT,
						     .kth = 1,
						     .status = MC_ERR_UNSUPPORTED});
	assert_int_equal(mc_mem_alloc(p->c.ctx[0], POOL, NULL, &p->src), MC_OK);
	assert_int_equal(mc_mem_alloc(p->c.ctx[1], POOL, NULL, &p->dst), MC_OK);
	assert_int_equal(mc_mem_publish(p->dst, "to"), MC_OK);
}

static void pair_down(struct pair *p)
{
	mc_rmem_release(p->to);
	assert_int_equal(mc_mem_free(p->src), MC_OK);
	assert_int_equal(mc_mem_free(p->dst), MC_OK);
	cluster_down(&p->c);
}

static struct mc_req *put_counted(struct pair *p, uint64_t tag)
{
	struct mc_slice s = {p->src, 0, p->to, 0, 4096};
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = tag, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note};
	struct mc_req *req = NULL;
	assert_int_equal(mc_put(p->c.ctx[0], 1, &s, 1, &opts, &req), MC_OK);
	return req;
}

/* Without making progress: others have to. */
static bool ends_by_itself(struct mc_req *req)
{
	int64_t end = mc_now_ns() + 20 * SEC;
	while (mc_req_test(req) == MC_IN_PROGRESS && mc_now_ns() < end)
		sched_yield();
	return mc_req_test(req) != MC_IN_PROGRESS;
}

static bool await_state(struct mc_ctx *ctx, bool (*is)(const struct mc_ctx *ctx))
{
	int64_t end = mc_now_ns() + 30 * SEC;
	bool yes = false;
	while (!yes && mc_now_ns() < end) {
		mc_ctx_lock(ctx);
		yes = is(ctx);
		mc_ctx_unlock(ctx);
		sched_yield();
	}
	return yes;
}

static bool caller_sleeps(const struct mc_ctx *ctx)
{
	return ctx->drv.caller_asleep && !ctx->drv.watching;
}

static bool all_asleep(const struct mc_ctx *ctx)
{
	return ctx->drv.thread_asleep && ctx->drv.watching && ctx->sleep_until_ns == INT64_MAX;
}

static bool has_deadline(const struct mc_ctx *ctx)
{
	return ctx->timer_ns != INT64_MAX;
}

/* ---- deadlines that a sleeper has not heard of ---- */

struct release {
	struct pair *p;
	bool ok;
};

/* Once the caller sleeps, let the first message through: its refusal gives the request a deadline. */
static void *release_one(void *arg)
{
	struct release *r = arg;
	r->ok = await_state(r->p->c.ctx[0], caller_sleeps);
	cluster_fault(&r->p->c, 0, (struct mc_loop_fault){.kind = MC_LOOP_RELEASE, .peer = 1, .n = 1});
	return NULL;
}

/* False: the machine held somebody up, so that the caller did not sleep, or not leave, when it was to. */
static bool deadline_for_the_sleeper(void)
{
	struct pair p;
	struct release r = {.p = &p};
	struct mc_req *req;
	pthread_t t;
	pair_up(&p, "loop", "auto", NULL, true);
	assert_int_equal(mc_mem_lookup(p.c.ctx[0], 1, "to", 30 * SEC, &p.to), MC_OK);
	struct mc_ctx *ctx = p.c.ctx[0];
	ctx->cfg.pack_size = 4096;
	ctx->cfg.cancel_timeout = SEC;
	assert_int_equal(mc_mem_free(p.dst), MC_OK); /* the target will refuse what comes */
	p.dst = NULL;
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 1, .n = 1});
	struct mc_slice s = {p.src, 0, p.to, 0, 3 * 4096};
	assert_int_equal(mc_put(ctx, 1, &s, 1, NULL, &req), MC_OK);
	assert_true(await_state(ctx, all_asleep)); /* without an alarm: nothing has a deadline yet */
	assert_int_equal(pthread_create(&t, NULL, release_one, &r), 0);
	bool staged = mc_req_wait(req, SEC / 2) == MC_ERR_AGAIN;
	pthread_join(t, NULL);
	mc_ctx_lock(ctx);
	staged = staged && r.ok && has_deadline(ctx);
	mc_ctx_unlock(ctx);
	assert_true(ends_by_itself(req));
	assert_int_equal(mc_req_wait(req, 0), MC_ERR_STALE);
	mc_req_free(req);
	pair_down(&p);
	return staged;
}

static void deadline__set_by_a_poll_reaches_the_sleeper(void **state)
{
	(void)state;
	bool staged = false;
	for (int i = 0; i < 10 && !staged; i++)
		staged = deadline_for_the_sleeper();
	assert_true(staged);
}

static void *wait_long(void *arg)
{
	struct mc_counter *c = arg;
	return mc_counter_wait(c, 1, 20 * SEC) == MC_OK ? c : NULL;
}

/* One caller sleeps on the descriptors without an alarm; another posts what has a deadline, and only asks. */
static void deadline__of_a_post_reaches_a_sleeping_caller(void **state)
{
	(void)state;
	struct pair p;
	struct mc_counter *c;
	struct mc_req *req, *wake;
	pthread_t t;
	void *got;
	pair_up(&p, "loop", "auto", NULL, true);
	assert_int_equal(mc_mem_lookup(p.c.ctx[0], 1, "to", 30 * SEC, &p.to), MC_OK);
	struct mc_ctx *ctx = p.c.ctx[0];
	ctx->cfg.cancel_timeout = SEC / 5;
	assert_int_equal(mc_counter_open(ctx, 5, MC_ANY_PEER, &c), MC_OK);
	assert_int_equal(pthread_create(&t, NULL, wait_long, c), 0);
	assert_true(await_state(ctx, caller_sleeps));
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 1, .n = 1});
	struct mc_slice s = {p.src, 0, p.to, 0, 4096};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .timeout_ns = SEC / 10};
	assert_int_equal(mc_put(ctx, 1, &s, 1, &opts, &req), MC_OK);
	assert_true(ends_by_itself(req));
	/* a note to oneself ends the wait */
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = 5, .add = 1};
	opts = (struct mc_xfer_opts){.size = sizeof(opts), .notify = &note};
	assert_int_equal(mc_put(ctx, 0, NULL, 0, &opts, &wake), MC_OK);
	assert_int_equal(mc_req_wait(wake, 30 * SEC), MC_OK);
	pthread_join(t, &got);
	assert_ptr_equal(got, c);
	mc_req_free(req);
	mc_req_free(wake);
	mc_counter_close(c);
	pair_down(&p);
}

/* ---- several that wait ---- */

struct listener {
	struct mc_counter *c;
	_Atomic(uint64_t) heard;
	_Atomic(bool) ok;
};

static void *listen(void *arg)
{
	struct listener *l = arg;
	for (uint64_t i = 1; i <= ROUNDS && l->ok; i++) {
		l->ok = mc_counter_wait(l->c, i, 20 * SEC) == MC_OK;
		atomic_store(&l->heard, i);
	}
	return NULL;
}

/* Each hears of its own, whoever of them has the descriptors when it comes. */
static void listeners(const char *backend, const char *transport, bool packed)
{
	struct pair p;
	struct listener l[WAITERS];
	pthread_t t[WAITERS];
	uint32_t rnd = 12345;
	pair_up(&p, backend, transport, NULL, packed);
	assert_int_equal(mc_mem_lookup(p.c.ctx[0], 1, "to", 30 * SEC, &p.to), MC_OK);
	memset(l, 0, sizeof(l));
	for (uint32_t i = 0; i < WAITERS; i++) {
		atomic_store(&l[i].ok, true);
		assert_int_equal(mc_counter_open(p.c.ctx[1], i, 0, &l[i].c), MC_OK);
		assert_int_equal(pthread_create(&t[i], NULL, listen, &l[i]), 0);
	}
	for (uint64_t r = 1; r <= ROUNDS; r++) {
		uint32_t first = (rnd = rnd * 1664525 + 1013904223) >> 16;
		for (uint32_t i = 0; i < WAITERS; i++) {
			uint32_t k = (first + i) % WAITERS;
			struct mc_req *req = put_counted(&p, k);
			assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
			mc_req_free(req);
			int64_t end = mc_now_ns() + 20 * SEC;
			while (atomic_load(&l[k].heard) < r && l[k].ok && mc_now_ns() < end)
				sched_yield();
			assert_int_equal(atomic_load(&l[k].heard), r);
		}
	}
	for (uint32_t i = 0; i < WAITERS; i++) {
		pthread_join(t[i], NULL);
		assert_true(l[i].ok);
		mc_counter_close(l[i].c);
	}
	pair_down(&p);
}

static void waiters__each_hears_of_its_own(void **state)
{
	(void)state;
	listeners("loop", "auto", false);
	listeners("loop", "auto", true);
	listeners("shm", "shm", false);
#ifdef CLUSTER_UCX
	listeners("ucx", "tcp", false);
#endif
}

/* Manual progress: one sleeps in a wait, another polls and finds what the first one waits for. */
static void manual__a_poll_of_another_wakes_who_waits(void **state)
{
	(void)state;
	struct pair p;
	struct mc_counter *c;
	pthread_t t;
	void *got;
	pair_up(&p, "shm", "shm", "manual", false);
	p.to = NULL;
	assert_int_equal(mc_counter_open(p.c.ctx[1], 5, 0, &c), MC_OK);
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = 5, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note};
	for (uint64_t i = 1; i <= 20; i++) {
		struct mc_req *req;
		assert_int_equal(pthread_create(&t, NULL, wait_long, c), 0);
		assert_int_equal(mc_put(p.c.ctx[0], 1, NULL, 0, &opts, &req), MC_OK);
		int64_t start = mc_now_ns();
		while (mc_counter_read(c) == 0 && mc_now_ns() - start < 20 * SEC) {
			mc_progress(p.c.ctx[0]);
			mc_progress(p.c.ctx[1]);
		}
		pthread_join(t, &got);
		assert_ptr_equal(got, c);
		assert_int_equal(mc_req_wait(req, 30 * SEC), MC_OK);
		mc_req_free(req);
		mc_counter_close(c);
		assert_int_equal(mc_counter_open(p.c.ctx[1], 5, 0, &c), MC_OK);
	}
	mc_counter_close(c);
	pair_down(&p);
}

/* ---- the lease ---- */

/* Rank 1 polls as fast as it can, so that its progress thread stays away, and then stops without a word. */
static void lease__ends_when_they_stop(void **state)
{
	(void)state;
	struct pair p;
	pair_up(&p, "loop", "auto", NULL, true);
	assert_int_equal(mc_mem_lookup(p.c.ctx[0], 1, "to", 30 * SEC, &p.to), MC_OK);
	for (uint32_t i = 0; i < 20; i++) {
		bool leased = false;
		int64_t end = mc_now_ns() + 30 * SEC;
		while (!leased && mc_now_ns() < end) {
			mc_progress(p.c.ctx[1]);
			mc_ctx_lock(p.c.ctx[1]);
			leased = p.c.ctx[1]->drv.lease;
			mc_ctx_unlock(p.c.ctx[1]);
		}
		assert_true(leased);
		struct mc_req *req = put_counted(&p, 1);
		assert_true(ends_by_itself(req)); /* rank 1 has to answer */
		assert_int_equal(mc_req_wait(req, 0), MC_OK);
		mc_req_free(req);
	}
	pair_down(&p);
}

/* An answer waits for company when a waiting caller leaves; it goes out although that one never comes back. */
static void answer__goes_out_without_company(void **state)
{
	(void)state;
	struct pair p;
	struct mc_counter *c;
	pair_up(&p, "loop", "auto", NULL, true);
	assert_int_equal(mc_mem_lookup(p.c.ctx[0], 1, "to", 30 * SEC, &p.to), MC_OK);
	assert_int_equal(mc_counter_open(p.c.ctx[1], 3, 0, &c), MC_OK);
	for (uint64_t i = 1; i <= 50; i++) {
		struct mc_req *req = put_counted(&p, 3);
		assert_int_equal(mc_counter_wait(c, i, 30 * SEC), MC_OK);
		assert_true(ends_by_itself(req));
		assert_int_equal(mc_req_wait(req, 0), MC_OK);
		mc_req_free(req);
	}
	mc_counter_close(c);
	pair_down(&p);
}

/* True once, at its k-th call, and never again. */
struct once {
	uint32_t calls, k;
};

static bool once_true(void *arg)
{
	struct once *o = arg;
	return ++o->calls == o->k;
}

/* Whoever asks pred more than once in a round takes the first true for an answer. */
static void manual__a_true_is_final(void **state)
{
	(void)state;
	struct cluster c = {.progress = "manual"};
	cluster_up(&c, 1, "loop", "auto");
	c.ctx[0]->cfg.spin = 0;
	for (uint32_t k = 1; k <= 2; k++) { /* nothing wakes it for a third */
		_Atomic(uint32_t) word = 0;
		struct once o = {.k = k};
		assert_int_equal(mc_wait_until(c.ctx[0], once_true, &o, &word, mc_now_ns() + 10 * SEC), MC_OK);
		assert_int_equal(o.calls, k);
	}
	cluster_down(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deadline__set_by_a_poll_reaches_the_sleeper),
		cmocka_unit_test(deadline__of_a_post_reaches_a_sleeping_caller),
		cmocka_unit_test(waiters__each_hears_of_its_own),
		cmocka_unit_test(manual__a_poll_of_another_wakes_who_waits),
		cmocka_unit_test(manual__a_true_is_final),
		cmocka_unit_test(lease__ends_when_they_stop),
		cmocka_unit_test(answer__goes_out_without_company),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

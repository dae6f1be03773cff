/* SPDX-License-Identifier: BSD-3-Clause */
/* test_foreign_loss.c - ranks of other jobs that come, go, come again, are dead or not what they say; and a directory
 * that is away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "foreign_side.h"

enum { LEN = 1 << 16 };

/* ---- watches ---- */

struct seen {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct mc_ctx *ctx;
	uint32_t came, gone, running;
	struct mc_peer_event last;
	bool connect;          /* from within the function */
	struct mc_watch *free; /* in the first call */
};

static void on_peer(void *arg, const struct mc_peer_event *ev)
{
	struct seen *s = arg;
	mc_status_t up = MC_OK;
	pthread_mutex_lock(&s->lock);
	assert_int_equal(s->running++, 0);
	pthread_mutex_unlock(&s->lock);
	if (s->connect && ev->status == MC_OK)
		up = mc_connect(s->ctx, ev->peer, 20 * SEC);
	pthread_mutex_lock(&s->lock);
	if (s->free != NULL)
		mc_peer_watch_free(s->free);
	s->running--;
	s->came += ev->status == MC_OK && up == MC_OK;
	s->gone += ev->status != MC_OK;
	s->last = *ev;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

/* Until that many came and are gone. */
static void seen_wait(struct seen *s, uint32_t came, uint32_t gone)
{
	struct timespec end;
	int rc = 0;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 20;
	pthread_mutex_lock(&s->lock);
	while ((s->came < came || s->gone < gone) && rc == 0)
		rc = pthread_cond_timedwait(&s->cond, &s->lock, &end);
	assert_int_equal(s->came, came);
	assert_int_equal(s->gone, gone);
	pthread_mutex_unlock(&s->lock);
}

static void watch__come_and_go(void **state)
{
	(void)state;
	struct cluster p = {0}, d = {0}, other = {0};
	struct seen s = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER, .connect = true};
	struct seen all = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	struct mc_watch *w, *wa;
	uint32_t before[2], after[2];
	job_up(&d, "d-a", "decode", 1, "shm");
	s.ctx = d.ctx[0];
	assert_int_equal(mc_peer_watch(d.ctx[0], NULL, NULL, NULL, NULL, &w), MC_ERR_INVAL);
	assert_int_equal(mc_peer_watch(d.ctx[0], "prefill", "p-*", on_peer, &s, &w), MC_OK);
	job_up(&p, "p-a", "prefill", 2, "shm");
	job_up(&other, "q-a", "prefill", 1, "shm");
	seen_wait(&s, 2, 0);
	find(d.ctx[0], "prefill", "p-a", 2, before);
	assert_int_equal(mc_peer_watch(d.ctx[0], NULL, NULL, on_peer, &all, &wa), MC_OK);
	seen_wait(&all, 3, 0); /* those that are there, too */
	cluster_down(&p);
	seen_wait(&s, 2, 2);
	assert_int_equal(s.last.status, MC_ERR_PEER_DOWN);
	job_up(&p, "p-a", "prefill", 2, "shm");
	seen_wait(&s, 4, 2);
	find(d.ctx[0], "prefill", "p-a", 2, after);
	assert_memory_equal(before, after, sizeof(before)); /* the same ranks, other processes */
	seen_wait(&all, 5, 2);
	all.free = wa;
	cluster_down(&other);
	seen_wait(&all, 5, 3);
	mc_peer_watch_free(w);
	mc_peer_watch_free(NULL);
	cluster_down(&p);
	seen_wait(&s, 4, 2); /* no more calls */
	seen_wait(&all, 5, 3);
	cluster_down(&d);
}

static void watch__manual(void **state)
{
	(void)state;
	struct cluster p = {0}, d = {.progress = "manual"};
	struct seen s = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	struct mc_watch *w;
	job_up(&d, "d-a", "decode", 1, "shm");
	job_up(&p, "p-a", "prefill", 2, "shm");
	assert_int_equal(mc_peer_watch(d.ctx[0], NULL, NULL, on_peer, &s, &w), MC_OK);
	int64_t end = mc_now_ns() + 20 * SEC;
	while (s.came < 2 && mc_now_ns() < end)
		mc_progress(d.ctx[0]);
	assert_int_equal(s.came, 2);
	assert_false(d.ctx[0]->foreign->thread_on);
	both_down(&p, &d);
}

/* ---- loss ---- */

/* A job that was started again under its name: the same numbers, and nothing of the processes before. */
static void again__new_job_of_that_name(void **state)
{
	(void)state;
	struct cluster p, d;
	uint32_t at_d[2], again[2];
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	struct mc_req *req;
	struct mc_peer_info info = {.size = sizeof(info)};
	both_up(&p, &d, "shm");
	find(d.ctx[0], "prefill", NULL, 2, at_d);
	assert_int_equal(mc_mem_alloc(d.ctx[0], LEN, NULL, &src), MC_OK);
	assert_int_equal(mc_mem_alloc(p.ctx[1], LEN, NULL, &dst), MC_OK);
	assert_int_equal(mc_mem_publish(dst, "m"), MC_OK);
	assert_int_equal(mc_mem_lookup(d.ctx[0], at_d[1], "m", 20 * SEC, &to), MC_OK);
	fake.keep = true; /* its lease runs on */
	cluster_down(&p);
	job_up(&p, "p-a", "prefill", 2, "shm");
	for (uint32_t i = 0; i < 2; i++) {
		do {
			assert_int_equal(mc_peer_query(d.ctx[0], at_d[i], &info), MC_OK);
			mc_progress(d.ctx[0]);
		} while (info.epoch != p.ctx[i]->epoch);
	}
	find(d.ctx[0], "prefill", NULL, 2, again);
	assert_memory_equal(again, at_d, sizeof(again));
	struct mc_slice s = {src, 0, to, 0, LEN};
	assert_int_equal(mc_put(d.ctx[0], at_d[1], &s, 1, NULL, &req), MC_ERR_STALE);
	note_between(d.ctx[0], at_d[1], p.ctx[1], MC_NO_RANK);
	note_between(d.ctx[0], at_d[0], p.ctx[0], MC_NO_RANK);
	both_down(&p, &d);
}

static void loss__stale_record(void **state)
{
	(void)state;
	struct cluster p, d;
	uint32_t at_d[2], n;
	both_up(&p, &d, "shm");
	find(d.ctx[0], "prefill", NULL, 2, at_d);
	fake.keep = true;
	cluster_down(&p); /* not a word to d, which never talked to it */
	int64_t start = mc_now_ns();
	assert_int_equal(mc_connect(d.ctx[0], at_d[0], 20 * SEC), MC_ERR_PEER_DOWN);
	assert_true(mc_now_ns() - start < 15 * SEC); /* not by the deadline */
	assert_int_equal(mc_peer_find(d.ctx[0], "prefill", NULL, 1, 20 * SEC, at_d, 2, &n), MC_OK);
	assert_int_equal(n, 1); /* the other one was not tried yet */
	cluster_down(&d);
}

/* By TCP alone: the kernel of this host refuses the call at once, and UCX says "unreachable" as of another network. */
static void loss__stale_record_tcp(void **state)
{
	(void)state;
#ifdef CLUSTER_UCX
	struct cluster p = {0}, d = {0};
	struct mc_rmem *rmem;
	uint32_t at_d[2];
	transport = "tcp";
	job_up(&p, "p-a", "prefill", 2, "ucx");
	job_up(&d, "d-a", "decode", 1, "ucx");
	find(d.ctx[0], "prefill", NULL, 2, at_d);
	fake.keep = true;
	cluster_down(&p);
	assert_int_equal(mc_connect(d.ctx[0], at_d[0], 20 * SEC), MC_ERR_PEER_DOWN);
	assert_int_equal(mc_mem_lookup(d.ctx[0], at_d[1], "kv", 20 * SEC, &rmem), MC_ERR_PEER_DOWN);
	cluster_down(&d);
#else
	skip();
#endif
}

static void loss__no_answer(void **state)
{
	(void)state;
	struct cluster p = {.progress = "manual"}, d = {0};
	uint32_t at_d[1];
	job_up(&p, "p-a", "prefill", 1, "shm");
	for (int i = 0; i < 100; i++)
		mc_progress(p.ctx[0]); /* published; from here on it does nothing */
	setenv("MC_JOIN_TIMEOUT", "50ms", 1);
	job_up(&d, "d-a", "decode", 1, "shm");
	unsetenv("MC_JOIN_TIMEOUT");
	find(d.ctx[0], "prefill", NULL, 1, at_d);
	assert_int_equal(mc_connect(d.ctx[0], at_d[0], 20 * SEC), MC_ERR_PEER_DOWN);
	both_down(&p, &d);
}

static void loss__directory_is_away(void **state)
{
	(void)state;
	struct cluster p, d;
	uint32_t at_d[2], n;
	struct mc_fault f = {.size = sizeof(f)};
	both_up(&p, &d, "shm");
	find(d.ctx[0], "prefill", NULL, 2, at_d);
	note_between(d.ctx[0], at_d[0], p.ctx[0], MC_NO_RANK);
	fake_away(true);
	do { /* until d has heard of it */
		mc_progress(d.ctx[0]);
	} while (mc_fault_next(d.ctx[0], &f) != MC_OK);
	assert_int_equal(f.status, MC_ERR_DIRECTORY);
	int64_t start = mc_now_ns();
	assert_int_equal(mc_peer_find(d.ctx[0], "prefill", NULL, 1, SEC / 20, at_d, 2, &n), MC_ERR_DIRECTORY);
	assert_true(mc_now_ns() - start < 15 * SEC);
	note_between(d.ctx[0], at_d[0], p.ctx[0], MC_NO_RANK); /* what is connected goes on */
	note_between(d.ctx[0], at_d[1], p.ctx[1], MC_NO_RANK); /* and what is known */
	fake_away(false);
	find(d.ctx[0], "prefill", NULL, 2, at_d);
	both_down(&p, &d);
}

/* A record that ran out, though its rank lives, breaks no link. */
static void loss__record_gone(void **state)
{
	(void)state;
	struct cluster p, d;
	uint32_t at_d[2], n;
	both_up(&p, &d, "shm");
	find(d.ctx[0], "prefill", NULL, 2, at_d);
	note_between(d.ctx[0], at_d[0], p.ctx[0], MC_NO_RANK);
	pthread_mutex_lock(&fake.lock);
	struct fake_entry was = *fake_place("p-a", 0);
	fake_drop(fake_place("p-a", 0));
	pthread_mutex_unlock(&fake.lock);
	do {
		assert_int_equal(mc_peer_find(d.ctx[0], "prefill", NULL, 1, 20 * SEC, &at_d[1], 1, &n), MC_OK);
		mc_progress(d.ctx[0]);
	} while (n != 1);
	note_between(d.ctx[0], at_d[0], p.ctx[0], MC_NO_RANK);
	pthread_mutex_lock(&fake.lock);
	fake_put(was.job, was.role, was.rank, was.epoch, was.record, was.len);
	pthread_mutex_unlock(&fake.lock);
	find(d.ctx[0], "prefill", NULL, 2, at_d);
	both_down(&p, &d);
}

/* ---- strangers ---- */

static void strangers__get_nowhere(void **state)
{
	(void)state;
	struct cluster p = {0}, d = {0};
	uint32_t n, at_d[2];
	job_up(&d, "d-a", "decode", 1, "shm");
	struct mc_mac_key k;
	if (!mc_mac_key_make((const uint8_t[32]){1}, &k)) {
		cluster_down(&d);
		skip();
	}
	find(d.ctx[0], NULL, NULL, 0, at_d);
	memset(fake.key, 0x11, sizeof(fake.key)); /* those that come now have another key */
	job_up(&p, "p-a", "prefill", 1, "shm");
	int64_t end = mc_now_ns() + 20 * SEC;
	while (!atomic_load(&refused) && mc_now_ns() < end)
		mc_progress(d.ctx[0]);
	assert_true(atomic_load(&refused));
	assert_int_equal(mc_peer_find(d.ctx[0], NULL, NULL, 1, 0, at_d, 2, &n), MC_ERR_TIMEOUT);
	both_down(&p, &d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(watch__come_and_go, begin),
		cmocka_unit_test_setup(watch__manual, begin),
		cmocka_unit_test_setup(again__new_job_of_that_name, begin),
		cmocka_unit_test_setup(loss__stale_record, begin),
		cmocka_unit_test_setup(loss__stale_record_tcp, begin),
		cmocka_unit_test_setup(loss__no_answer, begin),
		cmocka_unit_test_setup(loss__directory_is_away, begin),
		cmocka_unit_test_setup(loss__record_gone, begin),
		cmocka_unit_test_setup(strangers__get_nowhere, begin),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

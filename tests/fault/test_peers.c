/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The k-th allocation fails, k = 1, 2, ..., while jobs find each other, a rank of another job and one of the own are
 * started again: a status comes back in bounded time, nothing leaks, all can be finalized, and once the fault is over
 * the ranks that still know each other talk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../unit/foreign_side.h"

#define STEP_NS (SEC / 10)

static atomic_int alloc_countdown; /* 0: off */
static atomic_int alloc_hit;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

static bool fail_now(void)
{
	int left = atomic_load(&alloc_countdown);
	while (left > 0 && !atomic_compare_exchange_weak(&alloc_countdown, &left, left - 1))
		;
	if (left != 1)
		return false;
	atomic_store(&alloc_hit, 1);
	return true;
}

void *__wrap_malloc(size_t n)
{
	return fail_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
	return fail_now() ? NULL : __real_calloc(n, m);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fail_now() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fail_now() ? NULL : __real_strdup(s);
}

static void on_peer(void *arg, const struct mc_peer_event *ev)
{
	(void)ev;
	atomic_fetch_add((atomic_int *)arg, 1);
}

/* Every step may fail. */
static void talk(struct mc_ctx *ctx, const char *role)
{
	uint32_t peer[4], n = 0;
	struct mc_group *g;
	struct mc_rmem *r;
	if (mc_peer_find(ctx, role, NULL, 1, STEP_NS, peer, 4, &n) != MC_OK)
		return;
	for (uint32_t i = 0; i < n && i < 4; i++) {
		if (mc_connect(ctx, peer[i], STEP_NS) != MC_OK)
			continue;
		(void)!mc_note_send(ctx, peer[i], 1, "x", 1, NULL);
		if (strcmp(role, "prefill") == 0 && mc_mem_lookup(ctx, peer[i], "m", STEP_NS, &r) == MC_OK)
			mc_rmem_release(r);
	}
	if (mc_group_list(ctx, peer, n < 4 ? n : 4, &g) == MC_OK)
		mc_group_free(g);
}

static void *try_init(void *arg)
{
	struct cluster_start *s = arg;
	struct mc_params p = {.size = sizeof(p),
			      .hub = s->c->hub,
			      .rank = s->rank,
			      .role = s->c->role,
			      .backend = s->c->backend,
			      .init_timeout_ns = 20 * SEC};
	s->c->ctx[s->rank] = NULL;
	s->status = mc_init(&p, &s->c->ctx[s->rank]);
	return NULL;
}

static void scenario(int k)
{
	struct cluster p = {0}, d = {0};
	struct mc_watch *w = NULL;
	struct mc_mem *m;
	atomic_int seen = 0;
	struct cluster_start again = {.c = &d, .rank = 1};
	char key[65];
	job_up(&d, "d-a", "decode", 2, "shm");
	memcpy(key, job_key, sizeof(key));
	job_up(&p, "p-a", "prefill", 1, "shm");
	assert_int_equal(mc_mem_alloc(p.ctx[0], 4096, NULL, &m), MC_OK);
	assert_int_equal(mc_mem_publish(m, "m"), MC_OK);
	(void)!mc_connect(d.ctx[0], 1, 5 * SEC);
	atomic_store(&alloc_hit, 0);
	atomic_store(&alloc_countdown, k);
	if (mc_peer_watch(d.ctx[0], NULL, "p-*", on_peer, &seen, &w) != MC_OK)
		w = NULL;
	talk(d.ctx[0], "prefill");
	talk(p.ctx[0], "decode");
	/* A rank of the own job again. */
	mc_finalize(d.ctx[1]);
	d.hub->slot[1].again++;
	setenv("MC_JOB", "d-a", 1);
	setenv("MC_JOB_KEY", key, 1);
	try_init(&again);
	unsetenv("MC_JOB");
	unsetenv("MC_JOB_KEY");
	(void)!mc_connect(d.ctx[0], 1, STEP_NS);
	(void)mc_group_world(d.ctx[0]);
	talk(p.ctx[0], "decode");
	atomic_store(&alloc_countdown, 0);
	if (atomic_load(&alloc_hit) == 0) { /* with nothing in the way all of it works */
		assert_int_equal(again.status, MC_OK);
		assert_int_equal(mc_connect(d.ctx[0], 1, 20 * SEC), MC_OK);
		for (int64_t end = mc_now_ns() + 20 * SEC; atomic_load(&seen) == 0 && mc_now_ns() < end;)
			sched_yield(); /* the thread that calls the program's functions may be behind */
		assert_true(atomic_load(&seen) > 0);
	}
	mc_peer_watch_free(w);
	both_down(&p, &d);
}

static void peers__kth_allocation_fails(void **state)
{
	(void)state;
	int k = 1;
	for (;; k++) {
		begin(NULL);
		scenario(k);
		if (atomic_load(&alloc_hit) == 0)
			break;
		assert_true(k < 2000);
	}
	print_message("  %d allocations failed, one at a time\n", k - 1);
	assert_true(k > 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(peers__kth_allocation_fails)};
	setenv("MC_JOIN_TIMEOUT", "500ms", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

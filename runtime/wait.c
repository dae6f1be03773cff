/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wait.c - callers that wait. A waiting caller drives progress itself: it polls for the spin time and then sleeps in
 * epoll, so that what it waits for costs one wake-up. One caller at a time has the descriptors; the others sleep on the
 * futex word of what they wait for. When the last driving caller leaves, the progress thread has the descriptors again.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

enum { CLOCK_EVERY = 8, YIELD_NS = 2000, SLICE_NS = 300000, CROWDED_WAITS = 256, SHARED_NS = 5000000 };

struct waiter {
	struct mc_ctx *ctx;
	_Atomic(uint32_t) *word;
	uint32_t seen;       /* its value before pred was asked */
	int64_t deadline_ns;
	bool driving;        /* counted in ctx->drv.spinners */
};

static void futex_wait(_Atomic(uint32_t) *word, uint32_t seen, int64_t ns)
{
	struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, ns == INT64_MAX ? NULL : &ts, NULL, 0);
}

/*
 * The word was changed before, under the lock, under which a sleeper counts itself and looks at the word: it has seen
 * the change, or is counted. No fence is needed for that, and this is on the way of every short message.
 */
void mc_wake(struct mc_ctx *ctx, _Atomic(uint32_t) *word)
{
	if (atomic_load_explicit(&ctx->sleepers, memory_order_relaxed) > 0)
		syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	if (ctx->drv.caller_word == word)
		mc_progress_kick(ctx);
}

void mc_word_bump(struct mc_ctx *ctx, _Atomic(uint32_t) *word)
{
	uint32_t v = atomic_load_explicit(word, memory_order_relaxed);
	atomic_store_explicit(word, v + 1, memory_order_release); /* nobody else writes it meanwhile */
	mc_wake(ctx, word);
}

static uint32_t try_progress(struct mc_ctx *ctx)
{
	if (pthread_mutex_trylock(&ctx->lock) != 0) {
		sched_yield();
		return 0;
	}
	uint32_t n = mc_progress_locked(ctx, 1);
	pthread_mutex_unlock(&ctx->lock);
	return n;
}

static int64_t until(int64_t deadline_ns)
{
	if (deadline_ns == INT64_MAX)
		return INT64_MAX;
	int64_t now = mc_now_ns();
	return deadline_ns > now ? deadline_ns - now : 0;
}

/*
 * Another caller has the descriptors; it wakes us when our word changes, or the progress thread does. Under the lock,
 * which it gives back: see mc_wake().
 */
static void sleep_behind(struct waiter *w)
{
	struct mc_ctx *ctx = w->ctx;
	w->driving = false;
	ctx->drv.spinners--;
	mc_progress_hand_over(ctx);
	atomic_fetch_add_explicit(&ctx->sleepers, 1, memory_order_relaxed);
	bool changed = atomic_load(w->word) != w->seen;
	mc_ctx_unlock(ctx);
	if (!changed)
		futex_wait(w->word, w->seen, until(w->deadline_ns));
	atomic_fetch_sub_explicit(&ctx->sleepers, 1, memory_order_relaxed);
}

/*
 * Sleep until there is something to do, the word changes, or the deadline. Returns what the poll before or after the
 * sleep found.
 */
static uint32_t drive_asleep(struct waiter *w)
{
	struct mc_ctx *ctx = w->ctx;
	mc_ctx_lock(ctx);
	if (ctx->drv.caller_asleep) {
		sleep_behind(w);
		return 0;
	}
	uint32_t n = mc_progress_locked(ctx, 1);
	int64_t ns = n == 0 && atomic_load(w->word) == w->seen ? mc_progress_caller_sleeps(ctx, w->deadline_ns) : 0;
	if (ns > 0) {
		ctx->drv.caller_word = w->word;
		mc_ctx_unlock(ctx);
		mc_epoll_sleep(ctx, ns);
		mc_ctx_lock(ctx);
		ctx->drv.caller_word = NULL;
		mc_progress_caller_woke(ctx);
		n = mc_progress_locked(ctx, 1);
	}
	mc_ctx_unlock(ctx);
	return n;
}

static void drive_begin(struct waiter *w)
{
	mc_ctx_lock(w->ctx);
	w->driving = true;
	w->ctx->drv.spinners++;
	mc_progress_take_over(w->ctx);
	mc_ctx_unlock(w->ctx);
}

static void drive_end(struct waiter *w)
{
	if (!w->driving)
		return;
	mc_ctx_lock(w->ctx);
	w->ctx->drv.spinners--;
	mc_progress_hand_over(w->ctx);
	mc_ctx_unlock(w->ctx);
}

/*
 * Without a progress thread. One sleeper has the word that a change wakes it by; others that share the descriptors
 * with it look again soon.
 */
static void manual_sleep(struct waiter *w)
{
	struct mc_ctx *ctx = w->ctx;
	int64_t timer, ns = until(w->deadline_ns);
	if (mc_progress_arm(ctx, &timer) != MC_OK)
		return;
	if (timer != MC_FOREVER && timer < ns)
		ns = timer;
	mc_ctx_lock(ctx);
	bool first = ctx->drv.caller_word == NULL, changed = atomic_load(w->word) != w->seen;
	if (first)
		ctx->drv.caller_word = w->word;
	else if (ns > SHARED_NS)
		ns = SHARED_NS;
	atomic_fetch_add(&ctx->asleep, 1);
	mc_ctx_unlock(ctx);
	if (!changed)
		mc_epoll_sleep(ctx, ns);
	mc_ctx_lock(ctx);
	atomic_fetch_sub(&ctx->asleep, 1);
	if (first)
		ctx->drv.caller_word = NULL;
	mc_progress_drain(ctx);
	mc_ctx_unlock(ctx);
}

/*
 * Who shares this core may be the one that is waited for. But one who has other things to do takes its whole time
 * slice: then it is better to sleep, since who wakes up goes before who computes. That holds for some time.
 */
static int64_t give_way(struct mc_ctx *ctx, int64_t now, int64_t *spin_end)
{
	sched_yield();
	int64_t after = mc_now_ns();
	if (after - now > SLICE_NS) {
		*spin_end = after;
		atomic_store_explicit(&ctx->drv.crowded, CROWDED_WAITS, memory_order_relaxed);
	}
	return after;
}

static int64_t spin_time(struct mc_ctx *ctx)
{
	uint32_t crowded = atomic_load_explicit(&ctx->drv.crowded, memory_order_relaxed);
	if (crowded == 0)
		return ctx->cfg.spin;
	atomic_store_explicit(&ctx->drv.crowded, crowded - 1, memory_order_relaxed);
	return 0;
}

mc_status_t mc_wait_until(struct mc_ctx *ctx, bool (*pred)(void *arg), void *arg, _Atomic(uint32_t) *word,
			  int64_t deadline_ns)
{
	struct waiter w = {.ctx = ctx, .word = word, .deadline_ns = deadline_ns};
	mc_status_t s = MC_OK;
	int64_t now = mc_now_ns(), spin = spin_time(ctx), spin_end = now + spin, yield_at = now + YIELD_NS;
	uint32_t n = 0, empty = 0;
	for (;;) {
		w.seen = atomic_load(word);
		if (pred(arg))
			break;
		/* Reading the clock costs as much as an empty poll: not after every one. */
		if (n > 0 || ++empty % CLOCK_EVERY == 0)
			now = mc_now_ns();
		if (n > 0)
			spin_end = now + spin;
		if (now >= deadline_ns) {
			s = MC_ERR_TIMEOUT;
			break;
		}
		if (ctx->thread_on && !w.driving)
			drive_begin(&w);
		if (now < spin_end) {
			n = try_progress(ctx);
			if (n == 0 && now >= yield_at) {
				now = give_way(ctx, now, &spin_end);
				yield_at = now + YIELD_NS;
			}
			continue;
		}
		n = 0;
		if (ctx->thread_on)
			n = drive_asleep(&w);
		else if ((n = try_progress(ctx)) == 0) {
			if (pred(arg))
				break;
			manual_sleep(&w);
		}
		empty = CLOCK_EVERY - 1;
	}
	drive_end(&w);
	return s;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * progress.c - the one progress loop, who runs it, and how everybody sleeps.
 *
 * Progress is made under ctx->lock by whoever has reason to: the progress thread, a caller that waits (for the spin
 * time), or mc_progress(). Backends are armed before anyone sleeps in epoll; whoever polls while the progress thread
 * sleeps leaves them armed again (stale_arm), so no event is lost between two owners.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

enum { BOOT_CHECK_NS = 20000000, POLL_ROUNDS = 4, POLL_INLINE = 256 * 1024, TICKS = 16, COLL_BEAT_NS = 100000000 };

void mc_ctx_lock(struct mc_ctx *ctx)
{
	if (pthread_mutex_trylock(&ctx->lock) == 0)
		return;
	atomic_fetch_add_explicit(&ctx->lockers, 1, memory_order_relaxed);
	pthread_mutex_lock(&ctx->lock);
	atomic_fetch_sub_explicit(&ctx->lockers, 1, memory_order_relaxed);
}

void mc_ctx_unlock(struct mc_ctx *ctx)
{
	pthread_mutex_unlock(&ctx->lock);
}

static void futex_wait(_Atomic(uint32_t) *word, uint32_t seen, int64_t ns)
{
	struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, ns == INT64_MAX ? NULL : &ts, NULL, 0);
}

void mc_wake(struct mc_ctx *ctx, _Atomic(uint32_t) *word)
{
	/* The word was changed before; seq_cst pairs with the sleeper, which counts itself before it looks again. */
	if (atomic_load(&ctx->sleepers) > 0)
		syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void mc_progress_kick(struct mc_ctx *ctx)
{
	if (atomic_load(&ctx->asleep) == 0 && !atomic_exchange(&ctx->armed, false))
		return;
	uint64_t one = 1;
	atomic_store(&ctx->kicked, true);
	if (write(ctx->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		mc_error("rank %u: cannot wake the progress thread: errno %d", ctx->rank, errno);
}

static void on_event(struct mc_ctx *ctx, struct mc_be_slot *slot, const struct mc_be_event *ev)
{
	struct mc_peer *p = (struct mc_peer *)(uintptr_t)ev->cookie; /* of EP_UP and EP_DOWN */
	switch (ev->kind) {
	case MC_EV_MSG:
		mc_msg_arrived(ctx, slot, ev->data, ev->len);
		break;
	case MC_EV_SENT:
		mc_tx_sent(ctx, ev->cookie, ev->status);
		break;
	case MC_EV_DONE:
		mc_xfer_posted((struct mc_req *)(uintptr_t)ev->cookie, ev->status);
		break;
	case MC_EV_EP_UP:
		mc_link_up(p, slot);
		break;
	case MC_EV_EP_DOWN:
		mc_link_down(p, slot, ev);
		break;
	case MC_EV_FATAL:
		mc_error("rank %u: backend %s is lost: %s (code %d)", ctx->rank, slot->ops->name,
			 ev->why != NULL ? ev->why : mc_status_text(ev->status), ev->native);
		mc_fault_add(ctx, MC_NO_RANK, MC_ERR_DEVICE, "backend lost");
		for (struct mc_list *l = ctx->peers.next; l != &ctx->peers; l = l->next)
			if (mc_peer_of_node(l)->link == slot)
				mc_peer_fail(mc_peer_of_node(l), MC_ERR_DEVICE, "backend %s is lost", slot->ops->name);
		break;
	}
}

static void check_boot(struct mc_ctx *ctx)
{
	uint32_t rank;
	while (ctx->boot_ops->next_dead(ctx->boot, &rank) == MC_OK) {
		struct mc_peer *p = mc_peer_get(ctx, rank);
		if (p != NULL && rank != ctx->rank && !p->left)
			mc_peer_fail(p, MC_ERR_PEER_DOWN, "the launcher reports its death");
	}
}

uint32_t mc_progress_locked(struct mc_ctx *ctx)
{
	struct mc_be_event ev[MC_EVENTS];
	uint32_t total = 0;
	ctx->stale_arm = true;
	for (uint32_t round = 0; round < POLL_ROUNDS; round++) {
		uint32_t n = 0;
		for (uint32_t i = 0; i < ctx->be_n; i++) {
			uint32_t got = ctx->be[i].ops->poll(ctx->be[i].be, ev, MC_EVENTS);
			for (uint32_t k = 0; k < got; k++)
				on_event(ctx, &ctx->be[i], &ev[k]);
			n += got;
		}
		if (!mc_list_empty(&ctx->pumping))
			mc_xfer_pump(ctx);
		if (!mc_list_empty(&ctx->dying))
			mc_peers_bury(ctx);
		if (ctx->coll_running > 0)
			n += mc_colls_run(ctx);
		total += n;
		if (n == 0)
			break;
	}
	/* Reading the clock costs as much as an empty poll: not at every one. */
	uint32_t tick = atomic_load_explicit(&ctx->ticks, memory_order_relaxed) + 1;
	atomic_store_explicit(&ctx->ticks, tick, memory_order_relaxed);
	if (total == 0 && tick % TICKS != 0)
		return 0;
	int64_t now = mc_now_ns();
	if (now >= ctx->timer_ns)
		mc_req_timers(ctx, now);
	if (now >= ctx->coll_timer_ns)
		mc_colls_timers(ctx, now);
	if (ctx->boot_info.event_fd >= 0 && now >= ctx->boot_check_ns) {
		ctx->boot_check_ns = now + BOOT_CHECK_NS;
		check_boot(ctx);
	}
	return total;
}

/* Under the lock. MC_OK: nobody needs to poll until one of the descriptors is readable. */
static mc_status_t arm_all(struct mc_ctx *ctx)
{
	if (!ctx->stale_arm)
		return MC_OK;
	if (!mc_list_empty(&ctx->dying) || !mc_colls_idle(ctx))
		return MC_ERR_AGAIN;
	for (uint32_t i = 0; i < ctx->be_n; i++)
		if (ctx->be[i].ops->arm(ctx->be[i].be) != MC_OK)
			return MC_ERR_AGAIN;
	ctx->stale_arm = false;
	return MC_OK;
}

static int64_t sleep_ns(const struct mc_ctx *ctx)
{
	int64_t first = ctx->timer_ns < ctx->coll_timer_ns ? ctx->timer_ns : ctx->coll_timer_ns;
	if (first == INT64_MAX && !ctx->coll_recent)
		return INT64_MAX;
	int64_t now = mc_now_ns();
	/* While collectives come and go an alarm that is soon enough for the next one saves waking the thread for each.
	 */
	if (ctx->coll_recent && first > now + COLL_BEAT_NS)
		first = now + COLL_BEAT_NS;
	return first > now ? first - now : 0;
}

/*
 * Something was posted. If the progress thread is awake it will see to it. If it sleeps, waking it costs more than a
 * small transfer takes: poll once here, and wake it only if work is left that the descriptors would not announce.
 */
void mc_progress_posted(struct mc_ctx *ctx, uint64_t bytes)
{
	if (atomic_load(&ctx->asleep) == 0 && !ctx->manual)
		return;
	if (!ctx->manual && bytes <= POLL_INLINE)
		mc_progress_locked(ctx);
	if (mc_list_empty(&ctx->timed))
		ctx->timer_ns = INT64_MAX;
	/* A deadline before the sleeper's own alarm is news to it. */
	if (ctx->manual || !mc_list_empty(&ctx->pumping) || arm_all(ctx) != MC_OK ||
	    ctx->timer_ns < ctx->sleep_until_ns)
		mc_progress_kick(ctx);
}

static void drain_wake_fd(struct mc_ctx *ctx)
{
	uint64_t v;
	ssize_t got = read(ctx->wake_fd, &v, sizeof(v));
	(void)got; /* another sleeper may have read it */
}

/* Sleep until a descriptor is readable; not under the lock. */
static void epoll_sleep(struct mc_ctx *ctx, int64_t ns)
{
	struct epoll_event e[MC_BE_MAX + 2];
	int ms = ns >= INT64_C(1000000) * INT_MAX ? -1 : (int)((ns + 999999) / 1000000);
	int n = epoll_wait(ctx->epfd, e, (int)MC_ARRAY_LEN(e), ms);
	atomic_store_explicit(&ctx->ticks, TICKS - 1, memory_order_relaxed); /* a deadline may be due */
	for (int i = 0; i < n; i++)
		if (e[i].data.fd == ctx->wake_fd)
			drain_wake_fd(ctx);
}

static void *progress_main(void *arg)
{
	struct mc_ctx *ctx = arg;
	int64_t busy_until = 0;
	while (!atomic_load_explicit(&ctx->stop, memory_order_relaxed)) {
		pthread_mutex_lock(&ctx->lock);
		uint32_t n = mc_progress_locked(ctx);
		int64_t now = mc_now_ns(), ns = 0;
		bool sleep = false;
		if (n > 0)
			busy_until = now + ctx->cfg.spin;
		else if (now >= busy_until && arm_all(ctx) == MC_OK) {
			sleep = true;
			ns = sleep_ns(ctx);
			ctx->sleep_until_ns = ns == INT64_MAX ? ns : now + ns;
			ctx->coll_recent = false;
			atomic_fetch_add(&ctx->asleep, 1);
			ctx->boot_check_ns = 0;
		}
		pthread_mutex_unlock(&ctx->lock);
		if (sleep) {
			if (!atomic_load(&ctx->stop))
				epoll_sleep(ctx, ns);
			atomic_fetch_sub(&ctx->asleep, 1);
		} else if (atomic_load_explicit(&ctx->lockers, memory_order_relaxed) > 0) {
			sched_yield();
		}
	}
	return NULL;
}

/* A caller that polled goes to sleep on a futex: make sure that the descriptors, or the progress thread, take over. */
static void hand_over(struct mc_ctx *ctx)
{
	mc_ctx_lock(ctx);
	/* What was polled may have set a deadline before the sleeper's own alarm. */
	bool early = ctx->timer_ns < ctx->sleep_until_ns || ctx->coll_timer_ns < ctx->sleep_until_ns;
	bool ok = arm_all(ctx) == MC_OK && !early;
	mc_ctx_unlock(ctx);
	if (!ok)
		mc_progress_kick(ctx);
}

static uint32_t try_progress(struct mc_ctx *ctx)
{
	if (pthread_mutex_trylock(&ctx->lock) != 0) {
		sched_yield();
		return 0;
	}
	uint32_t n = mc_progress_locked(ctx);
	pthread_mutex_unlock(&ctx->lock);
	return n;
}

static void manual_sleep(struct mc_ctx *ctx, int64_t ns)
{
	int64_t timer;
	if (mc_progress_arm(ctx, &timer) != MC_OK)
		return;
	if (timer != MC_FOREVER && timer < ns)
		ns = timer;
	/* Two waiting threads share the descriptor; the one that is not woken by it looks again soon. */
	uint32_t others = atomic_fetch_add(&ctx->asleep, 1);
	if (others > 0 && ns > 5000000)
		ns = 5000000;
	epoll_sleep(ctx, ns);
	atomic_fetch_sub(&ctx->asleep, 1);
}

mc_status_t mc_wait_until(struct mc_ctx *ctx, bool (*pred)(void *arg), void *arg, _Atomic(uint32_t) *word,
			  int64_t deadline_ns)
{
	int64_t now = mc_now_ns();
	int64_t spin_end = now + ctx->cfg.spin;
	bool polled = false;
	for (;;) {
		uint32_t seen = atomic_load(word);
		if (pred(arg))
			break;
		if (now >= deadline_ns) {
			if (polled)
				hand_over(ctx);
			return MC_ERR_TIMEOUT;
		}
		if (ctx->manual || !ctx->thread_on || now < spin_end) {
			uint32_t n = try_progress(ctx);
			polled = true;
			now = mc_now_ns();
			if (n > 0)
				spin_end = now + ctx->cfg.spin;
			if (!ctx->thread_on && now >= spin_end && !pred(arg))
				manual_sleep(ctx, deadline_ns == INT64_MAX ? INT64_MAX : deadline_ns - now);
		} else {
			if (polled)
				hand_over(ctx);
			polled = false;
			atomic_fetch_add(&ctx->sleepers, 1);
			if (atomic_load(word) == seen && !pred(arg))
				futex_wait(word, seen, deadline_ns == INT64_MAX ? INT64_MAX : deadline_ns - now);
			atomic_fetch_sub(&ctx->sleepers, 1);
		}
		now = mc_now_ns();
	}
	if (polled && ctx->thread_on)
		hand_over(ctx);
	return MC_OK;
}

static mc_status_t watch(struct mc_ctx *ctx, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
	if (fd < 0 || epoll_ctl(ctx->epfd, EPOLL_CTL_ADD, fd, &e) == 0)
		return MC_OK;
	mc_error("rank %u: epoll_ctl: errno %d", ctx->rank, errno);
	return MC_ERR_DEVICE;
}

mc_status_t mc_progress_open(struct mc_ctx *ctx)
{
	ctx->epfd = epoll_create1(EPOLL_CLOEXEC);
	ctx->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ctx->epfd < 0 || ctx->wake_fd < 0) {
		mc_error("rank %u: cannot make the progress descriptors: errno %d (limit of open files: ulimit -n) "
			 "[open-files, see mcinfo doctor]",
			 ctx->rank, errno);
		return MC_ERR_NOMEM;
	}
	mc_status_t s = watch(ctx, ctx->wake_fd);
	for (uint32_t i = 0; i < ctx->be_n && s == MC_OK; i++)
		s = watch(ctx, ctx->be[i].caps.event_fd);
	if (s == MC_OK)
		s = watch(ctx, ctx->boot_info.event_fd);
	if (s != MC_OK || ctx->manual)
		return s;
	/* Signals stay with the program's own threads. */
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&ctx->thread, NULL, progress_main, ctx);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		mc_error("rank %u: cannot start the progress thread: errno %d (limits: ulimit -u, pids cgroup) "
			 "[process-limit, see mcinfo doctor]",
			 ctx->rank, rc);
		return MC_ERR_NOMEM;
	}
	ctx->thread_on = true;
	return MC_OK;
}

void mc_progress_stop(struct mc_ctx *ctx)
{
	if (!ctx->thread_on)
		return;
	atomic_store(&ctx->stop, true);
	uint64_t one = 1;
	ssize_t n = write(ctx->wake_fd, &one, sizeof(one));
	(void)n; /* a full eventfd is readable as well */
	pthread_join(ctx->thread, NULL);
	ctx->thread_on = false;
}

void mc_progress_close(struct mc_ctx *ctx)
{
	if (ctx->epfd >= 0)
		close(ctx->epfd);
	if (ctx->wake_fd >= 0)
		close(ctx->wake_fd);
}

uint32_t mc_progress(struct mc_ctx *ctx)
{
	mc_ctx_lock(ctx);
	if (atomic_load_explicit(&ctx->armed, memory_order_relaxed))
		atomic_store(&ctx->armed, false);
	if (atomic_load_explicit(&ctx->kicked, memory_order_relaxed) && atomic_exchange(&ctx->kicked, false))
		drain_wake_fd(ctx);
	uint32_t n = mc_progress_locked(ctx);
	mc_ctx_unlock(ctx);
	if (ctx->thread_on)
		hand_over(ctx);
	return n;
}

int mc_progress_fd(struct mc_ctx *ctx)
{
	return ctx->epfd;
}

mc_status_t mc_progress_arm(struct mc_ctx *ctx, int64_t *sleep_out)
{
	mc_ctx_lock(ctx);
	mc_status_t s = arm_all(ctx);
	int64_t ns = sleep_ns(ctx);
	if (s == MC_OK && ns == 0)
		s = MC_ERR_AGAIN;
	ctx->boot_check_ns = 0;
	if (s == MC_OK)
		atomic_store(&ctx->armed, true);
	mc_ctx_unlock(ctx);
	if (s == MC_OK)
		*sleep_out = ns == INT64_MAX ? MC_FOREVER : ns;
	return s;
}

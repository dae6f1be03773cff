/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * progress.c - the one progress loop, who runs it, and how everybody sleeps.
 *
 * Progress is made under ctx->lock by whoever has reason to: a caller that waits (wait.c), mc_progress(), or the
 * progress thread while no caller does. Backends are armed before anyone sleeps in epoll; whoever polls while another
 * sleeps leaves them armed again (stale_arm), so no event is lost between two owners.
 *
 * Callers that come back again and again within microseconds get a lease: the progress thread stays away without being
 * told each time, and looks now and then whether they still do.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "foreign.h"

enum {
	BOOT_CHECK_NS = 20000000,
	POLL_ROUNDS = 4,
	SETTLE_ROUNDS = 2,
	POLL_INLINE = 256 * 1024,
	TICKS = 16,
	COLL_BEAT_NS = 100000000,
	AWAY_NS = 1000000,
	LEASE_AFTER = 16,       /* visits of callers before they get a lease */
	LEASE_MIN_NS = 200000,  /* until the progress thread looks first; then twice as long each time */
	LEASE_MAX_NS = 1000000, /* so long an event may lie unseen when they have just stopped */
	LEASE_GAP_NS = 50000,   /* mean time between visits up to which it goes on */
};

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

void mc_progress_kick(struct mc_ctx *ctx)
{
	if (atomic_load(&ctx->asleep) == 0 && !atomic_exchange(&ctx->armed, false))
		return;
	uint64_t one = 1;
	if (write(ctx->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		mc_error("rank %u: cannot wake the progress thread: errno %d", ctx->rank, errno);
	atomic_store(&ctx->kicked, true); /* after the write: who sees it finds something to read */
}

void mc_progress_drain(struct mc_ctx *ctx)
{
	uint64_t v;
	if (!atomic_load_explicit(&ctx->kicked, memory_order_relaxed) || !atomic_exchange(&ctx->kicked, false))
		return;
	ssize_t got = read(ctx->wake_fd, &v, sizeof(v));
	(void)got; /* it was written before */
}

static void backend_lost(struct mc_ctx *ctx, const struct mc_be_slot *slot, const struct mc_be_event *ev)
{
	mc_error("rank %u: backend %s is lost: %s (code %d)", ctx->rank, slot->ops->name,
		 ev->why != NULL ? ev->why : mc_status_text(ev->status), ev->native);
	mc_fault_add(ctx, MC_NO_RANK, MC_ERR_DEVICE, "backend lost");
	for (struct mc_list *l = ctx->peers.next; l != &ctx->peers; l = l->next)
		if (mc_peer_of_node(l)->link == slot)
			mc_peer_fail(mc_peer_of_node(l), MC_ERR_DEVICE, "backend %s is lost", slot->ops->name);
}

static void on_event(struct mc_ctx *ctx, struct mc_be_slot *slot, const struct mc_be_event *ev)
{
	struct mc_peer *p = (struct mc_peer *)(uintptr_t)ev->cookie; /* of EP_UP and EP_DOWN */
	switch (ev->kind) {
	case MC_EV_MSG:
		mc_msg_arrived(ctx, slot, ev->data, ev->len, ev->placed);
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
		backend_lost(ctx, slot, ev);
		break;
	}
}

static void check_boot(struct mc_ctx *ctx)
{
	uint32_t rank, start;
	while (ctx->boot_ops->next_dead(ctx->boot, &rank, &start) == MC_OK) {
		struct mc_peer *p = mc_peer_get(ctx, rank);
		/* late news of a process whose successor is here already is no news */
		if (p != NULL && rank != ctx->rank && !p->left && p->again <= start)
			mc_peer_fail(p, MC_ERR_PEER_DOWN, "the launcher reports its death");
	}
}

/* Ask all backends once. Apart from the loop, so that a poll that finds nothing has little to do. */
static uint32_t poll_all(struct mc_ctx *ctx)
{
	struct mc_be_event ev[MC_EVENTS];
	uint32_t n = 0;
	for (uint32_t i = 0; i < ctx->be_n; i++) {
		struct mc_be_slot *slot = &ctx->be[i];
		uint32_t got = slot->ops->poll(slot->be, ev, MC_EVENTS);
		for (uint32_t k = 0; k < got; k++)
			on_event(ctx, slot, &ev[k]);
		n += got;
	}
	return n;
}

static void timers(struct mc_ctx *ctx)
{
	int64_t now = mc_now_ns();
	if (now >= ctx->timer_ns)
		mc_req_timers(ctx, now);
	if (now >= ctx->coll_timer_ns)
		mc_colls_timers(ctx, now);
	if (now >= ctx->join_timer_ns)
		mc_join_timers(ctx, now);
	if (now >= ctx->boot_check_ns && (ctx->boot_info.event_fd >= 0 || ctx->foreign != NULL)) {
		ctx->boot_check_ns = now + BOOT_CHECK_NS;
		if (ctx->boot_info.event_fd >= 0)
			check_boot(ctx);
		mc_foreign_poll(ctx);
	}
}

uint32_t mc_progress_locked(struct mc_ctx *ctx, uint32_t rounds)
{
	uint32_t total = 0;
	ctx->stale_arm = true;
	for (uint32_t round = 0; round < rounds; round++) {
		if (!mc_list_empty(&ctx->holding))
			mc_tx_release(ctx);
		uint32_t n = poll_all(ctx);
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
	/* Reading the clock costs as much as an empty poll: not at every one, unless it may have taken long. */
	uint32_t tick = atomic_load_explicit(&ctx->ticks, memory_order_relaxed) + 1;
	atomic_store_explicit(&ctx->ticks, tick, memory_order_relaxed);
	if (total >= TICKS || tick % TICKS == 0)
		timers(ctx);
	return total;
}

/* Under the lock. MC_OK: nobody needs to poll until one of the descriptors is readable. */
static mc_status_t arm_all(struct mc_ctx *ctx)
{
	if (!ctx->stale_arm)
		return MC_OK;
	if (!mc_list_empty(&ctx->dying) || !mc_list_empty(&ctx->holding) || !mc_colls_idle(ctx))
		return MC_ERR_AGAIN;
	for (uint32_t i = 0; i < ctx->be_n; i++)
		if (ctx->be[i].ops->arm(ctx->be[i].be) != MC_OK)
			return MC_ERR_AGAIN;
	if (!mc_colls_arm(ctx))
		return MC_ERR_AGAIN;
	ctx->stale_arm = false;
	return MC_OK;
}

static int64_t first_timer(const struct mc_ctx *ctx)
{
	int64_t first = ctx->timer_ns < ctx->coll_timer_ns ? ctx->timer_ns : ctx->coll_timer_ns;
	return ctx->join_timer_ns < first ? ctx->join_timer_ns : first;
}

static int64_t sleep_ns(const struct mc_ctx *ctx)
{
	int64_t first = first_timer(ctx);
	if (first == INT64_MAX && !ctx->coll_recent)
		return INT64_MAX;
	int64_t now = mc_now_ns();
	/* While collectives come and go an alarm that is soon enough for the next one saves waking the thread for each.
	 */
	if (ctx->coll_recent && first > now + COLL_BEAT_NS)
		first = now + COLL_BEAT_NS;
	return first > now ? first - now : 0;
}

/* ---- who has the descriptors ---- */

/*
 * The progress thread sleeps on watch_fd, an epoll set that holds epfd. While callers drive, its interest in epfd is
 * switched off: what arrives does not wake it, and giving the descriptors back to it takes no wake-up either.
 */
static void watch_set(struct mc_ctx *ctx, bool on)
{
	struct epoll_event e = {.events = on ? EPOLLIN : 0, .data.fd = ctx->epfd};
	if (ctx->drv.watching == on || ctx->drv.watch_fd < 0)
		return;
	if (epoll_ctl(ctx->drv.watch_fd, EPOLL_CTL_MOD, ctx->epfd, &e) != 0) {
		mc_error("rank %u: epoll_ctl: errno %d", ctx->rank, errno);
		return;
	}
	ctx->drv.watching = on;
	if (ctx->drv.thread_asleep && on)
		atomic_fetch_add(&ctx->asleep, 1);
	else if (ctx->drv.thread_asleep)
		atomic_fetch_sub(&ctx->asleep, 1);
}

static void thread_asleep_set(struct mc_ctx *ctx, bool on)
{
	if (ctx->drv.thread_asleep != on && ctx->drv.watching)
		atomic_fetch_add(&ctx->asleep, on ? 1u : UINT32_MAX);
	ctx->drv.thread_asleep = on;
}

static void alarm_set(struct mc_ctx *ctx, int64_t ns)
{
	struct itimerspec t = {.it_value = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}};
	if (timerfd_settime(ctx->drv.alarm_fd, 0, &t, NULL) != 0)
		mc_error("rank %u: timerfd_settime: errno %d", ctx->rank, errno);
}

/* Someone sleeps who relies on the backends being armed. */
static bool watched(const struct mc_ctx *ctx)
{
	return ctx->drv.caller_asleep || (ctx->drv.thread_asleep && ctx->drv.spinners == 0 && !ctx->drv.lease);
}

/* A deadline came up before the alarm of whoever sleeps. */
static bool overslept(const struct mc_ctx *ctx)
{
	int64_t alarm = ctx->drv.caller_asleep ? ctx->drv.caller_alarm_ns : ctx->sleep_until_ns;
	return first_timer(ctx) < alarm;
}

bool mc_progress_overslept(const struct mc_ctx *ctx)
{
	return watched(ctx) && overslept(ctx);
}

/* ---- the lease ---- */

static void lease_start(struct mc_ctx *ctx)
{
	ctx->drv.lease = true;
	ctx->drv.drives = 0;
	ctx->drv.lease_ns = LEASE_MIN_NS;
	alarm_set(ctx, ctx->drv.lease_ns);
	if (ctx->drv.noisy)
		watch_set(ctx, false);
}

/* A caller came to poll. */
static void lease_count(struct mc_ctx *ctx)
{
	ctx->drv.drives++;
	if (!ctx->drv.lease && ctx->drv.drives >= LEASE_AFTER && ctx->drv.watch_fd >= 0)
		lease_start(ctx);
}

/* The progress thread's alarm rang: do they still come? */
static void lease_check(struct mc_ctx *ctx)
{
	if (!ctx->drv.lease)
		return;
	ctx->drv.lease = ctx->drv.spinners > 0 || ctx->drv.drives >= ctx->drv.lease_ns / LEASE_GAP_NS;
	ctx->drv.drives = 0;
	if (ctx->drv.lease) {
		ctx->drv.lease_ns = ctx->drv.lease_ns * 2 < LEASE_MAX_NS ? ctx->drv.lease_ns * 2 : LEASE_MAX_NS;
		alarm_set(ctx, ctx->drv.lease_ns);
	} else if (ctx->drv.caller_asleep && (arm_all(ctx) != MC_OK || overslept(ctx))) {
		mc_progress_kick(ctx); /* nobody armed for it while they polled */
	}
}

/* ---- handing over ---- */

/*
 * A caller polls. Where descriptors speak up whether or not a backend was armed, the progress thread must stop
 * listening to them now; elsewhere only when a caller sleeps on them itself.
 */
void mc_progress_take_over(struct mc_ctx *ctx)
{
	if (ctx->drv.noisy)
		watch_set(ctx, false);
	lease_count(ctx);
}

/* What is left is little as a rule: cheaper to do than to wake someone for it. */
static mc_status_t settle(struct mc_ctx *ctx)
{
	mc_status_t s = arm_all(ctx);
	for (int i = 0; i < SETTLE_ROUNDS && s != MC_OK && mc_list_empty(&ctx->pumping); i++) {
		mc_progress_locked(ctx, 1);
		s = arm_all(ctx);
	}
	return s;
}

/* A caller that polled goes away, or sleeps on something else. */
void mc_progress_hand_over(struct mc_ctx *ctx)
{
	if (ctx->drv.spinners > 0 || ctx->drv.lease || (!ctx->drv.thread_asleep && !ctx->drv.caller_asleep))
		return; /* someone polls, or soon will */
	if (!mc_list_empty(&ctx->holding) && !ctx->drv.caller_asleep) {
		lease_start(ctx); /* the next post takes it along; else the progress thread sends it */
		return;
	}
	bool quiet = settle(ctx) == MC_OK && mc_list_empty(&ctx->pumping) && !overslept(ctx);
	if (!ctx->drv.caller_asleep)
		watch_set(ctx, true);
	if (!quiet)
		mc_progress_kick(ctx);
}

int64_t mc_progress_caller_sleeps(struct mc_ctx *ctx, int64_t deadline_ns)
{
	int64_t first = first_timer(ctx), now;
	if (arm_all(ctx) != MC_OK)
		return 0;
	if (deadline_ns < first)
		first = deadline_ns;
	now = first != INT64_MAX ? mc_now_ns() : 0;
	if (first <= now)
		return 0;
	watch_set(ctx, false);
	if (ctx->drv.lease && ctx->drv.lease_ns == LEASE_MIN_NS) {
		ctx->drv.lease = false;
		alarm_set(ctx, 0);
	}
	ctx->drv.caller_alarm_ns = first;
	ctx->boot_check_ns = 0;
	ctx->drv.spinners--;
	ctx->drv.caller_asleep = true;
	atomic_fetch_add(&ctx->asleep, 1);
	return first == INT64_MAX ? INT64_MAX : first - now;
}

void mc_progress_caller_woke(struct mc_ctx *ctx)
{
	atomic_fetch_sub(&ctx->asleep, 1);
	ctx->drv.caller_asleep = false;
	ctx->drv.spinners++;
	mc_progress_drain(ctx);
}

/*
 * Something was posted. Whoever is awake will see to it. If all sleep, waking one costs more than a small transfer
 * takes: poll once here, and wake the sleeper only if work is left that the descriptors would not announce.
 */
void mc_progress_posted(struct mc_ctx *ctx, uint64_t bytes)
{
	if (!ctx->manual && !watched(ctx))
		return;
	bool small = !ctx->manual && bytes <= POLL_INLINE;
	if (small)
		mc_progress_locked(ctx, 1);
	if (mc_list_empty(&ctx->timed))
		ctx->timer_ns = INT64_MAX;
	/* A deadline before the sleeper's own alarm is news to it. */
	if (ctx->manual || !mc_list_empty(&ctx->pumping) || (small ? settle(ctx) : arm_all(ctx)) != MC_OK ||
	    overslept(ctx))
		mc_progress_kick(ctx);
}

/* ---- sleeping, and the progress thread ---- */

static int timeout_ms(int64_t ns)
{
	return ns >= INT64_C(1000000) * INT_MAX ? -1 : (int)((ns + 999999) / 1000000);
}

void mc_epoll_sleep(struct mc_ctx *ctx, int64_t ns)
{
	struct epoll_event e[MC_BE_MAX + 3];
	(void)epoll_wait(ctx->epfd, e, (int)MC_ARRAY_LEN(e), timeout_ms(ns));
	atomic_store_explicit(&ctx->ticks, TICKS - 1, memory_order_relaxed); /* a deadline may be due */
}

/* Did the alarm ring? */
static bool thread_sleep(struct mc_ctx *ctx, int64_t ns)
{
	struct epoll_event e[2];
	uint64_t v;
	bool rang = false;
	int n = epoll_wait(ctx->drv.watch_fd, e, (int)MC_ARRAY_LEN(e), timeout_ms(ns));
	atomic_store_explicit(&ctx->ticks, TICKS - 1, memory_order_relaxed);
	for (int i = 0; i < n; i++)
		if (e[i].data.fd == ctx->drv.alarm_fd)
			rang = read(ctx->drv.alarm_fd, &v, sizeof(v)) > 0;
	return rang;
}

/* Callers drive: stay away. Returns how long, 0: have a look yourself. */
static int64_t stay_away(struct mc_ctx *ctx)
{
	int64_t ns = sleep_ns(ctx);
	if (ns == 0 && ctx->drv.spinners == 0 && !ctx->drv.caller_asleep) {
		ctx->drv.lease = false;
		return 0;
	}
	if (ns == 0 && ctx->drv.caller_asleep)
		mc_progress_kick(ctx);
	watch_set(ctx, false);
	return ns > 0 ? ns : AWAY_NS;
}

/* Under the lock. Returns how long to sleep; 0: not at all. */
static int64_t thread_turn(struct mc_ctx *ctx, int64_t *busy_until)
{
	int64_t ns;
	if (ctx->drv.spinners > 0 || ctx->drv.caller_asleep || ctx->drv.lease) {
		ns = stay_away(ctx);
	} else {
		uint32_t n = mc_progress_locked(ctx, POLL_ROUNDS);
		int64_t now = mc_now_ns();
		if (n > 0)
			*busy_until = now + ctx->cfg.spin;
		if (n > 0 || now < *busy_until || arm_all(ctx) != MC_OK)
			return 0;
		watch_set(ctx, true);
		ctx->boot_check_ns = 0;
		ns = sleep_ns(ctx);
	}
	ctx->sleep_until_ns = ns == INT64_MAX ? ns : mc_now_ns() + ns;
	ctx->coll_recent = false;
	return ns;
}

static void *progress_main(void *arg)
{
	struct mc_ctx *ctx = arg;
	int64_t busy_until = 0;
	bool rang = false;
	while (!atomic_load_explicit(&ctx->stop, memory_order_relaxed)) {
		pthread_mutex_lock(&ctx->lock);
		thread_asleep_set(ctx, false);
		if (!ctx->drv.caller_asleep)
			mc_progress_drain(ctx);
		if (rang)
			lease_check(ctx);
		int64_t ns = thread_turn(ctx, &busy_until);
		if (ns > 0)
			thread_asleep_set(ctx, true);
		pthread_mutex_unlock(&ctx->lock);
		rang = ns > 0 && !atomic_load(&ctx->stop) && thread_sleep(ctx, ns);
		if (ns == 0 && atomic_load_explicit(&ctx->lockers, memory_order_relaxed) > 0)
			sched_yield();
	}
	return NULL;
}

static mc_status_t watch(struct mc_ctx *ctx, int set, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
	if (fd < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) == 0)
		return MC_OK;
	mc_error("rank %u: epoll_ctl: errno %d", ctx->rank, errno);
	return MC_ERR_DEVICE;
}

mc_status_t mc_progress_open(struct mc_ctx *ctx)
{
	ctx->epfd = epoll_create1(EPOLL_CLOEXEC);
	ctx->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!ctx->manual) {
		ctx->drv.watch_fd = epoll_create1(EPOLL_CLOEXEC);
		ctx->drv.alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	}
	if (ctx->epfd < 0 || ctx->wake_fd < 0 || (!ctx->manual && (ctx->drv.watch_fd < 0 || ctx->drv.alarm_fd < 0))) {
		mc_error("rank %u: cannot make the progress descriptors: errno %d (limit of open files: ulimit -n) "
			 "[open-files, see mcinfo doctor]",
			 ctx->rank, errno);
		return MC_ERR_NOMEM;
	}
	mc_status_t s = watch(ctx, ctx->epfd, ctx->wake_fd);
	for (uint32_t i = 0; i < ctx->be_n && s == MC_OK; i++) {
		s = watch(ctx, ctx->epfd, ctx->be[i].caps.event_fd);
		ctx->drv.noisy = ctx->drv.noisy || !(ctx->be[i].caps.flags & MC_CAP_QUIET);
	}
	if (s == MC_OK)
		s = watch(ctx, ctx->epfd, ctx->boot_info.event_fd);
	if (s == MC_OK && ctx->foreign != NULL)
		s = watch(ctx, ctx->epfd, ctx->foreign->fd);
	if (s == MC_OK && !ctx->manual)
		s = watch(ctx, ctx->drv.watch_fd, ctx->epfd);
	if (s == MC_OK && !ctx->manual)
		s = watch(ctx, ctx->drv.watch_fd, ctx->drv.alarm_fd);
	if (s != MC_OK || ctx->manual)
		return s;
	ctx->drv.watching = true;
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
	mc_ctx_lock(ctx);
	watch_set(ctx, true);
	mc_ctx_unlock(ctx);
	uint64_t one = 1;
	ssize_t n = write(ctx->wake_fd, &one, sizeof(one));
	(void)n; /* a full eventfd is readable as well */
	pthread_join(ctx->thread, NULL);
	ctx->thread_on = false;
}

void mc_progress_close(struct mc_ctx *ctx)
{
	int *fd[] = {&ctx->drv.watch_fd, &ctx->drv.alarm_fd, &ctx->epfd, &ctx->wake_fd};
	for (size_t i = 0; i < MC_ARRAY_LEN(fd); i++)
		if (*fd[i] >= 0)
			close(*fd[i]);
}

uint32_t mc_progress(struct mc_ctx *ctx)
{
	mc_ctx_lock(ctx);
	if (ctx->manual) {
		if (atomic_load_explicit(&ctx->armed, memory_order_relaxed))
			atomic_store(&ctx->armed, false);
		if (atomic_load_explicit(&ctx->kicked, memory_order_relaxed) &&
		    atomic_load_explicit(&ctx->asleep, memory_order_relaxed) == 0) /* else it is for the sleeper */
			mc_progress_drain(ctx);
	}
	uint32_t n = mc_progress_locked(ctx, 1);
	if (!ctx->manual) {
		lease_count(ctx);
		mc_progress_hand_over(ctx);
	}
	mc_ctx_unlock(ctx);
	if (ctx->manual && ctx->foreign != NULL)
		mc_watches_call(ctx->foreign);
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

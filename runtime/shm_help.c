/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm_help.c - a second thread that copies a part of a large transfer into or out of mapped memory.
 *
 * One job at a time: the slices of one post with one remote region. Whoever polls and the helper take chunks from it
 * until there are none; neither waits for the other. The helper is asleep otherwise, and never needed: it is woken, and
 * what it has not taken by then others do. It is woken only while the host has a core to spare. It is scheduled as a
 * batch job, so that on a core that has other work to do all the same it waits for its turn instead of interrupting;
 * when it finds that it had to wait, it is left asleep for some time.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "copy.h"
#include "shm.h"

enum {
	CHUNK = 32 << 10, /* bytes of short slices that are taken at once */
	PIECE = 64 << 10, /* long slices are taken in pieces of this */
	CHUNK_SLICES = 64,
	LATE_NS = 300000,       /* woken, and not there for so long, or stopped in the middle: its core is wanted */
	SPIN_NS = 20000,        /* stays awake for the next job */
	SPIN_LOOKS = 64,        /* between looks at the clock */
	REST_MIN_NS = 10000000, /* left asleep for so long when it was late, and twice as long each time, */
	REST_MAX_NS = 2000000000,
	REST_TIMES = 32,     /* but so many times what it was late, */
	GOOD_JOBS = 32,      /* and half as long after so many jobs at which it was not */
	LOOK_NS = 100000000, /* between looks for an idle core; the kernel counts in steps of 10 ms */
	IDLE_PERCENT = 75,   /* of a core, in that time */
};

enum { COPY_AUTO, COPY_NEVER, COPY_ALWAYS }; /* MC_COPY_THREADS */
enum shm_job { JOB_NONE, JOB_OPEN, JOB_HELPED, JOB_STOP };

struct shm_help {
	alignas(64) _Atomic uint32_t state; /* enum shm_job; futex word of the helper */
	_Atomic bool asleep, stop;
	_Atomic bool stale;                /* the peer has freed the region */
	_Atomic int64_t late_ns;           /* the helper's word to whoever polls */
	_Atomic uint64_t helped;           /* bytes that it has copied */
	alignas(64) _Atomic uint64_t next; /* slice << 32 | piece of it: what is to be taken next */
	/* constant while a job is open */
	alignas(64) const struct mc_be_slice *slice;
	uint32_t op, end;
	bool nt;
	struct mc_be_rmem *rmem;
	struct shm_slot *ctl;
	int64_t opened_ns;
	/* of whoever polls */
	const struct shm_post *post; /* whose job it is; NULL: none */
	int64_t rest_ns, rest_until_ns;
	uint32_t good;
	int uptime_fd;            /* /proc/uptime; -1: taken for idle */
	int64_t look_ns, idle_ns; /* the last look, and for how long all cores together had been idle then */
	int64_t helper_ns;        /* and for how long the helper had run */
	bool idle;                /* a core was, between the last two looks */
	cpu_set_t cores;          /* of the thread that started the helper */
	int apart;                /* the core of whoever opened the last job: the helper is kept off it; -1: none */
	bool always, off;
	pthread_t thread;
	bool running;
};

/* ---- both ------------------------------------------------------------------------------------------------ */

/* What one turn copies: short slices from..to, or one piece of `from`. */
struct chunk {
	uint32_t from, to, piece;
	bool whole;
};

static uint64_t cursor(uint32_t slice, uint32_t piece)
{
	return (uint64_t)slice << 32 | piece;
}

/* Also says where the next chunk begins. */
static uint64_t chunk_at(const struct shm_help *h, uint64_t at, struct chunk *c)
{
	uint32_t i = (uint32_t)(at >> 32), piece = (uint32_t)at;
	uint64_t sum = 0;

	*c = (struct chunk){.from = i, .to = i + 1, .piece = piece};
	if (h->slice[i].len > PIECE)
		return (uint64_t)(piece + 1) * PIECE < h->slice[i].len ? cursor(i, piece + 1) : cursor(i + 1, 0);
	c->whole = true;
	while (i < h->end && i - c->from < CHUNK_SLICES && sum < CHUNK && h->slice[i].len <= PIECE)
		sum += h->slice[i++].len;
	c->to = i;
	return cursor(i, 0);
}

/* False: nothing is left. */
static bool chunk_take(struct shm_help *h, struct chunk *c)
{
	uint64_t at = atomic_load_explicit(&h->next, memory_order_relaxed), next;

	do {
		if (at >> 32 >= h->end)
			return false;
		next = chunk_at(h, at, c);
	} while (!atomic_compare_exchange_weak(&h->next, &at, next));
	return true;
}

static void slice_copy(const struct shm_help *h, const struct mc_be_slice *sl, uint64_t off, uint64_t len)
{
	uint8_t *here = (uint8_t *)sl->mem->region.addr + sl->off + off, *there = h->rmem->map + sl->roff + off;

	if (len == 0)
		return;
	if (h->op == MC_BE_WRITE) {
		mc_shm_rmem_touch(h->rmem, sl->roff + off, len);
		mc_copy(there, here, len, h->nt);
	} else {
		mc_copy(here, there, len, h->nt);
	}
}

static inline __attribute__((always_inline)) void next_prefetch(const struct shm_help *h, const struct mc_be_slice *sl)
{
	mc_copy_prefetch(h->op == MC_BE_WRITE ? (const uint8_t *)sl->mem->region.addr + sl->off
					      : h->rmem->map + sl->roff);
}

/* Returns the bytes. */
static uint64_t chunk_copy(struct shm_help *h, const struct chunk *c)
{
	const struct mc_be_slice *sl = &h->slice[c->from];
	uint64_t off = (uint64_t)c->piece * PIECE, len = sl->len - off, sum = 0;

	if (!mc_shm_rmem_live(h->rmem)) {
		atomic_store(&h->stale, true);
		atomic_store(&h->next, cursor(h->end, 0));
		return 0;
	}
	if (!c->whole) {
		len = len < PIECE ? len : PIECE;
		slice_copy(h, sl, off, len);
		return len;
	}
	for (uint32_t i = c->from; i < c->to; i++, sl++) {
		if (i + 1 < h->end)
			next_prefetch(h, sl + 1);
		slice_copy(h, sl, 0, sl->len);
		sum += sl->len;
	}
	return sum;
}

/* ---- the helper ------------------------------------------------------------------------------------------ */

static void help(struct shm_help *h)
{
	int64_t began = mc_now_ns(), now;
	int64_t took = began - h->opened_ns;
	uint64_t busy = atomic_load_explicit(&h->ctl->help_busy, memory_order_relaxed);
	struct chunk c;

	while ((took <= LATE_NS || h->always) && chunk_take(h, &c)) {
		atomic_store(&h->ctl->help_busy, ++busy); /* odd: before the key is looked at */
		uint64_t n = chunk_copy(h, &c);
		mc_copy_fence(h->nt);
		atomic_fetch_add_explicit(&h->helped, n, memory_order_relaxed);
		atomic_store_explicit(&h->ctl->help_busy, ++busy, memory_order_release);
		now = mc_now_ns();
		took = now - began;
		began = now;
	}
	if (took > LATE_NS)
		atomic_store(&h->late_ns, took);
	atomic_store(&h->state, JOB_NONE);
}

static void helper_sleep(struct shm_help *h)
{
	atomic_store(&h->asleep, true);
	if (atomic_load(&h->state) == JOB_NONE && !atomic_load(&h->stop))
		syscall(SYS_futex, &h->state, FUTEX_WAIT_PRIVATE, JOB_NONE, NULL, NULL, 0);
	atomic_store(&h->asleep, false);
}

static void *helper_main(void *arg)
{
	struct sched_param none = {.sched_priority = 0};
	struct shm_help *h = arg;
	int64_t awake_until = 0;

	(void)pthread_setschedparam(pthread_self(), SCHED_BATCH, &none); /* a wish: it works without */
	for (uint32_t looks = 1; !atomic_load(&h->stop); looks++) {
		uint32_t s = JOB_OPEN;

		if (atomic_load_explicit(&h->state, memory_order_relaxed) == JOB_OPEN &&
		    atomic_compare_exchange_strong(&h->state, &s, JOB_HELPED)) {
			help(h);
			awake_until = mc_now_ns() + SPIN_NS;
			continue;
		}
		if (looks % SPIN_LOOKS == 0 && mc_now_ns() >= awake_until)
			helper_sleep(h);
	}
	return NULL;
}

/* ---- whoever polls --------------------------------------------------------------------------------------- */

/* On the core of whoever polls it would be of no use, and a wake-up likes to put it there. */
static void keep_apart(struct shm_help *h)
{
	int cpu = sched_getcpu();
	cpu_set_t set = h->cores;

	if (cpu == h->apart || cpu < 0 || cpu >= CPU_SETSIZE)
		return;
	h->apart = cpu;
	CPU_CLR((size_t)cpu, &set);
	if (CPU_COUNT(&set) > 0)
		(void)pthread_setaffinity_np(h->thread, sizeof(set), &set); /* a wish, too */
}

static void helper_start(struct shm_help *h)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&h->thread, NULL, helper_main, h);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	h->running = rc == 0;
	h->off = rc != 0;
	if (rc != 0)
		mc_info("shm: no thread that helps to copy: errno %d (limits: ulimit -u, pids cgroup)", rc);
}

static struct shm_help *helper(struct mc_be *be)
{
	struct shm_help *h = be->help;

	if (h == NULL) {
		h = aligned_alloc(alignof(struct shm_help), sizeof(*h));
		if (h == NULL)
			return NULL;
		*h = (struct shm_help){
			.rest_ns = REST_MIN_NS, .apart = -1, .always = be->config->copy_threads == COPY_ALWAYS};
		h->uptime_fd = h->always ? -1 : open("/proc/uptime", O_RDONLY | O_CLOEXEC);
		h->off = be->config->copy_threads == COPY_NEVER ||
			 sched_getaffinity(0, sizeof(h->cores), &h->cores) != 0 ||
			 (!h->always && CPU_COUNT(&h->cores) < 2);
		be->help = h;
	}
	if (!h->off && !h->running)
		helper_start(h);
	return h->off ? NULL : h;
}

/* Was it late? Then its core is wanted by others, who are not to be bothered for some time. */
static bool resting(struct shm_help *h, int64_t now)
{
	int64_t late = atomic_exchange(&h->late_ns, 0);

	if (late > 0) {
		h->rest_ns = h->rest_ns * 2 > late * REST_TIMES ? h->rest_ns * 2 : late * REST_TIMES;
		if (h->rest_ns > REST_MAX_NS)
			h->rest_ns = REST_MAX_NS;
		h->rest_until_ns = now + h->rest_ns;
		h->good = 0;
	} else if (now >= h->rest_until_ns && ++h->good >= GOOD_JOBS) {
		h->rest_ns = h->rest_ns / 2 > REST_MIN_NS ? h->rest_ns / 2 : REST_MIN_NS;
		h->good = 0;
	}
	return now < h->rest_until_ns;
}

/* CPU time of the helper. */
static int64_t helper_cpu_ns(const struct shm_help *h)
{
	struct timespec t;
	clockid_t clock;

	if (pthread_getcpuclockid(h->thread, &clock) != 0 || clock_gettime(clock, &t) != 0)
		return 0;
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* How long all cores of the host together have been idle since it started; -1: unknown. */
static int64_t host_idle_ns(const struct shm_help *h)
{
	char text[64] = "", *idle;
	double s;

	if (pread(h->uptime_fd, text, sizeof(text) - 1, 0) <= 0)
		return -1;
	idle = strchr(text, ' ');
	s = idle != NULL ? strtod(idle, NULL) : -1.0;
	return s >= 0.0 && s < 9e9 ? (int64_t)(s * 1e9) : -1;
}

/* Was there a core that nobody, or only the helper, used of late? */
static bool idle_core(struct shm_help *h, int64_t now)
{
	int64_t idle, helper, span = now - h->look_ns;

	if (h->uptime_fd < 0 || span < LOOK_NS)
		return h->uptime_fd < 0 || h->idle;
	idle = host_idle_ns(h);
	helper = helper_cpu_ns(h);
	h->idle = idle >= 0 && h->look_ns > 0 && idle - h->idle_ns + helper - h->helper_ns >= span / 100 * IDLE_PERCENT;
	h->look_ns = now;
	h->idle_ns = idle;
	h->helper_ns = helper;
	return h->idle;
}

/* Slices of the post from where it stands with the same region. */
static uint32_t same_region(const struct shm_post *post, uint64_t *bytes_out)
{
	uint32_t i = post->at;

	*bytes_out = 0;
	for (; i < post->n && post->slice[i].rmem == post->slice[post->at].rmem; i++)
		*bytes_out += post->slice[i].len;
	return i;
}

bool mc_shm_help_open(struct mc_be *be, struct mc_be_ep *ep, struct shm_post *post, bool nt)
{
	struct shm_help *h = be->help;
	uint64_t bytes;
	uint32_t end;
	int64_t now;

	if (h != NULL && (h->post != NULL || h->off))
		return h->post == post;
	if (post->at_off > 0 || post->total < SHM_HELP_MIN)
		return false;
	end = same_region(post, &bytes);
	h = bytes >= SHM_HELP_MIN ? helper(be) : NULL;
	now = h != NULL ? mc_now_ns() : 0;
	if (h == NULL || (!h->always && (resting(h, now) || !idle_core(h, now))))
		return false;
	h->slice = post->slice;
	h->end = end;
	h->op = post->op;
	h->nt = nt;
	h->rmem = post->slice[post->at].rmem;
	h->ctl = ep->ctl;
	h->opened_ns = now;
	h->post = post;
	keep_apart(h);
	atomic_store(&h->stale, false);
	atomic_store(&h->next, cursor(post->at, 0));
	atomic_store(&h->state, JOB_OPEN);
	if (atomic_load(&h->asleep))
		syscall(SYS_futex, &h->state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	return true;
}

/* Nothing is left to be taken: is it done? */
static bool closed(struct shm_help *h)
{
	uint32_t s = JOB_OPEN;

	return atomic_compare_exchange_strong(&h->state, &s, JOB_NONE) || s == JOB_NONE;
}

enum shm_moved mc_shm_help_move(struct mc_be *be, struct shm_post *post, uint64_t *budget)
{
	struct shm_help *h = be->help;
	struct chunk c;

	while (*budget > 0 && chunk_take(h, &c)) {
		uint64_t n = chunk_copy(h, &c) + (uint64_t)(c.to - c.from) * SHM_SLICE_COST;

		*budget = *budget > n ? *budget - n : 0;
	}
	mc_copy_fence(h->nt);
	if (atomic_load(&h->next) >> 32 < h->end)
		return SHM_MOVED_PART;
	for (uint32_t i = 0; i < SPIN_LOOKS && atomic_load_explicit(&h->state, memory_order_relaxed) == JOB_HELPED; i++)
		;
	if (!closed(h))
		return SHM_MOVED_WAITS;
	h->post = NULL;
	post->at = h->end;
	if (atomic_load(&h->stale)) {
		post->status = MC_ERR_STALE;
		post->why = "the peer freed the region";
	}
	return SHM_MOVED_ALL;
}

/* The post ends before its time: when this returns the helper touches nothing of it any more. */
void mc_shm_help_cancel(struct mc_be *be, const struct shm_post *post)
{
	struct shm_help *h = be->help;

	if (h == NULL || h->post != post)
		return;
	atomic_store(&h->next, cursor(h->end, 0));
	while (!closed(h))
		sched_yield();
	h->post = NULL;
}

uint64_t mc_shm_help_bytes(const struct mc_be *be)
{
	return be->help != NULL ? atomic_load(&be->help->helped) : 0;
}

void mc_shm_help_close(struct mc_be *be)
{
	struct shm_help *h = be->help;

	if (h == NULL)
		return;
	atomic_store(&h->stop, true);
	if (h->running) {
		atomic_store(&h->state, JOB_STOP);
		syscall(SYS_futex, &h->state, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
		pthread_join(h->thread, NULL);
	}
	mc_debug("shm: a second thread has copied %llu bytes", (unsigned long long)mc_shm_help_bytes(be));
	if (h->uptime_fd >= 0)
		close(h->uptime_fd);
	free(h);
	be->help = NULL;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* progress.h - making progress, waiting and waking (docs/THREADS.md). */
#ifndef MC_PROGRESS_H
#define MC_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mc.h"

/* Who has the descriptors; under ctx->lock. */
struct mc_driver {
	int watch_fd, alarm_fd;     /* progress thread: its epoll set, of epfd and of its alarm; -1: manual */
	uint32_t spinners;          /* waiting callers that poll */
	bool thread_asleep;         /* the progress thread is */
	bool watching;              /* what happens on epfd wakes it */
	bool noisy;                 /* constant; some backend is without MC_CAP_QUIET */
	bool caller_asleep;         /* a waiting caller sleeps on epfd; what it sleeps for, and until when: */
	_Atomic(uint32_t) *caller_word;
	int64_t caller_alarm_ns;
	bool lease;                 /* callers come so often that the progress thread stays away */
	uint32_t drives;            /* visits of callers since it last looked */
	int64_t lease_ns;
	_Atomic(uint32_t) crowded;  /* waits that sleep at once: who else wants this core does not give it back soon */
};

/* progress.c */
void mc_ctx_lock(struct mc_ctx *ctx);
void mc_ctx_unlock(struct mc_ctx *ctx);
uint32_t mc_progress_locked(struct mc_ctx *ctx, uint32_t rounds); /* so many polls at most, while they find things */
mc_status_t mc_progress_open(struct mc_ctx *ctx);   /* epoll set; thread unless manual */
void mc_progress_stop(struct mc_ctx *ctx);          /* joins the thread */
void mc_progress_close(struct mc_ctx *ctx);
void mc_progress_kick(struct mc_ctx *ctx);          /* something needs the progress thread: wake it if it sleeps */
void mc_progress_posted(struct mc_ctx *ctx, uint64_t bytes); /* under the lock, last thing of a call that posted */
void mc_progress_drain(struct mc_ctx *ctx);         /* read what a kick wrote; only who was to be woken */
bool mc_progress_overslept(const struct mc_ctx *ctx); /* under the lock: a deadline is earlier than a sleeper's alarm */
void mc_epoll_sleep(struct mc_ctx *ctx, int64_t ns); /* not under the lock */
/* For wait.c, under the lock: a waiting caller starts to poll; has stopped; goes to sleep; woke up. */
void mc_progress_take_over(struct mc_ctx *ctx);
void mc_progress_hand_over(struct mc_ctx *ctx);
int64_t mc_progress_caller_sleeps(struct mc_ctx *ctx, int64_t deadline_ns); /* how long; 0: it must not sleep */
void mc_progress_caller_woke(struct mc_ctx *ctx);

/* wait.c */
void mc_wake(struct mc_ctx *ctx, _Atomic(uint32_t) *word); /* under the lock; word changed: wake who waits on it */
void mc_word_bump(struct mc_ctx *ctx, _Atomic(uint32_t) *word); /* under the lock: change it, wake who waits on it */
/*
 * Wait until pred(arg), which is called without the lock, or the deadline. Drives progress itself, and sleeps when
 * nothing happened for the spin time. Every change of what pred looks at must bump *word. pred may take note of what it
 * has seen: its first true ends the wait. MC_OK or MC_ERR_TIMEOUT. Not under the lock.
 */
mc_status_t mc_wait_until(struct mc_ctx *ctx, bool (*pred)(void *arg), void *arg, _Atomic(uint32_t) *word,
			  int64_t deadline_ns);

#endif

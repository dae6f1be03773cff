/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch.c - mc_peer_watch(): a function of the program's is called for peers of other jobs that come and go. One thread
 * of its own per context calls all of them, one at a time and without a lock, so that they may wait; with
 * MC_PROGRESS=manual mc_progress() calls them.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "foreign.h"

struct mc_watch {
	struct mc_foreign *f;
	struct mc_list node;
	char *role, *pattern; /* NULL: any */
	void (*fn)(void *arg, const struct mc_peer_event *ev);
	void *arg;
	bool freed; /* by its own function: goes when that returns */
};

struct watch_event {
	struct mc_list node;
	struct mc_watch *watch;
	struct mc_peer_event ev;
};

/* False: no memory. */
static bool queue(struct mc_watch *w, const struct mc_peer *p, mc_status_t s)
{
	struct watch_event *e = calloc(1, sizeof(*e));
	if (e == NULL)
		return false;
	e->watch = w;
	e->ev = (struct mc_peer_event){.size = sizeof(e->ev), .peer = p->id, .epoch = p->epoch, .status = s};
	mc_list_add_tail(&w->f->events, &e->node);
	return true;
}

void mc_watch_tell(struct mc_peer *p, mc_status_t s)
{
	struct mc_foreign *f = p->ctx->foreign;
	for (struct mc_list *l = f->watches.next; l != &f->watches; l = l->next) {
		struct mc_watch *w = mc_container_of(l, struct mc_watch, node);
		if (!w->freed && mc_peer_fits(p, w->role, w->pattern) && !queue(w, p, s))
			mc_error("rank %u: no memory to tell of peer %u", p->ctx->rank, p->id);
	}
	pthread_cond_broadcast(&f->cond);
}

static void watch_destroy(struct mc_watch *w)
{
	struct mc_list *l, *next;
	for (l = w->f->events.next; l != &w->f->events; l = next) {
		struct watch_event *e = mc_container_of(l, struct watch_event, node);
		next = l->next;
		if (e->watch == w) {
			mc_list_del(&e->node);
			free(e);
		}
	}
	mc_list_del(&w->node);
	free(w->role);
	free(w->pattern);
	free(w);
}

/* Under the lock, which is let go for the call. False: nothing waits. */
static bool call_one(struct mc_foreign *f)
{
	struct mc_list *l = f->calling == NULL ? mc_list_pop(&f->events) : NULL;
	if (l == NULL)
		return false;
	struct watch_event *e = mc_container_of(l, struct watch_event, node);
	struct mc_watch *w = e->watch;
	f->calling = w;
	f->caller = pthread_self();
	mc_ctx_unlock(f->ctx);
	w->fn(w->arg, &e->ev);
	free(e);
	mc_ctx_lock(f->ctx);
	f->calling = NULL;
	if (w->freed)
		watch_destroy(w);
	pthread_cond_broadcast(&f->cond);
	return true;
}

void mc_watches_call(struct mc_foreign *f)
{
	mc_ctx_lock(f->ctx);
	while (call_one(f))
		;
	mc_ctx_unlock(f->ctx);
}

static void *watch_main(void *arg)
{
	struct mc_foreign *f = arg;
	mc_ctx_lock(f->ctx);
	while (!f->stop)
		if (!call_one(f))
			pthread_cond_wait(&f->cond, &f->ctx->lock);
	mc_ctx_unlock(f->ctx);
	return NULL;
}

/* With the first watch; under the lock. */
static mc_status_t thread_start(struct mc_foreign *f)
{
	sigset_t all, old;
	if (f->thread_on || f->ctx->manual)
		return MC_OK;
	/* Signals stay with the program's own threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&f->thread, NULL, watch_main, f);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		mc_error("rank %u: cannot start the thread of the watches: errno %d (limits: ulimit -u, pids cgroup) "
			 "[process-limit, see mcinfo doctor]",
			 f->ctx->rank, rc);
		return MC_ERR_NOMEM;
	}
	f->thread_on = true;
	return MC_OK;
}

static struct mc_watch *watch_new(struct mc_foreign *f, const char *role, const char *pattern)
{
	struct mc_watch *w = calloc(1, sizeof(*w));
	if (w == NULL)
		return NULL;
	w->f = f;
	w->role = role != NULL ? strdup(role) : NULL;
	w->pattern = pattern != NULL ? strdup(pattern) : NULL;
	mc_list_init(&w->node);
	if ((role != NULL && w->role == NULL) || (pattern != NULL && w->pattern == NULL)) {
		watch_destroy(w);
		return NULL;
	}
	return w;
}

mc_status_t mc_peer_watch(struct mc_ctx *ctx, const char *role, const char *job_pattern,
			  void (*fn)(void *arg, const struct mc_peer_event *ev), void *arg, struct mc_watch **watch_out)
{
	struct mc_foreign *f = ctx->foreign;
	if (fn == NULL || watch_out == NULL)
		return MC_ERR_INVAL;
	if (f == NULL)
		return MC_ERR_UNSUPPORTED;
	mc_ctx_lock(ctx);
	struct mc_watch *w = watch_new(f, role, job_pattern);
	mc_status_t s = w != NULL ? thread_start(f) : MC_ERR_NOMEM;
	if (s == MC_OK) {
		w->fn = fn;
		w->arg = arg;
		mc_list_add_tail(&f->watches, &w->node);
	}
	for (uint32_t i = 0; i < f->n && s == MC_OK; i++) {
		const struct mc_peer *p = mc_foreign_get(f, i);
		if (mc_peer_there(p) && mc_peer_fits(p, role, job_pattern) && !queue(w, p, MC_OK))
			s = MC_ERR_NOMEM;
	}
	if (s == MC_OK)
		*watch_out = w;
	else if (w != NULL)
		watch_destroy(w);
	pthread_cond_broadcast(&f->cond);
	mc_ctx_unlock(ctx);
	return s;
}

void mc_peer_watch_free(struct mc_watch *watch)
{
	if (watch == NULL)
		return;
	struct mc_foreign *f = watch->f;
	struct mc_ctx *ctx = f->ctx;
	mc_ctx_lock(ctx);
	if (f->calling == watch && pthread_equal(f->caller, pthread_self())) {
		watch->freed = true;
	} else {
		while (f->calling == watch)
			pthread_cond_wait(&f->cond, &ctx->lock);
		watch_destroy(watch);
	}
	mc_ctx_unlock(ctx);
}

void mc_watches_stop(struct mc_foreign *f)
{
	mc_ctx_lock(f->ctx);
	f->stop = true;
	bool on = f->thread_on;
	f->thread_on = false;
	pthread_cond_broadcast(&f->cond);
	mc_ctx_unlock(f->ctx);
	if (on)
		pthread_join(f->thread, NULL);
}

void mc_watches_free(struct mc_foreign *f)
{
	while (!mc_list_empty(&f->watches))
		watch_destroy(mc_container_of(f->watches.next, struct mc_watch, node));
}

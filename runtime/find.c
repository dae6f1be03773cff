/* SPDX-License-Identifier: BSD-3-Clause */
/* find.c - mc_peer_find(): peers of other jobs that the directory has now, by role and job. */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "foreign.h"

struct finder {
	struct mc_ctx *ctx;
	const char *role, *pattern;
	uint32_t min_n;
	const struct mc_peer **found; /* [n] */
	uint32_t n, room;
	mc_status_t status; /* MC_IN_PROGRESS: not enough yet */
	mc_status_t dir;
};

bool mc_peer_fits(const struct mc_peer *p, const char *role, const char *job_pattern)
{
	return (role == NULL || strcmp(p->role, role) == 0) &&
	       (job_pattern == NULL || fnmatch(job_pattern, p->job_name, 0) == 0);
}

bool mc_peer_there(const struct mc_peer *p)
{
	return p->listed && p->state != MC_PEER_DOWN && mc_list_empty(&p->dying);
}

static int by_job_and_rank(const void *a, const void *b)
{
	const struct mc_peer *x = *(const struct mc_peer *const *)a, *y = *(const struct mc_peer *const *)b;
	int c = strcmp(x->job_name, y->job_name);
	return c != 0 ? c : x->rank < y->rank ? -1 : x->rank > y->rank;
}

static bool add(struct finder *w, const struct mc_peer *p)
{
	if (w->n == w->room) {
		uint32_t room = w->room > 0 ? w->room * 2 : 64;
		const struct mc_peer **a = realloc(w->found, room * sizeof(struct mc_peer *));
		if (a == NULL)
			return false;
		w->found = a;
		w->room = room;
	}
	w->found[w->n++] = p;
	return true;
}

static bool enough(void *arg)
{
	struct finder *w = arg;
	mc_ctx_lock(w->ctx);
	struct mc_foreign *f = w->ctx->foreign;
	w->n = 0;
	w->status = MC_IN_PROGRESS;
	w->dir = f->dir;
	for (uint32_t i = 0; i < f->n && f->dir == MC_OK; i++) {
		const struct mc_peer *p = mc_foreign_get(f, i);
		if (mc_peer_there(p) && mc_peer_fits(p, w->role, w->pattern) && !add(w, p))
			w->status = MC_ERR_NOMEM;
	}
	if (f->dir == MC_OK && w->n >= w->min_n && w->status == MC_IN_PROGRESS)
		w->status = MC_OK;
	mc_ctx_unlock(w->ctx);
	return w->status != MC_IN_PROGRESS;
}

mc_status_t mc_peer_find(struct mc_ctx *ctx, const char *role, const char *job_pattern, uint32_t min_n,
			 int64_t timeout_ns, uint32_t *peer, uint32_t room, uint32_t *n_out)
{
	struct finder w = {.ctx = ctx, .role = role, .pattern = job_pattern, .min_n = min_n};
	if (n_out == NULL || (peer == NULL && room > 0))
		return MC_ERR_INVAL;
	if (ctx->foreign == NULL)
		return MC_ERR_UNSUPPORTED;
	mc_status_t s = mc_wait_until(ctx, enough, &w, &ctx->peer_seq, mc_deadline(mc_now_ns(), timeout_ns));
	if (s == MC_OK)
		s = w.status;
	else if (w.dir != MC_OK)
		s = MC_ERR_DIRECTORY;
	if (s == MC_OK) {
		if (w.n > 0)
			qsort(w.found, w.n, sizeof(struct mc_peer *), by_job_and_rank);
		for (uint32_t i = 0; i < w.n && i < room; i++)
			peer[i] = w.found[i]->id;
		*n_out = w.n;
	}
	free(w.found);
	return s;
}

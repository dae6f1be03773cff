/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * foreign.c - peers of other jobs, as a directory tells of them or as they introduce themselves.
 *
 * A rank of another job has one number here for as long as this context lives, found by the job's name and the rank in
 * it; which process that is changes as with ranks of the own job (join.c). What the directory says decides only what
 * mc_peer_find() and the watches tell: a peer whose record is gone, or a directory that is away, breaks no link.
 */
#include "foreign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { EVENTS_PER_POLL = 256, INFO_MAX = 16384, NOISE_PER_S = 5 };

/* ---- numbers ---- */

static uint32_t hash_of(uint64_t h, uint32_t rank)
{
	h = (h ^ rank) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(h >> 40) % MC_FOREIGN_HASH;
}

static uint64_t name_hash(const char *s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	for (; *s != '\0'; s++)
		h = (h ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
	return h;
}

struct mc_peer *mc_foreign_get(const struct mc_foreign *f, uint32_t i)
{
	if (i / MC_FOREIGN_CHUNK >= MC_FOREIGN_CHUNKS)
		return NULL;
	struct mc_foreign_chunk *c = atomic_load_explicit(&f->chunk[i / MC_FOREIGN_CHUNK], memory_order_acquire);
	return c != NULL ? atomic_load_explicit(&c->peer[i % MC_FOREIGN_CHUNK], memory_order_acquire) : NULL;
}

static struct mc_peer *find_name(const struct mc_foreign *f, const char *job, uint32_t rank)
{
	struct mc_peer *p = f->by_name[hash_of(name_hash(job), rank)];
	while (p != NULL && (p->rank != rank || strcmp(p->job_name, job) != 0))
		p = p->next_name;
	return p;
}

struct mc_peer *mc_foreign_sender(const struct mc_ctx *ctx, uint64_t job, uint32_t rank)
{
	struct mc_peer *p = ctx->foreign != NULL ? ctx->foreign->by_frame[hash_of(job, rank)] : NULL;
	while (p != NULL && (p->rank != rank || p->job != job))
		p = p->next_frame;
	return p;
}

void mc_foreign_hear(struct mc_peer *p)
{
	struct mc_peer **at = &p->ctx->foreign->by_frame[hash_of(p->job, p->rank)];
	p->next_frame = *at;
	*at = p;
}

void mc_foreign_deaf(struct mc_peer *p)
{
	struct mc_peer **at = &p->ctx->foreign->by_frame[hash_of(p->job, p->rank)];
	while (*at != p)
		at = &(*at)->next_frame;
	*at = p->next_frame;
}

static void unchain(struct mc_foreign *f, struct mc_peer *p)
{
	struct mc_peer **at = &f->by_name[hash_of(name_hash(p->job_name), p->rank)];
	while (*at != p)
		at = &(*at)->next_name;
	*at = p->next_name;
	mc_foreign_deaf(p);
}

void mc_foreign_enter(struct mc_peer *p, struct mc_peer *old)
{
	struct mc_foreign *f = p->ctx->foreign;
	uint32_t i = p->id - p->ctx->size;
	if (old != NULL)
		unchain(f, old);
	struct mc_peer **name = &f->by_name[hash_of(name_hash(p->job_name), p->rank)];
	p->next_name = *name;
	*name = p;
	mc_foreign_hear(p);
	struct mc_foreign_chunk *c = atomic_load_explicit(&f->chunk[i / MC_FOREIGN_CHUNK], memory_order_relaxed);
	atomic_store_explicit(&c->peer[i % MC_FOREIGN_CHUNK], p, memory_order_release);
}

/* The next number; MC_NO_RANK: none left, or no memory. */
static uint32_t number_next(struct mc_foreign *f)
{
	uint32_t k = f->n / MC_FOREIGN_CHUNK;
	if (k >= MC_FOREIGN_CHUNKS) {
		if (mc_ratelimit_ok(&f->ctx->noise, 1))
			mc_warn("rank %u: %u ranks of other jobs were met: no room for more, restart this rank",
				f->ctx->rank, f->n);
		return MC_NO_RANK;
	}
	if (atomic_load_explicit(&f->chunk[k], memory_order_relaxed) == NULL) {
		struct mc_foreign_chunk *c = calloc(1, sizeof(*c));
		if (c == NULL)
			return MC_NO_RANK;
		atomic_store_explicit(&f->chunk[k], c, memory_order_release);
	}
	return f->ctx->size + f->n++;
}

struct mc_peer *mc_foreign_meet(struct mc_foreign *f, struct mc_peer *n, bool sure)
{
	struct mc_peer *old = find_name(f, n->job_name, n->rank);
	n->introduce = true;
	if (old != NULL)
		return mc_peer_meet(n, old, sure);
	uint32_t id = number_next(f);
	if (id == MC_NO_RANK) {
		mc_peer_free(n);
		return NULL;
	}
	mc_peer_enter(n, id);
	mc_debug("rank %u: peer %u is rank %u of job %s (%s, host %s, pid %d)", f->ctx->rank, n->id, n->rank,
		 n->job_name, n->role, n->host, n->pid);
	return n;
}

const struct mc_mac_key *mc_foreign_key(const struct mc_ctx *ctx, const struct mc_frame *frame)
{
	if (ctx->foreign == NULL)
		return NULL;
	if (frame->kind == MC_MSG_JOIN)
		return ctx->foreign->key;
	const struct mc_peer *p = mc_foreign_sender(ctx, frame->job, frame->src_rank);
	return p != NULL ? p->key : NULL;
}

/* ---- telling the directory ---- */

/* Under the lock: this rank's record, signed under the cluster's key, and what people may want to know. */
void mc_foreign_publish(struct mc_ctx *ctx)
{
	struct mc_foreign *f = ctx->foreign;
	uint32_t len;
	if (f == NULL || f->bridge == NULL || f->key == NULL)
		return;
	uint8_t *rec = malloc(MC_RECORD_MAX);
	char *info = malloc(INFO_MAX);
	mc_status_t s =
		rec != NULL && info != NULL ? mc_record_make(ctx, f->key, rec, MC_RECORD_MAX, &len) : MC_ERR_NOMEM;
	if (s == MC_OK) {
		mc_kv_pools_info(ctx, info, INFO_MAX);
		s = f->ops->publish(f->bridge, rec, len, info);
	}
	if (s != MC_OK)
		mc_error("rank %u: cannot publish itself to other jobs: %s", ctx->rank, mc_status_text(s));
	free(info);
	free(rec);
}

/* ---- what the directory says ---- */

static void on_key(struct mc_foreign *f, const uint8_t *key)
{
	struct mc_cluster_key *k = calloc(1, sizeof(*k));
	if (k == NULL) {
		mc_error("rank %u: no memory for the cluster's key", f->ctx->rank);
		return;
	}
	if (!mc_mac_key_make(key, &k->key))
		mc_warn("peers of other jobs are not authenticated: libmc was built without libsodium");
	mc_list_add_tail(&f->keys, &k->node);
	f->key = &k->key;
	mc_foreign_publish(f->ctx);
}

/* The record of an UP event as a new peer; NULL: refused. */
static struct mc_peer *peer_of(struct mc_foreign *f, const struct mc_bridge_event *ev)
{
	struct mc_ctx *ctx = f->ctx;
	struct mc_peer *n = f->key != NULL && ev->record_len <= MC_RECORD_MAX ? mc_peer_new(ctx) : NULL;
	mc_status_t s = n != NULL ? mc_record_parse(ctx, f->key, n, ev->record, ev->record_len) : MC_ERR_AUTH;
	if (s == MC_OK && n->job == ctx->job) {
		mc_peer_free(n); /* one of us under another name */
		return NULL;
	}
	if (s == MC_OK && (strcmp(n->job_name, ev->job) != 0 || n->rank != ev->rank || n->epoch != ev->epoch ||
			   n->rank >= MC_FOREIGN_RANK_MAX))
		s = MC_ERR_PROTO;
	if (s == MC_OK)
		return n;
	if (mc_ratelimit_ok(&ctx->noise, NOISE_PER_S))
		mc_warn("rank %u: what %s has of rank %u of job %s is refused: %s", ctx->rank, f->ops->name, ev->rank,
			ev->job, mc_status_text(s));
	mc_peer_free(n);
	return NULL;
}

void mc_foreign_list(struct mc_peer *p)
{
	if (!p->in_dir)
		return;
	if (p->listed || p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying))
		return;
	p->listed = true;
	mc_watch_tell(p, MC_OK);
}

static void unlist(struct mc_peer *p)
{
	if (!p->listed)
		return;
	p->listed = false;
	mc_watch_tell(p, MC_ERR_PEER_DOWN);
}

void mc_foreign_lost(struct mc_peer *p)
{
	if (p->ctx->foreign != NULL && p->job != p->ctx->job)
		unlist(p);
}

static void on_up(struct mc_foreign *f, const struct mc_bridge_event *ev)
{
	struct mc_peer *n = peer_of(f, ev);
	struct mc_peer *p = n != NULL ? mc_foreign_meet(f, n, true) : NULL;
	if (p == NULL)
		return;
	p->in_dir = true;
	mc_foreign_list(p);
	mc_resume_soon(p);
}

static void on_down(struct mc_foreign *f, const struct mc_bridge_event *ev)
{
	struct mc_peer *p = find_name(f, ev->job, ev->rank);
	if (p == NULL || p->epoch != ev->epoch)
		return;
	p->in_dir = false;
	p->call_ns = INT64_MAX;
	unlist(p);
}

static void on_synced(struct mc_foreign *f, const struct mc_bridge_event *ev)
{
	f->dir = ev->status;
	if (ev->status != MC_OK)
		mc_fault_add(f->ctx, MC_NO_RANK, MC_ERR_DIRECTORY,
			     ev->text != NULL ? ev->text : "the directory of other jobs is away");
}

void mc_foreign_poll(struct mc_ctx *ctx)
{
	struct mc_foreign *f = ctx->foreign;
	struct mc_bridge_event ev;
	uint32_t n = 0;
	if (f == NULL || f->bridge == NULL)
		return;
	while (n < EVENTS_PER_POLL && f->ops->next(f->bridge, &ev) == MC_OK) {
		n++;
		switch (ev.kind) {
		case MC_BRIDGE_KEY:
			on_key(f, ev.key);
			break;
		case MC_BRIDGE_UP:
			on_up(f, &ev);
			break;
		case MC_BRIDGE_DOWN:
			on_down(f, &ev);
			break;
		case MC_BRIDGE_SYNCED:
			on_synced(f, &ev);
			break;
		}
	}
	if (n == 0)
		return;
	ctx->boot_check_ns = n == EVENTS_PER_POLL ? 0 : ctx->boot_check_ns;
	mc_word_bump(ctx, &ctx->peer_seq);
}

/* ---- open and close ---- */

static mc_status_t foreign_new(struct mc_ctx *ctx, const struct mc_bridge_ops *ops, struct mc_bridge *bridge, int fd)
{
	struct mc_foreign *f = calloc(1, sizeof(*f));
	if (f == NULL || pthread_cond_init(&f->cond, NULL) != 0) {
		free(f);
		ops->close(bridge);
		mc_error("rank %u: no memory for peers of other jobs", ctx->rank);
		return MC_ERR_NOMEM;
	}
	f->ctx = ctx;
	f->ops = ops;
	f->bridge = bridge;
	f->fd = fd;
	f->dir = MC_IN_PROGRESS;
	mc_list_init(&f->keys);
	mc_list_init(&f->watches);
	mc_list_init(&f->events);
	ctx->foreign = f;
	return MC_OK;
}

mc_status_t mc_foreign_open(struct mc_ctx *ctx)
{
	struct mc_bridge_cfg cfg = {.config = &ctx->cfg, .rank = ctx->rank, .epoch = ctx->epoch};
	struct mc_bridge *bridge;
	int fd;
	memcpy(cfg.job, ctx->job_name, sizeof(cfg.job));
	memcpy(cfg.role, ctx->role, sizeof(cfg.role));
	for (uint32_t i = 0; mc_builtin_bridges[i] != NULL; i++) {
		mc_status_t s = mc_builtin_bridges[i]->open(&cfg, &bridge, &fd);
		if (s == MC_ERR_UNSUPPORTED)
			continue;
		return s == MC_OK ? foreign_new(ctx, mc_builtin_bridges[i], bridge, fd) : s;
	}
	return MC_OK;
}

void mc_foreign_close(struct mc_ctx *ctx)
{
	struct mc_foreign *f = ctx->foreign;
	if (f == NULL)
		return;
	mc_watches_stop(f);
	mc_ctx_lock(ctx);
	struct mc_bridge *bridge = f->bridge;
	f->bridge = NULL;
	if (bridge != NULL && ctx->epfd >= 0)
		(void)epoll_ctl(ctx->epfd, EPOLL_CTL_DEL, f->fd, NULL);
	mc_ctx_unlock(ctx);
	if (bridge != NULL)
		f->ops->close(bridge);
}

void mc_foreign_free(struct mc_ctx *ctx)
{
	struct mc_foreign *f = ctx->foreign;
	struct mc_list *l;
	if (f == NULL)
		return;
	mc_watches_free(f);
	while ((l = mc_list_pop(&f->keys)) != NULL)
		free(mc_container_of(l, struct mc_cluster_key, node));
	for (uint32_t i = 0; i < MC_FOREIGN_CHUNKS; i++)
		free(atomic_load(&f->chunk[i]));
	pthread_cond_destroy(&f->cond);
	free(f);
	ctx->foreign = NULL;
}

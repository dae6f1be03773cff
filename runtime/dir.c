/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dir.c - the directory: each rank keeps what it published and answers lookups, at once or when the name appears.
 * Three kinds of entries: regions by name, regions by number (for descriptors that the engine itself needs), KV pools
 * by name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum {
	PARKED_MAX = 4096, /* lookups of one peer that may wait here */
	KEPT_MAX = 64,     /* of ours, that nobody waits for */
	KEPT_NS = 1000000000,
};
static const int64_t PAUSE_MAX_NS = INT64_C(60000000000); /* who pauses longer does not poll */

static void kept_drop_peer(const struct mc_peer *p);

static struct mc_mem *find_name(struct mc_ctx *ctx, const char *name)
{
	for (uint32_t i = 0; i < ctx->region_n; i++)
		if (ctx->region[i] != NULL && ctx->region[i]->name != NULL && strcmp(ctx->region[i]->name, name) == 0)
			return ctx->region[i];
	return NULL;
}

/* MC_OK: the entry is in *w; MC_ERR_NOENT: nothing of that name yet. */
static mc_status_t encode_entry(const struct mc_peer *p, enum mc_dir_what what, uint64_t id, const char *name,
				struct mc_wr *w)
{
	struct mc_ctx *ctx = p->ctx;
	struct mc_mem *m;
	switch (what) {
	case MC_DIR_NAME:
		m = find_name(ctx, name);
		return m != NULL ? mc_mem_encode(m, p->key, w) : MC_ERR_NOENT;
	case MC_DIR_ID:
		m = mc_region_find(ctx, id);
		return m != NULL ? mc_mem_encode(m, p->key, w) : MC_ERR_STALE;
	case MC_DIR_POOL:
		return mc_kv_pool_encode(ctx, name, w);
	default:
		return MC_ERR_PROTO;
	}
}

/* Answer a lookup. false: nothing to say yet. */
static bool answer(struct mc_peer *p, uint64_t cookie, enum mc_dir_what what, uint64_t id, const char *name)
{
	uint8_t *blob = malloc(MC_ENTRY_MAX);
	struct mc_tx *tx = blob != NULL ? mc_tx_get(p, MC_MSG_LOOKUP_REPLY, true) : NULL;
	if (tx == NULL) {
		free(blob);
		mc_peer_fail(p, MC_ERR_NOMEM, "no memory to answer it");
		return true;
	}
	struct mc_wr b, w;
	mc_wr_init(&b, blob, MC_ENTRY_MAX);
	mc_status_t s = encode_entry(p, what, id, name, &b);
	if (s == MC_ERR_NOENT) {
		mc_tx_put(tx);
	} else {
		mc_tx_body(tx, &w);
		mc_wr_u64(&w, cookie);
		mc_wr_u32(&w, (uint32_t)(int32_t)s);
		mc_wr_blob(&w, blob, s == MC_OK ? (uint32_t)mc_wr_len(&b) : 0);
		mc_tx_send(tx, &w);
	}
	free(blob);
	return s != MC_ERR_NOENT;
}

/* It does not want to know any more. */
static void unpark(struct mc_peer *p, uint64_t cookie)
{
	for (struct mc_list *l = p->ctx->parked.next; l != &p->ctx->parked; l = l->next) {
		struct mc_parked *k = mc_container_of(l, struct mc_parked, node);
		if (k->peer != p || k->cookie != cookie)
			continue;
		mc_list_del(&k->node);
		p->parked_n--;
		free(k);
		return;
	}
}

void mc_on_lookup(struct mc_peer *p, struct mc_rd *r)
{
	struct mc_ctx *ctx = p->ctx;
	char name[MC_NAME_MAX];
	uint64_t cookie = mc_rd_u64(r);
	uint8_t what = mc_rd_u8(r);
	uint64_t id = mc_rd_u64(r);
	mc_rd_str(r, name, sizeof(name));
	if (what > MC_DIR_POOL)
		r->bad = true;
	if (!r->bad && what == MC_DIR_NOTHING)
		unpark(p, cookie);
	if (r->bad || what == MC_DIR_NOTHING || answer(p, cookie, (enum mc_dir_what)what, id, name))
		return;
	struct mc_parked *k = p->parked_n < PARKED_MAX ? calloc(1, sizeof(*k)) : NULL;
	if (k == NULL) {
		mc_peer_fail(p, MC_ERR_PROTO, "%u lookups of it wait here", p->parked_n);
		return;
	}
	k->peer = p;
	k->cookie = cookie;
	k->what = (enum mc_dir_what)what;
	memcpy(k->name, name, sizeof(name));
	mc_list_add_tail(&ctx->parked, &k->node);
	p->parked_n++;
}

/* A name has appeared: answer those who wait for it. */
void mc_dir_published(struct mc_ctx *ctx, enum mc_dir_what what, const char *name)
{
	struct mc_list *l, *next;
	for (l = ctx->parked.next; l != &ctx->parked; l = next) {
		next = l->next;
		struct mc_parked *k = mc_container_of(l, struct mc_parked, node);
		if (k->what != what || strcmp(k->name, name) != 0 || !answer(k->peer, k->cookie, what, 0, name))
			continue;
		mc_list_del(&k->node);
		k->peer->parked_n--;
		free(k);
	}
}

mc_status_t mc_mem_publish(struct mc_mem *mem, const char *name)
{
	struct mc_ctx *ctx = mem->ctx;
	if (name == NULL || name[0] == '\0' || strlen(name) >= MC_NAME_MAX)
		return MC_ERR_INVAL;
	char *copy = strdup(name);
	if (copy == NULL)
		return MC_ERR_NOMEM;
	mc_ctx_lock(ctx);
	if (mem->name != NULL || find_name(ctx, name) != NULL) {
		mc_ctx_unlock(ctx);
		free(copy);
		return MC_ERR_BUSY;
	}
	mem->name = copy;
	mc_dir_published(ctx, MC_DIR_NAME, name);
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
	return MC_OK;
}

static void lookup_over(struct mc_lookup *k, mc_status_t s, const void *blob, uint32_t len)
{
	mc_list_del(&k->node);
	k->done(k, s, blob, len);
}

static mc_status_t reply_status(uint32_t wire)
{
	int32_t v = (int32_t)wire;
	return v == MC_OK ? MC_OK : v == MC_ERR_STALE ? MC_ERR_STALE : MC_ERR_INTERNAL;
}

void mc_on_lookup_reply(struct mc_peer *p, struct mc_rd *r)
{
	struct mc_ctx *ctx = p->ctx;
	uint64_t cookie = mc_rd_u64(r);
	mc_status_t s = reply_status(mc_rd_u32(r));
	uint32_t len;
	const void *blob = mc_rd_blob(r, &len, MC_ENTRY_MAX);
	for (struct mc_list *l = ctx->lookups.next; blob != NULL && l != &ctx->lookups; l = l->next) {
		struct mc_lookup *k = mc_container_of(l, struct mc_lookup, node);
		if (k->cookie == cookie && k->peer == p) {
			lookup_over(k, s, blob, len);
			return;
		}
	}
}

void mc_dir_peer_down(struct mc_peer *p)
{
	struct mc_ctx *ctx = p->ctx;
	struct mc_list *l, *next;
	for (l = ctx->parked.next; l != &ctx->parked; l = next) {
		next = l->next;
		struct mc_parked *k = mc_container_of(l, struct mc_parked, node);
		if (k->peer == p) {
			mc_list_del(&k->node);
			free(k);
		}
	}
	p->parked_n = 0;
	kept_drop_peer(p);
	for (l = ctx->lookups.next; l != &ctx->lookups; l = next) {
		next = l->next;
		struct mc_lookup *k = mc_container_of(l, struct mc_lookup, node);
		if (k->peer == p)
			lookup_over(k, p->why, NULL, 0);
	}
}

static mc_status_t lookup_send(struct mc_peer *p, uint64_t cookie, enum mc_dir_what what, uint64_t id,
			       const char *name)
{
	mc_status_t s = mc_peer_start(p);
	struct mc_tx *tx = s == MC_OK ? mc_tx_get(p, MC_MSG_LOOKUP, false) : NULL;
	if (tx == NULL)
		return s != MC_OK ? s : MC_ERR_NOMEM;
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, cookie);
	mc_wr_u8(&w, (uint8_t)what);
	mc_wr_u64(&w, id);
	mc_wr_str(&w, name);
	mc_tx_send(tx, &w);
	return MC_OK;
}

mc_status_t mc_dir_ask(struct mc_lookup *k, enum mc_dir_what what, uint64_t id, const char *name)
{
	struct mc_ctx *ctx = k->peer->ctx;
	k->cookie = ++ctx->cookie;
	mc_list_init(&k->node);
	mc_list_add_tail(&ctx->lookups, &k->node); /* first: who is asked may answer within the call */
	mc_status_t s = lookup_send(k->peer, k->cookie, what, id, name);
	if (s != MC_OK)
		mc_list_del(&k->node);
	return s;
}

void mc_dir_unask(struct mc_lookup *k)
{
	mc_list_del(&k->node);
	if (k->peer->state != MC_PEER_DOWN && !k->peer->ctx->leaving)
		(void)lookup_send(k->peer, k->cookie, MC_DIR_NOTHING, 0, "");
}

/* ---- the blocking form, for regions by name ---- */

/*
 * A question whose asker has run out of time stays for the next one who asks the same: so a program may poll, and the
 * peer has one question of it, not one for each time.
 */
struct waiting_lookup {
	struct mc_lookup k;
	struct mc_list keep;   /* ctx->kept, while nobody waits */
	_Atomic(uint32_t) seq; /* futex word; 1: answered */
	mc_status_t status;
	void *blob; /* copy, [len] */
	uint32_t len;
	char name[MC_NAME_MAX];
	bool kept;
	int64_t answered_ns;
	int64_t kept_ns;  /* when its asker ran out of time */
	int64_t pause_ns; /* between that and the next call, where that found an answer that was too old */
};

static void waiting_free(struct waiting_lookup *w)
{
	struct mc_ctx *ctx = w->k.peer->ctx;
	mc_list_del(&w->k.node);
	mc_list_del(&w->keep);
	ctx->kept_n -= w->kept;
	free(w->blob);
	free(w);
}

static void wake_waiter(struct mc_lookup *k, mc_status_t s, const void *blob, uint32_t len)
{
	struct waiting_lookup *w = mc_container_of(k, struct waiting_lookup, k);
	w->status = s;
	if (s == MC_OK) {
		w->blob = malloc(len > 0 ? len : 1);
		if (w->blob == NULL)
			w->status = MC_ERR_NOMEM;
		else
			memcpy(w->blob, blob, len);
		w->len = len;
	}
	w->answered_ns = mc_now_ns();
	atomic_store(&w->seq, 1);
	mc_wake(k->peer->ctx, &w->seq);
}

static bool is_answered(const struct waiting_lookup *w)
{
	return atomic_load(&w->seq) > 0;
}

static bool answered(void *arg)
{
	return is_answered(arg);
}

static void kept_drop_peer(const struct mc_peer *p)
{
	struct mc_list *l, *next;
	for (l = p->ctx->kept.next; l != &p->ctx->kept; l = next) {
		next = l->next;
		struct waiting_lookup *w = mc_container_of(l, struct waiting_lookup, keep);
		if (w->k.peer == p)
			waiting_free(w);
	}
}

/* An old answer may be of a region that is gone. But who asks again and again, if seldom, gets one in the end. */
static bool too_old(const struct waiting_lookup *w, int64_t now)
{
	int64_t age_max = w->pause_ns * 2 > KEPT_NS ? w->pause_ns * 2 : KEPT_NS;
	return is_answered(w) && (w->status != MC_OK || now - w->answered_ns > age_max);
}

/* Somebody asks what was asked before. NULL: ask; *pause_ns: of who polls seldom. */
static struct waiting_lookup *kept_take(struct mc_peer *p, const char *name, int64_t *pause_ns)
{
	struct mc_ctx *ctx = p->ctx;
	int64_t now = mc_now_ns();
	*pause_ns = 0;
	for (struct mc_list *l = ctx->kept.next; l != &ctx->kept; l = l->next) {
		struct waiting_lookup *w = mc_container_of(l, struct waiting_lookup, keep);
		if (w->k.peer != p || strcmp(w->name, name) != 0)
			continue;
		if (too_old(w, now)) {
			if (now - w->kept_ns <= PAUSE_MAX_NS)
				*pause_ns = now - w->kept_ns;
			waiting_free(w);
			return NULL;
		}
		mc_list_del(&w->keep);
		w->kept = false;
		ctx->kept_n--;
		return w;
	}
	return NULL;
}

/* Nobody waits for it any more. Of many the oldest is taken back. */
static void keep(struct waiting_lookup *w)
{
	struct mc_ctx *ctx = w->k.peer->ctx;
	if (ctx->kept_n == KEPT_MAX) {
		struct waiting_lookup *old = mc_container_of(ctx->kept.next, struct waiting_lookup, keep);
		if (!is_answered(old))
			mc_dir_unask(&old->k);
		waiting_free(old);
	}
	mc_list_add_tail(&ctx->kept, &w->keep);
	w->kept = true;
	w->kept_ns = mc_now_ns();
	ctx->kept_n++;
}

static mc_status_t ask(struct mc_peer *p, const char *name, struct waiting_lookup **out)
{
	int64_t pause_ns;
	struct waiting_lookup *w = kept_take(p, name, &pause_ns);
	mc_status_t s = MC_OK;
	if (w == NULL) {
		w = calloc(1, sizeof(*w));
		if (w == NULL)
			return MC_ERR_NOMEM;
		w->k = (struct mc_lookup){.peer = p, .done = wake_waiter};
		w->pause_ns = pause_ns;
		snprintf(w->name, sizeof(w->name), "%s", name);
		mc_list_init(&w->keep);
		s = mc_dir_ask(&w->k, MC_DIR_NAME, 0, name);
	}
	if (s != MC_OK)
		waiting_free(w);
	*out = w;
	return s;
}

/* The answer; *blob_out is the caller's to free. */
static mc_status_t lookup(struct mc_peer *p, const char *name, int64_t timeout_ns, void **blob_out, uint32_t *len_out)
{
	struct mc_ctx *ctx = p->ctx;
	struct waiting_lookup *w;
	mc_ctx_lock(ctx);
	mc_status_t s = ask(p, name, &w);
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
	if (s != MC_OK)
		return s;
	if (mc_wait_until(ctx, answered, w, &w->seq, mc_deadline(mc_now_ns(), timeout_ns)) != MC_OK)
		mc_debug("rank %u: no answer of peer %u for entry '%s' in time", ctx->rank, p->id, name);
	mc_ctx_lock(ctx); /* it may have come just after the deadline */
	s = is_answered(w) ? w->status : MC_ERR_TIMEOUT;
	if (s == MC_OK) {
		*blob_out = w->blob;
		*len_out = w->len;
		w->blob = NULL;
	}
	if (s == MC_ERR_TIMEOUT)
		keep(w);
	else
		waiting_free(w);
	mc_ctx_unlock(ctx);
	return s;
}

mc_status_t mc_mem_lookup(struct mc_ctx *ctx, uint32_t peer, const char *name, int64_t timeout_ns,
			  struct mc_rmem **rmem_out)
{
	struct mc_peer *p = mc_peer_get(ctx, peer);
	void *blob = NULL;
	uint32_t len = 0;
	if (p == NULL || name == NULL || name[0] == '\0' || strlen(name) >= MC_NAME_MAX || rmem_out == NULL)
		return MC_ERR_INVAL;
	mc_status_t s = lookup(p, name, timeout_ns, &blob, &len);
	if (s != MC_OK)
		return s;
	mc_ctx_lock(ctx);
	s = mc_rmem_import(p, blob, len, rmem_out);
	mc_ctx_unlock(ctx);
	free(blob);
	return s;
}

/* ---- regions by number: for the engine's own transfers ---- */

mc_status_t mc_region_ask(struct mc_peer *p, uint64_t id)
{
	mc_status_t s = mc_peer_start(p);
	struct mc_tx *tx = s == MC_OK ? mc_tx_get(p, MC_MSG_REGION_ASK, false) : NULL;
	if (tx == NULL)
		return s != MC_OK ? s : MC_ERR_NOMEM;
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, id);
	mc_tx_send(tx, &w);
	return MC_OK;
}

/* Remember who is to hear of the region's end. false: no memory. */
static bool asker_add(struct mc_mem *m, struct mc_peer *p)
{
	for (uint32_t i = 0; i < m->asker_n; i++)
		if (m->asker[i] == p)
			return true;
	struct mc_peer **a = realloc(m->asker, (m->asker_n + 1) * sizeof(struct mc_peer *));
	if (a == NULL)
		return false;
	m->asker = a;
	a[m->asker_n++] = p;
	return true;
}

void mc_on_region_ask(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t id = mc_rd_u64(r);
	struct mc_tx *tx = r->bad ? NULL : mc_tx_get(p, MC_MSG_REGION_TELL, true);
	if (tx == NULL)
		return;
	struct mc_mem *m = mc_region_find(p->ctx, id);
	mc_status_t s = m == NULL ? MC_ERR_STALE : asker_add(m, p) ? MC_OK : MC_ERR_NOMEM;
	uint8_t blob[MC_BLOB_MAX];
	struct mc_wr b, w;
	mc_wr_init(&b, blob, sizeof(blob));
	if (s == MC_OK)
		s = mc_mem_encode(m, p->key, &b);
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, id);
	mc_wr_u32(&w, (uint32_t)(int32_t)s);
	mc_wr_blob(&w, blob, s == MC_OK ? (uint32_t)mc_wr_len(&b) : 0);
	mc_tx_send(tx, &w);
}

void mc_on_region_tell(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t id = mc_rd_u64(r);
	int32_t s = (int32_t)mc_rd_u32(r);
	uint32_t len;
	const void *blob = mc_rd_blob(r, &len, MC_BLOB_MAX);
	if (blob == NULL)
		return;
	mc_coll_region_told(p, id, s == MC_OK || s == MC_ERR_STALE ? (mc_status_t)s : MC_ERR_INTERNAL, blob, len);
}

void mc_region_freed(struct mc_mem *m)
{
	for (uint32_t i = 0; i < m->asker_n; i++) {
		struct mc_peer *p = m->asker[i];
		struct mc_tx *tx = p->state == MC_PEER_UP ? mc_tx_get(p, MC_MSG_REGION_GONE, false) : NULL;
		if (tx == NULL)
			continue;
		struct mc_wr w;
		mc_tx_body(tx, &w);
		mc_wr_u64(&w, m->id);
		mc_tx_send(tx, &w);
	}
	free(m->asker);
	m->asker = NULL;
	m->asker_n = 0;
}

void mc_on_region_gone(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t id = mc_rd_u64(r);
	if (!r->bad)
		mc_coll_region_gone(p, id);
}

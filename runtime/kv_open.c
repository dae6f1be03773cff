/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv_open.c - mc_reshard_open(): what the members publish, then the plan, then the regions of those that this rank has
 * to do with.
 *
 * All that can be asked at once is asked at once. A call that runs out of time leaves what it has, and its questions
 * under way, in the context for the next call for the same groups and pools: so a program that has an event loop polls,
 * and each call takes up where the one before it stood. What nobody comes back for has no timer: it goes with the next
 * call for whatever groups and pools after OPENING_NS, when there are too many, with its own pool, or in mc_finalize().
 */
#include <stdlib.h>
#include <string.h>

#include "kv_priv.h"

enum {
	REGIONS_AT_ONCE = 64, /* questions under way about one pool */
	OPENINGS_MAX = 1024,  /* that nobody waits for; a peer takes 4096 questions of one rank */
};
static const int64_t OPENING_NS = INT64_C(10000000000);   /* between two calls: pools may have changed since */
static const int64_t POOLS_OLD_NS = INT64_C(20000000000); /* from the question to the plan */

/* ---- questions and answers; under the lock ---- */

static void told(struct mc_kv_ask *a, mc_status_t s)
{
	struct mc_reshard *rs = a->rs;
	a->due = false;
	rs->due_n--;
	if (rs->status == MC_OK)
		rs->status = s;
	mc_word_bump(rs->ctx, &rs->seq);
}

static void pool_told(struct mc_lookup *k, mc_status_t s, const void *blob, uint32_t len)
{
	struct mc_kv_ask *a = mc_container_of(k, struct mc_kv_ask, k);
	struct mc_kv_far *f = mc_container_of(a, struct mc_kv_far, ask);
	if (s == MC_OK) {
		s = mc_kv_rpool_parse(blob, len, &f->pool);
		if (s == MC_OK)
			f->pool->peer = f->peer;
		else if (s == MC_ERR_PROTO)
			mc_error("rank %u: what peer %u publishes as KV pool '%s' is malformed", a->rs->ctx->rank,
				 f->peer->id, a->rs->name[f->side]);
	}
	told(a, s);
}

static void region_told(struct mc_lookup *k, mc_status_t s, const void *blob, uint32_t len)
{
	struct mc_kv_ask *a = mc_container_of(k, struct mc_kv_ask, k);
	struct mc_kv_base *b = mc_container_of(a, struct mc_kv_base, ask);
	if (s == MC_OK)
		s = mc_rmem_import(k->peer, blob, len, &b->rmem);
	if (s == MC_OK)
		a->pool->told_n++;
	told(a, s);
}

/* false: it failed at once, which rs->status says. */
static bool ask(struct mc_reshard *rs, struct mc_kv_ask *a, enum mc_dir_what what, uint64_t id, const char *name)
{
	a->rs = rs;
	a->due = true;
	rs->due_n++;
	mc_status_t s = mc_dir_ask(&a->k, what, id, name);
	if (s != MC_OK && a->due)
		told(a, s);
	return rs->status == MC_OK;
}

/* false: some are not there yet. */
static bool ask_pools(struct mc_reshard *rs)
{
	bool all = true;
	for (int side = MC_KV_SRC; side <= MC_KV_DST; side++)
		for (uint32_t i = 0; i < rs->n[side]; i++) {
			struct mc_kv_far *f = &rs->far[side][i];
			if (i == rs->self[side] || f->pool != NULL)
				continue;
			all = false;
			if (f->ask.due)
				continue;
			f->ask.k = (struct mc_lookup){.peer = f->peer, .done = pool_told};
			if (!ask(rs, &f->ask, MC_DIR_POOL, 0, rs->name[side]))
				return false;
		}
	return all;
}

/*
 * While one member kept all waiting, another may have closed its pool and published it anew. All are asked, not only
 * the oldest: their answers come close together then, and who calls seldom comes to an end, too.
 */
static bool ask_pools_lately(struct mc_reshard *rs)
{
	int64_t now = mc_now_ns();
	if (!ask_pools(rs))
		return false;
	if (now - rs->asked_ns <= POOLS_OLD_NS)
		return true;
	rs->asked_ns = now;
	for (int side = MC_KV_SRC; side <= MC_KV_DST; side++)
		for (uint32_t i = 0; i < rs->n[side]; i++) {
			mc_kv_rpool_free(rs->far[side][i].pool);
			rs->far[side][i].pool = NULL;
		}
	return ask_pools(rs);
}

static bool ask_regions_of(struct mc_reshard *rs, struct mc_kv_rpool *p)
{
	while (p->asked_n < p->base_n && p->asked_n < p->told_n + REGIONS_AT_ONCE) {
		struct mc_kv_base *b = &p->base[p->asked_n];
		b->twin = 0;
		while (p->base[b->twin].id != b->id)
			b->twin++;
		if (b->twin != p->asked_n++) {
			p->told_n++;
			continue;
		}
		b->ask.k = (struct mc_lookup){.peer = p->peer, .done = region_told};
		b->ask.pool = p;
		if (!ask(rs, &b->ask, MC_DIR_ID, b->id, ""))
			return false;
	}
	return p->told_n == p->base_n;
}

/* Of the pools that this rank will write to or read from. */
static bool ask_regions(struct mc_reshard *rs)
{
	bool all = true;
	for (int side = MC_KV_SRC; side <= MC_KV_DST; side++) {
		int other = 1 - side;
		for (uint32_t i = 0; rs->self[side] != MC_NO_RANK && i < rs->n[other]; i++) {
			uint32_t src = side == MC_KV_SRC ? rs->self[MC_KV_SRC] : i;
			uint32_t dst = side == MC_KV_SRC ? i : rs->self[MC_KV_DST];
			struct mc_kv_rpool *p = rs->far[other][i].pool;
			if (p == NULL || p->imported || mc_kv_plan_pair(rs->plan, src, dst).piece_n == 0)
				continue;
			if (!ask_regions_of(rs, p)) {
				all = false;
			} else {
				mc_status_t s = mc_kv_rpool_settle(p);
				rs->status = rs->status == MC_OK ? s : rs->status;
			}
			if (rs->status != MC_OK)
				return false;
		}
	}
	return all;
}

/* ---- one call ---- */

/* Asks what can be asked now. true: all answers of this stage are there, or one says that there is no way. */
static bool ask_on(void *arg)
{
	struct mc_reshard *rs = arg;
	uint32_t seq = atomic_load(&rs->seq);
	if (seq == rs->seen)
		return false;
	rs->seen = seq;
	mc_ctx_lock(rs->ctx);
	uint32_t due_n = rs->due_n;
	bool over = rs->status != MC_OK || (rs->plan == NULL ? ask_pools_lately(rs) : ask_regions(rs)) ||
		    rs->status != MC_OK;
	bool asked = rs->due_n > due_n;
	mc_ctx_unlock(rs->ctx);
	if (asked)
		mc_progress_kick(rs->ctx);
	return over;
}

static mc_status_t stage(struct mc_reshard *rs, int64_t deadline)
{
	rs->seen = atomic_load(&rs->seq) - 1;
	mc_status_t s = mc_wait_until(rs->ctx, ask_on, rs, &rs->seq, deadline);
	if (s != MC_OK)
		return s;
	mc_ctx_lock(rs->ctx);
	s = rs->status;
	mc_ctx_unlock(rs->ctx);
	return s;
}

static mc_status_t take_own(struct mc_reshard *rs)
{
	mc_status_t s = MC_OK;
	mc_ctx_lock(rs->ctx);
	for (int side = MC_KV_SRC; side <= MC_KV_DST && s == MC_OK; side++) {
		if (rs->self[side] == MC_NO_RANK)
			continue;
		rs->own[side] = mc_kv_pool_find(rs->ctx, rs->name[side]);
		if (rs->own[side] != NULL)
			rs->own[side]->users++;
		else
			s = MC_ERR_NOENT;
		if (s != MC_OK)
			mc_error("rank %u: it is a member of the group, but has no KV pool '%s'", rs->ctx->rank,
				 rs->name[side]);
	}
	mc_ctx_unlock(rs->ctx);
	return s;
}

static struct mc_kv_layout *layouts_of(const struct mc_reshard *rs, int side)
{
	struct mc_kv_layout *l = calloc(rs->n[side], sizeof(*l));
	for (uint32_t i = 0; l != NULL && i < rs->n[side]; i++)
		l[i] = i == rs->self[side] ? rs->own[side]->layout : rs->far[side][i].pool->layout;
	return l;
}

static mc_status_t make_plan(struct mc_reshard *rs)
{
	char why[200];
	struct mc_kv_layout *src = layouts_of(rs, MC_KV_SRC), *dst = layouts_of(rs, MC_KV_DST);
	mc_status_t s = MC_ERR_NOMEM;
	if (src != NULL && dst != NULL)
		s = mc_kv_plan_make(src, rs->n[MC_KV_SRC], dst, rs->n[MC_KV_DST], 0, &rs->plan, why, sizeof(why));
	if (s != MC_OK && src != NULL && dst != NULL)
		mc_error("rank %u: KV reshard: %s", rs->ctx->rank, why);
	free(src);
	free(dst);
	return s;
}

static mc_status_t go_on(struct mc_reshard *rs, int64_t deadline)
{
	mc_status_t s = rs->plan == NULL ? stage(rs, deadline) : MC_OK;
	if (s == MC_OK && rs->plan == NULL)
		s = make_plan(rs);
	return s == MC_OK ? stage(rs, deadline) : s;
}

/* ---- between two calls ---- */

static bool same_side(const struct mc_reshard *rs, int side, const struct mc_group *g, const char *name)
{
	if (rs->n[side] != g->n || strcmp(rs->name[side], name) != 0)
		return false;
	for (uint32_t i = 0; i < g->n; i++)
		if (rs->far[side][i].peer != g->peer[i])
			return false;
	return true;
}

/* What is no longer wanted, one at a time, for the caller to destroy without the lock; NULL: all the rest is. */
static struct mc_reshard *opening_too_many(struct mc_ctx *ctx)
{
	struct mc_reshard *old = mc_list_empty(&ctx->openings)
					 ? NULL
					 : mc_container_of(ctx->openings.next, struct mc_reshard, node);
	if (old == NULL || (ctx->opening_n <= OPENINGS_MAX && mc_now_ns() - old->left_ns <= OPENING_NS))
		return NULL;
	mc_list_del(&old->node);
	ctx->opening_n--;
	return old;
}

static void openings_trim(struct mc_ctx *ctx)
{
	struct mc_reshard *old;
	do {
		mc_ctx_lock(ctx);
		old = opening_too_many(ctx);
		mc_ctx_unlock(ctx);
		mc_reshard_destroy(old);
	} while (old != NULL);
}

static struct mc_reshard *opening_take(const struct mc_group *src, const char *src_pool, const struct mc_group *dst,
				       const char *dst_pool)
{
	struct mc_ctx *ctx = src->ctx;
	struct mc_reshard *found = NULL;
	openings_trim(ctx);
	mc_ctx_lock(ctx);
	for (struct mc_list *l = ctx->openings.next; l != &ctx->openings && found == NULL; l = l->next) {
		struct mc_reshard *rs = mc_container_of(l, struct mc_reshard, node);
		if (same_side(rs, MC_KV_SRC, src, src_pool) && same_side(rs, MC_KV_DST, dst, dst_pool))
			found = rs;
	}
	if (found != NULL) {
		mc_list_del(&found->node);
		ctx->opening_n--;
		mc_list_add_tail(&ctx->reshards, &found->node);
	}
	mc_ctx_unlock(ctx);
	return found;
}

static void opening_leave(struct mc_reshard *rs)
{
	struct mc_ctx *ctx = rs->ctx;
	mc_ctx_lock(ctx);
	rs->left_ns = mc_now_ns();
	mc_list_del(&rs->node);
	mc_list_add_tail(&ctx->openings, &rs->node);
	ctx->opening_n++;
	mc_ctx_unlock(ctx);
	openings_trim(ctx);
}

void mc_openings_drop(struct mc_ctx *ctx, const struct mc_kv_pool *pool)
{
	struct mc_reshard *rs;
	do {
		rs = NULL;
		mc_ctx_lock(ctx);
		for (struct mc_list *l = ctx->openings.next; l != &ctx->openings && rs == NULL; l = l->next) {
			struct mc_reshard *o = mc_container_of(l, struct mc_reshard, node);
			if (pool == NULL || o->own[MC_KV_SRC] == pool || o->own[MC_KV_DST] == pool)
				rs = o;
		}
		if (rs != NULL) {
			mc_list_del(&rs->node);
			ctx->opening_n--;
		}
		mc_ctx_unlock(ctx);
		mc_reshard_destroy(rs);
	} while (rs != NULL);
}

/* ---- begin and end ---- */

static bool add_side(struct mc_reshard *rs, int side, const struct mc_group *g, const char *name)
{
	rs->n[side] = g->n;
	rs->self[side] = g->self;
	memcpy(rs->name[side], name, strlen(name) + 1);
	rs->far[side] = calloc(g->n, sizeof(struct mc_kv_far));
	for (uint32_t i = 0; rs->far[side] != NULL && i < g->n; i++) {
		rs->far[side][i].peer = g->peer[i];
		rs->far[side][i].side = side;
	}
	return rs->far[side] != NULL;
}

static mc_status_t begin(struct mc_group *src, const char *src_pool, struct mc_group *dst, const char *dst_pool,
			 struct mc_reshard **out)
{
	struct mc_reshard *rs = calloc(1, sizeof(*rs));
	if (rs == NULL)
		return MC_ERR_NOMEM;
	rs->ctx = src->ctx;
	rs->asked_ns = mc_now_ns();
	mc_ctx_lock(rs->ctx);
	mc_list_add_tail(&rs->ctx->reshards, &rs->node);
	mc_ctx_unlock(rs->ctx);
	mc_status_t s = MC_ERR_NOMEM;
	if (add_side(rs, MC_KV_SRC, src, src_pool) && add_side(rs, MC_KV_DST, dst, dst_pool))
		s = take_own(rs);
	if (s != MC_OK)
		mc_reshard_destroy(rs);
	else
		*out = rs;
	return s;
}

mc_status_t mc_reshard_open(struct mc_group *src, const char *src_pool, struct mc_group *dst, const char *dst_pool,
			    int64_t timeout_ns, struct mc_reshard **reshard_out)
{
	if (src == NULL || dst == NULL || src->ctx != dst->ctx || src_pool == NULL || dst_pool == NULL ||
	    reshard_out == NULL || strlen(src_pool) >= MC_NAME_MAX || strlen(dst_pool) >= MC_NAME_MAX ||
	    (src->self == MC_NO_RANK && dst->self == MC_NO_RANK))
		return MC_ERR_INVAL;
	int64_t deadline = mc_deadline(mc_now_ns(), timeout_ns);
	struct mc_reshard *rs = opening_take(src, src_pool, dst, dst_pool);
	mc_status_t s = rs == NULL ? begin(src, src_pool, dst, dst_pool, &rs) : MC_OK;
	if (s != MC_OK)
		return s;
	s = go_on(rs, deadline);
	if (s == MC_OK)
		*reshard_out = rs;
	else if (s == MC_ERR_TIMEOUT)
		opening_leave(rs);
	else
		mc_reshard_destroy(rs);
	return s;
}

/* Nobody wants to hear the answers any more: a pool's may be long in coming, a region's is on its way. */
static void forget_answers(struct mc_reshard *rs)
{
	for (int side = MC_KV_SRC; side <= MC_KV_DST && rs->due_n > 0; side++)
		for (uint32_t i = 0; i < rs->n[side]; i++) {
			struct mc_kv_far *f = &rs->far[side][i];
			if (f->ask.due)
				mc_dir_unask(&f->ask.k);
			for (uint32_t b = 0; f->pool != NULL && b < f->pool->base_n; b++)
				if (f->pool->base[b].ask.due)
					mc_list_del(&f->pool->base[b].ask.k.node);
		}
}

void mc_reshard_destroy(struct mc_reshard *rs)
{
	if (rs == NULL)
		return;
	mc_ctx_lock(rs->ctx);
	forget_answers(rs);
	for (int side = MC_KV_SRC; side <= MC_KV_DST; side++)
		if (rs->own[side] != NULL)
			rs->own[side]->users--;
	mc_list_del(&rs->node);
	mc_ctx_unlock(rs->ctx);
	for (int side = MC_KV_SRC; side <= MC_KV_DST; side++) {
		for (uint32_t i = 0; rs->far[side] != NULL && i < rs->n[side]; i++)
			mc_kv_rpool_free(rs->far[side][i].pool);
		free(rs->far[side]);
	}
	mc_kv_plan_free(rs->plan);
	free(rs);
}

void mc_reshards_free(struct mc_ctx *ctx)
{
	mc_openings_drop(ctx, NULL);
	while (!mc_list_empty(&ctx->reshards))
		mc_reshard_destroy(mc_container_of(ctx->reshards.next, struct mc_reshard, node));
}

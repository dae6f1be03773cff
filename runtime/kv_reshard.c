/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv_reshard.c - a prepared mapping between the pools of two groups, and its use: one request moves a sequence, or some
 * layers of it, from every source that has a part to every target that wants it.
 *
 * kv_plan.c says who sends what to whom, kv_runs.c turns block tables into strided copies; here they meet regions and
 * links.
 */
#include <stdlib.h>
#include <string.h>

#include "kv_priv.h"

enum { RUN_BATCH = 64 };

struct mc_reshard {
	struct mc_ctx *ctx;
	struct mc_list node; /* ctx->reshards */
	struct mc_kv_plan *plan;
	struct mc_kv_pool *own[2]; /* as a source, as a target; NULL: not a member */
	uint32_t self[2];          /* own position in the two groups, or MC_NO_RANK */
	uint32_t n[2];
	struct mc_kv_rpool **rpool[2]; /* [n[side]]; NULL for this rank itself */
};

enum { SRC = 0, DST = 1 };

/* ---- preparation ---- */

static mc_status_t fetch_side(struct mc_reshard *rs, int side, struct mc_group *g, const char *name, int64_t deadline)
{
	struct mc_ctx *ctx = rs->ctx;
	rs->n[side] = g->n;
	rs->self[side] = g->self;
	rs->rpool[side] = calloc(g->n, sizeof(struct mc_kv_rpool *));
	if (rs->rpool[side] == NULL)
		return MC_ERR_NOMEM;
	for (uint32_t i = 0; i < g->n; i++) {
		if (i == g->self) {
			mc_ctx_lock(ctx);
			rs->own[side] = mc_kv_pool_find(ctx, name);
			if (rs->own[side] != NULL)
				rs->own[side]->users++;
			mc_ctx_unlock(ctx);
			if (rs->own[side] == NULL) {
				mc_error("rank %u: it is a member of the group, but has no KV pool '%s'", ctx->rank,
					 name);
				return MC_ERR_NOENT;
			}
			continue;
		}
		int64_t left_ns = mc_timeout_left(deadline, mc_now_ns());
		mc_status_t s = mc_kv_rpool_fetch(g->peer[i], name, left_ns, &rs->rpool[side][i]);
		if (s != MC_OK)
			return s;
	}
	return MC_OK;
}

static struct mc_kv_layout *layouts_of(const struct mc_reshard *rs, int side)
{
	struct mc_kv_layout *l = calloc(rs->n[side], sizeof(*l));
	for (uint32_t i = 0; l != NULL && i < rs->n[side]; i++)
		l[i] = i == rs->self[side] ? rs->own[side]->layout : rs->rpool[side][i]->layout;
	return l;
}

static mc_status_t make_plan(struct mc_reshard *rs)
{
	char why[200];
	struct mc_kv_layout *src = layouts_of(rs, SRC), *dst = layouts_of(rs, DST);
	mc_status_t s = MC_ERR_NOMEM;
	if (src != NULL && dst != NULL)
		s = mc_kv_plan_make(src, rs->n[SRC], dst, rs->n[DST], 0, &rs->plan, why, sizeof(why));
	if (s != MC_OK && src != NULL && dst != NULL)
		mc_error("rank %u: KV reshard: %s", rs->ctx->rank, why);
	free(src);
	free(dst);
	return s;
}

/* The pools that this rank will write to or read from. */
static mc_status_t import_partners(struct mc_reshard *rs, int64_t deadline)
{
	for (int side = SRC; side <= DST; side++) {
		int other = 1 - side;
		if (rs->self[side] == MC_NO_RANK)
			continue;
		for (uint32_t i = 0; i < rs->n[other]; i++) {
			uint32_t src = side == SRC ? rs->self[SRC] : i, dst = side == SRC ? i : rs->self[DST];
			struct mc_kv_rpool *p = rs->rpool[other][i];
			if (p == NULL || p->imported || mc_kv_plan_pair(rs->plan, src, dst).piece_n == 0)
				continue;
			mc_status_t s = mc_kv_rpool_import(p, deadline);
			if (s != MC_OK)
				return s;
		}
	}
	return MC_OK;
}

static void reshard_destroy(struct mc_reshard *rs)
{
	for (int side = SRC; side <= DST; side++) {
		for (uint32_t i = 0; rs->rpool[side] != NULL && i < rs->n[side]; i++)
			mc_kv_rpool_free(rs->rpool[side][i]);
		free(rs->rpool[side]);
		mc_ctx_lock(rs->ctx);
		if (rs->own[side] != NULL)
			rs->own[side]->users--;
		mc_ctx_unlock(rs->ctx);
	}
	mc_kv_plan_free(rs->plan);
	mc_ctx_lock(rs->ctx);
	mc_list_del(&rs->node);
	mc_ctx_unlock(rs->ctx);
	free(rs);
}

mc_status_t mc_reshard_open(struct mc_group *src, const char *src_pool, struct mc_group *dst, const char *dst_pool,
			    int64_t timeout_ns, struct mc_reshard **reshard_out)
{
	if (src == NULL || dst == NULL || src->ctx != dst->ctx || src_pool == NULL || dst_pool == NULL ||
	    reshard_out == NULL || strlen(src_pool) >= MC_NAME_MAX || strlen(dst_pool) >= MC_NAME_MAX ||
	    (src->self == MC_NO_RANK && dst->self == MC_NO_RANK))
		return MC_ERR_INVAL;
	int64_t deadline = mc_deadline(mc_now_ns(), timeout_ns);
	struct mc_reshard *rs = calloc(1, sizeof(*rs));
	if (rs == NULL)
		return MC_ERR_NOMEM;
	rs->ctx = src->ctx;
	mc_ctx_lock(rs->ctx);
	mc_list_add_tail(&rs->ctx->reshards, &rs->node);
	mc_ctx_unlock(rs->ctx);
	mc_status_t s = fetch_side(rs, SRC, src, src_pool, deadline);
	if (s == MC_OK)
		s = fetch_side(rs, DST, dst, dst_pool, deadline);
	if (s == MC_OK)
		s = make_plan(rs);
	if (s == MC_OK)
		s = import_partners(rs, deadline);
	if (s != MC_OK) {
		reshard_destroy(rs);
		return s;
	}
	*reshard_out = rs;
	return MC_OK;
}

void mc_reshard_close(struct mc_reshard *reshard)
{
	if (reshard != NULL)
		reshard_destroy(reshard);
}

void mc_reshards_free(struct mc_ctx *ctx)
{
	while (!mc_list_empty(&ctx->reshards))
		reshard_destroy(mc_container_of(ctx->reshards.next, struct mc_reshard, node));
}

static uint32_t layers_of(const struct mc_reshard *rs, uint32_t layer_n)
{
	return layer_n != 0 ? layer_n : rs->plan->src[0].layer_total;
}

uint32_t mc_reshard_sources(const struct mc_reshard *reshard, uint32_t layer_lo, uint32_t layer_n)
{
	if (reshard->self[DST] == MC_NO_RANK)
		return 0;
	return mc_kv_plan_sources(reshard->plan, reshard->self[DST], layer_lo, layers_of(reshard, layer_n));
}

uint32_t mc_reshard_targets(const struct mc_reshard *reshard, uint32_t layer_lo, uint32_t layer_n)
{
	if (reshard->self[SRC] == MC_NO_RANK)
		return 0;
	return mc_kv_plan_targets(reshard->plan, reshard->self[SRC], layer_lo, layers_of(reshard, layer_n));
}

/* ---- one request ---- */

static struct mc_kv_span span_of(const struct mc_reshard *rs, const struct mc_kv_request *q)
{
	return (struct mc_kv_span){.src_block = q->src_block,
				   .dst_block = q->dst_block,
				   .src_block_n = q->src_block_n,
				   .dst_block_n = q->dst_block_n,
				   .token_lo = q->token_lo,
				   .token_n = q->token_n,
				   .layer_lo = q->layer_lo,
				   .layer_n = layers_of(rs, q->layer_n)};
}

struct ends { /* the two pools of a pair, seen from here */
	const struct mc_kv_pool *own;
	const struct mc_kv_rpool *far;
	bool pull;
};

static struct mc_mem *own_base(const struct ends *e, const struct mc_kv_run *u, uint64_t *off)
{
	uint32_t k = e->pull ? u->dst_base : u->src_base;
	*off = e->own->base[k].off + (e->pull ? u->dst_off : u->src_off);
	return e->own->base[k].mem;
}

static struct mc_rmem *far_base(const struct ends *e, const struct mc_kv_run *u, uint64_t *off)
{
	uint32_t k = e->pull ? u->src_base : u->dst_base;
	*off = e->far->base[k].off + (e->pull ? u->src_off : u->dst_off);
	return e->far->base[k].rmem;
}

static mc_status_t shape_of(struct mc_req *r, const struct ends *e, const struct mc_kv_run *u, uint32_t *number_out)
{
	struct mc_shape s = {.pieces = u->count};
	_Static_assert((int)MC_KV_LEVELS == (int)MC_LEVELS, "a run of the generator is a run of the engine");
	for (uint32_t k = 0; k < MC_LEVELS; k++) {
		const struct mc_kv_level *l = &u->level[k];
		s.level[k].count = l->n;
		s.level[k].stride = e->pull ? l->dst : l->src;
		s.level[k].rstride = e->pull ? l->src : l->dst;
	}
	return mc_req_shape(r, &s, number_out);
}

/* Runs of the generator into the request, in the form that the link wants. */
static mc_status_t fill_runs(struct mc_req *r, const struct ends *e, struct mc_kv_iter *it)
{
	struct mc_kv_run u[RUN_BATCH];
	uint32_t got, shape = 0, known = 0; /* the generator's number of the shape that is known */
	do {
		got = mc_kv_runs_next(it, u, RUN_BATCH);
		if (r->run_n > UINT32_MAX - RUN_BATCH)
			return MC_ERR_INVAL;
		mc_status_t s = r->run_n + got > r->run_room ? mc_req_reserve(r, r->run_n + got + r->run_room) : MC_OK;
		for (uint32_t i = 0; i < got && s == MC_OK; i++) {
			struct mc_xfer_run x = {.len = u[i].len};
			if (u[i].shape != known)
				s = shape_of(r, e, &u[i], &shape);
			known = u[i].shape;
			x.shape = shape;
			x.mem = own_base(e, &u[i], &x.off);
			x.rmem = far_base(e, &u[i], &x.roff);
			s = s == MC_OK ? mc_xfer_add(r, &x) : s;
		}
		if (s != MC_OK)
			return s;
	} while (got == RUN_BATCH);
	return MC_OK;
}

static bool pools_rma(const struct ends *e)
{
	bool rma = mc_xfer_link_rma(e->far->peer);
	for (uint32_t i = 0; i < e->own->base_n && rma; i++)
		rma = mc_xfer_mem_rma(e->far->peer, e->own->base[i].mem);
	for (uint32_t i = 0; i < e->far->base_n && rma; i++)
		rma = e->far->base[i].rmem->be_rmem != NULL;
	return rma;
}

/* One pair: a transfer of its own under the group's roof. */
static mc_status_t start_pair(struct mc_reshard *rs, const struct mc_kv_request *q, uint32_t src, uint32_t dst,
			      struct mc_req *group)
{
	bool pull = q->op == MC_KV_PULL;
	struct ends e = {
		.own = rs->own[pull ? DST : SRC], .far = rs->rpool[pull ? SRC : DST][pull ? src : dst], .pull = pull};
	struct mc_kv_pair pair = mc_kv_plan_pair(rs->plan, src, dst);
	struct mc_kv_span span = span_of(rs, q);
	if (!mc_kv_pair_has(&pair, span.layer_lo, span.layer_n))
		return MC_OK;
	if (e.far == NULL)
		return MC_ERR_UNSUPPORTED; /* a rank that is both source and target of itself */
	struct mc_kv_iter it;
	char why[200];
	mc_status_t s = mc_kv_iter_init(&it, &pair, &span, why, sizeof(why));
	if (s != MC_OK) {
		mc_error("rank %u: KV request %llu: %s", rs->ctx->rank, (unsigned long long)q->tag, why);
		return s;
	}
	s = mc_peer_start(e.far->peer);
	struct mc_req *r = s == MC_OK ? mc_req_get(e.far->peer, pull ? MC_REQ_GET : MC_REQ_PUT) : NULL;
	if (r == NULL)
		return s != MC_OK ? s : MC_ERR_NOMEM;
	struct mc_notify n = {.size = sizeof(n), .flags = MC_NOTIFY_COUNT, .tag = q->tag, .add = 1};
	struct mc_xfer_opts o = {.size = sizeof(o), .notify = q->flags & MC_KV_SILENT ? NULL : &n};
	r->rma = pools_rma(&e);
	s = fill_runs(r, &e, &it);
	if (s == MC_OK)
		s = mc_xfer_take_opts(r, &o);
	if (s != MC_OK) {
		mc_xfer_discard(r);
		return s;
	}
	mc_req_group_add(group, r);
	mc_xfer_start(r);
	return MC_OK;
}

static mc_status_t start_pairs(struct mc_reshard *rs, const struct mc_kv_request *q, struct mc_req *group)
{
	bool pull = q->op == MC_KV_PULL;
	uint32_t n = rs->n[pull ? SRC : DST];
	for (uint32_t i = 0; i < n; i++) {
		if (q->peer != MC_ANY_PEER && q->peer != i)
			continue;
		mc_status_t s =
			pull ? start_pair(rs, q, i, rs->self[DST], group) : start_pair(rs, q, rs->self[SRC], i, group);
		if (s != MC_OK)
			return s;
	}
	return MC_OK;
}

mc_status_t mc_reshard_start(struct mc_reshard *reshard, const struct mc_kv_request *q, struct mc_req **req_out)
{
	if (reshard == NULL || q == NULL || q->size != sizeof(*q) || (q->op != MC_KV_PUSH && q->op != MC_KV_PULL) ||
	    (q->flags & ~(uint32_t)MC_KV_SILENT) != 0 || q->src_block == NULL || q->dst_block == NULL)
		return MC_ERR_INVAL;
	bool pull = q->op == MC_KV_PULL;
	if (reshard->self[pull ? DST : SRC] == MC_NO_RANK ||
	    (q->peer != MC_ANY_PEER && q->peer >= reshard->n[pull ? SRC : DST]))
		return MC_ERR_INVAL;
	struct mc_ctx *ctx = reshard->ctx;
	mc_ctx_lock(ctx);
	struct mc_req *g = mc_req_group(ctx);
	if (g == NULL) {
		mc_ctx_unlock(ctx);
		return MC_ERR_NOMEM;
	}
	if (q->timeout_ns > 0)
		mc_req_timed(g, mc_deadline(g->start_ns, q->timeout_ns));
	mc_status_t s = start_pairs(reshard, q, g);
	g->post_ns = mc_now_ns() - g->start_ns;
	mc_req_group_ready(g, s);
	mc_progress_posted(ctx, g->bytes);
	if (req_out == NULL || s != MC_OK)
		mc_req_drop(g);
	mc_ctx_unlock(ctx);
	if (s != MC_OK) {
		mc_progress_kick(ctx);
		return s;
	}
	if (req_out != NULL)
		*req_out = g;
	return MC_OK;
}

mc_status_t mc_reshard_totals(const struct mc_reshard *reshard, const struct mc_kv_request *q, uint32_t src,
			      uint32_t dst, struct mc_kv_totals *out)
{
	char why[200];
	if (reshard == NULL || q == NULL || q->size != sizeof(*q) || out == NULL || src >= reshard->n[SRC] ||
	    dst >= reshard->n[DST] || q->src_block == NULL || q->dst_block == NULL)
		return MC_ERR_INVAL;
	struct mc_kv_pair pair = mc_kv_plan_pair(reshard->plan, src, dst);
	struct mc_kv_span span = span_of(reshard, q);
	return mc_kv_pair_totals(&pair, &span, out, why, sizeof(why));
}

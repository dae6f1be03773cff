/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv_reshard.c - the use of a prepared mapping between the pools of two groups (kv_open.c): one request moves a
 * sequence, or some layers of it, from every source that has a part to every target that wants it.
 *
 * kv_plan.c says who sends what to whom, kv_runs.c turns block tables into strided copies; here they meet regions and
 * links.
 */
#include <stdlib.h>
#include <string.h>

#include "kv_priv.h"

enum { RUN_BATCH = 64, SRC = MC_KV_SRC, DST = MC_KV_DST };

void mc_reshard_close(struct mc_reshard *reshard)
{
	mc_reshard_destroy(reshard);
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
	struct ends e = {.own = rs->own[pull ? DST : SRC],
			 .far = rs->far[pull ? SRC : DST][pull ? src : dst].pool,
			 .pull = pull};
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

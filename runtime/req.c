/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * req.c - requests: pooled objects, pins on what they use, deadlines, cancel, and the one place where they end.
 *
 * A request ends once, in mc_req_settle(): complete, or failing with nothing under way. "Under way" has two parts:
 * `flying` (our buffers are in use; always ends) and `unacked` (the peer has not answered; ends with its answer or its
 * loss).
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static mc_status_t req_slot_add(struct mc_ctx *ctx, struct mc_req *r)
{
	if (ctx->req_slot_n == ctx->req_slot_room) {
		uint32_t room = ctx->req_slot_room > 0 ? ctx->req_slot_room * 2 : 64;
		struct mc_req **a = realloc(ctx->req_slot, room * sizeof(struct mc_req *));
		if (a == NULL)
			return MC_ERR_NOMEM;
		ctx->req_slot = a;
		ctx->req_slot_room = room;
	}
	r->slot = ctx->req_slot_n;
	r->xfer = r->slot;
	ctx->req_slot[ctx->req_slot_n++] = r;
	return MC_OK;
}

static struct mc_req *req_new(struct mc_ctx *ctx)
{
	struct mc_req *r = calloc(1, sizeof(*r));
	if (r == NULL)
		return NULL;
	mc_list_init(&r->node);
	mc_list_init(&r->pump);
	mc_list_init(&r->timed);
	mc_list_init(&r->kids);
	mc_list_init(&r->kid);
	r->ctx = ctx;
	if (req_slot_add(ctx, r) != MC_OK) {
		free(r);
		return NULL;
	}
	return r;
}

/* Last in, first out: its memory is still in the cache. */
static void req_put(struct mc_req *r)
{
	mc_list_add_tail(r->ctx->req_free.next, &r->node);
}

static struct mc_req *req_take(struct mc_ctx *ctx)
{
	struct mc_list *l = mc_list_pop(&ctx->req_free);
	struct mc_req *r = l != NULL ? mc_container_of(l, struct mc_req, node) : req_new(ctx);
	if (r == NULL)
		mc_error("rank %u: out of memory for a request", ctx->rank);
	else
		r->xfer += UINT64_C(1) << 32;
	return r;
}

struct mc_req *mc_req_ended(struct mc_peer *p, enum mc_req_kind kind)
{
	struct mc_req *r = req_take(p->ctx);
	if (r == NULL)
		return NULL;
	r->peer = p;
	r->kind = kind;
	r->status = MC_OK;
	r->refs = 1;
	atomic_store_explicit(&r->state, 1, memory_order_relaxed);
	return r;
}

struct mc_req *mc_req_get(struct mc_peer *p, enum mc_req_kind kind)
{
	struct mc_req *r = req_take(p->ctx);
	if (r == NULL)
		return NULL;
	r->peer = p;
	r->kind = kind;
	atomic_store_explicit(&r->state, 0, memory_order_relaxed);
	r->refs = 2;
	r->status = MC_IN_PROGRESS;
	r->failing = MC_OK;
	r->rma = false;
	r->strided = false;
	r->broken = false;
	r->notify_sent = false;
	r->flying = r->unacked = 0;
	r->next = 0;
	r->at = (struct mc_cursor){0, 0, 0};
	r->run_n = r->pin_n = r->chunk_n = 0;
	r->slice = r->store;
	r->shape = mc_shape_single;
	r->shape_n = 0;
	r->list = NULL;
	r->deadline_ns = INT64_MAX;
	r->notify_flags = 0;
	r->payload_len = 0;
	r->slices = 0;
	r->bytes = 0;
	r->on_end = NULL;
	r->start_ns = mc_now_ns();
	r->post_ns = r->end_ns = 0;
	r->ticks = 0;
	mc_list_add_tail(&p->reqs, &r->node);
	return r;
}

struct mc_req *mc_req_find(struct mc_peer *p, uint64_t xfer)
{
	struct mc_ctx *ctx = p->ctx;
	uint32_t slot = (uint32_t)xfer;
	struct mc_req *r = slot < ctx->req_slot_n ? ctx->req_slot[slot] : NULL;
	return r != NULL && r->xfer == xfer && r->peer == p && atomic_load(&r->state) == 0 ? r : NULL;
}

mc_status_t mc_req_reserve(struct mc_req *r, uint32_t runs)
{
	const size_t one = sizeof(struct mc_srun);
	_Static_assert(sizeof(struct mc_srun) >= sizeof(struct mc_run) &&
			       sizeof(struct mc_srun) >= sizeof(struct mc_be_slice),
		       "the array is sized by the largest");
	if (runs <= r->run_room)
		return MC_OK;
	void *a = realloc(r->store, runs * one);
	if (a == NULL)
		return MC_ERR_NOMEM;
	r->store = r->slice = a;
	r->run_room = runs;
	return MC_OK;
}

mc_status_t mc_req_shape(struct mc_req *r, const struct mc_shape *s, uint32_t *number_out)
{
	mc_status_t st = mc_shape_number(&r->shape_store, &r->shape_n, &r->shape_room, s, number_out);
	if (st == MC_OK)
		r->shape = r->shape_store;
	return st;
}

/* Runs of slices with the same two regions take one pin. */
mc_status_t mc_req_pin(struct mc_req *r, struct mc_mem *mem, struct mc_rmem *rmem)
{
	if (r->pin_n > 0 && r->pin[r->pin_n - 1].mem == mem && r->pin[r->pin_n - 1].rmem == rmem)
		return MC_OK;
	if (r->pin_n == r->pin_room) {
		uint32_t room = r->pin_room > 0 ? r->pin_room * 2 : 4;
		struct mc_pin *a = realloc(r->pin, room * sizeof(*a));
		if (a == NULL)
			return MC_ERR_NOMEM;
		r->pin = a;
		r->pin_room = room;
	}
	r->pin[r->pin_n++] = (struct mc_pin){.mem = mem, .rmem = rmem};
	mem->busy++;
	rmem->busy++;
	return MC_OK;
}

void mc_req_unpin(struct mc_req *r)
{
	for (uint32_t i = 0; i < r->pin_n; i++) {
		r->pin[i].mem->busy--;
		mc_rmem_unpin(r->pin[i].rmem);
	}
	r->pin_n = 0;
	if (r->list != NULL)
		mc_dlist_drop(r->list);
	r->list = NULL;
}

/* The last reference puts the object back; under the lock. */
void mc_req_drop(struct mc_req *r)
{
	if (--r->refs == 0)
		req_put(r);
}

static void req_end(struct mc_req *r, mc_status_t s)
{
	struct mc_ctx *ctx = r->ctx;
	mc_list_del(&r->node);
	mc_list_del(&r->pump);
	mc_list_del(&r->timed);
	mc_req_unpin(r);
	if (s != MC_OK && !r->rma && r->kind == MC_REQ_PUT)
		mc_pack_abandon(r);
	r->status = s;
	r->end_ns = mc_now_ns();
	atomic_store_explicit(&r->state, 1, memory_order_release);
	mc_wake(ctx, &r->state);
	mc_word_bump(ctx, &ctx->peer_seq); /* mc_finalize() waits for the last one */
	if (r->on_end != NULL)
		r->on_end(r, r->on_end_arg);
	mc_req_drop(r);
}

/* It was given up when all of it, the notification too, had left already, and nothing of that was refused. */
static bool came_too_late(const struct mc_req *r)
{
	return r->kind == MC_REQ_PUT && !r->broken && r->unacked == 0 && r->next == r->run_n &&
	       (r->notify_flags == 0 || r->notify_sent);
}

void mc_req_settle(struct mc_req *r)
{
	if (atomic_load_explicit(&r->state, memory_order_relaxed) != 0 || r->flying > 0)
		return;
	if (r->failing != MC_OK && came_too_late(r)) {
		req_end(r, MC_OK);
		return;
	}
	if (r->failing != MC_OK) {
		/* A read's late answers find no request and are dropped; a write must be answered first. */
		if (r->unacked == 0 || r->kind == MC_REQ_GET)
			req_end(r, r->failing);
		return;
	}
	if (r->next < r->run_n || r->unacked > 0)
		return;
	if (r->notify_flags != 0 && !r->notify_sent) {
		/* A packed put's last message carries it; otherwise every byte is where it belongs, and it may go now.
		 */
		if (r->rma || r->kind != MC_REQ_PUT)
			mc_xfer_notify(r);
		return;
	}
	req_end(r, MC_OK);
}

void mc_req_timed(struct mc_req *r, int64_t deadline_ns)
{
	r->deadline_ns = deadline_ns;
	mc_list_del(&r->timed);
	if (deadline_ns == INT64_MAX)
		return;
	mc_list_add_tail(&r->ctx->timed, &r->timed);
	if (deadline_ns < r->ctx->timer_ns)
		r->ctx->timer_ns = deadline_ns;
}

static void fail_kids(struct mc_req *r, mc_status_t s)
{
	struct mc_list *l, *next;
	for (l = r->kids.next; l != &r->kids; l = next) {
		next = l->next;
		mc_req_fail(mc_container_of(l, struct mc_req, kid), s);
	}
}

/* What is under way one-sided may end earlier if the backend knows that it is not wanted. */
static void unwanted(struct mc_req *r)
{
	struct mc_peer *p = r->peer;
	if (!r->rma || r->flying == 0 || p->state != MC_PEER_UP || !mc_list_empty(&p->dying) ||
	    p->link->ops->cancel == NULL)
		return;
	p->link->ops->cancel(p->link->be, p->ep, (uint64_t)(uintptr_t)r);
	p->ctx->stale_arm = true;
}

void mc_req_fail(struct mc_req *r, mc_status_t s)
{
	/* A cancel or deadline alone takes nothing from what was sent. */
	r->broken = r->broken || r->failing != MC_OK || (s != MC_ERR_CANCELED && s != MC_ERR_TIMEOUT);
	if (r->failing == MC_OK) {
		r->failing = s;
		mc_list_del(&r->pump);
		/* A group waits for its requests, each of which has its own bound. */
		mc_req_timed(r, r->kind == MC_REQ_GROUP ? INT64_MAX
							: mc_deadline(mc_now_ns(), r->ctx->cfg.cancel_timeout));
		fail_kids(r, s);
		unwanted(r);
	}
	mc_req_settle(r);
}

struct mc_req *mc_req_group(struct mc_ctx *ctx)
{
	struct mc_req *g = mc_req_get(ctx->self, MC_REQ_GROUP);
	if (g != NULL)
		g->flying = 1; /* until it is ready */
	return g;
}

static void kid_end(struct mc_req *kid, void *arg)
{
	struct mc_req *g = arg;
	mc_list_del(&kid->kid);
	g->flying--;
	if (kid->status != MC_OK)
		mc_req_fail(g, kid->status);
	else
		mc_req_settle(g);
}

void mc_req_group_add(struct mc_req *group, struct mc_req *kid)
{
	kid->on_end = kid_end;
	kid->on_end_arg = group;
	kid->refs = 1;
	mc_list_add_tail(&group->kids, &kid->kid);
	group->flying++;
	group->slices += kid->slices;
	group->bytes += kid->bytes;
	group->run_n += kid->run_n;
	group->next = group->run_n;
}

void mc_req_group_ready(struct mc_req *group, mc_status_t s)
{
	group->flying--;
	if (s != MC_OK)
		mc_req_fail(group, s);
	else
		mc_req_settle(group);
}

void mc_req_timers(struct mc_ctx *ctx, int64_t now)
{
	struct mc_list *l, *next;
	ctx->timer_ns = INT64_MAX;
	for (l = ctx->timed.next; l != &ctx->timed; l = next) {
		next = l->next;
		struct mc_req *r = mc_container_of(l, struct mc_req, timed);
		if (r->deadline_ns > now) {
			if (r->deadline_ns < ctx->timer_ns)
				ctx->timer_ns = r->deadline_ns;
			continue;
		}
		if (r->failing == MC_OK) {
			mc_req_fail(r, MC_ERR_TIMEOUT);
		} else {
			mc_list_del(&r->timed);
			mc_peer_fail(r->peer, MC_ERR_PEER_DOWN,
				     "no answer within MC_CANCEL_TIMEOUT to a request that was given up");
		}
		/* Ending requests may have taken `next` out of the list; start over. */
		next = ctx->timed.next;
	}
}

void mc_reqs_free(struct mc_ctx *ctx)
{
	uint32_t held = 0;
	for (uint32_t i = 0; i < ctx->req_slot_n; i++) {
		struct mc_req *r = ctx->req_slot[i];
		if (r->refs > 0 && mc_list_empty(&r->node))
			held++;
		free(r->store);
		free(r->shape_store);
		free(r->pin);
		free(r->chunk);
		free(r->payload);
		free(r);
	}
	if (held > 0)
		mc_warn("rank %u: %u requests were not freed before mc_finalize()", ctx->rank, held);
	free(ctx->req_slot);
	ctx->req_slot = NULL;
	ctx->req_slot_n = 0;
}

mc_status_t mc_req_test(struct mc_req *req)
{
	return atomic_load(&req->state) != 0 ? req->status : MC_IN_PROGRESS;
}

static bool req_ended(void *arg)
{
	return atomic_load(&((struct mc_req *)arg)->state) != 0;
}

mc_status_t mc_req_wait(struct mc_req *req, int64_t timeout_ns)
{
	if (req_ended(req))
		return req->status;
	mc_status_t s = mc_wait_until(req->ctx, req_ended, req, &req->state, mc_deadline(mc_now_ns(), timeout_ns));
	return s == MC_OK ? req->status : MC_ERR_AGAIN;
}

mc_status_t mc_req_cancel(struct mc_req *req)
{
	struct mc_ctx *ctx = req->ctx;
	mc_ctx_lock(ctx);
	if (!req_ended(req))
		mc_req_fail(req, MC_ERR_CANCELED);
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
	/* Past the cancel timeout the peer is taken down, which ends the request. */
	return mc_req_wait(req, MC_FOREVER);
}

void mc_req_free(struct mc_req *req)
{
	if (req == NULL)
		return;
	struct mc_ctx *ctx = req->ctx;
	mc_ctx_lock(ctx);
	mc_req_drop(req);
	mc_ctx_unlock(ctx);
}

mc_status_t mc_req_query(struct mc_req *req, struct mc_req_stats *out)
{
	if (out == NULL || out->size != sizeof(*out))
		return MC_ERR_INVAL;
	if (!req_ended(req))
		return MC_IN_PROGRESS;
	out->slices = req->slices;
	out->runs = req->run_n;
	out->bytes = req->bytes;
	if (req->ticks != 0) {
		out->post_ns = out->total_ns = mc_ticker_ns(&req->ctx->ticker, req->ticks);
	} else {
		out->post_ns = (uint64_t)req->post_ns;
		out->total_ns = (uint64_t)(req->end_ns - req->start_ns);
	}
	return MC_OK;
}

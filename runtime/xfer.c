/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * xfer.c - put and get: check, merge, choose one-sided or packed, post, account.
 *
 * A caller's table of slices is walked once. Slices that are adjacent on both sides become one run. If the peer's link
 * does one-sided copies and both regions are known to it, runs go to the backend as they are; else pack.c carries them
 * in messages.
 */
#include <stdlib.h>
#include <string.h>

#include "dlist.h"

enum { PACK_INLINE = 64 * 1024 }; /* so much the caller packs into messages itself */

mc_status_t mc_xfer_check(const struct mc_peer *p, const struct mc_slice *s)
{
	if (s->mem == NULL || s->rmem == NULL || s->mem->ctx != p->ctx || s->rmem->ctx != p->ctx || s->rmem->released)
		return MC_ERR_INVAL;
	if (s->rmem->peer != p)
		return s->rmem->peer->id == p->id ? MC_ERR_STALE : MC_ERR_INVAL; /* of an earlier incarnation */
	if (!mc_range_ok(s->off, s->len, s->mem->len) || !mc_range_ok(s->roff, s->len, s->rmem->len))
		return MC_ERR_RANGE;
	return MC_OK;
}

static uint32_t link_index(const struct mc_peer *p)
{
	return (uint32_t)(p->link - p->ctx->be);
}

bool mc_xfer_link_rma(const struct mc_peer *p)
{
	return p->link != NULL && (p->link->caps.flags & MC_CAP_RMA) != 0;
}

bool mc_xfer_mem_rma(const struct mc_peer *p, const struct mc_mem *mem)
{
	return mem->be_mem[link_index(p)] != NULL;
}

struct mc_be_mem *mc_xfer_be_mem(const struct mc_peer *p, const struct mc_mem *mem)
{
	return mem->be_mem[link_index(p)];
}

/* May the whole table go one-sided? */
static bool can_rma(const struct mc_peer *p, const struct mc_slice *s, uint32_t n)
{
	if (!mc_xfer_link_rma(p))
		return false;
	uint32_t k = link_index(p);
	const struct mc_mem *mem = NULL;
	const struct mc_rmem *rmem = NULL;
	for (uint32_t i = 0; i < n; i++) {
		if (s[i].mem == mem && s[i].rmem == rmem)
			continue;
		mem = s[i].mem;
		rmem = s[i].rmem;
		if (mem->be_mem[k] == NULL || rmem->be_rmem == NULL)
			return false;
	}
	return true;
}

bool mc_xfer_slice_join(struct mc_be_slice *last, const struct mc_be_slice *s)
{
	if (last->mem != s->mem || last->rmem != s->rmem || last->off + last->len != s->off ||
	    last->roff + last->len != s->roff)
		return false;
	last->len += s->len;
	return true;
}

bool mc_xfer_run_join(struct mc_run *last, const struct mc_run *s)
{
	if (last->rid != s->rid || last->shape != 0 || last->addr + last->len != s->addr ||
	    last->roff + last->len != s->roff)
		return false;
	last->len += s->len;
	return true;
}

static void add_rma(struct mc_req *r, const struct mc_slice *s, uint32_t k)
{
	struct mc_be_slice x = {s->mem->be_mem[k], s->off, s->rmem->be_rmem, s->roff, s->len};
	if (r->run_n == 0 || !mc_xfer_slice_join(&r->slice[r->run_n - 1], &x))
		r->slice[r->run_n++] = x;
}

static void add_packed(struct mc_req *r, const struct mc_slice *s)
{
	struct mc_run x = {.addr = s->mem->addr + s->off, .rid = s->rmem->id, .roff = s->roff, .len = s->len};
	if (r->run_n == 0 || !mc_xfer_run_join(&r->run[r->run_n - 1], &x))
		r->run[r->run_n++] = x;
}

mc_status_t mc_xfer_add(struct mc_req *r, const struct mc_xfer_run *x)
{
	uint64_t bytes;
	uint32_t pieces = r->shape[x->shape].pieces;
	if (!mc_mul_u64(x->len, pieces, &bytes) || !mc_add_u64(r->bytes, bytes, &r->bytes))
		return MC_ERR_INVAL;
	if (!r->rma && x->mem->kind != MC_KIND_HOST)
		return MC_ERR_UNSUPPORTED;
	mc_status_t s = mc_req_pin(r, x->mem, x->rmem);
	if (s != MC_OK)
		return s;
	r->slices += pieces;
	if (r->rma) {
		r->strided = true;
		r->srun[r->run_n++] = (struct mc_srun){x->mem->be_mem[link_index(r->peer)],
						       x->off,
						       x->rmem->be_rmem,
						       x->roff,
						       x->len,
						       x->shape};
	} else {
		r->run[r->run_n++] =
			(struct mc_run){x->mem->addr + x->off, x->rmem->id, x->roff, x->len, x->shape};
	}
	return MC_OK;
}

static mc_status_t fill(struct mc_req *r, const struct mc_slice *slice, uint32_t n)
{
	struct mc_peer *p = r->peer;
	mc_status_t s = mc_req_reserve(r, n);
	if (s != MC_OK)
		return s;
	r->rma = n > 0 && can_rma(p, slice, n);
	uint32_t k = link_index(p);
	for (uint32_t i = 0; i < n; i++) {
		if (slice[i].len == 0)
			continue;
		if (r->rma)
			add_rma(r, &slice[i], k);
		else if (slice[i].mem->kind != MC_KIND_HOST)
			return MC_ERR_UNSUPPORTED;
		s = mc_req_pin(r, slice[i].mem, slice[i].rmem);
		if (s != MC_OK)
			return s;
		if (!r->rma)
			add_packed(r, &slice[i]);
		if (!mc_add_u64(r->bytes, slice[i].len, &r->bytes))
			return MC_ERR_INVAL;
	}
	r->slices = n;
	return MC_OK;
}

static mc_status_t take_notify(struct mc_req *r, const struct mc_notify *n)
{
	if (n == NULL || n->flags == 0)
		return MC_OK;
	uint32_t len = n->flags & MC_NOTIFY_NOTE ? n->data_len : 0;
	if (n->size != sizeof(*n) || (n->flags & ~(uint32_t)(MC_NOTIFY_COUNT | MC_NOTIFY_NOTE)) != 0 ||
	    len > MC_NOTE_MAX || (len > 0 && n->data == NULL))
		return MC_ERR_INVAL;
	if (len > r->payload_room) {
		uint8_t *b = realloc(r->payload, len);
		if (b == NULL)
			return MC_ERR_NOMEM;
		r->payload = b;
		r->payload_room = len;
	}
	if (len > 0)
		memcpy(r->payload, n->data, len);
	r->payload_len = len;
	r->notify_flags = n->flags;
	r->notify_tag = n->tag;
	r->notify_add = n->add;
	return MC_OK;
}

static void notify_gone(struct mc_tx *tx, mc_status_t s)
{
	struct mc_req *r = tx->req;
	r->flying--;
	if (s != MC_OK)
		mc_req_fail(r, s);
	else
		mc_req_settle(r);
}

static struct mc_tx *notify_tx(struct mc_req *r, struct mc_wr *w)
{
	struct mc_tx *tx = mc_tx_get(r->peer, MC_MSG_NOTIFY, r->payload_len > 256);
	if (tx == NULL)
		return NULL;
	mc_tx_body(tx, w);
	mc_notify_encode(r, w);
	return tx;
}

void mc_xfer_notify(struct mc_req *r)
{
	struct mc_wr w;
	struct mc_tx *tx = notify_tx(r, &w);
	if (tx == NULL) {
		mc_req_fail(r, MC_ERR_NOMEM);
		return;
	}
	r->notify_sent = true;
	r->flying++;
	tx->req = r;
	tx->done = notify_gone;
	mc_tx_send(tx, &w);
}

/* The next pieces of strided runs as plain slices. */
static uint32_t expand(const struct mc_req *r, struct mc_be_slice *out)
{
	uint32_t n = 0, piece = r->at.piece;
	for (uint32_t i = r->at.run; n < MC_SCRATCH && i < r->run_n; i++, piece = 0) {
		const struct mc_srun *u = &r->srun[i];
		struct mc_walk w;
		mc_walk_at(&w, &r->shape[u->shape], piece);
		do {
			out[n++] = (struct mc_be_slice){u->mem, u->off + w.here, u->rmem, u->roff + w.there, u->len};
		} while (n < MC_SCRATCH && mc_walk_next(&w));
	}
	return n;
}

static void advance(struct mc_req *r, uint32_t taken)
{
	if (!r->strided) {
		r->next += taken;
		return;
	}
	while (taken > 0) {
		uint32_t left = r->shape[r->srun[r->at.run].shape].pieces - r->at.piece;
		uint32_t k = taken < left ? taken : left;
		r->at.piece += k;
		taken -= k;
		if (k == left)
			r->at = (struct mc_cursor){.run = r->at.run + 1};
	}
	r->next = r->at.run;
}

/* What is to be posted next; whole: that is all of the request. */
static mc_status_t next_post(struct mc_req *r, struct mc_be_post *post, bool *whole)
{
	struct mc_ctx *ctx = r->ctx;
	post->n = r->run_n - r->next;
	post->slice = r->slice + r->next;
	*whole = r->next == 0;
	if (!r->strided)
		return MC_OK;
	if (ctx->scratch == NULL)
		ctx->scratch = malloc(MC_SCRATCH * sizeof(*ctx->scratch));
	if (ctx->scratch == NULL)
		return MC_ERR_NOMEM;
	post->n = expand(r, ctx->scratch);
	post->slice = ctx->scratch;
	*whole = r->next == 0 && r->at.piece == 0 && post->n == r->slices;
	return MC_OK;
}

/* Give the backend what it takes. false: it takes no more now, or all is posted. */
static bool rma_step(struct mc_req *r)
{
	struct mc_peer *p = r->peer;
	const struct mc_be_ops *ops = p->link->ops;
	struct mc_be_post post = {.op = r->kind == MC_REQ_PUT ? MC_BE_WRITE : MC_BE_READ,
				  .cookie = (uint64_t)(uintptr_t)r};
	struct mc_tx *tx = NULL;
	bool whole;
	mc_status_t s = next_post(r, &post, &whole);
	if (s != MC_OK) {
		mc_req_fail(r, s);
		return false;
	}
	if (r->list != NULL && r->slice == r->list->merged && whole)
		post.prepared = r->bytes;
	/* All of it in one post: the notification can ride along. */
	if (r->kind == MC_REQ_PUT && r->notify_flags != 0 && whole && r->payload_len <= 256 &&
	    (p->link->caps.flags & MC_CAP_POST_MSG)) {
		struct mc_wr w;
		tx = notify_tx(r, &w);
		if (tx != NULL) {
			post.msg_len = mc_tx_encode(tx, &w);
			post.msg = tx->buf;
			if (post.msg_len > p->link->caps.copy_max)
				post.msg = NULL;
		}
	}
	uint32_t taken = 0;
	s = ops->post(p->link->be, p->ep, &post, &taken);
	p->ctx->stale_arm = true;
	if (s == MC_OK && taken > 0) {
		r->flying++;
		advance(r, taken);
		if (post.msg != NULL && taken == post.n)
			r->notify_sent = true;
	}
	if (tx != NULL)
		mc_tx_put(tx);
	if (s == MC_OK)
		return taken > 0 && r->next < r->run_n;
	if (s == MC_ERR_PEER_DOWN)
		mc_peer_fail(p, s, "%s cannot post", ops->name);
	else if (s != MC_ERR_AGAIN)
		mc_req_fail(r, s);
	return false;
}

void mc_xfer_posted(struct mc_req *r, mc_status_t s)
{
	r->flying--;
	if (s != MC_OK)
		mc_req_fail(r, s);
	else
		mc_req_settle(r);
}

void mc_xfer_want_pump(struct mc_req *r)
{
	struct mc_peer *p = r->peer;
	if (mc_list_empty(&r->pump))
		mc_list_add_tail(&p->pump, &r->pump);
	if (mc_list_empty(&p->pump_node))
		mc_list_add_tail(&p->ctx->pumping, &p->pump_node);
}

void mc_xfer_start(struct mc_req *r)
{
	struct mc_peer *p = r->peer;
	p->tx_slices += r->slices;
	p->tx_merged += r->slices - r->run_n;
	if (r->run_n == 0 && r->notify_flags != 0) {
		mc_xfer_notify(r);
		return;
	}
	if (r->run_n == 0) {
		mc_req_settle(r);
		return;
	}
	if (r->kind == MC_REQ_PUT && r->rma)
		p->tx_bytes += r->bytes;
	mc_xfer_want_pump(r);
	/* Packing much would keep the caller: the progress thread does it. */
	if (r->rma || !p->ctx->thread_on || r->bytes <= PACK_INLINE)
		mc_xfer_pump(p->ctx);
}

/* One request as far as it goes; true: it has more to send later. */
static bool feed(struct mc_req *r)
{
	if (r->rma) {
		while (rma_step(r))
			;
		return r->failing == MC_OK && r->next < r->run_n;
	}
	mc_pack_step(r);
	return r->failing == MC_OK && (r->next < r->run_n || (r->notify_flags != 0 && !r->notify_sent));
}

static bool may_pack(const struct mc_peer *p)
{
	return mc_list_empty(&p->txq) && p->packed_out < p->ctx->cfg.pack_window;
}

/* Requests of one peer take turns, a message each, while there is room. */
static void pump_peer(struct mc_peer *p)
{
	if (!mc_link_ready(p))
		return; /* EP_UP, or the next link, brings it on */
	mc_tx_flush(p);
	uint32_t refused = 0, waiting = 0;
	for (struct mc_list *l = p->pump.next; l != &p->pump; l = l->next)
		waiting++;
	while (!mc_list_empty(&p->pump) && refused < waiting && p->state != MC_PEER_DOWN && mc_list_empty(&p->dying)) {
		struct mc_req *r = mc_container_of(p->pump.next, struct mc_req, pump);
		if (!r->rma && !may_pack(p)) {
			mc_list_del(&r->pump);
			mc_list_add_tail(&p->pump, &r->pump);
			refused++;
			continue;
		}
		mc_list_del(&r->pump);
		uint32_t before = r->next;
		struct mc_cursor at = r->at;
		if (feed(r)) {
			mc_list_add_tail(&p->pump, &r->pump);
			bool moved = before != r->next || at.piece != r->at.piece || at.off != r->at.off;
			refused = moved ? 0 : refused + 1;
		} else {
			mc_req_settle(r);
		}
	}
	/* Out of the list when nothing waits for the backend; acknowledgements bring it back for the window. */
	bool rma_waits = false;
	for (struct mc_list *l = p->pump.next; l != &p->pump && !rma_waits; l = l->next)
		rma_waits = mc_container_of(l, struct mc_req, pump)->rma;
	if (mc_list_empty(&p->txq) && !rma_waits)
		mc_list_del(&p->pump_node);
}

void mc_xfer_pump(struct mc_ctx *ctx)
{
	struct mc_list *l, *next;
	for (l = ctx->pumping.next; l != &ctx->pumping; l = next) {
		next = l->next;
		pump_peer(mc_container_of(l, struct mc_peer, pump_node));
	}
}

mc_status_t mc_xfer_take_opts(struct mc_req *r, const struct mc_xfer_opts *opts)
{
	mc_status_t s = opts != NULL ? take_notify(r, opts->notify) : MC_OK;
	if (s == MC_OK && opts != NULL && opts->timeout_ns > 0)
		mc_req_timed(r, mc_deadline(r->start_ns, opts->timeout_ns));
	return s;
}

static mc_status_t prepare(struct mc_req *r, const struct mc_slice *slice, uint32_t n, const struct mc_xfer_opts *opts)
{
	struct mc_peer *p = r->peer;
	mc_status_t s = mc_peer_start(p);
	for (uint32_t i = 0; i < n && s == MC_OK; i++)
		s = mc_xfer_check(p, &slice[i]);
	if (s == MC_OK)
		s = fill(r, slice, n);
	return s == MC_OK ? mc_xfer_take_opts(r, opts) : s;
}

/* A request that never started: back to the pool. */
void mc_xfer_discard(struct mc_req *r)
{
	struct mc_ctx *ctx = r->ctx;
	mc_list_del(&r->node);
	mc_list_del(&r->timed);
	mc_req_unpin(r);
	atomic_store(&r->state, 1);
	r->refs = 0;
	mc_list_add_tail(&ctx->req_free, &r->node);
}

mc_status_t mc_xfer_submit(struct mc_peer *p, enum mc_req_kind kind, const struct mc_slice *slice, uint32_t n,
			   const struct mc_xfer_opts *opts, void (*on_end)(struct mc_req *r, void *arg), void *arg)
{
	struct mc_req *r = mc_req_get(p, kind);
	mc_status_t s = r != NULL ? prepare(r, slice, n, opts) : MC_ERR_NOMEM;
	if (s != MC_OK) {
		if (r != NULL)
			mc_xfer_discard(r);
		return s;
	}
	r->on_end = on_end;
	r->on_end_arg = arg;
	r->refs = 1;
	mc_xfer_start(r);
	return MC_OK;
}

void mc_xfer_go(struct mc_req *r, struct mc_req **req_out)
{
	mc_xfer_start(r);
	r->post_ns = mc_now_ns() - r->start_ns;
	if (req_out != NULL)
		*req_out = r;
	mc_progress_posted(r->ctx, r->bytes);
	if (req_out == NULL)
		mc_req_drop(r);
}

static mc_status_t submit(struct mc_ctx *ctx, uint32_t peer, enum mc_req_kind kind, const struct mc_slice *slice,
			  uint32_t n, const struct mc_xfer_opts *opts, struct mc_req **req_out)
{
	struct mc_peer *p = mc_peer_get(ctx, peer);
	if (p == NULL || (slice == NULL && n > 0) || (opts != NULL && opts->size != sizeof(*opts)))
		return MC_ERR_INVAL;
	mc_ctx_lock(ctx);
	if (kind == MC_REQ_PUT && n == 1 && mc_quick_put(p, slice, opts, req_out)) {
		mc_ctx_unlock(ctx);
		return MC_OK;
	}
	struct mc_req *r = mc_req_get(p, kind);
	mc_status_t s = r != NULL ? prepare(r, slice, n, opts) : MC_ERR_NOMEM;
	if (s != MC_OK) {
		if (r != NULL)
			mc_xfer_discard(r);
		mc_ctx_unlock(ctx);
		mc_progress_kick(ctx); /* a peer may have been lost on the way */
		return s;
	}
	mc_xfer_go(r, req_out);
	mc_ctx_unlock(ctx);
	return MC_OK;
}

mc_status_t mc_put(struct mc_ctx *ctx, uint32_t peer, const struct mc_slice *slice, uint32_t n,
		   const struct mc_xfer_opts *opts, struct mc_req **req_out)
{
	return submit(ctx, peer, MC_REQ_PUT, slice, n, opts, req_out);
}

mc_status_t mc_get(struct mc_ctx *ctx, uint32_t peer, const struct mc_slice *slice, uint32_t n,
		   const struct mc_xfer_opts *opts, struct mc_req **req_out)
{
	return submit(ctx, peer, MC_REQ_GET, slice, n, opts, req_out);
}

mc_status_t mc_note_send(struct mc_ctx *ctx, uint32_t peer, uint64_t tag, const void *data, uint32_t len,
			 struct mc_req **req_out)
{
	struct mc_notify n = {.size = sizeof(n), .flags = MC_NOTIFY_NOTE, .tag = tag, .data = data, .data_len = len};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &n};
	return submit(ctx, peer, MC_REQ_NOTE, NULL, 0, &opts, req_out);
}

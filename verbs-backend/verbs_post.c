/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_post.c - transfers: slices become work requests, in chains over the lanes. Slices that continue each other on
 * the far side are one request with several pieces here; long ones are cut, so that all lanes share them.
 */
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

/* Where a walk over the slices stands. */
struct walk {
	const struct mc_be_slice *slice;
	uint32_t n, at;
	uint64_t off; /* into slice[at] */
};

static struct vb_op *op_get(struct mc_be *be)
{
	struct mc_list *l = mc_list_pop(&be->free_ops);
	struct vb_op *op = l != NULL ? mc_container_of(l, struct vb_op, node) : malloc(sizeof(*op));

	if (op == NULL)
		return NULL;
	memset(op, 0, sizeof(*op));
	mc_list_init(&op->node);
	mc_list_init(&op->ep_node);
	return op;
}

static void op_put(struct mc_be *be, struct vb_op *op)
{
	mc_list_del(&op->node);
	mc_list_del(&op->ep_node);
	mc_list_add_tail(be->free_ops.next, &op->node);
}

void mc_vb_op_check(struct vb_op *op)
{
	struct mc_be_ep *ep = op->ep;

	if (op->pending > 0)
		return;
	if (op->msg != NULL && (op->status != MC_OK || op->canceled) && op->msg->at == 0 && op->msg->frags == 0 &&
	    !mc_list_empty(&op->msg->node)) {
		if (op->status == MC_OK)
			op->status = MC_ERR_CANCELED; /* the bytes are there, the message never will be */
		op->msg_pending = false;
		mc_vb_tx_drop(ep->link, op->msg);
	}
	if (op->msg_pending)
		return;
	mc_vb_event(ep->be, MC_EV_DONE, op->status, op->native, op->why, op->cookie, NULL);
	op_put(ep->be, op);
}

/* The lanes are gone and with them what they had: whatever was not ended by that ends now. */
void mc_vb_ops_fail(struct vb_link *link, mc_status_t s)
{
	while (!mc_list_empty(&link->ops)) {
		struct vb_op *op = mc_container_of(link->ops.next, struct vb_op, node);
		if (op->status == MC_OK)
			op->status = s;
		op->pending = 0;
		op->msg_pending = false;
		op->msg = NULL;
		mc_vb_op_check(op);
	}
}

/* Requests have one cookie for all of their posts. */
void mc_vb_cancel(struct mc_be *be, struct mc_be_ep *ep, uint64_t cookie)
{
	struct mc_list *l, *next;

	(void)be;
	for (l = ep->ops.next; l != &ep->ops; l = next) {
		struct vb_op *op = mc_container_of(l, struct vb_op, ep_node);
		next = l->next;
		if (op->cookie != cookie || op->canceled)
			continue;
		op->canceled = true;
		ep->link->canceling = true;
		mc_vb_op_check(op);
	}
	if (ep->link != NULL && ep->link->canceling)
		mc_vb_again_prune(ep->link);
}

static mc_status_t check(const struct mc_be_ep *ep, const struct mc_be_post *p)
{
	const struct mc_be_rmem *rmem = NULL;

	if ((p->op != MC_BE_WRITE && p->op != MC_BE_READ) || (p->n == 0 && p->msg == NULL) ||
	    (p->msg != NULL && (p->op != MC_BE_WRITE || p->msg_len > VB_COPY_MAX)) || ep->link == NULL)
		return MC_ERR_INVAL;
	if (ep->link->state == LINK_DEAD || ep->down)
		return MC_ERR_PEER_DOWN;
	for (uint32_t i = 0; i < p->n; i++) {
		const struct mc_be_slice *s = &p->slice[i];
		if (s->rmem != rmem) {
			rmem = s->rmem;
			if (rmem->link != ep->link)
				return MC_ERR_INVAL;
			if (rmem->stale)
				return MC_ERR_STALE;
		}
		if (p->prepared != 0) /* checked when it was made */
			continue;
		if (!mc_range_ok(s->off, s->len, s->mem->len) || !mc_range_ok(s->roff, s->len, rmem->len))
			return MC_ERR_RANGE;
	}
	return MC_OK;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Bytes from here that lie in one registration on either side. */
static uint64_t within(const struct mc_be_mem *mem, uint64_t off, const struct mc_be_rmem *rmem, uint64_t roff)
{
	return least(mem->piece - off % mem->piece, rmem->piece - roff % rmem->piece);
}

static void walk_skip_empty(struct walk *w)
{
	while (w->at < w->n && w->slice[w->at].len == 0)
		w->at++;
}

static void walk_forward(struct walk *w, uint64_t len)
{
	w->off += len;
	if (w->off == w->slice[w->at].len) {
		w->at++;
		w->off = 0;
		walk_skip_empty(w);
	}
}

/* May the slice at w be one more piece of the request that ends at that remote place? */
static bool continues(const struct walk *w, const struct vb_wr *wr, uint32_t chunk)
{
	const struct mc_be_slice *s;

	if (w->at >= w->n || w->off != 0)
		return false;
	s = &w->slice[w->at];
	return s->rmem == wr->rmem && s->roff == wr->roff + wr->len && s->roff % s->rmem->piece != 0 &&
	       s->len <= chunk - least(wr->len, chunk) && s->len <= within(s->mem, s->off, s->rmem, s->roff);
}

static struct vb_gather *gather_get(struct mc_be *be)
{
	struct mc_list *l = mc_list_pop(&be->free_gather);

	return l != NULL ? mc_container_of(l, struct vb_gather, node) : malloc(sizeof(struct vb_gather));
}

/* The next work request; advances w. */
static void next_wr(struct mc_be *be, struct walk *w, struct vb_wr *wr, uint32_t sge_max, uint32_t chunk)
{
	const struct mc_be_slice *s = &w->slice[w->at];
	uint64_t off = s->off + w->off, roff = s->roff + w->off;
	uint64_t len = least(least(s->len - w->off, chunk), within(s->mem, off, s->rmem, roff));

	wr->rmem = s->rmem;
	wr->roff = roff;
	wr->first = (struct vb_piece){.mem = s->mem, .off = off, .len = (uint32_t)len};
	wr->more = NULL;
	wr->sge_n = 1;
	wr->len = (uint32_t)len;
	walk_forward(w, len);
	while (wr->sge_n < sge_max && continues(w, wr, chunk)) {
		const struct mc_be_slice *t = &w->slice[w->at];
		if (wr->more == NULL)
			wr->more = gather_get(be);
		if (wr->more == NULL)
			return;
		wr->more->piece[wr->sge_n++ - 1] = (struct vb_piece){t->mem, t->off, (uint32_t)t->len};
		wr->len += (uint32_t)t->len;
		walk_forward(w, t->len);
	}
}

/*
 * One chain on the lightest lane, about a chunk of bytes if there are several lanes. false: no lane has room.
 */
static bool chain_run(struct vb_link *link, struct vb_op *op, struct walk *w, uint8_t kind)
{
	struct mc_be *be = link->be;
	struct vb_qp *q = mc_vb_lane_pick(link);
	uint64_t chunk = be->config->verbs_chunk, bytes = 0;
	struct vb_chain c;

	if (q == NULL)
		return false;
	mc_vb_chain_start(&c, q);
	while (w->at < w->n && !mc_vb_chain_full(&c) && (link->lane_n == 1 || bytes < chunk)) {
		struct vb_wr wr = {.op = op, .kind = kind};
		next_wr(be, w, &wr, kind == WR_READ ? q->nic->read_sge_max : q->nic->sge_max, (uint32_t)chunk);
		op->pending++;
		bytes += wr.len;
		mc_vb_chain_add(&c, &wr);
	}
	mc_vb_chain_post(&c);
	return true;
}

/*
 * A slice that was begun must be posted to its end, as what is taken is counted in slices. If the lanes are full in the
 * middle of one, its rest goes the way of what a failed lane leaves behind: sent as soon as there is room.
 */
static bool rest_keep(struct vb_link *link, struct vb_op *op, struct walk *w, uint8_t kind)
{
	const struct mc_be_slice *s = &w->slice[w->at];
	uint64_t chunk = link->be->config->verbs_chunk, left = s->len - w->off;
	uint32_t at = w->at, most = (uint32_t)((left + chunk - 1) / chunk) + 2 * VB_PIECES_MAX;
	struct vb_again *a = malloc(sizeof(*a) + (size_t)most * sizeof(a->wr[0]));

	if (a == NULL)
		return false;
	a->n = a->at = 0;
	a->to = NULL;
	while (w->at == at && w->off < s->len && a->n < most) {
		struct vb_wr *wr = &a->wr[a->n++];
		memset(wr, 0, sizeof(*wr));
		wr->op = op;
		wr->kind = kind;
		next_wr(link->be, w, wr, 1, (uint32_t)chunk);
		op->pending++;
	}
	mc_list_add_tail(&link->again, &a->node);
	mc_vb_work(link);
	return true;
}

/* Slices posted. */
static uint32_t slices_run(struct vb_link *link, struct vb_op *op, const struct mc_be_post *p, uint32_t n)
{
	struct walk w = {.slice = p->slice, .n = n};
	uint8_t kind = p->op == MC_BE_READ ? WR_READ : WR_WRITE;

	walk_skip_empty(&w);
	while (w.at < w.n && chain_run(link, op, &w, kind))
		;
	if (w.at < w.n && w.off > 0 && !rest_keep(link, op, &w, kind)) {
		/* Not even memory to remember it: the post ends in an error, with what is under way. */
		op->status = MC_ERR_NOMEM;
		w.at++;
	}
	return w.at < w.n ? w.at : n;
}

mc_status_t mc_vb_post(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out)
{
	mc_status_t s = check(ep, p);
	struct vb_link *link = ep->link;
	uint32_t n = p->n < VB_TAKE_MAX ? p->n : VB_TAKE_MAX, taken = 0;
	bool msg = p->msg != NULL && n == p->n;
	struct vb_op *op;

	if (s != MC_OK)
		return s;
	*taken_out = 0;
	mc_vb_touch(link);
	link->wanted = link->lane_n == 0;
	if (link->state != LINK_UP || link->lane_n == 0 || !mc_list_empty(&link->again))
		return p->n == 0 ? MC_ERR_AGAIN : MC_OK;
	if (msg && link->txq_n >= VB_TXQ_MAX) { /* the message must wait, and with it the last slice */
		msg = false;
		if (n == 0 || --n == 0)
			return p->n == 0 ? MC_ERR_AGAIN : MC_OK;
	}
	op = op_get(be);
	if (op == NULL)
		return p->n == 0 ? MC_ERR_AGAIN : MC_OK;
	op->ep = ep;
	op->cookie = p->cookie;
	op->pending = 1;
	mc_list_add_tail(&link->ops, &op->node);
	mc_list_add_tail(&ep->ops, &op->ep_node);
	if (n > 0)
		taken = slices_run(link, op, p, n);
	if (taken == 0 && p->n > 0) {
		op_put(be, op);
		return MC_OK;
	}
	if (msg && taken == p->n && mc_vb_tx_queue(link, p->msg, p->msg_len, op) == NULL && op->status == MC_OK)
		op->status = MC_ERR_NOMEM;
	op->pending--;
	*taken_out = taken;
	mc_vb_op_check(op);
	return MC_OK;
}

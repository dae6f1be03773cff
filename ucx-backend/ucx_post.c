/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ucx_post.c - one-sided transfers. A put of UCX ends when the source may be reused; that the bytes are there only a
 * flush says. So a post is: its puts, one flush for all of them, then its message, if it has one.
 */
#include <string.h>

#include "ucx.h"

static mc_status_t slices_check(const struct mc_be_ep *ep, const struct mc_be_slice *sl, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (sl[i].rmem->link != ep->link)
			return MC_ERR_INVAL;
		if (!mc_range_ok(sl[i].off, sl[i].len, sl[i].mem->len) ||
		    !mc_range_ok(sl[i].roff, sl[i].len, sl[i].rmem->len))
			return MC_ERR_RANGE;
		if (sl[i].rmem->stale)
			return MC_ERR_STALE;
	}
	return MC_OK;
}

static void put_or_get(struct ucx_op *op, const struct mc_be_slice *sl, uint64_t at, uint64_t len)
{
	uint8_t *here = sl->mem->addr + sl->off + at;
	uint64_t there = sl->rmem->addr + sl->roff + at;
	ucp_request_param_t prm;

	mc_ucx_request_param(op, &prm);
	prm.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMORY_TYPE;
	prm.memory_type = UCS_MEMORY_TYPE_HOST;
	if (op->type == MC_BE_WRITE)
		mc_ucx_op_request(op, ucp_put_nbx(op->link->ucp, here, len, there, sl->rmem->rkey, &prm));
	else
		mc_ucx_op_request(op, ucp_get_nbx(op->link->ucp, here, len, there, sl->rmem->rkey, &prm));
}

/* Hand slices to UCX, at most *budget bytes. True: all of them. */
static bool post_issue(struct ucx_op *op, uint64_t *budget)
{
	op->busy = true;
	op->started = true;
	while (op->at < op->n && op->status == MC_OK && *budget > 0 && op->link->ucp != NULL) {
		const struct mc_be_slice *sl = &op->slice[op->at];
		uint64_t len = sl->len - op->at_off;

		if (sl->rmem->stale) {
			op->status = MC_ERR_STALE;
			break;
		}
		if (len > *budget)
			len = *budget;
		if (len > 0)
			put_or_get(op, sl, op->at_off, len);
		*budget -= len;
		op->at_off += len;
		if (op->at_off == sl->len) {
			op->at++;
			op->at_off = 0;
		}
	}
	op->busy = false;
	if (op->link->ucp == NULL && op->at < op->n && op->status == MC_OK)
		op->status = MC_ERR_PEER_DOWN;
	return op->at == op->n || op->status != MC_OK;
}

static void post_flush(struct ucx_op *op)
{
	ucp_request_param_t prm;

	op->flushing = true;
	op->busy = true;
	mc_ucx_request_param(op, &prm);
	mc_ucx_op_request(op, ucp_ep_flush_nbx(op->link->ucp, &prm));
	op->busy = false;
}

/*
 * The number was given at post; a failed post sends a message without content under it, so that later ones are not
 * held.
 */
static void post_message(struct ucx_op *op)
{
	struct ucx_link *link = op->link;

	op->told = true;
	if (--link->waiting_n == 0) {
		link->overtakers = 0;
		link->overtaker_bytes = 0;
	}
	if (link->ucp != NULL)
		mc_ucx_op_transmit(op, op->status == MC_OK ? UCX_MSG : UCX_NOP, link->id, op->seq, 0, op->buf,
				   op->len);
}

void mc_ucx_post_step(struct ucx_op *op)
{
	if (op->at < op->n && op->status == MC_OK)
		return; /* poll goes on with it */
	if (op->type == MC_BE_WRITE && !op->flushing && !op->told && op->status == MC_OK && op->link->ucp != NULL &&
	    (op->n > 0 || op->post_node.prev != &op->link->posts))
		post_flush(op);
	if (op->pending > 0)
		return;
	if (op->has_msg && !op->told)
		post_message(op);
	if (op->pending > 0)
		return;
	if (!mc_list_empty(&op->post_node)) {
		mc_list_del(&op->post_node);
		op->be->posts_n--;
	}
	mc_ucx_op_end(op);
}

/* Does UCX have all of the post before this place in the list? */
static bool post_issued(const struct mc_list *l, const struct ucx_link *link)
{
	const struct ucx_op *op;

	if (l == &link->posts)
		return true;
	op = mc_container_of(l, struct ucx_op, post_node);
	return op->started && op->at == op->n;
}

bool mc_ucx_posts_waiting(const struct mc_be *be)
{
	for (struct mc_list *l = be->links.next; be->posts_n > 0 && l != &be->links; l = l->next) {
		const struct ucx_link *link = mc_container_of(l, struct ucx_link, node);
		if (!post_issued(link->posts.prev, link))
			return true;
	}
	return false;
}

/* The link is dead: what UCX never saw ends here, the rest when UCX gives it back. */
void mc_ucx_posts_fail(struct ucx_link *link, mc_status_t s)
{
	struct mc_list *l = link->posts.next;

	while (l != &link->posts) {
		struct ucx_op *op = mc_container_of(l, struct ucx_op, post_node);
		l = l->next;
		if (op->status == MC_OK)
			op->status = op->ep != NULL && op->ep->closed ? MC_ERR_CANCELED : s;
		mc_ucx_op_check(op);
	}
}

static mc_status_t post_ready(struct mc_be *be, const struct mc_be_ep *ep, const struct mc_be_post *p)
{
	if (!(be->flags & MC_CAP_RMA) || (p->op != MC_BE_WRITE && p->op != MC_BE_READ) ||
	    (p->n == 0 && p->msg == NULL) || (p->msg != NULL && (p->op != MC_BE_WRITE || p->msg_len > UCX_COPY_MAX)) ||
	    ep->link == NULL)
		return MC_ERR_INVAL;
	return ep->why != MC_OK || ep->closed ? MC_ERR_PEER_DOWN : MC_OK;
}

static void post_begin(struct ucx_op *op, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t n)
{
	struct ucx_link *link = ep->link;

	op->kind = OP_POST;
	op->cookie = p->cookie;
	op->type = p->op;
	op->n = n;
	if (n > 0)
		memcpy(op->slice, p->slice, n * sizeof(p->slice[0]));
	op->has_msg = p->msg != NULL && n == p->n;
	if (op->has_msg) {
		op->len = p->msg_len;
		if (p->msg_len > 0)
			memcpy(op->buf, p->msg, p->msg_len);
		op->seq = link->tx_seq++;
		link->waiting_n++;
	}
	mc_ucx_op_begin(op, link, ep);
	mc_list_add_tail(&link->posts, &op->post_node);
	op->be->posts_n++;
}

mc_status_t mc_ucx_post(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out)
{
	uint32_t n = p->n < UCX_TAKE_MAX ? p->n : UCX_TAKE_MAX;
	uint64_t budget = be->copies ? UCX_POST_BYTES : UINT64_MAX;
	struct ucx_op *op = NULL;
	mc_status_t s = post_ready(be, ep, p);

	if (s == MC_OK)
		s = slices_check(ep, p->slice, n);
	if (s != MC_OK)
		return s;
	if (mc_ucx_room(ep->link))
		op = mc_ucx_op_get(be, p->msg != NULL ? p->msg_len : 0);
	if (op == NULL) {
		ep->link->starved = true;
		if (p->n == 0)
			return MC_ERR_AGAIN;
		*taken_out = 0;
		return MC_OK;
	}
	post_begin(op, ep, p, n);
	/* Behind another that is not through, it waits for poll: bytes go in order, a call stays short. */
	if (post_issued(op->post_node.prev, ep->link) && post_issue(op, &budget))
		mc_ucx_post_step(op);
	*taken_out = n;
	return MC_OK;
}

/* Go on with the posts that UCX does not have entirely. */
static void link_posts_run(struct ucx_link *link, uint64_t *budget)
{
	struct mc_list *l = link->posts.next;

	while (l != &link->posts && *budget > 0) {
		struct ucx_op *op = mc_container_of(l, struct ucx_op, post_node);
		l = l->next;
		if (op->started && op->at == op->n)
			continue; /* waits for completions */
		if (!post_issue(op, budget))
			return;
		mc_ucx_post_step(op);
	}
}

void mc_ucx_posts_run(struct mc_be *be)
{
	uint64_t budget = be->copies ? UCX_POST_BYTES : UINT64_MAX;

	for (struct mc_list *l = be->links.next; be->posts_n > 0 && l != &be->links;) {
		struct ucx_link *link = mc_container_of(l, struct ucx_link, node);
		l = l->next;
		link_posts_run(link, &budget);
	}
}

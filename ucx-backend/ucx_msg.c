/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_msg.c - messages as UCX active messages, numbered per link; and the life of an op. */
#include <stdlib.h>
#include <string.h>

#include "ucx.h"
#include "wire.h"

enum { HDR_MAGIC = 0x4d43, KEEP_RX = 32 << 20, KEEP_OPS = 32 << 20, KEEP_BUF = 2 << 20 };

/* ---- ops --------------------------------------------------------------------------------------------------------- */

/* An op with room for a copied message of cap bytes; NULL: out of memory. */
struct ucx_op *mc_ucx_op_get(struct mc_be *be, uint32_t cap)
{
	struct mc_list *l = mc_list_pop(&be->free_ops);
	struct ucx_op *op = l != NULL ? mc_container_of(l, struct ucx_op, node) : calloc(1, sizeof(*op));
	uint8_t *buf;

	if (op == NULL)
		return NULL;
	op->be = be;
	be->free_op_bytes -= l != NULL ? op->cap : 0;
	if (cap > op->cap) {
		buf = malloc(cap);
		if (buf == NULL) {
			mc_ucx_op_put(op);
			return NULL;
		}
		free(op->buf);
		op->buf = buf;
		op->cap = cap;
	}
	mc_list_init(&op->node);
	mc_list_init(&op->post_node);
	op->ep = NULL;
	op->link = NULL;
	op->busy = op->flushing = op->has_msg = op->is_bye = op->started = op->told = false;
	op->status = MC_OK;
	op->native = UCS_OK;
	op->pending = 0;
	op->n = op->at = 0;
	op->at_off = op->bytes = 0;
	return op;
}

void mc_ucx_op_put(struct ucx_op *op)
{
	struct mc_be *be = op->be;

	if (op->cap > KEEP_BUF || be->free_op_bytes + op->cap > KEEP_OPS) {
		free(op->buf);
		op->buf = NULL;
		op->cap = 0;
	}
	be->free_op_bytes += op->cap;
	/* Last in, first out: its memory is still in the cache. */
	mc_list_add_tail(be->free_ops.next, &op->node);
}

/* ep NULL: nobody waits for its end. */
void mc_ucx_op_begin(struct ucx_op *op, struct ucx_link *link, struct mc_be_ep *ep)
{
	op->link = link;
	op->ep = ep;
	mc_list_add_tail(ep != NULL ? &ep->ops : &op->be->ctl, &op->node);
	link->ops_n++;
	link->ops_bytes += op->bytes;
}

void mc_ucx_op_end(struct ucx_op *op)
{
	struct ucx_link *link = op->link;
	struct mc_be_ep *ep = op->ep;
	struct mc_be *be = op->be;

	mc_list_del(&op->node);
	link->ops_n--;
	link->ops_bytes -= op->bytes;
	if (link->starved && mc_ucx_room(link)) {
		link->starved = false;
		be->kick = true;
	}
	if (op->is_bye) {
		link->sent_bye = true;
		be->kick = true;
	}
	if (op->kind == OP_MEET)
		mc_ucx_meet_stands(link, op->native);
	if (op->kind == OP_SEND || op->kind == OP_POST)
		mc_ucx_event(be, op->kind == OP_POST ? MC_EV_DONE : MC_EV_SENT, op->status, op->native, op->cookie,
			     NULL, NULL);
	mc_ucx_op_put(op);
	if (ep != NULL)
		mc_ucx_ep_settle(ep);
}

void mc_ucx_op_check(struct ucx_op *op)
{
	if (op->busy || op->pending > 0)
		return;
	if (op->kind == OP_POST)
		mc_ucx_post_step(op);
	else
		mc_ucx_op_end(op);
}

static void op_note(struct ucx_op *op, ucs_status_t st)
{
	if (st == UCS_OK || op->status != MC_OK)
		return;
	op->native = st;
	op->status = op->ep != NULL && op->ep->closed ? MC_ERR_CANCELED : mc_ucx_status(st);
}

static void on_request(void *request, ucs_status_t st, void *arg)
{
	struct ucx_op *op = arg;

	ucp_request_free(request);
	op->pending--;
	op_note(op, st);
	mc_ucx_op_check(op);
}

void mc_ucx_request_param(struct ucx_op *op, ucp_request_param_t *prm)
{
	prm->op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
	prm->cb.send = on_request;
	prm->user_data = op;
	prm->flags = 0;
}

void mc_ucx_op_request(struct ucx_op *op, ucs_status_ptr_t p)
{
	if (UCS_PTR_IS_PTR(p))
		op->pending++;
	else
		op_note(op, UCS_PTR_STATUS(p));
}

void mc_ucx_header(uint8_t hdr[UCX_HDR_LEN], enum ucx_kind kind, uint64_t id, uint64_t seq)
{
	struct mc_wr w;

	mc_wr_init(&w, hdr, UCX_HDR_LEN);
	mc_wr_u16(&w, HDR_MAGIC);
	mc_wr_u16(&w, (uint16_t)kind);
	mc_wr_u32(&w, 0);
	mc_wr_u64(&w, id);
	mc_wr_u64(&w, seq);
}

void mc_ucx_op_transmit(struct ucx_op *op, enum ucx_kind kind, uint64_t id, uint64_t seq, uint32_t head_len,
			const void *buf, size_t len)
{
	uint8_t *hdr = head_len > 0 ? op->head : op->hdr;
	ucp_request_param_t prm;

	mc_ucx_header(hdr, kind, id, seq);
	mc_ucx_request_param(op, &prm);
	prm.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
	prm.flags = UCP_AM_SEND_FLAG_EAGER;
	if (kind == UCX_OPEN) /* UCX must know the peer's endpoint for that, so it shakes hands first */
		prm.flags |= UCP_AM_SEND_FLAG_REPLY;
	op->busy = true;
	if (op->link->ucp == NULL)
		op_note(op, UCS_ERR_CONNECTION_RESET);
	else
		mc_ucx_op_request(
			op, ucp_am_send_nbx(op->link->ucp, UCX_AM_ID, hdr, UCX_HDR_LEN + head_len, buf, len, &prm));
	op->busy = false;
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

bool mc_ucx_room(struct ucx_link *link)
{
	return link->ops_n < UCX_OPS_MAX && link->ops_bytes < UCX_BYTES_MAX && link->be->ev_n < UCX_HELD_MAX &&
	       link->overtakers < UCX_HELD_MAX / 2 && link->overtaker_bytes < UCX_OVERTAKE_BYTES;
}

/* A small message of our own. It never waits for room: there are few, and each has a cause that was let in. */
void mc_ucx_control(struct ucx_link *link, enum ucx_kind kind, uint64_t id, const void *body, uint32_t len)
{
	struct ucx_op *op = mc_ucx_op_get(link->be, len);
	bool numbered = kind != UCX_BYE_NOW;

	if (op == NULL) {
		mc_error("ucx: rank %u: no memory for a control message to rank %u", link->be->rank, link->rank);
		link->err = UCS_ERR_NO_MEMORY;
		link->be->has_err = true;
		return;
	}
	if (len > 0)
		memcpy(op->buf, body, len);
	op->kind = OP_CTL;
	op->is_bye = kind == UCX_BYE || kind == UCX_BYE_NOW;
	mc_ucx_op_begin(op, link, NULL);
	mc_ucx_op_transmit(op, kind, id, numbered ? link->tx_seq++ : 0, 0, op->buf, len);
	mc_ucx_op_check(op);
}

static bool iov_total(const struct iovec *iov, uint32_t n, uint64_t *out)
{
	*out = 0;
	for (uint32_t i = 0; i < n; i++)
		if (!mc_add_u64(*out, iov[i].iov_len, out))
			return false;
	return true;
}

static mc_status_t link_ready(const struct mc_be_ep *ep)
{
	if (ep->link == NULL)
		return MC_ERR_INVAL;
	if (ep->why != MC_OK || ep->closed)
		return MC_ERR_PEER_DOWN;
	return ep->link->calm && ep->link->state == LINK_CONNECTING ? MC_ERR_AGAIN : MC_OK;
}

static void gather(uint8_t *p, const struct iovec *iov, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (iov[i].iov_len > 0)
			memcpy(p, iov[i].iov_base, iov[i].iov_len);
		p += iov[i].iov_len;
	}
}

/* Room for a head behind the header; kept with the op. */
static bool head_room(struct ucx_op *op, uint32_t len)
{
	uint8_t *a;

	if (UCX_HDR_LEN + len <= op->head_cap)
		return true;
	a = realloc(op->head, UCX_HDR_LEN + len);
	if (a == NULL)
		return false;
	op->head = a;
	op->head_cap = UCX_HDR_LEN + len;
	return true;
}

/* How a message is cut: a head, which goes as the active message's header, and the rest. */
struct cut {
	uint32_t head; /* bytes */
	const struct iovec *rest;
	uint32_t rest_n;
	uint64_t rest_len;
	bool gather;
};

/*
 * Bulk data in one piece go out from where they lie, and what comes before them as the header; so the receiver can take
 * them to their place without a copy in between, too. Several pieces are put together here: UCX's own gathering copies
 * them, too, above six pieces, and below that its asserts (1.13.1) can end the process.
 */
static struct cut cut_message(const struct mc_be *be, const struct iovec *iov, uint32_t n, uint64_t len, bool copy)
{
	struct cut c = {.rest = iov, .rest_n = n, .rest_len = len};

	if (!copy && n > 1 && iov[0].iov_len > 0 && UCX_HDR_LEN + iov[0].iov_len <= be->head_max) {
		c.head = (uint32_t)iov[0].iov_len;
		c.rest++;
		c.rest_n--;
		c.rest_len -= c.head;
	}
	c.gather = copy || c.rest_n != 1;
	return c;
}

static struct ucx_op *send_op(struct mc_be *be, const struct cut *c)
{
	struct ucx_op *op = mc_ucx_op_get(be, c->gather ? (uint32_t)c->rest_len : 0);

	if (op != NULL && c->head > 0 && !head_room(op, c->head)) {
		mc_ucx_op_put(op);
		return NULL;
	}
	return op;
}

mc_status_t mc_ucx_send(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, uint32_t flags,
			uint64_t cookie)
{
	bool copy = (flags & MC_SEND_COPY) != 0;
	struct ucx_op *op;
	struct cut c;
	uint64_t len;
	mc_status_t s;

	if (n > UCX_IOV_MAX || !iov_total(iov, n, &len) || len > UCX_MSG_MAX || (copy && len > UCX_COPY_MAX))
		return MC_ERR_INVAL;
	s = link_ready(ep);
	if (s != MC_OK)
		return s;
	c = cut_message(be, iov, n, len, copy);
	op = mc_ucx_room(ep->link) ? send_op(be, &c) : NULL;
	if (op == NULL) {
		ep->link->starved = true;
		return MC_ERR_AGAIN;
	}
	op->kind = copy ? OP_COPY : OP_SEND;
	op->bytes = len;
	op->cookie = cookie;
	mc_ucx_op_begin(op, ep->link, ep);
	if (ep->link->waiting_n > 0) {
		ep->link->overtakers++;
		ep->link->overtaker_bytes += len;
	}
	if (c.head > 0)
		memcpy(op->head + UCX_HDR_LEN, iov[0].iov_base, c.head);
	if (c.gather)
		gather(op->buf, c.rest, c.rest_n);
	mc_ucx_op_transmit(op, UCX_MSG, op->link->id, op->link->tx_seq++, c.head, c.gather ? op->buf : c.rest->iov_base,
			   c.rest_len);
	mc_ucx_op_check(op);
	return MC_OK;
}

/* ---- receiving --------------------------------------------------------------------------------------------------- */

static bool rx_room(struct ucx_rx *rx, uint32_t cap)
{
	uint8_t *buf;

	if (cap <= rx->cap)
		return true;
	buf = malloc(cap);
	if (buf == NULL)
		return false;
	free(rx->buf);
	rx->buf = buf;
	rx->cap = cap;
	return true;
}

static struct ucx_rx *rx_get(struct mc_be *be, uint32_t cap)
{
	struct mc_list *l = mc_list_pop(&be->free_rx);
	struct ucx_rx *rx = l != NULL ? mc_container_of(l, struct ucx_rx, node) : calloc(1, sizeof(*rx));

	if (rx == NULL)
		return NULL;
	be->free_rx_bytes -= l != NULL ? rx->cap : 0;
	mc_list_init(&rx->node);
	rx->desc = NULL;
	if (rx_room(rx, cap))
		return rx;
	mc_ucx_rx_put(be, rx);
	return NULL;
}

void mc_ucx_rx_put(struct mc_be *be, struct ucx_rx *rx)
{
	if (rx->desc != NULL)
		ucp_am_data_release(be->worker, rx->desc);
	rx->desc = NULL;
	if (rx->cap > KEEP_BUF || be->free_rx_bytes + rx->cap > KEEP_RX) {
		free(rx->buf);
		rx->buf = NULL;
		rx->cap = 0;
	}
	be->free_rx_bytes += rx->cap;
	/* Last in, first out: its memory is still in the cache. */
	mc_list_add_tail(be->free_rx.next, &rx->node);
}

void mc_ucx_rx_free(struct mc_be *be, struct mc_list *list)
{
	for (struct mc_list *l = mc_list_pop(list); l != NULL; l = mc_list_pop(list)) {
		struct ucx_rx *rx = mc_container_of(l, struct ucx_rx, node);
		if (rx->desc != NULL)
			ucp_am_data_release(be->worker, rx->desc);
		free(rx->buf);
		free(rx);
	}
}

/* May bulk data be taken to their place at once? Only in order, so that nothing that was sent before is overtaken. */
static bool in_order(struct mc_be *be, const struct ucx_rx *rx)
{
	struct ucx_link *link = rx->kind == UCX_MSG ? mc_ucx_link_find(be, rx->id) : NULL;

	if (link == NULL || rx->seq != link->cb_seq || link->state == LINK_LEAVING || link->err != UCS_OK)
		return false;
	link->cb_seq++;
	return true;
}

/* The message's bytes are UCX's and go when the callback returns. false: no memory. */
static bool rx_keep(struct mc_be *be, struct ucx_rx *rx, const void *head, uint32_t head_len, const void *data,
		    uint32_t len)
{
	bool ordered = in_order(be, rx);

	if (ordered && head_len > 0 && len > 0 && be->bulk != NULL) {
		memcpy(rx->buf, head, head_len);
		rx->placed = be->bulk(be->bulk_arg, rx->buf, head_len, data, len) ? len : 0;
	}
	if (!rx_room(rx, head_len + (rx->placed > 0 ? 0 : len) + 1))
		return false;
	rx->data = rx->buf;
	rx->len = head_len;
	if (rx->placed > 0)
		return true;
	if (head_len > 0)
		memcpy(rx->buf, head, head_len);
	if (len > 0)
		memcpy(rx->buf + head_len, data, len);
	rx->len += len;
	return true;
}

static ucs_status_t no_memory(struct mc_be *be, size_t len)
{
	mc_error("ucx: rank %u: no memory for a message of %zu bytes", be->rank, len);
	be->fatal = true;
	return UCS_OK;
}

/* UCX's callback: keep the message for after the progress call. */
static ucs_status_t on_am(void *arg, const void *header, size_t header_len, void *data, size_t len,
			  const ucp_am_recv_param_t *param)
{
	struct mc_be *be = arg;
	struct mc_rd r;
	struct ucx_rx *rx;
	uint16_t magic, kind;
	size_t head_len = header_len - UCX_HDR_LEN;
	bool keep = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA) != 0 && ((uintptr_t)data & 7) == 0;

	mc_rd_init(&r, header, header_len);
	magic = mc_rd_u16(&r);
	kind = mc_rd_u16(&r);
	mc_rd_u32(&r);
	if (magic != HDR_MAGIC || header_len < UCX_HDR_LEN || head_len > UCX_HEAD_MAX || len > UCX_MSG_MAX - head_len ||
	    (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
		if (mc_ratelimit_ok(&be->limit, 5))
			mc_warn("ucx: rank %u: a message of %zu bytes is not one of ours; ignored", be->rank, len);
		return UCS_OK;
	}
	keep = keep && head_len == 0;
	rx = rx_get(be, keep ? 0 : (uint32_t)head_len + 1);
	if (rx == NULL)
		return no_memory(be, len);
	rx->kind = (enum ucx_kind)kind;
	rx->id = mc_rd_u64(&r);
	rx->seq = mc_rd_u64(&r);
	rx->placed = 0;
	if (keep) {
		(void)in_order(be, rx);
		rx->data = data;
		rx->desc = data;
		rx->len = (uint32_t)len;
	} else if (!rx_keep(be, rx, (const uint8_t *)header + UCX_HDR_LEN, (uint32_t)head_len, data, (uint32_t)len)) {
		mc_ucx_rx_put(be, rx);
		return no_memory(be, len);
	}
	mc_list_add_tail(&be->inbox, &rx->node);
	return keep ? UCS_INPROGRESS : UCS_OK;
}

mc_status_t mc_ucx_am_register(struct mc_be *be)
{
	ucp_am_handler_param_t p = {
		.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
			      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
		.id = UCX_AM_ID,
		.flags = UCP_AM_FLAG_WHOLE_MSG,
		.cb = on_am,
		.arg = be,
	};

	return mc_ucx_status(ucp_worker_set_am_recv_handler(be->worker, &p));
}

/* The message whose turn it is. Takes rx. */
static void rx_accept(struct ucx_link *link, struct ucx_rx *rx)
{
	struct mc_be *be = link->be;

	link->rx_seq++;
	if (link->cb_seq < link->rx_seq)
		link->cb_seq = link->rx_seq;
	if (rx->kind == UCX_MSG && link->state != LINK_LEAVING) {
		mc_ucx_event(be, MC_EV_MSG, MC_OK, UCS_OK, 0, NULL, rx);
		return;
	}
	if (rx->kind == UCX_GONE)
		mc_ucx_region_gone(link, rx);
	else if (rx->kind == UCX_OPEN)
		mc_ucx_meet_up(link);
	else if (rx->kind == UCX_BYE) {
		link->peer_left = true;
		be->has_err = true;
	}
	mc_ucx_rx_put(be, rx);
}

/* Put a message that came early where it belongs. Takes rx. */
static void rx_hold(struct ucx_link *link, struct ucx_rx *rx)
{
	struct mc_list *l = link->held.prev;

	if (link->held_n >= UCX_HELD_MAX || rx->seq < link->rx_seq) {
		mc_error("ucx: rank %u: rank %u sends message %llu when %llu is due: link given up", link->be->rank,
			 link->rank, (unsigned long long)rx->seq, (unsigned long long)link->rx_seq);
		link->err = UCS_ERR_INVALID_PARAM;
		link->be->has_err = true;
		mc_ucx_rx_put(link->be, rx);
		return;
	}
	while (l != &link->held && mc_container_of(l, struct ucx_rx, node)->seq > rx->seq)
		l = l->prev;
	mc_list_add_tail(l->next, &rx->node);
	link->held_n++;
}

static void rx_dispatch(struct mc_be *be, struct ucx_rx *rx)
{
	struct ucx_link *link;

	if (rx->kind == UCX_HELLO)
		mc_ucx_hello(be, rx);
	link = mc_ucx_link_find(be, rx->id);
	if (link == NULL) {
		mc_debug("ucx: rank %u: message of kind %d on an unknown link", be->rank, (int)rx->kind);
		mc_ucx_rx_put(be, rx);
		return;
	}
	if (rx->kind == UCX_BYE_NOW) {
		link->peer_left = true;
		be->has_err = true;
		mc_ucx_rx_put(be, rx);
		return;
	}
	if (rx->seq != link->rx_seq) {
		rx_hold(link, rx);
		return;
	}
	rx_accept(link, rx);
	while (!mc_list_empty(&link->held)) {
		rx = mc_container_of(link->held.next, struct ucx_rx, node);
		if (rx->seq != link->rx_seq)
			break;
		mc_list_del(&rx->node);
		link->held_n--;
		rx_accept(link, rx);
	}
}

void mc_ucx_inbox_run(struct mc_be *be)
{
	for (struct mc_list *l = mc_list_pop(&be->inbox); l != NULL; l = mc_list_pop(&be->inbox))
		rx_dispatch(be, mc_container_of(l, struct ucx_rx, node));
}

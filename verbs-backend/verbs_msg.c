/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_msg.c - messages out. A message is one packet or several; packets are numbered per link and go over whatever
 * rail has room, within the window that the peer grants: so many of its receive buffers are ours. What cannot go now
 * waits in order. The message of a post waits until the bytes before it are there, or sure to be there before it: on
 * one lane nothing overtakes, so it may follow them at once if no other lane has any of them under way.
 */
#include <stdlib.h>
#include <string.h>

#include "verbs.h"
#include "wire.h"

/* ---- packets ----------------------------------------------------------------------------------------------------- */

static bool credit(const struct vb_link *link)
{
	return link->tx_seq - link->tx_acked < link->tx_window;
}

static void head_put(struct vb_link *link, uint8_t *slot, uint8_t kind, uint8_t flags, uint32_t total)
{
	struct vb_pkt p = {.kind = kind, .flags = flags, .total = total, .ack = link->rx_taken};

	if (kind != VB_PKT_ACK)
		p.seq = link->tx_seq++;
	link->rx_told = link->rx_taken;
	link->told_lost = false;
	mc_vb_pkt_make(&p, slot);
}

static void ack_run(struct vb_link *link)
{
	struct mc_be *be = link->be;
	struct vb_wr wr = {.kind = WR_ACK, .sge_n = 1, .len = VB_HDR_LEN};
	struct vb_chain c;
	struct vb_qp *q;

	if (link->rx_taken - link->rx_told < (be->plan.window + 1) / 2 && !link->told_lost)
		return;
	q = mc_vb_lane_pick(link);
	if (q == NULL || !mc_vb_slot_get(be, &wr.slot))
		return;
	head_put(link, mc_vb_slot(be, wr.slot), VB_PKT_ACK, 0, 0);
	mc_vb_chain_start(&c, q);
	mc_vb_chain_add(&c, &wr);
	mc_vb_chain_post(&c);
	be->stats.acks++;
}

void mc_vb_work(struct vb_link *link)
{
	if (mc_list_empty(&link->work))
		mc_list_add_tail(&link->be->working, &link->work);
}

/* ---- a message's life -------------------------------------------------------------------------------------------- */

static struct vb_tx *tx_get(struct mc_be *be)
{
	struct mc_list *l = mc_list_pop(&be->free_tx);
	struct vb_tx *tx = l != NULL ? mc_container_of(l, struct vb_tx, node) : calloc(1, sizeof(*tx));

	if (tx == NULL)
		return NULL;
	mc_list_init(&tx->node);
	mc_list_init(&tx->ep_node);
	tx->be = be;
	tx->ep = NULL;
	tx->op = NULL;
	tx->kind = VB_PKT_DATA;
	tx->at = tx->frags = tx->total = tx->iov_n = 0;
	tx->whole = tx->copied = tx->snapshot = false;
	return tx;
}

static void tx_put(struct mc_be *be, struct vb_tx *tx)
{
	mc_list_del(&tx->ep_node);
	mc_list_del(&tx->node);
	mc_list_add_tail(be->free_tx.next, &tx->node);
}

void mc_vb_tx_free_all(struct mc_be *be)
{
	struct mc_list *l;

	while ((l = mc_list_pop(&be->free_tx)) != NULL) {
		struct vb_tx *tx = mc_container_of(l, struct vb_tx, node);
		free(tx->copy);
		free(tx);
	}
}

/* It has left, or never will. */
static void tx_end(struct mc_be *be, struct vb_tx *tx, mc_status_t s)
{
	struct vb_op *op = tx->op;

	if (!tx->copied && tx->ep != NULL)
		mc_vb_event(be, MC_EV_SENT, s, 0, NULL, tx->cookie, NULL);
	tx_put(be, tx);
	if (op != NULL) {
		op->msg = NULL;
		op->msg_pending = false;
		if (s != MC_OK && op->status == MC_OK)
			op->status = s;
		mc_vb_op_check(op);
	}
}

void mc_vb_tx_frag_done(struct vb_tx *tx, mc_status_t s)
{
	tx->frags--;
	if (tx->frags == 0 && tx->whole)
		tx_end(tx->be, tx, s);
}

void mc_vb_tx_drop(struct vb_link *link, struct vb_tx *tx)
{
	if (!mc_list_empty(&tx->node))
		link->txq_n--;
	if (tx->op != NULL)
		tx->op->msg = NULL;
	tx_put(link->be, tx);
}

/* ---- cutting a message into packets ------------------------------------------------------------------------------ */

static void gather(const struct vb_tx *tx, uint32_t at, uint8_t *out, uint32_t len)
{
	for (uint32_t i = 0; i < tx->iov_n && len > 0; i++) {
		uint32_t n = (uint32_t)tx->iov[i].iov_len, k;
		if (at >= n) {
			at -= n;
			continue;
		}
		k = n - at < len ? n - at : len;
		memcpy(out, (const uint8_t *)tx->iov[i].iov_base + at, k);
		out += k;
		len -= k;
		at = 0;
	}
}

static bool packet_add(struct vb_link *link, struct vb_tx *tx, struct vb_chain *c)
{
	struct mc_be *be = link->be;
	uint32_t left = tx->total - tx->at, n = left < VB_PAYLOAD ? left : VB_PAYLOAD;
	uint8_t flags = (uint8_t)((tx->at == 0 ? VB_PKT_FIRST : 0) | (n == left ? VB_PKT_LAST : 0));
	struct vb_wr wr = {.kind = WR_DATA, .sge_n = 1, .len = VB_HDR_LEN + n, .op = tx->op, .tx = tx};
	uint8_t *slot;

	if (!credit(link) || mc_vb_chain_full(c) || !mc_vb_slot_get(be, &wr.slot))
		return false;
	slot = mc_vb_slot(be, wr.slot);
	head_put(link, slot, tx->kind, flags, tx->total);
	gather(tx, tx->at, slot + VB_HDR_LEN, n);
	tx->at += n;
	tx->frags++;
	tx->whole = n == left;
	mc_vb_chain_add(c, &wr);
	be->stats.packets++;
	return true;
}

/* ---- the message of a post: when, and over which lane ------------------------------------------------------------ */

static void snapshot_take(struct vb_link *link, struct vb_tx *tx)
{
	tx->snapshot = mc_list_empty(&link->again);
	tx->epoch = link->epoch;
	for (uint32_t i = 0; i < link->lane_n; i++)
		tx->need[i] = link->lane[i]->head;
}

/* All bytes of this post and of those before it are there. */
static bool all_there(const struct vb_link *link, const struct vb_op *op)
{
	for (const struct mc_list *l = link->ops.next; l != &link->ops; l = l->next) {
		const struct vb_op *o = mc_container_of(l, struct vb_op, node);
		if (o->pending > 0)
			return false;
		if (o == op)
			break;
	}
	return true;
}

/* NULL: not now. */
static struct vb_qp *gate(struct vb_link *link, const struct vb_tx *tx)
{
	struct vb_qp *only = NULL;

	if (tx->op == NULL)
		return mc_vb_lane_pick(link);
	if (tx->op->status != MC_OK) /* it goes when the post ends */
		return NULL;
	if (!tx->snapshot || tx->epoch != link->epoch)
		return all_there(link, tx->op) ? mc_vb_lane_pick(link) : NULL;
	for (uint32_t i = 0; i < link->lane_n; i++) {
		if (link->lane[i]->done >= tx->need[i])
			continue;
		if (only != NULL)
			return NULL;
		only = link->lane[i];
	}
	if (only == NULL)
		return mc_vb_lane_pick(link);
	return mc_vb_room(only) > 0 ? only : NULL;
}

/* ---- what waits -------------------------------------------------------------------------------------------------- */

/* As much of the first message as can go. false: no more can go now. */
static bool first_run(struct vb_link *link)
{
	struct vb_tx *tx = mc_container_of(link->txq.next, struct vb_tx, node);
	struct vb_qp *q = gate(link, tx);
	struct vb_chain c;
	bool more = true;

	if (q == NULL || !credit(link))
		return false;
	mc_vb_chain_start(&c, q);
	while (!tx->whole && more)
		more = packet_add(link, tx, &c);
	if (tx->whole) {
		mc_list_del(&tx->node);
		link->txq_n--;
	}
	more = c.n > 0;
	mc_vb_chain_post(&c);
	return more;
}

void mc_vb_msg_run(struct vb_link *link)
{
	while (!mc_list_empty(&link->txq) && link->lane_n > 0 && first_run(link))
		;
	if (link->lane_n > 0)
		ack_run(link);
}

/* ---- send -------------------------------------------------------------------------------------------------------- */

/* At once and without a copy in between, if everything is free. */
static bool send_now(struct vb_link *link, const struct iovec *iov, uint32_t n, uint32_t total)
{
	struct vb_wr wr = {.kind = WR_DATA, .sge_n = 1, .len = VB_HDR_LEN + total};
	struct vb_qp *q = mc_vb_lane_pick(link);
	struct vb_chain c;
	uint8_t *slot;

	if (!mc_list_empty(&link->txq) || !credit(link) || q == NULL || !mc_vb_slot_get(link->be, &wr.slot))
		return false;
	slot = mc_vb_slot(link->be, wr.slot);
	head_put(link, slot, VB_PKT_DATA, VB_PKT_FIRST | VB_PKT_LAST, total);
	slot += VB_HDR_LEN;
	for (uint32_t i = 0; i < n; i++) {
		if (iov[i].iov_len > 0)
			memcpy(slot, iov[i].iov_base, iov[i].iov_len);
		slot += iov[i].iov_len;
	}
	mc_vb_chain_start(&c, q);
	mc_vb_chain_add(&c, &wr);
	mc_vb_chain_post(&c);
	link->be->stats.packets++;
	return true;
}

static bool tx_copy(struct vb_tx *tx, const struct iovec *iov, uint32_t n, uint32_t total)
{
	uint8_t *p;

	if (tx->copy == NULL)
		tx->copy = malloc(VB_PAYLOAD);
	p = tx->copy;
	if (p == NULL)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		if (iov[i].iov_len > 0)
			memcpy(p, iov[i].iov_base, iov[i].iov_len);
		p += iov[i].iov_len;
	}
	tx->copied = true;
	tx->iov_n = 1;
	tx->iov[0] = (struct iovec){.iov_base = tx->copy, .iov_len = total};
	return true;
}

static void tx_enqueue(struct vb_link *link, struct vb_tx *tx, uint32_t total)
{
	tx->total = total;
	mc_list_add_tail(&link->txq, &tx->node);
	link->txq_n++;
	mc_vb_msg_run(link);
}

/* The message of a post. NULL: no room. */
struct vb_tx *mc_vb_tx_queue(struct vb_link *link, const void *p, uint32_t len, struct vb_op *op)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = len};
	struct vb_tx *tx = link->txq_n < VB_TXQ_MAX ? tx_get(link->be) : NULL;

	if (tx == NULL)
		return NULL;
	if (!tx_copy(tx, &iov, 1, len)) {
		tx_put(link->be, tx);
		return NULL;
	}
	tx->op = op;
	tx->ep = op->ep;
	snapshot_take(link, tx);
	op->msg = tx;
	op->msg_pending = true;
	tx_enqueue(link, tx, len);
	return tx;
}

/* In order with messages, so that who was told by one of them that a region is gone posts to it no more. */
void mc_vb_gone_send(struct vb_link *link, uint64_t region)
{
	uint8_t body[8];
	struct iovec iov = {.iov_base = body, .iov_len = sizeof(body)};
	struct vb_tx *tx = link->state == LINK_UP ? tx_get(link->be) : NULL;
	struct mc_wr w;

	if (tx == NULL)
		return; /* the card refuses what comes */
	mc_wr_init(&w, body, sizeof(body));
	mc_wr_u64(&w, region);
	if (!tx_copy(tx, &iov, 1, sizeof(body))) {
		tx_put(link->be, tx);
		return;
	}
	tx->kind = VB_PKT_GONE;
	tx_enqueue(link, tx, sizeof(body));
}

mc_status_t mc_vb_send(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, uint32_t flags,
		       uint64_t cookie)
{
	struct vb_link *link = ep->link;
	uint64_t total = 0;
	struct vb_tx *tx;
	bool copy = (flags & MC_SEND_COPY) != 0;

	for (uint32_t i = 0; i < n && n <= VB_IOV_MAX; i++)
		if (!mc_add_u64(total, iov[i].iov_len, &total))
			return MC_ERR_INVAL;
	if (n > VB_IOV_MAX || total > (copy ? (uint64_t)VB_COPY_MAX : VB_MSG_MAX) || link == NULL)
		return MC_ERR_INVAL;
	if (link->state == LINK_DEAD || ep->down)
		return MC_ERR_PEER_DOWN;
	if (link->state != LINK_UP)
		return MC_ERR_AGAIN;
	mc_vb_touch(link);
	if (copy && send_now(link, iov, n, (uint32_t)total))
		return MC_OK;
	tx = link->txq_n < VB_TXQ_MAX ? tx_get(be) : NULL;
	if (tx == NULL)
		return MC_ERR_AGAIN;
	tx->ep = ep;
	tx->cookie = cookie;
	if (copy && !tx_copy(tx, iov, n, (uint32_t)total)) {
		tx_put(be, tx);
		return MC_ERR_AGAIN;
	}
	if (!copy) {
		memcpy(tx->iov, iov, n * sizeof(*iov));
		tx->iov_n = n;
	}
	mc_list_add_tail(&ep->sends, &tx->ep_node);
	tx_enqueue(link, tx, (uint32_t)total);
	return MC_OK;
}

/* The link has ended, its lanes are gone: everything that was begun or waits ends. */
void mc_vb_txs_fail(struct vb_link *link, mc_status_t s)
{
	struct mc_list *l;

	while ((l = mc_list_pop(&link->txq)) != NULL) {
		link->txq_n--;
		tx_end(link->be, mc_container_of(l, struct vb_tx, node), s);
	}
}

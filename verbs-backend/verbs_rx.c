/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_rx.c - messages in: packets put into order, each taken once, put together. A message of one packet is handed
 * out where it arrived.
 */
#include <stdlib.h>
#include <string.h>

#include "verbs.h"
#include "wire.h"

static void bad_packet(struct vb_link *link, const char *what)
{
	mc_vb_link_fail(link, MC_ERR_PROTO, 0, what);
}

/* Part of a message of several packets. */
static void assemble(struct vb_link *link, const struct vb_pkt *p, const uint8_t *data, uint32_t len)
{
	if (p->flags & VB_PKT_FIRST) {
		if (link->msg != NULL || p->total <= len) {
			bad_packet(link, "messages overlap");
			return;
		}
		link->msg = malloc(p->total);
		link->msg_total = p->total;
		link->msg_at = 0;
		if (link->msg == NULL) {
			mc_vb_link_fail(link, MC_ERR_NOMEM, 0, "no memory for a message");
			return;
		}
	}
	if (link->msg == NULL || len > link->msg_total - link->msg_at || len == 0) {
		bad_packet(link, "packets do not make a message");
		return;
	}
	memcpy(link->msg + link->msg_at, data, len);
	link->msg_at += len;
	if (((p->flags & VB_PKT_LAST) != 0) != (link->msg_at == link->msg_total)) {
		bad_packet(link, "a message has another length than announced");
		return;
	}
	if (link->msg_at == link->msg_total) {
		mc_vb_event_msg(link->be, link->msg, link->msg_total, NULL, link->msg);
		link->msg = NULL;
	}
}

/* The peer has freed a region. */
static void region_gone(struct vb_link *link, const uint8_t *data)
{
	struct mc_rd r;
	uint64_t id;

	mc_rd_init(&r, data, 8);
	id = mc_rd_u64(&r);
	for (struct mc_list *l = link->rmems.next; l != &link->rmems; l = l->next) {
		struct mc_be_rmem *rmem = mc_container_of(l, struct mc_be_rmem, node);
		rmem->stale |= rmem->id == id;
	}
}

/* The next in order. Its buffer is given out, or back. */
static void take(struct vb_link *link, struct vb_buf *buf)
{
	struct vb_pkt p;
	uint8_t *data = buf->data + VB_HDR_LEN;
	uint32_t len = buf->len - VB_HDR_LEN;

	(void)mc_vb_pkt_parse(buf->data, buf->len, &p); /* was looked at when it came */
	link->rx_taken++;
	mc_vb_idle_join(link);
	if (p.kind == VB_PKT_DATA && p.flags == (VB_PKT_FIRST | VB_PKT_LAST)) {
		if (p.total != len || link->msg != NULL) {
			mc_vb_buf_put(link->be, buf);
			bad_packet(link, "a message has another length than announced");
			return;
		}
		mc_vb_event_msg(link->be, data, len, buf, NULL);
		return;
	}
	if (p.kind == VB_PKT_GONE)
		region_gone(link, data);
	if (p.kind == VB_PKT_DATA)
		assemble(link, &p, data, len);
	mc_vb_buf_put(link->be, buf);
}

static void on_ack(struct vb_link *link, uint64_t ack)
{
	if (ack <= link->tx_acked)
		return;
	if (ack > link->tx_seq) {
		bad_packet(link, "packets are acknowledged that were never sent");
		return;
	}
	link->tx_acked = ack;
	if (!mc_list_empty(&link->txq))
		mc_vb_work(link);
}

void mc_vb_rx(struct vb_qp *q, struct vb_buf *buf)
{
	struct vb_link *link = q->rail->link;
	struct mc_be *be = link->be;
	struct vb_pkt p;
	uint64_t seq;

	if (link->state == LINK_DEAD || mc_vb_pkt_parse(buf->data, buf->len, &p) != MC_OK) {
		mc_vb_buf_put(be, buf);
		if (link->state != LINK_DEAD)
			bad_packet(link, "malformed packet");
		return;
	}
	on_ack(link, p.ack);
	if (p.kind == VB_PKT_ACK || link->state == LINK_DEAD) {
		mc_vb_buf_put(be, buf);
		return;
	}
	switch (mc_vb_win_put(&link->win, p.seq)) {
	case VB_WIN_NEW:
		break;
	case VB_WIN_AGAIN: /* sent a second time by another rail */
		mc_vb_buf_put(be, buf);
		return;
	case VB_WIN_BAD:
		mc_vb_buf_put(be, buf);
		bad_packet(link, "more packets than were granted");
		return;
	}
	link->held[p.seq % VB_WIN_MAX] = buf;
	while (link->state != LINK_DEAD && mc_vb_win_take(&link->win, &seq)) {
		struct vb_buf *b = link->held[seq % VB_WIN_MAX];
		link->held[seq % VB_WIN_MAX] = NULL;
		take(link, b);
	}
	if (link->rx_taken - link->rx_told >= (be->plan.window + 1) / 2)
		mc_vb_work(link);
}

void mc_vb_rx_free(struct vb_link *link)
{
	for (uint32_t i = 0; i < VB_WIN_MAX; i++) {
		if (link->held[i] != NULL)
			mc_vb_buf_put(link->be, link->held[i]);
		link->held[i] = NULL;
	}
	free(link->msg);
	link->msg = NULL;
}

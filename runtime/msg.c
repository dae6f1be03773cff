/* SPDX-License-Identifier: BSD-3-Clause */
/* msg.c - messages between engines: framed, sent in order, queued while the backend has no room; and their arrival. */
#include <stdlib.h>
#include <string.h>

#include "foreign.h"

enum { SMALL_BUF = 512, SMALL_IOV = 2, LARGE_BUF = 96 * 1024, LARGE_IOV = 1024, TXQ_MAX = 65536, NOISE_PER_S = 5 };

static struct mc_tx *tx_new(bool large)
{
	uint32_t buf = large ? LARGE_BUF : SMALL_BUF, iov = large ? LARGE_IOV : SMALL_IOV;
	struct mc_tx *tx = calloc(1, sizeof(*tx) + iov * sizeof(struct iovec));
	if (tx == NULL)
		return NULL;
	tx->buf = malloc(buf);
	if (tx->buf == NULL) {
		free(tx);
		return NULL;
	}
	tx->iov = (struct iovec *)(tx + 1);
	tx->buf_room = buf;
	tx->iov_room = iov;
	tx->large = large;
	mc_list_init(&tx->node);
	return tx;
}

struct mc_tx *mc_tx_get(struct mc_peer *p, enum mc_msg_kind kind, bool large)
{
	struct mc_list *l = mc_list_pop(&p->ctx->tx_free[large]);
	struct mc_tx *tx = l != NULL ? mc_container_of(l, struct mc_tx, node) : tx_new(large);
	if (tx == NULL) {
		mc_error("rank %u: out of memory for a message to peer %u", p->ctx->rank, p->id);
		return NULL;
	}
	tx->peer = p;
	tx->kind = (uint8_t)kind;
	tx->done = NULL;
	tx->req = NULL;
	tx->mem = NULL;
	tx->arg = 0;
	tx->flying = false;
	tx->framed = false;
	tx->data_len = 0;
	tx->iov_n = 1;
	tx->along = 0;
	tx->bounce_len = 0;
	return tx;
}

/* Last in, first out: its memory is still in the cache. */
void mc_tx_put(struct mc_tx *tx)
{
	mc_list_add_tail(tx->peer->ctx->tx_free[tx->large].next, &tx->node);
}

void mc_tx_free_all(struct mc_ctx *ctx)
{
	struct mc_list *l;
	for (int i = 0; i < 2; i++) {
		while ((l = mc_list_pop(&ctx->tx_free[i])) != NULL) {
			struct mc_tx *tx = mc_container_of(l, struct mc_tx, node);
			free(tx->bounce);
			free(tx->buf);
			free(tx);
		}
	}
}

void mc_tx_body(struct mc_tx *tx, struct mc_wr *w)
{
	mc_wr_init(w, tx->buf + MC_FRAME_LEN, tx->buf_room - MC_FRAME_LEN);
}

static void tx_end(struct mc_tx *tx, mc_status_t s)
{
	void (*done)(struct mc_tx *, mc_status_t) = tx->done;
	tx->done = NULL;
	if (done != NULL)
		done(tx, s);
	mc_tx_put(tx);
}

/* The header; body_len is set. */
static void tx_frame(struct mc_tx *tx)
{
	struct mc_peer *p = tx->peer;
	struct mc_frame f = {.kind = tx->kind,
			     .src_rank = p->ctx->rank,
			     .job = p->ctx->job,
			     .src_epoch = p->ctx->epoch ^ p->session,
			     .dst_epoch = p->epoch ^ p->session,
			     .body_len = tx->body_len,
			     .data_len = tx->data_len};
	bool sealed = !(p->link->caps.flags & MC_CAP_PRIVATE);
	mc_frame_encode(&f, tx->buf + MC_FRAME_LEN, p->key, sealed, tx->buf);
	tx->iov[0].iov_base = tx->buf;
	tx->iov[0].iov_len = MC_FRAME_LEN + tx->body_len;
	tx->framed = true;
}

/* Held messages go in front of this one, as many as there is room for in its buffer. */
static void take_along(struct mc_tx *tx)
{
	struct mc_peer *p = tx->peer;
	uint32_t own = MC_FRAME_LEN + tx->body_len, room = tx->buf_room - own, len = 0;
	uint64_t most = p->link->caps.msg_max, all = (uint64_t)own + tx->data_len;
	if (tx->along > 0 || all > most)
		return;
	most -= all;
	for (struct mc_list *l = p->held.next; l != &p->held; l = l->next) {
		uint32_t one = MC_FRAME_LEN + mc_container_of(l, struct mc_tx, node)->body_len;
		if (one % 8 != 0 || len + one > room || len + one > most)
			break;
		len += one;
	}
	memmove(tx->buf + len, tx->buf, own);
	for (uint32_t at = 0; at < len; p->tx_msgs++) {
		struct mc_tx *h = mc_container_of(mc_list_pop(&p->held), struct mc_tx, node);
		tx_frame(h);
		memcpy(tx->buf + at, h->buf, h->iov[0].iov_len);
		at += (uint32_t)h->iov[0].iov_len;
		tx_end(h, MC_OK);
	}
	tx->along = len;
	tx->iov[0].iov_len = len + own;
}

uint32_t mc_tx_encode(struct mc_tx *tx, const struct mc_wr *w)
{
	tx->body_len = (uint32_t)mc_wr_len(w);
	tx_frame(tx);
	return MC_FRAME_LEN + tx->body_len;
}

/* MC_OK: handed over (tx may be recycled); MC_ERR_AGAIN: no room; else the tx ended with that status. */
static mc_status_t tx_hand_over(struct mc_tx *tx)
{
	struct mc_peer *p = tx->peer;
	if (!mc_link_ready(p))
		return MC_ERR_AGAIN;
	if (!tx->framed)
		tx_frame(tx);
	if (!mc_list_empty(&p->held))
		take_along(tx);
	uint64_t total = (uint64_t)MC_FRAME_LEN + tx->body_len + tx->data_len + tx->along;
	uint32_t flags = total <= p->link->caps.copy_max ? MC_SEND_COPY : 0;
	mc_status_t s = p->link->ops->send(p->link->be, p->ep, tx->iov, tx->iov_n, flags, (uint64_t)(uintptr_t)tx);
	p->ctx->stale_arm = true;
	if (s == MC_ERR_AGAIN)
		return s;
	if (s != MC_OK) {
		mc_peer_fail(p, MC_ERR_PEER_DOWN, "%s cannot send: %s", p->link->ops->name, mc_status_text(s));
		tx_end(tx, p->dying_why);
		return s;
	}
	p->tx_msgs++;
	p->tx_bytes += tx->data_len;
	if (flags & MC_SEND_COPY) {
		tx_end(tx, MC_OK);
	} else {
		tx->flying = true;
		mc_list_add_tail(&p->flying, &tx->node);
	}
	return MC_OK;
}

/* False: it ended. */
static bool tx_ready(struct mc_tx *tx, const struct mc_wr *w)
{
	struct mc_peer *p = tx->peer;
	if (p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying) || mc_peer_start(p) != MC_OK) {
		tx_end(tx, p->state == MC_PEER_DOWN ? p->why : p->dying_why);
		return false;
	}
	if (w->bad) {
		mc_error("rank %u: a message of kind %u does not fit its buffer of %u bytes", p->ctx->rank, tx->kind,
			 tx->buf_room);
		tx_end(tx, MC_ERR_INTERNAL);
		return false;
	}
	tx->body_len = (uint32_t)mc_wr_len(w);
	return true;
}

static void tx_submit(struct mc_tx *tx)
{
	struct mc_peer *p = tx->peer;
	if (mc_list_empty(&p->txq) && tx_hand_over(tx) != MC_ERR_AGAIN)
		return;
	if (p->txq_n >= TXQ_MAX) {
		mc_peer_fail(p, MC_ERR_PROTO, "%u messages wait for it to read", p->txq_n);
		tx_end(tx, MC_ERR_PROTO);
		return;
	}
	mc_list_add_tail(&p->txq, &tx->node);
	p->txq_n++;
	if (mc_list_empty(&p->pump_node))
		mc_list_add_tail(&p->ctx->pumping, &p->pump_node);
}

void mc_tx_send(struct mc_tx *tx, const struct mc_wr *w)
{
	if (tx_ready(tx, w))
		tx_submit(tx);
}

/*
 * An answer that nobody is in a hurry for. As a rule the program sends something to that peer next: one message, one
 * system call and one wake-up over there instead of two. Nobody goes to sleep while any is held.
 */
void mc_tx_hold(struct mc_tx *tx, const struct mc_wr *w)
{
	struct mc_peer *p = tx->peer;
	if (!tx_ready(tx, w))
		return;
	mc_list_add_tail(&p->held, &tx->node);
	if (mc_list_empty(&p->held_node))
		mc_list_add_tail(&p->ctx->holding, &p->held_node);
	p->ctx->stale_arm = true;
}

void mc_tx_release(struct mc_ctx *ctx)
{
	struct mc_list *l, *t;
	while ((l = mc_list_pop(&ctx->holding)) != NULL) {
		struct mc_peer *p = mc_container_of(l, struct mc_peer, held_node);
		while ((t = mc_list_pop(&p->held)) != NULL)
			tx_submit(mc_container_of(t, struct mc_tx, node)); /* takes others along */
	}
}

void mc_tx_flush(struct mc_peer *p)
{
	while (!mc_list_empty(&p->txq) && p->state != MC_PEER_DOWN && mc_list_empty(&p->dying)) {
		struct mc_tx *tx = mc_container_of(p->txq.next, struct mc_tx, node);
		mc_list_del(&tx->node);
		mc_status_t s = tx_hand_over(tx);
		if (s == MC_ERR_AGAIN) { /* back to the front */
			tx->node.next = p->txq.next;
			tx->node.prev = &p->txq;
			p->txq.next->prev = &tx->node;
			p->txq.next = &tx->node;
			return;
		}
		p->txq_n--;
	}
}

void mc_tx_sent(struct mc_ctx *ctx, uint64_t cookie, mc_status_t s)
{
	struct mc_tx *tx = (struct mc_tx *)(uintptr_t)cookie;
	ctx->stale_arm = true;
	tx->flying = false;
	mc_list_del(&tx->node);
	tx_end(tx, s);
}

/* What waits for room ends here; what is at the backend ends with its SENT, which ep_close brings about. */
void mc_tx_fail_all(struct mc_peer *p, mc_status_t s)
{
	struct mc_list *l;
	while ((l = mc_list_pop(&p->txq)) != NULL || (l = mc_list_pop(&p->held)) != NULL)
		tx_end(mc_container_of(l, struct mc_tx, node), s);
	p->txq_n = 0;
}

static void on_ping(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t v = mc_rd_u64(r);
	struct mc_tx *tx = r->bad ? NULL : mc_tx_get(p, MC_MSG_PONG, false);
	if (tx == NULL)
		return;
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, v);
	mc_tx_send(tx, &w);
}

static void on_pong(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t v = mc_rd_u64(r);
	if (v > p->pings)
		r->bad = true;
	else if (v > p->pongs)
		p->pongs = v;
	mc_word_bump(p->ctx, &p->ctx->peer_seq);
}

static void on_notify(struct mc_peer *p, struct mc_rd *r)
{
	if (mc_notify_apply(p, r) != MC_OK)
		r->bad = true;
}

/* 0: it leaves; it keeps its link open until we answer. 1: its answer to our leaving. */
static void on_bye(struct mc_peer *p, struct mc_rd *r)
{
	uint8_t answer = mc_rd_u8(r);
	if (r->bad)
		return;
	if (answer == 0) {
		p->left = true; /* from here on a broken link is no news */
		mc_bye_send(p, 1);
		mc_peer_leave(p);
	}
	p->bye_sent = false;
	mc_word_bump(p->ctx, &p->ctx->peer_seq);
}

void mc_bye_send(struct mc_peer *p, uint8_t answer)
{
	struct mc_tx *tx = mc_tx_get(p, MC_MSG_BYE, false);
	if (tx == NULL)
		return;
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u8(&w, answer);
	mc_tx_send(tx, &w);
}

/* One row per kind; exactly one of the two handlers. A handler that finds the body malformed sets r->bad. */
static const struct {
	void (*plain)(struct mc_peer *p, struct mc_rd *r);
	void (*bulk)(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len);
} handler[MC_MSG_KINDS] = {
	[MC_MSG_NOTIFY] = {on_notify, NULL},
	[MC_MSG_PUT] = {NULL, mc_on_put},
	[MC_MSG_ACK] = {mc_on_ack, NULL},
	[MC_MSG_GET] = {mc_on_get, NULL},
	[MC_MSG_GET_DATA] = {NULL, mc_on_get_data},
	[MC_MSG_CANCEL] = {mc_on_cancel, NULL},
	[MC_MSG_LOOKUP] = {mc_on_lookup, NULL},
	[MC_MSG_LOOKUP_REPLY] = {mc_on_lookup_reply, NULL},
	[MC_MSG_PING] = {on_ping, NULL},
	[MC_MSG_PONG] = {on_pong, NULL},
	[MC_MSG_BYE] = {on_bye, NULL},
	[MC_MSG_COLL] = {NULL, mc_on_coll},
	[MC_MSG_COLL_ASK] = {mc_on_coll_ask, NULL},
	[MC_MSG_COLL_TELL] = {mc_on_coll_tell, NULL},
	[MC_MSG_COLL_ABORT] = {mc_on_coll_abort, NULL},
	[MC_MSG_REGION_ASK] = {mc_on_region_ask, NULL},
	[MC_MSG_REGION_TELL] = {mc_on_region_tell, NULL},
	[MC_MSG_REGION_GONE] = {mc_on_region_gone, NULL},
	[MC_MSG_WELCOME] = {mc_on_welcome, NULL},
	[MC_MSG_COLL_BOARD] = {mc_on_coll_board, NULL},
};

/* Whom is it from, and is it meant for this incarnation? NULL: refused (logged at a bounded rate). */
static struct mc_peer *sender_of(struct mc_ctx *ctx, const struct mc_frame *f)
{
	struct mc_peer *p = f->job != ctx->job        ? mc_foreign_sender(ctx, f->job, f->src_rank)
			    : f->src_rank < ctx->size ? mc_peer_get(ctx, f->src_rank)
						      : NULL;
	if (p == NULL) {
		mc_debug("rank %u: message of another job or of rank %u, which there is not: dropped", ctx->rank,
			 f->src_rank);
		return NULL;
	}
	if (p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying))
		return NULL;
	if (f->src_epoch != (p->epoch ^ p->session) || f->dst_epoch != (ctx->epoch ^ p->session)) {
		bool other = f->src_epoch != (p->epoch ^ p->session);
		if (mc_ratelimit_ok(&p->noise, NOISE_PER_S))
			mc_warn("rank %u: message from %s incarnation of peer %u: dropped", ctx->rank,
				other ? "another" : "or to an earlier", p->id);
		return NULL;
	}
	return p;
}

/* Under which key a message must be sealed; NULL: of a job that we do not know. */
static const struct mc_mac_key *key_of(struct mc_ctx *ctx, const void *msg, uint32_t len)
{
	struct mc_frame f;
	if (ctx->foreign != NULL && mc_frame_peek(msg, len, &f) && f.job != ctx->job)
		return mc_foreign_key(ctx, &f);
	return &ctx->key;
}

/* Bulk data to its place before the message's turn, while it is still in the network's buffer. */
bool mc_msg_bulk(void *slot, const void *head, uint32_t head_len, const void *rest, uint32_t rest_len)
{
	const struct mc_be_slot *from = slot;
	struct mc_ctx *ctx = from->ctx;
	bool sealed = !(from->caps.flags & MC_CAP_PRIVATE);
	const uint8_t *body;
	struct mc_frame f;
	struct mc_rd r;
	for (uint32_t n; (n = (uint32_t)mc_frame_span(head, head_len)) < head_len; head_len -= n)
		head = (const uint8_t *)head + n; /* the data are the last frame's */
	const struct mc_mac_key *key = key_of(ctx, head, head_len);
	if (key == NULL || mc_frame_decode_head(head, head_len, rest_len, key, sealed, &f, &body) != MC_OK)
		return false; /* said when its turn comes */
	struct mc_peer *p = f.kind == MC_MSG_PUT || f.kind == MC_MSG_GET_DATA ? sender_of(ctx, &f) : NULL;
	if (p == NULL)
		return false;
	mc_rd_init(&r, body, f.body_len);
	return f.kind == MC_MSG_PUT ? mc_put_place(p, &r, rest, rest_len) : mc_get_data_place(p, &r, rest, rest_len);
}

static void frame_arrived(struct mc_ctx *ctx, struct mc_be_slot *slot, const void *msg, uint32_t len, uint32_t placed)
{
	struct mc_frame f;
	const uint8_t *body, *data = NULL;
	bool sealed = !(slot->caps.flags & MC_CAP_PRIVATE);
	const struct mc_mac_key *key = key_of(ctx, msg, len);
	mc_status_t s = MC_ERR_AUTH;
	if (key != NULL && placed > 0) /* what was placed was checked then */
		s = mc_frame_decode_head(msg, len, placed, key, false, &f, &body);
	else if (key != NULL)
		s = mc_frame_decode(msg, len, key, sealed, &f, &body, &data);
	if (s != MC_OK) {
		static const char *const hint = "not from this job, or damaged";
		mc_debug("rank %u: message of %u bytes by %s dropped: %s (%s)", ctx->rank, len, slot->ops->name,
			 mc_status_text(s), hint);
		return;
	}
	struct mc_rd r;
	mc_rd_init(&r, body, f.body_len);
	if (f.kind == MC_MSG_JOIN) {
		mc_on_join(ctx, &f, &r);
		return;
	}
	struct mc_peer *p = sender_of(ctx, &f);
	if (p == NULL)
		return;
	p->rx_msgs++;
	p->rx_bytes += f.data_len;
	bool bad = f.kind >= MC_MSG_KINDS;
	if (!bad && handler[f.kind].plain != NULL && f.data_len == 0)
		handler[f.kind].plain(p, &r);
	else if (!bad && handler[f.kind].bulk != NULL)
		handler[f.kind].bulk(p, &r, data, f.data_len);
	else
		bad = true;
	if (bad || !mc_rd_end(&r))
		mc_peer_fail(p, MC_ERR_PROTO, "malformed message of kind %u (body %u, data %u bytes)", f.kind,
			     f.body_len, f.data_len);
}

/* A notification without much around it, from a rank of this job. False: another kind of message. */
static bool short_arrived(struct mc_ctx *ctx, const struct mc_be_slot *slot, const uint8_t *msg, uint32_t len)
{
	uint8_t kind;
	uint32_t rank;
	uint64_t check;
	if (!(slot->caps.flags & MC_CAP_PRIVATE) || !mc_short_decode(msg, len, &kind, &rank, &check))
		return false;
	struct mc_peer *p = rank < ctx->size ? mc_peer_get(ctx, rank) : NULL;
	if (p == NULL || check != mc_short_check(ctx->job, p->epoch, ctx->epoch)) {
		mc_debug("rank %u: short message of another incarnation of rank %u: dropped", ctx->rank, rank);
		return true;
	}
	if (p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying))
		return true;
	struct mc_rd r;
	mc_rd_init(&r, msg + MC_SHORT_LEN, len - MC_SHORT_LEN);
	p->rx_msgs++;
	if (kind == MC_MSG_NOTIFY)
		on_notify(p, &r);
	if (kind != MC_MSG_NOTIFY || !mc_rd_end(&r))
		mc_peer_fail(p, MC_ERR_PROTO, "malformed short message of kind %u (%u bytes)", kind, len);
	return true;
}

/* placed: so many bytes of bulk data of the last frame are where they belong already. */
void mc_msg_arrived(struct mc_ctx *ctx, struct mc_be_slot *slot, const void *msg, uint32_t len, uint32_t placed)
{
	const uint8_t *at = msg;
	if (placed == 0 && short_arrived(ctx, slot, at, len))
		return;
	do {
		uint32_t span = (uint32_t)mc_frame_span(at, len);
		frame_arrived(ctx, slot, at, span, span == len ? placed : 0);
		at += span;
		len -= span;
	} while (len > 0);
}

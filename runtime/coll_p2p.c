/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_p2p.c - carrying out steps. A step is looked at (step_go) whenever something it waits for has happened; handlers
 * only note what happened and queue the step, so that nothing here ends a request while somebody walks a list of them.
 *
 * Short steps travel in the message. For long ones the side whose memory is to be touched says where (READY: write
 * here; OFFER: read there), the other moves the bytes and says FIN.
 */
#include <stdio.h>
#include <string.h>

#include "coll.h"

enum { COPY_TURN = 1 << 20, BODY_MAX = 128 };

static struct mc_peer *peer_of(const struct mc_coll *c, const struct mc_step *s)
{
	return c->peer[s->rank];
}

static uint64_t offset_of(const struct mc_step *s)
{
	return (uint64_t)(s->addr - s->mem->addr);
}

static void queue(struct mc_coll *c, struct mc_step *s)
{
	uint32_t i = (uint32_t)(s - c->step);
	if (!s->queued) {
		s->queued = true;
		s->queue_next = MC_NO_STEP;
		if (c->queue == MC_NO_STEP)
			c->queue = i;
		else
			c->step[c->queue_tail].queue_next = i;
		c->queue_tail = i;
	}
	mc_coll_ready(c);
}

static void step_done(struct mc_coll *c, struct mc_step *s)
{
	s->state = MC_STEP_DONE;
	c->left--;
	for (uint32_t i = s->dep; i != MC_NO_STEP; i = c->step[i].dep_next) {
		c->step[i].open = true;
		queue(c, &c->step[i]);
	}
	mc_coll_ready(c);
}

static void step_checked(struct mc_coll *c, struct mc_step *s)
{
	if (s->checked)
		return;
	s->checked = true;
	if (s->key < MC_KEY_AGREE && --c->unchecked == 0 && c->gate != MC_NO_STEP) {
		c->step[c->gate].open = true;
		queue(c, &c->step[c->gate]);
	}
}

/* ---- messages out ---- */

static void data_gone(struct mc_tx *tx, mc_status_t st)
{
	struct mc_step *s = (struct mc_step *)(uintptr_t)tx->arg;
	struct mc_coll *c = s->coll;
	c->flying--;
	s->moved += tx->data_len;
	if (st != MC_OK)
		mc_coll_fail(c, MC_ERR_PEER_DOWN, tx->peer->id, true);
	else if (s->moved == s->len && s->state == MC_STEP_MOVING)
		step_done(c, s);
	mc_coll_ready(c);
}

/* A message without data holds on to nothing: if it cannot be sent its peer is lost, which is noticed by itself. */
static void send_msg(struct mc_coll *c, struct mc_step *s, uint8_t type, uint64_t off, uint32_t data_len)
{
	struct mc_peer *p = peer_of(c, s);
	struct mc_tx *tx = mc_tx_get(p, MC_MSG_COLL, false);
	if (tx == NULL) {
		mc_coll_fail(c, MC_ERR_NOMEM, c->ctx->rank, true);
		return;
	}
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, c->sig);
	mc_wr_u64(&w, c->seq);
	mc_wr_u64(&w, c->check);
	mc_wr_u64(&w, s->len);
	mc_wr_u64(&w, type == MC_CT_READY || type == MC_CT_OFFER ? s->mem->id : 0);
	mc_wr_u64(&w, off);
	mc_wr_u32(&w, s->key);
	mc_wr_u32(&w, c->root);
	mc_wr_u8(&w, type);
	mc_wr_u8(&w, (uint8_t)c->op);
	if (data_len > 0) {
		tx->iov[1].iov_base = s->addr + off;
		tx->iov[1].iov_len = data_len;
		tx->iov_n = 2;
		tx->data_len = data_len;
		tx->done = data_gone;
		tx->arg = (uint64_t)(uintptr_t)s;
		c->flying++;
	}
	mc_tx_send(tx, &w);
}

/* The whole step in messages, as many as the link's limit needs. */
static void send_data(struct mc_coll *c, struct mc_step *s)
{
	struct mc_peer *p = peer_of(c, s);
	mc_status_t st = mc_peer_start(p);
	if (st != MC_OK) {
		mc_coll_fail(c, st, p->id, true);
		return;
	}
	uint64_t max = c->ctx->msg_max - MC_FRAME_LEN - BODY_MAX, off = 0;
	if (max > c->ctx->cfg.pack_size)
		max = c->ctx->cfg.pack_size;
	s->state = MC_STEP_MOVING;
	do {
		uint64_t len = s->len - off < max ? s->len - off : max;
		send_msg(c, s, MC_CT_DATA, off, (uint32_t)len);
		off += len;
	} while (off < s->len && c->failing == MC_OK);
	if (s->len == 0)
		step_done(c, s);
}

/* ---- transfers ---- */

static void transfer_ended(struct mc_req *r, void *arg)
{
	struct mc_step *s = arg;
	struct mc_coll *c = s->coll;
	c->flying--;
	s->state = MC_STEP_IDLE;
	mc_coll_ready(c);
	if (c->failing != MC_OK)
		return;
	if (r->status == MC_ERR_STALE && !s->retried) {
		s->retried = true;
		mc_desc_drop(c->ctx->colls, r->peer, s->rid);
		queue(c, s);
	} else if (r->status != MC_OK) {
		mc_coll_fail(c, r->status, r->peer->id, true);
	} else {
		s->told = false; /* not again */
		s->landed = true;
		send_msg(c, s, MC_CT_FIN, 0, 0);
		if (s->kind == MC_STEP_SEND)
			step_done(c, s);
		else
			queue(c, s);
	}
}

static void transfer(struct mc_coll *c, struct mc_step *s)
{
	struct mc_peer *p = peer_of(c, s);
	mc_status_t st = MC_OK;
	struct mc_rmem *rmem = mc_desc_get(c->ctx->colls, p, s->rid, &st);
	if (rmem != NULL) {
		struct mc_slice slice = {s->mem, offset_of(s), rmem, s->roff, s->len};
		s->state = MC_STEP_MOVING;
		c->flying++;
		st = mc_xfer_submit(p, s->kind == MC_STEP_SEND ? MC_REQ_PUT : MC_REQ_GET, &slice, 1, NULL,
				    transfer_ended, s);
		if (st == MC_OK)
			return;
		c->flying--;
		s->state = MC_STEP_IDLE;
		if (st == MC_ERR_STALE && !s->retried) {
			s->retried = true;
			mc_desc_drop(c->ctx->colls, p, s->rid);
			queue(c, s);
			return;
		}
	}
	if (st == MC_ERR_AGAIN)
		s->state = MC_STEP_LOOKUP;
	else
		mc_coll_fail(c, st, p->id, true);
}

/* A region was looked up, or could not be: whoever waits for it goes on. */
void mc_coll_relook(struct mc_ctx *ctx, struct mc_peer *p, uint64_t rid, mc_status_t st)
{
	struct mc_colls *cs = ctx->colls;
	for (struct mc_list *l = cs->running.next; l != &cs->running; l = l->next) {
		struct mc_coll *c = mc_container_of(l, struct mc_coll, node);
		for (uint32_t i = 0; i < c->step_n; i++) {
			struct mc_step *s = &c->step[i];
			if (s->state != MC_STEP_LOOKUP || s->rid != rid || peer_of(c, s) != p)
				continue;
			s->state = MC_STEP_IDLE;
			if (st == MC_OK)
				queue(c, s);
			else
				mc_coll_fail(c, st, p->id, true);
		}
	}
}

/* ---- steps ---- */

/* False: the turn's bytes are used up before it is done. */
static bool copy_go(struct mc_coll *c, struct mc_step *s, uint64_t *budget)
{
	uint64_t len = s->len - s->moved < *budget ? s->len - s->moved : *budget;
	memcpy(s->addr + s->moved, s->from + s->moved, (size_t)len);
	s->moved += len;
	*budget -= len;
	if (s->moved == s->len)
		step_done(c, s);
	else
		queue(c, s);
	return s->state == MC_STEP_DONE;
}

static void send_go(struct mc_coll *c, struct mc_step *s)
{
	if (!s->open || s->state != MC_STEP_IDLE)
		return;
	if (s->way == MC_WAY_MSG) {
		send_data(c, s);
	} else if (s->way == MC_WAY_GET) {
		s->state = MC_STEP_MOVING;
		s->exposed = true;
		send_msg(c, s, MC_CT_OFFER, offset_of(s), 0);
	} else if (s->told) {
		transfer(c, s);
	}
}

static void recv_go(struct mc_coll *c, struct mc_step *s)
{
	if (s->state != MC_STEP_IDLE)
		return;
	if (s->way == MC_WAY_GET && s->told)
		transfer(c, s);
	else if (s->landed && s->open)
		step_done(c, s);
}

bool mc_coll_run_steps(struct mc_coll *c)
{
	uint64_t budget = COPY_TURN;
	while (c->queue != MC_NO_STEP && c->failing == MC_OK) {
		struct mc_step *s = &c->step[c->queue];
		c->queue = s->queue_next;
		s->queued = false;
		if (s->state == MC_STEP_DONE)
			continue;
		if (s->kind == MC_STEP_SEND)
			send_go(c, s);
		else if (s->kind == MC_STEP_RECV)
			recv_go(c, s);
		else if (s->open && !copy_go(c, s, &budget))
			return true;
	}
	return false;
}

void mc_coll_begin_steps(struct mc_coll *c)
{
	for (uint32_t i = 0; i < c->step_n && c->failing == MC_OK; i++) {
		struct mc_step *s = &c->step[i];
		if (s->kind == MC_STEP_RECV && s->way == MC_WAY_PUT) {
			s->exposed = true;
			send_msg(c, s, MC_CT_READY, offset_of(s), 0);
		}
		if (s->after == MC_NO_STEP && (i != c->gate || c->unchecked == 0)) {
			s->open = true;
			queue(c, s);
		}
	}
}

/* ---- messages in ---- */

static uint32_t rank_of(const struct mc_coll *c, const struct mc_peer *peer)
{
	if (peer->id < c->n && c->peer[peer->id] == peer)
		return peer->id;
	for (uint32_t i = 0; i < c->n; i++)
		if (c->peer[i] == peer)
			return i;
	return MC_NO_RANK;
}

static void differ(struct mc_coll *c, const struct mc_coll_msg *m)
{
	char text[160];
	uint32_t from = m->from->id;
	if (m->op != c->op)
		snprintf(text, sizeof(text), "ranks disagree: rank %u calls %s, rank %u %s", from,
			 mc_coll_op_name((enum mc_coll_op)m->op), c->ctx->rank, mc_coll_op_name(c->op));
	else if (m->root != c->root)
		snprintf(text, sizeof(text), "ranks disagree on the root of %s: rank %u gives %u, rank %u %u",
			 mc_coll_op_name(c->op), from, m->root, c->ctx->rank, c->root);
	else
		snprintf(text, sizeof(text), "ranks %u and %u disagree on the lengths of %s, or on MC_COLL_* settings",
			 from, c->ctx->rank, mc_coll_op_name(c->op));
	mc_error("rank %u: %s (number %llu of a group of %u)", c->ctx->rank, text, (unsigned long long)c->seq, c->n);
	mc_fault_add(c->ctx, from, MC_ERR_MISMATCH, text);
	mc_coll_fail(c, MC_ERR_MISMATCH, from, true);
}

static void on_data(struct mc_coll *c, struct mc_step *s, const struct mc_coll_msg *m)
{
	if (m->data_len > 0)
		memcpy(s->addr + m->off, m->data, m->data_len);
	s->moved += m->data_len;
	step_checked(c, s);
	if (s->moved >= s->len) {
		s->landed = true;
		queue(c, s);
	}
}

static void on_fin(struct mc_coll *c, struct mc_step *s)
{
	s->exposed = false;
	if (s->kind == MC_STEP_SEND) {
		step_done(c, s);
	} else {
		s->landed = true;
		queue(c, s);
	}
}

/* Which of our steps a message is about; NULL: none. */
static struct mc_step *step_of(struct mc_coll *c, const struct mc_coll_msg *m, uint32_t rank)
{
	struct mc_step *s;
	switch (m->type) {
	case MC_CT_DATA:
		s = mc_step_find(c, MC_STEP_RECV, rank, m->key);
		return s != NULL && s->way == MC_WAY_MSG && !s->landed && mc_range_ok(m->off, m->data_len, s->len)
			       ? s
			       : NULL;
	case MC_CT_OFFER:
		s = mc_step_find(c, MC_STEP_RECV, rank, m->key);
		return s != NULL && s->way == MC_WAY_GET && !s->checked ? s : NULL;
	case MC_CT_READY:
		s = mc_step_find(c, MC_STEP_SEND, rank, m->key);
		return s != NULL && s->way == MC_WAY_PUT && !s->checked ? s : NULL;
	case MC_CT_FIN:
		s = mc_step_find(c, MC_STEP_RECV, rank, m->key);
		if (s == NULL || s->way != MC_WAY_PUT)
			s = mc_step_find(c, MC_STEP_SEND, rank, m->key);
		return s != NULL && s->exposed ? s : NULL;
	default:
		return NULL;
	}
}

/* A message for a collective that runs here. */
void mc_coll_match(struct mc_coll *c, const struct mc_coll_msg *m)
{
	uint32_t rank = rank_of(c, m->from);
	if (c->failing != MC_OK || rank == MC_NO_RANK)
		return; /* it ends; or someone outside the group guessed its name */
	c->mark[rank] |= MC_MARK_HERE;
	struct mc_step *s = m->check == c->check ? step_of(c, m, rank) : NULL;
	if (s == NULL || s->len != m->len) {
		differ(c, m);
		return;
	}
	if (m->type == MC_CT_DATA) {
		on_data(c, s, m);
	} else if (m->type == MC_CT_FIN) {
		on_fin(c, s);
	} else {
		s->told = true;
		s->rid = m->rid;
		s->roff = m->off;
		step_checked(c, s);
		queue(c, s);
	}
}

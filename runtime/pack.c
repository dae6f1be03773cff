/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pack.c - put and get by message, for links without one-sided copies: many slices in one message with a compact list
 * of where they go; the peer's progress thread scatters (put) or gathers (get), see unpack.c. Bodies: docs/WIRE.md.
 *
 * Nothing lands after a request has ended: messages of a link arrive in order and each is answered, so a put that was
 * given up waits for the answers still due; late data of a get finds no request and is dropped.
 */
#include <stdlib.h>
#include <string.h>

#include "pack.h"

struct budget {
	uint64_t data;
	uint32_t entries;
};

/* How much of a request one message may carry. */
static struct budget message_budget(const struct mc_req *r)
{
	const struct mc_ctx *ctx = r->ctx; /* the answer to a get may come by another link than the question */
	struct budget b = {.data = ctx->cfg.pack_size, .entries = PACK_ENTRIES};
	uint64_t meta = PACK_SLACK + r->payload_len + (uint64_t)b.entries * PACK_ENTRY;
	if (meta + 1024 > ctx->msg_max) { /* tiny messages: a few entries, no payload beside them */
		b.entries = b.entries < 16 ? b.entries : 16;
		meta = PACK_SLACK + (uint64_t)b.entries * PACK_ENTRY;
	}
	if (b.data > ctx->msg_max - meta)
		b.data = ctx->msg_max - meta;
	return b;
}

/* Of the box u, from piece `at` on, the largest box that fits into `room` pieces. */
static uint32_t part_of_box(const struct mc_shape *u, uint32_t at, uint64_t room, struct mc_shape *out)
{
	uint32_t inside[MC_LEVELS] = {1}, k = 0; /* pieces in one step of a level */
	for (uint32_t i = 1; i < MC_LEVELS; i++) {
		inside[i] = inside[i - 1] * u->level[i - 1].count;
		if (at % inside[i] == 0 && inside[i] <= room)
			k = i;
		else
			break;
	}
	uint64_t fit = room / inside[k];
	uint32_t left = u->level[k].count - at / inside[k] % u->level[k].count;
	*out = *u;
	out->level[k].count = fit < left ? (uint32_t)fit : left;
	for (uint32_t i = k + 1; i < MC_LEVELS; i++)
		out->level[i].count = 1;
	out->pieces = inside[k] * out->level[k].count;
	return out->pieces;
}

/*
 * The next entry that fits into `room` bytes: whole pieces of a run while they fit, else a part of one. Advances.
 * false: nothing left, or no room.
 */
static bool next_entry(struct mc_req *r, uint64_t room, struct mc_entry *e)
{
	if (r->next >= r->run_n || room == 0)
		return false;
	const struct mc_run *run = &r->run[r->next];
	const struct mc_shape *u = &r->shape[run->shape];
	struct mc_cursor *at = &r->at;
	*e = (struct mc_entry){.addr = run->addr, .rid = run->rid, .roff = run->roff, .len = run->len};
	if (u->pieces > 1) {
		struct mc_walk w;
		mc_walk_at(&w, u, at->piece);
		e->addr += w.here;
		e->roff += w.there;
	}
	if (at->off == 0 && run->len <= room && u->pieces > 1) {
		at->piece += part_of_box(u, at->piece, room / run->len, &e->shape);
	} else {
		e->shape = mc_shape_single[0];
		e->addr += at->off;
		e->roff += at->off;
		e->len = run->len - at->off < room ? run->len - at->off : room;
		at->off += e->len;
		if (at->off == run->len) {
			at->piece++;
			at->off = 0;
		}
	}
	if (at->piece == u->pieces) {
		r->next++;
		*at = (struct mc_cursor){.run = r->next};
	}
	return true;
}

static void message_gone(struct mc_tx *tx, mc_status_t s)
{
	struct mc_req *r = tx->req;
	r->flying--;
	if (s != MC_OK) {
		r->unacked = r->unacked > 0 ? r->unacked - 1 : 0;
		mc_req_fail(r, s);
	} else {
		mc_req_settle(r);
	}
}

static void launch(struct mc_req *r, struct mc_tx *tx, struct mc_wr *w, uint64_t window)
{
	r->flying++;
	r->unacked++;
	r->peer->packed_out += window;
	tx->req = r;
	tx->done = message_gone;
	mc_tx_send(tx, w);
}

/* ---- entries, and their bytes into a message ---- */

void mc_entry_write(struct mc_wr *w, const struct mc_entry *e, uint64_t rid)
{
	uint8_t *levels = w->p;
	mc_wr_u8(w, e->rid == rid ? PACK_SAME : 0);
	if (e->rid != rid)
		mc_wr_u64(w, e->rid);
	mc_wr_u64(w, e->roff);
	mc_wr_u32(w, (uint32_t)e->len);
	if (e->shape.pieces == 1)
		return;
	for (uint32_t k = 0; k < MC_LEVELS && !w->bad; k++) {
		if (e->shape.level[k].count == 1)
			continue;
		mc_wr_u32(w, e->shape.level[k].count);
		mc_wr_u64(w, e->shape.level[k].rstride);
		(*levels)++;
	}
}

bool mc_entry_read(struct mc_rd *r, struct mc_entry *e, uint64_t left)
{
	uint64_t pieces = 1;
	e->shape = mc_shape_single[0];
	uint8_t levels = mc_rd_u8(r);
	if ((levels & PACK_SAME) == 0)
		e->rid = mc_rd_u64(r);
	levels &= (uint8_t)~PACK_SAME;
	e->roff = mc_rd_u64(r);
	e->len = mc_rd_u32(r);
	if (levels > MC_LEVELS)
		return false;
	for (uint32_t k = 0; k < levels; k++) {
		e->shape.level[k].count = mc_rd_u32(r);
		e->shape.level[k].rstride = mc_rd_u64(r);
		pieces *= e->shape.level[k].count;
		if (pieces == 0 || pieces > UINT32_MAX)
			return false;
	}
	e->shape.pieces = (uint32_t)pieces;
	return !r->bad && e->len > 0 && e->len <= left / pieces;
}

bool mc_entry_span(const struct mc_entry *e, uint64_t *span_out)
{
	uint64_t span = e->len, step;
	for (uint32_t k = 0; k < MC_LEVELS; k++)
		if (!mc_mul_u64(e->shape.level[k].count - 1, e->shape.level[k].rstride, &step) ||
		    !mc_add_u64(span, step, &span))
			return false;
	*span_out = span;
	return true;
}

bool mc_pack_bounce(struct mc_tx *tx, uint64_t room)
{
	if (tx->bounce_room >= room)
		return true;
	if (tx->bounce_len > 0)
		return false; /* in use by this very message */
	free(tx->bounce);
	tx->bounce = malloc((size_t)room);
	tx->bounce_room = tx->bounce != NULL ? (uint32_t)room : 0;
	return tx->bounce != NULL;
}

static void add_vector(struct mc_tx *tx, void *p, uint64_t len)
{
	struct iovec *last = &tx->iov[tx->iov_n - 1];
	if (tx->iov_n > 1 && (uint8_t *)last->iov_base + last->iov_len == p) {
		last->iov_len += (size_t)len;
		return;
	}
	tx->iov[tx->iov_n].iov_base = p;
	tx->iov[tx->iov_n++].iov_len = (size_t)len;
}

void mc_pack_bytes(struct mc_tx *tx, const uint8_t *from, const struct mc_entry *e, bool remote)
{
	uint64_t len = e->len, total = len * e->shape.pieces;
	uint8_t *to = tx->bounce + tx->bounce_len;
	tx->data_len += (uint32_t)total;
	/* The last vector entry but one is for what has to be copied after that. */
	if (e->shape.pieces == 1 && len >= PACK_VECTOR && tx->iov_n + 2 <= tx->peer->ctx->iov_max) {
		add_vector(tx, (void *)(uintptr_t)from, len);
		return;
	}
	add_vector(tx, to, total);
	tx->bounce_len += (uint32_t)total;
	if (e->shape.pieces == 1) {
		memcpy(to, from, (size_t)len);
		return;
	}
	struct mc_walk w;
	mc_walk_at(&w, &e->shape, 0);
	do {
		memcpy(to, from + (remote ? w.there : w.here), (size_t)len);
		to += len;
	} while (mc_walk_next(&w));
}

static void put_count(uint8_t *at, uint32_t n)
{
	struct mc_wr fix;
	mc_wr_init(&fix, at, sizeof(uint32_t));
	mc_wr_u32(&fix, n);
}

/* Region and place of each entry into the list; its bytes into the message. */
static uint32_t add_put_entries(struct mc_req *r, struct mc_tx *tx, struct mc_wr *w, struct budget b)
{
	struct mc_entry e;
	uint64_t rid = 0;
	uint32_t n = 0;
	while (n < b.entries && next_entry(r, b.data - tx->data_len, &e)) {
		mc_entry_write(w, &e, rid);
		rid = e.rid;
		if (r->next < r->run_n)
			mc_copy_prefetch(r->run[r->next].addr);
		mc_pack_bytes(tx, e.addr, &e, false);
		n++;
	}
	return n;
}

static bool put_step(struct mc_req *r)
{
	struct budget b = message_budget(r);
	struct mc_tx *tx = mc_tx_get(r->peer, MC_MSG_PUT, true);
	if (tx == NULL || !mc_pack_bounce(tx, b.data)) {
		if (tx != NULL)
			mc_tx_put(tx);
		mc_req_fail(r, MC_ERR_NOMEM);
		return false;
	}
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, r->xfer);
	uint8_t *flags = w.p;
	mc_wr_u8(&w, 0);
	uint8_t *count = w.p;
	mc_wr_u32(&w, 0);
	uint32_t n = add_put_entries(r, tx, &w, b);
	put_count(count, n);
	/* The last message carries the notification; a payload that would not fit beside data goes in one of its own.
	 */
	uint64_t used = MC_FRAME_LEN + mc_wr_len(&w) + tx->data_len;
	if (r->next == r->run_n && (n == 0 || used + r->payload_len + 64 <= r->ctx->msg_max)) {
		*flags = PACK_LAST;
		mc_notify_encode(r, &w);
		r->notify_sent = true;
	}
	launch(r, tx, &w, tx->data_len);
	return true;
}

static struct mc_chunk *chunk_add(struct mc_req *r)
{
	if (r->chunk_n == r->chunk_room) {
		uint32_t room = r->chunk_room > 0 ? r->chunk_room * 2 : 16;
		struct mc_chunk *a = realloc(r->chunk, room * sizeof(*a));
		if (a == NULL)
			return NULL;
		r->chunk = a;
		r->chunk_room = room;
	}
	struct mc_chunk *c = &r->chunk[r->chunk_n++];
	*c = (struct mc_chunk){.at = r->at};
	return c;
}

static bool get_step(struct mc_req *r)
{
	struct mc_tx *tx = mc_tx_get(r->peer, MC_MSG_GET, true);
	struct mc_chunk *c = tx != NULL ? chunk_add(r) : NULL;
	if (c == NULL) {
		if (tx != NULL)
			mc_tx_put(tx);
		mc_req_fail(r, MC_ERR_NOMEM);
		return false;
	}
	struct mc_wr w;
	struct mc_entry e;
	struct budget b = message_budget(r);
	uint64_t rid = r->run[r->next].rid;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, r->xfer);
	mc_wr_u32(&w, r->chunk_n - 1);
	uint8_t *count = w.p;
	mc_wr_u32(&w, 0);
	uint32_t n = 0;
	while (n < b.entries && r->next < r->run_n && r->run[r->next].rid == rid &&
	       next_entry(r, b.data - c->len, &e)) {
		mc_entry_write(&w, &e, n > 0 ? rid : 0);
		c->len += (uint32_t)(e.len * e.shape.pieces);
		n++;
	}
	put_count(count, n);
	launch(r, tx, &w, c->len);
	return true;
}

bool mc_pack_step(struct mc_req *r)
{
	return r->kind == MC_REQ_GET ? get_step(r) : put_step(r);
}

void mc_pack_abandon(struct mc_req *r)
{
	struct mc_peer *p = r->peer;
	if (p->state != MC_PEER_UP || !mc_list_empty(&p->dying))
		return;
	struct mc_tx *tx = mc_tx_get(p, MC_MSG_CANCEL, false);
	if (tx == NULL)
		return;
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, r->xfer);
	mc_tx_send(tx, &w);
}

static void window_back(struct mc_peer *p, uint64_t bytes)
{
	p->packed_out = bytes < p->packed_out ? p->packed_out - bytes : 0;
	if (!mc_list_empty(&p->pump) && mc_list_empty(&p->pump_node))
		mc_list_add_tail(&p->ctx->pumping, &p->pump_node);
}

/* A status as a peer sent it; what only it could have lost is this request's loss, not ours. */
static mc_status_t peer_status(uint32_t wire)
{
	int32_t v = (int32_t)wire;
	return v == MC_OK ? MC_OK : v <= -1 && v >= -29 ? (mc_status_t)v : MC_ERR_INTERNAL;
}

void mc_on_ack(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t xfer = mc_rd_u64(r);
	uint32_t bytes = mc_rd_u32(r);
	mc_status_t s = peer_status(mc_rd_u32(r));
	if (r->bad)
		return;
	window_back(p, bytes);
	struct mc_req *q = mc_req_find(p, xfer);
	if (q == NULL || q->kind == MC_REQ_GET || q->unacked == 0)
		return;
	q->unacked--;
	if (s != MC_OK)
		mc_req_fail(q, s);
	else
		mc_req_settle(q);
}

/* Bytes of one chunk to where the caller's table says. */
static void land(struct mc_req *q, const struct mc_chunk *c, const uint8_t *data)
{
	struct mc_cursor at = c->at;
	uint64_t left = c->len;
	bool stream = q->ctx->streams && left >= PACK_STREAM;
	while (left > 0) {
		const struct mc_run *u = &q->run[at.run];
		struct mc_walk w;
		bool more;
		mc_walk_at(&w, &q->shape[u->shape], at.piece);
		do {
			uint64_t len = u->len - at.off < left ? u->len - at.off : left;
			mc_copy(u->addr + w.here + at.off, data, (size_t)len, stream);
			data += len;
			left -= len;
			at.off = 0;
			more = mc_walk_next(&w);
		} while (more && left > 0);
		at = (struct mc_cursor){.run = at.run + 1};
	}
	mc_copy_fence(stream);
}

bool mc_get_data_place(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len)
{
	struct mc_req *q = mc_req_find(p, mc_rd_u64(r));
	uint32_t k = mc_rd_u32(r);
	mc_rd_u32(r);
	if (mc_rd_u32(r) != MC_OK || r->bad || q == NULL || q->kind != MC_REQ_GET || q->failing != MC_OK ||
	    k >= q->chunk_n || q->chunk[k].done || q->chunk[k].len != len)
		return false;
	land(q, &q->chunk[k], data);
	return true;
}

void mc_on_get_data(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len)
{
	uint64_t xfer = mc_rd_u64(r);
	uint32_t k = mc_rd_u32(r), total = mc_rd_u32(r);
	mc_status_t s = peer_status(mc_rd_u32(r));
	if (r->bad)
		return;
	window_back(p, total);
	struct mc_req *q = mc_req_find(p, xfer);
	if (q == NULL || q->kind != MC_REQ_GET)
		return;
	if (k >= q->chunk_n || q->chunk[k].done || (s == MC_OK && q->chunk[k].len != len)) {
		r->bad = true;
		return;
	}
	q->chunk[k].done = true;
	q->unacked--;
	if (s != MC_OK) {
		mc_req_fail(q, s);
		return;
	}
	if (q->failing == MC_OK && data != NULL)
		land(q, &q->chunk[k], data);
	mc_req_settle(q);
}

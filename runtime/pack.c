/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pack.c - put and get by message, for links without one-sided copies: many slices in one message with a compact list
 * of where they go; the peer's progress thread scatters (put) or gathers (get). Bodies: docs/WIRE.md.
 *
 * Nothing lands after a request has ended: messages of a link arrive in order and each is answered, so a put that was
 * given up waits for the answers still due; late data of a get finds no request and is dropped.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum {
	PUT_ENTRY = 8 + 8 + 4 + 4 + 8, /* region, offset, length, count, stride (only if count > 1) */
	GET_ENTRY = 8 + 4 + 4 + 8,
	PUT_LAST = 1,
	MSG_SLACK = 256, /* frame and fixed part of a body */
	FAILED_MAX = 4096,
	CHUNK_ENTRIES = 512,
	COPY_PIECE = 8192, /* shorter pieces are gathered by copying: a vector entry each costs more */
};

struct budget {
	uint64_t data;
	uint32_t entries;
};

/* How much of a request one message may carry. */
static struct budget message_budget(const struct mc_req *r)
{
	const struct mc_ctx *ctx = r->ctx; /* the answer to a get may come by another link than the question */
	struct budget b = {.data = r->ctx->cfg.pack_size, .entries = CHUNK_ENTRIES};
	if (b.entries > ctx->iov_max - 1)
		b.entries = ctx->iov_max - 1;
	uint64_t meta = MSG_SLACK + r->payload_len + (uint64_t)b.entries * PUT_ENTRY;
	if (meta + 1024 > ctx->msg_max) { /* tiny messages: a few entries, no payload beside them */
		b.entries = b.entries < 16 ? b.entries : 16;
		meta = MSG_SLACK + (uint64_t)b.entries * PUT_ENTRY;
	}
	if (b.data > ctx->msg_max - meta)
		b.data = ctx->msg_max - meta;
	return b;
}

/*
 * The next entry that fits into `room` bytes: whole pieces of a run while they fit, else a part of one. Advances.
 * false: nothing left, or no room.
 */
static bool next_entry(struct mc_req *r, uint64_t room, struct mc_run *e)
{
	if (r->next >= r->run_n || room == 0)
		return false;
	const struct mc_run *run = &r->run[r->next];
	struct mc_cursor *at = &r->at;
	*e = *run;
	e->addr += (uint64_t)at->piece * run->stride + at->off;
	e->roff += (uint64_t)at->piece * run->rstride + at->off;
	e->count = 1;
	if (at->off == 0 && run->len <= room) {
		uint64_t fit = room / run->len;
		e->count = fit < run->count - at->piece ? (uint32_t)fit : run->count - at->piece;
		at->piece += e->count;
	} else {
		e->len = run->len - at->off < room ? run->len - at->off : room;
		at->off += e->len;
		if (at->off == run->len) {
			at->piece++;
			at->off = 0;
		}
	}
	if (at->piece == run->count) {
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

/* ---- bytes of an entry into a message ---- */

static bool bounce_ready(struct mc_tx *tx, uint64_t room)
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

/*
 * Long pieces are sent from where they are, short ones copied together. Room was reckoned before: room for one vector
 * entry per list entry, and a bounce buffer for a whole message.
 */
static void add_bytes(struct mc_tx *tx, const uint8_t *from, uint64_t len, uint32_t count, uint64_t stride, bool copy)
{
	tx->data_len += (uint32_t)(len * count);
	if (!copy) {
		add_vector(tx, (void *)(uintptr_t)from, len);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		memcpy(tx->bounce + tx->bounce_len, from + (uint64_t)i * stride, (size_t)len);
		add_vector(tx, tx->bounce + tx->bounce_len, len);
		tx->bounce_len += (uint32_t)len;
	}
}

static void put_count(uint8_t *at, uint32_t n)
{
	struct mc_wr fix;
	mc_wr_init(&fix, at, sizeof(uint32_t));
	mc_wr_u32(&fix, n);
}

/* region, offset, length, count of each entry into the list; its bytes into the message. */
static uint32_t add_put_entries(struct mc_req *r, struct mc_tx *tx, struct mc_wr *w, struct budget b)
{
	struct mc_run e;
	uint32_t n = 0;
	while (n < b.entries && next_entry(r, b.data - tx->data_len, &e)) {
		mc_wr_u64(w, e.rid);
		mc_wr_u64(w, e.roff);
		mc_wr_u32(w, (uint32_t)e.len);
		mc_wr_u32(w, e.count);
		if (e.count > 1)
			mc_wr_u64(w, e.rstride);
		add_bytes(tx, e.addr, e.len, e.count, e.stride, e.count > 1 || e.len < COPY_PIECE);
		n++;
	}
	return n;
}

static bool put_step(struct mc_req *r)
{
	struct budget b = message_budget(r);
	struct mc_tx *tx = mc_tx_get(r->peer, MC_MSG_PUT, true);
	if (tx == NULL || !bounce_ready(tx, b.data)) {
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
		*flags = PUT_LAST;
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
	struct mc_run e;
	struct budget b = message_budget(r);
	uint64_t rid = r->run[r->next].rid;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, r->xfer);
	mc_wr_u32(&w, r->chunk_n - 1);
	mc_wr_u64(&w, rid);
	uint8_t *count = w.p;
	mc_wr_u32(&w, 0);
	uint32_t n = 0;
	while (n < b.entries && r->next < r->run_n && r->run[r->next].rid == rid &&
	       next_entry(r, b.data - c->len, &e)) {
		mc_wr_u64(&w, e.roff);
		mc_wr_u32(&w, (uint32_t)e.len);
		mc_wr_u32(&w, e.count);
		if (e.count > 1)
			mc_wr_u64(&w, e.rstride);
		c->len += (uint32_t)(e.len * e.count);
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

/* ---- the target's side ---- */

static struct mc_failed *failed_find(struct mc_peer *p, uint64_t xfer)
{
	for (struct mc_list *l = p->failed.next; l != &p->failed; l = l->next) {
		struct mc_failed *f = mc_container_of(l, struct mc_failed, node);
		if (f->xfer == xfer)
			return f;
	}
	return NULL;
}

static void failed_drop(struct mc_peer *p, struct mc_failed *f)
{
	mc_list_del(&f->node);
	p->failed_n--;
	free(f);
}

void mc_failed_clear(struct mc_peer *p)
{
	while (!mc_list_empty(&p->failed))
		failed_drop(p, mc_container_of(p->failed.next, struct mc_failed, node));
}

/* The rest of a transfer of which a part was refused is refused too, so that its notification never comes. */
static void failed_add(struct mc_peer *p, uint64_t xfer, mc_status_t s)
{
	struct mc_failed *f = p->failed_n < FAILED_MAX ? malloc(sizeof(*f)) : NULL;
	if (f == NULL) {
		mc_peer_fail(p, MC_ERR_PROTO, "%u transfers of it failed and were never ended", p->failed_n);
		return;
	}
	f->xfer = xfer;
	f->status = s;
	mc_list_add_tail(&p->failed, &f->node);
	p->failed_n++;
}

static void send_ack(struct mc_peer *p, uint64_t xfer, uint32_t bytes, mc_status_t s)
{
	struct mc_tx *tx = mc_tx_get(p, MC_MSG_ACK, false);
	if (tx == NULL) {
		mc_peer_fail(p, MC_ERR_NOMEM, "no memory to answer it");
		return;
	}
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, xfer);
	mc_wr_u32(&w, bytes);
	mc_wr_u32(&w, (uint32_t)(int32_t)s);
	mc_tx_send(tx, &w);
}

/* Where the first piece of an entry is here, all of whose pieces lie inside the region. */
static mc_status_t region_at(struct mc_peer *p, uint64_t id, const struct mc_run *e, uint8_t **addr_out,
			     struct mc_mem **mem_out)
{
	struct mc_mem *m = mc_region_find(p->ctx, id);
	uint64_t span = 0;
	bool fits = mc_mul_u64(e->count - 1, e->rstride, &span) && mc_add_u64(span, e->len, &span);
	mc_status_t s = MC_OK;
	if (m == NULL)
		s = MC_ERR_STALE;
	else if (!fits || !mc_range_ok(e->roff, span, m->len))
		s = MC_ERR_RANGE;
	else if (m->kind != MC_KIND_HOST)
		s = MC_ERR_UNSUPPORTED;
	if (s != MC_OK) {
		if (mc_ratelimit_ok(&p->noise, 5))
			mc_warn("rank %u: peer %u wants %u x %llu bytes at %llu of region %llx: %s", p->ctx->rank,
				p->id, e->count, (unsigned long long)e->len, (unsigned long long)e->roff,
				(unsigned long long)id, mc_status_text(s));
		return s;
	}
	*addr_out = m->addr + e->roff;
	if (mem_out != NULL)
		*mem_out = m;
	return MC_OK;
}

/* Offset, length, count and stride of an entry; its bytes, together, at most `left`. */
static bool read_entry(struct mc_rd *r, struct mc_run *e, uint64_t left)
{
	e->roff = mc_rd_u64(r);
	e->len = mc_rd_u32(r);
	e->count = mc_rd_u32(r);
	e->rstride = e->count > 1 ? mc_rd_u64(r) : 0;
	return !r->bad && e->count > 0 && e->len <= left / e->count;
}

/* MC_ERR_PROTO: the list and the data do not belong together. */
static mc_status_t scatter(struct mc_peer *p, struct mc_rd *r, uint32_t n, const uint8_t *data, uint32_t len)
{
	struct mc_run e;
	uint64_t left = len;
	mc_status_t result = MC_OK;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t rid = mc_rd_u64(r);
		uint8_t *to;
		if (!read_entry(r, &e, left))
			return MC_ERR_PROTO;
		if (result == MC_OK)
			result = region_at(p, rid, &e, &to, NULL);
		for (uint32_t k = 0; k < e.count && result == MC_OK; k++)
			memcpy(to + (uint64_t)k * e.rstride, data + (uint64_t)k * e.len, (size_t)e.len);
		data += e.len * e.count;
		left -= e.len * e.count;
	}
	return left == 0 ? result : MC_ERR_PROTO;
}

/* The list alone, without moving a byte: a refused transfer's message is still read to its end. */
static void skip_list(struct mc_rd *r, uint32_t n)
{
	struct mc_run e;
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		mc_rd_u64(r);
		if (!read_entry(r, &e, UINT64_MAX))
			r->bad = true;
	}
}

void mc_on_put(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len)
{
	uint64_t xfer = mc_rd_u64(r);
	uint8_t flags = mc_rd_u8(r);
	uint32_t n = mc_rd_u32(r);
	if (r->bad)
		return;
	struct mc_failed *f = mc_list_empty(&p->failed) ? NULL : failed_find(p, xfer);
	mc_status_t s;
	if (f != NULL) {
		s = f->status;
		skip_list(r, n);
	} else {
		s = scatter(p, r, n, data, len);
	}
	if (s == MC_ERR_PROTO && f == NULL) {
		r->bad = true;
		return;
	}
	if (s == MC_OK && (flags & PUT_LAST)) {
		if (mc_notify_apply(p, r) != MC_OK)
			r->bad = true;
	} else if (flags & PUT_LAST) {
		mc_rd_bytes(r, mc_rd_left(r));
	}
	if (s != MC_OK && f == NULL && !(flags & PUT_LAST))
		failed_add(p, xfer, s);
	if (f != NULL && (flags & PUT_LAST))
		failed_drop(p, f);
	if (!r->bad)
		send_ack(p, xfer, len, s);
}

void mc_on_cancel(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t xfer = mc_rd_u64(r);
	struct mc_failed *f = failed_find(p, xfer);
	if (f != NULL)
		failed_drop(p, f);
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

static void reply_gone(struct mc_tx *tx, mc_status_t s)
{
	(void)s;
	if (tx->mem != NULL && --tx->mem->serving == 0) {
		atomic_fetch_add(&tx->peer->ctx->peer_seq, 1); /* mc_mem_free() may wait for it */
		mc_wake(tx->peer->ctx, &tx->peer->ctx->peer_seq);
	}
}

/* Bytes that a list of entries asks for. false: malformed. */
static bool list_total(struct mc_rd r, uint32_t n, uint64_t *total)
{
	struct mc_run e;
	*total = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (!read_entry(&r, &e, UINT32_MAX - *total))
			return false;
		*total += e.len * e.count;
	}
	return true;
}

/* The pieces of a get, whose list is known to be well formed, into the reply. */
static mc_status_t gather(struct mc_peer *p, struct mc_rd *r, struct mc_tx *tx, uint64_t rid, uint32_t n,
			  uint64_t total)
{
	struct mc_run e;
	mc_status_t result = total + MSG_SLACK > p->ctx->msg_max ? MC_ERR_RANGE : MC_OK;
	if (result == MC_OK && !bounce_ready(tx, total))
		result = MC_ERR_NOMEM;
	for (uint32_t i = 0; i < n && read_entry(r, &e, UINT32_MAX); i++) {
		uint8_t *from;
		if (result == MC_OK)
			result = region_at(p, rid, &e, &from, &tx->mem);
		if (result == MC_OK)
			add_bytes(tx, from, e.len, e.count, e.rstride, e.count > 1 || e.len < COPY_PIECE);
	}
	return result;
}

void mc_on_get(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t xfer = mc_rd_u64(r);
	uint32_t chunk = mc_rd_u32(r);
	uint64_t rid = mc_rd_u64(r), total = 0;
	uint32_t n = mc_rd_u32(r);
	if (r->bad || n > CHUNK_ENTRIES || !list_total(*r, n, &total) || mc_peer_start(p) != MC_OK ||
	    n > p->ctx->iov_max - 1) {
		r->bad = true;
		return;
	}
	struct mc_tx *tx = mc_tx_get(p, MC_MSG_GET_DATA, true);
	if (tx == NULL) {
		mc_peer_fail(p, MC_ERR_NOMEM, "no memory to answer it");
		return;
	}
	mc_status_t s = gather(p, r, tx, rid, n, total);
	if (s != MC_OK) {
		tx->iov_n = 1;
		tx->mem = NULL;
		tx->data_len = 0;
	}
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, xfer);
	mc_wr_u32(&w, chunk);
	mc_wr_u32(&w, (uint32_t)total);
	mc_wr_u32(&w, (uint32_t)(int32_t)s);
	if (tx->mem != NULL) {
		tx->mem->serving++;
		tx->done = reply_gone;
	}
	mc_tx_send(tx, &w);
}

/* Bytes of one chunk to where the caller's table says. */
static void land(struct mc_req *q, const struct mc_chunk *c, const uint8_t *data)
{
	struct mc_cursor at = c->at;
	uint64_t left = c->len;
	while (left > 0) {
		const struct mc_run *u = &q->run[at.run];
		uint64_t len = u->len - at.off < left ? u->len - at.off : left;
		memcpy(u->addr + (uint64_t)at.piece * u->stride + at.off, data, (size_t)len);
		data += len;
		left -= len;
		at.off = 0;
		if (++at.piece == u->count)
			at = (struct mc_cursor){.run = at.run + 1};
	}
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
	if (q->failing == MC_OK)
		land(q, &q->chunk[k], data);
	mc_req_settle(q);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * unpack.c - packed transfers at the rank whose memory is meant: scatter what a put brings, gather what a get asks for.
 * Every list of places comes from a peer, and is checked against the region before a byte moves.
 */
#include <stdlib.h>
#include <string.h>

#include "pack.h"

enum { FAILED_MAX = 4096 };

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
	mc_tx_hold(tx, &w);
}

/* Where the first piece of an entry is here, all of whose pieces lie inside the region. */
static mc_status_t region_at(struct mc_peer *p, const struct mc_entry *e, uint8_t **addr_out, struct mc_mem **mem_out)
{
	struct mc_mem *m = mc_region_find(p->ctx, e->rid);
	uint64_t span = 0;
	bool fits = mc_entry_span(e, &span);
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
				p->id, e->shape.pieces, (unsigned long long)e->len, (unsigned long long)e->roff,
				(unsigned long long)e->rid, mc_status_text(s));
		return s;
	}
	*addr_out = m->addr + e->roff;
	if (mem_out != NULL)
		*mem_out = m;
	return MC_OK;
}

static void scatter_entry(uint8_t *to, const struct mc_entry *e, const uint8_t *data, bool stream)
{
	struct mc_walk w;
	if (e->shape.pieces == 1) {
		mc_copy(to, data, (size_t)e->len, stream);
		return;
	}
	mc_walk_at(&w, &e->shape, 0);
	do {
		mc_copy(to + w.there, data, (size_t)e->len, stream);
		data += e->len;
	} while (mc_walk_next(&w));
}

/* MC_ERR_PROTO: the list and the data do not belong together. */
static mc_status_t scatter(struct mc_peer *p, struct mc_rd *r, uint32_t n, const uint8_t *data, uint32_t len)
{
	struct mc_entry e = {.rid = 0};
	uint64_t left = len;
	bool stream = p->ctx->streams && len >= PACK_STREAM;
	mc_status_t result = MC_OK;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *to;
		if (!mc_entry_read(r, &e, left))
			return MC_ERR_PROTO;
		if (result == MC_OK)
			result = region_at(p, &e, &to, NULL);
		if (result == MC_OK)
			scatter_entry(to, &e, data, stream);
		data += e.len * e.shape.pieces;
		left -= e.len * e.shape.pieces;
	}
	mc_copy_fence(stream);
	return left == 0 ? result : MC_ERR_PROTO;
}

/* The list alone, without moving a byte: a refused transfer's message is still read to its end. */
static void skip_list(struct mc_rd *r, uint32_t n)
{
	struct mc_entry e = {.rid = 0};
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		if (!mc_entry_read(r, &e, UINT64_MAX))
			r->bad = true;
	}
}

bool mc_put_place(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len)
{
	uint64_t xfer = mc_rd_u64(r);
	mc_rd_u8(r);
	uint32_t n = mc_rd_u32(r);
	if (r->bad || failed_find(p, xfer) != NULL)
		return false;
	return scatter(p, r, n, data, len) == MC_OK;
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
	if (f != NULL || data == NULL) {
		s = f != NULL ? f->status : MC_OK;
		skip_list(r, n);
	} else {
		s = scatter(p, r, n, data, len);
	}
	if (s == MC_ERR_PROTO && f == NULL) {
		r->bad = true;
		return;
	}
	if (s == MC_OK && (flags & PACK_LAST)) {
		if (mc_notify_apply(p, r) != MC_OK)
			r->bad = true;
	} else if (flags & PACK_LAST) {
		mc_rd_bytes(r, mc_rd_left(r));
	}
	if (s != MC_OK && f == NULL && !(flags & PACK_LAST))
		failed_add(p, xfer, s);
	if (f != NULL && (flags & PACK_LAST))
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

static void reply_gone(struct mc_tx *tx, mc_status_t s)
{
	(void)s;
	if (tx->mem != NULL && --tx->mem->serving == 0)
		mc_word_bump(tx->peer->ctx, &tx->peer->ctx->peer_seq); /* mc_mem_free() may wait for it */
}

/* Bytes that a list of entries, all of one region, asks for. false: malformed. */
static bool list_total(struct mc_rd r, uint32_t n, uint64_t *total)
{
	struct mc_entry e = {.rid = 0};
	uint64_t rid = 0;
	*total = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (!mc_entry_read(&r, &e, UINT32_MAX - *total) || (i > 0 && e.rid != rid))
			return false;
		rid = e.rid;
		*total += e.len * e.shape.pieces;
	}
	return true;
}

/* The pieces of a get, whose list is known to be well formed, into the reply; the next one is asked for meanwhile. */
static mc_status_t gather(struct mc_peer *p, struct mc_rd *r, struct mc_tx *tx, uint32_t n, uint64_t total)
{
	struct mc_entry e[2] = {{.rid = 0}};
	uint8_t *from[2];
	mc_status_t result = total + PACK_SLACK > p->ctx->msg_max ? MC_ERR_RANGE : MC_OK;
	if (result == MC_OK && !mc_pack_bounce(tx, total))
		result = MC_ERR_NOMEM;
	for (uint32_t i = 0; i <= n; i++) {
		uint32_t k = i & 1;
		if (i < n) {
			e[k].rid = e[1 - k].rid;
			(void)mc_entry_read(r, &e[k], UINT32_MAX);
			if (result == MC_OK)
				result = region_at(p, &e[k], &from[k], &tx->mem);
			if (result == MC_OK)
				mc_copy_prefetch(from[k]);
		}
		if (i > 0 && result == MC_OK)
			mc_pack_bytes(tx, from[1 - k], &e[1 - k], true);
	}
	return result;
}

void mc_on_get(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t xfer = mc_rd_u64(r);
	uint32_t chunk = mc_rd_u32(r);
	uint64_t total = 0;
	uint32_t n = mc_rd_u32(r);
	if (r->bad || n > PACK_ENTRIES || !list_total(*r, n, &total) || mc_peer_start(p) != MC_OK) {
		r->bad = true;
		return;
	}
	struct mc_tx *tx = mc_tx_get(p, MC_MSG_GET_DATA, true);
	if (tx == NULL) {
		mc_peer_fail(p, MC_ERR_NOMEM, "no memory to answer it");
		return;
	}
	mc_status_t s = gather(p, r, tx, n, total);
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

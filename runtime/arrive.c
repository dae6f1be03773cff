/* SPDX-License-Identifier: BSD-3-Clause */
/* arrive.c - what a target learns: counters and notes. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- the notification on the wire ---- */

void mc_notify_encode(const struct mc_req *r, struct mc_wr *w)
{
	struct mc_notify n = {.flags = r->notify_flags,
			      .tag = r->notify_tag,
			      .add = r->notify_add,
			      .data = r->payload,
			      .data_len = r->payload_len};
	mc_wr_notify(w, &n);
}

/* ---- counters ---- */

static uint32_t bucket_of(uint64_t tag)
{
	return (uint32_t)((tag * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % MC_COUNTER_BUCKETS;
}

static struct mc_counter *counter_find(struct mc_ctx *ctx, uint64_t tag, const struct mc_peer *from)
{
	struct mc_counter *c = ctx->counter[bucket_of(tag)];
	while (c != NULL && (c->tag != tag || c->from != from))
		c = c->next;
	return c;
}

static struct mc_counter *counter_new(struct mc_ctx *ctx, uint64_t tag, struct mc_peer *from)
{
	struct mc_counter *c = calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	c->ctx = ctx;
	c->tag = tag;
	c->from = from;
	c->next = ctx->counter[bucket_of(tag)];
	ctx->counter[bucket_of(tag)] = c;
	return c;
}

static void counter_remove(struct mc_counter *c)
{
	struct mc_counter **at = &c->ctx->counter[bucket_of(c->tag)];
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	free(c);
}

/* Only written under the lock: no atomic addition is needed. */
static void counter_bump(struct mc_counter *c, uint64_t add)
{
	uint64_t v = atomic_load_explicit(&c->value, memory_order_relaxed);
	atomic_store_explicit(&c->value, v + add, memory_order_release);
	mc_word_bump(c->ctx, &c->seq);
}

static void count_arrival(struct mc_peer *p, uint64_t tag, uint64_t add)
{
	struct mc_ctx *ctx = p->ctx;
	struct mc_counter *own = counter_find(ctx, tag, p), *any = counter_find(ctx, tag, NULL);
	if (any != NULL)
		counter_bump(any, add);
	if (own == NULL && any == NULL) {
		own = ctx->counter_early < ctx->cfg.counter_max ? counter_new(ctx, tag, p) : NULL;
		if (own == NULL) {
			mc_peer_fail(p, MC_ERR_NOMEM,
				     "it counts under more tags than MC_COUNTER_MAX (%u) that nobody opened",
				     ctx->cfg.counter_max);
			return;
		}
		ctx->counter_early++;
	}
	if (own != NULL)
		counter_bump(own, add);
}

mc_status_t mc_counter_open(struct mc_ctx *ctx, uint64_t tag, uint32_t peer, struct mc_counter **counter_out)
{
	if (counter_out == NULL || (peer != MC_ANY_PEER && mc_peer_get(ctx, peer) == NULL))
		return MC_ERR_INVAL;
	mc_status_t s = MC_OK;
	mc_ctx_lock(ctx);
	struct mc_peer *from = peer != MC_ANY_PEER ? mc_peer_get(ctx, peer) : NULL;
	struct mc_counter *c = counter_find(ctx, tag, from);
	if (c != NULL && c->open) {
		s = MC_ERR_BUSY;
	} else if (c != NULL) {
		ctx->counter_early--;
	} else {
		c = counter_new(ctx, tag, from);
		s = c != NULL ? MC_OK : MC_ERR_NOMEM;
	}
	if (s == MC_OK) {
		c->open = true;
		/* Early arrivals of single peers, also of ones that are lost, belong to the counter of all. */
		for (struct mc_counter *e = ctx->counter[bucket_of(tag)], *next; e != NULL && peer == MC_ANY_PEER;
		     e = next) {
			next = e->next;
			if (e->tag != tag || e->open)
				continue;
			counter_bump(c, atomic_load(&e->value));
			counter_remove(e);
			ctx->counter_early--;
		}
		*counter_out = c;
	}
	mc_ctx_unlock(ctx);
	return s;
}

uint64_t mc_counter_read(const struct mc_counter *c)
{
	return atomic_load_explicit(&c->value, memory_order_acquire);
}

struct counter_wait {
	struct mc_counter *c;
	uint64_t value;
};

static bool peer_is_down(const struct mc_counter *c)
{
	return c->from != NULL && atomic_load(&c->from->state) == MC_PEER_DOWN;
}

static bool counter_reached(void *arg)
{
	struct counter_wait *w = arg;
	return mc_counter_read(w->c) >= w->value || peer_is_down(w->c);
}

mc_status_t mc_counter_wait(struct mc_counter *c, uint64_t value, int64_t timeout_ns)
{
	struct counter_wait w = {c, value};
	mc_status_t s = MC_OK;
	if (mc_counter_read(c) < value)
		s = mc_wait_until(c->ctx, counter_reached, &w, &c->seq, mc_deadline(mc_now_ns(), timeout_ns));
	if (s == MC_OK && mc_counter_read(c) < value)
		s = MC_ERR_PEER_DOWN;
	return s;
}

void mc_counter_close(struct mc_counter *c)
{
	if (c == NULL)
		return;
	struct mc_ctx *ctx = c->ctx;
	mc_ctx_lock(ctx);
	counter_remove(c);
	mc_ctx_unlock(ctx);
}

/* ---- notes ---- */

static void note_arrival(struct mc_peer *p, uint64_t tag, const void *data, uint32_t len)
{
	struct mc_ctx *ctx = p->ctx;
	if (ctx->note_n >= ctx->cfg.note_queue) {
		mc_peer_fail(p, MC_ERR_NOMEM, "its note finds MC_NOTE_QUEUE (%u) others that nobody took", ctx->note_n);
		return;
	}
	struct mc_note_node *n = malloc(sizeof(*n) + len);
	if (n == NULL) {
		mc_peer_fail(p, MC_ERR_NOMEM, "no memory for a note of %u bytes", len);
		return;
	}
	n->note = (struct mc_note){.peer = p->id, .len = len, .tag = tag, .data = n->data, .epoch = p->epoch};
	if (len > 0)
		memcpy(n->data, data, len);
	mc_list_add_tail(&ctx->notes, &n->node);
	ctx->note_n++;
	mc_word_bump(ctx, &ctx->note_seq);
}

mc_status_t mc_notify_apply(struct mc_peer *p, struct mc_rd *r)
{
	struct mc_notify n;
	mc_rd_notify(r, &n);
	if (r->bad)
		return MC_ERR_PROTO;
	if (n.flags & MC_NOTIFY_NOTE)
		note_arrival(p, n.tag, n.data, n.data_len);
	if (n.flags & MC_NOTIFY_COUNT)
		count_arrival(p, n.tag, n.add);
	return MC_OK;
}

static struct mc_note_node *note_take(struct mc_ctx *ctx)
{
	mc_ctx_lock(ctx);
	struct mc_list *l = mc_list_pop(&ctx->notes);
	if (l != NULL)
		ctx->note_n--;
	mc_ctx_unlock(ctx);
	return l != NULL ? mc_container_of(l, struct mc_note_node, node) : NULL;
}

struct note_wait {
	struct mc_ctx *ctx;
	struct mc_note_node *got;
};

static bool note_came(void *arg)
{
	struct note_wait *w = arg;
	if (w->got == NULL)
		w->got = note_take(w->ctx);
	return w->got != NULL;
}

mc_status_t mc_note_recv(struct mc_ctx *ctx, int64_t timeout_ns, struct mc_note **note_out)
{
	struct note_wait w = {.ctx = ctx};
	if (note_out == NULL)
		return MC_ERR_INVAL;
	mc_status_t s = mc_wait_until(ctx, note_came, &w, &ctx->note_seq, mc_deadline(mc_now_ns(), timeout_ns));
	if (w.got == NULL)
		return s;
	*note_out = &w.got->note;
	return MC_OK;
}

void mc_note_free(struct mc_note *note)
{
	if (note != NULL)
		free(mc_container_of(note, struct mc_note_node, note));
}

/* ---- loss and end ---- */

void mc_arrivals_peer_down(struct mc_peer *p)
{
	for (uint32_t i = 0; i < MC_COUNTER_BUCKETS; i++) {
		for (struct mc_counter *c = p->ctx->counter[i]; c != NULL; c = c->next) {
			if (c->from == p) {
				mc_word_bump(p->ctx, &c->seq);
			}
		}
	}
}

void mc_arrivals_free(struct mc_ctx *ctx)
{
	for (uint32_t i = 0; i < MC_COUNTER_BUCKETS; i++)
		while (ctx->counter[i] != NULL)
			counter_remove(ctx->counter[i]);
	struct mc_list *l;
	while ((l = mc_list_pop(&ctx->notes)) != NULL)
		free(mc_container_of(l, struct mc_note_node, node));
	while ((l = mc_list_pop(&ctx->faults)) != NULL)
		free(mc_container_of(l, struct mc_fault_node, node));
}

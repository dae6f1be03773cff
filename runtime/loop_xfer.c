/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop_xfer.c - messages and posts of the loop backend.
 *
 * What a call cannot finish waits as a struct loop_op in the fifo of its ep; poll works the fifos off. So sends and
 * posts keep their order for free, and a fault that holds something holds what comes after it, as a slow network does.
 */
#include <stdlib.h>
#include <string.h>

#include "loop_priv.h"

enum {
	FIFO_MAX = 64,    /* ops waiting per ep */
	INBOX_MSGS = 256, /* messages per ep that the far side has not polled */
	INBOX_BYTES = 32 << 20,
	KEEP_BUF = 64 << 10, /* larger message buffers go back to malloc */
};

/* An item with room for len bytes; NULL: out of memory. */
static struct loop_item *item_get(struct mc_be *be, size_t len)
{
	struct mc_list *l = mc_list_pop(&be->free_items);
	struct loop_item *it = l != NULL ? mc_container_of(l, struct loop_item, link) : calloc(1, sizeof(*it));

	if (it == NULL)
		return NULL;
	if (len > it->room) {
		void *buf = malloc(len);
		if (buf == NULL) {
			mc_list_add_tail(&be->free_items, &it->link);
			return NULL;
		}
		free(it->buf);
		it->buf = buf;
		it->room = len;
	}
	memset(&it->ev, 0, sizeof(it->ev));
	it->ep = NULL;
	return it;
}

void mc_loop_item_put(struct mc_be *be, struct loop_item *it)
{
	if (it->room > KEEP_BUF) {
		free(it->buf);
		it->buf = NULL;
		it->room = 0;
	}
	mc_list_add_tail(&be->free_items, &it->link);
}

static void event_add(struct mc_be *be, struct loop_item *it)
{
	mc_list_add_tail(&be->events, &it->link);
	mc_loop_signal(be);
}

/*
 * An event without bytes that ends no op. It cannot be dropped, so a failed allocation loses the backend; items are
 * pooled, so only early.
 */
void mc_loop_event(struct mc_be *be, struct mc_be_ep *ep, enum mc_be_kind kind, mc_status_t status, uint64_t cookie)
{
	struct loop_item *it = item_get(be, 0);

	if (it == NULL) {
		mc_error("loop: rank %u: out of memory for an event of kind %d", be->rank, (int)kind);
		be->fail[MC_LOOP_POLL].kth = 1;
		be->fail[MC_LOOP_POLL].status = MC_ERR_NOMEM;
		mc_loop_signal(be);
		return;
	}
	it->ev.kind = kind;
	it->ev.status = status;
	it->ev.cookie = cookie;
	it->ep = ep;
	event_add(be, it);
}

/* The peer's region behind a descriptor; NULL: freed. */
static struct mc_be_mem *rmem_find(const struct mc_be_ep *ep, const struct mc_be_rmem *rmem)
{
	for (struct mc_list *l = ep->peer->mems.next; l != &ep->peer->mems; l = l->next) {
		struct mc_be_mem *mem = mc_container_of(l, struct mc_be_mem, link);
		if (mem->key == rmem->key)
			return mem;
	}
	return NULL;
}

/* ---- ops --------------------------------------------------------------------------------------------------------- */

static struct loop_op *op_get(struct mc_be *be, struct mc_be_ep *ep)
{
	struct mc_list *l;
	struct loop_op *op;

	if (ep->fifo_n >= FIFO_MAX)
		return NULL;
	l = mc_list_pop(&be->free_ops);
	op = l != NULL ? mc_container_of(l, struct loop_op, link) : malloc(sizeof(*op));
	if (op == NULL)
		return NULL;
	memset(op, 0, offsetof(struct loop_op, iov));
	op->end = item_get(be, 0);
	if (op->end != NULL)
		return op;
	mc_list_add_tail(&be->free_ops, &op->link);
	return NULL;
}

/* One that was not started. */
static void op_put(struct mc_be *be, struct loop_op *op)
{
	mc_loop_item_put(be, op->end);
	mc_list_add_tail(&be->free_ops, &op->link);
}

/* Take an op out of its fifo and report it, when it has something to report. */
static void op_end(struct mc_be_ep *ep, struct loop_op *op, mc_status_t status)
{
	struct mc_be *be = ep->be;

	mc_list_del(&op->link);
	ep->fifo_n--;
	op->end->ev.kind = op->kind == OP_POST ? MC_EV_DONE : MC_EV_SENT;
	op->end->ev.status = status;
	op->end->ev.cookie = op->cookie;
	if (op->kind == OP_POST || !op->is_copy)
		event_add(be, op->end);
	else
		mc_loop_item_put(be, op->end);
	if (op->copy != NULL)
		mc_loop_item_put(be, op->copy);
	mc_list_add_tail(&be->free_ops, &op->link);
}

static struct loop_item *msg_gather(struct mc_be *be, const struct iovec *iov, uint32_t n, size_t len)
{
	struct loop_item *it = item_get(be, len);
	uint8_t *p;

	if (it == NULL)
		return NULL;
	p = it->buf;
	for (uint32_t i = 0; i < n; i++) {
		if (iov[i].iov_len > 0)
			memcpy(p, iov[i].iov_base, iov[i].iov_len);
		p += iov[i].iov_len;
	}
	it->ev.kind = MC_EV_MSG;
	it->ev.data = it->buf;
	it->ev.len = (uint32_t)len;
	return it;
}

static bool inbox_room(const struct mc_be_ep *ep)
{
	return ep->inbox_n < INBOX_MSGS && ep->inbox_bytes < INBOX_BYTES;
}

/* Give the op's message to the peer. MC_ERR_AGAIN: the peer's inbox is full. */
static mc_status_t msg_deliver(struct mc_be_ep *ep, struct loop_op *op)
{
	struct loop_item *it = op->copy;
	mc_status_t s;

	if (!inbox_room(ep))
		return MC_ERR_AGAIN;
	if (it == NULL)
		it = msg_gather(ep->be, op->iov, op->n, op->msg_len);
	if (it == NULL)
		return MC_ERR_AGAIN;
	op->copy = NULL;
	s = mc_loop_fault_hit(ep->be, MC_LOOP_SENT);
	if (s != MC_OK || ep->drop_n > 0) {
		if (s == MC_OK)
			ep->drop_n--;
		mc_loop_item_put(ep->be, it);
		return s;
	}
	it->ep = ep;
	ep->inbox_n++;
	ep->inbox_bytes += op->msg_len;
	event_add(ep->peer, it);
	return MC_OK;
}

/* Move up to *budget bytes of a post. MC_OK: all moved; MC_IN_PROGRESS. */
static mc_status_t post_copy(struct mc_be_ep *ep, struct loop_op *op, uint64_t *budget)
{
	while (op->at < op->n) {
		const struct mc_be_slice *sl = &op->slice[op->at];
		struct mc_be_mem *far = rmem_find(ep, sl->rmem);
		uint64_t len = sl->len - op->at_off;

		if (far == NULL)
			return MC_ERR_STALE;
		if (len > *budget)
			len = *budget;
		if (len > 0) {
			uint8_t *here = sl->mem->addr + sl->off + op->at_off;
			uint8_t *there = far->addr + sl->roff + op->at_off;
			if (op->type == MC_BE_WRITE)
				memmove(there, here, len);
			else
				memmove(here, there, len);
		}
		*budget -= len;
		op->at_off += len;
		if (op->at_off < sl->len)
			return MC_IN_PROGRESS;
		op->at++;
		op->at_off = 0;
		if (*budget == 0 && op->at < op->n)
			return MC_IN_PROGRESS;
	}
	return MC_OK;
}

static bool op_held(const struct mc_be_ep *ep, const struct loop_op *op)
{
	return op->kind == OP_SEND ? ep->hold : ep->manual || (ep->hold && op->has_msg);
}

/* May the op at the head of the fifo go, as far as the fault injector is concerned? */
static bool op_released(const struct mc_be_ep *ep, const struct loop_op *op)
{
	return !op_held(ep, op) || ep->release_n > 0;
}

/* Work the fifo off as far as room, budget and faults allow. */
void mc_loop_ep_run(struct mc_be_ep *ep, uint64_t *budget)
{
	while (ep->state == EP_CONN && !mc_list_empty(&ep->fifo) && *budget > 0) {
		struct loop_op *op = mc_container_of(ep->fifo.next, struct loop_op, link);
		mc_status_t s = MC_OK;
		bool held = op_held(ep, op);

		if (!op_released(ep, op))
			return;
		if (op->kind == OP_POST && !op->started)
			s = mc_loop_fault_hit(ep->be, MC_LOOP_DONE);
		op->started = true;
		if (op->kind == OP_POST && s == MC_OK)
			s = post_copy(ep, op, budget);
		if (s == MC_OK && (op->kind == OP_SEND || op->has_msg))
			s = msg_deliver(ep, op);
		if (s == MC_IN_PROGRESS || s == MC_ERR_AGAIN)
			return;
		if (held)
			ep->release_n--;
		op_end(ep, op, s);
	}
}

/* Is there an op that poll could move on? A full inbox is not: its owner kicks us. */
bool mc_loop_ep_runnable(const struct mc_be_ep *ep)
{
	const struct loop_op *op;

	if (ep->state != EP_CONN || mc_list_empty(&ep->fifo))
		return false;
	op = mc_container_of(ep->fifo.next, struct loop_op, link);
	if (!op_released(ep, op))
		return false;
	if (op->kind == OP_POST && (op->at < op->n || !op->has_msg))
		return true;
	return inbox_room(ep);
}

static size_t iov_total(const struct iovec *iov, uint32_t n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		if (!mc_add_u64(sum, iov[i].iov_len, &sum))
			return SIZE_MAX;
	return sum;
}

static mc_status_t ep_ready(const struct mc_be_ep *ep)
{
	if (ep->state == EP_DEAD)
		return MC_ERR_PEER_DOWN;
	return ep->state == EP_CONN ? MC_OK : MC_ERR_INVAL;
}

/* Queue an op; a send may leave at once, a post waits for poll, which copies in portions. */
static void op_start(struct mc_be_ep *ep, struct loop_op *op)
{
	uint64_t budget = 1;

	mc_list_add_tail(&ep->fifo, &op->link);
	ep->fifo_n++;
	if (op->kind == OP_SEND && ep->fifo_n == 1)
		mc_loop_ep_run(ep, &budget);
	if (mc_loop_ep_runnable(ep))
		mc_loop_signal(ep->be);
}

static mc_status_t send_locked(struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, size_t len, uint32_t flags,
			       uint64_t cookie)
{
	mc_status_t s = ep_ready(ep);
	struct loop_op *op;

	if (s == MC_OK)
		s = mc_loop_fault_hit(ep->be, MC_LOOP_SEND);
	if (s != MC_OK)
		return s;
	op = op_get(ep->be, ep);
	if (op == NULL)
		return MC_ERR_AGAIN;
	op->kind = OP_SEND;
	op->cookie = cookie;
	op->msg_len = len;
	op->n = n;
	op->is_copy = (flags & MC_SEND_COPY) != 0;
	if (n > 0)
		memcpy(op->iov, iov, n * sizeof(*iov));
	if (op->is_copy) {
		op->copy = msg_gather(ep->be, iov, n, len);
		if (op->copy == NULL) {
			op_put(ep->be, op);
			return MC_ERR_AGAIN;
		}
	}
	op_start(ep, op);
	return MC_OK;
}

mc_status_t mc_loop_send(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, uint32_t flags,
			 uint64_t cookie)
{
	mc_status_t s;
	size_t len;

	if (n > LOOP_IOV_MAX)
		return MC_ERR_INVAL;
	len = iov_total(iov, n);
	if (len > LOOP_MSG_MAX || ((flags & MC_SEND_COPY) != 0 && len > LOOP_COPY_MAX))
		return MC_ERR_INVAL;
	pthread_mutex_lock(&be->hub->lock);
	s = send_locked(ep, iov, n, len, flags, cookie);
	pthread_mutex_unlock(&be->hub->lock);
	return s;
}

static mc_status_t slices_check(const struct mc_be_ep *ep, const struct mc_be_slice *sl, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (sl[i].rmem->rank != ep->peer->rank || sl[i].rmem->epoch != ep->peer->epoch)
			return MC_ERR_INVAL;
		if (!mc_range_ok(sl[i].off, sl[i].len, sl[i].mem->len) ||
		    !mc_range_ok(sl[i].roff, sl[i].len, sl[i].rmem->len))
			return MC_ERR_RANGE;
		if (rmem_find(ep, sl[i].rmem) == NULL)
			return MC_ERR_STALE;
	}
	return MC_OK;
}

static mc_status_t post_locked(struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out)
{
	uint32_t max = ep->be->take_max, n = p->n < max ? p->n : max;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p->msg, .iov_len = p->msg_len};
	mc_status_t s = ep_ready(ep);
	struct loop_op *op;

	if (s == MC_OK)
		s = mc_loop_fault_hit(ep->be, MC_LOOP_POST);
	if (s == MC_OK)
		s = slices_check(ep, p->slice, n);
	if (s != MC_OK)
		return s;
	*taken_out = 0;
	op = op_get(ep->be, ep);
	if (op == NULL)
		return p->n == 0 ? MC_ERR_AGAIN : MC_OK;
	op->kind = OP_POST;
	op->cookie = p->cookie;
	op->type = p->op;
	op->n = n;
	if (n > 0)
		memcpy(op->slice, p->slice, n * sizeof(p->slice[0]));
	if (p->msg != NULL && n == p->n) {
		op->has_msg = true;
		op->msg_len = p->msg_len;
		op->copy = msg_gather(ep->be, &iov, 1, p->msg_len);
		if (op->copy == NULL) {
			op_put(ep->be, op);
			return p->n == 0 ? MC_ERR_AGAIN : MC_OK;
		}
	}
	op_start(ep, op);
	*taken_out = n;
	return MC_OK;
}

mc_status_t mc_loop_post(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out)
{
	mc_status_t s;

	if ((p->op != MC_BE_WRITE && p->op != MC_BE_READ) || (p->n == 0 && p->msg == NULL) ||
	    (p->msg != NULL && (p->op != MC_BE_WRITE || p->msg_len > LOOP_COPY_MAX)))
		return MC_ERR_INVAL;
	pthread_mutex_lock(&be->hub->lock);
	s = post_locked(ep, p, taken_out);
	pthread_mutex_unlock(&be->hub->lock);
	return s;
}

/* Everything that waits ends with status, in order. */
void mc_loop_ep_flush(struct mc_be_ep *ep, mc_status_t status)
{
	while (!mc_list_empty(&ep->fifo))
		op_end(ep, mc_container_of(ep->fifo.next, struct loop_op, link), status);
}

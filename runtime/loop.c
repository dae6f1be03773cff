/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop.c - backend inside one process: the reference meaning of backend.h, and the fault injector.
 *
 * Contexts of one hub run in different threads and find each other through hub->slot[rank].loop. Everything here is
 * under hub->lock, the copying too: that makes a freed region or a closed backend safe to meet, and slow is no matter.
 */
#include "loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop_priv.h"
#include "wire.h"

enum {
	ADDR_MAGIC = 0x4d434c41, /* "MCLA" */
	BLOB_MAGIC = 0x4d434c42, /* "MCLB" */
	BLOB_LEN = 4 + 4 + 8 + 8 + 8 + 4,
	POLL_BYTES = 1 << 20, /* copied per poll: keeps a call near 1 ms */
};

/* MC_OK, or the status that the fault injector wants this call to have. */
mc_status_t mc_loop_fault_hit(struct mc_be *be, enum mc_loop_slot slot)
{
	if (be->fail[slot].kth == 0 || --be->fail[slot].kth > 0)
		return MC_OK;
	return be->fail[slot].status;
}

void mc_loop_signal(struct mc_be *be)
{
	uint64_t one = 1;

	if (!be->armed || be->signaled)
		return;
	be->signaled = true;
	if (write(be->event_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
		mc_error("loop: rank %u: wake-up failed: %s", be->rank, strerror(errno));
}

/* ---- regions ----------------------------------------------------------------------------------------------------- */

static mc_status_t loop_mem_reg(struct mc_be *be, const struct mc_be_region *r, struct mc_be_mem **mem_out)
{
	mc_status_t s;
	struct mc_be_mem *mem;

	if (r->kind != MC_KIND_HOST)
		return MC_ERR_UNSUPPORTED;
	if (r->addr == NULL && r->len != 0)
		return MC_ERR_INVAL;
	mem = calloc(1, sizeof(*mem));
	if (mem == NULL)
		return MC_ERR_NOMEM;
	mem->addr = r->addr;
	mem->len = r->len;
	pthread_mutex_lock(&be->hub->lock);
	s = mc_loop_fault_hit(be, MC_LOOP_MEM_REG);
	if (s == MC_OK) {
		mem->key = ++be->next_key;
		mc_list_add_tail(&be->mems, &mem->link);
	}
	pthread_mutex_unlock(&be->hub->lock);
	if (s != MC_OK) {
		free(mem);
		return s;
	}
	*mem_out = mem;
	return MC_OK;
}

static void loop_mem_dereg(struct mc_be *be, struct mc_be_mem *mem)
{
	pthread_mutex_lock(&be->hub->lock);
	mc_list_del(&mem->link);
	pthread_mutex_unlock(&be->hub->lock);
	free(mem);
}

static mc_status_t loop_mem_export(struct mc_be *be, struct mc_be_mem *mem, void *blob, uint32_t *len)
{
	struct mc_wr w;
	mc_status_t s;

	pthread_mutex_lock(&be->hub->lock);
	s = mc_loop_fault_hit(be, MC_LOOP_MEM_EXPORT);
	pthread_mutex_unlock(&be->hub->lock);
	if (s != MC_OK)
		return s;
	if (*len < BLOB_LEN) {
		*len = BLOB_LEN;
		return MC_ERR_NOSPC;
	}
	mc_wr_init(&w, blob, BLOB_LEN);
	mc_wr_u32(&w, BLOB_MAGIC);
	mc_wr_u32(&w, be->rank);
	mc_wr_u64(&w, be->epoch);
	mc_wr_u64(&w, mem->key);
	mc_wr_u64(&w, mem->len);
	mc_wr_u32(&w, mc_crc32c(0, blob, BLOB_LEN - 4));
	*len = BLOB_LEN;
	return MC_OK;
}

static mc_status_t loop_rmem_import(struct mc_be *be, struct mc_be_ep *ep, const void *blob, uint32_t len,
				    struct mc_be_rmem **rmem_out)
{
	struct mc_be_rmem *rmem;
	struct mc_rd r;
	uint32_t magic, crc;
	mc_status_t s;

	if (len != BLOB_LEN)
		return MC_ERR_PROTO;
	rmem = calloc(1, sizeof(*rmem));
	if (rmem == NULL)
		return MC_ERR_NOMEM;
	mc_rd_init(&r, blob, len);
	magic = mc_rd_u32(&r);
	rmem->rank = mc_rd_u32(&r);
	rmem->epoch = mc_rd_u64(&r);
	rmem->key = mc_rd_u64(&r);
	rmem->len = mc_rd_u64(&r);
	crc = mc_rd_u32(&r);
	pthread_mutex_lock(&be->hub->lock);
	s = mc_loop_fault_hit(be, MC_LOOP_RMEM_IMPORT);
	if (s == MC_OK) {
		if (!mc_rd_end(&r) || magic != BLOB_MAGIC || crc != mc_crc32c(0, blob, BLOB_LEN - 4))
			s = MC_ERR_PROTO;
		else if (ep->state == EP_DEAD)
			s = MC_ERR_PEER_DOWN;
		else if (ep->state != EP_CONN)
			s = MC_ERR_INVAL;
		else if (ep->peer->rank != rmem->rank || ep->peer->epoch != rmem->epoch)
			s = MC_ERR_STALE;
		else
			mc_list_add_tail(&be->rmems, &rmem->link);
	}
	pthread_mutex_unlock(&be->hub->lock);
	if (s != MC_OK) {
		free(rmem);
		return s;
	}
	*rmem_out = rmem;
	return MC_OK;
}

static void loop_rmem_drop(struct mc_be *be, struct mc_be_rmem *rmem)
{
	pthread_mutex_lock(&be->hub->lock);
	mc_list_del(&rmem->link);
	pthread_mutex_unlock(&be->hub->lock);
	free(rmem);
}

/* ---- links ------------------------------------------------------------------------------------------------------- */

static mc_status_t loop_ep_create(struct mc_be *be, uint64_t cookie, void *blob, uint32_t *len,
				  struct mc_be_ep **ep_out)
{
	struct mc_be_ep *ep = calloc(1, sizeof(*ep));
	mc_status_t s;

	(void)blob;
	if (ep == NULL)
		return MC_ERR_NOMEM;
	ep->be = be;
	ep->cookie = cookie;
	mc_list_init(&ep->fifo);
	pthread_mutex_lock(&be->hub->lock);
	s = mc_loop_fault_hit(be, MC_LOOP_EP_CREATE);
	if (s == MC_OK)
		mc_list_add_tail(&be->eps, &ep->link);
	pthread_mutex_unlock(&be->hub->lock);
	if (s != MC_OK) {
		free(ep);
		return s;
	}
	if (len != NULL)
		*len = 0;
	*ep_out = ep;
	return MC_OK;
}

/* Queued events forget the ep: its own are dropped, messages it sent lose only their room count. */
static void events_forget(struct mc_be *be, const struct mc_be_ep *ep)
{
	struct mc_list *l = be->events.next;

	while (l != &be->events) {
		struct loop_item *it = mc_container_of(l, struct loop_item, link);
		l = l->next;
		if (it->ep != ep)
			continue;
		it->ep = NULL;
		if (it->ev.kind != MC_EV_MSG) {
			mc_list_del(&it->link);
			mc_loop_item_put(be, it);
		}
	}
}

/* The link is gone: what waits ends, then EP_DOWN, then nothing. */
static void ep_fail(struct mc_be_ep *ep, mc_status_t status)
{
	if (ep->state == EP_DEAD)
		return;
	mc_loop_ep_flush(ep, status);
	if (ep->peer != NULL)
		events_forget(ep->peer, ep);
	ep->state = EP_DEAD;
	ep->peer = NULL;
	mc_loop_event(ep->be, ep, MC_EV_EP_DOWN, status, ep->cookie);
}

/* Every ep of `be` to `peer` fails. What `peer` had delivered stands before that in be's queue. */
static void be_fail_eps(struct mc_be *be, const struct mc_be *peer, mc_status_t status)
{
	for (struct mc_list *l = be->eps.next; l != &be->eps; l = l->next) {
		struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, link);
		if (ep->peer == peer)
			ep_fail(ep, status);
	}
}

static mc_status_t addr_parse(const struct mc_be *be, const void *peer, uint32_t len, uint32_t *rank_out,
			      uint64_t *epoch_out)
{
	struct mc_rd r;
	uint32_t magic, rank, crc;
	uint64_t epoch;

	if (len != LOOP_ADDR_LEN)
		return MC_ERR_PROTO;
	mc_rd_init(&r, peer, len);
	magic = mc_rd_u32(&r);
	rank = mc_rd_u32(&r);
	epoch = mc_rd_u64(&r);
	crc = mc_rd_u32(&r);
	if (magic != ADDR_MAGIC || crc != mc_crc32c(0, peer, LOOP_ADDR_LEN - 4) || rank >= be->hub->n)
		return MC_ERR_PROTO;
	*rank_out = rank;
	*epoch_out = epoch;
	return MC_OK;
}

static mc_status_t loop_ep_connect(struct mc_be *be, struct mc_be_ep *ep, const void *peer, uint32_t len, char *text,
				   size_t text_len)
{
	uint32_t rank = 0;
	uint64_t epoch = 0;
	mc_status_t s = addr_parse(be, peer, len, &rank, &epoch);

	if (s != MC_OK) {
		if (mc_ratelimit_ok(&be->limit, 5))
			mc_error("loop: rank %u: address of %u bytes is not one of this job", be->rank, len);
		if (text != NULL)
			snprintf(text, text_len, "malformed address");
		return s;
	}
	pthread_mutex_lock(&be->hub->lock);
	s = ep->state == EP_NEW ? mc_loop_fault_hit(be, MC_LOOP_EP_CONNECT) : MC_ERR_INVAL;
	if (s == MC_OK) {
		ep->peer = be->hub->slot[rank].loop;
		ep->state = EP_CONN;
		if (ep->peer == NULL || ep->peer->epoch != epoch)
			ep_fail(ep, MC_ERR_PEER_DOWN);
		else if (be->prove)
			ep->unproved = true;
		else
			mc_loop_event(be, ep, MC_EV_EP_UP, MC_OK, ep->cookie);
	}
	pthread_mutex_unlock(&be->hub->lock);
	if (text != NULL)
		snprintf(text, text_len, s == MC_OK ? "loop" : "fault injected");
	return s;
}

static void ep_close_locked(struct mc_be_ep *ep)
{
	struct mc_be *be = ep->be, *peer = ep->peer;

	mc_loop_ep_flush(ep, MC_ERR_CANCELED);
	events_forget(be, ep);
	mc_list_del(&ep->link);
	if (peer != NULL) {
		events_forget(peer, ep);
		be_fail_eps(peer, be, MC_ERR_PEER_DOWN);
	}
	free(ep);
}

static void loop_ep_close(struct mc_be *be, struct mc_be_ep *ep)
{
	struct mc_hub *hub = be->hub;

	pthread_mutex_lock(&hub->lock);
	ep_close_locked(ep);
	pthread_mutex_unlock(&hub->lock);
}

/* ---- backend ----------------------------------------------------------------------------------------------------- */

static void addr_make(struct mc_be *be)
{
	struct mc_wr w;

	mc_wr_init(&w, be->addr, LOOP_ADDR_LEN);
	mc_wr_u32(&w, ADDR_MAGIC);
	mc_wr_u32(&w, be->rank);
	mc_wr_u64(&w, be->epoch);
	mc_wr_u32(&w, mc_crc32c(0, be->addr, LOOP_ADDR_LEN - 4));
}

static void be_init_lists(struct mc_be *be)
{
	mc_list_init(&be->events);
	mc_list_init(&be->lent);
	mc_list_init(&be->free_items);
	mc_list_init(&be->free_ops);
	mc_list_init(&be->eps);
	mc_list_init(&be->mems);
	mc_list_init(&be->rmems);
}

static mc_status_t loop_open(const struct mc_be_cfg *cfg, struct mc_be **be_out, struct mc_be_caps *caps_out, char *why,
			     size_t why_len)
{
	mc_status_t s = MC_ERR_NOMEM;
	struct mc_be *be;

	if (cfg->hub == NULL) {
		snprintf(why, why_len, "contexts are not in one process: no hub was given");
		return MC_ERR_UNSUPPORTED;
	}
	if (cfg->rank >= cfg->hub->n)
		return MC_ERR_INVAL;
	be = calloc(1, sizeof(*be));
	if (be == NULL)
		return s;
	be->hub = cfg->hub;
	be->rank = cfg->rank;
	be->epoch = mc_random_u64();
	be->take_max = LOOP_TAKE_MAX;
	be_init_lists(be);
	addr_make(be);
	be->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (be->event_fd < 0) {
		mc_error("loop: rank %u: eventfd: %s; is the limit of open files (ulimit -n) reached?", be->rank,
			 strerror(errno));
		goto undo_be;
	}
	pthread_mutex_lock(&be->hub->lock);
	s = be->hub->slot[be->rank].loop == NULL ? MC_OK : MC_ERR_BUSY;
	if (s == MC_OK)
		be->hub->slot[be->rank].loop = be;
	pthread_mutex_unlock(&be->hub->lock);
	if (s != MC_OK)
		goto undo_fd;
	*caps_out = (struct mc_be_caps){
		.flags = MC_CAP_RMA | MC_CAP_POST_MSG | MC_CAP_SAME_ADDR | MC_CAP_PRIVATE | be->hub->loop_caps,
		.addr_len = LOOP_ADDR_LEN,
		.addr = be->addr,
		.msg_max = LOOP_MSG_MAX,
		.copy_max = LOOP_COPY_MAX,
		.iov_max = LOOP_IOV_MAX,
		.blob_max = BLOB_LEN,
		.event_fd = be->event_fd,
		.text = "loop",
	};
	*be_out = be;
	return MC_OK;
undo_fd:
	close(be->event_fd);
undo_be:
	free(be);
	return s;
}

static void free_items(struct mc_list *list)
{
	for (struct mc_list *l = mc_list_pop(list); l != NULL; l = mc_list_pop(list)) {
		struct loop_item *it = mc_container_of(l, struct loop_item, link);
		free(it->buf);
		free(it);
	}
}

/* Senders of what was never polled must not count it, nor find us. */
static void loop_close(struct mc_be *be)
{
	struct mc_hub *hub = be->hub;
	struct mc_list *l;

	pthread_mutex_lock(&hub->lock);
	hub->slot[be->rank].loop = NULL;
	while (!mc_list_empty(&be->eps))
		ep_close_locked(mc_container_of(be->eps.next, struct mc_be_ep, link));
	for (uint32_t i = 0; i < hub->n; i++)
		if (hub->slot[i].loop != NULL)
			be_fail_eps(hub->slot[i].loop, be, MC_ERR_PEER_DOWN);
	pthread_mutex_unlock(&hub->lock);
	while ((l = mc_list_pop(&be->mems)) != NULL)
		free(mc_container_of(l, struct mc_be_mem, link));
	while ((l = mc_list_pop(&be->rmems)) != NULL)
		free(mc_container_of(l, struct mc_be_rmem, link));
	while ((l = mc_list_pop(&be->free_ops)) != NULL)
		free(mc_container_of(l, struct loop_op, link));
	free_items(&be->events);
	free_items(&be->lent);
	free_items(&be->free_items);
	close(be->event_fd);
	free(be);
}

static bool be_has_work(const struct mc_be *be)
{
	if (!mc_list_empty(&be->events) || be->kick || be->fail[MC_LOOP_POLL].kth == 1)
		return true;
	for (struct mc_list *l = be->eps.next; l != &be->eps; l = l->next)
		if (mc_loop_ep_runnable(mc_container_of(l, struct mc_be_ep, link)))
			return true;
	return false;
}

static mc_status_t loop_arm(struct mc_be *be)
{
	uint64_t v;
	mc_status_t s;

	pthread_mutex_lock(&be->hub->lock);
	s = mc_loop_fault_hit(be, MC_LOOP_ARM);
	if (s == MC_OK && be_has_work(be))
		s = MC_ERR_AGAIN;
	if (s == MC_OK) {
		if (be->signaled && read(be->event_fd, &v, sizeof(v)) < 0)
			mc_debug("loop: rank %u: event fd was empty", be->rank);
		be->signaled = false;
		be->armed = true;
	}
	pthread_mutex_unlock(&be->hub->lock);
	return s;
}

/* Take one event out of the queue for the caller. */
static void event_out(struct mc_be *be, struct loop_item *it, struct mc_be_event *ev)
{
	*ev = it->ev;
	if (it->ev.kind != MC_EV_MSG) {
		mc_loop_item_put(be, it);
		return;
	}
	mc_list_add_tail(&be->lent, &it->link);
	if (it->ep == NULL)
		return;
	it->ep->inbox_n--;
	it->ep->inbox_bytes -= it->ev.len;
	if (it->ep->fifo_n > 0) {
		it->ep->be->kick = true;
		mc_loop_signal(it->ep->be);
	}
	it->ep = NULL;
}

static uint32_t loop_poll(struct mc_be *be, struct mc_be_event *ev, uint32_t max)
{
	uint64_t budget = POLL_BYTES;
	struct mc_list *l;
	mc_status_t s;
	uint32_t n = 0;

	pthread_mutex_lock(&be->hub->lock);
	be->kick = false;
	while ((l = mc_list_pop(&be->lent)) != NULL)
		mc_loop_item_put(be, mc_container_of(l, struct loop_item, link));
	s = mc_loop_fault_hit(be, MC_LOOP_POLL);
	if (s != MC_OK && max > 0)
		ev[n++] = (struct mc_be_event){.kind = MC_EV_FATAL, .status = s};
	for (l = be->eps.next; l != &be->eps; l = l->next)
		mc_loop_ep_run(mc_container_of(l, struct mc_be_ep, link), &budget);
	while (n < max && (l = mc_list_pop(&be->events)) != NULL)
		event_out(be, mc_container_of(l, struct loop_item, link), &ev[n++]);
	pthread_mutex_unlock(&be->hub->lock);
	return n;
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

static void ep_fault(struct mc_be_ep *ep, const struct mc_loop_fault *f)
{
	struct mc_be *peer = ep->peer;
	mc_status_t s = f->status == MC_OK ? MC_ERR_PEER_DOWN : f->status;

	if (f->kind == MC_LOOP_HOLD)
		ep->hold = f->n != 0;
	else if (f->kind == MC_LOOP_MANUAL)
		ep->manual = f->n != 0;
	else if (f->kind == MC_LOOP_DROP)
		ep->drop_n = f->n;
	else if (f->kind == MC_LOOP_RELEASE)
		ep->release_n += f->n;
	if (f->kind != MC_LOOP_KILL)
		return;
	ep_fail(ep, s);
	be_fail_eps(peer, ep->be, s);
}

static void prove(struct mc_be *be, bool wait)
{
	be->prove = wait;
	for (struct mc_list *l = be->eps.next; l != &be->eps && !wait; l = l->next) {
		struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, link);
		if (ep->unproved && ep->state == EP_CONN)
			mc_loop_event(be, ep, MC_EV_EP_UP, MC_OK, ep->cookie);
		ep->unproved = false;
	}
}

void mc_loop_fault(struct mc_be *be, const struct mc_loop_fault *f)
{
	pthread_mutex_lock(&be->hub->lock);
	if (f->kind == MC_LOOP_FAIL && f->slot < MC_LOOP_SLOTS) {
		be->fail[f->slot].kth = f->kth;
		be->fail[f->slot].status = f->status;
	} else if (f->kind == MC_LOOP_TAKE) {
		be->take_max = f->n == 0 || f->n > LOOP_TAKE_MAX ? LOOP_TAKE_MAX : f->n;
	} else if (f->kind == MC_LOOP_PROVE) {
		prove(be, f->n != 0);
	} else {
		for (struct mc_list *l = be->eps.next; l != &be->eps; l = l->next) {
			struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, link);
			if (ep->peer != NULL && (f->peer == MC_ANY_PEER || f->peer == ep->peer->rank))
				ep_fault(ep, f);
		}
	}
	be->kick = true;
	mc_loop_signal(be);
	pthread_mutex_unlock(&be->hub->lock);
}

const struct mc_be_ops mc_be_loop = {
	.abi = MC_BE_ABI,
	.size = sizeof(struct mc_be_ops),
	.name = "loop",
	.open = loop_open,
	.close = loop_close,
	.arm = loop_arm,
	.mem_reg = loop_mem_reg,
	.mem_dereg = loop_mem_dereg,
	.mem_export = loop_mem_export,
	.rmem_import = loop_rmem_import,
	.rmem_drop = loop_rmem_drop,
	.ep_create = loop_ep_create,
	.ep_connect = loop_ep_connect,
	.ep_close = loop_ep_close,
	.send = mc_loop_send,
	.post = mc_loop_post,
	.poll = loop_poll,
};

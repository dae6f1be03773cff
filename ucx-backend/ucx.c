/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx.c - backend on UCX: RDMA, TCP or shared memory through one worker. The table, open, close, sleep, events. */
#include "ucx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

extern const struct mc_be_ops mc_be_ucx;

enum { PROGRESS_MAX = 16, WATCH_EVERY = 4096 };

/* What a failed call on a connection means for the peer. */
mc_status_t mc_ucx_status(ucs_status_t s)
{
	switch (s) {
	case UCS_OK:
		return MC_OK;
	case UCS_ERR_NO_MEMORY:
		return MC_ERR_NOMEM;
	case UCS_ERR_UNSUPPORTED:
	case UCS_ERR_NOT_IMPLEMENTED:
		return MC_ERR_UNSUPPORTED;
	default:
		return MC_ERR_PEER_DOWN;
	}
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static bool events_grow(struct mc_be *be)
{
	uint32_t cap = be->ev_cap == 0 ? 1024 : be->ev_cap * 2;
	struct ucx_event *v = mc_ring_grow(be->evq, be->ev_cap, be->ev_head, be->ev_n, cap, sizeof(*v));

	if (v == NULL)
		return false;
	be->evq = v;
	be->ev_cap = cap;
	be->ev_head = 0;
	return true;
}

void mc_ucx_event(struct mc_be *be, enum mc_be_kind kind, mc_status_t s, ucs_status_t native, uint64_t cookie,
		  struct mc_be_ep *ep, struct ucx_rx *rx)
{
	struct ucx_event *e;

	if (be->ev_n == be->ev_cap && !events_grow(be)) {
		mc_error("ucx: rank %u: no memory for %u events", be->rank, be->ev_cap * 2);
		be->fatal = true;
		if (rx != NULL)
			mc_ucx_rx_put(be, rx);
		return;
	}
	e = &be->evq[(be->ev_head + be->ev_n++) & (be->ev_cap - 1)];
	*e = (struct ucx_event){.ep = ep, .rx = rx};
	e->ev.kind = kind;
	e->ev.status = s;
	e->ev.cookie = cookie;
	e->ev.native = native;
	e->ev.why = native != UCS_OK ? ucs_status_string(native) : NULL;
	if (rx == NULL)
		return;
	e->ev.data = rx->data;
	e->ev.len = rx->len;
	e->ev.placed = rx->placed;
}

/* A closed ep says no more that it is up or down. */
void mc_ucx_events_forget(struct mc_be *be, const struct mc_be_ep *ep)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < be->ev_n; i++) {
		struct ucx_event e = be->evq[(be->ev_head + i) & (be->ev_cap - 1)];
		if (e.ep != ep)
			be->evq[(be->ev_head + kept++) & (be->ev_cap - 1)] = e;
	}
	be->ev_n = kept;
}

static uint32_t events_out(struct mc_be *be, struct mc_be_event *ev, uint32_t max)
{
	uint32_t n = 0;

	if (be->fatal && max > 0) {
		be->fatal = false;
		ev[n++] = (struct mc_be_event){.kind = MC_EV_FATAL, .status = MC_ERR_NOMEM};
	}
	while (n < max && be->ev_n > 0) {
		struct ucx_event *e = &be->evq[be->ev_head];
		be->ev_head = (be->ev_head + 1) & (be->ev_cap - 1);
		be->ev_n--;
		if (e->rx != NULL)
			mc_list_add_tail(&be->lent, &e->rx->node);
		ev[n++] = e->ev;
	}
	return n;
}

/* ---- open and close ---------------------------------------------------------------------------------------------- */

static void be_init(struct mc_be *be, const struct mc_be_cfg *cfg)
{
	struct mc_list *lists[] = {&be->links,    &be->mems,    &be->loose, &be->ctl,
				   &be->free_ops, &be->free_rx, &be->inbox, &be->lent};

	be->rank = cfg->rank;
	be->epoch = mc_random_u64();
	be->bulk = cfg->bulk;
	be->bulk_arg = cfg->bulk_arg;
	be->flags = MC_CAP_SAME_ADDR;
	be->efd = be->epfd = be->watch = -1;
	be->pipe[0] = be->pipe[1] = -1;
	for (size_t i = 0; i < MC_ARRAY_LEN(lists); i++)
		mc_list_init(lists[i]);
	for (size_t i = 0; i < UCX_HASH; i++)
		mc_list_init(&be->by_id[i]);
}

/* UCX hides the errno. Queues of an RDMA device are locked memory; else it is descriptors that run out. */
static const char *worker_hint(const struct mc_be_cfg *cfg, ucs_status_t st)
{
	if ((st == UCS_ERR_NO_MEMORY || st == UCS_ERR_IO_ERROR) && (cfg->transports & MC_TP_RDMA))
		return "; may it lock memory and open files? [memlock, open-files, see mcinfo doctor]";
	return "; may it open more files (ulimit -n)? [open-files, see mcinfo doctor]";
}

static mc_status_t worker_open(struct mc_be *be, const struct mc_be_cfg *cfg)
{
	ucp_worker_params_t params = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE | UCP_WORKER_PARAM_FIELD_AM_ALIGNMENT,
		.thread_mode = UCS_THREAD_MODE_SERIALIZED,
		.am_alignment = 16,
	};
	ucp_worker_attr_t attr = {.field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER};
	struct epoll_event e = {.events = EPOLLIN};
	ucs_status_t st = ucp_worker_create(be->ctx, &params, &be->worker);

	if (st == UCS_OK)
		st = ucp_worker_get_efd(be->worker, &be->efd);
	if (st == UCS_OK)
		st = ucp_worker_query(be->worker, &attr);
	if (st != UCS_OK) {
		mc_error("ucx: rank %u: no worker: %s%s", be->rank, ucs_status_string(st), worker_hint(cfg, st));
		return MC_ERR_DEVICE;
	}
	be->head_max = attr.max_am_header < UCX_HEAD_MAX ? (uint32_t)attr.max_am_header : UCX_HEAD_MAX;
	be->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (be->epfd < 0 || epoll_ctl(be->epfd, EPOLL_CTL_ADD, be->efd, &e) != 0) {
		mc_error("ucx: rank %u: epoll: %s%s", be->rank, strerror(errno), mc_errno_hint(errno));
		return MC_ERR_NOMEM;
	}
	return MC_OK;
}

static void ops_free(struct mc_list *list)
{
	for (struct mc_list *l = mc_list_pop(list); l != NULL; l = mc_list_pop(list)) {
		struct ucx_op *op = mc_container_of(l, struct ucx_op, node);
		free(op->buf);
		free(op->head);
		free(op);
	}
}

/* Also of a half-made mc_be. What UCX may still know of goes after its worker. */
static void be_free(struct mc_be *be)
{
	struct mc_list *l;

	while ((l = mc_list_pop(&be->mems)) != NULL) {
		struct mc_be_mem *mem = mc_container_of(l, struct mc_be_mem, node);
		if (mem->memh != NULL)
			ucp_mem_unmap(be->ctx, mem->memh);
		free(mem);
	}
	while (be->ev_n > 0) {
		struct mc_be_event ev;
		events_out(be, &ev, 1);
	}
	mc_ucx_rx_free(be, &be->inbox);
	mc_ucx_rx_free(be, &be->lent);
	mc_ucx_rx_free(be, &be->free_rx);
	if (be->worker != NULL)
		ucp_worker_destroy(be->worker);
	if (be->ctx != NULL)
		ucp_cleanup(be->ctx);
	mc_ucx_links_free(be);
	while ((l = mc_list_pop(&be->loose)) != NULL) {
		struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, node);
		ops_free(&ep->ops);
		free(ep);
	}
	ops_free(&be->ctl);
	ops_free(&be->free_ops);
	mc_ucx_watch_close(be);
	if (be->epfd >= 0)
		close(be->epfd);
	free(be->evq);
	free(be);
}

static void ucx_close(struct mc_be *be)
{
	mc_ucx_links_close(be);
	be_free(be);
}

static mc_status_t ucx_open(const struct mc_be_cfg *cfg, struct mc_be **be_out, struct mc_be_caps *caps_out, char *why,
			    size_t why_len)
{
	struct mc_be *be = calloc(1, sizeof(*be));
	mc_status_t s;

	if (be == NULL)
		return MC_ERR_NOMEM;
	be_init(be, cfg);
	s = mc_ucx_context_open(be, cfg, why, why_len);
	if (s == MC_OK)
		s = worker_open(be, cfg);
	if (s == MC_OK && (cfg->transports & MC_TP_SHM))
		s = mc_ucx_watch_open(be);
	if (s == MC_OK)
		s = mc_ucx_am_register(be);
	if (s == MC_OK)
		s = mc_ucx_addr_make(be);
	if (s != MC_OK) {
		be_free(be);
		return s;
	}
	*caps_out = (struct mc_be_caps){
		.flags = be->flags,
		.addr_len = be->addr_len,
		.addr = be->addr,
		.msg_max = UCX_MSG_MAX,
		.copy_max = UCX_COPY_MAX,
		.iov_max = UCX_IOV_MAX,
		.blob_max = be->flags & MC_CAP_RMA ? UCX_BLOB_MAX + 64 : 0,
		.event_fd = be->watch >= 0 ? be->epfd : be->efd, /* each level of nesting costs at every wake-up */
	};
	snprintf(caps_out->text, sizeof(caps_out->text), "%s", be->text);
	*be_out = be;
	return MC_OK;
}

/* ---- sleep and progress ------------------------------------------------------------------------------------------ */

static mc_status_t ucx_arm(struct mc_be *be)
{
	ucs_status_t st;

	if (be->ev_n > 0 || be->kick || be->has_err || be->fatal || be->dying_n > 0 || !mc_list_empty(&be->inbox) ||
	    mc_ucx_posts_waiting(be))
		return MC_ERR_AGAIN;
	st = ucp_worker_arm(be->worker);
	if (st == UCS_ERR_BUSY)
		return MC_ERR_AGAIN;
	if (st != UCS_OK) {
		mc_error("ucx: rank %u: worker cannot be armed: %s", be->rank, ucs_status_string(st));
		return MC_ERR_DEVICE;
	}
	be->armed = true;
	return MC_OK;
}

static uint32_t ucx_poll(struct mc_be *be, struct mc_be_event *ev, uint32_t max)
{
	struct mc_list *l;
	unsigned moved = 0;

	while ((l = mc_list_pop(&be->lent)) != NULL)
		mc_ucx_rx_put(be, mc_container_of(l, struct ucx_rx, node));
	if (be->watched_n > 0 && (be->armed || ++be->polls % WATCH_EVERY == 0))
		mc_ucx_watch_poll(be);
	be->armed = false;
	mc_ucx_posts_run(be);
	for (int i = 0; i < PROGRESS_MAX && be->ev_n < max; i++) {
		moved = ucp_worker_progress(be->worker);
		mc_ucx_inbox_run(be);
		if (moved == 0 || be->ev_n > 0) /* what came is wanted now; the next poll brings the rest */
			break;
	}
	if (be->unsaid_n > 0)
		mc_ucx_meet_run(be);
	/* Nothing more to read: what a dead peer had sent has been read, too. */
	if (be->dying_n > 0 && moved == 0 && be->ev_n < max)
		mc_ucx_dying_run(be);
	if (be->has_err || be->kick)
		mc_ucx_links_run(be);
	return events_out(be, ev, max);
}

const struct mc_be_ops mc_be_ucx = {
	.abi = MC_BE_ABI,
	.size = sizeof(struct mc_be_ops),
	.name = "ucx",
	.transports = MC_TP_SHM | MC_TP_TCP | MC_TP_RDMA,
	.open = ucx_open,
	.close = ucx_close,
	.arm = ucx_arm,
	.mem_reg = mc_ucx_mem_reg,
	.mem_dereg = mc_ucx_mem_dereg,
	.mem_export = mc_ucx_mem_export,
	.rmem_import = mc_ucx_rmem_import,
	.rmem_drop = mc_ucx_rmem_drop,
	.ep_create = mc_ucx_ep_create,
	.ep_connect = mc_ucx_ep_connect,
	.ep_close = mc_ucx_ep_close,
	.send = mc_ucx_send,
	.post = mc_ucx_post,
	.poll = ucx_poll,
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs.c - backend on libibverbs: native RDMA over several cards. The table, open, close, sleep, events. */
#include "verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

extern const struct mc_be_ops mc_be_verbs;

enum { LOOK_EVERY = 64, FD_EVENTS = 32 };

/* ---- events ------------------------------------------------------------------------------------------------------ */

static bool events_grow(struct mc_be *be)
{
	uint32_t cap = be->ev_cap == 0 ? 1024 : be->ev_cap * 2;
	struct vb_event *v = mc_ring_grow(be->evq, be->ev_cap, be->ev_head, be->ev_n, cap, sizeof(*v));

	if (v == NULL)
		return false;
	be->evq = v;
	be->ev_cap = cap;
	be->ev_head = 0;
	return true;
}

static struct vb_event *event_add(struct mc_be *be)
{
	struct vb_event *e;

	if (be->ev_n == be->ev_cap && !events_grow(be)) {
		mc_error("verbs: rank %u: no memory for %u events", be->rank, be->ev_cap * 2);
		be->fatal = true;
		return NULL;
	}
	e = &be->evq[(be->ev_head + be->ev_n++) & (be->ev_cap - 1)];
	memset(e, 0, sizeof(*e));
	return e;
}

void mc_vb_event(struct mc_be *be, enum mc_be_kind kind, mc_status_t s, int32_t native, const char *why,
		 uint64_t cookie, struct mc_be_ep *ep)
{
	struct vb_event *e = event_add(be);

	if (e == NULL)
		return;
	e->ep = ep;
	e->ev = (struct mc_be_event){.kind = kind, .status = s, .cookie = cookie, .native = native, .why = why};
}

/* data lies in buf, or in heap, which go back when the event has been seen. */
void mc_vb_event_msg(struct mc_be *be, const void *data, uint32_t len, struct vb_buf *buf, void *heap)
{
	struct vb_event *e = event_add(be);

	if (e == NULL) {
		if (buf != NULL)
			mc_vb_buf_put(be, buf);
		free(heap);
		return;
	}
	e->buf = buf;
	e->heap = heap;
	e->ev = (struct mc_be_event){.kind = MC_EV_MSG, .status = MC_OK, .data = data, .len = len};
}

/* A closed ep says no more that it is up or down. */
void mc_vb_events_forget(struct mc_be *be, const struct mc_be_ep *ep)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < be->ev_n; i++) {
		struct vb_event e = be->evq[(be->ev_head + i) & (be->ev_cap - 1)];
		if (e.ep != ep)
			be->evq[(be->ev_head + kept++) & (be->ev_cap - 1)] = e;
	}
	be->ev_n = kept;
}

/* What the last poll gave out is not looked at any more. */
static void lent_return(struct mc_be *be)
{
	struct mc_list *l;

	while ((l = mc_list_pop(&be->lent)) != NULL)
		mc_vb_buf_put(be, mc_container_of(l, struct vb_buf, node));
	while (be->lent_heap_n > 0)
		free(be->lent_heap[--be->lent_heap_n]);
}

static bool lend_heap(struct mc_be *be, void *p)
{
	if (be->lent_heap_n == be->lent_heap_cap) {
		uint32_t cap = be->lent_heap_cap == 0 ? 64 : be->lent_heap_cap * 2;
		void **v = realloc(be->lent_heap, cap * sizeof(void *));
		if (v == NULL)
			return false;
		be->lent_heap = v;
		be->lent_heap_cap = cap;
	}
	be->lent_heap[be->lent_heap_n++] = p;
	return true;
}

static uint32_t events_out(struct mc_be *be, struct mc_be_event *ev, uint32_t max)
{
	uint32_t n = 0;

	if (be->fatal && max > 0) {
		be->fatal = false;
		ev[n++] = (struct mc_be_event){.kind = MC_EV_FATAL, .status = MC_ERR_NOMEM};
	}
	while (n < max && be->ev_n > 0) {
		struct vb_event *e = &be->evq[be->ev_head];
		if (e->heap != NULL && !lend_heap(be, e->heap))
			break;
		be->ev_head = (be->ev_head + 1) & (be->ev_cap - 1);
		be->ev_n--;
		if (e->buf != NULL)
			mc_list_add_tail(&be->lent, &e->buf->node);
		ev[n++] = e->ev;
	}
	return n;
}

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

bool mc_vb_fd_add(struct mc_be *be, struct vb_fd *fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = fd};

	return epoll_ctl(be->epfd, EPOLL_CTL_ADD, fd->fd, &e) == 0;
}

void mc_vb_timer_want(struct mc_be *be, int64_t at_ns)
{
	struct itimerspec t = {0};

	if (at_ns >= be->timer_ns)
		return;
	be->timer_ns = at_ns;
	t.it_value.tv_sec = at_ns / 1000000000;
	t.it_value.tv_nsec = at_ns % 1000000000;
	(void)timerfd_settime(be->timer.fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static void on_cq_event(struct vb_nic *nic)
{
	struct ibv_cq *cq;
	void *arg;

	if (ibv_get_cq_event(nic->chan, &cq, &arg) != 0)
		return;
	nic->armed = false;
	if (++nic->unacked >= 256) { /* acknowledging takes a lock: rarely, and many at once */
		ibv_ack_cq_events(nic->cq, nic->unacked);
		nic->unacked = 0;
	}
}

static void on_timer(struct mc_be *be)
{
	uint64_t n;

	(void)!read(be->timer.fd, &n, sizeof(n));
	be->timer_ns = INT64_MAX;
	mc_vb_links_timers(be, mc_now_ns());
}

static void fds_run(struct mc_be *be)
{
	struct epoll_event e[FD_EVENTS];
	int n = epoll_wait(be->epfd, e, FD_EVENTS, 0);

	for (int i = 0; i < n; i++) {
		struct vb_fd *fd = e[i].data.ptr;
		switch (fd->kind) {
		case VB_FD_LISTEN:
			mc_vb_accept(be);
			break;
		case VB_FD_CTL:
			mc_vb_ctl_io(mc_container_of(fd, struct vb_ctl, fd), e[i].events);
			break;
		case VB_FD_CQ:
			on_cq_event(mc_container_of(fd, struct vb_nic, cq_fd));
			break;
		case VB_FD_ASYNC:
			mc_vb_nic_async(mc_container_of(fd, struct vb_nic, async_fd));
			break;
		case VB_FD_TIMER:
			on_timer(be);
			break;
		case VB_FD_JOB:
			mc_vb_jobs_run(be, true);
			break;
		case VB_FD_CM:
			mc_vb_cm_run(be);
			break;
		}
	}
	mc_vb_ctls_free(be);
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

static uint32_t cqs_run(struct mc_be *be)
{
	uint32_t n = 0;

	be->in_cq = true;
	for (uint32_t i = 0; i < be->nic_n && be->ev_n < VB_EVENTS_KEEP; i++)
		n += mc_vb_cq_run(&be->nic[i], VB_EVENTS_KEEP);
	be->in_cq = false;
	return n;
}

static void work_run(struct mc_be *be)
{
	struct mc_list todo, *l;

	if (mc_list_empty(&be->working))
		return;
	/* Whoever comes back into the list meanwhile has its turn with the next poll. */
	mc_list_init(&todo);
	while ((l = mc_list_pop(&be->working)) != NULL)
		mc_list_add_tail(&todo, l);
	while ((l = mc_list_pop(&todo)) != NULL) {
		struct vb_link *link = mc_container_of(l, struct vb_link, work);
		if (link->state == LINK_DEAD)
			continue;
		mc_vb_again_run(link);
		mc_vb_msg_run(link);
		mc_vb_link_settle(link);
	}
}

void mc_vb_progress(struct mc_be *be)
{
	if (be->armed || ++be->polls % LOOK_EVERY == 0)
		fds_run(be);
	be->armed = false;
	if (!mc_list_empty(&be->jobs))
		mc_vb_jobs_run(be, false);
	cqs_run(be);
	work_run(be);
	if (be->rails_due)
		mc_vb_rails_run(be);
	if (be->links_due)
		mc_vb_links_sweep(be);
}

static uint32_t verbs_poll(struct mc_be *be, struct mc_be_event *ev, uint32_t max)
{
	lent_return(be);
	mc_vb_progress(be);
	return events_out(be, ev, max);
}

static mc_status_t verbs_arm(struct mc_be *be)
{
	if (be->ev_n > 0 || be->fatal || be->links_due || !mc_list_empty(&be->working))
		return MC_ERR_AGAIN;
	for (uint32_t i = 0; i < be->nic_n; i++) {
		struct vb_nic *nic = &be->nic[i];
		if (nic->armed || nic->fatal)
			continue;
		if (ibv_req_notify_cq(nic->cq, 0) != 0) {
			mc_error("verbs: rank %u: %s cannot be armed: %s", be->rank, nic->port.name, strerror(errno));
			return MC_ERR_DEVICE;
		}
		nic->armed = true;
		/* What came before that would not be announced. */
		be->in_cq = true;
		(void)mc_vb_cq_run(nic, VB_EVENTS_KEEP);
		be->in_cq = false;
	}
	if (be->ev_n > 0 || be->fatal || be->links_due || !mc_list_empty(&be->working))
		return MC_ERR_AGAIN;
	be->armed = true;
	return MC_OK;
}

/* ---- open and close ---------------------------------------------------------------------------------------------- */

static void be_init(struct mc_be *be, const struct mc_be_cfg *cfg)
{
	struct mc_list *lists[] = {&be->links, &be->working, &be->lru,      &be->mems,        &be->loose,    &be->ctls,
				   &be->lent,  &be->free_tx, &be->free_ops, &be->free_gather, &be->dead_ctls};

	be->config = cfg->config;
	be->rank = cfg->rank;
	be->size = cfg->size;
	be->instance = mc_random_u64();
	be->epfd = -1;
	be->timer_ns = INT64_MAX;
	be->listener = (struct vb_fd){.kind = VB_FD_LISTEN, .fd = -1};
	be->job_fd.fd = -1;
	mc_list_init(&be->jobs);
	be->timer = (struct vb_fd){.kind = VB_FD_TIMER, .fd = -1};
	for (size_t i = 0; i < MC_ARRAY_LEN(lists); i++)
		mc_list_init(lists[i]);
}

static mc_status_t fds_open(struct mc_be *be)
{
	be->epfd = epoll_create1(EPOLL_CLOEXEC);
	be->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (be->epfd >= 0 && be->timer.fd >= 0 && mc_vb_fd_add(be, &be->timer, EPOLLIN))
		return MC_OK;
	mc_error("verbs: rank %u: no descriptors: %s [open-files, see mcinfo doctor]", be->rank, strerror(errno));
	return MC_ERR_NOMEM;
}

/* No more than the device can. */
static void want_clamp(struct vb_want *want, const struct ibv_device_attr *a)
{
	if (a->max_cqe > 0 && (uint32_t)a->max_cqe < want->max_cqe)
		want->max_cqe = (uint32_t)a->max_cqe;
	if (a->max_qp_wr > 0 && (uint32_t)a->max_qp_wr < want->depth)
		want->depth = (uint32_t)a->max_qp_wr;
	if (a->max_srq_wr > 0 && (uint32_t)a->max_srq_wr < want->buffers)
		want->buffers = (uint32_t)a->max_srq_wr;
}

static mc_status_t plan_make(struct mc_be *be, char *why, size_t why_len)
{
	struct vb_want want = {.peers = be->size > 0 ? be->size - 1 : 0,
			       .nics = be->nic_n,
			       .qps = be->config->verbs_qps,
			       .buffers = be->config->verbs_buffers,
			       .depth = be->config->verbs_depth,
			       .max_cqe = UINT32_MAX,
			       .objects = UINT64_MAX};
	char where[512] = "", one[512];
	uint32_t least;

	for (uint32_t i = 0; i < be->nic_n; i++) {
		struct ibv_device_attr a;
		uint64_t left = mc_vb_objects_left(ibv_get_device_name(be->nic[i].ctx->device), one, sizeof(one));
		if (ibv_query_device(be->nic[i].ctx, &a) == 0)
			want_clamp(&want, &a);
		if (left < want.objects) {
			want.objects = left;
			snprintf(where, sizeof(where), "%s", one);
		}
	}
	mc_vb_plan(&want, &be->plan);
	be->buffers = want.buffers;
	/*
	 * A packet without a buffer ends an iWARP connection: there must be one for all that all peers may send, beside
	 * those whose messages wait to be looked at.
	 */
	least = (want.peers + 1) * (be->plan.window + 4) + 2 * VB_EVENTS_KEEP;
	for (uint32_t i = 0; i < be->nic_n; i++)
		if (be->nic[i].port.layer == VB_IWARP && be->buffers < least)
			be->buffers = least;
	if (be->plan.hopeless) {
		/* Room in why is short, and the doctor's check must be in it. */
		snprintf(why, why_len,
			 "%.150s, %d objects per port are the least: raise it, or that above [rdma-cgroup, see mcinfo "
			 "doctor]",
			 where, VB_OBJECTS_NIC + 1);
		return MC_ERR_UNSUPPORTED;
	}
	be->limit_told = be->plan.reduced;
	if (be->plan.reduced)
		mc_warn("verbs: rank %u: %s: %u instead of %u queue pairs per rail, and idle connections are closed "
			"when others are needed [rdma-cgroup, see mcinfo doctor]",
			be->rank, where, be->plan.qps, be->config->verbs_qps);
	return MC_OK;
}

static void address_make(struct mc_be *be)
{
	be->self.instance = be->instance;
	be->self.rank = be->rank;
	be->self.nic_n = be->nic_n;
	for (uint32_t i = 0; i < be->nic_n; i++)
		be->self.nic[i] = be->nic[i].port;
	be->addr_len = mc_vb_addr_make(&be->self, be->addr);
	snprintf(be->text, sizeof(be->text), "rdma ");
	for (uint32_t i = 0; i < be->nic_n && !be->nic[i].port.spare; i++) {
		size_t used = strlen(be->text);
		snprintf(be->text + used, sizeof(be->text) - used, "%s%s", i > 0 ? "+" : "", be->nic[i].port.name);
	}
}

static void be_free(struct mc_be *be)
{
	struct mc_list *l;

	mc_vb_tx_free_all(be);
	while ((l = mc_list_pop(&be->free_ops)) != NULL)
		free(mc_container_of(l, struct vb_op, node));
	while ((l = mc_list_pop(&be->free_gather)) != NULL)
		free(mc_container_of(l, struct vb_gather, node));
	while (!mc_list_empty(&be->mems))
		mc_vb_mem_dereg(be, mc_container_of(be->mems.next, struct mc_be_mem, node));
	while (!mc_list_empty(&be->ctls))
		mc_vb_ctl_drop(mc_container_of(be->ctls.next, struct vb_ctl, node));
	mc_vb_ctls_free(be);
	mc_vb_jobs_close(be);
	while (be->lent_heap_n > 0)
		free(be->lent_heap[--be->lent_heap_n]);
	for (uint32_t i = 0; i < be->ev_n; i++)
		free(be->evq[(be->ev_head + i) & (be->ev_cap - 1)].heap);
	mc_vb_nics_close(be);
	mc_vb_cm_close(be);
	mc_vb_area_close(be);
	if (be->listener.fd >= 0)
		close(be->listener.fd);
	if (be->timer.fd >= 0)
		close(be->timer.fd);
	if (be->epfd >= 0)
		close(be->epfd);
	free(be->lent_heap);
	free(be->evq);
	free(be->qp);
	free(be->qp_gen);
	free(be);
}

static mc_status_t parts_open(struct mc_be *be, const struct mc_be_cfg *cfg, char *why, size_t why_len)
{
	mc_status_t s = mc_vb_nics_open(be, cfg, why, why_len);

	if (s == MC_OK)
		s = plan_make(be, why, why_len);
	if (s != MC_OK)
		return s;
	snprintf(why, why_len, "no memory, or no RDMA objects: see the log");
	s = fds_open(be);
	if (s == MC_OK && !mc_vb_cm_watch(be))
		s = MC_ERR_NOMEM;
	if (s == MC_OK)
		s = mc_vb_jobs_open(be);
	if (s == MC_OK)
		s = mc_vb_area_open(be);
	for (uint32_t i = 0; i < be->nic_n && s == MC_OK; i++)
		s = mc_vb_nic_objects(&be->nic[i]);
	if (be->why[0] != '\0')
		snprintf(why, why_len, "%s", be->why);
	if (s == MC_OK)
		s = mc_vb_listen(be);
	return s;
}

static mc_status_t verbs_open(const struct mc_be_cfg *cfg, struct mc_be **be_out, struct mc_be_caps *caps_out,
			      char *why, size_t why_len)
{
	struct mc_be *be;
	mc_status_t s;

	if (!(cfg->transports & MC_TP_RDMA)) {
		snprintf(why, why_len, "MC_TRANSPORT does not allow RDMA");
		return MC_ERR_UNSUPPORTED;
	}
	be = calloc(1, sizeof(*be));
	if (be == NULL)
		return MC_ERR_NOMEM;
	be_init(be, cfg);
	s = mc_mac_key_parse(cfg->config->job_key, &be->key);
	if (s == MC_OK)
		s = parts_open(be, cfg, why, why_len);
	if (s != MC_OK) {
		be_free(be);
		return s;
	}
	address_make(be);
	*caps_out = (struct mc_be_caps){
		.flags = MC_CAP_RMA | MC_CAP_POST_MSG | MC_CAP_SAME_ADDR | MC_CAP_DMABUF | MC_CAP_PROVE,
		.addr_len = be->addr_len,
		.addr = be->addr,
		.msg_max = VB_MSG_MAX,
		.copy_max = VB_COPY_MAX,
		.iov_max = VB_IOV_MAX,
		.blob_max = VB_BLOB_MAX,
		.event_fd = be->epfd,
	};
	snprintf(caps_out->text, sizeof(caps_out->text), "%s", be->text);
	*be_out = be;
	return MC_OK;
}

static void verbs_close(struct mc_be *be)
{
	const struct vb_stats *t = &be->stats;

	lent_return(be);
	mc_vb_links_close(be);
	mc_info("verbs: rank %u: %llu work requests with %llu doorbells and %llu signalled completions, %llu bytes; "
		"%llu "
		"packets, %llu acknowledgements, %llu sent again",
		be->rank, (unsigned long long)t->wrs, (unsigned long long)t->doorbells,
		(unsigned long long)t->signalled, (unsigned long long)t->bytes, (unsigned long long)t->packets,
		(unsigned long long)t->acks, (unsigned long long)t->again);
	be_free(be);
}

const struct mc_be_ops mc_be_verbs = {
	.abi = MC_BE_ABI,
	.size = sizeof(struct mc_be_ops),
	.name = "verbs",
	.transports = MC_TP_RDMA,
	.open = verbs_open,
	.close = verbs_close,
	.arm = verbs_arm,
	.mem_reg = mc_vb_mem_reg,
	.mem_dereg = mc_vb_mem_dereg,
	.mem_export = mc_vb_mem_export,
	.rmem_import = mc_vb_rmem_import,
	.rmem_drop = mc_vb_rmem_drop,
	.ep_create = mc_vb_ep_create,
	.ep_connect = mc_vb_ep_connect,
	.ep_close = mc_vb_ep_close,
	.send = mc_vb_send,
	.post = mc_vb_post,
	.poll = verbs_poll,
	.cancel = mc_vb_cancel,
};

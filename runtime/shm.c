/* SPDX-License-Identifier: BSD-3-Clause */
/* shm.c - same-host backend: its table, open and close, sleeping, and the order of work in poll. See shm.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "copy.h"
#include "shm.h"

enum {
	WATCH_EVERY = 256, /* polls between looks at the epoll set while nobody sleeps */
	CLOSED_EVERY = 16, /* polls between questions to peers whether they have closed, */
	CLOSED_STEP = 4,   /* so many each time */
};

/* ---- events ---------------------------------------------------------------------------------------------- */

bool mc_shm_event_reserve(struct mc_be *be, uint32_t n)
{
	struct shm_evq *q = &be->evq;
	struct shm_qev *grown;
	uint32_t cap = q->cap != 0 ? q->cap : 256;

	if (q->reserved + n > q->cap) {
		while (cap < q->reserved + n)
			cap *= 2;
		grown = mc_ring_grow(q->v, q->cap, q->head, q->n, cap, sizeof(*grown));
		if (grown == NULL)
			return false;
		q->v = grown;
		q->cap = cap;
		q->head = 0;
	}
	q->reserved += n;
	return true;
}

static struct shm_qev *event_new(struct mc_be *be)
{
	struct shm_evq *q = &be->evq;
	struct shm_qev *e = &q->v[(q->head + q->n) & (q->cap - 1)];

	q->n++;
	memset(e, 0, sizeof(*e));
	return e;
}

void mc_shm_event_push(struct mc_be *be, enum mc_be_kind kind, mc_status_t s, uint64_t cookie, struct mc_be_ep *ep)
{
	struct shm_qev *e = event_new(be);

	e->ev.kind = kind;
	e->ev.status = s;
	e->ev.cookie = cookie;
	e->ep = ep;
	if (kind == MC_EV_EP_UP)
		ep->said_up = true;
	if (kind == MC_EV_EP_DOWN) {
		ep->said_down = true;
		e->ev.native = ep->peer->native;
		e->ev.why = s == MC_ERR_PROTO ? "it wrote a damaged message ring" : "its process ended or closed";
	}
}

void mc_shm_event_push_native(struct mc_be *be, const struct shm_post *post, mc_status_t s)
{
	struct shm_qev *e = event_new(be);

	e->ev.kind = MC_EV_DONE;
	e->ev.status = s;
	e->ev.cookie = post->cookie;
	e->ev.native = post->native;
	e->ev.why = post->why;
}

static uint32_t events_take(struct mc_be *be, struct mc_be_event *ev, uint32_t max)
{
	struct shm_evq *q = &be->evq;
	uint32_t n = 0;

	while (n < max && q->n > 0) {
		struct shm_qev *e = &q->v[q->head];

		if (e->ev.kind != 0)
			ev[n++] = e->ev;
		q->head = (q->head + 1) & (q->cap - 1);
		q->n--;
		q->reserved--;
	}
	return n;
}

/* ---- open and close -------------------------------------------------------------------------------------- */

static uint64_t ring_size(const struct mc_config *config)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), size = SHM_RING_MIN;

	while (size < SHM_RING_MAX && (size < config->shm_ring || size < page))
		size *= 2;
	return size;
}

static mc_status_t box_create(struct mc_be *be, char *why, size_t why_len)
{
	void *p;

	be->ring_size = ring_size(be->config);
	be->file_len =
		sizeof(struct shm_inbox) + be->ring_size * SHM_SLOTS; /* a hole: pages come with the first senders */
	be->fd = memfd_create("mc-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (be->fd < 0) {
		snprintf(why, why_len, "memfd_create: %s%s", strerror(errno), mc_errno_hint(errno));
		return MC_ERR_UNSUPPORTED;
	}
	if (ftruncate(be->fd, (off_t)be->file_len) != 0 ||
	    fcntl(be->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
		snprintf(why, why_len, "memfd of %llu bytes: %s (ulimit -f?)", (unsigned long long)be->file_len,
			 strerror(errno));
		goto undo_fd;
	}
	p = mmap(NULL, sizeof(struct shm_inbox), PROT_READ | PROT_WRITE, MAP_SHARED, be->fd, 0);
	if (p == MAP_FAILED) {
		snprintf(why, why_len, "mmap of the inbox: %s%s", strerror(errno), mc_errno_hint(errno));
		goto undo_fd;
	}
	be->box = p;
	be->box->magic = SHM_MAGIC;
	be->box->version = SHM_VERSION;
	be->box->pid = (uint32_t)be->pid;
	be->box->instance = be->instance;
	be->box->start = be->start;
	be->box->ring_size = be->ring_size;
	be->box->self = (uintptr_t)p;
	return MC_OK;
undo_fd:
	close(be->fd);
	return MC_ERR_UNSUPPORTED;
}

/* The socket that wakes us, with a name of the kernel's choice, in an epoll set. */
static mc_status_t sock_create(struct mc_be *be, char *why, size_t why_len)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(un);
	struct epoll_event ev = {.events = EPOLLIN};
	size_t name = offsetof(struct sockaddr_un, sun_path);

	be->sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (be->sock < 0)
		goto fail;
	if (bind(be->sock, (const struct sockaddr *)&un, sizeof(sa_family_t)) != 0 ||
	    getsockname(be->sock, (struct sockaddr *)&un, &len) != 0)
		goto undo_sock;
	be->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (be->epfd < 0)
		goto undo_sock;
	if (epoll_ctl(be->epfd, EPOLL_CTL_ADD, be->sock, &ev) != 0)
		goto undo_epoll;
	if (len <= name || len - name > SHM_WAKE_MAX) {
		errno = EPROTO;
		goto undo_epoll;
	}
	mc_shm_addr_make(be, (const uint8_t *)un.sun_path, (uint32_t)(len - name));
	return MC_OK;
undo_epoll:
	close(be->epfd);
undo_sock:
	close(be->sock);
fail:
	snprintf(why, why_len, "unix socket for wake-ups: %s%s", strerror(errno), mc_errno_hint(errno));
	return MC_ERR_UNSUPPORTED;
}

static void caps_fill(const struct mc_be *be, struct mc_be_caps *caps)
{
	memset(caps, 0, sizeof(*caps));
	caps->flags = MC_CAP_RMA | MC_CAP_POST_MSG | MC_CAP_SAME_ADDR | MC_CAP_PRIVATE | MC_CAP_QUIET;
	caps->addr = be->addr;
	caps->addr_len = be->addr_len;
	caps->msg_max = SHM_MSG_MAX;
	caps->copy_max = SHM_COPY_MAX;
	caps->iov_max = SHM_IOV_MAX;
	caps->blob_max = SHM_BLOB_MAX;
	caps->event_fd = be->epfd;
	snprintf(caps->text, sizeof(caps->text), "shm");
}

static mc_status_t shm_open_be(const struct mc_be_cfg *cfg, struct mc_be **be_out, struct mc_be_caps *caps_out,
			       char *why, size_t why_len)
{
	struct mc_be *be;
	mc_status_t s;

	if ((cfg->transports & MC_TP_SHM) == 0) {
		snprintf(why, why_len, "MC_TRANSPORT leaves out shared memory");
		return MC_ERR_UNSUPPORTED;
	}
	be = calloc(1, sizeof(*be));
	if (be == NULL)
		return MC_ERR_NOMEM;
	be->config = cfg->config;
	be->timer = -1;
	be->next_key = 1;
	be->budget = SHM_QUANTUM;
	be->nt = mc_copy_stream_pays();
	mc_list_init(&be->peers);
	mc_list_init(&be->dying);
	mc_list_init(&be->eps);
	mc_list_init(&be->working);
	mc_list_init(&be->blocked);
	mc_list_init(&be->ready);
	mc_list_init(&be->used);
	mc_list_init(&be->mems);
	mc_list_init(&be->free_posts);
	s = mc_shm_self_init(be, why, why_len);
	if (s == MC_OK)
		s = box_create(be, why, why_len);
	if (s != MC_OK)
		goto undo_be;
	s = sock_create(be, why, why_len);
	if (s != MC_OK)
		goto undo_box;
	caps_fill(be, caps_out);
	*be_out = be;
	return MC_OK;
undo_box:
	munmap(be->box, sizeof(*be->box));
	close(be->fd);
undo_be:
	free(be);
	return s;
}

/* ---- endpoints ------------------------------------------------------------------------------------------- */

static mc_status_t ep_create(struct mc_be *be, uint64_t cookie, void *blob, uint32_t *len, struct mc_be_ep **ep_out)
{
	struct mc_be_ep *ep;

	(void)blob;
	ep = calloc(1, sizeof(*ep));
	if (ep == NULL)
		return MC_ERR_NOMEM;
	if (!mc_shm_event_reserve(be, 2)) { /* EP_UP, EP_DOWN */
		free(ep);
		return MC_ERR_NOMEM;
	}
	ep->cookie = cookie;
	mc_list_init(&ep->peer_link);
	mc_list_init(&ep->work);
	mc_list_init(&ep->block);
	mc_list_init(&ep->posts);
	mc_list_add_tail(&be->eps, &ep->link);
	if (len != NULL)
		*len = 0;
	*ep_out = ep;
	return MC_OK;
}

static mc_status_t ep_connect(struct mc_be *be, struct mc_be_ep *ep, const void *addr, uint32_t len, char *text,
			      size_t text_len)
{
	struct shm_peer *peer;
	char scrap[8];
	mc_status_t s;

	if (text == NULL) {
		text = scrap;
		text_len = sizeof(scrap);
	}
	if (ep->state != SHM_EP_NEW || ep->peer != NULL)
		return MC_ERR_INVAL;
	s = mc_shm_peer_open(be, addr, len, &peer, text, text_len);
	if (s != MC_OK)
		return s;
	ep->peer = peer;
	s = mc_shm_slot_claim(be, ep, text, text_len);
	if (s != MC_OK) {
		ep->peer = NULL;
		mc_shm_peer_unref(peer);
		return s;
	}
	ep->state = SHM_EP_UP;
	mc_list_add_tail(&peer->eps, &ep->peer_link);
	mc_shm_event_push(be, MC_EV_EP_UP, MC_OK, ep->cookie, ep);
	snprintf(text, text_len, "%s", peer->cma ? "shm (mapped, cma)" : "shm (mapped)");
	return MC_OK;
}

/* EP_UP or EP_DOWN that was not reported yet: the caller has just said that it does not want it any more. */
static void events_forget(struct mc_be *be, const struct mc_be_ep *ep)
{
	for (uint32_t i = 0; i < be->evq.n; i++) {
		struct shm_qev *e = &be->evq.v[(be->evq.head + i) & (be->evq.cap - 1)];

		if (e->ep == ep)
			memset(e, 0, sizeof(*e));
	}
}

static void ep_close(struct mc_be *be, struct mc_be_ep *ep)
{
	events_forget(be, ep);
	if (!ep->said_up)
		be->evq.reserved--;
	if (!ep->said_down)
		be->evq.reserved--;
	mc_shm_posts_end(be, ep, MC_ERR_CANCELED);
	if (ep->stream.active)
		mc_shm_event_push(be, MC_EV_SENT, MC_ERR_CANCELED, ep->stream.cookie, NULL);
	mc_shm_slot_release(be, ep);
	mc_list_del(&ep->peer_link);
	mc_list_del(&ep->link);
	if (ep->peer != NULL)
		mc_shm_peer_unref(ep->peer);
	free(ep);
}

/* Peers learn at once that we are gone: they look at the flag when they wake. */
static void farewell(struct mc_be *be)
{
	uint32_t n = atomic_load(&be->box->slots_used);

	atomic_store(&be->box->closed, 1);
	for (uint32_t i = 0; i < n && i < SHM_SLOTS; i++) {
		struct shm_slot *slot = &be->box->slot[i];

		if ((atomic_load(&slot->state) & UINT32_MAX) == SHM_READY && slot->wake_len >= 2 && slot->wake[0] == 0)
			mc_shm_wake(be, slot->wake, slot->wake_len, NULL);
	}
}

static void shm_close(struct mc_be *be)
{
	struct mc_list *l;
	uint32_t eps = 0, mems = 0;

	for (; !mc_list_empty(&be->eps); eps++)
		ep_close(be, mc_container_of(be->eps.next, struct mc_be_ep, link));
	mc_shm_help_close(be);
	be->drain_until = mc_now_ns() + SHM_DRAIN_NS; /* for all of them together */
	for (; !mc_list_empty(&be->mems); mems++)
		mc_shm_mem_dereg(be, mc_container_of(be->mems.next, struct mc_be_mem, link));
	if (eps + mems > 0)
		mc_debug("shm: closed with %u endpoints and %u registrations", eps, mems);
	farewell(be);
	while ((l = mc_list_pop(&be->dying)) != NULL)
		mc_shm_peer_unref(mc_container_of(l, struct shm_peer, dying));
	for (uint32_t i = 0; i < SHM_SLOTS; i++)
		if (be->ring[i] != NULL)
			mc_shm_ring_free(be, be->ring[i]);
	while (!mc_list_empty(&be->peers)) { /* what is left has descriptors that nobody dropped */
		struct shm_peer *peer = mc_container_of(be->peers.next, struct shm_peer, link);

		peer->refs++;
		while (!mc_list_empty(&peer->rmems))
			mc_shm_rmem_free(mc_container_of(peer->rmems.next, struct mc_be_rmem, link));
		mc_shm_peer_unref(peer);
	}
	mc_shm_posts_free(be);
	if (be->timer >= 0)
		close(be->timer);
	close(be->epfd);
	close(be->sock);
	munmap(be->box, sizeof(*be->box));
	close(be->fd);
	free(be->evq.v);
	free(be);
}

/* ---- progress -------------------------------------------------------------------------------------------- */

static bool work_left(const struct mc_be *be)
{
	return be->evq.n > 0 || be->any_lost || !mc_list_empty(&be->working) || !mc_list_empty(&be->ready) ||
	       !mc_list_empty(&be->used) || !mc_list_empty(&be->dying);
}

static mc_status_t arm(struct mc_be *be)
{
	if (work_left(be) || !mc_shm_blocked_arm(be))
		return MC_ERR_AGAIN;
	/* From here on a sender that rings wakes us; what it rang before is seen below. */
	atomic_exchange(&be->box->sleeping, 1);
	mc_shm_closed_check(be, UINT32_MAX);
	if (!mc_shm_doors_quiet(be) || work_left(be)) {
		atomic_store(&be->box->sleeping, 0);
		return MC_ERR_AGAIN;
	}
	be->armed = true;
	return MC_OK;
}

/* Nothing to do but to look for messages, as far as that is known without looking. */
static bool idle(const struct mc_be *be)
{
	return be->polls % CLOSED_EVERY != 0 && !be->armed && be->evq.n == 0 && !be->any_lost &&
	       mc_list_empty(&be->used) && mc_list_empty(&be->blocked) && mc_list_empty(&be->working) &&
	       mc_list_empty(&be->ready) && mc_list_empty(&be->dying);
}

static uint32_t poll_be(struct mc_be *be, struct mc_be_event *ev, uint32_t max)
{
	uint32_t n;

	be->polls++;
	if (idle(be)) {
		struct shm_ring *ring = mc_shm_hot_ring(be);

		be->budget = SHM_QUANTUM;
		if (ring != NULL)
			return mc_shm_hot_read(be, ring, ev, max);
		if (mc_shm_doors_silent(be))
			return 0;
	}
	mc_shm_used_release(be);
	if (be->armed || be->polls % WATCH_EVERY == 0) {
		if (be->armed)
			atomic_store(&be->box->sleeping, 0);
		be->armed = false;
		mc_shm_watch(be);
	}
	if (be->any_lost || be->polls % CLOSED_EVERY == 0)
		mc_shm_closed_check(be, CLOSED_STEP);
	be->budget = SHM_QUANTUM;
	if (!mc_list_empty(&be->blocked))
		mc_shm_blocked_run(be);
	if (!mc_list_empty(&be->working))
		mc_shm_posts_run(be);
	n = events_take(be, ev, max);
	mc_shm_doors_read(be);
	n += mc_shm_msgs_read(be, ev + n, max - n);
	if (!mc_list_empty(&be->dying)) {
		mc_shm_peer_finish(be);
		n += events_take(be, ev + n, max - n);
	}
	return n;
}

const struct mc_be_ops mc_be_shm = {
	.abi = MC_BE_ABI,
	.size = sizeof(struct mc_be_ops),
	.name = "shm",
	.transports = MC_TP_SHM,
	.open = shm_open_be,
	.close = shm_close,
	.arm = arm,
	.mem_reg = mc_shm_mem_reg,
	.mem_dereg = mc_shm_mem_dereg,
	.mem_export = mc_shm_mem_export,
	.rmem_import = mc_shm_rmem_import,
	.rmem_drop = mc_shm_rmem_drop,
	.rmem_map = mc_shm_rmem_map,
	.ep_create = ep_create,
	.ep_connect = ep_connect,
	.ep_close = ep_close,
	.send = mc_shm_send,
	.post = mc_shm_post,
	.poll = poll_be,
	.put_now = mc_shm_put_now,
};

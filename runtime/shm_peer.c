/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm_peer.c - how a peer's inbox is found and how its end is noticed: a pidfd for the process, a flag in its inbox for
 * an orderly close, a refused datagram for whatever else took its socket away.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm.h"

enum { WATCH_EVENTS = 16, TIMER_MS = 200 };

/* ---- watching -------------------------------------------------------------------------------------------- */

static void timer_start(struct mc_be *be, int err)
{
	struct itimerspec every = {
		.it_interval = {.tv_nsec = TIMER_MS * 1000000L},
		.it_value = {.tv_nsec = TIMER_MS * 1000000L},
	};
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &be->timer};

	if (be->timer >= 0)
		return;
	mc_info("shm: no pidfd here (%s): deaths of peers are noticed within %d ms", strerror(err), TIMER_MS);
	be->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (be->timer < 0 || timerfd_settime(be->timer, 0, &every, NULL) != 0 ||
	    epoll_ctl(be->epfd, EPOLL_CTL_ADD, be->timer, &ev) != 0)
		mc_warn("shm: no timer either (%s): deaths of peers are noticed only when they are written to",
			strerror(errno));
}

static void peer_watch(struct shm_peer *peer)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = peer};
	int err;

	if (peer->own)
		return; /* ends with us */
	peer->pidfd = (int)syscall(SYS_pidfd_open, peer->pid, 0);
	err = errno;
	if (peer->pidfd >= 0 && epoll_ctl(peer->be->epfd, EPOLL_CTL_ADD, peer->pidfd, &ev) != 0) {
		err = errno;
		close(peer->pidfd);
		peer->pidfd = -1;
	}
	if (mc_shm_process_gone(peer->pid, peer->start))
		mc_shm_peer_lose(peer, MC_ERR_PEER_DOWN, ESRCH);
	else if (peer->pidfd < 0)
		timer_start(peer->be, err);
}

static struct shm_peer *peer_new(struct mc_be *be, uint64_t instance, uint64_t start, pid_t pid)
{
	struct shm_peer *peer = calloc(1, sizeof(*peer));

	if (peer == NULL)
		return NULL;
	mc_list_init(&peer->eps);
	mc_list_init(&peer->rings);
	mc_list_init(&peer->rmems);
	mc_list_init(&peer->dying);
	peer->be = be;
	peer->instance = instance;
	peer->start = start;
	peer->pid = pid;
	peer->pidfd = -1;
	peer->box_fd = -1;
	peer->own = pid == be->pid && start == be->start;
	mc_list_add_tail(&be->peers, &peer->link);
	peer_watch(peer);
	return peer;
}

static struct shm_peer *peer_find(struct mc_be *be, uint64_t instance, uint64_t start, uint32_t pid)
{
	for (struct mc_list *l = be->peers.next; l != &be->peers; l = l->next) {
		struct shm_peer *peer = mc_container_of(l, struct shm_peer, link);

		if (peer->instance == instance && peer->start == start && (uint32_t)peer->pid == pid)
			return peer;
	}
	return NULL;
}

/* Frees the peer when nothing refers to it. */
static void peer_drop(struct shm_peer *peer)
{
	if (peer->refs > 0)
		return;
	mc_list_del(&peer->link);
	mc_list_del(&peer->dying);
	if (peer->box != NULL)
		munmap(peer->box, sizeof(*peer->box));
	if (peer->box_fd >= 0)
		close(peer->box_fd);
	if (peer->pidfd >= 0) {
		(void)epoll_ctl(peer->be->epfd, EPOLL_CTL_DEL, peer->pidfd, NULL);
		close(peer->pidfd);
	}
	free(peer);
}

void mc_shm_peer_unref(struct shm_peer *peer)
{
	peer->refs--;
	peer_drop(peer);
}

struct shm_peer *mc_shm_peer_of_slot(struct mc_be *be, const struct shm_slot *slot)
{
	uint64_t instance = slot->instance, start = slot->start;
	uint32_t pid = slot->pid, wake_len = slot->wake_len;
	struct shm_peer *peer = peer_find(be, instance, start, pid);

	if (peer == NULL)
		peer = peer_new(be, instance, start, (pid_t)pid);
	if (peer != NULL && peer->wake_len == 0 && wake_len >= 2 && wake_len <= SHM_WAKE_MAX && slot->wake[0] == 0) {
		memcpy(peer->wake, slot->wake, wake_len);
		peer->wake_len = wake_len;
	}
	return peer;
}

/* ---- connecting ------------------------------------------------------------------------------------------ */

/* Why could /proc/PID/fd/N not be opened? */
static mc_status_t open_failed(const struct shm_addr *a, int err, char *text, size_t text_len)
{
	if (mc_shm_process_gone((pid_t)a->pid, a->start)) {
		snprintf(text, text_len, "process %u is gone", a->pid);
		return MC_ERR_PEER_DOWN;
	}
	if (err == ENOENT || err == ENXIO) { /* ENXIO: the number is a socket or the like by now */
		snprintf(text, text_len, "process %u has closed its side", a->pid);
		return MC_ERR_PEER_DOWN;
	}
	snprintf(text, text_len, "cannot open /proc/%u/fd/%u: %s (hidepid, or a process that is not dumpable)", a->pid,
		 a->fd, strerror(err));
	return err == ENOMEM || err == EMFILE || err == ENFILE ? MC_ERR_NOMEM : MC_ERR_UNSUPPORTED;
}

static bool box_sound(const struct shm_inbox *box, const struct shm_addr *a, uint64_t *ring_size_out)
{
	uint64_t ring_size = box->ring_size;

	if (box->magic != SHM_MAGIC || box->version != SHM_VERSION || box->pid != a->pid || box->start != a->start ||
	    box->instance != a->instance)
		return false;
	if (ring_size < SHM_RING_MIN || ring_size > SHM_RING_MAX || (ring_size & (ring_size - 1)) != 0)
		return false;
	*ring_size_out = ring_size;
	return a->file_len == sizeof(*box) + ring_size * SHM_SLOTS;
}

/* Map the peer's inbox: exactly the file it published, which cannot shrink. */
static mc_status_t box_open(struct shm_peer *peer, const struct shm_addr *a, char *text, size_t text_len)
{
	char path[64];
	struct stat st;
	int fd, seals;
	void *p;

	snprintf(path, sizeof(path), "/proc/%u/fd/%u", a->pid, a->fd);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return open_failed(a, errno, text, text_len);
	seals = fcntl(fd, F_GET_SEALS);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_dev != a->dev || st.st_ino != a->ino || seals < 0 ||
	    (seals & F_SEAL_SHRINK) == 0 || (uint64_t)st.st_size < a->file_len || a->file_len < sizeof(*peer->box)) {
		close(fd);
		return open_failed(a, ENOENT, text, text_len);
	}
	p = mmap(NULL, sizeof(*peer->box), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		snprintf(text, text_len, "cannot map the peer's inbox: %s", strerror(errno));
		close(fd);
		return MC_ERR_NOMEM;
	}
	if (!box_sound(p, a, &peer->ring_size)) {
		munmap(p, sizeof(*peer->box));
		close(fd);
		snprintf(text, text_len, "the inbox of process %u is damaged", a->pid);
		return MC_ERR_PROTO;
	}
	peer->box = p;
	peer->box_fd = fd;
	return MC_OK;
}

/* CMA may be refused by yama, seccomp or a user namespace: try it on a number we know. */
static bool cma_works(struct mc_be *be, const struct shm_peer *peer)
{
	uint64_t seen = 0, at = 0;
	struct iovec here = {.iov_base = &seen, .iov_len = sizeof(seen)}, there = {.iov_len = sizeof(seen)};

	if (!be->config->shm_cma || !mc_add_u64(peer->box->self, offsetof(struct shm_inbox, instance), &at))
		return false;
	there.iov_base = (void *)(uintptr_t)at;
	if (process_vm_readv(peer->pid, &here, 1, &there, 1, 0) != (ssize_t)sizeof(seen) || seen != peer->instance) {
		mc_info("shm: process_vm_readv on process %d fails (%s): memory that the program registered travels by "
			"message; "
			"memory from mc_mem_alloc does not need it; kernel.yama.ptrace_scope=0 would allow it",
			(int)peer->pid, strerror(errno));
		return false;
	}
	return true;
}

mc_status_t mc_shm_peer_open(struct mc_be *be, const void *addr, uint32_t len, struct shm_peer **peer_out, char *text,
			     size_t text_len)
{
	struct shm_addr a;
	mc_status_t s = mc_shm_addr_read(addr, len, &a);
	struct shm_peer *peer;
	const char *foreign;

	if (s != MC_OK) {
		snprintf(text, text_len,
			 s == MC_ERR_PROTO ? "not an shm address" : "another version of the shm backend");
		return s;
	}
	foreign = mc_shm_addr_foreign(be, &a);
	if (foreign != NULL) {
		snprintf(text, text_len, "%s", foreign);
		return MC_ERR_UNSUPPORTED;
	}
	peer = peer_find(be, a.instance, a.start, a.pid);
	if (peer == NULL)
		peer = peer_new(be, a.instance, a.start, (pid_t)a.pid);
	if (peer == NULL)
		return MC_ERR_NOMEM;
	if (peer->down || peer->lost) {
		snprintf(text, text_len, "process %u is gone", a.pid);
		s = MC_ERR_PEER_DOWN;
	} else if (peer->box == NULL) {
		s = box_open(peer, &a, text, text_len);
		if (s == MC_OK) {
			memcpy(peer->wake, a.wake, a.wake_len);
			peer->wake_len = a.wake_len;
			peer->cma = cma_works(be, peer);
		}
	}
	if (s == MC_OK && atomic_load(&peer->box->closed) != 0) {
		snprintf(text, text_len, "process %u has closed its side", a.pid);
		s = MC_ERR_PEER_DOWN;
	}
	if (s != MC_OK) {
		peer_drop(peer);
		return s;
	}
	peer->refs++;
	*peer_out = peer;
	return MC_OK;
}

/* ---- the end of a peer ----------------------------------------------------------------------------------- */

void mc_shm_wake(struct mc_be *be, const uint8_t *name, uint32_t len, struct shm_peer *peer)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	if (len == 0 || len > SHM_WAKE_MAX)
		return;
	memcpy(un.sun_path, name, len);
	/* EAGAIN: its queue is full of bytes it has not seen, which wake it as well. */
	if (sendto(be->sock, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&un,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0 &&
	    errno == ECONNREFUSED && peer != NULL)
		mc_shm_peer_lose(peer, MC_ERR_PEER_DOWN, ECONNREFUSED);
}

void mc_shm_peer_lose(struct shm_peer *peer, mc_status_t why, int32_t native)
{
	if (peer->lost || peer->down)
		return;
	peer->lost = true;
	peer->why = why;
	peer->native = native;
	peer->be->any_lost = true;
}

/* Everything of its eps ends now; EP_DOWN follows when what it had sent is delivered. */
void mc_shm_peer_down(struct shm_peer *peer, mc_status_t why, int32_t native)
{
	struct mc_be *be = peer->be;

	if (peer->down)
		return;
	peer->down = true;
	peer->why = why;
	peer->native = native;
	mc_debug("shm: process %d is down: %s", (int)peer->pid, mc_status_text(why));
	if (peer->pidfd >= 0)
		(void)epoll_ctl(be->epfd, EPOLL_CTL_DEL, peer->pidfd, NULL);
	for (struct mc_list *l = peer->eps.next; l != &peer->eps; l = l->next) {
		struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, peer_link);

		mc_shm_posts_end(be, ep, MC_ERR_PEER_DOWN);
		if (ep->stream.active)
			mc_shm_event_push(be, MC_EV_SENT, MC_ERR_PEER_DOWN, ep->stream.cookie, NULL);
		ep->stream.active = false;
		mc_list_del(&ep->block);
	}
	peer->refs++;
	mc_list_add_tail(&be->dying, &peer->dying);
	mc_shm_slots_scan(be);
}

static bool rings_drained(const struct shm_peer *peer)
{
	for (struct mc_list *l = peer->rings.next; l != &peer->rings; l = l->next) {
		struct shm_ring *ring = mc_container_of(l, struct shm_ring, peer_link);

		if (!mc_list_empty(&ring->used) || !mc_list_empty(&ring->link) || !mc_shm_ring_empty(ring))
			return false;
	}
	return true;
}

void mc_shm_peer_finish(struct mc_be *be)
{
	struct mc_list *l, *next;

	for (l = be->dying.next; l != &be->dying; l = next) {
		struct shm_peer *peer = mc_container_of(l, struct shm_peer, dying);
		bool gone = peer->why == MC_ERR_PEER_DOWN; /* else it may still write into its rings */

		next = l->next;
		if (!rings_drained(peer))
			continue;
		for (struct mc_list *e = peer->eps.next; e != &peer->eps; e = e->next) {
			struct mc_be_ep *ep = mc_container_of(e, struct mc_be_ep, peer_link);

			ep->state = SHM_EP_DOWN;
			mc_shm_event_push(be, MC_EV_EP_DOWN, peer->why, ep->cookie, ep);
		}
		while (gone && !mc_list_empty(&peer->rings))
			mc_shm_ring_free(be, mc_container_of(peer->rings.next, struct shm_ring, peer_link));
		mc_list_del(&peer->dying);
		mc_shm_peer_unref(peer);
	}
}

static void timer_check(struct mc_be *be)
{
	uint64_t ticks;

	(void)!read(be->timer, &ticks, sizeof(ticks));
	for (struct mc_list *l = be->peers.next; l != &be->peers; l = l->next) {
		struct shm_peer *peer = mc_container_of(l, struct shm_peer, link);

		if (!peer->own && peer->pidfd < 0 && !peer->down && mc_shm_process_gone(peer->pid, peer->start))
			mc_shm_peer_lose(peer, MC_ERR_PEER_DOWN, ESRCH);
	}
}

void mc_shm_watch(struct mc_be *be)
{
	struct epoll_event ev[WATCH_EVENTS];
	int n = epoll_wait(be->epfd, ev, WATCH_EVENTS, 0);
	char byte;

	for (int i = 0; i < n; i++) {
		if (ev[i].data.ptr == NULL) {
			for (int k = 0; k < 64 && recv(be->sock, &byte, 1, MSG_DONTWAIT) >= 0; k++)
				;
		} else if (ev[i].data.ptr == &be->timer) {
			timer_check(be);
		} else {
			mc_shm_peer_down(ev[i].data.ptr, MC_ERR_PEER_DOWN, ESRCH);
		}
	}
}

void mc_shm_closed_check(struct mc_be *be, uint32_t max)
{
	struct mc_list *l = be->peers.next;

	if (be->any_lost)
		max = UINT32_MAX;
	be->any_lost = false;
	for (; l != &be->peers && max > 0; max--) {
		struct shm_peer *peer = mc_container_of(l, struct shm_peer, link);

		l = l->next;
		if (peer->lost)
			mc_shm_peer_down(peer, peer->why, peer->native);
		else if (peer->box != NULL && !peer->down && atomic_load(&peer->box->closed) != 0)
			mc_shm_peer_down(peer, MC_ERR_PEER_DOWN, 0);
	}
	if (l != &be->peers && l != be->peers.next) { /* go on there next time: the head of the ring moves before l */
		mc_list_del(&be->peers);
		mc_list_add_tail(l, &be->peers);
	}
}

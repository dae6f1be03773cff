/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm_send.c - messages out. A ring is a stream of entries (shm.h), never split at the end of the ring. The sender
 * announces an entry with one store of its header, then of tail, so a killed sender leaves no half message.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm.h"

static uint64_t header(uint32_t kind, uint64_t len)
{
	return (uint64_t)kind << 32 | (uint32_t)len;
}

/* Take a slot that is free, or whose claimer was killed before it had done. */
static bool slot_take(struct shm_slot *slot, pid_t self)
{
	uint64_t mine = (uint64_t)(uint32_t)self << 32 | SHM_CLAIMED;
	uint64_t s = atomic_load(&slot->state);

	if (s != SHM_FREE) {
		pid_t pid = (pid_t)(s >> 32);
		if ((s & UINT32_MAX) != SHM_CLAIMED || pid == self || !mc_shm_process_gone(pid, 0))
			return false;
	}
	return atomic_compare_exchange_strong(&slot->state, &s, mine);
}

static void used_raise(struct shm_inbox *box, uint32_t n)
{
	uint32_t seen = atomic_load(&box->slots_used);

	while (seen < n && !atomic_compare_exchange_weak(&box->slots_used, &seen, n))
		;
}

/* After a seq_cst store of what there is to see. A door is shared by 64 senders: left alone where nobody needs it. */
static void bell(struct mc_be *be, struct mc_be_ep *ep, bool door)
{
	struct shm_inbox *box = ep->peer->box;

	if (door || atomic_load(&ep->ctl->watched) == 0)
		atomic_fetch_or(&box->door[ep->slot / 64], UINT64_C(1) << (ep->slot % 64));
	if (atomic_load(&box->sleeping) != 0 && atomic_exchange(&box->sleeping, 0) != 0)
		mc_shm_wake(be, ep->peer->wake, ep->peer->wake_len, ep->peer);
}

mc_status_t mc_shm_slot_claim(struct mc_be *be, struct mc_be_ep *ep, char *text, size_t text_len)
{
	struct shm_inbox *box = ep->peer->box;
	uint64_t size = ep->peer->ring_size;
	struct shm_slot *slot;
	uint32_t i;
	void *p;

	for (i = 0; i < SHM_SLOTS; i++)
		if (slot_take(&box->slot[i], be->pid))
			break;
	if (i == SHM_SLOTS) {
		snprintf(text, text_len, "all %u places for senders at that peer are taken", SHM_SLOTS);
		return MC_ERR_UNSUPPORTED;
	}
	slot = &box->slot[i];
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ep->peer->box_fd,
		 (off_t)(sizeof(struct shm_inbox) + i * size));
	if (p == MAP_FAILED) {
		snprintf(text, text_len, "cannot map the message ring of %llu bytes: %s", (unsigned long long)size,
			 strerror(errno));
		atomic_store(&slot->state, SHM_FREE);
		return MC_ERR_NOMEM;
	}
	used_raise(box, i + 1);
	ep->slot = i;
	ep->ctl = slot;
	ep->ring = p;
	ep->size = size;
	ep->tail = 0;
	ep->head_seen = 0;
	atomic_store(mc_shm_header(ep->ring, 0), 0);
	slot->instance = be->instance;
	slot->start = be->start;
	slot->pid = (uint32_t)be->pid;
	slot->wake_len = be->box_wake_len;
	memcpy(slot->wake, be->box_wake, sizeof(slot->wake));
	atomic_store(&slot->tail, 0);
	atomic_store(&slot->head, 0);
	atomic_store(&slot->closed, 0);
	atomic_store(&slot->waiting, 0);
	atomic_store(&slot->busy, 0);
	atomic_store(&slot->help_busy, 0);
	atomic_store(&slot->state, SHM_READY);
	bell(be, ep, true);
	return MC_OK;
}

void mc_shm_slot_release(struct mc_be *be, struct mc_be_ep *ep)
{
	mc_list_del(&ep->block);
	if (ep->ring == NULL)
		return;
	atomic_store(&ep->ctl->closed, 1);
	bell(be, ep, true);
	munmap(ep->ring, ep->size);
	ep->ring = NULL;
	ep->ctl = NULL;
}

/*
 * Contiguous room for an entry of need bytes at tail, and for the header of 0 behind it, padding the end of the ring if
 * it must; NULL: none now.
 */
static uint8_t *room(struct mc_be_ep *ep, uint64_t need)
{
	uint64_t pos = ep->tail & (ep->size - 1), to_end = ep->size - pos;
	uint64_t all = need <= to_end ? need : need + to_end;

	if (all + SHM_UNIT > ep->size - (ep->tail - ep->head_seen)) {
		uint64_t head = atomic_load_explicit(&ep->ctl->head, memory_order_acquire);

		if (ep->tail - head > ep->size || head % SHM_UNIT != 0) {
			mc_shm_peer_lose(ep->peer, MC_ERR_PROTO, 0);
			return NULL;
		}
		ep->head_seen = head;
		if (all + SHM_UNIT > ep->size - (ep->tail - head))
			return NULL;
	}
	if (need > to_end) {
		atomic_store_explicit(mc_shm_header(ep->ring, 0), 0, memory_order_relaxed);
		atomic_store_explicit(mc_shm_header(ep->ring, pos), header(SHM_K_PAD, to_end - SHM_HEAD),
				      memory_order_release);
		ep->tail += to_end;
		pos = 0;
	}
	return ep->ring + pos;
}

/* The entry at tail is written but for its header. */
static void publish(struct mc_be *be, struct mc_be_ep *ep, uint64_t need, uint64_t head)
{
	uint64_t pos = ep->tail & (ep->size - 1), mask = ep->size - 1;

	ep->tail += need;
	atomic_store_explicit(mc_shm_header(ep->ring, ep->tail & mask), 0, memory_order_relaxed);
	atomic_store_explicit(mc_shm_header(ep->ring, pos), head, memory_order_release);
	atomic_store(&ep->ctl->tail, ep->tail);
	bell(be, ep, false);
	/* The reader had it a round ago. To be fetched from there now, not when the next message is in a hurry. */
	__builtin_prefetch(ep->ring + ((ep->tail + SHM_UNIT) & mask), 1);
}

void mc_shm_block(struct mc_be *be, struct mc_be_ep *ep)
{
	if (mc_list_empty(&ep->block))
		mc_list_add_tail(&be->blocked, &ep->block);
}

bool mc_shm_msg_room(struct mc_be_ep *ep, uint32_t len)
{
	return room(ep, mc_shm_entry_len(len)) != NULL;
}

/* One whole short message. MC_ERR_AGAIN: no room. */
mc_status_t mc_shm_msg_put(struct mc_be *be, struct mc_be_ep *ep, const void *msg, uint32_t len)
{
	uint64_t need = mc_shm_entry_len(len);
	uint8_t *at = room(ep, need);

	if (at == NULL)
		return MC_ERR_AGAIN;
	if (len > 0)
		memcpy(at + SHM_HEAD, msg, len);
	publish(be, ep, need, header(SHM_K_MSG, len));
	return MC_OK;
}

/* The next len bytes of the stream's buffers to at. */
static void stream_take(struct shm_stream *st, uint8_t *at, size_t len)
{
	st->sent += len;
	while (len > 0) {
		const struct iovec *v = &st->iov[st->at];
		size_t part = v->iov_len - st->at_off;

		if (part > len)
			part = len;
		if (part > 0)
			memcpy(at, (const uint8_t *)v->iov_base + st->at_off, part);
		at += part;
		len -= part;
		st->at_off += part;
		if (st->at_off == v->iov_len) {
			st->at++;
			st->at_off = 0;
		}
	}
}

/* Push pieces of a quarter of the ring while there is room; ends with SENT. */
static void stream_run(struct mc_be *be, struct mc_be_ep *ep)
{
	struct shm_stream *st = &ep->stream;
	size_t piece = ep->size / 4 - 2 * SHM_HEAD;

	while (st->sent < st->total) {
		bool first = st->sent == 0;
		size_t left = st->total - st->sent, len = left < piece ? left : piece;
		uint64_t total = st->total, extra = first ? sizeof(total) : 0;
		uint64_t need = mc_shm_entry_len(extra + len);
		uint8_t *at = room(ep, need);

		if (at == NULL) {
			mc_shm_block(be, ep);
			return;
		}
		memcpy(at + SHM_HEAD, &total, extra);
		stream_take(st, at + SHM_HEAD + extra, len);
		publish(be, ep, need, header(first ? SHM_K_FIRST : SHM_K_MORE, extra + len));
	}
	st->active = false;
	mc_shm_event_push(be, MC_EV_SENT, MC_OK, st->cookie, NULL);
}

/* What was accepted before must go first: a stream, or the message of a post that has its bytes over there. */
static bool send_behind(const struct mc_be_ep *ep)
{
	return ep->stream.active || (!mc_list_empty(&ep->posts) && mc_list_empty(&ep->work));
}

static mc_status_t send_short(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, size_t len)
{
	uint64_t need = mc_shm_entry_len(len);
	uint8_t *at = room(ep, need);

	if (at == NULL)
		return MC_ERR_AGAIN;
	at += SHM_HEAD;
	for (uint32_t i = 0; i < n; i++) {
		if (iov[i].iov_len > 0)
			memcpy(at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	publish(be, ep, need, header(SHM_K_MSG, len));
	return MC_OK;
}

mc_status_t mc_shm_send(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, uint32_t flags,
			uint64_t cookie)
{
	bool copied = (flags & MC_SEND_COPY) != 0;
	uint64_t len = 0;

	if (n > SHM_IOV_MAX || ep->state == SHM_EP_NEW)
		return MC_ERR_INVAL;
	for (uint32_t i = 0; i < n; i++)
		if (!mc_add_u64(len, iov[i].iov_len, &len))
			return MC_ERR_INVAL;
	if (len > SHM_MSG_MAX || (copied && len > SHM_COPY_MAX))
		return MC_ERR_INVAL;
	if (ep->state == SHM_EP_DOWN || ep->peer->down)
		return MC_ERR_PEER_DOWN;
	if (send_behind(ep) || (!copied && !mc_shm_event_reserve(be, 1))) {
		mc_shm_block(be, ep);
		return MC_ERR_AGAIN;
	}
	if (mc_shm_entry_len(len) <= ep->size / 2) {
		if (send_short(be, ep, iov, n, len) != MC_OK) {
			be->evq.reserved -= copied ? 0 : 1;
			mc_shm_block(be, ep);
			return MC_ERR_AGAIN;
		}
		if (!copied)
			mc_shm_event_push(be, MC_EV_SENT, MC_OK, cookie, NULL);
		return MC_OK;
	}
	ep->stream.active = true;
	ep->stream.n = n;
	ep->stream.at = 0;
	ep->stream.at_off = 0;
	ep->stream.total = len;
	ep->stream.sent = 0;
	ep->stream.cookie = cookie;
	memcpy(ep->stream.iov, iov, n * sizeof(*iov));
	stream_run(be, ep);
	return MC_OK;
}

/* Try again what waits for room. An ep whose send was refused leaves the list when the reader has moved. */
void mc_shm_blocked_run(struct mc_be *be)
{
	struct mc_list *l, *last = be->blocked.prev;
	bool more = !mc_list_empty(&be->blocked);

	while (more && (l = mc_list_pop(&be->blocked)) != NULL) {
		struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, block);

		more = l != last;
		if (ep->stream.active)
			stream_run(be, ep);
		if (ep->stream.active)
			continue; /* it has queued itself again, or its peer is lost */
		if (!mc_shm_posts_msg(be, ep))
			mc_shm_block(be, ep);
		else if (atomic_load_explicit(&ep->ctl->head, memory_order_acquire) == ep->head_seen)
			mc_shm_block(be, ep);
	}
}

bool mc_shm_blocked_arm(struct mc_be *be)
{
	for (struct mc_list *l = be->blocked.next; l != &be->blocked; l = l->next) {
		struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, block);

		atomic_exchange(&ep->ctl->waiting, 1);
		if (atomic_load(&ep->ctl->head) != ep->head_seen)
			return false;
	}
	return true;
}

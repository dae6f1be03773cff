/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm_recv.c - messages in. Short ones are handed up where they lie, and their room is given back at the next poll.
 * Whatever is read from a ring is checked: a sender may be broken.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm.h"

enum {
	RING_TURN = 32,   /* messages of one sender before the next has its turn */
	COLD_POLLS = 512, /* a hot ring without a message for so long makes place for another */
	TAIL_POLLS = 1024, /* polls between looks at the tail of a hot ring: is its next header missing? */
};

/* The next header. 0: no message, as yet. */
static inline uint64_t next_header(const struct shm_ring *ring)
{
	return atomic_load_explicit(mc_shm_header(ring->base, ring->head & (ring->size - 1)), memory_order_acquire);
}

/* Bytes up to tail. Below 0: the sender is between a header and tail. */
static inline int64_t unread(const struct shm_ring *ring)
{
	return (int64_t)(atomic_load(&ring->ctl->tail) - ring->head);
}

static struct shm_ring *ring_attach(struct mc_be *be, uint32_t i)
{
	struct shm_slot *slot = &be->box->slot[i];
	struct shm_ring *ring;
	void *p;

	ring = calloc(1, sizeof(*ring));
	if (ring == NULL)
		return NULL;
	p = mmap(NULL, be->ring_size, PROT_READ | PROT_WRITE, MAP_SHARED, be->fd,
		 (off_t)(sizeof(struct shm_inbox) + i * be->ring_size));
	if (p == MAP_FAILED)
		goto undo_ring;
	ring->peer = mc_shm_peer_of_slot(be, slot);
	if (ring->peer == NULL)
		goto undo_map;
	mc_list_init(&ring->link);
	mc_list_init(&ring->used);
	mc_list_add_tail(&ring->peer->rings, &ring->peer_link);
	ring->peer->refs++;
	ring->ctl = slot;
	ring->base = p;
	ring->size = be->ring_size;
	ring->slot = i;
	be->ring[i] = ring;
	return ring;
undo_map:
	munmap(p, be->ring_size);
undo_ring:
	free(ring);
	return NULL;
}

static void ring_ready(struct mc_be *be, uint32_t i)
{
	struct shm_ring *ring = be->ring[i];

	if (ring == NULL) {
		if ((atomic_load(&be->box->slot[i].state) & UINT32_MAX) != SHM_READY)
			return;
		ring = ring_attach(be, i);
		if (ring == NULL) { /* no memory now: look again at the next poll */
			if (mc_ratelimit_ok(&be->limit, 1))
				mc_warn("shm: no memory to attach a sender, trying again");
			atomic_fetch_or(&be->box->door[i / 64], UINT64_C(1) << (i % 64));
			return;
		}
	}
	if (!ring->broken && mc_list_empty(&ring->link))
		mc_list_add_tail(&be->ready, &ring->link);
}

static uint32_t slots_used(const struct mc_be *be)
{
	uint32_t n = atomic_load_explicit(&be->box->slots_used, memory_order_relaxed);

	return n < SHM_SLOTS ? n : SHM_SLOTS;
}

/* The sender sees the flag or we see its tail: both are seq_cst, and each side looks after it has written. */
static void ring_cool(struct mc_be *be, uint32_t k)
{
	struct shm_ring *ring = be->hot[k];

	be->hot[k] = NULL;
	ring->hot = false;
	atomic_store(&ring->ctl->watched, 0);
	if (unread(ring) > 0)
		ring_ready(be, ring->slot);
}

/* It has had a message. A place is taken from a ring only when that is idle, so that many senders do not fight. */
static void ring_heat(struct mc_be *be, struct shm_ring *ring)
{
	uint32_t k;

	ring->read_at = be->polls;
	if (ring->hot || ring->broken)
		return;
	for (k = 0; k < SHM_HOT && be->hot[k] != NULL; k++)
		if (be->polls - be->hot[k]->read_at > COLD_POLLS)
			break;
	if (k == SHM_HOT)
		return;
	if (be->hot[k] != NULL)
		ring_cool(be, k);
	be->hot[k] = ring;
	ring->hot = true;
	atomic_store(&ring->ctl->watched, 1);
}

/* In turn: none of them keeps the others waiting. */
struct shm_ring *mc_shm_hot_ring(const struct mc_be *be)
{
	for (uint32_t i = 0; i < SHM_HOT; i++) {
		struct shm_ring *ring = be->hot[(be->polls + i) % SHM_HOT];
		if (ring != NULL && !ring->broken && next_header(ring) != 0)
			return ring;
	}
	return NULL;
}

bool mc_shm_doors_silent(const struct mc_be *be)
{
	uint32_t n = (slots_used(be) + 63) / 64;

	for (uint32_t w = 0; w < n; w++)
		if (atomic_load_explicit(&be->box->door[w], memory_order_relaxed) != 0)
			return false;
	return true;
}

void mc_shm_doors_read(struct mc_be *be)
{
	uint32_t n = (slots_used(be) + 63) / 64;

	for (uint32_t k = 0; k < SHM_HOT; k++) {
		struct shm_ring *ring = be->hot[k];

		if (ring == NULL || ring->broken)
			continue;
		if ((next_header(ring) != 0 || (be->polls % TAIL_POLLS == 0 && unread(ring) != 0)) &&
		    mc_list_empty(&ring->link))
			mc_list_add_tail(&be->ready, &ring->link);
	}
	for (uint32_t w = 0; w < n; w++) {
		uint64_t bits;

		if (atomic_load_explicit(&be->box->door[w], memory_order_relaxed) == 0)
			continue;
		for (bits = atomic_exchange(&be->box->door[w], 0); bits != 0; bits &= bits - 1)
			ring_ready(be, w * 64 + (uint32_t)__builtin_ctzll(bits));
	}
}

void mc_shm_slots_scan(struct mc_be *be)
{
	uint32_t n = slots_used(be);

	for (uint32_t i = 0; i < n; i++)
		if (be->ring[i] != NULL || (atomic_load(&be->box->slot[i].state) & UINT32_MAX) == SHM_READY)
			ring_ready(be, i);
}

bool mc_shm_doors_quiet(struct mc_be *be)
{
	uint32_t n = (slots_used(be) + 63) / 64;

	for (uint32_t w = 0; w < n; w++)
		if (atomic_load(&be->box->door[w]) != 0)
			return false;
	for (uint32_t k = 0; k < SHM_HOT; k++)
		if (be->hot[k] != NULL && !mc_shm_ring_empty(be->hot[k]))
			return false;
	return true;
}

void mc_shm_used_release(struct mc_be *be)
{
	struct mc_list *l;

	while ((l = mc_list_pop(&be->used)) != NULL) {
		struct shm_ring *ring = mc_container_of(l, struct shm_ring, used);

		ring->lent = false;
		atomic_store(&ring->ctl->head, ring->head);
		if (atomic_load(&ring->ctl->waiting) != 0 && atomic_exchange(&ring->ctl->waiting, 0) != 0)
			mc_shm_wake(be, ring->peer->wake, ring->peer->wake_len, ring->peer);
	}
}

bool mc_shm_ring_empty(const struct shm_ring *ring)
{
	return ring->broken || unread(ring) <= 0;
}

/* Give the slot back. Only when its sender is gone or has said that it writes no more. */
void mc_shm_ring_free(struct mc_be *be, struct shm_ring *ring)
{
	struct shm_peer *peer = ring->peer;

	mc_list_del(&ring->link);
	mc_list_del(&ring->used);
	mc_list_del(&ring->peer_link);
	munmap(ring->base, ring->size);
	/* If the kernel cannot, the pages stay: the next sender begins with a header of 0. */
	(void)fallocate(be->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)(sizeof(struct shm_inbox) + ring->slot * ring->size), (off_t)ring->size);
	be->ring[ring->slot] = NULL;
	for (uint32_t k = 0; k < SHM_HOT; k++)
		if (be->hot[k] == ring)
			be->hot[k] = NULL;
	atomic_store(&ring->ctl->watched, 0);
	atomic_store(&ring->ctl->state, SHM_FREE);
	free(ring->buf);
	free(ring);
	mc_shm_peer_unref(peer);
}

static void ring_break(struct shm_ring *ring, const char *what)
{
	ring->broken = true;
	if (mc_ratelimit_ok(&ring->peer->limit, 1))
		mc_error("shm: process %d wrote a damaged message ring (%s at %llu); it is treated as lost, restart it",
			 (int)ring->peer->pid, what, (unsigned long long)ring->head);
	mc_shm_peer_lose(ring->peer, MC_ERR_PROTO, 0);
}

/* First piece: the whole length, then bytes. */
static bool piece_first(struct shm_ring *ring, const uint8_t *body, uint32_t len)
{
	uint64_t total;
	uint8_t *grown;

	if (len < sizeof(total))
		return false;
	memcpy(&total, body, sizeof(total));
	len -= (uint32_t)sizeof(total);
	if (ring->buf_len != 0 || total > SHM_MSG_MAX || len >= total)
		return false;
	if (total > ring->buf_cap) {
		grown = malloc(total);
		if (grown == NULL) {
			mc_error("shm: no memory for a message of %llu bytes", (unsigned long long)total);
			return false;
		}
		free(ring->buf);
		ring->buf = grown;
		ring->buf_cap = total;
	}
	memcpy(ring->buf, body + sizeof(total), len);
	ring->buf_len = total;
	ring->buf_got = len;
	return true;
}

static bool piece_more(struct shm_ring *ring, const uint8_t *body, uint32_t len)
{
	if (ring->buf_len == 0 || len > ring->buf_len - ring->buf_got)
		return false;
	memcpy(ring->buf + ring->buf_got, body, len);
	ring->buf_got += len;
	return true;
}

static void msg_event(struct mc_be_event *ev, const void *data, size_t len)
{
	memset(ev, 0, sizeof(*ev));
	ev->kind = MC_EV_MSG;
	ev->data = data;
	ev->len = (uint32_t)len;
}

/* The entry at head, whose header is v. Returns messages put into ev, 0 or 1; breaks the ring when it is malformed. */
static uint32_t entry_read(struct shm_ring *ring, uint64_t v, struct mc_be_event *ev)
{
	uint64_t pos = ring->head & (ring->size - 1), to_end = ring->size - pos, need;
	const uint8_t *at = ring->base + pos;
	uint32_t kind = (uint32_t)(v >> 32), len = (uint32_t)v, got = 0;
	bool ok = true;

	need = kind == SHM_K_PAD ? to_end : mc_shm_entry_len(len);
	if (need > to_end) {
		ring_break(ring, "length");
		return 0;
	}
	if (kind == SHM_K_MSG && ring->buf_len == 0) {
		msg_event(ev, at + SHM_HEAD, len);
		got = 1;
	} else if (kind == SHM_K_FIRST) {
		ok = piece_first(ring, at + SHM_HEAD, len);
	} else if (kind == SHM_K_MORE) {
		ok = piece_more(ring, at + SHM_HEAD, len);
	} else if (kind != SHM_K_PAD) {
		ok = false;
	}
	if (!ok) {
		ring_break(ring, "kind or piece");
		return 0;
	}
	ring->head += need;
	if (ring->buf_len != 0 && ring->buf_got == ring->buf_len) {
		msg_event(ev, ring->buf, ring->buf_len);
		ring->buf_len = 0;
		ring->lent = true; /* the buffer is not ours before the next poll */
		got = 1;
	}
	return got;
}

/* No header where tail says that there is one, or a tail that cannot be. The header is written before tail. */
static void tail_check(struct shm_ring *ring)
{
	int64_t n = unread(ring);

	if (n > (int64_t)ring->size || n < -(int64_t)ring->size || n % SHM_UNIT != 0 ||
	    (n > 0 && next_header(ring) == 0))
		ring_break(ring, "tail");
}

static uint32_t ring_read(struct mc_be *be, struct shm_ring *ring, struct mc_be_event *ev, uint32_t max)
{
	uint64_t before = ring->head, v = next_header(ring);
	bool single = ring->hot && be->polls - ring->read_at > 1;
	uint32_t n = 0;

	if (v == 0 || be->polls % TAIL_POLLS == 0)
		tail_check(ring);
	/* Once round at most: a sender that writes nonsense must not keep us. */
	while (n < max && v != 0 && ring->head - before < ring->size && !ring->lent && !ring->broken) {
		n += entry_read(ring, v, ev + n);
		/*
		 * The next header lies in a line that the sender has just written: looking there takes as long as this
		 * message took to come. Where messages are rare as yet, this one is delivered first, and the next poll
		 * looks.
		 */
		if (single && n > 0)
			break;
		v = next_header(ring);
	}
	if (ring->head != before) {
		if (mc_list_empty(&ring->used))
			mc_list_add_tail(&be->used, &ring->used);
		ring_heat(be, ring);
	}
	return n;
}

/* The only thing that a poll has found to do. What comes behind, and that the sender has closed, the next one sees. */
uint32_t mc_shm_hot_read(struct mc_be *be, struct shm_ring *ring, struct mc_be_event *ev, uint32_t max)
{
	return ring_read(be, ring, ev, max < RING_TURN ? max : RING_TURN);
}

uint32_t mc_shm_msgs_read(struct mc_be *be, struct mc_be_event *ev, uint32_t max)
{
	struct mc_list *l, *last = be->ready.prev;
	bool more = !mc_list_empty(&be->ready);
	uint32_t n = 0;

	while (n < max && more && (l = mc_list_pop(&be->ready)) != NULL) {
		struct shm_ring *ring = mc_container_of(l, struct shm_ring, link);
		uint32_t room_n = max - n < RING_TURN ? max - n : RING_TURN;
		bool closed = atomic_load(&ring->ctl->closed) != 0; /* before tail: what it wrote last is then seen */

		more = l != last;
		n += ring_read(be, ring, ev + n, room_n);
		if (ring->broken)
			continue;
		/* Into one that is hot the next poll looks by itself. */
		if (closed ? !mc_list_empty(&ring->used) || !mc_shm_ring_empty(ring)
			   : !ring->hot && next_header(ring) != 0)
			mc_list_add_tail(&be->ready, &ring->link);
		else if (closed)
			mc_shm_ring_free(be, ring);
	}
	return n;
}

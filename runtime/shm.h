/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm.h - inside of the same-host backend: what lies in shared memory, and the structures of one process.
 *
 * Each mc_be owns one memfd, its inbox, sealed against shrinking: a header, a table of slots, a table of region keys,
 * and one message ring per slot. A peer that wants to send maps it through /proc/PID/fd/N and claims a slot; the ring
 * is written by that peer alone and read by the owner alone. So what a peer sent outlives the peer, and nothing but
 * memfds and kernel-named sockets exists that a killed process could leave behind.
 *
 * shm.c: table, open, close, arm, poll; shm_addr.c: addresses; shm_peer.c: peers and their end; shm_send.c, shm_recv.c:
 * messages; shm_mem.c: registrations; shm_post.c: transfers; shm_copy.c: copying bytes; shm_help.c: a
 * second thread that copies.
 */
#ifndef MC_SHM_H
#define MC_SHM_H

#include <stdalign.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "backend.h"
#include "log.h"
#include "util.h"

enum {
	SHM_VERSION = 2,
	SHM_SLOTS = 4096, /* senders per inbox */
	SHM_DOORS = SHM_SLOTS / 64,
	SHM_HOT = 4, /* rings that poll looks at itself */
	SHM_KEYS = 65536, /* registrations per mc_be */
	SHM_RING_MIN = 16 << 10,
	SHM_RING_MAX = 64 << 20,
	SHM_MSG_MAX = (8 << 20) + (128 << 10),
	SHM_COPY_MAX = 4096, /* fits the smallest ring four times */
	SHM_IOV_MAX = 64,
	SHM_WAKE_MAX = 16,      /* abstract socket name; the kernel's own have 6 bytes */
	SHM_QUANTUM = 1 << 20,  /* bytes that one poll copies: keeps it near or below 1 ms */
	SHM_INLINE = 256 << 10, /* a post up to this size may be copied inside post */
	SHM_QUEUE_POSTS = 1024, /* posts waiting per ep before post takes nothing */
	SHM_HELP_MIN = 512 << 10, /* a second thread helps with so many bytes or more */
	SHM_SLICE_COST = 64,      /* what a slice takes from the budget of a poll besides its bytes */
	SHM_CMA_N = 1024,       /* ranges per system call: the kernel's limit */
	SHM_BLOB_MAX = 96,
	SHM_ADDR_MAX = 128,
};

/*
 * How long a deregistration waits for a sender in the middle of a copy: one that is stopped, and one that could run but
 * gets no processor, or not that of its virtual machine.
 */
#define SHM_DRAIN_NS   INT64_C(500000000)
#define SHM_STARVED_NS INT64_C(3000000000)

#define SHM_MAGIC UINT64_C(0x316d68732d636d7f)

/* ---- shared memory: every value read from here is checked before it is used ------------------------------ */

enum shm_slot_state { SHM_FREE = 0, SHM_CLAIMED = 1, SHM_READY = 2 }; /* claimed: with the claimer's pid << 32 */

struct shm_slot {
	alignas(64) _Atomic uint64_t state;
	uint64_t instance, start; /* who sends; constant while READY */
	uint32_t pid, wake_len;
	uint8_t wake[SHM_WAKE_MAX];
	_Atomic uint32_t watched; /* owner's: it looks into the ring by itself, the door need not be touched */
	_Atomic uint32_t closed;  /* the sender writes no more */
	alignas(64) _Atomic uint64_t tail; /* bytes written, only grows; sender's */
	alignas(64) _Atomic uint64_t head; /* bytes read, only grows; owner's */
	_Atomic uint32_t waiting;          /* the sender sleeps until there is room */
	alignas(64) _Atomic uint64_t busy; /* odd: the sender is touching the owner's regions now, */
	alignas(64) _Atomic uint64_t help_busy; /* its helper is */
};

struct shm_inbox {
	uint64_t magic;
	uint32_t version, pid;
	uint64_t instance, start, ring_size;
	uint64_t self;                                /* address of this header in the owner: CMA is tried on it */
	alignas(64) _Atomic uint32_t sleeping;        /* the owner waits for a datagram */
	_Atomic uint32_t closed;                      /* the owner has closed */
	_Atomic uint32_t slots_used;                  /* slots at or above were never claimed */
	alignas(64) _Atomic uint64_t door[SHM_DOORS]; /* a bit per slot: look there */
	alignas(4096) struct shm_slot slot[SHM_SLOTS];
	_Atomic uint64_t key[SHM_KEYS]; /* of the registration in that place; 0: none */
};

/*
 * What stands in a ring: 8 bytes of kind and length, then the body, padded to a whole number of cache lines. Behind the
 * last entry stands a header of 0. A reader that looks often looks there: a short message is then one cache line that
 * changes hands. tail says the same a moment later; it decides whether to sleep, and when all has been read.
 */
enum shm_kind {
	SHM_K_MSG = 1,
	SHM_K_PAD = 2,   /* the rest of the ring up to its end */
	SHM_K_FIRST = 3, /* first piece of a long message: 8 bytes of whole length, then bytes */
	SHM_K_MORE = 4,
	SHM_HEAD = 8,
	SHM_UNIT = 64,
};

static inline uint64_t mc_shm_entry_len(uint64_t body)
{
	return (SHM_HEAD + body + SHM_UNIT - 1) & ~(uint64_t)(SHM_UNIT - 1);
}

static inline _Atomic uint64_t *mc_shm_header(uint8_t *ring, uint64_t pos)
{
	return (_Atomic uint64_t *)(void *)(ring + pos);
}

/* ---- one process ----------------------------------------------------------------------------------------- */

/* One incarnation of a peer's backend. */
struct shm_peer {
	struct mc_list link;                     /* be->peers */
	struct mc_list eps, rings, rmems, dying; /* dying: in be->dying */
	struct mc_be *be;
	uint64_t instance, start;
	pid_t pid;
	int pidfd; /* -1: own process, or the kernel has none */
	bool own, down, cma;
	bool lost;       /* to be declared down at the next poll, for reason why */
	mc_status_t why; /* when down */
	int32_t native;
	uint32_t refs;
	struct shm_inbox *box; /* NULL: it only sends to us */
	int box_fd;
	uint64_t ring_size;
	uint32_t wake_len;
	uint8_t wake[SHM_WAKE_MAX];
	struct mc_ratelimit limit;
};

/* A post that waits for its turn, for time, or for room for its message. */
struct shm_post {
	struct mc_list link;
	uint64_t cookie;
	uint32_t op, n, at, cap;
	uint64_t at_off, total;
	mc_status_t status;
	int32_t native;
	const char *why;
	bool has_msg;
	uint32_t msg_len;
	const struct mc_be_slice *slice; /* [n]: store, or the engine's where that is prepared */
	struct mc_be_slice *store;       /* [cap], kept when the post is recycled */
	uint8_t msg[SHM_COPY_MAX];
};

/* A message longer than half a ring goes through it in pieces. */
struct shm_stream {
	bool active;
	struct iovec iov[SHM_IOV_MAX];
	uint32_t n, at;
	size_t at_off, total, sent;
	uint64_t cookie;
};

enum shm_ep_state { SHM_EP_NEW, SHM_EP_UP, SHM_EP_DOWN };

struct mc_be_ep {
	struct mc_list link; /* be->eps */
	struct mc_list peer_link;
	struct mc_list work;  /* be->working: posts to copy */
	struct mc_list block; /* be->blocked: something waits for room in the ring */
	struct mc_list posts;
	uint32_t posts_n;
	uint64_t cookie;
	enum shm_ep_state state;
	struct shm_peer *peer;
	uint32_t slot;
	struct shm_slot *ctl; /* in the peer's inbox */
	uint8_t *ring;
	uint64_t size, tail, head_seen;
	struct shm_stream stream;
	bool said_up, said_down; /* pushed, so no longer reserved for */
};

/* A ring in our inbox, seen by us, its reader. */
struct shm_ring {
	struct mc_list link; /* be->ready: may hold messages */
	struct mc_list used; /* be->used: give room back at the next poll */
	struct mc_list peer_link;
	struct shm_peer *peer;
	struct shm_slot *ctl;
	uint8_t *base;
	uint64_t size, head;
	uint32_t slot;
	bool hot;        /* in be->hot */
	uint32_t read_at; /* be->polls when it last had a message */
	bool lent; /* buf was handed up, so nothing more before the next poll */
	bool broken;
	uint8_t *buf; /* a long message put together */
	size_t buf_cap, buf_len, buf_got;
};

struct mc_be_mem {
	struct mc_list link; /* be->mems */
	struct mc_be_region region;
	uint32_t place;
	uint64_t key;
	bool sealed; /* the memfd cannot shrink: peers may map it */
	uint64_t dev, ino;
};

struct mc_be_rmem {
	struct mc_list link; /* peer->rmems */
	struct shm_peer *peer;
	uint32_t refs, place;
	uint64_t key, len, addr; /* addr: in the peer */
	uint8_t *map;            /* of byte 0; NULL: CMA */
	void *map_base;
	size_t map_len;
	_Atomic uint8_t *touched; /* a bit per 64 KiB of the mapping; NULL: huge pages, not worth it */
};

struct shm_qev {
	struct mc_be_event ev;
	struct mc_be_ep *ep; /* EP_UP, EP_DOWN: dropped when that is closed first */
};

/* Events to report. Room is reserved when the call that will cause one is accepted, so that no push can fail. */
struct shm_evq {
	struct shm_qev *v;
	uint32_t cap, head, n, reserved;
};

struct mc_be {
	const struct mc_config *config;
	pid_t pid;
	uint64_t start, instance, next_key;
	uint64_t pidns, netns;
	uint8_t boot_id[16];
	uint32_t uid;
	int fd, sock, epfd, timer; /* timer: checks for peers without a pidfd; -1: none */
	struct shm_inbox *box;
	uint64_t ring_size, file_len;
	uint8_t addr[SHM_ADDR_MAX];
	uint32_t addr_len;
	uint32_t box_wake_len;
	uint8_t box_wake[SHM_WAKE_MAX];
	bool armed, any_lost;
	bool nt; /* streaming stores pay on this processor */
	uint32_t polls;
	uint64_t budget; /* bytes that post may still copy before the next poll */
	uint32_t place_next;
	int64_t drain_until; /* 0: not closing */
	struct mc_list peers, dying, eps, working, blocked, ready, used, mems, free_posts;
	struct shm_evq evq;
	struct shm_ring *ring[SHM_SLOTS];
	struct shm_ring *hot[SHM_HOT]; /* whose senders were active lately; NULL: free */
	struct mc_ratelimit limit;
	struct shm_help *help; /* NULL: nothing large was moved yet */
	struct iovec cma_here[SHM_CMA_N], cma_there[SHM_CMA_N];
};

/* shm.c */
bool mc_shm_event_reserve(struct mc_be *be, uint32_t n);
void mc_shm_event_push(struct mc_be *be, enum mc_be_kind kind, mc_status_t s, uint64_t cookie, struct mc_be_ep *ep);
void mc_shm_event_push_native(struct mc_be *be, const struct shm_post *post, mc_status_t s);

/* shm_addr.c */
struct shm_addr {
	uint8_t boot_id[16];
	uint64_t pidns, netns, start, instance, dev, ino, file_len;
	uint32_t uid, pid, fd, wake_len;
	uint8_t wake[SHM_WAKE_MAX];
};

mc_status_t mc_shm_self_init(struct mc_be *be, char *why, size_t why_len);
void mc_shm_addr_make(struct mc_be *be, const uint8_t *wake, uint32_t wake_len);
mc_status_t mc_shm_addr_read(const void *addr, uint32_t len, struct shm_addr *a);
const char *mc_shm_addr_foreign(const struct mc_be *be, const struct shm_addr *a); /* NULL: shares our host */
bool mc_shm_process_stopped(pid_t pid);
bool mc_shm_process_gone(pid_t pid, uint64_t start);                               /* start 0: any incarnation */

/* shm_peer.c */
mc_status_t mc_shm_peer_open(struct mc_be *be, const void *addr, uint32_t len, struct shm_peer **peer_out, char *text,
			     size_t text_len);
struct shm_peer *mc_shm_peer_of_slot(struct mc_be *be, const struct shm_slot *slot); /* NULL: no memory */
void mc_shm_peer_unref(struct shm_peer *peer);
void mc_shm_peer_lose(struct shm_peer *peer, mc_status_t why, int32_t native); /* down at the next poll */
void mc_shm_peer_down(struct shm_peer *peer, mc_status_t why, int32_t native);
void mc_shm_peer_finish(struct mc_be *be);
void mc_shm_wake(struct mc_be *be, const uint8_t *name, uint32_t len, struct shm_peer *peer);
void mc_shm_watch(struct mc_be *be);                      /* what the epoll set has to say */
void mc_shm_closed_check(struct mc_be *be, uint32_t max); /* peers that closed in an orderly way */

/* shm_send.c */
mc_status_t mc_shm_slot_claim(struct mc_be *be, struct mc_be_ep *ep, char *text, size_t text_len);
void mc_shm_slot_release(struct mc_be *be, struct mc_be_ep *ep);
mc_status_t mc_shm_send(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, uint32_t flags,
			uint64_t cookie);
mc_status_t mc_shm_msg_put(struct mc_be *be, struct mc_be_ep *ep, const void *msg, uint32_t len);
bool mc_shm_msg_room(struct mc_be_ep *ep, uint32_t len); /* the next mc_shm_msg_put() of as many bytes will find room */
void mc_shm_block(struct mc_be *be, struct mc_be_ep *ep);
void mc_shm_blocked_run(struct mc_be *be);
bool mc_shm_blocked_arm(struct mc_be *be); /* false: room has appeared */

/* shm_recv.c */
struct shm_ring *mc_shm_hot_ring(const struct mc_be *be); /* that has a message; NULL: none of the hot ones */
uint32_t mc_shm_hot_read(struct mc_be *be, struct shm_ring *ring, struct mc_be_event *ev, uint32_t max);
bool mc_shm_doors_silent(const struct mc_be *be); /* a glance, for a reader that looks again soon */
void mc_shm_doors_read(struct mc_be *be);
void mc_shm_slots_scan(struct mc_be *be); /* also without a bell: a sender may have died before it rang */
bool mc_shm_doors_quiet(struct mc_be *be);
void mc_shm_used_release(struct mc_be *be);
uint32_t mc_shm_msgs_read(struct mc_be *be, struct mc_be_event *ev, uint32_t max);
void mc_shm_ring_free(struct mc_be *be, struct shm_ring *ring);
bool mc_shm_ring_empty(const struct shm_ring *ring);

/* shm_mem.c */
mc_status_t mc_shm_mem_reg(struct mc_be *be, const struct mc_be_region *r, struct mc_be_mem **mem_out);
void mc_shm_mem_dereg(struct mc_be *be, struct mc_be_mem *mem);
mc_status_t mc_shm_mem_export(struct mc_be *be, struct mc_be_mem *mem, void *blob, uint32_t *len);
mc_status_t mc_shm_rmem_import(struct mc_be *be, struct mc_be_ep *ep, const void *blob, uint32_t len,
			       struct mc_be_rmem **rmem_out);
void mc_shm_rmem_drop(struct mc_be *be, struct mc_be_rmem *rmem);
void *mc_shm_rmem_map(struct mc_be *be, struct mc_be_rmem *rmem);
void mc_shm_rmem_free(struct mc_be_rmem *rmem);
static inline bool mc_shm_rmem_live(const struct mc_be_rmem *rmem)
{
	return atomic_load(&rmem->peer->box->key[rmem->place]) == rmem->key;
}

/* shm_post.c */
mc_status_t mc_shm_post(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out);
mc_status_t mc_shm_put_now(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_slice *slice, const void *msg,
			   uint32_t msg_len);
void mc_shm_posts_run(struct mc_be *be);
bool mc_shm_posts_msg(struct mc_be *be, struct mc_be_ep *ep); /* retry the message of the oldest post; false: no room */
void mc_shm_posts_end(struct mc_be *be, struct mc_be_ep *ep, mc_status_t s);
void mc_shm_posts_free(struct mc_be *be);

/* shm_help.c */
struct shm_post;
enum shm_moved {
	SHM_MOVED_PART,  /* the budget is used up */
	SHM_MOVED_WAITS, /* the helper is at the last of it */
	SHM_MOVED_ALL,   /* and the post stands behind it, or has failed */
};

/* May the helper take part in what the post has next, or does it already? */
bool mc_shm_help_open(struct mc_be *be, struct mc_be_ep *ep, struct shm_post *post, bool nt);
enum shm_moved mc_shm_help_move(struct mc_be *be, struct shm_post *post, uint64_t *budget);
void mc_shm_help_cancel(struct mc_be *be, const struct shm_post *post);
uint64_t mc_shm_help_bytes(const struct mc_be *be); /* that it has copied so far */
void mc_shm_help_close(struct mc_be *be);

/* shm_copy.c */
/*
 * Read before the first write: a write fault maps one page, a read fault all pages around it that exist already, which
 * makes the first pass over a region about three times cheaper, and allocates nothing more than the write would.
 */
void mc_shm_rmem_touch(struct mc_be_rmem *rmem, uint64_t roff, uint64_t len);
/* One slice into mapped memory. False: nothing was written, the peer has freed the region. */
bool mc_shm_slice_write(struct mc_be_ep *ep, const struct mc_be_slice *sl);
/*
 * Move bytes of the post from where it stands, at most about *budget (which is lowered); sets its status when that
 * fails. True: nothing is left to move.
 */
bool mc_shm_post_move(struct mc_be *be, struct mc_be_ep *ep, struct shm_post *post, uint64_t *budget);

#endif

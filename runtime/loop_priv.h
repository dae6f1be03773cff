/* SPDX-License-Identifier: BSD-3-Clause */
/* loop_priv.h - what loop.c (backend, regions, links, faults) and loop_xfer.c (messages, posts) share. */
#ifndef MC_LOOP_PRIV_H
#define MC_LOOP_PRIV_H

#include "hub.h"
#include "log.h"
#include "loop.h"
#include "util.h"

enum {
	LOOP_ADDR_LEN = 4 + 4 + 8 + 4,
	LOOP_MSG_MAX = (8 << 20) + (128 << 10), /* a full pack plus a full note plus framing */
	LOOP_COPY_MAX = 64 << 10,
	LOOP_IOV_MAX = 64,
	LOOP_TAKE_MAX = 64, /* slices per post call */
};

enum loop_op_kind { OP_SEND, OP_POST };

/* One call under way. */
struct loop_op {
	struct mc_list link;
	enum loop_op_kind kind;
	bool has_msg, is_copy, started;
	uint64_t cookie;
	uint32_t type;   /* OP_POST: enum mc_be_op */
	uint32_t n, at;  /* iovecs or slices; slice under way */
	uint64_t at_off; /* bytes of that slice already moved */
	size_t msg_len;
	struct loop_item *copy; /* message already copied (MC_SEND_COPY, POST_MSG) */
	struct loop_item *end;  /* for its DONE or SENT: to report it needs no memory */
	union {
		struct iovec iov[LOOP_IOV_MAX];
		struct mc_be_slice slice[LOOP_TAKE_MAX];
	};
};

/* One event to report; for a message also its bytes. */
struct loop_item {
	struct mc_list link;
	struct mc_be_event ev;
	struct mc_be_ep *ep; /* EP_UP, EP_DOWN: whose; MSG: the sender's, for its room count; may be NULL */
	size_t room;
	void *buf;
};

struct mc_be_mem {
	struct mc_list link;
	uint64_t key, len;
	uint8_t *addr;
};

struct mc_be_rmem {
	struct mc_list link;
	uint32_t rank;
	uint64_t epoch, key, len;
};

enum loop_ep_state { EP_NEW, EP_CONN, EP_DEAD };

struct mc_be_ep {
	struct mc_list link;
	struct mc_be *be, *peer; /* peer: NULL when not connected */
	enum loop_ep_state state;
	uint64_t cookie;
	struct mc_list fifo;
	uint32_t fifo_n;
	uint32_t inbox_n; /* at the peer, not polled there */
	size_t inbox_bytes;
	bool hold, manual, unproved;
	uint32_t drop_n, release_n;
};

struct mc_be {
	struct mc_hub *hub;
	uint32_t rank;
	uint64_t epoch, next_key;
	int event_fd;
	bool armed, signaled, kick; /* kick: a peer made room, the fifos are worth a look */
	struct mc_list events, lent, free_items, free_ops;
	struct mc_list eps, mems, rmems;
	uint8_t addr[LOOP_ADDR_LEN];
	uint32_t take_max;
	bool prove;
	struct mc_ratelimit limit;
	struct {
		uint32_t kth;
		mc_status_t status;
	} fail[MC_LOOP_SLOTS];
};

/* All of these under hub->lock. */
mc_status_t mc_loop_fault_hit(struct mc_be *be, enum mc_loop_slot slot);
void mc_loop_signal(struct mc_be *be);
void mc_loop_item_put(struct mc_be *be, struct loop_item *it);
void mc_loop_event(struct mc_be *be, struct mc_be_ep *ep, enum mc_be_kind kind, mc_status_t status, uint64_t cookie);
void mc_loop_ep_run(struct mc_be_ep *ep, uint64_t *budget);
bool mc_loop_ep_runnable(const struct mc_be_ep *ep);
void mc_loop_ep_flush(struct mc_be_ep *ep, mc_status_t status);

/* Slots of the table. */
mc_status_t mc_loop_send(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, uint32_t flags,
			 uint64_t cookie);
mc_status_t mc_loop_post(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out);

#endif

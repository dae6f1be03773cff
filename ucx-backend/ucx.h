/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ucx.h - inside of the UCX backend. One mc_be is one UCX context and worker.
 *
 * A link is the connection to one incarnation of a peer's mc_be, shared by all eps to it. It is made by ep_connect
 * here, or by a HELLO from there. Each link numbers its messages; the first is HELLO, which carries the sender's
 * address. So either side can answer the other, knows who speaks, and puts messages in order whatever way UCX moved
 * them.
 *
 * UCX calls back from inside its progress. Callbacks only note what happened (inbox, link->err, finished ops); poll
 * works the notes off afterwards, so that nothing re-enters UCX.
 *
 * ucx.c: table, open, close, arm, poll; ucx_conf.c: settings, devices; ucx_addr.c: addresses, death of same-host peers;
 * ucx_link.c: links and eps; ucx_meet.c: how the two ends of a link meet; ucx_msg.c: messages; ucx_mem.c: regions;
 * ucx_post.c: transfers.
 */
#ifndef MC_UCX_H
#define MC_UCX_H

#include <ucp/api/ucp.h>

#include "backend.h"
#include "log.h"
#include "util.h"

enum {
	UCX_AM_ID = 77,
	UCX_HDR_LEN = 24,
	UCX_HEAD_MAX = 64 << 10,               /* of a message that goes apart from its bulk data */
	UCX_MSG_MAX = (8 << 20) + (128 << 10), /* a full pack plus a full note plus framing */
	UCX_COPY_MAX = 64 << 10,
	UCX_IOV_MAX = 64,
	UCX_TAKE_MAX = 64,             /* slices per post call */
	UCX_OPS_MAX = 256,             /* sends and posts under way per link */
	UCX_BYTES_MAX = 32 << 20,      /* bytes of them */
	UCX_HELD_MAX = 4096,           /* messages kept because an earlier one has not come */
	UCX_OVERTAKE_BYTES = 64 << 20, /* a sender stays below that and half of the above */
	UCX_POST_BYTES = 1 << 20,      /* moved per call where UCX copies inside the call */
	UCX_BLOB_MAX = 1024,
	UCX_ADDR_MAX = 4096,
	UCX_HASH = 256,
	UCX_LINKS_MAX = 65536, /* whoever may connect to us can make links */
	UCX_CLOSE_FLUSH_MS = 500,
	UCX_CLOSE_FORCE_MS = 300,
};

/* Message kinds; numbers are wire format. */
enum ucx_kind {
	UCX_MSG = 1,
	UCX_HELLO = 2,   /* first on each link; body: the sender's address */
	UCX_BYE = 3,     /* last on a link: everything before it has come */
	UCX_BYE_NOW = 4, /* the link was cut; what it carried may be incomplete. Not numbered. */
	UCX_GONE = 5,    /* body: region id, u64: freed */
	UCX_NOP = 6,     /* takes the number of a message that will not come */
	UCX_OPEN = 7,    /* second on a link that began calmly: now it may be used */
};

/* What an address says. */
struct ucx_addr {
	uint32_t rank, pid, flags, pipe_fd;
	uint64_t epoch, start, host, pidns, pipe_ino;
	uint64_t probe;     /* where the sender keeps its epoch in memory: CMA is tried on it */
	const void *worker; /* borrowed */
	uint32_t worker_len;
};
enum { UCX_ADDR_RDMA = 1, UCX_ADDR_CALM = 2 /* TCP alone: meets calmly */ };

enum ucx_link_state { LINK_CONNECTING, LINK_UP, LINK_LEAVING, LINK_DEAD };

struct ucx_link {
	struct mc_list node; /* be->links */
	struct mc_list hash; /* be->by_id[], once peer_id is known */
	struct mc_list eps, rmems;
	struct mc_list posts; /* OP_POST not yet handed to UCX entirely, in order */
	struct mc_list held;  /* struct ucx_rx that came early, by number */
	struct mc_be *be;
	ucp_ep_h ucp; /* NULL: closed */
	enum ucx_link_state state;
	uint64_t id, peer_id; /* ours; the peer's, 0: no HELLO yet */
	uint64_t epoch;
	uint32_t rank;
	void *worker_addr; /* of the peer, for a farewell */
	uint64_t tx_seq, rx_seq;
	uint64_t cb_seq; /* next in order as UCX's callback sees them */
	uint32_t held_n, ops_n;
	uint32_t waiting_n,
		overtakers; /* numbered messages of posts that wait for their bytes; messages sent meanwhile */
	uint64_t overtaker_bytes;
	uint64_t ops_bytes;
	bool farewell, direct; /* direct: one-sided transfers reach the peer's memory */
	bool sent_bye, starved;
	bool calm;             /* see ucx_meet.c */
	bool unsaid, stands;   /* unsaid: our HELLO has not left yet; stands: the connection does */
	ucs_status_t err;      /* from UCX, not handled yet */
	bool peer_left, dying; /* dying: its process or mc_be is gone; what it sent is still to be read */
	int pidfd, pipe;       /* watched for that; -1: not */
};

struct mc_be_ep {
	struct mc_list node; /* link->eps, or be->loose */
	struct mc_list ops;
	struct mc_be *be;
	struct ucx_link *link; /* NULL: not connected yet */
	uint64_t cookie;
	bool up, down;        /* reported */
	bool closed, closing; /* closing: the call to ep_close is not through yet */
	mc_status_t why;      /* not MC_OK: EP_DOWN is due once the ops have ended */
	int32_t native;
};

struct mc_be_mem {
	struct mc_list node;
	uint64_t id, len;
	uint8_t *addr;
	ucp_mem_h memh; /* NULL without MC_CAP_RMA */
	bool exported;
};

struct mc_be_rmem {
	struct mc_list node;   /* link->rmems */
	struct ucx_link *link; /* NULL: dead */
	uint64_t id, addr, len;
	ucp_rkey_h rkey;
	bool stale;
};

enum ucx_op_kind { OP_SEND, OP_COPY, OP_CTL, OP_POST, OP_MEET };

/* One call under way. */
struct ucx_op {
	struct mc_list node;      /* ep->ops, be->ctl, be->free_ops */
	struct mc_list post_node; /* link->posts */
	struct mc_be *be;
	struct mc_be_ep *ep; /* NULL: control, or copied (nobody waits) */
	struct ucx_link *link;
	enum ucx_op_kind kind;
	bool busy;                                     /* we are inside a call to UCX for it */
	bool flushing, has_msg, is_bye, started, told; /* told: its message is on its way */
	mc_status_t status;
	ucs_status_t native;
	uint32_t pending; /* requests that UCX has */
	uint64_t cookie, bytes, seq;
	uint32_t type, n, at;
	uint64_t at_off;
	uint8_t hdr[UCX_HDR_LEN];
	uint8_t *buf; /* [cap]: copied message */
	uint32_t cap, len;
	uint8_t *head; /* [head_cap]: header and first piece of a message whose bulk data go from where they lie */
	uint32_t head_cap;
	struct mc_be_slice slice[UCX_TAKE_MAX];
};

/* A message that arrived. */
struct ucx_rx {
	struct mc_list node;
	enum ucx_kind kind;
	uint64_t id, seq;
	const void *data;
	uint32_t len, cap, placed;
	void *desc;   /* UCX's own buffer, to be given back */
	uint8_t *buf; /* [cap]: ours */
};

struct ucx_event {
	struct mc_be_event ev;
	struct mc_be_ep *ep; /* EP_UP, EP_DOWN: dropped when that is closed first */
	struct ucx_rx *rx;
};

struct mc_be {
	uint32_t rank, flags; /* flags: enum mc_cap */
	uint64_t epoch;       /* also what peers read to see whether CMA works */
	ucp_context_h ctx;
	ucp_worker_h worker;
	uint8_t addr[UCX_ADDR_MAX];
	uint32_t addr_len, addr_flags;
	uint32_t head_max; /* bytes that may go as an active message's header */
	bool (*bulk)(void *arg, const void *head, uint32_t head_len, const void *rest, uint32_t rest_len);
	void *bulk_arg;
	uint64_t host, pidns;
	int efd, epfd, watch; /* UCX's; the one handed out; death watches, -1 without shared memory */
	int pipe[2];
	bool armed, kick, fatal, shm, copies; /* copies: UCX moves one-sided bytes inside the call */
	bool has_err;
	uint32_t dying_n, watched_n, closing_n, polls, posts_n, links_n, unsaid_n;
	struct mc_list links, mems, loose, ctl, free_ops, free_rx, inbox, lent;
	struct mc_list by_id[UCX_HASH];
	size_t free_rx_bytes, free_op_bytes;
	struct ucx_event *evq; /* ring */
	uint32_t ev_cap, ev_head, ev_n;
	struct mc_ratelimit limit;
	char text[64];
};

/* ucx_conf.c */
mc_status_t mc_ucx_context_open(struct mc_be *be, const struct mc_be_cfg *cfg, char *why, size_t why_len);

/* ucx_addr.c */
mc_status_t mc_ucx_addr_make(struct mc_be *be);
mc_status_t mc_ucx_addr_parse(const void *p, uint32_t len, struct ucx_addr *out);
mc_status_t mc_ucx_watch_open(struct mc_be *be);
void mc_ucx_watch_close(struct mc_be *be);
bool mc_ucx_watch_add(struct ucx_link *link, const struct ucx_addr *a); /* false: the peer has already gone */
void mc_ucx_watch_drop(struct ucx_link *link);
void mc_ucx_watch_poll(struct mc_be *be);
bool mc_ucx_cma_works(const struct mc_be *be, const struct ucx_addr *a);

/* ucx.c */
void mc_ucx_event(struct mc_be *be, enum mc_be_kind kind, mc_status_t s, ucs_status_t native, uint64_t cookie,
		  struct mc_be_ep *ep, struct ucx_rx *rx);
void mc_ucx_events_forget(struct mc_be *be, const struct mc_be_ep *ep);
mc_status_t mc_ucx_status(ucs_status_t s);

/* ucx_link.c */
mc_status_t mc_ucx_ep_create(struct mc_be *be, uint64_t cookie, void *blob, uint32_t *len, struct mc_be_ep **ep_out);
mc_status_t mc_ucx_ep_connect(struct mc_be *be, struct mc_be_ep *ep, const void *peer, uint32_t len, char *text,
			      size_t text_len);
void mc_ucx_ep_close(struct mc_be *be, struct mc_be_ep *ep);
void mc_ucx_ep_settle(struct mc_be_ep *ep); /* its last op ended */
void mc_ucx_ep_up(struct mc_be_ep *ep);
void mc_ucx_hello(struct mc_be *be, const struct ucx_rx *rx);
struct ucx_link *mc_ucx_link_find(struct mc_be *be, uint64_t peer_id);
void mc_ucx_link_fail(struct ucx_link *link, mc_status_t s, ucs_status_t native);
void mc_ucx_links_run(struct mc_be *be); /* what callbacks and watches have noted */
void mc_ucx_dying_run(struct mc_be *be); /* the dead have been read to the end */
void mc_ucx_links_close(struct mc_be *be);
void mc_ucx_links_free(struct mc_be *be);

/* ucx_meet.c */
void mc_ucx_meet_begin(struct ucx_link *link); /* our HELLO, now or when it can */
void mc_ucx_meet_on(struct ucx_link *link);    /* the next step, if its time has come: the peer's HELLO is here */
void mc_ucx_meet_stands(struct ucx_link *link, ucs_status_t st); /* the flush has ended */
void mc_ucx_meet_up(struct ucx_link *link);    /* OPEN is here */
void mc_ucx_meet_run(struct mc_be *be);        /* after progress, while be->unsaid_n > 0 */
void mc_ucx_meet_drop(struct ucx_link *link);  /* it has ended */

/* ucx_msg.c */
mc_status_t mc_ucx_send(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, uint32_t flags,
			uint64_t cookie);
bool mc_ucx_room(struct ucx_link *link);
struct ucx_op *mc_ucx_op_get(struct mc_be *be, uint32_t cap);
void mc_ucx_op_put(struct ucx_op *op);
void mc_ucx_op_begin(struct ucx_op *op, struct ucx_link *link, struct mc_be_ep *ep);
void mc_ucx_op_check(struct ucx_op *op);                       /* takes it on when nothing is pending */
void mc_ucx_op_end(struct ucx_op *op);                         /* reports and frees it */
void mc_ucx_op_request(struct ucx_op *op, ucs_status_ptr_t p); /* what a call to UCX returned */
void mc_ucx_request_param(struct ucx_op *op, ucp_request_param_t *prm);
/* head: in op->head behind room for the header, goes before buf; 0: none. */
void mc_ucx_op_transmit(struct ucx_op *op, enum ucx_kind kind, uint64_t id, uint64_t seq, uint32_t head_len,
			const void *buf, size_t len);
void mc_ucx_header(uint8_t hdr[UCX_HDR_LEN], enum ucx_kind kind, uint64_t id, uint64_t seq);
void mc_ucx_control(struct ucx_link *link, enum ucx_kind kind, uint64_t id, const void *body, uint32_t len);
mc_status_t mc_ucx_am_register(struct mc_be *be);
void mc_ucx_inbox_run(struct mc_be *be);
void mc_ucx_rx_put(struct mc_be *be, struct ucx_rx *rx);
void mc_ucx_rx_free(struct mc_be *be, struct mc_list *list);

/* ucx_mem.c */
mc_status_t mc_ucx_mem_reg(struct mc_be *be, const struct mc_be_region *r, struct mc_be_mem **mem_out);
void mc_ucx_mem_dereg(struct mc_be *be, struct mc_be_mem *mem);
mc_status_t mc_ucx_mem_export(struct mc_be *be, struct mc_be_mem *mem, void *blob, uint32_t *len);
mc_status_t mc_ucx_rmem_import(struct mc_be *be, struct mc_be_ep *ep, const void *blob, uint32_t len,
			       struct mc_be_rmem **rmem_out);
void mc_ucx_rmem_drop(struct mc_be *be, struct mc_be_rmem *rmem);
void mc_ucx_region_gone(struct ucx_link *link, const struct ucx_rx *rx);

/* ucx_post.c */
mc_status_t mc_ucx_post(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out);
void mc_ucx_posts_run(struct mc_be *be);
bool mc_ucx_posts_waiting(const struct mc_be *be); /* for poll, not for UCX */
void mc_ucx_posts_fail(struct ucx_link *link, mc_status_t s);
void mc_ucx_post_step(struct ucx_op *op); /* its requests have completed: flush, message, or end */

#endif

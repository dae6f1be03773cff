/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal.h - the engine's own structures. Everything hangs off struct mc_ctx and is guarded by ctx->lock unless a
 * member says "atomic" or "constant". Nothing here knows a concrete network.
 */
#ifndef MC_INTERNAL_H
#define MC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "backend.h"
#include "boot.h"
#include "config.h"
#include "copy.h"
#include "log.h"
#include "mc.h"
#include "progress.h"
#include "shape.h"
#include "util.h"
#include "wire.h"

enum {
	MC_BE_MAX = 4,
	MC_BLOB_MAX = 4096,
	MC_RECORD_MAX = 65536,
	MC_FAULTS_KEPT = 256,
	MC_EVENTS = 64,
	MC_SCRATCH = 1024
};

/* What travels between engines; bodies: docs/WIRE.md. Numbers are wire format. */
enum mc_msg_kind {
	MC_MSG_NOTIFY = 1,
	MC_MSG_PUT = 2,
	MC_MSG_ACK = 3,
	MC_MSG_GET = 4,
	MC_MSG_GET_DATA = 5,
	MC_MSG_CANCEL = 6,
	MC_MSG_LOOKUP = 7,
	MC_MSG_LOOKUP_REPLY = 8,
	MC_MSG_PING = 9,
	MC_MSG_PONG = 10,
	MC_MSG_BYE = 11,
	MC_MSG_COLL = 12,
	MC_MSG_COLL_ASK = 13,
	MC_MSG_COLL_TELL = 14,
	MC_MSG_COLL_ABORT = 15,
	MC_MSG_REGION_ASK = 16,
	MC_MSG_REGION_TELL = 17,
	MC_MSG_REGION_GONE = 18,
	MC_MSG_JOIN = 19,
	MC_MSG_WELCOME = 20,
	MC_MSG_COLL_BOARD = 21,
	MC_MSG_KINDS = 22,
};

struct mc_be_slot { /* one open backend; constant after init */
	struct mc_ctx *ctx;
	const struct mc_be_ops *ops;
	struct mc_be *be;
	struct mc_be_caps caps;
};

/* ---- messages on their way out (msg.c) ---- */

struct mc_tx {
	struct mc_list node;  /* peer->txq, or ctx->tx_free[] */
	struct mc_peer *peer;
	void (*done)(struct mc_tx *tx, mc_status_t s); /* once; NULL: nobody cares. The tx is recycled after it. */
	struct mc_req *req;   /* for done */
	struct mc_mem *mem;   /* for done: region pinned while a reply reads from it */
	uint64_t arg;         /* for done */
	uint8_t kind;
	bool large;
	bool flying;          /* handed to the backend, SENT to come */
	bool framed;          /* the frame header is written; that depends on the link */
	uint32_t body_len;    /* behind the frame header in buf */
	uint32_t data_len;
	uint32_t along;       /* bytes of held messages in buf before its own frame */
	uint32_t iov_n;       /* iov[0] is buf */
	uint32_t iov_room, buf_room;
	struct iovec *iov;
	uint8_t *buf;
	uint8_t *bounce;      /* [bounce_room] small pieces are gathered here; large messages only, made on first use */
	uint32_t bounce_room, bounce_len;
};

/* ---- peers (peer.c) ---- */

enum mc_peer_state { MC_PEER_IDLE, MC_PEER_CONNECTING, MC_PEER_UP, MC_PEER_DOWN };

struct mc_peer {
	struct mc_ctx *ctx;
	struct mc_list all;         /* ctx->peers */
	uint32_t id;                /* peer number in the interface: of this job, its rank */
	uint32_t rank;              /* in its own job */
	uint64_t epoch;             /* constant, and the record's other fields */
	uint64_t job;               /* number of its job, as frames name it */
	char *job_name;             /* NULL: this job's */
	const struct mc_mac_key *key; /* between it and us: the job's, or the cluster's */
	uint32_t again;             /* how many times its rank had been started before */
	uint64_t born;              /* its clock at start, ns */
	char role[MC_ROLE_MAX], host[MC_NAME_MAX];
	uint64_t host_id;
	int32_t pid;
	void *record;               /* its published record, [record_len]; addresses point into it */
	uint32_t record_len;
	struct {                    /* its address per backend of ours; len 0: it has none */
		const void *p;
		uint32_t len;
	} addr[MC_BE_MAX];

	struct mc_topo_nic_id *nic; /* [nic_n] those that it uses, as it says */
	uint32_t nic_n;
	_Atomic(int) state;         /* enum mc_peer_state; written under the lock */
	mc_status_t why;            /* when down */
	bool left;                  /* it said goodbye */
	bool bye_sent;              /* we did, and it has not answered */
	bool introduce;             /* it may not know this process: JOIN comes before all else */
	int64_t answer_ns;          /* by when it must have answered that; INT64_MAX: nothing is due */
	struct mc_be_slot *link;    /* chosen backend; NULL before */
	struct mc_be_ep *ep;
	char link_text[MC_NAME_MAX];
	uint32_t link_next;          /* backend to try if that one cannot be proved */
	char refused[MC_REASON_MAX]; /* why those before it are not the link */
	bool fell_back;              /* one of them had a better way to offer */
	struct mc_peer *next_name, *next_frame; /* foreign.c */
	bool listed;                            /* of another job, in the directory, and not lost */
	bool in_dir;                            /* ... whether lost or not */
	uint64_t session;                       /* resume.c: 0 until it was lost and met again */
	bool call;                              /* this is the calling of another one, which was lost */
	struct mc_peer *calling;                /* that call, also an earlier one; NULL: none yet */
	int64_t call_ns;                        /* when to call; INT64_MAX: not planned */
	struct mc_list dying;       /* in ctx->dying until handled */
	mc_status_t dying_why;

	struct mc_list txq;         /* struct mc_tx waiting for room */
	struct mc_list flying;      /* struct mc_tx at the backend */
	uint32_t txq_n;
	struct mc_list held;        /* struct mc_tx that go with the next message, or when progress is made next */
	struct mc_list held_node;   /* in ctx->holding */
	struct mc_list reqs;        /* struct mc_req not ended */
	struct mc_list pump;        /* struct mc_req with something left to send */
	struct mc_list pump_node;   /* in ctx->pumping */
	uint64_t packed_out;        /* packed bytes sent and not acknowledged */
	struct mc_list failed;      /* struct mc_failed: incoming transfers whose rest is to be refused */
	uint32_t failed_n;
	uint32_t parked_n;          /* lookups of this peer that wait here */
	uint64_t pongs;             /* echo replies seen */
	uint64_t pings;
	uint64_t tx_bytes, rx_bytes, tx_slices, tx_merged, tx_msgs, rx_msgs;
	struct mc_ratelimit noise;
};

struct mc_failed {
	struct mc_list node;
	uint64_t xfer;
	mc_status_t status;
};

/* ---- memory (mem.c) ---- */

struct mc_mem {
	struct mc_ctx *ctx;
	uint64_t id;                /* generation << 32 | slot */
	uint8_t *addr;
	uint64_t len;
	uint64_t map_len;           /* pool memory: bytes mapped; 0: caller's own */
	int fd;                     /* memfd or -1 */
	bool internal;              /* the engine's own */
	uint32_t kind;
	uint32_t busy;              /* requests of this rank that use it */
	uint32_t serving;           /* replies to peers that read from it */
	struct mc_be_mem *be_mem[MC_BE_MAX]; /* by ctx->be index; NULL: not registered there */
	char *name;                 /* published, or NULL */
	struct mc_peer **asker;     /* [asker_n] who hold a descriptor by number: told when it is freed */
	uint32_t asker_n;
};

struct mc_rmem {
	struct mc_ctx *ctx;
	struct mc_peer *peer;
	struct mc_list node;        /* ctx->rmems */
	uint64_t id, len;
	struct mc_be_rmem *be_rmem; /* of peer->link; NULL: only by message */
	void *sections;             /* [sections_len] to be imported once the link is proved; NULL: none */
	uint32_t sections_len;
	uint32_t busy;
	bool released;
};

/* Wire format. NOTHING: the lookup of that cookie is taken back. */
enum mc_dir_what { MC_DIR_NOTHING = 0, MC_DIR_NAME = 1, MC_DIR_ID = 2, MC_DIR_POOL = 3 };
enum { MC_ENTRY_MAX = 65536 };

struct mc_parked { /* a peer's lookup of a name that is not there yet */
	struct mc_list node;
	struct mc_peer *peer;
	uint64_t cookie;
	enum mc_dir_what what;
	char name[MC_NAME_MAX];
};

struct mc_lookup { /* a lookup of ours; the asker's memory */
	struct mc_list node;
	struct mc_peer *peer;
	uint64_t cookie;
	/* Under the lock, once, when the answer (borrowed) or the peer's loss comes; k is out of all lists by then. */
	void (*done)(struct mc_lookup *k, mc_status_t s, const void *blob, uint32_t len);
};

/* ---- requests (req.c, xfer.c, pack.c) ---- */

enum mc_req_kind { MC_REQ_PUT, MC_REQ_GET, MC_REQ_NOTE, MC_REQ_GROUP };

struct mc_pin {
	struct mc_mem *mem;
	struct mc_rmem *rmem;
};

struct mc_run { /* packed path: pieces of len bytes */
	uint8_t *addr;
	uint64_t rid; /* region id at the peer */
	uint64_t roff, len;
	uint32_t shape; /* in the request's shape[]; 0: one piece */
};

struct mc_srun { /* one-sided path, strided: the same with the backend's handles */
	struct mc_be_mem *mem;
	uint64_t off;
	struct mc_be_rmem *rmem;
	uint64_t roff, len;
	uint32_t shape;
};

struct mc_xfer_run { /* what the KV layer hands in, whatever the link does with it */
	struct mc_mem *mem;
	uint64_t off;
	struct mc_rmem *rmem;
	uint64_t roff, len;
	uint32_t shape; /* from mc_req_shape() */
};

struct mc_cursor { /* a place in a request's runs: byte `off` of piece `piece` of run `run` */
	uint32_t run, piece;
	uint64_t off;
};

struct mc_chunk { /* packed get: one message's worth */
	struct mc_cursor at;
	bool done;
	uint32_t len;
};

struct mc_req {
	struct mc_ctx *ctx;
	struct mc_peer *peer;
	struct mc_list node;        /* peer->reqs, or ctx->req_free */
	struct mc_list pump;        /* peer->pump */
	struct mc_list timed;       /* ctx->timed: has a deadline */
	uint64_t xfer;              /* number on the wire: use of the slot << 32 | slot */
	uint32_t slot;              /* in ctx->req_slot, for the life of the object */
	enum mc_req_kind kind;
	_Atomic(uint32_t) state;    /* futex word: 0 running, 1 ended (status is then constant) */
	uint32_t refs;              /* caller and engine */
	mc_status_t status;
	mc_status_t failing;        /* not MC_OK: it will end so, once nothing is under way */
	bool rma;                   /* else packed */
	bool strided;               /* rma with srun[] rather than slice[] */
	bool notify_sent;
	bool broken;                /* failing, and not only because it was given up */
	uint32_t flying;            /* posts and messages that hold on to buffers; each ends, whatever happens */
	uint32_t unacked;           /* packed messages that the peer has not answered yet */
	uint32_t next;              /* first run not yet sent */
	struct mc_cursor at;        /* packed and strided: exactly where; at.run equals next */
	uint32_t run_n, run_room;
	void *store;                /* room for run_room runs of the largest kind */
	union {                     /* in store, or a list's, which are only read */
		struct mc_be_slice *slice; /* rma */
		struct mc_srun *srun;      /* rma, strided */
		struct mc_run *run;        /* packed */
	};
	const struct mc_shape *shape; /* in shape_store, a list's, or mc_shape_single */
	struct mc_shape *shape_store; /* [shape_room] */
	uint32_t shape_n, shape_room;
	struct mc_dlist *list;      /* posted from it: it pins the regions; else NULL */
	struct mc_pin *pin;
	uint32_t pin_n, pin_room;
	struct mc_chunk *chunk;
	uint32_t chunk_n, chunk_room;
	int64_t deadline_ns;        /* INT64_MAX: none; once failing: until the peer must have answered */
	uint32_t notify_flags;
	uint64_t notify_tag, notify_add;
	uint8_t *payload;           /* [payload_len] */
	uint32_t payload_len, payload_room;
	uint32_t slices;
	uint64_t bytes;
	int64_t start_ns, post_ns, end_ns;
	uint64_t ticks;             /* quick.c: instead of those three, how long the call took; else 0 */
	struct mc_list kids;        /* MC_REQ_GROUP: requests that it stands for; flying counts them */
	struct mc_list kid;         /* in the group's list */
	void (*on_end)(struct mc_req *r,
		       void *arg); /* engine's own requests: called under the lock, once, at the end */
	void *on_end_arg;
};

/* ---- arrivals (arrive.c) ---- */

struct mc_counter {
	struct mc_ctx *ctx;
	struct mc_counter *next;    /* hash chain */
	uint64_t tag;
	struct mc_peer *from;       /* one incarnation; NULL: any peer */
	bool open;                  /* a handle exists; else it only keeps early arrivals */
	_Atomic(uint64_t) value;
	_Atomic(uint32_t) seq;      /* futex word */
};

struct mc_note_node {
	struct mc_list node;
	struct mc_note note;
	_Alignas(16) uint8_t data[];
};

/* ---- groups and collectives ---- */

struct mc_group {
	struct mc_ctx *ctx;
	struct mc_list node;        /* ctx->groups */
	bool builtin;
	uint64_t sig;               /* hash of the member list: the group's name on the wire */
	uint32_t gen;               /* of ctx->member_gen */
	uint32_t n, self;           /* self: own rank or MC_NO_RANK */
	struct mc_peer **peer;      /* [n] incarnations */
};

struct mc_fault_node {
	struct mc_list node;
	struct mc_fault fault;
};

/* ---- context ---- */

#define MC_COUNTER_BUCKETS 1024u

struct mc_ctx {
	struct mc_config cfg;       /* constant */
	const struct mc_boot_ops *boot_ops;
	struct mc_boot *boot;
	struct mc_boot_info boot_info;
	uint32_t rank, size;        /* constant */
	uint64_t job, epoch, host_id, born;
	char job_name[MC_JOB_MAX];
	char role[MC_ROLE_MAX], host[MC_NAME_MAX];
	struct mc_mac_key key;
	bool manual;
	bool streams;               /* constant: copying past the caches pays here */

	struct mc_ticker ticker;    /* constant */
	pthread_mutex_t lock;
	_Atomic(uint32_t) lockers;  /* callers that want the lock: the progress thread makes way */
	struct mc_be_nic *nic;      /* [nic_n], for the backends; constant after init */
	uint32_t nic_n;
	bool nic_chosen, nic_named, nic_narrow;
	int32_t home_node;          /* NUMA node that this process is bound to; -1: none, or there is only one */
	struct mc_be_slot be[MC_BE_MAX];
	uint32_t be_n;
	uint32_t msg_max, iov_max;       /* smallest of the open backends: what fits any link */
	uint32_t fallback_n;             /* peers that are not reached by the way hoped for */
	char rdma_why[256];              /* auto: why no native RDMA here; "": there is, or none is missed */
	_Atomic(struct mc_peer *) *peer; /* [size] the ranks of this job as they are now; read without the lock, too */
	struct mc_peer *self;            /* constant */
	struct mc_foreign *foreign;      /* peers of other jobs; NULL: none; constant */
	_Atomic(uint32_t) member_gen;    /* grows when a rank of this job is replaced */
	struct mc_list peers; /* every incarnation that was ever known: they stay where they are until the end */
	struct mc_group *world, *node;
	struct mc_list groups;

	pthread_t thread;
	bool thread_on;
	_Atomic(bool) stop;
	int epfd, wake_fd;
	_Atomic(uint32_t) asleep;   /* sleepers that a write to wake_fd wakes */
	_Atomic(uint32_t) sleepers; /* callers in futex waits */
	struct mc_driver drv;       /* who has the descriptors */
	_Atomic(bool) armed;        /* the program armed mc_progress_fd() itself */
	_Atomic(bool) kicked;       /* wake_fd was written */
	int64_t timer_ns;           /* earliest deadline of a request; INT64_MAX: none */
	int64_t join_timer_ns;      /* earliest answer to a JOIN that is due, or before; INT64_MAX: none */
	int64_t sleep_until_ns;     /* the progress thread's own alarm, while it is asleep */
	int64_t boot_check_ns;
	_Atomic(uint32_t) ticks;    /* polls, to look at the clock now and then */
	bool leaving;               /* in mc_finalize(): peers that close their links are no loss */
	bool stale_arm;             /* someone polled since the backends were armed */

	struct mc_mem **region;     /* [region_n] by slot; NULL: free */
	uint32_t *region_gen;
	uint32_t region_n;
	struct mc_list rmems;
	struct mc_list parked, lookups;
	struct mc_list kept;        /* lookups whose askers ran out of time */
	uint32_t kept_n;
	struct mc_list pools;       /* struct mc_kv_pool */
	struct mc_list reshards;    /* struct mc_reshard */
	struct mc_list openings;    /* and those whose openers ran out of time */
	uint32_t opening_n;
	struct mc_list dlists;      /* struct mc_dlist */
	uint64_t cookie;

	struct mc_be_slice *scratch; /* [MC_SCRATCH] strided runs on their way into a post */
	struct mc_list tx_free[2];  /* small, large */
	struct mc_list req_free;
	struct mc_list dying;       /* struct mc_peer to be taken down */
	struct mc_list pumping;     /* struct mc_peer with requests to feed */
	struct mc_list holding;     /* struct mc_peer with messages held */
	struct mc_list timed;
	struct mc_req **req_slot;   /* [req_slot_n] every request object ever made */
	uint32_t req_slot_n, req_slot_room;

	struct mc_counter *counter[MC_COUNTER_BUCKETS];
	uint32_t counter_early;     /* tags kept without a handle */
	struct mc_list notes;
	uint32_t note_n;
	_Atomic(uint32_t) note_seq; /* futex word: a note came */
	_Atomic(uint32_t) peer_seq; /* futex word: a peer changed state, a reply came */
	struct mc_list faults;
	uint32_t fault_n;
	struct mc_ratelimit noise; /* log lines about strangers */

	struct mc_colls *colls;     /* coll.h */
	uint32_t coll_msg_n;        /* messages of collectives that have not started here */
	uint32_t coll_running;
	bool coll_recent;           /* one was started since the progress thread went to sleep */
	int64_t coll_timer_ns;      /* earliest alarm of a collective, or before; INT64_MAX: none */
	_Atomic(uint32_t) coll_seq; /* grows when a peer is lost or leaves */
};

/* msg.c */
struct mc_tx *mc_tx_get(struct mc_peer *p, enum mc_msg_kind kind, bool large); /* NULL: no memory */
void mc_tx_put(struct mc_tx *tx);                   /* unused tx back */
void mc_tx_body(struct mc_tx *tx, struct mc_wr *w); /* writer over the body's room */
void mc_tx_send(struct mc_tx *tx, const struct mc_wr *w); /* takes the tx; done may run before return */
void mc_tx_hold(struct mc_tx *tx, const struct mc_wr *w); /* a short one that may wait a little for company */
void mc_tx_release(struct mc_ctx *ctx);             /* send what is held */
void mc_tx_flush(struct mc_peer *p);                /* send what waits for room */
void mc_tx_sent(struct mc_ctx *ctx, uint64_t cookie, mc_status_t s);
void mc_tx_fail_all(struct mc_peer *p, mc_status_t s);
void mc_tx_free_all(struct mc_ctx *ctx);
void mc_bye_send(struct mc_peer *p, uint8_t answer);
uint32_t mc_tx_encode(struct mc_tx *tx, const struct mc_wr *w); /* for POST_MSG: framed length in tx->buf */
/* placed: so many bytes of data follow that mc_msg_bulk() has taken. */
void mc_msg_arrived(struct mc_ctx *ctx, struct mc_be_slot *slot, const void *msg, uint32_t len, uint32_t placed);
bool mc_msg_bulk(void *slot, const void *head, uint32_t head_len, const void *rest, uint32_t rest_len);

/* mem.c, dir.c */
struct mc_mem *mc_region_find(struct mc_ctx *ctx, uint64_t id); /* NULL: freed or never was */
void mc_mems_free(struct mc_ctx *ctx);
mc_status_t mc_mem_encode(struct mc_mem *m, const struct mc_mac_key *key, struct mc_wr *w);
void mc_rmem_unpin(struct mc_rmem *r);
void mc_rmems_free(struct mc_ctx *ctx);
void mc_rmems_link_up(struct mc_peer *p); /* its link is proved: descriptors that waited for it */
mc_status_t mc_rmem_import(struct mc_peer *p, const void *blob, uint32_t len, struct mc_rmem **out);
void mc_dir_peer_down(struct mc_peer *p);
void mc_dir_published(struct mc_ctx *ctx, enum mc_dir_what what, const char *name);
/* Ask k->peer for an entry; k->done is set. Under the lock. MC_DIR_ID: MC_ERR_STALE comes at once if it is gone. */
mc_status_t mc_dir_ask(struct mc_lookup *k, enum mc_dir_what what, uint64_t id, const char *name);
void mc_dir_unask(struct mc_lookup *k); /* nobody wants the answer any more; under the lock, before it has come */
mc_status_t mc_kv_pool_encode(struct mc_ctx *ctx, const char *name,
			      struct mc_wr *w); /* MC_ERR_NOENT: none of that name */
void mc_on_lookup(struct mc_peer *p, struct mc_rd *r);
void mc_on_lookup_reply(struct mc_peer *p, struct mc_rd *r);
mc_status_t mc_region_ask(struct mc_peer *p, uint64_t id); /* the answer goes to mc_coll_region_told() */
void mc_region_freed(struct mc_mem *m);             /* under the lock: tell those who asked */
void mc_on_region_ask(struct mc_peer *p, struct mc_rd *r);
void mc_on_region_tell(struct mc_peer *p, struct mc_rd *r);
void mc_on_region_gone(struct mc_peer *p, struct mc_rd *r);

/* req.c */
struct mc_req *mc_req_get(struct mc_peer *p, enum mc_req_kind kind);
struct mc_req *mc_req_ended(struct mc_peer *p, enum mc_req_kind kind); /* MC_OK already; the caller's reference alone */
mc_status_t mc_req_reserve(struct mc_req *r, uint32_t runs);
mc_status_t mc_req_pin(struct mc_req *r, struct mc_mem *mem, struct mc_rmem *rmem);
mc_status_t mc_req_shape(struct mc_req *r, const struct mc_shape *s, uint32_t *number_out);
void mc_req_unpin(struct mc_req *r);                /* lets go of regions and list */
void mc_req_drop(struct mc_req *r);                 /* one reference */
void mc_req_fail(struct mc_req *r, mc_status_t s);  /* ends it once nothing is under way */
void mc_req_settle(struct mc_req *r);               /* ends it if it is complete, or failing and idle */
struct mc_req *mc_req_find(struct mc_peer *p, uint64_t xfer); /* running request of that number to that peer, or NULL */
void mc_req_timed(struct mc_req *r, int64_t deadline_ns);
void mc_req_timers(struct mc_ctx *ctx, int64_t now);
void mc_reqs_free(struct mc_ctx *ctx);

/* xfer.c, pack.c */
/*
 * Start a transfer for the engine itself (collectives, KV pools); under the lock. on_end is called when it ends,
 * possibly before this returns; nobody frees the request. The caller ends with mc_progress_posted(). Errors as
 * mc_put(): nothing was started.
 */
mc_status_t mc_xfer_submit(struct mc_peer *p, enum mc_req_kind kind, const struct mc_slice *slice, uint32_t n,
			   const struct mc_xfer_opts *opts, void (*on_end)(struct mc_req *r, void *arg), void *arg);
void mc_xfer_start(struct mc_req *r);
void mc_xfer_go(struct mc_req *r, struct mc_req **req_out); /* start it for a caller; under the lock */
mc_status_t mc_xfer_check(const struct mc_peer *p, const struct mc_slice *s);
bool mc_xfer_slice_join(struct mc_be_slice *last, const struct mc_be_slice *s); /* adjacent: last becomes both */
bool mc_xfer_run_join(struct mc_run *last, const struct mc_run *s);
mc_status_t mc_xfer_add(struct mc_req *r, const struct mc_xfer_run *x); /* r->rma is set; room is reserved */
bool mc_xfer_link_rma(const struct mc_peer *p);
bool mc_xfer_mem_rma(const struct mc_peer *p, const struct mc_mem *mem);
struct mc_be_mem *mc_xfer_be_mem(const struct mc_peer *p, const struct mc_mem *mem);
void mc_xfer_notify(struct mc_req *r);              /* every byte is in place: tell the peer */
mc_status_t mc_xfer_take_opts(struct mc_req *r, const struct mc_xfer_opts *opts);
void mc_xfer_discard(struct mc_req *r);             /* a request that was not started */
void mc_xfer_pump(struct mc_ctx *ctx);
void mc_xfer_posted(struct mc_req *r, mc_status_t s); /* DONE */
void mc_xfer_want_pump(struct mc_req *r);

/* quick.c. Under the lock; true: the put has ended, *req_out (may be NULL) is a request that has. */
bool mc_quick_put(struct mc_peer *p, const struct mc_slice *s, const struct mc_xfer_opts *opts,
		  struct mc_req **req_out);
bool mc_pack_step(struct mc_req *r);                /* send one message; false: no room or nothing left */
void mc_pack_abandon(struct mc_req *r);            /* tell the peer that no more of it comes */
/* data NULL: it is in place already. place: takes the data of that message there. false: not all of it was right. */
bool mc_put_place(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len);
bool mc_get_data_place(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len);
void mc_on_put(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len);
void mc_on_ack(struct mc_peer *p, struct mc_rd *r);
void mc_on_get(struct mc_peer *p, struct mc_rd *r);
void mc_on_get_data(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len);
void mc_on_cancel(struct mc_peer *p, struct mc_rd *r);
void mc_failed_clear(struct mc_peer *p);

/* A request that stands for others, up to all of which it waits; its caller adds them between these two. Under the
 * lock. */
struct mc_req *mc_req_group(struct mc_ctx *ctx);
void mc_req_group_add(struct mc_req *group, struct mc_req *kid); /* before the kid starts */
void mc_req_group_ready(struct mc_req *group, mc_status_t s);    /* all are added; not MC_OK: cancel them */

/* dlist.c */
void mc_dlist_drop(struct mc_dlist *list);          /* a request on it has ended */
void mc_dlists_free(struct mc_ctx *ctx);

/* arrive.c */
void mc_notify_encode(const struct mc_req *r, struct mc_wr *w);
mc_status_t mc_notify_apply(struct mc_peer *p, struct mc_rd *r); /* MC_ERR_PROTO: malformed */
void mc_arrivals_peer_down(struct mc_peer *p);
void mc_arrivals_free(struct mc_ctx *ctx);

/* group.c, coll.c */
mc_status_t mc_groups_open(struct mc_ctx *ctx);
void mc_groups_free(struct mc_ctx *ctx);
mc_status_t mc_colls_open(struct mc_ctx *ctx);
uint32_t mc_colls_run(struct mc_ctx *ctx);          /* act on what has happened; number of collectives looked at */
void mc_colls_timers(struct mc_ctx *ctx, int64_t now);
bool mc_colls_idle(const struct mc_ctx *ctx);       /* nothing left that could be done at once */
bool mc_colls_arm(struct mc_ctx *ctx);              /* false: not before another poll */
void mc_on_coll_board(struct mc_peer *p, struct mc_rd *r);
void mc_colls_close(struct mc_ctx *ctx);
void mc_coll_region_told(struct mc_peer *p, uint64_t id, mc_status_t s, const void *blob, uint32_t len);
void mc_coll_region_gone(struct mc_peer *p, uint64_t id);
void mc_on_coll(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len);
void mc_on_coll_abort(struct mc_peer *p, struct mc_rd *r);
void mc_on_coll_ask(struct mc_peer *p, struct mc_rd *r);
void mc_on_coll_tell(struct mc_peer *p, struct mc_rd *r);
void mc_colls_free(struct mc_ctx *ctx);             /* forget groups, early messages, descriptors */

#include "peer.h"

#endif

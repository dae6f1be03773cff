/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll.h - inside of the collectives.
 *
 * A collective is a list of steps: send to a rank, receive from a rank, copy here. An algorithm only writes that list
 * down (coll_<collective>_<algorithm>.c, with the arithmetic in coll_pattern.c); coll_p2p.c carries it out from message
 * handlers and ends of transfers, never blocking; coll.c starts and ends; coll_fail.c tells the others when something
 * is wrong, and makes sure that nothing touches the caller's buffers afterwards. All of it runs under ctx->lock.
 */
#ifndef MC_COLL_H
#define MC_COLL_H

#include "internal.h"

/* ---- steps ---- */

enum mc_step_kind { MC_STEP_SEND = 1, MC_STEP_RECV, MC_STEP_COPY };

/* How the bytes of a step travel. Both sides must choose alike, from what both know. */
enum mc_step_way {
	MC_WAY_MSG = 1, /* in the message itself: short ones, and any that are not in a region */
	MC_WAY_PUT,     /* the receiver says where, the sender writes */
	MC_WAY_GET,     /* the sender says where, the receiver reads */
};

enum mc_step_state {
	MC_STEP_IDLE,   /* waits for its predecessor, or for what the other side has to say */
	MC_STEP_LOOKUP, /* waits for the peer's region to be looked up */
	MC_STEP_MOVING, /* bytes are under way */
	MC_STEP_DONE,
};

#define MC_NO_STEP   UINT32_MAX
#define MC_KEY_AGREE 0x80000000u /* keys of the rounds in which members agree */
#define MC_KEY_HELLO 0xffffffffu

struct mc_step {
	struct mc_coll *coll;
	uint8_t kind, way, state;
	bool open;    /* its predecessor is done */
	bool landed;  /* RECV: all bytes are here */
	bool told;    /* rid and roff are known */
	bool checked; /* the other side's length is known, and right */
	bool exposed; /* the other side may touch our region */
	bool queued;
	bool retried;           /* its descriptor was stale once */
	uint32_t rank, key;     /* of the group; what a message of the step is known by */
	uint32_t after;         /* SEND, COPY: starts then. RECV: may land at any time, is done not before */
	uint32_t dep, dep_next; /* who waits for this one */
	uint32_t next;          /* in its bucket */
	uint32_t queue_next;
	struct mc_mem *mem;  /* region of addr; NULL: none */
	uint8_t *addr;       /* COPY: to */
	const uint8_t *from; /* COPY */
	uint64_t len, moved;
	uint64_t rid, roff; /* where at the other side */
};

/* ---- one collective ---- */

struct mc_algo;

/* What the caller gave. */
struct mc_coll_args {
	enum mc_coll_op op;
	bool v; /* lengths per rank; the arrays are read during the call only */
	uint32_t root;
	struct mc_buf src, dst;
	uint64_t len; /* bytes per rank (bcast: of all); v: own side of scatterv, gatherv */
	const uint64_t *slen, *soff, *dlen, *doff; /* [n] */
};

enum mc_coll_mark { MC_MARK_ACK_DUE = 1, MC_MARK_ACK_OWED = 2, MC_MARK_TOLD = 4, MC_MARK_HERE = 8 };

struct mc_coll {
	struct mc_ctx *ctx;
	struct mc_list node;  /* colls->running, or colls->free */
	struct mc_list ready; /* colls->ready */
	struct mc_req *req;
	uint64_t sig, seq, check;
	enum mc_coll_op op;
	const struct mc_algo *algo;
	uint32_t root, n, self;
	struct mc_peer **peer; /* [n] */
	uint8_t *mark;         /* [n] enum mc_coll_mark */
	uint32_t room;         /* of both */
	struct mc_mem *mem[2]; /* pinned */
	struct mc_step *step;
	uint32_t step_n, step_room, left;
	uint32_t *bucket; /* [bucket_n] first step; a power of two */
	uint32_t bucket_n, bucket_room;
	uint32_t queue, queue_tail; /* steps to look at */
	uint32_t unchecked;         /* steps whose length the other side has not confirmed yet */
	uint32_t gate;              /* step that waits for unchecked to be 0 */
	uint32_t flying;            /* messages and transfers that hold on to buffers */
	uint8_t *scratch;
	uint64_t scratch_n, scratch_room;
	uint64_t eager; /* up to here in messages */
	/* coll_board.c: no steps */
	struct mc_boards *board;
	uint64_t board_len;
	uint8_t *board_src, *board_dst;
	uint32_t waiting; /* ranks that have not given theirs, a bit each */
	bool v;         /* lengths that only two ranks know */
	bool bad;       /* building it failed: no memory */
	int64_t start_ns, deadline_ns, ask_ns, alarm_ns;
	uint64_t ask_cookie;
	bool grace; /* past the deadline, for answers to come */
	/* once it has failed */
	mc_status_t failing;
	uint32_t culprit; /* peer number, or MC_NO_RANK */
	bool tell_all;    /* nobody else has told the others */
	bool handled;
	uint32_t acks_due;
};

/* ---- all collectives of a context ---- */

struct mc_coll_msg { /* as read; early ones are kept with their data */
	struct mc_list node;
	uint64_t sig, seq, check, len, rid, off;
	struct mc_peer *from;
	uint32_t key, root;
	uint8_t type, op;
	uint32_t data_len;
	const uint8_t *data;
	uint8_t kept[];
};

struct mc_coll_group { /* how far this rank is in the groups of that member list */
	struct mc_list node;
	uint64_t sig, started;
	struct mc_list early;   /* struct mc_coll_msg of collectives that have not started here */
	struct mc_list aborted; /* struct mc_coll_abort of such */
	struct mc_boards *boards; /* NULL: not thought of yet */
};

struct mc_coll_abort {
	struct mc_list node;
	uint64_t seq;
	mc_status_t status;
	uint32_t culprit; /* position in the group */
	struct mc_peer *from;
};

struct mc_coll_desc {        /* a peer's region, looked up once */
	struct mc_list node; /* colls->descs, oldest first */
	struct mc_peer *peer;
	uint64_t rid;
	struct mc_rmem *rmem; /* NULL: asked for */
};

struct mc_colls {
	struct mc_ctx *ctx;
	struct mc_list running, ready, free, groups, descs;
	struct mc_coll_group *last;
	uint64_t early_bytes;
	uint32_t aborted_n, desc_n;
	uint32_t seen; /* ctx->coll_seq when members were last looked at */
	bool any_down; /* some peer was lost, or left */
	bool boards_asleep; /* our boards say that we sleep */
	uint64_t board_posts; /* collectives that went over a board rather than by message */
	const struct mc_algo *force[MC_COLL_OPS];
};

/* ---- algorithms (coll_select.c) ---- */

struct mc_algo {
	const char *name;
	enum mc_coll_op op;
	void (*build)(struct mc_coll *c, const struct mc_coll_args *a); /* sets c->bad on failure */
	bool agrees;     /* nobody can be through before everybody is there */
	bool v;          /* takes lengths per rank */
	bool by_message; /* works in memory of its own: bytes go by message whatever their number */
	bool board;      /* not by steps: coll_board.c */
};

extern const struct mc_algo *const mc_algos[]; /* NULL-terminated */
/* Where the members of a group are, as all of them know. */
enum mc_coll_where { MC_COLL_HOSTS, MC_COLL_HOST, MC_COLL_SHARED }; /* SHARED: one host, and they map memory */
enum mc_coll_where mc_coll_where(const struct mc_ctx *ctx, struct mc_peer *const *peer, uint32_t n);
/* Blocks up to that many bytes go in messages. */
uint64_t mc_coll_eager(const struct mc_ctx *ctx, struct mc_peer *const *peer, uint32_t n, enum mc_coll_where where);
/* bytes: of one rank's block (bcast: of all; allgatherv: of the mean block); UINT64_MAX: members do not all know it. */
const struct mc_algo *mc_coll_select(const struct mc_ctx *ctx, enum mc_coll_op op, bool v, uint64_t bytes, uint32_t n,
				     enum mc_coll_where where);
const struct mc_algo *mc_algo_find(enum mc_coll_op op, const char *name, size_t len);
mc_status_t mc_coll_force(struct mc_ctx *ctx, const char *text); /* "bcast:chain,allgather:ring" */

#define MC_ALGO_MAP(X)                                                                                                 \
	X(barrier_dissemination)                                                                                       \
	X(bcast_spread)                                                                                                \
	X(bcast_binomial)                                                                                              \
	X(bcast_direct)                                                                                                \
	X(bcast_chain) X(scatter_direct) X(scatter_binomial) X(gather_direct) X(gather_binomial) X(allgather_direct)   \
		X(allgather_bruck) X(allgather_ring) X(alltoall_direct) X(alltoall_bruck) X(alltoall_pairwise)         \
			X(barrier_board) X(bcast_board) X(scatter_board) X(gather_board) X(allgather_board)            \
				X(alltoall_board)
#define MC_ALGO_DECLARE(name) extern const struct mc_algo mc_algo_##name;
MC_ALGO_MAP(MC_ALGO_DECLARE)
#undef MC_ALGO_DECLARE

/* ---- writing steps down (coll_steps.c); each returns the step's index, MC_NO_STEP when c->bad ---- */

/* A place in the caller's memory, or in the collective's own. */
struct mc_place {
	struct mc_mem *mem;
	uint8_t *addr;
};
struct mc_place mc_place_at(struct mc_buf b, uint64_t off);
struct mc_place mc_place_scratch(struct mc_coll *c, uint64_t len);
uint32_t mc_step_send(struct mc_coll *c, uint32_t rank, uint32_t key, enum mc_step_way long_way, struct mc_place p,
		      uint64_t len, uint32_t after);
uint32_t mc_step_recv(struct mc_coll *c, uint32_t rank, uint32_t key, enum mc_step_way long_way, struct mc_place p,
		      uint64_t len, uint32_t after);
/* Nothing to do where both are the same place: returns after. */
uint32_t mc_step_copy(struct mc_coll *c, struct mc_place to, struct mc_place from, uint64_t len, uint32_t after);
bool mc_steps_reserve(struct mc_coll *c, uint32_t more);
bool mc_scratch_reserve(struct mc_coll *c, uint64_t len); /* all of it, before the first mc_place_scratch() */
void mc_steps_agree(struct mc_coll *c, bool gated);       /* rounds after which everyone has heard of everyone */
bool mc_steps_seal(struct mc_coll *c);                    /* the list is complete */
struct mc_step *mc_step_find(struct mc_coll *c, uint8_t kind, uint32_t rank, uint32_t key);

/* ---- coll.c ---- */
struct mc_coll_group *mc_coll_group(struct mc_ctx *ctx, uint64_t sig, bool make);
struct mc_coll *mc_coll_running(struct mc_ctx *ctx, uint64_t sig, uint64_t seq);
/* waits: the caller will wait for it right away. */
mc_status_t mc_coll_start(struct mc_group *g, const struct mc_coll_args *a, const struct mc_coll_opts *o, bool waits,
			  struct mc_req **req_out);
void mc_coll_end(struct mc_coll *c, mc_status_t s);
mc_status_t mc_coll_range(struct mc_buf b, uint64_t off, uint64_t len);
mc_status_t mc_coll_range_n(struct mc_buf b, uint64_t len, uint32_t n);
mc_status_t mc_coll_range_v(struct mc_buf b, const uint64_t *len, const uint64_t *off, uint32_t n);
mc_status_t mc_coll_finish(mc_status_t s, struct mc_req *req); /* of a blocking form: wait, free */
void mc_coll_ready(struct mc_coll *c);                         /* to be looked at by mc_colls_run() */
void mc_coll_alarm(struct mc_coll *c, int64_t at_ns);

/* ---- coll_p2p.c ---- */
enum mc_coll_type { MC_CT_DATA = 1, MC_CT_READY, MC_CT_OFFER, MC_CT_FIN };
void mc_coll_begin_steps(struct mc_coll *c);
bool mc_coll_run_steps(struct mc_coll *c); /* true: there is more to do at once */
void mc_coll_match(struct mc_coll *c, const struct mc_coll_msg *m);
void mc_coll_relook(struct mc_ctx *ctx, struct mc_peer *p, uint64_t rid, mc_status_t s);

void mc_coll_differ(struct mc_coll *c, const struct mc_coll_msg *m); /* m->from has another op, root or length */
void mc_coll_encode(const struct mc_coll *c, struct mc_wr *w, uint8_t type, uint64_t len, uint64_t rid, uint64_t off,
		    uint32_t key);

/* ---- coll_board.c ---- */
enum { MC_BOARD_BYTES = 16384, MC_BOARD_RANKS = 16 }; /* what one rank may post; members at most */
bool mc_board_wanted(struct mc_group *g);            /* this group could have boards, and nobody has tried */
void mc_board_make(struct mc_group *g);              /* not under the lock */
void mc_board_start(struct mc_coll *c, struct mc_coll_group *g);
void mc_board_match(struct mc_coll *c, const struct mc_coll_msg *m, uint32_t rank);
void mc_board_end(struct mc_coll *c);
void mc_boards_look(struct mc_colls *cs);
bool mc_boards_arm(struct mc_colls *cs);
bool mc_board_told(struct mc_peer *p, uint64_t rid, mc_status_t s, const void *blob, uint32_t len);
void mc_boards_peer_down(struct mc_colls *cs, const struct mc_peer *p);
void mc_boards_free(struct mc_coll_group *g);

/* ---- coll_fail.c ---- */
void mc_coll_fail(struct mc_coll *c, mc_status_t s, uint32_t culprit,
		  bool tell_all);          /* marks; handled by mc_colls_run() */
void mc_coll_fail_step(struct mc_coll *c); /* act on it, and see whether it can end */
void mc_coll_check_members(struct mc_colls *cs);
void mc_coll_timeout(struct mc_coll *c, int64_t now);
const char *mc_coll_op_name(enum mc_coll_op op);

/* ---- coll_desc.c ---- */
struct mc_rmem *mc_desc_get(struct mc_colls *cs, struct mc_peer *p, uint64_t rid,
			    mc_status_t *s_out); /* NULL: AGAIN, or why */
void mc_desc_drop(struct mc_colls *cs, struct mc_peer *p, uint64_t rid);
void mc_desc_drop_peer(struct mc_colls *cs, const struct mc_peer *p);

#endif

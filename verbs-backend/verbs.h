/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs.h - inside of the verbs backend: RDMA through libibverbs, without a library in between.
 *
 * A link joins two instances (two mc_be) and serves both directions; eps stand on it. It has a control channel, one TCP
 * connection, and rails: pairs of ports, each with some queue pairs ("lanes"). A rail is offered, answered, proved by a
 * small RDMA READ, used, and after a failure taken down on both sides before anything that was under way on it is sent
 * again elsewhere; so nothing lands late. Messages are packets with numbers that run over all rails.
 *
 * verbs.c: table, open, close, arm, poll, events; verbs_dev.c: ports; verbs_ctl.c verbs_dial.c: control channel;
 * verbs_link.c: links, eps; verbs_rail.c verbs_rails.c verbs_qp.c verbs_job.c verbs_cm.c: rails; verbs_cq.c:
 * completions; verbs_msg.c verbs_rx.c: messages; verbs_post.c: transfers; verbs_again.c: what a failed rail leaves;
 * verbs_idle.c: more peers than queue pairs; verbs_mem.c: regions; verbs_cg.c: rdma cgroup.
 */
#ifndef MC_VERBS_H
#define MC_VERBS_H

#include <infiniband/verbs.h>
#include <netinet/in.h>

#include "backend.h"
#include "log.h"
#include "util.h"
#include "verbs_pure.h"

enum {
	VB_LANES = VB_RAIL_MAX * VB_QPS_MAX,
	VB_IOV_MAX = 64,
	VB_COPY_MAX = VB_PAYLOAD,
	VB_TXQ_MAX = 32,     /* messages per link that wait for their turn */
	VB_CHAIN_MAX = 64,   /* work requests per doorbell */
	VB_SGE_MAX = 4,      /* pieces of this side per work request */
	VB_INLINE = 128,     /* asked for; a device may give more or less */
	VB_TAKE_MAX = 4096,  /* slices per post call */
	VB_EVENTS_KEEP = 64, /* with so many events waiting, what arrives stays with the device */
	VB_QP_TABLE = 65536,
	VB_QPN_HASH = 256,
	VB_LINKS_MAX = 65536,
	VB_CTLS_MAX = 4096, /* strangers' connections */
};

/* What an epoll event is about: first field of whatever has a descriptor in the set. */
enum vb_fd_kind { VB_FD_LISTEN, VB_FD_CTL, VB_FD_CQ, VB_FD_ASYNC, VB_FD_TIMER, VB_FD_JOB, VB_FD_CM };
struct vb_fd {
	enum vb_fd_kind kind;
	int fd; /* -1: none */
};

/* A receive buffer. */
struct vb_buf {
	struct mc_list node;
	uint8_t *data;
	uint32_t len; /* of what arrived, with its header */
	uint8_t nic;
};

struct vb_nic {
	struct vb_fd cq_fd, async_fd;
	struct mc_be *be;
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_comp_channel *chan;
	struct ibv_cq *cq;
	struct ibv_srq *srq;
	struct ibv_mr *mr;     /* of be->area */
	struct rdma_cm_id *cm; /* iWARP: listens, and owns ctx */
	struct vb_port port;
	uint8_t index, port_num, rd_atom;
	bool up, fatal, armed, gid_why_told;
	uint32_t gid_index, sge_max, read_sge_max, cqe, cq_room, unacked;
	struct vb_buf *buf; /* [be->buffers] */
	struct mc_list by_qpn[VB_QPN_HASH];
	uint64_t qp_n;
};

enum vb_wr_kind { WR_WRITE, WR_READ, WR_DATA, WR_ACK, WR_PROBE, WR_FENCE };

struct vb_piece {
	struct mc_be_mem *mem;
	uint64_t off;
	uint32_t len;
};

/* Further pieces of a work request. */
struct vb_gather {
	struct mc_list node;
	struct vb_piece piece[VB_SGE_MAX - 1];
};

/* A work request under way, with all that is needed to send it again by another rail. */
struct vb_wr {
	struct vb_op *op; /* WRITE, READ; DATA: of the post whose message it is */
	struct vb_tx *tx; /* DATA: message that waits for it; NULL: nobody does */
	struct mc_be_rmem *rmem;
	uint64_t roff; /* WRITE, READ; DATA, ACK: number among the sends of its lane */
	struct vb_piece first;
	struct vb_gather *more;
	uint32_t len;
	uint16_t slot;              /* DATA, ACK, PROBE */
	uint8_t kind, sge_n, tries; /* tries: so often was it the first of what a lane left */
};

/* A queue pair. Positions count work requests; ring[position & (depth - 1)]. */
struct vb_qp {
	struct mc_list hash; /* nic->by_qpn */
	struct ibv_qp *qp;
	struct vb_rail *rail;
	struct vb_nic *nic;
	struct vb_wr *ring;
	uint64_t head, done, bytes; /* bytes: under way */
	uint64_t sent, got;         /* sends posted, packets received */
	uint32_t slot, gen, depth, inline_max, psn, num;
	uint8_t lane;
	struct rdma_cm_id *cm;        /* iWARP */
	struct vb_job *job;           /* iWARP: its call that has not come back */
	bool cm_up, last_wqe, broken; /* broken: a request has failed; whatever ends after it has not been done */
};

enum vb_rail_state {
	RAIL_IDLE,       /* nothing: not tried yet, or taken down on both sides */
	RAIL_CONNECTING, /* its queue pairs are being connected: follower after OFFER, leader after ANSWER */
	RAIL_OFFERED,    /* leader: waits for ANSWER */
	RAIL_WAITING,    /* follower: has answered, waits for READY */
	RAIL_PROBING,
	RAIL_UP,
	RAIL_FAILING, /* its queue pairs are in error, what they still report is collected */
	RAIL_CLOSED,  /* destroyed here; waits for the peer's DOWN */
};

struct vb_rail {
	struct vb_link *link;
	uint8_t index, nic, rnic, qp_n, probes;
	enum vb_rail_state state;
	bool peer_down; /* the peer's DOWN of this generation has come */
	bool down_sent;
	bool tried, at_once; /* at_once: rebuilt without waiting */
	bool ready;          /* iWARP: READY came before the last queue pair was connected */
	bool idle;           /* taken down because not used */
	uint32_t gen, failures;
	struct vb_qp *qp[VB_QPS_MAX];
	struct vb_job *job;
	uint64_t got[VB_QPS_MAX], peer_got[VB_QPS_MAX];
	uint64_t probe_addr;
	uint32_t probe_key;
	int64_t fail_ns, retry_ns, watch_ns; /* watch_ns: iWARP, when to look whether it still answers */
	uint64_t watched[VB_QPS_MAX];
	char why[96];
	struct vb_again *left[VB_QPS_MAX]; /* what was under way, until the peer's DOWN says what of it arrived */
};

/* What a lane had under way when it failed, in order; goes to one other lane. */
struct vb_again {
	struct mc_list node; /* link->again */
	struct vb_qp *to;
	uint32_t n, at;
	struct vb_wr wr[];
};

/* A message to be sent. */
struct vb_tx {
	struct mc_list node; /* link->txq, be->free_tx */
	struct mc_be *be;
	struct mc_be_ep *ep;
	struct mc_list ep_node; /* ep->sends: it reports SENT */
	struct vb_op *op;       /* it goes after the bytes of that post */
	uint8_t kind;           /* VB_PKT_DATA, VB_PKT_GONE */
	uint64_t cookie;
	uint32_t iov_n, total, at, frags; /* at: bytes handed over; frags: packets under way */
	bool whole, copied;               /* whole: all packets are handed over */
	bool snapshot;
	uint32_t epoch;
	uint64_t need[VB_LANES];
	struct iovec iov[VB_IOV_MAX];
	uint8_t *copy; /* [VB_PAYLOAD], allocated with the first use */
};

/* A post under way. */
struct vb_op {
	struct mc_list node;    /* link->ops, be->free_ops */
	struct mc_list ep_node; /* ep->ops */
	struct mc_be_ep *ep;
	struct vb_tx *msg;
	uint64_t cookie;
	uint32_t pending; /* work requests */
	mc_status_t status;
	int32_t native;
	const char *why;
	bool msg_pending;
	bool canceled; /* nobody wants it: it ends as soon as that is proved to be its end */
};

enum vb_link_state { LINK_CONNECTING, LINK_PROVING, LINK_UP, LINK_LEAVING, LINK_DEAD };

struct vb_link {
	struct mc_list node; /* be->links */
	struct mc_list work; /* be->working: has something to send */
	struct mc_list idle; /* be->lru, oldest use first */
	struct mc_be *be;
	enum vb_link_state state;
	uint64_t peer; /* instance */
	struct vb_addr addr;
	bool leader, self, met; /* met: there has been a session */
	bool wanted;            /* a post was refused for want of a rail */
	bool starved;           /* no queue pairs to be had at the last try */
	bool canceling;         /* some of its posts are canceled and under way */
	bool asleep;            /* its rails are down because nobody used them */
	mc_status_t why;        /* of a dead one */
	struct mc_list eps, rmems, ops, txq, again;
	/* control channel */
	struct vb_ctl *ctl, *dial;
	uint32_t dial_at, dial_refused, dial_round;
	int64_t born_ns, dial_ns, deadline_ns, bye_ns, starved_ns; /* starved_ns: since when */
	/* rails */
	uint32_t rail_n, up_n, lane_n, epoch;
	struct vb_rail rail[VB_RAIL_MAX];
	struct vb_qp *lane[VB_LANES];
	/* messages out */
	uint64_t tx_seq, tx_acked;
	uint32_t tx_window, txq_n;
	/* messages in */
	struct vb_win win;
	struct vb_buf *held[VB_WIN_MAX];
	uint64_t rx_taken, rx_told;
	bool told_lost; /* what was told last may not have come */
	uint8_t *msg;   /* being put together */
	uint32_t msg_at, msg_total;
};

struct mc_be_ep {
	struct mc_list node;       /* link->eps, be->loose */
	struct mc_list ops, sends; /* posts and sends that will be reported */
	struct mc_be *be;
	struct vb_link *link; /* NULL: not connected yet */
	uint64_t cookie;
	bool up, down;
};

struct mc_be_mem {
	struct mc_list node;
	uint64_t id, len, piece;
	uint8_t *addr;
	uint32_t piece_n;
	bool exported;
	bool host;          /* a processor may read it: inline sends */
	struct ibv_mr **mr; /* [piece_n * nic_n], index piece * nic_n + nic */
};

struct mc_be_rmem {
	struct mc_list node; /* link->rmems */
	struct vb_link *link;
	uint64_t id, addr, len, piece;
	uint32_t nic_n, piece_n;
	bool stale;
	uint32_t key[];
};

enum vb_ctl_state { CTL_DIALING, CTL_GREETED, CTL_ACCEPTED, CTL_WELCOMED, CTL_OPEN, CTL_DEAD };

/* A connection of the control channel. */
struct vb_ctl {
	struct vb_fd fd;
	struct mc_list node; /* be->ctls */
	struct mc_be *be;
	struct vb_link *link; /* NULL: not known yet */
	enum vb_ctl_state state;
	bool dialed, resume, want_out;
	uint64_t mine[2], theirs[2]; /* nonces */
	uint64_t tx_n, rx_n;
	int64_t deadline_ns;
	uint32_t r_len, w_len;
	uint8_t r[VB_CTL_MAX], w[2 * VB_CTL_MAX];
};

struct vb_event {
	struct mc_be_event ev;
	struct mc_be_ep *ep; /* EP_UP, EP_DOWN: dropped when that is closed first */
	struct vb_buf *buf;
	void *heap;
};

struct vb_stats {
	uint64_t doorbells, wrs, signalled, bytes, packets, acks, again, polls;
};

struct mc_be {
	const struct mc_config *config;
	uint32_t rank, size;
	uint64_t instance;
	struct mc_mac_key key;
	struct vb_addr self;
	uint8_t addr[VB_ADDR_MAX];
	uint32_t addr_len;
	struct vb_plan plan;
	uint32_t nic_n;
	struct vb_nic nic[VB_NIC_MAX];
	/* buffers: [0..8) word that proves read; then receive buffers of each port, then send slots */
	uint8_t *area;
	size_t area_len;
	uint32_t buffers, slot_n;
	uint8_t *slots;
	uint16_t *free_slot; /* stack [slot_free_n] */
	uint32_t slot_free_n;
	/* descriptors */
	int epfd;
	struct vb_fd listener, timer, job_fd, cm_fd;
	struct rdma_event_channel *cm; /* NULL: no iWARP port */
	int64_t timer_ns;
	bool armed, fatal, rails_due, links_due, in_cq, limit_told;
	uint32_t polls;
	struct mc_list links, working, lru, mems, loose, ctls, free_ops, free_tx, free_gather, lent;
	struct mc_list jobs;
	uint32_t links_n, ctls_n;
	struct mc_list dead_ctls;
	struct vb_qp **qp; /* [VB_QP_TABLE], by slot, grown */
	uint32_t *qp_gen;
	uint32_t qp_room;
	uint64_t qps_n, mrs_n; /* registrations of regions per port */
	struct vb_event *evq;  /* ring */
	uint32_t ev_cap, ev_head, ev_n;
	void **lent_heap; /* messages that were put together, freed by the next poll */
	uint32_t lent_heap_n, lent_heap_cap;
	struct mc_ratelimit limit;
	struct vb_stats stats;
	char text[64];
	char why[512]; /* why an object of a port could not be made */
	struct ibv_send_wr wr[VB_CHAIN_MAX];
	struct ibv_sge sge[VB_CHAIN_MAX * VB_SGE_MAX];
};

/* verbs.c */
void mc_vb_event(struct mc_be *be, enum mc_be_kind kind, mc_status_t s, int32_t native, const char *why,
		 uint64_t cookie, struct mc_be_ep *ep);
void mc_vb_event_msg(struct mc_be *be, const void *data, uint32_t len, struct vb_buf *buf, void *heap);
void mc_vb_events_forget(struct mc_be *be, const struct mc_be_ep *ep);
void mc_vb_timer_want(struct mc_be *be, int64_t at_ns);
bool mc_vb_fd_add(struct mc_be *be, struct vb_fd *fd, uint32_t events);
void mc_vb_progress(struct mc_be *be); /* one round without giving events out */

/* verbs_dev.c */
mc_status_t mc_vb_nics_open(struct mc_be *be, const struct mc_be_cfg *cfg, char *why, size_t why_len);
void mc_vb_nics_close(struct mc_be *be);
mc_status_t mc_vb_nic_objects(struct vb_nic *nic); /* PD, CQ, SRQ, buffers */
bool mc_vb_nic_refresh(struct vb_nic *nic);        /* asks the device; true: something changed */
void mc_vb_nic_async(struct vb_nic *nic);
const char *mc_vb_remedy(int err); /* what EAGAIN, ENOMEM mean and what helps, with the doctor's id */

/* verbs_buf.c */
mc_status_t mc_vb_area_open(struct mc_be *be);
void mc_vb_area_close(struct mc_be *be);
bool mc_vb_slot_get(struct mc_be *be, uint16_t *slot_out);
void mc_vb_slot_put(struct mc_be *be, uint16_t slot);
uint8_t *mc_vb_slot(struct mc_be *be, uint16_t slot);
void mc_vb_buf_put(struct mc_be *be, struct vb_buf *buf);
mc_status_t mc_vb_srq_fill(struct vb_nic *nic);
uint64_t mc_vb_probe_word(uint64_t instance);

/* verbs_cg.c */
uint64_t mc_vb_limit_left(const char *dev, const char *key, char *where, size_t where_len);
void mc_vb_budget_again(struct mc_be *be); /* before something new is made */
uint64_t mc_vb_objects_left(const char *dev, char *where, size_t where_len); /* UINT64_MAX: no limit */

/* verbs_ctl.c, verbs_dial.c */
mc_status_t mc_vb_listen(struct mc_be *be);
void mc_vb_ctl_io(struct vb_ctl *ctl, uint32_t events);
void mc_vb_accept(struct mc_be *be);
void mc_vb_ctl_send(struct vb_link *link, struct vb_ctl_msg *m);
void mc_vb_ctl_drop(struct vb_ctl *ctl); /* closes it; the link is told nothing */
void mc_vb_ctls_free(struct mc_be *be);  /* those that were dropped */
struct vb_ctl *mc_vb_ctl_new(struct mc_be *be, int fd, enum vb_ctl_state state);
void mc_vb_ctl_greet(struct vb_ctl *ctl); /* HELLO */
void mc_vb_ctl_lost(struct vb_ctl *ctl, int err);
void mc_vb_dial(struct vb_link *link);
void mc_vb_dial_failed(struct vb_link *link, int err);
void mc_vb_dial_timers(struct vb_link *link, int64_t now);

/* verbs_link.c */
mc_status_t mc_vb_ep_create(struct mc_be *be, uint64_t cookie, void *blob, uint32_t *len, struct mc_be_ep **ep_out);
mc_status_t mc_vb_ep_connect(struct mc_be *be, struct mc_be_ep *ep, const void *peer, uint32_t len, char *text,
			     size_t text_len);
void mc_vb_ep_close(struct mc_be *be, struct mc_be_ep *ep);
struct vb_link *mc_vb_link_find(struct mc_be *be, uint64_t instance);
struct vb_link *mc_vb_link_new(struct mc_be *be, const struct vb_addr *a);
void mc_vb_link_session(struct vb_link *link, bool resumed); /* the control channel is open */
void mc_vb_link_up(struct vb_link *link);
void mc_vb_link_fail(struct vb_link *link, mc_status_t s, int32_t native, const char *text);
void mc_vb_link_trouble(struct vb_link *link);     /* its deadline runs while rails or control channel are missing */
bool mc_vb_link_quiet(const struct vb_link *link); /* nothing to be sent or under way */
void mc_vb_link_settle(struct vb_link *link);      /* a leaving link may be done */
void mc_vb_links_timers(struct mc_be *be, int64_t now);
void mc_vb_links_sweep(struct mc_be *be); /* dead ones that nobody refers to */
void mc_vb_links_close(struct mc_be *be);

/* verbs_rail.c */
void mc_vb_rails_wanted(struct vb_link *link); /* those that are down are tried now */
void mc_vb_rails_start(struct vb_link *link);
void mc_vb_rail_try(struct vb_rail *rail); /* leader: an offer */
void mc_vb_rail_down_send(struct vb_rail *rail);
void mc_vb_rail_qps_free(struct vb_rail *rail);
void mc_vb_lanes_rebuild(struct vb_link *link); /* from the rails that are up */
void mc_vb_rails_try_all(struct vb_link *link);
void mc_vb_rail_watch(struct vb_rail *rail); /* iWARP: something is under way */
void mc_vb_rails_resync(struct vb_link *link);
void mc_vb_rail_msg(struct vb_link *link, const struct vb_ctl_msg *m);
void mc_vb_rail_fail(struct vb_rail *rail, bool at_once, const char *fmt, ...) MC_PRINTF(3, 4);
void mc_vb_rail_proved(struct vb_qp *q);
void mc_vb_rail_connected(struct vb_rail *rail, int err); /* a job has ended */
void mc_vb_rails_run(struct mc_be *be);                   /* failing ones whose time has come */
void mc_vb_rail_timers(struct vb_link *link, int64_t now);
void mc_vb_rails_kill(struct vb_link *link); /* all queue pairs, now */
uint32_t mc_vb_rail_class(const struct vb_rail *r);
bool mc_vb_rail_due(const struct vb_rail *r);
void mc_vb_spares_wanted(struct vb_link *link); /* no rail works */
void mc_vb_rails_of_nic(struct vb_nic *nic, bool up);
const char *mc_vb_rail_name(const struct vb_rail *rail, char *out, size_t len);

/* verbs_idle.c */
void mc_vb_touch(struct vb_link *link); /* it is used */
void mc_vb_idle_join(struct vb_link *link); /* it has queue pairs that others may come to need */
void mc_vb_wake(struct vb_link *link);
void mc_vb_idle_evict(struct mc_be *be, const struct vb_link *wanting); /* another one gives way, if one is idle */

void mc_vb_starved_set(struct vb_link *link);
void mc_vb_starving(struct vb_rail *rail, int err);

/* verbs_qp.c */
/* id: iWARP, the call that it answers; it is used up either way. NULL otherwise. */
mc_status_t mc_vb_qp_new(struct vb_rail *rail, struct rdma_cm_id *id, struct vb_qp **qp_out, int *err_out);
void mc_vb_qp_free(struct vb_qp *q);
void mc_vb_qp_attrs(const struct vb_qp *q, const struct vb_ctl_msg *m, uint32_t i, struct ibv_qp_attr *rtr,
		    struct ibv_qp_attr *rts);
void mc_vb_qp_error(struct vb_qp *q);
struct vb_qp *mc_vb_qp_by_num(struct vb_nic *nic, uint32_t num);

/* What ibv_modify_qp() is told with these. */
#define VB_RTR_MASK                                                                                                    \
	(IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |    \
	 IBV_QP_MIN_RNR_TIMER)
#define VB_RTS_MASK                                                                                                    \
	(IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC)

/* verbs_job.c */
mc_status_t mc_vb_jobs_open(struct mc_be *be);
int mc_vb_job_start(struct vb_rail *rail, const struct vb_ctl_msg *m);
void mc_vb_job_leave(struct vb_rail *rail);
struct rdma_conn_param;
void mc_vb_job_call(struct vb_qp *q, const struct rdma_conn_param *p);
void mc_vb_job_hang_up(struct vb_qp *q);
void mc_vb_jobs_run(struct mc_be *be, bool woken);
void mc_vb_jobs_close(struct mc_be *be);

/* verbs_cm.c: iWARP */
bool mc_vb_cm_address(const char *dev, uint32_t port, uint8_t raw[16], uint8_t *prefix);
int mc_vb_cm_nic_open(struct vb_nic *nic, const char *dev);
void mc_vb_cm_nic_close(struct vb_nic *nic);
bool mc_vb_cm_watch(struct mc_be *be);
void mc_vb_cm_close(struct mc_be *be);
uint16_t mc_vb_cm_port(const struct vb_nic *nic);
int mc_vb_cm_qp_create(struct vb_qp *q, struct ibv_qp_init_attr *a);
void mc_vb_cm_qp_destroy(struct vb_qp *q);
int mc_vb_cm_connect(struct vb_rail *rail, const struct vb_ctl_msg *m);
void mc_vb_cm_run(struct mc_be *be);

/* verbs_cq.c */
uint32_t mc_vb_cq_run(struct vb_nic *nic, uint32_t max); /* completions handled */
void mc_vb_wr_end(struct mc_be *be, struct vb_wr *wr, mc_status_t s);

/* verbs_lane.c: chains */
struct vb_chain {
	struct vb_qp *q;
	uint32_t n, sge_n;
};
uint32_t mc_vb_room(const struct vb_qp *q);
struct vb_qp *mc_vb_lane_pick(struct vb_link *link); /* NULL: none has room */
void mc_vb_chain_start(struct vb_chain *c, struct vb_qp *q);
bool mc_vb_chain_add(struct vb_chain *c, const struct vb_wr *wr); /* false: full */
bool mc_vb_chain_full(const struct vb_chain *c);
void mc_vb_chain_post(struct vb_chain *c);

/* verbs_msg.c, verbs_rx.c */
mc_status_t mc_vb_send(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, uint32_t flags,
		       uint64_t cookie);
void mc_vb_gone_send(struct vb_link *link, uint64_t region); /* a region of ours is freed */
struct vb_tx *mc_vb_tx_queue(struct vb_link *link, const void *p, uint32_t len, struct vb_op *op);
void mc_vb_tx_frag_done(struct vb_tx *tx, mc_status_t s);
void mc_vb_tx_drop(struct vb_link *link, struct vb_tx *tx); /* not begun */
void mc_vb_txs_fail(struct vb_link *link, mc_status_t s);
void mc_vb_msg_run(struct vb_link *link); /* what waits for its turn */
void mc_vb_work(struct vb_link *link);    /* poll shall look at it */
void mc_vb_rx(struct vb_qp *q, struct vb_buf *buf);
void mc_vb_rx_free(struct vb_link *link);
void mc_vb_tx_free_all(struct mc_be *be);

/* verbs_post.c, verbs_again.c */
mc_status_t mc_vb_post(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out);
void mc_vb_op_check(struct vb_op *op); /* it may have ended */
void mc_vb_cancel(struct mc_be *be, struct mc_be_ep *ep, uint64_t cookie);
void mc_vb_ops_fail(struct vb_link *link, mc_status_t s);
bool mc_vb_again_take(struct vb_qp *q, struct vb_again **out); /* what it has under way; false: no memory */
void mc_vb_again_add(struct vb_link *link, struct vb_again *a, uint64_t got);
void mc_vb_again_run(struct vb_link *link);
void mc_vb_again_prune(struct vb_link *link); /* of canceled posts */
void mc_vb_again_free(struct mc_be *be, struct vb_again *a, mc_status_t s);

/* verbs_mem.c */
mc_status_t mc_vb_mem_reg(struct mc_be *be, const struct mc_be_region *r, struct mc_be_mem **mem_out);
void mc_vb_mem_dereg(struct mc_be *be, struct mc_be_mem *mem);
mc_status_t mc_vb_mem_export(struct mc_be *be, struct mc_be_mem *mem, void *blob, uint32_t *len);
mc_status_t mc_vb_rmem_import(struct mc_be *be, struct mc_be_ep *ep, const void *blob, uint32_t len,
			      struct mc_be_rmem **rmem_out);
void mc_vb_rmem_drop(struct mc_be *be, struct mc_be_rmem *rmem);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backend.h - the contract between the engine and a network. Declarations only.
 *
 * Every slot: one thread at a time per mc_be; returns within about 1 ms; never calls up into the engine; writes *_out
 * only on MC_OK; lengths in bytes. Whatever a peer sent (addresses, exported blobs) may be hostile: any bytes give a
 * status.
 *
 * Promises, each a test in tests/contract:
 *  (a) post and send take what they can: post accepts a prefix of the slices (*taken < n: again after the next poll,
 *      with the rest); send takes a message whole or returns MC_ERR_AGAIN. Neither fails for lack of room.
 *  (b) every post call that took at least one slice gives exactly one DONE, for just the slices that it took; DONE of a
 *      write means that the far side's memory has the bytes, visible to its CPU; DONE of a read that they are here. A
 *      post with n = 0 and no msg is MC_ERR_INVAL; with n = 0 and a msg it is an ordered message and gives a DONE.
 *  (c) of a dying or closing peer all DONE and SENT come before its one EP_DOWN; nothing of that ep afterwards.
 *      Messages that the peer completely sent before it ended gracefully (process exit after DONE/SENT) are delivered
 *      before EP_DOWN.
 *  (d) messages to one ep arrive whole, once, in order; a message sent after the DONE of a write arrives after its
 *      bytes. With MC_CAP_POST_MSG the message attached to a post arrives after the bytes of all that was posted to
 *      that ep before; it goes out only with a call that took all n slices.
 *  (e) any blob, even hostile, gives a status.
 *  (f) no allocation, lock or system call per slice in post and poll once warm.
 *  (g) same results as loop.c.
 *      After a refusal the caller polls and tries again before it sleeps; a refused post with n = 0 is MC_ERR_AGAIN.
 *  (h) after arm returned MC_OK, the event fd becomes readable no later than anything that poll would report, and when
 *      a refused send or post may be tried again; nothing that only time would bring is needed for progress. A send or
 *      post after arm needs a new poll and arm.
 *  (i) a post that ends in an error delivers no attached message.
 */
#ifndef MC_BACKEND_H
#define MC_BACKEND_H

#include <stdbool.h>
#include <sys/uio.h>

#include "config.h"
#include "mc.h"

struct mc_be; /* each plug-in defines its own */
struct mc_be_mem;
struct mc_be_rmem;
struct mc_be_ep;

enum { MC_BE_ABI = 1 };

enum mc_cap {
	MC_CAP_RMA = 1,       /* post works; without it the engine packs slices into messages */
	MC_CAP_POST_MSG = 2,  /* post can carry a message that arrives after the bytes */
	MC_CAP_SAME_ADDR = 4, /* one published address serves every peer; ep_create gives no blob of its own */
	MC_CAP_PRIVATE = 8,   /* the kernel keeps outsiders off the channel: frames need no crc and mac */
	MC_CAP_CUDA = 16,
	MC_CAP_DMABUF = 32,
	/*
	 * A path is known to work only at EP_UP: the engine holds sends, posts and imports until then. EP_DOWN before
	 * EP_UP means: not this way, try the next backend for this peer; its why says what was in the way. One of the
	 * two comes within a bounded time. After EP_UP the promises above hold as for any other backend.
	 */
	MC_CAP_PROVE = 64,
	MC_CAP_QUIET = 128,   /* while nobody has armed, the event fd stays silent when data arrive */
};

/* Transports that the settings allow, a mask. */
enum mc_tp { MC_TP_SHM = 1, MC_TP_TCP = 2, MC_TP_RDMA = 4 };

/*
 * A NIC of this host that the process may use: a port of an OpenFabrics device, or a network interface. Plain data,
 * which the engine makes from topo.h. What is down, has no address or was excluded by MC_DEVICE is not in the list.
 */
enum { MC_BE_NIC_MAX = 64, MC_BE_NODE_MAX = 64 };
enum mc_be_link { MC_BE_LINK_UNKNOWN, MC_BE_LINK_INFINIBAND, MC_BE_LINK_ETHERNET }; /* wire format */

struct mc_be_nic {
	char name[64];      /* "mlx5_0", "eth0" */
	uint32_t port;      /* from 1; 0: a network interface */
	uint32_t link;      /* enum mc_be_link; ports of different link layers cannot talk to each other */
	uint32_t rate_mbps; /* 0: not known */
	uint32_t rail;      /* number among the ports of its make: equal rails of two hosts reach each other best */
	int32_t numa;       /* the system's number of its NUMA node; -1: several, or not known */
	bool use;           /* for memory where this rank runs stripe over these; the others are spares */
	bool apart;         /* a spare in a network of its own: for a library that cannot turn to it later */
	uint8_t score[MC_BE_NODE_MAX]; /* for memory on the system's node i: 100 best, 0: not known */
	uint8_t gid[16];               /* of a port: the one to use; all zero: none fits */
	uint32_t gid_index;
	char netdev[64];  /* interface that carries the port's addresses; "": not told */
	char reason[160]; /* of its place in the list, for people */
};

struct mc_be_cfg {
	uint32_t transports;            /* enum mc_tp */
	const struct mc_config *config; /* outlives the mc_be */
	struct mc_hub *hub;             /* loop only */
	uint32_t rank, size;            /* of the job, for sizing and log lines */
	/*
	 * The one call up, from inside poll, for a backend that would have to copy a message to keep it until poll
	 * returns: head is the first iovec of its send, the rest is still where the network put it. In order with the
	 * other messages of that ep, right before its event is queued. true: the rest was taken to its place; the event
	 * gets the head alone and `placed`. It calls nothing of the backend. NULL: not wanted.
	 */
	bool (*bulk)(void *arg, const void *head, uint32_t head_len, const void *rest, uint32_t rest_len);
	void *bulk_arg;
	const struct mc_be_nic *nic; /* [nic_n] ports, best first, then interfaces, best first; outlives the mc_be */
	uint32_t nic_n;
	bool nic_chosen; /* false: nobody looked (nic_n is 0), use what there is */
	bool nic_named;  /* the user named them (MC_DEVICE): these and no others, not even loopback */
	bool nic_narrow; /* there are others that would work, but are not to be used: tell the library which to use */
};

struct mc_be_caps {
	uint32_t flags;     /* enum mc_cap */
	uint32_t addr_len;  /* published address, at most 4096 bytes */
	const void *addr;   /* borrowed until close */
	uint32_t msg_max; /* longest message, bytes; at least 4096. All backends of a job best have the same msg_max and
			     iov_max: packed messages are cut by the smallest that is open on the rank that asks */
	uint32_t copy_max;  /* longest message that send takes by copy (MC_SEND_COPY); at least 256 */
	uint32_t iov_max;   /* iovecs per send; at least 4 */
	uint32_t blob_max;  /* largest mem_export */
	uint32_t ep_blob_max; /* largest ep_create blob; 0 with SAME_ADDR */
	int event_fd;       /* epoll-able; owned by the backend */
	char text[64];      /* "tcp (eth0)", for people */
};

/* Memory of this process; of a peer only through rmem. */
struct mc_be_region {
	void *addr;
	uint64_t len;
	uint32_t kind;   /* enum mc_mem_kind */
	int32_t fd;      /* memfd behind pool memory (fd_off its start), dma-buf, or -1 */
	uint64_t fd_off;
	uint64_t id;     /* engine's number of the region, unique in this process, never reused */
};

struct mc_be_slice {
	struct mc_be_mem *mem;
	uint64_t off;
	struct mc_be_rmem *rmem;
	uint64_t roff, len;
};

enum mc_be_op { MC_BE_WRITE = 1, MC_BE_READ = 2 };

struct mc_be_post {
	uint32_t op;                     /* enum mc_be_op */
	uint32_t n;
	const struct mc_be_slice *slice; /* [n]; read before return only */
	uint64_t cookie;                 /* comes back in the one DONE */
	const void *msg; /* MC_CAP_POST_MSG, WRITE: framed message, [msg_len] <= copy_max, copied; NULL: none */
	uint32_t msg_len;
	/*
	 * Not 0: a prepared list, and how many bytes it has. The slices were checked against their regions, and slice[]
	 * stays as it is until DONE: a backend that takes them all need not check or copy.
	 */
	uint64_t prepared;
};

enum mc_send_flags {
	MC_SEND_COPY = 1, /* total <= copy_max: copied before return, no SENT event */
};

enum mc_be_kind {
	MC_EV_DONE = 1, /* a post ended; cookie of the post */
	MC_EV_SENT,     /* a message left: its buffers may be reused; cookie of the send */
	MC_EV_MSG,      /* a message arrived; data, len; valid until the next poll or close */
	MC_EV_EP_UP,    /* cookie of the ep; sends and posts may be made (they may be made before, too, and wait) */
	MC_EV_EP_DOWN,  /* cookie of the ep; status says why; only ep_close is allowed from here */
	MC_EV_FATAL,    /* the backend is lost */
};

struct mc_be_event {
	enum mc_be_kind kind;
	mc_status_t status;
	uint64_t cookie;
	const void *data; /* MSG: aligned to 8 bytes */
	uint32_t len;
	uint32_t placed;  /* MSG: bytes behind data that mc_be_cfg.bulk took */
	int32_t native;   /* errno or library code behind status, 0: none */
	const char *why;  /* library's text for native; static; NULL: none */
};

struct mc_be_ops {
	uint32_t abi, size; /* MC_BE_ABI, sizeof(struct mc_be_ops) */
	const char *name;   /* "ucx" */
	uint32_t transports; /* enum mc_tp that it can serve; NICs are looked for only where that is TCP or RDMA */
	/*
	 * MC_ERR_UNSUPPORTED: nothing here to work with (said in why[why_len], not logged). caps stay true until close.
	 */
	mc_status_t (*open)(const struct mc_be_cfg *cfg, struct mc_be **be_out, struct mc_be_caps *caps_out, char *why,
			    size_t why_len);
	void (*close)(struct mc_be *be); /* closes leftover eps and mems too; no events; ends within 1 s */
	mc_status_t (*arm)(struct mc_be *be); /* MC_OK: may sleep on event_fd; MC_ERR_AGAIN: poll again first */

	mc_status_t (*mem_reg)(struct mc_be *be, const struct mc_be_region *r, struct mc_be_mem **mem_out);
	void (*mem_dereg)(struct mc_be *be, struct mc_be_mem *mem); /* the engine has drained it first */
	mc_status_t (*mem_export)(struct mc_be *be, struct mc_be_mem *mem, void *blob,
				  uint32_t *len); /* in room, out used */
	/* MC_ERR_UNSUPPORTED: this memory cannot be reached one-sided from here (the engine packs). */
	mc_status_t (*rmem_import)(struct mc_be *be, struct mc_be_ep *ep, const void *blob, uint32_t len,
				   struct mc_be_rmem **rmem_out);
	void (*rmem_drop)(struct mc_be *be, struct mc_be_rmem *rmem); /* not while a post uses it */
	/*
	 * Where byte 0 of that memory lies in this process, for plain loads and stores, until rmem_drop; NULL: it is
	 * not mapped here. Also after the peer is gone no access faults. The slot may be NULL: it maps nothing.
	 */
	void *(*rmem_map)(struct mc_be *be, struct mc_be_rmem *rmem);

	/* cookie (no rank, only a number) comes back in EP_UP and EP_DOWN. blob: what the peer's ep_connect needs
	 * (nothing with SAME_ADDR). */
	mc_status_t (*ep_create)(struct mc_be *be, uint64_t cookie, void *blob, uint32_t *len,
				 struct mc_be_ep **ep_out);
	/*
	 * MC_ERR_PEER_DOWN: it is gone already.
	 * peer: the peer's published address (SAME_ADDR) or its ep blob. MC_ERR_UNSUPPORTED: not reachable this way
	 * (another host, say; the engine tries the next backend); text (may be NULL) gets how bytes will travel, or why
	 * not.
	 */
	mc_status_t (*ep_connect)(struct mc_be *be, struct mc_be_ep *ep, const void *peer, uint32_t len, char *text,
				  size_t text_len);
	/* At once; all its DONE and SENT (MC_ERR_CANCELED) are reported by later polls, no EP_DOWN. In-flight messages
	 * that were SENT still go out if the network allows. */
	void (*ep_close)(struct mc_be *be, struct mc_be_ep *ep);

	/* MC_ERR_AGAIN: no room now; MC_ERR_PEER_DOWN. Without MC_SEND_COPY the buffers stay untouched until SENT. */
	mc_status_t (*send)(struct mc_be *be, struct mc_be_ep *ep, const struct iovec *iov, uint32_t n, uint32_t flags,
			    uint64_t cookie);
	/* MC_ERR_STALE: the peer freed the region; MC_ERR_PEER_DOWN. */
	mc_status_t (*post)(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out);
	uint32_t (*poll)(struct mc_be *be, struct mc_be_event *ev, uint32_t max); /* makes progress; number of events */
	/*
	 * Nobody wants the posts with that cookie any more (deadline, cancel). Each still gives its one DONE; with
	 * MC_ERR_CANCELED as soon as nothing of it can land any more and its message cannot arrive, which where a path
	 * has failed may be long before that is settled otherwise. What is under way on a working path just ends. Needs
	 * a new poll and arm. The slot may be NULL: posts end by themselves, or with the ep.
	 */
	void (*cancel)(struct mc_be *be, struct mc_be_ep *ep, uint64_t cookie);
	/*
	 * A small write that is over when the call returns: one slice of at least one byte, then the message (NULL:
	 * none; msg_len <= copy_max), in their order among the posts and messages of that ep. MC_OK: as if DONE had
	 * come, and none comes; unlike post it needs no new poll or arm. MC_ERR_AGAIN, whatever the reason: nothing
	 * was done, use post. The slot may be NULL: never.
	 */
	mc_status_t (*put_now)(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_slice *slice, const void *msg,
			       uint32_t msg_len);
};

/* builtin.c: the only file that names plug-ins. NULL-terminated, best first for "auto". */
extern const struct mc_be_ops *const mc_builtin_backends[];

#endif

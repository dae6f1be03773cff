/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_pure.h - the parts of the verbs backend that touch no device: choices, arithmetic, and bytes from peers. Tested
 * and fuzzed without RDMA.
 */
#ifndef MC_VERBS_PURE_H
#define MC_VERBS_PURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mc.h"
#include "wire.h"

enum {
	VB_NO_RAIL = 0xffff,
	VB_NIC_MAX = 8,   /* ports used by one process */
	VB_RAIL_MAX = 8,  /* pairs of ports between two processes */
	VB_QPS_MAX = 4,   /* queue pairs per rail */
	VB_IP_MAX = 8,    /* addresses of the control listener */
	VB_NAME_MAX = 40, /* "mlx5_0:1" */
	VB_ADDR_MAX = 1024,
	VB_CTL_MAX = 1536,                    /* a control message */
	VB_CTL_HEAD = 5,                      /* u32 length, u8 kind; the length counts what follows it */
	VB_WIN_MAX = 128,                     /* packets under way per link and direction */
	VB_HDR_LEN = 24,                      /* of a packet */
	VB_PAYLOAD = 8192,                    /* of a packet */
	VB_MSG_MAX = (8 << 20) + (128 << 10), /* as UCX: packed messages are cut by the smallest of a rank */
	VB_PIECES_MAX = 64,                   /* registrations per region */
	VB_BLOB_MAX = 52 + VB_PIECES_MAX * VB_NIC_MAX * 4,
};

/* ---- ports and the choice of a GID: verbs_gid.c ------------------------------------------------------------------ */

enum vb_layer { VB_IB = 1, VB_ROCE = 2, VB_IWARP = 3 };

/* One port, as its owner describes it. */
struct vb_port {
	char name[VB_NAME_MAX];
	uint8_t layer;  /* enum vb_layer */
	bool spare;     /* used when no other pair of ports works */
	uint8_t mtu;    /* enum ibv_mtu: 1 is 256 bytes, 5 is 4096 */
	uint8_t prefix; /* leading bits of gid that name the subnet */
	uint8_t gid[16];
	uint16_t lid;
	uint32_t rate; /* Mbit/s */
	uint16_t rail; /* equal rails of two hosts reach each other best; VB_NO_RAIL: not known */
};

enum vb_gid_type { VB_GID_IB = 0, VB_GID_ROCE1 = 1, VB_GID_ROCE2 = 2 };

struct vb_gid {
	uint32_t index;
	uint8_t raw[16];
	uint8_t type; /* enum vb_gid_type */
};

/* Position in g of the entry to use, UINT32_MAX: none. want: an index that the user asks for, UINT32_MAX: by rule. */
uint32_t mc_vb_gid_choose(const struct vb_gid *g, uint32_t n, uint32_t want, const char **why_out);
bool mc_vb_gid_is_ipv4(const uint8_t raw[16]);
/* "10.0.0.1" or "fe80:0000:..." */
void mc_vb_gid_text(const uint8_t raw[16], char *out, size_t len);
bool mc_vb_same_subnet(const struct vb_port *a, const struct vb_port *b);

/* ---- who pairs with whom, how much of everything: verbs_plan.c ---- */

struct vb_pair {
	uint8_t here, there; /* positions in the lists of ports */
};
/* Each port of the longer side once; ports of one subnet first; kinds of link never mixed. Returns how many pairs. */
uint32_t mc_vb_pairs(const struct vb_port *here, uint32_t here_n, const struct vb_port *there, uint32_t there_n,
		     struct vb_pair out[VB_RAIL_MAX]);

struct vb_want {
	uint32_t peers; /* other processes of the job */
	uint32_t nics;
	uint32_t qps;     /* wanted per rail */
	uint32_t buffers; /* wanted receive buffers per port */
	uint32_t depth;   /* wanted work requests per queue pair */
	uint32_t max_cqe; /* smallest of the devices */
	uint64_t objects; /* of this process per device within the rdma cgroup, UINT64_MAX: no limit */
};
struct vb_plan {
	uint32_t qps, window, depth, cqe;
	uint64_t qp_budget; /* queue pairs that may exist per port at a time, UINT64_MAX: any number */
	uint64_t mr_budget; /* registrations of regions per port */
	uint64_t objects;   /* both together */
	bool reduced, hopeless;
};
enum { VB_OBJECTS_NIC = 4 }; /* PD, CQ, SRQ and the MR of the buffers */
void mc_vb_plan(const struct vb_want *want, struct vb_plan *out);
/* Again, for another number of objects: what concerns queue pairs and registrations (peers, qps, objects of want). */
void mc_vb_budget(const struct vb_want *want, struct vb_plan *out);
/* Of a limit, when so many are in use, this process having some of them, and so many processes share it. */
uint64_t mc_vb_share(uint64_t max, uint64_t used, uint64_t mine, uint64_t sharers);

/* How a region is cut into registrations: bytes per piece (a power of two pages, or the whole). */
uint64_t mc_vb_piece_len(uint64_t len, uint64_t wanted);

/* The lane with the fewest bytes under way that has room; UINT32_MAX: none. */
struct vb_load {
	uint64_t bytes;
	uint32_t room;
};
uint32_t mc_vb_lightest(const struct vb_load *load, uint32_t n);

/* ---- numbers of packets: verbs_seq.c ---- */

struct vb_win {
	uint64_t next; /* the first number that has not come */
	uint64_t have[VB_WIN_MAX / 64];
};
enum vb_win_result { VB_WIN_NEW, VB_WIN_AGAIN, VB_WIN_BAD };
enum vb_win_result mc_vb_win_put(struct vb_win *w, uint64_t seq);
/* Has the packet `next` come? Then it is taken out and *seq_out is its number. */
bool mc_vb_win_take(struct vb_win *w, uint64_t *seq_out);

/* ---- what peers say: verbs_wire.c ---- */

struct vb_ip {
	uint8_t raw[16]; /* IPv4 as ::ffff:a.b.c.d */
};
struct vb_addr {
	uint64_t instance, host;
	uint32_t rank;
	uint16_t port; /* of the control listener */
	uint32_t ip_n, nic_n;
	struct vb_ip ip[VB_IP_MAX];
	struct vb_port nic[VB_NIC_MAX];
};
uint32_t mc_vb_addr_make(const struct vb_addr *a, uint8_t out[VB_ADDR_MAX]); /* its length */
mc_status_t mc_vb_addr_parse(const void *p, size_t len, struct vb_addr *out);

/* Packets over the rails. */
enum vb_pkt_kind {
	VB_PKT_DATA = 1,
	VB_PKT_ACK = 2,
	VB_PKT_NOP = 3,
	VB_PKT_GONE = 4
}; /* NOP: a number whose message does not come */
enum { VB_PKT_FIRST = 1, VB_PKT_LAST = 2 };
struct vb_pkt {
	uint8_t kind, flags;
	uint32_t total; /* of the message, with FIRST */
	uint64_t seq;   /* DATA */
	uint64_t ack;   /* packets of the other direction that were taken out of their buffers */
};
void mc_vb_pkt_make(const struct vb_pkt *p, uint8_t out[VB_HDR_LEN]);
mc_status_t mc_vb_pkt_parse(const void *p, size_t len, struct vb_pkt *out);

/* A region as its owner exports it. */
struct vb_blob {
	uint64_t instance, id, addr, len, piece;
	uint32_t nic_n, piece_n;
	uint32_t key[VB_PIECES_MAX * VB_NIC_MAX]; /* [piece * nic_n + nic] */
};
uint32_t mc_vb_blob_len(uint32_t nic_n, uint32_t piece_n);
void mc_vb_blob_make(const struct vb_blob *b, uint8_t *out); /* mc_vb_blob_len() bytes */
mc_status_t mc_vb_blob_parse(const void *p, size_t len, struct vb_blob *out);

/* Control messages. Numbers are wire format. */
enum vb_ctl_kind {
	VB_HELLO = 1, /* who calls whom */
	VB_WELCOME,   /* the answer */
	VB_CONFIRM,   /* the caller has understood: the session begins */
	VB_OFFER,     /* leader: my queue pairs of this rail */
	VB_ANSWER,    /* mine, ready to receive; or why not */
	VB_READY,     /* leader: ready as well; prove the way */
	VB_DOWN,      /* my queue pairs of that rail are dead, and so much had come through them */
	VB_HINT,      /* a port of mine has come up: try again now */
	VB_BYE,       /* I leave */
};
/* Nothing is wrong, it was not used; is it wanted again meanwhile? */
enum vb_down { VB_DOWN_IDLE = 1, VB_DOWN_WANTED = 2 };
struct vb_ctl_msg {
	uint8_t kind;
	/* HELLO, WELCOME */
	uint64_t src, dst, nonce[2];
	uint8_t resume;
	uint32_t window;
	const uint8_t *addr; /* HELLO: of the caller; borrowed */
	uint32_t addr_len;
	/* OFFER, ANSWER, READY, DOWN */
	uint8_t rail, here, there; /* ports of the sender, of the receiver */
	uint8_t mtu, qp_n;
	uint32_t gen;
	int32_t status; /* ANSWER: 0, or an errno */
	uint16_t lid;
	uint8_t gid[16];
	uint32_t rkey, qpn[VB_QPS_MAX], psn[VB_QPS_MAX];
	uint64_t probe;
	uint64_t got[VB_QPS_MAX]; /* DOWN */
	uint8_t idle;             /* DOWN: enum vb_down */
	uint16_t port;            /* OFFER, ANSWER over iWARP: where rdma_cm listens; 0: none */
};
/* Without the mac. 0: does not fit. */
uint32_t mc_vb_ctl_make(const struct vb_ctl_msg *m, uint8_t *out, uint32_t room);
/* body: what follows the length, without the mac. */
mc_status_t mc_vb_ctl_parse(const void *body, size_t len, struct vb_ctl_msg *out);

#endif

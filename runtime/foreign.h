/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * foreign.h - peers of other jobs: how the engine hears of them (bridge.h), numbers them, and tells the program. All of
 * it hangs off struct mc_foreign, which exists only with a directory (MC_ETCD); under ctx->lock unless it says "atomic"
 * or "constant".
 */
#ifndef MC_FOREIGN_H
#define MC_FOREIGN_H

#include "bridge.h"
#include "internal.h"

enum {
	MC_FOREIGN_CHUNK = 256,  /* peers per chunk of the table */
	MC_FOREIGN_CHUNKS = 256, /* 65,536 peers of other jobs in a context's life */
	MC_FOREIGN_HASH = 1024,
	MC_FOREIGN_RANK_MAX = 1 << 20,
};

struct mc_cluster_key {
	struct mc_list node;
	struct mc_mac_key key;
};

/* A chunk's places: written once each chunk is there, read without the lock. */
struct mc_foreign_chunk {
	_Atomic(struct mc_peer *) peer[MC_FOREIGN_CHUNK];
};

struct mc_foreign {
	struct mc_ctx *ctx;
	const struct mc_bridge_ops *ops; /* constant */
	struct mc_bridge *bridge;        /* NULL: closed */
	int fd;                          /* constant */
	struct mc_list keys;             /* struct mc_cluster_key: peers may have been met under an earlier one */
	const struct mc_mac_key *key;    /* the latest; NULL: not known yet */
	mc_status_t dir;                 /* MC_OK: what is listed is what the directory has; MC_IN_PROGRESS: not yet */
	uint32_t n;                      /* numbers given */
	_Atomic(struct mc_foreign_chunk *) chunk[MC_FOREIGN_CHUNKS];
	struct mc_peer *by_name[MC_FOREIGN_HASH];  /* job's name and rank: chains of next_name */
	struct mc_peer *by_frame[MC_FOREIGN_HASH]; /* job's number and rank: chains of next_frame */

	/* watch.c */
	struct mc_list watches, events; /* struct mc_watch, struct watch_event in the order in which they happened */
	struct mc_watch *calling;       /* whose function runs now */
	pthread_t caller;               /* the thread that runs it */
	pthread_cond_t cond;            /* with ctx->lock: an event, or the end of a call */
	pthread_t thread;
	bool thread_on, stop;
};

/* foreign.c */
mc_status_t mc_foreign_open(struct mc_ctx *ctx); /* MC_OK also without a directory: ctx->foreign stays NULL */
void mc_foreign_close(struct mc_ctx *ctx);       /* leave the directory; not under the lock */
void mc_foreign_free(struct mc_ctx *ctx);        /* after the peers */
void mc_foreign_poll(struct mc_ctx *ctx);        /* what the directory has to say */
void mc_foreign_enter(struct mc_peer *p, struct mc_peer *old); /* p->id is set; old: the one it replaces, or NULL */
/* n, new and in no table, is what an authenticated record says; see mc_peer_meet(). NULL also: no more numbers. */
struct mc_peer *mc_foreign_meet(struct mc_foreign *f, struct mc_peer *n, bool sure);
/* Under which key a frame that says that it is from there must be; NULL: from nobody we know. */
const struct mc_mac_key *mc_foreign_key(const struct mc_ctx *ctx, const struct mc_frame *frame);
struct mc_peer *mc_foreign_sender(const struct mc_ctx *ctx, uint64_t job, uint32_t rank);
void mc_foreign_lost(struct mc_peer *p); /* its link is lost */
void mc_foreign_list(struct mc_peer *p); /* found by others, if the directory has it and it is not lost */
/* Frames of that job and rank go to p from now on, before others; and no more. */
void mc_foreign_hear(struct mc_peer *p);
void mc_foreign_deaf(struct mc_peer *p);

/* find.c */
bool mc_peer_there(const struct mc_peer *p); /* in the directory, and not known to be lost */
/* What a program asks for; NULL: any. */
bool mc_peer_fits(const struct mc_peer *p, const char *role, const char *job_pattern);

/* watch.c */
void mc_watch_tell(struct mc_peer *p, mc_status_t s); /* p came (MC_OK) or is gone */
void mc_watches_stop(struct mc_foreign *f);           /* not under the lock */
void mc_watches_free(struct mc_foreign *f);
void mc_watches_call(struct mc_foreign *f); /* not under the lock: call what waits, unless another does */

#endif

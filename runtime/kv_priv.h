/* SPDX-License-Identifier: BSD-3-Clause */
/* kv_priv.h - KV pools and reshards inside the engine. */
#ifndef MC_KV_PRIV_H
#define MC_KV_PRIV_H

#include "internal.h"
#include "kv.h"

struct mc_kv_pool {
	struct mc_ctx *ctx;
	struct mc_list node; /* ctx->pools */
	char name[MC_NAME_MAX];
	struct mc_kv_layout layout; /* constant */
	uint32_t users;             /* reshards that are open */
	uint32_t base_n;
	struct mc_buf base[];
};

struct mc_kv_ask { /* a question of a reshard that is being opened */
	struct mc_lookup k;
	struct mc_reshard *rs;
	struct mc_kv_rpool *pool; /* whose region it is about; NULL: it is about the pool */
	bool due;                 /* asked, not answered yet */
};

struct mc_kv_base {
	uint64_t id, off;
	struct mc_rmem *rmem; /* NULL until imported */
	uint32_t twin;        /* an earlier base in the same region, whose rmem it is; else itself */
	struct mc_kv_ask ask;
};

struct mc_kv_rpool { /* a peer's pool */
	struct mc_peer *peer;
	struct mc_kv_layout layout;
	bool imported;
	uint32_t asked_n; /* bases whose regions were asked for, or need not be */
	uint32_t told_n;  /* and are there */
	uint32_t base_n;
	struct mc_kv_base base[];
};

struct mc_kv_far { /* a member of a group */
	struct mc_peer *peer;
	int side;
	struct mc_kv_rpool *pool; /* NULL: of this rank itself, or not known yet */
	struct mc_kv_ask ask;
};

enum { MC_KV_SRC = 0, MC_KV_DST = 1 };

struct mc_reshard {
	struct mc_ctx *ctx;
	struct mc_list node; /* ctx->reshards; ctx->openings between two calls */
	struct mc_kv_plan *plan;
	struct mc_kv_pool *own[2]; /* as a source, as a target; NULL: not a member */
	uint32_t self[2];          /* own position in the two groups, or MC_NO_RANK */
	uint32_t n[2];
	struct mc_kv_far *far[2];  /* [n[side]] */
	/* while it is being opened */
	char name[2][MC_NAME_MAX];
	_Atomic(uint32_t) seq;     /* futex word: an answer has come */
	uint32_t seen;             /* what was looked at of it */
	uint32_t due_n;            /* answers */
	mc_status_t status;        /* of the first question that failed */
	int64_t asked_ns;          /* when the members were asked for their pools */
	int64_t left_ns;           /* when the last call ran out of time */
};

struct mc_kv_pool *mc_kv_pool_find(struct mc_ctx *ctx, const char *name); /* under the lock */
void mc_kv_pools_free(struct mc_ctx *ctx);
void mc_reshards_free(struct mc_ctx *ctx);
void mc_reshard_destroy(struct mc_reshard *rs);
/* What calls of mc_reshard_open() that ran out of time have left, if it is over this pool; NULL: all of it. */
void mc_openings_drop(struct mc_ctx *ctx, const struct mc_kv_pool *pool);
mc_status_t mc_kv_rpool_parse(const void *blob, uint32_t len, struct mc_kv_rpool **out);
/* Its regions are there: the bases that share them, and whether the layout lies inside. */
mc_status_t mc_kv_rpool_settle(struct mc_kv_rpool *p);
void mc_kv_rpool_free(struct mc_kv_rpool *p);

#endif

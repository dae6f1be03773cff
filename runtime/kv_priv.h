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
	uint32_t users;             /* reshards */
	uint32_t base_n;
	struct mc_buf base[];
};

struct mc_kv_rpool { /* a peer's pool */
	struct mc_peer *peer;
	struct mc_kv_layout layout;
	bool imported;
	uint32_t base_n;
	struct {
		uint64_t id, off;
		struct mc_rmem *rmem; /* NULL until imported */
		bool owned;           /* not borrowed from an earlier base of the same region */
	} base[];
};

struct mc_kv_pool *mc_kv_pool_find(struct mc_ctx *ctx, const char *name); /* under the lock */
void mc_kv_pools_free(struct mc_ctx *ctx);
void mc_reshards_free(struct mc_ctx *ctx);
mc_status_t mc_kv_rpool_parse(const void *blob, uint32_t len, struct mc_kv_rpool **out);
mc_status_t mc_kv_rpool_fetch(struct mc_peer *peer, const char *name, int64_t timeout_ns, struct mc_kv_rpool **out);
mc_status_t mc_kv_rpool_import(struct mc_kv_rpool *p, int64_t deadline_ns);
void mc_kv_rpool_free(struct mc_kv_rpool *p);

#endif

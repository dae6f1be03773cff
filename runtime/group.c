/* SPDX-License-Identifier: BSD-3-Clause */
/* group.c - groups: ordered lists of incarnations of peers. A group's name on the wire is a hash of its list. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static uint64_t list_sig(struct mc_peer *const *peer, uint32_t n)
{
	uint64_t h = UINT64_C(0x9ae16a3b2f90404f) ^ n;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t member[] = {peer[i]->job, peer[i]->rank, peer[i]->epoch};
		for (size_t k = 0; k < MC_ARRAY_LEN(member); k++) {
			h = (h ^ member[k]) * UINT64_C(0x9e3779b97f4a7c15);
			h ^= h >> 29;
		}
	}
	return h;
}

/* Takes the list. gen: ctx->member_gen before its members were looked up. */
static mc_status_t group_make(struct mc_ctx *ctx, struct mc_peer **peer, uint32_t n, uint32_t gen,
			      struct mc_group **group_out)
{
	struct mc_group *g = calloc(1, sizeof(*g));
	if (g == NULL) {
		free(peer);
		return MC_ERR_NOMEM;
	}
	g->ctx = ctx;
	g->peer = peer;
	g->n = n;
	g->gen = gen;
	g->self = MC_NO_RANK;
	for (uint32_t i = 0; i < n; i++)
		if (peer[i] == ctx->self)
			g->self = i;
	g->sig = list_sig(peer, n);
	mc_ctx_lock(ctx);
	mc_list_add_tail(&ctx->groups, &g->node);
	mc_ctx_unlock(ctx);
	*group_out = g;
	return MC_OK;
}

/* role NULL: any; same_node: only this host's. */
static mc_status_t group_select(struct mc_ctx *ctx, const char *role, bool same_node, struct mc_group **group_out)
{
	uint32_t n = 0, gen = atomic_load(&ctx->member_gen);
	struct mc_peer **peer = malloc(ctx->size * sizeof(struct mc_peer *));
	if (peer == NULL)
		return MC_ERR_NOMEM;
	for (uint32_t i = 0; i < ctx->size; i++) {
		struct mc_peer *p = mc_peer_get(ctx, i);
		if ((role == NULL || strcmp(p->role, role) == 0) && (!same_node || p->host_id == ctx->host_id))
			peer[n++] = p;
	}
	if (n == 0) {
		free(peer);
		return MC_ERR_NOENT;
	}
	return group_make(ctx, peer, n, gen, group_out);
}

mc_status_t mc_groups_open(struct mc_ctx *ctx)
{
	mc_status_t s = group_select(ctx, NULL, false, &ctx->world);
	if (s == MC_OK)
		s = group_select(ctx, NULL, true, &ctx->node);
	if (s != MC_OK)
		return s;
	ctx->world->builtin = true;
	ctx->node->builtin = true;
	return MC_OK;
}

static void group_destroy(struct mc_group *g)
{
	mc_list_del(&g->node);
	free(g->peer);
	free(g);
}

void mc_groups_free(struct mc_ctx *ctx)
{
	while (!mc_list_empty(&ctx->groups))
		group_destroy(mc_container_of(ctx->groups.next, struct mc_group, node));
}

/* A group of what ranks there are; made anew when one of them was replaced. The former one stays, as it is borrowed. */
static struct mc_group *current(struct mc_ctx *ctx, struct mc_group **at, bool same_node)
{
	struct mc_group *n = NULL;
	mc_ctx_lock(ctx);
	struct mc_group *g = *at;
	mc_ctx_unlock(ctx);
	if (g->gen == atomic_load(&ctx->member_gen) || group_select(ctx, NULL, same_node, &n) != MC_OK)
		return g;
	mc_ctx_lock(ctx);
	n->builtin = true;
	if (*at == g)
		*at = n; /* else another thread was faster; two groups of one list are the same */
	mc_ctx_unlock(ctx);
	return n;
}

struct mc_group *mc_group_world(struct mc_ctx *ctx)
{
	return current(ctx, &ctx->world, false);
}

struct mc_group *mc_group_node(struct mc_ctx *ctx)
{
	return current(ctx, &ctx->node, true);
}

mc_status_t mc_group_role(struct mc_ctx *ctx, const char *role, struct mc_group **group_out)
{
	if (role == NULL || group_out == NULL)
		return MC_ERR_INVAL;
	return group_select(ctx, role, false, group_out);
}

mc_status_t mc_group_list(struct mc_ctx *ctx, const uint32_t *peer, uint32_t n, struct mc_group **group_out)
{
	uint32_t last = 0;
	if (peer == NULL || n == 0 || group_out == NULL)
		return MC_ERR_INVAL;
	for (uint32_t i = 0; i < n; i++) {
		if (mc_peer_get(ctx, peer[i]) == NULL)
			return MC_ERR_INVAL;
		last = peer[i] > last ? peer[i] : last;
	}
	uint32_t gen = atomic_load(&ctx->member_gen);
	struct mc_peer **copy = malloc(n * sizeof(struct mc_peer *));
	bool *seen = calloc((size_t)last + 1, sizeof(*seen));
	mc_status_t s = copy == NULL || seen == NULL ? MC_ERR_NOMEM : MC_OK;
	for (uint32_t i = 0; i < n && s == MC_OK; i++) {
		if (seen[peer[i]]) {
			s = MC_ERR_INVAL;
		} else {
			seen[peer[i]] = true;
			copy[i] = mc_peer_get(ctx, peer[i]);
		}
	}
	free(seen);
	if (s != MC_OK) {
		free(copy);
		return s;
	}
	return group_make(ctx, copy, n, gen, group_out);
}

uint32_t mc_group_size(const struct mc_group *g)
{
	return g->n;
}

uint32_t mc_group_rank(const struct mc_group *g)
{
	return g->self;
}

uint32_t mc_group_peer(const struct mc_group *g, uint32_t rank)
{
	return rank < g->n ? g->peer[rank]->id : MC_NO_RANK;
}

void mc_group_free(struct mc_group *g)
{
	if (g == NULL || g->builtin)
		return;
	struct mc_ctx *ctx = g->ctx;
	mc_ctx_lock(ctx);
	group_destroy(g);
	mc_ctx_unlock(ctx);
}

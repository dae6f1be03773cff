/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kv_pool.c - KV pools of this process and of peers: a layout over one or more regions, published once under a name.
 * Record of a pool in the directory: layout, u32 n, n times (u64 region, u64 offset of the base in it).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kv_priv.h"

enum { BASES_MAX = 4000 }; /* 16 bytes each: the record must fit a directory entry */

static struct mc_kv_pool *pool_find(struct mc_ctx *ctx, const char *name)
{
	for (struct mc_list *l = ctx->pools.next; l != &ctx->pools; l = l->next) {
		struct mc_kv_pool *p = mc_container_of(l, struct mc_kv_pool, node);
		if (strcmp(p->name, name) == 0)
			return p;
	}
	return NULL;
}

struct mc_kv_pool *mc_kv_pool_find(struct mc_ctx *ctx, const char *name)
{
	return pool_find(ctx, name);
}

mc_status_t mc_kv_pool_encode(struct mc_ctx *ctx, const char *name, struct mc_wr *w)
{
	struct mc_kv_pool *p = pool_find(ctx, name);
	if (p == NULL)
		return MC_ERR_NOENT;
	mc_kv_layout_put(w, &p->layout);
	mc_wr_u32(w, p->base_n);
	for (uint32_t i = 0; i < p->base_n; i++) {
		mc_wr_u64(w, p->base[i].mem->id);
		mc_wr_u64(w, p->base[i].off);
	}
	return w->bad ? MC_ERR_NOSPC : MC_OK;
}

static mc_status_t check_bases(struct mc_ctx *ctx, const struct mc_kv_layout *l, const struct mc_buf *base, uint32_t n)
{
	char why[200];
	uint64_t *len = calloc(n, sizeof(*len));
	if (len == NULL)
		return MC_ERR_NOMEM;
	mc_status_t s = MC_OK;
	for (uint32_t i = 0; i < n && s == MC_OK; i++) {
		if (base[i].mem == NULL || base[i].mem->ctx != ctx || base[i].off > base[i].mem->len)
			s = MC_ERR_INVAL;
		else
			len[i] = base[i].mem->len - base[i].off;
	}
	if (s == MC_OK) {
		s = mc_kv_layout_fits(l, len, n, why, sizeof(why));
		if (s != MC_OK)
			mc_error("rank %u: KV layout: %s", ctx->rank, why);
	}
	free(len);
	return s;
}

mc_status_t mc_kv_pool_open(struct mc_ctx *ctx, const struct mc_kv_layout *layout, const struct mc_buf *base,
			    uint32_t base_n, const char *name, struct mc_kv_pool **pool_out)
{
	if (layout == NULL || base == NULL || base_n == 0 || base_n > BASES_MAX || name == NULL || name[0] == '\0' ||
	    strlen(name) >= MC_NAME_MAX || pool_out == NULL)
		return MC_ERR_INVAL;
	mc_status_t s = check_bases(ctx, layout, base, base_n);
	if (s != MC_OK)
		return s;
	struct mc_kv_pool *p = calloc(1, sizeof(*p) + base_n * sizeof(struct mc_buf));
	if (p == NULL)
		return MC_ERR_NOMEM;
	p->ctx = ctx;
	p->layout = *layout;
	p->base_n = base_n;
	memcpy(p->base, base, base_n * sizeof(struct mc_buf));
	memcpy(p->name, name, strlen(name) + 1);
	mc_ctx_lock(ctx);
	if (pool_find(ctx, name) != NULL) {
		s = MC_ERR_BUSY;
	} else {
		for (uint32_t i = 0; i < base_n; i++)
			p->base[i].mem->busy++;
		mc_list_add_tail(&ctx->pools, &p->node);
		mc_dir_published(ctx, MC_DIR_POOL, name);
		mc_foreign_publish(ctx);
	}
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
	if (s != MC_OK) {
		free(p);
		return s;
	}
	*pool_out = p;
	return MC_OK;
}

static void pool_destroy(struct mc_kv_pool *p)
{
	mc_list_del(&p->node);
	for (uint32_t i = 0; i < p->base_n; i++)
		p->base[i].mem->busy--;
	free(p);
}

mc_status_t mc_kv_pool_close(struct mc_kv_pool *pool)
{
	if (pool == NULL)
		return MC_OK;
	struct mc_ctx *ctx = pool->ctx;
	mc_openings_drop(ctx, pool);
	mc_ctx_lock(ctx);
	mc_status_t s = pool->users > 0 ? MC_ERR_BUSY : MC_OK;
	if (s == MC_OK) {
		pool_destroy(pool);
		mc_foreign_publish(ctx);
	}
	mc_ctx_unlock(ctx);
	return s;
}

/* ---- for people who look into the directory of other jobs ---- */

struct text {
	char *at, *end;
	bool full;
};

static void say(struct text *t, const char *fmt, ...) MC_PRINTF(2, 3);
static void say(struct text *t, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(t->at, (size_t)(t->end - t->at), fmt, ap);
	va_end(ap);
	if (n < 0 || n >= t->end - t->at)
		t->full = true;
	else
		t->at += n;
}

/* A name as a JSON string; names may hold any bytes. */
static void say_name(struct text *t, const char *s)
{
	say(t, "\"");
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			say(t, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			say(t, "\\u%04x", c);
		else
			say(t, "%c", c);
	}
	say(t, "\"");
}

static void say_pool(struct text *t, const struct mc_kv_pool *p)
{
	const struct mc_kv_layout *l = &p->layout;
	say(t, "{\"name\": ");
	say_name(t, p->name);
	say(t, ", \"layers\": [%u, %u, %u], \"heads\": [%u, %u, %u], \"head_dim\": %u, \"kv\": %u, \"elem_bytes\": %u",
	    l->layer_lo, l->layer_n, l->layer_total, l->head_lo, l->head_n, l->head_total, l->head_dim, l->kv_n,
	    l->elem_bytes);
	say(t, ", \"block_tokens\": %u, \"blocks\": %u}", l->block_tokens, l->block_n);
}

void mc_kv_pools_info(struct mc_ctx *ctx, char *buf, size_t len)
{
	struct text t = {.at = buf, .end = buf + len};
	const char *comma = "";
	say(&t, "{\"host\": ");
	say_name(&t, ctx->host);
	say(&t, ", \"pid\": %d, \"pools\": [", (int)getpid());
	for (struct mc_list *l = ctx->pools.next; l != &ctx->pools; l = l->next) {
		struct text before = t;
		say(&t, "%s", comma);
		say_pool(&t, mc_container_of(l, struct mc_kv_pool, node));
		if (t.full || t.end - t.at < 3) { /* what does not fit is left out: this is for people */
			t = before;
			break;
		}
		comma = ", ";
	}
	say(&t, "]}");
}

/* At the end of the context; the reshards are gone. */
void mc_kv_pools_free(struct mc_ctx *ctx)
{
	while (!mc_list_empty(&ctx->pools))
		pool_destroy(mc_container_of(ctx->pools.next, struct mc_kv_pool, node));
}

/* ---- pools of peers ---- */

mc_status_t mc_kv_rpool_parse(const void *blob, uint32_t len, struct mc_kv_rpool **out)
{
	struct mc_kv_layout layout;
	struct mc_rd r;
	mc_rd_init(&r, blob, len);
	mc_status_t s = mc_kv_layout_get(&r, &layout);
	uint32_t n = mc_rd_u32(&r);
	if (s != MC_OK || r.bad || n != mc_kv_layout_base_n(&layout) || mc_rd_left(&r) != (size_t)n * 16)
		return MC_ERR_PROTO;
	struct mc_kv_rpool *p = calloc(1, sizeof(*p) + n * sizeof(p->base[0]));
	if (p == NULL)
		return MC_ERR_NOMEM;
	p->layout = layout;
	p->base_n = n;
	for (uint32_t i = 0; i < n; i++) {
		p->base[i].id = mc_rd_u64(&r);
		p->base[i].off = mc_rd_u64(&r);
	}
	*out = p;
	return MC_OK;
}

mc_status_t mc_kv_rpool_settle(struct mc_kv_rpool *p)
{
	for (uint32_t i = 0; i < p->base_n; i++)
		p->base[i].rmem = p->base[p->base[i].twin].rmem;
	/* The layout must lie inside what is there, whatever the peer claims. */
	char why[200];
	uint64_t *room = calloc(p->base_n, sizeof(*room));
	if (room == NULL)
		return MC_ERR_NOMEM;
	for (uint32_t i = 0; i < p->base_n; i++)
		room[i] = p->base[i].off <= p->base[i].rmem->len ? p->base[i].rmem->len - p->base[i].off : 0;
	mc_status_t s = mc_kv_layout_fits(&p->layout, room, p->base_n, why, sizeof(why));
	free(room);
	if (s != MC_OK) {
		mc_error("rank %u: KV pool of peer %u: %s", p->peer->ctx->rank, p->peer->id, why);
		return MC_ERR_PROTO;
	}
	p->imported = true;
	return MC_OK;
}

void mc_kv_rpool_free(struct mc_kv_rpool *p)
{
	for (uint32_t i = 0; p != NULL && i < p->base_n; i++)
		if (p->base[i].twin == i)
			mc_rmem_release(p->base[i].rmem);
	free(p);
}

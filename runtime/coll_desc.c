/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_desc.c - descriptors of peers' regions for collectives: looked up once by the region's number, then kept. A
 * number is never used again, so what is kept cannot come to mean another region; when its owner frees it, the owner
 * says so.
 */
#include <stdlib.h>

#include "coll.h"

enum { DESCS_MAX = 4096 };

static struct mc_coll_desc *desc_find(struct mc_colls *cs, const struct mc_peer *p, uint64_t rid)
{
	for (struct mc_list *l = cs->descs.prev; l != &cs->descs; l = l->prev) {
		struct mc_coll_desc *d = mc_container_of(l, struct mc_coll_desc, node);
		if (d->peer == p && d->rid == rid)
			return d;
	}
	return NULL;
}

static void desc_free(struct mc_colls *cs, struct mc_coll_desc *d)
{
	if (d->rmem != NULL) {
		d->rmem->busy++;
		d->rmem->released = true;
		mc_rmem_unpin(d->rmem); /* destroys it unless a transfer uses it */
	}
	mc_list_del(&d->node);
	cs->desc_n--;
	free(d);
}

/* The one that was used longest ago; not one that is still being looked up. */
static void desc_evict(struct mc_colls *cs)
{
	for (struct mc_list *l = cs->descs.next; l != &cs->descs; l = l->next) {
		struct mc_coll_desc *d = mc_container_of(l, struct mc_coll_desc, node);
		if (d->rmem != NULL) {
			desc_free(cs, d);
			return;
		}
	}
}

static struct mc_coll_desc *desc_new(struct mc_colls *cs, struct mc_peer *p, uint64_t rid)
{
	struct mc_coll_desc *d = calloc(1, sizeof(*d));
	if (d == NULL)
		return NULL;
	d->peer = p;
	d->rid = rid;
	if (cs->desc_n >= DESCS_MAX)
		desc_evict(cs);
	mc_list_add_tail(&cs->descs, &d->node);
	cs->desc_n++;
	return d;
}

struct mc_rmem *mc_desc_get(struct mc_colls *cs, struct mc_peer *p, uint64_t rid, mc_status_t *s_out)
{
	struct mc_coll_desc *d = desc_find(cs, p, rid);
	if (d != NULL && d->rmem != NULL) {
		mc_list_del(&d->node);
		mc_list_add_tail(&cs->descs, &d->node); /* used last */
		return d->rmem;
	}
	*s_out = MC_ERR_AGAIN;
	if (d == NULL) {
		d = desc_new(cs, p, rid);
		*s_out = d != NULL ? mc_region_ask(p, rid) : MC_ERR_NOMEM;
		if (*s_out == MC_OK)
			*s_out = MC_ERR_AGAIN;
		else if (d != NULL)
			desc_free(cs, d);
	}
	return NULL;
}

void mc_desc_drop(struct mc_colls *cs, struct mc_peer *p, uint64_t rid)
{
	struct mc_coll_desc *d = desc_find(cs, p, rid);
	if (d != NULL)
		desc_free(cs, d);
}

void mc_desc_drop_peer(struct mc_colls *cs, const struct mc_peer *p)
{
	struct mc_list *l, *next;
	for (l = cs->descs.next; l != &cs->descs; l = next) {
		struct mc_coll_desc *d = mc_container_of(l, struct mc_coll_desc, node);
		next = l->next;
		if (p == NULL || d->peer == p)
			desc_free(cs, d);
	}
}

/* The answer to mc_region_ask(). */
void mc_coll_region_told(struct mc_peer *p, uint64_t rid, mc_status_t s, const void *blob, uint32_t len)
{
	struct mc_colls *cs = p->ctx->colls;
	if (mc_board_told(p, rid, s, blob, len))
		return;
	struct mc_coll_desc *d = desc_find(cs, p, rid);
	if (d == NULL || d->rmem != NULL)
		return; /* not asked for, or not wanted any more */
	if (s == MC_OK)
		s = mc_rmem_import(p, blob, len, &d->rmem);
	if (s == MC_OK && d->rmem->id != rid)
		s = MC_ERR_PROTO;
	if (s != MC_OK)
		desc_free(cs, d);
	mc_coll_relook(p->ctx, p, rid, s);
}

/* Its owner has freed that region. */
void mc_coll_region_gone(struct mc_peer *p, uint64_t rid)
{
	mc_desc_drop(p->ctx->colls, p, rid);
}

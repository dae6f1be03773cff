/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dlist.c - prepared lists of slices: checked, merged and put into the form that the peer's link wants once, posted
 * often.
 *
 * A list keeps its entries twice where merging pays: merged, which is what a post of the whole list hands out without
 * touching it, and as given, from which a selection is built. Both are constant, so any number of requests read them at
 * once; each has its own place in them. The list pins its regions; a request on it holds on to the list.
 */
#include <stdlib.h>
#include <string.h>

#include "dlist.h"

enum { PIN_LOOKBACK = 16 };

/* ---- preparation ---- */

/* Entries come in a few pairs of regions, often by turns: looking a little back finds most. */
static mc_status_t pin(struct mc_dlist *l, struct mc_mem *mem, struct mc_rmem *rmem)
{
	uint32_t stop = l->pin_n > PIN_LOOKBACK ? l->pin_n - PIN_LOOKBACK : 0;
	for (uint32_t i = l->pin_n; i > stop; i--)
		if (l->pin[i - 1].mem == mem && l->pin[i - 1].rmem == rmem)
			return MC_OK;
	if (l->pin_n == l->pin_room) {
		uint32_t room = l->pin_room > 0 ? l->pin_room * 2 : 4;
		struct mc_pin *a = realloc(l->pin, room * sizeof(*a));
		if (a == NULL)
			return MC_ERR_NOMEM;
		l->pin = a;
		l->pin_room = room;
	}
	l->pin[l->pin_n++] = (struct mc_pin){.mem = mem, .rmem = rmem};
	if (mem != NULL)
		mem->busy++;
	if (rmem != NULL)
		rmem->busy++;
	return MC_OK;
}

/* As for a put, but one side may be missing: then the other one is there to be selected. */
static mc_status_t check(struct mc_dlist *l, const struct mc_slice *s)
{
	if (s->mem != NULL && s->rmem != NULL)
		return mc_xfer_check(l->peer, s);
	l->halves = true;
	if (s->mem != NULL && s->mem->ctx == l->ctx)
		return mc_range_ok(s->off, s->len, s->mem->len) ? MC_OK : MC_ERR_RANGE;
	if (s->rmem != NULL && s->rmem->peer == l->peer && !s->rmem->released)
		return mc_range_ok(s->roff, s->len, s->rmem->len) ? MC_OK : MC_ERR_RANGE;
	return MC_ERR_INVAL;
}

static mc_status_t check_all(struct mc_dlist *l, const struct mc_slice *s)
{
	const struct mc_slice *before = NULL;
	for (uint32_t i = 0; i < l->n; i++) {
		mc_status_t st = check(l, &s[i]);
		if (st == MC_OK && (before == NULL || before->mem != s[i].mem || before->rmem != s[i].rmem))
			st = pin(l, s[i].mem, s[i].rmem);
		if (st == MC_OK && !mc_add_u64(l->bytes, s[i].len, &l->bytes))
			st = MC_ERR_INVAL;
		if (st != MC_OK)
			return st;
		before = &s[i];
	}
	return MC_OK;
}

/* One-sided only if the link stands and every region of the list is known to it. */
static mc_status_t choose_way(struct mc_dlist *l)
{
	l->rma = l->n > 0 && mc_link_ready(l->peer) && mc_xfer_link_rma(l->peer);
	for (uint32_t i = 0; i < l->pin_n && l->rma; i++)
		l->rma = (l->pin[i].mem == NULL || mc_xfer_mem_rma(l->peer, l->pin[i].mem)) &&
			 (l->pin[i].rmem == NULL || l->pin[i].rmem->be_rmem != NULL);
	for (uint32_t i = 0; i < l->pin_n && !l->rma; i++)
		if (l->pin[i].mem != NULL && l->pin[i].mem->kind != MC_KIND_HOST)
			return MC_ERR_UNSUPPORTED;
	return MC_OK;
}

static struct mc_be_slice rma_entry(const struct mc_dlist *l, const struct mc_slice *s)
{
	return (struct mc_be_slice){.mem = s->mem != NULL ? mc_xfer_be_mem(l->peer, s->mem) : NULL,
				    .off = s->off,
				    .rmem = s->rmem != NULL ? s->rmem->be_rmem : NULL,
				    .roff = s->roff,
				    .len = s->len};
}

/* No region has the number 0. */
static struct mc_run packed_entry(const struct mc_slice *s)
{
	return (struct mc_run){.addr = s->mem != NULL ? s->mem->addr + s->off : NULL,
			       .rid = s->rmem != NULL ? s->rmem->id : 0,
			       .roff = s->roff,
			       .len = s->len};
}

static uint32_t merge_slices(const struct mc_be_slice *in, uint32_t n, struct mc_be_slice *out)
{
	uint32_t k = 0;
	for (uint32_t i = 0; i < n; i++)
		if (in[i].len > 0 && (k == 0 || !mc_xfer_slice_join(&out[k - 1], &in[i])))
			out[k++] = in[i];
	return k;
}

/* Equal pieces that follow each other in equal steps upwards on both sides; one entry of a message describes them. */
static uint32_t steps_from(const struct mc_run *in, uint32_t n)
{
	const struct mc_run *a = in, *b = in + 1;
	uint32_t k = 2;
	if (n < 3 || b->rid != a->rid || b->len != a->len || b->addr <= a->addr || b->roff <= a->roff)
		return 1;
	uint64_t step = (uint64_t)(b->addr - a->addr), rstep = b->roff - a->roff;
	while (k < n && in[k].rid == a->rid && in[k].len == a->len && in[k].addr == in[k - 1].addr + step &&
	       in[k].roff == in[k - 1].roff + rstep)
		k++;
	return k < 3 ? 1 : k; /* any two pieces are in step */
}

/* In place: adjacent ones are one piece, pieces in step one run. */
static mc_status_t merge_runs(struct mc_dlist *l, struct mc_run *v, uint32_t n, uint32_t *n_out)
{
	uint32_t k = 0, out = 0;
	for (uint32_t i = 0; i < n; i++)
		if (v[i].len > 0 && (k == 0 || !mc_xfer_run_join(&v[k - 1], &v[i])))
			v[k++] = v[i];
	for (uint32_t i = 0; i < k;) {
		uint32_t m = steps_from(&v[i], k - i);
		struct mc_run u = v[i];
		if (m > 1) {
			struct mc_shape s = mc_shape_single[0];
			s.level[0] = (struct mc_level){(uint64_t)(v[i + 1].addr - u.addr), v[i + 1].roff - u.roff, m};
			s.pieces = m;
			mc_status_t st = mc_shape_number(&l->shape, &l->shape_n, &l->shape_room, &s, &u.shape);
			if (st != MC_OK)
				return st;
		}
		v[out++] = u;
		i += m;
	}
	*n_out = out;
	return MC_OK;
}

/* The merged form, in its own memory. */
static mc_status_t merge(struct mc_dlist *l, size_t one)
{
	void *v = malloc(l->n * one);
	mc_status_t s = MC_OK;
	if (v == NULL)
		return MC_ERR_NOMEM;
	if (l->rma) {
		l->run_n = merge_slices(l->entry, l->n, v);
	} else {
		memcpy(v, l->entry, l->n * one);
		s = merge_runs(l, v, l->n, &l->run_n);
	}
	if (s != MC_OK || l->run_n == l->n) {
		free(v);
		return s;
	}
	void *less = realloc(v, (l->run_n > 0 ? l->run_n : 1) * one);
	l->merged = less != NULL ? less : v;
	return MC_OK;
}

static mc_status_t fill(struct mc_dlist *l, const struct mc_slice *s)
{
	size_t one = l->rma ? sizeof(struct mc_be_slice) : sizeof(struct mc_run);
	if (l->n == 0)
		return MC_OK;
	l->entry = l->merged = malloc(l->n * one);
	if (l->entry == NULL)
		return MC_ERR_NOMEM;
	for (uint32_t i = 0; i < l->n; i++) {
		if (l->rma)
			((struct mc_be_slice *)l->entry)[i] = rma_entry(l, &s[i]);
		else
			((struct mc_run *)l->entry)[i] = packed_entry(&s[i]);
	}
	return l->halves ? MC_OK : merge(l, one);
}

static void drop_forms(struct mc_dlist *l)
{
	if (l->merged != l->entry)
		free(l->merged);
	free(l->shape);
	free(l->entry);
}

/* Packed for now: the link is not proved yet, and may become another one. */
static mc_status_t keep_slices(struct mc_dlist *l, const struct mc_slice *s)
{
	if (l->n == 0 || mc_link_ready(l->peer))
		return MC_OK;
	l->given = malloc(l->n * sizeof(*s));
	if (l->given == NULL)
		return MC_ERR_NOMEM;
	memcpy(l->given, s, l->n * sizeof(*s));
	return MC_OK;
}

/* Now it is: take the form that it wants, when no request reads the other one. Without memory it stays as it was. */
static void take_final_form(struct mc_dlist *l)
{
	if (l->given == NULL || l->users > 0 || !mc_link_ready(l->peer))
		return;
	struct mc_dlist next = *l;
	next.entry = next.merged = NULL;
	next.shape = NULL;
	next.shape_n = next.shape_room = next.run_n = 0;
	if (choose_way(&next) != MC_OK || fill(&next, l->given) != MC_OK) {
		drop_forms(&next);
		return;
	}
	drop_forms(l);
	l->rma = next.rma;
	l->entry = next.entry;
	l->merged = next.merged;
	l->shape = next.shape;
	l->shape_n = next.shape_n;
	l->shape_room = next.shape_room;
	l->run_n = next.run_n;
	free(l->given);
	l->given = NULL;
}

static void destroy(struct mc_dlist *l)
{
	mc_list_del(&l->node);
	for (uint32_t i = 0; i < l->pin_n; i++) {
		if (l->pin[i].mem != NULL)
			l->pin[i].mem->busy--;
		if (l->pin[i].rmem != NULL)
			mc_rmem_unpin(l->pin[i].rmem);
	}
	drop_forms(l);
	free(l->given);
	free(l->pin);
	free(l);
}

mc_status_t mc_dlist_create(struct mc_ctx *ctx, uint32_t peer, const struct mc_slice *slice, uint32_t n,
			    struct mc_dlist **list_out)
{
	struct mc_peer *p = mc_peer_get(ctx, peer);
	if (p == NULL || (slice == NULL && n > 0) || list_out == NULL)
		return MC_ERR_INVAL;
	struct mc_dlist *l = calloc(1, sizeof(*l));
	if (l == NULL)
		return MC_ERR_NOMEM;
	l->ctx = ctx;
	l->peer = p;
	l->n = n;
	mc_ctx_lock(ctx);
	mc_list_add_tail(&ctx->dlists, &l->node);
	mc_status_t s = mc_peer_start(p);
	if (s == MC_OK)
		s = check_all(l, slice);
	if (s == MC_OK)
		s = choose_way(l);
	if (s == MC_OK)
		s = fill(l, slice);
	if (s == MC_OK)
		s = keep_slices(l, slice);
	if (s != MC_OK)
		destroy(l);
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx); /* the peer may have been connected to, or lost, on the way */
	if (s == MC_OK)
		*list_out = l;
	return s;
}

void mc_dlist_drop(struct mc_dlist *list)
{
	list->users--;
	if (list->users == 0 && list->freed)
		destroy(list);
}

void mc_dlist_free(struct mc_dlist *list)
{
	if (list == NULL)
		return;
	struct mc_ctx *ctx = list->ctx;
	mc_ctx_lock(ctx);
	list->freed = true;
	if (list->users == 0)
		destroy(list);
	mc_ctx_unlock(ctx);
}

/* Regions and requests are gone by now. */
void mc_dlists_free(struct mc_ctx *ctx)
{
	uint32_t left = 0;
	while (!mc_list_empty(&ctx->dlists)) {
		struct mc_dlist *l = mc_container_of(ctx->dlists.next, struct mc_dlist, node);
		left += !l->freed;
		l->pin_n = 0;
		destroy(l);
	}
	if (left > 0)
		mc_info("rank %u: %u prepared lists were still open at mc_finalize()", ctx->rank, left);
}

/* ---- posting ---- */

static mc_status_t select_slices(struct mc_req *r, const struct mc_dlist *l, const uint32_t *here,
				 const uint32_t *there, uint32_t n)
{
	const struct mc_be_slice *all = l->entry;
	for (uint32_t i = 0; i < n; i++) {
		if (here[i] >= l->n || there[i] >= l->n)
			return MC_ERR_RANGE;
		const struct mc_be_slice *a = &all[here[i]], *b = &all[there[i]];
		if (a->mem == NULL || b->rmem == NULL || a->len != b->len || !mc_add_u64(r->bytes, a->len, &r->bytes))
			return MC_ERR_INVAL;
		struct mc_be_slice x = {a->mem, a->off, b->rmem, b->roff, a->len};
		if (x.len > 0 && (r->run_n == 0 || !mc_xfer_slice_join(&r->slice[r->run_n - 1], &x)))
			r->slice[r->run_n++] = x;
	}
	return MC_OK;
}

static mc_status_t select_runs(struct mc_req *r, const struct mc_dlist *l, const uint32_t *here, const uint32_t *there,
			       uint32_t n)
{
	const struct mc_run *all = l->entry;
	for (uint32_t i = 0; i < n; i++) {
		if (here[i] >= l->n || there[i] >= l->n)
			return MC_ERR_RANGE;
		const struct mc_run *a = &all[here[i]], *b = &all[there[i]];
		if (a->addr == NULL || b->rid == 0 || a->len != b->len || !mc_add_u64(r->bytes, a->len, &r->bytes))
			return MC_ERR_INVAL;
		struct mc_run x = {.addr = a->addr, .rid = b->rid, .roff = b->roff, .len = a->len};
		if (x.len > 0 && (r->run_n == 0 || !mc_xfer_run_join(&r->run[r->run_n - 1], &x)))
			r->run[r->run_n++] = x;
	}
	return MC_OK;
}

/* What of a list is to be posted. */
struct selection {
	bool all;
	const uint32_t *here, *there; /* [n] */
	uint32_t n;
};

static mc_status_t take(struct mc_req *r, const struct mc_dlist *l, const struct selection *sel)
{
	r->rma = l->rma;
	if (sel->all && l->halves)
		return MC_ERR_INVAL;
	if (sel->all) {
		r->slice = l->merged;
		r->shape = l->shape != NULL ? l->shape : mc_shape_single;
		r->run_n = l->run_n;
		r->slices = l->n;
		r->bytes = l->bytes;
		return MC_OK;
	}
	mc_status_t s = mc_req_reserve(r, sel->n);
	r->slices = sel->n;
	if (s != MC_OK)
		return s;
	return l->rma ? select_slices(r, l, sel->here, sel->there, sel->n)
		      : select_runs(r, l, sel->here, sel->there, sel->n);
}

static mc_status_t post(struct mc_dlist *l, enum mc_req_kind kind, const struct selection *sel,
			const struct mc_xfer_opts *opts, struct mc_req **req_out)
{
	struct mc_ctx *ctx = l->ctx;
	if (opts != NULL && opts->size != sizeof(*opts))
		return MC_ERR_INVAL;
	mc_ctx_lock(ctx);
	mc_status_t s = mc_peer_start(l->peer);
	struct mc_req *r = s == MC_OK ? mc_req_get(l->peer, kind) : NULL;
	if (r == NULL) {
		mc_ctx_unlock(ctx);
		return s != MC_OK ? s : MC_ERR_NOMEM;
	}
	take_final_form(l);
	r->list = l;
	l->users++;
	s = take(r, l, sel);
	if (s == MC_OK)
		s = mc_xfer_take_opts(r, opts);
	if (s == MC_OK)
		mc_xfer_go(r, req_out);
	else
		mc_xfer_discard(r);
	mc_ctx_unlock(ctx);
	return s;
}

mc_status_t mc_dlist_put(struct mc_dlist *list, const struct mc_xfer_opts *opts, struct mc_req **req_out)
{
	return post(list, MC_REQ_PUT, &(struct selection){.all = true}, opts, req_out);
}

mc_status_t mc_dlist_get(struct mc_dlist *list, const struct mc_xfer_opts *opts, struct mc_req **req_out)
{
	return post(list, MC_REQ_GET, &(struct selection){.all = true}, opts, req_out);
}

mc_status_t mc_dlist_put_some(struct mc_dlist *list, const uint32_t *here, const uint32_t *there, uint32_t n,
			      const struct mc_xfer_opts *opts, struct mc_req **req_out)
{
	struct selection sel = {.here = here, .there = there != NULL ? there : here, .n = n};
	if (here == NULL && n > 0)
		return MC_ERR_INVAL;
	return post(list, MC_REQ_PUT, &sel, opts, req_out);
}

mc_status_t mc_dlist_get_some(struct mc_dlist *list, const uint32_t *here, const uint32_t *there, uint32_t n,
			      const struct mc_xfer_opts *opts, struct mc_req **req_out)
{
	struct selection sel = {.here = here, .there = there != NULL ? there : here, .n = n};
	if (here == NULL && n > 0)
		return MC_ERR_INVAL;
	return post(list, MC_REQ_GET, &sel, opts, req_out);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll.c - collectives from start to end: numbering per group, building the steps, early messages, deadlines, the
 * request.
 *
 * Members call the collectives of a group in the same order, so group and number name a collective on every rank;
 * groups of the same member list share one numbering. A message that arrives before its collective has started here is
 * kept.
 */
#include <stdlib.h>
#include <string.h>

#include "coll.h"
#include "coll_pattern.h"

#define EARLY_BYTES_MAX (UINT64_C(1) << 30)
enum { EARLY_MAX = 1 << 20, POOL_SCRATCH_MAX = 1 << 20, ASK_NS = 1000000000 };

/* ---- groups ---- */

struct mc_coll_group *mc_coll_group(struct mc_ctx *ctx, uint64_t sig, bool make)
{
	struct mc_colls *cs = ctx->colls;
	if (cs->last != NULL && cs->last->sig == sig)
		return cs->last;
	for (struct mc_list *l = cs->groups.next; l != &cs->groups; l = l->next) {
		struct mc_coll_group *g = mc_container_of(l, struct mc_coll_group, node);
		if (g->sig == sig)
			return cs->last = g;
	}
	struct mc_coll_group *g = make ? calloc(1, sizeof(*g)) : NULL;
	if (g != NULL) {
		g->sig = sig;
		mc_list_init(&g->early);
		mc_list_init(&g->aborted);
		mc_list_add_tail(&cs->groups, &g->node);
		cs->last = g;
	}
	return g;
}

struct mc_coll *mc_coll_running(struct mc_ctx *ctx, uint64_t sig, uint64_t seq)
{
	struct mc_colls *cs = ctx->colls;
	for (struct mc_list *l = cs->running.next; l != &cs->running; l = l->next) {
		struct mc_coll *c = mc_container_of(l, struct mc_coll, node);
		if (c->seq == seq && c->sig == sig)
			return c;
	}
	return NULL;
}

/* ---- messages ---- */

static void early_free(struct mc_colls *cs, struct mc_coll_msg *m)
{
	mc_list_del(&m->node);
	cs->early_bytes -= m->data_len;
	cs->ctx->coll_msg_n--;
	free(m);
}

static void keep(struct mc_peer *p, struct mc_coll_group *g, const struct mc_coll_msg *m)
{
	struct mc_colls *cs = p->ctx->colls;
	bool room = cs->ctx->coll_msg_n < EARLY_MAX && cs->early_bytes + m->data_len <= EARLY_BYTES_MAX;
	struct mc_coll_msg *k = room ? malloc(sizeof(*k) + m->data_len) : NULL;
	if (k == NULL) {
		mc_peer_fail(p, MC_ERR_NOMEM,
			     "%u messages (%llu bytes) of collectives that this rank has not called wait here",
			     cs->ctx->coll_msg_n, (unsigned long long)cs->early_bytes);
		return;
	}
	*k = *m;
	if (m->data_len > 0)
		memcpy(k->kept, m->data, m->data_len);
	k->data = k->kept;
	mc_list_add_tail(&g->early, &k->node);
	cs->early_bytes += m->data_len;
	cs->ctx->coll_msg_n++;
}

void mc_on_coll(struct mc_peer *p, struct mc_rd *r, const uint8_t *data, uint32_t len)
{
	struct mc_coll_msg m = {.from = p, .data = data, .data_len = len};
	m.sig = mc_rd_u64(r);
	m.seq = mc_rd_u64(r);
	m.check = mc_rd_u64(r);
	m.len = mc_rd_u64(r);
	m.rid = mc_rd_u64(r);
	m.off = mc_rd_u64(r);
	m.key = mc_rd_u32(r);
	m.root = mc_rd_u32(r);
	m.type = mc_rd_u8(r);
	m.op = mc_rd_u8(r);
	if (r->bad || m.type < MC_CT_DATA || m.type > MC_CT_FIN || (len > 0 && m.type != MC_CT_DATA)) {
		r->bad = true;
		return;
	}
	struct mc_coll *c = mc_coll_running(p->ctx, m.sig, m.seq);
	if (c != NULL) {
		mc_coll_match(c, &m);
		return;
	}
	struct mc_coll_group *g = mc_coll_group(p->ctx, m.sig, true);
	if (g == NULL)
		mc_peer_fail(p, MC_ERR_NOMEM, "no memory for a message of a collective");
	else if (m.seq >= g->started)
		keep(p, g, &m);
	/* else: that one has failed here, and the sender was told */
}

static void take_early(struct mc_coll *c, struct mc_coll_group *g)
{
	struct mc_list *l, *next;
	for (l = g->early.next; l != &g->early; l = next) {
		struct mc_coll_msg *m = mc_container_of(l, struct mc_coll_msg, node);
		next = l->next;
		if (m->seq != c->seq)
			continue;
		mc_coll_match(c, m);
		early_free(c->ctx->colls, m);
	}
	for (l = g->aborted.next; l != &g->aborted; l = next) {
		struct mc_coll_abort *a = mc_container_of(l, struct mc_coll_abort, node);
		next = l->next;
		if (a->seq > c->seq)
			continue;
		if (a->seq == c->seq)
			mc_coll_fail(c, a->status, a->culprit < c->n ? c->peer[a->culprit]->id : a->from->id, false);
		mc_list_del(&a->node);
		c->ctx->colls->aborted_n--;
		free(a);
	}
}

/* ---- start ---- */

static struct mc_coll *coll_get(struct mc_group *g)
{
	struct mc_colls *cs = g->ctx->colls;
	struct mc_list *l = mc_list_pop(&cs->free);
	struct mc_coll *c = l != NULL ? mc_container_of(l, struct mc_coll, node) : calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	if (l == NULL) {
		mc_list_init(&c->node);
		mc_list_init(&c->ready);
	}
	if (g->n > c->room) {
		struct mc_peer **peer = realloc(c->peer, g->n * sizeof(struct mc_peer *));
		c->peer = peer != NULL ? peer : c->peer;
		uint8_t *mark = realloc(c->mark, g->n);
		c->mark = mark != NULL ? mark : c->mark;
		if (peer == NULL || mark == NULL) {
			mc_list_add_tail(&cs->free, &c->node);
			return NULL;
		}
		c->room = g->n;
	}
	c->ctx = g->ctx;
	c->n = g->n;
	c->self = g->self;
	c->sig = g->sig;
	memcpy(c->peer, g->peer, g->n * sizeof(struct mc_peer *));
	memset(c->mark, 0, g->n);
	c->step_n = c->left = c->unchecked = c->flying = c->acks_due = 0;
	c->queue = c->gate = MC_NO_STEP;
	c->bad = c->tell_all = c->handled = false;
	c->failing = MC_OK;
	c->culprit = MC_NO_RANK;
	c->board = NULL;
	c->waiting = 0;
	c->ask_cookie = 0;
	c->grace = false;
	c->mem[0] = c->mem[1] = NULL;
	c->req = NULL;
	return c;
}

static void coll_put(struct mc_coll *c)
{
	mc_list_del(&c->node);
	mc_list_del(&c->ready);
	if (c->scratch_room > POOL_SCRATCH_MAX) {
		free(c->scratch);
		c->scratch = NULL;
		c->scratch_room = 0;
	}
	mc_list_add_tail(&c->ctx->colls->free, &c->node);
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 29;
}

/* What all members must have in common; lengths that only two of them know are compared when they meet. */
static uint64_t check_of(const struct mc_coll *c, const struct mc_coll_args *a)
{
	uint64_t h = mix(mix(mix(UINT64_C(0x2545f4914f6cdd1d), (uint64_t)a->op << 1 | a->v), c->root), c->eager);
	for (const char *s = c->algo->name; *s != '\0'; s++)
		h = mix(h, (uint8_t)*s);
	if (!a->v)
		return mix(h, a->len);
	for (uint32_t i = 0; i < c->n && a->op == MC_COLL_ALLGATHER; i++)
		h = mix(h, a->dlen[i]);
	return h;
}

static uint64_t block_bytes(const struct mc_coll *c, const struct mc_coll_args *a)
{
	uint64_t sum = 0;
	if (!a->v)
		return a->len;
	if (a->op != MC_COLL_ALLGATHER)
		return UINT64_MAX;
	for (uint32_t i = 0; i < c->n; i++)
		sum += a->dlen[i];
	return sum / c->n;
}

static void coll_build(struct mc_coll *c, const struct mc_coll_args *a)
{
	enum mc_coll_where where = mc_coll_where(c->ctx, c->peer, c->n);
	c->op = a->op;
	c->root = a->root;
	c->v = a->v && a->op != MC_COLL_ALLGATHER;
	c->eager = mc_coll_eager(c->ctx, c->peer, c->n, where);
	c->algo = mc_coll_select(c->ctx, a->op, a->v, block_bytes(c, a), c->n, where);
	c->check = check_of(c, a);
	c->algo->build(c, a);
	if (c->algo->board)
		return;
	if (!c->algo->agrees || c->v)
		mc_steps_agree(c, c->v);
	if (!mc_steps_seal(c))
		c->bad = true;
}

static void pin(struct mc_coll *c, const struct mc_coll_args *a)
{
	c->mem[0] = a->src.mem;
	c->mem[1] = a->dst.mem;
	for (int i = 0; i < 2; i++)
		if (c->mem[i] != NULL)
			c->mem[i]->busy++;
}

static void set_deadline(struct mc_coll *c, const struct mc_coll_opts *o)
{
	int64_t timeout = o != NULL && o->timeout_ns != 0 ? o->timeout_ns : c->ctx->cfg.coll_timeout;
	c->start_ns = c->req->start_ns;
	c->deadline_ns = mc_deadline(c->start_ns, timeout);
	/* Ask who is missing in time to know it by the deadline. */
	c->ask_ns = c->deadline_ns == INT64_MAX ? INT64_MAX
						: c->deadline_ns - (timeout / 4 < ASK_NS ? timeout / 4 : ASK_NS);
	mc_coll_alarm(c, c->ask_ns);
}

static mc_status_t coll_start_locked(struct mc_group *g, const struct mc_coll_args *a, const struct mc_coll_opts *o,
				     struct mc_req **req_out)
{
	struct mc_ctx *ctx = g->ctx;
	struct mc_coll_group *cg = mc_coll_group(ctx, g->sig, true);
	struct mc_coll *c = cg != NULL ? coll_get(g) : NULL;
	if (c == NULL)
		return MC_ERR_NOMEM;
	coll_build(c, a);
	c->req = c->bad ? NULL : mc_req_group(ctx); /* does not end before coll_end() */
	if (c->req == NULL) {
		coll_put(c);
		return MC_ERR_NOMEM;
	}
	c->req->bytes = a->len;
	c->seq = cg->started++;
	pin(c, a);
	mc_list_add_tail(&ctx->colls->running, &c->node);
	ctx->coll_running++;
	ctx->coll_recent = true;
	set_deadline(c, o);
	*req_out = c->req;
	if (c->algo->board)
		mc_board_start(c, cg);
	else
		mc_coll_begin_steps(c);
	take_early(c, cg);
	if (ctx->colls->any_down)
		mc_coll_check_members(ctx->colls);
	mc_coll_ready(c);
	mc_colls_run(ctx);
	return MC_OK;
}

static mc_status_t check_args(const struct mc_group *g, const struct mc_coll_args *a, const struct mc_coll_opts *o)
{
	uint64_t all;
	if (g == NULL || g->self == MC_NO_RANK || a->root >= g->n || (o != NULL && o->size != sizeof(*o)))
		return MC_ERR_INVAL;
	if (!a->v && !mc_mul_u64(a->len, 64ull * g->n, &all)) /* with what an algorithm may need beside it */
		return MC_ERR_RANGE;
	const struct mc_mem *m[2] = {a->src.mem, a->dst.mem};
	for (int i = 0; i < 2; i++) {
		if (m[i] != NULL && m[i]->ctx != g->ctx)
			return MC_ERR_INVAL;
		if (m[i] != NULL && m[i]->kind != MC_KIND_HOST)
			return MC_ERR_UNSUPPORTED;
	}
	return MC_OK;
}

mc_status_t mc_coll_start(struct mc_group *g, const struct mc_coll_args *a, const struct mc_coll_opts *o, bool waits,
			  struct mc_req **req_out)
{
	mc_status_t s = req_out == NULL ? MC_ERR_INVAL : check_args(g, a, o);
	if (s != MC_OK)
		return s;
	struct mc_ctx *ctx = g->ctx;
	mc_ctx_lock(ctx);
	if (mc_board_wanted(g)) {
		mc_ctx_unlock(ctx);
		mc_board_make(g);
		mc_ctx_lock(ctx);
	}
	s = coll_start_locked(g, a, o, req_out);
	if (s == MC_OK && !waits) /* who waits makes progress himself */
		mc_progress_posted(ctx, 0);
	bool late = !waits && mc_progress_overslept(ctx);
	mc_ctx_unlock(ctx);
	if (late)
		mc_progress_kick(ctx);
	return s;
}

mc_status_t mc_coll_finish(mc_status_t s, struct mc_req *req)
{
	if (s != MC_OK)
		return s;
	s = mc_req_wait(req, MC_FOREVER);
	mc_req_free(req);
	return s;
}

/* Where the bytes of a rank lie, as mc_slice ranges are checked. */
mc_status_t mc_coll_range(struct mc_buf b, uint64_t off, uint64_t len)
{
	uint64_t at;
	if (len == 0)
		return MC_OK;
	if (b.mem == NULL)
		return MC_ERR_INVAL;
	return mc_add_u64(b.off, off, &at) && mc_range_ok(at, len, b.mem->len) ? MC_OK : MC_ERR_RANGE;
}

mc_status_t mc_coll_range_n(struct mc_buf b, uint64_t len, uint32_t n)
{
	uint64_t all;
	return mc_mul_u64(len, n, &all) ? mc_coll_range(b, 0, all) : MC_ERR_RANGE;
}

mc_status_t mc_coll_range_v(struct mc_buf b, const uint64_t *len, const uint64_t *off, uint32_t n)
{
	mc_status_t s = len == NULL || off == NULL ? MC_ERR_INVAL : MC_OK;
	for (uint32_t i = 0; i < n && s == MC_OK; i++)
		s = mc_coll_range(b, off[i], len[i]);
	return s;
}

/* ---- progress and end ---- */

void mc_coll_ready(struct mc_coll *c)
{
	if (mc_list_empty(&c->ready))
		mc_list_add_tail(&c->ctx->colls->ready, &c->ready);
	c->ctx->stale_arm = true; /* nobody goes to sleep over it */
}

void mc_coll_alarm(struct mc_coll *c, int64_t at_ns)
{
	c->alarm_ns = at_ns;
	if (at_ns < c->ctx->coll_timer_ns)
		c->ctx->coll_timer_ns = at_ns;
}

void mc_coll_end(struct mc_coll *c, mc_status_t s)
{
	struct mc_ctx *ctx = c->ctx;
	struct mc_req *r = c->req;
	for (int i = 0; i < 2; i++)
		if (c->mem[i] != NULL)
			c->mem[i]->busy--;
	mc_list_del(&c->node);
	mc_board_end(c);
	coll_put(c);
	if (--ctx->coll_running == 0)
		ctx->coll_timer_ns = INT64_MAX;
	mc_req_group_ready(r, r->failing == MC_OK ? s : MC_OK);
}

static void run_one(struct mc_coll *c)
{
	bool more = c->failing == MC_OK && mc_coll_run_steps(c);
	if (c->failing != MC_OK)
		mc_coll_fail_step(c);
	else if (more)
		mc_coll_ready(c);
	else if (c->left == 0 && c->flying == 0)
		mc_coll_end(c, MC_OK);
	else
		mc_list_del(&c->ready); /* what it noted about itself just now is dealt with */
}

/* Requests that were canceled, here or by mc_finalize(). */
static void find_canceled(struct mc_colls *cs)
{
	for (struct mc_list *l = cs->running.next; l != &cs->running; l = l->next) {
		struct mc_coll *c = mc_container_of(l, struct mc_coll, node);
		if (c->req->failing != MC_OK)
			mc_coll_fail(c, c->req->failing, c->ctx->rank, true);
	}
}

uint32_t mc_colls_run(struct mc_ctx *ctx)
{
	struct mc_colls *cs = ctx->colls;
	uint32_t n = 0, seen = atomic_load_explicit(&ctx->coll_seq, memory_order_relaxed);
	if (seen != cs->seen) {
		cs->seen = seen;
		cs->any_down = true;
		mc_coll_check_members(cs);
	}
	find_canceled(cs);
	mc_boards_look(cs);
	struct mc_list *l, *last = cs->ready.prev;
	for (bool more = !mc_list_empty(&cs->ready); more && (l = mc_list_pop(&cs->ready)) != NULL; n++) {
		more = l != last && !mc_list_empty(&cs->ready);
		run_one(mc_container_of(l, struct mc_coll, ready));
	}
	return n;
}

bool mc_colls_idle(const struct mc_ctx *ctx)
{
	return mc_list_empty(&ctx->colls->ready);
}

bool mc_colls_arm(struct mc_ctx *ctx)
{
	return ctx->coll_running == 0 || (mc_boards_arm(ctx->colls) && mc_list_empty(&ctx->colls->ready));
}

void mc_colls_timers(struct mc_ctx *ctx, int64_t now)
{
	struct mc_colls *cs = ctx->colls;
	ctx->coll_timer_ns = INT64_MAX;
	for (struct mc_list *l = cs->running.next; l != &cs->running; l = l->next) {
		struct mc_coll *c = mc_container_of(l, struct mc_coll, node);
		if (c->alarm_ns <= now)
			mc_coll_timeout(c, now);
		if (c->alarm_ns < ctx->coll_timer_ns)
			ctx->coll_timer_ns = c->alarm_ns;
	}
	mc_colls_run(ctx);
}

/* ---- the context's part ---- */

mc_status_t mc_colls_open(struct mc_ctx *ctx)
{
	struct mc_colls *cs = calloc(1, sizeof(*cs));
	if (cs == NULL)
		return MC_ERR_NOMEM;
	cs->ctx = ctx;
	struct mc_list *l[] = {&cs->running, &cs->ready, &cs->free, &cs->groups, &cs->descs};
	for (size_t i = 0; i < MC_ARRAY_LEN(l); i++)
		mc_list_init(l[i]);
	ctx->colls = cs;
	return mc_coll_force(ctx, ctx->cfg.coll_algorithm);
}

static void coll_free(struct mc_coll *c)
{
	free(c->peer);
	free(c->mark);
	free(c->step);
	free(c->bucket);
	free(c->scratch);
	free(c);
}

static void group_free(struct mc_colls *cs, struct mc_coll_group *g)
{
	struct mc_list *l;
	while (!mc_list_empty(&g->early))
		early_free(cs, mc_container_of(g->early.next, struct mc_coll_msg, node));
	while ((l = mc_list_pop(&g->aborted)) != NULL)
		free(mc_container_of(l, struct mc_coll_abort, node));
	mc_boards_free(g);
	mc_list_del(&g->node);
	free(g);
}

/* Forget every group and every descriptor. */
void mc_colls_free(struct mc_ctx *ctx)
{
	struct mc_colls *cs = ctx->colls;
	if (cs == NULL)
		return;
	mc_desc_drop_peer(cs, NULL);
	while (!mc_list_empty(&cs->groups))
		group_free(cs, mc_container_of(cs->groups.next, struct mc_coll_group, node));
	cs->last = NULL;
	cs->aborted_n = 0;
}

void mc_colls_close(struct mc_ctx *ctx)
{
	struct mc_colls *cs = ctx->colls;
	struct mc_list *l;
	mc_colls_free(ctx);
	while (cs != NULL && (l = mc_list_pop(&cs->running)) != NULL)
		coll_free(mc_container_of(l, struct mc_coll, node));
	while (cs != NULL && (l = mc_list_pop(&cs->free)) != NULL)
		coll_free(mc_container_of(l, struct mc_coll, node));
	free(cs);
	ctx->colls = NULL;
}

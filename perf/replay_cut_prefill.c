/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A prefill rank of an instance. The leader gets a request's table from the leader of the decode instance, takes blocks
 * of the pool, which are the same on all its ranks, and sends both tables round; each rank makes its part of the
 * content and pushes it. The blocks are free again when all ranks have said that theirs is done.
 */
#include <stdlib.h>
#include <string.h>

#include "replay_cut.h"
#include "replay_other.h"

#define IDLE_NS INT64_C(50000000) /* longest sleep between two looks for deaths */
#define POLL_NS INT64_C(1000000)  /* with requests under way: between two looks for notes */

/* A request on its way. */
struct send {
	struct send *next;
	struct replay_table *table; /* with the source blocks */
	struct mc_req *req;         /* NULL: this rank's part is done */
	uint32_t waiting;           /* leader: ranks of the instance that are not done */
	int64_t start_ns;
};

struct prefill {
	struct replay *r;
	struct replay_table *open;               /* coming in */
	struct replay_table *ready, **ready_end; /* leader: waiting for blocks of the pool */
	struct send *flying;
	bool *ended;   /* [decode_n] leader: no more requests from there */
	uint32_t gone; /* leader: instance of another job that was seen to be gone, + 1 */
	bool stopped;  /* the others: the leader has no more */
	struct perf_spans spans;
	bool corrupted;
};

static void corrupt(struct prefill *p, const struct kvperf_view *v)
{
	const struct mc_kv_layout *l = v->layout;

	if (!p->r->o.corrupt_one || p->corrupted || v->tokens == 0 || p->r->prefill_pos != 0 || !replay_cut_leads(p->r))
		return;
	kvperf_place(v, l->layer_lo, 0, v->tokens / 2, l->head_lo)[1] ^= 0x10;
	p->corrupted = true;
}

/* Make this rank's part of the content and push it; takes the table over. */
static void launch(struct prefill *p, struct replay_table *t)
{
	struct replay *r = p->r;
	struct kvperf_view v = replay_cut_view(r, t->request, t->tokens, t->block + t->dst_n);
	struct mc_kv_request q = {
		.size = sizeof(q),
		.op = MC_KV_PUSH,
		.peer = MC_ANY_PEER,
		.tag = perf_tag(PERF_K_DONE, t->request),
		.src_block = t->block + t->dst_n,
		.dst_block = t->block,
		.src_block_n = t->src_n,
		.dst_block_n = t->dst_n,
		.token_n = t->tokens,
		.timeout_ns = r->o.request_timeout_ns,
	};
	struct send *s = calloc(1, sizeof(*s));
	int64_t cpu = replay_thread_cpu_ns();
	mc_status_t status = MC_ERR_NOMEM;

	if (s != NULL) {
		kvperf_fill(&v, 0, r->layers);
		corrupt(p, &v);
		r->res.check_ns += (uint64_t)(replay_thread_cpu_ns() - cpu);
		*s = (struct send){.table = t, .waiting = r->cut->lanes[KVP_SRC], .start_ns = perf_now_ns()};
		status = mc_reshard_start(r->cut->reshard[r->route.decode[t->request]], &q, &s->req);
	}
	if (status != MC_OK) {
		replay_cut_fail(r, t->request, "cannot be sent", status);
		replay_table_free(t);
		free(s);
		return;
	}
	s->next = p->flying;
	p->flying = s;
}

/* Leader: give the oldest request that waits its blocks, if there are enough. */
static bool start_next(struct prefill *p)
{
	struct replay *r = p->r;
	struct replay_table *t = p->ready, *full;
	uint32_t src_n;

	if (t == NULL)
		return false;
	src_n = (t->tokens + r->block_tokens - 1) / r->block_tokens;
	if (r->pool.free_n < src_n)
		return false; /* until a request ends; the pool holds the largest */
	p->ready = t->next;
	if (p->ready == NULL)
		p->ready_end = &p->ready;
	full = replay_table_new(t->request, t->tokens, t->dst_n, src_n);
	if (full == NULL || !perf_pool_take(&r->pool, src_n, full->block + t->dst_n)) {
		replay_cut_fail(r, t->request, "no room for its table", MC_ERR_NOMEM);
		replay_table_free(full);
		replay_table_free(t);
		return true;
	}
	memcpy(full->block, t->block, t->dst_n * sizeof(*t->block));
	replay_table_free(t);
	for (uint32_t i = 1; i < r->cut->lanes[KVP_SRC]; i++) {
		if (!replay_table_send(r, replay_cut_peer(r, KVP_SRC, r->prefill_pos, i), full))
			replay_cut_fail(r, full->request, "its table cannot be sent", MC_ERR_PEER_DOWN);
	}
	launch(p, full);
	return true;
}

/* One more rank of the instance is done with it. */
static void lane_done(struct prefill *p, uint32_t request)
{
	struct replay *r = p->r;

	for (struct send **at = &p->flying; *at != NULL; at = &(*at)->next) {
		struct send *s = *at;
		if (s->table->request != request)
			continue;
		if (--s->waiting > 0)
			return;
		*at = s->next;
		(void)perf_pool_give(&r->pool, s->table->block + s->table->dst_n, s->table->src_n);
		replay_table_free(s->table);
		free(s);
		return;
	}
}

static void finish(struct prefill *p, struct send *s, mc_status_t status)
{
	struct replay *r = p->r;

	if (status == MC_OK) {
		replay_count_put(r, s->req, s->start_ns, &p->spans);
	} else {
		replay_cut_fail(r, s->table->request, "its transfer failed", status);
	}
	mc_req_free(s->req);
	s->req = NULL;
}

static bool reap(struct prefill *p)
{
	struct replay *r = p->r;
	bool any = false;

	for (struct send **at = &p->flying; *at != NULL;) {
		struct send *s = *at;
		mc_status_t status = s->req != NULL ? mc_req_test(s->req) : MC_IN_PROGRESS;
		if (status == MC_IN_PROGRESS) {
			at = &s->next;
			continue;
		}
		any = true;
		finish(p, s, status);
		if (replay_cut_leads(r)) {
			lane_done(p, s->table->request); /* may take it out of the list */
			return true;
		}
		(void)perf_job_send(&r->job, replay_cut_peer(r, KVP_SRC, r->prefill_pos, 0),
				    perf_tag(PERF_K_DONE, s->table->request), NULL, 0);
		*at = s->next;
		replay_table_free(s->table);
		free(s);
	}
	return any;
}

static void take_table(struct prefill *p, const struct mc_note *note)
{
	struct replay *r = p->r;
	struct replay_table *t;

	if (!replay_table_take(r, note, &p->open, &t)) {
		replay_table_refuse(r, note);
		return;
	}
	if (t == NULL)
		return;
	if (!replay_cut_leads(r)) {
		launch(p, t);
		return;
	}
	*p->ready_end = t;
	p->ready_end = &t->next;
}

static void take_note(struct prefill *p, const struct mc_note *note)
{
	struct replay *r = p->r;

	switch (perf_tag_kind(note->tag)) {
	case PERF_K_REQ:
		take_table(p, note);
		return;
	case PERF_K_DONE:
		lane_done(p, (uint32_t)perf_tag_number(note->tag));
		return;
	case PERF_K_END:
		p->stopped = true; /* of use only where the own leader sends it */
		for (uint32_t d = 0; d < r->decode_n; d++)
			p->ended[d] |= replay_cut_peer(r, KVP_DST, d, 0) == note->peer;
		return;
	case PERF_K_FIT:
	case PERF_K_PREPARED:
		replay_other_note(r, note);
		return;
	case PERF_K_STOP:
		replay_stopped_by(r, note);
		return;
	default:
		perf_gather_note(&r->gather, &r->job, note);
	}
}

/*
 * A decode instance of another job that left before it said that it has all it wants. Its last notes may be here, but
 * not taken: the second look counts.
 */
static void watch_leaders(struct prefill *p)
{
	struct replay *r = p->r;
	struct mc_peer_info info = {.size = sizeof(info)};
	char who[64];

	for (uint32_t d = 0; r->o.with_n != 0 && replay_cut_leads(r) && d < r->decode_n && !r->stop; d++) {
		uint32_t peer = replay_cut_peer(r, KVP_DST, d, 0);
		if (p->ended[d] || mc_peer_query(r->job.ctx, peer, &info) != MC_OK || info.state == MC_OK ||
		    info.state == MC_IN_PROGRESS)
			continue;
		if (p->gone != d + 1) {
			p->gone = d + 1;
			return;
		}
		perf_job_say(&r->job, "%s left before its last request",
			     perf_job_name(&r->job, peer, who, sizeof(who)));
		r->res.fatal++;
		replay_stop(r);
	}
}

static bool all_ended(const struct prefill *p)
{
	if (p->flying != NULL || p->ready != NULL || p->open != NULL)
		return false;
	if (!replay_cut_leads(p->r))
		return p->stopped;
	for (uint32_t d = 0; d < p->r->decode_n; d++) {
		if (!p->ended[d])
			return false;
	}
	return true;
}

static void work(struct prefill *p)
{
	struct replay *r = p->r;

	while (!r->stop && !replay_overdue(r)) {
		struct mc_note *note = perf_job_note(&r->job, 0);
		struct send *first = p->flying;
		if (note != NULL) {
			take_note(p, note);
			mc_note_free(note);
			continue;
		}
		replay_cut_watch(r);
		watch_leaders(p);
		if (reap(p) || start_next(p))
			continue;
		if (all_ended(p))
			return;
		if (first != NULL && first->req != NULL) {
			(void)mc_req_wait(first->req, POLL_NS);
			continue;
		}
		note = perf_job_note(&r->job, p->flying != NULL ? POLL_NS : IDLE_NS);
		if (note != NULL)
			take_note(p, note);
		mc_note_free(note);
		perf_gather_progress(&r->gather, &r->job, 0, 0, false);
	}
}

static void end(struct prefill *p)
{
	struct replay *r = p->r;
	struct mc_peer_info info = {.size = sizeof(info)};

	if (replay_cut_leads(r))
		replay_cut_tell_lanes(r, perf_tag(PERF_K_END, 0), NULL, 0);
	while (p->flying != NULL) {
		struct send *s = p->flying;
		p->flying = s->next;
		if (s->req != NULL)
			finish(p, s, mc_req_cancel(s->req));
		replay_table_free(s->table);
		free(s);
	}
	for (struct replay_table *t = p->open, *next; t != NULL; t = next) {
		next = t->next;
		replay_table_free(t);
	}
	for (struct replay_table *t = p->ready, *next; t != NULL; t = next) {
		next = t->next;
		replay_table_free(t);
	}
	for (uint32_t d = 0; d < mc_group_size(r->job.decode); d++) {
		uint32_t peer = mc_group_peer(r->job.decode, d);
		if (mc_peer_query(r->job.ctx, peer, &info) == MC_OK && info.link[0] != '\0')
			(void)perf_gather_link(&r->gather, r->job.rank, peer, info.link);
	}
	r->res.busy_ns = perf_spans_total_ns(&p->spans);
	perf_spans_free(&p->spans);
	free(p->ended);
}

void replay_cut_prefill(struct replay *r)
{
	struct prefill p = {.r = r};

	p.ready_end = &p.ready;
	p.ended = calloc(r->decode_n, sizeof(*p.ended));
	if (p.ended == NULL)
		replay_cut_fail(r, 0, "before it", MC_ERR_NOMEM);
	else
		work(&p);
	end(&p);
}

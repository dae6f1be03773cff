/* SPDX-License-Identifier: BSD-3-Clause */
/* The prefill side: take a request's block table, make the content, put it, tell the decode rank if that failed. */
#include <stdlib.h>
#include <string.h>

#include "replay_other.h"

#define IDLE_NS     INT64_C(50000000)    /* longest sleep between two looks for deaths */
#define PUT_WAIT_NS INT64_C(1000000)     /* with puts under way: between two looks for notes */
#define POOL_NS     INT64_C(10000000000) /* for the pool of a decode rank that has come back */

/* A request on its way. */
struct send {
	struct send *next;
	uint32_t request, decode;
	uint32_t first;  /* block of the request that dst[0] holds */
	uint32_t n, got; /* blocks to move; of these so many are known */
	uint32_t dst_pool_n;
	uint32_t *dst, *src;
	struct mc_req *req;
	int64_t start_ns;
};

struct queue {
	struct send *first, **end;
};

struct prefill {
	struct replay *r;
	struct queue ready, flying;
	struct send **partial; /* [decode_n] table not complete yet */
	bool *ended;           /* [decode_n] no more requests from there */
	uint64_t *epoch;       /* [decode_n] process that its requests are of */
	struct mc_slice *slice;
	uint64_t slice_room;
	struct perf_spans spans;
	bool corrupted;
};

static void queue_add(struct queue *q, struct send *s)
{
	s->next = NULL;
	*q->end = s;
	q->end = &s->next;
}

static struct send *queue_take(struct queue *q, struct send **at)
{
	struct send *s = *at;

	*at = s->next;
	if (q->end == &s->next)
		q->end = at;
	return s;
}

static void send_free(struct send *s)
{
	if (s == NULL)
		return;
	mc_req_free(s->req);
	free(s->dst);
	free(s->src);
	free(s);
}

static uint32_t peer_of(const struct prefill *p, uint32_t decode)
{
	return mc_group_peer(p->r->job.decode, decode);
}

static bool decode_gone(const struct prefill *p, uint32_t decode)
{
	if (perf_job_down(&p->r->job, peer_of(p, decode)))
		return true; /* and what it asked for with it: when it is back it asks again */
	return p->r->job.dead[peer_of(p, decode)] || p->r->rmem[decode] == NULL;
}

static void tell_failed(struct prefill *p, const struct send *s, mc_status_t status)
{
	uint8_t buf[4];
	struct perf_wr w;

	perf_wr_init(&w, buf, sizeof(buf));
	perf_wr_u32(&w, (uint32_t)-status);
	(void)perf_job_send(&p->r->job, peer_of(p, s->decode), perf_tag(PERF_K_FAIL, s->request), buf, perf_wr_len(&w));
}

/* ---- block tables
 * ---------------------------------------------------------------------------------------------------- */

static uint32_t decode_of_peer(const struct prefill *p, uint32_t peer)
{
	for (uint32_t d = 0; d < p->r->decode_n; d++) {
		if (peer_of(p, d) == peer)
			return d;
	}
	return MC_NO_RANK;
}

/* The head of a table part, checked against what both sides know from the trace. */
static struct send *table_begin(struct prefill *p, uint32_t d, uint64_t request, uint32_t first, uint32_t n,
				uint32_t pool_n)
{
	struct replay *r = p->r;
	struct send *s;

	if (request >= r->trace.n || r->route.prefill[request] != r->prefill_pos || r->route.decode[request] != d)
		return NULL;
	if ((uint64_t)first + n != replay_block_count(r, (uint32_t)request))
		return NULL;
	if (pool_n == 0 || replay_offset(r, r->layers, 0, pool_n) > mc_rmem_len(r->rmem[d]))
		return NULL;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	*s = (struct send){.request = (uint32_t)request, .decode = d, .first = first, .n = n, .dst_pool_n = pool_n};
	s->dst = calloc((size_t)n + 1, sizeof(*s->dst));
	s->src = calloc((size_t)n + 1, sizeof(*s->src));
	if (s->dst == NULL || s->src == NULL) {
		send_free(s);
		return NULL;
	}
	return s;
}

/* false: not what a decode rank of this program sends. */
static bool take_table(struct prefill *p, uint32_t d, const struct mc_note *note)
{
	struct perf_rd rd;
	struct send *s = p->partial[d];
	uint32_t pool_n, first, n, start;

	perf_rd_init(&rd, note->data, note->len);
	pool_n = perf_rd_u32(&rd);
	first = perf_rd_u32(&rd);
	n = perf_rd_u32(&rd);
	start = perf_rd_u32(&rd);
	if (rd.bad)
		return false;
	if (s == NULL)
		s = p->partial[d] = table_begin(p, d, perf_tag_number(note->tag), first, n, pool_n);
	if (s == NULL || s->request != perf_tag_number(note->tag) || s->got != start || s->n != n)
		return false;
	while (s->got < s->n && perf_rd_left(&rd) > 0) {
		uint32_t b = perf_rd_u32(&rd);
		if (b >= s->dst_pool_n)
			return false;
		s->dst[s->got++] = b;
	}
	if (!perf_rd_end(&rd))
		return false;
	if (s->got == s->n) {
		p->partial[d] = NULL;
		queue_add(&p->ready, s);
	}
	return true;
}

static void drop_requests(struct prefill *p, uint32_t d)
{
	send_free(p->partial[d]);
	p->partial[d] = NULL;
	for (struct send **at = &p->ready.first; *at != NULL;) {
		if ((*at)->decode == d)
			send_free(queue_take(&p->ready, at));
		else
			at = &(*at)->next;
	}
	for (struct send **at = &p->flying.first; *at != NULL;) {
		if ((*at)->decode != d) {
			at = &(*at)->next;
			continue;
		}
		struct send *s = queue_take(&p->flying, at);
		(void)mc_req_cancel(s->req); /* it has ended, or ends now: its peer is no more */
		(void)perf_pool_give(&p->r->pool, s->src, s->n);
		send_free(s);
	}
}

/*
 * Is the note of the process that the decode rank is? One that was started again is taken on here: what the old one had
 * asked for is void, and the pool is another.
 */
static bool same_process(struct prefill *p, uint32_t d, const struct mc_note *note)
{
	struct replay *r = p->r;
	char who[64], pool[MC_NAME_MAX];

	if (note->epoch == p->epoch[d])
		return true;
	if (note->epoch != perf_job_epoch(&r->job, note->peer))
		return false; /* late word of one that is no more */
	drop_requests(p, d);
	p->epoch[d] = note->epoch;
	p->ended[d] = false;
	mc_rmem_release(r->rmem[d]);
	replay_pool_name(r, pool);
	mc_status_t s = mc_mem_lookup(r->job.ctx, note->peer, pool, POOL_NS, &r->rmem[d]);
	if (s == MC_OK)
		return true;
	r->rmem[d] = NULL;
	perf_job_say(&r->job, "cannot reach the pool of %s, which is back: %s",
		     perf_job_name(&r->job, note->peer, who, sizeof(who)), mc_status_text(s));
	return false;
}

static void take_note(struct prefill *p, const struct mc_note *note)
{
	struct replay *r = p->r;
	uint32_t d = decode_of_peer(p, note->peer);
	char who[64];

	switch (perf_tag_kind(note->tag)) {
	case PERF_K_REQ:
		if (d != MC_NO_RANK && !same_process(p, d, note))
			return;
		if (d != MC_NO_RANK && r->rmem[d] != NULL && take_table(p, d, note))
			return;
		perf_job_say(&r->job, "malformed block table of request %llu from %s",
			     (unsigned long long)perf_tag_number(note->tag),
			     perf_job_name(&r->job, note->peer, who, sizeof(who)));
		r->res.fatal++;
		replay_stop(r);
		return;
	case PERF_K_END:
		if (d != MC_NO_RANK && note->epoch == p->epoch[d])
			p->ended[d] = true;
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

/* ---- content and transfer
 * -------------------------------------------------------------------------------------------- */

/* Fill the blocks and describe them; returns the number of slices. */
static uint32_t make_slices(struct prefill *p, struct send *s)
{
	struct replay *r = p->r;
	uint32_t n = 0;

	for (uint32_t layer = 0; layer < r->layers; layer++) {
		for (uint32_t k = 0; k < s->n; k++) {
			uint64_t key = perf_pattern_key(r->o.seed, s->request, layer, s->first + k, r->job.rank);
			uint64_t off = replay_offset(r, layer, s->src[k], r->pool_n);
			uint64_t roff = replay_offset(r, layer, s->dst[k], s->dst_pool_n);
			struct replay_piece piece[2];
			uint32_t pieces = replay_pieces(r, s->request, s->first + k, piece);
			for (uint32_t i = 0; i < pieces; i++) {
				perf_pattern_fill(r->base + off + piece[i].off, piece[i].off, piece[i].len, key);
				p->slice[n++] = (struct mc_slice){
					.mem = r->mem,
					.off = off + piece[i].off,
					.rmem = r->rmem[s->decode],
					.roff = roff + piece[i].off,
					.len = piece[i].len,
				};
			}
		}
	}
	return n;
}

static bool slice_reserve(struct prefill *p, const struct send *s)
{
	uint64_t need = ((uint64_t)s->n + 1) * p->r->layers;
	struct mc_slice *slice;

	if (need <= p->slice_room)
		return true;
	slice = reallocarray(p->slice, need, sizeof(*slice));
	if (slice == NULL)
		return false;
	p->slice = slice;
	p->slice_room = need;
	return true;
}

/* --corrupt-one: one bit of one byte, to prove that the check sees it. */
static void corrupt(struct prefill *p, const struct send *s, uint32_t slices)
{
	const struct mc_slice *at;

	if (!p->r->o.corrupt_one || p->corrupted || p->r->prefill_pos != 0 || s->n == 0)
		return;
	at = &p->slice[slices / 2];
	p->r->base[at->off + at->len / 2] ^= 0x10;
	p->corrupted = true;
}

static void launch(struct prefill *p, struct send *s)
{
	struct replay *r = p->r;
	struct mc_notify notify = {
		.size = sizeof(notify),
		.flags = MC_NOTIFY_COUNT | MC_NOTIFY_NOTE,
		.tag = perf_tag(PERF_K_DONE, s->request),
		.add = 1,
	};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .timeout_ns = r->o.request_timeout_ns, .notify = &notify};
	mc_status_t status = MC_ERR_NOMEM;
	uint32_t n = 0;

	if (slice_reserve(p, s)) {
		int64_t cpu = replay_thread_cpu_ns();
		n = make_slices(p, s);
		corrupt(p, s, n);
		r->res.check_ns += (uint64_t)(replay_thread_cpu_ns() - cpu);
		s->start_ns = perf_now_ns();
		status = mc_put(r->job.ctx, peer_of(p, s->decode), p->slice, n, &opts, &s->req);
	}
	if (status == MC_OK) {
		queue_add(&p->flying, s);
		return;
	}
	if (status == MC_ERR_PEER_DOWN)
		perf_job_mark_dead(&r->job, peer_of(p, s->decode));
	else if (status != MC_ERR_STALE) /* of a process that was started again since: the new one asks itself */
		tell_failed(p, s, status);
	s->req = NULL;
	(void)perf_pool_give(&r->pool, s->src, s->n);
	send_free(s);
}

/* Oldest request whose blocks fit; false: nothing to start now. */
static bool start_next(struct prefill *p)
{
	struct send *s = p->ready.first;

	if (s == NULL)
		return false;
	if (decode_gone(p, s->decode)) {
		send_free(queue_take(&p->ready, &p->ready.first));
		return true;
	}
	if (!perf_pool_take(&p->r->pool, s->n, s->src))
		return false; /* until a put ends; the pool holds the largest request */
	launch(p, queue_take(&p->ready, &p->ready.first));
	return true;
}

static void finish(struct prefill *p, struct send *s, mc_status_t status)
{
	struct replay *r = p->r;

	if (status == MC_OK) {
		replay_count_put(r, s->req, s->start_ns, &p->spans);
	} else if (status == MC_ERR_PEER_DOWN) {
		perf_job_mark_dead(&r->job, peer_of(p, s->decode));
	} else if (!r->stop && status != MC_ERR_STALE) {
		tell_failed(p, s, status);
	}
	(void)perf_pool_give(&r->pool, s->src, s->n);
	send_free(s);
}

static bool reap(struct prefill *p)
{
	bool any = false;

	for (struct send **at = &p->flying.first; *at != NULL;) {
		mc_status_t status = mc_req_test((*at)->req);
		if (status == MC_IN_PROGRESS) {
			at = &(*at)->next;
			continue;
		}
		finish(p, queue_take(&p->flying, at), status);
		any = true;
	}
	return any;
}

static bool all_ended(const struct prefill *p)
{
	for (uint32_t d = 0; d < p->r->decode_n; d++) {
		if (perf_job_down(&p->r->job, peer_of(p, d)) || (!p->ended[d] && !decode_gone(p, d)))
			return false;
	}
	return p->ready.first == NULL && p->flying.first == NULL;
}

static void cancel_all(struct prefill *p)
{
	while (p->flying.first != NULL) {
		struct send *s = queue_take(&p->flying, &p->flying.first);
		finish(p, s, mc_req_cancel(s->req));
	}
}

static void work(struct prefill *p)
{
	struct replay *r = p->r;

	while (!r->stop && !replay_overdue(r)) {
		struct mc_note *note = perf_job_note(&r->job, 0);
		bool busy = note != NULL;
		if (note != NULL) {
			take_note(p, note);
			mc_note_free(note);
			continue;
		}
		perf_job_faults(&r->job);
		busy = reap(p) || busy;
		busy = start_next(p) || busy;
		if (busy)
			continue;
		if (all_ended(p))
			return;
		if (p->flying.first != NULL) {
			(void)mc_req_wait(p->flying.first->req, PUT_WAIT_NS);
			continue;
		}
		note = perf_job_note(&r->job, IDLE_NS);
		if (note != NULL)
			take_note(p, note);
		mc_note_free(note);
		perf_gather_progress(&r->gather, &r->job, 0, 0, false);
	}
}

/* A rank of another job that left without a word is nobody else's to report. */
static void count_unfinished(struct prefill *p)
{
	struct replay *r = p->r;
	char who[64];

	for (uint32_t d = 0; r->o.with_n != 0 && !r->stop && p->ended != NULL && d < r->decode_n; d++) {
		if (p->ended[d])
			continue;
		perf_job_say(&r->job, "%s died before its last request",
			     perf_job_name(&r->job, peer_of(p, d), who, sizeof(who)));
		r->res.fatal++;
	}
}

void replay_prefill(struct replay *r)
{
	struct prefill p = {.r = r};
	struct mc_peer_info info = {.size = sizeof(info)};

	p.ready.end = &p.ready.first;
	p.flying.end = &p.flying.first;
	p.partial = calloc(r->decode_n, sizeof(struct send *));
	p.ended = calloc(r->decode_n, sizeof(*p.ended));
	p.epoch = calloc(r->decode_n, sizeof(*p.epoch));
	for (uint32_t d = 0; p.epoch != NULL && d < r->decode_n; d++)
		p.epoch[d] = perf_job_epoch(&r->job, peer_of(&p, d));
	if (p.partial == NULL || p.ended == NULL || p.epoch == NULL) {
		perf_job_say(&r->job, "out of memory");
		r->res.fatal++;
		replay_stop(r);
	} else {
		work(&p);
	}
	cancel_all(&p);
	count_unfinished(&p);
	while (p.ready.first != NULL)
		send_free(queue_take(&p.ready, &p.ready.first));
	for (uint32_t d = 0; p.partial != NULL && d < r->decode_n; d++)
		send_free(p.partial[d]);
	for (uint32_t d = 0; d < r->decode_n; d++) {
		if (mc_peer_query(r->job.ctx, peer_of(&p, d), &info) == MC_OK)
			(void)perf_gather_link(&r->gather, r->job.rank, peer_of(&p, d), info.link);
	}
	r->res.busy_ns = perf_spans_total_ns(&p.spans);
	perf_spans_free(&p.spans);
	free(p.partial);
	free(p.ended);
	free(p.epoch);
	free(p.slice);
}

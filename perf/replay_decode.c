/* SPDX-License-Identifier: BSD-3-Clause */
/* The decode side: give each request blocks, send the table to its prefill rank, check what arrived, free the blocks.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "replay_other.h"
#include "replay_take.h"
#include "replay_verify.h"

enum {
	TABLE_PER_NOTE = 16000, /* block numbers: stays below MC_NOTE_MAX */
	ERRORS_SAID = 5,
};
#define IDLE_NS  INT64_C(50000000)
#define GRACE_NS INT64_C(5000000000) /* the prefill rank's own deadline comes first */

/* All requests of one prefill rank to this decode rank. */
struct pair {
	uint32_t peer;
	uint32_t next; /* request, or trace.n: none left */
	uint32_t flying;
	int64_t heard_ns; /* last word about one of them */
	bool lost;        /* dead, or silent for too long */
	bool away;        /* dead, but it may come back: it is of another job, or is started again */
	uint64_t epoch;   /* of the process that is dead, or there */
	uint32_t *redo;   /* [window] requests that were under way when it died */
	uint32_t redo_n;
	uint32_t back; /* times that it has come back, seen so far */
};

struct decode {
	struct replay *r;
	struct pair *pair;                 /* [prefill_n] */
	struct recv *flying;               /* table sent, not arrived */
	struct recv *landed, **landed_end; /* arrived, to be checked */
	struct replay_take take;
	uint32_t errors_said;
};

static void seek(struct decode *d, uint32_t p)
{
	d->pair[p].next = replay_take_next(d->r, p, d->pair[p].next);
}

static void recv_free(struct decode *d, struct recv *v, bool blocks_too)
{
	replay_take_unpin(&d->take, v->hit, v->hit_n);
	if (blocks_too && !perf_pool_give(&d->r->pool, v->block, v->n)) {
		perf_job_say(&d->r->job, "bug: request %u frees blocks that it does not hold", v->request);
		d->r->res.fatal++;
	}
	mc_counter_close(v->counter);
	free(v->hit);
	free(v->block);
	free(v);
}

static void count_failed(struct decode *d, uint32_t request, const char *why)
{
	d->r->res.failed++;
	if (d->errors_said++ < ERRORS_SAID)
		perf_job_say(&d->r->job, "request %u failed: %s", request, why);
}

/* The pair is of no more use: its requests, under way or still to come, have failed. */
static void lose_pair(struct decode *d, uint32_t p, const char *why, bool blocks_too)
{
	struct replay *r = d->r;
	struct pair *pair = &d->pair[p];
	uint32_t n = 0;
	char who[64];

	pair->lost = true;
	for (struct recv **at = &d->flying; *at != NULL;) {
		struct recv *v = *at;
		if (v->prefill != p) {
			at = &v->next;
			continue;
		}
		*at = v->next;
		/* a peer that is merely silent may still write: its blocks are not used again */
		recv_free(d, v, blocks_too);
		n++;
	}
	pair->flying = 0;
	for (seek(d, p); pair->next < r->trace.n; seek(d, p)) {
		pair->next++;
		n++;
	}
	r->res.failed += n;
	if (n > 0)
		perf_job_say(&r->job, "%s %s: %u requests lost", perf_job_name(&r->job, pair->peer, who, sizeof(who)),
			     why, n);
}

/*
 * A prefill rank has died and may come back: what it was asked for is asked for once more then. now: the process that
 * it is, if it is back already; 0: it is not. What that process was asked for is under way.
 */
static void suspend_pair(struct decode *d, uint32_t p, uint64_t now)
{
	struct pair *pair = &d->pair[p];
	char who[64];

	pair->flying = 0;
	for (struct recv **at = &d->flying; *at != NULL;) {
		struct recv *v = *at;
		if (v->prefill != p || v->epoch == now) {
			pair->flying += v->prefill == p;
			at = &v->next;
			continue;
		}
		*at = v->next;
		pair->redo[pair->redo_n++] = v->request;
		recv_free(d, v, true);
	}
	pair->away = true;
	pair->heard_ns = perf_now_ns();
	perf_job_say(&d->r->job, "%s died: %u requests wait for its return",
		     perf_job_name(&d->r->job, pair->peer, who, sizeof(who)), pair->redo_n);
}

/* Of this job the launcher's word counts, of another one the directory's. */
static bool is_back(struct replay *r, struct pair *pair)
{
	if (r->o.with_n != 0)
		return replay_other_back(r, pair->peer, &pair->epoch);
	if (r->job.dead[pair->peer] || perf_job_down(&r->job, pair->peer))
		return false;
	pair->back = r->job.back[pair->peer];
	return true;
}

static void check_away(struct decode *d, uint32_t p)
{
	struct replay *r = d->r;
	struct pair *pair = &d->pair[p];
	char who[64];

	if (is_back(r, pair)) {
		pair->away = false;
		perf_job_say(&r->job, "%s is back", perf_job_name(&r->job, pair->peer, who, sizeof(who)));
	} else if (r->o.with_n == 0 ? r->job.dead[pair->peer]
				    : perf_now_ns() - pair->heard_ns > r->o.request_timeout_ns + GRACE_NS) {
		r->res.failed += pair->redo_n;
		pair->redo_n = 0;
		lose_pair(d, p, "did not come back", true);
	}
}

/* Has it died, for good or not? */
static void check_death(struct decode *d, uint32_t p)
{
	struct replay *r = d->r;
	struct pair *pair = &d->pair[p];

	if (r->o.with_n != 0) {
		if (r->job.dead[pair->peer])
			suspend_pair(d, p, 0);
	} else if (perf_job_down(&r->job, pair->peer)) {
		suspend_pair(d, p, 0);
	} else if (pair->back != r->job.back[pair->peer]) {
		suspend_pair(d, p, perf_job_epoch(&r->job, pair->peer));
	} else if (r->job.dead[pair->peer]) {
		lose_pair(d, p, "died", true);
	}
}

static void check_pairs(struct decode *d)
{
	struct replay *r = d->r;
	int64_t now = perf_now_ns();

	if (perf_job_faults(&r->job))
		return; /* first take the notes that the dead had still sent */
	for (uint32_t p = 0; p < r->prefill_n; p++) {
		struct pair *pair = &d->pair[p];
		if (pair->lost)
			continue;
		if (pair->away)
			check_away(d, p);
		else
			check_death(d, p);
		if (!pair->lost && !pair->away && pair->flying > 0 &&
		    now - pair->heard_ns > r->o.request_timeout_ns + GRACE_NS)
			lose_pair(d, p, "is silent", false);
	}
}

/* ---- admission
 * --------------------------------------------------------------------------------------------------------- */

/* Blocks for what the pool does not hold already. */
static bool take_blocks(struct decode *d, struct recv *v)
{
	struct replay *r = d->r;

	v->hit = replay_take_hits(&d->take, v->request, &v->hit_n);
	v->first = v->hit_n * r->per_hash;
	v->n = replay_block_count(r, v->request) - v->first;
	v->block = calloc((size_t)v->n + 1, sizeof(*v->block));
	return v->hit != NULL && v->block != NULL && replay_take_blocks(&d->take, v->n, v->block);
}

/* The block table, in as many notes as it takes. */
static bool send_table(struct decode *d, const struct recv *v)
{
	struct replay *r = d->r;
	uint32_t at = 0;

	do {
		uint32_t part = v->n - at < TABLE_PER_NOTE ? v->n - at : TABLE_PER_NOTE;
		struct perf_wr w;
		perf_wr_init(&w, r->job.buf, MC_NOTE_MAX);
		perf_wr_u32(&w, r->pool_n);
		perf_wr_u32(&w, v->first);
		perf_wr_u32(&w, v->n);
		perf_wr_u32(&w, at);
		for (uint32_t i = 0; i < part; i++)
			perf_wr_u32(&w, v->block[at + i]);
		if (!perf_job_send(&r->job, d->pair[v->prefill].peer, perf_tag(PERF_K_REQ, v->request), r->job.buf,
				   perf_wr_len(&w)))
			return false;
		at += part;
	} while (at < v->n);
	return true;
}

/* The pair's next request; trace.n: none left. */
static uint32_t next_of(const struct pair *pair)
{
	return pair->redo_n > 0 ? pair->redo[pair->redo_n - 1] : pair->next;
}

static void step(struct decode *d, uint32_t p)
{
	if (d->pair[p].redo_n > 0) {
		d->pair[p].redo_n--;
		return;
	}
	d->pair[p].next++;
	seek(d, p);
}

/* It has died, but may come back: check_pairs() will see to it. */
static bool may_return(const struct replay *r, uint32_t peer)
{
	return perf_job_down(&r->job, peer) || (r->o.with_n != 0 && r->job.dead[peer]);
}

/* Start the pair's next request. false: no blocks for it now; it stays the next one. */
static bool admit(struct decode *d, uint32_t p)
{
	struct replay *r = d->r;
	struct pair *pair = &d->pair[p];
	struct recv *v = calloc(1, sizeof(*v));
	mc_status_t s;

	if (v == NULL)
		return false;
	v->request = next_of(pair);
	v->prefill = p;
	if (!take_blocks(d, v)) {
		recv_free(d, v, false);
		return false;
	}
	step(d, p);
	v->epoch = perf_job_epoch(&r->job, pair->peer);
	s = mc_counter_open(r->job.ctx, perf_tag(PERF_K_DONE, v->request), pair->peer, &v->counter);
	v->sent_ns = perf_now_ns();
	if (s == MC_ERR_PEER_DOWN)
		perf_job_mark_dead(&r->job, pair->peer);
	if (s == MC_OK && !send_table(d, v))
		s = MC_ERR_PEER_DOWN;
	if (s != MC_OK && may_return(r, pair->peer)) {
		pair->redo[pair->redo_n++] = v->request; /* until it is back */
		recv_free(d, v, true);
		return true;
	}
	if (s != MC_OK) {
		count_failed(d, v->request, mc_status_text(s));
		recv_free(d, v, true);
		return true;
	}
	if (pair->flying++ == 0)
		pair->heard_ns = v->sent_ns;
	v->next = d->flying;
	d->flying = v;
	return true;
}

/* Start what may start, in the order of the trace. *wait_ns: how long until the next one is due at the latest. */
static bool admit_all(struct decode *d, int64_t *wait_ns)
{
	struct replay *r = d->r;
	bool any = false;

	for (;;) {
		uint32_t best = MC_NO_RANK;
		int64_t now = perf_now_ns(), due;
		for (uint32_t p = 0; p < r->prefill_n; p++) {
			struct pair *pair = &d->pair[p];
			if (pair->lost || pair->away || next_of(pair) >= r->trace.n || pair->flying >= r->o.window ||
			    may_return(r, pair->peer))
				continue;
			if (best == MC_NO_RANK || next_of(pair) < next_of(&d->pair[best]))
				best = p;
		}
		if (best == MC_NO_RANK)
			return any;
		due = replay_take_due_ns(r, next_of(&d->pair[best]));
		if (due > now) {
			*wait_ns = due - now < *wait_ns ? due - now : *wait_ns;
			return any;
		}
		if (!admit(d, best)) {
			if (d->flying != NULL || d->landed != NULL)
				return any; /* blocks come back when those end */
			/* only after a silent peer took blocks with it for good */
			count_failed(d, next_of(&d->pair[best]), "the pool has no room left for it");
			step(d, best);
		}
		any = true;
	}
}

/* ---- arrival
 * ----------------------------------------------------------------------------------------------------------- */

static struct recv *take_flying(struct decode *d, const struct mc_note *note)
{
	for (struct recv **at = &d->flying; *at != NULL; at = &(*at)->next) {
		struct recv *v = *at;
		if (v->request != perf_tag_number(note->tag) || d->pair[v->prefill].peer != note->peer ||
		    v->epoch != note->epoch)
			continue;
		*at = v->next;
		d->pair[v->prefill].flying--;
		d->pair[v->prefill].heard_ns = perf_now_ns();
		return v;
	}
	return NULL;
}

static void arrived(struct decode *d, struct recv *v)
{
	struct replay *r = d->r;
	uint64_t count = mc_counter_read(v->counter);

	(void)perf_samples_add(&r->gather.samples[PERF_S_HANDOFF], (uint64_t)(perf_now_ns() - v->sent_ns));
	if (count != 1) {
		perf_job_say(&r->job, "request %u: its note came with a counter of %" PRIu64 " instead of 1",
			     v->request, count);
		r->res.fatal++;
		replay_stop(r);
	}
	v->next = NULL;
	*d->landed_end = v;
	d->landed_end = &v->next;
}

static void take_note(struct decode *d, const struct mc_note *note)
{
	struct replay *r = d->r;
	struct recv *v;
	struct perf_rd rd;

	switch (perf_tag_kind(note->tag)) {
	case PERF_K_DONE:
		v = take_flying(d, note);
		if (v != NULL)
			arrived(d, v);
		return;
	case PERF_K_FAIL:
		v = take_flying(d, note);
		if (v == NULL)
			return;
		perf_rd_init(&rd, note->data, note->len);
		count_failed(d, v->request, mc_status_text((mc_status_t) - (int32_t)perf_rd_u32(&rd)));
		recv_free(d, v, true); /* a put that has ended writes nothing any more */
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

static void count_arrived(struct replay *r, const struct recv *v)
{
	uint32_t input = r->trace.req[v->request].input, before = v->first * r->block_tokens;

	r->res.ok++;
	r->res.tokens += input;
	r->res.tokens_moved += input > before ? input - before : 0;
	r->res.blocks += v->n;
	r->res.hit_blocks += v->first;
	r->res.bytes += replay_bytes(r, v->request, v->first);
}

/* Check and end the oldest request that arrived. */
static bool end_one(struct decode *d)
{
	struct replay *r = d->r;
	struct recv *v = d->landed;
	int64_t cpu;
	bool ok;

	if (v == NULL)
		return false;
	d->landed = v->next;
	if (d->landed == NULL)
		d->landed_end = &d->landed;
	cpu = replay_thread_cpu_ns();
	ok = !r->o.verify || replay_verify(r, v, &d->take.cache);
	r->res.check_ns += (uint64_t)(replay_thread_cpu_ns() - cpu);
	if (!ok) {
		r->res.failed++;
		recv_free(d, v, true);
		replay_stop(r);
		return true;
	}
	count_arrived(r, v);
	replay_take_keep(&d->take, v->request, v->hit_n, v->block, v->n);
	recv_free(d, v, false);
	perf_gather_progress(&r->gather, &r->job, r->res.ok, r->res.bytes, false);
	return true;
}

static bool all_done(const struct decode *d)
{
	for (uint32_t p = 0; p < d->r->prefill_n; p++) {
		if (d->pair[p].flying > 0 || (!d->pair[p].lost && next_of(&d->pair[p]) < d->r->trace.n))
			return false;
	}
	return d->landed == NULL;
}

static void work(struct decode *d)
{
	struct replay *r = d->r;

	while (!r->stop && !replay_overdue(r)) {
		int64_t wait_ns = IDLE_NS;
		struct mc_note *note = perf_job_note(&r->job, 0);
		if (note != NULL) {
			take_note(d, note);
			mc_note_free(note);
			continue;
		}
		check_pairs(d);
		if (admit_all(d, &wait_ns) || end_one(d))
			continue;
		if (all_done(d))
			return;
		perf_gather_progress(&r->gather, &r->job, r->res.ok, r->res.bytes, false);
		note = perf_job_note(&r->job, wait_ns);
		if (note != NULL)
			take_note(d, note);
		mc_note_free(note);
	}
}

static bool begin(struct decode *d)
{
	struct replay *r = d->r;

	d->landed_end = &d->landed;
	d->pair = calloc(r->prefill_n, sizeof(*d->pair));
	if (r->o.with_n != 0)
		r->end_told = calloc(r->o.with_n, sizeof(*r->end_told));
	if (!replay_take_begin(&d->take, r) || d->pair == NULL || (r->o.with_n != 0 && r->end_told == NULL))
		return false;
	for (uint32_t p = 0; p < r->prefill_n; p++) {
		d->pair[p].peer = mc_group_peer(r->job.prefill, p);
		d->pair[p].epoch = perf_job_epoch(&r->job, d->pair[p].peer);
		d->pair[p].redo = calloc(r->o.window, sizeof(*d->pair[p].redo));
		if (d->pair[p].redo == NULL)
			return false;
		seek(d, p);
	}
	return true;
}

static void end(struct decode *d)
{
	struct replay *r = d->r;

	while (d->flying != NULL || d->landed != NULL) {
		struct recv **at = d->flying != NULL ? &d->flying : &d->landed;
		struct recv *v = *at;
		*at = v->next;
		recv_free(d, v, false);
	}
	r->res.not_run = d->take.mine_n - r->res.ok - r->res.failed;
	for (uint32_t p = 0; d->pair != NULL && p < r->prefill_n; p++) {
		if (r->o.with_n == 0)
			(void)perf_job_send(&r->job, d->pair[p].peer, perf_tag(PERF_K_END, 0), NULL, 0);
		free(d->pair[p].redo);
	}
	replay_other_end(r);
	perf_gather_progress(&r->gather, &r->job, r->res.ok, r->res.bytes, true);
	replay_take_end(&d->take);
	free(d->pair);
}

void replay_decode(struct replay *r)
{
	struct decode d = {.r = r};

	if (begin(&d)) {
		work(&d);
	} else {
		perf_job_say(&r->job, "out of memory");
		r->res.fatal++;
		replay_stop(r);
	}
	end(&d);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A decode rank of an instance. The leader gives each request blocks, the same on all its ranks, and tells them and the
 * prefill instance which; each rank waits until its counter says that all its sources have written, and checks its
 * part. The leader frees the blocks when all ranks have checked.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "replay_cut.h"
#include "replay_other.h"
#include "replay_take.h"

#define IDLE_NS  INT64_C(50000000)
#define POLL_NS  INT64_C(1000000)
#define GRACE_NS INT64_C(5000000000) /* the prefill rank's own deadline comes first */

struct recv {
	struct recv *next;
	struct replay_table *table;
	struct mc_counter *counter;
	uint32_t due;     /* sources of this rank */
	uint32_t waiting; /* leader: ranks of the instance that have not checked it */
	uint32_t *hit, hit_n;
	int64_t sent_ns;
	bool arrived;
};

/* Requests of one prefill instance, at the leader. */
struct pair {
	uint32_t next; /* request, or trace.n: none left */
	uint32_t flying;
};

struct decode {
	struct replay *r;
	struct pair *pair; /* [prefill_n] */
	struct recv *flying, **flying_end;
	struct replay_table *open;
	struct replay_take take;
	int64_t heard_ns; /* last word about one of them */
	bool stopped;     /* not the leader: there are no more */
};

static void seek(struct decode *d, uint32_t p)
{
	d->pair[p].next = replay_take_next(d->r, p, d->pair[p].next);
}

static void recv_free(struct decode *d, struct recv *v)
{
	replay_take_unpin(&d->take, v->hit, v->hit_n);
	mc_counter_close(v->counter);
	replay_table_free(v->table);
	free(v->hit);
	free(v);
}

/* Wait for this request from now on; takes v over. */
static void expect(struct decode *d, struct recv *v)
{
	struct replay *r = d->r;
	uint32_t request = v->table->request;
	mc_status_t s = mc_counter_open(r->job.ctx, perf_tag(PERF_K_DONE, request), MC_ANY_PEER, &v->counter);

	v->due = mc_reshard_sources(r->cut->reshard[r->route.prefill[request]], 0, 0);
	v->waiting = r->cut->lanes[KVP_DST];
	v->sent_ns = perf_now_ns();
	if (d->flying == NULL)
		d->heard_ns = v->sent_ns;
	*d->flying_end = v;
	d->flying_end = &v->next;
	if (s != MC_OK) {
		v->counter = NULL;
		replay_cut_fail(r, request, "cannot be counted", s);
	}
}

static void take_out(struct decode *d, struct recv **at)
{
	struct recv *v = *at;

	*at = v->next;
	if (d->flying_end == &v->next)
		d->flying_end = at;
}

/* ---- leader: admission
 * ------------------------------------------------------------------------------------------------ */

/* Start the pair's next request. false: no blocks for it now. */
static bool admit(struct decode *d, uint32_t p)
{
	struct replay *r = d->r;
	uint32_t request = d->pair[p].next, tokens;
	struct recv *v = calloc(1, sizeof(*v));
	bool sent;

	if (v == NULL)
		return false;
	v->hit = replay_take_hits(&d->take, request, &v->hit_n);
	if (v->hit != NULL) {
		tokens = r->trace.req[request].input - v->hit_n * PERF_TRACE_BLOCK;
		v->table = replay_table_new(request, tokens, (tokens + r->block_tokens - 1) / r->block_tokens, 0);
	}
	if (v->table == NULL || !replay_take_blocks(&d->take, v->table->dst_n, v->table->block)) {
		recv_free(d, v);
		return false;
	}
	d->pair[p].next++;
	seek(d, p);
	d->pair[p].flying++;
	sent = replay_table_send(r, replay_cut_peer(r, KVP_SRC, p, 0), v->table);
	for (uint32_t i = 1; i < r->cut->lanes[KVP_DST] && sent; i++)
		sent = replay_table_send(r, replay_cut_peer(r, KVP_DST, r->decode_pos, i), v->table);
	expect(d, v);
	if (!sent)
		replay_cut_fail(r, request, "its table cannot be sent", MC_ERR_PEER_DOWN);
	return true;
}

/* Start what may start, in the order of the trace. *wait_ns: how long until the next one is due at the latest. */
static bool admit_all(struct decode *d, int64_t *wait_ns)
{
	struct replay *r = d->r;
	bool any = false;

	while (!r->stop) {
		uint32_t best = MC_NO_RANK;
		int64_t now = perf_now_ns(), due;
		for (uint32_t p = 0; p < r->prefill_n; p++) {
			struct pair *pair = &d->pair[p];
			if (pair->next >= r->trace.n || pair->flying >= r->o.window)
				continue;
			if (best == MC_NO_RANK || pair->next < d->pair[best].next)
				best = p;
		}
		if (best == MC_NO_RANK)
			return any;
		due = replay_take_due_ns(r, d->pair[best].next);
		if (due > now) {
			*wait_ns = due - now < *wait_ns ? due - now : *wait_ns;
			return any;
		}
		if (!admit(d, best)) {
			if (d->flying == NULL)
				replay_cut_fail(r, d->pair[best].next, "no room for it", MC_ERR_NOMEM);
			return any; /* blocks come back when those under way end */
		}
		any = true;
	}
	return any;
}

/* ---- arrival
 * ----------------------------------------------------------------------------------------------------------- */

/* Leader: one more rank of the instance has checked its part. */
static void lane_done(struct decode *d, uint32_t request)
{
	struct replay *r = d->r;

	for (struct recv **at = &d->flying; *at != NULL; at = &(*at)->next) {
		struct recv *v = *at;
		uint32_t input = r->trace.req[request].input;
		if (v->table->request != request)
			continue;
		d->heard_ns = perf_now_ns();
		if (--v->waiting > 0)
			return;
		take_out(d, at);
		d->pair[r->route.prefill[request]].flying--;
		r->res.ok++;
		r->res.tokens += input;
		r->res.tokens_moved += v->table->tokens;
		r->res.blocks += v->table->dst_n;
		r->res.hit_blocks += v->hit_n * r->per_hash;
		replay_take_keep(&d->take, request, v->hit_n, v->table->block, v->table->dst_n);
		recv_free(d, v);
		perf_gather_progress(&r->gather, &r->job, r->res.ok, r->res.bytes, false);
		return;
	}
}

static bool check(struct decode *d, const struct recv *v)
{
	struct replay *r = d->r;
	const struct replay_table *t = v->table;
	struct kvperf_view view = replay_cut_view(r, t->request, t->tokens, t->block);
	int64_t cpu = replay_thread_cpu_ns();
	struct kvperf_bad bad;
	uint64_t bytes = 0;
	bool ok = !r->o.verify || kvperf_check(&view, &bad, &bytes);
	char who[64];

	r->res.check_ns += (uint64_t)(replay_thread_cpu_ns() - cpu);
	r->res.verified += bytes;
	if (ok)
		return true;
	perf_job_say(&r->job,
		     "%s: wrong byte: request %u layer %u %s token %u of those moved, head %u, byte %" PRIu64
		     ": expected 0x%02x, found 0x%02x",
		     perf_job_name(&r->job, r->job.rank, who, sizeof(who)), t->request, bad.layer,
		     r->cut->shape.kv_n == 1 ? "latent"
		     : bad.kv == 0           ? "K"
					     : "V",
		     bad.token, bad.head, bad.byte.off, bad.byte.expected, bad.byte.actual);
	r->res.wrong++;
	r->res.failed++;
	replay_stop(r);
	return false;
}

/* Check the oldest request whose parts are all here; false: none. */
static bool end_one(struct decode *d)
{
	struct replay *r = d->r;
	struct recv **at = &d->flying, *v;
	uint32_t request;

	while (*at != NULL && ((*at)->arrived || mc_counter_read((*at)->counter) < (*at)->due))
		at = &(*at)->next;
	v = *at;
	if (v == NULL)
		return false;
	v->arrived = true;
	request = v->table->request;
	d->heard_ns = perf_now_ns();
	if (mc_counter_read(v->counter) != v->due)
		replay_cut_fail(r, request, "it was counted more than once", MC_ERR_INTERNAL);
	if (!check(d, v))
		return true;
	r->res.bytes += replay_cut_bytes(r, v->table->tokens);
	if (replay_cut_leads(r)) {
		(void)perf_samples_add(&r->gather.samples[PERF_S_HANDOFF], (uint64_t)(d->heard_ns - v->sent_ns));
		lane_done(d, request);
		return true;
	}
	(void)perf_job_send(&r->job, replay_cut_peer(r, KVP_DST, r->decode_pos, 0), perf_tag(PERF_K_DONE, request),
			    NULL, 0);
	take_out(d, at);
	recv_free(d, v);
	return true;
}

static void take_table(struct decode *d, const struct mc_note *note)
{
	struct replay *r = d->r;
	struct replay_table *t;
	struct recv *v;

	if (replay_cut_leads(r) || !replay_table_take(r, note, &d->open, &t)) {
		replay_table_refuse(r, note);
		return;
	}
	if (t == NULL)
		return;
	v = calloc(1, sizeof(*v));
	if (v == NULL) {
		replay_cut_fail(r, t->request, "no room for its table", MC_ERR_NOMEM);
		replay_table_free(t);
		return;
	}
	v->table = t;
	expect(d, v);
}

static void take_note(struct decode *d, const struct mc_note *note)
{
	struct replay *r = d->r;

	switch (perf_tag_kind(note->tag)) {
	case PERF_K_REQ:
		take_table(d, note);
		return;
	case PERF_K_DONE:
		if (replay_cut_leads(r) && perf_tag_number(note->tag) < r->trace.n)
			lane_done(d, (uint32_t)perf_tag_number(note->tag));
		return;
	case PERF_K_END:
		d->stopped = true;
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

static bool all_done(const struct decode *d)
{
	if (d->flying != NULL || d->open != NULL)
		return false;
	if (!replay_cut_leads(d->r))
		return d->stopped;
	for (uint32_t p = 0; p < d->r->prefill_n; p++) {
		if (d->pair[p].next < d->r->trace.n)
			return false;
	}
	return true;
}

static void check_silence(struct decode *d)
{
	struct replay *r = d->r;

	replay_cut_watch(r);
	if (d->flying != NULL && perf_now_ns() - d->heard_ns > r->o.request_timeout_ns + GRACE_NS)
		replay_cut_fail(r, d->flying->table->request, "nothing arrives", MC_ERR_TIMEOUT);
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
		check_silence(d);
		if ((replay_cut_leads(r) && admit_all(d, &wait_ns)) || end_one(d))
			continue;
		if (all_done(d))
			return;
		perf_gather_progress(&r->gather, &r->job, r->res.ok, r->res.bytes, false);
		if (d->flying != NULL && !d->flying->arrived) {
			if (mc_counter_wait(d->flying->counter, d->flying->due, POLL_NS) != MC_OK)
				check_silence(d);
			continue;
		}
		note = perf_job_note(&r->job, d->flying != NULL ? POLL_NS : wait_ns);
		if (note != NULL)
			take_note(d, note);
		mc_note_free(note);
	}
}

static bool begin(struct decode *d)
{
	struct replay *r = d->r;

	d->flying_end = &d->flying;
	d->pair = calloc(r->prefill_n, sizeof(*d->pair));
	if (!replay_take_begin(&d->take, r) || d->pair == NULL)
		return false;
	for (uint32_t p = 0; p < r->prefill_n; p++)
		seek(d, p);
	return true;
}

static void end(struct decode *d)
{
	struct replay *r = d->r;

	while (d->flying != NULL) {
		struct recv *v = d->flying;
		d->flying = v->next;
		recv_free(d, v);
	}
	for (struct replay_table *t = d->open, *next; t != NULL; t = next) {
		next = t->next;
		replay_table_free(t);
	}
	if (replay_cut_leads(r)) {
		uint64_t known = r->res.ok + r->res.failed;
		r->res.not_run = d->take.mine_n > known ? d->take.mine_n - known : 0;
		for (uint32_t p = 0; p < r->prefill_n; p++)
			(void)perf_job_send(&r->job, replay_cut_peer(r, KVP_SRC, p, 0), perf_tag(PERF_K_END, 0), NULL,
					    0);
		replay_cut_tell_lanes(r, perf_tag(PERF_K_END, 0), NULL, 0);
	}
	perf_gather_progress(&r->gather, &r->job, r->res.ok, r->res.bytes, true);
	replay_take_end(&d->take);
	free(d->pair);
}

void replay_cut_decode(struct replay *r)
{
	struct decode d = {.r = r};

	if (begin(&d))
		work(&d);
	else
		replay_cut_fail(r, 0, "before it", MC_ERR_NOMEM);
	end(&d);
}

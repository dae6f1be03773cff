/* SPDX-License-Identifier: BSD-3-Clause */
#include "replay_other.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TELL_NS INT64_C(2000000000)
#define LOOK_NS INT64_C(100000000) /* between two looks at what the other side says */

bool replay_other_parse(const char *text, struct replay_opts *o, struct perf_err *err)
{
	const char *colon = strrchr(text, ':');
	uint64_t n;

	if (colon == NULL || colon == text || (size_t)(colon - text) >= sizeof(o->with_job) ||
	    !perf_parse_u64(colon + 1, 1, PERF_PATTERN_RANKS, &n)) {
		perf_err_set(err, "--with %s: must be JOB:N, the other job's name (its MC_JOB) and number of ranks",
			     text);
		return false;
	}
	memcpy(o->with_job, text, (size_t)(colon - text));
	o->with_job[colon - text] = '\0';
	o->with_n = (uint32_t)n;
	if (strpbrk(o->with_job, "*?[\\") != NULL)
		perf_err_set(err, "--with %s: must name one job, not a pattern", text);
	return !perf_err_is_set(err);
}

/* ---- what both have to have in common
 * --------------------------------------------------------------------------------------- */

static bool add_side(struct replay *r, int s)
{
	static const char *const names[KVP_SIDES][3] = {{"--src", "--src-block", "--src-layout"},
							{"--dst", "--dst-block", "--dst-layout"}};
	const struct kvperf_side *side = &r->o.side[s];
	struct replay_fit *f = &r->fit;
	char layout[KVP_NAME_MAX];

	if (side->tp == 0)
		return replay_fit_add(f, names[s][0], "none");
	kvperf_layout_text(side, layout);
	return (side->pp == 1 ? replay_fit_add(f, names[s][0], "tp=%" PRIu64, side->tp)
			      : replay_fit_add(f, names[s][0], "tp=%" PRIu64 ",pp=%" PRIu64, side->tp, side->pp)) &&
	       replay_fit_add(f, names[s][1], "%" PRIu64, side->block_tokens) &&
	       replay_fit_add(f, names[s][2], "%s", layout);
}

/*
 * Only what a prefill and a decode rank both use. --window, --speed and --no-verify are the decode job's own, and
 * --pool, --timeout, --transport and the like each job's.
 */
static bool make_fit(struct replay *r, struct perf_err *err)
{
	struct replay_fit *f = &r->fit;

	*f = (struct replay_fit){.n = r->job.size, .with_n = r->o.with_n};
	snprintf(f->program, sizeof(f->program), "%s", mc_version());
	snprintf(f->with, sizeof(f->with), "%s", r->o.with_job);
	if (replay_fit_add(f, "--requests", "%u", r->trace.n) &&
	    replay_fit_add(f, "--trace", "of digest %016" PRIx64, replay_trace_digest(&r->trace)) &&
	    replay_fit_add(f, "--model", "%s", r->model->alias) && replay_fit_add(f, "--layers", "%u", r->layers) &&
	    replay_fit_add(f, "--kv-bytes", "%" PRIu64,
			   r->o.kv_bytes != 0 ? r->o.kv_bytes : (uint64_t)r->model->dtype_bytes) &&
	    replay_fit_add(f, "--seed", "%" PRIu64, r->o.seed) &&
	    replay_fit_add(f, "--route", "%s", r->o.route == PERF_ROUTE_PREFIX ? "prefix" : "rr") &&
	    add_side(r, KVP_SRC) && add_side(r, KVP_DST) &&
	    (r->o.side[KVP_SRC].tp != 0 || replay_fit_add(f, "--block-tokens", "%u", r->block_tokens)))
		return true;
	perf_err_set(err, "bug: no room for the options that two jobs have to have in common");
	return false;
}

/* Waits until it left: the other side is to say the same before either goes. Once is enough for a process. */
static bool tell_fit(struct replay *r, const struct mc_peer_info *to, bool asks)
{
	uint8_t buf[REPLAY_FIT_BYTES];
	struct mc_req *req = NULL;
	mc_status_t s = MC_OK;

	if (r->fit_told == to->epoch)
		return true;
	r->fit.asks = asks;
	s = mc_note_send(r->job.ctx, to->peer, perf_tag(PERF_K_FIT, 0), buf, replay_fit_write(&r->fit, buf), &req);
	if (s == MC_OK)
		s = mc_req_wait(req, TELL_NS);
	mc_req_free(req);
	if (s == MC_OK)
		r->fit_told = to->epoch;
	return s == MC_OK;
}

static void judge_fit(struct replay *r, const struct mc_note *note, const struct mc_peer_info *info,
		      struct perf_err *err)
{
	struct mc_peer_info me = {.size = sizeof(me)};
	struct replay_fit theirs;

	switch (replay_fit_read(note->data, note->len, &theirs)) {
	case REPLAY_FIT_OTHER_VERSION:
		perf_err_set(err, "job %s runs mcperf %s, this one %s, and they do not understand each other",
			     info->job, theirs.program, mc_version());
		break;
	case REPLAY_FIT_MALFORMED:
		perf_err_set(err, "job %s sent a malformed record of its options: other version of mcperf?", info->job);
		break;
	case REPLAY_FIT_OK:
		if (mc_peer_query(r->job.ctx, r->job.rank, &me) == MC_OK)
			(void)replay_fit_compare(&r->fit, me.job, &theirs, info->job, err);
		break;
	}
}

/*
 * The record of another job's rank 0. Whoever asks gets ours, also who is not the job that is looked for: then it
 * knows. true: it is that job; err says whether the two do not fit.
 */
static bool hear_fit(struct replay *r, const struct mc_note *note, struct perf_err *err)
{
	struct mc_peer_info info = {.size = sizeof(info)};
	struct replay_fit theirs;

	if (note->peer < r->job.size || mc_peer_query(r->job.ctx, note->peer, &info) != MC_OK ||
	    info.epoch != note->epoch)
		return false; /* late word of a process that is no more */
	if (replay_fit_read(note->data, note->len, &theirs) != REPLAY_FIT_MALFORMED && theirs.asks)
		(void)tell_fit(r, &info, false);
	if (strcmp(info.job, r->o.with_job) != 0 || info.rank != 0)
		return false;
	judge_fit(r, note, &info, err);
	return true;
}

/* ---- the start
 * -------------------------------------------------------------------------------------------------------- */

static uint32_t first_other(const struct replay *r)
{
	return mc_group_peer(r->prefill_pos != MC_NO_RANK ? r->job.decode : r->job.prefill, 0);
}

/* Once to a process, as its record: also to one whose predecessor's death has not been dealt with yet. */
static void tell_prepared(struct replay *r, bool asks)
{
	uint64_t epoch = perf_job_epoch(&r->job, first_other(r));
	uint8_t buf[4];
	struct perf_wr w;

	if (r->prepared_told == epoch)
		return;
	perf_wr_init(&w, buf, sizeof(buf));
	perf_wr_u32(&w, asks ? 1 : 0);
	if (mc_note_send(r->job.ctx, first_other(r), perf_tag(PERF_K_PREPARED, 0), buf, perf_wr_len(&w), NULL) == MC_OK)
		r->prepared_told = epoch;
}

/* false: not of the process that rank 0 of the other job is. */
static bool hear_prepared(struct replay *r, const struct mc_note *note)
{
	struct perf_rd rd;
	uint32_t asks;

	perf_rd_init(&rd, note->data, note->len);
	asks = perf_rd_u32(&rd);
	if (!perf_rd_end(&rd) || note->peer != first_other(r) || note->epoch != perf_job_epoch(&r->job, note->peer))
		return false;
	if (asks != 0)
		tell_prepared(r, false);
	return true;
}

void replay_other_start(struct replay *r, struct perf_err *err)
{
	int64_t deadline = perf_now_ns() + 2 * REPLAY_START_NS;
	bool prepared = false;
	char who[64];

	if (r->o.with_n == 0 || r->job.rank != 0)
		return;
	tell_prepared(r, true);
	while (!prepared && !perf_err_is_set(err)) {
		struct mc_note *note = perf_job_note_of(&r->job, PERF_K_PREPARED, LOOK_NS);
		perf_job_faults(&r->job);
		if (note != NULL)
			prepared = hear_prepared(r, note);
		else if (perf_job_others_here(&r->job, err) && perf_now_ns() > deadline)
			perf_err_set(err, "%s of job %s does not get ready",
				     perf_job_name(&r->job, first_other(r), who, sizeof(who)), r->o.with_job);
		mc_note_free(note);
	}
}

void replay_other_note(struct replay *r, const struct mc_note *note)
{
	enum perf_kind kind = perf_tag_kind(note->tag);
	struct perf_err err = {""};

	if (r->o.with_n != 0 && kind == PERF_K_PREPARED)
		(void)hear_prepared(r, note);
	else if (r->o.with_n != 0 && kind == PERF_K_FIT && hear_fit(r, note, &err) && perf_err_is_set(&err))
		perf_job_say(&r->job, "not taken: %s", err.text);
}

/* ---- finding each other
 * ----------------------------------------------------------------------------------------------- */

struct finder {
	struct replay *r;
	struct perf_err *err;
	const char *role; /* of the ranks that are looked for */
	int64_t deadline;
	uint32_t *peer, n; /* [with_n] */
	uint32_t first;    /* rank 0 of the other job; MC_NO_RANK: not met yet */
	uint64_t fits;     /* the process of it whose record has been seen and fits; 0: none */
};

/* The one that is asked, or has said what it plays, is no more. */
static bool first_left(const struct finder *f)
{
	struct mc_peer_info info = {.size = sizeof(info)};

	return f->first != MC_NO_RANK && mc_peer_query(f->r->job.ctx, f->first, &info) == MC_OK &&
	       ((info.state != MC_OK && info.state != MC_IN_PROGRESS) || (f->fits != 0 && f->fits != info.epoch));
}

static int64_t left_ns(const struct finder *f)
{
	int64_t left = f->deadline - perf_now_ns();

	return left > 0 ? left : 0;
}

/* While this rank waits for others: what they say and ask meanwhile. false: it is over, err says why. */
static bool listen_to_others(struct finder *f, int64_t timeout_ns)
{
	struct perf_job *j = &f->r->job;
	bool left = first_left(f); /* what it said before it left comes first */
	struct mc_note *note = perf_job_note_of(j, PERF_K_FIT, left ? 0 : timeout_ns);

	for (; note != NULL; note = perf_job_note_of(j, PERF_K_FIT, 0)) {
		if (hear_fit(f->r, note, f->err)) {
			f->fits = note->epoch;
			f->first = note->peer; /* also if the directory does not tell of it yet */
		}
		mc_note_free(note);
	}
	if (left)
		perf_err_set(f->err, "%s.0 (peer %u) of job %s left before the start%s", f->role, f->first,
			     f->r->o.with_job, replay_other_hint(f->r, MC_ERR_PEER_DOWN));
	if (j->rank != 0 && perf_job_called_off(j))
		perf_err_set(f->err, "called off by rank 0");
	return !perf_err_is_set(f->err);
}

/* Until so many ranks of the other job are there. */
static bool wait_for(struct finder *f, uint32_t min_n)
{
	struct mc_ctx *ctx = f->r->job.ctx;
	const struct replay_opts *o = &f->r->o;
	mc_status_t s;

	for (;;) {
		int64_t left = left_ns(f);
		s = mc_peer_find(ctx, f->role, o->with_job, min_n, left < LOOK_NS ? left : LOOK_NS, f->peer, o->with_n,
				 &f->n);
		if (s == MC_OK || !listen_to_others(f, 0))
			return s == MC_OK;
		if ((s != MC_ERR_TIMEOUT && s != MC_ERR_DIRECTORY) || left == 0)
			break;
	}
	if (s == MC_ERR_TIMEOUT && mc_peer_find(ctx, f->role, o->with_job, 0, 0, f->peer, o->with_n, &f->n) != MC_OK)
		f->n = 0;
	if (s == MC_ERR_UNSUPPORTED)
		perf_err_set(f->err,
			     "--with needs an etcd through which the jobs find each other: MC_ETCD (see man mc-env)");
	else if (s == MC_ERR_TIMEOUT)
		perf_err_set(f->err, "--with %s:%u: %u ranks with role %s of a job of that name (MC_JOB) have come",
			     o->with_job, o->with_n, f->n, f->role);
	else
		perf_err_set(f->err, "--with %s: %s", o->with_job, mc_status_text(s));
	return false;
}

/* One that is found may be dead all the same, for the rest of its lease: *lost_out, and its next process will do. */
static bool reach(struct finder *f, uint32_t peer, bool *lost_out)
{
	struct perf_job *j = &f->r->job;
	mc_status_t s = mc_connect(j->ctx, peer, left_ns(f));

	*lost_out = s == MC_ERR_PEER_DOWN && left_ns(f) > 0;
	perf_job_faults(j);
	if (!perf_job_know(j, peer))
		perf_err_set(f->err, "out of memory");
	else if (s == MC_OK)
		perf_job_revive(j, peer);
	else if (!*lost_out)
		perf_err_set(f->err, "--with %s: cannot reach %s peer %u: %s", f->r->o.with_job, f->role, peer,
			     mc_status_text(s));
	return !perf_err_is_set(f->err);
}

/*
 * Rank `rank` is not where it belongs in the list, which is sorted: it has not come yet, and those behind it may be the
 * dead of a job of that name whose leases still run. false: it is over, err says why.
 */
static bool wait_for_rank(struct finder *f, uint32_t rank)
{
	int64_t left = left_ns(f);

	if (left == 0)
		perf_err_set(f->err,
			     "--with %s:%u: its rank %u has not come (of a job of that name, MC_JOB, with role %s)",
			     f->r->o.with_job, f->r->o.with_n, rank, f->role);
	else
		(void)listen_to_others(f, left < LOOK_NS ? left : LOOK_NS);
	return !perf_err_is_set(f->err);
}

static bool is_rank(const struct finder *f, uint32_t at)
{
	struct mc_peer_info info = {.size = sizeof(info)};

	return mc_peer_query(f->r->job.ctx, f->peer[at], &info) == MC_OK && info.rank == at;
}

/* Rank 0 of the other job, connected. */
static bool find_first(struct finder *f)
{
	bool lost;

	while (wait_for(f, 1)) {
		if (!is_rank(f, 0)) {
			if (!wait_for_rank(f, 0))
				return false;
			continue;
		}
		if (!reach(f, f->peer[0], &lost))
			return false;
		if (!lost) {
			f->first = f->peer[0];
			return true;
		}
	}
	return false;
}

/* Rank 0 of either job tells the other one what it plays. Both know at once if that does not fit, and end. */
static bool exchange(struct finder *f)
{
	struct mc_peer_info info = {.size = sizeof(info)};
	struct replay *r = f->r;

	if (!find_first(f))
		return false;
	/* also one whose record has come already: the answer to that may not have left */
	while (mc_peer_query(r->job.ctx, f->first, &info) == MC_OK &&
	       (!tell_fit(r, &info, true) || f->fits != info.epoch)) {
		int64_t left = left_ns(f);
		if (!listen_to_others(f, left < LOOK_NS ? left : LOOK_NS))
			break;
		if (left == 0 && f->fits != info.epoch)
			perf_err_set(f->err,
				     "%s.0 (peer %u) of job %s does not say what it plays: does it run the same "
				     "mcperf, and with --with?",
				     f->role, f->first, r->o.with_job);
		else if (left == 0 && r->fit_told != info.epoch)
			perf_err_set(f->err, "%s.0 (peer %u) of job %s cannot be told what this one plays", f->role,
				     f->first, r->o.with_job);
	}
	return !perf_err_is_set(f->err);
}

/* All ranks of the other job, in order, connected. Both jobs number them by that. */
static bool find_all(struct finder *f)
{
	bool again = true;

	while (again && wait_for(f, f->r->o.with_n)) {
		again = false;
		/* what comes behind these are the dead of a larger job of that name: rank 0 has said how many it has */
		for (uint32_t i = 0; i < f->r->o.with_n && !again && !perf_err_is_set(f->err); i++) {
			if (is_rank(f, i))
				(void)reach(f, f->peer[i], &again);
			else
				again = wait_for_rank(f, i);
		}
	}
	return !perf_err_is_set(f->err);
}

bool replay_other_one_role(const struct replay *r, struct perf_err *err)
{
	const struct perf_job *j = &r->job;
	const struct mc_group *mine = j->prefill != NULL ? j->prefill : j->decode;

	if (mc_group_size(mine) == j->size && (j->prefill == NULL || j->decode == NULL))
		return true;
	perf_err_set(err, "with --with all ranks of this job have one role: mcrun --prefill P ... or --decode D ...");
	return false;
}

bool replay_other_find(struct replay *r, struct perf_err *err)
{
	struct perf_job *j = &r->job;
	bool prefill = j->prefill != NULL;
	struct finder f = {.r = r, .err = err, .role = prefill ? "decode" : "prefill", .first = MC_NO_RANK};

	f.deadline = perf_now_ns() + replay_start_ns(r);
	f.peer = calloc(r->o.with_n, sizeof(*f.peer));
	if (f.peer == NULL)
		perf_err_set(err, "out of memory");
	else if (make_fit(r, err) && (j->rank != 0 || exchange(&f)) && find_all(&f) &&
		 mc_group_list(j->ctx, f.peer, r->o.with_n, prefill ? &j->decode : &j->prefill) != MC_OK)
		perf_err_set(err, "out of memory");
	free(f.peer);
	return !perf_err_is_set(err);
}

void replay_pool_name(const struct replay *r, char name[MC_NAME_MAX])
{
	if (r->o.with_n == 0)
		snprintf(name, MC_NAME_MAX, "kv");
	else
		snprintf(name, MC_NAME_MAX, "kv-%016" PRIx64, replay_fit_digest(&r->fit));
}

int64_t replay_start_ns(const struct replay *r)
{
	return r->o.timeout_ns < REPLAY_START_NS ? r->o.timeout_ns : REPLAY_START_NS;
}

const char *replay_other_hint(const struct replay *r, mc_status_t s)
{
	if (r->o.with_n == 0)
		return "";
	if (s == MC_ERR_PEER_DOWN)
		return " (its job says why; is it started with the same trace and options?)";
	return s == MC_ERR_TIMEOUT ? " (is it started with the same trace and options?)" : "";
}

uint32_t replay_writer(const struct replay *r, uint32_t prefill)
{
	return r->o.with_n == 0 ? mc_group_peer(r->job.prefill, prefill) : prefill;
}

static void tell_one(struct replay *r, uint32_t peer, uint64_t tag, int64_t deadline)
{
	struct mc_req *req = NULL;
	int64_t left = deadline - perf_now_ns();

	if (r->job.dead[peer] || mc_note_send(r->job.ctx, peer, tag, NULL, 0, &req) != MC_OK)
		return;
	(void)mc_req_wait(req, left > 0 ? left : 0);
	mc_req_free(req);
}

void replay_other_tell(struct replay *r, uint64_t tag)
{
	struct mc_group *other = r->prefill_pos == MC_NO_RANK ? r->job.prefill : r->job.decode;
	int64_t deadline = perf_now_ns() + TELL_NS;

	for (uint32_t i = 0; r->o.with_n != 0 && i < r->o.with_n && other != NULL; i++)
		tell_one(r, mc_group_peer(other, i), tag, deadline);
}

bool replay_other_back(struct replay *r, uint32_t peer, uint64_t *epoch)
{
	struct mc_peer_info info = {.size = sizeof(info)};

	if (mc_peer_query(r->job.ctx, peer, &info) != MC_OK || info.epoch == *epoch ||
	    (info.state != MC_OK && info.state != MC_IN_PROGRESS))
		return false;
	*epoch = info.epoch;
	perf_job_revive(&r->job, peer);
	return true;
}

void replay_other_end(struct replay *r)
{
	int64_t deadline = perf_now_ns() + TELL_NS;

	for (uint32_t i = 0; r->end_told != NULL && i < r->o.with_n; i++) {
		uint32_t peer = mc_group_peer(r->job.prefill, i);
		if (replay_other_back(r, peer, &r->end_told[i]))
			tell_one(r, peer, perf_tag(PERF_K_END, 0), deadline);
	}
}

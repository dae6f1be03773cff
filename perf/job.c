/* SPDX-License-Identifier: BSD-3-Clause */
#include "job.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct perf_stash {
	struct perf_stash *next;
	struct mc_note *note;
};

enum { SEND_FLUSH_MS = 2000 };

int64_t perf_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

mc_status_t perf_job_open(struct perf_job *j, const char *cmd, const char *transport)
{
	struct mc_params p = {.size = sizeof(p), .transport = transport};

	return perf_job_open_with(j, cmd, &p);
}

mc_status_t perf_job_open_with(struct perf_job *j, const char *cmd, const struct mc_params *p)
{
	mc_status_t s;

	*j = (struct perf_job){.cmd = cmd};
	s = mc_init(p, &j->ctx);
	if (s != MC_OK)
		return s;
	j->rank = mc_rank(j->ctx);
	j->size = mc_size(j->ctx);
	j->peer_n = j->size;
	j->dead = calloc(j->size, sizeof(*j->dead));
	j->down_ns = calloc(j->size, sizeof(*j->down_ns));
	j->back = calloc(j->size, sizeof(*j->back));
	j->back_told = calloc(j->size, sizeof(*j->back_told));
	j->buf = malloc(MC_NOTE_MAX);
	if (j->dead == NULL || j->down_ns == NULL || j->back == NULL || j->back_told == NULL || j->buf == NULL) {
		perf_job_say(j, "out of memory");
		perf_job_close(j);
		return MC_ERR_NOMEM;
	}
	if (mc_group_role(j->ctx, "prefill", &j->prefill) != MC_OK)
		j->prefill = NULL;
	if (mc_group_role(j->ctx, "decode", &j->decode) != MC_OK)
		j->decode = NULL;
	return MC_OK;
}

void perf_job_close(struct perf_job *j)
{
	struct perf_stash *s;

	while ((s = j->first) != NULL) {
		j->first = s->next;
		mc_note_free(s->note);
		free(s);
	}
	mc_group_free(j->prefill);
	mc_group_free(j->decode);
	if (j->ctx != NULL)
		mc_finalize(j->ctx);
	free(j->dead);
	free(j->down_ns);
	free(j->back);
	free(j->back_told);
	free(j->buf);
	*j = (struct perf_job){0};
}

uint32_t perf_job_leader(const struct perf_job *j)
{
	for (uint32_t r = 0; r < j->size; r++) {
		if (!j->dead[r])
			return r;
	}
	return j->rank;
}

void perf_job_mark_dead(struct perf_job *j, uint32_t peer)
{
	if (peer >= j->peer_n || peer == j->rank || j->dead[peer] || perf_job_down(j, peer))
		return;
	if (j->await_ns > 0 && peer < j->size) {
		j->down_ns[peer] = perf_now_ns();
		return;
	}
	j->dead[peer] = true;
	j->dead_n++;
}

bool perf_job_know(struct perf_job *j, uint32_t peer)
{
	bool *dead;

	if (peer < j->peer_n)
		return true;
	dead = reallocarray(j->dead, (size_t)peer + 1, sizeof(*dead));
	if (dead == NULL)
		return false;
	memset(dead + j->peer_n, 0, (peer + 1 - j->peer_n) * sizeof(*dead));
	j->dead = dead;
	j->peer_n = peer + 1;
	return true;
}

void perf_job_revive(struct perf_job *j, uint32_t peer)
{
	if (peer >= j->peer_n || !j->dead[peer])
		return;
	j->dead[peer] = false;
	j->dead_n--;
}

bool perf_job_down(const struct perf_job *j, uint32_t peer)
{
	return peer < j->size && j->down_ns[peer] != 0;
}

uint64_t perf_job_epoch(const struct perf_job *j, uint32_t peer)
{
	struct mc_peer_info info = {.size = sizeof(info)};

	return mc_peer_query(j->ctx, peer, &info) == MC_OK ? info.epoch : 0;
}

uint32_t perf_job_again(void)
{
	const char *again = getenv("MC_REJOIN");

	return again == NULL ? 0 : (uint32_t)strtoul(again, NULL, 10);
}

bool perf_job_restarts(void)
{
	return getenv("MCRUN_RESTART") != NULL;
}

static void came_back(struct perf_job *j, uint32_t peer)
{
	j->down_ns[peer] = 0;
	if (j->dead[peer]) {
		j->dead[peer] = false;
		j->dead_n--;
	}
	j->back[peer]++;
}

bool perf_job_next_back(struct perf_job *j, uint32_t *peer_out)
{
	for (uint32_t r = 0; r < j->size; r++) {
		if (j->back_told[r] == j->back[r])
			continue;
		j->back_told[r] = j->back[r];
		*peer_out = r;
		return true;
	}
	return false;
}

/* Who has been waited for long enough is dead. */
static bool give_up(struct perf_job *j)
{
	int64_t now = perf_now_ns();
	bool any = false;

	for (uint32_t r = 0; j->await_ns > 0 && r < j->size; r++) {
		if (j->down_ns[r] == 0 || now - j->down_ns[r] < j->await_ns)
			continue;
		j->down_ns[r] = 0;
		j->dead[r] = true;
		j->dead_n++;
		any = true;
	}
	return any;
}

bool perf_job_faults(struct perf_job *j)
{
	struct mc_fault f = {.size = sizeof(f)};
	bool any = false;

	while (mc_fault_next(j->ctx, &f) == MC_OK) {
		/* -30..-59: that peer is lost (mc.h) */
		if (f.peer < j->size && f.status == MC_OK) {
			came_back(j, f.peer);
			any = true;
		} else if (f.peer != MC_NO_RANK && f.status <= MC_ERR_PROTO && f.status > MC_ERR_DEVICE) {
			perf_job_mark_dead(j, f.peer);
			any = true;
		}
		f = (struct mc_fault){.size = sizeof(f)};
	}
	return give_up(j) || any;
}

const char *perf_job_name(const struct perf_job *j, uint32_t peer, char *buf, size_t len)
{
	for (uint32_t i = 0; j->prefill != NULL && i < mc_group_size(j->prefill); i++) {
		if (mc_group_peer(j->prefill, i) == peer) {
			snprintf(buf, len, "prefill.%u (%s %u)", i, peer < j->size ? "rank" : "peer", peer);
			return buf;
		}
	}
	for (uint32_t i = 0; j->decode != NULL && i < mc_group_size(j->decode); i++) {
		if (mc_group_peer(j->decode, i) == peer) {
			snprintf(buf, len, "decode.%u (%s %u)", i, peer < j->size ? "rank" : "peer", peer);
			return buf;
		}
	}
	snprintf(buf, len, "rank %u", peer);
	return buf;
}

void perf_job_say(const struct perf_job *j, const char *fmt, ...)
{
	char line[PERF_ERR_MAX + 256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	/* one write: lines of several ranks must not mix */
	fprintf(stderr, "mcperf: %s: %s\n", j->cmd, line);
}

static struct mc_note *receive(struct perf_job *j, int64_t timeout_ns)
{
	struct mc_note *note = NULL;

	if (mc_note_recv(j->ctx, timeout_ns, &note) != MC_OK)
		return NULL;
	return note;
}

/* Keep for later; takes the note over. */
static void stash(struct perf_job *j, struct mc_note *note)
{
	struct perf_stash *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		perf_job_say(j, "out of memory: a note of rank %u is lost", note->peer);
		mc_note_free(note);
		return;
	}
	s->note = note;
	if (j->last != NULL)
		j->last->next = s;
	else
		j->first = s;
	j->last = s;
}

struct mc_note *perf_job_note(struct perf_job *j, int64_t timeout_ns)
{
	struct perf_stash *s = j->first;
	struct mc_note *note;

	if (s == NULL)
		return receive(j, timeout_ns);
	note = s->note;
	j->first = s->next;
	if (j->first == NULL)
		j->last = NULL;
	free(s);
	return note;
}

static struct mc_note *unstash(struct perf_job *j, enum perf_kind kind)
{
	struct perf_stash *before = NULL;
	struct mc_note *note;

	for (struct perf_stash *s = j->first; s != NULL; before = s, s = s->next) {
		if (perf_tag_kind(s->note->tag) != kind)
			continue;
		if (before != NULL)
			before->next = s->next;
		else
			j->first = s->next;
		if (j->last == s)
			j->last = before;
		note = s->note;
		free(s);
		return note;
	}
	return NULL;
}

struct mc_note *perf_job_note_of(struct perf_job *j, enum perf_kind kind, int64_t timeout_ns)
{
	int64_t deadline = perf_now_ns() + timeout_ns, left = timeout_ns;
	struct mc_note *note = unstash(j, kind);

	while (note == NULL && (note = receive(j, left)) != NULL) {
		if (perf_tag_kind(note->tag) == kind)
			break;
		stash(j, note);
		note = NULL;
		left = deadline - perf_now_ns();
		left = left > 0 ? left : 0;
	}
	return note;
}

bool perf_job_send(struct perf_job *j, uint32_t peer, uint64_t tag, const void *data, uint32_t len)
{
	mc_status_t s;
	char who[64];

	if (j->dead[peer])
		return false;
	s = mc_note_send(j->ctx, peer, tag, data, len, NULL);
	if (s == MC_OK)
		return true;
	if (s == MC_ERR_PEER_DOWN)
		perf_job_mark_dead(j, peer);
	else
		perf_job_say(j, "cannot send a note to %s: %s", perf_job_name(j, peer, who, sizeof(who)),
			     mc_status_text(s));
	return false;
}

void perf_job_tell_all(struct perf_job *j, uint64_t tag, const void *data, uint32_t len, int64_t timeout_ns)
{
	struct mc_req **req = calloc(j->size, sizeof(*req));
	int64_t deadline = perf_now_ns() + timeout_ns;

	for (uint32_t r = 0; r < j->size; r++) {
		if (r == j->rank || j->dead[r])
			continue;
		/* without memory for the handles the notes still go, only the wait for their departure is lost */
		if (mc_note_send(j->ctx, r, tag, data, len, req == NULL ? NULL : &req[r]) == MC_ERR_PEER_DOWN)
			perf_job_mark_dead(j, r);
	}
	for (uint32_t r = 0; req != NULL && r < j->size; r++) {
		int64_t left = deadline - perf_now_ns();
		if (req[r] == NULL)
			continue;
		(void)mc_req_wait(req[r], left > 0 ? left : 0);
		mc_req_free(req[r]);
	}
	free(req);
}

/* ---- agreement
 * ------------------------------------------------------------------------------------------------------- */

static bool read_vote(const struct mc_note *note, uint32_t phase, struct perf_vote *out)
{
	struct perf_vote v = {.here = true};
	struct perf_rd r;

	perf_rd_init(&r, note->data, note->len);
	v.digest = perf_rd_u64(&r);
	v.need = perf_rd_u64(&r);
	v.avail = perf_rd_u64(&r);
	v.flags = perf_rd_u32(&r);
	perf_rd_text(&r, v.err.text, sizeof(v.err.text));
	if (!perf_rd_end(&r) || perf_tag_number(note->tag) != phase)
		return false;
	*out = v;
	return true;
}

static uint32_t votes_missing(const struct perf_job *j, const struct perf_vote *vote, uint32_t *first)
{
	uint32_t n = 0;

	for (uint32_t r = 0; r < j->size; r++) {
		if (vote[r].here || j->dead[r])
			continue;
		if (n++ == 0)
			*first = r;
	}
	return n;
}

/* What the ranks themselves object to, then who is missing, then what the caller has to say about the whole. */
static void judge_votes(struct perf_job *j, const struct perf_vote *vote, perf_judge_fn *judge, void *arg,
			struct perf_err *err)
{
	uint32_t missing = 0, first = 0;
	char who[64];

	for (uint32_t r = 0; r < j->size; r++) {
		if (!vote[r].here || !perf_err_is_set(&vote[r].err))
			continue;
		perf_err_set(err, "%s", vote[r].err.text);
		return;
	}
	missing = votes_missing(j, vote, &first);
	if (missing > 0) {
		perf_err_set(err, "%u of %u ranks did not get ready in time, the first is %s", missing, j->size,
			     perf_job_name(j, first, who, sizeof(who)));
		return;
	}
	for (uint32_t r = 0; r < j->size; r++) {
		if (vote[r].here && vote[r].digest != vote[j->rank].digest) {
			perf_err_set(
				err,
				"%s has another trace or other options than rank %u: start all ranks with the same",
				perf_job_name(j, r, who, sizeof(who)), j->rank);
			return;
		}
	}
	if (judge != NULL)
		judge(j, vote, arg, err);
}

/* By its state, not by what was said of it: that may have been before it was known. */
bool perf_job_others_here(struct perf_job *j, struct perf_err *err)
{
	const struct mc_group *group[] = {j->prefill, j->decode};
	struct mc_peer_info info = {.size = sizeof(info)};
	char who[64];

	for (uint32_t i = 0; i < 2; i++) {
		for (uint32_t k = 0; group[i] != NULL && k < mc_group_size(group[i]); k++) {
			uint32_t peer = mc_group_peer(group[i], k);
			if (peer < j->size || mc_peer_query(j->ctx, peer, &info) != MC_OK || info.state == MC_OK ||
			    info.state == MC_IN_PROGRESS)
				continue;
			perf_err_set(err,
				     "%s of job %s left before the start (its job says why; is it started with the "
				     "same trace and options?)",
				     perf_job_name(j, peer, who, sizeof(who)), info.job);
		}
	}
	return !perf_err_is_set(err);
}

static bool lead(struct perf_job *j, uint32_t phase, const struct perf_vote *mine, perf_judge_fn *judge, void *arg,
		 int64_t deadline)
{
	struct perf_vote *vote = calloc(j->size, sizeof(*vote));
	struct perf_err err = {""};
	struct perf_wr w;
	uint32_t first = 0;

	if (vote == NULL) {
		perf_err_set(&err, "out of memory");
		goto tell;
	}
	vote[j->rank] = *mine;
	vote[j->rank].here = true;
	while (!perf_err_is_set(&mine->err) && !perf_err_is_set(&err) && votes_missing(j, vote, &first) > 0 &&
	       perf_now_ns() < deadline) {
		struct mc_note *note = perf_job_note_of(j, PERF_K_READY, 20000000);
		perf_job_faults(j);
		if (note == NULL) {
			(void)perf_job_others_here(j, &err);
			continue;
		}
		if (note->peer < j->size && !read_vote(note, phase, &vote[note->peer]))
			perf_err_set(&err, "rank %u sent a malformed note: other version of mcperf?", note->peer);
		mc_note_free(note);
	}
	if (!perf_err_is_set(&err))
		judge_votes(j, vote, judge, arg, &err);
tell:
	if (perf_err_is_set(&err))
		perf_job_say(j, "%s", err.text);
	perf_wr_init(&w, j->buf, MC_NOTE_MAX);
	perf_wr_u32(&w, perf_err_is_set(&err) ? 0 : 1);
	perf_wr_u32(&w, mine->flags);
	perf_job_tell_all(j, perf_tag(PERF_K_GO, phase), j->buf, perf_wr_len(&w), (int64_t)SEND_FLUSH_MS * 1000000);
	free(vote);
	return !perf_err_is_set(&err);
}

static bool follow(struct perf_job *j, uint32_t phase, const struct perf_vote *mine, uint32_t leader, int64_t deadline,
		   uint32_t *flags_out)
{
	struct perf_wr w;

	perf_wr_init(&w, j->buf, MC_NOTE_MAX);
	perf_wr_u64(&w, mine->digest);
	perf_wr_u64(&w, mine->need);
	perf_wr_u64(&w, mine->avail);
	perf_wr_u32(&w, mine->flags);
	perf_wr_text(&w, mine->err.text);
	if (!perf_job_send(j, leader, perf_tag(PERF_K_READY, phase), j->buf, perf_wr_len(&w)))
		return false;
	while (perf_now_ns() < deadline) {
		struct mc_note *note = perf_job_note_of(j, PERF_K_GO, 20000000);
		struct perf_rd r;
		uint32_t go;
		if (note == NULL) {
			perf_job_faults(j);
			if (!j->dead[leader])
				continue;
			perf_job_say(j, "rank %u, which leads the start, died before it", leader);
			return false;
		}
		if (note->peer != leader) {
			mc_note_free(note);
			continue;
		}
		perf_rd_init(&r, note->data, note->len);
		go = perf_rd_u32(&r);
		*flags_out = perf_rd_u32(&r);
		mc_note_free(note);
		return perf_rd_end(&r) && go == 1;
	}
	perf_job_say(j, "no word from rank %u, which leads the start", leader);
	return false;
}

bool perf_job_called_off(struct perf_job *j)
{
	struct mc_note *note;

	/* of another job: none of its business; of a rank that led and has left since: its word all the same */
	while ((note = perf_job_note_of(j, PERF_K_GO, 0)) != NULL && note->peer >= j->size)
		mc_note_free(note);
	if (note != NULL)
		stash(j, note); /* for the vote that finds it */
	return note != NULL;
}

bool perf_job_agree(struct perf_job *j, uint32_t phase, const struct perf_vote *mine, perf_judge_fn *judge, void *arg,
		    int64_t timeout_ns, uint32_t *flags_out)
{
	int64_t deadline = perf_now_ns() + timeout_ns;
	uint32_t leader = perf_job_leader(j);

	*flags_out = mine->flags;
	if (leader == j->rank)
		return lead(j, phase, mine, judge, arg, deadline);
	/* the leader gives up first and says why */
	return follow(j, phase, mine, leader, deadline + INT64_C(3000000000), flags_out);
}

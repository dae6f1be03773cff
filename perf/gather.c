/* SPDX-License-Identifier: BSD-3-Clause */
#include "gather.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	SAMPLES_PER_NOTE = 8000,
	PROGRESS_EVERY_NS = 100000000,
};
#define FAREWELL_NS INT64_C(2000000000)

bool perf_gather_init(struct perf_gather *g, struct perf_job *j)
{
	*g = (struct perf_gather){0};
	g->result = calloc(j->size, sizeof(*g->result));
	g->have = calloc(j->size, sizeof(*g->have));
	g->done = calloc(j->size, sizeof(*g->done));
	g->done_bytes = calloc(j->size, sizeof(*g->done_bytes));
	if (g->result != NULL && g->have != NULL && g->done != NULL && g->done_bytes != NULL)
		return true;
	perf_gather_free(g);
	return false;
}

void perf_gather_free(struct perf_gather *g)
{
	for (int i = 0; i < PERF_S_N; i++)
		perf_samples_free(&g->samples[i]);
	free(g->result);
	free(g->have);
	free(g->done);
	free(g->done_bytes);
	free(g->link);
	*g = (struct perf_gather){0};
}

bool perf_gather_link(struct perf_gather *g, uint32_t from, uint32_t to, const char *text)
{
	if (g->link_n == g->link_room) {
		uint32_t room = g->link_room == 0 ? 16 : g->link_room * 2;
		struct perf_link *link = reallocarray(g->link, room, sizeof(*link));
		if (link == NULL)
			return false;
		g->link = link;
		g->link_room = room;
	}
	g->link[g->link_n] = (struct perf_link){.from = from, .to = to};
	snprintf(g->link[g->link_n].text, sizeof(g->link[g->link_n].text), "%s", text);
	g->link_n++;
	return true;
}

static void draw(struct perf_gather *g, const struct perf_job *j, bool last)
{
	uint64_t done = 0, bytes = 0;

	for (uint32_t r = 0; r < j->size; r++) {
		done += g->done[r];
		bytes += g->done_bytes[r];
	}
	perf_progress_draw(&g->progress, done, bytes, last);
}

/* ---- receiving
 * ------------------------------------------------------------------------------------------------------- */

static void take_samples(struct perf_gather *g, struct perf_rd *r, uint64_t set)
{
	while (set < PERF_S_N && perf_rd_left(r) >= 8) {
		if (!perf_samples_add(&g->samples[set], perf_rd_u64(r)))
			return;
	}
}

static void take_link(struct perf_gather *g, struct perf_rd *r, uint32_t from)
{
	uint32_t to = perf_rd_u32(r);
	char text[MC_NAME_MAX];

	perf_rd_text(r, text, sizeof(text));
	if (perf_rd_end(r))
		(void)perf_gather_link(g, from, to, text);
}

static void take_result(struct perf_gather *g, struct perf_rd *r, uint32_t from)
{
	struct perf_result res = {0};

#define READ_FIELD(name) res.name = perf_rd_u64(r);
	PERF_RESULT_MAP(READ_FIELD)
#undef READ_FIELD
	if (!perf_rd_end(r))
		return;
	g->result[from] = res;
	g->have[from] = true;
}

void perf_gather_note(struct perf_gather *g, struct perf_job *j, const struct mc_note *note)
{
	struct perf_rd r;

	if (note->peer >= j->size)
		return; /* another job's */
	g->heard++;
	perf_rd_init(&r, note->data, note->len);
	switch (perf_tag_kind(note->tag)) {
	case PERF_K_PROGRESS:
		g->done[note->peer] = perf_rd_u64(&r);
		g->done_bytes[note->peer] = perf_rd_u64(&r);
		draw(g, j, false);
		break;
	case PERF_K_SAMPLES:
		take_samples(g, &r, perf_tag_number(note->tag));
		break;
	case PERF_K_LINK:
		take_link(g, &r, note->peer);
		break;
	case PERF_K_RESULT:
		take_result(g, &r, note->peer);
		break;
	case PERF_K_BYE:
		g->exit_code = perf_rd_u32(&r);
		g->bye = true;
		break;
	default: /* late word of a run that ended early */
		break;
	}
}

/* ---- sending
 * --------------------------------------------------------------------------------------------------------- */

void perf_gather_progress(struct perf_gather *g, struct perf_job *j, uint64_t done, uint64_t bytes, bool last)
{
	uint32_t leader = perf_job_leader(j);
	int64_t now = perf_now_ns();
	uint8_t buf[16];
	struct perf_wr w;

	g->done[j->rank] = done;
	g->done_bytes[j->rank] = bytes;
	if (leader == j->rank) {
		draw(g, j, false);
		return;
	}
	if (!last && now - g->progress.drawn_ns < PROGRESS_EVERY_NS)
		return;
	g->progress.drawn_ns = now;
	perf_wr_init(&w, buf, sizeof(buf));
	perf_wr_u64(&w, done);
	perf_wr_u64(&w, bytes);
	(void)perf_job_send(j, leader, perf_tag(PERF_K_PROGRESS, 0), buf, perf_wr_len(&w));
}

static void send_samples(const struct perf_samples *s, struct perf_job *j, uint32_t leader, uint64_t set)
{
	for (size_t at = 0; at < s->n;) {
		struct perf_wr w;
		perf_wr_init(&w, j->buf, MC_NOTE_MAX);
		for (size_t i = 0; i < SAMPLES_PER_NOTE && at < s->n; i++)
			perf_wr_u64(&w, s->v[at++]);
		if (!perf_job_send(j, leader, perf_tag(PERF_K_SAMPLES, set), j->buf, perf_wr_len(&w)))
			return;
	}
}

static void send_all(struct perf_gather *g, struct perf_job *j, uint32_t leader, const struct perf_result *mine)
{
	struct perf_wr w;

	for (uint64_t i = 0; i < PERF_S_N; i++)
		send_samples(&g->samples[i], j, leader, i);
	for (uint32_t i = 0; i < g->link_n; i++) {
		if (g->link[i].from != j->rank)
			continue;
		perf_wr_init(&w, j->buf, MC_NOTE_MAX);
		perf_wr_u32(&w, g->link[i].to);
		perf_wr_text(&w, g->link[i].text);
		(void)perf_job_send(j, leader, perf_tag(PERF_K_LINK, 0), j->buf, perf_wr_len(&w));
	}
	perf_wr_init(&w, j->buf, MC_NOTE_MAX);
#define WRITE_FIELD(name) perf_wr_u64(&w, mine->name);
	PERF_RESULT_MAP(WRITE_FIELD)
#undef WRITE_FIELD
	(void)perf_job_send(j, leader, perf_tag(PERF_K_RESULT, 0), j->buf, perf_wr_len(&w));
}

static uint32_t results_missing(const struct perf_gather *g, const struct perf_job *j)
{
	uint32_t n = 0;

	for (uint32_t r = 0; r < j->size; r++)
		n += !g->have[r] && !j->dead[r] && r != j->rank;
	return n;
}

static void take_notes(struct perf_gather *g, struct perf_job *j)
{
	struct mc_note *note = perf_job_note(j, 20000000);
	uint32_t peer;

	for (; note != NULL; note = perf_job_note(j, 0)) {
		if (note->peer < j->size)
			perf_gather_note(g, j, note);
		else if (g->on_foreign != NULL)
			g->on_foreign(g->on_arg, note);
		mc_note_free(note);
	}
	perf_job_faults(j);
	while (perf_job_next_back(j, &peer))
		if (g->on_back != NULL)
			g->on_back(g->on_arg, peer);
	if (g->on_turn != NULL)
		g->on_turn(g->on_arg);
}

/* Wait for the others' results: as long as a sign of life comes within the patience, and not past the deadline. */
static void collect(struct perf_gather *g, struct perf_job *j, int64_t patience_ns, int64_t deadline_ns)
{
	uint32_t missing = results_missing(g, j);
	int64_t give_up = perf_now_ns() + patience_ns;

	while (missing > 0 && perf_now_ns() < give_up && perf_now_ns() < deadline_ns) {
		uint64_t heard = g->heard;
		take_notes(g, j);
		missing = results_missing(g, j);
		if (g->heard != heard)
			give_up = perf_now_ns() + patience_ns;
	}
}

bool perf_gather_run(struct perf_gather *g, struct perf_job *j, const struct perf_result *mine, int64_t patience_ns,
		     int64_t deadline_ns)
{
	uint32_t sent_to = MC_NO_RANK, sent_back = 0;

	while (!g->bye) {
		uint32_t leader = perf_job_leader(j);
		if (leader == j->rank) {
			g->result[j->rank] = *mine;
			g->have[j->rank] = true;
			collect(g, j, patience_ns, deadline_ns);
			draw(g, j, true);
			return true;
		}
		bool down = perf_job_down(j, leader); /* it may come back and know nothing */
		if (!down && (sent_to != leader || sent_back != j->back[leader])) {
			send_all(g, j, leader, mine);
			sent_to = leader;
			sent_back = j->back[leader];
		}
		take_notes(g, j);
		/* the leader's own deadline comes first */
		if (perf_now_ns() > deadline_ns + 2 * patience_ns)
			break;
	}
	if (!g->bye)
		perf_job_say(j, "rank %u, which gathers the results, does not answer", perf_job_leader(j));
	return false;
}

void perf_gather_farewell(struct perf_job *j, uint32_t exit_code)
{
	uint8_t buf[4];
	struct perf_wr w;

	perf_wr_init(&w, buf, sizeof(buf));
	perf_wr_u32(&w, exit_code);
	perf_job_tell_all(j, perf_tag(PERF_K_BYE, 0), buf, perf_wr_len(&w), FAREWELL_NS);
}

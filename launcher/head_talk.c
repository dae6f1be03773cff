/* SPDX-License-Identifier: BSD-3-Clause */
/* head_talk.c - what an agent says, and what it is told when it comes. */
#include "head_priv.h"

#include <mc.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void send_job(struct mc_head *h, struct member *m)
{
	struct mc_spec s = {
		.job = *h->e->job,
		.env = (struct mc_strv *)(uintptr_t)h->e->role_env,
		.hosts = *h->e->hosts,
		.self = h->cfg.agents ? m->index : h->e->hosts->of_rank[m->index],
		.only = h->cfg.agents ? MC_RANK_ALL : m->index,
		.detach = h->cfg.detach,
		.nspace = h->nspace,
		.cwd = h->cwd,
		.beat_ns = h->e->job->beat_ns,
	};
	struct mc_enc b = {0};

	mc_spec_write(&b, &s);
	struct mc_talk t = {.kind = MC_TALK_JOB, .data = b.p, .data_n = b.n};
	mc_head_tell(m, &t);
	mc_enc_free(&b);
}

static bool same_version(const struct mc_talk *t)
{
	const char *own = mc_version();

	return t->code == MC_TALK_VERSION && t->data_n == strlen(own) && memcmp(t->data, own, t->data_n) == 0;
}

/* Is there anything for it to do? Ranks that had not started when the job was ended never do. */
static bool has_ranks(struct mc_head *h, const struct member *m)
{
	for (uint32_t r = 0; r < h->e->job->rank_n; r++)
		if (!h->ended[r] && mc_head_member_of(h, r) == m)
			return true;
	return false;
}

/* A guest that has the key says which agent it is. */
static bool on_hello(struct conn *c, const struct mc_talk *t)
{
	struct mc_head *h = c->h;
	struct member *m = t->rank < h->member_n ? &h->member[t->rank] : NULL;
	struct mc_talk bye = {.kind = MC_TALK_BYE};

	if (m == NULL || m->came || m->lost)
		return false;
	c->member = m;
	m->conn = c;
	m->came = true;
	m->heard_at = mc_now_ns();
	h->guest_n--;
	h->came_n++;
	h->linked_n++;
	(void)snprintf(m->host, sizeof(m->host), "%s", t->text);
	if (!same_version(t)) {
		(void)snprintf(bye.text, sizeof(bye.text), "this mcrun is version %s", mc_version());
		mc_head_tell(m, &bye);
		mc_output_say(h->e->output, "the mcrun on host %s is another version than %s, which runs here", m->host,
			      mc_version());
		return false;
	}
	if (h->clearing || !has_ranks(h, m)) { /* too late */
		m->empty = true;
		mc_head_tell(m, &bye);
		return true;
	}
	send_job(h, m);
	return true;
}

void mc_head_check_empty(struct mc_head *h)
{
	struct mc_engine_event ev = {.kind = MC_ENGINE_EMPTY};

	if (!h->clearing || h->empty_told)
		return;
	for (uint32_t i = 0; i < h->member_n; i++)
		if (h->member[i].conn != NULL && !h->member[i].empty)
			return;
	h->empty_told = true;
	mc_head_post(h, &ev);
}

static bool is_of(struct mc_head *h, const struct member *m, uint32_t rank)
{
	return rank < h->e->job->rank_n && mc_head_member_of(h, rank) == m;
}

static bool on_event(struct mc_head *h, struct member *m, const struct mc_talk *t)
{
	struct mc_engine_event ev = {.kind = (enum mc_engine_event_kind)t->stream,
				     .rank = t->rank,
				     .victim = t->victim,
				     .code = t->code,
				     .pid = t->pid};

	(void)snprintf(ev.text, sizeof(ev.text), "%s", t->text);
	switch (ev.kind) {
	case MC_ENGINE_EMPTY:
		m->empty = true;
		mc_head_check_empty(h);
		return true;
	case MC_ENGINE_SIGNAL:
		mc_head_post(h, &ev);
		return true;
	case MC_ENGINE_LOST:
		mc_head_lose(h, m, ev.text);
		return true;
	case MC_ENGINE_EXITED:
	case MC_ENGINE_FAILED:
		if (!is_of(h, m, ev.rank))
			return false;
		if (h->ended[ev.rank])
			return true;
		h->ended[ev.rank] = true;
		if (!h->cfg.agents) /* nothing else to do there; the engine waits for it */
			mc_head_tell(m, &(struct mc_talk){.kind = MC_TALK_BYE});
		break;
	case MC_ENGINE_STARTED:
	case MC_ENGINE_JOINED:
	case MC_ENGINE_LEFT:
	case MC_ENGINE_ABORT:
		if (!is_of(h, m, ev.rank))
			return false;
		break;
	default:
		return false;
	}
	mc_head_post(h, &ev);
	return true;
}

static bool of_member(struct mc_head *h, struct member *m, const struct mc_talk *t)
{
	switch ((enum mc_talk_kind)t->kind) {
	case MC_TALK_EVENT:
		return on_event(h, m, t);
	case MC_TALK_OUTPUT:
		m->owed += t->data_n;
		mc_output_feed(h->e->output, t->rank, t->stream, (const char *)t->data, t->data_n);
		return true;
	case MC_TALK_OUTPUT_END:
		mc_output_feed_end(h->e->output, t->rank, t->stream);
		return true;
	case MC_TALK_SAY:
		mc_output_say(h->e->output, "host %s: %s",
			      h->e->hosts->host[h->cfg.agents ? m->index : h->e->hosts->of_rank[m->index]].name,
			      t->text);
		return true;
	case MC_TALK_STDIN_ROOM:
		h->stdin_room += t->id;
		return is_of(h, m, 0);
	case MC_TALK_FENCE:
	case MC_TALK_MODEX:
	case MC_TALK_MODEX_DATA:
	case MC_TALK_PUBLISH:
	case MC_TALK_LOOKUP:
	case MC_TALK_UNPUBLISH:
		mc_exchange_hear(h->exchange, m, t);
		return true;
	case MC_TALK_BEAT:
		return true;
	default:
		return false;
	}
}

bool mc_head_hear(struct conn *c, const uint8_t *p, size_t n)
{
	struct mc_talk t;

	if (!mc_talk_read(p, n, &t))
		return false;
	if (c->member != NULL)
		return of_member(c->h, c->member, &t);
	return t.kind == MC_TALK_HELLO && on_hello(c, &t);
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>

#include "replay_cut.h"

enum { BLOCKS_PER_NOTE = 16000 }; /* stays below MC_NOTE_MAX */

struct replay_table *replay_table_new(uint32_t request, uint32_t tokens, uint32_t dst_n, uint32_t src_n)
{
	struct replay_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	*t = (struct replay_table){.request = request, .tokens = tokens, .dst_n = dst_n, .src_n = src_n};
	t->block = calloc((size_t)dst_n + src_n + 1, sizeof(*t->block));
	if (t->block == NULL) {
		free(t);
		return NULL;
	}
	return t;
}

void replay_table_free(struct replay_table *t)
{
	if (t == NULL)
		return;
	free(t->block);
	free(t);
}

bool replay_table_send(struct replay *r, uint32_t peer, const struct replay_table *t)
{
	uint32_t n = t->dst_n + t->src_n, at = 0;

	do {
		uint32_t part = n - at < BLOCKS_PER_NOTE ? n - at : BLOCKS_PER_NOTE;
		struct perf_wr w;
		perf_wr_init(&w, r->job.buf, MC_NOTE_MAX);
		perf_wr_u32(&w, t->tokens);
		perf_wr_u32(&w, t->dst_n);
		perf_wr_u32(&w, t->src_n);
		perf_wr_u32(&w, at);
		for (uint32_t i = 0; i < part; i++)
			perf_wr_u32(&w, t->block[at + i]);
		if (!perf_job_send(&r->job, peer, perf_tag(PERF_K_REQ, t->request), r->job.buf, perf_wr_len(&w)))
			return false;
		at += part;
	} while (at < n);
	return true;
}

/* The head of a table against what everybody knows from the trace. */
static bool head_fits(const struct replay *r, uint64_t request, uint32_t tokens, uint32_t dst_n, uint32_t src_n)
{
	uint32_t src = (uint32_t)r->o.side[KVP_SRC].block_tokens, dst = (uint32_t)r->o.side[KVP_DST].block_tokens;
	bool mine;

	if (request >= r->trace.n || tokens > r->trace.req[request].input)
		return false;
	mine = r->cut->side == KVP_SRC ? r->route.prefill[request] == r->prefill_pos
				       : r->route.decode[request] == r->decode_pos;
	return mine && dst_n == (tokens + dst - 1) / dst && (src_n == 0 || src_n == (tokens + src - 1) / src);
}

static struct replay_table **find(struct replay_table **open, uint32_t from, uint64_t request)
{
	while (*open != NULL && ((*open)->from != from || (*open)->request != request))
		open = &(*open)->next;
	return open;
}

bool replay_table_take(struct replay *r, const struct mc_note *note, struct replay_table **open,
		       struct replay_table **out)
{
	uint64_t request = perf_tag_number(note->tag);
	struct replay_table **at = find(open, note->peer, request), *t;
	uint32_t tokens, dst_n, src_n, start;
	struct perf_rd rd;

	*out = NULL;
	perf_rd_init(&rd, note->data, note->len);
	tokens = perf_rd_u32(&rd);
	dst_n = perf_rd_u32(&rd);
	src_n = perf_rd_u32(&rd);
	start = perf_rd_u32(&rd);
	if (rd.bad || !head_fits(r, request, tokens, dst_n, src_n))
		return false;
	if (*at == NULL) {
		*at = replay_table_new((uint32_t)request, tokens, dst_n, src_n);
		if (*at == NULL)
			return false;
		(*at)->from = note->peer;
	}
	t = *at;
	if (t->tokens != tokens || t->dst_n != dst_n || t->src_n != src_n || t->got != start)
		return false;
	while (t->got < dst_n + src_n && perf_rd_left(&rd) > 0)
		t->block[t->got++] = perf_rd_u32(&rd);
	if (!perf_rd_end(&rd))
		return false;
	if (t->got == dst_n + src_n) {
		*at = t->next;
		t->next = NULL;
		*out = t;
	}
	return true;
}

void replay_table_refuse(struct replay *r, const struct mc_note *note)
{
	char who[64];

	perf_job_say(&r->job, "malformed block table from %s", perf_job_name(&r->job, note->peer, who, sizeof(who)));
	r->res.fatal++;
	replay_stop(r);
}

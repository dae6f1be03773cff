/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * head_pmix.c - what the PMIx servers of the agents exchange through the head: fences with data, a rank's data on
 * demand, published keys. A host that is lost, or whose ranks have ended, is waited for no longer.
 */
#include "head_priv.h"

#include <pmix_common.h>

#include <stdlib.h>
#include <string.h>

#define BOARD_KEYS  65536u
#define BOARD_BYTES (64u << 20)

/* What one agent has brought to a fence. */
struct part {
	bool in;
	uint64_t id;
	uint8_t *data;
	size_t n;
};

struct fence {
	uint64_t key;
	uint32_t seq;
	uint32_t *rank, rank_n; /* that take part; rank_n 0: all */
	struct part *part;      /* [member_n] */
	struct fence *next;
};

/* A question that was passed on to another agent. */
struct question {
	uint64_t id, asker_id;
	struct member *asker, *asked;
	struct question *next;
};

struct entry {
	char *key;
	uint32_t rank;
	uint8_t *data;
	size_t n;
};

struct mc_exchange {
	struct mc_head *h;
	struct fence *fences;
	struct question *questions;
	uint64_t last_id;
	struct entry *entry;
	size_t entry_n, entry_bytes;
};

struct mc_exchange *mc_exchange_create(struct mc_head *h)
{
	struct mc_exchange *x = mc_xalloc(1, sizeof(*x));

	x->h = h;
	return x;
}

static void fence_free(struct mc_exchange *x, struct fence *f)
{
	for (uint32_t i = 0; i < x->h->member_n; i++)
		free(f->part[i].data);
	free(f->part);
	free(f->rank);
	free(f);
}

void mc_exchange_free(struct mc_exchange *x)
{
	if (x == NULL)
		return;
	while (x->fences != NULL) {
		struct fence *f = x->fences;

		x->fences = f->next;
		fence_free(x, f);
	}
	while (x->questions != NULL) {
		struct question *q = x->questions;

		x->questions = q->next;
		free(q);
	}
	for (size_t i = 0; i < x->entry_n; i++) {
		free(x->entry[i].key);
		free(x->entry[i].data);
	}
	free(x->entry);
	free(x);
}

/* ---- fences ---- */

static bool takes_part(const struct fence *f, uint32_t rank)
{
	if (f->rank_n == 0)
		return true;
	for (uint32_t lo = 0, hi = f->rank_n; lo < hi;) { /* sorted by the agents */
		uint32_t mid = lo + (hi - lo) / 2;

		if (f->rank[mid] == rank)
			return true;
		if (f->rank[mid] < rank)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

/* Has every agent come that still has a rank in it? */
static bool fence_full(const struct mc_exchange *x, const struct fence *f)
{
	struct mc_head *h = x->h;

	for (uint32_t r = 0; r < h->e->job->rank_n; r++)
		if (!h->ended[r] && takes_part(f, r) && !f->part[mc_head_member_of(h, r)->index].in)
			return false;
	return true;
}

static void fence_answer(struct mc_exchange *x, struct fence *f)
{
	struct mc_enc all = {0};

	for (uint32_t i = 0; i < x->h->member_n; i++)
		mc_enc_bytes(&all, f->part[i].data, f->part[i].n);
	if (x->h->e->job->verbose)
		mc_output_say(x->h->e->output, "fence %u over %u hosts: %zu bytes to each", f->seq, x->h->member_n,
			      all.n);
	for (uint32_t i = 0; i < x->h->member_n; i++) {
		struct mc_talk t = {.kind = MC_TALK_FENCED,
				    .id = f->part[i].id,
				    .code = PMIX_SUCCESS,
				    .data = all.p,
				    .data_n = all.n};

		if (f->part[i].in)
			mc_head_tell(&x->h->member[i], &t);
	}
	mc_enc_free(&all);
}

static void check_fences(struct mc_exchange *x)
{
	for (struct fence **p = &x->fences, *f; (f = *p) != NULL;) {
		if (!fence_full(x, f)) {
			p = &f->next;
			continue;
		}
		*p = f->next;
		fence_answer(x, f);
		fence_free(x, f);
	}
}

static struct fence *fence_find(struct mc_exchange *x, uint64_t key, uint32_t seq)
{
	struct fence *f = x->fences;

	while (f != NULL && (f->key != key || f->seq != seq))
		f = f->next;
	if (f != NULL)
		return f;
	f = mc_xalloc(1, sizeof(*f));
	f->key = key;
	f->seq = seq;
	f->part = mc_xalloc(x->h->member_n, sizeof(*f->part));
	f->next = x->fences;
	x->fences = f;
	return f;
}

static void on_fence(struct mc_exchange *x, struct member *m, const struct mc_talk *t)
{
	struct mc_talk no = {.kind = MC_TALK_FENCED, .id = t->id, .code = PMIX_ERR_BAD_PARAM};
	struct mc_dec d = {t->data, t->data + t->data_n, false};
	uint32_t n = mc_dec_count(&d, 4);
	struct fence *f = fence_find(x, t->key, t->victim);
	struct part *p = &f->part[m->index];

	if (d.bad || p->in) {
		mc_head_tell(m, &no);
		return;
	}
	free(f->rank);
	f->rank = mc_xalloc(n, sizeof(*f->rank));
	f->rank_n = n;
	for (uint32_t i = 0; i < n; i++)
		f->rank[i] = mc_dec_u32(&d);
	p->in = true;
	p->id = t->id;
	p->n = (size_t)(d.end - d.p);
	p->data = mc_xalloc(p->n, 1);
	if (p->n > 0)
		memcpy(p->data, d.p, p->n);
	check_fences(x);
}

/* ---- a rank's data on demand ---- */

static void modex_answer(struct member *to, uint64_t id, int code, const uint8_t *data, size_t n)
{
	struct mc_talk t = {.kind = MC_TALK_MODEXED, .id = id, .code = code, .data = data, .data_n = n};

	mc_head_tell(to, &t);
}

static void on_modex(struct mc_exchange *x, struct member *m, const struct mc_talk *t)
{
	struct member *asked = t->rank < x->h->e->job->rank_n ? mc_head_member_of(x->h, t->rank) : NULL;
	struct mc_talk ask = {.kind = MC_TALK_MODEX_ASK, .id = ++x->last_id, .rank = t->rank};

	if (asked == NULL || asked->conn == NULL || asked == m) {
		modex_answer(m, t->id, PMIX_ERR_NOT_FOUND, NULL, 0);
		return;
	}
	struct question *q = mc_xalloc(1, sizeof(*q));
	*q = (struct question){ask.id, t->id, m, asked, x->questions};
	x->questions = q;
	mc_head_tell(asked, &ask);
}

static void on_modex_data(struct mc_exchange *x, struct member *m, const struct mc_talk *t)
{
	struct question **p = &x->questions, *q;

	while (*p != NULL && ((*p)->id != t->id || (*p)->asked != m))
		p = &(*p)->next;
	q = *p;
	if (q == NULL)
		return;
	*p = q->next;
	modex_answer(q->asker, q->asker_id, t->code, t->data, t->data_n);
	free(q);
}

/* ---- published keys ---- */

static size_t board_find(const struct mc_exchange *x, const char *key)
{
	size_t i = 0;

	while (i < x->entry_n && strcmp(x->entry[i].key, key) != 0)
		i++;
	return i;
}

static int board_add(struct mc_exchange *x, char *key, uint32_t rank, const uint8_t *data, size_t n)
{
	if (board_find(x, key) < x->entry_n)
		return PMIX_ERR_DUPLICATE_KEY;
	if (x->entry_n == BOARD_KEYS || n > BOARD_BYTES - x->entry_bytes)
		return PMIX_ERR_OUT_OF_RESOURCE;
	x->entry = mc_xgrow(x->entry, x->entry_n + 1, sizeof(*x->entry));
	struct entry *e = &x->entry[x->entry_n++];
	*e = (struct entry){mc_xstrdup(key), rank, mc_xalloc(n, 1), n};
	memcpy(e->data, data, n);
	x->entry_bytes += n;
	return PMIX_SUCCESS;
}

static void on_publish(struct mc_exchange *x, struct member *m, const struct mc_talk *t)
{
	struct mc_talk answer = {.kind = MC_TALK_PUBLISHED, .id = t->id, .code = PMIX_SUCCESS};
	struct mc_dec d = {t->data, t->data + t->data_n, false};

	while (!d.bad && d.p < d.end && answer.code == PMIX_SUCCESS) {
		char *key = mc_dec_str(&d);
		uint32_t n = mc_dec_u32(&d);
		const uint8_t *data = mc_dec_bytes(&d, n);

		answer.code = key == NULL || data == NULL ? PMIX_ERR_BAD_PARAM : board_add(x, key, t->rank, data, n);
		free(key);
	}
	mc_head_tell(m, &answer);
}

static void on_lookup(struct mc_exchange *x, struct member *m, const struct mc_talk *t)
{
	struct mc_dec d = {t->data, t->data + t->data_n, false};
	struct mc_talk answer = {.kind = MC_TALK_FOUND, .id = t->id};
	struct mc_enc list = {0}, out = {0};
	uint32_t want = 0, got = 0;

	for (; !d.bad && d.p < d.end; want++) {
		char *key = mc_dec_str(&d);
		size_t i = key == NULL ? x->entry_n : board_find(x, key);

		free(key);
		if (i == x->entry_n)
			continue;
		mc_enc_str(&list, x->entry[i].key);
		mc_enc_u32(&list, x->entry[i].rank);
		mc_enc_u32(&list, (uint32_t)x->entry[i].n);
		mc_enc_bytes(&list, x->entry[i].data, x->entry[i].n);
		got++;
	}
	mc_enc_u32(&out, got);
	mc_enc_bytes(&out, list.p, list.n);
	answer.code = got == 0 ? PMIX_ERR_NOT_FOUND : got < want ? PMIX_ERR_PARTIAL_SUCCESS : PMIX_SUCCESS;
	answer.data = out.p;
	answer.data_n = out.n;
	mc_head_tell(m, &answer);
	mc_enc_free(&list);
	mc_enc_free(&out);
}

static bool listed(const struct mc_talk *t, const char *key)
{
	struct mc_dec d = {t->data, t->data + t->data_n, false};
	bool found = t->data_n == 0; /* no list: everything of this rank */

	while (!found && !d.bad && d.p < d.end) {
		char *k = mc_dec_str(&d);

		found = k != NULL && strcmp(k, key) == 0;
		free(k);
	}
	return found;
}

static void on_unpublish(struct mc_exchange *x, struct member *m, const struct mc_talk *t)
{
	struct mc_talk answer = {.kind = MC_TALK_PUBLISHED, .id = t->id, .code = PMIX_SUCCESS};

	for (size_t i = 0; i < x->entry_n;) {
		struct entry *e = &x->entry[i];

		if (e->rank != t->rank || !listed(t, e->key)) {
			i++;
			continue;
		}
		x->entry_bytes -= e->n;
		free(e->key);
		free(e->data);
		*e = x->entry[--x->entry_n];
	}
	mc_head_tell(m, &answer);
}

/* ---- all of it ---- */

void mc_exchange_hear(struct mc_exchange *x, struct member *m, const struct mc_talk *t)
{
	if (t->kind == MC_TALK_FENCE)
		on_fence(x, m, t);
	else if (t->kind == MC_TALK_MODEX)
		on_modex(x, m, t);
	else if (t->kind == MC_TALK_MODEX_DATA)
		on_modex_data(x, m, t);
	else if (t->kind == MC_TALK_PUBLISH)
		on_publish(x, m, t);
	else if (t->kind == MC_TALK_LOOKUP)
		on_lookup(x, m, t);
	else
		on_unpublish(x, m, t);
}

void mc_exchange_rank_ended(struct mc_exchange *x)
{
	check_fences(x);
}

void mc_exchange_lost(struct mc_exchange *x, struct member *m)
{
	for (struct question **p = &x->questions, *q; (q = *p) != NULL;) {
		if (q->asker != m && q->asked != m) {
			p = &q->next;
			continue;
		}
		*p = q->next;
		if (q->asker != m)
			modex_answer(q->asker, q->asker_id, PMIX_ERR_NOT_FOUND, NULL, 0);
		free(q);
	}
	check_fences(x);
}

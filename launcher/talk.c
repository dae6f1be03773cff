/* SPDX-License-Identifier: BSD-3-Clause */
#include "talk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRING_MAX (1u << 20)
#define STRV_MAX   (1u << 16)

/* ---- writer ---- */

void mc_enc_bytes(struct mc_enc *b, const void *p, size_t n)
{
	if (b->room - b->n < n) {
		while (b->room - b->n < n)
			b->room = b->room == 0 ? 256 : b->room * 2;
		b->p = mc_xgrow(b->p, b->room, 1);
	}
	if (n > 0)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

void mc_enc_u8(struct mc_enc *b, uint8_t v)
{
	mc_enc_bytes(b, &v, 1);
}

static void put_le(struct mc_enc *b, uint64_t v, unsigned bytes)
{
	uint8_t le[8];

	for (unsigned i = 0; i < bytes; i++)
		le[i] = (uint8_t)(v >> (8 * i));
	mc_enc_bytes(b, le, bytes);
}

void mc_enc_u32(struct mc_enc *b, uint32_t v)
{
	put_le(b, v, 4);
}

void mc_enc_u64(struct mc_enc *b, uint64_t v)
{
	put_le(b, v, 8);
}

void mc_enc_str(struct mc_enc *b, const char *s)
{
	size_t n = strlen(s);

	mc_enc_u32(b, (uint32_t)n);
	mc_enc_bytes(b, s, n);
}

void mc_enc_strv(struct mc_enc *b, const struct mc_strv *s)
{
	mc_enc_u32(b, (uint32_t)s->n);
	for (size_t i = 0; i < s->n; i++)
		mc_enc_str(b, s->v[i]);
}

void mc_enc_free(struct mc_enc *b)
{
	free(b->p);
	*b = (struct mc_enc){0};
}

/* ---- reader ---- */

const uint8_t *mc_dec_bytes(struct mc_dec *t, size_t n)
{
	const uint8_t *p = t->p;

	if (t->bad || (size_t)(t->end - t->p) < n) {
		t->bad = true;
		return NULL;
	}
	t->p += n;
	return p;
}

static uint64_t take_le(struct mc_dec *t, unsigned bytes)
{
	const uint8_t *p = mc_dec_bytes(t, bytes);
	uint64_t v = 0;

	for (unsigned i = 0; p != NULL && i < bytes; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint8_t mc_dec_u8(struct mc_dec *t)
{
	return (uint8_t)take_le(t, 1);
}

uint32_t mc_dec_u32(struct mc_dec *t)
{
	return (uint32_t)take_le(t, 4);
}

uint64_t mc_dec_u64(struct mc_dec *t)
{
	return take_le(t, 8);
}

char *mc_dec_str(struct mc_dec *t)
{
	uint32_t n = mc_dec_u32(t);
	const uint8_t *p = n > STRING_MAX ? NULL : mc_dec_bytes(t, n);

	if (p == NULL || memchr(p, 0, n) != NULL) {
		t->bad = true;
		return NULL;
	}
	return mc_xformat("%.*s", (int)n, (const char *)p);
}

uint32_t mc_dec_count(struct mc_dec *t, size_t least)
{
	uint32_t n = mc_dec_u32(t);

	if (!t->bad && n > (size_t)(t->end - t->p) / least)
		t->bad = true;
	return t->bad ? 0 : n;
}

void mc_dec_strv(struct mc_dec *t, struct mc_strv *out, uint32_t max)
{
	uint32_t n = mc_dec_count(t, 4);

	if (n > max)
		t->bad = true;
	for (uint32_t i = 0; i < n && !t->bad; i++) {
		char *s = mc_dec_str(t);

		if (s != NULL)
			mc_strv_add(out, s);
		free(s);
	}
}

bool mc_dec_end(const struct mc_dec *t)
{
	return !t->bad && t->p == t->end;
}

/* ---- messages ---- */

/* r rank, v victim, c code, p pid, i id, k key, s stream, t text, d data up to the end */
static const char *fields(uint8_t kind)
{
	switch ((enum mc_talk_kind)kind) {
	case MC_TALK_HELLO:
		return "crptd";
	case MC_TALK_EVENT:
		return "srvcpt";
	case MC_TALK_OUTPUT:
		return "rsd";
	case MC_TALK_OUTPUT_END:
		return "rs";
	case MC_TALK_SAY:
	case MC_TALK_BYE:
		return "t";
	case MC_TALK_FENCE:
		return "ikvd";
	case MC_TALK_MODEX:
	case MC_TALK_MODEX_ASK:
	case MC_TALK_STDIN_ROOM:
		return "ir";
	case MC_TALK_MODEX_DATA:
	case MC_TALK_FENCED:
	case MC_TALK_MODEXED:
	case MC_TALK_FOUND:
		return "icd";
	case MC_TALK_PUBLISH:
	case MC_TALK_UNPUBLISH:
		return "ird";
	case MC_TALK_LOOKUP:
		return "id";
	case MC_TALK_JOB:
		return "d";
	case MC_TALK_SIGNAL:
		return "rc";
	case MC_TALK_GONE:
		return "rcv";
	case MC_TALK_RESTART:
		return "rv";
	case MC_TALK_SETTLE:
		return "c";
	case MC_TALK_OUT_ROOM:
		return "i";
	case MC_TALK_STDIN:
		return "rd";
	case MC_TALK_PUBLISHED:
		return "ic";
	case MC_TALK_CLEAR:
	case MC_TALK_BEAT:
		return "";
	}
	return NULL;
}

static void put_text(struct mc_enc *b, const char *text)
{
	size_t n = strnlen(text, MC_TALK_TEXT - 1);

	mc_enc_u8(b, (uint8_t)n);
	mc_enc_bytes(b, text, n);
}

static void take_text(struct mc_dec *t, char *text)
{
	uint8_t n = mc_dec_u8(t);
	const uint8_t *p = n < MC_TALK_TEXT ? mc_dec_bytes(t, n) : NULL;

	if (p == NULL || memchr(p, 0, n) != NULL) {
		t->bad = true;
		return;
	}
	memcpy(text, p, n);
	text[n] = '\0';
}

void mc_talk_write(struct mc_enc *b, const struct mc_talk *m)
{
	mc_enc_u8(b, m->kind);
	for (const char *f = fields(m->kind); f != NULL && *f != '\0'; f++) {
		if (*f == 'r')
			mc_enc_u32(b, m->rank);
		else if (*f == 'v')
			mc_enc_u32(b, m->victim);
		else if (*f == 'c')
			mc_enc_u32(b, (uint32_t)m->code);
		else if (*f == 'p')
			mc_enc_u32(b, (uint32_t)m->pid);
		else if (*f == 'i')
			mc_enc_u64(b, m->id);
		else if (*f == 'k')
			mc_enc_u64(b, m->key);
		else if (*f == 's')
			mc_enc_u8(b, m->stream);
		else if (*f == 't')
			put_text(b, m->text);
		else
			mc_enc_bytes(b, m->data, m->data_n);
	}
}

bool mc_talk_read(const uint8_t *p, size_t n, struct mc_talk *m)
{
	struct mc_dec t = {p, p + n, false};

	memset(m, 0, sizeof(*m));
	m->kind = mc_dec_u8(&t);
	const char *f = t.bad ? NULL : fields(m->kind);
	if (f == NULL)
		return false;
	for (; *f != '\0'; f++) {
		if (*f == 'r')
			m->rank = mc_dec_u32(&t);
		else if (*f == 'v')
			m->victim = mc_dec_u32(&t);
		else if (*f == 'c')
			m->code = (int32_t)mc_dec_u32(&t);
		else if (*f == 'p')
			m->pid = (int32_t)mc_dec_u32(&t);
		else if (*f == 'i')
			m->id = mc_dec_u64(&t);
		else if (*f == 'k')
			m->key = mc_dec_u64(&t);
		else if (*f == 's')
			m->stream = mc_dec_u8(&t);
		else if (*f == 't')
			take_text(&t, m->text);
		else if (!t.bad) {
			m->data = t.p;
			m->data_n = (size_t)(t.end - t.p);
			t.p = t.end;
		}
	}
	return mc_dec_end(&t);
}

/* ---- the job ---- */

static void put_roles(struct mc_enc *b, const struct mc_spec *s)
{
	mc_enc_u32(b, (uint32_t)s->job.role_n);
	for (size_t i = 0; i < s->job.role_n; i++) {
		const struct mc_job_role *r = &s->job.role[i];

		mc_enc_str(b, r->name);
		mc_enc_u32(b, r->n);
		mc_enc_str(b, r->path);
		mc_enc_strv(b, &r->argv);
		mc_enc_strv(b, &s->env[i]);
	}
}

static void put_limits(struct mc_enc *b, const struct mc_job *job)
{
	mc_enc_u32(b, (uint32_t)job->rdma_limit_n);
	for (size_t i = 0; i < job->rdma_limit_n; i++) {
		char line[160];

		mc_rdmacg_limit_text(&job->rdma_limit[i], line, sizeof(line));
		char *c = strchr(line, ' ');
		if (c != NULL)
			*c = ':';
		while ((c = strchr(line, ' ')) != NULL)
			*c = ',';
		mc_enc_str(b, line);
	}
}

void mc_spec_write(struct mc_enc *b, const struct mc_spec *s)
{
	put_roles(b, s);
	put_limits(b, &s->job);
	mc_enc_u32(b, s->hosts.n);
	for (uint32_t i = 0; i < s->hosts.n; i++)
		mc_enc_str(b, s->hosts.host[i].name);
	mc_enc_u32(b, s->hosts.rank_n);
	for (uint32_t i = 0; i < s->hosts.rank_n; i++)
		mc_enc_u32(b, s->hosts.of_rank[i]);
	mc_enc_u32(b, s->self);
	mc_enc_u32(b, s->only);
	mc_enc_u8(b, s->detach);
	mc_enc_u8(b, (uint8_t)s->job.bind);
	mc_enc_u8(b, (uint8_t)s->job.fail);
	mc_enc_u8(b, s->job.verbose);
	mc_enc_str(b, s->nspace);
	mc_enc_str(b, s->cwd);
	mc_enc_u64(b, (uint64_t)s->beat_ns);
}

static void take_roles(struct mc_dec *t, struct mc_spec *s)
{
	uint32_t n = mc_dec_count(t, 20);

	s->env = mc_xalloc(n + 1, sizeof(*s->env));
	for (uint32_t i = 0; i < n && !t->bad; i++) {
		char *name = mc_dec_str(t);
		struct mc_job_role *r = mc_job_role_add(&s->job, name != NULL ? name : "", mc_dec_u32(t));

		free(name);
		r->path = mc_dec_str(t);
		mc_dec_strv(t, &r->argv, STRV_MAX);
		mc_dec_strv(t, &s->env[i], STRV_MAX);
		if (r->argv.n == 0 || r->n == 0 || r->n > MC_JOB_RANK_MAX - s->job.rank_n)
			t->bad = true;
		else
			s->job.rank_n += r->n;
	}
}

static void take_limits(struct mc_dec *t, struct mc_spec *s)
{
	uint32_t n = mc_dec_count(t, 4);
	struct mc_err err;

	for (uint32_t i = 0; i < n && !t->bad; i++) {
		char *line = mc_dec_str(t);

		if (line == NULL || mc_job_add_rdma_limit(&s->job, line, &err) != 0)
			t->bad = true;
		free(line);
	}
}

static void take_hosts(struct mc_dec *t, struct mc_spec *s)
{
	uint32_t n = mc_dec_count(t, 4);

	s->hosts.host = mc_xalloc(n + 1, sizeof(*s->hosts.host));
	for (; s->hosts.n < n && !t->bad; s->hosts.n++)
		s->hosts.host[s->hosts.n].name = mc_dec_str(t);
	n = mc_dec_count(t, 4);
	s->hosts.of_rank = mc_xalloc(n + 1, sizeof(*s->hosts.of_rank));
	s->hosts.rank_n = n;
	for (uint32_t i = 0; i < n && !t->bad; i++) {
		s->hosts.of_rank[i] = mc_dec_u32(t);
		t->bad |= s->hosts.of_rank[i] >= s->hosts.n;
	}
}

bool mc_spec_read(const uint8_t *p, size_t n, struct mc_spec *out)
{
	struct mc_dec t = {p, p + n, false};
	struct mc_spec s = {0};

	mc_job_init(&s.job);
	take_roles(&t, &s);
	take_limits(&t, &s);
	take_hosts(&t, &s);
	s.self = mc_dec_u32(&t);
	s.only = mc_dec_u32(&t);
	s.detach = mc_dec_u8(&t) != 0;
	uint8_t bind = mc_dec_u8(&t), fail = mc_dec_u8(&t);
	s.job.verbose = mc_dec_u8(&t) != 0;
	s.nspace = mc_dec_str(&t);
	s.cwd = mc_dec_str(&t);
	s.beat_ns = (int64_t)mc_dec_u64(&t);
	if (!mc_dec_end(&t) || bind > MC_BIND_NUMA || fail > MC_FAIL_RESTART || s.job.rank_n == 0 ||
	    s.hosts.rank_n != s.job.rank_n || s.self >= s.hosts.n || (s.only != UINT32_MAX && s.only >= s.job.rank_n) ||
	    s.beat_ns <= 0 || s.beat_ns > 3600 * MC_NS_PER_S) {
		mc_spec_free(&s);
		return false;
	}
	s.job.bind = (enum mc_bind_mode)bind;
	s.job.fail = (enum mc_fail_mode)fail;
	*out = s;
	return true;
}

void mc_spec_free(struct mc_spec *s)
{
	for (size_t i = 0; i < s->job.role_n && s->env != NULL; i++)
		mc_strv_free(&s->env[i]);
	free(s->env);
	mc_job_free(&s->job);
	mc_hosts_free(&s->hosts);
	free(s->nspace);
	free(s->cwd);
	*s = (struct mc_spec){0};
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd_table.c - see bridge_etcd_table.h. */
#include "bridge_etcd_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void mc_etcd_table_init(struct mc_etcd_table *t)
{
	*t = (struct mc_etcd_table){.n = 0};
	mc_list_init(&t->dirty);
	mc_list_init(&t->parked);
}

static void peer_free(struct mc_etcd_peer *p)
{
	if (p != NULL)
		free(p->record);
	free(p);
}

static void let_go(struct mc_etcd_table *t)
{
	free(t->held);
	peer_free(t->held_peer);
	t->held = NULL;
	t->held_peer = NULL;
}

void mc_etcd_table_free(struct mc_etcd_table *t)
{
	let_go(t);
	for (size_t i = 0; i < MC_ETCD_BUCKETS; i++)
		while (t->bucket[i] != NULL) {
			struct mc_etcd_peer *p = t->bucket[i];

			t->bucket[i] = p->next;
			peer_free(p);
		}
}

static struct mc_etcd_peer **place_of(struct mc_etcd_table *t, const char *job, uint32_t rank)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ rank;
	struct mc_etcd_peer **at;

	for (const char *c = job; *c != '\0'; c++)
		h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
	at = &t->bucket[(h ^ h >> 32) % MC_ETCD_BUCKETS];
	while (*at != NULL && ((*at)->rank != rank || strcmp((*at)->job, job) != 0))
		at = &(*at)->next;
	return at;
}

static struct mc_etcd_peer *peer_new(struct mc_etcd_table *t, struct mc_etcd_peer **at, const char *job, uint32_t rank)
{
	struct mc_etcd_peer *p = t->n < MC_ETCD_PEERS_MAX ? calloc(1, sizeof(*p) + strlen(job) + 1) : NULL;

	if (p == NULL)
		return NULL;
	memcpy(p->job, job, strlen(job) + 1);
	p->rank = rank;
	p->gone = true;
	mc_list_init(&p->dirty);
	*at = p;
	t->n++;
	return p;
}

static void set_dirty(struct mc_etcd_table *t, struct mc_etcd_peer *p)
{
	mc_list_del(&p->dirty);
	mc_list_add_tail(p->gone && t->hold ? &t->parked : &t->dirty, &p->dirty);
}

static void drop_record(struct mc_etcd_table *t, struct mc_etcd_peer *p)
{
	if (p->record != NULL)
		t->pending -= p->record_len;
	free(p->record);
	p->record = NULL;
	p->record_len = 0;
}

static void set_gone(struct mc_etcd_table *t, struct mc_etcd_peer *p, uint64_t rev)
{
	drop_record(t, p);
	p->mod_rev = rev;
	if (p->gone)
		return;
	p->gone = true;
	set_dirty(t, p);
}

/* Takes v->record. */
static void set_there(struct mc_etcd_table *t, struct mc_etcd_peer *p, const struct mc_etcd_value *v, uint64_t rev)
{
	drop_record(t, p);
	p->gone = false;
	p->mod_rev = rev;
	p->epoch = v->epoch;
	memcpy(p->role, v->role, sizeof(p->role));
	p->record = v->record;
	p->record_len = v->record_len;
	t->pending += v->record_len;
	set_dirty(t, p);
}

static void skip(struct mc_etcd_table *t, const struct mc_etcd_kv *kv, const char *why)
{
	if (mc_ratelimit_ok(&t->skips, 1))
		mc_warn("etcd: key '%.*s' (revision %" PRIu64 ") is left out: %s",
			(int)(kv->key_len < 200 ? kv->key_len : 200), kv->key, kv->mod_rev, why);
}

/* Why there is nothing in it for us; NULL: out->record is ours now. */
static const char *read_value(const struct mc_etcd_kv *kv, struct mc_etcd_value *out)
{
	*out = (struct mc_etcd_value){.epoch = 0};
	if (kv->value == NULL)
		return "its value is too long";
	return mc_etcd_value_parse(kv->value, kv->value_len, out);
}

void mc_etcd_table_apply(struct mc_etcd_table *t, const char *prefix, const char *own_job, const struct mc_etcd_kv *kv)
{
	char job[MC_BRIDGE_JOB_MAX];
	uint32_t rank;
	struct mc_etcd_peer **at, *p;
	struct mc_etcd_value v;
	const char *why;

	if (!mc_etcd_peer_key_parse(kv->key, kv->key_len, prefix, job, &rank)) {
		if (!kv->deleted)
			skip(t, kv, "it does not name a job and a rank");
		return;
	}
	if (strcmp(job, own_job) == 0)
		return;
	at = place_of(t, job, rank);
	p = *at;
	if (p != NULL && p->mod_rev >= kv->mod_rev) {
		p->listed = t->listing;
		return;
	}
	if (kv->deleted) {
		if (p != NULL)
			set_gone(t, p, kv->mod_rev);
		return;
	}
	why = read_value(kv, &v);
	if (why == NULL && t->pending + v.record_len > MC_ETCD_PENDING_MAX) {
		skip(t, kv, "the engine has not taken many others yet; it is read again later");
		t->incomplete = true;
		if (p != NULL)
			p->listed = t->listing;
		free(v.record);
		return;
	}
	if (why == NULL && p == NULL)
		p = peer_new(t, at, job, rank);
	if (why == NULL && p == NULL) {
		free(v.record);
		why = "too many peers, or no memory";
	}
	if (why != NULL)
		skip(t, kv, why);
	if (p == NULL)
		return;
	p->listed = t->listing;
	if (why == NULL)
		set_there(t, p, &v, kv->mod_rev);
	else
		set_gone(t, p, kv->mod_rev);
}

void mc_etcd_table_list_begin(struct mc_etcd_table *t)
{
	t->listing++;
	t->incomplete = false;
}

void mc_etcd_table_list_end(struct mc_etcd_table *t, uint64_t revision)
{
	for (size_t i = 0; i < MC_ETCD_BUCKETS; i++)
		for (struct mc_etcd_peer *p = t->bucket[i]; p != NULL; p = p->next)
			if (p->listed != t->listing && p->mod_rev <= revision)
				set_gone(t, p, revision);
}

void mc_etcd_table_rewind(struct mc_etcd_table *t)
{
	for (size_t i = 0; i < MC_ETCD_BUCKETS; i++)
		for (struct mc_etcd_peer *p = t->bucket[i]; p != NULL; p = p->next)
			p->mod_rev = 0;
}

void mc_etcd_table_hold(struct mc_etcd_table *t)
{
	t->hold = true;
}

void mc_etcd_table_release(struct mc_etcd_table *t)
{
	struct mc_list *l;

	t->hold = false;
	while ((l = mc_list_pop(&t->parked)) != NULL)
		mc_list_add_tail(&t->dirty, l);
}

static void forget(struct mc_etcd_table *t, struct mc_etcd_peer *p)
{
	struct mc_etcd_peer **at = place_of(t, p->job, p->rank);

	*at = p->next;
	t->n--;
	t->held_peer = p;
}

bool mc_etcd_table_next(struct mc_etcd_table *t, struct mc_bridge_event *ev)
{
	let_go(t);
	while (!mc_list_empty(&t->dirty)) {
		struct mc_etcd_peer *p = mc_container_of(t->dirty.next, struct mc_etcd_peer, dirty);
		const bool told = p->told;

		mc_list_del(&p->dirty);
		memcpy(t->held_role, p->role,
		       sizeof(t->held_role)); /* p->role may change while the engine looks at it */
		*ev = (struct mc_bridge_event){.job = p->job, .role = t->held_role, .rank = p->rank};
		if (p->gone) {
			forget(t, p);
			if (!told) { /* came and went before the engine looked */
				let_go(t);
				continue;
			}
			ev->kind = MC_BRIDGE_DOWN;
			ev->epoch = p->told_epoch;
			return true;
		}
		ev->kind = MC_BRIDGE_UP;
		ev->epoch = p->epoch;
		ev->record = p->record;
		ev->record_len = p->record_len;
		p->told = true;
		p->told_epoch = p->epoch;
		t->held = p->record;
		t->pending -= p->record_len;
		p->record = NULL;
		p->record_len = 0;
		return true;
	}
	return false;
}

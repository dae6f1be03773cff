/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd_peers.c - who is there: listings, page by page, and the watch that goes on where they end. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bridge_etcd.h"

#define LIST_LIMIT_NS INT64_C(30000000000)
#define WATCH_LIFE_NS INT64_C(600000000000) /* a watch that has died without a sign is not believed for longer */

enum { PAGE_MAX = 256 };

/* ---- listings ---- */

char *mc_etcd_make_range(struct mc_bridge *b, const void *arg)
{
	(void)b;
	return mc_etcd_req_range(arg);
}

static bool is_own(const struct mc_bridge *b, const struct mc_etcd_kv *kv)
{
	return kv->key_len == strlen(b->own_key) && memcmp(kv->key, b->own_key, kv->key_len) == 0;
}

/* News of the own key: is it still what we put there? */
static void look_at_own(struct mc_bridge *b, const struct mc_etcd_kv *kv)
{
	struct mc_etcd_value v;

	b->own_listed = true;
	if (b->published_rev == 0 || kv->mod_rev <= b->published_rev)
		return;
	if (kv->deleted) { /* the lease ran out while we were stopped, or somebody removed it */
		b->usurped = false;
		b->published_n = 0;
		return;
	}
	if (kv->value == NULL || mc_etcd_value_parse(kv->value, kv->value_len, &v) != NULL) {
		b->published_n = 0;
		return;
	}
	b->usurped = v.epoch != b->cfg.epoch;
	free(v.record);
}

static void take_peer(void *arg, const struct mc_etcd_kv *kv)
{
	struct mc_bridge *b = arg;

	if (is_own(b, kv))
		look_at_own(b, kv);
	else
		mc_etcd_apply(b, kv);
}

static void take_listed(void *arg, const struct mc_etcd_kv *kv)
{
	struct mc_bridge *b = arg;
	char *key = malloc(kv->key_len + 1);

	take_peer(b, kv);
	if (key == NULL)
		return; /* then the listing goes no further, and ends with an error */
	memcpy(key, kv->key, kv->key_len);
	key[kv->key_len] = '\0'; /* what follows it in order: the same with a zero byte */
	free(b->last_key);
	b->last_key = key;
	b->last_key_len = kv->key_len;
	b->page_n++;
}

static void take_name(void *arg, const struct mc_etcd_kv *kv)
{
	struct mc_bridge *b = arg;

	take_listed(b, &(const struct mc_etcd_kv){.key = kv->key, .key_len = kv->key_len, .mod_rev = kv->mod_rev});
}

/* A page that is too long is asked for again, smaller; a single key that is too long is noted without its value. */
static mc_status_t list_page(struct mc_bridge *b, struct mc_etcd_query *q)
{
	struct mc_etcd_request r = {.path = "kv/range",
				    .make = mc_etcd_make_range,
				    .arg = q,
				    .on_kv = take_listed,
				    .limit_ns = LIST_LIMIT_NS};
	mc_status_t s;

	for (;;) {
		b->page_n = 0;
		s = mc_etcd_ask(b, &r);
		if (s != MC_ERR_NOSPC)
			break;
		if (q->limit > 1) {
			q->limit /= 4;
		} else if (!q->keys_only) {
			q->keys_only = true;
			r.on_kv = take_name;
		} else {
			break;
		}
	}
	if (q->keys_only) {
		q->keys_only = false;
		q->limit = PAGE_MAX;
	}
	return s;
}

/* Page after page; *revision_out is the one that all of them show. */
static mc_status_t list_pages(struct mc_bridge *b, uint64_t min_mod, uint64_t *revision_out)
{
	struct mc_etcd_query q = {.key = b->peers_key, .key_len = strlen(b->peers_key), .end = b->peers_end};
	char *from = NULL;
	mc_status_t s;

	q.min_mod = min_mod;
	q.limit = PAGE_MAX;
	do {
		b->page_n = 0;
		s = list_page(b, &q);
		if (s != MC_OK)
			break;
		if (q.revision == 0)
			q.revision = b->reply.revision;
		if (b->page_n == 0 && b->reply.more) {
			s = mc_etcd_fault(b, MC_ERR_CONFIG, "a listing of %s does not go on", b->peers_key);
			break;
		}
		free(from);
		from = b->last_key;
		q.key = from;
		q.key_len = b->last_key_len + 1;
		b->last_key = NULL;
	} while (b->reply.more);
	free(from);
	free(b->last_key);
	b->last_key = NULL;
	*revision_out = q.revision;
	return s;
}

/* All peers, or only those that have changed since the revision that we know; those that went, the watch tells then. */
static mc_status_t list_peers(struct mc_bridge *b, bool all)
{
	uint64_t revision;
	mc_status_t s;

	b->own_listed = false;
	if (!all)
		return list_pages(b, b->revision + 1, &revision);
	pthread_mutex_lock(&b->lock);
	mc_etcd_table_list_begin(&b->table);
	pthread_mutex_unlock(&b->lock);
	s = list_pages(b, 0, &revision);
	if (s != MC_OK)
		return s;
	pthread_mutex_lock(&b->lock);
	mc_etcd_table_list_end(&b->table, revision);
	mc_etcd_signal(b);
	pthread_mutex_unlock(&b->lock);
	b->revision = revision;
	b->listed = true;
	if (!b->own_listed) {
		b->usurped = false;
		b->published_n = 0;
	}
	return MC_OK;
}

/* ---- the watch ---- */

void mc_etcd_watch_line(struct mc_bridge *b, const char *line, size_t len)
{
	struct mc_etcd_reply r;

	if (len == 0 || b->watch_status != MC_OK)
		return;
	if (!mc_etcd_reply_parse(line, len, &r, take_peer, b)) {
		b->watch_status = mc_etcd_fault(b, MC_ERR_CONFIG, "the watch brings what etcd does not send");
		return;
	}
	if (r.canceled && r.compacted > 0) {
		b->listed = false;
		b->watch_status = mc_etcd_fault(b, MC_ERR_RANGE, "the history since revision %" PRIu64 " is compacted",
						b->revision);
		return;
	}
	if (r.canceled && r.code == 0) /* refused: 3.4 gives the reason as a text alone */
		r.code = strstr(r.error, "token") != NULL ? 16 : strstr(r.error, "denied") != NULL ? 7 : 14;
	if (r.code != 0) {
		b->watch_status = mc_etcd_judge(b, &r, 200);
		return;
	}
	b->watch_made = b->watch_made || r.created;
	if (!r.fragment && r.seen > b->revision)
		b->revision = r.seen;
	if (r.progress && r.revision > b->revision)
		b->revision = r.revision;
}

mc_status_t mc_etcd_watch_state(struct mc_bridge *b)
{
	const struct mc_etcd_http *x = &b->http;

	if (b->watch_status != MC_OK || !x->watch_on || !x->watch_done)
		return b->watch_status;
	if (x->watch_code != CURLE_OK)
		return mc_etcd_judge_curl(b, x->watch_code, x->watch_why);
	return mc_etcd_fault(b, MC_ERR_TIMEOUT, "etcd has ended the watch (HTTP %ld)", x->watch_http);
}

/* Watch from the revision after the one that we know; back when etcd has said that it does. */
mc_status_t mc_etcd_watch_peers(struct mc_bridge *b)
{
	const int64_t deadline_ns = mc_now_ns() + b->request_ns;
	mc_status_t s;

	b->watch_made = false;
	b->watch_status = MC_OK;
	s = mc_etcd_watch_start(b, mc_etcd_req_watch(b->peers_key, b->peers_end, b->revision + 1));
	while (s == MC_OK && !b->watch_made && mc_now_ns() < deadline_ns && !mc_etcd_stopping(b)) {
		mc_etcd_http_wait(b, deadline_ns);
		s = mc_etcd_watch_state(b);
	}
	if (s == MC_OK && mc_etcd_stopping(b))
		return MC_ERR_CANCELED;
	if (s == MC_OK && !b->watch_made)
		s = mc_etcd_judge_curl(b, CURLE_OPERATION_TIMEDOUT, "");
	b->renew_ns = mc_now_ns() + WATCH_LIFE_NS - (int64_t)(mc_random_u64() % (WATCH_LIFE_NS / 4));
	return s;
}

mc_status_t mc_etcd_catch_up(struct mc_bridge *b)
{
	mc_status_t s = MC_ERR_RANGE;

	/* Out of range: compacted under our hands. Then all is read again. */
	for (int i = 0; i < 3 && s == MC_ERR_RANGE; i++) {
		s = list_peers(b, !b->listed);
		if (s == MC_OK)
			s = mc_etcd_watch_peers(b);
		if (s == MC_ERR_RANGE)
			b->listed = false;
	}
	return s;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge_etcd_session.c - one session with one endpoint: log in, agree on the cluster's key, learn who is there, watch,
 * publish under a lease, and then keep all of that alive. Whatever fails ends the session; the next one takes up where
 * this one was: the same lease if it still lives, the watch from the revision that was reached.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge_etcd.h"

#define LOGIN_LIMIT_NS INT64_C(15000000000) /* etcd's bcrypt takes 0.1 s of its CPU, and ranks start together */
#define FULL_PAUSE_NS  INT64_C(60000000000)
#define HOLD_EXTRA_NS  INT64_C(5000000000) /* as long as others may pause between two attempts */

enum { PASSWORD_MAX = 1024 };

/* ---- log in ---- */

/* First line of the file, read each time: it may be renewed while we run. */
static mc_status_t read_password(struct mc_bridge *b, char out[PASSWORD_MAX])
{
	const char *path = b->config->etcd_password_file;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, out, PASSWORD_MAX - 1);
	const int err = errno;

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return mc_etcd_fault(b, MC_ERR_CONFIG, "MC_ETCD_PASSWORD_FILE=%s cannot be read: %s", path,
				     strerror(err));
	out[n] = '\0';
	out[strcspn(out, "\r\n")] = '\0';
	if (out[0] == '\0')
		return mc_etcd_fault(b, MC_ERR_CONFIG, "MC_ETCD_PASSWORD_FILE=%s has no password in its first line",
				     path);
	return MC_OK;
}

static mc_status_t login(struct mc_bridge *b)
{
	char password[PASSWORD_MAX];
	mc_status_t s;

	b->token[0] = '\0';
	if (b->config->etcd_user[0] == '\0')
		return MC_OK;
	s = read_password(b, password);
	if (s == MC_OK)
		s = mc_etcd_call(b, "auth/authenticate", mc_etcd_req_login(b->config->etcd_user, password),
				 LOGIN_LIMIT_NS, NULL);
	explicit_bzero(password, sizeof(password));
	if (s == MC_ERR_UNSUPPORTED) {
		if (!b->open_told)
			mc_warn("etcd %s does not ask for a password: who reaches it can read and write there; etcdctl "
				"auth enable",
				b->endpoint[b->at].url);
		b->open_told = true;
		return MC_OK;
	}
	if (s == MC_OK && b->reply.token[0] == '\0')
		s = mc_etcd_fault(b, MC_ERR_CONFIG, "what answers there is not etcd: it gives no token");
	if (s == MC_OK)
		memcpy(b->token, b->reply.token, sizeof(b->token));
	explicit_bzero(b->reply.token, sizeof(b->reply.token));
	return s;
}

mc_status_t mc_etcd_ask(struct mc_bridge *b, const struct mc_etcd_request *r)
{
	mc_status_t s = mc_etcd_call(b, r->path, r->make(b, r->arg), r->limit_ns, r->on_kv);

	if (s != MC_ERR_STALE)
		return s;
	s = login(b);
	if (s == MC_OK)
		s = mc_etcd_call(b, r->path, r->make(b, r->arg), r->limit_ns, r->on_kv);
	return s == MC_ERR_STALE ? MC_ERR_AUTH : s;
}

static char *make_create(struct mc_bridge *b, const void *arg)
{
	return mc_etcd_req_create(b->key_key, arg);
}

static char *make_put(struct mc_bridge *b, const void *arg)
{
	return mc_etcd_req_put(b->own_key, arg, b->lease);
}

static char *make_lease(struct mc_bridge *b, const void *arg)
{
	(void)arg;
	return mc_etcd_req_lease(b->lease, b->ttl_s);
}

static mc_status_t short_ask(struct mc_bridge *b, const char *path, char *(*make)(struct mc_bridge *, const void *),
			     const void *arg, mc_etcd_on_kv on_kv)
{
	const struct mc_etcd_request r = {
		.path = path, .make = make, .arg = arg, .on_kv = on_kv, .limit_ns = b->request_ns};

	return mc_etcd_ask(b, &r);
}

/* ---- the cluster's key ---- */

static void take_secret(void *arg, const struct mc_etcd_kv *kv)
{
	struct mc_bridge *b = arg;
	struct mc_etcd_secret s;

	if (kv->key_len != strlen(b->key_key) || memcmp(kv->key, b->key_key, kv->key_len) != 0)
		return;
	b->secret_bad = kv->value == NULL || !mc_etcd_secret_parse(kv->value, kv->value_len, &s);
	if (!b->secret_bad)
		b->secret_now = s;
	explicit_bzero(&s, sizeof(s));
}

/*
 * Who finds no key makes one; of several that do so at once the first wins. After a loss of the directory's data those
 * who still know the key write that one again, so that running jobs keep understanding each other.
 */
static mc_status_t create_secret(struct mc_bridge *b)
{
	struct mc_etcd_secret s = b->secret;
	char text[256];
	mc_status_t st;

	if (s.id[0] == '\0')
		for (size_t i = 0; i < sizeof(s.key); i += 8) {
			const uint64_t r = mc_random_u64();

			memcpy(s.key + i, &r, 8);
		}
	snprintf(s.id, sizeof(s.id), "%016" PRIx64, mc_random_u64());
	mc_etcd_secret_make(&s, text);
	st = short_ask(b, "kv/txn", make_create, text, take_secret);
	if (st == MC_OK && b->reply.succeeded)
		b->secret_now = s;
	explicit_bzero(text, sizeof(text));
	explicit_bzero(&s, sizeof(s));
	return st;
}

static mc_status_t agree_on_key(struct mc_bridge *b)
{
	const struct mc_etcd_query q = {.key = b->key_key, .key_len = strlen(b->key_key), .limit = 1};
	mc_status_t s;

	b->secret_bad = false;
	b->secret_now.id[0] = '\0';
	s = short_ask(b, "kv/range", mc_etcd_make_range, &q, take_secret);
	/*
	 * etcd 3.4 waits for the raft index that an old token names before it calls the token invalid: for ever, if its
	 * data was lost. An answer that does not come after the handshake did makes the token suspect.
	 */
	if (s == MC_ERR_TIMEOUT && b->http.ctl_sent)
		b->token[0] = '\0';
	if (s == MC_OK && b->secret_now.id[0] == '\0' && !b->secret_bad)
		s = create_secret(b);
	if (s != MC_OK)
		return s;
	if (b->secret_bad || b->secret_now.id[0] == '\0')
		return mc_etcd_fault(b, MC_ERR_CONFIG,
				     "key %s of the directory is not a cluster key; if nothing else needs "
				     "it: etcdctl del %s",
				     b->key_key, b->key_key);
	return MC_OK;
}

/* Is this still the directory that we know, or one whose data was lost, restored or made anew? */
static void meet_directory(struct mc_bridge *b)
{
	const bool known = b->secret.id[0] != '\0';
	const bool new_key = !known || memcmp(b->secret.key, b->secret_now.key, sizeof(b->secret.key)) != 0;
	const bool same = known && b->cluster == b->reply.cluster && b->revision <= b->reply.revision &&
			  strcmp(b->secret.id, b->secret_now.id) == 0;

	if (known && !same) {
		mc_warn("etcd %s has lost its data, or it is another one: everything is read and published again",
			b->endpoint[b->at].url);
		pthread_mutex_lock(&b->lock);
		mc_etcd_table_rewind(&b->table);
		pthread_mutex_unlock(&b->lock);
		b->lease = 0;
		b->published_n = 0;
		b->published_rev = 0;
	}
	if (known && new_key)
		mc_warn("etcd: the key of cluster %s is another one now; peers that have the old one do not understand "
			"it",
			b->prefix);
	if (!same)
		b->listed = false;
	b->secret = b->secret_now;
	b->cluster = b->reply.cluster;
	if (new_key)
		mc_etcd_tell_key(b, b->secret.key);
}

/* ---- the own record ---- */

static void plan_keepalive(struct mc_bridge *b)
{
	const int64_t third_ns = (int64_t)b->ttl_s * 1000000000 / 3;

	/* Ranks that started together shall not ask together. */
	b->keep_ns = mc_now_ns() + third_ns - (int64_t)(mc_random_u64() % (uint64_t)(third_ns / 3));
}

/* Is our lease alive? If not, b->lease is 0 afterwards. */
static mc_status_t keep_lease(struct mc_bridge *b)
{
	mc_status_t s = short_ask(b, "lease/keepalive", make_lease, NULL, NULL);

	if (s == MC_ERR_NOENT || (s == MC_OK && b->reply.ttl_s == 0)) {
		b->lease = 0;
		b->published_n = 0;
		return MC_OK;
	}
	return s;
}

static mc_status_t grant_lease(struct mc_bridge *b)
{
	mc_status_t s;

	b->lease = 0;
	s = short_ask(b, "lease/grant", make_lease, NULL, NULL);
	if (s == MC_OK && b->reply.lease == 0)
		s = mc_etcd_fault(b, MC_ERR_CONFIG, "what answers there is not etcd: it grants no lease");
	if (s == MC_OK)
		b->lease = b->reply.lease;
	return s;
}

static bool has_news(struct mc_bridge *b)
{
	bool news;

	pthread_mutex_lock(&b->lock);
	news = b->value != NULL && b->value_n != b->published_n && !b->usurped && mc_now_ns() >= b->put_after_ns;
	pthread_mutex_unlock(&b->lock);
	return news;
}

static mc_status_t publish(struct mc_bridge *b)
{
	mc_status_t s = MC_OK;
	uint64_t n;
	char *value;

	if (!has_news(b))
		return MC_OK;
	pthread_mutex_lock(&b->lock);
	value = strdup(b->value);
	n = b->value_n;
	pthread_mutex_unlock(&b->lock);
	for (int i = 0; i < 2; i++) {
		s = b->lease == 0 ? grant_lease(b) : MC_OK;
		if (s == MC_OK)
			s = short_ask(b, "kv/put", make_put, value, NULL);
		if (s != MC_ERR_NOENT)
			break;
		b->lease = 0; /* it ran out in between */
	}
	free(value);
	if (s == MC_OK) {
		b->published_n = n;
		b->published_rev = b->reply.revision;
	} else if (s == MC_ERR_BUSY) { /* others can be found all the same */
		mc_warn("etcd %s: this rank cannot be published: %s", b->endpoint[b->at].url, b->why);
		b->put_after_ns = mc_now_ns() + FULL_PAUSE_NS;
		s = MC_OK;
	}
	return s;
}

/* Another process under our name: it came later, so it stays, and ours is told to the user. */
static void tell_usurper(struct mc_bridge *b)
{
	if (b->usurped == b->usurp_told)
		return;
	b->usurp_told = b->usurped;
	if (!b->usurped) {
		mc_etcd_tell_sync(b, MC_OK, NULL);
		return;
	}
	mc_etcd_fault(b, MC_ERR_CONFIG,
		      "another process publishes as rank %" PRIu32 " of job %s in cluster %s: this rank is "
		      "not found by others; give each job a name of its own (MC_JOB)",
		      b->cfg.rank, b->cfg.job, b->prefix);
	mc_warn("etcd: %s", b->why);
	mc_etcd_tell_sync(b, MC_ERR_CONFIG, b->why);
}

/* ---- the session ---- */

/* The directory was away: let those whose lease ran out meanwhile come back before they are told to be gone. */
static void hold_departures(struct mc_bridge *b)
{
	b->release_ns = INT64_MAX;
	if (b->secret.id[0] == '\0')
		return;
	pthread_mutex_lock(&b->lock);
	mc_etcd_table_hold(&b->table);
	pthread_mutex_unlock(&b->lock);
	b->release_ns = mc_now_ns() + b->config->etcd_lease + HOLD_EXTRA_NS;
}

static void release_departures(struct mc_bridge *b)
{
	b->release_ns = INT64_MAX;
	pthread_mutex_lock(&b->lock);
	mc_etcd_table_release(&b->table);
	mc_etcd_signal(b);
	pthread_mutex_unlock(&b->lock);
}

mc_status_t mc_etcd_session_begin(struct mc_bridge *b)
{
	mc_status_t s = b->token[0] == '\0' ? login(b) : MC_OK; /* the old token may still do */

	if (s == MC_OK)
		s = agree_on_key(b);
	if (s != MC_OK)
		return s;
	hold_departures(b);
	meet_directory(b);
	if (b->lease != 0)
		s = keep_lease(b);
	if (s == MC_OK)
		s = mc_etcd_catch_up(b);
	/* The token may run out between the list and the watch, which is not asked for twice like the rest. */
	for (int i = 0; i < 2 && s == MC_ERR_STALE; i++) {
		s = login(b);
		if (s == MC_OK)
			s = mc_etcd_catch_up(b);
	}
	if (s == MC_OK)
		s = publish(b);
	plan_keepalive(b);
	return s;
}

int64_t mc_etcd_session_alarm(const struct mc_bridge *b)
{
	int64_t at = b->keep_ns < b->renew_ns ? b->keep_ns : b->renew_ns;

	return at < b->release_ns ? at : b->release_ns;
}

bool mc_etcd_session_due(struct mc_bridge *b)
{
	return has_news(b) || b->usurped != b->usurp_told || mc_etcd_watch_state(b) != MC_OK;
}

mc_status_t mc_etcd_session_step(struct mc_bridge *b)
{
	const struct mc_etcd_query q = {
		.key = b->key_key, .key_len = strlen(b->key_key), .limit = 1, .keys_only = true};
	const int64_t now = mc_now_ns();
	mc_status_t s = mc_etcd_watch_state(b);

	if (now >= b->release_ns)
		release_departures(b);
	if (s == MC_ERR_RANGE || (s == MC_OK && b->table.incomplete && now >= b->keep_ns)) {
		mc_etcd_watch_stop(b);
		b->listed = false;
		s = mc_etcd_catch_up(b);
	} else if (s == MC_OK && now >= b->renew_ns) {
		s = mc_etcd_watch_peers(b);
	}
	if (s == MC_OK && now >= b->keep_ns) {
		s = b->lease != 0 ? keep_lease(b) : short_ask(b, "kv/range", mc_etcd_make_range, &q, NULL);
		plan_keepalive(b);
	}
	if (s == MC_OK)
		s = publish(b);
	tell_usurper(b);
	return s;
}

void mc_etcd_session_revoke(struct mc_bridge *b)
{
	const struct mc_etcd_request r = {.path = "lease/revoke", .make = make_lease, .limit_ns = b->request_ns};

	if (b->lease != 0)
		(void)mc_etcd_ask(b, &r); /* if it fails, the lease runs out */
}

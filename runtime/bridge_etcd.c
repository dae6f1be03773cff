/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd.c - the etcd bridge as the engine sees it (bridge.h), its settings, and its way into the thread and out.
 */
#include "bridge_etcd.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PORT_DEFAULT = 2379 };

/* ---- settings ---- */

static bool part(const struct mc_etcd_curl *curl, CURLU *u, CURLUPart what, char **out)
{
	*out = NULL;
	return curl->url_get(u, what, out, 0) == CURLUE_OK && *out != NULL && (*out)[0] != '\0';
}

/* What is wrong with it; NULL: *e is set. A password must not stand there: the address is shown in messages. */
static const char *endpoint_parse(const struct mc_etcd_curl *curl, CURLU *u, const char *text,
				  struct mc_etcd_endpoint *e)
{
	char *scheme = NULL, *host = NULL, *port = NULL, *user = NULL, *path = NULL, *rest = NULL;
	const char *why = NULL;

	if (strstr(text, "://") == NULL ||
	    curl->url_set(u, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
	    !part(curl, u, CURLUPART_SCHEME, &scheme) || !part(curl, u, CURLUPART_HOST, &host))
		why = "must be http://HOST:2379 or https://HOST:2379, several with commas between";
	else if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
		why = "must begin with http:// or https://";
	else if (part(curl, u, CURLUPART_USER, &user))
		why = "must not hold a user or password: those belong into MC_ETCD_USER and MC_ETCD_PASSWORD_FILE";
	else if ((part(curl, u, CURLUPART_PATH, &path) && strcmp(path, "/") != 0) ||
		 part(curl, u, CURLUPART_QUERY, &rest))
		why = "must not have a path";
	if (why == NULL) {
		e->tls = strcmp(scheme, "https") == 0;
		(void)part(curl, u, CURLUPART_PORT, &port);
		if (port != NULL ? asprintf(&e->url, "%s://%s:%s", scheme, host, port) < 0
				 : asprintf(&e->url, "%s://%s:%d", scheme, host, PORT_DEFAULT) < 0) {
			e->url = NULL;
			why = "no memory";
		}
	}
	curl->free(scheme);
	curl->free(host);
	curl->free(port);
	curl->free(user);
	curl->free(path);
	curl->free(rest);
	return why;
}

static mc_status_t take_endpoints(struct mc_bridge *b)
{
	char *list = strdup(b->config->etcd), *save = NULL, *one;
	const char *why = list == NULL ? "no memory" : NULL;

	for (one = why == NULL ? strtok_r(list, ", ", &save) : NULL; one != NULL && why == NULL;
	     one = strtok_r(NULL, ", ", &save)) {
		CURLU *u = b->curl.url();

		if (b->endpoint_n == MC_ETCD_ENDPOINTS_MAX)
			why = "names too many endpoints";
		else
			why = u == NULL ? "no memory" : endpoint_parse(&b->curl, u, one, &b->endpoint[b->endpoint_n]);
		if (why == NULL)
			b->endpoint_n++;
		b->curl.url_cleanup(u);
	}
	if (why == NULL && b->endpoint_n == 0)
		why = "names no endpoint";
	if (why != NULL)
		mc_error("MC_ETCD %s", why);
	free(list);
	return why == NULL ? MC_OK : MC_ERR_CONFIG;
}

static mc_status_t take_prefix(struct mc_bridge *b)
{
	const char *p = b->config->etcd_prefix;
	size_t len = strlen(p);

	while (len > 0 && p[len - 1] == '/')
		len--;
	if (len == 0 || len >= sizeof(b->prefix)) {
		mc_error("MC_ETCD_PREFIX=%s: must have 1 to %zu bytes besides '/' at its end", p,
			 sizeof(b->prefix) - 1);
		return MC_ERR_CONFIG;
	}
	memcpy(b->prefix, p, len);
	snprintf(b->key_key, sizeof(b->key_key), "%s/key", b->prefix);
	snprintf(b->peers_key, sizeof(b->peers_key), "%s/peers/", b->prefix);
	snprintf(b->peers_end, sizeof(b->peers_end), "%s/peers0", b->prefix); /* '0' comes after '/' */
	mc_etcd_peer_key(b->own_key, b->prefix, b->cfg.job, b->cfg.rank);
	return MC_OK;
}

static bool readable(const char *name, const char *path)
{
	if (path[0] == '\0' || access(path, R_OK) == 0)
		return true;
	mc_error("%s=%s cannot be read: %s", name, path, strerror(errno));
	return false;
}

/*
 * A secret that everybody on this host may read is one no longer; the ranks go on, for it may be meant. Its group may:
 * that is how several users, and pods with a fsGroup, share one.
 */
static void check_private(const char *name, const char *path)
{
	struct stat st;

	if (path[0] != '\0' && stat(path, &st) == 0 && (st.st_mode & S_IROTH) != 0)
		mc_warn("%s=%s can be read by everybody on this host (mode %04o): chmod 600 %s", name, path,
			(unsigned int)(st.st_mode & 07777), path);
}

static mc_status_t check_credentials(const struct mc_bridge *b)
{
	const struct mc_config *c = b->config;
	bool plain = false, tls = false;

	for (uint32_t i = 0; i < b->endpoint_n; i++) {
		plain = plain || !b->endpoint[i].tls;
		tls = tls || b->endpoint[i].tls;
	}
	if ((c->etcd_user[0] == '\0') != (c->etcd_password_file[0] == '\0')) {
		mc_error("MC_ETCD_USER and MC_ETCD_PASSWORD_FILE belong together: only one of them is set");
		return MC_ERR_CONFIG;
	}
	if ((c->etcd_cert[0] == '\0') != (c->etcd_key[0] == '\0')) {
		mc_error("MC_ETCD_CERT and MC_ETCD_KEY belong together: only one of them is set");
		return MC_ERR_CONFIG;
	}
	if (!tls && (c->etcd_ca[0] != '\0' || c->etcd_cert[0] != '\0')) {
		mc_error("MC_ETCD_CA or MC_ETCD_CERT is set, but MC_ETCD=%s is without TLS: https://", c->etcd);
		return MC_ERR_CONFIG;
	}
	if (!readable("MC_ETCD_CA", c->etcd_ca) || !readable("MC_ETCD_CERT", c->etcd_cert) ||
	    !readable("MC_ETCD_KEY", c->etcd_key) || !readable("MC_ETCD_PASSWORD_FILE", c->etcd_password_file))
		return MC_ERR_CONFIG;
	if (b->cfg.rank == 0) {
		check_private("MC_ETCD_PASSWORD_FILE", c->etcd_password_file);
		check_private("MC_ETCD_KEY", c->etcd_key);
	}
	if (plain && c->etcd_user[0] != '\0' && b->cfg.rank == 0)
		mc_warn("MC_ETCD: the password and the cluster's key go to http:// in clear; use https://");
	return MC_OK;
}

static mc_status_t take_settings(struct mc_bridge *b)
{
	const int64_t third_ns = b->config->etcd_lease / 3;
	mc_status_t s = take_endpoints(b);

	if (s == MC_OK)
		s = take_prefix(b);
	if (s == MC_OK)
		s = check_credentials(b);
	b->ttl_s = (uint64_t)((b->config->etcd_lease + 999999999) / 1000000000);
	/* An etcd that hangs is noticed while there is time left to find another before the lease is over. */
	b->request_ns = third_ns < 1000000000 ? 1000000000 : third_ns > 3000000000 ? 3000000000 : third_ns;
	return s;
}

/* ---- from the thread to the engine ---- */

void mc_etcd_signal(struct mc_bridge *b)
{
	const uint64_t one = 1;

	if (b->signaled || (!b->key_news && !b->sync_news && mc_list_empty(&b->table.dirty)))
		return;
	b->signaled = write(b->event_fd, &one, sizeof(one)) == (ssize_t)sizeof(one);
}

void mc_etcd_tell_key(struct mc_bridge *b, const uint8_t key[MC_BRIDGE_KEY_LEN])
{
	pthread_mutex_lock(&b->lock);
	memcpy(b->key, key, sizeof(b->key));
	b->key_news = true;
	mc_etcd_signal(b);
	pthread_mutex_unlock(&b->lock);
}

void mc_etcd_tell_sync(struct mc_bridge *b, mc_status_t s, const char *text)
{
	pthread_mutex_lock(&b->lock);
	b->sync = s;
	snprintf(b->sync_text, sizeof(b->sync_text), "%s", text != NULL ? text : "");
	b->sync_news = true;
	mc_etcd_signal(b);
	pthread_mutex_unlock(&b->lock);
}

void mc_etcd_apply(struct mc_bridge *b, const struct mc_etcd_kv *kv)
{
	pthread_mutex_lock(&b->lock);
	mc_etcd_table_apply(&b->table, b->prefix, b->cfg.job, kv);
	mc_etcd_signal(b);
	pthread_mutex_unlock(&b->lock);
}

static bool take_event(struct mc_bridge *b, struct mc_bridge_event *ev)
{
	if (b->key_news) {
		memcpy(b->held_key, b->key, sizeof(b->held_key));
		b->key_news = false;
		*ev = (struct mc_bridge_event){.kind = MC_BRIDGE_KEY, .key = b->held_key};
		return true;
	}
	if (mc_etcd_table_next(&b->table, ev))
		return true;
	if (!b->sync_news)
		return false;
	memcpy(b->held_text, b->sync_text, sizeof(b->held_text));
	b->sync_news = false;
	*ev = (struct mc_bridge_event){.kind = MC_BRIDGE_SYNCED, .status = b->sync, .text = b->held_text};
	return true;
}

static mc_status_t etcd_next(struct mc_bridge *b, struct mc_bridge_event *ev)
{
	uint64_t count;
	bool any;

	pthread_mutex_lock(&b->lock);
	any = take_event(b, ev);
	if (!any && b->signaled)
		b->signaled = read(b->event_fd, &count, sizeof(count)) != (ssize_t)sizeof(count);
	pthread_mutex_unlock(&b->lock);
	return any ? MC_OK : MC_ERR_AGAIN;
}

/* ---- from the engine to the thread ---- */

static void wake(struct mc_bridge *b)
{
	const uint64_t one = 1;

	/* Fails only when the count is full, and then the thread is awake anyway. */
	if (write(b->wake_fd, &one, sizeof(one)) < 0)
		return;
}

static mc_status_t etcd_publish(struct mc_bridge *b, const void *record, uint32_t len, const char *info)
{
	char *value, *old;

	if (len == 0 || len > MC_BRIDGE_RECORD_MAX)
		return MC_ERR_INVAL;
	value = mc_etcd_value_make(b->cfg.role, b->cfg.epoch, record, len, info);
	if (value == NULL)
		return MC_ERR_NOMEM;
	pthread_mutex_lock(&b->lock);
	old = b->value;
	b->value = value;
	b->value_n++;
	pthread_mutex_unlock(&b->lock);
	free(old);
	wake(b);
	return MC_OK;
}

/* ---- open, close ---- */

static void bridge_free(struct mc_bridge *b)
{
	if (b->wake_fd >= 0)
		close(b->wake_fd);
	if (b->event_fd >= 0)
		close(b->event_fd);
	for (uint32_t i = 0; i < MC_ETCD_ENDPOINTS_MAX; i++)
		free(b->endpoint[i].url);
	mc_etcd_table_free(&b->table);
	pthread_mutex_destroy(&b->lock);
	free(b->value);
	b->curl.global_cleanup();      /* counted by libcurl */
	explicit_bzero(b, sizeof(*b)); /* token and keys */
	free(b);
}

/* The program's signals are not this thread's business. */
static int start_thread(struct mc_bridge *b)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&b->thread, NULL, mc_etcd_thread, b);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err == 0)
		(void)pthread_setname_np(b->thread, "mc-etcd"); /* for who looks at the process */
	return err;
}

static mc_status_t etcd_open(const struct mc_bridge_cfg *cfg, struct mc_bridge **bridge_out, int *event_fd_out)
{
	struct mc_bridge *b;
	mc_status_t s;
	int err;

	if (cfg->config->etcd[0] == '\0')
		return MC_ERR_UNSUPPORTED;
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return MC_ERR_NOMEM;
	s = mc_etcd_curl_load(&b->curl);
	if (s != MC_OK) {
		free(b);
		return s;
	}
	b->cfg = *cfg;
	b->config = cfg->config;
	mc_etcd_table_init(&b->table);
	pthread_mutex_init(&b->lock, NULL);
	b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	b->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s = b->wake_fd >= 0 && b->event_fd >= 0 ? take_settings(b) : MC_ERR_NOMEM;
	err = s == MC_OK ? start_thread(b) : 0;
	if (err != 0) {
		mc_error("MC_ETCD: no thread can be started: %s; see ulimit -u and the pids limit of the container",
			 strerror(err));
		s = MC_ERR_NOMEM;
	}
	if (s != MC_OK) {
		bridge_free(b);
		return s;
	}
	*bridge_out = b;
	*event_fd_out = b->event_fd;
	return MC_OK;
}

static void etcd_close(struct mc_bridge *b)
{
	if (b == NULL)
		return;
	atomic_store(&b->stop, true);
	wake(b);
	pthread_join(b->thread, NULL);
	bridge_free(b);
}

const struct mc_bridge_ops mc_bridge_etcd = {
	.abi = MC_BRIDGE_ABI,
	.size = sizeof(struct mc_bridge_ops),
	.name = "etcd",
	.open = etcd_open,
	.publish = etcd_publish,
	.next = etcd_next,
	.close = etcd_close,
};

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge_etcd_http.c - HTTP for one session with one endpoint: a connection for requests, one after the other, and one
 * for the watch. Both live in one multi handle, so whoever waits for an answer also takes what the watch brings.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bridge_etcd.h"

enum { POLL_MAX_MS = 60000, KEEP_IDLE_S = 10, KEEP_INTERVAL_S = 5, KEEP_COUNT = 3, UNACKED_MS = 20000 };

mc_status_t mc_etcd_fault(struct mc_bridge *b, mc_status_t s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(b->why, sizeof(b->why), fmt, ap) < 0)
		b->why[0] = '\0';
	va_end(ap);
	return s;
}

bool mc_etcd_stopping(const struct mc_bridge *b)
{
	return !b->leaving && atomic_load(&b->stop);
}

bool mc_etcd_woken(struct mc_bridge *b)
{
	uint64_t count;

	return read(b->wake_fd, &count, sizeof(count)) > 0;
}

/* ---- what comes in ---- */

static bool body_add(struct mc_etcd_body *body, const char *data, size_t len)
{
	size_t room = body->room;
	char *p;

	if (len > MC_ETCD_REPLY_MAX - body->len) {
		body->too_long = true;
		return false;
	}
	while (room < body->len + len)
		room = room == 0 ? 4096 : 2 * room;
	if (room != body->room) {
		p = realloc(body->p, room);
		if (p == NULL)
			return false;
		body->p = p;
		body->room = room;
	}
	memcpy(body->p + body->len, data, len);
	body->len += len;
	return true;
}

static void body_free(struct mc_etcd_body *body)
{
	free(body->p);
	*body = (struct mc_etcd_body){.p = NULL};
}

static size_t on_reply(char *data, size_t size, size_t n, void *arg)
{
	struct mc_bridge *b = arg;

	return body_add(&b->http.reply, data, size * n) ? size * n : 0;
}

/* Whole lines are handed on as they come; the rest waits for its end. */
static size_t on_watch(char *data, size_t size, size_t n, void *arg)
{
	struct mc_bridge *b = arg;
	struct mc_etcd_body *line = &b->http.line;
	size_t left = size * n;

	while (left > 0) {
		char *end = memchr(data, '\n', left);
		size_t len = end == NULL ? left : (size_t)(end - data);

		if (!body_add(line, data, len))
			return 0;
		if (end == NULL)
			break;
		mc_etcd_watch_line(b, line->p, line->len);
		line->len = 0;
		if (line->room > 65536)
			body_free(line);
		data += len + 1;
		left -= len + 1;
	}
	return size * n;
}

/* A socket that children do not inherit, and that notices a peer which is gone without a word. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	const int idle = KEEP_IDLE_S, interval = KEEP_INTERVAL_S, count = KEEP_COUNT, unacked = UNACKED_MS, on = 1;
	int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);

	(void)arg;
	(void)purpose;
	if (fd < 0)
		return CURL_SOCKET_BAD;
	/* Without these it works as well, only slower: they are not checked. */
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked, sizeof(unacked));
	return fd;
}

/* ---- open, close ---- */

static const char *or_null(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

static CURL *handle_new(struct mc_bridge *b, curl_write_callback write_cb, char *why)
{
	const struct mc_config *c = b->config;
	CURL *h = b->curl.easy_init();
	bool ok;

	if (h == NULL)
		return NULL;
	ok = b->curl.easy_setopt(h, CURLOPT_PROTOCOLS_STR, b->endpoint[b->at].tls ? "https" : "http") == CURLE_OK;
	/* A proxy of the environment is for the web; etcd is inside. */
	ok = ok && b->curl.easy_setopt(h, CURLOPT_PROXY, c->etcd_proxy) == CURLE_OK;
	if (c->etcd_proxy[0] != '\0')
		ok = ok && b->curl.easy_setopt(h, CURLOPT_NOPROXY, "") == CURLE_OK;
	ok = ok && b->curl.easy_setopt(h, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
	ok = ok &&
	     b->curl.easy_setopt(h, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK; /* never waits for a name server at the end */
	ok = ok && b->curl.easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK;
	ok = ok && b->curl.easy_setopt(h, CURLOPT_POST, 1L) == CURLE_OK;
	ok = ok && b->curl.easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)(b->request_ns / 1000000)) == CURLE_OK;
	ok = ok && b->curl.easy_setopt(h, CURLOPT_ERRORBUFFER, why) == CURLE_OK;
	ok = ok && b->curl.easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK;
	ok = ok && b->curl.easy_setopt(h, CURLOPT_WRITEFUNCTION, write_cb) == CURLE_OK;
	ok = ok && b->curl.easy_setopt(h, CURLOPT_WRITEDATA, b) == CURLE_OK;
	ok = ok && b->curl.easy_setopt(h, CURLOPT_USERAGENT, "libmc") == CURLE_OK;
	if (b->endpoint[b->at].tls) {
		ok = ok && b->curl.easy_setopt(h, CURLOPT_CA_CACHE_TIMEOUT, 0L) == CURLE_OK; /* files may be renewed */
		if (or_null(c->etcd_ca) != NULL)
			ok = ok && b->curl.easy_setopt(h, CURLOPT_CAINFO, c->etcd_ca) == CURLE_OK &&
			     b->curl.easy_setopt(h, CURLOPT_CAPATH, NULL) == CURLE_OK;
		ok = ok && b->curl.easy_setopt(h, CURLOPT_SSLCERT, or_null(c->etcd_cert)) == CURLE_OK;
		ok = ok && b->curl.easy_setopt(h, CURLOPT_SSLKEY, or_null(c->etcd_key)) == CURLE_OK;
	}
	if (ok)
		return h;
	b->curl.easy_cleanup(h);
	return NULL;
}

mc_status_t mc_etcd_http_open(struct mc_bridge *b)
{
	struct mc_etcd_http *x = &b->http;

	*x = (struct mc_etcd_http){.multi = b->curl.multi_init()};
	x->ctl = handle_new(b, on_reply, x->why);
	x->watch = handle_new(b, on_watch, x->watch_why);
	if (x->multi != NULL && x->ctl != NULL && x->watch != NULL)
		return MC_OK;
	mc_etcd_http_close(b);
	return mc_etcd_fault(b, MC_ERR_NOMEM, "libcurl gives no handle (no memory, or built without TLS)");
}

void mc_etcd_http_close(struct mc_bridge *b)
{
	struct mc_etcd_http *x = &b->http;

	mc_etcd_watch_stop(b);
	b->curl.easy_cleanup(x->watch);
	b->curl.easy_cleanup(x->ctl);
	if (x->multi != NULL)
		b->curl.multi_cleanup(x->multi);
	b->curl.slist_free_all(x->ctl_head);
	body_free(&x->reply);
	*x = (struct mc_etcd_http){.multi = NULL};
}

/* ---- requests ---- */

static void note_ends(struct mc_bridge *b)
{
	struct mc_etcd_http *x = &b->http;
	struct CURLMsg *m;
	int left;

	while ((m = b->curl.multi_info_read(x->multi, &left)) != NULL) {
		if (m->msg != CURLMSG_DONE)
			continue;
		if (m->easy_handle == x->ctl) {
			x->ctl_done = true;
			x->ctl_code = m->data.result;
		} else if (m->easy_handle == x->watch) {
			x->watch_done = true;
			x->watch_code = m->data.result;
			(void)b->curl.easy_getinfo(x->watch, CURLINFO_RESPONSE_CODE, &x->watch_http);
		}
	}
}

/* One round: what can be done, then sleep until something can be, at most until the time; true: woken by the engine. */
static bool turn(struct mc_bridge *b, int64_t until_ns)
{
	struct mc_etcd_http *x = &b->http;
	struct curl_waitfd wake = {.fd = b->wake_fd, .events = CURL_WAIT_POLLIN};
	int running, left_ms;
	int64_t left_ns;

	(void)b->curl.multi_perform(x->multi, &running);
	note_ends(b);
	if (x->ctl_done || (x->watch_on && x->watch_done) || mc_etcd_stopping(b))
		return false;
	left_ns = until_ns - mc_now_ns();
	if (left_ns <= 0)
		return false;
	left_ms = left_ns / 1000000 >= POLL_MAX_MS ? POLL_MAX_MS : (int)(left_ns / 1000000) + 1;
	(void)b->curl.multi_poll(x->multi, &wake, 1, left_ms, NULL);
	return mc_etcd_woken(b);
}

static struct curl_slist *headers(const struct mc_bridge *b)
{
	char line[MC_ETCD_TOKEN_MAX + 32];
	struct curl_slist *list, *more;

	list = b->curl.slist_append(NULL, "Content-Type: application/json");
	more = list == NULL ? NULL : b->curl.slist_append(list, "Expect:");
	if (more != NULL && b->token[0] != '\0') {
		snprintf(line, sizeof(line), "Authorization: %s", b->token);
		more = b->curl.slist_append(list, line);
	}
	if (more == NULL)
		b->curl.slist_free_all(list);
	return more == NULL ? NULL : list;
}

static bool set_request(struct mc_bridge *b, CURL *h, const char *path, const char *body, struct curl_slist *head)
{
	char url[1024];
	const int n = snprintf(url, sizeof(url), "%s/v3/%s", b->endpoint[b->at].url, path);

	return body != NULL && head != NULL && n > 0 && (size_t)n < sizeof(url) &&
	       b->curl.easy_setopt(h, CURLOPT_URL, url) == CURLE_OK &&
	       b->curl.easy_setopt(h, CURLOPT_POSTFIELDS, body) == CURLE_OK &&
	       b->curl.easy_setopt(h, CURLOPT_POSTFIELDSIZE, (long)strlen(body)) == CURLE_OK &&
	       b->curl.easy_setopt(h, CURLOPT_HTTPHEADER, head) == CURLE_OK;
}

static mc_status_t judge_reply(struct mc_bridge *b, mc_etcd_on_kv on_kv)
{
	struct mc_etcd_http *x = &b->http;
	long http = 0;

	if (x->ctl_code != CURLE_OK) {
		if (x->reply.too_long)
			return mc_etcd_fault(b, MC_ERR_NOSPC, "an answer is longer than %d bytes", MC_ETCD_REPLY_MAX);
		return mc_etcd_judge_curl(b, x->ctl_code, x->why);
	}
	(void)b->curl.easy_getinfo(x->ctl, CURLINFO_RESPONSE_CODE, &http);
	if (!mc_etcd_reply_parse(x->reply.p, x->reply.len, &b->reply, http == 200 ? on_kv : NULL, b))
		b->reply.code = -1;
	if (http == 200 && b->reply.code == 0)
		return MC_OK;
	return mc_etcd_judge(b, &b->reply, http);
}

mc_status_t mc_etcd_call(struct mc_bridge *b, const char *path, char *body, int64_t limit_ns, mc_etcd_on_kv on_kv)
{
	struct mc_etcd_http *x = &b->http;
	int64_t deadline_ns = mc_now_ns() + limit_ns;
	mc_status_t s = MC_ERR_CANCELED;
	curl_off_t sent_us = 0;

	if (b->leaving && deadline_ns > b->leave_ns)
		deadline_ns = b->leave_ns;
	b->curl.slist_free_all(x->ctl_head);
	x->ctl_head = headers(b);
	x->reply.len = 0;
	x->reply.too_long = false;
	x->ctl_done = false;
	x->why[0] = '\0';
	if (!set_request(b, x->ctl, path, body, x->ctl_head) ||
	    b->curl.multi_add_handle(x->multi, x->ctl) != CURLM_OK) {
		s = mc_etcd_fault(b, MC_ERR_NOMEM, "no memory for a request");
		goto undo_body;
	}
	while (!x->ctl_done && mc_now_ns() < deadline_ns && !mc_etcd_stopping(b))
		(void)turn(b, deadline_ns);
	(void)b->curl.easy_getinfo(x->ctl, CURLINFO_PRETRANSFER_TIME_T, &sent_us);
	x->ctl_sent = sent_us > 0;
	if (!x->ctl_done && !mc_etcd_stopping(b)) {
		x->ctl_done = true;
		x->ctl_code = CURLE_OPERATION_TIMEDOUT;
	}
	(void)b->curl.multi_remove_handle(x->multi, x->ctl);
	if (x->ctl_done)
		s = judge_reply(b, on_kv);
	x->ctl_done = false;
	if (x->reply.room > 65536)
		body_free(&x->reply);
undo_body:
	if (body != NULL)
		explicit_bzero(body, strlen(body)); /* it may hold a password */
	free(body);
	return s;
}

/* ---- the watch ---- */

mc_status_t mc_etcd_watch_start(struct mc_bridge *b, char *body)
{
	struct mc_etcd_http *x = &b->http;

	mc_etcd_watch_stop(b);
	x->watch_body = body;
	x->watch_head = headers(b);
	x->watch_done = false;
	x->watch_code = CURLE_OK;
	x->watch_http = 0;
	x->watch_why[0] = '\0';
	if (!set_request(b, x->watch, "watch", body, x->watch_head) ||
	    b->curl.multi_add_handle(x->multi, x->watch) != CURLM_OK)
		return mc_etcd_fault(b, MC_ERR_NOMEM, "no memory for a request");
	x->watch_on = true;
	return MC_OK;
}

void mc_etcd_watch_stop(struct mc_bridge *b)
{
	struct mc_etcd_http *x = &b->http;

	if (x->watch_on)
		(void)b->curl.multi_remove_handle(x->multi, x->watch);
	x->watch_on = false;
	free(x->watch_body);
	x->watch_body = NULL;
	b->curl.slist_free_all(x->watch_head);
	x->watch_head = NULL;
	body_free(&x->line);
}

void mc_etcd_http_wait(struct mc_bridge *b, int64_t until_ns)
{
	while (mc_now_ns() < until_ns && !mc_etcd_stopping(b) && !(b->http.watch_on && b->http.watch_done))
		if (turn(b, until_ns))
			return;
}

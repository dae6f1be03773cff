/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge_etcd.h - the parts of the etcd bridge: the engine's side (bridge_etcd.c), the thread's way through sessions
 * (_run.c), what a session does (_session.c, _peers.c), HTTP (_http.c), causes of failures (_judge.c). One thread per
 * bridge does all that waits.
 */
#ifndef MC_BRIDGE_ETCD_H
#define MC_BRIDGE_ETCD_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge_etcd_curl.h"
#include "bridge_etcd_msg.h"
#include "bridge_etcd_table.h"

enum { MC_ETCD_ENDPOINTS_MAX = 16, MC_ETCD_WHY_MAX = 600 };

struct mc_etcd_endpoint {
	char *url; /* "https://host:2379", as it is shown, too */
	bool tls;
	mc_status_t status;        /* the thread's: how the last session with it ended, */
	char why[MC_ETCD_WHY_MAX]; /* and why */
};

struct mc_etcd_body { /* of a reply, or a line of the watch that is not complete yet */
	char *p;
	size_t len, room;
	bool too_long;
};

struct mc_etcd_http { /* the connections of one session; the thread's */
	CURLM *multi;
	CURL *ctl, *watch;
	struct curl_slist *ctl_head, *watch_head;
	char *watch_body;
	struct mc_etcd_body reply, line;
	char why[CURL_ERROR_SIZE], watch_why[CURL_ERROR_SIZE];
	bool ctl_done, ctl_sent, watch_on, watch_done; /* ctl_sent: the last request was at least sent */
	CURLcode ctl_code, watch_code;
	long watch_http;
};

struct mc_bridge {
	/* constant */
	struct mc_etcd_curl curl;
	struct mc_bridge_cfg cfg;
	const struct mc_config *config;
	struct mc_etcd_endpoint endpoint[MC_ETCD_ENDPOINTS_MAX];
	uint32_t endpoint_n;
	char prefix[MC_ETCD_PREFIX_MAX];
	char key_key[MC_ETCD_KEY_MAX], own_key[MC_ETCD_KEY_MAX];
	char peers_key[MC_ETCD_KEY_MAX], peers_end[MC_ETCD_KEY_MAX];
	uint64_t ttl_s;
	int64_t request_ns; /* longest wait for a short answer */
	int wake_fd;        /* to the thread */
	int event_fd;       /* to the engine */
	pthread_t thread;

	/* between the two, under lock */
	pthread_mutex_t lock;
	atomic_bool stop;
	struct mc_etcd_table table;
	bool signaled; /* event_fd is readable */
	bool key_news, sync_news;
	uint8_t key[MC_BRIDGE_KEY_LEN], held_key[MC_BRIDGE_KEY_LEN];
	mc_status_t sync;
	char sync_text[MC_ETCD_WHY_MAX], held_text[MC_ETCD_WHY_MAX];
	char *value;      /* to publish; NULL: nothing yet */
	uint64_t value_n; /* grows with each publish */

	/* the thread's */
	struct mc_etcd_http http;
	bool leaving;     /* stop is known, what is left to do is done */
	int64_t leave_ns; /* with leaving: no request lasts longer than to then */
	uint32_t at;      /* endpoint in use */
	char token[MC_ETCD_TOKEN_MAX];
	bool open_told;               /* that this etcd does not ask who we are */
	struct mc_etcd_reply reply;   /* to the last request */
	char why[MC_ETCD_WHY_MAX];    /* the last failure: cause; remedy */
	struct mc_etcd_secret secret; /* id "": not known yet */
	struct mc_etcd_secret secret_now;
	bool secret_bad, own_listed;
	uint32_t page_n; /* keys of a page */
	char *last_key;  /* [last_key_len], and room for a byte more */
	size_t last_key_len;
	bool listed;
	uint64_t cluster, revision; /* all that happened up to this revision was given to the table */
	bool watch_made, watch_compacted;
	mc_status_t watch_status;
	uint64_t lease;
	uint64_t published_n; /* value_n that is in the directory; 0: none */
	uint64_t published_rev;
	bool usurped, usurp_told;  /* another process publishes under our name */
	int64_t keep_ns, renew_ns; /* when to keep the lease alive, and to make the watch anew */
	int64_t release_ns;        /* until then nobody is told to be gone; INT64_MAX: that is over */
	int64_t put_after_ns;      /* etcd is full: not before then */
};

/* bridge_etcd.c; any thread */
void mc_etcd_tell_key(struct mc_bridge *b, const uint8_t key[MC_BRIDGE_KEY_LEN]);
void mc_etcd_tell_sync(struct mc_bridge *b, mc_status_t s, const char *text);
void mc_etcd_apply(struct mc_bridge *b, const struct mc_etcd_kv *kv);
void mc_etcd_signal(struct mc_bridge *b); /* under lock: the engine has something to ask for */

/* bridge_etcd_http.c; the thread */
mc_status_t mc_etcd_http_open(struct mc_bridge *b);
void mc_etcd_http_close(struct mc_bridge *b);
/*
 * One request on the session's endpoint; b->reply is what came. MC_OK; MC_ERR_CANCELED: the bridge is closing;
 * otherwise b->why says it: MC_ERR_TIMEOUT (this endpoint does not work), MC_ERR_AUTH, MC_ERR_CONFIG, MC_ERR_NOENT and
 * MC_ERR_RANGE (gRPC's not found and out of range), MC_ERR_NOSPC (longer than MC_ETCD_REPLY_MAX), MC_ERR_STALE (the
 * token is not valid any more), MC_ERR_NOMEM. Takes body. on_kv: for b.
 */
mc_status_t mc_etcd_call(struct mc_bridge *b, const char *path, char *body, int64_t limit_ns, mc_etcd_on_kv on_kv);
/* Start to watch; lines go to mc_etcd_watch_line(). Takes body. */
mc_status_t mc_etcd_watch_start(struct mc_bridge *b, char *body);
void mc_etcd_watch_stop(struct mc_bridge *b);
/* Let things happen until a time, news from the engine, or the end of the watch. */
void mc_etcd_http_wait(struct mc_bridge *b, int64_t until_ns);
/* What an error that etcd reports means: a status, and b->why. */
mc_status_t mc_etcd_judge(struct mc_bridge *b, const struct mc_etcd_reply *r, long http);
mc_status_t mc_etcd_fault(struct mc_bridge *b, mc_status_t s, const char *fmt, ...) MC_PRINTF(3, 4); /* sets b->why */
mc_status_t mc_etcd_judge_curl(struct mc_bridge *b, CURLcode code, const char *why); /* the same for libcurl */
bool mc_etcd_stopping(const struct mc_bridge *b);
bool mc_etcd_woken(struct mc_bridge *b); /* by the engine, since the last call */

/* bridge_etcd_session.c; the thread */
struct mc_etcd_request { /* a token that has run out is renewed once: make gives the body, twice if need be */
	const char *path;
	char *(*make)(struct mc_bridge *b, const void *arg);
	const void *arg;
	mc_etcd_on_kv on_kv;
	int64_t limit_ns;
};
mc_status_t mc_etcd_ask(struct mc_bridge *b, const struct mc_etcd_request *r);
mc_status_t mc_etcd_session_begin(struct mc_bridge *b); /* log in, read the key, list, watch, publish */
mc_status_t mc_etcd_session_step(struct mc_bridge *b);  /* keep alive, publish, make the watch anew: what is due */
void mc_etcd_session_revoke(struct mc_bridge *b);
int64_t mc_etcd_session_alarm(const struct mc_bridge *b); /* when the next step is due */
bool mc_etcd_session_due(struct mc_bridge *b);            /* a step has something to do before its time */

/* bridge_etcd_peers.c; the thread */
char *mc_etcd_make_range(struct mc_bridge *b, const void *query);
mc_status_t mc_etcd_catch_up(struct mc_bridge *b);    /* list what is not known yet, and watch */
mc_status_t mc_etcd_watch_peers(struct mc_bridge *b); /* from the revision after the one that is known */
mc_status_t mc_etcd_watch_state(struct mc_bridge *b); /* MC_OK: it goes on */
void mc_etcd_watch_line(struct mc_bridge *b, const char *line, size_t len);

/* bridge_etcd_run.c */
void *mc_etcd_thread(void *arg);

#endif

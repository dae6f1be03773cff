/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd_run.c - the thread: session after session, the next endpoint when one fails, pauses when all do. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bridge_etcd.h"

#define STABLE_NS    INT64_C(10000000000) /* a session that has lived so long was good */
#define FAREWELL_NS  INT64_C(900000000)   /* close must end within a second; it may take a login, too */
#define PAUSE_MIN_NS INT64_C(250000000)
#define PAUSE_MAX_NS INT64_C(5000000000)
#define REFUSED_NS   INT64_C(20000000000) /* a wrong password does not get better by asking often */

struct attempts {
	bool met;          /* the last session began well */
	uint32_t failed_n; /* sessions in a row that failed, or did not live */
	bool away;         /* the engine was told so */
	bool synced;       /* the engine was told once that all is there */
	uint64_t told;     /* hash of the last text */
};

/* Digits left out: ports stay the same, milliseconds do not matter. */
static uint64_t hash_text(const char *text)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *text != '\0'; text++)
		if (*text < '0' || *text > '9')
			h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return h;
}

/* All endpoints have failed: tell it once, and again when the reason is another one. */
static void tell_away(struct mc_bridge *b, struct attempts *a)
{
	char text[MC_ETCD_WHY_MAX] = "";
	mc_status_t s = MC_ERR_TIMEOUT;
	size_t used = 0;
	uint64_t h;

	for (uint32_t i = 0; i < b->endpoint_n; i++) {
		const struct mc_etcd_endpoint *e = &b->endpoint[i];

		if (e->status == MC_OK)
			continue;
		if (e->status == MC_ERR_AUTH || (e->status == MC_ERR_CONFIG && s != MC_ERR_AUTH))
			s = e->status;
		if (used < sizeof(text))
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s: %s", used > 0 ? " | " : "",
						 e->url, e->why);
	}
	h = hash_text(text);
	if (a->away && h == a->told)
		return;
	mc_warn("etcd is away: %s (the job goes on, and it is tried again)", text);
	a->away = true;
	a->told = h;
	mc_etcd_tell_sync(b, s, text);
}

static void tell_back(struct mc_bridge *b, struct attempts *a)
{
	if (a->away)
		mc_warn("etcd is back at %s", b->endpoint[b->at].url);
	else
		mc_info("etcd: session with %s, cluster %s, job %s, rank %u", b->endpoint[b->at].url, b->prefix,
			b->cfg.job, b->cfg.rank);
	for (uint32_t i = 0; i < b->endpoint_n; i++)
		b->endpoint[i].status = MC_OK;
	if (!b->usurped && (a->away || !a->synced))
		mc_etcd_tell_sync(b, MC_OK, NULL);
	a->synced = a->synced || !b->usurped;
	a->away = false;
}

static mc_status_t session(struct mc_bridge *b, struct attempts *a)
{
	mc_status_t s = mc_etcd_http_open(b);
	int64_t start_ns;

	a->met = false;
	if (s != MC_OK)
		return s;
	s = mc_etcd_session_begin(b);
	start_ns = mc_now_ns();
	a->met = s == MC_OK;
	if (a->met)
		tell_back(b, a);
	while (s == MC_OK && !mc_etcd_stopping(b)) {
		if (!mc_etcd_session_due(b))
			mc_etcd_http_wait(b, mc_etcd_session_alarm(b));
		if (mc_now_ns() - start_ns > STABLE_NS)
			a->failed_n = 0;
		s = mc_etcd_session_step(b);
	}
	if (mc_etcd_stopping(b)) {
		b->leaving = true;
		b->leave_ns = mc_now_ns() + FAREWELL_NS;
		mc_etcd_session_revoke(b);
	}
	mc_etcd_http_close(b);
	return s;
}

static void note_failure(struct mc_bridge *b, struct attempts *a, mc_status_t s)
{
	struct mc_etcd_endpoint *e = &b->endpoint[b->at];

	e->status = s;
	snprintf(e->why, sizeof(e->why), "%s", b->why);
	b->at = (b->at + 1) % b->endpoint_n;
	if (a->failed_n < UINT32_MAX)
		a->failed_n++;
	/* A session that broke says little: the next attempt shows whether etcd is away. */
	if (a->failed_n >= b->endpoint_n && !a->met)
		tell_away(b, a);
	else
		mc_info("etcd %s: %s; going on with %s", e->url, e->why, b->endpoint[b->at].url);
}

/* After each round through all endpoints; longer with each, and never the same for two ranks. */
static void pause_after(struct mc_bridge *b, const struct attempts *a, mc_status_t s)
{
	const uint32_t rounds = a->failed_n / b->endpoint_n;
	const int64_t max_ns = s == MC_ERR_AUTH || s == MC_ERR_CONFIG ? REFUSED_NS : PAUSE_MAX_NS;
	int64_t ns = rounds > 8 ? max_ns : PAUSE_MIN_NS << (rounds > 0 ? rounds - 1 : 0), until_ns;
	struct pollfd fd = {.fd = b->wake_fd, .events = POLLIN};

	if (rounds == 0 || a->failed_n % b->endpoint_n != 0)
		return;
	ns = ns < max_ns ? ns : max_ns;
	ns -= (int64_t)(mc_random_u64() % (uint64_t)(ns / 2));
	until_ns = mc_now_ns() + ns;
	while (!mc_etcd_stopping(b) && (ns = until_ns - mc_now_ns()) > 0)
		if (poll(&fd, 1, (int)(ns / 1000000) + 1) > 0)
			(void)mc_etcd_woken(b);
}

void *mc_etcd_thread(void *arg)
{
	struct mc_bridge *b = arg;
	struct attempts a = {.failed_n = 0};

	b->at = (uint32_t)(mc_random_u64() % b->endpoint_n); /* ranks spread over the members */
	while (!mc_etcd_stopping(b) && !b->leaving) {
		const mc_status_t s = session(b, &a);

		if (b->leaving || mc_etcd_stopping(b))
			break;
		note_failure(b, &a, s);
		pause_after(b, &a, s);
	}
	return NULL;
}

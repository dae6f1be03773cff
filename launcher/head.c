/* SPDX-License-Identifier: BSD-3-Clause */
#include "head.h"
#include "head_priv.h"
#include "jobenv.h"
#include "netaddr.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define BATCH 64

struct member *mc_head_member_of(struct mc_head *h, uint32_t rank)
{
	return &h->member[h->cfg.agents ? h->e->hosts->of_rank[rank] : rank];
}

/* ---- connections ---- */

/* The structure itself stays until the end of the turn: whoever is in the middle of its messages may still look at it.
 */
static void conn_close(struct conn *c)
{
	if (c->closed)
		return;
	c->closed = true;
	(void)mc_source_arm(c->h->epoll, &c->src, 0);
	if (c->member == NULL)
		c->h->guest_n--;
}

static void free_closed(struct mc_head *h)
{
	for (struct conn **p = &h->conns, *c; (c = *p) != NULL;) {
		if (!c->closed) {
			p = &c->next;
			continue;
		}
		*p = c->next;
		mc_link_free(c->link);
		free(c);
	}
}

static void conn_flush(struct conn *c)
{
	mc_link_flush(c->link);
	uint32_t want = EPOLLIN | (mc_link_wants_write(c->link) ? (uint32_t)EPOLLOUT : 0);
	if (want != c->armed)
		(void)mc_source_arm(c->h->epoll, &c->src, want);
	c->armed = want;
}

/* Its ranks are dead to all others; whether they run on where they are, the agent itself sees to. */
void mc_head_lose(struct mc_head *h, struct member *m, const char *why)
{
	struct mc_engine_event ev = {.kind = MC_ENGINE_VANISHED};

	if (m->lost)
		return;
	m->lost = true;
	if (m->conn != NULL) {
		h->linked_n--;
		conn_close(m->conn);
		m->conn = NULL;
	}
	(void)snprintf(ev.text, sizeof(ev.text), "%.199s", why);
	for (uint32_t r = 0; r < h->e->job->rank_n; r++) {
		if (h->ended[r] || mc_head_member_of(h, r) != m)
			continue;
		h->ended[r] = true;
		ev.rank = r;
		mc_head_post(h, &ev);
	}
	mc_exchange_lost(h->exchange, m);
	mc_head_check_empty(h);
}

static void conn_broken(struct conn *c)
{
	char why[MC_TALK_TEXT];

	if (c->member == NULL) {
		if (c->h->e->job->verbose)
			mc_output_say(c->h->e->output, "sent a stranger away: %s", mc_link_why(c->link));
		conn_close(c);
		return;
	}
	(void)snprintf(why, sizeof(why), "its agent is gone (%.150s)", mc_link_why(c->link));
	mc_head_lose(c->h, c->member, why);
}

static void on_conn(struct mc_source *src, uint32_t events)
{
	struct conn *c = (struct conn *)(void *)src;
	const uint8_t *p;
	size_t n;

	if (c->closed)
		return;
	if ((events & ~(uint32_t)EPOLLOUT) != 0)
		mc_link_receive(c->link);
	if (c->member != NULL)
		c->member->heard_at = mc_now_ns();
	while (!c->closed && mc_link_next(c->link, &p, &n)) {
		if (mc_head_hear(c, p, n))
			continue;
		if (c->member != NULL)
			mc_head_lose(c->h, c->member, "its agent said what no agent says");
		else
			conn_close(c);
		return;
	}
	if (c->closed)
		return;
	if (mc_link_state(c->link) == MC_LINK_BROKEN)
		conn_broken(c);
	else
		conn_flush(c);
}

/* Too many that say nothing: the one that has been silent longest makes room. */
static void drop_oldest_guest(struct mc_head *h)
{
	struct conn *oldest = NULL;

	for (struct conn *c = h->conns; c != NULL; c = c->next)
		if (c->member == NULL && !c->closed && (oldest == NULL || c->since < oldest->since))
			oldest = c;
	if (oldest != NULL)
		conn_close(oldest);
}

static void on_listen(struct mc_source *src, uint32_t events)
{
	struct mc_head *h = (struct mc_head *)(void *)((char *)src - offsetof(struct mc_head, listen));
	int fd, on = 1;

	(void)events;
	while ((fd = accept4(src->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (h->guest_n >= MC_GUEST_MAX + (h->member_n - h->came_n))
			drop_oldest_guest(h);
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		struct conn *c = mc_xalloc(1, sizeof(*c));
		c->src = (struct mc_source){.fd = fd, .ready = on_conn};
		c->h = h;
		c->link = mc_link_create(fd, MC_LINK_HEAD, h->key);
		c->since = mc_now_ns();
		c->next = h->conns;
		h->conns = c;
		h->guest_n++;
		conn_flush(c);
	}
}

/* ---- to agents ---- */

void mc_head_tell(struct member *m, const struct mc_talk *t)
{
	struct mc_enc b = {0};

	if (m->conn == NULL)
		return;
	mc_talk_write(&b, t);
	mc_link_send(m->conn->link, b.p, b.n);
	mc_enc_free(&b);
	conn_flush(m->conn);
}

void mc_head_tell_all(struct mc_head *h, const struct mc_talk *t)
{
	for (uint32_t i = 0; i < h->member_n; i++)
		mc_head_tell(&h->member[i], t);
}

/* ---- time ---- */

static void on_tick(struct mc_source *src, uint32_t events)
{
	struct mc_head *h = (struct mc_head *)(void *)((char *)src - offsetof(struct mc_head, tick));
	const struct mc_talk beat = {.kind = MC_TALK_BEAT};
	int64_t now = mc_now_ns(), beat_ns = h->e->job->beat_ns;
	uint64_t count;
	char why[MC_TALK_TEXT];

	(void)events;
	if (read(src->fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return;
	/* we did not run ourselves (stopped, overloaded): what we have not heard says nothing about the others */
	bool stalled = h->suspended || now - h->ticked_at > 2 * beat_ns;
	h->ticked_at = now;
	for (struct conn *c = h->conns; c != NULL; c = c->next)
		if (c->member == NULL && now - c->since > MC_MEET_NS)
			conn_close(c);
	for (uint32_t i = 0; i < h->member_n; i++) {
		struct member *m = &h->member[i];

		if (m->conn == NULL)
			continue;
		if (stalled)
			m->heard_at = now;
		if (now - m->heard_at > MC_JOB_BEATS * beat_ns) {
			(void)snprintf(why, sizeof(why), "its host has not been heard of for %.1f s",
				       (double)(now - m->heard_at) / 1e9);
			mc_head_lose(h, m, why);
			continue;
		}
		mc_head_tell(m, &beat);
	}
}

static int open_timer(struct mc_head *h)
{
	int64_t ns = h->e->job->beat_ns;
	struct itimerspec t = {.it_interval = {ns / MC_NS_PER_S, ns % MC_NS_PER_S}};

	t.it_value = t.it_interval;
	h->ticked_at = mc_now_ns();
	h->tick =
		(struct mc_source){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .ready = on_tick};
	return h->tick.fd < 0 || timerfd_settime(h->tick.fd, 0, &t, NULL) != 0 ||
			       !mc_source_arm(h->epoll, &h->tick, EPOLLIN)
		       ? -1
		       : 0;
}

/* ---- rank 0's stdin ---- */

static void send_stdin(struct mc_head *h)
{
	struct mc_talk t = {.kind = MC_TALK_STDIN, .rank = 0};
	struct pollfd p = {h->in.fd, POLLIN, 0};

	if (!h->stdin_open || h->stdin_room == 0 || poll(&p, 1, 0) != 1)
		return;
	ssize_t n = read(h->in.fd, h->stdin_buf,
			 h->stdin_room < sizeof(h->stdin_buf) ? (size_t)h->stdin_room : sizeof(h->stdin_buf));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	t.data = (const uint8_t *)h->stdin_buf;
	t.data_n = n > 0 ? (size_t)n : 0;
	h->stdin_room -= t.data_n;
	h->stdin_open = n > 0;
	if (!h->stdin_open || h->stdin_room == 0)
		(void)mc_source_arm(h->epoll, &h->in, 0);
	mc_head_tell(mc_head_member_of(h, 0), &t);
}

static void on_stdin(struct mc_source *src, uint32_t events)
{
	(void)events;
	send_stdin((struct mc_head *)(void *)((char *)src - offsetof(struct mc_head, in)));
}

/* ---- life ---- */

static int open_all(struct mc_head *h, struct mc_err *err)
{
	char nspace[64] = "mc-";
	uint16_t port = 0;

	if (mc_env_random(nspace + 3, 16, err) != 0)
		return -1;
	h->nspace = mc_xstrdup(nspace);
	h->cwd = getcwd(NULL, 0);
	if (h->cwd == NULL)
		return mc_err_set(err, "cannot tell the current directory: %s", strerror(errno));
	h->key_text = mc_strv_get(&h->e->role_env[0], "MC_JOB_KEY");
	if (h->key_text == NULL || !mc_link_key_parse(h->key_text, h->key))
		return mc_err_set(err, "the job has no key");
	h->listen = (struct mc_source){.fd = mc_addr_listen(&port, err), .ready = on_listen};
	if (h->listen.fd < 0)
		return -1;
	h->where = mc_addr_candidates(h->e->hosts, h->e->job->head_address, port, err);
	if (h->where == NULL)
		return -1;
	h->in = (struct mc_source){.fd = dup(h->e->stdin_fd), .ready = on_stdin};
	h->stdin_open = h->in.fd >= 0;
	h->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (h->epoll < 0 || !mc_source_arm(h->epoll, &h->listen, EPOLLIN) || open_timer(h) != 0)
		return mc_err_set(err, "cannot wait for events: %s", strerror(errno));
	return 0;
}

int mc_head_open(const struct mc_head_cfg *cfg, struct mc_head **out, struct mc_err *err)
{
	struct mc_head *h = mc_xalloc(1, sizeof(*h));

	h->cfg = *cfg;
	h->e = cfg->engine;
	h->epoll = h->listen.fd = h->tick.fd = h->in.fd = -1;
	h->member_n = cfg->agents ? h->e->hosts->n : h->e->job->rank_n;
	h->member = mc_xalloc(h->member_n, sizeof(*h->member));
	for (uint32_t i = 0; i < h->member_n; i++)
		h->member[i].index = i;
	h->ended = mc_xalloc(h->e->job->rank_n, sizeof(*h->ended));
	h->exchange = mc_exchange_create(h);
	if (open_all(h, err) != 0) {
		mc_head_close(h);
		return -1;
	}
	*out = h;
	return 0;
}

void mc_head_close(struct mc_head *h)
{
	const int fds[4] = {h == NULL ? -1 : h->listen.fd, h == NULL ? -1 : h->tick.fd, h == NULL ? -1 : h->in.fd,
			    h == NULL ? -1 : h->epoll};

	if (h == NULL)
		return;
	for (struct conn *c = h->conns; c != NULL; c = c->next)
		conn_close(c);
	free_closed(h);
	for (int i = 0; i < 4; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	mc_exchange_free(h->exchange);
	free(h->queue);
	free(h->member);
	free(h->ended);
	free(h->where);
	free(h->nspace);
	free(h->cwd);
	explicit_bzero(h->key, sizeof(h->key));
	free(h);
}

int mc_head_fd(const struct mc_head *h)
{
	return h->epoll;
}

const char *mc_head_where(const struct mc_head *h)
{
	return h->where;
}

const char *mc_head_key(const struct mc_head *h)
{
	return h->key_text;
}

static void give_room(struct mc_head *h)
{
	struct mc_talk t = {.kind = MC_TALK_OUT_ROOM};

	if (mc_output_full(h->e->output))
		return;
	for (uint32_t i = 0; i < h->member_n; i++) {
		struct member *m = &h->member[i];

		if (m->owed < MC_WINDOW / 4)
			continue;
		t.id = m->owed;
		m->owed = 0;
		mc_head_tell(m, &t);
	}
}

void mc_head_turn(struct mc_head *h)
{
	struct epoll_event ev[BATCH];
	int n = epoll_wait(h->epoll, ev, BATCH, 0);

	for (int i = 0; i < n; i++) {
		struct mc_source *src = ev[i].data.ptr;

		src->ready(src, ev[i].events);
	}
	free_closed(h);
	give_room(h);
	if (h->stdin_open && h->stdin_room > 0) {
		if (!h->in.armed && !h->stdin_always)
			h->stdin_always = !mc_source_arm(h->epoll, &h->in, EPOLLIN);
		if (h->stdin_always)
			send_stdin(h);
	}
}

void mc_head_post(struct mc_head *h, const struct mc_engine_event *ev)
{
	h->queue = mc_xgrow(h->queue, h->queue_n + 1, sizeof(*h->queue));
	h->queue[h->queue_n++] = *ev;
}

bool mc_head_next(struct mc_head *h, struct mc_engine_event *ev)
{
	if (h->queue_at == h->queue_n) {
		h->queue_at = h->queue_n = 0;
		return false;
	}
	*ev = h->queue[h->queue_at++];
	return true;
}

bool mc_head_complete(const struct mc_head *h)
{
	return h->came_n == h->member_n;
}

bool mc_head_any(const struct mc_head *h)
{
	return h->came_n > 0;
}

uint32_t mc_head_linked(const struct mc_head *h)
{
	return h->linked_n;
}

void mc_head_give_up_waiting(struct mc_head *h, const char *why)
{
	for (uint32_t i = 0; i < h->member_n; i++)
		if (!h->member[i].came)
			mc_head_lose(h, &h->member[i], why);
}

/* ---- what the job wants ---- */

/* A rank whose agent has not come never starts: for the job it ends as if it had been there to get the signal. */
static void end_unstarted(struct mc_head *h, int sig)
{
	for (uint32_t r = 0; r < h->e->job->rank_n; r++) {
		struct mc_engine_event ev = {.kind = MC_ENGINE_EXITED, .rank = r, .code = sig};

		if (h->ended[r] || mc_head_member_of(h, r)->came)
			continue;
		h->ended[r] = true;
		mc_head_post(h, &ev);
	}
}

void mc_head_signal(struct mc_head *h, uint32_t rank, int sig)
{
	struct mc_talk t = {.kind = MC_TALK_SIGNAL, .rank = rank, .code = sig};

	if (rank != MC_RANK_ALL) {
		mc_head_tell(mc_head_member_of(h, rank), &t);
		return;
	}
	if (sig == SIGSTOP || sig == SIGCONT)
		h->suspended = sig == SIGSTOP;
	mc_head_tell_all(h, &t);
	if (sig == SIGTERM || sig == SIGINT || sig == SIGKILL || sig == SIGHUP || sig == SIGQUIT)
		end_unstarted(h, sig);
}

void mc_head_gone(struct mc_head *h, uint32_t rank, int code, bool dead)
{
	struct mc_talk t = {.kind = MC_TALK_GONE, .rank = rank, .code = code, .victim = dead};

	mc_exchange_rank_ended(h->exchange);
	if (h->cfg.agents)
		mc_head_tell_all(h, &t);
}

void mc_head_restart(struct mc_head *h, uint32_t rank, uint32_t deaths)
{
	struct mc_talk t = {.kind = MC_TALK_RESTART, .rank = rank, .victim = deaths};
	struct mc_engine_event ev = {
		.kind = MC_ENGINE_VANISHED, .rank = rank, .text = "its host was lost before it was started again"};
	struct member *m = mc_head_member_of(h, rank);

	if (m->conn == NULL) {
		mc_head_post(h, &ev);
		return;
	}
	h->ended[rank] = false;
	mc_head_tell(m, &t);
}

void mc_head_settle(struct mc_head *h, int sig)
{
	struct mc_talk t = {.kind = MC_TALK_SETTLE, .code = sig};

	mc_head_tell_all(h, &t);
	h->clearing = true;
	mc_head_check_empty(h);
}

void mc_head_clear(struct mc_head *h)
{
	struct mc_talk t = {.kind = MC_TALK_CLEAR};

	mc_head_tell_all(h, &t);
	h->clearing = true;
	mc_head_check_empty(h);
}

void mc_head_dismiss(struct mc_head *h, int64_t limit_ns)
{
	struct mc_talk t = {.kind = MC_TALK_BYE};
	int64_t until = mc_now_ns() + limit_ns;

	for (uint32_t i = 0; i < h->member_n; i++) {
		h->member[i].dismissed = true;
		mc_head_tell(&h->member[i], &t);
	}
	while (h->linked_n > 0 && mc_now_ns() < until) {
		struct pollfd p = {h->epoll, POLLIN, 0};

		(void)poll(&p, 1, 100);
		mc_head_turn(h);
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "agent.h"
#include "agent_priv.h"
#include "jobenv.h"
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH      64
#define WINDOW     (1u << 20) /* bytes of output under way before the head asks for more */
#define STDIN_ROOM (64u << 10)

extern char **environ;

/* ---- to the head ---- */

static void relay(void *arg, uint32_t rank, unsigned stream, const char *data, size_t len)
{
	struct agent *a = arg;
	struct mc_talk t = {.kind = MC_TALK_OUTPUT,
			    .rank = rank,
			    .stream = (uint8_t)stream,
			    .data = (const uint8_t *)data,
			    .data_n = len};

	if (rank == UINT32_MAX) {
		t.kind = MC_TALK_SAY;
		(void)snprintf(t.text, sizeof(t.text), "%.*s", (int)(len < MC_TALK_TEXT ? len : MC_TALK_TEXT - 1),
			       data);
	} else if (data == NULL) {
		t.kind = MC_TALK_OUTPUT_END;
	} else {
		a->room = a->room > len ? a->room - len : 0;
		mc_output_hold(a->output, a->room == 0);
	}
	mc_agent_tell(a, &t);
}

static void tell_event(struct agent *a, const struct mc_engine_event *ev)
{
	struct mc_talk t = {.kind = MC_TALK_EVENT,
			    .stream = (uint8_t)ev->kind,
			    .rank = ev->rank,
			    .victim = ev->victim,
			    .code = ev->code,
			    .pid = ev->pid};

	(void)snprintf(t.text, sizeof(t.text), "%s", ev->text);
	if (ev->kind == MC_ENGINE_EXITED)
		a->code = WIFSIGNALED(ev->code) ? 128 + WTERMSIG(ev->code) : WEXITSTATUS(ev->code);
	mc_agent_tell(a, &t);
}

static void tell_server_event(struct agent *a, struct mc_server_event *ev)
{
	static const uint8_t kind[] = {
		[MC_SERVER_FENCE] = MC_TALK_FENCE,           [MC_SERVER_MODEX] = MC_TALK_MODEX,
		[MC_SERVER_MODEX_DATA] = MC_TALK_MODEX_DATA, [MC_SERVER_PUBLISH] = MC_TALK_PUBLISH,
		[MC_SERVER_LOOKUP] = MC_TALK_LOOKUP,         [MC_SERVER_UNPUBLISH] = MC_TALK_UNPUBLISH,
	};
	struct mc_talk t = {.kind = kind[ev->kind],
			    .rank = ev->rank,
			    .code = ev->code,
			    .victim = ev->seq,
			    .id = ev->id,
			    .key = ev->key,
			    .data = ev->data,
			    .data_n = ev->data_n};

	mc_agent_tell(a, &t);
	free(ev->data);
}

/* ---- rank 0's stdin ---- */

static void push_stdin(struct agent *a)
{
	struct mc_talk t = {.kind = MC_TALK_STDIN_ROOM, .rank = 0};

	if (a->in.fd < 0)
		return;
	ssize_t n = a->in_n > 0 ? write(a->in.fd, a->in_buf, a->in_n) : 0;
	bool broken = n < 0 && errno != EAGAIN && errno != EINTR; /* the rank has closed it */
	if (n > 0) {
		a->in_n -= (size_t)n;
		memmove(a->in_buf, a->in_buf + n, a->in_n);
		t.id = (uint64_t)n;
		mc_agent_tell(a, &t);
	}
	if (broken || (a->in_end && a->in_n == 0)) {
		(void)mc_source_arm(a->epoll, &a->in, 0);
		(void)close(a->in.fd);
		a->in.fd = -1;
		return;
	}
	(void)mc_source_arm(a->epoll, &a->in, a->in_n > 0 ? EPOLLOUT : 0);
}

static void on_stdin_room(struct mc_source *src, uint32_t events)
{
	(void)events;
	push_stdin((struct agent *)(void *)((char *)src - offsetof(struct agent, in)));
}

static void take_stdin(struct agent *a, const struct mc_talk *t)
{
	if (a->in.fd < 0 || t->data_n > STDIN_ROOM - a->in_n)
		return;
	if (t->data_n > 0)
		memcpy(a->in_buf + a->in_n, t->data, t->data_n);
	a->in_n += t->data_n;
	a->in_end |= t->data_n == 0;
	push_stdin(a);
}

static int open_stdin(struct agent *a)
{
	bool ours = a->spec.only != MC_RANK_ALL ? a->spec.only == 0 : a->spec.hosts.of_rank[0] == a->spec.self;
	struct mc_talk t = {.kind = MC_TALK_STDIN_ROOM, .rank = 0, .id = STDIN_ROOM};
	int fd[2];

	a->in = (struct mc_source){.fd = -1, .ready = on_stdin_room};
	a->in_fd = -1;
	if (!ours)
		return 0;
	if (pipe2(fd, O_CLOEXEC) != 0)
		return -1;
	(void)fcntl(fd[1], F_SETFL, O_NONBLOCK);
	a->in_fd = fd[0];
	a->in.fd = fd[1];
	a->in_buf = mc_xalloc(STDIN_ROOM, 1);
	mc_agent_tell(a, &t);
	return 0;
}

/* ---- from the head ---- */

static bool is_here(const struct agent *a, uint32_t rank)
{
	if (rank >= a->spec.job.rank_n)
		return false;
	return a->spec.only != MC_RANK_ALL ? rank == a->spec.only : a->spec.hosts.of_rank[rank] == a->spec.self;
}

static void hear_server(struct agent *a, const struct mc_talk *t)
{
	struct mc_server *s = mc_engine_server(a->engine);

	if (s == NULL)
		return;
	if (t->kind == MC_TALK_FENCED)
		mc_server_fenced(s, t->id, t->code, t->data, t->data_n);
	else if (t->kind == MC_TALK_MODEXED)
		mc_server_modexed(s, t->id, t->code, t->data, t->data_n);
	else if (t->kind == MC_TALK_MODEX_ASK && is_here(a, t->rank))
		mc_server_modex_ask(s, t->id, t->rank);
	else if (t->kind == MC_TALK_PUBLISHED)
		mc_server_published(s, t->id, t->code);
	else if (t->kind == MC_TALK_FOUND)
		mc_server_found(s, t->id, t->code, t->data, t->data_n);
}

static void hear_signal(struct agent *a, const struct mc_talk *t)
{
	if (t->rank == MC_RANK_ALL && (t->code == SIGSTOP || t->code == SIGCONT))
		a->suspended = t->code == SIGSTOP; /* the head stops itself now and will be silent */
	if (t->code > 0 && t->code < NSIG && (t->rank == MC_RANK_ALL || is_here(a, t->rank)))
		mc_engine_local.signal(a->engine, t->rank, t->code);
}

static void hear(struct agent *a, const struct mc_talk *t)
{
	const struct mc_engine_ops *ops = &mc_engine_local;

	switch ((enum mc_talk_kind)t->kind) {
	case MC_TALK_SIGNAL:
		hear_signal(a, t);
		return;
	case MC_TALK_GONE:
		if (t->rank < a->spec.job.rank_n)
			ops->gone(a->engine, t->rank, t->code, t->victim != 0);
		return;
	case MC_TALK_RESTART:
		if (is_here(a, t->rank))
			ops->restart(a->engine, t->rank, t->victim);
		return;
	case MC_TALK_SETTLE:
		ops->settle(a->engine, t->code > 0 && t->code < NSIG ? t->code : SIGTERM);
		return;
	case MC_TALK_CLEAR:
		ops->clear(a->engine);
		return;
	case MC_TALK_BYE:
		a->bye = true;
		return;
	case MC_TALK_OUT_ROOM:
		a->room += t->id;
		mc_output_hold(a->output, a->room == 0);
		return;
	case MC_TALK_STDIN:
		take_stdin(a, t);
		return;
	case MC_TALK_FENCED:
	case MC_TALK_MODEXED:
	case MC_TALK_MODEX_ASK:
	case MC_TALK_PUBLISHED:
	case MC_TALK_FOUND:
		hear_server(a, t);
		return;
	default:
		return;
	}
}

static void on_link(struct mc_source *src, uint32_t events)
{
	struct agent *a = (struct agent *)(void *)src;
	const uint8_t *p;
	struct mc_talk t;
	size_t n;

	if ((events & ~(uint32_t)EPOLLOUT) != 0)
		mc_link_receive(a->link);
	a->heard_at = mc_now_ns();
	while (!a->bye && mc_link_next(a->link, &p, &n)) {
		if (!mc_talk_read(p, n, &t)) {
			a->cut_off = true;
			return;
		}
		hear(a, &t);
	}
	if (mc_link_state(a->link) == MC_LINK_BROKEN)
		a->cut_off = true;
	else
		mc_agent_flush(a);
}

static void on_engine(struct mc_source *src, uint32_t events)
{
	(void)src, (void)events; /* drained in every round */
}

/* The carrier wants us to end: in front of a rank that is the rank's affair, else the head's. */
static void on_signal(struct mc_source *src, uint32_t events)
{
	struct agent *a = (struct agent *)(void *)((char *)src - offsetof(struct agent, sig));
	struct mc_engine_event ev = {.kind = MC_ENGINE_SIGNAL};
	struct signalfd_siginfo si;

	(void)events;
	while (read(src->fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		ev.code = (int32_t)si.ssi_signo;
		if (a->spec.only != MC_RANK_ALL)
			mc_engine_local.signal(a->engine, MC_RANK_ALL, ev.code);
		else
			tell_event(a, &ev);
	}
}

static void on_tick(struct mc_source *src, uint32_t events)
{
	struct agent *a = (struct agent *)(void *)((char *)src - offsetof(struct agent, tick));
	const struct mc_talk beat = {.kind = MC_TALK_BEAT};
	int64_t now = mc_now_ns();
	uint64_t count;

	(void)events;
	if (read(src->fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return;
	/* stopped or overloaded ourselves: what we have not heard says nothing about the head */
	if (a->suspended || now - a->ticked_at > 2 * a->spec.beat_ns)
		a->heard_at = now;
	a->ticked_at = now;
	a->cut_off |= now - a->heard_at > MC_JOB_BEATS * a->spec.beat_ns;
	mc_agent_tell(a, &beat);
	if (mc_engine_server(a->engine) != NULL)
		mc_server_expire(mc_engine_server(a->engine), now);
}

/* ---- start ---- */

static int open_signals(struct agent *a)
{
	static const int list[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	sigset_t set, block;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		(void)sigaddset(&set, list[i]);
	block = set;
	(void)sigaddset(&block, SIGCHLD);
	(void)signal(SIGCHLD, SIG_DFL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigprocmask(SIG_BLOCK, &block, NULL);
	a->sig = (struct mc_source){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = on_signal};
	return a->sig.fd < 0 || !mc_source_arm(a->epoll, &a->sig, EPOLLIN) ? -1 : 0;
}

static int open_loop(struct agent *a)
{
	int64_t ns = a->spec.beat_ns;
	struct itimerspec t = {.it_interval = {ns / MC_NS_PER_S, ns % MC_NS_PER_S}};

	t.it_value = t.it_interval;
	a->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (a->epoll < 0 || open_signals(a) != 0)
		return -1;
	a->heard_at = a->ticked_at = mc_now_ns();
	a->link_src = (struct mc_source){.fd = mc_link_fd(a->link), .ready = on_link};
	a->armed = EPOLLIN;
	a->tick =
		(struct mc_source){.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .ready = on_tick};
	if (a->tick.fd < 0 || timerfd_settime(a->tick.fd, 0, &t, NULL) != 0 ||
	    !mc_source_arm(a->epoll, &a->tick, EPOLLIN) || !mc_source_arm(a->epoll, &a->link_src, EPOLLIN))
		return -1;
	return 0;
}

/* Cores and NUMA nodes are dealt out among the ranks of this host. */
static int open_places(struct agent *a, struct mc_err *err)
{
	const struct mc_spec *s = &a->spec;
	struct mc_job_role *part = mc_xalloc(s->job.role_n, sizeof(*part));
	struct mc_job job = s->job;
	int rc = -1;

	a->here = mc_xalloc(s->job.rank_n, sizeof(*a->here));
	memcpy(part, s->job.role, s->job.role_n * sizeof(*part));
	for (size_t i = 0; i < s->job.role_n; i++)
		part[i].n = 0;
	job.role = part;
	job.rank_n = 0;
	for (uint32_t r = 0; r < s->job.rank_n; r++) {
		if (s->hosts.of_rank[r] != s->self)
			continue;
		part[mc_job_place(&s->job, r).role].n++;
		a->here[r] = job.rank_n++;
	}
	if (mc_place_check_xml(&job, s->env, err) == 0 && mc_bind_open(&a->bind, job.bind, "/sys", err) == 0)
		rc = mc_place_open(&a->bind, &job, s->env, err);
	a->bind.here = a->here;
	free(part);
	return rc;
}

static int start(struct agent *a, struct mc_err *err)
{
	const struct mc_spec *s = &a->spec;
	const char *tmp = getenv("TMPDIR");
	struct mc_err why;

	if (chdir(s->cwd) != 0) /* as engines do: where the head's directory is not, the ranks start in ours */
		mc_output_say(a->output, "cannot change to %s: %s; the ranks start in another directory", s->cwd,
			      strerror(errno));
	if (open_places(a, err) != 0)
		return -1;
	if (s->job.rdma_limit_n > 0) {
		if (mc_rdmacg_create("", s->job.rdma_limit, s->job.rdma_limit_n, &a->cgroup, err) != 0)
			return -1;
		a->has_cgroup = true;
	}
	for (size_t i = 0; i < s->job.role_n; i++)
		mc_env_move_in(&s->env[i], environ);
	if (s->only != MC_RANK_ALL)
		mc_env_wired(environ, &a->wired);
	if (open_stdin(a) != 0)
		return mc_err_set(err, "cannot make a pipe: %s", strerror(errno));
	struct mc_engine_cfg e = {
		.job = &s->job,
		.bind = &a->bind,
		.role_env = s->env,
		.output = a->output,
		.host = a->host,
		.tmp_base = tmp != NULL && *tmp != '\0' ? tmp : "/tmp",
		.cgroup = a->has_cgroup ? &a->cgroup : NULL,
		.stdin_fd = a->in_fd,
		.title = a->title,
		.title_len = a->title_len,
		.start_ns = mc_now_ns(),
		.hosts = &s->hosts,
		.self = s->self,
		.only = s->only,
		.wired = s->only != MC_RANK_ALL ? &a->wired : NULL,
		.nspace = s->nspace,
	};
	mc_env_drop_traces(environ);
	int rc = mc_engine_local.start(&e, &a->engine, &why);
	if (a->in_fd >= 0)
		(void)close(a->in_fd);
	return rc == 0 ? 0 : mc_err_set(err, "%s", why.text);
}

/* ---- run ---- */

static void drain_engine(struct agent *a)
{
	struct mc_engine_event ev;
	struct mc_server_event sev;

	while (mc_engine_local.wait(a->engine, &ev)) {
		if (ev.kind == MC_ENGINE_EXITED && mc_output_all_closed(a->output))
			mc_output_flush(a->output);
		tell_event(a, &ev);
	}
	while (mc_engine_server_next(a->engine, &sev))
		tell_server_event(a, &sev);
}

static void round_of(struct agent *a, int ms)
{
	struct epoll_event ev[BATCH];
	int n = epoll_wait(a->epoll, ev, BATCH, ms);

	for (int i = 0; i < n; i++) {
		struct mc_source *src = ev[i].data.ptr;

		src->ready(src, ev[i].events);
	}
}

static void run(struct agent *a)
{
	a->engine_src = (struct mc_source){.fd = mc_engine_local.fd(a->engine), .ready = on_engine};
	(void)mc_source_arm(a->epoll, &a->engine_src, EPOLLIN);
	on_link(&a->link_src, 0); /* what came together with the job */
	while (!a->bye && !a->cut_off) {
		drain_engine(a);
		mc_output_flush(a->output);
		round_of(a, -1);
	}
	if (a->cut_off) { /* for all others our ranks are dead: make that true, at once */
		mc_engine_local.signal(a->engine, MC_RANK_ALL, SIGKILL);
		a->code = 1;
	}
}

/* The rest of what the ranks have printed, while the head takes it. */
static void finish(struct agent *a)
{
	int64_t until = mc_now_ns() + 5 * MC_NS_PER_S;

	(void)mc_engine_local.stop(a->engine, NULL);
	if (a->has_cgroup)
		(void)mc_rdmacg_remove(&a->cgroup);
	if (a->cut_off)
		return;
	a->bye = false;
	mc_output_close_all(a->output);
	while (mc_link_wants_write(a->link) && mc_link_state(a->link) == MC_LINK_UP && mc_now_ns() < until)
		(void)mc_agent_wait(a, until);
}

static int serve(struct agent *a)
{
	struct mc_err err = {""};
	struct mc_engine_event lost = {.kind = MC_ENGINE_LOST};

	if (open_loop(a) != 0)
		return mc_agent_die(a, "cannot set up signals and events: %s", strerror(errno));
	if (mc_output_create(a->epoll, &a->spec.job, &a->output, &err) != 0)
		return mc_agent_die(a, "%s", err.text);
	a->room = WINDOW;
	mc_output_relay(a->output, relay, a);
	if (start(a, &err) != 0) {
		(void)snprintf(lost.text, sizeof(lost.text), "%.199s", err.text);
		tell_event(a, &lost);
		mc_output_say(a->output, "%s", err.text);
		while (mc_link_wants_write(a->link) && mc_agent_wait(a, mc_now_ns() + MC_NS_PER_S))
			;
		return 1;
	}
	run(a);
	finish(a);
	return a->spec.only != MC_RANK_ALL || a->cut_off ? a->code : 0;
}

int mc_agent(char *title, size_t title_len)
{
	struct agent a = {.title = title, .title_len = title_len, .epoll = -1, .in = {.fd = -1}, .in_fd = -1};
	(void)gethostname(a.host, sizeof(a.host) - 1);
	(void)signal(SIGPIPE, SIG_IGN);
	int code = mc_agent_meet(&a);
	if (code == 0 && !a.bye)
		code = serve(&a);
	mc_link_free(a.link);
	mc_strv_free(&a.wired);
	mc_bind_close(&a.bind);
	free(a.here);
	mc_spec_free(&a.spec);
	free(a.in_buf);
	return code;
}

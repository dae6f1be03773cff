/* SPDX-License-Identifier: BSD-3-Clause */
/* engine_local.c - all ranks on this host: a guard process starts them, an embedded PMIx server wires them. */
#include "engine.h"
#include "guard.h"
#include "jobenv.h"
#include "server.h"
#include "tmpdir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct mc_engine {
	struct mc_engine_cfg cfg;
	int epoll; /* joins the guard's and the server's descriptor into one */
	char *tmpdir;
	struct mc_guard *guard;
	struct mc_server *server;
	bool held_set;
	struct mc_guard_event held;    /* an end that waits until the server has told all it knew before */
	struct mc_server_event *asked; /* what the server wants of other hosts, for the agent to fetch */
	size_t asked_n;
	uint32_t *refused; /* ranks that could not be started again */
	size_t refused_n;
};

static void say_phase(const struct mc_engine *e, const char *what)
{
	if (e->cfg.job->verbose)
		mc_output_say(e->cfg.output, "%8.1f ms  %s", (double)(mc_now_ns() - e->cfg.start_ns) / 1e6, what);
}

/* Two pipes per rank, and some. After the guard has been forked: the ranks keep the limit that mcrun was given. */
static void raise_file_limit(uint32_t rank_n)
{
	struct rlimit r;
	rlim_t need = 128 + (rlim_t)rank_n * 4;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= need)
		return;
	r.rlim_cur = need < r.rlim_max ? need : r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
}

static int watch(struct mc_engine *e, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* Is it for this process to start that rank? */
static bool is_here(const struct mc_engine *e, uint32_t rank)
{
	if (e->cfg.only != MC_RANK_ALL)
		return rank == e->cfg.only;
	return e->cfg.hosts == NULL || e->cfg.hosts->of_rank[rank] == e->cfg.self;
}

/* deaths: how often it has died before. */
static int start_rank(struct mc_engine *e, uint32_t rank, uint32_t deaths, struct mc_err *err)
{
	struct mc_strv add = {0};
	int fds[3] = {rank == 0 && deaths == 0 ? e->cfg.stdin_fd : -1, -1, -1};
	char share[32], number[16];
	int rc = 0;

	if (e->cfg.wired != NULL)
		mc_strv_copy(&add, e->cfg.wired);
	else
		rc = mc_server_rank_env(e->server, rank, deaths > 0, &add, err);
	(void)snprintf(number, sizeof(number), "%u", deaths);
	if (deaths > 0)
		mc_strv_set(&add, "MC_REJOIN", number);
	if (rc == 0 && mc_bind_share(e->cfg.bind, rank, share, sizeof(share)))
		mc_strv_set(&add, "MC_NUMA_RANK", share);
	if (rc == 0)
		rc = mc_output_open(e->cfg.output, rank, fds + 1, err);
	if (rc == 0) {
		rc = mc_guard_spawn(e->guard, rank, add.v, fds, err);
		(void)close(fds[1]);
		(void)close(fds[2]);
	}
	mc_strv_free(&add);
	return rc;
}

static int start_helpers(struct mc_engine *e, struct mc_err *err)
{
	const struct mc_engine_cfg *c = &e->cfg;
	char name[64] = "mc-";

	if (mc_env_random(name + 3, 16, err) != 0 || mc_tmpdir_create(c->tmp_base, &e->tmpdir, err) != 0)
		return -1;
	struct mc_guard_cfg g = {c->job, c->bind, c->role_env, e->tmpdir, c->title, c->title_len, c->cgroup};
	if (mc_guard_start(&g, &e->guard, err) != 0)
		return -1;
	say_phase(e, "guard process started");
	raise_file_limit(c->job->rank_n);
	e->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (e->epoll < 0 || watch(e, mc_guard_fd(e->guard)) != 0)
		return mc_err_set(err, "cannot wait for events: %s%s", strerror(errno), mc_err_hint(errno));
	if (c->wired != NULL)
		return 0;
	struct mc_server_cfg s = {c->job, c->nspace != NULL ? c->nspace : name, c->host, e->tmpdir, c->hosts, c->self};
	if (mc_server_start(&s, &e->server, err) != 0)
		return -1;
	say_phase(e, "PMIx server ready");
	if (watch(e, mc_server_fd(e->server)) != 0)
		return mc_err_set(err, "cannot wait for events: %s%s", strerror(errno), mc_err_hint(errno));
	return 0;
}

static int local_stop(struct mc_engine *e, const char **by)
{
	(void)by;
	if (e == NULL)
		return 0;
	mc_guard_stop(e->guard);
	if (e->tmpdir != NULL)
		(void)mc_tmpdir_remove(e->tmpdir); /* the guard has done it, unless it was killed */
	/*
	 * The server is not finalized: the process ends now, its files are gone, and PMIx_server_finalize can wait for
	 * ever for a lock once a foreign client has connected with other credentials.
	 */
	if (e->epoll >= 0)
		(void)close(e->epoll);
	free(e->asked);
	free(e->refused);
	free(e->tmpdir);
	free(e);
	return 0;
}

static int local_start(const struct mc_engine_cfg *cfg, struct mc_engine **engine_out, struct mc_err *err)
{
	struct mc_engine *e = mc_xalloc(1, sizeof(*e));
	int rc;

	e->cfg = *cfg;
	e->epoll = -1;
	rc = start_helpers(e, err);
	for (uint32_t r = 0; r < cfg->job->rank_n && rc == 0; r++)
		rc = is_here(e, r) ? start_rank(e, r, 0, err) : 0;
	if (rc != 0) {
		(void)local_stop(e, NULL);
		return -1;
	}
	say_phase(e, "all ranks handed to the guard");
	/* only now, so that nobody waits for it */
	unsigned swept = mc_tmpdir_sweep(cfg->tmp_base);
	if (swept > 0 && cfg->job->verbose)
		mc_output_say(cfg->output, "removed %u directories that killed launchers left in %s", swept,
			      cfg->tmp_base);
	*engine_out = e;
	return 0;
}

static int local_fd(const struct mc_engine *e)
{
	return e->epoll;
}

static bool next_of_server(struct mc_engine *e, struct mc_engine_event *ev)
{
	static const enum mc_engine_event_kind kind[] = {
		[MC_SERVER_JOINED] = MC_ENGINE_JOINED,
		[MC_SERVER_LEFT] = MC_ENGINE_LEFT,
		[MC_SERVER_ABORT] = MC_ENGINE_ABORT,
	};
	struct mc_server_event s;

	if (e->server == NULL || !mc_server_next(e->server, &s))
		return false;
	if (s.kind > MC_SERVER_ABORT) {
		e->asked = mc_xgrow(e->asked, e->asked_n + 1, sizeof(*e->asked));
		e->asked[e->asked_n++] = s;
		return next_of_server(e, ev);
	}
	*ev = (struct mc_engine_event){.kind = kind[s.kind], .rank = s.rank, .victim = s.victim, .code = s.code};
	(void)snprintf(ev->text, sizeof(ev->text), "%s", s.text);
	return true;
}

static void of_guard(const struct mc_guard_event *g, struct mc_engine_event *ev)
{
	static const enum mc_engine_event_kind kind[] = {
		[MC_GUARD_STARTED] = MC_ENGINE_STARTED, [MC_GUARD_FAILED] = MC_ENGINE_FAILED,
		[MC_GUARD_EXITED] = MC_ENGINE_EXITED,   [MC_GUARD_EMPTY] = MC_ENGINE_EMPTY,
		[MC_GUARD_LOST] = MC_ENGINE_LOST,
	};

	*ev = (struct mc_engine_event){.kind = kind[g->kind], .rank = g->rank, .code = g->code, .pid = g->pid};
	if (g->kind == MC_GUARD_LOST)
		(void)snprintf(ev->text, sizeof(ev->text), "the guard process %d was killed by signal %d", g->pid,
			       WIFSIGNALED(g->code) ? WTERMSIG(g->code) : 0);
}

static bool local_wait(struct mc_engine *e, struct mc_engine_event *ev)
{
	struct mc_guard_event g;

	if (e->refused_n > 0) {
		*ev = (struct mc_engine_event){
			.kind = MC_ENGINE_FAILED, .rank = e->refused[--e->refused_n], .code = EAGAIN};
		return true;
	}
	/* an end is fetched first and delivered last: what the rank told the server before it died is there by then */
	if (!e->held_set && mc_guard_next(e->guard, &g)) {
		if (g.kind != MC_GUARD_EXITED) {
			of_guard(&g, ev);
			return true;
		}
		e->held = g;
		e->held_set = true;
	}
	if (next_of_server(e, ev))
		return true;
	if (!e->held_set)
		return false;
	e->held_set = false;
	of_guard(&e->held, ev);
	return true;
}

static void local_signal(struct mc_engine *e, uint32_t rank, int sig)
{
	mc_guard_signal(e->guard, rank, sig);
}

static void local_gone(struct mc_engine *e, uint32_t rank, int code, bool dead)
{
	if (e->server != NULL)
		mc_server_rank_gone(e->server, rank, code, dead);
}

static void local_restart(struct mc_engine *e, uint32_t rank, uint32_t deaths)
{
	struct mc_err err;

	if (start_rank(e, rank, deaths, &err) == 0)
		return;
	mc_output_say(e->cfg.output, "rank %u cannot be started again: %s", rank, err.text);
	e->refused = mc_xgrow(e->refused, e->refused_n + 1, sizeof(*e->refused));
	e->refused[e->refused_n++] = rank;
}

struct mc_server *mc_engine_server(struct mc_engine *e)
{
	return e->server;
}

bool mc_engine_server_next(struct mc_engine *e, struct mc_server_event *ev)
{
	if (e->asked_n == 0)
		return false;
	*ev = e->asked[0];
	memmove(e->asked, e->asked + 1, --e->asked_n * sizeof(*e->asked));
	return true;
}

static void local_settle(struct mc_engine *e, int sig)
{
	mc_guard_settle(e->guard, sig);
}

static void local_clear(struct mc_engine *e)
{
	mc_guard_clear(e->guard);
}

const struct mc_engine_ops mc_engine_local = {
	.name = "local",
	.start = local_start,
	.fd = local_fd,
	.wait = local_wait,
	.signal = local_signal,
	.gone = local_gone,
	.restart = local_restart,
	.settle = local_settle,
	.clear = local_clear,
	.stop = local_stop,
};

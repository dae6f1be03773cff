/* SPDX-License-Identifier: BSD-3-Clause */
/* run.c - the one loop. */
#include "run_state.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define BATCH 64

static struct run *run_of_sig(struct mc_source *src)
{
	return (struct run *)(void *)((char *)src - offsetof(struct run, sig));
}

/* Last means: no more asking. */
static void kill_now(struct run *r)
{
	if (r->killed)
		return;
	r->killed = true;
	r->kill_at = 0;
	r->give_up_at = mc_now_ns() + MC_GIVE_UP_NS;
	if (!r->lost)
		r->ops->signal(r->engine, MC_RANK_ALL, SIGKILL);
}

/* Who is waiting to be started again stays dead. */
static void cancel_restarts(struct run *r)
{
	for (uint32_t i = 0; i < r->job->rank_n && r->restart_n > 0; i++) {
		if (r->rank[i].restart_at == 0)
			continue;
		r->rank[i].restart_at = 0;
		r->rank[i].ended_by_us = true;
		r->restart_n--;
		r->live--;
	}
}

static void restart_due(struct run *r, int64_t now)
{
	for (uint32_t i = 0; i < r->job->rank_n && r->restart_n > 0; i++) {
		struct rank_state *s = &r->rank[i];

		if (s->restart_at == 0 || s->restart_at > now)
			continue;
		s->restart_at = 0;
		r->restart_n--;
		r->joined_n -= s->joined;
		s->started = s->ended = s->joined = s->left = s->aborted = false;
		s->status = 0;
		r->ops->restart(r->engine, i, s->deaths);
	}
}

void mc_run_stop(struct run *r, enum stop_cause cause, int sig)
{
	if (r->stop != STOP_NONE)
		return;
	r->stop = cause;
	cancel_restarts(r);
	r->stopped_n = r->live;
	r->first_lives = r->first_fault != MC_RANK_ALL && !r->rank[r->first_fault].ended;
	if (cause == STOP_ENGINE)
		return;
	if (sig == SIGKILL || r->job->grace_ns == 0) {
		kill_now(r);
		return;
	}
	r->sent_sig = sig;
	r->ops->signal(r->engine, MC_RANK_ALL, sig);
	r->kill_at = mc_now_ns() + r->job->grace_ns;
}

static void suspend(struct run *r)
{
	r->ops->signal(r->engine, MC_RANK_ALL, SIGSTOP);
	(void)kill(getpid(), SIGSTOP);
	r->ops->signal(r->engine, MC_RANK_ALL, SIGCONT); /* we have been continued */
	mc_stdin_resume(&r->in);
}

/* The first asks the ranks to end, the second kills them; when none is left only unwritten output can be meant. */
void mc_run_interrupt(struct run *r, int sig)
{
	if (r->live == 0)
		r->drop_output = true;
	if (r->stop == STOP_NONE) {
		r->stop_sig = sig;
		mc_run_stop(r, STOP_SIGNAL, sig);
	} else {
		kill_now(r);
	}
}

static void on_signal(struct mc_source *src, uint32_t events)
{
	struct run *r = run_of_sig(src);
	struct signalfd_siginfo si;

	(void)events;
	while (read(src->fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		int sig = (int)si.ssi_signo;

		if (sig == SIGINT || sig == SIGTERM || sig == SIGHUP || sig == SIGQUIT)
			mc_run_interrupt(r, sig);
		else if (sig == SIGTSTP)
			suspend(r);
		else if (sig == SIGCONT)
			mc_stdin_resume(&r->in);
		else if (sig == SIGUSR1 || sig == SIGUSR2)
			r->ops->signal(r->engine, MC_RANK_ALL, sig);
	}
}

static void on_engine(struct mc_source *src, uint32_t events)
{
	(void)src, (void)events; /* drained in every round, also when the descriptor says nothing */
}

/* What the caller ignores (nohup) stays ignored. Blocked before any thread exists. */
static int open_signals(struct run *r)
{
	static const int list[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGUSR1, SIGUSR2};
	sigset_t set, block;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		struct sigaction old;

		if (sigaction(list[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			(void)sigaddset(&set, list[i]);
	}
	block = set;
	(void)sigaddset(&block, SIGCHLD);
	(void)signal(SIGCHLD, SIG_DFL); /* inherited as ignored it would take our children's ends from us */
	(void)signal(SIGPIPE, SIG_IGN); /* a reader that leaves, or garbage on the PMIx port, must not end the job */
	(void)signal(SIGXFSZ, SIG_IGN); /* nor a log file that has reached ulimit -f: it is full */
	(void)sigprocmask(SIG_BLOCK, &block, NULL);
	r->sig = (struct mc_source){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = on_signal};
	return r->sig.fd < 0 || !mc_source_arm(r->epoll, &r->sig, EPOLLIN) ? -1 : 0;
}

static void drain_engine(struct run *r)
{
	struct mc_engine_event ev;

	while (!r->lost && r->ops->wait(r->engine, &ev))
		mc_judge_event(r, &ev);
}

/* All ranks have ended; what they left behind gets the rest of the grace time if the end was asked for, else none. */
static void sweep_up(struct run *r, int64_t now)
{
	if (r->clear_sent || r->lost)
		return;
	if (r->kill_at != 0) {
		if (!r->settle_sent)
			r->ops->settle(r->engine, r->sent_sig);
		r->settle_sent = true;
		return;
	}
	r->clear_sent = true;
	r->give_up_at = now + MC_GIVE_UP_NS;
	r->ops->clear(r->engine);
}

static void check_deadlines(struct run *r)
{
	int64_t now = mc_now_ns();

	if (r->timeout_at != 0 && now >= r->timeout_at && r->live > 0) {
		r->timeout_at = 0;
		mc_run_stop(r, STOP_TIMEOUT, SIGTERM);
	}
	if (r->kill_at != 0 && now >= r->kill_at)
		kill_now(r);
	if (r->restart_n > 0)
		restart_due(r, now);
	if (r->live == 0)
		sweep_up(r, now);
}

static bool gave_up(struct run *r)
{
	if (r->give_up_at == 0 || mc_now_ns() < r->give_up_at || r->empty)
		return false;
	for (uint32_t i = 0; i < r->job->rank_n; i++)
		if (!r->rank[i].ended)
			mc_output_say(r->output,
				      "rank %u, process %d, cannot be killed (is it waiting for a disk or a device?)",
				      i, r->rank[i].pid);
	return true;
}

static int wait_ms(const struct run *r)
{
	int64_t at = 0, list[3] = {r->live > 0 ? r->timeout_at : 0, r->kill_at, r->give_up_at};

	for (int i = 0; i < 3; i++)
		if (list[i] != 0 && (at == 0 || list[i] < at))
			at = list[i];
	for (uint32_t i = 0; i < r->job->rank_n && r->restart_n > 0; i++)
		if (r->rank[i].restart_at != 0 && (at == 0 || r->rank[i].restart_at < at))
			at = r->rank[i].restart_at;
	if (at == 0)
		return -1;
	int64_t ms = (at - mc_now_ns() + 999999) / 1000000;
	return ms < 0 ? 0 : ms > 3600000 ? 3600000 : (int)ms;
}

static void round_of(struct run *r, int ms)
{
	struct epoll_event ev[BATCH];
	int n = epoll_wait(r->epoll, ev, BATCH, ms);

	for (int i = 0; i < n; i++) {
		struct mc_source *src = ev[i].data.ptr;

		src->ready(src, ev[i].events);
	}
}

/* Until every rank has ended and nothing of the job runs any more. */
static void loop(struct run *r)
{
	for (;;) {
		drain_engine(r);
		check_deadlines(r);
		mc_output_flush(r->output);
		if (r->empty || r->lost || gave_up(r))
			return;
		round_of(r, wait_ms(r));
	}
}

/* All writers are dead: what the pipes hold is all there will be. Our own reader may take as long as it likes. */
static void write_rest(struct run *r)
{
	mc_output_flush(r->output);
	while (!r->drop_output && (!mc_output_all_closed(r->output) || !mc_output_all_written(r->output))) {
		if (mc_output_all_written(r->output))
			mc_output_close_all(r->output);
		mc_output_flush(r->output);
		if (mc_output_all_closed(r->output) && mc_output_all_written(r->output))
			return;
		round_of(r, mc_output_all_closed(r->output) ? -1 : 10);
	}
	if (r->drop_output)
		mc_output_drop(r->output);
}

static int open_run(struct run *r, struct mc_err *err)
{
	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (r->epoll < 0 || open_signals(r) != 0 || mc_stdin_open(&r->in, r->epoll) != 0)
		return mc_err_set(err, "cannot set up signals and events: %s%s", strerror(errno), mc_err_hint(errno));
	return mc_output_create(r->epoll, r->job, &r->output, err);
}

static int start(struct run *r, struct mc_err *err)
{
	const struct mc_run_cfg *c = &r->cfg;
	struct mc_engine_cfg e = {
		.job = c->job,
		.bind = c->bind,
		.role_env = c->role_env,
		.output = r->output,
		.host = c->host,
		.tmp_base = c->tmp_base,
		.cgroup = c->cgroup,
		.stdin_fd = r->in.rank_fd,
		.hosts = c->hosts,
		.only = MC_RANK_ALL,
		.self_path = c->self_path,
		.title = c->title,
		.title_len = c->title_len,
		.start_ns = c->start_ns,
	};

	if (r->ops->start(&e, &r->engine, err) != 0)
		return -1;
	mc_stdin_start(&r->in);
	r->engine_src = (struct mc_source){.fd = r->ops->fd(r->engine), .ready = on_engine};
	(void)mc_source_arm(r->epoll, &r->engine_src, EPOLLIN);
	if (r->job->timeout_ns > 0)
		r->timeout_at = c->start_ns + r->job->timeout_ns;
	return 0;
}

int mc_run(const struct mc_run_cfg *cfg)
{
	struct run r = {
		.cfg = *cfg,
		.job = cfg->job,
		.oom_kills = mc_report_oom_kills(),
		.ops = cfg->engine,
		.live = cfg->job->rank_n,
		.first_fault = MC_RANK_ALL,
	};
	struct mc_err err;
	int code = 1;

	r.rank = mc_xalloc(cfg->job->rank_n, sizeof(*r.rank));
	if (open_run(&r, &err) != 0 || start(&r, &err) != 0) {
		if (r.output != NULL)
			mc_output_say(r.output, "%s", err.text);
		else
			(void)fprintf(stderr, "mcrun: %s\n", err.text);
	} else {
		loop(&r);
		r.engine_code = r.ops->stop(r.engine, &r.engine_name);
		write_rest(&r);
		mc_report_end(&r);
		code = mc_judge_exit_code(&r);
		mc_report_phase(&r, "done");
	}
	if (r.output != NULL)
		mc_output_flush(r.output); /* also when the rest was dropped: what ended the job is said */
	while (r.output != NULL && !mc_output_all_written(r.output) && !r.drop_output) {
		mc_output_flush(r.output);
		if (!mc_output_all_written(r.output))
			round_of(&r, 100);
	}
	mc_output_free(r.output);
	mc_stdin_close(&r.in);
	free(r.rank);
	return code;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard_main.c - the guard process. It stays small on purpose: no PMIx, one thread, hardly any memory, so that starting
 * a rank from it is cheap and little can go wrong in it.
 */
#include "guard.h"
#include "proctree.h"
#include "spawn.h"
#include "tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct main_state {
	const struct mc_guard_cfg *cfg;
	char *cgroup_procs; /* NULL: the ranks stay in our cgroup */
	int sock, sigfd, null_fd;
	bool orphan;  /* mcrun is gone */
	bool polite;  /* the ranks have been asked to end */
	bool settle;  /* mcrun waits for the end of what they left behind */
	pid_t *pid;   /* [rank_n]; 0: not running */
	pid_t *group; /* [rank_n]: process groups that the ranks lead or led */
	uint32_t rank_n;
};

static void tell(struct main_state *g, enum mc_guard_event_kind kind, uint32_t rank, int32_t code, pid_t pid)
{
	struct mc_guard_event ev = {.kind = kind, .rank = rank, .code = code, .pid = pid};
	ssize_t n = -1;

	while (!g->orphan) {
		n = send(g->sock, &ev, sizeof(ev), MSG_NOSIGNAL);
		if (n >= 0 || errno != EINTR)
			break;
	}
	if (n < 0)
		g->orphan = true;
}

static uint32_t rank_of(const struct main_state *g, pid_t pid)
{
	for (uint32_t r = 0; r < g->rank_n; r++)
		if (g->pid[r] == pid)
			return r;
	return MC_ALL_RANKS;
}

/*
 * What is left in its process group when a rank ends is killed if the rank failed: the others are told that it is dead,
 * so it has to be. While the rank is unreaped its number cannot mean another group.
 */
static void end_group(const struct main_state *g, const siginfo_t *si)
{
	if (!g->polite && (si->si_code != CLD_EXITED || si->si_status != 0))
		(void)kill(-si->si_pid, SIGKILL);
}

/* Reap what has ended. False: there is no child any more. */
static bool reap(struct main_state *g)
{
	siginfo_t si;
	int status;

	for (;;) {
		si.si_pid = 0;
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) != 0)
			return errno != ECHILD;
		if (si.si_pid == 0)
			return true;
		uint32_t rank = rank_of(g, si.si_pid);
		if (rank != MC_ALL_RANKS)
			end_group(g, &si);
		if (waitpid(si.si_pid, &status, WNOHANG) != si.si_pid || rank == MC_ALL_RANKS)
			continue;
		g->pid[rank] = 0;
		tell(g, MC_GUARD_EXITED, rank, status, si.si_pid);
	}
}

/* Sleep until a child ends, or so long. */
static void wait_child(struct main_state *g, int ms)
{
	struct pollfd p = {g->sigfd, POLLIN, 0};
	struct signalfd_siginfo si;

	if (poll(&p, 1, ms) > 0)
		(void)!read(g->sigfd, &si, sizeof(si));
}

/* Kill until there is no child: new ones are found by the next look. */
static void clear(struct main_state *g)
{
	const struct mc_proc_except nothing = {0};

	g->settle = false;
	(void)mc_proc_signal_descendants(SIGKILL, &nothing);
	while (reap(g)) {
		wait_child(g, 20);
		(void)mc_proc_signal_descendants(SIGKILL, &nothing);
	}
}

/* Reap; mcrun may be waiting for there to be nothing left. */
static void look(struct main_state *g)
{
	if (reap(g) || !g->settle)
		return;
	g->settle = false;
	tell(g, MC_GUARD_EMPTY, 0, 0, 0);
}

static void spawn(struct main_state *g, const struct mc_guard_cmd *cmd, char *strings, size_t len, int *fds)
{
	struct mc_job_place place = mc_job_place(g->cfg->job, cmd->rank);
	const struct mc_job_role *role = &g->cfg->job->role[place.role];
	struct mc_strv env = {0};
	struct mc_spawn s = {.path = role->path, .argv = role->argv.v, .bind = mc_bind_place(g->cfg->bind, cmd->rank)};
	char *end = strings + len;

	mc_strv_copy(&env, &g->cfg->role_env[place.role]);
	for (uint32_t i = 0; i < cmd->env_n && strings < end; i++, strings += strlen(strings) + 1)
		mc_strv_set_pair(&env, strings);
	s.env = env.v;
	s.cgroup = g->cgroup_procs;
	s.fd[0] = cmd->has_stdin ? fds[0] : g->null_fd;
	s.fd[1] = fds[cmd->has_stdin];
	s.fd[2] = fds[cmd->has_stdin + 1];
	pid_t pid = mc_spawn(&s);
	if (pid > 0)
		g->pid[cmd->rank] = g->group[cmd->rank] = pid;
	mc_strv_free(&env);
	if (pid > 0)
		tell(g, MC_GUARD_STARTED, cmd->rank, 0, pid);
	else
		tell(g, MC_GUARD_FAILED, cmd->rank, s.error, 0);
}

static bool is_polite(int sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGQUIT;
}

static void signal_ranks(struct main_state *g, uint32_t rank, int sig)
{
	g->polite |= rank == MC_ALL_RANKS && is_polite(sig);
	for (uint32_t r = 0; r < g->rank_n; r++) {
		if (g->pid[r] == 0 || (rank != MC_ALL_RANKS && r != rank))
			continue;
		(void)kill(-g->pid[r], sig);
		if (is_polite(sig))
			(void)kill(-g->pid[r], SIGCONT); /* a stopped process acts on it only then */
	}
}

/* Those in the ranks' groups have had the signal; a second one would mean "at once" to many programs. */
static void settle(struct main_state *g, int sig)
{
	const struct mc_proc_except ranks = {.group = g->group, .group_n = g->rank_n};

	(void)mc_proc_signal_descendants(sig, &ranks);
	g->settle = true;
	look(g);
}

static void one_command(struct main_state *g, char *buf, ssize_t n, int *fds, unsigned fd_n)
{
	struct mc_guard_cmd cmd;

	if (n < (ssize_t)sizeof(cmd))
		return;
	memcpy(&cmd, buf, sizeof(cmd));
	buf[n] = '\0'; /* the buffer has one byte more than a message may have */
	if (cmd.kind == MC_GUARD_CMD_SIGNAL) {
		signal_ranks(g, cmd.rank, cmd.sig);
	} else if (cmd.kind == MC_GUARD_CMD_SETTLE) {
		settle(g, cmd.sig);
	} else if (cmd.kind == MC_GUARD_CMD_CLEAR) {
		clear(g);
		tell(g, MC_GUARD_EMPTY, 0, 0, 0);
	} else if (cmd.kind == MC_GUARD_CMD_SPAWN && cmd.rank < g->rank_n && fd_n == 2 + (cmd.has_stdin != 0)) {
		spawn(g, &cmd, buf + sizeof(cmd), (size_t)n - sizeof(cmd), fds);
	}
}

static void receive(struct main_state *g, char *buf)
{
	union {
		char room[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {buf, MC_GUARD_CMD_MAX};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	int fds[3];
	unsigned fd_n = 0;
	ssize_t n = recvmsg(g->sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		g->orphan = true;
		return;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		fd_n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), fd_n * sizeof(int));
	}
	one_command(g, buf, n, fds, fd_n);
	for (unsigned i = 0; i < fd_n; i++)
		(void)close(fds[i]);
}

/*
 * Own process group, so that a signal to mcrun's group does not take the guard along; own name and command line, so
 * that pkill and pkill -f do not either.
 */
static void set_apart(const struct mc_guard_cfg *cfg)
{
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_NAME, "mc-guard");
	(void)prctl(PR_SET_PDEATHSIG, SIGCONT); /* should it be stopped when it is needed */
	if (cfg->title != NULL && cfg->title_len > 0) {
		memset(cfg->title, 0, cfg->title_len);
		(void)snprintf(cfg->title, cfg->title_len, "mc-guard");
	}
}

/*
 * Keep no end of a pipe that mcrun or a rank waits for the closing of: stdin's, an output's. Only the socket, and
 * stderr for the one thing the guard may ever have to say.
 */
static void close_others(int sock, int null_fd)
{
	(void)dup2(null_fd, STDIN_FILENO);
	(void)dup2(null_fd, STDOUT_FILENO);
	int last = sock > null_fd ? sock : null_fd;
	for (int fd = STDERR_FILENO + 1; fd < last; fd++)
		if (fd != sock && fd != null_fd)
			(void)close(fd);
	(void)close_range((unsigned)last + 1, UINT_MAX, 0);
}

static int open_signals(void)
{
	sigset_t set;

	/* everything is blocked: only mcrun's end, or SIGKILL, ends the guard */
	(void)sigfillset(&set);
	(void)sigprocmask(SIG_SETMASK, &set, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

void mc_guard_main(const struct mc_guard_cfg *cfg, int sock, pid_t mcrun)
{
	struct main_state g = {.cfg = cfg, .sock = sock, .rank_n = cfg->job->rank_n};
	char *buf = mc_xalloc(MC_GUARD_CMD_MAX + 1, 1);

	set_apart(cfg);
	if (cfg->cgroup != NULL)
		g.cgroup_procs = mc_xformat("%s/cgroup.procs", cfg->cgroup->dir);
	g.pid = mc_xalloc(g.rank_n, sizeof(*g.pid));
	g.group = mc_xalloc(g.rank_n, sizeof(*g.group));
	g.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	close_others(sock, g.null_fd);
	g.sigfd = open_signals();
	g.orphan = mc_proc_adopt_orphans() != 0 || g.sigfd < 0 || g.null_fd < 0 || getppid() != mcrun;
	while (!g.orphan) {
		struct pollfd p[2] = {{g.sock, POLLIN, 0}, {g.sigfd, POLLIN, 0}};
		struct signalfd_siginfo si;

		(void)poll(p, 2, -1);
		if (p[1].revents != 0) {
			(void)!read(g.sigfd, &si, sizeof(si));
			look(&g);
		}
		if (p[0].revents != 0)
			receive(&g, buf);
	}
	clear(&g);
	if (cfg->tmpdir != NULL)
		(void)mc_tmpdir_remove(cfg->tmpdir);
	/* also when mcrun lives: it finds nothing to remove then; left to itself nobody else would */
	if (cfg->cgroup != NULL)
		(void)mc_rdmacg_remove(cfg->cgroup);
	_exit(0);
}

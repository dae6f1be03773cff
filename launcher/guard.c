/* SPDX-License-Identifier: BSD-3-Clause */
#include "guard.h"
#include "proctree.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct mc_guard {
	int sock;
	pid_t pid;
	bool lost, lost_told;
	pid_t *foreign; /* children we had before: a shell that started something and then exec'ed mcrun */
	uint32_t foreign_n;
	struct mc_guard_event *wait; /* events read while a command was being sent */
	size_t wait_n, wait_at;
};

int mc_guard_start(const struct mc_guard_cfg *cfg, struct mc_guard **guard_out, struct mc_err *err)
{
	int sv[2];
	pid_t self = getpid();
	struct mc_guard *g;

	if (mc_proc_adopt_orphans() != 0)
		return mc_err_set(err, "cannot adopt orphaned processes (prctl): %s", strerror(errno));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) != 0)
		return mc_err_set(err, "cannot make a socket pair: %s%s", strerror(errno), mc_err_hint(errno));
	g = mc_xalloc(1, sizeof(*g));
	g->foreign = mc_proc_children(&g->foreign_n);
	pid_t pid = fork();
	if (pid < 0) {
		(void)mc_err_set(err, "cannot start a process: %s%s", strerror(errno), mc_err_hint(errno));
		goto undo_guard;
	}
	if (pid == 0) {
		(void)close(sv[0]);
		mc_guard_main(cfg, sv[1], self);
	}
	(void)close(sv[1]);
	g->sock = sv[0];
	g->pid = pid;
	*guard_out = g;
	return 0;
undo_guard:
	free(g->foreign);
	free(g);
	(void)close(sv[0]);
	(void)close(sv[1]);
	return -1;
}

int mc_guard_fd(const struct mc_guard *g)
{
	return g->sock;
}

/* One event from the socket without waiting. */
static bool receive(struct mc_guard *g, struct mc_guard_event *ev)
{
	ssize_t n;

	if (g->lost)
		return false;
	do
		n = recv(g->sock, ev, sizeof(*ev), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(*ev))
		return true;
	if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
		g->lost = true;
	return false;
}

bool mc_guard_next(struct mc_guard *g, struct mc_guard_event *ev)
{
	if (g->wait_at < g->wait_n) {
		*ev = g->wait[g->wait_at++];
		return true;
	}
	g->wait_at = g->wait_n = 0;
	if (receive(g, ev))
		return true;
	if (g->lost && !g->lost_told) {
		int status = 0;

		g->lost_told = true;
		*ev = (struct mc_guard_event){.kind = MC_GUARD_LOST, .pid = g->pid};
		if (waitpid(g->pid, &status, 0) == g->pid)
			ev->code = status;
		g->pid = 0;
		return true;
	}
	return false;
}

/*
 * Send one command. When the guard's queue is full we take its events meanwhile: it may itself be waiting for room to
 * tell us something, and two that only send would wait for each other for ever.
 */
static void command(struct mc_guard *g, const void *data, size_t len, const int *fds, unsigned fd_n)
{
	union {
		char room[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)data, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd_n > 0) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fd_n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_n * sizeof(int));
	}
	while (!g->lost && sendmsg(g->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		struct pollfd p = {g->sock, POLLIN | POLLOUT, 0};
		struct mc_guard_event ev;

		if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ENOBUFS) {
			g->lost = true;
			break;
		}
		(void)poll(&p, 1, 1000);
		while (receive(g, &ev)) {
			g->wait = mc_xgrow(g->wait, g->wait_n + 1, sizeof(*g->wait));
			g->wait[g->wait_n++] = ev;
		}
	}
}

int mc_guard_spawn(struct mc_guard *g, uint32_t rank, char *const *env_add, const int fds[3], struct mc_err *err)
{
	struct mc_guard_cmd cmd = {.kind = MC_GUARD_CMD_SPAWN, .rank = rank, .has_stdin = fds[0] >= 0};
	char *buf = mc_xalloc(MC_GUARD_CMD_MAX, 1);
	size_t at = sizeof(cmd);

	for (; env_add != NULL && env_add[cmd.env_n] != NULL; cmd.env_n++) {
		size_t len = strlen(env_add[cmd.env_n]) + 1;

		if (len > MC_GUARD_CMD_MAX - at) {
			free(buf);
			return mc_err_set(err, "the PMIx environment of rank %u is longer than %d bytes", rank,
					  MC_GUARD_CMD_MAX);
		}
		memcpy(buf + at, env_add[cmd.env_n], len);
		at += len;
	}
	memcpy(buf, &cmd, sizeof(cmd));
	command(g, buf, at, fds[0] >= 0 ? fds : fds + 1, fds[0] >= 0 ? 3 : 2);
	free(buf);
	return 0;
}

void mc_guard_signal(struct mc_guard *g, uint32_t rank, int sig)
{
	struct mc_guard_cmd cmd = {.kind = MC_GUARD_CMD_SIGNAL, .rank = rank, .sig = sig};

	command(g, &cmd, sizeof(cmd), NULL, 0);
}

void mc_guard_settle(struct mc_guard *g, int sig)
{
	struct mc_guard_cmd cmd = {.kind = MC_GUARD_CMD_SETTLE, .sig = sig};

	command(g, &cmd, sizeof(cmd), NULL, 0);
}

void mc_guard_clear(struct mc_guard *g)
{
	struct mc_guard_cmd cmd = {.kind = MC_GUARD_CMD_CLEAR};

	command(g, &cmd, sizeof(cmd), NULL, 0);
}

/* Without a guard its children are ours: end them here. */
static void kill_adopted(const struct mc_guard *g)
{
	const struct mc_proc_except foreign = {.child = g->foreign, .child_n = g->foreign_n};
	const struct timespec tick = {0, 5 * 1000 * 1000};

	for (int i = 0; i < 400; i++) {
		unsigned n = mc_proc_signal_descendants(SIGKILL, &foreign);

		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (n == 0)
			return;
		(void)nanosleep(&tick, NULL);
	}
}

void mc_guard_stop(struct mc_guard *g)
{
	const struct timespec tick = {0, 2 * 1000 * 1000};
	bool cleared = false;
	int status;

	if (g == NULL)
		return;
	(void)close(g->sock);
	/* the guard ends when it has no descendant left; a process that cannot die (disk wait) must not hold us */
	for (int i = 0; g->pid != 0 && i < 1500; i++) {
		if (waitpid(g->pid, &status, WNOHANG) == 0) {
			(void)nanosleep(&tick, NULL);
			continue;
		}
		cleared = WIFEXITED(status); /* it does so only when it has no descendant any more */
		g->pid = 0;
	}
	if (g->pid == 0 && !cleared)
		kill_adopted(g);
	free(g->foreign);
	free(g->wait);
	free(g);
}

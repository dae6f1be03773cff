/* SPDX-License-Identifier: BSD-3-Clause */
/* ref_ucx.c - put latency by UCX's own ucx_perftest (package ucx-utils), as two processes beside the two ranks. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ref.h"

enum { TRIES = 100, TRY_NS = 20000000 };
#define UCX_NS INT64_C(20000000000)

/* A port that is free now. Another may take it before ucx_perftest does: then that try fails. */
static uint16_t free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint16_t port = 0;

	if (fd < 0)
		return 0;
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0)
		port = ntohs(a.sin_port);
	close(fd);
	return port;
}

static pid_t start(const char *port, const char *size, bool tcp, bool client, int out)
{
	const char *argv[] = {
		"ucx_perftest",       "-p", port, "-t", "ucp_put_lat", "-s", size, "-n", tcp ? "2000" : "20000", "-w",
		tcp ? "100" : "1000", "-f", NULL, NULL};
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (client)
		argv[12] = "127.0.0.1";
	setenv("UCX_TLS", tcp ? "tcp,self" : "posix,sysv,self", 1);
	setenv("UCX_LOG_LEVEL", "fatal", 1);
	(void)dup2(out, STDOUT_FILENO);
	(void)dup2(out, STDERR_FILENO);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

double ref_ucx_parse(const char *text)
{
	double found = 0;

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		double iters, typical, average, overall;
		line += *line == '\n';
		if (sscanf(line, "%lf %lf %lf %lf", &iters, &typical, &average, &overall) == 4 && iters > 0)
			found = typical;
	}
	return found;
}

/* Read until the end of file. */
static void read_output(int fd, char *buf, size_t len, int64_t give_up_ns)
{
	size_t n = 0;

	while (n + 1 < len && perf_now_ns() < give_up_ns) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t got;
		if (poll(&p, 1, 100) <= 0)
			continue;
		got = read(fd, buf + n, len - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	buf[n] = '\0';
}

/* Its exit status, -1: it was still running and got killed. */
static int end_child(pid_t pid, int64_t give_up_ns)
{
	int status = 0;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		struct timespec ms = {.tv_nsec = 1000000};
		if (perf_now_ns() > give_up_ns) {
			kill(pid, SIGKILL);
			(void)waitpid(pid, &status, 0);
			return -1;
		}
		nanosleep(&ms, NULL);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int run_client(const char *port, const char *size, bool tcp, char *text, size_t len, int64_t give_up)
{
	int fd[2], rc;
	pid_t pid;

	text[0] = '\0';
	if (pipe2(fd, O_CLOEXEC) != 0)
		return -1;
	pid = start(port, size, tcp, true, fd[1]);
	close(fd[1]);
	if (pid > 0)
		read_output(fd[0], text, len, give_up);
	close(fd[0]);
	rc = pid > 0 ? end_child(pid, give_up) : -1;
	return rc;
}

/* The server is not there at once: the client tries again. */
static double measure(uint64_t size, bool tcp, int *rc_out)
{
	int64_t give_up = perf_now_ns() + UCX_NS;
	char port[16], size_text[32], text[4096] = "";
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), rc = -1;
	pid_t server;

	snprintf(port, sizeof(port), "%u", free_port());
	snprintf(size_text, sizeof(size_text), "%llu", (unsigned long long)size);
	server = null < 0 ? -1 : start(port, size_text, tcp, false, null);
	for (int i = 0; i < TRIES && server > 0 && rc != 0 && rc != 127 && perf_now_ns() < give_up; i++) {
		struct timespec wait = {.tv_nsec = TRY_NS};
		nanosleep(&wait, NULL);
		rc = run_client(port, size_text, tcp, text, sizeof(text), give_up);
	}
	if (server > 0)
		(void)end_child(server, rc == 0 ? give_up : 0);
	if (null >= 0)
		close(null);
	*rc_out = rc;
	return rc == 0 ? ref_ucx_parse(text) : 0;
}

double ref_ucx_lat(struct ref_link *l, uint64_t size, bool tcp)
{
	double us;
	int rc;

	if (l->no_ucx)
		return 0;
	us = measure(size, tcp, &rc);
	if (us > 0)
		return us;
	l->no_ucx = true;
	if (rc == 127)
		fprintf(stderr, "mcperf: reference ucx_perftest is not installed (package ucx-utils); left out\n");
	else
		fprintf(stderr, "mcperf: reference ucx_perftest failed (status %d); left out\n", rc);
	return 0;
}

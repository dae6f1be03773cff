/* SPDX-License-Identifier: BSD-3-Clause */
#include "stdin.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static void pump_end(struct mc_stdin *s)
{
	if (!s->pumping)
		return;
	(void)mc_source_arm(s->epoll, &s->in, 0);
	(void)mc_source_arm(s->epoll, &s->out, 0);
	(void)close(s->out.fd);
	s->pumping = false;
}

static void push(struct mc_stdin *s)
{
	ssize_t n = write(s->out.fd, s->buf, s->len);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		pump_end(s); /* rank 0 has closed its stdin */
		return;
	}
	if (n > 0) {
		s->len -= (size_t)n;
		memmove(s->buf, s->buf + n, s->len);
	}
	(void)mc_source_arm(s->epoll, &s->out, s->len > 0 ? EPOLLOUT : 0);
	(void)mc_source_arm(s->epoll, &s->in, s->len > 0 ? 0 : EPOLLIN);
}

static void on_writable(struct mc_source *src, uint32_t events)
{
	struct mc_stdin *s = (struct mc_stdin *)(void *)((char *)src - offsetof(struct mc_stdin, out));

	(void)events;
	push(s);
}

static void on_typed(struct mc_source *src, uint32_t events)
{
	struct mc_stdin *s = (struct mc_stdin *)(void *)((char *)src - offsetof(struct mc_stdin, in));

	(void)events;
	if (tcgetpgrp(STDIN_FILENO) != getpgrp()) { /* in the background a read would stop us */
		(void)mc_source_arm(s->epoll, &s->in, 0);
		return;
	}
	ssize_t n = read(STDIN_FILENO, s->buf, sizeof(s->buf));
	if (n > 0) {
		s->len = (size_t)n;
		push(s);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		pump_end(s);
	}
}

int mc_stdin_open(struct mc_stdin *s, int epoll)
{
	int fd[2];

	*s = (struct mc_stdin){.epoll = epoll, .rank_fd = STDIN_FILENO};
	if (!isatty(STDIN_FILENO))
		return 0;
	if (pipe2(fd, O_CLOEXEC) != 0)
		return -1;
	(void)fcntl(fd[1], F_SETFL, O_NONBLOCK);
	s->in = (struct mc_source){.fd = STDIN_FILENO, .ready = on_typed};
	s->out = (struct mc_source){.fd = fd[1], .ready = on_writable};
	s->rank_fd = fd[0];
	s->pumping = true;
	return 0;
}

void mc_stdin_start(struct mc_stdin *s)
{
	if (!s->pumping)
		return;
	(void)close(s->rank_fd);
	s->rank_fd = -1;
	(void)mc_source_arm(s->epoll, &s->in, EPOLLIN);
}

void mc_stdin_resume(struct mc_stdin *s)
{
	if (s->pumping && s->len == 0)
		(void)mc_source_arm(s->epoll, &s->in, EPOLLIN);
}

void mc_stdin_close(struct mc_stdin *s)
{
	pump_end(s);
}

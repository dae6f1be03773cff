/* SPDX-License-Identifier: BSD-3-Clause */
#include "sink.h"
#include "text.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

/* A pipe that is ready for writing takes this much without waiting (POSIX: PIPE_BUF). */
#define CHUNK  4096
#define ROUNDS 64 /* chunks per flush, so that one busy stream does not hold up signals and the ranks' ends */

static void on_ready(struct mc_source *src, uint32_t events)
{
	(void)events;
	mc_sink_flush((struct mc_sink *)(void *)src);
}

void mc_sink_open(struct mc_sink *s, int epoll, int fd)
{
	struct stat st;

	*s = (struct mc_sink){.src = {.fd = fd, .ready = on_ready}, .epoll = epoll};
	s->file = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
	s->tty = isatty(fd);
}

void mc_sink_close(struct mc_sink *s)
{
	(void)mc_source_arm(s->epoll, &s->src, 0);
	free(s->buf);
	s->buf = NULL;
	s->head = s->tail = s->room = 0;
}

void mc_sink_drop(struct mc_sink *s)
{
	(void)mc_source_arm(s->epoll, &s->src, 0);
	s->head = s->tail = 0;
}

void mc_sink_put(struct mc_sink *s, const char *data, size_t len)
{
	if (s->closed)
		return;
	if (s->head > 0 && s->room - s->tail < len) {
		memmove(s->buf, s->buf + s->head, s->tail - s->head);
		s->tail -= s->head;
		s->head = 0;
	}
	if (s->room - s->tail < len) {
		while (s->room - s->tail < len)
			s->room = s->room == 0 ? 16384 : s->room * 2;
		s->buf = mc_xgrow(s->buf, s->room, 1);
	}
	memcpy(s->buf + s->tail, data, len);
	s->tail += len;
}

static bool can_write(const struct mc_sink *s)
{
	struct pollfd p = {s->src.fd, POLLOUT, 0};

	return s->file || (poll(&p, 1, 0) > 0 && p.revents != 0);
}

void mc_sink_flush(struct mc_sink *s)
{
	for (int i = 0; i < ROUNDS && s->head < s->tail && can_write(s); i++) {
		size_t len = s->tail - s->head;
		ssize_t n = write(s->src.fd, s->buf + s->head, !s->file && len > CHUNK ? CHUNK : len);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			break;
		if (n < 0) { /* EPIPE, ENOSPC, EIO: the ranks are not to suffer */
			s->closed = true;
			s->head = s->tail = 0;
			break;
		}
		s->head += (size_t)n;
	}
	if (s->head == s->tail)
		s->head = s->tail = 0;
	/* a descriptor that cannot be waited for (a file) is always ready */
	if (!s->file && !mc_source_arm(s->epoll, &s->src, s->tail > 0 ? EPOLLOUT : 0))
		s->file = true;
}

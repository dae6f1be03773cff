/* SPDX-License-Identifier: BSD-3-Clause */
#include "loop.h"

#include <sys/epoll.h>

bool mc_source_arm(int epoll, struct mc_source *src, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = src};

	/* taken out rather than armed for nothing: a hang-up is reported even then, again and again */
	if (events == 0) {
		if (src->armed)
			(void)epoll_ctl(epoll, EPOLL_CTL_DEL, src->fd, &ev);
		src->armed = false;
		return true;
	}
	if (epoll_ctl(epoll, src->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, src->fd, &ev) != 0)
		return false;
	src->armed = true;
	return true;
}

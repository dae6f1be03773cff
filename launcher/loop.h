/* SPDX-License-Identifier: BSD-3-Clause */
/* loop.h - a descriptor that mcrun's one loop waits for, and what to do when it is ready. */
#ifndef MCRUN_LOOP_H
#define MCRUN_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct mc_source {
	int fd;
	bool armed; /* in the epoll set */
	void (*ready)(struct mc_source *src, uint32_t events);
};

/* Wait for events (EPOLLIN, EPOLLOUT); 0: do not wait. False: this kind of descriptor (a file) is always ready. */
bool mc_source_arm(int epoll, struct mc_source *src, uint32_t events);

#endif

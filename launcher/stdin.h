/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stdin.h - mcrun's stdin for rank 0. A file or pipe is handed over as it is. A terminal cannot be: rank 0 is not in
 * the terminal's foreground group and would be stopped on reading, so mcrun reads and passes on through a pipe.
 */
#ifndef MCRUN_STDIN_H
#define MCRUN_STDIN_H

#include "loop.h"

#include <stddef.h>

struct mc_stdin {
	struct mc_source in, out; /* terminal, pipe to rank 0 */
	int epoll;
	int rank_fd; /* what rank 0 gets */
	bool pumping;
	char buf[4096];
	size_t len;
};

int mc_stdin_open(struct mc_stdin *s, int epoll);
void mc_stdin_start(struct mc_stdin *s);  /* after the rank has got its end */
void mc_stdin_resume(struct mc_stdin *s); /* we may have come to the foreground */
void mc_stdin_close(struct mc_stdin *s);

#endif

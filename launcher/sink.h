/* SPDX-License-Identifier: BSD-3-Clause */
/* sink.h - a queue in front of stdout or stderr that never makes mcrun wait and never changes the descriptor's flags.
 */
#ifndef MCRUN_SINK_H
#define MCRUN_SINK_H

#include "loop.h"

#include <stddef.h>

struct mc_sink {
	struct mc_source src;
	int epoll;
	bool file;   /* a file: always ready */
	bool closed; /* its reader is gone: what comes is dropped */
	bool tty;
	bool drawn; /* on a terminal: the cursor stands behind a progress line that is not finished */
	char *buf;
	size_t head, tail, room;
};

#define MC_SINK_FULL (1u << 20) /* bytes queued from which on the ranks have to wait */

void mc_sink_open(struct mc_sink *s, int epoll, int fd);
void mc_sink_close(struct mc_sink *s);
void mc_sink_put(struct mc_sink *s, const char *data, size_t len);
void mc_sink_flush(struct mc_sink *s);
void mc_sink_drop(struct mc_sink *s);
static inline size_t mc_sink_len(const struct mc_sink *s)
{
	return s->tail - s->head;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* progress.h - the progress bar on stderr; draws nothing where nobody watches. */
#ifndef PERF_PROGRESS_H
#define PERF_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum perf_progress_mode { PERF_PROGRESS_AUTO, PERF_PROGRESS_ALWAYS, PERF_PROGRESS_NEVER };

struct perf_progress {
	uint64_t total;
	int64_t start_ns, drawn_ns;
	bool on;
	bool lines; /* nobody moves a cursor here: a line now and then */
};

/*
 * AUTO: a bar when stderr is a terminal, or a launcher that forwards stderr to one says so by MCRUN_TTY=1. ALWAYS:
 * without a terminal a line every half second.
 */
bool perf_progress_wanted(enum perf_progress_mode mode);
void perf_progress_start(struct perf_progress *p, bool on, uint64_t total);
/* At most ten times a second (lines: twice), except for the last one. */
void perf_progress_draw(struct perf_progress *p, uint64_t done, uint64_t bytes, bool last);

#endif

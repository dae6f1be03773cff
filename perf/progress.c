/* SPDX-License-Identifier: BSD-3-Clause */
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job.h"

enum { BAR_WIDTH = 30 };
#define REDRAW_NS INT64_C(100000000)
#define LINE_NS   INT64_C(500000000)

static bool terminal_watches(void)
{
	const char *tty = getenv("MCRUN_TTY"); /* the launcher's word about our stderr, which is a pipe to it */

	return isatty(STDERR_FILENO) || (tty != NULL && strcmp(tty, "1") == 0);
}

bool perf_progress_wanted(enum perf_progress_mode mode)
{
	return mode == PERF_PROGRESS_AUTO ? terminal_watches() : mode == PERF_PROGRESS_ALWAYS;
}

void perf_progress_start(struct perf_progress *p, bool on, uint64_t total)
{
	*p = (struct perf_progress){.on = on, .total = total, .start_ns = perf_now_ns(), .lines = !terminal_watches()};
}

void perf_progress_draw(struct perf_progress *p, uint64_t done, uint64_t bytes, bool last)
{
	int64_t now = perf_now_ns();
	char bar[BAR_WIDTH + 1];
	uint64_t full;
	double s;

	if (!p->on || (!last && now - p->drawn_ns < (p->lines ? LINE_NS : REDRAW_NS)))
		return;
	p->drawn_ns = now;
	s = (double)(now - p->start_ns) / 1e9;
	full = p->total == 0 ? 0 : done * BAR_WIDTH / p->total;
	for (uint64_t i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < full ? '#' : '.';
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "%s[%s] %" PRIu64 "/%" PRIu64 " requests  %.2f GB  %.2f GB/s  %.0f s ", p->lines ? "" : "\r",
		bar, done, p->total, (double)bytes / 1e9, s > 0 ? (double)bytes / 1e9 / s : 0.0, s);
	if (last || p->lines)
		fputc('\n', stderr);
	fflush(stderr);
}

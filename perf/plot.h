/* SPDX-License-Identifier: BSD-3-Clause */
/* plot.h - curves over block size or blocks per request as a PNG, drawn by gnuplot. */
#ifndef PERF_PLOT_H
#define PERF_PLOT_H

#include "perftext.h"

enum { PERF_PLOT_SERIES = 16, PERF_PLOT_POINTS = 256 };

struct perf_plot_series {
	const char *name;
	int panel;      /* 0 upper, 1 lower */
	bool reference; /* drawn dashed */
	uint32_t n;
	double x[PERF_PLOT_POINTS], y[PERF_PLOT_POINTS];
};

struct perf_plot {
	char note[160]; /* a second line: machine, time, load; no quotes and backslashes */
	char title[256];
	const char *x_label, *y_label[2];
	bool x_bytes; /* x is a size: label as 4K, 1M */
	bool y_log[2];
	uint32_t n;
	struct perf_plot_series s[PERF_PLOT_SERIES];
};

/* Is gnuplot there, and can the file be written? Asked before anything is measured. */
bool perf_plot_check(const char *path, struct perf_err *err);
bool perf_plot_write(const struct perf_plot *p, const char *path, struct perf_err *err);
/* Add a point; a series is made by its first one. y <= 0 is left out. */
void perf_plot_add(struct perf_plot *p, const char *name, int panel, bool reference, double x, double y);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
#include "plot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report.h"

static bool in_path(const char *program)
{
	const char *path = getenv("PATH");
	char file[4096];

	while (path != NULL && *path != '\0') {
		size_t n = strcspn(path, ":");
		snprintf(file, sizeof(file), "%.*s/%s", (int)n, path, program);
		if (access(file, X_OK) == 0)
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

bool perf_plot_check(const char *path, struct perf_err *err)
{
	size_t n = strlen(path);

	if (n < 5 || strcmp(path + n - 4, ".png") != 0)
		perf_err_set(err, "--plot %s: the picture is a PNG, name it FILE.png", path);
	else if (strpbrk(path, "'\n\\") != NULL)
		perf_err_set(err, "--plot %s: quotes and backslashes in the name do not go through gnuplot", path);
	else if (!in_path("gnuplot"))
		perf_err_set(err, "--plot: gnuplot is not installed: apt-get install gnuplot-nox (or your system's "
				  "package of gnuplot), or leave --plot out");
	else
		(void)perf_report_check_path(path, err);
	return !perf_err_is_set(err);
}

void perf_plot_add(struct perf_plot *p, const char *name, int panel, bool reference, double x, double y)
{
	struct perf_plot_series *s = NULL;

	if (!(y > 0) || !(x > 0))
		return;
	for (uint32_t i = 0; i < p->n && s == NULL; i++) {
		if (p->s[i].panel == panel && strcmp(p->s[i].name, name) == 0)
			s = &p->s[i];
	}
	if (s == NULL) {
		if (p->n == PERF_PLOT_SERIES)
			return;
		s = &p->s[p->n++];
		*s = (struct perf_plot_series){.name = name, .panel = panel, .reference = reference};
	}
	if (s->n < PERF_PLOT_POINTS) {
		s->x[s->n] = x;
		s->y[s->n++] = y;
	}
}

/* A label at each power of two that lies between the ends, at most a dozen. */
static void x_tics(FILE *f, const struct perf_plot *p)
{
	double min = 1e300, max = 0, v = 1;
	uint32_t step = 1;
	char buf[32];

	for (uint32_t i = 0; i < p->n; i++) {
		for (uint32_t k = 0; k < p->s[i].n; k++) {
			min = p->s[i].x[k] < min ? p->s[i].x[k] : min;
			max = p->s[i].x[k] > max ? p->s[i].x[k] : max;
		}
	}
	while (max / min > 1 && (double)(UINT64_C(1) << (12 * step)) < max / min)
		step++;
	fprintf(f, "set xrange [%g:%g]\nset xtics (", min / 1.3, max * 1.3);
	for (bool first = true; v <= max * 1.01; v *= (double)(1u << step)) {
		if (v < min * 0.99)
			continue;
		perf_format_size((uint64_t)v, buf, sizeof(buf));
		if (!p->x_bytes)
			snprintf(buf, sizeof(buf), "%.0f", v);
		else if (strstr(buf, ".0 ") != NULL) /* "64.0 KiB" is "64 KiB" */
			memmove(strstr(buf, ".0 "), strstr(buf, ".0 ") + 2, strlen(strstr(buf, ".0 ") + 2) + 1);
		fprintf(f, "%s'%s' %.0f", first ? "" : ", ", buf, v);
		first = false;
	}
	fprintf(f, ")\n");
}

/* Told apart by who does not see all colours, too; references are dashed besides. */
static const char *const colour_of[] = {"#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#000000", "#e69f00"};

static void panel(FILE *f, const struct perf_plot *p, int which)
{
	const uint32_t colours = sizeof(colour_of) / sizeof(colour_of[0]);
	uint32_t colour = 0;
	bool first = true;

	fprintf(f, "set ylabel '%s'\nset xlabel '%s'\n%s logscale y\n", p->y_label[which], p->x_label,
		p->y_log[which] ? "set" : "unset");
	fprintf(f, "set yrange [%s:*]\nplot ", p->y_log[which] ? "*" : "0");
	for (uint32_t i = 0; i < p->n; i++) {
		if (p->s[i].panel != which)
			continue;
		fprintf(f, "%s$S%u using 1:2 with linespoints title '%s' lw %d ps 0.9 pt %u dt %d lc rgb '%s'",
			first ? "" : ", ", i, p->s[i].name, p->s[i].reference ? 2 : 3,
			p->s[i].reference ? 4 + colour : 7, p->s[i].reference ? 2 : 1,
			colour_of[colour % colours]);
		colour++;
		first = false;
	}
	fprintf(f, "\n");
}

static void script(FILE *f, const struct perf_plot *p, const char *path)
{
	bool two = false;

	for (uint32_t i = 0; i < p->n; i++) {
		two |= p->s[i].panel == 1;
		fprintf(f, "$S%u << EOD\n", i);
		for (uint32_t k = 0; k < p->s[i].n; k++)
			fprintf(f, "%.17g %.17g\n", p->s[i].x[k], p->s[i].y[k]);
		fprintf(f, "EOD\n");
	}
	fprintf(f, "set terminal pngcairo size 1080,%d font 'sans,12' noenhanced background 'white'\nset output '%s'\n",
		two ? 880 : 500, path);
	fprintf(f, "set key outside right top vertical Left reverse\nset grid\nset logscale x 2\n");
	fprintf(f, "set lmargin 11\nset rmargin 36\n");
	fprintf(f, "set multiplot layout %d,1 title \"%s\\n%s\" font 'sans,12'\n", two ? 2 : 1, p->title, p->note);
	x_tics(f, p);
	panel(f, p, 0);
	if (two)
		panel(f, p, 1);
	fprintf(f, "unset multiplot\n");
}

bool perf_plot_write(const struct perf_plot *p, const char *path, struct perf_err *err)
{
	FILE *f;
	int status;

	if (p->n == 0) {
		perf_err_set(err, "--plot %s: nothing was measured", path);
		return false;
	}
	f = popen("gnuplot", "we");
	if (f == NULL) {
		perf_err_set(err, "--plot %s: cannot start gnuplot: %s", path, strerror(errno));
		return false;
	}
	script(f, p, path);
	status = pclose(f);
	if (status == 0)
		return true;
	perf_err_set(err, "--plot %s: gnuplot failed (status %d)", path, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	return false;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_plot.c - what is refused before a measurement, and a picture where gnuplot is installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plot.h"

static bool refused(const char *path, const char *says)
{
	struct perf_err err = {""};

	return !perf_plot_check(path, &err) && strstr(err.text, says) != NULL;
}

static void check__bad(void **state)
{
	char *path = strdup(getenv("PATH"));

	(void)state;
	assert_non_null(path);
	assert_true(refused("a.jpg", "FILE.png"));
	assert_true(refused(".png", "FILE.png"));
	assert_true(refused("it's.png", "quotes"));
	assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);
	assert_true(refused("a.png", "gnuplot is not installed"));
	assert_true(refused("a.png", "apt-get install"));
	assert_int_equal(setenv("PATH", path, 1), 0);
	free(path);
}

static void write__png(void **state)
{
	struct perf_plot *p = calloc(1, sizeof(*p));
	struct perf_err err = {""};
	char path[64];
	uint8_t head[8] = {0};
	FILE *f;

	(void)state;
	assert_non_null(p);
	snprintf(path, sizeof(path), "/tmp/test_plot.%d.png", (int)getpid());
	if (!perf_plot_check(path, &err)) {
		assert_non_null(strstr(err.text, "not installed"));
		free(p);
		skip();
	}
	assert_false(perf_plot_write(p, path, &err)); /* nothing in it */
	err.text[0] = '\0';
	snprintf(p->title, sizeof(p->title), "title");
	p->x_label = "x";
	p->y_label[0] = p->y_label[1] = "y";
	p->x_bytes = true;
	for (int i = 0; i < 300; i++) /* more than fit are left out */
		perf_plot_add(p, "a", 0, false, 4096 << (i % 10), i);
	perf_plot_add(p, "a", 0, false, 0, 1);
	perf_plot_add(p, "b", 1, true, 4096, 2);
	assert_int_equal(p->n, 2);
	assert_int_equal(p->s[0].n, PERF_PLOT_POINTS);
	if (!perf_plot_write(p, path, &err))
		fail_msg("%s", err.text);
	f = fopen(path, "rb");
	assert_non_null(f);
	assert_int_equal(fread(head, 1, sizeof(head), f), sizeof(head));
	assert_memory_equal(head + 1, "PNG", 3);
	fclose(f);
	unlink(path);
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(check__bad),
		cmocka_unit_test(write__png),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_header.c - the header names machine, version and each setting that is not the default. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "header.h"

static char *print(void)
{
	struct perf_header h;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	perf_header_collect(&h);
	perf_header_print(&h, f, "bw");
	fclose(f);
	assert_true(h.cores >= 1 && h.numa >= 1 && h.mem_mib > 0);
	assert_int_equal(strlen(h.when), strlen("2026-01-01T00:00:00Z"));
	return text;
}

static void header__settings(void **state)
{
	char *text = print();

	(void)state;
	assert_non_null(strstr(text, mc_version()));
	assert_non_null(strstr(text, "# settings: all default"));
	free(text);
	assert_int_equal(setenv("MC_SPIN", "7us", 1), 0);
	text = print();
	assert_non_null(strstr(text, "MC_SPIN="));
	assert_non_null(strstr(text, "environment"));
	free(text);
	for (const char *line = text = print(); line != NULL && *line != '\0'; line = strchr(line, '\n') + 1)
		assert_int_equal(line[0], '#');
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header__settings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

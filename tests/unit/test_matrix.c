/* SPDX-License-Identifier: BSD-3-Clause */
/* test_matrix.c - byte matrices as people write them, and what is wrong with those that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "matrix.h"

static void parse__sizes_commas_comments(void **state)
{
	char text[] = "# from 0\n0, 64K 7\n\n 1M 0 0 # from 1\r\n0\t12,0\n";
	struct perf_err err = {""};
	struct perf_matrix m;

	(void)state;
	assert_true(perf_matrix_parse(text, "m", 3, &m, &err));
	assert_int_equal(m.n, 3);
	assert_int_equal(m.bytes[1], 65536);
	assert_int_equal(m.bytes[2], 7);
	assert_int_equal(m.bytes[3], 1 << 20);
	assert_int_equal(m.bytes[7], 12);
	perf_matrix_free(&m);
	perf_matrix_free(NULL);
}

static void parse__refused(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"0 1\n", "has 1 rows"},
		{"0 1\n1 0\n0 0\n", "has 3 rows"},
		{"0 1 2\n1 0\n", "row 0 has 3"},
		{"0 x\n1 0\n", "\"x\" is not a size"},
		{"1 1\n1 0\n", "diagonal"},
		{"0 0\n0 0\n", "nobody sends"},
		{"0 2T\n0 0\n", "not a size"},
		{"0 -1\n0 0\n", "not a size"},
		{"", "has 0 rows"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct perf_err err = {""};
		struct perf_matrix m;
		char text[64];
		snprintf(text, sizeof(text), "%s", bad[i].text);
		assert_false(perf_matrix_parse(text, "m", 2, &m, &err));
		assert_non_null(strstr(err.text, bad[i].says));
	}
}

static void load__files(void **state)
{
	char path[] = "/tmp/test_matrix.XXXXXX";
	int fd = mkstemp(path);
	struct perf_err err = {""};
	struct perf_matrix m;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0 9\n0 0", 7), 7);
	assert_true(perf_matrix_load(path, 2, &m, &err));
	assert_int_equal(m.bytes[1], 9);
	perf_matrix_free(&m);
	assert_int_equal(write(fd, "\0", 1), 1);
	assert_false(perf_matrix_load(path, 2, &m, &err));
	assert_non_null(strstr(err.text, "not a text file"));
	close(fd);
	unlink(path);
	err.text[0] = '\0';
	assert_false(perf_matrix_load(path, 2, &m, &err));
	assert_non_null(strstr(err.text, path));
	err.text[0] = '\0';
	assert_false(perf_matrix_load(path, PERF_MATRIX_MAX + 1, &m, &err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse__sizes_commas_comments),
		cmocka_unit_test(parse__refused),
		cmocka_unit_test(load__files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

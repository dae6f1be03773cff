/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sweep_opts.c - options of mcperf bw and lat: what they mean, and that each bad one is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "sweep.h"

enum { ARGS = 16 };

static bool parse(const char *line, bool lat, struct sweep_opts *o, struct perf_err *err)
{
	static char text[512];
	char *argv[ARGS + 1] = {"bw"}, *save = NULL;
	int argc = 1;

	strncpy(text, line, sizeof(text) - 1);
	for (char *w = strtok_r(text, " ", &save); w != NULL && argc < ARGS; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	*err = (struct perf_err){""};
	return sweep_opts_parse(argc, argv, lat, o, err);
}

static void sizes__range(void **state)
{
	struct sweep_opts o;
	struct perf_err err;

	(void)state;
	assert_true(parse("-b 4K -e 64K -f 2", false, &o, &err));
	assert_int_equal(o.size_n, 5);
	assert_int_equal(o.size[0], 4096);
	assert_int_equal(o.size[4], 65536);
	assert_true(parse("", false, &o, &err));
	assert_int_equal(o.size_n, 6); /* 4K .. 4M by 4 */
	assert_int_equal(o.size[5], 4 << 20);
	assert_int_equal(o.batch_n, 1);
	assert_true(o.verify);
	assert_true(parse("-a", false, &o, &err));
	assert_int_equal(o.size_n, 20);
	assert_int_equal(o.size[0], 8);
	assert_int_equal(o.size[19], 4 << 20);
	assert_true(parse("-b 1 -e 64G", false, &o, &err)); /* no overflow at the end */
	assert_int_equal(o.size_n, 19);
}

static void lists(void **state)
{
	struct sweep_opts o;
	struct perf_err err;

	(void)state;
	assert_true(parse("-s 4K,100,1M --batch 1,250000 --op put+note --memory own --units Gb/s --post some", false,
			  &o,
			  &err));
	assert_int_equal(o.size_n, 3);
	assert_int_equal(o.size[1], 100);
	assert_int_equal(o.how, SWEEP_SOME);
	assert_int_equal(o.batch[1], 250000);
	assert_int_equal(o.op, SWEEP_PUT_NOTE);
	assert_int_equal(o.memory, SWEEP_OWN);
	assert_true(sweep_unit_scale(o.unit) == 8.0);
	assert_string_equal(sweep_unit_name(o.unit), "Gb/s");
	assert_true(parse("--duration 2 --iters 7 --runs 3 --threads 4 --window 9 --no-verify --reference", false, &o,
			  &err));
	assert_int_equal(o.iters, 7);
	assert_int_equal(o.duration_ns, 2000000000);
	assert_int_equal(o.window, 9);
	assert_false(o.verify);
	assert_true(o.reference);
	assert_true(parse("--help", true, &o, &err));
	assert_true(o.help);
}

static void bad__each_is_named(void **state)
{
	static const struct {
		const char *line, *says;
		bool lat;
	} bad[] = {
		{"-s 0", "\"0\"", false},
		{"-s 4K,,8K", "\"\"", false},
		{"-s 4Q", "\"4Q\"", false},
		{"-s 99999999999999999999999999999999999999999999", "--sizes", false},
		{"-b 8K -e 4K", "larger", false},
		{"-s 4K -b 4K", "exclude", false},
		{"-f 1", "-f 1", false},
		{"--batch 2000000", "--batch", false},
		{"--op push", "put, get, put+note", false},
		{"--pattern ring", "one-to-many", false},
		{"--pattern matrix", "--matrix", false},
		{"--matrix x --pattern pair", "exclude", false},
		{"--memory gpu", "pool, own", false},
		{"--units kB", "GB/s", false},
		{"--window 0", "--window 0", false},
		{"--threads 1000", "--threads", false},
		{"--duration soon", "--duration", false},
		{"--pool 1", "--pool", false},
		{"--runs 100", "--runs", false},
		{"--transport pigeon", "pigeon", false},
		{"--progress now", "now", false},
		{"--plot a.jpg", ".png", false},
		{"--json -  --csv -", "exclude", false},
		{"--json /nonexistent/x", "/nonexistent", false},
		{"--bogus", "--bogus", false},
		{"-z", "-z", false},
		{"--op", "needs a value", false},
		{"extra", "extra", false},
		{"--window 2", "mcperf bw", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct sweep_opts o;
		struct perf_err err;
		assert_false(parse(bad[i].line, bad[i].lat, &o, &err));
		if (strstr(err.text, bad[i].says) == NULL)
			fail_msg("%s: \"%s\" does not say %s", bad[i].line, err.text, bad[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes__range),
		cmocka_unit_test(lists),
		cmocka_unit_test(bad__each_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

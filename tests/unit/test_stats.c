/* SPDX-License-Identifier: BSD-3-Clause */
/* test_stats.c - percentiles by nearest rank, mean, maximum, union of spans; sizes and times as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "perftext.h"
#include "stats.h"

static void samples__none(void **state)
{
	struct perf_samples s = {0};

	(void)state;
	assert_int_equal(perf_samples_percentile(&s, 0.5), 0);
	assert_int_equal(perf_samples_max(&s), 0);
	assert_true(perf_samples_mean(&s) == 0.0);
	perf_samples_free(&s);
	perf_samples_free(NULL);
}

static void samples__nearest_rank(void **state)
{
	struct perf_samples s = {0};

	(void)state;
	for (uint64_t i = 1000; i > 0; i--)
		assert_true(perf_samples_add(&s, i));
	assert_int_equal(perf_samples_percentile(&s, 0.5), 500);
	assert_int_equal(perf_samples_percentile(&s, 0.99), 990);
	assert_int_equal(perf_samples_percentile(&s, 0.999), 999);
	assert_int_equal(perf_samples_percentile(&s, 1.0), 1000);
	assert_int_equal(perf_samples_percentile(&s, 0.0001), 1);
	assert_int_equal(perf_samples_max(&s), 1000);
	assert_true(perf_samples_mean(&s) == 500.5);
	/* added after sorting: sorted again */
	assert_true(perf_samples_add(&s, 0));
	assert_int_equal(perf_samples_percentile(&s, 0.0001), 0);
	perf_samples_free(&s);
}

static void samples__one_and_two(void **state)
{
	struct perf_samples s = {0};

	(void)state;
	assert_true(perf_samples_add(&s, UINT64_MAX));
	assert_int_equal(perf_samples_percentile(&s, 0.01), UINT64_MAX);
	assert_int_equal(perf_samples_percentile(&s, 0.99), UINT64_MAX);
	assert_true(perf_samples_add(&s, 3));
	assert_int_equal(perf_samples_percentile(&s, 0.5), 3);
	assert_int_equal(perf_samples_percentile(&s, 0.51), UINT64_MAX);
	perf_samples_free(&s);
}

static void spans__union(void **state)
{
	struct perf_spans s = {0};

	(void)state;
	assert_int_equal(perf_spans_total_ns(&s), 0);
	assert_true(perf_spans_add(&s, 100, 200));
	assert_int_equal(perf_spans_total_ns(&s), 100);
	assert_true(perf_spans_add(&s, 500, 600)); /* apart */
	assert_true(perf_spans_add(&s, 150, 250)); /* overlaps the first */
	assert_true(perf_spans_add(&s, 510, 520)); /* inside the second */
	assert_true(perf_spans_add(&s, 250, 260)); /* touches */
	assert_true(perf_spans_add(&s, 700, 700)); /* empty */
	assert_int_equal(perf_spans_total_ns(&s), 160 + 100);
	perf_spans_free(&s);
	perf_spans_free(NULL);
}

static void parse_size__forms(void **state)
{
	uint64_t v = 0;

	(void)state;
	assert_true(perf_parse_size("4096", &v) && v == 4096);
	assert_true(perf_parse_size("64M", &v) && v == UINT64_C(64) << 20);
	assert_true(perf_parse_size("2g", &v) && v == UINT64_C(2) << 30);
	assert_true(perf_parse_size("3KiB", &v) && v == 3072);
	assert_true(perf_parse_size("1T", &v) && v == UINT64_C(1) << 40);
	v = 77;
	assert_false(perf_parse_size("", &v));
	assert_false(perf_parse_size("-1", &v));
	assert_false(perf_parse_size("M", &v));
	assert_false(perf_parse_size("5X", &v));
	assert_false(perf_parse_size("5MM", &v));
	assert_false(perf_parse_size("99999999999T", &v));
	assert_false(perf_parse_size("99999999999999999999999", &v));
	assert_int_equal(v, 77);
}

static void parse_seconds__forms(void **state)
{
	int64_t v = 0;

	(void)state;
	assert_true(perf_parse_seconds("20", &v) && v == INT64_C(20000000000));
	assert_true(perf_parse_seconds("1.5", &v) && v == 1500000000);
	assert_true(perf_parse_seconds("500ms", &v) && v == 500000000);
	assert_true(perf_parse_seconds("2m", &v) && v == INT64_C(120000000000));
	assert_true(perf_parse_seconds("1h", &v) && v == INT64_C(3600000000000));
	assert_false(perf_parse_seconds("", &v));
	assert_false(perf_parse_seconds("0", &v));
	assert_false(perf_parse_seconds("-3", &v));
	assert_false(perf_parse_seconds("3 parsecs", &v));
	assert_false(perf_parse_seconds("1e99", &v));
	assert_false(perf_parse_seconds("nan", &v));
}

static void parse_u64__range(void **state)
{
	uint64_t v = 0;

	(void)state;
	assert_true(perf_parse_u64("7", 1, 9, &v) && v == 7);
	assert_false(perf_parse_u64("0", 1, 9, &v));
	assert_false(perf_parse_u64("10", 1, 9, &v));
	assert_false(perf_parse_u64("7x", 1, 9, &v));
	assert_false(perf_parse_u64(" 7", 1, 9, &v));
	assert_false(perf_parse_u64("", 0, 9, &v));
	assert_false(perf_parse_u64("18446744073709551616", 0, UINT64_MAX, &v));
}

static void err__the_first_stays(void **state)
{
	struct perf_err e = {""};
	char buf[32];

	(void)state;
	assert_false(perf_err_is_set(&e));
	perf_err_set(&e, "%s %d", "first", 1);
	perf_err_set(&e, "second");
	assert_string_equal(e.text, "first 1");
	assert_string_equal(perf_format_size(0, buf, sizeof(buf)), "0 B");
	assert_string_equal(perf_format_size(UINT64_C(3) << 29, buf, sizeof(buf)), "1.5 GiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samples__none),        cmocka_unit_test(samples__nearest_rank),
		cmocka_unit_test(samples__one_and_two), cmocka_unit_test(spans__union),
		cmocka_unit_test(parse_size__forms),    cmocka_unit_test(parse_seconds__forms),
		cmocka_unit_test(parse_u64__range),     cmocka_unit_test(err__the_first_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

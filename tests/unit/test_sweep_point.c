/* SPDX-License-Identifier: BSD-3-Clause */
/* test_sweep_point.c - best, least and median over runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sweep.h"

static void figure__of_runs(void **state)
{
	struct sweep_figure none = {.n = 0}, odd = {.v = {3, 1, 2}, .n = 3}, even = {.v = {4, 1, 3, 2}, .n = 4};

	(void)state;
	assert_true(sweep_best(&none) == 0 && sweep_least(&none) == 0 && sweep_median(&none) == 0);
	assert_true(sweep_best(&odd) == 3 && sweep_least(&odd) == 1 && sweep_median(&odd) == 2);
	assert_true(sweep_median(&even) == 2.5);
	assert_true(even.v[0] == 4); /* not sorted in place: the order of the runs stays */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(figure__of_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_status.c - status names, texts and groups; the version. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mc.h"

#define STATUS_ROW(name, num, text) {(name), (num), #name, (text)},

static const struct {
	mc_status_t status;
	int num;
	const char *name, *text;
} all[] = {MC_STATUS_MAP(STATUS_ROW)};

enum { ALL_N = sizeof(all) / sizeof(all[0]) };

static void status_name__unknown_number(void **state)
{
	(void)state;
	assert_string_equal(mc_status_name((mc_status_t)-1000), "?");
	assert_string_equal(mc_status_name((mc_status_t)2), "?");
	assert_string_equal(mc_status_text((mc_status_t)-29), "?");
	assert_string_equal(mc_status_text((mc_status_t)INT32_MIN), "?");
}

static void status_name__every_status(void **state)
{
	(void)state;
	for (int i = 0; i < ALL_N; i++) {
		assert_int_equal((int)all[i].status, all[i].num);
		assert_string_equal(mc_status_name(all[i].status), all[i].name);
		assert_string_equal(mc_status_text(all[i].status), all[i].text);
	}
	assert_string_equal(mc_status_name(MC_ERR_RANGE), "MC_ERR_RANGE");
	assert_string_equal(mc_status_text(MC_ERR_RANGE), "outside a memory region");
}

/* Callers tell what is lost by the number: errors are negative, in the three groups, and no number serves twice. */
static void status_map__numbers_in_their_groups(void **state)
{
	(void)state;
	for (int i = 0; i < ALL_N; i++) {
		assert_true(all[i].num == 0 || all[i].num == 1 || (all[i].num <= -1 && all[i].num >= -89));
		for (int j = 0; j < i; j++)
			assert_int_not_equal(all[i].num, all[j].num);
	}
	assert_int_equal(MC_OK, 0);
	assert_int_equal(MC_IN_PROGRESS, 1);
	assert_in_range(-MC_ERR_PEER_DOWN, 30, 59);
	assert_in_range(-MC_ERR_DEVICE, 60, 89);
}

static void version__agrees_with_header(void **state)
{
	char want[32];

	(void)state;
	snprintf(want, sizeof(want), "%d.%d.%d", MC_VERSION_MAJOR, MC_VERSION_MINOR, MC_VERSION_PATCH);
	assert_string_equal(mc_version(), want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_name__unknown_number),
		cmocka_unit_test(status_name__every_status),
		cmocka_unit_test(status_map__numbers_in_their_groups),
		cmocka_unit_test(version__agrees_with_header),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

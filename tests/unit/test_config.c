/* SPDX-License-Identifier: BSD-3-Clause */
/* test_config.c - the table, values of each kind, the environment, what a wrong name or value is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "util.h"

static const char *const names[] = {
#define NAME(kind, field, name, def, range, unit, text) name,
	MC_CONFIG_DEFS(NAME)
#undef NAME
};

static const char key64[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

static char err[512];

/* Without what the caller's shell has set. */
static int clean_env(void **state)
{
	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	unsetenv("MC_TRANSPRT");
	unsetenv("MC_");
	unsetenv("PMIX_NAMESPACE");
	err[0] = '\0';
	return 0;
}

static void assert_says(const char *part)
{
	if (strstr(err, part) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err, part);
}

/* Loading must fail, leave nothing, and say these parts. */
static void assert_load_fails(const char *part1, const char *part2)
{
	static const struct mc_config empty;
	struct mc_config cfg;

	memset(&cfg, 0x55, sizeof(cfg));
	assert_int_equal(mc_config_load(&cfg, err, sizeof(err)), MC_ERR_CONFIG);
	assert_says(part1);
	assert_says(part2);
	assert_null(cfg.role);
	assert_null(cfg.job_key);
	assert_int_equal(cfg.pack_size, empty.pack_size);
	mc_config_free(&cfg); /* harmless on an empty one */
}

static struct mc_config load(void)
{
	struct mc_config cfg;
	const mc_status_t s = mc_config_load(&cfg, err, sizeof(err));

	if (s != MC_OK)
		fail_msg("load: %s: %s", mc_status_name(s), err);
	return cfg;
}

/* ---- defaults and environment ---- */

static void load__defaults(void **state)
{
	struct mc_config c = load();

	(void)state;
	assert_int_equal(c.backend, MC_BACKEND_AUTO);
	assert_int_equal(c.transport, MC_TRANSPORT_AUTO);
	assert_int_equal(c.progress, MC_PROGRESS_THREAD);
	assert_int_equal(c.log, MC_LOG_WARN);
	assert_string_equal(c.role, "");
	assert_string_equal(c.job_key, "");
	assert_true(c.init_timeout == INT64_C(60000000000));
	assert_true(c.spin == 20000);
	assert_true(c.pack_size == 512 << 10);
	assert_true(c.pack_window == 4 << 20);
	assert_int_equal(c.note_queue, 65536);
	assert_int_equal(c.shm_cma, 1);
	mc_config_free(&c);
	assert_null(c.role);
}

static void load__environment(void **state)
{
	struct mc_config c;

	(void)state;
	setenv("MC_TRANSPORT", "tcp", 1);
	setenv("MC_ROLE", "prefill", 1);
	setenv("MC_SPIN", "0", 1);
	setenv("MC_PACK_SIZE", "1M", 1);
	setenv("MC_SHM_CMA", "off", 1);
	setenv("MC_JOB_KEY", key64, 1);
	setenv("MC_BACKEND", "verbs", 1);
	c = load();
	assert_int_equal(c.transport, MC_TRANSPORT_TCP);
	assert_int_equal(c.backend, MC_BACKEND_VERBS);
	assert_string_equal(c.role, "prefill");
	assert_true(c.spin == 0);
	assert_true(c.pack_size == 1 << 20);
	assert_int_equal(c.shm_cma, 0);
	assert_string_equal(c.job_key, key64);
	mc_config_free(&c);
}

static void load__unknown_variable(void **state)
{
	(void)state;
	setenv("MC_TRANSPRT", "tcp", 1);
	assert_load_fails("unknown setting MC_TRANSPRT; did you mean MC_TRANSPORT?", "");
	unsetenv("MC_TRANSPRT");
	setenv("MC_", "tcp", 1);
	assert_load_fails("unknown setting MC_; ", "MC_");
	unsetenv("MC_");
}

static void load__bad_value(void **state)
{
	(void)state;
	setenv("MC_TRANSPORT", "tpc", 1);
	assert_load_fails("MC_TRANSPORT=tpc: must be one of auto|shm|tcp|rdma", "did you mean tcp?");
	setenv("MC_TRANSPORT", "", 1);
	assert_load_fails("MC_TRANSPORT=: must be one of", "");
	setenv("MC_TRANSPORT", "TCP\n\033[2J", 1);
	assert_load_fails("MC_TRANSPORT=TCP\\x0a\\x1b[2J", "");
}

static void load__secret_not_shown(void **state)
{
	(void)state;
	setenv("MC_JOB_KEY", "hunter2", 1);
	assert_load_fails("MC_JOB_KEY: must be 64 hexadecimal digits", "7 characters");
	assert_null(strstr(err, "hunter2"));
}

static void load__error_text_cut(void **state)
{
	struct mc_config c;
	char small[9] = "xxxxxxxx";

	(void)state;
	setenv("MC_TRANSPORT", "tpc", 1);
	assert_int_equal(mc_config_load(&c, small, 5), MC_ERR_CONFIG);
	assert_string_equal(small, "MC_T");
	assert_string_equal(small + 5, "xxx");
	assert_int_equal(mc_config_load(&c, NULL, 0), MC_ERR_CONFIG);
}

/* ---- names ---- */

static void check__nearest_name(void **state)
{
	static const char *const pairs[][2] = {
		{"MC_TRANSPRT", "MC_TRANSPORT"},
		{"MC_TRANSPROT", "MC_TRANSPORT"},
		{"mc_transport", "MC_TRANSPORT"},
		{"MC_NOTEQUEUE", "MC_NOTE_QUEUE"},
		{"MC_LOGG", "MC_LOG"},
		{"MC_SHM_RNIG", "MC_SHM_RING"},
		{"MC_CONUTER_MAX", "MC_COUNTER_MAX"},
		{"MC_PACKSIZE", "MC_PACK_SIZE"},
		{"MC_JOBKEY", "MC_JOB_KEY"},
		{"MC_SPINN", "MC_SPIN"},
		{"MC_HOTS", "MC_HOST"},
		{"MC_INIT_TIMEOUTS", "MC_INIT_TIMEOUT"},
	};
	char want[64], longer[4000];

	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(pairs); i++) {
		assert_int_equal(mc_setting_check(pairs[i][0], NULL, err, sizeof(err)), MC_ERR_CONFIG);
		snprintf(want, sizeof(want), "did you mean %s?", pairs[i][1]);
		assert_says(want);
	}
	memset(longer, 'M', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(mc_setting_check(longer, NULL, err, sizeof(err)), MC_ERR_CONFIG);
	assert_says("...; the nearest one is MC_");
	assert_int_equal(mc_setting_check("", "x", err, sizeof(err)), MC_ERR_CONFIG);
	/* Three swaps are three edits, not six: near enough to ask. */
	assert_int_equal(mc_setting_check("CM_TARNSPROT", NULL, err, sizeof(err)), MC_ERR_CONFIG);
	assert_says("did you mean MC_TRANSPORT?");
	for (size_t i = 0; i < MC_ARRAY_LEN(names); i++)
		assert_int_equal(mc_setting_check(names[i], NULL, err, sizeof(err)), MC_OK);
}

/* ---- values ---- */

struct value_case {
	const char *name, *text;
	int64_t want; /* -1: refused */
};

static int64_t value_of(const struct mc_config *c, const char *name)
{
	if (strcmp(name, "MC_SPIN") == 0)
		return c->spin;
	if (strcmp(name, "MC_INIT_TIMEOUT") == 0)
		return c->init_timeout;
	if (strcmp(name, "MC_PACK_SIZE") == 0)
		return (int64_t)c->pack_size;
	if (strcmp(name, "MC_PACK_WINDOW") == 0)
		return (int64_t)c->pack_window;
	if (strcmp(name, "MC_SHM_RING") == 0)
		return (int64_t)c->shm_ring;
	if (strcmp(name, "MC_NOTE_QUEUE") == 0)
		return c->note_queue;
	if (strcmp(name, "MC_SHM_CMA") == 0)
		return c->shm_cma;
	fail_msg("no %s here", name);
	return 0;
}

static const struct value_case values[] = {
	{"MC_SPIN", "0", 0},
	{"MC_SPIN", "1", 1000000000},
	{"MC_SPIN", "1s", 1000000000},
	{"MC_SPIN", "1.5ms", 1500000},
	{"MC_SPIN", "0.000000001", 1},
	{"MC_SPIN", "0.0000000001", -1}, /* finer than a nanosecond */
	{"MC_SPIN", "999ns", 999},
	{"MC_SPIN", "20us", 20000},
	{"MC_SPIN", "1000000001ns", -1},
	{"MC_SPIN", "1.", -1},
	{"MC_SPIN", ".5", -1},
	{"MC_SPIN", "-1", -1},
	{"MC_SPIN", "+1", -1},
	{"MC_SPIN", " 1", -1},
	{"MC_SPIN", "1 s", -1},
	{"MC_SPIN", "1e-3", -1},
	{"MC_SPIN", "1x", -1},
	{"MC_SPIN", "", -1},
	{"MC_SPIN", "s", -1},
	{"MC_SPIN", "18446744074s", -1},           /* beyond 64 bits of ns by its unit */
	{"MC_SPIN", "18446744073709551617ns", -1}, /* and by its digits: 1 modulo 2^64 */
	{"MC_INIT_TIMEOUT", "1h", INT64_C(3600000000000)},
	{"MC_INIT_TIMEOUT", "60m", INT64_C(3600000000000)},
	{"MC_INIT_TIMEOUT", "0.5m", INT64_C(30000000000)},
	{"MC_INIT_TIMEOUT", "3601", -1},
	{"MC_INIT_TIMEOUT", "1ms", 1000000},
	{"MC_INIT_TIMEOUT", "999us", -1},
	{"MC_INIT_TIMEOUT", "0", -1},
	{"MC_PACK_SIZE", "4096", 4096},
	{"MC_PACK_SIZE", "4K", 4096},
	{"MC_PACK_SIZE", "8m", 8 << 20},
	{"MC_PACK_SIZE", "4095", -1},
	{"MC_PACK_SIZE", "8193K", -1},
	{"MC_PACK_SIZE", "1.5M", -1},
	{"MC_PACK_SIZE", "1KB", -1},
	{"MC_PACK_SIZE", "18446744073709551615", -1},
	{"MC_PACK_SIZE", "16777216T", -1}, /* 2^64: 0 if it wrapped */
	{"MC_PACK_SIZE", "16777217T", -1}, /* 1T if it wrapped */
	{"MC_PACK_WINDOW", "1G", 1 << 30},
	{"MC_PACK_WINDOW", "2G", -1},
	{"MC_SHM_RING", "64K", 65536},
	{"MC_SHM_RING", "96K", -1}, /* no power of two */
	{"MC_NOTE_QUEUE", "16", 16},
	{"MC_NOTE_QUEUE", "15", -1},
	{"MC_NOTE_QUEUE", "16777216", 16777216},
	{"MC_NOTE_QUEUE", "16777217", -1},
	{"MC_NOTE_QUEUE", "4294967312", -1}, /* 16 modulo 2^32 */
	{"MC_NOTE_QUEUE", "64K", -1},
	{"MC_SHM_CMA", "YES", 1},
	{"MC_SHM_CMA", "1", 1},
	{"MC_SHM_CMA", "on", 1},
	{"MC_SHM_CMA", "True", 1},
	{"MC_SHM_CMA", "no", 0},
	{"MC_SHM_CMA", "0", 0},
	{"MC_SHM_CMA", "off", 0},
	{"MC_SHM_CMA", "false", 0},
	{"MC_SHM_CMA", "2", -1},
	{"MC_SHM_CMA", "", -1},
};

static void set__values_of_each_kind(void **state)
{
	struct mc_config c = load();

	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(values); i++) {
		const struct value_case *v = &values[i];
		const int64_t before = value_of(&c, v->name);
		const mc_status_t want = v->want < 0 ? MC_ERR_CONFIG : MC_OK;

		err[0] = '\0';
		if (mc_config_set(&c, v->name, v->text, err, sizeof(err)) != want)
			fail_msg("%s=%s: %s", v->name, v->text, err);
		if (v->want < 0) {
			assert_says(v->name);
			assert_true(value_of(&c, v->name) == before);
		} else if (value_of(&c, v->name) != v->want) {
			fail_msg("%s=%s gives %lld", v->name, v->text, (long long)value_of(&c, v->name));
		}
		assert_int_equal(mc_setting_check(v->name, v->text, err, sizeof(err)), want);
	}
	assert_int_equal(mc_config_set(&c, "MC_TRANSPROT", "tcp", err, sizeof(err)), MC_ERR_CONFIG);
	assert_says("MC_TRANSPORT");
	mc_config_free(&c);
}

static void set__strings(void **state)
{
	struct mc_config c = load();
	char text[80];

	(void)state;
	memset(text, 'r', sizeof(text));
	text[MC_ROLE_MAX] = '\0';
	assert_int_equal(mc_config_set(&c, "MC_ROLE", text, err, sizeof(err)), MC_ERR_CONFIG);
	assert_says("MC_ROLE: has 32 bytes, at most 31");
	text[MC_ROLE_MAX - 1] = '\0';
	assert_int_equal(mc_config_set(&c, "MC_ROLE", text, err, sizeof(err)), MC_OK);
	assert_string_equal(c.role, text);
	assert_int_equal(mc_config_set(&c, "MC_ROLE", "decode", err, sizeof(err)), MC_OK);
	assert_int_equal(mc_config_set(&c, "MC_ROLE", "de\ncode", err, sizeof(err)), MC_ERR_CONFIG);
	assert_says("control character at byte 2");
	assert_string_equal(c.role, "decode");
	memset(text, 'h', sizeof(text));
	text[MC_NAME_MAX] = '\0';
	assert_int_equal(mc_config_set(&c, "MC_HOST", text, err, sizeof(err)), MC_ERR_CONFIG);
	mc_config_free(&c);
}

static void set__job_key(void **state)
{
	struct mc_config c = load();
	char bad[70];

	(void)state;
	snprintf(bad, sizeof(bad), "%s0", key64);
	assert_int_equal(mc_config_set(&c, "MC_JOB_KEY", bad, err, sizeof(err)), MC_ERR_CONFIG);
	bad[63] = '\0';
	assert_int_equal(mc_config_set(&c, "MC_JOB_KEY", bad, err, sizeof(err)), MC_ERR_CONFIG);
	snprintf(bad, sizeof(bad), "%s", key64);
	bad[10] = 'g';
	assert_int_equal(mc_config_set(&c, "MC_JOB_KEY", bad, err, sizeof(err)), MC_ERR_CONFIG);
	assert_null(strstr(err, bad));
	assert_int_equal(mc_config_set(&c, "MC_JOB_KEY", key64, err, sizeof(err)), MC_OK);
	assert_int_equal(mc_config_set(&c, "MC_JOB_KEY", "", err, sizeof(err)), MC_OK);
	assert_string_equal(c.job_key, "");
	mc_config_free(&c);
}

/* ---- listing ---- */

static void setting_get__past_the_end(void **state)
{
	struct mc_setting s = {.name = "kept"};
	char buf[8];

	(void)state;
	assert_int_equal(mc_setting_get(MC_ARRAY_LEN(names), &s, buf, sizeof(buf)), MC_ERR_NOENT);
	assert_int_equal(mc_setting_get(UINT32_MAX, &s, buf, sizeof(buf)), MC_ERR_NOENT);
	assert_string_equal(s.name, "kept");
}

static void setting_get__bad_value_is_shown_raw(void **state)
{
	struct mc_setting s;
	char buf[64];

	(void)state;
	setenv("MC_TRANSPORT", "carrier pigeon", 1);
	assert_int_equal(mc_setting_get(1, &s, buf, sizeof(buf)), MC_ERR_CONFIG);
	assert_string_equal(s.name, "MC_TRANSPORT");
	assert_string_equal(s.value, "carrier pigeon");
	assert_string_equal(s.source, "environment");
	assert_string_equal(s.def, "auto");
}

static void setting_get__secret(void **state)
{
	struct mc_setting s = {0};
	char buf[128];

	(void)state;
	for (int bad = 0; bad < 2; bad++) {
		setenv("MC_JOB_KEY", bad ? "short secret" : key64, 1);
		for (uint32_t i = 0; i < MC_ARRAY_LEN(names); i++)
			if (strcmp(names[i], "MC_JOB_KEY") == 0)
				assert_int_equal(mc_setting_get(i, &s, buf, sizeof(buf)), bad ? MC_ERR_CONFIG : MC_OK);
		assert_string_equal(s.value, "(set)");
		assert_string_equal(s.type, "string");
	}
}

static void setting_get__all(void **state)
{
	struct mc_setting s;
	char buf[64];

	(void)state;
	for (uint32_t i = 0; i < MC_ARRAY_LEN(names); i++) {
		assert_int_equal(mc_setting_get(i, &s, buf, sizeof(buf)), MC_OK);
		assert_string_equal(s.name, names[i]);
		assert_string_equal(s.value, s.def);
		assert_string_equal(s.source, "default");
		assert_true(strlen(s.text) > 10);
		/* The default itself must pass its own check. */
		assert_int_equal(mc_setting_check(s.name, s.def, err, sizeof(err)), MC_OK);
	}
	assert_int_equal(mc_setting_get(0, &s, NULL, 0), MC_OK);
	assert_string_equal(s.value, "");
	assert_int_equal(mc_setting_get(0, &s, buf, 3), MC_OK);
	assert_string_equal(s.value, "au");
}

static void launched__by_pmix(void **state)
{
	(void)state;
	assert_false(mc_config_launched());
	setenv("PMIX_NAMESPACE", "x", 1);
	assert_true(mc_config_launched());
}

#define CONFIG_TEST(f) cmocka_unit_test_setup_teardown(f, clean_env, clean_env)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFIG_TEST(load__defaults),
		CONFIG_TEST(load__environment),
		CONFIG_TEST(load__unknown_variable),
		CONFIG_TEST(load__bad_value),
		CONFIG_TEST(load__secret_not_shown),
		CONFIG_TEST(load__error_text_cut),
		CONFIG_TEST(check__nearest_name),
		CONFIG_TEST(set__values_of_each_kind),
		CONFIG_TEST(set__strings),
		CONFIG_TEST(set__job_key),
		CONFIG_TEST(setting_get__past_the_end),
		CONFIG_TEST(setting_get__bad_value_is_shown_raw),
		CONFIG_TEST(setting_get__secret),
		CONFIG_TEST(setting_get__all),
		CONFIG_TEST(launched__by_pmix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

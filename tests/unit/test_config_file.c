/* SPDX-License-Identifier: BSD-3-Clause */
/* test_config_file.c - the JSON file of settings: how it can be wrong, its place among the sources, its listing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "util.h"

static const char *const names[] = {
#define NAME(kind, field, name, def, range, unit, text) name,
	MC_CONFIG_DEFS(NAME)
#undef NAME
};

static char err[512];
static char file[64];

/* Without what the caller's shell has set, and without the file of the test before. */
static int clean(void **state)
{
	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	if (file[0] != '\0')
		unlink(file);
	file[0] = '\0';
	err[0] = '\0';
	return 0;
}

static void use_file_n(const char *text, size_t len)
{
	const char *dir = getenv("TMPDIR");
	int fd;

	if (file[0] != '\0')
		unlink(file);
	snprintf(file, sizeof(file), "%s/mc-config-XXXXXX", dir != NULL && strlen(dir) < 40 ? dir : "/tmp");
	fd = mkstemp(file);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	close(fd);
	setenv("MC_CONFIG", file, 1);
}

static void use_file(const char *text)
{
	use_file_n(text, strlen(text));
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

#ifdef MC_HAVE_JSON
static struct mc_config load(void)
{
	struct mc_config cfg;
	const mc_status_t s = mc_config_load(&cfg, err, sizeof(err));

	if (s != MC_OK)
		fail_msg("load: %s: %s", mc_status_name(s), err);
	return cfg;
}

static void file__every_fault(void **state)
{
	static const char *const cases[][3] = {
		{"", "JSON ends too early", "line 1"},
		{"  \n\n", "JSON ends too early", "line 3"},
		{"{\"MC_SPIN\": 1", "JSON ends too early", ""},
		{"{\n\"MC_SPIN\": 1,\n}", "line 3", "bad JSON"},
		{"{\"MC_SPIN\": 1} x", "bad JSON", "at byte"},
		{"[1]", "must be a JSON object", ""},
		{"null", "must be a JSON object", ""},
		{"{\"MC_SPIN\": null}", "MC_SPIN must be a string, a number, true or false, not null", "line 1"},
		{"{\"MC_SPIN\": [1]}", "not array", "MC_SPIN"},
		{"{\"MC_SPIN\": {\"a\": {\"b\": {\"c\": {}}}}}", "bad JSON", "nest"},
		{"{\n\n  \"MC_TRANSPRT\": \"tcp\"}", "line 3: unknown setting MC_TRANSPRT; did you mean MC_TRANSPORT?",
		 ""},
		{"{\n \"MC_TRANSPORT\": \"tcq\"}", "line 2: MC_TRANSPORT=tcq: must be one of", "did you mean tcp?"},
		{"{\"MC_CONFIG\": \"other\"}", "cannot name another", "MC_CONFIG"},
		{"{\"MC_ROLE\": \"a\\u0000b\"}", "MC_ROLE holds a NUL", ""},
		{"{\"MC_ROLE\": \"\xff\"}", "bad JSON", "utf-8"},
		{"{\"MC_NOTE_QUEUE\": -16}", "MC_NOTE_QUEUE=-16", ""},
		{"{\"MC_NOTE_QUEUE\": 99999999999999999999999}", "MC_NOTE_QUEUE", ""},
		{"{\"MC_JOB_KEY\": \"swordfish\"}", "line 1: MC_JOB_KEY: must be 64", ""},
	};

	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(cases); i++) {
		use_file(cases[i][0]);
		assert_load_fails(cases[i][1], cases[i][2]);
		assert_says(file);
		assert_null(strstr(err, "swordfish"));
		assert_int_equal(mc_setting_check_env(err, sizeof(err)), MC_ERR_CONFIG);
	}
	use_file_n("{}\0{}", 5);
	assert_load_fails("NUL", file);
}

static void file__cannot_be_read(void **state)
{
	static char big[(1 << 20) + 1];
	struct mc_config c;

	(void)state;
	setenv("MC_CONFIG", "/nonexistent/mc.json", 1);
	assert_load_fails("cannot open /nonexistent/mc.json: No such file", "MC_CONFIG");
	setenv("MC_CONFIG", "/", 1);
	assert_load_fails("is not a regular file", "MC_CONFIG");
	setenv("MC_CONFIG", "/dev/zero", 1);
	assert_load_fails("is not a regular file", "MC_CONFIG");
	use_file("");
	unlink(file);
	assert_int_equal(mkfifo(file, 0600), 0); /* nobody writes: opening must not wait */
	assert_load_fails("is not a regular file", "MC_CONFIG");
	memset(big, ' ', sizeof(big));
	big[0] = '{';
	big[sizeof(big) - 2] = '}';
	use_file_n(big, sizeof(big));
	assert_load_fails("larger than 1 MiB", file);
	use_file_n(big, sizeof(big) - 1);
	c = load();
	mc_config_free(&c);
}

static void file__every_type_and_precedence(void **state)
{
	struct mc_config c;

	(void)state;
	use_file("{\"MC_TRANSPORT\": \"tcp\", \"MC_NOTE_QUEUE\": 100, \"MC_SPIN\": 0.001, \"MC_SHM_CMA\": false,\n"
		 "\"MC_PACK_SIZE\": 8192, \"MC_PACK_WINDOW\": \"1M\", \"MC_ROLE\": \"prefill\"}");
	setenv("MC_ROLE", "decode", 1);
	setenv("MC_NOTE_QUEUE", "200", 1);
	c = load();
	assert_int_equal(c.transport, MC_TRANSPORT_TCP);
	assert_int_equal(c.note_queue, 200);
	assert_true(c.spin == 1000000);
	assert_int_equal(c.shm_cma, 0);
	assert_true(c.pack_size == 8192);
	assert_true(c.pack_window == 1 << 20);
	assert_string_equal(c.role, "decode");
	assert_string_equal(c.config_file, file);
	mc_config_free(&c);
	assert_int_equal(mc_setting_check_env(err, sizeof(err)), MC_OK);
}

static void setting_get__from_file(void **state)
{
	char buf[256], want[100];
	struct mc_setting s;
	uint32_t seen = 0, spin_at = 0;

	(void)state;
	use_file("{\"MC_SPIN\": 0.25, \"MC_ROLE\": \"prefill\"}");
	setenv("MC_ROLE", "decode", 1);
	snprintf(want, sizeof(want), "file %s", file);
	for (uint32_t i = 0; mc_setting_get(i, &s, buf, sizeof(buf)) == MC_OK; i++) {
		if (strcmp(s.name, "MC_SPIN") == 0) {
			assert_string_equal(s.value, "0.25");
			assert_string_equal(s.source, want);
			spin_at = i;
			seen++;
		} else if (strcmp(s.name, "MC_ROLE") == 0 || strcmp(s.name, "MC_CONFIG") == 0) {
			assert_string_equal(s.source, "environment");
			seen++;
		} else {
			assert_string_equal(s.source, "default");
		}
	}
	assert_int_equal(seen, 3);
	assert_int_equal(mc_setting_get(spin_at, &s, buf, 5), MC_OK); /* no room for the source */
	assert_string_equal(s.name, "MC_SPIN");
	assert_string_equal(s.value, "0.25");
	assert_string_equal(s.source, "file");
}

static void setting_get__bad_file(void **state)
{
	char buf[256];
	struct mc_setting s;

	(void)state;
	use_file("{");
	for (uint32_t i = 0; i < MC_ARRAY_LEN(names); i++) {
		const bool is_config = strcmp(names[i], "MC_CONFIG") == 0;

		assert_int_equal(mc_setting_get(i, &s, buf, sizeof(buf)), is_config ? MC_ERR_CONFIG : MC_OK);
	}
}
#else
static void file__built_without_json(void **state)
{
	(void)state;
	use_file("{}");
	assert_load_fails("built without json-c", "MC_CONFIG");
}
#endif

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, clean, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifdef MC_HAVE_JSON
		FILE_TEST(file__every_fault),
		FILE_TEST(file__cannot_be_read),
		FILE_TEST(file__every_type_and_precedence),
		FILE_TEST(setting_get__from_file),
		FILE_TEST(setting_get__bad_file),
#else
		FILE_TEST(file__built_without_json),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

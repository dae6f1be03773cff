/* SPDX-License-Identifier: BSD-3-Clause */
/* test_place.c - --bind numa: ranks on nodes near what they need, on machines from files; and files that are no
 * machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XML "/tests/topo/"

static void next__near_first_then_farther(void **state)
{
	static const uint32_t grade[] = {3, 0, 3, 2}, room[] = {2, 8, 2, 1}, none[] = {0, 0, 0, 0};
	static const uint32_t want[] = {0, 2, 0, 2, 3, 1, 1, 1, 1, 1, 1, 1, 1, /* all are full: */ 3, 0};
	uint32_t used[4] = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		assert_int_equal(mc_place_next(grade, room, used, 4), want[i]);
	assert_int_equal(mc_place_next(grade, none, used, 4), UINT32_MAX);
	assert_int_equal(mc_place_next(grade, room, used, 0), UINT32_MAX);
}

/* Nobody knows what is near: in turn, as without NICs; a node without CPUs is left out. */
static void next__in_turn(void **state)
{
	static const uint32_t grade[] = {1, 1, 1}, room[] = {4, 0, 4};
	uint32_t used[3] = {0};

	(void)state;
	for (uint32_t i = 0; i < 16; i++)
		assert_int_equal(mc_place_next(grade, room, used, 3), i % 2 == 0 ? 0 : 2);
}

struct job {
	struct mc_job job;
	struct mc_strv env[2];
	struct mc_bind bind;
	struct mc_err err;
};

/* Roles of n0 and n1 ranks; setting: NAME=VALUE for the second, or NULL. */
static void job_open(struct job *j, const char *xml, uint32_t n0, uint32_t n1, const char *setting)
{
	const char *src = getenv("TEST_SRC");
	char path[1024];

	memset(j, 0, sizeof(*j));
	snprintf(path, sizeof(path), "HWLOC_XMLFILE=%s%s%s", src, XML, xml);
	mc_job_init(&j->job);
	j->job.role = mc_xalloc(2, sizeof(*j->job.role));
	j->job.role_n = 2;
	j->job.role[0].n = n0;
	j->job.role[1].n = n1;
	j->job.rank_n = n0 + n1;
	j->job.bind = MC_BIND_NUMA;
	j->job.dry_run = true;
	mc_strv_set_pair(&j->env[0], path);
	mc_strv_set_pair(&j->env[1], path);
	if (setting != NULL)
		mc_strv_set_pair(&j->env[1], setting);
}

static void job_close(struct job *j)
{
	mc_bind_close(&j->bind);
	mc_strv_free(&j->env[0]);
	mc_strv_free(&j->env[1]);
	free(j->job.role);
}

static void expect(struct job *j, const char *const *want, uint32_t n)
{
	if (mc_place_open(&j->bind, &j->job, j->env, &j->err) != 0)
		fail_msg("%s", j->err.text);
	for (uint32_t r = 0; r < n; r++) {
		char text[256];
		mc_bind_text(&j->bind, r, text, sizeof(text));
		assert_string_equal(text, want[r]);
	}
}

static void open__two_sockets(void **state)
{
	static const char *const want[] = {
		"node 0 (cpus 0-1) near mlx5_0:1", "node 1 (cpus 2-3) near mlx5_2:1", "node 0 (cpus 0-1) near mlx5_0:1",
		"node 1 (cpus 2-3) near mlx5_3:1", "node 0 (cpus 0-1) near mlx5_0:1",
	};
	struct job j;
	char share[32];

	(void)state;
	job_open(&j, "two_sockets.xml", 3, 2, NULL);
	expect(&j, want, 5);
	assert_true(mc_bind_share(&j.bind, 3, share, sizeof(share)));
	assert_string_equal(share, "1/2");
	assert_true(mc_bind_share(&j.bind, 4, share, sizeof(share)));
	assert_string_equal(share, "2/3");
	assert_false(mc_bind_share(&j.bind, 5, share, sizeof(share)));
	job_close(&j);
}

/* What a role's settings say goes before the nearest NIC; nodes fill up. */
static void open__settings_of_a_role(void **state)
{
	static const char *const only[] = {"node 0 (cpus 0-1) near mlx5_0:1", "node 1 (cpus 2-3) near mlx5_2:1",
					   "node 1 (cpus 2-3) near mlx5_2:1", "node 0 (cpus 0-1) near mlx5_2:1"};
	static const char *const gpu[] = {"node 0 (cpus 0-1) near mlx5_0:1", "node 0 (cpus 0-1) near mlx5_0:1"};
	struct job j;

	(void)state;
	job_open(&j, "two_sockets.xml", 1, 3, "MC_DEVICE=mlx5_2");
	expect(&j, only, 4);
	job_close(&j);
	job_open(&j, "two_sockets.xml", 1, 1, "MC_NEAR=cuda1");
	expect(&j, gpu, 2);
	job_close(&j);
	job_open(&j, "two_sockets.xml", 1, 1, "MC_DEVICE=mlx5_77");
	assert_int_equal(mc_place_open(&j.bind, &j.job, j.env, &j.err), -1);
	assert_non_null(strstr(j.err.text, "MC_DEVICE: there is no NIC mlx5_77; known: mlx5_0:1"));
	job_close(&j);
	job_open(&j, "two_sockets.xml", 1, 1, "MC_NEAR=cuda77");
	assert_int_equal(mc_place_open(&j.bind, &j.job, j.env, &j.err), -1);
	assert_non_null(strstr(j.err.text, "MC_NEAR: there is no memory cuda77; known: numa0"));
	job_close(&j);
}

static void open__not_this_machine(void **state)
{
	struct job j;

	(void)state;
	if (sysconf(_SC_NPROCESSORS_CONF) == 4)
		skip(); /* the file has as many */
	job_open(&j, "two_sockets.xml", 1, 1, NULL);
	j.job.dry_run = false;
	assert_int_equal(mc_place_open(&j.bind, &j.job, j.env, &j.err), -1);
	assert_non_null(strstr(j.err.text, "a machine with 4 CPUs"));
	assert_non_null(strstr(j.err.text, "--dry-run"));
	j.job.bind = MC_BIND_NONE;
	assert_int_equal(mc_place_open(&j.bind, &j.job, j.env, &j.err), 0);
	assert_null(mc_bind_place(&j.bind, 0));
	job_close(&j);
}

static void xml__sound_and_damaged(void **state)
{
	static const char *const bad[] = {
		"",
		"<topology",
		"<?xml version=\"1.0\"?><topology version=\"2.0\"></topology>",
		"\xff\xfe\x00garbage",
		"<topology version=\"2.0\"><object type=\"Machine\" os_index=\"0\"/></topology>",
	};
	char path[] = "/tmp/test_place.XXXXXX";
	int fd = mkstemp(path);
	struct job j;

	(void)state;
	assert_true(fd >= 0);
	job_open(&j, "two_sockets.xml", 1, 1, NULL);
	assert_int_equal(mc_place_check_xml(&j.job, j.env, &j.err), 0);
	assert_non_null(mc_strv_get(&j.env[0], "MC_HWLOC_CHECKED"));
	assert_string_equal(mc_strv_get(&j.env[1], "MC_HWLOC_CHECKED"), mc_strv_get(&j.env[0], "MC_HWLOC_CHECKED"));
	job_close(&j);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, bad[i], strlen(bad[i]), 0), strlen(bad[i]));
		job_open(&j, "two_sockets.xml", 1, 1, NULL);
		mc_strv_set(&j.env[1], "HWLOC_XMLFILE", path);
		assert_int_equal(mc_place_check_xml(&j.job, j.env, &j.err), -1);
		assert_non_null(strstr(j.err.text, path));
		job_close(&j);
	}
	close(fd);
	unlink(path);
	job_open(&j, "nosuch.xml", 1, 1, NULL);
	assert_int_equal(mc_place_check_xml(&j.job, j.env, &j.err), -1);
	assert_non_null(strstr(j.err.text, "not a file that can be read"));
	mc_strv_set(&j.env[0], "HWLOC_XMLFILE", "/tmp"); /* a directory */
	assert_int_equal(mc_place_check_xml(&j.job, j.env, &j.err), -1);
	mc_strv_set(&j.env[0], "HWLOC_XMLFILE", ""); /* none */
	mc_strv_set(&j.env[1], "HWLOC_XMLFILE", "");
	assert_int_equal(mc_place_check_xml(&j.job, j.env, &j.err), 0);
	assert_null(mc_strv_get(&j.env[0], "MC_HWLOC_CHECKED"));
	job_close(&j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(next__near_first_then_farther),
		cmocka_unit_test(next__in_turn),
		cmocka_unit_test(open__two_sockets),
		cmocka_unit_test(open__settings_of_a_role),
		cmocka_unit_test(open__not_this_machine),
		cmocka_unit_test(xml__sound_and_damaged),
	};
	const char *with = getenv("TEST_WITH");

	if (with != NULL && strstr(with, "hwloc") == NULL) {
		puts("skip: built without hwloc, which reads the machines");
		return 77;
	}
	setenv("HWLOC_PLUGINS_PATH", "/nonexistent", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

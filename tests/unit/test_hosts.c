/* SPDX-License-Identifier: BSD-3-Clause */
/* test_hosts.c - lists of hosts in all three notations, and which rank goes where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hosts.h"

/* "a:2 b:0" */
static void expect_list(const struct mc_hosts *h, const char *want)
{
	char got[4096] = "";

	for (uint32_t i = 0; i < h->n; i++) {
		size_t at = strlen(got);
		(void)snprintf(got + at, sizeof(got) - at, "%s%s/%u", i == 0 ? "" : " ", h->host[i].name,
			       h->host[i].slots);
	}
	assert_string_equal(got, want);
}

static void good(const char *list, const char *want)
{
	struct mc_hosts h = {0};
	struct mc_err err = {""};

	if (mc_hosts_parse(&h, list, &err) != 0)
		fail_msg("%s: %s", list, err.text);
	expect_list(&h, want);
	mc_hosts_free(&h);
}

static void bad(const char *list, const char *why)
{
	struct mc_hosts h = {0};
	struct mc_err err = {""};

	if (mc_hosts_parse(&h, list, &err) == 0)
		fail_msg("accepted: %s", list);
	if (strstr(err.text, why) == NULL)
		fail_msg("%s: \"%s\" lacks \"%s\"", list, err.text, why);
	mc_hosts_free(&h);
}

static void parse__lists(void **state)
{
	(void)state;
	good("a", "a/0");
	good("a:4,b:4", "a/4 b/4");
	good("a:1,b:2,a:3", "a/4 b/2");
	good("10.0.0.1:2,[fe80::1%eth0]:3,[::1]", "10.0.0.1/2 fe80::1%eth0/3 ::1/0");
	bad("", "cannot be the name");
	bad("a,,b", "cannot be the name");
	bad("-x:2", "cannot be the name");
	bad("a b", "cannot be the name");
	bad("a;reboot", "cannot be the name");
	bad("a:0", "NAME:SLOTS");
	bad("a:", "NAME:SLOTS");
	bad("a:two", "NAME:SLOTS");
	bad("a:70000", "NAME:SLOTS");
	bad("[::1:2", "closing bracket");
	bad("a:65536,a:1", "more than 65536 slots");
}

static void parse_file__lines(void **state)
{
	static const char text[] = "# a cluster\n a slots=4 \r\n\nb:2\t# two\nc\n";
	struct mc_hosts h = {0};
	struct mc_err err = {""};

	(void)state;
	assert_int_equal(mc_hosts_parse_file(&h, text, sizeof(text) - 1, "f", &err), 0);
	expect_list(&h, "a/4 b/2 c/0");
	mc_hosts_free(&h);
	assert_int_equal(mc_hosts_parse_file(&h, "a\nb slot=2\n", 11, "f", &err), -1);
	assert_non_null(strstr(err.text, "f: line 2: \"slot=2\" after a host must be slots=N"));
	mc_hosts_free(&h);
	assert_int_equal(mc_hosts_parse_file(&h, "# none\n", 7, "f", &err), -1);
	assert_non_null(strstr(err.text, "names no host"));
	assert_int_equal(mc_hosts_load(&h, "/nowhere/f", &err), -1);
	mc_hosts_free(&h);
}

static void slurm(const char *nodes, const char *tasks, const char *want)
{
	struct mc_hosts h = {0};
	struct mc_err err = {""};

	if (mc_hosts_parse_slurm(&h, nodes, tasks, &err) == 0)
		expect_list(&h, want);
	else
		assert_string_equal(want, "");
	mc_hosts_free(&h);
}

static void parse_slurm__notation(void **state)
{
	(void)state;
	slurm("n1", NULL, "n1/0");
	slurm("n[1-3,07],gpu-1", NULL, "n1/0 n2/0 n3/0 n07/0 gpu-1/0");
	slurm("n[09-11]", "2(x2),1", "n09/2 n10/2 n11/1");
	slurm("r[1-2]n[1-2]x", NULL, "r1n1x/0 r1n2x/0 r2n1x/0 r2n2x/0");
	slurm("", NULL, "");
	slurm("n[", NULL, "");
	slurm("n[]", NULL, "");
	slurm("n[3-1]", NULL, "");
	slurm("n[1-99999999]", NULL, "");
	slurm("n[1;2]", NULL, "");
	slurm("n[1-2]", "x", "");
	slurm("n[1-2]", "2(x", "");
	slurm("n[1-2]", "-1", "");
}

/* Where do 2 prefill and 4 decode ranks go? "" for refused. */
static void place(const char *list, const char *map, const char *want)
{
	struct mc_hosts h = {0};
	struct mc_err err = {""};
	struct mc_job job;
	char got[64] = "";

	mc_job_init(&job);
	(void)mc_job_role_add(&job, "prefill", 2);
	(void)mc_job_role_add(&job, "decode", 4);
	job.rank_n = 6;
	assert_int_equal(mc_hosts_parse(&h, list, &err), 0);
	if (*map != '\0')
		assert_int_equal(mc_job_add_map(&job, map, &err), 0);
	if (mc_hosts_place(&h, &job, &err) == 0)
		for (uint32_t r = 0; r < 6; r++)
			(void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s", h.host[h.of_rank[r]].name);
	if (strcmp(got, want) != 0)
		fail_msg("%s, %s: %s, expected %s (%s)", list, map, got, want, err.text);
	mc_hosts_free(&h);
	mc_job_free(&job);
}

static void place__ranks(void **state)
{
	(void)state;
	place("a:2,b:2,c:2", "", "aabbcc");
	place("a:6,b:2", "", "aaaaaa");
	place("a:1,b:5", "", "abbbbb");
	place("a,b,c", "", "aabbcc");
	place("a,b,c,d", "", "aabbcd");
	place("a,b,c", "prefill=c", "ccaabb");
	place("a,b,c", "decode=a,decode=b:3", "ccabbb");
	place("a,b,c", "prefill=c,decode=c", "cccccc");
	place("a,b,c", "prefill=b:1,prefill=c:1", "bcaaaa");
	place("a:2,b:2,c:2", "prefill=b,decode=a:2,decode=c:2", "bbaacc");
	place("a", "prefill=a", "aaaaaa");
	/* named hosts are used for others only when there is no other */
	place("a:2,b:4", "prefill=b", "");
	place("a:4,b:2", "prefill=b", "bbaaaa");
	place("a:2,b:2", "", "");
	place("a:2,b", "", "");
	place("a,b", "prefill=c", "");
	place("a,b", "nobody=a", "");
	place("a,b", "prefill=a:3", "");
	place("a,b", "prefill=a:1", "");
	place("a:1,b:5", "prefill=a", "");
}

static void trim__drops_empty_hosts(void **state)
{
	struct mc_hosts h = {0};
	struct mc_err err;
	struct mc_job job;

	(void)state;
	mc_job_init(&job);
	(void)mc_job_role_add(&job, "", 3);
	job.rank_n = 3;
	assert_int_equal(mc_hosts_parse(&h, "a:4,b:4,c:4", &err), 0);
	assert_int_equal(mc_job_add_map(&job, "=b", &err), -1);
	assert_int_equal(mc_hosts_place(&h, &job, &err), 0);
	assert_int_equal(mc_hosts_count(&h, 0), 3);
	mc_hosts_trim(&h);
	expect_list(&h, "a/4");
	mc_hosts_free(&h);
	mc_job_free(&job);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse__lists),
		cmocka_unit_test(parse_file__lines),
		cmocka_unit_test(parse_slurm__notation),
		cmocka_unit_test(place__ranks),
		cmocka_unit_test(trim__drops_empty_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

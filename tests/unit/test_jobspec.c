/* SPDX-License-Identifier: BSD-3-Clause */
/* test_jobspec.c - command lines, job files, their merger, environments, CPU lists: every refusal, then what is
 * understood. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind.h"
#include "cli.h"
#include "jobenv.h"
#include "jobspec.h"
#include "text.h"

enum { ARG_MAX_N = 24 };

/* Parse a command line given as words separated by blanks. */
static enum mc_cli_result parse(const char *line, struct mc_job *job, struct mc_err *err)
{
	char *copy = strdup(line), *argv[ARG_MAX_N + 1], *save = NULL;
	int argc = 0;

	argv[argc++] = copy; /* not looked at */
	for (char *w = strtok_r(copy, " ", &save); w != NULL && argc < ARG_MAX_N; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	mc_job_init(job);
	enum mc_cli_result r = mc_cli_parse(argc, argv, job, err);
	free(copy);
	return r;
}

static void refuse(const char *line, const char *sentence)
{
	struct mc_err err = {""};
	struct mc_job job;

	if (parse(line, &job, &err) != MC_CLI_BAD && mc_job_finish(&job, "/nowhere", &err) == 0)
		fail_msg("accepted: %s", line);
	if (strstr(err.text, sentence) == NULL)
		fail_msg("%s: \"%s\" lacks \"%s\"", line, err.text, sentence);
	mc_job_free(&job);
}

static void cli__refusals(void **state)
{
	(void)state;
	refuse("", "how many ranks?");
	refuse("-n 2", "no program given");
	refuse("-n 0 true", "0 ranks");
	refuse("-n 2147483648 true", "must be a number");
	refuse("-n 70000 true", "at most 65536");
	refuse("--prefill 1 --prefill 1 true", "given twice");
	refuse("--prefill 1 -n 1 true", "exclude each other");
	refuse("--decoed 1 true", "did you mean --decode?");
	refuse("--decode", "needs a value");
	refuse("--dry-run=1 -n 1 true", "takes no value");
	refuse("--role a:1 true :", "another --role");
	refuse("--role a:1 : --role b:1 true", "role a has no program");
	refuse("--role a:1 --role b:1 true", "role a has no program");
	refuse("--role a:1 true : --role a:1 true", "given twice");
	refuse("--role none:1 true", "is what ranks without a role have");
	refuse("--role a.b:1 true", "letters, digits");
	refuse("--role aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1 true", "must be 1 to 31");
	refuse("-x =1 -n 1 true", "cannot name");
	refuse("-x MC_JOB_KEY=1 -n 1 true", "set by mcrun itself");
	refuse("-x SURELY_NOT_SET -n 1 true", "no such variable");
	refuse("--timeout 1e3 -n 1 true", "seconds above 0");
	refuse("--timeout 99999999999999999999 -n 1 true", "seconds above 0");
	refuse("-n 1 surely-no-such-program", "not found in PATH nor in /nowhere");
	refuse("-n 1 /", "is a directory");
	refuse("-n 1 /dev/null", "not executable");
}

static void cli__roles_and_places(void **state)
{
	struct mc_err err;
	struct mc_job job;
	char label[MC_JOB_LABEL_MAX];

	(void)state;
	assert_int_equal(parse("--prefill 2 --decode=3 -- sh -c x : --role y", &job, &err), MC_CLI_RUN);
	assert_int_equal(mc_job_finish(&job, "/nowhere", &err), 0);
	assert_int_equal(job.rank_n, 5);
	assert_int_equal(job.role_n, 2);
	assert_int_equal(job.role[1].argv.n, 6); /* options and colons of the program stay its own */
	assert_string_equal(job.role[1].argv.v[5], "y");
	assert_int_equal(job.role[0].path[0], '/');
	static const struct {
		uint32_t role, index;
		const char *label;
	} want[5] = {
		{0, 0, "prefill.0"}, {0, 1, "prefill.1"}, {1, 0, "decode.0"}, {1, 1, "decode.1"}, {1, 2, "decode.2"}};
	for (uint32_t r = 0; r < 5; r++) {
		struct mc_job_place p = mc_job_place(&job, r);

		assert_int_equal(p.role, want[r].role);
		assert_int_equal(p.index, want[r].index);
		mc_job_label(&job, r, label);
		assert_string_equal(label, want[r].label);
	}
	mc_job_free(&job);

	assert_int_equal(parse("-x A=1 --role a:1 -x B=2 sh 1 : --role b:2 -x A=3 sh 2 : --role c:1 sh", &job, &err),
			 MC_CLI_RUN);
	assert_int_equal(job.role_n, 3);
	assert_string_equal(mc_strv_get(&job.env, "A"), "1");
	assert_null(mc_strv_get(&job.env, "B"));
	assert_string_equal(mc_strv_get(&job.role[0].env, "B"), "2");
	assert_string_equal(mc_strv_get(&job.role[1].env, "A"), "3");
	assert_int_equal(job.role[1].n, 2);
	assert_int_equal(job.role[2].argv.n, 1);
	mc_job_free(&job);

	assert_int_equal(parse("-np 3 sh", &job, &err), MC_CLI_RUN);
	assert_int_equal(mc_job_finish(&job, "/nowhere", &err), 0);
	mc_job_label(&job, 2, label);
	assert_string_equal(label, "2");
	mc_job_free(&job);
	assert_int_equal(parse("--nonsense --help", &job, &err), MC_CLI_BAD);
	assert_int_equal(parse("--help --nonsense", &job, &err), MC_CLI_HELP);
	assert_int_equal(parse("-n 1 --version", &job, &err), MC_CLI_VERSION);
	mc_job_free(&job);
}

static void cli__values(void **state)
{
	struct mc_err err;
	struct mc_job job;

	(void)state;
	assert_int_equal(
		parse("--timeout 1.5 --grace 0 --output d/ --bind numa --on-failure continue --engine local --dry-run "
		      "--verbose --transport tcp --backend ucx -n 1 sh",
		      &job, &err),
		MC_CLI_RUN);
	assert_true(job.timeout_ns == MC_NS_PER_S * 3 / 2);
	assert_true(job.grace_ns == 0);
	assert_int_equal(job.output, MC_OUTPUT_DIR);
	assert_string_equal(job.output_dir, "d");
	assert_int_equal(job.bind, MC_BIND_NUMA);
	assert_int_equal(job.fail, MC_FAIL_CONTINUE);
	assert_true(job.dry_run && job.verbose);
	assert_string_equal(mc_strv_get(&job.env, "MC_TRANSPORT"), "tcp");
	assert_string_equal(mc_strv_get(&job.env, "MC_BACKEND"), "ucx");
	mc_job_free(&job);
}

static void refuse_json(const char *text, const char *sentence)
{
	struct mc_err err = {""};
	struct mc_job job;

	mc_job_init(&job);
	if (mc_job_parse_json(&job, text, strlen(text), "f", &err) == 0)
		fail_msg("accepted: %s", text);
	if (strncmp(err.text, "f: ", 3) != 0 || strstr(err.text, sentence) == NULL)
		fail_msg("%s: \"%s\" lacks \"%s\"", text, err.text, sentence);
	mc_job_free(&job);
}

static void cli__places(void **state)
{
	struct mc_err err = {""};
	struct mc_job job;

	(void)state;
	assert_int_equal(
		parse("--hosts a:1,b --map prefill=a,decode=b:2 --map x=c --agent --heartbeat 0.5 --head-address h "
		      "--engine prrte --on-failure restart -n 2 sh",
		      &job, &err),
		MC_CLI_RUN);
	assert_string_equal(job.hosts, "a:1,b");
	assert_int_equal(job.map.n, 3);
	assert_string_equal(job.map.v[1], "decode=b:2");
	assert_true(job.agent);
	assert_int_equal(job.beat_ns, 500000000);
	assert_string_equal(job.head_address, "h");
	assert_int_equal(job.fail, MC_FAIL_RESTART);
	assert_int_equal(job.restart_max, MC_JOB_RESTARTS);
	mc_job_free(&job);
	refuse("--map a -n 1 sh", "must be ROLE=HOST");
	refuse("--map a=b, -n 1 sh", "must be ROLE=HOST");
	refuse("--heartbeat 0 -n 1 sh", "heartbeat is");
	refuse("--heartbeat 601 -n 1 sh", "heartbeat is");
	refuse("--hosts= -n 1 sh", "hosts is empty");
	refuse("--hostfile= -n 1 sh", "hostfile is empty");
	refuse("--head-address= -n 1 sh", "head-address is");
	refuse("--engine ssh -n 1 sh", "but must be auto, local, slurm, openmpi or prrte");
	refuse("--on-failure restart:0 -n 1 sh", "restart:N needs a number");
	refuse("--agent=yes -n 1 sh", "takes no value");
}

static void json__refusals(void **state)
{
	(void)state;
	refuse_json("", "line 1: the JSON text ends too early");
	refuse_json("{\n\n\"a\"", "line 3:");
	refuse_json("{\n\"env\": {},\n}", "line 3: not JSON");
	refuse_json("{}\n\nx", "line 3:");
	refuse_json("[]", "must be a JSON object");
	refuse_json("{\"a\":[[[[[[[[[[]]]]]]]]]]}", "not JSON");
	refuse_json("{\"\xff\": 1}", "not JSON");
	refuse_json("{\"rolse\": []}", "unknown key rolse (did you mean roles?)");
	refuse_json("{\"roles\": [{\"name\": \"a\", \"n\": 1, \"envv\": {}}]}",
		    "unknown key roles[0].envv (did you mean env?)");
	refuse_json("{\"roles\": [1]}", "roles[0] must be an object");
	refuse_json("{\"roles\": [{\"name\": \"a\", \"n\": 99999999999999999999}]}", "roles[0].n is");
	refuse_json("{\"roles\": [{\"name\": \"a\"}]}", "has no \"n\"");
	refuse_json("{\"roles\": [{\"name\": \"\", \"n\": 1}]}", "roles[0].name");
	refuse_json("{\"program\": []}", "program must be a list");
	refuse_json("{\"program\": [\"a\", null]}", "program[1] must be a string, but is null");
	refuse_json("{\"program\": \"a\\u0000b\"}", "program contains a NUL");
	refuse_json("{\"env\": {\"PMIX_RANK\": \"1\"}}", "set by mcrun itself");
	refuse_json("{\"env\": {\"\": \"1\"}}", "cannot name");
	refuse_json("{\"settings\": {\"UCX_TLS\": \"tcp\"}}", "settings.UCX_TLS is not a setting");
	refuse_json("{\"verbose\": 1}", "verbose must be true or false, but is int");
	refuse_json("{\"timeout\": 0}", "timeout: ");
	refuse_json("{\"timeout\": 1e300}", "timeout: ");
	refuse_json("{\"on_failure\": \"again\"}", "on_failure: ");
}

static void json__merged(void **state)
{
	static const char text[] =
		"{\"roles\": [{\"name\": \"prefill\", \"n\": 2, \"program\": [\"sh\", \"p\"], \"env\": {\"A\": "
		"\"role\", \"C\": 7}},"
		" {\"name\": \"decode\", \"n\": 1}], \"program\": \"true\", \"env\": {\"A\": \"all\", \"B\": true},"
		" \"settings\": {\"MC_SPIN\": \"1us\"}, \"timeout\": 2.5, \"bind\": \"core\", \"transport\": \"tcp\"}";
	struct mc_err err = {""};
	struct mc_job job, cli;

	(void)state;
	mc_job_init(&job);
	assert_int_equal(mc_job_parse_json(&job, text, strlen(text), "f", &err), 0);
	assert_int_equal(parse("--decode 3 -x B=cli --bind none", &cli, &err), MC_CLI_RUN);
	mc_job_merge(&job, &cli);
	assert_int_equal(mc_job_finish(&job, "/nowhere", &err), 0);
	assert_int_equal(job.role_n, 1);
	assert_int_equal(job.rank_n, 3);
	assert_string_equal(job.role[0].argv.v[0], "true");
	assert_true(job.timeout_ns == MC_NS_PER_S * 5 / 2);
	assert_int_equal(job.bind, MC_BIND_NONE);
	assert_string_equal(mc_strv_get(&job.env, "B"), "cli");
	assert_string_equal(mc_strv_get(&job.settings, "MC_TRANSPORT"), "tcp");
	mc_job_free(&job);

	mc_job_init(&job);
	assert_int_equal(mc_job_parse_json(&job, text, strlen(text), "f", &err), 0);
	assert_int_equal(parse("-x A=cli echo x", &cli, &err), MC_CLI_RUN);
	mc_job_merge(&job, &cli);
	assert_int_equal(mc_job_finish(&job, "/nowhere", &err), 0);
	assert_int_equal(job.rank_n, 3);
	assert_string_equal(job.role[0].argv.v[0], "echo");
	assert_string_equal(mc_strv_get(&job.role[0].env, "A"), "cli");
	assert_string_equal(mc_strv_get(&job.role[0].env, "C"), "7");
	mc_job_free(&job);
}

/* On other hosts: what belongs to a host is that host's, unless the user says otherwise; what an engine wires stays. */
static void env__of_other_hosts(void **state)
{
	char *head[] = {(char *)(uintptr_t) "PATH=/bin", (char *)(uintptr_t) "SLURMD_NODENAME=a",
			(char *)(uintptr_t) "TMPDIR=/head", (char *)(uintptr_t) "CUDA_VISIBLE_DEVICES=0", NULL};
	char *there[] = {(char *)(uintptr_t) "SLURMD_NODENAME=b", (char *)(uintptr_t) "CUDA_VISIBLE_DEVICES=1",
			 (char *)(uintptr_t) "PMIX_RANK=3",       (char *)(uintptr_t) "OMPI_MCA_orte_x=1",
			 (char *)(uintptr_t) "MC_ROLE=x",         (char *)(uintptr_t) "LANG=C",
			 (char *)(uintptr_t) "MCRUN_HEAD=h",      NULL};
	struct mc_strv *env = NULL, wired = {0};
	struct mc_err err = {""};
	struct mc_job job;

	(void)state;
	assert_int_equal(
		parse("--on-failure restart:7 -x CUDA_VISIBLE_DEVICES=5 --role a:1 sh : --role b:1 sh", &job, &err),
		MC_CLI_RUN);
	assert_int_equal(mc_env_build(&job, "slurm", true, head, &env, &err), 0);
	assert_null(mc_strv_get(&env[0], "SLURMD_NODENAME"));
	assert_null(mc_strv_get(&env[0], "TMPDIR"));
	assert_null(mc_strv_get(&env[0], "OMPI_MCA_schizo"));
	assert_string_equal(mc_strv_get(&env[0], "MC_LAUNCHER"), "slurm");
	assert_string_equal(mc_strv_get(&env[0], "MCRUN_RESTART"), "7");
	mc_env_move_in(&env[0], there);
	assert_string_equal(mc_strv_get(&env[0], "SLURMD_NODENAME"), "b");
	assert_string_equal(mc_strv_get(&env[0], "CUDA_VISIBLE_DEVICES"), "5");
	assert_null(mc_strv_get(&env[0], "LANG"));
	mc_env_wired(there, &wired);
	assert_int_equal(wired.n, 2);
	assert_string_equal(mc_strv_get(&wired, "PMIX_RANK"), "3");
	assert_string_equal(mc_strv_get(&wired, "OMPI_MCA_orte_x"), "1");
	mc_env_drop_traces(there);
	assert_string_equal(there[2], "LANG=C");
	assert_null(there[3]);
	mc_strv_free(&wired);
	for (size_t i = 0; i < job.role_n; i++)
		mc_strv_free(&env[i]);
	free(env);
	mc_job_free(&job);
}

static void env__built(void **state)
{
	char *own[] = {(char *)(uintptr_t) "PATH=/bin",         (char *)(uintptr_t) "PMIX_RANK=3",
		       (char *)(uintptr_t) "MC_SPIN=9us",       (char *)(uintptr_t) "MC_JOB_KEY=stale",
		       (char *)(uintptr_t) "OMPI_MCA_btl=self", NULL};
	struct mc_strv *env = NULL;
	struct mc_err err = {""};
	struct mc_job job;

	(void)state;
	assert_int_equal(parse("-x A=1 --role a:1 -x A=2 sh : --role b:1 sh", &job, &err), MC_CLI_RUN);
	mc_strv_set(&job.settings, "MC_SPIN", "1us");
	mc_strv_set(&job.settings, "MC_LOG", "info");
	assert_int_equal(mc_env_build(&job, "local", false, own, &env, &err), 0);
	assert_string_equal(mc_strv_get(&env[0], "A"), "2");
	assert_string_equal(mc_strv_get(&env[1], "A"), "1");
	assert_string_equal(mc_strv_get(&env[0], "MC_ROLE"), "a");
	assert_string_equal(mc_strv_get(&env[0], "MC_SPIN"), "9us");
	assert_string_equal(mc_strv_get(&env[0], "MC_LOG"), "info");
	assert_string_equal(mc_strv_get(&env[0], "OMPI_MCA_btl"), "self");
	assert_null(mc_strv_get(&env[0], "PMIX_RANK"));
	assert_int_equal(strlen(mc_strv_get(&env[0], "MC_JOB_KEY")), 64);
	assert_string_equal(mc_strv_get(&env[0], "MC_JOB_KEY"), mc_strv_get(&env[1], "MC_JOB_KEY"));
	assert_int_equal(mc_env_check(&job, env, &err), 0);
	mc_strv_set(&env[1], "MC_LGO", "info");
	assert_int_equal(mc_env_check(&job, env, &err), -1);
	assert_non_null(strstr(err.text, "MC_LOG"));
	for (size_t i = 0; i < job.role_n; i++)
		mc_strv_free(&env[i]);
	free(env);
	mc_job_free(&job);
}

static bool in(const struct mc_cpuset *s, unsigned cpu)
{
	return (s->w[cpu / 64] >> (cpu % 64)) & 1;
}

static void cpuset__lists(void **state)
{
	struct mc_cpuset s;

	(void)state;
	assert_false(mc_cpuset_parse("x", &s));
	assert_false(mc_cpuset_parse("3-1", &s));
	assert_false(mc_cpuset_parse("0-", &s));
	assert_false(mc_cpuset_parse("8192", &s));
	assert_false(mc_cpuset_parse("1;2", &s));
	assert_true(mc_cpuset_parse("0-2,64,8191\n", &s));
	assert_true(in(&s, 0) && in(&s, 2) && in(&s, 64) && in(&s, 8191));
	assert_false(in(&s, 3) || in(&s, 63));
	assert_true(mc_cpuset_parse("\n", &s));
	assert_false(in(&s, 0));
}

static void put_file(const char *root, const char *dir, const char *name, const char *text)
{
	char *path = mc_xformat("mkdir -p %s/%s", root, dir);

	assert_int_equal(system(path), 0); /* the test's own folder */
	free(path);
	path = mc_xformat("%s/%s/%s", root, dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	(void)fputs(text, f);
	(void)fclose(f);
	free(path);
}

/* A made-up machine: this process's own CPUs in one core and one node, whatever they are. */
static void bind__places(void **state)
{
	char root[] = "/tmp/mc-test-bind.XXXXXX", list[64], text[256];
	struct mc_cpuset own = {0};
	struct mc_bind b;
	struct mc_err err;
	unsigned first = 0;

	(void)state;
	assert_non_null(mkdtemp(root));
	assert_int_equal(sched_getaffinity(0, sizeof(own), (cpu_set_t *)(void *)&own), 0);
	while (!in(&own, first))
		first++;
	(void)snprintf(list, sizeof(list), "devices/system/cpu/cpu%u/topology", first);
	put_file(root, list, "thread_siblings_list", "0-8191\n");
	put_file(root, "devices/system/node/node3", "cpulist", "0-8191\n");
	assert_int_equal(mc_bind_open(&b, MC_BIND_CORE, root, &err), 0);
	assert_int_equal(b.place_n, 1); /* every CPU is a thread of the first one's core */
	assert_memory_equal(mc_bind_place(&b, 5), &own, sizeof(own));
	mc_bind_text(&b, 5, text, sizeof(text));
	assert_int_equal(strncmp(text, "core ", 5), 0);
	mc_bind_close(&b);
	assert_int_equal(mc_bind_open(&b, MC_BIND_NUMA, root, &err), 0);
	assert_int_equal(b.place_n, 1);
	mc_bind_text(&b, 0, text, sizeof(text));
	assert_int_equal(strncmp(text, "node 3 (cpus ", 13), 0);
	mc_bind_close(&b);
	assert_int_equal(mc_bind_open(&b, MC_BIND_NONE, root, &err), 0);
	assert_null(mc_bind_place(&b, 0));
	mc_bind_close(&b);
	char *rm = mc_xformat("rm -r %s", root);
	assert_int_equal(system(rm), 0);
	free(rm);
}

static void text__nearest(void **state)
{
	static const char *const list[] = {"timeout", "output", "bind"};

	(void)state;
	assert_string_equal(mc_text_nearest("timeuot", list, 3), "timeout");
	assert_string_equal(mc_text_nearest("ouput", list, 3), "output");
	assert_null(mc_text_nearest("zzzzzz", list, 3));
	assert_null(mc_text_nearest("", list, 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cli__refusals),       cmocka_unit_test(cli__roles_and_places),
		cmocka_unit_test(cli__values),         cmocka_unit_test(json__refusals),
		cmocka_unit_test(json__merged),        cmocka_unit_test(env__built),
		cmocka_unit_test(env__of_other_hosts), cmocka_unit_test(cli__places),
		cmocka_unit_test(cpuset__lists),       cmocka_unit_test(bind__places),
		cmocka_unit_test(text__nearest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_jobspec.c - job files: whatever is accepted is whole, whatever is refused is refused in one printable line. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jobspec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok, const char *what, const char *detail)
{
	if (!ok) {
		fprintf(stderr, "fuzz_jobspec: %s: %s\n", what, detail);
		abort();
	}
}

static void check_sentence(const char *s)
{
	must(strncmp(s, "job: ", 5) == 0, "a sentence that does not name the file", s);
	for (; *s != '\0'; s++)
		must((unsigned char)*s >= 0x20 && *s != 0x7f, "a control character in a sentence", s);
}

static void check_env(const struct mc_strv *env)
{
	struct mc_err err;

	for (size_t i = 0; i < env->n; i++) {
		size_t len = strcspn(env->v[i], "=");

		must(env->v[i][len] == '=', "a variable without value", env->v[i]);
		must(mc_job_check_env_name(env->v[i], len, &err) == 0, "a bad name was accepted", env->v[i]);
		for (size_t k = 0; k < i; k++)
			must(strncmp(env->v[k], env->v[i], len + 1) != 0, "a variable twice", env->v[i]);
	}
}

static void check_job(const struct mc_job *job)
{
	struct mc_err err;

	check_env(&job->env);
	check_env(&job->settings);
	for (size_t i = 0; i < job->role_n; i++) {
		const struct mc_job_role *r = &job->role[i];

		must(mc_job_check_role_name(r->name, &err) == 0, "a bad role name was accepted", r->name);
		must(r->n >= 1 && r->n <= MC_JOB_RANK_MAX, "a bad number of ranks was accepted", r->name);
		must(r->argv.n == 0 || r->argv.v[r->argv.n] == NULL, "arguments without end", r->name);
		check_env(&r->env);
	}
	must(job->timeout_ns >= 0 && job->grace_ns >= 0, "a negative time was accepted", "");
	must(job->output != MC_OUTPUT_DIR || (job->output_dir != NULL && *job->output_dir != '\0'), "no directory", "");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mc_err err = {""};
	struct mc_job job, cli;

	mc_job_init(&job);
	mc_job_init(&cli);
	if (mc_job_parse_json(&job, (const char *)data, size, "job", &err) != 0) {
		check_sentence(err.text);
	} else {
		check_job(&job);
		(void)mc_job_role_add(&cli, "decode", 2);
		mc_strv_set(&cli.env, "A", "1");
		mc_job_merge(&job, &cli);
		must(job.role_n == 1 && job.role[0].n == 2, "merged roles", "");
		must(strcmp(mc_strv_get(&job.env, "A"), "1") == 0, "merged environment", "");
	}
	mc_job_free(&job);
	mc_job_free(&cli);
	return 0;
}

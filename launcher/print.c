/* SPDX-License-Identifier: BSD-3-Clause */
/* print.c - what both forms need: the command line that starts the job over there. */
#include "print.h"

#include <stdlib.h>
#include <string.h>

int mc_print(const struct mc_job *job, FILE *to, struct mc_err *err)
{
	return strcmp(job->print, "k8s") == 0 ? mc_print_k8s(job, to, err) : mc_print_sbatch(job, to, err);
}

static void add_pair(struct mc_strv *out, const char *option, char *value)
{
	mc_strv_add(out, option);
	mc_strv_add(out, value);
	free(value);
}

static void add_env(struct mc_strv *out, const struct mc_strv *env)
{
	for (size_t i = 0; i < env->n; i++)
		add_pair(out, "-x", mc_xstrdup(env->v[i]));
}

/* "restart:5" */
static char *fail_text(const struct mc_job *job)
{
	static const char *const fail[] = {"abort", "continue", "restart"};

	if (job->fail == MC_FAIL_RESTART)
		return mc_xformat("restart:%u", job->restart_max);
	return mc_xstrdup(fail[job->fail]);
}

static void add_policies(const struct mc_job *job, struct mc_strv *out)
{
	static const char *const bind[] = {"none", "core", "numa"};

	if (job->given & MC_GIVEN_TIMEOUT)
		add_pair(out, "--timeout", mc_xformat("%g", (double)job->timeout_ns / 1e9));
	if (job->given & MC_GIVEN_GRACE)
		add_pair(out, "--grace", mc_xformat("%g", (double)job->grace_ns / 1e9));
	if (job->given & MC_GIVEN_BIND)
		add_pair(out, "--bind", mc_xstrdup(bind[job->bind]));
	if (job->given & MC_GIVEN_FAIL)
		add_pair(out, "--on-failure", fail_text(job));
	if (job->given & MC_GIVEN_OUTPUT)
		add_pair(out, "--output",
			 mc_xstrdup(job->output == MC_OUTPUT_TAG     ? "tag"
				    : job->output == MC_OUTPUT_MERGE ? "merge"
								     : job->output_dir));
	for (size_t i = 0; i < job->rdma_limit_n; i++) {
		const struct mc_rdmacg_limit *l = &job->rdma_limit[i];
		char line[160];

		mc_rdmacg_limit_text(l, line, sizeof(line));
		char *c = strchr(line, ' ');
		if (c != NULL)
			*c = ':';
		while ((c = strchr(line, ' ')) != NULL)
			*c = ',';
		add_pair(out, "--rdma-limit", mc_xstrdup(line));
	}
	if (job->agent)
		mc_strv_add(out, "--agent");
	if (job->given & MC_GIVEN_BEAT)
		add_pair(out, "--heartbeat", mc_xformat("%g", (double)job->beat_ns / 1e9));
	if (job->verbose)
		mc_strv_add(out, "--verbose");
}

void mc_print_command(const struct mc_job *job, struct mc_strv *out)
{
	mc_strv_add(out, "mcrun");
	add_policies(job, out);
	add_env(out, &job->settings);
	add_env(out, &job->env);
	if (job->role_n == 1 && *job->role[0].name == '\0') {
		add_pair(out, "-n", mc_xformat("%u", job->role[0].n));
		add_env(out, &job->role[0].env);
		mc_strv_add(out, "--");
		mc_strv_copy(out, &job->role[0].argv);
		return;
	}
	for (size_t i = 0; i < job->role_n; i++) {
		const struct mc_job_role *r = &job->role[i];

		if (i > 0)
			mc_strv_add(out, ":");
		add_pair(out, "--role", mc_xformat("%s:%u", r->name, r->n));
		add_env(out, &r->env);
		mc_strv_add(out, "--");
		mc_strv_copy(out, &r->argv);
	}
}

const char *mc_print_resource(const struct mc_job *job, const char *name)
{
	return mc_strv_get(&job->resource, name);
}

void mc_print_shell_word(const char *w, FILE *to)
{
	if (*w != '\0' &&
	    strspn(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%") == strlen(w)) {
		(void)fputs(w, to);
		return;
	}
	(void)fputc('\'', to);
	for (; *w != '\0'; w++)
		(void)(*w == '\'' ? fputs("'\\''", to) : fputc(*w, to));
	(void)fputc('\'', to);
}

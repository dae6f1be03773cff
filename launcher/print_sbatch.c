/* SPDX-License-Identifier: BSD-3-Clause */
/* print_sbatch.c - one node, one task that is mcrun, and as many cores as the node has. */
#include "print.h"

#include <string.h>

static void option(const struct mc_job *job, const char *name, const char *flag, const char *otherwise, FILE *to)
{
	const char *v = mc_print_resource(job, name);

	if (v == NULL)
		v = otherwise;
	if (v != NULL)
		(void)fprintf(to, "#SBATCH %s%s\n", flag, v);
}

/* Kubernetes writes 64Gi what Slurm writes 64G. */
static void print_memory(const struct mc_job *job, FILE *to)
{
	const char *v = mc_print_resource(job, "memory");

	if (v == NULL)
		(void)fputs("#SBATCH --mem=0\n", to);
	else
		(void)fprintf(to, "#SBATCH --mem=%.*s\n", (int)strcspn(v, "i"), v);
}

static void print_time(const struct mc_job *job, FILE *to)
{
	int64_t min = (job->timeout_ns + 60 * MC_NS_PER_S - 1) / (60 * MC_NS_PER_S) + 1;

	/* a minute more than mcrun's own deadline, so that mcrun is the one that says what was running */
	if (job->timeout_ns > 0)
		(void)fprintf(to, "#SBATCH --time=%lld\n", (long long)min);
}

/* The option of the pyxis plug-in. */
static void container(const struct mc_job *job, FILE *to)
{
	if (job->image == NULL)
		return;
	(void)fputs(" --container-image=", to);
	mc_print_shell_word(job->image, to);
}

/* One node unless told otherwise; on several, mcrun starts the ranks through srun, as many on each as were reserved. */
static uint32_t node_count(const struct mc_job *job)
{
	const char *v = mc_print_resource(job, "nodes");
	uint32_t n = 0;

	return v != NULL && mc_text_count(v, &n) && n > 0 ? n : 1;
}

static void print_nodes(const struct mc_job *job, FILE *to)
{
	uint32_t n = node_count(job);

	(void)fprintf(to, "#SBATCH --nodes=%u\n", n);
	if (n == 1)
		(void)fputs("#SBATCH --ntasks=1\n", to);
	else
		(void)fprintf(to, "#SBATCH --ntasks-per-node=%u\n", (job->rank_n + n - 1) / n);
}

int mc_print_sbatch(const struct mc_job *job, FILE *to, struct mc_err *err)
{
	struct mc_strv words = {0};

	if (node_count(job) > 1 && job->image != NULL)
		return mc_err_set(err,
				  "--image with --resource nodes=%u: in a container mcrun has no srun with which to "
				  "reach the other nodes; start the ranks' programs in containers instead",
				  node_count(job));
	mc_print_command(job, &words);
	for (size_t i = 0; i < words.n; i++)
		if (strchr(words.v[i], '\n') != NULL) {
			mc_strv_free(&words);
			return mc_err_set(err,
					  "an argument of the job has a line break, which a batch script cannot carry");
		}
	(void)fputs("#!/bin/bash\n"
		    "# Printed by mcrun --print sbatch. Submit it with sbatch.\n",
		    to);
	print_nodes(job, to);
	option(job, "cpu", "--cpus-per-task=", NULL, to);
	option(job, "nvidia.com/gpu", "--gres=gpu:", NULL, to);
	print_memory(job, to);
	print_time(job, to);
	(void)fputs("#SBATCH --exclusive\n"
		    "set -eu\n"
		    "# The limits of the submitting shell come along unless slurm.conf has "
		    "PropagateResourceLimitsExcept=MEMLOCK;\n"
		    "# the check is made here, inside the job, and says what is missing.\n"
		    "srun ",
		    to);
	(void)fputs(node_count(job) == 1 ? "--ntasks=1" : "--ntasks-per-node=1 --ntasks=\"$SLURM_JOB_NUM_NODES\"", to);
	container(job, to);
	(void)fputs(" mcinfo doctor --for slurm || [ $? -le 1 ]\n"
		    "exec ",
		    to);
	if (job->image != NULL) {
		(void)fputs("srun --ntasks=1", to);
		container(job, to);
		(void)fputc(' ', to);
	}
	for (size_t i = 0; i < words.n; i++) {
		(void)fputs(i == 0 ? "" : " ", to);
		mc_print_shell_word(words.v[i], to);
	}
	(void)fputc('\n', to);
	mc_strv_free(&words);
	return ferror(to) ? mc_err_set(err, "cannot write the output") : 0;
}

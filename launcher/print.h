/* SPDX-License-Identifier: BSD-3-Clause */
/* print.h - mcrun --print: the same job as a Kubernetes manifest or a Slurm batch script. */
#ifndef MCRUN_PRINT_H
#define MCRUN_PRINT_H

#include "jobspec.h"

#include <stdio.h>

/* As job->print says. */
int mc_print(const struct mc_job *job, FILE *to, struct mc_err *err);

int mc_print_k8s(const struct mc_job *job, FILE *to, struct mc_err *err);
int mc_print_sbatch(const struct mc_job *job, FILE *to, struct mc_err *err);
/* The words of the mcrun command line that starts the job where it is printed for; free with mc_strv_free(). */
void mc_print_command(const struct mc_job *job, struct mc_strv *out);
/* The amount of a resource; NULL: not given. */
const char *mc_print_resource(const struct mc_job *job, const char *name);
void mc_print_shell_word(const char *w, FILE *to);

#endif

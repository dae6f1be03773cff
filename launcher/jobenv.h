/* SPDX-License-Identifier: BSD-3-Clause */
/* jobenv.h - the environment of the ranks: what is inherited, what is kept from them, what mcrun adds. */
#ifndef MCRUN_JOBENV_H
#define MCRUN_JOBENV_H

#include "jobspec.h"

/* Is NAME=... a trace of another launcher (or of an mcrun above this one) that would mislead a rank? */
bool mc_env_is_launch_trace(const char *pair);
/* One environment per role of the job, [role_n]; free each with mc_strv_free() and the array with free(). */
int mc_env_build(const struct mc_job *job, char **inherited, struct mc_strv **role_env_out, struct mc_err *err);
/* Are all settings in them ones that mc_init() will take? */
int mc_env_check(const struct mc_job *job, const struct mc_strv *role_env, struct mc_err *err);
/* [2 * bytes + 1] hexadecimal digits from the kernel's random source. */
int mc_env_random(char *hex, size_t bytes, struct mc_err *err);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* jobenv.h - the environment of the ranks: what is inherited, what is kept from them, what mcrun adds. */
#ifndef MCRUN_JOBENV_H
#define MCRUN_JOBENV_H

#include "jobspec.h"

/* Is NAME=... a trace of another launcher (or of an mcrun above this one) that would mislead a rank? */
bool mc_env_is_launch_trace(const char *pair);
/* Drop them all from our own environment: the PMIx server in this process is nobody's rank. */
void mc_env_drop_traces(char **own);
/*
 * For an agent: lay over a role's environment what belongs to this host and not to mcrun's (CUDA_VISIBLE_DEVICES,
 * TMPDIR, Slurm's own), and list what an engine that wires its ranks itself has put into our environment for one.
 */
void mc_env_move_in(struct mc_strv *env, char **own);
void mc_env_wired(char **own, struct mc_strv *out);
/* wired: the engine makes the ranks' PMIx server. One environment per role of the job, [role_n]; free each with
 * mc_strv_free() and the array with free(). */
int mc_env_build(const struct mc_job *job, const char *engine, bool wired, char **inherited,
		 struct mc_strv **role_env_out, struct mc_err *err);
/* Are all settings in them ones that mc_init() will take? */
int mc_env_check(const struct mc_job *job, const struct mc_strv *role_env, struct mc_err *err);
/* [2 * bytes + 1] hexadecimal digits from the kernel's random source. */
int mc_env_random(char *hex, size_t bytes, struct mc_err *err);

#endif

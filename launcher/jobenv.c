/* SPDX-License-Identifier: BSD-3-Clause */
#include "jobenv.h"

#include <mc.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

extern char **environ;

/* Names, or beginnings of names where they end in '*'. Settings a user makes (OMPI_MCA_btl, PMIX_MCA_...) stay. */
static const char *const keep[] = {"PMIX_MCA_*", "PRTE_MCA_*", "PMIX_PREFIX", "PMIX_INSTALL_PREFIX"};
static const char *const drop[] = {
	"PMIX_*",
	"PMI_*",
	"PMI2_*",
	"PRTE_*",
	"ORTE_SCHIZO_DETECTION",
	"OMPI_COMM_WORLD_*",
	"OMPI_UNIVERSE_SIZE",
	"OMPI_APP_CTX_NUM_PROCS",
	"OMPI_NUM_APP_CTX",
	"OMPI_FIRST_RANKS",
	"OMPI_ARGV",
	"OMPI_COMMAND",
	"OMPI_FILE_LOCATION",
	"OMPI_MCA_orte_*",
	"OMPI_MCA_ess*",
	"OMPI_MCA_pmix",
	"OMPI_MCA_schizo",
	"OMPI_MCA_initial_wdir",
	"OMPI_MCA_mpi_oversubscribe",
	"OMPI_MCA_shmem_RUNTIME_QUERY_hint",
	"OMPI_MCA_plm",
	"OMPI_MCA_ras",
	"MC_ROLE",
	"MC_JOB_KEY",
	"MC_LAUNCHER",
	"MC_REJOIN",
	"MCRUN_RESTART",
	"MCRUN_TTY",
	"MCRUN_HEAD",
	"MCRUN_NODE",
};
/* What means something on the host where it was set and nothing on another. */
static const char *const of_host[] = {
	"SLURM*",
	"CUDA_VISIBLE_DEVICES",
	"NVIDIA_VISIBLE_DEVICES",
	"ROCR_VISIBLE_DEVICES",
	"HIP_VISIBLE_DEVICES",
	"ZE_AFFINITY_MASK",
	"GPU_DEVICE_ORDINAL",
	"HOSTNAME",
	"TMPDIR",
	"XDG_RUNTIME_DIR",
	"XDG_SESSION_ID",
	"SSH_CLIENT",
	"SSH_CONNECTION",
	"SSH_TTY",
};

static bool matches(const char *pair, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(list[i]);

		if (list[i][len - 1] == '*' ? strncmp(pair, list[i], len - 1) == 0
					    : strncmp(pair, list[i], len) == 0 && pair[len] == '=')
			return true;
	}
	return false;
}

bool mc_env_is_launch_trace(const char *pair)
{
	return matches(pair, drop, sizeof(drop) / sizeof(drop[0])) &&
	       !matches(pair, keep, sizeof(keep) / sizeof(keep[0]));
}

void mc_env_drop_traces(char **own)
{
	char **to = own;

	for (char **p = own; *p != NULL; p++)
		if (!mc_env_is_launch_trace(*p))
			*to++ = *p;
	*to = NULL;
}

static bool is_of_host(const char *pair)
{
	return matches(pair, of_host, sizeof(of_host) / sizeof(of_host[0]));
}

void mc_env_move_in(struct mc_strv *env, char **own)
{
	for (char **p = own; *p != NULL; p++) {
		char *name = mc_xformat("%.*s", (int)strcspn(*p, "="), *p);

		if (is_of_host(*p) && mc_strv_get(env, name) == NULL) /* what the user gave with -x stays */
			mc_strv_add(env, *p);
		free(name);
	}
}

void mc_env_wired(char **own, struct mc_strv *out)
{
	for (char **p = own; *p != NULL; p++)
		if ((mc_env_is_launch_trace(*p) || strncmp(*p, "OMPI_MCA_", 9) == 0) && strncmp(*p, "MC", 2) != 0)
			mc_strv_add(out, *p);
}

int mc_env_random(char *hex, size_t bytes, struct mc_err *err)
{
	unsigned char raw[64];

	if (bytes > sizeof(raw) || getrandom(raw, bytes, 0) != (ssize_t)bytes)
		return mc_err_set(err, "no random numbers from the kernel: %s", strerror(errno));
	for (size_t i = 0; i < bytes; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", raw[i]);
	return 0;
}

static void set_default(struct mc_strv *env, const char *name, const char *value)
{
	if (mc_strv_get(env, name) == NULL)
		mc_strv_set(env, name, value);
}

/*
 * Open MPI 4 joins a PMIx server that it does not know only if none of its detectors for launchers that it does know
 * says "started without a launcher"; left with the one for flux, which says nothing unless flux is there, it joins.
 */
static void add_open_mpi(struct mc_strv *env)
{
	set_default(env, "OMPI_MCA_schizo", "flux");
	if (geteuid() == 0) { /* whoever runs mcrun as root has decided that already */
		set_default(env, "OMPI_ALLOW_RUN_AS_ROOT", "1");
		set_default(env, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
	}
}

int mc_env_build(const struct mc_job *job, const char *engine, bool wired, char **inherited,
		 struct mc_strv **role_env_out, struct mc_err *err)
{
	struct mc_strv base = {0};
	char key[2 * 32 + 1], limit[16];
	bool local = strcmp(engine, "local") == 0;

	if (mc_env_random(key, 32, err) != 0)
		return -1;
	(void)snprintf(limit, sizeof(limit), "%u", job->restart_max);
	for (char **p = inherited; *p != NULL; p++)
		if (!mc_env_is_launch_trace(*p) && (local || !is_of_host(*p)))
			mc_strv_add(&base, *p);
	for (size_t i = 0; i < job->settings.n; i++) {
		char *name = mc_xformat("%.*s", (int)strcspn(job->settings.v[i], "="), job->settings.v[i]);

		if (mc_strv_get(&base, name) == NULL) /* the environment wins over the file */
			mc_strv_add(&base, job->settings.v[i]);
		free(name);
	}
	for (size_t i = 0; i < job->env.n; i++)
		mc_strv_set_pair(&base, job->env.v[i]);
	struct mc_strv *env = mc_xalloc(job->role_n, sizeof(*env));
	for (size_t r = 0; r < job->role_n; r++) {
		const struct mc_job_role *role = &job->role[r];

		mc_strv_copy(&env[r], &base);
		for (size_t i = 0; i < role->env.n; i++)
			mc_strv_set_pair(&env[r], role->env.v[i]);
		mc_strv_set(&env[r], "MC_ROLE", *role->name == '\0' ? "none" : role->name);
		mc_strv_set(&env[r], "MC_LAUNCHER", engine);
		mc_strv_set(&env[r], "MC_JOB_KEY", key);
		if (job->fail == MC_FAIL_RESTART) /* who has lost a peer may want to wait for the next one */
			mc_strv_set(&env[r], "MCRUN_RESTART", limit);
		if (job->output != MC_OUTPUT_DIR && isatty(STDERR_FILENO))
			mc_strv_set(&env[r], "MCRUN_TTY", "1"); /* a rank's stderr is a pipe, but somebody watches */
		if (!wired)
			add_open_mpi(&env[r]);
	}
	mc_strv_free(&base);
	explicit_bzero(key, sizeof(key));
	*role_env_out = env;
	return 0;
}

int mc_env_check(const struct mc_job *job, const struct mc_strv *role_env, struct mc_err *err)
{
	char **own = environ, text[900] = "";

	for (size_t r = 0; r < job->role_n; r++) {
		environ = role_env[r].v;
		mc_status_t s = mc_setting_check_env(text, sizeof(text));
		environ = own;
		if (s != MC_OK)
			return mc_err_set(err, "%s", text[0] != '\0' ? text : mc_status_text(s));
	}
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* engine.c - which engine a job gets, and on which hosts. */
#include "engine.h"
#include "carrier.h"
#include "link.h"

#include <stdlib.h>
#include <string.h>

static const struct mc_engine_ops *const engines[] = {
	&mc_engine_local,
	&mc_engine_slurm,
	&mc_engine_openmpi,
	&mc_engine_prrte,
};

const struct mc_engine_ops *mc_engine_find(const char *name)
{
	for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
		if (strcmp(engines[i]->name, name) == 0)
			return engines[i];
	return NULL;
}

bool mc_engine_agents(const struct mc_job *job)
{
	return job->agent || job->fail != MC_FAIL_ABORT;
}

static bool there(enum mc_carrier_kind kind)
{
	char *path = mc_carrier_find(kind);

	free(path);
	return path != NULL;
}

static const char *env(const char *name)
{
	const char *v = getenv(name);

	return v == NULL ? "" : v;
}

/* An allocation of one node, on which we are, needs nobody else to start ranks. */
static bool slurm_one_node(void)
{
	return strcmp(env("SLURM_JOB_NUM_NODES"), "1") == 0 && *env("SLURMD_NODENAME") != '\0';
}

static const char *automatic(const struct mc_job *job, struct mc_err *err)
{
	bool hosts = job->hosts != NULL || job->hostfile != NULL, in_slurm = *env("SLURM_JOB_ID") != '\0';

	if (in_slurm && there(MC_CARRIER_SLURM) && (hosts || !slurm_one_node()))
		return "slurm";
	if (!hosts)
		return "local";
	if (there(MC_CARRIER_OPENMPI))
		return "openmpi";
	if (there(MC_CARRIER_PRRTE))
		return "prrte";
	(void)mc_err_set(err, "--hosts needs mpirun (Open MPI), prterun (PRRTE) or a Slurm allocation; none of them is "
			      "here: install openmpi-bin, or name an --engine");
	return NULL;
}

static int find_hosts(const struct mc_job *job, bool slurm, struct mc_hosts *hosts, struct mc_err *err)
{
	const char *nodes = env("SLURM_JOB_NODELIST");

	if (job->hosts != NULL && mc_hosts_parse(hosts, job->hosts, err) != 0)
		return -1;
	if (job->hostfile != NULL && mc_hosts_load(hosts, job->hostfile, err) != 0)
		return -1;
	if (hosts->n > 0)
		return 0;
	if (!slurm)
		return mc_err_set(err, "on which hosts? Give --hosts A:4,B:4 or --hostfile FILE");
	if (*nodes == '\0')
		return mc_err_set(err,
				  "not inside a Slurm allocation: run mcrun under salloc or sbatch, or give --hosts");
	return mc_hosts_parse_slurm(hosts, nodes, env("SLURM_TASKS_PER_NODE"), err);
}

/* Slots from Slurm are a proposal: who asks for more ranks than tasks were reserved gets even shares. */
static void relax_slots(const struct mc_job *job, struct mc_hosts *hosts)
{
	uint64_t sum = 0;
	bool all = true;

	for (uint32_t i = 0; i < hosts->n; i++) {
		sum += hosts->host[i].slots;
		all &= hosts->host[i].slots > 0;
	}
	if (all && sum >= job->rank_n && job->map.n == 0)
		return;
	for (uint32_t i = 0; i < hosts->n; i++)
		hosts->host[i].slots = 0;
}

static int check_local(const struct mc_job *job, struct mc_err *err)
{
	if (job->hosts != NULL || job->hostfile != NULL || job->map.n > 0)
		return mc_err_set(err,
				  "--hosts, --hostfile and --map are for jobs on several hosts; engine local has one");
	return 0;
}

const struct mc_engine_ops *mc_engine_choose(const struct mc_job *job, struct mc_hosts *hosts, struct mc_err *err)
{
	const char *name = job->engine;

	if (name == NULL || strcmp(name, "auto") == 0)
		name = automatic(job, err);
	const struct mc_engine_ops *ops = name == NULL ? NULL : mc_engine_find(name);
	if (ops == NULL)
		return NULL;
	if (ops == &mc_engine_local)
		return check_local(job, err) == 0 ? ops : NULL;
	bool slurm = ops == &mc_engine_slurm;
	enum mc_carrier_kind kind = slurm                       ? MC_CARRIER_SLURM
				    : ops == &mc_engine_openmpi ? MC_CARRIER_OPENMPI
								: MC_CARRIER_PRRTE;
	if (!there(kind)) {
		(void)mc_err_set(err, "engine %s needs %s, which is not in PATH", name, mc_carrier_name(kind));
		return NULL;
	}
	if (!mc_link_possible()) {
		(void)mc_err_set(err, "engine %s needs an mcrun that was built with libsodium", name);
		return NULL;
	}
	if (job->rdma_limit_n > 0 && !mc_engine_agents(job)) {
		(void)mc_err_set(err, "--rdma-limit on several hosts needs --agent");
		return NULL;
	}
	if (find_hosts(job, slurm, hosts, err) != 0)
		return NULL;
	if (slurm && job->hosts == NULL && job->hostfile == NULL)
		relax_slots(job, hosts);
	if (mc_hosts_place(hosts, job, err) != 0)
		return NULL;
	mc_hosts_trim(hosts);
	return ops;
}

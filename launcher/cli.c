/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char mc_cli_help[] =
	"usage: mcrun [options] --prefill P --decode D [--] PROGRAM [ARG...]\n"
	"       mcrun [options] --role NAME:N PROGRAM [ARG...] : --role NAME:N PROGRAM [ARG...]\n"
	"       mcrun [options] -n N [--] PROGRAM [ARG...]\n"
	"\n"
	"Start the ranks of a job, on this host or on others, and wire them up through PMIx.\n"
	"\n"
	"  --prefill P, --decode D  ranks of the roles prefill and decode; prefill ranks come first\n"
	"  --role NAME:N            N ranks of role NAME with the program that follows, up to \" : \"\n"
	"  -n N                     N ranks without a role\n"
	"  -x NAME[=VALUE]          set NAME for all ranks; after --role: for that role alone\n"
	"  --transport NAME         auto, shm, tcp or rdma: what pairs of ranks may use (MC_TRANSPORT)\n"
	"  --backend NAME           backend to use (MC_BACKEND)\n"
	"  --timeout SEC            end the job after so long, exit code 124\n"
	"  --grace SEC              from the polite signal to SIGKILL (default 5)\n"
	"  --output tag|merge|DIR   lines with [role.rank] in front (default), without, or one file per rank and "
	"stream\n"
	"  --bind none|core|numa    bind each rank to a core or NUMA node (default none)\n"
	"  --on-failure abort|continue|restart[:N]  a rank's death ends the job (default), or the others go on and "
	"are\n"
	"                           told, or it is started again, at most N times (default 3)\n"
	"  --engine auto|local|slurm|openmpi|prrte  who starts the ranks (default auto)\n"
	"  --hosts A:4,B:4, --hostfile FILE  the hosts, and how many ranks each takes\n"
	"  --map ROLE=HOST[:N],...  where the ranks of a role go\n"
	"  --agent                  one mcrun per host that outlives deaths (implied by continue and restart)\n"
	"  --head-address ADDR      address of this host for the others (default: by route)\n"
	"  --heartbeat SEC          between signs of life; a host that misses 3 is lost (default 2)\n"
	"  --rdma-limit DEV:hca_handle=N,hca_object=N  limit of RDMA objects for the job (cgroup v2; repeatable; N or "
	"max)\n"
	"  --config FILE            job as JSON; the command line wins over it\n"
	"  --dry-run                print what would run and start nothing\n"
	"  --print k8s|sbatch       print the job as a Kubernetes manifest or a Slurm batch script and start nothing\n"
	"  --image IMAGE, --resource NAME=AMOUNT   container image and resources for --print (rdma/hca=1, "
	"memory=64Gi)\n"
	"  --verbose                say when what happened\n"
	"  --version, --help\n"
	"\n"
	"Exit code: the first failing rank's, 128 + its signal, 124 timeout, 2 bad input, 130/143 interrupted. See "
	"mcrun(1).\n";

enum option {
	OPT_PREFILL,
	OPT_DECODE,
	OPT_ROLE,
	OPT_N,
	OPT_X,
	OPT_TRANSPORT,
	OPT_BACKEND,
	OPT_TIMEOUT,
	OPT_GRACE,
	OPT_OUTPUT,
	OPT_BIND,
	OPT_FAIL,
	OPT_ENGINE,
	OPT_HOSTS,
	OPT_HOSTFILE,
	OPT_MAP,
	OPT_AGENT,
	OPT_HEAD,
	OPT_BEAT,
	OPT_RDMA_LIMIT,
	OPT_CONFIG,
	OPT_PRINT,
	OPT_IMAGE,
	OPT_RESOURCE,
	OPT_DRY,
	OPT_VERBOSE,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option_row {
	const char *name;
	enum option id;
	const char *value; /* NULL: takes none */
} option_rows[] = {
	{"--prefill", OPT_PREFILL, "the number of prefill ranks"},
	{"--decode", OPT_DECODE, "the number of decode ranks"},
	{"--role", OPT_ROLE, "NAME:N"},
	{"-n", OPT_N, "the number of ranks"},
	{"-np", OPT_N, "the number of ranks"},
	{"-x", OPT_X, "NAME or NAME=VALUE"},
	{"--transport", OPT_TRANSPORT, "auto, shm, tcp or rdma"},
	{"--backend", OPT_BACKEND, "a backend's name"},
	{"--timeout", OPT_TIMEOUT, "seconds"},
	{"--grace", OPT_GRACE, "seconds"},
	{"--output", OPT_OUTPUT, "tag, merge or a directory"},
	{"--bind", OPT_BIND, "none, core or numa"},
	{"--on-failure", OPT_FAIL, "abort, continue or restart[:N]"},
	{"--engine", OPT_ENGINE, "auto, local, slurm, openmpi or prrte"},
	{"--hosts", OPT_HOSTS, "NAME[:SLOTS],..."},
	{"--hostfile", OPT_HOSTFILE, "a file with a host per line"},
	{"--map", OPT_MAP, "ROLE=HOST[:N],..."},
	{"--agent", OPT_AGENT, NULL},
	{"--head-address", OPT_HEAD, "a name or address of this host"},
	{"--heartbeat", OPT_BEAT, "seconds"},
	{"--rdma-limit", OPT_RDMA_LIMIT, "DEVICE:hca_handle=N,hca_object=N"},
	{"--config", OPT_CONFIG, "a file"},
	{"--print", OPT_PRINT, "k8s or sbatch"},
	{"--image", OPT_IMAGE, "a container image"},
	{"--resource", OPT_RESOURCE, "NAME=AMOUNT"},
	{"--dry-run", OPT_DRY, NULL},
	{"--verbose", OPT_VERBOSE, NULL},
	{"--version", OPT_VERSION, NULL},
	{"--help", OPT_HELP, NULL},
	{"-h", OPT_HELP, NULL},
};
#define OPTION_N (sizeof(option_rows) / sizeof(option_rows[0]))

struct cli {
	int argc, at;
	char **argv;
	struct mc_job *job;
	struct mc_err *err;
	uint32_t prefill, decode, plain;
	bool prefill_given, decode_given, plain_given;
	struct mc_job_role *role; /* the --role under way, else NULL */
	enum mc_cli_result result;
};

static int unknown_option(struct cli *c, const char *word)
{
	const char *names[OPTION_N];
	char hint[80];

	for (size_t i = 0; i < OPTION_N; i++)
		names[i] = option_rows[i].name;
	mc_text_hint(hint, sizeof(hint), word, names, OPTION_N);
	return mc_err_set(c->err, "unknown option %.100s%s; options of the program go after its name; see mcrun --help",
			  word, hint);
}

/* The row of the option at argv[at] and its value, from "--opt=value" or the next word; advances. NULL: sentence
 * written. */
static const struct option_row *next_option(struct cli *c, const char **value_out)
{
	char *word = c->argv[c->at++];
	size_t len = strncmp(word, "--", 2) == 0 ? strcspn(word, "=") : strlen(word);

	*value_out = NULL;
	for (size_t i = 0; i < OPTION_N; i++) {
		const struct option_row *o = &option_rows[i];

		if (strlen(o->name) != len || strncmp(o->name, word, len) != 0)
			continue;
		if (o->value == NULL) {
			if (word[len] == '\0')
				return o;
			(void)mc_err_set(c->err, "option %s takes no value", o->name);
			return NULL;
		}
		if (word[len] == '=') {
			*value_out = word + len + 1;
			return o;
		}
		if (c->at < c->argc) {
			*value_out = c->argv[c->at++];
			return o;
		}
		(void)mc_err_set(c->err, "option %s needs a value: %s", o->name, o->value);
		return NULL;
	}
	word[len] = '\0';
	(void)unknown_option(c, word);
	return NULL;
}

static int take_count(struct cli *c, const struct option_row *o, const char *value, uint32_t *n, bool *given)
{
	if (*given)
		return mc_err_set(c->err, "option %s is given twice", o->name);
	if (!mc_text_count(value, n))
		return mc_err_set(c->err, "option %s is \"%.60s\", but must be a number of ranks, 1 or more", o->name,
				  value);
	if (*n == 0)
		return mc_err_set(c->err, "option %s asks for 0 ranks; at least 1 is needed", o->name);
	*given = true;
	return 0;
}

static int take_role(struct cli *c, const char *value)
{
	const char *colon = strrchr(value, ':');
	uint32_t n = 0;

	if (colon == NULL || !mc_text_count(colon + 1, &n))
		return mc_err_set(c->err, "option --role is \"%.60s\", but must be NAME:N, e.g. decode:4", value);
	char *name = mc_xformat("%.*s", (int)(colon - value), value);
	int rc = mc_job_check_role_name(name, c->err);
	if (rc == 0 && n == 0)
		rc = mc_err_set(c->err, "option --role %s:0 asks for 0 ranks; at least 1 is needed", name);
	if (rc == 0 && c->role != NULL)
		rc = mc_err_set(c->err,
				"role %s has no program; each --role NAME:N is followed by its program, and \" : \" "
				"separates the roles",
				c->role->name);
	if (rc == 0)
		c->role = mc_job_role_add(c->job, name, n);
	free(name);
	return rc;
}

static int take_env(struct cli *c, const char *value)
{
	struct mc_strv *env = c->role != NULL ? &c->role->env : &c->job->env;
	size_t len = strcspn(value, "=");

	if (mc_job_check_env_name(value, len, c->err) != 0)
		return -1;
	if (value[len] == '=') {
		mc_strv_set_pair(env, value);
		return 0;
	}
	const char *now = getenv(value);
	if (now == NULL)
		return mc_err_set(c->err, "-x %s: there is no such variable in mcrun's environment; give -x %s=VALUE",
				  value, value);
	mc_strv_set(env, value, now);
	return 0;
}

static int take_setting(struct cli *c, const char *name, const char *value)
{
	mc_strv_set(&c->job->env, name, value);
	return 0;
}

static int take_name(char **to, const char *value)
{
	free(*to);
	*to = mc_xstrdup(value);
	return 0;
}

/* Where the ranks run, and how they are reached there. */
static int take_place(struct cli *c, const struct option_row *o, const char *value)
{
	switch (o->id) {
	case OPT_ENGINE:
		return mc_job_set_engine(c->job, value, c->err);
	case OPT_HOSTS:
		return mc_job_set_hosts(c->job, value, c->err);
	case OPT_HOSTFILE:
		return mc_job_set_hostfile(c->job, value, c->err);
	case OPT_MAP:
		return mc_job_add_map(c->job, value, c->err);
	case OPT_HEAD:
		return mc_job_set_head(c->job, value, c->err);
	case OPT_BEAT:
		return mc_job_set_beat(c->job, value, c->err);
	case OPT_AGENT:
		c->job->agent = true;
		return 0;
	default:
		return -1;
	}
}

static int take_option(struct cli *c, const struct option_row *o, const char *value)
{
	switch (o->id) {
	case OPT_PREFILL:
		return take_count(c, o, value, &c->prefill, &c->prefill_given);
	case OPT_DECODE:
		return take_count(c, o, value, &c->decode, &c->decode_given);
	case OPT_N:
		return take_count(c, o, value, &c->plain, &c->plain_given);
	case OPT_ROLE:
		return take_role(c, value);
	case OPT_X:
		return take_env(c, value);
	case OPT_TRANSPORT:
		return take_setting(c, "MC_TRANSPORT", value);
	case OPT_BACKEND:
		return take_setting(c, "MC_BACKEND", value);
	case OPT_TIMEOUT:
		return mc_job_set_timeout(c->job, value, c->err);
	case OPT_GRACE:
		return mc_job_set_grace(c->job, value, c->err);
	case OPT_OUTPUT:
		return mc_job_set_output(c->job, value, c->err);
	case OPT_BIND:
		return mc_job_set_bind(c->job, value, c->err);
	case OPT_FAIL:
		return mc_job_set_fail(c->job, value, c->err);
	case OPT_RDMA_LIMIT:
		return mc_job_add_rdma_limit(c->job, value, c->err);
	case OPT_CONFIG:
		return take_name(&c->job->config, value);
	case OPT_PRINT:
		return mc_job_set_print(c->job, value, c->err);
	case OPT_IMAGE:
		return take_name(&c->job->image, value);
	case OPT_RESOURCE:
		return mc_job_add_resource(c->job, value, c->err);
	case OPT_DRY:
		c->job->dry_run = true;
		return 0;
	case OPT_VERBOSE:
		c->job->verbose = true;
		return 0;
	case OPT_VERSION:
		c->result = MC_CLI_VERSION;
		return 0;
	case OPT_HELP:
		c->result = MC_CLI_HELP;
		return 0;
	default:
		return take_place(c, o, value);
	}
}

/* Options up to the program's name. */
static int take_options(struct cli *c)
{
	while (c->at < c->argc) {
		const char *word = c->argv[c->at], *value;

		if (strcmp(word, "--") == 0) {
			c->at++;
			return 0;
		}
		if (word[0] != '-' || word[1] == '\0')
			return 0;
		const struct option_row *o = next_option(c, &value);
		if (o == NULL || take_option(c, o, value) != 0)
			return -1;
		if (c->result != MC_CLI_RUN)
			return 0;
	}
	return 0;
}

/* One program per --role, each up to a word ":" of its own. */
static int take_role_programs(struct cli *c)
{
	while (c->role != NULL) {
		while (c->at < c->argc && strcmp(c->argv[c->at], ":") != 0)
			mc_strv_add(&c->role->argv, c->argv[c->at++]);
		if (c->role->argv.n == 0 && c->job->config == NULL)
			return mc_err_set(c->err, "role %s has no program; --role NAME:N is followed by its program",
					  c->role->name);
		if (c->at == c->argc)
			return 0;
		c->at++; /* the ":" */
		c->role = NULL;
		if (take_options(c) != 0 || c->result != MC_CLI_RUN)
			return c->result != MC_CLI_RUN ? 0 : -1;
		if (c->role == NULL)
			return mc_err_set(c->err, "after \" : \" there must be another --role NAME:N PROGRAM");
	}
	return 0;
}

static int take_roles(struct cli *c)
{
	bool pd = c->prefill_given || c->decode_given;

	if (pd + c->plain_given + (c->job->role_n > 0) > 1)
		return mc_err_set(c->err, "--prefill/--decode, --role and -n exclude each other; give one kind");
	if (c->job->role_n > 0)
		return take_role_programs(c);
	if (c->prefill_given)
		(void)mc_job_role_add(c->job, "prefill", c->prefill);
	if (c->decode_given)
		(void)mc_job_role_add(c->job, "decode", c->decode);
	if (c->plain_given)
		(void)mc_job_role_add(c->job, "", c->plain);
	for (; c->at < c->argc; c->at++)
		mc_strv_add(&c->job->program, c->argv[c->at]);
	return 0;
}

enum mc_cli_result mc_cli_parse(int argc, char **argv, struct mc_job *job, struct mc_err *err)
{
	struct cli c = {.argc = argc, .at = 1, .argv = argv, .job = job, .err = err, .result = MC_CLI_RUN};

	if (take_options(&c) != 0)
		return MC_CLI_BAD;
	if (c.result == MC_CLI_RUN && take_roles(&c) != 0)
		return MC_CLI_BAD;
	return c.result;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* mcrun.c - the launcher: read what is asked, check all of it, then run it. Bad input ends with one line and code 2. */
#include "agent.h"
#include "cli.h"
#include "jobenv.h"
#include "place.h"
#include "print.h"
#include "run.h"
#include "tmpdir.h"

#include <mc.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

#define CODE_USAGE 2

static int fail(const struct mc_err *err)
{
	(void)fprintf(stderr, "mcrun: %s\n", err->text);
	return CODE_USAGE;
}

/* Started with 0, 1 or 2 closed, our pipes would land there and be taken for the terminal. */
static void open_std(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		(void)close(fd);
}

static char *self_path(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	path[n < 0 ? 0 : n] = '\0';
	return mc_xstrdup(path);
}

/* Where mcrun itself lies: programs of this package are found there without PATH. */
static char *self_dir(void)
{
	char *path = self_path(), *slash = strrchr(path, '/');

	if (slash == NULL) {
		free(path);
		return mc_xstrdup(".");
	}
	*slash = '\0';
	return path;
}

/* The bytes of our command line as ps shows it. */
static size_t title_room(int argc, char **argv)
{
	char *end = argv[0];

	for (int i = 0; i < argc && argv[i] == end; i++)
		end = argv[i] + strlen(argv[i]) + 1;
	return (size_t)(end - argv[0]);
}

static void print_word(const char *w)
{
	if (*w != '\0' &&
	    strspn(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%") == strlen(w)) {
		(void)printf(" %s", w);
		return;
	}
	(void)printf(" '");
	for (; *w != '\0'; w++) {
		if (*w == '\'')
			(void)printf("'\\''");
		else
			(void)putchar(*w);
	}
	(void)printf("'");
}

/* What differs from mcrun's own environment, the key hidden. */
static void print_env(const struct mc_strv *env)
{
	for (size_t i = 0; i < env->n; i++) {
		bool same = false;

		for (char **p = environ; *p != NULL && !same; p++)
			same = strcmp(*p, env->v[i]) == 0;
		if (same)
			continue;
		if (strncmp(env->v[i], "MC_JOB_KEY=", 11) == 0)
			(void)printf(" MC_JOB_KEY=(hidden)");
		else
			print_word(env->v[i]);
	}
}

static void print_carrier(const struct mc_run_cfg *c)
{
	struct mc_engine_cfg e = {.job = c->job, .hosts = c->hosts, .self_path = c->self_path};

	(void)printf("mcrun: would start %u ranks on %u hosts with engine %s, %s\n", c->job->rank_n, c->hosts->n,
		     c->engine->name,
		     mc_engine_agents(c->job) ? "one agent per host" : "which starts the ranks itself");
	mc_engine_print(c->engine, &e);
}

static void dry_run(const struct mc_run_cfg *c)
{
	if (c->hosts == NULL)
		(void)printf("mcrun: would start %u ranks on host %s with engine %s\n", c->job->rank_n, c->host,
			     c->engine->name);
	else
		print_carrier(c);
	for (size_t i = 0; i < c->job->rdma_limit_n; i++) {
		char line[160];

		mc_rdmacg_limit_text(&c->job->rdma_limit[i], line, sizeof(line));
		(void)printf("in a cgroup of its own with rdma.max %s\n", line);
	}
	for (uint32_t r = 0; r < c->job->rank_n; r++) {
		struct mc_job_place p = mc_job_place(c->job, r);
		const struct mc_job_role *role = &c->job->role[p.role];
		char label[MC_JOB_LABEL_MAX], bind[512];

		mc_job_label(c->job, r, label);
		mc_bind_text(c->bind, r, bind, sizeof(bind));
		(void)printf("rank %u [%s]", r, label);
		if (c->hosts != NULL)
			(void)printf(" host %s", c->hosts->host[c->hosts->of_rank[r]].name);
		(void)printf(" bind %s env", c->hosts != NULL && c->job->bind != MC_BIND_NONE ? "there" : bind);
		print_env(&c->role_env[p.role]);
		(void)printf(" run");
		print_word(role->path);
		for (size_t i = 1; i < role->argv.n; i++)
			print_word(role->argv.v[i]);
		(void)printf("\n");
	}
}

static int load_job(struct mc_job *job, struct mc_job *cli, struct mc_err *err)
{
	if (cli->config != NULL && mc_job_load(job, cli->config, err) != 0)
		return -1;
	mc_job_merge(job, cli);
	char *dir = self_dir();
	int rc = mc_job_finish(job, dir, err);
	free(dir);
	return rc;
}

static int check_output_dir(const struct mc_job *job, struct mc_err *err)
{
	struct stat st;

	if (job->output != MC_OUTPUT_DIR)
		return 0;
	if (stat(job->output_dir, &st) != 0) {
		if (errno != ENOENT)
			return mc_err_set(err, "output directory %s: %s", job->output_dir, strerror(errno));
		char *parent = mc_xstrdup(job->output_dir);
		char *slash = strrchr(parent, '/');
		if (slash != NULL)
			*(slash == parent ? slash + 1 : slash) = '\0';
		int rc = access(slash != NULL ? parent : ".", W_OK | X_OK);
		if (rc != 0)
			(void)mc_err_set(err, "cannot make the output directory %s: %s", job->output_dir,
					 strerror(errno));
		free(parent);
		return rc;
	}
	if (!S_ISDIR(st.st_mode))
		return mc_err_set(err, "output is %s, which is not a directory (tag and merge are the other choices)",
				  job->output_dir);
	if (access(job->output_dir, W_OK | X_OK) != 0)
		return mc_err_set(err, "output directory %s: %s", job->output_dir, strerror(errno));
	return 0;
}

/* By doing it: who may write is not told by permissions alone (read-only mounts, /proc, quotas). */
static int check_temp_base(const char *base, struct mc_err *err)
{
	char *path;

	if (mc_tmpdir_create(base, &path, err) != 0)
		return -1;
	(void)mc_tmpdir_remove(path);
	free(path);
	return 0;
}

static const char *temp_base(void)
{
	const char *t = getenv("TMPDIR");

	return t != NULL && *t != '\0' ? t : "/tmp";
}

static int open_places(const struct mc_job *job, struct mc_bind *bind, struct mc_strv *env, struct mc_err *err)
{
	if (mc_place_check_xml(job, env, err) != 0 || mc_bind_open(bind, job->bind, "/sys", err) != 0)
		return -1;
	return mc_place_open(bind, job, env, err);
}

/* Everything that can be known to be wrong before anything starts. */
static int prepare(struct mc_run_cfg *c, struct mc_bind *bind, struct mc_hosts *hosts, struct mc_strv **env,
		   struct mc_err *err)
{
	const struct mc_job *job = c->job;

	c->engine = mc_engine_choose(job, hosts, err);
	if (c->engine == NULL)
		return -1;
	c->hosts = hosts->n > 0 ? hosts : NULL;
	if (check_temp_base(c->tmp_base, err) != 0 || check_output_dir(job, err) != 0 ||
	    mc_env_build(job, c->engine->name, c->hosts != NULL && !mc_engine_agents(job), environ, env, err) != 0 ||
	    mc_env_check(job, *env, err) != 0 || (c->hosts == NULL && open_places(job, bind, *env, err) != 0))
		return -1;
	c->bind = bind;
	c->role_env = *env;
	if (c->hosts == NULL && job->bind == MC_BIND_CORE && job->rank_n > bind->place_n)
		(void)fprintf(stderr, "mcrun: %u ranks share %u cores; several are bound to the same one\n",
			      job->rank_n, bind->place_n);
	return 0;
}

/* With a cgroup around the ranks, if limits are asked for. */
static int run_limited(struct mc_run_cfg *c)
{
	struct mc_rdmacg_job cgroup;
	struct mc_err err;

	if (c->job->rdma_limit_n == 0 || c->hosts != NULL) /* elsewhere the agents see to it */
		return mc_run(c);
	if (mc_rdmacg_create("", c->job->rdma_limit, c->job->rdma_limit_n, &cgroup, &err) != 0)
		return fail(&err);
	c->cgroup = &cgroup;
	int code = mc_run(c);
	int e = mc_rdmacg_remove(&cgroup); /* the guard has done it, unless it was killed */
	if (e != 0)
		(void)fprintf(stderr, "mcrun: cannot remove the cgroup %s: %s; remove it with rmdir\n", cgroup.dir,
			      strerror(e));
	return code;
}

static int run_job(struct mc_job *job, char *title, size_t title_len, int64_t start_ns)
{
	char host[256] = "localhost";
	struct mc_strv *env = NULL;
	struct mc_hosts hosts = {0};
	struct mc_bind bind = {0};
	char *self = self_path();
	struct mc_err err;
	struct mc_run_cfg c = {
		.job = job,
		.host = host,
		.tmp_base = temp_base(),
		.self_path = self,
		.title = title,
		.title_len = title_len,
		.start_ns = start_ns,
	};
	int code = 0;

	(void)gethostname(host, sizeof(host) - 1);
	if (prepare(&c, &bind, &hosts, &env, &err) != 0) {
		code = fail(&err);
	} else if (job->dry_run) {
		dry_run(&c);
	} else {
		mc_env_drop_traces(
			environ); /* the PMIx server in us must not take itself for a rank of a launcher above */
		code = run_limited(&c);
	}
	for (size_t i = 0; i < job->role_n && env != NULL; i++)
		mc_strv_free(&env[i]);
	free(env);
	mc_bind_close(&bind);
	mc_hosts_free(&hosts);
	free(self);
	return code;
}

int main(int argc, char **argv)
{
	int64_t start_ns = mc_now_ns();
	struct mc_job job, cli;
	struct mc_err err;
	int code = 0;

	open_std();
	if (argc == 2 && strcmp(argv[1], "--as-agent") == 0)
		_exit(mc_agent(argv[0], title_room(argc, argv)));
	mc_job_init(&job);
	mc_job_init(&cli);
	size_t room = title_room(argc, argv);
	switch (mc_cli_parse(argc, argv, &cli, &err)) {
	case MC_CLI_HELP:
		(void)fputs(mc_cli_help, stdout);
		break;
	case MC_CLI_VERSION:
		(void)printf("mcrun (mc) %s\n", mc_version());
		break;
	case MC_CLI_BAD:
		code = fail(&err);
		break;
	case MC_CLI_RUN:
		if (load_job(&job, &cli, &err) != 0)
			code = fail(&err);
		else if (job.print != NULL)
			code = mc_print(&job, stdout, &err) != 0 ? fail(&err) : 0;
		else
			code = run_job(&job, argv[0], room, start_ns);
		break;
	}
	mc_job_free(&cli);
	mc_job_free(&job);
	if (fflush(stdout) != 0 && code == 0) {
		(void)fprintf(stderr, "mcrun: cannot write the output: %s\n", strerror(errno));
		code = 1;
	}
	_exit(code); /* without exit handlers: libpmix's thread may still be at work */
}

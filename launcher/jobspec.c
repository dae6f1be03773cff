/* SPDX-License-Identifier: BSD-3-Clause */
#include "jobspec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

void mc_job_init(struct mc_job *job)
{
	*job = (struct mc_job){.grace_ns = MC_JOB_GRACE_NS, .beat_ns = MC_JOB_BEAT_NS, .restart_max = MC_JOB_RESTARTS};
}

static void role_free(struct mc_job_role *r)
{
	free(r->name);
	free(r->path);
	mc_strv_free(&r->argv);
	mc_strv_free(&r->env);
}

void mc_job_free(struct mc_job *job)
{
	for (size_t i = 0; i < job->role_n; i++)
		role_free(&job->role[i]);
	free(job->role);
	mc_strv_free(&job->program);
	mc_strv_free(&job->env);
	mc_strv_free(&job->settings);
	mc_strv_free(&job->resource);
	mc_strv_free(&job->map);
	free(job->hosts);
	free(job->hostfile);
	free(job->head_address);
	free(job->rdma_limit);
	free(job->print);
	free(job->image);
	free(job->output_dir);
	free(job->engine);
	free(job->config);
	mc_job_init(job);
}

struct mc_job_role *mc_job_role_add(struct mc_job *job, const char *name, uint32_t n)
{
	job->role = mc_xgrow(job->role, job->role_n + 1, sizeof(*job->role));
	struct mc_job_role *r = &job->role[job->role_n++];
	*r = (struct mc_job_role){.name = mc_xstrdup(name), .n = n};
	return r;
}

/* Index of value in list [n]; -1: not there, sentence written. */
static int choose(const char *what, const char *value, const char *const *list, size_t n, struct mc_err *err)
{
	char all[128] = "", hint[80];

	for (size_t i = 0; i < n; i++) {
		if (strcmp(value, list[i]) == 0)
			return (int)i;
		size_t at = strlen(all);
		(void)snprintf(all + at, sizeof(all) - at, "%s%s", i == 0 ? "" : i + 1 == n ? " or " : ", ", list[i]);
	}
	mc_text_hint(hint, sizeof(hint), value, list, n);
	return mc_err_set(err, "%s is \"%s\", but must be %s%s", what, value, all, hint);
}

int mc_job_set_output(struct mc_job *job, const char *value, struct mc_err *err)
{
	free(job->output_dir);
	job->output_dir = NULL;
	if (*value == '\0')
		return mc_err_set(err, "output is empty, but must be tag, merge or a directory");
	if (strcmp(value, "tag") == 0) {
		job->output = MC_OUTPUT_TAG;
	} else if (strcmp(value, "merge") == 0) {
		job->output = MC_OUTPUT_MERGE;
	} else {
		job->output = MC_OUTPUT_DIR;
		job->output_dir = mc_xstrdup(value);
		for (size_t len = strlen(value); len > 1 && value[len - 1] == '/'; len--)
			job->output_dir[len - 1] = '\0';
	}
	job->given |= MC_GIVEN_OUTPUT;
	return 0;
}

int mc_job_set_bind(struct mc_job *job, const char *value, struct mc_err *err)
{
	static const char *const list[] = {"none", "core", "numa"};
	int i = choose("bind", value, list, 3, err);

	if (i < 0)
		return -1;
	job->bind = (enum mc_bind_mode)i;
	job->given |= MC_GIVEN_BIND;
	return 0;
}

int mc_job_set_fail(struct mc_job *job, const char *value, struct mc_err *err)
{
	static const char *const list[] = {"abort", "continue", "restart"};
	const char *colon = strchr(value, ':');
	uint32_t n = MC_JOB_RESTARTS;

	if (colon != NULL && colon - value == 7 && memcmp(value, "restart", 7) == 0) {
		if (!mc_text_count(colon + 1, &n) || n == 0)
			return mc_err_set(err,
					  "on-failure is \"%s\", but restart:N needs a number of restarts, 1 or more",
					  value);
		value = "restart";
	}
	int i = choose("on-failure", value, list, 3, err);
	if (i < 0)
		return -1;
	job->fail = (enum mc_fail_mode)i;
	job->restart_max = n;
	job->given |= MC_GIVEN_FAIL;
	return 0;
}

int mc_job_set_engine(struct mc_job *job, const char *value, struct mc_err *err)
{
	static const char *const list[] = {"auto", "local", "slurm", "openmpi", "prrte"};

	if (choose("engine", value, list, 5, err) < 0)
		return -1;
	free(job->engine);
	job->engine = mc_xstrdup(value);
	job->given |= MC_GIVEN_ENGINE;
	return 0;
}

int mc_job_set_timeout(struct mc_job *job, const char *value, struct mc_err *err)
{
	if (!mc_text_seconds(value, &job->timeout_ns) || job->timeout_ns == 0)
		return mc_err_set(err, "timeout is \"%s\", but must be seconds above 0, e.g. 60 or 0.5", value);
	job->given |= MC_GIVEN_TIMEOUT;
	return 0;
}

int mc_job_set_grace(struct mc_job *job, const char *value, struct mc_err *err)
{
	if (!mc_text_seconds(value, &job->grace_ns))
		return mc_err_set(err, "grace is \"%s\", but must be seconds, e.g. 5 or 0.5; 0 kills at once", value);
	job->given |= MC_GIVEN_GRACE;
	return 0;
}

int mc_job_set_hosts(struct mc_job *job, const char *value, struct mc_err *err)
{
	if (*value == '\0')
		return mc_err_set(err, "hosts is empty, but must be NAME[:SLOTS],...");
	free(job->hosts);
	job->hosts = mc_xstrdup(value);
	return 0;
}

int mc_job_set_hostfile(struct mc_job *job, const char *value, struct mc_err *err)
{
	if (*value == '\0')
		return mc_err_set(err, "hostfile is empty, but must name a file");
	free(job->hostfile);
	job->hostfile = mc_xstrdup(value);
	return 0;
}

int mc_job_add_map(struct mc_job *job, const char *value, struct mc_err *err)
{
	for (;; value++) {
		size_t len = strcspn(value, ",");
		const char *eq = memchr(value, '=', len);

		if (eq == NULL || eq == value || eq == value + len - 1)
			return mc_err_set(err,
					  "map is \"%.80s\", but must be ROLE=HOST or ROLE=HOST:N, separated by commas",
					  value);
		char *item = mc_xformat("%.*s", (int)len, value);
		mc_strv_add(&job->map, item);
		free(item);
		value += len;
		if (*value == '\0')
			return 0;
	}
}

int mc_job_set_head(struct mc_job *job, const char *value, struct mc_err *err)
{
	if (*value == '\0' || strlen(value) > 255)
		return mc_err_set(err, "head-address is \"%.80s\", but must be a name or address of this host", value);
	free(job->head_address);
	job->head_address = mc_xstrdup(value);
	return 0;
}

int mc_job_set_beat(struct mc_job *job, const char *value, struct mc_err *err)
{
	if (!mc_text_seconds(value, &job->beat_ns) || job->beat_ns < MC_NS_PER_S / 20 ||
	    job->beat_ns > 600 * MC_NS_PER_S)
		return mc_err_set(err, "heartbeat is \"%s\", but must be seconds from 0.05 to 600", value);
	job->given |= MC_GIVEN_BEAT;
	return 0;
}

int mc_job_set_print(struct mc_job *job, const char *value, struct mc_err *err)
{
	static const char *const list[] = {"k8s", "sbatch"};

	if (choose("print", value, list, 2, err) < 0)
		return -1;
	free(job->print);
	job->print = mc_xstrdup(value);
	return 0;
}

/* A second limit for the same device replaces the first. */
int mc_job_add_rdma_limit(struct mc_job *job, const char *value, struct mc_err *err)
{
	struct mc_rdmacg_limit l;
	size_t i = 0;

	if (mc_rdmacg_limit_parse(value, &l, err) != 0)
		return -1;
	while (i < job->rdma_limit_n && strcmp(job->rdma_limit[i].dev, l.dev) != 0)
		i++;
	if (i == job->rdma_limit_n)
		job->rdma_limit = mc_xgrow(job->rdma_limit, ++job->rdma_limit_n, sizeof(*job->rdma_limit));
	job->rdma_limit[i] = l;
	return 0;
}

/* A number and a unit such as Gi or m. */
static bool is_amount(const char *s)
{
	size_t number = strspn(s, "0123456789."), unit = strlen(s + number);

	return s[0] >= '0' && s[0] <= '9' && number <= 20 && unit <= 2 && strspn(s + number, "kKMGTPEim") == unit;
}

int mc_job_add_resource(struct mc_job *job, const char *value, struct mc_err *err)
{
	size_t name = strcspn(value, "=");
	uint32_t nodes;

	if (strncmp(value, "nodes=", 6) == 0 && (!mc_text_count(value + 6, &nodes) || nodes == 0))
		return mc_err_set(err, "resource is \"%.60s\", but the number of nodes must be 1 or more", value);
	if (name == 0 || name > 253 || value[name] != '=' || !is_amount(value + name + 1) ||
	    strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./") != name)
		return mc_err_set(err, "resource is \"%.60s\", but must be NAME=AMOUNT, e.g. rdma/hca=1 or memory=64Gi",
				  value);
	mc_strv_set_pair(&job->resource, value);
	return 0;
}

int mc_job_check_env_name(const char *name, size_t len, struct mc_err *err)
{
	static const char *const own[] = {"MC_ROLE",   "MC_JOB_KEY",     "MC_LAUNCHER",
					  "MC_REJOIN", "PMIX_NAMESPACE", "PMIX_RANK"};

	if (!mc_text_env_name(name, len))
		return mc_err_set(err, "\"%.*s\" cannot name an environment variable: letters, digits and _ only",
				  (int)(len > 200 ? 200 : len), name);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (strlen(own[i]) == len && memcmp(own[i], name, len) == 0)
			return mc_err_set(err, "%s is set by mcrun itself for each rank and cannot be given", own[i]);
	return 0;
}

int mc_job_check_role_name(const char *name, struct mc_err *err)
{
	size_t len = strlen(name);

	if (len == 0 || len > MC_JOB_ROLE_MAX ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != len)
		return mc_err_set(err, "role name \"%.60s\" must be 1 to %d letters, digits, - or _", name,
				  MC_JOB_ROLE_MAX);
	if (strcmp(name, "none") == 0)
		return mc_err_set(err, "role name \"none\" is what ranks without a role have; use -n N for these");
	return 0;
}

static void take(char **to, char **from)
{
	free(*to);
	*to = *from;
	*from = NULL;
}

static struct mc_job_role *role_named(struct mc_job *job, const char *name)
{
	for (size_t i = 0; i < job->role_n; i++)
		if (strcmp(job->role[i].name, name) == 0)
			return &job->role[i];
	return NULL;
}

/* Roles of the command line replace those of the file, but keep the program and environment of the same name there. */
static void merge_roles(struct mc_job *file, struct mc_job *cli)
{
	for (size_t i = 0; i < cli->role_n; i++) {
		struct mc_job_role *c = &cli->role[i], *f = role_named(file, c->name);

		if (f == NULL)
			continue;
		if (c->argv.n == 0 && cli->program.n == 0)
			mc_strv_copy(&c->argv, &f->argv);
		struct mc_strv own = c->env;
		c->env = (struct mc_strv){0};
		mc_strv_copy(&c->env, &f->env);
		for (size_t k = 0; k < cli->env.n; k++)
			mc_strv_set_pair(&c->env, cli->env.v[k]);
		for (size_t k = 0; k < own.n; k++)
			mc_strv_set_pair(&c->env, own.v[k]);
		mc_strv_free(&own);
	}
	for (size_t i = 0; i < file->role_n; i++)
		role_free(&file->role[i]);
	free(file->role);
	file->role = cli->role;
	file->role_n = cli->role_n;
	cli->role = NULL;
	cli->role_n = 0;
}

/* Where to run. A list of hosts on the command line takes the place of a file of them in the job file, and the other
 * way round. */
static void merge_places(struct mc_job *file, struct mc_job *cli)
{
	if (cli->hosts != NULL || cli->hostfile != NULL) {
		take(&file->hosts, &cli->hosts);
		take(&file->hostfile, &cli->hostfile);
	}
	if (cli->map.n > 0) {
		mc_strv_free(&file->map);
		file->map = cli->map;
		cli->map = (struct mc_strv){0};
	}
	if (cli->head_address != NULL)
		take(&file->head_address, &cli->head_address);
	file->agent |= cli->agent;
}

void mc_job_merge(struct mc_job *file, struct mc_job *cli)
{
	if (cli->role_n > 0) {
		merge_roles(file, cli);
	} else {
		for (size_t i = 0; i < file->role_n; i++) {
			for (size_t k = 0; k < cli->env.n; k++)
				mc_strv_set_pair(&file->role[i].env, cli->env.v[k]);
			if (cli->program.n > 0)
				mc_strv_free(&file->role[i].argv);
		}
	}
	if (cli->program.n > 0) {
		mc_strv_free(&file->program);
		file->program = cli->program;
		cli->program = (struct mc_strv){0};
	}
	for (size_t k = 0; k < cli->env.n; k++)
		mc_strv_set_pair(&file->env, cli->env.v[k]);
	if (cli->given & MC_GIVEN_OUTPUT) {
		file->output = cli->output;
		take(&file->output_dir, &cli->output_dir);
	}
	if (cli->given & MC_GIVEN_BIND)
		file->bind = cli->bind;
	if (cli->given & MC_GIVEN_FAIL) {
		file->fail = cli->fail;
		file->restart_max = cli->restart_max;
	}
	if (cli->given & MC_GIVEN_BEAT)
		file->beat_ns = cli->beat_ns;
	merge_places(file, cli);
	if (cli->given & MC_GIVEN_ENGINE)
		take(&file->engine, &cli->engine);
	if (cli->given & MC_GIVEN_TIMEOUT)
		file->timeout_ns = cli->timeout_ns;
	if (cli->given & MC_GIVEN_GRACE)
		file->grace_ns = cli->grace_ns;
	if (cli->rdma_limit_n > 0) {
		free(file->rdma_limit);
		file->rdma_limit = cli->rdma_limit;
		file->rdma_limit_n = cli->rdma_limit_n;
		cli->rdma_limit = NULL;
		cli->rdma_limit_n = 0;
	}
	take(&file->print, &cli->print);
	take(&file->image, &cli->image);
	for (size_t k = 0; k < cli->resource.n; k++)
		mc_strv_set_pair(&file->resource, cli->resource.v[k]);
	file->given |= cli->given;
	file->dry_run |= cli->dry_run;
	file->verbose |= cli->verbose;
	take(&file->config, &cli->config);
	mc_job_free(cli);
}

/* 0: path names a file that can be started; else the errno that says why not (EISDIR, EACCES, ENOENT, ...). */
static int try_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return errno;
	if (S_ISDIR(st.st_mode))
		return EISDIR;
	if (!S_ISREG(st.st_mode) || access(path, X_OK) != 0)
		return EACCES;
	return 0;
}

/* Look along PATH, then in self_dir; returns the path or NULL, with *why the most telling failure. */
static char *search_program(const char *name, const char *self_dir, int *why)
{
	const char *p = getenv("PATH");

	*why = ENOENT;
	for (p = p == NULL ? "/usr/bin:/bin" : p;; p++) {
		size_t len = strcspn(p, ":");
		char *path = mc_xformat("%.*s/%s", len == 0 ? 1 : (int)len, len == 0 ? "." : p, name);
		int e = try_program(path);

		if (e == 0)
			return path;
		free(path);
		if (e == EACCES)
			*why = e;
		p += len;
		if (*p == '\0')
			break;
	}
	char *path = mc_xformat("%s/%s", self_dir, name);
	int e = try_program(path);
	if (e == 0)
		return path;
	free(path);
	return NULL;
}

static int find_program(struct mc_job_role *r, const char *self_dir, struct mc_err *err)
{
	const char *name = r->argv.v[0];
	int e = 0;

	if (*name == '\0')
		return mc_err_set(err, "the program's name is empty");
	if (strchr(name, '/') == NULL) {
		r->path = search_program(name, self_dir, &e);
		if (r->path != NULL)
			return 0;
		if (e == ENOENT)
			return mc_err_set(err, "program %s not found in PATH nor in %s; give its path, e.g. ./%s", name,
					  self_dir, name);
	} else {
		e = try_program(name);
		if (e == 0) {
			r->path = mc_xstrdup(name);
			return 0;
		}
	}
	if (e == ENOENT || e == ENOTDIR)
		return mc_err_set(err, "program %s not found", name);
	if (e == EISDIR)
		return mc_err_set(err, "program %s is a directory", name);
	if (e == EACCES)
		return mc_err_set(err, "program %s is not executable; chmod +x it", name);
	return mc_err_set(err, "program %s: %s", name, strerror(e));
}

static uint64_t read_number(const char *file)
{
	unsigned long long v = UINT64_MAX;
	FILE *f = fopen(file, "re");

	if (f == NULL)
		return UINT64_MAX;
	if (fscanf(f, "%llu", &v) != 1)
		v = UINT64_MAX;
	(void)fclose(f);
	return v;
}

static int check_limits(const struct mc_job *job, struct mc_err *err)
{
	struct rlimit files = {0}, procs = {0};
	uint64_t pids = read_number("/proc/sys/kernel/pid_max");
	uint64_t need = 64 + (uint64_t)job->rank_n * 2;

	if (job->rank_n > MC_JOB_RANK_MAX)
		return mc_err_set(err, "%u ranks asked for; mcrun starts at most %u on one host", job->rank_n,
				  MC_JOB_RANK_MAX);
	if (job->rank_n >= pids)
		return mc_err_set(err,
				  "%u ranks asked for, but this host has only %llu process numbers (kernel.pid_max)",
				  job->rank_n, (unsigned long long)pids);
	if (getrlimit(RLIMIT_NPROC, &procs) == 0 && procs.rlim_cur != RLIM_INFINITY && geteuid() != 0 &&
	    job->rank_n >= procs.rlim_cur)
		return mc_err_set(err,
				  "%u ranks asked for, but you may run %llu processes (raise ulimit -u) "
				  "[process-limit, see mcinfo doctor]",
				  job->rank_n, (unsigned long long)procs.rlim_cur);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max != RLIM_INFINITY && need > files.rlim_max)
		return mc_err_set(err,
				  "%u ranks need %llu open files in mcrun, but the limit is %llu (raise ulimit -Hn) "
				  "[open-files, see mcinfo doctor]",
				  job->rank_n, (unsigned long long)need, (unsigned long long)files.rlim_max);
	return 0;
}

static int finish_role(struct mc_job *job, struct mc_job_role *r, const char *self_dir, struct mc_err *err)
{
	char of[64] = "";

	if (*r->name != '\0')
		(void)snprintf(of, sizeof(of), " of role %s", r->name);
	if (r->n == 0)
		return mc_err_set(err, "the number of ranks%s is 0; at least 1 is needed", of);
	if (r->argv.n == 0)
		mc_strv_copy(&r->argv, &job->program);
	if (r->argv.n == 0)
		return mc_err_set(err, "no program%s given; see mcrun --help", of);
	if (job->print != NULL) { /* it runs elsewhere and need not be here */
		r->path = mc_xstrdup(r->argv.v[0]);
		return 0;
	}
	return find_program(r, self_dir, err);
}

int mc_job_finish(struct mc_job *job, const char *self_dir, struct mc_err *err)
{
	uint64_t total = 0;

	if (job->role_n == 0)
		return mc_err_set(
			err, "how many ranks? Give --prefill P --decode D, --role NAME:N, or -n N; see mcrun --help");
	for (size_t i = 0; i < job->role_n; i++) {
		for (size_t k = 0; k < i; k++)
			if (strcmp(job->role[i].name, job->role[k].name) == 0)
				return mc_err_set(err, "role %s is given twice", job->role[i].name);
		if (finish_role(job, &job->role[i], self_dir, err) != 0)
			return -1;
		total += job->role[i].n;
	}
	job->rank_n = total > UINT32_MAX ? UINT32_MAX : (uint32_t)total;
	return job->print != NULL ? 0 : check_limits(job, err);
}

struct mc_job_place mc_job_place(const struct mc_job *job, uint32_t rank)
{
	struct mc_job_place p = {0, rank};

	while (p.role + 1 < job->role_n && p.index >= job->role[p.role].n)
		p.index -= job->role[p.role++].n;
	return p;
}

void mc_job_label(const struct mc_job *job, uint32_t rank, char label[MC_JOB_LABEL_MAX])
{
	struct mc_job_place p = mc_job_place(job, rank);

	if (*job->role[p.role].name == '\0')
		(void)snprintf(label, MC_JOB_LABEL_MAX, "%u", rank);
	else
		(void)snprintf(label, MC_JOB_LABEL_MAX, "%s.%u", job->role[p.role].name, p.index);
}

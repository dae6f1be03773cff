/* SPDX-License-Identifier: BSD-3-Clause */
#include "carrier.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINES_KEPT 60

extern char **environ;

struct mc_carrier {
	pid_t pid; /* 0: ended and reaped */
	int status;
	bool asked; /* to end, by us: its code says nothing then */
	int epoll, pipe, child;
	char part[1024]; /* of a line */
	size_t part_n;
	struct mc_strv lines;
};

const char *mc_carrier_name(enum mc_carrier_kind kind)
{
	static const char *const name[] = {"srun", "mpirun", "prterun"};

	return name[kind];
}

char *mc_carrier_find(enum mc_carrier_kind kind)
{
	const char *p = getenv("PATH");

	for (p = p == NULL ? "/usr/bin:/bin" : p; *p != '\0'; p += *p == ':') {
		size_t len = strcspn(p, ":");
		char *path = mc_xformat("%.*s/%s", (int)len, p, mc_carrier_name(kind));

		if (len > 0 && access(path, X_OK) == 0)
			return path;
		free(path);
		p += len;
	}
	return NULL;
}

static void add_format(struct mc_strv *v, char *text)
{
	mc_strv_add(v, text);
	free(text);
}

/* One application context: n processes on one host, in the order of the ranks. */
static void add_context(const struct mc_carrier_cfg *c, struct mc_strv *argv, uint32_t host, uint32_t n,
			const char *role)
{
	mc_strv_add(argv, "-np");
	add_format(argv, mc_xformat("%u", n));
	mc_strv_add(argv, "-host");
	add_format(argv, mc_xformat("%s:%u", c->hosts->host[host].name, n));
	/* names without values: these come from the environment of the command, not from its words */
	mc_strv_add(argv, "-x");
	mc_strv_add(argv, "MC_JOB_KEY");
	mc_strv_add(argv, "-x");
	mc_strv_add(argv, "MCRUN_HEAD");
	mc_strv_add(argv, "-x");
	if (c->agents)
		add_format(argv, mc_xformat("MCRUN_NODE=%u", host));
	else
		add_format(argv, mc_xformat("MC_ROLE=%s", *role == '\0' ? "none" : role));
	mc_strv_add(argv, c->self);
	mc_strv_add(argv, "--as-agent");
}

static void add_contexts(const struct mc_carrier_cfg *c, struct mc_strv *argv)
{
	uint32_t r = 0;

	for (uint32_t h = 0; c->agents && h < c->hosts->n; h++) {
		if (h > 0)
			mc_strv_add(argv, ":");
		add_context(c, argv, h, 1, "");
	}
	while (!c->agents && r < c->job->rank_n) {
		uint32_t first = r, role = mc_job_place(c->job, r).role;

		while (r < c->job->rank_n && c->hosts->of_rank[r] == c->hosts->of_rank[first] &&
		       mc_job_place(c->job, r).role == role)
			r++;
		if (first > 0)
			mc_strv_add(argv, ":");
		add_context(c, argv, c->hosts->of_rank[first], r - first, c->job->role[role].name);
	}
}

static void mpi_command(const struct mc_carrier_cfg *c, struct mc_strv *argv)
{
	if (c->kind == MC_CARRIER_OPENMPI) {
		mc_strv_add(argv, "--oversubscribe");
	} else {
		mc_strv_add(argv, "--map-by");
		mc_strv_add(argv, "slot:oversubscribe");
	}
	mc_strv_add(argv, "--bind-to");
	mc_strv_add(argv, "none");
	add_contexts(c, argv);
}

static char *node_list(const struct mc_hosts *h)
{
	char *list = mc_xstrdup(h->host[0].name);

	for (uint32_t i = 1; i < h->n; i++) {
		char *longer = mc_xformat("%s,%s", list, h->host[i].name);

		free(list);
		list = longer;
	}
	return list;
}

static void slurm_command(const struct mc_carrier_cfg *c, struct mc_strv *argv, struct mc_strv *env)
{
	char *nodes = node_list(c->hosts);

	add_format(argv, mc_xformat("--mpi=%s", c->agents ? "none" : "pmix"));
	mc_strv_add(argv, "--export=ALL");
	mc_strv_add(argv, "--overlap");
	add_format(argv, mc_xformat("--nodes=%u", c->hosts->n));
	add_format(argv, mc_xformat("--ntasks=%u", c->agents ? c->hosts->n : c->job->rank_n));
	if (c->agents) {
		add_format(argv, mc_xformat("--nodelist=%s", nodes));
		mc_strv_add(argv, "--ntasks-per-node=1");
		mc_strv_add(argv, "--cpu-bind=none");
		mc_strv_add(argv, "--no-kill");
		mc_strv_add(argv, "--kill-on-bad-exit=0");
	} else { /* the file is the list of nodes, a line per task; srun takes only one list */
		mc_strv_add(argv, "--distribution=arbitrary");
		mc_strv_set(env, "SLURM_HOSTFILE", c->host_file);
	}
	mc_strv_add(argv, "--input=none");
	mc_strv_add(argv, c->self);
	mc_strv_add(argv, "--as-agent");
	free(nodes);
}

void mc_carrier_command(const struct mc_carrier_cfg *c, struct mc_strv *argv, struct mc_strv *env)
{
	char *path = mc_carrier_find(c->kind);

	mc_strv_add(argv, path != NULL ? path : mc_carrier_name(c->kind));
	free(path);
	mc_strv_set(env, "MCRUN_HEAD", c->head);
	mc_strv_set(env, "MC_JOB_KEY", c->key);
	if (c->kind == MC_CARRIER_SLURM) {
		slurm_command(c, argv, env);
		return;
	}
	if (geteuid() == 0) { /* whoever runs mcrun as root has decided that already */
		mc_strv_set(env, "OMPI_ALLOW_RUN_AS_ROOT", "1");
		mc_strv_set(env, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
		mc_strv_set(env, "PRTE_ALLOW_RUN_AS_ROOT", "1");
		mc_strv_set(env, "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
	}
	mpi_command(c, argv);
}

static int watch(int epoll, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
}

static pid_t spawn(const struct mc_carrier_cfg *cfg, int out, int *error)
{
	struct mc_strv argv = {0}, add = {0}, env = {0};
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	for (char **p = environ; *p != NULL; p++)
		mc_strv_add(&env, *p);
	mc_carrier_command(cfg, &argv, &add);
	for (size_t i = 0; i < add.n; i++)
		mc_strv_set_pair(&env, add.v[i]);
	/* SIGTERM when we vanish: it then ends what it has started */
	struct mc_spawn s = {
		.path = argv.v[0], .argv = argv.v, .env = env.v, .fd = {null, out, out}, .death_sig = SIGTERM};
	pid_t pid = mc_spawn(&s);
	*error = s.error;
	if (null >= 0)
		(void)close(null);
	mc_strv_free(&argv);
	mc_strv_free(&add);
	mc_strv_free(&env);
	return pid;
}

int mc_carrier_start(const struct mc_carrier_cfg *cfg, struct mc_carrier **out, struct mc_err *err)
{
	struct mc_carrier *c = mc_xalloc(1, sizeof(*c));
	sigset_t set;
	int fd[2], e = 0;

	if (pipe2(fd, O_CLOEXEC) != 0) {
		free(c);
		return mc_err_set(err, "cannot make a pipe: %s", strerror(errno));
	}
	(void)fcntl(fd[0], F_SETFL, O_NONBLOCK);
	c->pipe = fd[0];
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	c->child = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (c->child < 0 || c->epoll < 0 || watch(c->epoll, c->pipe) != 0 || watch(c->epoll, c->child) != 0)
		e = errno;
	if (e == 0)
		c->pid = spawn(cfg, fd[1], &e);
	(void)close(fd[1]);
	if (e != 0) {
		c->pid = 0;
		(void)mc_carrier_stop(c, 0);
		return mc_err_set(err, "cannot start %s: %s", mc_carrier_name(cfg->kind), strerror(e));
	}
	*out = c;
	return 0;
}

int mc_carrier_fd(const struct mc_carrier *c)
{
	return c->epoll;
}

static void keep_line(struct mc_carrier *c)
{
	while (c->part_n > 0 && c->part[c->part_n - 1] == '\r') /* of ssh on a terminal */
		c->part_n--;
	if (c->part_n == 0)
		return;
	c->part[c->part_n] = '\0';
	mc_strv_add(&c->lines, c->part);
	c->part_n = 0;
	if (c->lines.n > LINES_KEPT) {
		free(c->lines.v[0]);
		memmove(c->lines.v, c->lines.v + 1, c->lines.n * sizeof(*c->lines.v));
		c->lines.n--;
	}
}

static void read_lines(struct mc_carrier *c)
{
	char buf[4096];
	ssize_t n;

	while (c->pipe >= 0 && (n = read(c->pipe, buf, sizeof(buf))) != 0) {
		if (n < 0)
			return; /* nothing more for now */
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] != '\n' && buf[i] != '\0')
				c->part[c->part_n++] = buf[i];
			if (buf[i] == '\n' || c->part_n == sizeof(c->part) - 1)
				keep_line(c);
		}
	}
	if (c->pipe >= 0)
		(void)close(c->pipe); /* and so out of the epoll set */
	c->pipe = -1;
}

bool mc_carrier_ended(struct mc_carrier *c, int *status)
{
	struct signalfd_siginfo si;

	while (read(c->child, &si, sizeof(si)) == (ssize_t)sizeof(si))
		;
	read_lines(c);
	if (c->pid != 0 && waitpid(c->pid, &c->status, WNOHANG) == c->pid) {
		c->pid = 0;
		read_lines(c);
		keep_line(c);
	}
	*status = c->status;
	return c->pid == 0;
}

const struct mc_strv *mc_carrier_lines(const struct mc_carrier *c)
{
	return &c->lines;
}

void mc_carrier_signal(struct mc_carrier *c, int sig)
{
	if (c->pid != 0)
		(void)kill(c->pid, sig);
}

int mc_carrier_stop(struct mc_carrier *c, int64_t patience_ns)
{
	const struct timespec tick = {0, 5 * 1000 * 1000};
	static const int sig[3] = {0, SIGTERM, SIGKILL};
	int status = 0;

	if (c == NULL)
		return 0;
	for (int i = 0; i < 3 && c->pid != 0; i++) {
		int64_t until = mc_now_ns() + (i == 0 ? patience_ns : 5 * MC_NS_PER_S);

		if (sig[i] != 0) {
			c->asked = true;
			mc_carrier_signal(c, sig[i]);
		}
		while (!mc_carrier_ended(c, &status) && mc_now_ns() < until)
			(void)nanosleep(&tick, NULL);
	}
	if (c->pipe >= 0)
		(void)close(c->pipe);
	if (c->child >= 0)
		(void)close(c->child);
	if (c->epoll >= 0)
		(void)close(c->epoll);
	status = c->asked ? 0 : c->status;
	mc_strv_free(&c->lines);
	free(c);
	return status;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * launch.c - mcperf launch: from the start of the launcher until the last rank is past the first barrier, by mcrun and
 * by mpirun in turn. The ranks are this program; each tells on its standard output when it was past the barrier.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "args.h"
#include "commands.h"
#include "header.h"
#include "report.h"
#include "stats.h"

enum { RANKS_MAX = 4096, LIST_MAX = 32, LAUNCHERS = 2, OUT_MAX = 1 << 20 };
#define LAUNCH_NS INT64_C(120000000000)
static const char mark[] = "mcperf-launch-past-barrier";

struct launch_opts {
	uint64_t ranks[LIST_MAX], runs;
	uint32_t ranks_n;
	const char *json, *mcrun, *mpirun;
	bool child, help;
};

static void help(void)
{
	printf("usage: mcperf launch [options]              (not under mcrun: it starts mcrun and mpirun itself)\n"
	       "From the start of the launcher until the last rank is past the first barrier.\n\n"
	       "  --ranks LIST   default 2,16,64\n"
	       "  --runs N       of each launcher, in turn (default 5)\n"
	       "  --mcrun FILE   default: beside this program, else in PATH\n"
	       "  --mpirun FILE  default: in PATH; none: only mcrun\n"
	       "  --json FILE    one line per row; -: to stdout, the table then goes to stderr\n");
}

/* ---- options ------------------------------------------------------------------------------------------------- */

enum { OPT_RANKS = 256, OPT_RUNS, OPT_MCRUN, OPT_MPIRUN, OPT_JSON, OPT_CHILD, OPT_HELP };

static const struct option options[] = {
	{"ranks", required_argument, NULL, OPT_RANKS}, {"runs", required_argument, NULL, OPT_RUNS},
	{"mcrun", required_argument, NULL, OPT_MCRUN}, {"mpirun", required_argument, NULL, OPT_MPIRUN},
	{"json", required_argument, NULL, OPT_JSON},   {"child", no_argument, NULL, OPT_CHILD},
	{"help", no_argument, NULL, OPT_HELP},         {NULL, 0, NULL, 0},
};

static void parse_ranks(const char *s, struct launch_opts *o, struct perf_err *err)
{
	char copy[256], *save = NULL;

	o->ranks_n = 0;
	snprintf(copy, sizeof(copy), "%s", s);
	for (char *w = strtok_r(copy, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) {
		if (o->ranks_n == LIST_MAX || !perf_parse_u64(w, 1, RANKS_MAX, &o->ranks[o->ranks_n++])) {
			perf_err_set(err, "--ranks %s: must be up to %d numbers from 1 to %d", s, LIST_MAX, RANKS_MAX);
			return;
		}
	}
	if (o->ranks_n == 0)
		perf_err_set(err, "--ranks: no number");
}

static bool take(int opt, const char *s, struct launch_opts *o, struct perf_err *err)
{
	switch (opt) {
	case OPT_RANKS:
		parse_ranks(s, o, err);
		break;
	case OPT_RUNS:
		if (!perf_parse_u64(s, 1, 1000, &o->runs))
			perf_err_set(err, "--runs %s: must be a whole number from 1 to 1000", s);
		break;
	case OPT_MCRUN:
		o->mcrun = s;
		break;
	case OPT_MPIRUN:
		o->mpirun = s;
		break;
	case OPT_JSON:
		o->json = s;
		(void)perf_report_check_path(s, err);
		break;
	case OPT_CHILD:
		o->child = true;
		break;
	default:
		o->help = true;
		break;
	}
	return !perf_err_is_set(err);
}

static bool parse(int argc, char **argv, struct launch_opts *o, struct perf_err *err)
{
	const struct perf_args args = {argc, argv, "launch", ":", options};
	const char *value, *name;
	int opt;

	*o = (struct launch_opts){.ranks = {2, 16, 64}, .ranks_n = 3, .runs = 5};
	perf_args_begin();
	while ((opt = perf_args_next(&args, &value, &name, err)) != -1)
		if (!take(opt, value, o, err))
			return false;
	return perf_args_end(&args, err);
}

/* ---- a rank -------------------------------------------------------------------------------------------------- */

static int child(void)
{
	struct mc_params p = {.size = sizeof(p)};
	struct mc_ctx *ctx = NULL;
	mc_status_t st = mc_init(&p, &ctx);

	if (st == MC_OK)
		st = mc_barrier(mc_group_world(ctx), LAUNCH_NS);
	if (st == MC_OK) {
		/* one write, so that the lines of the ranks do not mix */
		char line[96];
		int n = snprintf(line, sizeof(line), "%s %" PRId64 "\n", mark, perf_now_ns());
		st = write(STDOUT_FILENO, line, (size_t)n) == n ? MC_OK : MC_ERR_INTERNAL;
	}
	mc_finalize(ctx);
	return st == MC_OK ? 0 : 1;
}

/* ---- a launch ------------------------------------------------------------------------------------------------ */

struct launcher {
	const char *name;
	char path[PATH_MAX]; /* "": not there */
	bool mpi;
};

static pid_t start(const struct launcher *l, const char *self, uint64_t ranks, int out)
{
	char n[16];
	const char *mc[] = {l->path, "--output", "merge", "-n", n, self, "launch", "--child", NULL};
	const char *mpi[] = {l->path, "--oversubscribe", "--bind-to", "none", "-n", n, self, "launch", "--child", NULL};
	pid_t pid;

	snprintf(n, sizeof(n), "%" PRIu64, ranks);
	pid = fork();
	if (pid != 0)
		return pid;
	(void)dup2(out, STDOUT_FILENO);
	if (l->mpi) { /* it refuses to run for root, as in containers, unless it is told twice */
		setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
		setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
	}
	execvp(l->path, (char *const *)(uintptr_t)(l->mpi ? mpi : mc));
	_exit(127);
}

static size_t read_all(int fd, char *buf, size_t len, int64_t give_up)
{
	size_t n = 0;

	while (n + 1 < len && perf_now_ns() < give_up) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t got;
		if (poll(&p, 1, 1000) <= 0)
			continue;
		got = read(fd, buf + n, len - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	buf[n] = '\0';
	return n;
}

static int reap(pid_t pid, int64_t give_up)
{
	struct timespec ms = {.tv_nsec = 1000000};
	int status = 0;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (perf_now_ns() > give_up)
			kill(pid, SIGTERM);
		nanosleep(&ms, NULL);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* When the last of the ranks was past the barrier; 0: not all of them were. */
static int64_t last_mark(const char *text, uint64_t ranks)
{
	int64_t last = 0;
	uint64_t n = 0;

	for (const char *p = strstr(text, mark); p != NULL; p = strstr(p + 1, mark)) {
		int64_t ns = strtoll(p + sizeof(mark) - 1, NULL, 10);
		last = ns > last ? ns : last;
		n++;
	}
	return n == ranks ? last : 0;
}

/* ns; 0: failed, said. */
static uint64_t launch(const struct launcher *l, const char *self, uint64_t ranks, char *buf)
{
	int64_t t0 = perf_now_ns(), last;
	int fd[2], rc;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) != 0)
		return 0;
	pid = start(l, self, ranks, fd[1]);
	close(fd[1]);
	if (pid < 0) {
		close(fd[0]);
		return 0;
	}
	read_all(fd[0], buf, OUT_MAX, t0 + LAUNCH_NS);
	close(fd[0]);
	rc = reap(pid, t0 + LAUNCH_NS);
	last = last_mark(buf, ranks);
	if (rc == 0 && last > t0)
		return (uint64_t)(last - t0);
	fprintf(stderr, "mcperf: launch: %s with %" PRIu64 " ranks failed (status %d)\n", l->path, ranks, rc);
	return 0;
}

static bool row(const struct launch_opts *o, const struct launcher *l, uint32_t n, const char *self, uint64_t ranks,
		FILE *table, FILE *json)
{
	struct perf_samples t[LAUNCHERS] = {{0}};
	double ms[LAUNCHERS] = {0}, best[LAUNCHERS] = {0};
	char *buf = malloc(OUT_MAX);
	bool ok = buf != NULL;

	for (uint64_t i = 0; ok && i < o->runs; i++) {
		for (uint32_t k = 0; k < n && ok; k++) {
			uint64_t ns = launch(&l[k], self, ranks, buf);
			ok = ns > 0 && perf_samples_add(&t[k], ns);
		}
	}
	for (uint32_t k = 0; k < n; k++) {
		ms[k] = (double)perf_samples_percentile(&t[k], 0.5) / 1e6;
		best[k] = (double)perf_samples_percentile(&t[k], 1e-9) / 1e6;
		perf_samples_free(&t[k]);
	}
	free(buf);
	if (!ok)
		return false;
	fprintf(table, "%6" PRIu64 " %12.1f %12.1f", ranks, ms[0], best[0]);
	if (n > 1)
		fprintf(table, " %12.1f %12.1f %8.2f", ms[1], best[1], ms[0] / ms[1]);
	fprintf(table, "\n");
	fflush(table);
	if (json != NULL)
		fprintf(json,
			"{\"cmd\":\"launch\",\"ranks\":%" PRIu64 ",\"runs\":%" PRIu64 ",\"mcrun_ms\":%.3f,"
			"\"mcrun_ms_best\":%.3f,\"mpirun_ms\":%.3f,\"mpirun_ms_best\":%.3f,\"ratio\":%.4f}\n",
			ranks, o->runs, ms[0], best[0], ms[1], best[1], n > 1 ? ms[0] / ms[1] : 0);
	return true;
}

static void find(const char *given, const char *name, const char *self, struct launcher *out)
{
	char copy[PATH_MAX];
	const char *path = getenv("PATH");

	snprintf(copy, sizeof(copy), "%s", self);
	if (given != NULL) {
		snprintf(out->path, sizeof(out->path), "%s", given);
		return;
	}
	if (snprintf(out->path, sizeof(out->path), "%s/%s", dirname(copy), name) < (int)sizeof(out->path) &&
	    access(out->path, X_OK) == 0)
		return;
	while (path != NULL && *path != '\0') {
		size_t n = strcspn(path, ":");
		snprintf(out->path, sizeof(out->path), "%.*s/%s", (int)n, path, name);
		if (access(out->path, X_OK) == 0)
			return;
		path += n + (path[n] == ':');
	}
	out->path[0] = '\0';
}

static int run(const struct launch_opts *o)
{
	struct launcher l[LAUNCHERS] = {{.name = "mcrun"}, {.name = "mpirun", .mpi = true}};
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	bool to_stdout = o->json != NULL && strcmp(o->json, "-") == 0, ok = true;
	FILE *table = to_stdout ? stderr : stdout, *json = to_stdout         ? stdout
							   : o->json != NULL ? fopen(o->json, "we")
									     : NULL;
	struct perf_header h;
	uint32_t n;

	self[len > 0 ? len : 0] = '\0';
	find(o->mcrun, "mcrun", self, &l[0]);
	find(o->mpirun, "mpirun", self, &l[1]);
	if (l[0].path[0] == '\0' || (o->json != NULL && json == NULL)) {
		fprintf(stderr, "mcperf: launch: %s\n",
			json == NULL && o->json != NULL ? strerror(errno) : "there is no mcrun: give --mcrun FILE");
		return 2;
	}
	n = l[1].path[0] != '\0' && strcmp(l[1].path, "none") != 0 ? 2 : 1;
	if (n == 1 && o->mpirun == NULL)
		fprintf(stderr, "mcperf: launch: there is no mpirun (package openmpi-bin) to compare with\n");
	perf_header_collect(&h);
	perf_header_print(&h, table, "launch");
	fprintf(table,
		"# from the start of the launcher until the last rank is past the first barrier, ms, median and best "
		"of "
		"%" PRIu64 "\n%6s %12s %12s",
		o->runs, "ranks", "mcrun", "best");
	fprintf(table, n > 1 ? " %12s %12s %8s\n" : "\n", "mpirun", "best", "ratio");
	for (uint32_t i = 0; i < o->ranks_n && ok; i++)
		ok = row(o, l, n, self, o->ranks[i], table, json);
	if (json != NULL && json != stdout)
		ok = fclose(json) == 0 && ok;
	return ok ? 0 : 1;
}

int launch_main(int argc, char **argv)
{
	struct launch_opts o;
	struct perf_err err = {""};

	if (!parse(argc, argv, &o, &err)) {
		fprintf(stderr, "mcperf: launch: %s\n", err.text);
		return 2;
	}
	if (o.help) {
		help();
		return 0;
	}
	return o.child ? child() : run(&o);
}

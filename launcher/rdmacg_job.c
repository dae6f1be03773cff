/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdmacg_job.c - a child cgroup with a limit for a job.
 *
 * A cgroup other than the root may not both hold processes and hand the rdma controller to its children. Where mcrun is
 * alone in its cgroup (systemd-run --scope -p Delegate=yes) it moves into a second child for as long as the job runs,
 * and back.
 */
#include "proctree.h"
#include "rdmacg.h"
#include "sysparse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define JOB_END  ".job"
#define SELF_END ".self"

static int take_limit(const char *word, size_t len, struct mc_rdmacg_limit *l, struct mc_err *err)
{
	size_t eq = strcspn(word, "=");
	char value[32];
	uint64_t v;

	if (eq >= len || len - eq - 1 >= sizeof(value))
		return mc_err_set(err, "\"%.*s\" is not hca_handle=N or hca_object=N", (int)(len > 60 ? 60 : len),
				  word);
	(void)snprintf(value, sizeof(value), "%.*s", (int)(len - eq - 1), word + eq + 1);
	bool max = strcmp(value, "max") == 0;
	if (!max && (strspn(value, "0123456789") != strlen(value) || !mc_sys_u64(value, &v) || v > INT32_MAX))
		return mc_err_set(err, "\"%.*s\" must end in a number up to %d, or in max", (int)(len > 60 ? 60 : len),
				  word, INT32_MAX);
	uint64_t *to = eq == 10 && memcmp(word, "hca_handle", 10) == 0   ? &l->handle
		       : eq == 10 && memcmp(word, "hca_object", 10) == 0 ? &l->object
									 : NULL;
	if (to == NULL)
		return mc_err_set(err,
				  "\"%.*s\" is neither hca_handle (opened devices) nor hca_object (PDs, CQs, QPs, MRs)",
				  (int)(eq > 60 ? 60 : eq), word);
	if (*to != MC_RDMACG_NONE)
		return mc_err_set(err, "%.10s is given twice", word);
	*to = max ? MC_RDMACG_MAX : v;
	return 0;
}

int mc_rdmacg_limit_parse(const char *text, struct mc_rdmacg_limit *out, struct mc_err *err)
{
	struct mc_rdmacg_limit l = {.handle = MC_RDMACG_NONE, .object = MC_RDMACG_NONE};
	size_t len = strcspn(text, ":");
	struct mc_err why;

	if (text[len] != ':' || len == 0 || len >= sizeof(l.dev) || strcspn(text, " \t\n/=,") < len)
		return mc_err_set(err,
				  "rdma-limit is \"%.60s\", but must be DEVICE:hca_handle=N,hca_object=N, e.g. "
				  "mlx5_0:hca_handle=8,hca_object=2000",
				  text);
	(void)snprintf(l.dev, sizeof(l.dev), "%.*s", (int)len, text);
	for (const char *p = text + len + 1;; p++) {
		size_t n = strcspn(p, ",");

		if (take_limit(p, n, &l, &why) != 0)
			return mc_err_set(err, "rdma-limit %s: %.300s", l.dev, why.text);
		p += n;
		if (*p == '\0')
			break;
	}
	*out = l;
	return 0;
}

static int one_key(char *out, size_t len, const char *key, uint64_t v)
{
	if (v == MC_RDMACG_NONE)
		return snprintf(out, len, "%s", "");
	if (v == MC_RDMACG_MAX)
		return snprintf(out, len, " %s=max", key);
	return snprintf(out, len, " %s=%" PRIu64, key, v);
}

void mc_rdmacg_limit_text(const struct mc_rdmacg_limit *l, char *out, size_t len)
{
	char handle[40], object[40];

	(void)one_key(handle, sizeof(handle), "hca_handle", l->handle);
	(void)one_key(object, sizeof(object), "hca_object", l->object);
	(void)snprintf(out, len, "%s%s%s", l->dev, handle, object);
}

static int write_file(const char *dir, const char *file, const char *text)
{
	char path[700];
	int e = 0;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		e = errno;
	(void)close(fd);
	return e;
}

static int read_file(const char *dir, const char *file, char *out, size_t len)
{
	char path[700];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	out[0] = '\0';
	if (fd < 0)
		return errno;
	ssize_t n = read(fd, out, len - 1);
	int e = n < 0 ? errno : 0;
	(void)close(fd);
	out[n < 0 ? 0 : n] = '\0';
	return e;
}

static bool names_rdma(const char *list)
{
	for (const char *p = list; (p = strstr(p, "rdma")) != NULL; p += 4)
		if ((p == list || p[-1] == ' ') && strchr(" \n", p[4]) != NULL)
			return true;
	return false;
}

/* Why there is no controller to use here, and what would help. */
static int no_controller(const struct mc_rdmacg *g, const char *prefix, struct mc_err *err)
{
	char list[1024], parent[600];

	if (g->error != 0)
		return mc_err_set(err, "--rdma-limit: cannot read /proc/self/cgroup or mountinfo: %s "
				  "[rdma-cgroup, see mcinfo doctor]",
				  strerror(g->error));
	if (g->own[0] == '\0')
		return mc_err_set(
			err,
			"--rdma-limit: no cgroup version 2 is mounted here (/proc/self/mountinfo has no cgroup2); run "
			"mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1 "
			"[rdma-cgroup, see mcinfo doctor]");
	if (g->v1)
		return mc_err_set(
			err,
			"--rdma-limit: the rdma controller is taken by a version 1 hierarchy (/proc/self/cgroup); boot "
			"with cgroup_no_v1=rdma [rdma-cgroup, see mcinfo doctor]");
	(void)snprintf(parent, sizeof(parent), "%s%s", prefix, g->point);
	if (read_file(parent, "cgroup.controllers", list, sizeof(list)) == 0 && !names_rdma(list))
		return mc_err_set(
			err,
			"--rdma-limit: %s/cgroup.controllers does not name rdma: this kernel has no rdma controller "
			"(CONFIG_CGROUP_RDMA), or in a container it was not handed down; run without --rdma-limit "
			"[rdma-cgroup, see mcinfo doctor]",
			g->point);
	(void)snprintf(parent, sizeof(parent), "%s", g->own);
	char *slash = strrchr(parent, '/');
	if (slash != NULL && strlen(parent) > strlen(g->point))
		*slash = '\0';
	return mc_err_set(err,
			  "--rdma-limit: %s/cgroup.controllers does not name rdma; its parent does not hand the "
			  "controller on: as "
			  "root run echo +rdma > %s/cgroup.subtree_control [rdma-cgroup, see mcinfo doctor]",
			  g->own, parent);
}

static int cannot(const char *what, const char *file, int e, struct mc_err *err)
{
	const char *line =
		e == EACCES || e == EPERM || e == EROFS
			? "; let a cgroup be delegated to you: systemd-run --scope -p Delegate=yes mcrun ... (in a "
			  "container the cgroup file system must be writable)"
			: "";

	return mc_err_set(err, "--rdma-limit: cannot %s %s: %s%s [rdma-cgroup, see mcinfo doctor]", what, file,
			  strerror(e), line);
}

/* "mcrun.<pid namespace>.<pid>.<start time>": one process for ever, so that what is left behind can be told from what
 * is in use. */
static void base_name(char *out, size_t len)
{
	struct stat st = {0};

	(void)stat("/proc/self/ns/pid", &st);
	(void)snprintf(out, len, "mcrun.%ju.%d.%" PRIu64, (uintmax_t)st.st_ino, (int)getpid(),
		       mc_proc_start_time(getpid()));
}

/* Is every process in this cgroup one of ours (mcrun itself)? */
static bool alone_in(const char *dir)
{
	char text[MC_SYS_ONE_MAX], own[16];

	(void)snprintf(own, sizeof(own), "%d\n", (int)getpid());
	return read_file(dir, "cgroup.procs", text, sizeof(text)) == 0 && strcmp(text, own) == 0;
}

static int enable(struct mc_rdmacg_job *j, const char *base, struct mc_err *err)
{
	char list[1024], file[700];

	(void)snprintf(file, sizeof(file), "%s/cgroup.subtree_control", j->parent);
	int e = read_file(j->parent, "cgroup.subtree_control", list, sizeof(list));
	if (e != 0)
		return cannot("read", file, e, err);
	if (names_rdma(list))
		return 0;
	if (alone_in(j->parent)) {
		(void)snprintf(j->leaf, sizeof(j->leaf), "%.500s/%.80s" SELF_END, j->parent, base);
		e = mkdir(j->leaf, 0755) != 0 ? errno : 0;
		if (e != 0) {
			e = cannot("make", j->leaf, e, err);
			j->leaf[0] = '\0';
			return e;
		}
		e = write_file(j->leaf, "cgroup.procs", "0");
		if (e != 0)
			return cannot("move mcrun into", j->leaf, e, err);
	}
	e = write_file(j->parent, "cgroup.subtree_control", "+rdma");
	if (e == EBUSY)
		return mc_err_set(
			err,
			"--rdma-limit: %s hands no controller to children while it holds other processes than mcrun; "
			"give mcrun a cgroup of its own: systemd-run --scope -p Delegate=yes mcrun ... [rdma-cgroup, "
			"see "
			"mcinfo doctor]",
			j->parent);
	if (e != 0)
		return cannot("write +rdma to", file, e, err);
	j->enabled = true;
	return 0;
}

static int set_limit(const struct mc_rdmacg_job *j, const struct mc_rdmacg_limit *l, struct mc_err *err)
{
	char line[160];

	mc_rdmacg_limit_text(l, line, sizeof(line));
	int e = write_file(j->dir, "rdma.max", line);
	if (e == 0)
		return 0;
	if (e == ENODEV || e == EINVAL)
		return mc_err_set(err,
				  "--rdma-limit: the kernel refuses \"%s\" in %s/rdma.max: %s; is %s a device here (ls "
				  "/sys/class/infiniband)? [rdma-cgroup, see mcinfo doctor]",
				  line, j->dir, strerror(e), l->dev);
	return mc_err_set(err, "--rdma-limit: cannot write \"%s\" to %s/rdma.max: %s [rdma-cgroup, see mcinfo doctor]",
			  line, j->dir, strerror(e));
}

int mc_rdmacg_create(const char *prefix, const struct mc_rdmacg_limit *limit, size_t limit_n, struct mc_rdmacg_job *out,
		     struct mc_err *err)
{
	struct mc_rdmacg_job j = {{0}, {0}, {0}, false};
	struct mc_sysroot *root;
	struct mc_rdmacg g;
	char base[128];
	int rc = 0;

	if (mc_sysroot_open(*prefix == '\0' ? NULL : prefix, NULL, NULL, &root, err) != 0)
		return -1;
	mc_rdmacg_read(root, &g);
	mc_sysroot_close(root);
	if (!g.controller) {
		rc = no_controller(&g, prefix, err);
		goto out;
	}
	if ((size_t)snprintf(j.parent, sizeof(j.parent), "%s%s", prefix, g.own) >= sizeof(j.parent)) {
		rc = mc_err_set(err, "--rdma-limit: the path of this cgroup is too long: %.200s", g.own);
		goto out;
	}
	base_name(base, sizeof(base));
	(void)mc_rdmacg_sweep(j.parent);
	rc = enable(&j, base, err);
	if (rc == 0) {
		(void)snprintf(j.dir, sizeof(j.dir), "%.500s/%.80s" JOB_END, j.parent, base);
		if (mkdir(j.dir, 0755) != 0) {
			rc = cannot("make", j.dir, errno, err);
			j.dir[0] = '\0';
		}
	}
	for (size_t i = 0; i < limit_n && rc == 0; i++)
		rc = set_limit(&j, &limit[i], err);
	if (rc == 0)
		*out = j;
	else
		(void)mc_rdmacg_remove(&j);
out:
	mc_rdmacg_free(&g);
	return rc;
}

/* Whoever is in the job's cgroup now has escaped every other way of being ended. */
static void kill_in(const char *dir)
{
	char text[MC_SYS_ONE_MAX];

	if (write_file(dir, "cgroup.kill", "1") == 0 || read_file(dir, "cgroup.procs", text, sizeof(text)) != 0)
		return;
	for (char *p = text; *p != '\0';) {
		long pid = strtol(p, &p, 10);

		if (pid > 1 && pid != (long)getpid())
			(void)kill((pid_t)pid, SIGKILL);
		p += strcspn(p, "\n");
		p += *p == '\n';
	}
}

/* Killed processes leave their cgroup a moment after they are dead. */
static int remove_dir(const char *dir, bool kill_first)
{
	const struct timespec tick = {0, 2 * 1000 * 1000};

	for (int i = 0; i < 500; i++) {
		if (rmdir(dir) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			return errno;
		if (kill_first)
			kill_in(dir);
		(void)nanosleep(&tick, NULL);
	}
	return EBUSY;
}

static void move_all(const char *from, const char *to)
{
	char text[MC_SYS_ONE_MAX], num[24];

	if (read_file(from, "cgroup.procs", text, sizeof(text)) != 0)
		return;
	for (char *p = text; *p != '\0'; p += *p == '\n') {
		size_t len = strcspn(p, "\n");

		(void)snprintf(num, sizeof(num), "%.*s", (int)(len > 20 ? 20 : len), p);
		(void)write_file(to, "cgroup.procs", num);
		p += len;
	}
}

int mc_rdmacg_remove(const struct mc_rdmacg_job *job)
{
	int e = job->dir[0] == '\0' ? 0 : remove_dir(job->dir, true);

	if (job->enabled)
		(void)write_file(job->parent, "cgroup.subtree_control", "-rdma");
	if (job->leaf[0] != '\0') {
		move_all(job->leaf, job->parent);
		int e2 = remove_dir(job->leaf, false);
		e = e != 0 ? e : e2;
	}
	return e;
}

static bool is_stale(const char *name, uintmax_t ns)
{
	char pre[64];
	char *end;

	(void)snprintf(pre, sizeof(pre), "mcrun.%ju.", ns);
	if (strncmp(name, pre, strlen(pre)) != 0)
		return false;
	long pid = strtol(name + strlen(pre), &end, 10);
	if (pid <= 0 || *end != '.')
		return false;
	uint64_t start = strtoull(end + 1, &end, 10);
	return (strcmp(end, JOB_END) == 0 || strcmp(end, SELF_END) == 0) && mc_proc_start_time((pid_t)pid) != start;
}

unsigned mc_rdmacg_sweep(const char *parent)
{
	struct stat st = {0};
	unsigned n = 0;
	DIR *d = opendir(parent);

	if (d == NULL || stat("/proc/self/ns/pid", &st) != 0) {
		if (d != NULL)
			(void)closedir(d);
		return 0;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (is_stale(e->d_name, (uintmax_t)st.st_ino) && unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) == 0)
			n++; /* one that still holds processes stays: they may be another guard's */
	(void)closedir(d);
	return n;
}

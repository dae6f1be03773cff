/* SPDX-License-Identifier: BSD-3-Clause */
#include "proctree.h"
#include "text.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct proc {
	pid_t pid, parent, group;
	bool ours, zombie;
};

struct table {
	struct proc *p;
	size_t n, room;
};

/* The fields of /proc/PID/stat after the command's name, which may itself hold blanks and brackets. */
static const char *read_stat(pid_t pid, char *buf, size_t len)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	ssize_t n = read(fd, buf, len - 1);
	(void)close(fd);
	if (n <= 0)
		return NULL;
	buf[n] = '\0';
	const char *end = strrchr(buf, ')');
	return end == NULL || end[1] == '\0' ? NULL : end + 2;
}

uint64_t mc_proc_start_time(pid_t pid)
{
	char buf[1024];
	const char *f = read_stat(pid, buf, sizeof(buf));

	/* f stands at field 3 (state); the start time is field 22 */
	for (int field = 3; f != NULL && field < 22; field++) {
		f = strchr(f, ' ');
		f = f == NULL ? NULL : f + 1;
	}
	return f == NULL ? 0 : strtoull(f, NULL, 10);
}

int mc_proc_adopt_orphans(void)
{
	return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

static void table_read(struct table *t)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL) {
		char buf[1024], *end;
		long pid = strtol(e->d_name, &end, 10);

		if (pid <= 0 || *end != '\0')
			continue;
		const char *f = read_stat((pid_t)pid, buf, sizeof(buf));
		if (f == NULL)
			continue;
		if (t->n == t->room) {
			t->room = t->room == 0 ? 512 : t->room * 2;
			t->p = mc_xgrow(t->p, t->room, sizeof(*t->p));
		}
		pid_t parent = (pid_t)strtol(f + 2, &end, 10), group = (pid_t)strtol(end, NULL, 10);
		t->p[t->n++] = (struct proc){(pid_t)pid, parent, group, false, f[0] == 'Z'};
	}
	(void)closedir(d);
}

static bool listed(pid_t pid, const pid_t *list, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (list[i] == pid)
			return true;
	return false;
}

/* Mark what descends from root: repeat until nothing is added, since a child's pid may be lower than its parent's. */
static void table_mark(struct table *t, pid_t root, const struct mc_proc_except *except)
{
	bool more = true;

	while (more) {
		more = false;
		for (size_t i = 0; i < t->n; i++) {
			struct proc *p = &t->p[i];

			if (p->ours || (p->parent == root && listed(p->pid, except->child, except->child_n)))
				continue;
			bool ours = p->parent == root;
			for (size_t k = 0; k < t->n && !ours; k++)
				ours = t->p[k].ours && t->p[k].pid == p->parent;
			if (ours)
				p->ours = more = true;
		}
	}
}

pid_t *mc_proc_children(uint32_t *n_out)
{
	struct table t = {0};
	pid_t *list = NULL;

	*n_out = 0;
	table_read(&t);
	for (size_t i = 0; i < t.n; i++) {
		if (t.p[i].parent != getpid())
			continue;
		list = mc_xgrow(list, *n_out + 1, sizeof(*list));
		list[(*n_out)++] = t.p[i].pid;
	}
	free(t.p);
	return list;
}

unsigned mc_proc_signal_descendants(int sig, const struct mc_proc_except *except)
{
	struct table t = {0};
	unsigned found = 0;

	table_read(&t);
	table_mark(&t, getpid(), except);
	for (size_t i = 0; i < t.n; i++) {
		if (!t.p[i].ours)
			continue;
		found++;
		if (!t.p[i].zombie && !listed(t.p[i].group, except->group, except->group_n))
			(void)kill(t.p[i].pid, sig);
	}
	free(t.p);
	return found;
}

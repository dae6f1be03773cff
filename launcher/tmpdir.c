/* SPDX-License-Identifier: BSD-3-Clause */
#include "tmpdir.h"
#include "proctree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEST_MAX 32

/* "mcrun.<boot>.<pid namespace>." : where a pid means the same process as here. */
static void prefix(char *buf, size_t len)
{
	char boot[16] = "0", ns[64] = "";
	struct stat st;
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (f != NULL) {
		if (fgets(boot, 9, f) == NULL)
			(void)snprintf(boot, sizeof(boot), "0");
		(void)fclose(f);
	}
	if (stat("/proc/self/ns/pid", &st) == 0)
		(void)snprintf(ns, sizeof(ns), "%ju", (uintmax_t)st.st_ino);
	(void)snprintf(buf, len, "mcrun.%s.%s.", boot, ns);
}

int mc_tmpdir_create(const char *base, char **path_out, struct mc_err *err)
{
	char pre[128];

	prefix(pre, sizeof(pre));
	char *path = mc_xformat("%s/%s%d.%" PRIu64 ".XXXXXX", base, pre, (int)getpid(), mc_proc_start_time(getpid()));
	if (mkdtemp(path) == NULL) {
		(void)mc_err_set(err, "cannot make a directory in %s: %s; set TMPDIR to a directory you can write to",
				 base, strerror(errno));
		free(path);
		return -1;
	}
	*path_out = path;
	return 0;
}

static int remove_in(int dir, const char *name, int depth)
{
	int rc = 0;
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return unlinkat(dir, name, 0) == 0 || errno == ENOENT ? 0 : errno;
	DIR *d = depth < NEST_MAX ? fdopendir(fd) : NULL;
	if (d == NULL) {
		(void)close(fd);
		return ELOOP;
	}
	struct dirent *e;
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		int e_rc = remove_in(fd, e->d_name, depth + 1);
		if (e_rc != 0)
			rc = e_rc;
	}
	(void)closedir(d);
	if (unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
		rc = errno;
	return rc;
}

int mc_tmpdir_remove(const char *path)
{
	/* a file that a dying process made while we were reading the directory is met by the second look */
	for (int i = 0; i < 3; i++)
		if (remove_in(AT_FDCWD, path, 0) == 0)
			return 0;
	return remove_in(AT_FDCWD, path, 0);
}

static bool is_stale(int dir, const char *name, const char *pre)
{
	struct stat st;
	char *end;

	if (strncmp(name, pre, strlen(pre)) != 0)
		return false;
	long pid = strtol(name + strlen(pre), &end, 10);
	if (pid <= 0 || *end != '.')
		return false;
	uint64_t start = strtoull(end + 1, &end, 10);
	if (*end != '.' || start == 0 || mc_proc_start_time((pid_t)pid) == start)
		return false;
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

unsigned mc_tmpdir_sweep(const char *base)
{
	unsigned n = 0;
	char pre[128];
	DIR *d = opendir(base);
	struct dirent *e;

	if (d == NULL)
		return 0;
	prefix(pre, sizeof(pre));
	while ((e = readdir(d)) != NULL)
		if (is_stale(dirfd(d), e->d_name, pre) && remove_in(dirfd(d), e->d_name, 0) == 0)
			n++;
	(void)closedir(d);
	return n;
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "hostmem.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* One number in a file of a control group; "max" and a missing file: false. */
static bool read_number(const char *dir, const char *file, uint64_t *out)
{
	char path[PATH_MAX];
	FILE *f;
	bool ok;

	if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path))
		return false;
	f = fopen(path, "re");
	if (f == NULL)
		return false;
	ok = fscanf(f, "%" SCNu64, out) == 1;
	fclose(f);
	return ok;
}

/* A "key value" line of a file, value in bytes after scaling. */
static bool read_keyed(const char *path, const char *key, uint64_t scale, uint64_t *out)
{
	char line[256];
	FILE *f = fopen(path, "re");
	size_t n = strlen(key);
	bool ok = false;

	if (f == NULL)
		return false;
	while (!ok && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, key, n) == 0)
			ok = sscanf(line + n, "%" SCNu64, out) == 1;
	}
	fclose(f);
	if (ok)
		*out *= scale;
	return ok;
}

/* Room in one group: limit minus what is charged, page cache that can be dropped not counted. */
static uint64_t group_room(const char *dir, const char *limit_file, const char *usage_file, const char *cache_key)
{
	uint64_t limit, used, cache = 0;
	char stat[PATH_MAX];

	if (!read_number(dir, limit_file, &limit) || !read_number(dir, usage_file, &used))
		return UINT64_MAX;
	if (snprintf(stat, sizeof(stat), "%s/memory.stat", dir) < (int)sizeof(stat) &&
	    read_keyed(stat, cache_key, 1, &cache))
		used = used > cache ? used - cache : 0;
	return limit > used ? limit - used : 0;
}

/* The group and every group above it may set a limit. path: as in /proc/self/cgroup. */
static uint64_t tree_room(const char *root, char *path, const char *limit, const char *usage, const char *cache)
{
	uint64_t room = UINT64_MAX;
	char dir[PATH_MAX];

	for (;;) {
		char *slash;
		uint64_t here = UINT64_MAX;
		if (snprintf(dir, sizeof(dir), "%s%s", root, path) < (int)sizeof(dir))
			here = group_room(dir, limit, usage, cache);
		room = here < room ? here : room;
		slash = strrchr(path, '/');
		if (slash == NULL)
			return room;
		*slash = '\0';
	}
}

static uint64_t cgroup_room(void)
{
	uint64_t room = UINT64_MAX;
	char line[PATH_MAX];
	FILE *f = fopen("/proc/self/cgroup", "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		uint64_t here = UINT64_MAX;
		char *path;
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::", 3) == 0) {
			here = tree_room("/sys/fs/cgroup", line + 3, "memory.max", "memory.current", "inactive_file ");
		} else if ((path = strstr(line, ":memory:")) != NULL) {
			here = tree_room("/sys/fs/cgroup/memory", path + 8, "memory.limit_in_bytes",
					 "memory.usage_in_bytes", "total_inactive_file ");
		}
		room = here < room ? here : room;
	}
	if (f != NULL)
		fclose(f);
	return room;
}

uint64_t perf_hostmem_available(void)
{
	uint64_t host = UINT64_MAX, group = cgroup_room();

	if (!read_keyed("/proc/meminfo", "MemAvailable:", 1024, &host))
		host = UINT64_MAX;
	return host < group ? host : group;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_cg.c - how many RDMA objects this process may still make: rdma.max and rdma.current of its cgroup and of all
 * above it (cgroup version 2).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

/* The number behind key in the line of that device; UINT64_MAX: no such line, or "max". */
static uint64_t line_value(const char *path, const char *dev, const char *key)
{
	FILE *f = fopen(path, "re");
	char line[512];
	uint64_t v = UINT64_MAX;
	size_t dev_len = strlen(dev), key_len = strlen(key);

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		char *p;
		if (strncmp(line, dev, dev_len) != 0 || line[dev_len] != ' ')
			continue;
		p = strstr(line + dev_len, key);
		if (p != NULL && p[key_len] == '=' && p[key_len + 1] >= '0' && p[key_len + 1] <= '9')
			v = strtoull(p + key_len + 1, NULL, 10);
	}
	if (f != NULL)
		fclose(f);
	return v;
}

/* "/a/b" of the unified hierarchy; false: there is none. */
static bool own_cgroup(char *out, size_t len)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[400];
	bool found = false;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(out, len, "%s", line + 3);
		found = true;
	}
	if (f != NULL)
		fclose(f);
	return found;
}

uint64_t mc_vb_limit_left(const char *dev, const char *key, char *where, size_t where_len)
{
	char group[400], path[512];
	uint64_t least = UINT64_MAX;

	if (!own_cgroup(group, sizeof(group)))
		return least;
	for (;;) {
		uint64_t max, now;
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/rdma.max", group);
		max = line_value(path, dev, key);
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/rdma.current", group);
		now = line_value(path, dev, key);
		if (now == UINT64_MAX)
			now = 0;
		if (max != UINT64_MAX && (max > now ? max - now : 0) < least) {
			least = max > now ? max - now : 0;
			snprintf(where, where_len,
				 "/sys/fs/cgroup%s/rdma.max allows %s %s=%" PRIu64 ", %" PRIu64 " are in use", group,
				 dev, key, max, now);
		}
		if (group[0] == '\0' || strcmp(group, "/") == 0)
			return least;
		*strrchr(group, '/') = '\0';
	}
}

uint64_t mc_vb_objects_left(const char *dev, char *where, size_t where_len)
{
	return mc_vb_limit_left(dev, "hca_object", where, where_len);
}

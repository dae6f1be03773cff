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

static uint64_t current(const char *group, const char *dev, const char *key)
{
	char path[512];
	uint64_t v;

	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/rdma.current", group);
	v = line_value(path, dev, key);
	return v != UINT64_MAX ? v : 0;
}

/* The least that any group from the own one upwards leaves; shared: as an equal part of each. */
static uint64_t least_of(const char *dev, const char *key, bool shared, uint64_t mine, char *where, size_t where_len)
{
	char group[400], path[512];
	uint64_t least = UINT64_MAX;

	if (!own_cgroup(group, sizeof(group)))
		return least;
	for (;;) {
		uint64_t max, now, one;
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/rdma.max", group);
		max = line_value(path, dev, key);
		now = max != UINT64_MAX ? current(group, dev, key) : 0;
		one = mc_vb_share(max, now, mine, shared && max != UINT64_MAX ? current(group, dev, "hca_handle") : 1);
		if (max != UINT64_MAX && one < least) {
			least = one;
			snprintf(where, where_len,
				 "/sys/fs/cgroup%s/rdma.max allows %s %s=%" PRIu64 ", %" PRIu64 " are in use", group,
				 dev, key, max, now);
		}
		if (group[0] == '\0' || strcmp(group, "/") == 0)
			return least;
		*strrchr(group, '/') = '\0';
	}
}

uint64_t mc_vb_limit_left(const char *dev, const char *key, char *where, size_t where_len)
{
	return least_of(dev, key, false, 0, where, where_len);
}

uint64_t mc_vb_objects_left(const char *dev, char *where, size_t where_len)
{
	return mc_vb_limit_left(dev, "hca_object", where, where_len);
}

/*
 * When connections and registrations are made, the other ranks of the job have opened their devices, too: open devices
 * are processes that share a limit, of this job or of another in the same group.
 */
void mc_vb_budget_again(struct mc_be *be)
{
	struct vb_want want = {.peers = be->size > 0 ? be->size - 1 : 0,
			       .qps = be->config->verbs_qps,
			       .objects = UINT64_MAX};
	char where[512] = "", one[512];

	if (be->plan.objects == UINT64_MAX)
		return;
	for (uint32_t i = 0; i < be->nic_n; i++) {
		const struct vb_nic *nic = &be->nic[i];
		uint64_t part = least_of(ibv_get_device_name(nic->ctx->device), "hca_object", true,
					 VB_OBJECTS_NIC + nic->qp_n + be->mrs_n, one, sizeof(one));
		if (part >= want.objects)
			continue;
		want.objects = part;
		memcpy(where, one, sizeof(where));
	}
	if (want.objects < VB_OBJECTS_NIC + 1) /* what there is may go on */
		want.objects = VB_OBJECTS_NIC + 1;
	mc_vb_budget(&want, &be->plan);
	if (!be->plan.reduced || be->limit_told)
		return;
	be->limit_told = true;
	mc_warn("verbs: rank %u: %s: this process's part are %" PRIu64 " queue pairs (%u per rail) and %" PRIu64
		" registrations per port; idle connections are closed when others are needed [rdma-cgroup, see mcinfo "
		"doctor]",
		be->rank, where, be->plan.qp_budget, be->plan.qps, be->plan.mr_budget);
}

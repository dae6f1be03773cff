/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_mem.c - checks of memory and limits: what may be locked, how much there is, what the cgroups allow. */
#include "doctor.h"
#include "rdmacg.h"
#include "sysparse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LIMITS   "/proc/self/limits"
#define MIB      (UINT64_C(1) << 20)
#define GIB      (UINT64_C(1) << 30)
#define NEED     GIB /* assumed where the size of the pool is not told */
#define IPC_LOCK 14

static const char memlock_bare[] = "printf '* soft memlock unlimited\\n* hard memlock unlimited\\n' "
				   ">/etc/security/limits.d/rdma.conf    # and log in again; "
				   "a systemd service: LimitMEMLOCK=infinity";
static const char memlock_docker[] = "docker run --ulimit memlock=-1 --cap-add=IPC_LOCK ...";
static const char memlock_k8s[] = "securityContext: {runAsUser: 0, capabilities: {add: [IPC_LOCK]}}    # the "
				  "capability works for root only; there is no ulimit "
				  "field: otherwise LimitMEMLOCK=infinity in a drop-in of containerd.service";
static const char memlock_slurm[] = "PropagateResourceLimitsExcept=MEMLOCK    # in slurm.conf: else the limit of the "
				    "submitting shell is taken; check with srun "
				    "mcinfo doctor, not on the login node";

/* Soft limit of locked memory and whether CAP_IPC_LOCK is effective. False: the result is complete. */
static bool lock_rights(struct mc_doctor *d, struct mc_doc_result *r, uint64_t *soft, bool *cap)
{
	char *limits, *status, hex[64];
	uint64_t hard, set;
	bool ok = false;
	int e;

	limits = mc_sysroot_text(d->root, LIMITS, &e);
	if (mc_doc_unreadable(r, LIMITS, e))
		return false;
	status = mc_sysroot_text(d->root, "/proc/self/status", &e);
	if (mc_doc_unreadable(r, "/proc/self/status", e)) {
		free(limits);
		return false;
	}
	if (!mc_sys_limit(limits, "Max locked memory", soft, &hard)) {
		mc_doc_senseless(r, LIMITS, limits);
	} else if (!mc_sys_field(status, "CapEff", hex, sizeof(hex)) || !mc_sys_hex(hex, &set)) {
		mc_doc_senseless(r, "/proc/self/status", status);
	} else {
		*cap = (set >> IPC_LOCK & 1) != 0;
		ok = true;
	}
	free(limits);
	free(status);
	return ok;
}

static const char *memlock_fix(const struct mc_doctor *d)
{
	return mc_doc_pick(d, memlock_bare, memlock_docker, memlock_k8s, memlock_slurm);
}

void mc_doc_memlock(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint64_t soft, need = d->pool != 0 ? d->pool : NEED;
	char have[32], want[32];
	bool cap;

	if (!lock_rights(d, r, &soft, &cap))
		return;
	mc_sys_bytes_text(soft, have, sizeof(have));
	mc_sys_bytes_text(need, want, sizeof(want));
	mc_doc_read(r, LIMITS " (Max locked memory)");
	mc_doc_value(r, "%s%s", have, cap ? ", lifted by CAP_IPC_LOCK" : "");
	if (cap || soft >= need)
		return;
	mc_doc_set(r, MC_DOC_FAIL, "only %s may be locked, %s is needed: registering memory fails with ENOMEM", have,
		   want);
	if (d->pool == 0)
		mc_doc_add(r->cause, sizeof(r->cause), " (say the real size with --pool)");
	mc_doc_fix(r, "%s", memlock_fix(d));
}

void mc_doc_cap_ipc_lock(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint64_t soft, need = d->pool != 0 ? d->pool : NEED;
	bool cap;

	if (!lock_rights(d, r, &soft, &cap))
		return;
	mc_doc_read(r, "/proc/self/status (CapEff bit %d)", IPC_LOCK);
	mc_doc_value(r, "%s", cap ? "effective" : "not effective");
	if (cap || soft >= need)
		return;
	mc_doc_set(r, MC_DOC_FAIL,
		   "CAP_IPC_LOCK is not effective and the limit is low; a container that asks for it as another user "
		   "than root does "
		   "not have it");
	mc_doc_fix(r, "%s", memlock_fix(d));
}

void mc_doc_pin_test(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[256], arg[32], num[32], size[32];
	uint64_t small = 0, large = 0, bytes = 0;

	(void)snprintf(arg, sizeof(arg), "%" PRIu64, d->pool);
	int e = mc_sysroot_probe(d->root, "pin", arg, text, sizeof(text));
	mc_doc_read(r, "mlock() in a child process");
	if (e != 0) {
		mc_doc_set(r, MC_DOC_NA, "not tried: %s", strerror(e));
		return;
	}
	if (!mc_sys_field(text, "small", num, sizeof(num)) || !mc_sys_u64(num, &small) || small > 4095 ||
	    !mc_sys_field(text, "large", num, sizeof(num)) || !mc_sys_u64(num, &large) || large > 4095 ||
	    !mc_sys_field(text, "bytes", num, sizeof(num)) || !mc_sys_u64(num, &bytes)) {
		mc_doc_senseless(r, "probe/pin", text);
		return;
	}
	mc_sys_bytes_text(bytes, size, sizeof(size));
	mc_doc_value(r, "64 KiB: %s, %s: %s", small == 0 ? "ok" : strerror((int)small), size,
		     large == 0 ? "ok" : strerror((int)large));
	if (small == 0 && large == 0)
		return;
	int err = small != 0 ? (int)small : (int)large;
	mc_doc_set(r, small != 0 ? MC_DOC_FAIL : MC_DOC_WARN, "%s cannot be locked: %s%s",
		   small != 0 ? "even 64 KiB" : size, strerror(err),
		   err == ENOMEM
			   ? " (the limit of locked memory, see memlock; rootless: the kernel ignores a raised one)"
		   : err == EAGAIN ? " (not enough memory now, or a cgroup limit)"
				   : "");
	mc_doc_fix(r, "%s", memlock_fix(d));
}

/* ---- rdma cgroup --------------------------------------------------------------------------------------------------
 */

static void limit_text(uint64_t v, char *out, size_t len)
{
	if (v == MC_RDMACG_MAX || v == MC_RDMACG_NONE)
		(void)snprintf(out, len, "max");
	else
		(void)snprintf(out, len, "%" PRIu64, v);
}

/* Near the limit: nine tenths, or fewer than two left. */
static bool is_near(uint64_t now, uint64_t max)
{
	return max < MC_RDMACG_NONE && (now + 2 > max || now >= max - max / 10);
}

static void judge_use(const struct mc_rdmacg_level *l, const struct mc_rdmacg_use *u, struct mc_doc_result *r)
{
	char h[24], o[24];

	limit_text(u->max_handle, h, sizeof(h));
	limit_text(u->max_object, o, sizeof(o));
	bool full = is_near(u->handle, u->max_handle) || is_near(u->object, u->max_object);
	if (!full && u->event_max + u->event_fail == 0)
		return;
	bool none = (u->max_handle < MC_RDMACG_NONE && u->handle >= u->max_handle) ||
		    (u->max_object < MC_RDMACG_NONE && u->object >= u->max_object);
	if (full)
		mc_doc_set(r, none ? MC_DOC_FAIL : MC_DOC_WARN,
			   "%s/rdma.max %s %s: %" PRIu64 " of %s contexts and %" PRIu64
			   " of %s objects are in use; over it the "
			   "kernel answers EAGAIN",
			   l->path, none ? "is used up for" : "is nearly used up for", u->dev, u->handle, h, u->object,
			   o);
	else
		mc_doc_set(r, MC_DOC_WARN,
			   "%s/rdma.events: %s has run into the limit %" PRIu64 " times, %" PRIu64 " requests failed",
			   l->path, u->dev, u->event_max, u->event_fail);
	mc_doc_fix(r,
		   "echo '%s hca_handle=max hca_object=max' > %s/rdma.max    # as root; or fewer QPs and MRs per rank",
		   u->dev, l->path);
}

void mc_doc_rdma_cgroup(struct mc_doctor *d, struct mc_doc_result *r)
{
	struct mc_rdmacg g;
	char h[24], o[24];

	mc_rdmacg_read(d->root, &g);
	mc_doc_read(r, "%s/rdma.max, rdma.current and those above", g.own[0] != '\0' ? g.own : "/sys/fs/cgroup/...");
	if (g.own[0] == '\0') {
		mc_doc_set(r, MC_DOC_NA, "%s",
			   g.v1 ? "the rdma controller is in a version 1 hierarchy; it is not looked at"
				: "no cgroup version 2 is mounted here");
	} else if (g.level_n == 0) {
		mc_doc_value(r, "%s", g.controller ? "no limit: this is the root cgroup" : "controller not on");
		if (!g.controller)
			mc_doc_set(r, MC_DOC_NA,
				   "the rdma controller is not on for this cgroup: nothing limits RDMA objects");
	}
	for (uint32_t i = 0; i < g.level_n; i++) {
		for (uint32_t k = 0; k < g.level[i].use_n; k++) {
			const struct mc_rdmacg_use *u = &g.level[i].use[k];

			limit_text(u->max_handle, h, sizeof(h));
			limit_text(u->max_object, o, sizeof(o));
			if (strlen(r->value) < 300)
				mc_doc_add(r->value, sizeof(r->value),
					   "%s%s handles %" PRIu64 "/%s objects %" PRIu64 "/%s",
					   r->value[0] == '\0' ? "" : "; ", u->dev, u->handle, h, u->object, o);
			judge_use(&g.level[i], u, r);
		}
		if (g.level[i].bad > 0) {
			mc_doc_set(r, MC_DOC_WARN, "%u lines of the rdma files in %s make no sense", g.level[i].bad,
				   g.level[i].path);
			mc_doc_fix(r, "cat %s/rdma.max", g.level[i].path);
		}
	}
	if (g.level_n > 0 && r->value[0] == '\0')
		mc_doc_value(r, "no device listed");
	mc_rdmacg_free(&g);
}

/* ---- memory -------------------------------------------------------------------------------------------------------
 */

struct room {
	uint64_t left, max;
	char path[600];
};

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* One cgroup; files that hold cached pages are given back when memory is short. */
static void cgroup_room(struct mc_doctor *d, const char *dir, bool v2, struct room *best)
{
	char text[64];
	uint64_t max, now, cache = 0;

	if (mc_sysroot_readf(d->root, text, sizeof(text), "%s/%s", dir, v2 ? "memory.max" : "memory.limit_in_bytes") !=
		    0 ||
	    !mc_sys_max(text, &max) || max >= UINT64_C(1) << 62 ||
	    mc_sysroot_readf(d->root, text, sizeof(text), "%s/%s", dir,
			     v2 ? "memory.current" : "memory.usage_in_bytes") != 0 ||
	    !mc_sys_u64(text, &now))
		return;
	char *path = mc_xformat("%s/memory.stat", dir);
	char *stat = mc_sysroot_text(d->root, path, NULL);
	if (stat != NULL && !mc_sys_field_bytes(stat, v2 ? "inactive_file" : "total_inactive_file", &cache))
		cache = 0;
	free(stat);
	uint64_t left = minus(max, minus(now, cache));
	if (left < best->left) {
		best->left = left;
		best->max = max;
		(void)snprintf(best->path, sizeof(best->path), "%s", path);
		best->path[strlen(best->path) - 5] = '\0';
		mc_doc_add(best->path, sizeof(best->path), "%s", v2 ? ".max" : ".limit_in_bytes");
	}
	free(path);
}

/* All cgroups from the own one up to where the hierarchy is mounted. */
static void walk_cgroups(struct mc_doctor *d, bool v2, const char *cgroups, const char *mounts, struct room *best)
{
	char path[512], dir[1100];
	struct mc_sys_mount m;

	if (!mc_sys_cgroup_path(cgroups, v2 ? NULL : "memory", path, sizeof(path)) ||
	    !mc_sys_mount(mounts, v2 ? "cgroup2" : "cgroup", NULL, v2 ? NULL : "memory", &m))
		return;
	size_t root = strcmp(m.root, "/") == 0 ? 0 : strlen(m.root);
	const char *below = strncmp(path, m.root, root) == 0 ? path + root : path;
	(void)snprintf(dir, sizeof(dir), "%s%s", m.point, strcmp(below, "/") == 0 ? "" : below);
	while (strlen(dir) >= strlen(m.point)) {
		cgroup_room(d, dir, v2, best);
		char *slash = strrchr(dir, '/');
		if (slash == NULL)
			return;
		*slash = '\0';
	}
}

void mc_doc_memory(struct mc_doctor *d, struct mc_doc_result *r)
{
	struct room room = {.left = UINT64_MAX};
	char have[32], want[32], total[32];
	uint64_t avail;
	int e;
	char *info = mc_sysroot_text(d->root, "/proc/meminfo", &e);
	char *cgroups = mc_sysroot_text(d->root, "/proc/self/cgroup", NULL);
	char *mounts = mc_sysroot_text(d->root, "/proc/self/mountinfo", NULL);

	if (mc_doc_unreadable(r, "/proc/meminfo", e))
		goto out;
	mc_doc_read(r, "/proc/meminfo (MemAvailable), memory.max of the cgroups");
	if (!mc_sys_field_bytes(info, "MemAvailable", &avail)) {
		mc_doc_senseless(r, "/proc/meminfo", info);
		goto out;
	}
	if (cgroups != NULL && mounts != NULL) {
		walk_cgroups(d, true, cgroups, mounts, &room);
		walk_cgroups(d, false, cgroups, mounts, &room);
	}
	bool cg = room.left < avail;
	mc_sys_bytes_text(cg ? room.left : avail, have, sizeof(have));
	mc_sys_bytes_text(d->pool, want, sizeof(want));
	mc_sys_bytes_text(room.max, total, sizeof(total));
	mc_doc_value(r, "%s left%s%s%s", have, cg ? " of " : "", cg ? total : "", cg ? " (cgroup)" : "");
	if (cg)
		mc_doc_read(r, "%.190s", room.path);
	uint64_t need = d->pool != 0 ? d->pool : 256 * MIB;
	if ((cg ? room.left : avail) >= need)
		goto out;
	if (d->pool != 0)
		mc_doc_set(r, MC_DOC_FAIL, "a pool of %s does not fit: %s", want,
			   cg ? "the kernel kills the process (OOM) when the cgroup's limit is reached; locked memory "
				"and /dev/shm count"
			      : "the machine has no more");
	else
		mc_doc_set(r, MC_DOC_WARN, "only %s of memory are left", have);
	mc_doc_fix(
		r, "%s",
		!cg ? "stop what uses the memory, or a smaller pool: ps -eo rss,comm --sort=-rss | head"
		    : mc_doc_pick(d,
				  "echo max > .../memory.max    # the cgroup named above, as root; systemd: MemoryMax=",
				  "docker run --memory=SIZE ...    # pool + /dev/shm + 2 GiB",
				  "resources: {limits: {memory: SIZE}}    # pool + /dev/shm (emptyDir Memory) + 2Gi",
				  "#SBATCH --mem=SIZE"));
out:
	free(info);
	free(cgroups);
	free(mounts);
}

void mc_doc_dev_shm(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[128], num[32], have[32], all[32];
	uint64_t size, free_bytes;
	int e = mc_sysroot_probe(d->root, "shm", NULL, text, sizeof(text));

	mc_doc_read(r, "statvfs(/dev/shm)");
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d,
			       "mount -o remount,size=50% /dev/shm; ls -l /dev/shm    # remove what dead programs left",
			       "docker run --shm-size=16g ...    # or --ipc=host",
			       "volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 16Gi}}]\nvolumeMounts: "
			       "[{name: shm, mountPath: "
			       "/dev/shm}]    # counts against the memory limit",
			       NULL));
	if (e != 0) {
		mc_doc_value(r, "%s", strerror(e));
		mc_doc_set(r, e == ENOENT ? MC_DOC_FAIL : MC_DOC_NA, "/dev/shm cannot be looked at: %s", strerror(e));
		return;
	}
	if (!mc_sys_field(text, "size", num, sizeof(num)) || !mc_sys_u64(num, &size) ||
	    !mc_sys_field(text, "free", num, sizeof(num)) || !mc_sys_u64(num, &free_bytes)) {
		mc_doc_senseless(r, "probe/shm", text);
		return;
	}
	mc_sys_bytes_text(size, all, sizeof(all));
	mc_sys_bytes_text(free_bytes, have, sizeof(have));
	mc_doc_value(r, "%s, %s free", all, have);
	if (free_bytes < 16 * MIB)
		mc_doc_set(r, MC_DOC_FAIL, "/dev/shm is full: programs that put segments there die with SIGBUS");
	else if (size <= 64 * MIB)
		mc_doc_set(
			r, MC_DOC_WARN,
			"/dev/shm has the default size of containers: UCX, NCCL and others put segments there and die "
			"with SIGBUS when it is full");
	else if (free_bytes < d->pool)
		mc_doc_set(r, MC_DOC_WARN,
			   "the pool does not fit into /dev/shm, should the program put it there (mc_mem_alloc() does "
			   "not)");
}

static bool huge_on_nodes(struct mc_doctor *d, char *out, size_t len)
{
	uint64_t v, some = 0, none = 0;
	struct mc_strv nodes = {0};
	char text[64];

	(void)mc_sysroot_list(d->root, "/sys/devices/system/node", &nodes);
	for (size_t i = 0; i < nodes.n; i++) {
		if (strncmp(nodes.v[i], "node", 4) != 0 ||
		    mc_sysroot_readf(d->root, text, sizeof(text),
				     "/sys/devices/system/node/%s/hugepages/hugepages-2048kB/free_hugepages",
				     nodes.v[i]) != 0 ||
		    !mc_sys_u64(text, &v))
			continue;
		mc_doc_add(out, len, "%s%s %" PRIu64, some + none == 0 ? "" : ", ", nodes.v[i], v);
		*(v > 0 ? &some : &none) += 1;
	}
	mc_strv_free(&nodes);
	return some == 0 || none == 0;
}

void mc_doc_huge_pages(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint64_t total, free_n, size;
	char have[32], per_node[128] = "";
	int e;
	char *info = mc_sysroot_text(d->root, "/proc/meminfo", &e);

	if (mc_doc_unreadable(r, "/proc/meminfo", e))
		return;
	mc_doc_read(r, "/proc/meminfo (HugePages_*)");
	if (!mc_sys_field_bytes(info, "HugePages_Total", &total) ||
	    !mc_sys_field_bytes(info, "HugePages_Free", &free_n) || !mc_sys_field_bytes(info, "Hugepagesize", &size) ||
	    size == 0) {
		if (strstr(info, "HugePages_Total") == NULL)
			mc_doc_set(r, MC_DOC_NA, "this kernel has no huge pages");
		else
			mc_doc_senseless(r, "/proc/meminfo", info);
		goto out;
	}
	mc_sys_bytes_text(size, have, sizeof(have));
	bool even = huge_on_nodes(d, per_node, sizeof(per_node));
	mc_doc_value(r, "%" PRIu64 " of %" PRIu64 " of %s free%s%s", free_n, total, have,
		     per_node[0] != '\0' ? "; " : "", per_node);
	if (total == 0 && d->pool < 4 * GIB)
		goto out; /* nobody has asked for them */
	if (total == 0)
		mc_doc_set(r, MC_DOC_WARN,
			   "no huge pages are reserved; a pool of this size is faster with them (MC_MEM_HUGE)");
	else if (free_n == 0)
		mc_doc_set(r, MC_DOC_WARN, "huge pages are reserved, but none is free");
	else if (d->pool != 0 && free_n < d->pool / size)
		mc_doc_set(r, MC_DOC_WARN, "fewer huge pages are free than the pool needs (%" PRIu64 ")",
			   d->pool / size);
	else if (!even)
		mc_doc_set(r, MC_DOC_WARN, "one NUMA node has no free huge pages: a pool bound to it gets none");
	if (d->pool != 0)
		mc_doc_fix(
			r, "%s%" PRIu64 "%s",
			mc_doc_pick(d, "sysctl vm.nr_hugepages=", NULL, "resources: {limits: {hugepages-2Mi: \"", NULL),
			d->where == MC_DOC_IN_K8S ? d->pool / MIB : d->pool / size + 64,
			d->where == MC_DOC_IN_K8S ? "Mi\"}}" : "");
	else
		mc_doc_fix(
			r, "%s",
			mc_doc_pick(d,
				    "echo N > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages   "
				    " # per node",
				    NULL, "resources: {limits: {hugepages-2Mi: SIZE}}", NULL));
out:
	free(info);
}

void mc_doc_open_files(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint64_t soft, hard;
	int e;
	char *limits = mc_sysroot_text(d->root, LIMITS, &e);

	if (mc_doc_unreadable(r, LIMITS, e))
		return;
	if (!mc_sys_limit(limits, "Max open files", &soft, &hard)) {
		mc_doc_senseless(r, LIMITS, limits);
		goto out;
	}
	mc_doc_read(r, LIMITS " (Max open files)");
	mc_doc_value(r, "%" PRIu64 ", at most %" PRIu64, soft, hard);
	if (soft == UINT64_MAX)
		mc_doc_value(r, "unlimited");
	if (soft >= 4096)
		goto out;
	mc_doc_set(r, MC_DOC_WARN,
		   "%" PRIu64 " open files are enough for about %" PRIu64 " TCP peers or %" PRIu64
		   " RDMA peers per rank",
		   soft, soft / 4, soft / 8);
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d, "ulimit -n 1048576    # for good: nofile in /etc/security/limits.conf",
			       "docker run --ulimit nofile=1048576 ...",
			       "command: [sh, -c, \"ulimit -n 1048576; exec mcrun ...\"]", NULL));
out:
	free(limits);
}

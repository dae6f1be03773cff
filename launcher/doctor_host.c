/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_host.c - checks of NUMA, of what processes may do to each other, of the clock, and of Slurm's PMIx plug-in. */
#include "doctor.h"
#include "sysparse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void mc_doc_numa(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[64], mems[256] = "", node[32];
	uint64_t balancing = 0;
	static const char path[] = "/proc/sys/kernel/numa_balancing";
	int e = mc_sysroot_read(d->root, path, text, sizeof(text));

	mc_doc_read(r, "%s, Mems_allowed_list", path);
	if (e == 0 && (!mc_sys_u64(text, &balancing) || balancing > 7)) {
		mc_doc_senseless(r, path, text);
		return;
	}
	char *status = mc_sysroot_text(d->root, "/proc/self/status", NULL);
	if (status != NULL && !mc_sys_field(status, "Mems_allowed_list", mems, sizeof(mems)))
		mems[0] = '\0';
	free(status);
	mc_doc_value(r, "%u node%s, balancing %s, allowed %s", d->node_n, d->node_n == 1 ? "" : "s",
		     e != 0           ? "not in this kernel"
		     : balancing != 0 ? "on"
				      : "off",
		     mems[0] == '\0' ? "?" : mems);
	if (balancing != 0 && d->node_n > 1) {
		mc_doc_set(r, MC_DOC_WARN,
			   "the kernel moves pages between NUMA nodes by itself: pauses, and pools leave the node of "
			   "their NIC");
		mc_doc_fix(r, "sysctl -w kernel.numa_balancing=0    # on the host");
	}
	for (uint32_t i = 0; i < d->dev_n && d->node_n > 1; i++) {
		bool meets = true;

		if (d->dev[i].node < 0) {
			if (d->dev[i].pci[0] != '\0')
				mc_doc_set(r, MC_DOC_WARN,
					   "the machine does not say on which NUMA node %s is (numa_node is -1)",
					   d->dev[i].name);
			continue;
		}
		(void)snprintf(node, sizeof(node), "%" PRId64, d->dev[i].node);
		if (mems[0] != '\0' && mc_sys_list_meets(node, mems, &meets) && !meets) {
			mc_doc_set(r, MC_DOC_WARN, "this process may not use NUMA node %s, where %s is", node,
				   d->dev[i].name);
			mc_doc_fix(r, "%s",
				   mc_doc_pick(d,
					       "numactl --cpunodebind=N --membind=N ...    # as the rank's NIC wants: "
					       "mcinfo topo",
					       "docker run --cpuset-mems=ALL ...",
					       "kubelet: cpuManagerPolicy: static, topologyManagerPolicy: restricted",
					       "srun --mem-bind=local --cpu-bind=ldoms"));
		}
	}
	if (r->status == MC_DOC_WARN && r->fix[0] == '\0')
		mc_doc_fix(r, "BIOS: NUMA and ACPI SLIT/SRAT on; in a VM the host must pass the topology on");
}

void mc_doc_cma(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[64], scope[32] = "";
	static const char path[] = "/proc/sys/kernel/yama/ptrace_scope";
	uint64_t level = 0, error = 0;
	int e = mc_sysroot_read(d->root, path, scope, sizeof(scope));

	if (e == 0 && (!mc_sys_u64(scope, &level) || level > 3)) {
		mc_doc_senseless(r, path, scope);
		return;
	}
	mc_doc_read(r, "%s, process_vm_readv() between two processes", path);
	int p = mc_sysroot_probe(d->root, "cma", NULL, text, sizeof(text));
	if (p == 0 && (!mc_sys_u64(text, &error) || error > 4095)) {
		mc_doc_senseless(r, "probe/cma", text);
		return;
	}
	mc_doc_value(r, "ptrace_scope %s, copy %s", e == 0 ? scope : "absent",
		     p != 0       ? "not tried"
		     : error == 0 ? "works"
				  : strerror((int)error));
	if (p == 0 ? error == 0 : level == 0)
		return;
	mc_doc_set(r, MC_DOC_WARN,
		   "processes may not copy from each other%s: memory that a program registers is sent through messages "
		   "on the same host "
		   "(memory from mc_mem_alloc() is mapped and not affected)",
		   level > 0        ? " (ptrace_scope)"
		   : error == EPERM ? " (seccomp or another security module)"
				    : "");
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d, "sysctl -w kernel.yama.ptrace_scope=0",
			       "docker run --cap-add=SYS_PTRACE ...    # or --security-opt seccomp=unconfined",
			       "securityContext: {capabilities: {add: [SYS_PTRACE]}}", NULL));
}

/* Numbers that the kernel gives to the first namespace of each kind. */
#define FIRST_UTS UINT64_C(4026531838)
#define FIRST_PID UINT64_C(4026531836)

void mc_doc_pid_namespace(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[256], num[32];
	uint64_t pid, uts;
	int e = mc_sysroot_probe(d->root, "namespaces", NULL, text, sizeof(text));

	mc_doc_read(r, "/proc/self/ns/{pid,uts}");
	if (e != 0) {
		mc_doc_set(r, MC_DOC_NA, "not known: %s", strerror(e));
		return;
	}
	if (!mc_sys_field(text, "pid", num, sizeof(num)) || !mc_sys_u64(num, &pid) ||
	    !mc_sys_field(text, "uts", num, sizeof(num)) || !mc_sys_u64(num, &uts)) {
		mc_doc_senseless(r, "probe/namespaces", text);
		return;
	}
	mc_doc_value(r, "pid %s, host name %s", pid == FIRST_PID ? "of the host" : "own",
		     uts == FIRST_UTS ? "of the host" : "own");
	if (pid == FIRST_PID || uts != FIRST_UTS)
		return;
	mc_doc_set(
		r, MC_DOC_WARN,
		"this container has the host's name but its own process numbers: ranks in two such containers of one "
		"host do not reach each other's memory and talk by RDMA or TCP");
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d, "start all ranks of a host in one namespace",
			       "docker run --pid=host --ipc=host ...    # or all ranks of a host in one container",
			       "hostPID: true    # or all ranks of a host in one pod with shareProcessNamespace: true, "
			       "or MC_HOST by metadata.name",
			       NULL));
}

static bool pids_left(struct mc_doctor *d, bool v2, const char *cgroups, const char *mounts, uint64_t *left,
		      char *where, size_t len)
{
	char path[512], dir[1100], text[64];
	struct mc_sys_mount m;
	uint64_t max, now;

	if (!mc_sys_cgroup_path(cgroups, v2 ? NULL : "pids", path, sizeof(path)) ||
	    !mc_sys_mount(mounts, v2 ? "cgroup2" : "cgroup", NULL, v2 ? NULL : "pids", &m))
		return true;
	size_t root = strcmp(m.root, "/") == 0 ? 0 : strlen(m.root);
	const char *below = strncmp(path, m.root, root) == 0 ? path + root : path;
	(void)snprintf(dir, sizeof(dir), "%s%s", m.point, strcmp(below, "/") == 0 ? "" : below);
	while (strlen(dir) >= strlen(m.point)) {
		if (mc_sysroot_readf(d->root, text, sizeof(text), "%s/pids.max", dir) == 0) {
			if (!mc_sys_max(text, &max)) {
				(void)snprintf(where, len, "%s/pids.max", dir);
				return false;
			}
			if (max != UINT64_MAX &&
			    mc_sysroot_readf(d->root, text, sizeof(text), "%s/pids.current", dir) == 0 &&
			    mc_sys_u64(text, &now) && (now > max ? 0 : max - now) < *left) {
				*left = now > max ? 0 : max - now;
				(void)snprintf(where, len, "%s/pids.max", dir);
			}
		}
		char *slash = strrchr(dir, '/');
		if (slash == NULL)
			break;
		*slash = '\0';
	}
	return true;
}

void mc_doc_process_limit(struct mc_doctor *d, struct mc_doc_result *r)
{
	char where[1200] = "/proc/self/limits (Max processes)";
	uint64_t soft, hard, left;
	int e;
	char *limits = mc_sysroot_text(d->root, "/proc/self/limits", &e);

	if (mc_doc_unreadable(r, "/proc/self/limits", e))
		return;
	char *cgroups = mc_sysroot_text(d->root, "/proc/self/cgroup", NULL);
	char *mounts = mc_sysroot_text(d->root, "/proc/self/mountinfo", NULL);
	if (!mc_sys_limit(limits, "Max processes", &soft, &hard)) {
		mc_doc_senseless(r, "/proc/self/limits", limits);
		goto out;
	}
	left = soft;
	if (cgroups != NULL && mounts != NULL &&
	    (!pids_left(d, true, cgroups, mounts, &left, where, sizeof(where)) ||
	     !pids_left(d, false, cgroups, mounts, &left, where, sizeof(where)))) {
		mc_doc_senseless(r, where, "not a number");
		goto out;
	}
	mc_doc_read(r, "%.190s", where);
	if (left == UINT64_MAX)
		mc_doc_value(r, "unlimited");
	else
		mc_doc_value(r, "%" PRIu64 " more", left);
	if (left < 16)
		mc_doc_set(r, MC_DOC_FAIL, "only %" PRIu64 " more processes and threads may be started", left);
	else if (left < 256)
		mc_doc_set(r, MC_DOC_WARN,
			   "only %" PRIu64 " more processes and threads may be started; a rank needs about 4", left);
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d, "ulimit -u unlimited; systemd: TasksMax=infinity", "docker run --pids-limit=-1 ...",
			       "kubelet: podPidsLimit: -1", NULL));
out:
	free(limits);
	free(cgroups);
	free(mounts);
}

void mc_doc_clock(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[256], num[64], source[64] = "?";
	static const char *const quick[] = {"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page",
					    "xen", "timebase"};
	uint64_t year, sync;
	int e = mc_sysroot_probe(d->root, "clock", NULL, text, sizeof(text));

	(void)mc_sysroot_read(d->root, "/sys/devices/system/clocksource/clocksource0/current_clocksource", source,
			      sizeof(source));
	mc_doc_read(r, "adjtimex(), /sys/devices/system/clocksource/clocksource0/current_clocksource");
	if (e != 0) {
		mc_doc_set(r, MC_DOC_NA, "not known: %s", strerror(e));
		return;
	}
	if (!mc_sys_field(text, "year", num, sizeof(num)) || !mc_sys_u64(num, &year) ||
	    !mc_sys_field(text, "synchronized", num, sizeof(num)) || !mc_sys_u64(num, &sync)) {
		mc_doc_senseless(r, "probe/clock", text);
		return;
	}
	bool fast = source[0] == '\0' || source[0] == '?';
	for (size_t i = 0; i < sizeof(quick) / sizeof(quick[0]); i++)
		fast = fast || strcmp(source, quick[i]) == 0;
	mc_doc_value(r, "year %" PRIu64 ", %s, source %s", year, sync != 0 ? "synchronized" : "not synchronized",
		     source);
	mc_doc_fix(r, "timedatectl set-ntp true    # or start chronyd; in a container: on the host");
	bool tls = d->etcd != NULL && strncmp(d->etcd, "https:", 6) == 0;
	if (year < 2024)
		mc_doc_set(r, MC_DOC_FAIL, "the clock is years wrong: munge and TLS certificates are refused");
	else if (!fast) {
		mc_doc_set(r, MC_DOC_WARN, "reading the clock %s is slow (a system call or a device each time)",
			   source);
		mc_doc_fix(r, "clocksource=tsc    # on the kernel's command line, tsc=reliable where the machine is "
			      "known good");
	} else if (sync == 0 && (d->where == MC_DOC_IN_SLURM || tls)) {
		mc_doc_set(
			r, MC_DOC_WARN,
			"nothing keeps the clock right: munge refuses what is 5 minutes off, TLS what is not yet or no "
			"longer valid");
	}
}

void mc_doc_slurm_pmix(struct mc_doctor *d, struct mc_doc_result *r)
{
	static const char *const path[] = {
		"/usr/lib/x86_64-linux-gnu/pmix2/lib/libpmix.so",
		"/usr/lib/aarch64-linux-gnu/pmix2/lib/libpmix.so",
		"/usr/lib/x86_64-linux-gnu/libpmix.so",
		"/usr/lib64/libpmix.so",
		"/usr/lib64/pmix/lib/libpmix.so",
		"/usr/local/lib/libpmix.so",
		"/opt/pmix/lib/libpmix.so",
	};

	mc_doc_read(r, "libpmix.so");
	if (d->where != MC_DOC_IN_SLURM) {
		mc_doc_set(r, MC_DOC_NA, "not under Slurm (--for slurm asks for it)");
		return;
	}
	for (size_t i = 0; i < sizeof(path) / sizeof(path[0]); i++)
		if (mc_sysroot_exists(d->root, path[i])) {
			mc_doc_value(r, "%s", path[i]);
			return;
		}
	mc_doc_value(r, "not found");
	mc_doc_set(r, MC_DOC_FAIL,
		   "Slurm's plug-in loads libpmix.so without a version number, which only the development package has; "
		   "srun --mpi=pmix fails with "
		   "\"can not load PMIx library\" although srun --mpi=list shows it");
	mc_doc_fix(r, "apt-get install libpmix-dev    # on the submit host and every node");
}

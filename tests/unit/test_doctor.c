/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_doctor.c - every check on a healthy machine (ok) and with one thing broken (its id, status and cause); then
 * every file of the tree emptied, cut, filled with garbage: a message, never a crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdbool.h>
#include <time.h>

#include "doctor.h"
#include "doctor_tree.h"

static struct mc_doc_result result[128];

static int run_mode(enum mc_doc_mode mode, uint64_t pool, struct mc_doctor *keep)
{
	struct mc_doctor d = {.mode = mode, .pool = pool};
	struct mc_err err;

	assert_true(mc_doc_check_n <= 128);
	if (mc_sysroot_open(tree, NULL, mc_doctor_probe, &d.root, &err) != 0)
		fail_msg("%s", err.text);
	mc_doctor_gather(&d);
	mc_doctor_run(&d, result);
	int code = mc_doctor_code(result);
	if (keep != NULL)
		*keep = d;
	else
		mc_doctor_free(&d);
	return code;
}

static const struct mc_doc_result *of(const char *id)
{
	for (size_t i = 0; i < mc_doc_check_n; i++)
		if (strcmp(mc_doc_checks[i].id, id) == 0)
			return &result[i];
	fail_msg("there is no check %s", id);
	return NULL;
}

static void dump(const char *id, const struct mc_doc_result *r)
{
	static const char *const names[] = {"ok", "warn", "fail", "na"};

	print_error("%s: %s | %s | %s | %s | %s\n", id, names[r->status], r->read, r->value, r->cause, r->fix);
}

static int make_tree(void **state)
{
	(void)state;
	tree_make();
	return 0;
}

static int drop_tree(void **state)
{
	(void)state;
	tree_drop();
	return 0;
}

static void doctor__healthy_machine(void **state)
{
	(void)state;
	assert_int_equal(run_mode(MC_DOC_SLURM, UINT64_C(1) << 30, NULL), 0);
	for (size_t i = 0; i < mc_doc_check_n; i++) {
		bool etcd = strcmp(mc_doc_checks[i].id, "etcd") ==
			    0; /* asked for by URL alone, see tests/job/doctor_etcd.sh */

		if (result[i].status != (etcd ? MC_DOC_NA : MC_DOC_OK)) {
			dump(mc_doc_checks[i].id, &result[i]);
			fail_msg("%s is not ok on a healthy machine", mc_doc_checks[i].id);
		}
		if (!etcd && (result[i].read[0] == '\0' || (result[i].value[0] == '\0')))
			fail_msg("%s does not say what it read", mc_doc_checks[i].id);
		assert_true(result[i].status == MC_DOC_NA || (result[i].cause[0] == '\0' && result[i].fix[0] == '\0'));
	}
	for (size_t i = 0; i < mc_doc_check_n; i++)
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(mc_doc_checks[i].id, mc_doc_checks[k].id);
}

/* One broken thing: text NULL removes the path. A second change may follow in the next row with id NULL. */
static const struct bad {
	const char *id, *path, *text;
	enum mc_doc_mode mode;
	enum mc_doc_status status;
	const char *cause, *fix;
} bads[] = {
	{"rdma-device", "/sys/class/infiniband", NULL, MC_DOC_RDMA, MC_DOC_FAIL, "no RDMA here", "rdma-core"},
	{"rdma-device", "/sys/class/infiniband", NULL, MC_DOC_ANY, MC_DOC_WARN, "shared memory", "modprobe"},
	{"rdma-device", "/sys/class/infiniband", NULL, MC_DOC_K8S, MC_DOC_WARN, "no RDMA here", "rdma/hca"},
	{"verbs-module", "/sys/class/infiniband_verbs", NULL, MC_DOC_RDMA, MC_DOC_FAIL, "ib_uverbs", "modprobe"},
	{NULL, "/sys/module/ib_uverbs", NULL, 0, 0, NULL, NULL},
	{"verbs-module", "/sys/module/rdma_ucm", NULL, MC_DOC_RDMA, MC_DOC_WARN, "rdma_ucm is missing", "modprobe"},
	{"device-nodes", "/probe/nodes", "uverbs0 0\nrdma_cm 0\n", MC_DOC_CONTAINER, MC_DOC_FAIL, "1 of 2 devices",
	 "--device=/dev/infiniband"},
	{"device-nodes", "/probe/nodes", "uverbs0 0\nuverbs1 1\nrdma_cm 0\n", MC_DOC_RDMA, MC_DOC_FAIL,
	 "may not be opened", "udev"},
	{"device-nodes", "/probe/nodes", "uverbs0 0\nuverbs1 0\n", MC_DOC_RDMA, MC_DOC_WARN, "rdma_cm is missing",
	 "modprobe"},
	{"device-nodes", "/probe/nodes", NULL, MC_DOC_K8S, MC_DOC_FAIL, "2 of 2 devices", "hostNetwork"},
	{"verbs-provider", "/probe/verbs", "mlx5_0\n", MC_DOC_RDMA, MC_DOC_FAIL, "mlx5_1 (mlx5)", "ibverbs-providers"},
	{"verbs-provider", "/probe/verbs", NULL, MC_DOC_RDMA, MC_DOC_FAIL, "libibverbs is not installed",
	 "libibverbs1"},
	{"port-state", IB(0) "/ports/1/state", "1: DOWN\n", MC_DOC_RDMA, MC_DOC_WARN, "mlx5_0:1 is DOWN",
	 "ip link set ens0 up"},
	{"port-state", IB(0) "/ports/1/state", "2: INIT\n", MC_DOC_RDMA, MC_DOC_FAIL, "no subnet manager", "opensm"},
	{NULL, IB(1) "/ports/1/state", "2: INIT\n", 0, 0, NULL, NULL},
	{"port-state", IB(0) "/ports/1/state", "up\n", MC_DOC_RDMA, MC_DOC_WARN, "makes no sense", "rdma link"},
	{"port-phys", IB(1) "/ports/1/phys_state", "2: Polling\n", MC_DOC_RDMA, MC_DOC_WARN, "mlx5_1:1 is Polling",
	 "cable"},
	{"port-phys", IB(1) "/ports/1/phys_state", "3: Disabled\n", MC_DOC_RDMA, MC_DOC_FAIL, "Disabled",
	 "ip link set"},
	{NULL, IB(0) "/ports/1/phys_state", "3: Disabled\n", 0, 0, NULL, NULL},
	{"port-rate", IB(1) "/ports/1/rate", "100 Gb/sec (4X EDR)\n", MC_DOC_RDMA, MC_DOC_WARN,
	 "runs at 100 Gb/s, an equal device at 400", "cable"},
	{"port-rate", IB(1) "/ports/1/rate", "fast\n", MC_DOC_RDMA, MC_DOC_WARN, "makes no sense", "record"},
	{"link-layer", IB(1) "/ports/1/link_layer", "InfiniBand\n", MC_DOC_RDMA, MC_DOC_WARN, "both kinds",
	 "MC_DEVICE=mlx5_1:1"},
	{"roce-gid", IB(1) "/ports/1/gid_attrs/types/3", "IB/RoCE v1\n", MC_DOC_RDMA, MC_DOC_WARN, "only link-local",
	 "ip addr add"},
	{"roce-gid", IB(1) "/ports/1/gids", NULL, MC_DOC_RDMA, MC_DOC_FAIL, "0 GIDs", "ip addr add"},
	{NULL, IB(0) "/ports/1/gids", NULL, 0, 0, NULL, NULL},
	{"roce-gid", IB(1) "/ports/1/gids/2", "fe80:0000\n", MC_DOC_RDMA, MC_DOC_WARN,
	 "1 GIDs of mlx5_1:1 make no sense", NULL},
	{"gid-netdev", "/sys/class/net/ens1", NULL, MC_DOC_RDMA, MC_DOC_WARN, "ens1 of mlx5_1:1", "nsenter"},
	{"gid-netdev", "/sys/class/net", NULL, MC_DOC_K8S, MC_DOC_FAIL, "not in this network namespace",
	 "hostNetwork: true"},
	{"rdma-netns", "/sys/module/ib_core/parameters/netns_mode", "N\n", MC_DOC_CONTAINER, MC_DOC_WARN, "exclusive",
	 "rdma system set"},
	{"rdma-netns", "/sys/module/ib_core/parameters/netns_mode", "?\n", MC_DOC_RDMA, MC_DOC_WARN, "makes no sense",
	 NULL},
	{"mtu", "/sys/class/net/ens1/mtu", "1500\n", MC_DOC_RDMA, MC_DOC_WARN, "different MTUs", "mtu 9000"},
	{"mtu", "/sys/class/net/ens1/mtu", "-3\n", MC_DOC_RDMA, MC_DOC_WARN, "makes no sense", NULL},
	{"memlock", "/proc/self/limits", "Max locked memory         8388608   8388608   bytes\n", MC_DOC_RDMA,
	 MC_DOC_FAIL, "only 8 MiB may be locked", "limits.d"},
	{NULL, "/proc/self/status", "CapEff:\t0000000000000000\n", 0, 0, NULL, NULL},
	{"memlock", "/proc/self/limits", "Max locked memory         8388608   8388608   bytes\n", MC_DOC_SLURM,
	 MC_DOC_FAIL, "ENOMEM", "PropagateResourceLimitsExcept=MEMLOCK"},
	{NULL, "/proc/self/status", "CapEff:\t0000000000000000\n", 0, 0, NULL, NULL},
	{"memlock", "/proc/self/limits", "Max locked memory lots\n", MC_DOC_RDMA, MC_DOC_WARN, "makes no sense", NULL},
	{"cap-ipc-lock", "/proc/self/status", "CapEff:\t0000000000000000\n", MC_DOC_K8S, MC_DOC_FAIL,
	 "CAP_IPC_LOCK is not effective", "IPC_LOCK"},
	{NULL, "/proc/self/limits", "Max locked memory         8388608   8388608   bytes\n", 0, 0, NULL, NULL},
	{"cap-ipc-lock", "/proc/self/status", "CapEff:\tnone\n", MC_DOC_K8S, MC_DOC_WARN, "makes no sense", NULL},
	{"pin-test", "/probe/pin", "small 12\nlarge 12\nbytes 67108864\n", MC_DOC_RDMA, MC_DOC_FAIL,
	 "even 64 KiB cannot be locked", "memlock"},
	{"pin-test", "/probe/pin", "small 0\nlarge 11\nbytes 67108864\n", MC_DOC_RDMA, MC_DOC_WARN, "cgroup",
	 "memlock"},
	{"rdma-cgroup", "/sys/fs/cgroup/a/rdma.current", "mlx5_0 hca_handle=100 hca_object=20\n", MC_DOC_RDMA,
	 MC_DOC_FAIL, "used up for mlx5_0", "echo 'mlx5_0 hca_handle=max"},
	{"rdma-cgroup", "/sys/fs/cgroup/a/rdma.current", "mlx5_0 hca_handle=1 hca_object=9500\n", MC_DOC_RDMA,
	 MC_DOC_WARN, "nearly used up", "rdma.max"},
	{"rdma-cgroup", "/sys/fs/cgroup/a/rdma.events",
	 "mlx5_0 hca_handle.max=5 hca_handle.alloc_fail=3 hca_object.max=0 hca_object.alloc_fail=0\n", MC_DOC_RDMA,
	 MC_DOC_WARN, "5 times, 3 requests failed", "rdma.max"},
	{"rdma-cgroup", "/sys/fs/cgroup/a/rdma.max", "mlx5_0 hca_handle=x\n", MC_DOC_RDMA, MC_DOC_WARN, "1 lines",
	 "cat"},
	{"memory", "/sys/fs/cgroup/a/memory.max", "1073741824\n", MC_DOC_K8S, MC_DOC_FAIL, "does not fit",
	 "resources:"},
	{"memory", "/proc/meminfo", "MemAvailable: 1000 kB\n", MC_DOC_ANY, MC_DOC_FAIL, "the machine has no more",
	 "ps -eo"},
	{"memory", "/proc/meminfo", "MemAvailable: many kB\n", MC_DOC_ANY, MC_DOC_WARN, "makes no sense", NULL},
	{"dev-shm", "/probe/shm", "size 67108864\nfree 67108864\n", MC_DOC_CONTAINER, MC_DOC_WARN,
	 "default size of containers", "--shm-size"},
	{"dev-shm", "/probe/shm", "size 67108864\nfree 4096\n", MC_DOC_K8S, MC_DOC_FAIL, "SIGBUS", "medium: Memory"},
	{"dev-shm", "/probe/shm", "size 4294967296\nfree 536870912\n", MC_DOC_ANY, MC_DOC_WARN,
	 "the pool does not fit into /dev/shm", "mount"},
	{"huge-pages", "/proc/meminfo", "HugePages_Total: 4\nHugePages_Free: 0\nHugepagesize: 2048 kB\n", MC_DOC_ANY,
	 MC_DOC_WARN, "none is free", "nr_hugepages"},
	{"huge-pages", "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "0\n", MC_DOC_ANY,
	 MC_DOC_WARN, "one NUMA node", "nr_hugepages"},
	{"huge-pages", "/proc/meminfo", "HugePages_Total: 4\nHugePages_Free: x\nHugepagesize: 2048 kB\n", MC_DOC_ANY,
	 MC_DOC_WARN, "makes no sense", NULL},
	{"open-files", "/proc/self/limits",
	 "Max open files            1024                 4096                 files\n", MC_DOC_ANY, MC_DOC_WARN,
	 "1024 open files", "ulimit -n"},
	{"gpu", "/dev/nvidia0", NULL, MC_DOC_CONTAINER, MC_DOC_FAIL, "/dev/nvidia0 is not here", "--gpus all"},
	{"gpu", "/dev/nvidia0", NULL, MC_DOC_ANY, MC_DOC_WARN, "/dev/nvidia0 is not here", "nvidia-modprobe"},
	{"gpu", "/proc/driver/nvidia/version", NULL, MC_DOC_ANY, MC_DOC_WARN, "no driver is loaded", "modprobe nvidia"},
	{"gpudirect", "/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.1\n",
	 MC_DOC_RDMA, MC_DOC_WARN, "EFAULT", "nvidia_peermem"},
	{NULL, "/sys/module/nvidia_peermem", NULL, 0, 0, NULL, NULL},
	{"gpudirect", "/proc/sys/kernel/osrelease", "Plan9\n", MC_DOC_RDMA, MC_DOC_WARN, "makes no sense", NULL},
	{"gpu-nic", "/probe/_chosen", "mlx5_1:1\n", MC_DOC_RDMA, MC_DOC_WARN, "would use mlx5_1", "unset MC_DEVICE"},
	{"gpu-nic", PCI("0000:04:00.0/numa_node"), "-1\n", MC_DOC_RDMA, MC_DOC_WARN, "does not say where GPU",
	 "MC_DEVICE"},
	{"dead-nic", IB(0) "/ports/1/state", "1: DOWN\n", MC_DOC_RDMA, MC_DOC_WARN,
	 "mlx5_0, is not active; the next nearest is used: mlx5_1", "port-state"},
	{"gpu-no-nic", PCI("0000:04:00.0"), NULL, MC_DOC_RDMA, MC_DOC_WARN,
	 "GPU 0000:c4:00.0 has no NIC on its NUMA node 1", "mcinfo topo"},
	{NULL, PCI("0000:c4:00.0/class"), "0x030200\n", 0, 0, NULL, NULL},
	{NULL, PCI("0000:c4:00.0/vendor"), "0x10de\n", 0, 0, NULL, NULL},
	{NULL, PCI("0000:c4:00.0/numa_node"), "1\n", 0, 0, NULL, NULL},
	{NULL, IB(1), NULL, 0, 0, NULL, NULL},
	{"vm-p2p", "/sys/class/dmi/id/sys_vendor", "QEMU\n", MC_DOC_RDMA, MC_DOC_FAIL, "one emulated bridge", "ATS"},
	{NULL, PCI("0000:04:00.0"), NULL, 0, 0, NULL, NULL},
	{NULL, "/probe/links",
	 "/sys/bus/pci/devices/0000:05:00.0\t/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/"
	 "0000:05:00.0\n",
	 0, 0, NULL, NULL},
	{NULL, PCI("0000:05:00.0/class"), "0x030200\n", 0, 0, NULL, NULL},
	{NULL, PCI("0000:05:00.0/vendor"), "0x10de\n", 0, 0, NULL, NULL},
	{"pci-acs", PCI("0000:02:00.0/config"), "ACS", MC_DOC_RDMA, MC_DOC_WARN, "bridge 0000:02:00.0 redirects",
	 "setpci -s 0000:02:00.0"},
	{"pci-acs", PCI("0000:02:00.0/config"), "short", MC_DOC_RDMA, MC_DOC_NA, "by root only", NULL},
	{"iommu", "/sys/kernel/iommu_groups/11/type", "DMA-FQ\n", MC_DOC_RDMA, MC_DOC_WARN,
	 "translates every access of mlx5_1", "iommu=pt"},
	{"iommu", "/sys/kernel/iommu_groups/11/type", "?\n", MC_DOC_RDMA, MC_DOC_WARN, "makes no sense", NULL},
	{"pcie-link", PCI("0000:83:00.0/current_link_width"), "8\n", MC_DOC_RDMA, MC_DOC_WARN, "8 of 16 PCIe lanes",
	 "reseat"},
	{"pcie-link", PCI("0000:83:00.0/current_link_speed"), "8.0 GT/s PCIe\n", MC_DOC_RDMA, MC_DOC_WARN,
	 "8 of 32 GT/s", "reseat"},
	{"pcie-link", PCI("0000:83:00.0/current_link_width"), "wide\n", MC_DOC_RDMA, MC_DOC_WARN, "makes no sense",
	 NULL},
	{"roce-loss", IB(1) "/ports/1/hw_counters/out_of_sequence", "500000\n", MC_DOC_RDMA, MC_DOC_WARN,
	 "out_of_sequence 500000", "--pfc"},
	{"roce-loss", IB(1) "/ports/1/counters/link_downed", "40\n", MC_DOC_RDMA, MC_DOC_WARN, "went down 40 times",
	 "cable"},
	{"traffic-class", IB(1) "/tc/1/traffic_class", "Global tclass=0\n", MC_DOC_RDMA, MC_DOC_WARN,
	 "different traffic classes", "echo 106"},
	{"numa", "/proc/sys/kernel/numa_balancing", "1\n", MC_DOC_ANY, MC_DOC_WARN, "moves pages", "numa_balancing=0"},
	{"numa", "/proc/self/status", "CapEff:\t0000000000004000\nMems_allowed_list:\t0\n", MC_DOC_SLURM, MC_DOC_WARN,
	 "node 1, where mlx5_1 is", "--mem-bind"},
	{"numa", "/proc/sys/kernel/numa_balancing", "often\n", MC_DOC_ANY, MC_DOC_WARN, "makes no sense", NULL},
	{"host-name", "/probe/resolve", "node7\n127.0.1.1\n", MC_DOC_SLURM, MC_DOC_FAIL, "loopback", "/etc/hosts"},
	{"host-name", "/probe/resolve", "node7\n127.0.1.1\n::1\n", MC_DOC_ANY, MC_DOC_WARN, "loopback", "/etc/hosts"},
	{"host-name", "/probe/resolve", "node7\nerror Name or service not known\n", MC_DOC_K8S, MC_DOC_WARN,
	 "does not resolve", "hostNetwork"},
	{"proxy", "/probe/proxies", "http_proxy https_proxy\n", MC_DOC_ANY, MC_DOC_WARN, "http_proxy https_proxy",
	 "no_proxy"},
	{"ports", "/proc/sys/net/ipv4/ip_local_port_range", "60000 60010\n", MC_DOC_ANY, MC_DOC_FAIL, "only 11 ports",
	 "sysctl"},
	{"ports", "/proc/sys/net/ipv4/ip_local_port_range", "60000 62000\n", MC_DOC_ANY, MC_DOC_WARN, "only 2001 ports",
	 "sysctl"},
	{"ports", "/proc/net/sockstat", "TCP: inuse 24000 orphan 0 tw 3000 alloc 40 mem 5\n", MC_DOC_ANY, MC_DOC_WARN,
	 "80%", "sysctl"},
	{"ports", "/proc/sys/net/ipv4/ip_local_port_range", "60999 32768\n", MC_DOC_ANY, MC_DOC_WARN, "makes no sense",
	 NULL},
	{"rdma-traffic", "/sys/class/net/ens0/statistics/tx_bytes", "99000000000\n", MC_DOC_RDMA, MC_DOC_WARN,
	 "fallen back to TCP", "MC_TRANSPORT=rdma"},
	{NULL, IB(0) "/ports/1/counters/port_xmit_data", "0\n", 0, 0, NULL, NULL},
	{NULL, IB(1) "/ports/1/counters/port_xmit_data", "0\n", 0, 0, NULL, NULL},
	{"tcp-interface", "/sys/class/net", NULL, MC_DOC_TCP, MC_DOC_FAIL, "no interface but loopback", "ip link set"},
	{"tcp-interface", "/probe/addresses", "lo 127.0.0.1\n", MC_DOC_ANY, MC_DOC_WARN, "has an IP address",
	 "ip addr add"},
	{"cma", "/probe/cma", "1\n", MC_DOC_CONTAINER, MC_DOC_WARN, "seccomp", "SYS_PTRACE"},
	{"cma", "/proc/sys/kernel/yama/ptrace_scope", "2\n", MC_DOC_ANY, MC_DOC_WARN, "ptrace_scope", "ptrace_scope=0"},
	{NULL, "/probe/cma", "1\n", 0, 0, NULL, NULL},
	{"cma", "/proc/sys/kernel/yama/ptrace_scope", "9\n", MC_DOC_ANY, MC_DOC_WARN, "makes no sense", NULL},
	{"pid-namespace", "/probe/namespaces", "pid 4026532500\nuts 4026531838\n", MC_DOC_K8S, MC_DOC_WARN,
	 "talk by RDMA or TCP", "hostPID"},
	{"process-limit", "/sys/fs/cgroup/a/pids.max", "100\n", MC_DOC_K8S, MC_DOC_WARN, "only 80 more",
	 "podPidsLimit"},
	{"process-limit", "/sys/fs/cgroup/a/pids.max", "21\n", MC_DOC_ANY, MC_DOC_FAIL, "only 1 more", "ulimit -u"},
	{"process-limit", "/sys/fs/cgroup/a/pids.max", "few\n", MC_DOC_ANY, MC_DOC_WARN, "makes no sense", NULL},
	{"clock", "/probe/clock", "year 1970\nsynchronized 0\n", MC_DOC_SLURM, MC_DOC_FAIL, "years wrong", "set-ntp"},
	{"clock", "/probe/clock", "year 2026\nsynchronized 0\n", MC_DOC_SLURM, MC_DOC_WARN, "munge", "set-ntp"},
	{"clock", "/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n", MC_DOC_ANY, MC_DOC_WARN,
	 "slow", "tsc"},
	{"slurm-pmix", "/usr/lib/x86_64-linux-gnu/libpmix.so", NULL, MC_DOC_SLURM, MC_DOC_FAIL, "libpmix.so",
	 "libpmix-dev"},
};
#define BAD_N (sizeof(bads) / sizeof(bads[0]))

static void apply(const struct bad *b)
{
	uint8_t bridge[512] = {[0x100] = 0x0d, [0x102] = 1, [0x106] = 0x1d};

	if (b->text == NULL)
		tree_rm(b->path);
	else if (strcmp(b->text, "ACS") == 0)
		tree_put_bytes(b->path, bridge, sizeof(bridge));
	else
		tree_put(b->path, b->text);
}

static void doctor__one_thing_broken(void **state)
{
	(void)state;
	for (size_t i = 0; i < BAD_N;) {
		const struct bad *b = &bads[i];

		tree_make();
		for (apply(b), i++; i < BAD_N && bads[i].id == NULL; i++)
			apply(&bads[i]);
		int code = run_mode(b->mode, UINT64_C(1) << 30, NULL);
		const struct mc_doc_result *r = of(b->id);
		int least = b->status == MC_DOC_FAIL ? 2 : b->status == MC_DOC_WARN ? 1 : 0;
		if (r->status != b->status || strstr(r->cause, b->cause) == NULL ||
		    (b->fix != NULL && strstr(r->fix, b->fix) == NULL) || code < least) {
			dump(b->id, r);
			fail_msg("row %zu: expected status %d, \"%s\" and \"%s\" from %s = \"%s\"; exit code %d", i,
				 b->status, b->cause, b->fix == NULL ? "" : b->fix, b->path,
				 b->text == NULL ? "(removed)" : b->text, code);
		}
		if (r->status != MC_DOC_NA && (r->read[0] == '\0' || (b->fix != NULL && r->fix[0] == '\0')))
			fail_msg("%s does not say what it read, or no fix", b->id);
		tree_drop();
	}
}

/* Every check has a bad fixture above; etcd has its own test. */
static void doctor__every_check_was_broken(void **state)
{
	(void)state;
	for (size_t i = 0; i < mc_doc_check_n; i++) {
		bool found = strcmp(mc_doc_checks[i].id, "etcd") == 0;

		for (size_t k = 0; k < BAD_N && !found; k++)
			found = bads[k].id != NULL && strcmp(bads[k].id, mc_doc_checks[i].id) == 0;
		if (!found)
			fail_msg("no fixture breaks %s", mc_doc_checks[i].id);
	}
}

static void doctor__tcp_does_not_ask_for_rdma(void **state)
{
	(void)state;
	tree_rm("/sys/class/infiniband");
	assert_int_equal(run_mode(MC_DOC_TCP, 0, NULL), 0);
	assert_int_equal(of("rdma-device")->status, MC_DOC_NA);
	assert_int_equal(run_mode(MC_DOC_ANY, 0, NULL), 1);
	assert_int_equal(run_mode(MC_DOC_RDMA, 0, NULL), 2);
}

static void doctor__place_decides_advice(void **state)
{
	(void)state;
	struct mc_doctor d;

	tree_put("/.dockerenv", "");
	(void)run_mode(MC_DOC_ANY, 0, &d);
	assert_int_equal(d.where, MC_DOC_IN_CONTAINER);
	mc_doctor_free(&d);
	tree_put("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "x");
	(void)run_mode(MC_DOC_ANY, 0, &d);
	assert_int_equal(d.where, MC_DOC_IN_K8S);
	mc_doctor_free(&d);
	tree_put("/probe/surroundings", "SLURM_JOB_ID\n");
	(void)run_mode(MC_DOC_ANY, 0, &d);
	assert_int_equal(d.where, MC_DOC_IN_SLURM);
	mc_doctor_free(&d);
}

/* The whole text fits 100 columns but for commands, which are not broken; the JSON has no raw control character. */
static void doctor__text_and_json(void **state)
{
	(void)state;
	struct mc_doctor d;
	char *text = NULL;
	size_t len = 0, n = 0;

	tree_rm("/sys/class/infiniband");
	(void)run_mode(MC_DOC_ANY, 0, &d);
	FILE *f = open_memstream(&text, &len);
	mc_doctor_print_text(&d, result, f);
	(void)fclose(f);
	assert_non_null(strstr(text, "no RDMA here: TCP and shared memory will be used"));
	for (const char *p = text; *p != '\0'; p += n + (p[n] == '\n')) {
		n = strcspn(p, "\n");
		if (n > 100)
			fail_msg("%zu columns: %.*s", n, (int)n, p);
	}
	free(text);
	f = open_memstream(&text, &len);
	mc_doctor_print_json(result, f);
	(void)fclose(f);
	assert_non_null(strstr(text, "{\"checks\": [\n{\"id\": \"rdma-device\", \"title\": \"RDMA devices\", "
				     "\"status\": \"warn\", \"read\": "));
	assert_non_null(strstr(text, "\"summary\": {\"ok\": "));
	free(text);
	mc_doctor_free(&d);
}

/* ---- garbage -------------------------------------------------------------------------------------------------------
 */

static char *files[512];
static size_t file_n;

static int collect(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)ftw;
	if (type == FTW_F && file_n < 512)
		files[file_n++] = strdup(path + strlen(tree));
	return 0;
}

static void check_words(const char *path)
{
	for (size_t i = 0; i < mc_doc_check_n; i++) {
		const char *text[] = {result[i].read, result[i].value, result[i].cause};

		for (size_t k = 0; k < 3; k++)
			for (const char *c = text[k]; *c != '\0'; c++)
				if ((unsigned char)*c < ' ' || *c == 0x7f)
					fail_msg("%s: a control character in %s", path, mc_doc_checks[i].id);
		if (result[i].status == MC_DOC_WARN || result[i].status == MC_DOC_FAIL)
			assert_true(result[i].cause[0] != '\0');
	}
}

static void doctor__garbage_in_every_file(void **state)
{
	(void)state;
	static char huge[300000];
	static const char binary[] = "\x00\xff\x01\x1b[31m\xc3\x28\n\x80\x00zz";
	static const char *const texts[] = {"",
					    "\n",
					    "99999999999999999999999999",
					    "-1",
					    "0x",
					    "4:",
					    "4: ",
					    "=",
					    "::::",
					    "%s%n%s%n",
					    "a b c d e f g h",
					    "18446744073709551615",
					    "0-",
					    "1-0",
					    "-",
					    "..",
					    "/",
					    "0::/../../etc\n",
					    " "};
	struct stat st;
	char full[1024];
	bool seen_warn = false;

	memset(huge, '9', sizeof(huge));
	(void)nftw(tree, collect, 16, FTW_PHYS);
	assert_true(file_n > 100);
	for (size_t i = 0; i < file_n; i++) {
		char keep[8192];

		snprintf(full, sizeof(full), "%s%s", tree, files[i]);
		FILE *f = fopen(full, "rb");
		size_t n = f == NULL ? 0 : fread(keep, 1, sizeof(keep), f);
		assert_non_null(f);
		(void)fclose(f);
		for (size_t k = 0; k < 7;
		     k++) { /* all kinds of text come round; the fuzzer of the parsers does the rest */
			size_t m = (i * 4 + k) % (sizeof(texts) / sizeof(texts[0]));

			if (k == 0)
				tree_put_bytes(files[i], binary, sizeof(binary));
			else if (k == 1)
				tree_put_bytes(files[i], huge, sizeof(huge));
			else if (k == 2)
				tree_put_bytes(files[i], keep, n / 2);
			else
				tree_put(files[i], texts[m]);
			seen_warn |= run_mode(MC_DOC_RDMA, UINT64_C(1) << 30, NULL) > 0;
			check_words(files[i]);
		}
		tree_put_bytes(files[i], keep, n);
		assert_int_equal(stat(full, &st), 0);
		free(files[i]);
	}
	file_n = 0;
	assert_true(seen_warn);
}

/* A directory where a file should be, a pipe that nobody writes, a link that leads out of the tree. */
static void doctor__strange_kinds_of_files(void **state)
{
	(void)state;
	char full[1024];

	tree_rm("/proc/meminfo");
	tree_put("/proc/meminfo/x", "");
	tree_rm("/proc/self/limits");
	snprintf(full, sizeof(full), "%s/proc/self/limits", tree);
	assert_int_equal(mkfifo(full, 0600), 0);
	tree_rm(IB(0) "/ports/1/state");
	snprintf(full, sizeof(full), "%s" IB(0) "/ports/1/state", tree);
	assert_int_equal(symlink("../../../../../../../../../../../../etc/hostname", full), 0);
	tree_rm(IB(1) "/ports/1/state");
	snprintf(full, sizeof(full), "%s" IB(1) "/ports/1/state", tree);
	assert_int_equal(symlink("/etc/hostname", full), 0);
	assert_int_equal(run_mode(MC_DOC_RDMA, 0, NULL), 2);
	assert_int_equal(of("memory")->status, MC_DOC_WARN);
	assert_int_equal(of("memlock")->status, MC_DOC_WARN);
	assert_non_null(strstr(of("port-state")->value, "mlx5_0:1 \"\""));
	assert_non_null(strstr(of("port-state")->value, "mlx5_1:1 \"\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(doctor__healthy_machine, make_tree, drop_tree),
		cmocka_unit_test(doctor__one_thing_broken),
		cmocka_unit_test(doctor__every_check_was_broken),
		cmocka_unit_test_setup_teardown(doctor__tcp_does_not_ask_for_rdma, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(doctor__place_decides_advice, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(doctor__text_and_json, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(doctor__garbage_in_every_file, make_tree, drop_tree),
		cmocka_unit_test_setup_teardown(doctor__strange_kinds_of_files, make_tree, drop_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

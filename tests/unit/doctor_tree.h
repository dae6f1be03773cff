/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_tree.h - a recorded tree of a healthy machine, made anew for each case: two RoCE NICs, one GPU, two NUMA
 * nodes. */
#ifndef DOCTOR_TREE_H
#define DOCTOR_TREE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char tree[64];

static void tree_fail(const char *what, const char *path)
{
	fprintf(stderr, "test: %s %s: %s\n", what, path, strerror(errno));
	abort();
}

static void tree_dirs(char *path)
{
	for (char *p = path + strlen(tree) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		if (mkdir(path, 0755) != 0 && errno != EEXIST)
			tree_fail("mkdir", path);
		*p = '/';
	}
}

static void tree_put_bytes(const char *path, const void *data, size_t len)
{
	char full[1024];

	snprintf(full, sizeof(full), "%s%s", tree, path);
	tree_dirs(full);
	FILE *f = fopen(full, "wb");
	if (f == NULL || fwrite(data, 1, len, f) != len || fclose(f) != 0)
		tree_fail("write", full);
}

static void tree_put(const char *path, const char *text)
{
	tree_put_bytes(path, text, strlen(text));
}

static inline void tree_rm(const char *path)
{
	char cmd[1200];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s%s'", tree, path);
	if (system(cmd) != 0)
		tree_fail("rm", path);
}

/* To another path of the tree, relative as in a real /sys, so that this program stays inside too when it writes. */
static void tree_link(const char *path, const char *target)
{
	char full[1024], up[1024] = ".";

	snprintf(full, sizeof(full), "%s%s", tree, path);
	tree_dirs(full);
	for (const char *p = strchr(path + 1, '/'); p != NULL; p = strchr(p + 1, '/'))
		strcat(up, "/..");
	strcat(up, target);
	if (symlink(up, full) != 0)
		tree_fail("symlink", full);
}

#define IB(i)  "/sys/class/infiniband/mlx5_" #i
#define PCI(b) "/sys/bus/pci/devices/" b

static void tree_netdev(unsigned i)
{
	char name[512];

	static const char *const net[][2] = {{"operstate", "up\n"},
					     {"mtu", "9000\n"},
					     {"statistics/tx_bytes", "123456\n"},
					     {"statistics/rx_bytes", "123456\n"}};
	for (size_t k = 0; k < sizeof(net) / sizeof(net[0]); k++) {
		snprintf(name, sizeof(name), "/sys/class/net/ens%u/%s", i, net[k][0]);
		tree_put(name, net[k][1]);
	}
}

static void tree_nic(unsigned i, const char *bdf, const char *path, const char *node)
{
	static const char *const file[][2] = {
		{"hca_type", "MT4129\n"},
		{"ports/1/state", "4: ACTIVE\n"},
		{"ports/1/phys_state", "5: LinkUp\n"},
		{"ports/1/rate", "400 Gb/sec (4X NDR)\n"},
		{"ports/1/link_layer", "Ethernet\n"},
		{"ports/1/lid", "0x0\n"},
		{"ports/1/gids/0", "fe80:0000:0000:0000:0e42:a1ff:fe00:0001\n"},
		{"ports/1/gids/1", "fe80:0000:0000:0000:0e42:a1ff:fe00:0001\n"},
		{"ports/1/gids/2", "0000:0000:0000:0000:0000:ffff:0a00:0001\n"},
		{"ports/1/gids/3", "0000:0000:0000:0000:0000:ffff:0a00:0001\n"},
		{"ports/1/gids/4", "0000:0000:0000:0000:0000:0000:0000:0000\n"},
		{"ports/1/gid_attrs/types/0", "IB/RoCE v1\n"},
		{"ports/1/gid_attrs/types/1", "RoCE v2\n"},
		{"ports/1/gid_attrs/types/2", "IB/RoCE v1\n"},
		{"ports/1/gid_attrs/types/3", "RoCE v2\n"},
		{"ports/1/counters/port_xmit_data", "250000000\n"},
		{"ports/1/counters/port_xmit_packets", "100000000\n"},
		{"ports/1/counters/link_downed", "1\n"},
		{"ports/1/counters/symbol_error", "0\n"},
		{"ports/1/hw_counters/lifespan", "10\n"},
		{"ports/1/hw_counters/out_of_sequence", "3\n"},
		{"tc/1/traffic_class", "Global tclass=106\n"},
	};
	char name[512], text[256];

	for (size_t k = 0; k < sizeof(file) / sizeof(file[0]); k++) {
		snprintf(name, sizeof(name), "/sys/class/infiniband/mlx5_%u/%s", i, file[k][0]);
		tree_put(name, file[k][1]);
	}
	for (unsigned k = 0; k < 4; k++) {
		snprintf(name, sizeof(name), "/sys/class/infiniband/mlx5_%u/ports/1/gid_attrs/ndevs/%u", i, k);
		snprintf(text, sizeof(text), "ens%u\n", i);
		tree_put(name, text);
	}
	snprintf(name, sizeof(name), "/sys/class/infiniband/mlx5_%u/device", i);
	snprintf(text, sizeof(text), "/sys/devices/%s", path);
	tree_link(name, text);
	snprintf(name, sizeof(name), "%s/numa_node", text);
	tree_put(name, node);
	snprintf(name, sizeof(name), "%s/driver", text);
	tree_link(name, "/sys/bus/pci/drivers/mlx5_core");
	snprintf(name, sizeof(name), "/sys/bus/pci/devices/%s", bdf);
	tree_link(name, text);
	snprintf(name, sizeof(name), "%s/iommu_group", text);
	tree_link(name, i == 0 ? "/sys/kernel/iommu_groups/10" : "/sys/kernel/iommu_groups/11");
	static const char *const link[][2] = {{"current_link_speed", "32.0 GT/s PCIe\n"},
					      {"max_link_speed", "32.0 GT/s PCIe\n"},
					      {"current_link_width", "16\n"},
					      {"max_link_width", "16\n"},
					      {"class", "0x020700\n"},
					      {"vendor", "0x15b3\n"}};
	for (size_t k = 0; k < sizeof(link) / sizeof(link[0]); k++) {
		snprintf(name, sizeof(name), "/sys/devices/%s/%s", path, link[k][0]);
		tree_put(name, link[k][1]);
	}
	snprintf(name, sizeof(name), "/sys/class/infiniband_verbs/uverbs%u/ibdev", i);
	snprintf(text, sizeof(text), "mlx5_%u\n", i);
	tree_put(name, text);
	tree_netdev(i);
}

static void tree_files(void)
{
	static const char *const file[][2] = {
		{"/sys/module/ib_uverbs/refcnt", "2\n"},
		{"/sys/module/rdma_ucm/refcnt", "0\n"},
		{"/sys/module/ib_core/parameters/netns_mode", "Y\n"},
		{"/sys/module/nvidia_peermem/refcnt", "0\n"},
		{"/sys/kernel/iommu_groups/10/type", "identity\n"},
		{"/sys/kernel/iommu_groups/11/type", "identity\n"},
		{"/sys/class/dmi/id/sys_vendor", "Supermicro\n"},
		{"/sys/devices/system/node/online", "0-1\n"},
		{"/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "512\n"},
		{"/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "512\n"},
		{"/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"},
		{"/sys/fs/cgroup/cgroup.controllers", "cpu memory pids rdma\n"},
		{"/sys/fs/cgroup/a/cgroup.controllers", "cpu memory pids rdma\n"},
		{"/sys/fs/cgroup/a/rdma.max",
		 "mlx5_0 hca_handle=100 hca_object=10000 \nmlx5_1 hca_handle=max hca_object=max \n"},
		{"/sys/fs/cgroup/a/rdma.current",
		 "mlx5_0 hca_handle=1 hca_object=20 \nmlx5_1 hca_handle=0 hca_object=0 \n"},
		{"/sys/fs/cgroup/a/memory.max", "137438953472\n"},
		{"/sys/fs/cgroup/a/memory.current", "1073741824\n"},
		{"/sys/fs/cgroup/a/memory.stat", "anon 1000\ninactive_file 536870912\n"},
		{"/sys/fs/cgroup/a/pids.max", "10000\n"},
		{"/sys/fs/cgroup/a/pids.current", "20\n"},
		{"/proc/self/cgroup", "0::/a\n"},
		{"/proc/1/cgroup", "0::/init.scope\n"},
		{"/proc/self/mountinfo", "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
					 "30 21 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"},
		{"/proc/self/limits",
		 "Limit                     Soft Limit           Hard Limit           Units     \n"
		 "Max processes             unlimited            unlimited            processes \n"
		 "Max open files            1048576              1048576              files     \n"
		 "Max locked memory         unlimited            unlimited            bytes     \n"},
		{"/proc/self/status", "Name:\tmcinfo\nCapEff:\t0000000000004000\nMems_allowed_list:\t0-1\n"},
		{"/proc/meminfo",
		 "MemTotal:       528000000 kB\nMemAvailable:   500000000 kB\nHugePages_Total:    1024\n"
		 "HugePages_Free:     1024\nHugepagesize:       2048 kB\n"},
		{"/proc/cmdline", "iommu=pt\n"},
		{"/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"},
		{"/proc/sys/kernel/numa_balancing", "0\n"},
		{"/proc/sys/kernel/yama/ptrace_scope", "0\n"},
		{"/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"},
		{"/proc/net/sockstat", "sockets: used 290\nTCP: inuse 34 orphan 0 tw 10 alloc 40 mem 5\n"},
		{"/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54\n"},
		{"/usr/lib/x86_64-linux-gnu/libpmix.so", ""},
		{"/probe/nodes", "uverbs0 0\nuverbs1 0\nrdma_cm 0\n"},
		{"/probe/verbs", "mlx5_0\nmlx5_1\n"},
		{"/probe/pin", "small 0\nlarge 0\nbytes 67108864\n"},
		{"/probe/shm", "size 270000000000\nfree 260000000000\n"},
		{"/probe/resolve", "node7\n10.0.0.7\n"},
		{"/probe/proxies", ""},
		{"/probe/surroundings", ""},
		{"/probe/addresses", "lo 127.0.0.1\nens0 10.0.0.1\nens1 10.0.1.1\n"},
		{"/probe/cma", "0\n"},
		{"/probe/namespaces", "pid 4026531836\nuts 4026531838\nnet 4026531840\n"},
		{"/probe/clock", "year 2026\nsynchronized 1\n"},
		{"/probe/hypervisor", "no"},
	};

	for (size_t k = 0; k < sizeof(file) / sizeof(file[0]); k++)
		tree_put(file[k][0], file[k][1]);
}

/* GPU and first NIC below one switch, the second NIC on the other socket. */
static void tree_make(void)
{
	uint8_t bridge[512] = {0};

	strcpy(tree, access("/dev/shm", W_OK) == 0 ? "/dev/shm/mc-doctor-XXXXXX" : "/tmp/mc-doctor-XXXXXX");
	if (mkdtemp(tree) == NULL)
		tree_fail("mkdtemp", tree);
	tree_files();
	tree_put("/dev/nvidia0", "");
	tree_nic(0, "0000:03:00.0", "pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0", "0\n");
	tree_nic(1, "0000:83:00.0", "pci0000:80/0000:80:01.0/0000:83:00.0", "1\n");
	static const char gpu[] = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0";
	static const char *const file[][2] = {{"class", "0x030200\n"},
					      {"vendor", "0x10de\n"},
					      {"numa_node", "0\n"},
					      {"current_link_width", "16\n"},
					      {"max_link_width", "16\n"},
					      {"current_link_speed", "2.5 GT/s PCIe\n"},
					      {"max_link_speed", "32.0 GT/s PCIe\n"}};
	char path[256];
	for (size_t k = 0; k < sizeof(file) / sizeof(file[0]); k++) {
		snprintf(path, sizeof(path), "%s/%s", gpu, file[k][0]);
		tree_put(path, file[k][1]);
	}
	tree_link(PCI("0000:04:00.0"), gpu);
	bridge[0x100] = 0x0d; /* ACS, nothing switched on */
	bridge[0x102] = 1;
	static const char *const bdf[] = {"0000:00:01.0", "0000:01:00.0", "0000:02:00.0", "0000:02:01.0",
					  "0000:80:01.0"};
	for (size_t k = 0; k < sizeof(bdf) / sizeof(bdf[0]); k++) {
		snprintf(path, sizeof(path), PCI("%s/config"), bdf[k]);
		tree_put_bytes(path, bridge, sizeof(bridge));
	}
}

static void tree_drop(void)
{
	tree_rm("");
}

#endif

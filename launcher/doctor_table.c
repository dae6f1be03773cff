/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_table.c - the table of checks, and what turns their answers into an exit code. */
#include "doctor.h"

#include <string.h>

#define DEV  (MC_DOC_NEEDS_DEV | MC_DOC_RDMA_ONLY)
#define RDMA MC_DOC_FATAL_RDMA

const struct mc_doc_check mc_doc_checks[] = {
	{"rdma-device", "RDMA devices", MC_DOC_RDMA_ONLY | RDMA, mc_doc_rdma_device},
	{"verbs-module", "kernel modules of verbs", DEV | RDMA, mc_doc_verbs_module},
	{"device-nodes", "device nodes of verbs", DEV | RDMA, mc_doc_device_nodes},
	{"verbs-provider", "user-space drivers", DEV | RDMA, mc_doc_verbs_provider},
	{"port-state", "state of the ports", DEV | RDMA, mc_doc_port_state},
	{"port-phys", "physical links", DEV | RDMA, mc_doc_port_phys},
	{"port-rate", "rate of the ports", DEV, mc_doc_port_rate},
	{"link-layer", "link layers", DEV, mc_doc_link_layer},
	{"roce-gid", "GIDs of RoCE ports", DEV | RDMA, mc_doc_roce_gid},
	{"gid-netdev", "network interfaces of the GIDs", DEV | RDMA, mc_doc_gid_netdev},
	{"rdma-netns", "network namespaces of RDMA devices", MC_DOC_RDMA_ONLY, mc_doc_rdma_netns},
	{"mtu", "MTU of RoCE interfaces", DEV, mc_doc_mtu},
	{"memlock", "limit of locked memory", DEV | RDMA, mc_doc_memlock},
	{"cap-ipc-lock", "capability to lock memory", DEV | RDMA, mc_doc_cap_ipc_lock},
	{"pin-test", "locking memory, tried", DEV | RDMA, mc_doc_pin_test},
	{"rdma-cgroup", "rdma limits of the cgroup", MC_DOC_RDMA_ONLY | RDMA, mc_doc_rdma_cgroup},
	{"memory", "memory for the pool", MC_DOC_FATAL_ANY, mc_doc_memory},
	{"dev-shm", "size of /dev/shm", MC_DOC_FATAL_ANY, mc_doc_dev_shm},
	{"huge-pages", "huge pages", 0, mc_doc_huge_pages},
	{"open-files", "limit of open files", 0, mc_doc_open_files},
	{"gpu", "GPUs", MC_DOC_FATAL_BOX, mc_doc_gpu},
	{"gpudirect", "GPU memory and NICs (GPUDirect)", DEV, mc_doc_gpudirect},
	{"gpu-nic", "NICs near the GPUs", DEV, mc_doc_gpu_nic},
	{"dead-nic", "NICs nearest to GPUs alive", DEV, mc_doc_dead_nic},
	{"gpu-no-nic", "GPUs without a NIC on their node", DEV, mc_doc_gpu_no_nic},
	{"vm-p2p", "peer-to-peer in a virtual machine", DEV | RDMA, mc_doc_vm_p2p},
	{"pci-acs", "PCIe access control", DEV, mc_doc_pci_acs},
	{"iommu", "IOMMU", DEV, mc_doc_iommu},
	{"pcie-link", "PCIe links", DEV, mc_doc_pcie_link},
	{"roce-loss", "error counters of the ports", DEV, mc_doc_roce_loss},
	{"traffic-class", "traffic class of RoCE", DEV, mc_doc_traffic_class},
	{"numa", "NUMA balancing and binding", 0, mc_doc_numa},
	{"host-name", "what the host name resolves to", MC_DOC_FATAL_SLURM, mc_doc_host_name},
	{"proxy", "HTTP proxies", 0, mc_doc_proxy},
	{"ports", "TCP ports", MC_DOC_FATAL_ANY, mc_doc_ports},
	{"rdma-traffic", "traffic of the RDMA ports", DEV, mc_doc_rdma_traffic},
	{"tcp-interface", "network interfaces for TCP", MC_DOC_FATAL_TCP | MC_DOC_FATAL_SLURM | MC_DOC_FATAL_BOX,
	 mc_doc_tcp_interface},
	{"cma", "copies between processes", 0, mc_doc_cma},
	{"pid-namespace", "process number namespace", 0, mc_doc_pid_namespace},
	{"process-limit", "limit of processes", MC_DOC_FATAL_ANY, mc_doc_process_limit},
	{"clock", "the clock", MC_DOC_FATAL_SLURM, mc_doc_clock},
	{"slurm-pmix", "PMIx library for Slurm's plug-in", MC_DOC_FATAL_SLURM, mc_doc_slurm_pmix},
	{"etcd", "health of etcd", MC_DOC_FATAL_ANY, mc_doc_etcd},
};
const size_t mc_doc_check_n = sizeof(mc_doc_checks) / sizeof(mc_doc_checks[0]);

/* The MC_DOC_FATAL_* that count in this run. RDMA counts where it was asked for, or is what the ranks would use. */
static unsigned fatal_now(const struct mc_doctor *d)
{
	unsigned f = MC_DOC_FATAL_ANY;

	if (d->mode == MC_DOC_RDMA || (d->mode != MC_DOC_TCP && d->dev_n > 0))
		f |= MC_DOC_FATAL_RDMA;
	if (d->mode == MC_DOC_TCP)
		f |= MC_DOC_FATAL_TCP;
	if (d->mode == MC_DOC_SLURM)
		f |= MC_DOC_FATAL_SLURM;
	if (d->mode == MC_DOC_CONTAINER || d->mode == MC_DOC_K8S)
		f |= MC_DOC_FATAL_BOX;
	return f;
}

void mc_doctor_run(struct mc_doctor *d, struct mc_doc_result *result)
{
	unsigned fatal = fatal_now(d);

	for (size_t i = 0; i < mc_doc_check_n; i++) {
		const struct mc_doc_check *c = &mc_doc_checks[i];
		struct mc_doc_result *r = &result[i];

		memset(r, 0, sizeof(*r));
		if ((c->flags & MC_DOC_RDMA_ONLY) && d->mode == MC_DOC_TCP) {
			mc_doc_set(r, MC_DOC_NA, "RDMA is not asked for (--for tcp)");
			continue;
		}
		if ((c->flags & MC_DOC_NEEDS_DEV) && d->dev_n == 0) {
			mc_doc_set(r, MC_DOC_NA, "there is no RDMA device (see rdma-device)");
			continue;
		}
		c->run(d, r);
		if (r->status == MC_DOC_FAIL && (c->flags & fatal) == 0)
			r->status = MC_DOC_WARN;
		if (r->status == MC_DOC_OK)
			r->cause[0] = r->fix[0] = '\0';
		mc_text_clean(r->read);
		mc_text_clean(r->value);
		mc_text_clean(r->cause);
	}
}

int mc_doctor_code(const struct mc_doc_result *result)
{
	int code = 0;

	for (size_t i = 0; i < mc_doc_check_n; i++) {
		int c = result[i].status == MC_DOC_FAIL ? 2 : result[i].status == MC_DOC_WARN ? 1 : 0;

		code = c > code ? c : code;
	}
	return code;
}

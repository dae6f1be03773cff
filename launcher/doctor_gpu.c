/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_gpu.c - checks of GPUs, of how near they are to NICs, and of the PCIe fabric between them. */
#include "doctor.h"
#include "sysparse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PCI "/sys/bus/pci/devices"

/* ---- GPUs ---------------------------------------------------------------------------------------------------------
 */

static uint32_t gpu_nodes(struct mc_doctor *d)
{
	struct mc_strv names = {0};
	uint32_t n = 0;

	(void)mc_sysroot_list(d->root, "/dev", &names);
	for (size_t i = 0; i < names.n; i++) {
		uint32_t num;

		n += strncmp(names.v[i], "nvidia", 6) == 0 && mc_text_count(names.v[i] + 6, &num);
	}
	mc_strv_free(&names);
	return n;
}

void mc_doc_gpu(struct mc_doctor *d, struct mc_doc_result *r)
{
	bool nvidia = mc_sysroot_exists(d->root, "/proc/driver/nvidia/version");
	bool amd = mc_sysroot_exists(d->root, "/sys/class/kfd/kfd");

	mc_doc_read(r, "/proc/driver/nvidia, /dev/nvidia*, /sys/class/kfd, /dev/kfd");
	if (!nvidia && !amd) {
		mc_doc_value(r, "%u on PCI, no driver", d->gpu_n);
		if (d->gpu_n == 0) {
			mc_doc_set(r, MC_DOC_NA, "no GPU here");
			return;
		}
		mc_doc_set(r, MC_DOC_WARN, "%u GPUs are on PCI, but no driver is loaded", d->gpu_n);
		mc_doc_fix(r, "%s",
			   mc_doc_pick(d, "modprobe nvidia    # or amdgpu",
				       "load the driver on the host: modprobe nvidia", NULL, NULL));
		return;
	}
	uint32_t nodes = nvidia ? gpu_nodes(d) : 0;
	bool kfd = amd && mc_sysroot_exists(d->root, "/dev/kfd");
	mc_doc_value(r, "%s%s%u on PCI, %u /dev/nvidia*%s", nvidia ? "nvidia " : "", amd ? "amdgpu " : "", d->gpu_n,
		     nodes, kfd ? ", /dev/kfd" : "");
	if ((!nvidia || nodes > 0) && (!amd || kfd))
		return;
	mc_doc_set(r, MC_DOC_FAIL, "the host has a GPU driver, but %s is not here",
		   nvidia && nodes == 0 ? "/dev/nvidia0" : "/dev/kfd");
	mc_doc_fix(r, "%s",
		   nvidia ? mc_doc_pick(d, "nvidia-modprobe -u -c=0",
					"docker run --gpus all ...    # needs nvidia-container-toolkit",
					"resources: {limits: {nvidia.com/gpu: 8}}", "#SBATCH --gres=gpu:8")
			  : mc_doc_pick(d, "modprobe amdgpu", "docker run --device=/dev/kfd --device=/dev/dri ...",
					"resources: {limits: {amd.com/gpu: 8}}", "#SBATCH --gres=gpu:8"));
}

void mc_doc_gpudirect(struct mc_doctor *d, struct mc_doc_result *r)
{
	char release[128];
	uint32_t major = 0, minor = 0;
	bool amd = d->gpu_n > 0 && d->gpu[0].amd;
	bool peermem = mc_sysroot_exists(d->root, "/sys/module/nvidia_peermem") ||
		       mc_sysroot_exists(d->root, "/sys/module/nv_peer_mem");
	char *version = mc_sysroot_text(d->root, "/proc/driver/nvidia/version", NULL);
	int e = mc_sysroot_read(d->root, "/proc/sys/kernel/osrelease", release, sizeof(release));

	mc_doc_read(r, "/sys/module/nvidia_peermem, /proc/driver/nvidia/version, kernel");
	if (d->gpu_n == 0 && version == NULL) {
		mc_doc_set(r, MC_DOC_NA, "no GPU here");
		goto out;
	}
	if (e != 0 || !mc_sys_version(release, &major, &minor)) {
		mc_doc_senseless(r, "/proc/sys/kernel/osrelease", release);
		goto out;
	}
	bool kernel = major > 5 || (major == 5 && minor >= 12);
	bool open_module = version != NULL && strstr(version, "Open Kernel Module") != NULL;
	bool dmabuf = kernel && (amd || open_module);
	mc_doc_value(r, "%s, kernel %u.%u%s", peermem ? "nvidia_peermem" : "no peer memory module", major, minor,
		     amd           ? ", amdgpu"
		     : open_module ? ", open NVIDIA module"
				   : "");
	if (peermem || dmabuf)
		goto out;
	mc_doc_set(r, MC_DOC_WARN,
		   "NICs cannot reach GPU memory: neither DMA-BUF (kernel 5.12 and the open module) nor "
		   "nvidia_peermem; registering it "
		   "fails with EFAULT and data goes through host memory");
	mc_doc_fix(r, "modprobe nvidia_peermem    # on the host; or the open kernel module of the driver, for DMA-BUF");
out:
	free(version);
}

/* ---- distance -----------------------------------------------------------------------------------------------------
 */

/* How near a device is to a GPU: PCI functions in common count most, then the NUMA node. */
static uint32_t nearness(const struct mc_doc_gpu *g, const struct mc_doc_dev *v)
{
	uint32_t common = g->path[0] != '\0' && v->path[0] != '\0' ? mc_doc_common(g->path, v->path) : 0;

	return common * 2 + (g->node >= 0 && g->node == v->node);
}

static bool dev_live(const struct mc_doctor *d, uint32_t dev)
{
	for (uint32_t i = 0; i < d->port_n; i++)
		if (d->port[i].dev == dev && mc_doc_port_live(&d->port[i]))
			return true;
	return false;
}

/* Index of the nearest device; UINT32_MAX: none. */
static uint32_t nearest(const struct mc_doctor *d, const struct mc_doc_gpu *g, bool live)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < d->dev_n; i++) {
		if (live && !dev_live(d, i))
			continue;
		if (best == UINT32_MAX || nearness(g, &d->dev[i]) > nearness(g, &d->dev[best]))
			best = i;
	}
	return best;
}

/* NICs that the user chose (MC_DEVICE, UCX_NET_DEVICES), a line each. */
static bool is_chosen(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; *p != '\0'; p += strcspn(p, ",\n"), p += *p != '\0')
		if (strncmp(p, name, len) == 0 && (p[len] == '\0' || strchr(",:\n", p[len]) != NULL))
			return true;
	return false;
}

void mc_doc_gpu_nic(struct mc_doctor *d, struct mc_doc_result *r)
{
	char chosen[2048];

	mc_doc_read(r, PCI "/*/numa_node and paths; MC_DEVICE, UCX_NET_DEVICES");
	if (d->gpu_n == 0) {
		mc_doc_set(r, MC_DOC_NA, "no GPU here");
		return;
	}
	if (mc_sysroot_probe(d->root, "_chosen", NULL, chosen, sizeof(chosen)) != 0)
		chosen[0] = '\0';
	for (uint32_t i = 0; i < d->gpu_n; i++) {
		const struct mc_doc_gpu *g = &d->gpu[i];
		uint32_t best = nearest(d, g, true), use = UINT32_MAX;

		if (best == UINT32_MAX)
			continue;
		mc_doc_add(r->value, sizeof(r->value), "%s%s %s", i == 0 ? "" : ", ", g->pci, d->dev[best].name);
		if (d->node_n > 1 && g->node < 0) {
			mc_doc_set(r, MC_DOC_WARN, "the machine has %u NUMA nodes, but does not say where GPU %s is",
				   d->node_n, g->pci);
			mc_doc_fix(r,
				   "export MC_DEVICE='%s=DEVICE,...'    # say it by hand; in a VM the host must pass "
				   "the topology on",
				   g->pci);
		}
		for (uint32_t k = 0; k < d->dev_n; k++)
			if (is_chosen(chosen, d->dev[k].name) &&
			    (use == UINT32_MAX || nearness(g, &d->dev[k]) > nearness(g, &d->dev[use])))
				use = k;
		if (use != UINT32_MAX && nearness(g, &d->dev[use]) < nearness(g, &d->dev[best])) {
			mc_doc_set(r, MC_DOC_WARN,
				   "GPU %s would use %s, which was asked for, although %s is nearer and active", g->pci,
				   d->dev[use].name, d->dev[best].name);
			mc_doc_fix(r, "unset MC_DEVICE UCX_NET_DEVICES    # the nearest are then chosen: mcinfo topo");
		}
	}
	if (d->active_n == 0)
		mc_doc_set(r, MC_DOC_NA, "no port is active (see port-state)");
}

void mc_doc_dead_nic(struct mc_doctor *d, struct mc_doc_result *r)
{
	mc_doc_read(r, PCI "/*, ports/*/state");
	if (d->gpu_n == 0) {
		mc_doc_set(r, MC_DOC_NA, "no GPU here");
		return;
	}
	for (uint32_t i = 0; i < d->gpu_n; i++) {
		const struct mc_doc_gpu *g = &d->gpu[i];
		uint32_t any = nearest(d, g, false), live = nearest(d, g, true);

		if (any == UINT32_MAX || live == any)
			continue;
		if (live != UINT32_MAX && nearness(g, &d->dev[live]) == nearness(g, &d->dev[any]))
			continue;
		mc_doc_set(r, MC_DOC_WARN, "the NIC nearest to GPU %s, %s, is not active%s%s", g->pci, d->dev[any].name,
			   live != UINT32_MAX ? "; the next nearest is used: " : ", and no other is",
			   live != UINT32_MAX ? d->dev[live].name : "");
		mc_doc_fix(r, "bring the port of %s up (see port-state), or accept the longer way", d->dev[any].name);
	}
	mc_doc_value(r, "%u GPU%s looked at", d->gpu_n, d->gpu_n == 1 ? "" : "s");
}

void mc_doc_gpu_no_nic(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint32_t lonely = 0;

	mc_doc_read(r, PCI "/*/numa_node");
	if (d->gpu_n == 0) {
		mc_doc_set(r, MC_DOC_NA, "no GPU here");
		return;
	}
	for (uint32_t i = 0; i < d->gpu_n; i++) {
		bool found = d->gpu[i].node < 0;

		for (uint32_t k = 0; k < d->dev_n; k++)
			found = found || d->dev[k].node == d->gpu[i].node ||
				mc_doc_common(d->gpu[i].path, d->dev[k].path) > 0;
		if (!found && lonely++ == 0)
			mc_doc_set(r, MC_DOC_WARN,
				   "GPU %s has no NIC on its NUMA node %d: its traffic crosses the socket link",
				   d->gpu[i].pci, (int)d->gpu[i].node);
	}
	mc_doc_value(r, "%u of %u GPUs have a NIC on their node", d->gpu_n - lonely, d->gpu_n);
	mc_doc_fix(r,
		   "give decode ranks the GPUs that have one: mcinfo topo; or stage through memory of the NIC's node");
}

/* ---- the fabric ----------------------------------------------------------------------------------------------------
 */

static size_t parent_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? 0 : (size_t)(slash - path);
}

void mc_doc_vm_p2p(struct mc_doctor *d, struct mc_doc_result *r)
{
	mc_doc_read(r, "/sys/class/dmi/id/sys_vendor, /sys/hypervisor, PCI paths");
	mc_doc_value(r, "%s", d->vm ? d->vm_name : "no virtual machine");
	if (!d->vm || d->gpu_n == 0) {
		if (d->gpu_n == 0)
			mc_doc_set(r, MC_DOC_NA, "no GPU here");
		return;
	}
	for (uint32_t i = 0; i < d->gpu_n; i++) {
		for (uint32_t k = 0; k < d->dev_n; k++) {
			size_t a = parent_len(d->gpu[i].path), b = parent_len(d->dev[k].path);

			/* the host bridge itself is every device's parent in small machines */
			if (a == 0 || a != b || strncmp(d->gpu[i].path, d->dev[k].path, a) != 0 ||
			    mc_doc_common(d->gpu[i].path, d->dev[k].path) < 2)
				continue;
			mc_doc_set(r, MC_DOC_FAIL,
				   "GPU %s and %s are passed through under one emulated bridge: without ATS their "
				   "direct transfers fail, or "
				   "deliver garbage without an error",
				   d->gpu[i].pci, d->dev[k].name);
			mc_doc_fix(r,
				   "on the host: ATS on the NIC and ACS direct translated on the switches; else export "
				   "MC_DEVICE=^%s, and "
				   "verify payloads: mcperf replay",
				   d->dev[k].name);
			return;
		}
	}
}

/* Bits that send peer-to-peer packets up to the root: source validation, request and completion redirect, egress
 * control. */
#define ACS_BITS 0x2d

void mc_doc_pci_acs(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint8_t cfg[4096];
	char path[128], seen[512] = "";
	uint32_t bridges = 0, blind = 0, bad = 0;
	size_t n;

	mc_doc_read(r, PCI "/*/config (capability 0x000d) of bridges above GPUs and NICs");
	if (d->vm || d->gpu_n == 0) {
		mc_doc_set(r, MC_DOC_NA, d->vm ? "in a virtual machine the host decides this" : "no GPU here");
		return;
	}
	for (uint32_t i = 0; i < d->gpu_n + d->dev_n; i++) {
		const char *p = i < d->gpu_n ? d->gpu[i].path : d->dev[i - d->gpu_n].path;

		for (p = strstr(p, "/pci"); p != NULL && (p = strchr(p + 1, '/')) != NULL;) {
			char bdf[16];
			uint16_t control;

			(void)snprintf(bdf, sizeof(bdf), "%.12s", p + 1);
			if (!mc_sys_is_bdf(bdf) || strchr(p + 1, '/') == NULL || strstr(seen, bdf) != NULL)
				continue; /* the device itself, not a bridge; or looked at already */
			mc_doc_add(seen, sizeof(seen), "%s ", bdf);
			(void)snprintf(path, sizeof(path), PCI "/%s/config", bdf);
			int e = mc_sysroot_bytes(d->root, path, cfg, sizeof(cfg), &n);
			bridges++;
			if (e != 0 || n <= 0x100) {
				blind++;
			} else if (mc_sys_acs(cfg, n, &control) && (control & ACS_BITS) != 0) {
				if (bad++ == 0) {
					mc_doc_set(r, MC_DOC_WARN,
						   "bridge %s redirects (ACS control 0x%04x): GPU and NIC below it "
						   "talk by way of the root complex",
						   bdf, control);
					mc_doc_fix(r,
						   "setpci -s %s ECAP_ACS+0x6.w=0000    # as root, for each of them; "
						   "for good: off in the BIOS",
						   bdf);
				}
			}
		}
	}
	mc_doc_value(r, "%u bridges, %u with ACS on%s", bridges, bad, blind > 0 ? ", some not readable" : "");
	if (bad == 0 && blind > 0)
		mc_doc_set(r, MC_DOC_NA, "%u of %u bridges can be read by root only; run mcinfo doctor as root to know",
			   blind, bridges);
}

void mc_doc_iommu(struct mc_doctor *d, struct mc_doc_result *r)
{
	char path[256], group[256], type[64];
	uint32_t n = 0;

	mc_doc_read(r, "/sys/kernel/iommu_groups/*/type of the NICs, /proc/cmdline");
	if (d->vm) {
		mc_doc_set(r, MC_DOC_NA, "in a virtual machine the host decides this");
		return;
	}
	for (uint32_t i = 0; i < d->dev_n; i++) {
		if (d->dev[i].pci[0] == '\0')
			continue;
		(void)snprintf(path, sizeof(path), PCI "/%.60s/iommu_group", d->dev[i].pci);
		if (mc_sysroot_link(d->root, path, group, sizeof(group)) != 0 || strrchr(group, '/') == NULL)
			continue;
		if (mc_sysroot_readf(d->root, type, sizeof(type), "/sys/kernel/iommu_groups/%s/type",
				     strrchr(group, '/') + 1) != 0)
			continue;
		mc_doc_add(r->value, sizeof(r->value), "%s%s %s", n++ == 0 ? "" : ", ", d->dev[i].name, type);
		if (strncmp(type, "DMA", 3) == 0) {
			mc_doc_set(
				r, MC_DOC_WARN,
				"the IOMMU translates every access of %s (type %s): slower, and peer-to-peer may fail",
				d->dev[i].name, type);
			mc_doc_fix(r, "iommu=pt    # on the kernel's command line (GRUB_CMDLINE_LINUX, update-grub); "
				      "not on Grace");
		} else if (strcmp(type, "identity") != 0 && strcmp(type, "unmanaged") != 0 &&
			   strcmp(type, "blocked") != 0 && strcmp(type, "auto") != 0) {
			mc_doc_senseless(r, "/sys/kernel/iommu_groups/N/type", type);
			return;
		}
	}
	if (n > 0)
		return;
	char *cmd = mc_sysroot_text(d->root, "/proc/cmdline", NULL);
	mc_doc_value(r, "no IOMMU group%s%s", cmd != NULL && *cmd != '\0' ? "; " : "", cmd != NULL ? cmd : "");
	free(cmd);
}

static bool link_value(struct mc_doctor *d, const char *bdf, const char *file, bool speed, uint32_t *out,
		       struct mc_doc_result *r)
{
	char path[160], text[64];
	uint64_t v;

	(void)snprintf(path, sizeof(path), PCI "/%.60s/%s", bdf, file);
	if (mc_sysroot_read(d->root, path, text, sizeof(text)) != 0 || strncmp(text, "Unknown", 7) == 0)
		return false;
	if (speed ? mc_sys_gts(text, out) : mc_sys_u64(text, &v) && v <= 64) {
		if (!speed)
			*out = (uint32_t)v;
		return *out != 0;
	}
	mc_doc_senseless(r, path, text);
	return false;
}

static uint32_t judge_link(struct mc_doctor *d, const char *name, const char *bdf, bool speed_too,
			   struct mc_doc_result *r)
{
	uint32_t speed, max_speed, width, max_width;

	if (bdf[0] == '\0' || !link_value(d, bdf, "current_link_width", false, &width, r) ||
	    !link_value(d, bdf, "max_link_width", false, &max_width, r))
		return 0;
	bool known = link_value(d, bdf, "current_link_speed", true, &speed, r) &&
		     link_value(d, bdf, "max_link_speed", true, &max_speed, r);
	mc_doc_add(r->value, sizeof(r->value), "%s%s x%u", r->value[0] == '\0' ? "" : ", ", name, width);
	if (known)
		mc_doc_add(r->value, sizeof(r->value), " %g GT/s", speed / 1000.0);
	if (width < max_width)
		mc_doc_set(r, MC_DOC_WARN, "%s (%s) has %u of %u PCIe lanes", name, bdf, width, max_width);
	else if (known && speed_too && speed < max_speed)
		mc_doc_set(r, MC_DOC_WARN, "%s (%s) runs at %g of %g GT/s", name, bdf, speed / 1000.0,
			   max_speed / 1000.0);
	return 1;
}

void mc_doc_pcie_link(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint32_t n = 0;

	mc_doc_read(r, PCI "/*/{current,max}_link_{speed,width}");
	for (uint32_t i = 0; i < d->dev_n; i++)
		n += judge_link(d, d->dev[i].name, d->dev[i].pci, true, r);
	for (uint32_t i = 0; i < d->gpu_n; i++) /* an idle GPU slows its link down by itself */
		n += judge_link(d, d->gpu[i].pci, d->gpu[i].pci, false, r);
	if (n == 0 && r->status == MC_DOC_OK)
		mc_doc_set(r, MC_DOC_NA, "no device says anything about its link");
	if (r->status == MC_DOC_WARN && r->fix[0] == '\0')
		mc_doc_fix(r, "reseat the card, or another slot; BIOS: slot speed and bifurcation (lspci -vv shows "
			      "LnkCap and LnkSta)");
}

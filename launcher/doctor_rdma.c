/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_rdma.c - checks of RDMA devices, their nodes, ports and GIDs. */
#include "doctor.h"
#include "sysparse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IB "/sys/class/infiniband"

static const char device_plugin[] = "resources: {limits: {rdma/hca: 1}}    # what the RDMA device plugin of the "
				    "cluster offers, and hostNetwork: true";

static const char *dev_of(const struct mc_doctor *d, const struct mc_doc_port *p)
{
	return d->dev[p->dev].name;
}

static void port_path(const struct mc_doctor *d, const struct mc_doc_port *p, const char *file, char *out, size_t len)
{
	(void)snprintf(out, len, IB "/%s/ports/%u/%s", dev_of(d, p), p->num, file);
}

void mc_doc_rdma_device(struct mc_doctor *d, struct mc_doc_result *r)
{
	mc_doc_read(r, IB);
	if (d->dev_n > 0) {
		for (uint32_t i = 0; i < d->dev_n; i++)
			mc_doc_add(r->value, sizeof(r->value), "%s%s", i == 0 ? "" : ", ", d->dev[i].name);
		return;
	}
	if (d->ib_error != 0 && d->ib_error != ENOENT && d->ib_error != ENOTDIR) {
		mc_doc_value(r, "%s", strerror(d->ib_error));
		mc_doc_set(r, MC_DOC_FAIL, "RDMA devices cannot be listed");
		mc_doc_fix(r, "ls -l " IB "    # as root");
		return;
	}
	mc_doc_value(r, "%s", d->ib_error != 0 ? "not there" : "empty");
	mc_doc_set(r, MC_DOC_FAIL,
		   "no RDMA here: ranks on this host use shared memory, ranks on other hosts TCP (if the machine has "
		   "an RDMA NIC, "
		   "its driver is not loaded or the device is not passed in)");
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d,
			       "apt-get install rdma-core && modprobe mlx5_ib    # or the driver of your NIC; in a VM "
			       "pass the NIC through",
			       "docker run --device=/dev/infiniband --network=host ...    # with the driver loaded on "
			       "the host",
			       device_plugin, NULL));
}

void mc_doc_verbs_module(struct mc_doctor *d, struct mc_doc_result *r)
{
	bool verbs = mc_sysroot_exists(d->root, "/sys/module/ib_uverbs") ||
		     mc_sysroot_exists(d->root, "/sys/class/infiniband_verbs");
	bool cm = mc_sysroot_exists(d->root, "/sys/module/rdma_ucm") ||
		  mc_sysroot_exists(d->root, "/sys/class/misc/rdma_cm");

	mc_doc_read(r, "/sys/module/ib_uverbs, /sys/module/rdma_ucm");
	mc_doc_value(r, "ib_uverbs %s, rdma_ucm %s", verbs ? "loaded" : "missing", cm ? "loaded" : "missing");
	if (!verbs)
		mc_doc_set(r, MC_DOC_FAIL, "programs cannot open RDMA devices without the module ib_uverbs");
	else if (!cm)
		mc_doc_set(r, MC_DOC_WARN, "rdma_ucm is missing: librdmacm cannot connect (UCX then uses its own way)");
	mc_doc_fix(r, "modprobe -a ib_uverbs rdma_ucm    # on the host; for good: /etc/modules-load.d/rdma.conf");
}

void mc_doc_device_nodes(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[4096], value[64];
	int e = mc_sysroot_probe(d->root, "nodes", NULL, text, sizeof(text));
	uint32_t missing = 0, refused = 0;

	mc_doc_read(r, "/dev/infiniband");
	if (e != 0) { /* a tree made by hand: presence is all that can be seen */
		struct mc_strv names = {0};

		text[0] = '\0';
		(void)mc_sysroot_list(d->root, "/dev/infiniband", &names);
		for (size_t i = 0; i < names.n; i++)
			mc_doc_add(text, sizeof(text), "%s 0\n", names.v[i]);
		mc_strv_free(&names);
	}
	for (uint32_t i = 0; i < d->dev_n; i++) {
		const char *node = d->dev[i].uverbs;
		uint32_t err = 0;
		bool there = *node != '\0' && mc_sys_field(text, node, value, sizeof(value));

		if (there && (!mc_text_count(value, &err) || err > 4095))
			err = EINVAL;
		missing += !there;
		refused += err != 0;
		mc_doc_add(r->value, sizeof(r->value), "%s%s %s", i == 0 ? "" : ", ",
			   *node != '\0' ? node : d->dev[i].name,
			   !there     ? "missing"
			   : err != 0 ? strerror((int)err)
				      : "ok");
	}
	if (missing > 0)
		mc_doc_set(r, MC_DOC_FAIL, "%u of %u devices that /sys shows have no node in /dev/infiniband", missing,
			   d->dev_n);
	else if (refused > 0)
		mc_doc_set(r, MC_DOC_FAIL, "%u of %u device nodes may not be opened by this user or container", refused,
			   d->dev_n);
	else if (!mc_sys_field(text, "rdma_cm", value, sizeof(value)))
		mc_doc_set(r, MC_DOC_WARN, "/dev/infiniband/rdma_cm is missing: librdmacm cannot connect");
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d,
			       "modprobe -a ib_uverbs rdma_ucm; udevadm trigger    # nodes want mode 0666: rdma-core's "
			       "udev rules",
			       "docker run --device=/dev/infiniband --network=host --cap-add=IPC_LOCK ...",
			       device_plugin, NULL));
}

void mc_doc_verbs_provider(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[4096];
	uint32_t n = 0;
	int e = mc_sysroot_probe(d->root, "verbs", NULL, text, sizeof(text));

	mc_doc_read(r, "ibv_get_device_list()");
	if (e == ENOENT) {
		mc_doc_value(r, "libibverbs.so.1 cannot be loaded");
		mc_doc_set(r, MC_DOC_FAIL, "libibverbs is not installed where this program runs");
		mc_doc_fix(r, "apt-get install libibverbs1 ibverbs-providers    # in the container image");
		return;
	}
	if (e != 0) {
		mc_doc_set(r, MC_DOC_NA, "the library could not be asked: %s", strerror(e));
		return;
	}
	for (const char *p = text; *p != '\0'; p += strcspn(p, "\n"), p += *p == '\n')
		n += *p != '\n';
	mc_doc_value(r, "%u of %u devices", n, d->dev_n);
	if (n >= d->dev_n)
		return;
	mc_doc_set(r, MC_DOC_FAIL, "user space sees fewer devices than the kernel: the provider library of ");
	for (uint32_t i = 0, said = 0; i < d->dev_n; i++)
		if (strstr(text, d->dev[i].name) == NULL)
			mc_doc_add(r->cause, sizeof(r->cause), "%s%s (%s)", said++ == 0 ? "" : ", ", d->dev[i].name,
				   mc_doc_dev_driver_provider(d->dev[i].driver));
	mc_doc_add(r->cause, sizeof(r->cause), " is missing or of another generation than the kernel");
	mc_doc_fix(r, "apt-get install ibverbs-providers    # of the same rdma-core (or MLNX_OFED) generation as on "
		      "the host");
}

void mc_doc_port_state(struct mc_doctor *d, struct mc_doc_result *r)
{
	static const char *const why[] = {"unknown state", "DOWN: no link (cable, switch port, ip link set up)",
					  "INIT: no subnet manager has been here",
					  "ARMED: the subnet manager has not finished"};
	uint32_t bad = 0, shown = 0;
	const struct mc_doc_port *first = NULL;

	mc_doc_read(r, IB "/*/ports/*/state");
	for (uint32_t i = 0; i < d->port_n; i++) {
		const struct mc_doc_port *p = &d->port[i];

		if (shown++ < 16)
			mc_doc_add(r->value, sizeof(r->value), "%s%s:%u %s", i == 0 ? "" : ", ", dev_of(d, p), p->num,
				   p->state_name);
		if (mc_doc_port_live(p))
			continue;
		bad++;
		first = first == NULL ? p : first;
	}
	if (d->port_n == 0) {
		mc_doc_set(r, MC_DOC_FAIL, "the devices have no ports");
		mc_doc_fix(r, "dmesg | grep -i %.30s    # the driver has not finished", d->dev[0].name);
		return;
	}
	if (bad == 0)
		return;
	uint32_t s = first->state_ok && first->state < 4 ? first->state : 0;
	mc_doc_set(r, d->active_n == 0 ? MC_DOC_FAIL : MC_DOC_WARN, "%s port %s:%u is %s%s",
		   d->active_n == 0 ? "no port is active;" : "not every port is active;", dev_of(d, first), first->num,
		   first->state_ok ? why[s] : first->state_name, first->state_ok ? "" : ", which makes no sense");
	if (s == 2)
		mc_doc_fix(r, "systemctl start opensm    # on one host of the fabric, or the switch's subnet manager");
	else
		mc_doc_fix(r, "rdma link show; ip link set %s up    # then cable and switch port",
			   first->netdev[0] != '\0' ? first->netdev : "IFACE");
}

void mc_doc_port_phys(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint32_t up = 0;
	const struct mc_doc_port *first = NULL;

	mc_doc_read(r, IB "/*/ports/*/phys_state");
	for (uint32_t i = 0; i < d->port_n; i++) {
		const struct mc_doc_port *p = &d->port[i];

		if (i < 16)
			mc_doc_add(r->value, sizeof(r->value), "%s%s:%u %s", i == 0 ? "" : ", ", dev_of(d, p), p->num,
				   p->phys_name);
		if (p->phys_ok && p->phys == 5)
			up++;
		else if (first == NULL)
			first = p;
	}
	if (first == NULL)
		return;
	mc_doc_set(r, up == 0 ? MC_DOC_FAIL : MC_DOC_WARN, "the link of %s:%u is %s, not LinkUp", dev_of(d, first),
		   first->num, first->phys_name);
	mc_doc_fix(r, "%s",
		   first->phys == 3
			   ? "mlxlink or the switch: the port is disabled; ip link set IFACE up"
			   : "check cable and transceiver (ethtool -m IFACE, mlxlink -d DEVICE), then the switch port");
}

void mc_doc_port_rate(struct mc_doctor *d, struct mc_doc_result *r)
{
	char path[256];

	mc_doc_read(r, IB "/*/ports/*/rate");
	for (uint32_t i = 0; i < d->port_n; i++) {
		const struct mc_doc_port *p = &d->port[i];
		uint32_t best = 0;

		if (!mc_doc_port_live(p))
			continue;
		port_path(d, p, "rate", path, sizeof(path));
		if (!p->rate_ok) {
			mc_doc_senseless(r, path, p->rate_text);
			return;
		}
		mc_doc_add(r->value, sizeof(r->value), "%s%s:%u %g Gb/s", r->value[0] == '\0' ? "" : ", ", dev_of(d, p),
			   p->num, p->mbps / 1000.0);
		for (uint32_t k = 0; k < d->port_n; k++)
			if (mc_doc_port_live(&d->port[k]) && d->port[k].rate_ok && d->port[k].mbps > best &&
			    strcmp(d->dev[d->port[k].dev].type, d->dev[p->dev].type) == 0 &&
			    strcmp(d->port[k].link, p->link) == 0)
				best = d->port[k].mbps;
		/* (the rate of a device in software is a constant of its network driver) */
		if (p->mbps < best && d->dev[p->dev].pci[0] != '\0') {
			mc_doc_set(r, MC_DOC_WARN, "%s:%u runs at %g Gb/s, an equal device at %g: the link is degraded",
				   dev_of(d, p), p->num, p->mbps / 1000.0, best / 1000.0);
			mc_doc_fix(
				r,
				"reseat or replace the cable of %s; check the speed of its switch port (mlxlink -d %s)",
				dev_of(d, p), dev_of(d, p));
		}
	}
	if (r->value[0] == '\0')
		mc_doc_set(r, MC_DOC_NA, "no port is active (see port-state)");
}

void mc_doc_link_layer(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint32_t ib = 0, eth = 0;
	char path[256], list[2][256] = {"", ""};

	mc_doc_read(r, IB "/*/ports/*/link_layer");
	for (uint32_t i = 0; i < d->port_n; i++) {
		const struct mc_doc_port *p = &d->port[i];
		bool is_ib = strcmp(p->link, "InfiniBand") == 0;

		if (!is_ib && strcmp(p->link, "Ethernet") != 0) {
			port_path(d, p, "link_layer", path, sizeof(path));
			mc_doc_senseless(r, path, p->link);
			return;
		}
		if (!mc_doc_port_live(p))
			continue;
		mc_doc_add(list[is_ib], sizeof(list[0]), "%s%s:%u", list[is_ib][0] == '\0' ? "" : ",", dev_of(d, p),
			   p->num);
		*(is_ib ? &ib : &eth) += 1;
	}
	mc_doc_value(r, "%u InfiniBand, %u Ethernet (active)", ib, eth);
	if (ib > 0 && eth > 0) {
		mc_doc_set(r, MC_DOC_WARN,
			   "active ports of both kinds: the Ethernet ones (%s) may be for management; they are never "
			   "striped with "
			   "InfiniBand",
			   list[0]);
		mc_doc_fix(r, "export MC_DEVICE=%s    # or the others", list[1]);
	}
}

void mc_doc_roce_gid(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint32_t roce = 0, good = 0;
	const struct mc_doc_port *first = NULL;

	mc_doc_read(r, IB "/*/ports/*/gids, gid_attrs/types");
	for (uint32_t i = 0; i < d->port_n; i++) {
		const struct mc_doc_port *p = &d->port[i];

		if (strcmp(p->link, "Ethernet") != 0 || !mc_doc_port_live(p) || d->dev[p->dev].iwarp)
			continue;
		roce++;
		good += p->best >= 0;
		if (p->best >= 0)
			mc_doc_add(r->value, sizeof(r->value), "%s%s:%u index %d", r->value[0] == '\0' ? "" : ", ",
				   dev_of(d, p), p->num, p->best);
		else
			first = first == NULL ? p : first;
		if (p->gid_bad > 0)
			mc_doc_set(r, MC_DOC_WARN, "%u GIDs of %s:%u make no sense", p->gid_bad, dev_of(d, p), p->num);
	}
	if (roce == 0) {
		mc_doc_set(r, MC_DOC_NA, "no active RoCE port (InfiniBand needs no such GID)");
		return;
	}
	if (first == NULL)
		return;
	mc_doc_set(r, good == 0 ? MC_DOC_FAIL : MC_DOC_WARN,
		   "%s:%u has %u GIDs, %u of them RoCE v2, none with an IP address%s", dev_of(d, first), first->num,
		   first->gid_n, first->v2_n, first->v2_n > 0 ? ": only link-local ones, which no router carries" : "");
	mc_doc_fix(
		r,
		"ip addr add ADDRESS/PREFIX dev %s    # the GID ::ffff:ADDRESS of type RoCE v2 then appears by itself",
		first->netdev[0] != '\0' ? first->netdev : "IFACE");
}

void mc_doc_gid_netdev(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint32_t with = 0, bad = 0;

	mc_doc_read(r, IB "/*/ports/*/gid_attrs/ndevs, /sys/class/net");
	for (uint32_t i = 0; i < d->port_n; i++) {
		const struct mc_doc_port *p = &d->port[i];

		if (strcmp(p->link, "Ethernet") != 0 || !mc_doc_port_live(p))
			continue;
		with++;
		mc_doc_add(r->value, sizeof(r->value), "%s%s:%u %s", r->value[0] == '\0' ? "" : ", ", dev_of(d, p),
			   p->num, p->netdev[0] != '\0' ? p->netdev : "(none)");
		if (p->netdev_seen)
			continue;
		bad++;
		mc_doc_set(r, MC_DOC_WARN,
			   "the interface %s of %s:%u is not in this network namespace: connecting fails with ENODEV",
			   p->netdev[0] != '\0' ? p->netdev : "(unnamed)", dev_of(d, p), p->num);
	}
	if (with == 0)
		mc_doc_set(r, MC_DOC_NA, "no active RoCE port");
	else if (bad == with)
		r->status = MC_DOC_FAIL;
	mc_doc_fix(r, "%s",
		   mc_doc_pick(d, "run where the interface is: nsenter --net=/proc/1/ns/net ...",
			       "docker run --network=host ...",
			       "hostNetwork: true\ndnsPolicy: ClusterFirstWithHostNet    # or a CNI (Multus) that "
			       "moves the interface in",
			       NULL));
}

void mc_doc_rdma_netns(struct mc_doctor *d, struct mc_doc_result *r)
{
	char text[64];
	static const char path[] = "/sys/module/ib_core/parameters/netns_mode";
	int e = mc_sysroot_read(d->root, path, text, sizeof(text));

	if (mc_doc_unreadable(r, path, e))
		return;
	mc_doc_read(r, "%s", path);
	if (strcmp(text, "Y") != 0 && strcmp(text, "N") != 0 && strcmp(text, "1") != 0 && strcmp(text, "0") != 0) {
		mc_doc_senseless(r, path, text);
		return;
	}
	bool shared = text[0] == 'Y' || text[0] == '1';
	mc_doc_value(r, "%s", shared ? "shared" : "exclusive");
	if (!shared && (d->dev_n == 0 || d->where == MC_DOC_IN_CONTAINER || d->where == MC_DOC_IN_K8S)) {
		mc_doc_set(r, MC_DOC_WARN, "RDMA devices belong to one network namespace each (exclusive)%s",
			   d->dev_n == 0 ? ": none is in this one"
					 : ": a container gets them only if they are moved into it");
		mc_doc_fix(r, "rdma system set netns shared    # on the host, while no other namespace exists; or rdma "
			      "dev set DEVICE netns NS");
	}
}

void mc_doc_mtu(struct mc_doctor *d, struct mc_doc_result *r)
{
	uint64_t first = 0;
	char text[64], path[160];

	mc_doc_read(r, "/sys/class/net/*/mtu of RoCE interfaces");
	for (uint32_t i = 0; i < d->port_n; i++) {
		const struct mc_doc_port *p = &d->port[i];
		uint64_t mtu;

		if (strcmp(p->link, "Ethernet") != 0 || !mc_doc_port_live(p) || !p->netdev_seen)
			continue;
		(void)snprintf(path, sizeof(path), "/sys/class/net/%.64s/mtu", p->netdev);
		if (mc_sysroot_read(d->root, path, text, sizeof(text)) != 0)
			continue;
		if (!mc_sys_u64(text, &mtu) || mtu < 68 || mtu > 65536) {
			mc_doc_senseless(r, path, text);
			return;
		}
		mc_doc_add(r->value, sizeof(r->value), "%s%s %u", r->value[0] == '\0' ? "" : ", ", p->netdev,
			   (unsigned)mtu);
		if (mtu < 4200)
			mc_doc_set(r, MC_DOC_WARN,
				   "MTU %u of %s makes RDMA packets of %u bytes; 4096 need an interface MTU of 4200 or "
				   "more (and the "
				   "same on the other hosts)",
				   (unsigned)mtu, p->netdev,
				   mtu < 600    ? 256
				   : mtu < 1100 ? 512
				   : mtu < 2200 ? 1024
						: 2048);
		if (first != 0 && mtu != first)
			mc_doc_set(r, MC_DOC_WARN, "the RoCE interfaces have different MTUs");
		first = mtu;
	}
	if (first == 0)
		mc_doc_set(r, MC_DOC_NA, "no active RoCE port with an interface here");
	mc_doc_fix(r, "ip link set IFACE mtu 9000    # on every host and switch port of the path");
}

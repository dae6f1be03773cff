/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * topo_nohwloc.c - in place of topo_hwloc.c in a build without hwloc: the NUMA nodes that Linux shows, nothing of PCI.
 * NICs then are placed by the kernel's numa_node alone, and XML files cannot be read.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "topo_impl.h"

enum { TEXT_ROOM = 4096, CPUS_MAX = 65536 };

static size_t file_read(const char *path, char *buf, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, buf, room);
	close(fd);
	return n > 0 ? (size_t)n : 0;
}

struct list {
	struct mc_topo *t;
	uint32_t first, n;
	bool nomem;
};

static void add_cpu(void *arg, uint32_t cpu)
{
	struct list *l = arg;

	if (l->n++ == 0)
		l->first = cpu;
}

static void add_node(void *arg, uint32_t number)
{
	struct list *l = arg;
	struct mc_topo_node *n = l->nomem ? NULL : mc_topo_push(&l->t->node, &l->t->node_n, sizeof(*n));
	struct list cpus = {.n = 0};
	char path[128], text[TEXT_ROOM];
	int64_t package;

	if (n == NULL) {
		l->nomem = true;
		return;
	}
	n->os_index = number;
	n->loc.known = true;
	n->loc.package = -1;
	mc_topo_set_add(&n->loc.nodes, l->t->node_n - 1);
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", number);
	if (!mc_topo_parse_list(text, file_read(path, text, sizeof(text)), CPUS_MAX, add_cpu, &cpus) || cpus.n == 0)
		return;
	n->has_cpus = true;
	l->t->pus += cpus.n;
	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/topology/physical_package_id", cpus.first);
	if (mc_topo_parse_i64(text, file_read(path, text, sizeof(text)), &package) && package >= 0 &&
	    package < CPUS_MAX) {
		n->loc.package = (int32_t)package;
		if ((uint32_t)package >= l->t->packages)
			l->t->packages = (uint32_t)package + 1;
	}
}

mc_status_t mc_topo_read_hwloc(struct mc_topo *t, const struct mc_topo_input *in, char *err, size_t err_len)
{
	struct list l = {.t = t};
	char text[TEXT_ROOM];
	size_t len;

	if (in->xml != NULL)
		return mc_topo_fail(MC_ERR_UNSUPPORTED, err, err_len,
				    "%s: this build is without hwloc and reads no XML", in->name);
	len = file_read("/sys/devices/system/node/online", text, sizeof(text));
	if (len == 0 || !mc_topo_parse_list(text, len, MC_TOPO_NODES_MAX, add_node, &l) || t->node_n == 0) {
		t->node_n = 0;
		add_node(&l, 0); /* a kernel without NUMA */
	}
	if (l.nomem)
		return mc_topo_fail(MC_ERR_NOMEM, err, err_len, "no memory for the topology");
	t->live = true;
	mc_topo_copy(t->source, sizeof(t->source), "this machine (build without hwloc)");
	return MC_OK;
}

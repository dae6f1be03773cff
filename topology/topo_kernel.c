/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * topo_kernel.c - NUMA nodes and their CPUs as Linux shows them, nothing of PCI: a few files where hwloc reads many.
 * A rank that moves host memory needs no more; a build without hwloc has no more. NICs then are placed by the kernel's
 * numa_node.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "topo_impl.h"

enum { PATH_ROOM = 1024, TEXT_ROOM = 4096, CPUS_MAX = 65536 };

static size_t file_read(char *buf, size_t room, const char *fmt, ...) MC_PRINTF(3, 4);
static size_t file_read(char *buf, size_t room, const char *fmt, ...)
{
	char path[PATH_ROOM];
	va_list ap;
	ssize_t n;
	int fd;

	va_start(ap, fmt);
	n = vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	if (n < 0 || n >= PATH_ROOM)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return 0;
	n = read(fd, buf, room);
	close(fd);
	return n > 0 ? (size_t)n : 0;
}

struct list {
	struct mc_topo *t;
	const char *root;
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
	char text[TEXT_ROOM];
	int64_t package;
	size_t len;

	if (n == NULL) {
		l->nomem = true;
		return;
	}
	n->os_index = number;
	n->loc.known = true;
	n->loc.package = -1;
	mc_topo_set_add(&n->loc.nodes, l->t->node_n - 1);
	len = file_read(text, sizeof(text), "%s/sys/devices/system/node/node%u/cpulist", l->root, number);
	if (!mc_topo_parse_list(text, len, CPUS_MAX, add_cpu, &cpus) || cpus.n == 0)
		return;
	if (!mc_topo_parse_word(text, len, n->cpus, sizeof(n->cpus)))
		n->cpus[0] = '\0';
	n->has_cpus = true;
	l->t->pus += cpus.n;
	len = file_read(text, sizeof(text), "%s/sys/devices/system/cpu/cpu%u/topology/physical_package_id", l->root,
			cpus.first);
	if (mc_topo_parse_i64(text, len, &package) && package >= 0 && package < CPUS_MAX) {
		n->loc.package = (int32_t)package;
		if ((uint32_t)package >= l->t->packages)
			l->t->packages = (uint32_t)package + 1;
	}
}

mc_status_t mc_topo_read_kernel(struct mc_topo *t, const char *root, char *err, size_t err_len)
{
	struct list l = {.t = t, .root = root};
	char text[TEXT_ROOM];
	size_t len;

	len = file_read(text, sizeof(text), "%s/sys/devices/system/node/online", root);
	if (len == 0 || !mc_topo_parse_list(text, len, MC_TOPO_NODES_MAX, add_node, &l) || t->node_n == 0) {
		t->node_n = 0;
		add_node(&l, 0); /* a kernel without NUMA */
	}
	if (l.nomem)
		return mc_topo_fail(MC_ERR_NOMEM, err, err_len, "no memory for the topology");
	t->live = true;
	mc_topo_copy(t->source, sizeof(t->source), root[0] == '\0' ? "this machine, as the kernel tells" : root);
	return MC_OK;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * topo_sysfs.c - what hwloc does not say: state, rate, link layer and GIDs of RDMA ports; state, speed and kind of
 * interfaces. Everything is read below a root, so that a recorded tree gives the same as the machine. A file that is
 * missing, cannot be read or makes no sense leaves its field unknown: sysfs differs between kernels and drivers.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "topo_impl.h"

enum { PATH_ROOM = 1024, TEXT_ROOM = 4096, ROUTES_ROOM = 65536, ENTRIES_MAX = 4096, LOOPBACK = 772 };

/* A path that does not fit names nothing. */
static bool path_make(char out[PATH_ROOM], const char *fmt, ...) MC_PRINTF(2, 3);
static bool path_make(char out[PATH_ROOM], const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out, PATH_ROOM, fmt, ap);
	va_end(ap);
	return n > 0 && n < PATH_ROOM;
}

/* A small file whole; 0: nothing there. A recorded tree may hold anything, so nothing that could block is opened. */
static size_t file_read(const char *dir, const char *name, char *buf, size_t room)
{
	char path[PATH_ROOM];
	size_t got = 0;
	int fd;

	if (!path_make(path, "%s/%s", dir, name))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return 0;
	while (got < room) {
		ssize_t n = read(fd, buf + got, room - got);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	close(fd);
	return got;
}

static bool name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n >= MC_TOPO_NAME_MAX || name[0] == '.')
		return false;
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)name[i] <= 0x20 || (unsigned char)name[i] >= 0x7f)
			return false;
	}
	return true;
}

/* Call f for each entry of a folder. False: f said so (no memory). */
static bool dir_each(const char *path, bool (*f)(void *arg, const char *name), void *arg)
{
	struct dirent *e;
	bool ok = true;
	uint32_t n = 0;
	DIR *d = opendir(path);

	if (d == NULL)
		return true;
	while (ok && n < ENTRIES_MAX && (e = readdir(d)) != NULL) {
		if (name_ok(e->d_name)) {
			ok = f(arg, e->d_name);
			n++;
		}
	}
	closedir(d);
	return ok;
}

/* The last part of a link's target that is a PCI id: the device that the class entry belongs to. */
static bool link_busid(const char *path, char out[24])
{
	char target[PATH_ROOM], *save = NULL;
	bool found = false;
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n <= 0)
		return false;
	target[n] = '\0';
	for (char *part = strtok_r(target, "/", &save); part != NULL; part = strtok_r(NULL, "/", &save))
		found = mc_topo_parse_busid(part, strlen(part), out) || found;
	return found;
}

struct scan {
	struct mc_topo *t;
	const struct mc_topo_src *src;
	const char *root;
	char dir[PATH_ROOM]; /* of the device or the port */
	char device[MC_TOPO_NAME_MAX];
	uint32_t nic; /* index: the array may move */
	char guid[20];
	bool nomem;
};

/* The node that the kernel tells; a machine with one node needs no word. */
static void place_by_kernel(const struct scan *s, struct mc_topo_loc *loc)
{
	const struct mc_topo *t = s->t;
	char text[TEXT_ROOM];
	int64_t node = -1;

	loc->package = -1;
	if (t->node_n > 1 &&
	    (!mc_topo_parse_i64(text, file_read(s->dir, "device/numa_node", text, sizeof(text)), &node) || node < 0))
		return;
	for (uint32_t i = 0; i < t->node_n; i++) {
		if (t->node_n == 1 || (uint64_t)node == t->node[i].os_index) {
			*loc = t->node[i].loc;
			return;
		}
	}
}

/* Without hwloc the devices of NICs are still told, for their order and make: rails must be the same on all ranks. */
static uint32_t pci_add(struct scan *s, const char *busid)
{
	struct mc_topo_pci *pci = mc_topo_push(&s->t->pci, &s->t->pci_n, sizeof(*pci));
	char text[TEXT_ROOM];
	uint64_t v;

	if (pci == NULL)
		return MC_TOPO_NONE;
	mc_topo_copy(pci->busid, sizeof(pci->busid), busid);
	if (mc_topo_parse_u64(text, file_read(s->dir, "device/vendor", text, sizeof(text)), &v))
		pci->vendor = (uint16_t)v;
	if (mc_topo_parse_u64(text, file_read(s->dir, "device/device", text, sizeof(text)), &v))
		pci->device = (uint16_t)v;
	place_by_kernel(s, &pci->loc);
	return s->t->pci_n - 1;
}

/* Place from hwloc's PCI device where it has one, else from the kernel's numa_node. */
static void place(struct scan *s, struct mc_topo_nic *nic)
{
	struct mc_topo *t = s->t;
	char busid[24], path[PATH_ROOM];

	if (nic->pci == MC_TOPO_NONE) {
		if (link_busid(s->dir, busid) || (path_make(path, "%s/device", s->dir) && link_busid(path, busid))) {
			nic->pci = mc_topo_pci_find(t, busid);
			if (nic->pci == MC_TOPO_NONE && s->src->kernel_only)
				nic->pci = pci_add(s, busid);
		}
		if (nic->pci != MC_TOPO_NONE)
			nic->loc = t->pci[nic->pci].loc;
	}
	if (nic->pci == MC_TOPO_NONE && !nic->loc.known)
		place_by_kernel(s, &nic->loc);
}

static struct mc_topo_nic *nic_get(struct scan *s, enum mc_topo_kind kind, const char *name, uint32_t port)
{
	struct mc_topo_nic *nic;

	for (uint32_t i = 0; i < s->t->nic_n; i++) {
		nic = &s->t->nic[i];
		if (nic->kind == kind && nic->port == port && strcmp(nic->name, name) == 0) {
			s->nic = i;
			return nic;
		}
	}
	nic = mc_topo_push(&s->t->nic, &s->t->nic_n, sizeof(*nic));
	if (nic == NULL)
		return NULL;
	s->nic = s->t->nic_n - 1;
	nic->kind = kind;
	nic->port = port;
	nic->pci = MC_TOPO_NONE;
	nic->loc.package = -1;
	mc_topo_copy(nic->name, sizeof(nic->name), name);
	return nic;
}

/* ---- RDMA ----------------------------------------------------------------------------------------------------------
 */

static bool gid_read(void *arg, const char *name)
{
	struct scan *s = arg;
	struct mc_topo_nic *nic = &s->t->nic[s->nic];
	static const uint8_t none[16];
	char text[TEXT_ROOM], file[MC_TOPO_NAME_MAX + 32];
	struct mc_topo_gid *g;
	uint8_t raw[16];
	uint64_t index;

	if (!mc_topo_parse_u64(name, strlen(name), &index) || index > UINT16_MAX || nic->gid_n == MC_TOPO_GID_MAX)
		return true;
	snprintf(file, sizeof(file), "gids/%s", name);
	if (!mc_topo_parse_gid(text, file_read(s->dir, file, text, sizeof(text)), raw) || memcmp(raw, none, 16) == 0)
		return true;
	g = mc_topo_push(&nic->gid, &nic->gid_n, sizeof(*g));
	if (g == NULL)
		return false;
	g->index = (uint32_t)index;
	memcpy(g->raw, raw, sizeof(raw));
	snprintf(file, sizeof(file), "gid_attrs/types/%s", name);
	mc_topo_parse_gid_type(text, file_read(s->dir, file, text, sizeof(text)), &g->type);
	snprintf(file, sizeof(file), "gid_attrs/ndevs/%s", name);
	if (mc_topo_parse_word(text, file_read(s->dir, file, text, sizeof(text)), g->netdev, sizeof(g->netdev)) &&
	    nic->netdev[0] == '\0')
		mc_topo_copy(nic->netdev, sizeof(nic->netdev), g->netdev);
	return true;
}

static int gid_cmp(const void *a, const void *b)
{
	const struct mc_topo_gid *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

static bool port_read(void *arg, const char *name)
{
	const struct scan *dev = arg;
	struct scan s = *dev;
	struct mc_topo_nic *nic;
	char text[TEXT_ROOM], path[PATH_ROOM];
	uint64_t port, v;

	if (!mc_topo_parse_u64(name, strlen(name), &port) || port == 0 || port > 255)
		return true;
	nic = nic_get(&s, MC_TOPO_OPENFABRICS, dev->device, (uint32_t)port);
	if (nic == NULL)
		return false;
	place(&s, nic);
	nic->present = true;
	if (!path_make(s.dir, "%s/ports/%s", dev->dir, name))
		return true;
	mc_topo_copy(nic->guid, sizeof(nic->guid), dev->guid);
	mc_topo_parse_state(text, file_read(s.dir, "state", text, sizeof(text)), &nic->state);
	mc_topo_parse_phys_state(text, file_read(s.dir, "phys_state", text, sizeof(text)), nic->phys_state,
				 sizeof(nic->phys_state));
	mc_topo_parse_link(text, file_read(s.dir, "link_layer", text, sizeof(text)), &nic->link);
	mc_topo_parse_rate(text, file_read(s.dir, "rate", text, sizeof(text)), &nic->rate_mbps);
	if (mc_topo_parse_u64(text, file_read(s.dir, "lid", text, sizeof(text)), &v) && v <= UINT16_MAX)
		nic->lid = (uint32_t)v;
	free(nic->gid); /* hwloc's list has neither types nor interfaces */
	nic->gid = NULL;
	nic->gid_n = 0;
	if (!path_make(path, "%s/gids", s.dir) || !dir_each(path, gid_read, &s))
		return false;
	if (nic->gid_n > 1)
		qsort(nic->gid, nic->gid_n, sizeof(*nic->gid), gid_cmp);
	return true;
}

static bool device_read(void *arg, const char *name)
{
	struct scan *all = arg;
	struct scan s = {.t = all->t, .root = all->root, .src = all->src};
	char text[TEXT_ROOM], path[PATH_ROOM];

	mc_topo_copy(s.device, sizeof(s.device), name);
	if (!path_make(s.dir, "%s/sys/class/infiniband/%s", s.root, name) || !path_make(path, "%s/ports", s.dir))
		return true;
	mc_topo_parse_word(text, file_read(s.dir, "node_guid", text, sizeof(text)), s.guid, sizeof(s.guid));
	return dir_each(path, port_read, &s);
}

/* ---- interfaces
 * ------------------------------------------------------------------------------------------------------ */

static bool exists(const char *dir, const char *name)
{
	char path[PATH_ROOM];

	return path_make(path, "%s/%s", dir, name) && access(path, F_OK) == 0;
}

static bool interface_read(void *arg, const char *name)
{
	struct scan *s = arg;
	struct mc_topo_nic *nic;
	char text[TEXT_ROOM];
	uint64_t type = 0, v;
	int64_t speed;

	if (!path_make(s->dir, "%s/sys/class/net/%s", s->root, name))
		return true;
	/* Files such as bonding_masters lie there too; the loopback interface leads nowhere. */
	if (!mc_topo_parse_u64(text, file_read(s->dir, "type", text, sizeof(text)), &type) ||
	    (type == LOOPBACK && !s->src->loopback))
		return true;
	nic = nic_get(s, MC_TOPO_NETWORK, name, 0);
	if (nic == NULL)
		return false;
	place(s, nic);
	nic->present = true;
	mc_topo_parse_operstate(text, file_read(s->dir, "operstate", text, sizeof(text)), &nic->state);
	/* Drivers that do not keep operstate say "unknown"; then the carrier counts. */
	if (nic->state == MC_TOPO_STATE_UNKNOWN &&
	    mc_topo_parse_u64(text, file_read(s->dir, "carrier", text, sizeof(text)), &v))
		nic->state = v != 0 ? MC_TOPO_STATE_UP : MC_TOPO_STATE_DOWN;
	if (mc_topo_parse_i64(text, file_read(s->dir, "speed", text, sizeof(text)), &speed) && speed > 0 &&
	    speed < UINT32_MAX)
		nic->rate_mbps = (uint32_t)speed;
	if (mc_topo_parse_u64(text, file_read(s->dir, "mtu", text, sizeof(text)), &v) && v <= UINT32_MAX)
		nic->mtu = (uint32_t)v;
	mc_topo_parse_word(text, file_read(s->dir, "address", text, sizeof(text)), nic->address, sizeof(nic->address));
	if (type == 1)
		nic->link = MC_TOPO_LINK_ETHERNET;
	else if (type == 32)
		nic->link = MC_TOPO_LINK_INFINIBAND;
	nic->is_loopback = type == LOOPBACK;
	nic->is_virtual = !exists(s->dir, "device");
	nic->is_bridge = exists(s->dir, "bridge");
	return true;
}

static void has_address(void *arg, const char *name, bool is_default, uint64_t network)
{
	struct mc_topo *t = arg;

	for (uint32_t i = 0; i < t->nic_n; i++) {
		struct mc_topo_nic *nic = &t->nic[i];
		bool known = network == 0 || nic->network_n == MC_TOPO_NETWORK_MAX;
		if (nic->kind != MC_TOPO_NETWORK || strcmp(nic->name, name) != 0)
			continue;
		nic->no_address = false;
		nic->default_route = nic->default_route || is_default;
		for (uint32_t k = 0; k < nic->network_n && !known; k++)
			known = nic->network[k] == network;
		if (!known)
			nic->network[nic->network_n++] = network;
	}
}

/* The kernel's lists of addresses. */
struct addresses {
	char *v4, *v6;
	size_t v4_len, v6_len;
};

static bool addresses_read(struct addresses *a, const char *root)
{
	a->v4 = malloc(ROUTES_ROOM);
	a->v6 = malloc(ROUTES_ROOM);
	if (a->v4 == NULL || a->v6 == NULL)
		return false;
	a->v4_len = file_read(root, "proc/net/route", a->v4, ROUTES_ROOM);
	a->v6_len = file_read(root, "proc/net/if_inet6", a->v6, ROUTES_ROOM);
	return true;
}

/* Where a list is missing or has been cut nobody is accused. */
static bool addresses_whole(const struct addresses *a)
{
	return a->v4_len > 0 && a->v4_len < ROUTES_ROOM && a->v6_len < ROUTES_ROOM;
}

/* An interface without an IP address is of no use for TCP. */
static void addresses_apply(const struct addresses *a, struct mc_topo *t)
{
	for (uint32_t i = 0; addresses_whole(a) && i < t->nic_n; i++)
		t->nic[i].no_address = t->nic[i].kind == MC_TOPO_NETWORK && !t->nic[i].is_loopback;
	mc_topo_parse_route(a->v4, a->v4_len, has_address, t);
	mc_topo_parse_inet6(a->v6, a->v6_len, has_address, t);
}

static bool interface_known(const struct mc_topo *t, const char *name)
{
	for (uint32_t i = 0; i < t->nic_n; i++) {
		if (t->nic[i].kind == MC_TOPO_NETWORK && t->nic[i].present && strcmp(t->nic[i].name, name) == 0)
			return true;
	}
	return false;
}

/* An interface that the kernel's lists name. Where /sys is that of another network namespace it may not be there. */
static void interface_named(void *arg, const char *name, bool is_default, uint64_t network)
{
	struct scan *s = arg;

	(void)is_default;
	(void)network;
	if (name_ok(name) && strchr(name, '/') == NULL && !interface_known(s->t, name))
		s->nomem = !interface_read(s, name) || s->nomem;
}

bool mc_topo_read_sysfs(struct mc_topo *t, const char *root, const struct mc_topo_src *src)
{
	struct addresses a = {.v4 = NULL};
	struct scan s = {.t = t, .src = src, .root = root};
	char path[PATH_ROOM];
	bool ok;

	if (strcmp(root, "/") == 0)
		s.root = ""; /* paths begin with one slash */
	if (!path_make(path, "%s/sys/class/infiniband", s.root))
		return true;
	ok = dir_each(path, device_read, &s) && addresses_read(&a, s.root);
	if (ok && src->addressed && addresses_whole(&a)) {
		mc_topo_parse_route(a.v4, a.v4_len, interface_named, &s);
		mc_topo_parse_inet6(a.v6, a.v6_len, interface_named, &s);
		ok = !s.nomem;
	} else if (ok && path_make(path, "%s/sys/class/net", s.root)) {
		ok = dir_each(path, interface_read, &s);
	}
	if (ok)
		addresses_apply(&a, t);
	free(a.v4);
	free(a.v6);
	return ok;
}

/* ---- counters
 * -------------------------------------------------------------------------------------------------------- */

struct counters {
	char dir[PATH_ROOM];
	bool hw;
	struct mc_topo_counter *v;
	uint32_t n;
};

static bool counter_read(void *arg, const char *name)
{
	struct counters *c = arg;
	struct mc_topo_counter *k;
	char text[TEXT_ROOM];
	uint64_t v;

	/* lifespan is a setting, not a counter */
	if (strcmp(name, "lifespan") == 0 || !mc_topo_parse_u64(text, file_read(c->dir, name, text, sizeof(text)), &v))
		return true;
	k = mc_topo_push(&c->v, &c->n, sizeof(*k));
	if (k == NULL)
		return false;
	mc_topo_copy(k->name, sizeof(k->name), name);
	k->value = v;
	k->hw = c->hw;
	return true;
}

static int counter_cmp(const void *a, const void *b)
{
	const struct mc_topo_counter *x = a, *y = b;

	return x->hw != y->hw ? (x->hw ? 1 : -1) : strcmp(x->name, y->name);
}

mc_status_t mc_topo_counters(const char *root, const struct mc_topo_nic *nic, struct mc_topo_counter **out,
			     uint32_t *n_out)
{
	struct counters c = {.v = NULL};
	const char *top = strcmp(root, "/") == 0 ? "" : root;
	bool ok;

	if (nic->kind == MC_TOPO_NETWORK) {
		ok = !path_make(c.dir, "%s/sys/class/net/%s/statistics", top, nic->name) ||
		     dir_each(c.dir, counter_read, &c);
	} else {
		ok = !path_make(c.dir, "%s/sys/class/infiniband/%s/ports/%u/counters", top, nic->name, nic->port) ||
		     dir_each(c.dir, counter_read, &c);
		c.hw = true;
		ok = ok &&
		     (!path_make(c.dir, "%s/sys/class/infiniband/%s/ports/%u/hw_counters", top, nic->name, nic->port) ||
		      dir_each(c.dir, counter_read, &c));
	}
	if (!ok || c.n == 0) {
		free(c.v);
		return ok ? MC_ERR_NOENT : MC_ERR_NOMEM;
	}
	qsort(c.v, c.n, sizeof(*c.v), counter_cmp);
	*out = c.v;
	*n_out = c.n;
	return MC_OK;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_dev.c - ports of RDMA devices: which are used, what they can, when they come and go. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "verbs.h"

enum { GIDS_MAX = 256 };

const char *mc_vb_remedy(int err)
{
	switch (err) {
	case EAGAIN:
		return "the limit of the rdma cgroup is reached: raise rdma.max of this cgroup or one above it, or use "
		       "fewer ports, queue pairs and regions [rdma-cgroup, see mcinfo doctor]";
	case ENOMEM:
		return "the limit of locked memory is reached: raise it (ulimit -l, LimitMEMLOCK, docker --ulimit "
		       "memlock=-1) or grant CAP_IPC_LOCK [memlock, see mcinfo doctor]";
	case EACCES:
	case EPERM:
	case ENOENT:
		return "/dev/infiniband is missing or may not be opened: give it to the container or the user "
		       "[device-nodes, see mcinfo doctor]";
	case EADDRINUSE:
		return "another RDMA device of the same interface answers for its address, and rdma_cm cannot tell "
		       "them "
		       "apart: remove one of them (rdma link delete)";
	case EADDRNOTAVAIL:
		return "iWARP needs an IPv4 address on its interface [roce-gid, see mcinfo doctor]";
	case ENODEV:
		return "its network interface is not in this network namespace [gid-netdev, see mcinfo doctor]";
	default:
		return "mcinfo doctor tells more";
	}
}

/* ---- names in MC_DEVICE ------------------------------------------------------------------------------------------ */

/* Does the comma separated list name this port? "mlx5_0", "mlx5_0:1". An empty list names all. */
static bool listed(const char *list, const char *dev, uint32_t port)
{
	char name[VB_NAME_MAX + 16];
	size_t dev_len = strlen(dev);

	if (list == NULL || list[0] == '\0')
		return true;
	snprintf(name, sizeof(name), "%s:%u", dev, port);
	for (const char *p = list; *p != '\0'; p += *p == ',') {
		size_t len = strcspn(p, ",");
		if ((len == dev_len && strncmp(p, dev, len) == 0) ||
		    (len == strlen(name) && strncmp(p, name, len) == 0))
			return true;
		p += len;
	}
	return false;
}

static bool list_names_rdma(const char *list, char *first, size_t len)
{
	for (const char *p = list; *p != '\0'; p += *p == ',') {
		char path[160];
		size_t n = strcspn(p, ","), base = strcspn(p, ",:");
		snprintf(first, len, "%.*s", (int)n, p);
		snprintf(path, sizeof(path), "/sys/class/infiniband/%.*s", (int)base, p);
		if (access(path, F_OK) == 0)
			return true;
		p += n;
	}
	return false;
}

/* ---- the GID ----------------------------------------------------------------------------------------------------- */

/* Bits of the netmask of the interface that has this address; 0: no interface here has it. */
static uint8_t prefix_of(const uint8_t raw[16], const struct ifaddrs *all)
{
	bool v4 = mc_vb_gid_is_ipv4(raw);

	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		const uint8_t *addr, *mask;
		uint32_t len = v4 ? 4 : 16, bits = 0;
		if (i->ifa_addr == NULL || i->ifa_netmask == NULL ||
		    i->ifa_addr->sa_family != (v4 ? AF_INET : AF_INET6))
			continue;
		if (v4) {
			addr = (const uint8_t *)&((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr;
			mask = (const uint8_t *)&((const struct sockaddr_in *)(const void *)i->ifa_netmask)->sin_addr;
		} else {
			addr = (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr;
			mask = (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)i->ifa_netmask)->sin6_addr;
		}
		if (memcmp(addr, raw + 16 - len, len) != 0)
			continue;
		while (bits < len * 8 && (mask[bits / 8] >> (7 - bits % 8) & 1) != 0)
			bits++;
		return (uint8_t)(bits + (v4 ? 96 : 0));
	}
	return 0;
}

/* Link-local addresses need no interface of ours: the card makes them from its MAC. */
static bool usable(const struct ibv_gid_entry *e, const struct ifaddrs *all)
{
	bool local = e->gid.raw[0] == 0xfe && (e->gid.raw[1] & 0xc0) == 0x80;
	char name[IF_NAMESIZE];

	if (local)
		return e->ndev_ifindex == 0 || if_indextoname(e->ndev_ifindex, name) != NULL;
	return prefix_of(e->gid.raw, all) > 0;
}

static bool gid_choose(struct vb_nic *nic, const char **why)
{
	const char *asked = nic->be->config->verbs_gid;
	uint32_t want = asked[0] != '\0' ? (uint32_t)strtoul(asked, NULL, 10) : UINT32_MAX, n = 0, at;
	struct ibv_gid_entry *e = calloc(GIDS_MAX, sizeof(*e));
	struct vb_gid g[GIDS_MAX];
	struct ifaddrs *all = NULL;
	ssize_t got = e != NULL ? ibv_query_gid_table(nic->ctx, e, GIDS_MAX, 0) : -1;

	(void)!getifaddrs(&all);
	for (ssize_t i = 0; i < got; i++) {
		if (e[i].port_num != nic->port_num || (want == UINT32_MAX && !usable(&e[i], all)))
			continue;
		g[n].index = e[i].gid_index;
		g[n].type = e[i].gid_type == IBV_GID_TYPE_ROCE_V2 ? VB_GID_ROCE2 : VB_GID_ROCE1;
		memcpy(g[n++].raw, e[i].gid.raw, 16);
	}
	at = mc_vb_gid_choose(g, n, want, why);
	if (at != UINT32_MAX) {
		uint8_t bits = prefix_of(g[at].raw, all);
		memcpy(nic->port.gid, g[at].raw, 16);
		nic->gid_index = g[at].index;
		nic->port.prefix = bits > 0 ? bits : 64;
	}
	if (all != NULL)
		freeifaddrs(all);
	free(e);
	return at != UINT32_MAX;
}

static bool gid_of_ib(struct vb_nic *nic, const char **why)
{
	union ibv_gid gid;
	const char *asked = nic->be->config->verbs_gid;

	nic->gid_index = asked[0] != '\0' ? (uint32_t)strtoul(asked, NULL, 10) : 0;
	*why = "the port's own";
	if (ibv_query_gid(nic->ctx, nic->port_num, (int)nic->gid_index, &gid) != 0)
		return false;
	memcpy(nic->port.gid, gid.raw, 16);
	nic->port.prefix = 64;
	return true;
}

/* iWARP connects by addresses; its GID means nothing to anybody. */
static bool address_of_iwarp(struct vb_nic *nic, const char **why)
{
	uint8_t raw[16], prefix;

	*why = "iWARP: address of its interface";
	if (!mc_vb_cm_address(ibv_get_device_name(nic->ctx->device), nic->port_num, raw, &prefix))
		return false;
	memcpy(nic->port.gid, raw, 16);
	nic->port.prefix = prefix;
	return true;
}

/* ---- the port ---------------------------------------------------------------------------------------------------- */

static uint32_t rate_mbit(const struct ibv_port_attr *a)
{
	static const struct {
		uint8_t code;
		uint32_t mbit;
	} speed[] = {{1, 2500},   {2, 5000},   {4, 10000},  {8, 10000},
		     {16, 14000}, {32, 25000}, {64, 50000}, {128, 100000}};
	uint32_t width = a->active_width == 1    ? 1
			 : a->active_width == 2  ? 4
			 : a->active_width == 4  ? 8
			 : a->active_width == 8  ? 12
			 : a->active_width == 16 ? 2
						 : 1;

	for (size_t i = 0; i < MC_ARRAY_LEN(speed); i++)
		if (speed[i].code == a->active_speed)
			return speed[i].mbit * width;
	return 0;
}

bool mc_vb_nic_refresh(struct vb_nic *nic)
{
	struct vb_port old = nic->port;
	uint32_t old_index = nic->gid_index;
	bool was_up = nic->up, ok;
	struct ibv_port_attr a;
	char gid[64];
	const char *why = "";

	if (nic->fatal || ibv_query_port(nic->ctx, nic->port_num, &a) != 0) {
		nic->up = false;
		return was_up;
	}
	nic->port.mtu = (uint8_t)(a.active_mtu >= 1 && a.active_mtu <= 5 ? a.active_mtu : 1);
	nic->port.lid = a.lid;
	nic->port.rate = rate_mbit(&a);
	if (nic->ctx->device->transport_type == IBV_TRANSPORT_IWARP)
		nic->port.layer = VB_IWARP;
	else
		nic->port.layer = a.link_layer == IBV_LINK_LAYER_ETHERNET ? VB_ROCE : VB_IB;
	if (nic->port.layer == VB_IWARP)
		ok = address_of_iwarp(nic, &why);
	else
		ok = nic->port.layer == VB_IB ? gid_of_ib(nic, &why) : gid_choose(nic, &why);
	nic->up = ok && a.state == IBV_PORT_ACTIVE;
	if (ok && (!nic->gid_why_told || nic->gid_index != old_index)) {
		mc_vb_gid_text(nic->port.gid, gid, sizeof(gid));
		mc_info("verbs: rank %u: %s uses GID %u, %s (%s)", nic->be->rank, nic->port.name, nic->gid_index, gid,
			why);
		nic->gid_why_told = true;
	} else if (!ok && a.state == IBV_PORT_ACTIVE) {
		mc_warn("verbs: rank %u: %s is up, but has no GID to use: %s; give its interface an address [roce-gid, "
			"see mcinfo doctor]",
			nic->be->rank, nic->port.name, why);
	}
	return was_up != nic->up || memcmp(old.gid, nic->port.gid, 16) != 0 || old.lid != nic->port.lid;
}

static int nic_close(struct vb_nic *nic)
{
	if (nic->cm == NULL)
		return nic->ctx != NULL ? ibv_close_device(nic->ctx) : 0;
	mc_vb_cm_nic_close(nic);
	return 0;
}

static mc_status_t nic_open(struct mc_be *be, struct ibv_device *dev, uint32_t port, uint16_t rail, bool asked)
{
	struct vb_nic *nic = &be->nic[be->nic_n];
	int err;

	memset(nic, 0, sizeof(*nic));
	nic->be = be;
	nic->index = (uint8_t)be->nic_n;
	nic->port_num = (uint8_t)port;
	nic->port.rail = rail;
	nic->cq_fd = (struct vb_fd){.kind = VB_FD_CQ, .fd = -1};
	nic->async_fd = (struct vb_fd){.kind = VB_FD_ASYNC, .fd = -1};
	for (uint32_t i = 0; i < VB_QPN_HASH; i++)
		mc_list_init(&nic->by_qpn[i]);
	snprintf(nic->port.name, sizeof(nic->port.name), "%.30s:%u", ibv_get_device_name(dev), port);
	err = dev->transport_type == IBV_TRANSPORT_IWARP ? mc_vb_cm_nic_open(nic, ibv_get_device_name(dev)) : 0;
	if (nic->ctx == NULL && err == 0) {
		nic->ctx = ibv_open_device(dev);
		err = errno;
	}
	if (nic->ctx == NULL) {
		char where[512] = "";
		if (err == EAGAIN)
			mc_vb_limit_left(ibv_get_device_name(dev), "hca_handle", where, sizeof(where));
		mc_warn("verbs: rank %u: %s cannot be opened: %s; %s%s%s", be->rank, ibv_get_device_name(dev),
			strerror(err), mc_vb_remedy(err), where[0] != '\0' ? "; " : "", where);
		return err == EAGAIN || err == ENOMEM ? MC_ERR_NOMEM : MC_ERR_DEVICE;
	}
	nic->port.prefix = 128;
	nic->port.mtu = 1;
	mc_vb_nic_refresh(nic);
	if (nic->port.layer == 0 || (!nic->up && !asked)) {
		nic_close(nic);
		return MC_ERR_UNSUPPORTED;
	}
	be->nic_n++;
	return MC_OK;
}

static uint32_t ports_of(struct ibv_device *dev)
{
	char path[300];
	uint32_t n = 0;

	for (uint32_t i = 1; i <= 16; i++) {
		snprintf(path, sizeof(path), "%s/ports/%u", dev->ibdev_path, i);
		n += access(path, F_OK) == 0;
	}
	return n;
}

/* Whatever is there and up, or what the list names. Returns the number of ports that were seen at all. */
static uint32_t nics_scan(struct mc_be *be, struct ibv_device **dev, const char *list)
{
	bool asked = list[0] != '\0';
	uint32_t seen = 0;

	for (; *dev != NULL && be->nic_n < VB_NIC_MAX; dev++) {
		uint32_t n = ports_of(*dev);
		for (uint32_t port = 1; port <= n && be->nic_n < VB_NIC_MAX; port++) {
			if (!listed(list, ibv_get_device_name(*dev), port))
				continue;
			seen++;
			nic_open(be, *dev, port, VB_NO_RAIL, asked);
		}
	}
	return seen;
}

static void nic_open_named(struct mc_be *be, struct ibv_device **dev, const struct mc_be_nic *c, bool asked)
{
	uint16_t rail = (uint16_t)(c->rail < VB_NO_RAIL ? c->rail : VB_NO_RAIL);

	for (; *dev != NULL; dev++)
		if (strcmp(ibv_get_device_name(*dev), c->name) == 0)
			nic_open(be, *dev, c->port, rail, asked);
}

/*
 * What the user named, all of it. Else those that were chosen for memory where this rank runs, which shares the host's
 * ports with other ranks; without any, the best of the others.
 */
static uint32_t nics_chosen(struct mc_be *be, struct ibv_device **dev, const struct mc_be_cfg *cfg)
{
	uint32_t seen = 0;

	for (uint32_t use = 2; use-- > 0 && be->nic_n == 0;)
		for (uint32_t i = 0; i < cfg->nic_n && be->nic_n < (use ? VB_NIC_MAX : 1); i++) {
			const struct mc_be_nic *c = &cfg->nic[i];
			if (c->port == 0 || (!cfg->nic_named && c->use != (use > 0)))
				continue;
			seen++;
			nic_open_named(be, dev, c, cfg->nic_named);
		}
	return seen;
}

static bool is_open(const struct mc_be *be, const struct mc_be_nic *c)
{
	char name[VB_NAME_MAX + 16];

	snprintf(name, sizeof(name), "%.30s:%u", c->name, c->port);
	for (uint32_t i = 0; i < be->nic_n; i++)
		if (strcmp(be->nic[i].port.name, name) == 0)
			return true;
	return false;
}

/* The best of the others, to turn to when the chosen ones fail. */
static void nics_spare(struct mc_be *be, struct ibv_device **dev, const struct mc_be_cfg *cfg)
{
	uint32_t chosen = be->nic_n, most = chosen + cfg->config->verbs_spares;

	for (uint32_t i = 0; i < cfg->nic_n && chosen > 0 && be->nic_n < VB_NIC_MAX && be->nic_n < most; i++)
		if (cfg->nic[i].port != 0 && !is_open(be, &cfg->nic[i]))
			nic_open_named(be, dev, &cfg->nic[i], false);
	for (uint32_t i = chosen; i < be->nic_n; i++) {
		be->nic[i].port.spare = true;
		mc_info("verbs: rank %u: %s is a spare", be->rank, be->nic[i].port.name);
	}
}

/* Is there anything in that folder whose name begins so? */
static bool any_in(const char *path, const char *prefix)
{
	DIR *d = opendir(path);
	struct dirent *e;
	bool any = false;

	while (d != NULL && (e = readdir(d)) != NULL)
		any |= e->d_name[0] != '.' && strncmp(e->d_name, prefix, strlen(prefix)) == 0;
	if (d != NULL)
		closedir(d);
	return any;
}

mc_status_t mc_vb_nics_open(struct mc_be *be, const struct mc_be_cfg *cfg, char *why, size_t why_len)
{
	const char *list = cfg->config->device != NULL ? cfg->config->device : "";
	struct ibv_device **dev;
	char first[80] = "";
	uint32_t seen;
	int n = 0;

	if (cfg->config->verbs_gid[strspn(cfg->config->verbs_gid, "0123456789")] != '\0') {
		snprintf(why, why_len, "MC_VERBS_GID: '%s' is not an index", cfg->config->verbs_gid);
		return MC_ERR_CONFIG;
	}
	if (!any_in("/sys/class/infiniband", "")) {
		snprintf(why, why_len,
			 "no RDMA device on this host: /sys/class/infiniband is empty or missing "
			 "[rdma-device, see mcinfo doctor]");
		return MC_ERR_UNSUPPORTED;
	}
	if (!cfg->nic_chosen && list[0] != '\0' && !list_names_rdma(list, first, sizeof(first))) {
		snprintf(why, why_len, "MC_DEVICE names no RDMA device (%s)", list);
		return MC_ERR_UNSUPPORTED;
	}
	dev = ibv_get_device_list(&n);
	if (dev == NULL || n == 0) {
		bool nodes = any_in("/dev/infiniband", "uverbs");
		snprintf(why, why_len, "libibverbs finds none of the devices in /sys/class/infiniband: %s",
			 nodes ? "its provider is not installed (ibverbs-providers) [verbs-provider, see mcinfo doctor]"
			       : "/dev/infiniband is not here, or empty [device-nodes, see mcinfo doctor]");
		if (dev != NULL)
			ibv_free_device_list(dev);
		return MC_ERR_UNSUPPORTED;
	}
	seen = cfg->nic_chosen ? nics_chosen(be, dev, cfg) : nics_scan(be, dev, list);
	if (cfg->nic_chosen && !cfg->nic_named)
		nics_spare(be, dev, cfg);
	ibv_free_device_list(dev);
	if (be->nic_n > 0)
		return MC_OK;
	if (seen == 0 && cfg->nic_chosen)
		snprintf(why, why_len, "no RDMA port is up%s [port-state, see mcinfo doctor]",
			 cfg->nic_named ? " among those that MC_DEVICE names" : "");
	else if (seen == 0)
		snprintf(why, why_len, "MC_DEVICE: no port '%s' among the RDMA devices", first);
	else
		snprintf(why, why_len,
			 "none of %u RDMA ports is active, or none may be opened "
			 "[port-state, device-nodes, see mcinfo doctor]",
			 seen);
	return MC_ERR_UNSUPPORTED;
}

/* ---- what every connection of a port shares ---------------------------------------------------------------------- */

/* The caller of open() tells of it, as it knows what comes instead; it cuts long texts, so the id comes early. */
static mc_status_t object_failed(const struct vb_nic *nic, const char *what, int err)
{
	struct mc_be *be = nic->be;
	const char *id = err == EAGAIN   ? ": raise rdma.max [rdma-cgroup, see mcinfo doctor]"
			 : err == ENOMEM ? ": raise the limit of locked memory (ulimit -l) [memlock, see mcinfo doctor]"
					 : "";
	char where[512] = "";

	if (err == EAGAIN)
		mc_vb_objects_left(ibv_get_device_name(nic->ctx->device), where, sizeof(where));
	snprintf(be->why, sizeof(be->why), "%s: no %s: %s%s%s%.300s", nic->port.name, what, strerror(err), id,
		 where[0] != '\0' ? "; " : "", where);
	mc_info("verbs: rank %u: %s; %s", be->rank, be->why, mc_vb_remedy(err));
	return MC_ERR_NOMEM;
}

static void fd_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0)
		(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

mc_status_t mc_vb_nic_objects(struct vb_nic *nic)
{
	struct mc_be *be = nic->be;
	unsigned int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ;
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = be->buffers, .max_sge = 1}};
	struct ibv_device_attr a;

	if (ibv_query_device(nic->ctx, &a) != 0)
		return object_failed(nic, "attributes", errno);
	nic->sge_max = a.max_sge < VB_SGE_MAX ? (uint32_t)a.max_sge : VB_SGE_MAX;
	nic->read_sge_max = nic->port.layer == VB_IWARP || a.max_sge_rd < 1 ? 1
			    : (uint32_t)a.max_sge_rd < nic->sge_max         ? (uint32_t)a.max_sge_rd
									    : nic->sge_max;
	nic->rd_atom = (uint8_t)(a.max_qp_rd_atom < 16 ? a.max_qp_rd_atom : 16);
	if (a.max_qp_init_rd_atom < nic->rd_atom)
		nic->rd_atom = (uint8_t)a.max_qp_init_rd_atom;
	nic->cqe = be->plan.cqe < (uint32_t)a.max_cqe ? be->plan.cqe : (uint32_t)a.max_cqe;
	nic->pd = ibv_alloc_pd(nic->ctx);
	if (nic->pd == NULL)
		return object_failed(nic, "protection domain", errno);
	nic->chan = ibv_create_comp_channel(nic->ctx);
	if (nic->chan == NULL)
		return object_failed(nic, "completion channel", errno);
	nic->cq = ibv_create_cq(nic->ctx, (int)nic->cqe, nic, nic->chan, 0);
	if (nic->cq == NULL)
		return object_failed(nic, "completion queue", errno);
	nic->cq_room = nic->cqe - be->buffers;
	nic->srq = ibv_create_srq(nic->pd, &srq);
	if (nic->srq == NULL)
		return object_failed(nic, "shared receive queue", errno);
	/* On iWARP what is read here is written by the far side. */
	access |= nic->port.layer == VB_IWARP ? IBV_ACCESS_REMOTE_WRITE : 0;
	nic->mr = ibv_reg_mr(nic->pd, be->area, be->area_len, access);
	if (nic->mr == NULL)
		return object_failed(nic, "registration of the buffers", errno);
	fd_nonblock(nic->chan->fd);
	fd_nonblock(nic->ctx->async_fd);
	nic->cq_fd.fd = nic->chan->fd;
	nic->async_fd.fd = nic->ctx->async_fd;
	if (!mc_vb_fd_add(be, &nic->cq_fd, EPOLLIN) || !mc_vb_fd_add(be, &nic->async_fd, EPOLLIN))
		return MC_ERR_NOMEM;
	return mc_vb_srq_fill(nic);
}

void mc_vb_nics_close(struct mc_be *be)
{
	for (uint32_t i = 0; i < be->nic_n; i++) {
		struct vb_nic *nic = &be->nic[i];
		int bad = 0;
		if (nic->mr != NULL)
			bad |= ibv_dereg_mr(nic->mr);
		if (nic->srq != NULL)
			bad |= ibv_destroy_srq(nic->srq);
		if (nic->cq != NULL && nic->unacked > 0)
			ibv_ack_cq_events(nic->cq, nic->unacked);
		if (nic->cq != NULL)
			bad |= ibv_destroy_cq(nic->cq);
		if (nic->chan != NULL)
			bad |= ibv_destroy_comp_channel(nic->chan);
		if (nic->pd != NULL)
			bad |= ibv_dealloc_pd(nic->pd);
		bad |= nic_close(nic);
		free(nic->buf);
		if (bad != 0)
			mc_warn("verbs: rank %u: %s was not closed cleanly: %s", be->rank, nic->port.name,
				strerror(bad > 0 ? bad : errno));
	}
	be->nic_n = 0;
}

/* ---- events of the device ---------------------------------------------------------------------------------------- */

static struct vb_qp *qp_of_event(struct vb_nic *nic, const struct ibv_async_event *e)
{
	return mc_vb_qp_by_num(nic, e->element.qp->qp_num);
}

static void port_changed(struct vb_nic *nic, const char *what)
{
	bool was = nic->up;

	if (!mc_vb_nic_refresh(nic))
		return;
	if (was != nic->up)
		mc_warn("verbs: rank %u: port %s is %s (%s)", nic->be->rank, nic->port.name, nic->up ? "up" : "down",
			what);
	/* Up to up with another GID: what stands on the old one ends, too. */
	if (was)
		mc_vb_rails_of_nic(nic, false);
	if (nic->up)
		mc_vb_rails_of_nic(nic, true);
}

static void on_async(struct vb_nic *nic, const struct ibv_async_event *e)
{
	const char *text = ibv_event_type_str(e->event_type);
	struct vb_qp *q;

	switch (e->event_type) {
	case IBV_EVENT_QP_LAST_WQE_REACHED:
		q = qp_of_event(nic, e);
		if (q != NULL)
			q->last_wqe = true;
		break;
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_PATH_MIG_ERR:
		q = qp_of_event(nic, e);
		if (q != NULL)
			mc_vb_rail_fail(q->rail, e->event_type == IBV_EVENT_QP_ACCESS_ERR, "%s", text);
		break;
	case IBV_EVENT_PORT_ERR:
	case IBV_EVENT_PORT_ACTIVE:
	case IBV_EVENT_GID_CHANGE:
	case IBV_EVENT_LID_CHANGE:
	case IBV_EVENT_PKEY_CHANGE:
		port_changed(nic, text);
		break;
	case IBV_EVENT_DEVICE_FATAL:
	case IBV_EVENT_CQ_ERR:
	case IBV_EVENT_SRQ_ERR:
		mc_error("verbs: rank %u: device of port %s is lost: %s; its traffic goes over the other ports",
			 nic->be->rank, nic->port.name, text);
		nic->fatal = true;
		nic->up = false;
		mc_vb_rails_of_nic(nic, false);
		break;
	default:
		mc_debug("verbs: rank %u: %s: %s", nic->be->rank, nic->port.name, text);
	}
}

void mc_vb_nic_async(struct vb_nic *nic)
{
	struct ibv_async_event e;

	while (ibv_get_async_event(nic->ctx, &e) == 0) {
		on_async(nic, &e);
		ibv_ack_async_event(&e);
	}
}

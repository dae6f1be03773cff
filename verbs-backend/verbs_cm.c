/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_cm.c - iWARP, where queue pairs can only be connected through rdma_cm: a listener per port, named in the answer
 * to an offer; the leader calls it once per queue pair and says for which link, rail and generation.
 */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "verbs.h"
#include "wire.h"

enum { BACKLOG = 1024, RESOLVE_MS = 1000, CALL_LEN = 8 + 4 + 1 + 1, CALL_ROOM = 64 };

static void to_sockaddr(const uint8_t raw[16], uint16_t port, struct sockaddr_storage *sa)
{
	memset(sa, 0, sizeof(*sa));
	if (mc_vb_gid_is_ipv4(raw)) {
		struct sockaddr_in *in = (struct sockaddr_in *)(void *)sa;
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, raw + 12, 4);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)sa;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, raw, 16);
	}
}

/* ---- ports ------------------------------------------------------------------------------------------------------- */

/* The first address of the interface that carries the port; false: none. */
bool mc_vb_cm_address(const char *dev, uint32_t port, uint8_t raw[16], uint8_t *prefix)
{
	char path[200], ifname[32] = "";
	struct ifaddrs *all = NULL;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/%u/gid_attrs/ndevs/0", dev, port);
	f = fopen(path, "re");
	if (f == NULL || fscanf(f, "%31s", ifname) != 1)
		ifname[0] = '\0';
	if (f != NULL)
		fclose(f);
	if (ifname[0] == '\0' || getifaddrs(&all) != 0)
		return false;
	for (struct ifaddrs *i = all; i != NULL && !found; i = i->ifa_next) {
		const struct sockaddr_in *in, *mask;
		if (i->ifa_addr == NULL || i->ifa_netmask == NULL || i->ifa_addr->sa_family != AF_INET ||
		    strcmp(i->ifa_name, ifname) != 0)
			continue;
		in = (const struct sockaddr_in *)(const void *)i->ifa_addr;
		mask = (const struct sockaddr_in *)(const void *)i->ifa_netmask;
		memset(raw, 0, 16);
		raw[10] = raw[11] = 0xff;
		memcpy(raw + 12, &in->sin_addr, 4);
		*prefix = (uint8_t)(96 + __builtin_popcount(mask->sin_addr.s_addr));
		found = true;
	}
	freeifaddrs(all);
	return found;
}

static int channel_open(struct mc_be *be)
{
	int flags;

	if (be->cm != NULL)
		return 0;
	be->cm = rdma_create_event_channel();
	if (be->cm == NULL)
		return errno;
	flags = fcntl(be->cm->fd, F_GETFL);
	(void)fcntl(be->cm->fd, F_SETFL, flags | O_NONBLOCK);
	(void)fcntl(be->cm->fd, F_SETFD, FD_CLOEXEC);
	be->cm_fd = (struct vb_fd){.kind = VB_FD_CM, .fd = be->cm->fd};
	return 0;
}

/* The device as rdma_cm has opened it: its queue pairs can be made in no other context. 0 or an errno. */
int mc_vb_cm_nic_open(struct vb_nic *nic, const char *dev)
{
	struct sockaddr_storage sa;
	int err = channel_open(nic->be);

	if (err != 0)
		return err;
	if (!mc_vb_cm_address(dev, nic->port_num, nic->port.gid, &nic->port.prefix))
		return EADDRNOTAVAIL;
	if (rdma_create_id(nic->be->cm, &nic->cm, NULL, RDMA_PS_TCP) != 0)
		return errno;
	to_sockaddr(nic->port.gid, 0, &sa);
	if (rdma_bind_addr(nic->cm, (struct sockaddr *)&sa) != 0 || rdma_listen(nic->cm, BACKLOG) != 0)
		err = errno;
	else if (nic->cm->verbs == NULL || strcmp(ibv_get_device_name(nic->cm->verbs->device), dev) != 0)
		err = EADDRINUSE; /* another device of the same interface answers for the address */
	if (err != 0) {
		rdma_destroy_id(nic->cm);
		nic->cm = NULL;
		return err;
	}
	nic->ctx = nic->cm->verbs;
	return 0;
}

void mc_vb_cm_nic_close(struct vb_nic *nic)
{
	rdma_destroy_id(nic->cm);
	nic->cm = NULL;
	nic->ctx = NULL;
}

bool mc_vb_cm_watch(struct mc_be *be)
{
	return be->cm == NULL || mc_vb_fd_add(be, &be->cm_fd, EPOLLIN);
}

void mc_vb_cm_close(struct mc_be *be)
{
	if (be->cm != NULL)
		rdma_destroy_event_channel(be->cm);
	be->cm = NULL;
}

uint16_t mc_vb_cm_port(const struct vb_nic *nic)
{
	return nic->cm != NULL ? ntohs(rdma_get_src_port(nic->cm)) : 0;
}

/* ---- queue pairs ------------------------------------------------------------------------------------------------- */

/* On the call that came in (q->cm), or for one that is going to be made. 0 or an errno; q->cm stays for another try. */
int mc_vb_cm_qp_create(struct vb_qp *q, struct ibv_qp_init_attr *a)
{
	struct sockaddr_storage sa;
	int err;

	if (q->cm == NULL) {
		if (rdma_create_id(q->nic->be->cm, &q->cm, NULL, RDMA_PS_TCP) != 0)
			return errno;
		to_sockaddr(q->nic->port.gid, 0, &sa);
		if (rdma_bind_addr(q->cm, (struct sockaddr *)&sa) != 0) {
			err = errno;
			rdma_destroy_id(q->cm);
			q->cm = NULL;
			return err;
		}
	}
	if (rdma_create_qp(q->cm, q->nic->pd, a) != 0)
		return errno;
	q->cm->context = q;
	q->qp = q->cm->qp;
	return 0;
}

void mc_vb_cm_qp_destroy(struct vb_qp *q)
{
	if (q->job != NULL) {
		mc_vb_job_hang_up(q);
		return;
	}
	if (q->qp != NULL)
		rdma_destroy_qp(q->cm);
	rdma_destroy_id(q->cm);
	q->cm = NULL;
	q->qp = NULL;
}

static void conn_param(const struct vb_qp *q, struct rdma_conn_param *p, uint8_t call[CALL_LEN])
{
	struct mc_wr w;

	mc_wr_init(&w, call, CALL_LEN);
	mc_wr_u64(&w, q->nic->be->instance);
	mc_wr_u32(&w, q->rail->gen);
	mc_wr_u8(&w, q->rail->index);
	mc_wr_u8(&w, q->lane);
	*p = (struct rdma_conn_param){.private_data = call,
				      .private_data_len = CALL_LEN,
				      .responder_resources = q->nic->rd_atom,
				      .initiator_depth = q->nic->rd_atom,
				      .rnr_retry_count = 7};
}

/* The leader calls. 0 cannot be; errno: failed; -1: mc_vb_rail_connected() will be called. */
int mc_vb_cm_connect(struct vb_rail *rail, const struct vb_ctl_msg *m)
{
	struct sockaddr_storage sa;

	to_sockaddr(m->gid, m->port, &sa);
	for (uint32_t i = 0; i < rail->qp_n; i++) {
		rail->qp[i]->lane = (uint8_t)i;
		if (rdma_resolve_addr(rail->qp[i]->cm, NULL, (struct sockaddr *)&sa, RESOLVE_MS) != 0)
			return errno;
	}
	mc_vb_rail_watch(rail);
	return rail->qp_n > 0 ? -1 : EINVAL;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static void all_connected(struct vb_rail *rail)
{
	for (uint32_t i = 0; i < rail->qp_n; i++)
		if (rail->qp[i] == NULL || !rail->qp[i]->cm_up)
			return;
	if (rail->state == RAIL_CONNECTING)
		mc_vb_rail_connected(rail, 0);
}

static struct vb_rail *rail_of_call(struct mc_be *be, const uint8_t *data, uint32_t len, uint8_t *lane)
{
	struct vb_link *link;
	struct vb_rail *rail;
	uint64_t instance;
	uint32_t gen;
	uint8_t index;
	struct mc_rd r;

	mc_rd_init(&r, data, len < CALL_LEN ? len : CALL_LEN);
	instance = mc_rd_u64(&r);
	gen = mc_rd_u32(&r);
	index = mc_rd_u8(&r);
	*lane = mc_rd_u8(&r);
	link = mc_rd_end(&r) ? mc_vb_link_find(be, instance) : NULL;
	if (link == NULL || index >= link->rail_n)
		return NULL;
	rail = &link->rail[index];
	return rail->state == RAIL_CONNECTING && !link->leader && rail->gen == gen && *lane < rail->qp_n &&
			       rail->qp[*lane] == NULL
		       ? rail
		       : NULL;
}

static void on_request(struct mc_be *be, struct rdma_cm_id *id, const uint8_t *data, uint32_t len)
{
	struct rdma_conn_param p;
	uint8_t lane, call[CALL_LEN];
	struct vb_rail *rail = rail_of_call(be, data, len, &lane);
	struct vb_qp *q;
	int err;

	if (rail == NULL || id->verbs != be->nic[rail->nic].ctx) {
		(void)rdma_reject(id, NULL, 0);
		rdma_destroy_id(id);
		return;
	}
	if (mc_vb_qp_new(rail, id, &q, &err) != MC_OK) {
		mc_vb_rail_fail(rail, false, "no queue pair: %s", strerror(err)); /* id went with the attempt */
		return;
	}
	q->lane = lane;
	rail->qp[lane] = q;
	conn_param(q, &p, call);
	p.private_data_len = 0;
	if (rdma_accept(id, &p) != 0)
		mc_vb_rail_fail(rail, false, "the call cannot be accepted: %s", strerror(errno));
}

static void on_step(struct vb_qp *q, enum rdma_cm_event_type type, int status)
{
	struct rdma_conn_param p;
	uint8_t call[CALL_LEN];
	int err = 0;

	switch (type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		err = rdma_resolve_route(q->cm, RESOLVE_MS) != 0 ? errno : 0;
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		conn_param(q, &p, call);
		mc_vb_job_call(q, &p);
		return;
	case RDMA_CM_EVENT_ESTABLISHED:
		q->cm_up = true;
		all_connected(q->rail);
		return;
	case RDMA_CM_EVENT_ADDR_ERROR:
	case RDMA_CM_EVENT_ROUTE_ERROR:
	case RDMA_CM_EVENT_CONNECT_ERROR:
	case RDMA_CM_EVENT_UNREACHABLE:
	case RDMA_CM_EVENT_REJECTED:
		err = status != 0 ? (status < 0 ? -status : status) : ECONNREFUSED;
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		mc_vb_rail_fail(q->rail, false, "the connection has ended");
		return;
	default:
		return;
	}
	if (err != 0)
		mc_vb_rail_fail(q->rail, false, "cannot be connected: %s (%s)", strerror(err), rdma_event_str(type));
}

void mc_vb_cm_run(struct mc_be *be)
{
	struct rdma_cm_event *e;

	while (be->cm != NULL && rdma_get_cm_event(be->cm, &e) == 0) {
		enum rdma_cm_event_type type = e->event;
		struct rdma_cm_id *id = e->id;
		uint32_t len = e->param.conn.private_data_len;
		uint8_t data[CALL_ROOM] = {0};
		int status = e->status;

		if (type == RDMA_CM_EVENT_CONNECT_REQUEST && e->param.conn.private_data != NULL)
			memcpy(data, e->param.conn.private_data, len < sizeof(data) ? len : sizeof(data));
		/* An id cannot be destroyed before its events are acknowledged. */
		(void)rdma_ack_cm_event(e);
		if (type == RDMA_CM_EVENT_CONNECT_REQUEST)
			on_request(be, id, data, len);
		else if (id->context != NULL)
			on_step(id->context, type, status);
	}
}

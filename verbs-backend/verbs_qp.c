/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_qp.c - queue pairs: made, connected, destroyed; found by their numbers. */
#include <errno.h>
#include <rdma/rdma_cma.h>
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

/* A place in the table that completions name. */
static bool table_add(struct mc_be *be, struct vb_qp *q)
{
	uint32_t i = 0, room = be->qp_room == 0 ? 64 : be->qp_room * 2;
	struct vb_qp **t;
	uint32_t *g;

	while (i < be->qp_room && be->qp[i] != NULL)
		i++;
	if (i == be->qp_room) {
		if (room > VB_QP_TABLE)
			return false;
		t = realloc(be->qp, room * sizeof(struct vb_qp *));
		if (t == NULL)
			return false;
		be->qp = t;
		g = realloc(be->qp_gen, room * sizeof(*g));
		if (g == NULL)
			return false;
		be->qp_gen = g;
		memset(t + be->qp_room, 0, (room - be->qp_room) * sizeof(struct vb_qp *));
		memset(g + be->qp_room, 0, (room - be->qp_room) * sizeof(*g));
		be->qp_room = room;
	}
	be->qp[i] = q;
	q->slot = i;
	q->gen = ++be->qp_gen[i] & 0x7fff;
	return true;
}

static int qp_init(struct vb_qp *q)
{
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_INIT,
		.pkey_index = (uint16_t)q->nic->be->config->verbs_pkey,
		.port_num = q->nic->port_num,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ,
	};

	return ibv_modify_qp(q->qp, &a, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

static int qp_make(struct vb_qp *q, struct ibv_qp_init_attr *a)
{
	if (q->nic->port.layer == VB_IWARP)
		return mc_vb_cm_qp_create(q, a);
	q->qp = ibv_create_qp(q->nic->pd, a);
	return q->qp != NULL ? 0 : errno;
}

static int qp_create(struct vb_qp *q)
{
	struct ibv_qp_init_attr a = {
		.send_cq = q->nic->cq,
		.recv_cq = q->nic->cq,
		.srq = q->nic->srq,
		.cap = {.max_send_wr = q->depth, .max_send_sge = q->nic->sge_max, .max_inline_data = VB_INLINE},
		.qp_type = IBV_QPT_RC,
	};
	int err = qp_make(q, &a);

	/* Some devices have less room for inline data, or none. */
	while (err == EINVAL && a.cap.max_inline_data > 0) {
		a.cap.max_inline_data = a.cap.max_inline_data > 64 ? 64 : 0;
		err = qp_make(q, &a);
	}
	if (err != 0)
		return err;
	q->inline_max = a.cap.max_inline_data;
	return 0;
}

mc_status_t mc_vb_qp_new(struct vb_rail *rail, struct rdma_cm_id *id, struct vb_qp **qp_out, int *err_out)
{
	struct mc_be *be = rail->link->be;
	struct vb_qp *q = calloc(1, sizeof(*q));

	*err_out = ENOMEM;
	if (q == NULL)
		goto undo_id;
	q->rail = rail;
	q->cm = id;
	q->nic = &be->nic[rail->nic];
	q->depth = be->plan.depth;
	q->psn = (uint32_t)mc_random_u64() & 0xffffff;
	mc_list_init(&q->hash);
	q->ring = calloc(q->depth, sizeof(*q->ring));
	if (q->ring == NULL || !table_add(be, q))
		goto undo;
	*err_out = qp_create(q);
	if (*err_out != 0)
		goto undo_table;
	*err_out = q->nic->port.layer != VB_IWARP ? qp_init(q) : 0;
	if (*err_out != 0)
		goto undo_qp;
	q->num = q->qp->qp_num;
	mc_list_add_tail(&q->nic->by_qpn[q->num % VB_QPN_HASH], &q->hash);
	q->nic->qp_n++;
	be->qps_n++;
	*qp_out = q;
	return MC_OK;
undo_qp:
	ibv_destroy_qp(q->qp);
undo_table:
	be->qp[q->slot] = NULL;
	id = q->cm;
undo:
	free(q->ring);
	free(q);
undo_id:
	if (id != NULL)
		rdma_destroy_id(id);
	return MC_ERR_DEVICE;
}

/* What was under way must have been taken over or ended before. */
void mc_vb_qp_free(struct vb_qp *q)
{
	struct mc_be *be;
	int err;

	if (q == NULL)
		return;
	be = q->nic->be;
	mc_list_del(&q->hash);
	q->nic->qp_n--;
	be->qps_n--;
	q->nic->cq_room += (uint32_t)(q->head - q->done);
	be->qp[q->slot] = NULL;
	if (q->cm != NULL)
		mc_vb_cm_qp_destroy(q);
	err = q->qp != NULL ? ibv_destroy_qp(q->qp) : 0; /* NULL: a job has it */
	if (err != 0)
		mc_warn("verbs: rank %u: a queue pair of %s cannot be destroyed: %s", be->rank, q->nic->port.name,
			strerror(err));
	free(q->ring);
	free(q);
}

struct vb_qp *mc_vb_qp_by_num(struct vb_nic *nic, uint32_t num)
{
	struct mc_list *head = &nic->by_qpn[num % VB_QPN_HASH];

	for (struct mc_list *l = head->next; l != head; l = l->next) {
		struct vb_qp *q = mc_container_of(l, struct vb_qp, hash);
		if (q->num == num)
			return q;
	}
	return NULL;
}

/*
 * m: the peer's offer or answer; i: which of its queue pairs. rnr_retry 7 is "for ever" on every device: a receiver
 * without buffers is slow, not lost. retry_cnt is never 7, which some devices take for "for ever", too.
 */
void mc_vb_qp_attrs(const struct vb_qp *q, const struct vb_ctl_msg *m, uint32_t i, struct ibv_qp_attr *rtr,
		    struct ibv_qp_attr *rts)
{
	const struct mc_config *c = q->nic->be->config;
	bool other_subnet = memcmp(m->gid, q->nic->port.gid, 8) != 0;

	*rtr = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTR,
		.path_mtu = (enum ibv_mtu)(m->mtu < q->nic->port.mtu ? m->mtu : q->nic->port.mtu),
		.dest_qp_num = m->qpn[i],
		.rq_psn = m->psn[i],
		.max_dest_rd_atomic = q->nic->rd_atom,
		.min_rnr_timer = (uint8_t)c->verbs_rnr_timer,
		.ah_attr = {.dlid = m->lid, .sl = (uint8_t)c->verbs_sl, .port_num = q->nic->port_num},
	};
	/* InfiniBand needs the global header only across subnets, RoCE always. */
	if (q->nic->port.layer == VB_ROCE || other_subnet || m->lid == 0) {
		rtr->ah_attr.is_global = 1;
		memcpy(rtr->ah_attr.grh.dgid.raw, m->gid, 16);
		rtr->ah_attr.grh.sgid_index = (uint8_t)q->nic->gid_index;
		rtr->ah_attr.grh.hop_limit = 64;
		rtr->ah_attr.grh.traffic_class = (uint8_t)c->verbs_tc;
	}
	*rts = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTS,
		.timeout = (uint8_t)c->verbs_timeout,
		.retry_cnt = (uint8_t)(c->verbs_retry < 6 ? c->verbs_retry : 6),
		.rnr_retry = 7,
		.sq_psn = q->psn,
		.max_rd_atomic = q->nic->rd_atom,
	};
}

void mc_vb_qp_error(struct vb_qp *q)
{
	struct ibv_qp_attr a = {.qp_state = IBV_QPS_ERR};

	if (q != NULL && q->qp != NULL && q->job == NULL)
		(void)ibv_modify_qp(q->qp, &a, IBV_QP_STATE);
}

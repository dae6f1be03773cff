/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_lane.c - work requests in chains: one doorbell, one completion for the last of each. */
#include <errno.h>
#include <string.h>

#include "verbs.h"

/* Work requests that may be posted now: room in the queue pair, and room for their completions, should all of them
 * fail. */
uint32_t mc_vb_room(const struct vb_qp *q)
{
	uint32_t free_n = q->depth - (uint32_t)(q->head - q->done);

	if (q->nic->cq_room < free_n)
		free_n = q->nic->cq_room;
	return q->nic->port.layer != VB_IWARP ? free_n : free_n > 0 ? free_n - 1 : 0; /* one for the fence */
}

struct vb_qp *mc_vb_lane_pick(struct vb_link *link)
{
	struct vb_qp *best = NULL;

	for (uint32_t i = 0; i < link->lane_n; i++) {
		struct vb_qp *q = link->lane[i];
		if (mc_vb_room(q) > 0 && (best == NULL || q->bytes < best->bytes))
			best = q;
	}
	return best;
}

void mc_vb_chain_start(struct vb_chain *c, struct vb_qp *q)
{
	c->q = q;
	c->n = 0;
	c->sge_n = 0;
}

static void piece_sge(const struct vb_qp *q, const struct vb_piece *p, struct ibv_sge *sge)
{
	const struct mc_be_mem *mem = p->mem;
	uint32_t nic_n = q->nic->be->nic_n;

	sge->addr = (uintptr_t)mem->addr + p->off;
	sge->length = p->len;
	sge->lkey = mem->mr[p->off / mem->piece * nic_n + q->nic->index]->lkey;
}

/* One-sided: from or to pieces here, one range there. */
static void fill_rma(const struct vb_qp *q, const struct vb_wr *wr, struct ibv_send_wr *w)
{
	const struct mc_be_rmem *r = wr->rmem;

	w->opcode = wr->kind == WR_READ ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
	w->wr.rdma.remote_addr = r->addr + wr->roff;
	w->wr.rdma.rkey = r->key[wr->roff / r->piece * r->nic_n + q->rail->rnic];
	piece_sge(q, &wr->first, &w->sg_list[0]);
	for (uint32_t i = 1; i < wr->sge_n; i++)
		piece_sge(q, &wr->more->piece[i - 1], &w->sg_list[i]);
	if (wr->kind == WR_WRITE && wr->len <= q->inline_max && wr->sge_n == 1 && wr->first.mem->host)
		w->send_flags |= IBV_SEND_INLINE;
}

static void fill_slot(struct vb_qp *q, struct vb_wr *wr, struct ibv_send_wr *w)
{
	uint8_t *slot = mc_vb_slot(q->nic->be, wr->slot);

	w->sg_list[0] = (struct ibv_sge){.addr = (uintptr_t)slot, .length = wr->len, .lkey = q->nic->mr->lkey};
	if (wr->kind == WR_FENCE)
		w->sg_list[0].addr = (uintptr_t)q->nic->be->area + 8; /* nobody looks at it */
	if (wr->kind == WR_PROBE || wr->kind == WR_FENCE) {
		w->opcode = IBV_WR_RDMA_READ;
		w->wr.rdma.remote_addr = q->rail->probe_addr;
		w->wr.rdma.rkey = q->rail->probe_key;
		return;
	}
	w->opcode = IBV_WR_SEND;
	wr->roff = ++q->sent;
	if (wr->len <= q->inline_max)
		w->send_flags |= IBV_SEND_INLINE;
}

/*
 * On iWARP a write or a send is complete when it has left. A read behind it is answered only after it was placed: each
 * chain ends with one, and what is before it counts as done with it.
 */
static bool fenced(const struct vb_qp *q)
{
	return q->nic->port.layer == VB_IWARP;
}

static void chain_put(struct vb_chain *c, const struct vb_wr *wr)
{
	struct vb_qp *q = c->q;
	struct mc_be *be = q->nic->be;
	struct ibv_send_wr *w = &be->wr[c->n];
	struct vb_wr *kept;

	kept = &q->ring[q->head & (q->depth - 1)];
	*kept = *wr;
	memset(w, 0, sizeof(*w));
	w->wr_id = (uint64_t)q->slot << 47 | (uint64_t)q->gen << 32 | (uint32_t)q->head;
	w->sg_list = &be->sge[c->sge_n];
	w->num_sge = wr->sge_n;
	if (wr->kind == WR_WRITE || wr->kind == WR_READ)
		fill_rma(q, kept, w);
	else
		fill_slot(q, kept, w);
	if (c->n > 0)
		be->wr[c->n - 1].next = w;
	c->n++;
	c->sge_n += wr->sge_n;
	q->head++;
	q->bytes += wr->len;
	q->nic->cq_room--;
}

bool mc_vb_chain_add(struct vb_chain *c, const struct vb_wr *wr)
{
	if (mc_vb_chain_full(c))
		return false;
	chain_put(c, wr);
	return true;
}

bool mc_vb_chain_full(const struct vb_chain *c)
{
	uint32_t extra = fenced(c->q) ? 1 : 0;

	return c->n + extra >= VB_CHAIN_MAX || mc_vb_room(c->q) == 0;
}

void mc_vb_chain_post(struct vb_chain *c)
{
	struct vb_qp *q = c->q;
	struct mc_be *be = q->nic->be;
	struct ibv_send_wr *bad;
	int err;

	if (c->n == 0)
		return;
	if (fenced(q)) {
		struct vb_wr fence = {.kind = WR_FENCE, .sge_n = 1, .len = 8};
		chain_put(c, &fence);
		mc_vb_rail_watch(q->rail);
	}
	be->wr[c->n - 1].send_flags |= IBV_SEND_SIGNALED;
	be->stats.doorbells++;
	be->stats.signalled++;
	be->stats.wrs += c->n;
	err = ibv_post_send(q->qp, be->wr, &bad);
	c->n = 0;
	c->sge_n = 0;
	/* Some of them may be posted: the rail is taken down, which says of each whether it arrived. */
	if (err != 0)
		mc_vb_rail_fail(q->rail, false, "work requests are refused: %s", strerror(err > 0 ? err : errno));
}

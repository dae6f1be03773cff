/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_cq.c - completions: what ended well, what failed and what that means, what arrived. */
#include <errno.h>
#include <string.h>

#include "verbs.h"

enum { BATCH = 32 };

void mc_vb_wr_end(struct mc_be *be, struct vb_wr *wr, mc_status_t s)
{
	struct vb_op *op = wr->op;

	if (wr->more != NULL)
		mc_list_add_tail(&be->free_gather, &wr->more->node);
	wr->more = NULL;
	switch ((enum vb_wr_kind)wr->kind) {
	case WR_WRITE:
	case WR_READ:
		if (s != MC_OK && op->status == MC_OK)
			op->status = s;
		op->pending--;
		mc_vb_op_check(op);
		break;
	case WR_DATA:
		mc_vb_slot_put(be, wr->slot);
		if (wr->tx != NULL)
			mc_vb_tx_frag_done(wr->tx, s);
		break;
	case WR_ACK:
	case WR_PROBE:
		mc_vb_slot_put(be, wr->slot);
		break;
	case WR_FENCE:
		break;
	}
}

/* Everything before that position has ended well. */
static void lane_advance(struct vb_qp *q, uint64_t pos)
{
	struct mc_be *be = q->nic->be;

	while (q->done < pos) {
		struct vb_wr *wr = &q->ring[q->done & (q->depth - 1)];
		q->bytes -= wr->len;
		q->nic->cq_room++;
		q->done++;
		be->stats.bytes += wr->len;
		if (wr->kind == WR_PROBE) {
			uint64_t word;
			memcpy(&word, mc_vb_slot(be, wr->slot), sizeof(word));
			mc_vb_slot_put(be, wr->slot);
			if (word == mc_vb_probe_word(q->rail->link->peer))
				mc_vb_rail_proved(q);
			else
				mc_vb_rail_fail(q->rail, false, "the memory behind it is not the peer's");
			continue;
		}
		mc_vb_wr_end(be, wr, MC_OK);
	}
	if (!mc_list_empty(&q->rail->link->txq) || !mc_list_empty(&q->rail->link->again) ||
	    q->rail->link->state == LINK_LEAVING)
		mc_vb_work(q->rail->link);
}

/* Is it the request that is wrong, and not the way? Then its post ends with this. */
static mc_status_t blame(enum ibv_wc_status st)
{
	switch (st) {
	case IBV_WC_REM_ACCESS_ERR:
		return MC_ERR_STALE;
	case IBV_WC_LOC_LEN_ERR:
	case IBV_WC_LOC_QP_OP_ERR:
	case IBV_WC_LOC_PROT_ERR:
	case IBV_WC_LOC_ACCESS_ERR:
	case IBV_WC_REM_INV_REQ_ERR:
	case IBV_WC_BAD_RESP_ERR:
		return MC_ERR_DEVICE;
	default:
		return MC_OK;
	}
}

static void on_send_error(struct vb_qp *q, uint64_t pos, const struct ibv_wc *wc)
{
	struct vb_wr *wr = &q->ring[pos & (q->depth - 1)];
	mc_status_t s = blame(wc->status);
	const char *text = ibv_wc_status_str(wc->status);

	/* Before it all went well; on iWARP only a fence says so. */
	if (q->nic->port.layer != VB_IWARP)
		lane_advance(q, pos);
	q->broken = true;
	if (wc->status == IBV_WC_WR_FLUSH_ERR && q->rail->state == RAIL_FAILING)
		return;
	if (s != MC_OK && wr->op != NULL && (wr->kind == WR_WRITE || wr->kind == WR_READ) && wr->op->status == MC_OK) {
		wr->op->status = s;
		wr->op->native = (int32_t)wc->status;
		wr->op->why = text;
		mc_debug("verbs: rank %u: a transfer of %u bytes is refused: %s", q->nic->be->rank, wr->len, text);
	}
	mc_vb_rail_fail(q->rail, s == MC_ERR_STALE && wr->op != NULL, "%s (status %d, vendor %u)", text,
			(int)wc->status, wc->vendor_err);
}

static void on_send(struct vb_nic *nic, const struct ibv_wc *wc)
{
	struct mc_be *be = nic->be;
	uint32_t slot = (uint32_t)(wc->wr_id >> 47) & 0xffff, gen = (uint32_t)(wc->wr_id >> 32) & 0x7fff;
	struct vb_qp *q = slot < be->qp_room ? be->qp[slot] : NULL;
	uint64_t pos;

	if (q == NULL || q->gen != gen || q->broken)
		return; /* of a queue pair that is gone, or flushed */
	pos = q->done + (uint32_t)((uint32_t)wc->wr_id - (uint32_t)q->done);
	if (pos >= q->head)
		return; /* taken over already */
	if (wc->status == IBV_WC_SUCCESS)
		lane_advance(q, pos + 1);
	else
		on_send_error(q, pos, wc);
}

static void on_recv(struct vb_nic *nic, const struct ibv_wc *wc)
{
	struct mc_be *be = nic->be;
	uint64_t i = wc->wr_id & ~(UINT64_C(1) << 63);
	struct vb_buf *buf = i < be->buffers ? &nic->buf[i] : NULL;
	struct vb_qp *q;

	if (buf == NULL)
		return;
	q = wc->status == IBV_WC_SUCCESS ? mc_vb_qp_by_num(nic, wc->qp_num) : NULL;
	if (q == NULL) {
		mc_vb_buf_put(be, buf);
		return;
	}
	buf->len = wc->byte_len;
	q->got++;
	mc_vb_rx(q, buf);
}

uint32_t mc_vb_cq_run(struct vb_nic *nic, uint32_t max)
{
	struct ibv_wc wc[BATCH];
	uint32_t total = 0;
	int n;

	do {
		n = ibv_poll_cq(nic->cq, BATCH, wc);
		for (int i = 0; i < n; i++) {
			if (wc[i].wr_id >> 63)
				on_recv(nic, &wc[i]);
			else
				on_send(nic, &wc[i]);
		}
		total += n > 0 ? (uint32_t)n : 0;
	} while (n == BATCH && total < max);
	if (n < 0 && !nic->fatal) {
		mc_error("verbs: rank %u: the completion queue of %s is lost (errno %d)", nic->be->rank, nic->port.name,
			 errno);
		nic->fatal = true;
		nic->up = false;
		mc_vb_rails_of_nic(nic, false);
	}
	return total;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_again.c - what a failed lane had under way goes over another one, in its order. What the peer says to have
 * received through the dead lane, and so all before it, is not sent a second time: the peer may have used the bytes and
 * reused their place since. The rest it cannot have been told of.
 */
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

enum { TRIES = 32, TRIES_IWARP = 3 };

/* Lists that were going over this lane: their rest stands behind what it has of them. */
static uint32_t bound_n(const struct vb_link *link, const struct vb_qp *q)
{
	uint32_t n = 0;

	for (const struct mc_list *l = link->again.next; l != &link->again; l = l->next) {
		const struct vb_again *a = mc_container_of(l, struct vb_again, node);
		n += a->to == q ? a->n - a->at : 0;
	}
	return n;
}

static void bound_append(struct vb_link *link, const struct vb_qp *q, struct vb_again *to)
{
	for (struct mc_list *l = link->again.next; l != &link->again;) {
		struct vb_again *a = mc_container_of(l, struct vb_again, node);
		l = l->next;
		if (a->to != q)
			continue;
		memcpy(&to->wr[to->n], &a->wr[a->at], (a->n - a->at) * sizeof(a->wr[0]));
		to->n += a->n - a->at;
		/* Not posted there: no number of that lane. */
		for (uint32_t i = to->n - (a->n - a->at); i < to->n; i++)
			if (to->wr[i].kind == WR_DATA)
				to->wr[i].roff = UINT64_MAX;
		mc_list_del(&a->node);
		free(a);
	}
}

/*
 * The first of what is left may be what broke the lane; iWARP does not tell. When that has happened to one request
 * again and again, on lanes that were proved to work, the request is at fault: its region is gone.
 */
static void blame(const struct vb_qp *q, struct vb_wr *wr)
{
	uint8_t most = q->nic->port.layer == VB_IWARP ? TRIES_IWARP : TRIES;

	if (++wr->tries < most || wr->op == NULL || (wr->kind != WR_WRITE && wr->kind != WR_READ) ||
	    wr->op->status != MC_OK)
		return;
	wr->op->status = MC_ERR_STALE;
	wr->op->why = "every rail fails over it";
}

bool mc_vb_again_take(struct vb_qp *q, struct vb_again **out)
{
	struct vb_link *link = q->rail->link;
	uint32_t n = (uint32_t)(q->head - q->done), all = n + bound_n(link, q);
	struct vb_again *a = all > 0 ? malloc(sizeof(*a) + all * sizeof(a->wr[0])) : NULL;

	*out = NULL;
	if (all == 0)
		return true;
	if (a == NULL)
		return false;
	mc_list_init(&a->node);
	a->to = NULL;
	a->at = 0;
	a->n = n;
	for (uint32_t i = 0; i < n; i++)
		a->wr[i] = q->ring[(q->done + i) & (q->depth - 1)];
	bound_append(link, q, a);
	blame(q, &a->wr[0]);
	q->nic->cq_room += n;
	q->done = q->head;
	q->bytes = 0;
	*out = a;
	return true;
}

/* got: so many packets of that lane the peer has. */
void mc_vb_again_add(struct vb_link *link, struct vb_again *a, uint64_t got)
{
	uint32_t through = 0;

	for (uint32_t i = 0; i < a->n; i++)
		if ((a->wr[i].kind == WR_DATA || a->wr[i].kind == WR_ACK) && a->wr[i].roff <= got)
			through = i + 1;
	for (a->at = 0; a->at < through; a->at++)
		mc_vb_wr_end(link->be, &a->wr[a->at], MC_OK);
	mc_list_add_tail(&link->again, &a->node);
	mc_vb_work(link);
}

/* ---- canceled posts ---------------------------------------------------------------------------------------------- */

static bool canceled(const struct vb_wr *wr)
{
	return wr->op != NULL && wr->op->canceled;
}

static void op_canceled(struct vb_op *op)
{
	if (op->status == MC_OK)
		op->status = MC_ERR_CANCELED;
}

/*
 * It did not arrive and was not sent again: it never will be. The number of a message's packet still has to go, or the
 * peer would wait for it; it goes empty, and nobody waits for that.
 */
static bool drop(struct mc_be *be, struct vb_wr *wr)
{
	struct vb_tx *tx = wr->tx;

	op_canceled(wr->op);
	if (wr->kind != WR_DATA) {
		mc_vb_wr_end(be, wr, MC_ERR_CANCELED);
		return true;
	}
	mc_vb_slot(be, wr->slot)[0] = VB_PKT_NOP;
	wr->len = VB_HDR_LEN;
	wr->op = NULL;
	wr->tx = NULL;
	if (tx != NULL)
		mc_vb_tx_frag_done(tx, MC_ERR_CANCELED);
	return false;
}

/* reads: those only, as nothing of the others is known yet. */
static void list_prune(struct mc_be *be, struct vb_again *a, bool reads)
{
	uint32_t kept = a->at;

	for (uint32_t i = a->at; i < a->n; i++) {
		struct vb_wr *wr = &a->wr[i];
		if (canceled(wr) && (!reads || wr->kind == WR_READ) && drop(be, wr))
			continue;
		a->wr[kept++] = *wr;
	}
	a->n = kept;
}

/*
 * What waits to be sent again is known not to have arrived, as the peer has said so. Of a lane that is destroyed only
 * here the answers to reads cannot land any more; of writes the peer has the say.
 */
void mc_vb_again_prune(struct vb_link *link)
{
	struct mc_list *l, *next;

	if (!link->canceling || link->state == LINK_DEAD)
		return;
	for (l = link->again.next; l != &link->again; l = next) {
		struct vb_again *a = mc_container_of(l, struct vb_again, node);
		next = l->next;
		list_prune(link->be, a, false);
		if (a->at == a->n) {
			mc_list_del(&a->node);
			free(a);
		}
	}
	for (uint32_t i = 0; i < link->rail_n; i++)
		for (uint32_t k = 0; k < VB_QPS_MAX && link->rail[i].state == RAIL_CLOSED; k++)
			if (link->rail[i].left[k] != NULL)
				list_prune(link->be, link->rail[i].left[k], true);
	link->canceling = false;
	for (l = link->ops.next; l != &link->ops && !link->canceling; l = l->next)
		link->canceling = mc_container_of(l, struct vb_op, node)->canceled;
	mc_vb_work(link); /* others may go now */
}

void mc_vb_again_free(struct mc_be *be, struct vb_again *a, mc_status_t s)
{
	if (a == NULL)
		return;
	mc_list_del(&a->node);
	for (; a->at < a->n; a->at++)
		mc_vb_wr_end(be, &a->wr[a->at], s);
	free(a);
}

/* Is there anything to send for this one at all? Otherwise it has ended here. */
static bool still_wanted(struct vb_link *link, struct vb_wr *wr)
{
	struct mc_be *be = link->be;
	bool failed = wr->op != NULL && wr->op->status != MC_OK;

	if (wr->kind == WR_PROBE || wr->kind == WR_ACK || wr->kind == WR_FENCE) {
		link->told_lost |= wr->kind == WR_ACK; /* a newer one goes instead */
		mc_vb_wr_end(be, wr, MC_OK);
		return false;
	}
	if (!failed)
		return true;
	if (wr->kind != WR_DATA) {
		mc_vb_wr_end(be, wr, wr->op->status);
		return false;
	}
	/* The message of a post that failed: its number goes, its content does not. */
	mc_vb_slot(be, wr->slot)[0] = VB_PKT_NOP;
	wr->len = VB_HDR_LEN;
	return true;
}

static bool list_run(struct vb_link *link, struct vb_again *a)
{
	struct mc_be *be = link->be;
	struct vb_chain c;

	if (a->to == NULL)
		a->to = mc_vb_lane_pick(link);
	if (a->to == NULL)
		return false;
	mc_vb_chain_start(&c, a->to);
	while (a->at < a->n) {
		if (!still_wanted(link, &a->wr[a->at])) {
			a->at++;
			continue;
		}
		if (!mc_vb_chain_add(&c, &a->wr[a->at]))
			break;
		be->stats.again++;
		a->at++;
	}
	mc_vb_chain_post(&c);
	if (a->at < a->n)
		return a->to != NULL && mc_vb_room(a->to) > 0;
	mc_list_del(&a->node);
	free(a);
	return true;
}

void mc_vb_again_run(struct vb_link *link)
{
	for (struct mc_list *l = link->again.next; l != &link->again && link->lane_n > 0;) {
		struct vb_again *a = mc_container_of(l, struct vb_again, node);
		if (!list_run(link, a))
			l = l->next;
		else
			l = link->again.next;
	}
}

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

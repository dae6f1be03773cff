/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ucx_meet.c - how the two ends of a link meet.
 *
 * Over TCP they do so calmly. UCX has a handshake of its own (request, reply), begun by the first message that does not
 * leave at once; and UCX before 1.14 ends the process with an assertion when the peer dies while that reply still waits
 * for its connection, which it does for a whole round trip (ucp_request.c, ucp_request_send_state_ff; openucx pull
 * request 8175). So that the reply never waits:
 *
 *   1. each end makes its UCX endpoint and flushes it, which is over when the connection stands; then it gives it
 *      HELLO, which leaves at once, without UCX's handshake. Who gets a HELLO and has no link yet makes one.
 *   2. the end with the smaller epoch, its HELLO gone and the other's come, sends OPEN, which does make UCX shake
 *      hands: the other's connection stands and carries nothing, so the reply goes out at once.
 *   3. with OPEN sent, or come, the link is up. Before that nothing else is given to it.
 *
 * Whether a HELLO may leave at once is UCX's to say, and it may never be so: GPU memory in the process or thresholds
 * that the user sets turn its short messages off. Such a HELLO takes the ordinary way, behind UCX's handshake.
 */
#include "ucx.h"
#include "wire.h"

void mc_ucx_meet_up(struct ucx_link *link)
{
	if (link->state != LINK_CONNECTING)
		return;
	link->state = LINK_UP;
	link->be->kick = true;
	for (struct mc_list *l = link->eps.next; l != &link->eps; l = l->next)
		mc_ucx_ep_up(mc_container_of(l, struct mc_be_ep, node));
}

void mc_ucx_meet_on(struct ucx_link *link)
{
	if (link->state != LINK_CONNECTING || link->unsaid || link->peer_id == 0)
		return;
	if (link->calm && link->be->epoch > link->epoch)
		return;
	if (link->calm)
		mc_ucx_control(link, UCX_OPEN, link->id, NULL, 0);
	mc_ucx_meet_up(link);
}

/* The connection stands. */
static void say_hello(struct ucx_link *link)
{
	struct mc_be *be = link->be;
	uint8_t hdr[UCX_HDR_LEN];
	ucp_request_param_t prm = {.op_attr_mask = UCP_OP_ATTR_FLAG_FORCE_IMM_CMPL};
	ucs_status_ptr_t p;

	mc_ucx_meet_drop(link);
	mc_ucx_header(hdr, UCX_HELLO, link->id, 0);
	p = ucp_am_send_nbx(link->ucp, UCX_AM_ID, hdr, sizeof(hdr), be->addr, be->addr_len, &prm);
	if (UCS_PTR_STATUS(p) == UCS_ERR_NO_RESOURCE) {
		mc_ucx_control(link, UCX_HELLO, link->id, be->addr, be->addr_len);
	} else if (UCS_PTR_STATUS(p) != UCS_OK) {
		link->err = UCS_PTR_STATUS(p);
		be->has_err = true;
		return;
	} else {
		link->tx_seq = 1;
	}
	mc_ucx_meet_on(link);
}

void mc_ucx_meet_begin(struct ucx_link *link)
{
	ucp_request_param_t prm;
	struct ucx_op *op;

	if (!link->calm) {
		mc_ucx_control(link, UCX_HELLO, link->id, link->be->addr, link->be->addr_len);
		return;
	}
	op = mc_ucx_op_get(link->be, 0);
	if (op == NULL) {
		mc_error("ucx: rank %u: no memory to connect to rank %u", link->be->rank, link->rank);
		link->err = UCS_ERR_NO_MEMORY;
		link->be->has_err = true;
		return;
	}
	link->unsaid = true;
	link->be->unsaid_n++;
	op->kind = OP_MEET;
	mc_ucx_op_begin(op, link, NULL);
	mc_ucx_request_param(op, &prm);
	op->busy = true;
	mc_ucx_op_request(op, ucp_ep_flush_nbx(link->ucp, &prm));
	op->busy = false;
	mc_ucx_op_check(op);
}

void mc_ucx_meet_stands(struct ucx_link *link, ucs_status_t st)
{
	link->stands = st == UCS_OK;
	if (st == UCS_OK || link->state == LINK_DEAD) {
		link->be->kick = true;
		return;
	}
	if (link->err == UCS_OK)
		link->err = st;
	link->be->has_err = true;
}

void mc_ucx_meet_drop(struct ucx_link *link)
{
	if (link->unsaid)
		link->be->unsaid_n--;
	link->unsaid = false;
}

void mc_ucx_meet_run(struct mc_be *be)
{
	for (struct mc_list *l = be->links.next; l != &be->links && be->unsaid_n > 0; l = l->next) {
		struct ucx_link *link = mc_container_of(l, struct ucx_link, node);
		if (link->unsaid && link->stands && link->ucp != NULL && link->err == UCS_OK)
			say_hello(link);
	}
}

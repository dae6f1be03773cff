/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ucx_meet.c - how the two ends of a link meet.
 *
 * Over TCP they do so calmly. UCX has a handshake of its own (request, reply), begun by the first message that does not
 * leave at once; and UCX before 1.14 ends the process with an assertion when the peer dies while that reply still waits
 * for its connection, which it does for a whole round trip (ucp_request.c, ucp_request_send_state_ff; openucx pull
 * request 8175). So that the reply never waits:
 *
 *   1. each end makes its UCX endpoint and gives it HELLO until it leaves at once, without UCX's handshake: then its
 *      connection stands. Who gets a HELLO and has no link yet makes one.
 *   2. the end with the smaller epoch, its HELLO gone and the other's come, sends OPEN, which does make UCX shake
 *      hands: the other's connection stands and carries nothing, so the reply goes out at once.
 *   3. with OPEN sent, or come, the link is up. Before that nothing else is given to it.
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

static void say_hello(struct ucx_link *link)
{
	struct mc_be *be = link->be;
	uint8_t hdr[UCX_HDR_LEN];
	ucp_request_param_t prm = {.op_attr_mask = UCP_OP_ATTR_FLAG_FORCE_IMM_CMPL};
	ucs_status_ptr_t p;

	mc_ucx_header(hdr, UCX_HELLO, link->id, 0);
	p = ucp_am_send_nbx(link->ucp, UCX_AM_ID, hdr, sizeof(hdr), be->addr, be->addr_len, &prm);
	if (UCS_PTR_STATUS(p) == UCS_ERR_NO_RESOURCE)
		return; /* not connected yet: UCX's descriptor becomes readable when it is */
	mc_ucx_meet_drop(link);
	if (UCS_PTR_STATUS(p) != UCS_OK) {
		link->err = UCS_PTR_STATUS(p);
		be->has_err = true;
		return;
	}
	link->tx_seq = 1;
	mc_ucx_meet_on(link);
}

void mc_ucx_meet_begin(struct ucx_link *link)
{
	if (!link->calm) {
		mc_ucx_control(link, UCX_HELLO, link->id, link->be->addr, link->be->addr_len);
		return;
	}
	link->unsaid = true;
	link->be->unsaid_n++;
	say_hello(link);
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
		if (link->unsaid && link->ucp != NULL && link->err == UCS_OK)
			say_hello(link);
	}
}

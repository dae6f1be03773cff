/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ucx_link.c - links: made by either side, ended by a goodbye, an error, or the peer's death; and the eps that stand on
 * them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ucx.h"

static void on_error(void *arg, ucp_ep_h ucp, ucs_status_t st)
{
	struct ucx_link *link = arg;

	(void)ucp;
	if (link->err == UCS_OK)
		link->err = st;
	link->be->has_err = true;
}

static struct ucx_link *link_alloc(struct mc_be *be)
{
	struct ucx_link *link = be->links_n < UCX_LINKS_MAX ? calloc(1, sizeof(*link)) : NULL;

	if (link == NULL)
		return NULL;
	link->be = be;
	link->id = mc_random_u64();
	link->pidfd = -1;
	link->pipe = -1;
	mc_list_init(&link->hash);
	mc_list_init(&link->eps);
	mc_list_init(&link->rmems);
	mc_list_init(&link->posts);
	mc_list_init(&link->held);
	mc_list_add_tail(&be->links, &link->node);
	be->links_n++;
	return link;
}

static void link_free(struct ucx_link *link)
{
	mc_ucx_watch_drop(link);
	if (link->dying)
		link->be->dying_n--;
	mc_ucx_rx_free(link->be, &link->held);
	mc_list_del(&link->hash);
	mc_list_del(&link->node);
	link->be->links_n--;
	free(link->worker_addr);
	free(link);
}

static mc_status_t link_open_ucp(struct ucx_link *link)
{
	ucp_ep_params_t params = {
		.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
			      UCP_EP_PARAM_FIELD_ERR_HANDLER,
		.address = link->worker_addr,
		.err_mode = UCP_ERR_HANDLING_MODE_PEER,
		.err_handler = {.cb = on_error, .arg = link},
	};
	ucs_status_t st = ucp_ep_create(link->be->worker, &params, &link->ucp);

	if (st == UCS_OK)
		return MC_OK;
	link->ucp = NULL;
	mc_debug("ucx: rank %u: no way to rank %u: %s", link->be->rank, link->rank, ucs_status_string(st));
	/* Over TCP a connection that is refused at once reads like one for which there is no transport. */
	if (st == UCS_ERR_UNREACHABLE && link->calm)
		return MC_ERR_PEER_DOWN;
	return st == UCS_ERR_UNREACHABLE || st == UCS_ERR_UNSUPPORTED ? MC_ERR_UNSUPPORTED : mc_ucx_status(st);
}

static mc_status_t link_create(struct mc_be *be, const struct ucx_addr *a, struct ucx_link **link_out)
{
	struct ucx_link *link = link_alloc(be);
	mc_status_t s = MC_ERR_NOMEM;

	if (link == NULL)
		return s;
	link->rank = a->rank;
	link->epoch = a->epoch;
	link->calm = (be->addr_flags & a->flags & UCX_ADDR_CALM) != 0 && a->epoch != be->epoch;
	link->worker_addr = malloc(a->worker_len);
	if (link->worker_addr == NULL)
		goto undo_link;
	memcpy(link->worker_addr, a->worker, a->worker_len);
	s = MC_ERR_PEER_DOWN;
	if (!mc_ucx_watch_add(link, a))
		goto undo_link;
	s = link_open_ucp(link);
	if (s != MC_OK)
		goto undo_link;
	link->direct = be->shm ? mc_ucx_cma_works(be, a) : (be->addr_flags & a->flags & UCX_ADDR_RDMA) != 0;
	mc_ucx_meet_begin(link);
	*link_out = link;
	return MC_OK;
undo_link:
	link_free(link);
	return s;
}

/* The link to that incarnation that still lives; NULL: none. */
static struct ucx_link *link_by_epoch(struct mc_be *be, uint64_t epoch, bool unheard)
{
	for (struct mc_list *l = be->links.next; l != &be->links; l = l->next) {
		struct ucx_link *link = mc_container_of(l, struct ucx_link, node);
		if (link->epoch != epoch || link->state == LINK_DEAD || link->farewell || link->err != UCS_OK)
			continue;
		if (unheard ? link->peer_id == 0 : link->state != LINK_LEAVING && !link->peer_left)
			return link;
	}
	return NULL;
}

struct ucx_link *mc_ucx_link_find(struct mc_be *be, uint64_t peer_id)
{
	struct mc_list *head = &be->by_id[peer_id % UCX_HASH];

	for (struct mc_list *l = head->next; l != head; l = l->next) {
		struct ucx_link *link = mc_container_of(l, struct ucx_link, hash);
		if (link->peer_id == peer_id)
			return link;
	}
	return NULL;
}

void mc_ucx_ep_up(struct mc_be_ep *ep)
{
	if (ep->up)
		return;
	ep->up = true;
	mc_ucx_event(ep->be, MC_EV_EP_UP, MC_OK, UCS_OK, ep->cookie, ep, NULL);
}

/* A peer introduces itself on a link of its own making or in answer to ours. */
void mc_ucx_hello(struct mc_be *be, const struct ucx_rx *rx)
{
	struct ucx_link *link;
	struct ucx_addr a;
	mc_status_t s = mc_ucx_addr_parse(rx->data, rx->len, &a);

	if (s == MC_OK && mc_ucx_link_find(be, rx->id) == NULL) {
		link = link_by_epoch(be, a.epoch, true);
		if (link == NULL)
			s = link_create(be, &a, &link);
		if (s == MC_OK) {
			link->peer_id = rx->id;
			mc_list_add_tail(&be->by_id[rx->id % UCX_HASH], &link->hash);
			mc_ucx_meet_on(link);
		}
	}
	if (s != MC_OK && mc_ratelimit_ok(&be->limit, 5))
		mc_warn("ucx: rank %u: a peer that introduced itself with %u bytes cannot be answered: %s", be->rank,
			rx->len, mc_status_text(s));
}

/* ---- the end of a link ------------------------------------------------------------------------------------------- */

static void on_closed(void *request, ucs_status_t st, void *arg)
{
	struct mc_be *be = arg;

	(void)st;
	ucp_request_free(request);
	be->closing_n--;
}

/* Everything that UCX has of this ep comes back, canceled where it had not left. */
static void ucp_close(struct ucx_link *link)
{
	ucp_request_param_t prm = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
		.flags = UCP_EP_CLOSE_FLAG_FORCE,
		.cb.send = on_closed,
		.user_data = link->be,
	};
	ucp_ep_h ucp = link->ucp;
	ucs_status_ptr_t p;

	link->ucp = NULL;
	if (ucp == NULL)
		return;
	p = ucp_ep_close_nbx(ucp, &prm);
	if (UCS_PTR_IS_PTR(p))
		link->be->closing_n++;
}

void mc_ucx_link_fail(struct ucx_link *link, mc_status_t s, ucs_status_t native)
{
	struct mc_be *be = link->be;

	if (link->state == LINK_DEAD)
		return;
	if (link->state != LINK_LEAVING && !link->peer_left)
		mc_warn("ucx: rank %u: link to rank %u lost: %s (%s)", be->rank, link->rank, mc_status_text(s),
			native != UCS_OK ? ucs_status_string(native) : "its process has ended");
	link->state = LINK_DEAD;
	be->has_err = true;
	mc_list_del(&link->hash);
	mc_ucx_meet_drop(link);
	mc_ucx_rx_free(be, &link->held);
	mc_ucx_watch_drop(link);
	ucp_close(link);
	mc_ucx_posts_fail(link, s);
	for (struct mc_list *l = link->eps.next; l != &link->eps;) {
		struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, node);
		l = l->next;
		ep->why = s;
		ep->native = native;
		mc_ucx_ep_settle(ep);
	}
}

/* Tell a peer on a fresh connection that its link was cut: over shared memory nothing else would. */
static void link_farewell(const struct ucx_link *old)
{
	struct ucx_link *link = link_alloc(old->be);

	if (link == NULL)
		return;
	link->farewell = true;
	link->state = LINK_LEAVING;
	link->rank = old->rank;
	link->worker_addr = old->worker_addr;
	if (link_open_ucp(link) == MC_OK)
		mc_ucx_control(link, UCX_BYE_NOW, old->id, NULL, 0);
	else
		link->state = LINK_DEAD;
	link->worker_addr = NULL;
}

/* No ep stands on it any more. With calls under way it is cut, so that they end now; so is one that nobody knows of. */
static void link_leave(struct ucx_link *link)
{
	bool cut = link->ops_n > 0 || link->unsaid;

	if (link->state != LINK_CONNECTING && link->state != LINK_UP)
		return;
	link->state = LINK_LEAVING;
	if (!cut) {
		mc_ucx_control(link, UCX_BYE, link->id, NULL, 0);
		return;
	}
	mc_ucx_link_fail(link, MC_ERR_CANCELED, UCS_ERR_CANCELED);
	if (link->be->watch >= 0)
		link_farewell(link);
}

/*
 * The peer has said goodbye. It waits for an answer, ours or the closing of its connection: if it went without, all
 * that we may just be sending would meet a closed socket, and UCX would then forget what we have not read yet.
 */
static void link_answer(struct ucx_link *link)
{
	if (link->state != LINK_LEAVING)
		mc_ucx_control(link, UCX_BYE, link->id, NULL, 0);
	mc_ucx_link_fail(link, MC_ERR_PEER_DOWN, UCS_OK);
}

static void link_run(struct ucx_link *link)
{
	struct mc_be *be = link->be;

	if (link->state != LINK_DEAD && link->err != UCS_OK)
		mc_ucx_link_fail(link, mc_ucx_status(link->err), link->err);
	else if (link->state != LINK_DEAD && link->peer_left)
		link_answer(link);
	else if (link->farewell && link->sent_bye)
		mc_ucx_link_fail(link, MC_ERR_CANCELED, UCS_OK);
	if (link->state == LINK_DEAD && link->ops_n == 0 && mc_list_empty(&link->eps) && mc_list_empty(&link->rmems))
		link_free(link);
	else if (link->state == LINK_DEAD && link->dying) {
		link->dying = false;
		be->dying_n--;
	}
}

void mc_ucx_links_run(struct mc_be *be)
{
	be->has_err = false;
	be->kick = false;
	for (struct mc_list *l = be->links.next; l != &be->links;) {
		struct ucx_link *link = mc_container_of(l, struct ucx_link, node);
		l = l->next;
		link_run(link);
	}
}

void mc_ucx_dying_run(struct mc_be *be)
{
	for (struct mc_list *l = be->links.next; l != &be->links; l = l->next) {
		struct ucx_link *link = mc_container_of(l, struct ucx_link, node);
		if (link->dying)
			mc_ucx_link_fail(link, MC_ERR_PEER_DOWN, UCS_OK);
	}
	be->has_err = true;
}

/* Progress until done says so, or the time is up. */
static void progress_until(struct mc_be *be, bool (*done)(const struct mc_be *be), int64_t limit_ms)
{
	int64_t end = mc_now_ns() + limit_ms * 1000000;

	while (!done(be) && mc_now_ns() < end) {
		ucp_worker_progress(be->worker);
		mc_ucx_inbox_run(be);
		mc_ucx_links_run(be);
	}
}

static bool none_leaving(const struct mc_be *be)
{
	for (struct mc_list *l = be->links.next; l != &be->links; l = l->next)
		if (mc_container_of(l, struct ucx_link, node)->state == LINK_LEAVING)
			return false;
	return true;
}

static bool none_closing(const struct mc_be *be)
{
	return be->closing_n == 0;
}

void mc_ucx_links_close(struct mc_be *be)
{
	struct mc_list *l;

	for (l = be->links.next; l != &be->links; l = l->next) {
		struct ucx_link *link = mc_container_of(l, struct ucx_link, node);
		if ((link->state != LINK_CONNECTING && link->state != LINK_UP) || link->unsaid)
			continue;
		link->state = LINK_LEAVING;
		mc_ucx_control(link, UCX_BYE, link->id, NULL, 0);
	}
	progress_until(be, none_leaving, UCX_CLOSE_FLUSH_MS);
	for (l = be->links.next; l != &be->links; l = l->next)
		mc_ucx_link_fail(mc_container_of(l, struct ucx_link, node), MC_ERR_CANCELED, UCS_OK);
	progress_until(be, none_closing, UCX_CLOSE_FORCE_MS);
	for (l = be->links.next; l != &be->links; l = l->next) {
		struct ucx_link *link = mc_container_of(l, struct ucx_link, node);
		struct mc_list *r;
		while ((r = mc_list_pop(&link->rmems)) != NULL) {
			struct mc_be_rmem *rmem = mc_container_of(r, struct mc_be_rmem, node);
			if (rmem->rkey != NULL)
				ucp_rkey_destroy(rmem->rkey);
			free(rmem);
		}
	}
}

/* Requests that UCX gives back as late as with its worker still know their link. */
void mc_ucx_links_free(struct mc_be *be)
{
	while (!mc_list_empty(&be->links)) {
		struct ucx_link *link = mc_container_of(be->links.next, struct ucx_link, node);
		struct mc_list *l;
		while ((l = mc_list_pop(&link->eps)) != NULL)
			mc_list_add_tail(&be->loose, l);
		link_free(link);
	}
}

/* ---- eps --------------------------------------------------------------------------------------------------------- */

mc_status_t mc_ucx_ep_create(struct mc_be *be, uint64_t cookie, void *blob, uint32_t *len, struct mc_be_ep **ep_out)
{
	struct mc_be_ep *ep = calloc(1, sizeof(*ep));

	(void)blob;
	if (ep == NULL)
		return MC_ERR_NOMEM;
	ep->be = be;
	ep->cookie = cookie;
	mc_list_init(&ep->ops);
	mc_list_add_tail(&be->loose, &ep->node);
	if (len != NULL)
		*len = 0;
	*ep_out = ep;
	return MC_OK;
}

mc_status_t mc_ucx_ep_connect(struct mc_be *be, struct mc_be_ep *ep, const void *peer, uint32_t len, char *text,
			      size_t text_len)
{
	struct ucx_link *link;
	struct ucx_addr a;
	mc_status_t s = mc_ucx_addr_parse(peer, len, &a);
	char none[1];

	if (text == NULL) {
		text = none;
		text_len = sizeof(none);
	}
	snprintf(text, text_len, "ucx %s", be->text);
	if (ep->link != NULL)
		return MC_ERR_INVAL;
	if (s != MC_OK) {
		if (mc_ratelimit_ok(&be->limit, 5))
			mc_error("ucx: rank %u: address of %u bytes is damaged or of another version", be->rank, len);
		snprintf(text, text_len, "malformed address");
		return s;
	}
	link = link_by_epoch(be, a.epoch, false);
	if (link == NULL)
		s = link_create(be, &a, &link);
	if (s != MC_OK) {
		snprintf(text, text_len,
			 s == MC_ERR_UNSUPPORTED          ? "no common transport"
			 : be->addr_flags & UCX_ADDR_CALM ? "no connection: it has ended, or no NIC here reaches it"
							  : "peer has ended");
		return s;
	}
	ep->link = link;
	mc_list_del(&ep->node);
	mc_list_add_tail(&link->eps, &ep->node);
	if (link->state == LINK_UP)
		mc_ucx_ep_up(ep);
	return MC_OK;
}

/* Its last op has ended: now EP_DOWN may come, or a closed ep may go. */
void mc_ucx_ep_settle(struct mc_be_ep *ep)
{
	if (!mc_list_empty(&ep->ops) || ep->closing)
		return;
	if (ep->closed) {
		mc_list_del(&ep->node);
		free(ep);
	} else if (ep->why != MC_OK && !ep->down) {
		ep->down = true;
		mc_ucx_event(ep->be, MC_EV_EP_DOWN, ep->why, (ucs_status_t)ep->native, ep->cookie, ep, NULL);
	}
}

void mc_ucx_ep_close(struct mc_be *be, struct mc_be_ep *ep)
{
	struct ucx_link *link = ep->link;

	mc_ucx_events_forget(be, ep);
	ep->closed = true;
	ep->closing = true;
	mc_list_del(&ep->node);
	mc_list_add_tail(&be->loose, &ep->node);
	if (link != NULL && mc_list_empty(&link->eps))
		link_leave(link);
	be->has_err = true;
	ep->closing = false;
	mc_ucx_ep_settle(ep);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_link.c - links between two instances, made by either side; the eps that stand on them; and how both end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

#define STARVED_NS INT64_C(30000000000)
#define LEAVE_NS   INT64_C(2000000000)
#define ORPHAN_NS  INT64_C(30000000000)
enum { CLOSE_MS = 500, PATIENCE = 6 }; /* PATIENCE: times MC_VERBS_CONNECT_TIMEOUT for a peer that is busy */

/* ---- links ------------------------------------------------------------------------------------------------------- */

struct vb_link *mc_vb_link_find(struct mc_be *be, uint64_t instance)
{
	for (struct mc_list *l = be->links.next; l != &be->links; l = l->next) {
		struct vb_link *link = mc_container_of(l, struct vb_link, node);
		if (link->peer == instance && link->state != LINK_DEAD && link->state != LINK_LEAVING)
			return link;
	}
	return NULL;
}

struct vb_link *mc_vb_link_new(struct mc_be *be, const struct vb_addr *a)
{
	struct vb_link *link = be->links_n < VB_LINKS_MAX ? calloc(1, sizeof(*link)) : NULL;
	struct mc_list *lists[] = {&link->work, &link->idle, &link->eps,  &link->rmems,
				   &link->ops,  &link->txq,  &link->again};

	if (link == NULL)
		return NULL;
	for (size_t i = 0; i < MC_ARRAY_LEN(lists); i++)
		mc_list_init(lists[i]);
	link->be = be;
	link->peer = a->instance;
	link->addr = *a;
	link->self = a->instance == be->instance;
	link->leader = be->instance <= a->instance;
	link->tx_window = be->plan.window;
	link->dial_ns = INT64_MAX;
	link->bye_ns = INT64_MAX;
	link->born_ns = mc_now_ns();
	link->deadline_ns = link->born_ns + ORPHAN_NS;
	mc_vb_timer_want(be, link->deadline_ns);
	mc_list_add_tail(&be->links, &link->node);
	be->links_n++;
	return link;
}

static void link_free(struct vb_link *link)
{
	mc_vb_rx_free(link);
	mc_list_del(&link->work);
	mc_list_del(&link->idle);
	mc_list_del(&link->node);
	link->be->links_n--;
	free(link);
}

static void ep_up(struct mc_be_ep *ep)
{
	if (ep->up || ep->down)
		return;
	ep->up = true;
	mc_vb_event(ep->be, MC_EV_EP_UP, MC_OK, 0, NULL, ep->cookie, ep);
}

void mc_vb_link_up(struct vb_link *link)
{
	link->state = LINK_UP;
	mc_vb_idle_join(link);
	for (struct mc_list *l = link->eps.next; l != &link->eps; l = l->next)
		ep_up(mc_container_of(l, struct mc_be_ep, node));
}

void mc_vb_link_session(struct vb_link *link, bool resumed)
{
	if (resumed) {
		mc_vb_rails_resync(link);
		mc_vb_link_trouble(link);
		return;
	}
	link->state = LINK_PROVING;
	link->deadline_ns = mc_now_ns() + link->be->config->verbs_connect_timeout;
	mc_vb_timer_want(link->be, link->deadline_ns);
	if (link->leader)
		mc_vb_rails_start(link);
}

void mc_vb_link_trouble(struct vb_link *link)
{
	bool fine = link->up_n > 0 && (link->self || (link->ctl != NULL && link->ctl->state == CTL_OPEN));

	if (link->state != LINK_UP)
		return;
	if (fine || (link->asleep && link->ctl != NULL && link->ctl->state == CTL_OPEN)) {
		link->deadline_ns = INT64_MAX;
	} else if (link->deadline_ns == INT64_MAX) {
		link->deadline_ns = mc_now_ns() + link->be->config->verbs_failover_timeout;
		mc_vb_timer_want(link->be, link->deadline_ns);
	}
}

/* ---- the end of a link ------------------------------------------------------------------------------------------- */

static void say_bye(struct vb_link *link)
{
	struct vb_ctl_msg m = {.kind = VB_BYE};

	mc_vb_ctl_send(link, &m);
	mc_vb_ctl_drop(link->ctl);
	mc_vb_ctl_drop(link->dial);
}

static void fail_log(const struct vb_link *link, mc_status_t s, const char *text)
{
	if (text == NULL || link->state == LINK_LEAVING || s == MC_ERR_CANCELED)
		mc_debug("verbs: rank %u: link to rank %u ends: %s", link->be->rank, link->addr.rank,
			 text != NULL ? text : "the peer leaves");
	else
		mc_warn("verbs: rank %u: link to rank %u %s: %s", link->be->rank, link->addr.rank,
			link->state == LINK_UP ? "is lost" : "cannot be made", text);
}

/* What a peer had sent before its end has arrived here before the news of its end: it is read first. */
static void read_rest(struct mc_be *be)
{
	if (be->in_cq)
		return;
	for (uint32_t i = 0; i < be->nic_n; i++)
		mc_vb_cq_run(&be->nic[i], UINT32_MAX);
}

void mc_vb_link_fail(struct vb_link *link, mc_status_t s, int32_t native, const char *text)
{
	struct mc_be *be = link->be;
	struct mc_list *l;

	if (link->state == LINK_DEAD)
		return;
	fail_log(link, s, text);
	read_rest(be);
	if (link->state == LINK_DEAD)
		return;
	link->state = LINK_DEAD;
	link->why = s;
	link->deadline_ns = link->dial_ns = link->bye_ns = INT64_MAX;
	say_bye(link);
	mc_vb_rails_kill(link);
	while ((l = mc_list_pop(&link->again)) != NULL)
		mc_vb_again_free(be, mc_container_of(l, struct vb_again, node), s);
	mc_vb_txs_fail(link, s);
	mc_vb_ops_fail(link, s);
	mc_vb_rx_free(link);
	for (l = link->eps.next; l != &link->eps; l = l->next) {
		struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, node);
		ep->down = true;
		mc_vb_event(be, MC_EV_EP_DOWN, s, native, text, ep->cookie, ep);
	}
	be->links_due = true;
}

/* All that was to be sent has been sent. */
bool mc_vb_link_quiet(const struct vb_link *link)
{
	if (!mc_list_empty(&link->txq) || !mc_list_empty(&link->again))
		return false;
	for (uint32_t i = 0; i < link->rail_n; i++) {
		const struct vb_rail *r = &link->rail[i];
		for (uint32_t k = 0; k < VB_QPS_MAX; k++)
			if (r->left[k] != NULL || (r->qp[k] != NULL && r->qp[k]->done != r->qp[k]->head))
				return false;
	}
	return true;
}

void mc_vb_link_settle(struct vb_link *link)
{
	if (link->state == LINK_LEAVING && mc_vb_link_quiet(link))
		mc_vb_link_fail(link, MC_ERR_CANCELED, 0, NULL);
}

/* No ep stands on it any more. With transfers under way it is cut, so that they end now. */
static void link_leave(struct vb_link *link, bool cut)
{
	if (link->state == LINK_DEAD)
		return;
	if (link->state != LINK_UP || cut) {
		mc_vb_link_fail(link, MC_ERR_CANCELED, 0, NULL);
		return;
	}
	link->state = LINK_LEAVING;
	link->bye_ns = mc_now_ns() + LEAVE_NS;
	mc_vb_timer_want(link->be, link->bye_ns);
	mc_vb_link_settle(link);
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

static void deadline(struct vb_link *link)
{
	char text[160] = "", name[100];

	for (uint32_t i = 0; i < link->rail_n; i++)
		mc_debug("verbs: rank %u: rail %u of %u to rank %u: state %d, generation %u, %s, %s%s%s%s, next try in "
			 "%lld ms",
			 link->be->rank, i, link->rail_n, link->addr.rank, (int)link->rail[i].state, link->rail[i].gen,
			 link->rail[i].why, link->leader ? "leader" : "follower", link->asleep ? ", asleep" : "",
			 link->starved ? ", starved" : "", link->rail[i].peer_down ? ", peer down" : "",
			 (long long)((link->rail[i].retry_ns - mc_now_ns()) / 1000000));
	if (link->starved) {
		mc_vb_link_fail(link, link->state == LINK_UP ? MC_ERR_PEER_DOWN : MC_ERR_UNSUPPORTED, 0,
				"no queue pair is to be had: rdma.max is too small for this many ranks and regions "
				"[rdma-cgroup, see mcinfo doctor]");
		return;
	}
	if (link->state == LINK_UP) {
		bool rails = link->up_n == 0;
		mc_vb_link_fail(link, MC_ERR_PEER_DOWN, 0,
				rails ? "no rail has worked for MC_VERBS_FAILOVER_TIMEOUT"
				      : "the control channel could not be renewed within MC_VERBS_FAILOVER_TIMEOUT");
		return;
	}
	if (link->state == LINK_CONNECTING) {
		mc_vb_link_fail(link, MC_ERR_UNSUPPORTED, 0, "its control port does not answer");
		return;
	}
	for (uint32_t i = 0; i < link->rail_n; i++) {
		size_t used = strlen(text);
		if (link->rail[i].why[0] != '\0')
			snprintf(text + used, sizeof(text) - used, "%s%s: %s", used > 0 ? "; " : "",
				 mc_vb_rail_name(&link->rail[i], name, sizeof(name)), link->rail[i].why);
	}
	mc_warn("verbs: rank %u: no rail to rank %u was proved (%s)", link->be->rank, link->addr.rank,
		text[0] != '\0'     ? text
		: link->rail_n == 0 ? "no pair of ports fits"
				    : "no answer");
	mc_vb_link_fail(link, MC_ERR_UNSUPPORTED, 0, "no rail was proved within MC_VERBS_CONNECT_TIMEOUT");
}

static void link_timers(struct vb_link *link, int64_t now)
{
	bool waits = link->state == LINK_CONNECTING && link->dial != NULL && link->dial->state == CTL_GREETED &&
		     now - link->born_ns < PATIENCE * link->be->config->verbs_connect_timeout;

	if (link->state == LINK_DEAD)
		return;
	if (link->bye_ns <= now) {
		mc_vb_link_fail(link, MC_ERR_CANCELED, 0, "it does not take what was sent");
		return;
	}
	/* Others have the queue pairs for the time being. */
	waits |= link->starved && now - link->starved_ns < STARVED_NS;
	if (link->deadline_ns <= now && waits) { /* it has connected and may be busy */
		link->deadline_ns = now + link->be->config->verbs_connect_timeout;
	} else if (link->deadline_ns <= now) {
		deadline(link);
		return;
	}
	if (link->bye_ns != INT64_MAX)
		mc_vb_timer_want(link->be, link->bye_ns);
	if (link->deadline_ns != INT64_MAX)
		mc_vb_timer_want(link->be, link->deadline_ns);
	mc_vb_dial_timers(link, now);
	if (link->state != LINK_DEAD)
		mc_vb_rail_timers(link, now);
}

void mc_vb_links_timers(struct mc_be *be, int64_t now)
{
	for (struct mc_list *l = be->links.next; l != &be->links; l = l->next)
		link_timers(mc_container_of(l, struct vb_link, node), now);
	for (struct mc_list *l = be->ctls.next; l != &be->ctls;) {
		struct vb_ctl *ctl = mc_container_of(l, struct vb_ctl, node);
		l = l->next;
		if (ctl->state != CTL_ACCEPTED && ctl->state != CTL_WELCOMED)
			continue;
		if (ctl->deadline_ns <= now)
			mc_vb_ctl_drop(ctl);
		else
			mc_vb_timer_want(be, ctl->deadline_ns);
	}
}

void mc_vb_links_sweep(struct mc_be *be)
{
	be->links_due = false;
	for (struct mc_list *l = be->links.next; l != &be->links;) {
		struct vb_link *link = mc_container_of(l, struct vb_link, node);
		l = l->next;
		if (link->state == LINK_DEAD && mc_list_empty(&link->eps) && mc_list_empty(&link->rmems))
			link_free(link);
	}
}

static bool any_alive(const struct mc_be *be)
{
	for (const struct mc_list *l = be->links.next; l != &be->links; l = l->next)
		if (mc_container_of(l, struct vb_link, node)->state != LINK_DEAD)
			return true;
	return false;
}

void mc_vb_links_close(struct mc_be *be)
{
	int64_t end = mc_now_ns() + (int64_t)CLOSE_MS * 1000000;
	struct mc_list *l;

	for (l = be->links.next; l != &be->links; l = l->next) {
		struct vb_link *link = mc_container_of(l, struct vb_link, node);
		link_leave(link, !mc_list_empty(&link->ops));
	}
	while (any_alive(be) && mc_now_ns() < end)
		mc_vb_progress(be);
	for (l = be->links.next; l != &be->links; l = l->next)
		mc_vb_link_fail(mc_container_of(l, struct vb_link, node), MC_ERR_CANCELED, 0, NULL);
	while (!mc_list_empty(&be->links)) {
		struct vb_link *link = mc_container_of(be->links.next, struct vb_link, node);
		while ((l = mc_list_pop(&link->eps)) != NULL)
			mc_list_add_tail(&be->loose, l);
		while ((l = mc_list_pop(&link->rmems)) != NULL)
			free(mc_container_of(l, struct mc_be_rmem, node));
		link_free(link);
	}
	while ((l = mc_list_pop(&be->loose)) != NULL)
		free(mc_container_of(l, struct mc_be_ep, node));
}

/* ---- eps --------------------------------------------------------------------------------------------------------- */

mc_status_t mc_vb_ep_create(struct mc_be *be, uint64_t cookie, void *blob, uint32_t *len, struct mc_be_ep **ep_out)
{
	struct mc_be_ep *ep = calloc(1, sizeof(*ep));

	(void)blob;
	if (ep == NULL)
		return MC_ERR_NOMEM;
	ep->be = be;
	ep->cookie = cookie;
	mc_list_init(&ep->ops);
	mc_list_init(&ep->sends);
	mc_list_add_tail(&be->loose, &ep->node);
	if (len != NULL)
		*len = 0;
	*ep_out = ep;
	return MC_OK;
}

/* How bytes will travel, as far as that is known before the rails are proved. */
static uint32_t rails_text(const struct mc_be *be, const struct vb_addr *a, char *text, size_t len)
{
	struct vb_port own[VB_NIC_MAX];
	struct vb_pair pair[VB_RAIL_MAX];
	uint32_t n;

	for (uint32_t i = 0; i < be->nic_n; i++)
		own[i] = be->nic[i].port;
	n = mc_vb_pairs(own, be->nic_n, a->nic, a->nic_n, pair);
	snprintf(text, len, "verbs ");
	for (uint32_t i = 0, told = 0; i < n; i++) {
		size_t used = strlen(text);
		bool spare = own[pair[i].here].spare || a->nic[pair[i].there].spare;
		if (!spare)
			snprintf(text + used, len - used, "%s%s", told++ > 0 ? "+" : "", own[pair[i].here].name);
	}
	return n;
}

static mc_status_t refuse(char *text, size_t len, mc_status_t s, const char *why)
{
	snprintf(text, len, "%s", why);
	return s;
}

mc_status_t mc_vb_ep_connect(struct mc_be *be, struct mc_be_ep *ep, const void *peer, uint32_t len, char *text,
			     size_t text_len)
{
	struct vb_link *link;
	struct vb_addr a;
	mc_status_t s = mc_vb_addr_parse(peer, len, &a);
	char none[1];

	if (text == NULL) {
		text = none;
		text_len = sizeof(none);
	}
	if (ep->link != NULL)
		return MC_ERR_INVAL;
	if (s != MC_OK)
		return refuse(text, text_len, s, "malformed address");
	if (a.instance == be->instance && be->nic[0].port.layer == VB_IWARP)
		return refuse(text, text_len, MC_ERR_UNSUPPORTED, "iWARP has no way to its own process");
	if (rails_text(be, &a, text, text_len) == 0)
		return refuse(text, text_len, MC_ERR_UNSUPPORTED, "no port of the same kind on both sides");
	link = mc_vb_link_find(be, a.instance);
	if (link == NULL) {
		link = mc_vb_link_new(be, &a);
		if (link == NULL)
			return MC_ERR_NOMEM;
	}
	ep->link = link;
	mc_list_del(&ep->node);
	mc_list_add_tail(&link->eps, &ep->node);
	if (link->state == LINK_UP) {
		ep_up(ep);
	} else if (link->self && link->state == LINK_CONNECTING) {
		mc_vb_link_session(link, false);
	} else if (link->state == LINK_CONNECTING && link->dial == NULL && link->ctl == NULL) {
		link->deadline_ns = mc_now_ns() + be->config->verbs_connect_timeout;
		mc_vb_timer_want(be, link->deadline_ns);
		mc_vb_dial(link);
	}
	return MC_OK;
}

void mc_vb_ep_close(struct mc_be *be, struct mc_be_ep *ep)
{
	struct vb_link *link = ep->link;
	bool cut = !mc_list_empty(&ep->ops);

	mc_vb_events_forget(be, ep);
	for (struct mc_list *l = ep->sends.next; l != &ep->sends; l = l->next)
		cut |= !mc_container_of(l, struct vb_tx, ep_node)->copied;
	mc_list_del(&ep->node);
	ep->down = true;
	if (link != NULL && mc_list_empty(&link->eps))
		link_leave(link, cut);
	else if (link != NULL && cut)
		mc_vb_link_fail(link, MC_ERR_CANCELED, 0, NULL);
	/* Copied messages may still be on their way; nobody waits for them. */
	while (!mc_list_empty(&ep->sends)) {
		struct vb_tx *tx = mc_container_of(ep->sends.next, struct vb_tx, ep_node);
		mc_list_del(&tx->ep_node);
		tx->ep = NULL;
	}
	be->links_due = true;
	free(ep);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link.c - how a peer is reached: the open backends are tried in order, best first, and the first that takes the peer
 * is its link. One that can only promise to try (MC_CAP_PROVE) is the link from EP_UP on: until then nothing is handed
 * to it, and if it gives up the next one gets its turn.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nic.h"

bool mc_link_ready(const struct mc_peer *p)
{
	return p->link != NULL && (p->state == MC_PEER_UP || !(p->link->caps.flags & MC_CAP_PROVE));
}

/* Why a backend is not the link, for messages to people. */
static void refused_text(struct mc_peer *p, const char *name, const char *why)
{
	size_t used = strlen(p->refused);
	snprintf(p->refused + used, sizeof(p->refused) - used, "%s%s: %s", used > 0 ? "; " : "", name, why);
}

static void refused(struct mc_peer *p, const struct mc_be_slot *slot, const char *why)
{
	refused_text(p, slot->ops->name, why);
	if (slot->caps.flags & MC_CAP_PROVE)
		p->fell_back = true;
}

/*
 * "Unreachable" says TCP of another network, and of a process of this host that has just closed its sockets: the kernel
 * refuses at once what from another host is refused later. Within a host TCP always finds a way, so there it is the
 * latter.
 */
static bool has_ended(const struct mc_peer *p, const struct mc_be_slot *slot)
{
	int t = p->ctx->cfg.transport;
	return p->host_id == p->ctx->host_id && p->addr[slot - p->ctx->be].len > 0 &&
	       (slot->ops->transports & MC_TP_TCP) && t != MC_TRANSPORT_SHM && t != MC_TRANSPORT_RDMA;
}

/* One backend: MC_OK connecting; else why not, in text. */
static mc_status_t try_link(struct mc_peer *p, struct mc_be_slot *slot, char *text, size_t text_len)
{
	uint32_t k = (uint32_t)(slot - p->ctx->be), len = 0;
	if (p->addr[k].len == 0) {
		snprintf(text, text_len, "the peer does not offer it");
		return MC_ERR_UNSUPPORTED;
	}
	if (!(slot->caps.flags & MC_CAP_SAME_ADDR)) {
		snprintf(text, text_len, "needs a channel to exchange addresses");
		return MC_ERR_UNSUPPORTED;
	}
	mc_status_t s = slot->ops->ep_create(slot->be, (uint64_t)(uintptr_t)p, NULL, &len, &p->ep);
	if (s != MC_OK)
		return s;
	s = slot->ops->ep_connect(slot->be, p->ep, p->addr[k].p, p->addr[k].len, text, text_len);
	if (s != MC_OK) {
		slot->ops->ep_close(slot->be, p->ep);
		p->ep = NULL;
	}
	return s;
}

/* The choice is made, if it holds. A worse way than the one hoped for is worth one warning, not one per peer. */
static void chosen(struct mc_peer *p, struct mc_be_slot *slot, const char *text)
{
	struct mc_ctx *ctx = p->ctx;
	/* Some backends begin with their name, some do not. */
	const char *name = slot->ops->name;
	bool named = strncmp(text, name, strlen(name)) == 0;
	p->link = slot;
	snprintf(p->link_text, sizeof(p->link_text), "%.12s%s%.48s", named ? "" : name,
		 named || text[0] == '\0' ? "" : " ", text);
	mc_debug("rank %u: peer %u (%s) by %s%s%s%s", ctx->rank, p->id, p->host, p->link_text,
		 p->refused[0] != '\0' ? " (" : "", p->refused, p->refused[0] != '\0' ? ")" : "");
	if (ctx->rdma_why[0] != '\0' && !p->fell_back && (slot->ops->transports & MC_TP_TCP)) {
		refused_text(p, "verbs", ctx->rdma_why);
		p->fell_back = true;
	}
	if (!p->fell_back)
		return;
	if (ctx->fallback_n++ == 0)
		mc_warn("rank %u: peer %u (%s, host %s) is reached by %s instead of RDMA: %s [rdma-traffic, see "
			"mcinfo doctor; MC_BACKEND=verbs makes this an error; for further peers it is only "
			"logged at info]",
			ctx->rank, p->id, p->role, p->host, p->link_text, p->refused);
	else
		mc_info("rank %u: peer %u (%s, host %s) is reached by %s instead of RDMA: %s", ctx->rank, p->id,
			p->role, p->host, p->link_text, p->refused);
}

mc_status_t mc_link_next(struct mc_peer *p)
{
	struct mc_ctx *ctx = p->ctx;
	char text[160];
	mc_status_t last = p->link_next > 0 ? MC_ERR_PEER_DOWN : MC_ERR_UNSUPPORTED;
	while (p->link_next < ctx->be_n) {
		struct mc_be_slot *slot = &ctx->be[p->link_next++];
		text[0] = '\0';
		mc_status_t s = try_link(p, slot, text, sizeof(text));
		if (s == MC_OK) {
			chosen(p, slot, text);
			p->state = MC_PEER_CONNECTING;
			ctx->stale_arm = true;
			return MC_OK;
		}
		bool ended = s == MC_ERR_UNSUPPORTED && has_ended(p, slot);
		if (s != MC_ERR_UNSUPPORTED || ended)
			last = MC_ERR_PEER_DOWN;
		refused(p, slot,
			ended          ? "its process has ended, or was started with another MC_TRANSPORT"
			: text[0] != 0 ? text
				       : mc_status_text(s));
	}
	if (ctx->rdma_why[0] != '\0')
		refused_text(p, "verbs", ctx->rdma_why);
	char nics[300];
	mc_nics_compare(p, nics, sizeof(nics));
	mc_peer_fail(p, last, "no way to reach it (%s); %s", p->refused, nics);
	return p->dying_why;
}

void mc_link_up(struct mc_peer *p, const struct mc_be_slot *slot)
{
	struct mc_ctx *ctx = p->ctx;
	if (p->state != MC_PEER_CONNECTING || p->link != slot)
		return;
	p->state = MC_PEER_UP;
	if (slot->caps.flags & MC_CAP_PROVE)
		mc_rmems_link_up(p);
	mc_word_bump(ctx, &ctx->peer_seq);
}

void mc_link_down(struct mc_peer *p, struct mc_be_slot *slot, const struct mc_be_event *ev)
{
	const char *why = ev->why != NULL ? ev->why : mc_status_text(ev->status);
	if (p->link != slot)
		return;
	if (p->state != MC_PEER_CONNECTING || !(slot->caps.flags & MC_CAP_PROVE) || !mc_list_empty(&p->dying)) {
		mc_peer_fail(p, MC_ERR_PEER_DOWN, "%s reports the link down (%s, code %d)", slot->ops->name, why,
			     ev->native);
		return;
	}
	slot->ops->ep_close(slot->be, p->ep);
	p->ep = NULL;
	p->link = NULL;
	refused(p, slot, why);
	mc_link_next(p); /* what waited for this link is in the pump's list, and waits for the next one */
}

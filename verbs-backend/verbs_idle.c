/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_idle.c - more peers than queue pairs: a connection that was not used for longest gives its queue pairs to one
 * that needs some. Its link stays, asleep; its next use brings the rails back. So queue pairs per process are bounded
 * whatever the number of peers.
 */
#include <errno.h>
#include <string.h>

#include "verbs.h"

/* It has queue pairs, used or not, or will: it can be asked for them, after all that were used before. */
void mc_vb_idle_join(struct vb_link *link)
{
	mc_list_del(&link->idle);
	mc_list_add_tail(&link->be->lru, &link->idle);
}

void mc_vb_touch(struct vb_link *link)
{
	if (link->asleep)
		mc_vb_wake(link);
	mc_vb_idle_join(link);
}

void mc_vb_wake(struct vb_link *link)
{
	if (!link->asleep)
		return;
	link->asleep = false;
	mc_vb_idle_join(link);
	mc_debug("verbs: rank %u: link to rank %u is used again", link->be->rank, link->addr.rank);
	mc_vb_rails_wanted(link);
	mc_vb_link_trouble(link);
}

void mc_vb_idle_evict(struct mc_be *be, const struct vb_link *wanting)
{
	for (struct mc_list *l = be->lru.next; l != &be->lru; l = l->next) {
		struct vb_link *link = mc_container_of(l, struct vb_link, idle);
		if (link == wanting || link->self || link->asleep || link->state != LINK_UP || link->up_n == 0 ||
		    !mc_list_empty(&link->ops) || !mc_vb_link_quiet(link))
			continue;
		mc_debug("verbs: rank %u: link to rank %u gives its queue pairs to that to rank %u", be->rank,
			 link->addr.rank, wanting->addr.rank);
		link->asleep = true;
		mc_list_del(&link->idle);
		for (uint32_t i = 0; i < link->rail_n; i++) {
			link->rail[i].idle = true;
			mc_vb_rail_fail(&link->rail[i], false, "not used");
		}
		return;
	}
}

/* Its deadlines wait while others have the queue pairs, until a rail is up again. */
void mc_vb_starved_set(struct vb_link *link)
{
	if (!link->starved)
		link->starved_ns = mc_now_ns();
	link->starved = true;
}

/* No queue pair, or fewer than wanted: said once; and who was not used for longest gives way. */
void mc_vb_starving(struct vb_rail *rail, int err)
{
	struct vb_link *link = rail->link;
	struct mc_be *be = link->be;
	struct vb_nic *nic = &be->nic[rail->nic];
	char where[512] = "";

	mc_vb_starved_set(link);
	if (err == EAGAIN || err == ENOMEM)
		mc_vb_idle_evict(be, link);
	if (be->limit_told || nic->qp_n >= be->plan.qp_budget)
		return;
	be->limit_told = true;
	if (err == EAGAIN)
		mc_vb_objects_left(ibv_get_device_name(nic->ctx->device), where, sizeof(where));
	mc_warn("verbs: rank %u: %s makes no more than %llu queue pairs: %s; idle connections give theirs to others; "
		"%s%s%s",
		be->rank, nic->port.name, (unsigned long long)nic->qp_n, strerror(err), mc_vb_remedy(err),
		where[0] != '\0' ? "; " : "", where);
}

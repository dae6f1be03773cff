/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_rails.c - what befalls all rails of a link, or of a port, at once. */
#include "verbs.h"

#define WATCH_NS INT64_C(1500000000)

/* ---- spares ------------------------------------------------------------------------------------------------------ */

/* How many of its two ports are spares: the fewer, the better. */
uint32_t mc_vb_rail_class(const struct vb_rail *r)
{
	return (r->link->be->nic[r->nic].port.spare ? 1u : 0u) + (r->link->addr.nic[r->rnic].spare ? 1u : 0u);
}

/* One with a spare port is tried only while none that is better works, or is about to. */
bool mc_vb_rail_due(const struct vb_rail *r)
{
	const struct vb_link *link = r->link;

	for (uint32_t i = 0; i < link->rail_n; i++) {
		const struct vb_rail *o = &link->rail[i];
		if (o->state != RAIL_IDLE && o->state != RAIL_FAILING && o->state != RAIL_CLOSED &&
		    mc_vb_rail_class(o) < mc_vb_rail_class(r))
			return false;
	}
	return true;
}

void mc_vb_spares_wanted(struct vb_link *link)
{
	for (uint32_t i = 0; i < link->rail_n && link->leader && !link->asleep && link->up_n == 0; i++) {
		struct vb_rail *r = &link->rail[i];
		if (r->state != RAIL_IDLE || r->retry_ns != INT64_MAX || mc_vb_rail_class(r) == 0)
			continue;
		r->retry_ns = mc_now_ns();
		mc_vb_timer_want(link->be, r->retry_ns);
	}
}

/* ---- all rails --------------------------------------------------------------------------------------------------- */

/* A new session: what was said at the end of the old one may be lost. */
void mc_vb_rails_resync(struct vb_link *link)
{
	for (uint32_t i = 0; i < link->rail_n; i++) {
		struct vb_rail *r = &link->rail[i];
		if (r->state == RAIL_CLOSED || (r->state == RAIL_IDLE && r->gen > 0))
			mc_vb_rail_down_send(r);
		else if (r->state == RAIL_OFFERED || r->state == RAIL_CONNECTING || r->state == RAIL_WAITING ||
			 r->state == RAIL_PROBING)
			mc_vb_rail_fail(r, true, "the control channel was renewed");
	}
	if (!link->asleep)
		mc_vb_rails_try_all(link);
}

/*
 * iWARP stands on TCP, which gives a silent peer many minutes. What is under way must move within WATCH_NS; a receiver
 * cannot hold it up, as nothing is sent that has no buffer there.
 */
void mc_vb_rail_watch(struct vb_rail *rail)
{
	if (rail->watch_ns != 0)
		return;
	rail->watch_ns = mc_now_ns() + WATCH_NS;
	for (uint32_t i = 0; i < rail->qp_n; i++)
		rail->watched[i] = rail->qp[i]->done;
	mc_vb_timer_want(rail->link->be, rail->watch_ns);
}

static void watch_run(struct vb_rail *rail, int64_t now)
{
	bool busy = false, stuck = false, calls = rail->state == RAIL_CONNECTING && rail->link->leader;

	if (rail->watch_ns == 0 || (rail->state != RAIL_UP && rail->state != RAIL_PROBING && !calls)) {
		rail->watch_ns = 0;
		return;
	}
	if (now < rail->watch_ns) {
		mc_vb_timer_want(rail->link->be, rail->watch_ns);
		return;
	}
	rail->watch_ns = 0;
	if (calls) {
		mc_vb_rail_fail(rail, false, "the call was not answered for %d ms", (int)(WATCH_NS / 1000000));
		return;
	}
	for (uint32_t i = 0; i < rail->qp_n; i++) {
		busy |= rail->qp[i]->done < rail->qp[i]->head;
		stuck |= rail->qp[i]->done < rail->qp[i]->head && rail->qp[i]->done == rail->watched[i];
	}
	if (stuck)
		mc_vb_rail_fail(rail, false, "nothing has moved for %d ms", (int)(WATCH_NS / 1000000));
	else if (busy)
		mc_vb_rail_watch(rail);
}

void mc_vb_rail_timers(struct vb_link *link, int64_t now)
{
	for (uint32_t i = 0; i < link->rail_n && link->state != LINK_DEAD; i++) {
		struct vb_rail *r = &link->rail[i];
		watch_run(r, now);
		if (r->state != RAIL_IDLE || !link->leader)
			continue;
		if (r->retry_ns <= now)
			mc_vb_rail_try(r);
		else if (r->retry_ns != INT64_MAX)
			mc_vb_timer_want(link->be, r->retry_ns);
	}
}

void mc_vb_rails_of_nic(struct vb_nic *nic, bool up)
{
	struct mc_be *be = nic->be;

	for (struct mc_list *l = be->links.next; l != &be->links; l = l->next) {
		struct vb_link *link = mc_container_of(l, struct vb_link, node);
		bool any = false;
		for (uint32_t i = 0; i < link->rail_n && link->state != LINK_DEAD; i++) {
			if (link->rail[i].nic != nic->index)
				continue;
			any = true;
			if (!up)
				mc_vb_rail_fail(&link->rail[i], false, "port %s is down or has changed",
						nic->port.name);
		}
		if (any && up && !link->asleep)
			mc_vb_rails_wanted(link);
	}
}

void mc_vb_rails_kill(struct vb_link *link)
{
	struct mc_be *be = link->be;

	for (uint32_t i = 0; i < link->rail_n; i++) {
		struct vb_rail *r = &link->rail[i];
		mc_vb_job_leave(r);
		for (uint32_t k = 0; k < VB_QPS_MAX; k++) {
			struct vb_qp *q = r->qp[k];
			if (q != NULL && !mc_vb_again_take(q, &r->left[k])) {
				/* No memory even for that: ended in place, with the card stopped first. */
				mc_vb_qp_error(q);
				for (; q->done < q->head; q->done++, q->nic->cq_room++)
					mc_vb_wr_end(be, &q->ring[q->done & (q->depth - 1)], link->why);
			}
		}
		mc_vb_rail_qps_free(r);
		for (uint32_t k = 0; k < VB_QPS_MAX; k++) {
			mc_vb_again_free(be, r->left[k], link->why);
			r->left[k] = NULL;
		}
		r->state = RAIL_IDLE;
		r->retry_ns = INT64_MAX;
	}
	mc_vb_lanes_rebuild(link);
}

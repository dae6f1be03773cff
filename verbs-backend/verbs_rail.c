/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_rail.c - rails: pairs of ports between two instances.
 *
 *   idle -> offered (leader) -> connecting -> waiting (follower) -> probing -> up
 *     ^                                                               |  any failure, here or there
 *     +---------------- closed <------------------- failing <---------+
 *
 * The leader offers its queue pairs, the follower answers with its own, both then read a word of the other's memory
 * through each of them. A rail that fails is put into error on both sides; each destroys its queue pairs, tells the
 * other so, and how many packets had come through each. Only when both have done so is anything of it sent again.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "verbs.h"

#define FLUSH_NS   INT64_C(2000000) /* for a card to report what it still had */
#define STARVED_NS INT64_C(5000000)
#define BACKOFF_NS INT64_C(50000000)
enum { BACKOFF_MAX = 5 };

const char *mc_vb_rail_name(const struct vb_rail *rail, char *out, size_t len)
{
	const struct vb_link *link = rail->link;

	snprintf(out, len, "%s-%s", link->be->nic[rail->nic].port.name, link->addr.nic[rail->rnic].name);
	return out;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void msg_make(const struct vb_rail *rail, uint8_t kind, struct vb_ctl_msg *m)
{
	struct mc_be *be = rail->link->be;
	const struct vb_nic *nic = &be->nic[rail->nic];

	memset(m, 0, sizeof(*m));
	m->kind = kind;
	m->rail = rail->index;
	m->gen = rail->gen;
	m->here = rail->nic;
	m->there = rail->rnic;
	m->mtu = nic->port.mtu;
	m->lid = nic->port.lid;
	memcpy(m->gid, nic->port.gid, 16);
	m->rkey = nic->mr->rkey;
	m->probe = (uintptr_t)be->area;
	m->port = mc_vb_cm_port(nic);
	m->qp_n = rail->qp_n;
	for (uint32_t i = 0; i < rail->qp_n && rail->qp[i] != NULL; i++) {
		m->qpn[i] = rail->qp[i]->num;
		m->psn[i] = rail->qp[i]->psn;
	}
}

void mc_vb_rail_down_send(struct vb_rail *rail)
{
	struct vb_ctl_msg m = {.kind = VB_DOWN, .rail = rail->index, .gen = rail->gen, .qp_n = VB_QPS_MAX};

	m.idle = rail->link->asleep ? VB_DOWN_IDLE : rail->idle ? VB_DOWN_WANTED : 0;

	memcpy(m.got, rail->got, sizeof(m.got));
	mc_vb_ctl_send(rail->link, &m);
}

/* ---- lanes ------------------------------------------------------------------------------------------------------- */

void mc_vb_lanes_rebuild(struct vb_link *link)
{
	uint32_t best = UINT32_MAX;

	link->lane_n = 0;
	link->up_n = 0;
	link->epoch++;
	for (uint32_t i = 0; i < link->rail_n; i++)
		if (link->rail[i].state == RAIL_UP && mc_vb_rail_class(&link->rail[i]) < best)
			best = mc_vb_rail_class(&link->rail[i]);
	for (uint32_t i = 0; i < link->rail_n; i++) {
		struct vb_rail *r = &link->rail[i];
		link->up_n += r->state == RAIL_UP;
		if (r->state != RAIL_UP || mc_vb_rail_class(r) > best)
			continue;
		for (uint32_t k = 0; k < r->qp_n; k++)
			link->lane[link->lane_n++] = r->qp[k];
	}
}

/* ---- queue pairs of a rail --------------------------------------------------------------------------------------- */

void mc_vb_rail_qps_free(struct vb_rail *rail)
{
	for (uint32_t i = 0; i < VB_QPS_MAX; i++) {
		mc_vb_qp_free(rail->qp[i]);
		rail->qp[i] = NULL;
	}
	rail->qp_n = 0;
}

static uint64_t least_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* As many as can be had, at least one: 0, or the errno of the first. */
static int qps_make(struct vb_rail *rail, uint32_t n)
{
	struct mc_be *be = rail->link->be;
	uint64_t used = be->nic[rail->nic].qp_n, most;
	int err = 0;

	mc_vb_budget_again(be);
	most = least_u64(be->plan.qp_budget, be->plan.objects - least_u64(be->mrs_n, be->plan.objects));
	if (n > (most > used ? most - used : 0))
		n = (uint32_t)(most > used ? most - used : 0);
	memset(rail->got, 0, sizeof(rail->got));
	memset(rail->peer_got, 0, sizeof(rail->peer_got));
	rail->probes = 0;
	rail->peer_down = rail->idle = rail->ready = false;
	rail->qp_n = 0;
	if (n == 0)
		err = EAGAIN;
	while (err == 0 && rail->qp_n < n && mc_vb_qp_new(rail, NULL, &rail->qp[rail->qp_n], &err) == MC_OK)
		rail->qp_n++;
	if (rail->qp_n > 0)
		return 0;
	mc_vb_starving(rail, err);
	return err;
}

static bool iwarp(const struct vb_rail *rail)
{
	return rail->link->be->nic[rail->nic].port.layer == VB_IWARP;
}

/* Result as of mc_vb_job_start(). */
static int qps_connect(struct vb_rail *rail, const struct vb_ctl_msg *m)
{
	/* The side that got fewer decides. */
	while (rail->qp_n > m->qp_n) {
		rail->qp_n--;
		mc_vb_qp_free(rail->qp[rail->qp_n]);
		rail->qp[rail->qp_n] = NULL;
	}
	rail->probe_addr = m->probe;
	rail->probe_key = m->rkey;
	rail->state = RAIL_CONNECTING;
	return iwarp(rail) ? mc_vb_cm_connect(rail, m) : mc_vb_job_start(rail, m);
}

/* ---- proof ------------------------------------------------------------------------------------------------------- */

static void probe_start(struct vb_rail *rail)
{
	struct mc_be *be = rail->link->be;
	struct vb_wr wr = {.kind = WR_PROBE, .sge_n = 1, .len = 8};
	struct vb_chain c;

	rail->state = RAIL_PROBING;
	for (uint32_t i = 0; i < rail->qp_n && rail->state == RAIL_PROBING; i++) {
		if (mc_vb_room(rail->qp[i]) == 0 || !mc_vb_slot_get(be, &wr.slot)) {
			mc_vb_rail_fail(rail, false, "no room for its proof");
			return;
		}
		memset(mc_vb_slot(be, wr.slot), 0, 8);
		mc_vb_chain_start(&c, rail->qp[i]);
		mc_vb_chain_add(&c, &wr);
		mc_vb_chain_post(&c);
	}
}

static void ready_send(struct vb_rail *rail)
{
	struct vb_ctl_msg ready;

	msg_make(rail, VB_READY, &ready);
	mc_vb_ctl_send(rail->link, &ready);
}

void mc_vb_rail_proved(struct vb_qp *q)
{
	struct vb_rail *rail = q->rail;
	struct vb_link *link = rail->link;
	char name[100];

	rail->probes++;
	if (rail->state != RAIL_PROBING || rail->probes < rail->qp_n)
		return;
	rail->state = RAIL_UP;
	if (iwarp(rail) && link->leader)
		ready_send(rail);
	link->starved = link->wanted = false;
	rail->failures = 0;
	rail->why[0] = '\0';
	mc_vb_lanes_rebuild(link);
	mc_info("verbs: rank %u: rail %s to rank %u is up, %u queue pairs; %u of %u rails work", link->be->rank,
		mc_vb_rail_name(rail, name, sizeof(name)), link->addr.rank, rail->qp_n, link->up_n, link->rail_n);
	if (link->state == LINK_PROVING)
		mc_vb_link_up(link);
	mc_vb_link_trouble(link);
	mc_vb_work(link);
}

/* ---- offers ------------------------------------------------------------------------------------------------------ */

static void retry_at(struct vb_rail *rail, int64_t at)
{
	rail->retry_ns = at;
	mc_vb_timer_want(rail->link->be, at);
}

static void try_later(struct vb_rail *rail)
{
	uint32_t k = rail->failures < BACKOFF_MAX ? rail->failures : BACKOFF_MAX;

	rail->failures++;
	/* Queue pairs come free at any moment: ask often, but not in step with the others who wait for some. */
	if (rail->link->starved)
		retry_at(rail, mc_now_ns() + STARVED_NS + (int64_t)(mc_random_u64() % (4 * STARVED_NS)));
	else
		retry_at(rail, mc_now_ns() + (BACKOFF_NS << k));
}

/* A link to oneself needs nobody's answer: each queue pair is connected to itself. */
static void self_connect(struct vb_rail *rail)
{
	struct vb_ctl_msg m;

	msg_make(rail, VB_ANSWER, &m);
	mc_vb_rail_connected(rail, qps_connect(rail, &m));
}

void mc_vb_rail_try(struct vb_rail *rail)
{
	struct vb_link *link = rail->link;
	struct vb_nic *nic = &link->be->nic[rail->nic];
	struct vb_ctl_msg m;
	int err;

	rail->retry_ns = INT64_MAX;
	if (!link->self && (link->ctl == NULL || link->ctl->state != CTL_OPEN))
		return; /* the next session begins with it */
	if (!mc_vb_rail_due(rail))
		return;
	if (!nic->up) {
		snprintf(rail->why, sizeof(rail->why), "port %.40s is down", nic->port.name);
		try_later(rail);
		mc_vb_spares_wanted(link);
		return;
	}
	err = qps_make(rail, link->be->plan.qps);
	if (err != 0) {
		snprintf(rail->why, sizeof(rail->why), "no queue pair: %s", strerror(err));
		/* An offer of nothing asks the peer to give some back. */
		msg_make(rail, VB_OFFER, &m);
		m.status = err;
		m.qp_n = 0;
		mc_vb_ctl_send(link, &m);
		try_later(rail);
		return;
	}
	rail->gen++;
	rail->state = RAIL_OFFERED;
	if (link->self) {
		self_connect(rail);
		return;
	}
	msg_make(rail, VB_OFFER, &m);
	mc_vb_ctl_send(link, &m);
}

void mc_vb_rails_start(struct vb_link *link)
{
	struct mc_be *be = link->be;
	struct vb_port own[VB_NIC_MAX];
	struct vb_pair pair[VB_RAIL_MAX];

	for (uint32_t i = 0; i < be->nic_n; i++)
		own[i] = be->nic[i].port;
	link->rail_n = mc_vb_pairs(own, be->nic_n, link->addr.nic, link->addr.nic_n, pair);
	for (uint32_t i = 0; i < link->rail_n; i++) {
		struct vb_rail *r = &link->rail[i];
		r->link = link;
		r->index = (uint8_t)i;
		r->nic = pair[i].here;
		r->rnic = pair[i].there;
		r->retry_ns = INT64_MAX;
	}
	for (uint32_t k = 0; k <= 2; k++) /* the best first: others may not be needed */
		for (uint32_t i = 0; i < link->rail_n; i++)
			if (mc_vb_rail_class(&link->rail[i]) == k)
				mc_vb_rail_try(&link->rail[i]);
}

/* The follower's answer: its queue pairs are ready, or why not. */
static void answer_send(struct vb_rail *rail, uint32_t gen, uint8_t here, uint8_t there, int err)
{
	struct vb_ctl_msg answer;

	msg_make(rail, VB_ANSWER, &answer);
	answer.gen = gen;
	answer.here = here;
	answer.there = there;
	answer.status = err;
	if (err != 0)
		answer.qp_n = 0;
	mc_vb_ctl_send(rail->link, &answer);
}

/* iWARP: queue pairs are made as the leader's calls come in. */
static void calls_expect(struct vb_rail *rail, const struct vb_ctl_msg *m)
{
	memset(rail->got, 0, sizeof(rail->got));
	memset(rail->peer_got, 0, sizeof(rail->peer_got));
	rail->probes = 0;
	rail->peer_down = rail->idle = rail->ready = false;
	rail->qp_n = m->qp_n;
	rail->probe_addr = m->probe;
	rail->probe_key = m->rkey;
	rail->state = RAIL_CONNECTING;
	answer_send(rail, rail->gen, rail->nic, rail->rnic, 0);
}

static void on_offer(struct vb_rail *rail, const struct vb_ctl_msg *m)
{
	struct vb_link *link = rail->link;
	int err = 0;

	if (m->status != 0) { /* the leader has no queue pairs and asks for some of ours */
		mc_vb_starved_set(link);
		mc_vb_idle_evict(link->be, link);
		return;
	}
	if (rail->state != RAIL_IDLE)
		err = EBUSY;
	else if (m->there >= link->be->nic_n || m->here >= link->addr.nic_n || m->qp_n == 0)
		err = EINVAL;
	else if (!link->be->nic[m->there].up)
		err = ENETDOWN;
	mc_vb_touch(link); /* the peer wants it */
	if (err == 0) {
		rail->nic = m->there;
		rail->rnic = m->here;
		rail->gen = m->gen;
		if (iwarp(rail)) {
			calls_expect(rail, m);
			return;
		}
		err = qps_make(rail, m->qp_n);
	}
	if (err != 0) {
		answer_send(rail, m->gen, m->there, m->here, err);
		return;
	}
	err = qps_connect(rail, m);
	if (err >= 0)
		mc_vb_rail_connected(rail, err);
}

static void on_answer(struct vb_rail *rail, const struct vb_ctl_msg *m)
{
	struct vb_link *link = rail->link;
	int err;

	if (m->status != 0) {
		if (m->status == EAGAIN)
			mc_vb_starved_set(link);
		rail->peer_down = true; /* it has nothing */
		mc_vb_rail_fail(rail, false, "the peer cannot: %s", strerror(m->status));
		return;
	}
	err = qps_connect(rail, m);
	if (err >= 0)
		mc_vb_rail_connected(rail, err);
}

void mc_vb_rail_connected(struct vb_rail *rail, int err)
{
	struct vb_link *link = rail->link;

	rail->watch_ns = 0; /* of the call; its proof has its own */
	if (err != 0 && !link->leader) {
		mc_vb_rail_qps_free(rail);
		rail->state = RAIL_IDLE;
		answer_send(rail, rail->gen, rail->nic, rail->rnic, err);
	} else if (err != 0) {
		mc_vb_rail_fail(rail, false, "cannot be connected: %s; %s", strerror(err), mc_vb_remedy(err));
	} else if (!link->leader) {
		rail->state = RAIL_WAITING;
		if (!iwarp(rail))
			answer_send(rail, rail->gen, rail->nic, rail->rnic, 0);
		else if (rail->ready)
			probe_start(rail);
	} else {
		/* On iWARP the caller must be the first to send anything: READY follows its proof. */
		if (!iwarp(rail))
			ready_send(rail);
		probe_start(rail);
	}
}

/* ---- failure ----------------------------------------------------------------------------------------------------- */

static void fail_log(struct vb_rail *rail, bool was_up, bool meant)
{
	struct vb_link *link = rail->link;
	char name[100];

	mc_vb_rail_name(rail, name, sizeof(name));
	if (was_up && !meant && !rail->idle)
		mc_warn("verbs: rank %u: rail %s to rank %u has failed: %s; %u of %u rails work", link->be->rank, name,
			link->addr.rank, rail->why, link->up_n, link->rail_n);
	else if (!was_up && !rail->tried && !rail->idle && !link->starved)
		mc_warn("verbs: rank %u: rail %s to rank %u is not proved: %s", link->be->rank, name, link->addr.rank,
			rail->why);
	else
		mc_debug("verbs: rank %u: rail %s to rank %u: %s", link->be->rank, name, link->addr.rank, rail->why);
	rail->tried = true;
}

/* meant: a request was wrong, not the way: it may come back at once. */
void mc_vb_rail_fail(struct vb_rail *rail, bool meant, const char *fmt, ...)
{
	struct vb_link *link = rail->link;
	bool was_up = rail->state == RAIL_UP;
	va_list ap;

	if (rail->state == RAIL_IDLE || rail->state == RAIL_FAILING || rail->state == RAIL_CLOSED)
		return;
	va_start(ap, fmt);
	vsnprintf(rail->why, sizeof(rail->why), fmt, ap);
	va_end(ap);
	mc_vb_job_leave(rail);
	for (uint32_t i = 0; i < rail->qp_n; i++)
		mc_vb_qp_error(rail->qp[i]);
	rail->state = RAIL_FAILING;
	rail->at_once = meant;
	rail->fail_ns = mc_now_ns();
	mc_vb_timer_want(link->be, rail->fail_ns + FLUSH_NS);
	link->be->rails_due = true;
	mc_vb_lanes_rebuild(link);
	fail_log(rail, was_up, meant);
	mc_vb_spares_wanted(link);
	mc_vb_link_trouble(link);
}

/* Both sides are done with it. */
static void rail_finish(struct vb_rail *rail)
{
	struct vb_link *link = rail->link;

	for (uint32_t i = 0; i < VB_QPS_MAX; i++) {
		struct vb_again *a = rail->left[i];
		rail->left[i] = NULL;
		if (a != NULL)
			mc_vb_again_add(link, a, rail->peer_got[i]);
	}
	rail->state = RAIL_IDLE;
	mc_vb_again_prune(link);
	if (link->asleep && (link->wanted || !mc_vb_link_quiet(link)))
		mc_vb_wake(link);
	if (!link->leader || link->asleep)
		return;
	if (rail->at_once || rail->idle)
		retry_at(rail, mc_now_ns());
	else
		try_later(rail);
}

static bool flushed(const struct vb_rail *rail, int64_t now)
{
	if (now - rail->fail_ns >= FLUSH_NS)
		return true;
	for (uint32_t i = 0; i < rail->qp_n; i++)
		if (rail->qp[i] != NULL && !rail->qp[i]->last_wqe)
			return false;
	return true;
}

static void rail_close(struct vb_rail *rail)
{
	struct vb_link *link = rail->link;

	mc_vb_cq_run(&link->be->nic[rail->nic], UINT32_MAX);
	if (link->state == LINK_DEAD)
		return;
	for (uint32_t i = 0; i < rail->qp_n; i++) {
		if (rail->qp[i] == NULL)
			continue;
		rail->got[i] = rail->qp[i]->got;
		if (!mc_vb_again_take(rail->qp[i], &rail->left[i])) {
			mc_vb_link_fail(link, MC_ERR_NOMEM, 0, "no memory to send again what a failed rail had");
			return;
		}
	}
	mc_vb_rail_qps_free(rail);
	rail->state = RAIL_CLOSED;
	if (link->self) {
		memcpy(rail->peer_got, rail->got, sizeof(rail->got));
		rail->peer_down = true;
	}
	mc_vb_rail_down_send(rail);
	if (rail->peer_down)
		rail_finish(rail);
	else
		mc_vb_again_prune(link);
}

void mc_vb_rails_run(struct mc_be *be)
{
	int64_t now = mc_now_ns();

	be->rails_due = false;
	for (struct mc_list *l = be->links.next; l != &be->links; l = l->next) {
		struct vb_link *link = mc_container_of(l, struct vb_link, node);
		for (uint32_t i = 0; i < link->rail_n && link->state != LINK_DEAD; i++) {
			struct vb_rail *r = &link->rail[i];
			if (r->state != RAIL_FAILING)
				continue;
			if (flushed(r, now)) {
				rail_close(r);
			} else {
				be->rails_due = true;
				mc_vb_timer_want(be, r->fail_ns + FLUSH_NS);
			}
		}
	}
}

static void on_down(struct vb_rail *rail, const struct vb_ctl_msg *m)
{
	struct vb_link *link = rail->link;

	if (rail->peer_down || rail->state == RAIL_IDLE)
		return;
	rail->peer_down = true;
	memcpy(rail->peer_got, m->got, sizeof(rail->peer_got));
	rail->idle |= m->idle != 0;
	link->asleep |= m->idle == VB_DOWN_IDLE;
	if (rail->state == RAIL_CLOSED)
		rail_finish(rail);
	else
		mc_vb_rail_fail(rail, false, "the peer has taken it down");
}

/* ---- from the control channel and the ports ---------------------------------------------------------------------- */

void mc_vb_rails_try_all(struct vb_link *link)
{
	for (uint32_t i = 0; i < link->rail_n; i++) {
		struct vb_rail *r = &link->rail[i];
		r->failures = 0;
		if (link->leader && r->state == RAIL_IDLE)
			retry_at(r, mc_now_ns());
	}
}

void mc_vb_rails_wanted(struct vb_link *link)
{
	struct vb_ctl_msg hint = {.kind = VB_HINT};

	mc_vb_rails_try_all(link);
	if (!link->leader)
		mc_vb_ctl_send(link, &hint);
}

void mc_vb_rail_msg(struct vb_link *link, const struct vb_ctl_msg *m)
{
	struct vb_rail *rail = &link->rail[m->rail];
	bool current;

	if (m->kind == VB_HINT) {
		mc_vb_touch(link);
		mc_vb_rails_try_all(link);
		return;
	}
	if (m->kind == VB_OFFER && !link->leader && m->rail >= link->rail_n) {
		for (uint32_t i = link->rail_n; i <= m->rail; i++) {
			link->rail[i].link = link;
			link->rail[i].index = (uint8_t)i;
			link->rail[i].retry_ns = INT64_MAX;
		}
		link->rail_n = m->rail + 1u;
	}
	if (m->rail >= link->rail_n)
		return;
	current = m->gen == rail->gen;
	if (m->kind == VB_OFFER && !link->leader)
		on_offer(rail, m);
	else if (m->kind == VB_ANSWER && current && rail->state == RAIL_OFFERED)
		on_answer(rail, m);
	else if (m->kind == VB_READY && current && rail->state == RAIL_WAITING)
		probe_start(rail);
	else if (m->kind == VB_READY && current && rail->state == RAIL_CONNECTING)
		rail->ready = true;
	else if (m->kind == VB_DOWN && current)
		on_down(rail, m);
}

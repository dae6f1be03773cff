/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_fail.c - when a collective cannot be completed: who is told, who is named, and when it may end here.
 *
 * The first to see it tells all members (ABORT), so that nobody waits for what will not come; a rank that has not
 * called that collective yet finds the verdict when it does. Whoever was told where to write into or read from this
 * rank's memory must confirm that it does so no more, or be declared lost, before the request ends here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coll.h"

enum { ABORTED_MAX = 65536, GRACE_NS = 100000000 };

static const char *const op_name[MC_COLL_OPS] = {"barrier", "bcast", "scatter", "gather", "allgather", "alltoall"};

const char *mc_coll_op_name(enum mc_coll_op op)
{
	return (unsigned int)op < MC_COLL_OPS ? op_name[op] : "another collective";
}

void mc_coll_fail(struct mc_coll *c, mc_status_t s, uint32_t culprit, bool tell_all)
{
	if (c->failing != MC_OK)
		return;
	c->failing = s;
	c->culprit = culprit;
	c->tell_all = tell_all;
	mc_coll_ready(c);
}

/* ---- telling ---- */

static void send_abort(struct mc_peer *p, uint64_t sig, uint64_t seq, mc_status_t s, uint32_t culprit, bool ack)
{
	if (p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying) || mc_peer_start(p) != MC_OK)
		return;
	struct mc_tx *tx = mc_tx_get(p, MC_MSG_COLL_ABORT, false);
	if (tx == NULL)
		return;
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, sig);
	mc_wr_u64(&w, seq);
	mc_wr_u32(&w, (uint32_t)(int32_t)s);
	mc_wr_u32(&w, culprit);
	mc_wr_u8(&w, ack);
	mc_tx_send(tx, &w);
}

/* Who is to blame, as the others know it: peers' numbers are each rank's own, positions in the group are not. */
static uint32_t culprit_position(const struct mc_coll *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->peer[i]->id == c->culprit)
			return i;
	return MC_NO_RANK;
}

static struct mc_peer *member(const struct mc_coll *c, uint32_t rank)
{
	return c->peer[rank];
}

static bool is_down(const struct mc_peer *p)
{
	return p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying);
}

/* A transfer of ours to or from that rank's memory is under way. */
static bool touching(const struct mc_coll *c, uint32_t rank)
{
	for (uint32_t i = 0; i < c->step_n; i++) {
		const struct mc_step *s = &c->step[i];
		bool ours = s->kind == MC_STEP_SEND ? s->way == MC_WAY_PUT
						    : s->kind == MC_STEP_RECV && s->way == MC_WAY_GET;
		if (ours && s->rank == rank && s->state == MC_STEP_MOVING)
			return true;
	}
	return false;
}

static void transfer_cancel(struct mc_peer *p, const struct mc_step *s)
{
	for (struct mc_list *l = p->reqs.next; l != &p->reqs; l = l->next) {
		struct mc_req *r = mc_container_of(l, struct mc_req, node);
		if (r->on_end_arg == s && r->on_end != NULL) {
			mc_req_fail(r, MC_ERR_CANCELED);
			return;
		}
	}
}

static void report(const struct mc_coll *c)
{
	char text[160];
	if (c->failing == MC_ERR_CANCELED && c->culprit == c->ctx->rank)
		return; /* the caller's own doing */
	if (c->tell_all && (c->failing == MC_ERR_MISMATCH || c->failing == MC_ERR_TIMEOUT))
		return; /* said where it was seen */
	snprintf(text, sizeof(text), "%s (number %llu of a group of %u) cannot be completed because of rank %u: %s",
		 mc_coll_op_name(c->op), (unsigned long long)c->seq, c->n, c->culprit, mc_status_text(c->failing));
	mc_warn("rank %u: %s", c->ctx->rank, text);
	mc_fault_add(c->ctx, c->culprit, c->failing, text);
}

static void give_up(struct mc_coll *c)
{
	c->handled = true;
	mc_list_del(&c->req->timed); /* a cancel's own alarm: ours is below */
	for (uint32_t i = 0; i < c->step_n; i++) {
		struct mc_step *s = &c->step[i];
		if (s->kind == MC_STEP_COPY || is_down(member(c, s->rank)))
			continue;
		if (s->exposed && !(c->mark[s->rank] & MC_MARK_ACK_DUE)) {
			c->mark[s->rank] |= MC_MARK_ACK_DUE;
			c->acks_due++;
		}
		if (s->state == MC_STEP_MOVING && s->way != MC_WAY_MSG && !s->exposed)
			transfer_cancel(member(c, s->rank), s);
	}
	for (uint32_t i = 0; i < c->n; i++)
		if (i != c->self && (c->tell_all || (c->mark[i] & MC_MARK_ACK_DUE)))
			send_abort(member(c, i), c->sig, c->seq, c->failing, culprit_position(c), false);
	report(c);
	mc_coll_alarm(c, mc_deadline(mc_now_ns(), c->ctx->cfg.cancel_timeout));
}

static void pay_acks(struct mc_coll *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		if (!(c->mark[i] & MC_MARK_ACK_OWED) || touching(c, i))
			continue;
		c->mark[i] &= (uint8_t)~MC_MARK_ACK_OWED;
		send_abort(member(c, i), c->sig, c->seq, c->failing, culprit_position(c), true);
	}
}

void mc_coll_fail_step(struct mc_coll *c)
{
	if (!c->handled)
		give_up(c);
	pay_acks(c);
	if (c->flying == 0 && c->acks_due == 0)
		mc_coll_end(c, c->failing);
}

static void ack_came(struct mc_coll *c, uint32_t rank)
{
	if (!(c->mark[rank] & MC_MARK_ACK_DUE))
		return;
	c->mark[rank] &= (uint8_t)~MC_MARK_ACK_DUE;
	c->acks_due--;
	mc_coll_ready(c);
}

/* ---- being told ---- */

static uint32_t rank_of(const struct mc_coll *c, const struct mc_peer *peer)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->peer[i] == peer)
			return i;
	return MC_NO_RANK;
}

static mc_status_t told_status(uint32_t wire)
{
	int32_t v = (int32_t)wire;
	return v <= MC_ERR_INVAL && v >= MC_ERR_NOENT       ? (mc_status_t)v
	       : v == MC_ERR_PEER_DOWN || v == MC_ERR_PROTO ? (mc_status_t)v
							    : MC_ERR_INTERNAL;
}

static void remember(struct mc_peer *p, uint64_t sig, uint64_t seq, mc_status_t s, uint32_t culprit)
{
	struct mc_colls *cs = p->ctx->colls;
	struct mc_coll_group *g = mc_coll_group(p->ctx, sig, true);
	if (g != NULL && seq < g->started)
		return; /* it was completed here, or has failed already */
	struct mc_coll_abort *a = g != NULL && cs->aborted_n < ABORTED_MAX ? malloc(sizeof(*a)) : NULL;
	if (a == NULL) {
		mc_peer_fail(p, MC_ERR_NOMEM, "%u collectives that this rank has not called were aborted",
			     cs->aborted_n);
		return;
	}
	a->seq = seq;
	a->status = s;
	a->culprit = culprit;
	a->from = p;
	mc_list_add_tail(&g->aborted, &a->node);
	cs->aborted_n++;
}

void mc_on_coll_abort(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t sig = mc_rd_u64(r), seq = mc_rd_u64(r);
	mc_status_t s = told_status(mc_rd_u32(r));
	uint32_t culprit = mc_rd_u32(r);
	bool ack = mc_rd_u8(r) != 0;
	if (r->bad)
		return;
	struct mc_coll *c = mc_coll_running(p->ctx, sig, seq);
	uint32_t rank = c != NULL ? rank_of(c, p) : MC_NO_RANK;
	if (ack) {
		if (rank != MC_NO_RANK)
			ack_came(c, rank);
	} else if (rank != MC_NO_RANK) {
		c->mark[rank] |= MC_MARK_ACK_OWED;
		mc_coll_fail(c, s, culprit < c->n ? c->peer[culprit]->id : p->id, false);
		mc_coll_ready(c);
	} else {
		if (c == NULL)
			remember(p, sig, seq, s, culprit);
		send_abort(p, sig, seq, s, culprit, true);
	}
}

/* ---- lost members ---- */

static bool owes(const struct mc_coll *c, uint32_t rank)
{
	if (c->waiting & UINT32_C(1) << rank % 32)
		return true;
	for (uint32_t i = 0; i < c->step_n; i++) {
		const struct mc_step *s = &c->step[i];
		if (s->kind != MC_STEP_COPY && s->rank == rank && s->state != MC_STEP_DONE && !s->landed)
			return true;
	}
	return false;
}

/* A member that died blocks everyone; one that left only those with which it had not done. */
static void check_one(struct mc_coll *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		const struct mc_peer *p = member(c, i);
		if (p->state != MC_PEER_DOWN)
			continue;
		if (c->failing != MC_OK)
			ack_came(c, i);
		else if (!p->left || owes(c, i))
			mc_coll_fail(c, MC_ERR_PEER_DOWN, p->id, true);
	}
}

static void peer_down(struct mc_colls *cs, const struct mc_peer *p)
{
	mc_desc_drop_peer(cs, p);
	mc_boards_peer_down(cs, p);
}

void mc_coll_check_members(struct mc_colls *cs)
{
	mc_boards_look(cs); /* what it posted before it left counts */
	for (struct mc_list *l = cs->running.next; l != &cs->running; l = l->next)
		check_one(mc_container_of(l, struct mc_coll, node));
	for (struct mc_list *l = cs->ctx->peers.next; l != &cs->ctx->peers; l = l->next)
		if (mc_peer_of_node(l)->state == MC_PEER_DOWN)
			peer_down(cs, mc_peer_of_node(l));
}

/* ---- who is missing? ---- */

static void ask_members(struct mc_coll *c)
{
	c->ask_cookie = ++c->ctx->cookie;
	for (uint32_t i = 0; i < c->n; i++) {
		struct mc_peer *p = member(c, i);
		if (i == c->self || is_down(p) || mc_peer_start(p) != MC_OK)
			continue;
		struct mc_tx *tx = mc_tx_get(p, MC_MSG_COLL_ASK, false);
		if (tx == NULL)
			return;
		struct mc_wr w;
		mc_tx_body(tx, &w);
		mc_wr_u64(&w, c->ask_cookie);
		mc_wr_u64(&w, c->sig);
		mc_tx_send(tx, &w);
	}
}

void mc_on_coll_ask(struct mc_peer *p, struct mc_rd *r)
{
	uint64_t cookie = mc_rd_u64(r), sig = mc_rd_u64(r);
	struct mc_tx *tx = r->bad ? NULL : mc_tx_get(p, MC_MSG_COLL_TELL, false);
	if (tx == NULL)
		return;
	const struct mc_coll_group *g = mc_coll_group(p->ctx, sig, false);
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_u64(&w, cookie);
	mc_wr_u64(&w, g != NULL ? g->started : 0);
	mc_tx_send(tx, &w);
}

void mc_on_coll_tell(struct mc_peer *p, struct mc_rd *r)
{
	struct mc_colls *cs = p->ctx->colls;
	uint64_t cookie = mc_rd_u64(r), started = mc_rd_u64(r);
	for (struct mc_list *l = cs->running.next; l != &cs->running && !r->bad; l = l->next) {
		struct mc_coll *c = mc_container_of(l, struct mc_coll, node);
		uint32_t rank = c->ask_cookie == cookie && cookie != 0 ? rank_of(c, p) : MC_NO_RANK;
		if (rank != MC_NO_RANK)
			c->mark[rank] |= started > c->seq ? MC_MARK_TOLD | MC_MARK_HERE : MC_MARK_TOLD;
	}
}

static bool all_known(const struct mc_coll *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (i != c->self && !(c->mark[i] & (MC_MARK_HERE | MC_MARK_TOLD)) && !is_down(member(c, i)))
			return false;
	return true;
}

/* A rank that says that it has not called it is surer than one that does not answer. */
static uint32_t first_missing(const struct mc_coll *c)
{
	uint32_t silent = MC_NO_RANK;
	for (uint32_t i = 0; i < c->n; i++) {
		if (i == c->self || (c->mark[i] & MC_MARK_HERE))
			continue;
		if (c->mark[i] & MC_MARK_TOLD)
			return c->peer[i]->id;
		silent = silent == MC_NO_RANK ? c->peer[i]->id : silent;
	}
	return silent;
}

/* Members that have not called it, or do not answer; when all have, the one that a step waits for. */
static uint32_t name_missing(const struct mc_coll *c, char *text, size_t room)
{
	uint32_t first = first_missing(c), n = 0;
	size_t used = 0;
	text[0] = '\0';
	for (uint32_t i = 0; i < c->n; i++) {
		if (i == c->self || (c->mark[i] & MC_MARK_HERE))
			continue;
		if (n++ < 8 && used < room)
			used += (size_t)snprintf(text + used, room - used, " %u (%s%s)", c->peer[i]->id,
						 member(c, i)->role, c->mark[i] & MC_MARK_TOLD ? "" : ", no answer");
	}
	if (first == MC_NO_RANK && c->waiting != 0) {
		first = c->peer[__builtin_ctz(c->waiting)]->id;
		snprintf(text, room, " none; it waits for rank %u", first);
	}
	for (uint32_t i = 0; i < c->step_n && first == MC_NO_RANK; i++) {
		const struct mc_step *s = &c->step[i];
		if (s->kind == MC_STEP_COPY || s->state == MC_STEP_DONE || s->landed)
			continue;
		first = c->peer[s->rank]->id;
		snprintf(text, room, " none; it waits for rank %u", first);
	}
	return first;
}

static void report_missing(struct mc_coll *c)
{
	char text[160], who[110];
	uint32_t first = name_missing(c, who, sizeof(who));
	snprintf(text, sizeof(text), "%s timed out; not there:%s", mc_coll_op_name(c->op), who);
	mc_error("rank %u: %s", c->ctx->rank, text);
	mc_fault_add(c->ctx, first, MC_ERR_TIMEOUT, text);
	mc_coll_fail(c, MC_ERR_TIMEOUT, first, true);
}

/* Peers that do not say that they keep off, or do not read what was sent to them. */
static void declare_lost(struct mc_coll *c)
{
	for (uint32_t i = 0; i < c->step_n; i++) {
		const struct mc_step *s = &c->step[i];
		if (s->kind == MC_STEP_COPY)
			continue;
		if ((s->state == MC_STEP_MOVING && !s->exposed) || (c->mark[s->rank] & MC_MARK_ACK_DUE))
			mc_peer_fail(member(c, s->rank), MC_ERR_PEER_DOWN,
				     "no answer within MC_CANCEL_TIMEOUT to a collective that was given up");
	}
}

/* The alarm of a collective. */
void mc_coll_timeout(struct mc_coll *c, int64_t now)
{
	c->alarm_ns = INT64_MAX;
	if (c->failing != MC_OK) {
		if (c->handled)
			declare_lost(c);
	} else if (now >= c->deadline_ns && !c->grace && !all_known(c)) {
		c->grace = true; /* better a little late than the wrong name */
		mc_coll_alarm(c, now + GRACE_NS);
	} else if (now >= c->deadline_ns) {
		report_missing(c);
	} else {
		ask_members(c);
		mc_coll_alarm(c, c->deadline_ns);
	}
}

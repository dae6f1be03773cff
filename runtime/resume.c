/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resume.c - a peer of another job that was lost though its process lives: the network between the two was cut, and is
 * there again. Ranks of the own job are not met again that way: there the launcher decides who is lost.
 *
 * Whose record stays in the directory longer than a lease after it was lost is alive, and is called again from time to
 * time, by JOIN on a new link. Its answer makes it a peer once more, under its number and with its epoch, but as a new
 * struct mc_peer: what belonged to the old one has ended or is stale, as if it were another process. A session number,
 * drawn by who calls, tells the frames of the new link from those that may still come by an old one.
 *
 * The side that lost the other one calls; so both may. Of two calls that cross each other the later session counts.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "foreign.h"

#define SOON_NS INT64_C(250000000)
#define LATE_NS INT64_C(1000000000) /* after the lease: for the directory to take the record away */

static int64_t random_below(int64_t ns)
{
	return (int64_t)(mc_random_u64() % (uint64_t)ns);
}

/* The peer of that number as it is now, if p is it, or the caller's side of a call to it. */
static struct mc_peer *whose(const struct mc_peer *p)
{
	struct mc_peer *now = mc_peer_get(p->ctx, p->id);
	return now == p || (now != NULL && now->calling == p) ? now : NULL;
}

static void call_at(struct mc_peer *p, int64_t ns)
{
	p->call_ns = ns;
	if (ns < p->ctx->join_timer_ns)
		p->ctx->join_timer_ns = ns;
}

void mc_resume_plan(struct mc_peer *lost)
{
	struct mc_peer *p = lost->job != lost->ctx->job ? whose(lost) : NULL;
	int64_t lease = lost->ctx->cfg.etcd_lease;
	if (p == NULL || p->state != MC_PEER_DOWN || p->left || p->why != MC_ERR_PEER_DOWN || !p->in_dir)
		return;
	call_at(p, mc_now_ns() + lease + LATE_NS + random_below(lease / 4));
}

/* Its record is there, or there anew. */
void mc_resume_soon(struct mc_peer *p)
{
	if (p->state == MC_PEER_DOWN && !p->left && p->why == MC_ERR_PEER_DOWN)
		call_at(p, mc_now_ns() + random_below(SOON_NS));
}

/* Grows, also over what a recorded JOIN may hold. */
static uint64_t session_next(const struct mc_peer *p, uint64_t last)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	uint64_t s = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	last = last > p->session ? last : p->session;
	return s > last ? s : last + 1;
}

static struct mc_peer *call_new(struct mc_peer *p)
{
	struct mc_peer *c = mc_peer_new(p->ctx);
	if (c == NULL || mc_record_parse(p->ctx, p->key, c, p->record, p->record_len) != MC_OK) {
		mc_peer_free(c);
		return NULL;
	}
	c->id = p->id;
	c->call = true;
	mc_list_add_tail(&p->ctx->peers, &c->all);
	mc_foreign_hear(c);
	p->calling = c;
	return c;
}

/* Nobody but us has seen it: it may begin anew. */
static bool call_again(struct mc_peer *c)
{
	if (c->state != MC_PEER_DOWN || !mc_list_empty(&c->flying))
		return false;
	c->state = MC_PEER_IDLE;
	c->why = MC_OK;
	c->link = NULL;
	c->link_next = 0;
	c->refused[0] = '\0';
	return true;
}

static void call(struct mc_peer *p)
{
	struct mc_ctx *ctx = p->ctx;
	struct mc_peer *c = p->calling;
	if (p->state != MC_PEER_DOWN || !p->in_dir || ctx->leaving)
		return;
	if (ctx->foreign->dir != MC_OK || (c != NULL && !call_again(c))) {
		call_at(p, mc_now_ns() + LATE_NS);
		return;
	}
	uint64_t last = c != NULL ? c->session : 0;
	if (c == NULL)
		c = call_new(p);
	if (c == NULL) {
		mc_resume_plan(p);
		return;
	}
	c->session = session_next(p, last);
	c->introduce = true;
	mc_debug("rank %u: peer %u was lost, but its record stays: called again", ctx->rank, p->id);
	(void)mc_peer_start(c); /* if that fails it is buried, and that plans the next call */
}

void mc_resume_timer(struct mc_peer *p, int64_t now)
{
	if (p->call_ns <= now) {
		p->call_ns = INT64_MAX;
		call(p);
	}
	if (p->call_ns < p->ctx->join_timer_ns)
		p->ctx->join_timer_ns = p->call_ns;
}

void mc_resume_end(struct mc_peer *old)
{
	struct mc_peer *c = old->calling;
	old->call_ns = INT64_MAX;
	old->calling = NULL;
	if (c == NULL)
		return;
	mc_foreign_deaf(c);
	mc_peer_fail(c, MC_ERR_CANCELED, "it is met otherwise");
}

/* n, which has the session and is in no table, is that peer from now on. */
static void resumed(struct mc_peer *old, struct mc_peer *n)
{
	char text[200];
	mc_resume_end(old);
	n->in_dir = old->in_dir;
	snprintf(text, sizeof(text), "peer %u (%s, host %s, pid %d) is back: the same process, by a new connection",
		 n->id != MC_NO_RANK ? n->id : old->id, n->role, n->host, n->pid);
	mc_peer_replace(old, n, "it has lost the connection to this rank, and made a new one", text);
	mc_foreign_list(n);
}

void mc_resume_welcomed(struct mc_peer *c)
{
	struct mc_peer *old = whose(c);
	if (old == NULL || old == c)
		return;
	mc_foreign_deaf(c);
	mc_list_del(&c->all);
	old->calling = NULL;
	c->call = false;
	resumed(old, c);
}

struct mc_peer *mc_resume_called(struct mc_peer *n, struct mc_peer *old)
{
	const struct mc_peer *c = old->calling;
	bool crossing = c != NULL && c->state != MC_PEER_DOWN && mc_list_empty(&c->dying) && c->session >= n->session;
	if (crossing || n->session <= old->session) {
		mc_peer_free(n);
		return NULL; /* ours is on its way; or theirs is an old one */
	}
	resumed(old, n);
	return n;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer.c - peers: what they published, how they are reached, and how they are lost.
 *
 *   idle -> connecting -> up -> down
 *
 * Connections are made on first use. Whatever sees a loss marks the peer (mc_peer_fail); mc_peers_bury() takes it down
 * from the progress loop, so that no caller finds its request ended under its hands.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "foreign.h"

struct mc_peer *mc_peer_new(struct mc_ctx *ctx)
{
	struct mc_peer *p = calloc(1, sizeof(*p));
	if (p == NULL)
		return NULL;
	p->ctx = ctx;
	p->id = MC_NO_RANK;
	p->answer_ns = INT64_MAX;
	p->call_ns = INT64_MAX;
	struct mc_list *l[] = {&p->all, &p->dying, &p->txq, &p->flying, &p->reqs, &p->pump, &p->pump_node, &p->failed,
			       &p->held, &p->held_node};
	for (size_t i = 0; i < MC_ARRAY_LEN(l); i++)
		mc_list_init(l[i]);
	return p;
}

void mc_peer_free(struct mc_peer *p)
{
	if (p == NULL)
		return;
	mc_list_del(&p->all);
	free(p->job_name);
	free(p->nic);
	free(p->record);
	free(p);
}

/* From here on it is the peer of that number, for everyone who asks; what it was made of is constant. */
void mc_peer_enter(struct mc_peer *p, uint32_t id)
{
	struct mc_ctx *ctx = p->ctx;
	struct mc_peer *old = mc_peer_get(ctx, id);
	p->id = id;
	mc_list_add_tail(&ctx->peers, &p->all);
	if (id < ctx->size) {
		atomic_store_explicit(&ctx->peer[id], p, memory_order_release);
		atomic_fetch_add(&ctx->member_gen, 1);
	} else {
		mc_foreign_enter(p, old);
	}
	mc_word_bump(ctx, &ctx->peer_seq);
}

/* What the rendezvous has of a rank. MC_ERR_BOOT: nothing. */
static mc_status_t load_record(struct mc_ctx *ctx, uint32_t rank, const void *own, uint32_t own_len, struct mc_peer *p)
{
	const void *blob = own;
	uint32_t len = own_len;
	mc_status_t s = rank == ctx->rank ? MC_OK : ctx->boot_ops->get(ctx->boot, rank, &blob, &len);
	if (s != MC_OK)
		return s;
	s = mc_record_parse(ctx, &ctx->key, p, blob, len);
	if (s == MC_OK && (p->job != ctx->job || p->rank != rank))
		s = MC_ERR_PROTO;
	if (s == MC_ERR_AUTH)
		mc_error("rank %u: the record of rank %u is not signed with this job's key: refused; do all ranks have "
			 "the same MC_JOB_KEY?",
			 ctx->rank, rank);
	else if (s == MC_ERR_PROTO)
		mc_error("rank %u: the record of rank %u (%u bytes) is malformed or of another version of mc",
			 ctx->rank, rank, len);
	return s;
}

mc_status_t mc_peers_load(struct mc_ctx *ctx, const void *own, uint32_t own_len)
{
	bool again = ctx->boot_info.again > 0;
	uint32_t found_n = 0;
	ctx->peer = calloc(ctx->size, sizeof(*ctx->peer));
	if (ctx->peer == NULL)
		return MC_ERR_NOMEM;
	for (uint32_t i = 0; i < ctx->size; i++) {
		struct mc_peer *p = mc_peer_new(ctx);
		if (p == NULL)
			return MC_ERR_NOMEM;
		mc_status_t s = load_record(ctx, i, own, own_len, p);
		if (s == MC_ERR_BOOT && again) {
			/* It died, or will join us: the others do not wait for it. */
			mc_info("rank %u: the launcher has no record of rank %u", ctx->rank, i);
			p->rank = i;
			p->job = ctx->job;
			p->key = &ctx->key;
			p->state = MC_PEER_DOWN;
			p->why = MC_ERR_PEER_DOWN;
		} else if (s != MC_OK) {
			mc_peer_free(p);
			return s;
		}
		found_n += s == MC_OK;
		p->introduce = again && i != ctx->rank;
		mc_peer_enter(p, i);
	}
	ctx->self = mc_peer_get(ctx, ctx->rank);
	if (found_n > 1 || ctx->size == 1)
		return MC_OK;
	mc_error("rank %u: started again, but the launcher has no record of any other rank; PMIx servers keep them for "
		 "that "
		 "only with PMIX_MCA_gds=hash in the environment of the launcher",
		 ctx->rank);
	return MC_ERR_BOOT;
}

void mc_peers_free(struct mc_ctx *ctx)
{
	struct mc_list *at;
	while ((at = mc_list_pop(&ctx->peers)) != NULL) {
		struct mc_peer *p = mc_peer_of_node(at);
		struct mc_list *l;
		mc_failed_clear(p);
		mc_dir_peer_down(p);
		while ((l = mc_list_pop(&p->flying)) != NULL) /* the backends are closed: nobody reads them any more */
			mc_tx_put(mc_container_of(l, struct mc_tx, node));
		while ((l = mc_list_pop(&p->txq)) != NULL || (l = mc_list_pop(&p->held)) != NULL)
			mc_tx_put(mc_container_of(l, struct mc_tx, node));
		mc_peer_free(p);
	}
	free(ctx->peer);
	ctx->peer = NULL;
}

mc_status_t mc_peer_start(struct mc_peer *p)
{
	if (p->state == MC_PEER_DOWN)
		return p->why;
	if (p->state != MC_PEER_IDLE || !mc_list_empty(&p->dying))
		return mc_list_empty(&p->dying) ? MC_OK : p->dying_why;
	mc_status_t s = mc_link_next(p);
	if (s == MC_OK && p->introduce)
		mc_join_send(p);
	return s;
}

void mc_fault_add(struct mc_ctx *ctx, uint32_t peer, mc_status_t s, const char *text)
{
	if (ctx->fault_n == MC_FAULTS_KEPT)
		return; /* every one was logged; the program does not ask */
	struct mc_fault_node *f = calloc(1, sizeof(*f));
	if (f == NULL)
		return;
	f->fault.size = sizeof(f->fault);
	f->fault.peer = peer;
	f->fault.status = s;
	snprintf(f->fault.text, sizeof(f->fault.text), "%s", text);
	mc_list_add_tail(&ctx->faults, &f->node);
	ctx->fault_n++;
}

void mc_peer_fail(struct mc_peer *p, mc_status_t why, const char *fmt, ...)
{
	if (p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying))
		return;
	char text[640], line[880];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "peer %u (%s, host %s, pid %d) is lost: %s", p->id, p->role, p->host, p->pid,
		 text);
	if (p->call) {
		mc_debug("rank %u: called again, %s", p->ctx->rank, line);
	} else if (!p->ctx->leaving && !p->left) {
		mc_warn("rank %u: %s", p->ctx->rank, line);
		mc_fault_add(p->ctx, p->id, why, line);
	}
	p->dying_why = why;
	mc_list_add_tail(&p->ctx->dying, &p->dying);
	p->ctx->stale_arm = true;
}

void mc_peer_leave(struct mc_peer *p)
{
	if (p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying))
		return;
	mc_debug("rank %u: peer %u left", p->ctx->rank, p->id);
	p->left = true;
	p->dying_why = MC_ERR_PEER_DOWN;
	mc_list_add_tail(&p->ctx->dying, &p->dying);
}

static void fail_requests(struct mc_peer *p)
{
	struct mc_list *l, *next;
	for (l = p->reqs.next; l != &p->reqs; l = next) {
		next = l->next;
		struct mc_req *r = mc_container_of(l, struct mc_req, node);
		r->unacked = 0;
		mc_req_fail(r, p->why);
	}
}

static void bury(struct mc_peer *p)
{
	struct mc_ctx *ctx = p->ctx;
	p->why = p->dying_why;
	p->state = MC_PEER_DOWN;
	if (p->ep != NULL)
		p->link->ops->ep_close(p->link->be, p->ep);
	p->ep = NULL;
	p->packed_out = 0;
	p->bye_sent = false;
	p->answer_ns = INT64_MAX;
	mc_tx_fail_all(p, p->why);
	fail_requests(p);
	mc_failed_clear(p);
	mc_dir_peer_down(p);
	mc_arrivals_peer_down(p);
	mc_foreign_lost(p);
	mc_resume_plan(p);
	mc_word_bump(ctx, &ctx->peer_seq);
	mc_word_bump(ctx, &ctx->coll_seq);
}

void mc_peers_bury(struct mc_ctx *ctx)
{
	struct mc_list *l;
	while ((l = mc_list_pop(&ctx->dying)) != NULL)
		bury(mc_container_of(l, struct mc_peer, dying));
	ctx->stale_arm = true;
}

mc_status_t mc_fault_next(struct mc_ctx *ctx, struct mc_fault *out)
{
	if (out == NULL || out->size != sizeof(*out))
		return MC_ERR_INVAL;
	mc_ctx_lock(ctx);
	struct mc_list *l = mc_list_pop(&ctx->faults);
	if (l != NULL)
		ctx->fault_n--;
	mc_ctx_unlock(ctx);
	if (l == NULL)
		return MC_ERR_AGAIN;
	struct mc_fault_node *f = mc_container_of(l, struct mc_fault_node, node);
	*out = f->fault;
	free(f);
	return MC_OK;
}

static mc_status_t public_state(const struct mc_peer *p)
{
	if (p->state == MC_PEER_DOWN)
		return p->why;
	if (!mc_list_empty(&p->dying))
		return p->dying_why;
	return p->state == MC_PEER_UP ? MC_OK : MC_IN_PROGRESS;
}

mc_status_t mc_peer_query(struct mc_ctx *ctx, uint32_t peer, struct mc_peer_info *out)
{
	struct mc_peer *p = mc_peer_get(ctx, peer);
	if (p == NULL || out == NULL || out->size != sizeof(*out))
		return MC_ERR_INVAL;
	mc_ctx_lock(ctx);
	out->peer = peer;
	out->epoch = p->epoch;
	snprintf(out->job, sizeof(out->job), "%s", p->job_name != NULL ? p->job_name : ctx->job_name);
	out->rank = p->rank;
	memcpy(out->role, p->role, sizeof(out->role));
	memcpy(out->host, p->host, sizeof(out->host));
	memcpy(out->link, p->link_text, sizeof(out->link));
	memcpy(out->link_reason, p->refused, sizeof(out->link_reason));
	out->pid = p->pid;
	out->same_node = p->host_id == ctx->host_id;
	out->state = public_state(p);
	out->tx_bytes = p->tx_bytes;
	out->rx_bytes = p->rx_bytes;
	out->tx_slices = p->tx_slices;
	out->tx_merged = p->tx_merged;
	out->tx_msgs = p->tx_msgs;
	out->rx_msgs = p->rx_msgs;
	mc_ctx_unlock(ctx);
	return MC_OK;
}

struct connect_wait {
	struct mc_peer *p;
	uint64_t ping;
};

static bool echoed(void *arg)
{
	struct connect_wait *c = arg;
	mc_ctx_lock(c->p->ctx);
	bool done = c->p->pongs >= c->ping || c->p->state == MC_PEER_DOWN;
	mc_ctx_unlock(c->p->ctx);
	return done;
}

/* An echo proves the way there and back. */
mc_status_t mc_connect(struct mc_ctx *ctx, uint32_t peer, int64_t timeout_ns)
{
	struct connect_wait c = {.p = mc_peer_get(ctx, peer)};
	if (c.p == NULL)
		return MC_ERR_INVAL;
	mc_ctx_lock(ctx);
	mc_status_t s = mc_peer_start(c.p);
	struct mc_tx *tx = s == MC_OK ? mc_tx_get(c.p, MC_MSG_PING, false) : NULL;
	if (tx != NULL) {
		struct mc_wr w;
		c.ping = ++c.p->pings;
		mc_tx_body(tx, &w);
		mc_wr_u64(&w, c.ping);
		mc_tx_send(tx, &w);
	} else if (s == MC_OK) {
		s = MC_ERR_NOMEM;
	}
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
	if (s != MC_OK)
		return s;
	s = mc_wait_until(ctx, echoed, &c, &ctx->peer_seq, mc_deadline(mc_now_ns(), timeout_ns));
	mc_ctx_lock(ctx);
	if (s == MC_OK && c.p->state == MC_PEER_DOWN && c.p->pongs < c.ping)
		s = c.p->why;
	mc_ctx_unlock(ctx);
	return s;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * join.c - processes that come later: a rank that was started again, a rank of another job.
 *
 * Who is not sure to be known introduces itself: the first message on its link is JOIN, with its own record. The other
 * side puts that incarnation in the place of the one it knew, which is lost from then on with all that belonged to it,
 * and answers with WELCOME; to a rank of this job also with the records of the other ranks that were started again, so
 * that two of them meet. Who gets no WELCOME in time talks to a record whose process is no more.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "foreign.h"

enum { NOISE_PER_S = 5 };

/* ---- incarnations ---- */

static bool was_known(const struct mc_ctx *ctx, const struct mc_peer *n)
{
	for (const struct mc_list *l = ctx->peers.next; l != &ctx->peers; l = l->next) {
		const struct mc_peer *p = mc_container_of(l, const struct mc_peer, all);
		if (p != n && p->epoch == n->epoch && p->rank == n->rank && p->job == n->job)
			return true;
	}
	return false;
}

/* Counted by the launcher within a job; by the clock where that does not tell. */
static bool is_newer(const struct mc_peer *n, const struct mc_peer *old)
{
	if (n->job == old->job && n->again != old->again)
		return n->again > old->again;
	return n->born > old->born;
}

void mc_peer_replace(struct mc_peer *old, struct mc_peer *n, const char *why, const char *text)
{
	struct mc_ctx *ctx = n->ctx;
	/* Of a process of another job that this one never talked to nothing is lost. */
	bool met = old->job == ctx->job || old->state != MC_PEER_IDLE;
	old->left = old->left || !met;
	mc_peer_fail(old, MC_ERR_PEER_DOWN, "%s", why);
	mc_foreign_lost(old);
	mc_resume_end(old);
	mc_peer_enter(n, old->id);
	/* Nobody connects to the old one any more. */
	memset(old->addr, 0, sizeof(old->addr));
	free(old->record);
	old->record = NULL;
	mc_info("rank %u: %s", ctx->rank, text);
	if (met)
		mc_fault_add(ctx, n->id, MC_OK, text);
	ctx->stale_arm = true;
}

struct mc_peer *mc_peer_meet(struct mc_peer *n, struct mc_peer *old, bool sure)
{
	char text[160];
	if (old->epoch == n->epoch && n->session != old->session && n->session != 0)
		return mc_resume_called(n, old);
	if (old->epoch == n->epoch || was_known(n->ctx, n) || (!sure && !is_newer(n, old))) {
		bool same = old->epoch == n->epoch;
		mc_peer_free(n);
		return same ? old : NULL;
	}
	snprintf(text, sizeof(text), "peer %u (%s, host %s, pid %d) is back: a new process, start %u", old->id, n->role,
		 n->host, n->pid, n->again);
	mc_peer_replace(old, n, "its process was started again", text);
	return n;
}

/* ---- introducing oneself ---- */

static bool send_blob(struct mc_peer *p, enum mc_msg_kind kind, const void *blob, uint32_t len)
{
	struct mc_tx *tx = mc_tx_get(p, kind, true);
	if (tx == NULL)
		return false;
	struct mc_wr w;
	mc_tx_body(tx, &w);
	mc_wr_blob(&w, blob, len);
	mc_tx_send(tx, &w);
	return true;
}

/* The first message of a link. */
void mc_join_send(struct mc_peer *p)
{
	struct mc_ctx *ctx = p->ctx;
	uint32_t len;
	uint8_t *buf = malloc(MC_RECORD_MAX);
	p->introduce = false;
	if (buf == NULL || mc_record_make(ctx, p->key, buf, MC_RECORD_MAX, &len) != MC_OK ||
	    !send_blob(p, MC_MSG_JOIN, buf, len)) {
		mc_peer_fail(p, MC_ERR_NOMEM, "no memory to introduce this rank to it");
	} else {
		p->answer_ns = mc_deadline(mc_now_ns(), ctx->cfg.join_timeout);
		if (p->answer_ns < ctx->join_timer_ns)
			ctx->join_timer_ns = p->answer_ns;
	}
	free(buf);
}

void mc_join_timers(struct mc_ctx *ctx, int64_t now)
{
	ctx->join_timer_ns = INT64_MAX;
	for (struct mc_list *l = ctx->peers.next; l != &ctx->peers; l = l->next) {
		struct mc_peer *p = mc_peer_of_node(l);
		if (p->answer_ns <= now) {
			p->answer_ns = INT64_MAX;
			mc_peer_fail(p, MC_ERR_PEER_DOWN,
				     "no answer within MC_JOIN_TIMEOUT: its process has ended, or does not run");
		} else if (p->answer_ns < ctx->join_timer_ns) {
			ctx->join_timer_ns = p->answer_ns;
		}
		mc_resume_timer(p, now);
	}
}

/* A rank that was started again tells everyone, without waiting for anyone. */
void mc_join_all(struct mc_ctx *ctx)
{
	if (ctx->boot_info.again == 0)
		return;
	mc_ctx_lock(ctx);
	for (uint32_t i = 0; i < ctx->size; i++)
		if (i != ctx->rank)
			(void)mc_peer_start(
				mc_peer_get(ctx, i)); /* who cannot be reached is reported as any lost peer */
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
}

/* ---- being met ---- */

/* The record in a message, as a peer that is in no table yet; NULL: refused. */
static struct mc_peer *peer_from(struct mc_ctx *ctx, const struct mc_mac_key *key, const void *rec, uint32_t len)
{
	struct mc_peer *n = mc_peer_new(ctx);
	mc_status_t s = n == NULL ? MC_ERR_NOMEM : mc_record_parse(ctx, key, n, rec, len);
	if (s == MC_OK)
		return n;
	if (mc_ratelimit_ok(&ctx->noise, NOISE_PER_S))
		mc_warn("rank %u: a process introduces itself with a record of %u bytes that is refused: %s", ctx->rank,
			len, mc_status_text(s));
	mc_peer_free(n);
	return NULL;
}

static void welcome(struct mc_peer *p)
{
	struct mc_ctx *ctx = p->ctx;
	send_blob(p, MC_MSG_WELCOME, NULL, 0);
	for (uint32_t i = 0; i < ctx->size && p->job == ctx->job; i++) {
		const struct mc_peer *q = mc_peer_get(ctx, i);
		if (q->again > 0 && q != p && q != ctx->self && q->state != MC_PEER_DOWN && q->record != NULL)
			send_blob(p, MC_MSG_WELCOME, q->record, q->record_len);
	}
}

/* Is it who sent that frame, and can it be? */
static bool is_sender(const struct mc_peer *n, const struct mc_frame *f)
{
	const struct mc_ctx *ctx = n->ctx;
	uint32_t size = n->job == ctx->job ? ctx->size : MC_FOREIGN_RANK_MAX;
	return n->job == f->job && n->rank == f->src_rank && n->rank < size &&
	       (n->job != ctx->job || (n->rank != ctx->rank && n->session == 0));
}

void mc_on_join(struct mc_ctx *ctx, const struct mc_frame *f, struct mc_rd *r)
{
	bool own = f->job == ctx->job;
	const struct mc_mac_key *key = own ? &ctx->key : mc_foreign_key(ctx, f);
	uint32_t len;
	const void *rec = mc_rd_blob(r, &len, MC_RECORD_MAX);
	if (key == NULL || !mc_rd_end(r) || ctx->leaving)
		return;
	struct mc_peer *n = peer_from(ctx, key, rec, len);
	if (n == NULL)
		return;
	n->session = f->src_epoch ^ n->epoch;
	if (f->dst_epoch != (ctx->epoch ^ n->session)) {
		mc_peer_free(n);
		return; /* damaged, or meant for an earlier incarnation of this rank: its sender gives up in time */
	}
	if (!is_sender(n, f)) {
		mc_debug("rank %u: JOIN of a rank %u that there is not, or of another than its sender: dropped",
			 ctx->rank, n->rank);
		mc_peer_free(n);
		return;
	}
	struct mc_peer *p =
		own ? mc_peer_meet(n, mc_peer_get(ctx, n->rank), false) : mc_foreign_meet(ctx->foreign, n, false);
	if (p == NULL || p->state == MC_PEER_DOWN || !mc_list_empty(&p->dying))
		return;
	p->introduce = false; /* it knows us */
	p->rx_msgs++;
	welcome(p);
}

void mc_on_welcome(struct mc_peer *p, struct mc_rd *r)
{
	struct mc_ctx *ctx = p->ctx;
	uint32_t len;
	const void *rec = mc_rd_blob(r, &len, MC_RECORD_MAX);
	p->answer_ns = INT64_MAX;
	if (p->call)
		mc_resume_welcomed(p);
	if (rec == NULL || len == 0 || p->job != ctx->job || ctx->leaving)
		return;
	struct mc_peer *n = peer_from(ctx, &ctx->key, rec, len);
	if (n == NULL)
		return;
	struct mc_peer *old = n->job == ctx->job ? mc_peer_get(ctx, n->rank) : NULL;
	if (old == NULL || old == ctx->self) {
		mc_peer_free(n);
		return;
	}
	n->introduce = true;
	if (mc_peer_meet(n, old, false) == n)
		(void)mc_peer_start(n);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.h - what internal.h declares of peers: who they are, how they are reached, met and lost. For internal.h only. */
#ifndef MC_PEER_H
#define MC_PEER_H

/* peer.c */
mc_status_t mc_peers_load(struct mc_ctx *ctx, const void *own, uint32_t own_len); /* read all published records */
struct mc_peer *mc_peer_new(struct mc_ctx *ctx);                                  /* in no table yet */
void mc_peer_enter(struct mc_peer *p, uint32_t id);                               /* is that peer from now on */
void mc_peer_free(struct mc_peer *p); /* one that was not entered, or at the end */
void mc_peers_free(struct mc_ctx *ctx);
mc_status_t mc_peer_start(struct mc_peer *p); /* idle -> connecting; MC_OK also when further on */
void mc_peer_fail(struct mc_peer *p, mc_status_t why, const char *fmt, ...) MC_PRINTF(3, 4); /* logs, reports, marks */
void mc_peer_leave(struct mc_peer *p);                                                       /* it said goodbye */
void mc_peers_bury(struct mc_ctx *ctx);                       /* take down what is marked */
struct mc_peer *mc_foreign_get(const struct mc_foreign *f, uint32_t i); /* foreign.c: the same, of other jobs */
/* As it is now; NULL: no such; also without the lock. */
static inline struct mc_peer *mc_peer_get(struct mc_ctx *ctx, uint32_t id)
{
	if (id < ctx->size)
		return atomic_load_explicit(&ctx->peer[id], memory_order_acquire);
	return ctx->foreign != NULL ? mc_foreign_get(ctx->foreign, id - ctx->size) : NULL;
}
static inline struct mc_peer *mc_peer_of_node(struct mc_list *node)
{
	return mc_container_of(node, struct mc_peer, all);
}
void mc_fault_add(struct mc_ctx *ctx, uint32_t peer, mc_status_t s, const char *text);

/* record.c */
mc_status_t mc_record_make(struct mc_ctx *ctx, const struct mc_mac_key *key, void *buf, uint32_t room,
			   uint32_t *len_out);
/* Fills in a new peer, which owns a copy of the record, also after an error. MC_ERR_AUTH, MC_ERR_PROTO, MC_ERR_NOMEM.
 */
mc_status_t mc_record_parse(struct mc_ctx *ctx, const struct mc_mac_key *key, struct mc_peer *p, const void *buf,
			    uint32_t len);

/* join.c */
void mc_join_all(struct mc_ctx *ctx); /* after init: a rank that was started again introduces itself */
void mc_join_send(struct mc_peer *p);
void mc_join_timers(struct mc_ctx *ctx, int64_t now);
/*
 * n, new and in no table, is what a record says of the peer old. sure: it is the latest, whatever the clocks say. Takes
 * n. Returns who that peer is from now on: n or old; NULL: n was an earlier incarnation.
 */
struct mc_peer *mc_peer_meet(struct mc_peer *n, struct mc_peer *old, bool sure);
void mc_on_join(struct mc_ctx *ctx, const struct mc_frame *f, struct mc_rd *r);
void mc_on_welcome(struct mc_peer *p, struct mc_rd *r);

/* Both are the peer of that number; old is lost from here on, and why is told unless it left. text: told of n. */
void mc_peer_replace(struct mc_peer *old, struct mc_peer *n, const char *why, const char *text);

/* resume.c */
void mc_resume_plan(struct mc_peer *lost);
void mc_resume_soon(struct mc_peer *p);
void mc_resume_timer(struct mc_peer *p, int64_t now);
void mc_resume_end(struct mc_peer *old);    /* it is met otherwise: nobody calls it */
void mc_resume_welcomed(struct mc_peer *c); /* the answer to a call */
/* A JOIN with a session: n, new and in no table, says that it is that process. Takes n; NULL: nothing comes of it. */
struct mc_peer *mc_resume_called(struct mc_peer *n, struct mc_peer *old);

/* link.c */
bool mc_link_ready(const struct mc_peer *p); /* messages and posts may be handed to it */
mc_status_t mc_link_next(struct mc_peer *p); /* try the backends that were not tried yet; p is lost if none is left */
void mc_link_up(struct mc_peer *p, const struct mc_be_slot *slot);
void mc_link_down(struct mc_peer *p, struct mc_be_slot *slot, const struct mc_be_event *ev);

/* nic.c */
int32_t mc_nic_home(void);
mc_status_t mc_nics_choose(struct mc_ctx *ctx); /* once; MC_ERR_CONFIG: MC_DEVICE, MC_NEAR (logged) */
void mc_nics_free(struct mc_ctx *ctx);
void mc_nics_write(const struct mc_ctx *ctx, struct mc_wr *w); /* those in use, for the record */
void mc_nics_read(struct mc_peer *p, struct mc_rd *r);
void mc_nics_compare(const struct mc_peer *p, char *out, size_t room); /* ours and the peer's, for people */

/* foreign.c, kv_pool.c */
void mc_foreign_publish(struct mc_ctx *ctx); /* what other jobs may know has changed; under the lock */
void mc_kv_pools_info(struct mc_ctx *ctx, char *buf, size_t len); /* JSON for people: this rank and its pools */

#endif

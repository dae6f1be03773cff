/* SPDX-License-Identifier: BSD-3-Clause */
/* head_priv.h - shared by head.c (who is connected), head_talk.c (what they say), head_pmix.c (what they exchange). */
#ifndef MCRUN_HEAD_PRIV_H
#define MCRUN_HEAD_PRIV_H

#include "head.h"
#include "loop.h"

#define MC_WINDOW    (1u << 20)         /* bytes of output that an agent may send before it is asked for more */
#define MC_MEET_NS   (10 * MC_NS_PER_S) /* for a connection to prove that it is an agent */
#define MC_GUEST_MAX 128

/* A connection; a guest until it has said which agent it is. */
struct conn {
	struct mc_source src;
	struct mc_head *h;
	struct mc_link *link;
	struct member *member; /* NULL: guest */
	int64_t since;
	uint32_t armed; /* events that it waits for */
	bool closed;    /* freed at the end of the turn */
	struct conn *next;
};

struct member {
	struct conn *conn; /* NULL: not here yet, or lost */
	uint32_t index;    /* host, or rank */
	char host[256];    /* as it calls itself */
	bool came, lost, empty, dismissed;
	int64_t heard_at;
	uint64_t owed; /* bytes of output taken since the last OUT_ROOM */
};

struct mc_head {
	struct mc_head_cfg cfg;
	const struct mc_engine_cfg *e;
	int epoll, timer;
	struct mc_source listen, tick, in;
	char *where, *nspace, *cwd;
	const char *key_text;
	uint8_t key[MC_LINK_KEY_BYTES];
	struct conn *conns;
	uint32_t guest_n;
	struct member *member; /* [member_n] */
	uint32_t member_n, came_n, linked_n;
	bool *ended; /* [rank_n]: its end has been told */
	bool clearing, empty_told, suspended;
	int64_t ticked_at;
	struct mc_engine_event *queue;
	size_t queue_n, queue_at;
	uint64_t stdin_room;
	char stdin_buf[32768];
	bool stdin_open, stdin_always; /* always: a file, which no epoll takes */
	struct mc_exchange *exchange;
};

/* head.c */
struct member *mc_head_member_of(struct mc_head *h, uint32_t rank);
void mc_head_tell(struct member *m, const struct mc_talk *t);
void mc_head_tell_all(struct mc_head *h, const struct mc_talk *t);
void mc_head_lose(struct mc_head *h, struct member *m, const char *why);
/* head_talk.c */
/* False: it says what no agent says. */
bool mc_head_hear(struct conn *c, const uint8_t *p, size_t n);
void mc_head_check_empty(struct mc_head *h);
/* head_pmix.c */
struct mc_exchange *mc_exchange_create(struct mc_head *h);
void mc_exchange_free(struct mc_exchange *x);
void mc_exchange_hear(struct mc_exchange *x, struct member *m, const struct mc_talk *t);
void mc_exchange_rank_ended(struct mc_exchange *x);             /* somebody less to wait for */
void mc_exchange_lost(struct mc_exchange *x, struct member *m); /* its questions and answers are void */

#endif

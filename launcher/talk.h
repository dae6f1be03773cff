/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * talk.h - what mcrun and its agents tell each other, once link.h has made sure that it is them. Format: docs/WIRE.md.
 * A message is a kind and the fields that the table in talk.c lists for it. Readers have a sticky error.
 */
#ifndef MCRUN_TALK_H
#define MCRUN_TALK_H

#include "hosts.h"

#define MC_TALK_VERSION 1
#define MC_TALK_TEXT    200

/* Growing writer. */
struct mc_enc {
	uint8_t *p;
	size_t n, room;
};
void mc_enc_u8(struct mc_enc *b, uint8_t v);
void mc_enc_u32(struct mc_enc *b, uint32_t v);
void mc_enc_u64(struct mc_enc *b, uint64_t v);
void mc_enc_bytes(struct mc_enc *b, const void *p, size_t n);
void mc_enc_str(struct mc_enc *b, const char *s); /* u32 length, bytes */
void mc_enc_strv(struct mc_enc *b, const struct mc_strv *s);
void mc_enc_free(struct mc_enc *b);

struct mc_dec {
	const uint8_t *p, *end;
	bool bad;
};
uint8_t mc_dec_u8(struct mc_dec *t);
uint32_t mc_dec_u32(struct mc_dec *t);
uint64_t mc_dec_u64(struct mc_dec *t);
const uint8_t *mc_dec_bytes(struct mc_dec *t, size_t n); /* borrowed; NULL when short */
char *mc_dec_str(struct mc_dec *t);                      /* the caller's to free; NULL when bad */
void mc_dec_strv(struct mc_dec *t, struct mc_strv *out, uint32_t max);
uint32_t mc_dec_count(struct mc_dec *t, size_t least); /* of elements with at least so many bytes each */
bool mc_dec_end(const struct mc_dec *t);               /* no error and nothing left over */

enum mc_talk_kind {
	/* agent to head */
	MC_TALK_HELLO = 1,  /* code: MC_TALK_VERSION, rank: which agent, pid, text: its host, data: version of mc */
	MC_TALK_EVENT,      /* stream: enum mc_engine_event_kind, rank, victim, code, pid, text */
	MC_TALK_OUTPUT,     /* rank, stream 0 or 1, data */
	MC_TALK_OUTPUT_END, /* rank, stream */
	MC_TALK_SAY,        /* text: a line of the agent's own */
	MC_TALK_STDIN_ROOM, /* rank, id: so many bytes more */
	MC_TALK_FENCE,      /* id, key: which ranks take part, victim: how many fences of these were before, data */
	MC_TALK_MODEX,      /* id, rank: whose data */
	MC_TALK_MODEX_DATA, /* id, code, data: answer to MODEX_ASK */
	MC_TALK_PUBLISH,    /* id, rank: from, data */
	MC_TALK_LOOKUP,     /* id, data */
	MC_TALK_UNPUBLISH,  /* id, rank: from, data */
	/* head to agent */
	MC_TALK_JOB = 64,  /* data: struct mc_spec */
	MC_TALK_SIGNAL,    /* rank, code: which signal */
	MC_TALK_GONE,      /* rank, code, victim: 1 if it died */
	MC_TALK_RESTART,   /* rank, victim: how often it died */
	MC_TALK_SETTLE,    /* code: signal */
	MC_TALK_CLEAR,     /* - */
	MC_TALK_BYE,       /* text: why, if there is anything to say */
	MC_TALK_OUT_ROOM,  /* id: so many bytes of output more */
	MC_TALK_STDIN,     /* rank, data; none: the end */
	MC_TALK_FENCED,    /* id, code, data */
	MC_TALK_MODEX_ASK, /* id, rank */
	MC_TALK_MODEXED,   /* id, code, data */
	MC_TALK_PUBLISHED, /* id, code: answer to PUBLISH and UNPUBLISH */
	MC_TALK_FOUND,     /* id, code, data */
	/* both ways */
	MC_TALK_BEAT = 128, /* - */
};

struct mc_talk {
	uint8_t kind, stream;
	uint32_t rank, victim;
	int32_t code, pid;
	uint64_t id, key;
	char text[MC_TALK_TEXT];
	const uint8_t *data; /* [data_n], borrowed */
	size_t data_n;
};

void mc_talk_write(struct mc_enc *b, const struct mc_talk *m);
/* False: not a message of ours. What a kind does not carry is zero. */
bool mc_talk_read(const uint8_t *p, size_t n, struct mc_talk *m);

/* What an agent needs to know of the job. */
struct mc_spec {
	struct mc_job job;
	struct mc_strv *env; /* [job.role_n] */
	struct mc_hosts hosts;
	uint32_t self; /* index into hosts */
	uint32_t only; /* the one rank of an agent that stands before a rank; UINT32_MAX: all of this host */
	bool detach;   /* leave the engine that started the agent */
	char *nspace;  /* of PMIx */
	char *cwd;
	int64_t beat_ns;
};
void mc_spec_write(struct mc_enc *b, const struct mc_spec *s);
/* On false nothing needs to be freed. */
bool mc_spec_read(const uint8_t *p, size_t n, struct mc_spec *out);
void mc_spec_free(struct mc_spec *s);

#endif

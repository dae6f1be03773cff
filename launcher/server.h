/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.h - the embedded PMIx server: one job, those of its ranks that are on this host. One per process (a limit of
 * libpmix). What concerns ranks on other hosts comes out as events and goes in as answers.
 */
#ifndef MCRUN_SERVER_H
#define MCRUN_SERVER_H

#include "hosts.h"

struct mc_server;

struct mc_server_cfg {
	const struct mc_job *job;
	const char *job_name; /* the PMIx namespace: unguessable, since it is half of what a client must know */
	const char *host;
	const char *tmpdir;
	const struct mc_hosts *hosts; /* NULL: all ranks are here */
	uint32_t self;                /* this host in it */
};

enum mc_server_event_kind {
	MC_SERVER_JOINED, /* rank has called PMIx_Init */
	MC_SERVER_LEFT,   /* rank has called PMIx_Finalize */
	MC_SERVER_ABORT,  /* rank has called PMIx_Abort: code, text; victim */
	/* only with hosts; the receiver frees data */
	MC_SERVER_FENCE,      /* id, key, seq, data: [n] ranks that take part (none: all), then the blob */
	MC_SERVER_MODEX,      /* id, rank: whose data a rank here asks for */
	MC_SERVER_MODEX_DATA, /* id, code, data: answer to mc_server_modex_ask() */
	MC_SERVER_PUBLISH,    /* id, rank, data */
	MC_SERVER_LOOKUP,     /* id, data */
	MC_SERVER_UNPUBLISH,  /* id, rank, data */
};

struct mc_server_event {
	enum mc_server_event_kind kind;
	uint32_t rank;
	int code;
	char text[200];
	uint32_t victim; /* rank to end, UINT32_MAX: all; one event per victim */
	uint64_t id, key;
	uint32_t seq; /* how many fences of the same ranks were before */
	uint8_t *data;
	size_t data_n;
};

/* Call with the signals blocked that mcrun handles: libpmix starts a thread. */
int mc_server_start(const struct mc_server_cfg *cfg, struct mc_server **server_out, struct mc_err *err);
int mc_server_fd(const struct mc_server *s); /* readable: mc_server_next() has something */
bool mc_server_next(struct mc_server *s, struct mc_server_event *ev);
/* What a rank needs in its environment to find the server; again: another process had the rank before. NULL: failed,
 * sentence written. */
int mc_server_rank_env(struct mc_server *s, uint32_t rank, bool again, struct mc_strv *env, struct mc_err *err);
/* A rank's process is gone; dead: it had not left, so tell the others (PMIX_ERR_PROC_ABORTED). */
void mc_server_rank_gone(struct mc_server *s, uint32_t rank, int code, bool dead);

/* Answers to the events of these names; one that comes too late is dropped. */
void mc_server_fenced(struct mc_server *s, uint64_t id, int status, const uint8_t *data, size_t n);
void mc_server_modexed(struct mc_server *s, uint64_t id, int status, const uint8_t *data, size_t n);
void mc_server_published(struct mc_server *s, uint64_t id, int status); /* also of unpublish */
void mc_server_found(struct mc_server *s, uint64_t id, int status, const uint8_t *data, size_t n);
/* Another host asks for what a rank of this one has put. */
void mc_server_modex_ask(struct mc_server *s, uint64_t id, uint32_t rank);
/* End what was asked with a deadline that has passed. */
void mc_server_expire(struct mc_server *s, int64_t now_ns);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* server.h - the embedded PMIx server: one job, all of its ranks on this host. One per process (a limit of libpmix). */
#ifndef MCRUN_SERVER_H
#define MCRUN_SERVER_H

#include "jobspec.h"

struct mc_server;

struct mc_server_cfg {
	const struct mc_job *job;
	const char *job_name; /* the PMIx namespace: unguessable, since it is half of what a client must know */
	const char *host;
	const char *tmpdir;
};

enum mc_server_event_kind {
	MC_SERVER_JOINED, /* rank has called PMIx_Init */
	MC_SERVER_LEFT,   /* rank has called PMIx_Finalize */
	MC_SERVER_ABORT,  /* rank has called PMIx_Abort: code, text; victim */
};

struct mc_server_event {
	enum mc_server_event_kind kind;
	uint32_t rank;
	int code;
	char text[200];
	uint32_t victim; /* rank to end, UINT32_MAX: all; one event per victim */
};

/* Call with the signals blocked that mcrun handles: libpmix starts a thread. */
int mc_server_start(const struct mc_server_cfg *cfg, struct mc_server **server_out, struct mc_err *err);
int mc_server_fd(const struct mc_server *s); /* readable: mc_server_next() has something */
bool mc_server_next(struct mc_server *s, struct mc_server_event *ev);
/* What a rank needs in its environment to find the server. NULL: failed, sentence written. */
int mc_server_rank_env(struct mc_server *s, uint32_t rank, struct mc_strv *env, struct mc_err *err);
/* A rank's process is gone; dead: it had not left, so tell the others (PMIX_ERR_PROC_ABORTED). */
void mc_server_rank_gone(struct mc_server *s, uint32_t rank, int code, bool dead);

#endif

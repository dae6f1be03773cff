/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.h - who starts the ranks. The loop in run.c decides what a death, a signal or a deadline means; an engine only
 * starts, signals and reports. Engines are rows of one table.
 */
#ifndef MCRUN_ENGINE_H
#define MCRUN_ENGINE_H

#include "bind.h"
#include "hosts.h"
#include "output.h"
#include "server.h"

#define MC_RANK_ALL UINT32_MAX

struct mc_engine;

struct mc_engine_cfg {
	const struct mc_job *job;
	const struct mc_bind *bind;
	const struct mc_strv *role_env; /* [role_n] */
	struct mc_output *output;
	const char *host;
	const char *tmp_base;
	const struct mc_rdmacg_job *cgroup; /* with the job's RDMA limits; NULL: none */
	const struct mc_hosts *hosts;       /* where each rank goes; NULL: all here */
	uint32_t self;                      /* of an agent: its host in that list */
	uint32_t only;               /* of an agent that stands before one rank: which; MC_RANK_ALL: all of this host */
	const struct mc_strv *wired; /* what ranks need in their environment, if another has made the PMIx server */
	const char *nspace;          /* of PMIx; NULL: draw a name */
	const char *self_path;       /* mcrun, to be started on other hosts */
	int stdin_fd;                /* rank 0's; -1: none. Stays the caller's */
	char *title;                 /* this process's command line in memory, for helpers of the engine to overwrite */
	size_t title_len;
	int64_t start_ns; /* when mcrun began, for --verbose */
};

enum mc_engine_event_kind {
	MC_ENGINE_STARTED,  /* rank, pid */
	MC_ENGINE_FAILED,   /* rank could not be started; code: errno */
	MC_ENGINE_EXITED,   /* rank's process is gone; code: wait status */
	MC_ENGINE_JOINED,   /* rank called PMIx_Init */
	MC_ENGINE_LEFT,     /* rank called PMIx_Finalize */
	MC_ENGINE_ABORT,    /* rank asks for the end of victim: code, text */
	MC_ENGINE_VANISHED, /* nothing can be known of the rank any more: its host or agent is lost: text */
	MC_ENGINE_SIGNAL,   /* the engine asks for the end of the job with this signal: code */
	MC_ENGINE_EMPTY,    /* answer to settle and clear: nothing of the job is left running */
	MC_ENGINE_LOST,     /* the engine itself broke down: text */
};

struct mc_engine_event {
	enum mc_engine_event_kind kind;
	uint32_t rank, victim;
	int32_t code, pid;
	char text[200];
};

struct mc_engine_ops {
	const char *name;
	/* Start every rank. On failure nothing is left running. */
	int (*start)(const struct mc_engine_cfg *cfg, struct mc_engine **engine_out, struct mc_err *err);
	int (*fd)(const struct mc_engine *e); /* readable: wait has something */
	/* Next event, without waiting; false: none now. A rank's JOINED, LEFT and ABORT come before its EXITED. */
	bool (*wait)(struct mc_engine *e, struct mc_engine_event *ev);
	void (*signal)(struct mc_engine *e, uint32_t rank, int sig);
	/* The loop has judged a rank's end; dead: tell the other ranks. */
	void (*gone)(struct mc_engine *e, uint32_t rank, int code, bool dead);
	/* Start a rank again that has died so many times. */
	void (*restart)(struct mc_engine *e, uint32_t rank, uint32_t deaths);
	/* Ask what the ranks left behind to end by itself; answered by EMPTY, if it does. */
	void (*settle)(struct mc_engine *e, int sig);
	void (*clear)(struct mc_engine *e); /* kill whatever is left, also what ranks left behind; answered by EMPTY */
	/*
	 * End all and release; the job's directory is gone afterwards. Returns the exit code of the program that
	 * carried the engine, with its name in *by; 0: fine, or there is none.
	 */
	int (*stop)(struct mc_engine *e, const char **by);
};

extern const struct mc_engine_ops mc_engine_local, mc_engine_slurm, mc_engine_openmpi, mc_engine_prrte;

/* NULL: none of that name. */
const struct mc_engine_ops *mc_engine_find(const char *name);
/* The engine for a job, as it says or as fits how mcrun was started, and the hosts it would run on. NULL: sentence. */
const struct mc_engine_ops *mc_engine_choose(const struct mc_job *job, struct mc_hosts *hosts, struct mc_err *err);
/* Do agents start the ranks, or does the engine itself? */
bool mc_engine_agents(const struct mc_job *job);
/* The commands that would be run, for --dry-run; nothing is printed by the engine that needs none. */
void mc_engine_print(const struct mc_engine_ops *ops, const struct mc_engine_cfg *cfg);
/* Of the local engine of an agent: its PMIx server, NULL if it has none, and what that asks of other hosts. */
struct mc_server *mc_engine_server(struct mc_engine *e);
bool mc_engine_server_next(struct mc_engine *e, struct mc_server_event *ev);

#endif

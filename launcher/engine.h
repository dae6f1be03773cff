/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.h - who starts the ranks. The loop in run.c decides what a death, a signal or a deadline means; an engine only
 * starts, signals and reports. Engines are rows of one table.
 */
#ifndef MCRUN_ENGINE_H
#define MCRUN_ENGINE_H

#include "bind.h"
#include "jobspec.h"
#include "output.h"

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
	int stdin_fd; /* rank 0's; -1: none. Stays the caller's */
	char *title;  /* this process's command line in memory, for helpers of the engine to overwrite */
	size_t title_len;
	int64_t start_ns; /* when mcrun began, for --verbose */
};

enum mc_engine_event_kind {
	MC_ENGINE_STARTED, /* rank, pid */
	MC_ENGINE_FAILED,  /* rank could not be started; code: errno */
	MC_ENGINE_EXITED,  /* rank's process is gone; code: wait status */
	MC_ENGINE_JOINED,  /* rank called PMIx_Init */
	MC_ENGINE_LEFT,    /* rank called PMIx_Finalize */
	MC_ENGINE_ABORT,   /* rank asks for the end of victim: code, text */
	MC_ENGINE_EMPTY,   /* answer to settle and clear: nothing of the job is left running */
	MC_ENGINE_LOST,    /* the engine itself broke down: text */
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
	/* Ask what the ranks left behind to end by itself; answered by EMPTY, if it does. */
	void (*settle)(struct mc_engine *e, int sig);
	void (*clear)(struct mc_engine *e); /* kill whatever is left, also what ranks left behind; answered by EMPTY */
	void (*stop)(struct mc_engine *e);  /* end all and release; the job's directory is gone afterwards */
};

extern const struct mc_engine_ops mc_engine_local;

/* name: NULL or "auto": the best that works here. NULL: none of that name. */
const struct mc_engine_ops *mc_engine_find(const char *name);

#endif

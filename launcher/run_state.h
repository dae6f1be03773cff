/* SPDX-License-Identifier: BSD-3-Clause */
/* run_state.h - the state of a running job, shared by run.c (the loop), judge.c (what an end means), report.c (words).
 */
#ifndef MCRUN_RUN_STATE_H
#define MCRUN_RUN_STATE_H

#include "loop.h"
#include "run.h"
#include "stdin.h"

enum rank_fault {
	RANK_FINE,
	RANK_SIGNAL,   /* killed by a signal: code */
	RANK_CODE,     /* exit code not 0 */
	RANK_NO_LEAVE, /* exit code 0 after PMIx_Init without PMIx_Finalize */
	RANK_NO_JOIN,  /* exit code 0 without PMIx_Init, which others called and which waits for all */
	RANK_ABORT,    /* called PMIx_Abort */
	RANK_NO_START, /* could not be started: code is an errno */
	RANK_LOST,     /* its host or agent is gone: text */
};

struct rank_state {
	bool started, ended, joined, left, aborted;
	bool ended_by_us; /* after we had begun to end the job */
	int32_t pid;
	int status; /* wait status */
	enum rank_fault fault;
	int fault_code;
	char text[200];                 /* PMIx_Abort's message; how it was lost */
	uint32_t deaths;                /* after which it was started again */
	uint32_t quick;                 /* the last so many of them soon after the start */
	int64_t started_at, restart_at; /* restart_at 0: none is due */
};

/* Why the whole job was brought to its end before its ranks were through. */
enum stop_cause { STOP_NONE, STOP_FAULT, STOP_TIMEOUT, STOP_SIGNAL, STOP_ENGINE };

struct run {
	struct mc_run_cfg cfg;
	const struct mc_job *job;
	const struct mc_engine_ops *ops;
	struct mc_engine *engine;
	struct mc_output *output;
	struct mc_stdin in;
	struct mc_source sig, engine_src;
	int epoll;
	struct rank_state *rank; /* [job->rank_n] */
	uint32_t live, joined_n; /* live: also who is about to be started again */
	uint32_t restart_n;      /* ranks with restart_at */
	bool any_joined, all_joined;
	enum stop_cause stop;
	int stop_sig;         /* STOP_SIGNAL: which */
	int sent_sig;         /* what the ranks were asked to end with */
	uint32_t stopped_n;   /* ranks that ran when the end began, */
	uint32_t first_lives; /* ... and 1 if first_fault was one of them */
	uint32_t first_fault; /* rank; MC_RANK_ALL: none */
	int64_t first_fault_at;
	uint32_t fault_n;
	int64_t timeout_at, kill_at, give_up_at; /* 0: not set */
	bool killed, settle_sent, clear_sent, empty, lost, drop_output;
	uint64_t oom_kills; /* of the host, when the job began */
	char engine_text[200];
	char place[300]; /* where the job is, in words */
	int engine_code; /* of an engine that ended with another code than 0 */
	const char *engine_name;
};

/*
 * A rank that is killed may take longer to be gone than others take to fail because of it. So who dies by a signal this
 * soon after a mere exit code counts as the one that began.
 */
#define MC_CULPRIT_NS     (MC_NS_PER_S / 4)
#define MC_RESTART_NS     (MC_NS_PER_S / 10) /* to the next start; doubled for every quick death in a row, */
#define MC_RESTART_DOUBLE 6                  /* ... so many times at most */
#define MC_GIVE_UP_NS     (10 * MC_NS_PER_S) /* from SIGKILL to the admission that something cannot be killed */

/* run.c */
void mc_run_stop(struct run *r, enum stop_cause cause, int sig); /* begin to end the job */
void mc_run_interrupt(struct run *r, int sig);                   /* as if mcrun had got that signal */
/* judge.c */
void mc_judge_event(struct run *r, const struct mc_engine_event *ev);
bool mc_judge_by_engine(const struct run *r); /* is the engine's exit code the one that counts? */
int mc_judge_exit_code(const struct run *r);
/* report.c */
void mc_report_fault(struct run *r, uint32_t rank); /* at once, when the others go on */
void mc_report_restart(struct run *r, uint32_t rank);
void mc_report_end(struct run *r);
void mc_report_phase(struct run *r, const char *what);
uint64_t mc_report_oom_kills(void);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.h - a small process between mcrun and the ranks. It starts and reaps them, adopts whatever they leave behind,
 * and when mcrun vanishes, however that happens, it kills every descendant and removes the job's directory. mcrun in
 * turn adopts and kills what is left when the guard vanishes.
 */
#ifndef MCRUN_GUARD_H
#define MCRUN_GUARD_H

#include "bind.h"
#include "jobspec.h"

#include <sys/types.h>

#define MC_ALL_RANKS UINT32_MAX

struct mc_guard;

enum mc_guard_event_kind {
	MC_GUARD_STARTED, /* rank, pid */
	MC_GUARD_FAILED,  /* rank; code: errno of the start */
	MC_GUARD_EXITED,  /* rank, pid; code: wait status */
	MC_GUARD_EMPTY,   /* answer to settle and clear: no descendant is left */
	MC_GUARD_LOST,    /* the guard itself is gone; code: its wait status, if known */
};

struct mc_guard_event {
	enum mc_guard_event_kind kind;
	uint32_t rank;
	int32_t code;
	int32_t pid;
};

/* What the guard needs to start ranks; borrowed, the guard process has its own copy. */
struct mc_guard_cfg {
	const struct mc_job *job;
	const struct mc_bind *bind;
	const struct mc_strv *role_env; /* [role_n]: complete but for what mc_guard_spawn() adds */
	const char *tmpdir;             /* removed when mcrun vanishes */
	char *title;                    /* where this process's command line stands, [title_len]; NULL: unknown */
	size_t title_len;
	const struct mc_rdmacg_job *cgroup; /* the ranks go into it; removed when mcrun vanishes; NULL: none */
};

/* Signals must be blocked already, and the process must have one thread. */
int mc_guard_start(const struct mc_guard_cfg *cfg, struct mc_guard **guard_out, struct mc_err *err);
int mc_guard_fd(const struct mc_guard *g); /* readable: mc_guard_next() has something */
/* Start a rank; fds: stdin (-1: /dev/null), stdout, stderr, which stay the caller's. The answer is an event. */
int mc_guard_spawn(struct mc_guard *g, uint32_t rank, char *const *env_add, const int fds[3], struct mc_err *err);
/* Send a signal to a rank's process group, or to all that run. */
void mc_guard_signal(struct mc_guard *g, uint32_t rank, int sig);
/* Ask what the ranks have left behind to end by itself: answered by MC_GUARD_EMPTY, if and when nothing is left. */
void mc_guard_settle(struct mc_guard *g, int sig);
/* Kill every descendant; answered by MC_GUARD_EMPTY. */
void mc_guard_clear(struct mc_guard *g);
bool mc_guard_next(struct mc_guard *g, struct mc_guard_event *ev);
/* Let the guard go: it kills what is left, and mcrun waits for it, but not for ever. */
void mc_guard_stop(struct mc_guard *g);

/* The guard's side, in guard_main.c: never returns. */
void mc_guard_main(const struct mc_guard_cfg *cfg, int sock, pid_t mcrun) __attribute__((noreturn));

/* What travels between the two, over a socket that keeps message borders. */
enum mc_guard_cmd_kind { MC_GUARD_CMD_SPAWN, MC_GUARD_CMD_SIGNAL, MC_GUARD_CMD_SETTLE, MC_GUARD_CMD_CLEAR };
struct mc_guard_cmd {
	uint32_t kind, rank;
	int32_t sig;
	uint32_t has_stdin; /* fds that come along: stdin if so, stdout, stderr */
	uint32_t env_n;     /* strings with their NULs behind this struct */
};
#define MC_GUARD_CMD_MAX 65536

#endif

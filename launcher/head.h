/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * head.h - mcrun's side of the agents: lets them in, gives them their part of the job, carries between them what their
 * PMIx servers exchange, and tells what became of ranks, agents and hosts. One agent per host, or one per rank.
 */
#ifndef MCRUN_HEAD_H
#define MCRUN_HEAD_H

#include "engine.h"
#include "link.h"
#include "talk.h"

struct mc_head;

struct mc_head_cfg {
	const struct mc_engine_cfg *engine;
	bool agents; /* one per host; else one per rank */
	bool detach; /* agents leave the engine that started them */
};

int mc_head_open(const struct mc_head_cfg *cfg, struct mc_head **out, struct mc_err *err);
void mc_head_close(struct mc_head *h);
int mc_head_fd(const struct mc_head *h);            /* readable: call mc_head_turn() */
const char *mc_head_where(const struct mc_head *h); /* addresses for the agents */
const char *mc_head_key(const struct mc_head *h);
void mc_head_turn(struct mc_head *h); /* do what can be done without waiting */
bool mc_head_next(struct mc_head *h, struct mc_engine_event *ev);
void mc_head_post(struct mc_head *h, const struct mc_engine_event *ev);

bool mc_head_complete(const struct mc_head *h);   /* every agent has come */
bool mc_head_any(const struct mc_head *h);        /* some agent has come */
uint32_t mc_head_linked(const struct mc_head *h); /* agents that are connected now */
/* No agent can come any more: what has not started never will. */
void mc_head_give_up_waiting(struct mc_head *h, const char *why);

/* What struct mc_engine_ops asks for, on all agents. */
void mc_head_signal(struct mc_head *h, uint32_t rank, int sig);
void mc_head_gone(struct mc_head *h, uint32_t rank, int code, bool dead);
void mc_head_restart(struct mc_head *h, uint32_t rank, uint32_t deaths);
void mc_head_settle(struct mc_head *h, int sig);
void mc_head_clear(struct mc_head *h);
/* Send every agent home and wait for their good-byes, but not for ever. */
void mc_head_dismiss(struct mc_head *h, int64_t limit_ns);

#endif

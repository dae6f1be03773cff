/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * agent.h - mcrun on another host: it connects to the mcrun that the user started (the head), starts the ranks of this
 * host and tells what becomes of them. Or, in front of one rank that an engine has wired, just that one. If the head is
 * lost, the ranks end.
 */
#ifndef MCRUN_AGENT_H
#define MCRUN_AGENT_H

#include "text.h"

/* mcrun --as-agent, for carriers; reads MCRUN_HEAD, MC_JOB_KEY and who it is from the environment. Returns the exit
 * code. title: where this process's command line stands. */
int mc_agent(char *title, size_t title_len);

#endif

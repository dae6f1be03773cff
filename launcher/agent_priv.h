/* SPDX-License-Identifier: BSD-3-Clause */
/* agent_priv.h - shared by agent.c (its work) and agent_meet.c (how it finds the head and learns what to do). */
#ifndef MCRUN_AGENT_PRIV_H
#define MCRUN_AGENT_PRIV_H

#include "engine.h"
#include "link.h"
#include "loop.h"
#include "talk.h"

struct agent {
	struct mc_source link_src, engine_src, tick, sig, in; /* in: the pipe to rank 0's stdin */
	struct mc_link *link;
	struct mc_spec spec;
	struct mc_bind bind;
	uint32_t *here; /* [job.rank_n] for bind */
	struct mc_strv wired; /* what the carrier has put into our environment for the rank */
	struct mc_rdmacg_job cgroup;
	bool has_cgroup;
	char host[256];
	char *title;
	size_t title_len;
	int epoll;
	uint32_t armed;
	struct mc_output *output;
	struct mc_engine *engine;
	int64_t heard_at, ticked_at;
	bool suspended, bye, cut_off;
	uint64_t room; /* bytes of output that the head still takes */
	int in_fd;     /* rank 0's end */
	char *in_buf;
	size_t in_n;
	bool in_end;
	int code; /* to exit with */
};

/* A sentence on stderr, where the engine that started us shows it. Returns 1, an exit code. */
int mc_agent_die(const struct agent *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mc_agent_flush(struct agent *a);
void mc_agent_tell(struct agent *a, const struct mc_talk *t);
/* Wait for the head and take what it says; false: not until then. */
bool mc_agent_wait(struct agent *a, int64_t until_ns);
/* Connect, learn the job, leave the engine if it says so. 0, or the exit code; a->bye: there is nothing to do. */
int mc_agent_meet(struct agent *a);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* proctree.h - end every descendant of this process, also those that left their session or lost their parent. */
#ifndef MCRUN_PROCTREE_H
#define MCRUN_PROCTREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* When a process was started, in clock ticks since boot: with the pid it names one process. 0: there is no such
 * process. */
uint64_t mc_proc_start_time(pid_t pid);

/* Make orphaned descendants children of this process, so that none can escape. */
int mc_proc_adopt_orphans(void);

/* The children this process has now, *n_out of them; free() it. NULL: none. */
pid_t *mc_proc_children(uint32_t *n_out);

/* What mc_proc_signal_descendants() passes over. */
struct mc_proc_except {
	const pid_t *group; /* processes in these groups are counted, but not signalled */
	uint32_t group_n;
	const pid_t *child; /* these children and what descends from them are none of our business */
	uint32_t child_n;
};

/*
 * Send a signal to all descendants, once. Returns how many there were. To end them call it with SIGKILL again and
 * again, reaping meanwhile, until it returns 0: what forked in between is found then.
 */
unsigned mc_proc_signal_descendants(int sig, const struct mc_proc_except *except);

#endif

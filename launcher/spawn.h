/* SPDX-License-Identifier: BSD-3-Clause */
/* spawn.h - start one program. */
#ifndef MCRUN_SPAWN_H
#define MCRUN_SPAWN_H

#include "bind.h"

#include <sys/types.h>

struct mc_spawn {
	const char *path;
	char *const *argv, *const *env;
	int fd[3];                    /* become 0, 1, 2 */
	const char *cgroup;           /* file cgroup.procs of the cgroup it goes into; NULL: stays in ours */
	int death_sig;                /* sent to it when we vanish; 0: SIGKILL */
	const struct mc_cpuset *bind; /* NULL: as inherited */
	volatile int error;           /* errno, when mc_spawn() returns -1 */
};

/* The new process leads its own process group, has no signal blocked, and dies with its parent. */
pid_t mc_spawn(struct mc_spawn *s);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* tmpdir.h - the job's private directory, and the removal of those that killed launchers left behind. */
#ifndef MCRUN_TMPDIR_H
#define MCRUN_TMPDIR_H

#include "text.h"

/* Make a directory only this user can enter, below base (TMPDIR or /tmp). *path_out is the caller's to free. */
int mc_tmpdir_create(const char *base, char **path_out, struct mc_err *err);
/* Remove it with everything in it; never follows a link out of it. 0, or the errno of what stayed. */
int mc_tmpdir_remove(const char *path);
/*
 * Remove the directories below base whose launcher, known by pid and start time, is gone. Only this user's, only of
 * this boot and pid namespace: of others nothing can be told. Returns how many.
 */
unsigned mc_tmpdir_sweep(const char *base);

#endif

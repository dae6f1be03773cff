/* SPDX-License-Identifier: BSD-3-Clause */
/* carrier.h - the program that reaches the other hosts: srun, mpirun or prterun, and the command line it is given. */
#ifndef MCRUN_CARRIER_H
#define MCRUN_CARRIER_H

#include "hosts.h"

enum mc_carrier_kind { MC_CARRIER_SLURM, MC_CARRIER_OPENMPI, MC_CARRIER_PRRTE };

struct mc_carrier_cfg {
	enum mc_carrier_kind kind;
	const struct mc_job *job;
	const struct mc_hosts *hosts;
	const char *self;      /* mcrun's own path, the same on every host */
	bool agents;           /* one process per host; else one per rank */
	const char *head;      /* where they find us */
	const char *key;       /* goes into the environment alone */
	const char *host_file; /* Slurm, one process per rank: file that names the host of each */
};

struct mc_carrier;

/* The words of the command, and NAME=VALUE of what its environment has beyond ours; free with mc_strv_free(). */
void mc_carrier_command(const struct mc_carrier_cfg *cfg, struct mc_strv *argv, struct mc_strv *env);
/* "mpirun" */
const char *mc_carrier_name(enum mc_carrier_kind kind);
/* Where its program is; NULL: not in PATH. */
char *mc_carrier_find(enum mc_carrier_kind kind);

int mc_carrier_start(const struct mc_carrier_cfg *cfg, struct mc_carrier **out, struct mc_err *err);
int mc_carrier_fd(const struct mc_carrier *c); /* readable: it has ended, or prints */
/* Look what it did; true when it has ended, with *status its wait status. Prints its lines if verbose. */
bool mc_carrier_ended(struct mc_carrier *c, int *status);
/* What it printed last, oldest line first. */
const struct mc_strv *mc_carrier_lines(const struct mc_carrier *c);
void mc_carrier_signal(struct mc_carrier *c, int sig);
/* Ends it, politely first, and waits; free. NULL ok. Returns its wait status, 0 if we had to end it. */
int mc_carrier_stop(struct mc_carrier *c, int64_t patience_ns);

#endif

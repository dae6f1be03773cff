/* SPDX-License-Identifier: BSD-3-Clause */
/* hosts.h - the hosts of a job, and which rank goes to which. Pure: no name is resolved and no host is asked here. */
#ifndef MCRUN_HOSTS_H
#define MCRUN_HOSTS_H

#include "jobspec.h"

#define MC_HOST_MAX      65536u /* hosts of a job */
#define MC_HOST_NAME_MAX 255

struct mc_host {
	char *name;
	uint32_t slots; /* ranks it takes; 0: not said */
};

struct mc_hosts {
	struct mc_host *host; /* [n] */
	uint32_t n, room;
	uint32_t *of_rank; /* [rank_n] index into host, after mc_hosts_place() */
	uint32_t rank_n;
};

/* Each appends; a host that is named twice has the sum of its slots. */
int mc_hosts_parse(struct mc_hosts *h, const char *list, struct mc_err *err); /* "a:4,b:4", "[fe80::1]:2" */
/* Open MPI's form: a line per host, "name slots=4" or "name:4"; # begins a comment. */
int mc_hosts_parse_file(struct mc_hosts *h, const char *text, size_t len, const char *source, struct mc_err *err);
int mc_hosts_load(struct mc_hosts *h, const char *file, struct mc_err *err);
/* Slurm's forms: "n[1-3,07],gpu1" and "2(x3),1". tasks may be NULL. */
int mc_hosts_parse_slurm(struct mc_hosts *h, const char *nodes, const char *tasks, struct mc_err *err);

/*
 * Give every rank a host: where job->map says so, else in the order of hosts, as many as each has slots; without slots
 * even shares. Roles that the map does not name go to hosts that it does not name, if there are any.
 */
int mc_hosts_place(struct mc_hosts *h, const struct mc_job *job, struct mc_err *err);
/* How many ranks a host has. */
uint32_t mc_hosts_count(const struct mc_hosts *h, uint32_t host);
/* Drop hosts that have no rank; what remains is renumbered. */
void mc_hosts_trim(struct mc_hosts *h);
void mc_hosts_free(struct mc_hosts *h);

#endif

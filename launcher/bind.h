/* SPDX-License-Identifier: BSD-3-Clause */
/* bind.h - which CPUs a rank may run on: cores and NUMA nodes from sysfs, within what mcrun itself was given. */
#ifndef MCRUN_BIND_H
#define MCRUN_BIND_H

#include "jobspec.h"

#include <sched.h>

#define MC_CPU_MAX 8192

struct mc_cpuset {
	unsigned long w[MC_CPU_MAX / (8 * sizeof(unsigned long))];
};

/* Places to put ranks, used in turn. */
struct mc_bind {
	enum mc_bind_mode mode;
	struct mc_cpuset *place;
	uint32_t *id; /* number of the core (its first CPU) or of the node */
	uint32_t place_n;
	uint32_t *rank_place; /* [rank_n] index into place[]; NULL: in turn */
	char **near;          /* [rank_n] NICs that the rank will use there; NULL: not known */
	uint32_t *index;      /* [rank_n] the rank's number among those of its node */
	uint32_t *used;       /* [place_n] ranks that it has */
	uint32_t rank_n;
	const uint32_t *here; /* of an agent: a rank's number among those of this host; NULL: the rank itself */
};

/* root is "/sys" (tests give another). Mode none: place_n is 0. */
int mc_bind_open(struct mc_bind *b, enum mc_bind_mode mode, const char *root, struct mc_err *err);
void mc_bind_close(struct mc_bind *b);
/* NULL: not bound. */
const struct mc_cpuset *mc_bind_place(const struct mc_bind *b, uint32_t rank);
/* "3/8": this rank's number among those that share its node, and theirs; false: not dealt out by node */
bool mc_bind_share(const struct mc_bind *b, uint32_t rank, char *buf, size_t len);
/* "core 3 (cpus 3,11)", "none" */
void mc_bind_text(const struct mc_bind *b, uint32_t rank, char *buf, size_t len);
/* The CPUs that mcrun itself may use. */
int mc_bind_allowed(struct mc_cpuset *out, struct mc_err *err);
void mc_bind_add(struct mc_bind *b, const struct mc_cpuset *set, uint32_t id);
bool mc_cpuset_both(struct mc_cpuset *s, const struct mc_cpuset *mask); /* cut s to what is in both; false: nothing */
uint32_t mc_cpuset_count(const struct mc_cpuset *s);
/* "0-3,8" into a set; false: not such a list. */
bool mc_cpuset_parse(const char *list, struct mc_cpuset *out);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdmacg.h - the rdma controller of cgroup version 2: what limits this process and how much of them is used; and a
 * child cgroup with a limit for a job. hca_handle counts opened devices, hca_object the objects in them (PDs, CQs, QPs,
 * MRs, ...). Over the limit the kernel answers EAGAIN; ENOMEM means locked memory instead.
 */
#ifndef MCRUN_RDMACG_H
#define MCRUN_RDMACG_H

#include "sysroot.h"

#include <sys/types.h>

#define MC_RDMACG_DEV_MAX   64               /* bytes of a device name */
#define MC_RDMACG_ENTRY_MAX 64               /* devices looked at per file */
#define MC_RDMACG_LEVEL_MAX 32               /* cgroups from our own up */
#define MC_RDMACG_NONE      (UINT64_MAX - 1) /* the file does not say */
#define MC_RDMACG_MAX       UINT64_MAX       /* "max" */

/* One line of rdma.max, rdma.current or rdma.peak. */
struct mc_rdmacg_entry {
	char dev[MC_RDMACG_DEV_MAX];
	uint64_t handle, object;
};
/* One line of rdma.events. */
struct mc_rdmacg_event {
	char dev[MC_RDMACG_DEV_MAX];
	uint64_t max, fail; /* sums over handles and objects; 0 where not said */
};

/* Lines that make no sense are left out and counted in *bad_out; keys that are not known are passed over. */
uint32_t mc_rdmacg_parse(const char *text, struct mc_rdmacg_entry *out, uint32_t room, uint32_t *bad_out);
uint32_t mc_rdmacg_parse_events(const char *text, struct mc_rdmacg_event *out, uint32_t room, uint32_t *bad_out);

/* What one cgroup says about one device. */
struct mc_rdmacg_use {
	char dev[MC_RDMACG_DEV_MAX];
	uint64_t max_handle, max_object;
	uint64_t handle, object;
	uint64_t event_max, event_fail;
};
struct mc_rdmacg_level {
	char path[512]; /* in the file system: "/sys/fs/cgroup/a/b" */
	struct mc_rdmacg_use *use;
	uint32_t use_n;
	uint32_t bad; /* lines that could not be read */
};
struct mc_rdmacg {
	char own[512];                 /* the own cgroup in the file system; "": there is no version 2 hierarchy */
	char point[512];               /* where the hierarchy is mounted */
	struct mc_rdmacg_level *level; /* [level_n], the own first; only those that have rdma.max */
	uint32_t level_n;
	bool controller; /* cgroup.controllers of the own cgroup names rdma */
	bool v1;         /* the controller is taken by a version 1 hierarchy */
	int error;       /* of reading /proc/self/cgroup or mountinfo */
};
/* Always fills out; free with mc_rdmacg_free(). */
void mc_rdmacg_read(struct mc_sysroot *root, struct mc_rdmacg *out);
void mc_rdmacg_free(struct mc_rdmacg *g);
/* The smallest room left for dev over all levels, and which level that is; UINT32_MAX: nothing limits it. */
uint32_t mc_rdmacg_tightest(const struct mc_rdmacg *g, const char *dev, bool handle, uint64_t *left_out);

/* ---- limits for a job -------------------------------------------------------------------------------------------- */

struct mc_rdmacg_limit {
	char dev[MC_RDMACG_DEV_MAX];
	uint64_t handle, object; /* MC_RDMACG_NONE: not asked for, MC_RDMACG_MAX: lifted */
};
/* "mlx5_0:hca_handle=2,hca_object=2000" */
int mc_rdmacg_limit_parse(const char *text, struct mc_rdmacg_limit *out, struct mc_err *err);
void mc_rdmacg_limit_text(const struct mc_rdmacg_limit *l, char *out, size_t len); /* as written into rdma.max */

/* Only names: what mc_rdmacg_create() would use. */
struct mc_rdmacg_job {
	char parent[512]; /* mcrun's own cgroup */
	char dir[600];    /* the job's, below it */
	char leaf[600];   /* where mcrun itself moved, so that the parent may hand the controller on; "": it did not */
	bool enabled;     /* we switched the controller on for the parent's children */
};
/*
 * Make a cgroup below our own with these limits. mount: prefix of all paths, "" but in tests. On failure nothing is
 * left behind, and the sentence names the file, the reason and what to run.
 */
int mc_rdmacg_create(const char *prefix, const struct mc_rdmacg_limit *limit, size_t limit_n, struct mc_rdmacg_job *out,
		     struct mc_err *err);
/* Undo it. Whatever process is still in it is killed. Once or more often, from mcrun or from the guard. 0, or an errno.
 */
int mc_rdmacg_remove(const struct mc_rdmacg_job *job);
/* Remove what launchers that no longer run have left below this cgroup. */
unsigned mc_rdmacg_sweep(const char *parent);

#endif

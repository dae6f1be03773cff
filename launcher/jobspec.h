/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * jobspec.h - what is to be run: roles with programs, environment, policies. Filled from the command line (cli.c) and a
 * JSON file (jobspec_json.c), put together and checked here. Nothing in it starts anything.
 */
#ifndef MCRUN_JOBSPEC_H
#define MCRUN_JOBSPEC_H

#include "rdmacg.h"
#include "text.h"

enum mc_output_mode { MC_OUTPUT_TAG, MC_OUTPUT_MERGE, MC_OUTPUT_DIR };
enum mc_bind_mode { MC_BIND_NONE, MC_BIND_CORE, MC_BIND_NUMA };
enum mc_fail_mode { MC_FAIL_ABORT, MC_FAIL_CONTINUE, MC_FAIL_RESTART };

/* Which of a job's single-valued members were given, so that the command line can win over the file. */
enum mc_given {
	MC_GIVEN_OUTPUT = 1,
	MC_GIVEN_BIND = 2,
	MC_GIVEN_FAIL = 4,
	MC_GIVEN_ENGINE = 8,
	MC_GIVEN_TIMEOUT = 16,
	MC_GIVEN_GRACE = 32,
	MC_GIVEN_BEAT = 64,
};

#define MC_JOB_ROLE_MAX  31     /* bytes of a role name */
#define MC_JOB_LABEL_MAX 48     /* "decode.12" with its NUL */
#define MC_JOB_RANK_MAX  65536u /* a limit of this program; the host's own are usually lower */
#define MC_JOB_GRACE_NS  (5 * MC_NS_PER_S)
#define MC_JOB_BEAT_NS   (2 * MC_NS_PER_S)
#define MC_JOB_BEATS     3 /* missed ones after which the other side is taken for lost */
#define MC_JOB_RESTARTS  3

struct mc_job_role {
	char *name; /* "" with -n: ranks without a role */
	uint32_t n;
	struct mc_strv argv; /* program and arguments as the user wrote them */
	char *path;          /* the file that argv[0] stands for, once resolved */
	struct mc_strv env;  /* for this role alone */
};

struct mc_job {
	struct mc_job_role *role;
	size_t role_n;
	struct mc_strv program;  /* for roles that name none */
	struct mc_strv env;      /* NAME=VALUE for all ranks */
	struct mc_strv settings; /* MC_NAME=VALUE where mcrun's own environment has none */
	uint32_t given;          /* enum mc_given */
	enum mc_output_mode output;
	char *output_dir;
	enum mc_bind_mode bind;
	enum mc_fail_mode fail;
	char *engine;
	char *hosts, *hostfile; /* where to run; NULL: not said */
	struct mc_strv map;     /* ROLE=HOST or ROLE=HOST:N */
	char *head_address;     /* under which other hosts reach mcrun; NULL: chosen by route */
	bool agent;             /* one process of ours per host, whatever --on-failure says */
	int64_t beat_ns;        /* between signs of life of mcrun and its agents */
	uint32_t restart_max;   /* of each rank, with MC_FAIL_RESTART */
	int64_t timeout_ns;     /* 0: none */
	int64_t grace_ns;
	struct mc_rdmacg_limit *rdma_limit; /* [rdma_limit_n], one per device */
	size_t rdma_limit_n;
	char *print, *image;     /* --print: what for; the container image, NULL: a placeholder */
	struct mc_strv resource; /* NAME=AMOUNT for --print */
	bool dry_run, verbose;
	char *config;
	uint32_t rank_n; /* sum over the roles, after mc_job_finish() */
};

/* Where a rank stands in the job. */
struct mc_job_place {
	uint32_t role;  /* index into mc_job.role */
	uint32_t index; /* within the role */
};

void mc_job_init(struct mc_job *job);
void mc_job_free(struct mc_job *job);
struct mc_job_role *mc_job_role_add(struct mc_job *job, const char *name, uint32_t n);

/* Single values by name, from either source; the sentence says what is allowed. */
int mc_job_set_output(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_set_bind(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_set_fail(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_set_engine(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_set_timeout(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_set_grace(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_set_hosts(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_set_hostfile(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_add_map(struct mc_job *job, const char *value, struct mc_err *err); /* items separated by commas */
int mc_job_set_head(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_set_beat(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_set_print(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_add_rdma_limit(struct mc_job *job, const char *value, struct mc_err *err);
int mc_job_add_resource(struct mc_job *job, const char *value, struct mc_err *err);
/* Is this a name that -x or the file may set? Not what mcrun sets itself. */
int mc_job_check_env_name(const char *name, size_t len, struct mc_err *err);
int mc_job_check_role_name(const char *name, struct mc_err *err);

/* Read a JSON job: text [len], source is its name in error sentences. */
int mc_job_parse_json(struct mc_job *job, const char *text, size_t len, const char *source, struct mc_err *err);
int mc_job_load(struct mc_job *job, const char *file, struct mc_err *err);

/* Lay what the command line gave over what the file gave; cli is empty afterwards. */
void mc_job_merge(struct mc_job *file, struct mc_job *cli);
/* Complete and check: roles, counts, programs found (beside self_dir too), host limits. */
int mc_job_finish(struct mc_job *job, const char *self_dir, struct mc_err *err);

struct mc_job_place mc_job_place(const struct mc_job *job, uint32_t rank);
/* "decode.1"; without roles "1". */
void mc_job_label(const struct mc_job *job, uint32_t rank, char label[MC_JOB_LABEL_MAX]);

#endif

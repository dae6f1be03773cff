/* SPDX-License-Identifier: BSD-3-Clause */
/* run.h - one job from its start to its exit code: what a death, a signal, a deadline and a closed pipe lead to. */
#ifndef MCRUN_RUN_H
#define MCRUN_RUN_H

#include "engine.h"

struct mc_run_cfg {
	const struct mc_job *job;
	const struct mc_bind *bind;
	const struct mc_strv *role_env;
	const struct mc_engine_ops *engine;
	const struct mc_hosts *hosts; /* NULL: all here */
	const char *host, *tmp_base, *self_path;
	const struct mc_rdmacg_job *cgroup;
	char *title;
	size_t title_len;
	int64_t start_ns;
};

/* Returns the exit code of mcrun. */
int mc_run(const struct mc_run_cfg *cfg);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* server_job.h - what the PMIx server is told about the job: who is in it, where each rank stands. */
#ifndef MCRUN_SERVER_JOB_H
#define MCRUN_SERVER_JOB_H

#include "server.h"

#include <pmix_server.h>

pmix_status_t mc_server_job_register(const struct mc_server_cfg *cfg, const char *job_name);
pmix_status_t mc_server_client_register(const pmix_proc_t *proc);

#endif

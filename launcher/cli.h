/* SPDX-License-Identifier: BSD-3-Clause */
/* cli.h - mcrun's command line. */
#ifndef MCRUN_CLI_H
#define MCRUN_CLI_H

#include "jobspec.h"

enum mc_cli_result { MC_CLI_RUN, MC_CLI_HELP, MC_CLI_VERSION, MC_CLI_BAD };

/* Fill job from the command line alone; MC_CLI_BAD: the sentence is in err. */
enum mc_cli_result mc_cli_parse(int argc, char **argv, struct mc_job *job, struct mc_err *err);
extern const char mc_cli_help[];

#endif

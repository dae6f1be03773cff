/* SPDX-License-Identifier: BSD-3-Clause */
/* commands.h - the subcommands of mcperf. Each gets its own argc and argv and returns the exit code: 0, 1 failed, 2
 * usage. */
#ifndef PERF_COMMANDS_H
#define PERF_COMMANDS_H

int replay_main(int argc, char **argv);
int bw_main(int argc, char **argv);
int lat_main(int argc, char **argv);
int reg_main(int argc, char **argv);
int launch_main(int argc, char **argv);
int coll_main(int argc, char **argv);
int kv_main(int argc, char **argv);

#endif

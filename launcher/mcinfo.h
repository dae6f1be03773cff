/* SPDX-License-Identifier: BSD-3-Clause */
/* mcinfo.h - the commands of mcinfo. Each returns the program's exit status: 0, 1 (failed), 2 (wrong usage). */
#ifndef MCINFO_H
#define MCINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int mc_info_topo(int argc, char **argv);
int mc_info_devices(int argc, char **argv);
int mc_info_config(int argc, char **argv);

/* mcinfo_run.c: run argv with input[len] on its stdin; out_path: file for its stdout, NULL: as ours. */
enum mc_info_run { MC_INFO_RUN_OK, MC_INFO_RUN_FAILED, MC_INFO_RUN_ABSENT };
enum mc_info_run mc_info_run(char *const argv[], const char *input, size_t len, const char *out_path);

/* Value of a setting as text, "" if it has none or a bad one (then said on stderr and false). */
bool mc_info_setting(const char *name, char *out, size_t len);
/* The XML file to read: the one of the command line, else that of HWLOC_XMLFILE; NULL: none. */
const char *mc_info_xml(const char *option);
/* Flush stdout; 1 and a message if what was printed did not get out. */
int mc_info_flush(void);
bool mc_info_number(const char *text, uint32_t *out);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* header.h - where and with what something was measured. */
#ifndef PERF_HEADER_H
#define PERF_HEADER_H

#include <stdio.h>

#include "job.h"

struct perf_header {
	char host[MC_NAME_MAX], cpu[96], kernel[96], commit[64], when[32], cpus[64], load[32];
	uint32_t cores, numa;
	uint64_t mem_mib;
};

void perf_header_collect(struct perf_header *h);
/* "# " lines: machine, kernel, version, settings that are not the default. */
void perf_header_print(const struct perf_header *h, FILE *to, const char *cmd);

#endif

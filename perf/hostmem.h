/* SPDX-License-Identifier: BSD-3-Clause */
/* hostmem.h - how much memory this host, or the control group this process is confined to, has left. */
#ifndef PERF_HOSTMEM_H
#define PERF_HOSTMEM_H

#include <stdint.h>

uint64_t perf_hostmem_available(void); /* bytes; UINT64_MAX: cannot be told */

#endif

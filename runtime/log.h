/* SPDX-License-Identifier: BSD-3-Clause */
/* log.h - log lines. Whoever sees an error first logs it once, with rank, object, native code and remedy. */
#ifndef MC_LOG_H
#define MC_LOG_H

#include <stdatomic.h>

#include "mc.h"
#include "util.h"

/* Sink, name and level are the library's only process-wide state. */
extern atomic_int mc_log_level_now; /* read without a lock: a stale value only shows or hides one line */

void mc_log_set_level(enum mc_log_level level);
/* Prefix of each line of this process, e.g. "decode.1"; "" before the rank is known. Last caller wins. */
void mc_log_set_name(const char *name);
void mc_log_write(enum mc_log_level level, const char *fmt, ...) MC_PRINTF(2, 3);

#define mc_log(level, ...)                                                                         \
	do {                                                                                       \
		if ((int)(level) <= atomic_load_explicit(&mc_log_level_now, memory_order_relaxed)) \
			mc_log_write((level), __VA_ARGS__);                                        \
	} while (0)
#define mc_error(...) mc_log(MC_LOG_ERROR, __VA_ARGS__)
#define mc_warn(...)  mc_log(MC_LOG_WARN, __VA_ARGS__)
#define mc_info(...)  mc_log(MC_LOG_INFO, __VA_ARGS__)
#define mc_debug(...) mc_log(MC_LOG_DEBUG, __VA_ARGS__)

/*
 * For whatever a peer can trigger: true at most `burst` times per second per object. The first call of a later second
 * says in a line of its own how many were left out. The caller keeps two threads from using one object at a time.
 */
struct mc_ratelimit {
	int64_t window_start_ns;
	uint32_t count;
	uint32_t suppressed;
};
bool mc_ratelimit_ok(struct mc_ratelimit *r, uint32_t burst);

#endif

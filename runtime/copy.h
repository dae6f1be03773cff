/* SPDX-License-Identifier: BSD-3-Clause */
/* copy.h - copies of blocks: past the caches where that pays, and with the next block asked for in time. libc only. */
#ifndef MC_COPY_H
#define MC_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool mc_copy_stream_pays(void); /* on this processor */
/* stream: the target is not read soon by this core, and the whole transfer is larger than a cache. */
void mc_copy(void *dst, const void *src, size_t len, bool stream);
void mc_copy_fence(bool stream); /* after the last copy, before others are told of the bytes */

/*
 * Scattered blocks defeat the hardware's prefetching at each start: ask for the beginning of the next one meanwhile.
 * Inlined by force, since gcc takes a function of nothing but prefetches for one without effect and drops its calls.
 */
static inline __attribute__((always_inline)) void mc_copy_prefetch(const void *from)
{
	for (uint32_t i = 0; i < 512; i += 64)
		__builtin_prefetch((const uint8_t *)from + i);
}

#endif

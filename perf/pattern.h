/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pattern.h - content that only one (request, layer, block, rank) can have, and its check.
 *
 * The four numbers are packed into 64 bits and mixed by a bijection, so two different identities never share a key. The
 * 64-bit lane i of a block is key + i * odd constant: at the same place two blocks differ in every lane, and within one
 * block no two lanes are equal, so bytes that landed in the wrong place show as well as bytes of another request.
 */
#ifndef PERF_PATTERN_H
#define PERF_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

/* Exclusive upper bounds of the parts of an identity: 24 + 20 + 8 + 12 bits. */
enum {
	PERF_PATTERN_REQUESTS = 1 << 24,
	PERF_PATTERN_BLOCKS = 1 << 20,
	PERF_PATTERN_LAYERS = 1 << 8,
	PERF_PATTERN_RANKS = 1 << 12,
};

uint64_t perf_pattern_key(uint64_t seed, uint32_t request, uint32_t layer, uint32_t block, uint32_t rank);

/* Write bytes [off, off+len) of the block with that key to dst; off is a multiple of 8, dst aligned to 8. */
void perf_pattern_fill(void *dst, uint64_t off, uint64_t len, uint64_t key);

struct perf_pattern_bad {
	uint64_t off; /* of the first wrong byte in the block */
	uint8_t expected, actual;
};
/* Compare; false: *bad_out tells the first wrong byte. */
bool perf_pattern_check(const void *src, uint64_t off, uint64_t len, uint64_t key, struct perf_pattern_bad *bad_out);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
#include "pattern.h"

#include <string.h>

#define LANE_STEP UINT64_C(0x9e3779b97f4a7c15)

enum { CHUNK_LANES = 512 }; /* 4 KiB between two looks at the result: long enough to stay in vector code */

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t perf_pattern_key(uint64_t seed, uint32_t request, uint32_t layer, uint32_t block, uint32_t rank)
{
	uint64_t packed = (uint64_t)request << 40 | (uint64_t)block << 20 | (uint64_t)layer << 12 | rank;

	return mix(packed ^ mix(seed + LANE_STEP));
}

static uint8_t byte_of(uint64_t lane, uint64_t byte)
{
	return (uint8_t)(lane >> (8 * byte));
}

void perf_pattern_fill(void *dst, uint64_t off, uint64_t len, uint64_t key)
{
	uint64_t *lane = dst;
	uint64_t n = len / 8, first = key + off / 8 * LANE_STEP;

	for (uint64_t i = 0; i < n; i++)
		lane[i] = first + i * LANE_STEP;
	for (uint64_t b = 0; b < len % 8; b++)
		((uint8_t *)dst)[n * 8 + b] = byte_of(first + n * LANE_STEP, b);
}

/* Known to be wrong somewhere in [off, off+len): where first? */
static void find_bad(const uint8_t *src, uint64_t off, uint64_t len, uint64_t key, struct perf_pattern_bad *bad_out)
{
	for (uint64_t i = 0; i < len; i++) {
		uint8_t want = byte_of(key + (off + i) / 8 * LANE_STEP, (off + i) % 8);
		if (src[i] == want)
			continue;
		*bad_out = (struct perf_pattern_bad){.off = off + i, .expected = want, .actual = src[i]};
		return;
	}
}

bool perf_pattern_check(const void *src, uint64_t off, uint64_t len, uint64_t key, struct perf_pattern_bad *bad_out)
{
	const uint64_t *lane = src;
	const uint8_t *byte = src;
	uint64_t n = len / 8, first = key + off / 8 * LANE_STEP;

	for (uint64_t at = 0; at < n; at += CHUNK_LANES) {
		uint64_t end = n - at < CHUNK_LANES ? n : at + CHUNK_LANES;
		uint64_t diff = 0;
		for (uint64_t i = at; i < end; i++)
			diff |= lane[i] ^ (first + i * LANE_STEP);
		if (diff != 0) {
			find_bad(byte + at * 8, off + at * 8, (end - at) * 8, key, bad_out);
			return false;
		}
	}
	for (uint64_t b = 0; b < len % 8; b++) {
		if (byte[n * 8 + b] == byte_of(first + n * LANE_STEP, b))
			continue;
		find_bad(byte + n * 8, off + n * 8, len % 8, key, bad_out);
		return false;
	}
	return true;
}

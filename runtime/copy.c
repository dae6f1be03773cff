/* SPDX-License-Identifier: BSD-3-Clause */
/* copy.c - streaming stores where the processor has them. */
#include "copy.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

enum { STREAM_MIN = 1024 }; /* below, streaming stores lose */

bool mc_copy_stream_pays(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx") != 0;
}

/* Stores past the caches: the target's lines need not be read first. dst is aligned to 32, len a multiple of 128. */
__attribute__((target("avx"))) static void copy_nt(uint8_t *dst, const uint8_t *src, size_t len)
{
	for (; len > 0; len -= 128, dst += 128, src += 128) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(const void *)src);
		__m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(src + 32));
		__m256i c = _mm256_loadu_si256((const __m256i *)(const void *)(src + 64));
		__m256i d = _mm256_loadu_si256((const __m256i *)(const void *)(src + 96));

		_mm256_stream_si256((__m256i *)(void *)dst, a);
		_mm256_stream_si256((__m256i *)(void *)(dst + 32), b);
		_mm256_stream_si256((__m256i *)(void *)(dst + 64), c);
		_mm256_stream_si256((__m256i *)(void *)(dst + 96), d);
	}
}

void mc_copy(void *dst, const void *src, size_t len, bool stream)
{
	uint8_t *d = dst;
	const uint8_t *s = src;
	size_t head, body;

	if (!stream || len < STREAM_MIN) {
		memcpy(dst, src, len);
		return;
	}
	head = (size_t)(-(uintptr_t)d & 31);
	body = (len - head) & ~(size_t)127;
	memcpy(d, s, head);
	copy_nt(d + head, s + head, body);
	memcpy(d + head + body, s + head + body, len - head - body);
}

void mc_copy_fence(bool stream)
{
	if (stream)
		_mm_sfence(); /* streaming stores are not ordered before the release store that announces them */
}
#else
bool mc_copy_stream_pays(void)
{
	return false;
}

void mc_copy(void *dst, const void *src, size_t len, bool stream)
{
	(void)stream;
	memcpy(dst, src, len);
}

void mc_copy_fence(bool stream)
{
	(void)stream;
}
#endif

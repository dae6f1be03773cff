/* SPDX-License-Identifier: BSD-3-Clause */
/* test_ref.c - references: the copies copy what they say; the output of ucx_perftest is understood. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ref.h"

enum { N = 64, LEN = 100, STRIDE = 128 };

static void fill(uint8_t *src, uint32_t *from, uint32_t *to)
{
	for (uint32_t i = 0; i < N; i++) {
		from[i] = i;
		to[i] = (i * 7 + 3) % N;
	}
	for (uint32_t i = 0; i < N * STRIDE; i++)
		src[i] = (uint8_t)(i * 31 + i / 256);
}

static void memcpy__all_blocks(void **state)
{
	static uint8_t src[N * STRIDE], dst[N * STRIDE];
	uint32_t from[N], to[N];
	struct ref_blocks b = {src, dst, N, LEN, from, to, STRIDE, false};
	double cpu;

	(void)state;
	fill(src, from, to);
	assert_true(ref_memcpy(&b, 1000000, &cpu) > 0);
	assert_true(cpu > 0);
	for (uint32_t i = 0; i < N; i++)
		assert_memory_equal(dst + to[i] * STRIDE, src + from[i] * STRIDE, LEN);
}

static void pvm__into_this_process(void **state)
{
	static uint8_t src[N * STRIDE], dst[N * STRIDE];
	uint32_t from[N], to[N];
	struct ref_blocks b = {src, dst, N, LEN, from, to, STRIDE, false};
	struct ref_link l = {.fd = -1, .pid = getpid(), .base = (uint64_t)(uintptr_t)dst};
	double cpu;

	(void)state;
	fill(src, from, to);
	if (ref_pvm(&l, &b, 1000000, &cpu) == 0) {
		assert_true(l.no_pvm); /* forbidden here, e.g. in a container: said, and not tried again */
		skip();
	}
	for (uint32_t i = 0; i < N; i++)
		assert_memory_equal(dst + to[i] * STRIDE, src + from[i] * STRIDE, LEN);
	l.base = 16; /* nothing is there */
	assert_true(ref_pvm(&l, &b, 1000000, &cpu) == 0);
	assert_true(l.no_pvm);
	assert_true(ref_pvm(&l, &b, 1000000, &cpu) == 0);
}

static void link__none(void **state)
{
	struct ref_link l = {.fd = -1};

	(void)state;
	assert_false(ref_follow(&l));
	assert_true(ref_tcp(&l, 1000000) == 0);
	assert_true(ref_tcp_rr(&l, 64, 1000000, false) == 0);
	ref_done(&l);
	ref_close(&l);
}

static void ucx__output(void **state)
{
	static const char text[] =
		"+--------------+\n|     Test     | # iterations |\n+-----+\n"
		"                       20000      0.246    11.127    11.127        0.69       0.69\n";

	(void)state;
	assert_true(ref_ucx_parse(text) == 0.246);
	assert_true(ref_ucx_parse("[host:1] UCX ERROR no such device\n") == 0);
	assert_true(ref_ucx_parse("") == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memcpy__all_blocks),
		cmocka_unit_test(pvm__into_this_process),
		cmocka_unit_test(link__none),
		cmocka_unit_test(ucx__output),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

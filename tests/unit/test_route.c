/* SPDX-License-Identifier: BSD-3-Clause */
/* test_route.c - which ranks serve a request: in turn, or where the prefix is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route.h"

static struct perf_trace make_trace(const char *text)
{
	struct perf_trace t;
	struct perf_err err = {""};

	if (!perf_trace_parse(text, strlen(text), "t", 0, &t, &err))
		fail_msg("%s", err.text);
	return t;
}

static char *conversations(int turns, int users)
{
	char *text = malloc(200000), *at = text;

	assert_non_null(text);
	for (int turn = 0; turn < turns; turn++) {
		for (int u = 0; u < users; u++) {
			at += sprintf(at, "{\"timestamp\":%d,\"input_length\":%d,\"output_length\":1,\"hash_ids\":[0",
				      turn, 512 * (turn * 4 + 5));
			for (int i = 0; i < turn * 4 + 4; i++)
				at += sprintf(at, ",%d", 1000 * (u + 1) + i);
			at += sprintf(at, "]}\n");
		}
	}
	return text;
}

static void route__round_robin(void **state)
{
	char *text = conversations(3, 4);
	struct perf_trace t = make_trace(text);
	struct perf_route r;

	(void)state;
	assert_true(perf_route_make(&t, 2, 3, PERF_ROUTE_ROUND_ROBIN, &r));
	for (uint32_t i = 0; i < t.n; i++) {
		assert_int_equal(r.prefill[i], i % 2);
		assert_int_equal(r.decode[i], i / 2 % 3);
	}
	perf_route_free(&r);
	perf_trace_free(&t);
	free(text);
}

/* A conversation stays where its prefix is, and all ranks get work although everybody shares the first block. */
static void route__prefix_keeps_conversations_together(void **state)
{
	enum { USERS = 12 };
	char *text = conversations(4, USERS);
	struct perf_trace t = make_trace(text);
	struct perf_route r;
	uint32_t used[3] = {0};

	(void)state;
	assert_true(perf_route_make(&t, 2, 3, PERF_ROUTE_PREFIX, &r));
	for (uint32_t i = 0; i < t.n; i++) {
		assert_true(r.decode[i] < 3);
		used[r.decode[i]]++;
		if (i >= USERS)
			assert_int_equal(r.decode[i], r.decode[i % USERS]);
	}
	for (int d = 0; d < 3; d++)
		assert_true(used[d] >= t.n / 6);
	perf_route_free(&r);
	perf_trace_free(&t);
	free(text);
}

static void route__many_decode_ranks(void **state)
{
	enum { DECODE = 130, USERS = 150 };
	char *text = conversations(1, USERS);
	struct perf_trace t = make_trace(text);
	struct perf_route a, b;
	uint8_t used[DECODE] = {0};
	uint32_t n = 0;

	(void)state;
	assert_true(perf_route_make(&t, 1, DECODE, PERF_ROUTE_PREFIX, &a));
	assert_true(perf_route_make(&t, 1, DECODE, PERF_ROUTE_PREFIX, &b));
	for (uint32_t i = 0; i < t.n; i++) {
		assert_int_equal(a.decode[i], b.decode[i]);
		assert_true(a.decode[i] < DECODE);
		n += !used[a.decode[i]];
		used[a.decode[i]] = 1;
	}
	assert_true(n > 100);
	perf_route_free(&a);
	perf_route_free(&b);
	perf_route_free(NULL);
	perf_trace_free(&t);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(route__round_robin),
		cmocka_unit_test(route__prefix_keeps_conversations_together),
		cmocka_unit_test(route__many_decode_ranks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

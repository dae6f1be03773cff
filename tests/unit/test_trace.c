/* SPDX-License-Identifier: BSD-3-Clause */
/* test_trace.c - the trace parser: every complaint with its line, then what a good trace becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace.h"

#define ROW(t, in, out, ids)                                                                                           \
	"{\"timestamp\": " #t ", \"input_length\": " #in ", \"output_length\": " #out ", \"hash_ids\": [" ids "]}"

static struct perf_trace trace;
static struct perf_err err;

static bool parse(const char *text, uint64_t limit)
{
	err.text[0] = '\0';
	return perf_trace_parse(text, strlen(text), "t.jsonl", limit, &trace, &err);
}

/* The text must be refused, with this beginning and this somewhere in the message. */
static void refuse(const char *text, const char *where, const char *what)
{
	assert_false(parse(text, 0));
	assert_null(trace.req);
	assert_int_equal(trace.n, 0);
	if (strncmp(err.text, where, strlen(where)) != 0 || strstr(err.text, what) == NULL)
		fail_msg("\"%s\" does not begin with \"%s\" or lacks \"%s\"", err.text, where, what);
}

static void parse__not_json(void **state)
{
	(void)state;
	refuse("hello\n", "t.jsonl:1:", "not a JSON object");
	refuse(ROW(0, 5, 1, "0") "\n{\"timestamp\": \n", "t.jsonl:2:", "ends too early");
	refuse(ROW(0, 5, 1, "0") "\n\n\n[1]\n", "t.jsonl:4:", "not a JSON object");
	refuse("null\n", "t.jsonl:1:", "");
	refuse("7\n", "t.jsonl:1:", "");
	refuse(ROW(0, 5, 1, "0") " x\n", "t.jsonl:1:", "");
	refuse(ROW(0, 5, 1, "0") ROW(0, 5, 1, "0") "\n", "t.jsonl:1:", "");
	refuse("[[[[[[[[[[[[1]]]]]]]]]]]]\n", "t.jsonl:1:", "");
}

static void parse__nul_byte(void **state)
{
	static const char text[] = "{\"a\":\0 1}\n";

	(void)state;
	err.text[0] = '\0';
	assert_false(perf_trace_parse(text, sizeof(text) - 1, "t", 0, &trace, &err));
	assert_non_null(strstr(err.text, "t:1: a NUL byte"));
}

static void parse__empty(void **state)
{
	(void)state;
	refuse("", "t.jsonl:", "no request");
	refuse("\n \r\n\t\n", "t.jsonl:", "no request");
}

static void parse__line_too_long(void **state)
{
	size_t len = PERF_TRACE_LINE + 2;
	char *text = malloc(len);

	(void)state;
	assert_non_null(text);
	memset(text, '{', len);
	err.text[0] = '\0';
	assert_false(perf_trace_parse(text, len, "t", 0, &trace, &err));
	assert_non_null(strstr(err.text, "t:1: line of"));
	free(text);
}

static void parse__missing_member(void **state)
{
	(void)state;
	refuse("{}", "t.jsonl:1:", "\"timestamp\" is missing");
	refuse("{\"timestamp\":1}", "t.jsonl:1:", "\"input_length\" is missing");
	refuse("{\"timestamp\":1,\"input_length\":1}", "t.jsonl:1:", "\"output_length\" is missing");
	refuse("{\"timestamp\":1,\"input_length\":1,\"output_length\":1}", "t.jsonl:1:", "\"hash_ids\" is missing");
}

static void parse__wrong_type(void **state)
{
	(void)state;
	refuse(ROW("0", 5, 1, "0"), "t.jsonl:1:", "\"timestamp\" is not a number");
	refuse(ROW(true, 5, 1, "0"), "t.jsonl:1:", "\"timestamp\" is not a number");
	refuse(ROW(0, 5.5, 1, "0"), "t.jsonl:1:", "\"input_length\" is not an integer");
	refuse(ROW(0, null, 1, "0"), "t.jsonl:1:", "\"input_length\" is not an integer");
	refuse(ROW(0, 5, "1", "0"), "t.jsonl:1:", "\"output_length\" is not an integer");
	refuse(ROW(0, 5, 1, "\"0\""), "t.jsonl:1:", "\"hash_ids\"[0] is not an integer");
	refuse(ROW(0, 5, 1, "1.5"), "t.jsonl:1:", "\"hash_ids\"[0] is not an integer");
	refuse(ROW(0, 5, 1, "null"), "t.jsonl:1:", "\"hash_ids\"[0] is not an integer");
	refuse("{\"timestamp\":1,\"input_length\":1,\"output_length\":1,\"hash_ids\":3}", "t.jsonl:1:", "not an array");
}

static void parse__out_of_range(void **state)
{
	(void)state;
	refuse(ROW(-1, 5, 1, "0"), "t.jsonl:1:", "\"timestamp\" is -1");
	refuse(ROW(1e300, 5, 1, "0"), "t.jsonl:1:", "outside");
	refuse(ROW(0, 0, 1, ""), "t.jsonl:1:", "\"input_length\" is 0");
	refuse(ROW(0, -5, 1, "0"), "t.jsonl:1:", "\"input_length\" is -5");
	refuse(ROW(0, 16777217, 1, "0"), "t.jsonl:1:", "\"input_length\" is 16777217");
	refuse(ROW(0, 99999999999999999999999, 1, "0"), "t.jsonl:1:", "\"input_length\"");
	refuse(ROW(0, 5, -1, "0"), "t.jsonl:1:", "\"output_length\" is -1");
	refuse(ROW(0, 5, 1, "-1"), "t.jsonl:1:", "\"hash_ids\"[0] is outside");
	refuse(ROW(0, 5, 1, "99999999999999999999999"), "t.jsonl:1:", "\"hash_ids\"[0] is outside");
}

static void parse__hash_count(void **state)
{
	(void)state;
	refuse(ROW(0, 512, 1, "0, 1"), "t.jsonl:1:", "2 \"hash_ids\"");
	refuse(ROW(0, 513, 1, "0"), "t.jsonl:1:", "needs 2");
	refuse(ROW(0, 1, 1, ""), "t.jsonl:1:", "0 \"hash_ids\"");
	refuse(ROW(0, 1024, 1, "4, 4"), "t.jsonl:1:", "\"hash_ids\"[1] repeats 4");
}

static void parse__time_runs_backwards(void **state)
{
	(void)state;
	refuse(ROW(5, 5, 1, "0") "\n" ROW(4, 5, 1, "0"), "t.jsonl:2:", "earlier");
}

static void parse__good(void **state)
{
	(void)state;
	assert_true(parse("\n" ROW(0, 512, 7, "900") "\n\n" ROW(0, 513, 0, "900, 3") "\r\n  " ROW(
				  2.5, 1, 1, "9223372036854775806") "  \n\t\n",
			  0));
	assert_int_equal(trace.n, 3);
	assert_int_equal(trace.id_n, 4);
	assert_int_equal(trace.distinct_n, 3);
	assert_int_equal(trace.req[0].input, 512);
	assert_int_equal(trace.req[0].output, 7);
	assert_int_equal(trace.req[1].id_off, 1);
	assert_int_equal(perf_trace_id_count(&trace.req[1]), 2);
	assert_int_equal(trace.req[2].time_us, 2500);
	/* numbered in the order of their first appearance, equal ones alike */
	assert_int_equal(trace.id[0], 0);
	assert_int_equal(trace.id[1], 0);
	assert_int_equal(trace.id[2], 1);
	assert_int_equal(trace.id[3], 2);
	perf_trace_free(&trace);
}

static void parse__unknown_members_are_ignored(void **state)
{
	(void)state;
	assert_true(parse(
		"{\"session\": {\"x\": [1]}, \"timestamp\":1,\"input_length\":1,\"output_length\":1,\"hash_ids\":[3]}",
		0));
	perf_trace_free(&trace);
}

static void parse__limit(void **state)
{
	(void)state;
	/* what lies behind the limit is not looked at */
	assert_true(parse(ROW(0, 5, 1, "0") "\n" ROW(0, 5, 1, "0") "\nrubbish\n", 2));
	assert_int_equal(trace.n, 2);
	perf_trace_free(&trace);
	refuse(ROW(0, 5, 1, "0") "\n" ROW(0, 5, 1, "0") "\nrubbish\n", "t.jsonl:3:", "");
}

/* Many different hashes: the table grows, numbers stay right. */
static void parse__many_hashes(void **state)
{
	enum { ROWS = 3000 };
	char *text = malloc(ROWS * 96), *at = text;

	(void)state;
	assert_non_null(text);
	for (int i = 0; i < ROWS; i++)
		at += sprintf(at, "{\"timestamp\":%d,\"input_length\":600,\"output_length\":1,\"hash_ids\":[%d,%d]}\n",
			      i, i * 4096, i % 2 ? 1 : 4096 * (ROWS - 1 - i) + 4096 * ROWS);
	assert_true(parse(text, 0));
	assert_int_equal(trace.n, ROWS);
	assert_int_equal(trace.distinct_n, ROWS + ROWS / 2 + 1);
	for (uint32_t i = 1; i < ROWS; i += 2) {
		assert_int_equal(trace.id[2 * i + 1], trace.id[3]);
		assert_int_not_equal(trace.id[2 * i], trace.id[2 * i - 2]);
	}
	perf_trace_free(&trace);
	free(text);
}

static void load__no_file(void **state)
{
	(void)state;
	err.text[0] = '\0';
	assert_false(perf_trace_load("/nonexistent/trace", 0, &trace, &err));
	assert_non_null(strstr(err.text, "/nonexistent/trace: cannot open"));
	err.text[0] = '\0';
	assert_false(perf_trace_load("/", 0, &trace, &err));
	assert_non_null(strstr(err.text, "is a directory"));
}

static void load__file(void **state)
{
	char path[] = "/tmp/mc_trace_XXXXXX";
	int fd = mkstemp(path);
	static const char text[] = ROW(1, 5, 1, "0") "\n" ROW(2, 5, 1, "8");

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
	err.text[0] = '\0';
	assert_true(perf_trace_load(path, 0, &trace, &err));
	unlink(path);
	assert_int_equal(trace.n, 2);
	assert_int_equal(trace.distinct_n, 2);
	perf_trace_free(&trace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse__not_json),
		cmocka_unit_test(parse__nul_byte),
		cmocka_unit_test(parse__empty),
		cmocka_unit_test(parse__line_too_long),
		cmocka_unit_test(parse__missing_member),
		cmocka_unit_test(parse__wrong_type),
		cmocka_unit_test(parse__out_of_range),
		cmocka_unit_test(parse__hash_count),
		cmocka_unit_test(parse__time_runs_backwards),
		cmocka_unit_test(parse__good),
		cmocka_unit_test(parse__unknown_members_are_ignored),
		cmocka_unit_test(parse__limit),
		cmocka_unit_test(parse__many_hashes),
		cmocka_unit_test(load__no_file),
		cmocka_unit_test(load__file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

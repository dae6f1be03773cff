/* SPDX-License-Identifier: BSD-3-Clause */
/* test_replay_table.c - block tables between the ranks of instances: in parts, from several ranks, and malformed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replay_cut.h"

enum { TOKENS = 100, DST_N = 7, SRC_N = 2 }; /* blocks of 16 and of 64 */

static struct perf_trace_req request[2] = {{.input = TOKENS}, {.input = TOKENS}};
static uint32_t prefill_of[2], decode_of[2] = {0, 1};
static struct replay_cut cut = {.side = KVP_DST, .lanes = {1, 1}};

static struct replay rig(void)
{
	struct replay r = {.trace = {.req = request, .n = 2}, .cut = &cut};

	r.route.prefill = prefill_of;
	r.route.decode = decode_of;
	r.o.side[KVP_SRC].block_tokens = 64;
	r.o.side[KVP_DST].block_tokens = 16;
	return r;
}

struct part {
	uint32_t tokens, dst_n, src_n, start, n; /* n: blocks in it, numbered from start */
};

static bool take(struct replay *r, uint32_t peer, uint64_t number, struct part p, struct replay_table **open,
		 struct replay_table **out)
{
	uint8_t buf[256];
	struct perf_wr w;

	perf_wr_init(&w, buf, sizeof(buf));
	perf_wr_u32(&w, p.tokens);
	perf_wr_u32(&w, p.dst_n);
	perf_wr_u32(&w, p.src_n);
	perf_wr_u32(&w, p.start);
	for (uint32_t i = 0; i < p.n; i++)
		perf_wr_u32(&w, 1000 + p.start + i);
	struct mc_note note = {.peer = peer, .tag = perf_tag(PERF_K_REQ, number), .data = buf, .len = perf_wr_len(&w)};
	return replay_table_take(r, &note, open, out);
}

static void free_all(struct replay_table *t)
{
	while (t != NULL) {
		struct replay_table *next = t->next;
		replay_table_free(t);
		t = next;
	}
}

static void take__in_parts_from_two_ranks(void **state)
{
	struct replay r = rig();
	struct replay_table *open = NULL, *out;

	(void)state;
	assert_true(take(&r, 3, 0, (struct part){TOKENS, DST_N, SRC_N, 0, 4}, &open, &out));
	assert_null(out);
	assert_true(take(&r, 5, 0, (struct part){TOKENS, DST_N, 0, 0, DST_N}, &open, &out));
	assert_non_null(out); /* another rank's, all at once */
	assert_int_equal(out->from, 5);
	free_all(out);
	assert_true(take(&r, 3, 0, (struct part){TOKENS, DST_N, SRC_N, 4, 5}, &open, &out));
	assert_non_null(out);
	assert_null(open);
	assert_int_equal(out->tokens, TOKENS);
	for (uint32_t i = 0; i < DST_N + SRC_N; i++)
		assert_int_equal(out->block[i], 1000 + i);
	free_all(out);
	/* everything is there already: no blocks at all */
	assert_true(take(&r, 3, 0, (struct part){0, 0, 0, 0, 0}, &open, &out));
	assert_non_null(out);
	free_all(out);
}

static void take__malformed(void **state)
{
	static const struct part bad[] = {
		{TOKENS + 1, DST_N, 0, 0, DST_N},     /* more tokens than the request has */
		{TOKENS, DST_N + 1, 0, 0, DST_N + 1}, /* too many blocks for them */
		{TOKENS, DST_N, 1, 0, DST_N + 1},     /* too few source blocks */
		{TOKENS, DST_N, 0, 1, DST_N - 1},     /* the first part is missing */
		{0, DST_N, 0, 0, DST_N},
	};
	struct replay r = rig();

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct replay_table *open = NULL, *out;
		assert_false(take(&r, 3, 0, bad[i], &open, &out));
		assert_null(out);
		free_all(open);
	}
}

static void take__more_blocks_than_announced(void **state)
{
	struct replay r = rig();
	struct replay_table *open = NULL, *out;

	(void)state;
	assert_false(take(&r, 3, 0, (struct part){TOKENS, DST_N, 0, 0, DST_N + 1}, &open, &out));
	assert_null(out);
	free_all(open);
	open = NULL;
	assert_true(take(&r, 3, 0, (struct part){TOKENS, DST_N, 0, 0, 3}, &open, &out));
	assert_false(take(&r, 3, 0, (struct part){TOKENS, DST_N, 0, 2, 3}, &open, &out)); /* a part twice */
	free_all(open);
}

static void take__not_for_this_rank(void **state)
{
	struct replay r = rig();
	struct replay_table *open = NULL, *out;
	struct mc_note cut_short = {.peer = 3, .tag = perf_tag(PERF_K_REQ, 0), .data = "abc", .len = 3};

	(void)state;
	assert_false(take(&r, 3, 1, (struct part){TOKENS, DST_N, 0, 0, DST_N}, &open, &out));
	assert_false(take(&r, 3, 2, (struct part){TOKENS, DST_N, 0, 0, DST_N}, &open, &out)); /* no such request */
	assert_false(replay_table_take(&r, &cut_short, &open, &out));
	assert_null(open);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(take__in_parts_from_two_ranks),
		cmocka_unit_test(take__malformed),
		cmocka_unit_test(take__more_blocks_than_announced),
		cmocka_unit_test(take__not_for_this_rank),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Prepared lists: whole and selected, from several threads, on each way that bytes can go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dlist.h"
#include "dlist_pair.h"

static void whole_again(struct pair *p)
{
	enum { N = BLOCKS / 2 };
	uint32_t from[BLOCKS], to[BLOCKS];
	shuffle(from, BLOCKS);
	shuffle(to, BLOCKS);
	struct mc_dlist *l = blocks_list(p, from, to, N);
	struct mc_counter *c;
	assert_int_equal(mc_counter_open(p->c.ctx[1], 17, 0, &c), MC_OK);
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = 17, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note, .timeout_ns = 20 * SEC};
	for (uint64_t round = 1; round <= 5; round++) {
		struct mc_req *req;
		fill(p->a, POOL, round);
		assert_int_equal(mc_dlist_put(l, &opts, &req), MC_OK);
		assert_int_equal(mc_counter_wait(c, round, 20 * SEC), MC_OK);
		for (uint32_t i = 0; i < N; i++)
			assert_memory_equal(p->a + from[i] * BLOCK, p->b + to[i] * BLOCK, BLOCK);
		for (uint32_t i = N; i < BLOCKS; i++)
			assert_int_equal(p->b[to[i] * BLOCK], 0);
		assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
		struct mc_req_stats st = {.size = sizeof(st)};
		assert_int_equal(mc_req_query(req, &st), MC_OK);
		assert_int_equal(st.slices, N);
		assert_int_equal(st.bytes, (uint64_t)N * BLOCK);
		mc_req_free(req);
	}
	fill(p->b, POOL, 77);
	struct mc_req *req[3];
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(mc_dlist_get(l, NULL, &req[i]), MC_OK);
	for (uint32_t i = 0; i < 3; i++)
		end_ok(req[i]);
	for (uint32_t i = 0; i < N; i++)
		assert_memory_equal(p->a + from[i] * BLOCK, p->b + to[i] * BLOCK, BLOCK);
	mc_counter_close(c);
	mc_dlist_free(l);
}

static void dlist__posted_again_and_at_once(void **state)
{
	(void)state;
	for_each_way(whole_again);
}

/* What one descriptor can say is said once: adjacent slices are one run, equal steps one strided run in messages. */
static void merged(struct pair *p)
{
	enum { N = 100 };
	struct mc_slice s[N];
	struct mc_dlist *l;
	struct mc_req *req;
	struct mc_req_stats st = {.size = sizeof(st)};
	for (uint64_t step = 1; step <= 3; step++) {
		for (uint64_t i = 0; i < N; i++)
			s[i] = (struct mc_slice){p->src, i * step * 512, p->to, i * step * (step == 1 ? 512 : 1024),
						 512};
		s[N - 1].len = 0;
		memset(p->b, 0, POOL);
		assert_int_equal(mc_dlist_create(p->c.ctx[0], 1, s, N, &l), MC_OK);
		assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
		assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
		assert_int_equal(mc_req_query(req, &st), MC_OK);
		assert_int_equal(st.slices, N);
		assert_int_equal(st.bytes, (N - 1) * 512);
		assert_int_equal(st.runs, step == 1 || !l->rma ? 1 : N - 1);
		mc_req_free(req);
		for (uint64_t i = 0; i < N - 1; i++)
			assert_memory_equal(p->a + s[i].off, p->b + s[i].roff, 512);
		if (step > 1)
			assert_int_equal(p->b[s[3].roff + 512], 0);
		memset(p->a, 0, POOL);
		fill(p->b, POOL, step);
		assert_int_equal(mc_dlist_get(l, NULL, &req), MC_OK);
		end_ok(req);
		for (uint64_t i = 0; i < N - 1; i++)
			assert_memory_equal(p->a + s[i].off, p->b + s[i].roff, 512);
		fill(p->a, POOL, 11);
		mc_dlist_free(l);
	}
}

static void dlist__merges_once(void **state)
{
	(void)state;
	for_each_way(merged);
}

/* All blocks of two pools, each entry one half; then block tables by number. */
static void selected(struct pair *p)
{
	enum { N = 300 };
	static struct mc_slice s[2 * BLOCKS];
	static uint32_t here[BLOCKS], there[BLOCKS];
	struct mc_dlist *l;
	struct mc_req *req;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		s[i] = (struct mc_slice){.mem = p->src, .off = (uint64_t)i * BLOCK, .len = BLOCK};
		s[BLOCKS + i] = (struct mc_slice){.rmem = p->to, .roff = (uint64_t)i * BLOCK, .len = BLOCK};
	}
	assert_int_equal(mc_dlist_create(p->c.ctx[0], 1, s, 2 * BLOCKS, &l), MC_OK);
	for (int round = 0; round < 3; round++) {
		fill(p->a, POOL, 5u + (uint64_t)round);
		memset(p->b, 0, POOL);
		shuffle(here, BLOCKS);
		shuffle(there, BLOCKS);
		for (uint32_t i = 0; i < BLOCKS; i++)
			there[i] += BLOCKS;
		if (round == 1) { /* two that are adjacent on both sides */
			here[0] = 8, here[1] = 9, there[0] = BLOCKS + 4, there[1] = BLOCKS + 5;
			for (uint32_t i = 2; i < N; i++)
				here[i] = 100 + 2 * i, there[i] = BLOCKS + 100 + 2 * i;
		}
		assert_int_equal(mc_dlist_put_some(l, here, there, N, NULL, &req), MC_OK);
		assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
		struct mc_req_stats st = {.size = sizeof(st)};
		assert_int_equal(mc_req_query(req, &st), MC_OK);
		assert_int_equal(st.bytes, (uint64_t)N * BLOCK);
		assert_true(round != 1 || st.runs == N - 1);
		mc_req_free(req);
		for (uint32_t i = 0; i < N; i++)
			assert_memory_equal(p->a + here[i] * BLOCK, p->b + (there[i] - BLOCKS) * BLOCK, BLOCK);
		uint32_t written = 0;
		for (uint32_t i = 0; i < BLOCKS; i++)
			written += memcmp(p->b + i * BLOCK, &(uint64_t){0}, 8) != 0;
		assert_int_equal(written, N);
	}
	fill(p->b, POOL, 91);
	assert_int_equal(mc_dlist_get_some(l, here, there, N, NULL, &req), MC_OK);
	end_ok(req);
	for (uint32_t i = 0; i < N; i++)
		assert_memory_equal(p->a + here[i] * BLOCK, p->b + (there[i] - BLOCKS) * BLOCK, BLOCK);
	mc_dlist_free(l);
}

static void dlist__selected_by_number(void **state)
{
	(void)state;
	for_each_way(selected);
}

static void selected_pairs(struct pair *p)
{
	uint32_t from[BLOCKS], to[BLOCKS], pick[64];
	shuffle(from, BLOCKS);
	shuffle(to, BLOCKS);
	struct mc_dlist *l = blocks_list(p, from, to, BLOCKS);
	for (uint32_t i = 0; i < 64; i++)
		pick[i] = (uint32_t)(rnd() % (BLOCKS / 64)) + i * (BLOCKS / 64);
	struct mc_req *req;
	assert_int_equal(mc_dlist_put_some(l, pick, NULL, 64, NULL, &req), MC_OK);
	end_ok(req);
	for (uint32_t i = 0; i < 64; i++)
		assert_memory_equal(p->a + from[pick[i]] * BLOCK, p->b + to[pick[i]] * BLOCK, BLOCK);
	mc_dlist_free(l);
}

static void dlist__selected_pairs(void **state)
{
	(void)state;
	for_each_way(selected_pairs);
}

/* Refused, and nothing was sent. */
static void bad_arguments(struct pair *p)
{
	struct mc_ctx *ctx = p->c.ctx[0];
	struct mc_dlist *l = NULL;
	struct mc_req *req = NULL;
	struct mc_slice s[4] = {{p->src, 0, p->to, 0, 64},
				{p->src, 64, p->to, 64, 32},
				{.mem = p->src, .off = 128, .len = 64},
				{.rmem = p->to, .roff = 256, .len = 64}};
	struct mc_slice t = s[0];
	t.off = POOL - 63;
	assert_int_equal(mc_dlist_create(ctx, 1, &t, 1, &l), MC_ERR_RANGE);
	t = s[2];
	t.off = UINT64_MAX - 5;
	assert_int_equal(mc_dlist_create(ctx, 1, &t, 1, &l), MC_ERR_RANGE);
	t = s[3];
	t.roff = POOL;
	assert_int_equal(mc_dlist_create(ctx, 1, &t, 1, &l), MC_ERR_RANGE);
	assert_int_equal(mc_dlist_create(ctx, 1, &(struct mc_slice){.len = 1}, 1, &l), MC_ERR_INVAL);
	assert_int_equal(mc_dlist_create(ctx, 0, s, 1, &l), MC_ERR_INVAL); /* rmem of another peer */
	assert_int_equal(mc_dlist_create(ctx, 2, s, 1, &l), MC_ERR_INVAL);
	assert_int_equal(mc_dlist_create(ctx, 1, NULL, 1, &l), MC_ERR_INVAL);
	t = (struct mc_slice){.mem = p->dst, .len = 1}; /* another context's */
	assert_int_equal(mc_dlist_create(ctx, 1, &t, 1, &l), MC_ERR_INVAL);
	assert_null(l);
	assert_int_equal(mc_dlist_create(ctx, 1, s, 4, &l), MC_OK);
	struct mc_xfer_opts opts = {.size = 1};
	assert_int_equal(mc_dlist_put(l, NULL, &req), MC_ERR_INVAL); /* halves */
	assert_int_equal(mc_dlist_put_some(l, (uint32_t[]){0}, NULL, 1, &opts, &req), MC_ERR_INVAL);
	assert_int_equal(mc_dlist_put_some(l, NULL, NULL, 1, NULL, &req), MC_ERR_INVAL);
	assert_int_equal(mc_dlist_put_some(l, (uint32_t[]){0, 4}, NULL, 2, NULL, &req), MC_ERR_RANGE);
	assert_int_equal(mc_dlist_put_some(l, (uint32_t[]){0}, (uint32_t[]){4}, 1, NULL, &req), MC_ERR_RANGE);
	assert_int_equal(mc_dlist_get_some(l, (uint32_t[]){0}, (uint32_t[]){1}, 1, NULL, &req), MC_ERR_INVAL);
	assert_int_equal(mc_dlist_get_some(l, (uint32_t[]){3}, NULL, 1, NULL, &req), MC_ERR_INVAL);
	assert_int_equal(mc_dlist_put_some(l, (uint32_t[]){2}, NULL, 1, NULL, &req), MC_ERR_INVAL);
	assert_null(req);
	assert_int_equal(mc_connect(ctx, 1, 30 * SEC), MC_OK); /* an echo behind whatever was sent */
	for (uint32_t i = 0; i < 1024; i++)
		assert_int_equal(p->b[i], 0);
	assert_int_equal(mc_dlist_put_some(l, (uint32_t[]){0, 2}, (uint32_t[]){0, 3}, 2, NULL, &req), MC_OK);
	end_ok(req);
	assert_memory_equal(p->a, p->b, 64);
	assert_memory_equal(p->a + 128, p->b + 256, 64);
	mc_dlist_free(l);
	mc_dlist_free(NULL);
}

static void dlist__bad_arguments(void **state)
{
	(void)state;
	for_each_way(bad_arguments);
}

static void empty(struct pair *p)
{
	struct mc_dlist *l;
	struct mc_counter *c;
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = 3, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note};
	struct mc_slice zero[2] = {{p->src, 0, p->to, 0, 0}, {p->src, POOL, p->to, POOL, 0}};
	assert_int_equal(mc_counter_open(p->c.ctx[1], 3, 0, &c), MC_OK);
	for (uint32_t n = 0; n <= 2; n++) {
		assert_int_equal(mc_dlist_create(p->c.ctx[0], 1, zero, n, &l), MC_OK);
		assert_int_equal(mc_dlist_put(l, &opts, NULL), MC_OK);
		assert_int_equal(mc_dlist_put_some(l, NULL, NULL, 0, &opts, NULL), MC_OK);
		mc_dlist_free(l);
	}
	assert_int_equal(mc_counter_wait(c, 6, 30 * SEC), MC_OK);
	mc_counter_close(c);
}

static void dlist__empty_notifies(void **state)
{
	(void)state;
	for_each_way(empty);
}

/* Regions are busy while the list lives, and a released descriptor with it. */
static void keeps_regions(struct pair *p)
{
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	struct mc_dlist *l;
	struct mc_req *req;
	assert_int_equal(mc_mem_alloc(p->c.ctx[0], BLOCK, NULL, &src), MC_OK);
	cluster_share(&p->c, 1, 0, BLOCK, &dst, &to);
	struct mc_slice s = {src, 0, to, 0, BLOCK};
	fill(mc_mem_addr(src), BLOCK, 4);
	assert_int_equal(mc_dlist_create(p->c.ctx[0], 1, &s, 1, &l), MC_OK);
	assert_int_equal(mc_mem_free(src), MC_ERR_BUSY);
	mc_rmem_release(to);
	assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
	end_ok(req);
	assert_memory_equal(mc_mem_addr(src), mc_mem_addr(dst), BLOCK);
	/* The target frees it: an error, not a wrong write. */
	assert_int_equal(mc_mem_free(dst), MC_OK);
	mc_status_t st = mc_dlist_put(l, NULL, &req);
	if (st == MC_OK) {
		st = mc_req_wait(req, 30 * SEC);
		mc_req_free(req);
	}
	assert_int_equal(st, MC_ERR_STALE);
	assert_int_equal(mc_mem_free(src), MC_ERR_BUSY);
	mc_dlist_free(l);
	assert_int_equal(mc_mem_free(src), MC_OK);
}

static void dlist__keeps_its_regions(void **state)
{
	(void)state;
	for_each_way(keeps_regions);
}

struct poster {
	struct mc_dlist *l;
	mc_status_t status;
};

static void *post_many(void *arg)
{
	struct poster *t = arg;
	struct mc_req *req[16];
	for (int round = 0; round < 4; round++) {
		uint32_t n = 0;
		for (; n < 16 && t->status == MC_OK; n++)
			t->status = mc_dlist_put(t->l, NULL, &req[n]);
		for (uint32_t i = 0; i < n && t->status == MC_OK; i++) {
			t->status = mc_req_wait(req[i], 20 * SEC);
			mc_req_free(req[i]);
		}
	}
	return NULL;
}

static void four_threads(struct pair *p)
{
	uint32_t from[BLOCKS], to[BLOCKS];
	shuffle(from, BLOCKS);
	shuffle(to, BLOCKS);
	struct mc_dlist *l = blocks_list(p, from, to, 40);
	pthread_t t[4];
	struct poster po[4];
	for (uint32_t i = 0; i < 4; i++) {
		po[i] = (struct poster){.l = l};
		assert_int_equal(pthread_create(&t[i], NULL, post_many, &po[i]), 0);
	}
	for (uint32_t i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(po[i].status, MC_OK);
	}
	for (uint32_t i = 0; i < 40; i++)
		assert_memory_equal(p->a + from[i] * BLOCK, p->b + to[i] * BLOCK, BLOCK);
	mc_dlist_free(l);
}

static void dlist__one_list_four_threads(void **state)
{
	(void)state;
	for_each_way(four_threads);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dlist__posted_again_and_at_once),
		cmocka_unit_test(dlist__merges_once),
		cmocka_unit_test(dlist__selected_by_number),
		cmocka_unit_test(dlist__selected_pairs),
		cmocka_unit_test(dlist__bad_arguments),
		cmocka_unit_test(dlist__empty_notifies),
		cmocka_unit_test(dlist__keeps_its_regions),
		cmocka_unit_test(dlist__one_list_four_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

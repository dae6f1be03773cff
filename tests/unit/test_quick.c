/* SPDX-License-Identifier: BSD-3-Clause */
/* Small puts of one slice over shared memory, which end inside the call: order, content, errors, and what must wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cluster.h"

enum { POOL = 4 << 20, TAG = 7 };

struct pair {
	struct cluster c;
	struct mc_mem *src, *dst;
	struct mc_rmem *to; /* dst seen from rank 0 */
	struct mc_counter *count;
};

static void turn(struct pair *p)
{
	mc_progress(p->c.ctx[0]);
	mc_progress(p->c.ctx[1]);
}

static void pair_up(struct pair *p)
{
	struct mc_rmem *to = NULL;
	uint8_t blob[4096];
	uint32_t len = sizeof(blob);

	memset(p, 0, sizeof(*p));
	p->c.progress = "manual";
	cluster_up(&p->c, 2, "shm", "shm");
	assert_int_equal(mc_mem_alloc(p->c.ctx[0], POOL, NULL, &p->src), MC_OK);
	assert_int_equal(mc_mem_alloc(p->c.ctx[1], POOL, NULL, &p->dst), MC_OK);
	assert_int_equal(mc_mem_export(p->dst, blob, &len), MC_OK);
	assert_int_equal(mc_mem_import(p->c.ctx[0], 1, blob, len, &to), MC_OK);
	p->to = to;
	assert_int_equal(mc_counter_open(p->c.ctx[1], TAG, 0, &p->count), MC_OK);
	for (int i = 0; i < 100; i++) /* EP_UP */
		turn(p);
}

static void pair_down(struct pair *p)
{
	mc_counter_close(p->count);
	mc_rmem_release(p->to);
	assert_int_equal(mc_mem_free(p->src), MC_OK);
	if (p->dst != NULL)
		assert_int_equal(mc_mem_free(p->dst), MC_OK);
	cluster_down(&p->c);
}

static uint8_t *bytes(const struct mc_mem *mem)
{
	return mem->addr;
}

/* A put of len bytes from and to off, with a note of note_len bytes that all are `value`. */
static struct mc_req *put(struct pair *p, uint64_t off, uint64_t len, uint8_t value, uint32_t note_len)
{
	static uint8_t note_bytes[1024];
	struct mc_slice s = {p->src, off, p->to, off, len};
	struct mc_notify n = {.size = sizeof(n),
			      .flags = MC_NOTIFY_COUNT | (note_len > 0 ? (uint32_t)MC_NOTIFY_NOTE : 0),
			      .tag = TAG,
			      .add = 1,
			      .data = note_bytes,
			      .data_len = note_len};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &n};
	struct mc_req *req = NULL;

	memset(note_bytes, value, note_len);
	memset(bytes(p->src) + off, value, len);
	assert_int_equal(mc_put(p->c.ctx[0], 1, &s, 1, &opts, &req), MC_OK);
	assert_non_null(req);
	return req;
}

static void finish(struct pair *p, struct mc_req *req)
{
	int64_t end = mc_now_ns() + 30 * SEC;

	while (mc_req_test(req) == MC_IN_PROGRESS && mc_now_ns() < end)
		turn(p);
	assert_int_equal(mc_req_test(req), MC_OK);
	mc_req_free(req);
}

static void await_count(struct pair *p, uint64_t n)
{
	int64_t end = mc_now_ns() + 30 * SEC;

	while (mc_counter_read(p->count) < n && mc_now_ns() < end)
		turn(p);
	assert_int_equal(mc_counter_read(p->count), n);
}

static void quick__ended_when_the_call_returns(void **state)
{
	struct mc_req_stats st = {.size = sizeof(st)};
	struct pair p;

	(void)state;
	pair_up(&p);
	struct mc_req *req = put(&p, 64, 8, 0x11, 0);
	assert_int_equal(mc_req_test(req), MC_OK); /* nobody has made progress since */
	assert_int_equal(mc_req_query(req, &st), MC_OK);
	assert_true(st.slices == 1 && st.runs == 1 && st.bytes == 8);
	assert_true(st.total_ns < 30 * SEC && st.post_ns <= st.total_ns);
	assert_int_equal(mc_req_cancel(req), MC_OK); /* too late */
	assert_int_equal(mc_req_wait(req, 0), MC_OK);
	mc_req_free(req);
	await_count(&p, 1);
	for (int i = 0; i < 8; i++)
		assert_int_equal(bytes(p.dst)[64 + i], 0x11);
	assert_int_equal(bytes(p.dst)[63] + bytes(p.dst)[72], 0);
	struct mc_slice s = {p.src, 64, p.to, 128, 8};
	assert_int_equal(mc_put(p.c.ctx[0], 1, &s, 1, NULL, NULL), MC_OK); /* no request, no notification */
	assert_int_equal(bytes(p.dst)[128], 0x11);
	pair_down(&p);
}

/* The target finds each put's own bytes and those of all before it, also of ones that took the long way. */
static void quick__order_among_all_sizes(void **state)
{
	enum { N = 120, STEP = 32 << 10 };
	static const uint64_t len[] = {8, 4096, 4097, 1, 300 << 10, 64, 16 << 10, 8};
	struct mc_req *req[N];
	struct mc_note *note;
	struct pair p;

	(void)state;
	pair_up(&p);
	for (uint32_t i = 0; i < N; i++) {
		uint64_t l = len[i % MC_ARRAY_LEN(len)];
		/* nor does a long note fit the short way; the target does not look meanwhile */
		req[i] = put(&p, i * STEP, l < STEP ? l : STEP, (uint8_t)(i + 1), i % 5 == 0 ? 200 : 8);
	}
	for (uint32_t i = 0; i < N; i++) {
		int64_t end = mc_now_ns() + 30 * SEC;
		while (mc_note_recv(p.c.ctx[1], 0, &note) != MC_OK && mc_now_ns() < end)
			turn(&p);
		assert_int_equal(((const uint8_t *)note->data)[0], i + 1);
		assert_int_equal(note->len, i % 5 == 0 ? 200 : 8);
		for (uint32_t k = 0; k <= i; k++)
			assert_int_equal(bytes(p.dst)[k * STEP], k + 1);
		mc_note_free(note);
	}
	for (uint32_t i = 0; i < N; i++)
		finish(&p, req[i]);
	await_count(&p, N);
	pair_down(&p);
}

/* More than the ring holds, to a target that does not read: the rest waits, nothing is lost or counted twice. */
static void quick__full_ring(void **state)
{
	enum { N = 3000 };
	static struct mc_req *req[N];
	uint32_t waiting = 0;
	struct pair p;

	(void)state;
	pair_up(&p);
	for (uint32_t i = 0; i < N; i++) {
		req[i] = put(&p, i * 8, 8, (uint8_t)(i * 7 + 1), 0);
		waiting += mc_req_test(req[i]) == MC_IN_PROGRESS;
	}
	assert_true(waiting > 0 && waiting < N);
	for (uint32_t i = 0; i < N; i++)
		finish(&p, req[i]);
	await_count(&p, N);
	assert_memory_equal(bytes(p.src), bytes(p.dst), N * 8);
	pair_down(&p);
}

static void quick__errors_are_those_of_every_put(void **state)
{
	struct mc_req *req = NULL;
	struct pair p;

	(void)state;
	pair_up(&p);
	struct mc_slice s = {p.src, POOL - 4, p.to, 0, 8};
	struct mc_notify n = {.size = sizeof(n), .flags = 64};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &n};
	assert_int_equal(mc_put(p.c.ctx[0], 1, &s, 1, NULL, &req), MC_ERR_RANGE);
	s = (struct mc_slice){p.src, 0, p.to, POOL - 7, 8};
	assert_int_equal(mc_put(p.c.ctx[0], 1, &s, 1, NULL, &req), MC_ERR_RANGE);
	s.roff = 0;
	assert_int_equal(mc_put(p.c.ctx[0], 1, &s, 1, &opts, &req), MC_ERR_INVAL);
	assert_null(req);
	/* the target frees the region: no byte, no notification */
	assert_int_equal(mc_mem_free(p.dst), MC_OK);
	p.dst = NULL;
	req = put(&p, 0, 8, 1, 0);
	int64_t end = mc_now_ns() + 30 * SEC;
	while (mc_req_test(req) == MC_IN_PROGRESS && mc_now_ns() < end)
		turn(&p);
	assert_int_equal(mc_req_test(req), MC_ERR_STALE);
	mc_req_free(req);
	for (int i = 0; i < 100; i++)
		turn(&p);
	assert_int_equal(mc_counter_read(p.count), 0);
	pair_down(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quick__ended_when_the_call_returns),
		cmocka_unit_test(quick__order_among_all_sizes),
		cmocka_unit_test(quick__full_ring),
		cmocka_unit_test(quick__errors_are_those_of_every_put),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

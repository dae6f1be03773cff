/* SPDX-License-Identifier: BSD-3-Clause */
/* test_backend_post.c - promises of post: bytes, DONE, order with messages, cancel, freed regions, small writes at
 * once. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "be_regions.h"
#include "be_tests.h"

void post__argument_limits(void **state)
{
	struct be_regions r;
	struct mc_be_slice sl;
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = 0, .slice = &sl, .cookie = 0};
	uint32_t taken = 99;

	(void)state;
	be_regions_open(&r, 4096);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_INVAL);
	post.n = 1;
	sl = be_slice(&r, 4096, 0, 1);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_RANGE);
	sl = be_slice(&r, 0, 4000, 97);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_RANGE);
	sl = be_slice(&r, 0, UINT64_MAX, 2);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_RANGE);
	post.op = 7;
	sl = be_slice(&r, 0, 0, 1);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_INVAL);
	assert_int_equal(taken, 99);
	for (int i = 0; i < 50; i++)
		pair_tick(&r.p);
	assert_int_equal(r.p.a.done_n, 0);
	be_regions_close(&r);
}

void post__writes_and_reads(void **state)
{
	enum { LEN = 1 << 20, BLOCK = 4096, N = LEN / BLOCK };
	struct be_regions r;
	uint64_t cookie;

	(void)state;
	be_regions_open(&r, LEN);
	pattern_fill(r.a, LEN, 1);
	for (uint32_t i = 0; i < N; i++) /* block i of a to block N-1-i of b */
		side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, be_slice(&r, i * BLOCK, (N - 1 - i) * BLOCK, BLOCK));
	while (r.p.a.done_n < N)
		pair_tick(&r.p);
	for (uint32_t i = 0; i < N; i++)
		assert_memory_equal(r.a + i * BLOCK, r.b + (N - 1 - i) * BLOCK, BLOCK);
	pattern_fill(r.b, LEN, 2);
	memset(r.a, 0, LEN);
	cookie = side_post1(&r.p.a, &r.p.b, MC_BE_READ, be_slice(&r, 0, 0, LEN));
	while (r.p.a.seen[cookie] == 0)
		pair_tick(&r.p);
	assert_true(pattern_ok(r.a, LEN, 2));
	assert_int_equal(r.p.a.bad_n, 0);
	assert_int_equal(r.p.a.done_n, N + 1);
	be_regions_close(&r);
}

/* (a), (b): many slices in one list: what is taken is done, one DONE per call that took something, nothing twice. */
void post__takes_a_prefix(void **state)
{
	enum { N = 10000, BLOCK = 512 };
	struct be_regions r;
	static struct mc_be_slice sl[N];
	uint32_t at = 0, calls = 0;

	(void)state;
	be_regions_open(&r, (uint64_t)N * BLOCK);
	pattern_fill(r.a, r.len, 3);
	for (uint32_t i = 0; i < N; i++)
		sl[i] = be_slice(&r, (uint64_t)i * BLOCK, (uint64_t)(i ^ 1) * BLOCK, BLOCK);
	while (at < N) {
		struct mc_be_post post = {.op = MC_BE_WRITE, .n = N - at, .slice = sl + at, .cookie = calls};
		uint32_t taken = UINT32_MAX;
		assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_OK);
		assert_true(taken <= N - at);
		at += taken;
		calls += taken > 0;
		if (taken == 0)
			pair_tick(&r.p);
	}
	while (r.p.a.done_n < calls)
		pair_tick(&r.p);
	for (int i = 0; i < 100; i++)
		pair_tick(&r.p);
	assert_int_equal(r.p.a.done_n, calls);
	assert_int_equal(r.p.a.bad_n, 0);
	for (uint32_t i = 0; i < N; i++)
		assert_memory_equal(r.a + (size_t)i * BLOCK, r.b + (size_t)(i ^ 1) * BLOCK, BLOCK);
	be_regions_close(&r);
}

void post__zero_and_big_slices(void **state)
{
	enum { LEN = 64 << 20 };
	struct be_regions r;
	int64_t t0;

	(void)state;
	be_regions_open(&r, LEN);
	pattern_fill(r.a, LEN, 4);
	side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, be_slice(&r, 0, 0, 0));
	side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, be_slice(&r, LEN, LEN, 0));
	side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, be_slice(&r, 0, 0, LEN));
	side_post1(&r.p.a, &r.p.b, MC_BE_READ, be_slice(&r, 0, 0, 0));
	t0 = mc_now_ns();
	while (r.p.a.done_n < 4)
		pair_tick(&r.p);
	assert_true(mc_now_ns() - t0 < INT64_C(30000000000));
	assert_memory_equal(r.a, r.b, LEN);
	assert_int_equal(r.p.a.bad_n, 0);
	be_regions_close(&r);
}

/* (d) with POST_MSG: each message finds the bytes of its own post and of all before it, in the order of the calls. */
struct msg_check {
	const struct be_regions *r;
	uint32_t next;
};

static void on_post_msg(struct side *s, const struct mc_be_event *ev)
{
	struct msg_check *c = s->arg;
	uint32_t i;

	assert_int_equal(ev->len, sizeof(i));
	memcpy(&i, ev->data, sizeof(i));
	assert_int_equal(i, c->next++);
	for (uint32_t k = 0; k <= i; k++)
		assert_int_equal(c->r->b[(size_t)k * 8192], k % 255 + 1);
}

void post__message_after_the_bytes(void **state)
{
	enum { N = 200, BLOCK = 8192 };
	struct be_regions r;
	struct msg_check check = {.r = &r};
	struct mc_be_slice sl;

	(void)state;
	be_regions_open(&r, (uint64_t)N * BLOCK);
	if (!(r.p.a.caps.flags & MC_CAP_POST_MSG)) {
		be_regions_close(&r);
		skip();
	}
	r.p.b.on_msg = on_post_msg;
	r.p.b.arg = &check;
	for (uint32_t i = 0; i < N; i++) {
		struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .msg = &i, .msg_len = sizeof(i)};
		uint32_t taken = 0;
		sl = be_slice(&r, (uint64_t)i * BLOCK, (uint64_t)i * BLOCK, BLOCK);
		r.a[(size_t)i * BLOCK] = (uint8_t)(i % 255 + 1);
		if (i % 3 == 2) { /* an ordinary message keeps its place between those of posts */
			side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, sl);
			while (r.p.a.done_n < r.p.a.next_cookie)
				pair_tick(&r.p);
			side_send(&r.p.a, &r.p.b, &i, sizeof(i), MC_SEND_COPY);
			r.p.a.seen[--r.p.a.next_cookie] = 0;
			continue;
		}
		post.cookie = r.p.a.next_cookie++;
		while (be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken) == MC_OK && taken == 0)
			pair_tick(&r.p);
	}
	while (check.next < N || r.p.a.done_n < r.p.a.next_cookie)
		pair_tick(&r.p);
	be_regions_close(&r);
}

void post__message_alone(void **state)
{
	struct be_regions r;
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = 0, .msg = "alone", .msg_len = 5, .cookie = 9};
	uint32_t taken = 1;

	(void)state;
	be_regions_open(&r, 4096);
	if (r.p.a.caps.flags & MC_CAP_POST_MSG) {
		assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_OK);
		assert_int_equal(taken, 0);
		while (r.p.b.msg_n < 1 || r.p.a.done_n < 1)
			pair_tick(&r.p);
		assert_int_equal(r.p.a.seen[9], 1);
		assert_memory_equal(r.p.b.msg[0].data, "alone", 5);
	}
	be_regions_close(&r);
}

static void on_bytes_there(struct side *s, const struct mc_be_event *ev)
{
	const struct be_regions *r = s->arg;
	uint64_t seed;

	assert_int_equal(ev->len, sizeof(seed));
	memcpy(&seed, ev->data, sizeof(seed));
	assert_true(pattern_ok(r->b, r->len, seed));
}

void post__send_after_done_finds_the_bytes(void **state)
{
	enum { LEN = 100000, N = 100 };
	struct be_regions r;

	(void)state;
	be_regions_open(&r, LEN);
	r.p.b.on_msg = on_bytes_there;
	r.p.b.arg = &r;
	for (uint64_t i = 0; i < N; i++) {
		uint64_t cookie;
		pattern_fill(r.a, LEN, i);
		cookie = side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, be_slice(&r, 0, 0, LEN));
		while (r.p.a.seen[cookie] == 0)
			pair_tick(&r.p);
		side_send(&r.p.a, &r.p.b, &i, sizeof(i), MC_SEND_COPY);
		while (r.p.b.msg_n <= i)
			pair_tick(&r.p);
	}
	be_regions_close(&r);
}

/* After the owner freed a region and a message of it arrived here, posts there fail, and the bytes stay. */
struct cancel_check {
	const struct be_regions *r;
	uint8_t got[256]; /* messages per number */
};

static void on_cancel_msg(struct side *s, const struct mc_be_event *ev)
{
	struct cancel_check *c = s->arg;
	uint32_t i;

	assert_int_equal(ev->len, sizeof(i));
	memcpy(&i, ev->data, sizeof(i));
	assert_true(i < sizeof(c->got));
	c->got[i]++;
	assert_int_equal(c->r->b[(size_t)i * 4096], i % 255 + 1);
}

/* Posts with a message each, every third canceled right away, by a cookie of its own. */
static void post_and_cancel(struct be_regions *r, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct mc_be_slice sl = be_slice(r, (uint64_t)i * 4096, (uint64_t)i * 4096, 4096);
		struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .msg = &i, .msg_len = sizeof(i)};
		uint32_t taken = 0;
		r->a[(size_t)i * 4096] = (uint8_t)(i % 255 + 1);
		post.cookie = r->p.a.next_cookie++;
		while (be_setup.ops->post(r->p.a.be, r->p.a.ep, &post, &taken) == MC_OK && taken == 0)
			pair_tick(&r->p);
		if (i % 3 == 0)
			be_setup.ops->cancel(r->p.a.be, r->p.a.ep, post.cookie);
	}
}

void cancel__one_done_and_no_message_of_a_failed_one(void **state)
{
	enum { N = 200 };
	struct be_regions r;
	struct cancel_check check = {.r = &r};
	uint32_t all = 0;

	(void)state;
	if (be_setup.ops->cancel == NULL)
		skip();
	be_regions_open(&r, (uint64_t)N * 4096);
	r.p.b.on_msg = on_cancel_msg;
	r.p.b.arg = &check;
	be_setup.ops->cancel(r.p.a.be, r.p.a.ep, 77); /* there is none */
	post_and_cancel(&r, N);
	while (r.p.a.done_n < N || all < N - r.p.a.bad_n) {
		pair_tick(&r.p);
		all = 0;
		for (uint32_t i = 0; i < N; i++)
			all += check.got[i];
	}
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(r.p.a.seen[i], 1);
	assert_true(r.p.a.bad_n <= (N + 2) / 3);
	assert_true(r.p.a.bad_n == 0 || r.p.a.bad_status == MC_ERR_CANCELED);
	for (uint32_t i = 0; i < N; i++)
		assert_true(check.got[i] == 1 || (i % 3 == 0 && check.got[i] == 0));
	side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, be_slice(&r, 0, 4096, 4096));
	while (r.p.a.done_n < N + 1)
		pair_tick(&r.p);
	assert_int_equal(r.b[4096], r.a[0]);
	be_regions_close(&r);
}

void post__stale_region(void **state)
{
	struct be_regions r;
	struct mc_be_slice sl;
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .cookie = 0};
	uint32_t taken = 0;
	mc_status_t st;

	(void)state;
	be_regions_open(&r, 4096);
	memset(r.a, 1, 4096);
	be_setup.ops->mem_dereg(r.p.b.be, r.mem_b);
	r.mem_b = NULL;
	side_send(&r.p.b, &r.p.a, "freed", 5, MC_SEND_COPY);
	while (r.p.a.msg_n < 1)
		pair_tick(&r.p);
	sl = be_slice(&r, 0, 0, 4096);
	st = be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken);
	if (st == MC_OK) {
		assert_int_equal(taken, 1);
		while (r.p.a.done_n == 0)
			pair_tick(&r.p);
		assert_int_equal(r.p.a.bad_status, MC_ERR_STALE);
	} else {
		assert_int_equal(st, MC_ERR_STALE);
	}
	for (int i = 0; i < 4096; i++)
		assert_int_equal(r.b[i], 0);
	be_regions_close(&r);
}

/* slice[] stays until DONE and may be posted again, several times at once; the bytes are those of the moment. */
void post__prepared(void **state)
{
	enum { N = 500, LEN = 1000 };
	struct be_regions r;
	struct mc_be_slice sl[N];
	struct mc_be_post post = {.op = MC_BE_WRITE, .slice = sl, .prepared = (uint64_t)N * LEN};
	uint32_t want = 0;

	(void)state;
	be_regions_open(&r, 2 * N * LEN);
	for (uint64_t i = 0; i < N; i++)
		sl[i] = be_slice(&r, i * 2 * LEN, (N - 1 - i) * 2 * LEN, LEN);
	for (uint64_t round = 0; round < 6; round++) {
		if (round % 3 == 0) { /* three of them are under way together */
			pattern_fill(r.a, r.len, round);
			memset(r.b, 0, r.len);
		}
		for (uint32_t at = 0; at < N;) {
			uint32_t taken = 0;
			post.slice = sl + at;
			post.n = N - at;
			post.prepared = at == 0 ? (uint64_t)N * LEN : 0;
			post.cookie = r.p.a.next_cookie;
			assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_OK);
			r.p.a.next_cookie += taken > 0;
			want += taken > 0;
			at += taken;
			if (taken == 0)
				pair_tick(&r.p);
		}
		while (round % 3 == 2 && r.p.a.done_n < want)
			pair_tick(&r.p);
		for (uint64_t i = 0; round % 3 == 2 && i < N; i++) {
			assert_memory_equal(r.a + sl[i].off, r.b + sl[i].roff, LEN);
			assert_int_equal(r.b[sl[i].roff + LEN], 0);
		}
	}
	assert_int_equal(r.p.a.bad_n, 0);
	be_regions_close(&r);
}

/* Bytes and message are there at the next look, in order with posts and messages; no DONE; refused, it does nothing. */
void put_now__as_a_post_that_is_done(void **state)
{
	enum { N = 300, BLOCK = 4096 };
	struct be_regions r;
	struct mc_be_rmem *rmem = NULL;
	struct mc_be_mem *mem = NULL;
	struct msg_check check = {.r = &r};
	uint8_t blob[4096];
	uint32_t n = sizeof(blob), now = 0;
	const size_t len = (size_t)N * 8192;

	(void)state;
	if (be_setup.ops->put_now == NULL)
		skip();
	be_regions_open(&r, len);
	int fd = memfd_create("contract", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0 && ftruncate(fd, (off_t)len) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	uint8_t *own = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *kept = r.b;
	assert_true(own != MAP_FAILED);
	struct mc_be_region region = {.addr = own, .len = len, .kind = MC_KIND_HOST, .fd = fd, .id = 3};
	assert_int_equal(be_setup.ops->mem_reg(r.p.b.be, &region, &mem), MC_OK);
	assert_int_equal(be_setup.ops->mem_export(r.p.b.be, mem, blob, &n), MC_OK);
	assert_int_equal(be_setup.ops->rmem_import(r.p.a.be, r.p.a.ep, blob, n, &rmem), MC_OK);
	r.b = own;
	r.p.b.on_msg = on_post_msg;
	r.p.b.arg = &check;
	for (uint32_t i = 0; i < N; i++) {
		struct mc_be_slice sl = {r.mem_a, (uint64_t)i * 8192, rmem, (uint64_t)i * 8192, i % 2 ? BLOCK : 8};
		struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .msg = &i, .msg_len = sizeof(i)};
		uint32_t taken = 0;
		r.a[(size_t)i * 8192] = (uint8_t)(i % 255 + 1);
		if (i % 7 != 3 && be_setup.ops->put_now(r.p.a.be, r.p.a.ep, &sl, &i, sizeof(i)) == MC_OK) {
			assert_int_equal(own[(size_t)i * 8192], i % 255 + 1);
			now++;
			continue;
		}
		post.cookie = r.p.a.next_cookie++;
		while (be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken) == MC_OK && taken == 0)
			pair_tick(&r.p);
	}
	assert_true(now > N / 2);
	while (check.next < N || r.p.a.done_n < r.p.a.next_cookie)
		pair_tick(&r.p);
	assert_int_equal(r.p.a.done_n, N - now);
	be_setup.ops->mem_dereg(r.p.b.be, mem);
	uint32_t last = N;
	struct mc_be_slice sl = {r.mem_a, 8192, rmem, 0, 8};
	assert_int_equal(be_setup.ops->put_now(r.p.a.be, r.p.a.ep, &sl, &last, sizeof(last)), MC_ERR_AGAIN);
	for (int i = 0; i < 100; i++)
		pair_tick(&r.p);
	assert_int_equal(check.next, N);
	assert_int_equal(own[0], 1);
	munmap(own, len);
	close(fd);
	be_setup.ops->rmem_drop(r.p.a.be, rmem);
	r.b = kept;
	be_regions_close(&r);
}

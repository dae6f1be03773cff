/* SPDX-License-Identifier: BSD-3-Clause */
/* test_backend_post.c - promises of post: bytes, DONE, order with messages, freed regions, hostile descriptors. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "be_tests.h"

/* Two linked backends and a region on either side that the other has opened. */
struct regions {
	struct pair p;
	uint8_t *a, *b;
	uint64_t len;
	struct mc_be_mem *mem_a, *mem_b;
	struct mc_be_rmem *rmem_b; /* b's region as a sees it */
	uint8_t blob[4096];
	uint32_t blob_len;
};

static void region_reg(struct side *s, void *addr, uint64_t len, uint64_t id, struct mc_be_mem **mem)
{
	struct mc_be_region r = {.addr = addr, .len = len, .kind = MC_KIND_HOST, .fd = -1, .id = id};

	assert_int_equal(be_setup.ops->mem_reg(s->be, &r, mem), MC_OK);
}

/* Skips the test on a backend without one-sided transfers. */
static void regions_open(struct regions *r, uint64_t len)
{
	memset(r, 0, sizeof(*r));
	pair_connect(&r->p);
	if (!(r->p.a.caps.flags & MC_CAP_RMA)) {
		pair_close(&r->p);
		skip();
	}
	r->len = len;
	r->a = aligned_alloc(4096, (len + 4095) / 4096 * 4096);
	r->b = aligned_alloc(4096, (len + 4095) / 4096 * 4096);
	assert_true(r->a != NULL && r->b != NULL);
	memset(r->a, 0, len);
	memset(r->b, 0, len);
	region_reg(&r->p.a, r->a, len, 1, &r->mem_a);
	region_reg(&r->p.b, r->b, len, 2, &r->mem_b);
	r->blob_len = sizeof(r->blob);
	assert_int_equal(be_setup.ops->mem_export(r->p.b.be, r->mem_b, r->blob, &r->blob_len), MC_OK);
	assert_true(r->blob_len <= r->p.b.caps.blob_max);
	assert_int_equal(be_setup.ops->rmem_import(r->p.a.be, r->p.a.ep, r->blob, r->blob_len, &r->rmem_b), MC_OK);
}

static void regions_close(struct regions *r)
{
	if (r->rmem_b != NULL)
		be_setup.ops->rmem_drop(r->p.a.be, r->rmem_b);
	if (r->mem_a != NULL)
		be_setup.ops->mem_dereg(r->p.a.be, r->mem_a);
	if (r->mem_b != NULL)
		be_setup.ops->mem_dereg(r->p.b.be, r->mem_b);
	pair_close(&r->p);
	free(r->a);
	free(r->b);
}

static struct mc_be_slice slice(const struct regions *r, uint64_t off, uint64_t roff, uint64_t len)
{
	return (struct mc_be_slice){.mem = r->mem_a, .off = off, .rmem = r->rmem_b, .roff = roff, .len = len};
}

void post__argument_limits(void **state)
{
	struct regions r;
	struct mc_be_slice sl;
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = 0, .slice = &sl, .cookie = 0};
	uint32_t taken = 99;

	(void)state;
	regions_open(&r, 4096);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_INVAL);
	post.n = 1;
	sl = slice(&r, 4096, 0, 1);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_RANGE);
	sl = slice(&r, 0, 4000, 97);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_RANGE);
	sl = slice(&r, 0, UINT64_MAX, 2);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_RANGE);
	post.op = 7;
	sl = slice(&r, 0, 0, 1);
	assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_ERR_INVAL);
	assert_int_equal(taken, 99);
	for (int i = 0; i < 50; i++)
		pair_tick(&r.p);
	assert_int_equal(r.p.a.done_n, 0);
	regions_close(&r);
}

void post__writes_and_reads(void **state)
{
	enum { LEN = 1 << 20, BLOCK = 4096, N = LEN / BLOCK };
	struct regions r;
	uint64_t cookie;

	(void)state;
	regions_open(&r, LEN);
	pattern_fill(r.a, LEN, 1);
	for (uint32_t i = 0; i < N; i++) /* block i of a to block N-1-i of b */
		side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, slice(&r, i * BLOCK, (N - 1 - i) * BLOCK, BLOCK));
	while (r.p.a.done_n < N)
		pair_tick(&r.p);
	for (uint32_t i = 0; i < N; i++)
		assert_memory_equal(r.a + i * BLOCK, r.b + (N - 1 - i) * BLOCK, BLOCK);
	pattern_fill(r.b, LEN, 2);
	memset(r.a, 0, LEN);
	cookie = side_post1(&r.p.a, &r.p.b, MC_BE_READ, slice(&r, 0, 0, LEN));
	while (r.p.a.seen[cookie] == 0)
		pair_tick(&r.p);
	assert_true(pattern_ok(r.a, LEN, 2));
	assert_int_equal(r.p.a.bad_n, 0);
	assert_int_equal(r.p.a.done_n, N + 1);
	regions_close(&r);
}

/* (a), (b): many slices in one list: what is taken is done, one DONE per call that took something, nothing twice. */
void post__takes_a_prefix(void **state)
{
	enum { N = 10000, BLOCK = 512 };
	struct regions r;
	static struct mc_be_slice sl[N];
	uint32_t at = 0, calls = 0;

	(void)state;
	regions_open(&r, (uint64_t)N * BLOCK);
	pattern_fill(r.a, r.len, 3);
	for (uint32_t i = 0; i < N; i++)
		sl[i] = slice(&r, (uint64_t)i * BLOCK, (uint64_t)(i ^ 1) * BLOCK, BLOCK);
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
	regions_close(&r);
}

void post__zero_and_big_slices(void **state)
{
	enum { LEN = 64 << 20 };
	struct regions r;
	int64_t t0;

	(void)state;
	regions_open(&r, LEN);
	pattern_fill(r.a, LEN, 4);
	side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, slice(&r, 0, 0, 0));
	side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, slice(&r, LEN, LEN, 0));
	side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, slice(&r, 0, 0, LEN));
	side_post1(&r.p.a, &r.p.b, MC_BE_READ, slice(&r, 0, 0, 0));
	t0 = mc_now_ns();
	while (r.p.a.done_n < 4)
		pair_tick(&r.p);
	assert_true(mc_now_ns() - t0 < INT64_C(30000000000));
	assert_memory_equal(r.a, r.b, LEN);
	assert_int_equal(r.p.a.bad_n, 0);
	regions_close(&r);
}

/* (d) with POST_MSG: each message finds the bytes of its own post and of all before it, in the order of the calls. */
struct msg_check {
	const struct regions *r;
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
	struct regions r;
	struct msg_check check = {.r = &r};
	struct mc_be_slice sl;

	(void)state;
	regions_open(&r, (uint64_t)N * BLOCK);
	if (!(r.p.a.caps.flags & MC_CAP_POST_MSG)) {
		regions_close(&r);
		skip();
	}
	r.p.b.on_msg = on_post_msg;
	r.p.b.arg = &check;
	for (uint32_t i = 0; i < N; i++) {
		struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .msg = &i, .msg_len = sizeof(i)};
		uint32_t taken = 0;
		sl = slice(&r, (uint64_t)i * BLOCK, (uint64_t)i * BLOCK, BLOCK);
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
	regions_close(&r);
}

void post__message_alone(void **state)
{
	struct regions r;
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = 0, .msg = "alone", .msg_len = 5, .cookie = 9};
	uint32_t taken = 1;

	(void)state;
	regions_open(&r, 4096);
	if (r.p.a.caps.flags & MC_CAP_POST_MSG) {
		assert_int_equal(be_setup.ops->post(r.p.a.be, r.p.a.ep, &post, &taken), MC_OK);
		assert_int_equal(taken, 0);
		while (r.p.b.msg_n < 1 || r.p.a.done_n < 1)
			pair_tick(&r.p);
		assert_int_equal(r.p.a.seen[9], 1);
		assert_memory_equal(r.p.b.msg[0].data, "alone", 5);
	}
	regions_close(&r);
}

static void on_bytes_there(struct side *s, const struct mc_be_event *ev)
{
	const struct regions *r = s->arg;
	uint64_t seed;

	assert_int_equal(ev->len, sizeof(seed));
	memcpy(&seed, ev->data, sizeof(seed));
	assert_true(pattern_ok(r->b, r->len, seed));
}

void post__send_after_done_finds_the_bytes(void **state)
{
	enum { LEN = 100000, N = 100 };
	struct regions r;

	(void)state;
	regions_open(&r, LEN);
	r.p.b.on_msg = on_bytes_there;
	r.p.b.arg = &r;
	for (uint64_t i = 0; i < N; i++) {
		uint64_t cookie;
		pattern_fill(r.a, LEN, i);
		cookie = side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, slice(&r, 0, 0, LEN));
		while (r.p.a.seen[cookie] == 0)
			pair_tick(&r.p);
		side_send(&r.p.a, &r.p.b, &i, sizeof(i), MC_SEND_COPY);
		while (r.p.b.msg_n <= i)
			pair_tick(&r.p);
	}
	regions_close(&r);
}

/* After the owner freed a region and a message of it arrived here, posts there fail, and the bytes stay. */
struct cancel_check {
	const struct regions *r;
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
static void post_and_cancel(struct regions *r, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct mc_be_slice sl = slice(r, (uint64_t)i * 4096, (uint64_t)i * 4096, 4096);
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
	struct regions r;
	struct cancel_check check = {.r = &r};
	uint32_t all = 0;

	(void)state;
	if (be_setup.ops->cancel == NULL)
		skip();
	regions_open(&r, (uint64_t)N * 4096);
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
	side_post1(&r.p.a, &r.p.b, MC_BE_WRITE, slice(&r, 0, 4096, 4096));
	while (r.p.a.done_n < N + 1)
		pair_tick(&r.p);
	assert_int_equal(r.b[4096], r.a[0]);
	regions_close(&r);
}

void post__stale_region(void **state)
{
	struct regions r;
	struct mc_be_slice sl;
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .cookie = 0};
	uint32_t taken = 0;
	mc_status_t st;

	(void)state;
	regions_open(&r, 4096);
	memset(r.a, 1, 4096);
	be_setup.ops->mem_dereg(r.p.b.be, r.mem_b);
	r.mem_b = NULL;
	side_send(&r.p.b, &r.p.a, "freed", 5, MC_SEND_COPY);
	while (r.p.a.msg_n < 1)
		pair_tick(&r.p);
	sl = slice(&r, 0, 0, 4096);
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
	regions_close(&r);
}

/* slice[] stays until DONE and may be posted again, several times at once; the bytes are those of the moment. */
void post__prepared(void **state)
{
	enum { N = 500, LEN = 1000 };
	struct regions r;
	struct mc_be_slice sl[N];
	struct mc_be_post post = {.op = MC_BE_WRITE, .slice = sl, .prepared = (uint64_t)N * LEN};
	uint32_t want = 0;

	(void)state;
	regions_open(&r, 2 * N * LEN);
	for (uint64_t i = 0; i < N; i++)
		sl[i] = slice(&r, i * 2 * LEN, (N - 1 - i) * 2 * LEN, LEN);
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
	regions_close(&r);
}

/* ---- bulk data that come apart from their message's head ---- */

enum { BULK = 300000, BULK_HEAD = 120, BULKS = 40 };

struct bulk {
	uint32_t events, calls;
	uint8_t *place; /* [BULK] */
};

static uint32_t number_of(const void *head)
{
	uint32_t v;

	memcpy(&v, head, sizeof(v));
	return v;
}

/* Takes every other one. */
static bool bulk_take(struct side *s, const void *head, uint32_t head_len, const void *rest, uint32_t rest_len)
{
	struct bulk *b = s->arg;
	uint32_t i = number_of(head);

	assert_int_equal(head_len, BULK_HEAD);
	assert_int_equal(rest_len, BULK);
	assert_true(((uintptr_t)head & 7) == 0);
	assert_true(pattern_ok((const uint8_t *)head + 4, BULK_HEAD - 4, i));
	assert_int_equal(i % 2, 0);
	assert_true(i >= b->events);
	b->calls++;
	if (i % 4 != 0)
		return false;
	memcpy(b->place, rest, rest_len);
	assert_true(pattern_ok(b->place, BULK, i + 1000));
	return true;
}

static void bulk_event(struct side *s, const struct mc_be_event *ev)
{
	struct bulk *b = s->arg;
	uint32_t i = number_of(ev->data);

	assert_int_equal(i, b->events++);
	assert_true(pattern_ok((const uint8_t *)ev->data + 4, BULK_HEAD - 4, i));
	if (i % 2 != 0) { /* a short one, in between */
		assert_int_equal(ev->len, BULK_HEAD);
		assert_int_equal(ev->placed, 0);
	} else if (ev->placed != 0) {
		assert_int_equal(ev->len, BULK_HEAD);
		assert_int_equal(ev->placed, BULK);
		assert_int_equal(i % 4, 0);
	} else {
		assert_int_equal(ev->len, BULK_HEAD + BULK);
		assert_true(pattern_ok((const uint8_t *)ev->data + BULK_HEAD, BULK, i + 1000));
	}
}

void send__bulk_apart(void **state)
{
	struct pair p;
	struct bulk b = {.place = malloc(BULK)};
	uint8_t(*data)[BULK] = calloc(BULKS, BULK), head[BULKS][BULK_HEAD];

	(void)state;
	assert_true(b.place != NULL && data != NULL);
	pair_connect(&p);
	p.b.on_bulk = bulk_take;
	p.b.on_msg = bulk_event;
	p.b.arg = &b;
	for (uint32_t i = 0; i < BULKS; i++) {
		struct iovec iov[2] = {{head[i], BULK_HEAD}, {data[i], BULK}};
		bool large = i % 2 == 0;
		memcpy(head[i], &i, sizeof(i));
		pattern_fill(head[i] + 4, BULK_HEAD - 4, i);
		pattern_fill(data[i], BULK, i + 1000);
		while (be_setup.ops->send(p.a.be, p.a.ep, iov, large ? 2 : 1, large ? 0 : MC_SEND_COPY,
					  p.a.next_cookie) == MC_ERR_AGAIN)
			pair_tick(&p);
		p.a.next_cookie += large;
	}
	while (b.events < BULKS || p.a.sent_n < BULKS / 2)
		pair_tick(&p);
	assert_true(b.calls <= BULKS / 2);
	pair_close(&p);
	free(b.place);
	free(data);
}

void rmem_import__hostile_blob(void **state)
{
	struct regions r;
	struct mc_be_rmem *rmem = NULL;
	uint64_t x = 88172645463325252u;

	(void)state;
	regions_open(&r, 4096);
	for (uint32_t i = 0; i < r.blob_len + 400; i++) {
		uint8_t bad[4096];
		uint32_t n = i < r.blob_len ? i : r.blob_len;
		memcpy(bad, r.blob, r.blob_len);
		for (uint32_t k = 0; i >= r.blob_len + 200 && k < r.blob_len; k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			bad[k] = (uint8_t)x;
		}
		if (i >= r.blob_len && i < r.blob_len + 200) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			bad[x % r.blob_len] ^= (uint8_t)(1u << (x >> 40 & 7));
		}
		assert_int_not_equal(be_setup.ops->rmem_import(r.p.a.be, r.p.a.ep, bad, n, &rmem), MC_OK);
		assert_null(rmem);
	}
	regions_close(&r);
}

/* A descriptor of one peer does not open anything through the link to another. */
void rmem_import__blob_of_another_rank(void **state)
{
	struct regions r;
	struct mc_be_rmem *rmem = NULL;
	uint8_t blob[4096];
	uint32_t len = sizeof(blob);

	(void)state;
	regions_open(&r, 4096);
	assert_int_equal(be_setup.ops->mem_export(r.p.a.be, r.mem_a, blob, &len), MC_OK);
	assert_int_not_equal(be_setup.ops->rmem_import(r.p.a.be, r.p.a.ep, blob, len, &rmem), MC_OK);
	len = 1;
	assert_int_equal(be_setup.ops->mem_export(r.p.a.be, r.mem_a, blob, &len), MC_ERR_NOSPC);
	assert_true(len > 1 && len <= r.p.a.caps.blob_max);
	regions_close(&r);
}

/* Pool memory that is mapped is the same bytes on both sides, and stays readable when its owner has let go of it. */
void rmem_map__the_peers_bytes(void **state)
{
	enum { LEN = 8192 };
	struct regions r;
	struct mc_be_rmem *rmem = NULL;
	struct mc_be_mem *mem = NULL;
	uint8_t blob[4096], *map;
	uint32_t n = sizeof(blob);

	(void)state;
	if (be_setup.ops->rmem_map == NULL)
		skip();
	regions_open(&r, 4096);
	assert_null(be_setup.ops->rmem_map(r.p.a.be, r.rmem_b)); /* the caller's own memory: nobody else maps it */
	int fd = memfd_create("contract", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0 && ftruncate(fd, LEN) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	uint8_t *own = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(own != MAP_FAILED);
	struct mc_be_region region = {.addr = own, .len = LEN, .kind = MC_KIND_HOST, .fd = fd, .id = 3};
	assert_int_equal(be_setup.ops->mem_reg(r.p.b.be, &region, &mem), MC_OK);
	assert_int_equal(be_setup.ops->mem_export(r.p.b.be, mem, blob, &n), MC_OK);
	assert_int_equal(be_setup.ops->rmem_import(r.p.a.be, r.p.a.ep, blob, n, &rmem), MC_OK);
	map = be_setup.ops->rmem_map(r.p.a.be, rmem);
	assert_non_null(map);
	assert_ptr_not_equal(map, own);
	own[0] = 17;
	own[LEN - 1] = 18;
	assert_int_equal(map[0], 17);
	assert_int_equal(map[LEN - 1], 18);
	map[100] = 19;
	assert_int_equal(own[100], 19);
	be_setup.ops->mem_dereg(r.p.b.be, mem);
	munmap(own, LEN);
	close(fd);
	assert_int_equal(map[100], 19);
	be_setup.ops->rmem_drop(r.p.a.be, rmem);
	regions_close(&r);
}

/* Bytes and message are there at the next look, in order with posts and messages; no DONE; refused, it does nothing. */
void put_now__as_a_post_that_is_done(void **state)
{
	enum { N = 300, BLOCK = 4096 };
	struct regions r;
	struct mc_be_rmem *rmem = NULL;
	struct mc_be_mem *mem = NULL;
	struct msg_check check = {.r = &r};
	uint8_t blob[4096];
	uint32_t n = sizeof(blob), now = 0;
	const size_t len = (size_t)N * 8192;

	(void)state;
	if (be_setup.ops->put_now == NULL)
		skip();
	regions_open(&r, len);
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
	regions_close(&r);
}

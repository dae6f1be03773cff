/* SPDX-License-Identifier: BSD-3-Clause */
/* test_backend_peer.c - promise (c): closing, exiting and killed peers; and peers that are processes of their own. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "be_tests.h"

static void need_process(void)
{
	if (be_setup.in_process_only)
		skip();
}

/* Fill the way to a peer that does not poll: sends (and posts, when rmem is given). Returns how many were accepted. */
static uint32_t fill_flight(struct side *s, const void *buf, size_t len, uint32_t max)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	uint32_t n = 0;

	for (uint32_t again = 0; n < max && again < 50;) {
		mc_status_t st = be_setup.ops->send(s->be, s->ep, &iov, 1, 0, s->next_cookie);
		assert_true(st == MC_OK || st == MC_ERR_AGAIN);
		if (st == MC_OK) {
			s->next_cookie++;
			n++;
		} else {
			again++;
			side_poll(s);
		}
	}
	return n;
}

/* Nothing more of that ep, and calls say that the peer is lost. */
static void assert_dead(struct side *s)
{
	struct iovec iov = {.iov_base = s, .iov_len = 8};
	uint32_t n = s->done_n + s->sent_n;

	for (int i = 0; i < 200; i++)
		side_poll(s);
	assert_int_equal(s->down_n, 1);
	assert_int_equal(s->late_n, 0);
	assert_int_equal(s->done_n + s->sent_n, n);
	assert_int_equal(be_setup.ops->send(s->be, s->ep, &iov, 1, MC_SEND_COPY, 1), MC_ERR_PEER_DOWN);
	be_setup.ops->ep_close(s->be, s->ep);
	for (int i = 0; i < 50; i++)
		side_poll(s);
	assert_int_equal(s->down_n, 1);
	assert_int_equal(s->done_n + s->sent_n, n);
}

/* A region of s that s itself writes to and reads from, through its ep to itself. */
static void self_region(struct side *s)
{
	enum { HALF = 256 * 1024 };
	uint8_t *mem = aligned_alloc(4096, 2 * HALF), blob[4096];
	struct mc_be_region r = {.addr = mem, .len = 2 * HALF, .kind = MC_KIND_HOST, .fd = -1, .id = 1};
	uint32_t len = sizeof(blob), done = s->done_n;
	struct mc_be_mem *m;
	struct mc_be_rmem *rm;

	assert_non_null(mem);
	pattern_fill(mem, HALF, 5);
	memset(mem + HALF, 0, HALF);
	assert_int_equal(be_setup.ops->mem_reg(s->be, &r, &m), MC_OK);
	assert_int_equal(be_setup.ops->mem_export(s->be, m, blob, &len), MC_OK);
	assert_int_equal(be_setup.ops->rmem_import(s->be, s->ep, blob, len, &rm), MC_OK);
	side_post1(s, NULL, MC_BE_WRITE, (struct mc_be_slice){m, 0, rm, HALF, HALF});
	while (s->done_n == done)
		side_poll(s);
	assert_true(pattern_ok(mem + HALF, HALF, 5));
	pattern_fill(mem + HALF, HALF, 6);
	side_post1(s, NULL, MC_BE_READ, (struct mc_be_slice){m, 0, rm, HALF, HALF});
	while (s->done_n == done + 1)
		side_poll(s);
	assert_true(pattern_ok(mem, HALF, 6));
	assert_int_equal(s->bad_n, 0);
	be_setup.ops->rmem_drop(s->be, rm);
	be_setup.ops->mem_dereg(s->be, m);
	free(mem);
}

/* A backend may leave that to another one; if not, a process is a peer like any other. */
void ep_connect__to_oneself(void **state)
{
	enum { N = 300 };
	struct pair p;
	uint32_t len;
	const void *addr;
	mc_status_t st;

	(void)state;
	pair_open(&p);
	side_ep_create(&p.a);
	addr = side_addr(&p.a, &len);
	st = side_connect(&p.a, addr, len);
	if (st == MC_ERR_UNSUPPORTED) {
		pair_close(&p);
		skip();
	}
	assert_int_equal(st, MC_OK);
	while (p.a.up_n == 0)
		side_poll(&p.a);
	p.a.keep = true;
	for (uint32_t i = 0; i < N; i++)
		side_send(&p.a, NULL, &i, sizeof(i), MC_SEND_COPY);
	while (p.a.msg_n < N)
		side_poll(&p.a);
	for (uint32_t i = 0; i < N; i++)
		assert_memory_equal(p.a.msg[i].data, &i, sizeof(i));
	if (p.a.caps.flags & MC_CAP_RMA)
		self_region(&p.a);
	assert_int_equal(p.a.down_n, 0);
	pair_close(&p);
}

void ep_close__pending_end_canceled(void **state)
{
	enum { LEN = 65536, MAX = 3000 };
	static uint8_t buf[LEN];
	struct pair p;
	uint32_t n;

	(void)state;
	pair_connect(&p);
	p.b.keep = false;
	n = fill_flight(&p.a, buf, LEN, MAX);
	be_setup.ops->ep_close(p.a.be, p.a.ep);
	p.a.ep = NULL;
	while (p.a.sent_n < n)
		side_poll(&p.a);
	for (int i = 0; i < 200; i++)
		pair_tick(&p);
	assert_int_equal(p.a.sent_n, n);
	assert_int_equal(p.a.down_n, 0);
	if (p.a.bad_n > 0)
		assert_int_equal(p.a.bad_status, MC_ERR_CANCELED);
	assert_true(p.b.msg_n <= n);
	assert_true(p.b.msg_n >= n - p.a.bad_n);
	pair_close(&p);
}

/* What was SENT before an orderly end arrives, and then EP_DOWN. */
void close__peer_gets_messages_then_down(void **state)
{
	enum { N = 200, LEN = 30000 };
	static uint8_t buf[LEN];
	struct pair p;

	(void)state;
	pair_connect(&p);
	for (uint32_t i = 0; i < N; i++) {
		memcpy(buf, &i, sizeof(i));
		side_send(&p.a, &p.b, buf, i % 2 ? LEN : 100, 0);
		while (p.a.sent_n <= i)
			pair_tick(&p);
	}
	be_setup.ops->close(p.a.be);
	p.a.be = NULL;
	while (p.b.down_n == 0)
		pair_tick(&p);
	assert_int_equal(p.b.msg_n, N);
	for (uint32_t i = 0; i < N; i++)
		assert_memory_equal(p.b.msg[i].data, &i, sizeof(i));
	assert_dead(&p.b);
	p.b.ep = NULL;
	pair_close(&p);
}

void close__with_traffic_both_ways(void **state)
{
	enum { LEN = 65536, MAX = 3000 };
	static uint8_t buf[LEN];
	struct pair p;
	uint32_t n;

	(void)state;
	pair_connect(&p);
	p.a.keep = false;
	p.b.keep = false;
	n = fill_flight(&p.a, buf, LEN, MAX);
	fill_flight(&p.b, buf, LEN, MAX);
	side_close(&p.b);
	while (p.a.down_n == 0)
		side_poll(&p.a);
	assert_int_equal(p.a.sent_n, n);
	assert_dead(&p.a);
	side_close(&p.a);
	mc_hub_free(p.hub);
}

/* ---- a second process
 * ------------------------------------------------------------------------------------------------ */

struct duo {
	struct child c;
	struct mc_hub *hub;
	struct side s;
};

static void duo_open(struct duo *d)
{
	memset(d, 0, sizeof(*d));
	child_start(&d->c);
	assert_int_equal(mc_hub_create(2, &d->hub), MC_OK);
	side_open(&d->s, d->hub, 0, 2);
	child_link(&d->c, &d->s);
}

static void duo_close(struct duo *d)
{
	int status = -1;

	if (d->c.pid != 0) {
		child_cmd(&d->c, "quit", NULL, 0);
		while (waitpid(d->c.pid, &status, WNOHANG) == 0)
			side_poll(&d->s); /* it may wait for our answer */
		assert_int_equal(status, 0);
		close(d->c.fd);
	}
	side_close(&d->s);
	mc_hub_free(d->hub);
}

/* A reply from the child, which may need our progress for it. */
static uint32_t duo_reply(struct duo *d, void *buf, uint32_t room)
{
	struct pollfd pfd = {.fd = d->c.fd, .events = POLLIN};

	while (poll(&pfd, 1, 0) == 0)
		side_poll(&d->s);
	return child_reply(&d->c, buf, room);
}

void child__round_trips(void **state)
{
	enum { N = 2000 };
	struct duo d;
	uint8_t reply[8];

	(void)state;
	need_process();
	duo_open(&d);
	child_cmd(&d.c, "echo", NULL, 0);
	duo_reply(&d, reply, sizeof(reply));
	for (uint32_t i = 0; i < N; i++) {
		uint32_t body[16] = {i, ~i};
		side_send(&d.s, NULL, body, sizeof(body), MC_SEND_COPY);
		side_sleep_until(&d.s, &d.s.msg_n, i + 1);
		assert_memory_equal(d.s.msg[i].data, body, sizeof(body));
	}
	duo_close(&d);
}

/* The child's region, opened here; skips without one-sided transfers. */
static struct mc_be_rmem *duo_region(struct duo *d, uint64_t len)
{
	struct mc_be_rmem *rmem = NULL;
	uint8_t blob[4096];
	uint32_t n;

	if (!(d->s.caps.flags & MC_CAP_RMA)) {
		duo_close(d);
		skip();
	}
	child_cmd(&d->c, "region", &len, sizeof(len));
	n = duo_reply(d, blob, sizeof(blob));
	assert_int_equal(be_setup.ops->rmem_import(d->s.be, d->s.ep, blob, n, &rmem), MC_OK);
	return rmem;
}

static struct mc_be_mem *own_region(struct side *s, void *addr, uint64_t len)
{
	struct mc_be_region r = {.addr = addr, .len = len, .kind = MC_KIND_HOST, .fd = -1, .id = 1};
	struct mc_be_mem *mem = NULL;

	assert_int_equal(be_setup.ops->mem_reg(s->be, &r, &mem), MC_OK);
	return mem;
}

void child__writes_and_reads(void **state)
{
	enum { LEN = 3 << 20 };
	struct duo d;
	struct mc_be_rmem *rmem;
	struct mc_be_mem *mem;
	uint8_t *buf, ok = 0;
	uint64_t seed = 11;

	(void)state;
	need_process();
	duo_open(&d);
	rmem = duo_region(&d, LEN);
	buf = malloc(LEN);
	assert_non_null(buf);
	mem = own_region(&d.s, buf, LEN);
	pattern_fill(buf, LEN, seed);
	for (uint64_t off = 0; off < LEN; off += 65536)
		side_post1(&d.s, NULL, MC_BE_WRITE, (struct mc_be_slice){mem, off, rmem, off, 65536});
	while (d.s.done_n < LEN / 65536)
		side_poll(&d.s);
	child_cmd(&d.c, "verify", &seed, sizeof(seed));
	assert_int_equal(duo_reply(&d, &ok, 1), 1);
	assert_int_equal(ok, 1);
	seed = 12;
	child_cmd(&d.c, "fill", &seed, sizeof(seed));
	duo_reply(&d, buf, 2);
	side_post1(&d.s, NULL, MC_BE_READ, (struct mc_be_slice){mem, 0, rmem, 0, LEN});
	while (d.s.done_n < LEN / 65536 + 1)
		side_poll(&d.s);
	assert_true(pattern_ok(buf, LEN, seed));
	assert_int_equal(d.s.bad_n, 0);
	be_setup.ops->rmem_drop(d.s.be, rmem);
	be_setup.ops->mem_dereg(d.s.be, mem);
	duo_close(&d);
	free(buf);
}

static void delivered_then_down(const char *end)
{
	enum { N = 300 };
	struct duo d;
	uint64_t n = N;
	uint8_t reply[8];

	duo_open(&d);
	child_cmd(&d.c, "send", &n, sizeof(n));
	duo_reply(&d, reply, sizeof(reply));
	child_cmd(&d.c, end, NULL, 0);
	assert_int_equal(child_wait(&d.c), 0);
	while (d.s.down_n == 0)
		side_poll(&d.s);
	assert_int_equal(d.s.msg_n, N);
	for (uint32_t i = 0; i < N; i++)
		assert_true(pattern_ok(d.s.msg[i].data, d.s.msg[i].len, i));
	assert_dead(&d.s);
	duo_close(&d);
}

void child__graceful_exit_delivers(void **state)
{
	(void)state;
	need_process();
	delivered_then_down("quit");
}

void child__exit_after_sent_delivers(void **state)
{
	(void)state;
	need_process();
	delivered_then_down("die");
}

void child__killed_in_flight(void **state)
{
	enum { LEN = 32768, MAX = 2000, POSTS = 200 };
	struct duo d;
	struct mc_be_rmem *rmem = NULL;
	struct mc_be_mem *mem = NULL;
	static uint8_t buf[LEN];
	uint8_t reply[8];
	uint32_t posts = 0, sends;
	int64_t t0;

	(void)state;
	need_process();
	duo_open(&d);
	if (d.s.caps.flags & MC_CAP_RMA) {
		rmem = duo_region(&d, LEN);
		mem = own_region(&d.s, buf, LEN);
	}
	child_cmd(&d.c, "freeze", NULL, 0);
	duo_reply(&d, reply, sizeof(reply));
	sends = fill_flight(&d.s, buf, LEN, MAX);
	for (int i = 0; rmem != NULL && i < POSTS; i++) {
		struct mc_be_slice sl = {mem, 0, rmem, 0, LEN};
		struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .cookie = d.s.next_cookie};
		uint32_t taken = 0;
		assert_int_equal(be_setup.ops->post(d.s.be, d.s.ep, &post, &taken), MC_OK);
		posts += taken;
		d.s.next_cookie += taken;
	}
	child_kill(&d.c);
	t0 = mc_now_ns();
	while (d.s.down_n == 0)
		side_poll(&d.s);
	assert_true(mc_now_ns() - t0 < INT64_C(20000000000));
	assert_int_equal(d.s.sent_n, sends);
	assert_int_equal(d.s.done_n, posts);
	assert_dead(&d.s);
	if (rmem != NULL) {
		be_setup.ops->rmem_drop(d.s.be, rmem);
		be_setup.ops->mem_dereg(d.s.be, mem);
	}
	duo_close(&d);
}

/* A death alone, with nothing under way, wakes a sleeper. */
void child__killed_while_we_sleep(void **state)
{
	struct duo d;

	(void)state;
	need_process();
	duo_open(&d);
	for (int i = 0; i < 1000; i++)
		side_poll(&d.s);
	child_kill(&d.c);
	side_sleep_until(&d.s, &d.s.down_n, 1);
	assert_dead(&d.s);
	duo_close(&d);
}

void child__stale_region(void **state)
{
	struct duo d;
	struct mc_be_rmem *rmem;
	struct mc_be_mem *mem;
	uint8_t buf[4096] = {0}, reply[8];
	struct mc_be_slice sl;
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl};
	uint32_t taken = 0;
	mc_status_t st;

	(void)state;
	need_process();
	duo_open(&d);
	rmem = duo_region(&d, sizeof(buf));
	mem = own_region(&d.s, buf, sizeof(buf));
	child_cmd(&d.c, "dereg", NULL, 0);
	duo_reply(&d, reply, sizeof(reply));
	while (d.s.msg_n < 1)
		side_poll(&d.s);
	sl = (struct mc_be_slice){mem, 0, rmem, 0, sizeof(buf)};
	st = be_setup.ops->post(d.s.be, d.s.ep, &post, &taken);
	if (st == MC_OK) {
		while (d.s.done_n == 0)
			side_poll(&d.s);
		st = d.s.bad_n > 0 ? d.s.bad_status : MC_OK;
	}
	assert_int_equal(st, MC_ERR_STALE);
	be_setup.ops->rmem_drop(d.s.be, rmem);
	be_setup.ops->mem_dereg(d.s.be, mem);
	duo_close(&d);
}

/* An address of a process that has ended: a status at once, or EP_DOWN; never a hang. */
void child__gone_before_connect(void **state)
{
	struct duo d;
	uint8_t addr[4096];
	uint32_t len;
	mc_status_t st;

	(void)state;
	need_process();
	memset(&d, 0, sizeof(d));
	child_start(&d.c);
	child_cmd(&d.c, "address", NULL, 0);
	len = child_reply(&d.c, addr, sizeof(addr));
	child_kill(&d.c);
	assert_int_equal(mc_hub_create(2, &d.hub), MC_OK);
	side_open(&d.s, d.hub, 0, 2);
	side_ep_create(&d.s);
	st = side_connect(&d.s, addr, len);
	if (st == MC_OK) {
		side_sleep_until(&d.s, &d.s.down_n, 1);
		assert_int_equal(d.s.up_n, 0);
		assert_dead(&d.s);
		d.s.ep = NULL;
	}
	duo_close(&d);
}

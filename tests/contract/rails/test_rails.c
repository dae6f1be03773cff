/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_rails.c - the verbs backend when rails fail. Two instances in this process, joined by the two veth pairs wa0-wb0
 * and wa1-wb1 that the test kernel lays (devices rxa0, rxa1 and rxb0, rxb1): packets really cross them, so that links
 * may be cut and packets dropped. Skipped where there are no such devices.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../be_side.h"
#include "log.h"

extern const struct mc_be_ops mc_be_verbs;

enum { MIB = 1 << 20, BLOCK = 4096 };

static void run(const char *fmt, ...) MC_PRINTF(1, 2);
static void run(const char *fmt, ...)
{
	char cmd[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd) != 0)
		fail_msg("'%s' fails", cmd);
}

static void set(struct side *s, const char *name, const char *value)
{
	char err[256];

	if (mc_config_set(&s->cfg, name, value, err, sizeof(err)) != MC_OK)
		fail_msg("%s", err);
}

static void one_open(struct side *s, uint32_t rank, const char *devices, const char *const *settings)
{
	char why[512] = "";

	memset(s, 0, sizeof(*s));
	s->keep = false;
	s->seen = calloc(1, SIDE_COOKIES);
	assert_non_null(s->seen);
	side_config(&s->cfg);
	set(s, "MC_DEVICE", devices);
	for (; settings != NULL && *settings != NULL; settings += 2)
		set(s, settings[0], settings[1]);
	if (side_try_open(s, NULL, rank, 2, why, sizeof(why)) != MC_OK)
		fail_msg("open: %s", why);
}

/* Two rails, a region of len bytes on either side. */
struct net {
	struct pair p;
	uint8_t *a, *b;
	uint64_t len;
	struct mc_be_mem *mem_a, *mem_b;
	struct mc_be_rmem *rmem_b;
};

static void tick(struct net *n)
{
	pair_tick(&n->p);
}

/* Until so many rails work; what tells is how many ports carry traffic, so the proof is in the bytes of both. */
static void wait_ms(struct net *n, int64_t ms)
{
	int64_t end = mc_now_ns() + ms * 1000000;

	while (mc_now_ns() < end)
		tick(n);
}

static void wait_both(struct net *n);

static void net_open(struct net *n, uint64_t len, const char *const *settings)
{
	struct mc_be_region r = {.len = len, .kind = MC_KIND_HOST, .fd = -1, .id = 1};
	uint8_t blob[4096];
	uint32_t blob_len = sizeof(blob), addr_len;
	const void *addr;

	memset(n, 0, sizeof(*n));
	n->len = len;
	one_open(&n->p.a, 0, "rxa0,rxa1", settings);
	one_open(&n->p.b, 1, "rxb0,rxb1", settings);
	side_ep_create(&n->p.a);
	side_ep_create(&n->p.b);
	addr = side_addr(&n->p.b, &addr_len);
	assert_int_equal(side_connect(&n->p.a, addr, addr_len), MC_OK);
	addr = side_addr(&n->p.a, &addr_len);
	assert_int_equal(side_connect(&n->p.b, addr, addr_len), MC_OK);
	while (n->p.a.up_n == 0 || n->p.b.up_n == 0)
		tick(n);
	n->a = aligned_alloc(4096, len);
	n->b = aligned_alloc(4096, len);
	assert_true(n->a != NULL && n->b != NULL);
	memset(n->a, 0, len);
	memset(n->b, 0, len);
	r.addr = n->a;
	assert_int_equal(mc_be_verbs.mem_reg(n->p.a.be, &r, &n->mem_a), MC_OK);
	r.addr = n->b;
	assert_int_equal(mc_be_verbs.mem_reg(n->p.b.be, &r, &n->mem_b), MC_OK);
	assert_int_equal(mc_be_verbs.mem_export(n->p.b.be, n->mem_b, blob, &blob_len), MC_OK);
	assert_int_equal(mc_be_verbs.rmem_import(n->p.a.be, n->p.a.ep, blob, blob_len, &n->rmem_b), MC_OK);
	wait_both(n);
}

static void net_close(struct net *n)
{
	mc_be_verbs.rmem_drop(n->p.a.be, n->rmem_b);
	mc_be_verbs.mem_dereg(n->p.a.be, n->mem_a);
	mc_be_verbs.mem_dereg(n->p.b.be, n->mem_b);
	n->p.hub = NULL;
	pair_close(&n->p);
	free(n->a);
	free(n->b);
}

/* Everything of a to b in blocks, in reverse order of places, with one message at the end; act(arg) in the middle. */
static double paged_put(struct net *n, uint64_t seed, uint32_t block, void (*act)(void *), void *arg)
{
	uint32_t count = (uint32_t)(n->len / block), at = 0, done0 = n->p.a.done_n, msgs0 = n->p.b.msg_n, calls = 0;
	struct mc_be_slice *sl = calloc(count, sizeof(*sl));
	int64_t t0;
	bool acted = act == NULL;

	assert_non_null(sl);
	pattern_fill(n->a, n->len, seed);
	for (uint32_t i = 0; i < count; i++)
		sl[i] = (struct mc_be_slice){n->mem_a, (uint64_t)i * block, n->rmem_b,
					     (uint64_t)(count - 1 - i) * block, block};
	t0 = mc_now_ns();
	while (at < count || n->p.a.done_n - done0 < calls || n->p.b.msg_n == msgs0) {
		struct mc_be_post post = {
			.op = MC_BE_WRITE, .n = count - at, .slice = sl + at, .msg = "end", .msg_len = 3};
		uint32_t taken = 0;
		if (!acted && at >= count / 2) {
			act(arg);
			acted = true;
		}
		if (at < count) {
			post.cookie = n->p.a.next_cookie;
			assert_int_equal(mc_be_verbs.post(n->p.a.be, n->p.a.ep, &post, &taken), MC_OK);
			at += taken;
			calls += taken > 0;
			n->p.a.next_cookie += taken > 0;
		}
		tick(n);
	}
	t0 = mc_now_ns() - t0;
	assert_int_equal(n->p.b.msg_n, msgs0 + 1);
	assert_int_equal(n->p.a.bad_n, 0);
	for (uint32_t i = 0; i < count; i++)
		assert_memory_equal(n->a + (size_t)i * block, n->b + (size_t)(count - 1 - i) * block, block);
	free(sl);
	return (double)n->len / MIB * 1e9 / (double)t0;
}

static void big_put(struct net *n, uint64_t seed, void (*act)(void *), void *arg)
{
	paged_put(n, seed, (uint32_t)n->len, act, arg);
}

static uint64_t packets(const char *dev)
{
	char path[128];
	unsigned long long v = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/tx_packets", dev);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu", &v), 1);
	fclose(f);
	return v;
}

/* Both rails carry about half of it. */
static void assert_both_used(struct net *n)
{
	uint64_t p0 = packets("wa0"), p1 = packets("wa1");

	paged_put(n, 77, BLOCK, NULL, NULL);
	p0 = packets("wa0") - p0;
	p1 = packets("wa1") - p1;
	if (p0 * 4 < p1 || p1 * 4 < p0)
		fail_msg("packets over the two rails: %llu and %llu", (unsigned long long)p0, (unsigned long long)p1);
}

/* Wait until the second rail has come back: some traffic goes over it again. */
static void wait_both(struct net *n)
{
	int64_t end = mc_now_ns() + INT64_C(20000000000);

	while (mc_now_ns() < end) {
		uint64_t p0 = packets("wa0"), p1 = packets("wa1");
		paged_put(n, 78, 16 * 1024, NULL, NULL);
		p0 = packets("wa0") - p0;
		p1 = packets("wa1") - p1;
		if (p0 * 4 > p1 && p1 * 4 > p0)
			return;
		wait_ms(n, 20);
	}
	fail_msg("a rail did not come back within 20 s");
}

static void blackhole(void *arg)
{
	run("tc qdisc add dev %s root netem loss 100%%", (const char *)arg);
}

static void heal(const char *dev)
{
	run("tc qdisc del dev %s root", dev);
}

static void link_down(void *arg)
{
	run("ip link set %s down", (const char *)arg);
}

static void link_up(const char *dev)
{
	int i = dev[2] - '0', own = dev[1] == 'a' ? 1 : 2;

	run("ip link set %s up", dev);
	/* The kernel takes the route of the pair away with the link. */
	run("ip route replace 10.88.%d.%d/32 dev %s src 10.88.%d.%d table 30%d", i, 3 - own, dev, i, own, i);
}

/* Errors within tens of milliseconds; regions in pieces, slices cut. */
static const char *const quick[] = {
	"MC_VERBS_TIMEOUT", "12", "MC_VERBS_RETRY", "3", "MC_VERBS_CHUNK", "64K", "MC_VERBS_MR_SIZE", "1M", NULL};

static void rails__both_are_used(void **state)
{
	struct net n;

	(void)state;
	net_open(&n, 4 * MIB, quick);
	assert_both_used(&n);
	net_close(&n);
}

static void rails__packets_lost_in_the_middle(void **state)
{
	struct net n;

	(void)state;
	net_open(&n, 8 * MIB, quick);
	paged_put(&n, 1, BLOCK, blackhole, "wa0");
	paged_put(&n, 2, BLOCK, NULL, NULL);
	heal("wa0");
	wait_both(&n);
	big_put(&n, 3, blackhole, "wb1");
	heal("wb1");
	wait_both(&n);
	net_close(&n);
}

static void rails__own_link_down(void **state)
{
	struct net n;

	(void)state;
	net_open(&n, 8 * MIB, quick);
	paged_put(&n, 1, BLOCK, link_down, "wa0");
	link_up("wa0");
	wait_both(&n);
	paged_put(&n, 2, BLOCK, link_down, "wb1");
	link_up("wb1");
	wait_both(&n);
	net_close(&n);
}

static void flap(void *arg)
{
	link_down(arg);
	link_up(arg);
}

static void rails__flapping(void **state)
{
	struct net n;

	(void)state;
	net_open(&n, 4 * MIB, quick);
	for (uint64_t i = 0; i < 10; i++)
		paged_put(&n, i, BLOCK, flap, i % 2 ? "wa0" : "wb1");
	wait_both(&n);
	net_close(&n);
}

static void rails__delay_and_loss(void **state)
{
	struct net n;

	(void)state;
	net_open(&n, 4 * MIB, quick);
	run("tc qdisc add dev wa0 root netem delay 5ms loss 1%%");
	for (uint64_t i = 0; i < 3; i++)
		paged_put(&n, i, BLOCK, NULL, NULL);
	heal("wa0");
	net_close(&n);
}

/* Numbered messages of posts; the receiver wipes the place that each speaks of, so that a late write would show. */
struct order {
	struct net *n;
	uint64_t next;
};

static void on_numbered(struct side *s, const struct mc_be_event *ev)
{
	struct order *o = s->arg;
	uint64_t i, seen;
	uint8_t *at;

	assert_int_equal(ev->len, sizeof(i));
	memcpy(&i, ev->data, sizeof(i));
	assert_int_equal(i, o->next);
	o->next++;
	at = o->n->b + i % 256 * BLOCK;
	for (uint32_t k = 0; k < BLOCK; k += 512) {
		memcpy(&seen, at + k, sizeof(seen));
		assert_int_equal(seen, i);
	}
	memset(at, 0xee, BLOCK);
}

static void rails__each_message_once_and_nothing_late(void **state)
{
	enum { N = 6000 };
	struct net n;
	struct order o = {.n = &n};
	uint8_t wiped[BLOCK];

	(void)state;
	net_open(&n, 256 * BLOCK, quick);
	side_forget(&n.p.a);
	n.p.b.on_msg = on_numbered;
	n.p.b.arg = &o;
	for (uint64_t i = 0; i < N; i++) {
		struct mc_be_slice sl = {n.mem_a, i % 256 * BLOCK, n.rmem_b, i % 256 * BLOCK, BLOCK};
		struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .msg = &i, .msg_len = sizeof(i)};
		uint32_t taken = 0;
		while (i >= 200 && n.p.a.seen[i - 200] == 0) /* the source is free again */
			tick(&n);
		while (o.next + 200 < i) /* and the place is wiped */
			tick(&n);
		for (uint32_t k = 0; k < BLOCK; k += 8)
			memcpy(n.a + i % 256 * BLOCK + k, &i, 8);
		post.cookie = n.p.a.next_cookie++;
		while (taken == 0) {
			assert_int_equal(mc_be_verbs.post(n.p.a.be, n.p.a.ep, &post, &taken), MC_OK);
			if (taken == 0)
				tick(&n);
		}
		if (i % 1000 == 500)
			blackhole(i / 1000 % 2 ? "wa0" : "wb1");
		if (i % 1000 == 900)
			heal(i / 1000 % 2 ? "wa0" : "wb1");
		if (i % 1500 == 700)
			flap("wa1");
	}
	while (o.next < N || n.p.a.done_n < N)
		tick(&n);
	wait_ms(&n, 300);
	assert_int_equal(o.next, N);
	assert_int_equal(n.p.a.bad_n, 0);
	memset(wiped, 0xee, sizeof(wiped));
	for (uint32_t i = 0; i < 256; i++)
		assert_memory_equal(n.b + (size_t)i * BLOCK, wiped, BLOCK);
	net_close(&n);
}

static void rails__all_gone(void **state)
{
	static const char *const soon[] = {
		"MC_VERBS_TIMEOUT", "12", "MC_VERBS_RETRY", "3", "MC_VERBS_FAILOVER_TIMEOUT", "2s", NULL};
	struct net n;
	struct mc_be_slice sl;
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl};
	uint32_t taken = 0;
	int64_t t0;

	(void)state;
	net_open(&n, MIB, soon);
	side_forget(&n.p.a);
	blackhole("wa0");
	blackhole("wa1");
	sl = (struct mc_be_slice){n.mem_a, 0, n.rmem_b, 0, MIB};
	assert_int_equal(mc_be_verbs.post(n.p.a.be, n.p.a.ep, &post, &taken), MC_OK);
	assert_int_equal(taken, 1);
	t0 = mc_now_ns();
	while (n.p.a.down_n == 0)
		tick(&n);
	t0 = mc_now_ns() - t0;
	assert_int_equal(n.p.a.bad_n, 1);
	assert_int_equal(n.p.a.bad_status, MC_ERR_PEER_DOWN);
	assert_int_equal(n.p.a.down_status, MC_ERR_PEER_DOWN);
	if (t0 < INT64_C(1500000000) || t0 > INT64_C(6000000000))
		fail_msg("lost after %.3f s", (double)t0 / 1e9);
	heal("wa0");
	heal("wa1");
	net_close(&n);
}

static void soon_done(struct net *n, uint32_t done, int64_t ms)
{
	int64_t t0 = mc_now_ns();

	while (n->p.a.done_n < done) {
		tick(n);
		if (mc_now_ns() - t0 > ms * 1000000)
			fail_msg("%u of %u posts have ended %d ms after the cancel", n->p.a.done_n, done, (int)ms);
	}
}

/* Without a rail, but with time until that ends the link, what is canceled ends at once, never lands, and sends no
 * message: each side has told the other that its queue pairs are dead. All else goes on later. */
static void rails__a_cancel_does_not_wait_for_a_rail(void **state)
{
	enum { N = 64 };
	struct net n;
	struct mc_be_slice sl[N];
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = N, .slice = sl, .msg = "never", .msg_len = 5, .cookie = 7};
	uint32_t taken = 0;

	(void)state;
	net_open(&n, N * BLOCK, quick);
	memset(n.a, 0x11, n.len);
	memset(n.b, 0x22, n.len);
	side_forget(&n.p.a);
	side_forget(&n.p.b);
	run("for i in wa0 wa1; do tc qdisc add dev $i root netem loss 100%%; done");
	for (uint32_t i = 0; i < N; i++)
		sl[i] = (struct mc_be_slice){n.mem_a, (uint64_t)i * BLOCK, n.rmem_b, (uint64_t)i * BLOCK, BLOCK};
	assert_int_equal(mc_be_verbs.post(n.p.a.be, n.p.a.ep, &post, &taken), MC_OK);
	post = (struct mc_be_post){.op = MC_BE_READ, .n = 1, .slice = sl, .cookie = 8};
	assert_int_equal(mc_be_verbs.post(n.p.a.be, n.p.a.ep, &post, &taken), MC_OK);
	assert_int_equal(taken, 1);
	wait_ms(&n, 1500); /* more than the cards need to give up */
	assert_int_equal(n.p.a.done_n, 0);
	for (uint32_t i = 0; i < 2; i++) {
		mc_be_verbs.cancel(n.p.a.be, n.p.a.ep, 7 + i);
		soon_done(&n, i + 1, 200);
		assert_int_equal(n.p.a.seen[7 + i], 1);
	}
	assert_true(n.p.a.bad_n == 2 && n.p.a.bad_status == MC_ERR_CANCELED);
	heal("wa0");
	heal("wa1");
	n.p.a.bad_n = 0;
	wait_ms(&n, 2500);
	assert_int_equal(n.p.b.msg_n, 0);
	for (uint64_t i = 0; i < n.len; i++)
		if (n.a[i] != 0x11 || n.b[i] != 0x22)
			fail_msg("byte %llu of a canceled post has landed", (unsigned long long)i);
	wait_both(&n);
	net_close(&n);
}

static void rails__none_can_be_proved(void **state)
{
	static const char *const soon[] = {
		"MC_VERBS_TIMEOUT", "12", "MC_VERBS_RETRY", "3", "MC_VERBS_CONNECT_TIMEOUT", "1s", NULL};
	struct pair p;
	const void *addr;
	uint32_t len;

	(void)state;
	memset(&p, 0, sizeof(p));
	one_open(&p.a, 0, "rxa0,rxa1", soon);
	one_open(&p.b, 1, "rxb0,rxb1", soon);
	blackhole("wa0");
	blackhole("wa1");
	side_ep_create(&p.a);
	addr = side_addr(&p.b, &len);
	assert_int_equal(side_connect(&p.a, addr, len), MC_OK);
	while (p.a.down_n == 0)
		pair_tick(&p);
	assert_int_equal(p.a.up_n, 0);
	assert_int_equal(p.a.down_status, MC_ERR_UNSUPPORTED);
	heal("wa0");
	heal("wa1");
	p.a.ep = NULL;
	pair_close(&p);
}

/*
 * A process with more peers than queue pairs: the cgroup's part is one each, rank 0 has three peers. They are used in
 * turn, so that the others must give theirs up again and again; no message is lost, doubled or out of order.
 */
static void rails__more_peers_than_queue_pairs(void **state)
{
	enum { N = 4, ROUNDS = 30, SHARED = 4, QPS = 4 };
	static const char *const none[] = {NULL};
	const char *cg = "/sys/fs/cgroup/rails_test";
	struct side s[N];
	struct mc_be_ep *ep[N] = {NULL};
	bool down = false;

	(void)state;
	run("echo +rdma >/sys/fs/cgroup/cgroup.subtree_control && mkdir -p %s && echo 'rxa0 hca_object=%d' "
	    ">%s/rdma.max",
	    cg, N * SHARED + QPS, cg);
	run("echo %d >%s/cgroup.procs", (int)getpid(), cg);
	for (uint32_t i = 0; i < N; i++)
		one_open(&s[i], i, "rxa0", none);
	for (uint32_t j = 1; j < N; j++) {
		side_ep_create(&s[0]);
		assert_int_equal(side_connect(&s[0], s[j].caps.addr, s[j].caps.addr_len), MC_OK);
		ep[j] = s[0].ep;
	}
	for (uint32_t r = 0; r < ROUNDS; r++)
		for (uint32_t j = 1; j < N; j++) {
			struct iovec iov = {.iov_base = &r, .iov_len = sizeof(r)};
			mc_status_t st = MC_ERR_AGAIN;
			s[j].keep = true;
			while (s[j].msg_n <= r && !down) {
				if (st == MC_ERR_AGAIN)
					st = mc_be_verbs.send(s[0].be, ep[j], &iov, 1, MC_SEND_COPY, 0);
				assert_true(st == MC_OK || st == MC_ERR_AGAIN);
				for (uint32_t i = 0; i < N; i++)
					side_poll(&s[i]);
				down = s[0].down_n > 0;
			}
			assert_false(down);
			assert_int_equal(s[j].msg_n, r + 1);
			assert_memory_equal(s[j].msg[r].data, &r, sizeof(r));
		}
	for (uint32_t i = 0; i < N; i++) {
		s[i].ep = NULL;
		side_close(&s[i]);
	}
	run("echo %d >/sys/fs/cgroup/cgroup.procs", (int)getpid());
	run("! grep -q '=[1-9]' %s/rdma.current && rmdir %s", cg, cg);
}

/* Memory of a device comes as a dma-buf; these devices take none, and say so. */
static void mem_reg__dma_buf(void **state)
{
	static const char *const none[] = {NULL};
	struct side s;
	struct mc_be_mem *mem = NULL;
	struct mc_be_region r = {.len = 4096, .kind = MC_KIND_DMABUF, .id = 1};

	(void)state;
	one_open(&s, 0, "rxa0", none);
	r.fd = memfd_create("no-dma-buf", 0);
	assert_true(r.fd >= 0);
	assert_int_equal(mc_be_verbs.mem_reg(s.be, &r, &mem), MC_ERR_UNSUPPORTED);
	assert_null(mem);
	r.kind = MC_KIND_CUDA;
	assert_int_equal(mc_be_verbs.mem_reg(s.be, &r, &mem), MC_ERR_UNSUPPORTED);
	close(r.fd);
	side_close(&s);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(rails__both_are_used),
	cmocka_unit_test(rails__packets_lost_in_the_middle),
	cmocka_unit_test(rails__own_link_down),
	cmocka_unit_test(rails__flapping),
	cmocka_unit_test(rails__delay_and_loss),
	cmocka_unit_test(rails__each_message_once_and_nothing_late),
	cmocka_unit_test(rails__all_gone),
	cmocka_unit_test(rails__a_cancel_does_not_wait_for_a_rail),
	cmocka_unit_test(rails__none_can_be_proved),
	cmocka_unit_test(rails__more_peers_than_queue_pairs),
	cmocka_unit_test(mem_reg__dma_buf),
};

int main(int argc, char **argv)
{
	be_setup.ops = &mc_be_verbs;
	be_setup.backend = "verbs";
	be_setup.transport = "auto";
	be_setup.transports = MC_TP_RDMA;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--debug") == 0)
			mc_log_set_level(MC_LOG_DEBUG);
		else
			cmocka_set_test_filter(argv[i]);
	}
	if (access("/sys/class/infiniband/rxa1", F_OK) != 0 || access("/sys/class/net/wa1", F_OK) != 0) {
		printf("skip: no pairs of RDMA devices here; docs/TESTING.md names a kernel that has some\n");
		return 77;
	}
	return cmocka_run_group_tests_name("rails", tests, NULL, NULL);
}

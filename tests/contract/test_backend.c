/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_backend.c - the promises of backend.h, (a) to (h), on any backend:
 *     test_backend --backend loop|shm|ucx|verbs --transport auto|shm|tcp [--only PATTERN]
 * Messages are here, transfers in test_backend_post.c and test_backend_mem.c, lost peers and second processes in
 * test_backend_peer.c.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "be_tests.h"

extern const struct mc_be_ops mc_be_shm, mc_be_loop;
#ifdef MC_HAVE_UCX
extern const struct mc_be_ops mc_be_ucx;
#endif
#ifdef MC_HAVE_VERBS
extern const struct mc_be_ops mc_be_verbs;
#endif

static void open__caps_are_sane(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_int_equal(be_setup.ops->abi, MC_BE_ABI);
	assert_int_equal(be_setup.ops->size, sizeof(struct mc_be_ops));
	assert_string_equal(be_setup.ops->name, be_setup.backend);
	assert_true(p.a.caps.addr_len > 0 && p.a.caps.addr_len <= 4096);
	assert_non_null(p.a.caps.addr);
	assert_true(p.a.caps.msg_max >= 4096 && p.a.caps.copy_max >= 256 && p.a.caps.iov_max >= 4);
	assert_true(p.a.caps.event_fd >= 0);
	assert_true(memchr(p.a.caps.text, '\0', sizeof(p.a.caps.text)) != NULL && p.a.caps.text[0] != '\0');
	if (p.a.caps.flags & MC_CAP_SAME_ADDR)
		assert_int_equal(p.a.caps.ep_blob_max, 0);
	if (p.a.caps.flags & MC_CAP_RMA)
		assert_true(p.a.caps.blob_max > 0);
	pair_close(&p);
}

static void open__says_why_not(void **state)
{
	struct side s;
	char why[256] = "";

	(void)state;
	memset(&s, 0, sizeof(s));
	side_config(&s.cfg);
	if (strcmp(be_setup.backend, "loop") == 0) {
		assert_int_equal(side_try_open(&s, NULL, 0, 1, why, sizeof(why)), MC_ERR_UNSUPPORTED);
		assert_true(why[0] != '\0');
	} else if (strcmp(be_setup.backend, "ucx") == 0 && strcmp(be_setup.transport, "tcp") == 0) {
		struct mc_be_nic nic[2] = {{.name = "lo", .use = true}, {.name = "nosuch9"}};
		struct mc_be_cfg cfg = {.transports = MC_TP_TCP, .config = &s.cfg, .size = 1, .nic = nic, .nic_n = 2};
		cfg.nic_chosen = cfg.nic_named = cfg.nic_narrow = true;
		assert_int_equal(be_setup.ops->open(&cfg, &s.be, &s.caps, why, sizeof(why)), MC_OK);
		assert_string_equal(s.caps.text, "tcp/lo");
		be_setup.ops->close(s.be);
		nic[0].use = false; /* what the user named is all down */
		assert_int_equal(be_setup.ops->open(&cfg, &s.be, &s.caps, why, sizeof(why)), MC_ERR_UNSUPPORTED);
		assert_non_null(strstr(why, "MC_DEVICE"));
		cfg.nic_named = false; /* it named others: loopback stays */
		assert_int_equal(be_setup.ops->open(&cfg, &s.be, &s.caps, why, sizeof(why)), MC_OK);
		assert_string_equal(s.caps.text, "tcp/lo");
		be_setup.ops->close(s.be);
		s.be = NULL;
	}
	if (strcmp(be_setup.backend, "ucx") == 0 && access("/sys/class/infiniband", F_OK) != 0) {
		uint32_t transports = be_setup.transports;
		be_setup.transports = MC_TP_RDMA;
		why[0] = '\0';
		assert_int_equal(side_try_open(&s, NULL, 0, 1, why, sizeof(why)), MC_ERR_UNSUPPORTED);
		assert_non_null(strstr(why, "/sys/class/infiniband"));
		be_setup.transports = transports;
	}
	mc_config_free(&s.cfg);
}

static void connect__up_once_on_both_sides(void **state)
{
	struct pair p;

	(void)state;
	pair_connect(&p);
	for (int i = 0; i < 100; i++)
		pair_tick(&p);
	assert_int_equal(p.a.up_n, 1);
	assert_int_equal(p.b.up_n, 1);
	assert_int_equal(p.a.down_n + p.b.down_n, 0);
	pair_close(&p);
}

/* Messages may be sent before EP_UP; one side need not have connected at all. */
static void send__before_up(void **state)
{
	struct pair p;
	const void *addr;
	uint32_t len;

	(void)state;
	pair_open(&p);
	side_ep_create(&p.a);
	if (!(p.a.caps.flags & MC_CAP_SAME_ADDR))
		side_ep_create(&p.b);
	addr = side_addr(&p.b, &len);
	assert_int_equal(side_connect(&p.a, addr, len), MC_OK);
	if (p.b.ep != NULL) {
		addr = side_addr(&p.a, &len);
		assert_int_equal(side_connect(&p.b, addr, len), MC_OK);
	}
	side_send(&p.a, &p.b, "early", 5, MC_SEND_COPY);
	side_send(&p.a, &p.b, "bird", 4, 0);
	while (p.b.msg_n < 2 || p.a.sent_n < 1 || p.a.up_n < 1)
		pair_tick(&p);
	assert_memory_equal(p.b.msg[0].data, "early", 5);
	assert_memory_equal(p.b.msg[1].data, "bird", 4);
	pair_close(&p);
}

static void send__argument_limits(void **state)
{
	struct pair p;
	struct iovec iov[2] = {{.iov_base = &p, .iov_len = 8}, {.iov_base = &p, .iov_len = 0}};
	struct iovec *many;

	(void)state;
	pair_connect(&p);
	iov[1].iov_len = p.a.caps.copy_max;
	assert_int_equal(be_setup.ops->send(p.a.be, p.a.ep, iov, 2, MC_SEND_COPY, 1), MC_ERR_INVAL);
	iov[1].iov_len = p.a.caps.msg_max;
	assert_int_equal(be_setup.ops->send(p.a.be, p.a.ep, iov, 2, 0, 1), MC_ERR_INVAL);
	many = calloc(p.a.caps.iov_max + 1u, sizeof(*many));
	assert_int_equal(be_setup.ops->send(p.a.be, p.a.ep, many, p.a.caps.iov_max + 1, 0, 1), MC_ERR_INVAL);
	free(many);
	pair_close(&p);
}

/* (d) sizes from nothing to some fragments, copied and not, in order, whole, once. */
static uint32_t order_len(uint32_t i)
{
	static const uint32_t len[] = {8, 0, 64, 4096, 1, 200, 8192, 33, 65536, 17, 300000, 4, 1000, 0, 120, 31};

	return len[i % MC_ARRAY_LEN(len)];
}

static void order_check(struct side *s, const struct mc_be_event *ev)
{
	assert_int_equal(ev->len, order_len(s->msg_n));
	assert_true(pattern_ok(ev->data, ev->len, s->msg_n));
}

static void send__10000_in_order(void **state)
{
	enum { N = 10000, LIVE = 64 };
	static uint8_t buf[LIVE][300000];
	uint64_t at[LIVE];
	struct pair p;
	uint32_t plain = 0;

	(void)state;
	pair_connect(&p);
	p.b.on_msg = order_check;
	for (uint32_t i = 0; i < N; i++) {
		uint32_t slot = i % LIVE, len = order_len(i), flags = 0;
		while (i >= LIVE && p.a.seen[at[slot]] == 0)
			pair_tick(&p);
		pattern_fill(buf[slot], len, i);
		if (i % 3 == 0 && len <= p.a.caps.copy_max)
			flags = MC_SEND_COPY;
		else
			plain++;
		at[slot] = side_send(&p.a, &p.b, buf[slot], len, flags);
		if (flags != 0) {
			p.a.seen[at[slot]] = 1;
			memset(buf[slot], 0xee, len);
		}
	}
	while (p.b.msg_n < N || p.a.sent_n < plain)
		pair_tick(&p);
	for (int i = 0; i < 100; i++)
		pair_tick(&p);
	assert_int_equal(p.b.msg_n, N);
	assert_int_equal(p.a.sent_n, plain);
	assert_int_equal(p.a.bad_n, 0);
	pair_close(&p);
}

/* Libraries cut messages: lengths just below, at and above every likely border. */
static void send__lengths_around_borders(void **state)
{
	static uint8_t buf[(1088 << 10) + 256];
	struct pair p;
	uint32_t n = 0;

	(void)state;
	pair_connect(&p);
	pattern_fill(buf, sizeof(buf), 1);
	for (uint32_t border = 64; border <= (1088u << 10); border = border == 1u << 20 ? 1088u << 10 : border * 2)
		for (uint32_t len = border < 192 ? 0 : border - 192; len <= border + 16 && len <= p.a.caps.msg_max;
		     len += 4) {
			side_send(&p.a, &p.b, buf, len, 0);
			while (p.b.msg_n == 0 || p.a.sent_n == n)
				pair_tick(&p);
			n++;
			assert_int_equal(p.b.msg[0].len, len);
			assert_memory_equal(p.b.msg[0].data, buf, len);
			free(p.b.msg[0].data);
			p.b.msg[0].data = NULL;
			p.b.msg_n = 0;
		}
	pair_close(&p);
}

/* The longest message, from the most pieces, some of them empty; both ways at once. */
static void send__biggest_message(void **state)
{
	struct pair p;
	struct iovec *iov;
	uint8_t *buf;
	uint32_t max, n;
	size_t part;

	(void)state;
	pair_connect(&p);
	max = p.a.caps.msg_max;
	n = p.a.caps.iov_max;
	buf = malloc(max);
	iov = calloc(n, sizeof(*iov));
	assert_true(buf != NULL && iov != NULL);
	pattern_fill(buf, max, 7);
	part = max / (n / 2);
	for (uint32_t i = 0; i < n / 2; i++) {
		iov[2 * i] =
			(struct iovec){.iov_base = buf + part * i, .iov_len = i + 1 < n / 2 ? part : max - part * i};
		iov[2 * i + 1] = (struct iovec){.iov_base = NULL, .iov_len = 0};
	}
	for (int round = 0; round < 4; round++) {
		while (be_setup.ops->send(p.a.be, p.a.ep, iov, n, 0, p.a.next_cookie) == MC_ERR_AGAIN)
			pair_tick(&p);
		p.a.next_cookie++;
		side_send(&p.b, &p.a, buf, max, 0);
	}
	while (p.a.msg_n < 4 || p.b.msg_n < 4 || p.a.sent_n < 4 || p.b.sent_n < 4)
		pair_tick(&p);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(p.a.msg[i].len, max);
		assert_int_equal(p.b.msg[i].len, max);
		assert_memory_equal(p.a.msg[i].data, buf, max);
		assert_memory_equal(p.b.msg[i].data, buf, max);
	}
	free(buf);
	free(iov);
	pair_close(&p);
}

/* (a) a receiver that does not poll stops the sender at a bounded amount; then all arrives. */
static void backpressure(uint32_t flags)
{
	enum { LEN = 4096, MAX = 200000 };
	static uint8_t buf[LEN];
	struct pair p;
	struct iovec iov = {.iov_base = buf, .iov_len = LEN};
	mc_status_t st = MC_OK;
	uint32_t n = 0, again = 0;

	pair_connect(&p);
	p.b.keep = false;
	pattern_fill(buf, LEN, 5);
	if (p.a.caps.copy_max < LEN)
		iov.iov_len = p.a.caps.copy_max;
	while (n < MAX && again < 1000) {
		st = be_setup.ops->send(p.a.be, p.a.ep, &iov, 1, flags, n);
		assert_true(st == MC_OK || st == MC_ERR_AGAIN);
		if (st == MC_ERR_AGAIN) {
			again++;
			side_poll(&p.a);
			continue;
		}
		n++;
	}
	assert_int_equal(st, MC_ERR_AGAIN);
	while (p.b.msg_n < n || (flags == 0 && p.a.sent_n < n))
		pair_tick(&p);
	assert_int_equal(be_setup.ops->send(p.a.be, p.a.ep, &iov, 1, flags, n), MC_OK);
	while (p.b.msg_n < n + 1)
		pair_tick(&p);
	pair_close(&p);
}

static void send__again_then_drain(void **state)
{
	(void)state;
	backpressure(0);
}

static void send_copy__again_then_drain(void **state)
{
	(void)state;
	backpressure(MC_SEND_COPY);
}

/* Three ranks, each to each of the others: no message goes astray. */
static void send__three_ranks(void **state)
{
	enum { N = 3, ROUNDS = 500 };
	struct mc_hub *hub;
	struct side s[N];
	struct mc_be_ep *ep[N][N];
	bool same;

	(void)state;
	assert_int_equal(mc_hub_create(N, &hub), MC_OK);
	for (uint32_t i = 0; i < N; i++)
		side_open(&s[i], hub, i, N);
	same = (s[0].caps.flags & MC_CAP_SAME_ADDR) != 0;
	if (!same)
		skip();
	for (uint32_t i = 0; i < N; i++)
		for (uint32_t j = 0; j < N; j++) {
			if (i == j)
				continue;
			side_ep_create(&s[i]);
			assert_int_equal(side_connect(&s[i], s[j].caps.addr, s[j].caps.addr_len), MC_OK);
			ep[i][j] = s[i].ep;
		}
	for (uint32_t r = 0; r < ROUNDS; r++)
		for (uint32_t i = 0; i < N; i++)
			for (uint32_t j = 0; j < N; j++) {
				uint32_t body[3] = {i, j, r};
				s[i].ep = ep[i][j];
				if (i != j)
					side_send(&s[i], &s[j], body, sizeof(body), MC_SEND_COPY);
			}
	for (uint32_t j = 0; j < N; j++) {
		uint32_t next[N] = {0};
		while (s[j].msg_n < (N - 1) * ROUNDS)
			for (uint32_t i = 0; i < N; i++)
				side_poll(&s[i]);
		for (uint32_t m = 0; m < s[j].msg_n; m++) {
			uint32_t body[3];
			memcpy(body, s[j].msg[m].data, sizeof(body));
			assert_int_equal(body[1], j);
			assert_int_equal(body[2], next[body[0]]++);
		}
	}
	for (uint32_t i = 0; i < N; i++)
		side_close(&s[i]);
	mc_hub_free(hub);
}

/* (h) both sides sleep in between every two messages; a lost wake-up shows as a sleep without end. */
struct pingpong {
	struct side *s;
	uint32_t n;
	bool first;
};

static void *pingpong_run(void *arg)
{
	struct pingpong *pp = arg;

	for (uint32_t i = 0; i < pp->n; i++) {
		if (pp->first)
			side_send(pp->s, NULL, &i, sizeof(i), MC_SEND_COPY);
		side_sleep_until(pp->s, &pp->s->msg_n, i + 1);
		if (!pp->first)
			side_send(pp->s, NULL, &i, sizeof(i), MC_SEND_COPY);
	}
	return NULL;
}

static void arm__2000_sleeping_round_trips(void **state)
{
	struct pair p;
	struct pingpong a = {.s = &p.a, .n = 2000, .first = true}, b = {.s = &p.b, .n = 2000};
	pthread_t t;

	(void)state;
	pair_connect(&p);
	p.a.keep = false;
	p.b.keep = false;
	assert_int_equal(pthread_create(&t, NULL, pingpong_run, &b), 0);
	pingpong_run(&a);
	assert_int_equal(pthread_join(t, NULL), 0);
	pair_close(&p);
}

/* (h) a sender that met MC_ERR_AGAIN and went to sleep is woken when there is room, though no event says so. */
static void *drain_run(void *arg)
{
	struct pingpong *pp = arg;

	side_sleep_until(pp->s, &pp->s->msg_n, pp->n);
	return NULL;
}

static void arm__wakes_a_sender_without_room(void **state)
{
	enum { N = 50000, LEN = 2000 };
	static uint8_t buf[LEN];
	struct pair p;
	struct pingpong b = {.s = &p.b, .n = N};
	struct iovec iov = {.iov_base = buf, .iov_len = LEN};
	pthread_t t;

	(void)state;
	pair_connect(&p);
	p.b.keep = false;
	if (p.a.caps.copy_max < LEN)
		iov.iov_len = p.a.caps.copy_max;
	assert_int_equal(pthread_create(&t, NULL, drain_run, &b), 0);
	for (uint32_t n = 0, again = 0; n < N;) {
		mc_status_t st = be_setup.ops->send(p.a.be, p.a.ep, &iov, 1, MC_SEND_COPY, 0);
		assert_true(st == MC_OK || st == MC_ERR_AGAIN);
		n += st == MC_OK;
		again = st == MC_OK ? 0 : again + 1;
		if (again > 1) /* polled and tried again, still no room */
			side_sleep(&p.a);
		if (again > 0)
			side_poll(&p.a);
	}
	/* What was accepted may still wait here for room: keep going until it has all left. */
	while (pthread_tryjoin_np(t, NULL) != 0) {
		struct pollfd pfd = {.fd = p.a.caps.event_fd, .events = POLLIN};
		if (side_poll(&p.a) == 0 && be_setup.ops->arm(p.a.be) == MC_OK)
			poll(&pfd, 1, 50);
	}
	assert_int_equal(p.b.msg_n, N);
	pair_close(&p);
}

/* (h) with nothing to do it sleeps: hardly a wake-up and hardly any processor time in half a second. */
static void arm__idle_is_asleep(void **state)
{
	struct pair p;
	struct pollfd pfd;
	struct timespec c0, c1;
	int64_t end;
	uint32_t wakes = 0;

	(void)state;
	pair_connect(&p);
	for (int i = 0; i < 2000; i++)
		pair_tick(&p);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &c0);
	end = mc_now_ns() + 500000000;
	while (mc_now_ns() < end) {
		side_poll(&p.a);
		wakes++;
		if (be_setup.ops->arm(p.a.be) != MC_OK)
			continue;
		pfd = (struct pollfd){.fd = p.a.caps.event_fd, .events = POLLIN};
		poll(&pfd, 1, (int)((end - mc_now_ns()) / 1000000) + 1);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &c1);
	assert_true(wakes < 50);
	assert_true((c1.tv_sec - c0.tv_sec) * 1000000000 + c1.tv_nsec - c0.tv_nsec < 50000000);
	pair_close(&p);
}

/* (e) no address that is not a whole, true one is taken, and none does harm. */
static void ep_connect__hostile_address(void **state)
{
	struct pair p;
	uint8_t good[4096], bad[4096];
	const void *addr;
	uint32_t len;
	uint64_t x = 88172645463325252u;

	(void)state;
	pair_connect(&p);
	addr = side_addr(&p.b, &len);
	memcpy(good, addr, len);
	for (uint32_t i = 0; i < len + 400; i++) {
		uint32_t n = i < len ? i : len;
		struct mc_be_ep *ep;
		uint8_t blob[4096];
		uint32_t blob_len = sizeof(blob);

		memcpy(bad, good, len);
		for (uint32_t k = 0; i >= len + 200 && k < len; k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			bad[k] = (uint8_t)x;
		}
		if (i >= len && i < len + 200) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			bad[x % len] ^= (uint8_t)(1u << (x >> 40 & 7));
		}
		assert_int_equal(be_setup.ops->ep_create(p.a.be, 1000 + i, blob, &blob_len, &ep), MC_OK);
		assert_int_not_equal(be_setup.ops->ep_connect(p.a.be, ep, bad, n, NULL, 0), MC_OK);
		be_setup.ops->ep_close(p.a.be, ep);
	}
	side_send(&p.a, &p.b, "alive", 5, MC_SEND_COPY);
	while (p.b.msg_n < 1)
		pair_tick(&p);
	pair_close(&p);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test(open__caps_are_sane),
					  cmocka_unit_test(open__says_why_not),
					  cmocka_unit_test(connect__up_once_on_both_sides),
					  cmocka_unit_test(send__before_up),
					  cmocka_unit_test(send__argument_limits),
					  cmocka_unit_test(send__10000_in_order),
					  cmocka_unit_test(send__lengths_around_borders),
					  cmocka_unit_test(send__biggest_message),
					  cmocka_unit_test(send__again_then_drain),
					  cmocka_unit_test(send_copy__again_then_drain),
					  cmocka_unit_test(send__three_ranks),
					  cmocka_unit_test(arm__2000_sleeping_round_trips),
					  cmocka_unit_test(arm__wakes_a_sender_without_room),
					  cmocka_unit_test(arm__idle_is_asleep),
					  cmocka_unit_test(ep_connect__hostile_address),
					  BE_POST_TESTS BE_PEER_TESTS};

static bool setup_parse(int argc, char **argv, int *child_fd)
{
	static const struct mc_be_ops *const known[] = {
		&mc_be_loop,
		&mc_be_shm,
#ifdef MC_HAVE_UCX
		&mc_be_ucx,
#endif
#ifdef MC_HAVE_VERBS
		&mc_be_verbs,
#endif
	};

	be_setup.backend = "loop";
	be_setup.transport = "auto";
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--backend") == 0)
			be_setup.backend = argv[i + 1];
		else if (strcmp(argv[i], "--transport") == 0)
			be_setup.transport = argv[i + 1];
		else if (strcmp(argv[i], "--child") == 0)
			*child_fd = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--only") == 0)
			cmocka_set_test_filter(argv[i + 1]);
		else
			return false;
	}
	for (size_t i = 0; i < MC_ARRAY_LEN(known); i++)
		if (strcmp(known[i]->name, be_setup.backend) == 0)
			be_setup.ops = known[i];
	be_setup.transports = MC_TP_SHM | MC_TP_TCP | MC_TP_RDMA;
	if (strcmp(be_setup.transport, "shm") == 0)
		be_setup.transports = MC_TP_SHM;
	else if (strcmp(be_setup.transport, "tcp") == 0)
		be_setup.transports = MC_TP_TCP;
	be_setup.in_process_only = strcmp(be_setup.backend, "loop") == 0;
	return be_setup.ops != NULL;
}

int main(int argc, char **argv)
{
	int child_fd = -1;

	if (!setup_parse(argc, argv, &child_fd)) {
		fprintf(stderr, "usage: %s --backend loop|shm|ucx|verbs --transport auto|shm|tcp [--only PATTERN]\n",
			argv[0]);
		return 2;
	}
	if (child_fd >= 0)
		return child_main(child_fd);
	if (strcmp(be_setup.backend, "verbs") == 0 && access("/sys/class/infiniband", F_OK) != 0) {
		printf("skip: no RDMA device here; docs/TESTING.md names a kernel that has some\n");
		return 77;
	}
	return cmocka_run_group_tests_name(be_setup.backend, tests, NULL, NULL);
}

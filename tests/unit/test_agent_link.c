/* SPDX-License-Identifier: BSD-3-Clause */
/* test_agent_link.c - mcrun and its agents: who has the key gets in and is understood, nobody else, whatever he says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"
#include "netaddr.h"
#include "talk.h"

static const char hex[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F";

struct pair {
	struct mc_link *head, *agent;
};

static void pair_open(struct pair *p, uint8_t twist)
{
	uint8_t key[MC_LINK_KEY_BYTES];
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
	assert_true(mc_link_key_parse(hex, key));
	p->head = mc_link_create(sv[0], MC_LINK_HEAD, key);
	key[31] ^= twist;
	p->agent = mc_link_create(sv[1], MC_LINK_AGENT, key);
}

static void pair_close(struct pair *p)
{
	mc_link_free(p->head);
	mc_link_free(p->agent);
}

static void pair_turn(struct pair *p)
{
	for (int i = 0; i < 6; i++) {
		mc_link_flush(p->head);
		mc_link_receive(p->agent);
		mc_link_flush(p->agent);
		mc_link_receive(p->head);
	}
}

static void expect_message(struct mc_link *l, const char *want, size_t n)
{
	const uint8_t *p = NULL;
	size_t got = 0;

	assert_true(mc_link_next(l, &p, &got));
	assert_int_equal(got, n);
	assert_memory_equal(p, want, n);
}

static void meet__with_the_key(void **state)
{
	struct pair p;
	const uint8_t *m;
	size_t n;
	char *big = calloc(1, 3000000);

	(void)state;
	pair_open(&p, 0);
	mc_link_send(p.agent, "early", 5); /* waits until the link is up */
	pair_turn(&p);
	assert_int_equal(mc_link_state(p.head), MC_LINK_UP);
	assert_int_equal(mc_link_state(p.agent), MC_LINK_UP);
	expect_message(p.head, "early", 5);
	assert_false(mc_link_next(p.head, &m, &n));
	mc_link_send(p.head, "", 0);
	mc_link_send(p.head, "two", 3);
	big[2999999] = 'x';
	mc_link_send(p.head, big, 3000000);
	for (int i = 0; i < 40; i++)
		pair_turn(&p);
	expect_message(p.agent, "", 0);
	expect_message(p.agent, "two", 3);
	expect_message(p.agent, big, 3000000);
	assert_int_equal(mc_link_queued(p.head), 0);
	/* what was sent before the other side went away still counts */
	mc_link_send(p.agent, "last", 4);
	mc_link_flush(p.agent);
	mc_link_free(p.agent);
	p.agent = NULL;
	mc_link_receive(p.head);
	mc_link_receive(p.head);
	assert_int_equal(mc_link_state(p.head), MC_LINK_BROKEN);
	expect_message(p.head, "last", 4);
	pair_close(&p);
	free(big);
}

static void meet__with_another_key(void **state)
{
	struct pair p;
	const uint8_t *m;
	size_t n;

	(void)state;
	pair_open(&p, 1);
	mc_link_send(p.agent, "let me in", 9);
	pair_turn(&p);
	assert_int_equal(mc_link_state(p.head), MC_LINK_BROKEN);
	assert_non_null(strstr(mc_link_why(p.head), "does not have the key"));
	assert_int_not_equal(mc_link_state(p.agent), MC_LINK_UP);
	assert_false(mc_link_next(p.head, &m, &n));
	pair_close(&p);
}

static void stranger(const void *say, size_t len, const char *why)
{
	struct pair p;
	const uint8_t *m;
	size_t n;

	pair_open(&p, 0);
	mc_link_feed(p.head, say, len);
	assert_int_equal(mc_link_state(p.head), why == NULL ? MC_LINK_MEETING : MC_LINK_BROKEN);
	if (why != NULL)
		assert_non_null(strstr(mc_link_why(p.head), why));
	assert_false(mc_link_next(p.head, &m, &n));
	pair_close(&p);
}

static void meet__strangers(void **state)
{
	char long_one[5000];

	(void)state;
	stranger("GET / HTTP/1.0\r\n", 16, "does not speak");
	stranger("\0", 1, "does not speak");
	stranger("MCL1", 4, NULL);
	memset(long_one, 0, sizeof(long_one));
	memcpy(long_one, "MCL1", 4);
	stranger(long_one, 91, NULL);
	stranger(long_one, 92, "does not have the key");
	/* zeros are what an unset key would decrypt */
	stranger(long_one, sizeof(long_one), "does not have the key");
}

/* The bytes that an agent sends in a real meeting, taken off the wire. */
static size_t record(struct pair *p, uint8_t *buf, size_t room)
{
	mc_link_flush(p->head);
	mc_link_receive(p->agent);
	mc_link_flush(p->agent);
	return (size_t)recv(mc_link_fd(p->head), buf, room, MSG_DONTWAIT);
}

static void meet__replay_is_refused(void **state)
{
	struct pair p, q;
	uint8_t buf[512];

	(void)state;
	pair_open(&p, 0);
	size_t n = record(&p, buf, sizeof(buf));
	assert_int_equal(n, 92);
	pair_open(&q, 0); /* another nonce of the head */
	mc_link_feed(q.head, buf, n);
	assert_int_equal(mc_link_state(q.head), MC_LINK_BROKEN);
	mc_link_feed(p.head, buf, n);
	assert_int_equal(mc_link_state(p.head), MC_LINK_UP);
	pair_close(&p);
	pair_close(&q);
}

static void message__altered(void **state)
{
	uint8_t buf[512];
	const uint8_t *m;
	size_t n;

	(void)state;
	/* each byte of a message in turn: length, text, tag */
	for (size_t i = 0; i < 4 + 5 + 17; i++) {
		struct pair p;

		pair_open(&p, 0);
		pair_turn(&p);
		mc_link_send(p.agent, "hello", 5);
		mc_link_flush(p.agent);
		ssize_t got = recv(mc_link_fd(p.head), buf, sizeof(buf), MSG_DONTWAIT);
		assert_int_equal(got, 4 + 5 + 17);
		buf[i] ^= 0x20;
		mc_link_feed(p.head, buf, (size_t)got);
		assert_false(mc_link_next(p.head, &m, &n));
		/* a longer length only waits; nothing that follows can be right any more */
		mc_link_feed(p.head, (const uint8_t *)memset(buf, 0, sizeof(buf)), sizeof(buf));
		assert_false(mc_link_next(p.head, &m, &n));
		pair_close(&p);
	}
	/* the same message twice */
	struct pair p;
	pair_open(&p, 0);
	pair_turn(&p);
	mc_link_send(p.agent, "hello", 5);
	mc_link_flush(p.agent);
	ssize_t got = recv(mc_link_fd(p.head), buf, sizeof(buf), MSG_DONTWAIT);
	mc_link_feed(p.head, buf, (size_t)got);
	expect_message(p.head, "hello", 5);
	mc_link_feed(p.head, buf, (size_t)got);
	assert_false(mc_link_next(p.head, &m, &n));
	assert_non_null(strstr(mc_link_why(p.head), "altered"));
	pair_close(&p);
}

static void key__text(void **state)
{
	uint8_t key[MC_LINK_KEY_BYTES];

	(void)state;
	assert_true(mc_link_key_parse(hex, key));
	assert_int_equal(key[0], 0);
	assert_int_equal(key[31], 0x1f);
	assert_false(mc_link_key_parse("", key));
	assert_false(mc_link_key_parse("00", key));
	assert_false(mc_link_key_parse("g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", key));
}

static void talk__round_trip(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 256; kind++) {
		const struct mc_talk in = {.kind = (uint8_t)kind,
					   .stream = 1,
					   .rank = 2,
					   .victim = 3,
					   .code = -4,
					   .pid = 5,
					   .id = UINT64_MAX - 6,
					   .key = 7,
					   .text = "eight",
					   .data = (const uint8_t *)"nine",
					   .data_n = 4};
		struct mc_enc b = {0}, again = {0};
		struct mc_talk out;

		mc_talk_write(&b, &in);
		if (mc_talk_read(b.p, b.n, &out)) {
			mc_talk_write(&again, &out);
			assert_int_equal(again.n, b.n);
			assert_memory_equal(again.p, b.p, b.n);
			if (b.n > 1) /* cut anywhere, it is no message, unless only free data is cut off */
				assert_true(!mc_talk_read(b.p, b.n - 1, &out) || out.data_n == 3);
		} else {
			assert_int_equal(b.n, 1); /* no such kind */
		}
		mc_enc_free(&b);
		mc_enc_free(&again);
	}
}

static void addresses__loopback_is_for_this_host_alone(void **state)
{
	struct mc_hosts h = {0};
	struct mc_err err = {""};
	uint16_t port = 0;

	(void)state;
	/* all here: loopback will do */
	assert_int_equal(mc_hosts_parse(&h, "127.0.0.1:1", &err), 0);
	char *list = mc_addr_candidates(&h, NULL, 4000, &err);
	assert_non_null(strstr(list, "127.0.0.1:4000"));
	free(list);
	/* a name that means loopback here, beside another host: it is not told to anybody, if there is anything else */
	assert_int_equal(mc_hosts_parse(&h, "127.0.1.1:1,192.0.2.77:1", &err), 0);
	list = mc_addr_candidates(&h, NULL, 4000, &err);
	assert_non_null(list);
	if (strcmp(list, "127.0.0.1:4000") != 0)
		assert_null(strstr(list, "127."));
	free(list);
	list = mc_addr_candidates(&h, "192.0.2.9", 4000, &err);
	assert_string_equal(list, "192.0.2.9:4000");
	free(list);
	assert_null(mc_addr_candidates(&h, "no.such.host.invalid", 4000, &err));
	mc_hosts_free(&h);
	/* a listener, and whoever connects to it */
	int fd = mc_addr_listen(&port, &err);
	assert_true(fd >= 0 && port != 0);
	char where[64];
	(void)snprintf(where, sizeof(where), "nonsense,127.0.0.1:%u", port);
	assert_int_equal(mc_addr_connect(where, 0, MC_NS_PER_S, &err), -1);
	int c = mc_addr_connect(where, 1, MC_NS_PER_S, &err);
	assert_true(c >= 0);
	assert_int_equal(mc_addr_connect(where, 2, MC_NS_PER_S, &err), -2);
	(void)close(c);
	(void)close(fd);
	assert_int_equal(mc_addr_connect(where, 1, MC_NS_PER_S, &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(meet__with_the_key), cmocka_unit_test(meet__with_another_key),
		cmocka_unit_test(meet__strangers),    cmocka_unit_test(meet__replay_is_refused),
		cmocka_unit_test(message__altered),   cmocka_unit_test(key__text),
		cmocka_unit_test(talk__round_trip),   cmocka_unit_test(addresses__loopback_is_for_this_host_alone),
	};

	if (!mc_link_possible())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

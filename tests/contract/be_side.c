/* SPDX-License-Identifier: BSD-3-Clause */
/* be_side.c - opened backends that count every event, and pairs of them. */
#include "be_side.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct be_setup be_setup;

void pattern_fill(void *p, size_t len, uint64_t seed)
{
	uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		b[i] = pattern(seed, i);
}

bool pattern_ok(const void *p, size_t len, uint64_t seed)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		if (b[i] != pattern(seed, i))
			return false;
	return true;
}

void side_config(struct mc_config *cfg)
{
	char err[256] = "";

	if (mc_config_load(cfg, err, sizeof(err)) != MC_OK)
		fail_msg("%s", err);
	if (mc_config_set(cfg, "MC_UCX_RMA", "yes", err, sizeof(err)) != MC_OK) /* so that its code is tested here */
		fail_msg("%s", err);
	if (mc_config_set(cfg, "MC_TRANSPORT", be_setup.transport, err, sizeof(err)) != MC_OK)
		fail_msg("%s", err);
}

static bool take_bulk(void *arg, const void *head, uint32_t head_len, const void *rest, uint32_t rest_len)
{
	struct side *s = arg;

	return s->on_bulk != NULL && s->on_bulk(s, head, head_len, rest, rest_len);
}

mc_status_t side_try_open(struct side *s, struct mc_hub *hub, uint32_t rank, uint32_t size, char *why, size_t why_len)
{
	struct mc_be_cfg cfg = {
		.transports = be_setup.transports,
		.config = &s->cfg,
		.hub = hub,
		.rank = rank,
		.size = size,
		.bulk = take_bulk,
		.bulk_arg = s,
	};

	s->rank = rank;
	s->ep_cookie = UINT64_C(0xe900000000) + rank;
	s->deadline_ns = mc_now_ns() + SIDE_DEADLINE_S * INT64_C(1000000000);
	return be_setup.ops->open(&cfg, &s->be, &s->caps, why, why_len);
}

void side_open(struct side *s, struct mc_hub *hub, uint32_t rank, uint32_t size)
{
	char why[256] = "";
	mc_status_t st;

	memset(s, 0, sizeof(*s));
	s->keep = true;
	s->seen = calloc(1, SIDE_COOKIES);
	assert_non_null(s->seen);
	side_config(&s->cfg);
	st = side_try_open(s, hub, rank, size, why, sizeof(why));
	if (st != MC_OK)
		fail_msg("open: %s: %s", mc_status_name(st), why);
}

void side_forget(struct side *s)
{
	for (uint32_t i = 0; i < s->msg_n && s->msg != NULL && i < s->msg_cap; i++)
		free(s->msg[i].data);
	if (s->msg_cap > 0)
		memset(s->msg, 0, s->msg_cap * sizeof(s->msg[0]));
	s->msg_n = 0;
	s->done_n = 0;
	s->sent_n = 0;
	s->bad_n = 0;
	s->next_cookie = 0;
	memset(s->seen, 0, SIDE_COOKIES);
}

void side_close(struct side *s)
{
	static _Atomic(int) late_n;
	int64_t t0 = mc_now_ns(), took;

	if (s->be != NULL)
		be_setup.ops->close(s->be);
	s->be = NULL;
	s->ep = NULL;
	/* It ends within a second. A machine that stops for a while may keep it once or twice; that is no habit. */
	took = mc_now_ns() - t0;
	if (took > INT64_C(1500000000))
		assert_true(atomic_fetch_add(&late_n, 1) < 2);
	assert_true(took < INT64_C(20000000000));
	side_forget(s);
	free(s->msg);
	free(s->seen);
	mc_config_free(&s->cfg);
}

void side_ep_create(struct side *s)
{
	s->blob_len = sizeof(s->blob);
	assert_int_equal(be_setup.ops->ep_create(s->be, s->ep_cookie, s->blob, &s->blob_len, &s->ep), MC_OK);
	if (s->caps.flags & MC_CAP_SAME_ADDR)
		assert_int_equal(s->blob_len, 0);
	else
		assert_true(s->blob_len <= s->caps.ep_blob_max);
}

const void *side_addr(const struct side *s, uint32_t *len_out)
{
	bool same = (s->caps.flags & MC_CAP_SAME_ADDR) != 0;

	*len_out = same ? s->caps.addr_len : s->blob_len;
	return same ? s->caps.addr : s->blob;
}

mc_status_t side_connect(struct side *s, const void *addr, uint32_t len)
{
	char text[64] = "";
	mc_status_t st = be_setup.ops->ep_connect(s->be, s->ep, addr, len, text, sizeof(text));

	if (st == MC_OK && text[0] == '\0')
		fail_msg("ep_connect did not say how bytes will travel");
	return st;
}

static void msg_keep(struct side *s, const struct mc_be_event *ev)
{
	struct side_msg *m;

	if (s->msg_n >= s->msg_cap) {
		s->msg_cap = s->msg_cap == 0 ? 64 : s->msg_cap * 2;
		s->msg = realloc(s->msg, s->msg_cap * sizeof(s->msg[0]));
		assert_non_null(s->msg);
	}
	m = &s->msg[s->msg_n];
	m->len = ev->len;
	m->data = malloc(ev->len + 1u);
	assert_non_null(m->data);
	if (ev->len > 0)
		memcpy(m->data, ev->data, ev->len);
}

static void completion(struct side *s, const struct mc_be_event *ev)
{
	assert_true(ev->cookie < SIDE_COOKIES);
	s->seen[ev->cookie]++;
	assert_int_equal(s->seen[ev->cookie], 1);
	s->late_n += s->down_n;
	if (ev->status == MC_OK)
		return;
	s->bad_n++;
	s->bad_status = ev->status;
}

static void handle(struct side *s, const struct mc_be_event *ev)
{
	switch (ev->kind) {
	case MC_EV_DONE:
		s->done_n++;
		completion(s, ev);
		break;
	case MC_EV_SENT:
		s->sent_n++;
		completion(s, ev);
		break;
	case MC_EV_MSG:
		assert_true(((uintptr_t)ev->data & 7) == 0);
		if (s->on_msg != NULL)
			s->on_msg(s, ev);
		else if (s->keep)
			msg_keep(s, ev);
		s->msg_n++;
		break;
	case MC_EV_EP_UP:
		assert_true(ev->cookie == s->ep_cookie);
		assert_int_equal(s->down_n, 0);
		s->up_n++;
		break;
	case MC_EV_EP_DOWN:
		assert_true(ev->cookie == s->ep_cookie);
		assert_int_not_equal(ev->status, MC_OK);
		s->down_n++;
		s->down_status = ev->status;
		break;
	case MC_EV_FATAL:
		s->fatal_n++;
		break;
	default:
		fail_msg("event of kind %d", (int)ev->kind);
	}
}

uint32_t side_poll(struct side *s)
{
	struct mc_be_event ev[16];
	uint32_t n = be_setup.ops->poll(s->be, ev, 16);

	assert_true(n <= 16);
	for (uint32_t i = 0; i < n; i++)
		handle(s, &ev[i]);
	/* From the last event on: a slow machine has time for all, who hangs has not. */
	if (n > 0 && s->deadline_ns != INT64_MAX)
		s->deadline_ns = mc_now_ns() + SIDE_DEADLINE_S * INT64_C(1000000000);
	if (n == 0 && mc_now_ns() > s->deadline_ns)
		fail_msg("rank %u: no end: up %u down %u done %u sent %u msgs %u", s->rank, s->up_n, s->down_n,
			 s->done_n, s->sent_n, s->msg_n);
	return n;
}

/* Fails when it was not woken within 30 s. */
void side_sleep(struct side *s)
{
	struct pollfd pfd = {.fd = s->caps.event_fd, .events = POLLIN};
	mc_status_t st = be_setup.ops->arm(s->be);

	if (st == MC_ERR_AGAIN)
		return;
	assert_int_equal(st, MC_OK);
	if (poll(&pfd, 1, 30000) != 1)
		fail_msg("rank %u: lost wake-up: done %u sent %u msgs %u", s->rank, s->done_n, s->sent_n, s->msg_n);
}

void side_sleep_until(struct side *s, const uint32_t *count, uint32_t n)
{
	while (*count < n)
		if (side_poll(s) == 0)
			side_sleep(s);
}

uint64_t side_send(struct side *s, struct side *other, const void *p, size_t len, uint32_t flags)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = len};
	uint64_t cookie = s->next_cookie++;
	mc_status_t st;

	for (;;) {
		st = be_setup.ops->send(s->be, s->ep, &iov, 1, flags, cookie);
		if (st != MC_ERR_AGAIN)
			break;
		side_poll(s);
		if (other != NULL)
			side_poll(other);
	}
	assert_int_equal(st, MC_OK);
	return cookie;
}

uint64_t side_post1(struct side *s, struct side *other, enum mc_be_op op, struct mc_be_slice sl)
{
	struct mc_be_post post = {.op = op, .n = 1, .slice = &sl, .cookie = s->next_cookie++};
	uint32_t taken = 0;

	while (taken == 0) {
		assert_int_equal(be_setup.ops->post(s->be, s->ep, &post, &taken), MC_OK);
		if (taken > 0)
			break;
		side_poll(s);
		if (other != NULL)
			side_poll(other);
	}
	return post.cookie;
}

void pair_open(struct pair *p)
{
	memset(p, 0, sizeof(*p));
	assert_int_equal(mc_hub_create(2, &p->hub), MC_OK);
	side_open(&p->a, p->hub, 0, 2);
	side_open(&p->b, p->hub, 1, 2);
}

void pair_tick(struct pair *p)
{
	if (p->a.be != NULL)
		side_poll(&p->a);
	if (p->b.be != NULL)
		side_poll(&p->b);
}

void pair_connect(struct pair *p)
{
	const void *addr;
	uint32_t len;

	pair_open(p);
	side_ep_create(&p->a);
	side_ep_create(&p->b);
	addr = side_addr(&p->b, &len);
	assert_int_equal(side_connect(&p->a, addr, len), MC_OK);
	addr = side_addr(&p->a, &len);
	assert_int_equal(side_connect(&p->b, addr, len), MC_OK);
	while (p->a.up_n == 0 || p->b.up_n == 0)
		pair_tick(p);
}

static void *close_run(void *arg)
{
	side_close(arg);
	return NULL;
}

/* Side by side, as two processes would: a backend that closes may wait for its peer's answer. */
void pair_close(struct pair *p)
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, close_run, &p->a), 0);
	side_close(&p->b);
	assert_int_equal(pthread_join(t, NULL), 0);
	mc_hub_free(p->hub);
}

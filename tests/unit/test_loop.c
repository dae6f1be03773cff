/* SPDX-License-Identifier: BSD-3-Clause */
/* test_loop.c - the fault injector of the loop backend: what tests of the engine rely on. Its promises: tests/contract.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hub.h"
#include "loop.h"
#include "util.h"

enum { LEN = 4096 };

struct end {
	struct mc_be *be;
	struct mc_be_caps caps;
	struct mc_be_ep *ep;
	uint32_t done_n, sent_n, msg_n, up_n, down_n, fatal_n;
	mc_status_t done, sent, down;
	char text[64]; /* last message */
};

struct world {
	struct mc_hub *hub;
	struct end e[2];
	uint8_t here[LEN], there[LEN];
	struct mc_be_mem *mem, *far_mem;
	struct mc_be_rmem *rmem;
};

static uint32_t drain(struct end *e)
{
	struct mc_be_event ev[8];
	uint32_t n = mc_be_loop.poll(e->be, ev, 8);

	for (uint32_t i = 0; i < n; i++) {
		e->done_n += ev[i].kind == MC_EV_DONE;
		e->sent_n += ev[i].kind == MC_EV_SENT;
		e->up_n += ev[i].kind == MC_EV_EP_UP;
		e->down_n += ev[i].kind == MC_EV_EP_DOWN;
		e->fatal_n += ev[i].kind == MC_EV_FATAL;
		if (ev[i].kind == MC_EV_DONE)
			e->done = ev[i].status;
		if (ev[i].kind == MC_EV_SENT)
			e->sent = ev[i].status;
		if (ev[i].kind == MC_EV_EP_DOWN)
			e->down = ev[i].status;
		if (ev[i].kind != MC_EV_MSG)
			continue;
		e->msg_n++;
		memset(e->text, 0, sizeof(e->text));
		memcpy(e->text, ev[i].data, ev[i].len);
	}
	return n;
}

static void settle(struct world *w)
{
	while (drain(&w->e[0]) + drain(&w->e[1]) > 0)
		;
}

static int setup(void **state)
{
	static struct world w;
	struct mc_be_region near_r = {.addr = w.here, .len = LEN, .fd = -1, .id = 1};
	struct mc_be_region far_r = {.addr = w.there, .len = LEN, .fd = -1, .id = 1};
	uint8_t blob[64];
	uint32_t len = sizeof(blob);
	char why[64];

	memset(&w, 0, sizeof(w));
	assert_int_equal(mc_hub_create(2, &w.hub), MC_OK);
	for (uint32_t i = 0; i < 2; i++) {
		struct mc_be_cfg cfg = {.hub = w.hub, .rank = i, .size = 2};
		assert_int_equal(mc_be_loop.open(&cfg, &w.e[i].be, &w.e[i].caps, why, sizeof(why)), MC_OK);
	}
	for (uint32_t i = 0; i < 2; i++) {
		struct end *e = &w.e[i];
		assert_int_equal(mc_be_loop.ep_create(e->be, i, NULL, NULL, &e->ep), MC_OK);
		assert_int_equal(
			mc_be_loop.ep_connect(e->be, e->ep, w.e[1 - i].caps.addr, w.e[1 - i].caps.addr_len, NULL, 0),
			MC_OK);
	}
	assert_int_equal(mc_be_loop.mem_reg(w.e[0].be, &near_r, &w.mem), MC_OK);
	assert_int_equal(mc_be_loop.mem_reg(w.e[1].be, &far_r, &w.far_mem), MC_OK);
	assert_int_equal(mc_be_loop.mem_export(w.e[1].be, w.far_mem, blob, &len), MC_OK);
	assert_int_equal(mc_be_loop.rmem_import(w.e[0].be, w.e[0].ep, blob, len, &w.rmem), MC_OK);
	settle(&w);
	memset(w.here, 7, LEN);
	*state = &w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	for (uint32_t i = 0; i < 2; i++)
		mc_be_loop.close(w->e[i].be);
	mc_hub_free(w->hub);
	return 0;
}

static mc_status_t say(struct world *w, const char *text, uint32_t flags)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};

	return mc_be_loop.send(w->e[0].be, w->e[0].ep, &iov, 1, flags, 1);
}

static mc_status_t write_all(struct world *w, uint32_t n, uint32_t *taken)
{
	struct mc_be_slice sl[16];
	struct mc_be_post post = {.op = MC_BE_WRITE, .n = n, .slice = sl, .cookie = 2};

	for (uint32_t i = 0; i < n; i++)
		sl[i] = (struct mc_be_slice){w->mem, i * 16, w->rmem, i * 16, 16};
	return mc_be_loop.post(w->e[0].be, w->e[0].ep, &post, taken);
}

static void fault(struct world *w, struct mc_loop_fault f)
{
	f.peer = MC_ANY_PEER;
	mc_loop_fault(w->e[0].be, &f);
}

static void fail__kth_call_only(void **state)
{
	struct world *w = *state;
	uint32_t taken;

	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_FAIL, .slot = MC_LOOP_SEND, .kth = 2, .status = MC_ERR_NOMEM});
	assert_int_equal(say(w, "a", MC_SEND_COPY), MC_OK);
	assert_int_equal(say(w, "b", MC_SEND_COPY), MC_ERR_NOMEM);
	assert_int_equal(say(w, "c", MC_SEND_COPY), MC_OK);
	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_FAIL, .slot = MC_LOOP_POST, .kth = 1, .status = MC_ERR_STALE});
	assert_int_equal(write_all(w, 1, &taken), MC_ERR_STALE);
	assert_int_equal(write_all(w, 1, &taken), MC_OK);
	settle(w);
	assert_int_equal(w->e[1].msg_n, 2);
	assert_int_equal(w->e[0].done_n, 1);
}

static void fail__every_slot_gives_the_status(void **state)
{
	struct world *w = *state;
	struct mc_loop_fault f = {.kind = MC_LOOP_FAIL, .kth = 1, .status = MC_ERR_NOMEM};
	struct mc_be_region r = {.addr = w->here, .len = LEN, .fd = -1};
	struct mc_be *be = w->e[0].be;
	struct mc_be_mem *mem;
	struct mc_be_rmem *rmem;
	struct mc_be_ep *ep = NULL;
	uint8_t blob[64];
	uint32_t len = sizeof(blob);

	for (f.slot = MC_LOOP_MEM_REG; f.slot <= MC_LOOP_POLL; f.slot++)
		fault(w, f);
	assert_int_equal(mc_be_loop.mem_reg(be, &r, &mem), MC_ERR_NOMEM);
	assert_int_equal(mc_be_loop.mem_export(be, w->mem, blob, &len), MC_ERR_NOMEM);
	assert_int_equal(mc_be_loop.mem_export(w->e[1].be, w->far_mem, blob, &len), MC_OK);
	assert_int_equal(mc_be_loop.rmem_import(be, w->e[0].ep, blob, len, &rmem), MC_ERR_NOMEM);
	assert_int_equal(mc_be_loop.ep_create(be, 9, NULL, NULL, &ep), MC_ERR_NOMEM);
	assert_int_equal(mc_be_loop.ep_create(be, 9, NULL, NULL, &ep), MC_OK);
	assert_int_equal(mc_be_loop.ep_connect(be, ep, w->e[1].caps.addr, w->e[1].caps.addr_len, NULL, 0),
			 MC_ERR_NOMEM);
	assert_int_equal(mc_be_loop.arm(be), MC_ERR_NOMEM);
	drain(&w->e[0]);
	assert_int_equal(w->e[0].fatal_n, 1);
}

static void fail__done_and_sent(void **state)
{
	struct world *w = *state;
	uint32_t taken;

	fault(w,
	      (struct mc_loop_fault){.kind = MC_LOOP_FAIL, .slot = MC_LOOP_DONE, .kth = 1, .status = MC_ERR_PEER_DOWN});
	fault(w,
	      (struct mc_loop_fault){.kind = MC_LOOP_FAIL, .slot = MC_LOOP_SENT, .kth = 1, .status = MC_ERR_PEER_DOWN});
	assert_int_equal(write_all(w, 1, &taken), MC_OK);
	settle(w);
	assert_int_equal(say(w, "lost", 0), MC_OK);
	settle(w);
	assert_int_equal(w->e[0].done, MC_ERR_PEER_DOWN);
	assert_int_equal(w->e[0].sent, MC_ERR_PEER_DOWN);
	assert_int_equal(w->there[0], 0);
	assert_int_equal(w->e[1].msg_n, 0);
}

static void hold__until_released_in_order(void **state)
{
	struct world *w = *state;
	char text[] = "first";

	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .n = 1});
	assert_int_equal(say(w, text, 0), MC_OK);
	assert_int_equal(say(w, "second", MC_SEND_COPY), MC_OK);
	settle(w);
	assert_int_equal(w->e[0].sent_n, 0);
	assert_int_equal(w->e[1].msg_n, 0);
	assert_int_equal(mc_be_loop.arm(w->e[0].be), MC_OK);
	text[0] = 'F'; /* not SENT yet: what is there when it leaves is what arrives */
	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_RELEASE, .n = 1});
	settle(w);
	assert_int_equal(w->e[0].sent_n, 1);
	assert_string_equal(w->e[1].text, "First");
	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .n = 0});
	settle(w);
	assert_string_equal(w->e[1].text, "second");
}

static void drop__message_is_sent_but_lost(void **state)
{
	struct world *w = *state;

	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_DROP, .n = 1});
	assert_int_equal(say(w, "lost", 0), MC_OK);
	assert_int_equal(say(w, "kept", 0), MC_OK);
	settle(w);
	assert_int_equal(w->e[0].sent_n, 2);
	assert_int_equal(w->e[0].sent, MC_OK);
	assert_int_equal(w->e[1].msg_n, 1);
	assert_string_equal(w->e[1].text, "kept");
}

static void manual__bytes_move_when_told(void **state)
{
	struct world *w = *state;
	uint32_t taken;

	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_MANUAL, .n = 1});
	assert_int_equal(write_all(w, 2, &taken), MC_OK);
	settle(w);
	assert_int_equal(w->e[0].done_n, 0);
	assert_int_equal(w->there[0], 0);
	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_RELEASE, .n = 1});
	settle(w);
	assert_int_equal(w->e[0].done_n, 1);
	assert_int_equal(w->there[31], 7);
}

/* A post that waits is canceled by ep_close, and its bytes never move. */
static void manual__close_cancels(void **state)
{
	struct world *w = *state;
	uint32_t taken;

	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_MANUAL, .n = 1});
	assert_int_equal(write_all(w, 2, &taken), MC_OK);
	mc_be_loop.ep_close(w->e[0].be, w->e[0].ep);
	settle(w);
	assert_int_equal(w->e[0].done_n, 1);
	assert_int_equal(w->e[0].done, MC_ERR_CANCELED);
	assert_int_equal(w->e[0].down_n, 0);
	assert_int_equal(w->there[0], 0);
	assert_int_equal(w->e[1].down_n, 1);
}

static void kill__down_on_both_sides(void **state)
{
	struct world *w = *state;

	assert_int_equal(say(w, "before", MC_SEND_COPY), MC_OK);
	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .n = 1});
	assert_int_equal(say(w, "held", 0), MC_OK);
	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .status = MC_ERR_AUTH});
	settle(w);
	assert_int_equal(w->e[0].sent, MC_ERR_AUTH);
	assert_int_equal(w->e[1].msg_n, 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(w->e[i].down_n, 1);
		assert_int_equal(w->e[i].down, MC_ERR_AUTH);
	}
	assert_int_equal(say(w, "after", MC_SEND_COPY), MC_ERR_PEER_DOWN);
}

static void take__limits_a_post(void **state)
{
	struct world *w = *state;
	uint32_t taken;

	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_TAKE, .n = 3});
	assert_int_equal(write_all(w, 16, &taken), MC_OK);
	assert_int_equal(taken, 3);
	fault(w, (struct mc_loop_fault){.kind = MC_LOOP_TAKE, .n = 0});
	assert_int_equal(write_all(w, 16, &taken), MC_OK);
	assert_int_equal(taken, 16);
	settle(w);
	assert_int_equal(w->e[0].done_n, 2);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		CASE(fail__kth_call_only),
		CASE(fail__every_slot_gives_the_status),
		CASE(fail__done_and_sent),
		CASE(hold__until_released_in_order),
		CASE(drop__message_is_sent_but_lost),
		CASE(manual__bytes_move_when_told),
		CASE(manual__close_cancels),
		CASE(kill__down_on_both_sides),
		CASE(take__limits_a_post),
	};

	return cmocka_run_group_tests_name("loop faults", tests, NULL, NULL);
}

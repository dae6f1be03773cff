/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_shm_peer.c - peers of the same-host backend that are killed at any moment, end before anyone looked, scribble
 * into shared memory, or run where the kernel has no pidfd. SHM_SEED=N repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm_side.h"

enum child_job { SEND_FOREVER, SEND_AND_CLOSE, SEND_AND_EXIT, DRAIN, WRITE_FOREVER };
enum { N_SENT = 50, REGION = 2 << 20 };

struct child {
	pid_t pid;
	int fd;
};

static void packet_put(int fd, const void *p, uint32_t len)
{
	if (send(fd, p, len, MSG_NOSIGNAL) != (ssize_t)len)
		_exit(11);
}

static uint32_t packet_get(int fd, void *p, uint32_t room)
{
	ssize_t n = recv(fd, p, room, 0);

	return n > 0 ? (uint32_t)n : 0;
}

/* Messages of all lengths, each with its number, as fast as they go; ends with `count`. */
static void child_send(struct side *s, uint32_t count)
{
	static uint8_t buf[40000];

	for (uint32_t i = 0; i < count; i++) {
		uint32_t len = (uint32_t)(i % 16 == 0 ? rnd() % sizeof(buf) : rnd() % 500), before = s->sent;
		mc_status_t st;

		fill(buf, len, i);
		while ((st = side_send(s, buf, len)) == MC_ERR_AGAIN)
			side_poll(s);
		if (st != MC_OK)
			_exit(12);
		while (len > 64 && s->sent == before)
			side_poll(s);
	}
}

static void child_write(struct side *s, int fd)
{
	uint8_t blob[SHM_BLOB_MAX], *src = private_map(REGION);
	uint32_t len = packet_get(fd, blob, sizeof(blob));
	struct mc_be_rmem *rmem = NULL;
	struct mc_be_slice sl = {.mem = reg(s, src, REGION, -1), .len = REGION};

	memset(src, 9, REGION);
	if (mc_be_shm.rmem_import(s->be, s->ep, blob, len, &rmem) != MC_OK)
		_exit(13);
	sl.rmem = rmem;
	while (post_wait(s, MC_BE_WRITE, &sl, 1) == MC_OK)
		;
	_exit(14);
}

static void child_run(int fd, enum child_job job)
{
	uint8_t addr[SHM_ADDR_MAX];
	struct side s;
	uint32_t len;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	side_open(&s);
	packet_put(fd, s.caps.addr, s.caps.addr_len);
	len = packet_get(fd, addr, sizeof(addr));
	if (side_connect(&s, addr, len) != MC_OK)
		_exit(15);
	packet_put(fd, "up", 2);
	if (job == SEND_FOREVER)
		child_send(&s, UINT32_MAX);
	if (job == WRITE_FOREVER)
		child_write(&s, fd);
	if (job == DRAIN)
		for (;;)
			side_poll(&s);
	child_send(&s, N_SENT);
	if (job == SEND_AND_CLOSE)
		side_close(&s);
	_exit(0);
}

static void child_start(struct child *c, struct side *s, enum child_job job)
{
	uint8_t addr[SHM_ADDR_MAX];
	char up[4];
	int sv[2];
	uint32_t len;

	rnd();
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	c->pid = fork();
	assert_true(c->pid >= 0);
	if (c->pid == 0) {
		close(sv[0]);
		child_run(sv[1], job);
	}
	close(sv[1]);
	c->fd = sv[0];
	len = packet_get(c->fd, addr, sizeof(addr));
	assert_true(len > 0);
	assert_int_equal(side_connect(s, addr, len), MC_OK);
	packet_put(c->fd, s->caps.addr, s->caps.addr_len);
	assert_int_equal(packet_get(c->fd, up, sizeof(up)), 2);
}

static void child_end(struct child *c, bool kill_it, int want_exit)
{
	int status;

	if (kill_it)
		assert_int_equal(kill(c->pid, SIGKILL), 0);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	if (kill_it)
		assert_true(WIFSIGNALED(status));
	else
		assert_int_equal(WEXITSTATUS(status), want_exit);
	close(c->fd);
}

/* Sleep in the event fd where arm allows it: a death must wake us. */
static void wait_down(struct side *s)
{
	while (s->down == 0) {
		struct pollfd pfd = {.fd = s->caps.event_fd, .events = POLLIN};

		if (side_poll(s) == 0 && mc_be_shm.arm(s->be) == MC_OK)
			assert_int_equal(poll(&pfd, 1, 20000), 1);
	}
	assert_int_equal(s->down_status, MC_ERR_PEER_DOWN);
	for (int i = 0; i < 300; i++)
		side_poll(s);
	assert_int_equal(s->down, 1);
	assert_int_equal(side_send(s, "x", 1), MC_ERR_PEER_DOWN);
	mc_be_shm.ep_close(s->be, s->ep);
	side_poll(s);
	assert_true(mc_list_empty(&s->be->peers)); /* slot, ring and peer are given back */
}

static void killed__while_it_sends(void **state)
{
	(void)state;
	for (int round = 0; round < 40; round++) {
		struct side s;
		struct child c;
		uint64_t n = rnd() % 400;

		side_open(&s);
		s.check = true;
		child_start(&c, &s, SEND_FOREVER);
		while (s.msgs < n)
			side_poll(&s);
		child_end(&c, true, 0);
		wait_down(&s);
		side_close(&s);
	}
}

static void killed__while_it_receives(void **state)
{
	static uint8_t buf[30000];

	(void)state;
	for (int round = 0; round < 30; round++) {
		struct side s;
		struct child c;
		uint32_t n = (uint32_t)(rnd() % 300), accepted = 0;
		mc_status_t st = MC_OK;
		bool dead = false;

		side_open(&s);
		child_start(&c, &s, DRAIN);
		while (st == MC_OK || st == MC_ERR_AGAIN) {
			struct iovec iov = {.iov_base = buf, .iov_len = 1 + rnd() % sizeof(buf)};
			st = mc_be_shm.send(s.be, s.ep, &iov, 1, 0, 1);
			accepted += st == MC_OK;
			side_poll(&s);
			if (!dead && s.sent >= n) {
				child_end(&c, true, 0);
				dead = true;
			}
		}
		assert_int_equal(st, MC_ERR_PEER_DOWN);
		wait_down(&s);
		assert_int_equal(s.sent, accepted);
		side_close(&s);
	}
}

/* A writer killed in the middle of a copy must not keep its target from giving the region back. */
static void killed__while_it_writes(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		int fd;
		uint8_t *pool = pool_map(REGION, &fd), blob[SHM_BLOB_MAX];
		uint32_t len = sizeof(blob);
		volatile uint8_t *last = pool + REGION - 1;
		struct mc_be_mem *mem;
		struct child c;
		struct side s;

		side_open(&s);
		mem = reg(&s, pool, REGION, round % 2 ? fd : -1);
		assert_int_equal(mc_be_shm.mem_export(s.be, mem, blob, &len), MC_OK);
		child_start(&c, &s, WRITE_FOREVER);
		packet_put(c.fd, blob, len);
		while (*last != 9)
			side_poll(&s);
		if (round % 4 < 2) { /* freed under its hands */
			mc_be_shm.mem_dereg(s.be, mem);
			child_end(&c, false, 14);
		} else {
			child_end(&c, true, 0);
			mc_be_shm.mem_dereg(s.be, mem);
		}
		wait_down(&s);
		side_close(&s);
		munmap(pool, REGION);
		close(fd);
	}
}

/* What a process sent before it ended arrives, although it was gone before we first looked. */
static void ended__before_we_looked(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct side s;
		struct child c;

		config.shm_ring = 1 << 20; /* it can finish without us */
		side_open(&s);
		config.shm_ring = SHM_RING_MIN;
		s.check = true;
		child_start(&c, &s, round % 2 ? SEND_AND_CLOSE : SEND_AND_EXIT);
		child_end(&c, false, 0);
		if (round % 4 < 2) /* as if it had ended between its last message and the bell */
			atomic_store(&s.be->box->door[0], 0);
		wait_down(&s);
		assert_int_equal(s.msgs, N_SENT);
		side_close(&s);
	}
}

/* ---- no pidfd -------------------------------------------------------------------------------------------- */

static void pidfd_forbid(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = MC_ARRAY_LEN(code), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
		_exit(77);
}

static void killed__without_pidfd(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	if (pid == 0) {
		struct side s;
		struct child c;

		pidfd_forbid();
		side_open(&s);
		s.check = true;
		child_start(&c, &s, SEND_FOREVER);
		if (s.ep->peer->pidfd >= 0)
			_exit(2);
		while (s.msgs < 100)
			side_poll(&s);
		child_end(&c, true, 0);
		wait_down(&s);
		side_close(&s);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- scribbles ------------------------------------------------------------------------------------------- */

/* A place in b's inbox that a peer might damage; the busy counters only delay, which another test measures. */
static uint8_t *scribble_at(struct side *b)
{
	uint8_t *box = (uint8_t *)b->be->box;
	struct shm_ring *ring = b->be->ring[0];

	switch (rnd() % 8) {
	case 0:
		return box + rnd() % 4096;
	case 1:
		return box + offsetof(struct shm_inbox, slot) + rnd() % offsetof(struct shm_slot, busy);
	case 2:
		return box + offsetof(struct shm_inbox, slot) + offsetof(struct shm_slot, tail) + rnd() % 8;
	case 3:
		return box + offsetof(struct shm_inbox, slot) + offsetof(struct shm_slot, head) + rnd() % 8;
	case 4:
		return box + offsetof(struct shm_inbox, slot) + sizeof(struct shm_slot) * (rnd() % 70) + rnd() % 64;
	case 5:
		return box + offsetof(struct shm_inbox, key) + rnd() % 64;
	default:
		return ring != NULL ? ring->base + ((ring->head + rnd() % 64) & (ring->size - 1))
				    : box; /* what comes next */
	}
}

/* Any byte of the shared memory may change at any time: no crash, no read or write outside, and both ends can close. */
static void scribbled__anywhere(void **state)
{
	static uint8_t buf[20000];
	uint32_t damaged = 0;

	(void)state;
	for (int round = 0; round < 400; round++) {
		struct mc_be_event ev[16];
		struct side a, b;

		side_open(&a);
		side_open(&b);
		link_sides(&a, &b);
		for (int step = 0; step < 60; step++) {
			struct iovec iov = {.iov_base = buf, .iov_len = rnd() % (rnd() % 4 ? 300 : sizeof(buf))};
			uint32_t n;

			(void)mc_be_shm.send(a.be, a.ep, &iov, 1, 0, 1);
			if (step > 5 && rnd() % 2)
				*scribble_at(&b) ^= (uint8_t)(1u << (rnd() % 8));
			n = mc_be_shm.poll(b.be, ev, MC_ARRAY_LEN(ev));
			for (uint32_t i = 0; i < n; i++) {
				if (ev[i].kind == MC_EV_MSG)
					for (uint32_t k = 0; k < ev[i].len; k++)
						b.got_bytes += ((const uint8_t *)ev[i].data)[k];
				damaged += ev[i].kind == MC_EV_EP_DOWN && ev[i].status == MC_ERR_PROTO;
			}
			(void)mc_be_shm.poll(a.be, ev, MC_ARRAY_LEN(ev));
			if (step % 16 == 0)
				(void)mc_be_shm.arm(b.be);
		}
		side_close(&a);
		side_close(&b);
	}
	assert_true(damaged > 0); /* it was seen, not only survived */
}

/* Indices that cannot be are noticed on either side, and only that peer is lost. */
static void scribbled__impossible_indices(void **state)
{
	(void)state;
	for (int which = 0; which < 3; which++) {
		struct side a, b;
		struct shm_slot *slot;

		side_open(&a);
		side_open(&b);
		link_sides(&a, &b);
		slot = &b.be->box->slot[0];
		for (int i = 0; i < 20; i++)
			side_poll(&b);
		if (which == 0)
			atomic_store(&slot->tail, config.shm_ring + 8);
		else if (which == 1)
			atomic_store(&slot->tail, 12);
		else
			atomic_store(&slot->head, 1 << 20);
		atomic_fetch_or(&b.be->box->door[0], 1);
		while (a.down + b.down == 0) {
			if (which == 2)
				(void)side_send(&a, "0123456789abcdef", 16);
			side_poll(&a);
			if (which != 2)
				side_poll(&b);
		}
		assert_int_equal(which == 2 ? a.down_status : b.down_status, MC_ERR_PROTO);
		side_close(&a);
		side_close(&b);
	}
}

/* A sender that claims to be copying for ever delays a deregistration, but not beyond its bound. */
static void scribbled__busy_for_ever(void **state)
{
	struct side a, b;
	uint8_t *p = private_map(4096);
	struct mc_be_mem *mem;
	int64_t t;

	(void)state;
	side_open(&a);
	side_open(&b);
	link_sides(&a, &b);
	mem = reg(&b, p, 4096, -1);
	atomic_store(&b.be->box->slot[0].busy, 1);
	t = mc_now_ns();
	mc_be_shm.mem_dereg(b.be, mem);
	assert_true(mc_now_ns() - t < INT64_C(20000000000));
	side_close(&a);
	side_close(&b);
	munmap(p, 4096);
}

static void quiet(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed__while_it_sends),        cmocka_unit_test(killed__while_it_receives),
		cmocka_unit_test(killed__while_it_writes),       cmocka_unit_test(ended__before_we_looked),
		cmocka_unit_test(killed__without_pidfd),         cmocka_unit_test(scribbled__anywhere),
		cmocka_unit_test(scribbled__impossible_indices), cmocka_unit_test(scribbled__busy_for_ever),
	};

	mc_log_set_sink(quiet, NULL);
	seed_choose();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

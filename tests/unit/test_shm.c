/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_shm.c - the same-host backend beyond the contract: rings under random traffic, slots that come back, addresses
 * of elsewhere, regions that go away. test_shm_peer.c: peers that die or scribble. SHM_SEED=N repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm_side.h"
#include "wire.h"

/* ---- rings ----------------------------------------------------------------------------------------------- */

static uint32_t random_len(void)
{
	uint64_t r = rnd();

	if (r % 64 == 0)
		return (uint32_t)(rnd() % BIG);
	return (uint32_t)(r % 8 < 6 ? rnd() % 300 : rnd() % 9000);
}

static void ring__random_sizes_in_order(void **state)
{
	enum { N = 20000 };
	static uint8_t buf[BIG];
	struct side a, b;
	uint32_t sent = 0, len = 0;
	bool pending = false;

	(void)state;
	side_open(&a);
	side_open(&b);
	link_sides(&a, &b);
	b.check = true;
	while (b.msgs < N) {
		uint64_t steps = rnd() % 8;
		uint32_t wait_for = a.sent;

		for (uint64_t i = 0; i < steps && sent < N; i++) {
			mc_status_t st;
			if (!pending) {
				len = random_len();
				fill(buf, len, sent);
			}
			st = side_send(&a, buf, len);
			pending = st == MC_ERR_AGAIN;
			if (pending)
				break;
			assert_int_equal(st, MC_OK);
			sent++;
			while (len > 64 && a.sent == wait_for) { /* buf is lent until SENT */
				side_poll(&a);
				side_poll(&b);
			}
			wait_for = a.sent;
		}
		if (rnd() % 2)
			side_poll(&a);
		if (rnd() % 2)
			side_poll(&b);
	}
	assert_int_equal(a.last_status, MC_OK);
	side_close(&a);
	side_close(&b);
}

/* More connections than there are slots: each is given back, and so is the memory of its ring. */
static void slots__come_back(void **state)
{
	enum { ROUNDS = SHM_SLOTS + 500 };
	struct side a, b;
	uint32_t number = 0, none = 0;

	(void)state;
	side_open(&a);
	side_open(&b);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		assert_int_equal(mc_be_shm.ep_create(a.be, 77, NULL, &none, &a.ep), MC_OK);
		assert_int_equal(mc_be_shm.ep_connect(a.be, a.ep, b.caps.addr, b.caps.addr_len, NULL, 0), MC_OK);
		assert_int_equal(side_send(&a, &number, sizeof(number)), MC_OK);
		mc_be_shm.ep_close(a.be, a.ep);
		while (b.msgs <= i)
			side_poll(&b);
		side_poll(&b);
	}
	assert_true(atomic_load(&b.be->box->slots_used) <= 4);
	assert_true(mc_list_empty(&b.be->peers));
	side_close(&a);
	side_close(&b);
}

static void slot__of_a_killed_claimer_is_taken(void **state)
{
	struct side a, b;
	pid_t pid;

	(void)state;
	side_open(&a);
	side_open(&b);
	pid = fork();
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	atomic_store(&b.be->box->slot[0].state, (uint64_t)(uint32_t)pid << 32 | SHM_CLAIMED);
	link_sides(&a, &b);
	assert_int_equal(a.ep->slot, 0);
	side_close(&a);
	side_close(&b);
}

static void ep__to_itself(void **state)
{
	struct side a;

	(void)state;
	side_open(&a);
	assert_int_equal(side_connect(&a, a.caps.addr, a.caps.addr_len), MC_OK);
	assert_int_equal(side_send(&a, "hello", 5), MC_OK);
	while (a.msgs == 0)
		side_poll(&a);
	side_close(&a);
}

/* ---- addresses ------------------------------------------------------------------------------------------- */

static void ep_connect__other_host_user_or_version(void **state)
{
	/* boot id, network namespace, pid namespace, user, version */
	static const uint32_t at[] = {8, 32, 24, 40, 4};
	static const char *const says[] = {"another host", "network namespace", "pid namespace", "another user",
					   "version"};
	struct side a, b;

	(void)state;
	side_open(&a);
	side_open(&b);
	for (uint32_t i = 0; i < MC_ARRAY_LEN(at); i++) {
		uint8_t addr[SHM_ADDR_MAX];
		char text[200] = "";
		uint32_t len = b.caps.addr_len, none = 0, crc;

		memcpy(addr, b.caps.addr, len);
		addr[at[i]] ^= 1;
		crc = mc_crc32c(0, addr, len - 4);
		for (uint32_t k = 0; k < 4; k++)
			addr[len - 4 + k] = (uint8_t)(crc >> (8 * k));
		assert_int_equal(mc_be_shm.ep_create(a.be, 1, NULL, &none, &a.ep), MC_OK);
		assert_int_equal(mc_be_shm.ep_connect(a.be, a.ep, addr, len, text, sizeof(text)), MC_ERR_UNSUPPORTED);
		assert_non_null(strstr(text, says[i]));
		mc_be_shm.ep_close(a.be, a.ep);
	}
	side_close(&a);
	side_close(&b);
}

static void open__without_shm(void **state)
{
	struct mc_be_cfg cfg = {.transports = MC_TP_TCP, .config = &config};
	struct mc_be *be = NULL;
	struct mc_be_caps caps;
	char why[200] = "";

	(void)state;
	assert_int_equal(mc_be_shm.open(&cfg, &be, &caps, why, sizeof(why)), MC_ERR_UNSUPPORTED);
	assert_non_null(strstr(why, "MC_TRANSPORT"));
	assert_null(be);
}

/* ---- regions --------------------------------------------------------------------------------------------- */

/* Random slices, adjacent ones, more than one system call takes, both ways, against the same copies made here. */
static void random_copies(struct side *a, struct mc_be_mem *mem, uint8_t *src, struct mc_be_rmem *rmem, uint8_t *dst,
			  uint64_t len)
{
	enum { MAX = 3000 };
	struct mc_be_slice *sl = calloc(MAX, sizeof(*sl));
	uint8_t *want = malloc(len);

	assert_true(sl != NULL && want != NULL);
	for (uint32_t round = 0; round < 30; round++) {
		bool read_op = rnd() % 2;
		uint8_t *to = read_op ? src : dst, *from = read_op ? dst : src;
		uint32_t n = 1 + (uint32_t)(rnd() % MAX);
		uint64_t cell = len / n, off = 0;

		for (uint64_t i = 0; i < len; i++)
			from[i] = (uint8_t)rnd();
		memcpy(want, to, len);
		for (uint32_t i = 0; i < n;
		     i++, off += cell) { /* targets in disjoint cells, or byte order would matter */
			uint64_t part = rnd() % 4 == 0 ? cell : rnd() % (cell + 1), there = rnd() % (len - part + 1);

			if (rnd() % 4 == 0)
				there = off;
			sl[i] = (struct mc_be_slice){mem, read_op ? off : there, rmem, read_op ? there : off, part};
			memcpy(want + off, from + there, part);
		}
		assert_int_equal(post_wait(a, read_op ? MC_BE_READ : MC_BE_WRITE, sl, n), MC_OK);
		assert_memory_equal(want, to, len);
	}
	free(want);
	free(sl);
}

static void post__random_slices_mapped_and_cma(void **state)
{
	enum { LEN = 3 << 20 };
	struct side a, b;
	int fd;
	uint8_t *pool = pool_map(LEN, &fd), *heap = private_map(LEN), *src = private_map(LEN);
	struct mc_be_rmem *r1, *r2;
	struct mc_be_mem *m;

	(void)state;
	side_open(&a);
	side_open(&b);
	link_sides(&a, &b);
	m = reg(&a, src, LEN, -1);
	r1 = import(&a, &b, reg(&b, pool, LEN, fd));
	r2 = import(&a, &b, reg(&b, heap, LEN, -1));
	assert_non_null(r1->map);
	assert_null(r2->map);
	random_copies(&a, m, src, r1, pool, LEN);
	random_copies(&a, m, src, r2, heap, LEN);
	assert_int_not_equal(ftruncate(fd, 4096), 0); /* it was sealed, so nobody's mapping can lose its pages */
	mc_be_shm.rmem_drop(a.be, r1);
	side_close(&a);
	side_close(&b);
	munmap(pool, LEN);
	munmap(heap, LEN);
	munmap(src, LEN);
	close(fd);
}

/* What lies before a hole lands, the post ends MC_ERR_RANGE, and the ep goes on. */
static void post__hole_in_registered_memory(void **state)
{
	enum { PAGE = 4096, N = 40, HOLE = 30 };
	struct side a, b;
	uint8_t *src = private_map(N * PAGE), *dst = private_map(N * PAGE);
	struct mc_be_slice sl[N];
	struct mc_be_rmem *rmem;
	struct mc_be_mem *m;

	(void)state;
	side_open(&a);
	side_open(&b);
	link_sides(&a, &b);
	memset(src, 7, N * PAGE);
	m = reg(&a, src, N * PAGE, -1);
	rmem = import(&a, &b, reg(&b, dst, N * PAGE, -1));
	for (uint32_t i = 0; i < N; i++)
		sl[i] = (struct mc_be_slice){m, i * PAGE, rmem, i * PAGE + (i % 2 ? 8 : 0), PAGE - 16};
	assert_int_equal(munmap(dst + HOLE * PAGE, PAGE), 0);
	assert_int_equal(post_wait(&a, MC_BE_WRITE, sl, N), MC_ERR_RANGE);
	for (uint32_t i = 0; i < HOLE; i++)
		assert_int_equal(dst[i * PAGE + 100], 7);
	assert_int_equal(dst[(HOLE + 1) * PAGE + 100], 0);
	assert_int_equal(post_wait(&a, MC_BE_WRITE, sl, HOLE), MC_OK);
	side_close(&a);
	side_close(&b);
	munmap(src, N * PAGE);
	munmap(dst, N * PAGE);
}

struct writer {
	struct side *s;
	struct mc_be_slice *sl;
	uint32_t n;
	mc_status_t last;
};

static void *write_on(void *arg)
{
	struct writer *w = arg;

	while ((w->last = post_wait(w->s, MC_BE_WRITE, w->sl, w->n)) == MC_OK)
		;
	return NULL;
}

/*
 * A region may be reused the moment it is deregistered: no write lands later, however the two meet. One size is copied
 * in one portion, the other in many. Reuse goes backwards, towards the writer, which would otherwise stay ahead of it.
 */
static void mem_dereg__no_late_write(void **state)
{
	enum { SMALL = 256 << 10, BIG_LEN = 4 << 20, N = 64, STEP = 4096, ROUNDS = 200 };
	struct side a, b;
	uint8_t *src = private_map(BIG_LEN), *dst = private_map(BIG_LEN);
	struct mc_be_slice sl[N];
	struct mc_be_mem *m;

	(void)state;
	side_open(&a);
	side_open(&b);
	link_sides(&a, &b);
	memset(src, 7, BIG_LEN);
	m = reg(&a, src, BIG_LEN, -1);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t len = round % 2 ? SMALL : BIG_LEN, part = len / N;
		struct mc_be_mem *target = reg(&b, dst, len, -1);
		struct mc_be_rmem *rmem = import(&a, &b, target);
		struct writer w = {.s = &a, .sl = sl, .n = N};
		volatile uint8_t *first = dst;
		pthread_t t;

		*first = 0;
		for (uint32_t i = 0; i < N; i++)
			sl[i] = (struct mc_be_slice){m, i * part, rmem, i * part, part};
		assert_int_equal(pthread_create(&t, NULL, write_on, &w), 0);
		while (*first != 7)
			;
		for (volatile uint64_t spin = rnd() % 2000; spin > 0; spin--)
			;
		mc_be_shm.mem_dereg(b.be, target);
		for (uint32_t at = len; at > 0; at -= STEP)
			memset(dst + at - STEP, 1, STEP);
		assert_int_equal(pthread_join(t, NULL), 0);
		assert_int_equal(w.last, MC_ERR_STALE);
		for (uint32_t i = 0; i < len; i++)
			if (dst[i] != 1)
				fail_msg("round %u: byte %u of %u was written after the end", round, i, len);
		mc_be_shm.rmem_drop(a.be, rmem);
	}
	side_close(&a);
	side_close(&b);
	munmap(src, BIG_LEN);
	munmap(dst, BIG_LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ring__random_sizes_in_order),
		cmocka_unit_test(slots__come_back),
		cmocka_unit_test(slot__of_a_killed_claimer_is_taken),
		cmocka_unit_test(ep__to_itself),
		cmocka_unit_test(ep_connect__other_host_user_or_version),
		cmocka_unit_test(open__without_shm),
		cmocka_unit_test(post__random_slices_mapped_and_cma),
		cmocka_unit_test(post__hole_in_registered_memory),
		cmocka_unit_test(mem_dereg__no_late_write),
	};

	seed_choose();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

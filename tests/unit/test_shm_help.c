/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shm_help.c - the second thread that copies: every byte once to its place, and no byte after the end. */
#include <sched.h>

#include "shm_side.h"

enum { NEVER = 1, ALWAYS = 2, POOL = 16 << 20, SLICES_MAX = 4096 };
#define LIMIT_NS INT64_C(150000000000)

/* Two sides and a pool of b that a has mapped; here: a's own memory. */
struct pools {
	struct side a, b;
	uint8_t *here, *there;
	int fd;
	struct mc_be_mem *mem_a, *mem_b;
	struct mc_be_rmem *rmem;
};

static void pools_open(struct pools *p, int copy_threads)
{
	memset(p, 0, sizeof(*p));
	config.copy_threads = copy_threads;
	side_open(&p->a);
	side_open(&p->b);
	link_sides(&p->a, &p->b);
	p->here = private_map(POOL);
	p->there = pool_map(POOL, &p->fd);
	p->mem_a = reg(&p->a, p->here, POOL, -1);
	p->mem_b = reg(&p->b, p->there, POOL, p->fd);
	p->rmem = import(&p->a, &p->b, p->mem_b);
	assert_non_null(p->rmem->map);
}

static void pools_close(struct pools *p)
{
	mc_be_shm.rmem_drop(p->a.be, p->rmem);
	mc_be_shm.mem_dereg(p->a.be, p->mem_a);
	if (p->mem_b != NULL)
		mc_be_shm.mem_dereg(p->b.be, p->mem_b);
	side_close(&p->a);
	side_close(&p->b);
	munmap(p->here, POOL);
	munmap(p->there, POOL);
	close(p->fd);
}

/* Slices of all sizes, also none and more than a piece, that fill the pool; each byte of either side at most once. */
static uint32_t table(const struct pools *p, struct mc_be_slice *sl)
{
	uint64_t at = 0;
	uint32_t n = 0;

	while (n < SLICES_MAX) {
		uint64_t len = rnd() % 16 == 0 ? rnd() % 400000 : rnd() % 8 == 0 ? 0 : rnd() % 9000;
		if (at + len > POOL)
			break;
		sl[n++] = (struct mc_be_slice){p->mem_a, at, p->rmem, POOL - at - len, len};
		at += len + rnd() % 3;
	}
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(rnd() % (i + 1));
		struct mc_be_slice t = sl[i];
		sl[i] = sl[k];
		sl[k] = t;
	}
	return n;
}

/* Where there is one processor, or none to spare for minutes, the second thread does nothing. */
static bool helps(struct pools *p, int64_t end_ns)
{
	cpu_set_t set;

	if (mc_shm_help_bytes(p->a.be) > 0)
		return true;
	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1)
		return true;
	if (mc_now_ns() > end_ns)
		fail_msg("the second thread has copied nothing");
	return false;
}

static void help__every_byte_once(void **state)
{
	static struct mc_be_slice sl[SLICES_MAX];
	uint8_t *want = malloc(POOL);
	struct pools p;
	uint32_t rounds = 0;
	const int64_t end_ns = mc_now_ns() + LIMIT_NS;

	(void)state;
	assert_non_null(want);
	pools_open(&p, ALWAYS);
	for (; rounds < 12 || !helps(&p, end_ns); rounds++) {
		bool write = rounds % 2 == 0;
		uint8_t *from = write ? p.here : p.there, *to = write ? p.there : p.here;
		uint32_t n = table(&p, sl);
		for (uint32_t i = 0; i < POOL; i += 8) {
			uint64_t v = rnd();
			memcpy(from + i, &v, 8);
		}
		memcpy(want, to, POOL);
		for (uint32_t i = 0; i < n; i++) {
			const struct mc_be_slice *s = &sl[i];
			memcpy(want + (write ? s->roff : s->off), from + (write ? s->off : s->roff), s->len);
		}
		assert_int_equal(post_wait(&p.a, write ? MC_BE_WRITE : MC_BE_READ, sl, n), MC_OK);
		assert_memory_equal(to, want, POOL);
	}
	pools_close(&p);
	free(want);
}

static void help__one_long_slice(void **state)
{
	struct pools p;
	const int64_t end_ns = mc_now_ns() + LIMIT_NS;

	(void)state;
	pools_open(&p, ALWAYS);
	for (uint32_t i = 0; i < 10 || !helps(&p, end_ns); i++) {
		uint64_t off = rnd() % 5000, len = POOL - 5000 - rnd() % 70000;
		struct mc_be_slice sl = {p.mem_a, off, p.rmem, 3, len};
		fill(p.here, POOL, i);
		p.there[2] = p.there[len + 3] = 77;
		assert_int_equal(post_wait(&p.a, MC_BE_WRITE, &sl, 1), MC_OK);
		assert_memory_equal(p.there + 3, p.here + off, len);
		assert_int_equal(p.there[2] + p.there[len + 3], 2 * 77);
	}
	pools_close(&p);
}

static void help__never_when_told_so(void **state)
{
	struct pools p;

	(void)state;
	pools_open(&p, NEVER);
	struct mc_be_slice sl = {p.mem_a, 0, p.rmem, 0, POOL};
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(post_wait(&p.a, MC_BE_WRITE, &sl, 1), MC_OK);
	assert_int_equal(mc_shm_help_bytes(p.a.be), 0);
	pools_close(&p);
}

/* What is written after the end would stand where `mark` was put when the call that ended it returned. */
static void assert_quiet(struct pools *p, uint8_t mark)
{
	memset(p->there, mark, POOL);
	for (int i = 0; i < 300; i++)
		sched_yield();
	uint32_t wrong = 0;
	for (uint32_t i = 0; i < POOL; i++)
		wrong += p->there[i] != mark;
	assert_int_equal(wrong, 0);
}

static void help__region_freed_in_the_middle(void **state)
{
	uint32_t stale = 0;

	(void)state;
	for (uint32_t round = 0; round < 40; round++) {
		struct pools p;
		pools_open(&p, ALWAYS);
		struct mc_be_slice sl = {p.mem_a, 0, p.rmem, 0, POOL};
		struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .cookie = 9};
		uint32_t taken = 0;
		memset(p.here, 5, POOL);
		if (round % 2 == 0) /* the helper is awake */
			assert_int_equal(post_wait(&p.a, MC_BE_WRITE, &sl, 1), MC_OK);
		assert_int_equal(mc_be_shm.post(p.a.be, p.a.ep, &post, &taken), MC_OK);
		assert_int_equal(taken, 1);
		uint32_t before = p.a.done;
		for (uint32_t i = 0; i < round % 5; i++)
			side_poll(&p.a);
		mc_be_shm.mem_dereg(p.b.be, p.mem_b);
		p.mem_b = NULL;
		assert_quiet(&p, 66);
		while (p.a.done == before)
			side_poll(&p.a);
		stale += p.a.last_status == MC_ERR_STALE;
		pools_close(&p);
	}
	assert_true(stale > 0);
}

static void help__link_closed_in_the_middle(void **state)
{
	(void)state;
	for (uint32_t round = 0; round < 40; round++) {
		struct pools p;
		pools_open(&p, ALWAYS);
		struct mc_be_slice sl = {p.mem_a, 0, p.rmem, 0, POOL};
		struct mc_be_post post = {.op = MC_BE_WRITE, .n = 1, .slice = &sl, .cookie = 9};
		uint32_t taken = 0, before;
		memset(p.here, 5, POOL);
		if (round % 2 == 0)
			assert_int_equal(post_wait(&p.a, MC_BE_WRITE, &sl, 1), MC_OK);
		before = p.a.done;
		assert_int_equal(mc_be_shm.post(p.a.be, p.a.ep, &post, &taken), MC_OK);
		for (uint32_t i = 0; i < 1 + round % 5; i++)
			side_poll(&p.a);
		mc_be_shm.ep_close(p.a.be, p.a.ep);
		assert_quiet(&p, 66);
		for (int i = 0; i < 20; i++)
			side_poll(&p.a);
		assert_int_equal(p.a.done, before + 1);
		pools_close(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(help__every_byte_once),
		cmocka_unit_test(help__one_long_slice),
		cmocka_unit_test(help__never_when_told_so),
		cmocka_unit_test(help__region_freed_in_the_middle),
		cmocka_unit_test(help__link_closed_in_the_middle),
	};
	const char *s = getenv("SHM_SEED");

	seed = s != NULL ? strtoull(s, NULL, 0) : 88172645463325252u;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_boot_local.c - rendezvous in a hub and alone: wrong ranks, deadlines, one exchange after another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot.h"
#include "hub.h"
#include "log.h"
#include "util.h"

extern const struct mc_boot_ops mc_boot_hub, mc_boot_single;

enum { BLOB_MAX = 65536 };
static const int64_t long_ns = INT64_C(60000000000);

static struct mc_config config;
static char last_line[1024];
static atomic_int lines;

static void catch_line(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	snprintf(last_line, sizeof(last_line), "%s", line); /* under the log's lock */
	atomic_fetch_add(&lines, 1);
}

static int reset(void **state)
{
	(void)state;
	unsetenv("PMIX_NAMESPACE");
	unsetenv("SLURM_STEP_NUM_TASKS");
	unsetenv("PMI_SIZE");
	last_line[0] = '\0';
	atomic_store(&lines, 0);
	mc_log_set_sink(catch_line, NULL);
	return 0;
}

static struct mc_hub *hub_new(uint32_t n)
{
	struct mc_hub *hub = NULL;

	assert_int_equal(mc_hub_create(n, &hub), MC_OK);
	assert_non_null(hub);
	return hub;
}

static mc_status_t open_rank(struct mc_hub *hub, uint32_t rank, struct mc_boot **boot_out, struct mc_boot_info *info)
{
	const struct mc_boot_cfg cfg = {.config = &config, .hub = hub, .rank = rank};

	return mc_boot_hub.open(&cfg, boot_out, info);
}

/* ---- alone ---- */

static void single_open__not_for_hub_or_launched(void **state)
{
	struct mc_hub *hub = hub_new(1);
	const struct mc_boot_cfg in_hub = {.config = &config, .hub = hub}, alone = {.config = &config};
	struct mc_boot *boot = NULL;
	struct mc_boot_info info;

	(void)state;
	assert_int_equal(mc_boot_single.open(&in_hub, &boot, &info), MC_ERR_UNSUPPORTED);
	assert_int_equal(lines, 0);
	setenv("PMIX_NAMESPACE", "job", 1);
	assert_int_equal(mc_boot_single.open(&alone, &boot, &info), MC_ERR_BOOT);
	assert_int_equal(lines, 1);
	assert_non_null(strstr(last_line, "PMIx"));
	assert_null(boot);
	mc_hub_free(hub);
}

static void single__exchange_and_get(void **state)
{
	const struct mc_boot_cfg cfg = {.config = &config};
	struct mc_boot_info info, other_info;
	struct mc_boot *boot, *other;
	const void *blob;
	uint32_t len, rank, start;

	(void)state;
	assert_int_equal(mc_boot_single.open(&cfg, &boot, &info), MC_OK);
	assert_int_equal(info.rank, 0);
	assert_int_equal(info.size, 1);
	assert_int_equal(info.event_fd, -1);
	assert_int_equal(mc_boot_single.get(boot, 0, &blob, &len), MC_ERR_INVAL); /* before an exchange */
	assert_int_equal(mc_boot_single.exchange(boot, "x", BLOB_MAX + 1, 0), MC_ERR_INVAL);
	assert_int_equal(mc_boot_single.exchange(boot, "hello", 5, 0), MC_OK);
	assert_int_equal(mc_boot_single.get(boot, 1, &blob, &len), MC_ERR_INVAL);
	assert_int_equal(mc_boot_single.get(boot, 0, &blob, &len), MC_OK);
	assert_int_equal(len, 5);
	assert_memory_equal(blob, "hello", 5);
	assert_int_equal(mc_boot_single.exchange(boot, NULL, 0, 0), MC_OK);
	assert_int_equal(mc_boot_single.get(boot, 0, &blob, &len), MC_OK);
	assert_int_equal(len, 0);
	assert_int_equal(mc_boot_single.next_dead(boot, &rank, &start), MC_ERR_AGAIN);
	/* Two processes that are alone must never be taken for one job. */
	assert_int_equal(mc_boot_single.open(&cfg, &other, &other_info), MC_OK);
	assert_string_not_equal(info.job, other_info.job);
	mc_boot_single.close(other);
	mc_boot_single.close(boot);
	mc_boot_single.close(NULL);
	assert_int_equal(lines, 0);
}

/* srun without PMIx would otherwise start as many jobs of one rank as it has tasks, and say nothing. */
static void single_open__one_of_many_tasks_is_warned(void **state)
{
	static const struct {
		const char *name, *value, *says; /* NULL: nothing */
	} cases[] = {
		{"SLURM_STEP_NUM_TASKS", "4", "srun without --mpi=pmix"},
		{"SLURM_STEP_NUM_TASKS", "1", NULL},
		{"SLURM_NTASKS", "4", NULL}, /* of a batch script's allocation */
		{"PMI_SIZE", "2", "PMIx"},
		{"PMI_SIZE", "1", NULL},
	};
	const struct mc_boot_cfg cfg = {.config = &config};

	for (size_t i = 0; i < MC_ARRAY_LEN(cases); i++) {
		struct mc_boot_info info;
		struct mc_boot *boot;

		reset(state);
		setenv(cases[i].name, cases[i].value, 1);
		assert_int_equal(mc_boot_single.open(&cfg, &boot, &info), MC_OK);
		assert_int_equal(lines, cases[i].says != NULL);
		if (cases[i].says != NULL)
			assert_non_null(strstr(last_line, cases[i].says));
		mc_boot_single.close(boot);
		unsetenv(cases[i].name);
	}
}

/* ---- hub: opening ---- */

static void hub_create__nobody(void **state)
{
	struct mc_hub *hub = NULL;

	(void)state;
	assert_int_equal(mc_hub_create(0, &hub), MC_ERR_INVAL);
	assert_int_equal(mc_hub_create(1, NULL), MC_ERR_INVAL);
	assert_null(hub);
	mc_hub_free(NULL);
}

static void hub_open__no_hub(void **state)
{
	struct mc_boot_info info;
	struct mc_boot *boot;

	(void)state;
	assert_int_equal(open_rank(NULL, 0, &boot, &info), MC_ERR_UNSUPPORTED);
	assert_int_equal(lines, 0);
}

static void hub_open__wrong_rank(void **state)
{
	struct mc_hub *hub = hub_new(2);
	struct mc_boot_info info;
	struct mc_boot *boot = NULL, *again = NULL;

	(void)state;
	assert_int_equal(open_rank(hub, 2, &boot, &info), MC_ERR_INVAL);
	assert_int_equal(open_rank(hub, UINT32_MAX, &boot, &info), MC_ERR_INVAL);
	assert_int_equal(lines, 2);
	assert_int_equal(open_rank(hub, 1, &boot, &info), MC_OK);
	assert_int_equal(open_rank(hub, 1, &again, &info), MC_ERR_INVAL);
	assert_int_equal(lines, 3);
	assert_non_null(strstr(last_line, "rank 1"));
	assert_null(again);
	mc_boot_hub.close(boot);
	assert_int_equal(open_rank(hub, 1, &again, &info), MC_OK); /* free again */
	assert_int_equal(info.rank, 1);
	assert_int_equal(info.size, 2);
	assert_int_equal(info.event_fd, -1);
	mc_boot_hub.close(again);
	mc_hub_free(hub);
}

static void hub_free__in_use_stays(void **state)
{
	struct mc_hub *hub = hub_new(1);
	struct mc_boot_info info;
	struct mc_boot *boot;

	(void)state;
	assert_int_equal(open_rank(hub, 0, &boot, &info), MC_OK);
	mc_hub_free(hub); /* refused: the context would work on freed memory */
	assert_int_equal(lines, 1);
	assert_int_equal(mc_boot_hub.exchange(boot, "x", 1, 0), MC_OK);
	mc_boot_hub.close(boot);
	mc_hub_free(hub);
	assert_int_equal(lines, 1);
}

static void hub__job_name_is_its_own(void **state)
{
	struct mc_hub *a = hub_new(2), *b = hub_new(2);
	struct mc_boot_info ia0, ia1, ib0;
	struct mc_boot *a0, *a1, *b0;

	(void)state;
	assert_int_equal(open_rank(a, 0, &a0, &ia0), MC_OK);
	assert_int_equal(open_rank(a, 1, &a1, &ia1), MC_OK);
	assert_int_equal(open_rank(b, 0, &b0, &ib0), MC_OK);
	assert_string_equal(ia0.job, ia1.job);
	assert_string_not_equal(ia0.job, ib0.job);
	mc_boot_hub.close(a0);
	mc_boot_hub.close(a1);
	mc_boot_hub.close(b0);
	mc_hub_free(a);
	mc_hub_free(b);
}

/* ---- hub: exchange ---- */

static void hub_exchange__too_long_or_too_early(void **state)
{
	struct mc_hub *hub = hub_new(1);
	static uint8_t big[BLOB_MAX + 1];
	struct mc_boot_info info;
	struct mc_boot *boot;
	const void *blob;
	uint32_t len, rank, start;

	(void)state;
	assert_int_equal(open_rank(hub, 0, &boot, &info), MC_OK);
	assert_int_equal(mc_boot_hub.get(boot, 0, &blob, &len), MC_ERR_INVAL);
	assert_int_equal(mc_boot_hub.exchange(boot, big, BLOB_MAX + 1, long_ns), MC_ERR_INVAL);
	big[BLOB_MAX - 1] = 7;
	assert_int_equal(mc_boot_hub.exchange(boot, big, BLOB_MAX, long_ns), MC_OK);
	assert_int_equal(mc_boot_hub.get(boot, 1, &blob, &len), MC_ERR_INVAL);
	assert_int_equal(mc_boot_hub.get(boot, 0, &blob, &len), MC_OK);
	assert_int_equal(len, BLOB_MAX);
	assert_memory_equal(blob, big, BLOB_MAX);
	assert_int_equal(mc_boot_hub.next_dead(boot, &rank, &start), MC_ERR_AGAIN);
	mc_boot_hub.close(boot);
	mc_boot_hub.close(NULL);
	mc_hub_free(hub);
}

static void hub_exchange__timeout_names_a_missing_rank(void **state)
{
	struct mc_hub *hub = hub_new(3);
	struct mc_boot_info info;
	struct mc_boot *boot;
	const void *blob;
	uint32_t len;

	(void)state;
	assert_int_equal(open_rank(hub, 0, &boot, &info), MC_OK);
	assert_int_equal(mc_boot_hub.exchange(boot, "x", 1, 0), MC_ERR_TIMEOUT);
	assert_int_equal(lines, 1);
	assert_non_null(strstr(last_line, "1 of 3"));
	assert_non_null(strstr(last_line, "rank 1 for one"));
	const int64_t start_ns = mc_now_ns();
	assert_int_equal(mc_boot_hub.exchange(boot, "x", 1, 30000000), MC_ERR_TIMEOUT);
	assert_true(mc_now_ns() - start_ns >= 30000000);
	assert_int_equal(mc_boot_hub.get(boot, 0, &blob, &len), MC_ERR_INVAL); /* nothing of a failed exchange */
	mc_boot_hub.close(boot);
	mc_hub_free(hub);
}

/* ---- hub: several threads ---- */

struct member {
	pthread_t thread;
	struct mc_hub *hub;
	uint32_t rank;
	int rounds;
	int failures;
	char what[160];
};

static void fill(uint8_t *b, uint32_t len, uint32_t rank, int round)
{
	for (uint32_t i = 0; i < len; i++)
		b[i] = (uint8_t)(i * 7 + rank * 31 + (uint32_t)round * 101);
}

static uint32_t len_of(uint32_t rank, int round)
{
	return (rank * 977 + (uint32_t)round * 131) % 3000;
}

static void member_fail(struct member *m, int round, uint32_t rank, const char *what, mc_status_t s)
{
	m->failures++;
	snprintf(m->what, sizeof(m->what), "rank %u round %d of %u: %s: %s", m->rank, round, rank, what,
		 mc_status_name(s));
}

static void check_round(struct member *m, struct mc_boot *boot, int round)
{
	uint8_t want[3000];

	for (uint32_t r = 0; r < m->hub->n; r++) {
		const uint32_t want_len = len_of(r, round);
		const void *blob;
		uint32_t len;
		const mc_status_t s = mc_boot_hub.get(boot, r, &blob, &len);

		fill(want, want_len, r, round);
		if (s != MC_OK || len != want_len || memcmp(blob, want, len) != 0)
			member_fail(m, round, r, "get", s);
	}
}

/* Join, exchange, look, leave, at once again: nobody waits until the others have looked. */
static void *come_and_go(void *arg)
{
	struct member *m = arg;

	for (int round = 0; round < m->rounds && m->failures == 0; round++) {
		struct mc_boot_info info;
		struct mc_boot *boot;
		uint8_t blob[3000];
		mc_status_t s = open_rank(m->hub, m->rank, &boot, &info);

		if (s != MC_OK) {
			member_fail(m, round, m->rank, "open", s);
			return NULL;
		}
		fill(blob, len_of(m->rank, round), m->rank, round);
		s = mc_boot_hub.exchange(boot, blob, len_of(m->rank, round), long_ns);
		if (s != MC_OK)
			member_fail(m, round, m->rank, "exchange", s);
		else
			check_round(m, boot, round);
		mc_boot_hub.close(boot);
	}
	return NULL;
}

/* Several exchanges of one context. */
static void *stay(void *arg)
{
	struct member *m = arg;
	struct mc_boot_info info;
	struct mc_boot *boot;
	uint8_t blob[3000];
	mc_status_t s = open_rank(m->hub, m->rank, &boot, &info);

	if (s != MC_OK) {
		member_fail(m, 0, m->rank, "open", s);
		return NULL;
	}
	for (int round = 0; round < m->rounds && m->failures == 0; round++) {
		fill(blob, len_of(m->rank, round), m->rank, round);
		s = mc_boot_hub.exchange(boot, blob, len_of(m->rank, round), round % 2 ? long_ns : MC_FOREVER);
		if (s != MC_OK)
			member_fail(m, round, m->rank, "exchange", s);
		else
			check_round(m, boot, round);
	}
	mc_boot_hub.close(boot);
	return NULL;
}

static void run_members(uint32_t n, int rounds, void *(*body)(void *))
{
	struct member m[16];
	struct mc_hub *hub = hub_new(n);

	assert_true(n <= MC_ARRAY_LEN(m));
	for (uint32_t i = 0; i < n; i++) {
		m[i] = (struct member){.hub = hub, .rank = i, .rounds = rounds};
		assert_int_equal(pthread_create(&m[i].thread, NULL, body, &m[i]), 0);
	}
	for (uint32_t i = 0; i < n; i++)
		pthread_join(m[i].thread, NULL);
	for (uint32_t i = 0; i < n; i++)
		if (m[i].failures > 0)
			fail_msg("%s", m[i].what);
	assert_int_equal(lines, 0);
	mc_hub_free(hub);
}

static void hub_exchange__contexts_come_and_go(void **state)
{
	(void)state;
	run_members(1, 3, come_and_go);
	run_members(2, 300, come_and_go);
	run_members(3, 200, come_and_go);
	run_members(8, 50, come_and_go);
	run_members(16, 20, come_and_go);
}

static void hub_exchange__contexts_stay(void **state)
{
	(void)state;
	run_members(2, 300, stay);
	run_members(5, 100, stay);
	run_members(16, 20, stay);
}

struct waiter {
	struct mc_boot *boot;
	const char *blob;
	mc_status_t status;
};

static void *exchange_thread(void *arg)
{
	struct waiter *w = arg;

	w->status = mc_boot_hub.exchange(w->boot, w->blob, (uint32_t)strlen(w->blob), long_ns);
	return NULL;
}

static uint32_t arrived(struct mc_hub *hub)
{
	uint32_t some;

	pthread_mutex_lock(&hub->lock);
	some = hub->gathering != NULL;
	pthread_mutex_unlock(&hub->lock);
	return some;
}

/* A rank gives up and comes again while another still waits: the other gets the blob of the second time. */
static void hub_exchange__rank_gives_up_and_returns(void **state)
{
	struct mc_hub *hub = hub_new(2);
	struct waiter w = {.blob = "from 0"};
	struct mc_boot_info info;
	struct mc_boot *one;
	pthread_t thread;
	const void *blob;
	uint32_t len;

	(void)state;
	assert_int_equal(open_rank(hub, 1, &one, &info), MC_OK);
	assert_int_equal(mc_boot_hub.exchange(one, "first", 5, 0), MC_ERR_TIMEOUT);
	mc_boot_hub.close(one);
	assert_int_equal(arrived(hub), 0); /* nothing of it is left */
	assert_int_equal(open_rank(hub, 0, &w.boot, &info), MC_OK);
	assert_int_equal(pthread_create(&thread, NULL, exchange_thread, &w), 0);
	while (!arrived(hub))
		sched_yield();
	assert_int_equal(open_rank(hub, 1, &one, &info), MC_OK);
	assert_int_equal(mc_boot_hub.exchange(one, "second", 6, long_ns), MC_OK);
	pthread_join(thread, NULL);
	assert_int_equal(w.status, MC_OK);
	mc_boot_hub.close(one); /* what it published stays for the other */
	assert_int_equal(mc_boot_hub.get(w.boot, 1, &blob, &len), MC_OK);
	assert_int_equal(len, 6);
	assert_memory_equal(blob, "second", 6);
	mc_boot_hub.close(w.boot);
	mc_hub_free(hub);
}

/* A rank that gave up does not count, however often it tries: the exchange ends when all three are there at once. */
static void hub_exchange__given_up_does_not_count(void **state)
{
	struct mc_hub *hub = hub_new(3);
	struct waiter w[2] = {{.blob = "from 0"}, {.blob = "from 2"}};
	pthread_t thread[2];
	struct mc_boot_info info;
	struct mc_boot *one;
	const void *blob;
	uint32_t len;

	(void)state;
	assert_int_equal(open_rank(hub, 0, &w[0].boot, &info), MC_OK);
	assert_int_equal(open_rank(hub, 1, &one, &info), MC_OK);
	assert_int_equal(open_rank(hub, 2, &w[1].boot, &info), MC_OK);
	assert_int_equal(pthread_create(&thread[0], NULL, exchange_thread, &w[0]), 0);
	while (!arrived(hub))
		sched_yield();
	for (int i = 0; i < 3; i++)
		assert_int_equal(mc_boot_hub.exchange(one, "one", 3, 0), MC_ERR_TIMEOUT);
	assert_non_null(strstr(last_line, "2 of 3 ranks came, rank 2"));
	assert_int_equal(pthread_create(&thread[1], NULL, exchange_thread, &w[1]), 0);
	assert_int_equal(mc_boot_hub.exchange(one, "one", 3, long_ns), MC_OK);
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(w[i].status, MC_OK);
		assert_int_equal(mc_boot_hub.get(w[i].boot, 1, &blob, &len), MC_OK);
		assert_memory_equal(blob, "one", 3);
		mc_boot_hub.close(w[i].boot);
	}
	mc_boot_hub.close(one);
	mc_hub_free(hub);
}

#define BOOT_TEST(f) cmocka_unit_test_setup(f, reset)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOOT_TEST(single_open__not_for_hub_or_launched),
		BOOT_TEST(single__exchange_and_get),
		BOOT_TEST(single_open__one_of_many_tasks_is_warned),
		BOOT_TEST(hub_create__nobody),
		BOOT_TEST(hub_open__no_hub),
		BOOT_TEST(hub_open__wrong_rank),
		BOOT_TEST(hub_free__in_use_stays),
		BOOT_TEST(hub__job_name_is_its_own),
		BOOT_TEST(hub_exchange__too_long_or_too_early),
		BOOT_TEST(hub_exchange__timeout_names_a_missing_rank),
		BOOT_TEST(hub_exchange__contexts_come_and_go),
		BOOT_TEST(hub_exchange__contexts_stay),
		BOOT_TEST(hub_exchange__rank_gives_up_and_returns),
		BOOT_TEST(hub_exchange__given_up_does_not_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

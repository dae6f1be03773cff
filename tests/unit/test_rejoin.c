/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_rejoin.c - ranks that are started again: who learns of it, what still belongs to the process before, what works
 * with the new one. A context is "killed" by cutting its links before it is finalized, so that nobody hears a goodbye.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>

#include "cluster.h"

enum { LEN = 1 << 16 };

static char last_line[1024];

static void keep_line(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static int quiet(void **state)
{
	(void)state;
	mc_log_set_sink(keep_line, NULL);
	return 0;
}

/* Every pair connected: its end is noticed by all. */
static void up(struct cluster *c, uint32_t n, const char *backend)
{
	*c = (struct cluster){0};
	cluster_up(c, n, backend, "auto");
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < n; k++)
			assert_int_equal(mc_connect(c->ctx[i], k, 20 * SEC), MC_OK);
}

static void start_again(struct cluster *c, uint32_t rank)
{
	struct cluster_start s = {.c = c, .rank = rank};
	c->hub->slot[rank].again++;
	cluster_init_one(&s);
	assert_int_equal(s.status, MC_OK);
}

static void kill_one(struct cluster *c, uint32_t rank)
{
	if (strcmp(c->backend, "loop") == 0)
		cluster_fault(c, rank, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = MC_ANY_PEER});
	mc_finalize(c->ctx[rank]);
	c->ctx[rank] = NULL;
}

static uint64_t epoch_of(struct cluster *c, uint32_t at, uint32_t peer)
{
	struct mc_peer_info info = {.size = sizeof(info)};
	assert_int_equal(mc_peer_query(c->ctx[at], peer, &info), MC_OK);
	return info.epoch;
}

/* Until `at` knows the process that is now rank `peer`. */
static void learn(struct cluster *c, uint32_t at, uint32_t peer)
{
	int64_t end = mc_now_ns() + 20 * SEC;
	while (epoch_of(c, at, peer) != c->ctx[peer]->epoch) {
		assert_true(mc_now_ns() < end);
		mc_progress(c->ctx[at]);
		sched_yield();
	}
}

static void note_between(struct cluster *c, uint32_t from, uint32_t to, uint64_t tag)
{
	struct mc_note *n;
	assert_int_equal(mc_note_send(c->ctx[from], to, tag, "hello", 5, NULL), MC_OK);
	assert_int_equal(mc_note_recv(c->ctx[to], 20 * SEC, &n), MC_OK);
	assert_int_equal(n->peer, from);
	assert_int_equal(n->tag, tag);
	assert_true(n->epoch == c->ctx[from]->epoch);
	mc_note_free(n);
}

static void write_check(struct cluster *c, uint32_t from, struct mc_mem *src, struct mc_mem *dst, struct mc_rmem *to,
			uint8_t v)
{
	struct mc_slice s = {src, 0, to, 0, LEN};
	struct mc_req *req;
	memset(mc_mem_addr(src), v, LEN);
	assert_int_equal(mc_put(c->ctx[from], mc_rmem_peer(to), &s, 1, NULL, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	mc_req_free(req);
	assert_memory_equal(mc_mem_addr(dst), mc_mem_addr(src), LEN);
}

static void rejoin__new_process_old_descriptors(const char *backend)
{
	struct cluster c;
	struct mc_mem *src, *dst, *again;
	struct mc_rmem *old, *to;
	struct mc_req *req;
	struct mc_fault f = {.size = sizeof(f)};
	uint8_t blob[MC_BLOB_MAX];
	uint32_t len = sizeof(blob);
	up(&c, 3, backend);
	assert_int_equal(mc_mem_alloc(c.ctx[0], LEN, NULL, &src), MC_OK);
	cluster_share(&c, 2, 0, LEN, &dst, &old);
	assert_int_equal(mc_mem_export(dst, blob, &len), MC_OK);
	write_check(&c, 0, src, dst, old, 0x11);
	kill_one(&c, 2);
	start_again(&c, 2);
	learn(&c, 0, 2);
	learn(&c, 1, 2);

	struct mc_slice s = {src, 0, old, 0, LEN};
	assert_int_equal(mc_put(c.ctx[0], 2, &s, 1, NULL, &req), MC_ERR_STALE);
	assert_int_equal(mc_get(c.ctx[0], 2, &s, 1, NULL, &req), MC_ERR_STALE);
	assert_int_equal(mc_mem_import(c.ctx[0], 2, blob, len, &to), MC_ERR_STALE);
	mc_rmem_release(old);

	cluster_share(&c, 2, 0, LEN, &again, &to);
	write_check(&c, 0, src, again, to, 0x22);
	note_between(&c, 0, 2, 5);
	note_between(&c, 2, 1, 6);
	note_between(&c, 1, 2, 7);
	/* Every survivor is told that it is back, after any word of its loss. */
	for (uint32_t i = 0; i < 2; i++) {
		mc_status_t s2 = MC_ERR_AGAIN;
		while (mc_fault_next(c.ctx[i], &f) == MC_OK) {
			assert_int_equal(f.peer, 2);
			s2 = f.status;
		}
		assert_int_equal(s2, MC_OK);
		assert_non_null(strstr(f.text, "is back"));
	}
	cluster_down(&c);
}

static void rejoin__loop(void **state)
{
	(void)state;
	rejoin__new_process_old_descriptors("loop");
}

static void rejoin__shm(void **state)
{
	(void)state;
	rejoin__new_process_old_descriptors("shm");
}

static void rejoin__ucx(void **state)
{
	(void)state;
#ifdef CLUSTER_UCX
	rejoin__new_process_old_descriptors("ucx");
#else
	skip();
#endif
}

/* Requests that wait for the process before end; what it counted is not counted as the new one's. */
static void rejoin__requests_and_counters(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	struct mc_req *req;
	struct mc_counter *cnt, *other;
	struct mc_notify one = {.size = sizeof(one), .flags = MC_NOTIFY_COUNT, .tag = 9, .add = 1};
	struct mc_xfer_opts o = {.size = sizeof(o), .notify = &one};
	up(&c, 2, "loop");
	assert_int_equal(mc_counter_open(c.ctx[0], 9, 1, &cnt), MC_OK);
	assert_int_equal(mc_put(c.ctx[1], 0, NULL, 0, &o, NULL), MC_OK);
	assert_int_equal(mc_counter_wait(cnt, 1, 20 * SEC), MC_OK);
	one.tag = 10;
	assert_int_equal(mc_put(c.ctx[1], 0, NULL, 0, &o, NULL), MC_OK); /* nobody opened that one */
	assert_int_equal(mc_connect(c.ctx[1], 0, 20 * SEC), MC_OK);
	one.tag = 9;

	assert_int_equal(mc_mem_alloc(c.ctx[0], LEN, NULL, &src), MC_OK);
	cluster_share(&c, 1, 0, LEN, &dst, &to);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_MANUAL, .peer = 1, .n = 1});
	struct mc_slice s = {src, 0, to, 0, LEN};
	assert_int_equal(mc_put(c.ctx[0], 1, &s, 1, NULL, &req), MC_OK);
	kill_one(&c, 1);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_ERR_PEER_DOWN);
	mc_req_free(req);
	start_again(&c, 1);
	learn(&c, 0, 1);

	assert_int_equal(mc_counter_wait(cnt, 2, 20 * SEC), MC_ERR_PEER_DOWN);
	assert_int_equal(mc_counter_open(c.ctx[0], 9, 1, &other), MC_OK); /* of the new one */
	assert_int_equal(mc_put(c.ctx[1], 0, NULL, 0, &o, NULL), MC_OK);
	assert_int_equal(mc_counter_wait(other, 1, 20 * SEC), MC_OK);
	assert_int_equal(mc_counter_read(cnt), 1);
	assert_int_equal(mc_counter_read(other), 1);
	mc_counter_close(cnt);
	assert_int_equal(mc_counter_open(c.ctx[0], 10, 1, &cnt), MC_OK);
	assert_int_equal(mc_counter_read(cnt), 0);
	mc_counter_close(cnt);
	assert_int_equal(mc_counter_open(c.ctx[0], 10, MC_ANY_PEER, &cnt), MC_OK); /* whoever it was, it is here */
	assert_int_equal(mc_counter_read(cnt), 1);
	cluster_down(&c);
}

/* The group that was made before ends PEER_DOWN, made again it works; nothing hangs or is taken for another's. */
static void *barrier_of(void *arg)
{
	struct mc_ctx *ctx = arg;
	return (void *)(intptr_t)mc_barrier(mc_group_world(ctx), 20 * SEC);
}

static void rejoin__groups(void **state)
{
	(void)state;
	struct cluster c;
	pthread_t t[3];
	void *ret;
	up(&c, 3, "loop");
	struct mc_group *before = mc_group_world(c.ctx[0]), *list;
	uint32_t two[] = {0, 1};
	assert_int_equal(mc_group_list(c.ctx[0], two, 2, &list), MC_OK);
	assert_ptr_equal(mc_group_world(c.ctx[0]), before);
	kill_one(&c, 2);
	start_again(&c, 2);
	learn(&c, 0, 2);
	learn(&c, 1, 2);
	assert_int_equal(mc_barrier(before, 20 * SEC), MC_ERR_PEER_DOWN);
	assert_ptr_not_equal(mc_group_world(c.ctx[0]), before);
	assert_int_equal(mc_group_size(mc_group_world(c.ctx[0])), 3);
	assert_ptr_equal(mc_group_world(c.ctx[0]), mc_group_world(c.ctx[0]));
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 3; i++)
			assert_int_equal(pthread_create(&t[i], NULL, barrier_of, c.ctx[i]), 0);
		for (uint32_t i = 0; i < 3; i++) {
			pthread_join(t[i], &ret);
			assert_int_equal((intptr_t)ret, MC_OK);
		}
	}
	mc_group_free(list);
	cluster_down(&c);
}

/* One rank learns of the new process only in the barrier: an error there, and then all meet in the next. */
static void *barrier_twice(void *arg)
{
	struct mc_ctx *ctx = arg;
	mc_status_t s = mc_barrier(mc_group_world(ctx), 20 * SEC);
	if (s == MC_ERR_PEER_DOWN)
		s = mc_barrier(mc_group_world(ctx), 20 * SEC);
	return (void *)(intptr_t)s;
}

static void rejoin__groups_learned_late(void **state)
{
	(void)state;
	struct cluster c = {.progress = "manual"};
	pthread_t t[3];
	void *ret;
	uint64_t before;
	cluster_up(&c, 3, "loop", "auto");
	before = epoch_of(&c, 1, 2);
	kill_one(&c, 2);
	start_again(&c, 2);
	learn(&c, 0, 2);
	assert_true(epoch_of(&c, 1, 2) == before);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, barrier_twice, c.ctx[i]), 0);
	for (uint32_t i = 0; i < 3; i++) {
		pthread_join(t[i], &ret);
		assert_int_equal((intptr_t)ret, MC_OK);
	}
	cluster_down(&c);
}

/* Restarted ranks meet, though the rendezvous gives each the first record of the other. */
static void rejoin__two_meet(void **state)
{
	(void)state;
	struct cluster c;
	up(&c, 3, "loop");
	kill_one(&c, 1);
	kill_one(&c, 2);
	start_again(&c, 1);
	start_again(&c, 2);
	learn(&c, 0, 1);
	learn(&c, 0, 2);
	learn(&c, 1, 2);
	learn(&c, 2, 1);
	note_between(&c, 1, 2, 1);
	note_between(&c, 2, 1, 2);
	note_between(&c, 0, 2, 3);
	note_between(&c, 0, 1, 4);
	cluster_down(&c);
}

static void rejoin__again_and_again(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	up(&c, 2, "shm");
	assert_int_equal(mc_mem_alloc(c.ctx[0], LEN, NULL, &src), MC_OK);
	for (uint8_t i = 1; i <= 10; i++) {
		kill_one(&c, 1);
		start_again(&c, 1);
		learn(&c, 0, 1);
		cluster_share(&c, 1, 0, LEN, &dst, &to);
		write_check(&c, 0, src, dst, to, i);
	}
	cluster_down(&c);
}

/* A rank that is gone, or does not run, holds up nobody. */
static void rejoin__others_are_gone(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_peer_info info = {.size = sizeof(info)};
	up(&c, 3, "shm");
	mc_finalize(c.ctx[1]);
	kill_one(&c, 2);
	start_again(&c, 2);
	learn(&c, 0, 2);
	note_between(&c, 2, 0, 1);
	assert_int_equal(mc_connect(c.ctx[2], 1, 20 * SEC), MC_ERR_PEER_DOWN);
	assert_int_equal(mc_peer_query(c.ctx[2], 1, &info), MC_OK);
	assert_int_equal(info.state, MC_ERR_PEER_DOWN);
	c.ctx[1] = NULL;
	cluster_down(&c);
}

static void rejoin__no_answer(void **state)
{
	(void)state;
	struct cluster c = {.progress = "manual"};
	setenv("MC_JOIN_TIMEOUT", "50ms", 1);
	cluster_up(&c, 2, "loop", "auto");
	kill_one(&c, 1);
	c.progress = "thread";
	start_again(&c, 1); /* rank 0 makes no progress */
	int64_t begin = mc_now_ns();
	assert_int_equal(mc_connect(c.ctx[1], 0, 20 * SEC), MC_ERR_PEER_DOWN);
	assert_true(mc_now_ns() - begin < 15 * SEC); /* not by the deadline */
	unsetenv("MC_JOIN_TIMEOUT");
	cluster_down(&c);
}

/* ---- messages as a network may deliver them ---- */

struct forged {
	uint8_t msg[MC_FRAME_LEN + 8192];
	uint32_t len;
};

/* JOIN to rank 0 as from the n-th start of rank 1, whose backends are those of the context that it is now. */
static void forge(struct cluster *c, uint32_t again, uint64_t epoch, struct forged *f)
{
	const struct mc_ctx *real = c->ctx[1];
	struct mc_ctx like = {
		.job = real->job, .rank = 1, .born = real->born, .host_id = real->host_id, .key = real->key};
	uint8_t rec[4096];
	uint32_t len;
	struct mc_wr w;
	memcpy(like.role, real->role, sizeof(like.role));
	memcpy(like.host, real->host, sizeof(like.host));
	memcpy(like.be, real->be, sizeof(like.be));
	like.be_n = real->be_n;
	like.boot_info.again = again;
	like.epoch = epoch;
	assert_int_equal(mc_record_make(&like, &like.key, rec, sizeof(rec), &len), MC_OK);
	mc_wr_init(&w, f->msg + MC_FRAME_LEN, sizeof(f->msg) - MC_FRAME_LEN);
	mc_wr_blob(&w, rec, len);
	struct mc_frame h = {.kind = MC_MSG_JOIN,
			     .src_rank = 1,
			     .job = like.job,
			     .src_epoch = epoch,
			     .dst_epoch = c->ctx[0]->epoch,
			     .body_len = (uint32_t)mc_wr_len(&w)};
	mc_frame_encode(&h, f->msg + MC_FRAME_LEN, &like.key, false, f->msg);
	f->len = MC_FRAME_LEN + h.body_len;
}

static void deliver(struct cluster *c, const struct forged *f)
{
	mc_ctx_lock(c->ctx[0]);
	mc_msg_arrived(c->ctx[0], &c->ctx[0]->be[0], f->msg, f->len, 0);
	mc_ctx_unlock(c->ctx[0]);
	mc_progress_kick(c->ctx[0]);
}

static void join__of_a_peer_that_is_not_known_dead(void **state)
{
	(void)state;
	struct cluster c;
	struct forged f;
	struct mc_req *req;
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	up(&c, 2, "loop");
	assert_int_equal(mc_mem_alloc(c.ctx[0], LEN, NULL, &src), MC_OK);
	cluster_share(&c, 1, 0, LEN, &dst, &to);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_MANUAL, .peer = 1, .n = 1});
	struct mc_slice s = {src, 0, to, 0, LEN};
	assert_int_equal(mc_put(c.ctx[0], 1, &s, 1, NULL, &req), MC_OK);
	forge(&c, 1, 0x77, &f);
	deliver(&c, &f);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_ERR_PEER_DOWN);
	assert_true(epoch_of(&c, 0, 1) == 0x77);
	mc_req_free(req);
	cluster_down(&c);
}

static void join__late_and_twice(void **state)
{
	(void)state;
	struct cluster c;
	struct forged first, second, zero;
	up(&c, 2, "loop");
	forge(&c, 1, 0x77, &first);
	forge(&c, 2, 0x88, &second);
	forge(&c, 0, 0x99, &zero);
	deliver(&c, &second);
	deliver(&c, &first); /* a process before it: its message took longer */
	assert_true(epoch_of(&c, 0, 1) == 0x88);
	deliver(&c, &second);
	deliver(&c, &zero);
	assert_true(epoch_of(&c, 0, 1) == 0x88);
	forge(&c, 3, c.ctx[1]->epoch, &first); /* one that was buried does not come back */
	deliver(&c, &first);
	assert_true(epoch_of(&c, 0, 1) == 0x88);
	cluster_down(&c);
}

static void join__forged(void **state)
{
	(void)state;
	struct cluster c;
	struct forged f;
	uint64_t before;
	setenv("MC_JOB_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", 1);
	up(&c, 2, "loop");
	unsetenv("MC_JOB_KEY");
	if (!c.ctx[0]->key.set) {
		cluster_down(&c);
		skip(); /* built without libsodium */
	}
	before = epoch_of(&c, 0, 1);
	forge(&c, 1, 0x77, &f);
	f.msg[f.len - 1] ^= 1; /* in the record's mac */
	deliver(&c, &f);
	assert_true(epoch_of(&c, 0, 1) == before);
	assert_non_null(strstr(last_line, "refused"));
	forge(&c, 1, 0x77, &f);
	f.msg[4] ^= 1; /* says that it is rank 0 */
	deliver(&c, &f);
	assert_true(epoch_of(&c, 0, 0) == c.ctx[0]->epoch);
	assert_true(epoch_of(&c, 0, 1) == before);
	forge(&c, 1, 0x77, &f);
	f.msg[24] ^= 1; /* to an earlier process of rank 0 */
	deliver(&c, &f);
	assert_true(epoch_of(&c, 0, 1) == before);
	f.msg[24] ^= 1;
	deliver(&c, &f);
	assert_true(epoch_of(&c, 0, 1) == 0x77);
	cluster_down(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rejoin__loop),
		cmocka_unit_test(rejoin__shm),
		cmocka_unit_test(rejoin__ucx),
		cmocka_unit_test(rejoin__requests_and_counters),
		cmocka_unit_test(rejoin__groups),
		cmocka_unit_test(rejoin__groups_learned_late),
		cmocka_unit_test(rejoin__two_meet),
		cmocka_unit_test(rejoin__again_and_again),
		cmocka_unit_test(rejoin__others_are_gone),
		cmocka_unit_test(rejoin__no_answer),
		cmocka_unit_test(join__of_a_peer_that_is_not_known_dead),
		cmocka_unit_test(join__late_and_twice),
		cmocka_unit_test(join__forged),
	};
	return cmocka_run_group_tests(tests, quiet, NULL);
}

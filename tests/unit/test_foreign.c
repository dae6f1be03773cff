/* SPDX-License-Identifier: BSD-3-Clause */
/* test_foreign.c - two jobs that find each other through a directory: transfers, groups and reshards between them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "foreign_side.h"

enum { LEN = 1 << 16 };

static void find__who_is_there(void **state)
{
	(void)state;
	struct cluster p, d;
	uint32_t peer[8], n = 77;
	struct mc_peer_info info = {.size = sizeof(info)};
	both_up(&p, &d, "shm");
	find(d.ctx[0], "prefill", "p-*", 2, peer);
	for (uint32_t i = 0; i < 2; i++) {
		assert_true(peer[i] >= 3);
		assert_int_equal(mc_peer_query(d.ctx[0], peer[i], &info), MC_OK);
		assert_string_equal(info.job, "p-a");
		assert_string_equal(info.role, "prefill");
		assert_int_equal(info.rank, i);
		assert_true(info.epoch == p.ctx[i]->epoch);
		assert_int_equal(info.state, MC_IN_PROGRESS);
	}
	assert_int_equal(mc_peer_query(d.ctx[0], 0, &info), MC_OK);
	assert_string_equal(info.job, "d-a");
	find(p.ctx[1], NULL, NULL, 3, peer);
	find(p.ctx[1], "decode", "d-?", 3, peer);
	assert_int_equal(mc_peer_find(d.ctx[0], "prefill", "p-*", 1, SEC, peer, 1, &n), MC_OK);
	assert_int_equal(n, 2); /* more than there is room for */
	assert_int_equal(mc_peer_find(d.ctx[0], "prefill", "p-*", 3, SEC / 100, peer, 8, &n), MC_ERR_TIMEOUT);
	assert_int_equal(mc_peer_find(d.ctx[0], "nobody", NULL, 1, 0, peer, 8, &n), MC_ERR_TIMEOUT);
	assert_int_equal(mc_peer_find(d.ctx[0], "prefill", "q*", 1, 0, peer, 8, &n), MC_ERR_TIMEOUT);
	assert_int_equal(mc_peer_find(d.ctx[0], "nobody", NULL, 0, SEC, NULL, 0, &n), MC_OK);
	assert_int_equal(n, 0);
	assert_int_equal(mc_peer_find(d.ctx[0], NULL, NULL, 0, 0, NULL, 8, &n), MC_ERR_INVAL);
	assert_int_equal(mc_connect(d.ctx[0], 3 + 2, SEC), MC_ERR_INVAL); /* a number that nobody has */
	both_down(&p, &d);
}

static void find__no_directory(void **state)
{
	(void)state;
	struct cluster p = {0};
	uint32_t n;
	struct mc_watch *w;
	fake.off = true;
	job_up(&p, "p-a", "prefill", 1, "shm");
	assert_int_equal(mc_peer_find(p.ctx[0], NULL, NULL, 0, 0, NULL, 0, &n), MC_ERR_UNSUPPORTED);
	assert_int_equal(
		mc_peer_watch(p.ctx[0], NULL, NULL, (void (*)(void *, const struct mc_peer_event *))abort, NULL, &w),
		MC_ERR_UNSUPPORTED);
	assert_null(p.ctx[0]->foreign);
	cluster_down(&p);
}

static void use_all(const char *backend)
{
	struct cluster p, d;
	uint32_t at_d[2], at_p[3];
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	struct mc_req *req;
	struct mc_counter *cnt;
	struct mc_notify one = {.size = sizeof(one), .flags = MC_NOTIFY_COUNT, .tag = 9, .add = 2};
	struct mc_xfer_opts o = {.size = sizeof(o), .notify = &one};
	both_up(&p, &d, backend);
	find(d.ctx[2], "prefill", NULL, 2, at_d);
	find(p.ctx[0], "decode", NULL, 3, at_p);
	note_between(d.ctx[2], at_d[0], p.ctx[0], at_p[2]);
	note_between(p.ctx[0], at_p[2], d.ctx[2], at_d[0]);
	note_between(p.ctx[0], 1, p.ctx[1], 0); /* and with the own job */

	assert_int_equal(mc_mem_alloc(p.ctx[0], LEN, NULL, &src), MC_OK);
	assert_int_equal(mc_mem_alloc(d.ctx[2], LEN, NULL, &dst), MC_OK);
	assert_int_equal(mc_mem_publish(dst, "in"), MC_OK);
	assert_int_equal(mc_mem_lookup(p.ctx[0], at_p[2], "in", 20 * SEC, &to), MC_OK);
	assert_int_equal(mc_rmem_peer(to), at_p[2]);
	assert_int_equal(mc_counter_open(d.ctx[2], 9, at_d[0], &cnt), MC_OK);
	memset(mc_mem_addr(src), 0x42, LEN);
	struct mc_slice s = {src, 0, to, 0, LEN};
	assert_int_equal(mc_put(p.ctx[0], at_p[2], &s, 1, &o, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	mc_req_free(req);
	assert_int_equal(mc_counter_wait(cnt, 2, 20 * SEC), MC_OK);
	assert_memory_equal(mc_mem_addr(src), mc_mem_addr(dst), LEN);
	memset(mc_mem_addr(src), 0, LEN);
	assert_int_equal(mc_get(p.ctx[0], at_p[2], &s, 1, NULL, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	mc_req_free(req);
	assert_memory_equal(mc_mem_addr(src), mc_mem_addr(dst), LEN);
	both_down(&p, &d);
}

static void use__shm(void **state)
{
	(void)state;
	use_all("shm");
}

static void use__ucx(void **state)
{
	(void)state;
#ifdef CLUSTER_UCX
	use_all("ucx");
#else
	skip();
#endif
}

/* Who is not told of by the directory introduces itself. */
static void use__one_side_is_deaf(void **state)
{
	(void)state;
	struct cluster p, d;
	uint32_t at_d[2], n;
	struct mc_note *note;
	struct mc_peer_info info = {.size = sizeof(info)};
	fake.deaf = "p-a";
	both_up(&p, &d, "shm");
	find(d.ctx[1], "prefill", NULL, 2, at_d);
	assert_int_equal(mc_peer_find(p.ctx[1], NULL, NULL, 1, 0, NULL, 0, &n), MC_ERR_TIMEOUT);
	assert_int_equal(mc_note_send(d.ctx[1], at_d[1], 3, NULL, 0, NULL), MC_OK);
	assert_int_equal(mc_note_recv(p.ctx[1], 20 * SEC, &note), MC_OK);
	assert_int_equal(mc_peer_query(p.ctx[1], note->peer, &info), MC_OK);
	assert_string_equal(info.job, "d-a");
	assert_int_equal(info.rank, 1);
	note_between(p.ctx[1], note->peer, d.ctx[1], at_d[1]);
	assert_int_equal(mc_peer_find(p.ctx[1], NULL, NULL, 1, 0, NULL, 0, &n), MC_ERR_TIMEOUT); /* not found there */
	mc_note_free(note);
	both_down(&p, &d);
}

/* ---- groups and pools of both jobs ---- */

struct member {
	struct mc_ctx *ctx;
	struct mc_group *g;
	struct mc_mem *mem;
	mc_status_t status;
};

static void *collective(void *arg)
{
	struct member *m = arg;
	uint32_t me = mc_group_rank(m->g), n = mc_group_size(m->g);
	struct mc_buf src = {m->mem, me * 1000}, dst = {m->mem, 0};
	memset((uint8_t *)mc_mem_addr(m->mem) + me * 1000, (int)me + 1, 1000);
	m->status = mc_barrier(m->g, 20 * SEC);
	if (m->status == MC_OK)
		m->status = mc_allgather(m->g, src, dst, 1000, NULL);
	const uint8_t *b = mc_mem_addr(m->mem);
	for (uint32_t i = 0; i < n * 1000 && m->status == MC_OK; i++)
		if (b[i] != i / 1000 + 1)
			m->status = MC_ERR_INTERNAL;
	return NULL;
}

/* The same ranks in the same order, each by its own numbers: 1 of p, then 2, 0 and 1 of d. */
static void groups__of_two_jobs(void **state)
{
	(void)state;
	struct cluster p, d;
	struct member m[4];
	pthread_t t[4];
	uint32_t at[3];
	both_up(&p, &d, "shm");
	find(p.ctx[1], "decode", NULL, 3, at);
	m[0] = (struct member){.ctx = p.ctx[1]};
	assert_int_equal(mc_group_list(p.ctx[1], (uint32_t[]){1, at[2], at[0], at[1]}, 4, &m[0].g), MC_OK);
	assert_int_equal(mc_group_peer(m[0].g, 1), at[2]);
	for (uint32_t i = 0; i < 3; i++) {
		m[1 + i] = (struct member){.ctx = d.ctx[i]};
		find(d.ctx[i], "prefill", NULL, 2, at);
		assert_int_equal(mc_group_list(d.ctx[i], (uint32_t[]){at[1], 2, 0, 1}, 4, &m[1 + i].g), MC_OK);
		assert_true(m[1 + i].g->sig == m[0].g->sig);
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(mc_mem_alloc(m[i].ctx, 4000, NULL, &m[i].mem), MC_OK);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&t[i], NULL, collective, &m[i]), 0);
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		for (int i = 0; i < 4; i++)
			assert_int_equal(m[i].status, MC_OK);
	}
	/* A member that is lost is named by each with its own number. */
	struct mc_fault f = {.size = sizeof(f)};
	fake.keep = true;
	find(d.ctx[0], "prefill", NULL, 2, at);
	mc_finalize(p.ctx[1]);
	p.ctx[1] = NULL;
	assert_int_equal(mc_barrier(m[2].g, 20 * SEC), MC_ERR_PEER_DOWN);
	while (mc_fault_next(d.ctx[1], &f) == MC_OK)
		assert_true(f.peer == at[1] || f.peer == MC_NO_RANK);
	both_down(&p, &d);
}

enum { LAYERS = 4, BLOCKS = 8, TOKENS = 16, DIM = 8 };

static void pool_up(struct mc_ctx *ctx, uint32_t head_lo, uint32_t head_n, struct mc_mem **mem,
		    struct mc_kv_pool **pool)
{
	enum mc_kv_dim order[] = {MC_KV_LAYER, MC_KV_KV, MC_KV_BLOCK, MC_KV_TOKEN, MC_KV_HEAD};
	struct mc_kv_layout l = {.size = sizeof(l),
				 .elem_bytes = 2,
				 .head_dim = DIM,
				 .kv_n = 2,
				 .block_tokens = TOKENS,
				 .block_n = BLOCKS,
				 .layer_n = LAYERS,
				 .layer_total = LAYERS,
				 .head_lo = head_lo,
				 .head_n = head_n,
				 .head_total = 4};
	assert_int_equal(mc_kv_layout_dense(&l, order), MC_OK);
	assert_int_equal(mc_mem_alloc(ctx, (uint64_t)LAYERS * 2 * BLOCKS * TOKENS * head_n * DIM * 2, NULL, mem),
			 MC_OK);
	struct mc_buf base = {*mem, 0};
	assert_int_equal(mc_kv_pool_open(ctx, &l, &base, 1, "kv \"1\"", pool), MC_OK);
}

/* One prefill rank with all heads, two decode ranks with half of them each. */
static void reshard__of_two_jobs(void **state)
{
	(void)state;
	struct cluster p, d;
	uint32_t at_p[3], at_d[2];
	struct mc_mem *src, *dst[2];
	struct mc_kv_pool *pool[3];
	struct mc_group *from, *to;
	struct mc_reshard *rs;
	struct mc_req *req;
	uint32_t table[] = {3, 1};
	both_up(&p, &d, "shm");
	find(p.ctx[0], "decode", NULL, 3, at_p);
	find(d.ctx[0], "prefill", NULL, 2, at_d);
	pool_up(p.ctx[0], 0, 4, &src, &pool[0]);
	for (uint32_t i = 0; i < 2; i++)
		pool_up(d.ctx[i], i * 2, 2, &dst[i], &pool[1 + i]);
	uint16_t *s = mc_mem_addr(src);
	for (size_t i = 0; i < mc_mem_len(src) / 2; i++)
		s[i] = (uint16_t)(i + 1);
	assert_int_equal(mc_group_list(p.ctx[0], (uint32_t[]){0}, 1, &from), MC_OK);
	assert_int_equal(mc_group_list(p.ctx[0], at_p, 2, &to), MC_OK);
	assert_int_equal(mc_reshard_open(from, "kv \"1\"", to, "kv \"1\"", 20 * SEC, &rs), MC_OK);
	struct mc_kv_request q = {.size = sizeof(q),
				  .op = MC_KV_PUSH,
				  .peer = MC_ANY_PEER,
				  .src_block = table,
				  .dst_block = table,
				  .src_block_n = 2,
				  .dst_block_n = 2,
				  .token_n = 2 * TOKENS};
	assert_int_equal(mc_reshard_start(rs, &q, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	mc_req_free(req);
	for (uint32_t i = 0; i < 2; i++) {
		const uint16_t *t = mc_mem_addr(dst[i]);
		for (uint32_t k = 0; k < LAYERS * 2 * BLOCKS * TOKENS; k++) {
			uint32_t block = k / TOKENS % BLOCKS;
			for (uint32_t x = 0; x < 2 * DIM; x++)
				assert_int_equal(t[k * 2 * DIM + x],
						 block == 1 || block == 3 ? s[(k * 4 + i * 2) * DIM + x] : 0);
		}
	}
	/* What people read in the directory. */
	pthread_mutex_lock(&fake.lock);
	assert_non_null(strstr(fake_place("p-a", 0)->info, "{\"name\": \"kv \\\"1\\\"\", \"layers\": [0, 4, 4]"));
	assert_null(strstr(fake_place("p-a", 1)->info, "name"));
	pthread_mutex_unlock(&fake.lock);
	mc_reshard_close(rs);
	assert_int_equal(mc_kv_pool_close(pool[0]), MC_OK);
	pthread_mutex_lock(&fake.lock);
	assert_null(strstr(fake_place("p-a", 0)->info, "name"));
	pthread_mutex_unlock(&fake.lock);
	both_down(&p, &d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(find__who_is_there, begin),
		cmocka_unit_test_setup(find__no_directory, begin),
		cmocka_unit_test_setup(use__shm, begin),
		cmocka_unit_test_setup(use__ucx, begin),
		cmocka_unit_test_setup(use__one_side_is_deaf, begin),
		cmocka_unit_test_setup(groups__of_two_jobs, begin),
		cmocka_unit_test_setup(reshard__of_two_jobs, begin),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

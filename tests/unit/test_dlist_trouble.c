/* SPDX-License-Identifier: BSD-3-Clause */
/* Prepared lists: given back, canceled, their peer lost or its link not proved, the backend short of room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dlist.h"
#include "dlist_pair.h"

/* The list is given back while its request is on the way: that one goes on, and its regions stay busy until it ends. */
static void dlist__freed_while_posted(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct pair p;
		uint32_t from[BLOCKS], to[BLOCKS];
		struct mc_req *req;
		pair_up(&p, &ways[i]);
		shuffle(from, BLOCKS);
		shuffle(to, BLOCKS);
		struct mc_dlist *l = blocks_list(&p, from, to, BLOCKS);
		hold(&p, 1);
		assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
		mc_dlist_free(l);
		assert_int_equal(mc_mem_free(p.src), MC_ERR_BUSY);
		hold(&p, 0);
		assert_int_equal(mc_req_wait(req, 30 * SEC), MC_OK);
		mc_req_free(req);
		for (uint32_t k = 0; k < BLOCKS; k++)
			assert_memory_equal(p.a + from[k] * BLOCK, p.b + to[k] * BLOCK, BLOCK);
		pair_down(&p); /* both regions can be freed */
	}
}

static void dlist__canceled(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct pair p;
		uint32_t from[BLOCKS], to[BLOCKS];
		struct mc_req *req;
		pair_up(&p, &ways[i]);
		shuffle(from, BLOCKS);
		shuffle(to, BLOCKS);
		struct mc_dlist *l = blocks_list(&p, from, to, BLOCKS);
		hold(&p, 1);
		assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
		hold(&p, 0);
		mc_status_t s = mc_req_cancel(req);
		assert_true(s == MC_ERR_CANCELED || s == MC_OK);
		mc_req_free(req);
		uint8_t *copy = malloc(POOL);
		memcpy(copy, p.b, POOL);
		assert_int_equal(mc_connect(p.c.ctx[0], 1, 30 * SEC), MC_OK);
		assert_memory_equal(copy, p.b, POOL);
		free(copy);
		/* The list is as it was. */
		assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
		end_ok(req);
		for (uint32_t k = 0; k < BLOCKS; k++)
			assert_memory_equal(p.a + from[k] * BLOCK, p.b + to[k] * BLOCK, BLOCK);
		mc_dlist_free(l);
		pair_down(&p);
	}
}

static void dlist__peer_dies(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct pair p;
		uint32_t from[BLOCKS], to[BLOCKS];
		struct mc_req *req, *other;
		pair_up(&p, &ways[i]);
		shuffle(from, BLOCKS);
		shuffle(to, BLOCKS);
		struct mc_dlist *l = blocks_list(&p, from, to, BLOCKS);
		hold(&p, 1);
		assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
		assert_int_equal(mc_dlist_get_some(l, (uint32_t[]){3, 9}, NULL, 2, NULL, &other), MC_OK);
		cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = 1});
		assert_int_equal(mc_req_wait(req, 30 * SEC), MC_ERR_PEER_DOWN);
		assert_int_equal(mc_req_wait(other, 30 * SEC), MC_ERR_PEER_DOWN);
		mc_req_free(req);
		mc_req_free(other);
		assert_int_equal(mc_dlist_put(l, NULL, &req), MC_ERR_PEER_DOWN);
		assert_int_equal(mc_dlist_put_some(l, (uint32_t[]){0}, NULL, 1, NULL, &req), MC_ERR_PEER_DOWN);
		struct mc_slice s = {p.src, 0, p.to, 0, 8};
		struct mc_dlist *late;
		assert_int_equal(mc_dlist_create(p.c.ctx[0], 1, &s, 1, &late), MC_ERR_PEER_DOWN);
		mc_dlist_free(l);
		pair_down(&p);
	}
}

/* The backend takes two slices at a time, then fails: as for any put. */
static void dlist__taken_in_parts(void **state)
{
	(void)state;
	struct pair p;
	uint32_t from[BLOCKS], to[BLOCKS];
	struct mc_req *req;
	pair_up(&p, &ways[0]);
	shuffle(from, BLOCKS);
	shuffle(to, BLOCKS);
	struct mc_dlist *l = blocks_list(&p, from, to, 100);
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_TAKE, .n = 2});
	assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
	end_ok(req);
	for (uint32_t i = 0; i < 100; i++)
		assert_memory_equal(p.a + from[i] * BLOCK, p.b + to[i] * BLOCK, BLOCK);
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_FAIL, .slot = MC_LOOP_DONE, .kth = 3,
						      .status = MC_ERR_NOMEM});
	assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 30 * SEC), MC_ERR_NOMEM);
	mc_req_free(req);
	mc_dlist_free(l);
	pair_down(&p);
}

/* Made before the link is proved a list goes by message; from the first post after that it has the link's own form. */
static void dlist__before_the_link_stands(void **state)
{
	(void)state;
	struct cluster c = {.progress = "thread", .loop_caps = MC_CAP_PROVE};
	uint8_t blob[MC_BLOB_MAX];
	uint32_t len = sizeof(blob);
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	struct mc_req *req;
	struct mc_dlist *l;
	cluster_up(&c, 2, "loop", "auto");
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_PROVE, .n = 1});
	assert_int_equal(mc_mem_alloc(c.ctx[1], 3 * BLOCK, NULL, &dst), MC_OK);
	assert_int_equal(mc_mem_export(dst, blob, &len), MC_OK);
	assert_int_equal(mc_mem_import(c.ctx[0], 1, blob, len, &to), MC_OK);
	assert_int_equal(mc_mem_alloc(c.ctx[0], 3 * BLOCK, NULL, &src), MC_OK);
	struct mc_slice s[2] = {{src, 0, to, BLOCK, 100}, {src, 100, to, BLOCK + 100, 100}};
	assert_int_equal(mc_dlist_create(c.ctx[0], 1, s, 2, &l), MC_OK);
	fill(mc_mem_addr(src), 3 * BLOCK, 3);
	assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
	assert_int_equal(mc_req_test(req), MC_IN_PROGRESS);
	assert_false(l->rma);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_PROVE});
	end_ok(req);
	assert_memory_equal(mc_mem_addr(src), (uint8_t *)mc_mem_addr(dst) + BLOCK, 200);
	fill(mc_mem_addr(src), 3 * BLOCK, 4);
	assert_int_equal(mc_dlist_put_some(l, (uint32_t[]){1, 0}, NULL, 2, NULL, &req), MC_OK);
	assert_true(l->rma);
	end_ok(req);
	assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
	end_ok(req);
	assert_memory_equal(mc_mem_addr(src), (uint8_t *)mc_mem_addr(dst) + BLOCK, 200);
	mc_dlist_free(l);
	cluster_down(&c);
}

/* Left open, one of them with its request not freed: mc_finalize() sees to it. */
static void dlist__left_open(void **state)
{
	(void)state;
	struct pair p;
	struct mc_req *req;
	uint32_t from[2] = {0, 1}, to[2] = {5, 3};
	pair_up(&p, &ways[0]);
	(void)blocks_list(&p, from, to, 2);
	struct mc_dlist *l = blocks_list(&p, from, to, 2);
	assert_int_equal(mc_dlist_put(l, NULL, &req), MC_OK);
	cluster_down(&p.c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dlist__freed_while_posted),
		cmocka_unit_test(dlist__canceled),
		cmocka_unit_test(dlist__peer_dies),
		cmocka_unit_test(dlist__taken_in_parts),
		cmocka_unit_test(dlist__before_the_link_stands),
		cmocka_unit_test(dlist__left_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

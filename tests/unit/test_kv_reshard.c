/* SPDX-License-Identifier: BSD-3-Clause */
/* Resharding end to end: pools of several ranks, push and pull, by layers, over one-sided and packed links. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster.h"
#include "kv_priv.h"

enum { LAYERS = 6, HEADS = 4, DIM = 16, ELEM = 2, TOKENS = 77, BLOCKS = 40 };

static const enum mc_kv_dim HND[] = {MC_KV_LAYER, MC_KV_KV, MC_KV_BLOCK, MC_KV_HEAD, MC_KV_TOKEN};
static const enum mc_kv_dim NHD[] = {MC_KV_LAYER, MC_KV_KV, MC_KV_BLOCK, MC_KV_TOKEN, MC_KV_HEAD};
static const enum mc_kv_dim CROSS[] = {MC_KV_BLOCK, MC_KV_LAYER, MC_KV_KV, MC_KV_TOKEN, MC_KV_HEAD};

struct side {
	uint32_t tp, pp, block_tokens, flags;
	const enum mc_kv_dim *order;
};

struct rig {
	struct cluster c;
	struct side side[2]; /* sources, targets */
	uint32_t heads, n[2];
	struct mc_group *g[2][64]; /* by context */
	struct mc_kv_layout layout[64];
	struct mc_mem *mem[64];
	struct mc_kv_pool *pool[64];
	struct mc_reshard *rs[64];
	uint32_t table[2][BLOCKS]; /* same block numbers on all ranks of a side */
	uint32_t table_n[2];
};

static void layout_of(struct rig *r, uint32_t rank, struct mc_kv_layout *l)
{
	int s = rank < r->n[0] ? 0 : 1;
	uint32_t i = s == 0 ? rank : rank - r->n[0];
	const struct side *d = &r->side[s];
	*l = (struct mc_kv_layout){.size = sizeof(*l),
				   .flags = d->flags,
				   .elem_bytes = ELEM,
				   .head_dim = DIM,
				   .kv_n = 2,
				   .block_tokens = d->block_tokens,
				   .block_n = BLOCKS,
				   .layer_total = LAYERS,
				   .head_total = r->heads};
	mc_kv_shard(LAYERS, d->pp, i / d->tp, &l->layer_lo, &l->layer_n);
	mc_kv_shard(r->heads, d->tp, i % d->tp, &l->head_lo, &l->head_n);
	assert_int_equal(mc_kv_layout_dense(l, d->order), MC_OK);
}

static uint8_t value_of(uint32_t layer, uint32_t kv, uint32_t token, uint32_t head, uint32_t byte)
{
	uint32_t h = ((layer * 2 + kv) * 1009 + token) * 131 + head * 17 + byte;
	return (uint8_t)((h * 2654435761u) >> 24 | 1); /* never 0 */
}

static uint8_t *place(struct rig *r, uint32_t rank, uint32_t layer, uint32_t kv, uint32_t token, uint32_t head)
{
	const struct mc_kv_layout *l = &r->layout[rank];
	uint32_t block = r->table[rank < r->n[0] ? 0 : 1][token / l->block_tokens];
	uint64_t off = 0, extent;
	assert_int_equal(mc_kv_layout_check(l, &extent, NULL, 0), MC_OK);
	if (l->flags & MC_KV_BASE_PER_LAYER)
		off = (layer - l->layer_lo) * extent;
	else
		off = (layer - l->layer_lo) * l->stride[MC_KV_LAYER];
	off += kv * l->stride[MC_KV_KV] + block * l->stride[MC_KV_BLOCK] +
	       (token % l->block_tokens) * l->stride[MC_KV_TOKEN] + (head - l->head_lo) * l->stride[MC_KV_HEAD];
	return (uint8_t *)mc_mem_addr(r->mem[rank]) + off;
}

/* Visit every element range of a rank's shard for the tokens of the sequence. */
static void each(struct rig *r, uint32_t rank, uint32_t layer_lo, uint32_t layer_n, bool check)
{
	const struct mc_kv_layout *l = &r->layout[rank];
	for (uint32_t layer = l->layer_lo; layer < l->layer_lo + l->layer_n; layer++) {
		bool in = layer >= layer_lo && layer < layer_lo + layer_n;
		for (uint32_t x = 0; x < 2 * TOKENS * l->head_n; x++) {
			uint32_t kv = x % 2, token = x / 2 % TOKENS, head = l->head_lo + x / 2 / TOKENS;
			uint8_t *p = place(r, rank, layer, kv, token, head);
			for (uint32_t b = 0; b < DIM * ELEM; b++) {
				if (check)
					assert_int_equal(p[b], in ? value_of(layer, kv, token, head, b) : 0);
				else
					p[b] = value_of(layer, kv, token, head, b);
			}
		}
	}
}

struct opener {
	struct rig *r;
	uint32_t rank;
	mc_status_t status;
};

static void *open_one(void *arg)
{
	struct opener *o = arg;
	struct rig *r = o->r;
	o->status = mc_reshard_open(r->g[0][o->rank], "kv", r->g[1][o->rank], "kv", 20 * SEC, &r->rs[o->rank]);
	return NULL;
}

static void pool_up(struct rig *r, uint32_t rank)
{
	uint64_t extent;
	layout_of(r, rank, &r->layout[rank]);
	uint32_t base_n = mc_kv_layout_base_n(&r->layout[rank]);
	assert_int_equal(mc_kv_layout_check(&r->layout[rank], &extent, NULL, 0), MC_OK);
	assert_int_equal(mc_mem_alloc(r->c.ctx[rank], extent * base_n, NULL, &r->mem[rank]), MC_OK);
	struct mc_buf base[LAYERS];
	for (uint32_t i = 0; i < base_n; i++)
		base[i] = (struct mc_buf){r->mem[rank], i * extent};
	assert_int_equal(mc_kv_pool_open(r->c.ctx[rank], &r->layout[rank], base, base_n, "kv", &r->pool[rank]), MC_OK);
}

static void rig_up(struct rig *r, struct side src, struct side dst, uint32_t heads, const char *backend, const char *tp)
{
	uint32_t list[64];
	memset(r, 0, sizeof(*r));
	r->side[0] = src;
	r->side[1] = dst;
	r->heads = heads;
	r->n[0] = src.tp * src.pp;
	r->n[1] = dst.tp * dst.pp;
	cluster_up(&r->c, r->n[0] + r->n[1], backend, tp);
	for (uint32_t i = 0; i < r->c.n; i++)
		list[i] = i;
	for (int s = 0; s < 2; s++) {
		r->table_n[s] = (TOKENS + r->side[s].block_tokens - 1) / r->side[s].block_tokens;
		for (uint32_t i = 0; i < r->table_n[s]; i++)
			r->table[s][i] = s == 0 ? BLOCKS - 1 - i : (i * 7 + 3) % BLOCKS;
	}
	for (uint32_t i = 0; i < r->c.n; i++) {
		assert_int_equal(mc_group_list(r->c.ctx[i], list, r->n[0], &r->g[0][i]), MC_OK);
		assert_int_equal(mc_group_list(r->c.ctx[i], list + r->n[0], r->n[1], &r->g[1][i]), MC_OK);
	}
	/* The last pool appears only after the others began to ask for it. */
	pthread_t t[64];
	struct opener o[64];
	for (uint32_t i = 0; i + 1 < r->c.n; i++)
		pool_up(r, i);
	for (uint32_t i = 0; i + 1 < r->c.n; i++) {
		o[i] = (struct opener){r, i, MC_OK};
		pthread_create(&t[i], NULL, open_one, &o[i]);
	}
	pool_up(r, r->c.n - 1);
	o[r->c.n - 1] = (struct opener){r, r->c.n - 1, MC_OK};
	open_one(&o[r->c.n - 1]);
	assert_int_equal(o[r->c.n - 1].status, MC_OK);
	for (uint32_t i = 0; i + 1 < r->c.n; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(o[i].status, MC_OK);
	}
}

static void rig_down(struct rig *r)
{
	for (uint32_t i = 0; i < r->c.n; i++) {
		assert_int_equal(mc_kv_pool_close(r->pool[i]), MC_ERR_BUSY);
		mc_reshard_close(r->rs[i]);
		assert_int_equal(mc_mem_free(r->mem[i]), MC_ERR_BUSY);
		assert_int_equal(mc_kv_pool_close(r->pool[i]), MC_OK);
		assert_int_equal(mc_mem_free(r->mem[i]), MC_OK);
		mc_group_free(r->g[0][i]);
		mc_group_free(r->g[1][i]);
	}
	cluster_down(&r->c);
}

static struct mc_kv_request request(struct rig *r, uint32_t op, uint64_t tag, uint32_t layer_lo, uint32_t layer_n)
{
	return (struct mc_kv_request){.size = sizeof(struct mc_kv_request),
				      .op = op,
				      .peer = MC_ANY_PEER,
				      .tag = tag,
				      .src_block = r->table[0],
				      .dst_block = r->table[1],
				      .src_block_n = r->table_n[0],
				      .dst_block_n = r->table_n[1],
				      .token_n = TOKENS,
				      .layer_lo = layer_lo,
				      .layer_n = layer_n,
				      .timeout_ns = 20 * SEC};
}

/* Each starter moves its part; each of the other side counts as many arrivals as it has partners. */
static void move(struct rig *r, uint32_t op, uint32_t layer_lo, uint32_t layer_n)
{
	static uint64_t tag = 100;
	bool pull = op == MC_KV_PULL;
	struct mc_req *req[64] = {0};
	tag++;
	for (uint32_t i = 0; i < r->c.n; i++) {
		if ((i < r->n[0]) == pull)
			continue;
		struct mc_kv_request q = request(r, op, tag, layer_lo, layer_n);
		assert_int_equal(mc_reshard_start(r->rs[i], &q, &req[i]), MC_OK);
	}
	for (uint32_t i = 0; i < r->c.n; i++) {
		if (req[i] != NULL) {
			assert_int_equal(mc_req_wait(req[i], 20 * SEC), MC_OK);
			mc_req_free(req[i]);
			continue;
		}
		struct mc_counter *c;
		uint32_t due = pull ? mc_reshard_targets(r->rs[i], layer_lo, layer_n)
				    : mc_reshard_sources(r->rs[i], layer_lo, layer_n);
		assert_int_equal(mc_counter_open(r->c.ctx[i], tag, MC_ANY_PEER, &c), MC_OK);
		assert_int_equal(mc_counter_wait(c, due, 20 * SEC), MC_OK);
		assert_int_equal(mc_counter_read(c), due);
		mc_counter_close(c);
	}
}

static void reshard_case(struct side src, struct side dst, uint32_t heads, const char *backend, const char *tp)
{
	static struct rig r;
	rig_up(&r, src, dst, heads, backend, tp);
	for (uint32_t i = 0; i < r.n[0]; i++)
		each(&r, i, 0, LAYERS, false);
	for (int round = 0; round < 3; round++) {
		uint32_t lo = round == 2 ? 2 : 0, n = round == 2 ? 3 : LAYERS;
		for (uint32_t i = r.n[0]; i < r.c.n; i++)
			memset(mc_mem_addr(r.mem[i]), 0, mc_mem_len(r.mem[i]));
		move(&r, round == 1 ? MC_KV_PULL : MC_KV_PUSH, lo, round == 2 ? n : 0);
		for (uint32_t i = r.n[0]; i < r.c.n; i++)
			each(&r, i, lo, n, true);
	}
	rig_down(&r);
}

static const struct side shape[] = {
	{1, 1, 16, 0, HND}, {2, 1, 16, 0, HND},  {4, 1, 16, 0, NHD},
	{2, 2, 16, 0, HND}, {3, 1, 64, 0, NHD},  {2, 1, 64, MC_KV_BASE_PER_LAYER, HND},
	{1, 1, 5, 0, CROSS}, {8, 1, 16, 0, HND},
};

static void reshard__shapes(const char *backend, const char *tp)
{
	for (size_t i = 0; i < MC_ARRAY_LEN(shape); i++) {
		size_t k = (i * 5 + 3) % MC_ARRAY_LEN(shape);
		reshard_case(shape[i], shape[k], HEADS, backend, tp);
	}
	reshard_case(shape[1], shape[4], 6, backend, tp); /* 2 -> 3, six heads */
}

static void reshard__one_sided(void **state)
{
	(void)state;
	reshard__shapes("shm", "shm");
}

static void reshard__loop(void **state)
{
	(void)state;
	reshard__shapes("loop", "auto");
}

#ifdef CLUSTER_UCX
static void reshard__packed_over_tcp(void **state)
{
	(void)state;
	reshard__shapes("ucx", "tcp");
}
#endif

static void quiet(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static void reshard__bad_requests(void **state)
{
	(void)state;
	static struct rig r;
	rig_up(&r, shape[0], shape[1], HEADS, "loop", "auto");
	mc_log_set_sink(quiet, NULL);
	struct mc_req *req = NULL;
	struct mc_kv_request q = request(&r, MC_KV_PUSH, 1, 0, 0);
	assert_int_equal(mc_reshard_start(r.rs[1], &q, &req), MC_ERR_INVAL); /* a target does not push */
	q.src_block_n--;
	assert_int_equal(mc_reshard_start(r.rs[0], &q, &req), MC_ERR_INVAL);
	q.src_block_n++;
	q.layer_lo = 3;
	q.layer_n = LAYERS;
	assert_int_equal(mc_reshard_start(r.rs[0], &q, &req), MC_ERR_RANGE);
	q = request(&r, MC_KV_PUSH, 1, 0, 0);
	uint32_t keep = r.table[1][2];
	r.table[1][2] = BLOCKS;
	assert_int_equal(mc_reshard_start(r.rs[0], &q, &req), MC_ERR_RANGE);
	r.table[1][2] = keep;
	q.peer = 2;
	assert_int_equal(mc_reshard_start(r.rs[0], &q, &req), MC_ERR_INVAL);
	q.size = 3;
	assert_int_equal(mc_reshard_start(r.rs[0], &q, &req), MC_ERR_INVAL);
	assert_null(req);
	/* One target alone. */
	q = request(&r, MC_KV_PUSH, 7, 0, 0);
	q.peer = 1;
	assert_int_equal(mc_reshard_start(r.rs[0], &q, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 30 * SEC), MC_OK);
	mc_req_free(req);
	struct mc_kv_totals t;
	assert_int_equal(mc_reshard_totals(r.rs[0], &q, 0, 1, &t), MC_OK);
	assert_int_equal(t.bytes, (uint64_t)LAYERS * 2 * TOKENS * (HEADS / 2) * DIM * ELEM);
	assert_true(t.runs <= t.pieces && t.runs > 0);
	mc_log_set_sink(NULL, NULL);
	rig_down(&r);
}

/* A partner dies while a request for two runs: the request fails as a whole, in bounded time. */
static void reshard__partner_dies(void **state)
{
	(void)state;
	static struct rig r;
	rig_up(&r, shape[0], shape[1], HEADS, "loop", "auto");
	mc_log_set_sink(quiet, NULL);
	cluster_fault(&r.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_MANUAL, .peer = MC_ANY_PEER, .n = 1});
	struct mc_kv_request q = request(&r, MC_KV_PUSH, 5, 0, 0);
	struct mc_req *req;
	assert_int_equal(mc_reshard_start(r.rs[0], &q, &req), MC_OK);
	assert_int_equal(mc_req_test(req), MC_IN_PROGRESS);
	cluster_fault(&r.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = 2});
	cluster_fault(&r.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_MANUAL, .peer = 1, .n = 0});
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_ERR_PEER_DOWN);
	mc_req_free(req);
	mc_log_set_sink(NULL, NULL);
	rig_down(&r);
}

/* What a member has not published is waited for as long as was said: not at all, too, and in pieces. */
static void reshard_open__member_that_never_publishes(void **state)
{
	(void)state;
	static struct rig r;
	struct mc_reshard *rs;
	rig_up(&r, shape[0], shape[1], HEADS, "loop", "auto");
	const int64_t limit[] = {0, SEC / 20};
	for (size_t i = 0; i < MC_ARRAY_LEN(limit); i++) {
		int64_t start = mc_now_ns();
		assert_int_equal(mc_reshard_open(r.g[0][0], "kv", r.g[1][0], "none", limit[i], &rs), MC_ERR_TIMEOUT);
		assert_true(mc_now_ns() - start < 30 * SEC);
	}
	rig_down(&r);
}

/* ---- opening by polling ---- */

/* Contexts that make progress only when told, so that calls can be counted; no pool is there yet. */
static void polled_up(struct rig *r, uint32_t src_n, uint32_t dst_n)
{
	uint32_t list[64];
	memset(r, 0, sizeof(*r));
	r->side[0] = (struct side){src_n, 1, 16, MC_KV_BASE_PER_LAYER, HND};
	r->side[1] = (struct side){dst_n, 1, 16, MC_KV_BASE_PER_LAYER, NHD};
	r->heads = HEADS;
	r->n[0] = src_n;
	r->n[1] = dst_n;
	r->c.progress = "manual";
	cluster_up(&r->c, src_n + dst_n, "loop", "auto");
	for (uint32_t i = 0; i < r->c.n; i++)
		list[i] = i;
	assert_int_equal(mc_group_list(r->c.ctx[0], list, src_n, &r->g[0][0]), MC_OK);
	assert_int_equal(mc_group_list(r->c.ctx[0], list + src_n, dst_n, &r->g[1][0]), MC_OK);
}

static void polled_down(struct rig *r)
{
	mc_group_free(r->g[0][0]);
	mc_group_free(r->g[1][0]);
	cluster_down(&r->c);
}

static void all_progress(struct rig *r)
{
	for (uint32_t n = 1; n > 0;) {
		n = 0;
		for (uint32_t i = 0; i < r->c.n; i++)
			n += mc_progress(r->c.ctx[i]);
	}
}

static mc_status_t poll_open(struct rig *r, const char *dst_pool)
{
	mc_status_t s = mc_reshard_open(r->g[0][0], "kv", r->g[1][0], dst_pool, 0, &r->rs[0]);
	all_progress(r);
	return s;
}

static uint32_t parked_at(struct rig *r, uint32_t rank)
{
	mc_ctx_lock(r->c.ctx[rank]);
	uint32_t n = mc_peer_get(r->c.ctx[rank], 0)->parked_n;
	mc_ctx_unlock(r->c.ctx[rank]);
	return n;
}

static struct mc_reshard *opening(struct rig *r)
{
	return mc_container_of(r->c.ctx[0]->openings.next, struct mc_reshard, node);
}

/* Each call takes up where the one before it stood, and asks nothing again. */
static void reshard_open__polled(void **state)
{
	(void)state;
	static struct rig r;
	polled_up(&r, 3, 2);
	pool_up(&r, 0);
	for (uint32_t rank = 1; rank < r.c.n; rank++) {
		for (uint32_t i = 0; i < 100; i++)
			assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT);
		assert_int_equal(r.c.ctx[0]->opening_n, 1);
		for (uint32_t i = 1; i < r.c.n; i++)
			assert_int_equal(parked_at(&r, i), i >= rank);
		pool_up(&r, rank);
	}
	all_progress(&r);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT); /* now it asks for the regions */
	assert_int_equal(poll_open(&r, "kv"), MC_OK);
	assert_int_equal(r.c.ctx[0]->opening_n, 0);
	assert_true(mc_reshard_targets(r.rs[0], 0, 0) > 0);
	assert_int_equal(mc_kv_pool_close(r.pool[0]), MC_ERR_BUSY);
	mc_reshard_close(r.rs[0]);
	assert_int_equal(mc_kv_pool_close(r.pool[0]), MC_OK);
	polled_down(&r);
}

/* A program that gave up can close its pool, and the peers are not asked any more. */
static void reshard_open__given_up(void **state)
{
	(void)state;
	static struct rig r;
	polled_up(&r, 1, 2);
	pool_up(&r, 0);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT);
	assert_int_equal(parked_at(&r, 1), 1);
	assert_int_equal(mc_kv_pool_close(r.pool[0]), MC_OK);
	all_progress(&r);
	assert_int_equal(parked_at(&r, 1), 0);
	assert_int_equal(r.c.ctx[0]->opening_n, 0);
	polled_down(&r);
}

/* What was left long ago is not used, nor kept; of many, not all is kept. */
static void reshard_open__left_behind(void **state)
{
	(void)state;
	static struct rig r;
	char name[32];
	polled_up(&r, 1, 2);
	pool_up(&r, 0);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT);
	struct mc_ctx *ctx = r.c.ctx[0];
	opening(&r)->left_ns -= 11 * SEC;
	assert_int_equal(poll_open(&r, "other"), MC_ERR_TIMEOUT);
	assert_int_equal(ctx->opening_n, 1);
	assert_int_equal(parked_at(&r, 1), 1);
	for (uint32_t i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(poll_open(&r, name), MC_ERR_TIMEOUT);
	}
	assert_true(ctx->opening_n <= 1024 && parked_at(&r, 1) <= 1024);
	assert_int_equal(mc_fault_next(ctx, &(struct mc_fault){.size = sizeof(struct mc_fault)}), MC_ERR_AGAIN);
	polled_down(&r); /* with all that is left */
}

/* The member closes its pool and publishes one of another order in other memory. */
static void pool_again(struct rig *r, uint32_t rank)
{
	assert_int_equal(mc_kv_pool_close(r->pool[rank]), MC_OK);
	assert_int_equal(mc_mem_free(r->mem[rank]), MC_OK);
	r->side[1].order = r->side[1].order == HND ? NHD : HND;
	pool_up(r, rank);
}

/* While one member kept all waiting another one changed its pool: the plan is over what is there now. */
static void reshard_open__pool_changed_meanwhile(void **state)
{
	(void)state;
	static struct rig r;
	polled_up(&r, 1, 2);
	pool_up(&r, 0);
	pool_up(&r, 1);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT);
	assert_non_null(opening(&r)->far[1][0].pool);
	pool_again(&r, 1);
	opening(&r)->asked_ns -= 21 * SEC;
	pool_up(&r, 2);
	all_progress(&r);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT); /* now it asks for the pools again */
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT); /* and for the regions */
	assert_int_equal(poll_open(&r, "kv"), MC_OK);
	assert_memory_equal(r.rs[0]->far[1][0].pool->layout.stride, r.layout[1].stride, sizeof(r.layout[1].stride));
	mc_reshard_close(r.rs[0]);
	polled_down(&r);
}

/* A change between two calls is said; the next call begins anew. */
static void reshard_open__region_gone_meanwhile(void **state)
{
	(void)state;
	static struct rig r;
	polled_up(&r, 1, 2);
	for (uint32_t i = 0; i < r.c.n; i++)
		pool_up(&r, i);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT);
	pool_again(&r, 1);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_STALE);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT);
	assert_int_equal(poll_open(&r, "kv"), MC_OK);
	mc_reshard_close(r.rs[0]);
	polled_down(&r);
}

static void reshard_open__peer_lost_meanwhile(void **state)
{
	(void)state;
	static struct rig r;
	polled_up(&r, 1, 2);
	pool_up(&r, 0);
	pool_up(&r, 1);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_TIMEOUT);
	mc_log_set_sink(quiet, NULL);
	cluster_fault(&r.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = 2});
	all_progress(&r);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_PEER_DOWN);
	assert_int_equal(poll_open(&r, "kv"), MC_ERR_PEER_DOWN);
	assert_int_equal(r.c.ctx[0]->opening_n, 0);
	mc_log_set_sink(NULL, NULL);
	polled_down(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reshard__loop),
		cmocka_unit_test(reshard__one_sided),
#ifdef CLUSTER_UCX
		cmocka_unit_test(reshard__packed_over_tcp),
#endif
		cmocka_unit_test(reshard__bad_requests),
		cmocka_unit_test(reshard__partner_dies),
		cmocka_unit_test(reshard_open__member_that_never_publishes),
		cmocka_unit_test(reshard_open__polled),
		cmocka_unit_test(reshard_open__given_up),
		cmocka_unit_test(reshard_open__left_behind),
		cmocka_unit_test(reshard_open__pool_changed_meanwhile),
		cmocka_unit_test(reshard_open__region_gone_meanwhile),
		cmocka_unit_test(reshard_open__peer_lost_meanwhile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

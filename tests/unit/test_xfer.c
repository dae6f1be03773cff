/* SPDX-License-Identifier: BSD-3-Clause */
/* put, get, notification, deadline, cancel: the engine on each way that bytes can go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster.h"

enum { POOL = 8 << 20, BLOCK = 4096, BLOCKS = POOL / BLOCK };

struct way {
	const char *name, *backend, *transport;
	bool packed; /* make the loop backend refuse one-sided access, so that messages carry the bytes */
};

static const struct way ways[] = {
	{"loop", "loop", "auto", false},
	{"loop packed", "loop", "auto", true},
	{"shm", "shm", "shm", false},
#ifdef CLUSTER_UCX
	{"ucx tcp", "ucx", "tcp", false},
	{"ucx shm", "ucx", "shm", false},
#endif
};

static uint64_t seed = 0x2545f4914f6cdd1d;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void fill(uint8_t *p, uint64_t len, uint64_t key)
{
	for (uint64_t i = 0; i < len; i++)
		p[i] = (uint8_t)((i * 0x9e3779b1u + key) >> 7);
}

static void shuffle(uint32_t *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		v[i] = i;
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(rnd() % (i + 1)), t = v[i];
		v[i] = v[k];
		v[k] = t;
	}
}

struct pair {
	struct cluster c;
	struct mc_mem *src, *dst;
	struct mc_rmem *to; /* dst seen from rank 0 */
};

static void pair_up(struct pair *p, const struct way *w)
{
	memset(p, 0, sizeof(*p));
	cluster_up(&p->c, 2, w->backend, w->transport);
	if (w->packed)
		cluster_fault(&p->c, 0,
			      (struct mc_loop_fault){.kind = MC_LOOP_FAIL,
						     .slot = MC_LOOP_RMEM_IMPORT,
						     .kth = 1,
						     .status = MC_ERR_UNSUPPORTED});
	assert_int_equal(mc_mem_alloc(p->c.ctx[0], POOL, NULL, &p->src), MC_OK);
	cluster_share(&p->c, 1, 0, POOL, &p->dst, &p->to);
}

static void pair_down(struct pair *p)
{
	mc_rmem_release(p->to);
	assert_int_equal(mc_mem_free(p->src), MC_OK);
	assert_int_equal(mc_mem_free(p->dst), MC_OK);
	cluster_down(&p->c);
}

static void for_each_way(void (*test)(struct pair *p))
{
	for (size_t i = 0; i < MC_ARRAY_LEN(ways); i++) {
		struct pair p;
		print_message("  way: %s\n", ways[i].name);
		pair_up(&p, &ways[i]);
		test(&p);
		pair_down(&p);
	}
}

/*
 * Random blocks on both sides; the target learns by counter and note and then sees every byte, and no other byte
 * changed.
 */
static void put_blocks(struct pair *p)
{
	static uint32_t from[BLOCKS], to[BLOCKS];
	static struct mc_slice s[BLOCKS];
	uint32_t n = BLOCKS / 2;
	fill(mc_mem_addr(p->src), POOL, 7);
	shuffle(from, BLOCKS);
	shuffle(to, BLOCKS);
	for (uint32_t i = 0; i < n; i++)
		s[i] = (struct mc_slice){p->src, (uint64_t)from[i] * BLOCK, p->to, (uint64_t)to[i] * BLOCK, BLOCK};
	struct mc_counter *c;
	assert_int_equal(mc_counter_open(p->c.ctx[1], 17, 0, &c), MC_OK);
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT | MC_NOTIFY_NOTE, .tag = 17, .add = n,
				 .data = "blocks", .data_len = 7};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note, .timeout_ns = 20 * SEC};
	struct mc_req *req;
	assert_int_equal(mc_put(p->c.ctx[0], 1, s, n, &opts, &req), MC_OK);
	assert_int_equal(mc_counter_wait(c, n, 20 * SEC), MC_OK);
	const uint8_t *a = mc_mem_addr(p->src), *b = mc_mem_addr(p->dst);
	for (uint32_t i = 0; i < n; i++)
		assert_memory_equal(a + (uint64_t)from[i] * BLOCK, b + (uint64_t)to[i] * BLOCK, BLOCK);
	static const uint8_t zero[BLOCK];
	for (uint32_t i = n; i < BLOCKS; i++)
		assert_memory_equal(b + (uint64_t)to[i] * BLOCK, zero, BLOCK);
	struct mc_note *got;
	assert_int_equal(mc_note_recv(p->c.ctx[1], 30 * SEC, &got), MC_OK);
	assert_int_equal(got->peer, 0);
	assert_int_equal(got->tag, 17);
	assert_int_equal(got->len, 7);
	assert_memory_equal(got->data, "blocks", 7);
	mc_note_free(got);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	struct mc_req_stats st = {.size = sizeof(st)};
	assert_int_equal(mc_req_query(req, &st), MC_OK);
	assert_int_equal(st.slices, n);
	assert_int_equal(st.bytes, (uint64_t)n * BLOCK);
	mc_req_free(req);
	assert_int_equal(mc_counter_read(c), n);
	assert_int_equal(mc_note_recv(p->c.ctx[1], 0, &got), MC_ERR_TIMEOUT); /* exactly once */
	mc_counter_close(c);
}

static void put__random_blocks_arrive_before_their_notification(void **state)
{
	(void)state;
	for_each_way(put_blocks);
}

static void get_ragged(struct pair *p)
{
	enum { N = 300 };
	static struct mc_slice s[N];
	fill(mc_mem_addr(p->dst), POOL, 99);
	uint64_t off = 0, total = 0;
	for (uint32_t i = 0; i < N; i++) {
		uint64_t len = rnd() % 20000, roff = rnd() % (POOL - len);
		s[i] = (struct mc_slice){p->src, off, p->to, roff, len};
		off += len + 1;
		total += len;
	}
	assert_true(off < POOL);
	memset(mc_mem_addr(p->src), 0xee, POOL);
	struct mc_req *req;
	assert_int_equal(mc_get(p->c.ctx[0], 1, s, N, NULL, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	struct mc_req_stats st = {.size = sizeof(st)};
	assert_int_equal(mc_req_query(req, &st), MC_OK);
	assert_int_equal(st.bytes, total);
	mc_req_free(req);
	const uint8_t *a = mc_mem_addr(p->src), *b = mc_mem_addr(p->dst);
	for (uint32_t i = 0; i < N; i++) {
		assert_memory_equal(a + s[i].off, b + s[i].roff, s[i].len);
		assert_int_equal(a[s[i].off + s[i].len], 0xee);
	}
}

static void get__ragged_slices(void **state)
{
	(void)state;
	for_each_way(get_ragged);
}

static void put_adjacent(struct pair *p)
{
	enum { N = 512 };
	static struct mc_slice s[N];
	fill(mc_mem_addr(p->src), POOL, 3);
	for (uint32_t i = 0; i < N; i++)
		s[i] = (struct mc_slice){p->src, (uint64_t)i * BLOCK, p->to, (uint64_t)(i + 1) * BLOCK, BLOCK};
	struct mc_req *req;
	assert_int_equal(mc_put(p->c.ctx[0], 1, s, N, NULL, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	struct mc_req_stats st = {.size = sizeof(st)};
	assert_int_equal(mc_req_query(req, &st), MC_OK);
	assert_int_equal(st.slices, N);
	assert_int_equal(st.runs, 1);
	mc_req_free(req);
	assert_memory_equal(mc_mem_addr(p->src), (uint8_t *)mc_mem_addr(p->dst) + BLOCK, (uint64_t)N * BLOCK);
}

static void put__adjacent_slices_merge(void **state)
{
	(void)state;
	for_each_way(put_adjacent);
}

static void put_nothing(struct pair *p)
{
	struct mc_counter *c;
	assert_int_equal(mc_counter_open(p->c.ctx[1], 5, MC_ANY_PEER, &c), MC_OK);
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = 5, .add = 3};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note};
	struct mc_slice zero = {p->src, POOL, p->to, POOL, 0};
	struct mc_req *req;
	assert_int_equal(mc_put(p->c.ctx[0], 1, NULL, 0, &opts, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 30 * SEC), MC_OK);
	mc_req_free(req);
	assert_int_equal(mc_put(p->c.ctx[0], 1, &zero, 1, &opts, &req), MC_OK);
	assert_int_equal(mc_counter_wait(c, 6, 30 * SEC), MC_OK);
	assert_int_equal(mc_req_wait(req, 30 * SEC), MC_OK);
	mc_req_free(req);
	mc_counter_close(c);
}

static void put__zero_slices_notify(void **state)
{
	(void)state;
	for_each_way(put_nothing);
}

static void bad_arguments(struct pair *p)
{
	struct mc_req *req = NULL;
	struct mc_slice s = {p->src, 0, p->to, 0, 64};
	struct mc_slice t = s;
	t.off = POOL - 63;
	assert_int_equal(mc_put(p->c.ctx[0], 1, &t, 1, NULL, &req), MC_ERR_RANGE);
	t = s;
	t.roff = UINT64_MAX - 10;
	assert_int_equal(mc_put(p->c.ctx[0], 1, &t, 1, NULL, &req), MC_ERR_RANGE);
	t = s;
	t.mem = NULL;
	assert_int_equal(mc_put(p->c.ctx[0], 1, &t, 1, NULL, &req), MC_ERR_INVAL);
	assert_int_equal(mc_put(p->c.ctx[0], 0, &s, 1, NULL, &req), MC_ERR_INVAL); /* rmem of another peer */
	assert_int_equal(mc_put(p->c.ctx[0], 2, &s, 1, NULL, &req), MC_ERR_INVAL);
	assert_int_equal(mc_put(p->c.ctx[0], 1, NULL, 1, NULL, &req), MC_ERR_INVAL);
	struct mc_notify note = {.size = sizeof(note), .flags = 64};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note};
	assert_int_equal(mc_put(p->c.ctx[0], 1, &s, 1, &opts, &req), MC_ERR_INVAL);
	assert_int_equal(mc_get(p->c.ctx[0], 1, &s, 1, &opts, &req), MC_ERR_INVAL);
	note = (struct mc_notify){
		.size = sizeof(note), .flags = MC_NOTIFY_NOTE, .data = "x", .data_len = MC_NOTE_MAX + 1};
	assert_int_equal(mc_put(p->c.ctx[0], 1, &s, 1, &opts, &req), MC_ERR_INVAL);
	opts.size = 1;
	assert_int_equal(mc_put(p->c.ctx[0], 1, &s, 1, &opts, &req), MC_ERR_INVAL);
	assert_null(req);
}

static void put__bad_arguments(void **state)
{
	(void)state;
	for_each_way(bad_arguments);
}

/* The peer frees the region: an error, never wrong data; and no notification. */
static void freed_region(struct pair *p)
{
	struct mc_mem *gone;
	struct mc_rmem *to;
	cluster_share(&p->c, 1, 0, 1 << 20, &gone, &to);
	assert_int_equal(mc_mem_free(gone), MC_OK);
	struct mc_counter *c;
	assert_int_equal(mc_counter_open(p->c.ctx[1], 9, 0, &c), MC_OK);
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = 9, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note};
	struct mc_slice s = {p->src, 0, to, 0, 1 << 20};
	struct mc_req *req = NULL;
	mc_status_t st = mc_put(p->c.ctx[0], 1, &s, 1, &opts, &req);
	if (st == MC_OK)
		st = mc_req_wait(req, 30 * SEC);
	assert_int_equal(st, MC_ERR_STALE);
	mc_req_free(req);
	req = NULL;
	st = mc_get(p->c.ctx[0], 1, &s, 1, NULL, &req);
	if (st == MC_OK)
		st = mc_req_wait(req, 30 * SEC);
	assert_int_equal(st, MC_ERR_STALE);
	mc_req_free(req);
	/* The link still works, and what was refused left no trace. */
	s.rmem = p->to;
	assert_int_equal(mc_put(p->c.ctx[0], 1, &s, 1, &opts, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 30 * SEC), MC_OK);
	mc_req_free(req);
	assert_int_equal(mc_counter_wait(c, 1, 30 * SEC), MC_OK);
	assert_int_equal(mc_counter_read(c), 1);
	mc_counter_close(c);
	mc_rmem_release(to);
}

static void put__region_freed_at_target(void **state)
{
	(void)state;
	for_each_way(freed_region);
}

static void notes_in_order(struct pair *p)
{
	enum { N = 3000 };
	static uint8_t big[MC_NOTE_MAX];
	for (uint32_t i = 0; i < N; i++) {
		uint32_t len = i % 50 == 0 ? MC_NOTE_MAX - i : 4;
		memcpy(big, &i, sizeof(i));
		assert_int_equal(mc_note_send(p->c.ctx[0], 1, i, big, len, NULL), MC_OK);
	}
	for (uint32_t i = 0; i < N; i++) {
		struct mc_note *n;
		assert_int_equal(mc_note_recv(p->c.ctx[1], 20 * SEC, &n), MC_OK);
		assert_int_equal(n->tag, i);
		assert_int_equal(n->len, i % 50 == 0 ? MC_NOTE_MAX - i : 4);
		assert_memory_equal(n->data, &i, sizeof(i));
		mc_note_free(n);
	}
}

static void note_send__order_and_sizes(void **state)
{
	(void)state;
	for_each_way(notes_in_order);
}

/* Callers' own memory on both sides, and many requests at once from four threads. */
struct poster {
	struct pair *p;
	struct mc_mem *src;
	struct mc_rmem *to;
	uint32_t id;
	mc_status_t status;
};

static void *post_many(void *arg)
{
	struct poster *t = arg;
	struct mc_req *req[32];
	for (uint32_t i = 0; i < 32; i++) {
		uint64_t off = ((uint64_t)t->id * 32 + i) * 3 * BLOCK;
		struct mc_slice s[2] = {{t->src, off, t->to, off, BLOCK},
					{t->src, off + 2 * BLOCK, t->to, off + 2 * BLOCK, 77}};
		struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = 1000, .add = 1};
		struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note};
		t->status = mc_put(t->p->c.ctx[0], 1, s, 2, &opts, &req[i]);
		if (t->status != MC_OK)
			return NULL;
	}
	for (uint32_t i = 0; i < 32; i++) {
		mc_status_t s = mc_req_wait(req[i], 20 * SEC);
		t->status = s != MC_OK ? s : t->status;
		mc_req_free(req[i]);
	}
	return NULL;
}

static void four_threads(struct pair *p)
{
	uint8_t *a = malloc(POOL), *b = calloc(1, POOL);
	fill(a, POOL, 55);
	struct mc_region ra = {.size = sizeof(ra), .addr = a, .len = POOL, .device = -1, .fd = -1}, rb = ra;
	rb.addr = b;
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	assert_int_equal(mc_mem_register(p->c.ctx[0], &ra, &src), MC_OK);
	assert_int_equal(mc_mem_register(p->c.ctx[1], &rb, &dst), MC_OK);
	uint8_t blob[4096];
	uint32_t len = sizeof(blob);
	assert_int_equal(mc_mem_export(dst, blob, &len), MC_OK);
	assert_int_equal(mc_mem_import(p->c.ctx[0], 1, blob, len, &to), MC_OK);
	struct mc_counter *c;
	assert_int_equal(mc_counter_open(p->c.ctx[1], 1000, 0, &c), MC_OK);
	pthread_t t[4];
	struct poster po[4];
	for (uint32_t i = 0; i < 4; i++) {
		po[i] = (struct poster){.p = p, .src = src, .to = to, .id = i};
		pthread_create(&t[i], NULL, post_many, &po[i]);
	}
	assert_int_equal(mc_counter_wait(c, 128, 30 * SEC), MC_OK);
	for (uint32_t i = 0; i < 128; i++) {
		assert_memory_equal(a + i * 3 * BLOCK, b + i * 3 * BLOCK, BLOCK);
		assert_int_equal(b[i * 3 * BLOCK + BLOCK], 0);
		assert_memory_equal(a + (i * 3 + 2) * BLOCK, b + (i * 3 + 2) * BLOCK, 77);
	}
	for (uint32_t i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(po[i].status, MC_OK);
	}
	mc_counter_close(c);
	mc_rmem_release(to);
	assert_int_equal(mc_mem_free(src), MC_OK);
	assert_int_equal(mc_mem_free(dst), MC_OK);
	free(a);
	free(b);
}

static void put__registered_memory_from_four_threads(void **state)
{
	(void)state;
	for_each_way(four_threads);
}

static void hostile_blobs(struct pair *p)
{
	uint8_t blob[4096], bad[4096];
	uint32_t len = 0;
	assert_int_equal(mc_mem_export(p->dst, NULL, &len), MC_ERR_NOSPC);
	uint32_t need = len;
	len = need - 1;
	assert_int_equal(mc_mem_export(p->dst, blob, &len), MC_ERR_NOSPC);
	assert_int_equal(len, need);
	assert_int_equal(mc_mem_export(p->dst, blob, &len), MC_OK);
	struct mc_rmem *r;
	assert_int_equal(mc_mem_import(p->c.ctx[0], 0, blob, len, &r), MC_ERR_STALE); /* not its exporter */
	for (uint32_t cut = 0; cut < len; cut += 3)
		assert_int_not_equal(mc_mem_import(p->c.ctx[0], 1, blob, cut, &r), MC_OK);
	/* Without a job key any field may be forged: an error or a usable descriptor, never a crash. */
	for (uint32_t i = 0; i < 2000; i++) {
		memcpy(bad, blob, len);
		bad[rnd() % len] ^= (uint8_t)(1 + rnd() % 255);
		if (mc_mem_import(p->c.ctx[0], 1, bad, len, &r) == MC_OK)
			mc_rmem_release(r);
	}
}

static void import__hostile_blobs(void **state)
{
	(void)state;
	for_each_way(hostile_blobs);
}

/* A peer that stops answering: the deadline ends the request, cancel proves or declares the peer lost. */
static void deadline__frozen_link(void **state)
{
	(void)state;
	struct pair p;
	pair_up(&p, &ways[1]);
	for (uint32_t i = 0; i < 2; i++)
		p.c.ctx[i]->cfg.cancel_timeout = SEC / 5;
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 1, .n = 1});
	struct mc_slice s = {p.src, 0, p.to, 0, POOL};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .timeout_ns = SEC / 20};
	struct mc_req *req, *other;
	assert_int_equal(mc_put(p.c.ctx[0], 1, &s, 1, &opts, &req), MC_OK);
	opts.timeout_ns = 0;
	/* What the deadline brings about may be over before this thread runs again. */
	mc_status_t st = mc_put(p.c.ctx[0], 1, &s, 1, &opts, &other);
	if (st != MC_OK)
		other = NULL;
	assert_int_equal(mc_req_wait(req, 30 * SEC), MC_ERR_TIMEOUT);
	assert_int_equal(st == MC_OK ? mc_req_wait(other, 30 * SEC) : st, MC_ERR_PEER_DOWN);
	struct mc_fault f = {.size = sizeof(f)};
	assert_int_equal(mc_fault_next(p.c.ctx[0], &f), MC_OK);
	assert_int_equal(f.peer, 1);
	assert_int_equal(mc_fault_next(p.c.ctx[0], &f), MC_ERR_AGAIN);
	mc_req_free(req);
	mc_req_free(other);
	pair_down(&p);
}

static void cancel__nothing_lands_afterwards(void **state)
{
	(void)state;
	struct pair p;
	pair_up(&p, &ways[1]);
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 1, .n = 1});
	fill(mc_mem_addr(p.src), POOL, 1);
	struct mc_slice s = {p.src, 0, p.to, 0, POOL};
	struct mc_counter *c;
	assert_int_equal(mc_counter_open(p.c.ctx[1], 4, 0, &c), MC_OK);
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = 4, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note};
	struct mc_req *req;
	assert_int_equal(mc_put(p.c.ctx[0], 1, &s, 1, &opts, &req), MC_OK);
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 1, .n = 0});
	mc_status_t st = mc_req_cancel(req);
	assert_true(st == MC_ERR_CANCELED || st == MC_OK);
	if (st == MC_ERR_CANCELED) {
		/* What is there now stays: the rest of the pool may be reused at once. */
		uint8_t *copy = malloc(POOL);
		memcpy(copy, mc_mem_addr(p.dst), POOL);
		assert_int_equal(mc_connect(p.c.ctx[0], 1, 30 * SEC),
				 MC_OK); /* an echo behind anything that was under way */
		assert_memory_equal(copy, mc_mem_addr(p.dst), POOL);
		free(copy);
		assert_int_equal(mc_counter_read(c), 0);
	}
	mc_req_free(req);
	mc_counter_close(c);
	pair_down(&p);
}

static void peer_killed(struct pair *p)
{
	struct mc_slice s = {p->src, 0, p->to, 0, POOL};
	struct mc_counter *c;
	assert_int_equal(mc_counter_open(p->c.ctx[1], 8, 0, &c), MC_OK);
	cluster_fault(&p->c, 0, (struct mc_loop_fault){.kind = MC_LOOP_MANUAL, .peer = 1, .n = 1});
	cluster_fault(&p->c, 0, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 1, .n = 1});
	struct mc_req *req;
	assert_int_equal(mc_put(p->c.ctx[0], 1, &s, 1, NULL, &req), MC_OK);
	cluster_fault(&p->c, 0, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = 1});
	assert_int_equal(mc_req_wait(req, 30 * SEC), MC_ERR_PEER_DOWN);
	mc_req_free(req);
	assert_int_equal(mc_counter_wait(c, 1, 30 * SEC), MC_ERR_PEER_DOWN);
	mc_counter_close(c);
	assert_int_equal(mc_put(p->c.ctx[0], 1, &s, 1, NULL, &req), MC_ERR_PEER_DOWN);
	struct mc_peer_info info = {.size = sizeof(info)};
	assert_int_equal(mc_peer_query(p->c.ctx[0], 1, &info), MC_OK);
	assert_int_equal(info.state, MC_ERR_PEER_DOWN);
	struct mc_rmem *r;
	assert_int_equal(mc_mem_lookup(p->c.ctx[0], 1, "never", SEC, &r), MC_ERR_PEER_DOWN);
	assert_int_equal(mc_barrier(mc_group_world(p->c.ctx[0]), SEC), MC_ERR_PEER_DOWN);
}

static void peer_down__ends_everything_of_that_peer(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct pair p;
		pair_up(&p, &ways[i]);
		peer_killed(&p);
		pair_down(&p);
	}
}

/* The backend takes two slices at a time: everything still arrives, in one request with one notification. */
static void post__partial_acceptance(void **state)
{
	(void)state;
	struct pair p;
	pair_up(&p, &ways[0]);
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_TAKE, .n = 2});
	put_blocks(&p);
	pair_down(&p);
}

static void post__fails_midway(void **state)
{
	(void)state;
	struct pair p;
	pair_up(&p, &ways[0]);
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_TAKE, .n = 1});
	cluster_fault(&p.c, 0, (struct mc_loop_fault){.kind = MC_LOOP_FAIL, .slot = MC_LOOP_DONE, .kth = 2,
						      .status = MC_ERR_NOMEM});
	struct mc_slice s[3];
	for (uint64_t i = 0; i < 3; i++)
		s[i] = (struct mc_slice){p.src, i * 2 * BLOCK, p.to, i * 3 * BLOCK, BLOCK};
	struct mc_counter *c;
	assert_int_equal(mc_counter_open(p.c.ctx[1], 4, 0, &c), MC_OK);
	struct mc_notify note = {.size = sizeof(note), .flags = MC_NOTIFY_COUNT, .tag = 4, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &note};
	struct mc_req *req;
	assert_int_equal(mc_put(p.c.ctx[0], 1, s, 3, &opts, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 30 * SEC), MC_ERR_NOMEM);
	mc_req_free(req);
	assert_int_equal(mc_connect(p.c.ctx[0], 1, 30 * SEC), MC_OK);
	assert_int_equal(mc_counter_read(c), 0);
	mc_counter_close(c);
	pair_down(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put__random_blocks_arrive_before_their_notification),
		cmocka_unit_test(get__ragged_slices),
		cmocka_unit_test(put__adjacent_slices_merge),
		cmocka_unit_test(put__zero_slices_notify),
		cmocka_unit_test(put__bad_arguments),
		cmocka_unit_test(put__region_freed_at_target),
		cmocka_unit_test(note_send__order_and_sizes),
		cmocka_unit_test(put__registered_memory_from_four_threads),
		cmocka_unit_test(import__hostile_blobs),
		cmocka_unit_test(deadline__frozen_link),
		cmocka_unit_test(cancel__nothing_lands_afterwards),
		cmocka_unit_test(peer_down__ends_everything_of_that_peer),
		cmocka_unit_test(post__partial_acceptance),
		cmocka_unit_test(post__fails_midway),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

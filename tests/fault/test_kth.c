/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The k-th fallible call fails, k = 1, 2, ... until a whole scenario passes without meeting the fault. Whatever fails:
 * a status comes back in bounded time, no byte is wrong where success was reported, nothing leaks, and what is left can
 * be finalized.
 * Faults: each slot of the backend (loop's injector), and memory allocation inside libmc (linked with --wrap).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../unit/cluster.h"

enum { POOL = 256 * 1024 };
#define STEP_NS (SEC / 4)

/* ---- allocation faults: count down in the threads of the scenario ---- */

static atomic_int alloc_countdown; /* 0: off */
static atomic_int alloc_hit;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);

static bool fail_now(void)
{
	int left = atomic_load(&alloc_countdown);
	while (left > 0 && !atomic_compare_exchange_weak(&alloc_countdown, &left, left - 1))
		;
	if (left != 1)
		return false;
	atomic_store(&alloc_hit, 1);
	return true;
}

void *__wrap_malloc(size_t n)
{
	return fail_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
	return fail_now() ? NULL : __real_calloc(n, m);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fail_now() ? NULL : __real_realloc(p, n);
}

/* ---- the scenario: every step may fail; a step that reports success must have done its work ---- */

static void quiet(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

struct scenario {
	struct cluster c;
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	struct mc_counter *count;
	bool packed;
};

static mc_status_t transfer(struct scenario *s, bool get)
{
	struct mc_slice slice[8];
	uint8_t *a = mc_mem_addr(s->src), *b = mc_mem_addr(s->dst);
	for (uint64_t i = 0; i < 8; i++)
		slice[i] = (struct mc_slice){s->src, i * 8192, s->to, (7 - i) * 16384, 5000};
	memset(a, get ? 0 : 0xab, POOL);
	memset(b, get ? 0xcd : 0, POOL);
	struct mc_notify n = {.size = sizeof(n), .flags = MC_NOTIFY_COUNT | MC_NOTIFY_NOTE, .tag = 3, .add = 1};
	struct mc_xfer_opts o = {.size = sizeof(o), .timeout_ns = STEP_NS, .notify = get ? NULL : &n};
	struct mc_req *req;
	mc_status_t st = get ? mc_get(s->c.ctx[0], 1, slice, 8, &o, &req) : mc_put(s->c.ctx[0], 1, slice, 8, &o, &req);
	if (st != MC_OK)
		return st;
	st = mc_req_wait(req, 20 * SEC);
	assert_int_not_equal(st, MC_ERR_AGAIN);
	mc_req_free(req);
	for (uint64_t i = 0; i < 8 && st == MC_OK; i++)
		assert_memory_equal(a + slice[i].off, b + slice[i].roff, 5000);
	return st;
}

/* A prepared list: created, posted whole and in part, given back while requests may run. */
static void prepared(struct scenario *s)
{
	struct mc_slice slice[8];
	uint8_t *a = mc_mem_addr(s->src), *b = mc_mem_addr(s->dst);
	struct mc_dlist *l;
	struct mc_req *req[2];
	mc_status_t st[2];
	for (uint64_t i = 0; i < 8; i++)
		slice[i] = (struct mc_slice){s->src, i * 8192, s->to, (7 - i) * 16384, 5000};
	if (mc_dlist_create(s->c.ctx[0], 1, slice, 8, &l) != MC_OK)
		return;
	memset(a, 0x5a, POOL);
	memset(b, 0, POOL);
	struct mc_xfer_opts o = {.size = sizeof(o), .timeout_ns = STEP_NS};
	st[0] = mc_dlist_put_some(l, (uint32_t[]){1, 3, 2}, (uint32_t[]){4, 5, 2}, 3, &o, &req[0]);
	st[1] = mc_dlist_put(l, &o, &req[1]);
	mc_dlist_free(l);
	for (int k = 0; k < 2; k++) {
		if (st[k] != MC_OK)
			continue;
		st[k] = mc_req_wait(req[k], 20 * SEC);
		assert_int_not_equal(st[k], MC_ERR_AGAIN);
		mc_req_free(req[k]);
	}
	for (uint64_t i = 0; i < 8; i++)
		if (st[1] == MC_OK || (st[0] == MC_OK && (i == 2 || i == 4 || i == 5)))
			assert_memory_equal(a, b + slice[i].roff, 5000);
}

static void steps(struct scenario *s)
{
	struct mc_ctx *a = s->c.ctx[0], *b = s->c.ctx[1];
	struct mc_note *note;
	bool told = false;
	if (mc_mem_alloc(a, POOL, NULL, &s->src) != MC_OK || mc_mem_alloc(b, POOL, NULL, &s->dst) != MC_OK ||
	    mc_counter_open(b, 3, 0, &s->count) != MC_OK || mc_mem_publish(s->dst, "p") != MC_OK ||
	    mc_mem_lookup(a, 1, "p", STEP_NS, &s->to) != MC_OK)
		return;
	told = transfer(s, false) == MC_OK;
	/* The notification of a put that succeeded comes, unless one of the two lost the other meanwhile. */
	if (told) {
		struct mc_peer_info i = {.size = sizeof(i)}, k = {.size = sizeof(k)};
		mc_status_t st = MC_ERR_TIMEOUT;
		int64_t end = mc_now_ns() + 20 * SEC;
		while (st == MC_ERR_TIMEOUT && i.state >= 0 && k.state >= 0 && mc_now_ns() < end) {
			st = mc_counter_wait(s->count, 1, SEC / 10);
			assert_int_equal(mc_peer_query(b, 0, &i), MC_OK);
			assert_int_equal(mc_peer_query(a, 1, &k), MC_OK);
		}
		assert_true(st == MC_OK || i.state < 0 || k.state < 0);
		told = st == MC_OK;
	}
	assert_true(mc_counter_read(s->count) <= 1);
	(void)transfer(s, true);
	prepared(s);
	if (mc_note_send(a, 1, 9, "n", 1, NULL) == MC_OK && told)
		while (mc_note_recv(b, SEC / 100, &note) == MC_OK)
			mc_note_free(note);
}

static void run(struct scenario *s, const struct mc_loop_fault *f)
{
	s->c.ctx[0]->cfg.cancel_timeout = s->c.ctx[1]->cfg.cancel_timeout = SEC / 10;
	if (s->packed)
		cluster_fault(&s->c, 0,
			      (struct mc_loop_fault){.kind = MC_LOOP_FAIL,
						     .slot = MC_LOOP_RMEM_IMPORT,
						     .kth = 1,
						     .status = MC_ERR_UNSUPPORTED});
	if (f != NULL)
		cluster_fault(&s->c, f->n, *f);
	steps(s);
	mc_counter_close(s->count);
	mc_rmem_release(s->to);
}

static void finish(struct scenario *s)
{
	/* Ends within the bound also when a peer is lost: finalize does not hang. LeakSanitizer looks at the rest. */
	int64_t start = mc_now_ns();
	cluster_down(&s->c);
	assert_true(mc_now_ns() - start < 20 * SEC);
}

static void sweep_slot(enum mc_loop_slot slot, uint32_t side, bool packed, mc_status_t status)
{
	uint32_t calls = slot == MC_LOOP_POLL || slot == MC_LOOP_ARM ? 16 : 28;
	for (uint32_t k = 1; k <= calls; k++) {
		struct scenario s = {.packed = packed};
		cluster_up(&s.c, 2, "loop", "auto");
		struct mc_loop_fault f = {.kind = MC_LOOP_FAIL, .slot = slot, .kth = k, .status = status, .n = side};
		run(&s, &f);
		finish(&s);
	}
}

static void backend_slots(bool packed)
{
	static const struct {
		enum mc_loop_slot slot;
		mc_status_t status;
	} fault[] = {
		{MC_LOOP_MEM_REG, MC_ERR_NOMEM},
		{MC_LOOP_MEM_EXPORT, MC_ERR_NOMEM},
		{MC_LOOP_RMEM_IMPORT, MC_ERR_NOMEM},
		{MC_LOOP_EP_CREATE, MC_ERR_NOMEM},
		{MC_LOOP_EP_CONNECT, MC_ERR_UNSUPPORTED},
		{MC_LOOP_SEND, MC_ERR_PEER_DOWN},
		{MC_LOOP_SEND, MC_ERR_AGAIN},
		{MC_LOOP_POST, MC_ERR_AGAIN},
		{MC_LOOP_POST, MC_ERR_STALE},
		{MC_LOOP_POST, MC_ERR_PEER_DOWN},
		{MC_LOOP_DONE, MC_ERR_NOMEM},
		{MC_LOOP_SENT, MC_ERR_PEER_DOWN},
		{MC_LOOP_POLL, MC_ERR_DEVICE},
		{MC_LOOP_ARM, MC_ERR_AGAIN},
	};
	mc_log_set_sink(quiet, NULL);
	for (size_t i = 0; i < MC_ARRAY_LEN(fault); i++)
		for (uint32_t side = 0; side < 2; side++)
			sweep_slot(fault[i].slot, side, packed, fault[i].status);
	mc_log_set_sink(NULL, NULL);
}

static void kth_backend_call__one_sided(void **state)
{
	(void)state;
	backend_slots(false);
}

static void kth_backend_call__packed(void **state)
{
	(void)state;
	backend_slots(true);
}

static void allocations(bool packed)
{
	uint32_t k = 0;
	mc_log_set_sink(quiet, NULL);
	do {
		struct scenario s = {.packed = packed};
		cluster_up(&s.c, 2, "loop", "auto");
		atomic_store(&alloc_hit, 0);
		atomic_store(&alloc_countdown, (int)++k);
		run(&s, NULL);
		atomic_store(&alloc_countdown, 0);
		finish(&s);
	} while (atomic_load(&alloc_hit) != 0 && k < 500);
	mc_log_set_sink(NULL, NULL);
	print_message("  %u allocations failed in turn\n", k - 1);
	assert_true(k > 5 && k < 500);
}

static void kth_allocation__one_sided(void **state)
{
	(void)state;
	allocations(false);
}

static void kth_allocation__packed(void **state)
{
	(void)state;
	allocations(true);
}

/* mc_init alone: the k-th allocation of a job of one. */
static void kth_allocation__init(void **state)
{
	(void)state;
	int k = 0;
	mc_log_set_sink(quiet, NULL);
	do {
		struct mc_ctx *ctx = NULL;
		struct mc_params p = {.size = sizeof(p), .backend = "shm"};
		atomic_store(&alloc_hit, 0);
		atomic_store(&alloc_countdown, ++k);
		mc_status_t s = mc_init(&p, &ctx);
		atomic_store(&alloc_countdown, 0);
		assert_true((s == MC_OK) == (ctx != NULL));
		mc_finalize(ctx);
	} while (atomic_load(&alloc_hit) != 0 && k < 1000);
	mc_log_set_sink(NULL, NULL);
	print_message("  %d allocations failed in turn\n", k - 1);
	assert_true(k > 5 && k < 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kth_backend_call__one_sided), cmocka_unit_test(kth_backend_call__packed),
		cmocka_unit_test(kth_allocation__one_sided),   cmocka_unit_test(kth_allocation__packed),
		cmocka_unit_test(kth_allocation__init),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

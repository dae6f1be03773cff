/* SPDX-License-Identifier: BSD-3-Clause */
/* Context, settings errors, progress in both modes, idle cost, connect and peer information. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cluster.h"

static char last_line[512];

static void keep_line(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static void init__bad_arguments_and_settings(void **state)
{
	(void)state;
	struct mc_ctx *ctx = NULL;
	struct mc_params p = {.size = 3};
	mc_log_set_sink(keep_line, NULL);
	assert_int_equal(mc_init(NULL, NULL), MC_ERR_INVAL);
	assert_int_equal(mc_init(&p, &ctx), MC_ERR_INVAL);
	p = (struct mc_params){.size = sizeof(p), .transport = "pigeon"};
	assert_int_equal(mc_init(&p, &ctx), MC_ERR_CONFIG);
	assert_non_null(strstr(last_line, "pigeon"));
	assert_non_null(strstr(last_line, "tcp"));
	p = (struct mc_params){.size = sizeof(p), .role = "a-role-whose-name-is-much-longer-than-it-may-be"};
	assert_int_equal(mc_init(&p, &ctx), MC_ERR_CONFIG);
	p = (struct mc_params){.size = sizeof(p), .backend = "loop"}; /* needs a hub */
	assert_int_equal(mc_init(&p, &ctx), MC_ERR_DEVICE);
	assert_non_null(strstr(last_line, "loop"));
	p = (struct mc_params){.size = sizeof(p), .backend = "shm", .transport = "rdma"};
	assert_int_equal(mc_init(&p, &ctx), MC_ERR_DEVICE);
	setenv("MC_TRANSPRT", "tcp", 1);
	assert_int_equal(mc_init(NULL, &ctx), MC_ERR_CONFIG);
	assert_non_null(strstr(last_line, "MC_TRANSPORT"));
	unsetenv("MC_TRANSPRT");
	mc_log_set_sink(NULL, NULL);
	assert_null(ctx);
}

static void init__alone(void **state)
{
	(void)state;
	struct mc_ctx *ctx;
	assert_int_equal(mc_init(NULL, &ctx), MC_OK);
	assert_int_equal(mc_rank(ctx), 0);
	assert_int_equal(mc_size(ctx), 1);
	assert_string_equal(mc_role(ctx), "none");
	assert_true(strlen(mc_job_id(ctx)) > 0);
	assert_int_equal(mc_barrier(mc_group_world(ctx), 0), MC_OK);
	/* A rank is a peer of itself. */
	struct mc_mem *a;
	struct mc_rmem *r;
	assert_int_equal(mc_mem_alloc(ctx, 65536, NULL, &a), MC_OK);
	assert_int_equal(mc_mem_publish(a, "self"), MC_OK);
	assert_int_equal(mc_mem_lookup(ctx, 0, "self", 30 * SEC, &r), MC_OK);
	memset(mc_mem_addr(a), 7, 4096);
	struct mc_slice s = {a, 0, r, 32768, 4096};
	struct mc_req *req;
	assert_int_equal(mc_put(ctx, 0, &s, 1, NULL, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 30 * SEC), MC_OK);
	assert_memory_equal(mc_mem_addr(a), (uint8_t *)mc_mem_addr(a) + 32768, 4096);
	mc_req_free(req);
	mc_rmem_release(r);
	assert_int_equal(mc_mem_free(a), MC_OK);
	mc_finalize(ctx);
	mc_finalize(NULL);
}

static void init__times_out_without_the_others(void **state)
{
	(void)state;
	struct mc_hub *hub;
	struct mc_ctx *ctx;
	assert_int_equal(mc_hub_create(2, &hub), MC_OK);
	struct mc_params p = {.size = sizeof(p), .hub = hub, .rank = 1, .init_timeout_ns = SEC / 10};
	mc_log_set_sink(keep_line, NULL);
	assert_int_equal(mc_init(&p, &ctx), MC_ERR_TIMEOUT);
	p.rank = 2;
	assert_int_equal(mc_init(&p, &ctx), MC_ERR_INVAL);
	mc_log_set_sink(NULL, NULL);
	mc_hub_free(hub);
}

static void finalize__open_objects_and_running_requests(void **state)
{
	(void)state;
	struct cluster c = {0};
	cluster_up(&c, 2, "loop", "auto");
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	assert_int_equal(mc_mem_alloc(c.ctx[0], 1 << 20, NULL, &src), MC_OK);
	cluster_share(&c, 1, 0, 1 << 20, &dst, &to);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_MANUAL, .peer = 1, .n = 1});
	struct mc_slice s = {src, 0, to, 0, 1 << 20};
	struct mc_req *req;
	c.ctx[0]->cfg.cancel_timeout = SEC / 10;
	assert_int_equal(mc_put(c.ctx[0], 1, &s, 1, NULL, &req), MC_OK);
	assert_int_equal(mc_mem_free(src), MC_ERR_BUSY);
	assert_int_equal(mc_note_send(c.ctx[0], 1, 1, "x", 1, NULL), MC_OK);
	struct mc_counter *cnt;
	assert_int_equal(mc_counter_open(c.ctx[1], 1, MC_ANY_PEER, &cnt), MC_OK);
	mc_log_set_sink(keep_line, NULL);
	cluster_down(&c); /* LeakSanitizer is the judge */
	mc_log_set_sink(NULL, NULL);
}

/* An event loop of the program's own: poll on the descriptor, as the header prescribes. */
static void *serve_manually(void *arg)
{
	struct mc_ctx *ctx = arg;
	struct pollfd f = {.fd = mc_progress_fd(ctx), .events = POLLIN};
	struct mc_note *n = NULL;
	uint32_t echoed = 0;
	while (echoed < 100) {
		while (mc_progress(ctx) > 0)
			;
		while (mc_note_recv(ctx, 0, &n) == MC_OK) {
			if (mc_note_send(ctx, n->peer, n->tag + 1, NULL, 0, NULL) != MC_OK)
				return NULL;
			mc_note_free(n);
			echoed++;
		}
		int64_t ns;
		if (echoed < 100 && mc_progress_arm(ctx, &ns) == MC_OK &&
		    poll(&f, 1, ns == MC_FOREVER ? 10000 : (int)(ns / 1000000 + 1)) < 0)
			return NULL;
	}
	return ctx;
}

static void progress__manual_with_descriptor(void **state)
{
	(void)state;
	static const char *const backend[] = {"loop", "shm"};
	for (size_t b = 0; b < MC_ARRAY_LEN(backend); b++) {
		struct cluster c = {.progress = "manual"};
		cluster_up(&c, 2, backend[b], "auto");
		pthread_t t;
		void *ok;
		pthread_create(&t, NULL, serve_manually, c.ctx[1]);
		for (uint64_t i = 0; i < 100; i++) {
			struct mc_note *n;
			assert_int_equal(mc_note_send(c.ctx[0], 1, i, NULL, 0, NULL), MC_OK);
			assert_int_equal(mc_note_recv(c.ctx[0], 30 * SEC, &n), MC_OK);
			assert_int_equal(n->tag, i + 1);
			mc_note_free(n);
		}
		pthread_join(t, &ok);
		assert_non_null(ok);
		cluster_down(&c);
	}
}

static int64_t cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * SEC + ts.tv_nsec;
}

/*
 * Contexts that wait cost next to nothing. A bound far above the aim of 1 % per rank keeps a slow machine from failing
 * it.
 */
static void progress__idle_sleeps(void **state)
{
	(void)state;
	struct cluster c = {0};
	cluster_up(&c, 4, "shm", "auto");
	struct mc_note *n;
	for (uint32_t i = 1; i < 4; i++)
		assert_int_equal(mc_connect(c.ctx[0], i, 30 * SEC), MC_OK);
	int64_t start = cpu_ns();
	assert_int_equal(mc_note_recv(c.ctx[0], SEC, &n), MC_ERR_TIMEOUT);
	int64_t used = cpu_ns() - start;
	print_message("  four contexts idle for 1 s used %lld us of CPU\n", (long long)used / 1000);
	assert_true(used < SEC / 10);
	cluster_down(&c);
}

static void connect__and_information(void **state)
{
	(void)state;
	struct cluster c = {0};
	cluster_up(&c, 3, "shm", "auto");
	struct mc_peer_info i = {.size = sizeof(i)};
	assert_int_equal(mc_connect(c.ctx[0], 3, SEC), MC_ERR_INVAL);
	assert_int_equal(mc_peer_query(c.ctx[0], 3, &i), MC_ERR_INVAL);
	assert_int_equal(mc_peer_query(c.ctx[0], 1, &i), MC_OK);
	assert_int_equal(i.state, MC_IN_PROGRESS);
	assert_int_equal(mc_connect(c.ctx[0], 1, 30 * SEC), MC_OK);
	assert_int_equal(mc_peer_query(c.ctx[0], 1, &i), MC_OK);
	assert_int_equal(i.state, MC_OK);
	assert_string_equal(i.role, "decode");
	assert_int_equal(i.pid, getpid());
	assert_int_equal(i.same_node, 1);
	assert_int_not_equal(i.epoch, 0);
	assert_memory_equal(i.link, "shm", 3);
	i.size = 1;
	assert_int_equal(mc_peer_query(c.ctx[0], 1, &i), MC_ERR_INVAL);
	cluster_down(&c);
}

static void counter__early_arrivals_any_and_limits(void **state)
{
	(void)state;
	struct cluster c = {0};
	cluster_up(&c, 3, "loop", "auto");
	struct mc_counter *own, *any, *twice;
	struct mc_notify n = {.size = sizeof(n), .flags = MC_NOTIFY_COUNT, .tag = 7, .add = 2};
	struct mc_xfer_opts o = {.size = sizeof(o), .notify = &n};
	for (uint32_t from = 1; from < 3; from++) {
		assert_int_equal(mc_put(c.ctx[from], 0, NULL, 0, &o, NULL), MC_OK);
		assert_int_equal(mc_connect(c.ctx[from], 0, 30 * SEC), MC_OK); /* an echo behind it: it has arrived */
	}
	assert_int_equal(mc_counter_open(c.ctx[0], 7, 1, &own), MC_OK);
	assert_int_equal(mc_counter_read(own), 2);
	assert_int_equal(mc_counter_open(c.ctx[0], 7, MC_ANY_PEER, &any), MC_OK);
	assert_int_equal(mc_counter_read(any), 2); /* rank 2's; rank 1's had an owner */
	assert_int_equal(mc_counter_open(c.ctx[0], 7, 1, &twice), MC_ERR_BUSY);
	assert_int_equal(mc_counter_open(c.ctx[0], 7, 3, &twice), MC_ERR_INVAL);
	assert_int_equal(mc_put(c.ctx[1], 0, NULL, 0, &o, NULL), MC_OK);
	assert_int_equal(mc_counter_wait(own, 4, 30 * SEC), MC_OK);
	assert_int_equal(mc_counter_wait(any, 4, 30 * SEC), MC_OK);
	assert_int_equal(mc_counter_wait(any, 5, SEC / 20), MC_ERR_TIMEOUT);
	mc_counter_close(own);
	mc_counter_close(any);
	/* A sender that counts under ever new tags is stopped, not served until memory is gone. */
	mc_log_set_sink(keep_line, NULL);
	c.ctx[0]->cfg.counter_max = 100;
	mc_status_t s = MC_OK;
	for (uint64_t tag = 1000; tag < 100000 && s == MC_OK; tag++) {
		n.tag = tag;
		s = mc_put(c.ctx[2], 0, NULL, 0, &o, NULL);
	}
	assert_int_equal(s, MC_ERR_PEER_DOWN);
	struct mc_fault f = {.size = sizeof(f)};
	assert_int_equal(mc_fault_next(c.ctx[0], &f), MC_OK);
	assert_int_equal(f.peer, 2);
	mc_log_set_sink(NULL, NULL);
	cluster_down(&c);
}

static void mem__bad_arguments_and_names(void **state)
{
	(void)state;
	struct cluster c = {0};
	cluster_up(&c, 2, "shm", "auto");
	struct mc_mem *a, *b;
	struct mc_rmem *r;
	struct mc_mem_params p = {.size = sizeof(p), .flags = MC_MEM_HUGE, .numa_node = -1};
	mc_log_set_sink(keep_line, NULL);
	assert_int_equal(mc_mem_alloc(c.ctx[0], 0, NULL, &a), MC_ERR_INVAL);
	assert_int_equal(mc_mem_alloc(c.ctx[0], UINT64_MAX, NULL, &a), MC_ERR_INVAL);
	assert_int_equal(mc_mem_alloc(c.ctx[0], UINT64_C(1) << 45, NULL, &a), MC_ERR_NOMEM);
	assert_non_null(strstr(last_line, "left"));
	p.size = 1;
	assert_int_equal(mc_mem_alloc(c.ctx[0], 4096, &p, &a), MC_ERR_INVAL);
	p.size = sizeof(p);
	assert_int_equal(mc_mem_alloc(c.ctx[0], 10000, &p, &a),
			 MC_OK); /* falls back where no huge pages are reserved */
	assert_int_equal(mc_mem_len(a), 10000);
	mc_log_set_sink(NULL, NULL);
	struct mc_region reg = {.size = sizeof(reg), .addr = NULL, .len = 10, .device = -1, .fd = -1};
	assert_int_equal(mc_mem_register(c.ctx[0], &reg, &b), MC_ERR_INVAL);
	reg.addr = &p;
	reg.len = 0;
	assert_int_equal(mc_mem_register(c.ctx[0], &reg, &b), MC_ERR_INVAL);
	reg.len = sizeof(p);
	reg.kind = MC_KIND_CUDA;
	assert_int_equal(mc_mem_register(c.ctx[0], &reg, &b), MC_ERR_UNSUPPORTED);
	reg.kind = MC_KIND_HOST;
	assert_int_equal(mc_mem_register(c.ctx[0], &reg, &b), MC_OK);
	char longname[MC_NAME_MAX + 1];
	memset(longname, 'n', sizeof(longname));
	longname[MC_NAME_MAX] = '\0';
	assert_int_equal(mc_mem_publish(a, longname), MC_ERR_INVAL);
	assert_int_equal(mc_mem_publish(a, ""), MC_ERR_INVAL);
	assert_int_equal(mc_mem_publish(a, "x"), MC_OK);
	assert_int_equal(mc_mem_publish(b, "x"), MC_ERR_BUSY);
	assert_int_equal(mc_mem_publish(a, "y"), MC_ERR_BUSY);
	assert_int_equal(mc_mem_lookup(c.ctx[1], 0, "z", SEC / 20, &r), MC_ERR_TIMEOUT);
	assert_int_equal(mc_mem_lookup(c.ctx[1], 0, "x", 30 * SEC, &r), MC_OK);
	mc_rmem_release(r);
	mc_rmem_release(NULL);
	assert_int_equal(mc_mem_free(a), MC_OK);
	assert_int_equal(mc_mem_free(b), MC_OK);
	assert_int_equal(mc_mem_free(NULL), MC_OK);
	cluster_down(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(init__bad_arguments_and_settings),
		cmocka_unit_test(init__alone),
		cmocka_unit_test(init__times_out_without_the_others),
		cmocka_unit_test(finalize__open_objects_and_running_requests),
		cmocka_unit_test(progress__manual_with_descriptor),
		cmocka_unit_test(progress__idle_sleeps),
		cmocka_unit_test(connect__and_information),
		cmocka_unit_test(counter__early_arrivals_any_and_limits),
		cmocka_unit_test(mem__bad_arguments_and_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_link.c - how a peer's link is chosen where the best backend can only promise to try (MC_CAP_PROVE): loop plays
 * it, shared memory is what is fallen back to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge.h"
#include "cluster.h"

extern const struct mc_be_ops mc_be_shm;
extern const struct mc_boot_ops mc_boot_hub;

/* In place of builtin.c. */
const struct mc_be_ops *const mc_builtin_backends[] = {&mc_be_loop, &mc_be_shm, NULL};
const struct mc_boot_ops *const mc_builtin_boots[] = {&mc_boot_hub, NULL};
const struct mc_bridge_ops *const mc_builtin_bridges[] = {NULL};

enum { LEN = 1 << 16 };

static uint32_t warnings_n;
static char warning[1024];

static void count_warnings(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	if (level != MC_LOG_WARN)
		return;
	warnings_n++;
	snprintf(warning, sizeof(warning), "%s", line);
}

static void up(struct cluster *c, const char *backend, const char *progress)
{
	*c = (struct cluster){.progress = progress, .loop_caps = MC_CAP_PROVE};
	cluster_up(c, 3, backend, "auto");
	cluster_fault(c, 0, (struct mc_loop_fault){.kind = MC_LOOP_PROVE, .n = 1});
}

static void link_of(struct cluster *c, uint32_t peer, struct mc_peer_info *info)
{
	info->size = sizeof(*info);
	assert_int_equal(mc_peer_query(c->ctx[0], peer, info), MC_OK);
}

static void turn(struct cluster *c, uint32_t rounds)
{
	for (uint32_t i = 0; i < rounds; i++)
		for (uint32_t k = 0; k < c->n; k++)
			mc_progress(c->ctx[k]);
}

static void prove__nothing_leaves_before(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_note *n;
	struct mc_peer_info info;
	struct mc_req *req;
	up(&c, "auto", "manual");
	assert_int_equal(mc_note_send(c.ctx[0], 1, 7, "x", 1, &req), MC_OK);
	turn(&c, 10);
	assert_int_equal(mc_req_test(req), MC_IN_PROGRESS);
	assert_int_equal(mc_note_recv(c.ctx[1], 0, &n), MC_ERR_TIMEOUT);
	link_of(&c, 1, &info);
	assert_int_equal(info.state, MC_IN_PROGRESS);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_PROVE});
	turn(&c, 10);
	assert_int_equal(mc_req_test(req), MC_OK);
	assert_int_equal(mc_note_recv(c.ctx[1], 0, &n), MC_OK);
	assert_int_equal(n->tag, 7);
	link_of(&c, 1, &info);
	assert_int_equal(info.state, MC_OK);
	assert_string_equal(info.link, "loop");
	assert_string_equal(info.link_reason, "");
	mc_note_free(n);
	mc_req_free(req);
	cluster_down(&c);
}

/* A region of rank 1, and its descriptor at rank 0, whose link to it is not proved. */
static void early_descriptor(struct cluster *c, struct mc_mem **mem, struct mc_rmem **rmem)
{
	uint8_t blob[MC_BLOB_MAX];
	uint32_t len = sizeof(blob);
	assert_int_equal(mc_mem_alloc(c->ctx[1], LEN, NULL, mem), MC_OK);
	assert_int_equal(mc_mem_export(*mem, blob, &len), MC_OK);
	assert_int_equal(mc_mem_import(c->ctx[0], 1, blob, len, rmem), MC_OK);
	assert_int_equal(mc_mem_import(c->ctx[0], 1, blob, len / 2, rmem), MC_ERR_PROTO);
	assert_null((*rmem)->be_rmem);
}

static void put_and_compare(struct cluster *c, struct mc_mem *src, struct mc_mem *dst, struct mc_rmem *to,
			    struct mc_req *before)
{
	struct mc_slice s = {src, 0, to, 0, LEN};
	struct mc_req *req;
	if (before != NULL) {
		assert_int_equal(mc_req_wait(before, 20 * SEC), MC_OK);
		mc_req_free(before);
		assert_memory_equal(mc_mem_addr(src), mc_mem_addr(dst), LEN);
	}
	memset(mc_mem_addr(src), 0x33, LEN);
	assert_int_equal(mc_put(c->ctx[0], 1, &s, 1, NULL, &req), MC_OK);
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	assert_memory_equal(mc_mem_addr(src), mc_mem_addr(dst), LEN);
	mc_req_free(req);
}

static void prove__early_descriptor(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	struct mc_req *req;
	up(&c, "auto", "thread");
	early_descriptor(&c, &dst, &to);
	assert_int_equal(mc_mem_alloc(c.ctx[0], LEN, NULL, &src), MC_OK);
	memset(mc_mem_addr(src), 0x11, LEN);
	struct mc_slice s = {src, 0, to, 0, LEN};
	assert_int_equal(mc_put(c.ctx[0], 1, &s, 1, NULL, &req), MC_OK);
	assert_int_equal(mc_req_test(req), MC_IN_PROGRESS);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_PROVE});
	put_and_compare(&c, src, dst, to, req);
	assert_non_null(to->be_rmem); /* one-sided from here on */
	cluster_down(&c);
}

static void fall_back__to_the_next(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_mem *src, *dst;
	struct mc_rmem *to;
	struct mc_req *req, *big;
	struct mc_peer_info info;
	struct mc_fault fault = {.size = sizeof(fault)};
	struct mc_note *n;
	uint8_t *payload = malloc(MC_NOTE_MAX);
	up(&c, "auto", "thread");
	warnings_n = 0;
	mc_log_set_sink(count_warnings, NULL);
	early_descriptor(&c, &dst, &to);
	assert_int_equal(mc_mem_alloc(c.ctx[0], LEN, NULL, &src), MC_OK);
	memset(mc_mem_addr(src), 0x11, LEN);
	memset(payload, 0x77, MC_NOTE_MAX);
	struct mc_slice s = {src, 0, to, 0, LEN};
	assert_int_equal(mc_put(c.ctx[0], 1, &s, 1, NULL, &req), MC_OK);
	assert_int_equal(mc_note_send(c.ctx[0], 1, 9, payload, MC_NOTE_MAX, &big), MC_OK);
	assert_int_equal(mc_note_send(c.ctx[0], 2, 9, payload, 1, NULL), MC_OK);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = MC_ANY_PEER, .status = MC_ERR_AUTH});
	put_and_compare(&c, src, dst, to, req);
	assert_int_equal(mc_req_wait(big, 20 * SEC), MC_OK);
	assert_int_equal(mc_note_recv(c.ctx[1], 20 * SEC, &n), MC_OK);
	assert_int_equal(n->len, MC_NOTE_MAX);
	assert_memory_equal(n->data, payload, MC_NOTE_MAX);
	mc_note_free(n);
	assert_int_equal(mc_note_recv(c.ctx[2], 20 * SEC, &n), MC_OK);
	mc_note_free(n);
	link_of(&c, 1, &info);
	assert_memory_equal(info.link, "shm", 3);
	assert_non_null(strstr(info.link_reason, "loop: peer failed authentication"));
	assert_int_equal(info.state, MC_OK);
	assert_int_equal(mc_fault_next(c.ctx[0], &fault), MC_ERR_AGAIN); /* nobody was lost */
	assert_int_equal(warnings_n, 1);                                 /* for two peers */
	assert_non_null(strstr(warning, "loop: peer failed authentication"));
	mc_log_set_sink(NULL, NULL);
	mc_req_free(big);
	free(payload);
	cluster_down(&c);
}

/* Asked for by name there is no other. */
static void fall_back__not_from_what_was_asked_for(void **state)
{
	(void)state;
	struct cluster c;
	struct mc_req *req;
	struct mc_fault fault = {.size = sizeof(fault)};
	up(&c, "loop", "thread");
	mc_log_set_sink(count_warnings, NULL);
	assert_int_equal(mc_note_send(c.ctx[0], 1, 9, "x", 1, &req), MC_OK);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = MC_ANY_PEER, .status = MC_ERR_AUTH});
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_ERR_PEER_DOWN);
	assert_int_equal(mc_fault_next(c.ctx[0], &fault), MC_OK);
	assert_int_equal(fault.peer, 1);
	assert_non_null(strstr(fault.text, "loop: peer failed authentication"));
	mc_log_set_sink(NULL, NULL);
	mc_req_free(req);
	cluster_down(&c);
}

/* Once it was proved, a link that breaks is a lost peer. */
static void fall_back__not_after_up(void **state)
{
	(void)state;
	struct cluster c;
	up(&c, "auto", "thread");
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_PROVE});
	assert_int_equal(mc_connect(c.ctx[0], 1, 20 * SEC), MC_OK);
	mc_log_set_sink(count_warnings, NULL);
	cluster_fault(&c, 0, (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = 1});
	mc_status_t s;
	while ((s = mc_connect(c.ctx[0], 1, 20 * SEC)) == MC_OK)
		;
	assert_int_equal(s, MC_ERR_PEER_DOWN);
	mc_log_set_sink(NULL, NULL);
	cluster_down(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prove__nothing_leaves_before),
		cmocka_unit_test(prove__early_descriptor),
		cmocka_unit_test(fall_back__to_the_next),
		cmocka_unit_test(fall_back__not_from_what_was_asked_for),
		cmocka_unit_test(fall_back__not_after_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* mcperf kv --plan: who sends what to whom. Nothing is moved, and no rank but one is needed. */
#include <inttypes.h>
#include <json-c/json.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "kvperf.h"
#include "report.h"

enum { MATRIX_COLUMNS = 16, CELL = 12 };
#define OPEN_NS INT64_C(60000000000)

/* ---- printing
 * ----------------------------------------------------------------------------------------------------------- */

static mc_status_t pair_totals(const struct kvperf *k, uint32_t s, uint32_t d, struct mc_kv_totals *t)
{
	struct mc_kv_request q = kvperf_request(k, 0, 0, k->shape.layers);

	return mc_reshard_totals(k->reshard, &q, s, d, t);
}

mc_status_t kvperf_totals(const struct kvperf *k, struct mc_kv_totals *sum)
{
	*sum = (struct mc_kv_totals){.bytes = 0};
	for (uint32_t s = 0; s < k->rank_n[KVP_SRC]; s++) {
		for (uint32_t d = 0; d < k->rank_n[KVP_DST]; d++) {
			struct mc_kv_totals t;
			mc_status_t st = pair_totals(k, s, d, &t);
			if (st != MC_OK)
				return st;
			sum->bytes += t.bytes;
			sum->naive += t.naive;
			sum->runs += t.runs;
			sum->pieces += t.pieces;
		}
	}
	return MC_OK;
}

static struct json_object *pair_json(uint32_t s, uint32_t d, const struct mc_kv_totals *t)
{
	struct json_object *o = json_object_new_object();

	if (o == NULL)
		return NULL;
	json_object_object_add(o, "src", json_object_new_int64(s));
	json_object_object_add(o, "dst", json_object_new_int64(d));
	json_object_object_add(o, "bytes", json_object_new_uint64(t->bytes));
	json_object_object_add(o, "naive", json_object_new_uint64(t->naive));
	json_object_object_add(o, "runs", json_object_new_uint64(t->runs));
	json_object_object_add(o, "pieces", json_object_new_uint64(t->pieces));
	return o;
}

static void matrix_rows(struct perf_report *rep, const struct kvperf *k)
{
	char row[MATRIX_COLUMNS * CELL + 1], label[24], size[24];
	uint32_t columns = k->rank_n[KVP_DST];

	if (columns > MATRIX_COLUMNS)
		return;
	row[0] = '\0';
	for (uint32_t d = 0; d < columns; d++) {
		snprintf(label, sizeof(label), "decode.%u", d);
		snprintf(row + d * CELL, CELL + 1, "%*.*s", CELL, CELL, label);
	}
	perf_report_text(rep, NULL, "bytes", row);
	for (uint32_t s = 0; s < k->rank_n[KVP_SRC]; s++) {
		for (uint32_t d = 0; d < columns; d++) {
			struct mc_kv_totals t = {.bytes = 0};
			(void)pair_totals(k, s, d, &t); /* has worked before for the sum */
			snprintf(row + d * CELL, CELL + 1, "%*.*s", CELL, CELL,
				 t.bytes == 0 ? "-" : perf_format_size(t.bytes, size, sizeof(size)));
		}
		snprintf(label, sizeof(label), "prefill.%u", s);
		perf_report_text(rep, NULL, label, row);
	}
}

static void pair_rows(struct perf_report *rep, const struct kvperf *k)
{
	struct json_object *list = json_object_new_array();
	char label[24], text[160];

	for (uint32_t s = 0; list != NULL && s < k->rank_n[KVP_SRC]; s++) {
		for (uint32_t d = 0; d < k->rank_n[KVP_DST]; d++) {
			struct mc_kv_totals t = {.bytes = 0};
			(void)pair_totals(k, s, d, &t);
			if (t.bytes == 0)
				continue;
			snprintf(label, sizeof(label), "prefill.%u", s);
			snprintf(text, sizeof(text),
				 "-> decode.%u: %" PRIu64 " bytes; descriptors %" PRIu64 " before, %" PRIu64
				 " after merging (%" PRIu64 " pieces)",
				 d, t.bytes, t.naive, t.runs, t.pieces);
			perf_report_text(rep, NULL, label, text);
			json_object_array_add(list, pair_json(s, d, &t));
		}
	}
	perf_report_json(rep, "pairs", list);
}

static int print_plan(struct kvperf *k)
{
	struct mc_kv_totals sum;
	struct perf_report *rep;
	mc_status_t s = kvperf_totals(k, &sum);

	if (s != MC_OK) {
		kvperf_fail(k, "the plan cannot be added up", s);
		return 1;
	}
	rep = kvperf_report_new(k);
	if (rep == NULL) {
		perf_job_say(&k->job, "out of memory: no report");
		return 1;
	}
	matrix_rows(rep, k);
	kvperf_say_totals(rep, &sum);
	pair_rows(rep, k);
	kvperf_say_setup(rep, k);
	perf_report_text(rep, "result", NULL, "plan");
	return kvperf_report_write(k, rep, true);
}

/* ---- all ranks of the plan inside this process
 * ------------------------------------------------------------------------ */

struct member {
	struct kvperf *k;
	struct mc_hub *hub;
	uint32_t rank;
	mc_status_t status;
	struct mc_ctx *ctx;
	struct mc_mem *mem;
	struct mc_kv_pool *pool;
	bool joining;
	pthread_t thread;
};

static void *join(void *arg)
{
	struct member *m = arg;
	struct mc_params p = {
		.size = sizeof(p),
		.hub = m->hub,
		.rank = m->rank,
		.backend = "loop",
		.progress = "thread",
		.init_timeout_ns = OPEN_NS,
	};

	m->status = mc_init(&p, &m->ctx);
	return NULL;
}

/* The pool of one rank. Nothing is ever written to it, so address space without memory will do, the same for all. */
static mc_status_t member_pool(struct member *m, void *space)
{
	struct kvperf *k = m->k;
	int side = m->rank < k->rank_n[KVP_SRC] ? KVP_SRC : KVP_DST;
	struct mc_region region = {.size = sizeof(region), .addr = space, .device = -1, .fd = -1};
	struct mc_kv_layout l;
	struct mc_buf *base;
	mc_status_t s;

	if (!kvperf_layout(&k->shape, &k->o.side[side], side == KVP_SRC ? m->rank : m->rank - k->rank_n[KVP_SRC],
			   k->pool_n[side], &l))
		return MC_ERR_INVAL;
	region.len = kvperf_extent(&l) * kvperf_base_n(&l);
	s = mc_mem_register(m->ctx, &region, &m->mem);
	if (s != MC_OK)
		return s;
	base = calloc(kvperf_base_n(&l), sizeof(*base));
	if (base == NULL)
		return MC_ERR_NOMEM;
	for (uint32_t i = 0; i < kvperf_base_n(&l); i++)
		base[i] = (struct mc_buf){.mem = m->mem, .off = i * kvperf_extent(&l)};
	s = mc_kv_pool_open(m->ctx, &l, base, kvperf_base_n(&l), "kv", &m->pool);
	free(base);
	return s;
}

static mc_status_t member_reshard(struct member *m)
{
	struct kvperf *k = m->k;
	uint32_t n = k->rank_n[KVP_SRC] + k->rank_n[KVP_DST];
	uint32_t *list = calloc(n, sizeof(*list));
	struct mc_group *src = NULL, *dst = NULL;
	mc_status_t s = MC_ERR_NOMEM;

	for (uint32_t i = 0; list != NULL && i < n; i++)
		list[i] = i;
	if (list != NULL)
		s = mc_group_list(m->ctx, list, k->rank_n[KVP_SRC], &src);
	if (s == MC_OK)
		s = mc_group_list(m->ctx, list + k->rank_n[KVP_SRC], k->rank_n[KVP_DST], &dst);
	if (s == MC_OK)
		s = mc_reshard_open(src, "kv", dst, "kv", OPEN_NS, &k->reshard);
	mc_group_free(src);
	mc_group_free(dst);
	free(list);
	return s;
}

static mc_status_t join_all(struct kvperf *k, struct mc_hub *hub, struct member *member, uint32_t n)
{
	mc_status_t s = MC_OK;

	for (uint32_t i = 0; i < n; i++) {
		member[i] = (struct member){.k = k, .hub = hub, .rank = i, .status = MC_ERR_NOMEM};
		member[i].joining = pthread_create(&member[i].thread, NULL, join, &member[i]) == 0;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (member[i].joining)
			(void)pthread_join(member[i].thread, NULL);
		s = s != MC_OK ? s : member[i].status;
	}
	return s;
}

static mc_status_t plan_with(struct kvperf *k, struct mc_hub *hub, struct member *member, void *space, int *rc_out)
{
	uint32_t n = k->rank_n[KVP_SRC] + k->rank_n[KVP_DST];
	mc_status_t s = join_all(k, hub, member, n);

	for (uint32_t i = 0; i < n && s == MC_OK; i++)
		s = member_pool(&member[i], space);
	if (s == MC_OK)
		s = member_reshard(&member[0]);
	if (s == MC_OK)
		*rc_out = print_plan(k);
	mc_reshard_close(k->reshard);
	k->reshard = NULL;
	for (uint32_t i = 0; i < n; i++) {
		if (member[i].ctx != NULL && member[i].pool != NULL)
			s = s != MC_OK ? s : mc_kv_pool_close(member[i].pool);
		if (member[i].ctx != NULL && member[i].mem != NULL)
			s = s != MC_OK ? s : mc_mem_free(member[i].mem);
	}
	for (uint32_t i = 0; i < n; i++) {
		if (member[i].ctx != NULL)
			mc_finalize(member[i].ctx);
	}
	return s;
}

/* Address space for the largest pool. */
static uint64_t space_len(const struct kvperf *k)
{
	uint64_t most = 0;

	for (int side = 0; side < KVP_SIDES; side++) {
		for (uint32_t i = 0; i < k->rank_n[side]; i++) {
			struct mc_kv_layout l;
			uint64_t len;
			if (!kvperf_layout(&k->shape, &k->o.side[side], i, k->pool_n[side], &l))
				continue;
			len = kvperf_extent(&l) * kvperf_base_n(&l);
			most = len > most ? len : most;
		}
	}
	return most;
}

int kvperf_plan(struct kvperf *k)
{
	uint32_t n = k->rank_n[KVP_SRC] + k->rank_n[KVP_DST];
	struct member *member = calloc(n, sizeof(*member));
	uint64_t len = space_len(k);
	void *space = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct mc_hub *hub = NULL;
	mc_status_t s = MC_ERR_NOMEM;
	int rc = 1;

	if (member != NULL && space != MAP_FAILED)
		s = mc_hub_create(n, &hub);
	if (s == MC_OK)
		s = plan_with(k, hub, member, space, &rc);
	if (s != MC_OK) {
		kvperf_fail(k, "no plan", s);
		rc = 1;
	}
	mc_hub_free(hub);
	if (space != MAP_FAILED)
		(void)munmap(space, len);
	free(member);
	return rc;
}

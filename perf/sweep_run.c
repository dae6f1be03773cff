/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "gather.h"
#include "hostmem.h"
#include "sweep.h"

enum { PHASE_INPUT = 1, PHASE_MEMORY = 2 };
#define INPUT_NS INT64_C(60000000000)
#define LAST_NS  INT64_C(60000000000)

static uint64_t fnv(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* All that must be the same on all ranks. */
static uint64_t digest(const struct sweep *s)
{
	const struct sweep_opts *o = &s->o;
	uint64_t v[] = {o->window, o->threads, o->runs,    o->seed,      o->pool,
			o->iters,  o->warmup,  o->op,      o->pattern,   o->table,
			o->memory, o->bidir,   o->verify,  o->reference, o->bulk,
			o->lat,    o->size_n,  o->batch_n, o->poll,      (uint64_t)o->duration_ns,
			o->how};
	uint64_t h = fnv(UINT64_C(0xcbf29ce484222325), v, sizeof(v));

	h = fnv(h, o->size, o->size_n * sizeof(o->size[0]));
	h = fnv(h, o->batch, o->batch_n * sizeof(o->batch[0]));
	if (s->matrix.n > 0)
		h = fnv(h, s->matrix.bytes, (size_t)s->matrix.n * s->matrix.n * sizeof(s->matrix.bytes[0]));
	return h;
}

/* References are measured between rank 0 and the first rank that it has a flow with. */
static uint32_t reference_peer(const struct sweep *s)
{
	for (uint32_t i = 0; s->o.reference && i < s->plan.flow_n; i++) {
		const struct sweep_flow *f = &s->plan.flow[i];
		if (f->from == 0 || f->to == 0)
			return f->from == 0 ? f->to : f->from;
	}
	return MC_NO_RANK;
}

/* What the ranks of a host need together, against what the host has. */
static void judge_memory(struct perf_job *j, const struct perf_vote *vote, void *arg, struct perf_err *err)
{
	struct mc_peer_info a = {.size = sizeof(a)}, b = {.size = sizeof(b)};
	char need_text[32], avail_text[32];

	(void)arg;
	for (uint32_t i = 0; i < j->size && !perf_err_is_set(err); i++) {
		uint64_t need = 0, avail = vote[i].avail;
		if (mc_peer_query(j->ctx, i, &a) != MC_OK)
			continue;
		for (uint32_t k = 0; k < j->size; k++) {
			if (mc_peer_query(j->ctx, k, &b) == MC_OK && strcmp(a.host, b.host) == 0)
				need += vote[k].need;
		}
		if (need > avail / 10 * 9)
			perf_err_set(err,
				     "host %s: the ranks need %s together, available are %s: use a smaller --pool, "
				     "--batch or --window",
				     a.host, perf_format_size(need, need_text, sizeof(need_text)),
				     perf_format_size(avail, avail_text, sizeof(avail_text)));
	}
}

static bool agree_on_input(struct sweep *s, struct perf_err *bad)
{
	struct perf_vote v = {.avail = perf_hostmem_available(), .err = *bad};
	uint32_t flags;

	if (!perf_err_is_set(&v.err) &&
	    (s->o.matrix == NULL || perf_matrix_load(s->o.matrix, s->job.size, &s->matrix, &v.err)) &&
	    sweep_plan_make(&s->o, s->job.size, &s->matrix, &s->plan, &v.err)) {
		s->ref_peer = reference_peer(s);
		v.digest = digest(s);
		v.need = sweep_mem_need(s);
	}
	return perf_job_agree(&s->job, PHASE_INPUT, &v, judge_memory, NULL, INPUT_NS, &flags);
}

static bool agree_on_memory(struct sweep *s)
{
	struct perf_vote v = {.digest = 0};
	uint32_t flags;

	if (sweep_mem_open(s, &v.err))
		sweep_fill(s);
	return perf_job_agree(&s->job, PHASE_MEMORY, &v, NULL, NULL, 2 * INPUT_NS, &flags);
}

static void open_references(struct sweep *s)
{
	struct perf_err err = {""};

	if (s->ref_peer == MC_NO_RANK) {
		if (s->o.reference && s->job.rank == 0)
			perf_job_say(&s->job, "no references: rank 0 has no part in the transfers");
		return;
	}
	if (s->job.rank != 0 && s->job.rank != s->ref_peer)
		return;
	if (!ref_open(&s->ref, &s->job, 0, s->ref_peer, s->ref_base, &err)) {
		perf_job_say(&s->job, "%s", err.text);
		s->failed = true;
	}
}

/* How bytes of the first flow go; rank 0 may have no part in it, then any of its links has to do. */
static void find_link(struct sweep *s)
{
	struct mc_peer_info info = {.size = sizeof(info)};
	uint32_t peer = s->plan.flow[0].from == 0 ? s->plan.flow[0].to : s->plan.flow[0].from;

	if (mc_peer_query(s->job.ctx, peer, &info) == MC_OK)
		snprintf(s->link, sizeof(s->link), "%s", info.link);
}

static bool measure(struct sweep *s, struct perf_err *err)
{
	struct sweep_row *row;
	bool ok;

	if (mc_barrier(mc_group_world(s->job.ctx), SWEEP_WAIT_NS) != MC_OK)
		return false;
	if (s->job.rank == 0) {
		find_link(s);
		perf_header_collect(&s->header);
		s->out = sweep_out_open(s, err);
		if (s->out == NULL)
			return false;
	}
	row = calloc(1, sizeof(*row)); /* large for a stack */
	ok = row != NULL;
	for (uint32_t i = 0; i < s->o.size_n && ok; i++) {
		for (uint32_t k = 0; k < (s->matrix.n > 0 ? 1 : s->o.batch_n) && ok; k++) {
			ok = sweep_point(s, s->o.size[i], s->o.batch[k], row);
			if (ok && s->job.rank == 0)
				sweep_out_row(s->out, s, row);
			perf_samples_free(&row->samples);
			perf_samples_free(&row->post);
		}
	}
	free(row);
	return ok;
}

/* Everybody leaves with rank 0's verdict. */
static int verdict(struct sweep *s)
{
	int64_t give_up = perf_now_ns() + LAST_NS;

	while (perf_now_ns() < give_up) {
		struct mc_note *note = perf_job_note(&s->job, 20000000);
		bool bye = note != NULL && note->peer == 0 && perf_tag_kind(note->tag) == PERF_K_BYE;
		struct perf_rd r;
		int rc;
		if (bye) {
			perf_rd_init(&r, note->data, note->len);
			rc = (int)perf_rd_u32(&r);
			mc_note_free(note);
			return rc;
		}
		mc_note_free(note);
		perf_job_faults(&s->job);
		if (note == NULL && s->job.dead[0])
			break;
	}
	return 1;
}

static int run(struct sweep *s)
{
	struct perf_err err = {""};
	int rc;

	open_references(s);
	if (!measure(s, &err))
		s->failed = true;
	ref_close(&s->ref);
	if (s->job.rank != 0)
		return s->failed ? 1 : verdict(s);
	if (s->out != NULL)
		(void)sweep_out_close(s->out, s, &err);
	if (perf_err_is_set(&err))
		perf_job_say(&s->job, "%s", err.text);
	rc = s->failed || perf_err_is_set(&err) ? 1 : 0;
	perf_gather_farewell(&s->job, (uint32_t)rc);
	return rc;
}

static void sweep_free(struct sweep *s)
{
	for (uint32_t i = 0; s->run != NULL && i < s->plan.lane_n; i++) {
		perf_samples_free(&s->run[i].samples);
		perf_samples_free(&s->run[i].post);
	}
	sweep_mem_close(s);
	sweep_plan_free(&s->plan);
	perf_matrix_free(&s->matrix);
}

int sweep_main(int argc, char **argv, bool lat)
{
	struct perf_err err = {""};
	struct sweep s = {.ref_peer = MC_NO_RANK, .ref.fd = -1};
	struct mc_params p = {.size = sizeof(p)};
	mc_status_t st;
	int rc = 2;

	if (sweep_opts_parse(argc, argv, lat, &s.o, &err) && s.o.help) {
		sweep_help(lat);
		return 0;
	}
	if (!perf_err_is_set(&err)) {
		p.transport = s.o.transport;
		p.backend = s.o.backend;
		p.progress = s.o.progress;
	}
	/* Bad input, too, is first agreed upon: one line from one rank, and no rank is left waiting for another. */
	st = perf_job_open_with(&s.job, s.o.cmd, &p);
	if (st != MC_OK) {
		if (perf_err_is_set(&err))
			perf_job_say(&s.job, "%s", err.text);
		return perf_err_is_set(&err) || st == MC_ERR_CONFIG ? 2 : 1;
	}
	if (agree_on_input(&s, &err)) {
		rc = 1;
		if (agree_on_memory(&s))
			rc = run(&s);
	}
	sweep_free(&s);
	perf_job_close(&s.job);
	return rc;
}

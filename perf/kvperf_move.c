/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The moving part of an iteration. A sequence goes as one range of layers or as several, one request and one counter
 * for each. With simulated prefill a source may send a range only once it is "computed"; where the targets read, it
 * tells them so by a counter of theirs.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "kvperf.h"

/* Tags of an iteration: two for each range, one for its bytes and one for "may be read now". */
enum { TAGS_PER_ITERATION = 1024 };

struct move {
	struct kvperf *k;
	struct kvperf_record *rec;
	enum kvperf_kind kind;
	uint32_t per, range_n; /* layers of a range; ranges */
	struct mc_req **req;   /* [range_n] */
	int64_t start_ns;
	int64_t due_ns; /* when what was computed so far is ready */
};

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t kvperf_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

void kvperf_fail(struct kvperf *k, const char *what, mc_status_t s)
{
	char who[64];

	perf_job_say(&k->job, "%s: %s: %s", perf_job_name(&k->job, k->job.rank, who, sizeof(who)), what,
		     mc_status_text(s));
	k->failed = true;
}

static uint32_t range_lo(const struct move *m, uint32_t i)
{
	return i * m->per;
}

static uint32_t range_layers(const struct move *m, uint32_t i)
{
	uint32_t left = m->k->shape.layers - range_lo(m, i);

	return left < m->per ? left : m->per;
}

static uint64_t range_tag(const struct move *m, uint32_t i, bool ready)
{
	return perf_tag(PERF_K_DONE, m->k->tag * TAGS_PER_ITERATION + i * 2 + (ready ? 1 : 0));
}

static bool has_compute(const struct move *m)
{
	return m->kind == KVP_AT_END || m->kind == KVP_BY_LAYER;
}

/*
 * Prefill of range i. Asleep, as while a GPU computes: layer after layer by the clock, whatever the CPU does meanwhile.
 * Spinning, the CPU itself computes, so the time that it spends on sending comes on top.
 */
static void compute(struct move *m, uint32_t i)
{
	int64_t cost = (int64_t)(m->k->o.compute_us * 1e3 * range_layers(m, i));
	struct timespec ts;

	if (!has_compute(m))
		return;
	m->due_ns = (m->k->o.compute_by == KVP_SPIN ? perf_now_ns() : m->due_ns) + cost;
	if (m->k->o.compute_by == KVP_SPIN) {
		while (perf_now_ns() < m->due_ns)
			;
	} else {
		ts = (struct timespec){.tv_sec = m->due_ns / 1000000000, .tv_nsec = m->due_ns % 1000000000};
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
			;
	}
	m->rec->compute_ns = (uint64_t)(m->due_ns - m->start_ns);
}

static bool start_range(struct move *m, uint32_t i, struct mc_req **req_out)
{
	struct mc_kv_request q = kvperf_request(m->k, range_tag(m, i, false), range_lo(m, i), range_layers(m, i));
	mc_status_t s = mc_reshard_start(m->k->reshard, &q, req_out);

	if (s == MC_OK)
		return true;
	*req_out = NULL;
	kvperf_fail(m->k, "cannot start a request", s);
	return false;
}

static bool end_request(struct move *m, struct mc_req *req, bool probe)
{
	struct mc_req_stats st = {.size = sizeof(st)};
	mc_status_t s;

	if (req == NULL)
		return true;
	s = mc_req_wait(req, MC_FOREVER); /* it has a deadline of its own */
	if (s == MC_OK)
		s = mc_req_query(req, &st);
	mc_req_free(req);
	if (s != MC_OK) {
		kvperf_fail(m->k, "a request failed", s);
		return false;
	}
	if (probe) {
		m->rec->probe_ns += st.post_ns;
		return true;
	}
	m->rec->bytes += st.bytes;
	m->rec->runs += st.runs;
	m->rec->post_ns += st.post_ns;
	return true;
}

/* Wait until `due` ranks have added to this rank's counter. */
static bool await(struct move *m, uint64_t tag, uint64_t due, const char *what)
{
	int64_t longest = m->k->o.timeout_ns + (int64_t)(m->k->o.compute_us * 1e3 * m->k->shape.layers);
	struct mc_counter *c;
	mc_status_t s;

	if (due == 0)
		return true;
	s = mc_counter_open(m->k->job.ctx, tag, MC_ANY_PEER, &c);
	if (s == MC_OK) {
		s = mc_counter_wait(c, due, longest);
		if (s == MC_OK && mc_counter_read(c) != due)
			s = MC_ERR_INTERNAL; /* nobody else uses this tag */
		mc_counter_close(c);
	}
	if (s == MC_OK)
		return true;
	kvperf_fail(m->k, what, s);
	return false;
}

static bool await_range(struct move *m, uint32_t i)
{
	struct kvperf *k = m->k;
	uint32_t lo = range_lo(m, i), n = range_layers(m, i);
	uint64_t due = k->o.pull ? mc_reshard_targets(k->reshard, lo, n) : mc_reshard_sources(k->reshard, lo, n);

	return await(m, range_tag(m, i, false), m->kind == KVP_PROBE ? 2 * due : due, "waiting for the other side");
}

/* Range i may be read: every target's counter goes up by one. */
static bool say_ready(struct move *m, uint32_t i)
{
	struct kvperf *k = m->k;
	struct mc_notify n = {.size = sizeof(n), .flags = MC_NOTIFY_COUNT, .tag = range_tag(m, i, true), .add = 1};
	struct mc_xfer_opts o = {.size = sizeof(o), .timeout_ns = k->o.timeout_ns, .notify = &n};

	for (uint32_t d = 0; d < k->rank_n[KVP_DST]; d++) {
		mc_status_t s = mc_put(k->job.ctx, mc_group_peer(k->group[KVP_DST], d), NULL, 0, &o, NULL);
		if (s == MC_OK)
			continue;
		kvperf_fail(k, "cannot say that layers are ready", s);
		return false;
	}
	return true;
}

/* The side that starts requests: sources that push, targets that pull. */
static bool initiate(struct move *m)
{
	struct kvperf *k = m->k;
	struct mc_req *probe = NULL;
	bool ok = true;

	for (uint32_t i = 0; i < m->range_n && ok; i++) {
		if (!k->o.pull)
			compute(m, i);
		else if (has_compute(m))
			ok = await(m, range_tag(m, i, true), k->rank_n[KVP_SRC], "waiting for computed layers");
		ok = ok && start_range(m, i, &m->req[i]);
	}
	if (ok && m->kind == KVP_PROBE)
		ok = start_range(m, 0, &probe);
	for (uint32_t i = 0; i < m->range_n; i++)
		ok = end_request(m, m->req[i], false) && ok;
	return end_request(m, probe, true) && ok;
}

static bool respond(struct move *m)
{
	bool ok = true;

	for (uint32_t i = 0; i < m->range_n && ok && m->k->o.pull && has_compute(m); i++) {
		compute(m, i);
		ok = say_ready(m, i);
	}
	for (uint32_t i = 0; i < m->range_n && ok; i++)
		ok = await_range(m, i);
	return ok;
}

bool kvperf_move(struct kvperf *k, enum kvperf_kind kind, struct kvperf_record *rec)
{
	struct move m = {.k = k, .rec = rec, .kind = kind, .per = k->shape.layers, .range_n = 1};
	bool ok;

	if (kind == KVP_BY_LAYER && k->o.per_push < k->shape.layers) {
		m.per = (uint32_t)k->o.per_push;
		m.range_n = (k->shape.layers + m.per - 1) / m.per;
	}
	m.req = calloc(m.range_n, sizeof(struct mc_req *));
	if (m.req == NULL) {
		kvperf_fail(k, "requests", MC_ERR_NOMEM);
		return false;
	}
	k->tag++;
	m.start_ns = m.due_ns = perf_now_ns();
	ok = (k->side == KVP_SRC) != k->o.pull ? initiate(&m) : respond(&m);
	rec->done_ns = (uint64_t)(perf_now_ns() - m.start_ns);
	free(m.req);
	return ok;
}

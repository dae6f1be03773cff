/* SPDX-License-Identifier: BSD-3-Clause */
#include <pthread.h>
#include <stdlib.h>

#include "sweep.h"

enum { SAMPLES_MAX = 1 << 18 }; /* per lane and row; beyond that every second is left out, again and again */

static void halve(struct perf_samples *s)
{
	for (size_t i = 0; i < s->n / 2; i++)
		s->v[i] = s->v[2 * i];
	s->n /= 2;
}

void sweep_sample(struct sweep_lane_run *r, uint64_t ns, uint64_t post_ns)
{
	if (r->s->no_samples)
		return;
	if (r->sample_skip > 0) {
		r->sample_skip--;
		return;
	}
	if (r->samples.n >= SAMPLES_MAX) {
		halve(&r->samples);
		halve(&r->post);
		r->sample_every *= 2;
	}
	r->sample_skip = r->sample_every - 1;
	(void)perf_samples_add(&r->samples, ns);
	(void)perf_samples_add(&r->post, post_ns);
}

/* ---- one request --------------------------------------------------------------------------------------------- */

static void say_failed(struct sweep_lane_run *r, const char *what, mc_status_t st)
{
	const struct sweep_plan *p = &r->s->plan;

	if (!r->failed)
		perf_job_say(&r->s->job, "%s to rank %u, request %llu: %s", what, p->flow[p->lane[r->lane].flow].to,
			     (unsigned long long)r->its, mc_status_text(st));
	r->failed = true;
}

static mc_status_t post_slices(struct sweep_lane_run *r, uint32_t peer, const struct mc_slice *slice,
			       const struct mc_xfer_opts *opts, struct mc_req **req)
{
	struct mc_ctx *ctx = r->s->job.ctx;
	uint32_t n = (uint32_t)r->t.shape.blocks;

	if (r->s->o.op == SWEEP_GET)
		return mc_get(ctx, peer, slice, n, opts, req);
	return mc_put(ctx, peer, slice, n, opts, req);
}

static mc_status_t post_list(struct sweep_lane_run *r, uint64_t table, const struct mc_xfer_opts *opts,
			     struct mc_req **req)
{
	bool get = r->s->o.op == SWEEP_GET;
	uint32_t n = (uint32_t)r->t.shape.blocks;
	const uint32_t *number;

	if (r->s->o.how == SWEEP_LIST)
		return get ? mc_dlist_get(r->list[table], opts, req) : mc_dlist_put(r->list[table], opts, req);
	number = r->number + table * n;
	return get ? mc_dlist_get_some(r->list[0], number, NULL, n, opts, req)
		   : mc_dlist_put_some(r->list[0], number, NULL, n, opts, req);
}

struct mc_req *sweep_post_at(struct sweep_lane_run *r, uint64_t i, int64_t start_ns)
{
	struct sweep *s = r->s;
	const struct sweep_shape *h = &r->t.shape;
	uint32_t peer = s->plan.flow[s->plan.lane[r->lane].flow].to;
	struct mc_notify notify = {.size = sizeof(notify), .flags = MC_NOTIFY_COUNT, .tag = r->lane, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = s->o.op == SWEEP_PUT_NOTE ? &notify : NULL};
	struct mc_req *req = NULL;
	mc_status_t st;

	if (s->o.how == SWEEP_EACH)
		st = post_slices(r, peer, &r->slice[i / h->tables % 2][i % h->tables * h->blocks], &opts, &req);
	else
		st = post_list(r, i % (2 * h->tables), &opts, &req);
	if (start_ns > 0)
		r->post_ns += (uint64_t)(perf_now_ns() - start_ns);
	if (st == MC_OK)
		return req;
	say_failed(r, s->o.op == SWEEP_GET ? "get" : "put", st);
	return NULL;
}

struct mc_req *sweep_post(struct sweep_lane_run *r, uint64_t i)
{
	return sweep_post_at(r, i, perf_now_ns());
}

/* Wait for the end of a request, take its time. */
void sweep_reap(struct sweep_lane_run *r, struct mc_req *req, bool sample)
{
	struct mc_req_stats stats = {.size = sizeof(stats)};
	mc_status_t st = MC_IN_PROGRESS;

	if (r->s->o.poll) {
		int64_t give_up = perf_now_ns() + SWEEP_WAIT_NS;
		for (uint32_t n = 1; (st = mc_req_test(req)) == MC_IN_PROGRESS; n++) {
			mc_progress(r->s->job.ctx);
			if (n % 4096 == 0 && perf_now_ns() > give_up)
				break;
		}
	} else {
		st = mc_req_wait(req, SWEEP_WAIT_NS);
	}
	if (st != MC_OK)
		say_failed(r, "request", st == MC_ERR_AGAIN || st == MC_IN_PROGRESS ? MC_ERR_TIMEOUT : st);
	else if (sample && mc_req_query(req, &stats) == MC_OK)
		sweep_sample(r, stats.total_ns, stats.post_ns);
	mc_req_free(req);
	r->its++;
}

/* ---- all requests of a thread -------------------------------------------------------------------------------- */

struct lane_queue {
	struct sweep_lane_run *r;
	struct mc_req *req[SWEEP_WINDOW];
	uint64_t posted;
};

struct driver {
	struct sweep *s;
	struct lane_queue *q;
	uint32_t q_n;
	uint64_t iters;
	int64_t end_ns; /* with iters 0 */
	pthread_t id;
};

static void drain(struct driver *d)
{
	for (uint32_t i = 0; i < d->q_n; i++) {
		struct lane_queue *q = &d->q[i];
		while (q->r->its < q->posted)
			sweep_reap(q->r, q->req[q->r->its % d->s->o.window], true);
	}
}

/* One more request on each lane in turn; where the window is full, the oldest one has to end first. */
static bool turn(struct driver *d)
{
	uint64_t window = d->s->o.window;
	bool more = false;

	for (uint32_t i = 0; i < d->q_n; i++) {
		struct lane_queue *q = &d->q[i];
		struct mc_req *req;
		if (q->r->failed || (d->iters > 0 && q->posted == d->iters))
			continue;
		if (q->posted - q->r->its == window)
			sweep_reap(q->r, q->req[q->r->its % window], true);
		if (q->r->failed)
			continue;
		req = sweep_post(q->r, q->posted);
		if (req == NULL)
			continue;
		q->req[q->posted++ % window] = req;
		more = true;
	}
	return more;
}

static void *drive_thread(void *arg)
{
	struct driver *d = arg;

	while (turn(d)) {
		if (d->iters == 0 && perf_now_ns() >= d->end_ns)
			break;
	}
	drain(d);
	return NULL;
}

static bool my_lane(const struct sweep *s, uint32_t lane)
{
	return s->plan.flow[s->plan.lane[lane].flow].from == s->job.rank;
}

/* Hand the lanes of this rank to their threads; false: out of memory. */
static bool deal(struct sweep *s, struct driver *d)
{
	for (uint32_t t = 0; t < s->o.threads; t++) {
		d[t].s = s;
		for (uint32_t i = 0; i < s->plan.lane_n; i++)
			d[t].q_n += my_lane(s, i) && s->plan.lane[i].thread == t;
		d[t].q = calloc(d[t].q_n + 1, sizeof(*d[t].q));
		if (d[t].q == NULL)
			return false;
		d[t].q_n = 0;
		for (uint32_t i = 0; i < s->plan.lane_n; i++) {
			if (my_lane(s, i) && s->plan.lane[i].thread == t)
				d[t].q[d[t].q_n++].r = &s->run[i];
		}
	}
	return true;
}

/* The lanes of a thread that cannot be started stay idle, and the run counts as failed. */
static void run_threads(struct sweep *s, struct driver *d, uint32_t n, struct sweep_result *res)
{
	uint32_t k = 0;

	for (; k < n; k++) {
		if (pthread_create(&d[k].id, NULL, drive_thread, &d[k]) != 0)
			break;
	}
	if (k < n) {
		perf_job_say(&s->job, "only %u of %u threads could be started", k, n);
		res->failed++;
	}
	while (k-- > 0)
		pthread_join(d[k].id, NULL);
}

static void join_lanes(struct sweep *s, struct sweep_result *res)
{
	for (uint32_t i = 0; i < s->plan.lane_n; i++) {
		const struct sweep_lane_run *r = &s->run[i];
		if (!my_lane(s, i))
			continue;
		res->reqs += r->its;
		res->blocks += r->its * r->t.shape.blocks;
		res->bytes += r->its * r->t.shape.bytes;
		res->post_ns += r->post_ns;
		res->failed += r->failed;
	}
}

void sweep_drive(struct sweep *s, uint64_t iters, int64_t duration_ns, struct sweep_result *res)
{
	uint32_t n = (uint32_t)s->o.threads;
	struct driver *d = calloc(n, sizeof(*d));
	int64_t t0;

	if (d == NULL || !deal(s, d)) {
		perf_job_say(&s->job, "out of memory");
		res->failed++;
		goto done;
	}
	t0 = perf_now_ns();
	for (uint32_t t = 0; t < n; t++) {
		d[t].iters = iters;
		d[t].end_ns = t0 + duration_ns;
	}
	if (n == 1)
		drive_thread(&d[0]);
	else
		run_threads(s, d, n, res);
	res->busy_ns = (uint64_t)(perf_now_ns() - t0);
	join_lanes(s, res);
done:
	for (uint32_t t = 0; d != NULL && t < n; t++)
		free(d[t].q);
	free(d);
}

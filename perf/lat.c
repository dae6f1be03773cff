/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lat.c - one request at a time. put+note goes to and fro: half of the round trip is how long it takes until the target
 * has the bytes and knows. put and get: until the request has ended at the initiator.
 */
#include "commands.h"
#include "sweep.h"

enum { UNDER_WAY = 16 }; /* a put may still be confirmed while the answer to it is already there */

struct pending {
	struct mc_req *req[UNDER_WAY];
	uint64_t n;
};

static void keep(struct pending *p, struct sweep_lane_run *r, struct mc_req *req)
{
	if (p->n - r->its == UNDER_WAY)
		sweep_reap(r, p->req[r->its % UNDER_WAY], false);
	p->req[p->n++ % UNDER_WAY] = req;
}

static void drain(struct pending *p, struct sweep_lane_run *r)
{
	while (r->its < p->n)
		sweep_reap(r, p->req[r->its % UNDER_WAY], false);
}

static bool await(struct sweep *s, uint32_t lane, uint64_t value)
{
	struct mc_counter *c = s->count[lane];
	int64_t give_up;
	mc_status_t st;

	if (!s->o.poll) {
		st = mc_counter_wait(c, value, SWEEP_WAIT_NS);
		if (st == MC_OK)
			return true;
		perf_job_say(&s->job, "rank %u: no notification: %s", s->job.rank, mc_status_text(st));
		return false;
	}
	give_up = perf_now_ns() + SWEEP_WAIT_NS;
	for (uint32_t n = 1; mc_counter_read(c) < value; n++) {
		mc_progress(s->job.ctx);
		if (n % 65536 == 0 && perf_now_ns() > give_up) {
			perf_job_say(&s->job, "rank %u: no notification", s->job.rank);
			return false;
		}
	}
	return true;
}

/* there: the lane to the other rank; back: that rank's lane to this one. */
static bool ping_pong(struct sweep *s, uint32_t there, uint32_t back, bool first, uint64_t iters)
{
	struct sweep_lane_run *r = &s->run[there];
	struct pending p = {.n = 0};
	bool ok = true;

	for (uint64_t i = 0; i < iters && ok; i++) {
		int64_t start = first ? perf_now_ns() : 0; /* the other's time is part of this one's */
		uint64_t posted = r->post_ns;
		struct mc_req *req;
		ok = first || await(s, back, s->counted[back] + i + 1);
		req = ok ? sweep_post_at(r, i, start) : NULL;
		if (req == NULL)
			break;
		keep(&p, r, req);
		ok = !first || await(s, back, s->counted[back] + i + 1);
		if (first && ok)
			sweep_sample(r, (uint64_t)(perf_now_ns() - start) / 2, r->post_ns - posted);
	}
	drain(&p, r);
	return ok && r->its == iters && !r->failed;
}

static bool one_way(struct sweep *s, uint32_t lane, uint64_t iters)
{
	struct sweep_lane_run *r = &s->run[lane];

	for (uint64_t i = 0; i < iters && !r->failed; i++) {
		struct mc_req *req = sweep_post(r, i);
		if (req != NULL)
			sweep_reap(r, req, true);
	}
	return !r->failed;
}

/* The second half of the flows, and so of the lanes, is the first one turned round. */
void lat_drive(struct sweep *s, uint64_t iters, struct sweep_result *res)
{
	uint32_t half = s->plan.lane_n / 2;

	for (uint32_t i = 0; i < half; i++) {
		const struct sweep_flow *f = &s->plan.flow[i];
		int64_t start = perf_now_ns();
		bool ok = true;
		if (s->o.op == SWEEP_PUT_NOTE && f->from == s->job.rank)
			ok = ping_pong(s, i, i + half, true, iters);
		else if (s->o.op == SWEEP_PUT_NOTE && f->to == s->job.rank)
			ok = ping_pong(s, i + half, i, false, iters);
		else if (f->from == s->job.rank)
			ok = one_way(s, i, iters);
		res->failed += !ok;
		/* the next pair begins when this one has ended: nobody's time includes waiting for its turn */
		if (half > 1 && mc_barrier(mc_group_world(s->job.ctx), SWEEP_WAIT_NS) != MC_OK)
			res->failed++;
		if (f->from != s->job.rank)
			continue;
		res->reqs += s->run[i].its;
		res->blocks += s->run[i].its * s->run[i].t.shape.blocks;
		res->bytes += s->run[i].its * s->run[i].t.shape.bytes;
		res->post_ns += s->run[i].post_ns;
		res->busy_ns += (uint64_t)(perf_now_ns() - start);
	}
	/* half of the time belongs to the way back */
	if (s->o.op == SWEEP_PUT_NOTE)
		res->busy_ns /= 2;
}

int lat_main(int argc, char **argv)
{
	return sweep_main(argc, argv, true);
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "replay.h"

#include <time.h>

#include "commands.h"
#include "hostmem.h"
#include "replay_cut.h"
#include "replay_other.h"

enum { PHASE_INPUT = 1, PHASE_POOLS = 2, PHASE_RESHARD = 3, PHASE_START = 4 };
enum { FLAG_PROGRESS = 1 };
#define INPUT_NS INT64_C(60000000000)
#define LATE_NS  INT64_C(10000000000) /* after --timeout: for the ranks to come to an end and be heard */
#define AWAIT_NS INT64_C(30000000000) /* for a dead rank to come back, where it is started again */

static int64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t replay_thread_cpu_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void replay_stop(struct replay *r)
{
	if (r->stop)
		return;
	r->stop = true;
	perf_job_tell_all(&r->job, perf_tag(PERF_K_STOP, 0), NULL, 0, 0);
	replay_other_tell(r, perf_tag(PERF_K_STOP, 0));
}

bool replay_overdue(struct replay *r)
{
	if (perf_now_ns() < r->deadline_ns)
		return false;
	if (perf_job_leader(&r->job) == r->job.rank) { /* all have the same deadline: one of them says so */
		perf_job_say(&r->job, "the run took longer than --timeout %g s", (double)r->o.timeout_ns / 1e9);
		r->res.fatal++;
	}
	replay_stop(r);
	return true;
}

void replay_stopped_by(struct replay *r, const struct mc_note *note)
{
	r->res.fatal += note->peer >= r->job.size; /* the other job counts its own */
	r->stop = true;
}

void replay_count_put(struct replay *r, struct mc_req *req, int64_t start_ns, struct perf_spans *spans)
{
	struct mc_req_stats st = {.size = sizeof(st)};

	if (mc_req_query(req, &st) != MC_OK)
		return;
	r->res.puts++;
	r->res.put_bytes += st.bytes;
	r->res.slices += st.slices;
	r->res.runs += st.runs;
	r->res.post_ns += st.post_ns;
	(void)perf_samples_add(&r->gather.samples[PERF_S_TRANSFER], st.total_ns);
	(void)perf_spans_add(spans, start_ns, start_ns + (int64_t)st.total_ns);
}

/* Everything that can be wrong before anything is started, judged by one rank, said in one line. */
static bool agree_on_input(struct replay *r, struct perf_err *bad)
{
	struct perf_vote v = {.avail = perf_hostmem_available(), .err = *bad};
	uint32_t flags = 0;

	if (!perf_err_is_set(&v.err) && replay_load(r, &v.err)) {
		v.digest = replay_digest(r);
		if (r->prefill_pos != MC_NO_RANK || r->decode_pos != MC_NO_RANK)
			v.need = replay_pool_choose(r, v.avail, &v.err);
	}
	if (r->job.rank == 0 && perf_progress_wanted(r->o.progress))
		v.flags |= FLAG_PROGRESS;
	if (!perf_job_agree(&r->job, PHASE_INPUT, &v, replay_judge_memory, r,
			    INPUT_NS + (r->o.with_n != 0 ? REPLAY_START_NS : 0), &flags))
		return false;
	r->job.progress = (flags & FLAG_PROGRESS) != 0;
	return true;
}

static bool agree_on_pools(struct replay *r)
{
	struct perf_vote v = {.digest = 0};
	uint32_t flags;

	if (!perf_gather_init(&r->gather, &r->job))
		perf_err_set(&v.err, "out of memory");
	else
		(void)replay_pools_open(r, &v.err);
	if (!perf_job_agree(&r->job, PHASE_POOLS, &v, NULL, NULL, 2 * REPLAY_START_NS, &flags))
		return false;
	if (r->cut != NULL) {
		(void)replay_cut_reshard_open(r, &v.err);
		if (!perf_job_agree(&r->job, PHASE_RESHARD, &v, NULL, NULL, 2 * REPLAY_START_NS, &flags))
			return false;
	}
	if (r->o.with_n == 0)
		return true;
	replay_other_start(r, &v.err);
	return perf_job_agree(&r->job, PHASE_START, &v, NULL, NULL, 3 * REPLAY_START_NS, &flags);
}

/*
 * Started again: the others are at work and agree on nothing any more. A decode rank has lost its cache and asks for
 * all of its requests anew; a prefill rank is asked anew for what was under way.
 */
static bool come_back(struct replay *r, struct perf_err *err)
{
	if (r->o.side[KVP_SRC].tp != 0)
		perf_err_set(err, "with --src and --dst a rank that was started again cannot come back: an instance "
				  "needs all of its ranks");
	if (!perf_err_is_set(err) && replay_load(r, err) && replay_pool_choose(r, perf_hostmem_available(), err) > 0 &&
	    !perf_gather_init(&r->gather, &r->job))
		perf_err_set(err, "out of memory");
	if (!perf_err_is_set(err))
		(void)replay_pools_open(r, err);
	if (perf_err_is_set(err))
		perf_job_say(&r->job, "%s", err->text);
	return !perf_err_is_set(err);
}

/* A prefill rank that comes back when this decode rank has all it wants: it is to know that, and wait for nothing. */
static void tell_end(void *arg, uint32_t peer)
{
	struct replay *r = arg;

	for (uint32_t p = 0; r->decode_pos != MC_NO_RANK && p < r->prefill_n; p++)
		if (mc_group_peer(r->job.prefill, p) == peer)
			(void)perf_job_send(&r->job, peer, perf_tag(PERF_K_END, 0), NULL, 0);
}

/* The other job was started again while this one has more to do, but not this rank: it asks rank 0 all the same. */
static void hear_other(void *arg, const struct mc_note *note)
{
	struct replay *r = arg;

	if (r->end_told != NULL)
		replay_other_note(r, note);
}

static void tell_other(void *arg)
{
	replay_other_end(arg);
}

static int run(struct replay *r)
{
	r->start_ns = perf_now_ns();
	r->deadline_ns = r->start_ns + r->o.timeout_ns;
	r->cpu_start_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	if (r->cut == NULL && perf_job_restarts())
		r->job.await_ns = AWAIT_NS;
	r->res.again = perf_job_again();
	perf_progress_start(&r->gather.progress, r->job.progress && r->job.rank == perf_job_leader(&r->job),
			    r->trace.n);
	if (r->prefill_pos != MC_NO_RANK)
		r->cut != NULL ? replay_cut_prefill(r) : replay_prefill(r);
	else if (r->decode_pos != MC_NO_RANK)
		r->cut != NULL ? replay_cut_decode(r) : replay_decode(r);
	r->res.cpu_ns = (uint64_t)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - r->cpu_start_ns);
	r->res.cpu_ns -= r->res.check_ns < r->res.cpu_ns ? r->res.check_ns : r->res.cpu_ns;
	r->res.wall_ns = (uint64_t)(perf_now_ns() - r->start_ns);
	r->gather.on_back = tell_end;
	r->gather.on_foreign = hear_other;
	r->gather.on_turn = tell_other;
	r->gather.on_arg = r;
	if (!perf_gather_run(&r->gather, &r->job, &r->res, 2 * r->o.request_timeout_ns, r->deadline_ns + LATE_NS))
		return r->gather.bye ? (int)r->gather.exit_code : 1;
	int rc = replay_report(r);
	perf_gather_farewell(&r->job, (uint32_t)rc);
	return rc;
}

int replay_main(int argc, char **argv)
{
	struct perf_err err = {""};
	struct replay r = {.start_ns = 0};
	mc_status_t s;
	int rc = 2;

	if (replay_opts_parse(argc, argv, &r.o, &err) && r.o.help) {
		replay_help();
		return 0;
	}
	/* Bad input, too, is first agreed upon: one line from one rank, and no rank is left waiting for another. */
	s = perf_job_open(&r.job, "replay", perf_err_is_set(&err) ? NULL : r.o.transport);
	if (s != MC_OK) {
		if (perf_err_is_set(&err))
			perf_job_say(&r.job, "%s", err.text);
		return perf_err_is_set(&err) || s == MC_ERR_CONFIG ? 2 : 1;
	}
	if (perf_job_again() > 0) {
		rc = come_back(&r, &err) ? run(&r) : 1;
	} else if (agree_on_input(&r, &err)) {
		rc = agree_on_pools(&r) ? run(&r) : 1;
	}
	replay_free(&r);
	perf_job_close(&r.job);
	return rc;
}

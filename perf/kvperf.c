/* SPDX-License-Identifier: BSD-3-Clause */
#include "kvperf.h"

#include "commands.h"
#include "hostmem.h"

enum { PHASE_INPUT = 1, PHASE_POOLS, PHASE_RESHARD };
#define INPUT_NS INT64_C(60000000000)
#define POOLS_NS INT64_C(240000000000)

static bool agree_on_input(struct kvperf *k, const struct perf_err *bad)
{
	struct perf_vote v = {.avail = perf_hostmem_available(), .err = *bad};
	uint32_t flags;

	if (!perf_err_is_set(&v.err) && kvperf_load(k, &v.err)) {
		v.digest = kvperf_digest(k);
		v.need = kvperf_need(k);
	}
	return perf_job_agree(&k->job, PHASE_INPUT, &v, kvperf_judge, k, INPUT_NS, &flags);
}

static bool agree_on(struct kvperf *k, uint32_t phase, bool (*open)(struct kvperf *k, struct perf_err *err))
{
	struct perf_vote v = {.digest = 0};
	uint32_t flags;

	(void)open(k, &v.err);
	return perf_job_agree(&k->job, phase, &v, NULL, NULL, POOLS_NS, &flags);
}

static int run(struct kvperf *k)
{
	bool good = kvperf_run(k);

	if (k->job.rank == 0)
		return kvperf_report(k, good);
	return good ? 0 : 1;
}

/* Nobody leaves while others still use its pool. */
static void leave_together(struct kvperf *k)
{
	mc_status_t s = mc_barrier(mc_group_world(k->job.ctx), k->o.timeout_ns);

	if (s != MC_OK)
		kvperf_fail(k, "leaving", s);
}

static int work(struct kvperf *k, const struct perf_err *bad)
{
	int rc;

	if (!agree_on_input(k, bad))
		return 2;
	if (k->o.plan)
		return k->job.rank == 0 ? kvperf_plan(k) : 0;
	if (!agree_on(k, PHASE_POOLS, kvperf_pool_open) || !agree_on(k, PHASE_RESHARD, kvperf_reshard_open))
		return 1;
	rc = run(k);
	if (!k->failed)
		leave_together(k);
	return rc;
}

int kv_main(int argc, char **argv)
{
	struct perf_err err = {""};
	struct kvperf k = {.pos = 0};
	mc_status_t s;
	int rc;

	if (kvperf_opts_parse(argc, argv, &k.o, &err) && k.o.help) {
		kvperf_help();
		return 0;
	}
	/* Bad input, too, is first agreed upon: one line from one rank, and no rank is left waiting for another. */
	s = perf_job_open(&k.job, "kv", perf_err_is_set(&err) ? NULL : k.o.transport);
	if (s != MC_OK) {
		if (perf_err_is_set(&err))
			perf_job_say(&k.job, "%s", err.text);
		return perf_err_is_set(&err) || s == MC_ERR_CONFIG ? 2 : 1;
	}
	rc = work(&k, &err);
	kvperf_close(&k);
	perf_job_close(&k.job);
	return rc;
}

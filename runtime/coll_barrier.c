/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_barrier.c - barrier by dissemination: in round k each rank signals the one 2^k places on and waits for the one
 * 2^k places back; after ceil(log2 n) rounds everyone has heard of everyone. (Hensgen, Finkel and Manber, "Two
 * algorithms for barrier synchronization", 1988.)
 */
#include "coll.h"

static void build(struct mc_coll *c, const struct mc_coll_args *a)
{
	(void)a;
	mc_steps_agree(c, false);
}

const struct mc_algo mc_algo_barrier_dissemination = {
	.name = "dissemination", .op = MC_COLL_BARRIER, .build = build, .agrees = true};

static mc_status_t start(struct mc_group *g, const struct mc_coll_opts *o, bool waits, struct mc_req **req_out)
{
	const struct mc_coll_args a = {.op = MC_COLL_BARRIER};
	return mc_coll_start(g, &a, o, waits, req_out);
}

mc_status_t mc_ibarrier(struct mc_group *g, const struct mc_coll_opts *opts, struct mc_req **req_out)
{
	return start(g, opts, false, req_out);
}

mc_status_t mc_barrier(struct mc_group *g, int64_t timeout_ns)
{
	/* In options 0 means the setting; here it polls. */
	const struct mc_coll_opts o = {.size = sizeof(o), .timeout_ns = timeout_ns != 0 ? timeout_ns : 1};
	struct mc_req *req = NULL;
	mc_status_t s = start(g, &o, true, &req);
	return mc_coll_finish(s, req);
}

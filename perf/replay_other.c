/* SPDX-License-Identifier: BSD-3-Clause */
#include "replay_other.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TELL_NS INT64_C(2000000000)

bool replay_other_parse(const char *text, struct replay_opts *o, struct perf_err *err)
{
	const char *colon = strrchr(text, ':');
	uint64_t n;

	if (colon == NULL || colon == text || (size_t)(colon - text) >= sizeof(o->with_job) ||
	    !perf_parse_u64(colon + 1, 1, PERF_PATTERN_RANKS, &n)) {
		perf_err_set(err, "--with %s: must be JOB:N, the other job's name (its MC_JOB) and number of ranks",
			     text);
		return false;
	}
	memcpy(o->with_job, text, (size_t)(colon - text));
	o->with_job[colon - text] = '\0';
	o->with_n = (uint32_t)n;
	if (strpbrk(o->with_job, "*?[\\") != NULL)
		perf_err_set(err, "--with %s: must name one job, not a pattern", text);
	return !perf_err_is_set(err);
}

/* Are these all ranks of the job, in order? Both jobs number them by that. */
static bool check_found(struct replay *r, const uint32_t *peer, uint32_t n, struct perf_err *err)
{
	struct mc_peer_info info = {.size = sizeof(info)};

	if (n != r->o.with_n)
		perf_err_set(err, "--with %s:%u: the job has %u such ranks", r->o.with_job, r->o.with_n, n);
	for (uint32_t i = 0; i < n && !perf_err_is_set(err); i++) {
		if (mc_peer_query(r->job.ctx, peer[i], &info) != MC_OK || info.rank != i)
			perf_err_set(err, "--with %s: its ranks must all have the same role", r->o.with_job);
		else if (!perf_job_know(&r->job, peer[i]))
			perf_err_set(err, "out of memory");
	}
	return !perf_err_is_set(err);
}

bool replay_other_find(struct replay *r, struct perf_err *err)
{
	struct perf_job *j = &r->job;
	bool prefill = j->prefill != NULL;
	const char *role = prefill ? "decode" : "prefill";
	uint32_t *peer, n = 0;
	mc_status_t s;

	if (mc_group_size(prefill ? j->prefill : j->decode) != j->size || (prefill && j->decode != NULL)) {
		perf_err_set(
			err,
			"with --with all ranks of this job have one role: mcrun --prefill P ... or --decode D ...");
		return false;
	}
	peer = calloc(r->o.with_n, sizeof(*peer));
	if (peer == NULL) {
		perf_err_set(err, "out of memory");
		return false;
	}
	s = mc_peer_find(j->ctx, role, r->o.with_job, r->o.with_n, replay_start_ns(r), peer, r->o.with_n, &n);
	if (s == MC_ERR_TIMEOUT && mc_peer_find(j->ctx, role, r->o.with_job, 0, 0, peer, r->o.with_n, &n) != MC_OK)
		n = 0;
	if (s == MC_ERR_UNSUPPORTED)
		perf_err_set(err,
			     "--with needs an etcd through which the jobs find each other: MC_ETCD (see man mc-env)");
	else if (s == MC_ERR_TIMEOUT)
		perf_err_set(err, "--with %s:%u: %u ranks with role %s of a job of that name (MC_JOB) have come",
			     r->o.with_job, r->o.with_n, n, role);
	else if (s != MC_OK)
		perf_err_set(err, "--with %s: %s", r->o.with_job, mc_status_text(s));
	else if (check_found(r, peer, n, err) &&
		 mc_group_list(j->ctx, peer, n, prefill ? &j->decode : &j->prefill) != MC_OK)
		perf_err_set(err, "out of memory");
	free(peer);
	return !perf_err_is_set(err);
}

void replay_pool_name(const struct replay *r, char name[MC_NAME_MAX])
{
	if (r->o.with_n == 0)
		snprintf(name, MC_NAME_MAX, "kv");
	else
		snprintf(name, MC_NAME_MAX, "kv-%016" PRIx64, replay_digest(r));
}

int64_t replay_start_ns(const struct replay *r)
{
	return r->o.timeout_ns < REPLAY_START_NS ? r->o.timeout_ns : REPLAY_START_NS;
}

const char *replay_other_hint(const struct replay *r, mc_status_t s)
{
	return r->o.with_n != 0 && s == MC_ERR_TIMEOUT ? " (is it started with the same trace and options?)" : "";
}

uint32_t replay_writer(const struct replay *r, uint32_t prefill)
{
	return r->o.with_n == 0 ? mc_group_peer(r->job.prefill, prefill) : prefill;
}

void replay_other_tell(struct replay *r, uint64_t tag)
{
	struct mc_group *other = r->prefill_pos == MC_NO_RANK ? r->job.prefill : r->job.decode;
	int64_t deadline = perf_now_ns() + TELL_NS;

	for (uint32_t i = 0; r->o.with_n != 0 && i < r->o.with_n && other != NULL; i++) {
		uint32_t peer = mc_group_peer(other, i);
		struct mc_req *req = NULL;
		int64_t left = deadline - perf_now_ns();

		if (r->job.dead[peer] || mc_note_send(r->job.ctx, peer, tag, NULL, 0, &req) != MC_OK)
			continue;
		(void)mc_req_wait(req, left > 0 ? left : 0);
		mc_req_free(req);
	}
}

bool replay_other_back(struct replay *r, uint32_t peer, uint64_t *epoch)
{
	struct mc_peer_info info = {.size = sizeof(info)};

	if (mc_peer_query(r->job.ctx, peer, &info) != MC_OK || info.epoch == *epoch ||
	    (info.state != MC_OK && info.state != MC_IN_PROGRESS))
		return false;
	*epoch = info.epoch;
	perf_job_revive(&r->job, peer);
	return true;
}

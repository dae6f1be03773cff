/* SPDX-License-Identifier: BSD-3-Clause */
#include "place.h"

#include "topo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NEAR_ROOM = 96 };

uint32_t mc_place_next(const uint32_t *grade, const uint32_t *room, uint32_t *used, uint32_t node_n)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < node_n; i++) {
		bool full = used[i] >= room[i];

		if (room[i] == 0)
			continue;
		if (best == UINT32_MAX) {
			best = i;
			continue;
		}
		bool best_full = used[best] >= room[best];
		if (full != best_full) {
			if (best_full)
				best = i;
		} else if (!full && grade[i] != grade[best]) {
			if (grade[i] > grade[best])
				best = i;
		} else if (used[i] < used[best]) {
			best = i;
		}
	}
	if (best != UINT32_MAX)
		used[best]++;
	return best;
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static const char *xml_of(const struct mc_strv *env)
{
	const char *file = mc_strv_get(env, "HWLOC_XMLFILE");

	return file != NULL && *file != '\0' ? file : NULL;
}

int mc_place_check_xml(const struct mc_job *job, struct mc_strv *role_env, struct mc_err *err)
{
	const char *last = NULL;
	char mark[128], why[700];

	for (size_t r = 0; r < job->role_n; r++) {
		const char *file = xml_of(&role_env[r]);
		struct mc_topo_src src = {.xml_file = file, .isolate = true};
		struct mc_topo *t;

		if (file == NULL)
			continue;
		/* The mark first: what is changed while it is being read has another afterwards. */
		if (last == NULL || strcmp(last, file) != 0) {
			if (!mc_topo_file_mark(file, mark, sizeof(mark)))
				return mc_err_set(err, "HWLOC_XMLFILE=%s is not a file that can be read; unset it",
						  file);
			mc_status_t s = mc_topo_load(&src, &t, why, sizeof(why));
			if (s == MC_ERR_UNSUPPORTED) /* without hwloc nobody here reads it */
				return 0;
			if (s != MC_OK)
				return mc_err_set(err,
						  "HWLOC_XMLFILE: %s; unset it, or make it anew: lstopo --whole-io %s",
						  why, file);
			mc_topo_free(t);
		}
		last = file;
		mc_strv_set(&role_env[r], "MC_HWLOC_CHECKED", mark);
	}
	return 0;
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

/* Is there a live port, so that interfaces do not count? */
static enum mc_topo_kind kind_of(const struct mc_topo *t)
{
	for (uint32_t i = 0; i < t->nic_n; i++) {
		if (t->nic[i].kind == MC_TOPO_OPENFABRICS && mc_topo_nic_live(&t->nic[i]))
			return MC_TOPO_OPENFABRICS;
	}
	return MC_TOPO_NETWORK;
}

/* What the ranks of a role need, as their environment says. */
struct need {
	struct mc_topo_policy policy;
	struct mc_topo_buf near;
	bool near_set;
	uint32_t *grade; /* [node_n] */
};

/* Nearest live NIC; or a GPU, whose bytes pass through its node anyway, unless the user names the NICs. */
static bool grade_node(const struct mc_topo *t, const struct need *n, uint32_t node, uint32_t *grade_out)
{
	struct mc_topo_want w = {.kind = kind_of(t), .buf = {MC_TOPO_BUF_NODE, node}, .policy = &n->policy};
	struct mc_topo_choice c;

	if (n->near_set) {
		*grade_out = (uint32_t)mc_topo_near(t, &n->near, &t->node[node].loc);
		return true;
	}
	*grade_out = MC_NEAR_OTHER;
	if (mc_topo_choose(t, &w, &c) != MC_OK)
		return false;
	if (c.use_n > 0)
		*grade_out = (uint32_t)c.pick[0].near;
	mc_topo_choice_free(&c);
	for (uint32_t i = 0; i < t->gpu_n && n->policy.include == NULL; i++) {
		const struct mc_topo_loc *at = &t->pci[t->gpu[i].pci].loc;
		if (at->known && mc_topo_nodeset_has(&at->nodes, node) && *grade_out < MC_NEAR_NODE)
			*grade_out = MC_NEAR_NODE;
	}
	return true;
}

static int need_fill(const struct mc_topo *t, const struct mc_strv *env, struct need *n, struct mc_err *err)
{
	const char *device = mc_strv_get(env, "MC_DEVICE"), *near = mc_strv_get(env, "MC_NEAR");
	char why[700];

	if (mc_topo_policy_parse(t, device != NULL ? device : "", &n->policy, why, sizeof(why)) != MC_OK)
		return mc_err_set(err, "MC_DEVICE: %s", why);
	n->near_set = near != NULL && *near != '\0';
	if (n->near_set && mc_topo_buf_find(t, near, &n->near, why, sizeof(why)) != MC_OK)
		return mc_err_set(err, "MC_NEAR: %s", why);
	n->grade = mc_xalloc(t->node_n, sizeof(*n->grade));
	for (uint32_t i = 0; i < t->node_n; i++) {
		if (!grade_node(t, n, i, &n->grade[i]))
			return mc_err_set(err, "no memory to choose nodes");
	}
	return 0;
}

/* The NICs that a rank there will use, for people. */
static char *say_near(const struct mc_topo *t, const struct need *n, uint32_t node, uint32_t index, uint32_t sharers)
{
	struct mc_topo_want w = {.kind = kind_of(t), .buf = {MC_TOPO_BUF_NODE, node}, .policy = &n->policy};
	struct mc_topo_choice c;
	char out[NEAR_ROOM] = "";

	if (n->near_set)
		w.buf = n->near;
	w.local_rank = index;
	w.sharers = w.buf.kind == MC_TOPO_BUF_NODE ? sharers : 0;
	if (mc_topo_choose_rank(t, &w, &c) != MC_OK)
		return mc_xstrdup("");
	if (!mc_topo_choice_devices(t, &c, out, sizeof(out))) {
		size_t at = strlen(out) < NEAR_ROOM - 4 ? strlen(out) : NEAR_ROOM - 4;
		(void)snprintf(out + at, NEAR_ROOM - at, "...");
	}
	mc_topo_choice_free(&c);
	return mc_xstrdup(out);
}

static int deal(struct mc_bind *b, const struct mc_topo *t, const struct mc_job *job, const struct need *need,
		const uint32_t *node_of, struct mc_err *err)
{
	uint32_t *room = mc_xalloc(b->place_n, sizeof(*room)), *grade = mc_xalloc(b->place_n, sizeof(*grade));
	int rc = 0;

	b->rank_place = mc_xalloc(job->rank_n, sizeof(*b->rank_place));
	b->near = mc_xalloc(job->rank_n, sizeof(*b->near));
	b->index = mc_xalloc(job->rank_n, sizeof(*b->index));
	b->used = mc_xalloc(b->place_n, sizeof(*b->used));
	for (uint32_t i = 0; i < b->place_n; i++)
		room[i] = mc_cpuset_count(&b->place[i]);
	for (; b->rank_n < job->rank_n && rc == 0; b->rank_n++) {
		const struct need *n = &need[mc_job_place(job, b->rank_n).role];
		for (uint32_t i = 0; i < b->place_n; i++)
			grade[i] = n->grade[node_of[i]];
		uint32_t place = mc_place_next(grade, room, b->used, b->place_n);
		if (place == UINT32_MAX) {
			rc = mc_err_set(err, "no NUMA node has a CPU for rank %u", b->rank_n);
			break;
		}
		b->rank_place[b->rank_n] = place;
		b->index[b->rank_n] = b->used[place] - 1;
	}
	for (uint32_t r = 0; r < b->rank_n; r++) {
		uint32_t place = b->rank_place[r];
		b->near[r] = say_near(t, &need[mc_job_place(job, r).role], node_of[place], b->index[r], b->used[place]);
	}
	free(grade);
	free(room);
	return rc;
}

/* The nodes that have CPUs for us, instead of those of sysfs. Of a file that is only shown all CPUs count. */
static int take_nodes(struct mc_bind *b, const struct mc_topo *t, const struct mc_cpuset *allowed, uint32_t *node_of,
		      struct mc_err *err)
{
	mc_bind_close(b);
	b->mode = MC_BIND_NUMA;
	for (uint32_t i = 0; i < t->node_n; i++) {
		struct mc_cpuset set;

		if (t->node[i].cpus[0] == '\0' || !mc_cpuset_parse(t->node[i].cpus, &set) ||
		    (allowed != NULL && !mc_cpuset_both(&set, allowed)))
			continue;
		node_of[b->place_n] = i;
		mc_bind_add(b, &set, t->node[i].os_index);
	}
	if (b->place_n == 0)
		return mc_err_set(err, "none of the CPUs of %s may be used here; is it of another machine?", t->source);
	return 0;
}

static int place_on(struct mc_bind *b, const struct mc_topo *t, const struct mc_job *job,
		    const struct mc_strv *role_env, bool only_shown, struct mc_err *err)
{
	struct need *need = mc_xalloc(job->role_n, sizeof(*need));
	uint32_t *node_of = mc_xalloc(t->node_n, sizeof(*node_of));
	struct mc_cpuset allowed;
	int rc = mc_bind_allowed(&allowed, err);

	if (rc == 0)
		rc = take_nodes(b, t, only_shown ? NULL : &allowed, node_of, err);
	for (size_t r = 0; r < job->role_n && rc == 0; r++)
		rc = need_fill(t, &role_env[r], &need[r], err);
	if (rc == 0)
		rc = deal(b, t, job, need, node_of, err);
	for (size_t r = 0; r < job->role_n; r++) {
		mc_topo_policy_free(&need[r].policy);
		free(need[r].grade);
	}
	free(need);
	free(node_of);
	return rc;
}

int mc_place_open(struct mc_bind *b, const struct mc_job *job, const struct mc_strv *role_env, struct mc_err *err)
{
	const char *file = job->role_n > 0 ? xml_of(&role_env[0]) : NULL;
	struct mc_topo_src src = {.xml_file = file, .isolate = file != NULL, .root = file != NULL ? NULL : "/"};
	struct mc_topo *t;
	char why[700];

	if (job->bind != MC_BIND_NUMA)
		return 0;
	if (file == NULL && b->place_n < 2) {
		if (job->verbose)
			(void)fprintf(stderr, "mcrun: --bind numa: this host has one NUMA node for the ranks, so there "
					      "is nothing to choose\n");
		return 0;
	}
	if (mc_topo_load(&src, &t, why, sizeof(why)) != MC_OK)
		return mc_err_set(err, "--bind numa: %s", why);
	long here = sysconf(_SC_NPROCESSORS_CONF);
	int rc;
	if (file != NULL && !job->dry_run && t->pus != (unsigned long)here)
		rc = mc_err_set(
			err,
			"--bind numa: HWLOC_XMLFILE=%s is of a machine with %u CPUs, this one has %ld; unset it, or "
			"look at the places with --dry-run",
			file, t->pus, here);
	else
		rc = place_on(b, t, job, role_env, job->dry_run && file != NULL, err);
	mc_topo_free(t);
	return rc;
}

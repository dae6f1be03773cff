/* SPDX-License-Identifier: BSD-3-Clause */
#include "server_job.h"

#include <pmix.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A growing pmix_info_t array. */
struct infos {
	pmix_info_t *v;
	size_t n, room;
};

static void add(struct infos *l, const char *key, const void *value, pmix_data_type_t type)
{
	if (l->n == l->room) {
		l->room = l->room == 0 ? 32 : l->room * 2;
		l->v = mc_xgrow(l->v, l->room, sizeof(*l->v));
	}
	memset(&l->v[l->n], 0, sizeof(l->v[0]));
	PMIX_INFO_LOAD(&l->v[l->n], key, value, type);
	l->n++;
}

static void add_u32(struct infos *l, const char *key, uint32_t value)
{
	add(l, key, &value, PMIX_UINT32);
}

/* Wrap what is in inner as one value of type array; inner's values move, nothing is copied. */
static void add_array(struct infos *l, const char *key, struct infos *inner)
{
	pmix_data_array_t *a = mc_xalloc(1, sizeof(*a));

	a->type = PMIX_INFO;
	a->size = inner->n;
	a->array = inner->v;
	if (l->n == l->room) {
		l->room = l->room == 0 ? 32 : l->room * 2;
		l->v = mc_xgrow(l->v, l->room, sizeof(*l->v));
	}
	memset(&l->v[l->n], 0, sizeof(l->v[0]));
	PMIX_LOAD_KEY(l->v[l->n].key, key);
	l->v[l->n].value.type = PMIX_DATA_ARRAY;
	l->v[l->n].value.data.darray = a;
	l->n++;
	*inner = (struct infos){0};
}

static void infos_free(struct infos *l)
{
	for (size_t i = 0; i < l->n; i++)
		PMIX_INFO_DESTRUCT(&l->v[i]);
	free(l->v);
	*l = (struct infos){0};
}

/* Which host a rank is on; without a list of hosts all are on number 0. */
static uint32_t host_of(const struct mc_server_cfg *cfg, uint32_t rank)
{
	return cfg->hosts == NULL ? 0 : cfg->hosts->of_rank[rank];
}

static const char *host_name(const struct mc_server_cfg *cfg, uint32_t host)
{
	return cfg->hosts == NULL ? cfg->host : cfg->hosts->host[host].name;
}

static void add_ranks(struct infos *l, const struct mc_server_cfg *cfg)
{
	const struct mc_job *job = cfg->job;
	uint32_t rank = 0, host_n = cfg->hosts == NULL ? 1 : cfg->hosts->n;
	uint16_t *next = mc_xalloc(host_n, sizeof(*next)); /* number of the next rank on its host */

	for (uint32_t app = 0; app < job->role_n; app++) {
		for (uint32_t i = 0; i < job->role[app].n; i++, rank++) {
			struct infos p = {0};
			uint32_t node = host_of(cfg, rank);
			uint16_t local = next[node]++;

			add(&p, PMIX_RANK, &rank, PMIX_PROC_RANK);
			add_u32(&p, PMIX_APPNUM, app);
			add(&p, PMIX_APP_RANK, &i, PMIX_PROC_RANK);
			add(&p, PMIX_GLOBAL_RANK, &rank, PMIX_PROC_RANK);
			add(&p, PMIX_LOCAL_RANK, &local, PMIX_UINT16);
			add(&p, PMIX_NODE_RANK, &local, PMIX_UINT16);
			add_u32(&p, PMIX_NODEID, node);
			add(&p, PMIX_HOSTNAME, host_name(cfg, node), PMIX_STRING);
			add_array(l, PMIX_PROC_DATA, &p);
		}
	}
	free(next);
}

static void add_apps(struct infos *l, const struct mc_job *job)
{
	uint32_t first = 0;

	for (uint32_t app = 0; app < job->role_n; app++) {
		struct infos a = {0};

		add_u32(&a, PMIX_APPNUM, app);
		add_u32(&a, PMIX_APP_SIZE, job->role[app].n);
		add(&a, PMIX_APPLDR, &first, PMIX_PROC_RANK);
		add_array(l, PMIX_APP_INFO_ARRAY, &a);
		first += job->role[app].n;
	}
}

/* "0,1,5": the ranks of a host. */
static char *ranks_of(const struct mc_server_cfg *cfg, uint32_t host, uint32_t *n_out)
{
	size_t room = (size_t)cfg->job->rank_n * 11 + 1, at = 0;
	char *list = mc_xalloc(room, 1);
	uint32_t n = 0;

	for (uint32_t r = 0; r < cfg->job->rank_n; r++)
		if (host_of(cfg, r) == host)
			at += (size_t)snprintf(list + at, room - at, "%s%u", n++ == 0 ? "" : ",", r);
	*n_out = n;
	return list;
}

/* All hosts, and the ranks of each, as libpmix wants them written. */
static void write_maps(const struct mc_server_cfg *cfg, char **nodes, char **ranks)
{
	uint32_t n;

	*nodes = mc_xstrdup(host_name(cfg, 0));
	*ranks = ranks_of(cfg, 0, &n);
	for (uint32_t h = 1; cfg->hosts != NULL && h < cfg->hosts->n; h++) {
		char *list = ranks_of(cfg, h, &n);
		char *more_nodes = mc_xformat("%s,%s", *nodes, host_name(cfg, h));
		char *more_ranks = mc_xformat("%s;%s", *ranks, list);

		free(list);
		free(*nodes);
		free(*ranks);
		*nodes = more_nodes;
		*ranks = more_ranks;
	}
}

static pmix_status_t add_job(struct infos *l, const struct mc_server_cfg *cfg, const char *job_name)
{
	uint32_t n = cfg->job->rank_n, here;
	char *nodes = NULL, *procs = NULL, *host_list, *rank_list, *list = ranks_of(cfg, cfg->self, &here);

	write_maps(cfg, &host_list, &rank_list);
	pmix_status_t rc = PMIx_generate_regex(host_list, &nodes);
	if (rc == PMIX_SUCCESS)
		rc = PMIx_generate_ppn(rank_list, &procs);
	if (rc == PMIX_SUCCESS) {
		add(l, PMIX_JOBID, job_name, PMIX_STRING);
		add_u32(l, PMIX_JOB_SIZE, n);
		add_u32(l, PMIX_UNIV_SIZE, n);
		add_u32(l, PMIX_MAX_PROCS, n);
		add_u32(l, PMIX_JOB_NUM_APPS, (uint32_t)cfg->job->role_n);
		add_u32(l, PMIX_NUM_NODES, cfg->hosts == NULL ? 1 : cfg->hosts->n);
		add_u32(l, PMIX_LOCAL_SIZE, here);
		add_u32(l, PMIX_NODE_SIZE, here);
		add(l, PMIX_LOCAL_PEERS, list, PMIX_STRING);
		add(l, PMIX_NODE_MAP, nodes, PMIX_REGEX);
		add(l, PMIX_PROC_MAP, procs, PMIX_REGEX);
		add(l, PMIX_TMPDIR, cfg->tmpdir, PMIX_STRING);
		add(l, PMIX_NSDIR, cfg->tmpdir, PMIX_STRING);
		add_apps(l, cfg->job);
		add_ranks(l, cfg);
	}
	free(nodes);
	free(procs);
	free(host_list);
	free(rank_list);
	free(list);
	return rc;
}

/* To wait for the library's thread. */
struct done {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool set;
	pmix_status_t status;
};

static void set_done(pmix_status_t status, void *arg)
{
	struct done *d = arg;

	(void)pthread_mutex_lock(&d->lock);
	d->set = true;
	d->status = status;
	(void)pthread_cond_signal(&d->cond);
	(void)pthread_mutex_unlock(&d->lock);
}

static pmix_status_t wait_done(struct done *d, pmix_status_t rc)
{
	if (rc == PMIX_OPERATION_SUCCEEDED)
		return PMIX_SUCCESS;
	if (rc != PMIX_SUCCESS)
		return rc;
	(void)pthread_mutex_lock(&d->lock);
	while (!d->set)
		(void)pthread_cond_wait(&d->cond, &d->lock);
	(void)pthread_mutex_unlock(&d->lock);
	return d->status;
}

pmix_status_t mc_server_job_register(const struct mc_server_cfg *cfg, const char *job_name)
{
	struct done d = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, PMIX_SUCCESS};
	struct infos l = {0};
	pmix_status_t rc = add_job(&l, cfg, job_name);
	uint32_t here = 0;

	for (uint32_t r = 0; r < cfg->job->rank_n; r++)
		here += host_of(cfg, r) == cfg->self;

	if (rc == PMIX_SUCCESS)
		rc = wait_done(&d, PMIx_server_register_nspace(job_name, (int)here, l.v, l.n, set_done, &d));
	infos_free(&l);
	return rc;
}

pmix_status_t mc_server_client_register(const pmix_proc_t *proc)
{
	struct done d = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, PMIX_SUCCESS};

	return wait_done(&d, PMIx_server_register_client(proc, geteuid(), getegid(), NULL, set_done, &d));
}

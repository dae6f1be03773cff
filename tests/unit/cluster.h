/* SPDX-License-Identifier: BSD-3-Clause */
/* cluster.h - n contexts of one job in one process, for tests of the engine. Include after cmocka.h. */
#ifndef MC_TEST_CLUSTER_H
#define MC_TEST_CLUSTER_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub.h"
#include "internal.h"

#include "loop.h"

#define SEC INT64_C(1000000000)

/*
 * Two contexts of one process that talk through UCX are ordered by sockets and shared memory inside UCX, which the
 * thread sanitizer does not see: it would call every payload byte a race. The contract test covers UCX under it, with
 * memory of its own.
 */
#if defined(MC_HAVE_UCX) && !defined(__SANITIZE_THREAD__)
#define CLUSTER_UCX 1
#endif

struct cluster {
	uint32_t n;
	struct mc_hub *hub;
	struct mc_ctx *ctx[64];
	const char *backend, *transport, *progress;
	uint32_t loop_caps; /* set before cluster_up() */
	const char *role;   /* NULL: prefill and decode in turn */
};

struct cluster_start {
	struct cluster *c;
	uint32_t rank;
	mc_status_t status;
};

static inline void *cluster_init_one(void *arg)
{
	struct cluster_start *s = arg;
	struct mc_params p = {.size = sizeof(p),
			      .hub = s->c->hub,
			      .rank = s->rank,
			      .role = s->c->role != NULL ? s->c->role
				      : s->rank % 2 == 0 ? "prefill"
							 : "decode",
			      .backend = s->c->backend,
			      .transport = s->c->transport,
			      .progress = s->c->progress,
			      .init_timeout_ns = 20 * SEC};
	s->status = mc_init(&p, &s->c->ctx[s->rank]);
	return NULL;
}

static inline void cluster_up(struct cluster *c, uint32_t n, const char *backend, const char *transport)
{
	pthread_t t[64];
	struct cluster_start s[64];
	c->n = n;
	c->backend = backend;
	c->transport = transport;
	assert_int_equal(mc_hub_create(n, &c->hub), MC_OK);
	c->hub->loop_caps = c->loop_caps;
	for (uint32_t i = 0; i < n; i++) {
		s[i] = (struct cluster_start){.c = c, .rank = i};
		assert_int_equal(pthread_create(&t[i], NULL, cluster_init_one, &s[i]), 0);
	}
	for (uint32_t i = 0; i < n; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(s[i].status, MC_OK);
	}
}

static inline void cluster_down(struct cluster *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		mc_finalize(c->ctx[i]);
	mc_hub_free(c->hub);
	memset(c, 0, sizeof(*c));
}

/* Fault on the loop backend of one rank. */
static inline void cluster_fault(struct cluster *c, uint32_t rank, struct mc_loop_fault f)
{
	pthread_mutex_lock(&c->hub->lock);
	struct mc_be *be = c->hub->slot[rank].loop;
	pthread_mutex_unlock(&c->hub->lock);
	assert_non_null(be);
	mc_loop_fault(be, &f);
}

/* A pool of rank `owner`, published, seen by rank `user`. */
static inline void cluster_share(struct cluster *c, uint32_t owner, uint32_t user, uint64_t len, struct mc_mem **mem,
				 struct mc_rmem **rmem)
{
	char name[32];
	static unsigned int serial;
	snprintf(name, sizeof(name), "m%u", serial++);
	assert_int_equal(mc_mem_alloc(c->ctx[owner], len, NULL, mem), MC_OK);
	assert_int_equal(mc_mem_publish(*mem, name), MC_OK);
	assert_int_equal(mc_mem_lookup(c->ctx[user], owner, name, 30 * SEC, rmem), MC_OK);
	assert_int_equal(mc_rmem_len(*rmem), len);
	assert_int_equal(mc_rmem_peer(*rmem), owner);
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * foreign_side.h - two jobs in one process that meet through the fake directory. Include after cmocka.h, once per
 * program: it takes the place of builtin.c.
 */
#ifndef MC_TEST_FOREIGN_SIDE_H
#define MC_TEST_FOREIGN_SIDE_H

#include <sched.h>

#include "cluster.h"
#include "fake_bridge.h"
#include "foreign.h"

extern const struct mc_be_ops mc_be_shm, mc_be_ucx;
extern const struct mc_boot_ops mc_boot_hub;

/* In place of builtin.c. */
const struct mc_be_ops *const mc_builtin_backends[] = {
	&mc_be_shm,
#ifdef MC_HAVE_UCX
	&mc_be_ucx,
#endif
	NULL,
};
const struct mc_boot_ops *const mc_builtin_boots[] = {&mc_boot_hub, NULL};
const struct mc_bridge_ops *const mc_builtin_bridges[] = {&mc_bridge_fake, NULL};

static const char *transport = "auto"; /* of the jobs that are started */
static _Atomic(bool) refused; /* there was a line about p-a */

static inline void keep_line(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	if (strstr(line, "rank 0 of job p-a is refused") != NULL)
		atomic_store(&refused, true);
}

static inline int begin(void **state)
{
	(void)state;
	fake_reset();
	transport = "auto";
	mc_log_set_sink(keep_line, NULL);
	return 0;
}

static char job_key[65]; /* of the job that was started last */

static inline void job_up(struct cluster *c, const char *name, const char *role, uint32_t n, const char *backend)
{
	static unsigned int serial;
	for (size_t i = 0; i < 64; i += 2)
		snprintf(job_key + i, 3, "%02x", (unsigned int)(serial * 16 + i) & 0xff);
	serial++;
	setenv("MC_JOB", name, 1);
	setenv("MC_JOB_KEY", job_key, 1); /* jobs do not know each other's */
	c->role = role;
	cluster_up(c, n, backend, transport);
	unsetenv("MC_JOB");
	unsetenv("MC_JOB_KEY");
}

/* Prefill job "p-a", two ranks; decode job "d-a", three. */
static inline void both_up(struct cluster *p, struct cluster *d, const char *backend)
{
	memset(p, 0, sizeof(*p));
	memset(d, 0, sizeof(*d));
	job_up(p, "p-a", "prefill", 2, backend);
	job_up(d, "d-a", "decode", 3, backend);
}

static inline void both_down(struct cluster *p, struct cluster *d)
{
	cluster_down(d);
	cluster_down(p);
}

static inline void find(struct mc_ctx *ctx, const char *role, const char *pattern, uint32_t n, uint32_t *peer)
{
	uint32_t got;
	assert_int_equal(mc_peer_find(ctx, role, pattern, n, 20 * SEC, peer, n, &got), MC_OK);
	assert_int_equal(got, n);
}

static inline void note_between(struct mc_ctx *from, uint32_t to_number, struct mc_ctx *to, uint32_t from_number)
{
	struct mc_note *n;
	assert_int_equal(mc_note_send(from, to_number, 3, "hello", 5, NULL), MC_OK);
	assert_int_equal(mc_note_recv(to, 20 * SEC, &n), MC_OK);
	if (from_number != MC_NO_RANK)
		assert_int_equal(n->peer, from_number);
	assert_true(n->epoch == from->epoch);
	mc_note_free(n);
}

#endif

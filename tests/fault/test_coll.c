/* SPDX-License-Identifier: BSD-3-Clause */
/* Collectives with a rank that does not come, is frozen, dies or leaves: the right status by the deadline, with its
 * name. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../coll/side.h"

enum { OPS = 10, ROOM = 1 << 20 };

/* What a member that came has seen. */
struct seen {
	int64_t begun_ns, took_ns;
	mc_status_t status;
	bool named;
};

struct plan {
	uint32_t op, victim;
	uint64_t len;
	int64_t timeout_ns;
	mc_status_t want;
	_Atomic(uint32_t) ready; /* members that are about to begin: a deadline must not pass before the last one has */
	struct seen seen[SIDE_MAX];
};

static mc_status_t begin(struct member *m, uint32_t op, uint64_t l, int64_t timeout_ns, struct mc_req **req)
{
	uint64_t len[SIDE_MAX], off[SIDE_MAX];
	struct mc_buf s = {m->src, 0}, d = {m->dst, 0};
	struct mc_coll_opts o = {.size = sizeof(o), .timeout_ns = timeout_ns};
	for (uint32_t i = 0; i < m->n; i++) {
		len[i] = l;
		off[i] = i * l;
	}
	switch (op) {
	case 0:
		return mc_ibarrier(m->g, &o, req);
	case 1:
		return mc_ibcast(m->g, 0, d, l, &o, req);
	case 2:
		return mc_iscatter(m->g, 0, s, d, l, &o, req);
	case 3:
		return mc_iscatterv(m->g, 0, s, len, off, d, l, &o, req);
	case 4:
		return mc_igather(m->g, 0, s, d, l, &o, req);
	case 5:
		return mc_igatherv(m->g, 0, s, l, d, len, off, &o, req);
	case 6:
		return mc_iallgather(m->g, s, d, l, &o, req);
	case 7:
		return mc_iallgatherv(m->g, s, d, len, off, &o, req);
	case 8:
		return mc_ialltoall(m->g, s, d, l, &o, req);
	default:
		return mc_ialltoallv(m->g, s, len, off, d, len, off, &o, req);
	}
}

static bool fault_names(struct mc_ctx *ctx, uint32_t peer)
{
	struct mc_fault f = {.size = sizeof(f)};
	bool named = false;
	while (mc_fault_next(ctx, &f) == MC_OK)
		named = named || f.peer == peer;
	return named;
}

static void without_one(struct member *m)
{
	struct plan *p = m->side->arg;
	struct seen *seen = &p->seen[m->rank];
	struct mc_req *req;
	if (m->rank == p->victim)
		return;
	memset(m->d, 0xee, ROOM);
	atomic_fetch_add(&p->ready, 1);
	while (atomic_load(&p->ready) % (m->side->n - 1) != 0)
		sched_yield();
	int64_t start = mc_now_ns();
	CHECK(m, begin(m, p->op, p->len, p->timeout_ns, &req) == MC_OK);
	seen->begun_ns = mc_now_ns();
	seen->status = mc_req_wait(req, 60 * SEC);
	seen->took_ns = mc_now_ns() - start;
	seen->named = fault_names(m->ctx, p->victim);
	mc_req_free(req);
	m->salt = side_not(m->d, ROOM, 0xee);
}

/*
 * False: the members that came did not come together, or one has missed another than the victim: the machine may have
 * held somebody up for as long as the deadline. The round says nothing; it is repeated with a longer deadline, until
 * that is no excuse any more.
 */
static bool conclusive(const struct side *s, struct plan *p)
{
	static unsigned int unnamed; /* rounds in which all began together, and yet the wrong one was named */
	int64_t first = INT64_MAX, last = 0;
	bool named = true, apart;
	for (uint32_t i = 0; i < s->n; i++) {
		const struct seen *seen = &p->seen[i];
		if (i == p->victim)
			continue;
		first = seen->begun_ns < first ? seen->begun_ns : first;
		last = seen->begun_ns > last ? seen->begun_ns : last;
		named = named && seen->named;
	}
	apart = last - first > p->timeout_ns / 2;
	unnamed += !named && !apart;
	assert_true(unnamed <= 3);
	if ((apart || !named) && p->timeout_ns < 8 * SEC) {
		p->timeout_ns *= 2;
		return false;
	}
	for (uint32_t i = 0; i < s->n; i++) {
		if (i == p->victim)
			continue;
		assert_int_equal(p->seen[i].status, p->want);
		assert_true(p->seen[i].took_ns < p->timeout_ns + 20 * SEC);
		assert_true(p->want != MC_ERR_TIMEOUT || p->seen[i].named);
	}
	return true;
}

/* What the others gave up is over for the one that comes late, too; then they are in step again. */
static void with_it(struct member *m)
{
	const struct plan *p = m->side->arg;
	struct mc_req *req;
	if (m->rank == p->victim) {
		CHECK(m, begin(m, p->op, p->len, 30 * SEC, &req) == MC_OK);
		/* What the others gave before they gave up may be all that it needs, and be here before their word. */
		mc_status_t s = mc_req_wait(req, 20 * SEC);
		CHECK(m, s == MC_ERR_TIMEOUT || s == MC_OK);
		mc_req_free(req);
	}
	CHECK(m, mc_barrier(m->g, 20 * SEC) == MC_OK);
	if (m->rank != p->victim)
		CHECK(m, side_not(m->d, ROOM, 0xee) == m->salt);
}

static void quiet(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static void absent__is_named_by_the_deadline(void **state)
{
	(void)state;
	mc_log_set_sink(quiet, NULL);
	for (size_t w = 0; w < MC_ARRAY_LEN(side_ways) + MC_ARRAY_LEN(side_few); w++) {
		struct side s;
		struct plan p = {.timeout_ns = SEC / 4, .want = MC_ERR_TIMEOUT};
		side_up(&s, w < MC_ARRAY_LEN(side_ways) ? &side_ways[w] : &side_few[w - MC_ARRAY_LEN(side_ways)], 4,
			ROOM);
		s.arg = &p;
		for (p.op = 0; p.op < OPS; p.op++) {
			p.victim = p.op % 4;
			p.len = p.op % 2 ? 16 : 30000;
			if (s.way->progress != NULL)
				continue; /* a rank that never makes progress cannot answer */
			do {
				side_run(&s, without_one);
				side_run(&s, with_it);
			} while (!conclusive(&s, &p));
		}
		side_down(&s);
	}
	mc_log_set_sink(NULL, NULL);
}

/* The link to one rank holds everything back: it cannot even be asked. */
static bool frozen_once(struct plan *p)
{
	struct side s;
	side_up(&s, &side_ways[0], 3, ROOM);
	s.arg = p;
	for (uint32_t i = 0; i < 3; i++)
		s.m[i].ctx->cfg.cancel_timeout = SEC / 5;
	for (uint32_t i = 0; i < 2; i++) {
		cluster_fault(&s.c, i, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 2, .n = 1});
		cluster_fault(&s.c, 2, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = i, .n = 1});
	}
	side_run(&s, without_one);
	bool yes = conclusive(&s, p);
	side_down(&s);
	return yes;
}

static void frozen__ends_and_is_named(void **state)
{
	(void)state;
	mc_log_set_sink(quiet, NULL);
	for (uint32_t op = 0; op < OPS; op++) {
		struct plan p = {.op = op,
				 .victim = 2,
				 .len = op % 2 ? 16 : 30000,
				 .timeout_ns = SEC / 5,
				 .want = MC_ERR_TIMEOUT};
		while (!frozen_once(&p))
			;
	}
	mc_log_set_sink(NULL, NULL);
}

static _Atomic(uint32_t) linked;

static void killed(struct member *m)
{
	const struct plan *p = m->side->arg;
	struct mc_req *req;
	CHECK(m, mc_barrier(m->g, 20 * SEC) == MC_OK); /* there are links that can break */
	atomic_fetch_add(&linked, 1);
	if (m->rank == p->victim) {
		while (atomic_load(&linked) < m->n)
			sched_yield();
		for (uint32_t i = 0; i < m->n; i++)
			if (i != m->rank)
				cluster_fault(&m->side->c, i,
					      (struct mc_loop_fault){.kind = MC_LOOP_KILL, .peer = m->rank});
		return;
	}
	int64_t start = mc_now_ns();
	mc_status_t s = begin(m, p->op, p->len, 30 * SEC, &req);
	CHECK(m, s == MC_OK);
	s = mc_req_wait(req, 30 * SEC);
	CHECK(m, s == MC_ERR_PEER_DOWN);
	CHECK(m, mc_now_ns() - start < 25 * SEC); /* by the news, not by the deadline */
	CHECK(m, fault_names(m->ctx, p->victim));
	mc_req_free(req);
	/* With a member dead the group is of no more use, which the next one says at once; a group of the others works.
	 */
	s = begin(m, p->op, p->len, 30 * SEC, &req);
	CHECK(m, s == MC_OK && mc_req_wait(req, 30 * SEC) == MC_ERR_PEER_DOWN);
	mc_req_free(req);
	uint32_t alive[SIDE_MAX], n = 0;
	for (uint32_t i = 0; i < m->n; i++)
		if (i != p->victim)
			alive[n++] = i;
	struct mc_group *g = NULL;
	CHECK(m, mc_group_list(m->ctx, alive, n, &g) == MC_OK);
	CHECK(m, mc_barrier(g, 20 * SEC) == MC_OK);
	CHECK(m, mc_allgather(g, (struct mc_buf){m->src, 0}, (struct mc_buf){m->dst, 0}, 20000, NULL) == MC_OK);
	mc_group_free(g);
}

static void dead__ends_all_that_wait(void **state)
{
	(void)state;
	mc_log_set_sink(quiet, NULL);
	for (uint32_t op = 0; op < OPS; op++) {
		for (uint32_t n = 2; n <= 5; n += 3) {
			struct side s;
			struct plan p = {.op = op, .victim = op % n, .len = op % 2 ? 16 : 30000};
			side_up(&s, &side_ways[0], n, ROOM);
			s.arg = &p;
			atomic_store(&linked, 0);
			side_run(&s, killed);
			side_down(&s);
		}
	}
	mc_log_set_sink(NULL, NULL);
}

static void *leave(void *arg)
{
	struct member *m = arg;
	m->status = mc_barrier(m->g, 20 * SEC);
	mc_finalize(m->ctx);
	return NULL;
}

/* A member that leaves instead of calling is as good as dead. */
static void left__ends_what_waits_for_it(void **state)
{
	(void)state;
	mc_log_set_sink(quiet, NULL);
	for (size_t w = 0; w < MC_ARRAY_LEN(side_ways); w++) {
		struct side s;
		struct mc_req *req;
		pthread_t t;
		side_up(&s, &side_ways[w], 2, ROOM);
		assert_int_equal(pthread_create(&t, NULL, leave, &s.m[1]), 0);
		assert_int_equal(mc_barrier(s.m[0].g, 20 * SEC), MC_OK);
		assert_int_equal(begin(&s.m[0], 6, 30000, 30 * SEC, &req), MC_OK);
		assert_int_equal(mc_req_wait(req, 20 * SEC), MC_ERR_PEER_DOWN);
		mc_req_free(req);
		pthread_join(t, NULL);
		assert_int_equal(s.m[1].status, MC_OK);
		free(s.m[1].d);
		s.c.ctx[1] = NULL;
		s.n = 1;
		side_down(&s);
	}
	mc_log_set_sink(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(absent__is_named_by_the_deadline),
		cmocka_unit_test(frozen__ends_and_is_named),
		cmocka_unit_test(dead__ends_all_that_wait),
		cmocka_unit_test(left__ends_what_waits_for_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

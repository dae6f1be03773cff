/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranks that disagree: MC_ERR_MISMATCH on every member, long before the deadline, and the next collective works. Every
 * pair of collectives, another root, another length (short, long, zero), and lengths that only two ranks know.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "side.h"

enum { ROOM = 1 << 20, SHORT = 64, LONG = 30000 };

/* What a rank does: a collective with a root and a length. */
struct call {
	enum mc_coll_op op;
	bool v;
	uint32_t root;
	uint64_t len;
	uint32_t odd; /* v: the rank whose block counts for len + 1 in this rank's view; MC_NO_RANK: none */
};

struct plan {
	struct call most, one;
	uint32_t who; /* who does `one` */
};

static mc_status_t call(struct member *m, const struct call *k)
{
	uint64_t len[SIDE_MAX], off[SIDE_MAX], in[SIDE_MAX];
	struct mc_buf s = {m->src, 0}, d = {m->dst, 0};
	struct mc_coll_opts o = {.size = sizeof(o), .timeout_ns = 30 * SEC};
	for (uint32_t i = 0; i < m->n; i++) {
		len[i] = in[i] = k->len + (i == k->odd);
		off[i] = i * (k->len + 8);
	}
	in[m->rank] = len[m->rank] = k->len;
	switch (k->op) {
	case MC_COLL_BARRIER:
		return mc_barrier(m->g, 30 * SEC);
	case MC_COLL_BCAST:
		return mc_bcast(m->g, k->root, s, k->len, &o);
	case MC_COLL_SCATTER:
		return k->v ? mc_scatterv(m->g, k->root, s, len, off, d, k->len, &o)
			    : mc_scatter(m->g, k->root, s, d, k->len, &o);
	case MC_COLL_GATHER:
		return k->v ? mc_gatherv(m->g, k->root, s, k->len, d, len, off, &o)
			    : mc_gather(m->g, k->root, s, d, k->len, &o);
	case MC_COLL_ALLGATHER:
		return k->v ? mc_allgatherv(m->g, s, d, len, off, &o) : mc_allgather(m->g, s, d, k->len, &o);
	default:
		for (uint32_t i = 0; i < m->n; i++)
			len[i] = k->len;
		return k->v ? mc_alltoallv(m->g, s, len, off, d, in, off, &o) : mc_alltoall(m->g, s, d, k->len, &o);
	}
}

static void disagree(struct member *m)
{
	const struct plan *p = m->side->arg;
	int64_t start = mc_now_ns();
	m->status = call(m, m->rank == p->who ? &p->one : &p->most);
	CHECK(m, m->status == MC_ERR_MISMATCH);
	if (m->status != MC_ERR_MISMATCH)
		fprintf(stderr, "  most: %s v=%d root=%u len=%llu; rank %u: %s v=%d root=%u len=%llu: rank %u got %s\n",
			mc_coll_op_name(p->most.op), p->most.v, p->most.root, (unsigned long long)p->most.len, p->who,
			mc_coll_op_name(p->one.op), p->one.v, p->one.root, (unsigned long long)p->one.len, m->rank,
			mc_status_name(m->status));
	CHECK(m, mc_now_ns() - start < 25 * SEC);
	struct mc_fault f = {.size = sizeof(f)};
	CHECK(m, mc_fault_next(m->ctx, &f) == MC_OK);
	CHECK(m, f.status == MC_ERR_MISMATCH && f.peer < m->n);
	while (mc_fault_next(m->ctx, &f) == MC_OK)
		;
	/* The next one of the group is not poisoned, and nothing of the failed one lands any more. */
	memset(m->d, 0xee, ROOM);
	m->s[0] = (uint8_t)(m->rank + 1);
	m->status = mc_allgather(m->g, (struct mc_buf){m->src, 0}, (struct mc_buf){m->dst, 0}, 1, NULL);
	CHECK(m, m->status == MC_OK);
	for (uint32_t r = 0; r < m->n; r++)
		CHECK(m, m->d[r] == r + 1);
	CHECK(m, side_not(m->d + m->n, ROOM - m->n, 0xee) == 0);
}

static void quiet(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static void with_sides(void (*test)(struct side *s, struct plan *p))
{
	static const uint32_t sizes[] = {2, 3, 5};
	mc_log_set_sink(quiet, NULL);
	for (size_t k = 0; k < MC_ARRAY_LEN(sizes); k++) {
		for (size_t w = 0; w < MC_ARRAY_LEN(side_ways); w++) {
			struct side s;
			struct plan p;
			side_up(&s, &side_ways[w], sizes[k], ROOM);
			s.arg = &p;
			test(&s, &p);
			side_down(&s);
		}
	}
	mc_log_set_sink(NULL, NULL);
}

/* v-forms count as collectives of their own. */
static struct call nth(uint32_t i, uint64_t len)
{
	static const struct call all[] = {
		{MC_COLL_BARRIER, false, 0, 0, MC_NO_RANK},   {MC_COLL_BCAST, false, 0, 0, MC_NO_RANK},
		{MC_COLL_SCATTER, false, 0, 0, MC_NO_RANK},   {MC_COLL_SCATTER, true, 0, 0, MC_NO_RANK},
		{MC_COLL_GATHER, false, 0, 0, MC_NO_RANK},    {MC_COLL_GATHER, true, 0, 0, MC_NO_RANK},
		{MC_COLL_ALLGATHER, false, 0, 0, MC_NO_RANK}, {MC_COLL_ALLGATHER, true, 0, 0, MC_NO_RANK},
		{MC_COLL_ALLTOALL, false, 0, 0, MC_NO_RANK},  {MC_COLL_ALLTOALL, true, 0, 0, MC_NO_RANK}};
	struct call c = all[i];
	c.len = len;
	return c;
}

enum { CALLS = 10 };

static void other_op(struct side *s, struct plan *p)
{
	for (uint32_t i = 0; i < CALLS; i++) {
		for (uint32_t k = 0; k < CALLS; k++) {
			if (i == k)
				continue;
			p->most = nth(i, k % 2 ? LONG : SHORT);
			p->one = nth(k, k % 2 ? LONG : SHORT);
			p->who = (i + k) % s->n;
			side_run(s, disagree);
		}
	}
}

static void other_root(struct side *s, struct plan *p)
{
	for (uint32_t i = 1; i < 6; i++) {
		for (uint32_t who = 0; who < s->n; who++) {
			for (uint32_t root = 0; root < 2; root++) {
				p->most = p->one = nth(i, who % 2 ? LONG : SHORT);
				p->most.root = root;
				p->one.root = 1 - root;
				p->who = who;
				side_run(s, disagree);
			}
		}
	}
}

static void other_length(struct side *s, struct plan *p)
{
	static const uint64_t pair[][2] = {{SHORT, SHORT + 1}, {SHORT, LONG}, {LONG, SHORT}, {LONG, LONG + 1},
					   {0, SHORT},         {SHORT, 0},    {0, LONG},     {LONG, 0}};
	for (uint32_t i = 1; i < CALLS; i++) {
		for (uint32_t k = 0; k < MC_ARRAY_LEN(pair); k++) {
			p->most = nth(i, pair[k][0]);
			p->one = nth(i, pair[k][1]);
			p->who = (i + k) % s->n;
			side_run(s, disagree);
		}
	}
}

/* All but one block agree: who sees it are two ranks, who must be told are all. */
static void one_block(struct side *s, struct plan *p)
{
	static const uint32_t ops[] = {3, 5, 7, 9};
	for (uint32_t i = 0; i < MC_ARRAY_LEN(ops); i++) {
		for (uint32_t odd = 0; odd < s->n; odd++) {
			uint32_t who =
				ops[i] == 3 || ops[i] == 5 ? 0 : (odd + 1) % s->n; /* rooted: the root's view counts */
			if (odd == who)
				continue;
			for (uint32_t k = 0; k < 2; k++) {
				p->most = p->one = nth(ops[i], k ? LONG : SHORT);
				p->one.odd = odd;
				p->who = who;
				side_run(s, disagree);
			}
		}
	}
}

static void mismatch__another_collective(void **state)
{
	(void)state;
	with_sides(other_op);
}

static void mismatch__another_root(void **state)
{
	(void)state;
	with_sides(other_root);
}

static void mismatch__another_length(void **state)
{
	(void)state;
	with_sides(other_length);
}

static void mismatch__one_block_of_a_v_form(void **state)
{
	(void)state;
	with_sides(one_block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mismatch__another_collective),
		cmocka_unit_test(mismatch__another_root),
		cmocka_unit_test(mismatch__another_length),
		cmocka_unit_test(mismatch__one_block_of_a_v_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

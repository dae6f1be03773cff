/* SPDX-License-Identifier: BSD-3-Clause */
/* dlist_pair.h - two contexts and a pool on each, for the tests of prepared lists. Include after cmocka.h. */
#ifndef DLIST_PAIR_H
#define DLIST_PAIR_H

#include "cluster.h"

enum { POOL = 4 << 20, BLOCK = 4096, BLOCKS = POOL / BLOCK };

struct way {
	const char *name, *backend, *transport;
	bool packed; /* make the loop backend refuse one-sided access, so that messages carry the bytes */
};

static const struct way ways[] = {
	{"loop", "loop", "auto", false},
	{"loop packed", "loop", "auto", true},
	{"shm", "shm", "shm", false},
#ifdef CLUSTER_UCX
	{"ucx tcp", "ucx", "tcp", false},
#endif
};

static uint64_t seed = 0x9e3779b97f4a7c15;

static inline uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static inline void shuffle(uint32_t *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		v[i] = i;
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(rnd() % (i + 1)), t = v[i];
		v[i] = v[k];
		v[k] = t;
	}
}

static inline void fill(uint8_t *p, uint64_t len, uint64_t key)
{
	for (uint64_t i = 0; i < len; i++)
		p[i] = (uint8_t)((i * 0x9e3779b1u + key) >> 7);
}

struct pair {
	const struct way *way;
	struct cluster c;
	struct mc_mem *src, *dst;
	struct mc_rmem *to; /* dst seen from rank 0 */
	uint8_t *a, *b;     /* src, dst */
};

static inline void pair_up(struct pair *p, const struct way *w)
{
	memset(p, 0, sizeof(*p));
	p->way = w;
	cluster_up(&p->c, 2, w->backend, w->transport);
	if (w->packed)
		cluster_fault(&p->c, 0,
			      (struct mc_loop_fault){.kind = MC_LOOP_FAIL,
						     .slot = MC_LOOP_RMEM_IMPORT,
						     .kth = 1,
						     .status = MC_ERR_UNSUPPORTED});
	assert_int_equal(mc_mem_alloc(p->c.ctx[0], POOL, NULL, &p->src), MC_OK);
	cluster_share(&p->c, 1, 0, POOL, &p->dst, &p->to);
	p->a = mc_mem_addr(p->src);
	p->b = mc_mem_addr(p->dst);
	fill(p->a, POOL, 11);
}

static inline void pair_down(struct pair *p)
{
	mc_rmem_release(p->to);
	assert_int_equal(mc_mem_free(p->src), MC_OK);
	assert_int_equal(mc_mem_free(p->dst), MC_OK);
	cluster_down(&p->c);
}

static inline void for_each_way(void (*test)(struct pair *p))
{
	for (size_t i = 0; i < MC_ARRAY_LEN(ways); i++) {
		struct pair p;
		print_message("  way: %s\n", ways[i].name);
		pair_up(&p, &ways[i]);
		test(&p);
		pair_down(&p);
	}
}

static inline void end_ok(struct mc_req *req)
{
	assert_int_equal(mc_req_wait(req, 20 * SEC), MC_OK);
	mc_req_free(req);
}

/* Block i of the source to block to[i] of the target. */
static inline struct mc_dlist *blocks_list(struct pair *p, const uint32_t *from, const uint32_t *to, uint32_t n)
{
	struct mc_slice *s = calloc(n, sizeof(*s));
	struct mc_dlist *l = NULL;
	for (uint32_t i = 0; i < n; i++)
		s[i] = (struct mc_slice){p->src, (uint64_t)from[i] * BLOCK, p->to, (uint64_t)to[i] * BLOCK, BLOCK};
	assert_int_equal(mc_dlist_create(p->c.ctx[0], 1, s, n, &l), MC_OK);
	memset(s, 0xff, n * sizeof(*s)); /* it was copied */
	free(s);
	return l;
}

/* Neither posts nor messages reach the peer until they may. */
static inline void hold(struct pair *p, uint32_t on)
{
	cluster_fault(&p->c, 0, (struct mc_loop_fault){.kind = MC_LOOP_MANUAL, .peer = 1, .n = on});
	cluster_fault(&p->c, 0, (struct mc_loop_fault){.kind = MC_LOOP_HOLD, .peer = 1, .n = on});
}

#endif

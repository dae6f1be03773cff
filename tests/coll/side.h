/* SPDX-License-Identifier: BSD-3-Clause */
/* side.h - members of a group, one thread each, for tests of collectives. Include after cmocka.h. */
#ifndef MC_TEST_COLL_SIDE_H
#define MC_TEST_COLL_SIDE_H

#include "../unit/cluster.h"

#include "coll.h"

enum { SIDE_MAX = 64, GUARD = 64 };

struct side;

struct member {
	struct side *side;
	struct mc_ctx *ctx;
	struct mc_group *g;
	uint32_t rank, n; /* in the group */
	struct mc_mem *src, *dst;
	uint8_t *s, *d; /* their bytes */
	uint32_t bad;   /* failed checks */
	uint64_t salt;
	mc_status_t status;
};

struct way {
	const char *backend, *transport, *progress;
	bool packed; /* no one-sided access: every byte by message */
};

struct side {
	struct cluster c;
	uint32_t n;
	const struct way *way;
	struct member m[SIDE_MAX];
	void (*body)(struct member *m);
	uint64_t room;
	void *arg;
};

/* In a member's thread, where cmocka's own asserts must not be used. */
#define CHECK(m, cond)                                                                                                 \
	do {                                                                                                           \
		if (!(cond) && (m)->bad++ < 5)                                                                         \
			fprintf(stderr, "%s:%d: rank %u of %u: %s\n", __FILE__, __LINE__, (m)->rank, (m)->n, #cond);   \
	} while (0)

static inline uint8_t side_byte(uint32_t rank, uint64_t i, uint64_t salt)
{
	uint64_t h = (rank + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ i * UINT64_C(0xc2b2ae3d27d4eb4f) ^ salt;
	return (uint8_t)(h >> 29);
}

static inline void side_fill(uint8_t *p, uint64_t len, uint32_t rank, uint64_t first, uint64_t salt)
{
	for (uint64_t i = 0; i < len; i++)
		p[i] = side_byte(rank, first + i, salt);
}

/* How many bytes are not what rank's bytes from `first` on should be. */
static inline uint64_t side_wrong(const uint8_t *p, uint64_t len, uint32_t rank, uint64_t first, uint64_t salt)
{
	uint64_t wrong = 0;
	for (uint64_t i = 0; i < len; i++)
		wrong += p[i] != side_byte(rank, first + i, salt);
	return wrong;
}

static inline uint64_t side_not(const uint8_t *p, uint64_t len, uint8_t v)
{
	uint64_t wrong = 0;
	for (uint64_t i = 0; i < len; i++)
		wrong += p[i] != v;
	return wrong;
}

static inline void side_force(struct member *m, enum mc_coll_op op, const struct mc_algo *a)
{
	mc_ctx_lock(m->ctx);
	m->ctx->colls->force[op] = a;
	mc_ctx_unlock(m->ctx);
}

static inline void *side_thread(void *arg)
{
	struct member *m = arg;
	m->side->body(m);
	return NULL;
}

static inline void side_run(struct side *s, void (*body)(struct member *m))
{
	pthread_t t[SIDE_MAX];
	uint32_t bad = 0;
	s->body = body;
	for (uint32_t i = 0; i < s->n; i++)
		assert_int_equal(pthread_create(&t[i], NULL, side_thread, &s->m[i]), 0);
	for (uint32_t i = 0; i < s->n; i++)
		pthread_join(t[i], NULL);
	for (uint32_t i = 0; i < s->n; i++) {
		bad += s->m[i].bad;
		s->m[i].bad = 0;
	}
	assert_int_equal(bad, 0);
}

/* n contexts, the world as group, and two regions of room bytes each: one of the runtime's, one of the caller's. */
static inline void side_up(struct side *s, const struct way *w, uint32_t n, uint64_t room)
{
	memset(s, 0, sizeof(*s));
	s->n = n;
	s->way = w;
	s->room = room;
	s->c.progress = w->progress;
	cluster_up(&s->c, n, w->backend, w->transport);
	for (uint32_t i = 0; i < n; i++) {
		struct member *m = &s->m[i];
		*m = (struct member){
			.side = s, .ctx = s->c.ctx[i], .g = mc_group_world(s->c.ctx[i]), .rank = i, .n = n};
		/* Long blocks go from memory to memory over UCX, too: in messages little could be late. */
		m->ctx->cfg.coll_short_ucx = m->ctx->cfg.coll_short;
		if (w->packed)
			cluster_fault(&s->c, i,
				      (struct mc_loop_fault){.kind = MC_LOOP_FAIL,
							     .slot = MC_LOOP_MEM_REG,
							     .kth = 1,
							     .status = MC_ERR_UNSUPPORTED});
		assert_int_equal(mc_mem_alloc(m->ctx, room, NULL, &m->src), MC_OK);
		m->d = malloc(room);
		assert_non_null(m->d);
		struct mc_region r = {.size = sizeof(r), .addr = m->d, .len = room, .device = -1, .fd = -1};
		assert_int_equal(mc_mem_register(m->ctx, &r, &m->dst), MC_OK);
		m->s = mc_mem_addr(m->src);
	}
}

static inline void side_down(struct side *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		assert_int_equal(mc_mem_free(s->m[i].src), MC_OK);
		assert_int_equal(mc_mem_free(s->m[i].dst), MC_OK);
		free(s->m[i].d);
	}
	cluster_down(&s->c);
}

static const struct way side_ways[] = {
	{"loop", "auto", NULL, false},
	{"shm", "shm", NULL, false},
};
static const struct way side_few[] = {
	{"loop", "auto", NULL, true},
	{"shm", "shm", "manual", false},
#ifdef CLUSTER_UCX
	{"ucx", "tcp", NULL, false},
#endif
};
static const uint32_t side_sizes[] = {1, 2, 3, 5, 8, 13, 16};

/* Each group size on the ways above; a few sizes on the others. */
static inline void side_everywhere(void (*body)(struct member *m), uint64_t (*room)(uint32_t n))
{
	for (size_t k = 0; k < MC_ARRAY_LEN(side_sizes); k++) {
		uint32_t n = side_sizes[k];
		for (size_t w = 0; w < MC_ARRAY_LEN(side_ways) + MC_ARRAY_LEN(side_few); w++) {
			const struct way *way =
				w < MC_ARRAY_LEN(side_ways) ? &side_ways[w] : &side_few[w - MC_ARRAY_LEN(side_ways)];
			struct side s;
			if (w >= MC_ARRAY_LEN(side_ways) && n != 2 && n != 5)
				continue;
			side_up(&s, way, n, room(n));
			side_run(&s, body);
			side_down(&s);
		}
	}
}

/* The algorithms of a collective in turn; NULL last: the table's choice. Returns false after that. */
static inline bool side_next_algo(enum mc_coll_op op, uint32_t *at, const struct mc_algo **out)
{
	static const uint32_t over = UINT32_MAX;
	if (*at == over)
		return false;
	while (mc_algos[*at] != NULL && mc_algos[*at]->op != op)
		(*at)++;
	*out = mc_algos[*at];
	*at = *out != NULL ? *at + 1 : over;
	return true;
}

#endif

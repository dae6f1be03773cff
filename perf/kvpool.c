/* SPDX-License-Identifier: BSD-3-Clause */
#include "kvpool.h"

#include <stdlib.h>
#include <string.h>

/* splitmix64: any state is as good as any other, so that seeds next to each other, and 0, differ as all do. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

bool perf_pool_init(struct perf_pool *p, uint32_t n, uint64_t seed)
{
	*p = (struct perf_pool){.n = n, .free_n = n, .rng = seed};
	p->free = calloc(n, sizeof(*p->free));
	p->used = calloc(n, sizeof(*p->used));
	if (p->free == NULL || p->used == NULL) {
		perf_pool_destroy(p);
		return false;
	}
	for (uint32_t i = 0; i < n; i++)
		p->free[i] = i;
	return true;
}

void perf_pool_destroy(struct perf_pool *p)
{
	if (p == NULL)
		return;
	free(p->free);
	free(p->used);
	*p = (struct perf_pool){0};
}

bool perf_pool_take(struct perf_pool *p, uint32_t n, uint32_t *block_out)
{
	if (n > p->free_n)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		/* high bits of 32 x 32: uniform enough, no division */
		uint32_t at = (uint32_t)(((next_random(&p->rng) >> 32) * p->free_n) >> 32);
		uint32_t b = p->free[at];
		p->free[at] = p->free[--p->free_n];
		p->used[b] = 1;
		block_out[i] = b;
	}
	return true;
}

bool perf_pool_give(struct perf_pool *p, const uint32_t *block, uint32_t n)
{
	bool ok = true;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t b = block[i];
		if (b >= p->n || !p->used[b]) {
			ok = false;
			continue;
		}
		p->used[b] = 0;
		p->free[p->free_n++] = b;
	}
	return ok;
}

bool perf_cache_init(struct perf_cache *c, uint32_t id_n, uint32_t slot_n, uint32_t per_slot)
{
	*c = (struct perf_cache){.per_slot = per_slot, .slot_n = slot_n, .id_n = id_n, .unused = PERF_NO_SLOT};
	c->slot = calloc((size_t)slot_n + 1, sizeof(*c->slot));
	c->block = calloc((size_t)slot_n * per_slot + 1, sizeof(*c->block));
	c->by_id = calloc((size_t)id_n + 1, sizeof(*c->by_id));
	if (c->slot == NULL || c->block == NULL || c->by_id == NULL) {
		perf_cache_destroy(c);
		return false;
	}
	memset(c->by_id, 0xff, (size_t)id_n * sizeof(*c->by_id));
	for (uint32_t i = slot_n; i > 0; i--) {
		c->slot[i - 1].next = c->unused;
		c->unused = i - 1;
	}
	c->slot[slot_n].prev = slot_n;
	c->slot[slot_n].next = slot_n;
	return true;
}

void perf_cache_destroy(struct perf_cache *c)
{
	if (c == NULL)
		return;
	free(c->slot);
	free(c->block);
	free(c->by_id);
	*c = (struct perf_cache){0};
}

static void ring_del(struct perf_cache *c, uint32_t i)
{
	struct perf_slot *s = &c->slot[i];

	c->slot[s->prev].next = s->next;
	c->slot[s->next].prev = s->prev;
}

static void ring_add_newest(struct perf_cache *c, uint32_t i)
{
	struct perf_slot *head = &c->slot[c->slot_n];

	c->slot[i].prev = head->prev;
	c->slot[i].next = c->slot_n;
	c->slot[head->prev].next = i;
	head->prev = i;
}

uint32_t perf_cache_pin(struct perf_cache *c, uint32_t id, uint32_t pos)
{
	uint32_t i = id < c->id_n ? c->by_id[id] : PERF_NO_SLOT;

	if (i == PERF_NO_SLOT || c->slot[i].pos != pos)
		return PERF_NO_SLOT;
	if (c->slot[i].pins++ == 0)
		ring_del(c, i);
	return i;
}

void perf_cache_unpin(struct perf_cache *c, uint32_t slot)
{
	if (--c->slot[slot].pins == 0)
		ring_add_newest(c, slot);
}

bool perf_cache_insert(struct perf_cache *c, uint32_t id, uint32_t pos, uint32_t writer, const uint32_t *block)
{
	uint32_t i = c->unused;

	if (i == PERF_NO_SLOT || id >= c->id_n || c->by_id[id] != PERF_NO_SLOT)
		return false;
	c->unused = c->slot[i].next;
	c->slot[i] = (struct perf_slot){.id = id, .pos = pos, .writer = writer};
	memcpy(&c->block[(size_t)i * c->per_slot], block, c->per_slot * sizeof(*block));
	c->by_id[id] = i;
	c->held_n++;
	ring_add_newest(c, i);
	return true;
}

bool perf_cache_evict(struct perf_cache *c, uint32_t *block_out)
{
	uint32_t i = c->slot[c->slot_n].next;

	if (i == c->slot_n)
		return false;
	ring_del(c, i);
	c->by_id[c->slot[i].id] = PERF_NO_SLOT;
	memcpy(block_out, perf_cache_blocks(c, i), c->per_slot * sizeof(*block_out));
	c->slot[i].next = c->unused;
	c->unused = i;
	c->held_n--;
	return true;
}

const struct perf_slot *perf_cache_slot(const struct perf_cache *c, uint32_t slot)
{
	return &c->slot[slot];
}

const uint32_t *perf_cache_blocks(const struct perf_cache *c, uint32_t slot)
{
	return &c->block[(size_t)slot * c->per_slot];
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_steps.c - writing down the steps of a collective: memory for them, their order, and the index by rank and key.
 */
#include <stdlib.h>
#include <string.h>

#include "coll.h"
#include "coll_pattern.h"

bool mc_steps_reserve(struct mc_coll *c, uint32_t more)
{
	uint64_t need = (uint64_t)c->step_n + more;
	if (need <= c->step_room)
		return true;
	uint64_t room = need < 16 ? 16 : need + need / 2;
	struct mc_step *a = room < MC_NO_STEP / 2 ? realloc(c->step, room * sizeof(*a)) : NULL;
	if (a == NULL) {
		c->bad = true;
		return false;
	}
	c->step = a;
	c->step_room = (uint32_t)room;
	return true;
}

bool mc_scratch_reserve(struct mc_coll *c, uint64_t len)
{
	if (len > c->scratch_room || c->scratch == NULL) {
		uint8_t *a = malloc(len > 0 ? len : 1);
		if (a == NULL) {
			mc_error("rank %u: no memory for the %llu bytes that %s needs beside the caller's buffers",
				 c->ctx->rank, (unsigned long long)len, c->algo->name);
			c->bad = true;
			return false;
		}
		free(c->scratch);
		c->scratch = a;
		c->scratch_room = len;
	}
	c->scratch_n = 0;
	return true;
}

struct mc_place mc_place_at(struct mc_buf b, uint64_t off)
{
	return (struct mc_place){b.mem, b.mem != NULL ? b.mem->addr + b.off + off : NULL};
}

struct mc_place mc_place_scratch(struct mc_coll *c, uint64_t len)
{
	struct mc_place p = {NULL, c->scratch + c->scratch_n};
	if (len > c->scratch_room - c->scratch_n) {
		c->bad = true;
		return (struct mc_place){NULL, NULL};
	}
	c->scratch_n += len;
	return p;
}

static struct mc_step *step_add(struct mc_coll *c, uint8_t kind, struct mc_place p, uint64_t len, uint32_t after)
{
	if (c->bad || !mc_steps_reserve(c, 1))
		return NULL;
	struct mc_step *s = &c->step[c->step_n++];
	*s = (struct mc_step){.coll = c,
			      .kind = kind,
			      .state = MC_STEP_IDLE,
			      .after = after,
			      .dep = MC_NO_STEP,
			      .dep_next = MC_NO_STEP,
			      .next = MC_NO_STEP,
			      .mem = p.mem,
			      .addr = p.addr,
			      .len = len};
	return s;
}

static uint32_t step_talk(struct mc_coll *c, uint8_t kind, uint32_t rank, uint32_t key, enum mc_step_way long_way,
			  struct mc_place p, uint64_t len, uint32_t after)
{
	struct mc_step *s = step_add(c, kind, p, len, after);
	if (s == NULL)
		return MC_NO_STEP;
	s->rank = rank;
	s->key = key;
	/* Lengths that only the two know: the sender speaks first, whatever it thinks of them, or both might wait. */
	if (c->v)
		long_way = MC_WAY_GET;
	s->way = len <= c->eager || c->algo->by_message ? MC_WAY_MSG : (uint8_t)long_way;
	/* Who writes or reads has the other side's length before it starts; whoever only waits is told by that side. */
	bool checks = kind == MC_STEP_RECV ? s->way != MC_WAY_PUT : s->way == MC_WAY_PUT;
	s->checked = !checks;
	c->unchecked += checks && key < MC_KEY_AGREE ? 1 : 0;
	return c->step_n - 1;
}

uint32_t mc_step_send(struct mc_coll *c, uint32_t rank, uint32_t key, enum mc_step_way long_way, struct mc_place p,
		      uint64_t len, uint32_t after)
{
	return step_talk(c, MC_STEP_SEND, rank, key, long_way, p, len, after);
}

uint32_t mc_step_recv(struct mc_coll *c, uint32_t rank, uint32_t key, enum mc_step_way long_way, struct mc_place p,
		      uint64_t len, uint32_t after)
{
	return step_talk(c, MC_STEP_RECV, rank, key, long_way, p, len, after);
}

uint32_t mc_step_copy(struct mc_coll *c, struct mc_place to, struct mc_place from, uint64_t len, uint32_t after)
{
	if (len == 0 || to.addr == from.addr)
		return after;
	struct mc_step *s = step_add(c, MC_STEP_COPY, to, len, after);
	if (s == NULL)
		return MC_NO_STEP;
	s->from = from.addr;
	s->checked = true;
	return c->step_n - 1;
}

/*
 * Dissemination: in round k to the one 2^k places on and from the one 2^k back; after the last everyone has heard of
 * everyone. gated: not before the lengths that others gave have been compared with ours.
 */
void mc_steps_agree(struct mc_coll *c, bool gated)
{
	const struct mc_place nowhere = {NULL, NULL};
	uint32_t rounds = mc_pat_rounds(c->n), after = MC_NO_STEP;
	if (gated &&
	    c->n > 1) { /* where ranks differ some neighbours do, and see it even if all wait to be sent something */
		mc_step_send(c, mc_pat_add(c->self, 1, c->n), MC_KEY_HELLO, MC_WAY_MSG, nowhere, 0, MC_NO_STEP);
		mc_step_recv(c, mc_pat_sub(c->self, 1, c->n), MC_KEY_HELLO, MC_WAY_MSG, nowhere, 0, MC_NO_STEP);
	}
	for (uint32_t k = 0; k < rounds; k++) {
		uint64_t dist = UINT64_C(1) << k;
		uint32_t s = mc_step_send(c, mc_pat_add(c->self, dist, c->n), MC_KEY_AGREE | k, MC_WAY_MSG, nowhere, 0,
					  after);
		if (k == 0 && gated)
			c->gate = s;
		after = mc_step_recv(c, mc_pat_sub(c->self, dist, c->n), MC_KEY_AGREE | k, MC_WAY_MSG, nowhere, 0,
				     after);
	}
	/* In no way may the first round's arrival open the second while our own gate is shut. */
	if (gated && c->gate != MC_NO_STEP && !c->bad)
		c->step[c->gate + 1].after = c->gate;
}

static uint32_t bucket_of(const struct mc_coll *c, uint8_t kind, uint32_t rank, uint32_t key)
{
	uint32_t h = (rank * 0x9e3779b1u) ^ (key * 0x85ebca6bu) ^ kind;
	return (h ^ h >> 15) & (c->bucket_n - 1);
}

static bool buckets_make(struct mc_coll *c)
{
	uint32_t n = 8;
	while (n < c->step_n && n < (1u << 20))
		n *= 2;
	if (n > c->bucket_room) {
		uint32_t *a = realloc(c->bucket, n * sizeof(*a));
		if (a == NULL)
			return false;
		c->bucket = a;
		c->bucket_room = n;
	}
	c->bucket_n = n;
	memset(c->bucket, 0xff, n * sizeof(*c->bucket));
	return true;
}

bool mc_steps_seal(struct mc_coll *c)
{
	if (c->bad || !buckets_make(c))
		return false;
	for (uint32_t i = c->step_n; i-- > 0;) {
		struct mc_step *s = &c->step[i];
		if (s->kind != MC_STEP_COPY) {
			uint32_t *b = &c->bucket[bucket_of(c, s->kind, s->rank, s->key)];
			s->next = *b;
			*b = i;
		}
		if (s->after != MC_NO_STEP) {
			s->dep_next = c->step[s->after].dep;
			c->step[s->after].dep = i;
		}
	}
	c->left = c->step_n;
	return true;
}

struct mc_step *mc_step_find(struct mc_coll *c, uint8_t kind, uint32_t rank, uint32_t key)
{
	uint32_t i = c->bucket[bucket_of(c, kind, rank, key)];
	while (i != MC_NO_STEP && (c->step[i].kind != kind || c->step[i].rank != rank || c->step[i].key != key))
		i = c->step[i].next;
	return i != MC_NO_STEP ? &c->step[i] : NULL;
}

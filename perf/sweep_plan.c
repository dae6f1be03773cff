/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>

#include "sweep.h"

enum { PLACES_MAX = 1 << 18 }; /* blocks in tables, unless one request has more: 20 MiB of slices */

/* ---- who sends to whom --------------------------------------------------------------------------------------- */

static bool add_flow(struct sweep_plan *p, uint32_t from, uint32_t to, uint64_t bytes)
{
	struct sweep_flow *f = reallocarray(p->flow, p->flow_n + 1, sizeof(*f));

	if (f == NULL)
		return false;
	f[p->flow_n] = (struct sweep_flow){.from = from, .to = to, .bytes = bytes};
	p->flow = f;
	p->flow_n++;
	return true;
}

static bool add_flows(struct sweep_plan *p, const struct sweep_opts *o, uint32_t ranks, const struct perf_matrix *m)
{
	bool ok = true;

	for (uint32_t i = 0; i < ranks && ok; i++) {
		switch (o->pattern) {
		case SWEEP_PAIR: /* the first half with the second half: prefill i with decode i where both are as many
				  */
			if (i < ranks / 2)
				ok = add_flow(p, i, i + ranks / 2, 0);
			break;
		case SWEEP_MANY_TO_ONE:
			if (i > 0)
				ok = add_flow(p, i, 0, 0);
			break;
		case SWEEP_ONE_TO_MANY:
			if (i > 0)
				ok = add_flow(p, 0, i, 0);
			break;
		case SWEEP_MATRIX:
			for (uint32_t k = 0; k < ranks && ok; k++) {
				uint64_t bytes = m->bytes[(size_t)i * ranks + k];
				if (bytes > 0)
					ok = add_flow(p, i, k, bytes);
			}
			break;
		}
	}
	return ok;
}

/* The same flows the other way. lat needs them for the way back. */
static bool add_reverse(struct sweep_plan *p)
{
	uint32_t n = p->flow_n;
	bool ok = true;

	for (uint32_t i = 0; i < n && ok; i++)
		ok = add_flow(p, p->flow[i].to, p->flow[i].from, p->flow[i].bytes);
	return ok;
}

static uint32_t flows_from(const struct sweep_plan *p, uint32_t rank)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->flow_n; i++)
		n += p->flow[i].from == rank;
	return n;
}

/* Threads beyond the number of flows share flows, in turn. */
static bool add_lanes(struct sweep_plan *p, const struct sweep_opts *o, uint32_t ranks)
{
	uint64_t room = 0;

	for (uint32_t r = 0; r < ranks; r++)
		room += flows_from(p, r) > o->threads ? flows_from(p, r) : o->threads;
	p->lane = calloc(room + 1, sizeof(*p->lane));
	p->area_n = calloc(ranks, sizeof(*p->area_n));
	if (p->lane == NULL || p->area_n == NULL)
		return false;
	for (uint32_t i = 0, nth = 0; i < p->flow_n; i++) {
		const struct sweep_flow *f = &p->flow[i];
		uint32_t flows = flows_from(p, f->from);
		uint32_t src = o->op == SWEEP_GET ? f->to : f->from, dst = o->op == SWEEP_GET ? f->from : f->to;
		nth = 0;
		for (uint32_t k = 0; k < i; k++)
			nth += p->flow[k].from == f->from;
		for (uint32_t t = nth; t == nth || t < o->threads; t += flows) {
			struct sweep_lane *l = &p->lane[p->lane_n++];
			*l = (struct sweep_lane){.flow = i, .thread = t % (uint32_t)o->threads, src, dst, 0, 0};
			l->src_area = p->area_n[src]++;
			l->dst_area = p->area_n[dst]++;
		}
	}
	for (uint32_t r = 0; r < ranks; r++)
		p->area_max = p->area_n[r] > p->area_max ? p->area_n[r] : p->area_max;
	return true;
}

bool sweep_plan_make(const struct sweep_opts *o, uint32_t ranks, const struct perf_matrix *matrix,
		     struct sweep_plan *out, struct perf_err *err)
{
	struct sweep_plan p = {0};
	uint64_t least, share;

	if (ranks < 2 || (o->pattern == SWEEP_PAIR && ranks % 2 != 0)) {
		perf_err_set(err, "%u rank%s: %s; start it as mcrun -n N mcperf %s ...", ranks, ranks == 1 ? "" : "s",
			     ranks < 2 ? "one alone has nobody to send to" : "pairs need an even number", o->cmd);
		return false;
	}
	if (!add_flows(&p, o, ranks, matrix) || ((o->bidir || o->lat) && !add_reverse(&p)) ||
	    !add_lanes(&p, o, ranks)) {
		perf_err_set(err, "out of memory");
		sweep_plan_free(&p);
		return false;
	}
	/* All areas of the busiest rank together are two pools; none is smaller than what is under way in it. */
	share = o->pool * 2 / (p.area_max > 1 ? p.area_max : 2);
	least = sweep_most_bytes(o, &p);
	if (least > UINT64_MAX / 4 / o->window) {
		perf_err_set(err, "--window times --batch times the block size is too much");
		sweep_plan_free(&p);
		return false;
	}
	least = (least + 64) * o->window;
	p.area_len = ((share > least ? share : least) + 4095) / 4096 * 4096;
	p.window = o->window;
	*out = p;
	return true;
}

void sweep_plan_free(struct sweep_plan *p)
{
	if (p == NULL)
		return;
	free(p->flow);
	free(p->lane);
	free(p->area_n);
	*p = (struct sweep_plan){0};
}

/* ---- shapes and tables --------------------------------------------------------------------------------------- */

static uint64_t stride_of(uint64_t size)
{
	return (size + 7) / 8 * 8;
}

uint64_t sweep_most_bytes(const struct sweep_opts *o, const struct sweep_plan *p)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < o->size_n; i++) {
		for (uint32_t k = 0; k < o->batch_n && o->pattern != SWEEP_MATRIX; k++) {
			uint64_t n = stride_of(o->size[i]) * o->batch[k];
			most = n > most ? n : most;
		}
		for (uint32_t k = 0; k < p->flow_n; k++) {
			uint64_t blocks = (p->flow[k].bytes + o->size[i] - 1) / o->size[i];
			uint64_t n = blocks * stride_of(o->size[i]);
			most = n > most ? n : most;
		}
	}
	return most;
}

struct sweep_shape sweep_shape_of(const struct sweep_plan *p, uint32_t lane, uint64_t size, uint64_t batch)
{
	uint64_t bytes = p->flow[p->lane[lane].flow].bytes;
	struct sweep_shape s = {.size = size, .blocks = batch, .bytes = size * batch, .stride = stride_of(size)};
	uint64_t places, most;

	if (bytes > 0) { /* a matrix gives bytes, not blocks */
		s.blocks = (bytes + size - 1) / size;
		s.bytes = bytes;
	}
	places = p->area_len / s.stride;
	most = s.blocks * p->window > PLACES_MAX ? s.blocks * p->window : PLACES_MAX;
	if (places > most)
		places = most;
	s.tables = places / s.blocks;
	if (s.tables == 0)
		s.tables = 1;
	return s;
}

struct sweep_shape sweep_shape_bulk(const struct sweep_plan *p, const struct sweep_shape *paged)
{
	struct sweep_shape s = {.size = paged->bytes, .blocks = 1, .bytes = paged->bytes};

	s.stride = stride_of(s.size);
	s.tables = p->area_len / s.stride;
	s.tables = s.tables > PLACES_MAX ? PLACES_MAX : s.tables;
	return s;
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint32_t *permutation(uint64_t n, enum sweep_table how, uint64_t seed)
{
	uint32_t *v = malloc(n * sizeof(*v));

	if (v == NULL)
		return NULL;
	for (uint64_t i = 0; i < n; i++)
		v[i] = (uint32_t)i;
	for (uint64_t i = n; how == SWEEP_RANDOM && i > 1; i--) {
		uint64_t k = next_random(&seed) % i;
		uint32_t t = v[i - 1];
		v[i - 1] = v[k];
		v[k] = t;
	}
	return v;
}

/* The odd rounds take what the even ones do, a table further on: same cost, other bytes at every place. */
static uint32_t *rotated(const uint32_t *v, uint64_t n, uint64_t by)
{
	uint32_t *w = malloc(n * sizeof(*w));

	for (uint64_t i = 0; w != NULL && i < n; i++)
		w[i] = v[(i + by) % n];
	return w;
}

bool sweep_tables_make(const struct sweep_shape *shape, enum sweep_table how, uint64_t seed, struct sweep_tables *out)
{
	struct sweep_tables t = {.shape = *shape};
	uint64_t n = shape->tables * shape->blocks;

	t.src[0] = permutation(n, how, seed * 2 + 1);
	t.dst = permutation(n, how, seed * 2 + 2);
	if (t.src[0] != NULL)
		t.src[1] = rotated(t.src[0], n, shape->tables > 1 ? shape->blocks : shape->blocks / 2);
	if (t.src[0] == NULL || t.src[1] == NULL || t.dst == NULL) {
		sweep_tables_free(&t);
		return false;
	}
	*out = t;
	return true;
}

void sweep_tables_free(struct sweep_tables *t)
{
	if (t == NULL)
		return;
	free(t->src[0]);
	free(t->src[1]);
	free(t->dst);
	*t = (struct sweep_tables){0};
}

uint64_t sweep_block_len(const struct sweep_shape *shape, uint64_t b)
{
	uint64_t before = b * shape->size;

	return shape->bytes - before < shape->size ? shape->bytes - before : shape->size;
}

uint64_t sweep_block_src(const struct sweep_tables *t, uint64_t i, uint64_t b)
{
	const uint32_t *place = t->src[i / t->shape.tables % 2];

	return place[i % t->shape.tables * t->shape.blocks + b] * t->shape.stride;
}

uint64_t sweep_block_dst(const struct sweep_tables *t, uint64_t i, uint64_t b)
{
	return t->dst[i % t->shape.tables * t->shape.blocks + b] * t->shape.stride;
}

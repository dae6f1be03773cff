/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "kvperf.h"
#include "kvpool.h"
#include "pattern.h"

bool kvperf_shape_set(const struct kvperf_opts *o, struct kvperf_shape *out, struct perf_err *err)
{
	const struct perf_model *m = perf_model_find(o->model);
	char list[PERF_ERR_MAX];
	bool mla;

	if (m == NULL) {
		perf_model_list(list, sizeof(list));
		perf_err_set(err, "unknown model %s; known: %s", o->model, list);
		return false;
	}
	mla = m->kv_heads == 0;
	*out = (struct kvperf_shape){
		.model = m,
		.layers = o->layers != 0 ? (uint32_t)o->layers : m->layers,
		.heads = mla             ? 1
			 : o->heads != 0 ? (uint32_t)o->heads
					 : m->kv_heads,
		.head_dim = mla ? m->latent_rank + m->rope_dim : m->head_dim,
		.kv_n = mla ? 1 : 2,
		.elem_bytes = o->kv_bytes != 0 ? (uint32_t)o->kv_bytes : m->dtype_bytes,
		.tokens = (uint32_t)o->tokens,
	};
	out->vec = out->head_dim * out->elem_bytes;
	if (out->layers > m->layers)
		perf_err_set(err, "--layers %u: %s has %u", out->layers, m->alias, m->layers);
	else if (mla && o->heads != 0)
		perf_err_set(err, "--heads: %s keeps one latent per token (MLA), it has no KV heads", m->alias);
	for (int s = 0; s < KVP_SIDES && !perf_err_is_set(err); s++) {
		if (o->side[s].pp > out->layers)
			perf_err_set(err, "--%s pp=%llu: more stages than the %u layers", s == KVP_SRC ? "src" : "dst",
				     (unsigned long long)o->side[s].pp, out->layers);
	}
	return !perf_err_is_set(err);
}

uint32_t kvperf_table_n(const struct kvperf_shape *s, const struct kvperf_side *side)
{
	return (uint32_t)((s->tokens + side->block_tokens - 1) / side->block_tokens);
}

uint32_t kvperf_pool_n(const struct kvperf_shape *s, const struct kvperf_side *side)
{
	uint32_t n = kvperf_table_n(s, side);

	return n + n / 8 + 2;
}

/* A boundary of either side begins a new pair; one that both have is counted once. */
uint64_t kvperf_block_pairs(const struct kvperf_shape *s, const struct kvperf_side *a, const struct kvperf_side *b)
{
	uint64_t x = a->block_tokens, y = b->block_tokens, gcd = x, rest = y, last = s->tokens - 1;

	while (rest != 0) {
		uint64_t t = gcd % rest;
		gcd = rest;
		rest = t;
	}
	return 1 + last / x + last / y - last / (x / gcd * y);
}

bool kvperf_layout(const struct kvperf_shape *s, const struct kvperf_side *side, uint32_t index, uint32_t pool_n,
		   struct mc_kv_layout *out)
{
	uint32_t tp = (uint32_t)side->tp;
	struct mc_kv_layout l = {
		.size = sizeof(l),
		.flags = side->flags,
		.elem_bytes = s->elem_bytes,
		.head_dim = s->head_dim,
		.kv_n = s->kv_n,
		.block_tokens = (uint32_t)side->block_tokens,
		.block_n = pool_n,
		.layer_total = s->layers,
		.head_total = s->heads,
	};

	mc_kv_shard(s->layers, (uint32_t)side->pp, index / tp, &l.layer_lo, &l.layer_n);
	mc_kv_shard(s->heads, tp, index % tp, &l.head_lo, &l.head_n);
	if (mc_kv_layout_dense(&l, side->order) != MC_OK)
		return false;
	*out = l;
	return true;
}

uint32_t kvperf_base_n(const struct mc_kv_layout *l)
{
	return (l->flags & MC_KV_BASE_PER_LAYER ? l->layer_n : 1) * (l->flags & MC_KV_BASE_PER_KV ? l->kv_n : 1);
}

uint64_t kvperf_extent(const struct mc_kv_layout *l)
{
	uint64_t all =
		(uint64_t)l->layer_n * l->kv_n * l->block_n * l->block_tokens * l->head_n * l->head_dim * l->elem_bytes;

	return all / kvperf_base_n(l);
}

uint64_t kvperf_shard_bytes(const struct kvperf_shape *s, const struct mc_kv_layout *l)
{
	return (uint64_t)l->layer_n * l->kv_n * s->tokens * l->head_n * s->vec;
}

bool kvperf_table_make(uint64_t seed, int side, uint32_t pool_n, uint32_t *block_out, uint32_t n)
{
	struct perf_pool p;
	bool ok;

	if (!perf_pool_init(&p, pool_n, perf_pattern_key(seed, (uint32_t)side, 0, 0, 0)))
		return false;
	ok = perf_pool_take(&p, n, block_out);
	perf_pool_destroy(&p);
	return ok;
}

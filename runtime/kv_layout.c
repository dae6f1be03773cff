/* SPDX-License-Identifier: BSD-3-Clause */
/* kv_layout.c - is a layout possible, how large is it, and its form on the wire. */
#include "kv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const dim_name[MC_KV_NDIM] = {"layer", "k/v", "block", "token", "head"};

void mc_kv_say(char *why, size_t why_len, const char *fmt, ...)
{
	va_list ap;

	if (why_len == 0)
		return;
	va_start(ap, fmt);
	vsnprintf(why, why_len, fmt, ap);
	va_end(ap);
}

uint64_t mc_kv_layout_vec(const struct mc_kv_layout *l)
{
	return (uint64_t)l->head_dim * l->elem_bytes;
}

uint32_t mc_kv_layout_dim_n(const struct mc_kv_layout *l, enum mc_kv_dim dim)
{
	switch (dim) {
	case MC_KV_LAYER:
		return l->layer_n;
	case MC_KV_KV:
		return l->kv_n;
	case MC_KV_BLOCK:
		return l->block_n;
	case MC_KV_TOKEN:
		return l->block_tokens;
	case MC_KV_HEAD:
		return l->head_n;
	case MC_KV_NDIM:
		break;
	}
	return 0;
}

bool mc_kv_layout_dim_is_base(const struct mc_kv_layout *l, enum mc_kv_dim dim)
{
	return (dim == MC_KV_LAYER && (l->flags & MC_KV_BASE_PER_LAYER) != 0) ||
	       (dim == MC_KV_KV && (l->flags & MC_KV_BASE_PER_KV) != 0);
}

uint32_t mc_kv_layout_base_n(const struct mc_kv_layout *l)
{
	uint32_t n = 1;

	if (mc_kv_layout_dim_is_base(l, MC_KV_LAYER))
		n *= l->layer_n;
	if (mc_kv_layout_dim_is_base(l, MC_KV_KV))
		n *= l->kv_n;
	return n;
}

static bool in_limits(const char *name, uint32_t v, uint32_t max, char *why, size_t why_len)
{
	if (v >= 1 && v <= max)
		return true;
	mc_kv_say(why, why_len, "%s is %u, allowed are 1 to %u", name, v, max);
	return false;
}

static bool part_of(const char *what, uint32_t lo, uint32_t n, uint32_t total, char *why, size_t why_len)
{
	if (n >= 1 && lo < total && n <= total - lo)
		return true;
	mc_kv_say(why, why_len, "%s_lo %u with %s_n %u is no part of %s_total %u", what, lo, what, n, what, total);
	return false;
}

static mc_status_t check_fields(const struct mc_kv_layout *l, char *why, size_t why_len)
{
	const uint32_t known = MC_KV_BASE_PER_LAYER | MC_KV_BASE_PER_KV;

	if (l->size != sizeof(*l)) {
		mc_kv_say(why, why_len, "size is %u, not sizeof(struct mc_kv_layout) %zu", l->size, sizeof(*l));
		return MC_ERR_INVAL;
	}
	if ((l->flags & ~known) != 0 || l->reserved != 0) {
		mc_kv_say(why, why_len, "flags 0x%x, reserved 0x%x: unknown bits", l->flags, l->reserved);
		return MC_ERR_INVAL;
	}
	if (l->elem_bytes != 1 && l->elem_bytes != 2 && l->elem_bytes != 4) {
		mc_kv_say(why, why_len, "elem_bytes is %u, allowed are 1, 2 and 4", l->elem_bytes);
		return MC_ERR_INVAL;
	}
	if (!in_limits("head_dim", l->head_dim, MC_KV_HEAD_DIM_MAX, why, why_len) ||
	    !in_limits("kv_n", l->kv_n, 2, why, why_len) ||
	    !in_limits("block_tokens", l->block_tokens, MC_KV_BLOCK_TOKENS_MAX, why, why_len) ||
	    !in_limits("block_n", l->block_n, UINT32_MAX, why, why_len) ||
	    !in_limits("layer_total", l->layer_total, MC_KV_LAYERS_MAX, why, why_len) ||
	    !in_limits("head_total", l->head_total, MC_KV_HEADS_MAX, why, why_len) ||
	    !part_of("layer", l->layer_lo, l->layer_n, l->layer_total, why, why_len) ||
	    !part_of("head", l->head_lo, l->head_n, l->head_total, why, why_len))
		return MC_ERR_INVAL;
	return MC_OK;
}

/* The dimensions that need a stride, smallest stride first. */
static uint32_t sort_dims(const struct mc_kv_layout *l, enum mc_kv_dim out[MC_KV_NDIM])
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < MC_KV_NDIM; i++) {
		enum mc_kv_dim dim = (enum mc_kv_dim)i;
		uint32_t at = n;
		if (mc_kv_layout_dim_is_base(l, dim) || mc_kv_layout_dim_n(l, dim) == 1)
			continue;
		for (; at > 0 && l->stride[out[at - 1]] > l->stride[dim]; at--)
			out[at] = out[at - 1];
		out[at] = dim;
		n++;
	}
	return n;
}

mc_status_t mc_kv_layout_check(const struct mc_kv_layout *l, uint64_t *extent_out, char *why, size_t why_len)
{
	enum mc_kv_dim dim[MC_KV_NDIM];
	const char *inner = "head_dim";
	uint64_t extent, span;
	mc_status_t s = check_fields(l, why, why_len);

	if (s != MC_OK)
		return s;
	extent = mc_kv_layout_vec(l);
	uint32_t n = sort_dims(l, dim);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t stride = l->stride[dim[i]];
		uint32_t entries = mc_kv_layout_dim_n(l, dim[i]);
		if (stride % l->elem_bytes != 0) {
			mc_kv_say(why, why_len, "%s stride %llu is no multiple of elem_bytes %u (strides are bytes)",
				  dim_name[dim[i]], (unsigned long long)stride, l->elem_bytes);
			return MC_ERR_INVAL;
		}
		if (stride < extent) {
			mc_kv_say(why, why_len, "%s stride %llu overlaps what lies inside it (%s, %llu bytes)",
				  dim_name[dim[i]], (unsigned long long)stride, inner, (unsigned long long)extent);
			return MC_ERR_INVAL;
		}
		if (!mc_mul_u64(stride, entries - 1, &span) || !mc_add_u64(span, extent, &extent) ||
		    extent >= MC_KV_EXTENT_MAX) {
			mc_kv_say(why, why_len, "%s stride %llu times %u reaches beyond 2^62 bytes", dim_name[dim[i]],
				  (unsigned long long)stride, entries);
			return MC_ERR_INVAL;
		}
		inner = dim_name[dim[i]];
	}
	if (extent_out != NULL)
		*extent_out = extent;
	return MC_OK;
}

mc_status_t mc_kv_layout_fits(const struct mc_kv_layout *l, const uint64_t *len, uint32_t base_n, char *why,
			      size_t why_len)
{
	uint64_t extent;
	mc_status_t s = mc_kv_layout_check(l, &extent, why, why_len);

	if (s != MC_OK)
		return s;
	if (base_n != mc_kv_layout_base_n(l)) {
		mc_kv_say(why, why_len, "%u bases given, the layout has %u", base_n, mc_kv_layout_base_n(l));
		return MC_ERR_INVAL;
	}
	for (uint32_t i = 0; i < base_n; i++) {
		if (len[i] >= extent)
			continue;
		mc_kv_say(why, why_len, "base %u has %llu bytes, the layout needs %llu", i, (unsigned long long)len[i],
			  (unsigned long long)extent);
		return MC_ERR_RANGE;
	}
	return MC_OK;
}

mc_status_t mc_kv_layout_dense(struct mc_kv_layout *l, const enum mc_kv_dim order[MC_KV_NDIM])
{
	uint64_t stride[MC_KV_NDIM] = {0};
	uint64_t extent = mc_kv_layout_vec(l);
	uint32_t seen = 0;

	for (uint32_t i = MC_KV_NDIM; i-- > 0;) {
		enum mc_kv_dim dim = order[i];
		if ((uint32_t)dim >= MC_KV_NDIM || (seen & 1u << dim) != 0)
			return MC_ERR_INVAL;
		seen |= 1u << dim;
		if (mc_kv_layout_dim_is_base(l, dim))
			continue;
		stride[dim] = extent;
		if (!mc_mul_u64(extent, mc_kv_layout_dim_n(l, dim), &extent) || extent >= MC_KV_EXTENT_MAX)
			return MC_ERR_INVAL;
	}
	memcpy(l->stride, stride, sizeof(stride));
	return MC_OK;
}

void mc_kv_shard(uint32_t total, uint32_t parts, uint32_t rank, uint32_t *lo_out, uint32_t *n_out)
{
	uint32_t lo = (uint32_t)((uint64_t)rank * total / parts);

	*n_out = total < parts ? 1 : (uint32_t)(((uint64_t)rank + 1) * total / parts) - lo;
	*lo_out = lo;
}

enum { WIRE_VERSION = 1 };

void mc_kv_layout_put(struct mc_wr *w, const struct mc_kv_layout *l)
{
	mc_wr_u8(w, WIRE_VERSION);
	mc_wr_u32(w, l->flags);
	mc_wr_u32(w, l->elem_bytes);
	mc_wr_u32(w, l->head_dim);
	mc_wr_u32(w, l->kv_n);
	mc_wr_u32(w, l->block_tokens);
	mc_wr_u32(w, l->block_n);
	mc_wr_u32(w, l->layer_lo);
	mc_wr_u32(w, l->layer_n);
	mc_wr_u32(w, l->layer_total);
	mc_wr_u32(w, l->head_lo);
	mc_wr_u32(w, l->head_n);
	mc_wr_u32(w, l->head_total);
	mc_wr_u32(w, l->reserved);
	for (uint32_t i = 0; i < MC_KV_NDIM; i++)
		mc_wr_u64(w, l->stride[i]);
}

mc_status_t mc_kv_layout_get(struct mc_rd *r, struct mc_kv_layout *out)
{
	struct mc_kv_layout l = {.size = sizeof(l)};
	uint8_t version = mc_rd_u8(r);

	memset(out, 0, sizeof(*out));
	l.flags = mc_rd_u32(r);
	l.elem_bytes = mc_rd_u32(r);
	l.head_dim = mc_rd_u32(r);
	l.kv_n = mc_rd_u32(r);
	l.block_tokens = mc_rd_u32(r);
	l.block_n = mc_rd_u32(r);
	l.layer_lo = mc_rd_u32(r);
	l.layer_n = mc_rd_u32(r);
	l.layer_total = mc_rd_u32(r);
	l.head_lo = mc_rd_u32(r);
	l.head_n = mc_rd_u32(r);
	l.head_total = mc_rd_u32(r);
	l.reserved = mc_rd_u32(r);
	for (uint32_t i = 0; i < MC_KV_NDIM; i++)
		l.stride[i] = mc_rd_u64(r);
	if (r->bad || version != WIRE_VERSION || mc_kv_layout_check(&l, NULL, NULL, 0) != MC_OK)
		return MC_ERR_PROTO;
	*out = l;
	return MC_OK;
}

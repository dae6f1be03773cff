/* SPDX-License-Identifier: BSD-3-Clause */
/* test_kv_layout.c - which layouts are possible, how large they are, and every way in which one is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "kv.h"

static const enum mc_kv_dim hnd[MC_KV_NDIM] = {MC_KV_LAYER, MC_KV_KV, MC_KV_BLOCK, MC_KV_HEAD, MC_KV_TOKEN};

/* 4 layers, 8 heads of 128 x 2 bytes, 32 blocks of 16 tokens. */
static struct mc_kv_layout sample(void)
{
	struct mc_kv_layout l = {
		.size = sizeof(l),
		.elem_bytes = 2,
		.head_dim = 128,
		.kv_n = 2,
		.block_tokens = 16,
		.block_n = 32,
		.layer_n = 4,
		.layer_total = 4,
		.head_n = 8,
		.head_total = 8,
	};

	assert_int_equal(mc_kv_layout_dense(&l, hnd), MC_OK);
	return l;
}

static void refused(const struct mc_kv_layout *l, const char *named)
{
	uint8_t wire[MC_KV_LAYOUT_WIRE_LEN];
	uint64_t extent = 77;
	char why[200] = "";
	struct mc_kv_layout out;
	struct mc_wr w;
	struct mc_rd r;

	assert_int_equal(mc_kv_layout_check(l, &extent, why, sizeof(why)), MC_ERR_INVAL);
	assert_non_null(strstr(why, named));
	assert_true(extent == 77);
	assert_int_equal(mc_kv_layout_check(l, NULL, NULL, 0), MC_ERR_INVAL);
	if (l->size != sizeof(*l))
		return;
	mc_wr_init(&w, wire, sizeof(wire));
	mc_kv_layout_put(&w, l);
	mc_rd_init(&r, wire, sizeof(wire));
	assert_int_equal(mc_kv_layout_get(&r, &out), MC_ERR_PROTO);
	assert_int_equal(out.size, 0);
}

static void layout_check__dense(void **state)
{
	struct mc_kv_layout l = sample();
	uint64_t extent;

	(void)state;
	assert_int_equal(mc_kv_layout_check(&l, &extent, NULL, 0), MC_OK);
	assert_true(l.stride[MC_KV_TOKEN] == 256);
	assert_true(l.stride[MC_KV_HEAD] == 4096);
	assert_true(l.stride[MC_KV_BLOCK] == 32768);
	assert_true(l.stride[MC_KV_KV] == 1048576);
	assert_true(l.stride[MC_KV_LAYER] == 2097152);
	assert_true(extent == 8388608);
	assert_int_equal(mc_kv_layout_base_n(&l), 1);
}

static void layout_check__bases(void **state)
{
	struct mc_kv_layout l = sample();
	uint64_t extent;

	(void)state;
	l.flags = MC_KV_BASE_PER_LAYER;
	l.stride[MC_KV_LAYER] = 1; /* not used */
	assert_int_equal(mc_kv_layout_check(&l, &extent, NULL, 0), MC_OK);
	assert_true(extent == 2097152);
	assert_int_equal(mc_kv_layout_base_n(&l), 4);
	l.flags = MC_KV_BASE_PER_LAYER | MC_KV_BASE_PER_KV;
	l.stride[MC_KV_KV] = 3;
	assert_int_equal(mc_kv_layout_check(&l, &extent, NULL, 0), MC_OK);
	assert_true(extent == 1048576);
	assert_int_equal(mc_kv_layout_base_n(&l), 8);
	assert_int_equal(mc_kv_layout_dense(&l, hnd), MC_OK);
	assert_true(l.stride[MC_KV_KV] == 0);
	assert_true(l.stride[MC_KV_LAYER] == 0);
}

static void layout_check__gaps_and_single_entries(void **state)
{
	struct mc_kv_layout l = sample();
	uint64_t extent;

	(void)state;
	l.stride[MC_KV_TOKEN] = 258; /* one element of padding per token: the head stride is then too short */
	refused(&l, "head stride 4096 overlaps what lies inside it (token, 4126 bytes)");
	l.stride[MC_KV_HEAD] = 4126; /* the padding of the last token may be used by the next head */
	l.stride[MC_KV_BLOCK] = 7 * 4126 + 4126;
	l.stride[MC_KV_KV] = l.stride[MC_KV_BLOCK] * 32;
	l.stride[MC_KV_LAYER] = l.stride[MC_KV_KV] * 2;
	assert_int_equal(mc_kv_layout_check(&l, &extent, NULL, 0), MC_OK);
	assert_true(extent == l.stride[MC_KV_LAYER] * 4);
	l.layer_n = 1;
	l.stride[MC_KV_LAYER] = 1;
	assert_int_equal(mc_kv_layout_check(&l, &extent, NULL, 0), MC_OK);
	assert_true(extent == l.stride[MC_KV_KV] * 2);
}

static void layout_check__equal_strides(void **state)
{
	struct mc_kv_layout l = sample();

	(void)state;
	l.stride[MC_KV_TOKEN] = l.stride[MC_KV_HEAD];
	refused(&l, "overlaps");
	l = sample();
	l.stride[MC_KV_KV] = 0;
	refused(&l, "k/v stride 0 overlaps");
	l = sample();
	l.stride[MC_KV_TOKEN] -= 2; /* by one element */
	refused(&l, "token stride 254 overlaps what lies inside it (head_dim, 256 bytes)");
	l = sample();
	l.stride[MC_KV_LAYER] -= 2;
	refused(&l, "layer stride 2097150 overlaps");
}

static void layout_check__overflow(void **state)
{
	struct mc_kv_layout l = sample();

	(void)state;
	l.stride[MC_KV_LAYER] = UINT64_C(1) << 63;
	refused(&l, "2^62");
	l.stride[MC_KV_LAYER] = UINT64_C(1) << 61;
	refused(&l, "2^62");
	l.stride[MC_KV_LAYER] = UINT64_C(1) << 60;
	assert_int_equal(mc_kv_layout_check(&l, NULL, NULL, 0), MC_OK);
	l.stride[MC_KV_LAYER] += 1;
	refused(&l, "no multiple of elem_bytes 2");
}

/* Each field out of its range. */
static void layout_check__fields(void **state)
{
	static const struct {
		size_t at;
		uint32_t value;
		const char *named;
	} bad[] = {
		{offsetof(struct mc_kv_layout, size), sizeof(struct mc_kv_layout) - 4, "size"},
		{offsetof(struct mc_kv_layout, flags), 4, "flags"},
		{offsetof(struct mc_kv_layout, reserved), 1, "reserved"},
		{offsetof(struct mc_kv_layout, elem_bytes), 0, "elem_bytes"},
		{offsetof(struct mc_kv_layout, elem_bytes), 3, "elem_bytes"},
		{offsetof(struct mc_kv_layout, elem_bytes), 8, "elem_bytes"},
		{offsetof(struct mc_kv_layout, head_dim), 0, "head_dim"},
		{offsetof(struct mc_kv_layout, head_dim), 65537, "head_dim"},
		{offsetof(struct mc_kv_layout, kv_n), 0, "kv_n"},
		{offsetof(struct mc_kv_layout, kv_n), 3, "kv_n"},
		{offsetof(struct mc_kv_layout, block_tokens), 0, "block_tokens"},
		{offsetof(struct mc_kv_layout, block_tokens), 65537, "block_tokens"},
		{offsetof(struct mc_kv_layout, block_n), 0, "block_n"},
		{offsetof(struct mc_kv_layout, layer_total), 0, "layer_total"},
		{offsetof(struct mc_kv_layout, layer_total), 3, "layer_n 4"},
		{offsetof(struct mc_kv_layout, layer_total), 4097, "layer_total"},
		{offsetof(struct mc_kv_layout, layer_n), 0, "layer_n 0"},
		{offsetof(struct mc_kv_layout, layer_lo), 1, "layer_lo 1"},
		{offsetof(struct mc_kv_layout, layer_lo), UINT32_MAX, "layer_lo"},
		{offsetof(struct mc_kv_layout, head_total), 7, "head_n 8"},
		{offsetof(struct mc_kv_layout, head_n), 0, "head_n 0"},
		{offsetof(struct mc_kv_layout, head_n), UINT32_MAX, "head_n"},
		{offsetof(struct mc_kv_layout, head_lo), 1, "head_lo 1"},
	};

	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(bad); i++) {
		struct mc_kv_layout l = sample();
		memcpy((char *)&l + bad[i].at, &bad[i].value, sizeof(bad[i].value));
		refused(&l, bad[i].named);
	}
}

static void layout_fits__lengths(void **state)
{
	struct mc_kv_layout l = sample();
	uint64_t len[4] = {2097152, 2097152, 2097151, 2097152};
	char why[200];

	(void)state;
	l.flags = MC_KV_BASE_PER_LAYER;
	assert_int_equal(mc_kv_layout_fits(&l, len, 3, why, sizeof(why)), MC_ERR_INVAL);
	assert_non_null(strstr(why, "3 bases given"));
	assert_int_equal(mc_kv_layout_fits(&l, len, 4, why, sizeof(why)), MC_ERR_RANGE);
	assert_non_null(strstr(why, "base 2 has 2097151 bytes, the layout needs 2097152"));
	len[2]++;
	assert_int_equal(mc_kv_layout_fits(&l, len, 4, why, sizeof(why)), MC_OK);
	l.kv_n = 0;
	assert_int_equal(mc_kv_layout_fits(&l, len, 4, why, sizeof(why)), MC_ERR_INVAL);
}

static void layout_dense__bad_order(void **state)
{
	static const enum mc_kv_dim twice[MC_KV_NDIM] = {MC_KV_LAYER, MC_KV_KV, MC_KV_KV, MC_KV_HEAD, MC_KV_TOKEN};
	static const enum mc_kv_dim beyond[MC_KV_NDIM] = {MC_KV_LAYER, MC_KV_KV, MC_KV_NDIM, MC_KV_HEAD, MC_KV_TOKEN};
	struct mc_kv_layout l = sample(), before = l;

	(void)state;
	assert_int_equal(mc_kv_layout_dense(&l, twice), MC_ERR_INVAL);
	assert_int_equal(mc_kv_layout_dense(&l, beyond), MC_ERR_INVAL);
	l.block_n = before.block_n = UINT32_MAX;
	l.head_dim = before.head_dim = l.block_tokens = before.block_tokens = 65536;
	assert_int_equal(mc_kv_layout_dense(&l, hnd), MC_ERR_INVAL);
	assert_memory_equal(&l, &before, sizeof(l));
}

static void shard__even_ragged_and_replicated(void **state)
{
	static const struct {
		uint32_t total, parts, rank, lo, n;
	} want[] = {
		{8, 4, 0, 0, 2}, {8, 4, 3, 6, 2}, {8, 3, 0, 0, 2}, {8, 3, 1, 2, 3}, {8, 3, 2, 5, 3},
		{4, 8, 0, 0, 1}, {4, 8, 1, 0, 1}, {4, 8, 6, 3, 1}, {4, 8, 7, 3, 1}, {2, 3, 0, 0, 1},
		{2, 3, 1, 0, 1}, {2, 3, 2, 1, 1}, {1, 5, 4, 0, 1}, {5, 5, 4, 4, 1}, {61, 1, 0, 0, 61},
	};

	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(want); i++) {
		uint32_t lo, n;
		mc_kv_shard(want[i].total, want[i].parts, want[i].rank, &lo, &n);
		assert_int_equal(lo, want[i].lo);
		assert_int_equal(n, want[i].n);
	}
}

static void layout_wire__round_trip_and_cut(void **state)
{
	uint8_t wire[MC_KV_LAYOUT_WIRE_LEN + 1];
	struct mc_kv_layout l = sample(), out;
	struct mc_wr w;
	struct mc_rd r;

	(void)state;
	l.flags = MC_KV_BASE_PER_KV;
	mc_wr_init(&w, wire, sizeof(wire));
	mc_kv_layout_put(&w, &l);
	assert_int_equal(mc_wr_len(&w), MC_KV_LAYOUT_WIRE_LEN);
	for (size_t len = 0; len < MC_KV_LAYOUT_WIRE_LEN; len++) {
		mc_rd_init(&r, wire, len);
		assert_int_equal(mc_kv_layout_get(&r, &out), MC_ERR_PROTO);
	}
	mc_rd_init(&r, wire, MC_KV_LAYOUT_WIRE_LEN);
	assert_int_equal(mc_kv_layout_get(&r, &out), MC_OK);
	assert_true(mc_rd_end(&r));
	assert_memory_equal(&out, &l, sizeof(l));
	wire[0]++;
	mc_rd_init(&r, wire, MC_KV_LAYOUT_WIRE_LEN);
	assert_int_equal(mc_kv_layout_get(&r, &out), MC_ERR_PROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layout_check__dense),
		cmocka_unit_test(layout_check__bases),
		cmocka_unit_test(layout_check__gaps_and_single_entries),
		cmocka_unit_test(layout_check__equal_strides),
		cmocka_unit_test(layout_check__overflow),
		cmocka_unit_test(layout_check__fields),
		cmocka_unit_test(layout_fits__lengths),
		cmocka_unit_test(layout_dense__bad_order),
		cmocka_unit_test(shard__even_ragged_and_replicated),
		cmocka_unit_test(layout_wire__round_trip_and_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

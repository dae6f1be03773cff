/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_pattern.c - pure rank arithmetic of the collectives; see coll_pattern.h. */
#include "coll_pattern.h"

uint32_t mc_pat_rounds(uint32_t n)
{
	uint32_t k = 0;
	while ((UINT64_C(1) << k) < n)
		k++;
	return k;
}

uint32_t mc_pat_add(uint32_t rank, uint64_t dist, uint32_t n)
{
	return (uint32_t)((rank + dist % n) % n);
}

uint32_t mc_pat_sub(uint32_t rank, uint64_t dist, uint32_t n)
{
	return (uint32_t)(((uint64_t)rank + n - dist % n) % n);
}

uint32_t mc_pat_rel(uint32_t rank, uint32_t root, uint32_t n)
{
	return mc_pat_sub(rank, root, n);
}

uint32_t mc_pat_abs(uint32_t rel, uint32_t root, uint32_t n)
{
	return mc_pat_add(rel, root, n);
}

uint32_t mc_pat_parent(uint32_t rel)
{
	return rel & (rel - 1);
}

/* Bits below the lowest set one of rel; for the root all bits that n has. */
static uint32_t bits_below(uint32_t rel, uint32_t n)
{
	return rel == 0 ? mc_pat_rounds(n) : (uint32_t)__builtin_ctz(rel);
}

uint32_t mc_pat_child_n(uint32_t rel, uint32_t n)
{
	uint32_t k = 0, bits = bits_below(rel, n);
	while (k < bits && (uint64_t)rel + (UINT64_C(1) << k) < n)
		k++;
	return k;
}

uint32_t mc_pat_child(uint32_t rel, uint32_t k)
{
	return rel + (UINT32_C(1) << k);
}

uint32_t mc_pat_subtree(uint32_t rel, uint32_t n)
{
	uint64_t size = UINT64_C(1) << bits_below(rel, n);
	return size < n - rel ? (uint32_t)size : n - rel;
}

bool mc_pat_spread_carries(uint32_t rel_to, uint32_t round, uint32_t n)
{
	uint64_t dist = UINT64_C(1) << round;
	return rel_to < n && rel_to >= dist && rel_to < 2 * dist;
}

uint32_t mc_pat_bruck_have(uint32_t round, uint32_t n)
{
	uint64_t have = UINT64_C(1) << round;
	return have < n ? (uint32_t)have : n;
}

uint32_t mc_pat_bruck_send(uint32_t round, uint32_t n)
{
	uint32_t have = mc_pat_bruck_have(round, n);
	return have < n - have ? have : n - have;
}

uint32_t mc_pat_pieces(uint64_t len, uint64_t piece, uint32_t max)
{
	uint64_t k = len / piece + (len % piece != 0);
	return k == 0 ? 1 : k > max ? max : (uint32_t)k;
}

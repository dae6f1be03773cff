/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_pattern.h - who talks to whom: pure arithmetic on ranks 0..n-1. Nothing here knows memory or messages.
 * "rel" is a rank counted from the root: rel 0 is the root.
 */
#ifndef MC_COLL_PATTERN_H
#define MC_COLL_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

uint32_t mc_pat_rounds(uint32_t n);                            /* ceil(log2 n) */
uint32_t mc_pat_add(uint32_t rank, uint64_t dist, uint32_t n); /* dist places on, around the ring */
uint32_t mc_pat_sub(uint32_t rank, uint64_t dist, uint32_t n); /* dist places back */
uint32_t mc_pat_rel(uint32_t rank, uint32_t root, uint32_t n);
uint32_t mc_pat_abs(uint32_t rel, uint32_t root, uint32_t n);

/* Binomial tree: the parent of rel is rel without its lowest set bit; its children are rel + 2^k below that bit. */
uint32_t mc_pat_parent(uint32_t rel); /* rel > 0 */
uint32_t mc_pat_child_n(uint32_t rel, uint32_t n);
uint32_t mc_pat_child(uint32_t rel, uint32_t k);   /* k-th, the smallest subtree first */
uint32_t mc_pat_subtree(uint32_t rel, uint32_t n); /* ranks rel, rel+1, ... that its subtree holds, itself too */

/* Dissemination: does the message of that round to rel carry what the root knew at the start, to one that lacks it? */
bool mc_pat_spread_carries(uint32_t rel_to, uint32_t round, uint32_t n);

/* Bruck: blocks that a rank has before round k, and how many it sends in it. */
uint32_t mc_pat_bruck_have(uint32_t round, uint32_t n);
uint32_t mc_pat_bruck_send(uint32_t round, uint32_t n);

/* Pieces of a pipelined message, at most `piece` bytes each; at least 1. */
uint32_t mc_pat_pieces(uint64_t len, uint64_t piece, uint32_t max);

#endif

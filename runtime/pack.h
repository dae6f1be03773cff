/* SPDX-License-Identifier: BSD-3-Clause */
/* pack.h - what both sides of packed transfers share: entries of a list of places, and bytes into a message. */
#ifndef MC_PACK_H
#define MC_PACK_H

#include "internal.h"

enum {
	PACK_LEVEL = 4 + 8,                           /* count, stride */
	PACK_ENTRY = 1 + 8 + 8 + 4 + 3 * PACK_LEVEL,  /* number of levels, region, offset, length */
	PACK_SAME = 0x80,                             /* in the number of levels: no region, as in the entry before */
	PACK_LAST = 1,                                /* flag of a put: its last message */
	PACK_SLACK = 256,                             /* frame and fixed part of a body */
	PACK_ENTRIES = 512,                           /* of one message */
	PACK_VECTOR = 8192,       /* shorter pieces are gathered by copying: a vector entry each costs more */
	PACK_STREAM = 128 << 10,  /* messages with so much data are copied past the caches at the target */
};

/* Pieces of one run, or a part of one. */
struct mc_entry {
	uint8_t *addr;
	uint64_t rid, roff, len;
	struct mc_shape shape;
};

/* rid: region of the entry before, 0 at the first. */
void mc_entry_write(struct mc_wr *w, const struct mc_entry *e, uint64_t rid);
/*
 * As a peer sent it: strides are those of the target; e->rid is in the region of the entry before, 0 at the first.
 * false: malformed, or more than `left` bytes.
 */
bool mc_entry_read(struct mc_rd *r, struct mc_entry *e, uint64_t left);
/* Bytes from the first to the last of all pieces at the target. false: more than can be. */
bool mc_entry_span(const struct mc_entry *e, uint64_t *span_out);

bool mc_pack_bounce(struct mc_tx *tx, uint64_t room); /* false: no memory */
/*
 * Bytes of an entry into a message: long pieces are sent from where they are, short ones copied together. `remote`: the
 * strides of the far side are meant, which are ours when the entry came from there.
 */
void mc_pack_bytes(struct mc_tx *tx, const uint8_t *from, const struct mc_entry *e, bool remote);

#endif

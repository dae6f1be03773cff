/* SPDX-License-Identifier: BSD-3-Clause */
/* dlist.h - a prepared list of slices, inside. */
#ifndef MC_DLIST_H
#define MC_DLIST_H

#include "internal.h"

/*
 * In the form that the peer's link wants. Constant while there are users, but for the last
 * three.
 */
struct mc_dlist {
	struct mc_ctx *ctx;
	struct mc_peer *peer;
	bool rma;                   /* be_slice[] rather than run[] */
	bool halves;                /* an entry lacks one side: only selections can be posted */
	uint32_t n, run_n;
	uint64_t bytes;
	void *entry;                /* [n] as given, to select from */
	void *merged;               /* [run_n] as posted; the same as entry if nothing could be merged */
	struct mc_shape *shape;     /* [shape_n] of runs in merged; NULL: all are single pieces */
	uint32_t shape_n, shape_room;
	struct mc_pin *pin;         /* [pin_n] */
	uint32_t pin_n, pin_room;
	struct mc_slice *given;     /* [n] while the link is not proved, which may ask for another form; else NULL */
	struct mc_list node;        /* ctx->dlists */
	uint32_t users;             /* requests that have not ended */
	bool freed;                 /* by its owner: the last user destroys it */
};

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* shape.h - boxes of equal pieces in equal steps: what strided runs of a request look like, and walks over them. */
#ifndef MC_SHAPE_H
#define MC_SHAPE_H

#include <stdbool.h>

#include "mc.h"

/*
 * The next piece of a level is stride (here) and rstride (there) further on; the first level runs fastest. Levels that
 * are not used have count 1.
 */
enum { MC_LEVELS = 3 };
struct mc_level {
	uint64_t stride, rstride;
	uint32_t count;
};
struct mc_shape {
	struct mc_level level[MC_LEVELS];
	uint32_t pieces; /* product of the counts */
};

extern const struct mc_shape mc_shape_single[1];
/* Number of a shape in a table that grows; the same again and again costs a look at the last few. */
mc_status_t mc_shape_number(struct mc_shape **table, uint32_t *n, uint32_t *room, const struct mc_shape *s,
			    uint32_t *number_out);

/* Where a walk over a box of pieces stands. */
struct mc_walk {
	const struct mc_shape *shape;
	uint64_t here, there; /* of the current piece, from the first */
	uint32_t i[MC_LEVELS];
};

static inline void mc_walk_at(struct mc_walk *w, const struct mc_shape *s, uint32_t piece)
{
	w->shape = s;
	w->here = w->there = 0;
	for (uint32_t k = 0; k < MC_LEVELS; k++) {
		w->i[k] = piece % s->level[k].count;
		piece /= s->level[k].count;
		w->here += w->i[k] * s->level[k].stride;
		w->there += w->i[k] * s->level[k].rstride;
	}
}

/* false: it was the last. */
static inline bool mc_walk_next(struct mc_walk *w)
{
	for (uint32_t k = 0; k < MC_LEVELS; k++) {
		const struct mc_level *l = &w->shape->level[k];
		w->here += l->stride;
		w->there += l->rstride;
		if (++w->i[k] < l->count)
			return true;
		w->i[k] = 0;
		w->here -= l->count * l->stride;
		w->there -= l->count * l->rstride;
	}
	return false;
}

#endif

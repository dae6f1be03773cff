/* SPDX-License-Identifier: BSD-3-Clause */
/* shape.c - tables of shapes: a request has few, and many runs. */
#include "shape.h"

#include <stdlib.h>

enum { SHAPES_BACK = 4 };

const struct mc_shape mc_shape_single[1] = {{.level = {{0, 0, 1}, {0, 0, 1}, {0, 0, 1}}, .pieces = 1}};

static bool same_shape(const struct mc_shape *a, const struct mc_shape *b)
{
	for (uint32_t k = 0; k < MC_LEVELS; k++)
		if (a->level[k].count != b->level[k].count || a->level[k].stride != b->level[k].stride ||
		    a->level[k].rstride != b->level[k].rstride)
			return false;
	return true;
}

mc_status_t mc_shape_number(struct mc_shape **table, uint32_t *n, uint32_t *room, const struct mc_shape *s,
			    uint32_t *number_out)
{
	if (*n + 1 >= *room) {
		uint32_t more = *room > 0 ? *room * 2 : 8;
		struct mc_shape *a = realloc(*table, more * sizeof(*a));
		if (a == NULL)
			return MC_ERR_NOMEM;
		*table = a;
		*room = more;
	}
	if (*n == 0)
		(*table)[(*n)++] = mc_shape_single[0];
	uint32_t stop = *n > SHAPES_BACK ? *n - SHAPES_BACK : 0;
	for (uint32_t i = *n; i > stop; i--) {
		if (same_shape(&(*table)[i - 1], s)) {
			*number_out = i - 1;
			return MC_OK;
		}
	}
	*number_out = *n;
	(*table)[(*n)++] = *s;
	return MC_OK;
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "engine.h"

#include <string.h>

static const struct mc_engine_ops *const engines[] = {&mc_engine_local};

const struct mc_engine_ops *mc_engine_find(const char *name)
{
	if (name == NULL || strcmp(name, "auto") == 0)
		return engines[0];
	for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
		if (strcmp(engines[i]->name, name) == 0)
			return engines[i];
	return NULL;
}

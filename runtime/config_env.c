/* SPDX-License-Identifier: BSD-3-Clause */
/* config_env.c - variables of other libraries that decide what we may do. Settings are in config_defs.h. */
#include <stdlib.h>

#include "config.h"

const char *mc_config_hwloc_file(void)
{
	const char *file = getenv("HWLOC_XMLFILE");

	return file != NULL && file[0] != '\0' ? file : NULL;
}

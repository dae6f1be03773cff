/* SPDX-License-Identifier: BSD-3-Clause */
/* status.c - names and texts of statuses, from the one list in mc.h; the version. */
#include "mc.h"

#ifndef MC_VERSION_STRING
#error "MC_VERSION_STRING comes from the build (project version)"
#endif

#define STATUS_NAME(name, num, text)                                                                                   \
	case num:                                                                                                      \
		return #name;
#define STATUS_TEXT(name, num, text)                                                                                   \
	case num:                                                                                                      \
		return text;

/* The switch is on int: a status that came over the wire or from a newer library may be no member of the enum. */
const char *mc_status_name(mc_status_t s)
{
	switch ((int)s) {
		MC_STATUS_MAP(STATUS_NAME)
	default:
		return "?";
	}
}

const char *mc_status_text(mc_status_t s)
{
	switch ((int)s) {
		MC_STATUS_MAP(STATUS_TEXT)
	default:
		return "?";
	}
}

const char *mc_version(void)
{
	return MC_VERSION_STRING;
}

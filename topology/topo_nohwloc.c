/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_nohwloc.c - in place of topo_hwloc.c in a build without hwloc: what the kernel tells, and no XML files. */
#include "topo_impl.h"

mc_status_t mc_topo_read_hwloc(struct mc_topo *t, const struct mc_topo_input *in, char *err, size_t err_len)
{
	mc_status_t s;

	if (in->xml != NULL)
		return mc_topo_fail(MC_ERR_UNSUPPORTED, err, err_len,
				    "%s: this build is without hwloc and reads no XML", in->name);
	s = mc_topo_read_kernel(t, "", err, err_len);
	if (s == MC_OK)
		mc_topo_copy(t->source, sizeof(t->source), "this machine (build without hwloc)");
	return s;
}

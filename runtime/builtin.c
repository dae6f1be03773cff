/* SPDX-License-Identifier: BSD-3-Clause */
/* builtin.c - the only file that names plug-ins. To add one: its ops here, its folder, its tests; nothing else. */
#include "backend.h"
#include "boot.h"
#include "bridge.h"

extern const struct mc_be_ops mc_be_shm, mc_be_verbs, mc_be_ucx, mc_be_loop;
extern const struct mc_boot_ops mc_boot_hub, mc_boot_pmix, mc_boot_single;
extern const struct mc_bridge_ops mc_bridge_etcd;

const struct mc_be_ops *const mc_builtin_backends[] = {
	&mc_be_shm,
#ifdef MC_HAVE_VERBS
	&mc_be_verbs,
#endif
#ifdef MC_HAVE_UCX
	&mc_be_ucx,
#endif
	&mc_be_loop,
	NULL,
};

const struct mc_boot_ops *const mc_builtin_boots[] = {
	&mc_boot_hub,
#ifdef MC_HAVE_PMIX
	&mc_boot_pmix,
#endif
	&mc_boot_single,
	NULL,
};

const struct mc_bridge_ops *const mc_builtin_bridges[] = {
	&mc_bridge_etcd,
	NULL,
};

/* SPDX-License-Identifier: BSD-3-Clause */
/* config.h - settings: default < JSON file < environment < mc_params; read once in mc_init(), constant afterwards. */
#ifndef MC_CONFIG_H
#define MC_CONFIG_H

#include <stdbool.h>

#include "config_defs.h"
#include "mc.h"

enum { MC_BACKEND_AUTO, MC_BACKEND_SHM, MC_BACKEND_UCX, MC_BACKEND_LOOP, MC_BACKEND_VERBS };
enum { MC_TRANSPORT_AUTO, MC_TRANSPORT_SHM, MC_TRANSPORT_TCP, MC_TRANSPORT_RDMA };
enum { MC_PROGRESS_THREAD, MC_PROGRESS_MANUAL };
enum { MC_UCX_RMA_AUTO, MC_UCX_RMA_YES, MC_UCX_RMA_NO };

#define MC_CONFIG_T_ENUM   int
#define MC_CONFIG_T_UINT   uint32_t
#define MC_CONFIG_T_SIZE   uint64_t
#define MC_CONFIG_T_DUR    int64_t
#define MC_CONFIG_T_BOOL   int
#define MC_CONFIG_T_STR    char *
#define MC_CONFIG_T_SECRET char *

struct mc_config {
#define MC_CONFIG_FIELD(kind, field, name, def, range, unit, text) MC_CONFIG_T_##kind field;
	MC_CONFIG_DEFS(MC_CONFIG_FIELD)
#undef MC_CONFIG_FIELD
};

/*
 * Read defaults, the file that MC_CONFIG names, the environment. On MC_ERR_CONFIG err says what and where; *cfg is then
 * empty. An unknown MC_* name in the environment or the file is an error that names the nearest known one.
 */
mc_status_t mc_config_load(struct mc_config *cfg, char *err, size_t err_len);
/* Override one setting by name, as mc_params does. */
mc_status_t mc_config_set(struct mc_config *cfg, const char *name, const char *value, char *err, size_t err_len);
void mc_config_free(struct mc_config *cfg);

/* Did a PMIx launcher start this process? For the rendezvous; a launcher's variables are not settings. */
bool mc_config_launched(void);
/* Why a process that thinks itself alone may not be: "srun without --mpi=pmix"; or NULL. */
const char *mc_config_unwired(void);
/* The file of another machine or of this one that every hwloc in this process reads (HWLOC_XMLFILE); NULL: none. */
const char *mc_config_hwloc_file(void);

#endif

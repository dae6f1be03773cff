/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * place.h - --bind numa: nodes for ranks by the answer that also gives them their NICs; and a word for the ranks about
 * the topology file that HWLOC_XMLFILE names.
 */
#ifndef MCRUN_PLACE_H
#define MCRUN_PLACE_H

#include "bind.h"

/*
 * hwloc crashes on damaged XML, and so would every rank that reads such a file. Try it in a child process: an error for
 * the user, or MC_HWLOC_CHECKED in the environments [role_n], without which ranks leave it alone.
 */
int mc_place_check_xml(const struct mc_job *job, struct mc_strv *role_env, struct mc_err *err);
/* Fill b for --bind numa where the machine, or the file, has several nodes; else leave it. root as for mc_bind_open().
 */
int mc_place_open(struct mc_bind *b, const struct mc_job *job, const struct mc_strv *role_env, struct mc_err *err);
/*
 * Pure: the next rank's node. grade[node_n]: larger is nearer to what the rank needs; room: ranks that a node takes
 * before the rank goes to a farther one, 0: not to be used; used: how many it has, counted here. UINT32_MAX: no node
 * has room at all.
 */
uint32_t mc_place_next(const uint32_t *grade, const uint32_t *room, uint32_t *used, uint32_t node_n);

#endif

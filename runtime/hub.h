/* SPDX-License-Identifier: BSD-3-Clause */
/* hub.h - where contexts of one process meet: boot_local.c exchanges blobs in it, loop.c finds its peers. */
#ifndef MC_HUB_H
#define MC_HUB_H

#include <pthread.h>

#include "mc.h"

struct mc_hub_round; /* one exchange; boot_local.c */

struct mc_hub_slot {
	uint32_t joined;    /* a context with this rank is open */
	uint32_t again; /* how many times it was started before (tests): the next context of this rank joins the others
			 */
	struct mc_be *loop; /* open loop backend of this rank, or NULL */
};

struct mc_hub {
	pthread_mutex_t lock;
	pthread_cond_t cond; /* CLOCK_MONOTONIC */
	char job[64];
	uint32_t loop_caps; /* enum mc_cap that the loop backend is to have beside its own (tests) */
	uint32_t n;
	struct mc_hub_round *gathering; /* the exchange that still waits for ranks, or NULL */
	struct mc_hub_round *last; /* the latest that was complete, or NULL: what a rank that is started again finds */
	struct mc_hub_slot slot[];
};

#endif

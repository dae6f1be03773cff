/* SPDX-License-Identifier: BSD-3-Clause */
/* watch.h - mcinfo watch: what RDMA ports, interfaces and the rdma cgroup do, as rates. */
#ifndef MCRUN_WATCH_H
#define MCRUN_WATCH_H

#include "sysroot.h"

/* One thing that is counted. */
struct mc_watch_item {
	char who[80];  /* "mlx5_0:1", "eth0", "cgroup mlx5_0" */
	char name[64]; /* "port_xmit_data" */
	uint64_t value;
	uint32_t unit; /* bytes per count: 4 for port_xmit_data, 1 for other bytes, 0: not bytes */
	bool error;    /* its growth means trouble */
	bool level;    /* a present amount, not a sum: no rate */
};
struct mc_watch {
	struct mc_watch_item *item;
	uint32_t n;
	int64_t at_ns;
};

/* Read all counters now; the same devices give the same order. Free with mc_watch_free(). */
void mc_watch_read(struct mc_sysroot *root, struct mc_watch *out);
void mc_watch_free(struct mc_watch *w);
/* The item of w that counts the same as i, probably at this index; NULL: there is none. */
const struct mc_watch_item *mc_watch_same(const struct mc_watch *w, const struct mc_watch_item *i, uint32_t index);
/* Counts since then; 0 for one that was reset meanwhile. */
uint64_t mc_watch_delta(const struct mc_watch_item *before, const struct mc_watch_item *now);

int mcinfo_watch(int argc, char **argv);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot.h - the contract of a rendezvous: who am I, how many are we, exchange one blob. Declarations only.
 * Called by one thread at a time, except event_fd's readiness, which any thread of the library behind it may cause.
 */
#ifndef MC_BOOT_H
#define MC_BOOT_H

#include "config.h"
#include "mc.h"

struct mc_boot;

struct mc_boot_cfg {
	const struct mc_config *config;
	struct mc_hub *hub; /* boot_local only */
	uint32_t rank;      /* boot_local only */
};

struct mc_boot_info {
	uint32_t rank, size;
	uint32_t local_rank, local_size; /* among the ranks of the job on this host; size 0: not told */
	char job[128]; /* unique name of the job */
	uint32_t again; /* 0: first start of this rank; else how many times it was started before, and nobody waits for
			   it */
	int event_fd;  /* readable when next_dead has something; -1: no such news */
};

struct mc_boot_ops {
	uint32_t abi, size; /* MC_BOOT_ABI, sizeof(struct mc_boot_ops) */
	const char *name;   /* "pmix" */
	/* MC_ERR_UNSUPPORTED: this process was not started for this rendezvous (not logged); else errors are logged. */
	mc_status_t (*open)(const struct mc_boot_cfg *cfg, struct mc_boot **boot_out, struct mc_boot_info *info_out);
	/*
	 * Publish blob (at most 64 KiB) and wait until every rank has: exactly one put, commit and collecting fence. A
	 * rank that was started again (info.again) publishes as far as that is still possible, and waits for nobody.
	 */
	mc_status_t (*exchange)(struct mc_boot *boot, const void *blob, uint32_t len, int64_t timeout_ns);
	/* What a rank published, MC_ERR_BOOT: nothing is known of it; started again: at its first or latest start.
	 * *blob_out is borrowed until the next get or close. */
	mc_status_t (*get)(struct mc_boot *boot, uint32_t rank, const void **blob_out, uint32_t *len_out);
	/*
	 * MC_OK: *rank_out died (told by the launcher), *start_out times it had been started before; MC_ERR_AGAIN: no
	 * news. Clears event_fd when empty.
	 */
	mc_status_t (*next_dead)(struct mc_boot *boot, uint32_t *rank_out, uint32_t *start_out);
	void (*close)(struct mc_boot *boot); /* ends within 5 s also when the launcher is gone */
};

enum { MC_BOOT_ABI = 1 };

extern const struct mc_boot_ops *const mc_builtin_boots[]; /* NULL-terminated, tried in order */

#endif

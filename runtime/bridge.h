/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge.h - the contract of a directory between jobs: publish this rank's record, hear of the records of other jobs'
 * ranks. Declarations only. Called by one thread at a time; never blocks (a bridge waits in a thread of its own), never
 * calls up into the engine. Whatever the directory holds may be hostile or stale: any bytes give an event or are left
 * out with a log line.
 */
#ifndef MC_BRIDGE_H
#define MC_BRIDGE_H

#include "config.h"
#include "mc.h"

enum { MC_BRIDGE_ABI = 1, MC_BRIDGE_KEY_LEN = 32, MC_BRIDGE_JOB_MAX = 128, MC_BRIDGE_RECORD_MAX = 65536 };

struct mc_bridge;

struct mc_bridge_cfg {
	const struct mc_config *config; /* outlives the bridge */
	char job[MC_BRIDGE_JOB_MAX];    /* name of the own job, as others find it */
	char role[MC_ROLE_MAX];
	uint32_t rank;
	uint64_t epoch;
};

enum mc_bridge_kind {
	/* key[]: the cluster's key, under which ranks of different jobs authenticate each other; again if it
	 * changes */
	MC_BRIDGE_KEY = 1,
	/* A rank of another job is there, or there again with another epoch, or has a new record; it may come twice the
	 * same. */
	MC_BRIDGE_UP,
	MC_BRIDGE_DOWN,   /* its record is gone (left, or its lease ran out) */
	MC_BRIDGE_SYNCED, /* status MC_OK: every UP of what is there now has been given; else: it is away (logged) */
};

struct mc_bridge_event { /* pointers are valid until the next call of next or close */
	enum mc_bridge_kind kind;
	mc_status_t status; /* SYNCED: MC_ERR_TIMEOUT no answer, MC_ERR_AUTH refused, MC_ERR_CONFIG */
	const char *job, *role;
	uint32_t rank;
	uint64_t epoch;
	const void *record; /* [record_len] as its owner published it: not yet authenticated */
	uint32_t record_len;
	const uint8_t *key; /* [MC_BRIDGE_KEY_LEN] */
	const char *text;   /* SYNCED with an error: what is wrong and what to do */
};

struct mc_bridge_ops {
	uint32_t abi, size; /* MC_BRIDGE_ABI, sizeof(struct mc_bridge_ops) */
	const char *name;   /* "etcd" */
	/*
	 * MC_ERR_UNSUPPORTED: not asked for by the settings (not logged). MC_ERR_CONFIG: a setting is bad (logged).
	 * A directory that is away is no error: it is tried again until close. event_fd_out is readable when next has
	 * news.
	 */
	mc_status_t (*open)(const struct mc_bridge_cfg *cfg, struct mc_bridge **bridge_out, int *event_fd_out);
	/* The own record, kept alive under a lease until close; again whenever it changes. info: JSON for people. */
	mc_status_t (*publish)(struct mc_bridge *bridge, const void *record, uint32_t len, const char *info);
	/* MC_OK: *ev is filled; MC_ERR_AGAIN: no news, event_fd is clear. */
	mc_status_t (*next)(struct mc_bridge *bridge, struct mc_bridge_event *ev);
	/* Takes the record away where the directory answers; ends within a second. */
	void (*close)(struct mc_bridge *bridge);
};

extern const struct mc_bridge_ops *const mc_builtin_bridges[]; /* NULL-terminated, tried in order */

#endif

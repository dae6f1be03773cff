/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge_etcd_table.h - the peers that the directory has, and what the engine has not heard yet. News of one peer is
 * not queued but merged: the engine hears what is there when it asks, so its slowness costs no memory. The caller
 * locks.
 */
#ifndef MC_BRIDGE_ETCD_TABLE_H
#define MC_BRIDGE_ETCD_TABLE_H

#include "bridge_etcd_msg.h"
#include "log.h"
#include "util.h"

enum { MC_ETCD_PEERS_MAX = 65536, MC_ETCD_BUCKETS = 1024 };
#define MC_ETCD_PENDING_MAX (UINT64_C(256) << 20) /* bytes of records that the engine has not taken yet */

struct mc_etcd_peer {
	struct mc_etcd_peer *next; /* of the bucket */
	struct mc_list dirty;      /* the engine has to hear of it */
	uint64_t mod_rev;          /* revision of the directory at which it became so */
	uint64_t epoch, told_epoch;
	uint32_t rank, listed; /* listed: number of the listing that had it last */
	bool told, gone;       /* told: the engine takes it for there */
	char role[MC_ROLE_MAX];
	void *record; /* NULL: the engine has it, or it is gone */
	uint32_t record_len;
	char job[];
};

struct mc_etcd_table {
	struct mc_etcd_peer *bucket[MC_ETCD_BUCKETS];
	uint32_t n, listing;
	uint64_t pending; /* bytes */
	struct mc_list dirty;
	bool incomplete; /* something did not fit: list again later */
	bool hold;       /* who goes is parked, not told */
	struct mc_list parked;
	struct mc_ratelimit skips;
	void *held; /* what the last event points to */
	struct mc_etcd_peer *held_peer;
	char held_role[MC_ROLE_MAX];
};

void mc_etcd_table_init(struct mc_etcd_table *t);
void mc_etcd_table_free(struct mc_etcd_table *t);

/* A key of the directory as of kv->mod_rev; older news than known is ignored. What is no record of a peer is logged. */
void mc_etcd_table_apply(struct mc_etcd_table *t, const char *prefix, const char *own_job, const struct mc_etcd_kv *kv);
/* A full listing as of a revision: who was not in it since begin is gone. */
void mc_etcd_table_list_begin(struct mc_etcd_table *t);
void mc_etcd_table_list_end(struct mc_etcd_table *t, uint64_t revision);
/* The directory's data was lost: revisions count anew. */
void mc_etcd_table_rewind(struct mc_etcd_table *t);

/*
 * After the directory was away, leases may have run out of those who are well and come back at once: while hold is on,
 * no DOWN is told. Release tells those that are still due.
 */
void mc_etcd_table_hold(struct mc_etcd_table *t);
void mc_etcd_table_release(struct mc_etcd_table *t);

/* The next UP or DOWN; what it points to lives until the next call. false: none. */
bool mc_etcd_table_next(struct mc_etcd_table *t, struct mc_bridge_event *ev);

#endif

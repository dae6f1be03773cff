/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bridge_etcd_msg.h - what goes to etcd and comes from it, as bytes: keys, values, requests and replies of the v3 JSON
 * gateway. Pure: no I/O, no state. Everything that is parsed here may be hostile. Format: docs/WIRE.md.
 */
#ifndef MC_BRIDGE_ETCD_MSG_H
#define MC_BRIDGE_ETCD_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge.h"

enum {
	MC_ETCD_PREFIX_MAX = 128,       /* bytes of MC_ETCD_PREFIX with its NUL */
	MC_ETCD_KEY_MAX = 640,          /* prefix, "/peers/", a job name of which every byte is escaped, "/", rank */
	MC_ETCD_INFO_MAX = 16384,       /* bytes of the part for people */
	MC_ETCD_VALUE_MAX = 128 * 1024, /* bytes of a peer's value: record in base64, info, the rest */
	MC_ETCD_REPLY_MAX = 8 << 20,    /* bytes of a reply or of a line of the watch */
	MC_ETCD_TOKEN_MAX = 4096,
	MC_ETCD_ID_LEN = 16, /* hex digits that name one life of the directory's data */
};

/* base64, standard alphabet with padding. Decoding is strict; false: not that, or more than room. */
size_t mc_b64_len(size_t len);                               /* characters without NUL */
void mc_b64_encode(const void *data, size_t len, char *out); /* mc_b64_len() + 1 bytes */
bool mc_b64_decode(const char *text, size_t len, uint8_t *out, size_t room, size_t *len_out);

/* ---- keys ---- */

/* PREFIX/peers/JOB/RANK; in JOB every byte but A-Z a-z 0-9 . _ - is written as %XX. */
void mc_etcd_peer_key(char out[MC_ETCD_KEY_MAX], const char *prefix, const char *job, uint32_t rank);
/* The other way round; false: not such a key, or written in another way than above. */
bool mc_etcd_peer_key_parse(const char *key, size_t len, const char *prefix, char job_out[MC_BRIDGE_JOB_MAX],
			    uint32_t *rank_out);

/* ---- values ---- */

struct mc_etcd_value {
	char role[MC_ROLE_MAX];
	uint64_t epoch;
	void *record; /* [record_len], the receiver frees it */
	uint32_t record_len;
};
/* Text to be freed; NULL: no memory. info: JSON, left out (with a log line) if it is not, or too long. */
char *mc_etcd_value_make(const char *role, uint64_t epoch, const void *record, uint32_t len, const char *info);
/* NULL: fine; else what is wrong with it. */
const char *mc_etcd_value_parse(const void *text, size_t len, struct mc_etcd_value *out);

struct mc_etcd_secret { /* value of PREFIX/key */
	uint8_t key[MC_BRIDGE_KEY_LEN];
	char id[MC_ETCD_ID_LEN + 1]; /* drawn whenever the key is written: tells lost and rebuilt data from the old */
};
void mc_etcd_secret_make(const struct mc_etcd_secret *s, char out[256]);
bool mc_etcd_secret_parse(const void *text, size_t len, struct mc_etcd_secret *out);

/* ---- requests: text to be freed; NULL: no memory ---- */

struct mc_etcd_query {
	const char *key; /* [key_len] */
	size_t key_len;
	const char *end;   /* NULL: that one key */
	uint64_t revision; /* as of then; 0: now */
	uint64_t min_mod;  /* only what was changed since; 0: all */
	uint32_t limit;
	bool keys_only;
};
char *mc_etcd_req_range(const struct mc_etcd_query *q);
char *mc_etcd_req_put(const char *key, const char *value, uint64_t lease);
char *mc_etcd_req_create(const char *key, const char *value); /* a transaction: put if there is none, else read it */
char *mc_etcd_req_watch(const char *key, const char *end, uint64_t from);
char *mc_etcd_req_lease(uint64_t id, uint64_t ttl_s); /* grant (id 0: etcd chooses), keepalive, revoke */
char *mc_etcd_req_login(const char *user, const char *password);

/* ---- replies ---- */

struct mc_etcd_kv { /* lives as long as the call that it is handed to */
	const char *key;
	size_t key_len;
	uint64_t mod_rev;
	bool deleted;
	const uint8_t *value; /* NULL: longer than MC_ETCD_VALUE_MAX, or no base64 */
	size_t value_len;
};
typedef void (*mc_etcd_on_kv)(void *arg, const struct mc_etcd_kv *kv);

struct mc_etcd_reply {
	uint64_t cluster, revision;                 /* of the header */
	bool more, succeeded;                       /* range; transaction */
	uint64_t count;                             /* range */
	uint64_t lease, ttl_s;                      /* lease; ttl_s 0: it has run out */
	char token[MC_ETCD_TOKEN_MAX];              /* login */
	bool created, canceled, fragment, progress; /* watch; progress: no events, all up to revision was delivered */
	uint64_t compacted; /* watch: what was asked for is gone, this is the oldest revision left */
	uint64_t seen;      /* watch: latest revision among the events */
	int code;           /* not 0: an error, as gRPC numbers it */
	char error[200];
};
/* false: not a reply of etcd, and *out is zero. on_kv is called for each key and value of a range, create or watch. */
bool mc_etcd_reply_parse(const char *text, size_t len, struct mc_etcd_reply *out, mc_etcd_on_kv on_kv, void *arg);

#endif

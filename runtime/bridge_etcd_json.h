/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd_json.h - careful reading of JSON that others wrote; between bridge_etcd_msg.c and bridge_etcd_reply.c. */
#ifndef MC_BRIDGE_ETCD_JSON_H
#define MC_BRIDGE_ETCD_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An object and nothing behind it, nested at most 16 deep; NULL: not that. */
struct json_object *mc_json_parse(const char *text, size_t len);
/* A string member without NUL in it; NULL: none. o may be NULL. */
const char *mc_json_str(struct json_object *o, const char *name, size_t *len_out);
/* A number of 64 bits, which the gateway writes as a string; 0: none, or not one. o may be NULL. */
uint64_t mc_json_u64(struct json_object *o, const char *name);
bool mc_json_true(struct json_object *o, const char *name);
/* An object or array member; NULL: none. o may be NULL. */
struct json_object *mc_json_sub(struct json_object *o, const char *name, enum json_type type);
/* Takes value, also when it fails (no memory; value NULL). */
bool mc_json_add(struct json_object *o, const char *name, struct json_object *value);

#endif

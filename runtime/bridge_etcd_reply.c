/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd_reply.c - replies of etcd's JSON gateway, and lines of its watch. A field that is zero is left out there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge_etcd_json.h"
#include "bridge_etcd_msg.h"

enum { DEPTH_MAX = 16 };

/* ---- JSON ---- */

struct json_object *mc_json_parse(const char *text, size_t len)
{
	struct json_tokener *t = len > 0 && len <= INT32_MAX ? json_tokener_new_ex(DEPTH_MAX) : NULL;
	struct json_object *o;

	if (t == NULL)
		return NULL;
	o = json_tokener_parse_ex(t, text, (int)len);
	for (size_t at = json_tokener_get_parse_end(t); o != NULL && at < len; at++)
		if (text[at] != ' ' && text[at] != '\t' && text[at] != '\r' && text[at] != '\n') {
			json_object_put(o);
			o = NULL;
		}
	json_tokener_free(t);
	if (o != NULL && !json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

const char *mc_json_str(struct json_object *o, const char *name, size_t *len_out)
{
	struct json_object *m;
	const char *s;

	*len_out = 0;
	if (o == NULL || !json_object_object_get_ex(o, name, &m) || !json_object_is_type(m, json_type_string))
		return NULL;
	s = json_object_get_string(m);
	*len_out = (size_t)json_object_get_string_len(m);
	return strlen(s) == *len_out ? s : NULL;
}

uint64_t mc_json_u64(struct json_object *o, const char *name)
{
	struct json_object *m;
	uint64_t v = 0;

	if (o == NULL || !json_object_object_get_ex(o, name, &m))
		return 0;
	if (json_object_is_type(m, json_type_int))
		return json_object_get_uint64(m);
	if (!json_object_is_type(m, json_type_string))
		return 0;
	for (const char *p = json_object_get_string(m); *p != '\0'; p++)
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return 0;
	return v;
}

bool mc_json_true(struct json_object *o, const char *name)
{
	struct json_object *m;

	return o != NULL && json_object_object_get_ex(o, name, &m) && json_object_is_type(m, json_type_boolean) &&
	       json_object_get_boolean(m);
}

struct json_object *mc_json_sub(struct json_object *o, const char *name, enum json_type type)
{
	struct json_object *m;

	if (o == NULL || !json_object_object_get_ex(o, name, &m) || !json_object_is_type(m, type))
		return NULL;
	return m;
}

bool mc_json_add(struct json_object *o, const char *name, struct json_object *value)
{
	if (value != NULL && json_object_object_add(o, name, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

/* ---- keys and values ---- */

struct sink {
	mc_etcd_on_kv on_kv;
	void *arg;
	uint8_t *value; /* [MC_ETCD_VALUE_MAX] */
};

static void give_kv(const struct sink *sink, struct json_object *o, bool deleted)
{
	struct mc_etcd_kv kv = {.deleted = deleted, .mod_rev = mc_json_u64(o, "mod_revision")};
	size_t key_n, value_n;
	const char *k = mc_json_str(o, "key", &key_n), *v = mc_json_str(o, "value", &value_n);
	uint8_t *key = malloc(key_n + 1);

	if (key == NULL || k == NULL || kv.mod_rev == 0 || !mc_b64_decode(k, key_n, key, key_n, &kv.key_len))
		goto done; /* etcd gives none such */
	kv.key = (const char *)key;
	if (v == NULL)
		kv.value = sink->value;
	else if (mc_b64_decode(v, value_n, sink->value, MC_ETCD_VALUE_MAX, &kv.value_len))
		kv.value = sink->value;
	else
		kv.value_len = 0;
	sink->on_kv(sink->arg, &kv);
done:
	free(key);
}

static void give_kvs(const struct sink *sink, struct json_object *o)
{
	struct json_object *kvs = mc_json_sub(o, "kvs", json_type_array);
	const size_t n = kvs == NULL ? 0 : json_object_array_length(kvs);

	for (size_t i = 0; i < n; i++)
		give_kv(sink, json_object_array_get_idx(kvs, i), false);
}

static void give_responses(const struct sink *sink, struct json_object *o)
{
	struct json_object *r = mc_json_sub(o, "responses", json_type_array);
	const size_t n = r == NULL ? 0 : json_object_array_length(r);

	for (size_t i = 0; i < n; i++)
		give_kvs(sink, mc_json_sub(json_object_array_get_idx(r, i), "response_range", json_type_object));
}

static void give_events(const struct sink *sink, struct json_object *events, uint64_t *seen)
{
	const size_t n = events == NULL ? 0 : json_object_array_length(events);

	for (size_t i = 0; i < n; i++) {
		struct json_object *e = json_object_array_get_idx(events, i);
		struct json_object *kv = mc_json_sub(e, "kv", json_type_object);
		const uint64_t rev = mc_json_u64(kv, "mod_revision");
		size_t len;
		const char *type = mc_json_str(e, "type", &len);

		if (rev > *seen)
			*seen = rev;
		if (kv != NULL && sink->on_kv != NULL)
			give_kv(sink, kv, type != NULL && strcmp(type, "DELETE") == 0);
	}
}

/* ---- replies ---- */

static void take_text(char *out, size_t room, const char *text)
{
	snprintf(out, room, "%s", text != NULL ? text : "");
}

/* {"error":"...","message":"...","code":7}, or in a stream {"error":{"grpc_code":14,"message":"..."}} */
static bool take_error(struct json_object *o, struct mc_etcd_reply *out)
{
	struct json_object *in = mc_json_sub(o, "error", json_type_object);
	size_t len;
	const char *text = mc_json_str(o, "error", &len);
	uint64_t code;

	if (in == NULL && text == NULL)
		return false;
	code = in != NULL ? mc_json_u64(in, "grpc_code") : mc_json_u64(o, "code");
	if (in != NULL)
		text = mc_json_str(in, "message", &len);
	out->code = code > 0 && code < 17 ? (int)code : 2; /* 2: unknown */
	take_text(out->error, sizeof(out->error), text);
	return true;
}

static void take_watch(const struct sink *sink, struct json_object *o, struct mc_etcd_reply *out)
{
	struct json_object *events = mc_json_sub(o, "events", json_type_array);
	size_t len;

	out->created = mc_json_true(o, "created");
	out->canceled = mc_json_true(o, "canceled");
	out->fragment = mc_json_true(o, "fragment");
	out->compacted = mc_json_u64(o, "compact_revision");
	if (out->canceled)
		take_text(out->error, sizeof(out->error), mc_json_str(o, "cancel_reason", &len));
	give_events(sink, events, &out->seen);
	out->progress = !out->created && !out->canceled && events == NULL;
}

bool mc_etcd_reply_parse(const char *text, size_t len, struct mc_etcd_reply *out, mc_etcd_on_kv on_kv, void *arg)
{
	struct json_object *root, *o, *head;
	struct sink sink = {.on_kv = on_kv, .arg = arg};
	size_t n;

	*out = (struct mc_etcd_reply){.code = 0};
	root = mc_json_parse(text, len);
	if (root == NULL)
		return false;
	if (take_error(root, out))
		goto done;
	o = mc_json_sub(root, "result", json_type_object);
	if (o == NULL)
		o = root;
	head = mc_json_sub(o, "header", json_type_object);
	if (head == NULL) {
		json_object_put(root);
		return false;
	}
	out->cluster = mc_json_u64(head, "cluster_id");
	out->revision = mc_json_u64(head, "revision");
	out->more = mc_json_true(o, "more");
	out->succeeded = mc_json_true(o, "succeeded");
	out->count = mc_json_u64(o, "count");
	out->lease = mc_json_u64(o, "ID");
	out->ttl_s = mc_json_u64(o, "TTL");
	take_text(out->token, sizeof(out->token), mc_json_str(o, "token", &n));
	if (on_kv != NULL)
		sink.value = malloc(MC_ETCD_VALUE_MAX);
	if (on_kv != NULL && sink.value == NULL) {
		out->code = 8;
		take_text(out->error, sizeof(out->error), "no memory on this side");
		goto done;
	}
	if (on_kv != NULL) {
		give_kvs(&sink, o);
		give_responses(&sink, o);
	}
	take_watch(&sink, o, out);
	free(sink.value);
done:
	json_object_put(root);
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd_msg.c - base64, keys and values of the etcd bridge, and the requests of etcd's JSON gateway. */
#include "bridge_etcd_msg.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge_etcd_json.h"
#include "log.h"
#include "util.h"

enum { VALUE_VERSION = 1, JOB_HEX = 3 };

/* ---- base64 ---- */

static const char b64_digit[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t mc_b64_len(size_t len)
{
	return (len + 2) / 3 * 4;
}

void mc_b64_encode(const void *data, size_t len, char *out)
{
	const uint8_t *p = data;

	for (; len > 0; out += 4) {
		const size_t n = len < 3 ? len : 3;
		const uint32_t v = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) | (n > 2 ? p[2] : 0u);

		out[0] = b64_digit[v >> 18];
		out[1] = b64_digit[v >> 12 & 63];
		out[2] = n > 1 ? b64_digit[v >> 6 & 63] : '=';
		out[3] = n > 2 ? b64_digit[v & 63] : '=';
		p += n;
		len -= n;
	}
	*out = '\0';
}

static int b64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* n of the four characters count, the rest is padding; the bits that fill up must be zero: one text per value. */
static bool b64_group(const char *text, size_t n, uint8_t *out)
{
	uint32_t v = 0;

	for (size_t i = 0; i < 4; i++) {
		const int d = i < n ? b64_value(text[i]) : text[i] == '=' ? 0 : -1;

		if (d < 0)
			return false;
		v = v << 6 | (uint32_t)d;
	}
	for (size_t i = 0; i < n - 1; i++)
		out[i] = (uint8_t)(v >> (16 - 8 * i));
	return (v & (n == 4 ? 0 : n == 3 ? 0xffu : 0xffffu)) == 0;
}

bool mc_b64_decode(const char *text, size_t len, uint8_t *out, size_t room, size_t *len_out)
{
	size_t used = 0;

	if (len % 4 != 0)
		return false;
	for (size_t at = 0; at < len; at += 4) {
		const bool last = at + 4 == len;
		const size_t n = last && text[at + 2] == '=' ? 2 : last && text[at + 3] == '=' ? 3 : 4;

		if (room - used < n - 1 || !b64_group(text + at, n, out + used))
			return false;
		used += n - 1;
	}
	*len_out = used;
	return true;
}

/* ---- keys ---- */

static bool plain(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
	       c == '-';
}

void mc_etcd_peer_key(char out[MC_ETCD_KEY_MAX], const char *prefix, const char *job, uint32_t rank)
{
	char escaped[JOB_HEX * MC_BRIDGE_JOB_MAX] = "";
	size_t used = 0;

	for (; *job != '\0' && used + JOB_HEX < sizeof(escaped); job++)
		if (plain(*job))
			escaped[used++] = *job;
		else
			used += (size_t)snprintf(escaped + used, sizeof(escaped) - used, "%%%02X", (unsigned char)*job);
	escaped[used] = '\0';
	snprintf(out, MC_ETCD_KEY_MAX, "%s/peers/%s/%" PRIu32, prefix, escaped, rank);
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool mc_etcd_peer_key_parse(const char *key, size_t len, const char *prefix, char job_out[MC_BRIDGE_JOB_MAX],
			    uint32_t *rank_out)
{
	char again[MC_ETCD_KEY_MAX];
	const size_t head = strlen(prefix) + strlen("/peers/");
	const char *end = key + len, *p = key + head;
	size_t used = 0;
	uint64_t rank = 0;

	if (len <= head || len >= MC_ETCD_KEY_MAX)
		return false;
	for (; p < end && *p != '/'; p++) {
		int c = (unsigned char)*p;

		if (c == '%') {
			if (end - p < JOB_HEX || hex_value(p[1]) < 0 || hex_value(p[2]) < 0)
				return false;
			c = hex_value(p[1]) << 4 | hex_value(p[2]);
			p += 2;
		}
		if (c == '\0' || used == MC_BRIDGE_JOB_MAX - 1)
			return false;
		job_out[used++] = (char)c;
	}
	job_out[used] = '\0';
	if (used == 0 || end - p < 2 || end - p > 11)
		return false;
	for (p++; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
		rank = rank * 10 + (uint64_t)(*p - '0');
	}
	if (rank >= UINT32_MAX)
		return false;
	*rank_out = (uint32_t)rank;
	mc_etcd_peer_key(again, prefix, job_out, *rank_out);
	return strlen(again) == len && memcmp(again, key, len) == 0;
}

/* ---- values ---- */

static struct json_object *info_of(const char *info)
{
	struct json_object *o;

	if (info == NULL || info[0] == '\0')
		return NULL;
	o = strlen(info) <= MC_ETCD_INFO_MAX ? mc_json_parse(info, strlen(info)) : NULL;
	if (o == NULL)
		mc_warn("etcd: the information for people (%zu bytes) is no JSON object of at most %d bytes: left out",
			strlen(info), MC_ETCD_INFO_MAX);
	return o;
}

char *mc_etcd_value_make(const char *role, uint64_t epoch, const void *record, uint32_t len, const char *info)
{
	struct json_object *o = json_object_new_object(), *about;
	char *b64 = malloc(mc_b64_len(len) + 1), *text = NULL, hex[17];

	if (o == NULL || b64 == NULL)
		goto done;
	mc_b64_encode(record, len, b64);
	snprintf(hex, sizeof(hex), "%016" PRIx64, epoch);
	if (!mc_json_add(o, "v", json_object_new_int(VALUE_VERSION)) ||
	    !mc_json_add(o, "role", json_object_new_string(role)) ||
	    !mc_json_add(o, "epoch", json_object_new_string(hex)) ||
	    !mc_json_add(o, "record", json_object_new_string(b64)))
		goto done;
	about = info_of(info);
	if (about != NULL && !mc_json_add(o, "info", about))
		goto done;
	const char *s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (s != NULL)
		text = strdup(s);
done:
	free(b64);
	json_object_put(o);
	return text;
}

static bool role_ok(const char *role, size_t len)
{
	if (role == NULL || len == 0 || len >= MC_ROLE_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)role[i] < 0x20 || role[i] == 0x7f)
			return false;
	return true;
}

static bool epoch_parse(const char *text, size_t len, uint64_t *out)
{
	uint64_t v = 0;

	if (text == NULL || len != 16)
		return false;
	for (size_t i = 0; i < len; i++) {
		const char c = text[i];
		const int d = c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= '0' && c <= '9' ? c - '0' : -1;

		if (d < 0)
			return false;
		v = v << 4 | (uint64_t)d;
	}
	*out = v;
	return v != 0;
}

static const char *value_fields(struct json_object *o, struct mc_etcd_value *out)
{
	struct json_object *version;
	size_t role_n, epoch_n, b64_n, n;
	const char *role = mc_json_str(o, "role", &role_n), *epoch = mc_json_str(o, "epoch", &epoch_n);
	const char *b64 = mc_json_str(o, "record", &b64_n);

	if (!json_object_object_get_ex(o, "v", &version) || !json_object_is_type(version, json_type_int) ||
	    json_object_get_int(version) != VALUE_VERSION)
		return "another version";
	if (!role_ok(role, role_n))
		return "bad role";
	if (!epoch_parse(epoch, epoch_n, &out->epoch))
		return "bad epoch";
	if (b64 == NULL || b64_n == 0 || b64_n > mc_b64_len(MC_BRIDGE_RECORD_MAX))
		return "record missing or too long";
	out->record = malloc(b64_n / 4 * 3 + 3);
	if (out->record == NULL)
		return "no memory for it";
	if (!mc_b64_decode(b64, b64_n, out->record, MC_BRIDGE_RECORD_MAX, &n)) {
		free(out->record);
		out->record = NULL;
		return "record is not base64";
	}
	out->record_len = (uint32_t)n;
	memcpy(out->role, role, role_n);
	out->role[role_n] = '\0';
	return NULL;
}

const char *mc_etcd_value_parse(const void *text, size_t len, struct mc_etcd_value *out)
{
	struct json_object *o;
	const char *why;

	*out = (struct mc_etcd_value){.epoch = 0};
	if (len > MC_ETCD_VALUE_MAX)
		return "too long";
	o = mc_json_parse(text, len);
	if (o == NULL)
		return "not a JSON object";
	why = value_fields(o, out);
	json_object_put(o);
	return why;
}

void mc_etcd_secret_make(const struct mc_etcd_secret *s, char out[256])
{
	char hex[2 * MC_BRIDGE_KEY_LEN + 1];

	for (size_t i = 0; i < MC_BRIDGE_KEY_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", s->key[i]);
	snprintf(out, 256, "{\"v\":%d,\"id\":\"%s\",\"key\":\"%s\"}", VALUE_VERSION, s->id, hex);
	explicit_bzero(hex, sizeof(hex));
}

bool mc_etcd_secret_parse(const void *text, size_t len, struct mc_etcd_secret *out)
{
	struct json_object *o = len <= 1024 ? mc_json_parse(text, len) : NULL;
	size_t id_n, key_n;
	const char *id = mc_json_str(o, "id", &id_n), *key = mc_json_str(o, "key", &key_n);
	bool ok = id != NULL && id_n == MC_ETCD_ID_LEN && strspn(id, "0123456789abcdef") == id_n && key != NULL &&
		  key_n == 2 * MC_BRIDGE_KEY_LEN && strspn(key, "0123456789abcdef") == key_n;

	*out = (struct mc_etcd_secret){.id = ""};
	if (ok) {
		memcpy(out->id, id, id_n + 1);
		for (size_t i = 0; i < MC_BRIDGE_KEY_LEN; i++) {
			const char pair[3] = {key[2 * i], key[2 * i + 1], '\0'};

			out->key[i] = (uint8_t)strtoul(pair, NULL, 16);
		}
	}
	json_object_put(o);
	return ok;
}

/* ---- requests ---- */

static char *b64_new_n(const char *data, size_t len)
{
	char *out = malloc(mc_b64_len(len) + 1);

	if (out != NULL)
		mc_b64_encode(data, len, out);
	return out;
}

static char *b64_new(const char *text)
{
	return b64_new_n(text, text == NULL ? 0 : strlen(text));
}

static char *printed(int n, char *text)
{
	return n < 0 ? NULL : text;
}

char *mc_etcd_req_range(const struct mc_etcd_query *q)
{
	char *key = b64_new_n(q->key, q->key_len), *end = b64_new(q->end), *text = NULL;
	int n = -1;

	if (key != NULL && end != NULL)
		n = asprintf(&text,
			     "{\"key\":\"%s\"%s%s%s,\"limit\":\"%" PRIu32 "\",\"revision\":\"%" PRIu64
			     "\",\"min_mod_revision\":\"%" PRIu64 "\",\"keys_only\":%s}",
			     key, q->end != NULL ? ",\"range_end\":\"" : "", end, q->end != NULL ? "\"" : "", q->limit,
			     q->revision, q->min_mod, q->keys_only ? "true" : "false");
	free(key);
	free(end);
	return printed(n, text);
}

char *mc_etcd_req_put(const char *key, const char *value, uint64_t lease)
{
	char *k = b64_new(key), *v = b64_new(value), *text = NULL;
	int n = -1;

	if (k != NULL && v != NULL)
		n = asprintf(&text, "{\"key\":\"%s\",\"value\":\"%s\",\"lease\":\"%" PRIu64 "\"}", k, v, lease);
	free(k);
	free(v);
	return printed(n, text);
}

char *mc_etcd_req_create(const char *key, const char *value)
{
	char *k = b64_new(key), *v = b64_new(value), *text = NULL;
	int n = -1;

	if (k != NULL && v != NULL)
		n = asprintf(&text,
			     "{\"compare\":[{\"target\":\"CREATE\",\"key\":\"%s\",\"create_revision\":\"0\"}],"
			     "\"success\":[{\"request_put\":{\"key\":\"%s\",\"value\":\"%s\"}}],"
			     "\"failure\":[{\"request_range\":{\"key\":\"%s\"}}]}",
			     k, k, v, k);
	free(k);
	if (v != NULL)
		explicit_bzero(v, strlen(v));
	free(v);
	return printed(n, text);
}

char *mc_etcd_req_watch(const char *key, const char *end, uint64_t from)
{
	char *k = b64_new(key), *e = b64_new(end), *text = NULL;
	int n = -1;

	if (k != NULL && e != NULL)
		n = asprintf(&text,
			     "{\"create_request\":{\"key\":\"%s\",\"range_end\":\"%s\",\"start_revision\":\"%" PRIu64
			     "\",\"progress_notify\":true,\"fragment\":true}}",
			     k, e, from);
	free(k);
	free(e);
	return printed(n, text);
}

char *mc_etcd_req_lease(uint64_t id, uint64_t ttl_s)
{
	char *text = NULL;
	const int n = asprintf(&text, "{\"ID\":\"%" PRIu64 "\",\"TTL\":\"%" PRIu64 "\"}", id, ttl_s);

	return printed(n, text);
}

char *mc_etcd_req_login(const char *user, const char *password)
{
	struct json_object *o = json_object_new_object();
	char *text = NULL;

	if (o != NULL && mc_json_add(o, "name", json_object_new_string(user)) &&
	    mc_json_add(o, "password", json_object_new_string(password))) {
		const char *s = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

		if (s != NULL)
			text = strdup(s);
	}
	json_object_put(o);
	return text;
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Hash of the file -> its number here. Open addressing, at most half full. */
struct intern {
	uint64_t *key;
	uint32_t *value; /* number + 1; 0: free slot */
	uint64_t mask;
	uint32_t n;
};

struct parser {
	struct perf_trace *t;
	struct perf_err *err;
	const char *name;
	uint64_t line;
	uint32_t req_room;
	uint64_t id_room;
	struct intern ids;
	uint32_t *seen; /* [seen_room] row + 1 in which a hash was last seen */
	uint32_t seen_room;
	struct json_tokener *tok;
};

#define PARSE_ERR(p, fmt, ...)                                                                                         \
	perf_err_set((p)->err, "%s:%llu: " fmt, (p)->name, (unsigned long long)(p)->line, ##__VA_ARGS__)

static uint64_t slot_of(const struct intern *in, uint64_t key)
{
	uint64_t h = (key ^ (key >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
	uint64_t i = (h ^ (h >> 29)) & in->mask;

	while (in->value[i] != 0 && in->key[i] != key)
		i = (i + 1) & in->mask;
	return i;
}

static bool intern_grow(struct intern *in)
{
	struct intern big = {.mask = in->key == NULL ? 1023 : in->mask * 2 + 1, .n = in->n};

	big.key = calloc(big.mask + 1, sizeof(*big.key));
	big.value = calloc(big.mask + 1, sizeof(*big.value));
	if (big.key == NULL || big.value == NULL) {
		free(big.key);
		free(big.value);
		return false;
	}
	for (uint64_t i = 0; in->key != NULL && i <= in->mask; i++) {
		uint64_t at;
		if (in->value[i] == 0)
			continue;
		at = slot_of(&big, in->key[i]);
		big.key[at] = in->key[i];
		big.value[at] = in->value[i];
	}
	free(in->key);
	free(in->value);
	*in = big;
	return true;
}

static bool intern_get(struct intern *in, uint64_t key, uint32_t *out)
{
	uint64_t i;

	if ((in->key == NULL || (uint64_t)in->n * 2 > in->mask) && !intern_grow(in))
		return false;
	i = slot_of(in, key);
	if (in->value[i] == 0) {
		in->key[i] = key;
		in->value[i] = ++in->n;
	}
	*out = in->value[i] - 1;
	return true;
}

static bool no_memory(struct parser *p)
{
	PARSE_ERR(p, "out of memory");
	return false;
}

/* Member `key` as an integer in [min, max]. */
static bool get_int(struct parser *p, struct json_object *row, const char *key, int64_t min, int64_t max, int64_t *out)
{
	struct json_object *v;
	int64_t i;

	if (!json_object_object_get_ex(row, key, &v)) {
		PARSE_ERR(p, "\"%s\" is missing", key);
		return false;
	}
	if (!json_object_is_type(v, json_type_int)) {
		PARSE_ERR(p, "\"%s\" is not an integer", key);
		return false;
	}
	i = json_object_get_int64(v);
	if (i < min || i > max) {
		PARSE_ERR(p, "\"%s\" is %lld, outside %lld..%lld", key, (long long)i, (long long)min, (long long)max);
		return false;
	}
	*out = i;
	return true;
}

/* The timestamp in ms, whole or with a fraction, not before the row above. */
static bool get_time(struct parser *p, struct json_object *row, uint64_t *out_us)
{
	const double max_ms = 1e12;
	struct json_object *v;
	const struct perf_trace *t = p->t;
	double ms;

	if (!json_object_object_get_ex(row, "timestamp", &v)) {
		PARSE_ERR(p, "\"timestamp\" is missing");
		return false;
	}
	if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double)) {
		PARSE_ERR(p, "\"timestamp\" is not a number");
		return false;
	}
	ms = json_object_get_double(v);
	if (!isfinite(ms) || ms < 0 || ms > max_ms) {
		PARSE_ERR(p, "\"timestamp\" is %g, outside 0..%g", ms, max_ms);
		return false;
	}
	*out_us = (uint64_t)(ms * 1000.0);
	if (t->n > 0 && *out_us < t->req[t->n - 1].time_us) {
		PARSE_ERR(p, "\"timestamp\" %.3f is earlier than the one of the request before, %.3f", ms,
			  (double)t->req[t->n - 1].time_us / 1000.0);
		return false;
	}
	return true;
}

static bool add_hash(struct parser *p, struct json_object *v, uint64_t at)
{
	struct perf_trace *t = p->t;
	uint32_t id;
	int64_t key;

	if (v == NULL || !json_object_is_type(v, json_type_int)) {
		PARSE_ERR(p, "\"hash_ids\"[%llu] is not an integer", (unsigned long long)at);
		return false;
	}
	key = json_object_get_int64(v);
	if (key < 0 || key == INT64_MAX) { /* json-c gives the maximum for whatever is larger */
		PARSE_ERR(p, "\"hash_ids\"[%llu] is outside 0..2^63-2", (unsigned long long)at);
		return false;
	}
	if (!intern_get(&p->ids, (uint64_t)key, &id))
		return no_memory(p);
	if (id >= p->seen_room) {
		uint32_t room = p->seen_room == 0 ? 1024 : p->seen_room * 2;
		uint32_t *seen = reallocarray(p->seen, room, sizeof(*seen));
		if (seen == NULL)
			return no_memory(p);
		memset(seen + p->seen_room, 0, (size_t)(room - p->seen_room) * sizeof(*seen));
		p->seen = seen;
		p->seen_room = room;
	}
	if (p->seen[id] == t->n + 1) {
		PARSE_ERR(p, "\"hash_ids\"[%llu] repeats %lld of the same request", (unsigned long long)at,
			  (long long)key);
		return false;
	}
	p->seen[id] = t->n + 1;
	t->id[t->id_n++] = id;
	return true;
}

static bool get_hashes(struct parser *p, struct json_object *row, const struct perf_trace_req *r)
{
	struct perf_trace *t = p->t;
	struct json_object *list;
	uint64_t n;

	if (!json_object_object_get_ex(row, "hash_ids", &list)) {
		PARSE_ERR(p, "\"hash_ids\" is missing");
		return false;
	}
	if (!json_object_is_type(list, json_type_array)) {
		PARSE_ERR(p, "\"hash_ids\" is not an array");
		return false;
	}
	n = json_object_array_length(list);
	if (n != perf_trace_id_count(r)) {
		PARSE_ERR(p, "%llu \"hash_ids\", but \"input_length\" %u needs %u (one per %d tokens)",
			  (unsigned long long)n, r->input, perf_trace_id_count(r), (int)PERF_TRACE_BLOCK);
		return false;
	}
	if (t->id_n + n > p->id_room) {
		uint64_t room = (t->id_n + n) * 2;
		uint32_t *id = reallocarray(t->id, room, sizeof(*id));
		if (id == NULL)
			return no_memory(p);
		t->id = id;
		p->id_room = room;
	}
	for (uint64_t i = 0; i < n; i++) {
		if (!add_hash(p, json_object_array_get_idx(list, i), i))
			return false;
	}
	return true;
}

static bool add_row(struct parser *p, struct json_object *row)
{
	struct perf_trace *t = p->t;
	struct perf_trace_req r = {.id_off = t->id_n};
	int64_t input, output;

	if (!json_object_is_type(row, json_type_object)) {
		PARSE_ERR(p, "not a JSON object");
		return false;
	}
	if (!get_time(p, row, &r.time_us) || !get_int(p, row, "input_length", 1, PERF_TRACE_TOKENS, &input) ||
	    !get_int(p, row, "output_length", 0, PERF_TRACE_TOKENS, &output))
		return false;
	r.input = (uint32_t)input;
	r.output = (uint32_t)output;
	if (t->n + 1 >= PERF_TRACE_REQUESTS) {
		PARSE_ERR(p, "more than %d requests: use --requests", PERF_TRACE_REQUESTS - 1);
		return false;
	}
	if (!get_hashes(p, row, &r))
		return false;
	if (t->n == p->req_room) {
		uint32_t room = p->req_room == 0 ? 256 : p->req_room * 2;
		struct perf_trace_req *req = reallocarray(t->req, room, sizeof(*req));
		if (req == NULL)
			return no_memory(p);
		t->req = req;
		p->req_room = room;
	}
	t->req[t->n++] = r;
	return true;
}

static bool parse_line(struct parser *p, const char *line, size_t len)
{
	struct json_object *row;
	bool ok;

	if (len > PERF_TRACE_LINE) {
		PARSE_ERR(p, "line of %zu bytes, longer than %d", len, PERF_TRACE_LINE);
		return false;
	}
	if (memchr(line, '\0', len) != NULL) {
		PARSE_ERR(p, "a NUL byte: not a text file");
		return false;
	}
	json_tokener_reset(p->tok);
	row = json_tokener_parse_ex(p->tok, line, (int)len);
	if (row == NULL) {
		enum json_tokener_error e = json_tokener_get_error(p->tok);
		if (e == json_tokener_continue)
			PARSE_ERR(p, "JSON ends too early");
		else
			PARSE_ERR(p, "not a JSON object (%s at byte %zu)",
				  e == json_tokener_success ? "null" : json_tokener_error_desc(e),
				  json_tokener_get_parse_end(p->tok));
		return false;
	}
	ok = json_tokener_get_parse_end(p->tok) == len;
	if (!ok)
		PARSE_ERR(p, "something follows the JSON object at byte %zu", json_tokener_get_parse_end(p->tok));
	ok = ok && add_row(p, row);
	json_object_put(row);
	return ok;
}

static bool parse_lines(struct parser *p, const char *text, size_t len, uint64_t limit)
{
	const char *at = text, *end = text + len;

	while (at < end && (limit == 0 || p->t->n < limit)) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t n = (size_t)((nl == NULL ? end : nl) - at);
		p->line++;
		while (n > 0 && (at[n - 1] == '\r' || at[n - 1] == ' ' || at[n - 1] == '\t'))
			n--;
		if (n > 0 && !parse_line(p, at, n))
			return false;
		at = nl == NULL ? end : nl + 1;
	}
	if (p->t->n == 0) {
		perf_err_set(p->err, "%s: no request in it", p->name);
		return false;
	}
	return true;
}

bool perf_trace_parse(const char *text, size_t len, const char *name, uint64_t limit, struct perf_trace *out,
		      struct perf_err *err)
{
	struct perf_trace t = {0};
	struct parser p = {.t = &t, .err = err, .name = name};
	bool ok = false;

	*out = t;
	p.tok = json_tokener_new_ex(8);
	if (p.tok == NULL) {
		perf_err_set(err, "%s: out of memory", name);
		return false;
	}
	json_tokener_set_flags(p.tok, JSON_TOKENER_STRICT);
	ok = parse_lines(&p, text, len, limit);
	t.distinct_n = p.ids.n;
	json_tokener_free(p.tok);
	free(p.ids.key);
	free(p.ids.value);
	free(p.seen);
	if (ok)
		*out = t;
	else
		perf_trace_free(&t);
	return ok;
}

static bool read_all(int fd, char **out, size_t *len_out)
{
	size_t room = 1 << 20, n = 0;
	char *buf = malloc(room);

	while (buf != NULL) {
		ssize_t got = read(fd, buf + n, room - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		if (got == 0) {
			*out = buf;
			*len_out = n;
			return true;
		}
		n += (size_t)got;
		if (n > PERF_TRACE_FILE) {
			errno = EFBIG;
			break;
		}
		if (n == room) {
			char *more = realloc(buf, room * 2);
			if (more == NULL)
				break;
			buf = more;
			room *= 2;
		}
	}
	free(buf);
	return false;
}

bool perf_trace_load(const char *path, uint64_t limit, struct perf_trace *out, struct perf_err *err)
{
	char *text = NULL;
	size_t len = 0;
	struct stat st;
	bool ok = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	*out = (struct perf_trace){0};
	if (fd < 0) {
		perf_err_set(err, "%s: cannot open: %s", path, strerror(errno));
		return false;
	}
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		perf_err_set(err, "%s: is a directory", path);
	else if (!read_all(fd, &text, &len))
		perf_err_set(err, "%s: cannot read: %s", path, strerror(errno));
	else
		ok = perf_trace_parse(text, len, path, limit, out, err);
	free(text);
	close(fd);
	return ok;
}

void perf_trace_free(struct perf_trace *t)
{
	if (t == NULL)
		return;
	free(t->req);
	free(t->id);
	*t = (struct perf_trace){0};
}

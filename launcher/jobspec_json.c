/* SPDX-License-Identifier: BSD-3-Clause */
/* jobspec_json.c - a job as a JSON file. Every fault names its place: the line where the syntax breaks, else the key.
 */
#include "jobspec.h"

#include <errno.h>
#include <json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES (4u << 20)
#define NEST_MAX       8

/* Where we are, for sentences: "job.json: roles[1].env". */
struct place {
	const char *source;
	char at[160];
	struct mc_err *err;
};

static struct place place_in(const struct place *p, const char *key)
{
	struct place in = *p;

	(void)snprintf(in.at, sizeof(in.at), "%.70s%s%.60s", p->at, *p->at == '\0' ? "" : ".", key);
	return in;
}

static int wrong_type(const struct place *p, const char *want, struct json_object *v)
{
	return mc_err_set(p->err, "%s: %s must be %s, but is %s", p->source, p->at, want,
			  v == NULL ? "null" : json_type_to_name(json_object_get_type(v)));
}

static int unknown_key(const struct place *p, const char *key, const char *const *known, size_t n)
{
	char hint[80], all[200] = "";
	struct place in = place_in(p, key);

	mc_text_hint(hint, sizeof(hint), key, known, n);
	for (size_t i = 0; i < n; i++) {
		size_t at = strlen(all);
		(void)snprintf(all + at, sizeof(all) - at, "%s%s", i == 0 ? "" : ", ", known[i]);
	}
	return mc_err_set(p->err, "%s: unknown key %s%s; known are %s", p->source, in.at, hint, all);
}

/* A string without NUL inside; NULL: sentence written. */
static const char *text_of(const struct place *p, struct json_object *v, const char *want)
{
	if (!json_object_is_type(v, json_type_string)) {
		(void)wrong_type(p, want, v);
		return NULL;
	}
	const char *s = json_object_get_string(v);
	if (strlen(s) != (size_t)json_object_get_string_len(v)) {
		(void)mc_err_set(p->err, "%s: %s contains a NUL character", p->source, p->at);
		return NULL;
	}
	return s;
}

static int prefix_place(const struct place *p, const struct mc_err *why)
{
	return mc_err_set(p->err, "%s: %.100s: %.800s", p->source, p->at, why->text);
}

/* One of the string-valued members that the command line has too. */
static int take_text(const struct place *p, struct json_object *v, struct mc_job *job,
		     int (*set)(struct mc_job *, const char *, struct mc_err *))
{
	struct mc_err why;
	const char *s = text_of(p, v, "a string");

	if (s == NULL)
		return -1;
	return set(job, s, &why) == 0 ? 0 : prefix_place(p, &why);
}

static int take_seconds(const struct place *p, struct json_object *v, struct mc_job *job,
			int (*set)(struct mc_job *, const char *, struct mc_err *))
{
	struct mc_err why;
	char num[64];

	if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double))
		return wrong_type(p, "a number of seconds", v);
	(void)snprintf(num, sizeof(num), "%.6f", json_object_get_double(v));
	return set(job, num, &why) == 0 ? 0 : prefix_place(p, &why);
}

static int take_env(const struct place *p, struct json_object *v, struct mc_strv *env, bool settings)
{
	if (!json_object_is_type(v, json_type_object))
		return wrong_type(p, "an object of NAME: VALUE", v);
	json_object_object_foreach(v, key, val)
	{
		struct place in = place_in(p, key);
		struct mc_err why;

		if (mc_job_check_env_name(key, strlen(key), &why) != 0)
			return prefix_place(p, &why);
		if (settings && strncmp(key, "MC_", 3) != 0)
			return mc_err_set(p->err,
					  "%s: %s is not a setting: their names begin with MC_; other variables go "
					  "into \"env\"",
					  p->source, in.at);
		if (json_object_is_type(val, json_type_int) || json_object_is_type(val, json_type_boolean) ||
		    json_object_is_type(val, json_type_double)) {
			mc_strv_set(env, key, json_object_get_string(val));
			continue;
		}
		const char *s = text_of(&in, val, "a string, a number or a boolean");
		if (s == NULL)
			return -1;
		mc_strv_set(env, key, s);
	}
	return 0;
}

static int take_program(const struct place *p, struct json_object *v, struct mc_strv *argv)
{
	if (json_object_is_type(v, json_type_string)) {
		const char *s = text_of(p, v, "a string");

		if (s == NULL)
			return -1;
		mc_strv_add(argv, s);
		return 0;
	}
	if (!json_object_is_type(v, json_type_array) || json_object_array_length(v) == 0)
		return wrong_type(p, "a list of the program and its arguments, with at least the program", v);
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		char key[32];
		struct place in = *p;

		(void)snprintf(key, sizeof(key), "[%zu]", i);
		(void)snprintf(in.at, sizeof(in.at), "%.120s%s", p->at, key);
		const char *s = text_of(&in, json_object_array_get_idx(v, i), "a string");
		if (s == NULL)
			return -1;
		mc_strv_add(argv, s);
	}
	return 0;
}

static int take_count(const struct place *p, struct json_object *v, uint32_t *n_out)
{
	if (!json_object_is_type(v, json_type_int))
		return wrong_type(p, "a whole number", v);
	int64_t n = json_object_get_int64(v);
	if (n < 1 || n > MC_JOB_RANK_MAX)
		return mc_err_set(p->err, "%s: %s is %lld, but must be 1 to %u", p->source, p->at, (long long)n,
				  MC_JOB_RANK_MAX);
	*n_out = (uint32_t)n;
	return 0;
}

static int take_role_name(const struct place *p, struct json_object *v, struct mc_job_role *r)
{
	struct mc_err why;
	const char *s = text_of(p, v, "a string");

	if (s == NULL)
		return -1;
	if (mc_job_check_role_name(s, &why) != 0)
		return prefix_place(p, &why);
	free(r->name);
	r->name = mc_xstrdup(s);
	return 0;
}

static int take_role(const struct place *p, struct json_object *v, struct mc_job *job)
{
	static const char *const known[] = {"name", "n", "program", "env"};

	if (!json_object_is_type(v, json_type_object))
		return wrong_type(p, "an object with name, n and program", v);
	struct mc_job_role *r = mc_job_role_add(job, "", 0);
	json_object_object_foreach(v, key, val)
	{
		struct place in = place_in(p, key);
		int rc = 0;

		if (strcmp(key, "name") == 0)
			rc = take_role_name(&in, val, r);
		else if (strcmp(key, "n") == 0)
			rc = take_count(&in, val, &r->n);
		else if (strcmp(key, "program") == 0)
			rc = take_program(&in, val, &r->argv);
		else if (strcmp(key, "env") == 0)
			rc = take_env(&in, val, &r->env, false);
		else
			rc = unknown_key(p, key, known, 4);
		if (rc != 0)
			return -1;
	}
	if (*r->name == '\0')
		return mc_err_set(p->err, "%s: %s has no \"name\"", p->source, p->at);
	if (r->n == 0)
		return mc_err_set(p->err, "%s: %s has no \"n\", its number of ranks", p->source, p->at);
	return 0;
}

static int take_roles(const struct place *p, struct json_object *v, struct mc_job *job)
{
	if (!json_object_is_type(v, json_type_array))
		return wrong_type(p, "a list of roles", v);
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		struct place in = *p;

		(void)snprintf(in.at, sizeof(in.at), "%.100s[%zu]", p->at, i);
		if (take_role(&in, json_object_array_get_idx(v, i), job) != 0)
			return -1;
	}
	return 0;
}

static int take_setting(const struct place *p, struct json_object *v, struct mc_job *job, const char *name)
{
	const char *s = text_of(p, v, "a string");

	if (s == NULL)
		return -1;
	mc_strv_set(&job->settings, name, s);
	return 0;
}

static int take_rdma_limits(const struct place *p, struct json_object *v, struct mc_job *job)
{
	struct mc_err why;

	if (!json_object_is_type(v, json_type_array))
		return wrong_type(p, "a list of \"DEVICE:hca_handle=N,hca_object=N\"", v);
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		const char *s = text_of(p, json_object_array_get_idx(v, i), "a list of strings");

		if (s == NULL)
			return -1;
		if (mc_job_add_rdma_limit(job, s, &why) != 0)
			return prefix_place(p, &why);
	}
	return 0;
}

static int take_bool(const struct place *p, struct json_object *v, bool *out)
{
	if (!json_object_is_type(v, json_type_boolean))
		return wrong_type(p, "true or false", v);
	*out = json_object_get_boolean(v);
	return 0;
}

static int take_map(const struct place *p, struct json_object *v, struct mc_job *job)
{
	struct mc_err why;

	if (!json_object_is_type(v, json_type_array))
		return wrong_type(p, "a list of \"ROLE=HOST\" or \"ROLE=HOST:N\"", v);
	for (size_t i = 0; i < json_object_array_length(v); i++) {
		const char *s = text_of(p, json_object_array_get_idx(v, i), "a list of strings");

		if (s == NULL)
			return -1;
		if (mc_job_add_map(job, s, &why) != 0)
			return prefix_place(p, &why);
	}
	return 0;
}

static bool is_place(const char *key)
{
	static const char *const names[] = {"engine", "hosts", "hostfile", "map", "agent", "head_address", "heartbeat"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(key, names[i]) == 0)
			return true;
	return false;
}

/* Where the ranks run, and how they are reached there. */
static int take_place(const struct place *p, const char *key, struct json_object *v, struct mc_job *job)
{
	if (strcmp(key, "engine") == 0)
		return take_text(p, v, job, mc_job_set_engine);
	if (strcmp(key, "hosts") == 0)
		return take_text(p, v, job, mc_job_set_hosts);
	if (strcmp(key, "hostfile") == 0)
		return take_text(p, v, job, mc_job_set_hostfile);
	if (strcmp(key, "map") == 0)
		return take_map(p, v, job);
	if (strcmp(key, "agent") == 0)
		return take_bool(p, v, &job->agent);
	if (strcmp(key, "head_address") == 0)
		return take_text(p, v, job, mc_job_set_head);
	return take_seconds(p, v, job, mc_job_set_beat);
}

static int take_member(const struct place *p, const char *key, struct json_object *v, struct mc_job *job)
{
	static const char *const known[] = {"roles",     "program", "env",     "settings",     "timeout",
					    "grace",     "output",  "bind",    "on_failure",   "engine",
					    "transport", "backend", "verbose", "rdma_limit",   "hosts",
					    "hostfile",  "map",     "agent",   "head_address", "heartbeat"};
	struct place in = place_in(p, key);

	if (strcmp(key, "roles") == 0)
		return take_roles(&in, v, job);
	if (strcmp(key, "program") == 0)
		return take_program(&in, v, &job->program);
	if (strcmp(key, "env") == 0)
		return take_env(&in, v, &job->env, false);
	if (strcmp(key, "settings") == 0)
		return take_env(&in, v, &job->settings, true);
	if (strcmp(key, "timeout") == 0)
		return take_seconds(&in, v, job, mc_job_set_timeout);
	if (strcmp(key, "grace") == 0)
		return take_seconds(&in, v, job, mc_job_set_grace);
	if (strcmp(key, "output") == 0)
		return take_text(&in, v, job, mc_job_set_output);
	if (strcmp(key, "bind") == 0)
		return take_text(&in, v, job, mc_job_set_bind);
	if (strcmp(key, "on_failure") == 0)
		return take_text(&in, v, job, mc_job_set_fail);
	if (strcmp(key, "transport") == 0)
		return take_setting(&in, v, job, "MC_TRANSPORT");
	if (strcmp(key, "backend") == 0)
		return take_setting(&in, v, job, "MC_BACKEND");
	if (strcmp(key, "verbose") == 0)
		return take_bool(&in, v, &job->verbose);
	if (strcmp(key, "rdma_limit") == 0)
		return take_rdma_limits(&in, v, job);
	if (is_place(key))
		return take_place(&in, key, v, job);
	return unknown_key(p, key, known, sizeof(known) / sizeof(known[0]));
}

static unsigned line_at(const char *text, size_t at)
{
	unsigned line = 1;

	for (size_t i = 0; i < at; i++)
		line += text[i] == '\n';
	return line;
}

static struct json_object *parse(const char *text, size_t len, const char *source, struct mc_err *err)
{
	struct json_tokener *tok = json_tokener_new_ex(NEST_MAX);
	struct json_object *root = NULL;

	if (tok == NULL) {
		(void)mc_err_set(err, "%s: out of memory", source);
		return NULL;
	}
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tok, text, (int)len);
	size_t end = json_tokener_get_parse_end(tok);
	enum json_tokener_error e = json_tokener_get_error(tok);
	if (e == json_tokener_continue)
		(void)mc_err_set(err, "%s: line %u: the JSON text ends too early", source, line_at(text, len));
	else if (e != json_tokener_success)
		(void)mc_err_set(err, "%s: line %u: not JSON: %s", source, line_at(text, end),
				 json_tokener_error_desc(e));
	else if (end + strspn(text + end, " \t\r\n") < len)
		(void)mc_err_set(err, "%s: line %u: text after the end of the JSON object", source,
				 line_at(text, end + strspn(text + end, " \t\r\n")));
	else if (!json_object_is_type(root, json_type_object))
		(void)mc_err_set(err, "%s: must be a JSON object {...}", source);
	else
		goto out;
	json_object_put(root);
	root = NULL;
out:
	json_tokener_free(tok);
	return root;
}

int mc_job_parse_json(struct mc_job *job, const char *text, size_t len, const char *source, struct mc_err *err)
{
	struct place p = {.source = source, .err = err};
	int rc = 0;

	if (len > FILE_MAX_BYTES)
		return mc_err_set(err, "%s: longer than %u bytes: not a job file", source, FILE_MAX_BYTES);
	char *copy = mc_xalloc(len + 1, 1); /* the scanner wants a NUL behind the last byte */
	memcpy(copy, text, len);
	struct json_object *root = parse(copy, len, source, err);
	if (root == NULL) {
		free(copy);
		return -1;
	}
	json_object_object_foreach(root, key, val)
	{
		rc = take_member(&p, key, val, job);
		if (rc != 0)
			break;
	}
	json_object_put(root);
	free(copy);
	return rc;
}

int mc_job_load(struct mc_job *job, const char *file, struct mc_err *err)
{
	FILE *f = fopen(file, "re");

	if (f == NULL)
		return mc_err_set(err, "cannot read %s: %s", file, strerror(errno));
	char *text = mc_xalloc(FILE_MAX_BYTES + 2, 1);
	size_t n = fread(text, 1, FILE_MAX_BYTES + 1, f);
	int rc = ferror(f) ? mc_err_set(err, "cannot read %s: %s", file, strerror(errno))
			   : mc_job_parse_json(job, text, n, file, err);
	(void)fclose(f);
	free(text);
	return rc;
}

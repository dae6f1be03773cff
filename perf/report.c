/* SPDX-License-Identifier: BSD-3-Clause */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LABEL_WIDTH = 20, NUMBER_WIDTH = 16, ROW_MAX = 512 };

struct perf_report {
	struct json_object *json;
	char *table;
	size_t table_len;
	bool broken; /* out of memory on the way */
};

struct perf_report *perf_report_new(const char *title)
{
	struct perf_report *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->json = json_object_new_object();
	r->table = strdup(title);
	if (r->json == NULL || r->table == NULL) {
		perf_report_free(r);
		return NULL;
	}
	r->table_len = strlen(r->table);
	return r;
}

void perf_report_free(struct perf_report *r)
{
	if (r == NULL)
		return;
	json_object_put(r->json);
	free(r->table);
	free(r);
}

static void add_row(struct perf_report *r, const char *label, const char *value, const char *note)
{
	char row[ROW_MAX];
	char *table;
	size_t n;

	if (note != NULL)
		snprintf(row, sizeof(row), "\n  %-*s %*s  %s", LABEL_WIDTH, label, NUMBER_WIDTH, value, note);
	else
		snprintf(row, sizeof(row), "\n  %-*s %*s", LABEL_WIDTH, label, NUMBER_WIDTH, value);
	n = strlen(row);
	table = realloc(r->table, r->table_len + n + 1);
	if (table == NULL) {
		r->broken = true;
		return;
	}
	memcpy(table + r->table_len, row, n + 1);
	r->table = table;
	r->table_len += n;
}

void perf_report_json(struct perf_report *r, const char *key, struct json_object *v)
{
	if (v == NULL || json_object_object_add(r->json, key, v) != 0) {
		json_object_put(v);
		r->broken = true;
	}
}

void perf_report_u64(struct perf_report *r, const char *key, const char *label, uint64_t v, const char *note)
{
	char buf[32];

	if (key != NULL)
		perf_report_json(r, key, json_object_new_uint64(v));
	if (label == NULL)
		return;
	snprintf(buf, sizeof(buf), "%" PRIu64, v);
	add_row(r, label, buf, note);
}

void perf_report_real(struct perf_report *r, const char *key, const char *label, double v, const char *note)
{
	char buf[64];

	snprintf(buf, sizeof(buf), "%.3f", v);
	if (key != NULL)
		perf_report_json(r, key, json_object_new_double_s(v, buf));
	if (label != NULL)
		add_row(r, label, buf, note);
}

void perf_report_text(struct perf_report *r, const char *key, const char *label, const char *v)
{
	if (key != NULL)
		perf_report_json(r, key, json_object_new_string(v));
	if (label != NULL)
		add_row(r, label, v, NULL);
}

bool perf_report_check_path(const char *path, struct perf_err *err)
{
	char copy[PATH_MAX];
	const char *dir;
	struct stat st;

	if (strcmp(path, "-") == 0)
		return true;
	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			perf_err_set(err, "%s: is a directory", path);
		else if (access(path, W_OK) != 0)
			perf_err_set(err, "%s: cannot write: %s", path, strerror(errno));
		return !perf_err_is_set(err);
	}
	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy)) {
		perf_err_set(err, "--json: the path is too long");
		return false;
	}
	dir = dirname(copy);
	if (access(dir, W_OK | X_OK) != 0)
		perf_err_set(err, "%s: cannot write into %s: %s", path, dir, strerror(errno));
	return !perf_err_is_set(err);
}

static bool write_json(const struct perf_report *r, const char *path, struct perf_err *err)
{
	const char *text = json_object_to_json_string_ext(r->json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
									   JSON_C_TO_STRING_NOSLASHESCAPE);
	bool to_stdout = strcmp(path, "-") == 0;
	FILE *f = to_stdout ? stdout : fopen(path, "we");
	bool ok;

	if (f == NULL) {
		perf_err_set(err, "%s: cannot write: %s", path, strerror(errno));
		return false;
	}
	ok = text != NULL && fputs(text, f) >= 0 && fputc('\n', f) != EOF && fflush(f) == 0;
	if (!to_stdout)
		ok = fclose(f) == 0 && ok;
	if (!ok)
		perf_err_set(err, "%s: cannot write: %s", path, strerror(errno));
	return ok;
}

bool perf_report_write(struct perf_report *r, const char *path, struct perf_err *err)
{
	FILE *table_to = path != NULL && strcmp(path, "-") == 0 ? stderr : stdout;

	if (fprintf(table_to, "%s\n", r->table) < 0 || fflush(table_to) != 0) {
		perf_err_set(err, "cannot write the output: %s", strerror(errno));
		return false;
	}
	if (r->broken) {
		perf_err_set(err, "out of memory: the report is not complete");
		return false;
	}
	return path == NULL || write_json(r, path, err);
}

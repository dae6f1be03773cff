/* SPDX-License-Identifier: BSD-3-Clause */
#include "matrix.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 64 << 20 };
#define CELL_MAX (UINT64_C(1) << 40)

static bool parse_row(char *line, const char *name, uint32_t row, struct perf_matrix *m, struct perf_err *err)
{
	char *save = NULL;
	uint32_t k = 0;

	for (char *w = strtok_r(line, " \t\r,", &save); w != NULL; w = strtok_r(NULL, " \t\r,", &save)) {
		uint64_t v;
		if (!perf_parse_size(w, &v) || v > CELL_MAX) {
			perf_err_set(err, "%s: row %u: \"%.32s\" is not a size from 0 to 1T", name, row, w);
			return false;
		}
		if (k < m->n)
			m->bytes[(size_t)row * m->n + k] = v;
		k++;
	}
	if (k == m->n)
		return true;
	perf_err_set(err, "%s: row %u has %u columns, the job has %u ranks", name, row, k, m->n);
	return false;
}

static bool blank(const char *line)
{
	return line[strspn(line, " \t\r,")] == '\0';
}

static bool parse_rows(char *text, const char *name, struct perf_matrix *m, struct perf_err *err)
{
	uint32_t row = 0;

	while (text != NULL) {
		char *end = strchr(text, '\n');
		if (end != NULL)
			*end++ = '\0';
		text[strcspn(text, "#")] = '\0';
		if (!blank(text)) {
			if (row < m->n && !parse_row(text, name, row, m, err))
				return false;
			row++;
		}
		text = end;
	}
	if (row == m->n)
		return true;
	perf_err_set(err, "%s has %u rows, the job has %u ranks", name, row, m->n);
	return false;
}

static bool check_cells(const char *name, const struct perf_matrix *m, struct perf_err *err)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < m->n; i++) {
		if (m->bytes[(size_t)i * m->n + i] != 0) {
			perf_err_set(err, "%s: row %u sends to itself: the diagonal must be 0", name, i);
			return false;
		}
		for (uint32_t k = 0; k < m->n; k++)
			sum += m->bytes[(size_t)i * m->n + k];
	}
	if (sum > 0)
		return true;
	perf_err_set(err, "%s: nobody sends anything", name);
	return false;
}

bool perf_matrix_parse(char *text, const char *name, uint32_t n, struct perf_matrix *out, struct perf_err *err)
{
	struct perf_matrix m = {.n = n};

	if (n == 0 || n > PERF_MATRIX_MAX) {
		perf_err_set(err, "%s: a matrix for %u ranks, the limit is %d", name, n, PERF_MATRIX_MAX);
		return false;
	}
	m.bytes = calloc((size_t)n * n, sizeof(*m.bytes));
	if (m.bytes == NULL) {
		perf_err_set(err, "out of memory");
		return false;
	}
	if (!parse_rows(text, name, &m, err) || !check_cells(name, &m, err)) {
		perf_matrix_free(&m);
		return false;
	}
	*out = m;
	return true;
}

static char *read_all(const char *path, struct perf_err *err)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t n = 0;

	if (f == NULL) {
		perf_err_set(err, "%s: cannot read: %s", path, strerror(errno));
		return NULL;
	}
	text = malloc(FILE_MAX + 1);
	if (text == NULL) {
		perf_err_set(err, "out of memory");
		goto close;
	}
	n = fread(text, 1, FILE_MAX + 1, f);
	if (ferror(f) || n > FILE_MAX || memchr(text, '\0', n) != NULL) {
		perf_err_set(err, "%s: %s", path,
			     ferror(f)      ? "cannot read"
			     : n > FILE_MAX ? "is larger than 64 MiB"
					    : "is not a text file");
		free(text);
		text = NULL;
		goto close;
	}
	text[n] = '\0';
close:
	fclose(f);
	return text;
}

bool perf_matrix_load(const char *path, uint32_t n, struct perf_matrix *out, struct perf_err *err)
{
	char *text = read_all(path, err);
	bool ok = text != NULL && perf_matrix_parse(text, path, n, out, err);

	free(text);
	return ok;
}

void perf_matrix_free(struct perf_matrix *m)
{
	if (m == NULL)
		return;
	free(m->bytes);
	*m = (struct perf_matrix){0};
}

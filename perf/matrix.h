/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * matrix.h - bytes that each rank sends to each other rank, read from a file: line i, column k is what rank i sends to
 * rank k. Columns are divided by blanks or commas, sizes may carry units (64K, 2M), '#' begins a comment.
 */
#ifndef PERF_MATRIX_H
#define PERF_MATRIX_H

#include "perftext.h"

enum { PERF_MATRIX_MAX = 4096 }; /* ranks */

struct perf_matrix {
	uint32_t n;
	uint64_t *bytes; /* [n * n], row after row */
};

/* n: ranks of the job; the file must have as many rows and columns. false: err says where and what. */
bool perf_matrix_load(const char *path, uint32_t n, struct perf_matrix *out, struct perf_err *err);
bool perf_matrix_parse(char *text, const char *name, uint32_t n, struct perf_matrix *out, struct perf_err *err);
void perf_matrix_free(struct perf_matrix *m);

#endif

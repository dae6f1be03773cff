/* SPDX-License-Identifier: BSD-3-Clause */
/* perftext.h - numbers and sizes from and for people, and the one-line error texts of this program. */
#ifndef PERF_PERFTEXT_H
#define PERF_PERFTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PERF_ERR_MAX = 512 };

/* One line that says what is wrong; the first one written stays. */
struct perf_err {
	char text[PERF_ERR_MAX]; /* "": nothing wrong */
};

void perf_err_set(struct perf_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool perf_err_is_set(const struct perf_err *e)
{
	return e->text[0] != '\0';
}

bool perf_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out);
bool perf_parse_size(const char *s, uint64_t *out);      /* 64M, 2G, 4K, 123 */
bool perf_parse_seconds(const char *s, int64_t *out_ns); /* 1.5, 20, 2m, 1h, 500ms */
bool perf_parse_double(const char *s, double min, double max, double *out);
const char *perf_format_size(uint64_t bytes, char *buf, size_t len); /* "1.5 GiB"; returns buf */

#endif

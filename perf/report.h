/* SPDX-License-Identifier: BSD-3-Clause */
/* report.h - results, once as a table for people and once as one JSON object. */
#ifndef PERF_REPORT_H
#define PERF_REPORT_H

#include "perftext.h"

struct json_object;
struct perf_report;

struct perf_report *perf_report_new(const char *title); /* NULL: out of memory */
void perf_report_free(struct perf_report *r);
/* key NULL: only in the table; label NULL: only in the JSON object. note: said after the number, e.g. its unit; may be
 * NULL. */
void perf_report_u64(struct perf_report *r, const char *key, const char *label, uint64_t v, const char *note);
void perf_report_real(struct perf_report *r, const char *key, const char *label, double v, const char *note);
void perf_report_text(struct perf_report *r, const char *key, const char *label, const char *v);
/* Takes over the value, for the JSON object only. */
void perf_report_json(struct perf_report *r, const char *key, struct json_object *v);

/* Can path ("-": stdout) be written at the end of the run? Says why not before anything is started. */
bool perf_report_check_path(const char *path, struct perf_err *err);
/*
 * Table to stdout, JSON object to path; with path "-" the object goes to stdout and the table to stderr. path NULL: no
 * JSON. false: it could not be written, err says why.
 */
bool perf_report_write(struct perf_report *r, const char *path, struct perf_err *err);

#endif

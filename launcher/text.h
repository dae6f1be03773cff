/* SPDX-License-Identifier: BSD-3-Clause */
/* text.h - what every part of mcrun needs: error sentences, growing string lists, number parsing, nearest names. */
#ifndef MCRUN_TEXT_H
#define MCRUN_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MC_NS_PER_S INT64_C(1000000000)

/* One sentence for the user, without "mcrun: " and without newline. */
struct mc_err {
	char text[1024];
};
/* Write the sentence; always returns -1, so that `return mc_err_set(...)` reads as what it is. */
int mc_err_set(struct mc_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The doctor's check for what an errno means wherever it comes from, to end a sentence with; "": none. */
const char *mc_err_hint(int e);

/* Allocation that ends the program when there is no memory: the guard then cleans up what was started. */
void *mc_xalloc(size_t n, size_t size);
void *mc_xgrow(void *old, size_t n, size_t size);
char *mc_xstrdup(const char *s);
char *mc_xformat(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A list of strings, NULL-terminated as execve wants it; {0} is an empty one (v is then NULL). */
struct mc_strv {
	char **v;
	size_t n, room;
};
void mc_strv_add(struct mc_strv *s, const char *text);
void mc_strv_copy(struct mc_strv *to, const struct mc_strv *from); /* appends */
void mc_strv_free(struct mc_strv *s);
/* The same list as an environment: "NAME=VALUE". */
void mc_strv_set(struct mc_strv *s, const char *name, const char *value);
void mc_strv_set_pair(struct mc_strv *s, const char *pair);
const char *mc_strv_get(const struct mc_strv *s, const char *name);

/* The element of list [n] that is most like word; NULL: none is near. */
const char *mc_text_nearest(const char *word, const char *const *list, size_t n);
/* " (did you mean X?)" or "" */
void mc_text_hint(char *buf, size_t len, const char *word, const char *const *list, size_t n);

bool mc_text_count(const char *s, uint32_t *out);     /* decimal digits only, up to 2^31-1 */
bool mc_text_seconds(const char *s, int64_t *ns_out); /* "5", "0.25"; not negative, at most a year */
bool mc_text_env_name(const char *s, size_t len);     /* letters, digits, underscore; no digit first */

int64_t mc_now_ns(void); /* monotonic */

#endif

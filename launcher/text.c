/* SPDX-License-Identifier: BSD-3-Clause */
#include "text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int mc_err_set(struct mc_err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	for (char *c = err->text; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?'; /* one line, and no control characters of a hostile file on the terminal */
	return -1;
}

static void *no_memory(void)
{
	static const char text[] = "mcrun: out of memory; everything that was started is ended\n";

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(1);
}

const char *mc_err_hint(int e)
{
	switch (e) {
	case EMFILE:
	case ENFILE:
		return "; raise ulimit -Hn [open-files, see mcinfo doctor]";
	case EAGAIN:
		return "; see ulimit -u and the cgroup's pids.max [process-limit, see mcinfo doctor]";
	case ENOMEM:
		return " [memory, see mcinfo doctor]";
	default:
		return "";
	}
}

void *mc_xalloc(size_t n, size_t size)
{
	void *p = calloc(n == 0 ? 1 : n, size);

	return p != NULL ? p : no_memory();
}

void *mc_xgrow(void *old, size_t n, size_t size)
{
	void *p = reallocarray(old, n, size);

	return p != NULL ? p : no_memory();
}

char *mc_xstrdup(const char *s)
{
	char *p = strdup(s);

	return p != NULL ? p : no_memory();
}

char *mc_xformat(const char *fmt, ...)
{
	char *p = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&p, fmt, ap);
	va_end(ap);
	return n >= 0 ? p : no_memory();
}

void mc_strv_add(struct mc_strv *s, const char *text)
{
	if (s->n + 1 >= s->room) {
		s->room = s->room == 0 ? 16 : s->room * 2;
		s->v = mc_xgrow(s->v, s->room, sizeof(*s->v));
	}
	s->v[s->n++] = mc_xstrdup(text);
	s->v[s->n] = NULL;
}

void mc_strv_copy(struct mc_strv *to, const struct mc_strv *from)
{
	for (size_t i = 0; i < from->n; i++)
		mc_strv_add(to, from->v[i]);
}

void mc_strv_free(struct mc_strv *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct mc_strv){0};
}

static char **strv_find(const struct mc_strv *s, const char *name, size_t len)
{
	for (size_t i = 0; i < s->n; i++)
		if (strncmp(s->v[i], name, len) == 0 && s->v[i][len] == '=')
			return &s->v[i];
	return NULL;
}

void mc_strv_set_pair(struct mc_strv *s, const char *pair)
{
	char **old = strv_find(s, pair, strcspn(pair, "="));

	if (old == NULL) {
		mc_strv_add(s, pair);
		return;
	}
	free(*old);
	*old = mc_xstrdup(pair);
}

void mc_strv_set(struct mc_strv *s, const char *name, const char *value)
{
	char *pair = mc_xformat("%s=%s", name, value);

	mc_strv_set_pair(s, pair);
	free(pair);
}

const char *mc_strv_get(const struct mc_strv *s, const char *name)
{
	size_t len = strlen(name);
	char **p = strv_find(s, name, len);

	return p == NULL ? NULL : *p + len + 1;
}

/* Edit distance where a swap of neighbours counts one; words longer than the table are never near. */
static unsigned distance(const char *a, const char *b)
{
	enum { ROOM = 40 };
	unsigned d[ROOM + 1][ROOM + 1];
	size_t la = strlen(a), lb = strlen(b);

	if (la > ROOM || lb > ROOM)
		return ROOM;
	for (unsigned i = 0; i <= la; i++)
		d[i][0] = i;
	for (unsigned j = 0; j <= lb; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);

			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[la][lb];
}

const char *mc_text_nearest(const char *word, const char *const *list, size_t n)
{
	const char *best = NULL;
	unsigned best_d = (unsigned)(strlen(word) / 2) + 1;

	if (best_d > 5)
		best_d = 5;
	for (size_t i = 0; i < n; i++) {
		unsigned d = distance(word, list[i]);

		if (d < best_d) {
			best_d = d;
			best = list[i];
		}
	}
	return best;
}

void mc_text_hint(char *buf, size_t len, const char *word, const char *const *list, size_t n)
{
	const char *near = mc_text_nearest(word, list, n);

	if (near != NULL)
		(void)snprintf(buf, len, " (did you mean %s?)", near);
	else
		(void)snprintf(buf, len, "%s", "");
}

bool mc_text_count(const char *s, uint32_t *out)
{
	uint64_t v = 0;

	if (*s == '\0' || strlen(s) > 10)
		return false;
	for (; *s != '\0'; s++) {
		if (*s < '0' || *s > '9')
			return false;
		v = v * 10 + (uint64_t)(*s - '0');
	}
	if (v > INT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

bool mc_text_seconds(const char *s, int64_t *ns_out)
{
	int64_t ns = 0, unit = MC_NS_PER_S;
	bool digit = false;

	for (; *s >= '0' && *s <= '9'; s++, digit = true) {
		ns = ns * 10 + (*s - '0') * MC_NS_PER_S;
		if (ns > 366 * 86400 * MC_NS_PER_S)
			return false;
	}
	if (*s == '.') {
		for (s++; *s >= '0' && *s <= '9'; s++, digit = true) {
			unit /= 10;
			ns += (*s - '0') * unit;
		}
	}
	if (*s == 's' && digit)
		s++;
	if (*s != '\0' || !digit)
		return false;
	*ns_out = ns;
	return true;
}

bool mc_text_env_name(const char *s, size_t len)
{
	if (len == 0 || (s[0] >= '0' && s[0] <= '9'))
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return true;
}

int64_t mc_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * MC_NS_PER_S + t.tv_nsec;
}

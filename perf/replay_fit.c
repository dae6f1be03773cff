/* SPDX-License-Identifier: BSD-3-Clause */
#include "replay_fit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "wirenote.h"

#define FIT_MAGIC UINT32_C(0x4652434d) /* "MCRF" */
enum { FIT_VERSION = 1, FIT_ASKS = 1 };

/* Text that may come to a terminal, whatever its encoding is: printable ASCII. */
static bool harmless(const char *s)
{
	for (; *s != '\0'; s++)
		if (*s < 0x20 || *s > 0x7e)
			return false;
	return true;
}

/* A name of a job (MC_JOB) is the user's own, in whatever encoding. */
static bool job_name(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

bool replay_fit_add(struct replay_fit *f, const char *name, const char *fmt, ...)
{
	struct replay_fit_item *item = &f->item[f->item_n];
	va_list ap;
	int n;

	if (f->item_n == REPLAY_FIT_ITEMS || strlen(name) >= sizeof(item->name))
		return false;
	va_start(ap, fmt);
	n = vsnprintf(item->value, sizeof(item->value), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(item->value) || !harmless(item->value) || !harmless(name))
		return false;
	snprintf(item->name, sizeof(item->name), "%s", name);
	f->item_n++;
	return true;
}

/* ---- bytes
 * ------------------------------------------------------------------------------------------------------------ */

uint32_t replay_fit_write(const struct replay_fit *f, uint8_t *buf)
{
	struct perf_wr w;

	perf_wr_init(&w, buf, REPLAY_FIT_BYTES);
	perf_wr_u32(&w, FIT_MAGIC);
	perf_wr_u32(&w, FIT_VERSION);
	perf_wr_u32(&w, f->asks ? FIT_ASKS : 0);
	perf_wr_text(&w, f->program);
	perf_wr_text(&w, f->with);
	perf_wr_u32(&w, f->n);
	perf_wr_u32(&w, f->with_n);
	perf_wr_u32(&w, f->item_n);
	for (uint32_t i = 0; i < f->item_n; i++) {
		perf_wr_text(&w, f->item[i].name);
		perf_wr_text(&w, f->item[i].value);
	}
	return perf_wr_len(&w);
}

/* Text that fits and is not empty, of characters that may be, without a NUL. */
static void read_text(struct perf_rd *r, char *out, size_t room, bool (*may_be)(const char *s))
{
	struct perf_rd at = *r;
	uint32_t len = perf_rd_u32(&at);

	perf_rd_text(r, out, room);
	if (len == 0 || len >= room || strlen(out) != len || !may_be(out))
		r->bad = true;
}

static bool known(const struct replay_fit *f, const char *name)
{
	for (uint32_t i = 0; i < f->item_n; i++)
		if (strcmp(f->item[i].name, name) == 0)
			return true;
	return false;
}

static void read_items(struct perf_rd *r, struct replay_fit *f)
{
	uint32_t n = perf_rd_u32(r);

	if (n > REPLAY_FIT_ITEMS)
		r->bad = true;
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		struct replay_fit_item *item = &f->item[i];
		read_text(r, item->name, sizeof(item->name), harmless);
		read_text(r, item->value, sizeof(item->value), harmless);
		if (known(f, item->name))
			r->bad = true;
		f->item_n = i + 1;
	}
}

enum replay_fit_read replay_fit_read(const void *data, uint32_t len, struct replay_fit *out)
{
	struct perf_rd r;
	uint32_t magic, version, flags;

	*out = (struct replay_fit){.asks = false};
	if (len > REPLAY_FIT_BYTES)
		return REPLAY_FIT_MALFORMED;
	perf_rd_init(&r, data, len);
	magic = perf_rd_u32(&r);
	version = perf_rd_u32(&r);
	flags = perf_rd_u32(&r);
	out->asks = (flags & FIT_ASKS) != 0;
	read_text(&r, out->program, sizeof(out->program), harmless);
	if (r.bad || magic != FIT_MAGIC)
		return REPLAY_FIT_MALFORMED;
	if (version != FIT_VERSION)
		return REPLAY_FIT_OTHER_VERSION; /* so far all versions are alike */
	read_text(&r, out->with, sizeof(out->with), job_name);
	out->n = perf_rd_u32(&r);
	out->with_n = perf_rd_u32(&r);
	read_items(&r, out);
	if (!perf_rd_end(&r) || flags > FIT_ASKS || out->n == 0 || out->with_n == 0)
		return REPLAY_FIT_MALFORMED;
	return REPLAY_FIT_OK;
}

static uint64_t fnv(uint64_t h, const char *text)
{
	for (size_t i = 0, n = strlen(text) + 1; i < n; i++)
		h = (h ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
	return h;
}

uint64_t replay_fit_digest(const struct replay_fit *f)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (uint32_t i = 0; i < f->item_n; i++)
		h = fnv(fnv(h, f->item[i].name), f->item[i].value);
	return h;
}

/* ---- comparison
 * ------------------------------------------------------------------------------------------------------- */

/* What differs, one after the other; what has no room is counted. */
struct list {
	char text[PERF_ERR_MAX - 180];
	size_t len;
	uint32_t n, left_out;
};

static void list_add(struct list *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void list_add(struct list *l, const char *fmt, ...)
{
	char one[MC_JOB_MAX * 2 + 128];
	size_t len;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(one, sizeof(one), fmt, ap);
	va_end(ap);
	len = strlen(one);
	l->n++;
	if (l->len + len + 3 > sizeof(l->text)) {
		l->left_out++;
		return;
	}
	l->len += (size_t)snprintf(l->text + l->len, sizeof(l->text) - l->len, "%s%s", l->len > 0 ? "; " : "", one);
}

static const char *value_of(const struct replay_fit *f, const char *name)
{
	for (uint32_t i = 0; i < f->item_n; i++)
		if (strcmp(f->item[i].name, name) == 0)
			return f->item[i].value;
	return NULL;
}

/* A trace of another length has another digest: one difference, said once. */
static bool follows(const struct replay_fit *mine, const struct replay_fit *theirs, const char *name)
{
	const char *a = value_of(mine, "--requests"), *b = value_of(theirs, "--requests");

	return strcmp(name, "--trace") == 0 && a != NULL && b != NULL && strcmp(a, b) != 0;
}

static void compare_values(const struct replay_fit *mine, const struct replay_fit *theirs, const char *job,
			   struct list *l)
{
	for (uint32_t i = 0; i < mine->item_n; i++) {
		const struct replay_fit_item *item = &mine->item[i];
		const char *other = value_of(theirs, item->name);
		if (other != NULL && strcmp(item->value, other) != 0 && !follows(mine, theirs, item->name))
			list_add(l, "%s %s here, %s in job %s", item->name, item->value, other, job);
	}
}

/* Options that only one side has: where others differ, too, these follow from them. */
static void compare_names(const struct replay_fit *mine, const struct replay_fit *theirs, const char *job,
			  struct list *l)
{
	for (uint32_t i = 0; i < mine->item_n; i++)
		if (value_of(theirs, mine->item[i].name) == NULL)
			list_add(l, "%s %s here, not given in job %s", mine->item[i].name, mine->item[i].value, job);
	for (uint32_t i = 0; i < theirs->item_n; i++)
		if (value_of(mine, theirs->item[i].name) == NULL)
			list_add(l, "%s not given here, %s in job %s", theirs->item[i].name, theirs->item[i].value,
				 job);
}

/* A name that came from elsewhere, for a terminal. */
static const char *show(const char *name, char out[MC_JOB_MAX])
{
	size_t n = 0;

	for (; n < MC_JOB_MAX - 1 && name[n] != '\0'; n++)
		out[n] = name[n] >= 0x20 && name[n] <= 0x7e ? name[n] : '?';
	out[n] = '\0';
	return out;
}

bool replay_fit_compare(const struct replay_fit *mine, const char *my_job, const struct replay_fit *theirs,
			const char *their_job, struct perf_err *err)
{
	struct list l = {.len = 0};
	char more[32] = "", with[MC_JOB_MAX];

	if (strcmp(theirs->with, my_job) != 0) {
		perf_err_set(err, "job %.127s looks for --with %.127s:%u, not for this job, whose name is %.127s",
			     their_job, show(theirs->with, with), theirs->with_n, my_job);
		return false;
	}
	if (mine->with_n != theirs->n)
		list_add(&l, "--with %s:%u here, job %s has %u ranks", their_job, mine->with_n, their_job, theirs->n);
	if (mine->n != theirs->with_n)
		list_add(&l, "%u ranks here, --with %s:%u in job %s", mine->n, my_job, theirs->with_n, their_job);
	compare_values(mine, theirs, their_job, &l);
	if (l.n == 0)
		compare_names(mine, theirs, their_job, &l);
	if (l.n == 0)
		return true;
	if (l.left_out > 0)
		snprintf(more, sizeof(more), "; and %u more", l.left_out);
	perf_err_set(err, "this job and job %.127s do not fit: %s%s", their_job, l.text, more);
	return false;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* config.c - the settings table at work: text to value, file and environment, messages. The only reader of environ. */
#include "config.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config_impl.h"
#include "util.h"

enum kind { KIND_ENUM, KIND_UINT, KIND_SIZE, KIND_DUR, KIND_BOOL, KIND_STR, KIND_SECRET };

enum { NAME_MAX_LEN = 32, CHOICE_MAX = 32, VALUE_MAX = 4096, WHERE_MAX = MC_CONFIG_QUOTE_MAX + 32 };

struct setting_def {
	const char *name, *def, *range, *unit, *text;
	size_t off; /* of the field in struct mc_config */
	enum kind kind;
};

static const struct setting_def defs[] = {
#define DEF(kind_, field, name_, def_, range_, unit_, text_)                                                           \
	{.name = (name_),                                                                                              \
	 .def = (def_),                                                                                                \
	 .range = (range_),                                                                                            \
	 .unit = (unit_),                                                                                              \
	 .text = (text_),                                                                                              \
	 .off = offsetof(struct mc_config, field),                                                                     \
	 .kind = KIND_##kind_},
	MC_CONFIG_DEFS(DEF)
#undef DEF
};

mc_status_t mc_config_fault(const struct mc_config_err *e, const char *fmt, ...)
{
	va_list ap;

	if (e->len > 0) {
		va_start(ap, fmt);
		if (vsnprintf(e->buf, e->len, fmt, ap) < 0)
			e->buf[0] = '\0';
		va_end(ap);
	}
	return MC_ERR_CONFIG;
}

const char *mc_config_quote(const char *text, char out[MC_CONFIG_QUOTE_MAX])
{
	size_t used = 0;

	for (; *text != '\0'; text++) {
		const unsigned char c = (unsigned char)*text;

		if (used + 8 > MC_CONFIG_QUOTE_MAX) {
			memcpy(out + used, "...", 3);
			used += 3;
			break;
		}
		if (c < 0x20 || c == 0x7f)
			used += (size_t)snprintf(out + used, MC_CONFIG_QUOTE_MAX - used, "\\x%02x", c);
		else
			out[used++] = (char)c;
	}
	out[used] = '\0';
	return out;
}

/* ---- names ---- */

static const struct setting_def *def_find(const char *name)
{
	for (size_t i = 0; i < MC_ARRAY_LEN(defs); i++)
		if (strcmp(defs[i].name, name) == 0)
			return &defs[i];
	return NULL;
}

/* Not toupper(): what a name is must not depend on the program's locale. */
static char upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/*
 * Damerau-Levenshtein distance (adjacent swaps, each place edited once) without regard to case; what is beyond
 * NAME_MAX_LEN of either does not count. Three rows are enough: a swap looks two rows back.
 */
static unsigned edit_distance(const char *a, const char *b)
{
	const size_t a_len = strnlen(a, NAME_MAX_LEN), b_len = strnlen(b, NAME_MAX_LEN);
	unsigned row[3][NAME_MAX_LEN + 1];

	for (size_t j = 0; j <= b_len; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= a_len; i++) {
		unsigned *cur = row[i % 3];
		const unsigned *prev = row[(i + 2) % 3], *prev2 = row[(i + 1) % 3];

		cur[0] = (unsigned)i;
		for (size_t j = 1; j <= b_len; j++) {
			const bool same = upper(a[i - 1]) == upper(b[j - 1]);
			unsigned d = prev[j - 1] + (same ? 0 : 1);

			if (prev[j] + 1 < d)
				d = prev[j] + 1;
			if (cur[j - 1] + 1 < d)
				d = cur[j - 1] + 1;
			if (i > 1 && j > 1 && upper(a[i - 1]) == upper(b[j - 2]) &&
			    upper(a[i - 2]) == upper(b[j - 1]) && prev2[j - 2] + 1 < d)
				d = prev2[j - 2] + 1;
			cur[j] = d;
		}
	}
	return row[a_len % 3][b_len];
}

static const char *nearest_name(const char *name, unsigned *distance_out)
{
	const char *best = defs[0].name;
	unsigned best_d = UINT32_MAX;

	for (size_t i = 0; i < MC_ARRAY_LEN(defs); i++) {
		const unsigned d = edit_distance(name, defs[i].name);

		if (d < best_d) {
			best_d = d;
			best = defs[i].name;
		}
	}
	*distance_out = best_d;
	return best;
}

/* where: "" or "FILE line 3: " */
static mc_status_t unknown_name(const char *name, const char *where, const struct mc_config_err *e)
{
	char q[MC_CONFIG_QUOTE_MAX];
	unsigned d;
	const char *near = nearest_name(name, &d);

	return mc_config_fault(e, "%sunknown setting %s; %s %s%s", where, mc_config_quote(name, q),
			       d <= 4 ? "did you mean" : "the nearest one is", near, d <= 4 ? "?" : "");
}

/* ---- text to value ---- */

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{"", 1},
	{"K", UINT64_C(1) << 10},
	{"M", UINT64_C(1) << 20},
	{"G", UINT64_C(1) << 30},
	{"T", UINT64_C(1) << 40},
	{NULL, 0},
};
static const struct unit dur_units[] = {
	{"", 1000000000},
	{"s", 1000000000},
	{"ms", 1000000},
	{"us", 1000},
	{"ns", 1},
	{"m", UINT64_C(60) * 1000000000},
	{"h", UINT64_C(3600) * 1000000000},
	{NULL, 0},
};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

/* Behind a decimal point: at most nine digits, as a share of factor, rounded down. */
static bool parse_fraction(const char **p, uint64_t *billionths)
{
	uint64_t v = 0, scale = 1000000000;
	const char *c = *p;

	for (; *c >= '0' && *c <= '9'; c++) {
		scale /= 10;
		if (scale == 0)
			return false;
		v += (uint64_t)(*c - '0') * scale;
	}
	if (c == *p)
		return false;
	*p = c;
	*billionths = v;
	return true;
}

/* Digits, for durations with a decimal fraction, then one of the units; false: not that, or beyond 64 bits. */
static bool parse_number(const char *text, const struct unit *units, uint64_t *out)
{
	uint64_t v = 0, frac = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++)
		if (!mc_mul_u64(v, 10, &v) || !mc_add_u64(v, (uint64_t)(*p - '0'), &v))
			return false;
	if (p == text)
		return false;
	if (*p == '.' && units == dur_units) {
		p++;
		if (!parse_fraction(&p, &frac))
			return false;
	}
	while (units->name != NULL && strcasecmp(p, units->name) != 0)
		units++;
	if (units->name == NULL || !mc_mul_u64(v, units->factor, &v))
		return false;
	/* factor is at most an hour in ns: its product with the 30 bits of frac needs a split to fit 64 bits. */
	return mc_add_u64(v, units->factor / 1000000000 * frac + units->factor % 1000000000 * frac / 1000000000, out);
}

/* range is "min..max" in the notation of the values. */
static bool in_range(const char *range, const struct unit *units, uint64_t v)
{
	const char *dots = strstr(range, "..");
	char min_text[CHOICE_MAX];
	uint64_t min, max;

	if (dots == NULL)
		return true;
	snprintf(min_text, sizeof(min_text), "%.*s", (int)(dots - range), range);
	return parse_number(min_text, units, &min) && parse_number(dots + 2, units, &max) && v >= min && v <= max;
}

static bool choice_at(const char *choices, int index, char out[CHOICE_MAX])
{
	for (; index > 0; index--) {
		choices = strchr(choices, '|');
		if (choices == NULL)
			return false;
		choices++;
	}
	snprintf(out, CHOICE_MAX, "%.*s", (int)strcspn(choices, "|"), choices);
	return true;
}

static mc_status_t set_enum(int *field, const struct setting_def *d, const char *text, const char *where,
			    const struct mc_config_err *e)
{
	char choice[CHOICE_MAX], near[CHOICE_MAX] = "", q[MC_CONFIG_QUOTE_MAX];
	unsigned near_d = 3;

	for (int i = 0; choice_at(d->range, i, choice); i++) {
		const unsigned dist = edit_distance(text, choice);

		if (strcmp(text, choice) == 0) {
			*field = i;
			return MC_OK;
		}
		if (dist < near_d) {
			near_d = dist;
			memcpy(near, choice, sizeof(near));
		}
	}
	return mc_config_fault(e, "%s%s=%s: must be one of %s%s%s%s", where, d->name, mc_config_quote(text, q),
			       d->range, near[0] != '\0' ? "; did you mean " : "", near, near[0] != '\0' ? "?" : "");
}

static mc_status_t set_number(void *field, const struct setting_def *d, const char *text, const char *where,
			      const struct mc_config_err *e)
{
	static const char *const forms[] = {
		[KIND_UINT] = "a whole number",
		[KIND_SIZE] = "a size in bytes such as 4096, 64K, 1M, 2G",
		[KIND_DUR] = "a duration such as 500ms, 2s, 20us, or seconds as a number",
	};
	const struct unit *units = d->kind == KIND_SIZE ? size_units : d->kind == KIND_DUR ? dur_units : no_units;
	char q[MC_CONFIG_QUOTE_MAX];
	uint64_t v;

	mc_config_quote(text, q);
	if (!parse_number(text, units, &v))
		return mc_config_fault(e, "%s%s=%s: must be %s, %s", where, d->name, q, forms[d->kind], d->range);
	if (!in_range(d->range, units, v) || v > INT64_MAX || (d->kind == KIND_UINT && v > UINT32_MAX))
		return mc_config_fault(e, "%s%s=%s: outside %s", where, d->name, q, d->range);
	if (d->off == offsetof(struct mc_config, shm_ring) && (v & (v - 1)) != 0)
		return mc_config_fault(e, "%s%s=%s: must be a power of two", where, d->name, q);
	if (d->kind == KIND_UINT)
		*(uint32_t *)field = (uint32_t)v;
	else if (d->kind == KIND_SIZE)
		*(uint64_t *)field = v;
	else
		*(int64_t *)field = (int64_t)v;
	return MC_OK;
}

static mc_status_t set_bool(int *field, const struct setting_def *d, const char *text, const char *where,
			    const struct mc_config_err *e)
{
	static const struct {
		const char *word;
		int value;
	} words[] = {{"yes", 1}, {"1", 1}, {"on", 1}, {"true", 1}, {"no", 0}, {"0", 0}, {"off", 0}, {"false", 0}};
	char q[MC_CONFIG_QUOTE_MAX];

	for (size_t i = 0; i < MC_ARRAY_LEN(words); i++)
		if (strcasecmp(text, words[i].word) == 0) {
			*field = words[i].value;
			return MC_OK;
		}
	return mc_config_fault(e, "%s%s=%s: must be yes or no (also 1, 0, on, off, true, false)", where, d->name,
			       mc_config_quote(text, q));
}

/* Limits that the consumers of a string have. A secret's value must not get into a message. */
static mc_status_t check_string(const struct setting_def *d, const char *text, const char *where,
				const struct mc_config_err *e)
{
	const size_t len = strlen(text);
	size_t max = VALUE_MAX - 1;

	if (d->kind == KIND_SECRET) {
		if (len > 0 && (len != 64 || strspn(text, "0123456789abcdefABCDEF") != 64))
			return mc_config_fault(e, "%s%s: must be 64 hexadecimal digits (it has %zu characters)", where,
					       d->name, len);
		return MC_OK;
	}
	if (d->off == offsetof(struct mc_config, role))
		max = MC_ROLE_MAX - 1;
	else if (d->off == offsetof(struct mc_config, host))
		max = MC_NAME_MAX - 1;
	else if (d->off == offsetof(struct mc_config, job))
		max = 127; /* MC_BRIDGE_JOB_MAX, with a NUL */
	if (len > max)
		return mc_config_fault(e, "%s%s: has %zu bytes, at most %zu are possible", where, d->name, len, max);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return mc_config_fault(e, "%s%s: holds a control character at byte %zu", where, d->name, i);
	return MC_OK;
}

static mc_status_t set_string(char **field, const struct setting_def *d, const char *text, const char *where,
			      const struct mc_config_err *e)
{
	const mc_status_t s = check_string(d, text, where, e);
	char *copy;

	if (s != MC_OK)
		return s;
	copy = strdup(text);
	if (copy == NULL) {
		mc_config_fault(e, "%s%s: no memory", where, d->name);
		return MC_ERR_NOMEM;
	}
	free(*field);
	*field = copy;
	return MC_OK;
}

static mc_status_t set_value(struct mc_config *cfg, const struct setting_def *d, const char *text, const char *where,
			     const struct mc_config_err *e)
{
	void *field = (char *)cfg + d->off;

	switch (d->kind) {
	case KIND_ENUM:
		return set_enum(field, d, text, where, e);
	case KIND_BOOL:
		return set_bool(field, d, text, where, e);
	case KIND_STR:
	case KIND_SECRET:
		return set_string(field, d, text, where, e);
	default:
		return set_number(field, d, text, where, e);
	}
}

/* ---- sources ---- */

/* Unknown MC_ names in the environment: a typing error there would otherwise go unnoticed. */
static mc_status_t check_env_names(const struct mc_config_err *e)
{
	for (char **v = environ; v != NULL && *v != NULL; v++) {
		const char *eq = strchr(*v, '=');
		char *name;
		mc_status_t s;

		if (strncmp(*v, "MC_", 3) != 0 || eq == NULL)
			continue;
		name = strndup(*v, (size_t)(eq - *v));
		if (name == NULL) {
			mc_config_fault(e, "no memory to read the environment");
			return MC_ERR_NOMEM;
		}
		s = def_find(name) != NULL ? MC_OK : unknown_name(name, "", e);
		free(name);
		if (s != MC_OK)
			return s;
	}
	return MC_OK;
}

static mc_status_t apply_file(struct mc_config *cfg, const char *path, const struct mc_config_err *e)
{
	char where[WHERE_MAX], q[MC_CONFIG_QUOTE_MAX];
	struct mc_config_file f;
	mc_status_t s = mc_config_file_read(path, &f, e);

	if (s != MC_OK)
		return s;
	mc_config_quote(path, q);
	for (size_t i = 0; i < f.n && s == MC_OK; i++) {
		const struct setting_def *d = def_find(f.item[i].name);

		if (f.item[i].line > 0)
			snprintf(where, sizeof(where), "%s line %u: ", q, f.item[i].line);
		else
			snprintf(where, sizeof(where), "%s: ", q);
		if (d == NULL)
			s = unknown_name(f.item[i].name, where, e);
		else if (d->off == offsetof(struct mc_config, config_file))
			s = mc_config_fault(e, "%sa file of settings cannot name another by MC_CONFIG", where);
		else
			s = set_value(cfg, d, f.item[i].value, where, e);
	}
	mc_config_file_free(&f);
	return s;
}

static mc_status_t apply_all(struct mc_config *cfg, const struct mc_config_err *e)
{
	const char *path = getenv("MC_CONFIG");
	mc_status_t s = MC_OK;

	for (size_t i = 0; i < MC_ARRAY_LEN(defs) && s == MC_OK; i++)
		s = set_value(cfg, &defs[i], defs[i].def, "default ", e);
	if (s == MC_OK)
		s = check_env_names(e);
	if (s == MC_OK && path != NULL && path[0] != '\0')
		s = apply_file(cfg, path, e);
	for (size_t i = 0; i < MC_ARRAY_LEN(defs) && s == MC_OK; i++) {
		const char *text = getenv(defs[i].name);

		if (text != NULL)
			s = set_value(cfg, &defs[i], text, "", e);
	}
	return s;
}

mc_status_t mc_config_load(struct mc_config *cfg, char *err, size_t err_len)
{
	const struct mc_config_err e = {.buf = err, .len = err_len};
	mc_status_t s;

	*cfg = (struct mc_config){0};
	s = apply_all(cfg, &e);
	if (s != MC_OK)
		mc_config_free(cfg);
	return s;
}

mc_status_t mc_config_set(struct mc_config *cfg, const char *name, const char *value, char *err, size_t err_len)
{
	const struct mc_config_err e = {.buf = err, .len = err_len};
	const struct setting_def *d = def_find(name);

	return d == NULL ? unknown_name(name, "", &e) : set_value(cfg, d, value, "", &e);
}

void mc_config_free(struct mc_config *cfg)
{
	for (size_t i = 0; i < MC_ARRAY_LEN(defs); i++)
		if (defs[i].kind == KIND_STR || defs[i].kind == KIND_SECRET)
			free(*(char **)(void *)((char *)cfg + defs[i].off));
	*cfg = (struct mc_config){0};
}

bool mc_config_launched(void)
{
	return getenv("PMIX_NAMESPACE") != NULL;
}

const char *mc_config_unwired(void)
{
	/* Of the step, not the allocation: a program that a batch script starts by itself is alone indeed. */
	const char *step = getenv("SLURM_STEP_NUM_TASKS"), *pmi = getenv("PMI_SIZE");

	if (step != NULL && strcmp(step, "0") != 0 && strcmp(step, "1") != 0)
		return "srun without --mpi=pmix";
	if (pmi != NULL && strcmp(pmi, "0") != 0 && strcmp(pmi, "1") != 0)
		return "a launcher that speaks PMI but not PMIx, e.g. MPICH's";
	return NULL;
}

/* ---- public ---- */

mc_status_t mc_setting_check(const char *name, const char *value, char *err, size_t len)
{
	const struct mc_config_err e = {.buf = err, .len = len};
	const struct setting_def *d = def_find(name);
	struct mc_config scratch = {0};
	mc_status_t s = MC_OK;

	if (d == NULL)
		return unknown_name(name, "", &e);
	if (value != NULL)
		s = set_value(&scratch, d, value, "", &e);
	mc_config_free(&scratch);
	return s;
}

mc_status_t mc_setting_check_env(char *err, size_t len)
{
	struct mc_config cfg;
	const mc_status_t s = mc_config_load(&cfg, err, len);

	mc_config_free(&cfg);
	return s;
}

/* The text that the file at path gives a setting, to be freed; NULL: none, or no such file. */
static char *text_in_file(const char *path, const char *name)
{
	const struct mc_config_err nobody = {0};
	struct mc_config_file f;
	char *text = NULL;

	if (mc_config_file_read(path, &f, &nobody) != MC_OK)
		return NULL;
	for (size_t i = 0; i < f.n; i++)
		if (strcmp(f.item[i].name, name) == 0 && text == NULL)
			text = strdup(f.item[i].value);
	mc_config_file_free(&f);
	return text;
}

mc_status_t mc_setting_get(uint32_t index, struct mc_setting *out, char *buf, size_t len)
{
	static const char *const types[] = {"enum", "uint", "size", "duration", "bool", "string", "string"};
	const char *path = getenv("MC_CONFIG"), *value, *source = "environment";
	const struct setting_def *d;
	char *from_file = NULL;
	size_t used = 0;
	mc_status_t s;

	if (index >= MC_ARRAY_LEN(defs))
		return MC_ERR_NOENT;
	d = &defs[index];
	value = getenv(d->name);
	if (value == NULL && path != NULL && path[0] != '\0') {
		from_file = text_in_file(path, d->name);
		value = from_file;
		source = "file";
	}
	if (value == NULL) {
		value = d->def;
		source = "default";
	}
	s = mc_setting_check(d->name, value, NULL, 0);
	if (d->off == offsetof(struct mc_config, config_file) && path != NULL && path[0] != '\0') {
		/* A bad file shows here: the value of every other setting can then only be what there is without it. */
		struct mc_config scratch = {0};

		s = apply_file(&scratch, path, &(const struct mc_config_err){0});
		mc_config_free(&scratch);
	}
	if (d->kind == KIND_SECRET && value[0] != '\0')
		value = "(set)";

	/* A file's name has no place of its own in the structure: it stands in buf behind the value. */
	if (len > 0) {
		const int n = snprintf(buf, len, "%s", value);

		used = n < 0 ? len : (size_t)n + 1;
	}
	if (from_file != NULL && used < len) {
		snprintf(buf + used, len - used, "file %s", path);
		source = buf + used;
	}
	free(from_file);
	*out = (struct mc_setting){
		.name = d->name,
		.type = types[d->kind],
		.value = len > 0 ? buf : "",
		.source = source,
		.def = d->def,
		.unit = d->unit,
		.text = d->text,
	};
	return s;
}

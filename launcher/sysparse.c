/* SPDX-License-Identifier: BSD-3-Clause */
#include "sysparse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLANK " \t\r\n"

static bool only_blanks(const char *s)
{
	return s[strspn(s, BLANK)] == '\0';
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

/* Digits of this base; NULL: none, or more than 64 bits. */
static const char *digits(const char *s, unsigned base, uint64_t *out)
{
	uint64_t v = 0;
	const char *p = s;

	for (; (unsigned)digit_of(*p) < base; p++)
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)digit_of(*p), &v))
			return NULL;
	if (p == s)
		return NULL;
	*out = v;
	return p;
}

bool mc_sys_u64(const char *s, uint64_t *out)
{
	uint64_t v;

	s += strspn(s, BLANK);
	bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
	const char *end = hex ? digits(s + 2, 16, &v) : digits(s, 10, &v);
	if (end == NULL || !only_blanks(end))
		return false;
	*out = v;
	return true;
}

bool mc_sys_hex(const char *s, uint64_t *out)
{
	uint64_t v;
	const char *end = digits(s + strspn(s, BLANK), 16, &v);

	if (end == NULL || !only_blanks(end))
		return false;
	*out = v;
	return true;
}

bool mc_sys_i64(const char *s, int64_t *out)
{
	uint64_t v;

	s += strspn(s, BLANK);
	bool minus = *s == '-';
	if (!mc_sys_u64(s + minus, &v) || v > INT64_MAX ||
	    (minus && strspn(s + 1, "0123456789") != strcspn(s + 1, BLANK)))
		return false;
	*out = minus ? -(int64_t)v : (int64_t)v;
	return true;
}

bool mc_sys_max(const char *s, uint64_t *out)
{
	const char *p = s + strspn(s, BLANK);
	size_t len = strcspn(p, BLANK);

	if ((len == 3 && memcmp(p, "max", 3) == 0) || (len == 9 && memcmp(p, "unlimited", 9) == 0)) {
		if (!only_blanks(p + len))
			return false;
		*out = UINT64_MAX;
		return true;
	}
	return mc_sys_u64(s, out);
}

/* Copy [from, end) without blanks at its end. False: it does not fit or has control characters. */
static bool copy_text(const char *from, const char *end, char *out, size_t len)
{
	while (end > from && strchr(BLANK, end[-1]) != NULL)
		end--;
	size_t n = (size_t)(end - from);
	if (n >= len)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)from[i] < ' ' && from[i] != '\t')
			return false;
	memcpy(out, from, n);
	out[n] = '\0';
	return true;
}

bool mc_sys_state(const char *s, uint32_t *num_out, char *name, size_t len)
{
	uint64_t v;
	const char *end = digits(s + strspn(s, BLANK), 10, &v);

	if (end == NULL || *end != ':' || v > 255)
		return false;
	end += 1 + strspn(end + 1, BLANK);
	if (*end == '\0' || !copy_text(end, end + strlen(end), name, len))
		return false;
	*num_out = (uint32_t)v;
	return true;
}

/* "2.5" in thousandths; at most 1e9 before the point. */
static const char *thousandths(const char *s, uint32_t *out)
{
	uint64_t v;
	const char *p = digits(s, 10, &v);
	uint32_t unit = 1000, part = 0;

	if (p == NULL || v > 4000000)
		return NULL;
	if (*p == '.') {
		const char *from = ++p;

		for (; *p >= '0' && *p <= '9'; p++) {
			unit /= 10;
			part += (uint32_t)(*p - '0') * unit;
		}
		if (p == from)
			return NULL;
	}
	*out = (uint32_t)v * 1000 + part;
	return p;
}

static bool rate_in(const char *s, const char *unit, uint32_t *out)
{
	uint32_t v;
	const char *p = thousandths(s + strspn(s, BLANK), &v);

	if (p == NULL)
		return false;
	p += strspn(p, " ");
	size_t len = strlen(unit);
	if (strncmp(p, unit, len) != 0 || (p[len] != '\0' && strchr(BLANK, p[len]) == NULL))
		return false;
	*out = v;
	return true;
}

bool mc_sys_rate(const char *s, uint32_t *mbps_out)
{
	return rate_in(s, "Gb/sec", mbps_out);
}

bool mc_sys_gts(const char *s, uint32_t *mts_out)
{
	return rate_in(s, "GT/s", mts_out);
}

bool mc_sys_gid(const char *s, uint8_t raw[16])
{
	uint8_t v[16];

	s += strspn(s, BLANK);
	for (int i = 0; i < 16; i++) {
		int hi = digit_of(s[0]), lo = hi < 16 ? digit_of(s[1]) : 16;

		if (lo > 15)
			return false;
		v[i] = (uint8_t)(hi * 16 + lo);
		s += 2;
		if (i % 2 == 1 && i < 15 && *s++ != ':')
			return false;
	}
	if (!only_blanks(s))
		return false;
	memcpy(raw, v, sizeof(v));
	return true;
}

enum mc_gid_kind mc_sys_gid_kind(const uint8_t raw[16])
{
	static const uint8_t zero[16] = {0};
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	bool no_id = memcmp(raw + 8, zero, 8) == 0;

	if (memcmp(raw, zero, 16) == 0)
		return MC_GID_ZERO;
	if (memcmp(raw, mapped, 12) == 0)
		return memcmp(raw + 12, zero, 4) == 0 ? MC_GID_ZERO : MC_GID_IPV4;
	if (raw[0] == 0xfe && (raw[1] & 0xc0) == 0x80)
		return no_id ? MC_GID_ZERO : MC_GID_LINK_LOCAL;
	return MC_GID_GLOBAL;
}

/* Start of the line that begins with key, behind the key; NULL: none. */
static const char *line_of(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *p = text; *p != '\0'; p += *p == '\n') {
		if (strncmp(p, key, len) == 0 && (p[len] == ':' || p[len] == ' ' || p[len] == '\t'))
			return p + len;
		p += strcspn(p, "\n");
	}
	return NULL;
}

static const char *one_limit(const char *s, uint64_t *out)
{
	uint64_t v;

	s += strspn(s, " \t");
	if (strncmp(s, "unlimited", 9) == 0) {
		*out = UINT64_MAX;
		return s + 9;
	}
	const char *end = digits(s, 10, &v);
	if (end != NULL)
		*out = v;
	return end;
}

bool mc_sys_limit(const char *limits, const char *name, uint64_t *soft_out, uint64_t *hard_out)
{
	const char *p = line_of(limits, name);
	uint64_t soft, hard;

	if (p == NULL)
		return false;
	p = one_limit(p, &soft);
	if (p == NULL || (*p != ' ' && *p != '\t'))
		return false;
	p = one_limit(p, &hard);
	if (p == NULL || (*p != '\0' && strchr(BLANK, *p) == NULL))
		return false;
	*soft_out = soft;
	*hard_out = hard;
	return true;
}

bool mc_sys_field(const char *text, const char *key, char *out, size_t len)
{
	const char *p = line_of(text, key);

	if (p == NULL)
		return false;
	p += *p == ':';
	p += strspn(p, " \t");
	return copy_text(p, p + strcspn(p, "\n"), out, len);
}

bool mc_sys_field_bytes(const char *text, const char *key, uint64_t *out)
{
	char rest[64];
	uint64_t v;

	if (!mc_sys_field(text, key, rest, sizeof(rest)))
		return false;
	const char *end = digits(rest, 10, &v);
	if (end == NULL)
		return false;
	if (strcmp(end, " kB") == 0 && __builtin_mul_overflow(v, UINT64_C(1024), &v))
		return false;
	if (*end != '\0' && strcmp(end, " kB") != 0)
		return false;
	*out = v;
	return true;
}

static bool has_word(const char *list, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; p < list + len;) {
		size_t w = strcspn(p, ",:\n");

		if (w == n && memcmp(p, word, n) == 0)
			return true;
		p += w + 1;
	}
	return false;
}

static bool path_is_inside(const char *path)
{
	if (*path != '/')
		return false;
	for (const char *p = path; (p = strstr(p, "..")) != NULL; p += 2)
		if (p[-1] == '/' && (p[2] == '/' || p[2] == '\0'))
			return false;
	return true;
}

bool mc_sys_cgroup_path(const char *text, const char *controller, char *out, size_t len)
{
	char path[4096];

	for (const char *p = text; *p != '\0'; p += *p == '\n') {
		const char *end = p + strcspn(p, "\n"), *list = memchr(p, ':', (size_t)(end - p));
		const char *colon = list == NULL ? NULL : memchr(list + 1, ':', (size_t)(end - list - 1));

		if (colon != NULL) {
			size_t n = (size_t)(colon - list - 1);
			bool fits = controller == NULL ? n == 0 && list == p + 1 && *p == '0'
						       : n > 0 && has_word(list + 1, n, controller);

			if (fits) {
				if (!copy_text(colon + 1, end, path, sizeof(path)) || !path_is_inside(path) ||
				    strlen(path) >= len)
					return false;
				memcpy(out, path, strlen(path) + 1);
				return true;
			}
		}
		p = end;
	}
	return false;
}

/* One word of a mountinfo line, \040 and the like as the characters they stand for. NULL: no word, or too long. */
static const char *mount_word(const char *s, char *out, size_t len)
{
	size_t n = 0;

	while (*s == ' ')
		s++;
	if (*s == '\0' || *s == '\n')
		return NULL;
	while (*s != '\0' && *s != ' ' && *s != '\n') {
		char c = *s++;

		if (c == '\\' && s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' &&
		    s[2] <= '7') {
			c = (char)((s[0] - '0') * 64 + (s[1] - '0') * 8 + (s[2] - '0'));
			s += 3;
		}
		if (n + 1 >= len || c == '\0')
			return NULL;
		out[n++] = c;
	}
	out[n] = '\0';
	return s;
}

static bool mount_line(const char *s, struct mc_sys_mount *m)
{
	char skip[512];

	for (int i = 0; i < 3 && s != NULL; i++) /* id, parent, device */
		s = mount_word(s, skip, sizeof(skip));
	s = s == NULL ? NULL : mount_word(s, m->root, sizeof(m->root));
	s = s == NULL ? NULL : mount_word(s, m->point, sizeof(m->point));
	do
		s = s == NULL ? NULL : mount_word(s, skip, sizeof(skip));
	while (s != NULL && strcmp(skip, "-") != 0);
	s = s == NULL ? NULL : mount_word(s, m->type, sizeof(m->type));
	s = s == NULL ? NULL : mount_word(s, skip, sizeof(skip)); /* source */
	return s != NULL && mount_word(s, m->options, sizeof(m->options)) != NULL;
}

bool mc_sys_mount(const char *text, const char *type, const char *point, const char *option, struct mc_sys_mount *out)
{
	struct mc_sys_mount m;
	bool found = false;

	for (const char *p = text; *p != '\0'; p += *p == '\n') {
		if (mount_line(p, &m) && (type == NULL || strcmp(m.type, type) == 0) &&
		    (point == NULL || strcmp(m.point, point) == 0) &&
		    (option == NULL || has_word(m.options, strlen(m.options), option))) {
			*out = m;
			found = true;
		}
		p += strcspn(p, "\n");
	}
	return found;
}

/* "3" or "2-5" of a list; NULL: neither. */
static const char *range_of(const char *s, uint64_t *lo, uint64_t *hi)
{
	s = digits(s, 10, lo);
	if (s == NULL || *lo >= UINT32_MAX)
		return NULL;
	*hi = *lo;
	if (*s == '-')
		s = digits(s + 1, 10, hi);
	return s == NULL || *hi >= UINT32_MAX || *hi < *lo ? NULL : s;
}

bool mc_sys_list_count(const char *list, uint32_t *n_out)
{
	uint64_t lo, hi, n = 0;

	list += strspn(list, BLANK);
	if (*list != '\0') {
		for (;; list++) {
			list = range_of(list, &lo, &hi);
			if (list == NULL)
				return false;
			n += hi - lo + 1;
			if (*list != ',')
				break;
		}
	}
	if (!only_blanks(list) || n > UINT32_MAX)
		return false;
	*n_out = (uint32_t)n;
	return true;
}

static bool meets_range(const char *list, uint64_t lo, uint64_t hi)
{
	uint64_t a, b;

	for (list += strspn(list, BLANK); (list = range_of(list, &a, &b)) != NULL; list++) {
		if (a <= hi && lo <= b)
			return true;
		if (*list != ',')
			break;
	}
	return false;
}

bool mc_sys_list_meets(const char *list, const char *other, bool *meets_out)
{
	uint64_t lo, hi;
	uint32_t n;
	bool meets = false;

	if (!mc_sys_list_count(list, &n) || !mc_sys_list_count(other, &n))
		return false;
	for (list += strspn(list, BLANK); !meets && (list = range_of(list, &lo, &hi)) != NULL; list++) {
		meets = meets_range(other, lo, hi);
		if (*list != ',')
			break;
	}
	*meets_out = meets;
	return true;
}

bool mc_sys_version(const char *s, uint32_t *major_out, uint32_t *minor_out)
{
	uint64_t a, b;

	s = digits(s + strspn(s, BLANK), 10, &a);
	if (s == NULL || *s != '.' || digits(s + 1, 10, &b) == NULL || a > 1000 || b > 100000)
		return false;
	*major_out = (uint32_t)a;
	*minor_out = (uint32_t)b;
	return true;
}

bool mc_sys_acs(const uint8_t *cfg, size_t len, uint16_t *control_out)
{
	size_t at = 0x100;

	for (int i = 0; i < 64 && at >= 0x100 && at + 8 <= len; i++) { /* more would be a ring */
		uint32_t head = (uint32_t)cfg[at] | (uint32_t)cfg[at + 1] << 8 | (uint32_t)cfg[at + 2] << 16 |
				(uint32_t)cfg[at + 3] << 24;

		if (head == 0 || head == UINT32_MAX)
			return false;
		if ((head & 0xffff) == 0x000d) {
			*control_out = (uint16_t)(cfg[at + 6] | cfg[at + 7] << 8);
			return true;
		}
		at = head >> 20;
	}
	return false;
}

bool mc_sys_size(const char *s, uint64_t *out)
{
	static const char units[] = "KMGTP";
	uint32_t v;
	uint64_t n;
	unsigned shift = 0;
	const char *p = digits(s, 10, &n);

	if (p == NULL)
		return false;
	if (*p == '.') {
		p = thousandths(s, &v);
		if (p == NULL || *p == '\0')
			return false; /* half a byte */
	}
	bool part = memchr(s, '.', (size_t)(p - s)) != NULL;
	const char *u = *p == '\0' ? NULL : strchr(units, *p >= 'a' ? *p - 32 : *p);
	if (u != NULL) {
		shift = 10 * (unsigned)(u - units + 1);
		p++;
		p += *p == 'i';
		p += *p == 'B';
	}
	if (*p != '\0' || (part && shift == 0))
		return false;
	if (part) {
		n = ((uint64_t)v << 10) / 1000;
		shift -= 10;
	}
	if (n > (UINT64_MAX >> shift))
		return false;
	*out = n << shift;
	return true;
}

bool mc_sys_is_bdf(const char *s)
{
	static const char shape[] = "xxxx:xx:xx.x";

	for (size_t i = 0; i < sizeof(shape) - 1; i++)
		if (shape[i] == 'x' ? digit_of(s[i]) > 15 : s[i] != shape[i])
			return false;
	return s[sizeof(shape) - 1] == '\0';
}

void mc_sys_bytes_text(uint64_t n, char *out, size_t len)
{
	static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)n;
	unsigned u = 0;

	if (n == UINT64_MAX) {
		(void)snprintf(out, len, "unlimited");
		return;
	}
	for (; v >= 1024 && u < 6; u++)
		v /= 1024;
	(void)snprintf(out, len, "%.*f %s", u == 0 || v >= 100 || v - (double)(uint64_t)v < 0.05 ? 0 : 1, v, unit[u]);
}

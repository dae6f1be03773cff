/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_parse.c - the texts of sysfs and /proc. Pure; the input is any bytes with a length, not a string. */
#include <ctype.h>
#include <string.h>

#include "topo_impl.h"

/* Blanks and newlines at both ends do not count. */
static const char *trim(const char *s, size_t *len)
{
	while (*len > 0 && isspace((unsigned char)s[0])) {
		s++;
		(*len)--;
	}
	while (*len > 0 && (isspace((unsigned char)s[*len - 1]) || s[*len - 1] == '\0'))
		(*len)--;
	return s;
}

static bool equals(const char *s, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(s, word, len) == 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool mc_topo_parse_u64(const char *s, size_t len, uint64_t *out)
{
	uint64_t v = 0;
	uint32_t base = 10;

	s = trim(s, &len);
	if (len > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		base = 16;
		s += 2;
		len -= 2;
	}
	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++) {
		int d = hex_digit(s[i]);
		if (d < 0 || (uint32_t)d >= base || !mc_mul_u64(v, base, &v) || !mc_add_u64(v, (uint64_t)d, &v))
			return false;
	}
	*out = v;
	return true;
}

bool mc_topo_parse_i64(const char *s, size_t len, int64_t *out)
{
	uint64_t v;
	bool minus;

	s = trim(s, &len);
	minus = len > 0 && s[0] == '-';
	if (minus) {
		s++;
		len--;
	}
	if (len == 0 || !isdigit((unsigned char)s[0]) || !mc_topo_parse_u64(s, len, &v) || v > INT64_MAX)
		return false;
	*out = minus ? -(int64_t)v : (int64_t)v;
	return true;
}

bool mc_topo_parse_word(const char *s, size_t len, char *out, size_t out_len)
{
	s = trim(s, &len);
	if (len == 0 || len >= out_len)
		return false;
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)s[i] < 0x20 || (unsigned char)s[i] >= 0x7f)
			return false;
	}
	memcpy(out, s, len);
	out[len] = '\0';
	return true;
}

bool mc_topo_parse_state(const char *s, size_t len, enum mc_topo_state *out)
{
	s = trim(s, &len);
	/* Only the number counts; the word is there for people. */
	if (len == 0 || s[0] < '0' || s[0] > '5' || (len > 1 && s[1] != ':' && !isspace((unsigned char)s[1])))
		return false;
	*out = (enum mc_topo_state)(s[0] - '0');
	return true;
}

bool mc_topo_parse_phys_state(const char *s, size_t len, char *out, size_t out_len)
{
	const char *colon;

	s = trim(s, &len);
	colon = len > 0 ? memchr(s, ':', len) : NULL;
	if (colon == NULL)
		return false;
	return mc_topo_parse_word(colon + 1, len - (size_t)(colon + 1 - s), out, out_len);
}

bool mc_topo_parse_rate(const char *s, size_t len, uint32_t *mbps_out)
{
	uint64_t mbps = 0, scale = 1000;
	size_t i = 0;
	bool point = false;

	s = trim(s, &len);
	for (; i < len && (isdigit((unsigned char)s[i]) || (s[i] == '.' && !point)); i++) {
		if (s[i] == '.') {
			point = true;
		} else if (point) {
			scale /= 10;
			mbps += (uint64_t)(s[i] - '0') * scale;
		} else {
			mbps = mbps * 10 + (uint64_t)(s[i] - '0') * 1000;
			if (mbps > UINT32_MAX)
				return false;
		}
	}
	if (i == 0 || s[0] == '.' || len - i < 3 || strncasecmp(s + i, " Gb", 3) != 0 || mbps > UINT32_MAX)
		return false;
	*mbps_out = (uint32_t)mbps;
	return true;
}

bool mc_topo_parse_link(const char *s, size_t len, enum mc_topo_link *out)
{
	s = trim(s, &len);
	if (equals(s, len, "InfiniBand"))
		*out = MC_TOPO_LINK_INFINIBAND;
	else if (equals(s, len, "Ethernet"))
		*out = MC_TOPO_LINK_ETHERNET;
	else if (equals(s, len, "Unknown") || equals(s, len, "Unspecified"))
		*out = MC_TOPO_LINK_UNKNOWN;
	else
		return false;
	return true;
}

bool mc_topo_parse_gid(const char *s, size_t len, uint8_t out[16])
{
	uint8_t raw[16];

	s = trim(s, &len);
	if (len != 8 * 4 + 7)
		return false;
	for (size_t i = 0; i < 8; i++) {
		const char *g = s + i * 5;
		int d[4];
		for (size_t k = 0; k < 4; k++) {
			d[k] = hex_digit(g[k]);
			if (d[k] < 0)
				return false;
		}
		if (i < 7 && g[4] != ':')
			return false;
		raw[2 * i] = (uint8_t)(d[0] << 4 | d[1]);
		raw[2 * i + 1] = (uint8_t)(d[2] << 4 | d[3]);
	}
	memcpy(out, raw, sizeof(raw));
	return true;
}

bool mc_topo_parse_gid_type(const char *s, size_t len, enum mc_topo_gid_type *out)
{
	s = trim(s, &len);
	if (equals(s, len, "RoCE v2"))
		*out = MC_TOPO_GID_V2;
	else if (equals(s, len, "IB/RoCE v1") || equals(s, len, "RoCE v1"))
		*out = MC_TOPO_GID_V1;
	else
		return false;
	return true;
}

bool mc_topo_parse_operstate(const char *s, size_t len, enum mc_topo_state *out)
{
	s = trim(s, &len);
	if (equals(s, len, "up"))
		*out = MC_TOPO_STATE_UP;
	else if (equals(s, len, "down") || equals(s, len, "lowerlayerdown") || equals(s, len, "notpresent") ||
		 equals(s, len, "dormant"))
		*out = MC_TOPO_STATE_DOWN;
	else if (equals(s, len, "unknown") || equals(s, len, "testing"))
		*out = MC_TOPO_STATE_UNKNOWN;
	else
		return false;
	return true;
}

/* A run of hex digits, at most max of them, as a number; how many there were. */
static size_t hex_run(const char *s, size_t len, size_t max, uint32_t *out)
{
	size_t n = 0;

	*out = 0;
	while (n < len && n < max && hex_digit(s[n]) >= 0) {
		*out = *out << 4 | (uint32_t)hex_digit(s[n]);
		n++;
	}
	return n;
}

bool mc_topo_parse_busid(const char *s, size_t len, char out[24])
{
	uint32_t v[3] = {0, 0, 0}; /* domain, bus, device */
	size_t n, at = 0;
	int parts = 0;

	s = trim(s, &len);
	for (const char *p = s; p < s + len; p++)
		parts += *p == ':';
	if (parts < 1 || parts > 2)
		return false;
	for (int k = parts == 2 ? 0 : 1; k < 3; k++) {
		n = hex_run(s + at, len - at, k == 0 ? 8 : 2, &v[k]);
		at += n;
		if (n == 0 || at >= len || s[at] != (k == 2 ? '.' : ':'))
			return false;
		at++;
	}
	if (len - at != 1 || s[at] < '0' || s[at] > '7' || v[2] > 0x1f)
		return false;
	snprintf(out, 24, "%04x:%02x:%02x.%c", v[0], v[1], v[2], s[at]);
	return true;
}

static bool number(const char *s, size_t len, size_t *at, uint32_t max, uint32_t *out)
{
	uint64_t v = 0;
	size_t from = *at;

	while (*at < len && isdigit((unsigned char)s[*at])) {
		v = v * 10 + (uint64_t)(s[*at] - '0');
		if (v >= max)
			return false;
		(*at)++;
	}
	*out = (uint32_t)v;
	return *at > from;
}

bool mc_topo_parse_list(const char *s, size_t len, uint32_t max, void (*add)(void *arg, uint32_t value), void *arg)
{
	size_t at = 0;

	s = trim(s, &len);
	while (at < len) {
		uint32_t lo, hi;
		if (!number(s, len, &at, max, &lo))
			return false;
		hi = lo;
		if (at < len && s[at] == '-') {
			at++;
			if (!number(s, len, &at, max, &hi) || hi < lo)
				return false;
		}
		for (uint32_t v = lo; v <= hi; v++)
			add(arg, v);
		if (at == len)
			return true;
		if (s[at++] != ',' || at == len)
			return false;
	}
	return true;
}

/* The next line of *s, without its end; NULL: no more. */
static const char *next_line(const char **s, size_t *len, size_t *line_len)
{
	const char *line = *s;
	const char *nl = *len > 0 ? memchr(line, '\n', *len) : NULL;

	if (*len == 0)
		return NULL;
	*line_len = nl != NULL ? (size_t)(nl - line) : *len;
	*s += *line_len + (nl != NULL);
	*len -= *line_len + (nl != NULL);
	return line;
}

/* FNV-1a; never 0. */
static uint64_t network_hash(const uint32_t *word, size_t n)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < n; i++)
		h = (h ^ word[i]) * UINT64_C(0x100000001b3);
	return h != 0 ? h : 1;
}

/* Columns after the name: destination, gateway, flags, references, uses, metric, mask, ... ; each as hex or decimal. */
static bool route_line(const char *s, size_t len, bool *is_default, uint64_t *network)
{
	uint32_t v[8] = {0};
	size_t k = 0, at = 0;

	while (k < 7 && at < len) {
		size_t n = hex_run(s + at, len - at, 8, &v[k]);
		if (n == 0 || (k < 2 && n != 8))
			break;
		k++;
		at += n;
		while (k > 2 && at < len && s[at] != '\t')
			at++; /* a metric of many digits */
		if (at < len && s[at] != '\t')
			break;
		at++;
	}
	if (k == 0)
		return false;
	*is_default = v[0] == 0;
	/* Without a gateway it is the interface's own network. */
	*network = k == 7 && v[0] != 0 && v[1] == 0 ? network_hash((uint32_t[]){4, v[0], v[6]}, 3) : 0;
	return true;
}

void mc_topo_parse_route(const char *s, size_t len, mc_topo_addr_f f, void *arg)
{
	char name[MC_TOPO_NAME_MAX];
	const char *line;
	size_t n;
	bool first = true;

	while ((line = next_line(&s, &len, &n)) != NULL) {
		const char *tab = memchr(line, '\t', n);
		size_t at = tab != NULL ? (size_t)(tab - line) : n;
		bool is_default;
		uint64_t network;
		/* The first line names the columns: interface, destination, gateway, ... */
		if (!first && n > at && mc_topo_parse_word(line, at, name, sizeof(name)) &&
		    route_line(tab + 1, n - at - 1, &is_default, &network))
			f(arg, name, is_default, network);
		first = false;
	}
}

/* 32 hex digits and a prefix length of two. */
static uint64_t inet6_network(const char *address, const char *prefix)
{
	uint32_t word[6] = {6}, bits;

	if (strlen(address) != 32 || hex_run(prefix, strlen(prefix), 2, &bits) == 0 || bits > 128)
		return 0;
	for (uint32_t k = 0; k < 4; k++) {
		uint32_t keep = bits > k * 32 ? bits - k * 32 : 0;
		if (hex_run(address + (size_t)k * 8, 8, 8, &word[1 + k]) != 8)
			return 0;
		if (keep < 32)
			word[1 + k] &= keep == 0 ? 0 : UINT32_MAX << (32 - keep);
	}
	word[5] = bits;
	return network_hash(word, 6);
}

void mc_topo_parse_inet6(const char *s, size_t len, mc_topo_addr_f f, void *arg)
{
	char text[160], *save = NULL;
	const char *line;
	size_t n;

	while ((line = next_line(&s, &len, &n)) != NULL) {
		const char *field[6];
		size_t k = 0;
		if (!mc_topo_parse_word(line, n, text, sizeof(text)))
			continue;
		for (char *p = strtok_r(text, " ", &save); p != NULL && k < 6; p = strtok_r(NULL, " ", &save))
			field[k++] = p;
		/* address, index, prefix length, scope (00: global), flags, interface */
		if (k == 6 && strcmp(field[3], "00") == 0 && strlen(field[5]) < MC_TOPO_NAME_MAX)
			f(arg, field[5], false, inet6_network(field[0], field[2]));
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_sysfs.c - every parser of sysfs, procfs and cgroup text: any bytes give a value within its bounds, or false and
 * an untouched one. Each input goes to all of them; they are small.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rdmacg.h"
#include "sysparse.h"
#include "sysroot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "fuzz_sysfs: %s\n", what);
		abort();
	}
}

static void numbers(const char *s)
{
	uint64_t u = 4711, soft = 1, hard = 2;
	int64_t i = 4711;
	uint32_t a = 4711, b = 4711;
	char name[32];

	must(mc_sys_u64(s, &u) || u == 4711, "u64 touched");
	u = 4711;
	must(mc_sys_max(s, &u) || u == 4711, "max touched");
	u = 4711;
	must(mc_sys_hex(s, &u) || u == 4711, "hex touched");
	must(mc_sys_i64(s, &i) || i == 4711, "i64 touched");
	u = 4711;
	must(mc_sys_size(s, &u) || u == 4711, "size touched");
	must(mc_sys_state(s, &a, name, sizeof(name)) ? a < 256 && name[0] != '\0' : a == 4711, "state");
	a = 4711;
	must(mc_sys_rate(s, &a) || a == 4711, "rate touched");
	a = 4711;
	must(mc_sys_gts(s, &a) || a == 4711, "gts touched");
	a = 4711;
	must(mc_sys_version(s, &a, &b) ? a <= 1000 : a == 4711 && b == 4711, "version");
	must(mc_sys_limit(s, "Max locked memory", &soft, &hard) || (soft == 1 && hard == 2), "limit touched");
	mc_sys_bytes_text(u, name, sizeof(name));
	(void)mc_sys_is_bdf(s);
}

static void lists(const char *s)
{
	uint32_t n = 4711;
	bool meets = false;

	if (mc_sys_list_count(s, &n)) {
		must(mc_sys_list_meets(s, s, &meets), "a list that is none");
		must(meets == (n > 0), "a list that does not meet itself");
		must(mc_sys_list_meets(s, "0-4294967294", &meets) && meets == (n > 0), "a list outside of all numbers");
	} else {
		must(n == 4711 && !mc_sys_list_meets("0", s, &meets), "no list");
	}
}

static void texts(const char *s)
{
	struct mc_sys_mount m;
	uint8_t raw[16];
	uint64_t u;
	char out[256], path[512];

	if (mc_sys_gid(s, raw))
		(void)mc_sys_gid_kind(raw);
	if (mc_sys_field(s, "CapEff", out, sizeof(out)))
		must(strlen(out) < sizeof(out) && strchr(out, '\n') == NULL, "field");
	(void)mc_sys_field_bytes(s, "MemAvailable", &u);
	if (mc_sys_cgroup_path(s, NULL, path, sizeof(path)) || mc_sys_cgroup_path(s, "memory", path, sizeof(path)))
		must(path[0] == '/' && strstr(path, "/../") == NULL, "a path that leads out");
	if (mc_sys_mount(s, "cgroup2", NULL, NULL, &m))
		must(strcmp(m.type, "cgroup2") == 0 && strlen(m.point) < sizeof(m.point), "mount");
	(void)mc_sys_mount(s, "cgroup", NULL, "memory", &m);
}

static void cgroups(const char *s)
{
	struct mc_rdmacg_entry e[8];
	struct mc_rdmacg_event ev[8];
	struct mc_rdmacg_limit l;
	struct mc_err err;
	uint32_t bad, n = mc_rdmacg_parse(s, e, 8, &bad);
	char text[200];

	must(n <= 8, "more than there is room");
	for (uint32_t i = 0; i < n; i++)
		must(e[i].dev[0] != '\0' && strlen(e[i].dev) < MC_RDMACG_DEV_MAX, "device name");
	must(mc_rdmacg_parse_events(s, ev, 8, &bad) <= 8, "more events than there is room");
	if (mc_rdmacg_limit_parse(s, &l, &err) == 0) {
		mc_rdmacg_limit_text(&l, text, sizeof(text));
		must(mc_rdmacg_parse(text, e, 8, &bad) == 1 && bad == 0,
		     "a limit that the kernel's format does not have");
		must(strcmp(e[0].dev, l.dev) == 0 || strpbrk(e[0].dev, "?") != NULL, "another device");
	} else {
		for (const char *c = err.text; *c != '\0'; c++)
			must((unsigned char)*c >= ' ' && *c != 0x7f, "a control character in a sentence");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = malloc(size + 1);
	uint16_t acs;

	if (s == NULL)
		return 0;
	(void)mc_sys_acs(data, size, &acs);
	if (size > 0)
		memcpy(s, data, size);
	s[size] = '\0';
	numbers(s);
	lists(s);
	texts(s);
	cgroups(s);
	mc_text_clean(s);
	for (size_t i = 0; s[i] != '\0'; i++)
		must((unsigned char)s[i] >= ' ' && s[i] != 0x7f, "a control character after cleaning");
	free(s);
	return 0;
}

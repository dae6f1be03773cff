/* SPDX-License-Identifier: BSD-3-Clause */
/* rdmacg.c - reading: what limits us. */
#include "rdmacg.h"
#include "sysparse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One "key=value" word, [s, s + len). */
static bool take_word(const char *s, size_t len, const char *key, uint64_t *out)
{
	size_t n = strlen(key);
	char value[32];

	if (len <= n || strncmp(s, key, n) != 0 || s[n] != '=' || len - n - 1 >= sizeof(value))
		return false;
	(void)snprintf(value, sizeof(value), "%.*s", (int)(len - n - 1), s + n + 1);
	return mc_sys_max(value, out);
}

/* Device name at the start of a line; NULL: there is none of a usable length. */
static const char *take_dev(const char *line, const char *end, char dev[MC_RDMACG_DEV_MAX])
{
	size_t len = strcspn(line, " \t\n");

	if (len == 0 || len >= MC_RDMACG_DEV_MAX || line + len > end || memchr(line, '=', len) != NULL)
		return NULL;
	(void)snprintf(dev, MC_RDMACG_DEV_MAX, "%.*s", (int)len, line);
	mc_text_clean(dev);
	return line + len;
}

uint32_t mc_rdmacg_parse(const char *text, struct mc_rdmacg_entry *out, uint32_t room, uint32_t *bad_out)
{
	uint32_t n = 0;

	*bad_out = 0;
	for (const char *p = text; *p != '\0'; p += *p == '\n') {
		const char *end = p + strcspn(p, "\n");
		struct mc_rdmacg_entry e = {.handle = MC_RDMACG_NONE, .object = MC_RDMACG_NONE};
		const char *w = p == end ? end : take_dev(p, end, e.dev);
		bool good = w != NULL;

		while (good && w < end) {
			w += strspn(w, " \t");
			size_t len = strcspn(w, " \t\n");

			if (len > 0 && strncmp(w, "hca_handle=", 11) == 0)
				good = take_word(w, len, "hca_handle", &e.handle);
			else if (len > 0 && strncmp(w, "hca_object=", 11) == 0)
				good = take_word(w, len, "hca_object", &e.object);
			w += len;
		}
		if (p != end) {
			good = good && (e.handle != MC_RDMACG_NONE || e.object != MC_RDMACG_NONE);
			if (good && n < room)
				out[n++] = e;
			else
				++*bad_out;
		}
		p = end;
	}
	return n;
}

uint32_t mc_rdmacg_parse_events(const char *text, struct mc_rdmacg_event *out, uint32_t room, uint32_t *bad_out)
{
	static const char *const key[] = {"hca_handle.max", "hca_object.max", "hca_handle.alloc_fail",
					  "hca_object.alloc_fail"};
	uint32_t n = 0;

	*bad_out = 0;
	for (const char *p = text; *p != '\0'; p += *p == '\n') {
		const char *end = p + strcspn(p, "\n");
		struct mc_rdmacg_event e = {.max = 0};
		const char *w = p == end ? end : take_dev(p, end, e.dev);

		while (w != NULL && w < end) {
			w += strspn(w, " \t");
			size_t len = strcspn(w, " \t\n");
			uint64_t v;

			for (int i = 0; i < 4; i++)
				if (take_word(w, len, key[i], &v))
					*(i < 2 ? &e.max : &e.fail) += v < UINT32_MAX ? v : UINT32_MAX;
			w += len;
		}
		if (p != end) {
			if (w != NULL && n < room)
				out[n++] = e;
			else
				++*bad_out;
		}
		p = end;
	}
	return n;
}

static struct mc_rdmacg_use *use_of(struct mc_rdmacg_level *l, const char *dev)
{
	for (uint32_t i = 0; i < l->use_n; i++)
		if (strcmp(l->use[i].dev, dev) == 0)
			return &l->use[i];
	l->use = mc_xgrow(l->use, l->use_n + 1, sizeof(*l->use));
	struct mc_rdmacg_use *u = &l->use[l->use_n++];
	*u = (struct mc_rdmacg_use){.max_handle = MC_RDMACG_NONE, .max_object = MC_RDMACG_NONE};
	(void)snprintf(u->dev, sizeof(u->dev), "%s", dev);
	return u;
}

/* False: the cgroup has no rdma.max, so it is the root or the controller is not on here. */
static bool read_level(struct mc_sysroot *root, const char *path, struct mc_rdmacg_level *l)
{
	struct mc_rdmacg_entry *e = mc_xalloc(MC_RDMACG_ENTRY_MAX, sizeof(*e));
	struct mc_rdmacg_event *ev = mc_xalloc(MC_RDMACG_ENTRY_MAX, sizeof(*ev));
	char *text = mc_xalloc(MC_SYS_ONE_MAX * 4, 1);
	uint32_t n, bad;

	*l = (struct mc_rdmacg_level){.use_n = 0};
	(void)snprintf(l->path, sizeof(l->path), "%s", path);
	int got = mc_sysroot_readf(root, text, MC_SYS_ONE_MAX * 4, "%s/rdma.max", path);
	if (got == 0) {
		n = mc_rdmacg_parse(text, e, MC_RDMACG_ENTRY_MAX, &bad);
		l->bad += bad;
		for (uint32_t i = 0; i < n; i++) {
			struct mc_rdmacg_use *u = use_of(l, e[i].dev);
			u->max_handle = e[i].handle;
			u->max_object = e[i].object;
		}
	}
	if (got == 0 && mc_sysroot_readf(root, text, MC_SYS_ONE_MAX * 4, "%s/rdma.current", path) == 0) {
		n = mc_rdmacg_parse(text, e, MC_RDMACG_ENTRY_MAX, &bad);
		l->bad += bad;
		for (uint32_t i = 0; i < n; i++) {
			struct mc_rdmacg_use *u = use_of(l, e[i].dev);
			u->handle = e[i].handle == MC_RDMACG_NONE ? 0 : e[i].handle;
			u->object = e[i].object == MC_RDMACG_NONE ? 0 : e[i].object;
		}
	}
	/* newer kernels only; absent is not broken */
	if (got == 0 && mc_sysroot_readf(root, text, MC_SYS_ONE_MAX * 4, "%s/rdma.events", path) == 0) {
		n = mc_rdmacg_parse_events(text, ev, MC_RDMACG_ENTRY_MAX, &bad);
		l->bad += bad;
		for (uint32_t i = 0; i < n; i++) {
			struct mc_rdmacg_use *u = use_of(l, ev[i].dev);
			u->event_max = ev[i].max;
			u->event_fail = ev[i].fail;
		}
	}
	free(text);
	free(ev);
	free(e);
	return got == 0;
}

/*
 * The own cgroup as a path in the file system. In a container with its own cgroup namespace the mount's root is "/" and
 * so is our path; with the host's namespace and only our part mounted, the mount's root is a prefix of our path.
 */
static void find_own(const struct mc_sys_mount *m, const char *path, struct mc_rdmacg *out)
{
	size_t root = strlen(m->root);

	while (root > 0 && m->root[root - 1] == '/')
		root--;
	if (strncmp(path, m->root, root) == 0 && (path[root] == '/' || path[root] == '\0'))
		path += root;
	const char *below = strcmp(path, "/") == 0 ? "" : path;
	size_t point = strlen(m->point), len = strlen(below);
	if (point + len >= sizeof(out->own))
		return; /* too deep to be spoken about: as if there were none */
	memcpy(out->point, m->point, point + 1);
	memcpy(out->own, m->point, point);
	memcpy(out->own + point, below, len + 1);
}

static bool has_controller(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; (p = strstr(p, name)) != NULL; p += len)
		if ((p == list || p[-1] == ' ') && (p[len] == '\0' || p[len] == ' ' || p[len] == '\n'))
			return true;
	return false;
}

void mc_rdmacg_read(struct mc_sysroot *root, struct mc_rdmacg *out)
{
	char path[512], text[MC_SYS_ONE_MAX];
	struct mc_sys_mount m;
	int e2 = 0;

	*out = (struct mc_rdmacg){.level_n = 0};
	char *cgroup = mc_sysroot_text(root, "/proc/self/cgroup", &out->error);
	char *mounts = mc_sysroot_text(root, "/proc/self/mountinfo", &e2);
	if (out->error == 0)
		out->error = e2;
	if (cgroup != NULL && mounts != NULL) {
		out->v1 = mc_sys_cgroup_path(cgroup, "rdma", path, sizeof(path));
		if (mc_sys_cgroup_path(cgroup, NULL, path, sizeof(path)) &&
		    mc_sys_mount(mounts, "cgroup2", NULL, NULL, &m))
			find_own(&m, path, out);
	}
	free(cgroup);
	free(mounts);
	if (out->own[0] == '\0')
		return;
	if (mc_sysroot_readf(root, text, sizeof(text), "%s/cgroup.controllers", out->own) == 0)
		out->controller = has_controller(text, "rdma");
	(void)snprintf(path, sizeof(path), "%s", out->own);
	out->level = mc_xalloc(MC_RDMACG_LEVEL_MAX, sizeof(*out->level));
	while (out->level_n < MC_RDMACG_LEVEL_MAX && strlen(path) >= strlen(out->point)) {
		out->level_n += read_level(root, path, &out->level[out->level_n]);
		char *slash = strrchr(path, '/');
		if (slash == NULL)
			break;
		*slash = '\0';
	}
}

void mc_rdmacg_free(struct mc_rdmacg *g)
{
	for (uint32_t i = 0; i < g->level_n; i++)
		free(g->level[i].use);
	free(g->level);
	*g = (struct mc_rdmacg){.level_n = 0};
}

uint32_t mc_rdmacg_tightest(const struct mc_rdmacg *g, const char *dev, bool handle, uint64_t *left_out)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t i = 0; i < g->level_n; i++) {
		for (uint32_t k = 0; k < g->level[i].use_n; k++) {
			const struct mc_rdmacg_use *u = &g->level[i].use[k];
			uint64_t max = handle ? u->max_handle : u->max_object, now = handle ? u->handle : u->object;

			if (strcmp(u->dev, dev) != 0 || max == MC_RDMACG_NONE || max == MC_RDMACG_MAX)
				continue;
			uint64_t left = now < max ? max - now : 0;
			if (best == UINT32_MAX || left < *left_out) {
				best = i;
				*left_out = left;
			}
		}
	}
	return best;
}

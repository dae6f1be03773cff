/* SPDX-License-Identifier: BSD-3-Clause */
#include "bind.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BITS (8 * sizeof(unsigned long))

static bool has(const struct mc_cpuset *s, uint32_t cpu)
{
	return (s->w[cpu / WORD_BITS] >> (cpu % WORD_BITS)) & 1;
}

static void put(struct mc_cpuset *s, uint32_t cpu)
{
	s->w[cpu / WORD_BITS] |= 1ul << (cpu % WORD_BITS);
}

bool mc_cpuset_both(struct mc_cpuset *s, const struct mc_cpuset *mask)
{
	unsigned long any = 0;

	for (size_t i = 0; i < MC_CPU_MAX / WORD_BITS; i++)
		any |= s->w[i] &= mask->w[i];
	return any != 0;
}

uint32_t mc_cpuset_count(const struct mc_cpuset *s)
{
	uint32_t n = 0;

	for (uint32_t cpu = 0; cpu < MC_CPU_MAX; cpu++)
		n += has(s, cpu);
	return n;
}

bool mc_cpuset_parse(const char *list, struct mc_cpuset *out)
{
	*out = (struct mc_cpuset){0};
	for (const char *p = list; *p != '\0' && *p != '\n';) {
		char *end;
		unsigned long lo = strtoul(p, &end, 10), hi = lo;

		if (end == p)
			return false;
		if (*end == '-') {
			p = end + 1;
			hi = strtoul(p, &end, 10);
			if (end == p)
				return false;
		}
		if (hi < lo || hi >= MC_CPU_MAX)
			return false;
		for (unsigned long c = lo; c <= hi; c++)
			put(out, (uint32_t)c);
		if (*end != ',' && *end != '\n' && *end != '\0')
			return false;
		p = *end == ',' ? end + 1 : end;
	}
	return true;
}

static bool read_set(const char *path, struct mc_cpuset *out)
{
	char line[16384] = "";
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return false;
	bool ok = fgets(line, sizeof(line), f) != NULL && mc_cpuset_parse(line, out);
	(void)fclose(f);
	return ok;
}

void mc_bind_add(struct mc_bind *b, const struct mc_cpuset *set, uint32_t id)
{
	b->place = mc_xgrow(b->place, b->place_n + 1, sizeof(*b->place));
	b->id = mc_xgrow(b->id, b->place_n + 1, sizeof(*b->id));
	b->place[b->place_n] = *set;
	b->id[b->place_n++] = id;
}

/* One place per core: its hardware threads that are allowed. Without sysfs every CPU is a core. */
static void find_cores(struct mc_bind *b, const char *root, const struct mc_cpuset *allowed)
{
	struct mc_cpuset seen = {0};

	for (uint32_t cpu = 0; cpu < MC_CPU_MAX; cpu++) {
		if (!has(allowed, cpu) || has(&seen, cpu))
			continue;
		struct mc_cpuset core = {0};
		char *path = mc_xformat("%s/devices/system/cpu/cpu%u/topology/thread_siblings_list", root, cpu);
		if (!read_set(path, &core) || !mc_cpuset_both(&core, allowed) || !has(&core, cpu)) {
			core = (struct mc_cpuset){0};
			put(&core, cpu);
		}
		free(path);
		for (size_t i = 0; i < MC_CPU_MAX / WORD_BITS; i++)
			seen.w[i] |= core.w[i];
		mc_bind_add(b, &core, cpu);
	}
}

/* One place per NUMA node that has an allowed CPU; a machine without nodes in sysfs is one node. */
static void find_nodes(struct mc_bind *b, const char *root, const struct mc_cpuset *allowed)
{
	for (uint32_t node = 0; node < 1024; node++) {
		struct mc_cpuset set = {0};
		char *path = mc_xformat("%s/devices/system/node/node%u/cpulist", root, node);

		if (read_set(path, &set) && mc_cpuset_both(&set, allowed))
			mc_bind_add(b, &set, node);
		free(path);
	}
	if (b->place_n == 0)
		mc_bind_add(b, allowed, 0);
}

int mc_bind_allowed(struct mc_cpuset *out, struct mc_err *err)
{
	*out = (struct mc_cpuset){0};
	if (sched_getaffinity(0, sizeof(*out), (cpu_set_t *)(void *)out) == 0)
		return 0;
	return mc_err_set(err, "cannot tell which CPUs mcrun may use: %s; run with --bind none", strerror(errno));
}

int mc_bind_open(struct mc_bind *b, enum mc_bind_mode mode, const char *root, struct mc_err *err)
{
	struct mc_cpuset allowed;

	*b = (struct mc_bind){.mode = mode};
	if (mode == MC_BIND_NONE)
		return 0;
	if (mc_bind_allowed(&allowed, err) != 0)
		return -1;
	if (mode == MC_BIND_CORE)
		find_cores(b, root, &allowed);
	else
		find_nodes(b, root, &allowed);
	if (b->place_n == 0)
		return mc_err_set(err, "found no CPU to bind to in %s; run with --bind none", root);
	return 0;
}

void mc_bind_close(struct mc_bind *b)
{
	for (uint32_t r = 0; r < b->rank_n && b->near != NULL; r++)
		free(b->near[r]);
	free(b->near);
	free(b->index);
	free(b->used);
	free(b->rank_place);
	free(b->place);
	free(b->id);
	*b = (struct mc_bind){0};
}

static uint32_t number_here(const struct mc_bind *b, uint32_t rank)
{
	return b->here != NULL ? b->here[rank] : rank;
}

static uint32_t index_of(const struct mc_bind *b, uint32_t rank)
{
	rank = number_here(b, rank);
	return rank < b->rank_n ? b->rank_place[rank] : rank % b->place_n;
}

const struct mc_cpuset *mc_bind_place(const struct mc_bind *b, uint32_t rank)
{
	return b->place_n == 0 ? NULL : &b->place[index_of(b, rank)];
}

bool mc_bind_share(const struct mc_bind *b, uint32_t rank, char *buf, size_t len)
{
	rank = number_here(b, rank);
	if (rank >= b->rank_n)
		return false;
	(void)snprintf(buf, len, "%u/%u", b->index[rank], b->used[b->rank_place[rank]]);
	return true;
}

void mc_bind_text(const struct mc_bind *b, uint32_t rank, char *buf, size_t len)
{
	const struct mc_cpuset *s = mc_bind_place(b, rank);

	if (s == NULL) {
		(void)snprintf(buf, len, "none");
		return;
	}
	int at =
		snprintf(buf, len, "%s %u (cpus ", b->mode == MC_BIND_CORE ? "core" : "node", b->id[index_of(b, rank)]);
	const char *sep = "";
	for (uint32_t c = 0; c < MC_CPU_MAX && at >= 0 && (size_t)at + 16 < len; c++) {
		uint32_t last = c;

		if (!has(s, c))
			continue;
		while (last + 1 < MC_CPU_MAX && has(s, last + 1))
			last++;
		at += last == c ? snprintf(buf + at, len - (size_t)at, "%s%u", sep, c)
				: snprintf(buf + at, len - (size_t)at, "%s%u-%u", sep, c, last);
		sep = ",";
		c = last;
	}
	const char *near = rank < b->rank_n ? b->near[rank] : "";
	(void)snprintf(buf + at, len - (size_t)at, *near != '\0' ? ") near %s" : ")%s", near);
}

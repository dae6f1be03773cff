/* SPDX-License-Identifier: BSD-3-Clause */
#include "header.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#ifndef MC_COMMIT
#define MC_COMMIT "unknown"
#endif

/* The rest of the first line of a file that begins with key; "" if there is none. */
static void read_line(const char *path, const char *key, char *out, size_t len)
{
	FILE *f = fopen(path, "re");
	char line[512];

	out[0] = '\0';
	while (f != NULL && out[0] == '\0' && fgets(line, sizeof(line), f) != NULL) {
		const char *p = line + strlen(key);
		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		p += strspn(p, " \t:");
		line[strcspn(line, "\n")] = '\0';
		snprintf(out, len, "%.*s", (int)(len - 1), p);
	}
	if (f != NULL)
		fclose(f);
}

static uint32_t numa_nodes(void)
{
	uint32_t n = 0;
	char path[64];

	for (;; n++) {
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u", n);
		if (access(path, F_OK) != 0)
			return n == 0 ? 1 : n;
	}
}

void perf_header_collect(struct perf_header *h)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	time_t now = time(NULL);
	struct utsname u;
	struct tm tm;

	*h = (struct perf_header){.numa = numa_nodes()};
	if (gethostname(h->host, sizeof(h->host) - 1) != 0)
		snprintf(h->host, sizeof(h->host), "unknown");
	read_line("/proc/cpuinfo", "model name", h->cpu, sizeof(h->cpu));
	read_line("/proc/self/status", "Cpus_allowed_list", h->cpus, sizeof(h->cpus));
	read_line("/proc/loadavg", "", h->load, sizeof(h->load));
	if (uname(&u) == 0)
		snprintf(h->kernel, sizeof(h->kernel), "%.20s %.70s", u.sysname, u.release);
	h->cores = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	h->mem_mib = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page >> 20 : 0;
	snprintf(h->commit, sizeof(h->commit), "%s", MC_COMMIT);
	if (gmtime_r(&now, &tm) == NULL || strftime(h->when, sizeof(h->when), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(h->when, sizeof(h->when), "unknown");
}

static void print_settings(FILE *to)
{
	struct mc_setting s;
	char value[256];
	bool any = false;

	for (uint32_t i = 0;; i++) {
		mc_status_t st = mc_setting_get(i, &s, value, sizeof(value));
		if (st == MC_ERR_NOENT)
			break;
		/* what the launcher tells each rank is no choice of anybody */
		if (strcmp(s.source, "default") == 0 || strcmp(s.name, "MC_JOB_KEY") == 0 ||
		    strcmp(s.name, "MC_LAUNCHER") == 0)
			continue;
		fprintf(to, "%s %s=%s (%s)", any ? "," : "# settings:", s.name, s.value, s.source);
		any = true;
	}
	fprintf(to, "%s\n", any ? "" : "# settings: all default");
}

void perf_header_print(const struct perf_header *h, FILE *to, const char *cmd)
{
	fprintf(to, "# mcperf %s, mc %s, commit %s, %s\n", cmd, mc_version(), h->commit, h->when);
	fprintf(to, "# machine: %s, %s, %u cores (rank 0 may use %s), %u NUMA node%s, %llu MiB, %s, load %s\n", h->host,
		h->cpu[0] ? h->cpu : "unknown CPU", h->cores, h->cpus, h->numa, h->numa == 1 ? "" : "s",
		(unsigned long long)h->mem_mib, h->kernel, h->load);
	print_settings(to);
}

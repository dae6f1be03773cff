/* SPDX-License-Identifier: BSD-3-Clause */
/* mcinfo - what this machine has, what mc would use, and how it is configured. */
#include "doctor.h"
#include "mcinfo.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mc.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *text;
} commands[] = {
	{"topo", mc_info_topo, "memories, GPUs and NICs, how near they are, and which NICs are chosen, with reasons"},
	{"devices", mc_info_devices,
	 "RDMA devices, ports, GIDs, rates, counters; network interfaces; what would be used"},
	{"config", mc_info_config, "every setting with its value, where that came from, and what it means"},
	{"doctor", mcinfo_doctor, "check this machine: what is wrong, why, and what to do about it"},
	{"watch", mcinfo_watch, "counters of RDMA ports, interfaces and the rdma cgroup as rates"},
};

static void usage(FILE *to)
{
	fprintf(to, "usage: mcinfo COMMAND [options]        (mcinfo COMMAND --help)\n"
		    "       mcinfo --version | --help\n\ncommands:\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].text);
}

bool mc_info_setting(const char *name, char *out, size_t len)
{
	char value[4096], err[512];
	struct mc_setting s;
	mc_status_t status;

	out[0] = '\0';
	for (uint32_t i = 0; (status = mc_setting_get(i, &s, value, sizeof(value))) != MC_ERR_NOENT; i++) {
		if (strcmp(s.name, name) != 0)
			continue;
		if (status != MC_OK) {
			if (mc_setting_check_env(err, sizeof(err)) != MC_OK)
				fprintf(stderr, "mcinfo: %s\n", err);
			return false;
		}
		snprintf(out, len, "%s", s.value);
		return true;
	}
	return true;
}

/* hwloc itself silently takes the live machine when it cannot read that file. */
const char *mc_info_xml(const char *option)
{
	const char *env = option == NULL ? getenv("HWLOC_XMLFILE") : NULL;

	return env != NULL && env[0] != '\0' ? env : option;
}

int mc_info_flush(void)
{
	if (fflush(stdout) == 0 && ferror(stdout) == 0)
		return 0;
	fprintf(stderr, "mcinfo: cannot write the output: %s\n", strerror(errno));
	return 1;
}

bool mc_info_number(const char *text, uint32_t *out)
{
	char *end;
	unsigned long v;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || v > INT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

/* Started with 0, 1 or 2 closed, files of ours would land there. What is written to such a one still fails. */
static void open_std(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		(void)close(fd);
}

int main(int argc, char **argv)
{
	open_std();
	if (argc < 2) {
		fprintf(stderr, "mcinfo: which command? try mcinfo --help\n");
		return 2;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		usage(stdout);
		return mc_info_flush();
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("mcinfo %s\n", mc_version());
		return mc_info_flush();
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "mcinfo: unknown command %s; known:", argv[1]);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(stderr, " %s", commands[i].name);
	fputc('\n', stderr);
	return 2;
}

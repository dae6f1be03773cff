/* SPDX-License-Identifier: BSD-3-Clause */
/* mcperf - measure and check KV-cache transfers of a job's ranks. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "mc.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *text;
} commands[] = {
	{"bw", bw_main, "bandwidth and CPU time over block size and blocks per request"},
	{"lat", lat_main, "time until a block is at the target and the target knows"},
	{"reg", reg_main, "cost of getting, registering, importing and freeing memory"},
	{"launch", launch_main, "time from the start of a job until all ranks have met, beside mpirun"},
	{"coll", coll_main, "time of collectives over sizes, and the table of algorithms"},
	{"kv", kv_main, "move one sequence from prefill to decode ranks that cut the model another way"},
	{"replay", replay_main, "replay a request trace between prefill and decode ranks, check every byte"},
};

static void usage(FILE *to)
{
	fprintf(to, "usage: mcperf COMMAND [options]        (mcperf COMMAND --help)\n"
		    "       mcperf --version | --help\n\ncommands:\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].text);
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

/* A table that nobody got is no success. */
static int flushed(int code)
{
	const char *why = fflush(stdout) != 0 ? strerror(errno) : "a write before failed";

	if (code != 0 || ferror(stdout) == 0)
		return code;
	fprintf(stderr, "mcperf: cannot write the output: %s\n", why);
	return 1;
}

int main(int argc, char **argv)
{
	open_std();
	if (argc < 2) {
		fprintf(stderr, "mcperf: which command? try mcperf --help\n");
		return 2;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		usage(stdout);
		return flushed(0);
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("mcperf %s\n", mc_version());
		return flushed(0);
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return flushed(commands[i].run(argc - 1, argv + 1));
	}
	fprintf(stderr, "mcperf: unknown command %s; known:", argv[1]);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(stderr, " %s", commands[i].name);
	fputc('\n', stderr);
	return 2;
}

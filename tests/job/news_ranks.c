/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ranks that do nothing but wait for news of each other. Those of equal parity are connected, the others never talked
 * to each other. A line for each: "ready", and "lost RANK at MS" with the time since the machine was started, as
 * /proc/uptime has it. They go on until the file STOP is there.
 * usage: news_ranks STOP
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "mc.h"

#define MS INT64_C(1000000)

static struct mc_ctx *ctx;

static void must(mc_status_t s, const char *what)
{
	if (s == MC_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, mc_status_name(s));
	exit(1);
}

static int64_t uptime_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * 1000 + t.tv_nsec / MS;
}

/* Asleep in the library, 5 ms at most. */
static void rest(void)
{
	struct mc_note *n;
	if (mc_note_recv(ctx, 5 * MS, &n) == MC_OK)
		mc_note_free(n);
}

int main(int argc, char **argv)
{
	struct mc_fault f = {.size = sizeof(f)};
	uint32_t rank;
	if (argc != 2)
		return 2;
	must(mc_init(NULL, &ctx), "mc_init");
	rank = mc_rank(ctx);
	for (uint32_t i = rank % 2; i < mc_size(ctx); i += 2)
		if (i != rank)
			must(mc_connect(ctx, i, 30000 * MS), "mc_connect");
	printf("ready\n");
	fflush(stdout);
	while (access(argv[1], F_OK) != 0) {
		while (mc_fault_next(ctx, &f) == MC_OK) {
			printf("lost %" PRIu32 " at %" PRId64 "\n", f.peer, uptime_ms());
			fflush(stdout);
			f = (struct mc_fault){.size = sizeof(f)};
		}
		rest();
	}
	mc_finalize(ctx);
	return 0;
}

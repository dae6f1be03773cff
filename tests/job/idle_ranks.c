/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connected ranks that wait, half of the time for a counter and half for a note that never come. Each prints the CPU
 * time of its process in per mille of the time that passed. usage: idle_ranks SECONDS
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mc.h"

static long long now_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (long long)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void must(mc_status_t s, const char *what)
{
	if (s == MC_OK)
		return;
	fprintf(stderr, "idle_ranks: %s: %s\n", what, mc_status_name(s));
	exit(1);
}

static void expect_timeout(mc_status_t s, const char *what)
{
	must(s == MC_ERR_TIMEOUT ? MC_OK : MC_ERR_INTERNAL, what);
}

int main(int argc, char **argv)
{
	struct mc_ctx *ctx;
	struct mc_counter *never;
	struct mc_note *note;
	int64_t part = (int64_t)(argc > 1 ? atoi(argv[1]) : 3) * 500000000;

	must(mc_init(NULL, &ctx), "mc_init");
	for (uint32_t i = 0; i < mc_size(ctx); i++)
		if (i != mc_rank(ctx))
			must(mc_connect(ctx, i, 20000000000), "mc_connect");
	must(mc_counter_open(ctx, 1, MC_ANY_PEER, &never), "mc_counter_open");
	must(mc_barrier(mc_group_world(ctx), 20000000000), "mc_barrier");

	long long wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
	expect_timeout(mc_counter_wait(never, 1, part), "mc_counter_wait");
	expect_timeout(mc_note_recv(ctx, part, &note), "mc_note_recv");
	wall = now_ns(CLOCK_MONOTONIC) - wall;
	cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	printf("%lld\n", cpu * 1000 / wall);

	must(mc_barrier(mc_group_world(ctx), 20000000000), "mc_barrier");
	mc_counter_close(never);
	mc_finalize(ctx);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The last rank dies by SIGKILL at the end of each of its starts but the last; the others go on with the process that
 * comes after it: new memory, data checked on both sides, old descriptors refused, at the end a barrier of all.
 * usage: rejoin_ranks STARTS     under mcrun --on-failure restart:STARTS
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mc.h"

enum { LEN = 1 << 20 };
#define WAIT_NS INT64_C(30000000000)

static struct mc_ctx *ctx;
static uint32_t rank, size, last;

static void must(mc_status_t s, const char *what)
{
	if (s == MC_OK)
		return;
	fprintf(stderr, "rank %u: %s: %s\n", rank, what, mc_status_name(s));
	exit(1);
}

static void truth(int yes, const char *what)
{
	if (yes)
		return;
	fprintf(stderr, "rank %u: not so: %s\n", rank, what);
	exit(1);
}

static uint8_t pattern(uint32_t start, uint32_t from)
{
	return (uint8_t)(start * 16 + from + 1);
}

/* The one that dies: a slot of memory per survivor, each of which fills its own and sends a note. */
static void mortal(uint32_t starts, uint32_t now)
{
	struct mc_mem *mem;
	must(mc_mem_alloc(ctx, (uint64_t)LEN * last, NULL, &mem), "mc_mem_alloc");
	must(mc_mem_publish(mem, "pool"), "mc_mem_publish");
	for (uint32_t i = 0; i < last; i++) {
		struct mc_note *n;
		must(mc_note_recv(ctx, WAIT_NS, &n), "mc_note_recv");
		const uint8_t *p = (const uint8_t *)mc_mem_addr(mem) + (size_t)LEN * n->peer;
		for (uint32_t k = 0; k < LEN; k++)
			truth(p[k] == pattern(now, n->peer), "bytes are what the survivor wrote for this start");
		truth(n->tag == now, "note of this start");
		mc_note_free(n);
	}
	if (now + 1 < starts)
		raise(SIGKILL);
}

static uint64_t epoch_of(uint32_t peer)
{
	struct mc_peer_info info = {.size = sizeof(info)};
	must(mc_peer_query(ctx, peer, &info), "mc_peer_query");
	return info.epoch;
}

/* Until the process after that one is known. */
static void wait_back(uint64_t before)
{
	struct mc_fault f = {.size = sizeof(f)};
	struct mc_note *n;
	for (int i = 0; i < 30000 && epoch_of(last) == before; i++)
		truth(mc_note_recv(ctx, 1000000, &n) == MC_ERR_TIMEOUT, "nobody sends notes to a survivor");
	truth(epoch_of(last) != before, "the rank is back");
	mc_status_t s = MC_ERR_AGAIN;
	while (mc_fault_next(ctx, &f) == MC_OK) {
		truth(f.peer == last, "faults are about the rank that dies");
		s = f.status;
	}
	truth(s == MC_OK, "the last word on it is that it is back");
}

static void survivor(uint32_t starts)
{
	struct mc_mem *mem;
	struct mc_rmem *to, *old = NULL;
	struct mc_req *req;
	must(mc_mem_alloc(ctx, LEN, NULL, &mem), "mc_mem_alloc");
	for (uint32_t i = 0; i < starts; i++) {
		uint64_t epoch = epoch_of(last);
		struct mc_notify n = {.size = sizeof(n), .flags = MC_NOTIFY_NOTE, .tag = i};
		struct mc_xfer_opts o = {.size = sizeof(o), .notify = &n};
		must(mc_mem_lookup(ctx, last, "pool", WAIT_NS, &to), "mc_mem_lookup");
		if (old != NULL) {
			struct mc_slice s = {mem, 0, old, (uint64_t)rank * LEN, LEN};
			truth(mc_put(ctx, last, &s, 1, NULL, &req) == MC_ERR_STALE, "an old descriptor is refused");
			mc_rmem_release(old);
		}
		memset(mc_mem_addr(mem), pattern(i, rank), LEN);
		struct mc_slice s = {mem, 0, to, (uint64_t)rank * LEN, LEN};
		must(mc_put(ctx, last, &s, 1, &o, &req), "mc_put");
		mc_status_t end = mc_req_wait(req, WAIT_NS);
		/* It may die as soon as it has the note, before it answers. */
		truth(end == MC_OK || (end == MC_ERR_PEER_DOWN && i + 1 < starts), mc_status_name(end));
		mc_req_free(req);
		old = to;
		if (i + 1 < starts)
			wait_back(epoch);
	}
}

int main(int argc, char **argv)
{
	const char *again = getenv("MC_REJOIN"); /* number of this start, from 0 */
	if (argc != 2)
		return 2;
	uint32_t starts = (uint32_t)atoi(argv[1]), now = again != NULL ? (uint32_t)atoi(again) : 0;
	must(mc_init(NULL, &ctx), "mc_init");
	rank = mc_rank(ctx);
	size = mc_size(ctx);
	last = size - 1;
	if (rank == last)
		mortal(starts, now);
	else
		survivor(starts);
	/* Members make their groups when they know each other: who does not yet, waits for the others' first message.
	 */
	must(mc_barrier(mc_group_world(ctx), WAIT_NS), "mc_barrier");
	printf("rank %u: good\n", rank);
	mc_finalize(ctx);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two jobs that meet through a directory. "serve": each rank publishes memory that says whose it is. "use": each rank
 * reads it from all ranks of role "prefill" of other jobs, again and again, and checks it; when they are lost it looks
 * for them again. Both go on until the file STOP is there. What happens is printed, a line each.
 * usage: meet_ranks serve|use RANKS STOP     RANKS: how many there are to serve
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mc.h"

enum { WORDS = 1 << 16, LEN = WORDS * 8, SERVERS_MAX = 16 };
#define MS INT64_C(1000000)

static struct mc_ctx *ctx;
static uint32_t rank;
static const char *stop;

static void must(mc_status_t s, const char *what)
{
	if (s == MC_OK)
		return;
	fprintf(stderr, "rank %u: %s: %s\n", rank, what, mc_status_name(s));
	exit(1);
}

static int stopped(void)
{
	return access(stop, F_OK) == 0;
}

/* Asleep in the library: a note would end it. */
static void rest(int64_t ns)
{
	struct mc_note *n;
	if (mc_note_recv(ctx, ns, &n) == MC_OK)
		mc_note_free(n);
}

static uint64_t epoch_of(uint32_t peer)
{
	struct mc_peer_info info = {.size = sizeof(info)};
	must(mc_peer_query(ctx, peer, &info), "mc_peer_query");
	return info.epoch;
}

static void serve(void)
{
	struct mc_mem *mem;
	must(mc_mem_alloc(ctx, LEN, NULL, &mem), "mc_mem_alloc");
	uint64_t *w = mc_mem_addr(mem), epoch = epoch_of(rank);
	for (uint64_t i = 0; i < WORDS; i++)
		w[i] = epoch + i;
	must(mc_mem_publish(mem, "kv"), "mc_mem_publish");
	printf("serve %016llx\n", (unsigned long long)epoch);
	fflush(stdout);
	while (!stopped())
		rest(50 * MS);
}

struct server {
	uint32_t peer;
	uint64_t epoch;
	struct mc_rmem *rmem;
};

/* Find them all and open their memory. */
static mc_status_t meet(struct server *s, uint32_t n)
{
	uint32_t peer[SERVERS_MAX], got;
	mc_status_t st = mc_peer_find(ctx, "prefill", "prefill-*", n, 1000 * MS, peer, SERVERS_MAX, &got);
	for (uint32_t i = 0; i < n && st == MC_OK; i++) {
		s[i] = (struct server){.peer = peer[i]};
		st = mc_mem_lookup(ctx, peer[i], "kv", 5000 * MS, &s[i].rmem);
		if (st == MC_OK)
			s[i].epoch = epoch_of(peer[i]);
	}
	return st;
}

static mc_status_t read_check(const struct server *s, struct mc_mem *mem)
{
	struct mc_slice slice = {mem, 0, s->rmem, 0, LEN};
	struct mc_req *req;
	uint64_t *w = mc_mem_addr(mem);
	memset(w, 0, LEN);
	mc_status_t st = mc_get(ctx, s->peer, &slice, 1, NULL, &req);
	if (st != MC_OK)
		return st;
	st = mc_req_wait(req, 20000 * MS);
	mc_req_free(req);
	for (uint64_t i = 0; i < WORDS && st == MC_OK; i++) {
		if (w[i] != s->epoch + i) {
			printf("wrong bytes of peer %u\n", s->peer);
			exit(1);
		}
	}
	return st;
}

static void release(struct server *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		mc_rmem_release(s[i].rmem);
	memset(s, 0, n * sizeof(*s));
}

/* One word when it changes. */
static void say(mc_status_t *before, mc_status_t now, const char *what)
{
	if (*before != now)
		printf("%s %s\n", what, mc_status_name(now));
	*before = now;
}

static void use(uint32_t n)
{
	struct server s[SERVERS_MAX] = {{0}};
	struct mc_mem *mem;
	mc_status_t state = MC_IN_PROGRESS, find = MC_IN_PROGRESS, st = MC_ERR_AGAIN;
	uint32_t got;
	unsigned long rounds = 0;
	must(mc_mem_alloc(ctx, LEN, NULL, &mem), "mc_mem_alloc");
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (!stopped()) {
		if (st != MC_OK) {
			release(s, n);
			st = meet(s, n);
			for (uint32_t i = 0; i < n && st == MC_OK; i++)
				printf("met %016llx\n", (unsigned long long)s[i].epoch);
		}
		for (uint32_t i = 0; i < n && st == MC_OK; i++)
			st = read_check(&s[i], mem);
		say(&state, st, "use");
		if (st == MC_OK && ++rounds % 20 == 0)
			printf("rounds %lu\n", rounds);
		say(&find, mc_peer_find(ctx, "prefill", NULL, n, 20 * MS, NULL, 0, &got), "find");
		rest(10 * MS);
	}
	release(s, n);
	printf("end %s after %lu rounds\n", mc_status_name(st), rounds);
}

int main(int argc, char **argv)
{
	uint32_t n = argc == 4 ? (uint32_t)atoi(argv[2]) : 0;
	if (n == 0 || n > SERVERS_MAX)
		return 2;
	stop = argv[3];
	must(mc_init(NULL, &ctx), "mc_init");
	rank = mc_rank(ctx);
	if (strcmp(argv[1], "serve") == 0)
		serve();
	else
		use(n);
	mc_finalize(ctx);
	return 0;
}

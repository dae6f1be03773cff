/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rail_soak.c - rank 0 puts to rank 1 (or gets from it) without pause, every byte of every transfer checked as soon as
 * its note is there, every note counted, while commands break and mend the network in between; speed before and after.
 *     mcrun -n 2 rail_soak --slice 4K --slices 1024 --puts 50 --fault 'ip link set wa0 down' --hold 500
 *                          --heal 'ip link set wa0 up' --settle 2000 --json result
 * result.0: speeds, failed transfers, longest silence; result.1: wrong bytes, notes lost, doubled, of failed transfers.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rail_soak.h"

int64_t soak_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void soak_must(mc_status_t s, const char *what)
{
	if (s == MC_OK)
		return;
	fprintf(stderr, "rail_soak: %s: %s (%s)\n", what, mc_status_name(s), mc_status_text(s));
	exit(1);
}

/* ---- the hand ---------------------------------------------------------------------------------------------------- */

static void hand_main(int in, int out)
{
	char cmd[2048];
	size_t n = 0;
	while (n < sizeof(cmd) && read(in, cmd + n, 1) == 1) {
		if (cmd[n++] != '\0')
			continue;
		int status = system(cmd);
		n = 0;
		if (write(out, &status, sizeof(status)) != (ssize_t)sizeof(status))
			break;
	}
	_exit(0);
}

bool hand_start(struct hand *h)
{
	int to[2], from[2];
	if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
		return false;
	h->pid = fork();
	if (h->pid < 0)
		return false;
	if (h->pid == 0) {
		close(to[1]);
		close(from[0]);
		hand_main(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	h->to = to[1];
	h->from = from[0];
	return true;
}

int hand_do(struct hand *h, const char *cmd, int peer_pid)
{
	char full[2048];
	size_t n = 0;
	int status = -1;
	for (const char *p = cmd; *p != '\0' && n < sizeof(full) - 16; p++) {
		if (p[0] == '%' && p[1] == 'p') {
			n += (size_t)snprintf(full + n, 16, "%d", peer_pid);
			p++;
		} else {
			full[n++] = *p;
		}
	}
	full[n++] = '\0';
	if (write(h->to, full, n) != (ssize_t)n || read(h->from, &status, sizeof(status)) != (ssize_t)sizeof(status) ||
	    status != 0)
		fprintf(stderr, "rail_soak: \"%s\" ended with status %d\n", full, status);
	return status;
}

void hand_stop(struct hand *h)
{
	close(h->to);
	close(h->from);
	(void)waitpid(h->pid, NULL, 0);
}

/* ---- pattern ------------------------------------------------------------------------------------------------------
 */

static uint64_t word(uint64_t number, uint64_t cell, uint64_t i)
{
	return (number + 1) * 0x9e3779b97f4a7c15u + cell * 0xbf58476d1ce4e5b9u + i * 0x0001000100010001u;
}

void soak_fill(const struct soak_opts *o, uint8_t *slot, uint64_t number, bool far)
{
	for (uint64_t cell = 0; cell < o->span / o->slice; cell++) {
		uint64_t *p = (uint64_t *)(void *)(slot + (far ? soak_far_cell(o, cell) : cell) * o->slice);
		for (uint64_t i = 0; i < o->slice / 8; i++)
			p[i] = word(number, cell, i);
	}
}

uint64_t soak_wrong(const struct soak_opts *o, const uint8_t *slot, uint64_t number, bool far)
{
	uint64_t wrong = 0, cells = o->span / o->slice, used = o->slices < cells ? o->slices : cells;
	for (uint64_t k = 0; k < used; k++) {
		uint64_t cell = soak_cell(o, (uint32_t)k);
		const uint64_t *p =
			(const uint64_t *)(const void *)(slot + (far ? soak_far_cell(o, cell) : cell) * o->slice);
		for (uint64_t i = 0; i < o->slice / 8; i++)
			wrong += p[i] != word(number, cell, i) ? 8 : 0;
	}
	return wrong;
}

/* ---- options --------------------------------------------------------------------------------------------------------
 */

static bool parse_size(const char *s, uint64_t *out)
{
	char *end;
	errno = 0;
	unsigned long long v = strtoull(s, &end, 10);
	if (errno != 0 || end == s)
		return false;
	int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
	if (end[shift != 0] != '\0')
		return false;
	*out = (uint64_t)v << shift;
	return true;
}

enum {
	O_SLICE = 1,
	O_SLICES,
	O_SPAN,
	O_WINDOW,
	O_PUTS,
	O_CYCLES,
	O_HOLD,
	O_SETTLE,
	O_TIMEOUT,
	O_PATIENCE,
	O_AT,
	O_FAULT,
	O_HEAL,
	O_JSON,
	O_GET,
	O_BLIND,
};
static const struct option longs[] = {{"slice", 1, NULL, O_SLICE},
				      {"slices", 1, NULL, O_SLICES},
				      {"span", 1, NULL, O_SPAN},
				      {"window", 1, NULL, O_WINDOW},
				      {"puts", 1, NULL, O_PUTS},
				      {"cycles", 1, NULL, O_CYCLES},
				      {"hold", 1, NULL, O_HOLD},
				      {"settle", 1, NULL, O_SETTLE},
				      {"timeout", 1, NULL, O_TIMEOUT},
				      {"patience", 1, NULL, O_PATIENCE},
				      {"at", 1, NULL, O_AT},
				      {"fault", 1, NULL, O_FAULT},
				      {"heal", 1, NULL, O_HEAL},
				      {"json", 1, NULL, O_JSON},
				      {"get", 0, NULL, O_GET},
				      {"blind", 0, NULL, O_BLIND},
				      {NULL, 0, NULL, 0}};

static bool parse_one(struct soak_opts *o, int opt, const char *arg)
{
	uint64_t v = 0;
	if (opt <= O_PATIENCE && !parse_size(arg, &v))
		return false;
	switch (opt) {
	case O_SLICE:
		o->slice = v;
		break;
	case O_SPAN:
		o->span = v;
		break;
	case O_SLICES:
		o->slices = (uint32_t)v;
		break;
	case O_WINDOW:
		o->window = (uint32_t)v;
		break;
	case O_PUTS:
		o->puts = (uint32_t)v;
		break;
	case O_CYCLES:
		o->cycles = (uint32_t)v;
		break;
	case O_HOLD:
		o->hold_ms = (uint32_t)v;
		break;
	case O_SETTLE:
		o->settle_ms = (uint32_t)v;
		break;
	case O_TIMEOUT:
		o->timeout_ns = (int64_t)v * 1000000;
		break;
	case O_PATIENCE:
		o->patience_ns = (int64_t)v * 1000000;
		break;
	case O_AT:
		o->at = atof(arg);
		break;
	case O_FAULT:
		o->fault = arg;
		break;
	case O_HEAL:
		o->heal = arg;
		break;
	case O_JSON:
		o->json = arg;
		break;
	case O_GET:
		o->get = true;
		break;
	case O_BLIND:
		o->blind = true;
		break;
	default:
		return false;
	}
	return true;
}

bool soak_parse(struct soak_opts *o, int argc, char **argv)
{
	*o = (struct soak_opts){.slice = 4096,
				.slices = 1024,
				.window = 4,
				.puts = 40,
				.cycles = 1,
				.hold_ms = 500,
				.settle_ms = 1000,
				.timeout_ns = 30000000000,
				.patience_ns = 60000000000};
	for (int opt; (opt = getopt_long(argc, argv, "", longs, NULL)) != -1;)
		if (!parse_one(o, opt, optarg))
			return false;
	if (o->span == 0)
		o->span = o->slice * o->slices;
	uint64_t cells = o->slice >= 8 ? o->span / o->slice : 0;
	return optind == argc && o->slice % 8 == 0 && cells > 0 && (cells & (cells - 1)) == 0 && o->slices > 0 &&
	       o->window > 0 && o->window <= SOAK_WINDOW_MAX && o->span * o->window <= 1ull << 30 && o->cycles > 0;
}

int main(int argc, char **argv)
{
	struct soak_opts o;
	struct hand h;
	struct mc_ctx *ctx;

	if (!soak_parse(&o, argc, argv)) {
		fprintf(stderr, "rail_soak: bad options; slices of 8 bytes or more, span/slice a power of two\n");
		return 2;
	}
	if (!hand_start(&h)) {
		perror("rail_soak: fork");
		return 1;
	}
	soak_must(mc_init(NULL, &ctx), "mc_init");
	if (mc_size(ctx) != 2) {
		fprintf(stderr, "rail_soak: needs 2 ranks, has %u\n", mc_size(ctx));
		return 2;
	}
	int rc = mc_rank(ctx) == 0 ? soak_sender(ctx, &o, &h) : soak_receiver(ctx, &o);
	mc_finalize(ctx);
	hand_stop(&h);
	return rc;
}

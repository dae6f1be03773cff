/* SPDX-License-Identifier: BSD-3-Clause */
/* rail_soak.h - what the two halves of rail_soak share: options, the pattern in memory, the hand that breaks things. */
#ifndef MC_TEST_RAIL_SOAK_H
#define MC_TEST_RAIL_SOAK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "mc.h"

enum { SOAK_PUTS_MAX = MC_NOTE_MAX, SOAK_WINDOW_MAX = 64 }; /* what became of each transfer fits into one note */
#define TAG_ACK 1000         /* + slot: the target has looked at a transfer of this slot */
#define TAG_END (1ull << 40) /* tags below are numbers of transfers */

struct soak_opts {
	uint64_t slice, span;        /* bytes of a slice, and of the slot over which a transfer's slices are spread */
	uint32_t slices, window;     /* slices per transfer; transfers under way, each with its own slot */
	uint32_t puts;               /* measured before the fault, and again after it */
	uint32_t cycles;             /* how often fault and heal */
	uint32_t hold_ms, settle_ms; /* from fault to heal; from heal to the next cycle or the measurement */
	double at;           /* fault when this part of a transfer has left; 0: at once, in the middle of a window */
	int64_t timeout_ns;  /* of a transfer */
	int64_t patience_ns; /* longest wait for anything without a deadline of its own */
	bool get;
	bool blind;               /* nobody looks at the bytes, so nobody waits for that */
	const char *fault, *heal; /* shell commands; %p is the peer's process */
	const char *json;         /* PREFIX.RANK gets one line */
	int64_t fault_ns;         /* when the last fault was in effect */
};

/* The process that runs the commands; forked before the library is there. */
struct hand {
	int to, from;
	pid_t pid;
};
bool hand_start(struct hand *h);
/* Run a command now and return when it has ended: its status. */
int hand_do(struct hand *h, const char *cmd, int peer_pid);
void hand_stop(struct hand *h);

int64_t soak_now(void);
bool soak_parse(struct soak_opts *o, int argc, char **argv);
void soak_must(mc_status_t s, const char *what);

/* Slice number i of a transfer: from cell to cell of the slot, so that no two slices are adjacent on both sides. */
static inline uint64_t soak_cell(const struct soak_opts *o, uint32_t i)
{
	return o->span / o->slice - 1 - i % (o->span / o->slice);
}
static inline uint64_t soak_far_cell(const struct soak_opts *o, uint64_t cell)
{
	return (cell * 5 + 1) & (o->span / o->slice - 1);
}
void soak_fill(const struct soak_opts *o, uint8_t *slot, uint64_t number, bool far);
/* How many bytes of the slot are not as transfer `number` left them: its own cells, or as they arrive at the far side.
 */
uint64_t soak_wrong(const struct soak_opts *o, const uint8_t *slot, uint64_t number, bool far);

int soak_sender(struct mc_ctx *ctx, struct soak_opts *o, struct hand *h);
int soak_receiver(struct mc_ctx *ctx, const struct soak_opts *o);

#endif

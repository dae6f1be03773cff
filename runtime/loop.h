/* SPDX-License-Identifier: BSD-3-Clause */
/* loop.h - fault injector of the loop backend, for tests of what stands on backend.h. */
#ifndef MC_LOOP_H
#define MC_LOOP_H

#include "backend.h"

extern const struct mc_be_ops mc_be_loop;

/* What a MC_LOOP_FAIL counts. */
enum mc_loop_slot {
	MC_LOOP_MEM_REG,
	MC_LOOP_MEM_EXPORT,
	MC_LOOP_RMEM_IMPORT,
	MC_LOOP_EP_CREATE,
	MC_LOOP_EP_CONNECT,
	MC_LOOP_SEND,
	MC_LOOP_POST,
	MC_LOOP_ARM,
	MC_LOOP_POLL, /* instead of failing, the k-th poll reports MC_EV_FATAL with the status */
	MC_LOOP_DONE, /* the k-th post moves nothing and its DONE has the status */
	MC_LOOP_SENT, /* the k-th message is lost; its SENT, if it has one, has the status */
	MC_LOOP_SLOTS
};

enum mc_loop_fault_kind {
	MC_LOOP_FAIL,    /* call number kth (1: the next) of slot gets status; kth 0: no more */
	MC_LOOP_HOLD,    /* messages to peer wait (n 1) or flow again (n 0); buffers of a waiting send are read when it
			    leaves */
	MC_LOOP_DROP,    /* the next n messages to peer vanish, SENT as usual */
	MC_LOOP_MANUAL,  /* posts to peer wait for MC_LOOP_RELEASE (n 1) or run at once (n 0) */
	MC_LOOP_RELEASE, /* n held messages or posts to peer may go, in order */
	MC_LOOP_KILL,    /* the link to peer breaks: EP_DOWN with status here and there */
	MC_LOOP_TAKE,    /* post takes at most n slices per call; 0: as many as it likes */
	MC_LOOP_PROVE,   /* links made from now on say nothing of themselves (n 1), until MC_LOOP_KILL or until all that
			    wait are up (n 0) */
};

struct mc_loop_fault {
	enum mc_loop_fault_kind kind;
	enum mc_loop_slot slot; /* MC_LOOP_FAIL */
	uint32_t kth;           /* MC_LOOP_FAIL */
	mc_status_t status;     /* MC_LOOP_FAIL, MC_LOOP_KILL (MC_OK: MC_ERR_PEER_DOWN) */
	uint32_t peer;          /* rank; MC_ANY_PEER: all that are connected now */
	uint32_t n;
};

/*
 * Any thread; `be` is hub->slot[rank].loop of an open context. Works on the eps that are connected at the time of the
 * call.
 */
void mc_loop_fault(struct mc_be *be, const struct mc_loop_fault *f);

#endif

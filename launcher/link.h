/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link.h - one connection between mcrun and an agent of it: both prove that they have the job's key, then messages
 * travel encrypted and in order, or the link breaks. Nothing here waits; nothing of a stranger gets beyond this file.
 *
 *   head to agent   "MCL1" nonce[32]
 *   agent to head   "MCL1" nonce[32] header[24] proof[32]     proof: keyed hash of label, both nonces and header
 *   head to agent   header[24] proof[32]
 *   then, each way  length[4] and so many bytes: one message under XChaCha20-Poly1305 (libsodium's secretstream) with a
 *                   key of that direction, derived from the job's key and both nonces
 */
#ifndef MCRUN_LINK_H
#define MCRUN_LINK_H

#include "text.h"

#define MC_LINK_KEY_BYTES   32
#define MC_LINK_MESSAGE_MAX (256u << 20)

enum mc_link_side { MC_LINK_HEAD, MC_LINK_AGENT };
enum mc_link_state {
	MC_LINK_MEETING, /* proofs are on their way */
	MC_LINK_UP,
	MC_LINK_BROKEN, /* why says how */
};

struct mc_link;

/* Was this built with libsodium, and does that work here? */
bool mc_link_possible(void);
/* 64 hexadecimal digits. */
bool mc_link_key_parse(const char *hex, uint8_t key[MC_LINK_KEY_BYTES]);

/* fd: a connected socket, which becomes the link's. */
struct mc_link *mc_link_create(int fd, enum mc_link_side side, const uint8_t key[MC_LINK_KEY_BYTES]);
void mc_link_free(struct mc_link *l);
int mc_link_fd(const struct mc_link *l);
enum mc_link_state mc_link_state(const struct mc_link *l);
const char *mc_link_why(const struct mc_link *l);
bool mc_link_wants_write(const struct mc_link *l);
/* Take what has arrived, at most some hundred KiB. */
void mc_link_receive(struct mc_link *l);
/* The same with bytes that are at hand instead of the socket's, for tests. */
void mc_link_feed(struct mc_link *l, const uint8_t *p, size_t n);
/* The next message, borrowed until the next call; false: none yet. */
bool mc_link_next(struct mc_link *l, const uint8_t **p, size_t *n);
/* Queue a message; before the link is up it waits. */
void mc_link_send(struct mc_link *l, const void *p, size_t n);
void mc_link_flush(struct mc_link *l);
size_t mc_link_queued(const struct mc_link *l);

#endif

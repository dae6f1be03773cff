/* SPDX-License-Identifier: BSD-3-Clause */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

bool mc_link_key_parse(const char *hex, uint8_t key[MC_LINK_KEY_BYTES])
{
	if (strlen(hex) != (size_t)2 * MC_LINK_KEY_BYTES)
		return false;
	for (size_t i = 0; i < (size_t)2 * MC_LINK_KEY_BYTES; i++) {
		const char *digits = "0123456789abcdef", *d = strchr(digits, hex[i] | 0x20);
		uint8_t v;

		if (d == NULL || *d == '\0')
			return false;
		v = (uint8_t)(d - digits);
		key[i / 2] = (uint8_t)(i % 2 == 0 ? v << 4 : key[i / 2] | v);
	}
	return true;
}

#ifdef MC_HAVE_SODIUM
#include <sodium.h>

#define MAGIC        "MCL1"
#define MAGIC_BYTES  4u
#define NONCE_BYTES  32u
#define PROOF_BYTES  32u
#define STREAM_BYTES crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define EXTRA_BYTES  crypto_secretstream_xchacha20poly1305_ABYTES
#define FIRST_BYTES  (MAGIC_BYTES + NONCE_BYTES)
#define SECOND_BYTES (MAGIC_BYTES + NONCE_BYTES + STREAM_BYTES + PROOF_BYTES)
#define THIRD_BYTES  (STREAM_BYTES + PROOF_BYTES)
#define READ_BYTES   65536u
#define READ_ROUNDS  8

/* Bytes that came or wait: [head, tail). */
struct queue {
	uint8_t *p;
	size_t head, tail, room;
};

struct mc_link {
	int fd;
	enum mc_link_side side;
	enum mc_link_state state;
	char why[120];
	uint8_t key[MC_LINK_KEY_BYTES];
	uint8_t nonce[2][NONCE_BYTES]; /* of head, of agent */
	crypto_secretstream_xchacha20poly1305_state tx, rx;
	bool met;       /* both proofs were right */
	bool met_nonce; /* agent: the first message has come and is answered */
	struct queue in, out;
	struct queue early; /* messages from before the link was up, each behind its length */
	uint8_t *message;   /* the one that is lent out */
	size_t message_room;
};

bool mc_link_possible(void)
{
	return sodium_init() >= 0;
}

static void queue_add(struct queue *q, const void *p, size_t n)
{
	if (q->head > 0 && (q->head == q->tail || q->room - q->tail < n)) {
		memmove(q->p, q->p + q->head, q->tail - q->head);
		q->tail -= q->head;
		q->head = 0;
	}
	if (q->room - q->tail < n) {
		while (q->room - q->tail < n)
			q->room = q->room == 0 ? 1024 : q->room * 2;
		q->p = mc_xgrow(q->p, q->room, 1);
	}
	if (n > 0)
		memcpy(q->p + q->tail, p, n);
	q->tail += n;
}

static size_t queue_len(const struct queue *q)
{
	return q->tail - q->head;
}

static void fail(struct mc_link *l, const char *why)
{
	if (l->state == MC_LINK_BROKEN)
		return;
	l->state = MC_LINK_BROKEN;
	(void)snprintf(l->why, sizeof(l->why), "%s", why);
}

/* Keyed hash of a label, both nonces and, for the proofs, the header of the stream that follows. */
static void hash(const struct mc_link *l, const char *label, const uint8_t *header, uint8_t out[PROOF_BYTES])
{
	crypto_generichash_state st;

	(void)crypto_generichash_init(&st, l->key, sizeof(l->key), PROOF_BYTES);
	(void)crypto_generichash_update(&st, (const unsigned char *)label, strlen(label) + 1);
	(void)crypto_generichash_update(&st, l->nonce[0], NONCE_BYTES);
	(void)crypto_generichash_update(&st, l->nonce[1], NONCE_BYTES);
	if (header != NULL)
		(void)crypto_generichash_update(&st, header, STREAM_BYTES);
	(void)crypto_generichash_final(&st, out, PROOF_BYTES);
}

static const char *label_of(enum mc_link_side side, bool proof)
{
	if (proof)
		return side == MC_LINK_HEAD ? "mc head proof" : "mc agent proof";
	return side == MC_LINK_HEAD ? "mc head stream" : "mc agent stream";
}

static bool random_bytes(void *p, size_t n)
{
	return getrandom(p, n, 0) == (ssize_t)n;
}

struct mc_link *mc_link_create(int fd, enum mc_link_side side, const uint8_t key[MC_LINK_KEY_BYTES])
{
	struct mc_link *l = mc_xalloc(1, sizeof(*l));

	l->fd = fd;
	l->side = side;
	memcpy(l->key, key, sizeof(l->key));
	if (!mc_link_possible() || !random_bytes(l->nonce[side], NONCE_BYTES)) {
		fail(l, "no random numbers from the kernel");
	} else if (side == MC_LINK_HEAD) {
		queue_add(&l->out, MAGIC, MAGIC_BYTES);
		queue_add(&l->out, l->nonce[0], NONCE_BYTES);
	}
	return l;
}

void mc_link_free(struct mc_link *l)
{
	if (l == NULL)
		return;
	if (l->fd >= 0)
		(void)close(l->fd);
	free(l->in.p);
	free(l->out.p);
	free(l->early.p);
	free(l->message);
	sodium_memzero(l, sizeof(*l));
	free(l);
}

/* Our own proof and the header of what we send from now on. */
static void put_proof(struct mc_link *l)
{
	uint8_t header[STREAM_BYTES], k[PROOF_BYTES], proof[PROOF_BYTES];

	hash(l, label_of(l->side, false), NULL, k);
	(void)crypto_secretstream_xchacha20poly1305_init_push(&l->tx, header, k);
	hash(l, label_of(l->side, true), header, proof);
	queue_add(&l->out, header, sizeof(header));
	queue_add(&l->out, proof, sizeof(proof));
	sodium_memzero(k, sizeof(k));
}

static bool check_proof(struct mc_link *l, const uint8_t *header_and_proof)
{
	enum mc_link_side other = l->side == MC_LINK_HEAD ? MC_LINK_AGENT : MC_LINK_HEAD;
	uint8_t k[PROOF_BYTES], proof[PROOF_BYTES];

	hash(l, label_of(other, true), header_and_proof, proof);
	if (sodium_memcmp(proof, header_and_proof + STREAM_BYTES, PROOF_BYTES) != 0)
		return false;
	hash(l, label_of(other, false), NULL, k);
	bool ok = crypto_secretstream_xchacha20poly1305_init_pull(&l->rx, header_and_proof, k) == 0;
	sodium_memzero(k, sizeof(k));
	return ok;
}

static void seal(struct mc_link *l, const uint8_t *p, size_t n)
{
	size_t len = n + EXTRA_BYTES;
	uint8_t le[4] = {(uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16), (uint8_t)(len >> 24)};
	uint8_t *box = mc_xalloc(len, 1);

	(void)crypto_secretstream_xchacha20poly1305_push(&l->tx, box, NULL, p, n, le, sizeof(le), 0);
	queue_add(&l->out, le, sizeof(le));
	queue_add(&l->out, box, len);
	free(box);
}

static void up(struct mc_link *l)
{
	l->state = MC_LINK_UP;
	l->met = true;
	while (queue_len(&l->early) > 0) {
		size_t n;

		memcpy(&n, l->early.p + l->early.head, sizeof(n));
		seal(l, l->early.p + l->early.head + sizeof(n), n);
		l->early.head += sizeof(n) + n;
	}
	free(l->early.p);
	l->early = (struct queue){0};
}

/* One step of the meeting; false: not enough bytes yet, or broken. */
static bool meet(struct mc_link *l)
{
	size_t n = queue_len(&l->in), need;

	if (n == 0)
		return false;
	uint8_t *p = l->in.p + l->in.head;
	if (l->side == MC_LINK_HEAD)
		need = SECOND_BYTES;
	else
		need = l->met_nonce ? THIRD_BYTES : FIRST_BYTES;
	bool magic = !(l->side == MC_LINK_AGENT && l->met_nonce);
	/* a stranger that says something else is sent away at once, not after as many bytes as ours would be */
	if (magic && memcmp(p, MAGIC, n < MAGIC_BYTES ? n : MAGIC_BYTES) != 0) {
		fail(l, "the other side does not speak mcrun's protocol");
		return false;
	}
	if (n < need)
		return false;
	l->in.head += need;
	if (l->side == MC_LINK_AGENT && !l->met_nonce) {
		memcpy(l->nonce[0], p + MAGIC_BYTES, NONCE_BYTES);
		queue_add(&l->out, MAGIC, MAGIC_BYTES);
		queue_add(&l->out, l->nonce[1], NONCE_BYTES);
		put_proof(l);
		l->met_nonce = true;
		return true;
	}
	if (l->side == MC_LINK_HEAD)
		memcpy(l->nonce[1], p + MAGIC_BYTES, NONCE_BYTES);
	if (!check_proof(l, magic ? p + MAGIC_BYTES + NONCE_BYTES : p)) {
		fail(l, "the other side does not have the key of this job");
		return false;
	}
	if (l->side == MC_LINK_HEAD)
		put_proof(l);
	up(l);
	return true;
}

void mc_link_feed(struct mc_link *l, const uint8_t *p, size_t n)
{
	if (l->state == MC_LINK_BROKEN)
		return;
	queue_add(&l->in, p, n);
	while (l->state == MC_LINK_MEETING && meet(l))
		;
}

void mc_link_receive(struct mc_link *l)
{
	uint8_t *buf = mc_xalloc(READ_BYTES, 1);

	for (int i = 0; i < READ_ROUNDS && l->state != MC_LINK_BROKEN; i++) {
		ssize_t n = recv(l->fd, buf, READ_BYTES, MSG_DONTWAIT);

		if (n > 0) {
			mc_link_feed(l, buf, (size_t)n);
			if ((size_t)n < READ_BYTES)
				break;
		} else if (n == 0) {
			fail(l, "the connection was closed");
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			break;
		} else if (errno != EINTR) {
			fail(l, strerror(errno));
		}
	}
	free(buf);
}

bool mc_link_next(struct mc_link *l, const uint8_t **p, size_t *n)
{
	size_t have = queue_len(&l->in);
	unsigned long long plain = 0;
	unsigned char tag;

	if (!l->met || have < 4) /* what came whole before the connection broke still counts */
		return false;
	const uint8_t *in = l->in.p + l->in.head;
	size_t len = in[0] | (size_t)in[1] << 8 | (size_t)in[2] << 16 | (size_t)in[3] << 24;
	if (len < EXTRA_BYTES || len > MC_LINK_MESSAGE_MAX + EXTRA_BYTES) {
		fail(l, "a message of impossible length");
		l->in.head = l->in.tail;
		return false;
	}
	if (have - 4 < len)
		return false;
	if (l->message_room < len) {
		free(l->message);
		l->message_room = len;
		l->message = mc_xalloc(len, 1);
	}
	if (crypto_secretstream_xchacha20poly1305_pull(&l->rx, l->message, &plain, &tag, in + 4, len, in, 4) != 0) {
		fail(l, "a message was altered on its way");
		l->in.head = l->in.tail;
		return false;
	}
	l->in.head += 4 + len;
	*p = l->message;
	*n = (size_t)plain;
	return true;
}

void mc_link_send(struct mc_link *l, const void *p, size_t n)
{
	if (l->state == MC_LINK_UP) {
		seal(l, p, n);
	} else if (l->state == MC_LINK_MEETING) {
		queue_add(&l->early, &n, sizeof(n));
		queue_add(&l->early, p, n);
	}
}

void mc_link_flush(struct mc_link *l)
{
	while (l->state != MC_LINK_BROKEN && queue_len(&l->out) > 0) {
		ssize_t n = send(l->fd, l->out.p + l->out.head, queue_len(&l->out), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			l->out.head += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		else if (errno != EINTR)
			fail(l, strerror(errno));
	}
}

int mc_link_fd(const struct mc_link *l)
{
	return l->fd;
}

enum mc_link_state mc_link_state(const struct mc_link *l)
{
	return l->state;
}

const char *mc_link_why(const struct mc_link *l)
{
	return l->why;
}

bool mc_link_wants_write(const struct mc_link *l)
{
	return l->state != MC_LINK_BROKEN && queue_len(&l->out) > 0;
}

size_t mc_link_queued(const struct mc_link *l)
{
	return queue_len(&l->out);
}
#else

/* Without libsodium there is nothing that could keep strangers out: every link is broken from the start. */
struct mc_link {
	int fd;
};

bool mc_link_possible(void)
{
	return false;
}

struct mc_link *mc_link_create(int fd, enum mc_link_side side, const uint8_t key[MC_LINK_KEY_BYTES])
{
	struct mc_link *l = mc_xalloc(1, sizeof(*l));

	(void)side, (void)key;
	l->fd = fd;
	return l;
}

void mc_link_free(struct mc_link *l)
{
	if (l != NULL && l->fd >= 0)
		(void)close(l->fd);
	free(l);
}

int mc_link_fd(const struct mc_link *l)
{
	return l->fd;
}

enum mc_link_state mc_link_state(const struct mc_link *l)
{
	(void)l;
	return MC_LINK_BROKEN;
}

const char *mc_link_why(const struct mc_link *l)
{
	(void)l;
	return "built without libsodium";
}

bool mc_link_wants_write(const struct mc_link *l)
{
	(void)l;
	return false;
}

void mc_link_receive(struct mc_link *l)
{
	(void)l;
}

void mc_link_feed(struct mc_link *l, const uint8_t *p, size_t n)
{
	(void)l, (void)p, (void)n;
}

bool mc_link_next(struct mc_link *l, const uint8_t **p, size_t *n)
{
	(void)l, (void)p, (void)n;
	return false;
}

void mc_link_send(struct mc_link *l, const void *p, size_t n)
{
	(void)l, (void)p, (void)n;
}

void mc_link_flush(struct mc_link *l)
{
	(void)l;
}

size_t mc_link_queued(const struct mc_link *l)
{
	(void)l;
	return 0;
}
#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* rail_soak_receiver.c - rank 1: looks at the bytes the moment their note is there, and counts notes. */
#include <stdlib.h>
#include <string.h>

#include "rail_soak.h"

enum { STRAY_NS = 500000000 }; /* how long after the end a second copy of a note is waited for */

struct receiver {
	struct mc_ctx *ctx;
	const struct soak_opts *o;
	uint8_t *base;
	uint8_t *seen; /* [SOAK_PUTS_MAX] notes of each transfer */
	uint64_t wrong, notes, torn, counted;
	uint8_t *ended; /* the sender's list: what each transfer ended with, 1: well */
	uint32_t ended_n;
};

static void acknowledge(struct receiver *r, uint64_t number)
{
	struct mc_notify n = {.size = sizeof(n), .flags = MC_NOTIFY_COUNT, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .notify = &n};
	struct mc_req *req;
	n.tag = TAG_ACK + number % r->o->window;
	if (mc_put(r->ctx, 0, NULL, 0, &opts, &req) == MC_OK)
		mc_req_free(req);
}

static void take(struct receiver *r, const struct mc_note *note)
{
	if (note->tag == TAG_END) {
		r->ended = malloc(note->len + 1u);
		if (r->ended == NULL)
			abort();
		memcpy(r->ended, note->data, note->len);
		r->ended_n = note->len;
		return;
	}
	if (note->tag >= SOAK_PUTS_MAX)
		return;
	r->notes++;
	if (r->seen[note->tag] < 255)
		r->seen[note->tag]++;
	if (!r->o->get && !r->o->blind && r->seen[note->tag] == 1) {
		uint64_t slot = note->tag % r->o->window;
		uint64_t wrong = soak_wrong(r->o, r->base + slot * r->o->span, note->tag, true);
		r->wrong += wrong;
		r->torn += wrong != 0;
	}
	acknowledge(r, note->tag);
}

/* The counter of a transfer's own tag has kept what arrived under it. */
static uint64_t counted(struct receiver *r, uint64_t number)
{
	struct mc_counter *c;
	if (mc_counter_open(r->ctx, number, 0, &c) != MC_OK)
		return 0;
	uint64_t v = mc_counter_read(c);
	mc_counter_close(c);
	return v;
}

static int report(struct receiver *r, bool lost_peer)
{
	uint64_t missing = 0, doubled = 0, unwanted = 0, ok = 0;
	char path[512];
	for (uint32_t i = 0; i < SOAK_PUTS_MAX; i++) {
		bool well = i < r->ended_n && r->ended[i] == 1;
		uint64_t count = i < r->ended_n ? counted(r, i) : 0;
		r->counted += count;
		ok += well;
		missing += well && (r->seen[i] == 0 || count == 0);
		doubled += r->seen[i] > 1 || count > 1;
		unwanted += !well && r->seen[i] + count != 0 && r->ended != NULL;
	}
	snprintf(path, sizeof(path), "%s.1", r->o->json != NULL ? r->o->json : "/dev/null");
	FILE *f = fopen(path, "w");
	if (f == NULL) {
		perror(path);
		return 1;
	}
	fprintf(f,
		"{\"notes\": %llu, \"counted\": %llu, \"ok\": %llu, \"wrong_bytes\": %llu, \"torn\": %llu, "
		"\"missing\": %llu, "
		"\"doubled\": %llu, \"of_failed\": %llu, \"peer_lost\": %d}\n",
		(unsigned long long)r->notes, (unsigned long long)r->counted, (unsigned long long)ok,
		(unsigned long long)r->wrong, (unsigned long long)r->torn, (unsigned long long)missing,
		(unsigned long long)doubled, (unsigned long long)unwanted, lost_peer);
	fclose(f);
	bool good = r->wrong == 0 && missing == 0 && doubled == 0 && unwanted == 0 && !lost_peer &&
		    (r->ended == NULL || r->counted == ok);
	if (!good)
		fprintf(stderr,
			"rail_soak: rank 1: %llu wrong bytes, notes: %llu missing, %llu doubled, %llu of failed "
			"transfers; counter %llu of %llu%s\n",
			(unsigned long long)r->wrong, (unsigned long long)missing, (unsigned long long)doubled,
			(unsigned long long)unwanted, (unsigned long long)r->counted, (unsigned long long)ok,
			lost_peer ? "; rank 0 is lost" : "");
	return good ? 0 : 1;
}

int soak_receiver(struct mc_ctx *ctx, const struct soak_opts *o)
{
	struct receiver r = {.ctx = ctx, .o = o, .seen = calloc(SOAK_PUTS_MAX, 1)};
	struct mc_mem *mem;
	struct mc_note *note;
	struct mc_peer_info peer = {.size = sizeof(peer)};
	bool lost = false;
	int64_t deadline = 0;

	if (r.seen == NULL)
		return 1;
	soak_must(mc_mem_alloc(ctx, o->span * o->window, NULL, &mem), "mc_mem_alloc");
	r.base = mc_mem_addr(mem);
	for (uint32_t i = 0; o->get && i < o->window; i++)
		soak_fill(o, r.base + i * o->span, i, true);
	soak_must(mc_mem_publish(mem, "slots"), "mc_mem_publish");
	while (deadline == 0 || soak_now() < deadline) {
		mc_status_t s = mc_note_recv(ctx, 50000000, &note);
		if (s == MC_OK) {
			take(&r, note);
			mc_note_free(note);
		} else if (mc_peer_query(ctx, 0, &peer) != MC_OK ||
			   (peer.state != MC_OK && peer.state != MC_IN_PROGRESS)) {
			lost = deadline == 0;
			break;
		}
		if (r.ended != NULL && deadline == 0)
			deadline = soak_now() + STRAY_NS;
	}
	int rc = report(&r, lost);
	free(r.seen);
	free(r.ended);
	return rc;
}

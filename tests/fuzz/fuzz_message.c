/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every message body a peer can send, to a live context: first byte the kind (+ 128: from another job), second how many
 * bytes are body, the rest body and data (from 19, JOIN, on: all is body); kind + 64: the first of two frames in one
 * message, without data; kind 63: a short message, whose kind is the second byte. The frames are right, as from a peer
 * that has gone mad. Nothing may crash, leak or write outside the one region that is there; after a malformed message
 * the peer is taken back in.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/fake_bridge.h"
#include "foreign.h"
#include "hub.h"

extern const struct mc_be_ops mc_be_loop;
extern const struct mc_boot_ops mc_boot_hub;

/* In place of builtin.c. */
const struct mc_be_ops *const mc_builtin_backends[] = {&mc_be_loop, NULL};
const struct mc_boot_ops *const mc_builtin_boots[] = {&mc_boot_hub, NULL};
const struct mc_bridge_ops *const mc_builtin_bridges[] = {&mc_bridge_fake, NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REGION = 4096, GUARD = 256, SHORT = 63 };
#define JOB   UINT64_C(0x1111111111111111)
#define EPOCH UINT64_C(0x3333333333333333) /* of a process that says that it is rank 1 now */
#define OTHER UINT64_C(0x4444444444444444) /* another job */

static struct mc_hub *hub;
static struct mc_ctx *ctx[2];
static struct mc_mem *mem;
static uint8_t *memory; /* guard, region, guard */

static void quiet(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static void *init_one(void *arg)
{
	uint32_t rank = arg == NULL ? 0 : 1;
	struct mc_params p = {.size = sizeof(p), .hub = hub, .rank = rank, .backend = "loop", .progress = "manual"};
	if (mc_init(&p, &ctx[rank]) != MC_OK)
		abort();
	return NULL;
}

static void set_up(void)
{
	pthread_t t;
	fake_reset();
	mc_log_set_sink(quiet, NULL);
	if (mc_hub_create(2, &hub) != MC_OK || pthread_create(&t, NULL, init_one, &hub) != 0)
		abort();
	init_one(NULL);
	pthread_join(t, NULL);
	/* The seeds of JOIN and WELCOME were made for this job. */
	ctx[0]->job = ctx[1]->job = JOB;
	for (int i = 0; i < 2; i++)
		for (struct mc_list *l = ctx[i]->peers.next; l != &ctx[i]->peers; l = l->next)
			mc_peer_of_node(l)->job = JOB;
	mc_ctx_lock(ctx[0]);
	mc_foreign_poll(ctx[0]); /* the cluster's key */
	mc_ctx_unlock(ctx[0]);
	if (ctx[0]->foreign->key == NULL)
		abort();
	memory = malloc(REGION + 2 * GUARD);
	struct mc_region r = {.size = sizeof(r), .addr = memory + GUARD, .len = REGION, .device = -1, .fd = -1};
	if (mc_mem_register(ctx[0], &r, &mem) != MC_OK || mc_mem_publish(mem, "kv") != MC_OK)
		abort();
}

static void take_back(struct mc_peer *p)
{
	if (p->state != MC_PEER_DOWN)
		return;
	p->state = MC_PEER_IDLE;
	p->left = false;
	p->link = NULL;
	p->rx_msgs = 0;
}

/* JOIN may have put another process in the place of rank 1: forget that one, and know the real one again. */
static void know_again(void)
{
	static uint8_t rec[MC_RECORD_MAX];
	uint32_t len = 0;
	struct mc_peer *p = mc_peer_get(ctx[0], 1);
	if (p->epoch == ctx[1]->epoch)
		return;
	mc_ctx_lock(ctx[0]);
	mc_peer_fail(p, MC_ERR_PEER_DOWN, "made up");
	mc_ctx_unlock(ctx[0]);
	for (int i = 0; i < 3; i++)
		mc_progress(ctx[0]);
	mc_ctx_lock(ctx[0]);
	for (struct mc_list *l = ctx[0]->peers.next, *next; l != &ctx[0]->peers; l = next) {
		next = l->next;
		if (mc_peer_of_node(l)->id == 1)
			mc_peer_free(mc_peer_of_node(l));
	}
	p = mc_peer_new(ctx[0]);
	if (p == NULL || mc_record_make(ctx[1], &ctx[1]->key, rec, sizeof(rec), &len) != MC_OK ||
	    mc_record_parse(ctx[0], &ctx[0]->key, p, rec, len) != MC_OK)
		abort();
	mc_peer_enter(p, 1);
	mc_ctx_unlock(ctx[0]);
}

/* Ranks of another job that a JOIN has made known are forgotten. */
static void forget_foreign(void)
{
	struct mc_foreign *f = ctx[0]->foreign;
	mc_ctx_lock(ctx[0]);
	for (uint32_t i = 0; i < f->n; i++)
		mc_peer_fail(mc_foreign_get(f, i), MC_ERR_PEER_DOWN, "made up");
	mc_ctx_unlock(ctx[0]);
	for (int i = 0; i < 3 && f->n > 0; i++)
		mc_progress(ctx[0]);
	mc_ctx_lock(ctx[0]);
	for (struct mc_list *l = ctx[0]->peers.next, *next; l != &ctx[0]->peers; l = next) {
		next = l->next;
		if (mc_peer_of_node(l)->id >= ctx[0]->size)
			mc_peer_free(mc_peer_of_node(l));
	}
	for (uint32_t i = 0; i < f->n; i++)
		atomic_store(&atomic_load(&f->chunk[0])->peer[i], NULL);
	memset(f->by_name, 0, sizeof(f->by_name));
	memset(f->by_frame, 0, sizeof(f->by_frame));
	f->n = 0;
	mc_ctx_unlock(ctx[0]);
}

static void drain(void)
{
	struct mc_note *n;
	struct mc_fault f = {.size = sizeof(f)};
	for (int i = 0; i < 3; i++) {
		mc_progress(ctx[0]);
		mc_progress(ctx[1]);
	}
	while (mc_note_recv(ctx[0], 0, &n) == MC_OK)
		mc_note_free(n);
	for (int i = 0; i < 2; i++)
		while (mc_fault_next(ctx[i], &f) == MC_OK)
			;
	mc_arrivals_free(ctx[0]);
	ctx[0]->counter_early = 0;
	mc_colls_free(ctx[0]);
	ctx[0]->coll_msg_n = 0;
	take_back(mc_peer_get(ctx[0], 1));
	know_again();
	forget_foreign();
	take_back(mc_peer_get(ctx[1], 0));
}

/* One frame at `to` from input; returns its length. first: another follows, so no data, and a multiple of 8. */
static uint32_t frame_from(uint8_t *to, const uint8_t *data, uint32_t size, bool first, uint32_t *bulk_out)
{
	uint8_t kind = (data[0] & 63) % (MC_MSG_KINDS + 1);
	uint32_t rest = size - 2, body = data[1] < rest && (data[0] & 63) < MC_MSG_JOIN ? data[1] : rest;
	body = first ? body & ~7u : body;
	rest = first ? body : rest;
	struct mc_frame f = {.kind = kind,
			     .src_rank = 1,
			     .job = data[0] >= 128 ? OTHER : ctx[0]->job,
			     .src_epoch = kind == MC_MSG_JOIN ? EPOCH : ctx[1]->epoch,
			     .dst_epoch = ctx[0]->epoch,
			     .body_len = body,
			     .data_len = rest - body};
	memcpy(to + MC_FRAME_LEN, data + 2, rest);
	mc_frame_encode(&f, to + MC_FRAME_LEN, &ctx[0]->key, false, to);
	*bulk_out = f.data_len;
	return MC_FRAME_LEN + rest;
}

/* With 64: of another incarnation. With 128: cut to any length. */
static void short_message(uint8_t *msg, const uint8_t *data, uint32_t size)
{
	uint32_t len = MC_SHORT_LEN + size - 2;
	uint64_t check = mc_short_check(ctx[0]->job, ctx[1]->epoch, ctx[0]->epoch);
	mc_short_encode(data[1], 1, check ^ (data[0] & 64 ? 1 : 0), msg);
	memcpy(msg + MC_SHORT_LEN, data + 2, size - 2);
	if (data[0] & 128)
		len = len * data[1] / 255;
	mc_ctx_lock(ctx[0]);
	mc_msg_arrived(ctx[0], &ctx[0]->be[0], msg, len, 0);
	mc_ctx_unlock(ctx[0]);
	drain();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t msg[2 * MC_FRAME_LEN + 8192];
	uint32_t used = 0, bulk;
	if (ctx[0] == NULL)
		set_up();
	if (size < 2 || size > 8192)
		return 0;
	if ((data[0] & 63) == SHORT) {
		short_message(msg, data, (uint32_t)size);
		return 0;
	}
	if (data[0] & 64) {
		used = frame_from(msg, data, (uint32_t)size, true, &bulk);
		data += 2 + used - MC_FRAME_LEN;
		size -= 2 + used - MC_FRAME_LEN;
		if (size < 2)
			return 0;
	}
	memset(memory, 0x5a, GUARD);
	memset(memory + GUARD + REGION, 0x5a, GUARD);
	used += frame_from(msg + used, data, (uint32_t)size, false, &bulk);
	mc_ctx_lock(ctx[0]);
	/* as a whole, or as a backend hands it over that has bulk data apart */
	bool placed = size % 2 == 0 && bulk > 0 &&
		      mc_msg_bulk(&ctx[0]->be[0], msg, used - bulk, msg + used - bulk, bulk);
	mc_msg_arrived(ctx[0], &ctx[0]->be[0], msg, placed ? used - bulk : used, placed ? bulk : 0);
	mc_ctx_unlock(ctx[0]);
	drain();
	for (uint32_t i = 0; i < GUARD; i++)
		if (memory[i] != 0x5a || memory[GUARD + REGION + i] != 0x5a)
			abort();
	return 0;
}

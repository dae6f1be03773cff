/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * prefill_to_decode.c - the whole idea in one file: a prefill rank computes the KV cache of a request, a decode rank
 * gets it block by block into free places of its own pool, and knows by itself when all of it has arrived.
 *
 *     mcrun --prefill 2 --decode 2 build/bin/prefill_to_decode
 *
 * The decode rank publishes its pool under a name, tells its prefill rank which blocks are free (a note), and sleeps on
 * a counter. The prefill rank puts all blocks of all layers in one call; the counter rises once their bytes can be
 * read.
 */
#include <stdio.h>
#include <string.h>

#include "mc.h"

enum {
	LAYERS = 4,
	POOL_BLOCKS = 64,     /* places per layer in a pool */
	REQUEST_BLOCKS = 10,  /* blocks that the request needs */
	BLOCK_BYTES = 64 * 1024, /* 16 tokens x 8 KV heads x 128 x 2 (K and V) x 2 bytes */
	TAG_REQUEST = 17,
};
static const int64_t second_ns = INT64_C(1000000000);

static int failed(const char *what, mc_status_t s)
{
	fprintf(stderr, "%s: %s (%s)\n", what, mc_status_text(s), mc_status_name(s));
	return 1;
}

/* A pool is laid out [layer][block][BLOCK_BYTES]. */
static uint64_t offset(uint32_t layer, uint32_t block)
{
	return ((uint64_t)layer * POOL_BLOCKS + block) * BLOCK_BYTES;
}

/* What a model would compute: here a byte that only this layer and block of this prefill rank has. */
static unsigned char content(uint32_t prefill, uint32_t layer, uint32_t i)
{
	return (unsigned char)(1 + prefill * 97 + layer * 31 + i * 7);
}

/* Blocks of the decode rank's pool in an order that is not sorted, as a pool in use has them. */
static void choose_blocks(uint32_t block[REQUEST_BLOCKS])
{
	for (uint32_t i = 0; i < REQUEST_BLOCKS; i++)
		block[i] = (5 + i * 23) % POOL_BLOCKS;
}

/* Does the pool hold in these blocks what that prefill rank wrote, byte by byte? */
static int verify(const unsigned char *pool, const uint32_t block[REQUEST_BLOCKS], uint32_t prefill)
{
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		for (uint32_t i = 0; i < REQUEST_BLOCKS; i++) {
			const unsigned char *p = pool + offset(layer, block[i]);
			for (uint32_t k = 0; k < BLOCK_BYTES; k++) {
				if (p[k] != content(prefill, layer, i)) {
					fprintf(stderr, "wrong byte: layer %u, block %u, byte %u\n", layer, i, k);
					return 1;
				}
			}
		}
	}
	return 0;
}

static int decode(struct mc_ctx *ctx, struct mc_mem *mem, uint32_t prefill)
{
	uint32_t block[REQUEST_BLOCKS];
	struct mc_counter *arrived;
	mc_status_t s = mc_mem_publish(mem, "kv-pool");
	if (s != MC_OK)
		return failed("mc_mem_publish", s);
	s = mc_counter_open(ctx, TAG_REQUEST, prefill, &arrived);
	if (s != MC_OK)
		return failed("mc_counter_open", s);
	choose_blocks(block);
	s = mc_note_send(ctx, prefill, TAG_REQUEST, block, sizeof(block), NULL);
	if (s == MC_OK)
		s = mc_counter_wait(arrived, 1, 30 * second_ns); /* asleep, not spinning */
	mc_counter_close(arrived);
	if (s != MC_OK)
		return failed("waiting for the KV cache", s);
	if (verify(mc_mem_addr(mem), block, prefill) != 0)
		return 1;
	printf("decode rank %u: %u bytes in %u blocks from rank %u, every byte verified\n", mc_rank(ctx),
	       LAYERS * REQUEST_BLOCKS * BLOCK_BYTES, LAYERS * REQUEST_BLOCKS, prefill);
	return 0;
}

/* All blocks of all layers in one request; the last argument of the put says what the target shall learn. */
static mc_status_t send_blocks(struct mc_ctx *ctx, struct mc_mem *mem, struct mc_rmem *pool, const uint32_t *block)
{
	struct mc_slice slice[LAYERS * REQUEST_BLOCKS];
	struct mc_notify notify = {.size = sizeof(notify), .flags = MC_NOTIFY_COUNT, .tag = TAG_REQUEST, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .timeout_ns = 30 * second_ns, .notify = &notify};
	struct mc_req *req;
	uint32_t n = 0;
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		for (uint32_t i = 0; i < REQUEST_BLOCKS; i++)
			slice[n++] =
				(struct mc_slice){mem, offset(layer, i), pool, offset(layer, block[i]), BLOCK_BYTES};
	}
	mc_status_t s = mc_put(ctx, mc_rmem_peer(pool), slice, n, &opts, &req);
	if (s != MC_OK)
		return s;
	s = mc_req_wait(req, MC_FOREVER); /* ends within the request's own deadline */
	mc_req_free(req);
	return s;
}

static int prefill(struct mc_ctx *ctx, struct mc_mem *mem)
{
	struct mc_rmem *pool;
	struct mc_note *note;
	uint32_t block[REQUEST_BLOCKS];
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		for (uint32_t i = 0; i < REQUEST_BLOCKS; i++)
			memset((unsigned char *)mc_mem_addr(mem) + offset(layer, i), content(mc_rank(ctx), layer, i),
			       BLOCK_BYTES);
	}
	mc_status_t s = mc_note_recv(ctx, 30 * second_ns, &note);
	if (s != MC_OK)
		return failed("waiting for a request", s);
	uint32_t decoder = note->peer;
	if (note->len != sizeof(block)) {
		fprintf(stderr, "a request of %u bytes is not one of ours\n", note->len);
		mc_note_free(note);
		return 1;
	}
	memcpy(block, note->data, sizeof(block));
	mc_note_free(note);
	s = mc_mem_lookup(ctx, decoder, "kv-pool", 30 * second_ns, &pool);
	if (s != MC_OK)
		return failed("mc_mem_lookup", s);
	s = send_blocks(ctx, mem, pool, block);
	mc_rmem_release(pool);
	return s == MC_OK ? 0 : failed("sending the KV cache", s);
}

/* Pair the i-th prefill rank with the i-th decode rank; a job of one rank or of unequal halves is refused. */
static int run(struct mc_ctx *ctx)
{
	struct mc_group *from = NULL, *to = NULL;
	struct mc_mem *mem;
	int bad = 1;
	if (mc_group_role(ctx, "prefill", &from) != MC_OK || mc_group_role(ctx, "decode", &to) != MC_OK ||
	    mc_group_size(from) != mc_group_size(to)) {
		fprintf(stderr, "run me with as many prefill as decode ranks: mcrun --prefill 1 --decode 1 "
				"prefill_to_decode\n");
		goto undo_groups;
	}
	mc_status_t s = mc_mem_alloc(ctx, (uint64_t)LAYERS * POOL_BLOCKS * BLOCK_BYTES, NULL, &mem);
	if (s != MC_OK) {
		failed("mc_mem_alloc", s);
		goto undo_groups;
	}
	bad = mc_group_rank(from) != MC_NO_RANK ? prefill(ctx, mem)
						: decode(ctx, mem, mc_group_peer(from, mc_group_rank(to)));
	/* Nobody frees memory that a peer may still write to. */
	if (!bad && (s = mc_barrier(mc_group_world(ctx), 30 * second_ns)) != MC_OK)
		bad = failed("mc_barrier", s);
	s = mc_mem_free(mem);
	if (!bad && s != MC_OK)
		bad = failed("mc_mem_free", s);
undo_groups:
	mc_group_free(to);
	mc_group_free(from);
	return bad;
}

int main(void)
{
	struct mc_ctx *ctx;
	mc_status_t s = mc_init(NULL, &ctx);
	if (s != MC_OK)
		return failed("mc_init", s);
	int bad = run(ctx);
	mc_finalize(ctx);
	return bad;
}

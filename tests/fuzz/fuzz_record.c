/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What peers publish: the record of a rank (first byte even) and an exported region (odd). Accepted means consistent.
 */
#include <stdlib.h>
#include <string.h>

#include "nic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mc_ctx *ctx;

static void quiet(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static void record(const uint8_t *data, uint32_t len)
{
	struct mc_peer *p = mc_peer_new(ctx);
	if (p != NULL && mc_record_parse(ctx, &ctx->key, p, data, len) == MC_OK) {
		char text[700];
		if (p->epoch == 0 || (p->job_name == NULL) != (p->job == ctx->job) ||
		    memchr(p->role, '\0', sizeof(p->role)) == NULL || memchr(p->host, '\0', sizeof(p->host)) == NULL)
			abort();
		for (uint32_t i = 0; i < ctx->be_n; i++)
			if (p->addr[i].len > MC_BLOB_MAX ||
			    (p->addr[i].len > 0 &&
			     ((const uint8_t *)p->addr[i].p < (uint8_t *)p->record ||
			      (const uint8_t *)p->addr[i].p + p->addr[i].len > (uint8_t *)p->record + len)))
				abort();
		mc_nics_compare(p, text, sizeof(text));
		if (memchr(text, '\0', sizeof(text)) == NULL)
			abort();
	}
	mc_peer_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (ctx == NULL) {
		struct mc_params p = {.size = sizeof(p), .backend = "shm", .progress = "manual"};
		mc_log_set_sink(quiet, NULL);
		if (mc_init(&p, &ctx) != MC_OK)
			abort();
		/* The seeds were made for this job and incarnation. */
		ctx->job = 0x1111111111111111;
		ctx->epoch = ctx->self->epoch = 0x2222222222222222;
		if (mc_nics_choose(ctx) != MC_OK)
			abort();
	}
	if (size < 1 || size > 65536)
		return 0;
	if (data[0] % 2 == 0) {
		record(data + 1, (uint32_t)size - 1);
	} else {
		struct mc_rmem *r;
		if (mc_mem_import(ctx, 0, data + 1, (uint32_t)size - 1, &r) == MC_OK) {
			if (mc_rmem_peer(r) != 0)
				abort();
			mc_rmem_release(r);
		}
	}
	return 0;
}

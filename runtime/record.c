/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * record.c - the record of a rank: who it is and where its backends are. Published through the rendezvous, in the
 * directory between jobs, and carried by JOIN. Format: docs/WIRE.md.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nic.h"

#define RECORD_MAGIC   0x5243434du /* "MCCR" */
#define RECORD_VERSION 2u

mc_status_t mc_record_make(struct mc_ctx *ctx, const struct mc_mac_key *key, void *buf, uint32_t room,
			   uint32_t *len_out)
{
	struct mc_wr w;
	mc_wr_init(&w, buf, room - MC_MAC_LEN);
	mc_wr_u32(&w, RECORD_MAGIC);
	mc_wr_u32(&w, RECORD_VERSION);
	mc_wr_u64(&w, ctx->job);
	mc_wr_str(&w, ctx->job_name);
	mc_wr_u32(&w, ctx->rank);
	mc_wr_u64(&w, ctx->epoch);
	mc_wr_u32(&w, ctx->boot_info.again);
	mc_wr_u64(&w, ctx->born);
	mc_wr_u64(&w, ctx->host_id);
	mc_wr_u32(&w, (uint32_t)getpid());
	mc_wr_str(&w, ctx->role);
	mc_wr_str(&w, ctx->host);
	mc_wr_u32(&w, ctx->be_n);
	for (uint32_t i = 0; i < ctx->be_n; i++) {
		mc_wr_str(&w, ctx->be[i].ops->name);
		mc_wr_blob(&w, ctx->be[i].caps.addr, ctx->be[i].caps.addr_len);
	}
	mc_nics_write(ctx, &w);
	if (w.bad) {
		mc_error("rank %u: backend addresses do not fit %u bytes", ctx->rank, room);
		return MC_ERR_NOSPC;
	}
	uint32_t len = (uint32_t)mc_wr_len(&w);
	mc_mac(key, buf, len, NULL, 0, (uint8_t *)buf + len);
	*len_out = len + MC_MAC_LEN;
	return MC_OK;
}

static mc_status_t check_mac(const struct mc_mac_key *key, const uint8_t *buf, uint32_t len)
{
	uint8_t mac[MC_MAC_LEN];
	mc_mac(key, buf, len, NULL, 0, mac);
	return mc_mac_equal(mac, buf + len) ? MC_OK : MC_ERR_AUTH;
}

static void read_addresses(struct mc_ctx *ctx, struct mc_peer *p, struct mc_rd *r)
{
	uint32_t n = mc_rd_u32(r);
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		char name[MC_NAME_MAX];
		uint32_t len;
		mc_rd_str(r, name, sizeof(name));
		const void *addr = mc_rd_blob(r, &len, MC_BLOB_MAX);
		for (uint32_t k = 0; addr != NULL && k < ctx->be_n; k++) {
			if (strcmp(name, ctx->be[k].ops->name) == 0) {
				p->addr[k].p = addr;
				p->addr[k].len = len;
			}
		}
	}
}

static mc_status_t read_record(struct mc_ctx *ctx, struct mc_peer *p, struct mc_rd *r)
{
	char job_name[MC_JOB_MAX];
	uint32_t magic = mc_rd_u32(r), version = mc_rd_u32(r);
	if (r->bad || magic != RECORD_MAGIC || version != RECORD_VERSION)
		return MC_ERR_PROTO;
	p->job = mc_rd_u64(r);
	mc_rd_str(r, job_name, sizeof(job_name));
	p->rank = mc_rd_u32(r);
	p->epoch = mc_rd_u64(r);
	p->again = mc_rd_u32(r);
	p->born = mc_rd_u64(r);
	p->host_id = mc_rd_u64(r);
	p->pid = (int32_t)mc_rd_u32(r);
	mc_rd_str(r, p->role, sizeof(p->role));
	mc_rd_str(r, p->host, sizeof(p->host));
	read_addresses(ctx, p, r);
	mc_nics_read(p, r);
	if (!mc_rd_end(r) || p->epoch == 0)
		return MC_ERR_PROTO;
	if (p->job == ctx->job)
		return MC_OK; /* the name is ours */
	p->job_name = strdup(job_name);
	return p->job_name != NULL ? MC_OK : MC_ERR_NOMEM;
}

mc_status_t mc_record_parse(struct mc_ctx *ctx, const struct mc_mac_key *key, struct mc_peer *p, const void *buf,
			    uint32_t len)
{
	if (len < MC_MAC_LEN || len > MC_RECORD_MAX)
		return MC_ERR_PROTO;
	p->record = malloc(len);
	if (p->record == NULL)
		return MC_ERR_NOMEM;
	memcpy(p->record, buf, len);
	p->record_len = len;
	p->key = key;
	mc_status_t s = check_mac(key, p->record, len - MC_MAC_LEN);
	if (s != MC_OK)
		return s;
	struct mc_rd r;
	mc_rd_init(&r, p->record, len - MC_MAC_LEN);
	return read_record(ctx, p, &r);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ucx_mem.c - regions of this process and descriptors of peers' regions.
 *
 * UCX's keys say nothing about a region that was freed meanwhile, and same-host copies go by plain addresses. So the
 * owner numbers its regions, and tells every peer when one ends; a peer refuses posts to it from then on.
 */
#include <stdlib.h>
#include <string.h>

#include "ucx.h"
#include "wire.h"

enum { BLOB_MAGIC = 0x4d435542, /* "MCUB" */ BLOB_HEAD = 4 + 8 + 8 + 8 + 8 + 4, BLOB_CRC = 4 };

mc_status_t mc_ucx_mem_reg(struct mc_be *be, const struct mc_be_region *r, struct mc_be_mem **mem_out)
{
	ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
		.address = r->addr,
		.length = r->len,
	};
	struct mc_be_mem *mem;
	ucs_status_t st;

	if (r->kind != MC_KIND_HOST)
		return MC_ERR_UNSUPPORTED;
	if (r->addr == NULL && r->len != 0)
		return MC_ERR_INVAL;
	mem = calloc(1, sizeof(*mem));
	if (mem == NULL)
		return MC_ERR_NOMEM;
	mem->id = r->id;
	mem->addr = r->addr;
	mem->len = r->len;
	if ((be->flags & MC_CAP_RMA) && r->len > 0) {
		st = ucp_mem_map(be->ctx, &params, &mem->memh);
		if (st != UCS_OK) {
			mc_error("ucx: rank %u: registering %llu bytes: %s; is the limit of locked memory (ulimit -l) "
				 "reached? [memlock, see mcinfo doctor]",
				 be->rank, (unsigned long long)r->len, ucs_status_string(st));
			free(mem);
			return MC_ERR_NOMEM;
		}
	}
	mc_list_add_tail(&be->mems, &mem->node);
	*mem_out = mem;
	return MC_OK;
}

void mc_ucx_mem_dereg(struct mc_be *be, struct mc_be_mem *mem)
{
	uint8_t id[8];
	struct mc_wr w;

	mc_wr_init(&w, id, sizeof(id));
	mc_wr_u64(&w, mem->id);
	for (struct mc_list *l = be->links.next; mem->exported && l != &be->links; l = l->next) {
		struct ucx_link *link = mc_container_of(l, struct ucx_link, node);
		if (link->state == LINK_CONNECTING || link->state == LINK_UP)
			mc_ucx_control(link, UCX_GONE, link->id, id, sizeof(id));
	}
	if (mem->memh != NULL && ucp_mem_unmap(be->ctx, mem->memh) != UCS_OK)
		mc_warn("ucx: rank %u: region %llu could not be unmapped", be->rank, (unsigned long long)mem->id);
	mc_list_del(&mem->node);
	free(mem);
}

mc_status_t mc_ucx_mem_export(struct mc_be *be, struct mc_be_mem *mem, void *blob, uint32_t *len)
{
	void *key = NULL;
	size_t key_len = 0;
	struct mc_wr w;
	ucs_status_t st;
	uint32_t need;

	if (!(be->flags & MC_CAP_RMA))
		return MC_ERR_UNSUPPORTED;
	if (mem->memh != NULL) {
		st = ucp_rkey_pack(be->ctx, mem->memh, &key, &key_len);
		if (st != UCS_OK) {
			mc_error("ucx: rank %u: key of region %llu: %s", be->rank, (unsigned long long)mem->id,
				 ucs_status_string(st));
			return mc_ucx_status(st);
		}
	}
	need = key_len > UCX_BLOB_MAX ? UINT32_MAX : BLOB_HEAD + (uint32_t)key_len + BLOB_CRC;
	if (*len < need) {
		*len = need;
		if (key != NULL)
			ucp_rkey_buffer_release(key);
		return MC_ERR_NOSPC;
	}
	mc_wr_init(&w, blob, need);
	mc_wr_u32(&w, BLOB_MAGIC);
	mc_wr_u64(&w, be->epoch);
	mc_wr_u64(&w, mem->id);
	mc_wr_u64(&w, (uint64_t)(uintptr_t)mem->addr);
	mc_wr_u64(&w, mem->len);
	mc_wr_blob(&w, key, (uint32_t)key_len);
	mc_wr_u32(&w, mc_crc32c(0, blob, need - BLOB_CRC));
	if (key != NULL)
		ucp_rkey_buffer_release(key);
	mem->exported = true;
	*len = need;
	return MC_OK;
}

static mc_status_t blob_parse(const void *blob, uint32_t len, struct mc_be_rmem *rmem, uint64_t *epoch_out,
			      const void **key_out, uint32_t *key_len_out)
{
	struct mc_rd r;
	uint32_t magic, crc;
	uint64_t end;

	mc_rd_init(&r, blob, len);
	magic = mc_rd_u32(&r);
	*epoch_out = mc_rd_u64(&r);
	rmem->id = mc_rd_u64(&r);
	rmem->addr = mc_rd_u64(&r);
	rmem->len = mc_rd_u64(&r);
	*key_out = mc_rd_blob(&r, key_len_out, UCX_BLOB_MAX);
	crc = mc_rd_u32(&r);
	if (!mc_rd_end(&r) || magic != BLOB_MAGIC || crc != mc_crc32c(0, blob, len - BLOB_CRC))
		return MC_ERR_PROTO;
	if (!mc_add_u64(rmem->addr, rmem->len, &end) || (*key_len_out == 0) != (rmem->len == 0))
		return MC_ERR_PROTO;
	return MC_OK;
}

mc_status_t mc_ucx_rmem_import(struct mc_be *be, struct mc_be_ep *ep, const void *blob, uint32_t len,
			       struct mc_be_rmem **rmem_out)
{
	struct mc_be_rmem *rmem;
	const void *key = NULL;
	uint32_t key_len = 0;
	uint64_t epoch = 0;
	ucs_status_t st;
	mc_status_t s = MC_ERR_UNSUPPORTED;

	if (!(be->flags & MC_CAP_RMA))
		return s;
	if (ep->link == NULL)
		return MC_ERR_INVAL;
	if (ep->link->state != LINK_CONNECTING && ep->link->state != LINK_UP)
		return MC_ERR_PEER_DOWN;
	rmem = calloc(1, sizeof(*rmem));
	if (rmem == NULL)
		return MC_ERR_NOMEM;
	s = blob_parse(blob, len, rmem, &epoch, &key, &key_len);
	if (s == MC_OK && epoch != ep->link->epoch)
		s = MC_ERR_STALE;
	if (s == MC_OK && !ep->link->direct)
		s = MC_ERR_UNSUPPORTED;
	if (s == MC_OK && key_len > 0) {
		st = ucp_ep_rkey_unpack(ep->link->ucp, key, &rmem->rkey);
		if (st != UCS_OK) {
			mc_error("ucx: rank %u: key of region %llu of rank %u: %s", be->rank,
				 (unsigned long long)rmem->id, ep->link->rank, ucs_status_string(st));
			s = st == UCS_ERR_UNREACHABLE ? MC_ERR_UNSUPPORTED : mc_ucx_status(st);
		}
	}
	if (s != MC_OK) {
		free(rmem);
		return s;
	}
	rmem->link = ep->link;
	mc_list_add_tail(&ep->link->rmems, &rmem->node);
	*rmem_out = rmem;
	return MC_OK;
}

void mc_ucx_rmem_drop(struct mc_be *be, struct mc_be_rmem *rmem)
{
	be->has_err |= rmem->link->state == LINK_DEAD; /* may go now */
	mc_list_del(&rmem->node);
	if (rmem->rkey != NULL)
		ucp_rkey_destroy(rmem->rkey);
	free(rmem);
}

void mc_ucx_region_gone(struct ucx_link *link, const struct ucx_rx *rx)
{
	struct mc_rd r;
	uint64_t id;

	mc_rd_init(&r, rx->data, rx->len);
	id = mc_rd_u64(&r);
	if (!mc_rd_end(&r))
		return;
	for (struct mc_list *l = link->rmems.next; l != &link->rmems; l = l->next) {
		struct mc_be_rmem *rmem = mc_container_of(l, struct mc_be_rmem, node);
		rmem->stale |= rmem->id == id;
	}
}

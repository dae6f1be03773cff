/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_wire.c - bytes of the verbs backend that go to peers and come from them. Format: docs/WIRE.md. Pure. */
#include <string.h>

#include "util.h"
#include "verbs_pure.h"

enum {
	ADDR_MAGIC = 0x4156434d, /* "MCVA" */
	BLOB_MAGIC = 0x4256434d, /* "MCVB" */
	CTL_MAGIC = 0x4356434d,  /* "MCVC" */
	VERSION = 1,
	PIECE_MIN = 4096,
	SPARE = 0x80, /* beside the layer of a port */
};

/* A crc tells a damaged address from a true one; against forgery the engine's records carry a mac. */
static void seal(struct mc_wr *w, const uint8_t *start)
{
	mc_wr_u32(w, mc_crc32c(0, start, (size_t)(w->p - start)));
}

static bool sealed(const void *p, size_t len)
{
	struct mc_rd r;

	if (len < 4)
		return false;
	mc_rd_init(&r, (const uint8_t *)p + len - 4, 4);
	return mc_rd_u32(&r) == mc_crc32c(0, p, len - 4);
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

uint32_t mc_vb_addr_make(const struct vb_addr *a, uint8_t out[VB_ADDR_MAX])
{
	struct mc_wr w;

	mc_wr_init(&w, out, VB_ADDR_MAX);
	mc_wr_u32(&w, ADDR_MAGIC);
	mc_wr_u32(&w, VERSION);
	mc_wr_u64(&w, a->instance);
	mc_wr_u64(&w, a->host);
	mc_wr_u32(&w, a->rank);
	mc_wr_u16(&w, a->port);
	mc_wr_u8(&w, (uint8_t)a->ip_n);
	mc_wr_u8(&w, (uint8_t)a->nic_n);
	for (uint32_t i = 0; i < a->ip_n; i++)
		mc_wr_bytes(&w, a->ip[i].raw, 16);
	for (uint32_t i = 0; i < a->nic_n; i++) {
		const struct vb_port *p = &a->nic[i];
		mc_wr_str(&w, p->name);
		mc_wr_u8(&w, (uint8_t)(p->layer | (p->spare ? SPARE : 0)));
		mc_wr_u8(&w, p->mtu);
		mc_wr_u8(&w, p->prefix);
		mc_wr_bytes(&w, p->gid, 16);
		mc_wr_u16(&w, p->lid);
		mc_wr_u32(&w, p->rate);
		mc_wr_u16(&w, p->rail);
	}
	seal(&w, out);
	return w.bad ? 0 : (uint32_t)mc_wr_len(&w);
}

static bool port_read(struct mc_rd *r, struct vb_port *p)
{
	mc_rd_str(r, p->name, sizeof(p->name));
	p->layer = mc_rd_u8(r);
	p->spare = (p->layer & SPARE) != 0;
	p->layer &= (uint8_t)~SPARE;
	p->mtu = mc_rd_u8(r);
	p->prefix = mc_rd_u8(r);
	mc_rd_copy(r, p->gid, 16);
	p->lid = mc_rd_u16(r);
	p->rate = mc_rd_u32(r);
	p->rail = mc_rd_u16(r);
	return !r->bad && p->layer >= VB_IB && p->layer <= VB_IWARP && p->mtu >= 1 && p->mtu <= 5 && p->prefix <= 128;
}

mc_status_t mc_vb_addr_parse(const void *p, size_t len, struct vb_addr *out)
{
	struct mc_rd r;
	bool ok;

	memset(out, 0, sizeof(*out));
	if (!sealed(p, len))
		return MC_ERR_PROTO;
	mc_rd_init(&r, p, len - 4);
	ok = mc_rd_u32(&r) == ADDR_MAGIC;
	ok = mc_rd_u32(&r) == VERSION && ok;
	out->instance = mc_rd_u64(&r);
	out->host = mc_rd_u64(&r);
	out->rank = mc_rd_u32(&r);
	out->port = mc_rd_u16(&r);
	out->ip_n = mc_rd_u8(&r);
	out->nic_n = mc_rd_u8(&r);
	if (!ok || r.bad || out->instance == 0 || out->ip_n > VB_IP_MAX || out->nic_n > VB_NIC_MAX || out->nic_n == 0)
		return MC_ERR_PROTO;
	for (uint32_t i = 0; i < out->ip_n; i++)
		mc_rd_copy(&r, out->ip[i].raw, 16);
	for (uint32_t i = 0; i < out->nic_n; i++)
		if (!port_read(&r, &out->nic[i]))
			return MC_ERR_PROTO;
	return mc_rd_end(&r) ? MC_OK : MC_ERR_PROTO;
}

/* ---- packets ----------------------------------------------------------------------------------------------------- */

void mc_vb_pkt_make(const struct vb_pkt *p, uint8_t out[VB_HDR_LEN])
{
	struct mc_wr w;

	mc_wr_init(&w, out, VB_HDR_LEN);
	mc_wr_u8(&w, p->kind);
	mc_wr_u8(&w, p->flags);
	mc_wr_u16(&w, 0);
	mc_wr_u32(&w, p->total);
	mc_wr_u64(&w, p->seq);
	mc_wr_u64(&w, p->ack);
}

mc_status_t mc_vb_pkt_parse(const void *p, size_t len, struct vb_pkt *out)
{
	struct mc_rd r;
	uint16_t zero;

	memset(out, 0, sizeof(*out));
	if (len < VB_HDR_LEN || len > VB_HDR_LEN + VB_PAYLOAD)
		return MC_ERR_PROTO;
	mc_rd_init(&r, p, VB_HDR_LEN);
	out->kind = mc_rd_u8(&r);
	out->flags = mc_rd_u8(&r);
	zero = mc_rd_u16(&r);
	out->total = mc_rd_u32(&r);
	out->seq = mc_rd_u64(&r);
	out->ack = mc_rd_u64(&r);
	if (zero != 0 || (out->flags & ~(VB_PKT_FIRST | VB_PKT_LAST)) != 0 || out->total > VB_MSG_MAX)
		return MC_ERR_PROTO;
	if (out->kind == VB_PKT_ACK)
		return len == VB_HDR_LEN && out->flags == 0 ? MC_OK : MC_ERR_PROTO;
	if (out->kind == VB_PKT_GONE)
		return len == VB_HDR_LEN + 8 && out->flags == (VB_PKT_FIRST | VB_PKT_LAST) ? MC_OK : MC_ERR_PROTO;
	if (out->kind == VB_PKT_NOP)
		return len == VB_HDR_LEN ? MC_OK : MC_ERR_PROTO;
	return out->kind == VB_PKT_DATA ? MC_OK : MC_ERR_PROTO;
}

/* ---- exported regions -------------------------------------------------------------------------------------------- */

uint32_t mc_vb_blob_len(uint32_t nic_n, uint32_t piece_n)
{
	return 4 + 8 * 5 + 2 + 2 + nic_n * piece_n * 4 + 4;
}

void mc_vb_blob_make(const struct vb_blob *b, uint8_t *out)
{
	struct mc_wr w;

	mc_wr_init(&w, out, mc_vb_blob_len(b->nic_n, b->piece_n));
	mc_wr_u32(&w, BLOB_MAGIC);
	mc_wr_u64(&w, b->instance);
	mc_wr_u64(&w, b->id);
	mc_wr_u64(&w, b->addr);
	mc_wr_u64(&w, b->len);
	mc_wr_u64(&w, b->piece);
	mc_wr_u16(&w, (uint16_t)b->nic_n);
	mc_wr_u16(&w, (uint16_t)b->piece_n);
	for (uint32_t i = 0; i < b->nic_n * b->piece_n; i++)
		mc_wr_u32(&w, b->key[i]);
	seal(&w, out);
}

mc_status_t mc_vb_blob_parse(const void *p, size_t len, struct vb_blob *out)
{
	struct mc_rd r;
	uint64_t end;

	memset(out, 0, sizeof(*out));
	if (!sealed(p, len))
		return MC_ERR_PROTO;
	mc_rd_init(&r, p, len - 4);
	if (mc_rd_u32(&r) != BLOB_MAGIC)
		return MC_ERR_PROTO;
	out->instance = mc_rd_u64(&r);
	out->id = mc_rd_u64(&r);
	out->addr = mc_rd_u64(&r);
	out->len = mc_rd_u64(&r);
	out->piece = mc_rd_u64(&r);
	out->nic_n = mc_rd_u16(&r);
	out->piece_n = mc_rd_u16(&r);
	if (r.bad || out->nic_n == 0 || out->nic_n > VB_NIC_MAX || out->piece_n > VB_PIECES_MAX ||
	    !mc_add_u64(out->addr, out->len, &end))
		return MC_ERR_PROTO;
	/* The pieces cover the region, and none of them is empty. */
	if (out->piece_n == 0 ? out->len != 0
			      : out->piece == 0 || (out->len - 1) / out->piece != out->piece_n - 1 || out->len == 0 ||
					(out->piece_n > 1 && out->piece < PIECE_MIN))
		return MC_ERR_PROTO;
	for (uint32_t i = 0; i < out->nic_n * out->piece_n; i++)
		out->key[i] = mc_rd_u32(&r);
	return mc_rd_end(&r) ? MC_OK : MC_ERR_PROTO;
}

/* ---- control messages -------------------------------------------------------------------------------------------- */

static void make_greeting(struct mc_wr *w, const struct vb_ctl_msg *m)
{
	mc_wr_u32(w, CTL_MAGIC);
	mc_wr_u32(w, VERSION);
	mc_wr_u64(w, m->src);
	mc_wr_u64(w, m->dst);
	mc_wr_u64(w, m->nonce[0]);
	mc_wr_u64(w, m->nonce[1]);
	mc_wr_u8(w, m->resume);
	mc_wr_u32(w, m->window);
	if (m->kind == VB_HELLO)
		mc_wr_blob(w, m->addr, m->addr_len);
}

static void make_rail(struct mc_wr *w, const struct vb_ctl_msg *m)
{
	mc_wr_u8(w, m->rail);
	mc_wr_u32(w, m->gen);
	if (m->kind == VB_READY)
		return;
	mc_wr_u8(w, m->qp_n);
	if (m->kind == VB_DOWN) {
		mc_wr_u8(w, m->idle);
		for (uint32_t i = 0; i < m->qp_n; i++)
			mc_wr_u64(w, m->got[i]);
		return;
	}
	mc_wr_u8(w, m->here);
	mc_wr_u8(w, m->there);
	mc_wr_u8(w, m->mtu);
	mc_wr_u32(w, (uint32_t)m->status);
	mc_wr_u16(w, m->lid);
	mc_wr_bytes(w, m->gid, 16);
	mc_wr_u32(w, m->rkey);
	mc_wr_u64(w, m->probe);
	mc_wr_u16(w, m->port);
	for (uint32_t i = 0; i < m->qp_n; i++) {
		mc_wr_u32(w, m->qpn[i]);
		mc_wr_u32(w, m->psn[i]);
	}
}

uint32_t mc_vb_ctl_make(const struct vb_ctl_msg *m, uint8_t *out, uint32_t room)
{
	struct mc_wr w;

	mc_wr_init(&w, out, room);
	mc_wr_u8(&w, m->kind);
	if (m->kind == VB_HELLO || m->kind == VB_WELCOME)
		make_greeting(&w, m);
	else if (m->kind >= VB_OFFER && m->kind <= VB_DOWN)
		make_rail(&w, m);
	return w.bad ? 0 : (uint32_t)mc_wr_len(&w);
}

static bool parse_greeting(struct mc_rd *r, struct vb_ctl_msg *m)
{
	bool ok = mc_rd_u32(r) == CTL_MAGIC;

	ok = mc_rd_u32(r) == VERSION && ok;
	m->src = mc_rd_u64(r);
	m->dst = mc_rd_u64(r);
	m->nonce[0] = mc_rd_u64(r);
	m->nonce[1] = mc_rd_u64(r);
	m->resume = mc_rd_u8(r);
	m->window = mc_rd_u32(r);
	if (m->kind == VB_HELLO)
		m->addr = mc_rd_blob(r, &m->addr_len, VB_ADDR_MAX);
	return ok && !r->bad && m->src != 0 && m->window > 0 && m->window <= VB_WIN_MAX;
}

static bool parse_rail(struct mc_rd *r, struct vb_ctl_msg *m)
{
	m->rail = mc_rd_u8(r);
	m->gen = mc_rd_u32(r);
	if (m->rail >= VB_RAIL_MAX)
		return false;
	if (m->kind == VB_READY)
		return true;
	m->qp_n = mc_rd_u8(r);
	if (r->bad || m->qp_n > VB_QPS_MAX)
		return false;
	if (m->kind == VB_DOWN) {
		m->idle = mc_rd_u8(r);
		for (uint32_t i = 0; i < m->qp_n; i++)
			m->got[i] = mc_rd_u64(r);
		return true;
	}
	m->here = mc_rd_u8(r);
	m->there = mc_rd_u8(r);
	m->mtu = mc_rd_u8(r);
	m->status = (int32_t)mc_rd_u32(r);
	m->lid = mc_rd_u16(r);
	mc_rd_copy(r, m->gid, 16);
	m->rkey = mc_rd_u32(r);
	m->probe = mc_rd_u64(r);
	m->port = mc_rd_u16(r);
	for (uint32_t i = 0; i < m->qp_n; i++) {
		m->qpn[i] = mc_rd_u32(r);
		m->psn[i] = mc_rd_u32(r);
		if (m->qpn[i] > 0xffffff || m->psn[i] > 0xffffff)
			return false;
	}
	return m->here < VB_NIC_MAX && m->there < VB_NIC_MAX && m->mtu >= 1 && m->mtu <= 5 &&
	       (m->qp_n > 0) == (m->status == 0);
}

mc_status_t mc_vb_ctl_parse(const void *body, size_t len, struct vb_ctl_msg *out)
{
	struct mc_rd r;
	bool ok = true;

	memset(out, 0, sizeof(*out));
	mc_rd_init(&r, body, len);
	out->kind = mc_rd_u8(&r);
	if (out->kind < VB_HELLO || out->kind > VB_BYE)
		return MC_ERR_PROTO;
	if (out->kind <= VB_WELCOME)
		ok = parse_greeting(&r, out);
	else if (out->kind >= VB_OFFER && out->kind <= VB_DOWN)
		ok = parse_rail(&r, out);
	return ok && mc_rd_end(&r) ? MC_OK : MC_ERR_PROTO;
}

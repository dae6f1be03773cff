/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_verbs.c - what peers say to the verbs backend. Input: a byte that names the parser (and whether a crc is put
 * behind the rest), then the bytes. What is accepted must give the same bytes again.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verbs_pure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ADDR, BLOB, CTL, PKT, WINDOW, PARSERS, SEAL = 128, ROOM = 8192 };

static void must(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "fuzz_verbs: %s\n", what);
		abort();
	}
}

static void address(const uint8_t *p, size_t len)
{
	uint8_t again[VB_ADDR_MAX];
	struct vb_addr a;

	if (mc_vb_addr_parse(p, len, &a) != MC_OK)
		return;
	must(a.nic_n > 0 && a.nic_n <= VB_NIC_MAX && a.ip_n <= VB_IP_MAX, "too many of something in an address");
	must(mc_vb_addr_make(&a, again) == len && memcmp(p, again, len) == 0, "an address changes");
}

static void blob(const uint8_t *p, size_t len)
{
	static uint8_t again[VB_BLOB_MAX];
	struct vb_blob b;

	if (mc_vb_blob_parse(p, len, &b) != MC_OK)
		return;
	must(b.len == 0 || (b.len - 1) / b.piece < b.piece_n, "pieces do not cover a region");
	must(mc_vb_blob_len(b.nic_n, b.piece_n) == len, "a region's length");
	mc_vb_blob_make(&b, again);
	must(memcmp(p, again, len) == 0, "a region changes");
}

static void control(const uint8_t *p, size_t len)
{
	uint8_t again[VB_CTL_MAX];
	struct vb_ctl_msg m;
	uint32_t n;

	if (len > sizeof(again) || mc_vb_ctl_parse(p, len, &m) != MC_OK)
		return;
	must(m.rail < VB_RAIL_MAX && m.qp_n <= VB_QPS_MAX && m.here < VB_NIC_MAX && m.there < VB_NIC_MAX,
	     "out of range");
	n = mc_vb_ctl_make(&m, again, sizeof(again));
	must(n == len && memcmp(p, again, len) == 0, "a control message changes");
}

static void packet(const uint8_t *p, size_t len)
{
	uint8_t again[VB_HDR_LEN];
	struct vb_pkt k;

	if (mc_vb_pkt_parse(p, len, &k) != MC_OK)
		return;
	mc_vb_pkt_make(&k, again);
	must(memcmp(p, again, VB_HDR_LEN) == 0, "a packet's head changes");
}

/* Each byte a number near the window: none is taken twice or out of order. */
static void window(const uint8_t *p, size_t len)
{
	struct vb_win w = {0};
	uint64_t next = 0, seq;

	for (size_t i = 0; i < len; i++) {
		(void)mc_vb_win_put(&w, next + p[i] - 16u);
		while (mc_vb_win_take(&w, &seq))
			must(seq == next++, "out of order");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parser[])(const uint8_t *, size_t) = {address, blob, control, packet, window};
	uint8_t buf[ROOM + 4];
	struct mc_wr w;
	size_t len;

	if (size < 1 || size - 1 > ROOM)
		return 0;
	len = size - 1;
	memcpy(buf, data + 1, len);
	if (data[0] & SEAL) {
		mc_wr_init(&w, buf + len, 4);
		mc_wr_u32(&w, mc_crc32c(0, buf, len));
		len += 4;
	}
	parser[(data[0] & 127) % PARSERS](buf, len);
	return 0;
}

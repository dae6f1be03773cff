/* SPDX-License-Identifier: BSD-3-Clause */
/* test_verbs_pure.c - the verbs backend without devices: choice of GID, pairs of ports, sizes, numbers, bytes of peers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util.h"
#include "verbs_pure.h"

static struct vb_gid gid(uint32_t index, uint8_t type, const char *hex)
{
	struct vb_gid g = {.index = index, .type = type};

	for (uint32_t i = 0; i < 16; i++) {
		char two[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
		g.raw[i] = (uint8_t)strtoul(two, NULL, 16);
	}
	return g;
}

#define LOCAL6 "fe80000000000000020000fffe000001"
#define GLOBAL "20010db8000000000000000000000001"
#define IPV4   "00000000000000000000ffff0a4d0001"
#define AUTO4  "00000000000000000000ffffa9fe0001"
#define NONE   "00000000000000000000000000000000"

static void gid__rule(void **state)
{
	const struct vb_gid g[] = {gid(0, VB_GID_ROCE1, LOCAL6), gid(1, VB_GID_ROCE2, LOCAL6),
				   gid(2, VB_GID_ROCE1, IPV4),   gid(3, VB_GID_ROCE2, AUTO4),
				   gid(4, VB_GID_ROCE2, GLOBAL), gid(5, VB_GID_ROCE2, IPV4),
				   gid(6, VB_GID_ROCE2, IPV4),   gid(7, VB_GID_ROCE2, NONE)};
	const char *why;

	(void)state;
	assert_int_equal(mc_vb_gid_choose(g, 8, UINT32_MAX, &why), 5); /* the first of the best */
	assert_string_equal(why, "RoCE v2, IPv4");
	assert_int_equal(mc_vb_gid_choose(g, 5, UINT32_MAX, &why), 4);
	assert_int_equal(mc_vb_gid_choose(g, 4, UINT32_MAX, &why), 3);
	assert_int_equal(mc_vb_gid_choose(g, 3, UINT32_MAX, &why), 1); /* v2 before v1, even if link-local */
	assert_int_equal(mc_vb_gid_choose(g + 2, 1, UINT32_MAX, &why), 0);
	assert_non_null(strstr(why, "RoCE v1"));
}

static void gid__none_or_asked_for(void **state)
{
	const struct vb_gid g[] = {gid(0, VB_GID_ROCE2, NONE), gid(9, VB_GID_ROCE2, LOCAL6),
				   gid(10, VB_GID_ROCE2, IPV4)};
	const char *why;

	(void)state;
	assert_int_equal(mc_vb_gid_choose(g, 0, UINT32_MAX, &why), UINT32_MAX);
	assert_int_equal(mc_vb_gid_choose(g, 1, UINT32_MAX, &why), UINT32_MAX);
	assert_int_equal(mc_vb_gid_choose(g, 3, 9, &why), 1);
	assert_non_null(strstr(why, "MC_VERBS_GID"));
	assert_int_equal(mc_vb_gid_choose(g, 3, 0, &why), UINT32_MAX);
	assert_int_equal(mc_vb_gid_choose(g, 3, 77, &why), UINT32_MAX);
	assert_non_null(strstr(why, "empty"));
}

static void gid__text(void **state)
{
	struct vb_gid g = gid(0, VB_GID_ROCE2, IPV4);
	char text[64];

	(void)state;
	mc_vb_gid_text(g.raw, text, sizeof(text));
	assert_string_equal(text, "10.77.0.1");
	g = gid(0, VB_GID_ROCE2, GLOBAL);
	mc_vb_gid_text(g.raw, text, sizeof(text));
	assert_string_equal(text, "2001:db8::1");
}

static struct vb_port port(uint8_t layer, uint8_t net, uint8_t host, uint16_t rail)
{
	struct vb_gid g = gid(0, VB_GID_ROCE2, IPV4);
	struct vb_port p = {.layer = layer, .mtu = 5, .prefix = 120, .rail = rail};

	memcpy(p.gid, g.raw, 16);
	p.gid[14] = net;
	p.gid[15] = host;
	return p;
}

static void subnet__bits(void **state)
{
	struct vb_port a = port(VB_ROCE, 1, 1, 0), b = port(VB_ROCE, 1, 200, 0);

	(void)state;
	assert_true(mc_vb_same_subnet(&a, &b));
	a.prefix = b.prefix = 121;
	assert_false(mc_vb_same_subnet(&a, &b));
	b.gid[15] = 100;
	assert_true(mc_vb_same_subnet(&a, &b));
	b.layer = VB_IB;
	assert_false(mc_vb_same_subnet(&a, &b));
}

static void pairs__by_subnet(void **state)
{
	struct vb_port a[] = {port(VB_ROCE, 1, 1, VB_NO_RAIL), port(VB_ROCE, 2, 1, VB_NO_RAIL)};
	struct vb_port b[] = {port(VB_ROCE, 2, 2, VB_NO_RAIL), port(VB_ROCE, 1, 2, VB_NO_RAIL)};
	struct vb_pair out[VB_RAIL_MAX];

	(void)state;
	assert_int_equal(mc_vb_pairs(a, 2, b, 2, out), 2);
	assert_int_equal(out[0].here, 0);
	assert_int_equal(out[0].there, 1);
	assert_int_equal(out[1].here, 1);
	assert_int_equal(out[1].there, 0);
}

static void pairs__by_rail_where_one_subnet(void **state)
{
	struct vb_port a[] = {port(VB_IB, 1, 1, 1), port(VB_IB, 1, 2, 0)};
	struct vb_port b[] = {port(VB_IB, 1, 3, 0), port(VB_IB, 1, 4, 1)};
	struct vb_pair out[VB_RAIL_MAX];

	(void)state;
	assert_int_equal(mc_vb_pairs(a, 2, b, 2, out), 2);
	assert_int_equal(out[0].there, 1);
	assert_int_equal(out[1].there, 0);
}

static void pairs__uneven(void **state)
{
	struct vb_port a[] = {port(VB_ROCE, 1, 1, 0), port(VB_ROCE, 2, 1, 1), port(VB_ROCE, 3, 1, 2),
			      port(VB_ROCE, 4, 1, 3)};
	struct vb_port b[] = {port(VB_ROCE, 1, 2, 0), port(VB_ROCE, 2, 2, 1)};
	struct vb_pair out[VB_RAIL_MAX];
	uint32_t used[2] = {0};

	(void)state;
	assert_int_equal(mc_vb_pairs(a, 4, b, 2, out), 4);
	for (uint32_t i = 0; i < 4; i++)
		used[out[i].there]++;
	assert_int_equal(used[0], 2);
	assert_int_equal(used[1], 2);
	assert_int_equal(mc_vb_pairs(b, 2, a, 4, out), 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_true(out[i].here < 2 && out[i].there < 4);
	assert_int_equal(mc_vb_pairs(a, 4, b, 0, out), 0);
}

static void pairs__kinds_do_not_mix(void **state)
{
	struct vb_port a[] = {port(VB_IB, 1, 1, 0), port(VB_ROCE, 2, 1, 1)};
	struct vb_port b[] = {port(VB_IWARP, 1, 2, 0), port(VB_ROCE, 9, 2, 0)};
	struct vb_pair out[VB_RAIL_MAX];

	(void)state;
	assert_int_equal(mc_vb_pairs(a, 2, b, 2, out), 1);
	assert_int_equal(out[0].here, 1);
	assert_int_equal(out[0].there, 1);
}

static void plan__sizes(void **state)
{
	struct vb_want w = {
		.peers = 3, .nics = 2, .qps = 2, .buffers = 256, .depth = 300, .max_cqe = 4096, .objects = UINT64_MAX};
	struct vb_plan p;

	(void)state;
	mc_vb_plan(&w, &p);
	assert_int_equal(p.qps, 2);
	assert_int_equal(p.window, 64);
	assert_int_equal(p.depth, 256);
	assert_int_equal(p.cqe, 256 + 300 * 2 * 3 + 16);
	assert_true(p.qp_budget == UINT64_MAX && !p.reduced && !p.hopeless);
	w.peers = 1000; /* windows stay useful, and the completion queue within the device */
	mc_vb_plan(&w, &p);
	assert_int_equal(p.window, 8);
	assert_int_equal(p.cqe, 4096);
}

static void plan__within_the_cgroup(void **state)
{
	struct vb_want w = {.peers = 10, .nics = 1, .qps = 4, .buffers = 256, .depth = 256, .max_cqe = 32767};
	struct vb_plan p;

	(void)state;
	w.objects = 4 + 60;
	mc_vb_plan(&w, &p);
	assert_int_equal(p.qp_budget, 45);
	assert_true(p.qps == 4 && !p.reduced);
	w.objects = 4 + 30;
	mc_vb_plan(&w, &p);
	assert_true(p.qps == 2 && p.reduced && p.qp_budget == 23);
	w.objects = 4 + 4; /* fewer than peers: idle ones give theirs away */
	mc_vb_plan(&w, &p);
	assert_true(p.qps == 1 && p.reduced && p.qp_budget == 3 && !p.hopeless);
	w.objects = 4 + 2;
	mc_vb_plan(&w, &p);
	assert_true(p.qp_budget == 2 && p.mr_budget == 0 && !p.hopeless); /* one from either side */
	w.peers = 1;
	mc_vb_plan(&w, &p);
	assert_true(p.qp_budget == 1 && p.mr_budget == 1 && p.objects == 2 && !p.hopeless);
	w.peers = 10;
	w.objects = 4 + 1; /* regions travel by message */
	mc_vb_plan(&w, &p);
	assert_true(p.qp_budget == 1 && p.mr_budget == 0 && p.reduced && !p.hopeless);
	w.objects = 4;
	mc_vb_plan(&w, &p);
	assert_true(p.hopeless);
}

static void share__equal_parts_of_what_there_is(void **state)
{
	(void)state;
	assert_int_equal(mc_vb_share(100, 8, 0, 1), 92);
	assert_int_equal(mc_vb_share(100, 16, 4, 4), 25); /* what the three others have not taken yet is theirs */
	assert_int_equal(mc_vb_share(100, 90, 4, 4), 14); /* somebody has more than his part */
	assert_int_equal(mc_vb_share(100, 120, 4, 2), 4); /* the limit was lowered */
	assert_int_equal(mc_vb_share(10, 0, 0, 0), 10);
}

static void piece__len(void **state)
{
	const uint64_t g = UINT64_C(1) << 30;

	(void)state;
	assert_int_equal(mc_vb_piece_len(0, 4 * g), 1);
	assert_int_equal(mc_vb_piece_len(5000, 4 * g), 5000);
	assert_int_equal(mc_vb_piece_len(4 * g, 4 * g), 4 * g);
	assert_int_equal(mc_vb_piece_len(4 * g + 1, 4 * g), 4 * g);
	assert_int_equal(mc_vb_piece_len(256 * g, 4 * g), 4 * g);
	assert_int_equal(mc_vb_piece_len(256 * g + 1, 4 * g), 8 * g); /* no more than 64 pieces */
	assert_int_equal(mc_vb_piece_len(10 << 20, 3 << 20), 4 << 20);
}

static void lightest__with_room(void **state)
{
	struct vb_load l[] = {{10, 1}, {5, 0}, {7, 3}, {7, 9}};

	(void)state;
	assert_int_equal(mc_vb_lightest(l, 4), 2);
	assert_int_equal(mc_vb_lightest(l, 2), 0);
	assert_int_equal(mc_vb_lightest(l + 1, 1), UINT32_MAX);
}

static void window__order_and_repeats(void **state)
{
	struct vb_win w = {0};
	uint64_t seq;

	(void)state;
	assert_int_equal(mc_vb_win_put(&w, 1), VB_WIN_NEW);
	assert_false(mc_vb_win_take(&w, &seq));
	assert_int_equal(mc_vb_win_put(&w, 1), VB_WIN_AGAIN);
	assert_int_equal(mc_vb_win_put(&w, 0), VB_WIN_NEW);
	assert_true(mc_vb_win_take(&w, &seq) && seq == 0);
	assert_true(mc_vb_win_take(&w, &seq) && seq == 1);
	assert_false(mc_vb_win_take(&w, &seq));
	assert_int_equal(mc_vb_win_put(&w, 0), VB_WIN_AGAIN);
	assert_int_equal(mc_vb_win_put(&w, 2 + VB_WIN_MAX), VB_WIN_BAD);
	assert_int_equal(mc_vb_win_put(&w, 1 + VB_WIN_MAX), VB_WIN_NEW);
	assert_int_equal(mc_vb_win_put(&w, UINT64_MAX), VB_WIN_BAD);
}

/* Shuffled within the window, each number twice: each is taken once, in order. */
static void window__shuffled(void **state)
{
	enum { N = 20000 };
	struct vb_win w = {0};
	uint64_t x = 88172645463325252u, seq, taken = 0;
	uint8_t *sent = calloc(N, 1);

	(void)state;
	assert_non_null(sent);
	while (taken < N) {
		uint64_t k;
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		k = taken + x % VB_WIN_MAX;
		if (k >= N)
			continue;
		assert_int_equal(mc_vb_win_put(&w, k), sent[k] ? VB_WIN_AGAIN : VB_WIN_NEW);
		sent[k] = 1;
		while (mc_vb_win_take(&w, &seq)) {
			assert_int_equal(seq, taken);
			taken++;
		}
	}
	free(sent);
}

static void address__round_trip(void **state)
{
	struct vb_addr a = {.instance = 77, .host = 5, .rank = 3, .port = 4711, .ip_n = 2, .nic_n = 2}, b;
	uint8_t buf[VB_ADDR_MAX];
	uint32_t len;

	(void)state;
	a.nic[0] = port(VB_ROCE, 1, 1, 3);
	a.nic[1] = port(VB_IWARP, 2, 1, VB_NO_RAIL);
	a.nic[1].spare = true;
	memcpy(a.nic[0].name, "mlx5_0:1", 9);
	memcpy(a.nic[1].name, "siw0:1", 7);
	len = mc_vb_addr_make(&a, buf);
	assert_true(len > 0);
	assert_int_equal(mc_vb_addr_parse(buf, len, &b), MC_OK);
	assert_memory_equal(&a, &b, sizeof(a));
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(mc_vb_addr_parse(buf, i, &b), MC_ERR_PROTO);
	for (uint32_t i = 0; i < len * 8; i++) {
		buf[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_int_equal(mc_vb_addr_parse(buf, len, &b), MC_ERR_PROTO);
		buf[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

static void blob__round_trip(void **state)
{
	struct vb_blob
		b = {.instance = 9, .id = 1, .addr = 4096, .len = 10000, .piece = 4096, .nic_n = 2, .piece_n = 3},
		c;
	uint8_t buf[VB_BLOB_MAX];
	uint32_t len = mc_vb_blob_len(b.nic_n, b.piece_n);

	(void)state;
	for (uint32_t i = 0; i < 6; i++)
		b.key[i] = 100 + i;
	mc_vb_blob_make(&b, buf);
	assert_int_equal(mc_vb_blob_parse(buf, len, &c), MC_OK);
	assert_memory_equal(&b, &c, sizeof(b));
	assert_int_equal(mc_vb_blob_len(VB_NIC_MAX, VB_PIECES_MAX), VB_BLOB_MAX);
	b.piece_n = 2; /* pieces that do not cover it */
	mc_vb_blob_make(&b, buf);
	assert_int_equal(mc_vb_blob_parse(buf, mc_vb_blob_len(2, 2), &c), MC_ERR_PROTO);
	b.piece_n = 3;
	b.addr = UINT64_MAX - 5; /* beyond the end of memory */
	mc_vb_blob_make(&b, buf);
	assert_int_equal(mc_vb_blob_parse(buf, len, &c), MC_ERR_PROTO);
}

static void packet__limits(void **state)
{
	struct vb_pkt p = {.kind = VB_PKT_DATA, .flags = VB_PKT_FIRST | VB_PKT_LAST, .total = 5, .seq = 1, .ack = 2}, q;
	uint8_t buf[VB_HDR_LEN + 8] = {0};

	(void)state;
	mc_vb_pkt_make(&p, buf);
	assert_int_equal(mc_vb_pkt_parse(buf, VB_HDR_LEN + 5, &q), MC_OK);
	assert_true(q.kind == p.kind && q.flags == p.flags && q.total == p.total && q.seq == p.seq && q.ack == p.ack);
	assert_int_equal(mc_vb_pkt_parse(buf, VB_HDR_LEN - 1, &q), MC_ERR_PROTO);
	buf[2] = 1;
	assert_int_equal(mc_vb_pkt_parse(buf, VB_HDR_LEN + 5, &q), MC_ERR_PROTO);
	p = (struct vb_pkt){.kind = VB_PKT_ACK};
	mc_vb_pkt_make(&p, buf);
	assert_int_equal(mc_vb_pkt_parse(buf, VB_HDR_LEN, &q), MC_OK);
	assert_int_equal(mc_vb_pkt_parse(buf, VB_HDR_LEN + 1, &q), MC_ERR_PROTO);
	p = (struct vb_pkt){.kind = VB_PKT_GONE, .flags = VB_PKT_FIRST | VB_PKT_LAST, .total = 8};
	mc_vb_pkt_make(&p, buf);
	assert_int_equal(mc_vb_pkt_parse(buf, VB_HDR_LEN + 8, &q), MC_OK);
	assert_int_equal(mc_vb_pkt_parse(buf, VB_HDR_LEN + 7, &q), MC_ERR_PROTO);
	p = (struct vb_pkt){.kind = VB_PKT_DATA, .total = VB_MSG_MAX + 1};
	mc_vb_pkt_make(&p, buf);
	assert_int_equal(mc_vb_pkt_parse(buf, VB_HDR_LEN, &q), MC_ERR_PROTO);
}

static void control__round_trips(void **state)
{
	struct vb_ctl_msg m, n;
	uint8_t buf[VB_CTL_MAX], addr[40] = {1, 2, 3};
	uint32_t len;

	(void)state;
	for (uint8_t kind = VB_HELLO; kind <= VB_BYE; kind++) {
		memset(&m, 0, sizeof(m));
		m.kind = kind;
		if (kind <= VB_WELCOME)
			m.src = 1, m.dst = 2, m.nonce[0] = 3, m.nonce[1] = 4, m.resume = 1, m.window = 64;
		if (kind == VB_HELLO)
			m.addr = addr, m.addr_len = sizeof(addr);
		if (kind >= VB_OFFER && kind <= VB_DOWN)
			m.rail = 3, m.gen = 9;
		if (kind == VB_OFFER || kind == VB_ANSWER)
			m.here = 1, m.there = 2, m.mtu = 5, m.qp_n = 2, m.lid = 7, m.rkey = 8, m.qpn[1] = 0xffffff,
			m.port = 9;
		if (kind == VB_DOWN)
			m.qp_n = 4, m.got[3] = 12, m.idle = 1;
		len = mc_vb_ctl_make(&m, buf, sizeof(buf));
		assert_true(len > 0);
		assert_int_equal(mc_vb_ctl_parse(buf, len, &n), MC_OK);
		if (kind == VB_HELLO) {
			assert_memory_equal(n.addr, addr, sizeof(addr));
			n.addr = m.addr;
		}
		assert_memory_equal(&m, &n, sizeof(m));
		for (uint32_t i = 0; i < len; i++)
			assert_int_equal(mc_vb_ctl_parse(buf, i, &n), MC_ERR_PROTO);
		assert_int_equal(mc_vb_ctl_make(&m, buf, len - 1), 0);
	}
}

static void control__refused(void **state)
{
	struct vb_ctl_msg m = {.kind = VB_OFFER, .rail = VB_RAIL_MAX, .qp_n = 1, .mtu = 5}, n;
	uint8_t buf[VB_CTL_MAX];

	(void)state;
	assert_int_equal(mc_vb_ctl_parse(buf, mc_vb_ctl_make(&m, buf, sizeof(buf)), &n), MC_ERR_PROTO);
	m.rail = 0;
	m.qpn[0] = 1u << 24;
	assert_int_equal(mc_vb_ctl_parse(buf, mc_vb_ctl_make(&m, buf, sizeof(buf)), &n), MC_ERR_PROTO);
	m.qpn[0] = 5;
	m.mtu = 6;
	assert_int_equal(mc_vb_ctl_parse(buf, mc_vb_ctl_make(&m, buf, sizeof(buf)), &n), MC_ERR_PROTO);
	m.mtu = 5;
	m.status = 11; /* queue pairs and an error */
	assert_int_equal(mc_vb_ctl_parse(buf, mc_vb_ctl_make(&m, buf, sizeof(buf)), &n), MC_ERR_PROTO);
	m.qp_n = 0;
	assert_int_equal(mc_vb_ctl_parse(buf, mc_vb_ctl_make(&m, buf, sizeof(buf)), &n), MC_OK);
	m = (struct vb_ctl_msg){.kind = VB_WELCOME, .src = 1, .window = VB_WIN_MAX + 1};
	assert_int_equal(mc_vb_ctl_parse(buf, mc_vb_ctl_make(&m, buf, sizeof(buf)), &n), MC_ERR_PROTO);
	buf[0] = 0;
	assert_int_equal(mc_vb_ctl_parse(buf, 1, &n), MC_ERR_PROTO);
	buf[0] = VB_BYE + 1;
	assert_int_equal(mc_vb_ctl_parse(buf, 1, &n), MC_ERR_PROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gid__rule),
		cmocka_unit_test(gid__none_or_asked_for),
		cmocka_unit_test(gid__text),
		cmocka_unit_test(subnet__bits),
		cmocka_unit_test(pairs__by_subnet),
		cmocka_unit_test(pairs__by_rail_where_one_subnet),
		cmocka_unit_test(pairs__uneven),
		cmocka_unit_test(pairs__kinds_do_not_mix),
		cmocka_unit_test(plan__sizes),
		cmocka_unit_test(plan__within_the_cgroup),
		cmocka_unit_test(share__equal_parts_of_what_there_is),
		cmocka_unit_test(piece__len),
		cmocka_unit_test(lightest__with_room),
		cmocka_unit_test(window__order_and_repeats),
		cmocka_unit_test(window__shuffled),
		cmocka_unit_test(address__round_trip),
		cmocka_unit_test(blob__round_trip),
		cmocka_unit_test(packet__limits),
		cmocka_unit_test(control__round_trips),
		cmocka_unit_test(control__refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

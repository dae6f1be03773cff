/* SPDX-License-Identifier: BSD-3-Clause */
/* test_topo_score.c - the choice of NICs on machines made by hand: nearness, ties, dead ports, link layers, overrides,
 * pairs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "topo.h"

/*
 * Two packages with one NUMA node each. Package 0: host bridge 0 with switch 1 (gpu0, nic0) and switch 2 (gpu1, nic1,
 * nic2); package 1: host bridge 3 (gpu2, nic3). eth0 on package 0 below host bridge 4, veth anywhere.
 */
enum { NODES = 2, BRIDGES = 5, PCIS = 8, GPUS = 3, NICS = 6, ETH = 4, VETH = 5 };

struct machine {
	struct mc_topo t;
	struct mc_topo_node node[NODES];
	struct mc_topo_bridge bridge[BRIDGES];
	struct mc_topo_pci pci[PCIS];
	struct mc_topo_gpu gpu[GPUS];
	struct mc_topo_nic nic[NICS];
};

static struct mc_topo_loc at(uint32_t node, uint32_t path_n, uint32_t b0, uint32_t b1)
{
	struct mc_topo_loc l = {.package = (int32_t)node, .known = true, .path_n = path_n, .path = {b0, b1}};

	l.nodes.bit[0] = UINT64_C(1) << node;
	return l;
}

static void add_nic(struct machine *m, uint32_t i, enum mc_topo_kind kind, const char *name, uint32_t pci)
{
	struct mc_topo_nic *n = &m->nic[i];

	n->kind = kind;
	n->port = kind == MC_TOPO_OPENFABRICS;
	n->pci = pci;
	n->state = kind == MC_TOPO_OPENFABRICS ? MC_TOPO_STATE_ACTIVE : MC_TOPO_STATE_UP;
	n->link = kind == MC_TOPO_OPENFABRICS ? MC_TOPO_LINK_INFINIBAND : MC_TOPO_LINK_ETHERNET;
	snprintf(n->name, sizeof(n->name), "%s", name);
	if (pci != MC_TOPO_NONE)
		n->loc = m->pci[pci].loc;
	else
		n->loc.package = -1;
}

static void build(struct machine *m)
{
	static const char *const busid[PCIS] = {"0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0",
						"0000:05:00.0", "0000:81:00.0", "0000:82:00.0", "0000:a0:00.0"};

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < NODES; i++) {
		m->node[i].os_index = i;
		m->node[i].loc = at(i, 0, 0, 0);
	}
	for (uint32_t i = 0; i < PCIS; i++)
		snprintf(m->pci[i].busid, sizeof(m->pci[i].busid), "%s", busid[i]);
	m->pci[0].loc = at(0, 2, 0, 1); /* gpu0 */
	m->pci[1].loc = at(0, 2, 0, 1); /* nic0 */
	m->pci[2].loc = at(0, 2, 0, 2); /* gpu1 */
	m->pci[3].loc = at(0, 2, 0, 2); /* nic1 */
	m->pci[4].loc = at(0, 2, 0, 2); /* nic2 */
	m->pci[5].loc = at(1, 1, 3, 0); /* gpu2 */
	m->pci[6].loc = at(1, 1, 3, 0); /* nic3 */
	m->pci[7].loc = at(0, 1, 4, 0); /* eth0 */
	for (uint32_t i = 0; i < GPUS; i++) {
		snprintf(m->gpu[i].name, sizeof(m->gpu[i].name), "cuda%u", i);
		snprintf(m->gpu[i].osdev[0], sizeof(m->gpu[i].osdev[0]), "cuda%u", i);
		snprintf(m->gpu[i].osdev[1], sizeof(m->gpu[i].osdev[1]), "nvml%u", i);
		m->gpu[i].osdev_n = 2;
	}
	m->gpu[0].pci = 0;
	m->gpu[1].pci = 2;
	m->gpu[2].pci = 5;
	add_nic(m, 0, MC_TOPO_OPENFABRICS, "mlx5_0", 1);
	add_nic(m, 1, MC_TOPO_OPENFABRICS, "mlx5_1", 3);
	add_nic(m, 2, MC_TOPO_OPENFABRICS, "mlx5_2", 4);
	add_nic(m, 3, MC_TOPO_OPENFABRICS, "mlx5_3", 6);
	add_nic(m, ETH, MC_TOPO_NETWORK, "eth0", 7);
	add_nic(m, VETH, MC_TOPO_NETWORK, "veth1", MC_TOPO_NONE);
	m->nic[VETH].is_virtual = true;
	m->t.packages = 2;
	m->t.node = m->node;
	m->t.node_n = NODES;
	m->t.bridge = m->bridge;
	m->t.bridge_n = BRIDGES;
	m->t.pci = m->pci;
	m->t.pci_n = PCIS;
	m->t.gpu = m->gpu;
	m->t.gpu_n = GPUS;
	m->t.nic = m->nic;
	m->t.nic_n = NICS;
}

/* The choice as text: names, best first; "|" after those that are used. */
static void chosen(const struct machine *m, const char *memory, enum mc_topo_kind kind, const char *spec, uint32_t rank,
		   char *out, size_t len, char *note, size_t note_len)
{
	struct mc_topo_want w = {.kind = kind, .local_rank = rank};
	struct mc_topo_policy p;
	struct mc_topo_choice c;
	char err[512];
	size_t n = 0;

	assert_int_equal(mc_topo_buf_find(&m->t, memory, &w.buf, err, sizeof(err)), MC_OK);
	assert_int_equal(mc_topo_policy_parse(&m->t, spec, &p, err, sizeof(err)), MC_OK);
	w.policy = &p;
	assert_int_equal(mc_topo_choose(&m->t, &w, &c), MC_OK);
	out[0] = '\0';
	for (uint32_t i = 0; i < c.n; i++)
		n += (size_t)snprintf(out + n, len - n, "%s%s%s", i == c.use_n ? "| " : "", m->nic[c.pick[i].nic].name,
				      i + 1 < c.n ? " " : "");
	if (note != NULL)
		snprintf(note, note_len, "%s", c.note);
	mc_topo_choice_free(&c);
	mc_topo_policy_free(&p);
}

static void expect_rank(const struct machine *m, const char *memory, const char *spec, uint32_t rank, const char *want)
{
	char got[256];

	chosen(m, memory, MC_TOPO_OPENFABRICS, spec, rank, got, sizeof(got), NULL, 0);
	assert_string_equal(got, want);
}

static void expect(const struct machine *m, const char *memory, const char *spec, const char *want)
{
	expect_rank(m, memory, spec, 0, want);
}

static void choose__nearest_first(void **state)
{
	struct machine m;

	(void)state;
	build(&m);
	expect(&m, "cuda0", "", "mlx5_0 | mlx5_1 mlx5_2 mlx5_3");
	expect(&m, "cuda1", "", "mlx5_1 mlx5_2 | mlx5_0 mlx5_3");
	expect(&m, "cuda2", "", "mlx5_3 | mlx5_0 mlx5_1 mlx5_2");
	expect(&m, "numa0", "", "mlx5_0 mlx5_1 mlx5_2 | mlx5_3");
	expect(&m, "numa1", "", "mlx5_3 | mlx5_0 mlx5_1 mlx5_2");
	expect(&m, "any", "", "mlx5_0 mlx5_1 mlx5_2 mlx5_3");
	expect(&m, "nvml1", "", "mlx5_1 mlx5_2 | mlx5_0 mlx5_3");
	expect(&m, "0000:81:00.0", "", "mlx5_3 | mlx5_0 mlx5_1 mlx5_2");
	expect(&m, "81:00.0", "", "mlx5_3 | mlx5_0 mlx5_1 mlx5_2");
}

static void choose__unknown_place_between_package_and_far(void **state)
{
	struct machine m;

	(void)state;
	build(&m);
	m.nic[0].loc.known = false;
	m.nic[0].loc.path_n = 0;
	expect(&m, "numa1", "", "mlx5_3 | mlx5_0 mlx5_1 mlx5_2");
	m.node[1].loc.nodes.bit[0] = 1; /* now on node 0 but of package 1: same package only with nic3 */
	m.nic[3].loc.nodes.bit[0] = 4;
	m.node[1].loc.nodes.bit[0] = 8;
	expect(&m, "numa1", "", "mlx5_3 | mlx5_0 mlx5_1 mlx5_2");
}

static void choose__dead_ports_last(void **state)
{
	static const enum mc_topo_state dead[] = {MC_TOPO_STATE_DOWN, MC_TOPO_STATE_INIT, MC_TOPO_STATE_ARMED};
	struct machine m;
	char got[256], note[256];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		build(&m);
		m.nic[0].state = dead[i];
		chosen(&m, "cuda0", MC_TOPO_OPENFABRICS, "", 0, got, sizeof(got), note, sizeof(note));
		assert_string_equal(got, "mlx5_1 mlx5_2 | mlx5_3 mlx5_0");
		assert_non_null(strstr(note, "mlx5_0:1 is"));
		assert_non_null(strstr(note, "would be nearer"));
	}
	for (uint32_t i = 0; i < 4; i++)
		m.nic[i].state = MC_TOPO_STATE_DOWN;
	chosen(&m, "cuda0", MC_TOPO_OPENFABRICS, "", 0, got, sizeof(got), note, sizeof(note));
	assert_string_equal(got, "| mlx5_0 mlx5_1 mlx5_2 mlx5_3");
	assert_non_null(strstr(note, "no live RDMA port: all 4 are down"));
}

static void choose__link_layers_apart(void **state)
{
	struct machine m;

	(void)state;
	build(&m);
	m.nic[1].link = MC_TOPO_LINK_ETHERNET;
	expect(&m, "cuda1", "", "mlx5_2 | mlx5_0 mlx5_3 mlx5_1");
	/* the same link layer for every memory of the host, or its ranks could not talk to each other */
	m.nic[0].link = MC_TOPO_LINK_ETHERNET;
	expect(&m, "cuda0", "", "mlx5_2 | mlx5_3 mlx5_0 mlx5_1");
	/* where all rates are told, bandwidth decides */
	for (uint32_t i = 0; i < 4; i++)
		m.nic[i].rate_mbps = m.nic[i].link == MC_TOPO_LINK_ETHERNET ? 400000 : 100000;
	expect(&m, "cuda0", "", "mlx5_0 | mlx5_1 mlx5_2 mlx5_3");
	expect(&m, "numa1", "", "mlx5_0 mlx5_1 | mlx5_3 mlx5_2");
	/* InfiniBand is dead: Ethernet it is */
	build(&m);
	for (uint32_t i = 0; i < 4; i++)
		m.nic[i].state = i == 1 ? MC_TOPO_STATE_ACTIVE : MC_TOPO_STATE_DOWN;
	m.nic[1].link = MC_TOPO_LINK_ETHERNET;
	expect(&m, "cuda2", "", "mlx5_1 | mlx5_3 mlx5_0 mlx5_2");
}

static void choose__rates(void **state)
{
	struct machine m;

	(void)state;
	build(&m);
	for (uint32_t i = 0; i < 4; i++)
		m.nic[i].rate_mbps = 400000;
	expect(&m, "cuda1", "", "mlx5_1 mlx5_2 | mlx5_0 mlx5_3");
	m.nic[1].rate_mbps = 200000; /* equally near, but not equally good */
	expect(&m, "cuda1", "", "mlx5_2 | mlx5_1 mlx5_0 mlx5_3");
	m.nic[1].rate_mbps = 100000; /* a quarter: behind even the far ones */
	expect(&m, "cuda1", "", "mlx5_2 | mlx5_0 mlx5_3 mlx5_1");
	m.nic[2].rate_mbps = 100000;
	expect(&m, "cuda1", "", "mlx5_0 | mlx5_3 mlx5_1 mlx5_2");
}

static void choose__ranks_spread(void **state)
{
	struct machine m;
	uint32_t seen[3] = {0, 0, 0};
	char got[256];

	(void)state;
	build(&m);
	expect_rank(&m, "cuda1", "", 0, "mlx5_1 mlx5_2 | mlx5_0 mlx5_3");
	expect_rank(&m, "cuda1", "", 1, "mlx5_2 mlx5_1 | mlx5_0 mlx5_3");
	/* ranks dealt out over two sockets: those of one socket are every second, and still spread */
	for (uint32_t r = 0; r < 4; r += 2) {
		chosen(&m, "cuda1", MC_TOPO_OPENFABRICS, "", r, got, sizeof(got), NULL, 0);
		seen[got[5] - '0']++;
	}
	assert_int_equal(seen[1], 1);
	assert_int_equal(seen[2], 1);
	/* a rank without a near NIC gets the next nearest, spread too */
	m.nic[3].state = MC_TOPO_STATE_DOWN;
	expect_rank(&m, "cuda2", "", 0, "mlx5_0 mlx5_1 mlx5_2 | mlx5_3");
	expect_rank(&m, "cuda2", "", 1, "mlx5_1 mlx5_2 mlx5_0 | mlx5_3");
	expect_rank(&m, "cuda2", "", 2, "mlx5_2 mlx5_0 mlx5_1 | mlx5_3");
	expect_rank(&m, "cuda2", "", UINT32_MAX, "mlx5_1 mlx5_2 mlx5_0 | mlx5_3");
}

static void choose__use_max(void **state)
{
	struct mc_topo_want w = {.kind = MC_TOPO_OPENFABRICS, .use_max = 1};
	struct mc_topo_choice c;
	struct machine m;
	char text[128];

	(void)state;
	build(&m);
	assert_int_equal(mc_topo_choose(&m.t, &w, &c), MC_OK);
	assert_int_equal(c.use_n, 1);
	assert_true(mc_topo_choice_devices(&m.t, &c, text, sizeof(text)));
	assert_string_equal(text, "mlx5_0:1");
	mc_topo_choice_free(&c);
	w.use_max = 0;
	assert_int_equal(mc_topo_choose(&m.t, &w, &c), MC_OK);
	assert_true(mc_topo_choice_devices(&m.t, &c, text, sizeof(text)));
	assert_string_equal(text, "mlx5_0:1,mlx5_1:1,mlx5_2:1,mlx5_3:1");
	assert_false(mc_topo_choice_devices(&m.t, &c, text, strlen("mlx5_0:1,mlx5_1:1,mlx5_2:1,mlx5_3:1")));
	mc_topo_choice_free(&c);
}

static void choose__tcp(void **state)
{
	struct machine m;
	char got[256], note[256];

	(void)state;
	build(&m);
	chosen(&m, "numa1", MC_TOPO_NETWORK, "", 0, got, sizeof(got), NULL, 0);
	assert_string_equal(got, "eth0 | veth1"); /* hardware before virtual, though its place is far */
	m.nic[VETH] = m.nic[ETH];
	snprintf(m.nic[VETH].name, sizeof(m.nic[VETH].name), "ib0");
	m.nic[VETH].link = MC_TOPO_LINK_INFINIBAND;
	chosen(&m, "numa1", MC_TOPO_NETWORK, "", 0, got, sizeof(got), NULL, 0);
	assert_string_equal(got, "ib0 | eth0"); /* equally near, still not striped */
	chosen(&m, "numa1", MC_TOPO_NETWORK, "numa1=eth0+ib0", 0, got, sizeof(got), NULL, 0);
	assert_string_equal(got, "ib0 | eth0");
	m.nic[VETH].link = MC_TOPO_LINK_UNKNOWN;
	chosen(&m, "numa1", MC_TOPO_NETWORK, "", 0, got, sizeof(got), NULL, 0);
	assert_string_equal(got, "ib0 | eth0");
	build(&m);
	m.nic[ETH].no_address = true;
	chosen(&m, "numa1", MC_TOPO_NETWORK, "", 0, got, sizeof(got), NULL, 0);
	assert_string_equal(got, "veth1 | eth0");
	m.nic[VETH].state = MC_TOPO_STATE_DOWN;
	chosen(&m, "numa1", MC_TOPO_NETWORK, "", 0, got, sizeof(got), note, sizeof(note));
	assert_string_equal(got, "| eth0 veth1");
	assert_non_null(strstr(note, "no live network interface"));
	m.t.nic_n = ETH;
	chosen(&m, "numa1", MC_TOPO_NETWORK, "", 0, got, sizeof(got), note, sizeof(note));
	assert_string_equal(got, "");
	assert_string_equal(note, "no network interface");
}

static void override__include_exclude_map(void **state)
{
	struct machine m;
	char got[256], note[256];

	(void)state;
	build(&m);
	expect(&m, "cuda0", "mlx5_3,mlx5_1", "mlx5_1 | mlx5_3");
	expect(&m, "cuda0", "mlx5_3:1", "mlx5_3");
	expect(&m, "cuda0", "^mlx5_0,mlx5_1", "mlx5_2 | mlx5_3");
	expect(&m, "cuda0", "cuda0=mlx5_3", "mlx5_3 | mlx5_0 mlx5_1 mlx5_2");
	expect(&m, "cuda1", "cuda0=mlx5_3", "mlx5_1 mlx5_2 | mlx5_0 mlx5_3");
	expect(&m, "cuda0", "cuda0=mlx5_3+mlx5_0:1,numa1=mlx5_0", "mlx5_0 mlx5_3 | mlx5_1 mlx5_2");
	expect(&m, "numa1", "cuda0=mlx5_3+mlx5_0:1, numa1=mlx5_0", "mlx5_0 | mlx5_3 mlx5_1 mlx5_2");
	/* a map also reaches past an exclusion: it was said about just this memory */
	expect(&m, "cuda0", "^mlx5_3,cuda0=mlx5_3", "mlx5_3 | mlx5_0 mlx5_1 mlx5_2");
	m.nic[3].state = MC_TOPO_STATE_DOWN;
	chosen(&m, "cuda0", MC_TOPO_OPENFABRICS, "cuda0=mlx5_3", 0, got, sizeof(got), note, sizeof(note));
	assert_string_equal(got, "mlx5_0 | mlx5_1 mlx5_2 mlx5_3");
	assert_non_null(strstr(note, "not used in spite of the override"));
	chosen(&m, "cuda0", MC_TOPO_OPENFABRICS, "eth0", 0, got, sizeof(got), note, sizeof(note));
	assert_string_equal(got, "");
	assert_string_equal(note, "no RDMA port that is allowed");
}

static void override__errors_list_the_known(void **state)
{
	static const char *const bad[] = {"mlx5_9",
					  "mlx5_0:2",
					  "^mlx5_9",
					  "mlx5_0,,mlx5_1",
					  "cuda0=mlx5_9",
					  "cuda0=",
					  "cuda0=mlx5_0+",
					  "cuda7=mlx5_0",
					  "^",
					  "numa9=mlx5_0",
					  "mlx5_0:1:1",
					  "mlx5_0:",
					  "=mlx5_0",
					  ",",
					  "mlx5_0:99999999999999999999"};
	struct mc_topo_policy p;
	struct machine m;
	char err[512];

	(void)state;
	build(&m);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err[0] = '\0';
		assert_int_equal(mc_topo_policy_parse(&m.t, bad[i], &p, err, sizeof(err)), MC_ERR_CONFIG);
		assert_true(err[0] != '\0');
	}
	assert_int_equal(mc_topo_policy_parse(&m.t, "mlx5_9", &p, err, sizeof(err)), MC_ERR_CONFIG);
	assert_string_equal(err, "there is no NIC mlx5_9; known: mlx5_0:1 mlx5_1:1 mlx5_2:1 mlx5_3:1 eth0 veth1");
	assert_int_equal(mc_topo_policy_parse(&m.t, "cuda7=mlx5_0", &p, err, sizeof(err)), MC_ERR_CONFIG);
	assert_string_equal(err,
			    "there is no memory cuda7; known: numa0 numa1 cuda0 cuda1 cuda2 any, and PCI ids such as "
			    "0000:17:00.0");
	/* an error that does not fit is cut, not overrun */
	assert_int_equal(mc_topo_policy_parse(&m.t, "mlx5_9", &p, err, 10), MC_ERR_CONFIG);
	assert_int_equal(strlen(err), 9);
}

/* ---- what ranks publish
 * ---------------------------------------------------------------------------------------------------- */

static void gid(struct mc_topo_gid *g, uint32_t index, enum mc_topo_gid_type type, const uint8_t raw[16])
{
	memset(g, 0, sizeof(*g));
	g->index = index;
	g->type = type;
	memcpy(g->raw, raw, 16);
}

static void gid_best__prefers_routable_v2(void **state)
{
	static const uint8_t local[16] = {0xfe, 0x80, [15] = 1}, global[16] = {0x20, 1, [15] = 1},
			     v4[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 7};
	struct mc_topo_gid g[6];
	struct mc_topo_nic n = {.link = MC_TOPO_LINK_ETHERNET, .gid = g};
	struct mc_topo_nic_id id;
	char text[64];

	(void)state;
	gid(&g[0], 0, MC_TOPO_GID_V1, local);
	gid(&g[1], 1, MC_TOPO_GID_V2, local);
	gid(&g[2], 2, MC_TOPO_GID_V1, v4);
	gid(&g[3], 5, MC_TOPO_GID_V2, v4);
	gid(&g[4], 6, MC_TOPO_GID_V2, global);
	assert_true(mc_topo_gid_best(&n) == MC_TOPO_NONE);
	n.gid_n = 5;
	assert_int_equal(mc_topo_gid_best(&n), 3);
	mc_topo_nic_id_fill(&n, &id);
	assert_int_equal(id.gid_index, 5);
	assert_memory_equal(id.gid, v4, 16);
	mc_topo_gid_text(id.gid, text, sizeof(text));
	assert_string_equal(text, "10.0.0.7");
	n.gid_n = 3; /* a v2 one that is only link-local still goes before v1 */
	assert_int_equal(mc_topo_gid_best(&n), 1);
	n.link = MC_TOPO_LINK_INFINIBAND;
	assert_int_equal(mc_topo_gid_best(&n), 0);
}

static void ids(struct mc_topo_nic_id *id, uint32_t n, const uint32_t *rail, uint32_t link)
{
	memset(id, 0, n * sizeof(*id));
	for (uint32_t i = 0; i < n; i++) {
		snprintf(id[i].name, sizeof(id[i].name), "mlx5_%u", rail[i]);
		id[i].rail = rail[i];
		id[i].link = link;
	}
}

/* Pairs as "mine-theirs ..." by rail; and the peer must come to the same ones. */
static void expect_pairs(const struct mc_topo_nic_id *a, uint32_t an, const struct mc_topo_nic_id *b, uint32_t bn,
			 const char *want)
{
	struct mc_topo_pair p[16], q[16];
	uint32_t n = mc_topo_pair(a, an, b, bn, p, 16), m = mc_topo_pair(b, bn, a, an, q, 16);
	char text[256] = "";
	size_t len = 0;

	assert_int_equal(n, m);
	for (uint32_t i = 0; i < n; i++) {
		bool found = false;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u-%u", i > 0 ? " " : "", a[p[i].mine].rail,
					b[p[i].theirs].rail);
		assert_int_equal(p[i].same_rail, a[p[i].mine].rail == b[p[i].theirs].rail);
		for (uint32_t k = 0; k < m; k++)
			found = found || (q[k].mine == p[i].theirs && q[k].theirs == p[i].mine);
		assert_true(found);
	}
	assert_string_equal(text, want);
}

static void pair__same_rail_first(void **state)
{
	static const uint32_t all[] = {0, 1, 2, 3}, turned[] = {2, 3, 0, 1}, odd[] = {1, 5}, one[] = {3};
	struct mc_topo_nic_id a[4], b[4];

	(void)state;
	ids(a, 4, all, MC_TOPO_LINK_INFINIBAND);
	ids(b, 4, turned, MC_TOPO_LINK_INFINIBAND);
	expect_pairs(a, 4, b, 4, "0-0 1-1 2-2 3-3");
	expect_pairs(b, 4, a, 4, "2-2 3-3 0-0 1-1");
	ids(b, 2, odd, MC_TOPO_LINK_INFINIBAND);
	expect_pairs(a, 4, b, 2, "0-5 1-1 2-1 3-5");
	expect_pairs(b, 2, a, 4, "1-1 1-2 5-0 5-3");
	ids(b, 1, one, MC_TOPO_LINK_INFINIBAND);
	expect_pairs(a, 4, b, 1, "0-3 1-3 2-3 3-3");
	expect_pairs(a, 4, b, 0, "");
}

static void pair__link_layers_apart(void **state)
{
	static const uint32_t rails[] = {0, 1};
	struct mc_topo_nic_id a[2], b[2];
	struct mc_topo_pair p[1];

	(void)state;
	ids(a, 2, rails, MC_TOPO_LINK_INFINIBAND);
	ids(b, 2, rails, MC_TOPO_LINK_ETHERNET);
	expect_pairs(a, 2, b, 2, "");
	b[1].link = MC_TOPO_LINK_INFINIBAND;
	expect_pairs(a, 2, b, 2, "0-1 1-1");
	b[0].link = MC_TOPO_LINK_UNKNOWN;
	expect_pairs(a, 2, b, 2, "0-0 1-1");
	assert_int_equal(mc_topo_pair(a, 2, b, 2, p, 1), 1); /* never past the room */
}

static void words__natural_order(void **state)
{
	(void)state;
	assert_true(mc_topo_natural_cmp("mlx5_2", "mlx5_10") < 0);
	assert_true(mc_topo_natural_cmp("mlx5_10", "mlx5_2") > 0);
	assert_true(mc_topo_natural_cmp("mlx5_2", "mlx5_2") == 0);
	assert_true(mc_topo_natural_cmp("cuda", "cuda0") < 0);
	assert_true(mc_topo_natural_cmp("a01", "a1") == 0);
	assert_true(mc_topo_natural_cmp("", "a") < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(choose__nearest_first),
		cmocka_unit_test(choose__unknown_place_between_package_and_far),
		cmocka_unit_test(choose__dead_ports_last),
		cmocka_unit_test(choose__link_layers_apart),
		cmocka_unit_test(choose__rates),
		cmocka_unit_test(choose__ranks_spread),
		cmocka_unit_test(choose__use_max),
		cmocka_unit_test(choose__tcp),
		cmocka_unit_test(override__include_exclude_map),
		cmocka_unit_test(override__errors_list_the_known),
		cmocka_unit_test(gid_best__prefers_routable_v2),
		cmocka_unit_test(pair__same_rail_first),
		cmocka_unit_test(pair__link_layers_apart),
		cmocka_unit_test(words__natural_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

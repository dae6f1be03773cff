/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_topo_rank.c - where a rank is and which NICs it uses: shares, networks, loopback; and a machine read from the
 * kernel alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "topo.h"
#include "topo_impl.h"

enum { NODES = 2, NICS = 8 };

struct machine {
	struct mc_topo t;
	struct mc_topo_node node[NODES];
	struct mc_topo_nic nic[NICS];
};

/* Two nodes, no NIC yet. */
static void build(struct machine *m)
{
	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < NODES; i++) {
		m->node[i].os_index = i;
		m->node[i].has_cpus = true;
		m->node[i].loc.known = true;
		m->node[i].loc.package = (int32_t)i;
		m->node[i].loc.nodes.bit[0] = UINT64_C(1) << i;
	}
	snprintf(m->node[0].cpus, sizeof(m->node[0].cpus), "0-3,8-11");
	snprintf(m->node[1].cpus, sizeof(m->node[1].cpus), "4-7,12-15");
	m->t.node = m->node;
	m->t.node_n = NODES;
	m->t.nic = m->nic;
}

static struct mc_topo_nic *add(struct machine *m, enum mc_topo_kind kind, const char *name, uint32_t node)
{
	struct mc_topo_nic *n = &m->nic[m->t.nic_n++];

	n->kind = kind;
	n->port = kind == MC_TOPO_OPENFABRICS;
	n->pci = MC_TOPO_NONE;
	n->state = kind == MC_TOPO_OPENFABRICS ? MC_TOPO_STATE_ACTIVE : MC_TOPO_STATE_UP;
	n->link = kind == MC_TOPO_OPENFABRICS ? MC_TOPO_LINK_INFINIBAND : MC_TOPO_LINK_ETHERNET;
	n->rate_mbps = 100000;
	n->loc = m->node[node].loc;
	snprintf(n->name, sizeof(n->name), "%s", name);
	return n;
}

static void add_network(struct mc_topo_nic *n, uint64_t network)
{
	n->network[n->network_n++] = network;
}

/* The used ones, as UCX_NET_DEVICES wants them. */
static void expect_used(const struct machine *m, const struct mc_topo_want *w, const char *spec, const char *want)
{
	struct mc_topo_want mine = *w;
	struct mc_topo_policy p;
	struct mc_topo_choice c;
	char err[256], got[256];

	assert_int_equal(mc_topo_policy_parse(&m->t, spec, &p, err, sizeof(err)), MC_OK);
	mine.policy = &p;
	assert_int_equal(mc_topo_choose_rank(&m->t, &mine, &c), MC_OK);
	assert_true(mc_topo_choice_devices(&m->t, &c, got, sizeof(got)));
	assert_string_equal(got, want);
	for (uint32_t i = 0; i < c.n; i++)
		assert_int_equal(c.pick[i].use, i < c.use_n);
	mc_topo_choice_free(&c);
	mc_topo_policy_free(&p);
}

static void home__all_cpus_in_one_node(void **state)
{
	static const struct {
		uint64_t cpus;
		uint32_t home;
	} c[] = {
		{0x0f0f, 0},
		{0x0001, 0},
		{0xf0f0, 1},
		{0x8000, 1},
		{0xffff, MC_TOPO_NONE},
		{0x0011, MC_TOPO_NONE},
		{0, MC_TOPO_NONE},
		{0x1000f, MC_TOPO_NONE}, /* a CPU of no node */
	};
	struct machine m;

	(void)state;
	build(&m);
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++)
		assert_int_equal(mc_topo_home(&m.t, &c[i].cpus, 64), c[i].home);
	m.node[1].has_cpus = false; /* memory only: nothing to decide */
	m.node[1].cpus[0] = '\0';
	assert_int_equal(mc_topo_home(&m.t, &c[0].cpus, 64), MC_TOPO_NONE);
	snprintf(m.node[1].cpus, sizeof(m.node[1].cpus), "4-x");
	m.node[1].has_cpus = true;
	assert_int_equal(mc_topo_home(&m.t, &c[2].cpus, 64), MC_TOPO_NONE);
}

/* Whatever the number of ranks: all ports of the node are used, and no rank has more than one more than another. */
static void share__every_port_is_used(void **state)
{
	struct machine m;

	(void)state;
	for (uint32_t ports = 1; ports <= NICS; ports++) {
		build(&m);
		for (uint32_t i = 0; i < ports; i++) {
			char name[16];
			snprintf(name, sizeof(name), "mlx5_%u", i);
			add(&m, MC_TOPO_OPENFABRICS, name, 0);
		}
		for (uint32_t ranks = 1; ranks <= 20; ranks++) {
			uint32_t used[NICS] = {0}, each = (ports + ranks - 1) / ranks;
			for (uint32_t r = 0; r < ranks; r++) {
				struct mc_topo_want w = {.local_rank = r, .sharers = ranks};
				struct mc_topo_choice c;
				assert_int_equal(mc_topo_choose_rank(&m.t, &w, &c), MC_OK);
				assert_int_equal(c.use_n, each);
				for (uint32_t i = 0; i < c.use_n; i++)
					used[c.pick[i].nic]++;
				mc_topo_choice_free(&c);
			}
			for (uint32_t i = 0; i < ports; i++)
				assert_true(used[i] > 0 && used[i] <= (ranks * each + ports - 1) / ports + each);
		}
	}
}

static void share__near_ones_only(void **state)
{
	struct mc_topo_want w = {.buf = {MC_TOPO_BUF_NODE, 1}, .sharers = 2};
	struct machine m;

	(void)state;
	build(&m);
	add(&m, MC_TOPO_OPENFABRICS, "a", 0);
	add(&m, MC_TOPO_OPENFABRICS, "b", 1);
	add(&m, MC_TOPO_OPENFABRICS, "c", 1);
	expect_used(&m, &w, "", "b:1");
	w.local_rank = 1;
	expect_used(&m, &w, "", "c:1");
	w.buf.index = 0;
	expect_used(&m, &w, "", "a:1");
	expect_used(&m, &w, "^a", "c:1"); /* no near one is left: the next nearest, still shared */
	expect_used(&m, &w, "numa0=b", "b:1");
}

/* A peer may be in the network of the far interface only. */
static void networks__none_is_lost(void **state)
{
	struct mc_topo_want w = {.kind = MC_TOPO_NETWORK, .buf = {MC_TOPO_BUF_NODE, 0}, .sharers = 8};
	struct mc_topo_nic *near, *far;
	struct machine m;

	(void)state;
	build(&m);
	far = add(&m, MC_TOPO_NETWORK, "eth0", 1);
	near = add(&m, MC_TOPO_NETWORK, "eth1", 0);
	expect_used(&m, &w, "", "eth1");
	add_network(far, 10);
	expect_used(&m, &w, "", "eth1,eth0");
	add_network(near, 10);
	expect_used(&m, &w, "", "eth1");
	add_network(far, 20);
	expect_used(&m, &w, "", "eth1,eth0");
	far->rate_mbps = 1000; /* the port for management */
	expect_used(&m, &w, "", "eth1");
	expect_used(&m, &w, "eth0,eth1", "eth1,eth0"); /* unless it is named */
	far->rate_mbps = 100000;
	far->is_virtual = true;
	expect_used(&m, &w, "", "eth1");
	near->is_virtual = true;
	expect_used(&m, &w, "", "eth1,eth0");
	far->is_bridge = true;
	expect_used(&m, &w, "", "eth1");
	far->is_bridge = far->is_virtual = near->is_virtual = false;
	near->no_address = true;
	expect_used(&m, &w, "", "eth0");
	near->no_address = false;
	expect_used(&m, &w, "numa0=eth1", "eth1");
}

/* Ports are divided all the same, but those in networks of their own are marked: rank 0 here may need them for a peer
 * there. */
static void networks__ports_apart(void **state)
{
	struct mc_topo_want w = {.buf = {MC_TOPO_BUF_NODE, 0}, .sharers = 2};
	struct mc_topo_gid gid[2] = {{.raw = {0xfe, 0x80}}, {.raw = {0xfe, 0x80}}};
	struct mc_topo_choice c;
	struct machine m;

	(void)state;
	build(&m);
	for (uint32_t i = 0; i < 2; i++) {
		struct mc_topo_nic *n = add(&m, MC_TOPO_OPENFABRICS, i == 0 ? "a" : "b", 0);
		n->gid = &gid[i];
		n->gid_n = 1;
	}
	for (int way = 0; way < 4; way++) { /* one subnet; two; RoCE with an interface each in one network; in two */
		if (way == 1)
			gid[1].raw[7] = 1;
		for (uint32_t i = 0; way == 2 && i < 2; i++) {
			struct mc_topo_nic *eth = add(&m, MC_TOPO_NETWORK, i == 0 ? "eth0" : "eth1", 0);
			add_network(eth, 10);
			m.nic[i].link = MC_TOPO_LINK_ETHERNET;
			snprintf(m.nic[i].netdev, sizeof(m.nic[i].netdev), "%s", eth->name);
		}
		if (way == 3)
			m.nic[3].network[0] = 20;
		assert_int_equal(mc_topo_choose_rank(&m.t, &w, &c), MC_OK);
		assert_int_equal(c.use_n, 1);
		assert_int_equal(c.n, 2);
		assert_false(c.pick[0].apart);
		assert_int_equal(c.pick[1].apart, way % 2 == 1);
		mc_topo_choice_free(&c);
	}
	m.nic[1].state = MC_TOPO_STATE_DOWN;
	assert_int_equal(mc_topo_choose_rank(&m.t, &w, &c), MC_OK);
	assert_false(c.pick[1].apart);
	mc_topo_choice_free(&c);
}

static void loopback__only_by_name(void **state)
{
	struct mc_topo_want w = {.kind = MC_TOPO_NETWORK};
	struct machine m;

	(void)state;
	build(&m);
	add(&m, MC_TOPO_NETWORK, "lo", 0)->is_loopback = true;
	m.nic[0].is_virtual = true;
	expect_used(&m, &w, "", "");
	expect_used(&m, &w, "lo", "lo");
	add(&m, MC_TOPO_NETWORK, "eth0", 0);
	expect_used(&m, &w, "", "eth0");
	expect_used(&m, &w, "^eth0", "");
	expect_used(&m, &w, "lo", "lo");
}

/* ---- from the kernel alone --------------------------------------------------------------------------------------- */

struct tree {
	char root[64];
};

static void put(const struct tree *t, const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", t->root, path);
	for (char *p = full + strlen(t->root) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		mkdir(full, 0777);
		*p = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	fclose(f);
}

static void put_port(const struct tree *t, const char *dev, const char *busid, const char *node)
{
	char path[256], target[256], full[512];

	snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/numa_node", busid);
	put(t, path, node);
	snprintf(path, sizeof(path), "sys/devices/pci0000:00/%s/vendor", busid);
	put(t, path, "0x15b3\n");
	snprintf(path, sizeof(path), "sys/class/infiniband/%s/ports/1/state", dev);
	put(t, path, "4: ACTIVE\n");
	snprintf(path, sizeof(path), "sys/class/infiniband/%s/ports/1/link_layer", dev);
	put(t, path, "InfiniBand\n");
	snprintf(target, sizeof(target), "../../../devices/pci0000:00/%s", busid);
	snprintf(full, sizeof(full), "%s/sys/class/infiniband/%s/device", t->root, dev);
	assert_int_equal(symlink(target, full), 0);
}

static int setup(void **state)
{
	struct tree *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	snprintf(t->root, sizeof(t->root), "/tmp/test_topo_rank.XXXXXX");
	assert_non_null(mkdtemp(t->root));
	put(t, "sys/devices/system/node/online", "0-1\n");
	put(t, "sys/devices/system/node/node0/cpulist", "0-3\n");
	put(t, "sys/devices/system/node/node1/cpulist", "4-7\n");
	put(t, "sys/devices/system/cpu/cpu0/topology/physical_package_id", "0\n");
	put(t, "sys/devices/system/cpu/cpu4/topology/physical_package_id", "1\n");
	*state = t;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct tree *t = *state;

	nftw(t->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(t);
	return 0;
}

static struct mc_topo *load(const struct tree *tree, bool loopback, bool addressed)
{
	struct mc_topo_src src = {.root = tree->root, .kernel_only = true, .present_only = true};
	struct mc_topo *t = NULL;
	char err[512];

	src.loopback = loopback;
	src.addressed = addressed;
	assert_int_equal(mc_topo_load(&src, &t, err, sizeof(err)), MC_OK);
	return t;
}

static void kernel__nodes_and_rails(void **state)
{
	const struct tree *tree = *state;
	struct mc_topo *t;

	/* names against the order of PCI ids: rails go by the latter, as with hwloc */
	put_port(tree, "mlx5_1", "0000:01:00.0", "0\n");
	put_port(tree, "mlx5_0", "0000:81:00.0", "1\n");
	put_port(tree, "mlx5_2", "0000:91:00.0", "-1\n");
	t = load(tree, false, false);
	assert_int_equal(t->node_n, 2);
	assert_string_equal(t->node[1].cpus, "4-7");
	assert_int_equal(t->node[1].loc.package, 1);
	assert_int_equal(t->nic_n, 3);
	assert_string_equal(t->nic[0].name, "mlx5_1");
	assert_int_equal(t->nic[1].rail, 1);
	assert_string_equal(t->pci[t->nic[1].pci].busid, "0000:81:00.0");
	assert_int_equal(t->pci[t->nic[1].pci].vendor, 0x15b3);
	assert_true(mc_topo_nodeset_has(&t->nic[1].loc.nodes, 1));
	assert_false(mc_topo_nodeset_has(&t->nic[1].loc.nodes, 0));
	assert_false(t->nic[2].loc.known);
	mc_topo_free(t);
}

static const char routes[] = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
			     "eth0\t00000000\t0100000A\t0003\t0\t0\t4294967295\t00000000\t0\t0\t0\n"
			     "eth0\t0000000A\t00000000\t0001\t0\t0\t4294967295\t00FFFFFF\t0\t0\t0\n"
			     "eth1\t0001000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
			     "eth2\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
			     "../net\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
static const char inet6[] = "20010db8000000000000000000000001 02 40 00 80     eth0\n"
			    "20010db8000000000000000000000002 03 40 00 80     eth3\n"
			    "fe800000000000000000000000000001 02 40 20 80     eth4\n";

static const struct mc_topo_nic *named(const struct mc_topo *t, const char *name)
{
	for (uint32_t i = 0; i < t->nic_n; i++) {
		if (strcmp(t->nic[i].name, name) == 0)
			return &t->nic[i];
	}
	return NULL;
}

static void kernel__interfaces_and_their_networks(void **state)
{
	static const char *const name[] = {"eth0", "eth1", "eth2", "eth3", "eth4", "lo"};
	const struct tree *tree = *state;
	const struct mc_topo_nic *n;
	struct mc_topo *t;

	for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
		char path[128];
		snprintf(path, sizeof(path), "sys/class/net/%s/type", name[i]);
		put(tree, path, strcmp(name[i], "lo") == 0 ? "772\n" : "1\n");
		snprintf(path, sizeof(path), "sys/class/net/%s/operstate", name[i]);
		put(tree, path, "up\n");
	}
	put(tree, "proc/net/route", routes);
	put(tree, "proc/net/if_inet6", inet6);
	t = load(tree, true, false);
	assert_int_equal(t->nic_n, 6); /* ../net is no name */
	n = named(t, "eth0");
	assert_true(n->default_route && !n->no_address);
	assert_int_equal(n->network_n, 2);
	assert_int_equal(named(t, "eth1")->network_n, 1);
	assert_true(named(t, "eth1")->network[0] != n->network[0] && named(t, "eth1")->network[0] != n->network[1]);
	assert_true(named(t, "eth2")->network[0] == n->network[0]);
	assert_true(named(t, "eth3")->network[0] == n->network[1]);
	assert_true(named(t, "eth4")->no_address);
	assert_true(named(t, "lo")->is_loopback && !named(t, "lo")->no_address);
	mc_topo_free(t);
	t = load(tree, true, true);
	assert_int_equal(t->nic_n, 4);
	assert_null(named(t, "eth4"));
	assert_non_null(named(t, "eth3"));
	mc_topo_free(t);
	put(tree, "proc/net/route", ""); /* not told: nobody is accused, all are read */
	t = load(tree, false, true);
	assert_int_equal(t->nic_n, 5);
	assert_false(named(t, "eth4")->no_address);
	mc_topo_free(t);
}

static void kernel__odd_trees(void **state)
{
	static const char *const online[] = {"", "x", "0-99999", "1", "0,0", "0-1,"};
	const struct tree *tree = *state;

	for (size_t i = 0; i < sizeof(online) / sizeof(online[0]); i++) {
		struct mc_topo *t;
		put(tree, "sys/devices/system/node/online", online[i]);
		put(tree, "sys/devices/system/node/node0/cpulist", i % 2 == 0 ? "\xff\xfe" : "99999999999");
		t = load(tree, false, false);
		assert_true(t->node_n >= 1 && t->node_n <= MC_TOPO_NODES_MAX);
		mc_topo_free(t);
	}
}

static void mark__of_a_file(void **state)
{
	const struct tree *tree = *state;
	char path[128], a[128], b[128];

	snprintf(path, sizeof(path), "%s/file.xml", tree->root);
	assert_false(mc_topo_file_mark(path, a, sizeof(a)));
	assert_false(mc_topo_file_mark(tree->root, a, sizeof(a)));
	put(tree, "file.xml", "one");
	assert_true(mc_topo_file_mark(path, a, sizeof(a)));
	assert_true(mc_topo_file_mark(path, b, sizeof(b)));
	assert_string_equal(a, b);
	assert_false(mc_topo_file_mark(path, b, 8));
	put(tree, "file.xml", "another");
	assert_true(mc_topo_file_mark(path, b, sizeof(b)));
	assert_string_not_equal(a, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(home__all_cpus_in_one_node),
		cmocka_unit_test(share__every_port_is_used),
		cmocka_unit_test(share__near_ones_only),
		cmocka_unit_test(networks__none_is_lost),
		cmocka_unit_test(networks__ports_apart),
		cmocka_unit_test(loopback__only_by_name),
		cmocka_unit_test_setup_teardown(kernel__nodes_and_rails, setup, teardown),
		cmocka_unit_test_setup_teardown(kernel__interfaces_and_their_networks, setup, teardown),
		cmocka_unit_test_setup_teardown(kernel__odd_trees, setup, teardown),
		cmocka_unit_test_setup_teardown(mark__of_a_file, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_topo_sysfs.c - recorded trees of /sys and /proc, good and broken, and each parser of their texts. */
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

static const char machine_xml[] =
	"<topology version=\"2.0\"><object type=\"Machine\" os_index=\"0\" cpuset=\"0x3\" complete_cpuset=\"0x3\" "
	"allowed_cpuset=\"0x3\" nodeset=\"0x3\" complete_nodeset=\"0x3\" allowed_nodeset=\"0x3\" gp_index=\"1\">"
	"<object type=\"Package\" os_index=\"0\" cpuset=\"0x1\" complete_cpuset=\"0x1\" nodeset=\"0x1\" "
	"complete_nodeset=\"0x1\" "
	"gp_index=\"2\"><object type=\"NUMANode\" os_index=\"0\" cpuset=\"0x1\" complete_cpuset=\"0x1\" "
	"nodeset=\"0x1\" "
	"complete_nodeset=\"0x1\" gp_index=\"3\"/><object type=\"PU\" os_index=\"0\" cpuset=\"0x1\" "
	"complete_cpuset=\"0x1\" "
	"nodeset=\"0x1\" complete_nodeset=\"0x1\" gp_index=\"4\"/>"
	"<object type=\"Bridge\" gp_index=\"8\" bridge_type=\"0-1\" depth=\"0\" bridge_pci=\"0000:[00-0f]\">"
	"<object type=\"PCIDev\" gp_index=\"9\" pci_busid=\"0000:01:00.0\" pci_type=\"0207 [15b3:1021] [0000:0000] "
	"00\" "
	"pci_link_speed=\"1.0\"/></object></object>"
	"<object type=\"Package\" os_index=\"1\" cpuset=\"0x2\" complete_cpuset=\"0x2\" nodeset=\"0x2\" "
	"complete_nodeset=\"0x2\" "
	"gp_index=\"5\"><object type=\"NUMANode\" os_index=\"1\" cpuset=\"0x2\" complete_cpuset=\"0x2\" "
	"nodeset=\"0x2\" "
	"complete_nodeset=\"0x2\" gp_index=\"6\"/><object type=\"PU\" os_index=\"1\" cpuset=\"0x2\" "
	"complete_cpuset=\"0x2\" "
	"nodeset=\"0x2\" complete_nodeset=\"0x2\" gp_index=\"7\"/></object></object></topology>";

struct tree {
	char root[64];
	char xml[80];
};

static void put_n(const struct tree *t, const char *path, const void *data, size_t len)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", t->root, path);
	for (char *p = full + strlen(t->root) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		mkdir(full, 0777);
		*p = '/';
	}
	f = fopen(full, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static void put(const struct tree *t, const char *path, const char *text)
{
	put_n(t, path, text, strlen(text));
}

static void link_to(const struct tree *t, const char *path, const char *target)
{
	char full[512];

	snprintf(full, sizeof(full), "%s/%s", t->root, path);
	assert_int_equal(symlink(target, full), 0);
}

static int setup(void **state)
{
	struct tree *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	snprintf(t->root, sizeof(t->root), "/tmp/test_topo_sysfs.XXXXXX");
	assert_non_null(mkdtemp(t->root));
	put(t, "machine.xml", machine_xml);
	snprintf(t->xml, sizeof(t->xml), "%s/machine.xml", t->root);
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

static struct mc_topo *load(const struct tree *tree)
{
	struct mc_topo_src src = {.xml_file = tree->xml, .root = tree->root};
	struct mc_topo *t = NULL;
	char err[512];

	assert_int_equal(mc_topo_load(&src, &t, err, sizeof(err)), MC_OK);
	return t;
}

static void put_port(const struct tree *t, const char *dev, const char *state, const char *link, const char *rate)
{
	char path[256];

	snprintf(path, sizeof(path), "sys/class/infiniband/%s/ports/1/state", dev);
	put(t, path, state);
	snprintf(path, sizeof(path), "sys/class/infiniband/%s/ports/1/phys_state", dev);
	put(t, path, "5: LinkUp\n");
	snprintf(path, sizeof(path), "sys/class/infiniband/%s/ports/1/link_layer", dev);
	put(t, path, link);
	snprintf(path, sizeof(path), "sys/class/infiniband/%s/ports/1/rate", dev);
	put(t, path, rate);
	snprintf(path, sizeof(path), "sys/class/infiniband/%s/node_guid", dev);
	put(t, path, "0011:2233:4455:6677\n");
}

static void rdma__port_gids_counters(void **state)
{
	const struct tree *tree = *state;
	struct mc_topo_counter *c;
	struct mc_topo *t;
	uint32_t n;

	put_port(tree, "mlx5_0", "4: ACTIVE\n", "Ethernet\n", "400 Gb/sec (4X NDR)\n");
	link_to(tree, "sys/class/infiniband/mlx5_0/device", "../../../0000:01:00.0");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/gids/0", "fe80:0000:0000:0000:0011:22ff:fe33:4455\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/gids/1", "0000:0000:0000:0000:0000:0000:0000:0000\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/gids/3", "0000:0000:0000:0000:0000:ffff:0a00:0007\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/gids/10", "0000:0000:0000:0000:0000:ffff:0a00:0008\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/gid_attrs/types/0", "IB/RoCE v1\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/gid_attrs/types/3", "RoCE v2\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/3", "ens1\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/counters/port_xmit_data", "18446744073709551615\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_data", "no number\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/hw_counters/out_of_sequence", "3\n");
	put(tree, "sys/class/infiniband/mlx5_0/ports/1/hw_counters/lifespan", "10\n");
	t = load(tree);
	assert_int_equal(t->nic_n, 1);
	assert_int_equal(t->nic[0].state, MC_TOPO_STATE_ACTIVE);
	assert_int_equal(t->nic[0].rate_mbps, 400000);
	assert_int_equal(t->nic[0].link, MC_TOPO_LINK_ETHERNET);
	assert_string_equal(t->nic[0].phys_state, "LinkUp");
	assert_string_equal(t->nic[0].guid, "0011:2233:4455:6677");
	assert_string_equal(t->nic[0].netdev, "ens1");
	assert_true(t->nic[0].pci != MC_TOPO_NONE);
	assert_string_equal(t->pci[t->nic[0].pci].busid, "0000:01:00.0");
	assert_int_equal(t->nic[0].loc.package, 0);
	assert_int_equal(t->nic[0].gid_n, 3);
	assert_int_equal(t->nic[0].gid[1].index, 3);
	assert_int_equal(t->nic[0].gid[2].index, 10);
	assert_int_equal(mc_topo_gid_best(&t->nic[0]), 1);
	assert_int_equal(mc_topo_counters(tree->root, &t->nic[0], &c, &n), MC_OK);
	assert_int_equal(n, 2);
	assert_string_equal(c[0].name, "port_xmit_data");
	assert_true(c[0].value == UINT64_MAX && !c[0].hw && c[1].hw);
	free(c);
	mc_topo_free(t);
}

static void rdma__place_by_numa_node(void **state)
{
	const struct tree *tree = *state;
	struct mc_topo *t;

	put_port(tree, "mlx5_0", "1: DOWN\n", "InfiniBand\n", "10 Gb/sec (4X SDR)\n");
	put_port(tree, "mlx5_1", "4: ACTIVE\n", "InfiniBand\n", "400 Gb/sec (4X NDR)\n");
	put(tree, "sys/class/infiniband/mlx5_0/device/numa_node", "1\n");
	put(tree, "sys/class/infiniband/mlx5_1/device/numa_node", "-1\n");
	t = load(tree);
	assert_int_equal(t->nic_n, 2);
	assert_true(t->nic[0].loc.known && t->nic[0].loc.package == 1 && mc_topo_nodeset_has(&t->nic[0].loc.nodes, 1));
	assert_false(t->nic[1].loc.known);
	assert_int_equal(t->nic[0].state, MC_TOPO_STATE_DOWN);
	mc_topo_free(t);
}

static void net__state_speed_route(void **state)
{
	const struct tree *tree = *state;
	struct mc_topo *t;

	put(tree, "sys/class/net/bonding_masters", "bond0\n");
	put(tree, "sys/class/net/lo/type", "772\n");
	put(tree, "sys/class/net/eth0/type", "1\n");
	put(tree, "sys/class/net/eth0/operstate", "up\n");
	put(tree, "sys/class/net/eth0/speed", "25000\n");
	put(tree, "sys/class/net/eth0/mtu", "9000\n");
	put(tree, "sys/class/net/eth0/device/numa_node", "0\n");
	put(tree, "sys/class/net/eth1/type", "1\n");
	put(tree, "sys/class/net/eth1/operstate", "up\n");
	put(tree, "sys/class/net/eth1/speed", "-1\n");
	put(tree, "sys/class/net/docker0/type", "1\n");
	put(tree, "sys/class/net/docker0/operstate", "down\n");
	put(tree, "sys/class/net/docker0/bridge/bridge_id", "8000\n");
	put(tree, "sys/class/net/ib0/type", "32\n");
	put(tree, "sys/class/net/ib0/operstate", "unknown\n");
	put(tree, "sys/class/net/ib0/carrier", "1\n");
	put(tree, "proc/net/route",
	    "Iface\tDestination\tGateway\neth0\t00000000\t0100000A\t0003\neth0\t0000000A\t00000000\t0001\n");
	put(tree, "proc/net/if_inet6",
	    "fe800000000000000000000000000001 02 40 20 80     eth1\n"
	    "20010000000000000000000000000001 03 40 00 80      ib0\n");
	t = load(tree);
	assert_int_equal(t->nic_n, 4);
	for (uint32_t i = 0; i < t->nic_n; i++) {
		const struct mc_topo_nic *n = &t->nic[i];
		if (strcmp(n->name, "eth0") == 0)
			assert_true(n->state == MC_TOPO_STATE_UP && n->rate_mbps == 25000 && n->mtu == 9000 &&
				    n->default_route && !n->no_address && !n->is_virtual && n->loc.known);
		else if (strcmp(n->name, "eth1") == 0)
			assert_true(n->rate_mbps == 0 && n->no_address && !n->default_route && n->is_virtual);
		else if (strcmp(n->name, "docker0") == 0)
			assert_true(n->is_bridge && n->state == MC_TOPO_STATE_DOWN);
		else
			assert_true(n->link == MC_TOPO_LINK_INFINIBAND && n->state == MC_TOPO_STATE_UP &&
				    !n->no_address);
	}
	mc_topo_free(t);
}

static void broken__trees_never_crash(void **state)
{
	static const char *const files[] = {"state",
					    "phys_state",
					    "link_layer",
					    "rate",
					    "lid",
					    "gids/0",
					    "gid_attrs/types/0",
					    "gid_attrs/ndevs/0",
					    "counters/port_xmit_data"};
	const struct tree *tree = *state;
	char path[256], *big = malloc(100000);
	struct mc_topo_counter *c;
	struct mc_topo *t;
	uint32_t n;

	assert_non_null(big);
	memset(big, '9', 100000);
	for (int kind = 0; kind < 4; kind++) {
		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
			snprintf(path, sizeof(path), "sys/class/infiniband/mlx5_0/ports/1/%s", files[i]);
			if (kind == 0)
				put(tree, path, "");
			else if (kind == 1)
				put_n(tree, path, "\0\xff\x80 4:\0\n", 8);
			else if (kind == 2)
				put_n(tree, path, big, 100000);
			else
				put(tree, path, "-7: \n\n4: ACTIVE\n");
		}
		t = load(tree);
		assert_int_equal(t->nic_n, 1);
		assert_int_equal(t->nic[0].rate_mbps, 0);
		assert_int_equal(t->nic[0].gid_n, 0);
		assert_int_equal(t->nic[0].state, MC_TOPO_STATE_UNKNOWN);
		assert_int_equal(mc_topo_counters(tree->root, &t->nic[0], &c, &n), MC_ERR_NOENT);
		mc_topo_free(t);
	}
	free(big);
	/* files where folders should be, a pipe where a file should be, names that are none */
	put(tree, "sys/class/infiniband/mlx5_1", "a file\n");
	put(tree, "sys/class/infiniband/mlx5_2/ports/99999999999999999999/state", "4: ACTIVE\n");
	put(tree, "sys/class/infiniband/mlx5_2/ports/x/state", "4: ACTIVE\n");
	put(tree, "sys/class/infiniband/mlx5_2/ports/0/state", "4: ACTIVE\n");
	put(tree, "sys/class/infiniband/bad name/ports/1/state", "4: ACTIVE\n");
	snprintf(path, sizeof(path), "%s/sys/class/infiniband/mlx5_0/ports/1/sm_lid", tree->root);
	assert_int_equal(mkfifo(path, 0666), 0);
	put(tree, "sys/class/net/eth0", "a file\n");
	t = load(tree);
	assert_int_equal(t->nic_n, 1);
	mc_topo_free(t);
}

static void broken__xml_gives_an_error(void **state)
{
	static const char *const texts[] = {"",
					    " ",
					    "<",
					    "<topology>",
					    "<topology/>",
					    "not xml at all",
					    "<?xml version=\"1.0\"?><a/>",
					    "<topology version=\"2.0\"></topology>",
					    "<topology version=\"9.0\"><object type=\"Machine\"/></topology>",
					    "<topology version=\"2.0\"><object type=\"PU\"/></topology>"};
	const struct tree *tree = *state;
	struct mc_topo_src src = {.xml_file = tree->xml};
	struct mc_topo *t = NULL;
	char err[512], *half;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		err[0] = '\0';
		assert_int_equal(mc_topo_load_xml(texts[i], strlen(texts[i]), "bad.xml", true, &t, err, sizeof(err)),
				 MC_ERR_INVAL);
		assert_non_null(strstr(err, "bad.xml"));
	}
	/* cut anywhere: an error or, where only the end is missing, a topology; a child that crashes is no harm */
	for (size_t len = 1; len < sizeof(machine_xml) - 1; len += 97) {
		half = malloc(len);
		assert_non_null(half);
		memcpy(half, machine_xml, len);
		if (mc_topo_load_xml(half, len, "half.xml", true, &t, err, sizeof(err)) == MC_OK)
			mc_topo_free(t);
		free(half);
	}
	src.xml_file = "/nonexistent/x.xml";
	assert_int_equal(mc_topo_load(&src, &t, err, sizeof(err)), MC_ERR_NOENT);
	src.xml_file = tree->root;
	assert_int_equal(mc_topo_load(&src, &t, err, sizeof(err)), MC_ERR_NOENT);
	src.xml_file = tree->xml;
	assert_int_equal(truncate(tree->xml, (off_t)MC_TOPO_XML_MAX + 1), 0);
	assert_int_equal(mc_topo_load(&src, &t, err, sizeof(err)), MC_ERR_INVAL);
	assert_non_null(strstr(err, "at most"));
}

static void parse__texts(void **state)
{
	char busid[24], word[8];
	enum mc_topo_state st;
	enum mc_topo_link link;
	uint32_t mbps;
	uint64_t u;
	int64_t i;

	(void)state;
	assert_true(mc_topo_parse_rate("2.5 Gb/sec (1X SDR)", 19, &mbps) && mbps == 2500);
	assert_true(mc_topo_parse_rate("100 Gb/sec\n", 11, &mbps) && mbps == 100000);
	assert_false(mc_topo_parse_rate("100", 3, &mbps));
	assert_false(mc_topo_parse_rate("99999999999 Gb/sec", 18, &mbps));
	assert_false(mc_topo_parse_rate(".5 Gb/sec", 9, &mbps));
	assert_true(mc_topo_parse_state("5: ACTIVE_DEFER\n", 16, &st) && st == MC_TOPO_STATE_ACTIVE_DEFER);
	assert_false(mc_topo_parse_state("44: ACTIVE", 10, &st));
	assert_false(mc_topo_parse_state("6: X", 4, &st));
	assert_false(mc_topo_parse_state("ACTIVE", 6, &st));
	assert_true(mc_topo_parse_link("Unspecified\n", 12, &link) && link == MC_TOPO_LINK_UNKNOWN);
	assert_false(mc_topo_parse_link("Ether", 5, &link));
	assert_true(mc_topo_parse_u64("0x1f\n", 5, &u) && u == 31);
	assert_true(mc_topo_parse_u64("18446744073709551615", 20, &u) && u == UINT64_MAX);
	assert_false(mc_topo_parse_u64("18446744073709551616", 20, &u));
	assert_false(mc_topo_parse_u64("1a", 2, &u));
	assert_false(mc_topo_parse_u64("", 0, &u));
	assert_true(mc_topo_parse_i64("-1\n", 3, &i) && i == -1);
	assert_false(mc_topo_parse_i64("--1", 3, &i));
	assert_true(mc_topo_parse_busid("C5:00.0", 7, busid));
	assert_string_equal(busid, "0000:c5:00.0");
	assert_true(mc_topo_parse_busid("10000:c5:1f.7", 13, busid));
	assert_string_equal(busid, "10000:c5:1f.7");
	assert_false(mc_topo_parse_busid("c5:20.0", 7, busid));
	assert_false(mc_topo_parse_busid("c5:00.8", 7, busid));
	assert_false(mc_topo_parse_busid("0:0:0:c5:00.0", 13, busid));
	assert_false(mc_topo_parse_busid("c5:00", 5, busid));
	assert_false(mc_topo_parse_word("12345678", 8, word, sizeof(word)));
	assert_true(mc_topo_parse_word(" 1234567\n", 9, word, sizeof(word)));
}

static void collect(void *arg, uint32_t value)
{
	*(uint64_t *)arg |= UINT64_C(1) << value;
}

static void parse__lists(void **state)
{
	uint64_t set = 0;

	(void)state;
	assert_true(mc_topo_parse_list("0-2,5\n", 6, 64, collect, &set) && set == 0x27);
	assert_true(mc_topo_parse_list("", 0, 64, collect, &set));
	assert_false(mc_topo_parse_list("64", 2, 64, collect, &set));
	assert_false(mc_topo_parse_list("2-1", 3, 64, collect, &set));
	assert_false(mc_topo_parse_list("1,", 2, 64, collect, &set));
	assert_false(mc_topo_parse_list("1-", 2, 64, collect, &set));
	assert_false(mc_topo_parse_list("0-4294967295", 12, 64, collect, &set));
}

int main(void)
{
	struct mc_topo *t;
	char err[256];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(rdma__port_gids_counters, setup, teardown),
		cmocka_unit_test_setup_teardown(rdma__place_by_numa_node, setup, teardown),
		cmocka_unit_test_setup_teardown(net__state_speed_route, setup, teardown),
		cmocka_unit_test_setup_teardown(broken__trees_never_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(broken__xml_gives_an_error, setup, teardown),
		cmocka_unit_test(parse__texts),
		cmocka_unit_test(parse__lists),
	};

	if (mc_topo_load_xml("<", 1, "probe", false, &t, err, sizeof(err)) == MC_ERR_UNSUPPORTED) {
		printf("skip: %s\n", err);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* mcinfo_devices.c - mcinfo devices: RDMA ports with GIDs and counters, network interfaces, and what would be used. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mc.h"
#include "mcinfo.h"
#include "topo.h"

static const char help[] = "usage: mcinfo devices [--json] [--root DIR] [--xml FILE]\n"
			   "\n"
			   "  --root DIR   read /sys and /proc below DIR, e.g. a recorded tree\n"
			   "  --xml FILE   the machine in an hwloc XML file, with --root: the tree recorded with it\n"
			   "  --json       for programs\n";

/* One way from rank to rank, and the devices that it would use. */
struct way {
	const char *backend, *transport;
	char devices[1024];
	char note[256];
};
enum { WAYS = 4 };

struct view {
	const struct mc_topo *t;
	const char *root; /* NULL: no counters */
};

/* For memory that may be anywhere: all NICs that could be used, the best kind only. */
static bool find_way(const struct mc_topo *t, const struct mc_topo_policy *policy, enum mc_topo_kind kind,
		     struct way *w)
{
	const char *mine = t->live ? getenv("UCX_NET_DEVICES") : NULL;
	struct mc_topo_want want = {.kind = kind, .policy = policy};
	struct mc_topo_choice c;

	if (mc_topo_choose_rank(t, &want, &c) != MC_OK)
		return false;
	if (!mc_topo_choice_devices(t, &c, w->devices, sizeof(w->devices)))
		snprintf(w->devices, sizeof(w->devices), "%u NICs", c.use_n);
	snprintf(w->note, sizeof(w->note), "%s", c.note);
	if (c.use_n > 0 && kind == MC_TOPO_OPENFABRICS)
		snprintf(w->note, sizeof(w->note), "each rank takes the nearest to its memory: mcinfo topo");
	mc_topo_choice_free(&c);
	if (mine != NULL && *mine != '\0' && strcmp(w->backend, "ucx") == 0)
		snprintf(w->note, sizeof(w->note), "but UCX_NET_DEVICES=%.200s is set, which decides", mine);
	return true;
}

/* In the order in which libmc tries them. */
static bool find_ways(const struct mc_topo *t, const struct mc_topo_policy *policy, struct way way[WAYS])
{
	way[0] = (struct way){"shm", "shm", "", "between ranks of one host"};
	way[1] = (struct way){"verbs", "rdma", "", ""};
	way[2] = (struct way){"ucx", "rdma", "", ""};
	way[3] = (struct way){"ucx", "tcp", "", ""};
	return find_way(t, policy, MC_TOPO_OPENFABRICS, &way[1]) && find_way(t, policy, MC_TOPO_OPENFABRICS, &way[2]) &&
	       find_way(t, policy, MC_TOPO_NETWORK, &way[3]);
}

/* ---- text
 * ---------------------------------------------------------------------------------------------------------------- */

static void print_place(const struct mc_topo *t, const struct mc_topo_nic *n)
{
	char nodes[128];

	mc_topo_nodes_text(t, &n->loc.nodes, nodes, sizeof(nodes));
	printf("  pci %s  numa %s", n->pci != MC_TOPO_NONE ? t->pci[n->pci].busid : "-", n->loc.known ? nodes : "?");
}

static void print_counters(const struct view *v, const struct mc_topo_nic *n)
{
	struct mc_topo_counter *c;
	uint32_t count, shown = 0;
	size_t column = 0;

	if (v->root == NULL || mc_topo_counters(v->root, n, &c, &count) != MC_OK)
		return;
	for (uint32_t i = 0; i < count; i++) {
		char text[MC_TOPO_NAME_MAX + 32];
		int len;
		if (c[i].value == 0)
			continue;
		len = snprintf(text, sizeof(text), "  %s %llu", c[i].name, (unsigned long long)c[i].value);
		if (shown == 0 || column + (size_t)len > 98) {
			printf("%s      %s", shown == 0 ? "" : "\n", shown == 0 ? "counters:" : "         ");
			column = 15;
		}
		fputs(text, stdout);
		column += (size_t)len;
		shown++;
	}
	if (shown > 0)
		putchar('\n');
	free(c);
}

static void print_port(const struct view *v, const struct mc_topo_nic *n)
{
	uint32_t best = mc_topo_gid_best(n);

	printf("  port %u  %s%s%s%s  %s", n->port, mc_topo_state_name(n->state), n->phys_state[0] != '\0' ? " (" : "",
	       n->phys_state, n->phys_state[0] != '\0' ? ")" : "",
	       n->link != MC_TOPO_LINK_UNKNOWN ? mc_topo_link_name(n->link) : "link layer unknown");
	if (n->rate_mbps != 0)
		printf("  %g Gb/s", (double)n->rate_mbps / 1000);
	if (n->lid != 0)
		printf("  lid 0x%x", n->lid);
	printf("  rail %u%s%s\n", n->rail, n->netdev[0] != '\0' ? "  interface " : "", n->netdev);
	for (uint32_t i = 0; i < n->gid_n; i++) {
		char text[64];
		mc_topo_gid_text(n->gid[i].raw, text, sizeof(text));
		printf("      gid %-3u %-40s %-10s %s%s\n", n->gid[i].index, text,
		       n->gid[i].type != MC_TOPO_GID_UNKNOWN ? mc_topo_gid_type_name(n->gid[i].type) : "",
		       n->gid[i].netdev, i == best ? "  <- used" : "");
	}
	if (n->link == MC_TOPO_LINK_ETHERNET && v->root != NULL && n->gid_n == 0)
		printf("      no GID: give the interface of this port an IP address\n");
	print_counters(v, n);
}

static void print_interface(const struct view *v, const struct mc_topo_nic *n)
{
	printf("%s  %s", n->name, mc_topo_state_name(n->state));
	if (n->rate_mbps != 0)
		printf("  %g Gb/s", (double)n->rate_mbps / 1000);
	if (n->mtu != 0)
		printf("  mtu %u", n->mtu);
	print_place(v->t, n);
	printf("%s%s%s%s\n",
	       n->is_bridge    ? "  bridge"
	       : n->is_virtual ? "  virtual"
			       : "",
	       n->link == MC_TOPO_LINK_INFINIBAND ? "  IP over InfiniBand" : "",
	       n->default_route ? "  default route" : "", n->no_address ? "  no IP address" : "");
	print_counters(v, n);
}

static void print_text(const struct view *v, const struct way way[WAYS])
{
	const struct mc_topo *t = v->t;
	const char *last = "";
	bool any = false;

	printf("RDMA devices (%s)\n", t->source);
	for (uint32_t i = 0; i < t->nic_n; i++) {
		const struct mc_topo_nic *n = &t->nic[i];
		if (n->kind != MC_TOPO_OPENFABRICS)
			continue;
		if (strcmp(n->name, last) != 0) {
			printf("%s", n->name);
			print_place(t, n);
			printf("%s%s\n", n->guid[0] != '\0' ? "  guid " : "", n->guid);
		}
		last = n->name;
		any = true;
		print_port(v, n);
	}
	printf("%s\nNetwork interfaces\n", any ? "" : "none\n");
	any = false;
	for (uint32_t i = 0; i < t->nic_n; i++) {
		if (t->nic[i].kind != MC_TOPO_NETWORK)
			continue;
		any = true;
		print_interface(v, &t->nic[i]);
	}
	printf("%s\nWhat would be used\n", any ? "" : "none\n");
	for (int i = 0; i < WAYS; i++)
		printf("%-6s %-5s %s%s%s%s\n", way[i].backend, way[i].transport, way[i].devices,
		       way[i].devices[0] != '\0' && way[i].note[0] != '\0' ? "  (" : "", way[i].note,
		       way[i].devices[0] != '\0' && way[i].note[0] != '\0' ? ")" : "");
}

/* ---- JSON
 * ---------------------------------------------------------------------------------------------------------------- */

static void member(const char *name, const char *value)
{
	printf(", \"%s\": ", name);
	if (value != NULL && value[0] != '\0')
		mc_topo_json_string(stdout, value);
	else
		printf("null");
}

static void json_common(const struct mc_topo *t, const struct mc_topo_nic *n)
{
	bool first = true;

	printf("{\"name\": ");
	mc_topo_json_string(stdout, n->name);
	member("state", mc_topo_state_name(n->state));
	member("link_layer", mc_topo_link_name(n->link));
	if (n->rate_mbps != 0)
		printf(", \"rate_gbps\": %u.%03u", n->rate_mbps / 1000, n->rate_mbps % 1000);
	else
		printf(", \"rate_gbps\": null");
	member("pci", n->pci != MC_TOPO_NONE ? t->pci[n->pci].busid : NULL);
	printf(", \"numa\": [");
	for (uint32_t i = 0; i < t->node_n; i++) {
		if (!mc_topo_nodeset_has(&n->loc.nodes, i))
			continue;
		printf("%s%u", first ? "" : ", ", t->node[i].os_index);
		first = false;
	}
	putchar(']');
}

static void json_counters(const struct view *v, const struct mc_topo_nic *n)
{
	struct mc_topo_counter *c = NULL;
	uint32_t count = 0;

	printf(", \"counters\": {");
	if (v->root != NULL && mc_topo_counters(v->root, n, &c, &count) == MC_OK) {
		for (uint32_t i = 0; i < count; i++) {
			printf("%s", i > 0 ? ", " : "");
			mc_topo_json_string(stdout, c[i].name);
			printf(": %llu", (unsigned long long)c[i].value);
		}
		free(c);
	}
	printf("}}");
}

static void json_port(const struct view *v, const struct mc_topo_nic *n)
{
	uint32_t best = mc_topo_gid_best(n);

	json_common(v->t, n);
	printf(", \"port\": %u", n->port);
	member("phys_state", n->phys_state);
	member("guid", n->guid);
	member("netdev", n->netdev);
	printf(", \"lid\": %u, \"rail\": %u, \"gids\": [", n->lid, n->rail);
	for (uint32_t i = 0; i < n->gid_n; i++) {
		char text[64];
		mc_topo_gid_text(n->gid[i].raw, text, sizeof(text));
		printf("%s{\"index\": %u", i > 0 ? ", " : "", n->gid[i].index);
		member("gid", text);
		member("type", mc_topo_gid_type_name(n->gid[i].type));
		member("netdev", n->gid[i].netdev);
		printf(", \"used\": %s}", i == best ? "true" : "false");
	}
	putchar(']');
	json_counters(v, n);
}

static void json_interface(const struct view *v, const struct mc_topo_nic *n)
{
	json_common(v->t, n);
	printf(", \"mtu\": %u, \"virtual\": %s, \"default_route\": %s, \"has_address\": %s", n->mtu,
	       n->is_virtual ? "true" : "false", n->default_route ? "true" : "false", n->no_address ? "false" : "true");
	member("address", n->address);
	json_counters(v, n);
}

static void print_json(const struct view *v, const struct way way[WAYS])
{
	const char *sep = "";

	printf("{\n  \"rdma\": [");
	for (uint32_t i = 0; i < v->t->nic_n; i++) {
		if (v->t->nic[i].kind != MC_TOPO_OPENFABRICS)
			continue;
		printf("%s\n    ", sep);
		json_port(v, &v->t->nic[i]);
		sep = ",";
	}
	printf("],\n  \"interfaces\": [");
	sep = "";
	for (uint32_t i = 0; i < v->t->nic_n; i++) {
		if (v->t->nic[i].kind != MC_TOPO_NETWORK)
			continue;
		printf("%s\n    ", sep);
		json_interface(v, &v->t->nic[i]);
		sep = ",";
	}
	printf("],\n  \"uses\": [");
	for (int i = 0; i < WAYS; i++) {
		printf("%s\n    {\"backend\": \"%s\", \"transport\": \"%s\"", i > 0 ? "," : "", way[i].backend,
		       way[i].transport);
		member("devices", way[i].devices);
		member("note", way[i].note);
		putchar('}');
	}
	printf("]\n}\n");
}

/* ---- the command
 * ----------------------------------------------------------------------------------------------------------- */

static int parse(int argc, char **argv, struct mc_topo_src *src, bool *json)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
					      {"root", required_argument, NULL, 'r'},
					      {"xml", required_argument, NULL, 'x'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (c == 'j') {
			*json = true;
		} else if (c == 'r') {
			src->root = optarg;
		} else if (c == 'x') {
			src->xml_file = optarg;
		} else if (c == 'h') {
			fputs(help, stdout);
			return mc_info_flush();
		} else {
			fprintf(stderr, "try mcinfo devices --help\n");
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "mcinfo: devices takes options only; try mcinfo devices --help\n");
		return 2;
	}
	return -1;
}

int mc_info_devices(int argc, char **argv)
{
	struct mc_topo_src src = {.isolate = true};
	struct way way[WAYS] = {{NULL, NULL, "", ""}};
	struct mc_topo_policy policy = {.include = NULL};
	struct view v = {.t = NULL};
	struct mc_topo *t;
	char err[2048], device[1024] = "";
	bool json = false;
	int rc = parse(argc, argv, &src, &json);

	if (rc >= 0)
		return rc;
	if (src.xml_file == NULL && !mc_info_setting("MC_DEVICE", device, sizeof(device)))
		return 1;
	src.loopback = device[0] != '\0'; /* by name it may be used */
	src.xml_file = mc_info_xml(src.xml_file);
	if (mc_topo_load(&src, &t, err, sizeof(err)) != MC_OK) {
		fprintf(stderr, "mcinfo: %s\n", err);
		return 1;
	}
	rc = 1;
	if (mc_topo_policy_parse(t, device, &policy, err, sizeof(err)) != MC_OK) {
		fprintf(stderr, "mcinfo: MC_DEVICE: %s\n", err);
		goto undo_topo;
	}
	v.t = t;
	v.root = src.root != NULL ? src.root : t->live ? "/" : NULL;
	if (!find_ways(t, &policy, way)) {
		fprintf(stderr, "mcinfo: no memory\n");
		goto undo_policy;
	}
	if (json)
		print_json(&v, way);
	else
		print_text(&v, way);
	rc = mc_info_flush();
undo_policy:
	mc_topo_policy_free(&policy);
undo_topo:
	mc_topo_free(t);
	return rc;
}

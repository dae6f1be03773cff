/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_topo.c - topology files and the choice made for them. usage: test_topo files|expect
 *  files:  hwloc exports of real machines in $TEST_DATA/topologies against facts.json there, another program's reading
 * of the same files: what exists, where it is, which NICs are used, also with the nearest port down. expect: the small
 * machines of this folder (*.xml) against the text written for each (*.expect).
 */
#include <dirent.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "topo.h"

static uint32_t checks_n, failures_n;
static const char *file_now = "";

static bool check(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool check(bool ok, const char *fmt, ...)
{
	va_list ap;

	checks_n++;
	if (ok)
		return true;
	failures_n++;
	fprintf(stderr, "FAILED %s: ", file_now);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return false;
}

static char *slurp(const char *path, size_t *len_out)
{
	FILE *f = fopen(path, "rb");
	char *buf = calloc(1, 8 << 20);
	size_t n;

	if (f == NULL || buf == NULL) {
		if (f != NULL)
			fclose(f);
		free(buf);
		return NULL;
	}
	n = fread(buf, 1, (8 << 20) - 1, f);
	fclose(f);
	*len_out = n;
	return buf;
}

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && v != NULL ? json_object_get_string(v) : "";
}

static int64_t number_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v) : -1;
}

static struct json_object *list_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? v : NULL;
}

static bool list_has(struct json_object *list, int64_t n)
{
	for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
		if (json_object_get_int64(json_object_array_get_idx(list, i)) == n)
			return true;
	}
	return false;
}

/* ---- what exists and where
 * --------------------------------------------------------------------------------------------- */

static const struct mc_topo_nic *nic_named(const struct mc_topo *t, enum mc_topo_kind kind, const char *name)
{
	for (uint32_t i = 0; i < t->nic_n; i++) {
		if (t->nic[i].kind == kind && strcmp(t->nic[i].name, name) == 0)
			return &t->nic[i];
	}
	return NULL;
}

static void check_loc(const struct mc_topo *t, const struct mc_topo_loc *loc, struct json_object *fact,
		      const char *name)
{
	struct json_object *nodes = list_of(fact, "nodes");

	check(loc->package == number_of(fact, "package"), "%s: package %d", name, loc->package);
	for (uint32_t i = 0; i < t->node_n; i++)
		check(mc_topo_nodeset_has(&loc->nodes, i) == list_has(nodes, t->node[i].os_index), "%s: numa node %u",
		      name, t->node[i].os_index);
}

static void check_nics(const struct mc_topo *t, struct json_object *fact)
{
	struct json_object *of = list_of(fact, "openfabrics"), *net = list_of(fact, "netdevs");
	size_t ports = 0, nets = json_object_array_length(net);

	for (size_t i = 0; i < json_object_array_length(of); i++) {
		struct json_object *f = json_object_array_get_idx(of, i), *states = list_of(f, "port_states");
		const struct mc_topo_nic *n = nic_named(t, MC_TOPO_OPENFABRICS, text_of(f, "name"));
		ports += json_object_array_length(states);
		if (!check(n != NULL, "no OpenFabrics device %s", text_of(f, "name")))
			continue;
		check(n->pci != MC_TOPO_NONE && strcmp(t->pci[n->pci].busid, text_of(f, "busid")) == 0, "%s: PCI id",
		      n->name);
		check(n->loc.path_n == (uint32_t)number_of(f, "pci_depth"), "%s: %u bridges above", n->name,
		      n->loc.path_n);
		check(n->state == (enum mc_topo_state)json_object_get_int(json_object_array_get_idx(states, 0)),
		      "%s: state", n->name);
		check_loc(t, &n->loc, f, n->name);
	}
	for (size_t i = 0; i < nets; i++) {
		struct json_object *f = json_object_array_get_idx(net, i);
		const struct mc_topo_nic *n = nic_named(t, MC_TOPO_NETWORK, text_of(f, "name"));
		if (check(n != NULL, "no interface %s", text_of(f, "name")))
			check_loc(t, &n->loc, f, n->name);
	}
	check(t->nic_n == ports + nets, "%u NICs, not %zu + %zu", t->nic_n, ports, nets);
}

static void check_gpus(const struct mc_topo *t, struct json_object *fact)
{
	struct json_object *gpus = list_of(fact, "gpus"), *table = list_of(fact, "gpu_nic"), *row;

	check(t->gpu_n == json_object_array_length(gpus), "%u GPUs, not %zu", t->gpu_n, json_object_array_length(gpus));
	for (size_t i = 0; i < json_object_array_length(gpus); i++) {
		struct json_object *f = json_object_array_get_idx(gpus, i);
		const struct mc_topo_gpu *g = NULL;
		for (uint32_t k = 0; k < t->gpu_n; k++) {
			if (strcmp(t->pci[t->gpu[k].pci].busid, text_of(f, "busid")) == 0)
				g = &t->gpu[k];
		}
		if (!check(g != NULL, "no GPU %s", text_of(f, "busid")))
			continue;
		check(json_object_object_get_ex(table, g->name, &row), "GPU %s has another name", g->name);
		check(t->pci[g->pci].loc.path_n == (uint32_t)number_of(f, "pci_depth"), "%s: bridges above", g->name);
		check_loc(t, &t->pci[g->pci].loc, f, g->name);
	}
}

/* ---- the choice
 * --------------------------------------------------------------------------------------------------------- */

enum { SYS, PACKAGE, NODE, HOSTBRIDGE, PCI_SWITCH, UNTOLD };

/* The package of a NUMA node is known from the devices there. */
static int64_t package_of_node(struct json_object *fact, uint32_t os_index)
{
	static const char *const lists[] = {"openfabrics", "gpus", "netdevs"};

	if (number_of(fact, "packages") == 1)
		return 0;
	for (size_t k = 0; k < 3; k++) {
		struct json_object *l = list_of(fact, lists[k]);
		for (size_t i = 0; i < json_object_array_length(l); i++) {
			struct json_object *f = json_object_array_get_idx(l, i);
			if (list_has(list_of(f, "nodes"), os_index) &&
			    json_object_array_length(list_of(f, "nodes")) == 1)
				return number_of(f, "package");
		}
	}
	return -1;
}

static int class_of(struct json_object *fact, const struct mc_topo *t, uint32_t memory, const struct mc_topo_nic *n)
{
	static const char *const names[] = {"SYS", "PACKAGE", "NODE", "HOSTBRIDGE", "PCI_SWITCH"};
	struct mc_topo_buf b = mc_topo_memory(t, memory);
	struct json_object *table = list_of(fact, "gpu_nic"), *row, *of = list_of(fact, "openfabrics");
	int64_t package;

	if (b.kind == MC_TOPO_BUF_PCI) {
		const char *word = "";
		if (json_object_object_get_ex(table, t->gpu[memory - t->node_n].name, &row))
			word = text_of(row, n->name);
		for (int i = 0; i < 5; i++) {
			if (strcmp(word, names[i]) == 0)
				return i;
		}
		return UNTOLD;
	}
	for (size_t i = 0; i < json_object_array_length(of); i++) {
		struct json_object *f = json_object_array_get_idx(of, i);
		if (strcmp(text_of(f, "name"), n->name) != 0)
			continue;
		if (list_has(list_of(f, "nodes"), t->node[b.index].os_index))
			return NODE;
		package = package_of_node(fact, t->node[b.index].os_index);
		return package < 0 ? UNTOLD : package == number_of(f, "package") ? PACKAGE : SYS;
	}
	return UNTOLD;
}

static int our_class(enum mc_topo_near n)
{
	static const int c[] = {
		[MC_NEAR_OTHER] = SYS, [MC_NEAR_UNKNOWN] = UNTOLD,        [MC_NEAR_PACKAGE] = PACKAGE,
		[MC_NEAR_NODE] = NODE, [MC_NEAR_HOSTBRIDGE] = HOSTBRIDGE, [MC_NEAR_SWITCH] = PCI_SWITCH};

	return c[n];
}

/* The one file with both kinds of RDMA port: the Ethernet one may be used only when the InfiniBand one is dead. */
static bool wrong_link(const struct mc_topo_nic *n, const char *dead)
{
	return strcmp(n->name, "mlx5_an0") == 0 && strcmp(dead, "mlx5_ib0") != 0;
}

/* dead: name of a device whose port has been made DOWN in the file; "": none. */
static void check_memory(const struct mc_topo *t, struct json_object *fact, uint32_t memory, const char *dead)
{
	struct mc_topo_want w = {.kind = MC_TOPO_OPENFABRICS, .buf = mc_topo_memory(t, memory)};
	struct mc_topo_choice c;
	char name[64];
	int best = -1;
	bool gone = false, alive = false;

	mc_topo_buf_name(t, &w.buf, name, sizeof(name));
	for (uint32_t i = 0; i < t->nic_n; i++) {
		const struct mc_topo_nic *n = &t->nic[i];
		int k = n->kind == MC_TOPO_OPENFABRICS ? class_of(fact, t, memory, n) : UNTOLD;
		if (k != UNTOLD && k > best && strcmp(n->name, dead) != 0 && !wrong_link(n, dead))
			best = k;
		alive = alive || (n->kind == MC_TOPO_OPENFABRICS && strcmp(n->name, dead) != 0);
	}
	if (!check(mc_topo_choose(t, &w, &c) == MC_OK, "%s: no choice", name))
		return;
	for (uint32_t i = 0; i < c.n; i++) {
		const struct mc_topo_nic *n = &t->nic[c.pick[i].nic];
		int k = class_of(fact, t, memory, n);
		bool is_dead = strcmp(n->name, dead) == 0;
		if (k == UNTOLD)
			continue; /* the oracle does not say where this NUMA node is */
		check(our_class(c.pick[i].near) == k, "%s to %s: %s", name, n->name, mc_topo_near_text(c.pick[i].near));
		check(c.pick[i].use == (k == best && !is_dead && !wrong_link(n, dead)), "%s: %s %s", name, n->name,
		      c.pick[i].use ? "is used" : "is not used");
		check(c.pick[i].dead == is_dead && (!gone || is_dead), "%s: %s: dead ones come last", name, n->name);
		check(!is_dead || strstr(c.pick[i].reason, "DOWN: not used") != NULL, "%s: %s: %s", name, n->name,
		      c.pick[i].reason);
		check(strstr(c.pick[i].reason, mc_topo_near_text(c.pick[i].near)) != NULL, "%s: %s", name,
		      c.pick[i].reason);
		gone = gone || is_dead;
	}
	check(json_object_array_length(list_of(fact, "openfabrics")) == c.n, "%s: %u NICs in the list", name, c.n);
	check((c.use_n > 0) == alive, "%s: %u NICs used", name, c.use_n);
	mc_topo_choice_free(&c);
}

/* Ranks of the host spread over the used NICs: each of n ranks in a row begins at another one. */
static void check_spread(const struct mc_topo *t, uint32_t memory)
{
	struct mc_topo_want w = {.kind = MC_TOPO_OPENFABRICS, .buf = mc_topo_memory(t, memory)};
	struct mc_topo_choice c;
	uint64_t first = 0;
	uint32_t n = 1;

	for (w.local_rank = 0; w.local_rank < n; w.local_rank++) {
		if (!check(mc_topo_choose(t, &w, &c) == MC_OK, "no choice"))
			return;
		n = c.use_n < 64 ? c.use_n : 64;
		if (n > 0)
			first |= UINT64_C(1) << (c.pick[0].nic % 64);
		mc_topo_choice_free(&c);
	}
	check(n == 0 || (uint32_t)__builtin_popcountll(first) == n, "ranks do not spread over %u NICs", n);
}

/* ---- JSON: the schema that is promised
 * ---------------------------------------------------------------------------------- */

static void check_keys(struct json_object *o, const char *keys)
{
	char copy[256], *save = NULL;
	size_t n = 0;
	struct json_object *v;

	snprintf(copy, sizeof(copy), "%s", keys);
	for (char *k = strtok_r(copy, " ", &save); k != NULL; k = strtok_r(NULL, " ", &save), n++)
		check(json_object_object_get_ex(o, k, &v), "JSON has no %s", k);
	check((size_t)json_object_object_length(o) == n, "JSON has more than %s", keys);
}

static void check_json(const struct mc_topo *t)
{
	struct mc_topo_show show = {.policy = NULL};
	struct json_object *o, *nics, *memories;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	bool ok = f != NULL && mc_topo_print_json(t, &show, f);

	if (f == NULL || fclose(f) != 0 || !check(ok, "JSON cannot be printed"))
		return;
	o = json_tokener_parse(text);
	free(text);
	if (!check(o != NULL, "no valid JSON"))
		return;
	check_keys(o, "nics memories");
	nics = list_of(o, "nics");
	memories = list_of(o, "memories");
	check(json_object_array_length(nics) == t->nic_n, "JSON: nics");
	check(json_object_array_length(memories) == mc_topo_memory_n(t), "JSON: memories");
	for (size_t i = 0; i < json_object_array_length(nics); i++)
		check_keys(json_object_array_get_idx(nics, i), "name kind port state rate_gbps link_layer numa pci");
	for (size_t i = 0; i < json_object_array_length(memories); i++) {
		struct json_object *m = json_object_array_get_idx(memories, i), *list = list_of(m, "nics");
		int64_t last = 0;
		check_keys(m, "name kind pci numa nics");
		for (size_t k = 0; list != NULL && k < json_object_array_length(list); k++) {
			struct json_object *p = json_object_array_get_idx(list, k);
			check_keys(p, "name port rank reason");
			check(number_of(p, "rank") >= last && (k > 0 || number_of(p, "rank") == 0),
			      "JSON: ranks ascend from 0");
			last = number_of(p, "rank");
		}
	}
	json_object_put(o);
}

/* ---- files
 * ---------------------------------------------------------------------------------------------------------------- */

/* The same file with the first port of one device DOWN. */
static bool kill_port(char *xml, const char *device)
{
	char needle[128];
	char *at, *state;

	snprintf(needle, sizeof(needle), "name=\"%s\"", device);
	at = strstr(xml, needle);
	state = at != NULL ? strstr(at, "name=\"Port1State\" value=\"4\"") : NULL;
	if (state == NULL)
		return false;
	*strchr(state, '4') = '1';
	return true;
}

static void check_with_dead(char *xml, size_t len, struct json_object *fact, const char *device)
{
	struct mc_topo *t;
	char err[1024];

	if (!check(kill_port(xml, device), "no state of %s to change", device) ||
	    !check(mc_topo_load_xml(xml, len, file_now, true, &t, err, sizeof(err)) == MC_OK, "with %s down: %s",
		   device, err))
		return;
	for (uint32_t m = 0; m < mc_topo_memory_n(t); m++)
		check_memory(t, fact, m, device);
	mc_topo_free(t);
}

static void check_file(const char *dir, const char *name, struct json_object *fact)
{
	char path[4096 + 300], err[1024];
	struct mc_topo_src src = {.xml_file = path, .isolate = true};
	struct json_object *of = list_of(fact, "openfabrics");
	struct mc_topo *t;
	size_t len = 0;
	char *xml;

	file_now = name;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (!check(mc_topo_load(&src, &t, err, sizeof(err)) == MC_OK, "%s", err))
		return;
	check(t->packages == (uint32_t)number_of(fact, "packages") && t->cores == (uint32_t)number_of(fact, "cores") &&
		      t->pus == (uint32_t)number_of(fact, "pus") && t->node_n == (uint32_t)number_of(fact, "numa") &&
		      t->pci_n == (uint32_t)number_of(fact, "pcidevs"),
	      "%u packages, %u cores, %u PUs, %u nodes, %u PCI devices", t->packages, t->cores, t->pus, t->node_n,
	      t->pci_n);
	check_nics(t, fact);
	check_gpus(t, fact);
	for (uint32_t m = 0; m < mc_topo_memory_n(t); m++) {
		check_memory(t, fact, m, "");
		check_spread(t, m);
	}
	check_json(t);
	mc_topo_free(t);
	for (size_t i = 0; i < json_object_array_length(of); i++) {
		xml = slurp(path, &len);
		if (check(xml != NULL, "cannot be read"))
			check_with_dead(xml, len, fact, text_of(json_object_array_get_idx(of, i), "name"));
		free(xml);
	}
}

static int run_files(void)
{
	const char *data = getenv("TEST_DATA");
	char dir[4096 - 300], path[4096];
	struct json_object *facts;
	uint32_t files_n = 0;

	if (data == NULL || data[0] == '\0') {
		printf("skip: TEST_DATA does not name the folder with topologies/\n");
		return 77;
	}
	snprintf(dir, sizeof(dir), "%s/topologies", data);
	snprintf(path, sizeof(path), "%s/facts.json", dir);
	facts = json_object_from_file(path);
	if (facts == NULL) {
		printf("skip: there is no %s\n", path);
		return 77;
	}
	json_object_object_foreach(facts, name, fact)
	{
		check_file(dir, name, fact);
		files_n++;
	}
	json_object_put(facts);
	printf("%u files, %u checks, %u failed\n", files_n, checks_n, failures_n);
	return failures_n > 0 || files_n == 0;
}

/* ---- the machines of this folder
 * --------------------------------------------------------------------------------------------- */

static void check_expect(const char *dir, const char *name)
{
	char path[4096 + 300], err[1024], *want, *text = NULL, *xml;
	struct mc_topo_show show = {.policy = NULL};
	size_t xml_len = 0, want_len = 0, len = 0;
	struct mc_topo *t;
	bool same;
	FILE *f;

	file_now = name;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	xml = slurp(path, &xml_len);
	snprintf(path, sizeof(path), "%s/%.*s.expect", dir, (int)(strlen(name) - 4), name);
	want = slurp(path, &want_len);
	if (check(xml != NULL && want != NULL, "%s cannot be read", path) &&
	    check(mc_topo_load_xml(xml, xml_len, name, true, &t, err, sizeof(err)) == MC_OK, "%s", err)) {
		f = open_memstream(&text, &len);
		if (f != NULL) {
			mc_topo_print_text(t, &show, f);
			fclose(f);
		}
		same = text != NULL && strcmp(text, want) == 0;
		check(same, "another text than in %s:\n%s", path, text != NULL ? text : "");
		for (char *save = NULL, *line = text != NULL ? strtok_r(text, "\n", &save) : NULL; line != NULL;
		     line = strtok_r(NULL, "\n", &save))
			check(strlen(line) <= 100, "wider than 100 columns: %s", line);
		check_json(t);
		mc_topo_free(t);
	}
	free(text);
	free(want);
	free(xml);
}

static int run_expect(void)
{
	const char *src = getenv("TEST_SRC");
	char dir[4096];
	struct dirent *e;
	uint32_t files_n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/tests/topo", src != NULL ? src : ".");
	d = opendir(dir);
	if (d == NULL) {
		printf("there is no %s\n", dir);
		return 1;
	}
	while ((e = readdir(d)) != NULL) {
		size_t n = strlen(e->d_name);
		if (n > 4 && strcmp(e->d_name + n - 4, ".xml") == 0) {
			check_expect(dir, e->d_name);
			files_n++;
		}
	}
	closedir(d);
	printf("%u files, %u checks, %u failed\n", files_n, checks_n, failures_n);
	return failures_n > 0 || files_n == 0;
}

int main(int argc, char **argv)
{
	struct mc_topo *t;
	char err[256];

	if (mc_topo_load_xml("<", 1, "probe", false, &t, err, sizeof(err)) == MC_ERR_UNSUPPORTED) {
		printf("skip: %s\n", err);
		return 77;
	}
	if (argc == 2 && strcmp(argv[1], "files") == 0)
		return run_files();
	if (argc == 2 && strcmp(argv[1], "expect") == 0)
		return run_expect();
	fprintf(stderr, "usage: test_topo files|expect\n");
	return 2;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_topo_xml.c - hwloc XML: a message, or a topology whose indexes all lie inside its arrays and whose choices keep
 * the promises of topo.h.
 *
 * Input that begins with '<' is a file as it is, given to hwloc in a child process, for hwloc crashes on damaged files.
 * Any other input is a recipe for a well-formed file with odd contents: it is read in this process, fast and with
 * coverage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "topo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_loc(const struct mc_topo *t, const struct mc_topo_loc *l)
{
	int inside = 0, all = 0;

	must(l->path_n <= MC_TOPO_PATH_MAX && l->package >= -1);
	for (uint32_t i = 0; i < l->path_n; i++)
		must(l->path[i] < t->bridge_n);
	for (uint32_t i = 0; i < t->node_n; i++)
		inside += mc_topo_nodeset_has(&l->nodes, i);
	for (size_t i = 0; i < sizeof(l->nodes.bit) / sizeof(l->nodes.bit[0]); i++)
		all += __builtin_popcountll(l->nodes.bit[i]);
	must(inside == all);
}

static void check_topo(const struct mc_topo *t)
{
	must(t->node_n > 0 && t->node_n <= MC_TOPO_NODES_MAX);
	for (uint32_t i = 0; i < t->node_n; i++)
		check_loc(t, &t->node[i].loc);
	for (uint32_t i = 0; i < t->bridge_n; i++) {
		must(t->bridge[i].parent == MC_TOPO_NONE || t->bridge[i].parent < i);
		check_loc(t, &t->bridge[i].loc);
	}
	for (uint32_t i = 0; i < t->pci_n; i++)
		check_loc(t, &t->pci[i].loc);
	for (uint32_t i = 0; i < t->gpu_n; i++)
		must(t->gpu[i].pci < t->pci_n && t->gpu[i].name[0] != '\0' && t->gpu[i].osdev_n <= MC_TOPO_OSDEV_MAX);
	for (uint32_t i = 0; i < t->nic_n; i++) {
		must(t->nic[i].pci == MC_TOPO_NONE || t->nic[i].pci < t->pci_n);
		must(t->nic[i].name[0] != '\0');
		check_loc(t, &t->nic[i].loc);
	}
}

static void check_choice(const struct mc_topo *t, const struct mc_topo_buf *b, enum mc_topo_kind kind)
{
	struct mc_topo_want w = {.kind = kind, .buf = *b, .local_rank = 5};
	struct mc_topo_choice c;
	bool dead = false, live = false;

	must(mc_topo_choose(t, &w, &c) == MC_OK);
	must(c.use_n <= c.n);
	for (uint32_t i = 0; i < c.n; i++) {
		must(c.pick[i].use == (i < c.use_n) && (!c.pick[i].use || !c.pick[i].dead));
		must(i == 0 || c.pick[i].tier >= c.pick[i - 1].tier);
		must(!dead || c.pick[i].dead); /* dead ones come last */
		must(c.pick[i].reason[0] != '\0');
		must(!c.pick[i].use || t->nic[c.pick[i].nic].link == t->nic[c.pick[0].nic].link);
		dead = c.pick[i].dead;
		live = live || !c.pick[i].dead;
	}
	must(!live || c.use_n > 0);
	mc_topo_choice_free(&c);
}

static void check_print(const struct mc_topo *t)
{
	struct mc_topo_show show = {.policy = NULL};
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	must(f != NULL);
	must(mc_topo_print_json(t, &show, f) && mc_topo_print_text(t, &show, f) && mc_topo_print_dot(t, &show, f));
	must(t->nic_n == 0 || mc_topo_print_gnuplot(t, &show, "x.png", f));
	fclose(f);
	free(text);
}

/* ---- recipes
 * --------------------------------------------------------------------------------------------------------- */

struct recipe {
	const uint8_t *p, *end;
	FILE *to;
	uint32_t id, busses;
};

static uint32_t take(struct recipe *r, uint32_t below)
{
	return r->p < r->end ? *r->p++ % below : 0;
}

/* Text that any XML reader takes inside quotes; otherwise whatever the recipe says. */
static void text(struct recipe *r)
{
	uint32_t n = take(r, 80);

	for (uint32_t i = 0; i < n && r->p < r->end; i++) {
		uint8_t c = *r->p++;
		fputc(c > 0x20 && c < 0x7f && strchr("\"<>&'", c) == NULL ? c : '.', r->to);
	}
}

static void osdev(struct recipe *r)
{
	static const char *const names[] = {"mlx5_", "cuda", "rsmi", "nvml", "eth", "ib", "", "opencl0d"};
	static const char *const infos[] = {"Port1State", "Port2State", "Port32State", "Port1LID",
					    "Port1GID0",  "NodeGUID",   "Address",     "Backend"};
	static const char *const values[] = {"4",
					     "1",
					     "0x0",
					     "0x17",
					     "fe80:0000:0000:0000:0002:c903:0031:0001",
					     "2",
					     "9",
					     "00:00:01:27:fe:80:00:00:00:00:00:00:00:15:5d:ff:fd:33:ff:0d"};
	uint32_t n;

	fprintf(r->to, "<object type=\"OSDev\" gp_index=\"%u\" name=\"%s%u", ++r->id, names[take(r, 8)], take(r, 20));
	if (take(r, 8) == 0)
		text(r);
	fprintf(r->to, "\" osdev_type=\"%u\">", take(r, 6));
	n = take(r, 6);
	for (uint32_t i = 0; i < n; i++) {
		fprintf(r->to, "<info name=\"%s\" value=\"", infos[take(r, 8)]);
		if (take(r, 4) == 0)
			text(r);
		else
			fputs(values[take(r, 8)], r->to);
		fputs("\"/>", r->to);
	}
	fputs("</object>", r->to);
}

static void pcidev(struct recipe *r)
{
	static const char *const types[] = {"0207 [15b3:1021]", "0302 [10de:2330]", "1200 [1002:74a1]",
					    "0200 [8086:1521]", "0300 [1a03:2000]", "0380 [1002:7408]",
					    "0200 [1d0f:efa0]", "0300 [8086:4680]"};
	uint32_t n = take(r, 4);

	/* sometimes the same PCI id again */
	fprintf(r->to, "<object type=\"PCIDev\" gp_index=\"%u\" pci_busid=\"%04x:%02x:00.%u\" ", ++r->id,
		take(r, 4) == 0 ? 0xffffu : 0u, take(r, 16) == 0 ? 1 : ++r->busses % 256, take(r, 8));
	fprintf(r->to, "pci_type=\"%s [0000:0000] 00\" pci_link_speed=\"%u.5\">", types[take(r, 8)], take(r, 255));
	for (uint32_t i = 0; i < n; i++)
		osdev(r);
	fputs("</object>", r->to);
}

static void bridge(struct recipe *r, uint32_t depth)
{
	uint32_t n = take(r, 4);

	if (depth == 0)
		fprintf(r->to,
			"<object type=\"Bridge\" gp_index=\"%u\" bridge_type=\"0-1\" depth=\"0\" "
			"bridge_pci=\"0000:[00-ff]\">",
			++r->id);
	else
		fprintf(r->to,
			"<object type=\"Bridge\" gp_index=\"%u\" bridge_type=\"1-1\" depth=\"%u\" "
			"bridge_pci=\"0000:[%02x-ff]\" pci_busid=\"0000:%02x:01.0\" "
			"pci_type=\"0604 [1000:c010] [0000:0000] 00\" pci_link_speed=\"1.0\">",
			++r->id, depth, depth, depth);
	for (uint32_t i = 0; i < n; i++) {
		if (depth < 24 && take(r, 2) == 1)
			bridge(r, depth + 1);
		else
			pcidev(r);
	}
	fputs("</object>", r->to);
}

static void sets(struct recipe *r, const char *type, uint32_t os_index, uint32_t bits)
{
	fprintf(r->to,
		"<object type=\"%s\" os_index=\"%u\" cpuset=\"0x%x\" complete_cpuset=\"0x%x\" nodeset=\"0x%x\" "
		"complete_nodeset=\"0x%x\" gp_index=\"%u\"",
		type, os_index, bits, bits, bits, bits, ++r->id);
}

/* Each package has one PU, one NUMA node and what hangs on it. */
static void machine(struct recipe *r)
{
	uint32_t packages = 1 + take(r, 4), all = (1u << packages) - 1, n;

	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n"
	      "<topology version=\"2.0\">",
	      r->to);
	sets(r, "Machine", 0, all);
	fprintf(r->to, " allowed_cpuset=\"0x%x\" allowed_nodeset=\"0x%x\">", all, all);
	for (uint32_t i = 0; i < packages; i++) {
		sets(r, "Package", i, 1u << i);
		fputc('>', r->to);
		sets(r, "NUMANode", i, 1u << i);
		fprintf(r->to, " local_memory=\"%u\"/>", take(r, 255) << 22);
		sets(r, "PU", i, 1u << i);
		fputs("/>", r->to);
		n = take(r, 4);
		for (uint32_t k = 0; k < n; k++)
			bridge(r, 0);
		fputs("</object>", r->to);
	}
	n = take(r, 3); /* what could be anywhere */
	for (uint32_t k = 0; k < n; k++)
		osdev(r);
	fputs("</object></topology>\n", r->to);
}

static char *cook(const uint8_t *data, size_t size, size_t *len_out)
{
	struct recipe r = {.p = data, .end = data + size};
	char *xml = NULL;

	r.to = open_memstream(&xml, len_out);
	must(r.to != NULL);
	machine(&r);
	must(fclose(r.to) == 0);
	return xml;
}

static void check_policy(const struct mc_topo *t, const uint8_t *data, size_t size)
{
	struct mc_topo_policy p;
	char spec[64], err[256] = "";
	size_t n = size < sizeof(spec) - 1 ? size : sizeof(spec) - 1;

	memcpy(spec, data + size - n, n);
	spec[n] = '\0';
	if (mc_topo_policy_parse(t, spec, &p, err, sizeof(err)) == MC_OK)
		mc_topo_policy_free(&p);
	else
		must(err[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint32_t raw_n;
	bool raw = size == 0 || data[0] == '<';
	struct mc_topo *t = NULL;
	char err[512] = "", *xml = NULL;
	size_t len = size;
	mc_status_t s;

	/* A child each time is slow: three of four are left out. A single file is never one of them. */
	if (raw && raw_n++ % 4 != 0)
		return 0;
	if (!raw)
		xml = cook(data, size, &len);
	s = mc_topo_load_xml(raw ? (const void *)data : xml, len, "fuzz", raw, &t, err, sizeof(err));
	if (s != MC_OK) {
		must(err[0] != '\0' && t == NULL);
		/* a recipe gives a file that can be read, if this build reads any */
		must(raw || s == MC_ERR_UNSUPPORTED);
		free(xml);
		return 0;
	}
	free(xml);
	check_topo(t);
	check_policy(t, data, size);
	for (uint32_t i = 0; i < mc_topo_memory_n(t); i++) {
		struct mc_topo_buf b = mc_topo_memory(t, i);
		check_choice(t, &b, MC_TOPO_OPENFABRICS);
		check_choice(t, &b, MC_TOPO_NETWORK);
	}
	if (data[size - 1] % 8 == 0) /* it costs more than all the rest */
		check_print(t);
	mc_topo_free(t);
	return 0;
}

/* hwloc's plug-ins are loaded anew for every topology: most of the time would go there, and its own XML reader is
 * tested less. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	setenv("HWLOC_PLUGINS_PATH", "/nonexistent", 1);
	return 0;
}

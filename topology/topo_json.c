/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_json.c - the topology and the choice as JSON. The names and their meaning are stable: programs read this. */
#include <stdlib.h>
#include <string.h>

#include "topo_impl.h"

/* Length of the UTF-8 character at p; 0: not one. */
static size_t utf8_len(const unsigned char *p)
{
	size_t n = p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;

	if (n == 0 || p[0] >= 0xf5)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	/* overlong, surrogates, beyond U+10FFFF */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

void mc_topo_json_string(FILE *to, const char *s)
{
	fputc('"', to);
	for (const unsigned char *p = (const unsigned char *)s; *p != '\0';) {
		size_t n = 1;
		if (*p == '"' || *p == '\\') {
			fprintf(to, "\\%c", *p);
		} else if (*p < 0x20 || *p == 0x7f) {
			fprintf(to, "\\u%04x", *p);
		} else if (*p < 0x80) {
			fputc(*p, to);
		} else {
			n = utf8_len(p);
			if (n > 0)
				fwrite(p, 1, n, to);
			else
				fputs("\\ufffd", to);
			n = n > 0 ? n : 1;
		}
		p += n;
	}
	fputc('"', to);
}

static void member(FILE *to, const char *name, const char *value)
{
	fprintf(to, ", \"%s\": ", name);
	if (value != NULL)
		mc_topo_json_string(to, value);
	else
		fputs("null", to);
}

static void numa(const struct mc_topo *t, const struct mc_topo_nodeset *s, FILE *to)
{
	bool first = true;

	fputs(", \"numa\": [", to);
	for (uint32_t i = 0; i < t->node_n; i++) {
		if (!mc_topo_nodeset_has(s, i))
			continue;
		fprintf(to, "%s%u", first ? "" : ", ", t->node[i].os_index);
		first = false;
	}
	fputc(']', to);
}

static void nic(const struct mc_topo *t, const struct mc_topo_nic *n, FILE *to)
{
	fputs("{\"name\": ", to);
	mc_topo_json_string(to, n->name);
	member(to, "kind", mc_topo_kind_name(n->kind));
	if (n->kind == MC_TOPO_OPENFABRICS)
		fprintf(to, ", \"port\": %u", n->port);
	else
		fputs(", \"port\": null", to);
	member(to, "state", mc_topo_state_name(n->state));
	if (n->rate_mbps != 0)
		fprintf(to, ", \"rate_gbps\": %u.%03u", n->rate_mbps / 1000, n->rate_mbps % 1000);
	else
		fputs(", \"rate_gbps\": null", to);
	member(to, "link_layer", mc_topo_link_name(n->link));
	numa(t, &n->loc.nodes, to);
	member(to, "pci", n->pci != MC_TOPO_NONE ? t->pci[n->pci].busid : NULL);
	fputc('}', to);
}

static bool memory(const struct mc_topo *t, const struct mc_topo_show *show, uint32_t m, FILE *to)
{
	struct mc_topo_buf b = mc_topo_memory(t, m);
	struct mc_topo_loc loc = mc_topo_buf_loc(t, &b);
	struct mc_topo_choice c;
	char name[MC_TOPO_NAME_MAX];

	if (mc_topo_choose_all(t, show, &b, &c) != MC_OK)
		return false;
	mc_topo_buf_name(t, &b, name, sizeof(name));
	fputs("{\"name\": ", to);
	mc_topo_json_string(to, name);
	member(to, "kind", b.kind == MC_TOPO_BUF_NODE ? "numa" : "gpu");
	member(to, "pci", b.kind == MC_TOPO_BUF_PCI ? t->pci[b.index].busid : NULL);
	numa(t, &loc.nodes, to);
	fputs(", \"nics\": [", to);
	for (uint32_t i = 0; i < c.n; i++) {
		const struct mc_topo_nic *n = &t->nic[c.pick[i].nic];
		fprintf(to, "%s\n      {\"name\": ", i > 0 ? "," : "");
		mc_topo_json_string(to, n->name);
		if (n->kind == MC_TOPO_OPENFABRICS)
			fprintf(to, ", \"port\": %u", n->port);
		else
			fputs(", \"port\": null", to);
		fprintf(to, ", \"rank\": %u", c.pick[i].tier);
		member(to, "reason", c.pick[i].reason);
		fputc('}', to);
	}
	fputs("]}", to);
	mc_topo_choice_free(&c);
	return true;
}

bool mc_topo_print_json(const struct mc_topo *t, const struct mc_topo_show *show, FILE *to)
{
	fputs("{\n  \"nics\": [", to);
	for (uint32_t i = 0; i < t->nic_n; i++) {
		fprintf(to, "%s\n    ", i > 0 ? "," : "");
		nic(t, &t->nic[i], to);
	}
	fputs("],\n  \"memories\": [", to);
	for (uint32_t m = 0; m < mc_topo_memory_n(t); m++) {
		fprintf(to, "%s\n    ", m > 0 ? "," : "");
		if (!memory(t, show, m, to))
			return false;
	}
	fputs("]\n}\n", to);
	return ferror(to) == 0;
}

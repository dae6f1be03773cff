/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_dot.c - pictures: the tree of the machine for graphviz, the matrix for gnuplot. */
#include <stdlib.h>
#include <string.h>

#include "topo_impl.h"

/* ---- graphviz
 * -------------------------------------------------------------------------------------------------------- */

/* Names come from files: only what is harmless between quotes gets through. */
static void label(FILE *to, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '"' || *s == '\\' || (unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
			fputc('_', to);
		else
			fputc(*s, to);
	}
}

static bool below(const struct mc_topo_loc *loc, uint32_t bridge)
{
	for (uint32_t i = 0; i < loc->path_n; i++) {
		if (loc->path[i] == bridge)
			return true;
	}
	return false;
}

/* How many GPUs and NICs hang below a bridge. */
static uint32_t devices_below(const struct mc_topo *t, uint32_t bridge)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->gpu_n; i++)
		n += below(&t->pci[t->gpu[i].pci].loc, bridge);
	for (uint32_t i = 0; i < t->nic_n; i++) {
		bool again = false; /* a port and its interface are one device */
		for (uint32_t k = 0; k < i && t->nic[i].pci != MC_TOPO_NONE; k++)
			again = again || t->nic[k].pci == t->nic[i].pci;
		n += !again && below(&t->nic[i].loc, bridge);
	}
	return n;
}

/* A bridge is drawn if it is a host bridge in use, or a place where at least two devices meet, and not just a link of a
 * chain. */
static void find_drawn(const struct mc_topo *t, bool *drawn)
{
	for (uint32_t i = 0; i < t->bridge_n; i++) {
		uint32_t n = devices_below(t, i);
		drawn[i] = n > 0 && (t->bridge[i].parent == MC_TOPO_NONE || n > 1);
		for (uint32_t k = 0; k < t->bridge_n && drawn[i] && t->bridge[i].parent != MC_TOPO_NONE; k++) {
			if (t->bridge[k].parent == i && devices_below(t, k) == n)
				drawn[i] = false;
		}
	}
}

/* The edge from what is above: the nearest drawn bridge, else the NUMA node, else the machine. */
static void edge_up(const struct mc_topo *t, const bool *drawn, const struct mc_topo_loc *loc, uint32_t levels,
		    const char *id, FILE *to)
{
	for (uint32_t i = levels; i > 0; i--) {
		if (drawn[loc->path[i - 1]]) {
			fprintf(to, "  b%u -- %s;\n", loc->path[i - 1], id);
			return;
		}
	}
	for (uint32_t i = 0; i < t->node_n && loc->known; i++) {
		if (mc_topo_nodeset_has(&loc->nodes, i)) {
			fprintf(to, "  m%u -- %s;\n", i, id);
			return;
		}
	}
	fprintf(to, "  machine -- %s;\n", id);
}

static void dot_memories(const struct mc_topo *t, FILE *to)
{
	for (int32_t p = -1; p < (int32_t)t->packages; p++) {
		if (p >= 0)
			fprintf(to, "  subgraph cluster_p%d { label=\"package %d\"; style=rounded; color=gray60;\n", p,
				p);
		for (uint32_t i = 0; i < t->node_n; i++) {
			if (t->node[i].loc.package != p)
				continue;
			fprintf(to,
				"    m%u [label=\"numa%u\\n%.0f GiB\", shape=box, style=filled, "
				"fillcolor=\"#e8eefc\"];\n",
				i, t->node[i].os_index, (double)t->node[i].bytes / (1 << 30));
		}
		if (p >= 0)
			fputs("  }\n", to);
	}
	for (uint32_t i = 0; i < t->node_n; i++)
		fprintf(to, "  machine -- m%u;\n", i);
}

static void dot_nics(const struct mc_topo *t, const bool *drawn, FILE *to)
{
	for (uint32_t i = 0; i < t->nic_n; i++) {
		const struct mc_topo_nic *n = &t->nic[i];
		bool ok = mc_topo_nic_live(n) && !n->no_address;
		char name[MC_TOPO_NAME_MAX + 8], id[16];
		mc_topo_nic_text(n, name, sizeof(name));
		fprintf(to, "  n%u [label=\"", i);
		label(to, name);
		if (n->rate_mbps != 0)
			fprintf(to, "\\n%g Gb/s", (double)n->rate_mbps / 1000);
		if (!ok)
			fprintf(to, "\\n%s", n->no_address ? "no address" : mc_topo_state_name(n->state));
		fprintf(to, "\", shape=box, style=\"filled,rounded\", fillcolor=\"%s\"];\n",
			!ok                              ? "#f4c7c3"
			: n->kind == MC_TOPO_OPENFABRICS ? "#fde9b6"
							 : "#eeeeee");
		snprintf(id, sizeof(id), "n%u", i);
		edge_up(t, drawn, &n->loc, n->loc.path_n, id, to);
	}
}

/* Which NIC a GPU uses, as dashed lines. */
static bool dot_choice(const struct mc_topo *t, const struct mc_topo_show *show, FILE *to)
{
	for (uint32_t i = 0; i < t->gpu_n; i++) {
		struct mc_topo_buf b = {MC_TOPO_BUF_PCI, t->gpu[i].pci};
		struct mc_topo_choice c;
		if (mc_topo_choose_all(t, show, &b, &c) != MC_OK)
			return false;
		for (uint32_t k = 0; k < c.use_n; k++)
			fprintf(to,
				"  g%u -- n%u [style=dashed, color=\"#2a6fdb\", constraint=false, tooltip=\"%s\"];\n",
				i, c.pick[k].nic, c.pick[k].reason);
		mc_topo_choice_free(&c);
	}
	return true;
}

bool mc_topo_print_dot(const struct mc_topo *t, const struct mc_topo_show *show, FILE *to)
{
	bool *drawn = calloc(t->bridge_n + 1, sizeof(*drawn));
	char id[16];
	bool ok;

	if (drawn == NULL)
		return false;
	find_drawn(t, drawn);
	fputs("graph topology {\n  rankdir=LR; ranksep=0.9; nodesep=0.12; fontname=\"sans-serif\";\n"
	      "  node [fontname=\"sans-serif\", fontsize=11, margin=\"0.08,0.04\", height=0.3]; edge [color=gray40];\n"
	      "  label=\"dashed: the NICs that each GPU uses\"; labelloc=b; fontsize=11;\n"
	      "  machine [label=\"machine\", shape=plaintext];\n",
	      to);
	dot_memories(t, to);
	for (uint32_t i = 0; i < t->bridge_n; i++) {
		const struct mc_topo_bridge *b = &t->bridge[i];
		if (!drawn[i])
			continue;
		fprintf(to, "  b%u [label=\"%s\\n%s\", shape=ellipse, fontsize=9];\n", i,
			b->parent == MC_TOPO_NONE ? "host bridge" : "PCIe switch", b->text);
		snprintf(id, sizeof(id), "b%u", i);
		edge_up(t, drawn, &b->loc, b->loc.path_n > 0 ? b->loc.path_n - 1 : 0, id, to);
	}
	for (uint32_t i = 0; i < t->gpu_n; i++) {
		const struct mc_topo_loc *loc = &t->pci[t->gpu[i].pci].loc;
		fprintf(to, "  g%u [label=\"", i);
		label(to, t->gpu[i].name);
		fputs("\", shape=box, style=filled, fillcolor=\"#cfeccf\"];\n", to);
		snprintf(id, sizeof(id), "g%u", i);
		edge_up(t, drawn, loc, loc->path_n, id, to);
	}
	dot_nics(t, drawn, to);
	ok = dot_choice(t, show, to);
	fputs("}\n", to);
	free(drawn);
	return ok && ferror(to) == 0;
}

/* ---- gnuplot
 * ----------------------------------------------------------------------------------------------------------- */

/* Between single quotes, where a quote is doubled and nothing else is special. */
static void quoted(FILE *to, const char *s)
{
	fputc('\'', to);
	for (; *s != '\0'; s++) {
		if (*s == '\'')
			fputc('\'', to);
		if ((unsigned char)*s >= 0x20)
			fputc(*s, to);
	}
	fputc('\'', to);
}

static void tics(FILE *to, const char *axis, bool first, const char *text, uint32_t at)
{
	if (first)
		fprintf(to, "set %stics (", axis);
	else
		fputs(", ", to);
	quoted(to, text);
	fprintf(to, " %u", at);
}

static void plot_head(const struct mc_topo *t, const char *png, FILE *to)
{
	uint32_t rows = mc_topo_memory_n(t), columns = t->nic_n;
	const char *name = strrchr(t->source, '/');

	fprintf(to, "set terminal pngcairo noenhanced size %u,%u font 'sans,11'\nset output ",
		350 + 84 * (columns < 4 ? 4 : columns), 240 + 34 * (rows < 4 ? 4 : rows));
	quoted(to, png);
	fputs("\nset title ", to);
	quoted(to, name != NULL ? name + 1 : t->source);
	/* In the middle of the whole picture: below a narrow matrix it would be cut off. The empty label keeps room. */
	fputs(" font ',13'\nset xlabel ' '\n"
	      "set label 'framed: used for this memory    thin: used for TCP    red: port or interface not usable' at "
	      "screen 0.5, screen 0.03 center\n",
	      to);
	fprintf(to, "set xrange [-0.5:%u.5]\nset yrange [%u.5:-0.5]\nset cbrange [-0.5:5.5]\n", columns - 1, rows - 1);
	fputs("set palette maxcolors 6\n"
	      "set palette defined (0 '#d9d9d9', 1 '#f2f2f2', 2 '#deebf7', 3 '#9ecae1', 4 '#6baed6', 5 '#3182bd')\n"
	      "set cbtics ('other package' 0, 'place unknown' 1, 'same package' 2, 'same NUMA node' 3, 'same host "
	      "bridge' 4, "
	      "'same PCIe switch' 5) scale 0\n"
	      "set rmargin 22\nset tics nomirror scale 0\nset xtics rotate by 35 right\nunset key\nset border 0\n",
	      to);
}

static void plot_tics(const struct mc_topo *t, FILE *to)
{
	char name[MC_TOPO_NAME_MAX + 8];

	for (uint32_t i = 0; i < t->nic_n; i++) {
		mc_topo_nic_text(&t->nic[i], name, sizeof(name));
		tics(to, "x", i == 0, mc_topo_nic_live(&t->nic[i]) && !t->nic[i].no_address ? name : "", i);
	}
	fputs(")\n", to);
	for (uint32_t i = 0; i < t->nic_n; i++) {
		if (mc_topo_nic_live(&t->nic[i]) && !t->nic[i].no_address)
			continue;
		mc_topo_nic_text(&t->nic[i], name, sizeof(name));
		fputs("set label ", to);
		quoted(to, name);
		fprintf(to, " at %u, graph -0.02 right rotate by 35 tc rgb '#c0392b'\n", i);
	}
	for (uint32_t m = 0; m < mc_topo_memory_n(t); m++) {
		struct mc_topo_buf b = mc_topo_memory(t, m);
		mc_topo_buf_name(t, &b, name, sizeof(name));
		tics(to, "y", m == 0, name, m);
	}
	fputs(")\n", to);
}

/* The cells of one row: colour by nearness, a frame where used. Excluded NICs have no cell. */
static void plot_row(const struct mc_topo_choice *c, uint32_t row, FILE *cells, FILE *to)
{
	static const char *const text[] = {"far", "?", "pkg", "node", "hb", "switch"};

	for (uint32_t k = 0; k < c->n; k++) {
		const struct mc_topo_pick *p = &c->pick[k];
		fprintf(cells, "%u %u %d\n", p->nic, row, (int)p->near);
		fprintf(to, "set label '%s' at %u,%u center front tc rgb '%s'\n", text[p->near], p->nic, row,
			p->dead                         ? "#c0392b"
			: p->near >= MC_NEAR_HOSTBRIDGE ? "white"
							: "black");
		if (p->use)
			fprintf(to,
				"set object rect from %u-0.46,%u-0.42 to %u+0.46,%u+0.42 front fs empty border rgb "
				"'%s' lw %d\n",
				p->nic, row, p->nic, row, k < c->use_n ? "#d35400" : "#7f7f7f", k < c->use_n ? 3 : 1);
	}
}

bool mc_topo_print_gnuplot(const struct mc_topo *t, const struct mc_topo_show *show, const char *png, FILE *to)
{
	char *text = NULL;
	size_t len = 0;
	bool ok = t->nic_n > 0;
	FILE *cells = ok ? open_memstream(&text, &len) : NULL;

	if (cells == NULL)
		return false;
	plot_head(t, png, to);
	plot_tics(t, to);
	for (uint32_t m = 0; ok && m < mc_topo_memory_n(t); m++) {
		struct mc_topo_buf b = mc_topo_memory(t, m);
		struct mc_topo_choice c;
		ok = mc_topo_choose_all(t, show, &b, &c) == MC_OK;
		if (!ok)
			break;
		plot_row(&c, m, cells, to);
		mc_topo_choice_free(&c);
	}
	if (fclose(cells) != 0)
		ok = false;
	if (ok)
		fprintf(to,
			"$cells << END_OF_CELLS\n%sEND_OF_CELLS\nplot $cells using 1:2:(0.46):(0.42):3 with boxxyerror "
			"fs solid noborder lc palette\n",
			text);
	free(text);
	return ok && ferror(to) == 0;
}

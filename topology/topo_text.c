/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_text.c - the matrix of memories and NICs, and the choice with its reasons, for a terminal of 100 columns. */
#include <stdlib.h>
#include <string.h>

#include "topo_impl.h"

enum { WIDTH = 100, LABEL = 12, COLUMN = 6, INDENT = 7, BLOCK = (WIDTH - LABEL) / COLUMN };

static const char *cell_text(const struct mc_topo_pick *p)
{
	static const char *const text[] = {"FAR", "?", "PKG", "NODE", "HB", "SW"};

	return text[p->near];
}

static uint32_t count_kind(const struct mc_topo *t, enum mc_topo_kind kind)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->nic_n; i++)
		n += t->nic[i].kind == kind;
	return n;
}

static const char *plural(uint32_t n)
{
	return n == 1 ? "" : "s";
}

static void print_head(const struct mc_topo *t, FILE *to)
{
	uint32_t rdma = count_kind(t, MC_TOPO_OPENFABRICS), net = count_kind(t, MC_TOPO_NETWORK);

	/* A build without hwloc knows processors only. */
	fprintf(to, "%s\n%u package%s, %u NUMA node%s, %u %s, %u GPU%s, %u RDMA port%s, %u network interface%s\n",
		t->source, t->packages, plural(t->packages), t->node_n, plural(t->node_n),
		t->cores > 0 ? t->cores : t->pus, t->cores > 0 ? "cores" : "processors", t->gpu_n, plural(t->gpu_n),
		rdma, plural(rdma), net, plural(net));
}

/* The row of one memory; picks are in order of preference, columns in order of nic[]. */
static void print_row(const struct mc_topo *t, const struct mc_topo_choice *c, const char *label, uint32_t from,
		      FILE *to)
{
	size_t n = strlen(label);

	/* Of a name that is too long the end tells most: a PCI id, a number. */
	fprintf(to, "%-*s", LABEL, n < LABEL ? label : label + n - (LABEL - 1));
	for (uint32_t i = from; i < t->nic_n && i < from + BLOCK; i++) {
		const char *text = ".";
		char cell[16];
		const char *mark = "";
		for (uint32_t k = 0; k < c->n; k++) {
			if (c->pick[k].nic == i) {
				text = cell_text(&c->pick[k]);
				mark = k < c->use_n ? "*" : c->pick[k].use ? "+" : "";
			}
		}
		snprintf(cell, sizeof(cell), "%s%s", text, mark);
		fprintf(to, "%*s", COLUMN, cell);
	}
	fputc('\n', to);
}

static void print_matrix(const struct mc_topo *t, const struct mc_topo_choice *choice, FILE *to)
{
	for (uint32_t from = 0; from < t->nic_n; from += BLOCK) {
		fprintf(to, "\n%-*s", LABEL, "");
		for (uint32_t i = from; i < t->nic_n && i < from + BLOCK; i++) {
			char head[16];
			snprintf(head, sizeof(head), "%s%u%s", t->nic[i].kind == MC_TOPO_OPENFABRICS ? "N" : "E", i,
				 mc_topo_nic_live(&t->nic[i]) && !t->nic[i].no_address ? "" : "!");
			fprintf(to, "%*s", COLUMN, head);
		}
		fputc('\n', to);
		for (uint32_t m = 0; m < mc_topo_memory_n(t); m++) {
			struct mc_topo_buf b = mc_topo_memory(t, m);
			char name[MC_TOPO_NAME_MAX];
			mc_topo_buf_name(t, &b, name, sizeof(name));
			print_row(t, &choice[m], name, from, to);
		}
	}
	fprintf(to,
		"\nSW same PCIe switch  HB same host bridge  NODE same NUMA node  PKG same package  FAR other package\n"
		"? place unknown  . excluded  * used for this memory  + for TCP  ! port or interface not usable\n");
}

static void print_nics(const struct mc_topo *t, FILE *to)
{
	fputc('\n', to);
	for (uint32_t i = 0; i < t->nic_n; i++) {
		const struct mc_topo_nic *n = &t->nic[i];
		char name[MC_TOPO_NAME_MAX + 8], head[16], nodes[128], rate[32] = "";
		mc_topo_nic_text(n, name, sizeof(name));
		snprintf(head, sizeof(head), "%s%u", n->kind == MC_TOPO_OPENFABRICS ? "N" : "E", i);
		mc_topo_nodes_text(t, &n->loc.nodes, nodes, sizeof(nodes));
		if (n->rate_mbps != 0)
			snprintf(rate, sizeof(rate), "  %g Gb/s", (double)n->rate_mbps / 1000);
		fprintf(to, "%-4s %-16s %-13s numa %-8s %-12s %s%s%s%s\n", head, name,
			n->pci != MC_TOPO_NONE ? t->pci[n->pci].busid : "-", n->loc.known ? nodes : "?",
			n->link != MC_TOPO_LINK_UNKNOWN ? mc_topo_link_name(n->link) : "-",
			n->state == MC_TOPO_STATE_UNKNOWN ? "state not told" : mc_topo_state_name(n->state), rate,
			n->is_virtual ? "  virtual" : "", n->no_address ? "  no IP address" : "");
	}
}

/* "  use  " and words with a hanging indent, broken before WIDTH. */
static void print_wrapped(FILE *to, const char *head, const char *text)
{
	size_t column = INDENT;

	fprintf(to, "  %-*s", INDENT - 3, head);
	for (const char *p = text; *p != '\0';) {
		size_t n = strcspn(p, " ");
		if (column + 1 + n > WIDTH && column > INDENT) {
			fprintf(to, "\n%*s", INDENT - 1, "");
			column = INDENT - 1;
		}
		fprintf(to, " %.*s", (int)n, p);
		column += n + 1;
		p += n;
		while (*p == ' ')
			p++;
	}
	fputc('\n', to);
}

/* The tiers of one memory: "use  mlx5_0:1 mlx5_1:1 - same PCIe switch, port ACTIVE". */
static bool print_tiers(const struct mc_topo *t, const struct mc_topo_choice *c, FILE *to)
{
	for (uint32_t i = 0; i < c->n;) {
		const struct mc_topo_pick *p = &c->pick[i];
		bool tcp = t->nic[p->nic].kind == MC_TOPO_NETWORK;
		char *text = NULL;
		size_t len = 0;
		FILE *f = open_memstream(&text, &len);
		uint32_t k = i;
		if (f == NULL)
			return false;
		for (; k < c->n && c->pick[k].tier == p->tier && c->pick[k].use == p->use; k++) {
			char name[MC_TOPO_NAME_MAX + 8];
			mc_topo_nic_text(&t->nic[c->pick[k].nic], name, sizeof(name));
			fprintf(f, "%s ", name);
		}
		fprintf(f, "- %s", p->reason);
		if (fclose(f) != 0) {
			free(text);
			return false;
		}
		print_wrapped(to, p->dead ? "dead" : i < c->use_n ? "use" : tcp && p->use ? "tcp" : "then", text);
		free(text);
		i = k;
	}
	if (c->note[0] != '\0')
		print_wrapped(to, "note", c->note);
	return true;
}

/* The memories from m on whose text is that of m, in lines of at most WIDTH. */
static void print_names(const struct mc_topo *t, char *const *text, uint32_t m, FILE *to)
{
	size_t column = 0;

	for (uint32_t k = m; k < mc_topo_memory_n(t); k++) {
		struct mc_topo_buf b = mc_topo_memory(t, k);
		char name[MC_TOPO_NAME_MAX];
		size_t n;
		if (strcmp(text[k], text[m]) != 0)
			continue;
		mc_topo_buf_name(t, &b, name, sizeof(name));
		n = strlen(name);
		if (column == 0 || column + 1 + n > WIDTH) {
			fputc('\n', to);
			column = 0;
		}
		fprintf(to, "%s%s", column > 0 ? " " : "", name);
		column += n + (column > 0);
	}
	fputc('\n', to);
}

/* Memories with one and the same answer are told together. */
static bool print_choice(const struct mc_topo *t, const struct mc_topo_choice *choice, FILE *to)
{
	uint32_t n = mc_topo_memory_n(t);
	char **text = calloc(n, sizeof(*text));
	bool ok = text != NULL;

	for (uint32_t m = 0; ok && m < n; m++) {
		size_t len = 0;
		FILE *f = open_memstream(&text[m], &len);
		ok = f != NULL && print_tiers(t, &choice[m], f);
		if (f != NULL && fclose(f) != 0)
			ok = false;
	}
	for (uint32_t m = 0; ok && m < n; m++) {
		bool told = false;
		for (uint32_t k = 0; k < m && !told; k++)
			told = strcmp(text[k], text[m]) == 0;
		if (told)
			continue;
		print_names(t, text, m, to);
		fputs(text[m], to);
	}
	for (uint32_t m = 0; text != NULL && m < n; m++)
		free(text[m]);
	free(text);
	return ok;
}

bool mc_topo_print_text(const struct mc_topo *t, const struct mc_topo_show *show, FILE *to)
{
	uint32_t n = mc_topo_memory_n(t);
	struct mc_topo_choice *choice = calloc(n == 0 ? 1 : n, sizeof(*choice));
	bool ok = choice != NULL;

	for (uint32_t m = 0; ok && m < n; m++) {
		struct mc_topo_buf b = mc_topo_memory(t, m);
		ok = mc_topo_choose_all(t, show, &b, &choice[m]) == MC_OK;
	}
	if (ok) {
		print_head(t, to);
		if (t->nic_n > 0) {
			print_matrix(t, choice, to);
			print_nics(t, to);
		}
		fprintf(to,
			"\nChoice of rank %u on its host; \"use\" is striped over, \"tcp\" serves TCP, \"then\" "
			"follows if that fails\n",
			show->local_rank);
		ok = print_choice(t, choice, to);
	}
	for (uint32_t m = 0; choice != NULL && m < n; m++)
		mc_topo_choice_free(&choice[m]);
	free(choice);
	return ok && ferror(to) == 0;
}

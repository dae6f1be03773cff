/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_rank.c - what a rank asks: where am I, and which NICs do I use. Pure, like topo_score.c. */
#include <string.h>

#include "topo_impl.h"

struct cpus {
	const uint64_t *cpu;
	uint32_t max, common;
};

static void count_common(void *arg, uint32_t value)
{
	struct cpus *c = arg;

	c->common += value < c->max && (c->cpu[value / 64] >> (value % 64) & 1) != 0;
}

uint32_t mc_topo_home(const struct mc_topo *t, const uint64_t *cpu, uint32_t cpu_max)
{
	uint32_t home = MC_TOPO_NONE, all = 0, with_cpus = 0;

	for (uint32_t i = 0; i < cpu_max; i++)
		all += (uint32_t)(cpu[i / 64] >> (i % 64) & 1);
	for (uint32_t i = 0; i < t->node_n; i++) {
		const char *list = t->node[i].cpus;
		struct cpus c = {.cpu = cpu, .max = cpu_max};
		with_cpus += t->node[i].has_cpus;
		if (mc_topo_parse_list(list, strlen(list), cpu_max, count_common, &c) && all > 0 && c.common == all)
			home = i;
	}
	return with_cpus > 1 ? home : MC_TOPO_NONE;
}

/* The networks that a NIC is in: of a RoCE port those of its interface, of an InfiniBand port its subnet. */
static uint32_t networks_of(const struct mc_topo *t, const struct mc_topo_nic *nic, uint64_t out[MC_TOPO_NETWORK_MAX])
{
	const struct mc_topo_nic *from = nic;

	if (nic->link == MC_TOPO_LINK_INFINIBAND && nic->kind == MC_TOPO_OPENFABRICS) {
		if (nic->gid_n == 0)
			return 0;
		memcpy(out, nic->gid[0].raw, sizeof(out[0])); /* the subnet's prefix */
		return 1;
	}
	for (uint32_t i = 0; nic->kind == MC_TOPO_OPENFABRICS && i < t->nic_n; i++) {
		if (t->nic[i].kind == MC_TOPO_NETWORK && strcmp(t->nic[i].name, nic->netdev) == 0)
			from = &t->nic[i];
	}
	memcpy(out, from->network, sizeof(from->network));
	return from->network_n;
}

/* Does nic lead to a network that none of those does which are used, or apart already? */
static bool leads_further(const struct mc_topo *t, const struct mc_topo_choice *c, const struct mc_topo_nic *nic)
{
	uint64_t to[MC_TOPO_NETWORK_MAX], known[MC_TOPO_NETWORK_MAX];
	uint32_t n = networks_of(t, nic, to);

	for (uint32_t i = 0; i < n; i++) {
		bool reached = false;
		for (uint32_t u = 0; u < c->n && !reached; u++) {
			uint32_t known_n = 0;
			if (c->pick[u].use || c->pick[u].apart)
				known_n = networks_of(t, &t->nic[c->pick[u].nic], known);
			for (uint32_t k = 0; k < known_n; k++)
				reached = reached || known[k] == to[i];
		}
		if (!reached)
			return true;
	}
	return false;
}

/* Bridges and tunnels of the host, and ports that would slow the others down, stay out unless the user names them. */
static bool worth_it(const struct mc_topo *t, const struct mc_topo_want *w, const struct mc_topo_choice *c, uint32_t i)
{
	const struct mc_topo_nic *nic = &t->nic[c->pick[i].nic], *best = &t->nic[c->pick[0].nic];

	if (c->pick[i].dead || c->pick[i].use || c->pick[0].mapped)
		return false;
	if (w->policy != NULL && w->policy->include != NULL)
		return true;
	return !c->pick[i].slow && (!nic->is_virtual || best->is_virtual) && !nic->is_bridge;
}

mc_status_t mc_topo_choose_rank(const struct mc_topo *t, const struct mc_topo_want *want, struct mc_topo_choice *out)
{
	struct mc_topo_want w = *want;
	mc_status_t s;

	/* Any part of the equally near interfaces might lack the one that a peer can reach: only ports are divided. */
	if (w.kind == MC_TOPO_NETWORK)
		w.sharers = 0;
	s = mc_topo_choose(t, &w, out);
	if (s != MC_OK || out->use_n == 0)
		return s;
	for (uint32_t i = out->use_n; w.kind == MC_TOPO_OPENFABRICS && i < out->n; i++) {
		struct mc_topo_pick *p = &out->pick[i];
		p->apart = !p->dead && !p->other_link && !out->pick[0].mapped && leads_further(t, out, &t->nic[p->nic]);
	}
	if (w.kind == MC_TOPO_OPENFABRICS)
		return MC_OK;
	for (uint32_t i = out->use_n; i < out->n; i++) {
		struct mc_topo_pick p = out->pick[i];
		size_t at = strlen(p.reason);
		if (!worth_it(t, &w, out, i) || !leads_further(t, out, &t->nic[p.nic]))
			continue;
		p.use = true;
		mc_topo_append(p.reason, sizeof(p.reason), &at, ", leads to a network that the nearer do not");
		memmove(&out->pick[out->use_n + 1], &out->pick[out->use_n], (i - out->use_n) * sizeof(p));
		out->pick[out->use_n++] = p;
	}
	return MC_OK;
}

uint32_t mc_topo_sharers(const struct mc_topo *t, const struct mc_topo_buf *buf, uint32_t local_size)
{
	uint32_t nodes = 0;

	for (uint32_t i = 0; i < t->node_n; i++)
		nodes += t->node[i].has_cpus;
	if (buf->kind == MC_TOPO_BUF_PCI)
		return 0; /* a GPU is one rank's own */
	return buf->kind == MC_TOPO_BUF_NODE && nodes > 1 ? (local_size + nodes - 1) / nodes : local_size;
}

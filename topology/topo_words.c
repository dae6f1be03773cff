/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_words.c - names for people and JSON; which GID; what a rank publishes about a NIC, and pairing with a peer's. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "topo_impl.h"

const char *mc_topo_state_name(enum mc_topo_state s)
{
	static const char *const name[] = {"UNKNOWN", "DOWN", "INIT", "ARMED", "ACTIVE", "ACTIVE_DEFER", "UP"};

	return (size_t)s < MC_ARRAY_LEN(name) ? name[s] : "UNKNOWN";
}

const char *mc_topo_link_name(enum mc_topo_link l)
{
	static const char *const name[] = {NULL, "InfiniBand", "Ethernet"};

	return (size_t)l < MC_ARRAY_LEN(name) ? name[l] : NULL;
}

const char *mc_topo_kind_name(enum mc_topo_kind k)
{
	return k == MC_TOPO_OPENFABRICS ? "openfabrics" : "network";
}

const char *mc_topo_near_text(enum mc_topo_near n)
{
	static const char *const text[] = {"other package",  "place unknown",    "same package",
					   "same NUMA node", "same host bridge", "same PCIe switch"};

	return (size_t)n < MC_ARRAY_LEN(text) ? text[n] : "?";
}

const char *mc_topo_gid_type_name(enum mc_topo_gid_type t)
{
	static const char *const name[] = {NULL, "IB/RoCE v1", "RoCE v2"};

	return (size_t)t < MC_ARRAY_LEN(name) ? name[t] : NULL;
}

void mc_topo_nic_text(const struct mc_topo_nic *nic, char *out, size_t len)
{
	if (nic->kind == MC_TOPO_OPENFABRICS)
		snprintf(out, len, "%s:%u", nic->name, nic->port);
	else
		mc_topo_copy(out, len, nic->name);
}

void mc_topo_nodes_text(const struct mc_topo *t, const struct mc_topo_nodeset *s, char *out, size_t len)
{
	size_t at = 0;

	if (len > 0)
		out[0] = '\0';
	for (uint32_t i = 0; i < t->node_n; i++) {
		if (mc_topo_nodeset_has(s, i))
			mc_topo_append(out, len, &at, "%s%u", at > 0 ? "," : "", t->node[i].os_index);
	}
}

static bool is_mapped_v4(const uint8_t raw[16])
{
	static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	return memcmp(raw, prefix, sizeof(prefix)) == 0;
}

static bool is_link_local(const uint8_t raw[16])
{
	return raw[0] == 0xfe && (raw[1] & 0xc0) == 0x80;
}

void mc_topo_gid_text(const uint8_t raw[16], char *out, size_t len)
{
	char text[INET6_ADDRSTRLEN] = "";

	if (is_mapped_v4(raw))
		inet_ntop(AF_INET, raw + 12, text, sizeof(text));
	else
		inet_ntop(AF_INET6, raw, text, sizeof(text));
	mc_topo_copy(out, len, text);
}

uint32_t mc_topo_gid_best(const struct mc_topo_nic *nic)
{
	uint32_t best = MC_TOPO_NONE, best_points = 0;

	/* On InfiniBand every GID of the port works between hosts of one fabric; the first is the port's own. */
	if (nic->link == MC_TOPO_LINK_INFINIBAND)
		return nic->gid_n > 0 ? 0 : MC_TOPO_NONE;
	for (uint32_t i = 0; i < nic->gid_n; i++) {
		const struct mc_topo_gid *g = &nic->gid[i];
		uint32_t points = 1;
		/* RoCE v1 is not routed and link-local addresses only reach the same network. */
		points += g->type == MC_TOPO_GID_V2 ? 8 : 0;
		points += is_link_local(g->raw) ? 0 : 4;
		points += is_mapped_v4(g->raw) ? 2 : 0;
		if (points > best_points) {
			best_points = points;
			best = i;
		}
	}
	return best;
}

void mc_topo_nic_id_fill(const struct mc_topo_nic *nic, struct mc_topo_nic_id *out)
{
	uint32_t g = mc_topo_gid_best(nic);

	memset(out, 0, sizeof(*out));
	mc_topo_copy(out->name, sizeof(out->name), nic->name);
	out->port = nic->port;
	out->rail = nic->rail;
	out->rate_mbps = nic->rate_mbps;
	out->link = nic->link;
	if (g != MC_TOPO_NONE) {
		memcpy(out->gid, nic->gid[g].raw, sizeof(out->gid));
		out->gid_index = nic->gid[g].index;
	}
}

/* ---- pairs
 * ------------------------------------------------------------------------------------------------------------ */

/* An interface carries TCP, a port verbs: one cannot answer the other, also where both are Ethernet. */
static bool can_talk(const struct mc_topo_nic_id *a, const struct mc_topo_nic_id *b)
{
	return (a->port == 0) == (b->port == 0) &&
	       (a->link == b->link || a->link == MC_TOPO_LINK_UNKNOWN || b->link == MC_TOPO_LINK_UNKNOWN);
}

struct side {
	const struct mc_topo_nic_id *id;
	uint32_t n;
	uint32_t *order; /* [n], in the order that both sides agree on */
	bool *used;
};

/* Both sides order both lists the same way, so that each finds the same pairs although it calls the other one "theirs".
 */
static bool side_open(struct side *s, const struct mc_topo_nic_id *id, uint32_t n)
{
	s->id = id;
	s->n = n;
	s->order = calloc(n, sizeof(*s->order));
	s->used = calloc(n, sizeof(*s->used));
	if (s->order == NULL || s->used == NULL)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = i;
		while (k > 0 && (id[s->order[k - 1]].rail > id[i].rail ||
				 (id[s->order[k - 1]].rail == id[i].rail &&
				  mc_topo_natural_cmp(id[s->order[k - 1]].name, id[i].name) > 0))) {
			s->order[k] = s->order[k - 1];
			k--;
		}
		s->order[k] = i;
	}
	return true;
}

static void side_close(struct side *s)
{
	free(s->order);
	free(s->used);
}

static void pair_add(struct side *a, uint32_t x, struct side *b, uint32_t y, struct mc_topo_pair *out, uint32_t *n)
{
	a->used[x] = true;
	b->used[y] = true;
	out[*n].mine = x;
	out[*n].theirs = y;
	out[*n].same_rail = a->id[x].rail == b->id[y].rail;
	(*n)++;
}

static void pair_free_ones(struct side *a, struct side *b, bool rail, struct mc_topo_pair *out, uint32_t *n,
			   uint32_t room)
{
	for (uint32_t i = 0; i < a->n; i++) {
		uint32_t x = a->order[i];
		for (uint32_t k = 0; k < b->n && !a->used[x] && *n < room; k++) {
			uint32_t y = b->order[k];
			if (!b->used[y] && can_talk(&a->id[x], &b->id[y]) && (!rail || a->id[x].rail == b->id[y].rail))
				pair_add(a, x, b, y, out, n);
		}
	}
}

/* What one side has more: dealt out over the other side in turn. */
static void pair_rest(struct side *a, struct side *b, bool swapped, struct mc_topo_pair *out, uint32_t *n,
		      uint32_t room)
{
	uint32_t turn = 0;

	for (uint32_t i = 0; i < a->n; i++) {
		uint32_t x = a->order[i];
		for (uint32_t k = 0; k < b->n && !a->used[x] && *n < room; k++) {
			uint32_t y = b->order[(turn + k) % b->n];
			if (!can_talk(&a->id[x], &b->id[y]))
				continue;
			turn = (turn + k + 1) % b->n;
			if (swapped)
				pair_add(b, y, a, x, out, n);
			else
				pair_add(a, x, b, y, out, n);
		}
	}
}

static int pair_cmp(const void *a, const void *b)
{
	const struct mc_topo_pair *x = a, *y = b;

	if (x->mine != y->mine)
		return x->mine < y->mine ? -1 : 1;
	return x->theirs < y->theirs ? -1 : x->theirs > y->theirs;
}

uint32_t mc_topo_pair(const struct mc_topo_nic_id *mine, uint32_t mine_n, const struct mc_topo_nic_id *theirs,
		      uint32_t theirs_n, struct mc_topo_pair *out, uint32_t room)
{
	struct side a = {.n = 0}, b = {.n = 0};
	uint32_t n = 0;

	if (mine_n == 0 || theirs_n == 0)
		return 0;
	if (side_open(&a, mine, mine_n) && side_open(&b, theirs, theirs_n)) {
		pair_free_ones(&a, &b, true, out, &n, room);
		pair_free_ones(&a, &b, false, out, &n, room);
		pair_rest(&a, &b, false, out, &n, room);
		pair_rest(&b, &a, true, out, &n, room);
	}
	if (n > 1)
		qsort(out, n, sizeof(*out), pair_cmp);
	side_close(&a);
	side_close(&b);
	return n;
}

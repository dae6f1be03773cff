/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_score.c - which NICs for which memory. Pure: the same structures give the same answer. */
#include <stdlib.h>
#include <string.h>

#include "topo_impl.h"

struct mc_topo_loc mc_topo_buf_loc(const struct mc_topo *t, const struct mc_topo_buf *b)
{
	struct mc_topo_loc anywhere = {.package = -1};

	if (b->kind == MC_TOPO_BUF_NODE && b->index < t->node_n)
		return t->node[b->index].loc;
	if (b->kind == MC_TOPO_BUF_PCI && b->index < t->pci_n)
		return t->pci[b->index].loc;
	return anywhere;
}

static uint32_t common_path(const struct mc_topo_loc *a, const struct mc_topo_loc *b)
{
	uint32_t n = 0;

	while (n < a->path_n && n < b->path_n && a->path[n] == b->path[n])
		n++;
	return n;
}

static enum mc_topo_near near_of(const struct mc_topo_loc *a, const struct mc_topo_loc *b)
{
	uint32_t common = common_path(a, b);

	if (common >= 2)
		return MC_NEAR_SWITCH;
	if (common == 1)
		return MC_NEAR_HOSTBRIDGE;
	if (!a->known || !b->known)
		return MC_NEAR_UNKNOWN;
	if (mc_topo_set_meets(&a->nodes, &b->nodes))
		return MC_NEAR_NODE;
	if (a->package < 0 || b->package < 0)
		return MC_NEAR_UNKNOWN;
	return a->package == b->package ? MC_NEAR_PACKAGE : MC_NEAR_OTHER;
}

enum mc_topo_near mc_topo_near(const struct mc_topo *t, const struct mc_topo_buf *buf, const struct mc_topo_loc *loc)
{
	struct mc_topo_loc from = mc_topo_buf_loc(t, buf);

	return near_of(&from, loc);
}

bool mc_topo_nic_live(const struct mc_topo_nic *nic)
{
	/* A file of another machine often does not tell: then the port counts as live. */
	return nic->state == MC_TOPO_STATE_ACTIVE || nic->state == MC_TOPO_STATE_ACTIVE_DEFER ||
	       nic->state == MC_TOPO_STATE_UP || nic->state == MC_TOPO_STATE_UNKNOWN;
}

static bool usable(const struct mc_topo_nic *nic)
{
	return mc_topo_nic_live(nic) && !nic->no_address;
}

/* ---- what is taken into account
 * ---------------------------------------------------------------------------------------- */

static bool allowed(const struct mc_topo *t, const struct mc_topo_policy *p, uint32_t nic)
{
	if (t->nic[nic].is_loopback && (p == NULL || nic >= p->nic_n || p->include == NULL))
		return false; /* only who names it wants it */
	if (p == NULL || nic >= p->nic_n)
		return true;
	return (p->include == NULL || p->include[nic]) && (p->exclude == NULL || !p->exclude[nic]);
}

static bool same_buf(const struct mc_topo_buf *a, const struct mc_topo_buf *b)
{
	return a->kind == b->kind && (a->kind == MC_TOPO_BUF_ANYWHERE || a->index == b->index);
}

static bool mapped(const struct mc_topo_policy *p, const struct mc_topo_buf *buf, uint32_t nic)
{
	for (uint32_t i = 0; p != NULL && i < p->map_n; i++) {
		if (p->map[i].nic == nic && same_buf(&p->map[i].buf, buf))
			return true;
	}
	return false;
}

struct fabric {
	uint64_t live_mbps;
	uint32_t live_n, unknown_n; /* unknown_n: live ones that do not tell their rate */
};

/*
 * The link layer that this host uses: InfiniBand and RoCE ports cannot talk to each other, so the choice must not
 * depend on the buffer, or ranks would miss each other. More live bandwidth wins; where rates are not told, InfiniBand.
 */
static enum mc_topo_link best_link(const struct mc_topo *t, const struct mc_topo_want *w)
{
	static const enum mc_topo_link order[] = {MC_TOPO_LINK_INFINIBAND, MC_TOPO_LINK_UNKNOWN, MC_TOPO_LINK_ETHERNET};
	struct fabric f[3] = {{0, 0, 0}};
	uint32_t unknown_n = 0;
	int best = -1;

	for (uint32_t i = 0; i < t->nic_n; i++) {
		const struct mc_topo_nic *n = &t->nic[i];
		if (n->kind != w->kind || !usable(n) || !allowed(t, w->policy, i))
			continue;
		f[n->link].live_n++;
		f[n->link].live_mbps += n->rate_mbps;
		unknown_n += n->rate_mbps == 0;
	}
	for (size_t k = 0; k < MC_ARRAY_LEN(order); k++) {
		if (f[order[k]].live_n == 0)
			continue;
		if (best < 0 || (unknown_n == 0 && f[order[k]].live_mbps > f[best].live_mbps))
			best = (int)order[k];
	}
	return best < 0 ? MC_TOPO_LINK_UNKNOWN : (enum mc_topo_link)best;
}

static uint32_t fastest(const struct mc_topo *t, const struct mc_topo_want *w, enum mc_topo_link link)
{
	uint32_t best = 0;

	for (uint32_t i = 0; i < t->nic_n; i++) {
		const struct mc_topo_nic *n = &t->nic[i];
		if (n->kind == w->kind && usable(n) && allowed(t, w->policy, i) &&
		    (n->link == link || w->kind == MC_TOPO_NETWORK) && n->rate_mbps > best)
			best = n->rate_mbps;
	}
	return best;
}

/* How likely it is that peers are reached through an interface: hardware, then what has the default route, then
 * bridges. */
static uint32_t reach(const struct mc_topo_nic *n)
{
	if (n->kind != MC_TOPO_NETWORK || !n->is_virtual)
		return 3;
	if (n->default_route)
		return 2;
	return n->is_bridge ? 0 : 1;
}

/* ---- the list
 * ------------------------------------------------------------------------------------------------------------ */

static uint32_t score_of(const struct mc_topo_pick *p)
{
	static const uint32_t points[] = {[MC_NEAR_OTHER] = 20, [MC_NEAR_UNKNOWN] = 30,    [MC_NEAR_PACKAGE] = 40,
					  [MC_NEAR_NODE] = 60,  [MC_NEAR_HOSTBRIDGE] = 80, [MC_NEAR_SWITCH] = 100};
	uint32_t s = points[p->near];

	if (p->dead)
		return 0;
	if (p->mapped)
		return 100;
	s -= p->hops > 9 ? 9 : p->hops;
	return p->other_link || p->slow ? s / 4 : s;
}

/*
 * In a file interfaces have no rate; the PCIe link tells the port of the mainboard from the fast one. RDMA ports are
 * left alone: where they have no rate all of them are meant to be used.
 */
static uint32_t pcie_mbps(const struct mc_topo *t, const struct mc_topo_nic *n)
{
	return n->kind == MC_TOPO_NETWORK && n->pci != MC_TOPO_NONE ? t->pci[n->pci].link_mbps : 0;
}

/* Bits of a key below "other link layer": reach, speed class, nearness, hops, link layer, rate. */
enum { KEY_REST = 2 + 1 + 3 + 6 + 2 + 32 };

/* Larger is better; equal keys are equally good. The most significant part decides first. */
static uint64_t key_of(const struct mc_topo *t, const struct mc_topo_pick *p, enum mc_topo_link link)
{
	const struct mc_topo_nic *n = &t->nic[p->nic];
	uint64_t link_part = n->link == link ? 3 : (uint64_t)n->link; /* so that no two layers are equal */
	uint64_t key = !p->dead;

	key = key << 1 | p->mapped;
	key = key << 1 | !p->other_link;
	if (p->mapped && !p->dead) /* the user has decided: all that the override names are equally good */
		return key << KEY_REST | link_part << 32;
	key = key << 2 | reach(n);
	key = key << 1 | !p->slow;
	key = key << 3 | (uint64_t)p->near;
	key = key << 6 | (63 - (p->hops > 63 ? 63 : p->hops));
	key = key << 2 | link_part;
	return key << 32 | (n->rate_mbps != 0 ? n->rate_mbps : pcie_mbps(t, n));
}

static void reason_of(const struct mc_topo *t, const struct mc_topo_want *w, struct mc_topo_pick *p, uint32_t fast)
{
	const struct mc_topo_nic *n = &t->nic[p->nic];
	char *out = p->reason;
	size_t at = 0, len = sizeof(p->reason);

	if (p->mapped)
		mc_topo_append(out, len, &at, "chosen by override, ");
	if (w->buf.kind == MC_TOPO_BUF_ANYWHERE)
		mc_topo_append(out, len, &at, "memory may be anywhere");
	else if (p->near == MC_NEAR_UNKNOWN)
		mc_topo_append(out, len, &at, "place of the NIC unknown");
	else
		mc_topo_append(out, len, &at, "%s", mc_topo_near_text(p->near));
	if (n->kind == MC_TOPO_OPENFABRICS)
		mc_topo_append(out, len, &at, ", port %s", mc_topo_state_name(n->state));
	else if (n->state != MC_TOPO_STATE_UNKNOWN)
		mc_topo_append(out, len, &at, ", interface %s", mc_topo_state_name(n->state));
	if (n->rate_mbps != 0)
		mc_topo_append(out, len, &at, ", %g Gb/s", (double)n->rate_mbps / 1000);
	else if (pcie_mbps(t, n) != 0)
		mc_topo_append(out, len, &at, ", PCIe link %.0f Gb/s", (double)pcie_mbps(t, n) / 1000);
	if (n->no_address)
		mc_topo_append(out, len, &at, ", no IP address");
	if (p->dead)
		mc_topo_append(out, len, &at, ": not used");
	else if (p->other_link && !p->use)
		mc_topo_append(out, len, &at, ", %s: not striped with the other link layer",
			       n->link == MC_TOPO_LINK_UNKNOWN ? "link layer unknown" : mc_topo_link_name(n->link));
	else if (p->slow)
		mc_topo_append(out, len, &at, ": slow beside %g Gb/s", (double)fast / 1000);
	else if (reach(n) < 3)
		mc_topo_append(out, len, &at, ", virtual%s", n->is_bridge ? " bridge" : "");
}

static int pick_cmp(const void *a, const void *b)
{
	const struct mc_topo_pick *x = a, *y = b;

	if (x->key != y->key)
		return x->key > y->key ? -1 : 1;
	return x->nic < y->nic ? -1 : x->nic > y->nic; /* nic[] is in order of PCI ids */
}

static void pick_fill(const struct mc_topo *t, const struct mc_topo_want *w, enum mc_topo_link link, uint32_t fast,
		      struct mc_topo_pick *p)
{
	const struct mc_topo_nic *n = &t->nic[p->nic];
	struct mc_topo_loc from = mc_topo_buf_loc(t, &w->buf);

	p->near = near_of(&from, &n->loc);
	if (p->near == MC_NEAR_SWITCH) {
		uint32_t common = common_path(&from, &n->loc);
		p->hops = from.path_n - common + n->loc.path_n - common;
	}
	p->dead = !usable(n);
	p->mapped = mapped(w->policy, &w->buf, p->nic);
	/* TCP gets anywhere over either; there the link layer only keeps equally near ones apart. */
	p->other_link = !p->dead && w->kind == MC_TOPO_OPENFABRICS && n->link != link;
	p->slow = !p->dead && !p->other_link && n->rate_mbps != 0 && n->rate_mbps <= fast / 4;
	p->key = key_of(t, p, link);
	p->score = score_of(p);
}

/*
 * Ranks of one host begin at different NICs of the best tier, each `part` of them after the one before. The shift by
 * r / m makes that hold also for every m-th rank, as when ranks are dealt out over the sockets in turn.
 */
static bool rotate(struct mc_topo_pick *pick, uint32_t n, uint32_t part, uint32_t local_rank)
{
	uint32_t m = (n + part - 1) / part; /* ranks until all are used */
	uint32_t by = (uint32_t)((uint64_t)part * ((local_rank % m + local_rank / m % m) % m) % n);
	struct mc_topo_pick *old;

	if (n < 2 || by == 0)
		return true;
	old = malloc(n * sizeof(*old));
	if (old == NULL)
		return false;
	memcpy(old, pick, n * sizeof(*old));
	for (uint32_t i = 0; i < n; i++)
		pick[i] = old[(i + by) % n];
	free(old);
	return true;
}

static void set_note(const struct mc_topo *t, const struct mc_topo_want *w, struct mc_topo_choice *c)
{
	const char *what = w->kind == MC_TOPO_OPENFABRICS ? "RDMA port" : "network interface";
	size_t at = 0;

	if (c->n == 0)
		mc_topo_append(c->note, sizeof(c->note), &at, "no %s%s", what,
			       w->policy != NULL && (w->policy->include != NULL || w->policy->exclude != NULL)
				       ? " that is allowed"
				       : "");
	else if (c->use_n == 0)
		mc_topo_append(c->note, sizeof(c->note), &at, "no live %s: all %u are down", what, c->n);
	for (uint32_t i = 0; i < c->n; i++) {
		char name[MC_TOPO_NAME_MAX + 8];
		const struct mc_topo_pick *p = &c->pick[i];
		if (!p->dead || (!p->mapped && p->near <= c->pick[0].near))
			continue;
		mc_topo_nic_text(&t->nic[p->nic], name, sizeof(name));
		mc_topo_append(c->note, sizeof(c->note), &at, "%s%s is %s and %s", at > 0 ? "; " : "", name,
			       mc_topo_state_name(t->nic[p->nic].state),
			       p->mapped ? "not used in spite of the override" : "would be nearer");
	}
}

mc_status_t mc_topo_choose(const struct mc_topo *t, const struct mc_topo_want *w, struct mc_topo_choice *out)
{
	struct mc_topo_choice c = {.pick = NULL};
	enum mc_topo_link link = best_link(t, w);
	uint32_t fast = fastest(t, w, link), tie = 0, part;

	for (uint32_t i = 0; i < t->nic_n; i++) {
		struct mc_topo_pick *p;
		if (t->nic[i].kind != w->kind || (!allowed(t, w->policy, i) && !mapped(w->policy, &w->buf, i)))
			continue;
		p = mc_topo_push(&c.pick, &c.n, sizeof(*p));
		if (p == NULL)
			goto undo_picks;
		p->nic = i;
		pick_fill(t, w, link, fast, p);
	}
	if (c.n > 1)
		qsort(c.pick, c.n, sizeof(*c.pick), pick_cmp);
	for (uint32_t i = 1; i < c.n; i++)
		c.pick[i].tier = c.pick[i - 1].tier + (c.pick[i].key != c.pick[i - 1].key);
	while (tie < c.n && !c.pick[tie].dead && c.pick[tie].tier == 0)
		tie++;
	part = w->sharers > 1 ? (tie + w->sharers - 1) / w->sharers : tie;
	if (w->use_max > 0 && w->use_max < part)
		part = w->use_max;
	if (tie > 0 && !rotate(c.pick, tie, part < tie ? part : 1, w->local_rank))
		goto undo_picks;
	/* Bytes of a TCP connection go through one interface; more than one means more connections, and the caller asks
	 * for it. */
	c.use_n = part;
	for (uint32_t i = 0; i < c.use_n; i++)
		c.pick[i].use = true;
	for (uint32_t i = 0; i < c.n; i++)
		reason_of(t, w, &c.pick[i], fast);
	set_note(t, w, &c);
	*out = c;
	return MC_OK;
undo_picks:
	free(c.pick);
	return MC_ERR_NOMEM;
}

void mc_topo_choice_free(struct mc_topo_choice *c)
{
	if (c == NULL)
		return;
	free(c->pick);
	memset(c, 0, sizeof(*c));
}

bool mc_topo_choice_devices(const struct mc_topo *t, const struct mc_topo_choice *c, char *out, size_t len)
{
	size_t at = 0;

	if (len == 0)
		return false;
	out[0] = '\0';
	for (uint32_t i = 0; i < c->use_n; i++) {
		char name[MC_TOPO_NAME_MAX + 8];
		mc_topo_nic_text(&t->nic[c->pick[i].nic], name, sizeof(name));
		if (at + strlen(name) + 2 > len)
			return false;
		mc_topo_append(out, len, &at, "%s%s", i > 0 ? "," : "", name);
	}
	return true;
}

mc_status_t mc_topo_choose_all(const struct mc_topo *t, const struct mc_topo_show *show, const struct mc_topo_buf *buf,
			       struct mc_topo_choice *out)
{
	struct mc_topo_want w = {.kind = MC_TOPO_OPENFABRICS, .buf = *buf};
	struct mc_topo_choice part[2], c = {.pick = NULL};
	uint32_t tier = 0, last = 0;
	mc_status_t s;

	w.policy = show->policy;
	w.local_rank = show->local_rank;
	w.use_max = show->use_max;
	s = mc_topo_choose(t, &w, &part[0]);
	if (s != MC_OK)
		return s;
	w.kind = MC_TOPO_NETWORK;
	s = mc_topo_choose(t, &w, &part[1]);
	if (s != MC_OK)
		goto undo_first;
	c.pick = calloc((size_t)part[0].n + part[1].n + 1, sizeof(*c.pick));
	if (c.pick == NULL) {
		s = MC_ERR_NOMEM;
		goto undo_second;
	}
	for (int dead = 0; dead < 2; dead++) {
		for (int k = 0; k < 2; k++) {
			bool first = true;
			for (uint32_t i = 0; i < part[k].n; i++) {
				if (part[k].pick[i].dead != (dead == 1))
					continue;
				if (c.n > 0 && (first || part[k].pick[i].tier != last))
					tier++;
				first = false;
				last = part[k].pick[i].tier;
				c.pick[c.n] = part[k].pick[i];
				c.pick[c.n++].tier = tier;
			}
		}
	}
	c.use_n = part[0].use_n > 0 ? part[0].use_n : part[1].use_n;
	if (c.n == 0)
		mc_topo_copy(c.note, sizeof(c.note), "no RDMA port and no network interface");
	else
		mc_topo_copy(c.note, sizeof(c.note), part[part[0].n > 0 ? 0 : 1].note);
	*out = c;
undo_second:
	mc_topo_choice_free(&part[1]);
undo_first:
	mc_topo_choice_free(&part[0]);
	return s;
}

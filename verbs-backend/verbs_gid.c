/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_gid.c - which entry of a port's GID table to use, by rule. Pure. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "verbs_pure.h"

bool mc_vb_gid_is_ipv4(const uint8_t raw[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(raw, mapped, sizeof(mapped)) == 0;
}

void mc_vb_gid_text(const uint8_t raw[16], char *out, size_t len)
{
	bool v4 = mc_vb_gid_is_ipv4(raw);

	if (inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? raw + 12 : raw, out, (socklen_t)len) == NULL)
		snprintf(out, len, "?");
}

/* 0: not usable. A routed address survives a way over routers, a link-local one does not leave the segment. */
static uint32_t score(const struct vb_gid *g)
{
	static const uint8_t none[16];
	uint32_t v;

	if (memcmp(g->raw, none, sizeof(none)) == 0)
		return 0;
	if (mc_vb_gid_is_ipv4(g->raw))
		v = g->raw[12] == 169 && g->raw[13] == 254 ? 2 : 4;
	else if (g->raw[0] == 0xfe && (g->raw[1] & 0xc0) == 0x80)
		v = 1;
	else
		v = 3;
	return v + (g->type == VB_GID_ROCE2 ? 8 : 0);
}

static const char *reason(uint32_t v)
{
	static const char *const text[] = {"none", "RoCE v2, link-local IPv6: there is nothing better",
					   "RoCE v2, link-local IPv4: there is nothing better",
					   "RoCE v2, routable IPv6", "RoCE v2, IPv4"};

	return v <= 8 ? "RoCE v1 only: does not pass routers" : text[v - 8];
}

uint32_t mc_vb_gid_choose(const struct vb_gid *g, uint32_t n, uint32_t want, const char **why_out)
{
	uint32_t best = UINT32_MAX, best_score = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t v = score(&g[i]);
		if (want != UINT32_MAX && g[i].index != want)
			continue;
		if (v > best_score) {
			best = i;
			best_score = v;
		}
	}
	*why_out = want != UINT32_MAX ? "asked for by MC_VERBS_GID" : reason(best_score);
	if (best == UINT32_MAX)
		*why_out = want != UINT32_MAX ? "MC_VERBS_GID names an empty entry" : "no entry with an address";
	return best;
}

bool mc_vb_same_subnet(const struct vb_port *a, const struct vb_port *b)
{
	uint32_t bits = a->prefix < b->prefix ? a->prefix : b->prefix;

	if (a->layer != b->layer || bits > 128)
		return false;
	if (memcmp(a->gid, b->gid, bits / 8) != 0)
		return false;
	return bits % 8 == 0 || ((a->gid[bits / 8] ^ b->gid[bits / 8]) >> (8 - bits % 8)) == 0;
}

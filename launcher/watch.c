/* SPDX-License-Identifier: BSD-3-Clause */
/* watch.c - read the counters. */
#include "watch.h"
#include "rdmacg.h"
#include "sysparse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IB  "/sys/class/infiniband"
#define NET "/sys/class/net"

enum { ITEM_MAX = 16384 };

static const char *const error_word[] = {"err",        "discard", "drop",    "symbol",  "downed",  "out_of_sequence",
					 "retry",      "nak",     "timeout", "retrans", "overrun", "recovery",
					 "alloc_fail", "missed",  "fifo",    "wait"};

/* port_xmit_wait is a pause of the sender, not a loss, but the sign of a congested fabric all the same. */
static bool is_error(const char *name)
{
	for (size_t i = 0; i < sizeof(error_word) / sizeof(error_word[0]); i++)
		if (strstr(name, error_word[i]) != NULL)
			return true;
	return false;
}

static void add(struct mc_watch *w, const char *who, const char *name, uint64_t value, uint32_t unit, bool level)
{
	if (w->n >= ITEM_MAX)
		return;
	if ((w->n & (w->n - 1)) == 0)
		w->item = mc_xgrow(w->item, w->n == 0 ? 1 : (size_t)w->n * 2, sizeof(*w->item));
	struct mc_watch_item *i = &w->item[w->n++];
	*i = (struct mc_watch_item){.value = value, .unit = unit, .level = level, .error = !level && is_error(name)};
	(void)snprintf(i->who, sizeof(i->who), "%s", who);
	(void)snprintf(i->name, sizeof(i->name), "%s", name);
	mc_text_clean(i->who);
	mc_text_clean(i->name);
}

static uint32_t unit_of(const char *name)
{
	if (strcmp(name, "port_xmit_data") == 0 || strcmp(name, "port_rcv_data") == 0)
		return 4;
	return strstr(name, "bytes") != NULL ? 1 : 0;
}

static void read_dir(struct mc_sysroot *root, struct mc_watch *w, const char *who, const char *dir)
{
	struct mc_strv names = {0};
	char text[64];
	uint64_t v;

	(void)mc_sysroot_list(root, dir, &names);
	for (size_t i = 0; i < names.n; i++) {
		if (strcmp(names.v[i], "lifespan") == 0) /* how old values may be, no counter */
			continue;
		if (mc_sysroot_readf(root, text, sizeof(text), "%s/%s", dir, names.v[i]) == 0 && mc_sys_u64(text, &v))
			add(w, who, names.v[i], v, unit_of(names.v[i]), false);
	}
	mc_strv_free(&names);
}

static void read_ports(struct mc_sysroot *root, struct mc_watch *w)
{
	struct mc_strv devs = {0};

	(void)mc_sysroot_list(root, IB, &devs);
	for (size_t i = 0; i < devs.n && i < 256; i++) {
		struct mc_strv ports = {0};
		char *dir = mc_xformat(IB "/%s/ports", devs.v[i]);

		(void)mc_sysroot_list(root, dir, &ports);
		for (size_t k = 0; k < ports.n && k < 256; k++) {
			char *who = mc_xformat("%.60s:%.8s", devs.v[i], ports.v[k]);
			char *a = mc_xformat("%s/%s/counters", dir, ports.v[k]),
			     *b = mc_xformat("%s/%s/hw_counters", dir, ports.v[k]);

			read_dir(root, w, who, a);
			read_dir(root, w, who, b);
			free(who);
			free(a);
			free(b);
		}
		mc_strv_free(&ports);
		free(dir);
	}
	mc_strv_free(&devs);
}

static void read_interfaces(struct mc_sysroot *root, struct mc_watch *w)
{
	static const char *const names[] = {"rx_bytes",  "tx_bytes",   "rx_packets", "tx_packets",      "rx_errors",
					    "tx_errors", "rx_dropped", "tx_dropped", "rx_missed_errors"};
	struct mc_strv nets = {0};
	char text[64];
	uint64_t v;

	(void)mc_sysroot_list(root, NET, &nets);
	for (size_t i = 0; i < nets.n; i++)
		for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
			if (mc_sysroot_readf(root, text, sizeof(text), NET "/%s/statistics/%s", nets.v[i], names[k]) ==
				    0 &&
			    mc_sys_u64(text, &v))
				add(w, nets.v[i], names[k], v, unit_of(names[k]), false);
	mc_strv_free(&nets);
}

static void read_cgroup(struct mc_sysroot *root, struct mc_watch *w)
{
	struct mc_rdmacg g;

	mc_rdmacg_read(root, &g);
	/* the own cgroup alone: those above contain it */
	for (uint32_t k = 0; g.level_n > 0 && k < g.level[0].use_n; k++) {
		const struct mc_rdmacg_use *u = &g.level[0].use[k];
		char who[80];

		(void)snprintf(who, sizeof(who), "cgroup %s", u->dev);
		add(w, who, "hca_handle", u->handle, 0, true);
		add(w, who, "hca_object", u->object, 0, true);
		if (u->max_handle < MC_RDMACG_NONE)
			add(w, who, "hca_handle_max", u->max_handle, 0, true);
		if (u->max_object < MC_RDMACG_NONE)
			add(w, who, "hca_object_max", u->max_object, 0, true);
		add(w, who, "alloc_fail", u->event_fail, 0, false);
	}
	mc_rdmacg_free(&g);
}

void mc_watch_read(struct mc_sysroot *root, struct mc_watch *out)
{
	*out = (struct mc_watch){.at_ns = mc_now_ns()};
	read_ports(root, out);
	read_interfaces(root, out);
	read_cgroup(root, out);
}

void mc_watch_free(struct mc_watch *w)
{
	free(w->item);
	*w = (struct mc_watch){.n = 0};
}

const struct mc_watch_item *mc_watch_same(const struct mc_watch *w, const struct mc_watch_item *i, uint32_t index)
{
	for (uint32_t n = 0; n < w->n; n++) {
		const struct mc_watch_item *k = &w->item[(index + n) % w->n];

		if (strcmp(k->name, i->name) == 0 && strcmp(k->who, i->who) == 0)
			return k;
	}
	return NULL;
}

uint64_t mc_watch_delta(const struct mc_watch_item *before, const struct mc_watch_item *now)
{
	return now->value < before->value ? 0 : now->value - before->value;
}

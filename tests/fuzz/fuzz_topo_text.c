/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_topo_text.c - any bytes as each text of sysfs and /proc that topology/ reads: false, or a value within its
 * bounds. */
#include <stdlib.h>
#include <string.h>

#include "topo.h"
#include "topo_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIST_MAX = 4096 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void number(void *arg, uint32_t value)
{
	must(value < LIST_MAX);
	(*(uint64_t *)arg)++;
}

static void interface(void *arg, const char *name, bool is_default, uint64_t network)
{
	size_t n = strlen(name);

	(void)is_default;
	(void)network;
	must(n > 0 && n < MC_TOPO_NAME_MAX);
	(*(uint64_t *)arg)++;
}

static void check_words(const char *s, size_t len)
{
	char small[4] = "abc", busid[24] = "", again[24];
	enum mc_topo_state st = MC_TOPO_STATE_UNKNOWN;
	enum mc_topo_link link = MC_TOPO_LINK_UNKNOWN;
	enum mc_topo_gid_type type = MC_TOPO_GID_UNKNOWN;

	if (mc_topo_parse_word(s, len, small, sizeof(small)))
		must(strlen(small) > 0 && strlen(small) < sizeof(small));
	else
		must(strcmp(small, "abc") == 0);
	if (mc_topo_parse_phys_state(s, len, small, sizeof(small)))
		must(strlen(small) < sizeof(small));
	if (mc_topo_parse_state(s, len, &st))
		must((uint32_t)st <= MC_TOPO_STATE_ACTIVE_DEFER);
	if (mc_topo_parse_operstate(s, len, &st))
		must((uint32_t)st <= MC_TOPO_STATE_UP);
	if (mc_topo_parse_link(s, len, &link))
		must((uint32_t)link <= MC_TOPO_LINK_ETHERNET);
	if (mc_topo_parse_gid_type(s, len, &type))
		must((uint32_t)type <= MC_TOPO_GID_V2);
	/* what was made uniform stays as it is */
	if (mc_topo_parse_busid(s, len, busid))
		must(mc_topo_parse_busid(busid, strlen(busid), again) && strcmp(busid, again) == 0);
}

static void check_numbers(const char *s, size_t len)
{
	uint64_t u = 0, n = 0;
	uint32_t mbps = 0;
	int64_t i = 0;
	uint8_t gid[16];

	/* both readers agree on what both take */
	if (mc_topo_parse_i64(s, len, &i) && mc_topo_parse_u64(s, len, &u))
		must(i >= 0 && (uint64_t)i == u);
	mc_topo_parse_rate(s, len, &mbps);
	mc_topo_parse_gid(s, len, gid);
	mc_topo_parse_list(s, len, LIST_MAX, number, &n);
	n = 0;
	mc_topo_parse_route(s, len, interface, &n);
	mc_topo_parse_inet6(s, len, interface, &n);
	must(n <= len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_words((const char *)data, size);
	check_numbers((const char *)data, size);
	return 0;
}

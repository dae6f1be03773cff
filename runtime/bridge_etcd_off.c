/* SPDX-License-Identifier: BSD-3-Clause */
/* bridge_etcd_off.c - in place of the etcd bridge where the build has no libcurl or json-c: who asks for it is told. */
#include "bridge.h"
#include "log.h"

static mc_status_t off_open(const struct mc_bridge_cfg *cfg, struct mc_bridge **bridge_out, int *event_fd_out)
{
	(void)bridge_out;
	(void)event_fd_out;
	if (cfg->config->etcd[0] == '\0')
		return MC_ERR_UNSUPPORTED;
	mc_error("MC_ETCD=%s is not possible: this libmc was built without libcurl or json-c (cmake -DMC_WITH_CURL=ON "
		 "-DMC_WITH_JSON=ON)",
		 cfg->config->etcd);
	return MC_ERR_CONFIG;
}

/* Never called: there is no bridge to call them with. */
static mc_status_t off_publish(struct mc_bridge *bridge, const void *record, uint32_t len, const char *info)
{
	(void)bridge;
	(void)record;
	(void)len;
	(void)info;
	return MC_ERR_UNSUPPORTED;
}

static mc_status_t off_next(struct mc_bridge *bridge, struct mc_bridge_event *ev)
{
	(void)bridge;
	(void)ev;
	return MC_ERR_AGAIN;
}

static void off_close(struct mc_bridge *bridge)
{
	(void)bridge;
}

const struct mc_bridge_ops mc_bridge_etcd = {
	.abi = MC_BRIDGE_ABI,
	.size = sizeof(struct mc_bridge_ops),
	.name = "etcd",
	.open = off_open,
	.publish = off_publish,
	.next = off_next,
	.close = off_close,
};

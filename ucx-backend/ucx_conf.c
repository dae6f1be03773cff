/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_conf.c - from our settings to a UCX context: transports, devices, tuning; and why there is none. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ucx.h"

extern char **environ;

/* What UCX has of settings, from wherever: lines NAME=VALUE, of UCP's alone. NULL: unknown. */
static char *settings_text(const ucp_config_t *config)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	if (f == NULL)
		return NULL;
	ucp_config_print(config, f, "", UCS_CONFIG_PRINT_CONFIG);
	if (fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}

static bool differs(const char *settings, const char *name, const char *value)
{
	size_t len = strlen(name), value_len = strlen(value);

	for (const char *at = settings; at != NULL && *at != '\0'; at = strchr(at, '\n'), at += at != NULL)
		if (strncmp(at, name, len) == 0 && at[len] == '=')
			return strcspn(at + len + 1, "\n") != value_len || strncmp(at + len + 1, value, value_len) != 0;
	return false;
}

/*
 * Has the user set it, so that we do not overrule him? UCX takes its settings from the environment and from files
 * (ucx.conf in the working directory, $UCX_CONFIG_DIR, $HOME and where UCX is installed). Of those of UCP it tells
 * what it has, so a value that is not its default is the user's. Of those of its transports (TCP_..., POSIX_...) and
 * of its base (LOG_LEVEL) it tells nothing without opening them by hand: there only the environment is seen, and ours
 * overrule a file's.
 */
static bool user_set(const char *settings, const char *name)
{
	static const char *const ucp[][2] = {{"UCX_TLS", "all"},
					     {"UCX_NET_DEVICES", "all"},
					     {"UCX_PROTO_ENABLE", "n"},
					     {"UCX_RESOLVE_REMOTE_EP_ID", "off"}};
	size_t len = strlen(name);

	for (char **v = environ; v != NULL && *v != NULL; v++)
		if (strncmp(*v, name, len) == 0 && (*v)[len] == '=')
			return true;
	for (size_t i = 0; i < MC_ARRAY_LEN(ucp); i++)
		if (strcmp(name, ucp[i][0]) == 0)
			return differs(settings, name, ucp[i][1]);
	return false;
}

/*
 * Only UCX before 1.14 needs it (ucx_meet.c), and not all that can be set goes with it: its new protocols (1.13.1)
 * write past an array of theirs when they send a header and ask for a reply, as OPEN does.
 */
static bool wants_calm(const char *settings)
{
	static const char *const against[] = {"UCX_PROTO_ENABLE", "UCX_RESOLVE_REMOTE_EP_ID", "UCX_TCP_TX_SEG_SIZE",
					      "UCX_TCP_MAX_IOV"};
	unsigned major, minor, release;

	for (size_t i = 0; i < MC_ARRAY_LEN(against); i++)
		if (user_set(settings, against[i]))
			return false;
	ucp_get_version(&major, &minor, &release);
	return major == 1 && minor < 14;
}

/*
 * Our defaults. key: as ucp_config_modify() wants it, env: the variable that overrules it.
 * MM_ERROR_HANDLING: without it UCX will not use shared memory on connections that must survive a peer's death.
 * SEG_SIZE: UCX cuts what goes over TCP into pieces of 8 and 64 KiB and puts them together in fresh memory at the other
 * end. With room for a whole packed message the pieces go away, and with them a third of the receiver's processor time.
 * RESOLVE_REMOTE_EP_ID: UCX's handshake begins when ucx_meet.c wants it.
 * LOG_LEVEL: a peer's death makes UCX print errors; we report it ourselves.
 */
static const struct {
	const char *key, *env, *value;
	uint32_t transports; /* only where one of these is allowed */
} defaults[] = {
	{"LOG_LEVEL", "UCX_LOG_LEVEL", "fatal", MC_TP_SHM | MC_TP_TCP | MC_TP_RDMA},
	{"TX_SEG_SIZE", "UCX_TCP_TX_SEG_SIZE", "64k", MC_TP_TCP},
	{"RX_SEG_SIZE", "UCX_TCP_RX_SEG_SIZE", "1088k", MC_TP_TCP},
	{"RESOLVE_REMOTE_EP_ID", "UCX_RESOLVE_REMOTE_EP_ID", "n", MC_TP_SHM | MC_TP_TCP | MC_TP_RDMA},
	{"MM_ERROR_HANDLING", "UCX_POSIX_ERROR_HANDLING", "y", MC_TP_SHM},
};

static void tls_list(uint32_t transports, char *out, size_t len)
{
	snprintf(out, len, "%s%s%s", transports & MC_TP_TCP ? "tcp," : "", transports & MC_TP_RDMA ? "ib," : "",
		 transports & MC_TP_SHM ? "posix,cma,knem,xpmem,self," : "");
	if (out[0] != '\0')
		out[strlen(out) - 1] = '\0';
}

/* Append "name" or "name:port" for each entry of a folder in /sys/class. */
static void list_devices(const char *path, char *out, size_t len)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		size_t used = strlen(out);
		if (e->d_name[0] != '.' && used + strlen(e->d_name) + 3 < len)
			snprintf(out + used, len - used, "%s%.200s", used > 0 ? ", " : "", e->d_name);
	}
	if (d != NULL)
		closedir(d);
}

/*
 * What the engine chose, as UCX wants it: "mlx5_0:1,eth0,lo". Loopback stays, for peers on this host; the choice is
 * about the network. false: does not fit.
 */
static bool nic_list(const struct mc_be_cfg *cfg, char *out, size_t room)
{
	size_t at = 0;

	out[0] = '\0';
	for (uint32_t i = 0; i < cfg->nic_n && at < room; i++) {
		const struct mc_be_nic *nic = &cfg->nic[i];
		const char *comma = at > 0 ? "," : "";
		if (!(nic->use || nic->apart) || (cfg->transports & (nic->port > 0 ? MC_TP_RDMA : MC_TP_TCP)) == 0)
			continue;
		if (nic->port > 0)
			at += (size_t)snprintf(out + at, room - at, "%s%s:%u", comma, nic->name, nic->port);
		else
			at += (size_t)snprintf(out + at, room - at, "%s%s", comma, nic->name);
	}
	if (at < room && !cfg->nic_named && (cfg->transports & MC_TP_TCP))
		at += (size_t)snprintf(out + at, room - at, "%slo", at > 0 ? "," : "");
	return at < room;
}

struct conf {
	ucp_config_t *ucp;
	char *settings; /* settings_text(), before we changed any */
};

static mc_status_t modify(struct conf *config, const char *key, const char *env, const char *value, char *why,
			  size_t why_len)
{
	ucs_status_t st;

	if (user_set(config->settings, env))
		return MC_OK;
	st = ucp_config_modify(config->ucp, key, value);
	if (st == UCS_OK)
		return MC_OK;
	snprintf(why, why_len, "UCX does not take %s=%s: %s", env, value, ucs_status_string(st));
	return MC_ERR_UNSUPPORTED;
}

/* Where all that works is to be used UCX finds it by itself. */
static mc_status_t devices_fill(struct conf *config, const struct mc_be_cfg *cfg, char *why, size_t why_len)
{
	char list[MC_BE_NIC_MAX * 72];

	if (user_set(config->settings, "UCX_NET_DEVICES")) {
		mc_info("ucx: rank %u: UCX_NET_DEVICES is set, so mc does not choose NICs", cfg->rank);
		return MC_OK;
	}
	if (!cfg->nic_narrow || (cfg->transports & (MC_TP_TCP | MC_TP_RDMA)) == 0)
		return MC_OK;
	if (!nic_list(cfg, list, sizeof(list)) || list[0] == '\0') {
		snprintf(why, why_len, "of the NICs that MC_DEVICE allows none works [port-state, see mcinfo doctor]");
		return cfg->transports & MC_TP_SHM ? MC_OK : MC_ERR_UNSUPPORTED;
	}
	mc_debug("ucx: rank %u: UCX_NET_DEVICES=%s", cfg->rank, list);
	return modify(config, "NET_DEVICES", "UCX_NET_DEVICES", list, why, why_len);
}

static mc_status_t config_fill(struct conf *config, const struct mc_be_cfg *cfg, char *why, size_t why_len)
{
	const uint32_t all = MC_TP_SHM | MC_TP_TCP | MC_TP_RDMA;
	mc_status_t s = MC_OK;
	char tls[128];

	tls_list(cfg->transports, tls, sizeof(tls));
	if ((cfg->transports & all) != all)
		s = modify(config, "TLS", "UCX_TLS", tls, why, why_len);
	if (s == MC_OK)
		s = devices_fill(config, cfg, why, why_len);
	for (size_t i = 0; s == MC_OK && i < MC_ARRAY_LEN(defaults); i++)
		if (defaults[i].transports & cfg->transports)
			s = modify(config, defaults[i].key, defaults[i].env, defaults[i].value, why, why_len);
	/* UCX's default: with 1 in a file, which we would not see, no HELLO gets through. CMA has such a key, too. */
	if (s == MC_OK && (cfg->transports & (MC_TP_TCP | MC_TP_SHM)) == MC_TP_TCP)
		s = modify(config, "MAX_IOV", "UCX_TCP_MAX_IOV", "6", why, why_len);
	return s;
}

/* Nothing to work with: what is missing for the transports that were asked for. */
static void explain_none(uint32_t transports, ucs_status_t st, char *why, size_t why_len)
{
	char devices[256] = "";

	if (transports != MC_TP_RDMA) {
		snprintf(why, why_len,
			 "UCX finds no usable device: %s; is UCX_TLS or UCX_NET_DEVICES set? [%s, see mcinfo doctor]",
			 ucs_status_string(st), transports == MC_TP_SHM ? "dev-shm" : "tcp-interface");
		return;
	}
	list_devices("/sys/class/infiniband", devices, sizeof(devices));
	if (devices[0] == '\0')
		snprintf(why, why_len,
			 "no RDMA device on this host: /sys/class/infiniband is empty or missing "
			 "[rdma-device, see mcinfo doctor]");
	else if (access("/dev/infiniband", F_OK) != 0)
		snprintf(why, why_len,
			 "RDMA devices %s exist, but /dev/infiniband is not here: give it to the container "
			 "[device-nodes, see mcinfo doctor]",
			 devices);
	else
		snprintf(why, why_len,
			 "RDMA devices %s cannot be used by UCX (%s): is a port up, /dev/infiniband readable? "
			 "[port-state, see mcinfo doctor]",
			 devices, ucs_status_string(st));
}

/* UCX tells what it uses only as text: lines "resource 0 : md 0 dev 0 flags -- tcp/lo". */
static void resources_read(struct mc_be *be, int rma, bool calm)
{
	char *text = NULL, *save = NULL;
	size_t size = 0, used = 0;
	FILE *f = open_memstream(&text, &size);
	bool cma = false, tcp = true;

	if (f == NULL)
		return;
	ucp_context_print_info(be->ctx, f);
	if (fclose(f) != 0 || text == NULL)
		return;
	for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		char *name = strstr(line, " -- ");
		if (name == NULL || strstr(line, "resource") == NULL)
			continue;
		name += 4;
		cma |= strncmp(name, "cma/", 4) == 0;
		tcp &= strncmp(name, "tcp/", 4) == 0;
		if (strncmp(name, "rc_", 3) == 0 || strncmp(name, "dc_", 3) == 0 || strncmp(name, "ud_", 3) == 0)
			be->addr_flags |= UCX_ADDR_RDMA;
		if (used + strlen(name) + 2 < sizeof(be->text))
			used += (size_t)snprintf(be->text + used, sizeof(be->text) - used, "%s%s", used > 0 ? " " : "",
						 name);
	}
	free(text);
	if (tcp && used > 0 && calm)
		be->addr_flags |= UCX_ADDR_CALM;
	mc_debug("ucx: rank %u: UCX %s with %s: meets peers %s", be->rank, ucp_get_version_string(), be->text,
		 be->addr_flags & UCX_ADDR_CALM ? "calmly" : "as UCX does");
	be->copies = !(be->addr_flags & UCX_ADDR_RDMA);
	/* Over shared memory nothing would check the addresses of a put, so only who asks for it gets it. */
	bool rdma = (be->addr_flags & UCX_ADDR_RDMA) != 0;
	if ((rdma && rma != MC_UCX_RMA_NO) || (cma && be->shm && rma == MC_UCX_RMA_YES))
		be->flags |= MC_CAP_RMA | MC_CAP_POST_MSG;
}

mc_status_t mc_ucx_context_open(struct mc_be *be, const struct mc_be_cfg *cfg, char *why, size_t why_len)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS,
		.features = UCP_FEATURE_AM | UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP,
		.estimated_num_eps = cfg->size,
	};
	struct conf config = {NULL, NULL};
	bool calm;
	ucs_status_t st;
	mc_status_t s;

	if ((cfg->transports & (MC_TP_SHM | MC_TP_TCP | MC_TP_RDMA)) == 0) {
		snprintf(why, why_len, "no transport is allowed");
		return MC_ERR_UNSUPPORTED;
	}
	st = ucp_config_read(NULL, NULL, &config.ucp);
	if (st != UCS_OK) {
		snprintf(why, why_len, "UCX does not accept its environment (UCX_*) or a ucx.conf: %s",
			 ucs_status_string(st));
		return MC_ERR_UNSUPPORTED;
	}
	config.settings = settings_text(config.ucp);
	calm = wants_calm(config.settings);
	s = config_fill(&config, cfg, why, why_len);
	if (s == MC_OK) {
		st = ucp_init(&params, config.ucp, &be->ctx);
		if (st != UCS_OK) {
			s = MC_ERR_UNSUPPORTED;
			explain_none(cfg->transports, st, why, why_len);
		}
	}
	free(config.settings);
	ucp_config_release(config.ucp);
	if (s != MC_OK)
		return s;
	be->shm = cfg->transports == MC_TP_SHM;
	resources_read(be, cfg->config->ucx_rma, calm);
	return MC_OK;
}

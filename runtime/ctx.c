/* SPDX-License-Identifier: BSD-3-Clause */
/* ctx.c - a context's life: settings, rendezvous, backends, peers, progress; and the way back. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "foreign.h"
#include "kv_priv.h"
#include "nic.h"

enum { GOODBYE_NS = 500000000 };

static const char *const backend_name[] = {"auto", "shm", "ucx", "loop", "verbs"};

static uint64_t hash_bytes(uint64_t h, const void *p, size_t len)
{
	const uint8_t *b = p;
	for (size_t i = 0; i < len; i++)
		h = (h ^ b[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
	return h;
}

/* Two processes are on one "host" if they share kernel, network namespace and host name. */
static uint64_t host_identity(const char *host)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	char boot[64];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = read(fd, boot, sizeof(boot));
		if (n > 0)
			h = hash_bytes(h, boot, (size_t)n);
		close(fd);
	}
	struct stat st;
	if (stat("/proc/self/ns/net", &st) == 0)
		h = hash_bytes(h, &st.st_ino, sizeof(st.st_ino));
	return hash_bytes(h, host, strlen(host));
}

static mc_status_t apply_params(struct mc_config *cfg, const struct mc_params *p)
{
	char err[256];
	const struct {
		const char *name, *value;
	} set[] = {{"MC_ROLE", p->role},
		   {"MC_BACKEND", p->backend},
		   {"MC_TRANSPORT", p->transport},
		   {"MC_PROGRESS", p->progress}};
	for (size_t i = 0; i < MC_ARRAY_LEN(set); i++) {
		if (set[i].value != NULL && mc_config_set(cfg, set[i].name, set[i].value, err, sizeof(err)) != MC_OK) {
			mc_error("mc_init: %s", err);
			return MC_ERR_CONFIG;
		}
	}
	if (p->init_timeout_ns != 0)
		cfg->init_timeout = p->init_timeout_ns;
	return MC_OK;
}

static mc_status_t load_settings(struct mc_ctx *ctx, const struct mc_params *p)
{
	char err[512];
	mc_status_t s = mc_config_load(&ctx->cfg, err, sizeof(err));
	if (s != MC_OK) {
		mc_error("mc_init: %s", err);
		return s;
	}
	if (p != NULL) {
		s = apply_params(&ctx->cfg, p);
		if (s != MC_OK)
			return s;
	}
	mc_log_set_level((enum mc_log_level)ctx->cfg.log);
	ctx->manual = ctx->cfg.progress == MC_PROGRESS_MANUAL;
	const char *role = ctx->cfg.role[0] != '\0' ? ctx->cfg.role : "none";
	if (strlen(role) >= sizeof(ctx->role)) {
		mc_error("mc_init: role '%s' is longer than %zu bytes (MC_ROLE)", role, sizeof(ctx->role) - 1);
		return MC_ERR_CONFIG;
	}
	memcpy(ctx->role, role, strlen(role) + 1);
	if (ctx->cfg.host[0] != '\0')
		snprintf(ctx->host, sizeof(ctx->host), "%s", ctx->cfg.host);
	else if (gethostname(ctx->host, sizeof(ctx->host)) != 0)
		memcpy(ctx->host, "unknown", sizeof("unknown"));
	ctx->host[sizeof(ctx->host) - 1] = '\0';
	ctx->host_id = host_identity(ctx->host);
	return mc_mac_key_parse(ctx->cfg.job_key, &ctx->key);
}

static mc_status_t open_boot(struct mc_ctx *ctx, const struct mc_params *p)
{
	struct mc_boot_cfg bc = {.config = &ctx->cfg};
	if (p != NULL) {
		bc.hub = p->hub;
		bc.rank = p->rank;
	}
	for (uint32_t i = 0; mc_builtin_boots[i] != NULL; i++) {
		const struct mc_boot_ops *ops = mc_builtin_boots[i];
		mc_status_t s = ops->open(&bc, &ctx->boot, &ctx->boot_info);
		if (s == MC_ERR_UNSUPPORTED)
			continue;
		if (s == MC_OK)
			ctx->boot_ops = ops;
		return s;
	}
	mc_error("mc_init: no rendezvous is built in that fits how this process was started");
	return MC_ERR_BOOT;
}

static uint32_t transport_mask(const struct mc_ctx *ctx)
{
	switch (ctx->cfg.transport) {
	case MC_TRANSPORT_SHM:
		return MC_TP_SHM;
	case MC_TRANSPORT_TCP:
		return MC_TP_TCP;
	case MC_TRANSPORT_RDMA:
		return MC_TP_RDMA;
	default:
		return MC_TP_SHM | MC_TP_TCP | MC_TP_RDMA;
	}
}

/* Is the whole job on this host, so that the first backend that opens is enough? */
static bool all_local(const struct mc_ctx *ctx, const struct mc_params *p)
{
	if (ctx->foreign != NULL)
		return false;
	return ctx->size == 1 || (p != NULL && p->hub != NULL) || strcmp(ctx->cfg.launcher, "local") == 0;
}

/* Names are checked even where no backend needs a NIC; else nobody looks before one does. */
static mc_status_t give_nics(struct mc_ctx *ctx, const struct mc_be_ops *ops, struct mc_be_cfg *bc)
{
	bool needed = (ops->transports & bc->transports & (MC_TP_TCP | MC_TP_RDMA)) != 0;
	if (!needed && ctx->cfg.device[0] == '\0')
		return MC_OK;
	mc_status_t s = mc_nics_choose(ctx);
	bc->nic = ctx->nic;
	bc->nic_n = ctx->nic_n;
	bc->nic_chosen = ctx->nic_chosen;
	bc->nic_named = ctx->nic_named;
	bc->nic_narrow = ctx->nic_narrow;
	return s;
}

/*
 * Under auto, native RDMA has been tried: what it finds unusable is not worth another library's try, which may hang in
 * it, and where it works no other is needed. A host without RDMA devices misses nothing, nor does who named others.
 */
static void rdma_tried(struct mc_ctx *ctx, const char *why, struct mc_be_cfg *bc)
{
	if (!(bc->transports & MC_TP_RDMA))
		return;
	if (strstr(why, "[rdma-device") == NULL && strncmp(why, "MC_DEVICE names no", 18) != 0)
		snprintf(ctx->rdma_why, sizeof(ctx->rdma_why), "%s", why);
	if (ctx->cfg.transport == MC_TRANSPORT_AUTO)
		bc->transports &= ~(uint32_t)MC_TP_RDMA;
}

static mc_status_t open_backends(struct mc_ctx *ctx, const struct mc_params *p)
{
	char why[256], all[768] = "";
	const char *want = backend_name[ctx->cfg.backend];
	bool any = ctx->cfg.backend == MC_BACKEND_AUTO;
	struct mc_be_cfg bc = {
		.transports = transport_mask(ctx), .config = &ctx->cfg, .rank = ctx->rank, .size = ctx->size};
	bc.hub = p != NULL ? p->hub : NULL;
	for (uint32_t i = 0; mc_builtin_backends[i] != NULL && ctx->be_n < MC_BE_MAX; i++) {
		const struct mc_be_ops *ops = mc_builtin_backends[i];
		if (!any && strcmp(ops->name, want) != 0)
			continue;
		struct mc_be_slot *slot = &ctx->be[ctx->be_n];
		memset(slot, 0, sizeof(*slot));
		slot->ctx = ctx;
		bc.bulk = mc_msg_bulk;
		bc.bulk_arg = slot;
		mc_status_t s = give_nics(ctx, ops, &bc);
		if (s != MC_OK)
			return s;
		snprintf(why, sizeof(why), "not available");
		s = ops->abi == MC_BE_ABI && ops->size == sizeof(*ops)
					? ops->open(&bc, &slot->be, &slot->caps, why, sizeof(why))
					: MC_ERR_INTERNAL;
		if (s != MC_OK) {
			size_t used = strlen(all);
			snprintf(all + used, sizeof(all) - used, "%s%s: %s", used > 0 ? "; " : "", ops->name, why);
			if (any && ops->transports == MC_TP_RDMA)
				rdma_tried(ctx, why, &bc);
			continue;
		}
		slot->ops = ops;
		ctx->be_n++;
		if (ctx->be_n == 1 || slot->caps.msg_max < ctx->msg_max)
			ctx->msg_max = slot->caps.msg_max;
		if (ctx->be_n == 1 || slot->caps.iov_max < ctx->iov_max)
			ctx->iov_max = slot->caps.iov_max;
		if (any && all_local(ctx, p) && !(slot->caps.flags & MC_CAP_PROVE))
			break;
		if (!(slot->caps.flags & MC_CAP_PROVE))
			bc.transports &= ~(uint32_t)MC_TP_SHM; /* same-host pairs have their backend now */
		if (any && ops->transports == MC_TP_RDMA)
			rdma_tried(ctx, "", &bc);
		if (bc.transports == 0)
			break;
	}
	if (ctx->be_n > 0)
		return MC_OK;
	mc_error("mc_init: nothing to move data with under MC_BACKEND=%s and MC_TRANSPORT (%s); mcinfo doctor tells "
		 "more",
		 want, all[0] != '\0' ? all : "no such backend in this build");
	return MC_ERR_DEVICE;
}

static mc_status_t meet(struct mc_ctx *ctx)
{
	uint32_t len = 0, room = MC_RECORD_MAX;
	uint8_t *buf = malloc(room);
	if (buf == NULL)
		return MC_ERR_NOMEM;
	mc_status_t s = mc_record_make(ctx, &ctx->key, buf, room, &len);
	if (s == MC_OK)
		s = ctx->boot_ops->exchange(ctx->boot, buf, len, ctx->cfg.init_timeout);
	if (s == MC_OK)
		s = mc_peers_load(ctx, buf, len);
	free(buf);
	return s;
}

static void init_lists(struct mc_ctx *ctx)
{
	struct mc_list *l[] = {&ctx->rmems, &ctx->parked, &ctx->lookups, &ctx->kept, &ctx->pools, &ctx->reshards,
			       &ctx->tx_free[0], &ctx->tx_free[1], &ctx->req_free, &ctx->dying, &ctx->pumping,
			       &ctx->holding, &ctx->timed, &ctx->notes, &ctx->faults, &ctx->groups, &ctx->peers,
			       &ctx->dlists, &ctx->openings};
	for (size_t i = 0; i < MC_ARRAY_LEN(l); i++)
		mc_list_init(l[i]);
	ctx->timer_ns = INT64_MAX;
	ctx->coll_timer_ns = INT64_MAX;
	ctx->join_timer_ns = INT64_MAX;
	ctx->epfd = -1;
	ctx->wake_fd = -1;
	ctx->drv.watch_fd = ctx->drv.alarm_fd = -1;
	ctx->stale_arm = true;
}

static void close_backends(struct mc_ctx *ctx)
{
	for (uint32_t i = 0; i < ctx->be_n; i++)
		ctx->be[i].ops->close(ctx->be[i].be);
	ctx->be_n = 0;
}

static uint64_t clock_ns(void)
{
	struct timespec t;
	return clock_gettime(CLOCK_REALTIME, &t) == 0 ? (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec : 0;
}

/* "prefill:2,decode:4": the role of the rank at hand; the numbers must add up to the size of the job. */
static mc_status_t role_by_rank(struct mc_ctx *ctx)
{
	const char *p = ctx->cfg.roles;
	uint64_t first = 0;
	bool found = false;

	if (*p == '\0' || ctx->cfg.role[0] != '\0')
		return MC_OK;
	while (*p != '\0') {
		size_t len = strcspn(p, ":,");
		uint64_t n = 0;

		if (p[len] != ':' || len == 0 || len >= sizeof(ctx->role))
			goto bad;
		const char *name = p;
		for (p += len + 1; *p >= '0' && *p <= '9' && n <= UINT32_MAX; p++)
			n = n * 10 + (uint64_t)(*p - '0');
		if (n == 0 || (*p != ',' && *p != '\0'))
			goto bad;
		if (!found && ctx->rank < first + n) {
			snprintf(ctx->role, sizeof(ctx->role), "%.*s", (int)len, name);
			found = true;
		}
		first += n;
		p += *p == ',';
	}
	if (first == ctx->size)
		return MC_OK;
	mc_error("mc_init: MC_ROLES=%s names %llu ranks, but the job has %u", ctx->cfg.roles, (unsigned long long)first,
		 ctx->size);
	return MC_ERR_CONFIG;
bad:
	mc_error("mc_init: MC_ROLES=%s must be NAME:N,NAME:N with names of at most %zu bytes", ctx->cfg.roles,
		 sizeof(ctx->role) - 1);
	return MC_ERR_CONFIG;
}

static mc_status_t bring_up(struct mc_ctx *ctx, const struct mc_params *p)
{
	mc_status_t s = load_settings(ctx, p);
	if (s != MC_OK)
		return s;
	s = open_boot(ctx, p);
	if (s != MC_OK)
		return s;
	ctx->rank = ctx->boot_info.rank;
	ctx->size = ctx->boot_info.size;
	s = role_by_rank(ctx);
	if (s != MC_OK)
		return s;
	ctx->job = hash_bytes(UINT64_C(0xcbf29ce484222325), ctx->boot_info.job, strlen(ctx->boot_info.job));
	ctx->epoch = mc_random_u64();
	ctx->streams = mc_copy_stream_pays();
	ctx->home_node = mc_nic_home();
	ctx->born = clock_ns();
	snprintf(ctx->job_name, sizeof(ctx->job_name), "%s",
		 ctx->cfg.job[0] != '\0' ? ctx->cfg.job : ctx->boot_info.job);
	s = mc_foreign_open(ctx);
	if (s != MC_OK)
		return s;
	s = open_backends(ctx, p);
	if (s != MC_OK)
		return s;
	s = meet(ctx);
	if (s != MC_OK)
		return s;
	s = mc_groups_open(ctx);
	if (s != MC_OK)
		return s;
	s = mc_colls_open(ctx);
	if (s != MC_OK)
		return s;
	return mc_progress_open(ctx);
}

static void tear_down(struct mc_ctx *ctx)
{
	mc_foreign_close(ctx);
	mc_progress_stop(ctx);
	mc_colls_free(ctx);
	mc_reshards_free(ctx);
	mc_rmems_free(ctx);
	close_backends(ctx);
	mc_reqs_free(ctx);
	mc_dlists_free(ctx);
	mc_arrivals_free(ctx);
	mc_colls_close(ctx);
	mc_groups_free(ctx);
	mc_kv_pools_free(ctx);
	mc_mems_free(ctx);
	mc_peers_free(ctx);
	mc_foreign_free(ctx);
	mc_tx_free_all(ctx);
	mc_nics_free(ctx);
	mc_progress_close(ctx);
	if (ctx->boot != NULL)
		ctx->boot_ops->close(ctx->boot);
	mc_config_free(&ctx->cfg);
	pthread_mutex_destroy(&ctx->lock);
	free(ctx->scratch);
	free(ctx);
}

static void say_hello(const struct mc_ctx *ctx)
{
	char be[160] = "";
	for (uint32_t i = 0; i < ctx->be_n; i++) {
		size_t used = strlen(be);
		snprintf(be + used, sizeof(be) - used, "%s%s (%s)", used > 0 ? ", " : "", ctx->be[i].ops->name,
			 ctx->be[i].caps.text);
	}
	mc_info("rank %u of %u, role %s, host %s, job %s, rendezvous %s, backends %s, peers %s", ctx->rank, ctx->size,
		ctx->role, ctx->host, ctx->boot_info.job, ctx->boot_ops->name, be,
		ctx->key.set ? "authenticated" : "not authenticated (no MC_JOB_KEY)");
}

mc_status_t mc_init(const struct mc_params *p, struct mc_ctx **ctx_out)
{
	if (ctx_out == NULL || (p != NULL && p->size != sizeof(*p)))
		return MC_ERR_INVAL;
	struct mc_ctx *ctx = calloc(1, sizeof(*ctx));
	if (ctx == NULL)
		return MC_ERR_NOMEM;
	pthread_mutex_init(&ctx->lock, NULL);
	mc_ticker_init(&ctx->ticker);
	init_lists(ctx);
	mc_status_t s = bring_up(ctx, p);
	if (s != MC_OK) {
		tear_down(ctx);
		return s;
	}
	say_hello(ctx);
	mc_join_all(ctx);
	*ctx_out = ctx;
	return MC_OK;
}

static bool nothing_under_way(void *arg)
{
	struct mc_ctx *ctx = arg;
	bool idle = true;
	mc_ctx_lock(ctx);
	for (struct mc_list *l = ctx->peers.next; l != &ctx->peers && idle; l = l->next) {
		const struct mc_peer *p = mc_peer_of_node(l);
		idle = mc_list_empty(&p->reqs) && mc_list_empty(&p->txq) && mc_list_empty(&p->flying);
	}
	mc_ctx_unlock(ctx);
	return idle;
}

static bool everyone_knows(void *arg)
{
	struct mc_ctx *ctx = arg;
	bool waiting = false;
	mc_ctx_lock(ctx);
	for (struct mc_list *l = ctx->peers.next; l != &ctx->peers && !waiting; l = l->next)
		waiting = mc_peer_of_node(l)->bye_sent;
	mc_ctx_unlock(ctx);
	return !waiting;
}

static void cancel_all(struct mc_ctx *ctx)
{
	mc_ctx_lock(ctx);
	for (struct mc_list *at = ctx->peers.next; at != &ctx->peers; at = at->next) {
		struct mc_peer *p = mc_peer_of_node(at);
		struct mc_list *l = p->reqs.next, *next;
		for (; l != &p->reqs; l = next) {
			next = l->next;
			mc_req_fail(mc_container_of(l, struct mc_req, node), MC_ERR_CANCELED);
		}
	}
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
	mc_wait_until(ctx, nothing_under_way, ctx, &ctx->peer_seq,
		      mc_deadline(mc_now_ns(), ctx->cfg.cancel_timeout + GOODBYE_NS));
}

/*
 * Tell whoever we talk with, or who talks to us, that we go, and wait for their word: else they would see the link
 * break and take us for dead.
 */
static void say_goodbye(struct mc_ctx *ctx)
{
	mc_ctx_lock(ctx);
	ctx->leaving = true;
	for (struct mc_list *l = ctx->peers.next; l != &ctx->peers; l = l->next) {
		struct mc_peer *p = mc_peer_of_node(l);
		bool known = p->state == MC_PEER_UP || p->state == MC_PEER_CONNECTING || p->rx_msgs > 0;
		if (p == ctx->self || p->state == MC_PEER_DOWN || p->call || !known)
			continue;
		p->bye_sent = true;
		mc_bye_send(p, 0);
	}
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
	mc_wait_until(ctx, everyone_knows, ctx, &ctx->peer_seq, mc_deadline(mc_now_ns(), GOODBYE_NS));
}

void mc_finalize(struct mc_ctx *ctx)
{
	if (ctx == NULL)
		return;
	cancel_all(ctx);
	mc_foreign_close(ctx); /* nobody new finds this rank any more */
	say_goodbye(ctx);
	tear_down(ctx);
}

uint32_t mc_rank(const struct mc_ctx *ctx)
{
	return ctx->rank;
}

uint32_t mc_size(const struct mc_ctx *ctx)
{
	return ctx->size;
}

const char *mc_role(const struct mc_ctx *ctx)
{
	return ctx->role;
}

const char *mc_job_id(const struct mc_ctx *ctx)
{
	return ctx->boot_info.job;
}

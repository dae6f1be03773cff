/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot_local.c - rendezvous without a launcher: between contexts of one process (hub), and of a process that is alone
 * (single).
 *
 * A hub may be used again and again: contexts are finalized and new ones take their ranks. A rank may already be gone,
 * or be in the next exchange, when a slow one wakes up from this one, so each exchange has its own round: the last to
 * arrive detaches it from the hub, and whoever took part keeps it, unchanged, until its context closes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot.h"
#include "hub.h"
#include "log.h"
#include "util.h"

enum { BLOB_MAX = 65536 };

struct blob {
	void *data; /* NULL: not there yet */
	uint32_t len;
};

struct mc_hub_round {
	uint32_t refs, arrived;
	struct blob blob[];
};

struct mc_boot {
	struct mc_hub *hub; /* NULL: single */
	uint32_t rank;
	struct mc_hub_round *round; /* the latest finished exchange of this context */
	struct blob own;            /* single */
};

/* ---- hub ---- */

static mc_status_t hub_init(struct mc_hub *hub, uint32_t n)
{
	pthread_condattr_t attr;
	mc_status_t s = MC_ERR_NOMEM;

	if (pthread_condattr_init(&attr) != 0)
		return s;
	if (pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) != 0 || pthread_cond_init(&hub->cond, &attr) != 0)
		goto undo_attr;
	if (pthread_mutex_init(&hub->lock, NULL) != 0)
		goto undo_cond;
	hub->n = n;
	snprintf(hub->job, sizeof(hub->job), "hub-%016" PRIx64, mc_random_u64());
	pthread_condattr_destroy(&attr);
	return MC_OK;
undo_cond:
	pthread_cond_destroy(&hub->cond);
undo_attr:
	pthread_condattr_destroy(&attr);
	return s;
}

mc_status_t mc_hub_create(uint32_t n, struct mc_hub **hub_out)
{
	struct mc_hub *hub;
	mc_status_t s;

	if (n == 0 || hub_out == NULL)
		return MC_ERR_INVAL;
	hub = calloc(1, sizeof(*hub) + (size_t)n * sizeof(hub->slot[0]));
	if (hub == NULL) {
		mc_error("no memory for a hub of %" PRIu32 " contexts", n);
		return MC_ERR_NOMEM;
	}
	s = hub_init(hub, n);
	if (s != MC_OK) {
		mc_error("no resources for the lock of a hub");
		free(hub);
		return s;
	}
	*hub_out = hub;
	return MC_OK;
}

/* With the hub's lock held. */
static void round_unref(struct mc_hub *hub, struct mc_hub_round *round)
{
	if (round == NULL || --round->refs > 0)
		return;
	if (hub->gathering == round)
		hub->gathering = NULL;
	for (uint32_t i = 0; i < hub->n; i++)
		free(round->blob[i].data);
	free(round);
}

void mc_hub_free(struct mc_hub *hub)
{
	uint32_t open_n = 0;

	if (hub == NULL)
		return;
	pthread_mutex_lock(&hub->lock);
	for (uint32_t i = 0; i < hub->n; i++)
		open_n += hub->slot[i].joined;
	pthread_mutex_unlock(&hub->lock);
	if (open_n > 0) {
		/* Better lost memory than contexts that work on freed memory. */
		mc_error("mc_hub_free: %" PRIu32 " contexts still use the hub, it stays; finalize them first", open_n);
		return;
	}
	round_unref(hub, hub->last);
	pthread_mutex_destroy(&hub->lock);
	pthread_cond_destroy(&hub->cond);
	free(hub);
}

/* ---- rendezvous in a hub ---- */

static mc_status_t hub_open(const struct mc_boot_cfg *cfg, struct mc_boot **boot_out, struct mc_boot_info *info_out)
{
	struct mc_hub *hub = cfg->hub;
	struct mc_boot *boot;
	uint32_t taken;

	if (hub == NULL)
		return MC_ERR_UNSUPPORTED;
	if (cfg->rank >= hub->n) {
		mc_error("rank %" PRIu32 " does not exist in a hub of %" PRIu32 " contexts", cfg->rank, hub->n);
		return MC_ERR_INVAL;
	}
	boot = calloc(1, sizeof(*boot));
	if (boot == NULL) {
		mc_error("no memory for the rendezvous of rank %" PRIu32, cfg->rank);
		return MC_ERR_NOMEM;
	}
	boot->hub = hub;
	boot->rank = cfg->rank;

	pthread_mutex_lock(&hub->lock);
	taken = hub->slot[cfg->rank].joined;
	hub->slot[cfg->rank].joined = 1;
	pthread_mutex_unlock(&hub->lock);
	if (taken) {
		mc_error("rank %" PRIu32 " of the hub is in use by another context; give each its own", cfg->rank);
		free(boot);
		return MC_ERR_INVAL;
	}

	*info_out = (struct mc_boot_info){.rank = cfg->rank, .size = hub->n, .event_fd = -1};
	info_out->again = hub->slot[cfg->rank].again;
	info_out->local_rank = cfg->rank;
	info_out->local_size = hub->n;
	snprintf(info_out->job, sizeof(info_out->job), "%s", hub->job);
	*boot_out = boot;
	return MC_OK;
}

static mc_status_t blob_set(struct blob *b, const void *data, uint32_t len)
{
	void *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL) {
		mc_error("no memory for a rendezvous blob of %" PRIu32 " bytes", len);
		return MC_ERR_NOMEM;
	}
	if (len > 0)
		memcpy(copy, data, len);
	free(b->data);
	b->data = copy;
	b->len = len;
	return MC_OK;
}

/* With the lock held: put the blob into the round that gathers now. */
static mc_status_t round_join(struct mc_boot *boot, const void *blob, uint32_t len, struct mc_hub_round **round_out)
{
	struct mc_hub *hub = boot->hub;
	struct mc_hub_round *round = hub->gathering;
	mc_status_t s;

	if (round == NULL) {
		round = calloc(1, sizeof(*round) + (size_t)hub->n * sizeof(round->blob[0]));
		if (round == NULL) {
			mc_error("no memory for the rendezvous of %" PRIu32 " contexts", hub->n);
			return MC_ERR_NOMEM;
		}
		hub->gathering = round;
	}
	round->refs++;
	s = blob_set(&round->blob[boot->rank], blob, len);
	if (s != MC_OK) {
		round_unref(hub, round);
		return s;
	}
	if (++round->arrived == hub->n) {
		round_unref(hub, hub->last);
		hub->last = round;
		round->refs++;
		hub->gathering = NULL;
		pthread_cond_broadcast(&hub->cond);
	}
	*round_out = round;
	return MC_OK;
}

/* With the lock held: take the blob back, so that the exchange of the others cannot end with a rank that gave up. */
static void round_leave(struct mc_boot *boot, struct mc_hub_round *round)
{
	struct mc_hub *hub = boot->hub;
	uint32_t missing = 0;

	while (round->blob[missing].data != NULL)
		missing++;
	mc_error("rank %" PRIu32 ": rendezvous in the hub timed out: %" PRIu32 " of %" PRIu32
		 " ranks came, rank %" PRIu32 " for one did not call mc_init()",
		 boot->rank, round->arrived, hub->n, missing);
	free(round->blob[boot->rank].data);
	round->blob[boot->rank] = (struct blob){0};
	round->arrived--;
	round_unref(hub, round);
}

static mc_status_t hub_wait(struct mc_boot *boot, struct mc_hub_round *round, int64_t deadline_ns)
{
	struct mc_hub *hub = boot->hub;
	const struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000),
				       .tv_nsec = deadline_ns % 1000000000};

	while (round->arrived < hub->n) {
		if (deadline_ns == INT64_MAX) {
			pthread_cond_wait(&hub->cond, &hub->lock);
			continue;
		}
		if (mc_now_ns() >= deadline_ns)
			return MC_ERR_TIMEOUT;
		pthread_cond_timedwait(&hub->cond, &hub->lock, &until);
	}
	return MC_OK;
}

/* With the lock held: the others met before. What they were told then stays: who comes back tells them itself. */
static mc_status_t hub_return(struct mc_boot *boot)
{
	struct mc_hub_round *round = boot->hub->last;

	if (round == NULL) {
		mc_error("rank %" PRIu32 " of the hub is started again, but the ranks have not met before", boot->rank);
		return MC_ERR_BOOT;
	}
	round->refs++;
	boot->round = round;
	return MC_OK;
}

static mc_status_t hub_exchange(struct mc_boot *boot, const void *blob, uint32_t len, int64_t timeout_ns)
{
	const int64_t deadline_ns = mc_deadline(mc_now_ns(), timeout_ns);
	struct mc_hub *hub = boot->hub;
	struct mc_hub_round *round = NULL;
	mc_status_t s;

	if (len > BLOB_MAX)
		return MC_ERR_INVAL;
	pthread_mutex_lock(&hub->lock);
	if (hub->slot[boot->rank].again > 0) {
		s = hub_return(boot);
		goto out;
	}
	s = round_join(boot, blob, len, &round);
	if (s != MC_OK)
		goto out;
	s = hub_wait(boot, round, deadline_ns);
	if (s != MC_OK) {
		round_leave(boot, round);
		goto out;
	}
	round_unref(hub, boot->round);
	boot->round = round;
out:
	pthread_mutex_unlock(&hub->lock);
	return s;
}

static mc_status_t hub_get(struct mc_boot *boot, uint32_t rank, const void **blob_out, uint32_t *len_out)
{
	if (boot->round == NULL || rank >= boot->hub->n)
		return MC_ERR_INVAL;
	*blob_out = boot->round->blob[rank].data;
	*len_out = boot->round->blob[rank].len;
	return MC_OK;
}

/* Nobody tells a hub of deaths: its contexts live and die with the process. */
static mc_status_t no_deaths(struct mc_boot *boot, uint32_t *rank_out, uint32_t *start_out)
{
	(void)start_out;
	(void)boot;
	(void)rank_out;
	return MC_ERR_AGAIN;
}

static void hub_close(struct mc_boot *boot)
{
	struct mc_hub *hub;

	if (boot == NULL)
		return;
	hub = boot->hub;
	pthread_mutex_lock(&hub->lock);
	round_unref(hub, boot->round);
	hub->slot[boot->rank].joined = 0;
	pthread_mutex_unlock(&hub->lock);
	free(boot);
}

/* ---- a process that was started alone ---- */

static mc_status_t single_open(const struct mc_boot_cfg *cfg, struct mc_boot **boot_out, struct mc_boot_info *info_out)
{
	const char *unwired = mc_config_unwired();
	struct mc_boot *boot;

	if (cfg->hub != NULL)
		return MC_ERR_UNSUPPORTED;
	if (mc_config_launched()) {
		mc_error("a PMIx launcher started this process, but libmc was built without PMIx; rebuild with "
			 "libpmix-dev");
		return MC_ERR_BOOT;
	}
	boot = calloc(1, sizeof(*boot));
	if (boot == NULL) {
		mc_error("no memory for the rendezvous");
		return MC_ERR_NOMEM;
	}
	if (unwired != NULL)
		mc_warn("started by %s: this process is a job of one rank; start it by mcrun, srun --mpi=pmix or"
			" mpirun of Open MPI to join the others",
			unwired);
	*info_out = (struct mc_boot_info){.rank = 0, .size = 1, .local_size = 1, .event_fd = -1};
	snprintf(info_out->job, sizeof(info_out->job), "single-%016" PRIx64, mc_random_u64());
	*boot_out = boot;
	return MC_OK;
}

static mc_status_t single_exchange(struct mc_boot *boot, const void *blob, uint32_t len, int64_t timeout_ns)
{
	(void)timeout_ns;
	return len > BLOB_MAX ? MC_ERR_INVAL : blob_set(&boot->own, blob, len);
}

static mc_status_t single_get(struct mc_boot *boot, uint32_t rank, const void **blob_out, uint32_t *len_out)
{
	if (rank != 0 || boot->own.data == NULL)
		return MC_ERR_INVAL;
	*blob_out = boot->own.data;
	*len_out = boot->own.len;
	return MC_OK;
}

static void single_close(struct mc_boot *boot)
{
	if (boot == NULL)
		return;
	free(boot->own.data);
	free(boot);
}

const struct mc_boot_ops mc_boot_hub = {
	.abi = MC_BOOT_ABI,
	.size = sizeof(struct mc_boot_ops),
	.name = "hub",
	.open = hub_open,
	.exchange = hub_exchange,
	.get = hub_get,
	.next_dead = no_deaths,
	.close = hub_close,
};

const struct mc_boot_ops mc_boot_single = {
	.abi = MC_BOOT_ABI,
	.size = sizeof(struct mc_boot_ops),
	.name = "single",
	.open = single_open,
	.exchange = single_exchange,
	.get = single_get,
	.next_dead = no_deaths,
	.close = single_close,
};

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_bridge.h - a directory of jobs inside one process, in place of etcd: what one bridge publishes all others hear
 * of at once. The test can take it away, put records into it that nobody published, and keep a rank deaf. Include after
 * cmocka.h; the program has this bridge alone in mc_builtin_bridges.
 */
#ifndef MC_TEST_FAKE_BRIDGE_H
#define MC_TEST_FAKE_BRIDGE_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bridge.h"
#include "util.h"

enum { FAKE_ENTRIES = 64, FAKE_EVENTS = 256 };

struct fake_entry {
	bool there;
	char job[MC_BRIDGE_JOB_MAX], role[MC_ROLE_MAX], info[1024];
	uint32_t rank, len;
	uint64_t epoch;
	uint8_t record[4096];
};

struct fake_event {
	enum mc_bridge_kind kind;
	mc_status_t status;
	struct fake_entry of;
};

struct mc_bridge {
	struct mc_list node;
	struct mc_bridge_cfg cfg;
	int fd;
	struct fake_event *queue; /* [FAKE_EVENTS] */
	uint32_t head, tail;
};

static struct {
	pthread_mutex_t lock;
	struct mc_list bridges;
	struct fake_entry entry[FAKE_ENTRIES];
	uint8_t key[MC_BRIDGE_KEY_LEN];
	bool away;
	const char *deaf; /* ranks of that job hear of nobody */
	bool keep;        /* records stay when a bridge is closed, as those of the dead do for a while */
	bool off;         /* nobody asked for a directory */
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void fake_push(struct mc_bridge *b, enum mc_bridge_kind kind, mc_status_t s, const struct fake_entry *e)
{
	uint64_t one = 1;
	bool deaf = fake.deaf != NULL && strcmp(fake.deaf, b->cfg.job) == 0 && e != NULL;
	if (deaf || (e != NULL && strcmp(e->job, b->cfg.job) == 0) || b->tail - b->head == FAKE_EVENTS)
		return;
	struct fake_event *ev = &b->queue[b->tail++ % FAKE_EVENTS];
	*ev = (struct fake_event){.kind = kind, .status = s};
	if (e != NULL)
		ev->of = *e;
	if (write(b->fd, &one, sizeof(one)) < 0)
		abort();
}

static void fake_tell(enum mc_bridge_kind kind, mc_status_t s, const struct fake_entry *e)
{
	for (struct mc_list *l = fake.bridges.next; l != NULL && l != &fake.bridges; l = l->next)
		fake_push(mc_container_of(l, struct mc_bridge, node), kind, s, e);
}

static void fake_begin(struct mc_bridge *b)
{
	fake_push(b, MC_BRIDGE_KEY, MC_OK, NULL);
	for (uint32_t i = 0; i < FAKE_ENTRIES; i++)
		if (fake.entry[i].there)
			fake_push(b, MC_BRIDGE_UP, MC_OK, &fake.entry[i]);
	fake_push(b, MC_BRIDGE_SYNCED, MC_OK, NULL);
}

static mc_status_t fake_open(const struct mc_bridge_cfg *cfg, struct mc_bridge **bridge_out, int *event_fd_out)
{
	if (fake.off)
		return MC_ERR_UNSUPPORTED;
	struct mc_bridge *b = calloc(1, sizeof(*b));
	if (b == NULL)
		return MC_ERR_NOMEM;
	b->queue = calloc(FAKE_EVENTS, sizeof(*b->queue));
	b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	b->cfg = *cfg;
	if (b->queue == NULL || b->fd < 0)
		abort();
	pthread_mutex_lock(&fake.lock);
	if (fake.bridges.next == NULL)
		mc_list_init(&fake.bridges);
	mc_list_add_tail(&fake.bridges, &b->node);
	if (fake.away)
		fake_push(b, MC_BRIDGE_SYNCED, MC_ERR_TIMEOUT, NULL);
	else
		fake_begin(b);
	pthread_mutex_unlock(&fake.lock);
	*bridge_out = b;
	*event_fd_out = b->fd;
	return MC_OK;
}

static struct fake_entry *fake_place(const char *job, uint32_t rank)
{
	struct fake_entry *e = NULL;
	for (uint32_t i = 0; i < FAKE_ENTRIES; i++) {
		if (fake.entry[i].there && fake.entry[i].rank == rank && strcmp(fake.entry[i].job, job) == 0)
			return &fake.entry[i];
		if (!fake.entry[i].there && e == NULL)
			e = &fake.entry[i];
	}
	return e;
}

/* With the lock held. */
static void fake_put(const char *job, const char *role, uint32_t rank, uint64_t epoch, const void *rec, uint32_t len)
{
	struct fake_entry *e = fake_place(job, rank);
	if (e == NULL || len > sizeof(e->record))
		abort();
	*e = (struct fake_entry){.there = true, .rank = rank, .epoch = epoch, .len = len};
	snprintf(e->job, sizeof(e->job), "%s", job);
	snprintf(e->role, sizeof(e->role), "%s", role);
	memcpy(e->record, rec, len);
	if (!fake.away)
		fake_tell(MC_BRIDGE_UP, MC_OK, e);
}

static mc_status_t fake_publish(struct mc_bridge *b, const void *record, uint32_t len, const char *info)
{
	pthread_mutex_lock(&fake.lock);
	fake_put(b->cfg.job, b->cfg.role, b->cfg.rank, b->cfg.epoch, record, len);
	snprintf(fake_place(b->cfg.job, b->cfg.rank)->info, sizeof(fake.entry[0].info), "%s", info);
	pthread_mutex_unlock(&fake.lock);
	return MC_OK;
}

static mc_status_t fake_next(struct mc_bridge *b, struct mc_bridge_event *ev)
{
	uint64_t v;
	pthread_mutex_lock(&fake.lock);
	mc_status_t s = b->head == b->tail ? MC_ERR_AGAIN : MC_OK;
	if (s == MC_OK) {
		const struct fake_event *q = &b->queue[b->head++ % FAKE_EVENTS];
		*ev = (struct mc_bridge_event){.kind = q->kind,
					       .status = q->status,
					       .job = q->of.job,
					       .role = q->of.role,
					       .rank = q->of.rank,
					       .epoch = q->of.epoch,
					       .record = q->of.record,
					       .record_len = q->of.len,
					       .key = fake.key};
	} else if (read(b->fd, &v, sizeof(v)) < 0) {
		s = MC_ERR_AGAIN;
	}
	pthread_mutex_unlock(&fake.lock);
	return s;
}

/* With the lock held: as when its lease has run out. */
static void fake_drop(struct fake_entry *e)
{
	struct fake_entry was = *e;
	e->there = false;
	if (was.there && !fake.away)
		fake_tell(MC_BRIDGE_DOWN, MC_OK, &was);
}

static void fake_close(struct mc_bridge *b)
{
	pthread_mutex_lock(&fake.lock);
	struct fake_entry *e = fake_place(b->cfg.job, b->cfg.rank);
	mc_list_del(&b->node);
	if (!fake.keep && e != NULL && e->there && e->epoch == b->cfg.epoch)
		fake_drop(e);
	pthread_mutex_unlock(&fake.lock);
	close(b->fd);
	free(b->queue);
	free(b);
}

static inline void fake_away(bool away)
{
	pthread_mutex_lock(&fake.lock);
	fake.away = away;
	if (away)
		fake_tell(MC_BRIDGE_SYNCED, MC_ERR_TIMEOUT, NULL);
	for (struct mc_list *l = fake.bridges.next; l != &fake.bridges && !away; l = l->next)
		fake_begin(mc_container_of(l, struct mc_bridge, node));
	pthread_mutex_unlock(&fake.lock);
}

static inline void fake_reset(void)
{
	memset(fake.entry, 0, sizeof(fake.entry));
	memset(fake.key, 0x5c, sizeof(fake.key));
	fake.away = fake.keep = fake.off = false;
	fake.deaf = NULL;
}

static const struct mc_bridge_ops mc_bridge_fake = {
	.abi = MC_BRIDGE_ABI,
	.size = sizeof(struct mc_bridge_ops),
	.name = "fake",
	.open = fake_open,
	.publish = fake_publish,
	.next = fake_next,
	.close = fake_close,
};

#endif

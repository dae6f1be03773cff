/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_side.h - what the tests of the same-host backend share: one opened backend that counts its events. */
#ifndef MC_TEST_SHM_SIDE_H
#define MC_TEST_SHM_SIDE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log.h"
#include "shm.h"

extern const struct mc_be_ops mc_be_shm;

enum { LIMIT_S = 60, BIG = 300000 };

static struct mc_config config = {.shm_ring = 16 << 10, .shm_cma = 1};
static uint64_t seed; /* SHM_SEED=N repeats a run */

static inline uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

struct side {
	struct mc_be *be;
	struct mc_be_caps caps;
	struct mc_be_ep *ep;
	uint32_t up, down, done, sent, msgs;
	mc_status_t down_status, last_status;
	uint64_t got_bytes;
	bool check; /* messages carry their number, length and a pattern */
	int64_t deadline;
};

static inline void side_open(struct side *s)
{
	struct mc_be_cfg cfg = {.transports = MC_TP_SHM, .config = &config, .size = 2};
	char why[200] = "";

	memset(s, 0, sizeof(*s));
	if (mc_be_shm.open(&cfg, &s->be, &s->caps, why, sizeof(why)) != MC_OK)
		fail_msg("open: %s", why);
	s->deadline = mc_now_ns() + LIMIT_S * INT64_C(1000000000);
}

static inline mc_status_t side_connect(struct side *s, const void *addr, uint32_t len)
{
	uint32_t none = 0;
	char text[200] = "";
	mc_status_t st;

	assert_int_equal(mc_be_shm.ep_create(s->be, 77, NULL, &none, &s->ep), MC_OK);
	st = mc_be_shm.ep_connect(s->be, s->ep, addr, len, text, sizeof(text));
	assert_true(text[0] != '\0');
	return st;
}

static inline void link_sides(struct side *a, struct side *b)
{
	assert_int_equal(side_connect(a, b->caps.addr, b->caps.addr_len), MC_OK);
	assert_int_equal(side_connect(b, a->caps.addr, a->caps.addr_len), MC_OK);
}

static inline void fill(uint8_t *p, uint32_t len, uint32_t number)
{
	uint32_t x = number * 2654435761u + 12345;

	for (uint32_t i = 0; i < len; i++, x = x * 1664525u + 1013904223u)
		p[i] = (uint8_t)(x >> 24);
	if (len >= 8) {
		memcpy(p, &number, 4);
		memcpy(p + 4, &len, 4);
	}
}

static inline bool filled(const uint8_t *p, uint32_t len, uint32_t number)
{
	uint8_t *want = malloc((size_t)len + 1);
	bool ok;

	assert_non_null(want);
	fill(want, len, number);
	ok = memcmp(want, p, len) == 0;
	free(want);
	return ok;
}

static inline void side_event(struct side *s, const struct mc_be_event *ev)
{
	assert_int_equal(s->down, 0); /* nothing after EP_DOWN */
	if (ev->kind == MC_EV_MSG) {
		assert_int_equal((uintptr_t)ev->data & 7, 0);
		if (s->check)
			assert_true(filled(ev->data, ev->len, s->msgs));
		s->msgs++;
		s->got_bytes += ev->len;
	} else if (ev->kind == MC_EV_EP_UP) {
		s->up++;
	} else if (ev->kind == MC_EV_EP_DOWN) {
		assert_int_equal(ev->cookie, 77);
		s->down++;
		s->down_status = ev->status;
	} else {
		s->done += ev->kind == MC_EV_DONE;
		s->sent += ev->kind == MC_EV_SENT;
		s->last_status = ev->status;
	}
}

static inline uint32_t side_poll(struct side *s)
{
	struct mc_be_event ev[16];
	uint32_t n = mc_be_shm.poll(s->be, ev, MC_ARRAY_LEN(ev));

	for (uint32_t i = 0; i < n; i++)
		side_event(s, &ev[i]);
	if (n > 0) /* from the last event on: a slow machine has time for all */
		s->deadline = mc_now_ns() + LIMIT_S * INT64_C(1000000000);
	if (n == 0 && mc_now_ns() > s->deadline)
		fail_msg("no end: up %u down %u done %u sent %u msgs %u", s->up, s->down, s->done, s->sent, s->msgs);
	return n;
}

static inline void side_close(struct side *s)
{
	mc_be_shm.close(s->be);
	s->be = NULL;
}

static inline mc_status_t side_send(struct side *s, const void *p, size_t len)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = len};

	return mc_be_shm.send(s->be, s->ep, &iov, 1, len <= 64 ? MC_SEND_COPY : 0, 5);
}

static inline struct mc_be_mem *reg(struct side *s, void *addr, uint64_t len, int fd)
{
	struct mc_be_region r = {.addr = addr, .len = len, .fd = fd, .id = 3};
	struct mc_be_mem *mem = NULL;

	assert_int_equal(mc_be_shm.mem_reg(s->be, &r, &mem), MC_OK);
	return mem;
}

static inline struct mc_be_rmem *import(struct side *s, struct side *owner, struct mc_be_mem *mem)
{
	uint8_t blob[SHM_BLOB_MAX];
	uint32_t len = sizeof(blob);
	struct mc_be_rmem *rmem = NULL;

	assert_int_equal(mc_be_shm.mem_export(owner->be, mem, blob, &len), MC_OK);
	assert_int_equal(mc_be_shm.rmem_import(s->be, s->ep, blob, len, &rmem), MC_OK);
	return rmem;
}

static inline mc_status_t post_wait(struct side *s, uint32_t op, const struct mc_be_slice *sl, uint32_t n)
{
	struct mc_be_post p = {.op = op, .n = n, .slice = sl, .cookie = 9};
	uint32_t taken = 0, before = s->done;
	mc_status_t st = mc_be_shm.post(s->be, s->ep, &p, &taken);

	if (st != MC_OK)
		return st;
	assert_int_equal(taken, n);
	while (s->done == before)
		side_poll(s);
	return s->last_status;
}

static inline uint8_t *pool_map(uint64_t len, int *fd_out)
{
	int fd = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *p;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	*fd_out = fd;
	return p;
}

static inline uint8_t *private_map(uint64_t len)
{
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static inline void seed_choose(void)
{
	const char *text = getenv("SHM_SEED");

	seed = text != NULL ? strtoull(text, NULL, 0) : mc_random_u64();
	if (seed == 0)
		seed = 1;
	printf("SHM_SEED=%llu\n", (unsigned long long)seed);
}

#endif

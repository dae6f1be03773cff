/* SPDX-License-Identifier: BSD-3-Clause */
/* test_backend_mem.c - bulk data taken to their place, hostile descriptors and mapped regions. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "be_regions.h"
#include "be_tests.h"

/* ---- bulk data that come apart from their message's head ---- */

enum { BULK = 300000, BULK_HEAD = 120, BULKS = 40 };

struct bulk {
	uint32_t events, calls;
	uint8_t *place; /* [BULK] */
};

static uint32_t number_of(const void *head)
{
	uint32_t v;

	memcpy(&v, head, sizeof(v));
	return v;
}

/* Takes every other one. */
static bool bulk_take(struct side *s, const void *head, uint32_t head_len, const void *rest, uint32_t rest_len)
{
	struct bulk *b = s->arg;
	uint32_t i = number_of(head);

	assert_int_equal(head_len, BULK_HEAD);
	assert_int_equal(rest_len, BULK);
	assert_true(((uintptr_t)head & 7) == 0);
	assert_true(pattern_ok((const uint8_t *)head + 4, BULK_HEAD - 4, i));
	assert_int_equal(i % 2, 0);
	assert_true(i >= b->events);
	b->calls++;
	if (i % 4 != 0)
		return false;
	memcpy(b->place, rest, rest_len);
	assert_true(pattern_ok(b->place, BULK, i + 1000));
	return true;
}

static void bulk_event(struct side *s, const struct mc_be_event *ev)
{
	struct bulk *b = s->arg;
	uint32_t i = number_of(ev->data);

	assert_int_equal(i, b->events++);
	assert_true(pattern_ok((const uint8_t *)ev->data + 4, BULK_HEAD - 4, i));
	if (i % 2 != 0) { /* a short one, in between */
		assert_int_equal(ev->len, BULK_HEAD);
		assert_int_equal(ev->placed, 0);
	} else if (ev->placed != 0) {
		assert_int_equal(ev->len, BULK_HEAD);
		assert_int_equal(ev->placed, BULK);
		assert_int_equal(i % 4, 0);
	} else {
		assert_int_equal(ev->len, BULK_HEAD + BULK);
		assert_true(pattern_ok((const uint8_t *)ev->data + BULK_HEAD, BULK, i + 1000));
	}
}

void send__bulk_apart(void **state)
{
	struct pair p;
	struct bulk b = {.place = malloc(BULK)};
	uint8_t(*data)[BULK] = calloc(BULKS, BULK), head[BULKS][BULK_HEAD];

	(void)state;
	assert_true(b.place != NULL && data != NULL);
	pair_connect(&p);
	p.b.on_bulk = bulk_take;
	p.b.on_msg = bulk_event;
	p.b.arg = &b;
	for (uint32_t i = 0; i < BULKS; i++) {
		struct iovec iov[2] = {{head[i], BULK_HEAD}, {data[i], BULK}};
		bool large = i % 2 == 0;
		memcpy(head[i], &i, sizeof(i));
		pattern_fill(head[i] + 4, BULK_HEAD - 4, i);
		pattern_fill(data[i], BULK, i + 1000);
		while (be_setup.ops->send(p.a.be, p.a.ep, iov, large ? 2 : 1, large ? 0 : MC_SEND_COPY,
					  p.a.next_cookie) == MC_ERR_AGAIN)
			pair_tick(&p);
		p.a.next_cookie += large;
	}
	while (b.events < BULKS || p.a.sent_n < BULKS / 2)
		pair_tick(&p);
	assert_true(b.calls <= BULKS / 2);
	pair_close(&p);
	free(b.place);
	free(data);
}

void rmem_import__hostile_blob(void **state)
{
	struct be_regions r;
	struct mc_be_rmem *rmem = NULL;
	uint64_t x = 88172645463325252u;

	(void)state;
	be_regions_open(&r, 4096);
	for (uint32_t i = 0; i < r.blob_len + 400; i++) {
		uint8_t bad[4096];
		uint32_t n = i < r.blob_len ? i : r.blob_len;
		memcpy(bad, r.blob, r.blob_len);
		for (uint32_t k = 0; i >= r.blob_len + 200 && k < r.blob_len; k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			bad[k] = (uint8_t)x;
		}
		if (i >= r.blob_len && i < r.blob_len + 200) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			bad[x % r.blob_len] ^= (uint8_t)(1u << (x >> 40 & 7));
		}
		assert_int_not_equal(be_setup.ops->rmem_import(r.p.a.be, r.p.a.ep, bad, n, &rmem), MC_OK);
		assert_null(rmem);
	}
	be_regions_close(&r);
}

/* A descriptor of one peer does not open anything through the link to another. */
void rmem_import__blob_of_another_rank(void **state)
{
	struct be_regions r;
	struct mc_be_rmem *rmem = NULL;
	uint8_t blob[4096];
	uint32_t len = sizeof(blob);

	(void)state;
	be_regions_open(&r, 4096);
	assert_int_equal(be_setup.ops->mem_export(r.p.a.be, r.mem_a, blob, &len), MC_OK);
	assert_int_not_equal(be_setup.ops->rmem_import(r.p.a.be, r.p.a.ep, blob, len, &rmem), MC_OK);
	len = 1;
	assert_int_equal(be_setup.ops->mem_export(r.p.a.be, r.mem_a, blob, &len), MC_ERR_NOSPC);
	assert_true(len > 1 && len <= r.p.a.caps.blob_max);
	be_regions_close(&r);
}

/* Pool memory that is mapped is the same bytes on both sides, and stays readable when its owner has let go of it. */
void rmem_map__the_peers_bytes(void **state)
{
	enum { LEN = 8192 };
	struct be_regions r;
	struct mc_be_rmem *rmem = NULL;
	struct mc_be_mem *mem = NULL;
	uint8_t blob[4096], *map;
	uint32_t n = sizeof(blob);

	(void)state;
	if (be_setup.ops->rmem_map == NULL)
		skip();
	be_regions_open(&r, 4096);
	assert_null(be_setup.ops->rmem_map(r.p.a.be, r.rmem_b)); /* the caller's own memory: nobody else maps it */
	int fd = memfd_create("contract", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0 && ftruncate(fd, LEN) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	uint8_t *own = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(own != MAP_FAILED);
	struct mc_be_region region = {.addr = own, .len = LEN, .kind = MC_KIND_HOST, .fd = fd, .id = 3};
	assert_int_equal(be_setup.ops->mem_reg(r.p.b.be, &region, &mem), MC_OK);
	assert_int_equal(be_setup.ops->mem_export(r.p.b.be, mem, blob, &n), MC_OK);
	assert_int_equal(be_setup.ops->rmem_import(r.p.a.be, r.p.a.ep, blob, n, &rmem), MC_OK);
	map = be_setup.ops->rmem_map(r.p.a.be, rmem);
	assert_non_null(map);
	assert_ptr_not_equal(map, own);
	own[0] = 17;
	own[LEN - 1] = 18;
	assert_int_equal(map[0], 17);
	assert_int_equal(map[LEN - 1], 18);
	map[100] = 19;
	assert_int_equal(own[100], 19);
	be_setup.ops->mem_dereg(r.p.b.be, mem);
	munmap(own, LEN);
	close(fd);
	assert_int_equal(map[100], 19);
	be_setup.ops->rmem_drop(r.p.a.be, rmem);
	be_regions_close(&r);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* be_regions.c - two linked backends and a region on either side. */
#include "be_regions.h"

#include <stdlib.h>
#include <string.h>

void be_region_reg(struct side *s, void *addr, uint64_t len, uint64_t id, struct mc_be_mem **mem)
{
	struct mc_be_region r = {.addr = addr, .len = len, .kind = MC_KIND_HOST, .fd = -1, .id = id};

	assert_int_equal(be_setup.ops->mem_reg(s->be, &r, mem), MC_OK);
}

void be_regions_open(struct be_regions *r, uint64_t len)
{
	memset(r, 0, sizeof(*r));
	pair_connect(&r->p);
	if (!(r->p.a.caps.flags & MC_CAP_RMA)) {
		pair_close(&r->p);
		skip();
	}
	r->len = len;
	r->a = aligned_alloc(4096, (len + 4095) / 4096 * 4096);
	r->b = aligned_alloc(4096, (len + 4095) / 4096 * 4096);
	assert_true(r->a != NULL && r->b != NULL);
	memset(r->a, 0, len);
	memset(r->b, 0, len);
	be_region_reg(&r->p.a, r->a, len, 1, &r->mem_a);
	be_region_reg(&r->p.b, r->b, len, 2, &r->mem_b);
	r->blob_len = sizeof(r->blob);
	assert_int_equal(be_setup.ops->mem_export(r->p.b.be, r->mem_b, r->blob, &r->blob_len), MC_OK);
	assert_true(r->blob_len <= r->p.b.caps.blob_max);
	assert_int_equal(be_setup.ops->rmem_import(r->p.a.be, r->p.a.ep, r->blob, r->blob_len, &r->rmem_b), MC_OK);
}

void be_regions_close(struct be_regions *r)
{
	if (r->rmem_b != NULL)
		be_setup.ops->rmem_drop(r->p.a.be, r->rmem_b);
	if (r->mem_a != NULL)
		be_setup.ops->mem_dereg(r->p.a.be, r->mem_a);
	if (r->mem_b != NULL)
		be_setup.ops->mem_dereg(r->p.b.be, r->mem_b);
	pair_close(&r->p);
	free(r->a);
	free(r->b);
}

struct mc_be_slice be_slice(const struct be_regions *r, uint64_t off, uint64_t roff, uint64_t len)
{
	return (struct mc_be_slice){.mem = r->mem_a, .off = off, .rmem = r->rmem_b, .roff = roff, .len = len};
}

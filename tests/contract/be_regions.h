/* SPDX-License-Identifier: BSD-3-Clause */
/* be_regions.h - two linked backends and a region on either side, for the tests of transfers. */
#ifndef MC_TEST_BE_REGIONS_H
#define MC_TEST_BE_REGIONS_H

#include "be_side.h"

/* Two linked backends and a region on either side that the other has opened. */
struct be_regions {
	struct pair p;
	uint8_t *a, *b;
	uint64_t len;
	struct mc_be_mem *mem_a, *mem_b;
	struct mc_be_rmem *rmem_b; /* b's region as a sees it */
	uint8_t blob[4096];
	uint32_t blob_len;
};

/* Skips the test on a backend without one-sided transfers. */
void be_regions_open(struct be_regions *r, uint64_t len);
void be_regions_close(struct be_regions *r);
void be_region_reg(struct side *s, void *addr, uint64_t len, uint64_t id, struct mc_be_mem **mem);
struct mc_be_slice be_slice(const struct be_regions *r, uint64_t off, uint64_t roff, uint64_t len);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* user.c - what a program outside this tree does: started on its own it is a job of one rank. */
#include <mc.h>

#include <stdio.h>

int main(void)
{
	struct mc_ctx *ctx;
	struct mc_mem *mem;
	mc_status_t s = mc_init(NULL, &ctx);
	if (s != MC_OK) {
		fprintf(stderr, "mc_init: %s\n", mc_status_text(s));
		return 1;
	}
	int bad = mc_size(ctx) != 1 || mc_rank(ctx) != 0;
	s = mc_barrier(mc_group_world(ctx), MC_FOREVER);
	bad |= s != MC_OK;
	s = mc_mem_alloc(ctx, 1 << 20, NULL, &mem);
	bad |= s != MC_OK;
	if (s == MC_OK) {
		((char *)mc_mem_addr(mem))[mc_mem_len(mem) - 1] = 1;
		bad |= mc_mem_free(mem) != MC_OK;
	}
	mc_finalize(ctx);
	printf("libmc %s, header %d.%d.%d: %s\n", mc_version(), MC_VERSION_MAJOR, MC_VERSION_MINOR, MC_VERSION_PATCH,
	       bad ? "FAILED" : "works");
	return bad;
}

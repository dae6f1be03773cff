/* SPDX-License-Identifier: BSD-3-Clause */
/* How long blocks may be that go in messages: by what all members offer, and by how many they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "coll.h"

enum { MANY = 3000, SHORT = 8192, UCX = 512 << 10, SHM_SLOT = 0, VERBS_SLOT = 1, UCX_SLOT = 2 };

static void *no_map(struct mc_be *be, struct mc_be_rmem *rmem)
{
	(void)be;
	(void)rmem;
	return NULL;
}

static const struct mc_be_ops shm = {.name = "shm", .rmem_map = no_map};
static const struct mc_be_ops verbs = {.name = "verbs"}, ucx = {.name = "ucx"};

struct world {
	struct mc_ctx *ctx;
	struct mc_peer *all;
	struct mc_peer *peer[MANY];
};

/* All on one host, all offer everything. */
static struct world world_up(void)
{
	struct world w = {.ctx = calloc(1, sizeof(*w.ctx)), .all = calloc(MANY, sizeof(*w.all))};

	assert_true(w.ctx != NULL && w.all != NULL);
	w.ctx->host_id = 7;
	w.ctx->cfg.coll_short = SHORT;
	w.ctx->cfg.coll_short_ucx = UCX;
	w.ctx->be[SHM_SLOT].ops = &shm;
	w.ctx->be[VERBS_SLOT].ops = &verbs;
	w.ctx->be[UCX_SLOT].ops = &ucx;
	w.ctx->be_n = 3;
	for (uint32_t i = 0; i < MANY; i++) {
		w.peer[i] = &w.all[i];
		w.all[i].host_id = 7;
		for (uint32_t k = 0; k < w.ctx->be_n; k++)
			w.all[i].addr[k].len = 1;
	}
	return w;
}

static void world_down(struct world *w)
{
	free(w->all);
	free(w->ctx);
}

static uint64_t eager(struct world *w, uint32_t n)
{
	return mc_coll_eager(w->ctx, w->peer, n, mc_coll_where(w->ctx, w->peer, n));
}

static void eager__goes_by_what_all_offer(void **state)
{
	struct world w = world_up();

	(void)state;
	assert_int_equal(eager(&w, 4), SHORT); /* mapped */
	w.all[3].host_id = 8;
	assert_int_equal(eager(&w, 3), SHORT);
	assert_int_equal(eager(&w, 4), SHORT); /* verbs */
	w.all[2].addr[VERBS_SLOT].len = 0;
	assert_int_equal(eager(&w, 4), UCX); /* shared memory does not reach the other host */
	assert_int_equal(eager(&w, 3), SHORT);
	w.all[1].addr[SHM_SLOT].len = 0;
	assert_int_equal(eager(&w, 3), UCX);
	w.ctx->cfg.coll_short_ucx = 0;
	assert_int_equal(eager(&w, 3), 0);
	world_down(&w);
}

static void eager__is_less_among_many(void **state)
{
	struct world w = world_up();

	(void)state;
	w.all[0].addr[SHM_SLOT].len = w.all[0].addr[VERBS_SLOT].len = 0;
	assert_int_equal(eager(&w, 128), UCX);
	assert_int_equal(eager(&w, 256), UCX / 2);
	assert_int_equal(eager(&w, MANY), (64 << 20) / MANY);
	w.ctx->cfg.coll_short = 64 << 10;
	assert_int_equal(eager(&w, MANY), 64 << 10); /* never less than where nothing is known against it */
	world_down(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(eager__goes_by_what_all_offer),
		cmocka_unit_test(eager__is_less_among_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coll_select.c - which algorithm for which collective, group and size: one table, first match wins.
 *
 * Every member must come to the same choice, so it depends only on what all of them know. Boards and `direct` were
 * measured on one host with 2 and 4 ranks (docs/PERFORMANCE.md); the limits for several hosts are guesses that wait for
 * some. `mcperf coll --table` prints the table.
 */
#include <string.h>

#include "coll.h"

#define ALGO_POINTER(name) &mc_algo_##name,
const struct mc_algo *const mc_algos[] = {MC_ALGO_MAP(ALGO_POINTER) NULL};
#undef ALGO_POINTER

enum where { ANYWHERE, ONE_HOST, SEVERAL_HOSTS, SHARED }; /* SHARED: one host, members map each other's memory */

#define ANY_N   UINT32_MAX
#define ANY_LEN UINT64_MAX
#define KIB(n)  (UINT64_C(n) << 10)

#define EARLY_BYTES KIB(64 << 10)

/* Up to max_n members and max_bytes in one rank's block (bcast: in all). Lengths that not all members know count as
 * endless. */
static const struct rule {
	enum mc_coll_op op;
	enum where where;
	uint32_t max_n;
	uint64_t max_bytes;
	const struct mc_algo *algo;
} rules[] = {
	{MC_COLL_BARRIER, SHARED, MC_BOARD_RANKS, ANY_LEN, &mc_algo_barrier_board},
	{MC_COLL_BARRIER, ANYWHERE, ANY_N, ANY_LEN, &mc_algo_barrier_dissemination},

	{MC_COLL_BCAST, SHARED, MC_BOARD_RANKS, MC_BOARD_BYTES, &mc_algo_bcast_board},
	{MC_COLL_BCAST, ANYWHERE, ANY_N, KIB(8), &mc_algo_bcast_spread},
	{MC_COLL_BCAST, ONE_HOST, 16, ANY_LEN, &mc_algo_bcast_direct},
	{MC_COLL_BCAST, ANYWHERE, 2, ANY_LEN, &mc_algo_bcast_direct},
	{MC_COLL_BCAST, ANYWHERE, ANY_N, KIB(256), &mc_algo_bcast_binomial},
	{MC_COLL_BCAST, ANYWHERE, ANY_N, ANY_LEN, &mc_algo_bcast_chain},

	{MC_COLL_SCATTER, SHARED, 2, MC_BOARD_BYTES / 2, &mc_algo_scatter_board},
	{MC_COLL_SCATTER, SHARED, 4, MC_BOARD_BYTES / 4, &mc_algo_scatter_board},
	{MC_COLL_SCATTER, SHARED, 8, MC_BOARD_BYTES / 8, &mc_algo_scatter_board},
	{MC_COLL_SCATTER, SHARED, MC_BOARD_RANKS, MC_BOARD_BYTES / MC_BOARD_RANKS, &mc_algo_scatter_board},
	{MC_COLL_SCATTER, ANYWHERE, 8, ANY_LEN, &mc_algo_scatter_direct},
	{MC_COLL_SCATTER, ANYWHERE, ANY_N, KIB(2), &mc_algo_scatter_binomial},
	{MC_COLL_SCATTER, ANYWHERE, ANY_N, ANY_LEN, &mc_algo_scatter_direct},

	{MC_COLL_GATHER, SHARED, MC_BOARD_RANKS, MC_BOARD_BYTES, &mc_algo_gather_board},
	{MC_COLL_GATHER, ANYWHERE, 8, ANY_LEN, &mc_algo_gather_direct},
	{MC_COLL_GATHER, ANYWHERE, ANY_N, KIB(2), &mc_algo_gather_binomial},
	{MC_COLL_GATHER, ANYWHERE, ANY_N, ANY_LEN, &mc_algo_gather_direct},

	{MC_COLL_ALLGATHER, SHARED, MC_BOARD_RANKS, MC_BOARD_BYTES, &mc_algo_allgather_board},
	{MC_COLL_ALLGATHER, ANYWHERE, 4, KIB(8), &mc_algo_allgather_direct},
	{MC_COLL_ALLGATHER, ANYWHERE, ANY_N, KIB(2), &mc_algo_allgather_bruck},
	{MC_COLL_ALLGATHER, ONE_HOST, ANY_N, ANY_LEN, &mc_algo_allgather_direct},
	{MC_COLL_ALLGATHER, ANYWHERE, ANY_N, ANY_LEN, &mc_algo_allgather_ring},

	{MC_COLL_ALLTOALL, SHARED, 2, MC_BOARD_BYTES / 2, &mc_algo_alltoall_board},
	{MC_COLL_ALLTOALL, SHARED, 4, MC_BOARD_BYTES / 4, &mc_algo_alltoall_board},
	{MC_COLL_ALLTOALL, SHARED, 8, MC_BOARD_BYTES / 8, &mc_algo_alltoall_board},
	{MC_COLL_ALLTOALL, SHARED, MC_BOARD_RANKS, MC_BOARD_BYTES / MC_BOARD_RANKS, &mc_algo_alltoall_board},
	{MC_COLL_ALLTOALL, ANYWHERE, 8, ANY_LEN, &mc_algo_alltoall_direct},
	{MC_COLL_ALLTOALL, ANYWHERE, ANY_N, 256, &mc_algo_alltoall_bruck},
	{MC_COLL_ALLTOALL, ANYWHERE, ANY_N, KIB(8), &mc_algo_alltoall_direct},
	{MC_COLL_ALLTOALL, ANYWHERE, ANY_N, ANY_LEN, &mc_algo_alltoall_pairwise},
};

/* Does every member publish an address of that backend? The records say the same to all. */
static bool all_offer(uint32_t be, struct mc_peer *const *peer, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (peer[i]->addr[be].len == 0)
			return false;
	return true;
}

enum mc_coll_where mc_coll_where(const struct mc_ctx *ctx, struct mc_peer *const *peer, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (peer[i]->host_id != ctx->host_id)
			return MC_COLL_HOSTS;
	for (uint32_t k = 0; k < ctx->be_n; k++)
		if (ctx->be[k].ops->rmem_map != NULL && all_offer(k, peer, n))
			return MC_COLL_SHARED;
	return MC_COLL_HOST;
}

/*
 * Memory of another rank is reached over TCP by asking for it, which costs a round trip: longer blocks go in messages
 * there. Whether UCX has more than TCP not every rank knows of every other, but all know who offers what. A member that
 * is late keeps what the others send: EARLY_BYTES for a block of each.
 */
uint64_t mc_coll_eager(const struct mc_ctx *ctx, struct mc_peer *const *peer, uint32_t n, enum mc_coll_where where)
{
	if (where == MC_COLL_SHARED)
		return ctx->cfg.coll_short;
	for (uint32_t k = 0; k < ctx->be_n; k++)
		if (strcmp(ctx->be[k].ops->name, "ucx") != 0 &&
		    (where != MC_COLL_HOSTS || ctx->be[k].ops->rmem_map == NULL) && all_offer(k, peer, n))
			return ctx->cfg.coll_short;
	uint64_t most = EARLY_BYTES / n > ctx->cfg.coll_short ? EARLY_BYTES / n : ctx->cfg.coll_short;
	return ctx->cfg.coll_short_ucx < most ? ctx->cfg.coll_short_ucx : most;
}

static bool fits_where(enum where rule, enum mc_coll_where is)
{
	switch (rule) {
	case ONE_HOST:
		return is != MC_COLL_HOSTS;
	case SEVERAL_HOSTS:
		return is == MC_COLL_HOSTS;
	case SHARED:
		return is == MC_COLL_SHARED;
	default:
		return true;
	}
}

/* For who asks for it by MC_COLL_ALGORITHM; the rules keep to it by their limits. */
static bool board_fits(enum mc_coll_op op, uint64_t bytes, uint32_t n)
{
	bool all = op == MC_COLL_SCATTER || op == MC_COLL_ALLTOALL;
	return n <= MC_BOARD_RANKS && bytes <= (all ? MC_BOARD_BYTES / n : MC_BOARD_BYTES);
}

const struct mc_algo *mc_coll_select(const struct mc_ctx *ctx, enum mc_coll_op op, bool v, uint64_t bytes, uint32_t n,
				     enum mc_coll_where where)
{
	const struct mc_algo *forced = ctx->colls->force[op];
	if (forced != NULL && (!v || forced->v) && (!forced->board || board_fits(op, bytes, n)))
		return forced;
	const struct rule *r = rules;
	for (const struct rule *end = rules + MC_ARRAY_LEN(rules); r < end; r++)
		if (r->op == op && n <= r->max_n && bytes <= r->max_bytes && (!v || r->algo->v) &&
		    fits_where(r->where, where))
			break;
	return r->algo; /* the last rule of each collective fits all, and is fit for lengths per rank */
}

const struct mc_algo *mc_algo_find(enum mc_coll_op op, const char *name, size_t len)
{
	for (uint32_t i = 0; mc_algos[i] != NULL; i++)
		if (mc_algos[i]->op == op && strlen(mc_algos[i]->name) == len &&
		    memcmp(mc_algos[i]->name, name, len) == 0)
			return mc_algos[i];
	return NULL;
}

/* "bcast:chain,allgather:ring" */
mc_status_t mc_coll_force(struct mc_ctx *ctx, const char *text)
{
	struct mc_colls *cs = ctx->colls;
	memset(cs->force, 0, sizeof(cs->force));
	while (text != NULL && *text != '\0') {
		size_t all = strcspn(text, ","), name = strcspn(text, ":,");
		int op = 0;
		while (op < MC_COLL_OPS && (strlen(mc_coll_op_name((enum mc_coll_op)op)) != name ||
					    memcmp(mc_coll_op_name((enum mc_coll_op)op), text, name) != 0))
			op++;
		const struct mc_algo *a = op < MC_COLL_OPS && name < all
						  ? mc_algo_find((enum mc_coll_op)op, text + name + 1, all - name - 1)
						  : NULL;
		if (a == NULL) {
			mc_error("MC_COLL_ALGORITHM: there is no '%.*s'; it is a list like bcast:chain,allgather:ring, "
				 "and mcperf coll "
				 "--table shows the names",
				 (int)all, text);
			return MC_ERR_CONFIG;
		}
		cs->force[op] = a;
		text += all + (text[all] == ',');
	}
	return MC_OK;
}

mc_status_t mc_coll_rule_get(uint32_t index, struct mc_coll_rule *out)
{
	static const char *const where_text[] = {"any", "one host", "several hosts", "shared memory"};
	if (out == NULL || out->size != sizeof(*out))
		return MC_ERR_INVAL;
	if (index >= MC_ARRAY_LEN(rules))
		return MC_ERR_NOENT;
	const struct rule *r = &rules[index];
	out->op = r->op;
	out->max_ranks = r->max_n;
	out->max_bytes = r->max_bytes;
	out->name = mc_coll_op_name(r->op);
	out->where = where_text[r->where];
	out->algorithm = r->algo->name;
	return MC_OK;
}

const char *mc_coll_algorithm(struct mc_group *g, enum mc_coll_op op, uint64_t len)
{
	if ((unsigned int)op >= MC_COLL_OPS)
		return "?";
	return mc_coll_select(g->ctx, op, false, len, g->n, mc_coll_where(g->ctx, g->peer, g->n))->name;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_allgather.c - allgather and allgatherv: the calls. */
#include "coll.h"

/* Source of the own block: src, or where it already is in dst. */
static mc_status_t start(struct mc_group *g, const struct mc_coll_args *a, const struct mc_coll_opts *o, bool waits,
			 struct mc_req **req_out)
{
	if (g == NULL || g->self == MC_NO_RANK)
		return MC_ERR_INVAL;
	mc_status_t s = a->v ? mc_coll_range_v(a->dst, a->dlen, a->doff, g->n) : mc_coll_range_n(a->dst, a->len, g->n);
	struct mc_coll_args b = *a;
	if (s == MC_OK && a->v)
		b.len = a->dlen[g->self];
	if (s == MC_OK)
		s = mc_coll_range(b.src, 0, b.len);
	return s == MC_OK ? mc_coll_start(g, &b, o, waits, req_out) : s;
}

mc_status_t mc_iallgather(struct mc_group *g, struct mc_buf src, struct mc_buf dst, uint64_t len,
			  const struct mc_coll_opts *opts, struct mc_req **req_out)
{
	const struct mc_coll_args a = {.op = MC_COLL_ALLGATHER, .src = src, .dst = dst, .len = len};
	return start(g, &a, opts, false, req_out);
}

mc_status_t mc_allgather(struct mc_group *g, struct mc_buf src, struct mc_buf dst, uint64_t len,
			 const struct mc_coll_opts *opts)
{
	const struct mc_coll_args a = {.op = MC_COLL_ALLGATHER, .src = src, .dst = dst, .len = len};
	struct mc_req *req = NULL;
	mc_status_t s = start(g, &a, opts, true, &req);
	return mc_coll_finish(s, req);
}

mc_status_t mc_iallgatherv(struct mc_group *g, struct mc_buf src, struct mc_buf dst, const uint64_t *len,
			   const uint64_t *off, const struct mc_coll_opts *opts, struct mc_req **req_out)
{
	const struct mc_coll_args a = {
		.op = MC_COLL_ALLGATHER, .v = true, .src = src, .dst = dst, .dlen = len, .doff = off};
	return start(g, &a, opts, false, req_out);
}

mc_status_t mc_allgatherv(struct mc_group *g, struct mc_buf src, struct mc_buf dst, const uint64_t *len,
			  const uint64_t *off, const struct mc_coll_opts *opts)
{
	const struct mc_coll_args a = {
		.op = MC_COLL_ALLGATHER, .v = true, .src = src, .dst = dst, .dlen = len, .doff = off};
	struct mc_req *req = NULL;
	mc_status_t s = start(g, &a, opts, true, &req);
	return mc_coll_finish(s, req);
}

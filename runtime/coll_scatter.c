/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_scatter.c - scatter and scatterv: the calls. */
#include "coll.h"

static mc_status_t start(struct mc_group *g, const struct mc_coll_args *a, const struct mc_coll_opts *o, bool waits,
			 struct mc_req **req_out)
{
	mc_status_t s = mc_coll_range(a->dst, 0, a->len);
	if (g == NULL)
		return MC_ERR_INVAL;
	struct mc_coll_args b = *a;
	if (g->self != a->root)
		b.src = (struct mc_buf){NULL, 0};
	else if (s == MC_OK && a->v)
		s = mc_coll_range_v(a->src, a->slen, a->soff, g->n);
	else if (s == MC_OK)
		s = mc_coll_range_n(a->src, a->len, g->n);
	if (s == MC_OK && a->v && g->self == a->root && a->slen[g->self] != a->len)
		s = MC_ERR_INVAL;
	return s == MC_OK ? mc_coll_start(g, &b, o, waits, req_out) : s;
}

mc_status_t mc_iscatter(struct mc_group *g, uint32_t root, struct mc_buf src, struct mc_buf dst, uint64_t len,
			const struct mc_coll_opts *opts, struct mc_req **req_out)
{
	const struct mc_coll_args a = {.op = MC_COLL_SCATTER, .root = root, .src = src, .dst = dst, .len = len};
	return start(g, &a, opts, false, req_out);
}

mc_status_t mc_scatter(struct mc_group *g, uint32_t root, struct mc_buf src, struct mc_buf dst, uint64_t len,
		       const struct mc_coll_opts *opts)
{
	const struct mc_coll_args a = {.op = MC_COLL_SCATTER, .root = root, .src = src, .dst = dst, .len = len};
	struct mc_req *req = NULL;
	mc_status_t s = start(g, &a, opts, true, &req);
	return mc_coll_finish(s, req);
}

mc_status_t mc_iscatterv(struct mc_group *g, uint32_t root, struct mc_buf src, const uint64_t *len, const uint64_t *off,
			 struct mc_buf dst, uint64_t dst_len, const struct mc_coll_opts *opts, struct mc_req **req_out)
{
	const struct mc_coll_args a = {.op = MC_COLL_SCATTER,
				       .v = true,
				       .root = root,
				       .src = src,
				       .slen = len,
				       .soff = off,
				       .dst = dst,
				       .len = dst_len};
	return start(g, &a, opts, false, req_out);
}

mc_status_t mc_scatterv(struct mc_group *g, uint32_t root, struct mc_buf src, const uint64_t *len, const uint64_t *off,
			struct mc_buf dst, uint64_t dst_len, const struct mc_coll_opts *opts)
{
	const struct mc_coll_args a = {.op = MC_COLL_SCATTER,
				       .v = true,
				       .root = root,
				       .src = src,
				       .slen = len,
				       .soff = off,
				       .dst = dst,
				       .len = dst_len};
	struct mc_req *req = NULL;
	mc_status_t s = start(g, &a, opts, true, &req);
	return mc_coll_finish(s, req);
}

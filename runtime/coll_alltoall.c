/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_alltoall.c - alltoall and alltoallv: the calls. */
#include "coll.h"

static bool overlap(const struct mc_coll_args *a, uint64_t len)
{
	return len > 0 && a->src.mem == a->dst.mem && a->src.off < a->dst.off + len && a->dst.off < a->src.off + len;
}

static mc_status_t start(struct mc_group *g, const struct mc_coll_args *a, const struct mc_coll_opts *o, bool waits,
			 struct mc_req **req_out)
{
	if (g == NULL || g->self == MC_NO_RANK)
		return MC_ERR_INVAL;
	mc_status_t s;
	if (a->v) {
		s = mc_coll_range_v(a->src, a->slen, a->soff, g->n);
		if (s == MC_OK)
			s = mc_coll_range_v(a->dst, a->dlen, a->doff, g->n);
		if (s == MC_OK && a->slen[g->self] != a->dlen[g->self])
			s = MC_ERR_INVAL;
	} else {
		s = mc_coll_range_n(a->src, a->len, g->n);
		if (s == MC_OK)
			s = mc_coll_range_n(a->dst, a->len, g->n);
		if (s == MC_OK && overlap(a, a->len * g->n))
			s = MC_ERR_INVAL;
	}
	return s == MC_OK ? mc_coll_start(g, a, o, waits, req_out) : s;
}

mc_status_t mc_ialltoall(struct mc_group *g, struct mc_buf src, struct mc_buf dst, uint64_t len,
			 const struct mc_coll_opts *opts, struct mc_req **req_out)
{
	const struct mc_coll_args a = {.op = MC_COLL_ALLTOALL, .src = src, .dst = dst, .len = len};
	return start(g, &a, opts, false, req_out);
}

mc_status_t mc_alltoall(struct mc_group *g, struct mc_buf src, struct mc_buf dst, uint64_t len,
			const struct mc_coll_opts *opts)
{
	const struct mc_coll_args a = {.op = MC_COLL_ALLTOALL, .src = src, .dst = dst, .len = len};
	struct mc_req *req = NULL;
	mc_status_t s = start(g, &a, opts, true, &req);
	return mc_coll_finish(s, req);
}

mc_status_t mc_ialltoallv(struct mc_group *g, struct mc_buf src, const uint64_t *src_len, const uint64_t *src_off,
			  struct mc_buf dst, const uint64_t *dst_len, const uint64_t *dst_off,
			  const struct mc_coll_opts *opts, struct mc_req **req_out)
{
	const struct mc_coll_args a = {.op = MC_COLL_ALLTOALL,
				       .v = true,
				       .src = src,
				       .slen = src_len,
				       .soff = src_off,
				       .dst = dst,
				       .dlen = dst_len,
				       .doff = dst_off};
	return start(g, &a, opts, false, req_out);
}

mc_status_t mc_alltoallv(struct mc_group *g, struct mc_buf src, const uint64_t *src_len, const uint64_t *src_off,
			 struct mc_buf dst, const uint64_t *dst_len, const uint64_t *dst_off,
			 const struct mc_coll_opts *opts)
{
	const struct mc_coll_args a = {.op = MC_COLL_ALLTOALL,
				       .v = true,
				       .src = src,
				       .slen = src_len,
				       .soff = src_off,
				       .dst = dst,
				       .dlen = dst_len,
				       .doff = dst_off};
	struct mc_req *req = NULL;
	mc_status_t s = start(g, &a, opts, true, &req);
	return mc_coll_finish(s, req);
}

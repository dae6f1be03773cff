/* SPDX-License-Identifier: BSD-3-Clause */
/* coll_bcast.c - bcast: the calls. */
#include "coll.h"

static mc_status_t start(struct mc_group *g, uint32_t root, struct mc_buf buf, uint64_t len,
			 const struct mc_coll_opts *o, bool waits, struct mc_req **req_out)
{
	const struct mc_coll_args a = {.op = MC_COLL_BCAST, .root = root, .src = buf, .dst = buf, .len = len};
	mc_status_t s = mc_coll_range(buf, 0, len);
	return s == MC_OK ? mc_coll_start(g, &a, o, waits, req_out) : s;
}

mc_status_t mc_ibcast(struct mc_group *g, uint32_t root, struct mc_buf buf, uint64_t len,
		      const struct mc_coll_opts *opts, struct mc_req **req_out)
{
	return start(g, root, buf, len, opts, false, req_out);
}

mc_status_t mc_bcast(struct mc_group *g, uint32_t root, struct mc_buf buf, uint64_t len,
		     const struct mc_coll_opts *opts)
{
	struct mc_req *req = NULL;
	mc_status_t s = start(g, root, buf, len, opts, true, &req);
	return mc_coll_finish(s, req);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * quick.c - a small put of one slice over a link that takes it at once (same host): bytes and notification are there
 * when the call returns. The way of all other requests, through queues and events, costs three times as much, which is
 * what one sees of the latency of 8 bytes. Whatever is not plain is left to that way, every error, too.
 */
#include "internal.h"

enum { QUICK_MAX = 4096, QUICK_NOTE = 128, QUICK_MSG = MC_SHORT_LEN + QUICK_NOTE + 32 };

/* A link that can, and nothing under way to that peer that this put might overtake. */
static bool way_is_clear(const struct mc_peer *p)
{
	return p->state == MC_PEER_UP && p->link->ops->put_now != NULL && mc_list_empty(&p->dying) &&
	       mc_list_empty(&p->pump) && mc_list_empty(&p->txq) && p->job_name == NULL &&
	       (p->link->caps.flags & MC_CAP_PRIVATE) != 0;
}

/* The message, framed; 0: not for here. */
static uint32_t notify_frame(const struct mc_peer *p, const struct mc_notify *asked, uint8_t buf[QUICK_MSG])
{
	struct mc_ctx *ctx = p->ctx;
	struct mc_notify n = *asked;
	struct mc_wr w;

	if ((n.flags & MC_NOTIFY_NOTE) == 0)
		n.data_len = 0;
	if (n.size != sizeof(n) || (n.flags & ~(uint32_t)(MC_NOTIFY_COUNT | MC_NOTIFY_NOTE)) != 0 ||
	    n.data_len > QUICK_NOTE || (n.data_len > 0 && n.data == NULL))
		return 0;
	mc_short_encode(MC_MSG_NOTIFY, ctx->rank, mc_short_check(ctx->job, ctx->epoch, p->epoch), buf);
	mc_wr_init(&w, buf + MC_SHORT_LEN, QUICK_MSG - MC_SHORT_LEN);
	mc_wr_notify(&w, &n);
	return MC_SHORT_LEN + (uint32_t)mc_wr_len(&w);
}

bool mc_quick_put(struct mc_peer *p, const struct mc_slice *s, const struct mc_xfer_opts *opts, struct mc_req **req_out)
{
	struct mc_be_slot *link = p->link;
	uint64_t start = req_out != NULL ? mc_ticker_now(&p->ctx->ticker) : 0;
	uint8_t buf[QUICK_MSG];
	uint32_t len = 0;

	if (s->len == 0 || s->len > QUICK_MAX || !way_is_clear(p) || mc_xfer_check(p, s) != MC_OK)
		return false;
	struct mc_be_slice x = {mc_xfer_be_mem(p, s->mem), s->off, s->rmem->be_rmem, s->roff, s->len};
	if (x.mem == NULL || x.rmem == NULL || s->mem->kind != MC_KIND_HOST)
		return false;
	if (opts != NULL && opts->notify != NULL && opts->notify->flags != 0) {
		len = notify_frame(p, opts->notify, buf);
		if (len == 0 || len > link->caps.copy_max)
			return false;
	}
	struct mc_req *r = req_out != NULL ? mc_req_ended(p, MC_REQ_PUT) : NULL;
	if (req_out != NULL && r == NULL)
		return false;
	if (link->ops->put_now(link->be, p->ep, &x, len > 0 ? buf : NULL, len) != MC_OK) {
		if (r != NULL)
			mc_req_drop(r);
		return false;
	}
	p->tx_slices++;
	p->tx_bytes += s->len;
	if (r == NULL)
		return true;
	r->slices = r->run_n = 1;
	r->bytes = s->len;
	r->ticks = (mc_ticker_now(&p->ctx->ticker) - start) | 1; /* not 0 */
	*req_out = r;
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm_post.c - transfers in their order. A small post at an idle ep is copied inside post and reported by the next
 * poll; the others wait in the ep's list, and poll works them off in portions, one ep after the other.
 */
#include <stdlib.h>
#include <string.h>

#include "shm.h"

enum { TURN = 256 << 10 }; /* bytes per ep before the next one has its turn */

static struct shm_post *post_get(struct mc_be *be, uint32_t n)
{
	struct mc_list *l = mc_list_pop(&be->free_posts);
	struct shm_post *post = l != NULL ? mc_container_of(l, struct shm_post, link) : calloc(1, sizeof(*post));
	struct mc_be_slice *grown;

	if (post == NULL)
		return NULL;
	mc_list_init(&post->link);
	if (n > post->cap) {
		grown = realloc(post->store, (size_t)n * sizeof(*grown));
		if (grown == NULL) {
			mc_list_add_tail(&be->free_posts, &post->link);
			return NULL;
		}
		post->store = grown;
		post->cap = n;
	}
	return post;
}

/* Last in, first out: what was used last is still in the cache. */
static void post_put(struct mc_be *be, struct shm_post *post)
{
	mc_list_del(&post->link);
	mc_list_add_tail(be->free_posts.next, &post->link);
}

static void post_end(struct mc_be *be, struct mc_be_ep *ep, struct shm_post *post)
{
	mc_shm_event_push_native(be, post, post->status);
	ep->posts_n--;
	post_put(be, post);
}

static mc_status_t slices_check(const struct mc_be_ep *ep, const struct mc_be_slice *sl, uint32_t n,
				uint64_t *total_out)
{
	const struct mc_be_rmem *known = NULL;
	uint64_t total = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (sl[i].rmem != known) {
			known = sl[i].rmem;
			if (known->peer != ep->peer)
				return MC_ERR_INVAL;
			if (!mc_shm_rmem_live(known))
				return MC_ERR_STALE;
		}
		if (!mc_range_ok(sl[i].off, sl[i].len, sl[i].mem->region.len) ||
		    !mc_range_ok(sl[i].roff, sl[i].len, known->len) || !mc_add_u64(total, sl[i].len, &total))
			return MC_ERR_RANGE;
	}
	*total_out = total;
	return MC_OK;
}

static void post_fill(struct shm_post *post, const struct mc_be_post *p, uint64_t total)
{
	post->cookie = p->cookie;
	post->op = p->op;
	post->n = p->n;
	post->at = 0;
	post->at_off = 0;
	post->total = total;
	post->status = MC_OK;
	post->native = 0;
	post->why = NULL;
	post->has_msg = p->msg != NULL;
	post->msg_len = p->msg_len;
}

/* Copy inside the call. True: the post has ended and its event is pushed. */
static bool post_inline(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, struct shm_post *tmp)
{
	tmp->slice = p->slice;
	if (!mc_shm_post_move(be, ep, tmp, &be->budget))
		return false;
	if (tmp->status == MC_OK && tmp->has_msg) {
		if (ep->stream.active)
			return false;
		tmp->status = mc_shm_msg_put(be, ep, p->msg, p->msg_len);
		if (tmp->status == MC_ERR_AGAIN) {
			tmp->status = MC_OK;
			return false;
		}
	}
	mc_shm_event_push_native(be, tmp, tmp->status);
	return true;
}

mc_status_t mc_shm_post(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_post *p, uint32_t *taken_out)
{
	struct shm_post tmp, *post;
	uint64_t total = p->prepared;
	mc_status_t s = MC_OK;

	if ((p->op != MC_BE_WRITE && p->op != MC_BE_READ) || (p->n == 0 && p->msg == NULL) ||
	    (p->msg != NULL && (p->op != MC_BE_WRITE || p->msg_len > SHM_COPY_MAX)) || ep->state == SHM_EP_NEW)
		return MC_ERR_INVAL;
	if (ep->state == SHM_EP_DOWN || ep->peer->down)
		return MC_ERR_PEER_DOWN;
	if (p->prepared == 0)
		s = slices_check(ep, p->slice, p->n, &total);
	if (s != MC_OK)
		return s;
	*taken_out = 0;
	if (ep->posts_n >= SHM_QUEUE_POSTS || !mc_shm_event_reserve(be, 1))
		return p->n == 0 ? MC_ERR_AGAIN : MC_OK;
	post_fill(&tmp, p, total);
	if (mc_list_empty(&ep->posts) && total <= SHM_INLINE && total < be->budget && post_inline(be, ep, p, &tmp)) {
		*taken_out = p->n;
		return MC_OK;
	}
	post = post_get(be, p->prepared != 0 ? 0 : p->n);
	if (post == NULL) {
		be->evq.reserved--;
		return p->n == 0 ? MC_ERR_AGAIN : MC_OK; /* what was copied already is copied again later */
	}
	post_fill(post, p, total);
	post->at = tmp.at;
	post->at_off = tmp.at_off;
	post->slice = p->prepared != 0 ? p->slice : post->store;
	if (p->prepared == 0 && p->n > 0)
		memcpy(post->store, p->slice, p->n * sizeof(p->slice[0]));
	if (p->msg_len > 0 && p->msg != NULL)
		memcpy(post->msg, p->msg, p->msg_len);
	mc_list_add_tail(&ep->posts, &post->link);
	ep->posts_n++;
	if (ep->posts_n == 1)
		mc_list_add_tail(&be->working, &ep->work);
	*taken_out = p->n;
	return MC_OK;
}

/* What cannot be done at once, or ends in an error, is left to post. */
mc_status_t mc_shm_put_now(struct mc_be *be, struct mc_be_ep *ep, const struct mc_be_slice *slice, const void *msg,
			   uint32_t msg_len)
{
	const struct mc_be_rmem *rmem = slice->rmem;

	if (ep->state != SHM_EP_UP || ep->peer->down || rmem->map == NULL || rmem->peer != ep->peer ||
	    !mc_list_empty(&ep->posts) || ep->stream.active)
		return MC_ERR_AGAIN;
	if (!mc_range_ok(slice->off, slice->len, slice->mem->region.len) ||
	    !mc_range_ok(slice->roff, slice->len, rmem->len) || slice->len == 0 || msg_len > SHM_COPY_MAX)
		return MC_ERR_AGAIN;
	if ((msg != NULL && !mc_shm_msg_room(ep, msg_len)) || !mc_shm_slice_write(ep, slice))
		return MC_ERR_AGAIN;
	return msg != NULL ? mc_shm_msg_put(be, ep, msg, msg_len) : MC_OK;
}

/* All bytes of the ep's oldest post are moved. False: its message waits for room, and what comes after it waits, too.
 */
static bool post_finish(struct mc_be *be, struct mc_be_ep *ep, struct shm_post *post)
{
	if (post->status == MC_OK && post->has_msg) {
		mc_status_t s = ep->stream.active ? MC_ERR_AGAIN : mc_shm_msg_put(be, ep, post->msg, post->msg_len);

		if (s == MC_ERR_AGAIN)
			return false;
		post->status = s;
	}
	post_end(be, ep, post);
	if (!mc_list_empty(&ep->posts))
		mc_list_add_tail(&be->working, &ep->work);
	return true;
}

void mc_shm_posts_run(struct mc_be *be)
{
	uint64_t budget = be->budget;
	struct mc_list *l;

	while (budget > 0 && (l = mc_list_pop(&be->working)) != NULL) {
		struct mc_be_ep *ep = mc_container_of(l, struct mc_be_ep, work);
		struct shm_post *post = mc_container_of(ep->posts.next, struct shm_post, link);
		uint64_t turn = budget < TURN ? budget : TURN, left = turn;

		if (!mc_shm_post_move(be, ep, post, &left)) {
			mc_list_add_tail(&be->working, &ep->work);
			if (left == turn)
				break; /* the helper is at its last bytes */
		} else if (!post_finish(be, ep, post)) {
			mc_shm_block(be, ep);
		}
		budget -= turn > left ? turn - left : 1; /* a post of nothing but a message costs, too */
	}
	be->budget = budget;
}

bool mc_shm_posts_msg(struct mc_be *be, struct mc_be_ep *ep)
{
	if (mc_list_empty(&ep->posts) || !mc_list_empty(&ep->work))
		return true;
	return post_finish(be, ep, mc_container_of(ep->posts.next, struct shm_post, link));
}

void mc_shm_posts_end(struct mc_be *be, struct mc_be_ep *ep, mc_status_t s)
{
	while (!mc_list_empty(&ep->posts)) {
		struct shm_post *post = mc_container_of(ep->posts.next, struct shm_post, link);

		mc_shm_help_cancel(be, post);
		post->status = s;
		post_end(be, ep, post);
	}
	mc_list_del(&ep->work);
}

void mc_shm_posts_free(struct mc_be *be)
{
	struct mc_list *l;

	while ((l = mc_list_pop(&be->free_posts)) != NULL) {
		struct shm_post *post = mc_container_of(l, struct shm_post, link);

		free(post->store);
		free(post);
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_copy.c - bytes between regions: in user space where the peer's memory is mapped here, through CMA elsewhere. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>

#include "copy.h"
#include "shm.h"

enum {
	NT_TOTAL_MIN = 256 << 10, /* a small transfer stays in the cache, where its reader finds it */
	WINDOW_SHIFT = 16,        /* the kernel maps what it has of 64 KiB around a page that is read first */
};

/* ---- mapped memory --------------------------------------------------------------------------------------- */

void mc_shm_rmem_touch(struct mc_be_rmem *rmem, uint64_t roff, uint64_t len)
{
	uint64_t first = roff >> WINDOW_SHIFT, last = (roff + len - 1) >> WINDOW_SHIFT;

	for (uint64_t w = first; rmem->touched != NULL && w <= last; w++) {
		uint8_t bit = (uint8_t)(1u << (w & 7));
		uint64_t at = w << WINDOW_SHIFT;

		if ((atomic_load_explicit(&rmem->touched[w >> 3], memory_order_relaxed) & bit) != 0)
			continue;
		atomic_fetch_or_explicit(&rmem->touched[w >> 3], bit, memory_order_relaxed);
		(void)*(const volatile uint8_t *)(rmem->map + (at > roff ? at : roff));
	}
}

static uint64_t budget_less(uint64_t budget, uint64_t len)
{
	return budget > len + SHM_SLICE_COST ? budget - len - SHM_SLICE_COST : 0;
}

/* By force, as mc_copy_prefetch(): gcc drops calls of it. */
static inline __attribute__((always_inline)) void next_prefetch(const struct mc_be_slice *sl, uint32_t op)
{
	if (op == MC_BE_WRITE)
		mc_copy_prefetch((const uint8_t *)sl->mem->region.addr + sl->off);
	else
		mc_copy_prefetch(sl->rmem->map + sl->roff);
}

/* The slices that follow with the same remote region, as far as the budget goes. */
static void move_mapped(struct shm_post *post, struct mc_be_rmem *rmem, uint64_t *budget, bool nt)
{
	while (post->at<post->n && * budget> 0) {
		const struct mc_be_slice *sl = &post->slice[post->at];
		uint64_t len = sl->len - post->at_off;
		uint64_t roff = sl->roff + post->at_off;
		uint8_t *here;

		if (sl->rmem != rmem)
			return;
		if (len > *budget)
			len = *budget;
		if (post->at + 1 < post->n && sl[1].rmem == rmem)
			next_prefetch(sl + 1, post->op);
		if (len > 0) {
			here = (uint8_t *)sl->mem->region.addr + sl->off + post->at_off;
			if (post->op == MC_BE_WRITE) {
				mc_shm_rmem_touch(rmem, roff, len);
				mc_copy(rmem->map + roff, here, len, nt);
			} else {
				mc_copy(here, rmem->map + roff, len, nt);
			}
		}
		*budget = budget_less(*budget, len);
		post->at_off += len;
		if (post->at_off < sl->len)
			return;
		post->at++;
		post->at_off = 0;
	}
}

/* ---- CMA ------------------------------------------------------------------------------------------------- */

static void iov_add(struct iovec *iov, uint32_t *n, uint64_t addr, uint64_t len)
{
	if (*n > 0 && (uintptr_t)iov[*n - 1].iov_base + iov[*n - 1].iov_len == addr) {
		iov[*n - 1].iov_len += len;
		return;
	}
	iov[*n].iov_base = (void *)(uintptr_t)addr;
	iov[*n].iov_len = len;
	(*n)++;
}

/* Fill the two lists from where the post stands; returns the bytes. */
static uint64_t cma_gather(struct mc_be *be, const struct shm_post *post, const struct mc_be_rmem *rmem,
			   uint64_t budget, uint32_t *here_n, uint32_t *there_n)
{
	uint64_t off = post->at_off, sum = 0;

	*here_n = 0;
	*there_n = 0;
	for (uint32_t i = post->at; i < post->n && budget > 0; i++, off = 0) {
		const struct mc_be_slice *sl = &post->slice[i];
		uint64_t len = sl->len - off;

		if (sl->rmem != rmem || *here_n == SHM_CMA_N || *there_n == SHM_CMA_N)
			break;
		if (len > budget)
			len = budget;
		if (len > 0) {
			iov_add(be->cma_here, here_n, (uintptr_t)sl->mem->region.addr + sl->off + off, len);
			iov_add(be->cma_there, there_n, rmem->addr + sl->roff + off, len);
		}
		sum += len;
		budget = budget_less(budget, len);
	}
	return sum;
}

/* The kernel says how many bytes it moved; step over exactly those, and over empty slices. */
static void cma_advance(struct shm_post *post, const struct mc_be_rmem *rmem, uint64_t moved)
{
	while (post->at < post->n && post->slice[post->at].rmem == rmem) {
		uint64_t left = post->slice[post->at].len - post->at_off;

		if (left > moved) {
			post->at_off += moved;
			return;
		}
		moved -= left;
		post->at++;
		post->at_off = 0;
	}
}

/* A number can belong to another process once its owner is gone, and that one must not be written to. */
static bool process_alive(const struct shm_peer *peer)
{
	struct pollfd pfd = {.fd = peer->pidfd, .events = POLLIN};

	if (peer->own)
		return true;
	if (peer->pidfd >= 0)
		return poll(&pfd, 1, 0) == 0;
	return !mc_shm_process_gone(peer->pid, peer->start);
}

static void cma_failed(struct shm_post *post, const struct mc_be_rmem *rmem, int err)
{
	post->native = err;
	if (err == ESRCH) {
		post->status = MC_ERR_PEER_DOWN;
		post->why = "the peer's process is gone";
	} else if (!mc_shm_rmem_live(rmem)) {
		post->status = MC_ERR_STALE;
		post->why = "the peer freed the region";
	} else if (err == EFAULT) {
		post->status = MC_ERR_RANGE;
		post->why = "part of the registered memory is not mapped, here or at the peer, or is read-only";
	} else if (err == ENOMEM) {
		post->status = MC_ERR_NOMEM;
		post->why = "the kernel has no memory for the copy";
	} else {
		post->status = MC_ERR_UNSUPPORTED;
		post->why = "the kernel refuses process_vm_readv/writev [cma, see mcinfo doctor]";
	}
}

static void move_cma(struct mc_be *be, struct shm_post *post, struct mc_be_rmem *rmem, uint64_t *budget)
{
	uint32_t here_n, there_n;
	uint64_t want = cma_gather(be, post, rmem, *budget, &here_n, &there_n);
	ssize_t got = 0;

	if (want > 0) {
		if (!process_alive(rmem->peer)) {
			cma_failed(post, rmem, ESRCH);
			return;
		}
		do {
			if (post->op == MC_BE_WRITE)
				got = process_vm_writev(rmem->peer->pid, be->cma_here, here_n, be->cma_there, there_n,
							0);
			else
				got = process_vm_readv(rmem->peer->pid, be->cma_here, here_n, be->cma_there, there_n,
						       0);
		} while (got < 0 && errno == EINTR);
		if (got <= 0) {
			cma_failed(post, rmem, got < 0 ? errno : EFAULT);
			return;
		}
	}
	cma_advance(post, rmem, (uint64_t)got);
	*budget = budget_less(*budget, (uint64_t)got + (uint64_t)here_n * SHM_SLICE_COST);
}

/* ---- both ------------------------------------------------------------------------------------------------ */

bool mc_shm_slice_write(struct mc_be_ep *ep, const struct mc_be_slice *sl)
{
	struct mc_be_rmem *rmem = sl->rmem;
	uint64_t busy = atomic_load_explicit(&ep->ctl->busy, memory_order_relaxed) | 1;
	bool live;

	atomic_store(&ep->ctl->busy, busy); /* see below */
	live = mc_shm_rmem_live(rmem);
	if (live) {
		mc_shm_rmem_touch(rmem, sl->roff, sl->len);
		memcpy(rmem->map + sl->roff, (const uint8_t *)sl->mem->region.addr + sl->off, sl->len);
	}
	atomic_store_explicit(&ep->ctl->busy, busy + 1, memory_order_release);
	return live;
}

bool mc_shm_post_move(struct mc_be *be, struct mc_be_ep *ep, struct shm_post *post, uint64_t *budget)
{
	bool nt = be->nt && post->total >= NT_TOTAL_MIN;
	uint64_t busy = atomic_load_explicit(&ep->ctl->busy, memory_order_relaxed) | 1;

	/* Odd before the keys are looked at: an owner that frees a region waits for whoever may have seen its key. */
	atomic_store(&ep->ctl->busy, busy);
	while (post->at<post->n && * budget> 0 && post->status == MC_OK) {
		struct mc_be_rmem *rmem = post->slice[post->at].rmem;

		if (!mc_shm_rmem_live(rmem)) {
			mc_shm_help_cancel(be, post);
			post->status = MC_ERR_STALE;
			post->why = "the peer freed the region";
		} else if (rmem->map != NULL && mc_shm_help_open(be, ep, post, nt)) {
			if (mc_shm_help_move(be, post, budget) != SHM_MOVED_ALL)
				break;
		} else if (rmem->map != NULL) {
			move_mapped(post, rmem, budget, nt);
		} else {
			move_cma(be, post, rmem, budget);
		}
	}
	mc_copy_fence(nt);
	atomic_store_explicit(&ep->ctl->busy, busy + 1, memory_order_release);
	return post->at == post->n || post->status != MC_OK;
}

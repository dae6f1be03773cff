/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_copy.c - bytes between regions: in user space where the peer's memory is mapped here, through CMA elsewhere. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "shm.h"

enum {
	NT_SLICE_MIN = 1024,      /* below, streaming stores lose */
	NT_TOTAL_MIN = 256 << 10, /* a small transfer stays in the cache, where its reader finds it */
	SLICE_COST = 64,          /* what a slice takes from the budget besides its bytes */
	PREFETCH = 512,           /* bytes of the next slice asked for while this one is copied */
	WINDOW_SHIFT = 16,        /* the kernel maps what it has of 64 KiB around a page that is read first */
};

/* ---- copy ------------------------------------------------------------------------------------------------ */

#if defined(__x86_64__)
bool mc_shm_nt_pays(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx") != 0;
}

/* Stores past the caches: the target's lines need not be read first. dst is aligned to 32, len a multiple of 128. */
__attribute__((target("avx"))) static void copy_nt(uint8_t *dst, const uint8_t *src, size_t len)
{
	for (; len > 0; len -= 128, dst += 128, src += 128) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(const void *)src);
		__m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(src + 32));
		__m256i c = _mm256_loadu_si256((const __m256i *)(const void *)(src + 64));
		__m256i d = _mm256_loadu_si256((const __m256i *)(const void *)(src + 96));

		_mm256_stream_si256((__m256i *)(void *)dst, a);
		_mm256_stream_si256((__m256i *)(void *)(dst + 32), b);
		_mm256_stream_si256((__m256i *)(void *)(dst + 64), c);
		_mm256_stream_si256((__m256i *)(void *)(dst + 96), d);
	}
}

void mc_shm_copy(void *dst, const void *src, size_t len, bool nt)
{
	uint8_t *d = dst;
	const uint8_t *s = src;
	size_t head, body;

	if (!nt || len < NT_SLICE_MIN) {
		memcpy(dst, src, len);
		return;
	}
	head = (size_t)(-(uintptr_t)d & 31);
	body = (len - head) & ~(size_t)127;
	memcpy(d, s, head);
	copy_nt(d + head, s + head, body);
	memcpy(d + head + body, s + head + body, len - head - body);
}

void mc_shm_copy_fence(bool nt)
{
	if (nt)
		_mm_sfence(); /* streaming stores are not ordered before the release store that announces them */
}
#else
bool mc_shm_nt_pays(void)
{
	return false;
}

void mc_shm_copy(void *dst, const void *src, size_t len, bool nt)
{
	(void)nt;
	memcpy(dst, src, len);
}

void mc_shm_copy_fence(bool nt)
{
	(void)nt;
}
#endif

/* ---- mapped memory --------------------------------------------------------------------------------------- */

/*
 * Read before the first write: a write fault maps one page, a read fault all pages around it that exist already, which
 * makes the first pass over a region about three times cheaper, and allocates nothing more than the write would.
 */
static void touch(struct mc_be_rmem *rmem, uint64_t roff, uint64_t len)
{
	uint64_t first = roff >> WINDOW_SHIFT, last = (roff + len - 1) >> WINDOW_SHIFT;

	for (uint64_t w = first; w <= last; w++) {
		uint8_t bit = (uint8_t)(1u << (w & 7));
		uint64_t at = w << WINDOW_SHIFT;

		if ((rmem->touched[w >> 3] & bit) != 0)
			continue;
		rmem->touched[w >> 3] |= bit;
		(void)*(const volatile uint8_t *)(rmem->map + (at > roff ? at : roff));
	}
}

static uint64_t budget_less(uint64_t budget, uint64_t len)
{
	return budget > len + SLICE_COST ? budget - len - SLICE_COST : 0;
}

/*
 * Scattered blocks defeat the hardware's prefetching at each start: ask for the beginning of the next one meanwhile.
 * Inlined by force, since gcc takes a function of nothing but prefetches for one without effect and drops its calls.
 */
static inline __attribute__((always_inline)) void next_prefetch(const struct mc_be_slice *sl, uint32_t op)
{
	const uint8_t *from;

	if (op == MC_BE_WRITE)
		from = (const uint8_t *)sl->mem->region.addr + sl->off;
	else
		from = sl->rmem->map + sl->roff;
	for (uint32_t i = 0; i < PREFETCH; i += 64)
		__builtin_prefetch(from + i);
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
				if (rmem->touched != NULL)
					touch(rmem, roff, len);
				mc_shm_copy(rmem->map + roff, here, len, nt);
			} else {
				mc_shm_copy(here, rmem->map + roff, len, nt);
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
	*budget = budget_less(*budget, (uint64_t)got + (uint64_t)here_n * SLICE_COST);
}

/* ---- both ------------------------------------------------------------------------------------------------ */

bool mc_shm_post_move(struct mc_be *be, struct mc_be_ep *ep, struct shm_post *post, uint64_t *budget)
{
	bool nt = be->nt && post->total >= NT_TOTAL_MIN;
	uint64_t busy = atomic_load_explicit(&ep->ctl->busy, memory_order_relaxed) | 1;

	/* Odd before the keys are looked at: an owner that frees a region waits for whoever may have seen its key. */
	atomic_store(&ep->ctl->busy, busy);
	while (post->at<post->n && * budget> 0 && post->status == MC_OK) {
		struct mc_be_rmem *rmem = post->slice[post->at].rmem;

		if (!mc_shm_rmem_live(rmem)) {
			post->status = MC_ERR_STALE;
			post->why = "the peer freed the region";
		} else if (rmem->map != NULL) {
			move_mapped(post, rmem, budget, nt);
		} else {
			move_cma(be, post, rmem, budget);
		}
	}
	mc_shm_copy_fence(nt);
	atomic_store_explicit(&ep->ctl->busy, busy + 1, memory_order_release);
	return post->at == post->n || post->status != MC_OK;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* util.c - the parts of util.h that are not inline. */
#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "log.h"

enum { PAIR_TRIES = 8, PAIR_NS = 200 };

/* Does it count at one rate, whatever the processor's clock does and on all its cores? */
static bool tsc_steady(void)
{
#if defined(__x86_64__)
	unsigned int a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & 1u << 8) != 0;
#else
	return false;
#endif
}

/* Tick and clock at the same time, as far as nobody comes in between. */
static void ticker_pair(struct mc_ticker *t)
{
	for (int i = 0; i < PAIR_TRIES; i++) {
		int64_t before = mc_now_ns();

		t->tick = mc_ticker_now(t);
		t->ns = mc_now_ns();
		if (t->ns - before < PAIR_NS)
			return;
	}
}

void mc_ticker_init(struct mc_ticker *t)
{
	t->tsc = tsc_steady();
	ticker_pair(t);
}

uint64_t mc_ticker_ns(const struct mc_ticker *t, uint64_t ticks)
{
	struct mc_ticker now = {.tsc = t->tsc};

	if (!t->tsc)
		return ticks;
	ticker_pair(&now);
	if (now.tick <= t->tick || now.ns <= t->ns || ticks > now.tick - t->tick)
		return 0; /* not steady after all */
	return (uint64_t)((double)ticks * (double)(now.ns - t->ns) / (double)(now.tick - t->tick));
}

uint64_t mc_random_u64(void)
{
	uint64_t v = 0;

	while (v == 0) {
		ssize_t n = getrandom(&v, sizeof(v), 0);

		/* Up to 256 bytes come whole once the pool is seeded; before that a signal may interrupt the wait. */
		if (n == (ssize_t)sizeof(v))
			continue;
		if (n < 0 && errno != EINTR) {
			/* No kernel that this library supports lacks the call; a seccomp filter may forbid it. */
			mc_error("getrandom failed (errno %d); allow this system call in the container's seccomp "
				 "profile",
				 errno);
			if (getentropy(&v, sizeof(v)) != 0)
				v = (uint64_t)mc_now_ns() ^ ((uint64_t)getpid() << 40);
		} else {
			v = 0;
		}
	}
	return v;
}

void *mc_ring_grow(void *old, uint32_t cap_old, uint32_t head, uint32_t n, uint32_t cap, size_t size)
{
	uint8_t *v = reallocarray(NULL, cap, size);

	if (v != NULL && n > 0) {
		const uint8_t *from = old;
		uint32_t first = n < cap_old - head ? n : cap_old - head; /* up to the end; then from the start */
		memcpy(v, from + head * size, first * size);
		memcpy(v + first * size, from, (n - first) * size);
	}
	if (v != NULL)
		free(old);
	return v;
}

const char *mc_errno_hint(int err)
{
	switch (err) {
	case EMFILE:
	case ENFILE:
		return " (ulimit -n) [open-files, see mcinfo doctor]";
	case EAGAIN:
		return " (ulimit -u, pids.max) [process-limit, see mcinfo doctor]";
	case ENOMEM:
		return " [memory, see mcinfo doctor]";
	default:
		return "";
	}
}

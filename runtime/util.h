/* SPDX-License-Identifier: BSD-3-Clause */
/* util.h - small helpers every layer may use: checked sizes, time, intrusive list. libc only. */
#ifndef MC_UTIL_H
#define MC_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define mc_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define MC_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MC_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Sums and products of sizes that came from outside: false on overflow, *out then untouched. */
static inline bool mc_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t r;
	if (__builtin_add_overflow(a, b, &r))
		return false;
	*out = r;
	return true;
}

static inline bool mc_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t r;
	if (__builtin_mul_overflow(a, b, &r))
		return false;
	*out = r;
	return true;
}

/* Does [off, off+len) lie inside a region of `size` bytes? */
static inline bool mc_range_ok(uint64_t off, uint64_t len, uint64_t size)
{
	return len <= size && off <= size - len;
}

static inline bool mc_narrow_u32(uint64_t v, uint32_t *out)
{
	if (v > UINT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

static inline int64_t mc_now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/*
 * Short times, taken twice in every small put: the processor's own counter, which is read in half of the time that the
 * clock takes and does not stop the processor from running ahead. What it counts in is found out when someone asks.
 */
struct mc_ticker {
	bool tsc; /* else ticks are ns of the clock */
	uint64_t tick;
	int64_t ns; /* the clock, at that tick */
};

void mc_ticker_init(struct mc_ticker *t);
uint64_t mc_ticker_ns(const struct mc_ticker *t, uint64_t ticks); /* that many, which have passed since init */

static inline uint64_t mc_ticker_now(const struct mc_ticker *t)
{
#if defined(__x86_64__)
	if (t->tsc)
		return __builtin_ia32_rdtsc();
#endif
	(void)t;
	return (uint64_t)mc_now_ns();
}

/* The doctor's check for what an errno means wherever it comes from, to end a message with; "": none. */
const char *mc_errno_hint(int err);

/* Absolute deadline of a relative timeout (MC_FOREVER or negative: INT64_MAX, which no clock reaches). */
static inline int64_t mc_deadline(int64_t now_ns, int64_t timeout_ns)
{
	if (timeout_ns < 0 || timeout_ns > INT64_MAX - now_ns)
		return INT64_MAX;
	return now_ns + timeout_ns;
}

/* Doubly linked ring; an element not in a list points to itself. */
struct mc_list {
	struct mc_list *next, *prev;
};

static inline void mc_list_init(struct mc_list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool mc_list_empty(const struct mc_list *l)
{
	return l->next == l;
}

static inline void mc_list_add_tail(struct mc_list *head, struct mc_list *e)
{
	e->prev = head->prev;
	e->next = head;
	head->prev->next = e;
	head->prev = e;
}

static inline void mc_list_del(struct mc_list *e)
{
	e->prev->next = e->next;
	e->next->prev = e->prev;
	mc_list_init(e);
}

/* First element, taken out; NULL: empty. */
static inline struct mc_list *mc_list_pop(struct mc_list *head)
{
	struct mc_list *e = head->next;
	if (e == head)
		return NULL;
	mc_list_del(e);
	return e;
}

/*
 * Room for cap elements of size bytes: what a ring of cap_old has, n from head on, in order from 0 on. The old memory
 * is freed. NULL: no memory, and the old one is as it was.
 */
void *mc_ring_grow(void *old, uint32_t cap_old, uint32_t head, uint32_t n, uint32_t cap, size_t size);

/* 64 random bits from the kernel; never 0. Blocks at most until the kernel's pool is first seeded. */
uint64_t mc_random_u64(void);

#endif

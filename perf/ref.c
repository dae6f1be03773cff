/* SPDX-License-Identifier: BSD-3-Clause */
#include "ref.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

const char *const ref_name[REF_N] = {
	[REF_MEMCPY] = "ref_memcpy_gbps", [REF_PVM] = "ref_pvm_gbps",           [REF_TCP] = "ref_tcp_gbps",
	[REF_TCP_RR] = "ref_tcp_rr_us",   [REF_UCX_LAT] = "ref_ucx_put_lat_us",
};

/* Look at the clock after this many bytes. */
#define CLOCK_BYTES (UINT64_C(4) << 20)

int64_t ref_thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint64_t blocks_per_look(const struct ref_blocks *b)
{
	return b->len >= CLOCK_BYTES ? 1 : CLOCK_BYTES / b->len;
}

static double gbps(uint64_t bytes, int64_t ns)
{
	return ns > 0 ? (double)bytes / (double)ns : 0;
}

double ref_memcpy(const struct ref_blocks *b, int64_t ns, double *cpu_us_out)
{
	uint64_t look = blocks_per_look(b), i = 0, bytes = 0;
	int64_t start = perf_now_ns(), cpu = ref_thread_cpu_ns(), now;

	*cpu_us_out = 0;
	do {
		for (uint64_t k = 0; k < look; k++) {
			memcpy(b->dst + b->dst_place[i] * b->stride, b->src + b->src_place[i] * b->stride, b->len);
			i = i + 1 == b->n ? 0 : i + 1;
		}
		bytes += look * b->len;
		now = perf_now_ns();
	} while (now - start < ns);
	*cpu_us_out = (double)(ref_thread_cpu_ns() - cpu) / 1e3 / ((double)bytes / (double)b->len);
	return gbps(bytes, now - start);
}

/* dst is this rank's area of references, of the same length as the other's. */
double ref_pvm(struct ref_link *l, const struct ref_blocks *b, int64_t ns, double *cpu_us_out)
{
	uint64_t look = blocks_per_look(b), i = 0, bytes = 0;
	int64_t start = perf_now_ns(), cpu = ref_thread_cpu_ns(), now;

	*cpu_us_out = 0;
	if (l->no_pvm)
		return 0;
	do {
		for (uint64_t k = 0; k < look; k++) {
			uint8_t *near = (b->read ? b->dst : b->src) + b->src_place[i] * b->stride;
			struct iovec local = {near, b->len};
			struct iovec remote = {(void *)(uintptr_t)(l->base + b->dst_place[i] * b->stride), b->len};
			ssize_t n = b->read ? process_vm_readv(l->pid, &local, 1, &remote, 1, 0)
					    : process_vm_writev(l->pid, &local, 1, &remote, 1, 0);
			if (n < 0 || (uint64_t)n != b->len) {
				fprintf(stderr, "mcperf: reference process_vm_%s: %s; left out\n",
					b->read ? "readv" : "writev", n < 0 ? strerror(errno) : "short copy");
				l->no_pvm = true;
				return 0;
			}
			i = i + 1 == b->n ? 0 : i + 1;
		}
		bytes += look * b->len;
		now = perf_now_ns();
	} while (now - start < ns);
	*cpu_us_out = (double)(ref_thread_cpu_ns() - cpu) / 1e3 / ((double)bytes / (double)b->len);
	return gbps(bytes, now - start);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ref.h - what the machine itself can do, measured between the same two processes and in turn with mc: plain copies,
 * process_vm_writev, raw TCP. The two ranks talk over a socket of their own, on which the one that only has to wait
 * sleeps, so nothing of mc runs meanwhile.
 */
#ifndef PERF_REF_H
#define PERF_REF_H

#include <sys/types.h>

#include "job.h"
#include "stats.h"

enum ref_kind {
	REF_MEMCPY,  /* GB/s: the same blocks, one thread, into memory of the same kind */
	REF_PVM,     /* GB/s: process_vm_writev (get: readv), one block per call, between the two processes */
	REF_TCP,     /* GB/s: one stream, 1 MiB per write, between the two processes */
	REF_TCP_RR,  /* us: half of a request and reply of the block's size */
	REF_UCX_LAT, /* us: ucx_perftest put latency of the block's size */
	REF_N,
};
extern const char *const ref_name[REF_N]; /* "ref_memcpy_gbps" */

struct ref_link {
	int fd;               /* -1: none */
	bool lead;            /* this rank says what is next */
	pid_t pid;            /* of the other */
	uint64_t base;        /* its reference area, as an address there */
	double cpu_s_per_gib; /* of the last TCP stream, both sides */
	bool no_pvm, no_ucx;  /* found not to work; said once */
};

/* The blocks to copy: offsets in bytes. */
struct ref_blocks {
	uint8_t *src, *dst;
	uint64_t n, len;
	const uint32_t *src_place, *dst_place; /* [n] in units of stride */
	uint64_t stride;
	bool read;
};

/* Connect two ranks; both call it. area: this rank's reference area. */
bool ref_open(struct ref_link *l, struct perf_job *j, uint32_t lead, uint32_t other, void *area, struct perf_err *err);
void ref_close(struct ref_link *l);
bool ref_follow(struct ref_link *l); /* serve the lead until it says that this is all; false: the lead is gone */
void ref_done(struct ref_link *l);   /* lead: that is all for now */

int64_t ref_thread_cpu_ns(void);

/* All for the lead. GB/s or us; 0: does not work here. */
double ref_memcpy(const struct ref_blocks *b, int64_t ns, double *cpu_us_out); /* CPU per block */
double ref_pvm(struct ref_link *l, const struct ref_blocks *b, int64_t ns, double *cpu_us_out);
double ref_tcp(struct ref_link *l, int64_t ns);
double ref_tcp_rr(struct ref_link *l, uint64_t size, int64_t ns, bool poll);
double ref_ucx_lat(struct ref_link *l, uint64_t size, bool tcp);
double ref_ucx_parse(const char *text); /* the median in what it prints with -f, in us; 0: not there */

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * output.h - what the ranks print. One pipe per stream per rank; whole lines go to mcrun's stdout or stderr, the order
 * within a stream is kept, and memory is bounded: while our own reader is slow the ranks wait, and when it is gone
 * (closed pipe) their output is dropped and they go on.
 */
#ifndef MCRUN_OUTPUT_H
#define MCRUN_OUTPUT_H

#include "jobspec.h"

struct mc_output;

int mc_output_create(int epoll, const struct mc_job *job, struct mc_output **out, struct mc_err *err);
void mc_output_free(struct mc_output *o);
/* The ends that become rank's stdout and stderr; the caller closes them once the rank has them. */
int mc_output_open(struct mc_output *o, uint32_t rank, int fd_out[2], struct mc_err *err);
/*
 * For an agent: what the ranks print is handed on as it comes instead of being written here; stream is 0 for stdout, 1
 * for stderr. At its end once more, with data NULL. A line of our own comes with rank UINT32_MAX.
 */
typedef void mc_output_relay_fn(void *arg, uint32_t rank, unsigned stream, const char *data, size_t len);
void mc_output_relay(struct mc_output *o, mc_output_relay_fn *fn, void *arg);
/* Read no rank until told otherwise: whoever takes it on cannot take more now. */
void mc_output_hold(struct mc_output *o, bool hold);
/* For the head: what a rank elsewhere has printed, and the end of that stream. */
void mc_output_feed(struct mc_output *o, uint32_t rank, unsigned stream, const char *data, size_t len);
void mc_output_feed_end(struct mc_output *o, uint32_t rank, unsigned stream);
bool mc_output_full(const struct mc_output *o); /* our own reader is slow: feed no more for now */
/* A line of mcrun's own on stderr, "mcrun: ..." */
void mc_output_say(struct mc_output *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* No rank can print any more, or: all of it is written. */
bool mc_output_all_closed(const struct mc_output *o);
bool mc_output_all_written(const struct mc_output *o);
/* Ranks are gone but something holds their pipes open: take what is there and close them. */
void mc_output_close_all(struct mc_output *o);
/* Write what can be written without waiting; the loop calls it once per round. */
void mc_output_flush(struct mc_output *o);
/* The user insists on the end: forget what is unwritten. */
void mc_output_drop(struct mc_output *o);

#endif

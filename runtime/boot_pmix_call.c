/* SPDX-License-Identifier: BSD-3-Clause */
/* boot_pmix_call.c - see boot_pmix_call.h. */
#ifdef MC_HAVE_PMIX
#include "boot_pmix_call.h"

#include <signal.h>
#include <stdlib.h>

#include "log.h"
#include "util.h"

struct mc_pmix_call *mc_pmix_call_new(void)
{
	pthread_condattr_t attr;
	struct mc_pmix_call *c = calloc(1, sizeof(*c));

	if (c == NULL)
		goto fail;
	if (pthread_condattr_init(&attr) != 0)
		goto undo_call;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (pthread_cond_init(&c->cond, &attr) != 0)
		goto undo_attr;
	if (pthread_mutex_init(&c->lock, NULL) != 0)
		goto undo_cond;
	pthread_condattr_destroy(&attr);
	c->refs = 1;
	return c;
undo_cond:
	pthread_cond_destroy(&c->cond);
undo_attr:
	pthread_condattr_destroy(&attr);
undo_call:
	free(c);
fail:
	mc_error("PMIx: no memory for a call");
	return NULL;
}

void mc_pmix_call_unref(struct mc_pmix_call *c)
{
	uint32_t left;

	pthread_mutex_lock(&c->lock);
	left = --c->refs;
	pthread_mutex_unlock(&c->lock);
	if (left > 0)
		return;
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->cond);
	free(c->blob);
	free(c);
}

void mc_pmix_call_done(struct mc_pmix_call *c, pmix_status_t status)
{
	pthread_mutex_lock(&c->lock);
	c->status = status;
	c->done = true;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
	mc_pmix_call_unref(c);
}

void mc_pmix_call_started(struct mc_pmix_call *c, pmix_status_t rc)
{
	if (rc != PMIX_SUCCESS)
		mc_pmix_call_done(c, rc == PMIX_OPERATION_SUCCEEDED ? PMIX_SUCCESS : rc);
}

pmix_status_t mc_pmix_call_wait(struct mc_pmix_call *c, int64_t deadline_ns)
{
	const struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000),
				       .tv_nsec = deadline_ns % 1000000000};
	pmix_status_t rc;

	pthread_mutex_lock(&c->lock);
	while (!c->done && mc_now_ns() < deadline_ns) {
		if (deadline_ns == INT64_MAX)
			pthread_cond_wait(&c->cond, &c->lock);
		else
			pthread_cond_timedwait(&c->cond, &c->lock, &until);
	}
	rc = c->done ? c->status : PMIX_ERR_TIMEOUT;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static void *call_thread(void *arg)
{
	struct mc_pmix_call *c = arg;

	c->run(c);
	return NULL;
}

/*
 * Signals are blocked in the thread, and so in the one that PMIx_Init starts from it: the program's signals are not
 * ours to take, and a write to a dead server gives EPIPE there, not SIGPIPE. Those of a crash stay, for handlers that
 * report it.
 */
pmix_status_t mc_pmix_call_in_thread(struct mc_pmix_call *c, void (*run)(struct mc_pmix_call *c), int64_t deadline_ns)
{
	static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	c->run = run;
	c->refs++;
	sigfillset(&all);
	for (size_t i = 0; i < MC_ARRAY_LEN(crashes); i++)
		sigdelset(&all, crashes[i]);
	if (pthread_attr_init(&attr) != 0) {
		mc_pmix_call_unref(c);
		return PMIX_ERR_NOMEM;
	}
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, &attr, call_thread, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (rc != 0) {
		mc_pmix_call_unref(c);
		return PMIX_ERR_NOMEM;
	}
	return mc_pmix_call_wait(c, deadline_ns);
}

void mc_pmix_call_op_cb(pmix_status_t status, void *cbdata)
{
	mc_pmix_call_done(cbdata, status);
}
#endif

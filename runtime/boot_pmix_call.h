/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot_pmix_call.h - one call into the PMIx library, waited for with a deadline of our own. For boot_pmix.c only.
 *
 * A call that does not come back in time is left to itself: it holds a reference, and whoever lets go last, caller or
 * library, frees it. If the library never does, the memory is lost; that is the price of not hanging.
 */
#ifndef MC_BOOT_PMIX_CALL_H
#define MC_BOOT_PMIX_CALL_H

#include <pmix.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { MC_PMIX_KEY_MAX = 32 };

struct mc_pmix_call {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	uint32_t refs; /* caller, and library or thread */
	bool done;
	pmix_status_t status;
	void (*run)(struct mc_pmix_call *c); /* in a thread of its own */
	/* What goes in and must stay until the library is through with it. */
	pmix_proc_t proc;
	pmix_info_t info[2];
	size_t info_n;
	char key[MC_PMIX_KEY_MAX];
	/* What comes out. */
	void *blob;
	uint32_t blob_len;
	uint32_t number;
	size_t id;
};

/* With one reference, the caller's; NULL: no memory (logged). */
struct mc_pmix_call *mc_pmix_call_new(void);
void mc_pmix_call_unref(struct mc_pmix_call *c);
/* The end of the call, by the library or the thread: hands over the status and drops that side's reference. */
void mc_pmix_call_done(struct mc_pmix_call *c, pmix_status_t status);
void mc_pmix_call_op_cb(pmix_status_t status, void *cbdata); /* the same as the library's callback */
/* What the library's function returned: when it refused or was done at once, no callback comes. */
void mc_pmix_call_started(struct mc_pmix_call *c, pmix_status_t rc);
/* PMIX_ERR_TIMEOUT: the deadline passed, the call may still be under way. */
pmix_status_t mc_pmix_call_wait(struct mc_pmix_call *c, int64_t deadline_ns);
/* For functions that have no callback form: run() in a thread of its own, ending in mc_pmix_call_done(). */
pmix_status_t mc_pmix_call_in_thread(struct mc_pmix_call *c, void (*run)(struct mc_pmix_call *c), int64_t deadline_ns);

#endif

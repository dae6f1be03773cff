/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot_pmix.c - rendezvous through the PMIx server that started this process: mcrun's, Slurm's or Open MPI's.
 *
 * Used: job size, one put, one commit, one collecting fence, gets, and the event of a rank's death. Nothing that
 * happens later goes through PMIx: late puts, timeouts across nodes and notifications of clients do not work with every
 * server.
 *
 * No call into the library may hang the program, whatever its server does (stopped, gone, ignoring a timeout). Each is
 * waited for with a deadline of our own; what does not come back in time is left to itself. So everything that the
 * library may still touch is counted: `struct mc_pmix_call` and `struct events` belong to whoever lets go last, and are
 * lost if the library never does.
 *
 * PMIx_Init is counted by the library, so several contexts of a process, and MPI beside us, share one client. They also
 * share its one space of keys, and a key that was fetched is not fetched again: each context publishes under its own,
 * mc.blob.<n>. n counts the contexts of this process; all ranks of a job create their contexts in the same order, so n
 * agrees everywhere.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "boot.h"
#include "boot_pmix_call.h"
#include "log.h"
#include "util.h"
#include "wire.h"

#define GET_LIMIT_NS        INT64_C(10000000000)
#define CLOSE_LIMIT_NS      INT64_C(3000000000)
#define REGISTER_LIMIT_NS   INT64_C(5000000000)
#define UNREGISTER_LIMIT_NS INT64_C(1000000000)

#define START_KEY "mc.start" /* mcrun says with a death which start of the rank it was */

enum { BLOB_MAX = 65536 };

/* The library's keys outlive a context, so their count must, too: the one thing here that belongs to the process. */
static atomic_uint contexts_opened;

/* ---- deaths ---- */

struct events {
	pthread_mutex_t lock;
	uint32_t refs; /* context, and registration */
	int fd;
	char nspace[PMIX_MAX_NSLEN + 1];
	uint32_t rank, size;
	uint32_t head, tail; /* in queue, modulo size; a rank stands in it once, so size places are enough */
	bool server_lost, server_lost_told;
	uint32_t *deaths; /* [size] starts of the rank that are known to have ended */
	uint32_t *told;   /* [size] of these, told by next_dead */
	uint32_t *queue;
};

static void events_unref(struct events *ev)
{
	uint32_t left;

	if (ev == NULL)
		return;
	pthread_mutex_lock(&ev->lock);
	left = --ev->refs;
	pthread_mutex_unlock(&ev->lock);
	if (left > 0)
		return;
	pthread_mutex_destroy(&ev->lock);
	close(ev->fd);
	free(ev->deaths);
	free(ev->told);
	free(ev->queue);
	free(ev);
}

static struct events *events_new(const pmix_proc_t *self, uint32_t size)
{
	struct events *ev = calloc(1, sizeof(*ev));

	if (ev == NULL)
		return NULL;
	ev->deaths = calloc(size, sizeof(*ev->deaths));
	ev->told = calloc(size, sizeof(*ev->told));
	ev->queue = calloc(size, sizeof(*ev->queue));
	if (ev->deaths == NULL || ev->told == NULL || ev->queue == NULL)
		goto undo_arrays;
	ev->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ev->fd < 0)
		goto undo_arrays;
	if (pthread_mutex_init(&ev->lock, NULL) != 0)
		goto undo_fd;
	memcpy(ev->nspace, self->nspace, sizeof(ev->nspace));
	ev->rank = self->rank;
	ev->size = size;
	ev->refs = 1;
	return ev;
undo_fd:
	close(ev->fd);
undo_arrays:
	free(ev->deaths);
	free(ev->told);
	free(ev->queue);
	free(ev);
	return NULL;
}

static void events_signal(struct events *ev)
{
	const uint64_t one = 1;

	/* Fails only when the count is full, and then the descriptor is readable anyway. */
	if (write(ev->fd, &one, sizeof(one)) < 0)
		return;
}

/* start: which of its processes it was, 0 the first. */
static void events_add(struct events *ev, const pmix_proc_t *proc, uint32_t start, pmix_status_t code)
{
	const bool ours = strncmp(proc->nspace, ev->nspace, PMIX_MAX_NSLEN) == 0;

	pthread_mutex_lock(&ev->lock);
	if (ours && proc->rank < ev->size) {
		uint32_t r = proc->rank;
		if (start >= ev->deaths[r] && start < UINT32_MAX && r != ev->rank) {
			if (ev->deaths[r] == ev->told[r])
				ev->queue[ev->tail++ % ev->size] = r;
			ev->deaths[r] = start + 1;
			events_signal(ev);
		}
	} else if (code == PMIX_ERR_LOST_CONNECTION && !ev->server_lost) {
		ev->server_lost = true;
		events_signal(ev);
	}
	pthread_mutex_unlock(&ev->lock);
}

/* The library hands the object of the registration back among the event's own information. */
static struct events *events_of(const pmix_info_t *info, size_t info_n)
{
	for (size_t i = 0; i < info_n; i++)
		if (PMIX_CHECK_KEY(&info[i], PMIX_EVENT_RETURN_OBJECT) && info[i].value.type == PMIX_POINTER)
			return info[i].value.data.ptr;
	return NULL;
}

static void event_cb(size_t id, pmix_status_t status, const pmix_proc_t *source, pmix_info_t info[], size_t info_n,
		     pmix_info_t results[], size_t results_n, pmix_event_notification_cbfunc_fn_t cbfunc, void *cbdata)
{
	struct events *ev = events_of(info, info_n);
	const pmix_proc_t *affected = source;
	uint32_t start = 0;

	(void)id;
	(void)results;
	(void)results_n;
	for (size_t i = 0; i < info_n; i++) {
		if (PMIX_CHECK_KEY(&info[i], PMIX_EVENT_AFFECTED_PROC) && info[i].value.type == PMIX_PROC)
			affected = info[i].value.data.proc;
		else if (PMIX_CHECK_KEY(&info[i], START_KEY) && info[i].value.type == PMIX_UINT32)
			start = info[i].value.data.uint32;
	}
	if (ev != NULL && affected != NULL)
		events_add(ev, affected, start, status);
	/* Not "action complete": whoever else in this process wants to know, e.g. MPI, comes next. */
	if (cbfunc != NULL)
		cbfunc(PMIX_SUCCESS, NULL, 0, NULL, NULL, cbdata);
}

static void registered_cb(pmix_status_t status, size_t id, void *cbdata)
{
	struct mc_pmix_call *c = cbdata;

	c->id = id;
	mc_pmix_call_done(c, status);
}

static mc_status_t events_register(struct events *ev, size_t *id_out)
{
	pmix_status_t codes[] = {PMIX_ERR_PROC_ABORTED, PMIX_ERR_LOST_CONNECTION};
	struct mc_pmix_call *c = mc_pmix_call_new();
	pmix_status_t rc;

	if (c == NULL)
		return MC_ERR_NOMEM;
	PMIX_INFO_LOAD(&c->info[0], PMIX_EVENT_RETURN_OBJECT, ev, PMIX_POINTER);
	c->refs++;
	ev->refs++; /* the registration's; no handler runs before it */
	PMIx_Register_event_handler(codes, MC_ARRAY_LEN(codes), c->info, 1, event_cb, registered_cb, c);
	rc = mc_pmix_call_wait(c, mc_deadline(mc_now_ns(), REGISTER_LIMIT_NS));
	*id_out = c->id;
	mc_pmix_call_unref(c);
	if (rc == PMIX_SUCCESS)
		return MC_OK;
	mc_warn("PMIx: no news of ranks that die: registering for it failed: %s (%d)", PMIx_Error_string(rc), rc);
	/* One that may yet come to pass keeps its reference: the handler could run at any time. */
	if (rc != PMIX_ERR_TIMEOUT)
		events_unref(ev);
	return MC_ERR_BOOT;
}

static void events_unregister(struct events *ev, size_t id)
{
	struct mc_pmix_call *c = mc_pmix_call_new();
	pmix_status_t rc;

	if (c == NULL)
		return;
	c->refs++;
	PMIx_Deregister_event_handler(id, mc_pmix_call_op_cb, c);
	rc = mc_pmix_call_wait(c, mc_deadline(mc_now_ns(), UNREGISTER_LIMIT_NS));
	mc_pmix_call_unref(c);
	/* The library runs handlers and this callback in one thread: none is inside ours any more. */
	if (rc != PMIX_ERR_TIMEOUT)
		events_unref(ev);
}

/* ---- values ---- */

static void value_cb(pmix_status_t status, pmix_value_t *kv, void *cbdata)
{
	struct mc_pmix_call *c = cbdata;

	if (status == PMIX_SUCCESS && kv == NULL)
		status = PMIX_ERR_NOT_FOUND;
	if (status == PMIX_SUCCESS && kv->type == PMIX_UINT32) {
		c->number = kv->data.uint32;
	} else if (status == PMIX_SUCCESS && kv->type == PMIX_UINT16) {
		c->number = kv->data.uint16;
	} else if (status == PMIX_SUCCESS && kv->type == PMIX_BYTE_OBJECT && kv->data.bo.size <= BLOB_MAX) {
		/* The value is the library's again when this returns. */
		c->blob = malloc(kv->data.bo.size > 0 ? kv->data.bo.size : 1);
		if (c->blob == NULL)
			status = PMIX_ERR_NOMEM;
		else if (kv->data.bo.size > 0)
			memcpy(c->blob, kv->data.bo.bytes, kv->data.bo.size);
		c->blob_len = (uint32_t)kv->data.bo.size;
	} else if (status == PMIX_SUCCESS) {
		status = PMIX_ERR_TYPE_MISMATCH;
	}
	mc_pmix_call_done(c, status);
}

/*
 * PMIX_TIMEOUT is for good servers, the deadline for those that ignore it. optional: only what the library knows
 * already. The call is the caller's to unref.
 */
static pmix_status_t value_get(const char *nspace, pmix_rank_t rank, const char *key, bool optional,
			       struct mc_pmix_call **call_out)
{
	const int limit_s = (int)(GET_LIMIT_NS / 1000000000);
	struct mc_pmix_call *c = mc_pmix_call_new();

	if (c == NULL)
		return PMIX_ERR_NOMEM;
	PMIX_LOAD_PROCID(&c->proc, nspace, rank);
	PMIX_INFO_LOAD(&c->info[0], PMIX_TIMEOUT, &limit_s, PMIX_INT);
	if (optional)
		PMIX_INFO_LOAD(&c->info[1], PMIX_OPTIONAL, NULL, PMIX_BOOL);
	snprintf(c->key, sizeof(c->key), "%s", key);
	c->refs++;
	mc_pmix_call_started(c, PMIx_Get_nb(&c->proc, c->key, c->info, optional ? 2 : 1, value_cb, c));
	*call_out = c;
	return mc_pmix_call_wait(c, mc_deadline(mc_now_ns(), GET_LIMIT_NS));
}

/* ---- the contract ---- */

struct mc_boot {
	pmix_proc_t self;
	uint32_t size;
	uint32_t again;
	char key[MC_PMIX_KEY_MAX];
	struct mc_pmix_call *got; /* the value that the last get lent out */
	struct events *events;
	size_t events_id;
	bool registered;
};

static void run_init(struct mc_pmix_call *c)
{
	mc_pmix_call_done(c, PMIx_Init(&c->proc, NULL, 0));
}

static void run_finalize(struct mc_pmix_call *c)
{
	mc_pmix_call_done(c, PMIx_Finalize(NULL, 0));
}

static mc_status_t client_init(struct mc_boot *boot, int64_t timeout_ns)
{
	struct mc_pmix_call *c = mc_pmix_call_new();
	pmix_status_t rc;

	if (c == NULL)
		return MC_ERR_NOMEM;
	rc = mc_pmix_call_in_thread(c, run_init, mc_deadline(mc_now_ns(), timeout_ns));
	if (rc == PMIX_SUCCESS)
		boot->self = c->proc;
	mc_pmix_call_unref(c);
	if (rc == PMIX_SUCCESS)
		return MC_OK;
	mc_error("PMIx_Init failed: %s (%d); does the launcher that set PMIX_NAMESPACE still run? A process that a rank"
		 " starts for itself must not inherit PMIX_* variables",
		 PMIx_Error_string(rc), rc);
	return rc == PMIX_ERR_TIMEOUT ? MC_ERR_TIMEOUT : MC_ERR_BOOT;
}

static void client_finalize(void)
{
	struct mc_pmix_call *c = mc_pmix_call_new();
	pmix_status_t rc;

	if (c == NULL)
		return;
	rc = mc_pmix_call_in_thread(c, run_finalize, mc_deadline(mc_now_ns(), CLOSE_LIMIT_NS));
	mc_pmix_call_unref(c);
	if (rc != PMIX_SUCCESS)
		mc_warn("PMIx_Finalize failed: %s (%d); the launcher may count this rank as lost",
			PMIx_Error_string(rc), rc);
}

static mc_status_t job_size(struct mc_boot *boot)
{
	struct mc_pmix_call *c = NULL;
	pmix_status_t rc = value_get(boot->self.nspace, PMIX_RANK_WILDCARD, PMIX_JOB_SIZE, false, &c);

	if (rc == PMIX_SUCCESS)
		boot->size = c->number;
	if (c != NULL)
		mc_pmix_call_unref(c);
	if (rc == PMIX_SUCCESS && boot->self.rank < boot->size)
		return MC_OK;
	mc_error("PMIx: job %s: rank %" PRIu32 " of %" PRIu32 " ranks makes no sense (size: %s, %d)", boot->self.nspace,
		 boot->self.rank, boot->size, PMIx_Error_string(rc), rc);
	return MC_ERR_BOOT;
}

/* Our number on this host and how many we are there; a launcher may not tell. */
static void local_place(const struct mc_boot *boot, struct mc_boot_info *info)
{
	struct mc_pmix_call *c[2] = {NULL, NULL};
	bool ok = value_get(boot->self.nspace, boot->self.rank, PMIX_LOCAL_RANK, true, &c[0]) == PMIX_SUCCESS &&
		  value_get(boot->self.nspace, PMIX_RANK_WILDCARD, PMIX_LOCAL_SIZE, true, &c[1]) == PMIX_SUCCESS;

	if (ok && c[0]->number < c[1]->number && c[1]->number <= info->size) {
		info->local_rank = c[0]->number;
		info->local_size = c[1]->number;
	}
	for (size_t i = 0; i < MC_ARRAY_LEN(c); i++) {
		if (c[i] != NULL)
			mc_pmix_call_unref(c[i]);
	}
}

/* Names of jobs that are too long for us are cut and told apart by a checksum of the whole. */
static void job_name(const char *nspace, char *out, size_t room)
{
	const size_t len = strlen(nspace);

	if (len < room)
		snprintf(out, room, "%s", nspace);
	else
		snprintf(out, room, "%.*s#%08" PRIx32, (int)(room - 10), nspace, mc_crc32c(0, nspace, len));
}

static mc_status_t pmix_open(const struct mc_boot_cfg *cfg, struct mc_boot **boot_out, struct mc_boot_info *info_out)
{
	struct mc_boot *boot;
	mc_status_t s;

	if (cfg->hub != NULL || !mc_config_launched())
		return MC_ERR_UNSUPPORTED;
	boot = calloc(1, sizeof(*boot));
	if (boot == NULL) {
		mc_error("PMIx: no memory for the rendezvous");
		return MC_ERR_NOMEM;
	}
	s = client_init(boot, cfg->config->init_timeout);
	if (s != MC_OK)
		goto undo_boot;
	snprintf(boot->key, sizeof(boot->key), "mc.blob.%u", atomic_fetch_add(&contexts_opened, 1));
	s = job_size(boot);
	if (s != MC_OK)
		goto undo_client;
	boot->events = events_new(&boot->self, boot->size);
	if (boot->events == NULL) {
		mc_error("PMIx: no memory or descriptor for the news of %" PRIu32 " ranks", boot->size);
		s = MC_ERR_NOMEM;
		goto undo_client;
	}
	boot->registered = events_register(boot->events, &boot->events_id) == MC_OK;

	boot->again = cfg->config->rejoin;
	*info_out = (struct mc_boot_info){.rank = boot->self.rank, .size = boot->size, .again = boot->again};
	info_out->event_fd = boot->registered ? boot->events->fd : -1;
	local_place(boot, info_out);
	job_name(boot->self.nspace, info_out->job, sizeof(info_out->job));
	*boot_out = boot;
	return MC_OK;
undo_client:
	client_finalize();
undo_boot:
	free(boot);
	return s;
}

/* Put and commit only hand the value to the local server, but that can be stopped, too. */
static void run_put(struct mc_pmix_call *c)
{
	pmix_value_t v = {.type = PMIX_BYTE_OBJECT};
	pmix_status_t rc;

	v.data.bo.bytes = c->blob;
	v.data.bo.size = c->blob_len;
	rc = PMIx_Put(PMIX_GLOBAL, c->key, &v);
	if (rc == PMIX_SUCCESS)
		rc = PMIx_Commit();
	mc_pmix_call_done(c, rc);
}

static mc_status_t publish(struct mc_boot *boot, const void *blob, uint32_t len, int64_t deadline_ns)
{
	struct mc_pmix_call *c = mc_pmix_call_new();
	pmix_status_t rc;

	if (c == NULL)
		return MC_ERR_NOMEM;
	snprintf(c->key, sizeof(c->key), "%s", boot->key);
	c->blob = malloc(len > 0 ? len : 1);
	if (c->blob == NULL) {
		mc_pmix_call_unref(c);
		mc_error("PMIx: no memory for a blob of %" PRIu32 " bytes", len);
		return MC_ERR_NOMEM;
	}
	if (len > 0)
		memcpy(c->blob, blob, len);
	c->blob_len = len;
	rc = mc_pmix_call_in_thread(c, run_put, deadline_ns);
	mc_pmix_call_unref(c);
	if (rc == PMIX_SUCCESS)
		return MC_OK;
	mc_error("PMIx: rank %" PRIu32 ": publishing %" PRIu32 " bytes failed: %s (%d); does the launcher still run?",
		 boot->self.rank, len, PMIx_Error_string(rc), rc);
	return rc == PMIX_ERR_TIMEOUT ? MC_ERR_TIMEOUT : MC_ERR_BOOT;
}

/* PMIX_TIMEOUT counts whole seconds: rounded up, so that our own deadline comes first. After a fence that timed out,
 * later ones may pair wrongly: there is no second attempt. */
static mc_status_t fence(struct mc_boot *boot, int64_t timeout_ns, int64_t deadline_ns)
{
	const bool collect = true;
	struct mc_pmix_call *c = mc_pmix_call_new();
	pmix_status_t rc;
	int limit_s;

	if (c == NULL)
		return MC_ERR_NOMEM;
	PMIX_INFO_LOAD(&c->info[0], PMIX_COLLECT_DATA, &collect, PMIX_BOOL);
	c->info_n = 1;
	if (timeout_ns >= 0 && timeout_ns / 1000000000 < INT32_MAX) {
		limit_s = (int)(timeout_ns / 1000000000) + 1;
		PMIX_INFO_LOAD(&c->info[1], PMIX_TIMEOUT, &limit_s, PMIX_INT);
		c->info_n = 2;
	}
	c->refs++;
	mc_pmix_call_started(c, PMIx_Fence_nb(NULL, 0, c->info, c->info_n, mc_pmix_call_op_cb, c));
	rc = mc_pmix_call_wait(c, deadline_ns);
	mc_pmix_call_unref(c);
	if (rc == PMIX_SUCCESS)
		return MC_OK;
	if (rc != PMIX_ERR_TIMEOUT) {
		mc_error("PMIx: rank %" PRIu32 ": the fence over %" PRIu32 " ranks failed: %s (%d)", boot->self.rank,
			 boot->size, PMIx_Error_string(rc), rc);
		return MC_ERR_BOOT;
	}
	mc_error("PMIx: rank %" PRIu32 ": not all of the %" PRIu32 " ranks called mc_init() within %" PRId64
		 " ms; look for a rank that failed or hangs before it, or raise MC_INIT_TIMEOUT",
		 boot->self.rank, boot->size, timeout_ns / 1000000);
	return MC_ERR_TIMEOUT;
}

static mc_status_t pmix_exchange(struct mc_boot *boot, const void *blob, uint32_t len, int64_t timeout_ns)
{
	const int64_t deadline_ns = mc_deadline(mc_now_ns(), timeout_ns);
	mc_status_t s;

	if (len > BLOB_MAX)
		return MC_ERR_INVAL;
	s = publish(boot, blob, len, deadline_ns);
	if (boot->again > 0) {
		/* The fence is over for the others. That the server takes the new value is a help, no condition. */
		if (s != MC_OK)
			mc_info("PMIx: rank %" PRIu32 ": others learn of this start from this rank alone",
				boot->self.rank);
		return MC_OK;
	}
	return s != MC_OK ? s : fence(boot, timeout_ns, deadline_ns);
}

static mc_status_t pmix_get(struct mc_boot *boot, uint32_t rank, const void **blob_out, uint32_t *len_out)
{
	struct mc_pmix_call *c = NULL;
	pmix_status_t rc;

	if (rank >= boot->size)
		return MC_ERR_INVAL;
	rc = value_get(boot->self.nspace, rank, boot->key, false, &c);
	if (rc != PMIX_SUCCESS || c->blob == NULL) {
		if (c != NULL)
			mc_pmix_call_unref(c);
		mc_error("PMIx: rank %" PRIu32 ": no blob of rank %" PRIu32 " under %s: %s (%d)", boot->self.rank, rank,
			 boot->key, PMIx_Error_string(rc), rc);
		return MC_ERR_BOOT;
	}
	if (boot->got != NULL)
		mc_pmix_call_unref(boot->got);
	boot->got = c;
	*blob_out = c->blob;
	*len_out = c->blob_len;
	return MC_OK;
}

/* Beyond the contract, once: MC_ERR_BOOT when the server is gone and no more news can come. */
static mc_status_t pmix_next_dead(struct mc_boot *boot, uint32_t *rank_out, uint32_t *start_out)
{
	struct events *ev = boot->events;
	mc_status_t s = MC_ERR_AGAIN;
	uint64_t count;

	pthread_mutex_lock(&ev->lock);
	if (ev->head != ev->tail) {
		*rank_out = ev->queue[ev->head++ % ev->size];
		ev->told[*rank_out] = ev->deaths[*rank_out];
		*start_out = ev->told[*rank_out] - 1;
		s = MC_OK;
	} else if (ev->server_lost && !ev->server_lost_told) {
		ev->server_lost_told = true;
		s = MC_ERR_BOOT;
	} else if (read(ev->fd, &count, sizeof(count)) < 0) {
		s = MC_ERR_AGAIN; /* not readable: as it should be */
	}
	pthread_mutex_unlock(&ev->lock);
	if (s == MC_ERR_BOOT)
		mc_warn("PMIx: rank %" PRIu32
			": the launcher is gone; ranks that die will be noticed by their links only",
			boot->self.rank);
	return s;
}

static void pmix_close(struct mc_boot *boot)
{
	if (boot == NULL)
		return;
	if (boot->registered)
		events_unregister(boot->events, boot->events_id);
	client_finalize();
	events_unref(boot->events);
	if (boot->got != NULL)
		mc_pmix_call_unref(boot->got);
	free(boot);
}

const struct mc_boot_ops mc_boot_pmix = {
	.abi = MC_BOOT_ABI,
	.size = sizeof(struct mc_boot_ops),
	.name = "pmix",
	.open = pmix_open,
	.exchange = pmix_exchange,
	.get = pmix_get,
	.next_dead = pmix_next_dead,
	.close = pmix_close,
};

/* SPDX-License-Identifier: BSD-3-Clause */
#include "netaddr.h"
#include "server.h"
#include "server_job.h"
#include "server_net.h"
#include "server_pub.h"

#include <pmix.h>
#include <pmix_server.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct mc_server {
	pmix_nspace_t job_name;
	uint32_t rank_n;
	int event_fd;
	pthread_mutex_t lock; /* guards the queue: libpmix's thread puts, ours takes */
	struct mc_server_event *queue;
	size_t queue_n, queue_at, queue_room;
	struct mc_pub *pub;
	struct mc_net *net; /* NULL: all ranks are here */
	bool keep_deaths;   /* tell ranks that join later of deaths before */
	uint32_t *deaths;   /* [rank_n] told so far */
};

/* libpmix gives its callbacks no argument of ours: the one server of this process has to be found somewhere. */
static struct mc_server *the_server;

static void post(const struct mc_server_event *ev)
{
	struct mc_server *s = the_server;
	uint64_t one = 1;

	(void)pthread_mutex_lock(&s->lock);
	if (s->queue_n == s->queue_room) {
		s->queue_room = s->queue_room == 0 ? 64 : s->queue_room * 2;
		s->queue = mc_xgrow(s->queue, s->queue_room, sizeof(*s->queue));
	}
	s->queue[s->queue_n++] = *ev;
	(void)pthread_mutex_unlock(&s->lock);
	(void)!write(s->event_fd, &one, sizeof(one));
}

static bool is_ours(const pmix_proc_t *p)
{
	return PMIX_CHECK_NSPACE(p->nspace, the_server->job_name) && p->rank < the_server->rank_n;
}

static pmix_status_t on_connected(const pmix_proc_t *proc, void *object, pmix_info_t info[], size_t info_n,
				  pmix_op_cbfunc_t done, void *done_arg)
{
	struct mc_server_event ev = {.kind = MC_SERVER_JOINED, .rank = proc->rank};

	(void)object, (void)info, (void)info_n, (void)done, (void)done_arg;
	if (is_ours(proc))
		post(&ev);
	return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t on_finalized(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t done, void *done_arg)
{
	struct mc_server_event ev = {.kind = MC_SERVER_LEFT, .rank = proc->rank};

	(void)object, (void)done, (void)done_arg;
	if (is_ours(proc))
		post(&ev);
	return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t on_abort(const pmix_proc_t *proc, void *object, int status, const char msg[], pmix_proc_t procs[],
			      size_t procs_n, pmix_op_cbfunc_t done, void *done_arg)
{
	struct mc_server_event ev = {.kind = MC_SERVER_ABORT, .rank = proc->rank, .code = status, .victim = UINT32_MAX};

	(void)object, (void)done, (void)done_arg;
	if (!is_ours(proc))
		return PMIX_ERR_BAD_PARAM;
	(void)snprintf(ev.text, sizeof(ev.text), "%s", msg == NULL ? "" : msg);
	for (size_t i = 0; i < procs_n && procs != NULL; i++) {
		if (procs[i].rank == PMIX_RANK_WILDCARD || !is_ours(&procs[i]))
			continue;
		ev.victim = procs[i].rank;
		post(&ev);
	}
	if (ev.victim == UINT32_MAX)
		post(&ev);
	return PMIX_OPERATION_SUCCEEDED;
}

static void free_copy(void *copy)
{
	free(copy);
}

/* Where all participants are here the library has everybody's data already; it asks only after a participant died. */
static pmix_status_t on_fence(const pmix_proc_t procs[], size_t procs_n, const pmix_info_t info[], size_t info_n,
			      char *data, size_t len, pmix_modex_cbfunc_t done, void *done_arg)
{
	struct mc_net *net = the_server->net;
	char *copy = NULL;

	if (done == NULL)
		return PMIX_ERR_BAD_PARAM;
	if (net != NULL && mc_net_fence(net, procs, procs_n, info, info_n, data, len, done, done_arg))
		return PMIX_SUCCESS;
	if (len > 0) {
		copy = mc_xalloc(len, 1);
		memcpy(copy, data, len);
	}
	done(PMIX_SUCCESS, copy, len, done_arg, free_copy, copy);
	return PMIX_SUCCESS;
}

static pmix_status_t on_modex(const pmix_proc_t *proc, const pmix_info_t info[], size_t info_n,
			      pmix_modex_cbfunc_t done, void *done_arg)
{
	return mc_net_modex(the_server->net, proc, info, info_n, done, done_arg);
}

static pmix_status_t on_publish(const pmix_proc_t *proc, const pmix_info_t info[], size_t info_n, pmix_op_cbfunc_t done,
				void *done_arg)
{
	if (the_server->net != NULL)
		return mc_net_publish(the_server->net, proc, info, info_n, done, done_arg);
	pmix_status_t rc = mc_pub_publish(the_server->pub, proc, info, info_n);
	return rc == PMIX_SUCCESS ? PMIX_OPERATION_SUCCEEDED : rc;
}

static pmix_status_t on_lookup(const pmix_proc_t *proc, char **keys, const pmix_info_t info[], size_t info_n,
			       pmix_lookup_cbfunc_t done, void *done_arg)
{
	size_t want = 0, n = 0;
	pmix_pdata_t *data = NULL;

	(void)proc, (void)info, (void)info_n;
	if (the_server->net != NULL)
		return mc_net_lookup(the_server->net, keys, done, done_arg);
	while (keys != NULL && keys[want] != NULL)
		want++;
	pmix_status_t rc = mc_pub_lookup(the_server->pub, keys, &data, &n);
	if (data == NULL)
		return rc;
	done(rc, data, n, done_arg);
	PMIX_PDATA_FREE(data, want);
	return PMIX_SUCCESS;
}

static pmix_status_t on_unpublish(const pmix_proc_t *proc, char **keys, const pmix_info_t info[], size_t info_n,
				  pmix_op_cbfunc_t done, void *done_arg)
{
	(void)info, (void)info_n;
	if (the_server->net != NULL)
		return mc_net_unpublish(the_server->net, proc, keys, done, done_arg);
	pmix_status_t rc = mc_pub_unpublish(the_server->pub, proc, keys);
	return rc == PMIX_SUCCESS ? PMIX_OPERATION_SUCCEEDED : rc;
}

static pmix_server_module_t module = {
	.client_connected2 = on_connected,
	.client_finalized = on_finalized,
	.abort = on_abort,
	.fence_nb = on_fence,
	.publish = on_publish,
	.lookup = on_lookup,
	.unpublish = on_unpublish,
};

/* With munge the kernel vouches for a client's uid; without it PMIx believes what the client writes. */
static bool munge_answers(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/run/munge/munge.socket.2"};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool ok = fd >= 0 && connect(fd, (struct sockaddr *)(void *)&a, sizeof(a)) == 0;

	if (fd >= 0)
		(void)close(fd);
	return ok;
}

/* libpmix reads its settings from the environment; the ranks' environment was made before and has none of these. */
static void set_own_environment(const char *tmpdir, bool restart)
{
	/*
	 * The server needs no topology of the machine. Finding it, and loading hwloc's plug-ins with the graphics
	 * libraries behind them, would be most of the start-up time; the directory for plug-ins is one that has none.
	 */
	(void)setenv("HWLOC_COMPONENTS", "no_os,stop", 1);
	(void)setenv("HWLOC_PLUGINS_PATH", tmpdir, 1);
	/* files that clients map are not made anew for a second process of a rank; what the server keeps itself is */
	if (restart)
		(void)setenv("PMIX_MCA_gds", "hash", 0);
	if (munge_answers())
		(void)setenv("PMIX_MCA_psec", "munge", 0);
}

static pmix_status_t init_library(const struct mc_server_cfg *cfg)
{
	pmix_info_t info[6];
	pmix_rank_t rank = 0;
	bool no = false;
	char name[PMIX_MAX_NSLEN];

	(void)snprintf(name, sizeof(name), "%s-server", cfg->job_name);
	PMIX_INFO_LOAD(&info[0], PMIX_SERVER_NSPACE, name, PMIX_STRING);
	PMIX_INFO_LOAD(&info[1], PMIX_SERVER_RANK, &rank, PMIX_PROC_RANK);
	PMIX_INFO_LOAD(&info[2], PMIX_SERVER_TMPDIR, cfg->tmpdir, PMIX_STRING);
	PMIX_INFO_LOAD(&info[3], PMIX_SYSTEM_TMPDIR, cfg->tmpdir, PMIX_STRING);
	PMIX_INFO_LOAD(&info[4], PMIX_SERVER_TOOL_SUPPORT, &no, PMIX_BOOL);
	PMIX_INFO_LOAD(&info[5], PMIX_HOSTNAME, cfg->host, PMIX_STRING);
	pmix_status_t rc = PMIx_server_init(&module, info, 6);
	for (int i = 0; i < 6; i++)
		PMIX_INFO_DESTRUCT(&info[i]);
	return rc;
}

int mc_server_start(const struct mc_server_cfg *cfg, struct mc_server **server_out, struct mc_err *err)
{
	struct mc_server *s = mc_xalloc(1, sizeof(*s));

	(void)snprintf(s->job_name, sizeof(s->job_name), "%s", cfg->job_name);
	s->rank_n = cfg->job->rank_n;
	(void)pthread_mutex_init(&s->lock, NULL);
	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->event_fd < 0) {
		free(s);
		return mc_err_set(err, "cannot make an event descriptor: %s%s", strerror(errno), mc_err_hint(errno));
	}
	s->pub = mc_pub_create();
	s->deaths = mc_xalloc(s->rank_n, sizeof(*s->deaths));
	s->keep_deaths = cfg->job->fail != MC_FAIL_RESTART;
	if (cfg->hosts != NULL)
		s->net = mc_net_create(cfg->job_name, cfg->hosts, cfg->self, post);
	module.direct_modex =
		s->net != NULL ? on_modex : NULL; /* where everybody is here the library knows all there is */
	the_server = s;
	set_own_environment(cfg->tmpdir, cfg->job->fail == MC_FAIL_RESTART);
	pmix_status_t rc = init_library(cfg);
	if (rc != PMIX_SUCCESS && !mc_addr_loopback())
		return mc_err_set(err,
				  "the PMIx server does not start: %s (%d); it needs the loopback interface, which is "
				  "down here: ip link set lo up",
				  PMIx_Error_string(rc), rc);
	if (rc != PMIX_SUCCESS)
		return mc_err_set(err, "the PMIx server does not start: %s (%d); is libpmix complete and %s writable?",
				  PMIx_Error_string(rc), rc, cfg->tmpdir);
	rc = mc_server_job_register(cfg, s->job_name);
	if (rc != PMIX_SUCCESS)
		return mc_err_set(err, "the PMIx server refuses the job: %s (%d)", PMIx_Error_string(rc), rc);
	*server_out = s;
	return 0;
}

int mc_server_fd(const struct mc_server *s)
{
	return s->event_fd;
}

bool mc_server_next(struct mc_server *s, struct mc_server_event *ev)
{
	uint64_t count;
	bool some;

	(void)!read(s->event_fd, &count,
		    sizeof(count)); /* before the look: what is put after it makes it readable again */
	(void)pthread_mutex_lock(&s->lock);
	some = s->queue_at < s->queue_n;
	if (some)
		*ev = s->queue[s->queue_at++];
	if (s->queue_at == s->queue_n)
		s->queue_at = s->queue_n = 0;
	(void)pthread_mutex_unlock(&s->lock);
	return some;
}

int mc_server_rank_env(struct mc_server *s, uint32_t rank, bool again, struct mc_strv *env, struct mc_err *err)
{
	char **add = NULL;
	pmix_proc_t proc;

	PMIX_LOAD_PROCID(&proc, s->job_name, rank);
	/* once per rank: the library takes a second process for the same rank as it took the first */
	pmix_status_t rc = again ? PMIX_SUCCESS : mc_server_client_register(&proc);
	if (rc == PMIX_SUCCESS)
		rc = PMIx_server_setup_fork(&proc, &add);
	if (rc != PMIX_SUCCESS)
		return mc_err_set(err, "the PMIx server refuses rank %u: %s (%d)", rank, PMIx_Error_string(rc), rc);
	for (char **p = add; p != NULL && *p != NULL; p++) {
		mc_strv_set_pair(env, *p);
		free(*p);
	}
	free(add);
	return 0;
}

static void free_infos(pmix_status_t status, void *arg)
{
	pmix_info_t *info = arg;

	(void)status;
	PMIX_INFO_FREE(info, 5);
}

/* Survivors that registered a handler for this very code are told; those with a default handler alone are not
 * disturbed. */
static void tell_dead(const pmix_proc_t *dead, int code, uint32_t start, bool keep)
{
	pmix_info_t *info;
	bool forget = !keep;

	PMIX_INFO_CREATE(info, 5);
	if (info == NULL)
		return;
	PMIX_INFO_LOAD(&info[0], PMIX_EVENT_AFFECTED_PROC, dead, PMIX_PROC);
	PMIX_INFO_LOAD(&info[1], PMIX_EXIT_CODE, &code, PMIX_INT);
	PMIX_INFO_LOAD(&info[2], PMIX_EVENT_NON_DEFAULT, NULL, PMIX_BOOL);
	/* where ranks are started again, one that joins later must not take the successor of a dead one for dead */
	PMIX_INFO_LOAD(&info[3], PMIX_EVENT_DO_NOT_CACHE, &forget, PMIX_BOOL);
	PMIX_INFO_LOAD(&info[4], "mc.start", &start, PMIX_UINT32); /* which of its processes it was; for libmc */
	pmix_status_t rc =
		PMIx_Notify_event(PMIX_ERR_PROC_ABORTED, dead, PMIX_RANGE_NAMESPACE, info, 5, free_infos, info);
	if (rc != PMIX_SUCCESS)
		free_infos(rc, info);
}

/*
 * The client is not deregistered: the library would then no longer know whose connection it was that it finds closed a
 * moment later, and a fence entered in between would wait for the dead rank for ever.
 */
void mc_server_rank_gone(struct mc_server *s, uint32_t rank, int code, bool dead)
{
	pmix_proc_t proc;

	PMIX_LOAD_PROCID(&proc, s->job_name, rank);
	if (dead)
		tell_dead(&proc, code, s->deaths[rank]++, s->keep_deaths);
}

void mc_server_fenced(struct mc_server *s, uint64_t id, int status, const uint8_t *data, size_t n)
{
	mc_net_modex_done(s->net, id, status, data, n, true);
}

void mc_server_modexed(struct mc_server *s, uint64_t id, int status, const uint8_t *data, size_t n)
{
	mc_net_modex_done(s->net, id, status, data, n, false);
}

void mc_server_published(struct mc_server *s, uint64_t id, int status)
{
	mc_net_op_done(s->net, id, status);
}

void mc_server_found(struct mc_server *s, uint64_t id, int status, const uint8_t *data, size_t n)
{
	mc_net_found(s->net, id, status, data, n);
}

void mc_server_modex_ask(struct mc_server *s, uint64_t id, uint32_t rank)
{
	mc_net_modex_ask(s->net, id, rank);
}

void mc_server_expire(struct mc_server *s, int64_t now_ns)
{
	if (s->net != NULL)
		mc_net_expire(s->net, now_ns);
}

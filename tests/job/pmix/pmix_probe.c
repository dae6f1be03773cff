/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmix_probe.c - a rank for the tests of mcrun: joins the job and does what its argument says.
 *   fence        put, commit, fence with data, get everybody's, check, leave
 *   roles        print rank, size and role
 *   noleave      join and exit 0 without leaving
 *   nojoin R     rank R exits 0 without joining, the others join and fence
 *   abort R C    rank R calls PMIx_Abort(C, "probe gives up"), the others wait for ever
 *   dead R       rank R kills itself after the first fence; the others wait to be told, fence again, print and leave
 *   diefence R   rank R kills itself between init and fence; the others fence
 *   again R N C  rank R dies at the end of its first N starts, by exit code C or, if that is 0, a signal; at each it
 *                reads what the others have put; they wait to be told so often, and leave
 *   hang         join, fence, print "ready", wait for ever
 *   publish      rank 0 publishes, all look it up, rank 0 takes it back
 *   time FILE    like fence; rank 0 then writes the monotonic time (ns) to FILE
 *   clock        print the monotonic time (ns); joins nothing
 */
#include <pmix.h>

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pmix_proc_t me;
static uint32_t size;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int told_dead = -1;
static uint32_t told_n;
static bool registered;

static void check(pmix_status_t rc, const char *what)
{
	if (rc == PMIX_SUCCESS)
		return;
	(void)fprintf(stderr, "probe: rank %u: %s: %s (%d)\n", me.rank, what, PMIx_Error_string(rc), rc);
	_exit(99);
}

static void on_dead(size_t id, pmix_status_t status, const pmix_proc_t *source, pmix_info_t info[], size_t info_n,
		    pmix_info_t results[], size_t results_n, pmix_event_notification_cbfunc_fn_t done, void *done_arg)
{
	(void)id, (void)status, (void)results, (void)results_n;
	(void)pthread_mutex_lock(&lock);
	told_dead = (int)source->rank;
	for (size_t i = 0; i < info_n; i++)
		if (PMIX_CHECK_KEY(&info[i], PMIX_EVENT_AFFECTED_PROC))
			told_dead = (int)info[i].value.data.proc->rank;
	told_n++;
	(void)pthread_cond_broadcast(&cond);
	(void)pthread_mutex_unlock(&lock);
	if (done != NULL)
		done(PMIX_EVENT_ACTION_COMPLETE, NULL, 0, NULL, NULL, done_arg);
}

static void on_registered(pmix_status_t status, size_t ref, void *arg)
{
	(void)ref, (void)arg;
	check(status, "register handler");
	(void)pthread_mutex_lock(&lock);
	registered = true;
	(void)pthread_cond_broadcast(&cond);
	(void)pthread_mutex_unlock(&lock);
}

static void listen_for_deaths(void)
{
	pmix_status_t code = PMIX_ERR_PROC_ABORTED;

	(void)PMIx_Register_event_handler(&code, 1, NULL, 0, on_dead, on_registered, NULL);
	(void)pthread_mutex_lock(&lock);
	while (!registered)
		(void)pthread_cond_wait(&cond, &lock);
	(void)pthread_mutex_unlock(&lock);
}

static void join_job(void)
{
	pmix_proc_t job;
	pmix_value_t *v = NULL;

	check(PMIx_Init(&me, NULL, 0), "init");
	PMIX_LOAD_PROCID(&job, me.nspace, PMIX_RANK_WILDCARD);
	check(PMIx_Get(&job, PMIX_JOB_SIZE, NULL, 0, &v), "get job size");
	size = v->data.uint32;
	PMIX_VALUE_RELEASE(v);
}

static void fence(bool timeout)
{
	pmix_proc_t all;
	pmix_info_t info[2];
	bool yes = true;
	int seconds = 20;

	PMIX_LOAD_PROCID(&all, me.nspace, PMIX_RANK_WILDCARD);
	PMIX_INFO_LOAD(&info[0], PMIX_COLLECT_DATA, &yes, PMIX_BOOL);
	PMIX_INFO_LOAD(&info[1], PMIX_TIMEOUT, &seconds, PMIX_INT);
	check(PMIx_Fence(&all, 1, info, timeout ? 2 : 1), "fence");
}

static void put_own(void)
{
	pmix_value_t v;
	char text[64];

	(void)snprintf(text, sizeof(text), "blob of %u", me.rank);
	PMIX_VALUE_LOAD(&v, text, PMIX_STRING);
	check(PMIx_Put(PMIX_GLOBAL, "probe", &v), "put");
	PMIX_VALUE_DESTRUCT(&v);
	check(PMIx_Commit(), "commit");
}

static void get_all(void)
{
	for (uint32_t r = 0; r < size; r++) {
		pmix_proc_t peer;
		pmix_value_t *v = NULL;
		char want[64];

		(void)snprintf(want, sizeof(want), "blob of %u", r);
		PMIX_LOAD_PROCID(&peer, me.nspace, r);
		check(PMIx_Get(&peer, "probe", NULL, 0, &v), "get");
		if (v->type != PMIX_STRING || strcmp(v->data.string, want) != 0) {
			(void)fprintf(stderr, "probe: rank %u: wrong blob of %u\n", me.rank, r);
			_exit(98);
		}
		PMIX_VALUE_RELEASE(v);
	}
}

static void leave_job(void)
{
	check(PMIx_Finalize(NULL, 0), "finalize");
}

static void ready(const char *text)
{
	(void)printf("%s %u %d\n", text, me.rank, (int)getpid());
	(void)fflush(stdout);
}

static void wait_for_ever(void)
{
	for (;;)
		(void)pause();
}

static void do_dead(uint32_t victim)
{
	listen_for_deaths();
	put_own();
	fence(true);
	if (me.rank == victim)
		(void)raise(SIGKILL);
	(void)pthread_mutex_lock(&lock);
	while (told_dead < 0)
		(void)pthread_cond_wait(&cond, &lock);
	(void)pthread_mutex_unlock(&lock);
	(void)printf("told %d\n", told_dead);
	fence(true);
	leave_job();
}

static void do_again(uint32_t mortal, uint32_t times, int code)
{
	const char *start = getenv("MC_REJOIN");
	uint32_t starts = start == NULL ? 0 : (uint32_t)strtoul(start, NULL, 10), seen = 0;

	if (me.rank != mortal)
		listen_for_deaths();
	put_own();
	if (start == NULL)
		fence(true);
	if (me.rank != mortal) {
		(void)pthread_mutex_lock(&lock);
		while (told_n < times)
			(void)pthread_cond_wait(&cond, &lock);
		(void)pthread_mutex_unlock(&lock);
		(void)printf("told %u times that %u died\n", told_n, mortal);
		leave_job();
		return;
	}
	for (uint32_t r = 0; r < size; r++) {
		pmix_proc_t peer;
		pmix_value_t *v = NULL;

		PMIX_LOAD_PROCID(&peer, me.nspace, r);
		if (r != me.rank && PMIx_Get(&peer, "probe", NULL, 0, &v) == PMIX_SUCCESS && v->type == PMIX_STRING)
			seen++;
	}
	(void)printf("start %u sees %u others\n", starts, seen);
	(void)fflush(stdout);
	if (starts < times && code != 0)
		_exit(code);
	if (starts < times)
		(void)raise(SIGKILL);
	leave_job();
}

static void do_publish(void)
{
	pmix_info_t info;
	pmix_pdata_t data;
	char *keys[] = {(char *)(uintptr_t) "probe-key", NULL};

	if (me.rank == 0) {
		PMIX_INFO_LOAD(&info, "probe-key", "probe-value", PMIX_STRING);
		check(PMIx_Publish(&info, 1), "publish");
		if (PMIx_Publish(&info, 1) == PMIX_SUCCESS)
			_exit(97);
	}
	fence(true);
	PMIX_PDATA_CONSTRUCT(&data);
	PMIX_LOAD_KEY(data.key, "probe-key");
	check(PMIx_Lookup(&data, 1, NULL, 0), "lookup");
	if (data.value.type != PMIX_STRING || strcmp(data.value.data.string, "probe-value") != 0 || data.proc.rank != 0)
		_exit(96);
	fence(true);
	if (me.rank == 0)
		check(PMIx_Unpublish(keys, NULL, 0), "unpublish");
	fence(true);
	PMIX_PDATA_DESTRUCT(&data);
	PMIX_PDATA_CONSTRUCT(&data);
	PMIX_LOAD_KEY(data.key, "probe-key");
	if (PMIx_Lookup(&data, 1, NULL, 0) == PMIX_SUCCESS)
		_exit(95);
	leave_job();
}

static long long now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void do_time(const char *file)
{
	put_own();
	fence(true);
	long long now = now_ns();
	if (me.rank == 0) {
		FILE *f = fopen(file, "w");

		if (f == NULL)
			_exit(94);
		(void)fprintf(f, "%lld\n", now);
		(void)fclose(f);
	}
	leave_job();
}

static uint32_t number(int argc, char **argv, int i)
{
	return i < argc ? (uint32_t)strtoul(argv[i], NULL, 10) : 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "fence", *rank = getenv("PMIX_RANK");

	if (strcmp(what, "nojoin") == 0 && rank != NULL && strtoul(rank, NULL, 10) == number(argc, argv, 2))
		return 0;
	if (strcmp(what, "clock") == 0) {
		(void)printf("%lld\n", now_ns());
		return 0;
	}
	join_job();
	if (strcmp(what, "roles") == 0) {
		const char *role = getenv("MC_ROLE");

		(void)printf("rank %u size %u role %s\n", me.rank, size, role == NULL ? "?" : role);
		leave_job();
	} else if (strcmp(what, "noleave") == 0) {
		_exit(0);
	} else if (strcmp(what, "abort") == 0) {
		if (me.rank == number(argc, argv, 2))
			(void)PMIx_Abort((int)number(argc, argv, 3), "probe gives up", NULL, 0);
		wait_for_ever();
	} else if (strcmp(what, "dead") == 0) {
		do_dead(number(argc, argv, 2));
	} else if (strcmp(what, "diefence") == 0) {
		if (me.rank == number(argc, argv, 2))
			(void)raise(SIGKILL);
		fence(true);
		leave_job();
	} else if (strcmp(what, "hang") == 0) {
		fence(true);
		ready("ready");
		wait_for_ever();
	} else if (strcmp(what, "again") == 0) {
		do_again(number(argc, argv, 2), number(argc, argv, 3), (int)number(argc, argv, 4));
	} else if (strcmp(what, "publish") == 0) {
		do_publish();
	} else if (strcmp(what, "time") == 0 && argc > 2) {
		do_time(argv[2]);
	} else {
		put_own();
		fence(true);
		get_all();
		leave_job();
	}
	return 0;
}

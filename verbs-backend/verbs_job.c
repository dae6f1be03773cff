/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_job.c - connecting queue pairs beside the progress of everything else. On RoCE the kernel resolves the peer's
 * link address inside ibv_modify_qp() and waits up to a second for it: on a rail that does not work, just when the
 * others have its traffic to carry. So a short-lived thread makes the calls; it touches nothing but the queue pairs.
 * rdma_connect() of an iWARP device in software waits for TCP, two minutes where nobody answers: the same.
 */
#include <errno.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "verbs.h"

/* The rail may be gone before the job ends: its queue pairs then belong to the job. */
struct vb_job {
	struct mc_list node; /* be->jobs */
	struct vb_rail *rail;
	pthread_t thread;
	int wake, err;
	uint32_t n;
	atomic_bool done;
	struct ibv_qp *qp[VB_QPS_MAX];
	struct ibv_qp_attr rtr[VB_QPS_MAX], rts[VB_QPS_MAX];
	/* iWARP: a call of this one */
	struct vb_qp *q; /* NULL: it is gone, cm is the job's */
	struct rdma_cm_id *cm;
	struct rdma_conn_param param;
	uint8_t data[32];
};

static int connect_all(struct vb_job *j)
{
	int err = 0;

	for (uint32_t i = 0; i < j->n && err == 0; i++) {
		err = ibv_modify_qp(j->qp[i], &j->rtr[i], VB_RTR_MASK);
		if (err == 0)
			err = ibv_modify_qp(j->qp[i], &j->rts[i], VB_RTS_MASK);
	}
	return err;
}

static void *job_main(void *arg)
{
	struct vb_job *j = arg;
	uint64_t one = 1;

	if (j->cm == NULL)
		j->err = connect_all(j);
	else
		j->err = rdma_connect(j->cm, &j->param) != 0 ? errno : 0;
	atomic_store(&j->done, true);
	(void)!write(j->wake, &one, sizeof(one));
	return NULL;
}

mc_status_t mc_vb_jobs_open(struct mc_be *be)
{
	be->job_fd = (struct vb_fd){.kind = VB_FD_JOB, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (be->job_fd.fd >= 0 && mc_vb_fd_add(be, &be->job_fd, EPOLLIN))
		return MC_OK;
	mc_error("verbs: rank %u: no descriptors: %s [open-files, see mcinfo doctor]", be->rank, strerror(errno));
	return MC_ERR_NOMEM;
}

static int thread_start(struct vb_job *j)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&j->thread, NULL, job_main, j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

/* rdma_connect(); an error is told by mc_vb_rail_fail(), now or later. */
void mc_vb_job_call(struct vb_qp *q, const struct rdma_conn_param *p)
{
	struct mc_be *be = q->nic->be;
	struct vb_job *j = p->private_data_len <= sizeof(j->data) ? calloc(1, sizeof(*j)) : NULL;
	int err = ENOMEM;

	if (j == NULL)
		goto failed;
	j->wake = be->job_fd.fd;
	j->q = q;
	j->cm = q->cm;
	j->param = *p;
	memcpy(j->data, p->private_data, p->private_data_len);
	j->param.private_data = j->data;
	err = thread_start(j);
	if (err != 0)
		goto undo;
	mc_list_add_tail(&be->jobs, &j->node);
	q->job = j;
	return;
undo:
	free(j);
failed:
	mc_vb_rail_fail(q->rail, false, "cannot call: %s", strerror(err));
}

/* The queue pair goes, its call has not come back: what rdma_cm knows of it is the job's, which is told to end. */
void mc_vb_job_hang_up(struct vb_qp *q)
{
	q->job->q = NULL;
	q->cm->context = NULL; /* of its events nobody wants to know */
	(void)pthread_cancel(q->job->thread);
	q->job = NULL;
	q->cm = NULL;
	q->qp = NULL;
}

/* The peer's queue pairs are those in m. 0: done, errno: failed, -1: mc_vb_rail_connected() will be called. */
int mc_vb_job_start(struct vb_rail *rail, const struct vb_ctl_msg *m)
{
	struct mc_be *be = rail->link->be;
	struct vb_job *j = calloc(1, sizeof(*j));
	int err;

	if (j == NULL)
		return ENOMEM;
	j->rail = rail;
	j->wake = be->job_fd.fd;
	j->n = rail->qp_n;
	for (uint32_t i = 0; i < j->n; i++) {
		j->qp[i] = rail->qp[i]->qp;
		mc_vb_qp_attrs(rail->qp[i], m, i, &j->rtr[i], &j->rts[i]);
	}
	/* Only RoCE asks the network; and to the own port nobody needs to be asked. */
	if (be->nic[rail->nic].port.layer != VB_ROCE || rail->link->self) {
		err = connect_all(j);
		free(j);
		return err;
	}
	err = thread_start(j);
	if (err != 0) { /* no thread to be had: it must do without */
		err = connect_all(j);
		free(j);
		return err;
	}
	mc_list_add_tail(&be->jobs, &j->node);
	rail->job = j;
	return -1;
}

/* Leaves the queue pairs to the job; the rail has none any more. */
void mc_vb_job_leave(struct vb_rail *rail)
{
	if (rail->job == NULL)
		return;
	rail->job->rail = NULL;
	rail->job = NULL;
	for (uint32_t i = 0; i < rail->qp_n; i++)
		rail->qp[i]->qp = NULL;
}

static void call_end(struct vb_job *j)
{
	struct vb_qp *q = j->q;
	int err = j->err;

	if (q == NULL) {
		if (j->cm->qp != NULL)
			rdma_destroy_qp(j->cm);
		rdma_destroy_id(j->cm);
	} else {
		q->job = NULL;
	}
	free(j);
	if (q != NULL && err != 0)
		mc_vb_rail_fail(q->rail, false, "the call fails: %s", strerror(err));
}

static void job_end(struct vb_job *j)
{
	struct vb_rail *rail = j->rail;
	int err;

	pthread_join(j->thread, NULL);
	mc_list_del(&j->node);
	if (j->cm != NULL) {
		call_end(j);
		return;
	}
	for (uint32_t i = 0; rail == NULL && i < j->n; i++)
		ibv_destroy_qp(j->qp[i]);
	err = j->err;
	free(j);
	if (rail == NULL)
		return;
	rail->job = NULL;
	mc_vb_rail_connected(rail, err);
}

/* woken: the descriptor says that one has ended. Who polls all the time sees it without. */
void mc_vb_jobs_run(struct mc_be *be, bool woken)
{
	uint64_t n;

	if (woken)
		(void)!read(be->job_fd.fd, &n, sizeof(n));
	for (struct mc_list *l = be->jobs.next; l != &be->jobs;) {
		struct vb_job *j = mc_container_of(l, struct vb_job, node);
		l = l->next;
		/* One that was told to end may have said nothing; it does not take long. */
		if (atomic_load(&j->done) || (j->cm != NULL && j->q == NULL))
			job_end(j);
	}
}

/* All links are gone. */
void mc_vb_jobs_close(struct mc_be *be)
{
	while (!mc_list_empty(&be->jobs))
		job_end(mc_container_of(be->jobs.next, struct vb_job, node));
	if (be->job_fd.fd >= 0)
		close(be->job_fd.fd);
}

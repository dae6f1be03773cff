/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_mem.c - regions: registered with every port, long ones in pieces and by several threads; and regions of peers.
 * The engine owns regions explicitly (registered once, freed once, drained before), so there is no registration cache
 * that could hold what the program has unmapped.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verbs.h"

enum { THREADS_MAX = 8 };
#define PARALLEL_BYTES (UINT64_C(64) << 20) /* below, a thread costs more than it saves */

/* One registration to make. */
struct reg_job {
	struct mc_be *be;
	struct mc_be_mem *mem;
	const struct mc_be_region *r;
	uint32_t from, step, n;
	int err;
	uint8_t nic;
};

static struct ibv_mr *reg_host(struct ibv_pd *pd, void *addr, uint64_t len)
{
	unsigned int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
	struct ibv_mr *mr = ibv_reg_mr(pd, addr, len, access | IBV_ACCESS_RELAXED_ORDERING);

	/* Optional flags are ignored where they are not known; old kernels refuse them. */
	if (mr == NULL && (errno == EINVAL || errno == EOPNOTSUPP))
		mr = ibv_reg_mr(pd, addr, len, access);
	return mr;
}

static struct ibv_mr *reg_one(const struct reg_job *j, uint32_t i)
{
	const struct mc_be_mem *mem = j->mem;
	struct ibv_pd *pd = j->be->nic[i % j->be->nic_n].pd;
	uint64_t off = i / j->be->nic_n * mem->piece, left = mem->len - off;
	uint64_t len = left < mem->piece ? left : mem->piece;

	if (j->r->kind == MC_KIND_DMABUF)
		return ibv_reg_dmabuf_mr(pd, j->r->fd_off + off, len, (uintptr_t)mem->addr + off, j->r->fd,
					 IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
						 IBV_ACCESS_RELAXED_ORDERING);
	return reg_host(pd, mem->addr + off, len);
}

static void *reg_run(void *arg)
{
	struct reg_job *j = arg;

	for (uint32_t i = j->from; i < j->n && j->err == 0; i += j->step) {
		j->mem->mr[i] = reg_one(j, i);
		if (j->mem->mr[i] == NULL) {
			j->err = errno != 0 ? errno : EIO;
			j->nic = (uint8_t)(i % j->be->nic_n);
		}
	}
	return NULL;
}

/* All registrations of a region; 0 or the errno of the first that failed, and its port. */
static int reg_all(struct reg_job *all, uint32_t n, uint8_t *nic_out)
{
	struct reg_job job[THREADS_MAX];
	pthread_t thread[THREADS_MAX];
	bool started[THREADS_MAX] = {false};
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t k = all->mem->len < PARALLEL_BYTES || cpus < 2 ? 1 : cpus < THREADS_MAX ? (uint32_t)cpus : THREADS_MAX;
	int err = 0;

	if (k > n)
		k = n;
	for (uint32_t i = 0; i < k; i++) {
		job[i] = *all;
		job[i].from = i;
		job[i].step = k;
		job[i].n = n;
		if (i > 0)
			started[i] = pthread_create(&thread[i], NULL, reg_run, &job[i]) == 0;
	}
	for (uint32_t i = 0; i < k; i++)
		if (!started[i])
			reg_run(&job[i]);
	for (uint32_t i = 0; i < k; i++) {
		if (started[i])
			pthread_join(thread[i], NULL);
		if (err == 0 && job[i].err != 0) {
			err = job[i].err;
			*nic_out = job[i].nic;
		}
	}
	return err;
}

static void mem_free(struct mc_be *be, struct mc_be_mem *mem)
{
	for (uint32_t i = 0; mem->mr != NULL && i < mem->piece_n * be->nic_n; i++) {
		int err = mem->mr[i] != NULL ? ibv_dereg_mr(mem->mr[i]) : 0;
		if (err != 0)
			mc_warn("verbs: rank %u: a registration of region %llu cannot be undone: %s", be->rank,
				(unsigned long long)mem->id, strerror(err));
	}
	free(mem->mr);
	free(mem);
}

static void reg_failed(const struct mc_be *be, const struct mc_be_region *r, uint8_t nic, int err)
{
	char where[512] = "";
	const char *remedy = mc_vb_remedy(err);

	if (err == EAGAIN)
		mc_vb_objects_left(ibv_get_device_name(be->nic[nic].ctx->device), where, sizeof(where));
	if (r->kind == MC_KIND_DMABUF)
		remedy = "this device or its driver takes no dma-buf: the bytes are staged through host memory "
			 "[gpudirect, see mcinfo doctor]";
	else if (err == EFAULT)
		remedy = "the range is not mapped, or is memory of a device [gpudirect, see mcinfo doctor]";
	/* Host memory travels by message, through buffers of ours: slower, but nothing is lost. */
	mc_log(r->kind == MC_KIND_HOST ? MC_LOG_WARN : MC_LOG_ERROR,
	       "verbs: rank %u: %s does not register %llu bytes of region %llu: %s; %s%s%s%s", be->rank,
	       be->nic[nic].port.name, (unsigned long long)r->len, (unsigned long long)r->id, strerror(err),
	       r->kind == MC_KIND_HOST ? "they travel by message, copied on either side; " : "", remedy,
	       where[0] != '\0' ? "; " : "", where);
}

/* The last ones that the rdma cgroup allows are for queue pairs. */
static bool room_for(struct mc_be *be, uint64_t n)
{
	uint64_t qps = 0;

	mc_vb_budget_again(be);
	for (uint32_t i = 0; i < be->nic_n; i++)
		qps = be->nic[i].qp_n > qps ? be->nic[i].qp_n : qps;
	return be->mrs_n + n <= be->plan.mr_budget && be->mrs_n + n + qps <= be->plan.objects;
}

mc_status_t mc_vb_mem_reg(struct mc_be *be, const struct mc_be_region *r, struct mc_be_mem **mem_out)
{
	struct mc_be_mem *mem;
	struct reg_job job = {.be = be, .r = r};
	int64_t t0 = mc_now_ns();
	uint8_t nic = 0;
	int err;

	if (r->kind != MC_KIND_HOST && r->kind != MC_KIND_DMABUF)
		return MC_ERR_UNSUPPORTED;
	if (r->addr == NULL && r->len != 0 && r->kind == MC_KIND_HOST)
		return MC_ERR_INVAL;
	mem = calloc(1, sizeof(*mem));
	if (mem == NULL)
		return MC_ERR_NOMEM;
	mem->id = r->id;
	mem->addr = r->addr;
	mem->len = r->len;
	mem->host = r->kind == MC_KIND_HOST;
	mem->piece = mc_vb_piece_len(r->len, be->config->verbs_mr_size);
	mem->piece_n = (uint32_t)((r->len + mem->piece - 1) / mem->piece);
	mem->mr = calloc((size_t)mem->piece_n * be->nic_n + 1, sizeof(struct ibv_mr *));
	if (mem->mr == NULL) {
		free(mem);
		return MC_ERR_NOMEM;
	}
	job.mem = mem;
	err = room_for(be, mem->piece_n) ? 0 : EAGAIN;
	if (err == 0 && r->len > 0)
		err = reg_all(&job, mem->piece_n * be->nic_n, &nic);
	if (err != 0) {
		reg_failed(be, r, nic, err);
		mem_free(be, mem);
		return err == EOPNOTSUPP || err == ENOSYS || err == EPROTONOSUPPORT ? MC_ERR_UNSUPPORTED
		       : err == EAGAIN || err == ENOMEM                             ? MC_ERR_NOMEM
										    : MC_ERR_DEVICE;
	}
	mc_info("verbs: rank %u: region %llu: %llu bytes registered with %u ports in %u pieces, %.3f ms", be->rank,
		(unsigned long long)r->id, (unsigned long long)r->len, be->nic_n, mem->piece_n,
		(double)(mc_now_ns() - t0) / 1e6);
	be->mrs_n += mem->piece_n;
	mc_list_add_tail(&be->mems, &mem->node);
	*mem_out = mem;
	return MC_OK;
}

void mc_vb_mem_dereg(struct mc_be *be, struct mc_be_mem *mem)
{
	for (struct mc_list *l = be->links.next; mem->exported && l != &be->links; l = l->next)
		mc_vb_gone_send(mc_container_of(l, struct vb_link, node), mem->id);
	mc_list_del(&mem->node);
	be->mrs_n -= mem->piece_n;
	mem_free(be, mem);
}

mc_status_t mc_vb_mem_export(struct mc_be *be, struct mc_be_mem *mem, void *blob, uint32_t *len)
{
	uint32_t need = mc_vb_blob_len(be->nic_n, mem->piece_n);
	struct vb_blob b = {.instance = be->instance,
			    .id = mem->id,
			    .addr = (uintptr_t)mem->addr,
			    .len = mem->len,
			    .piece = mem->piece,
			    .nic_n = be->nic_n,
			    .piece_n = mem->piece_n};

	if (blob == NULL || *len < need) {
		*len = need;
		return MC_ERR_NOSPC;
	}
	for (uint32_t i = 0; i < be->nic_n * mem->piece_n; i++)
		b.key[i] = mem->mr[i]->rkey;
	mc_vb_blob_make(&b, blob);
	mem->exported = true;
	*len = need;
	return MC_OK;
}

mc_status_t mc_vb_rmem_import(struct mc_be *be, struct mc_be_ep *ep, const void *blob, uint32_t len,
			      struct mc_be_rmem **rmem_out)
{
	struct vb_blob b;
	struct mc_be_rmem *r;
	mc_status_t s = mc_vb_blob_parse(blob, len, &b);

	(void)be;
	if (s != MC_OK)
		return s;
	if (ep->link == NULL)
		return MC_ERR_INVAL;
	if (b.instance != ep->link->peer)
		return MC_ERR_STALE;
	if (b.nic_n != ep->link->addr.nic_n)
		return MC_ERR_PROTO;
	r = malloc(sizeof(*r) + (size_t)b.nic_n * b.piece_n * sizeof(r->key[0]));
	if (r == NULL)
		return MC_ERR_NOMEM;
	memset(r, 0, sizeof(*r));
	r->link = ep->link;
	r->id = b.id;
	r->addr = b.addr;
	r->len = b.len;
	r->piece = b.piece;
	r->nic_n = b.nic_n;
	r->piece_n = b.piece_n;
	memcpy(r->key, b.key, (size_t)b.nic_n * b.piece_n * sizeof(r->key[0]));
	mc_list_add_tail(&ep->link->rmems, &r->node);
	*rmem_out = r;
	return MC_OK;
}

void mc_vb_rmem_drop(struct mc_be *be, struct mc_be_rmem *rmem)
{
	mc_list_del(&rmem->node);
	if (rmem->link != NULL)
		be->links_due = true; /* a dead link may go with its last descriptor */
	free(rmem);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_buf.c - memory of the backend itself, one area known to every port: a word that proves a way, receive buffers,
 * slots for packets to be sent.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "verbs.h"

enum { STRIDE = (VB_HDR_LEN + VB_PAYLOAD + 63) / 64 * 64, HEAD = 64 };

/* What a proof of the way must read; not the instance itself, which travels in the clear, but a word of its own. */
uint64_t mc_vb_probe_word(uint64_t instance)
{
	return instance * UINT64_C(0x9e3779b97f4a7c15) ^ UINT64_C(0x70726f6265);
}

mc_status_t mc_vb_area_open(struct mc_be *be)
{
	uint64_t word = mc_vb_probe_word(be->instance);
	void *p;

	be->slot_n = be->buffers;
	be->area_len = HEAD + (size_t)STRIDE * (be->buffers * be->nic_n + be->slot_n);
	p = mmap(NULL, be->area_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	be->free_slot = calloc(be->slot_n, sizeof(*be->free_slot));
	if (p == MAP_FAILED || be->free_slot == NULL) {
		mc_error("verbs: rank %u: no memory for %zu bytes of buffers (MC_VERBS_BUFFERS)", be->rank,
			 be->area_len);
		be->area = p == MAP_FAILED ? NULL : p;
		return MC_ERR_NOMEM;
	}
	be->area = p;
	/* A child of fork() must not take the pages with it while the card writes into them. */
	(void)madvise(p, be->area_len, MADV_DONTFORK);
	memcpy(be->area, &word, sizeof(word));
	be->slots = be->area + HEAD + (size_t)STRIDE * be->buffers * be->nic_n;
	for (uint32_t i = 0; i < be->slot_n; i++)
		be->free_slot[i] = (uint16_t)(be->slot_n - 1 - i);
	be->slot_free_n = be->slot_n;
	return MC_OK;
}

void mc_vb_area_close(struct mc_be *be)
{
	if (be->area != NULL)
		munmap(be->area, be->area_len);
	free(be->free_slot);
	be->area = NULL;
	be->free_slot = NULL;
}

bool mc_vb_slot_get(struct mc_be *be, uint16_t *slot_out)
{
	if (be->slot_free_n == 0)
		return false;
	*slot_out = be->free_slot[--be->slot_free_n];
	return true;
}

void mc_vb_slot_put(struct mc_be *be, uint16_t slot)
{
	be->free_slot[be->slot_free_n++] = slot;
}

uint8_t *mc_vb_slot(struct mc_be *be, uint16_t slot)
{
	return be->slots + (size_t)STRIDE * slot;
}

static int buf_post(struct vb_nic *nic, struct vb_buf *first, struct vb_buf *end)
{
	enum { BATCH = 32 };
	struct ibv_recv_wr wr[BATCH], *bad;
	struct ibv_sge sge[BATCH];

	while (first < end) {
		uint32_t n = 0;
		int err;
		for (; first < end && n < BATCH; first++, n++) {
			sge[n] = (struct ibv_sge){.addr = (uintptr_t)first->data,
						  .length = VB_HDR_LEN + VB_PAYLOAD,
						  .lkey = nic->mr->lkey};
			wr[n] = (struct ibv_recv_wr){.wr_id = UINT64_C(1) << 63 | (uint64_t)(first - nic->buf),
						     .sg_list = &sge[n],
						     .num_sge = 1,
						     .next = &wr[n + 1]};
		}
		wr[n - 1].next = NULL;
		err = ibv_post_srq_recv(nic->srq, wr, &bad);
		if (err != 0)
			return err;
	}
	return 0;
}

mc_status_t mc_vb_srq_fill(struct vb_nic *nic)
{
	struct mc_be *be = nic->be;
	int err;

	nic->buf = calloc(be->buffers, sizeof(*nic->buf));
	if (nic->buf == NULL)
		return MC_ERR_NOMEM;
	for (uint32_t i = 0; i < be->buffers; i++) {
		nic->buf[i].data = be->area + HEAD + (size_t)STRIDE * (be->buffers * nic->index + i);
		nic->buf[i].nic = nic->index;
		mc_list_init(&nic->buf[i].node);
	}
	err = buf_post(nic, nic->buf, nic->buf + be->buffers);
	if (err == 0)
		return MC_OK;
	mc_error("verbs: rank %u: %s takes no %u receive buffers: %s", be->rank, nic->port.name, be->buffers,
		 strerror(err));
	return MC_ERR_DEVICE;
}

/* Back to the card. */
void mc_vb_buf_put(struct mc_be *be, struct vb_buf *buf)
{
	struct vb_nic *nic = &be->nic[buf->nic];
	int err;

	mc_list_del(&buf->node);
	if (nic->fatal)
		return;
	err = buf_post(nic, buf, buf + 1);
	if (err != 0 && mc_ratelimit_ok(&be->limit, 5))
		mc_error("verbs: rank %u: %s does not take a receive buffer back: %s", be->rank, nic->port.name,
			 strerror(err));
}

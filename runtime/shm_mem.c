/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shm_mem.c - registrations, and how peers see them. A registration has a place and a key in the inbox's table; whoever
 * holds a descriptor compares the key before each portion it copies, and marks itself busy while it copies.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm.h"
#include "wire.h"

enum { BLOB_MAGIC = 0x4d435342, WINDOW_SHIFT = 16 };

/* ---- ours ------------------------------------------------------------------------------------------------ */

/* Peers map a memfd only if it cannot shrink under them, which would be SIGBUS for them. */
static bool memfd_seal(struct mc_be_mem *mem)
{
	struct stat st;
	uint64_t end;
	int seals;

	if (mem->region.fd < 0 || fstat(mem->region.fd, &st) != 0 || !S_ISREG(st.st_mode))
		return false;
	if (!mc_add_u64(mem->region.fd_off, mem->region.len, &end) || end > (uint64_t)st.st_size)
		return false;
	seals = fcntl(mem->region.fd, F_GET_SEALS);
	if (seals < 0)
		return false;
	if ((seals & F_SEAL_SHRINK) == 0 && fcntl(mem->region.fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0)
		return false;
	mem->dev = st.st_dev;
	mem->ino = st.st_ino;
	return true;
}

mc_status_t mc_shm_mem_reg(struct mc_be *be, const struct mc_be_region *r, struct mc_be_mem **mem_out)
{
	struct mc_be_mem *mem;
	uint32_t place = be->place_next, tries = 0;

	if (r->kind != MC_KIND_HOST)
		return MC_ERR_UNSUPPORTED;
	while (atomic_load_explicit(&be->box->key[place], memory_order_relaxed) != 0) {
		if (++tries == SHM_KEYS) {
			mc_error("shm: all %u places for registrations are taken; register larger regions", SHM_KEYS);
			return MC_ERR_NOMEM;
		}
		place = (place + 1) % SHM_KEYS;
	}
	mem = calloc(1, sizeof(*mem));
	if (mem == NULL)
		return MC_ERR_NOMEM;
	mem->region = *r;
	mem->place = place;
	mem->key = be->next_key++;
	mem->sealed = memfd_seal(mem);
	be->place_next = (place + 1) % SHM_KEYS;
	atomic_store(&be->box->key[place], mem->key);
	mc_list_add_tail(&be->mems, &mem->link);
	*mem_out = mem;
	return MC_OK;
}

/* It is not there after deadline: is it worth waiting on? A stopped process is not, a starved one is, for a while. */
static bool may_go_on(const struct mc_be *be, pid_t pid, int64_t deadline)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	if (mc_now_ns() > deadline + SHM_STARVED_NS || (pid != be->pid && mc_shm_process_stopped(pid)))
		return false;
	nanosleep(&ms, NULL);
	return true;
}

/* Wait until the sender in this slot, or its helper, has finished the portion it is copying. False: not in time. */
static bool slot_drain(const struct mc_be *be, struct shm_slot *slot, _Atomic uint64_t *counter, int64_t deadline)
{
	uint64_t busy = atomic_load(counter);
	pid_t pid = (pid_t)slot->pid;

	if ((busy & 1) == 0 || (atomic_load(&slot->state) & UINT32_MAX) != SHM_READY)
		return true;
	for (uint32_t spins = 1; atomic_load(counter) == busy; spins++) {
		if (spins % 64 != 0)
			continue;
		bool late = mc_now_ns() > deadline;
		if ((late || spins % 4096 == 0) && pid != be->pid && mc_shm_process_gone(pid, slot->start))
			return true;
		if (late && !may_go_on(be, pid, deadline))
			return false;
		sched_yield();
	}
	return true;
}

void mc_shm_mem_dereg(struct mc_be *be, struct mc_be_mem *mem)
{
	uint32_t n = atomic_load(&be->box->slots_used);
	int64_t deadline = be->drain_until != 0 ? be->drain_until : mc_now_ns() + SHM_DRAIN_NS;

	atomic_store(&be->box->key[mem->place], 0);
	for (uint32_t i = 0; i < n && i < SHM_SLOTS; i++) {
		struct shm_slot *slot = &be->box->slot[i];

		if (!slot_drain(be, slot, &slot->busy, deadline) || !slot_drain(be, slot, &slot->help_busy, deadline))
			mc_warn("shm: process %u stands still in the middle of a copy; should it go on, it touches "
				"region %llu after its end",
				slot->pid, (unsigned long long)mem->region.id);
	}
	mc_list_del(&mem->link);
	free(mem);
}

mc_status_t mc_shm_mem_export(struct mc_be *be, struct mc_be_mem *mem, void *blob, uint32_t *len)
{
	uint8_t tmp[SHM_BLOB_MAX];
	struct mc_wr w;

	mc_wr_init(&w, tmp, sizeof(tmp));
	mc_wr_u32(&w, BLOB_MAGIC);
	mc_wr_u32(&w, SHM_VERSION);
	mc_wr_u64(&w, be->instance);
	mc_wr_u32(&w, mem->place);
	mc_wr_u32(&w, mem->sealed ? 1 : 0);
	mc_wr_u64(&w, mem->key);
	mc_wr_u64(&w, mem->region.len);
	mc_wr_u64(&w, (uintptr_t)mem->region.addr);
	mc_wr_u32(&w, mem->sealed ? (uint32_t)mem->region.fd : 0);
	mc_wr_u64(&w, mem->region.fd_off);
	mc_wr_u64(&w, mem->dev);
	mc_wr_u64(&w, mem->ino);
	mc_wr_u32(&w, mc_crc32c(0, tmp, mc_wr_len(&w)));
	if (w.bad)
		return MC_ERR_INTERNAL;
	if (*len < mc_wr_len(&w)) {
		*len = (uint32_t)mc_wr_len(&w);
		return MC_ERR_NOSPC;
	}
	*len = (uint32_t)mc_wr_len(&w);
	memcpy(blob, tmp, *len);
	return MC_OK;
}

/* ---- a peer's -------------------------------------------------------------------------------------------- */

struct desc {
	uint64_t instance, key, len, addr, fd_off, dev, ino;
	uint32_t place, sealed, fd;
};

static bool desc_read(const void *blob, uint32_t len, struct desc *d)
{
	struct mc_rd r;
	uint32_t magic, version, crc;
	uint64_t end;

	mc_rd_init(&r, blob, len);
	magic = mc_rd_u32(&r);
	version = mc_rd_u32(&r);
	d->instance = mc_rd_u64(&r);
	d->place = mc_rd_u32(&r);
	d->sealed = mc_rd_u32(&r);
	d->key = mc_rd_u64(&r);
	d->len = mc_rd_u64(&r);
	d->addr = mc_rd_u64(&r);
	d->fd = mc_rd_u32(&r);
	d->fd_off = mc_rd_u64(&r);
	d->dev = mc_rd_u64(&r);
	d->ino = mc_rd_u64(&r);
	crc = mc_rd_u32(&r);
	return mc_rd_end(&r) && crc == mc_crc32c(0, blob, len - sizeof(crc)) && magic == BLOB_MAGIC &&
	       version == SHM_VERSION && d->place < SHM_KEYS && d->sealed <= 1 && d->key != 0 &&
	       mc_add_u64(d->addr, d->len, &end) && mc_add_u64(d->fd_off, d->len, &end) && d->fd <= INT32_MAX;
}

/* The peer's memfd, if it is still the one that was exported and cannot shrink. */
static int memfd_open(const struct shm_peer *peer, const struct desc *d, uint64_t *align_out)
{
	char path[64];
	struct stat st;
	int fd, seals;

	snprintf(path, sizeof(path), "/proc/%d/fd/%u", (int)peer->pid, d->fd);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -1;
	seals = fcntl(fd, F_GET_SEALS);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_dev != d->dev || st.st_ino != d->ino || seals < 0 ||
	    (seals & F_SEAL_SHRINK) == 0 || (uint64_t)st.st_size < d->fd_off + d->len) {
		close(fd);
		return -1;
	}
	*align_out = (uint64_t)sysconf(_SC_PAGESIZE);
	if (st.st_blksize > 0 && (uint64_t)st.st_blksize > *align_out && (st.st_blksize & (st.st_blksize - 1)) == 0)
		*align_out = (uint64_t)st.st_blksize; /* huge pages are mapped whole */
	return fd;
}

static bool rmem_map(struct mc_be_rmem *rmem, const struct desc *d)
{
	uint64_t align, base, len, page = (uint64_t)sysconf(_SC_PAGESIZE);
	int fd = memfd_open(rmem->peer, d, &align);
	void *p;

	if (fd < 0)
		return false;
	base = d->fd_off & ~(align - 1);
	len = d->fd_off - base + d->len;
	if (!mc_add_u64(len, align - 1, &len)) {
		close(fd);
		return false;
	}
	len &= ~(align - 1);
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)base);
	close(fd);
	if (p == MAP_FAILED)
		return false;
	rmem->map_base = p;
	rmem->map_len = len;
	rmem->map = (uint8_t *)p + (d->fd_off - base);
	if (align == page)
		rmem->touched = calloc(1, (size_t)(d->len >> (WINDOW_SHIFT + 3)) + 1); /* without it only slower */
	return true;
}

static struct mc_be_rmem *rmem_find(struct shm_peer *peer, const struct desc *d)
{
	for (struct mc_list *l = peer->rmems.next; l != &peer->rmems; l = l->next) {
		struct mc_be_rmem *rmem = mc_container_of(l, struct mc_be_rmem, link);

		if (rmem->place == d->place && rmem->key == d->key && rmem->len == d->len && rmem->addr == d->addr)
			return rmem;
	}
	return NULL;
}

mc_status_t mc_shm_rmem_import(struct mc_be *be, struct mc_be_ep *ep, const void *blob, uint32_t len,
			       struct mc_be_rmem **rmem_out)
{
	struct mc_be_rmem *rmem;
	struct desc d;

	(void)be;
	if (!desc_read(blob, len, &d))
		return MC_ERR_PROTO;
	if (ep->state == SHM_EP_NEW)
		return MC_ERR_INVAL;
	if (ep->state == SHM_EP_DOWN || ep->peer->down)
		return MC_ERR_PEER_DOWN;
	if (d.instance != ep->peer->instance || atomic_load(&ep->peer->box->key[d.place]) != d.key)
		return MC_ERR_STALE;
	rmem = rmem_find(ep->peer, &d);
	if (rmem != NULL) {
		rmem->refs++;
		*rmem_out = rmem;
		return MC_OK;
	}
	rmem = calloc(1, sizeof(*rmem));
	if (rmem == NULL)
		return MC_ERR_NOMEM;
	rmem->refs = 1;
	rmem->peer = ep->peer;
	rmem->place = d.place;
	rmem->key = d.key;
	rmem->len = d.len;
	rmem->addr = d.addr;
	if ((d.sealed == 0 || d.len == 0 || !rmem_map(rmem, &d)) && !ep->peer->cma) {
		free(rmem);
		return MC_ERR_UNSUPPORTED;
	}
	ep->peer->refs++;
	mc_list_add_tail(&ep->peer->rmems, &rmem->link);
	*rmem_out = rmem;
	return MC_OK;
}

void mc_shm_rmem_free(struct mc_be_rmem *rmem)
{
	struct shm_peer *peer = rmem->peer;

	mc_list_del(&rmem->link);
	if (rmem->map_base != NULL)
		munmap(rmem->map_base, rmem->map_len);
	free(rmem->touched);
	free(rmem);
	mc_shm_peer_unref(peer);
}

/* Only memfds sealed against shrinking are mapped, so nothing that the peer does makes an access fault. */
void *mc_shm_rmem_map(struct mc_be *be, struct mc_be_rmem *rmem)
{
	(void)be;
	return rmem->map;
}

void mc_shm_rmem_drop(struct mc_be *be, struct mc_be_rmem *rmem)
{
	(void)be;
	if (--rmem->refs == 0)
		mc_shm_rmem_free(rmem);
}

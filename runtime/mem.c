/* SPDX-License-Identifier: BSD-3-Clause */
/* mem.c - regions of this process and of peers: allocation, registration, export, import, release. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

#define EXPORT_MAGIC   0x5245434du /* "MCER" */
#define EXPORT_VERSION 1u

enum { HUGE_2M = 2 * 1024 * 1024, MPOL_PREFERRED_NODE = 1, MPOL_BIND_NODE = 2, NUMA_MAX = 1024 };

static void rmem_destroy(struct mc_rmem *r);

/* ---- the table of regions ---- */

struct mc_mem *mc_region_find(struct mc_ctx *ctx, uint64_t id)
{
	uint32_t slot = (uint32_t)id;
	struct mc_mem *m = slot < ctx->region_n ? ctx->region[slot] : NULL;
	return m != NULL && m->id == id ? m : NULL;
}

static mc_status_t region_add(struct mc_ctx *ctx, struct mc_mem *m)
{
	uint32_t slot = 0;
	while (slot < ctx->region_n && ctx->region[slot] != NULL)
		slot++;
	if (slot == ctx->region_n) {
		uint32_t n = ctx->region_n > 0 ? ctx->region_n * 2 : 16;
		struct mc_mem **a = realloc(ctx->region, n * sizeof(struct mc_mem *));
		if (a == NULL)
			return MC_ERR_NOMEM;
		ctx->region = a;
		uint32_t *g = realloc(ctx->region_gen, n * sizeof(*g));
		if (g == NULL)
			return MC_ERR_NOMEM;
		ctx->region_gen = g;
		memset(a + ctx->region_n, 0, (n - ctx->region_n) * sizeof(struct mc_mem *));
		memset(g + ctx->region_n, 0, (n - ctx->region_n) * sizeof(*g));
		ctx->region_n = n;
	}
	ctx->region_gen[slot]++;
	m->id = (uint64_t)ctx->region_gen[slot] << 32 | slot;
	ctx->region[slot] = m;
	return MC_OK;
}

/* ---- pool memory ---- */

static uint64_t read_number(const char *path)
{
	char buf[64];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : -1;
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return UINT64_MAX;
	buf[n] = '\0';
	char *end;
	uint64_t v = strtoull(buf, &end, 10);
	return end == buf ? UINT64_MAX : v;
}

/* Bytes that could be had now: MemAvailable, or less where the cgroup allows less. UINT64_MAX: unknown. */
static uint64_t memory_left(void)
{
	uint64_t left = UINT64_MAX;
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	unsigned long long kb;
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "MemAvailable: %llu kB", &kb) == 1)
			left = kb * 1024;
	if (f != NULL)
		fclose(f);
	uint64_t max = read_number("/sys/fs/cgroup/memory.max"), cur = read_number("/sys/fs/cgroup/memory.current");
	if (max != UINT64_MAX && cur != UINT64_MAX && (max > cur ? max - cur : 0) < left)
		left = max > cur ? max - cur : 0;
	return left;
}

static bool set_policy(const struct mc_mem *m, int32_t node, int policy)
{
	unsigned long mask[NUMA_MAX / (8 * sizeof(unsigned long))] = {0};
	mask[(size_t)node / (8 * sizeof(unsigned long))] |= 1ul << ((size_t)node % (8 * sizeof(unsigned long)));
	return syscall(SYS_mbind, m->addr, m->map_len, policy, mask, (unsigned long)NUMA_MAX, 0) == 0;
}

/*
 * The node that is asked for; else that of a rank which is bound to one, if it has room: without a policy, pages that a
 * peer writes first would come to lie where the peer runs.
 */
static void bind_node(const struct mc_ctx *ctx, const struct mc_mem *m, int32_t node)
{
	if (node >= 0 && !set_policy(m, node, MPOL_BIND_NODE))
		mc_warn("rank %u: cannot bind pool memory to NUMA node %d (errno %d): left where the kernel puts it "
			"[numa, see mcinfo doctor]",
			ctx->rank, node, errno);
	if (node < 0 && ctx->home_node >= 0 && ctx->home_node < NUMA_MAX &&
	    !set_policy(m, ctx->home_node, MPOL_PREFERRED_NODE))
		mc_debug("rank %u: no memory policy for NUMA node %d (errno %d)", ctx->rank, ctx->home_node, errno);
}

/* memfd of that length, sealed so that no peer can cut it under another's feet. */
static int pool_fd(uint64_t len, unsigned int flags)
{
	int fd = memfd_create("mc-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)len) != 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
		int e = errno;
		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

static bool pool_map(struct mc_mem *m, uint64_t len, bool huge)
{
	m->map_len = huge ? (len + HUGE_2M - 1) / HUGE_2M * HUGE_2M : (len + 4095) / 4096 * 4096;
	m->fd = pool_fd(m->map_len, huge ? MFD_HUGETLB : 0);
	if (m->fd < 0)
		return false;
	void *p = mmap(NULL, m->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (p == MAP_FAILED) {
		int e = errno;
		close(m->fd);
		m->fd = -1;
		errno = e;
		return false;
	}
	m->addr = p;
	return true;
}

static mc_status_t pool_make(struct mc_ctx *ctx, struct mc_mem *m, uint64_t len, const struct mc_mem_params *p)
{
	bool huge = p != NULL && (p->flags & MC_MEM_HUGE);
	uint64_t left = memory_left();
	if (len > left) {
		mc_error("rank %u: a pool of %llu bytes was asked for, this host or its memory cgroup has %llu left; "
			 "ask for less, or raise memory.max [memory, see mcinfo doctor]",
			 ctx->rank, (unsigned long long)len, (unsigned long long)left);
		return MC_ERR_NOMEM;
	}
	if (huge && !pool_map(m, len, true)) {
		mc_warn("rank %u: no huge pages for a pool of %llu bytes (errno %d): ordinary pages are used; reserve "
			"some with vm.nr_hugepages [huge-pages, see mcinfo doctor]",
			ctx->rank, (unsigned long long)len, errno);
		huge = false;
	}
	if (!huge && m->addr == NULL && !pool_map(m, len, false)) {
		mc_error("rank %u: cannot make a pool of %llu bytes: errno %d (%s)", ctx->rank, (unsigned long long)len,
			 errno, errno == EMFILE ? "limit of open files: ulimit -n [open-files, see mcinfo doctor]"
					 : "memory or address space [memory, see mcinfo doctor]");
		return MC_ERR_NOMEM;
	}
	bind_node(ctx, m, p != NULL ? p->numa_node : -1);
	return MC_OK;
}

/* ---- registration with the backends ---- */

static mc_status_t register_all(struct mc_ctx *ctx, struct mc_mem *m, const struct mc_region *r)
{
	struct mc_be_region br = {.addr = m->addr, .len = m->len, .kind = m->kind, .fd = m->fd, .id = m->id};
	if (r != NULL) {
		br.fd = r->kind == MC_KIND_DMABUF ? r->fd : -1;
		br.fd_off = r->fd_off;
	}
	bool any = false;
	mc_status_t last = MC_OK;
	for (uint32_t i = 0; i < ctx->be_n; i++) {
		struct mc_be_slot *slot = &ctx->be[i];
		if (!(slot->caps.flags & MC_CAP_RMA))
			continue;
		mc_status_t s = slot->ops->mem_reg(slot->be, &br, &m->be_mem[i]);
		if (s == MC_OK)
			any = true;
		else
			m->be_mem[i] = NULL;
		last = s != MC_OK ? s : last;
	}
	/* Host memory can always travel by message; device memory needs a backend that takes it. */
	return any || m->kind == MC_KIND_HOST ? MC_OK : last != MC_OK ? last : MC_ERR_UNSUPPORTED;
}

static void mem_destroy(struct mc_mem *m)
{
	struct mc_ctx *ctx = m->ctx;
	for (uint32_t i = 0; i < ctx->be_n; i++)
		if (m->be_mem[i] != NULL)
			ctx->be[i].ops->mem_dereg(ctx->be[i].be, m->be_mem[i]);
	uint32_t slot = (uint32_t)m->id;
	if (slot < ctx->region_n && ctx->region[slot] == m)
		ctx->region[slot] = NULL;
	if (m->map_len > 0)
		munmap(m->addr, m->map_len);
	if (m->fd >= 0)
		close(m->fd);
	free(m->name);
	free(m->asker);
	free(m);
}

static struct mc_mem *mem_new(struct mc_ctx *ctx, uint64_t len)
{
	struct mc_mem *m = calloc(1, sizeof(*m));
	if (m == NULL)
		return NULL;
	m->ctx = ctx;
	m->fd = -1;
	m->len = len;
	m->id = UINT64_MAX;
	return m;
}

static mc_status_t mem_enter(struct mc_ctx *ctx, struct mc_mem *m, const struct mc_region *r)
{
	mc_ctx_lock(ctx);
	mc_status_t s = region_add(ctx, m);
	if (s == MC_OK)
		s = register_all(ctx, m, r);
	if (s != MC_OK)
		mem_destroy(m);
	mc_ctx_unlock(ctx);
	return s;
}

mc_status_t mc_mem_alloc(struct mc_ctx *ctx, uint64_t len, const struct mc_mem_params *p, struct mc_mem **mem_out)
{
	if (len == 0 || len > (UINT64_C(1) << 46) || mem_out == NULL || (p != NULL && p->size != sizeof(*p)) ||
	    (p != NULL && p->numa_node >= NUMA_MAX))
		return MC_ERR_INVAL;
	struct mc_mem *m = mem_new(ctx, len);
	if (m == NULL)
		return MC_ERR_NOMEM;
	mc_status_t s = pool_make(ctx, m, len, p);
	if (s != MC_OK) {
		free(m);
		return s;
	}
	s = mem_enter(ctx, m, NULL);
	if (s == MC_OK)
		*mem_out = m;
	return s;
}

mc_status_t mc_mem_register(struct mc_ctx *ctx, const struct mc_region *r, struct mc_mem **mem_out)
{
	if (r == NULL || r->size != sizeof(*r) || r->len == 0 || mem_out == NULL || r->kind > MC_KIND_DMABUF ||
	    (r->addr == NULL && r->kind != MC_KIND_DMABUF) || r->len > UINT64_MAX - (uint64_t)(uintptr_t)r->addr)
		return MC_ERR_INVAL;
	struct mc_mem *m = mem_new(ctx, r->len);
	if (m == NULL)
		return MC_ERR_NOMEM;
	m->addr = r->addr;
	m->kind = r->kind;
	mc_status_t s = mem_enter(ctx, m, r);
	if (s == MC_OK)
		*mem_out = m;
	return s;
}

void *mc_mem_addr(const struct mc_mem *mem)
{
	return mem->addr;
}

uint64_t mc_mem_len(const struct mc_mem *mem)
{
	return mem->len;
}

static bool not_serving(void *arg)
{
	struct mc_mem *m = arg;
	mc_ctx_lock(m->ctx);
	bool idle = m->serving == 0;
	mc_ctx_unlock(m->ctx);
	return idle;
}

static bool list_reads(const struct mc_list *list, const struct mc_mem *mem)
{
	for (const struct mc_list *l = list->next; l != list; l = l->next)
		if (mc_container_of(l, struct mc_tx, node)->mem == mem)
			return true;
	return false;
}

/* Peers that have asked for bytes of it and do not take them: stopped, or cut off where nothing else tells. */
static void readers_fail(const struct mc_mem *mem)
{
	struct mc_ctx *ctx = mem->ctx;
	for (struct mc_list *l = ctx->peers.next; l != &ctx->peers; l = l->next) {
		struct mc_peer *p = mc_peer_of_node(l);
		if (list_reads(&p->flying, mem) || list_reads(&p->txq, mem))
			mc_peer_fail(p, MC_ERR_PEER_DOWN,
				     "it does not take the bytes that it asked for within MC_CANCEL_TIMEOUT, and their "
				     "region is to be freed");
	}
}

static void wait_for_readers(struct mc_mem *mem)
{
	struct mc_ctx *ctx = mem->ctx;
	int64_t deadline_ns = mc_deadline(mc_now_ns(), ctx->cfg.cancel_timeout);
	if (mc_wait_until(ctx, not_serving, mem, &ctx->peer_seq, deadline_ns) == MC_OK)
		return;
	mc_ctx_lock(ctx);
	readers_fail(mem);
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
	/* Taking a peer down gives back what was under way to it. */
	mc_wait_until(ctx, not_serving, mem, &ctx->peer_seq, INT64_MAX);
}

mc_status_t mc_mem_free(struct mc_mem *mem)
{
	if (mem == NULL)
		return MC_OK;
	struct mc_ctx *ctx = mem->ctx;
	mc_ctx_lock(ctx);
	if (mem->busy > 0) {
		mc_ctx_unlock(ctx);
		return MC_ERR_BUSY;
	}
	ctx->region[(uint32_t)mem->id] = NULL; /* no new answer to a peer starts from here */
	mc_region_freed(mem);
	mc_ctx_unlock(ctx);
	wait_for_readers(mem);
	mc_ctx_lock(ctx);
	mem_destroy(mem);
	mc_ctx_unlock(ctx);
	return MC_OK;
}

void mc_rmems_free(struct mc_ctx *ctx)
{
	uint32_t left = 0;
	while (!mc_list_empty(&ctx->rmems)) {
		struct mc_rmem *r = mc_container_of(ctx->rmems.next, struct mc_rmem, node);
		left++;
		if (r->busy > 0) /* its backend ends what still uses it */
			r->be_rmem = NULL;
		rmem_destroy(r);
	}
	if (left > 0)
		mc_info("rank %u: %u descriptors of peers' regions were still open at mc_finalize()", ctx->rank, left);
}

void mc_mems_free(struct mc_ctx *ctx)
{
	uint32_t left = 0;
	for (uint32_t i = 0; i < ctx->region_n; i++) {
		if (ctx->region[i] != NULL) {
			left += ctx->region[i]->internal ? 0 : 1;
			mem_destroy(ctx->region[i]);
		}
	}
	if (left > 0)
		mc_info("rank %u: %u regions were still open at mc_finalize()", ctx->rank, left);
	free(ctx->region);
	free(ctx->region_gen);
	ctx->region = NULL;
	ctx->region_n = 0;
}

/* ---- export and import ---- */

mc_status_t mc_mem_encode(struct mc_mem *m, const struct mc_mac_key *key, struct mc_wr *w)
{
	struct mc_ctx *ctx = m->ctx;
	uint8_t blob[MC_BLOB_MAX];
	const uint8_t *start = w->p;
	mc_wr_u32(w, EXPORT_MAGIC);
	mc_wr_u32(w, EXPORT_VERSION);
	mc_wr_u64(w, ctx->job);
	mc_wr_u32(w, ctx->rank);
	mc_wr_u64(w, ctx->epoch);
	mc_wr_u64(w, m->id);
	mc_wr_u64(w, m->len);
	mc_wr_u32(w, ctx->be_n);
	for (uint32_t i = 0; i < ctx->be_n; i++) {
		uint32_t len = 0;
		if (m->be_mem[i] != NULL) {
			len = sizeof(blob);
			mc_status_t s = ctx->be[i].ops->mem_export(ctx->be[i].be, m->be_mem[i], blob, &len);
			if (s != MC_OK)
				return s;
		}
		mc_wr_str(w, ctx->be[i].ops->name);
		mc_wr_blob(w, blob, len);
	}
	if (w->bad)
		return MC_ERR_NOSPC;
	uint8_t mac[MC_MAC_LEN];
	mc_mac(key, start, (size_t)(w->p - start), NULL, 0, mac);
	mc_wr_bytes(w, mac, sizeof(mac));
	return w->bad ? MC_ERR_NOSPC : MC_OK;
}

mc_status_t mc_mem_export(struct mc_mem *mem, void *blob, uint32_t *len)
{
	if (len == NULL)
		return MC_ERR_INVAL;
	uint8_t buf[MC_BLOB_MAX];
	struct mc_wr w;
	mc_wr_init(&w, buf, sizeof(buf));
	mc_ctx_lock(mem->ctx);
	mc_status_t s = mc_mem_encode(mem, &mem->ctx->key, &w);
	mc_ctx_unlock(mem->ctx);
	if (s != MC_OK)
		return s;
	uint32_t used = (uint32_t)mc_wr_len(&w), room = *len;
	*len = used;
	if (blob == NULL || room < used)
		return MC_ERR_NOSPC;
	memcpy(blob, buf, used);
	return MC_OK;
}

static mc_status_t check_origin(struct mc_peer *p, struct mc_rd *r)
{
	uint32_t magic = mc_rd_u32(r), version = mc_rd_u32(r);
	uint64_t job = mc_rd_u64(r);
	uint32_t rank = mc_rd_u32(r);
	uint64_t epoch = mc_rd_u64(r);
	if (r->bad || magic != EXPORT_MAGIC || version != EXPORT_VERSION)
		return MC_ERR_PROTO;
	return job == p->job && rank == p->rank && epoch == p->epoch ? MC_OK : MC_ERR_STALE;
}

/* The section of the link's backend, if there is one, becomes a one-sided descriptor. */
static mc_status_t import_sections(struct mc_peer *p, struct mc_rd *r, struct mc_rmem *m)
{
	const struct mc_be_slot *link = mc_link_ready(p) ? p->link : NULL;
	uint32_t n = mc_rd_u32(r);
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		char name[MC_NAME_MAX];
		uint32_t len;
		mc_rd_str(r, name, sizeof(name));
		const void *blob = mc_rd_blob(r, &len, MC_BLOB_MAX);
		if (blob == NULL || len == 0 || link == NULL || m->be_rmem != NULL ||
		    strcmp(name, link->ops->name) != 0)
			continue;
		mc_status_t s = link->ops->rmem_import(link->be, p->ep, blob, len, &m->be_rmem);
		if (s != MC_OK && s != MC_ERR_UNSUPPORTED)
			return s;
	}
	return mc_rd_end(r) ? MC_OK : MC_ERR_PROTO;
}

/* Descriptors that came before the link was proved. What cannot be imported goes by message. */
void mc_rmems_link_up(struct mc_peer *p)
{
	for (struct mc_list *l = p->ctx->rmems.next; l != &p->ctx->rmems; l = l->next) {
		struct mc_rmem *m = mc_container_of(l, struct mc_rmem, node);
		struct mc_rd r;
		if (m->peer != p || m->sections == NULL)
			continue;
		mc_rd_init(&r, m->sections, m->sections_len);
		mc_status_t s = import_sections(p, &r, m);
		if (s != MC_OK)
			mc_debug("rank %u: region %llx of peer %u: %s", p->ctx->rank, (unsigned long long)m->id, p->id,
				 mc_status_text(s));
		free(m->sections);
		m->sections = NULL;
	}
}

static mc_status_t keep_sections(struct mc_rmem *m, const struct mc_rd *r)
{
	m->sections_len = (uint32_t)mc_rd_left(r);
	m->sections = malloc(m->sections_len > 0 ? m->sections_len : 1);
	if (m->sections == NULL)
		return MC_ERR_NOMEM;
	memcpy(m->sections, r->p, m->sections_len);
	return MC_OK;
}

mc_status_t mc_rmem_import(struct mc_peer *p, const void *blob, uint32_t len, struct mc_rmem **out)
{
	struct mc_ctx *ctx = p->ctx;
	if (len < MC_MAC_LEN)
		return MC_ERR_PROTO;
	uint8_t mac[MC_MAC_LEN];
	uint32_t body = len - MC_MAC_LEN;
	mc_mac(p->key, blob, body, NULL, 0, mac);
	if (!mc_mac_equal(mac, (const uint8_t *)blob + body))
		return MC_ERR_PROTO;
	mc_status_t s = mc_peer_start(p);
	if (s != MC_OK)
		return s;
	struct mc_rd r;
	mc_rd_init(&r, blob, body);
	s = check_origin(p, &r);
	if (s != MC_OK)
		return s;
	struct mc_rmem *m = calloc(1, sizeof(*m));
	if (m == NULL)
		return MC_ERR_NOMEM;
	m->ctx = ctx;
	m->peer = p;
	m->id = mc_rd_u64(&r);
	m->len = mc_rd_u64(&r);
	s = mc_link_ready(p) ? MC_OK : keep_sections(m, &r);
	if (s == MC_OK)
		s = import_sections(p, &r, m);
	if (s != MC_OK) {
		if (m->be_rmem != NULL)
			p->link->ops->rmem_drop(p->link->be, m->be_rmem);
		free(m->sections);
		free(m);
		return s;
	}
	mc_list_add_tail(&ctx->rmems, &m->node);
	*out = m;
	return MC_OK;
}

mc_status_t mc_mem_import(struct mc_ctx *ctx, uint32_t peer, const void *blob, uint32_t len, struct mc_rmem **rmem_out)
{
	struct mc_peer *p = mc_peer_get(ctx, peer);
	if (p == NULL || blob == NULL || rmem_out == NULL)
		return MC_ERR_INVAL;
	mc_ctx_lock(ctx);
	mc_status_t s = mc_rmem_import(p, blob, len, rmem_out);
	mc_ctx_unlock(ctx);
	mc_progress_kick(ctx);
	return s;
}

uint64_t mc_rmem_len(const struct mc_rmem *rmem)
{
	return rmem->len;
}

uint32_t mc_rmem_peer(const struct mc_rmem *rmem)
{
	return rmem->peer->id;
}

static void rmem_destroy(struct mc_rmem *r)
{
	if (r->be_rmem != NULL)
		r->peer->link->ops->rmem_drop(r->peer->link->be, r->be_rmem);
	mc_list_del(&r->node);
	free(r->sections);
	free(r);
}

void mc_rmem_unpin(struct mc_rmem *r)
{
	r->busy--;
	if (r->busy == 0 && r->released)
		rmem_destroy(r);
}

void mc_rmem_release(struct mc_rmem *rmem)
{
	if (rmem == NULL)
		return;
	struct mc_ctx *ctx = rmem->ctx;
	mc_ctx_lock(ctx);
	rmem->released = true;
	if (rmem->busy == 0)
		rmem_destroy(rmem);
	mc_ctx_unlock(ctx);
}

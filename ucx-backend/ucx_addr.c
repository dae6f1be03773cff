/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ucx_addr.c - the published address, and the watch over peers on this host.
 *
 * UCX notices a dead peer on shared memory only by looking every 20 s. So with shared memory each mc_be keeps a pipe
 * whose number its address tells; a peer opens the writing end through /proc/PID/fd and gets POLLERR the moment the
 * last reader is gone, by close or by death. A pidfd says the same of the process where the pipe cannot be opened (or a
 * forked child still holds it).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ucx.h"
#include "wire.h"

enum { ADDR_MAGIC = 0x4d435541, /* "MCUA" */ ADDR_VERSION = 1 };

static uint64_t hash_file(const char *path)
{
	char buf[128];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf));

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return 0;
	return (uint64_t)mc_crc32c(0, buf, (size_t)n) << 32 | mc_crc32c(1, buf, (size_t)n);
}

static uint64_t inode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* When a process started, in clock ticks since boot; 0: there is none. Tells a reused pid. */
static uint64_t process_start(pid_t pid)
{
	char path[64], buf[1024], *p;
	unsigned long long start = 0;
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	buf[n] = '\0';
	p = strrchr(buf, ')'); /* the name before it may hold anything */
	for (int field = 2; p != NULL && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (p == NULL || sscanf(p, " %llu", &start) != 1)
		return 0;
	return start;
}

mc_status_t mc_ucx_addr_make(struct mc_be *be)
{
	ucp_address_t *worker = NULL;
	size_t worker_len = 0;
	struct stat st = {0};
	struct mc_wr w;
	ucs_status_t ust = ucp_worker_get_address(be->worker, &worker, &worker_len);

	if (ust != UCS_OK) {
		mc_error("ucx: rank %u: no worker address: %s", be->rank, ucs_status_string(ust));
		return mc_ucx_status(ust);
	}
	be->host = hash_file("/proc/sys/kernel/random/boot_id");
	be->pidns = inode_of("/proc/self/ns/pid");
	if (be->pipe[0] >= 0 && fstat(be->pipe[0], &st) != 0)
		st.st_ino = 0;
	mc_wr_init(&w, be->addr, sizeof(be->addr) - 4);
	mc_wr_u32(&w, ADDR_MAGIC);
	mc_wr_u32(&w, ADDR_VERSION);
	mc_wr_u32(&w, be->rank);
	mc_wr_u32(&w, be->addr_flags);
	mc_wr_u64(&w, be->epoch);
	mc_wr_u64(&w, be->host);
	mc_wr_u64(&w, be->pidns);
	mc_wr_u32(&w, (uint32_t)getpid());
	mc_wr_u32(&w, (uint32_t)be->pipe[0]);
	mc_wr_u64(&w, process_start(getpid()));
	mc_wr_u64(&w, (uint64_t)st.st_ino);
	mc_wr_u64(&w, (uint64_t)(uintptr_t)&be->epoch);
	mc_wr_blob(&w, worker, worker_len <= UCX_ADDR_MAX ? (uint32_t)worker_len : 0);
	ucp_worker_release_address(be->worker, worker);
	if (w.bad || worker_len > UCX_ADDR_MAX) {
		mc_error("ucx: rank %u: address of %zu bytes is too long: name fewer devices in MC_DEVICE", be->rank,
			 worker_len);
		return MC_ERR_UNSUPPORTED;
	}
	be->addr_len = (uint32_t)mc_wr_len(&w);
	mc_wr_init(&w, be->addr + be->addr_len, 4);
	mc_wr_u32(&w, mc_crc32c(0, be->addr, be->addr_len));
	be->addr_len += 4;
	return MC_OK;
}

/* UCX unpacks an address without knowing its length, so nothing reaches it that does not come whole out of this. */
mc_status_t mc_ucx_addr_parse(const void *p, uint32_t len, struct ucx_addr *out)
{
	struct mc_rd r;
	uint32_t magic, version, crc;

	mc_rd_init(&r, p, len);
	magic = mc_rd_u32(&r);
	version = mc_rd_u32(&r);
	out->rank = mc_rd_u32(&r);
	out->flags = mc_rd_u32(&r);
	out->epoch = mc_rd_u64(&r);
	out->host = mc_rd_u64(&r);
	out->pidns = mc_rd_u64(&r);
	out->pid = mc_rd_u32(&r);
	out->pipe_fd = mc_rd_u32(&r);
	out->start = mc_rd_u64(&r);
	out->pipe_ino = mc_rd_u64(&r);
	out->probe = mc_rd_u64(&r);
	out->worker = mc_rd_blob(&r, &out->worker_len, UCX_ADDR_MAX);
	crc = mc_rd_u32(&r);
	if (!mc_rd_end(&r) || magic != ADDR_MAGIC || version != ADDR_VERSION || out->worker_len == 0)
		return MC_ERR_PROTO;
	return crc == mc_crc32c(0, p, len - 4) ? MC_OK : MC_ERR_PROTO;
}

mc_status_t mc_ucx_watch_open(struct mc_be *be)
{
	struct epoll_event e = {.events = EPOLLIN};

	be->watch = epoll_create1(EPOLL_CLOEXEC);
	if (be->watch >= 0 && pipe2(be->pipe, O_CLOEXEC | O_NONBLOCK) == 0 &&
	    epoll_ctl(be->epfd, EPOLL_CTL_ADD, be->watch, &e) == 0)
		return MC_OK;
	mc_error("ucx: rank %u: cannot watch peers: %s; is the limit of open files (ulimit -n) reached? "
		 "[open-files, see mcinfo doctor]", be->rank,
		 strerror(errno));
	return MC_ERR_NOMEM;
}

void mc_ucx_watch_close(struct mc_be *be)
{
	for (int i = 0; i < 2; i++)
		if (be->pipe[i] >= 0)
			close(be->pipe[i]);
	if (be->watch >= 0)
		close(be->watch);
}

/* The writing end of the peer's pipe; -1: cannot be had. */
static int pipe_open(const struct ucx_addr *a)
{
	char path[64];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/fd/%u", a->pid, a->pipe_fd);
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && (uint64_t)st.st_ino == a->pipe_ino)
		return fd;
	close(fd);
	return -1;
}

static void watch_fd(struct ucx_link *link, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = link};

	if (fd >= 0 && epoll_ctl(link->be->watch, EPOLL_CTL_ADD, fd, &e) == 0)
		link->be->watched_n++;
}

bool mc_ucx_watch_add(struct ucx_link *link, const struct ucx_addr *a)
{
	struct mc_be *be = link->be;

	if (be->watch < 0 || a->host != be->host || a->pidns != be->pidns || a->host == 0)
		return true;
	if (process_start((pid_t)a->pid) != a->start)
		return false;
	link->pidfd = (int)syscall(SYS_pidfd_open, a->pid, 0);
	if (link->pidfd < 0 && errno == ESRCH)
		return false;
	link->pipe = pipe_open(a);
	watch_fd(link, link->pidfd, EPOLLIN);
	watch_fd(link, link->pipe, 0);
	if (link->pipe < 0)
		mc_debug("ucx: rank %u: pipe of rank %u (pid %u) cannot be opened", be->rank, a->rank, a->pid);
	return true;
}

void mc_ucx_watch_drop(struct ucx_link *link)
{
	int *fd[] = {&link->pidfd, &link->pipe};

	for (size_t i = 0; i < MC_ARRAY_LEN(fd); i++) {
		if (*fd[i] < 0)
			continue;
		if (epoll_ctl(link->be->watch, EPOLL_CTL_DEL, *fd[i], NULL) == 0)
			link->be->watched_n--;
		close(*fd[i]);
		*fd[i] = -1;
	}
}

void mc_ucx_watch_poll(struct mc_be *be)
{
	struct epoll_event e[16];
	int n = epoll_wait(be->watch, e, 16, 0);

	for (int i = 0; i < n; i++) {
		struct ucx_link *link = e[i].data.ptr;
		if (link->dying)
			continue;
		link->dying = true;
		be->dying_n++;
	}
}

bool mc_ucx_cma_works(const struct mc_be *be, const struct ucx_addr *a)
{
	uint64_t seen = 0;
	struct iovec here = {.iov_base = &seen, .iov_len = sizeof(seen)};
	struct iovec there = {.iov_base = (void *)(uintptr_t)a->probe, .iov_len = sizeof(seen)};

	if (a->host != be->host || a->pidns != be->pidns)
		return false;
	return process_vm_readv((pid_t)a->pid, &here, 1, &there, 1, 0) == (ssize_t)sizeof(seen) && seen == a->epoch;
}

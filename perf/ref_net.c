/* SPDX-License-Identifier: BSD-3-Clause */
/* ref_net.c - the socket between the two ranks of the references, and what is measured over it. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ref.h"

enum { CHUNK = 1 << 20, ADDRS = 16, CMD_BYTES = 16 };
enum { CMD_DONE = 1, CMD_STREAM, CMD_RR, CMD_RR_POLL };
#define CONNECT_MS 10000

/* ---- bytes over the socket ----------------------------------------------------------------------------------- */

static bool send_all(int fd, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static bool recv_all(int fd, void *buf, size_t len, bool poll_it)
{
	uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = recv(fd, p, len, poll_it ? MSG_DONTWAIT : 0);
		if (n < 0 && (errno == EINTR || (poll_it && errno == EAGAIN)))
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static bool send_cmd(struct ref_link *l, uint64_t cmd, uint64_t arg)
{
	uint8_t buf[CMD_BYTES];
	struct perf_wr w;

	perf_wr_init(&w, buf, sizeof(buf));
	perf_wr_u64(&w, cmd);
	perf_wr_u64(&w, arg);
	return l->fd >= 0 && send_all(l->fd, buf, sizeof(buf));
}

static bool recv_cmd(struct ref_link *l, uint64_t *cmd, uint64_t *arg)
{
	uint8_t buf[CMD_BYTES];
	struct perf_rd r;

	if (l->fd < 0 || !recv_all(l->fd, buf, sizeof(buf), false))
		return false;
	perf_rd_init(&r, buf, sizeof(buf));
	*cmd = perf_rd_u64(&r);
	*arg = perf_rd_u64(&r);
	return true;
}

/* ---- one stream ---------------------------------------------------------------------------------------------- */

/* As iperf3 does it: one buffer at each end, which stays in the cache. */
double ref_tcp(struct ref_link *l, int64_t ns)
{
	/* enough for that time at 4 GB/s, the way back of one command included */
	uint64_t chunks = (uint64_t)(ns / 1000000 * 4) + 1, cmd, cpu = 0;
	uint8_t *buf = calloc(1, CHUNK);
	int64_t start, cpu_start, end = 0;
	bool ok = buf != NULL && send_cmd(l, CMD_STREAM, chunks);

	start = perf_now_ns();
	cpu_start = ref_thread_cpu_ns();
	for (uint64_t i = 0; ok && i < chunks; i++)
		ok = send_all(l->fd, buf, CHUNK);
	ok = ok && recv_cmd(l, &cmd, &cpu);
	end = perf_now_ns();
	free(buf);
	if (!ok)
		return 0;
	l->cpu_s_per_gib = (double)(cpu + (uint64_t)(ref_thread_cpu_ns() - cpu_start)) / 1e9 /
			   ((double)chunks * CHUNK / 1073741824.0);
	return (double)chunks * CHUNK / (double)(end - start);
}

static bool follow_stream(struct ref_link *l, uint64_t chunks)
{
	uint8_t *buf = malloc(CHUNK);
	int64_t cpu = ref_thread_cpu_ns();
	bool ok = buf != NULL;

	for (uint64_t i = 0; ok && i < chunks; i++)
		ok = recv_all(l->fd, buf, CHUNK, false);
	free(buf);
	return ok && send_cmd(l, CMD_STREAM, (uint64_t)(ref_thread_cpu_ns() - cpu));
}

/* ---- request and reply --------------------------------------------------------------------------------------- */

double ref_tcp_rr(struct ref_link *l, uint64_t size, int64_t ns, bool poll_it)
{
	struct perf_samples v = {0};
	uint8_t *buf = calloc(1, size);
	int64_t end = perf_now_ns() + ns;
	/* the first byte tells whether another one follows */
	bool ok = buf != NULL && send_cmd(l, poll_it ? CMD_RR_POLL : CMD_RR, size), last = false;
	double us;

	while (ok && !last) {
		int64_t start = perf_now_ns();
		last = start >= end;
		buf[0] = last;
		ok = send_all(l->fd, buf, size) && recv_all(l->fd, buf, size, poll_it);
		(void)perf_samples_add(&v, (uint64_t)(perf_now_ns() - start));
	}
	us = ok ? (double)perf_samples_percentile(&v, 0.5) / 2e3 : 0;
	perf_samples_free(&v);
	free(buf);
	return us;
}

static bool follow_rr(struct ref_link *l, uint64_t size, bool poll_it)
{
	uint8_t *buf = size > 0 && size <= UINT64_C(1) << 37 ? malloc(size) : NULL;
	bool ok = buf != NULL, last = false;

	while (ok && !last) {
		ok = recv_all(l->fd, buf, size, poll_it);
		last = ok && buf[0] == 1;
		ok = ok && send_all(l->fd, buf, size);
	}
	free(buf);
	return ok;
}

bool ref_follow(struct ref_link *l)
{
	uint64_t cmd = 0, arg = 0;

	while (recv_cmd(l, &cmd, &arg)) {
		bool ok = false;
		switch (cmd) {
		case CMD_DONE:
			return true;
		case CMD_STREAM:
			ok = follow_stream(l, arg);
			break;
		case CMD_RR:
		case CMD_RR_POLL:
			ok = follow_rr(l, arg, cmd == CMD_RR_POLL);
			break;
		default:
			break;
		}
		if (!ok)
			break;
	}
	return false;
}

void ref_done(struct ref_link *l)
{
	(void)send_cmd(l, CMD_DONE, 0);
}

/* ---- connect ------------------------------------------------------------------------------------------------- */

/* Every IPv4 address of this host that others may reach, loopback last. */
static uint32_t addresses(uint32_t *out)
{
	struct ifaddrs *list = NULL;
	uint32_t n = 0;

	if (getifaddrs(&list) == 0) {
		for (struct ifaddrs *i = list; i != NULL && n + 1 < ADDRS; i = i->ifa_next) {
			if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_UP) == 0 ||
			    (i->ifa_flags & IFF_LOOPBACK) != 0)
				continue;
			out[n++] = ntohl(((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr.s_addr);
		}
		freeifaddrs(list);
	}
	out[n++] = INADDR_LOOPBACK;
	return n;
}

static int listen_any(uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 4) == 0 &&
	    getsockname(fd, (struct sockaddr *)&a, &len) == 0) {
		*port = ntohs(a.sin_port);
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The one who knows the token is the other rank. */
static int accept_token(int lfd, uint64_t token)
{
	int64_t give_up = perf_now_ns() + INT64_C(1000000) * CONNECT_MS;

	while (perf_now_ns() < give_up) {
		struct pollfd p = {.fd = lfd, .events = POLLIN};
		struct timeval tv = {.tv_sec = 2};
		uint64_t got = 0;
		int fd;
		if (poll(&p, 1, 100) <= 0)
			continue;
		fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		if (recv_all(fd, &got, sizeof(got), false) && got == token)
			return fd;
		close(fd);
	}
	return -1;
}

static int connect_token(uint32_t addr, uint16_t port, uint64_t token)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(addr)};
	struct timeval tv = {.tv_sec = 3};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && send_all(fd, &token, sizeof(token)))
		return fd;
	close(fd);
	return -1;
}

static void offer(struct ref_link *l, struct perf_job *j, uint32_t lead, void *area)
{
	uint32_t addr[ADDRS], n = addresses(addr);
	uint64_t token = 0;
	uint16_t port = 0;
	struct perf_wr w;
	int lfd = listen_any(&port);

	(void)!getrandom(&token, sizeof(token), 0);
	perf_wr_init(&w, j->buf, MC_NOTE_MAX);
	perf_wr_u64(&w, token);
	perf_wr_u64(&w, (uint64_t)getpid());
	perf_wr_u64(&w, (uint64_t)(uintptr_t)area);
	perf_wr_u32(&w, lfd < 0 ? 0 : port);
	perf_wr_u32(&w, n);
	for (uint32_t i = 0; i < n; i++)
		perf_wr_u32(&w, addr[i]);
	if (perf_job_send(j, lead, perf_tag(PERF_K_LINK, 0), j->buf, perf_wr_len(&w)) && lfd >= 0)
		l->fd = accept_token(lfd, token);
	if (lfd >= 0)
		close(lfd);
}

static void seek(struct ref_link *l, struct perf_job *j, uint32_t other, bool same_node)
{
	int64_t give_up = perf_now_ns() + INT64_C(1000000) * CONNECT_MS;
	struct mc_note *note = NULL;
	struct perf_rd r;
	uint64_t token;
	uint32_t port, n;

	while (note == NULL && perf_now_ns() < give_up) {
		note = perf_job_note(j, 20000000);
		if (note != NULL && (note->peer != other || perf_tag_kind(note->tag) != PERF_K_LINK)) {
			mc_note_free(note);
			note = NULL;
		}
	}
	if (note == NULL)
		return;
	perf_rd_init(&r, note->data, note->len);
	token = perf_rd_u64(&r);
	l->pid = (pid_t)perf_rd_u64(&r);
	l->base = perf_rd_u64(&r);
	port = perf_rd_u32(&r);
	n = perf_rd_u32(&r);
	if (same_node)
		l->fd = connect_token(INADDR_LOOPBACK, (uint16_t)port, token);
	for (uint32_t i = 0; i < n && l->fd < 0 && perf_rd_left(&r) > 0 && port > 0; i++)
		l->fd = connect_token(perf_rd_u32(&r), (uint16_t)port, token);
	mc_note_free(note);
}

bool ref_open(struct ref_link *l, struct perf_job *j, uint32_t lead, uint32_t other, void *area, struct perf_err *err)
{
	struct mc_peer_info info = {.size = sizeof(info)};
	struct timeval never = {0};
	int one = 1;

	*l = (struct ref_link){.fd = -1, .lead = j->rank == lead};
	if (j->rank == lead) {
		if (mc_peer_query(j->ctx, other, &info) != MC_OK)
			info.same_node = 0;
		l->no_pvm = info.same_node == 0;
		l->no_ucx = info.same_node == 0;
		seek(l, j, other, info.same_node != 0);
	} else {
		offer(l, j, lead, area);
	}
	if (l->fd < 0) {
		perf_err_set(err, "rank %u cannot connect to rank %u for the references", lead, other);
		return false;
	}
	(void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(l->fd, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof(never));
	(void)setsockopt(l->fd, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof(never));
	return true;
}

void ref_close(struct ref_link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_dial.c - the listener, the addresses it is known by, and calling a peer at one of its addresses after the
 * other. A connection that is refused everywhere is the proof that the peer's process is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "verbs.h"

#define ADDRESS_NS  INT64_C(1000000000) /* for one address to answer */
#define ROUND_NS    INT64_C(100000000)
#define STRANGER_NS INT64_C(10000000000) /* for a caller to say who it is */

/* ---- the own side ------------------------------------------------------------------------------------------------ */

/* Same for processes that reach each other by the loopback address. */
static uint64_t host_identity(void)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	char boot[64] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0) {
		(void)!read(fd, boot, sizeof(boot) - 1);
		close(fd);
	}
	if (boot[0] == '\0' || stat("/proc/self/ns/net", &st) != 0)
		return mc_random_u64(); /* not known: like nobody's */
	for (const char *p = boot; *p != '\0'; p++)
		h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	return (h ^ (uint64_t)st.st_ino) * UINT64_C(0x100000001b3);
}

static void ip_of(const struct sockaddr *sa, uint8_t raw[16])
{
	memset(raw, 0, 16);
	if (sa->sa_family == AF_INET) {
		raw[10] = raw[11] = 0xff;
		memcpy(raw + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
	} else {
		memcpy(raw, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	}
}

/* Addresses that a peer may use. IPv4 first; link-local IPv6 would need the name of the peer's interface. */
static void addresses_list(struct vb_addr *self)
{
	static const int family[] = {AF_INET, AF_INET6};
	struct ifaddrs *all = NULL;

	self->ip_n = 0;
	if (getifaddrs(&all) != 0)
		return;
	for (size_t f = 0; f < MC_ARRAY_LEN(family); f++)
		for (struct ifaddrs *i = all; i != NULL && self->ip_n < VB_IP_MAX; i = i->ifa_next) {
			uint8_t raw[16];
			if (i->ifa_addr == NULL || i->ifa_addr->sa_family != family[f] || !(i->ifa_flags & IFF_UP) ||
			    (i->ifa_flags & IFF_LOOPBACK))
				continue;
			ip_of(i->ifa_addr, raw);
			if (raw[0] == 0xfe && (raw[1] & 0xc0) == 0x80)
				continue;
			memcpy(self->ip[self->ip_n++].raw, raw, 16);
		}
	freeifaddrs(all);
}

static int listener_open(int family, uint16_t *port_out)
{
	struct sockaddr_storage sa = {.ss_family = (sa_family_t)family};
	socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), zero = 0;

	if (fd < 0)
		return -1;
	if (family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (struct sockaddr *)&sa, len) != 0 || listen(fd, SOMAXCONN) != 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) != 0) {
		close(fd);
		return -1;
	}
	*port_out = ntohs(family == AF_INET ? ((struct sockaddr_in *)(void *)&sa)->sin_port
					    : ((struct sockaddr_in6 *)(void *)&sa)->sin6_port);
	return fd;
}

mc_status_t mc_vb_listen(struct mc_be *be)
{
	be->self.host = host_identity();
	addresses_list(&be->self);
	be->listener.fd = listener_open(AF_INET6, &be->self.port);
	if (be->listener.fd < 0)
		be->listener.fd = listener_open(AF_INET, &be->self.port); /* a kernel without IPv6 */
	if (be->listener.fd < 0 || !mc_vb_fd_add(be, &be->listener, EPOLLIN)) {
		mc_error("verbs: rank %u: no listener for control connections: %s [open-files, ports, see mcinfo "
			 "doctor]",
			 be->rank, strerror(errno));
		return MC_ERR_DEVICE;
	}
	return MC_OK;
}

/* A host that has fallen silent is noticed by TCP itself. */
static void socket_tune(int fd)
{
	static const struct {
		int level, name, value;
	} opt[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},        {IPPROTO_TCP, TCP_KEEPIDLE, 3},
		   {IPPROTO_TCP, TCP_KEEPINTVL, 1},      {IPPROTO_TCP, TCP_KEEPCNT, 4},
		   {IPPROTO_TCP, TCP_NODELAY, 1},        {IPPROTO_TCP, TCP_SYNCNT, 2},
		   {IPPROTO_TCP, TCP_USER_TIMEOUT, 6000}};

	for (size_t i = 0; i < MC_ARRAY_LEN(opt); i++)
		(void)setsockopt(fd, opt[i].level, opt[i].name, &opt[i].value, sizeof(opt[i].value));
}

void mc_vb_accept(struct mc_be *be)
{
	for (;;) {
		struct vb_ctl *ctl;
		int fd = accept4(be->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED &&
			    mc_ratelimit_ok(&be->limit, 1))
				mc_error("verbs: rank %u: a control connection cannot be accepted: %s [open-files, see "
					 "mcinfo doctor]",
					 be->rank, strerror(errno));
			return;
		}
		socket_tune(fd);
		ctl = mc_vb_ctl_new(be, fd, CTL_ACCEPTED);
		if (ctl == NULL) {
			close(fd);
			continue;
		}
		ctl->deadline_ns = mc_now_ns() + STRANGER_NS;
		mc_vb_timer_want(be, ctl->deadline_ns);
	}
}

/* ---- calling ----------------------------------------------------------------------------------------------------- */

/* The k-th address to try; false: there are no more. */
static bool address_of(const struct vb_link *link, uint32_t k, struct sockaddr_storage *sa, socklen_t *len)
{
	static const uint8_t loopback[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
	bool here = link->addr.host == link->be->self.host;
	const uint8_t *raw;

	if (here && k == 0)
		raw = loopback;
	else if (k - here < link->addr.ip_n)
		raw = link->addr.ip[k - here].raw;
	else
		return false;
	memset(sa, 0, sizeof(*sa));
	if (mc_vb_gid_is_ipv4(raw)) {
		struct sockaddr_in *in = (struct sockaddr_in *)(void *)sa;
		in->sin_family = AF_INET;
		in->sin_port = htons(link->addr.port);
		memcpy(&in->sin_addr, raw + 12, 4);
		*len = sizeof(*in);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)sa;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(link->addr.port);
		memcpy(&in6->sin6_addr, raw, 16);
		*len = sizeof(*in6);
	}
	return true;
}

/* 0: a call is under way. */
static int call(struct vb_link *link, const struct sockaddr_storage *sa, socklen_t len)
{
	int fd = socket(sa->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return errno;
	socket_tune(fd);
	if (connect(fd, (const struct sockaddr *)sa, len) != 0 && errno != EINPROGRESS) {
		err = errno;
		close(fd);
		return err;
	}
	link->dial = mc_vb_ctl_new(link->be, fd, CTL_DIALING);
	if (link->dial == NULL) {
		close(fd);
		return ENOMEM;
	}
	link->dial->link = link;
	link->dial->deadline_ns = mc_now_ns() + ADDRESS_NS;
	mc_vb_timer_want(link->be, link->dial->deadline_ns);
	return 0;
}

/* All addresses were tried. If one of them refused and none answered, nobody is there any more. */
static void round_end(struct vb_link *link)
{
	int64_t now = mc_now_ns();

	if (link->dial_refused > 0) {
		if (link->met)
			mc_vb_link_fail(link, MC_ERR_PEER_DOWN, ECONNREFUSED, "its process has ended");
		else
			mc_vb_link_fail(link, MC_ERR_UNSUPPORTED, ECONNREFUSED, "its control port refuses connections");
		return;
	}
	link->dial_at = 0;
	link->dial_round++;
	link->dial_ns = now + ROUND_NS * (link->dial_round < 10 ? link->dial_round : 10);
	mc_vb_timer_want(link->be, link->dial_ns);
}

void mc_vb_dial(struct vb_link *link)
{
	struct sockaddr_storage sa;
	socklen_t len;

	link->dial_ns = INT64_MAX;
	while (link->dial == NULL && link->state != LINK_DEAD) {
		if (!address_of(link, link->dial_at, &sa, &len)) {
			round_end(link);
			return;
		}
		link->dial_at++;
		link->dial_refused += call(link, &sa, len) == ECONNREFUSED;
	}
}

void mc_vb_dial_failed(struct vb_link *link, int err)
{
	link->dial_refused += err == ECONNREFUSED;
	if (link->state != LINK_DEAD && (link->ctl == NULL || link->ctl->state != CTL_OPEN))
		mc_vb_dial(link);
}

void mc_vb_dial_timers(struct vb_link *link, int64_t now)
{
	struct vb_ctl *d = link->dial;
	struct sockaddr_storage sa;
	socklen_t len;

	if (d == NULL) {
		if (link->dial_ns <= now)
			mc_vb_dial(link);
		else if (link->dial_ns != INT64_MAX)
			mc_vb_timer_want(link->be, link->dial_ns);
		return;
	}
	/* One that has connected belongs to a process that may be busy: it is given up only for another address. */
	if (d->deadline_ns <= now && d->state == CTL_GREETED && !address_of(link, link->dial_at, &sa, &len))
		d->deadline_ns = INT64_MAX;
	if (d->deadline_ns <= now)
		mc_vb_ctl_lost(d, ETIMEDOUT);
	else if (d->deadline_ns != INT64_MAX)
		mc_vb_timer_want(link->be, d->deadline_ns);
}

/* SPDX-License-Identifier: BSD-3-Clause */
#include "netaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDR_LIMIT 8 /* an agent tries them one after the other */

int mc_addr_listen(uint16_t *port_out, struct mc_err *err)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};
	struct sockaddr_in a4 = {.sin_family = AF_INET};
	struct sockaddr *a = (struct sockaddr *)(void *)&a6;
	socklen_t len = sizeof(a6);
	int off = 0, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0 || bind(fd, a, len) != 0) {
		if (fd >= 0)
			(void)close(fd);
		a = (struct sockaddr *)(void *)&a4;
		len = sizeof(a4);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0 || bind(fd, a, len) != 0)
			goto undo;
	}
	if (listen(fd, 1024) != 0 || getsockname(fd, a, &len) != 0)
		goto undo;
	*port_out = ntohs(a->sa_family == AF_INET6 ? a6.sin6_port : a4.sin_port);
	return fd;
undo:
	(void)mc_err_set(err, "cannot listen for agents: %s", strerror(errno));
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

static bool is_loopback(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24) == 127;
	const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}

static bool is_link_local(const struct sockaddr *a)
{
	if (a->sa_family == AF_INET)
		return (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 16) == 0xa9fe;
	return IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static void add(struct mc_strv *list, const struct sockaddr *a, uint16_t port)
{
	char num[INET6_ADDRSTRLEN];
	bool six = a->sa_family == AF_INET6;
	const void *raw = six ? (const void *)&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr
			      : (const void *)&((const struct sockaddr_in *)(const void *)a)->sin_addr;

	if (list->n >= ADDR_LIMIT || inet_ntop(a->sa_family, raw, num, sizeof(num)) == NULL)
		return;
	char *text = mc_xformat(six ? "[%s]:%u" : "%s:%u", num, port);
	bool known = false;
	for (size_t i = 0; i < list->n && !known; i++)
		known = strcmp(list->v[i], text) == 0;
	if (!known)
		mc_strv_add(list, text);
	free(text);
}

/* Our own address on the way to a host. Asking for the route sends nothing. False: the host is not known here. */
static bool route_to(const char *name, struct sockaddr_storage *own)
{
	struct addrinfo hint = {.ai_socktype = SOCK_DGRAM}, *res = NULL;
	bool found = false;

	if (getaddrinfo(name, "9", &hint, &res) != 0)
		return false;
	for (struct addrinfo *i = res; i != NULL && !found; i = i->ai_next) {
		socklen_t len = sizeof(*own);
		int fd = socket(i->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			continue;
		found = connect(fd, i->ai_addr, i->ai_addrlen) == 0 &&
			getsockname(fd, (struct sockaddr *)(void *)own, &len) == 0;
		(void)close(fd);
	}
	freeaddrinfo(res);
	return found;
}

static void add_interfaces(struct mc_strv *list, uint16_t port)
{
	struct ifaddrs *all = NULL;

	if (getifaddrs(&all) != 0)
		return;
	for (int family = 0; family < 2; family++)
		for (struct ifaddrs *i = all; i != NULL; i = i->ifa_next)
			if (i->ifa_addr != NULL && i->ifa_addr->sa_family == (family == 0 ? AF_INET : AF_INET6) &&
			    (i->ifa_flags & IFF_UP) != 0 && !is_loopback(i->ifa_addr) && !is_link_local(i->ifa_addr))
				add(list, i->ifa_addr, port);
	freeifaddrs(all);
}

bool mc_addr_loopback(void)
{
	struct ifaddrs *all = NULL;
	bool found = false;

	if (getifaddrs(&all) != 0)
		return true;
	for (struct ifaddrs *i = all; i != NULL; i = i->ifa_next)
		found |= i->ifa_addr != NULL && (i->ifa_flags & IFF_UP) != 0 && is_loopback(i->ifa_addr);
	freeifaddrs(all);
	return found;
}

static char *join(const struct mc_strv *list)
{
	char *text = mc_xstrdup("");

	for (size_t i = 0; i < list->n; i++) {
		char *longer = mc_xformat("%s%s%s", text, i == 0 ? "" : ",", list->v[i]);

		free(text);
		text = longer;
	}
	return text;
}

/* What the user said: an address as it is, or a name that must not mean this host alone. */
static char *fixed_address(const char *fixed, uint16_t port, struct mc_err *err)
{
	struct addrinfo hint = {.ai_socktype = SOCK_STREAM}, *res = NULL;
	struct mc_strv list = {0};
	int e = getaddrinfo(fixed, NULL, &hint, &res);

	if (e != 0) {
		(void)mc_err_set(err, "--head-address %.200s: %s", fixed, gai_strerror(e));
		return NULL;
	}
	for (struct addrinfo *i = res; i != NULL; i = i->ai_next)
		add(&list, i->ai_addr, port);
	freeaddrinfo(res);
	char *text = join(&list);
	mc_strv_free(&list);
	return text;
}

char *mc_addr_candidates(const struct mc_hosts *hosts, const char *fixed, uint16_t port, struct mc_err *err)
{
	struct sockaddr_in here = {.sin_family = AF_INET};
	struct mc_strv list = {0};
	uint32_t local = 0;

	if (fixed != NULL)
		return fixed_address(fixed, port, err);
	for (uint32_t i = 0; i < hosts->n && list.n < ADDR_LIMIT; i++) {
		struct sockaddr_storage own;

		if (!route_to(hosts->host[i].name, &own))
			continue;
		/* the host is this one, or its name is bound to loopback here: no address for others either way */
		if (is_loopback((const struct sockaddr *)(const void *)&own))
			local++;
		else
			add(&list, (const struct sockaddr *)(const void *)&own, port);
	}
	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (local == hosts->n)
		add(&list, (const struct sockaddr *)(const void *)&here, port);
	add_interfaces(&list, port);
	if (list.n == 0)
		add(&list, (const struct sockaddr *)(const void *)&here, port);
	char *text = join(&list);
	mc_strv_free(&list);
	return text;
}

/* "10.0.0.1:80" or "[::1]:80" of length len. */
static bool parse(const char *text, size_t len, struct sockaddr_storage *out, socklen_t *out_len)
{
	char buf[80];
	const char *colon = memrchr(text, ':', len);
	uint32_t port;

	if (colon == NULL || len >= sizeof(buf))
		return false;
	memcpy(buf, text, len);
	buf[len] = '\0';
	if (!mc_text_count(buf + (colon - text) + 1, &port) || port == 0 || port > 65535)
		return false;
	buf[colon - text] = '\0';
	memset(out, 0, sizeof(*out));
	if (buf[0] == '[' && buf[strlen(buf) - 1] == ']') {
		struct sockaddr_in6 *a = (struct sockaddr_in6 *)(void *)out;

		buf[strlen(buf) - 1] = '\0';
		*out_len = sizeof(*a);
		a->sin6_family = AF_INET6;
		a->sin6_port = htons((uint16_t)port);
		return inet_pton(AF_INET6, buf + 1, &a->sin6_addr) == 1;
	}
	struct sockaddr_in *a = (struct sockaddr_in *)(void *)out;
	*out_len = sizeof(*a);
	a->sin_family = AF_INET;
	a->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, buf, &a->sin_addr) == 1;
}

static int wait_connected(int fd, int64_t limit_ns)
{
	struct pollfd p = {fd, POLLOUT, 0};
	int e = 0;
	socklen_t len = sizeof(e);

	int n = poll(&p, 1, (int)(limit_ns / 1000000));
	if (n == 0)
		return ETIMEDOUT;
	if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) != 0)
		return errno;
	return e;
}

int mc_addr_connect(const char *list, uint32_t nth, int64_t limit_ns, struct mc_err *err)
{
	struct sockaddr_storage a;
	socklen_t a_len;
	int on = 1;

	for (; nth > 0 && *list != '\0'; nth--) {
		list += strcspn(list, ",");
		list += *list == ',';
	}
	size_t len = strcspn(list, ",");
	if (len == 0)
		return -2;
	if (!parse(list, len, &a, &a_len))
		return mc_err_set(err, "\"%.*s\" is not an address and port", (int)(len > 80 ? 80 : len), list);
	int fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int e = fd < 0 ? errno : 0;
	if (e == 0 && connect(fd, (struct sockaddr *)(void *)&a, a_len) != 0)
		e = errno == EINPROGRESS ? wait_connected(fd, limit_ns) : errno;
	if (e == 0) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		return fd;
	}
	if (fd >= 0)
		(void)close(fd);
	return mc_err_set(err, "%.*s: %s", (int)len, list, strerror(e));
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * be_child.c - a peer in a process of its own. It is a fresh exec of the test program (a library such as UCX does not
 * survive fork), opens the same backend as rank 1 and obeys commands from a socket: address  reply: what to connect to
 * connect ADDR   connect to it echo     send every message back, reply   freeze         no more poll, only commands,
 * reply send N   send N patterned messages, wait until all are SENT, reply region L export L bytes, reply: blob verify
 * SEED    reply: 1 when the region has the pattern fill SEED  reply                          dereg          free the
 * region, send an empty message, reply die      _exit at once, nothing closed    quit           close the backend and
 * exit A command is 8 bytes of name and its argument in one packet.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "be_side.h"

enum { CMD_LEN = 8, PACKET_MAX = 8192 };

/* ---- in the test ---------------------------------------------------------------------------------------------------
 */

void child_start(struct child *c)
{
	int sv[2];
	char fd_text[16];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	snprintf(fd_text, sizeof(fd_text), "%d", sv[1]);
	c->fd = sv[0];
	c->pid = fork();
	assert_true(c->pid >= 0);
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (fcntl(sv[1], F_SETFD, 0) == 0)
			execl("/proc/self/exe", "test_backend", "--backend", be_setup.backend, "--transport",
			      be_setup.transport, "--child", fd_text, (char *)NULL);
		_exit(127);
	}
	close(sv[1]);
}

void child_cmd(struct child *c, const char *cmd, const void *arg, uint32_t len)
{
	uint8_t packet[PACKET_MAX] = {0};

	assert_true(len <= PACKET_MAX - CMD_LEN);
	snprintf((char *)packet, CMD_LEN, "%s", cmd);
	if (len > 0)
		memcpy(packet + CMD_LEN, arg, len);
	assert_int_equal(send(c->fd, packet, CMD_LEN + len, MSG_NOSIGNAL), (ssize_t)(CMD_LEN + len));
}

uint32_t child_reply(struct child *c, void *buf, uint32_t room)
{
	struct pollfd pfd = {.fd = c->fd, .events = POLLIN};
	ssize_t n;

	assert_int_equal(poll(&pfd, 1, SIDE_DEADLINE_S * 1000), 1);
	n = recv(c->fd, buf, room, 0);
	if (n <= 0)
		fail_msg("the child ended early");
	return (uint32_t)n;
}

int child_wait(struct child *c)
{
	int status = -1;

	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	close(c->fd);
	c->pid = 0;
	return status;
}

void child_kill(struct child *c)
{
	assert_int_equal(kill(c->pid, SIGKILL), 0);
	assert_true(WIFSIGNALED(child_wait(c)));
}

void child_link(struct child *c, struct side *s)
{
	uint8_t addr[4096];
	const void *own;
	uint32_t len;

	child_cmd(c, "address", NULL, 0);
	len = child_reply(c, addr, sizeof(addr));
	side_ep_create(s);
	assert_int_equal(side_connect(s, addr, len), MC_OK);
	own = side_addr(s, &len);
	child_cmd(c, "connect", own, len);
	while (s->up_n == 0)
		side_poll(s);
}

/* ---- in the child ---------------------------------------------------------------------------------------------------
 */

struct puppet {
	struct side s;
	int fd;
	bool frozen, quit;
	struct mc_be_mem *mem;
	uint8_t *region;
	uint64_t len;
};

static void reply(struct puppet *p, const void *buf, size_t len)
{
	if (send(p->fd, buf, len, MSG_NOSIGNAL) < 0)
		_exit(3);
}

static void on_echo(struct side *s, const struct mc_be_event *ev)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)ev->data, .iov_len = ev->len};

	/* One message is under way at a time: there is always room. */
	if (be_setup.ops->send(s->be, s->ep, &iov, 1, MC_SEND_COPY, 0) != MC_OK)
		_exit(4);
}

static void do_send(struct puppet *p, uint64_t n)
{
	uint8_t *buf = malloc(100000);

	assert_non_null(buf);
	for (uint64_t i = 0; i < n; i++) {
		uint32_t len = 8 + (uint32_t)(i * 7919 % 90000);
		uint32_t sent = p->s.sent_n;
		pattern_fill(buf, len, i);
		side_send(&p->s, NULL, buf, len, 0);
		while (p->s.sent_n == sent)
			side_poll(&p->s);
	}
	free(buf);
	reply(p, "sent", 4);
}

static void do_region(struct puppet *p, uint64_t len)
{
	struct mc_be_region r = {.len = len, .kind = MC_KIND_HOST, .fd = -1, .id = 1};
	uint8_t blob[4096];
	uint32_t blob_len = sizeof(blob);

	p->len = len;
	p->region = aligned_alloc(4096, (len + 4095) / 4096 * 4096);
	assert_non_null(p->region);
	memset(p->region, 0, len);
	r.addr = p->region;
	assert_int_equal(be_setup.ops->mem_reg(p->s.be, &r, &p->mem), MC_OK);
	assert_int_equal(be_setup.ops->mem_export(p->s.be, p->mem, blob, &blob_len), MC_OK);
	reply(p, blob, blob_len);
}

static void obey(struct puppet *p, const char *cmd, const uint8_t *arg, uint32_t len)
{
	uint64_t v = 0;
	const void *addr;
	uint32_t n;

	if (len == sizeof(v))
		memcpy(&v, arg, sizeof(v));
	if (strcmp(cmd, "address") == 0) {
		side_ep_create(&p->s);
		addr = side_addr(&p->s, &n);
		reply(p, addr, n);
	} else if (strcmp(cmd, "connect") == 0) {
		assert_int_equal(side_connect(&p->s, arg, len), MC_OK);
	} else if (strcmp(cmd, "echo") == 0) {
		p->s.on_msg = on_echo;
		reply(p, "ok", 2);
	} else if (strcmp(cmd, "freeze") == 0) {
		p->frozen = true;
		reply(p, "ok", 2);
	} else if (strcmp(cmd, "send") == 0) {
		do_send(p, v);
	} else if (strcmp(cmd, "region") == 0) {
		do_region(p, v);
	} else if (strcmp(cmd, "verify") == 0) {
		uint8_t ok = pattern_ok(p->region, p->len, v);
		reply(p, &ok, 1);
	} else if (strcmp(cmd, "fill") == 0) {
		pattern_fill(p->region, p->len, v);
		reply(p, "ok", 2);
	} else if (strcmp(cmd, "dereg") == 0) {
		be_setup.ops->mem_dereg(p->s.be, p->mem);
		side_send(&p->s, NULL, "", 0, MC_SEND_COPY);
		reply(p, "ok", 2);
	} else if (strcmp(cmd, "die") == 0) {
		_exit(0);
	} else {
		p->quit = true;
	}
}

static void read_command(struct puppet *p)
{
	uint8_t packet[PACKET_MAX + 8];
	ssize_t n = recv(p->fd, packet, PACKET_MAX, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < CMD_LEN)
		_exit(0); /* the test is gone */
	obey(p, (const char *)packet, packet + CMD_LEN, (uint32_t)n - CMD_LEN);
}

int child_main(int fd)
{
	static struct puppet p;

	p.fd = fd;
	side_open(&p.s, NULL, 1, 2);
	p.s.keep = false;
	for (;;) {
		struct pollfd pfd[2] = {{.fd = fd, .events = POLLIN}, {.fd = p.s.caps.event_fd, .events = POLLIN}};
		p.s.deadline_ns = INT64_MAX;
		read_command(&p);
		if (p.quit)
			break;
		if (!p.frozen && (side_poll(&p.s) > 0 || be_setup.ops->arm(p.s.be) != MC_OK))
			continue;
		poll(pfd, p.frozen ? 1 : 2, -1);
	}
	side_close(&p.s);
	free(p.region);
	return 0;
}

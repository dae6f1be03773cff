/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * be_side.h - what the contract tests share: one opened backend that counts every event it reports, and pairs of them.
 */
#ifndef MC_TEST_BE_SIDE_H
#define MC_TEST_BE_SIDE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend.h"
#include "hub.h"
#include "util.h"

/* How the tests were asked to run. */
struct be_setup {
	const struct mc_be_ops *ops;
	const char *backend, *transport;
	uint32_t transports;
	bool in_process_only; /* loop: no second process */
};
extern struct be_setup be_setup;

enum { SIDE_COOKIES = 262144, SIDE_DEADLINE_S = 60 };

struct side_msg {
	uint32_t len;
	uint8_t *data;
};

struct side {
	struct mc_be *be;
	struct mc_be_caps caps;
	struct mc_config cfg;
	uint32_t rank;
	struct mc_be_ep *ep; /* NULL: closed */
	uint64_t ep_cookie;
	uint8_t blob[4096]; /* what a peer needs to connect to ep */
	uint32_t blob_len;
	uint32_t up_n, down_n, done_n, sent_n, msg_n, late_n, fatal_n;
	mc_status_t down_status, bad_status; /* bad: last DONE or SENT that was not MC_OK */
	uint32_t bad_n;
	uint8_t *seen;        /* [SIDE_COOKIES] DONE and SENT per cookie */
	struct side_msg *msg; /* kept when keep is set, in order of arrival */
	uint32_t msg_cap;
	bool keep;
	void (*on_msg)(struct side *s, const struct mc_be_event *ev);
	bool (*on_bulk)(struct side *s, const void *head, uint32_t head_len, const void *rest, uint32_t rest_len);
	void *arg;
	uint64_t next_cookie;
	int64_t deadline_ns;
};

/* Settings of the backend under test; the caller frees. */
void side_config(struct mc_config *cfg);
mc_status_t side_try_open(struct side *s, struct mc_hub *hub, uint32_t rank, uint32_t size, char *why, size_t why_len);
void side_open(struct side *s, struct mc_hub *hub, uint32_t rank, uint32_t size);
void side_close(struct side *s);
void side_ep_create(struct side *s);
/* What peers are told: the published address or the ep's blob. */
const void *side_addr(const struct side *s, uint32_t *len_out);
mc_status_t side_connect(struct side *s, const void *addr, uint32_t len);
uint32_t side_poll(struct side *s); /* also fails the test when it has run too long */
void side_sleep(struct side *s);    /* arm, and when that allows it sleep until woken */
/* Poll, and sleep in epoll when there is nothing, until *count reaches n. Fails when no wake-up comes. */
void side_sleep_until(struct side *s, const uint32_t *count, uint32_t n);
/* Send one message; polls (`other` too, when not NULL) while there is no room. Returns its cookie. */
uint64_t side_send(struct side *s, struct side *other, const void *p, size_t len, uint32_t flags);
/* One slice, all of it; returns the cookie. */
uint64_t side_post1(struct side *s, struct side *other, enum mc_be_op op, struct mc_be_slice sl);
void side_forget(struct side *s); /* drop recorded messages and counts */

struct pair {
	struct mc_hub *hub;
	struct side a, b;
};
void pair_open(struct pair *p);    /* two backends in this process */
void pair_connect(struct pair *p); /* and both linked to each other, EP_UP seen */
void pair_tick(struct pair *p);
void pair_close(struct pair *p);

/* A second process that obeys commands; see be_child.c. */
struct child {
	int pid, fd;
};
void child_start(struct child *c);
void child_cmd(struct child *c, const char *cmd, const void *arg, uint32_t len);
uint32_t child_reply(struct child *c, void *buf, uint32_t room);
void child_kill(struct child *c);
int child_wait(struct child *c); /* its wait status */
int child_main(int fd);

/* Connect s to the child and the child to s. */
void child_link(struct child *c, struct side *s);

static inline uint8_t pattern(uint64_t seed, uint64_t i)
{
	return (uint8_t)((seed * 0x9e3779b97f4a7c15u + i * 131 + (i >> 8) * 17) >> 3);
}
void pattern_fill(void *p, size_t len, uint64_t seed);
bool pattern_ok(const void *p, size_t len, uint64_t seed);

#endif

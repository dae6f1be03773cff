/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_ctl.c - the control channel: a TCP connection per link on which rails are offered, answered and taken down.
 * Both sides prove with fresh nonces that they know the job's key; every message of a session carries a mac over its
 * number and direction. Format: docs/WIRE.md.
 *
 * Both sides may dial at once. The instance with the lower number keeps its own call; the other gives way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "verbs.h"
#include "wire.h"

enum { LEN = 4 };
#define PATIENCE_NS INT64_C(5000000000) /* for a peer that has connected to answer, before another address is tried */

struct vb_ctl *mc_vb_ctl_new(struct mc_be *be, int fd, enum vb_ctl_state state)
{
	struct vb_ctl *ctl = be->ctls_n < VB_CTLS_MAX + be->links_n ? calloc(1, sizeof(*ctl)) : NULL;

	if (ctl == NULL)
		return NULL;
	ctl->be = be;
	ctl->fd = (struct vb_fd){.kind = VB_FD_CTL, .fd = fd};
	ctl->state = state;
	ctl->dialed = state == CTL_DIALING;
	ctl->want_out = ctl->dialed;
	ctl->mine[0] = mc_random_u64();
	ctl->mine[1] = mc_random_u64();
	ctl->deadline_ns = INT64_MAX;
	if (!mc_vb_fd_add(be, &ctl->fd, EPOLLIN | (ctl->want_out ? EPOLLOUT : 0u))) {
		free(ctl);
		return NULL;
	}
	mc_list_add_tail(&be->ctls, &ctl->node);
	be->ctls_n++;
	return ctl;
}

void mc_vb_ctl_drop(struct vb_ctl *ctl)
{
	struct mc_be *be;

	if (ctl == NULL || ctl->state == CTL_DEAD)
		return;
	be = ctl->be;
	ctl->state = CTL_DEAD;
	if (ctl->link != NULL && ctl->link->ctl == ctl)
		ctl->link->ctl = NULL;
	if (ctl->link != NULL && ctl->link->dial == ctl)
		ctl->link->dial = NULL;
	ctl->link = NULL;
	close(ctl->fd.fd);
	ctl->fd.fd = -1;
	mc_list_del(&ctl->node);
	mc_list_add_tail(&be->dead_ctls, &ctl->node);
	be->ctls_n--;
}

void mc_vb_ctls_free(struct mc_be *be)
{
	struct mc_list *l;

	while ((l = mc_list_pop(&be->dead_ctls)) != NULL)
		free(mc_container_of(l, struct vb_ctl, node));
}

/* ---- sealing ----------------------------------------------------------------------------------------------------- */

/* What the mac covers beside the message itself. */
static size_t prefix_make(const struct vb_ctl *ctl, bool sending, uint8_t kind, uint8_t out[64])
{
	const uint64_t *d = ctl->dialed ? ctl->mine : ctl->theirs, *l = ctl->dialed ? ctl->theirs : ctl->mine;
	bool greeting = ctl->state < CTL_WELCOMED && !(ctl->dialed && sending && kind == VB_CONFIRM);
	struct mc_wr w;

	mc_wr_init(&w, out, 64);
	mc_wr_u8(&w, (uint8_t)(sending == ctl->dialed)); /* from the caller */
	if (kind == VB_HELLO)
		return mc_wr_len(&w);
	mc_wr_u64(&w, d[0]);
	mc_wr_u64(&w, d[1]);
	if (greeting)
		return mc_wr_len(&w);
	mc_wr_u64(&w, l[0]);
	mc_wr_u64(&w, l[1]);
	mc_wr_u64(&w, sending ? ctl->tx_n : ctl->rx_n);
	return mc_wr_len(&w);
}

static void out_flush(struct vb_ctl *ctl)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = &ctl->fd};
	ssize_t n = ctl->w_len > 0 ? send(ctl->fd.fd, ctl->w, ctl->w_len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	if (n > 0) {
		ctl->w_len -= (uint32_t)n;
		memmove(ctl->w, ctl->w + n, ctl->w_len);
	}
	/* What is wrong with it is found by the next read. */
	if ((ctl->w_len > 0) == ctl->want_out)
		return;
	ctl->want_out = ctl->w_len > 0;
	e.events |= ctl->want_out ? EPOLLOUT : 0u;
	(void)epoll_ctl(ctl->be->epfd, EPOLL_CTL_MOD, ctl->fd.fd, &e);
}

static void ctl_write(struct vb_ctl *ctl, const struct vb_ctl_msg *m)
{
	uint8_t body[VB_CTL_MAX], prefix[64], mac[MC_MAC_LEN];
	uint32_t len = mc_vb_ctl_make(m, body, sizeof(body));
	size_t p = prefix_make(ctl, true, m->kind, prefix);
	struct mc_wr w;

	mc_mac(&ctl->be->key, prefix, p, body, len, mac);
	mc_wr_init(&w, ctl->w + ctl->w_len, sizeof(ctl->w) - ctl->w_len);
	mc_wr_u32(&w, len + MC_MAC_LEN);
	mc_wr_bytes(&w, body, len);
	mc_wr_bytes(&w, mac, sizeof(mac));
	if (len == 0 || w.bad) {
		/* So much unread: the peer's host has not answered for long. A new connection starts from a clean
		 * state. */
		(void)shutdown(ctl->fd.fd, SHUT_RDWR);
		return;
	}
	ctl->tx_n++;
	ctl->w_len += (uint32_t)mc_wr_len(&w);
	out_flush(ctl);
}

void mc_vb_ctl_send(struct vb_link *link, struct vb_ctl_msg *m)
{
	if (link->ctl != NULL && link->ctl->state == CTL_OPEN)
		ctl_write(link->ctl, m);
}

/* ---- the handshake ----------------------------------------------------------------------------------------------- */

void mc_vb_ctl_greet(struct vb_ctl *ctl)
{
	struct mc_be *be = ctl->be;
	struct vb_ctl_msg m = {.kind = VB_HELLO,
			       .src = be->instance,
			       .dst = ctl->link->peer,
			       .nonce = {ctl->mine[0], ctl->mine[1]},
			       .resume = ctl->link->met,
			       .window = be->plan.window,
			       .addr = be->addr,
			       .addr_len = be->addr_len};

	ctl_write(ctl, &m);
	ctl->state = CTL_GREETED;
	ctl->deadline_ns = mc_now_ns() + PATIENCE_NS;
	mc_vb_timer_want(be, ctl->deadline_ns);
}

static void open_session(struct vb_ctl *ctl)
{
	struct vb_link *link = ctl->link;
	bool resumed = link->met;

	ctl->state = CTL_OPEN;
	ctl->deadline_ns = INT64_MAX;
	if (link->dial == ctl)
		link->dial = NULL;
	if (link->ctl != ctl)
		mc_vb_ctl_drop(link->ctl);
	mc_vb_ctl_drop(link->dial);
	link->ctl = ctl;
	link->met = true;
	link->dial_ns = INT64_MAX;
	mc_vb_link_session(link, resumed);
}

/* A short answer to a HELLO that is not taken up. HINT: my own call is on its way; BYE: I know nothing of that link. */
static void turn_away(struct vb_ctl *ctl, uint8_t kind)
{
	struct vb_ctl_msg m = {.kind = kind};

	ctl_write(ctl, &m);
	ctl->link = NULL;
	mc_vb_ctl_drop(ctl);
}

static void on_hello(struct vb_ctl *ctl, const struct vb_ctl_msg *m)
{
	struct mc_be *be = ctl->be;
	struct vb_link *link = mc_vb_link_find(be, m->src);
	struct vb_ctl_msg answer = {.kind = VB_WELCOME, .src = be->instance, .dst = m->src, .window = be->plan.window};
	struct vb_addr a;

	ctl->theirs[0] = m->nonce[0];
	ctl->theirs[1] = m->nonce[1];
	if (m->dst != be->instance || mc_vb_addr_parse(m->addr, m->addr_len, &a) != MC_OK || a.instance != m->src) {
		mc_vb_ctl_drop(ctl);
		return;
	}
	if (m->resume && (link == NULL || !link->met)) {
		turn_away(ctl, VB_BYE);
		return;
	}
	/* Two calls at once: the lower number's stands, once its connection is there. */
	if (link != NULL && !m->resume && link->ctl != NULL && link->ctl->state == CTL_OPEN) {
		turn_away(ctl, VB_HINT);
		return;
	}
	if (link != NULL && link->dial != NULL && link->dial->state == CTL_GREETED && be->instance < m->src) {
		turn_away(ctl, VB_HINT);
		return;
	}
	if (link == NULL)
		link = mc_vb_link_new(be, &a);
	if (link == NULL) {
		mc_vb_ctl_drop(ctl);
		return;
	}
	ctl->link = link;
	link->tx_window = m->window;
	answer.nonce[0] = ctl->mine[0];
	answer.nonce[1] = ctl->mine[1];
	ctl_write(ctl, &answer);
	ctl->state = CTL_WELCOMED;
	ctl->tx_n = ctl->rx_n = 0;
}

/* The answer to our HELLO. */
static void on_answer(struct vb_ctl *ctl, const struct vb_ctl_msg *m)
{
	struct vb_link *link = ctl->link;
	struct vb_ctl_msg confirm = {.kind = VB_CONFIRM};

	if (m->kind == VB_BYE) {
		mc_vb_ctl_drop(ctl);
		mc_vb_link_fail(link, MC_ERR_PEER_DOWN, 0, "the peer has closed the connection");
		return;
	}
	if (m->kind == VB_HINT) {
		mc_vb_ctl_drop(ctl);
		link->dial_ns = mc_now_ns() + INT64_C(500000000);
		mc_vb_timer_want(ctl->be, link->dial_ns);
		return;
	}
	if (m->kind != VB_WELCOME || m->src != link->peer || m->dst != ctl->be->instance) {
		mc_vb_ctl_lost(ctl, EPROTO);
		return;
	}
	ctl->theirs[0] = m->nonce[0];
	ctl->theirs[1] = m->nonce[1];
	link->tx_window = m->window;
	ctl->tx_n = ctl->rx_n = 0;
	ctl_write(ctl, &confirm);
	open_session(ctl);
}

static void on_message(struct vb_ctl *ctl, const struct vb_ctl_msg *m)
{
	switch (ctl->state) {
	case CTL_ACCEPTED:
		if (m->kind == VB_HELLO)
			on_hello(ctl, m);
		else
			mc_vb_ctl_drop(ctl);
		break;
	case CTL_GREETED:
		on_answer(ctl, m);
		break;
	case CTL_WELCOMED:
		if (m->kind == VB_CONFIRM)
			open_session(ctl);
		else
			mc_vb_ctl_drop(ctl);
		break;
	case CTL_OPEN:
		if (m->kind == VB_BYE)
			mc_vb_link_fail(ctl->link, MC_ERR_PEER_DOWN, 0, NULL);
		else
			mc_vb_rail_msg(ctl->link, m);
		break;
	default:
		break;
	}
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static bool message_ok(struct vb_ctl *ctl, const uint8_t *p, uint32_t len, struct vb_ctl_msg *m)
{
	uint8_t prefix[64], mac[MC_MAC_LEN];
	uint32_t body = len - MC_MAC_LEN;
	size_t n;

	n = prefix_make(ctl, false, p[0], prefix);
	mc_mac(&ctl->be->key, prefix, n, p, body, mac);
	if (!mc_mac_equal(mac, p + body)) {
		if (mc_ratelimit_ok(&ctl->be->limit, 5))
			mc_warn("verbs: rank %u: a control message is not signed with this job's key: refused; do all "
				"ranks have the same MC_JOB_KEY?",
				ctl->be->rank);
		return false;
	}
	ctl->rx_n++;
	if (mc_vb_ctl_parse(p, body, m) == MC_OK)
		return true;
	if (mc_ratelimit_ok(&ctl->be->limit, 5))
		mc_warn("verbs: rank %u: a control message of %u bytes is malformed or of another version",
			ctl->be->rank, len);
	return false;
}

/* One message out of what has been read. false: not a whole one, or the connection has ended. */
static bool message_take(struct vb_ctl *ctl)
{
	struct vb_ctl_msg m;
	struct mc_rd r;
	uint32_t len;
	uint8_t copy[VB_CTL_MAX];

	if (ctl->r_len < LEN)
		return false;
	mc_rd_init(&r, ctl->r, LEN);
	len = mc_rd_u32(&r);
	if (len <= MC_MAC_LEN || len > sizeof(ctl->r) - LEN) {
		mc_vb_ctl_lost(ctl, EPROTO);
		return false;
	}
	if (ctl->r_len < LEN + len)
		return false;
	memcpy(copy, ctl->r + LEN, len);
	ctl->r_len -= LEN + len;
	memmove(ctl->r, ctl->r + LEN + len, ctl->r_len);
	if (!message_ok(ctl, copy, len, &m))
		mc_vb_ctl_lost(ctl, EPROTO);
	else
		on_message(ctl, &m);
	return ctl->state != CTL_DEAD;
}

/* The connection has ended. A stranger's is forgotten; a link's is dialed anew, which tells a dead peer from a bad way.
 */
void mc_vb_ctl_lost(struct vb_ctl *ctl, int err)
{
	struct vb_link *link = ctl->link;
	bool was_dial = link != NULL && link->dial == ctl, was_open = link != NULL && link->ctl == ctl;

	mc_vb_ctl_drop(ctl);
	if (was_open) {
		mc_debug("verbs: rank %u: control connection to rank %u ended: %s", link->be->rank, link->addr.rank,
			 err != 0 ? strerror(err) : "closed");
		link->dial_at = link->dial_refused = link->dial_round = 0;
		mc_vb_link_trouble(link);
		mc_vb_dial(link);
	} else if (was_dial) {
		mc_vb_dial_failed(link, err != 0 ? err : ECONNREFUSED);
	}
}

static void dialed(struct vb_ctl *ctl)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = &ctl->fd};
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(ctl->fd.fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		err = errno;
	if (err != 0) {
		mc_vb_ctl_lost(ctl, err);
		return;
	}
	ctl->want_out = false;
	(void)epoll_ctl(ctl->be->epfd, EPOLL_CTL_MOD, ctl->fd.fd, &e);
	mc_vb_ctl_greet(ctl);
}

void mc_vb_ctl_io(struct vb_ctl *ctl, uint32_t events)
{
	ssize_t n;

	if (ctl->state == CTL_DEAD)
		return;
	if (ctl->state == CTL_DIALING) {
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			dialed(ctl);
		return;
	}
	if (events & EPOLLOUT)
		out_flush(ctl);
	while (ctl->state != CTL_DEAD) {
		n = recv(ctl->fd.fd, ctl->r + ctl->r_len, sizeof(ctl->r) - ctl->r_len, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			mc_vb_ctl_lost(ctl, n < 0 ? errno : 0);
			return;
		}
		ctl->r_len += (uint32_t)n;
		while (message_take(ctl))
			;
	}
}

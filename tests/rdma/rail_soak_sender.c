/* SPDX-License-Identifier: BSD-3-Clause */
/* rail_soak_sender.c - rank 0: keeps a window of transfers under way, breaks and mends, measures. */
#include <stdlib.h>
#include <string.h>

#include "rail_soak.h"

enum { PARTS = 12, PARTS_MAX = 60, TICK_NS = 5000000, DEVICES_MAX = 8 };

struct slot {
	struct mc_req *req;
	struct mc_counter *ack;
	uint64_t number, acks; /* transfer under way; acknowledgements that must have come before the next */
};

struct sender {
	struct mc_ctx *ctx;
	struct soak_opts *o;
	struct hand *hand;
	struct mc_mem *mem;
	struct mc_rmem *far;
	struct slot slot[SOAK_WINDOW_MAX];
	struct mc_slice *slice;
	uint64_t next;  /* number of the next transfer */
	uint8_t *ended; /* [SOAK_PUTS_MAX] 1: well, 2: not */
	uint64_t ok, failed, wrong;
	int64_t last_end_ns, gap_ns, worst_put_ns;
	mc_status_t first_error;
	int64_t error_ns;   /* when the first error was seen */
	bool lost, armed;   /* the peer is gone; fault when enough of the transfer has left */
	double least_share; /* of the packets of the last measurement, of the rail that carried the fewest */
	uint64_t packets0;  /* of the devices when the transfer under way began */
	int peer_pid;
};

/* Packets that each device of this rank (MC_DEVICE) has sent, from the kernel: which rail carried what. */
static uint32_t packets_each(uint64_t out[DEVICES_MAX])
{
	const char *dev = getenv("MC_DEVICE");
	uint32_t n = 0;
	for (; dev != NULL && *dev != '\0' && n < DEVICES_MAX; n++) {
		char path[256];
		unsigned long long v = 0;
		snprintf(path, sizeof(path), "/sys/class/infiniband/%.*s/ports/1/hw_counters/sent_pkts",
			 (int)strcspn(dev, ",:"), dev);
		FILE *f = fopen(path, "re");
		if (f != NULL && fscanf(f, "%llu", &v) != 1)
			v = 0;
		if (f != NULL)
			fclose(f);
		out[n] = v;
		dev += strcspn(dev, ",");
		dev += *dev == ',';
	}
	return n;
}

static uint64_t packets(void)
{
	uint64_t each[DEVICES_MAX], sum = 0;
	for (uint32_t i = packets_each(each); i > 0; i--)
		sum += each[i - 1];
	return sum;
}

/* Of what has been sent since, the part of the device with the least. */
static double least_share(const uint64_t since[DEVICES_MAX])
{
	uint64_t now[DEVICES_MAX], sum = 0, least = UINT64_MAX;
	uint32_t n = packets_each(now);
	for (uint32_t i = 0; i < n; i++) {
		sum += now[i] - since[i];
		if (now[i] - since[i] < least)
			least = now[i] - since[i];
	}
	return sum > 0 ? (double)least / (double)sum : 0;
}

static void do_fault(struct sender *s)
{
	s->armed = false;
	(void)hand_do(s->hand, s->o->fault, s->peer_pid);
	s->o->fault_ns = soak_now();
}

/* The fault is due once the given part of a transfer has left, in packets of at most 4 KiB. */
static void maybe_fault(struct sender *s)
{
	if (!s->armed)
		return;
	uint64_t due = (uint64_t)(s->o->at * (double)(s->o->slice * s->o->slices) / 4096);
	if (packets() - s->packets0 >= due)
		do_fault(s);
}

/* A transfer ended: book it. */
static void ended(struct sender *s, struct slot *sl, mc_status_t status)
{
	struct mc_req_stats st = {.size = sizeof(st)};
	int64_t now = soak_now();
	if (mc_req_query(sl->req, &st) == MC_OK && (int64_t)st.total_ns > s->worst_put_ns)
		s->worst_put_ns = (int64_t)st.total_ns;
	mc_req_free(sl->req);
	sl->req = NULL;
	s->ended[sl->number] = status == MC_OK ? 1 : 2;
	if (status == MC_OK) {
		s->ok++;
		sl->acks++;
		if (s->last_end_ns != 0 && now - s->last_end_ns > s->gap_ns)
			s->gap_ns = now - s->last_end_ns;
		s->last_end_ns = now;
		if (s->o->get)
			s->wrong += soak_wrong(s->o,
					       (uint8_t *)mc_mem_addr(s->mem) + sl->number % s->o->window * s->o->span,
					       sl->number % s->o->window, false);
		return;
	}
	s->failed++;
	if (s->first_error == MC_OK) {
		s->first_error = status;
		s->error_ns = now;
	}
	s->lost |= status <= MC_ERR_PROTO;
}

/* Wait until the slot may be used again: its transfer has ended and the target has looked at it. */
static void slot_wait(struct sender *s, struct slot *sl)
{
	int64_t deadline = soak_now() + s->o->patience_ns;
	while (sl->req != NULL) {
		mc_status_t st = mc_req_wait(sl->req, s->armed ? TICK_NS : 1000000000);
		maybe_fault(s);
		if (st != MC_ERR_AGAIN)
			ended(s, sl, st);
		else if (soak_now() > deadline) {
			fprintf(stderr, "rail_soak: transfer %llu does not end\n", (unsigned long long)sl->number);
			exit(3);
		}
	}
	if (s->lost || s->o->blind)
		return;
	mc_status_t st = mc_counter_wait(sl->ack, sl->acks, s->o->patience_ns);
	if (st == MC_ERR_PEER_DOWN) {
		s->lost = true;
		if (s->first_error == MC_OK) {
			s->first_error = st;
			s->error_ns = soak_now();
		}
	} else {
		soak_must(st, "note of a transfer that ended well (its acknowledgement)");
	}
}

static void start_one(struct sender *s)
{
	struct slot *sl = &s->slot[s->next % s->o->window];
	struct mc_notify n = {.size = sizeof(n), .flags = MC_NOTIFY_COUNT | MC_NOTIFY_NOTE, .add = 1};
	struct mc_xfer_opts opts = {.size = sizeof(opts), .timeout_ns = s->o->timeout_ns, .notify = &n};

	slot_wait(s, sl);
	if (s->lost)
		return;
	if (s->next == SOAK_PUTS_MAX - 1) {
		fprintf(stderr, "rail_soak: too many transfers\n");
		exit(3);
	}
	uint64_t off = s->next % s->o->window * s->o->span;
	uint8_t *base = (uint8_t *)mc_mem_addr(s->mem) + off;
	if (s->o->get)
		memset(base, 0, s->o->span);
	else
		soak_fill(s->o, base, s->next, false);
	for (uint32_t i = 0; i < s->o->slices; i++) {
		uint64_t cell = soak_cell(s->o, i);
		s->slice[i] = (struct mc_slice){.mem = s->mem,
						.off = off + cell * s->o->slice,
						.rmem = s->far,
						.roff = off + soak_far_cell(s->o, cell) * s->o->slice,
						.len = s->o->slice};
	}
	n.tag = s->next;
	mc_status_t st = (s->o->get ? mc_get : mc_put)(s->ctx, 1, s->slice, s->o->slices, &opts, &sl->req);
	sl->number = s->next++;
	if (st == MC_ERR_PEER_DOWN) {
		s->lost = true;
		sl->req = NULL;
		s->ended[sl->number] = 2;
		s->failed++;
		if (s->first_error == MC_OK) {
			s->first_error = st;
			s->error_ns = soak_now();
		}
		return;
	}
	soak_must(st, s->o->get ? "mc_get" : "mc_put");
	s->packets0 = s->armed ? packets() : 0;
}

static void run_for(struct sender *s, uint32_t ms)
{
	int64_t end = soak_now() + (int64_t)ms * 1000000;
	while (!s->lost && soak_now() < end)
		start_one(s);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The third quartile of PARTS numbers: what disturbs only slows, but one number alone may be luck. */
static double quartile(const double *v)
{
	double sorted[PARTS];
	memcpy(sorted, v, sizeof(sorted));
	qsort(sorted, PARTS, sizeof(*sorted), by_value);
	return sorted[PARTS * 3 / 4];
}

/*
 * Speed in MB/s. On a machine that has other things to do there are slow minutes: with a goal it is measured on, until
 * some PARTS measurements in a row reach it or there have been enough.
 */
static double measure(struct sender *s, double goal)
{
	double mbs[PARTS_MAX], best = 0;
	uint32_t each = s->o->puts / PARTS + 1;
	for (uint32_t n = 0; n < (goal > 0 ? PARTS_MAX : PARTS) && best <= goal && !s->lost; n++) {
		int64_t t0 = soak_now();
		for (uint32_t i = 0; i < each && !s->lost; i++)
			start_one(s);
		mbs[n] = (double)each * (double)(s->o->slice * s->o->slices) * 1e3 / (double)(soak_now() - t0);
		double now = n + 1 >= PARTS ? quartile(mbs + n + 1 - PARTS) : 0;
		best = now > best ? now : best;
	}
	return best;
}

static void drain(struct sender *s)
{
	for (uint32_t i = 0; i < s->o->window; i++)
		slot_wait(s, &s->slot[i]);
}

static void break_and_mend(struct sender *s)
{
	for (uint32_t i = 0; i < s->o->cycles && !s->lost; i++) {
		if (s->o->at > 0) {
			drain(s);
			s->armed = true;
			start_one(s);
			for (uint32_t k = 0; s->armed && k < 3 && !s->lost; k++) {
				drain(s);
				if (s->armed)
					start_one(s);
			}
			if (s->armed)
				do_fault(s);
		} else {
			do_fault(s);
		}
		run_for(s, s->o->hold_ms);
		if (s->o->heal != NULL)
			(void)hand_do(s->hand, s->o->heal, s->peer_pid);
		run_for(s, s->o->settle_ms);
	}
}

static uint32_t faults(struct mc_ctx *ctx)
{
	struct mc_fault f = {.size = sizeof(f)};
	uint32_t n = 0;
	for (; mc_fault_next(ctx, &f) == MC_OK; n++)
		fprintf(stderr, "rail_soak: fault: peer %u %s: %s\n", f.peer, mc_status_name(f.status), f.text);
	return n;
}

static void report(struct sender *s, double before, double after)
{
	char path[512];
	struct mc_peer_info peer = {.size = sizeof(peer)};
	soak_must(mc_peer_query(s->ctx, 1, &peer), "mc_peer_query");
	snprintf(path, sizeof(path), "%s.0", s->o->json != NULL ? s->o->json : "/dev/null");
	FILE *f = fopen(path, "w");
	if (f == NULL) {
		perror(path);
		exit(1);
	}
	fprintf(f,
		"{\"link\": \"%s\", \"before_mbs\": %.1f, \"after_mbs\": %.1f, \"least_share\": %.3f, \"transfers\": "
		"%llu, \"ok\": %llu, "
		"\"failed\": %llu, \"wrong_bytes\": %llu, \"first_error\": \"%s\", \"error_after_ms\": %.1f, "
		"\"gap_ms\": %.1f, \"worst_ms\": %.1f, \"peer_lost\": %d, \"faults\": %u}\n",
		peer.link, before, after, s->least_share, (unsigned long long)s->next, (unsigned long long)s->ok,
		(unsigned long long)s->failed, (unsigned long long)s->wrong, mc_status_name(s->first_error),
		s->first_error != MC_OK ? (double)(s->error_ns - s->o->fault_ns) / 1e6 : 0.0, (double)s->gap_ns / 1e6,
		(double)s->worst_put_ns / 1e6, s->lost, faults(s->ctx));
	fclose(f);
}

int soak_sender(struct mc_ctx *ctx, struct soak_opts *o, struct hand *h)
{
	static struct sender s;
	struct mc_peer_info peer = {.size = sizeof(peer)};
	struct mc_req *req;
	double before, after = 0;
	uint64_t since[DEVICES_MAX];

	s = (struct sender){.ctx = ctx,
			    .o = o,
			    .hand = h,
			    .ended = calloc(SOAK_PUTS_MAX, 1),
			    .slice = calloc(o->slices, sizeof(*s.slice))};
	if (s.ended == NULL || s.slice == NULL)
		return 1;
	soak_must(mc_mem_alloc(ctx, o->span * o->window, NULL, &s.mem), "mc_mem_alloc");
	soak_must(mc_mem_lookup(ctx, 1, "slots", o->patience_ns, &s.far), "mc_mem_lookup");
	for (uint32_t i = 0; i < o->window; i++)
		soak_must(mc_counter_open(ctx, TAG_ACK + i, 1, &s.slot[i].ack), "mc_counter_open");
	soak_must(mc_peer_query(ctx, 1, &peer), "mc_peer_query");
	s.peer_pid = peer.pid;
	for (uint32_t i = 0; i < 2 * o->window; i++)
		start_one(&s);
	before = measure(&s, 0);
	s.gap_ns = 0;
	if (o->fault != NULL)
		break_and_mend(&s);
	(void)packets_each(since);
	if (!s.lost && o->fault != NULL)
		after = measure(&s, before * 0.95);
	drain(&s);
	s.least_share = least_share(since);
	report(&s, before, after);
	if (!s.lost && s.next < MC_NOTE_MAX) {
		soak_must(mc_note_send(ctx, 1, TAG_END, s.ended, (uint32_t)s.next, &req), "mc_note_send");
		soak_must(mc_req_wait(req, o->patience_ns), "the last note");
		mc_req_free(req);
	}
	/* The receiver looks for stray notes for a while before it leaves. */
	while (!s.lost && mc_counter_wait(s.slot[0].ack, UINT64_MAX, o->patience_ns) == MC_OK)
		continue;
	free(s.ended);
	free(s.slice);
	return s.wrong != 0 ? 1 : 0;
}

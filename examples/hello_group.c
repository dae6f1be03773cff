/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hello_group.c - who is in the job? Every rank prints itself and its groups, then a greeting goes once around the
 * ring.
 *
 *     mcrun --prefill 2 --decode 2 build/bin/hello_group
 */
#include <stdio.h>
#include <string.h>

#include "mc.h"

enum { TAG_HELLO = 1 };
static const int64_t second_ns = INT64_C(1000000000);

static int failed(const char *what, mc_status_t s)
{
	fprintf(stderr, "%s: %s (%s)\n", what, mc_status_text(s), mc_status_name(s));
	return 1;
}

/* Print how many ranks share a role with this one, and how many share its host. */
static int print_groups(struct mc_ctx *ctx)
{
	struct mc_group *mine;
	mc_status_t s = mc_group_role(ctx, mc_role(ctx), &mine);
	if (s != MC_OK)
		return failed("mc_group_role", s);
	printf("rank %u of %u: %s %u of %u, %u rank(s) on this host\n", mc_rank(ctx), mc_size(ctx), mc_role(ctx),
	       mc_group_rank(mine), mc_group_size(mine), mc_group_size(mc_group_node(ctx)));
	mc_group_free(mine);
	return 0;
}

/* A note to the next rank, one from the previous rank. */
static int greet_ring(struct mc_ctx *ctx)
{
	uint32_t next = (mc_rank(ctx) + 1) % mc_size(ctx);
	struct mc_note *note;
	char text[128];
	int len = snprintf(text, sizeof(text), "hello from %s rank %u", mc_role(ctx), mc_rank(ctx));
	mc_status_t s = mc_note_send(ctx, next, TAG_HELLO, text, (uint32_t)len, NULL);
	if (s != MC_OK)
		return failed("mc_note_send", s);
	s = mc_note_recv(ctx, 10 * second_ns, &note);
	if (s != MC_OK)
		return failed("mc_note_recv", s);
	printf("rank %u got \"%.*s\"\n", mc_rank(ctx), (int)note->len, (const char *)note->data);
	mc_note_free(note);
	return 0;
}

int main(void)
{
	struct mc_ctx *ctx;
	/* NULL: everything from the environment that mcrun made. Started on its own, this is a job of one rank. */
	mc_status_t s = mc_init(NULL, &ctx);
	if (s != MC_OK)
		return failed("mc_init", s);
	int bad = print_groups(ctx) || greet_ring(ctx);
	/* A rank must not leave while another still waits for its greeting. */
	s = bad ? MC_OK : mc_barrier(mc_group_world(ctx), 10 * second_ns);
	if (s != MC_OK)
		bad = failed("mc_barrier", s);
	mc_finalize(ctx);
	return bad;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_talk.c - messages between mcrun and its agents: what is understood is written the same way again, a job is
 * whole, and a stranger's bytes on a link never make a message. First byte: 0 message, 1 job, 2 a stranger to the head,
 * 3 to an agent.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "fuzz_talk: %s\n", what);
		abort();
	}
}

static void message(const uint8_t *p, size_t n)
{
	struct mc_enc b = {0};
	struct mc_talk t;

	if (!mc_talk_read(p, n, &t))
		return;
	must(strlen(t.text) < MC_TALK_TEXT, "a text without end");
	mc_talk_write(&b, &t);
	must(b.n == n && memcmp(b.p, p, n) == 0, "written otherwise than read");
	mc_enc_free(&b);
}

static void job(const uint8_t *p, size_t n)
{
	struct mc_enc b = {0};
	struct mc_spec s, again;
	uint32_t ranks = 0;

	if (!mc_spec_read(p, n, &s))
		return;
	for (size_t i = 0; i < s.job.role_n; i++) {
		must(s.job.role[i].n > 0 && s.job.role[i].argv.n > 0 && s.job.role[i].path != NULL, "half a role");
		ranks += s.job.role[i].n;
	}
	must(ranks == s.job.rank_n && ranks == s.hosts.rank_n && ranks <= MC_JOB_RANK_MAX, "ranks do not add up");
	for (uint32_t r = 0; r < ranks; r++)
		must(s.hosts.of_rank[r] < s.hosts.n, "a rank on no host");
	must(s.self < s.hosts.n && s.nspace != NULL && s.cwd != NULL, "no place");
	mc_spec_write(&b, &s);
	must(mc_spec_read(b.p, b.n, &again), "a job that is not understood twice");
	mc_spec_free(&again);
	mc_spec_free(&s);
	mc_enc_free(&b);
}

static void stranger(enum mc_link_side side, const uint8_t *p, size_t n)
{
	static const uint8_t key[MC_LINK_KEY_BYTES] = {1, 2, 3};
	struct mc_link *l = mc_link_create(-1, side, key);
	const uint8_t *m;
	size_t len;

	mc_link_feed(l, p, n / 2);
	mc_link_feed(l, p + n / 2, n - n / 2);
	must(!mc_link_next(l, &m, &len), "a stranger was heard");
	must(mc_link_state(l) != MC_LINK_UP, "a stranger was let in");
	mc_link_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] == 0)
		message(data + 1, size - 1);
	else if (data[0] == 1)
		job(data + 1, size - 1);
	else if (mc_link_possible())
		stranger(data[0] % 2 == 0 ? MC_LINK_HEAD : MC_LINK_AGENT, data + 1, size - 1);
	return 0;
}

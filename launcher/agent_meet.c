/* SPDX-License-Identifier: BSD-3-Clause */
#include "agent_priv.h"
#include "netaddr.h"

#include <mc.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CONNECT_NS (5 * MC_NS_PER_S)  /* per address of the head */
#define MEET_NS    (30 * MC_NS_PER_S) /* until the head has given us our part */

int mc_agent_die(const struct agent *a, const char *fmt, ...)
{
	va_list ap;

	(void)fprintf(stderr, "mcrun on host %s: ", a->host);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "\n");
	return 1;
}

void mc_agent_flush(struct agent *a)
{
	mc_link_flush(a->link);
	uint32_t want = EPOLLIN | (mc_link_wants_write(a->link) ? (uint32_t)EPOLLOUT : 0);
	if (want != a->armed && a->epoll >= 0)
		(void)mc_source_arm(a->epoll, &a->link_src, want);
	a->armed = want;
}

void mc_agent_tell(struct agent *a, const struct mc_talk *t)
{
	struct mc_enc b = {0};

	mc_talk_write(&b, t);
	mc_link_send(a->link, b.p, b.n);
	mc_enc_free(&b);
	mc_agent_flush(a);
}

/* Which agent we are: the carrier has said so in the one way or the other. */
static bool who(uint32_t *index)
{
	static const char *const name[] = {"MCRUN_NODE", "PMIX_RANK", "SLURM_NODEID"};

	for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
		const char *v = getenv(name[i]);

		if (v != NULL)
			return mc_text_count(v, index);
	}
	return false;
}

bool mc_agent_wait(struct agent *a, int64_t until_ns)
{
	struct pollfd p = {mc_link_fd(a->link), (short)(POLLIN | (mc_link_wants_write(a->link) ? POLLOUT : 0)), 0};
	int64_t left = until_ns - mc_now_ns();

	if (left <= 0 || poll(&p, 1, (int)(left / 1000000) + 1) < 0)
		return false;
	mc_link_receive(a->link);
	mc_link_flush(a->link);
	return true;
}

/* The first of the head's addresses behind which there is somebody who has the key. */
static int find_head(struct agent *a, const char *where, const char *hex)
{
	struct mc_err err = {""};
	uint8_t key[MC_LINK_KEY_BYTES];
	char tried[512] = "";

	if (!mc_link_key_parse(hex, key))
		return mc_agent_die(a, "MC_JOB_KEY is not a key");
	for (uint32_t i = 0; a->link == NULL; i++) {
		int fd = mc_addr_connect(where, i, CONNECT_NS, &err);

		if (fd == -2)
			break;
		if (fd >= 0) {
			int64_t until = mc_now_ns() + CONNECT_NS;

			a->link = mc_link_create(fd, MC_LINK_AGENT, key);
			while (mc_link_state(a->link) == MC_LINK_MEETING && mc_agent_wait(a, until))
				;
			if (mc_link_state(a->link) == MC_LINK_UP)
				break;
			(void)mc_err_set(&err, "address %u: %s", i, mc_link_why(a->link));
			mc_link_free(a->link);
			a->link = NULL;
		}
		size_t at = strlen(tried);
		(void)snprintf(tried + at, sizeof(tried) - at, "%s%s", at == 0 ? "" : "; ", err.text);
	}
	explicit_bzero(key, sizeof(key));
	if (a->link != NULL)
		return 0;
	return mc_agent_die(a,
			    "cannot reach the mcrun that wants us (%s); is there a firewall? mcrun --head-address says "
			    "where it can "
			    "be reached",
			    tried);
}

static int get_job(struct agent *a, uint32_t index)
{
	const char *version = mc_version();
	struct mc_talk t = {.kind = MC_TALK_HELLO,
			    .code = MC_TALK_VERSION,
			    .rank = index,
			    .pid = (int32_t)getpid(),
			    .data = (const uint8_t *)version,
			    .data_n = strlen(version)};
	int64_t until = mc_now_ns() + MEET_NS;
	const uint8_t *p;
	size_t n;

	(void)snprintf(t.text, sizeof(t.text), "%.199s", a->host);
	mc_agent_tell(a, &t);
	while (!mc_link_next(a->link, &p, &n))
		if (mc_link_state(a->link) == MC_LINK_BROKEN || !mc_agent_wait(a, until))
			return mc_agent_die(a, "the mcrun that wants us does not answer (%s)", mc_link_why(a->link));
	if (!mc_talk_read(p, n, &t))
		return mc_agent_die(a, "the mcrun that wants us says what this version does not understand");
	if (t.kind == MC_TALK_BYE) {
		a->bye = true;
		return t.text[0] == '\0' ? 0 : mc_agent_die(a, "this is version %s, but %s", version, t.text);
	}
	if (t.kind != MC_TALK_JOB || !mc_spec_read(t.data, t.data_n, &a->spec))
		return mc_agent_die(a, "the mcrun that wants us sent no job that this version understands");
	return 0;
}

/* Out of the engine's reach: its daemons' end must not be ours. From here on the head alone decides. */
static int detach(struct agent *a)
{
	pid_t pid = fork();

	if (pid < 0)
		return mc_agent_die(a, "cannot start a process: %s", strerror(errno));
	if (pid > 0)
		_exit(0);
	(void)setsid();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 3 && null >= 0; i++)
		(void)dup2(null, i);
	/* what else the engine's daemon has left open for us: it would take us for still there */
	int keep = mc_link_fd(a->link);
	(void)close_range(3, (unsigned)keep - 1, 0);
	(void)close_range((unsigned)keep + 1, ~0U, 0);
	return 0;
}

int mc_agent_meet(struct agent *a)
{
	const char *where = getenv("MCRUN_HEAD"), *key = getenv("MC_JOB_KEY");
	uint32_t index;

	if (where == NULL || key == NULL || !who(&index))
		return mc_agent_die(a, "--as-agent is for engines that mcrun starts, not for users");
	if (!mc_link_possible())
		return mc_agent_die(a, "this mcrun was built without libsodium");
	int code = find_head(a, where, key);
	(void)unsetenv("MCRUN_HEAD");
	(void)unsetenv("MCRUN_NODE");
	(void)unsetenv("MC_JOB_KEY"); /* the ranks get it with the job */
	if (code == 0)
		code = get_job(a, index);
	if (code == 0 && !a->bye && a->spec.detach)
		code = detach(a);
	return code;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_remote.c - ranks on several hosts. A carrier (srun, mpirun, prterun) starts processes of ours there: one per
 * host, which starts the host's ranks itself, or one in front of each rank, which the carrier wires. All of them report
 * to the head, so that what happened is known first hand and not read from a carrier's words.
 */
#include "carrier.h"
#include "head.h"
#include "print.h"
#include "tmpdir.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISMISS_NS (5 * MC_NS_PER_S)
#define CARRIER_NS (5 * MC_NS_PER_S)

struct mc_engine {
	struct mc_engine_cfg cfg;
	enum mc_carrier_kind kind;
	bool agents, detach, carrier_ended;
	int epoll;
	char *tmpdir, *host_file;
	struct mc_head *head;
	struct mc_carrier *carrier;
};

/* Slurm's arbitrary distribution: the host of each rank, one per line. */
static int write_host_file(struct mc_engine *e, struct mc_err *err)
{
	if (mc_tmpdir_create(e->cfg.tmp_base, &e->tmpdir, err) != 0)
		return -1;
	e->host_file = mc_xformat("%s/hosts", e->tmpdir);
	FILE *f = fopen(e->host_file, "we");
	bool ok = f != NULL;
	for (uint32_t r = 0; ok && r < e->cfg.job->rank_n; r++)
		ok = fprintf(f, "%s\n", e->cfg.hosts->host[e->cfg.hosts->of_rank[r]].name) > 0;
	if (f != NULL)
		ok = fclose(f) == 0 && ok;
	return ok ? 0 : mc_err_set(err, "cannot write %s: %s", e->host_file, strerror(errno));
}

static struct mc_carrier_cfg carrier_cfg(const struct mc_engine *e)
{
	return (struct mc_carrier_cfg){
		.kind = e->kind,
		.job = e->cfg.job,
		.hosts = e->cfg.hosts,
		.self = e->cfg.self_path,
		.agents = e->agents,
		.host_file = e->host_file,
	};
}

static int watch(struct mc_engine *e, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &ev);
}

static int start_all(struct mc_engine *e, struct mc_err *err)
{
	struct mc_head_cfg h = {&e->cfg, e->agents, e->detach};

	if (e->kind == MC_CARRIER_SLURM && !e->agents && write_host_file(e, err) != 0)
		return -1;
	if (mc_head_open(&h, &e->head, err) != 0)
		return -1;
	struct mc_carrier_cfg c = carrier_cfg(e);
	c.head = mc_head_where(e->head);
	c.key = mc_head_key(e->head);
	if (mc_carrier_start(&c, &e->carrier, err) != 0)
		return -1;
	e->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (e->epoll < 0 || watch(e, mc_head_fd(e->head)) != 0 || watch(e, mc_carrier_fd(e->carrier)) != 0)
		return mc_err_set(err, "cannot wait for events: %s", strerror(errno));
	return 0;
}

/* The order matters: agents that are told to go leave the carrier nothing to kill. */
static int remote_stop(struct mc_engine *e, const char **by)
{
	int status = 0;

	if (e == NULL)
		return 0;
	if (e->head != NULL)
		mc_head_dismiss(e->head, DISMISS_NS);
	if (e->carrier != NULL && e->cfg.job->verbose) {
		(void)mc_carrier_ended(e->carrier, &status);
		for (size_t i = 0; i < mc_carrier_lines(e->carrier)->n; i++)
			mc_output_say(e->cfg.output, "%s: %s", mc_carrier_name(e->kind),
				      mc_carrier_lines(e->carrier)->v[i]);
	}
	if (by != NULL)
		*by = mc_carrier_name(e->kind);
	status = mc_carrier_stop(e->carrier, mc_head_any(e->head) ? CARRIER_NS : 0);
	mc_head_close(e->head);
	if (e->tmpdir != NULL)
		(void)mc_tmpdir_remove(e->tmpdir);
	if (e->epoll >= 0)
		(void)close(e->epoll);
	free(e->host_file);
	free(e->tmpdir);
	free(e);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int start_kind(enum mc_carrier_kind kind, const struct mc_engine_cfg *cfg, struct mc_engine **out,
		      struct mc_err *err)
{
	struct mc_engine *e = mc_xalloc(1, sizeof(*e));

	e->cfg = *cfg;
	e->kind = kind;
	e->agents = mc_engine_agents(cfg->job);
	/* mpirun and prterun end everything when one of their daemons is lost; Slurm can be told not to */
	e->detach = e->agents && kind != MC_CARRIER_SLURM;
	e->epoll = -1;
	if (start_all(e, err) != 0) {
		if (e->head != NULL)
			(void)remote_stop(e, NULL);
		else
			free(e);
		return -1;
	}
	(void)mc_tmpdir_sweep(cfg->tmp_base);
	*out = e;
	return 0;
}

static int slurm_start(const struct mc_engine_cfg *cfg, struct mc_engine **out, struct mc_err *err)
{
	return start_kind(MC_CARRIER_SLURM, cfg, out, err);
}

static int openmpi_start(const struct mc_engine_cfg *cfg, struct mc_engine **out, struct mc_err *err)
{
	return start_kind(MC_CARRIER_OPENMPI, cfg, out, err);
}

static int prrte_start(const struct mc_engine_cfg *cfg, struct mc_engine **out, struct mc_err *err)
{
	return start_kind(MC_CARRIER_PRRTE, cfg, out, err);
}

static int remote_fd(const struct mc_engine *e)
{
	return e->epoll;
}

static void describe_end(const struct mc_engine *e, int status, char *buf, size_t len)
{
	if (WIFSIGNALED(status))
		(void)snprintf(buf, len, "%s was killed by signal %d", mc_carrier_name(e->kind), WTERMSIG(status));
	else
		(void)snprintf(buf, len, "%s ended with exit code %d", mc_carrier_name(e->kind), WEXITSTATUS(status));
}

/* Open MPI leaves the domain away, which ssh may then not resolve. */
static void explain_names(const struct mc_engine *e)
{
	for (uint32_t i = 0; e->kind == MC_CARRIER_OPENMPI && i < e->cfg.hosts->n; i++) {
		const char *name = e->cfg.hosts->host[i].name;
		struct in_addr a;

		if (strchr(name, '.') == NULL || inet_pton(AF_INET, name, &a) == 1)
			continue;
		mc_output_say(e->cfg.output,
			      "Open MPI calls %s by its short name, %.*s: if that is not known here, give addresses",
			      name, (int)strcspn(name, "."), name);
		return;
	}
}

/* The carrier is gone. What it has started reports to us and not through it, so this matters only if some never came,
 * or if it has something to complain about. */
static void look_at_carrier(struct mc_engine *e)
{
	struct mc_engine_event ev = {.kind = MC_ENGINE_LOST};
	int status;

	if (e->carrier_ended || !mc_carrier_ended(e->carrier, &status))
		return;
	e->carrier_ended = true;
	if (mc_head_complete(e->head) || (e->detach && status == 0))
		return;
	describe_end(e, status, ev.text, sizeof(ev.text));
	const struct mc_strv *lines = mc_carrier_lines(e->carrier);
	size_t at = strlen(ev.text);

	(void)snprintf(ev.text + at, sizeof(ev.text) - at, " before all ranks were there; its last words are above");
	for (size_t i = 0; i < lines->n; i++)
		mc_output_say(e->cfg.output, "%s: %s", mc_carrier_name(e->kind), lines->v[i]);
	explain_names(e);
	mc_head_post(e->head, &ev);
}

static bool remote_wait(struct mc_engine *e, struct mc_engine_event *ev)
{
	mc_head_turn(e->head);
	look_at_carrier(e);
	return mc_head_next(e->head, ev);
}

static void remote_signal(struct mc_engine *e, uint32_t rank, int sig)
{
	mc_head_signal(e->head, rank, sig);
}

static void remote_gone(struct mc_engine *e, uint32_t rank, int code, bool dead)
{
	mc_head_gone(e->head, rank, code, dead);
}

static void remote_restart(struct mc_engine *e, uint32_t rank, uint32_t deaths)
{
	mc_head_restart(e->head, rank, deaths);
}

static void remote_settle(struct mc_engine *e, int sig)
{
	mc_head_settle(e->head, sig);
}

static void remote_clear(struct mc_engine *e)
{
	mc_head_clear(e->head);
}

#define REMOTE_OPS(label, start_fn)                                                                                    \
	{                                                                                                              \
		.name = (label), .start = (start_fn), .fd = remote_fd, .wait = remote_wait, .signal = remote_signal,   \
		.gone = remote_gone, .restart = remote_restart, .settle = remote_settle, .clear = remote_clear,        \
		.stop = remote_stop,                                                                                   \
	}

const struct mc_engine_ops mc_engine_slurm = REMOTE_OPS("slurm", slurm_start);
const struct mc_engine_ops mc_engine_openmpi = REMOTE_OPS("openmpi", openmpi_start);
const struct mc_engine_ops mc_engine_prrte = REMOTE_OPS("prrte", prrte_start);

void mc_engine_print(const struct mc_engine_ops *ops, const struct mc_engine_cfg *cfg)
{
	struct mc_engine e = {.cfg = *cfg, .agents = mc_engine_agents(cfg->job)};
	struct mc_strv argv = {0}, env = {0};

	if (ops == &mc_engine_local)
		return;
	e.kind = ops == &mc_engine_slurm     ? MC_CARRIER_SLURM
		 : ops == &mc_engine_openmpi ? MC_CARRIER_OPENMPI
					     : MC_CARRIER_PRRTE;
	struct mc_carrier_cfg c = carrier_cfg(&e);
	c.head = "(addresses of this host)";
	c.key = "(hidden)";
	c.host_file = "(file with the host of each rank)";
	mc_carrier_command(&c, &argv, &env);
	(void)printf("command:");
	for (size_t i = 0; i < env.n; i++) {
		(void)putchar(' ');
		mc_print_shell_word(env.v[i], stdout);
	}
	for (size_t i = 0; i < argv.n; i++) {
		(void)putchar(' ');
		mc_print_shell_word(argv.v[i], stdout);
	}
	(void)putchar('\n');
	mc_strv_free(&argv);
	mc_strv_free(&env);
}

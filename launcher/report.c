/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - the sentences in which mcrun tells what became of the job. */
#include "run_state.h"

#include <errno.h>
#include <signal.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

void mc_report_phase(struct run *r, const char *what)
{
	if (r->job->verbose)
		mc_output_say(r->output, "%8.1f ms  %s", (double)(mc_now_ns() - r->cfg.start_ns) / 1e6, what);
}

/* Processes that this host's kernel has killed because memory ran out, since it started. */
uint64_t mc_report_oom_kills(void)
{
	FILE *f = fopen("/proc/vmstat", "re");
	unsigned long long n = 0;
	char line[128];

	while (f != NULL && fgets(line, sizeof(line), f) != NULL && sscanf(line, "oom_kill %llu", &n) != 1)
		;
	if (f != NULL)
		(void)fclose(f);
	return n;
}

static const char *signal_remedy(const struct run *r, int sig)
{
	if (sig == SIGKILL && mc_report_oom_kills() != r->oom_kills)
		return "; the kernel killed a process for want of memory meanwhile [memory, see mcinfo doctor]";
	if (sig == SIGBUS)
		return "; shared memory or huge pages may have run out [dev-shm, huge-pages, see mcinfo doctor]";
	return "";
}

static const char *start_remedy(int e)
{
	switch (e) {
	case ENOEXEC:
		return "; a script needs a first line like #!/bin/sh";
	case ENOENT:
		return "; its interpreter or loader is missing";
	case E2BIG:
		return "; its arguments and environment are too long";
	default:
		return mc_err_hint(e);
	}
}

/* "was killed by signal 9 (Killed)" */
static void describe(const struct run *r, uint32_t rank, char *buf, size_t len)
{
	const struct rank_state *s = &r->rank[rank];

	switch (s->fault) {
	case RANK_SIGNAL:
		(void)snprintf(buf, len, "was killed by signal %d (%s)%s", s->fault_code, strsignal(s->fault_code),
			       signal_remedy(r, s->fault_code));
		return;
	case RANK_CODE:
		(void)snprintf(buf, len, "ended with exit code %d", s->fault_code);
		return;
	case RANK_NO_LEAVE:
		(void)snprintf(buf, len, "ended with exit code 0, but without PMIx_Finalize");
		return;
	case RANK_NO_JOIN:
		(void)snprintf(buf, len, "ended without joining the job (PMIx_Init), which the other ranks did");
		return;
	case RANK_ABORT:
		(void)snprintf(buf, len, "called abort with code %d%s%s", s->fault_code, s->text[0] == '\0' ? "" : ": ",
			       s->text);
		return;
	case RANK_NO_START: {
		struct mc_job_place p = mc_job_place(r->job, rank);

		(void)snprintf(buf, len, "could not be started: %s: %s%s", r->job->role[p.role].path,
			       strerror(s->fault_code), start_remedy(s->fault_code));
		return;
	}
	case RANK_LOST:
		(void)snprintf(buf, len, "is lost: %s", s->text);
		return;
	case RANK_FINE:
		(void)snprintf(buf, len, "is fine");
		return;
	}
}

static const char *host_of(const struct run *r, uint32_t rank)
{
	return r->cfg.hosts == NULL ? r->cfg.host : r->cfg.hosts->host[r->cfg.hosts->of_rank[rank]].name;
}

static void name_rank(const struct run *r, uint32_t rank, char *buf, size_t len)
{
	struct mc_job_place p = mc_job_place(r->job, rank);
	char label[MC_JOB_LABEL_MAX];

	mc_job_label(r->job, rank, label);
	if (*r->job->role[p.role].name == '\0')
		(void)snprintf(buf, len, "rank %u on host %s", rank, host_of(r, rank));
	else
		(void)snprintf(buf, len, "rank %u (%s) on host %s", rank, label, host_of(r, rank));
}

void mc_report_fault(struct run *r, uint32_t rank)
{
	char who[400], what[400];

	name_rank(r, rank, who, sizeof(who));
	describe(r, rank, what, sizeof(what));
	mc_output_say(r->output, "%s %s; %u other%s", who, what, r->live, r->live == 1 ? " goes on" : "s go on");
}

static const char *times(uint32_t n, char buf[32])
{
	if (n == 1)
		return "once";
	(void)snprintf(buf, 32, "%u times", n);
	return buf;
}

void mc_report_restart(struct run *r, uint32_t rank)
{
	char who[400], what[400];

	name_rank(r, rank, who, sizeof(who));
	describe(r, rank, what, sizeof(what));
	mc_output_say(r->output, "%s %s; it is started again (%u of %u)", who, what, r->rank[rank].deaths,
		      r->job->restart_max);
}

static void report_restarts(struct run *r)
{
	char list[600], label[MC_JOB_LABEL_MAX], n_times[32];
	uint32_t ranks = 0;
	size_t at = 0;

	for (uint32_t i = 0; i < r->job->rank_n; i++) {
		if (r->rank[i].deaths == 0)
			continue;
		mc_job_label(r->job, i, label);
		if (ranks < 8 && at < sizeof(list))
			at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s %s", ranks == 0 ? "" : ", ", label,
					       times(r->rank[i].deaths, n_times));
		ranks++;
	}
	if (ranks > 0)
		mc_output_say(r->output, "started again: %s%s", list, ranks > 8 ? ", ..." : "");
}

static uint32_t running(const struct run *r, char *list, size_t len)
{
	uint32_t n = 0;
	size_t at = 0;

	list[0] = '\0';
	for (uint32_t i = 0; i < r->job->rank_n; i++) {
		char label[MC_JOB_LABEL_MAX];

		if (r->rank[i].ended && !r->rank[i].ended_by_us)
			continue;
		mc_job_label(r->job, i, label);
		if (n < 8 && at < len)
			at += (size_t)snprintf(list + at, len - at, "%s%s", n == 0 ? "" : ", ", label);
		else if (n == 8 && at < len)
			at += (size_t)snprintf(list + at, len - at, ", ...");
		n++;
	}
	return n;
}

static void report_first_fault(struct run *r)
{
	char who[400], what[400], rest[100] = "";

	name_rank(r, r->first_fault, who, sizeof(who));
	describe(r, r->first_fault, what, sizeof(what));
	uint32_t others = r->stopped_n - r->first_lives; /* who calls abort is still there then */
	if (r->stop == STOP_FAULT && others > 0)
		(void)snprintf(rest, sizeof(rest), "; %u other%s ended", others, others == 1 ? " was" : "s were");
	else if (r->stop == STOP_NONE && r->fault_n == 1 && r->job->rank_n > 1)
		(void)snprintf(rest, sizeof(rest), "; the %u other%s ended well", r->job->rank_n - 1,
			       r->job->rank_n == 2 ? "" : "s");
	else if (r->stop == STOP_NONE)
		(void)snprintf(rest, sizeof(rest), "; it was the first of %u ranks that failed, of %u", r->fault_n,
			       r->job->rank_n);
	mc_output_say(r->output, "%s %s%s", who, what, rest);
}

/* "host a7", "3 hosts" */
static const char *place(struct run *r)
{
	if (r->cfg.hosts == NULL || r->cfg.hosts->n == 1)
		(void)snprintf(r->place, sizeof(r->place), "host %s",
			       r->cfg.hosts == NULL ? r->cfg.host : r->cfg.hosts->host[0].name);
	else
		(void)snprintf(r->place, sizeof(r->place), "%u hosts", r->cfg.hosts->n);
	return r->place;
}

void mc_report_end(struct run *r)
{
	char list[400];
	uint32_t n = running(r, list, sizeof(list));

	if (r->stop == STOP_TIMEOUT)
		mc_output_say(r->output,
			      "timeout: after %g s %u of %u ranks on %s were still running (%s) and were ended",
			      (double)r->job->timeout_ns / 1e9, n, r->job->rank_n, place(r), list);
	else if (r->stop == STOP_SIGNAL)
		mc_output_say(r->output, "interrupted by signal %d (%s); %u of %u ranks on %s were ended", r->stop_sig,
			      strsignal(r->stop_sig), r->stopped_n, r->job->rank_n, place(r));
	else if (r->stop == STOP_ENGINE)
		mc_output_say(r->output, "%s on %s; all ranks were ended", r->engine_text, place(r));
	if (mc_judge_by_engine(r) && r->first_fault == MC_RANK_ALL)
		mc_output_say(r->output,
			      "%s ended with exit code %d, although every rank ended well; --verbose shows why",
			      r->engine_name, r->engine_code);
	else if (mc_judge_by_engine(r))
		mc_output_say(r->output, "%s ended all ranks with exit code %d: one has called abort", r->engine_name,
			      r->engine_code);
	else if (r->first_fault != MC_RANK_ALL)
		report_first_fault(r);
	report_restarts(r);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* judge.c - what has become of a rank, and what that means for the job. */
#include "run_state.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static void fault(struct run *r, uint32_t rank, enum rank_fault what, int code)
{
	struct rank_state *s = &r->rank[rank];

	s->fault = what;
	s->fault_code = code;
	r->fault_n++;
	if (r->first_fault == MC_RANK_ALL) {
		r->first_fault = rank;
		r->first_fault_at = mc_now_ns();
	} else if (what == RANK_SIGNAL && mc_now_ns() - r->first_fault_at < MC_CULPRIT_NS) {
		enum rank_fault first = r->rank[r->first_fault].fault;

		if (first == RANK_CODE || first == RANK_NO_LEAVE || first == RANK_NO_JOIN || first == RANK_LOST) {
			r->first_fault = rank;
			r->first_lives = r->stop != STOP_NONE;
		}
	}
}

/* The rules follow mpirun's: whoever has joined must leave, and where one has joined all must. */
static enum rank_fault judge(const struct run *r, const struct rank_state *s, int *code)
{
	if (WIFSIGNALED(s->status)) {
		*code = WTERMSIG(s->status);
		return RANK_SIGNAL;
	}
	*code = WEXITSTATUS(s->status);
	if (*code != 0)
		return RANK_CODE;
	*code = 1;
	if (s->joined && !s->left)
		return RANK_NO_LEAVE;
	if (!s->joined && r->any_joined)
		return RANK_NO_JOIN;
	return RANK_FINE;
}

/* An ended rank at which the job's state, or its own, has changed. */
static void review(struct run *r, uint32_t rank, bool now)
{
	struct rank_state *s = &r->rank[rank];
	int code = 0;

	if (s->fault == RANK_FINE && !s->ended_by_us) {
		enum rank_fault what = judge(r, s, &code);

		if (what != RANK_FINE)
			fault(r, rank, what, code);
	}
	if (now)
		r->ops->gone(r->engine, rank, code, s->fault != RANK_FINE || (s->joined && !s->left));
	if (s->fault == RANK_FINE || s->ended_by_us)
		return;
	if (r->job->fail == MC_FAIL_ABORT || (r->job->fail == MC_FAIL_RESTART && !r->all_joined))
		mc_run_stop(r, STOP_FAULT, SIGTERM);
	else
		mc_report_fault(r, rank);
}

/* While the ranks are being asked to end, is this death another one than we asked for? */
static bool died_by_itself(const struct run *r, const struct rank_state *s)
{
	return !r->killed && WIFSIGNALED(s->status) && WTERMSIG(s->status) != r->sent_sig;
}

/*
 * Is this death one after which the rank is started again? Not before all have met for the first time: a job that is
 * not whole does not begin. Not after it has said good-bye.
 */
static bool start_again(struct run *r, uint32_t rank)
{
	struct rank_state *s = &r->rank[rank];
	int64_t now = mc_now_ns();
	int code = 0;

	if (r->job->fail != MC_FAIL_RESTART || r->stop != STOP_NONE || !r->all_joined || s->left || s->aborted ||
	    s->deaths >= r->job->restart_max)
		return false;
	enum rank_fault what = judge(r, s, &code);
	if (what == RANK_FINE)
		return false;
	s->fault = what; /* for the report */
	s->fault_code = code;
	s->deaths++;
	s->quick = s->joined && now - s->started_at > MC_NS_PER_S / 4 ? 0 : s->quick + 1;
	uint32_t twice = s->quick > 1 ? s->quick - 1 : 0;
	s->restart_at = now + (MC_RESTART_NS << (twice < MC_RESTART_DOUBLE ? twice : MC_RESTART_DOUBLE));
	r->restart_n++;
	r->ops->gone(r->engine, rank, code, true);
	mc_report_restart(r, rank);
	s->fault = RANK_FINE;
	return true;
}

/* Nothing is known of it and nothing will be. */
static void on_vanished(struct run *r, const struct mc_engine_event *ev)
{
	struct rank_state *s = &r->rank[ev->rank];

	if (s->ended && s->restart_at == 0)
		return;           /* (a rank that was just told to start again has not ended) */
	if (s->restart_at != 0) { /* it was to be started again where there is nobody any more */
		s->restart_at = 0;
		r->restart_n--;
	}
	s->ended = true;
	s->status = SIGKILL;
	s->ended_by_us = r->stop != STOP_NONE;
	r->live--;
	(void)snprintf(s->text, sizeof(s->text), "%s", ev->text);
	if (!s->ended_by_us)
		fault(r, ev->rank, RANK_LOST, SIGKILL);
	r->ops->gone(r->engine, ev->rank, SIGKILL, true);
	if (s->ended_by_us)
		return;
	if (r->job->fail == MC_FAIL_ABORT || (r->job->fail == MC_FAIL_RESTART && !r->all_joined))
		mc_run_stop(r, STOP_FAULT, SIGTERM);
	else
		mc_report_fault(r, ev->rank);
}

static void on_exited(struct run *r, const struct mc_engine_event *ev)
{
	struct rank_state *s = &r->rank[ev->rank];

	if (s->ended)
		return;
	s->ended = true;
	s->status = ev->code;
	if (start_again(r, ev->rank))
		return;
	s->ended_by_us = r->stop != STOP_NONE && !died_by_itself(r, s);
	r->live--;
	review(r, ev->rank, true);
}

static void on_failed_start(struct run *r, const struct mc_engine_event *ev)
{
	struct rank_state *s = &r->rank[ev->rank];

	if (s->ended)
		return;
	s->ended = true;
	r->live--;
	if (r->stop != STOP_NONE) {
		s->ended_by_us = true;
		return;
	}
	if (s->deaths >
	    0) { /* it was to be started again and could not be: the others were told of its death and go on */
		fault(r, ev->rank, RANK_NO_START, ev->code);
		mc_report_fault(r, ev->rank);
		return;
	}
	/* nothing has been computed yet: whatever --on-failure says, a job that is not whole does not begin */
	fault(r, ev->rank, RANK_NO_START, ev->code);
	mc_run_stop(r, STOP_FAULT, SIGKILL);
}

static void on_joined(struct run *r, uint32_t rank)
{
	struct rank_state *s = &r->rank[rank];
	bool first = !r->any_joined;

	r->joined_n += !s->joined;
	s->joined = true;
	s->left = false;
	r->any_joined = true;
	if (r->joined_n == r->job->rank_n && !r->all_joined) {
		r->all_joined = true;
		mc_report_phase(r, "all ranks have joined");
	}
	if (s->ended)
		review(r, rank, false);
	for (uint32_t i = 0; first && i < r->job->rank_n; i++)
		if (i != rank && r->rank[i].ended && r->rank[i].fault == RANK_FINE)
			review(r, i, false);
}

static void on_abort(struct run *r, const struct mc_engine_event *ev)
{
	struct rank_state *s = &r->rank[ev->rank];

	if (ev->victim != MC_RANK_ALL && ev->victim != ev->rank) {
		mc_output_say(r->output, "rank %u asked by PMIx_Abort(%d) for the end of rank %u", ev->rank, ev->code,
			      ev->victim);
		r->ops->signal(r->engine, ev->victim, SIGKILL);
		return;
	}
	if (r->stop != STOP_NONE || s->aborted)
		return;
	s->aborted = true;
	(void)snprintf(s->text, sizeof(s->text), "%s", ev->text);
	if (s->fault == RANK_FINE)
		fault(r, ev->rank, RANK_ABORT, ev->code);
	if (ev->victim == MC_RANK_ALL)
		mc_run_stop(r, STOP_FAULT, SIGTERM); /* asked for the end of all, so also under continue */
	else
		r->ops->signal(r->engine, ev->rank, SIGKILL);
}

static void on_lost(struct run *r, const struct mc_engine_event *ev)
{
	(void)snprintf(r->engine_text, sizeof(r->engine_text), "%s", ev->text);
	mc_run_stop(r, STOP_ENGINE, 0);
	r->lost = true;
}

void mc_judge_event(struct run *r, const struct mc_engine_event *ev)
{
	if (ev->rank >= r->job->rank_n && ev->kind != MC_ENGINE_LOST)
		return;
	switch (ev->kind) {
	case MC_ENGINE_STARTED:
		r->rank[ev->rank].started = true;
		r->rank[ev->rank].pid = ev->pid;
		r->rank[ev->rank].started_at = mc_now_ns();
		return;
	case MC_ENGINE_FAILED:
		on_failed_start(r, ev);
		return;
	case MC_ENGINE_EXITED:
		on_exited(r, ev);
		return;
	case MC_ENGINE_JOINED:
		on_joined(r, ev->rank);
		return;
	case MC_ENGINE_LEFT:
		r->rank[ev->rank].left = true;
		return;
	case MC_ENGINE_ABORT:
		on_abort(r, ev);
		return;
	case MC_ENGINE_VANISHED:
		on_vanished(r, ev);
		return;
	case MC_ENGINE_SIGNAL:
		mc_run_interrupt(r, ev->code);
		return;
	case MC_ENGINE_EMPTY:
		r->empty = true;
		return;
	case MC_ENGINE_LOST:
		on_lost(r, ev);
		return;
	}
}

static int fault_exit_code(const struct rank_state *s)
{
	switch (s->fault) {
	case RANK_SIGNAL:
		return 128 + s->fault_code;
	case RANK_NO_START:
		return s->fault_code == EAGAIN || s->fault_code == ENOMEM ? 1 : 2;
	case RANK_ABORT:
		return (s->fault_code & 0xff) != 0 ? s->fault_code & 0xff : 1;
	case RANK_LOST:
		return 128 + SIGKILL;
	default:
		return s->fault_code;
	}
}

/*
 * Ranks report to us and not through the engine. What it knows and we do not: that it ended them itself, because one
 * called PMIx_Abort, or that something was wrong though each rank ended well.
 */
bool mc_judge_by_engine(const struct run *r)
{
	if (r->engine_code == 0 || (r->stop != STOP_NONE && r->stop != STOP_FAULT))
		return false;
	if (r->first_fault == MC_RANK_ALL)
		return true;
	if (mc_engine_agents(r->job))
		return false; /* its code is that of an agent that was given up: its ranks are accounted for */
	const struct rank_state *s = &r->rank[r->first_fault];
	bool by_it = s->fault == RANK_LOST ||
		     (s->fault == RANK_SIGNAL && (s->fault_code == SIGTERM || s->fault_code == SIGKILL));
	return by_it && r->engine_code < 128;
}

int mc_judge_exit_code(const struct run *r)
{
	if (r->stop == STOP_TIMEOUT)
		return 124;
	if (r->stop == STOP_SIGNAL)
		return 128 + r->stop_sig;
	if (mc_judge_by_engine(r))
		return r->engine_code;
	if (r->first_fault != MC_RANK_ALL)
		return fault_exit_code(&r->rank[r->first_fault]);
	return r->stop == STOP_ENGINE ? 1 : 0;
}

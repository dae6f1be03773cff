/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * job.h - what every subcommand needs of a job: who is there, who died, notes by kind, agreement before a start.
 * Nothing here waits without a deadline, and the death of a rank only ends what that rank was needed for.
 */
#ifndef PERF_JOB_H
#define PERF_JOB_H

#include "mc.h"
#include "perftext.h"
#include "wirenote.h"

/* Upper 8 bits of a note's tag; the lower 56 are the kind's own number. Kind 0 is free for the tags of transfers. */
enum perf_kind {
	PERF_K_DONE = 0,
	PERF_K_REQ,   /* decode -> prefill: a part of a request's block table */
	PERF_K_FAIL,  /* prefill -> decode: the transfer of a request ended with an error, nothing of it will land any
			 more */
	PERF_K_END,   /* decode -> prefill: no more requests */
	PERF_K_STOP,  /* anyone -> everyone: end the run now */
	PERF_K_READY, /* -> leader: vote */
	PERF_K_GO,    /* leader ->: verdict on the votes */
	PERF_K_PROGRESS, /* -> leader */
	PERF_K_SAMPLES,  /* -> leader: part of the samples */
	PERF_K_LINK,     /* -> leader: how one peer is reached */
	PERF_K_RESULT,   /* -> leader: last note of a rank */
	PERF_K_BYE,      /* leader ->: reported, leave with this exit code */
	PERF_K_ITERS,    /* initiator -> target: how many requests of a lane there were */
	PERF_K_FIT,      /* rank 0 of one job <-> rank 0 of another: what they have to have in common (replay_fit.h) */
	PERF_K_PREPARED, /* the same two: all ranks of that job have what they need */
};

static inline uint64_t perf_tag(enum perf_kind kind, uint64_t number)
{
	return (uint64_t)kind << 56 | number;
}

static inline enum perf_kind perf_tag_kind(uint64_t tag)
{
	return (enum perf_kind)(tag >> 56);
}

static inline uint64_t perf_tag_number(uint64_t tag)
{
	return tag & ((UINT64_C(1) << 56) - 1);
}

struct perf_stash;

struct perf_job {
	const char *cmd; /* "replay", for messages */
	struct mc_ctx *ctx;
	uint32_t rank, size;
	uint32_t peer_n;                   /* size, or more: peers of another job are known, too */
	struct mc_group *prefill, *decode; /* NULL: no rank has that role */
	bool *dead;                        /* [peer_n] */
	uint32_t dead_n;
	int64_t await_ns;    /* so long a dead rank may come back as a new process; 0: deaths are for good */
	int64_t *down_ns;    /* [size] since when it is being waited for; 0: it is not */
	uint32_t *back;      /* [size] how often it has come back */
	uint32_t *back_told; /* [size] of these, told by perf_job_next_back() */
	struct perf_stash *first, *last; /* notes that came before they were asked for */
	uint8_t *buf;                    /* [MC_NOTE_MAX] for building a note */
	bool progress;                   /* leader draws a bar: the others send what it needs */
};

/* Join; what fails has been logged. transport may be NULL. */
mc_status_t perf_job_open(struct perf_job *j, const char *cmd, const char *transport);
mc_status_t perf_job_open_with(struct perf_job *j, const char *cmd, const struct mc_params *p);
void perf_job_close(struct perf_job *j);

int64_t perf_now_ns(void);
uint32_t perf_job_leader(const struct perf_job *j); /* lowest rank that is not known to be dead */
bool perf_job_faults(struct perf_job *j);           /* take news of deaths and returns; true: there were some */
/* It is lost: for good, or down until it comes back, as await_ns says. */
void perf_job_mark_dead(struct perf_job *j, uint32_t peer);
bool perf_job_know(struct perf_job *j, uint32_t peer);           /* of another job; false: out of memory */
void perf_job_revive(struct perf_job *j, uint32_t peer);         /* it is there again, as another process */
bool perf_job_down(const struct perf_job *j, uint32_t peer);     /* lost, but may come back */
bool perf_job_next_back(struct perf_job *j, uint32_t *peer_out); /* one that has come back; false: no more */
/* The process that the rank is now, as in mc_note.epoch; 0: not known. */
uint64_t perf_job_epoch(const struct perf_job *j, uint32_t peer);
/* How often this rank has been started before, by mcrun --on-failure restart. */
uint32_t perf_job_again(void);
/* Does the launcher start dead ranks again? */
bool perf_job_restarts(void);
/* "decode.1 (rank 3)" */
const char *perf_job_name(const struct perf_job *j, uint32_t peer, char *buf, size_t len);
__attribute__((format(printf, 2, 3))) void perf_job_say(const struct perf_job *j, const char *fmt,
							...); /* a line on stderr */

/* Next note, those first that came before the start; NULL: none within the time. Free it with mc_note_free(). */
struct mc_note *perf_job_note(struct perf_job *j, int64_t timeout_ns);
/* The oldest note of that kind; those of others are kept for later. */
struct mc_note *perf_job_note_of(struct perf_job *j, enum perf_kind kind, int64_t timeout_ns);
/* Queue a note; false: the peer is down (marked) or the note could not be sent (said on stderr). */
bool perf_job_send(struct perf_job *j, uint32_t peer, uint64_t tag, const void *data, uint32_t len);
/* Send to every other living rank and wait until it left, at most that long. */
void perf_job_tell_all(struct perf_job *j, uint64_t tag, const void *data, uint32_t len, int64_t timeout_ns);

/* What a rank says before a phase begins. */
struct perf_vote {
	bool here;
	uint64_t digest;      /* of input and options: must be the same on all ranks */
	uint64_t need, avail; /* bytes of memory it will take, and that its host has */
	uint32_t flags;       /* the leader's go to everyone */
	struct perf_err err;  /* why not */
};

/* The leader's judgement over all votes: anything in err stops the job with that line. */
typedef void perf_judge_fn(struct perf_job *j, const struct perf_vote *vote, void *arg, struct perf_err *err);

/* false: a rank of another job, which this one is to work with, is lost before the start; err says which. */
bool perf_job_others_here(struct perf_job *j, struct perf_err *err);
/* Has the leader said what comes of the next agreement, before this rank has voted? Then it is off. */
bool perf_job_called_off(struct perf_job *j);
/*
 * All living ranks vote, the lowest rank judges and tells. true: go, *flags_out are the leader's. false: stop; the
 * leader has printed the one line that says why. A leader that itself has an objection, or has lost a rank of another
 * job, waits for nobody's vote.
 */
bool perf_job_agree(struct perf_job *j, uint32_t phase, const struct perf_vote *mine, perf_judge_fn *judge, void *arg,
		    int64_t timeout_ns, uint32_t *flags_out);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * mc.h - the one public header of libmc: move KV-cache blocks between the ranks of a job.
 *
 * True everywhere unless a function says otherwise:
 *  - len and off are bytes (uint64_t); *_ns are nanoseconds; a timeout of 0 polls, MC_FOREVER waits without end.
 *  - "peer" is a world rank (0 .. mc_size()-1); "rank" is a position in the group that is given.
 *  - pointers are not NULL; every free/release function accepts NULL; *_out is written only on MC_OK.
 *  - threads: any thread may call any function on any object at any time; the caller makes sure that an object is not
 *    freed while another thread still uses it. Two contexts share nothing.
 *  - a structure whose first member is `size` is versioned: set it to sizeof(that structure), zero the rest, fill in.
 *  - nothing here aborts, exits, installs a signal handler or writes to stdout. (UCX, where it is built in, installs
 *    handlers for fatal signals when it is loaded, unless the environment says UCX_HANDLE_ERRORS=none.)
 */
#ifndef MC_H
#define MC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MC_VERSION_MAJOR 0
#define MC_VERSION_MINOR 1
#define MC_VERSION_PATCH 0

#define MC_API   __attribute__((visibility("default")))
#define MC_CHECK __attribute__((warn_unused_result))

/**
 * Every status: name, number, text. -1..-29: only this call failed; -30..-59: this peer is lost; -60..-89: the context
 * is lost. Numbers are never used again for something else.
 */
#define MC_STATUS_MAP(X)                                                                                               \
	X(MC_OK, 0, "success")                                                                                         \
	X(MC_IN_PROGRESS, 1, "not finished yet")                                                                       \
	X(MC_ERR_INVAL, -1, "bad argument")                                                                            \
	X(MC_ERR_NOMEM, -2, "out of memory or of a limited resource")                                                  \
	X(MC_ERR_AGAIN, -3, "nothing now, try again later")                                                            \
	X(MC_ERR_TIMEOUT, -4, "deadline passed")                                                                       \
	X(MC_ERR_RANGE, -5, "outside a memory region")                                                                 \
	X(MC_ERR_BUSY, -6, "still in use")                                                                             \
	X(MC_ERR_CANCELED, -7, "canceled")                                                                             \
	X(MC_ERR_UNSUPPORTED, -8, "not possible with this backend, build or machine")                                  \
	X(MC_ERR_NOSPC, -9, "buffer too small")                                                                        \
	X(MC_ERR_MISMATCH, -10, "ranks disagree on the collective")                                                    \
	X(MC_ERR_STALE, -11, "descriptor of a freed region or an earlier incarnation")                                 \
	X(MC_ERR_CONFIG, -12, "bad or unknown setting")                                                                \
	X(MC_ERR_NOENT, -13, "no such name")                                                                           \
	X(MC_ERR_DIRECTORY, -14, "the directory of other jobs does not answer")                                        \
	X(MC_ERR_PROTO, -30, "malformed bytes from a peer")                                                            \
	X(MC_ERR_PEER_DOWN, -31, "peer lost")                                                                          \
	X(MC_ERR_AUTH, -32, "peer failed authentication")                                                              \
	X(MC_ERR_DEVICE, -60, "local device or library lost")                                                          \
	X(MC_ERR_BOOT, -61, "wire-up failed")                                                                          \
	X(MC_ERR_INTERNAL, -62, "bug in mc")

#define MC_STATUS_ENUM(name, num, text) name = (num),
typedef enum { MC_STATUS_MAP(MC_STATUS_ENUM) } mc_status_t;
#undef MC_STATUS_ENUM

#define MC_FOREVER   INT64_C(-1)
#define MC_ANY_PEER  UINT32_MAX
#define MC_NO_RANK   UINT32_MAX
#define MC_ROLE_MAX  32   /* bytes of a role name with its NUL */
#define MC_NAME_MAX  64   /* bytes of a published memory name, host name or device name with its NUL */
#define MC_NOTE_MAX  65536 /* bytes of a note's payload at most */
#define MC_JOB_MAX    128   /* bytes of a job's name with its NUL */
#define MC_REASON_MAX 192   /* bytes of a sentence that gives a reason, with its NUL */

struct mc_ctx;     /* a process's membership in one job */
struct mc_hub;     /* meeting point of several contexts in one process */
struct mc_group;   /* ordered list of peers */
struct mc_mem;     /* local memory that peers may be given access to */
struct mc_rmem;    /* a peer's memory, seen from here */
struct mc_req;     /* an operation under way */
struct mc_counter; /* count of arrivals under one tag */
struct mc_dlist;   /* slices prepared to be posted again and again */

/* ---- status, version, configuration, log ---------------------------------------------------------------------- */

/** Name ("MC_ERR_RANGE") and text ("outside a memory region") of a status; never NULL, "?" for an unknown number. */
MC_API const char *mc_status_name(mc_status_t s);
MC_API const char *mc_status_text(mc_status_t s);

/** "0.1.0"; the version of the library in use, which may be newer than MC_VERSION_* of the header. */
MC_API const char *mc_version(void);

/** One setting as it stands. Strings are borrowed and live as long as the library; value and a file's name as @buf. */
struct mc_setting {
	const char *name;   /* "MC_TRANSPORT" */
	const char *type;   /* "enum", "uint", "size", "duration", "bool", "string" */
	const char *value;  /* as text, secrets shown as "(set)" */
	const char *source; /* "default", "file FILE", "environment" */
	const char *def;    /* default, as text */
	const char *unit;   /* "bytes", "us", "" */
	const char *text;   /* one sentence */
};

/**
 * mc_setting_get() - setting number @index as mc_init() would read it now, for programs that list the configuration.
 * @index: 0, 1, ... until MC_ERR_NOENT.
 * @buf, @len: room for the value's text.
 * Return: MC_OK, MC_ERR_NOENT, MC_ERR_CONFIG (its value is bad: @out is filled all the same, value is the raw text).
 */
MC_API MC_CHECK mc_status_t mc_setting_get(uint32_t index, struct mc_setting *out, char *buf, size_t len);

/**
 * mc_setting_check() - is NAME=VALUE a valid setting? For launchers, which want to refuse before they start anything.
 * @value: NULL checks the name alone.
 * @err, @len: gets a sentence that names the setting, what is wrong and the nearest valid name or values.
 * Return: MC_OK, or MC_ERR_CONFIG with @err written.
 */
MC_API MC_CHECK mc_status_t mc_setting_check(const char *name, const char *value, char *err, size_t len);

/**
 * mc_setting_check_env() - check every MC_* variable of the environment, and the file that MC_CONFIG names.
 * Return: MC_OK, or MC_ERR_CONFIG with the first fault in @err.
 */
MC_API MC_CHECK mc_status_t mc_setting_check_env(char *err, size_t len);

enum mc_log_level { MC_LOG_ERROR = 0, MC_LOG_WARN = 1, MC_LOG_INFO = 2, MC_LOG_DEBUG = 3 };

/**
 * mc_log_set_sink() - receive the log lines of this process instead of stderr.
 * @sink: called with a level and one line without newline, from any thread, never concurrently; NULL: stderr again.
 */
MC_API void mc_log_set_sink(void (*sink)(void *arg, enum mc_log_level level, const char *line), void *arg);

/* ---- context --------------------------------------------------------------------------------------------------- */

/** What mc_init() may be told. Zero means: take the setting (environment, file, default). Strings are copied. */
struct mc_params {
	uint32_t size;
	uint32_t rank;           /* with hub: this context's rank; else ignored */
	struct mc_hub *hub;      /* NULL: the process is a rank of a launched job (or alone) */
	const char *role;        /* this rank's role; NULL: MC_ROLE, else "none" */
	const char *backend;     /* MC_BACKEND: "auto", "ucx", "shm", "loop", "verbs" */
	const char *transport;   /* MC_TRANSPORT: "auto", "shm", "tcp", "rdma" */
	const char *progress;    /* MC_PROGRESS: "thread" or "manual" */
	int64_t init_timeout_ns; /* MC_INIT_TIMEOUT */
};

/**
 * mc_init() - join the job.
 * Collective over the job's ranks; ends within the init timeout. Under mcrun, srun --mpi=pmix or mpirun the rendezvous
 * is PMIx; in a process started on its own the job has one rank. @p may be NULL.
 * Owner:  the caller; end with mc_finalize().
 * Return: MC_OK; MC_ERR_CONFIG (a setting is bad or unknown: logged); MC_ERR_BOOT or MC_ERR_TIMEOUT (rendezvous
 *         failed); MC_ERR_DEVICE (no backend that the settings allow works: logged with the reason of each);
 *         MC_ERR_NOMEM, MC_ERR_INVAL.
 */
MC_API MC_CHECK mc_status_t mc_init(const struct mc_params *p, struct mc_ctx **ctx_out);

/**
 * mc_finalize() - leave the job. Not collective: a rank that others still use should pass mc_barrier() first.
 * Cancels what is under way, frees everything made from @ctx that is still there (and logs how many), joins the
 * threads. Peers see this rank as down then. Ends within a second beyond what cancel needs, two if etcd is away.
 */
MC_API void mc_finalize(struct mc_ctx *ctx);

MC_API uint32_t mc_rank(const struct mc_ctx *ctx);     /**< this process's world rank = its peer number */
MC_API uint32_t mc_size(const struct mc_ctx *ctx);     /**< ranks of the job */
MC_API const char *mc_role(const struct mc_ctx *ctx);  /**< this rank's role, e.g. "prefill"; borrowed */
MC_API const char *mc_job_id(const struct mc_ctx *ctx); /**< the job's id as text, for logs; borrowed */

/** One peer as known here. */
struct mc_peer_info {
	uint32_t size;
	uint32_t peer;
	uint64_t epoch;           /* drawn at random at each start of that process */
	char role[MC_ROLE_MAX];
	char host[MC_NAME_MAX];
	char link[MC_NAME_MAX];   /* how bytes reach it, e.g. "shm (mapped, cma)", "ucx tcp"; "" before first use */
	char link_reason[MC_REASON_MAX]; /* why not by what comes before it, e.g. "shm: another host"; "": it is first
					  */
	char job[MC_JOB_MAX];            /* name of its job */
	uint32_t rank;                   /* in its job; of this job's ranks the same as peer */
	int32_t pid;
	uint32_t same_node;       /* 1: shares this host */
	mc_status_t state;        /* MC_OK up, MC_IN_PROGRESS not connected yet, else why it is down */
	uint64_t tx_bytes, rx_bytes, tx_slices, tx_merged, tx_msgs,
		rx_msgs; /* what crossed so far; merged: slices saved */
};
/** Return: MC_OK; MC_ERR_INVAL: no such peer, or out->size is not known. */
MC_API MC_CHECK mc_status_t mc_peer_query(struct mc_ctx *ctx, uint32_t peer, struct mc_peer_info *out);

/**
 * mc_connect() - connect to a peer now rather than on first use, e.g. to take that cost out of a measurement. With a
 * timeout of 0 it begins, and mc_peer_query() tells when the connection stands.
 * Return: MC_OK connected; MC_ERR_PEER_DOWN; MC_ERR_TIMEOUT; MC_ERR_UNSUPPORTED: no common transport (logged with the
 *         reasons); MC_ERR_INVAL: no such peer; MC_ERR_NOMEM.
 */
MC_API MC_CHECK mc_status_t mc_connect(struct mc_ctx *ctx, uint32_t peer, int64_t timeout_ns);

/* ---- peers of other jobs ---------------------------------------------------------------------------------------- */

/*
 * With MC_ETCD each rank publishes itself under the name of its job (MC_JOB), and ranks of other jobs under the same
 * MC_ETCD_PREFIX are peers, too, with numbers from mc_size() on. (job, rank) has the same number for as long as the
 * context lives; a new process of it is a new incarnation, as with ranks that were started again. Connections, lookups,
 * transfers, notes, counters, groups of mc_group_list() with their collectives, and reshards work with them as with
 * ranks of this job; blobs of mc_mem_export() do not (use mc_mem_lookup()). Two jobs that make a group give the same
 * ranks in the same order, each by its own numbers. A record whose process is dead is found out on connecting:
 * MC_ERR_PEER_DOWN, after MC_JOIN_TIMEOUT at the latest. While the directory is away all that is connected, or known,
 * goes on.
 *
 * A peer that was lost though its process lives, as when a network was cut, is met again by itself: once its record has
 * stayed for an MC_ETCD_LEASE after the loss, or is written anew, it is called, about once per lease. When it answers,
 * mc_fault_next() says MC_OK of it, mc_peer_find() and the watches have it again, under its number and with its epoch.
 * What belonged to the connection before (requests, opened memory, counters of that peer, groups, reshards) has failed
 * or is stale, as if it were a new process.
 */

/**
 * mc_peer_find() - wait until the directory has at least @min_n peers of other jobs that fit.
 * @role: NULL: any.
 * @job_pattern: fnmatch(3) pattern of the job's name, NULL: any.
 * @peer: gets the first @room of their numbers, by job name and rank. *n_out: how many there are.
 * Return: MC_OK; MC_ERR_TIMEOUT (fewer are there); MC_ERR_DIRECTORY (it does not answer, or refuses: logged; also when
 *         enough peers are known from before); MC_ERR_UNSUPPORTED (no MC_ETCD); MC_ERR_INVAL, MC_ERR_NOMEM.
 */
MC_API MC_CHECK mc_status_t mc_peer_find(struct mc_ctx *ctx, const char *role, const char *job_pattern, uint32_t min_n,
					 int64_t timeout_ns, uint32_t *peer, uint32_t room, uint32_t *n_out);

struct mc_watch;
struct mc_peer_event {
	uint32_t size;
	uint32_t peer;
	uint64_t epoch;     /* of the process that came or is gone */
	mc_status_t status; /* MC_OK: it is there; MC_ERR_PEER_DOWN: it is gone, from the directory or altogether */
};

/**
 * mc_peer_watch() - have @fn called for each peer of other jobs that fits: who is there, then who comes and goes.
 * @role, @job_pattern: as in mc_peer_find(), copied.
 * Threads: @fn is called on a thread of the context's own that is there for nothing else, one call at a time, without a
 *          lock: it may call everything here but mc_finalize(), and may wait; others wait for it meanwhile. With
 *          MC_PROGRESS=manual it is mc_progress() that calls it.
 * Return: MC_OK; MC_ERR_UNSUPPORTED (no MC_ETCD); MC_ERR_INVAL, MC_ERR_NOMEM.
 */
MC_API MC_CHECK mc_status_t mc_peer_watch(struct mc_ctx *ctx, const char *role, const char *job_pattern,
					  void (*fn)(void *arg, const struct mc_peer_event *ev), void *arg,
					  struct mc_watch **watch_out);
/** No call of it begins after this; waits for one that runs, unless that is where it is called from. */
MC_API void mc_peer_watch_free(struct mc_watch *watch);

/* ---- progress --------------------------------------------------------------------------------------------------- */

/**
 * mc_progress() - make progress without blocking; needed only with MC_PROGRESS=manual, harmless otherwise.
 * Return: how many events it handled; 0: nothing to do now.
 */
MC_API uint32_t mc_progress(struct mc_ctx *ctx);

/**
 * mc_progress_fd() - a descriptor to wait on with poll/epoll (readable: call mc_progress()); @ctx's, not to be read.
 * Protocol: call mc_progress() until it returns 0, then mc_progress_arm(); sleep only after MC_OK, no longer than told.
 */
MC_API int mc_progress_fd(struct mc_ctx *ctx);

/**
 * mc_progress_arm() - prepare to sleep on mc_progress_fd().
 * @sleep_ns: gets the longest sleep until a deadline needs attention, MC_FOREVER: none.
 * Return: MC_OK: may sleep; MC_ERR_AGAIN: there is work, call mc_progress() again.
 */
MC_API MC_CHECK mc_status_t mc_progress_arm(struct mc_ctx *ctx, int64_t *sleep_ns);

/*
 * A rank that was started again (mcrun --on-failure restart) is the same peer, but another process with another epoch.
 * What belonged to the one before is lost with it: its requests end MC_ERR_PEER_DOWN; descriptors of its regions, and
 * reshards over its pools, give MC_ERR_STALE or MC_ERR_PEER_DOWN; a counter of that peer counts no more and its waiters
 * get MC_ERR_PEER_DOWN, so close it and open it again (a counter of MC_ANY_PEER counts all processes: requests that are
 * repeated are best given new tags). mc_fault_next() tells first of the loss and then, with MC_OK, of the return; from
 * then on new lookups, transfers and connections reach the new process.
 * A group is a list of processes: with a member that was replaced its collectives end MC_ERR_PEER_DOWN. Make it again
 * (mc_group_world() and mc_group_node() do that by themselves): its collectives are counted from 0. A member that makes
 * it before it knows of the new process gets MC_ERR_PEER_DOWN or, with the others, MC_ERR_TIMEOUT; no one else's data.
 */

/* ---- groups ------------------------------------------------------------------------------------------------------ */

MC_API struct mc_group *mc_group_world(struct mc_ctx *ctx); /**< all ranks, as they are now, in order; borrowed */
MC_API struct mc_group *mc_group_node(struct mc_ctx *ctx);  /**< the ranks on this host in order; borrowed */
/** Ranks with that role in order. Return: MC_OK; MC_ERR_NOENT: nobody has it; MC_ERR_INVAL, MC_ERR_NOMEM. */
MC_API MC_CHECK mc_status_t mc_group_role(struct mc_ctx *ctx, const char *role, struct mc_group **group_out);
/**
 * A list of distinct peers in the caller's order, [n]; collectives need the same list on every member.
 * Return: MC_OK; MC_ERR_INVAL: no peer of that number, or one twice; MC_ERR_NOMEM.
 */
MC_API MC_CHECK mc_status_t mc_group_list(struct mc_ctx *ctx, const uint32_t *peer, uint32_t n,
					  struct mc_group **group_out);
MC_API uint32_t mc_group_size(const struct mc_group *g);
MC_API uint32_t mc_group_rank(const struct mc_group *g);                /**< own position; MC_NO_RANK: not a member */
MC_API uint32_t mc_group_peer(const struct mc_group *g,
			      uint32_t rank); /**< world rank of a position; MC_NO_RANK: none */
MC_API void mc_group_free(struct mc_group *g);                          /**< world and node groups: no effect */

/* ---- memory ------------------------------------------------------------------------------------------------------ */

enum mc_mem_flags {
	MC_MEM_HUGE = 1, /* ask for huge pages; ordinary ones where there are none (logged once) */
};
struct mc_mem_params {
	uint32_t size;
	uint32_t flags;     /* enum mc_mem_flags */
	int32_t numa_node;  /* bind to this NUMA node; -1: prefer the one that this process is bound to, if any */
};

/**
 * mc_mem_alloc() - zeroed memory from the runtime that peers on the same host map and copy in user space.
 * @p: NULL: defaults. The region starts on a page boundary; pages are taken on first touch.
 * Return: MC_OK; MC_ERR_NOMEM (logged: what was asked, what the host or cgroup has left); MC_ERR_INVAL.
 */
MC_API MC_CHECK mc_status_t mc_mem_alloc(struct mc_ctx *ctx, uint64_t len, const struct mc_mem_params *p,
					 struct mc_mem **mem_out);

enum mc_mem_kind { MC_KIND_HOST = 0, MC_KIND_CUDA = 1, MC_KIND_DMABUF = 2 };
struct mc_region {
	uint32_t size;
	uint32_t kind;     /* enum mc_mem_kind */
	void *addr;
	uint64_t len;
	int32_t device;    /* CUDA device, -1 for host memory */
	int32_t fd;        /* dma-buf, with fd_off; -1 otherwise */
	uint64_t fd_off;
};
/**
 * mc_mem_register() - make memory that the caller owns usable in transfers. It must stay valid until mc_mem_free().
 * Return: MC_OK; MC_ERR_UNSUPPORTED (no open backend takes that kind); MC_ERR_NOMEM (locked-memory limit: logged with
 *         the remedy); MC_ERR_INVAL.
 */
MC_API MC_CHECK mc_status_t mc_mem_register(struct mc_ctx *ctx, const struct mc_region *r, struct mc_mem **mem_out);

/** Start and length of a region; where it is mapped here. */
MC_API void *mc_mem_addr(const struct mc_mem *mem);
MC_API uint64_t mc_mem_len(const struct mc_mem *mem);

/**
 * mc_mem_free() - end a region of either kind. Peers that still hold a descriptor get MC_ERR_STALE from then on.
 * Waits for a process of this host that is copying into it just now (0.5 s if that is stopped, else up to 4 s), and for
 * bytes of it that are on their way to a peer: one that does not take them within MC_CANCEL_TIMEOUT is declared lost.
 * Return: MC_OK; MC_ERR_BUSY: a request of this rank uses it (nothing changed).
 */
MC_API MC_CHECK mc_status_t mc_mem_free(struct mc_mem *mem);

/**
 * mc_mem_export() - the bytes with which a peer of this job can import the region, for the caller to carry there.
 * @len: in: room in @blob; out: bytes used, or needed on MC_ERR_NOSPC (@blob may then be NULL).
 * Return: MC_OK; MC_ERR_NOSPC: @blob is too small; MC_ERR_INVAL, MC_ERR_NOMEM.
 */
MC_API MC_CHECK mc_status_t mc_mem_export(struct mc_mem *mem, void *blob, uint32_t *len);

/**
 * mc_mem_import() - open a region that @peer exported.
 * Return: MC_OK; MC_ERR_PROTO (not such a blob, or damaged); MC_ERR_STALE (of an earlier incarnation or another job);
 *         MC_ERR_PEER_DOWN; MC_ERR_UNSUPPORTED (no common transport).
 */
MC_API MC_CHECK mc_status_t mc_mem_import(struct mc_ctx *ctx, uint32_t peer, const void *blob, uint32_t len,
					  struct mc_rmem **rmem_out);

/**
 * mc_mem_publish() - let every peer find the region under @name (1 .. MC_NAME_MAX-1 bytes); ends with mc_mem_free().
 * Return: MC_OK; MC_ERR_BUSY: the name is taken on this rank; MC_ERR_INVAL.
 */
MC_API MC_CHECK mc_status_t mc_mem_publish(struct mc_mem *mem, const char *name);

/**
 * mc_mem_lookup() - export, carriage and import in one: wait until @peer has published @name and open it. May be
 * polled: the question stays over there when the time is up, and the next call for the same name finds its answer (with
 * more than a second between calls the one after that; with more than a minute each call asks anew).
 * Return: as mc_mem_import(), MC_ERR_TIMEOUT, or MC_ERR_INVAL: no such peer, no such name possible.
 */
MC_API MC_CHECK mc_status_t mc_mem_lookup(struct mc_ctx *ctx, uint32_t peer, const char *name, int64_t timeout_ns,
					  struct mc_rmem **rmem_out);

MC_API uint64_t mc_rmem_len(const struct mc_rmem *rmem);
MC_API uint32_t mc_rmem_peer(const struct mc_rmem *rmem);
/** Give a descriptor back; a request that still uses it keeps it alive until it ends. */
MC_API void mc_rmem_release(struct mc_rmem *rmem);

/* ---- transfers --------------------------------------------------------------------------------------------------- */

/** @len bytes at offset @off of the local region and @roff of the peer's. */
struct mc_slice {
	struct mc_mem *mem;
	uint64_t off;
	struct mc_rmem *rmem;
	uint64_t roff;
	uint64_t len;
};

/** A place in a local region. */
struct mc_buf {
	struct mc_mem *mem;
	uint64_t off;
};

enum mc_notify_flags {
	MC_NOTIFY_COUNT = 1, /* add @add to the target's counter @tag */
	MC_NOTIFY_NOTE = 2,  /* queue a note with @tag and the payload at the target */
};
/** What the target learns once it can read every byte of the put; never earlier, exactly once, also for zero slices. */
struct mc_notify {
	uint32_t size;
	uint32_t flags;   /* enum mc_notify_flags; 0: nothing */
	uint64_t tag;     /* chosen by the caller, e.g. a request number */
	uint64_t add;     /* with MC_NOTIFY_COUNT */
	const void *data; /* payload of the note, [data_len], copied before return; NULL: none */
	uint32_t data_len; /* at most MC_NOTE_MAX */
};

/** How a transfer is to run. NULL: no deadline, no notification. */
struct mc_xfer_opts {
	uint32_t size;
	int64_t timeout_ns; /* 0 or MC_FOREVER: none; past it the request ends MC_ERR_TIMEOUT, as if canceled */
	const struct mc_notify *notify;
};

/**
 * mc_put() - write many slices of local memory to one peer, in one request.
 * @slice: shape [n], n may be 0 (then only the notification travels); all rmem belong to @peer; overlapping targets:
 *         the result there is one or the other, byte by byte. Copied before return.
 * Done:   MC_OK means that the far side has every byte, and that the notification is with it or right behind on a
 *         reliable, ordered channel; sources may be reused. After any error any part of the target ranges may have
 *         been written, but nothing more will be (MC_ERR_PEER_DOWN: as far as this side can tell).
 * Return: MC_OK (queued; it never fails for lack of room); MC_ERR_INVAL, MC_ERR_RANGE, MC_ERR_STALE, MC_ERR_NOMEM,
 *         MC_ERR_PEER_DOWN, MC_ERR_UNSUPPORTED: nothing was sent.
 * Owner:  regions must outlive the request; *req_out is freed with mc_req_free().
 * Cost:   O(n); no allocation once requests of that size were used before; no system call per slice.
 */
MC_API MC_CHECK mc_status_t mc_put(struct mc_ctx *ctx, uint32_t peer, const struct mc_slice *slice, uint32_t n,
				   const struct mc_xfer_opts *opts, struct mc_req **req_out);

/**
 * mc_get() - read many slices from one peer; done: every byte is here. Otherwise as mc_put(). A notification tells the
 * peer that its memory has been read and may be reused.
 * Return: as mc_put().
 */
MC_API MC_CHECK mc_status_t mc_get(struct mc_ctx *ctx, uint32_t peer, const struct mc_slice *slice, uint32_t n,
				   const struct mc_xfer_opts *opts, struct mc_req **req_out);

/* ---- prepared lists ---------------------------------------------------------------------------------------------- */

/**
 * mc_dlist_create() - check a table of slices and bring it into the form that the link to @peer wants, once; then post
 * it, or selections from it, again and again. Connects to the peer if that was not done yet.
 * @slice: [n], as for mc_put(); copied before return. An entry may have one side only (mem or rmem NULL): it is there
 *         to be selected for that side, and the list cannot be posted as a whole.
 * Owner:  the caller; end with mc_dlist_free(). The regions stay busy while the list lives: mc_mem_free() of one gives
 *         MC_ERR_BUSY, and a released mc_rmem lives on.
 * Return: MC_OK; MC_ERR_INVAL, MC_ERR_RANGE, MC_ERR_NOMEM, MC_ERR_PEER_DOWN, MC_ERR_UNSUPPORTED (as mc_put()).
 * Threads: any thread may post a list, several at once, also while requests on it run: each request is on its own.
 * Cost:   O(n), about as mc_put(); memory 40 bytes per entry, and as much again per run that is left where entries
 *         were merged: adjacent ones, and over TCP equal ones at equal distances.
 */
MC_API MC_CHECK mc_status_t mc_dlist_create(struct mc_ctx *ctx, uint32_t peer, const struct mc_slice *slice,
					    uint32_t n, struct mc_dlist **list_out);
/**
 * mc_dlist_free() - give the list back; @list may be NULL. Requests on it that still run go on and keep the regions
 * busy until they end.
 */
MC_API void mc_dlist_free(struct mc_dlist *list);

/**
 * mc_dlist_put() - write every slice of the list, mc_dlist_get() - read them. Like mc_put() and mc_get(), without
 * checking and copying again.
 * Return: MC_OK; MC_ERR_INVAL (also: an entry has one side only); MC_ERR_PEER_DOWN; MC_ERR_STALE; MC_ERR_NOMEM.
 * Owner:  *req_out is freed with mc_req_free(); the list may be freed before the request ends.
 * Threads: any, also several on one list at once.
 * Cost:   does not grow with the list where the bytes are moved by another thread (TCP; shared memory from some size
 *         on); no allocation once requests of that kind were used before.
 */
MC_API MC_CHECK mc_status_t mc_dlist_put(struct mc_dlist *list, const struct mc_xfer_opts *opts,
					 struct mc_req **req_out);
MC_API MC_CHECK mc_status_t mc_dlist_get(struct mc_dlist *list, const struct mc_xfer_opts *opts,
					 struct mc_req **req_out);

/**
 * mc_dlist_put_some() - write selected entries: the local side of entry @here[i] to the remote side of @there[i].
 * mc_dlist_get_some() - read them, the other way round. For block tables: prepare all blocks of two pools once, then
 * name blocks by number.
 * @here, @there: [n], numbers of entries, read before return; the two entries of a pair have the same length. @there
 *         may be NULL: the same as @here.
 * Return: as mc_dlist_put(); MC_ERR_RANGE: a number that the list does not have; MC_ERR_INVAL: a side that the entry
 *         does not have, or two lengths that differ. Nothing was sent then.
 * Owner, Threads: as mc_dlist_put().
 * Cost:   O(n), a few nanoseconds per entry; what is adjacent on both sides is merged.
 */
MC_API MC_CHECK mc_status_t mc_dlist_put_some(struct mc_dlist *list, const uint32_t *here, const uint32_t *there,
					      uint32_t n, const struct mc_xfer_opts *opts, struct mc_req **req_out);
MC_API MC_CHECK mc_status_t mc_dlist_get_some(struct mc_dlist *list, const uint32_t *here, const uint32_t *there,
					      uint32_t n, const struct mc_xfer_opts *opts, struct mc_req **req_out);

/* ---- requests ---------------------------------------------------------------------------------------------------- */

/** How a request stands; any thread, any number of times, no lock. Return: MC_IN_PROGRESS, or the final status. */
MC_API mc_status_t mc_req_test(struct mc_req *req);

/**
 * mc_req_wait() - sleep until the request ends. Return: its status, or MC_ERR_AGAIN: timeout passed and it still runs.
 */
MC_API mc_status_t mc_req_wait(struct mc_req *req, int64_t timeout_ns);

/**
 * mc_req_cancel() - end a request early. Returns when nothing of it can touch memory here or at the peer any more (the
 * peer confirmed), at the latest after MC_CANCEL_TIMEOUT, when a peer that does not confirm is declared lost.
 * Return: the request's final status: MC_ERR_CANCELED: proved, and a put's notification never comes; MC_OK: all of it
 *         had arrived; MC_ERR_PEER_DOWN: the peer was lost before it could confirm; or what it ended with before.
 */
MC_API mc_status_t mc_req_cancel(struct mc_req *req);

/** Free a request; one that still runs is detached: it goes on, its regions stay busy until it ends. */
MC_API void mc_req_free(struct mc_req *req);

struct mc_req_stats {
	uint32_t size;
	uint32_t slices;   /* as given */
	uint32_t runs;     /* after merging what is adjacent on both sides */
	uint64_t bytes;
	uint64_t post_ns;  /* time inside mc_put()/mc_get() */
	uint64_t total_ns; /* from the call to the end */
};
/**
 * Small puts are timed by the processor's counter: 0 ns where that cannot be told (after a suspend).
 * Return: MC_OK; MC_IN_PROGRESS: not ended yet, nothing written.
 */
MC_API MC_CHECK mc_status_t mc_req_query(struct mc_req *req, struct mc_req_stats *out);

/* ---- counters and notes ------------------------------------------------------------------------------------------ */

/**
 * mc_counter_open() - the count of arrivals under @tag from @peer (MC_ANY_PEER: from all). Arrivals before the call are
 * kept and counted. Return: MC_OK; MC_ERR_BUSY: there is a handle for that tag and peer; MC_ERR_INVAL, MC_ERR_NOMEM.
 */
MC_API MC_CHECK mc_status_t mc_counter_open(struct mc_ctx *ctx, uint64_t tag, uint32_t peer,
					    struct mc_counter **counter_out);
/** Value now; no lock. Everything that was counted can be read by the calling thread. */
MC_API uint64_t mc_counter_read(const struct mc_counter *c);
/**
 * mc_counter_wait() - sleep until the value is at least @value.
 * Return: MC_OK; MC_ERR_TIMEOUT; MC_ERR_PEER_DOWN: the counter's one peer went down first.
 */
MC_API MC_CHECK mc_status_t mc_counter_wait(struct mc_counter *c, uint64_t value, int64_t timeout_ns);
MC_API void mc_counter_close(struct mc_counter *c); /**< forgets the count */

/** A note that arrived; free with mc_note_free(). */
struct mc_note {
	uint32_t peer;
	uint32_t len;
	uint64_t tag;
	const void *data; /* [len], aligned to 16 bytes */
	uint64_t epoch;   /* of the process that sent it, as in mc_peer_info: tells a peer from the one it was before */
};

/**
 * mc_note_send() - send a note alone. Notes of one sender, also those of puts, arrive in the order they became due.
 * Return: MC_OK (queued); MC_ERR_INVAL; MC_ERR_PEER_DOWN; MC_ERR_NOMEM; MC_ERR_UNSUPPORTED.
 * Done:   the request ends MC_OK when the note is on its way; @req_out may be NULL: nobody waits.
 */
MC_API MC_CHECK mc_status_t mc_note_send(struct mc_ctx *ctx, uint32_t peer, uint64_t tag, const void *data,
					 uint32_t len, struct mc_req **req_out);
/**
 * mc_note_recv() - take the oldest note.
 * Return: MC_OK; MC_ERR_TIMEOUT (with timeout 0: nothing there now). What a vanished peer had sent is still delivered.
 */
MC_API MC_CHECK mc_status_t mc_note_recv(struct mc_ctx *ctx, int64_t timeout_ns, struct mc_note **note_out);
MC_API void mc_note_free(struct mc_note *note);

/* ---- faults ------------------------------------------------------------------------------------------------------ */

/** Something was lost that no request of the caller may show, e.g. a peer; or a peer is back. */
struct mc_fault {
	uint32_t size;
	uint32_t peer;      /* MC_NO_RANK: not about one peer */
	mc_status_t status; /* MC_OK: a new process has taken the place of that peer, and can be used */
	char text[160];
};
/** Oldest fault not yet taken. Return: MC_OK; MC_ERR_AGAIN: none. A peer's loss, or return, is reported once. */
MC_API MC_CHECK mc_status_t mc_fault_next(struct mc_ctx *ctx, struct mc_fault *out);

/* ---- collectives ------------------------------------------------------------------------------------------------ */

/*
 * True of all of them:
 *  - Members call the collectives of a group in the same order; several may be under way at once, on one group and on
 * several. Groups of the same list of peers count as one. Ranks and roots are positions in the group.
 *  - A rank that disagrees with the others (another collective, root or length): MC_ERR_MISMATCH on all of them. MC_OK
 * on one rank means that every member has called, and agreed. A call that returns MC_ERR_INVAL, MC_ERR_RANGE,
 * MC_ERR_NOMEM or MC_ERR_UNSUPPORTED has not started: for the others it was not made yet.
 *  - A rank that does not come: MC_ERR_TIMEOUT on those that wait, and on that one if it still calls it. A member that
 * is lost: MC_ERR_PEER_DOWN. Canceled on one rank: MC_ERR_CANCELED on all that are not through. mc_fault_next() names
 * the rank. The next collective of the group is not affected, as long as its members are alive.
 *  - Buffers may have any length and alignment, also 0 (then mem may be NULL), and are host memory. They belong to the
 * runtime until the request ends; once it has ended, however it did, nothing touches them any more.
 *  - i-forms return a request for mc_req_test(), mc_req_wait(), mc_req_cancel(), mc_req_free(); the others wait.
 */

/** How a collective is to run. NULL: as the settings say. */
struct mc_coll_opts {
	uint32_t size;
	int64_t timeout_ns; /* 0: MC_COLL_TIMEOUT; MC_FOREVER: none; members may differ */
};

/**
 * mc_barrier() - returns when every member has called it. Past the timeout it is over for all of them, so with 0, too,
 * it is not to be polled: to wait beside other things there is mc_ibarrier().
 * Return: MC_OK; MC_ERR_TIMEOUT (mc_fault_next() names a rank that did not come); MC_ERR_PEER_DOWN (a member is lost);
 *         MC_ERR_INVAL (not a member); MC_ERR_MISMATCH, MC_ERR_NOMEM.
 */
MC_API MC_CHECK mc_status_t mc_barrier(struct mc_group *g, int64_t timeout_ns);
MC_API MC_CHECK mc_status_t mc_ibarrier(struct mc_group *g, const struct mc_coll_opts *opts, struct mc_req **req_out);

/**
 * mc_bcast() - @len bytes of @root's buffer to the buffers of all.
 * Return: MC_OK; MC_ERR_MISMATCH, MC_ERR_TIMEOUT, MC_ERR_PEER_DOWN, MC_ERR_CANCELED; MC_ERR_INVAL, MC_ERR_RANGE,
 * MC_ERR_NOMEM, MC_ERR_UNSUPPORTED (not started; device memory).
 */
MC_API MC_CHECK mc_status_t mc_bcast(struct mc_group *g, uint32_t root, struct mc_buf buf, uint64_t len,
				     const struct mc_coll_opts *opts);
MC_API MC_CHECK mc_status_t mc_ibcast(struct mc_group *g, uint32_t root, struct mc_buf buf, uint64_t len,
				      const struct mc_coll_opts *opts, struct mc_req **req_out);

/**
 * mc_scatter() - block r of @root's @src, @len bytes each, to rank r's @dst.
 * @src: looked at on the root only. The root's @dst may be its own block of @src.
 * Return: as mc_bcast().
 */
MC_API MC_CHECK mc_status_t mc_scatter(struct mc_group *g, uint32_t root, struct mc_buf src, struct mc_buf dst,
				       uint64_t len, const struct mc_coll_opts *opts);
MC_API MC_CHECK mc_status_t mc_iscatter(struct mc_group *g, uint32_t root, struct mc_buf src, struct mc_buf dst,
					uint64_t len, const struct mc_coll_opts *opts, struct mc_req **req_out);

/**
 * mc_scatterv() - @len[r] bytes at @off[r] of @root's @src to rank r's @dst, which expects @dst_len.
 * @len, @off: [group size], read on the root only, during the call.
 * Return: as mc_bcast(); MC_ERR_MISMATCH on all members where a rank's @dst_len is not the root's @len[r].
 */
MC_API MC_CHECK mc_status_t mc_scatterv(struct mc_group *g, uint32_t root, struct mc_buf src, const uint64_t *len,
					const uint64_t *off, struct mc_buf dst, uint64_t dst_len,
					const struct mc_coll_opts *opts);
MC_API MC_CHECK mc_status_t mc_iscatterv(struct mc_group *g, uint32_t root, struct mc_buf src, const uint64_t *len,
					 const uint64_t *off, struct mc_buf dst, uint64_t dst_len,
					 const struct mc_coll_opts *opts, struct mc_req **req_out);

/**
 * mc_gather() - rank r's @src, @len bytes each, to block r of @root's @dst.
 * @dst: looked at on the root only. The root's @src may be its own block of @dst.
 * Return: as mc_bcast().
 */
MC_API MC_CHECK mc_status_t mc_gather(struct mc_group *g, uint32_t root, struct mc_buf src, struct mc_buf dst,
				      uint64_t len, const struct mc_coll_opts *opts);
MC_API MC_CHECK mc_status_t mc_igather(struct mc_group *g, uint32_t root, struct mc_buf src, struct mc_buf dst,
				       uint64_t len, const struct mc_coll_opts *opts, struct mc_req **req_out);

/**
 * mc_gatherv() - @src_len bytes of rank r's @src to @off[r] of @root's @dst, which expects @len[r].
 * @len, @off: [group size], read on the root only, during the call; targets must not overlap.
 * Return: as mc_scatterv().
 */
MC_API MC_CHECK mc_status_t mc_gatherv(struct mc_group *g, uint32_t root, struct mc_buf src, uint64_t src_len,
				       struct mc_buf dst, const uint64_t *len, const uint64_t *off,
				       const struct mc_coll_opts *opts);
MC_API MC_CHECK mc_status_t mc_igatherv(struct mc_group *g, uint32_t root, struct mc_buf src, uint64_t src_len,
					struct mc_buf dst, const uint64_t *len, const uint64_t *off,
					const struct mc_coll_opts *opts, struct mc_req **req_out);

/**
 * mc_allgather() - rank r's @src, @len bytes each, to block r of everyone's @dst. @src may be the own block of @dst.
 * Return: as mc_bcast().
 */
MC_API MC_CHECK mc_status_t mc_allgather(struct mc_group *g, struct mc_buf src, struct mc_buf dst, uint64_t len,
					 const struct mc_coll_opts *opts);
MC_API MC_CHECK mc_status_t mc_iallgather(struct mc_group *g, struct mc_buf src, struct mc_buf dst, uint64_t len,
					  const struct mc_coll_opts *opts, struct mc_req **req_out);

/**
 * mc_allgatherv() - @len[r] bytes of rank r's @src to @off[r] of everyone's @dst.
 * @len: [group size], the same on all; @off: [group size], may differ; both read during the call; targets must not
 *       overlap.
 * Return: as mc_bcast().
 */
MC_API MC_CHECK mc_status_t mc_allgatherv(struct mc_group *g, struct mc_buf src, struct mc_buf dst, const uint64_t *len,
					  const uint64_t *off, const struct mc_coll_opts *opts);
MC_API MC_CHECK mc_status_t mc_iallgatherv(struct mc_group *g, struct mc_buf src, struct mc_buf dst,
					   const uint64_t *len, const uint64_t *off, const struct mc_coll_opts *opts,
					   struct mc_req **req_out);

/**
 * mc_alltoall() - block r of @src, @len bytes each, to rank r, which finds it as block (this rank) of its @dst. @src
 * and @dst must not overlap.
 * Return: as mc_bcast().
 */
MC_API MC_CHECK mc_status_t mc_alltoall(struct mc_group *g, struct mc_buf src, struct mc_buf dst, uint64_t len,
					const struct mc_coll_opts *opts);
MC_API MC_CHECK mc_status_t mc_ialltoall(struct mc_group *g, struct mc_buf src, struct mc_buf dst, uint64_t len,
					 const struct mc_coll_opts *opts, struct mc_req **req_out);

/**
 * mc_alltoallv() - @src_len[r] bytes at @src_off[r] to rank r; @dst_len[r] bytes from rank r to @dst_off[r].
 * @src_len, @src_off, @dst_len, @dst_off: [group size], read during the call; nothing may overlap.
 * Return: as mc_bcast(); MC_ERR_MISMATCH on all members where a rank expects another length than is sent to it.
 */
MC_API MC_CHECK mc_status_t mc_alltoallv(struct mc_group *g, struct mc_buf src, const uint64_t *src_len,
					 const uint64_t *src_off, struct mc_buf dst, const uint64_t *dst_len,
					 const uint64_t *dst_off, const struct mc_coll_opts *opts);
MC_API MC_CHECK mc_status_t mc_ialltoallv(struct mc_group *g, struct mc_buf src, const uint64_t *src_len,
					  const uint64_t *src_off, struct mc_buf dst, const uint64_t *dst_len,
					  const uint64_t *dst_off, const struct mc_coll_opts *opts,
					  struct mc_req **req_out);

enum mc_coll_op {
	MC_COLL_BARRIER = 0,
	MC_COLL_BCAST = 1,
	MC_COLL_SCATTER = 2,
	MC_COLL_GATHER = 3,
	MC_COLL_ALLGATHER = 4,
	MC_COLL_ALLTOALL = 5,
	MC_COLL_OPS = 6,
};

/** One row of the table by which algorithms are chosen; of those that fit, the first counts. Strings live as long as
 * the library. */
struct mc_coll_rule {
	uint32_t size;
	uint32_t op;           /* enum mc_coll_op */
	uint32_t max_ranks;    /* UINT32_MAX: any */
	uint64_t max_bytes;    /* of one rank's block, bcast: of all; UINT64_MAX: any */
	const char *name;      /* "allgather" */
	const char *where;     /* where the members are: "any", "one host", "several hosts", "shared memory" */
	const char *algorithm; /* "ring" */
};
/** Row @index of the table: 0, 1, ... Return: MC_OK; MC_ERR_NOENT: no more; MC_ERR_INVAL. */
MC_API MC_CHECK mc_status_t mc_coll_rule_get(uint32_t index, struct mc_coll_rule *out);
/** Name of the algorithm that @g would use for blocks of @len bytes; MC_COLL_ALGORITHM counts. */
MC_API const char *mc_coll_algorithm(struct mc_group *g, enum mc_coll_op op, uint64_t len);

/* ---- KV pools and resharding ------------------------------------------------------------------------------------- */

struct mc_kv_pool; /* a paged KV cache of this rank: layout and memory, published under a name */
struct mc_reshard; /* a prepared mapping from the pools of one group to those of another */

/** Dimensions of a pool, in no particular order; head_dim is not one of them: its elements are contiguous. */
enum mc_kv_dim { MC_KV_LAYER = 0, MC_KV_KV = 1, MC_KV_BLOCK = 2, MC_KV_TOKEN = 3, MC_KV_HEAD = 4, MC_KV_NDIM = 5 };

enum mc_kv_layout_flags {
	MC_KV_BASE_PER_LAYER = 1, /* each layer has a base of its own; stride[MC_KV_LAYER] is not used */
	MC_KV_BASE_PER_KV = 2,    /* K and V have a base each; stride[MC_KV_KV] is not used */
};

/**
 * One rank's shard of a paged KV cache.
 *
 * The model has @layer_total layers with @head_total KV heads each; this pool holds layers @layer_lo .. +@layer_n and
 * heads @head_lo .. +@head_n of them, in @block_n blocks of @block_tokens tokens. Ranks that hold the same heads (fewer
 * KV heads than ranks) simply give the same range. Token t of a sequence with block table B lies in block B[t /
 * block_tokens] at position t % block_tokens, and its head_dim * elem_bytes bytes of layer l, K or V k (0, 1) and head
 * h begin at
 *
 *     base[...] + (l - layer_lo) * stride[MC_KV_LAYER] + k * stride[MC_KV_KV] + block * stride[MC_KV_BLOCK]
 *               + (t % block_tokens) * stride[MC_KV_TOKEN] + (h - head_lo) * stride[MC_KV_HEAD]
 *
 * Strides are bytes, multiples of elem_bytes, in any order and with any padding, as long as the dimensions nest: sorted
 * by stride, each stride is at least the extent of everything inside it, so no two elements share a byte. The stride of
 * a dimension with one entry is not used.
 * Bases: one, unless @flags ask for more. With MC_KV_BASE_PER_LAYER base l - layer_lo; with MC_KV_BASE_PER_KV base k;
 * with both base (l - layer_lo) * kv_n + k. The term of such a dimension is left out of the sum above.
 * Examples of orders, outermost first: HND = layer, kv, block, head, token; NHD = layer, kv, block, token, head;
 * cross-layer blocks = block, layer, kv, token, head.
 * MLA: kv_n 1, head_lo 0, head_n 1, head_total 1, head_dim = latent + rope dimensions.
 * Limits: layer_total and head_total 4096, head_dim and block_tokens 65536; extent of a base below 2^62 bytes.
 */
struct mc_kv_layout {
	uint32_t size;         /* sizeof(struct mc_kv_layout) */
	uint32_t flags;        /* enum mc_kv_layout_flags */
	uint32_t elem_bytes;   /* 1, 2 or 4 */
	uint32_t head_dim;     /* elements, at least 1 */
	uint32_t kv_n;         /* 2: K and V; 1: one tensor (MLA) */
	uint32_t block_tokens; /* tokens per block, at least 1 */
	uint32_t block_n;      /* blocks in the pool, at least 1 */
	uint32_t layer_lo, layer_n, layer_total;
	uint32_t head_lo, head_n, head_total;
	uint32_t reserved;            /* 0 */
	uint64_t stride[MC_KV_NDIM];  /* bytes, by enum mc_kv_dim */
};

/**
 * mc_kv_layout_dense() - fill in dense strides: order[] names every dimension once, outermost first. Dimensions that
 * select a base get stride 0. Return: MC_OK; MC_ERR_INVAL: order is no permutation, or the pool would be too large; *l
 * is then unchanged.
 */
MC_API MC_CHECK mc_status_t mc_kv_layout_dense(struct mc_kv_layout *l, const enum mc_kv_dim order[MC_KV_NDIM]);

/**
 * mc_kv_shard() - part `rank` of `parts` of `total` heads or layers, as engines cut them: without overlap and even to
 * one while there are enough, else (replicated heads) one each, neighbours sharing. 0 <= rank < parts, total >= 1.
 */
MC_API void mc_kv_shard(uint32_t total, uint32_t parts, uint32_t rank, uint32_t *lo_out, uint32_t *n_out);

/** What one request means between one source and one target. */
struct mc_kv_totals {
	uint64_t bytes;
	/* One entry per contiguous piece of one layer, K or V, and pair of blocks: what engines post today. */
	uint64_t naive;
	uint64_t runs;   /* after merging */
	uint64_t pieces; /* contiguous pieces in those runs: the sum of count */
};
/**
 * mc_kv_pool_open() - publish a paged KV cache under @name (1 .. MC_NAME_MAX-1 bytes), once for its life.
 * @base: where its bases begin, [base_n], as many as the layout says (one, or one per layer and/or K and V).
 * Owner:  the regions stay the caller's and stay busy until mc_kv_pool_close().
 * Return: MC_OK; MC_ERR_INVAL, MC_ERR_RANGE (layout impossible or longer than its region: logged with the field);
 *         MC_ERR_BUSY: the name is taken on this rank; MC_ERR_NOMEM.
 */
MC_API MC_CHECK mc_status_t mc_kv_pool_open(struct mc_ctx *ctx, const struct mc_kv_layout *layout,
					    const struct mc_buf *base, uint32_t base_n, const char *name,
					    struct mc_kv_pool **pool_out);
/** Return: MC_OK; MC_ERR_BUSY: a reshard uses it. */
MC_API MC_CHECK mc_status_t mc_kv_pool_close(struct mc_kv_pool *pool);

/**
 * mc_reshard_open() - plan once how the pools @src_pool of group @src map to the pools @dst_pool of group @dst.
 * Any tensor and pipeline parallelism on either side, replicated KV heads or MLA (their sources share the load),
 * different block sizes and strides. Called by every rank of either group that wants to start or count requests; it
 * waits until the members have published, nothing else: it is not a barrier. May be polled: what was learnt when the
 * time is up stays for the next call for the same groups and pools within 10 s, and the questions stay under way. So
 * calls with a timeout of 0 come to an end, too, a few calls after the last member has published; with
 * MC_PROGRESS=manual mc_progress() belongs between them. Return: MC_OK; MC_ERR_TIMEOUT (a member has not published, or
 * not answered yet); MC_ERR_MISMATCH (not the same model: logged); MC_ERR_NOENT (a layer or head that no source has:
 * logged; or this rank has no such pool); MC_ERR_STALE (a member closed its pool and freed memory of it meanwhile: call
 * again); MC_ERR_PEER_DOWN; MC_ERR_UNSUPPORTED (no common transport); MC_ERR_PROTO (a member publishes what is
 * malformed: logged); MC_ERR_NOMEM; MC_ERR_INVAL (in neither group).
 */
MC_API MC_CHECK mc_status_t mc_reshard_open(struct mc_group *src, const char *src_pool, struct mc_group *dst,
					    const char *dst_pool, int64_t timeout_ns, struct mc_reshard **reshard_out);
/** Requests that still run go on. */
MC_API void mc_reshard_close(struct mc_reshard *reshard);

/**
 * mc_reshard_sources() - from how many ranks this one gets a part of these layers: what its counter reaches when all is
 * there. mc_reshard_targets() - to how many ranks this one gives a part. @layer_n 0: all layers. 0: none, or not in
 * that group.
 */
MC_API uint32_t mc_reshard_sources(const struct mc_reshard *reshard, uint32_t layer_lo, uint32_t layer_n);
MC_API uint32_t mc_reshard_targets(const struct mc_reshard *reshard, uint32_t layer_lo, uint32_t layer_n);

enum mc_kv_op {
	MC_KV_PUSH = 1, /* a source writes to its targets; each target counts */
	MC_KV_PULL = 2, /* a target reads from its sources; each source counts, and may then reuse its blocks */
};
enum mc_kv_request_flags {
	MC_KV_SILENT = 1, /* nobody counts */
};
/** One sequence, or some layers of it. Tables are copied before return. */
struct mc_kv_request {
	uint32_t size;
	uint32_t op;                /* enum mc_kv_op */
	uint32_t flags;             /* enum mc_kv_request_flags */
	uint32_t peer;              /* rank in the other group, or MC_ANY_PEER: every one that has a part */
	uint64_t tag; /* the other side's counter @tag goes up by 1 when this rank's part is complete there */
	const uint32_t *src_block;  /* [src_block_n] blocks of the sequence in the sources' pools */
	const uint32_t *dst_block;  /* [dst_block_n] and in the targets' */
	uint32_t src_block_n, dst_block_n;
	uint32_t token_lo, token_n; /* which tokens of the sequence */
	uint32_t layer_lo, layer_n; /* which layers of the model; layer_n 0: all */
	int64_t timeout_ns;         /* 0 or MC_FOREVER: none */
};
/**
 * mc_reshard_start() - move it: one request, whatever the number of peers, blocks and layers.
 * Done:   as mc_put() (push) or mc_get() (pull), for all peers.
 * Return: MC_OK; MC_ERR_INVAL (too few blocks, not in that group); MC_ERR_RANGE (a block or layer that the pool does
 *         not have: logged); as mc_put(). After an error nothing of it runs any more than after mc_req_cancel().
 * Cost:   under 100 ns per block and layer beside the copying, in any order of the dimensions: a few ns where layers
 *         have one base. No allocation once requests of that size were used.
 */
MC_API MC_CHECK mc_status_t mc_reshard_start(struct mc_reshard *reshard, const struct mc_kv_request *q,
					     struct mc_req **req_out);

/**
 * mc_reshard_totals() - what @q means between one source and one target: bytes and descriptors before and after
 * merging. Return: MC_OK; errors as mc_reshard_start().
 */
MC_API MC_CHECK mc_status_t mc_reshard_totals(const struct mc_reshard *reshard, const struct mc_kv_request *q,
					      uint32_t src, uint32_t dst, struct mc_kv_totals *out);

/* ---- several contexts in one process ----------------------------------------------------------------------------- */

/**
 * A meeting point for @n contexts of this process: pass it in mc_params with ranks 0..n-1. Free it after they are
 * finalized. Return: MC_OK; MC_ERR_INVAL, MC_ERR_NOMEM.
 */
MC_API MC_CHECK mc_status_t mc_hub_create(uint32_t n, struct mc_hub **hub_out);
MC_API void mc_hub_free(struct mc_hub *hub);

#ifdef __cplusplus
}
#endif
#endif

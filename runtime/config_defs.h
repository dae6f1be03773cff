/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config_defs.h - the one table of settings. Adding a row here is all that a new setting needs: parsing, range check,
 * mc_setting_get(), nearest-name errors and mc-env(7) follow from it.
 * X(kind, field, name, default, choices or "min..max", unit, text)
 * kinds: ENUM (field: int, index into choices "a|b|c"), UINT (uint32_t), SIZE (uint64_t, 4K 2M 1G), DUR (int64_t ns;
 * "500ms", "2s", "0"; bare number: seconds), BOOL (int; yes|no|1|0|on|off|true|false), STR (char *), SECRET (char *,
 * never shown).
 */
#define MC_CONFIG_DEFS(X)                                                                                              \
	X(ENUM, backend, "MC_BACKEND", "auto", "auto|shm|ucx|loop|verbs", "",                                          \
	  "Backend for data and control; auto picks per peer: shared memory on the same host, else the best network")  \
	X(ENUM, transport, "MC_TRANSPORT", "auto", "auto|shm|tcp|rdma", "",                                            \
	  "What a pair of ranks may use; shm keeps to one host, tcp forbids shared-memory copies and RDMA")            \
	X(ENUM, progress, "MC_PROGRESS", "thread", "thread|manual", "",                                                \
	  "thread: one progress thread per context, asleep when idle; manual: the program calls mc_progress()")        \
	X(STR, role, "MC_ROLE", "", "", "", "Role of this rank, e.g. prefill or decode; mcrun sets it")                \
	X(STR, roles, "MC_ROLES", "", "", "",                                                                          \
	  "Roles by rank where MC_ROLE is not set, e.g. prefill:2,decode:4, for ranks that srun or mpirun starts")     \
	X(STR, device, "MC_DEVICE", "", "", "",                                                                        \
	  "NICs to use: mlx5_0:1,eth0 only these, ^mlx5_3 all but, numa0=mlx5_1 for that memory; empty: the nearest")  \
	X(STR, near, "MC_NEAR", "", "", "",                                                                            \
	  "Memory that this rank moves most, e.g. cuda0, numa1, a PCI id: NICs near it; empty: the node of its CPUs")  \
	X(STR, config_file, "MC_CONFIG", "", "", "", "JSON file with settings {\"MC_NAME\": value}")                   \
	X(ENUM, log, "MC_LOG", "warn", "error|warn|info|debug", "", "How much to log to stderr")                       \
	X(DUR, init_timeout, "MC_INIT_TIMEOUT", "60s", "1ms..1h", "s", "Longest wait for all ranks in mc_init()")      \
	X(DUR, cancel_timeout, "MC_CANCEL_TIMEOUT", "10s", "1ms..1h", "s",                                             \
	  "A peer that does not confirm a cancel within this time is declared lost")                                   \
	X(DUR, join_timeout, "MC_JOIN_TIMEOUT", "10s", "1ms..1h", "s",                                                 \
	  "A peer to which this rank introduces itself, and that does not answer within this time, is declared lost")  \
	X(DUR, spin, "MC_SPIN", "20us", "0..1s", "us",                                                                 \
	  "How long to poll after activity before sleeping; 0 sleeps at once")                                         \
	X(SIZE, pack_size, "MC_PACK_SIZE", "512K", "4K..8M", "bytes",                                                  \
	  "Payload of one packed message where slices travel by message (TCP)")                                        \
	X(SIZE, pack_window, "MC_PACK_WINDOW", "4M", "64K..1G", "bytes",                                               \
	  "Packed bytes under way to one peer that it has not yet acknowledged")                                       \
	X(UINT, note_queue, "MC_NOTE_QUEUE", "65536", "16..16777216", "notes",                                         \
	  "Notes kept for mc_note_recv(); a sender that exceeds it is declared faulty")                                \
	X(UINT, counter_max, "MC_COUNTER_MAX", "65536", "16..16777216", "tags",                                        \
	  "Tags per context whose arrivals are kept before mc_counter_open()")                                         \
	X(SIZE, shm_ring, "MC_SHM_RING", "128K", "16K..64M", "bytes",                                                  \
	  "Message ring per same-host peer and direction; a power of two, pages are taken on first use")               \
	X(BOOL, shm_cma, "MC_SHM_CMA", "yes", "", "",                                                                  \
	  "Copy between processes by process_vm_readv/writev where memory is not mapped")                              \
	X(ENUM, copy_threads, "MC_COPY_THREADS", "auto", "auto|0|1", "",                                               \
	  "A second thread that copies part of a large transfer over shared memory; auto: while it has a core to "     \
	  "itself")                                                                                                    \
	X(DUR, coll_timeout, "MC_COLL_TIMEOUT", "60s", "1ms..24h", "s",                                                \
	  "A collective that is not complete after this time ends with an error that names who is missing")            \
	X(SIZE, coll_short, "MC_COLL_SHORT", "8K", "0..1M", "bytes",                                                   \
	  "Blocks of collectives up to this size travel in messages, longer ones from memory to memory; same on all "  \
	  "ranks")                                                                                                     \
	X(SIZE, coll_short_ucx, "MC_COLL_SHORT_UCX", "512K", "0..1M", "bytes",                                         \
	  "The same between ranks that have only UCX in common, where TCP may be all there is; less from 129 members " \
	  "on, so that a late one need keep no more than 64M; same on all ranks")                                      \
	X(STR, coll_algorithm, "MC_COLL_ALGORITHM", "", "", "",                                                        \
	  "Algorithms to use instead of the table's, e.g. bcast:chain,allgather:ring; the same on all ranks")          \
	X(ENUM, ucx_rma, "MC_UCX_RMA", "auto", "auto|yes|no", "",                                                      \
	  "One-sided transfers of UCX: auto where RDMA devices carry them; yes also over shared memory")               \
	X(UINT, verbs_qps, "MC_VERBS_QPS", "1", "1..4", "queue pairs",                                                 \
	  "Queue pairs per rail (pair of ports) of the verbs backend")                                                 \
	X(UINT, verbs_spares, "MC_VERBS_SPARES", "0", "0..7", "ports",                                                 \
	  "Ports beside the chosen ones to turn to when those fail; all memory is registered with them, too")          \
	X(UINT, verbs_depth, "MC_VERBS_DEPTH", "256", "16..4096", "work requests",                                     \
	  "Work requests under way per queue pair, rounded down to a power of two")                                    \
	X(UINT, verbs_buffers, "MC_VERBS_BUFFERS", "256", "32..8192", "buffers",                                       \
	  "Receive buffers of 8 KiB per port, and as many for sending; locked memory")                                 \
	X(SIZE, verbs_chunk, "MC_VERBS_CHUNK", "256K", "4K..1G", "bytes",                                              \
	  "Longest work request, and how much goes to one rail before the next has its turn")                          \
	X(SIZE, verbs_mr_size, "MC_VERBS_MR_SIZE", "4G", "1M..1T", "bytes",                                            \
	  "Longer regions are registered in pieces of this size (larger where more than 64 would be needed)")          \
	X(STR, verbs_gid, "MC_VERBS_GID", "", "", "",                                                                  \
	  "Index in the GID table of each port; empty: RoCE v2 with a routable address, IPv4 first")                   \
	X(UINT, verbs_tc, "MC_VERBS_TC", "0", "0..255", "", "RoCE traffic class (DSCP << 2)")                          \
	X(UINT, verbs_sl, "MC_VERBS_SL", "0", "0..15", "", "Service level")                                            \
	X(UINT, verbs_pkey, "MC_VERBS_PKEY", "0", "0..65535", "", "Index in the table of partition keys")              \
	X(UINT, verbs_timeout, "MC_VERBS_TIMEOUT", "14", "8..22", "",                                                  \
	  "A packet that is not answered after 4.096 us * 2^this is sent again by the card")                           \
	X(UINT, verbs_retry, "MC_VERBS_RETRY", "6", "0..6", "",                                                        \
	  "How often it is sent again before the rail counts as failed")                                               \
	X(UINT, verbs_rnr_timer, "MC_VERBS_RNR_TIMER", "12", "1..31", "",                                              \
	  "Code of the time a sender waits when no receive buffer is free; 12 is 0.64 ms")                             \
	X(DUR, verbs_connect_timeout, "MC_VERBS_CONNECT_TIMEOUT", "5s", "100ms..1h", "s",                              \
	  "A peer to which no rail is proved within this time is reached by another backend")                          \
	X(DUR, verbs_failover_timeout, "MC_VERBS_FAILOVER_TIMEOUT", "10s", "100ms..1h", "s",                           \
	  "A peer to which no rail has worked for this time is lost")                                                  \
	X(STR, host, "MC_HOST", "", "", "", "Name of this host as peers shall see it; empty: the system's")            \
	X(STR, job, "MC_JOB", "", "", "",                                                                              \
	  "Name of this job as other jobs find it through etcd; empty: the launcher's, which is another one each "     \
	  "time")                                                                                                      \
	X(STR, etcd, "MC_ETCD", "", "", "",                                                                            \
	  "Endpoints of the etcd through which jobs find each other, http(s)://HOST:2379, comma separated; empty: "    \
	  "none")                                                                                                      \
	X(STR, etcd_prefix, "MC_ETCD_PREFIX", "mc/default", "", "",                                                    \
	  "Name of the cluster: jobs under the same prefix of the same etcd find and trust each other")                \
	X(STR, etcd_user, "MC_ETCD_USER", "", "", "", "User of etcd; the password comes from MC_ETCD_PASSWORD_FILE")   \
	X(STR, etcd_password_file, "MC_ETCD_PASSWORD_FILE", "", "", "",                                                \
	  "File whose first line is the password of MC_ETCD_USER; read again at each login")                           \
	X(STR, etcd_ca, "MC_ETCD_CA", "", "", "",                                                                      \
	  "File with the certificates (PEM) that may sign etcd's; empty: those of the system")                         \
	X(STR, etcd_cert, "MC_ETCD_CERT", "", "", "", "Client certificate (PEM, without a CN) where etcd wants one")   \
	X(STR, etcd_key, "MC_ETCD_KEY", "", "", "", "Private key (PEM) of MC_ETCD_CERT")                               \
	X(DUR, etcd_lease, "MC_ETCD_LEASE", "10s", "2s..1h", "s",                                                      \
	  "How long a rank that has died is still found by others; a third of it is the time between two signs of "    \
	  "life")                                                                                                      \
	X(STR, etcd_proxy, "MC_ETCD_PROXY", "", "", "",                                                                \
	  "Proxy on the way to etcd; empty: none, whatever http_proxy and https_proxy say")                            \
	X(STR, launcher, "MC_LAUNCHER", "", "", "",                                                                    \
	  "Set by mcrun: local if it started every rank of the job on this host")                                      \
	X(STR, numa_rank, "MC_NUMA_RANK", "", "", "",                                                                  \
	  "Set by mcrun --bind numa: K/N, the rank is the K-th of N on its NUMA node, which share NICs near it")       \
	X(STR, hwloc_checked, "MC_HWLOC_CHECKED", "", "", "",                                                          \
	  "Set by mcrun: it found the file that HWLOC_XMLFILE names sound, so ranks may read it")                      \
	X(UINT, rejoin, "MC_REJOIN", "0", "0..4294967295", "",                                                         \
	  "Set by mcrun: how many times this rank was started before; above 0 it joins the ranks that run already")    \
	X(SECRET, job_key, "MC_JOB_KEY", "", "", "",                                                                   \
	  "Key of the job, 64 hex digits, under which ranks authenticate each other; mcrun draws it")

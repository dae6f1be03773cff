/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * doctor.h - the checks of `mcinfo doctor`. Each is a row of one table: an id that never changes its meaning, and a
 * function that reads through sysroot.h alone, so that every check can be tried on a recorded tree. docs/DOCTOR.md
 * lists them.
 */
#ifndef MCRUN_DOCTOR_H
#define MCRUN_DOCTOR_H

#include "sysroot.h"

#include <stdio.h>

enum mc_doc_status { MC_DOC_OK, MC_DOC_WARN, MC_DOC_FAIL, MC_DOC_NA };
enum mc_doc_mode { MC_DOC_ANY, MC_DOC_RDMA, MC_DOC_TCP, MC_DOC_SLURM, MC_DOC_CONTAINER, MC_DOC_K8S };
enum mc_doc_where { MC_DOC_BARE, MC_DOC_IN_CONTAINER, MC_DOC_IN_K8S, MC_DOC_IN_SLURM };

struct mc_doc_result {
	enum mc_doc_status status;
	char read[200];  /* where it was looked up */
	char value[400]; /* what was found there */
	char cause[500]; /* warn and fail: what is wrong; na: why the check says nothing */
	char fix[700];   /* a command, or lines of YAML */
};

struct mc_doc_dev {
	char name[64], type[64], driver[64], uverbs[64];
	char pci[64];   /* "0000:c5:00.0"; "": not on PCI (Soft-RoCE) */
	char path[512]; /* below /sys/devices, to compare with others */
	int64_t node;   /* NUMA node; -1: unknown */
	bool iwarp;     /* RDMA over TCP: no RoCE, its GIDs are MAC addresses */
};

enum { MC_DOC_GID_MAX = 256, MC_DOC_PORT_MAX = 256, MC_DOC_DEV_MAX = 256 };
struct mc_doc_port {
	uint32_t dev; /* index into dev[] */
	uint32_t num;
	bool state_ok, phys_ok, rate_ok; /* the file was there and made sense */
	uint32_t state, phys, mbps;
	char state_name[32], phys_name[32], link[32], rate_text[64];
	uint32_t gid_n;   /* filled slots */
	uint32_t v2_n;    /* ... of type RoCE v2 */
	int32_t best;     /* index of the RoCE v2 slot to use: IPv4 or global; -1: none */
	char netdev[64];  /* of that slot, else of the first filled one */
	bool netdev_seen; /* /sys/class/net has it */
	uint32_t gid_bad; /* slots whose text makes no sense */
};

struct mc_doc_gpu {
	char pci[64], path[512];
	bool amd;
	int64_t node;
};

struct mc_doctor {
	struct mc_sysroot *root;
	enum mc_doc_mode mode;
	enum mc_doc_where where;
	uint64_t pool;    /* bytes; 0: not told */
	const char *etcd; /* URL; NULL: not told */
	struct mc_doc_dev *dev;
	uint32_t dev_n;
	struct mc_doc_port *port;
	uint32_t port_n, active_n;
	struct mc_doc_gpu *gpu;
	uint32_t gpu_n, node_n;
	int ib_error; /* of listing /sys/class/infiniband */
	bool vm;
	char vm_name[64];
	struct mc_strv net;
};

struct mc_doc_check {
	const char *id, *title;
	unsigned flags; /* MC_DOC_NEEDS_* and MC_DOC_FATAL_* */
	void (*run)(struct mc_doctor *d, struct mc_doc_result *r);
};
enum {
	MC_DOC_NEEDS_DEV = 1, /* says nothing without an RDMA device */
	MC_DOC_RDMA_ONLY = 2, /* says nothing with --for tcp */
	/* in which modes a failure means that nothing can run; in others it is a warning */
	MC_DOC_FATAL_RDMA = 16,
	MC_DOC_FATAL_TCP = 32,
	MC_DOC_FATAL_SLURM = 64,
	MC_DOC_FATAL_BOX = 128, /* container and k8s */
	MC_DOC_FATAL_ANY = 256,
};

extern const struct mc_doc_check mc_doc_checks[];
extern const size_t mc_doc_check_n;

struct mc_doc_options {
	const char *root, *record, *etcd;
	enum mc_doc_mode mode;
	uint64_t pool;
	bool json;
};
/* Look at the machine once, for all checks. */
void mc_doctor_gather(struct mc_doctor *d);
void mc_doctor_free(struct mc_doctor *d);
/* Run every check; result: [mc_doc_check_n]. */
void mc_doctor_run(struct mc_doctor *d, struct mc_doc_result *result);
/* 0, 1 or 2 */
int mc_doctor_code(const struct mc_doc_result *result);
void mc_doctor_print_text(const struct mc_doctor *d, const struct mc_doc_result *result, FILE *to);
void mc_doctor_print_json(const struct mc_doc_result *result, FILE *to);
void mc_json_string(FILE *to, const char *s);

/* The command. */
int mcinfo_doctor(int argc, char **argv);

/* ---- for the checks ------------------------------------------------------------------------------------------------
 */

void mc_doc_read(struct mc_doc_result *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mc_doc_value(struct mc_doc_result *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Set the status and the cause; a worse one that is there stays. */
void mc_doc_set(struct mc_doc_result *r, enum mc_doc_status s, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void mc_doc_fix(struct mc_doc_result *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Append to a text of size len. */
void mc_doc_add(char *text, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The text for where we are; NULL: the one before it (Kubernetes: container; container and Slurm: bare). */
const char *mc_doc_pick(const struct mc_doctor *d, const char *bare, const char *container, const char *k8s,
			const char *slurm);
/* A file that is there and makes no sense, or cannot be read. True: it was one of these, the result is complete. */
bool mc_doc_unreadable(struct mc_doc_result *r, const char *path, int error);
void mc_doc_senseless(struct mc_doc_result *r, const char *path, const char *text);
/* The deepest directory that both paths below /sys/devices share, as number of PCI functions on the way. */
uint32_t mc_doc_common(const char *a, const char *b);
bool mc_doc_port_live(const struct mc_doc_port *p);
const char *mc_doc_dev_driver_provider(const char *driver); /* mlx5_core: mlx5 */

/* doctor_probe.c: what is no file, found out on this machine. */
mc_sysroot_probe_fn mc_doctor_probe;

#define MC_DOC_CHECKS(X)                                                                                               \
	X(rdma_device)                                                                                                 \
	X(verbs_module)                                                                                                \
	X(device_nodes)                                                                                                \
	X(verbs_provider)                                                                                              \
	X(port_state)                                                                                                  \
	X(port_phys)                                                                                                   \
	X(port_rate)                                                                                                   \
	X(link_layer)                                                                                                  \
	X(roce_gid)                                                                                                    \
	X(gid_netdev)                                                                                                  \
	X(rdma_netns)                                                                                                  \
	X(mtu)                                                                                                         \
	X(memlock)                                                                                                     \
	X(cap_ipc_lock)                                                                                                \
	X(pin_test)                                                                                                    \
	X(rdma_cgroup)                                                                                                 \
	X(memory)                                                                                                      \
	X(dev_shm)                                                                                                     \
	X(huge_pages)                                                                                                  \
	X(open_files)                                                                                                  \
	X(gpu)                                                                                                         \
	X(gpudirect)                                                                                                   \
	X(gpu_nic)                                                                                                     \
	X(dead_nic)                                                                                                    \
	X(gpu_no_nic)                                                                                                  \
	X(vm_p2p)                                                                                                      \
	X(pci_acs)                                                                                                     \
	X(iommu)                                                                                                       \
	X(pcie_link)                                                                                                   \
	X(roce_loss)                                                                                                   \
	X(traffic_class)                                                                                               \
	X(numa)                                                                                                        \
	X(host_name)                                                                                                   \
	X(proxy)                                                                                                       \
	X(ports)                                                                                                       \
	X(rdma_traffic)                                                                                                \
	X(tcp_interface)                                                                                               \
	X(cma)                                                                                                         \
	X(pid_namespace)                                                                                               \
	X(process_limit)                                                                                               \
	X(clock)                                                                                                       \
	X(slurm_pmix)                                                                                                  \
	X(etcd)
#define MC_DOC_DECLARE(name) void mc_doc_##name(struct mc_doctor *d, struct mc_doc_result *r);
MC_DOC_CHECKS(MC_DOC_DECLARE)
#undef MC_DOC_DECLARE

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * topo.h - the machine as plain structures, and which NICs serve which memory. Declarations only; no hwloc in here.
 *
 * Loading is done once (topo_hwloc.c, topo_sysfs.c); everything after that is pure: no I/O, no state, the same answer
 * for the same structures. Nothing here logs or aborts: functions that can fail write a sentence for the user to
 * err[err_len].
 */
#ifndef MC_TOPO_H
#define MC_TOPO_H

#include <stdbool.h>
#include <stdio.h>

#include "mc.h"

enum {
	MC_TOPO_NODES_MAX = 1024,   /* NUMA nodes of a machine */
	MC_TOPO_PATH_MAX = 16,      /* bridges above a PCI device */
	MC_TOPO_NAME_MAX = 64,      /* bytes of a device name with its NUL */
	MC_TOPO_OSDEV_MAX = 8,      /* names by which the system knows one PCI device */
	MC_TOPO_GID_MAX = 256,      /* GIDs looked at per port */
	MC_TOPO_NETWORK_MAX = 8,    /* networks kept per interface */
	MC_TOPO_XML_MAX = 64 << 20, /* bytes of an XML file */
};
#define MC_TOPO_NONE UINT32_MAX /* no index */

/* ---- the machine ------------------------------------------------------------------------------------------------ */

struct mc_topo_nodeset {
	uint64_t bit[MC_TOPO_NODES_MAX / 64]; /* by index into node[] */
};

/* Where something sits. */
struct mc_topo_loc {
	uint32_t path[MC_TOPO_PATH_MAX]; /* indexes into bridge[], the host bridge first */
	uint32_t path_n;                 /* 0: not on PCI */
	struct mc_topo_nodeset nodes;
	int32_t package; /* -1: several or unknown */
	bool known;      /* false: could be anywhere in the machine */
};

struct mc_topo_node {
	uint32_t os_index;
	uint64_t bytes;
	bool has_cpus; /* false: memory only, e.g. CXL */
	char cpus[512]; /* "0-47,96-143"; "": none, or not told */
	struct mc_topo_loc loc;
};

struct mc_topo_bridge {
	uint32_t parent;        /* index into bridge[]; MC_TOPO_NONE: a host bridge */
	char text[48];          /* "0000:[80-8f]", buses below it */
	struct mc_topo_loc loc; /* path ends in the bridge itself */
};

struct mc_topo_pci {
	char busid[24]; /* "0000:c5:00.0" */
	uint16_t class_id, vendor, device;
	uint32_t link_mbps; /* of the PCIe link, 0: unknown */
	struct mc_topo_loc loc;
};

struct mc_topo_gpu {
	char name[MC_TOPO_NAME_MAX]; /* "cuda0", "rsmi0", else the first name the system has, else the PCI id */
	char osdev[MC_TOPO_OSDEV_MAX][MC_TOPO_NAME_MAX];
	uint32_t osdev_n;
	uint32_t pci; /* index into pci[] */
};

enum mc_topo_kind { MC_TOPO_OPENFABRICS, MC_TOPO_NETWORK };
enum mc_topo_state { /* 1..5 as in sysfs; UP: a network interface */
		     MC_TOPO_STATE_UNKNOWN = 0,
		     MC_TOPO_STATE_DOWN = 1,
		     MC_TOPO_STATE_INIT = 2,
		     MC_TOPO_STATE_ARMED = 3,
		     MC_TOPO_STATE_ACTIVE = 4,
		     MC_TOPO_STATE_ACTIVE_DEFER = 5,
		     MC_TOPO_STATE_UP = 6,
};
enum mc_topo_link { MC_TOPO_LINK_UNKNOWN, MC_TOPO_LINK_INFINIBAND, MC_TOPO_LINK_ETHERNET };
enum mc_topo_gid_type { MC_TOPO_GID_UNKNOWN, MC_TOPO_GID_V1, MC_TOPO_GID_V2 }; /* V1: "IB/RoCE v1" */

struct mc_topo_gid {
	uint32_t index;
	uint8_t raw[16];
	enum mc_topo_gid_type type;
	char netdev[MC_TOPO_NAME_MAX]; /* "": not told */
};

/* A port of an OpenFabrics device, or a network interface (port 0). */
struct mc_topo_nic {
	enum mc_topo_kind kind;
	char name[MC_TOPO_NAME_MAX];
	uint32_t port;
	enum mc_topo_state state;
	char phys_state[32]; /* "LinkUp"; "": not told */
	uint32_t rate_mbps;  /* 0: unknown */
	enum mc_topo_link link;
	uint32_t mtu; /* network interfaces; 0: unknown */
	uint32_t lid;
	uint32_t pci; /* index into pci[]; MC_TOPO_NONE: not on PCI */
	struct mc_topo_loc loc;
	char guid[20];                 /* node GUID as sysfs writes it; "": not told */
	char address[64];              /* hardware address of an interface */
	char netdev[MC_TOPO_NAME_MAX]; /* interface that carries this port's addresses; "": not told */
	bool is_virtual;               /* interface without hardware behind it: bridge, veth, tunnel */
	bool is_bridge;
	bool default_route;
	bool no_address; /* interface without an IP address: of no use for TCP */
	bool is_loopback;
	bool present; /* seen in /sys of the machine, not only in hwloc's tree */
	/* Those that it is directly connected to, each a hash of prefix and length. */
	uint64_t network[MC_TOPO_NETWORK_MAX];
	uint32_t network_n;
	uint32_t rail;   /* number among the ports of this kind in order of PCI ids: equal numbers on equal hosts */
	struct mc_topo_gid *gid; /* [gid_n]; only slots that are filled */
	uint32_t gid_n;
};

struct mc_topo {
	char source[256]; /* "this machine", "file X" */
	bool live;        /* of this machine, now */
	uint32_t packages, cores, pus;
	struct mc_topo_node *node; /* [node_n], by os_index */
	uint32_t node_n;
	struct mc_topo_bridge *bridge; /* [bridge_n], parents before children */
	uint32_t bridge_n;
	struct mc_topo_pci *pci; /* [pci_n], by PCI id; without hwloc only those of NICs, in no order */
	uint32_t pci_n;
	struct mc_topo_gpu *gpu; /* [gpu_n], by name in natural order */
	uint32_t gpu_n;
	struct mc_topo_nic *nic; /* [nic_n], OpenFabrics first, each kind by PCI id, then name and port */
	uint32_t nic_n;
};

/* ---- loading ----------------------------------------------------------------------------------------------------- */

struct mc_topo_src {
	const char *xml_file; /* an hwloc XML file (1.x or 2.x); NULL: this machine (or what HWLOC_XMLFILE names) */
	/*
	 * Root of /sys and /proc for ports, GIDs, interfaces: "/" this machine, a folder with a recorded tree, "" none.
	 * NULL: "/" for this machine, none for a file.
	 */
	const char *root;
	/* Ask CUDA, NVML and ROCm for the names of GPUs: for people; it starts their drivers, which may take seconds.
	 */
	bool gpu_names;
	/*
	 * Let hwloc work in a child process: a damaged XML file crashes it, and then is an error here. For programs
	 * without threads; a process with registered memory or a GPU should not fork.
	 */
	bool isolate;
	bool kernel_only;  /* no hwloc: NUMA nodes from the kernel, nothing of PCI; cheap. Not with xml_file. */
	bool present_only; /* of the NICs only those that /sys of this machine has; for a file of this machine */
	bool loopback;     /* loopback interfaces too; they are used only where a policy includes them */
	bool addressed;    /* only interfaces with an address: on hosts with hundreds of others it saves much */
};

/*
 * MC_ERR_NOENT: the file cannot be read; MC_ERR_INVAL: it is no topology, or not one of sane size; MC_ERR_NOMEM;
 * MC_ERR_UNSUPPORTED: XML in a build without hwloc.
 */
mc_status_t mc_topo_load(const struct mc_topo_src *src, struct mc_topo **topo_out, char *err, size_t err_len);
/* What a file is now, as a word; another file, or this one after a change, has another. false: no readable file. */
bool mc_topo_file_mark(const char *path, char *out, size_t len);
/* From the bytes of an XML file, without sysfs; name is for messages. */
mc_status_t mc_topo_load_xml(const void *xml, size_t len, const char *name, bool isolate, struct mc_topo **topo_out,
			     char *err, size_t err_len);
void mc_topo_free(struct mc_topo *t);

/* One counter of a port or an interface. */
struct mc_topo_counter {
	char name[MC_TOPO_NAME_MAX];
	uint64_t value;
	bool hw; /* from hw_counters */
};
/* Read them now; *out is freed with free(). MC_ERR_NOENT: there are none. */
mc_status_t mc_topo_counters(const char *root, const struct mc_topo_nic *nic, struct mc_topo_counter **out,
			     uint32_t *n_out);

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

/* How near two things are; larger is nearer. */
enum mc_topo_near {
	MC_NEAR_OTHER = 0, /* another package */
	MC_NEAR_UNKNOWN,   /* one of the two could be anywhere */
	MC_NEAR_PACKAGE,
	MC_NEAR_NODE,
	MC_NEAR_HOSTBRIDGE,
	MC_NEAR_SWITCH, /* the host bridge and at least one bridge below it */
};

enum mc_topo_buf_kind { MC_TOPO_BUF_ANYWHERE, MC_TOPO_BUF_NODE, MC_TOPO_BUF_PCI };
/* Where a buffer's memory is. */
struct mc_topo_buf {
	enum mc_topo_buf_kind kind;
	uint32_t index; /* into node[] or pci[] */
};

/* "numa1", "cuda0" or any other name of a GPU, a PCI id, "any". MC_ERR_NOENT: err lists the known. */
mc_status_t mc_topo_buf_find(const struct mc_topo *t, const char *name, struct mc_topo_buf *out, char *err,
			     size_t err_len);
void mc_topo_buf_name(const struct mc_topo *t, const struct mc_topo_buf *b, char *out, size_t len);

/*
 * What the user wants instead of the nearest. Spec, comma separated: "mlx5_0,mlx5_1:1" use only these; "^mlx5_0,mlx5_3"
 * all but these; "cuda0=mlx5_2,numa1=mlx5_3:1+mlx5_4" these for this memory. A name without port means all its ports.
 * "": nothing.
 */
struct mc_topo_map {
	struct mc_topo_buf buf;
	uint32_t nic;
};
struct mc_topo_policy {
	bool *include; /* [nic_n]; NULL: all */
	bool *exclude; /* [nic_n]; NULL: none */
	struct mc_topo_map *map;
	uint32_t map_n;
	uint32_t nic_n;
};
/* MC_ERR_CONFIG: err names what is wrong and lists the known names. An empty policy needs no free. */
mc_status_t mc_topo_policy_parse(const struct mc_topo *t, const char *spec, struct mc_topo_policy *out, char *err,
				 size_t err_len);
void mc_topo_policy_free(struct mc_topo_policy *p);

struct mc_topo_want {
	enum mc_topo_kind kind;
	struct mc_topo_buf buf;
	const struct mc_topo_policy *policy; /* NULL: none */
	uint32_t local_rank;                 /* number of this rank on its host; spreads ranks over equally near NICs */
	uint32_t use_max;                    /* use at most that many NICs; 0: all that are equally near */
	uint32_t sharers;                    /* ranks that share the equally near, each its part; 0: nobody */
};

struct mc_topo_pick {
	uint32_t nic; /* index into nic[] */
	enum mc_topo_near near;
	bool use;        /* stripe over these */
	bool dead;       /* port not usable now */
	bool mapped;     /* an override put it first */
	bool other_link; /* the other link layer: cannot talk to those that are used */
	bool slow;       /* a quarter of the fastest, or less */
	bool apart;      /* mc_topo_choose_rank(): a port that is not used, but in a network that the used are not in */
	uint32_t hops;   /* same switch: bridges on the way up to the common one and down again */
	uint32_t tier;   /* 0: best; equal numbers are equally good */
	uint32_t score;  /* 100 best, 0 dead */
	uint64_t key;    /* order of the list, descending; equal keys are one tier */
	char reason[160];
};

struct mc_topo_choice {
	struct mc_topo_pick *pick; /* [n], best first, dead last */
	uint32_t n, use_n;         /* the first use_n are used; 0: nothing here works */
	char note[256];            /* what the user should know; "": nothing */
};

/* MC_ERR_NOMEM. Free with mc_topo_choice_free(). */
mc_status_t mc_topo_choose(const struct mc_topo *t, const struct mc_topo_want *want, struct mc_topo_choice *out);
void mc_topo_choice_free(struct mc_topo_choice *c);
/*
 * For a rank: like mc_topo_choose(), but of interfaces also those are used that lead to networks which the nearest do
 * not reach: a peer may have an address in those only. Such ports are marked (apart).
 */
mc_status_t mc_topo_choose_rank(const struct mc_topo *t, const struct mc_topo_want *want, struct mc_topo_choice *out);
/* Ranks of this host that share the NICs near that memory, if they are dealt out evenly over the nodes. */
uint32_t mc_topo_sharers(const struct mc_topo *t, const struct mc_topo_buf *buf, uint32_t local_size);
/*
 * The node where all of these CPUs are, bit i of cpu[] is CPU i; MC_TOPO_NONE: several, none, or there is but one node,
 * so that nothing is to be decided.
 */
uint32_t mc_topo_home(const struct mc_topo *t, const uint64_t *cpu, uint32_t cpu_max);
/* The used ones as "mlx5_0:1,mlx5_1:1" or "eth0": what UCX_NET_DEVICES and MC_DEVICE take. false: does not fit. */
bool mc_topo_choice_devices(const struct mc_topo *t, const struct mc_topo_choice *c, char *out, size_t len);

enum mc_topo_near mc_topo_near(const struct mc_topo *t, const struct mc_topo_buf *buf, const struct mc_topo_loc *loc);
bool mc_topo_nic_live(const struct mc_topo_nic *nic);

/* Index into gid[] of the GID to use: RoCE v2 with an IPv4 or global address before others; MC_TOPO_NONE: none fits. */
uint32_t mc_topo_gid_best(const struct mc_topo_nic *nic);

/* ---- what a rank publishes about a NIC, and pairing with a peer's -------------------------------------------------
 */

struct mc_topo_nic_id {
	char name[MC_TOPO_NAME_MAX];
	uint32_t port, rail, rate_mbps;
	uint32_t link;   /* enum mc_topo_link */
	uint8_t gid[16]; /* all zero: none */
	uint32_t gid_index;
};
void mc_topo_nic_id_fill(const struct mc_topo_nic *nic, struct mc_topo_nic_id *out);

struct mc_topo_pair {
	uint32_t mine, theirs; /* indexes into the two lists */
	bool same_rail;
};
/*
 * Pair the NICs that this rank uses with those that a peer uses: only equal link layers (unknown fits any); same rail
 * first, the rest in order. No NIC is in two pairs while another is in none, and both sides come to the same pairs.
 * Each pair is in order of this rank's list. room: at least the longer list's length. Number of pairs; 0: they cannot
 * reach each other.
 */
uint32_t mc_topo_pair(const struct mc_topo_nic_id *mine, uint32_t mine_n, const struct mc_topo_nic_id *theirs,
		      uint32_t theirs_n, struct mc_topo_pair *out, uint32_t room);

/* ---- words, text, JSON, pictures
 * ------------------------------------------------------------------------------------- */

const char *mc_topo_state_name(enum mc_topo_state s); /* "ACTIVE", "UNKNOWN" */
const char *mc_topo_link_name(enum mc_topo_link l);   /* "InfiniBand", "Ethernet", NULL: unknown */
const char *mc_topo_kind_name(enum mc_topo_kind k);   /* "openfabrics", "network" */
const char *mc_topo_near_text(enum mc_topo_near n);   /* "same PCIe switch" */
const char *mc_topo_gid_type_name(enum mc_topo_gid_type t);
/* "mlx5_0:1", "eth0" */
void mc_topo_nic_text(const struct mc_topo_nic *nic, char *out, size_t len);
void mc_topo_nodes_text(const struct mc_topo *t, const struct mc_topo_nodeset *s, char *out, size_t len); /* "0,4" */
/* fe80::1 style, or 10.0.0.1 for a mapped one */
void mc_topo_gid_text(const uint8_t raw[16], char *out, size_t len);
bool mc_topo_nodeset_has(const struct mc_topo_nodeset *s, uint32_t index);
int mc_topo_natural_cmp(const char *a, const char *b); /* mlx5_2 before mlx5_10 */

struct mc_topo_show {
	const struct mc_topo_policy *policy; /* NULL: none */
	uint32_t local_rank, use_max;
};
/* false: no memory, or the stream has an error. */
bool mc_topo_print_text(const struct mc_topo *t, const struct mc_topo_show *show, FILE *to);
bool mc_topo_print_json(const struct mc_topo *t, const struct mc_topo_show *show, FILE *to);
bool mc_topo_print_dot(const struct mc_topo *t, const struct mc_topo_show *show, FILE *to);
/* A gnuplot script that draws the matrix to the PNG file. */
bool mc_topo_print_gnuplot(const struct mc_topo *t, const struct mc_topo_show *show, const char *png, FILE *to);
void mc_topo_json_string(FILE *to, const char *s); /* quoted and escaped; bytes that are no UTF-8 as U+FFFD */

/* The memories of the list above: NUMA nodes by number, then GPUs by name. */
uint32_t mc_topo_memory_n(const struct mc_topo *t);
struct mc_topo_buf mc_topo_memory(const struct mc_topo *t, uint32_t i);

#endif

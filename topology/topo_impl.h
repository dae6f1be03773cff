/* SPDX-License-Identifier: BSD-3-Clause */
/* topo_impl.h - between the files of this folder. */
#ifndef MC_TOPO_IMPL_H
#define MC_TOPO_IMPL_H

#include "topo.h"
#include "util.h"

/* Write the sentence for the user; returns s, so that `return mc_topo_fail(...)` reads as what it is. */
mc_status_t mc_topo_fail(mc_status_t s, char *err, size_t err_len, const char *fmt, ...) MC_PRINTF(4, 5);
/* Copy what fits, always with a NUL. */
void mc_topo_copy(char *out, size_t len, const char *text);
/* Append formatted text at *at, never past len; *at stays at the end of what fitted. */
void mc_topo_append(char *out, size_t len, size_t *at, const char *fmt, ...) MC_PRINTF(4, 5);
/*
 * Room for one more zeroed element in *array of elements of `size` bytes: its address, or NULL. *n counts; memory is
 * taken in powers of two.
 */
void *mc_topo_push(void *array, uint32_t *n, size_t size);

void mc_topo_set_add(struct mc_topo_nodeset *s, uint32_t index);
bool mc_topo_set_meets(const struct mc_topo_nodeset *a, const struct mc_topo_nodeset *b);

/* ---- topo_parse.c: texts of sysfs and /proc; any bytes, len of them, give true and a value or false ---- */

bool mc_topo_parse_state(const char *s, size_t len, enum mc_topo_state *out);        /* "4: ACTIVE" */
bool mc_topo_parse_phys_state(const char *s, size_t len, char *out, size_t out_len); /* "5: LinkUp" */
bool mc_topo_parse_rate(const char *s, size_t len, uint32_t *mbps_out);              /* "400 Gb/sec (4X NDR)" */
bool mc_topo_parse_link(const char *s, size_t len, enum mc_topo_link *out);          /* "InfiniBand" */
bool mc_topo_parse_gid(const char *s, size_t len, uint8_t out[16]);                  /* 8 groups of 4 hex digits */
bool mc_topo_parse_gid_type(const char *s, size_t len, enum mc_topo_gid_type *out);  /* "RoCE v2" */
bool mc_topo_parse_operstate(const char *s, size_t len, enum mc_topo_state *out);    /* "up" */
bool mc_topo_parse_u64(const char *s, size_t len, uint64_t *out);                    /* "12", "0x1f" */
bool mc_topo_parse_i64(const char *s, size_t len, int64_t *out);                     /* "-1" */
bool mc_topo_parse_word(const char *s, size_t len, char *out, size_t out_len);       /* a line of printable text */
/* "c5:00.0" or "0000:c5:00.0" in any case, made uniform. */
bool mc_topo_parse_busid(const char *s, size_t len, char out[24]);
/* "0-3,7": calls add for each number below max; false: not such a list, or a number too large. */
bool mc_topo_parse_list(const char *s, size_t len, uint32_t max, void (*add)(void *arg, uint32_t value), void *arg);
/* network: of the prefix that the interface is directly connected to; 0: none told by this line */
typedef void (*mc_topo_addr_f)(void *arg, const char *name, bool is_default, uint64_t network);
/* /proc/net/route: f for each interface that has an IPv4 route, so an address. */
void mc_topo_parse_route(const char *s, size_t len, mc_topo_addr_f f, void *arg);
/* /proc/net/if_inet6: f for each interface with an IPv6 address that is not link-local. */
void mc_topo_parse_inet6(const char *s, size_t len, mc_topo_addr_f f, void *arg);

/* ---- loaders: hwloc's tree first, then what sysfs says about ports and interfaces, then order and names ---- */

/* topo_hwloc.c, or topo_nohwloc.c in a build without hwloc. */
struct mc_topo_input {
	const void *xml; /* [len]; NULL: this machine */
	size_t len;
	const char *name; /* of the XML, for messages */
	bool gpu_names, isolate;
};
mc_status_t mc_topo_read_hwloc(struct mc_topo *t, const struct mc_topo_input *in, char *err, size_t err_len);
/* topo_kernel.c: nodes as the kernel shows them; root "" or a recorded tree */
mc_status_t mc_topo_read_kernel(struct mc_topo *t, const char *root, char *err, size_t err_len);
/* topo_isolate.c: the same in a child process */
mc_status_t mc_topo_read_isolated(struct mc_topo *t, const struct mc_topo_input *in, char *err, size_t err_len);
/* topo_sysfs.c: add to what is there; what cannot be read or understood is left out. False: no memory. */
bool mc_topo_read_sysfs(struct mc_topo *t, const char *root, const struct mc_topo_src *src);
/* topo_load.c */
uint32_t mc_topo_pci_find(const struct mc_topo *t, const char *busid); /* MC_TOPO_NONE: not there */

/* ---- topo_score.c ---- */
struct mc_topo_loc mc_topo_buf_loc(const struct mc_topo *t, const struct mc_topo_buf *b);

/* ---- printing ---- */
/* Best list for a memory: RDMA ports, then interfaces, then the dead of both. Free with mc_topo_choice_free(). */
mc_status_t mc_topo_choose_all(const struct mc_topo *t, const struct mc_topo_show *show, const struct mc_topo_buf *buf,
			       struct mc_topo_choice *out);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sysparse.h - the texts of sysfs, procfs and cgroup files as values. Pure: any NUL-terminated bytes give true and a
 * value, or false and an untouched one. Blanks around a value are allowed, anything else behind it is not.
 */
#ifndef MCRUN_SYSPARSE_H
#define MCRUN_SYSPARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool mc_sys_u64(const char *s, uint64_t *out); /* "42", "0x1c" */
bool mc_sys_i64(const char *s, int64_t *out);  /* "-1" */
bool mc_sys_max(const char *s, uint64_t *out); /* as u64; "max" and "unlimited" give UINT64_MAX */
bool mc_sys_hex(const char *s, uint64_t *out); /* "000001ffffffffff", as capability sets are written */
/* "4: ACTIVE" gives 4 and "ACTIVE" */
bool mc_sys_state(const char *s, uint32_t *num_out, char *name, size_t len);
/* "400 Gb/sec (4X NDR)" gives 400000, "2.5 Gb/sec (1X SDR)" 2500 */
bool mc_sys_rate(const char *s, uint32_t *mbps_out);
/* "16.0 GT/s PCIe", "8 GT/s" give 16000, 8000 */
bool mc_sys_gts(const char *s, uint32_t *mts_out);
/* Eight groups of four hexadecimal digits. */
bool mc_sys_gid(const char *s, uint8_t raw[16]);

enum mc_gid_kind { MC_GID_ZERO, MC_GID_LINK_LOCAL, MC_GID_IPV4, MC_GID_GLOBAL };
enum mc_gid_kind mc_sys_gid_kind(const uint8_t raw[16]);

/* "Max locked memory   8388608   unlimited   bytes" of /proc/self/limits; unlimited is UINT64_MAX. */
bool mc_sys_limit(const char *limits, const char *name, uint64_t *soft_out, uint64_t *hard_out);
/* The rest of the line "KEY:   rest" or "KEY rest" of /proc/self/status, meminfo, memory.stat, without blanks around.
 */
bool mc_sys_field(const char *text, const char *key, char *out, size_t len);
/* Same, a number of bytes: "1234 kB" gives 1234 * 1024, "12" 12. */
bool mc_sys_field_bytes(const char *text, const char *key, uint64_t *out);
/*
 * Path in /proc/self/cgroup: of controller, or for NULL that of version 2 ("0::/a/b"). False as well for a path that
 * is not absolute or has ".." in it: it lies outside of what is mounted here.
 */
bool mc_sys_cgroup_path(const char *text, const char *controller, char *out, size_t len);
/*
 * A line of /proc/self/mountinfo: the last mounted of this file system type (NULL: any), at this mount point (NULL:
 * any), with this option of the file system (NULL: any).
 */
struct mc_sys_mount {
	char root[512], point[512], type[64], options[512];
};
bool mc_sys_mount(const char *text, const char *type, const char *point, const char *option, struct mc_sys_mount *out);
/* Numbers in "0-3,8"; in any: is one of them also in other? False: not a list. "" is an empty one. */
bool mc_sys_list_count(const char *list, uint32_t *n_out);
bool mc_sys_list_meets(const char *list, const char *other, bool *meets_out);
/* "6.1.0-18-amd64" gives 6, 1 */
bool mc_sys_version(const char *s, uint32_t *major_out, uint32_t *minor_out);
/* Control word of the ACS capability in a PCI configuration space of len bytes. False: there is none, or it is not in
 * len. */
bool mc_sys_acs(const uint8_t *cfg, size_t len, uint16_t *control_out);
/* "65536", "64K", "512M", "1.5G", "2GiB", "16Gi": a number of bytes. */
bool mc_sys_size(const char *s, uint64_t *out);
/* "0000:c5:00.0" */
bool mc_sys_is_bdf(const char *s);
/* 12.3 GiB */
void mc_sys_bytes_text(uint64_t n, char *out, size_t len);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sysroot.h - the one way in which doctor, watch and the cgroup code read /sys, /proc and /dev: of this machine, or of
 * a recorded tree, in which no link leads out of it. Every read is bounded in size; nothing waits for a device or a
 * pipe.
 *
 * What is no file (the size of a file system, what a name resolves to) is a "probe": on this machine a function finds
 * it out, in a recorded tree it is the file probe/NAME.
 */
#ifndef MCRUN_SYSROOT_H
#define MCRUN_SYSROOT_H

#include "text.h"

struct mc_sysroot;

#define MC_SYS_ONE_MAX  4096        /* bytes of a file with one value */
#define MC_SYS_TEXT_MAX (256 << 10) /* bytes of any text file */

/* Finds out what probe NAME wants to know; arg as given to mc_sysroot_probe(). 0, or an errno. */
typedef int mc_sysroot_probe_fn(const char *name, const char *arg, char *out, size_t len);

/* dir NULL: this machine. record NULL, or an empty directory into which what is read is copied. */
int mc_sysroot_open(const char *dir, const char *record, mc_sysroot_probe_fn *probe, struct mc_sysroot **out,
		    struct mc_err *err);
void mc_sysroot_close(struct mc_sysroot *r);
bool mc_sysroot_is_live(const struct mc_sysroot *r);
/* 0, or the errno of the first thing that could not be recorded. */
int mc_sysroot_record_error(const struct mc_sysroot *r);
unsigned mc_sysroot_recorded(const struct mc_sysroot *r);

/*
 * Text of an absolute path without the blanks and newlines at its end, always terminated; NUL bytes in it become '?'.
 * 0, or an errno: ENOENT, EACCES, EFBIG (longer than len - 1), EINVAL as an empty GID slot gives it, ...
 */
int mc_sysroot_read(struct mc_sysroot *r, const char *path, char *out, size_t len);
int mc_sysroot_readf(struct mc_sysroot *r, char *out, size_t len, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* As text: up to MC_SYS_TEXT_MAX; free() it. NULL: errno in *error_out. */
char *mc_sysroot_text(struct mc_sysroot *r, const char *path, int *error_out);
/* Bytes as they are, up to len. */
int mc_sysroot_bytes(struct mc_sysroot *r, const char *path, void *out, size_t len, size_t *n_out);
/* Names in a directory, in natural order, without those that begin with a dot; at most 4096. */
int mc_sysroot_list(struct mc_sysroot *r, const char *path, struct mc_strv *names);
bool mc_sysroot_exists(struct mc_sysroot *r, const char *path);
/* What a link leads to, as a path of this machine: "/sys/devices/pci0000:00/0000:00:03.0". */
int mc_sysroot_link(struct mc_sysroot *r, const char *path, char *out, size_t len);
int mc_sysroot_probe(struct mc_sysroot *r, const char *name, const char *arg, char *out, size_t len);

/* mlx5_2 before mlx5_10 */
int mc_natural_cmp(const char *a, const char *b);
/* Bytes that would harm a terminal or a JSON text become '?'; UTF-8 stays. */
void mc_text_clean(char *s);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
#include "sysroot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAMES_MAX 4096
#define PROBE_DIR "/probe"
#define LINKS     PROBE_DIR "/links"
#define DENIED    PROBE_DIR "/unreadable"

struct mc_sysroot {
	int fd;     /* of the tree, or of "/" */
	int record; /* -1: not recording */
	bool live;
	int record_error;
	unsigned recorded;
	mc_sysroot_probe_fn *probe;
	char *links, *denied; /* files of a recorded tree, once read */
};

int mc_sysroot_open(const char *dir, const char *record, mc_sysroot_probe_fn *probe, struct mc_sysroot **out,
		    struct mc_err *err)
{
	struct mc_sysroot *r = mc_xalloc(1, sizeof(*r));
	struct mc_strv names = {0};

	*r = (struct mc_sysroot){.record = -1, .live = dir == NULL, .probe = probe};
	r->fd = open(dir == NULL ? "/" : dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->fd < 0) {
		(void)mc_err_set(err, "cannot read the tree %s: %s", dir == NULL ? "/" : dir, strerror(errno));
		goto undo;
	}
	if (record != NULL) {
		if (mkdir(record, 0700) != 0 && errno != EEXIST) {
			(void)mc_err_set(err, "cannot make the directory %s: %s", record, strerror(errno));
			goto undo;
		}
		r->record = open(record, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (r->record < 0) {
			(void)mc_err_set(err, "cannot record into %s: %s", record, strerror(errno));
			goto undo;
		}
		DIR *d = fdopendir(dup(r->record));
		for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
			if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
				mc_strv_add(&names, e->d_name);
		if (d != NULL)
			(void)closedir(d);
		if (names.n > 0) {
			(void)mc_err_set(err, "%s is not empty; --record wants a new or empty directory", record);
			goto undo;
		}
	}
	*out = r;
	return 0;
undo:
	mc_strv_free(&names);
	mc_sysroot_close(r);
	return -1;
}

void mc_sysroot_close(struct mc_sysroot *r)
{
	if (r == NULL)
		return;
	if (r->fd >= 0)
		(void)close(r->fd);
	if (r->record >= 0)
		(void)close(r->record);
	free(r->links);
	free(r->denied);
	free(r);
}

bool mc_sysroot_is_live(const struct mc_sysroot *r)
{
	return r->live;
}

int mc_sysroot_record_error(const struct mc_sysroot *r)
{
	return r->record_error;
}

unsigned mc_sysroot_recorded(const struct mc_sysroot *r)
{
	return r->recorded;
}

/* ---- recording --------------------------------------------------------------------------------------------------- */

static int record_dirs(struct mc_sysroot *r, const char *path, bool last_too)
{
	char part[PATH_MAX];

	if (strlen(path) >= sizeof(part))
		return ENAMETOOLONG;
	for (const char *p = path + 1;; p++) {
		p += strcspn(p, "/");
		if (*p == '\0' && !last_too)
			return 0;
		(void)snprintf(part, sizeof(part), "%.*s", (int)(p - path - 1), path + 1);
		if (*part != '\0' && mkdirat(r->record, part, 0700) != 0 && errno != EEXIST)
			return errno;
		if (*p == '\0')
			return 0;
	}
}

static void record_bytes(struct mc_sysroot *r, const char *path, const void *data, size_t len, int how)
{
	int e = r->record < 0 ? 0 : record_dirs(r, path, false);

	if (r->record < 0)
		return;
	int fd = e != 0 ? -1 : openat(r->record, path + 1, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | how, 0600);
	if (fd >= 0) {
		if (write(fd, data, len) != (ssize_t)len)
			e = errno == 0 ? ENOSPC : errno;
		(void)close(fd);
		r->recorded++;
	} else if (e == 0) {
		e = errno;
	}
	if (e != 0 && e != EISDIR && r->record_error == 0)
		r->record_error = e;
}

/* A line "PATH<tab>TEXT" in a file of the record; the first of a path counts. */
static void record_line(struct mc_sysroot *r, const char *file, const char *path, const char *text)
{
	if (r->record < 0)
		return;
	char *line = mc_xformat("%s\t%s\n", path, text);
	record_bytes(r, file, line, strlen(line), O_APPEND);
	free(line);
}

static void record_error(struct mc_sysroot *r, const char *path, int e)
{
	char num[16];

	if (e == ENOENT || e == ENOTDIR)
		return; /* what is not there is not recorded either */
	(void)snprintf(num, sizeof(num), "%d", e);
	record_line(r, DENIED, path, num);
}

/* The text behind "PATH<tab>" in a file of a recorded tree. */
static bool look_up(struct mc_sysroot *r, const char *file, const char *path, char *out, size_t len);

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static int open_path(struct mc_sysroot *r, const char *path, int flags)
{
	/* with O_PATH nothing is opened, and the kernel refuses flags that would be about that */
	int common = flags & O_PATH ? O_CLOEXEC : O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(common | flags),
		.resolve = r->live ? 0 : RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	while (*path == '/')
		path++;
	long fd = syscall(SYS_openat2, r->fd, *path == '\0' ? "." : path, &how, sizeof(how));
	if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
		/* an old kernel, or a sandbox that does not know the call; in a tree links are then not followed at all
		 */
		if (!r->live && strstr(path, "..") != NULL)
			return -1;
		return openat(r->fd, *path == '\0' ? "." : path, (int)how.flags | (r->live ? 0 : O_NOFOLLOW));
	}
	return (int)fd;
}

static int fill(int fd, char *out, size_t len, size_t *n_out)
{
	size_t n = 0;

	while (n < len) {
		ssize_t got = read(fd, out + n, len - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	*n_out = n;
	return 0;
}

static int recorded_error(struct mc_sysroot *r, const char *path)
{
	char num[16];
	uint32_t e;

	if (r->live || !look_up(r, DENIED, path, num, sizeof(num)) || !mc_text_count(num, &e) || e == 0 || e > 4095)
		return 0;
	return (int)e;
}

/* Up to len bytes without looking at them; the record is not kept here. */
static int read_raw(struct mc_sysroot *r, const char *path, char *out, size_t len, size_t *n_out)
{
	struct stat st;
	int e = 0;
	int fd = open_path(r, path, 0);

	*n_out = 0;
	if (fd < 0)
		return errno;
	if (fstat(fd, &st) != 0)
		e = errno;
	else if (S_ISDIR(st.st_mode))
		e = EISDIR;
	else if (!S_ISREG(st.st_mode))
		e = EINVAL; /* a pipe or a device could block, or mean something when read */
	if (e == 0)
		e = fill(fd, out, len, n_out);
	(void)close(fd);
	return e;
}

static bool look_up(struct mc_sysroot *r, const char *file, const char *path, char *out, size_t len)
{
	char **text = strcmp(file, LINKS) == 0 ? &r->links : &r->denied;
	size_t n, key = strlen(path);

	if (*text == NULL) {
		*text = mc_xalloc(MC_SYS_TEXT_MAX + 1, 1);
		if (read_raw(r, file, *text, MC_SYS_TEXT_MAX, &n) != 0)
			(*text)[0] = '\0';
	}
	for (const char *p = *text; *p != '\0'; p += *p == '\n') {
		size_t line = strcspn(p, "\n");

		if (line > key && strncmp(p, path, key) == 0 && p[key] == '\t' && line - key - 1 < len) {
			(void)snprintf(out, len, "%.*s", (int)(line - key - 1), p + key + 1);
			return true;
		}
		p += line;
	}
	return false;
}

/* A command line can hold what its owner would not publish, and the mounts name other people's servers. */
static void keep_harmless(const char *path, char *text)
{
	static const char *const words[] = {"iommu=", "intel_iommu=", "amd_iommu=", "iommu.passthrough="};
	char *to = text;

	if (strcmp(path, "/proc/cmdline") == 0) {
		for (char *w = text; *w != '\0';) {
			size_t len = strcspn(w, " \n");

			for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
				if (strncmp(w, words[i], strlen(words[i])) != 0)
					continue;
				memmove(to, w, len);
				to[len] = ' ';
				to += len + (w[len] != '\0');
				break;
			}
			w += len + (w[len] != '\0');
		}
		*to = '\0';
	}
	if (strcmp(path, "/proc/self/mountinfo") == 0) {
		for (char *l = text; *l != '\0';) {
			size_t len = strcspn(l, "\n");
			char end = l[len];

			l[len] = '\0';
			bool keep = strstr(l, " / / ") != NULL || strstr(l, " /dev/shm ") != NULL ||
				    strstr(l, " - cgroup") != NULL || strstr(l, " - overlay ") != NULL;
			keep = keep && (strstr(l, " - overlay ") == NULL || strstr(l, " / / ") != NULL);
			l[len] = end;
			if (keep) {
				memmove(to, l, len);
				to += len;
				*to++ = '\n';
			}
			l += len + (end != '\0');
		}
		*to = '\0';
	}
}

static int read_text(struct mc_sysroot *r, const char *path, char *out, size_t len)
{
	size_t n;
	int e = recorded_error(r, path);

	out[0] = '\0';
	if (e == 0)
		e = read_raw(r, path, out, len, &n);
	if (e == 0 && n == len)
		e = EFBIG;
	if (e != 0) {
		out[0] = '\0';
		record_error(r, path, e);
		return e;
	}
	for (size_t i = 0; i < n; i++)
		if (out[i] == '\0')
			out[i] = '?';
	out[n] = '\0';
	keep_harmless(path, out);
	record_bytes(r, path, out, strlen(out), O_TRUNC);
	for (n = strlen(out); n > 0 && strchr(" \t\r\n", out[n - 1]) != NULL; n--)
		out[n - 1] = '\0';
	return 0;
}

int mc_sysroot_read(struct mc_sysroot *r, const char *path, char *out, size_t len)
{
	return read_text(r, path, out, len);
}

int mc_sysroot_readf(struct mc_sysroot *r, char *out, size_t len, const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	out[0] = '\0';
	return n < 0 || (size_t)n >= sizeof(path) ? ENAMETOOLONG : read_text(r, path, out, len);
}

char *mc_sysroot_text(struct mc_sysroot *r, const char *path, int *error_out)
{
	char *text = mc_xalloc(MC_SYS_TEXT_MAX + 1, 1);
	int e = read_text(r, path, text, MC_SYS_TEXT_MAX + 1);

	if (error_out != NULL)
		*error_out = e;
	if (e == 0)
		return text;
	free(text);
	return NULL;
}

int mc_sysroot_bytes(struct mc_sysroot *r, const char *path, void *out, size_t len, size_t *n_out)
{
	int e = recorded_error(r, path);

	*n_out = 0;
	if (e == 0)
		e = read_raw(r, path, out, len, n_out);
	if (e == 0)
		record_bytes(r, path, out, *n_out, O_TRUNC);
	else
		record_error(r, path, e);
	return e;
}

static int by_name(const void *a, const void *b)
{
	return mc_natural_cmp(*(char *const *)a, *(char *const *)b);
}

static void record_entry(struct mc_sysroot *r, int dir, const char *path, const char *name)
{
	struct stat st;

	if (r->record < 0)
		return;
	char *full = mc_xformat("%s/%s", path, name);
	if (fstatat(dir, name, &st, 0) == 0 && S_ISDIR(st.st_mode))
		(void)record_dirs(r, full, true);
	else
		record_bytes(r, full, "", 0, 0);
	free(full);
}

int mc_sysroot_list(struct mc_sysroot *r, const char *path, struct mc_strv *names)
{
	int e = recorded_error(r, path);
	int fd = e != 0 ? -1 : open_path(r, path, O_DIRECTORY);
	size_t first = names->n;

	if (fd < 0) {
		e = e != 0 ? e : errno;
		record_error(r, path, e);
		return e;
	}
	DIR *d = fdopendir(fd);
	if (d == NULL) {
		(void)close(fd);
		return ENOMEM;
	}
	if (r->record >= 0)
		(void)record_dirs(r, path, true);
	for (struct dirent *de; names->n - first < NAMES_MAX && (de = readdir(d)) != NULL;) {
		if (de->d_name[0] == '.')
			continue;
		mc_strv_add(names, de->d_name);
		record_entry(r, dirfd(d), path, de->d_name);
	}
	(void)closedir(d);
	if (names->n > first)
		qsort(names->v + first, names->n - first, sizeof(*names->v), by_name);
	return 0;
}

bool mc_sysroot_exists(struct mc_sysroot *r, const char *path)
{
	struct stat st;
	int fd = open_path(r, path, O_PATH);

	if (fd < 0)
		return false;
	bool dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
	(void)close(fd);
	if (r->record >= 0 && dir)
		(void)record_dirs(r, path, true);
	else
		record_bytes(r, path, "", 0, 0);
	return true;
}

/* Join a link's text with the directory it stands in, and take out "." and "..". */
static void join_path(const char *path, const char *target, char *out, size_t len)
{
	char full[2 * PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = 0;

	if (*target == '/')
		(void)snprintf(full, sizeof(full), "%s", target);
	else
		(void)snprintf(full, sizeof(full), "%.*s/%s", slash == NULL ? 0 : (int)(slash - path), path, target);
	out[0] = '\0';
	for (const char *p = full; *p != '\0';) {
		size_t w = strcspn(p, "/");

		if (w == 2 && p[0] == '.' && p[1] == '.') {
			while (n > 0 && out[--n] != '/')
				;
		} else if (w > 0 && !(w == 1 && *p == '.') && n + w + 2 <= len) {
			out[n++] = '/';
			memcpy(out + n, p, w);
			n += w;
		}
		out[n] = '\0';
		p += w + (p[w] == '/');
	}
}

int mc_sysroot_link(struct mc_sysroot *r, const char *path, char *out, size_t len)
{
	char text[PATH_MAX];

	out[0] = '\0';
	if (r->live) {
		if (realpath(path, text) == NULL)
			return errno;
		if (strlen(text) >= len)
			return ENAMETOOLONG;
		memcpy(out, text, strlen(text) + 1);
		record_line(r, LINKS, path, out);
		return 0;
	}
	if (look_up(r, LINKS, path, out, len))
		return 0;
	int fd = open_path(r, path, O_PATH | O_NOFOLLOW);
	if (fd < 0)
		return errno;
	ssize_t n = readlinkat(fd, "", text, sizeof(text) - 1);
	int e = n < 0 ? (errno == ENOENT ? EINVAL : errno) : 0; /* ENOENT: it is no link */
	(void)close(fd);
	if (e != 0)
		return e;
	text[n] = '\0';
	join_path(path, text, out, len);
	return 0;
}

int mc_sysroot_probe(struct mc_sysroot *r, const char *name, const char *arg, char *out, size_t len)
{
	char path[256];
	int e;

	(void)snprintf(path, sizeof(path), PROBE_DIR "/%s", name);
	if (!r->live)
		return read_text(r, path, out, len);
	out[0] = '\0';
	e = r->probe == NULL ? ENOSYS : r->probe(name, arg, out, len);
	if (*name == '_')
		return e;
	if (e == 0)
		record_bytes(r, path, out, strlen(out), O_TRUNC);
	else
		record_error(r, path, e);
	return e;
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

int mc_natural_cmp(const char *a, const char *b)
{
	while (*a != '\0' && *b != '\0') {
		if (*a >= '0' && *a <= '9' && *b >= '0' && *b <= '9') {
			size_t la, lb;

			a += strspn(a, "0");
			b += strspn(b, "0");
			la = strspn(a, "0123456789");
			lb = strspn(b, "0123456789");
			if (la != lb)
				return la < lb ? -1 : 1;
			int c = memcmp(a, b, la);
			if (c != 0)
				return c;
			a += la;
			b += lb;
		} else if (*a != *b) {
			return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
		} else {
			a++;
			b++;
		}
	}
	return (*a != '\0') - (*b != '\0');
}

/* Length of the UTF-8 character at s; 0: not one, or a control character of the second range. */
static size_t utf8_len(const unsigned char *s)
{
	size_t n = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if (n == 0 || (n == 2 && s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) ||
	    (s[0] == 0xed && s[1] >= 0xa0) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
		return 0;
	return n;
}

void mc_text_clean(char *s)
{
	unsigned char *p = (unsigned char *)s;

	while (*p != '\0') {
		size_t n = *p < 0x80 ? (*p >= ' ' && *p != 0x7f) : utf8_len(p);

		if (n == 0)
			*p = *p == '\n' || *p == '\t' ? ' ' : '?';
		p += n == 0 ? 1 : n;
	}
}

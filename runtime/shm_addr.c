/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_addr.c - who this process is, what it publishes about itself, and who shares its host. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm.h"
#include "wire.h"

enum { ADDR_MAGIC = 0x4d435341 };

/* ---- this process ---------------------------------------------------------------------------------------- */

/* Content of a small file of /proc; its length, or -1 with errno. */
static ssize_t file_read(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, len - 1);
	err = errno;
	close(fd);
	errno = err;
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

/* State letter and start time of a process; false: no such process. */
static bool stat_read(pid_t pid, char *state, uint64_t *start)
{
	char path[64], buf[1024], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (file_read(path, buf, sizeof(buf)) <= 0)
		return false;
	p = strrchr(buf, ')'); /* the name before it may hold anything */
	if (p == NULL || p[1] != ' ')
		return false;
	p += 2;
	*state = *p;
	for (int field = 3; field < 22; field++) {
		p = strchr(p, ' ');
		if (p == NULL)
			return false;
		p++;
	}
	*start = strtoull(p, NULL, 10);
	return true;
}

/* start 0: any incarnation of that pid. */
bool mc_shm_process_gone(pid_t pid, uint64_t start)
{
	uint64_t now;
	char state;

	if (pid <= 0 || !stat_read(pid, &state, &now))
		return true;
	return state == 'Z' || state == 'X' || (start != 0 && now != start);
}

/* By a signal or a debugger: it will not go on by itself. */
bool mc_shm_process_stopped(pid_t pid)
{
	uint64_t start;
	char state;

	return stat_read(pid, &state, &start) && (state == 'T' || state == 't');
}

/* 36 characters of a uuid to 16 bytes. */
static bool uuid_parse(const char *text, uint8_t out[16])
{
	uint32_t n = 0;

	memset(out, 0, 16);
	for (; *text != '\0' && *text != '\n'; text++) {
		uint8_t v;

		if (*text == '-')
			continue;
		if (*text >= '0' && *text <= '9')
			v = (uint8_t)(*text - '0');
		else if (*text >= 'a' && *text <= 'f')
			v = (uint8_t)(*text - 'a' + 10);
		else
			return false;
		if (n == 32)
			return false;
		out[n / 2] = (uint8_t)(out[n / 2] << 4 | v);
		n++;
	}
	return n == 32;
}

mc_status_t mc_shm_self_init(struct mc_be *be, char *why, size_t why_len)
{
	char buf[64], state;
	struct stat st;
	ssize_t n;

	be->pid = getpid();
	be->uid = geteuid();
	be->instance = mc_random_u64();
	n = readlink("/proc/self", buf, sizeof(buf) - 1);
	if (n > 0)
		buf[n] = '\0';
	if (n <= 0 || strtol(buf, NULL, 10) != be->pid || !stat_read(be->pid, &state, &be->start)) {
		snprintf(why, why_len, "/proc does not show this process (mount proc of its pid namespace)");
		return MC_ERR_UNSUPPORTED;
	}
	if (file_read("/proc/sys/kernel/random/boot_id", buf, sizeof(buf)) <= 0 || !uuid_parse(buf, be->boot_id)) {
		snprintf(why, why_len, "cannot read /proc/sys/kernel/random/boot_id");
		return MC_ERR_UNSUPPORTED;
	}
	if (stat("/proc/self/ns/pid", &st) != 0) {
		snprintf(why, why_len, "cannot read /proc/self/ns/pid: %s", strerror(errno));
		return MC_ERR_UNSUPPORTED;
	}
	be->pidns = st.st_ino;
	if (stat("/proc/self/ns/net", &st) != 0) {
		snprintf(why, why_len, "cannot read /proc/self/ns/net: %s", strerror(errno));
		return MC_ERR_UNSUPPORTED;
	}
	be->netns = st.st_ino;
	return MC_OK;
}

/* ---- address --------------------------------------------------------------------------------------------- */

void mc_shm_addr_make(struct mc_be *be, const uint8_t *wake, uint32_t wake_len)
{
	struct stat st = {0};
	struct mc_wr w;

	(void)fstat(be->fd, &st);
	mc_wr_init(&w, be->addr, sizeof(be->addr));
	mc_wr_u32(&w, ADDR_MAGIC);
	mc_wr_u32(&w, SHM_VERSION);
	mc_wr_bytes(&w, be->boot_id, sizeof(be->boot_id));
	mc_wr_u64(&w, be->pidns);
	mc_wr_u64(&w, be->netns);
	mc_wr_u32(&w, be->uid);
	mc_wr_u32(&w, (uint32_t)be->pid);
	mc_wr_u64(&w, be->start);
	mc_wr_u64(&w, be->instance);
	mc_wr_u32(&w, (uint32_t)be->fd);
	mc_wr_u64(&w, st.st_dev);
	mc_wr_u64(&w, st.st_ino);
	mc_wr_u64(&w, be->file_len);
	mc_wr_blob(&w, wake, wake_len);
	mc_wr_u32(&w, mc_crc32c(0, be->addr, mc_wr_len(&w)));
	be->addr_len = (uint32_t)mc_wr_len(&w);
	be->box_wake_len = wake_len;
	memcpy(be->box_wake, wake, wake_len);
}

mc_status_t mc_shm_addr_read(const void *addr, uint32_t len, struct shm_addr *a)
{
	struct mc_rd r;
	uint32_t magic, version, crc;
	const void *wake;

	mc_rd_init(&r, addr, len);
	magic = mc_rd_u32(&r);
	version = mc_rd_u32(&r);
	if (magic == ADDR_MAGIC && version != SHM_VERSION)
		return MC_ERR_UNSUPPORTED;
	mc_rd_copy(&r, a->boot_id, sizeof(a->boot_id));
	a->pidns = mc_rd_u64(&r);
	a->netns = mc_rd_u64(&r);
	a->uid = mc_rd_u32(&r);
	a->pid = mc_rd_u32(&r);
	a->start = mc_rd_u64(&r);
	a->instance = mc_rd_u64(&r);
	a->fd = mc_rd_u32(&r);
	a->dev = mc_rd_u64(&r);
	a->ino = mc_rd_u64(&r);
	a->file_len = mc_rd_u64(&r);
	wake = mc_rd_blob(&r, &a->wake_len, SHM_WAKE_MAX);
	crc = mc_rd_u32(&r);
	if (!mc_rd_end(&r) || crc != mc_crc32c(0, addr, len - sizeof(crc)) || magic != ADDR_MAGIC || wake == NULL ||
	    a->wake_len < 2 || a->wake_len > SHM_WAKE_MAX)
		return MC_ERR_PROTO;
	memcpy(a->wake, wake, a->wake_len);
	if (a->wake[0] != 0 || a->pid == 0 || a->pid > INT32_MAX || a->fd > INT32_MAX)
		return MC_ERR_PROTO;
	return MC_OK;
}

/* NULL: same host as far as we are concerned; else what differs. */
const char *mc_shm_addr_foreign(const struct mc_be *be, const struct shm_addr *a)
{
	if (memcmp(a->boot_id, be->boot_id, sizeof(a->boot_id)) != 0)
		return "another host";
	if (a->netns != be->netns)
		return "another network namespace, which counts as another host";
	if (a->pidns != be->pidns)
		return "another pid namespace (start both in one container, or share it) "
		       "[pid-namespace, see mcinfo doctor]";
	if (a->uid != be->uid)
		return "another user";
	return NULL;
}

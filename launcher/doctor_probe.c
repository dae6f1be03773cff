/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * doctor_probe.c - what the checks want to know and no file says. Whatever could hang, kill or leave something behind
 * is done in a child process that a timer ends. Of the environment only names leave this file, never values.
 */
#include "doctor.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILD_MS 3000

/* Run fn in a child; what it writes to its descriptor is the answer. ETIMEDOUT: it took longer than CHILD_MS. */
static int in_child(void (*fn)(int fd, const char *arg), const char *arg, char *out, size_t len)
{
	int pipe_fd[2], status = 0, e = 0;
	int64_t end = mc_now_ns() + CHILD_MS * INT64_C(1000000);
	size_t n = 0;

	if (pipe2(pipe_fd, O_CLOEXEC) != 0)
		return errno;
	pid_t pid = fork();
	if (pid == 0) {
		(void)close(pipe_fd[0]);
		(void)signal(SIGPIPE, SIG_IGN);
		(void)alarm(2 * CHILD_MS / 1000);
		fn(pipe_fd[1], arg);
		_exit(0);
	}
	(void)close(pipe_fd[1]);
	if (pid < 0)
		e = errno;
	while (e == 0 && n + 1 < len) {
		struct pollfd p = {pipe_fd[0], POLLIN, 0};
		int64_t left = (end - mc_now_ns()) / 1000000;

		if (left <= 0) {
			e = ETIMEDOUT;
		} else if (poll(&p, 1, (int)left) > 0) {
			ssize_t got = read(pipe_fd[0], out + n, len - 1 - n);

			if (got <= 0)
				break;
			n += (size_t)got;
		}
	}
	out[n] = '\0';
	(void)close(pipe_fd[0]);
	if (pid > 0) {
		if (e != 0)
			(void)kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (e == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
			e = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
	}
	return e;
}

static void say(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(int fd, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0)
		(void)!write(fd, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* ---- device nodes: only opening tells, the devices cgroup is asked nowhere else ---- */

static void open_nodes(int fd, const char *arg)
{
	char path[320];
	DIR *d = opendir("/dev/infiniband");

	(void)arg;
	if (d == NULL)
		_exit(errno);
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		if (strncmp(e->d_name, "uverbs", 6) != 0 && strcmp(e->d_name, "rdma_cm") != 0)
			continue;
		(void)snprintf(path, sizeof(path), "/dev/infiniband/%s", e->d_name);
		int node = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		say(fd, "%s %d\n", e->d_name, node < 0 ? errno : 0);
	}
}

/* ---- libibverbs, which this program need not have been built with ---- */

static void list_verbs(int fd, const char *arg)
{
	typedef void **(*list_fn)(int *);
	typedef const char *(*name_fn)(void *);
	union {
		void *object;
		list_fn list;
		name_fn name;
	} list, name;
	int n = 0;
	void *lib = dlopen("libibverbs.so.1", RTLD_NOW);

	(void)arg;
	if (lib == NULL)
		_exit(ENOENT);
	list.object = dlsym(lib, "ibv_get_device_list");
	name.object = dlsym(lib, "ibv_get_device_name");
	if (list.object == NULL || name.object == NULL)
		_exit(ENOENT);
	void **dev = list.list(&n);
	for (int i = 0; dev != NULL && i < n; i++)
		say(fd, "%s\n", name.name(dev[i]));
}

/* ---- locked memory ---- */

static int try_lock(size_t len)
{
	int e = 0;
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return errno;
	if (mlock(p, len) != 0)
		e = errno;
	(void)munmap(p, len);
	return e;
}

/* As much as the pool, up to an amount that cannot hurt the machine: more is a matter of the limit, which is checked
 * too. */
static void lock_memory(int fd, const char *arg)
{
	unsigned long long want = strtoull(arg, NULL, 10);
	size_t large = want == 0 || want > 256u << 20 ? 64u << 20 : (size_t)want;

	say(fd, "small %d\nlarge %d\nbytes %zu\n", try_lock(64 << 10), try_lock(large), large);
}

/* ---- copies between processes ---- */

/* Two children of one parent, as ranks are: one reads the other's memory. */
static void copy_across(int fd, const char *arg)
{
	volatile long there = 4711;
	long here = 0;
	int hold[2];

	(void)arg;
	if (pipe2(hold, O_CLOEXEC) != 0)
		_exit(errno);
	pid_t target = fork();
	if (target < 0)
		_exit(errno);
	if (target == 0) {
		char c;

		(void)close(hold[1]);
		(void)!read(hold[0], &c, 1); /* until the parent is through */
		_exit(0);
	}
	pid_t reader = fork();
	if (reader == 0) {
		struct iovec to = {&here, sizeof(here)}, from = {(void *)(uintptr_t)&there, sizeof(there)};
		ssize_t n = process_vm_readv(target, &to, 1, &from, 1, 0);

		say(fd, "%d\n", n == (ssize_t)sizeof(here) ? 0 : n < 0 ? errno : EIO);
		_exit(0);
	}
	if (reader > 0)
		(void)waitpid(reader, NULL, 0);
	(void)close(hold[1]);
	(void)waitpid(target, NULL, 0);
}

/* ---- names and addresses ---- */

static void resolve_self(int fd, const char *arg)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	char host[256] = "", text[NI_MAXHOST];

	(void)arg;
	(void)gethostname(host, sizeof(host) - 1);
	say(fd, "%s\n", host);
	int e = getaddrinfo(host, NULL, &hints, &list);
	if (e != 0)
		say(fd, "error %s\n", gai_strerror(e));
	for (struct addrinfo *a = list; a != NULL; a = a->ai_next)
		if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
			say(fd, "%s\n", text);
}

static int addresses(char *out, size_t len)
{
	struct ifaddrs *list;
	char text[INET6_ADDRSTRLEN];

	if (getifaddrs(&list) != 0)
		return errno;
	for (struct ifaddrs *a = list; a != NULL; a = a->ifa_next) {
		int f = a->ifa_addr == NULL ? AF_UNSPEC : a->ifa_addr->sa_family;
		const void *raw =
			f == AF_INET ? (const void *)&((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr
			: f == AF_INET6
				? (const void *)&((const struct sockaddr_in6 *)(const void *)a->ifa_addr)->sin6_addr
				: NULL;

		if (raw == NULL || (f == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)raw)) ||
		    inet_ntop(f, raw, text, sizeof(text)) == NULL)
			continue;
		mc_doc_add(out, len, "%s %s\n", a->ifa_name, text);
	}
	freeifaddrs(list);
	return 0;
}

/* Names of those variables that are set and not empty. */
static int set_names(const char *const *names, size_t n, char *out, size_t len)
{
	for (size_t i = 0; i < n; i++) {
		const char *v = getenv(names[i]);

		if (v != NULL && *v != '\0')
			mc_doc_add(out, len, "%s%s", out[0] == '\0' ? "" : " ", names[i]);
	}
	return 0;
}

/* The devices that the user asked for by name: a setting, and shown only on this machine. */
static int chosen(char *out, size_t len)
{
	static const char *const names[] = {"MC_DEVICE", "UCX_NET_DEVICES"};

	for (size_t i = 0; i < 2; i++) {
		const char *v = getenv(names[i]);

		if (v != NULL && *v != '^' && strchr(v, '=') == NULL)
			mc_doc_add(out, len, "%s\n", v);
	}
	return 0;
}

/* ---- the rest ---- */

static int shm_room(char *out, size_t len)
{
	struct statvfs s;

	if (statvfs("/dev/shm", &s) != 0)
		return errno;
	(void)snprintf(out, len, "size %llu\nfree %llu\n", (unsigned long long)s.f_blocks * s.f_frsize,
		       (unsigned long long)s.f_bavail * s.f_frsize);
	return 0;
}

static int namespaces(char *out, size_t len)
{
	static const char *const kind[] = {"pid", "uts", "net"};
	char path[64];
	struct stat st;

	for (size_t i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", kind[i]);
		if (stat(path, &st) != 0)
			return errno;
		mc_doc_add(out, len, "%s %llu\n", kind[i], (unsigned long long)st.st_ino);
	}
	return 0;
}

static int clock_state(char *out, size_t len)
{
	struct timex t = {.modes = 0};
	struct tm tm;
	time_t now = time(NULL);
	int state = adjtimex(&t);

	if (gmtime_r(&now, &tm) == NULL)
		return EOVERFLOW;
	(void)snprintf(out, len, "year %d\nsynchronized %d\n", tm.tm_year + 1900,
		       state >= 0 && (t.status & STA_UNSYNC) == 0);
	return 0;
}

static int hypervisor(char *out, size_t len)
{
	bool yes = false;
#if defined(__x86_64__) || defined(__i386__)
	unsigned a = 1, b = 0, c = 0, d = 0;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	yes = (c >> 31 & 1) != 0;
#endif
	(void)snprintf(out, len, "%s", yes ? "yes" : "no");
	return 0;
}

int mc_doctor_probe(const char *name, const char *arg, char *out, size_t len)
{
	static const char *const proxies[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
	static const char *const around[] = {"KUBERNETES_SERVICE_HOST", "SLURM_JOB_ID", "container"};

	if (strcmp(name, "nodes") == 0)
		return in_child(open_nodes, arg, out, len);
	if (strcmp(name, "verbs") == 0)
		return in_child(list_verbs, arg, out, len);
	if (strcmp(name, "pin") == 0)
		return in_child(lock_memory, arg, out, len);
	if (strcmp(name, "cma") == 0)
		return in_child(copy_across, arg, out, len);
	if (strcmp(name, "resolve") == 0)
		return in_child(resolve_self, arg, out, len);
	if (strcmp(name, "addresses") == 0)
		return addresses(out, len);
	if (strcmp(name, "proxies") == 0)
		return set_names(proxies, sizeof(proxies) / sizeof(proxies[0]), out, len);
	if (strcmp(name, "surroundings") == 0)
		return set_names(around, sizeof(around) / sizeof(around[0]), out, len);
	if (strcmp(name, "_chosen") == 0)
		return chosen(out, len);
	if (strcmp(name, "shm") == 0)
		return shm_room(out, len);
	if (strcmp(name, "namespaces") == 0)
		return namespaces(out, len);
	if (strcmp(name, "clock") == 0)
		return clock_state(out, len);
	if (strcmp(name, "hypervisor") == 0)
		return hypervisor(out, len);
	return ENOSYS;
}

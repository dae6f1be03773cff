/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * init.c - first process of the test kernel. Puts a throw-away layer over the host's files, runs the set-up script and
 * then one command as if it ran on the host (arguments, environment, folder, output, exit status), and switches the
 * machine off.
 *
 * What to do lies in the run folder (kernel command line rdmavm=DIR), which the host shares:
 *   argv, env    the command and its environment, each entry ended by a zero byte
 *   conf         lines "key value": host, cwd, setup, writable (repeated), cgroup, terminal
 *   status       written here: the exit status, like a shell's
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define NEW      "/mnt/new"
#define P9       "trans=virtio,version=9p2000.L,msize=512000"
#define WAIT_MS  2000 /* for output of processes that outlive the command */
#define LIST_MAX 4096

struct conf {
	char run[256], root[16], cwd[4096], setup[4096], cgroup[256];
	char *writable[32];
	int writable_n, terminal;
};

static int power_off_cmd = RB_POWER_OFF;

static void fail(const char *fmt, ...)
{
	int err = errno;
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "rdma vm, in the guest: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, ": %s\n", strerror(err));
	va_end(ap);
	fflush(stderr);
	sync();
	reboot(power_off_cmd);
	_exit(1);
}

static void do_mount(const char *src, const char *dst, const char *type, unsigned long flags, const char *opt)
{
	mkdir(dst, 0755);
	if (mount(src, dst, type, flags, opt) != 0)
		fail("mount %s on %s", type, dst);
}

static void make_path(const char *path)
{
	char buf[4400];
	snprintf(buf, sizeof(buf), "%s", path);
	for (char *p = strchr(buf + 1, '/'); p != NULL; p = strchr(p + 1, '/')) {
		*p = 0;
		mkdir(buf, 0755);
		*p = '/';
	}
	mkdir(buf, 0755);
}

/* A folder of the host that may be written to, at the same place in the new root. */
static void share(const struct conf *c, const char *tag, const char *dir)
{
	char dst[4400];
	snprintf(dst, sizeof(dst), NEW "%s", dir);
	make_path(dst);
	if (strcmp(c->root, "9p") == 0 && strcmp(tag, "run") == 0)
		do_mount("/run", dst, "none", MS_BIND, NULL); /* a 9p channel is mounted once */
	else if (strcmp(c->root, "9p") == 0)
		do_mount(tag, dst, "9p", 0, P9 ",cache=none");
	else
		do_mount("none", dst, "hostfs", 0, dir);
}

static char *slurp(const char *dir, const char *name, size_t *len_out)
{
	char path[512];
	size_t len = 0, room = 1 << 16;
	char *buf = malloc(room + 1);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || buf == NULL)
		fail("read %s", path);
	for (ssize_t n; (n = read(fd, buf + len, room - len)) != 0;) {
		if (n < 0)
			fail("read %s", path);
		len += (size_t)n;
		if (len == room && (buf = realloc(buf, (room *= 2) + 1)) == NULL)
			fail("read %s", path);
	}
	close(fd);
	buf[len] = 0;
	*len_out = len;
	return buf;
}

/* "a\0b\0" as a NULL-terminated list. */
static char **slurp_list(const char *dir, const char *name)
{
	static char *lists[2][LIST_MAX];
	static int used;
	char **list = lists[used++];
	size_t len;
	char *p = slurp(dir, name, &len), *end = p + len;
	int n = 0;
	for (; p < end && n < LIST_MAX - 1; p += strlen(p) + 1)
		list[n++] = p;
	list[n] = NULL;
	return list;
}

static void read_conf(struct conf *c, const char *dir)
{
	size_t len;
	char *save = NULL;
	for (char *l = strtok_r(slurp(dir, "conf", &len), "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save)) {
		char *v = strchr(l, ' ');
		if (v == NULL)
			continue;
		*v++ = 0;
		if (strcmp(l, "cwd") == 0)
			snprintf(c->cwd, sizeof(c->cwd), "%s", v);
		else if (strcmp(l, "setup") == 0)
			snprintf(c->setup, sizeof(c->setup), "%s", v);
		else if (strcmp(l, "cgroup") == 0)
			snprintf(c->cgroup, sizeof(c->cgroup), "%s", v);
		else if (strcmp(l, "host") == 0 && sethostname(v, strlen(v)) != 0)
			fail("set the host name %s", v);
		else if (strcmp(l, "terminal") == 0)
			c->terminal = 1;
		else if (strcmp(l, "writable") == 0 && c->writable_n < 32)
			c->writable[c->writable_n++] = v;
	}
}

/* Debian's kernel in qemu: load what /modules lists, then the host's files are a 9p share. */
static void load_modules(void)
{
	char name[256], path[300];
	FILE *f = fopen("/modules", "re");
	while (f != NULL && fgets(name, sizeof(name), f) != NULL) {
		name[strcspn(name, "\n")] = 0;
		snprintf(path, sizeof(path), "/mod/%s", name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
			fail("load %s", name);
		close(fd);
	}
	if (f != NULL)
		fclose(f);
}

static void mount_root(struct conf *c)
{
	char tag[16];
	const char *lower = "/";
	if (strcmp(c->root, "9p") == 0) {
		do_mount("host", "/host", "9p", MS_RDONLY, P9 ",cache=loose");
		lower = "/host";
	}
	do_mount("layer", "/mnt", "tmpfs", 0, "mode=755");
	mkdir("/mnt/upper", 0755);
	mkdir("/mnt/work", 0755);
	char opt[128];
	snprintf(opt, sizeof(opt), "lowerdir=%s,upperdir=/mnt/upper,workdir=/mnt/work", lower);
	do_mount("host", NEW, "overlay", 0, opt);
	do_mount("dev", NEW "/dev", "devtmpfs", 0, "mode=755");
	do_mount("shm", NEW "/dev/shm", "tmpfs", 0, "mode=1777");
	do_mount("pts", NEW "/dev/pts", "devpts", 0, "ptmxmode=666");
	do_mount("proc", NEW "/proc", "proc", 0, NULL);
	do_mount("sys", NEW "/sys", "sysfs", 0, NULL);
	do_mount("cgroup", NEW "/sys/fs/cgroup", "cgroup2", 0, NULL);
	static const char *const link[][2] = {{"/proc/self/fd", NEW "/dev/fd"},
					      {"fd/0", NEW "/dev/stdin"},
					      {"fd/1", NEW "/dev/stdout"},
					      {"fd/2", NEW "/dev/stderr"}};
	for (int i = 0; i < 4; i++)
		if (symlink(link[i][0], link[i][1]) != 0 && errno != EEXIST)
			fail("link %s", link[i][1]);
	share(c, "run", c->run);
	for (int i = 0; i < c->writable_n; i++) {
		snprintf(tag, sizeof(tag), "w%d", i);
		share(c, tag, c->writable[i]);
	}
}

/* The way to the host's stdout or stderr: a raw terminal line (User-Mode-Linux), or a virtio port with a name. */
static int open_line(const struct conf *c, const char *name, const char *tty)
{
	char path[320], text[64] = "";
	struct termios t;
	int fd;
	if (strcmp(c->root, "9p") != 0) {
		fd = open(tty, O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (fd < 0 || tcgetattr(fd, &t) != 0)
			fail("open %s", tty);
		cfmakeraw(&t);
		if (tcsetattr(fd, TCSANOW, &t) != 0)
			fail("set %s", tty);
		return fd;
	}
	DIR *d = opendir("/sys/class/virtio-ports");
	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
		FILE *f = fopen(path, "re");
		if (f == NULL)
			continue;
		if (fgets(text, sizeof(text), f) == NULL)
			text[0] = 0;
		fclose(f);
		text[strcspn(text, "\n")] = 0;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		if (strcmp(text, name) == 0 && (fd = open(path, O_WRONLY | O_CLOEXEC)) >= 0)
			return fd;
	}
	fail("find the port for %s", name);
	return -1;
}

static void write_all(int fd, const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, (size_t)n);
		if (k < 0 && errno != EINTR && errno != EAGAIN)
			return;
		if (k > 0)
			p += k, n -= k;
	}
}

/* SIGCHLD is blocked but while we wait: none is missed between looking and sleeping. */
static sigset_t none;
static void on_child(int sig)
{
	(void)sig;
}

static void child_fail(const char *what, const char *name)
{
	fprintf(stderr, "rdma vm: cannot %s %s: %s\n", what, name, strerror(errno));
	_exit(126);
}

/* One turn: copy what the command wrote. Returns how many of the two pipes are still open. */
static int pump(struct pollfd p[2], const int to[2], int wait_ms)
{
	static char buf[65536];
	struct timespec t = {wait_ms / 1000, wait_ms % 1000 * 1000000L};
	if (p[0].fd < 0 && p[1].fd < 0) {
		ppoll(NULL, 0, &t, &none);
		return 0;
	}
	if (ppoll(p, 2, &t, &none) > 0)
		for (int i = 0; i < 2; i++) {
			if (p[i].fd < 0 || p[i].revents == 0)
				continue;
			ssize_t n = read(p[i].fd, buf, sizeof(buf));
			if (n > 0)
				write_all(to[i], buf, n);
			else if (n == 0 || errno != EINTR)
				close(p[i].fd), p[i].fd = -1;
		}
	return (p[0].fd >= 0) + (p[1].fd >= 0);
}

/* Reap everybody; true once `pid` is among them, with its shell-like status. */
static int reaped(pid_t pid, int *status_out)
{
	int st, seen = 0;
	for (pid_t p; (p = waitpid(-1, &st, WNOHANG)) > 0;)
		if (p == pid) {
			*status_out = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
			seen = 1;
		}
	return seen;
}

static void child_exec(const struct conf *c, char **argv, char **env)
{
	struct rlimit files = {65536, 65536};
	if (setrlimit(RLIMIT_NOFILE, &files) != 0)
		child_fail("set the limit of open files", "");
	if (c->cgroup[0] != 0) {
		int fd = open(c->cgroup, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			child_fail("join", c->cgroup);
		close(fd);
	}
	if (chdir(c->cwd) != 0)
		child_fail("change to the folder", c->cwd);
	sigprocmask(SIG_SETMASK, &none, NULL);
	environ = env;
	execvp(argv[0], argv);
	fprintf(stderr, "rdma vm: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static int run_command(const struct conf *c, char **argv, char **env)
{
	int out[2], err[2], status = 0;
	int to[2] = {open_line(c, "out", "/dev/tty1"), open_line(c, "err", "/dev/tty2")};
	if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
		fail("make pipes");
	pid_t pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY);
		dup2(null, 0), dup2(out[1], 1), dup2(err[1], 2);
		child_exec(c, argv, env);
	}
	close(out[1]), close(err[1]);
	struct pollfd p[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
	while (!reaped(pid, &status))
		(void)pump(p, to, 60000);
	for (int waited = 0; pump(p, to, 100) > 0 && waited < WAIT_MS; waited += 100)
		if (poll(p, 2, 0) > 0)
			waited = 0;
	for (int i = 0; i < 2; i++) {
		tcdrain(to[i]);
		close(to[i]);
	}
	return status;
}

/* A shell or another program that talks to a terminal: it gets the line itself. */
static int run_terminal(const struct conf *c, char **argv, char **env)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		int fd = open("/dev/tty1", O_RDWR);
		if (fd < 0 || ioctl(fd, TIOCSCTTY, 1) != 0)
			child_fail("open", "the terminal");
		dup2(fd, 0), dup2(fd, 1), dup2(fd, 2);
		if (fd > 2)
			close(fd);
		child_exec(c, argv, env);
	}
	while (!reaped(pid, &status))
		sigsuspend(&none);
	return status;
}

static int run_setup(const struct conf *c)
{
	int st;
	pid_t pid = fork();
	if (pid == 0) {
		char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
		execle("/bin/sh", "sh", c->setup, c->run, (char *)NULL, env);
		_exit(127);
	}
	return waitpid(pid, &st, 0) == pid && WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

int main(void)
{
	static struct conf c;
	const char *run = getenv("rdmavm"), *root = getenv("rdmavm_root");
	char text[32], path[300];
	snprintf(c.run, sizeof(c.run), "%s", run != NULL ? run : "");
	snprintf(c.root, sizeof(c.root), "%s", root != NULL ? root : "hostfs");
	if (strcmp(c.root, "9p") == 0) {
		power_off_cmd = RB_AUTOBOOT; /* without ACPI there is no power switch; qemu ends at a reboot */
		load_modules();
		do_mount("run", "/run", "9p", 0, P9 ",cache=none");
		read_conf(&c, "/run");
	} else {
		read_conf(&c, c.run);
	}
	mount_root(&c);
	if (chroot(NEW) != 0 || chdir("/") != 0)
		fail("change the root");
	int rc = run_setup(&c);
	if (rc != 0) {
		fprintf(stderr, "rdma vm, in the guest: %s ended with %d\n", c.setup, rc);
	} else {
		struct sigaction sa = {.sa_handler = on_child};
		sigset_t chld;
		sigemptyset(&chld);
		sigaddset(&chld, SIGCHLD);
		sigprocmask(SIG_BLOCK, &chld, &none);
		sigaction(SIGCHLD, &sa, NULL);
		char **argv = slurp_list(c.run, "argv"), **env = slurp_list(c.run, "env");
		rc = c.terminal ? run_terminal(&c, argv, env) : run_command(&c, argv, env);
		snprintf(path, sizeof(path), "%s/status", c.run);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		int n = snprintf(text, sizeof(text), "%d\n", rc);
		if (fd < 0 || write(fd, text, (size_t)n) != n)
			fail("write the status");
		close(fd);
	}
	sync();
	reboot(power_off_cmd);
	return 1;
}

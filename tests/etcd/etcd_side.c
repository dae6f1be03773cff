/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * etcd_side.c - drives the etcd bridge by its contract, for the scripts beside it.
 * etcd_side [-q] JOB ROLE RANK EPOCH [N]   N bridges (default 1) of ranks RANK, RANK+1, ...; settings from MC_*
 * etcd_side --ports N                      N free ports of the loopback, none that the kernel gives to somebody else
 * Commands on stdin: "publish TEXT", "big BYTES", "info JSON", "stat", "quit"; the end of it is "quit".
 * A line on stdout per event (with -q only those of the first bridge, and no "up" and "down"):
 *   key HASH | up JOB RANK EPOCH ROLE LENGTH TEXT | down JOB RANK EPOCH | synced STATUS TEXT
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bridge.h"
#include "log.h"
#include "util.h"

enum { LINE_LEN = 70000 };

struct side {
	struct mc_bridge *bridge;
	int fd;
	uint64_t ups, downs, synced;
};

static const struct mc_bridge_ops *ops;
static struct side *sides;
static struct pollfd *fds;
static size_t side_n;
static bool quiet;
static char info[LINE_LEN];
static int64_t start_ns;

static void die(const char *what)
{
	fprintf(stderr, "etcd_side: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* The lowest port that the kernel gives to whoever does not ask for a certain one. */
static unsigned int kernels_first(void)
{
	FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	unsigned int first = 0;

	if (f == NULL || fscanf(f, "%u", &first) != 1)
		first = 32768;
	if (f != NULL)
		fclose(f);
	return first;
}

/*
 * Below those: a server that is stopped and started again is to find its port free, and a client that calls it
 * meanwhile is not to be given that very port, and so to reach itself.
 */
static int ports(int n)
{
	enum { LOWEST = 10000, TRIES = 10000 };
	const unsigned int end = kernels_first();
	int found = 0;

	for (int i = 0; i < TRIES && found < n && end > LOWEST; i++) {
		const uint16_t port = (uint16_t)(LOWEST + mc_random_u64() % (end - LOWEST));
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		const int fd = socket(AF_INET, SOCK_STREAM, 0); /* open until the end: each port once */

		a.sin_port = htons(port);
		if (fd < 0)
			die("socket");
		if (bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 1) != 0) {
			close(fd);
			continue;
		}
		printf("%d\n", port);
		found++;
	}
	return found == n ? 0 : 2;
}

static uint32_t hash(const uint8_t *p, size_t len)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 16777619u;
	return h;
}

static void show(const struct mc_bridge_event *ev)
{
	const char *text = ev->record;
	int n = 0;

	switch (ev->kind) {
	case MC_BRIDGE_KEY:
		printf("key %08x\n", hash(ev->key, MC_BRIDGE_KEY_LEN));
		break;
	case MC_BRIDGE_UP:
		if (quiet)
			break;
		while (n < 60 && (uint32_t)n < ev->record_len && isprint((unsigned char)text[n]))
			n++;
		printf("up %s %u %016" PRIx64 " %s %u %.*s\n", ev->job, ev->rank, ev->epoch, ev->role, ev->record_len,
		       n, text);
		break;
	case MC_BRIDGE_DOWN:
		if (!quiet)
			printf("down %s %u %016" PRIx64 "\n", ev->job, ev->rank, ev->epoch);
		break;
	case MC_BRIDGE_SYNCED:
		printf("synced %s %s\n", mc_status_name(ev->status), ev->text);
		break;
	}
	fflush(stdout);
}

static void take(struct side *s, bool first)
{
	struct mc_bridge_event ev;
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	int empty = 0;

	/* The promise of next: after "no news" the descriptor is clear, until there is some. */
	do {
		bool any = false;

		while (ops->next(s->bridge, &ev) == MC_OK) {
			any = true;
			s->ups += ev.kind == MC_BRIDGE_UP;
			s->downs += ev.kind == MC_BRIDGE_DOWN;
			s->synced += ev.kind == MC_BRIDGE_SYNCED && ev.status == MC_OK;
			if (first)
				show(&ev);
		}
		empty = any ? 0 : empty + 1;
		if (empty > 100) {
			fprintf(stderr, "etcd_side: readable, but there is no news\n");
			exit(3);
		}
	} while (poll(&p, 1, 0) > 0);
}

static void stat_line(void)
{
	struct rusage u;
	uint64_t ups = 0, downs = 0, synced = 0;

	getrusage(RUSAGE_SELF, &u);
	for (size_t i = 0; i < side_n; i++) {
		ups += sides[i].ups;
		downs += sides[i].downs;
		synced += sides[i].synced;
	}
	printf("stat ups %" PRIu64 " downs %" PRIu64 " synced %" PRIu64 " cpu_ms %ld rss_kb %ld after_ms %" PRId64 "\n",
	       ups, downs, synced,
	       (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000,
	       u.ru_maxrss, (mc_now_ns() - start_ns) / 1000000);
	fflush(stdout);
}

static void publish_all(const void *record, size_t len)
{
	for (size_t i = 0; i < side_n; i++)
		if (ops->publish(sides[i].bridge, record, (uint32_t)len, info[0] != '\0' ? info : NULL) != MC_OK)
			printf("publish failed\n");
	fflush(stdout);
}

/* false: quit */
static bool command(char *line)
{
	line[strcspn(line, "\n")] = '\0';
	if (strncmp(line, "publish ", 8) == 0) {
		publish_all(line + 8, strlen(line + 8));
	} else if (strncmp(line, "big ", 4) == 0) {
		const size_t len = strtoul(line + 4, NULL, 10);
		char *p = malloc(len + 1);

		if (p == NULL)
			die("malloc");
		memset(p, 'x', len);
		publish_all(p, len);
		free(p);
	} else if (strncmp(line, "info ", 5) == 0) {
		snprintf(info, sizeof(info), "%s", line + 5);
	} else if (strcmp(line, "stat") == 0) {
		stat_line();
	} else {
		return false;
	}
	return true;
}

static bool commands(void)
{
	static char buf[LINE_LEN];
	static size_t used;
	const ssize_t n = read(STDIN_FILENO, buf + used, sizeof(buf) - 1 - used);
	char *end;

	if (n <= 0)
		return false;
	used += (size_t)n;
	buf[used] = '\0';
	while ((end = strchr(buf, '\n')) != NULL) {
		*end = '\0';
		if (!command(buf))
			return false;
		used -= (size_t)(end + 1 - buf);
		memmove(buf, end + 1, used + 1);
	}
	return true;
}

static void loop(void)
{
	fds[side_n] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	for (;;) {
		if (poll(fds, side_n + 1, -1) < 0 && errno != EINTR)
			die("poll");
		for (size_t i = 0; i < side_n; i++)
			if (fds[i].revents != 0)
				take(&sides[i], i == 0);
		if (fds[side_n].revents != 0 && !commands())
			return;
	}
}

static void open_all(struct mc_bridge_cfg *cfg)
{
	for (size_t i = 0; i < side_n; i++) {
		const mc_status_t s = ops->open(cfg, &sides[i].bridge, &sides[i].fd);

		if (s != MC_OK) {
			printf("open %s\n", mc_status_name(s));
			exit(1);
		}
		fds[i] = (struct pollfd){.fd = sides[i].fd, .events = POLLIN};
		cfg->rank++;
	}
}

int main(int argc, char **argv)
{
	struct mc_config config;
	struct mc_bridge_cfg cfg = {.config = &config};
	char err[512];
	int64_t t;

	if (argc == 3 && strcmp(argv[1], "--ports") == 0)
		return ports(atoi(argv[2]));
	if (argc > 1 && strcmp(argv[1], "-q") == 0) {
		quiet = true;
		argv++;
		argc--;
	}
	if (argc < 5)
		return 2;
	if (mc_config_load(&config, err, sizeof(err)) != MC_OK) {
		fprintf(stderr, "etcd_side: %s\n", err);
		return 2;
	}
	mc_log_set_level((enum mc_log_level)config.log);
	snprintf(cfg.job, sizeof(cfg.job), "%s", argv[1]);
	snprintf(cfg.role, sizeof(cfg.role), "%s", argv[2]);
	cfg.rank = (uint32_t)strtoul(argv[3], NULL, 10);
	cfg.epoch = strtoull(argv[4], NULL, 16);
	side_n = argc > 5 ? strtoul(argv[5], NULL, 10) : 1;
	sides = calloc(side_n, sizeof(*sides));
	fds = calloc(side_n + 1, sizeof(*fds));
	if (sides == NULL || fds == NULL)
		die("calloc");
	ops = mc_builtin_bridges[0];
	start_ns = mc_now_ns();
	open_all(&cfg);
	loop();
	t = mc_now_ns();
	for (size_t i = 0; i < side_n; i++)
		ops->close(sides[i].bridge);
	printf("closed %" PRId64 "\n", (mc_now_ns() - t) / 1000000);
	free(sides);
	free(fds);
	mc_config_free(&config);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* watch_main.c - mcinfo watch: the command. Lines while it runs, until SIGINT or --count. */
#include "doctor.h"
#include "sysparse.h"
#include "watch.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

static const char help[] = "usage: mcinfo watch [--interval SEC] [--count N] [--json] [--root DIR]\n"
			   "\n"
			   "Rates of the counters of RDMA ports and network interfaces, and the use of the rdma "
			   "cgroup, once per interval.\n"
			   "Counters that mean trouble are marked with ! when they grow. Ends on SIGINT.\n"
			   "\n"
			   "  --interval SEC  seconds between two readings (default 1)\n"
			   "  --count N       end after N intervals\n"
			   "  --json          one JSON object per line and interval\n"
			   "  --root DIR      read /sys and /proc below DIR\n";

struct options {
	const char *root;
	int64_t interval_ns;
	uint32_t count; /* 0: no end */
	bool json;
};

static int wrong(const char *text)
{
	(void)fprintf(stderr, "mcinfo: watch: %s\n", text);
	return 2;
}

/* 0: go on; 1: help was printed; -1: sentence written. */
static int parse(int argc, char **argv, struct options *o, struct mc_err *err)
{
	static const char *const names[] = {"--interval", "--count", "--root", "--json", "--help"};
	char hint[80];

	for (int at = 1; at < argc; at++) {
		const char *word = argv[at], *value;
		size_t len = strcspn(word, "="), i = 0;

		while (i < 5 && !(strlen(names[i]) == len && strncmp(names[i], word, len) == 0))
			i++;
		if ((i == 4 && word[len] == '\0') || strcmp(word, "-h") == 0) {
			(void)fputs(help, stdout);
			return 1;
		}
		if (i == 3 && word[len] == '\0') {
			o->json = true;
			continue;
		}
		if (i >= 3) {
			mc_text_hint(hint, sizeof(hint), word, names, 5);
			return mc_err_set(err, "unknown option %.100s%s; see mcinfo watch --help", word, hint);
		}
		if (word[len] != '=' && at + 1 == argc)
			return mc_err_set(err, "option %s needs a value", names[i]);
		value = word[len] == '=' ? word + len + 1 : argv[++at];
		if (i == 0 && (!mc_text_seconds(value, &o->interval_ns) || o->interval_ns < 10000000))
			return mc_err_set(err, "--interval is \"%.60s\", but must be seconds, 0.01 or more", value);
		if (i == 1 && (!mc_text_count(value, &o->count) || o->count == 0))
			return mc_err_set(err, "--count is \"%.60s\", but must be a number, 1 or more", value);
		if (i == 2)
			o->root = value;
	}
	return 0;
}

static void print_rate(const struct mc_watch_item *i, uint64_t delta, double s)
{
	double rate = (double)delta * (i->unit == 0 ? 1 : i->unit) / s;

	if (i->unit != 0)
		(void)printf("  %s %.3g MB/s", i->name, rate / 1e6);
	else
		(void)printf("  %s%s %.3g/s", i->error ? "!" : "", i->name, rate);
}

/* A line per device, with what has moved; a quiet device gets a line only if all are quiet. */
static void print_text(const struct mc_watch *a, const struct mc_watch *b, double s)
{
	char now[32], last[80] = "";
	time_t t = time(NULL);
	struct tm tm;
	bool any = false;

	if (localtime_r(&t, &tm) == NULL || strftime(now, sizeof(now), "%H:%M:%S", &tm) == 0)
		now[0] = '\0';
	for (uint32_t i = 0; i < b->n; i++) {
		const struct mc_watch_item *n = &b->item[i], *before = mc_watch_same(a, n, i);
		uint64_t delta = before == NULL ? 0 : mc_watch_delta(before, n);

		if (n->level ? n->value == 0 : delta == 0)
			continue;
		if (!any || strcmp(last, n->who) != 0)
			(void)printf("%s%s  %-14s", any ? "\n" : "", now, n->who);
		(void)snprintf(last, sizeof(last), "%s", n->who);
		any = true;
		if (n->level)
			(void)printf("  %s %" PRIu64, n->name, n->value);
		else
			print_rate(n, delta, s);
	}
	(void)printf("%s\n", any ? "" : now[0] != '\0' ? strcat(now, "  nothing moved") : "nothing moved");
}

static void print_json(const struct mc_watch *a, const struct mc_watch *b, double s)
{
	struct timespec t;
	bool first = true;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	(void)printf("{\"time\": %lld.%03ld, \"interval\": %.6f, \"counters\": [", (long long)t.tv_sec,
		     t.tv_nsec / 1000000, s);
	for (uint32_t i = 0; i < b->n; i++) {
		const struct mc_watch_item *n = &b->item[i], *before = mc_watch_same(a, n, i);
		uint64_t delta = before == NULL ? 0 : mc_watch_delta(before, n);

		(void)printf("%s{\"who\": ", first ? "" : ", ");
		mc_json_string(stdout, n->who);
		(void)printf(", \"name\": ");
		mc_json_string(stdout, n->name);
		(void)printf(", \"value\": %" PRIu64, n->value);
		if (!n->level)
			(void)printf(", \"rate\": %.6g, \"unit\": \"%s\", \"error\": %s",
				     (double)delta * (n->unit == 0 ? 1 : n->unit) / s, n->unit == 0 ? "1/s" : "B/s",
				     n->error && delta > 0 ? "true" : "false");
		(void)printf("}");
		first = false;
	}
	(void)printf("]}\n");
}

/* Until the next reading is due. False: a signal ends the program. */
static bool wait_until(int sig, int64_t due_ns)
{
	for (;;) {
		struct pollfd p = {sig, POLLIN, 0};
		int64_t left = due_ns - mc_now_ns();

		if (left <= 0)
			return true;
		if (poll(&p, 1, (int)((left + 999999) / 1000000 > 60000 ? 60000 : (left + 999999) / 1000000)) > 0)
			return false;
	}
}

static int run(const struct options *o, struct mc_sysroot *root)
{
	struct mc_watch a, b;
	sigset_t set;
	int code = 0;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	int sig = signalfd(-1, &set, SFD_CLOEXEC);
	if (sig < 0)
		return wrong(strerror(errno));
	mc_watch_read(root, &a);
	if (a.n == 0) {
		mc_watch_free(&a);
		(void)close(sig);
		return wrong("there is nothing to watch: no RDMA port, no network interface");
	}
	if (!o->json && strncmp(a.item[0].name, "rx_", 3) == 0)
		(void)printf("no RDMA port here; network interfaces alone are watched\n");
	for (uint32_t i = 0; (o->count == 0 || i < o->count) && wait_until(sig, a.at_ns + o->interval_ns); i++) {
		mc_watch_read(root, &b);
		(o->json ? print_json : print_text)(&a, &b, (double)(b.at_ns - a.at_ns) / 1e9);
		mc_watch_free(&a);
		a = b;
		if (fflush(stdout) != 0) {
			code = errno == EPIPE ? 0 : wrong(strerror(errno));
			break;
		}
	}
	mc_watch_free(&a);
	(void)close(sig);
	return code;
}

int mcinfo_watch(int argc, char **argv)
{
	struct options o = {.interval_ns = MC_NS_PER_S};
	struct mc_sysroot *root;
	struct mc_err err;
	int code = parse(argc, argv, &o, &err);

	if (code == 1)
		return fflush(stdout) == 0 ? 0 : 2;
	if (code < 0 || mc_sysroot_open(o.root, NULL, NULL, &root, &err) != 0)
		return wrong(err.text);
	code = run(&o, root);
	mc_sysroot_close(root);
	return code;
}

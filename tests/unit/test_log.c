/* SPDX-License-Identifier: BSD-3-Clause */
/* test_log.c - format, levels, sink, escaping, one write per line, threads, the rate limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

struct caught {
	char line[8][2048];
	enum mc_log_level level[8];
	int n;
};

static void catch_line(void *arg, enum mc_log_level level, const char *line)
{
	struct caught *c = arg;

	if (c->n < 8) {
		snprintf(c->line[c->n], sizeof(c->line[0]), "%s", line);
		c->level[c->n] = level;
	}
	c->n++;
	errno = 0; /* as system calls in a sink do */
}

static int reset(void **state)
{
	(void)state;
	mc_log_set_sink(NULL, NULL);
	mc_log_set_name("");
	mc_log_set_level(MC_LOG_WARN);
	return 0;
}

static void log__level_decides(void **state)
{
	struct caught c = {0};

	(void)state;
	mc_log_set_sink(catch_line, &c);
	mc_info("not shown");
	mc_debug("not shown");
	assert_int_equal(c.n, 0);
	mc_warn("shown");
	mc_error("shown");
	assert_int_equal(c.n, 2);
	assert_int_equal(c.level[0], MC_LOG_WARN);
	assert_int_equal(c.level[1], MC_LOG_ERROR);
	mc_log_set_level(MC_LOG_DEBUG);
	mc_info("now");
	mc_debug("now");
	assert_int_equal(c.n, 4);
	mc_log_set_level(MC_LOG_ERROR);
	mc_warn("not shown");
	assert_int_equal(c.n, 4);
}

/* What is not shown must not be worked out either: hot paths rely on it. */
static void log__hidden_line_is_not_evaluated(void **state)
{
	int evaluated = 0;

	(void)state;
	mc_debug("%d", ++evaluated);
	assert_int_equal(evaluated, 0);
}

static void log_set_name__in_each_line(void **state)
{
	struct caught c = {0};

	(void)state;
	mc_log_set_sink(catch_line, &c);
	mc_error("rank %d of %d", 3, 8);
	mc_log_set_name("decode.1");
	mc_warn("second");
	mc_log_set_name(
		"a name much longer than any that the library gives itself, which is cut somewhere near its end");
	mc_warn("third");
	assert_string_equal(c.line[0], "mc: error rank 3 of 8");
	assert_string_equal(c.line[1], "mc: warn [decode.1] second");
	assert_non_null(strstr(c.line[2], "] third"));
}

static void log__control_characters_escaped(void **state)
{
	struct caught c = {0};

	(void)state;
	mc_log_set_sink(catch_line, &c);
	mc_log_set_name("x\033y");
	mc_error("a\nmc: error b\r\t\033[2J\x7f");
	assert_string_equal(c.line[0], "mc: error [x\\x1by] a\\x0amc: error b\\x0d\\x09\\x1b[2J\\x7f");
	mc_log_set_name("");
	mc_error("%s", "\x9b"
		       "31m \xc2\x9b"
		       "31m"); /* CSI as one byte, and in UTF-8 */
	assert_string_equal(c.line[1], "mc: error \\x9b31m \xc2\\x9b31m");
	mc_error("%s", "/home/J\xc3\xb6rg/\xe6\x9c\xac"); /* letters stay letters, though 9c alone would be a control */
	assert_string_equal(c.line[2], "mc: error /home/J\xc3\xb6rg/\xe6\x9c\xac");
}

static void log__long_text_cut(void **state)
{
	struct caught c = {0};
	static char longer[5000];
	size_t len;

	(void)state;
	mc_log_set_sink(catch_line, &c);
	memset(longer, 'x', sizeof(longer) - 1);
	mc_error("%s", longer);
	len = strlen(c.line[0]);
	assert_in_range(len, 900, 1500);
	assert_string_equal(c.line[0] + len - 4, "x...");
	memset(longer, '\n', sizeof(longer) - 1); /* four characters each when escaped */
	mc_error("%s", longer);
	len = strlen(c.line[1]);
	assert_in_range(len, 900, 1500);
	assert_string_equal(c.line[1] + len - 7, "\\x0a...");
}

static void log__errno_kept(void **state)
{
	struct caught c = {0};

	(void)state;
	mc_log_set_sink(catch_line, &c);
	errno = ENOTTY;
	mc_error("x");
	assert_int_equal(errno, ENOTTY);
}

/* Run with stderr as the pipe's end; a packet pipe returns one write per read. */
static void stderr_to(int fd, int *saved_out)
{
	fflush(stderr);
	*saved_out = dup(STDERR_FILENO);
	assert_true(*saved_out >= 0);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
}

static void stderr_back(int saved)
{
	dup2(saved, STDERR_FILENO);
	close(saved);
}

static void log__one_write_per_line(void **state)
{
	char buf[4096];
	int fd[2], saved;
	ssize_t n[3];

	(void)state;
	assert_int_equal(pipe2(fd, O_DIRECT | O_NONBLOCK), 0);
	stderr_to(fd[1], &saved);
	mc_log_set_name("prefill.0");
	mc_error("first %d", 1);
	mc_warn("second");
	stderr_back(saved);
	n[0] = read(fd[0], buf, sizeof(buf));
	assert_int_equal(n[0], strlen("mc: error [prefill.0] first 1\n"));
	assert_memory_equal(buf, "mc: error [prefill.0] first 1\n", (size_t)n[0]);
	n[1] = read(fd[0], buf, sizeof(buf));
	assert_int_equal(n[1], strlen("mc: warn [prefill.0] second\n"));
	assert_memory_equal(buf, "mc: warn [prefill.0] second\n", (size_t)n[1]);
	n[2] = read(fd[0], buf, sizeof(buf));
	assert_int_equal(n[2], -1);
	close(fd[0]);
	close(fd[1]);
}

static atomic_int sigpipes;

static void on_sigpipe(int sig)
{
	(void)sig;
	atomic_fetch_add(&sigpipes, 1);
}

/* The reader of our stderr, say the launcher, is gone: that must cost a line, not the program. */
static void log__stderr_without_reader(void **state)
{
	struct sigaction act = {.sa_handler = on_sigpipe}, before;
	sigset_t pending;
	int fd[2], saved;

	(void)state;
	assert_int_equal(sigaction(SIGPIPE, &act, &before), 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	close(fd[0]);
	stderr_to(fd[1], &saved);
	mc_error("nobody reads this");
	stderr_back(saved);
	close(fd[1]);
	assert_int_equal(atomic_load(&sigpipes), 0);
	assert_int_equal(sigpending(&pending), 0);
	assert_false(sigismember(&pending, SIGPIPE));
	raise(SIGPIPE); /* and it is not blocked afterwards */
	assert_int_equal(atomic_load(&sigpipes), 1);
	sigaction(SIGPIPE, &before, NULL);
}

enum { THREADS = 4, LINES = 500 };

struct overlap {
	int inside, most, lines, broken; /* no atomics: the lock is what is tested, also by TSan */
};

static void count_line(void *arg, enum mc_log_level level, const char *line)
{
	struct overlap *o = arg;
	int a, b;

	(void)level;
	o->inside++;
	if (o->inside > o->most)
		o->most = o->inside;
	if (sscanf(line, "mc: error [r%*d] line %d of thread %d", &a, &b) != 2)
		o->broken++;
	o->lines++;
	o->inside--;
}

static void *log_many(void *arg)
{
	const int id = *(const int *)arg;
	char name[16];

	for (int i = 0; i < LINES; i++) {
		snprintf(name, sizeof(name), "r%d", id);
		mc_log_set_name(name);
		mc_error("line %d of thread %d", i, id);
		mc_log_set_level(i % 2 == 0 ? MC_LOG_ERROR : MC_LOG_DEBUG);
	}
	return NULL;
}

static void log__many_threads(void **state)
{
	struct overlap o = {0};
	pthread_t thread[THREADS];
	int id[THREADS];

	(void)state;
	mc_log_set_name("r0");
	mc_log_set_sink(count_line, &o);
	for (int i = 0; i < THREADS; i++) {
		id[i] = i;
		assert_int_equal(pthread_create(&thread[i], NULL, log_many, &id[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	mc_log_set_sink(NULL, NULL);
	assert_int_equal(o.lines, THREADS * LINES);
	assert_int_equal(o.most, 1);
	assert_int_equal(o.broken, 0);
}

static void ratelimit__burst_then_summary(void **state)
{
	struct mc_ratelimit r = {0};
	struct caught c = {0};

	(void)state;
	mc_log_set_sink(catch_line, &c);
	for (int i = 0; i < 3; i++)
		assert_true(mc_ratelimit_ok(&r, 3));
	/* A machine that stops for a second here begins a new window: then the count starts again. */
	const int64_t start_ns = r.window_start_ns;
	int refused = 0;
	for (int i = 0; i < 5; i++)
		refused += !mc_ratelimit_ok(&r, 3);
	if (r.window_start_ns == start_ns)
		assert_int_equal(refused, 5);
	assert_int_equal(c.n, 0);
	r.suppressed = 5;
	r.window_start_ns -= 1000000000; /* a second later */
	assert_true(mc_ratelimit_ok(&r, 3));
	assert_int_equal(c.n, 1);
	assert_string_equal(c.line[0], "mc: warn 5 lines like the next one were left out");
	assert_int_equal(r.suppressed, 0);
	r.window_start_ns -= 1000000000;
	assert_true(mc_ratelimit_ok(&r, 3));
	assert_int_equal(c.n, 1); /* nothing was left out: nothing to say */
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, reset, reset)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOG_TEST(log__level_decides),         LOG_TEST(log__hidden_line_is_not_evaluated),
		LOG_TEST(log_set_name__in_each_line), LOG_TEST(log__control_characters_escaped),
		LOG_TEST(log__long_text_cut),         LOG_TEST(log__errno_kept),
		LOG_TEST(log__one_write_per_line),    LOG_TEST(log__stderr_without_reader),
		LOG_TEST(log__many_threads),          LOG_TEST(ratelimit__burst_then_summary),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

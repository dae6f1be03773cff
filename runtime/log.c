/* SPDX-License-Identifier: BSD-3-Clause */
/* log.c - one line per write(2), so that lines of many ranks on one terminal stay whole. */
#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_MAX = 1024, LINE_MAX_LEN = 1408, PREFIX_NAME_MAX = 64 };

atomic_int mc_log_level_now = MC_LOG_WARN;

/* A sink runs under the lock, which is what keeps its calls from overlapping; it must not log itself. */
static struct {
	pthread_mutex_t lock;
	void (*sink)(void *arg, enum mc_log_level level, const char *line);
	void *arg;
	char name[PREFIX_NAME_MAX];
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

void mc_log_set_level(enum mc_log_level level)
{
	atomic_store_explicit(&mc_log_level_now, (int)level, memory_order_relaxed);
}

void mc_log_set_name(const char *name)
{
	pthread_mutex_lock(&log_state.lock);
	snprintf(log_state.name, sizeof(log_state.name), "%s", name);
	pthread_mutex_unlock(&log_state.lock);
}

void mc_log_set_sink(void (*sink)(void *arg, enum mc_log_level level, const char *line), void *arg)
{
	pthread_mutex_lock(&log_state.lock);
	log_state.sink = sink;
	log_state.arg = arg;
	pthread_mutex_unlock(&log_state.lock);
}

static const char *level_name(enum mc_log_level level)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	return (size_t)level < MC_ARRAY_LEN(names) ? names[level] : "?";
}

/* Would this byte steer a terminal? C0, DEL, and C1 both raw and as UTF-8 (c2 80..9f); other UTF-8 is left alone. */
static bool is_control(unsigned char c, unsigned char prev)
{
	if (c < 0x20 || c == 0x7f)
		return true;
	return c >= 0x80 && c <= 0x9f && (prev < 0x80 || prev == 0xc2);
}

/* Append text with control bytes as \xNN, backslash left alone (paths); cut with "..." where room ends. */
static size_t append_escaped(char *out, size_t used, size_t room, const char *text, bool cut)
{
	static const char hex[] = "0123456789abcdef";
	const size_t limit = room - sizeof("...");
	unsigned char prev = 0;

	for (; *text != '\0'; text++) {
		const unsigned char c = (unsigned char)*text;

		if (used + 4 > limit) {
			cut = true;
			break;
		}
		if (is_control(c, prev)) {
			out[used++] = '\\';
			out[used++] = 'x';
			out[used++] = hex[c >> 4];
			out[used++] = hex[c & 15];
		} else {
			out[used++] = (char)c;
		}
		prev = c;
	}
	if (cut) {
		memcpy(out + used, "...", 3);
		used += 3;
	}
	out[used] = '\0';
	return used;
}

/* A line that stderr does not take (closed, full disk) is lost: there is nowhere to report that. */
static bool write_all(const char *line, size_t len)
{
	while (len > 0) {
		const ssize_t n = write(STDERR_FILENO, line, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 || errno != EPIPE;
		line += n;
		len -= (size_t)n;
	}
	return true;
}

/*
 * When the launcher that reads our stderr is gone, the first line about that would end the program by SIGPIPE. So the
 * signal is blocked in this thread for the write, and the one that the write raised, if any, is taken away before it is
 * unblocked.
 */
static void write_line(const char *line, size_t len)
{
	const struct timespec now = {0};
	sigset_t pipe, before, pending;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	sigemptyset(&pending);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &pipe, &before);
	if (!write_all(line, len) && !sigismember(&pending, SIGPIPE))
		while (sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void mc_log_write(enum mc_log_level level, const char *fmt, ...)
{
	const int saved_errno = errno;
	char text[TEXT_MAX], line[LINE_MAX_LEN];
	size_t used = 0;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		snprintf(text, sizeof(text), "(line that cannot be formatted: %s)", fmt);

	pthread_mutex_lock(&log_state.lock);
	used = (size_t)snprintf(line, sizeof(line), "mc: %s ", level_name(level));
	if (log_state.name[0] != '\0') {
		line[used++] = '[';
		used = append_escaped(line, used, sizeof(line) - 2, log_state.name, false);
		line[used++] = ']';
		line[used++] = ' ';
	}
	used = append_escaped(line, used, sizeof(line) - 1, text, n >= (int)sizeof(text));
	if (log_state.sink != NULL) {
		log_state.sink(log_state.arg, level, line);
	} else {
		line[used++] = '\n';
		write_line(line, used);
	}
	pthread_mutex_unlock(&log_state.lock);
	errno = saved_errno;
}

bool mc_ratelimit_ok(struct mc_ratelimit *r, uint32_t burst)
{
	const int64_t now_ns = mc_now_ns();

	if (now_ns - r->window_start_ns >= 1000000000 || r->window_start_ns == 0) {
		if (r->suppressed > 0)
			mc_warn("%" PRIu32 " lines like the next one were left out", r->suppressed);
		r->window_start_ns = now_ns;
		r->count = 0;
		r->suppressed = 0;
	}
	if (r->count < burst) {
		r->count++;
		return true;
	}
	if (r->suppressed < UINT32_MAX)
		r->suppressed++;
	return false;
}

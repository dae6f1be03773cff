/* SPDX-License-Identifier: BSD-3-Clause */
#include "output.h"
#include "loop.h"
#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES (1u << 20) /* a longer line is passed on in pieces of this size */
#define READ_BYTES     65536
#define DRAW_MAX_BYTES 400 /* a longer unfinished line is no progress bar */

struct stream {
	struct mc_source src;
	struct mc_output *o;
	struct mc_sink *to;
	char *buf; /* the unfinished line */
	size_t len, room;
	char tag[MC_JOB_LABEL_MAX + 4];
	uint32_t rank;
	unsigned which;      /* 0 stdout, 1 stderr */
	int file;            /* below DIR, of a rank elsewhere; -1: none */
	struct stream *next; /* of the open ones */
};

struct mc_output {
	int epoll;
	const struct mc_job *job;
	struct mc_sink sink[2];
	struct mc_sink *out, *err; /* the same one when both are the same file: lines must not mix */
	struct stream *open;
	bool paused;
	bool told_closed[2];
	bool *seen; /* [2 * rank_n] files that have been opened before: a restarted rank writes on */
	bool held;  /* by whoever the output is relayed to */
	mc_output_relay_fn *relay;
	void *relay_arg;
	struct stream **fed; /* [2 * rank_n] streams of ranks elsewhere; NULL: none yet */
};

int mc_output_create(int epoll, const struct mc_job *job, struct mc_output **out, struct mc_err *err)
{
	struct stat a, b;

	if (job->output == MC_OUTPUT_DIR && mkdir(job->output_dir, 0777) != 0 && errno != EEXIST)
		return mc_err_set(err, "cannot make the output directory %s: %s", job->output_dir, strerror(errno));
	struct mc_output *o = mc_xalloc(1, sizeof(*o));
	o->epoll = epoll;
	o->job = job;
	mc_sink_open(&o->sink[0], epoll, STDOUT_FILENO);
	mc_sink_open(&o->sink[1], epoll, STDERR_FILENO);
	o->err = &o->sink[1];
	o->out = &o->sink[0];
	if (fstat(STDOUT_FILENO, &a) == 0 && fstat(STDERR_FILENO, &b) == 0 && a.st_dev == b.st_dev &&
	    a.st_ino == b.st_ino)
		o->out = o->err;
	*out = o;
	return 0;
}

static void stream_close(struct stream *s)
{
	struct stream **p = &s->o->open;

	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	(void)mc_source_arm(s->o->epoll, &s->src, 0);
	if (s->src.fd >= 0)
		(void)close(s->src.fd);
	if (s->file >= 0)
		(void)close(s->file);
	if (s->o->fed != NULL)
		s->o->fed[2 * (size_t)s->rank + s->which] = NULL;
	free(s->buf);
	free(s);
}

void mc_output_free(struct mc_output *o)
{
	if (o == NULL)
		return;
	while (o->open != NULL)
		stream_close(o->open);
	mc_sink_close(&o->sink[0]);
	mc_sink_close(&o->sink[1]);
	free(o->fed);
	free(o->seen);
	free(o);
}

/* Take an unfinished progress line off the terminal, to write something else there. */
static void undraw(struct mc_sink *to)
{
	if (to->drawn)
		mc_sink_put(to, "\r\033[K", 4);
	to->drawn = false;
}

static void put_piece(struct stream *s, const char *line, size_t len)
{
	undraw(s->to);
	if (s->tag[0] != '\0')
		mc_sink_put(s->to, s->tag, strlen(s->tag));
	mc_sink_put(s->to, line, len);
	if (len == 0 || line[len - 1] != '\n')
		mc_sink_put(s->to, "\n", 1);
}

/* How many bytes at the start of a line a terminal would not show, since a carriage return goes back over them. */
static size_t redrawn(const char *line, size_t len)
{
	size_t end = len;

	while (end > 0 && (line[end - 1] == '\n' || line[end - 1] == '\r'))
		end--;
	const char *cr = end == 0 ? NULL : memrchr(line, '\r', end);
	return cr == NULL ? 0 : (size_t)(cr - line) + 1;
}

/* A progress line that a rank draws again and again: on a terminal it is shown before it is finished. */
static void draw(struct stream *s)
{
	size_t skip = redrawn(s->buf, s->len), len = s->len - skip;

	if (skip == 0 || len > DRAW_MAX_BYTES)
		return;
	undraw(s->to);
	mc_sink_put(s->to, s->tag, strlen(s->tag));
	mc_sink_put(s->to, s->buf + skip, len);
	s->to->drawn = true;
	memmove(s->buf + 1, s->buf + skip, len); /* the return stays: it says that this is such a line */
	s->len = len + 1;
}

/* One line, in pieces if it is overlong; what goes out always ends with a newline. */
static void put_line(struct stream *s, const char *line, size_t len)
{
	size_t skip = s->to->tty ? redrawn(line, len) : 0;

	line += skip;
	len -= skip;
	for (; len > LINE_MAX_BYTES + 1; line += LINE_MAX_BYTES, len -= LINE_MAX_BYTES)
		put_piece(s, line, LINE_MAX_BYTES);
	put_piece(s, line, len);
}

/* Pass on the whole lines among the n new bytes at the end of the buffer. */
static void put_lines(struct stream *s, size_t n)
{
	size_t done = 0, look = s->len;

	s->len += n;
	while (look < s->len) {
		char *nl = memchr(s->buf + look, '\n', s->len - look);

		if (nl == NULL)
			break;
		look = (size_t)(nl - s->buf) + 1;
		put_line(s, s->buf + done, look - done);
		done = look;
	}
	while (s->len - done > LINE_MAX_BYTES) {
		put_piece(s, s->buf + done, LINE_MAX_BYTES);
		done += LINE_MAX_BYTES;
	}
	if (done > 0)
		memmove(s->buf, s->buf + done, s->len - done);
	s->len -= done;
	if (s->to->tty && s->len > 0)
		draw(s);
	if (s->len == 0 && s->room > READ_BYTES) { /* one long line is no reason to keep its room */
		free(s->buf);
		s->buf = NULL;
		s->room = 0;
	}
}

static void stream_end(struct stream *s)
{
	if (s->o->relay != NULL)
		s->o->relay(s->o->relay_arg, s->rank, s->which, NULL, 0);
	if (s->len > 0)
		put_line(s, s->buf, s->len);
	stream_close(s);
}

enum got { GOT_SOME, GOT_NONE, GOT_END };

static enum got stream_read(struct stream *s)
{
	if (s->room - s->len < READ_BYTES / 2) {
		s->room = s->room == 0 ? READ_BYTES : s->room * 2;
		s->buf = mc_xgrow(s->buf, s->room, 1);
	}
	ssize_t n = read(s->src.fd, s->buf + s->len, s->room - s->len);
	if (n > 0) {
		if (s->o->relay != NULL)
			s->o->relay(s->o->relay_arg, s->rank, s->which, s->buf, (size_t)n);
		else
			put_lines(s, (size_t)n);
		return GOT_SOME;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return GOT_NONE;
	stream_end(s);
	return GOT_END;
}

static void on_readable(struct mc_source *src, uint32_t events)
{
	struct stream *s = (struct stream *)(void *)src;

	(void)events;
	(void)stream_read(s);
}

static int open_file(struct mc_output *o, uint32_t rank, unsigned which, const char *path)
{
	if (o->seen == NULL)
		o->seen = mc_xalloc(o->job->rank_n, 2 * sizeof(*o->seen));
	bool *seen = &o->seen[2 * (size_t)rank + which];
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (*seen ? 0 : O_TRUNC), 0666);
	*seen = true;
	return fd;
}

/* Below DIR the rank writes its file itself: nothing is lost or delayed, whatever becomes of mcrun. */
static int open_files(struct mc_output *o, uint32_t rank, int fd_out[2], struct mc_err *err)
{
	static const char *const ext[2] = {"out", "err"};
	char label[MC_JOB_LABEL_MAX];

	mc_job_label(o->job, rank, label);
	for (int i = 0; i < 2; i++) {
		char *path = mc_xformat("%s/%s.%s", o->job->output_dir, label, ext[i]);

		fd_out[i] = open_file(o, rank, (unsigned)i, path);
		if (fd_out[i] < 0) {
			(void)mc_err_set(err, "cannot write %s: %s", path, strerror(errno));
			free(path);
			if (i == 1)
				(void)close(fd_out[0]);
			return -1;
		}
		free(path);
	}
	return 0;
}

static struct stream *stream_new(struct mc_output *o, uint32_t rank, unsigned which)
{
	struct stream *s = mc_xalloc(1, sizeof(*s));
	char label[MC_JOB_LABEL_MAX];

	s->src = (struct mc_source){.fd = -1, .ready = on_readable};
	s->o = o;
	s->to = which == 0 ? o->out : o->err;
	s->rank = rank;
	s->which = which;
	s->file = -1;
	if (o->job->output == MC_OUTPUT_TAG) {
		mc_job_label(o->job, rank, label);
		(void)snprintf(s->tag, sizeof(s->tag), "[%s] ", label);
	}
	s->next = o->open;
	o->open = s;
	return s;
}

static int open_stream(struct mc_output *o, uint32_t rank, unsigned which, int *fd_out, struct mc_err *err)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) != 0)
		return mc_err_set(err, "cannot make a pipe for rank %u: %s%s", rank, strerror(errno),
				  mc_err_hint(errno));
	(void)fcntl(fd[0], F_SETFL, O_NONBLOCK);
	struct stream *s = stream_new(o, rank, which);
	s->src.fd = fd[0];
	if (!o->paused)
		(void)mc_source_arm(o->epoll, &s->src, EPOLLIN);
	*fd_out = fd[1];
	return 0;
}

int mc_output_open(struct mc_output *o, uint32_t rank, int fd_out[2], struct mc_err *err)
{
	if (o->job->output == MC_OUTPUT_DIR)
		return open_files(o, rank, fd_out, err);
	if (open_stream(o, rank, 0, &fd_out[0], err) != 0)
		return -1;
	if (open_stream(o, rank, 1, &fd_out[1], err) != 0) {
		(void)close(fd_out[0]);
		return -1;
	}
	return 0;
}

void mc_output_say(struct mc_output *o, const char *fmt, ...)
{
	char line[2048] = "mcrun: ";
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line + 7, sizeof(line) - 8, fmt, ap);
	va_end(ap);
	for (char *c = line; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	size_t len = strlen(line);
	line[len++] = '\n';
	if (o->relay != NULL) {
		o->relay(o->relay_arg, UINT32_MAX, 1, line + 7, len - 8);
		return;
	}
	undraw(o->err);
	mc_sink_put(o->err, line, len);
}

/* While either queue is full no rank is read: simple, and what slows one reader of ours slows the user anyway. */
static void set_paused(struct mc_output *o, bool paused)
{
	if (o->paused == paused)
		return;
	o->paused = paused;
	for (struct stream *s = o->open; s != NULL; s = s->next)
		(void)mc_source_arm(o->epoll, &s->src, paused ? 0 : EPOLLIN);
}

void mc_output_flush(struct mc_output *o)
{
	static const char *const name[2] = {"stdout", "stderr"};

	for (int i = 0; i < 2; i++) {
		mc_sink_flush(&o->sink[i]);
		if (o->sink[i].closed && !o->told_closed[i]) {
			o->told_closed[i] = true;
			mc_output_say(o, "my %s is closed or full; what the ranks print there is dropped, they go on",
				      name[i]);
			mc_sink_flush(o->err);
		}
	}
	set_paused(o, o->held || mc_output_full(o));
}

bool mc_output_full(const struct mc_output *o)
{
	return mc_sink_len(o->out) > MC_SINK_FULL || mc_sink_len(o->err) > MC_SINK_FULL;
}

void mc_output_relay(struct mc_output *o, mc_output_relay_fn *fn, void *arg)
{
	o->relay = fn;
	o->relay_arg = arg;
}

void mc_output_hold(struct mc_output *o, bool hold)
{
	o->held = hold;
	set_paused(o, o->held || mc_output_full(o));
}

static struct stream *fed_stream(struct mc_output *o, uint32_t rank, unsigned which)
{
	static const char *const ext[2] = {"out", "err"};

	if (o->fed == NULL)
		o->fed = mc_xalloc(o->job->rank_n, 2 * sizeof(struct stream *));
	struct stream **at = &o->fed[2 * (size_t)rank + which];
	if (*at != NULL)
		return *at;
	struct stream *s = *at = stream_new(o, rank, which);
	if (o->job->output == MC_OUTPUT_DIR) {
		char label[MC_JOB_LABEL_MAX];

		mc_job_label(o->job, rank, label);
		char *path = mc_xformat("%s/%s.%s", o->job->output_dir, label, ext[which]);
		s->file = open_file(o, rank, which, path);
		if (s->file < 0)
			mc_output_say(o, "cannot write %s: %s; what the rank prints there is dropped", path,
				      strerror(errno));
		free(path);
	}
	return s;
}

void mc_output_feed(struct mc_output *o, uint32_t rank, unsigned stream, const char *data, size_t len)
{
	if (rank >= o->job->rank_n || stream > 1)
		return;
	struct stream *s = fed_stream(o, rank, stream);
	if (o->job->output == MC_OUTPUT_DIR) {
		while (len > 0 && s->file >= 0) {
			ssize_t n = write(s->file, data, len);

			if (n < 0 && errno != EINTR)
				return; /* a full disk: what cannot be written is dropped, the job goes on */
			data += n > 0 ? n : 0;
			len -= n > 0 ? (size_t)n : 0;
		}
		return;
	}
	while (len > 0) {
		size_t n = len < READ_BYTES / 2 ? len : READ_BYTES / 2;

		if (s->room - s->len < n) {
			s->room = s->room == 0 ? READ_BYTES : s->room * 2;
			s->buf = mc_xgrow(s->buf, s->room, 1);
		}
		memcpy(s->buf + s->len, data, n);
		put_lines(s, n);
		data += n;
		len -= n;
	}
}

void mc_output_feed_end(struct mc_output *o, uint32_t rank, unsigned stream)
{
	if (rank < o->job->rank_n && stream <= 1 && o->fed != NULL && o->fed[2 * (size_t)rank + stream] != NULL)
		stream_end(o->fed[2 * (size_t)rank + stream]);
}

bool mc_output_all_closed(const struct mc_output *o)
{
	return o->open == NULL;
}

bool mc_output_all_written(const struct mc_output *o)
{
	return mc_sink_len(o->out) == 0 && mc_sink_len(o->err) == 0;
}

void mc_output_close_all(struct mc_output *o)
{
	while (o->open != NULL) {
		enum got got = o->open->src.fd < 0 ? GOT_NONE : GOT_SOME;

		/* bounded: whoever still holds the pipe may be writing without end */
		for (int i = 0; i < 1024 && got == GOT_SOME; i++)
			got = stream_read(o->open);
		if (got != GOT_END)
			stream_end(o->open);
	}
}

void mc_output_drop(struct mc_output *o)
{
	mc_sink_drop(&o->sink[0]);
	mc_sink_drop(&o->sink[1]);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* config_file.c - the JSON file of settings: {"MC_NAME": string | number | bool, ...} to a list of texts. */
#include "config_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef MC_HAVE_JSON
#include <json.h>
#endif

enum { FILE_MAX = 1 << 20, FILE_FIRST = 4096, JSON_DEPTH = 4 };

void mc_config_file_free(struct mc_config_file *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->item[i].name);
		free(f->item[i].value);
	}
	free(f->item);
	*f = (struct mc_config_file){0};
}

#ifdef MC_HAVE_JSON
enum read_end { READ_OK, READ_ERRNO, READ_NOMEM, READ_TOO_LARGE };

/* Up to FILE_MAX bytes and a NUL behind them, in a buffer that grows: what fstat says of a size need not be true. */
static enum read_end read_all(int fd, char **text_out, size_t *len_out)
{
	size_t len = 0, room = 0;
	char *text = NULL;
	ssize_t n;

	do {
		if (len + 1 >= room) {
			char *more = realloc(text, room == 0 ? FILE_FIRST : room * 2);

			if (more == NULL) {
				free(text);
				return READ_NOMEM;
			}
			text = more;
			room = room == 0 ? FILE_FIRST : room * 2;
		}
		n = read(fd, text + len, room - len - 1);
		if (n < 0 && errno != EINTR) {
			free(text);
			return READ_ERRNO;
		}
		len += n > 0 ? (size_t)n : 0;
	} while (n != 0 && len <= FILE_MAX);
	if (len > FILE_MAX) {
		free(text);
		return READ_TOO_LARGE;
	}
	text[len] = '\0';
	*text_out = text;
	*len_out = len;
	return READ_OK;
}

/* Opened without blocking: a FIFO by that name must not hang the job's start. */
static mc_status_t file_load(const char *path, char **text_out, size_t *len_out, const struct mc_config_err *e)
{
	char q[MC_CONFIG_QUOTE_MAX];
	mc_status_t s = MC_OK;
	struct stat st;
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	mc_config_quote(path, q);
	if (fd < 0)
		return mc_config_fault(e, "MC_CONFIG: cannot open %s: %s", q, strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		s = mc_config_fault(e, "MC_CONFIG: %s is not a regular file", q);
		goto close_fd;
	}
	switch (read_all(fd, text_out, len_out)) {
	case READ_OK:
		break;
	case READ_ERRNO:
		s = mc_config_fault(e, "MC_CONFIG: cannot read %s: %s", q, strerror(errno));
		break;
	case READ_NOMEM:
		s = mc_config_fault(e, "MC_CONFIG: no memory to read %s", q);
		break;
	case READ_TOO_LARGE:
		s = mc_config_fault(e, "MC_CONFIG: %s is larger than 1 MiB, which no file of settings is", q);
		break;
	}
close_fd:
	close(fd);
	return s;
}

static unsigned line_at(const char *text, size_t off)
{
	unsigned line = 1;

	for (size_t i = 0; i < off; i++)
		line += text[i] == '\n';
	return line;
}

/* json-c keeps no positions: the line of the first "name" in the text. Names with escapes are not found: 0. */
static unsigned line_of_name(const char *text, const char *name)
{
	char quoted[MC_CONFIG_QUOTE_MAX];
	const int n = snprintf(quoted, sizeof(quoted), "\"%s\"", name);
	const char *p = n > 0 && (size_t)n < sizeof(quoted) ? strstr(text, quoted) : NULL;

	return p == NULL ? 0 : line_at(text, (size_t)(p - text));
}

static mc_status_t parse(const char *path, const char *text, size_t len, struct json_object **root_out,
			 const struct mc_config_err *e)
{
	char q[MC_CONFIG_QUOTE_MAX];
	mc_status_t s = MC_OK;
	struct json_object *root;
	enum json_tokener_error err;
	size_t off;
	struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH);

	if (tok == NULL)
		return mc_config_fault(e, "MC_CONFIG: no memory to parse %s", mc_config_quote(path, q));
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* With the NUL behind the text: it tells json-c that no more comes. */
	root = json_tokener_parse_ex(tok, text, (int)len + 1);
	err = json_tokener_get_error(tok);
	off = json_tokener_get_parse_end(tok);
	if (memchr(text, '\0', len) != NULL)
		s = mc_config_fault(e, "%s: has NUL bytes, it is no text", mc_config_quote(path, q));
	else if (err == json_tokener_continue || err == json_tokener_error_parse_eof)
		s = mc_config_fault(e, "%s line %u: JSON ends too early (at byte %zu)", mc_config_quote(path, q),
				    line_at(text, len), len);
	else if (err != json_tokener_success)
		s = mc_config_fault(e, "%s line %u: bad JSON at byte %zu: %s", mc_config_quote(path, q),
				    line_at(text, off), off, json_tokener_error_desc(err));
	else if (!json_object_is_type(root, json_type_object))
		s = mc_config_fault(e, "%s: must be a JSON object {\"MC_NAME\": value, ...}", mc_config_quote(path, q));
	json_tokener_free(tok);
	if (s != MC_OK) {
		json_object_put(root);
		return s;
	}
	*root_out = root;
	return MC_OK;
}

static mc_status_t item_add(struct mc_config_file *f, const char *path, const char *text, const char *name,
			    struct json_object *value, const struct mc_config_err *e)
{
	char qp[MC_CONFIG_QUOTE_MAX], qn[MC_CONFIG_QUOTE_MAX];
	const enum json_type type = json_object_get_type(value);
	struct mc_config_item *item = &f->item[f->n];
	const unsigned line = line_of_name(text, name);

	if (type != json_type_string && type != json_type_int && type != json_type_double && type != json_type_boolean)
		return mc_config_fault(e, "%s line %u: %s must be a string, a number, true or false, not %s",
				       mc_config_quote(path, qp), line, mc_config_quote(name, qn),
				       json_type_to_name(type));
	if (type == json_type_string &&
	    strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
		return mc_config_fault(e, "%s line %u: %s holds a NUL character", mc_config_quote(path, qp), line,
				       mc_config_quote(name, qn));
	item->name = strdup(name);
	item->value = strdup(json_object_get_string(value)); /* numbers as they were written */
	item->line = line;
	f->n++;
	if (item->name == NULL || item->value == NULL)
		return mc_config_fault(e, "MC_CONFIG: no memory to read %s", mc_config_quote(path, qp));
	return MC_OK;
}

static mc_status_t items_take(struct json_object *root, const char *path, const char *text, struct mc_config_file *f,
			      const struct mc_config_err *e)
{
	const size_t n = (size_t)json_object_object_length(root);
	char q[MC_CONFIG_QUOTE_MAX];
	struct json_object_iterator it = json_object_iter_begin(root), end = json_object_iter_end(root);

	f->item = calloc(n > 0 ? n : 1, sizeof(*f->item));
	if (f->item == NULL)
		return mc_config_fault(e, "MC_CONFIG: no memory to read %s", mc_config_quote(path, q));
	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		const mc_status_t s =
			item_add(f, path, text, json_object_iter_peek_name(&it), json_object_iter_peek_value(&it), e);

		if (s != MC_OK)
			return s;
	}
	return MC_OK;
}

mc_status_t mc_config_file_read(const char *path, struct mc_config_file *out, const struct mc_config_err *e)
{
	struct mc_config_file f = {0};
	struct json_object *root = NULL;
	char *text = NULL;
	size_t len = 0;
	mc_status_t s;

	s = file_load(path, &text, &len, e);
	if (s != MC_OK)
		return s;
	s = parse(path, text, len, &root, e);
	if (s != MC_OK)
		goto free_text;
	s = items_take(root, path, text, &f, e);
	json_object_put(root);
	if (s == MC_OK)
		*out = f;
	else
		mc_config_file_free(&f);
free_text:
	free(text);
	return s;
}
#else
mc_status_t mc_config_file_read(const char *path, struct mc_config_file *out, const struct mc_config_err *e)
{
	(void)path;
	(void)out;
	return mc_config_fault(e,
			       "MC_CONFIG is set, but libmc was built without json-c and cannot read files of settings;"
			       " unset it and use the environment");
}
#endif

/* SPDX-License-Identifier: BSD-3-Clause */
#include "hosts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES (16u << 20)

void mc_hosts_free(struct mc_hosts *h)
{
	for (uint32_t i = 0; i < h->n; i++)
		free(h->host[i].name);
	free(h->host);
	free(h->of_rank);
	*h = (struct mc_hosts){0};
}

static int find(const struct mc_hosts *h, const char *name, size_t len, uint32_t *out)
{
	for (uint32_t i = 0; i < h->n; i++)
		if (strlen(h->host[i].name) == len && memcmp(h->host[i].name, name, len) == 0) {
			*out = i;
			return 0;
		}
	return -1;
}

/* Nothing that a command line could take for an option or a shell for more than a word. */
static bool name_ok(const char *name, size_t len)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:%";

	if (len == 0 || len > MC_HOST_NAME_MAX || name[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (strchr(set, name[i]) == NULL || name[i] == '\0')
			return false;
	return true;
}

static int append(struct mc_hosts *h, const char *name, size_t len, uint32_t slots, struct mc_err *err)
{
	if (!name_ok(name, len))
		return mc_err_set(err, "\"%.*s\" cannot be the name of a host", (int)(len > 80 ? 80 : len), name);
	if (h->n == MC_HOST_MAX)
		return mc_err_set(err, "more than %u hosts", MC_HOST_MAX);
	if (h->n == h->room) {
		h->room = h->room == 0 ? 16 : h->room * 2;
		h->host = mc_xgrow(h->host, h->room, sizeof(*h->host));
	}
	h->host[h->n++] = (struct mc_host){mc_xformat("%.*s", (int)len, name), slots};
	return 0;
}

static int add(struct mc_hosts *h, const char *name, size_t len, uint32_t slots, struct mc_err *err)
{
	uint32_t i;

	if (find(h, name, len, &i) == 0) {
		if (slots > MC_JOB_RANK_MAX - h->host[i].slots)
			return mc_err_set(err, "host %s has more than %u slots", h->host[i].name, MC_JOB_RANK_MAX);
		h->host[i].slots += slots;
		return 0;
	}
	return append(h, name, len, slots, err);
}

/* "name", "name:4", "[address]:4" of length len. Slots 0: none said. */
static int split(const char *word, size_t len, size_t *at, size_t *name_len, uint32_t *slots, struct mc_err *err)
{
	const char *num = NULL;

	*at = 0;
	*name_len = len;
	*slots = 0;
	if (len > 0 && word[0] == '[') {
		const char *end = memchr(word, ']', len);

		if (end == NULL)
			return mc_err_set(err, "host \"%.*s\" has no closing bracket", (int)(len > 80 ? 80 : len),
					  word);
		*at = 1;
		*name_len = (size_t)(end - word) - 1;
		if (*name_len + 2 < len)
			num = end + 1;
	} else if ((num = memchr(word, ':', len)) != NULL) {
		*name_len = (size_t)(num - word);
	}
	if (num == NULL)
		return 0;
	char text[16];
	size_t n = len - (size_t)(num - word);
	if (*num == ':' && n >= 2 && n <= sizeof(text)) {
		memcpy(text, num + 1, n - 1);
		text[n - 1] = '\0';
		if (mc_text_count(text, slots) && *slots > 0 && *slots <= MC_JOB_RANK_MAX)
			return 0;
	}
	return mc_err_set(err, "host \"%.*s\" must be NAME or NAME:SLOTS with 1 to %u slots",
			  (int)(len > 80 ? 80 : len), word, MC_JOB_RANK_MAX);
}

int mc_hosts_parse(struct mc_hosts *h, const char *list, struct mc_err *err)
{
	for (;; list++) {
		size_t len = strcspn(list, ","), at, name_len;
		uint32_t slots;

		if (split(list, len, &at, &name_len, &slots, err) != 0 || add(h, list + at, name_len, slots, err) != 0)
			return -1;
		list += len;
		if (*list == '\0')
			return 0;
	}
}

/* One line of a host file, without its newline. */
static int take_line(struct mc_hosts *h, const char *line, size_t len, struct mc_err *err)
{
	const char *hash = memchr(line, '#', len);
	size_t at, name_len, end = 0;
	uint32_t slots;

	if (hash != NULL)
		len = (size_t)(hash - line);
	while (len > 0 && strchr(" \t\r", line[len - 1]) != NULL)
		len--;
	while (len > 0 && strchr(" \t", *line) != NULL)
		line++, len--;
	if (len == 0)
		return 0;
	while (end < len && strchr(" \t", line[end]) == NULL)
		end++;
	if (split(line, end, &at, &name_len, &slots, err) != 0)
		return -1;
	const char *rest = line + end;
	size_t left = len - end;
	while (left > 0 && strchr(" \t", *rest) != NULL)
		rest++, left--;
	if (left > 0) {
		char word[32];

		(void)snprintf(word, sizeof(word), "%.*s", (int)(left > 31 ? 31 : left), rest);
		if (strncmp(word, "slots=", 6) != 0 || !mc_text_count(word + 6, &slots) || slots == 0 ||
		    slots > MC_JOB_RANK_MAX)
			return mc_err_set(err, "\"%s\" after a host must be slots=N", word);
	}
	return add(h, line + at, name_len, slots, err);
}

int mc_hosts_parse_file(struct mc_hosts *h, const char *text, size_t len, const char *source, struct mc_err *err)
{
	const char *p = text, *end = text + len;

	for (unsigned line = 1; p < end; line++) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl == NULL ? end : nl) - p);
		struct mc_err why;

		if (take_line(h, p, n, &why) != 0)
			return mc_err_set(err, "%s: line %u: %.800s", source, line, why.text);
		p += n + (nl != NULL);
	}
	return h->n > 0 ? 0 : mc_err_set(err, "%s: names no host", source);
}

int mc_hosts_load(struct mc_hosts *h, const char *file, struct mc_err *err)
{
	FILE *f = fopen(file, "re");

	if (f == NULL)
		return mc_err_set(err, "cannot read %s: %s", file, strerror(errno));
	char *text = mc_xalloc(FILE_MAX_BYTES + 1, 1);
	size_t n = fread(text, 1, FILE_MAX_BYTES + 1, f);
	int rc = 0;
	if (ferror(f))
		rc = mc_err_set(err, "cannot read %s: %s", file, strerror(errno));
	else if (n > FILE_MAX_BYTES)
		rc = mc_err_set(err, "%s: longer than %u bytes: not a list of hosts", file, FILE_MAX_BYTES);
	else
		rc = mc_hosts_parse_file(h, text, n, file, err);
	(void)fclose(f);
	free(text);
	return rc;
}

/* ---- Slurm's notation ---- */

static int slurm_name(struct mc_hosts *h, const char *head, size_t head_len, const char *rest, size_t rest_len,
		      struct mc_err *err);

/* Each number of "1-3,07" between head and rest; leading zeros count as width. */
static int slurm_range(struct mc_hosts *h, const char *head, size_t head_len, const char *list, size_t list_len,
		       const char *rest, size_t rest_len, struct mc_err *err)
{
	for (size_t i = 0; i < list_len;) {
		unsigned long long lo = 0, hi;
		size_t start = i, width;

		while (i < list_len && list[i] >= '0' && list[i] <= '9' && i - start < 10)
			lo = lo * 10 + (unsigned)(list[i++] - '0');
		width = i - start;
		hi = lo;
		if (i < list_len && list[i] == '-') {
			size_t second = ++i;

			for (hi = 0; i < list_len && list[i] >= '0' && list[i] <= '9' && i - second < 10; i++)
				hi = hi * 10 + (unsigned)(list[i] - '0');
			if (i == second)
				width = 0;
		}
		if (width == 0 || hi < lo || hi - lo >= MC_HOST_MAX || (i < list_len && list[i] != ','))
			return mc_err_set(err, "\"%.*s\" is not a list of numbers",
					  (int)(list_len > 80 ? 80 : list_len), list);
		i += i < list_len;
		for (; lo <= hi; lo++) {
			char *name = mc_xformat("%.*s%0*llu", (int)head_len, head, (int)width, lo);
			int rc = slurm_name(h, name, strlen(name), rest, rest_len, err);

			free(name);
			if (rc != 0)
				return -1;
		}
	}
	return 0;
}

/* head is plain; rest may hold brackets. */
static int slurm_name(struct mc_hosts *h, const char *head, size_t head_len, const char *rest, size_t rest_len,
		      struct mc_err *err)
{
	const char *open = memchr(rest, '[', rest_len);
	size_t plain = open == NULL ? rest_len : (size_t)(open - rest);

	if (head_len + plain > MC_HOST_NAME_MAX)
		return mc_err_set(err, "the name of a host is too long");
	char *name = mc_xformat("%.*s%.*s", (int)head_len, head, (int)plain, rest);
	int rc;
	if (open == NULL) {
		rc = append(h, name, strlen(name), 0, err); /* Slurm names none twice */
	} else {
		const char *close = memchr(open, ']', rest_len - plain);

		if (close == NULL || close == open + 1)
			rc = mc_err_set(err, "\"%.*s\": brackets do not match", (int)(rest_len > 80 ? 80 : rest_len),
					rest);
		else
			rc = slurm_range(h, name, strlen(name), open + 1, (size_t)(close - open) - 1, close + 1,
					 rest_len - (size_t)(close + 1 - rest), err);
	}
	free(name);
	return rc;
}

static int slurm_tasks(struct mc_hosts *h, uint32_t first, const char *tasks, struct mc_err *err)
{
	uint32_t i = first;
	const char *p = tasks;

	while (*p != '\0') {
		char *end;
		unsigned long n = strtoul(p, &end, 10), times = 1;

		if (end == p || n == 0 || n > MC_JOB_RANK_MAX || *p < '0' || *p > '9')
			break;
		if (strncmp(end, "(x", 2) == 0) {
			p = end + 2;
			times = strtoul(p, &end, 10);
			if (end == p || *end != ')' || *p < '0' || *p > '9')
				break;
			end++;
		}
		for (; times > 0 && i < h->n; times--)
			h->host[i++].slots = (uint32_t)n;
		if (*end == '\0')
			return 0;
		if (*end != ',')
			break;
		p = end + 1;
	}
	return mc_err_set(err, "\"%.80s\" is not a list of tasks per node", tasks);
}

int mc_hosts_parse_slurm(struct mc_hosts *h, const char *nodes, const char *tasks, struct mc_err *err)
{
	uint32_t first = h->n;
	const char *p = nodes;

	while (*p != '\0') {
		size_t len = 0;
		bool in = false;

		for (; p[len] != '\0' && (in || p[len] != ','); len++)
			in = p[len] == '[' || (in && p[len] != ']');
		if (slurm_name(h, "", 0, p, len, err) != 0)
			return -1;
		p += len;
		if (*p == ',')
			p++;
	}
	if (h->n == first)
		return mc_err_set(err, "\"%.80s\" names no node", nodes);
	return tasks == NULL || *tasks == '\0' ? 0 : slurm_tasks(h, first, tasks, err);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_print.c - what the checks found: for people in 100 columns, problems first; for programs as JSON. */
#include "doctor.h"

#include <string.h>

#define WIDTH 100

static const char *const status_name[] = {"ok", "warn", "fail", "na"};
static const char *const mode_name[] = {"nothing in particular", "rdma", "tcp", "slurm", "container", "k8s"};
static const char *const where_name[] = {"no container", "a container", "a Kubernetes pod", "a Slurm job"};

/* Columns, not bytes: what follows in a UTF-8 character takes none. */
static size_t columns(const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((unsigned char)s[i] & 0xc0) != 0x80;
	return n;
}

/* Words of text behind a label, further lines indented as far. Newlines of the text are kept. */
static void wrap(FILE *to, const char *label, size_t indent, const char *text)
{
	size_t at = indent;

	(void)fprintf(to, "%-*s", (int)indent, label);
	for (const char *p = text; *p != '\0';) {
		size_t len = strcspn(p, " \n"), col = columns(p, len);

		if (at > indent && at + 1 + col > WIDTH) {
			(void)fprintf(to, "\n%*s", (int)indent, "");
			at = indent;
		} else if (at > indent) {
			(void)fputc(' ', to);
			at++;
		}
		(void)fwrite(p, 1, len, to);
		at += col;
		p += len;
		if (*p == '\n') {
			(void)fprintf(to, "\n%*s", (int)indent, "");
			at = indent;
			p++;
		}
		p += strspn(p, " ");
	}
	(void)fputc('\n', to);
}

/* A command must survive being copied: it is not wrapped, unless at its own newlines. */
static void unwrapped(FILE *to, const char *label, size_t indent, const char *text)
{
	(void)fprintf(to, "%-*s", (int)indent, label);
	for (const char *p = text; *p != '\0';) {
		size_t len = strcspn(p, "\n");
		const char *note = memmem(p, len, "    # ", 6);

		/* the note behind it may go to a line of its own */
		if (note != NULL && indent + columns(p, len) > WIDTH) {
			size_t cmd = (size_t)(note - p);
			char rest[700];

			(void)fwrite(p, 1, cmd, to);
			(void)snprintf(rest, sizeof(rest), "%.*s", (int)(len - cmd - 4), note + 4);
			(void)fputc('\n', to);
			wrap(to, "", indent, rest);
			p += len + (p[len] == '\n');
			if (*p != '\0')
				(void)fprintf(to, "%*s", (int)indent, "");
			continue;
		}
		(void)fwrite(p, 1, len, to);
		(void)fputc('\n', to);
		p += len + (p[len] == '\n');
		if (*p != '\0')
			(void)fprintf(to, "%*s", (int)indent, "");
	}
}

static void headline(const struct mc_doctor *d, const struct mc_doc_result *result, char *out, size_t len)
{
	const char *broken = NULL;

	for (size_t i = 0; i < mc_doc_check_n; i++)
		if (broken == NULL && (mc_doc_checks[i].flags & MC_DOC_FATAL_RDMA) && result[i].status == MC_DOC_FAIL)
			broken = mc_doc_checks[i].id;
	if (d->mode == MC_DOC_TCP)
		(void)snprintf(out, len,
			       "TCP is asked for: ranks on this host use shared memory, ranks on other hosts TCP");
	else if (d->dev_n == 0)
		(void)snprintf(
			out, len,
			"no RDMA here: TCP and shared memory will be used (shared memory between ranks of this host)");
	else if (broken != NULL)
		(void)snprintf(out, len, "RDMA is here, but cannot be used (%s): TCP and shared memory would be used",
			       broken);
	else
		(void)snprintf(out, len,
			       "RDMA: %u device%s, %u of %u ports active; shared memory between ranks of this host",
			       d->dev_n, d->dev_n == 1 ? "" : "s", d->active_n, d->port_n);
}

static void print_problem(FILE *to, const struct mc_doc_check *c, const struct mc_doc_result *r)
{
	char head[200];

	(void)snprintf(head, sizeof(head), "%s  %s: %s", r->status == MC_DOC_FAIL ? "FAIL" : "WARN", c->id, c->title);
	(void)fprintf(to, "%s\n", head);
	wrap(to, "      read", 13, r->read);
	if (r->value[0] != '\0')
		wrap(to, "      value", 13, r->value);
	wrap(to, "      cause", 13, r->cause);
	if (r->fix[0] != '\0')
		unwrapped(to, "      fix", 13, r->fix);
	(void)fputc('\n', to);
}

static void print_row(FILE *to, const char *word, const char *id, const char *text)
{
	char label[64];

	(void)snprintf(label, sizeof(label), "%-5s %-15s", word, id);
	wrap(to, label, 22, text);
}

/* All that says nothing for one and the same reason, in one paragraph. */
static void print_na(FILE *to, const struct mc_doc_result *result)
{
	bool told[256] = {false};

	for (size_t i = 0; i < mc_doc_check_n && i < 256; i++) {
		char list[2000] = "";

		if (result[i].status != MC_DOC_NA || told[i])
			continue;
		for (size_t k = i; k < mc_doc_check_n && k < 256; k++) {
			if (result[k].status != MC_DOC_NA || strcmp(result[k].cause, result[i].cause) != 0)
				continue;
			told[k] = true;
			mc_doc_add(list, sizeof(list), "%s%s", list[0] == '\0' ? "" : ", ", mc_doc_checks[k].id);
		}
		mc_doc_add(list, sizeof(list), ": %s", result[i].cause);
		wrap(to, "na", 6, list);
	}
}

void mc_doctor_print_text(const struct mc_doctor *d, const struct mc_doc_result *result, FILE *to)
{
	static const enum mc_doc_status order[] = {MC_DOC_FAIL, MC_DOC_WARN};
	unsigned n[4] = {0};
	char line[300];

	headline(d, result, line, sizeof(line));
	wrap(to, "", 0, line);
	(void)snprintf(line, sizeof(line), "in %s%s%s; asked for: %s", where_name[d->where],
		       d->vm ? ", virtual machine: " : "", d->vm ? d->vm_name : "", mode_name[d->mode]);
	wrap(to, "", 0, line);
	(void)fputc('\n', to);
	for (size_t i = 0; i < mc_doc_check_n; i++)
		n[result[i].status]++;
	for (size_t o = 0; o < 2; o++)
		for (size_t i = 0; i < mc_doc_check_n; i++)
			if (result[i].status == order[o])
				print_problem(to, &mc_doc_checks[i], &result[i]);
	for (size_t i = 0; i < mc_doc_check_n; i++)
		if (result[i].status == MC_DOC_OK)
			print_row(to, "ok", mc_doc_checks[i].id, result[i].value);
	if (n[MC_DOC_NA] > 0)
		(void)fputc('\n', to);
	print_na(to, result);
	(void)fprintf(to, "\n%zu checks: %u fail, %u warn, %u ok, %u not applicable\n", mc_doc_check_n, n[MC_DOC_FAIL],
		      n[MC_DOC_WARN], n[MC_DOC_OK], n[MC_DOC_NA]);
}

void mc_json_string(FILE *to, const char *s)
{
	char copy[4096];

	/* what is no UTF-8 and no control character stays; newlines of a fix are kept as \n */
	(void)fputc('"', to);
	for (const char *line = s;; line++) {
		size_t len = strcspn(line, "\n");

		(void)snprintf(copy, sizeof(copy), "%.*s", (int)(len < sizeof(copy) ? len : sizeof(copy) - 1), line);
		mc_text_clean(copy);
		for (const char *p = copy; *p != '\0'; p++) {
			if (*p == '"' || *p == '\\')
				(void)fputc('\\', to);
			(void)fputc(*p, to);
		}
		line += len;
		if (*line == '\0')
			break;
		(void)fputs("\\n", to);
	}
	(void)fputc('"', to);
}

static void member(FILE *to, const char *name, const char *value, bool last)
{
	(void)fprintf(to, "\"%s\": ", name);
	mc_json_string(to, value);
	(void)fputs(last ? "}" : ", ", to);
}

void mc_doctor_print_json(const struct mc_doc_result *result, FILE *to)
{
	unsigned n[4] = {0};

	(void)fputs("{\"checks\": [", to);
	for (size_t i = 0; i < mc_doc_check_n; i++) {
		const struct mc_doc_result *r = &result[i];

		n[r->status]++;
		(void)fprintf(to, "%s\n{", i == 0 ? "" : ",");
		member(to, "id", mc_doc_checks[i].id, false);
		member(to, "title", mc_doc_checks[i].title, false);
		member(to, "status", status_name[r->status], false);
		member(to, "read", r->read, false);
		member(to, "value", r->value, false);
		member(to, "cause", r->cause, false);
		member(to, "fix", r->fix, true);
	}
	(void)fprintf(to, "\n], \"summary\": {\"ok\": %u, \"warn\": %u, \"fail\": %u, \"na\": %u}}\n", n[MC_DOC_OK],
		      n[MC_DOC_WARN], n[MC_DOC_FAIL], n[MC_DOC_NA]);
}

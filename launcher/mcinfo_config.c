/* SPDX-License-Identifier: BSD-3-Clause */
/* mcinfo_config.c - mcinfo config: every setting as mc_init() would read it now. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "mc.h"
#include "mcinfo.h"
#include "topo.h"

static const char help[] =
	"usage: mcinfo config [--json]\n"
	"\n"
	"  Every setting: value, where it came from, default, unit, meaning. * marks those that are not the default.\n"
	"  Exit status 1: a setting is bad or unknown; the fault is on stderr.\n";

static void member(const char *name, const char *value)
{
	printf(", \"%s\": ", name);
	mc_topo_json_string(stdout, value);
}

static void print_json(const struct mc_setting *s, bool ok, bool first)
{
	printf("%s\n    {\"name\": ", first ? "" : ",");
	mc_topo_json_string(stdout, s->name);
	member("type", s->type);
	member("value", s->value);
	member("source", s->source);
	member("default", s->def);
	member("unit", s->unit);
	member("text", s->text);
	printf(", \"valid\": %s}", ok ? "true" : "false");
}

/* The sentence below the value, broken before column 100. */
static void print_sentence(const char *text)
{
	size_t column = 4;

	printf("   ");
	for (const char *p = text; *p != '\0';) {
		size_t n = strcspn(p, " ");
		if (column + n >= 98) {
			printf("\n   ");
			column = 4;
		}
		printf(" %.*s", (int)n, p);
		column += n + 1;
		p += n;
		while (*p == ' ')
			p++;
	}
	putchar('\n');
}

static void print_text(const struct mc_setting *s, bool ok)
{
	/* A unit in words helps only where the value is a bare number. */
	bool bare = s->value[0] != '\0' && s->value[strspn(s->value, "0123456789")] == '\0';

	printf("%s %s = %s%s%s%s\n", strcmp(s->source, "default") == 0 ? " " : "*", s->name,
	       s->value[0] != '\0' ? s->value : "(empty)", bare && s->unit[0] != '\0' ? " " : "", bare ? s->unit : "",
	       ok ? "" : "   <- bad value");
	if (strcmp(s->source, "default") != 0)
		printf("    from: %s, default: %s\n", s->source, s->def[0] != '\0' ? s->def : "(empty)");
	print_sentence(s->text);
}

static int parse(int argc, char **argv, bool *json)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			return mc_info_flush();
		}
		if (c != 'j') {
			fprintf(stderr, "try mcinfo config --help\n");
			return 2;
		}
		*json = true;
	}
	if (optind < argc) {
		fprintf(stderr, "mcinfo: config takes options only; try mcinfo config --help\n");
		return 2;
	}
	return -1;
}

int mc_info_config(int argc, char **argv)
{
	char value[4096], err[1024];
	struct mc_setting s;
	mc_status_t status;
	bool json = false, bad;
	int rc = parse(argc, argv, &json);

	if (rc >= 0)
		return rc;
	if (json)
		printf("{\n  \"settings\": [");
	for (uint32_t i = 0; (status = mc_setting_get(i, &s, value, sizeof(value))) != MC_ERR_NOENT; i++) {
		if (status != MC_OK && status != MC_ERR_CONFIG) {
			fprintf(stderr, "mcinfo: setting %u: %s\n", i, mc_status_text(status));
			return 1;
		}
		if (json)
			print_json(&s, status == MC_OK, i == 0);
		else
			print_text(&s, status == MC_OK);
	}
	if (json)
		printf("]\n}\n");
	bad = mc_setting_check_env(err, sizeof(err)) != MC_OK;
	if (bad)
		fprintf(stderr, "mcinfo: %s\n", err);
	return mc_info_flush() != 0 || bad;
}

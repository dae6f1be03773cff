/* SPDX-License-Identifier: BSD-3-Clause */
/* settings2man.c - print mc-env(7) from the one table of settings. Run by the build: settings2man VERSION > mc-env.7 */
#include <stdio.h>
#include <string.h>

#include "config_defs.h"

struct row {
	const char *kind, *name, *def, *range, *unit, *text;
};

static const struct row rows[] = {
#define ROW(kind, field, name, def, range, unit, text) {#kind, name, def, range, unit, text},
	MC_CONFIG_DEFS(ROW)
#undef ROW
};

/* Escape what troff would read as its own. */
static void put(const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '\\')
			fputs("\\e", stdout);
		else if (*s == '-')
			fputs("\\-", stdout);
		else
			putchar(*s);
	}
}

static void put_range(const struct row *r)
{
	if (strcmp(r->kind, "BOOL") == 0) {
		puts("Values: yes, no (also 1, 0, on, off, true, false).");
	} else if (r->range[0] != '\0') {
		fputs(strcmp(r->kind, "ENUM") == 0 ? "Values: " : "Range: ", stdout);
		for (const char *p = r->range; *p != '\0'; p++) {
			char one[2] = {*p, '\0'};
			if (*p == '|')
				fputs(", ", stdout);
			else if (strncmp(p, "..", 2) == 0)
				fputs(" to ", stdout), p++;
			else
				put(one);
		}
		puts(".");
	}
}

static void put_row(const struct row *r)
{
	printf(".TP\n.B %s\n", r->name);
	put(r->text);
	puts(".");
	put_range(r);
	if (strcmp(r->kind, "SECRET") == 0)
		puts("Never shown.");
	if (r->def[0] == '\0') {
		puts("Default: empty.");
	} else {
		fputs("Default: ", stdout);
		put(r->def);
		/* A bare number says nothing without its unit; "20us" does. */
		if (strcmp(r->kind, "UINT") == 0 && r->unit[0] != '\0')
			printf(" %s", r->unit);
		puts(".");
	}
}

int main(int argc, char **argv)
{
	puts(".\\\" Made from runtime/config_defs.h; do not edit.");
	printf(".TH MC\\-ENV 7 \"\" \"mc %s\" \"mc\"\n", argc > 1 ? argv[1] : "");
	puts(".SH NAME\nmc\\-env \\- settings of mc\n.SH DESCRIPTION\n"
	     "A setting is taken from the first of these places that has it: what the program passes to\n"
	     ".BR mc_init (3)\n(or an option of mcrun), the environment, the JSON file that\n.B MC_CONFIG\n"
	     "names, the default.\nSettings are read once, by\n.BR mc_init (3).\n"
	     "An unknown name that starts with MC_ and a value out of range are errors;\n"
	     "the message names the nearest valid one.\n.PP\n"
	     "Sizes take K, M, G (powers of 1024); durations take ns, us, ms, s, m, h,\n"
	     "and a bare number is seconds.\n.SH SETTINGS");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		put_row(&rows[i]);
	puts(".SH SEE ALSO\n.BR mcrun (1),\n.BR mc (7),\n.BR mc_init (3)");
	return ferror(stdout) || fflush(stdout) != 0;
}

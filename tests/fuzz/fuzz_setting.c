/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_setting.c - NAME=VALUE as a launcher or the environment hands it over; without '=' the name alone. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct row {
	const char *name;
	size_t off;
	char kind; /* first letter of the kind in config_defs.h; of SECRET: X */
};

static const struct row rows[] = {
#define KIND_ENUM                                      'E'
#define KIND_UINT                                      'U'
#define KIND_SIZE                                      'S'
#define KIND_DUR                                       'D'
#define KIND_BOOL                                      'B'
#define KIND_STR                                       'T'
#define KIND_SECRET                                    'X'
#define ROW(kind, field, name, def, range, unit, text) {name, offsetof(struct mc_config, field), KIND_##kind},
	MC_CONFIG_DEFS(ROW)
#undef ROW
};

static void must(int ok, const char *what, const char *detail)
{
	if (!ok) {
		fprintf(stderr, "fuzz_setting: %s: %s\n", what, detail);
		abort();
	}
}

/* Fit to print, and it names a setting that exists. */
static void check_message(const char *err)
{
	bool named = false;

	for (const char *p = err; *p != '\0'; p++)
		must((unsigned char)*p >= 0x20 && *p != 0x7f, "control character in a message", err);
	for (size_t i = 0; i < MC_ARRAY_LEN(rows); i++)
		named = named || strstr(err, rows[i].name) != NULL;
	must(named, "a message that names no setting", err);
}

static const struct row *row_of(const char *name)
{
	for (size_t i = 0; i < MC_ARRAY_LEN(rows); i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

/* The value of a field in the plainest notation there is. */
static void plain(const struct mc_config *cfg, const struct row *row, char *out, size_t room)
{
	const char *field = (const char *)cfg + row->off;
	int64_t dur;
	uint64_t size;
	uint32_t uint;

	switch (row->kind) {
	case 'D':
		memcpy(&dur, field, sizeof(dur));
		snprintf(out, room, "%" PRId64 "ns", dur);
		break;
	case 'S':
		memcpy(&size, field, sizeof(size));
		snprintf(out, room, "%" PRIu64, size);
		break;
	default:
		memcpy(&uint, field, sizeof(uint));
		snprintf(out, room, "%" PRIu32, uint);
		break;
	}
}

/* A number that was accepted must be accepted in plain notation, with the same result. */
static void check_number_again(const struct mc_config *cfg, const struct row *row, const char *value)
{
	struct mc_config again = {0};
	char text[32], text2[32], err[512];

	plain(cfg, row, text, sizeof(text));
	must(mc_config_set(&again, row->name, text, err, sizeof(err)) == MC_OK, "plain notation is refused", value);
	plain(&again, row, text2, sizeof(text2));
	must(strcmp(text, text2) == 0, "plain notation gives another value", value);
	mc_config_free(&again);
}

static void check_value(const char *name, const char *value)
{
	const struct row *row = row_of(name);
	struct mc_config cfg = {0};
	char err[512] = "", err2[512] = "";
	const mc_status_t s = mc_setting_check(name, value, err, sizeof(err));
	const mc_status_t s2 = mc_config_set(&cfg, name, value, err2, sizeof(err2));

	must(s == s2 && strcmp(err, err2) == 0, "check and set disagree", err);
	must(s == MC_OK || s == MC_ERR_CONFIG, "undocumented status", mc_status_name(s));
	must(row != NULL || s == MC_ERR_CONFIG, "an unknown name is accepted", name);
	if (s != MC_OK)
		check_message(err);
	else if (strchr("DSU", row->kind) != NULL)
		check_number_again(&cfg, row, value);
	else if (row->kind == 'T')
		must(strcmp(*(char **)(void *)((char *)&cfg + row->off), value) == 0, "a string was changed", value);
	/* A secret of some length must not come back in a message, unless it is part of the message anyway. */
	if (s != MC_OK && row != NULL && row->kind == 'X' && strlen(value) > 60)
		must(strstr(err, value) == NULL, "a secret in a message", err);
	mc_config_free(&cfg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *eq;
	char err[512] = "";

	if (text == NULL)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	eq = strchr(text, '=');
	if (eq != NULL) {
		*eq = '\0';
		check_value(text, eq + 1);
	} else if (mc_setting_check(text, NULL, err, sizeof(err)) != MC_OK) {
		check_message(err);
	} else {
		must(row_of(text) != NULL, "an unknown name is accepted", text);
	}
	free(text);
	return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_hosts.c - lists of hosts: first byte 0: --hosts, 1: a file, else Slurm's notation (in which a short text
 * can stand for 65536 names) */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok, const char *what, const char *detail)
{
	if (!ok) {
		fprintf(stderr, "fuzz_hosts: %s: %s\n", what, detail);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mc_hosts h = {0};
	struct mc_err err = {""};
	int rc;

	if (size == 0)
		return 0;
	char *text = calloc(1, size);
	if (text == NULL)
		return 0;
	memcpy(text, data + 1, size - 1);
	if (data[0] == 0)
		rc = mc_hosts_parse(&h, text, &err);
	else if (data[0] == 1)
		rc = mc_hosts_parse_file(&h, text, size - 1, "file", &err);
	else
		rc = mc_hosts_parse_slurm(&h, text, data[0] == 2 ? NULL : text, &err);
	must(rc == 0 || err.text[0] != '\0', "refused without a word", text);
	must(rc != 0 || h.n > 0, "no host was accepted", text);
	for (uint32_t i = 0; i < h.n; i++) {
		const char *name = h.host[i].name;

		must(*name != '\0' && *name != '-' && strlen(name) <= MC_HOST_NAME_MAX, "a bad name", name);
		must(strpbrk(name, " \t\n,;$`'\"\\&|<>()") == NULL, "a name that is more than a word", name);
		must(h.host[i].slots <= MC_JOB_RANK_MAX, "too many slots", name);
	}
	mc_hosts_free(&h);
	free(text);
	return 0;
}

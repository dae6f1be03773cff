/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_abi.c - sizes and offsets of the public structures and the numbers of the statuses, as released. A program that
 * was built against an older mc.h depends on every line here: a line may be added, one that stands in a release must
 * not change.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mc.h"

struct fact {
	const char *what;
	size_t have, want;
};

#define SIZE(type, want)       {"sizeof(" #type ")", sizeof(type), (want)}
#define AT(type, member, want) {#type "." #member, offsetof(type, member), (want)}

static const struct fact facts[] = {
#include "layout.inc"
};

struct number {
	const char *name;
	int have, want;
};

static const struct number numbers[] = {
	{"MC_OK", MC_OK, 0},
	{"MC_IN_PROGRESS", MC_IN_PROGRESS, 1},
	{"MC_ERR_INVAL", MC_ERR_INVAL, -1},
	{"MC_ERR_NOMEM", MC_ERR_NOMEM, -2},
	{"MC_ERR_AGAIN", MC_ERR_AGAIN, -3},
	{"MC_ERR_TIMEOUT", MC_ERR_TIMEOUT, -4},
	{"MC_ERR_RANGE", MC_ERR_RANGE, -5},
	{"MC_ERR_BUSY", MC_ERR_BUSY, -6},
	{"MC_ERR_CANCELED", MC_ERR_CANCELED, -7},
	{"MC_ERR_UNSUPPORTED", MC_ERR_UNSUPPORTED, -8},
	{"MC_ERR_NOSPC", MC_ERR_NOSPC, -9},
	{"MC_ERR_MISMATCH", MC_ERR_MISMATCH, -10},
	{"MC_ERR_STALE", MC_ERR_STALE, -11},
	{"MC_ERR_CONFIG", MC_ERR_CONFIG, -12},
	{"MC_ERR_NOENT", MC_ERR_NOENT, -13},
	{"MC_ERR_PROTO", MC_ERR_PROTO, -30},
	{"MC_ERR_PEER_DOWN", MC_ERR_PEER_DOWN, -31},
	{"MC_ERR_AUTH", MC_ERR_AUTH, -32},
	{"MC_ERR_DEVICE", MC_ERR_DEVICE, -60},
	{"MC_ERR_BOOT", MC_ERR_BOOT, -61},
	{"MC_ERR_INTERNAL", MC_ERR_INTERNAL, -62},
	{"MC_LOG_ERROR", MC_LOG_ERROR, 0},
	{"MC_LOG_DEBUG", MC_LOG_DEBUG, 3},
	{"MC_MEM_HUGE", MC_MEM_HUGE, 1},
	{"MC_KIND_HOST", MC_KIND_HOST, 0},
	{"MC_KIND_CUDA", MC_KIND_CUDA, 1},
	{"MC_KIND_DMABUF", MC_KIND_DMABUF, 2},
	{"MC_NOTIFY_COUNT", MC_NOTIFY_COUNT, 1},
	{"MC_NOTIFY_NOTE", MC_NOTIFY_NOTE, 2},
	{"MC_ROLE_MAX", MC_ROLE_MAX, 32},
	{"MC_NAME_MAX", MC_NAME_MAX, 64},
	{"MC_NOTE_MAX", MC_NOTE_MAX, 65536},
};

int main(void)
{
	unsigned bad = 0;
	if (sizeof(void *) != 8 || sizeof(long) != 8) {
		puts("skip: the table holds for 64-bit (LP64) machines");
		return 77;
	}
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		if (facts[i].have != facts[i].want) {
			printf("%s is %zu, was released as %zu\n", facts[i].what, facts[i].have, facts[i].want);
			bad++;
		}
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (numbers[i].have != numbers[i].want) {
			printf("%s is %d, was released as %d\n", numbers[i].name, numbers[i].have, numbers[i].want);
			bad++;
		}
	}
	/* The library in use names itself as the header does. */
	char version[32];
	snprintf(version, sizeof(version), "%d.%d.%d", MC_VERSION_MAJOR, MC_VERSION_MINOR, MC_VERSION_PATCH);
	if (strcmp(version, mc_version()) != 0) {
		printf("mc_version() is %s, the header says %s\n", mc_version(), version);
		bad++;
	}
	printf("%zu sizes and offsets, %zu numbers, %u wrong\n", sizeof(facts) / sizeof(facts[0]),
	       sizeof(numbers) / sizeof(numbers[0]), bad);
	return bad != 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_replay_fit.c - any bytes as the record of another job's options: what is taken keeps the promises of
 * replay_fit.h, is written as it was read, and compares with one line of printable text. */
#include <stdlib.h>
#include <string.h>

#include "replay_fit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void printable(const char *s)
{
	for (; *s != '\0'; s++)
		must(*s >= 0x20 && *s <= 0x7e);
}

static void check_record(const struct replay_fit *f)
{
	must(f->item_n <= REPLAY_FIT_ITEMS && f->n > 0 && f->with_n > 0);
	must(f->with[0] != '\0' && strlen(f->with) < sizeof(f->with));
	for (uint32_t i = 0; i < f->item_n; i++) {
		printable(f->item[i].name);
		printable(f->item[i].value);
	}
}

static void check_compare(const struct replay_fit *f)
{
	struct replay_fit mine = {.with = "theirs", .n = f->with_n, .with_n = f->n};
	struct perf_err err = {""};

	must(replay_fit_add(&mine, "--src", "tp=2") && replay_fit_add(&mine, "--requests", "60"));
	bool fits = replay_fit_compare(&mine, f->with, f, "theirs", &err);
	must(fits != perf_err_is_set(&err));
	printable(err.text);
	err.text[0] = '\0';
	(void)replay_fit_compare(&mine, "another", f, "theirs", &err); /* then it says whom f looks for */
	printable(err.text);
	mine = *f; /* with itself, where both look for the same job and have as many ranks: always */
	mine.n = f->with_n;
	mine.with_n = f->n;
	err.text[0] = '\0';
	must(replay_fit_compare(&mine, f->with, f, "theirs", &err));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct replay_fit f;
	uint8_t buf[REPLAY_FIT_BYTES];

	switch (replay_fit_read(data, size > UINT32_MAX ? UINT32_MAX : (uint32_t)size, &f)) {
	case REPLAY_FIT_OK:
		check_record(&f);
		check_compare(&f);
		printable(f.program);
		must(replay_fit_write(&f, buf) == size && memcmp(buf, data, size) == 0);
		break;
	case REPLAY_FIT_OTHER_VERSION:
		must(f.program[0] != '\0' && f.item_n == 0);
		printable(f.program);
		break;
	case REPLAY_FIT_MALFORMED:
		break;
	}
	return 0;
}

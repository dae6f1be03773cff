/* SPDX-License-Identifier: BSD-3-Clause */
/* test_replay_fit.c - the record by which two jobs of `replay --with` compare what they play: bytes, and what differs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay_fit.h"

static struct replay_fit sample(void)
{
	struct replay_fit f = {.asks = true, .program = "0.1.0", .with = "dec", .n = 2, .with_n = 3};

	assert_true(replay_fit_add(&f, "--requests", "%d", 60));
	assert_true(replay_fit_add(&f, "--trace", "of digest %016x", 5));
	assert_true(replay_fit_add(&f, "--src", "tp=%d", 2));
	return f;
}

/* What job dec, which looks for pre, would say of the same. */
static struct replay_fit other(void)
{
	struct replay_fit f = sample();

	snprintf(f.with, sizeof(f.with), "pre");
	f.n = 3;
	f.with_n = 2;
	return f;
}

static void put_text(struct replay_fit *f, uint32_t i, const char *value)
{
	snprintf(f->item[i].value, sizeof(f->item[i].value), "%s", value);
}

static void differ(const struct replay_fit *a, const struct replay_fit *b, const char *text)
{
	struct perf_err err = {""};

	assert_false(replay_fit_compare(a, "pre", b, "dec", &err));
	assert_string_equal(err.text, text);
}

static void read_back__same(void **state)
{
	struct replay_fit f = sample(), back;
	uint8_t buf[REPLAY_FIT_BYTES];
	uint32_t len = replay_fit_write(&f, buf);

	(void)state;
	assert_int_equal(replay_fit_read(buf, len, &back), REPLAY_FIT_OK);
	assert_true(back.asks);
	assert_string_equal(back.program, "0.1.0");
	assert_string_equal(back.with, "dec");
	assert_int_equal(back.n, 2);
	assert_int_equal(back.with_n, 3);
	assert_int_equal(back.item_n, 3);
	assert_string_equal(back.item[2].name, "--src");
	assert_string_equal(back.item[2].value, "tp=2");
	assert_true(replay_fit_digest(&f) == replay_fit_digest(&back));
}

static void largest__has_room(void **state)
{
	struct replay_fit f = {.n = 1, .with_n = 1}, back;
	uint8_t buf[REPLAY_FIT_BYTES];
	char name[REPLAY_FIT_TEXT], value[REPLAY_FIT_TEXT + 1];

	(void)state;
	memset(f.with, 'w', sizeof(f.with) - 1);
	memset(f.program, 'p', sizeof(f.program) - 1);
	memset(value, 'v', sizeof(value));
	value[REPLAY_FIT_TEXT - 1] = '\0';
	for (int i = 0; i < REPLAY_FIT_ITEMS; i++) {
		snprintf(name, sizeof(name), "%0*d", REPLAY_FIT_TEXT - 1, i);
		assert_true(replay_fit_add(&f, name, "%s", value));
	}
	assert_int_equal(replay_fit_read(buf, replay_fit_write(&f, buf), &back), REPLAY_FIT_OK);
	assert_memory_equal(&f, &back, sizeof(f));
	assert_false(replay_fit_add(&f, "one", "too many"));
	f.item_n = 0;
	value[REPLAY_FIT_TEXT - 1] = 'v';
	value[REPLAY_FIT_TEXT] = '\0';
	assert_false(replay_fit_add(&f, "long", "%s", value));
	assert_false(replay_fit_add(&f, value, "long"));
	assert_false(replay_fit_add(&f, "control", "\033[2J"));
	assert_int_equal(f.item_n, 0);
}

static void read__cut_or_longer_is_malformed(void **state)
{
	struct replay_fit f = sample(), back;
	uint8_t buf[REPLAY_FIT_BYTES + 1] = {0};
	uint32_t len = replay_fit_write(&f, buf);

	(void)state;
	for (uint32_t cut = 0; cut < len; cut++) {
		uint8_t *exact = malloc(cut + 1); /* for the address sanitizer: nothing behind the cut */
		assert_non_null(exact);
		memcpy(exact, buf, cut);
		assert_int_equal(replay_fit_read(exact, cut, &back), REPLAY_FIT_MALFORMED);
		free(exact);
	}
	assert_int_equal(replay_fit_read(buf, len + 1, &back), REPLAY_FIT_MALFORMED);
	assert_int_equal(replay_fit_read(buf, sizeof(buf), &back), REPLAY_FIT_MALFORMED);
}

static void read__malformed(void **state)
{
	static const struct {
		const char *find; /* this text, */
		size_t at;        /* at this place of it, */
		uint8_t byte;     /* becomes this byte */
	} bad[] = {
		{"tp=2", 0, 0x1b},          /* a control character */
		{"tp=2", 1, 0},             /* a NUL inside */
		{"--trace", 2, '\n'},       /* in a name */
		{"0.1.0", 0, 0x7f},         /* in the version of mc */
		{"\005\0\0\0--src", 1, 1},  /* longer than a name may be */
		{"tp=2", 0, 0x9b},          /* a control character of eight bits */
		{"0.1.0", 4, 0xe9},         /* no ASCII */
		{"\003\0\0\0dec", 4, 0x1b}, /* a control character in the name of a job */
	};
	struct replay_fit f = sample(), back;
	uint8_t buf[REPLAY_FIT_BYTES];
	uint32_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t n = i == 4 ? 9 : i == 7 ? 7 : strlen(bad[i].find);
		len = replay_fit_write(&f, buf);
		uint8_t *at = memmem(buf, len, bad[i].find, n);
		assert_non_null(at);
		at[bad[i].at] = bad[i].byte;
		assert_int_equal(replay_fit_read(buf, len, &back), REPLAY_FIT_MALFORMED);
	}
	f = sample();
	snprintf(f.item[1].name, sizeof(f.item[1].name), "--requests"); /* the same option twice */
	assert_int_equal(replay_fit_read(buf, replay_fit_write(&f, buf), &back), REPLAY_FIT_MALFORMED);
	f = sample();
	put_text(&f, 0, "");
	assert_int_equal(replay_fit_read(buf, replay_fit_write(&f, buf), &back), REPLAY_FIT_MALFORMED);
	f = sample();
	f.n = 0;
	assert_int_equal(replay_fit_read(buf, replay_fit_write(&f, buf), &back), REPLAY_FIT_MALFORMED);
	f = sample();
	len = replay_fit_write(&f, buf);
	buf[0] ^= 1; /* magic */
	assert_int_equal(replay_fit_read(buf, len, &back), REPLAY_FIT_MALFORMED);
	buf[0] ^= 1;
	buf[8] |= 2; /* a flag that there is not */
	assert_int_equal(replay_fit_read(buf, len, &back), REPLAY_FIT_MALFORMED);
}

static void read__more_options_than_there_is_room_for(void **state)
{
	struct replay_fit f = {.program = "0.1.0", .with = "dec", .n = 1, .with_n = 1}, back;
	uint8_t buf[REPLAY_FIT_BYTES];
	uint32_t len, count_at = 4 + 4 + 4 + (4 + 5) + (4 + 3) + 4 + 4;
	static const uint8_t one_more[] = {1, 0, 0, 0, 'x', 1, 0, 0, 0, 'y'};

	(void)state;
	for (uint32_t i = 0; i < REPLAY_FIT_ITEMS; i++) {
		char name[3] = {'-', (char)('a' + i), '\0'};
		assert_true(replay_fit_add(&f, name, "value"));
	}
	len = replay_fit_write(&f, buf);
	assert_int_equal(replay_fit_read(buf, len, &back), REPLAY_FIT_OK);
	assert_int_equal(buf[count_at], REPLAY_FIT_ITEMS);
	memcpy(buf + len, one_more, sizeof(one_more));
	buf[count_at]++;
	assert_int_equal(replay_fit_read(buf, len + (uint32_t)sizeof(one_more), &back), REPLAY_FIT_MALFORMED);
}

static void read__other_version_is_known_as_one(void **state)
{
	struct replay_fit f = sample(), back;
	uint8_t buf[REPLAY_FIT_BYTES];
	uint32_t len = replay_fit_write(&f, buf);

	(void)state;
	buf[4] = 2; /* whatever follows the sender's version of mc is not looked at */
	assert_int_equal(replay_fit_read(buf, len - 3, &back), REPLAY_FIT_OTHER_VERSION);
	assert_true(back.asks);
	assert_string_equal(back.program, "0.1.0");
	assert_int_equal(replay_fit_read(buf, 18, &back), REPLAY_FIT_MALFORMED);
}

static void compare__fits(void **state)
{
	struct replay_fit a = sample(), b = other();
	struct perf_err err = {""};

	(void)state;
	b.asks = false;
	snprintf(b.program, sizeof(b.program), "0.2.0");
	assert_true(replay_fit_compare(&a, "pre", &b, "dec", &err));
	assert_false(perf_err_is_set(&err));
	assert_true(replay_fit_digest(&a) == replay_fit_digest(&b));
}

static void compare__names_what_differs(void **state)
{
	struct replay_fit a = sample(), b = other();

	(void)state;
	put_text(&b, 2, "tp=1");
	differ(&a, &b, "this job and job dec do not fit: --src tp=2 here, tp=1 in job dec");
	assert_true(replay_fit_digest(&a) != replay_fit_digest(&b));
	b.n = 4;
	put_text(&b, 1, "another one");
	differ(&a, &b,
	       "this job and job dec do not fit: --with dec:3 here, job dec has 4 ranks; --trace of digest "
	       "0000000000000005 here, another one in job dec; --src tp=2 here, tp=1 in job dec");
	b = other();
	put_text(&b, 0, "40"); /* another trace, too, but that follows */
	put_text(&b, 1, "another one");
	differ(&a, &b, "this job and job dec do not fit: --requests 60 here, 40 in job dec");
	b = other();
	b.with_n = 1;
	differ(&a, &b, "this job and job dec do not fit: 2 ranks here, --with pre:1 in job dec");
	snprintf(b.with, sizeof(b.with), "store");
	differ(&a, &b, "job dec looks for --with store:1, not for this job, whose name is pre");
}

/* Names of jobs are the user's own: in any encoding, but not as they are from elsewhere to a terminal. */
static void compare__job_name_is_not_ascii(void **state)
{
	struct replay_fit a = sample(), b = other(), back;
	uint8_t buf[REPLAY_FIT_BYTES];
	struct perf_err err = {""};

	(void)state;
	snprintf(b.with, sizeof(b.with), "b\xc3\xa4r");
	assert_int_equal(replay_fit_read(buf, replay_fit_write(&b, buf), &back), REPLAY_FIT_OK);
	assert_true(replay_fit_compare(&a, "b\xc3\xa4r", &back, "dec", &err));
	differ(&a, &back, "job dec looks for --with b??r:2, not for this job, whose name is pre");
}

static void compare__options_of_one_side_only(void **state)
{
	struct replay_fit a = sample(), b = other();

	(void)state;
	assert_true(replay_fit_add(&b, "--new", "7"));
	differ(&a, &b, "this job and job dec do not fit: --new not given here, 7 in job dec");
	put_text(&b, 2, "none"); /* then they follow from that */
	differ(&a, &b, "this job and job dec do not fit: --src tp=2 here, none in job dec");
	b = other();
	b.item_n = 2;
	differ(&a, &b, "this job and job dec do not fit: --src tp=2 here, not given in job dec");
}

static void compare__too_much_for_a_line(void **state)
{
	struct replay_fit a = {.with = "dec", .n = 1, .with_n = 1}, b = {.with = "pre", .n = 1, .with_n = 1};
	char name[16], job[MC_JOB_MAX];
	struct perf_err err = {""};

	(void)state;
	for (int i = 0; i < REPLAY_FIT_ITEMS; i++) {
		snprintf(name, sizeof(name), "--option-%d", i);
		assert_true(replay_fit_add(&a, name, "%040d", i));
		assert_true(replay_fit_add(&b, name, "%040d", i + 1));
	}
	assert_false(replay_fit_compare(&a, "pre", &b, "dec", &err));
	assert_non_null(strstr(err.text, "--option-0 "));
	assert_non_null(strstr(err.text, "; and 13 more"));
	/* the longest names leave room for one, and for the number */
	memset(job, 'j', sizeof(job) - 1);
	job[sizeof(job) - 1] = '\0';
	err.text[0] = '\0';
	assert_false(replay_fit_compare(&a, "pre", &b, job, &err));
	assert_non_null(strstr(err.text, "--option-0 "));
	assert_non_null(strstr(err.text, "; and 15 more"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(read_back__same),
		cmocka_unit_test(largest__has_room),
		cmocka_unit_test(read__cut_or_longer_is_malformed),
		cmocka_unit_test(read__malformed),
		cmocka_unit_test(read__more_options_than_there_is_room_for),
		cmocka_unit_test(read__other_version_is_known_as_one),
		cmocka_unit_test(compare__fits),
		cmocka_unit_test(compare__names_what_differs),
		cmocka_unit_test(compare__job_name_is_not_ascii),
		cmocka_unit_test(compare__options_of_one_side_only),
		cmocka_unit_test(compare__too_much_for_a_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

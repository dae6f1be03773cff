/* SPDX-License-Identifier: BSD-3-Clause */
/* test_bridge_etcd.c - keys, values and replies of the etcd bridge, and what its table of peers tells the engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge_etcd_table.h"

static unsigned lines_n;

static void count_lines(void *arg, enum mc_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
	lines_n++;
}

/* ---- base64, keys, values ---- */

static void b64__known_texts(void **state)
{
	static const char *const pair[][2] = {{"", ""},
					      {"f", "Zg=="},
					      {"fo", "Zm8="},
					      {"foo", "Zm9v"},
					      {"foob", "Zm9vYg=="},
					      {"fooba", "Zm9vYmE="},
					      {"foobar", "Zm9vYmFy"}};
	static const char *const bad[] = {
		"Z", "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm-v", "=g=="};
	char text[16];
	uint8_t data[16];
	size_t n;

	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(pair); i++) {
		mc_b64_encode(pair[i][0], strlen(pair[i][0]), text);
		assert_string_equal(text, pair[i][1]);
		assert_true(mc_b64_decode(text, strlen(text), data, sizeof(data), &n));
		assert_int_equal(n, strlen(pair[i][0]));
		assert_memory_equal(data, pair[i][0], n);
		if (n > 0)
			assert_false(mc_b64_decode(text, strlen(text), data, n - 1, &n));
	}
	for (size_t i = 0; i < MC_ARRAY_LEN(bad); i++)
		assert_false(mc_b64_decode(bad[i], strlen(bad[i]), data, sizeof(data), &n));
}

static void key__any_job_name_comes_back(void **state)
{
	char key[MC_ETCD_KEY_MAX], job[MC_BRIDGE_JOB_MAX], odd[MC_BRIDGE_JOB_MAX];
	uint32_t rank;

	(void)state;
	for (int i = 0; i < MC_BRIDGE_JOB_MAX - 1; i++)
		odd[i] = (char)(i * 2 + 1);
	odd[MC_BRIDGE_JOB_MAX - 1] = '\0';
	mc_etcd_peer_key(key, "mc/default", odd, 4294967294u);
	assert_true(mc_etcd_peer_key_parse(key, strlen(key), "mc/default", job, &rank));
	assert_string_equal(job, odd);
	assert_int_equal(rank, 4294967294u);
	mc_etcd_peer_key(key, "p", "a/b", 0);
	assert_string_equal(key, "p/peers/a%2Fb/0");
}

static void key__another_spelling_is_refused(void **state)
{
	static const char *const bad[] = {"p/peers/",     "p/peers/a",     "p/peers/a/",    "p/peers//1",
					  "p/peers/a/01", "p/peers/a/-1",  "p/peers/a/1x",  "p/peers/a/4294967295",
					  "p/peers/%2/1", "p/peers/%2f/1", "p/peers/%41/1", "p/peers/%00/1",
					  "p/peers/a b/1"};
	char job[MC_BRIDGE_JOB_MAX];
	uint32_t rank;

	(void)state;
	for (size_t i = 0; i < MC_ARRAY_LEN(bad); i++)
		assert_false(mc_etcd_peer_key_parse(bad[i], strlen(bad[i]), "p", job, &rank));
}

static void value__largest_record_fits(void **state)
{
	uint8_t *record = calloc(1, MC_BRIDGE_RECORD_MAX);
	char *info = malloc(MC_ETCD_INFO_MAX + 2), *text;
	struct mc_etcd_value v;

	(void)state;
	memset(info, 'x', MC_ETCD_INFO_MAX);
	memcpy(info, "{\"a\":\"", 6);
	memcpy(info + MC_ETCD_INFO_MAX - 2, "\"}", 3);
	text = mc_etcd_value_make("prefill", UINT64_MAX, record, MC_BRIDGE_RECORD_MAX, info);
	assert_true(strlen(text) > MC_ETCD_INFO_MAX + mc_b64_len(MC_BRIDGE_RECORD_MAX));
	assert_null(mc_etcd_value_parse(text, strlen(text), &v));
	assert_int_equal(v.record_len, MC_BRIDGE_RECORD_MAX);
	assert_true(v.epoch == UINT64_MAX);
	assert_string_equal(v.role, "prefill");
	free(v.record);
	free(text);

	/* Information that is too long, or no JSON, is left out with a line; the record is not. */
	lines_n = 0;
	memset(info, 'x', MC_ETCD_INFO_MAX + 1);
	info[MC_ETCD_INFO_MAX + 1] = '\0';
	text = mc_etcd_value_make("r", 1, record, 3, info);
	assert_null(mc_etcd_value_parse(text, strlen(text), &v));
	assert_null(strstr(text, "info"));
	assert_int_equal(lines_n, 1);
	free(v.record);
	free(text);
	free(info);
	free(record);
}

static void reply__errors_and_kinds(void **state)
{
	static const char head[] = "{\"header\":{\"cluster_id\":\"7\",\"revision\":\"9\"}";
	struct mc_etcd_reply r;
	char text[256];

	(void)state;
	assert_false(mc_etcd_reply_parse("[]", 2, &r, NULL, NULL));
	assert_false(mc_etcd_reply_parse("{}", 2, &r, NULL, NULL));
	assert_false(mc_etcd_reply_parse("", 0, &r, NULL, NULL));
	snprintf(text, sizeof(text), "%s,\"ID\":\"12\",\"TTL\":\"10\"}", head);
	assert_true(mc_etcd_reply_parse(text, strlen(text), &r, NULL, NULL));
	assert_true(r.cluster == 7 && r.revision == 9 && r.lease == 12 && r.ttl_s == 10 && r.code == 0);
	snprintf(text, sizeof(text), "{\"result\":%s,\"ID\":\"12\"}}", head);
	assert_true(mc_etcd_reply_parse(text, strlen(text), &r, NULL, NULL));
	assert_true(r.lease == 12 && r.ttl_s == 0 && r.progress);
	snprintf(text, sizeof(text), "{\"error\":\"e\",\"message\":\"m\",\"code\":16}");
	assert_true(mc_etcd_reply_parse(text, strlen(text), &r, NULL, NULL));
	assert_int_equal(r.code, 16);
	snprintf(text, sizeof(text), "{\"error\":{\"grpc_code\":14,\"message\":\"closing\"}}");
	assert_true(mc_etcd_reply_parse(text, strlen(text), &r, NULL, NULL));
	assert_int_equal(r.code, 14);
	assert_string_equal(r.error, "closing");
	snprintf(text, sizeof(text), "{\"result\":%s,\"canceled\":true,\"compact_revision\":\"5\"}}", head);
	assert_true(mc_etcd_reply_parse(text, strlen(text), &r, NULL, NULL));
	assert_true(r.canceled && r.compacted == 5 && !r.progress);
}

/* ---- the table ---- */

static struct mc_etcd_table table;

static int open_table(void **state)
{
	(void)state;
	mc_etcd_table_init(&table);
	lines_n = 0;
	return 0;
}

static int close_table(void **state)
{
	(void)state;
	mc_etcd_table_free(&table);
	return 0;
}

/* epoch 0: a value that is none */
static void put(const char *job, uint32_t rank, uint64_t epoch, uint64_t rev, const char *record)
{
	char key[MC_ETCD_KEY_MAX],
		*value = epoch == 0 ? strdup("spoilt")
				    : mc_etcd_value_make("r", epoch, record, (uint32_t)strlen(record), NULL);

	mc_etcd_peer_key(key, "p", job, rank);
	mc_etcd_table_apply(&table, "p", "own",
			    &(const struct mc_etcd_kv){.key = key,
						       .key_len = strlen(key),
						       .mod_rev = rev,
						       .value = (const uint8_t *)value,
						       .value_len = strlen(value)});
	free(value);
}

static void del(const char *job, uint32_t rank, uint64_t rev)
{
	char key[MC_ETCD_KEY_MAX];

	mc_etcd_peer_key(key, "p", job, rank);
	mc_etcd_table_apply(
		&table, "p", "own",
		&(const struct mc_etcd_kv){.key = key, .key_len = strlen(key), .mod_rev = rev, .deleted = true});
}

/* "up a 1 RECORD" or "down a 1 EPOCH", or "" */
static const char *next(void)
{
	static char text[300];
	struct mc_bridge_event ev;

	if (!mc_etcd_table_next(&table, &ev))
		return "";
	if (ev.kind == MC_BRIDGE_UP)
		snprintf(text, sizeof(text), "up %s %u %.*s", ev.job, ev.rank, (int)ev.record_len,
			 (const char *)ev.record);
	else
		snprintf(text, sizeof(text), "down %s %u %" PRIu64, ev.job, ev.rank, ev.epoch);
	return text;
}

static void table__tells_what_is_there(void **state)
{
	(void)state;
	put("own", 0, 1, 5, "mine");
	put("a", 1, 1, 5, "one");
	put("a", 2, 2, 6, "two");
	assert_string_equal(next(), "up a 1 one");
	assert_string_equal(next(), "up a 2 two");
	assert_string_equal(next(), "");
	put("a", 1, 7, 8, "again");
	del("a", 2, 9);
	assert_string_equal(next(), "up a 1 again");
	assert_string_equal(next(), "down a 2 2");
	assert_string_equal(next(), "");
	assert_int_equal(table.n, 1);
	assert_true(table.pending == 0);
}

static void table__merges_what_was_not_asked_for(void **state)
{
	(void)state;
	put("a", 1, 1, 5, "one");
	del("a", 1, 6);
	assert_string_equal(next(), ""); /* came and went */
	put("a", 1, 1, 7, "one");
	put("a", 1, 2, 8, "two");
	del("b", 1, 9); /* never there */
	assert_string_equal(next(), "up a 1 two");
	del("a", 1, 10);
	put("a", 1, 3, 11, "three");
	assert_string_equal(next(), "up a 1 three");
	assert_string_equal(next(), "");
	put("a", 1, 4, 12, "four");
	del("a", 1, 13);
	assert_string_equal(next(), "down a 1 3"); /* the one that the engine knows */
}

static void table__older_news_is_no_news(void **state)
{
	(void)state;
	put("a", 1, 2, 8, "new");
	put("a", 1, 1, 5, "old");
	del("a", 1, 6);
	assert_string_equal(next(), "up a 1 new");
	assert_string_equal(next(), "");
}

static void table__listing_ends_who_is_not_in_it(void **state)
{
	(void)state;
	put("a", 1, 1, 5, "one");
	put("a", 2, 2, 6, "two");
	while (next()[0] != '\0')
		;
	mc_etcd_table_list_begin(&table);
	put("a", 2, 2, 6, "two");
	mc_etcd_table_list_end(&table, 9);
	assert_string_equal(next(), "down a 1 1");
	assert_string_equal(next(), "");
	/* Lost data: revisions begin anew, and what is there counts. */
	mc_etcd_table_rewind(&table);
	mc_etcd_table_list_begin(&table);
	put("a", 2, 2, 3, "two");
	mc_etcd_table_list_end(&table, 3);
	assert_string_equal(next(), "up a 2 two");
	assert_string_equal(next(), "");
}

static void table__hold_waits_for_those_who_come_back(void **state)
{
	(void)state;
	put("a", 1, 1, 5, "one");
	put("a", 2, 2, 6, "two");
	while (next()[0] != '\0')
		;
	mc_etcd_table_hold(&table);
	del("a", 1, 7);
	del("a", 2, 8);
	assert_string_equal(next(), "");
	put("a", 1, 1, 9, "one");
	assert_string_equal(next(), "up a 1 one");
	assert_string_equal(next(), "");
	mc_etcd_table_release(&table);
	assert_string_equal(next(), "down a 2 2");
	assert_string_equal(next(), "");
}

static void table__spoilt_counts_as_gone(void **state)
{
	(void)state;
	put("a", 1, 1, 5, "one");
	assert_string_equal(next(), "up a 1 one");
	put("a", 1, 0, 6, "");
	assert_string_equal(next(), "down a 1 1");
	for (uint32_t i = 0; i < 1000; i++)
		put("b", i, 0, 7 + i, "");
	assert_string_equal(next(), "");
	assert_true(lines_n >= 1 && lines_n <= 5); /* one per second */
	put("b", 7, 9, 2000, "well");
	assert_string_equal(next(), "up b 7 well");
}

static void table__has_bounds(void **state)
{
	char *big = malloc(MC_BRIDGE_RECORD_MAX + 1);
	uint32_t n = 0;

	(void)state;
	for (uint32_t i = 0; i < MC_ETCD_PEERS_MAX + 10; i++)
		put("a", i, 1, 5, "x");
	assert_int_equal(table.n, MC_ETCD_PEERS_MAX);
	while (next()[0] != '\0')
		n++;
	assert_int_equal(n, MC_ETCD_PEERS_MAX);

	memset(big, 'x', MC_BRIDGE_RECORD_MAX);
	big[MC_BRIDGE_RECORD_MAX] = '\0';
	assert_false(table.incomplete);
	for (uint32_t i = 0; i < MC_ETCD_PENDING_MAX / MC_BRIDGE_RECORD_MAX + 1; i++)
		put("a", i, 1, 6, big);
	assert_true(table.pending <= MC_ETCD_PENDING_MAX);
	assert_true(table.incomplete);
	while (next()[0] == 'u') /* nobody is gone for lack of room */
		;
	assert_string_equal(next(), "");
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(b64__known_texts),
		cmocka_unit_test(key__any_job_name_comes_back),
		cmocka_unit_test(key__another_spelling_is_refused),
		cmocka_unit_test(value__largest_record_fits),
		cmocka_unit_test(reply__errors_and_kinds),
		cmocka_unit_test_setup_teardown(table__tells_what_is_there, open_table, close_table),
		cmocka_unit_test_setup_teardown(table__merges_what_was_not_asked_for, open_table, close_table),
		cmocka_unit_test_setup_teardown(table__older_news_is_no_news, open_table, close_table),
		cmocka_unit_test_setup_teardown(table__listing_ends_who_is_not_in_it, open_table, close_table),
		cmocka_unit_test_setup_teardown(table__hold_waits_for_those_who_come_back, open_table, close_table),
		cmocka_unit_test_setup_teardown(table__spoilt_counts_as_gone, open_table, close_table),
		cmocka_unit_test_setup_teardown(table__has_bounds, open_table, close_table),
	};

	mc_log_set_sink(count_lines, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* test_models.c - the table of KV shapes: bytes per token as published, names found in every spelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "models.h"

static void bytes_per_token__known_models(void **state)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} want[] = {
		{"llama-3.1-8b", 131072}, {"llama-3.1-70b", 327680},   {"llama-3.1-405b", 516096},
		{"qwen2.5-7b", 57344},    {"qwen3-235b-a22b", 192512}, {"gpt-oss-120b", 73728},
		{"deepseek-v3", 70272},   {"deepseek-r1", 70272},      {"kimi-k2", 70272},
		{"deepseek-v2", 69120},   {"gemma-3-27b", 507904},     {"mistral-7b", 131072},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		const struct perf_model *m = perf_model_find(want[i].name);
		assert_non_null(m);
		assert_int_equal((uint64_t)perf_model_token_bytes(m, 0) * m->layers, want[i].bytes);
	}
}

static void bytes_per_token__other_element_size(void **state)
{
	const struct perf_model *m = perf_model_find("deepseek-v3"), *l = perf_model_find("llama-3.1-8b");

	(void)state;
	assert_int_equal(perf_model_token_bytes(m, 1), 576);
	assert_int_equal(perf_model_token_bytes(l, 1), 2048);
	assert_int_equal(perf_model_token_bytes(l, 4), 8192);
}

static void find__spellings(void **state)
{
	const struct perf_model *m = perf_model_find("llama-3.1-8b");

	(void)state;
	assert_non_null(m);
	assert_ptr_equal(perf_model_find("meta-llama/Llama-3.1-8B"), m);
	assert_ptr_equal(perf_model_find("LLAMA-3.1-8B"), m);
	assert_ptr_equal(perf_model_find("Llama-3.1-8B"), m);
	assert_null(perf_model_find("llama-3.1-8"));
	assert_null(perf_model_find("llama"));
	assert_null(perf_model_find(""));
	assert_null(perf_model_find("meta-llama/"));
}

static void table__complete_and_unambiguous(void **state)
{
	const struct perf_model *m, *o;
	size_t n = 0;

	(void)state;
	for (; (m = perf_model_get(n)) != NULL; n++) {
		assert_true(m->layers > 0 && m->layers < 256 && m->dtype_bytes > 0 && m->context > 0);
		assert_true(strlen(m->source) > 10);
		/* one kind of attention or the other */
		assert_true((m->kv_heads > 0 && m->head_dim > 0) != (m->latent_rank > 0 && m->rope_dim > 0));
		assert_int_equal(perf_model_token_bytes(m, 0) % 8, 0);
		for (size_t i = 0; i < n && (o = perf_model_get(i)) != NULL; i++) {
			assert_int_not_equal(strcasecmp(m->alias, o->alias), 0);
			assert_int_not_equal(strcasecmp(m->name, o->name), 0);
		}
	}
	assert_int_equal(n, 19);
}

static void list__names_all_and_is_cut(void **state)
{
	char all[1024], few[20];
	const struct perf_model *m;

	(void)state;
	perf_model_list(all, sizeof(all));
	for (size_t i = 0; (m = perf_model_get(i)) != NULL; i++)
		assert_non_null(strstr(all, m->alias));
	perf_model_list(few, sizeof(few));
	assert_int_equal(strlen(few), sizeof(few) - 1);
}

static uint64_t number(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? (uint64_t)json_object_get_int64(v) : 0;
}

/* Against the collected configurations, where the test data are there. */
static void table__agrees_with_the_configurations(void **state)
{
	const char *data = getenv("TEST_DATA");
	struct json_object *root, *list, *name;
	char path[512];

	(void)state;
	snprintf(path, sizeof(path), "%s/models/models.json", data != NULL ? data : "");
	root = data != NULL ? json_object_from_file(path) : NULL;
	if (root == NULL) {
		print_message("skipped: TEST_DATA/models/models.json is not there\n");
		skip();
	}
	assert_true(json_object_object_get_ex(root, "models", &list));
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *row = json_object_array_get_idx(list, i);
		const struct perf_model *m;
		assert_true(json_object_object_get_ex(row, "name", &name));
		m = perf_model_find(json_object_get_string(name));
		if (m == NULL)
			fail_msg("%s is not in the table", json_object_get_string(name));
		assert_int_equal(m->layers, number(row, "num_hidden_layers"));
		assert_int_equal(m->context, number(row, "max_position_embeddings"));
		assert_int_equal(perf_model_token_bytes(m, 0), number(row, "bytes_per_token_per_layer"));
		assert_int_equal((uint64_t)perf_model_token_bytes(m, 0) * m->layers, number(row, "bytes_per_token"));
	}
	json_object_put(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_per_token__known_models),
		cmocka_unit_test(bytes_per_token__other_element_size),
		cmocka_unit_test(find__spellings),
		cmocka_unit_test(table__complete_and_unambiguous),
		cmocka_unit_test(list__names_all_and_is_cut),
		cmocka_unit_test(table__agrees_with_the_configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

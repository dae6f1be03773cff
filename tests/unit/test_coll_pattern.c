/* SPDX-License-Identifier: BSD-3-Clause */
/* test_coll_pattern.c - rank arithmetic, played through for every group up to 70 ranks: trees reach everyone once,
 * rounds leave nobody uninformed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "coll_pattern.h"

enum { N_MAX = 70 };

static void ring__wraps(void **state)
{
	(void)state;
	assert_int_equal(mc_pat_add(4, 3, 5), 2);
	assert_int_equal(mc_pat_sub(1, 3, 5), 3);
	assert_int_equal(mc_pat_add(4, UINT64_C(1) << 40, 5), (4 + (UINT64_C(1) << 40) % 5) % 5);
	for (uint32_t n = 1; n <= N_MAX; n++)
		for (uint32_t r = 0; r < n; r++)
			for (uint32_t root = 0; root < n; root++) {
				uint32_t rel = mc_pat_rel(r, root, n);
				assert_true(rel < n);
				assert_int_equal(rel == 0, r == root);
				assert_int_equal(mc_pat_abs(rel, root, n), r);
				assert_int_equal(mc_pat_sub(mc_pat_add(r, root, n), root, n), r);
			}
	assert_int_equal(mc_pat_add(UINT32_MAX - 2, 1, UINT32_MAX), UINT32_MAX - 1); /* no 32-bit overflow */
	assert_int_equal(mc_pat_add(UINT32_MAX - 2, 2, UINT32_MAX), 0);
}

static void rounds__smallest_power(void **state)
{
	(void)state;
	assert_int_equal(mc_pat_rounds(1), 0);
	assert_int_equal(mc_pat_rounds(2), 1);
	assert_int_equal(mc_pat_rounds(3), 2);
	assert_int_equal(mc_pat_rounds(4), 2);
	assert_int_equal(mc_pat_rounds(5), 3);
	assert_int_equal(mc_pat_rounds(UINT32_MAX), 32);
}

/* Every rank but the root is the child of exactly one, its parent, and a subtree is the ranks that follow. */
static void tree__reaches_all_once(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= N_MAX; n++) {
		uint32_t seen[N_MAX] = {0};
		for (uint32_t rel = 0; rel < n; rel++) {
			uint32_t below = 1;
			for (uint32_t k = 0; k < mc_pat_child_n(rel, n); k++) {
				uint32_t c = mc_pat_child(rel, k);
				assert_true(c < n);
				assert_int_equal(mc_pat_parent(c), rel);
				assert_int_equal(c, rel + below); /* the smaller subtrees fill what lies between */
				below += mc_pat_subtree(c, n);
				seen[c]++;
			}
			assert_int_equal(mc_pat_subtree(rel, n), below);
		}
		assert_int_equal(seen[0], 0);
		for (uint32_t rel = 1; rel < n; rel++)
			assert_int_equal(seen[rel], 1);
		assert_int_equal(mc_pat_subtree(0, n), n);
	}
}

/* In round k each tells the one 2^k on. */
static void dissemination__all_hear_of_all(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= N_MAX; n++) {
		static uint8_t knows[N_MAX][N_MAX], next[N_MAX][N_MAX];
		memset(knows, 0, sizeof(knows));
		for (uint32_t r = 0; r < n; r++)
			knows[r][r] = 1;
		for (uint32_t k = 0; k < mc_pat_rounds(n); k++) {
			memcpy(next, knows, sizeof(next));
			for (uint32_t r = 0; r < n; r++)
				for (uint32_t i = 0; i < n; i++)
					next[mc_pat_add(r, UINT64_C(1) << k, n)][i] |= knows[r][i];
			memcpy(knows, next, sizeof(next));
		}
		for (uint32_t r = 0; r < n; r++)
			for (uint32_t i = 0; i < n; i++)
				assert_int_equal(knows[r][i], 1);
	}
}

/* What carries comes from one that has it, goes to one that lacks it, and ends with all having it. */
static void spread__each_gets_it_once(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= N_MAX; n++) {
		uint32_t got[N_MAX] = {1};
		for (uint32_t k = 0; k < mc_pat_rounds(n); k++) {
			uint32_t before[N_MAX];
			memcpy(before, got, sizeof(before));
			for (uint32_t rel = 0; rel < n; rel++) {
				uint32_t to = mc_pat_add(rel, UINT64_C(1) << k, n);
				if (!mc_pat_spread_carries(to, k, n))
					continue;
				assert_int_equal(before[rel], 1);
				got[to]++;
			}
		}
		for (uint32_t rel = 0; rel < n; rel++)
			assert_int_equal(got[rel], 1);
	}
	assert_false(mc_pat_spread_carries(5, 2, 5)); /* nobody there */
}

static void bruck__ends_with_all_blocks(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= N_MAX; n++) {
		uint32_t have = 1;
		for (uint32_t k = 0; k < mc_pat_rounds(n); k++) {
			assert_int_equal(mc_pat_bruck_have(k, n), have);
			assert_true(mc_pat_bruck_send(k, n) <= have);
			have += mc_pat_bruck_send(k, n);
		}
		assert_int_equal(have, n);
	}
}

static void pieces__cover(void **state)
{
	(void)state;
	assert_int_equal(mc_pat_pieces(0, 10, 8), 1);
	assert_int_equal(mc_pat_pieces(10, 10, 8), 1);
	assert_int_equal(mc_pat_pieces(11, 10, 8), 2);
	assert_int_equal(mc_pat_pieces(1000, 10, 8), 8);
	assert_int_equal(mc_pat_pieces(UINT64_MAX, 1, UINT32_MAX), UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ring__wraps),
		cmocka_unit_test(rounds__smallest_power),
		cmocka_unit_test(tree__reaches_all_once),
		cmocka_unit_test(dissemination__all_hear_of_all),
		cmocka_unit_test(spread__each_gets_it_once),
		cmocka_unit_test(bruck__ends_with_all_blocks),
		cmocka_unit_test(pieces__cover),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

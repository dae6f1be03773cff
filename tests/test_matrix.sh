#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: test_matrix.sh   libmc without each optional library in turn and without all of them, with gcc and, where there is one,
# clang: must configure, build without a warning and pass its unit and contract tests. Slow: `make test-matrix`, not `make test`.
set -u
src=$(cd "$(dirname "$0")/.." && pwd)
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
jobs=${JOBS:-$(nproc)}
passed=0 failed=0
all_off='-DMC_WITH_UCX=OFF -DMC_WITH_VERBS=OFF -DMC_WITH_PMIX=OFF -DMC_WITH_SODIUM=OFF -DMC_WITH_JSON=OFF -DMC_WITH_HWLOC=OFF -DMC_WITH_CURL=OFF'
for cc in gcc clang; do
	command -v "$cc" >/dev/null 2>&1 || { echo "skipped: $cc is not installed"; continue; }
	for off in '' -DMC_WITH_UCX=OFF -DMC_WITH_VERBS=OFF -DMC_WITH_PMIX=OFF -DMC_WITH_SODIUM=OFF -DMC_WITH_JSON=OFF -DMC_WITH_HWLOC=OFF -DMC_WITH_CURL=OFF \
		"$all_off"; do
		what="$cc ${off:-everything on}"
		dir=$tmp/b
		rm -rf "$dir"
		# shellcheck disable=SC2086 # a list of options
		if cmake -S "$src" -B "$dir" -G Ninja -DCMAKE_C_COMPILER="$cc" $off >"$tmp/log" 2>&1 &&
			cmake --build "$dir" -j "$jobs" >"$tmp/log" 2>&1 &&
			ctest --test-dir "$dir" -L '^(unit|contract|fuzz|abi)$' -j "$jobs" --output-on-failure >"$tmp/log" 2>&1; then
			echo "ok      $what"
			passed=$((passed + 1))
		else
			tail -60 "$tmp/log"
			echo "FAILED  $what"
			failed=$((failed + 1))
		fi
	done
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]

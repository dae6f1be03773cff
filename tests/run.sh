#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: run.sh PRESET...   build each preset and run its tests; the last line gives the total.
#   release: every test.  asan: all but style, install, cluster and rdma.  tsan: unit, coll, prop, contract, fuzz corpus and etcd.
# Exit: 0 only if everything was built and nothing failed. JOBS: build processes (default: cores).
set -u
cd "$(dirname "$0")/.." || exit 1
jobs=${JOBS:-$(nproc)}
passed=0 failed=0 skipped=0
report=''

labels_of() # the tests of a preset, as a ctest label expression
{
	case $1 in
	release) echo '.' ;;
	asan) echo '^(unit|coll|prop|fault|contract|topo|fuzz|abi|job|etcd)$' ;;
	tsan) echo '^(unit|coll|prop|contract|fuzz|etcd)$' ;;
	*) echo '.' ;;
	esac
}

# A kernel that spreads mappings over more than 28 bits leaves the sanitizers' shadow no room; fixed addresses help.
wrapper_of()
{
	case $1 in
	asan | tsan)
		if setarch "$(uname -m)" -R true 2>/dev/null; then
			echo "setarch $(uname -m) -R"
		fi
		;;
	esac
}

# One line per test from ctest's JUnit file: "pass NAME", "fail NAME" or "skip NAME: reason".
results_of()
{
	awk '
	function unxml(s) { gsub(/&lt;/, "<", s); gsub(/&gt;/, ">", s); gsub(/&quot;/, "\"", s); gsub(/&apos;/, "\x27", s); gsub(/&amp;/, "\\&", s); return s }
	/<testcase / {
		name = $0; sub(/.* name="/, "", name); sub(/".*/, "", name)
		state = "pass"; why = ""; out = 0; named = 0
		if ($0 ~ /status="fail"/) state = "fail"
		if ($0 ~ /status="(notrun|disabled)"/) state = "skip"
	}
	/<skipped/ { if (state != "fail") state = "skip" }
	/<failure/ { state = "fail" }
	{ line = $0 }
	/<system-out>/ { out = 1; sub(/.*<system-out>/, "", line) }
	out && state == "skip" {
		sub(/<\/system-out>.*/, "", line)
		if (!named && line ~ /[^ \t]/) why = line
		if (!named && tolower(line) ~ /skip/) named = 1
	}
	/<\/system-out>/ { out = 0 }
	/<\/testcase>/ {
		sub(/^[ \t]*[Ss][Kk][Ii][Pp]([Pp][Ee][Dd])?:?[ \t]*/, "", why)
		print state, unxml(name) (state == "skip" ? ": " unxml(why == "" ? "no reason printed" : why) : "")
	}' "$1"
}

run_preset()
{
	preset=$1
	dir=$(sh tests/preset_dir.sh "$preset")
	log=$dir/Testing/build.log
	mkdir -p "$dir/Testing"
	echo "== $preset: build"
	if [ ! -f "$dir/build.ninja" ]; then
		cmake --preset "$preset" >"$log" 2>&1 || { cat "$log"; rm -f "$dir/CMakeCache.txt"; return 1; }
	fi
	cmake --build --preset "$preset" -j "$jobs" >"$log" 2>&1 || { cat "$log"; return 1; }
	echo "== $preset: test"
	rm -f "$dir/Testing/results.xml"
	# shellcheck disable=SC2046 # the wrapper is a list of words
	$(wrapper_of "$preset") ctest --test-dir "$dir" -L "$(labels_of "$preset")" -j "$(nproc)" --output-on-failure \
		--no-tests=error --output-junit "$PWD/$dir/Testing/results.xml" </dev/null
	ctest_rc=$?
	[ -s "$dir/Testing/results.xml" ] || return 1
	results=$(results_of "$dir/Testing/results.xml")
	p=$(echo "$results" | grep -c '^pass ')
	f=$(echo "$results" | grep -c '^fail ')
	s=$(echo "$results" | grep -c '^skip ')
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	report="$report$(echo "$results" | sed -n -e "s/^fail /FAILED  $preset /p" -e "s/^skip /skipped $preset /p")
"
	echo "== $preset: $p passed, $f failed, $s skipped"
	if [ "$ctest_rc" -ne 0 ] && [ "$f" -eq 0 ]; then
		echo "== $preset: ctest itself failed with status $ctest_rc" >&2
		return 1
	fi
	return 0
}

for preset in "$@"; do
	if ! run_preset "$preset"; then
		echo "== $preset: FAILED to build or to run" >&2
		report="${report}FAILED  $preset did not build or run
"
		failed=$((failed + 1))
	fi
done

printf '%s' "$report" | sed '/^$/d'
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]

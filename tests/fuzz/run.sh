#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# usage: run.sh BUILD_DIR SECONDS   run every libFuzzer program for so long, from the corpus that is kept.
# Fails on a crash, a leak, an input that takes over 5 s, and on a target slower than 1000 runs/s: one that sleeps or waits finds
# nothing. A target that a library slows down says what it must reach: "at least N runs/s" in its first lines. New inputs stay in BUILD_DIR/fuzz/NAME; a crashing one is printed with the command that repeats it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$1
seconds=$2
bad=0 n=0
for program in "$build"/tests/bin/fuzz_*; do
	name=$(basename "$program")
	case $name in
	*_replay | 'fuzz_*') continue ;;
	esac
	n=$((n + 1))
	found=$build/fuzz/${name#fuzz_}
	mkdir -p "$found"
	log=$found.log
	echo "== $name, $seconds s"
	if ! sh "$here/../with_env.sh" "$(cd "$build" && pwd)" "$program" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix="$found." "$found" "$here/corpus/${name#fuzz_}" >"$log" 2>&1 </dev/null; then
		tail -40 "$log"
		echo "FAILED: $name; repeat with: $program $found.crash-..."
		bad=1
		continue
	fi
	speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
	cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
	echo "   ${speed:-0} runs/s, ${cover:-?} edges"
	least=$(sed -n '1,20s/.*at least \([0-9]*\) runs\/s.*/\1/p' "$here/$name.c")
	if [ "${speed:-0}" -lt "${least:-1000}" ]; then
		echo "FAILED: $name makes ${speed:-0} runs/s, fewer than ${least:-1000}"
		bad=1
	fi
done
[ "$n" -gt 0 ] || { echo "no fuzz programs in $build/tests/bin"; bad=1; }
exit "$bad"

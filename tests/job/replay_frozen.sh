#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A prefill rank is stopped, not dead: its requests time out, the others finish and verify, and the report comes without it.
. "$(dirname "$0")/common_replay.sh"

: >"$out/stderr"
"$TEST_BIN/mcrun" --timeout 400 --on-failure continue --prefill 2 --decode 2 "$TEST_BIN/mcperf" replay --trace "$sample" \
	--model llama-3.1-8b --layers 1 --speed 5 --progress always --request-timeout 5 --json "$out/report.json" \
	>"$out/stdout" 2>"$out/stderr" &
run=$!
deadline=$((SECONDS + 200))
until grep -qE '\] ([5-9]|[1-3][0-9])/60 requests' "$out/stderr"; do
	[ $SECONDS -lt $deadline ] || { kill "$run"; fail "the run does not get under way"; }
	kill -0 "$run" 2>/dev/null || fail "the run ended before the stop"
	read -r -t 0.02 _ <><(:) || :
done
victim=$(rank_pid "$run" 1)
[ -n "$victim" ] || { kill "$run"; fail "rank 1 not found"; }
kill -STOP "$victim"
until grep -q '"result"' "$out/report.json" 2>/dev/null; do
	[ $SECONDS -lt $deadline ] || { kill -9 "$victim"; kill "$run"; fail "no report while a rank is stopped"; }
	read -r -t 0.02 _ <><(:) || :
done
kill -9 "$victim"
wait "$run"
[ $? -ne 0 ] || fail "the status is 0"
expect result FAILED
[ "$(field errors)" -ge 1 ] || fail "nothing is lost?"
expect wrong_blocks 0
[ "$(field requests)" -ge 30 ] || fail "the other prefill rank did not finish"
grep -q 'prefill.1 (rank 1) is silent: [0-9]* requests lost' "$out/stderr" || fail "the stopped rank is not named"
echo "a stopped rank is given up"

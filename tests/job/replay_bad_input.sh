#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Bad input: status 2 and one clear line, from one rank, before any memory is taken.
. "$(dirname "$0")/common_replay.sh"

# bad PATTERN ARG...
bad()
{
	pattern=$1
	shift
	replay 2 "$@"
	[ "$(grep -c 'mcperf: replay:' "$out/stderr")" -eq 1 ] || fail "$*: not exactly one line"
	grep -q "mcperf: replay: .*$pattern" "$out/stderr" || fail "$*: the line does not say \"$pattern\""
	! grep -q 'requests  ' "$out/stdout" || fail "$*: a report of a run that never began"
}
good=(--trace "$sample" --model llama-3.1-8b --layers 1)

bad 'unknown option --bogus' "${good[@]}" --bogus
bad 'unexpected argument more' "${good[@]}" more
bad '--window needs a value' "${good[@]}" --window
bad '--trace FILE is missing' --model llama-3.1-8b
bad '--model NAME is missing' --trace "$sample"
bad 'unknown model gpt-17; known: llama-3.1-8b, .*kimi-k2' --trace "$sample" --model gpt-17
bad '/nonexistent: cannot open: No such file' --trace /nonexistent --model llama-3.1-8b
bad 'is a directory' --trace / --model llama-3.1-8b
bad '--layers 33: llama-3.1-8b has 32' "${good[@]}" --layers 33
bad '--requests 0: must be' "${good[@]}" --requests 0
bad '--block-tokens 48: must divide 512' "${good[@]}" --block-tokens 48
bad '--speed -1: must be max or' "${good[@]}" --speed -1
bad '--pool 5Q: must be a size' "${good[@]}" --pool 5Q
bad '--pool is too small: request [0-9]* alone' "${good[@]}" --pool 1M
bad '--timeout never: must be a time' "${good[@]}" --timeout never
bad '--route random: must be one of prefix, rr' "${good[@]}" --route random
bad 'MC_TRANSPORT' "${good[@]}" --transport carrier-pigeon
bad '/nonexistent/x: cannot write' "${good[@]}" --json /nonexistent/x
bad 'the pools of 4 ranks need 4.0 PiB, available are .*: use' "${good[@]}" --block-tokens 512 --pool 1024T

head -5 "$sample" >"$out/trace"
echo '{"timestamp": 99999999, "input_length": 5, "output_length": 1, "hash_ids": [1, 2]}' >>"$out/trace"
bad 'trace:6: 2 "hash_ids", but "input_length" 5 needs 1' --trace "$out/trace" --model llama-3.1-8b
replay 0 --trace "$out/trace" --model llama-3.1-8b --layers 1 --requests 5
printf '\nnonsense\n' >"$out/trace"
bad 'trace:2: not a JSON object' --trace "$out/trace" --model llama-3.1-8b
: >"$out/trace"
bad 'trace: no request in it' --trace "$out/trace" --model llama-3.1-8b

"$TEST_BIN/mcrun" --timeout 400 -n 2 "$TEST_BIN/mcperf" replay "${good[@]}" >"$out/stdout" 2>"$out/stderr"
[ $? -eq 2 ] || fail "without roles: not status 2"
grep -q 'no rank has the role prefill: start it as mcrun --prefill P --decode D' "$out/stderr" || fail "without roles: no clear line"

"$TEST_BIN/mcperf" replay "${good[@]}" --seed x >"$out/stdout" 2>"$out/stderr"
[ $? -eq 2 ] || fail "on its own: not status 2"
"$TEST_BIN/mcperf" dance >"$out/stdout" 2>"$out/stderr"
[ $? -eq 2 ] || fail "unknown command: not status 2"
grep -q 'unknown command dance; known: .*replay' "$out/stderr" || fail "unknown command: no clear line"
"$TEST_BIN/mcperf" replay --help | grep -q -- '--block-tokens N' || fail "--help"
echo "each bad input: one line, status 2"

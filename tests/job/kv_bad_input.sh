#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Bad input: status 2 and one clear line, from one rank, before anything is moved.
. "$(dirname "$0")/common_kv.sh"

# bad PATTERN ARG...
bad()
{
	pattern=$1
	shift
	kv 2 2 1 "$@"
	[ "$(grep -c 'mcperf: kv:' "$out/stderr")" -eq 1 ] || fail "$*: not exactly one line"
	grep -q "mcperf: kv: .*$pattern" "$out/stderr" || fail "$*: the line does not say \"$pattern\""
	[ ! -s "$out/stdout" ] || fail "$*: a report of a run that never began"
}
good=(--model llama-3.1-8b --src tp=2 --dst tp=1 --layers 1 --tokens 64)

bad 'unknown option --bogus' "${good[@]}" --bogus
bad 'unexpected argument more' "${good[@]}" more
bad '--tokens needs a value' "${good[@]}" --tokens
bad '--model NAME is missing' --src tp=2 --dst tp=1
bad '--src tp=N,pp=N is missing' --model llama-3.1-8b --dst tp=1
bad '--dst tp=N,pp=N is missing' --model llama-3.1-8b --src tp=2
bad '--src tp=4,pp=1 needs 4 prefill ranks, the job has 2: start it as mcrun --prefill 4 --decode 1 ' "${good[@]}" --src tp=4
bad '--dst tp=2,pp=3 needs 6 decode ranks, the job has 1' "${good[@]}" --layers 3 --dst tp=2,pp=3
bad '--src tp=2,tp=1: must be tp=N' "${good[@]}" --src tp=2,tp=1
bad 'unknown model gpt-17; known: llama-3.1-8b' "${good[@]}" --model gpt-17
bad '--layers 33: llama-3.1-8b has 32' "${good[@]}" --layers 33
bad '--src pp=2: more stages than the 1 layers' "${good[@]}" --src pp=2
bad '--heads: deepseek-v3 keeps one latent' "${good[@]}" --model deepseek-v3 --heads 8
bad '--src-layout ABC: must be HND, NHD' "${good[@]}" --src-layout ABC
bad '--dst-block 0: must be a whole number from 1 to 65536' "${good[@]}" --dst-block 0
bad '--kv-bytes 3: must be 1, 2 or 4' "${good[@]}" --kv-bytes 3
bad '--compute-by magic: must be one of' "${good[@]}" --compute-by magic
bad 'MC_TRANSPORT' "${good[@]}" --transport carrier-pigeon
bad '/nonexistent/x: cannot write' "${good[@]}" --json /nonexistent/x
bad 'the pools need .*, available are .*: use fewer --tokens' "${good[@]}" --tokens 16000000 --layers 32

timeout 200 "$TEST_BIN/mcrun" -n 2 "$TEST_BIN/mcperf" kv "${good[@]}" >"$out/stdout" 2>"$out/stderr"
[ $? -eq 2 ] || fail "without roles: not status 2"
grep -q 'needs 2 prefill ranks, the job has 0' "$out/stderr" || fail "without roles: no clear line"
"$TEST_BIN/mcperf" kv --help | grep -q -- '--layers-per-push K' || fail "--help"
if [ -c /dev/full ]; then # a table that nobody gets is an error
	for cmd in --version --help 'kv --help' 'coll --table' 'kv --plan --model llama-3.1-8b --src tp=2 --dst tp=1'; do
		# shellcheck disable=SC2086 # words
		"$TEST_BIN/mcperf" $cmd >/dev/full 2>"$out/stderr" && fail "$cmd: a full disk went unnoticed"
		grep -q '^mcperf: .*cannot write the output: No space left' "$out/stderr" || fail "$cmd on a full disk: no clear line"
	done
fi
echo "each bad input: one line, status 2"

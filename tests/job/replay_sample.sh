#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The sample trace: over each transport, in odd shapes, paced; all must verify and the report must add up.
. "$(dirname "$0")/common_replay.sh"

base=(--trace "$sample" --json "$out/report.json")
for transport in auto shm $networks; do
	replay 0 "${base[@]}" --model llama-3.1-8b --layers 1 --transport $transport
	verified 60
	expect prefill 2
	expect decode 2
	expect tokens "$(awk -F'"input_length": ' '{ n += $2 } END { print n }' "$sample")"
	grep -q '"link": "..*"' "$out/report.json" || fail "no links"
	[ "$(field prefix_hit_blocks)" -gt 0 ] || fail "no prefix was used again"
	if [ $transport = tcp ]; then
		grep -q 'tcp' "$out/report.json" || fail "--transport tcp did not use TCP"
		! grep -q 'mapped' "$out/report.json" || fail "--transport tcp used shared memory"
	fi
	# what was moved and what was there already make up all tokens; whole blocks but for the last of a request
	moved=$(field tokens_moved) hit=$(field prefix_hit_blocks)
	[ $((moved + hit * 16)) -eq "$(field tokens)" ] || fail "tokens do not add up"
	[ "$(field bytes)" -eq $((moved * 4096)) ] || fail "bytes are not tokens times 4096"
done

# MLA, blocks that are a whole hash, one request at a time, round robin; blocks of one token
replay 0 "${base[@]}" --model deepseek-v3 --layers 3 --block-tokens 512 --window 1 --route rr
verified 60
[ "$(field bytes)" -eq $(($(field tokens_moved) * 1152 * 3)) ] || fail "MLA: bytes are not tokens times 1152 times 3"
replay 0 "${base[@]}" --model gpt-oss-120b --layers 2 --block-tokens 1 --requests 20 --kv-bytes 1
verified 20
[ "$(field bytes)" -eq $(($(field tokens_moved) * 1024 * 2)) ] || fail "fp8: bytes"

# hardly more memory than the largest request: everything goes through, prefixes are given up
replay 0 "${base[@]}" --model llama-3.1-8b --layers 1 --pool 64M --window 16
verified 60

# unequal sides
"$TEST_BIN/mcrun" --timeout 300 --prefill 1 --decode 3 "$TEST_BIN/mcperf" replay "${base[@]}" --model qwen3-8b --layers 1 \
	>"$out/stdout" 2>"$out/stderr" || fail "1 prefill, 3 decode"
verified 60
expect decode 3
"$TEST_BIN/mcrun" --timeout 300 --prefill 3 --decode 1 "$TEST_BIN/mcperf" replay "${base[@]}" --model qwen3-8b --layers 1 \
	>"$out/stdout" 2>"$out/stderr" || fail "3 prefill, 1 decode"
verified 60
expect prefill 3

# at 40 times the speed of the timestamps it takes at least their span: the 20th request comes at
last=$(sed -n '20s/.*"timestamp": \([0-9]*\),.*/\1/p' "$sample")
replay 0 "${base[@]}" --model llama-3.1-8b --layers 1 --requests 20 --speed 40
verified 20
awk -v wall="$(field wall_s)" -v least="$last" 'BEGIN { exit !(wall >= least / 1000 / 40) }' || fail "--speed 40 ended too early"

# the JSON object alone on stdout, without the check
"$TEST_BIN/mcrun" --timeout 300 --output merge --prefill 1 --decode 1 "$TEST_BIN/mcperf" replay --trace "$sample" \
	--model llama-3.1-8b --layers 1 --requests 5 --no-verify --json - >"$out/report.json" 2>"$out/stderr" || fail "--json -"
[ "$(head -c 1 "$out/report.json")" = "{" ] || fail "--json -: stdout is not one object"
expect verified_bytes 0
expect requests 5
grep -q 'mcperf replay: llama-3.1-8b' "$out/stderr" || fail "--json -: the table is not on stderr"
echo "replays verified"

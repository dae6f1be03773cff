#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Layer by layer, while the next layers are computed: all verified, and the report has both times. And that the check sees
# one wrong bit, and --plan moves nothing and adds up.
. "$(dirname "$0")/common_kv.sh"

shape=(--model llama-3.1-70b --src tp=2 --dst tp=1 --tokens 512 --layers 7 --dst-block 64)
bytes=$((512 * 7 * 2 * 8 * 128 * 2))
for transport in shm $networks; do
	for op in --push --pull; do
		# 7 layers, 2 at a time: the last range is shorter
		kv 0 2 1 "${shape[@]}" $op --transport "$transport" --iters 2 --layers-per-push 2 --compute 200 \
			--json "$out/report.json"
		expect result "all verified"
		expect bytes $bytes
		expect verified_bytes $((bytes * 2 * 4))
		expect layers_per_push 2
		# sleeping until a layer is due never ends early
		for key in at_end_us by_layer_us; do
			t=$(field $key)
			[ "${t%.*}" -ge 1400 ] || fail "$key is $t us, less than computing 7 layers takes"
		done
		grep -q '"overlap":' "$out/report.json" || fail "no overlap figure"
	done
done
# a pipeline whose second stage has nothing to send at first; spinning
kv 0 2 2 --model llama-3.1-70b --src tp=1,pp=2 --dst tp=2 --tokens 100 --layers 4 --layers-per-push 1 --compute 50 \
	--compute-by spin --iters 1 --json "$out/report.json"
expect result "all verified"

# one flipped bit at the first source: named, and the run fails
kv 1 2 1 "${shape[@]}" --iters 2 --corrupt-one --json "$out/report.json"
grep -q 'decode.0 (rank 2): wrong byte: layer 3, V, token 256, head 0, byte 128: expected 0x' "$out/stderr" ||
	fail "the wrong byte is not named"
[ "$(grep -c 'wrong byte' "$out/stderr")" -eq 1 ] || fail "not exactly one line about it"
expect result FAILED
expect verified_bytes 0
kv 0 2 1 "${shape[@]}" --iters 1 --corrupt-one --no-verify --json "$out/report.json"
expect result moved
expect verified_bytes 0

# the plan: 4 -> 2, each source has one target
kv 0 4 2 --model llama-3.1-70b --src tp=4 --dst tp=2 --tokens 131072 --plan --json "$out/report.json"
expect result plan
expect bytes $((131072 * 80 * 2 * 8 * 256))
[ "$(grep -c '"src": [0-3],' "$out/report.json")" -eq 4 ] || fail "not four pairs of ranks in the plan"
grep -q 'prefill\.3  *-   *10\.0 GiB' "$out/stdout" || fail "the matrix does not say what prefill.3 sends"
grep -q 'prefill.3 .*-> decode.1: 10737418240 bytes; descriptors 1310720 before, [0-9]* after merging' "$out/stdout" ||
	fail "the plan does not list what prefill.3 sends to decode.1"
# the same without any other rank
"$TEST_BIN/mcperf" kv --model llama-3.1-70b --src tp=4 --dst tp=2 --tokens 131072 --plan >"$out/alone" 2>"$out/stderr" ||
	fail "--plan on its own"
sed 's/^\[prefill.0\] //' "$out/stdout" | diff - "$out/alone" >"$out/diff" || fail "--plan on its own differs: $(cat "$out/diff")"
echo "layer by layer: verified over shm $networks"

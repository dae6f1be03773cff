# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the kv_*.sh tests. Output of the run in hand: $out/stdout, $out/stderr, $out/report.json.
. "$(dirname "$0")/common_replay.sh"

# kv STATUS PREFILL DECODE ARG...: mcrun must end with that status.
kv()
{
	want=$1 prefill=$2 decode=$3
	shift 3
	rm -f "$out/report.json"
	timeout -k 5 300 "$TEST_BIN/mcrun" --prefill "$prefill" --decode "$decode" "$TEST_BIN/mcperf" kv "$@" \
		>"$out/stdout" 2>"$out/stderr"
	got=$?
	[ "$got" -eq "$want" ] || fail "mcperf kv $*: status $got, not $want"
}

# moves PREFILL DECODE BYTES ARG...: over every transport, push and pull: verified, and as many bytes as the model has.
moves()
{
	p=$1 d=$2 bytes=$3
	shift 3
	for transport in shm $networks; do
		for op in --push --pull; do
			kv 0 "$p" "$d" "$@" --transport "$transport" $op --iters 1 --json "$out/report.json"
			expect result "all verified"
			expect errors 0
			expect bytes "$bytes"
			# one plain transfer and one that queues behind another
			expect verified_bytes $((2 * bytes))
			grep -q "\"transport\": \".*$transport" "$out/report.json" || fail "not over $transport"
			[ "$(field runs)" -gt 0 ] && [ "$(field plan_runs)" -le "$(field naive_descriptors)" ] || fail "runs"
		done
	done
}

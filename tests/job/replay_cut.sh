#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Instances of several ranks on both sides of a replay (--src, --dst): every byte verified, over each transport; a wrong bit
# and a dead rank end the run with its name; bad input is one line.
. "$(dirname "$0")/common_replay.sh"

# cut STATUS PREFILL DECODE ARG...
cut()
{
	want=$1 p=$2 d=$3
	shift 3
	rm -f "$out/report.json"
	timeout -k 5 400 "$TEST_BIN/mcrun" ${MCRUN_ARGS:-} --prefill "$p" --decode "$d" "$TEST_BIN/mcperf" replay --trace "$sample" --pool 200M "$@" \
		>"$out/stdout" 2>"$out/stderr"
	got=$?
	[ "$got" -eq "$want" ] || fail "mcperf replay $*: status $got, not $want"
}
few=20
[ "$slow" = yes ] && few=3
tokens_of=$(head -$few "$sample" | sed 's/.*"input_length": *\([0-9]*\).*/\1/' | paste -sd+)

for transport in shm $networks; do
	# two prefill instances of two ranks, two decode ranks; other blocks and layout
	cut 0 4 2 --model llama-3.1-8b --layers 2 --src tp=2 --dst tp=1 --dst-block 64 --dst-layout NHD --requests $few \
		--transport $transport --json "$out/report.json"
	verified $few
	expect tokens $((tokens_of))
	expect src_tp 2
	[ "$(field prefix_hit_blocks)" -gt 0 ] || [ "$slow" = yes ] || fail "no prefix was used again"
	expect bytes $(($(field tokens_moved) * 2 * 2 * 8 * 256))
	# one instance on each side, pipeline stages against tensor parallelism; MLA on three ranks
	cut 0 4 2 --model llama-3.1-8b --layers 3 --src tp=2,pp=2 --dst tp=2 --requests $few --transport $transport \
		--json "$out/report.json"
	verified $few
	expect bytes $(($(field tokens_moved) * 3 * 2 * 8 * 256))
	cut 0 2 3 --model deepseek-v3 --layers 2 --src tp=2 --dst tp=3 --requests $few --transport $transport --json "$out/report.json"
	verified $few
	expect bytes $(($(field tokens_moved) * 2 * 576 * 2 * 3)) # each target has all of it
	cut 1 2 2 --model llama-3.1-8b --layers 2 --src tp=2 --dst tp=2 --corrupt-one --transport $transport --json "$out/report.json"
	grep -q 'decode.0 (rank 2): wrong byte: request [0-9]* layer 0 K token [0-9]* .*head 0, byte 1: expected 0x' "$out/stderr" ||
		fail "$transport: the wrong byte is not named"
	expect wrong_blocks 1
	expect result FAILED
done

# a rank dies in the middle: the run ends, long before the request timeout, and says who
MCRUN_ARGS="--on-failure continue"
start=$SECONDS
rm -f "$out/report.json"
: >"$out/stderr"
timeout -k 5 400 "$TEST_BIN/mcrun" --on-failure continue --prefill 2 --decode 2 "$TEST_BIN/mcperf" replay --trace "$sample" \
	--pool 200M --model llama-3.1-8b --layers 1 --src tp=2 --dst tp=2 --speed 4 --progress always --json "$out/report.json" \
	>"$out/stdout" 2>"$out/stderr" &
run=$!
until grep -qE '\] ([1-9]|[123][0-9])/60 requests' "$out/stderr"; do
	[ $((SECONDS - start)) -lt 200 ] || { kill "$run"; fail "the run does not get under way"; }
	kill -0 "$run" 2>/dev/null || fail "the run ended before the kill"
	read -r -t 0.02 _ <><(:) || :
done
start=$SECONDS
for launcher in $(descendants $run) $run; do
	victim=$(rank_pid "$launcher" 3)
	[ -n "$victim" ] && break
done
[ -n "$victim" ] || { kill "$run"; fail "rank 3 not found"; }
kill -9 "$victim"
wait "$run" && fail "rank 3 was killed and the status is 0"
[ $((SECONDS - start)) -lt 40 ] || fail "it took $((SECONDS - start)) s to end"
grep -q 'decode.1 (rank 3) died' "$out/stderr" || fail "the dead rank is not named"
expect result FAILED
expect ranks_lost 1

bad()
{
	pattern=$1
	shift
	cut 2 3 2 --model llama-3.1-8b --layers 2 "$@"
	[ "$(grep -c 'mcperf: replay:' "$out/stderr")" -eq 1 ] || fail "$*: not exactly one line"
	grep -q "mcperf: replay: .*$pattern" "$out/stderr" || fail "$*: the line does not say \"$pattern\""
}
bad '--src and --dst belong together: --dst is missing' --src tp=2
bad '--src tp=2,pp=1 needs a multiple of 2 prefill ranks, the job has 3' --src tp=2 --dst tp=1
bad '--dst-block 48: must divide 512' --src tp=3 --dst tp=1 --dst-block 48
bad '--src-layout and --src-block need --src and --dst' --src-block 32
bad '--dst 2: must be tp=N' --src tp=3 --dst 2
bad '--kv-bytes 8: must be 1, 2 or 4' --src tp=3 --dst tp=1 --kv-bytes 8
bad '--src pp=3: more stages than the 2 layers' --src pp=3 --dst tp=1
echo "instances verified over: shm $networks"

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A rank is killed in the middle under --on-failure continue: the other pairs finish and verify, the report says what is
# lost, the status is not 0. With the gathering rank killed, another one reports.
. "$(dirname "$0")/common_replay.sh"

# kill_one RANK TRANSPORT: start a paced run, kill that rank once requests are through, wait for the end.
kill_one()
{
	rm -f "$out/report.json"
	: >"$out/stderr" # the background shell opens it late, and an old one would mislead the wait
	"$TEST_BIN/mcrun" --timeout 400 --on-failure continue --prefill 2 --decode 2 "$TEST_BIN/mcperf" replay --trace "$sample" \
		--model llama-3.1-8b --layers 1 --speed 4 --progress always --request-timeout 20 --transport "$2" \
		--json "$out/report.json" >"$out/stdout" 2>"$out/stderr" &
	run=$!
	deadline=$((SECONDS + 200))
	# not a terminal: a line now and then; wait for one that says that some are through, and many are not
	until grep -qE '\] (1[0-9]|[23][0-9])/60 requests' "$out/stderr"; do
		[ $SECONDS -lt $deadline ] || { kill "$run"; fail "rank $1: the run does not get under way"; }
		kill -0 "$run" 2>/dev/null || fail "rank $1: the run ended before the kill"
		read -r -t 0.02 _ <><(:) || :
	done
	victim=$(rank_pid "$run" "$1")
	[ -n "$victim" ] || { kill "$run"; fail "rank $1 not found ($2)"; }
	kill -9 "$victim"
	wait "$run"
	status=$?
	[ "$status" -ne 0 ] || fail "rank $1 was killed and the status is 0"
	[ -s "$out/report.json" ] || fail "rank $1 was killed: no report"
	expect result FAILED
	expect ranks_lost 1
	[ "$(field errors)" -ge 1 ] || fail "rank $1 was killed: nothing is lost?"
	[ "$(field wrong_blocks)" -eq 0 ] || fail "rank $1 was killed: wrong bytes"
	expect not_run 0
	[ "$(field verified_bytes)" -ge "$(field bytes)" ] || fail "rank $1 was killed: the rest is not verified"
	[ $(($(field requests) + $(field errors))) -eq 60 ] || fail "rank $1 was killed: requests and errors are not 60"
}

# A request is served by one of two prefill and one of two decode ranks: without one of them, half of what was to come is
# lost and the other half must arrive.
for transport in auto $networks; do
	kill_one 3 $transport # a decode rank
	[ "$(field requests)" -ge 20 ] || fail "$transport: the other decode rank did not finish"
	kill_one 1 $transport # a prefill rank
	[ "$(field requests)" -ge 30 ] || fail "$transport: the other prefill rank did not finish"
	grep -q 'prefill.1 (rank 1) died: [0-9]* requests lost' "$out/stderr" || fail "$transport: the dead rank is not named"
done
kill_one 0 auto # the rank that gathers the results
[ "$(field requests)" -ge 30 ] || fail "the other prefill rank did not finish"
echo "deaths survived and reported"

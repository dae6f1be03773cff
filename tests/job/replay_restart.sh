#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --on-failure restart in the middle of a replay: a decode rank is killed ten times, comes back each time with an empty cache and
# is served again; a prefill rank is killed and asked again for what was under way. In the end all bytes are verified.
. "$(dirname "$0")/common_replay.sh"
# libpmix 4.2 loses values in its store in memory (gds hash), which restarts need, in functions without a name to suppress them by
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

limit=20
# start TRANSPORT SPEED: a paced run in the background, under way when this returns. Its trace, of 42 s, must take longer than the
# killing: when it is over, a rank that is not killed at once may end the run before its next death.
start()
{
	rm -f "$out/report.json"
	: >"$out/stderr"
	"$TEST_BIN/mcrun" --timeout 500 --on-failure restart:$limit --prefill 2 --decode 2 "$TEST_BIN/mcperf" replay --trace "$sample" \
		--model llama-3.1-8b --layers 1 --speed "$2" --progress always --request-timeout 20 --transport "$1" \
		--json "$out/report.json" >"$out/stdout" 2>"$out/stderr" &
	run=$!
	wait_for '\] ([5-9]|[1-5][0-9])/60 requests' "the run does not get under way"
}
wait_for() # wait_for PATTERN WHY: in stderr
{
	deadline=$((SECONDS + 200))
	until grep -qE "$1" "$out/stderr"; do
		[ $SECONDS -lt $deadline ] || { kill "$run"; fail "$2"; }
		kill -0 "$run" 2>/dev/null || fail "the run ended: $2"
		read -r -t 0.02 _ <><(:) || :
	done
}
# kill_early RANK TIMES: each time as soon as it has connected to anybody, or a few milliseconds later, so also in the middle of that
kill_early()
{
	last=0
	for ((k = 1; k <= $2; k++)); do
		deadline=$((SECONDS + 200))
		victim=
		until [ -n "$victim" ] && [ "$victim" != "$last" ] && [ "$(threads "$victim")" -ge 3 ]; do
			[ $SECONDS -lt $deadline ] || { kill "$run"; fail "rank $1 does not come back for death $k"; }
			kill -0 "$run" 2>/dev/null || fail "the run ended before death $k"
			victim=$(rank_pid "$run" "$1")
		done
		read -r -t "0.0$((RANDOM % 30 + 10))" _ <><(:) || :
		kill -9 "$victim"
		last=$victim
		wait_for "rank $1 .* it is started again \($k of $limit\)" "rank $1: death $k is not reported"
	done
}
# kill_again RANK TIMES: each time when it is there again and has joined
kill_again()
{
	last=0
	for ((k = 1; k <= $2; k++)); do
		deadline=$((SECONDS + 200))
		victim=
		until [ -n "$victim" ] && [ "$victim" != "$last" ]; do
			[ $SECONDS -lt $deadline ] || { kill "$run"; fail "rank $1 does not come back for death $k"; }
			kill -0 "$run" 2>/dev/null || fail "the run ended before death $k"
			victim=$(rank_pid "$run" "$1")
		done
		# at work: it has its pool, which the others write into
		until grep -q 'memfd:\|/dev/zero\|mc-' "/proc/$victim/maps" 2>/dev/null && [ "$(threads "$victim")" -ge 3 ]; do
			[ $SECONDS -lt $deadline ] || { kill "$run"; fail "rank $1 does not get to work for death $k"; }
			kill -0 "$victim" 2>/dev/null || fail "rank $1 died by itself"
		done
		kill -9 "$victim"
		last=$victim
		wait_for "rank $1 .* it is started again \($k of $limit\)" "rank $1: death $k is not reported"
	done
}
threads() { ls "/proc/$1/task" 2>/dev/null | wc -l; }
finish() # finish RESTARTS
{
	wait "$run"
	status=$?
	[ "$status" -eq 0 ] || fail "status $status"
	verified 60
	expect restarts "$1"
	expect wrong_blocks 0
	expect ranks_lost 0
	grep -q "^mcrun: started again: " "$out/stderr" || fail "no summary of the restarts"
}

for transport in auto $networks; do
	start $transport 1.5
	kill_again 3 10
	finish 10
	grep -q "^mcrun: started again: decode.1 10 times$" "$out/stderr" || fail "$transport: the summary is wrong"
done
# UCX before 1.14 aborts a process whose peer dies while the two shake hands: our way of connecting leaves no room for that
for transport in $networks; do
	start $transport 1
	for rank in 3 2 1; do kill_early $rank 8; done
	finish 24
	grep -q "^mcrun: started again: prefill.1 8 times, decode.0 8 times, decode.1 8 times$" "$out/stderr" ||
		fail "$transport: others died than were killed: $(grep "started again: " "$out/stderr")"
done
start auto 4
kill_again 1 2 # a prefill rank
finish 2
start auto 4
kill_again 0 1 # the one that gathers the results
finish 1
echo "restarts survived, all verified"

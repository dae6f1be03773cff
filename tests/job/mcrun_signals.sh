#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Signals to mcrun: forwarded to every rank and its children, then SIGKILL after the grace time; the second one kills at once.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"

# begin ARG...: mcrun in the background in its own group; $job is its pid
begin()
{
	rm -f pids got
	# a shell starts what it puts in the background with SIGINT ignored, and mcrun would respect that
	setsid env --default-signal=INT,QUIT "$mcrun" "$@" >out 2>err </dev/null &
	job=$!
}
# ended CODE MS
ended()
{
	local got=0
	within "$2" dead "$job" || { kill -9 "$job"; fail "mcrun did not end within $2 ms"; }
	wait "$job" || got=$?
	expect "exit code" "$got" "$1"
	nothing_left
}

polite='trap "echo got >>got; exit 0" TERM INT HUP; echo $$ >>pids; while :; do sleep 0.02; done'
stubborn='trap "echo got >>got" TERM INT HUP; echo $$ >>pids; while :; do sleep 0.02; done'
for sig in TERM INT HUP; do
	begin -n 3 sh -c "$polite"
	within 10000 lines pids 3 || fail "the ranks did not start"
	kill -$sig "$job"
	ended $((128 + $(kill -l $sig))) 4000
	expect "ranks that got SIG$sig" "$(wc -l <got)" 3
	has err "^mcrun: interrupted by signal $(kill -l $sig) \(.*\); 3 of 3 ranks on host .* were ended$" 1
done

# Not heeded: killed after the grace time, not before.
begin --grace 0.7 -n 2 sh -c "$stubborn"
within 10000 lines pids 2 || fail "the ranks did not start"
t0=$(now_ms)
kill -TERM "$job"
ended 143 5000
t1=$(now_ms)
[ $((t1 - t0)) -ge 600 ] || fail "the grace time was $((t1 - t0)) ms, not 700"
all_dead $(cat pids) || fail "a rank lives on"
expect "ranks that got SIGTERM" "$(sort -u got)" got

# The second signal kills at once, in spite of a long grace time.
begin --grace 60 -n 2 sh -c "$stubborn"
within 10000 lines pids 2 || fail "the ranks did not start"
kill -INT "$job"
within 5000 lines got 2 || fail "the first signal did not arrive"
kill -INT "$job"
ended 130 3000

# Grace 0: at once.
begin --grace 0 -n 2 sh -c "$stubborn"
within 10000 lines pids 2 || fail "the ranks did not start"
kill -TERM "$job"
ended 143 3000

# A stopped rank is ended too, and a child of a rank gets the signal as well.
begin -n 2 sh -c 'sh -c "trap \"echo got >>got; exit 0\" TERM; echo \$\$ >>pids; while :; do sleep 0.02; done" & echo $$ >>pids; wait'
within 10000 lines pids 4 || fail "the ranks did not start"
for p in $(cat pids); do kill -STOP "$p"; done
kill -TERM "$job"
ended 143 4000
expect "children that got it" "$(wc -l <got)" 2

# USR1 and USR2 are handed on and end nothing.
begin -n 2 sh -c 'trap "echo got >>got; exit 0" USR1; echo $$ >>pids; while :; do sleep 0.02; done'
within 10000 lines pids 2 || fail "the ranks did not start"
kill -USR1 "$job"
ended 0 4000
expect "ranks that got SIGUSR1" "$(wc -l <got)" 2

# nohup: a hang-up that mcrun's caller ignores is ignored.
(trap '' HUP; exec setsid "$mcrun" -n 1 sh -c 'echo $$ >>pids; until [ -e go ]; do sleep 0.02; done' >out 2>err </dev/null) &
rm -f pids go
job=$!
within 10000 lines pids 1 || fail "the rank did not start"
kill -HUP "$job"
touch go
ended 0 4000

# Stop and continue reach the ranks.
begin -n 1 sh -c 'echo $$ >>pids; while :; do sleep 0.02; done'
within 10000 lines pids 1 || fail "the rank did not start"
state() { [ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat")" = "$2" ]; }
kill -TSTP "$job"
within 5000 state "$(cat pids)" T || fail "the rank was not stopped with mcrun"
within 5000 state "$job" T || fail "mcrun was not stopped"
kill -CONT "$job"
running() { ! state "$(cat pids)" T; }
within 5000 running || fail "the rank was not continued"
kill -TERM "$job"
ended 143 4000
passed

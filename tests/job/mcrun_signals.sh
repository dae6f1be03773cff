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
# ended CODE: what would end it only later, a grace time, is longer than this waits
ended()
{
	local got=0
	within 20000 dead "$job" || { kill -9 "$job"; fail "mcrun does not end"; }
	wait "$job" || got=$?
	expect "exit code" "$got" "$1"
	nothing_left
}

polite='trap "echo got >>got; exit 0" TERM INT HUP; echo $$ >>pids; while :; do sleep 0.02; done'
stubborn='trap "echo got >>got" TERM INT HUP; echo $$ >>pids; while :; do sleep 0.02; done'
for sig in TERM INT HUP; do
	begin --grace 60 -n 3 sh -c "$polite"
	within 30000 lines pids 3 || fail "the ranks did not start"
	kill -$sig "$job"
	ended $((128 + $(kill -l $sig)))
	expect "ranks that got SIG$sig" "$(wc -l <got)" 3
	has err "^mcrun: interrupted by signal $(kill -l $sig) \(.*\); 3 of 3 ranks on host .* were ended$" 1
done

# Not heeded: killed after the grace time, not before.
begin --grace 0.7 -n 2 sh -c "$stubborn"
within 30000 lines pids 2 || fail "the ranks did not start"
t0=$(now_ms)
kill -TERM "$job"
ended 143
t1=$(now_ms)
[ $((t1 - t0)) -ge 600 ] || fail "the grace time was $((t1 - t0)) ms, not 700"
all_dead $(cat pids) || fail "a rank lives on"
# (that they get the signal is seen below: here a slow machine may leave a shell no time to say so)

# The second signal kills at once, in spite of a long grace time.
begin --grace 60 -n 2 sh -c "$stubborn"
within 30000 lines pids 2 || fail "the ranks did not start"
kill -INT "$job"
within 30000 lines got 2 || fail "the first signal did not arrive"
kill -INT "$job"
ended 130

# Grace 0: at once, and not politely.
begin --grace 0 -n 2 sh -c "$stubborn"
within 30000 lines pids 2 || fail "the ranks did not start"
kill -TERM "$job"
ended 143
[ ! -e got ] || fail "grace 0 waits for the ranks"

# A stopped rank is ended too, and a child of a rank gets the signal as well.
begin --grace 60 -n 2 sh -c 'sh -c "trap \"echo got >>got; exit 0\" TERM; echo \$\$ >>pids; while :; do sleep 0.02; done" & echo $$ >>pids; wait'
within 30000 lines pids 4 || fail "the ranks did not start"
for p in $(cat pids); do kill -STOP "$p"; done
kill -TERM "$job"
ended 143
expect "children that got it" "$(wc -l <got)" 2

# USR1 and USR2 are handed on and end nothing.
begin --grace 60 -n 2 sh -c 'trap "echo got >>got; exit 0" USR1; echo $$ >>pids; while :; do sleep 0.02; done'
within 30000 lines pids 2 || fail "the ranks did not start"
kill -USR1 "$job"
ended 0
expect "ranks that got SIGUSR1" "$(wc -l <got)" 2

# nohup: a hang-up that mcrun's caller ignores is ignored.
rm -f pids go
(trap '' HUP; exec setsid "$mcrun" -n 1 sh -c 'echo $$ >>pids; until [ -e go ]; do sleep 0.02; done' >out 2>err </dev/null) &
job=$!
within 30000 lines pids 1 || fail "the rank did not start"
kill -HUP "$job"
touch go
ended 0

# Stop and continue reach the ranks. (One that forks may be caught in a vfork, and is then not stopped but waits for its child.)
begin --grace 60 -n 1 sh -c 'echo $$ >>pids; exec sleep 1000'
within 30000 lines pids 1 || fail "the rank did not start"
state() { [ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat")" = "$2" ]; }
kill -TSTP "$job"
within 30000 state "$(cat pids)" T || fail "the rank was not stopped with mcrun"
within 30000 state "$job" T || fail "mcrun was not stopped"
kill -CONT "$job"
running() { ! state "$(cat pids)" T; }
within 30000 running || fail "the rank was not continued"
kill -TERM "$job"
ended 143
passed

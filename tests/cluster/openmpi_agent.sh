#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Three hosts with one agent each, which mpirun starts and then has nothing more to do with: PMIx over several hosts, a replay,
# arguments, output, signals, two jobs at the same time.
set -u
. "$(dirname "$0")/lib_hosts.sh"
need_mpirun
need_probe
hosts 3
all="--engine openmpi --hosts $h0:2,$h1:2,$h2:2 --prefill 2 --decode 4 --agent"
# shellcheck disable=SC2086 # $all is words
{
run 0 $all --dry-run "$probe" fence
has out "^command: .*mpirun .*-np 1 -host $h2:1 -x MC_JOB_KEY -x MCRUN_HEAD -x MCRUN_NODE=2 .*mcrun --as-agent$" 1
run 0 $all sh -c 'echo "$PMIX_RANK $MC_ROLE $(hostname) $MC_LAUNCHER $PWD"'
for i in 0 1 2 3 4 5; do
	role=decode at=$((i - 2))
	[ $i -lt 2 ] && role=prefill at=$i
	has out "^.$role.$at. $i $role $me$((i / 2)) openmpi $work$" 1
done
run 0 $all "$probe" fence
run 0 $all "$probe" publish
# more output than any buffer on the way, from every rank, none of it lost or mixed
run 0 $all --output merge sh -c 'i=0; while [ $i -lt 20000 ]; do echo "line $i of rank $PMIX_RANK, of some length"; i=$((i + 1)); done'
expect "lines" "$(sort -u out | wc -l)" 120000
has_not out ' line '
run 0 $all --output logs sh -c 'echo "mine is $PMIX_RANK"; echo err >&2'
expect "files" "$(ls logs | wc -l)" 12
has logs/decode.3.out "^mine is 5$" 1
seq 100000 >in
timeout 120 "$work/on" "$h0" "$mcrun" $all cksum >out 2>err <in || fail "stdin: code $?"
has out "^.prefill.0. $(cksum <in)$" 1

before=$(moved "$h1")
run 0 $all "$mcperf" replay --trace "$sample" --model llama-3.1-8b --layers 1 --transport tcp --json "$work/report.json"
all_verified 60
bytes=$(($(moved "$h1") - before))
[ $bytes -gt $(($(field bytes) / 4)) ] || fail "only $bytes bytes crossed the link of host 1"
echo "host 1 sent and received $bytes bytes, the report says $(field bytes) for all"
# shared memory within a host, TCP between hosts, chosen per pair
run 0 $all "$mcperf" replay --trace "$sample" --model llama-3.1-8b --layers 1 --requests 20 --json "$work/report.json"
all_verified 20

run 137 $all "$probe" dead 4 # --agent alone changes nothing about what a death means
has err "^mcrun: rank 4 \(decode.2\) on host $h2 was killed by signal 9 \(Killed\); 5 others were ended$" 1
run 7 $all "$probe" abort 3 7
has err "rank 3 \(decode.1\) on host $h1 called abort with code 7: probe gives up; 5 others were ended" 1
run 1 $all "$probe" nojoin 3
has err "rank 3 \(decode.1\) on host $h1 ended without joining the job" 1
run 124 $all --timeout 2 "$probe" hang
run 2 $all ./not_there
run 1 --engine openmpi --hosts "$h0:1,nowhere:1" --agent -n 2 true
has err "mpirun ended with exit code [0-9]* before all ranks were there" 1
no_orphans

# two jobs on the same hosts at the same time
timeout 240 "$work/on" "$h0" "$mcrun" $all "$mcperf" replay --trace "$sample" --model llama-3.1-8b --layers 1 --transport tcp \
	--json "$work/report2.json" >out2 2>&1 </dev/null &
other=$!
run 0 $all "$mcperf" replay --trace "$sample" --model llama-3.1-8b --layers 1 --transport tcp --json "$work/report.json"
all_verified 60
wait $other || fail "the other job: $? $(tail -3 out2)"
mv report2.json report.json
all_verified 60

# ^Z: the ranks stop, nobody misses the heartbeats that then do not come (of three seconds and more), and all goes on
rm -f enough
"$work/on" "$h0" "$mcrun" $all --heartbeat 1 sh -c 'i=0; until [ -e '"$work"'/enough ]; do i=$((i + 1)); echo $i; sleep 0.01; done' \
	>out 2>err </dev/null &
job=$!
all_at() { [ "$(grep -c "\] $1$" out)" = 6 ]; }
within 60000 all_at 50 || fail "the job does not start"
kill -TSTP $job
stopped() { grep -q "^State:.T" "/proc/$job/status"; }
within 30000 stopped || fail "mcrun does not stop"
before=$(wc -l <out)
later=$(($(now_ms) + 4500))
past() { [ "$(now_ms)" -ge $later ]; }
within 20000 past
expect "lines while stopped" "$(wc -l <out)" "$before"
kill -CONT $job
within 60000 all_at $((before / 4 + 50)) || fail "not all go on"
touch enough
wait $job || fail "after ^Z and fg: $?"
expect "lines out of order" "$(awk '$2 != ++n[$1]' out | wc -l)" 0
no_orphans

# SIGTERM to mcrun, and SIGKILL: nothing is left either way
for sig in TERM KILL; do
	"$work/on" "$h0" "$mcrun" $all "$probe" hang >out 2>err </dev/null &
	job=$!
	six_ready() { [ "$(grep -c ready out)" = 6 ]; }
	within 60000 six_ready || fail "the job does not start"
	kill -$sig $job
	wait $job
	got=$?
	[ $sig = KILL ] || expect "code after SIGTERM" $got 143
	no_orphans
done
}
passed

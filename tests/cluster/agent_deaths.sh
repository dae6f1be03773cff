#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --on-failure continue on three hosts: a rank is killed, a whole agent, a host is cut off, each in the middle of a replay. The
# rest go on and verify, everybody knew within the bound, code and summary are right, nothing is left on any host.
set -u
. "$(dirname "$0")/lib_hosts.sh"
. "$TEST_SRC/tests/cluster/lib_slurm.sh"
need_mpirun
hosts 3
beat=1.5 # lost after three missed: 4.5 s, and the next look after that; shorter, and a busy machine loses whom nobody killed
bound_ms=6000
slack_ms=6000 # what news.sh measures is not the subject here

# start ENGINE...: a paced replay in the background, under way when this returns
start()
{
	rm -f report.json
	: >err
	"$work/on" "$h0" "$@" --heartbeat $beat --on-failure continue --prefill 2 --decode 4 "$mcperf" replay --trace "$sample" \
		--model llama-3.1-8b --layers 1 --speed 4 --progress always --request-timeout 10 --transport tcp \
		--json "$work/report.json" >out 2>err </dev/null &
	job=$!
	within 60000 grep -qE '\] (1[0-9]|[23][0-9])/60 requests' err || fail "the replay does not get under way"
}

# finish CODE LOST: mcrun's code, ranks that the survivors count as lost; all that was moved is right
finish()
{
	local got=0
	within 120000 dead_job || { kill -9 "$job"; fail "the job hangs"; }
	wait "$job" || got=$?
	expect "code" $got "$1"
	[ -s report.json ] || fail "no report"
	expect "report: ranks_lost" "$(field ranks_lost)" "$2"
	expect "report: wrong_blocks" "$(field wrong_blocks)" 0
	expect "report: not_run" "$(field not_run)" 0
	expect "report: requests and errors" $(($(field requests) + $(field errors))) 60
	[ "$(field requests)" -ge 15 ] || fail "only $(field requests) requests were served"
	[ "$(field verified_bytes)" -ge "$(field bytes)" ] || fail "what was moved is not verified"
	no_orphans
}
dead_job() { ! alive "$job"; }

said() { grep -q "mcrun: rank $1 .* go on$" err; }
# knew FROM RANK...: mcrun said so of each, within the bound
knew()
{
	local from=$1 rank
	shift
	for rank; do
		within $((bound_ms + slack_ms)) said "$rank" || fail "mcrun did not say within $((bound_ms + slack_ms)) ms that rank $rank is lost"
	done
	echo "  known after at most $(($(now_ms) - from)) ms"
}

kill_rank() # kill_rank ENGINE...
{
	start "$@"
	pid=$(rank_pid "$h2" 5) || fail "rank 5 not found"
	at=$(now_ms)
	kill -9 "$pid"
	knew "$at" 5
	finish 137 1
	has err "^mcrun: rank 5 \(decode.3\) on host $h2 was killed by signal 9 \(Killed\); the 5 others ended well|it was the first of" 1
}
kill_agent()
{
	start "$@"
	pid=$(agent_pid "$h2") || fail "no agent on $h2"
	ranks="$(rank_pid "$h2" 4) $(rank_pid "$h2" 5)"
	at=$(now_ms)
	kill -9 "$pid"
	knew "$at" 4 5
	gone() { for p in $ranks; do if alive "$p"; then return 1; fi; done; }
	within 20000 gone || fail "the ranks of a killed agent live on"
	finish 137 2
	has err "^mcrun: rank 4 \(decode.2\) on host $h2 is lost: its agent is gone .*; 5 others go on$" 1
}
cut_host()
{
	start "$@"
	at=$(now_ms)
	ip -n "${me}br" link set v2 down
	knew "$at" 4 5
	gone() { ! rank_pid "$h2" 4 >/dev/null && ! rank_pid "$h2" 5 >/dev/null && ! agent_pid "$h2" >/dev/null; }
	within $((bound_ms + slack_ms)) gone || fail "what is on the cut-off host lives on"
	finish 137 2
	has err "^mcrun: rank 4 \(decode.2\) on host $h2 is lost: its host has not been heard of for [0-9.]* s; 5 others go on$" 1
	ip -n "${me}br" link set v2 up
}

for what in kill_rank kill_agent cut_host; do
	echo "openmpi: $what"
	$what "$mcrun" --engine openmpi --hosts "$h0:2,$h1:2,$h2:2"
done
if command -v slurmctld >/dev/null && command -v munged >/dev/null; then
	slurm_up
	for what in kill_rank kill_agent cut_host; do
		echo "slurm: $what"
		$what salloc -Q -N 3 --ntasks-per-node=2 "$mcrun"
		within 90000 nodes_idle 3 || on "$h0" scontrol update nodename="$h2" state=resume
		within 60000 nodes_idle 3 || fail "Slurm does not recover"
	done
else
	echo "(without Slurm, which is not installed)"
fi
passed

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# When each surviving rank knows of a death, against what docs/CLUSTERS.md says: of a rank on another host, of a whole agent, of
# an agent that is frozen, of a host that is cut off; by those that were connected with the dead ones and by those that never
# talked to them. With the default heartbeat. A bound counts as kept if it was in one of three attempts: a machine that stops for a while
# makes times longer, never shorter.
set -u
. "$(dirname "$0")/lib_hosts.sh"
. "$TEST_SRC/tests/cluster/lib_slurm.sh"
need_mpirun
ranks=$TEST_HELPERS/news_ranks
[ -x "$ranks" ] || skip "$ranks is not built"
rank_exe=$ranks
hosts 3
slack_ms=900 # a busy machine; the bounds themselves are far apart

# start ENGINE...: six idle ranks, two per host, all ready when this returns
start()
{
	rm -f stop
	: >out
	: >err
	"$work/on" "$h0" "$@" --on-failure continue -n 6 "$ranks" "$work/stop" >out 2>err </dev/null &
	job=$!
	six_ready() { [ "$(grep -c ready out)" = 6 ]; }
	within 60000 six_ready || fail "the job does not start"
}
# who said that all of these are lost, and when the last of them did: knows RANK LOST...
knows() { local r=$1 l; shift; for l; do grep -q "^\[$r\] lost $l at" out || return 1; done; }
# news WHAT FROM_MS BOUND_MS SURVIVORS LOST...
news()
{
	local what=$1 at=$2 bound=$3 who=$4 r t last=0 code=0
	shift 4
	for r in $who; do
		within $((bound + slack_ms + 20000)) knows "$r" "$@" || fail "$what: rank $r does not hear of $*"
	done
	for t in $(sed -n 's/^\[[0-9]*\] lost [0-9]* at \([0-9]*\).*/\1/p' out); do
		[ $((t - at)) -le "$last" ] || last=$((t - at))
	done
	expect "$what: news" "$(grep -c '\] lost ' out)" $(($(echo "$who" | wc -w) * $#))
	echo "  $what: all ranks that live knew after at most $last ms (bound: $bound ms)"
	checks=$((checks + 1))
	[ $last -le $((bound + slack_ms)) ] || code=1
	[ -z "${frozen:-}" ] || kill -CONT "$frozen" # only then can it end its ranks
	frozen=
	within 20000 ended_there "$@" || fail "$what: a rank that is given up lives on"
	touch stop
	within 60000 dead_job || { kill -9 "$job"; fail "$what: the job hangs"; }
	local got=0
	wait "$job" || got=$?
	expect "$what: code" $got 137
	no_orphans
	return $code
}
ended_there() { local l; for l; do if rank_pid "$h2" "$l" >/dev/null; then return 1; fi; done; }
dead_job() { ! alive "$job"; }

kill_rank()
{
	start "$@"
	pid=$(rank_pid "$h2" 5) || fail "rank 5 not found"
	at=$(now_ms)
	kill -9 "$pid"
	news "a rank is killed" "$at" 100 "0 1 2 3 4" 5
}
kill_agent()
{
	start "$@"
	pid=$(agent_pid "$h2") || fail "no agent on $h2"
	at=$(now_ms)
	kill -9 "$pid"
	news "an agent is killed" "$at" 100 "0 1 2 3" 4 5
}
freeze_agent()
{
	start "$@"
	pid=$(agent_pid "$h2") || fail "no agent on $h2"
	at=$(now_ms)
	kill -STOP "$pid"
	frozen=$pid
	news "an agent is frozen" "$at" 8000 "0 1 2 3" 4 5
}
cut_host()
{
	start "$@"
	at=$(now_ms)
	ip -n "${me}br" link set v2 down
	local code=0
	news "a host is cut off" "$at" 8000 "0 1 2 3" 4 5 || code=1
	ip -n "${me}br" link set v2 up
	return $code
}
for what in kill_rank kill_agent freeze_agent cut_host; do
	kept=no
	for _ in 1 2 3; do
		echo "openmpi: $what"
		$what "$mcrun" --engine openmpi --hosts "$h0:2,$h1:2,$h2:2" && { kept=yes; break; }
	done
	[ $kept = yes ] || fail "$what: the bound was kept in none of three attempts"
done
if command -v slurmctld >/dev/null && command -v munged >/dev/null; then
	slurm_up
	for what in kill_rank kill_agent freeze_agent cut_host; do
		kept=no
		for _ in 1 2 3; do
			echo "slurm: $what"
			$what salloc -Q -N 3 --ntasks-per-node=2 "$mcrun" && kept=yes
			within 90000 nodes_idle 3 || on "$h0" scontrol update nodename="$h2" state=resume
			within 60000 nodes_idle 3 || fail "Slurm does not recover"
			[ $kept = no ] || break
		done
		[ $kept = yes ] || fail "$what: the bound was kept in none of three attempts"
	done
else
	echo "(without Slurm, which is not installed)"
fi
passed

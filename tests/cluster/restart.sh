#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --on-failure restart on three hosts: a decode rank on another host is killed ten times in the middle of a replay over TCP, comes
# back each time under its agent, asks for its requests anew and is served; all bytes are verified in the end.
set -u
. "$(dirname "$0")/lib_hosts.sh"
. "$TEST_SRC/tests/cluster/lib_slurm.sh"
need_mpirun
need_probe
hosts 3

# PMIx alone: a new process of a rank finds what ranks on other hosts have put, and all are told of each death
run 0 --engine openmpi --hosts "$h0:1,$h1:1,$h2:1" --on-failure restart:3 -n 3 "$probe" again 2 3
for k in 0 1 2 3; do has out "^\[2\] start $k sees 2 others$" 1; done
has out "told 3 times that 2 died$" 2
has err "^mcrun: rank 2 on host $h2 was killed by signal 9 .Killed.; it is started again .[123] of 3.$" 3
has err "^mcrun: started again: 2 3 times$" 1
no_orphans

# a rank dies, and its agent with it before it could be started again: it stays dead, and nothing waits for it
"$work/on" "$h0" "$mcrun" --engine openmpi --hosts "$h0:1,$h1:1,$h2:1" --on-failure restart:3 -n 3 "$probe" hang >out 2>err </dev/null &
job=$!
three_ready() { [ "$(grep -c ready out)" = 3 ]; }
within 60000 three_ready || fail "the job does not start"
agent=$(agent_pid "$h2") || fail "no agent on $h2"
pid=$(rank_exe=$probe rank_pid "$h2" 2) || fail "rank 2 not found"
kill -9 "$pid"
again() { grep -q "rank 2 .* it is started again (1 of 3)" err; }
within 30000 again || fail "the death is not reported"
kill -9 "$agent"
lost() { grep -q "rank 2 on host $h2 is lost: .*; 2 others go on" err; }
within 30000 lost || fail "the loss of the agent is not reported"
kill -TERM $job
got=0
dead_job() { ! alive "$job"; }
within 60000 dead_job || { kill -9 "$job"; fail "the job hangs"; }
wait $job || got=$?
expect "code" $got 143
no_orphans

# kill_ten ENGINE...: the trace, 42 s at speed 1, takes longer than ten deaths, or the run might be over before the last of them
kill_ten()
{
	local last=0 got=0 pid k
	rm -f report.json
	: >err
	"$work/on" "$h0" "$@" --on-failure restart:20 --prefill 2 --decode 4 "$mcperf" replay --trace "$sample" --model llama-3.1-8b \
		--layers 1 --speed 1.5 --progress always --request-timeout 20 --transport tcp --json "$work/report.json" >out 2>err \
		</dev/null &
	job=$!
	within 60000 grep -qE '\] ([5-9]|[1-5][0-9])/60 requests' err || fail "the replay does not get under way"
	for ((k = 1; k <= 10; k++)); do
		anew() { pid=$(rank_pid "$h2" 5) && [ "$pid" != "$last" ] && [ "$(ls "/proc/$pid/task" | wc -l)" -ge 3 ]; }
		within 60000 anew || fail "rank 5 does not come back for death $k"
		last=$(rank_pid "$h2" 5)
		kill -9 "$last"
		said() { grep -qE "rank 5 .* it is started again \($k of 20\)" err; }
		within 30000 said || fail "death $k of rank 5 is not reported"
	done
	dead_job() { ! alive "$job"; }
	within 200000 dead_job || { kill -9 "$job"; fail "the job hangs"; }
	wait "$job" || got=$?
	expect "code" $got 0
	all_verified 60
	expect restarts "$(field restarts)" 10
	has err "^mcrun: started again: decode.3 10 times$" 1
	no_orphans
}
kill_ten "$mcrun" --engine openmpi --hosts "$h0:2,$h1:2,$h2:2"
if command -v slurmctld >/dev/null && command -v munged >/dev/null; then
	slurm_up
	kill_ten salloc -Q -N 3 --ntasks-per-node=2 "$mcrun"
else
	echo "(without Slurm, which is not installed)"
fi
passed

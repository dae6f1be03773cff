#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Three hosts, mpirun starts the ranks: who is where, a replay over TCP between the hosts, the end of a rank and its words.
set -u
. "$(dirname "$0")/lib_hosts.sh"
need_mpirun
need_probe
hosts 3
all="--engine openmpi --hosts $h0:2,$h1:2,$h2:2 --prefill 2 --decode 4"

# The key is in no command line and in no output, and the names of its variables are.
run 0 $all --dry-run "$probe" fence
has out "^command: .*mpirun .*-x MC_JOB_KEY -x MCRUN_HEAD -x MC_ROLE=prefill .*mcrun --as-agent : .*-host $h2:2 "
has out "MC_JOB_KEY=.hidden" 7
has out "^rank 5 .decode.3. host $h2 " 1

run 0 $all sh -c 'echo "$PMIX_RANK $MC_ROLE $(hostname) $MC_LAUNCHER"; tr "\0" " " </proc/$PPID/cmdline >>'"$work"'/cmdlines'
for i in 0 1 2 3 4 5; do
	role=decode at=$((i - 2))
	[ $i -lt 2 ] && role=prefill at=$i
	has out "^.$role.$at. $i $role ${me}$((i / 2)) openmpi$" 1
done
has_not cmdlines '[0-9a-f]{64}'
run 0 $all "$probe" fence
# placed otherwise: prefill on the last host, decode on what is left
run 0 --hosts "$h0,$h1,$h2" --engine openmpi --prefill 2 --decode 4 --map "prefill=$h2" sh -c 'echo "$PMIX_RANK $(hostname)"'
has out " [01] $h2$" 2
has out " [2345] ($h0|$h1)$" 4
# arguments that an engine would take for its own, and an environment with odd values
run 0 $all -x "ODD=a b:c 'd'" sh -c 'echo "$ODD|$1|$2"' - : --np
has out "a b:c 'd'.:.--np$" 6
# stdin goes to rank 0
echo "to rank 0" >in
timeout 120 "$work/on" "$h0" "$mcrun" $all cat >out 2>err <in || fail "stdin: code $?"
has out '^.prefill.0. to rank 0$' 1

before=$(moved "$h1")
run 0 $all "$mcperf" replay --trace "$sample" --model llama-3.1-8b --layers 1 --transport tcp --json "$work/report.json"
all_verified 60
bytes=$(($(moved "$h1") - before))
[ $bytes -gt $(($(field bytes) / 4)) ] || fail "only $bytes bytes crossed the link of host 1"
echo "host 1 sent and received $bytes bytes, the report says $(field bytes) for all"
no_orphans

# ends: a signal, a code, an abort, a deadline
run 137 $all "$probe" dead 4
has err "^mcrun: rank 4 \(decode.2\) on host $h2 was killed by signal 9 \(Killed\); 5 others were ended$" 1
no_orphans
run 9 $all sh -c 'exit $((PMIX_RANK == 3 ? 9 : 0))'
has err "^mcrun: rank 3 \(decode.1\) on host $h1 ended with exit code 9" 1
run 7 $all "$probe" abort 3 7
has err "exit code 7: one has called abort" 1
run 124 $all --timeout 2 --grace 1 "$probe" hang
has err "timeout: after 2 s 6 of 6 ranks on 3 hosts" 1
run 2 $all ./not_there
run 2 --engine openmpi --hosts "$h0:1,$h1:1" -n 3 true
has err "3 ranks asked for, but the 2 hosts have 2 slots" 1
# a host that cannot be reached
run 1 --engine openmpi --hosts "$h0:1,nowhere:1" -n 2 true
has err "mpirun ended with exit code [0-9]* before all ranks were there" 1
has_not err "short name"
run 1 --engine openmpi --hosts "nobody.example.org:1" -n 1 true
has err "^mcrun: Open MPI calls nobody.example.org by its short name, nobody: .* give addresses$" 1
no_orphans
passed

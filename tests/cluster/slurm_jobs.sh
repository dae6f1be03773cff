#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Three hosts under a real Slurm: salloc and sbatch, srun starts the ranks or one agent per host, plain srun without mcrun.
set -u
. "$(dirname "$0")/lib_hosts.sh"
. "$TEST_SRC/tests/cluster/lib_slurm.sh"
need_slurm
need_probe
hosts 3
slurm_up
pd="--prefill 2 --decode 4"
replay="$mcperf replay --trace $sample --model llama-3.1-8b --layers 1 --transport tcp --json $work/report.json"
# shellcheck disable=SC2086 # $pd and $replay are words
{
# inside an allocation the engine is Slurm without a word
alloc 0 $pd --dry-run "$probe" fence
has out "^command: .*MC_JOB_KEY=.hidden.*srun --mpi=pmix .*--ntasks=6 --distribution=arbitrary .*mcrun --as-agent$" 1
alloc 0 $pd --dry-run --agent "$probe" fence
has out "^command: .*srun --mpi=none .*--ntasks=3 .*--ntasks-per-node=1 .*--no-kill --kill-on-bad-exit=0" 1

# ---- direct
alloc 0 $pd sh -c 'echo "$PMIX_RANK $MC_ROLE $(hostname) $MC_LAUNCHER $SLURMD_NODENAME"'
for i in 0 1 2 3 4 5; do
	role=decode at=$((i - 2))
	[ $i -lt 2 ] && role=prefill at=$i
	has out "^.$role.$at. $i $role $me$((i / 2)) slurm $me$((i / 2))$" 1
done
alloc 0 $pd --map "prefill=$h2:1,prefill=$h1:1" sh -c 'echo "$PMIX_RANK $(hostname)"'
has out "^.prefill.0. 0 $h2$" 1
has out "^.prefill.1. 1 $h1$" 1
has out "^.decode.[0-3]. [2-5] $h0$" 4
before=$(moved "$h1")
alloc 0 $pd $replay
all_verified 60
bytes=$(($(moved "$h1") - before))
[ $bytes -gt $(($(field bytes) / 4)) ] || fail "only $bytes bytes crossed the link of host 1"
echo "direct: host 1 sent and received $bytes bytes, the report says $(field bytes) for all"
alloc 137 $pd "$probe" dead 4
has err "^mcrun: rank 4 \(decode.2\) on host $h2 was killed by signal 9 \(Killed\); 5 others were ended$" 1
alloc 7 $pd "$probe" abort 3 7
alloc 9 $pd sh -c 'exit $((PMIX_RANK == 4 ? 9 : 0))'
has err "^mcrun: rank 4 \(decode.2\) on host $h2 ended with exit code 9" 1
alloc 124 $pd --timeout 2 --grace 1 "$probe" hang
no_orphans

# ---- agents
alloc 0 $pd --agent "$probe" fence
alloc 0 $pd --agent "$probe" publish # which Slurm's own server cannot
before=$(moved "$h1")
alloc 0 $pd --agent $replay
all_verified 60
bytes=$(($(moved "$h1") - before))
[ $bytes -gt $(($(field bytes) / 4)) ] || fail "only $bytes bytes crossed the link of host 1"
echo "agents: host 1 sent and received $bytes bytes, the report says $(field bytes) for all"
alloc 137 $pd --on-failure continue "$probe" dead 4
has err "^mcrun: rank 4 \(decode.2\) on host $h2 was killed by signal 9 \(Killed\); 5 others go on$" 1
has out "told 4$" 5
alloc 7 $pd --agent "$probe" abort 3 7
no_orphans

# scancel: the agents are asked to end and pass it on; mcrun ends the job as if it had been asked itself
"$work/on" "$h0" salloc -Q -N 3 --ntasks-per-node=2 "$mcrun" $pd --agent "$probe" hang >out 2>err </dev/null &
job=$!
six_ready() { [ "$(grep -c ready out)" = 6 ]; }
within 60000 six_ready || fail "the job does not start"
on "$h0" scancel --signal=TERM "$(on "$h0" squeue -h -o %A)"
got=0
wait $job || got=$?
expect "code after scancel" $got 143
# Slurm signals the ranks as well as the agents: either may be heard of first. salloc does not wait for mcrun's last word.
last_word() { grep -qE '^mcrun: (interrupted by signal 15|rank .* was killed by signal 15)' err; }
within 30000 last_word || fail "mcrun does not say what ended the job"
no_orphans

# ---- ranks of plain srun
plain() { timeout -k 5 240 "$work/on" "$h0" srun -N 3 --ntasks-per-node=2 --mpi=pmix "$@" >out 2>err </dev/null; }
plain env MC_ROLES=prefill:2,decode:4 $replay || fail "plain srun: $?"
all_verified 60
plain -n 2 -N 1 env MC_ROLE=prefill $replay : -n 4 -N 2 --mpi=pmix env MC_ROLE=decode $replay || fail "heterogeneous step: $?"
all_verified 60
}

# ---- the examples, as they are
export PATH=$TEST_BIN:$PATH
batch() # batch SCRIPT: from the top of the source, where its paths mean something; what it writes goes to $work
{
	timeout -k 5 300 "$work/on" "$h0" sbatch -W -D "$batch_dir" -o "$work/out" -e "$work/err" "$TEST_SRC/examples/slurm/$1" >sub 2>&1 </dev/null ||
		fail "sbatch $1: $? $(cat sub)"
}
batch_dir=$TEST_SRC
batch prefill_decode.sbatch
has out "result *all verified"
has out "2 prefill and 4 decode ranks"
MCRUN_OPTIONS="--on-failure continue" batch prefill_decode.sbatch
has out "result *all verified"
batch_dir=$work
BW_OPTIONS="-s 64K --runs 2 --duration 50ms --pool 16M" LAT_OPTIONS="-s 4K --iters 50 --pool 16M" batch bandwidth.sbatch
[ "$(cat bw-*.jsonl lat-*.jsonl | grep -c '"verified"')" -ge 2 ] || fail "bandwidth.sbatch left no figures"
passed

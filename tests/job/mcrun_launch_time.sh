#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Launch to past the first fence beside mpirun, by turns in the same run; prints the ratio of the medians. It fails only if a
# job fails: time is for people to judge.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe
command -v mpirun >/dev/null || { echo "skip: there is no mpirun to compare with"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
times=${LAUNCH_TIMES:-5}

# from exec of the launcher to rank 0 behind the fence, in us: the probe prints both monotonic times
measure()
{
	local t0
	t0=$("$probe" clock)
	"$@" "$probe" time "$work/t" >out 2>err </dev/null || fail "$* failed"
	echo $((($(cat "$work/t") - t0) / 1000))
}
median() { sort -n | sed -n "$(((times + 1) / 2))p"; }
for n in 2 16 64; do
	: >a
	: >b
	for _ in $(seq "$times"); do
		measure "$mcrun" -n "$n" >>a
		measure mpirun --oversubscribe --bind-to none -n "$n" >>b
	done
	a=$(median <a) b=$(median <b)
	echo "$n ranks: mcrun $((a / 1000)) ms, mpirun $((b / 1000)) ms, ratio $((a / b)).$(printf %02d $((a * 100 / b % 100)))"
	checks=$((checks + 2 * times))
done
rm -rf "$TMPDIR"/ompi.* "$TMPDIR"/pmix-*
passed

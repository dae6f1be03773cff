#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The same collectives with the same input, once with mc under mcrun and once with Open MPI under mpirun, in several processes:
# every byte of every result must be equal. 1, 2, 3, 5, 8, 13 ranks; over shared memory, a few over TCP.
set -eu
mcrun=${TEST_BIN:?run through ctest or with_env.sh}/mcrun
mc=$TEST_HELPERS/run_compare
mpi=$TEST_HELPERS/mpi_compare
for f in "$mcrun" "$mc" "$mpi"; do
	[ -x "$f" ] || { echo "skip: $f is not built (Open MPI, PMIx)"; exit 77; }
done
command -v mpirun >/dev/null || { echo "skip: there is no mpirun"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
trap 'rm -rf "$work"' EXIT
seed=${SEED:-$(date +%s)}
echo "seed $seed"

check() # check RANKS TRANSPORT
{
	for r in $(seq 0 $(($1 - 1))); do
		if ! cmp -s "$work/mc.$r" "$work/mpi.$r"; then
			echo "FAILED: $1 ranks, $2, seed $seed: rank $r differs from Open MPI:"
			diff "$work/mc.$r" "$work/mpi.$r" | head -4
			exit 1
		fi
		[ "$(wc -l <"$work/mc.$r")" = 90 ] || { echo "FAILED: rank $r has not done all cases"; exit 1; }
	done
	echo "$1 ranks, $2: 90 cases equal on all ranks"
}

for n in 1 2 3 5 8 13; do
	timeout 400 mpirun --oversubscribe --bind-to none -n "$n" "$mpi" "$seed" "$work"
	timeout 400 "$mcrun" -n "$n" "$mc" "$seed" "$work"
	check "$n" shm
	case $n in
	2 | 5)
		case " ${TEST_WITH:-} " in
		*" ucx "*)
			rm -f "$work"/mc.*
			MC_TRANSPORT=tcp timeout 400 "$mcrun" -n "$n" "$mc" "$seed" "$work"
			check "$n" tcp
			;;
		esac
		;;
	esac
	rm -f "$work"/mc.* "$work"/mpi.*
done

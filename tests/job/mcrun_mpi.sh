#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An unmodified Open MPI program under mcrun: ranks, size, allreduce, ring, abort.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
mpi=$helpers/mpi_sum
[ -x "$mpi" ] || { echo "skip: $mpi is not built (Open MPI)"; exit 77; }

run 0 -n 4 "$mpi"
for r in 0 1 2 3; do has out "^\[$r\] rank $r of 4 sum 10 from $(((r + 3) % 4))$" 1; done
run 0 --prefill 2 --decode 1 "$mpi"
has out '^\[decode\.0\] rank 2 of 3 sum 6 from 1$' 1
run 9 -n 3 "$mpi" abort 1
has err 'called abort with code 9' 1
# Ranks are not told that they are a Slurm step: srun inside a rank would believe it.
run 0 -n 1 sh -c 'env | grep -c ^SLURM_ || true'
has out '^\[0\] 0$' 1
# mpirun inside a rank works once the one variable meant for ranks is taken away.
run 0 -n 1 env -u OMPI_MCA_schizo mpirun --oversubscribe -n 2 "$mpi"
has out 'rank 1 of 2 sum 3 from 0' 1
# mcrun inside a rank of mpirun, and of mcrun.
if command -v mpirun >/dev/null; then
	OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 200 mpirun -n 1 "$mcrun" -n 2 "$mpi" >out 2>err
	has out 'rank 1 of 2 sum 3 from 0' 1
fi
run 0 -n 1 "$mcrun" -n 2 "$mpi"
has out '^\[0\] \[1\] rank 1 of 2 sum 3 from 0' 1
rm -rf "$TMPDIR"/ompi.* "$TMPDIR"/pmix-* # Open MPI's own
passed

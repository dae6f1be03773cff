#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# mcperf coll: every collective verifies, its rows are JSON with the fields that are documented, the table of algorithms is
# the one that is used, bad input is refused; and, where MPI is, the program that compares with it finds equal bytes.
. "$(dirname "$0")/common_perf.sh"

# rows COUNT: the JSON array of the run in $out/json has that many objects, each with what it promises
rows()
{
	checks=$((checks + 1))
	tr -d '\n' <"$out/json" | grep -q '^\[{.*}\]$' || fail "not a JSON array"
	[ "$(grep -c '"op": ' "$out/json")" -eq "$1" ] || fail "not $1 rows"
	for k in op ranks bytes iters min_us avg_us max_us algbw_gbs busbw_gbs algorithm wrong_bytes; do
		[ "$(grep -c "\"$k\": " "$out/json")" -eq "$1" ] || fail "a row without $k"
	done
	grep '"wrong_bytes": ' "$out/json" | grep -vq '"wrong_bytes": 0}' && fail "wrong bytes"
	return 0
}

for net in shm $networks; do
	export MC_TRANSPORT=$net
	for op in bcast scatter gather allgather alltoall; do
		job 0 3 coll --op $op -b 8 -e 64K -f 32 --iters 5 --verify --json "$out/json"
		rows 3
		grep -q "\"op\": \"$op\"" "$out/json" || fail "not $op"
	done
	job 0 2 coll --op barrier --iters 5 --json "$out/json"
	grep -q '"op": "barrier"' "$out/json" || fail "not a barrier"
done
unset MC_TRANSPORT

# What the table says is what is used, and a setting overrules it.
job 0 1 coll --table
grep -Eq '^allgather +(any|one host) ' "$out/stdout" || fail "no table"
MC_COLL_ALGORITHM=allgather:ring job 0 3 coll --op allgather -b 64 -e 64 --iters 2 --json "$out/json"
grep -q '"algorithm": "ring"' "$out/json" || fail "MC_COLL_ALGORITHM is not heard"
MC_COLL_ALGORITHM=allgather:rong job 1 2 coll --op allgather -b 64 -e 64 --iters 2
says "no 'allgather:rong'"

job 2 1 coll --op allreduce
says '--op allreduce: must be one of barrier, bcast, '
job 2 1 coll -b 8K -e 4K
says '-b is larger than -e'
job 2 1 coll -f 1
says '-f 1: must be a number from 2'

beside=$TEST_BIN/coll_beside_mpi
if [ -x "$beside" ] && command -v mpirun >/dev/null; then
	export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
	timeout -k 5 200 mpirun --oversubscribe --bind-to none -n 3 "$beside" -b 8 -e 32K -f 64 --rounds 1 --json "$out/rows" \
		>"$out/stdout" 2>"$out/stderr" || fail "beside MPI"
	checks=$((checks + 1))
	[ "$(grep -c '"equal": true' "$out/rows")" -eq 9 ] || fail "beside MPI: not nine rows with equal bytes"
else
	echo "without the comparison with MPI: it is not part of this build"
fi
echo "$checks checks passed"

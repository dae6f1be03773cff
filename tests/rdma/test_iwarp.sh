#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vm: --wires 2 --siw --memory 1536 --timeout 500
# iWARP (siw) over two wires: data over one and two rails, and what happens to them in the middle of transfers. TCP below keeps
# what vanishes for minutes, so that a rail counts as failed when nothing has moved for 1.5 s. TEST_RDMA_ONLY: a pattern of cases.
set -eu
. "$(dirname "$0")/lib_rdma.sh"
need_verbs
[ -d /sys/class/infiniband/siwa0 ] || { echo "skip: no siw in this kernel"; exit 77; }
wire=$TEST_SRC/tests/rdma/wire
wanted() { [[ $1 == ${TEST_RDMA_ONLY:-*} ]] && step "$1"; }
paged="--slice 4K --slices 512 --window 4 --puts 40"

# shellcheck disable=SC2086 # lists of options
{
for rails in 1 2; do
	wanted data-$rails || continue
	on_wires $rails siw
	soak paged-$rails $paged
	unharmed paged-$rails
	soak big-$rails --slice 1M --slices 8 --window 2 --puts 10
	unharmed big-$rails
	soak get-$rails --get --slice 16K --slices 64 --puts 20
	unharmed get-$rails
done
on_wires 2 siw
for fault in cut hide; do
	if wanted $fault; then
		soak $fault $paged --fault "$wire s0 $fault" --heal "$wire s0 mend" --hold 3000 --settle 4000
		unharmed $fault
		at_most "longest silence (ms)" "$(json $fault.0 gap_ms)" 6000
	fi
done
if wanted flap; then
	soak flap $paged --cycles 5 --fault "$wire s1 cut" --heal "$wire s1 mend" --hold 300 --settle 1000
	unharmed flap
fi
if wanted killed; then
	SOAK_WANT=137 soak killed $paged --fault 'kill -9 %p' --hold 60000 --settle 0
	expect "peer lost" "$(json killed.0 peer_lost)" 1
	at_most "time until it is known (ms)" "$(json killed.0 error_after_ms)" 5000
fi
}
passed

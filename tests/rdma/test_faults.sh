#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# vm: --wires 2 --memory 1536 --timeout 850
# Two rails and what happens to them in the middle of transfers: no byte is lost, each note comes once, the time is bounded, and
# the speed comes back. TEST_RDMA_ONLY: only the cases that match.
set -eu
. "$(dirname "$0")/lib_rdma.sh"
need_verbs
on_wires 2
wire=$TEST_SRC/tests/rdma/wire
wanted() { [[ $1 == ${TEST_RDMA_ONLY:-*} ]] && step "$1"; }
put256="--slice 1M --slices 256 --span 32M --window 1 --puts 4 --at 0.5"
paged="--slice 4K --slices 1024 --window 4 --puts 60"
sound() { wire 0 mend; wire 1 mend; }

# shellcheck disable=SC2086 # lists of options
{
if wanted hide-put; then
	recovers hide-put $put256 --fault "$wire 0 hide" --heal "$wire 0 mend" --hold 1000 --settle 4000
	at_most "longest transfer (ms)" "$(json hide-put.0 worst_ms)" 20000
fi
if wanted hide-paged; then
	recovers hide-paged $paged --fault "$wire 1 hide" --heal "$wire 1 mend" --hold 1500 --settle 4000
	at_most "longest silence (ms)" "$(json hide-paged.0 gap_ms)" 6000
fi
if wanted hide-get; then
	soak hide-get --get $paged --fault "$wire 1 hide" --heal "$wire 1 mend" --hold 1500 --settle 4000
	unharmed hide-get
fi
if wanted cut-put; then
	recovers cut-put $put256 --fault "$wire 0 cut" --heal "$wire 0 mend" --hold 1000 --settle 4000
fi
if wanted cut-paged; then
	recovers cut-paged $paged --fault "$wire 0 cut" --heal "$wire 0 mend" --hold 1000 --settle 4000
	at_most "longest silence (ms)" "$(json cut-paged.0 gap_ms)" 4000
fi
if wanted spare; then
	# One port is chosen for each rank; the other one carries nothing until that fails.
	cat >on_spares <<-'END'
		#!/bin/sh
		export MC_VERBS_SPARES=1
		if [ $((PMIX_RANK % 2)) -eq 0 ]; then MC_DEVICE=^rxb0,^rxb1,numa0=rxa0; else MC_DEVICE=^rxa0,^rxa1,numa0=rxb0; fi
		export MC_DEVICE
		exec "$@"
	END
	chmod +x on_spares
	sent() { cat /sys/class/infiniband/rxa1/ports/1/hw_counters/sent_pkts; }
	before=$(sent)
	SOAK_ON=./on_spares soak unused $paged
	unharmed unused
	expect "packets that a spare carried while it was not needed" "$(($(sent) - before))" 0
	for fault in cut hide; do
		before=$(sent)
		SOAK_ON=./on_spares soak spare-$fault $paged --fault "$wire 0 $fault" --heal "$wire 0 mend" --hold 2000 --settle 4000
		unharmed spare-$fault
		at_least "packets that the spare carried" "$(($(sent) - before))" 5000
		at_most "longest silence (ms)" "$(json spare-$fault.0 gap_ms)" 4000
	done
fi
if wanted flap; then
	soak flap $paged --cycles 10 --fault "$wire 0 cut" --heal "$wire 0 mend" --hold 150 --settle 500
	unharmed flap
	soak flap-both $paged --cycles 10 --fault "$wire 0 hide; $wire 1 mend" --heal "$wire 1 cut; $wire 0 mend; sleep 0.3; $wire 1 mend" \
		--hold 400 --settle 1500
	unharmed flap-both
	sound
fi
if wanted slow; then
	soak slow --slice 16K --slices 64 --puts 20 --fault "$wire 0 slow; $wire 1 slow" --hold 2000 --settle 0
	unharmed slow
	sound
	soak lossy --slice 16K --slices 64 --puts 20 --fault "$wire 0 lossy; $wire 1 lossy" --hold 3000 --settle 0
	unharmed lossy
	sound
fi
if wanted frozen; then
	soak frozen $paged --fault 'kill -STOP %p; (sleep 2; kill -CONT %p) >/dev/null 2>&1 &' --hold 3000 --settle 500
	unharmed frozen
fi
if wanted both-blink; then
	recovers both-blink $paged --fault "$wire 0 hide; $wire 1 hide; (sleep 1.5; $wire 0 mend; $wire 1 mend) >/dev/null 2>&1 &" --hold 4000 \
		--settle 2000
fi
if wanted deadline; then
	# Four seconds without a rail. What has a deadline of one second ends by it, and nobody is lost over that.
	soak deadline $paged --timeout 1000 --fault "$wire 0 hide; $wire 1 hide; (sleep 4; $wire 0 mend; $wire 1 mend) >/dev/null 2>&1 &" \
		--hold 6000 --settle 3000
	at_least "transfers that ended by their deadline" "$(json deadline.0 failed)" 4
	expect "first error" "$(json deadline.0 first_error)" MC_ERR_TIMEOUT
	expect "peer lost" "$(json deadline.0 peer_lost)" 0
	at_most "longest transfer (ms)" "$(json deadline.0 worst_ms)" 2000
	expect "notes of transfers that failed" "$(json deadline.1 of_failed)" 0
	expect "wrong bytes" "$(json deadline.1 wrong_bytes)" 0
	expect "notes" "$(json deadline.1 notes)" "$(json deadline.0 ok)"
fi
if wanted both-down; then
	export MC_VERBS_FAILOVER_TIMEOUT=4s
	SOAK_WANT=1 soak both-down $paged --fault "$wire 0 hide; $wire 1 hide" --hold 60000 --settle 0
	sound
	unset MC_VERBS_FAILOVER_TIMEOUT
	expect "peer lost" "$(json both-down.0 peer_lost)" 1
	expect "first error" "$(json both-down.0 first_error)" MC_ERR_PEER_DOWN
	at_least "time until the first transfer fails (ms)" "$(json both-down.0 error_after_ms)" 3000
	at_most "time until the first transfer fails (ms)" "$(json both-down.0 error_after_ms)" 6500
	has err 'no rail has worked for MC_VERBS_FAILOVER_TIMEOUT' # named with the settings that decide
	expect "wrong bytes" "$(json both-down.1 wrong_bytes)" 0
	expect "notes doubled" "$(json both-down.1 doubled)" 0
fi
if wanted killed; then
	SOAK_WANT=137 soak killed $paged --fault 'kill -9 %p' --hold 60000 --settle 0
	expect "peer lost" "$(json killed.0 peer_lost)" 1
	expect "faults told" "$(json killed.0 faults)" 1
	expect "first error" "$(json killed.0 first_error)" MC_ERR_PEER_DOWN
	at_most "time until it is known (ms)" "$(json killed.0 error_after_ms)" 5000
fi
if wanted frozen-for-good; then
	SOAK_WANT=137 soak frozen-for-good $paged --blind --timeout 3000 --fault 'kill -STOP %p; (sleep 25; kill -9 %p) >/dev/null 2>&1 &' \
		--hold 60000 --settle 0 --patience 20000
	# Memory goes on being written to; it is notes for which there is room no more. Deadline, and MC_CANCEL_TIMEOUT.
	expect "peer lost" "$(json frozen-for-good.0 peer_lost)" 1
	at_most "time until the first transfer fails (ms)" "$(json frozen-for-good.0 error_after_ms)" 16000
fi
}
passed

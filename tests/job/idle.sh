#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Four connected ranks that wait cost under 1 % of a core each, over shared memory and over TCP.
set -eu
mcrun=$TEST_BIN/mcrun

idle() # idle TRANSPORT
{
	out=$("$mcrun" -n 4 --timeout 400 --output merge --transport "$1" "$TEST_HELPERS/idle_ranks" 4)
	[ "$(echo "$out" | wc -l)" -eq 4 ] || { echo "FAILED: $1: not four answers: $out"; exit 1; }
	worst=$(echo "$out" | sort -n | tail -1)
	echo "$1: CPU per rank, per mille:" $out
	# Under a sanitizer, or where the machine is shared, a wake-up costs more than it should; it is still no busy core.
	case $TEST_WITH in *address* | *thread*) limit=50 ;; *) limit=10 ;; esac
	[ "$worst" -lt "$limit" ] || { echo "FAILED: $1: $worst per mille, the limit is $limit"; exit 1; }
}

idle shm
case $TEST_WITH in *ucx*) idle tcp ;; *) echo "built without UCX: TCP not tried" ;; esac

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# mcrun --on-failure restart: a rank that dies by SIGKILL several times is started again each time, and the ranks that live meet each
# new process: new memory, every byte checked, old descriptors refused, a barrier of all at the end. Over shared memory and TCP.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe
# With blobs in its own memory (gds hash), which second processes of a rank need, libpmix leaks in functions that have no names to
# suppress; other tests look for leaks of ours.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"

deaths=${REJOIN_DEATHS:-4} # mcrun waits longer before each further start
for tp in shm tcp; do
	case "$tp ${TEST_WITH:-}" in shm* | *ucx*) ;; *) continue ;; esac
	run 0 --on-failure restart:$deaths --transport $tp -n 3 "$helpers/rejoin_ranks" $((deaths + 1))
	has err "^mcrun: started again: 2 $deaths times$" 1
	for r in 0 1 2; do has out "rank $r: good$" 1; done
done
passed

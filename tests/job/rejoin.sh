#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A rank that dies by SIGKILL again and again and is started again by hand (MC_REJOIN): the ranks that live meet each new
# process, over shared memory and over TCP. The launcher does not see it: the rank's shell lives on. PMIx 4.2 servers answer a
# second process of a rank only if they keep blobs in their own memory (gds hash), not in files for the clients to map.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe
starts=${REJOIN_STARTS:-5}

cat >rank.sh <<'END'
k=0
while :; do
	rc=0
	MC_REJOIN=$k "$1" "$2" $k || rc=$?
	[ $rc = 137 ] || exit $rc
	k=$((k + 1))
done
END

for tp in shm tcp; do
	case "$tp ${TEST_WITH:-}" in shm* | *ucx*) ;; *) continue ;; esac
	export PMIX_MCA_gds=hash MC_TRANSPORT=$tp
	run 0 -n 3 bash rank.sh "$helpers/rejoin_ranks" "$starts"
	for r in 0 1 2; do
		expect "$tp: word of rank $r" "$(grep -c "rank $r: good" out)" 1
	done
done
passed

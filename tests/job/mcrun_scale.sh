#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# 64 ranks: all wired, all output there, a death seen, all gone. And more than one descriptor limit's worth of pipes.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe

run 0 --prefill 32 --decode 32 "$probe" fence
run 0 -n 64 sh -c 'seq 100'
expect "lines" "$(wc -l <out)" 6400
(ulimit -Sn 64; exec timeout 200 "$mcrun" -n 64 sh -c 'ulimit -Sn') >out 2>err || fail "64 ranks do not start with a soft limit of 64 files"
has out ' 64$' 64
run 9 -n 64 sh -c '[ $PMIX_RANK = 63 ] && exit 9; exec sleep 100'
has err 'rank 63 .* exit code 9; 63 others were ended$' 1
run 137 --on-failure continue -n 32 "$probe" dead 17
has out ' told 17$' 31
passed

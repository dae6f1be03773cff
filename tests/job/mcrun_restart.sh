#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# --on-failure restart: a dead rank comes back as a new process that finds what the others have put; the limit, the summary,
# what is not started again, and the end of the job while a rank waits for its next start.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe

run 0 --on-failure restart:3 -n 3 "$probe" again 1 3
has err '^mcrun: rank 1 on host [^ ]+ was killed by signal 9 \(Killed\); it is started again \([123] of 3\)$' 3
has err '^mcrun: started again: 1 3 times$' 1
for k in 0 1 2 3; do has out "^\[1\] start $k sees 2 others$" 1; done
has out "told 3 times that 1 died$" 2
nothing_left
# more deaths than that: it stays dead, the others go on and are told, the job has failed
run 137 --on-failure restart:2 -n 3 "$probe" again 1 3
has err 'it is started again' 2
has err '^mcrun: rank 1 on host [^ ]+ was killed by signal 9 \(Killed\); 2 others go on$' 1
has err "^mcrun: started again: 1 2 times$" 1
run 137 --on-failure restart:1 -n 3 "$probe" again 2 2
has out "told 2 times that 2 died$" 2
# an exit code counts as a death, too; a rank that dies before it has joined is not started again, the job has not begun
run 0 --on-failure restart -n 2 "$probe" again 1 1 3
has err "rank 1 .* ended with exit code 3; it is started again \(1 of 3\)" 1
run 5 --on-failure restart -n 2 sh -c '[ "$PMIX_RANK" = 1 ] && exit 5; exec "$0" hang' "$probe"
has err 'started again' 0
# asked for the end of all
run 7 --on-failure restart -n 2 "$probe" abort 1 7
has err 'started again' 0
# a second start appends to the files of the first
run 0 --on-failure restart:3 --output logs -n 3 "$probe" again 1 3
has logs/1.out 'sees 2 others$' 4
# the job's end does not wait for a rank that is about to be started
setsid "$mcrun" --on-failure restart:50 -n 2 "$probe" again 1 1000 >out 2>err </dev/null &
job=$!
twice() { [ "$(grep -c 'started again' err)" -ge 2 ]; }
within 40000 twice || fail "no restarts"
kill -TERM $job
got=0
within 30000 dead $job || { kill -9 $job; fail "the job does not end"; }
wait $job || got=$?
expect "code" $got 143
for bad in restart:0 restart:x restart: restart:2x; do run 2 --on-failure $bad -n 1 true; done
has err 'restart:N needs a number of restarts' 1
passed

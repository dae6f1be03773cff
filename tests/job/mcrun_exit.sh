#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Exit codes and the line that says why: codes, signals, abort, ranks that do not join or leave, abort and continue.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe
host=$(uname -n)

run 0 -n 3 true
expect "stderr of a good job" "$(cat err)" ""
run 7 -n 1 sh -c 'exit 7'
has err "^mcrun: rank 0 on host $host ended with exit code 7$" 1
run 3 --prefill 2 --decode 2 sh -c '[ $PMIX_RANK = 3 ] && exit 3; exec sleep 60'
has err "^mcrun: rank 3 \(decode\.1\) on host $host ended with exit code 3; 3 others were ended$" 1
for sig in 6 9 11 15; do
	run $((128 + sig)) --prefill 2 --decode 2 sh -c '[ $PMIX_RANK = 2 ] && kill -'$sig' $$; exec sleep 60'
	has err "^mcrun: rank 2 \(decode\.0\) on host $host was killed by signal $sig \(.+\); 3 others were ended$" 1
done

run 135 -n 1 sh -c 'kill -BUS $$'
has err 'was killed by signal 7 \(Bus error\); .*\[dev-shm, huge-pages, see mcinfo doctor\]$' 1

# continue: the others go on, the exit code tells.
run 5 --on-failure continue -n 3 sh -c '[ $PMIX_RANK = 1 ] && exit 5; echo fine'
has out ' fine$' 2
has err "^mcrun: rank 1 on host $host ended with exit code 5; the 2 others ended well$" 1
run 137 --on-failure continue --prefill 2 --decode 2 "$probe" dead 3
has out ' told 3$' 3
has err "^mcrun: rank 3 \(decode\.1\) on host $host was killed by signal 9 \(Killed\); 3 others go on$" 1
has err "^mcrun: rank 3 \(decode\.1\) on host $host was killed by signal 9 \(Killed\); the 3 others ended well$" 1
# The first of several failures decides.
run 4 --on-failure continue -n 2 sh -c 'if [ $PMIX_RANK = 0 ]; then exit 4; fi; until [ -e go ]; do sleep 0.01; done; exit 6' &
job=$!
first_failed() { [ -f err ] && grep -q 'rank 0 .*exit code 4' err; }
within 30000 first_failed || fail "the first failure was not told at once"
touch go
wait $job || exit 1
has err 'rank 0 .* exit code 4; it was the first of 2 ranks that failed, of 2$' 1

# A rank that dies between init and fence holds nobody up.
run 137 -n 4 "$probe" diefence 2
has err '^mcrun: rank 2 .* was killed by signal 9 \(Killed\); [0-3] others? w' 1
run 137 --on-failure continue -n 4 "$probe" diefence 2

# PMIx rules as mpirun has them; abort with code and text.
run 1 -n 3 "$probe" noleave
has err 'ended with exit code 0, but without PMIx_Finalize' 1
run 1 -n 3 "$probe" nojoin 1
has err '^mcrun: rank 1 .* ended without joining the job \(PMIx_Init\), which the other ranks did' 1
run 7 -n 3 "$probe" abort 1 7
has err "^mcrun: rank 1 on host $host called abort with code 7: probe gives up; 2 others were ended$" 1
run 7 --on-failure continue -n 3 "$probe" abort 0 7
run 1 -n 2 "$probe" abort 1 256
run 0 -n 4 "$probe" fence
run 0 -n 1 "$probe" fence
run 0 -n 3 "$probe" publish

# What cannot be started although it looked startable.
printf 'no interpreter line\n' >noexec
chmod +x noexec
run 2 -n 2 ./noexec
has err '^mcrun: rank 0 .*could not be started: ./noexec: Exec format error; a script needs a first line like #!/bin/sh' 1
printf '#!/no/such/interpreter\n' >nointerp
chmod +x nointerp
run 2 -n 1 ./nointerp
has err 'could not be started: ./nointerp: No such file or directory; its interpreter or loader is missing' 1
expect "lines on stderr" "$(wc -l <err)" 1

# Timeout.
run 124 --timeout 0.3 --prefill 1 --decode 1 sleep 60
has err "^mcrun: timeout: after 0\.3 s 2 of 2 ranks on host $host were still running \(prefill\.0, decode\.0\) and were ended$" 1
run 124 --timeout 0.3 --grace 0.2 -n 2 sh -c 'trap "" TERM; while :; do sleep 0.05; done'
run 0 --timeout 30 -n 2 true
passed

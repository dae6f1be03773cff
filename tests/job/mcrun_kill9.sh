#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# SIGKILL of mcrun, of its guard, of both groups: within 2 s no process of the job is left, whatever it did to get away, and
# no file. What two kills at once leave is swept by the next mcrun.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
need_probe

# A rank with children of every kind: in its group, in another session, orphaned in another session, ignoring signals.
cat >rank.sh <<'END'
echo $$ >>pids
sh -c 'trap "" TERM INT HUP; echo $$ >>pids; while :; do sleep 0.05; done' &
setsid sh -c 'echo $$ >>pids; while :; do sleep 0.05; done' &
(setsid sh -c 'trap "" TERM; echo $$ >>pids; exec sleep 1000' &)
wait
END

begin()
{
	rm -f pids
	setsid "$mcrun" "$@" sh rank.sh >out 2>err </dev/null &
	job=$!
	within 20000 lines pids 8 || fail "the ranks did not start"
	guard=$(children "$job")
	guard=${guard// /}
	alive "$guard" || fail "there is no guard"
	expect "name of the guard" "$(cat "/proc/$guard/comm") $(tr '\0' ' ' <"/proc/$guard/cmdline" | sed 's/ *$//')" "mc-guard mc-guard"
}
# Within 2 s; once a machine that stops for a while may take longer.
late=0
gone()
{
	within 2000 all_dead $(cat pids) && return
	within 20000 all_dead $(cat pids) || fail "left: $(for p in $(cat pids); do alive "$p" && echo "$p"; done)"
	late=$((late + 1))
	echo "all gone, but not within 2 s"
	[ $late -le 1 ] || fail "the ranks take longer than 2 s to go, again and again"
}

for i in 1 2 3; do
	begin -n 2
	kill -9 "$job"
	gone
	within 20000 dead "$guard" || fail "the guard lives on"
	nothing_left
	wait "$job" || true
done

# The whole process group of mcrun, as timeout -s KILL does it.
begin --prefill 1 --decode 1
kill -9 "-$job"
gone
within 20000 dead "$guard" || fail "the guard lives on"
nothing_left
wait "$job" || true

# The guard alone: mcrun ends what is left, says so, and fails.
begin -n 2
kill -9 "$guard"
gone
got=0
within 20000 dead "$job" || fail "mcrun waits for ever for its guard"
wait "$job" || got=$?
expect "exit code" "$got" 1
has err '^mcrun: the guard process [0-9]+ was killed by signal 9 on host .*; all ranks were ended$' 1
nothing_left

# A stopped mcrun is watched all the same; a stopped guard is continued by the kernel when mcrun ends.
for stop in job guard; do
	begin -n 2
	kill -STOP "${!stop}"
	kill -9 "$job"
	gone
	nothing_left
	wait "$job" || true
done

# mcrun and guard at the same moment: the ranks themselves die with the guard; the directory goes at the next start.
setsid "$mcrun" -n 2 "$probe" hang >out 2>err </dev/null &
job=$!
within 20000 lines out 2 || fail "the ranks did not start"
sed 's/.* //' out >pids
guard=$(children "$job")
guard=${guard// /}
# Neither may see the other end: mcrun is stopped first, which keeps it from its work.
kill -STOP "$job"
stopped() { grep -q '^State:.T' "/proc/$job/status"; }
within 20000 stopped || fail "mcrun does not stop"
kill -9 "$guard"
kill -9 "$job"
gone
wait "$job" || true
[ -n "$(ls -A "$TMPDIR")" ] || fail "expected a stale directory to test with"
mkdir "$TMPDIR/mcrun.other" # not of ours: stays
run 0 -n 1 true
expect "what is left in TMPDIR" "$(ls -A "$TMPDIR")" mcrun.other
rmdir "$TMPDIR/mcrun.other"
# The directory of a running mcrun is not touched.
setsid "$mcrun" -n 1 sh -c 'echo up; until [ -e go ]; do sleep 0.02; done' >out2 2>err2 </dev/null &
job=$!
within 60000 lines out2 1 || fail "the rank did not start"
before=$(ls -A "$TMPDIR")
run 0 -n 1 true
expect "directories in TMPDIR" "$(ls -A "$TMPDIR")" "$before"
expect "its mode" "$(stat -c %a "$TMPDIR"/mcrun.*)" 700
touch go
wait "$job"

# The normal end takes along what ranks have left behind.
rm -f pids
run 0 -n 2 sh -c '(setsid sh -c "echo \$\$ >>pids; exec sleep 1000" >/dev/null 2>&1 &); until [ -s pids ] && [ $(wc -l <pids) = 2 ]; do sleep 0.01; done'
all_dead $(cat pids) || fail "a process outlived its job"
# Also one that holds the output open.
rm -f pids
run 0 -n 1 sh -c '(setsid sh -c "echo \$\$ >>pids; exec sleep 1000" &); until [ -s pids ]; do sleep 0.01; done; echo done'
has out 'done$' 1
all_dead $(cat pids) || fail "a process outlived its job"
passed

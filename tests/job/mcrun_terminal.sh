#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# mcrun on a terminal: what is typed reaches rank 0, ^C reaches all, a progress line is shown while it grows.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"
command -v script >/dev/null || { echo "skip: there is no script(1) to make a terminal"; exit 77; }

# on_terminal COMMAND: run it on a terminal of its own; ./keys is what is typed, ./screen what is seen
on_terminal()
{
	rm -f keys screen
	mkfifo keys
	env --default-signal=INT,QUIT script -qfec "$1" screen <keys >/dev/null 2>&1 &
	job=$!
	exec 8>keys
}
seen() { cat screen 2>/dev/null | tr -d '\r' | grep -qE -- "$1"; }

on_terminal "$mcrun -n 2 sh -c 'while read -r l; do echo \"rank \$PMIX_RANK got \$l\"; done; echo rank \$PMIX_RANK at the end'"
within 30000 seen 'rank 1 at the end' || fail "rank 1 has no end of its stdin"
printf 'hello\n' >&8
within 30000 seen '^\[0\] rank 0 got hello' || fail "rank 0 did not get what was typed"
printf 'again\n' >&8
within 30000 seen '^\[0\] rank 0 got again' || fail "rank 0 did not get what was typed"
printf '\004' >&8
within 30000 seen '^\[0\] rank 0 at the end' || fail "rank 0 did not get the end of what was typed"
within 30000 dead "$job" || fail "mcrun did not end"
exec 8>&-
wait "$job"
checks=$((checks + 4))

printf 'echo $$ >>pids; echo ready; exec sleep 100\n' >wait.sh
on_terminal "$mcrun -n 2 sh wait.sh"
both() { [ "$(grep -c ready screen 2>/dev/null)" = 2 ]; }
within 30000 both || fail "the ranks did not start"
printf '\003' >&8
within 30000 dead "$job" || fail "^C did not end the job"
exec 8>&-
got=0
wait "$job" || got=$?
expect "exit code" "$got" 130
all_dead $(cat pids) || fail "a rank lives on"

# A line drawn over and over is shown before it is finished, and other lines do not mix with it.
cat >bar.sh <<'END'
[ "$MCRUN_TTY" = 1 ] || { echo "not told of the terminal"; exit 1; }
printf '\r10 percent' >&2
until [ -e go ]; do sleep 0.01; done
echo other line
printf '\r100 percent\n' >&2
END
on_terminal "$mcrun -n 1 sh bar.sh"
within 30000 seen '\[0\] 10 percent' || fail "the progress line is not shown"
touch go
within 30000 dead "$job" || fail "mcrun did not end"
exec 8>&-
wait "$job" || fail "the job failed: $(cat screen)"
tr -d '\r' <screen | sed 's/\x1b\[K/<clear>/g' >seen.txt
has seen.txt '<clear>\[0\] other line$' 1
has seen.txt '\[0\] 100 percent$' 1
passed

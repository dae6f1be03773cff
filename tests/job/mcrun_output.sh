#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Output: whole lines, tagged, in order per stream, binary-safe, bounded; merge; a directory; a reader that leaves.
set -eu
. "$(dirname "$0")/lib_mcrun.sh"

# Order and tags under load: 4 ranks, both streams, 20,000 lines each.
cat >talk.sh <<'END'
exec awk -v r="$1" 'BEGIN { for (i = 0; i < 20000; i++) { printf "%s out line %d of the test\n", r, i; printf "%s err line %d\n", r, i > "/dev/stderr" } }'
END
run 0 --prefill 2 --decode 2 sh -c 'exec sh talk.sh $MC_ROLE'
for tag in prefill.0 prefill.1 decode.0 decode.1; do
	for s in out err; do
		awk -v t="[$tag]" -v s="$s" -v role="${tag%.*}" '$1 == t { if ($2 != role || $3 != s || $5 != n++) bad = 1 } END { exit bad || n != 20000 }' \
			$s || fail "stream $s of $tag is not whole or not in order"
		checks=$((checks + 1))
	done
done
expect "lines" "$(wc -l <out) $(wc -l <err)" "80000 80000"

# stdout and stderr in one pipe: lines do not mix.
"$mcrun" -n 2 sh -c 'exec sh talk.sh x' >all 2>&1
expect "bad lines" "$(grep -cvE '^\[[01]\] x (out|err) line [0-9]+( of the test)?$' all || true)" 0
expect "lines" "$(wc -l <all)" 80000

# Binary, empty lines, carriage returns and NULs come through; the last line without newline gets one.
printf 'a\0b\n\n\r\377\001x\nlast' >bin.dat
run 0 -n 1 cat bin.dat
printf '[0] a\0b\n[0] \n[0] \r\377\001x\n[0] last\n' | cmp - out || fail "binary output was changed"
run 0 --output merge -n 1 cat bin.dat
printf 'a\0b\n\n\r\377\001x\nlast\n' | cmp - out || fail "merged binary output was changed"

# Lines of 1 MiB stay whole; a longer one is passed on in pieces of 1 MiB, so that memory stays bounded.
cat >long.sh <<'END'
head -c "$1" /dev/zero | tr '\0' "$2"; echo; echo end
END
run 0 -n 2 sh -c 'exec sh long.sh 1048576 $PMIX_RANK'
for r in 0 1; do
	expect "length of the long line of rank $r" "$(grep -a "^\[$r\] $r" out | tr -d '\n' | wc -c)" $((1048576 + 4))
	has out "^\[$r\] end$" 1
done
run 0 -n 1 sh -c 'exec sh long.sh 3145738 x'
expect "pieces" "$(grep -c '^\[0\] x' out)" 4
expect "bytes" "$(grep '^\[0\] x' out | sed 's/^....//' | tr -d '\n' | wc -c)" 3145738
run 0 -n 1 sh -c 'head -c 50000000 /dev/zero & peak=0; wait; echo; grep VmHWM /proc/$(cut -d" " -f4 /proc/$PPID/stat)/status >&2'
peak=$(sed 's/.*VmHWM:[^0-9]*\([0-9]*\) kB/\1/' err)
[ "$peak" -lt 60000 ] || fail "mcrun took $peak kB to pass on a line of 50 MB"
checks=$((checks + 1))

# A directory: one file per rank and stream, bytes as written, old content gone.
echo old >bin.old
mkdir dir
echo old >dir/prefill.0.out
run 0 --output dir --prefill 1 --decode 1 sh -c 'cat bin.dat; echo problem >&2'
cmp bin.dat dir/prefill.0.out || fail "file differs"
cmp bin.dat dir/decode.0.out || fail "file differs"
expect "stderr file" "$(cat dir/decode.0.err)" problem
expect "files" "$(ls dir | wc -l)" 4
run 0 --output new/ -n 1 echo hello
expect "file" "$(cat new/0.out)" hello

# The reader leaves: the job goes on and ends well, mcrun says it once.
got=0
(set +e; "$mcrun" -n 2 sh -c 'i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done; echo $$ >>ended' 2>err; echo $? >code) | head -1 >first
expect "first line" "$(sed 's/^\[[01]\] //' first)" "line 0"
expect "exit code" "$(cat code)" 0
expect "ranks that ended" "$(wc -l <ended)" 2
has err '^mcrun: my stdout is closed' 1

# A slow reader holds the ranks up, not mcrun: a signal still works, and nothing grows without end.
mkfifo slow
setsid env --default-signal=INT,QUIT "$mcrun" --grace 1 -n 1 sh -c 'echo $$ >pids; yes' >slow 2>err </dev/null &
job=$!
exec 9<slow
within 30000 test -s pids || fail "the rank did not start"
quiet() { local a; a=$(awk '{print $1}' "/proc/$job/schedstat"); sleep 0.1; [ "$a" = "$(awk '{print $1}' "/proc/$job/schedstat")" ]; }
within 30000 quiet || fail "mcrun does not come to rest although nobody reads"
[ "$(awk '/VmRSS/{print $2}' "/proc/$job/status")" -lt 60000 ] || fail "mcrun grows while nobody reads"
kill -TERM "$job"
within 30000 all_dead $(cat pids) || fail "the rank was not ended"
insist() { kill -TERM "$job" 2>/dev/null; dead "$job"; } # once more: do not wait for the reader either
within 30000 insist || fail "mcrun waits for its reader for ever"
exec 9<&-
wait "$job" || true

# Nothing is lost at the end: output of a rank that is killed the moment it has written.
for i in 1 2 3 4 5; do
	run 137 -n 2 sh -c 'seq 1000; kill -9 $$'
	expect "last line" "$(grep -c ' 1000$' out)" "$(grep -c ' 1$' out)"
done

# Closed from the start.
"$mcrun" -n 2 echo hi >&- 2>err || fail "fails without stdout"
"$mcrun" -n 2 cat <&- >out 2>err || fail "fails without stdin"
"$mcrun" -n 2 echo hi >/dev/full 2>err || fail "fails with a full disk"
has err '^mcrun: my stdout is closed or full' 1
# A log file that may not grow any more is full, too. The ranks have the signal that says so (25), and SIGPIPE (13), as ever.
truncate -s 64M log
(ulimit -f 65536; exec "$mcrun" -n 2 sh -c 'echo hi; grep SigIgn /proc/$$/status >&2') >>log 2>err || fail "fails at ulimit -f"
has err '^mcrun: my stdout is closed or full' 1
has err 'SigIgn:[[:space:]]*[0-9a-f]{9}[02468ace][0-9a-f]{2}[02468ace][0-9a-f]{3}$' 2
rm log
passed

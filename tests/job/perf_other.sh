#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# mcperf reg and launch; a rank that dies in the middle of mcperf bw ends it.
. "$(dirname "$0")/common_perf.sh"

job 0 2 reg -b 4K -e 1M -f 16 --runs 2 --json "$out/rows"
[ "$(wc -l <"$out/rows")" -eq 6 ] || fail "reg: not three sizes of two kinds"
positive alloc_us export_us import_us free_us descriptor_bytes
job 0 1 reg -e 4K --runs 1 --memory own --json "$out/rows"
expect memory own
job 2 2 reg --memory gpu
says 'pool, own'

"$TEST_BIN/mcperf" launch --ranks 1,3 --runs 2 --mpirun none --json "$out/rows" >"$out/stdout" 2>"$out/stderr" || fail "launch"
[ "$(wc -l <"$out/rows")" -eq 2 ] || fail "launch: not two rows"
expect ranks 1
positive mcrun_ms
if command -v mpirun >/dev/null; then
	"$TEST_BIN/mcperf" launch --ranks 2 --runs 1 --json "$out/rows" >"$out/stdout" 2>"$out/stderr" || fail "launch beside mpirun"
	positive mcrun_ms mpirun_ms ratio
fi
"$TEST_BIN/mcperf" launch --ranks 1 --runs 1 --mcrun /bin/false --mpirun none >"$out/stdout" 2>"$out/stderr" && fail "launch by /bin/false"
says 'failed (status 1)'
"$TEST_BIN/mcperf" launch --ranks 0 >"$out/stdout" 2>"$out/stderr" && fail "launch of no ranks"
says 'ranks 0'

# Kill a rank while bytes move; mcrun goes on with the rest, which must notice and end on their own.
mkfifo "$out/pids"
exec 3<>"$out/pids" # both ways: no end of file between two writers
timeout -k 5 400 "$TEST_BIN/mcrun" --on-failure continue --output merge -n 2 \
	sh -c 'echo $$ >"$1"; exec "$2" bw -s 4K --duration 20s --runs 3 --pool 2M' sh "$out/pids" "$TEST_BIN/mcperf" \
	>"$out/stdout" 2>"$out/stderr" </dev/null &
run=$!
read -r -t 60 a <&3 && read -r -t 60 b <&3 || fail "the ranks did not start"
# the header is printed when the ranks have met, right before the first run
for _ in $(seq 600); do
	grep -q 'size B' "$out/stdout" && break
	sleep 0.05
done
grep -q 'size B' "$out/stdout" || fail "bw did not begin"
for p in "$a" "$b"; do
	if tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx PMIX_RANK=1; then kill -9 "$p"; fi
done
wait $run
[ $? -ne 0 ] || fail "bw with a dead rank ended well"
checks=$((checks + 1))
grep -qE '^mcperf: bw: .*(peer lost|died)' "$out/stderr" || fail "nobody said that a rank died"
echo "$checks checks passed"

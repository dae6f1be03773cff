#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Two jobs of many ranks (250 each; fewer under sanitizers) find each other; etcd restarts; one job dies. Figures are printed:
# time until everybody knows everybody, CPU, requests at rest.
. "$(dirname "$0")/lib_etcd.sh"
n=250
[ $slow = 1 ] || n=30
one_etcd
export MC_ETCD_LEASE=30s
ulimit -n 8192 2>/dev/null || [ "$(ulimit -n)" -ge 4096 ] || n=50 # files
cpu() { awk '{ sub(/.*\) /, ""); print ($12 + $13) * 10 }' "/proc/$1/stat"; } # ms of a process
field() { sed -n "s/.* $2 \([0-9]*\).*/\1/p" <<<"$(grep '^stat' "$1.out" | tail -1)"; }
stats() { local before; before=$(grep -c '^stat' "$1.out"); tell "$1" stat; within 60000 times "$1" '^stat' $((before + 1)) || fail "no stat of $1"; }
knows() { sleep 0.1; stats "$1"; [ "$(field "$1" "$2")" -ge "$3" ]; } # e.g. every UP has come

lease_ms=30000
start=$(now_ms)
etcd_before=$(cpu "${etcd_pid[0]}")
side_opts=-q bridge p prefill prefill 0 a $n
side_opts=-q bridge d decode decode 0 b $n
tell p "big 1500"
tell d "big 1500"
within 400000 knows p ups $((n * n)) || fail "p knows $(field p ups) of $((n * n))"
within 400000 knows d ups $((n * n)) || fail "d knows $(field d ups) of $((n * n))"
checks=$((checks + 2))
echo "all $((2 * n)) ranks know the $n of the other job after $(($(now_ms) - start)) ms; CPU: p $(field p cpu_ms) ms, d $(field d cpu_ms) ms," \
	"etcd $(($(cpu "${etcd_pid[0]}") - etcd_before)) ms; memory of p $(field p rss_kb) KB"
within 200000 knows p synced $n || fail "p: $(field p synced) of $n are in step"
[ "$(field p downs)" = 0 ] || fail "$(field p downs) are told to be gone"
[ "$(field p ups)" = $((n * n)) ] || fail "p is told $(field p ups) times of $((n * n)) records"

# At rest.
past() { [ "$(now_ms)" -ge "$1" ]; }
requests() { curl -s --cacert ca.pem "${url[0]}/metrics" | awk '/^grpc_server_started_total/ && !/Watch"/ { s += $2 } END { print s }'; }
stats p
p0=$(field p cpu_ms) r0=$(requests) e0=$(cpu "${etcd_pid[0]}") t0=$(now_ms)
within 60000 past $((t0 + 30000))
stats p
t=$(($(now_ms) - t0))
echo "at rest, per rank and minute with a lease of 30 s: $(awk "BEGIN { printf \"%.1f requests, %.2f ms of CPU, %.2f ms of etcd's CPU\",
	($(requests) - $r0) / (2 * $n) * 60000 / $t, ($(field p cpu_ms) - $p0) / $n * 60000 / $t,
	($(cpu "${etcd_pid[0]}") - $e0) / (2 * $n) * 60000 / $t }" )"
checks=$((checks + 1))
[ $(((($(field p cpu_ms) - p0)) * 60000 / t / n)) -le $((60 * slow)) ] || fail "more than 60 ms of CPU per rank and minute at rest"

# A restart of etcd: everybody is back, nobody is told to be gone. (Unless all of them take longer to log in than a lease lasts.)
start=$(now_ms)
stop_etcd 0
start_etcd 0
etcd_up 0
tell d "big 1501"
within 400000 knows p ups $((2 * n * n)) || fail "p knows of $(field p ups) of $((2 * n * n)) records after a restart of etcd"
downs=$(field p downs)
[ "$downs" = 0 ] || [ $(($(now_ms) - start)) -gt $lease_ms ] || fail "$downs are told to be gone after a restart of etcd"
checks=$((checks + 2))
echo "after a restart of etcd all new records are known in $(($(now_ms) - start)) ms; CPU of p so far $(field p cpu_ms) ms"

# A whole job leaves.
start=$(now_ms)
tell d quit
within 300000 knows p downs $((downs + n * n)) || fail "p: $(field p downs) of $((n * n)) are gone"
checks=$((checks + 1))
echo "$n ranks have left: known to all after $(($(now_ms) - start)) ms (not before a lease and 5 s after the restart)"
passed

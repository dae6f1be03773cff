#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# mcperf bw and lat: every operation, pattern and memory over each transport moves the right bytes; what they print is
# complete; a wrong byte and bad input are found.
. "$(dirname "$0")/common_perf.sh"
quick="--runs 2 --duration 10ms --pool 2M"

# shellcheck disable=SC2086 # lists of words
{
for transport in shm $networks; do
	for op in put get put+note; do
		good 2 2 bw -s 100,4K --batch 16 --op $op --transport $transport $quick
		expect op $op
		good 2 1 bw -s 4K --batch 16 --op $op --memory own --transport $transport $quick
		expect memory own
		good 2 1 lat -s 64 --iters 50 --op $op --transport $transport $quick
	done
	case $(field transport) in *shm*) [ $transport = shm ] ;; *tcp*) [ $transport = tcp ] ;; *) false ;; esac ||
		fail "--transport $transport went by $(field transport)"
	good 2 1 lat -s 4K --iters 50 --transport $transport --progress manual --poll $quick
	good 3 1 bw -s 4K --batch 4 --pattern many-to-one --bidir --op put+note --transport $transport $quick
	good 5 1 bw -s 4K --batch 4 --pattern one-to-many --threads 6 --window 3 --transport $transport $quick
done
good 4 2 bw -s 7 --batch 1,300 $quick
good 3 1 lat -s 8 --pattern one-to-many --iters 20 $quick
printf '0 10000 64K\n5 0 0\n0 1M 0 # from 2\n' >"$out/matrix"
good 3 1 bw -s 4K --matrix "$out/matrix" $quick
expect pattern matrix

# what the issue of the figures asks for is there
good 2 1 bw -s 4K --batch 64 --window 3 --threads 2 --reference $quick
for k in op backend transport memory size batch window threads iters gbps_avg gbps_best mmsg_s p50_us p99_us p999_us post_us \
	cpu_us_per_block verified ref_memcpy_gbps ref_pvm_gbps ref_tcp_gbps; do
	[ -n "$(field $k)" ] || fail "no $k"
done
expect size 4096
expect batch 64
expect window 3
expect threads 2
positive iters gbps_avg gbps_best mmsg_s p50_us cpu_us_per_block ref_memcpy_gbps ref_tcp_gbps bulk_gbps_avg
awk -v a="$(field bytes)" -v b="$(field iters)" 'BEGIN { exit !(a == b * 4096 * 64) }' || fail "bytes are not requests times 256 KiB"
good 2 1 bw -s 4K --batch 8 --runs 2 --iters 30 --pool 2M
expect iters 60
grep -q '^# machine: .*, Linux' "$out/stdout" || fail "no header"
job 0 2 bw -s 4K --batch 8 $quick --csv -
[ "$(head -1 "$out/stdout" | tr , '\n' | grep -c .)" -eq "$(tail -1 "$out/stdout" | sed 's/"[^"]*"/x/g' | awk -F, '{ print NF }')" ] ||
	fail "--csv: columns and names differ in number"

# a byte that is not what it should be; input that cannot be
job 1 2 bw -s 4K $quick --corrupt-one
says 'wrong byte on rank'
job 2 3 bw $quick
says 'even number'
job 2 2 bw --matrix "$out/none" $quick
says 'No such file'
job 2 2 bw --pool 900G
says 'smaller --pool'
job 2 2 lat --window 4
says 'mcperf bw'
}
if command -v gnuplot >/dev/null; then
	# shellcheck disable=SC2086
	job 0 2 bw -b 4K -e 64K $quick --plot "$out/a.png"
	[ "$(head -c 4 "$out/a.png" | tail -c 3)" = PNG ] || fail "--plot: no picture"
fi
echo "$checks checks passed"
